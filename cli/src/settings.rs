//! The settings of `serve`: flags, then the environment, then a TOML file, then defaults; each value remembers where it
//! came from. Says everything that is wrong at once, and shows no password.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use config::{Config, File, FileFormat, ValueKind};
use phasework_engine::EngineConfig;
use phasework_engine::api::{Tokens, TokensError};
use phasework_workflows::definition::nearest;
use phasework_workflows::id::check_name;
use reqwest::Url;

use crate::failure::Failure;
use crate::length;

/// What the address of a store on SQLite begins with.
const SQLITE: &str = "sqlite:";

/// The file that is read when none is named.
const DEFAULT_FILE: &str = "phasework.toml";

/// A setting: its key in the file. Its flag and its variable follow from that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key(&'static str);

impl Key {
    pub(crate) const BROKER: Self = Self("broker");
    pub(crate) const STORE: Self = Self("store");
    pub(crate) const STATE: Self = Self("state");
    pub(crate) const LISTEN: Self = Self("listen");
    pub(crate) const TOKEN: Self = Self("token");
    pub(crate) const TOKENS: Self = Self("tokens");
    pub(crate) const TOKENS_FILE: Self = Self("tokens_file");
    pub(crate) const WORKER_TOKEN: Self = Self("worker_token");
    pub(crate) const NAME: Self = Self("name");
    pub(crate) const PREFIX: Self = Self("prefix");
    pub(crate) const COORDINATOR_QUEUES: Self = Self("coordinator_queues");
    pub(crate) const RETENTION: Self = Self("retention");
    pub(crate) const LOG_FORMAT: Self = Self("log_format");

    /// Every setting, and its default if it has one that does not depend on the machine.
    const ALL: [(Self, Option<&'static str>); 13] = [
        (Self::BROKER, None),
        (Self::STORE, None),
        (Self::STATE, None),
        (Self::LISTEN, Some("127.0.0.1:7180")),
        (Self::TOKEN, None),
        (Self::TOKENS, None),
        (Self::TOKENS_FILE, None),
        (Self::WORKER_TOKEN, None),
        (Self::NAME, None),
        (Self::PREFIX, Some("phasework")),
        (Self::COORDINATOR_QUEUES, Some("8")),
        (Self::RETENTION, Some("7d")),
        (Self::LOG_FORMAT, Some("text")),
    ];

    /// Those whose values are shown to nobody.
    const SECRET: [Self; 3] = [Self::TOKEN, Self::TOKENS, Self::WORKER_TOKEN];

    fn flag(self) -> String {
        format!("--{}", self.0.replace('_', "-"))
    }

    fn variable(self) -> String {
        format!("PHASEWORK_{}", self.0.to_uppercase())
    }

    /// What it is called where a value came from.
    fn named(self, origin: &Origin) -> String {
        match origin {
            Origin::Flag | Origin::Embedded | Origin::Default => self.flag(),
            Origin::Environment => self.variable(),
            Origin::File(path) => format!("{}: {}", path.display(), self.0),
        }
    }
}

/// The keys of all settings.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    Key::ALL.iter().map(|(key, _)| key.0)
}

/// Every setting: its key, flag, variable and default, as the book tells them.
#[cfg(test)]
pub(crate) fn documented() -> Vec<(&'static str, String, String, Option<&'static str>)> {
    Key::ALL.iter().map(|&(key, default)| (key.0, key.flag(), key.variable(), default)).collect()
}

/// Whether a file of settings can be read, and what it says be used.
#[cfg(test)]
pub(crate) fn check_file(path: &Path, text: &str) -> Result<(), Failure> {
    let file = SettingsFile::read(path, text)?;
    // Beyond loopback only with a token, which stands in no file on a page.
    let flags = [(Key::TOKEN, Some("secret"))];
    Settings::read(&Layers::new(&flags, |_| None, Some(&file)), "name").map(drop)
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The command line.
    Flag,
    /// The environment.
    Environment,
    /// A file.
    File(PathBuf),
    /// It goes with everything being in one process.
    Embedded,
    /// Nobody said anything.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("flag"),
            Self::Environment => f.write_str("environment"),
            Self::File(file) => file.display().fmt(f),
            Self::Embedded => f.write_str("embedded"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// What a settings file says.
#[derive(Clone, Debug)]
pub(crate) struct SettingsFile {
    path: PathBuf,
    values: BTreeMap<String, String>,
}

impl SettingsFile {
    /// Reads the file that is named, or else the one in the current folder if there is one.
    pub(crate) fn find(named: Option<&Path>) -> Result<Option<Self>, Failure> {
        let path = named.unwrap_or(Path::new(DEFAULT_FILE));
        match std::fs::read_to_string(path) {
            Ok(text) => Self::read(path, &text).map(Some),
            Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Failure::usage(format!("cannot read {}: {error}", path.display()))),
        }
    }

    fn read(path: &Path, text: &str) -> Result<Self, Failure> {
        let bad = |what: String| Failure::usage(format!("{}: {what}", path.display()));
        let config = Config::builder().add_source(File::from_str(text, FileFormat::Toml)).build();
        let config = config.map_err(|error| bad(without_source(&error.to_string())))?;
        let mut values = BTreeMap::new();
        let mut problems = Vec::new();
        let ValueKind::Table(table) = config.cache.kind else { return Err(bad("not a table".into())) };
        let table: BTreeMap<_, _> = table.into_iter().collect(); // problems are told in the same order each time
        for (name, value) in table {
            if crate::contexts::KEYS_OF_FILE.contains(&name.as_str()) {
                continue; // the file is that of contexts as well
            }
            if !Key::ALL.iter().any(|(key, _)| key.0 == name) {
                let near = nearest(&name, Key::ALL.iter().map(|(key, _)| key.0));
                let near = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
                problems.push(format!("there is no setting `{name}`{near}"));
                continue;
            }
            match value.kind {
                ValueKind::String(text) => drop(values.insert(name, text)),
                ValueKind::I64(number) => drop(values.insert(name, number.to_string())),
                _ => problems.push(format!("`{name}` must be a text or a whole number")),
            }
        }
        if problems.is_empty() { Ok(Self { path: path.to_owned(), values }) } else { Err(bad(problems.join("; "))) }
    }
}

/// What is wrong with a file, without the line that it quotes: a password may stand there.
fn without_source(words: &str) -> String {
    let told = words.lines().map(str::trim).filter(|line| !line.contains('|') && !line.is_empty());
    told.collect::<Vec<_>>().join(": ")
}

/// Every setting with its value, if it has one, and where that came from.
#[derive(Clone, Debug)]
pub(crate) struct Layers(BTreeMap<Key, (String, Origin)>);

impl Layers {
    /// Puts the layers on each other: flags, environment, file, defaults. What is empty says nothing.
    pub(crate) fn new(
        flags: &[(Key, Option<&str>)],
        environment: impl Fn(&str) -> Option<String>,
        file: Option<&SettingsFile>,
    ) -> Self {
        let said = |text: &String| !text.trim().is_empty();
        let value = |key: Key, default: Option<&str>| {
            let flag = || flags.iter().find(|(named, _)| *named == key)?.1.map(str::to_owned);
            let in_file = || file.and_then(|file| Some((file.values.get(key.0)?.clone(), file.path.clone())));
            flag()
                .map(|text| (text, Origin::Flag))
                .or_else(|| environment(&key.variable()).filter(said).map(|text| (text, Origin::Environment)))
                .or_else(|| in_file().map(|(text, path)| (text, Origin::File(path))))
                .or_else(|| default.map(|text| (text.to_owned(), Origin::Default)))
        };
        Self(Key::ALL.iter().filter_map(|&(key, default)| Some((key, value(key, default)?))).collect())
    }

    /// Puts everything into this process: the broker in memory, the store in the directory `state`; `default` is that
    /// directory when nobody names one.
    pub(crate) fn embed(&mut self, default: Option<&str>) -> Result<(), Failure> {
        let default = default.map(|dir| (dir.to_owned(), Origin::Default));
        let (dir, origin) = self.0.get(&Key::STATE).cloned().or(default).ok_or_else(|| {
            Failure::usage("no state directory is given (--state or PHASEWORK_STATE)")
                .hint("`--embedded --state DIR` keeps everything in that directory, which is made if it is not there")
        })?;
        self.0.insert(Key::BROKER, ("memory:".to_owned(), Origin::Embedded));
        self.0.insert(Key::STORE, (format!("{SQLITE}{dir}"), Origin::Embedded));
        self.0.insert(Key::STATE, (dir, origin));
        Ok(())
    }

    /// Leaves out what is said about these settings.
    pub(crate) fn leave_out(&mut self, keys: &[Key]) {
        self.0.retain(|key, _| !keys.contains(key));
    }

    /// What is said about broker and store, which is not asked for where everything is in one process.
    pub(crate) fn not_embedded(&self) -> Vec<String> {
        let said = [Key::BROKER, Key::STORE].into_iter().filter_map(|key| Some((key, &self.0.get(&key)?.1)));
        said.map(|(key, origin)| key.named(origin)).collect()
    }

    /// Every setting on a line, with where it came from, and without passwords.
    pub(crate) fn words(&self) -> String {
        let lines = Key::ALL.iter().map(|(key, _)| match self.0.get(key) {
            Some((text, origin)) => {
                let shown = match key {
                    secret if Key::SECRET.contains(secret) => "***".to_owned(),
                    &Key::STATE => text.clone(),
                    _ => redact(text),
                };
                format!("{:<18} = {shown:<40} ({origin})\n", key.0)
            }
            None => format!("{:<18}   not set\n", key.0),
        });
        lines.collect()
    }
}

/// In which form logs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// Where the broker is.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum BrokerUrl {
    /// In this process.
    Memory,
    /// RabbitMQ.
    Rabbit(String),
}

/// Where the store is.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum StoreUrl {
    /// In this process.
    Memory,
    /// SQLite, in this directory.
    Sqlite(PathBuf),
    /// Redis.
    Redis(String),
}

impl fmt::Debug for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory:"),
            Self::Rabbit(url) => f.write_str(&redact(url)),
        }
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory:"),
            Self::Sqlite(dir) => write!(f, "{SQLITE}{}", dir.display()),
            Self::Redis(url) => f.write_str(&redact(url)),
        }
    }
}

/// The settings of `serve`, checked.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) broker: BrokerUrl,
    pub(crate) store: StoreUrl,
    pub(crate) listen: SocketAddr,
    /// The token without a name.
    pub(crate) token: Option<String>,
    /// Every token, that one among them.
    pub(crate) tokens: Tokens,
    /// Where some of them stand.
    pub(crate) tokens_file: Option<PathBuf>,
    pub(crate) worker_token: Option<String>,
    pub(crate) prefix: String,
    pub(crate) log_format: LogFormat,
    pub(crate) engine: EngineConfig,
}

impl Settings {
    /// Checks the settings; `default_name` is what this coordinator is called if nobody says.
    pub(crate) fn read(layers: &Layers, default_name: &str) -> Result<Self, Failure> {
        let mut check = Check { layers, problems: Vec::new() };
        let broker = check.required(Key::BROKER, read_broker);
        let store = check.required(Key::STORE, read_store);
        let listen = check.required(Key::LISTEN, read_listen);
        let tokens = check.tokens();
        let token = layers.0.get(&Key::TOKEN).map(|(text, _)| text.trim().to_owned());
        let worker_token = check.optional(Key::WORKER_TOKEN, read_worker_token);
        if worker_token.is_some() && tokens.is_empty() {
            check.problems.push("worker_token: without a `token` everybody may do everything, workers too".to_owned());
        }
        if let Some(same) = worker_token.as_deref().and_then(|shown| tokens.who(shown.as_bytes())) {
            let same = if token == worker_token { "`token`".to_owned() } else { format!("the token of `{same}`") };
            check.problems.push(format!("worker_token: it is {same} too, so that workers could do everything"));
        }
        let tokens_file = layers.0.get(&Key::TOKENS_FILE).map(|(path, _)| PathBuf::from(path.trim()));
        let name = check.optional(Key::NAME, |text| Ok(text.to_owned())).unwrap_or_else(|| default_name.to_owned());
        let prefix = check.required(Key::PREFIX, |text| {
            check_name("prefix", text).map(|()| text.to_owned()).map_err(|error| error.to_string())
        });
        let queues = check.required(Key::COORDINATOR_QUEUES, |text| {
            text.parse().map_err(|_| format!("`{text}` is not a number of queues, 1 to 256"))
        });
        let retention = check.required(Key::RETENTION, length::parse);
        let log_format = check.required(Key::LOG_FORMAT, |text| match text {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            _ => Err(format!("`{text}` is neither text nor json")),
        });
        let mut engine = EngineConfig::new(Arc::<str>::from(name));
        engine.coordinator_queues = queues.unwrap_or(engine.coordinator_queues);
        engine.retention = retention.unwrap_or(engine.retention);
        if let Err(error) = engine.check() {
            check.problems.extend(error.0);
        }
        match (broker, store, listen, prefix, log_format) {
            (Some(broker), Some(store), Some(listen), Some(prefix), Some(log_format)) if check.problems.is_empty() => {
                Ok(Self { broker, store, listen, token, tokens, tokens_file, worker_token, prefix, log_format, engine })
            }
            _ => Err(check.failure()),
        }
    }
}

/// Reads values, and gathers what is wrong with them.
struct Check<'a> {
    layers: &'a Layers,
    problems: Vec<String>,
}

impl Check<'_> {
    fn optional<T>(&mut self, key: Key, read: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let (text, origin) = self.layers.0.get(&key)?;
        let named = if *origin == Origin::Embedded { Key::STATE.flag() } else { key.named(origin) };
        read(text.trim()).map_err(|problem| self.problems.push(format!("{named}: {problem}"))).ok()
    }

    /// Every token that callers of the API may show: those with names, and the one without.
    fn tokens(&mut self) -> Tokens {
        let named = self.optional(Key::TOKENS, |text| at_least_one(Tokens::read(text))).unwrap_or_default();
        let of_file = self.optional(Key::TOKENS_FILE, |path| {
            let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {path}: {error}"))?;
            at_least_one(Tokens::read_lines(&text)).map_err(|problem| format!("{path}: {problem}"))
        });
        let together = |error: TokensError| format!("tokens: {error}");
        let all = named.with(&of_file.unwrap_or_default()).map_err(together);
        let all = all.map_err(|problem| self.problems.push(problem)).unwrap_or_default();
        let with_one = self.optional(Key::TOKEN, |text| all.and(text).map_err(|error| error.to_string()));
        with_one.unwrap_or(all)
    }

    fn required<T>(&mut self, key: Key, read: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        if !self.layers.0.contains_key(&key) {
            self.problems.push(format!("no {} is given ({} or {})", key.0, key.flag(), key.variable()));
        }
        self.optional(key, read)
    }

    fn failure(&self) -> Failure {
        let failure = Failure::usage(self.problems.join("\n       "));
        if self.problems.iter().any(|problem| problem.starts_with("no ")) {
            return failure.hint(
                "`--broker amqp://127.0.0.1:5672 --store redis://127.0.0.1:6379`, or `--embedded --state DIR` for an \
                 engine with nothing around it",
            );
        }
        failure
    }
}

fn read_broker(text: &str) -> Result<BrokerUrl, String> {
    match text {
        "memory" | "memory:" => Ok(BrokerUrl::Memory),
        _ => read_url(text, &["amqp", "amqps"], "amqp://user:password@127.0.0.1:5672/vhost").map(BrokerUrl::Rabbit),
    }
}

fn read_store(text: &str) -> Result<StoreUrl, String> {
    match text {
        "memory" | "memory:" => Ok(StoreUrl::Memory),
        _ => match text.strip_prefix(SQLITE) {
            Some(dir) => read_directory(dir).map(StoreUrl::Sqlite),
            None => {
                let example = "redis://:password@127.0.0.1:6379/0, sqlite:DIR";
                read_url(text, &["redis", "rediss"], example).map(StoreUrl::Redis)
            }
        },
    }
}

/// A directory, as it stands behind `sqlite:`.
fn read_directory(dir: &str) -> Result<PathBuf, String> {
    if dir.is_empty() {
        return Err("no directory is named; expected a directory, or sqlite:DIR".to_owned());
    }
    // In what both would become, a path of another kind than was meant: a directory called `~`, one at the root.
    if dir.starts_with('~') {
        return Err(format!("`{dir}`: nobody puts your home in the place of `~` here; write the whole path"));
    }
    if dir.starts_with("//") && !dir.starts_with("///") {
        return Err(format!("`{SQLITE}{dir}` is no path; expected sqlite:DIR, with a relative or an absolute path"));
    }
    Ok(PathBuf::from(dir))
}

fn read_url(text: &str, schemes: &[&str], example: &str) -> Result<String, String> {
    let expected = format!("expected {example} or memory:");
    // An address that cannot be read may hold a password anywhere: it is not repeated.
    let url = Url::parse(text).map_err(|error| format!("this is no URL ({error}); {expected}"))?;
    if !schemes.contains(&url.scheme()) {
        return Err(format!("`{}:` is not a scheme for this; {expected}", url.scheme()));
    }
    if !url.has_host() {
        return Err(format!("{} names no host; {expected}", redact(text)));
    }
    Ok(text.to_owned())
}

/// These tokens, of which there has to be one.
fn at_least_one(tokens: Result<Tokens, TokensError>) -> Result<Tokens, String> {
    let tokens = tokens.map_err(|error| error.to_string())?;
    // Whoever means to keep others out, and has no token, would let in everybody.
    if tokens.is_empty() { Err("there is no token in it; expected NAME=SECRET".to_owned()) } else { Ok(tokens) }
}

fn read_worker_token(text: &str) -> Result<String, String> {
    if text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(text.to_owned());
    }
    Err("a token has visible ASCII characters only, without spaces".to_owned())
}

fn read_listen(text: &str) -> Result<SocketAddr, String> {
    let found = text.to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
    found.ok_or_else(|| format!("`{text}` is not an address such as 127.0.0.1:7180"))
}

/// An address without its password. A directory has none, whatever it is called.
pub(crate) fn redact(text: &str) -> String {
    if text.starts_with(SQLITE) {
        return text.to_owned();
    }
    match Url::parse(text) {
        Ok(mut url) if url.password().is_some() => match url.set_password(Some("***")) {
            Ok(()) => url.to_string(),
            Err(()) => hide_credentials(text),
        },
        Ok(url) if url.has_host() => text.to_owned(),
        _ => hide_credentials(text),
    }
}

fn hide_credentials(text: &str) -> String {
    match (text.find("://"), text.rfind('@')) {
        (Some(scheme), Some(at)) if scheme + 3 <= at => format!("{}***{}", &text[..scheme + 3], &text[at..]),
        (None, Some(at)) => format!("***{}", &text[at..]),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
