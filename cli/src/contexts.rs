//! The file of contexts: which servers there are, under a name each, and which one is asked when nobody says. Reads it,
//! says everything that is wrong with it and on which line, and writes it so that what a person wrote stays as it was.
//! It may be the settings file of `serve` as well: each reads its part. A token is never shown.

use std::fmt;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use clap::ValueEnum as _;
use phasework_workflows::definition::nearest;
use toml_edit::{Document, DocumentMut, Item, Key, Table, value};

use crate::failure::{Exit, Failure};
use crate::output::Format;
use crate::settings;

/// Names the file.
const VARIABLE: &str = "PHASEWORK_CONFIG";

/// The key that says which context is the current one.
const CURRENT: &str = "context";

/// The key that the contexts stand under.
const CONTEXTS: &str = "contexts";

/// Both: what `serve` passes over where its settings stand in the same file.
pub(crate) const KEYS_OF_FILE: [&str; 2] = [CURRENT, CONTEXTS];

/// What may be said of a context.
const KEYS: [&str; 5] = ["url", "token", "token_file", "token_command", "output"];

/// A server under a name.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    pub(crate) name: String,
    pub(crate) url: String,
    pub(crate) token: Token,
    /// In which form answers are printed when nobody says.
    pub(crate) output: Option<Format>,
}

/// Where the token of a context comes from.
#[derive(Clone)]
pub(crate) enum Token {
    /// The server asks for none.
    None,
    /// It stands in the file.
    Here(String),
    /// It is all that stands in another file.
    File(PathBuf),
    /// A command of the shell prints it.
    Command(String),
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words())
    }
}

impl Token {
    /// Where it comes from, for a person; never the token.
    pub(crate) fn words(&self) -> String {
        match self {
            Self::None => "none".to_owned(),
            Self::Here(_) => "in the file".to_owned(),
            Self::File(path) => format!("from {}", path.display()),
            Self::Command(command) => format!("from `{command}`"),
        }
    }

    /// Which key says it.
    pub(crate) const fn key(&self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Here(_) => Some("token"),
            Self::File(_) => Some("token_file"),
            Self::Command(_) => Some("token_command"),
        }
    }

    /// The token itself.
    pub(crate) fn get(&self) -> Result<Option<String>, Failure> {
        let text = match self {
            Self::None => return Ok(None),
            Self::Here(token) => token.clone(),
            Self::File(path) => std::fs::read_to_string(path)
                .map_err(|error| Failure::usage(format!("cannot read the token in {}: {error}", path.display())))?,
            Self::Command(command) => ask_command(command)?,
        };
        match text.trim() {
            "" => Err(Failure::usage(format!("the token ({}) is empty", self.words()))),
            token => Ok(Some(token.to_owned())),
        }
    }
}

fn ask_command(command: &str) -> Result<String, Failure> {
    let mut shell = std::process::Command::new("sh");
    // What it asks the person, and what it complains about, is for the person.
    let ran = shell.arg("-c").arg(command).stdin(Stdio::inherit()).stderr(Stdio::inherit()).output();
    let output = ran.map_err(|error| Failure::usage(format!("cannot run token_command `{command}`: {error}")))?;
    if !output.status.success() {
        return Err(Failure::usage(format!("token_command `{command}` failed: {}", output.status)));
    }
    String::from_utf8(output.stdout)
        .map_err(|_| Failure::usage(format!("what token_command `{command}` prints is no text")))
}

/// The file, as it was read.
#[derive(Debug)]
pub(crate) struct ContextsFile {
    pub(crate) path: PathBuf,
    /// The current context, and the line that says so.
    pub(crate) current: Option<(String, usize)>,
    pub(crate) contexts: Vec<Context>,
}

/// Where the file is, whether it is there or not, and whether somebody named it.
pub(crate) fn path(variable: impl Fn(&str) -> Option<String>) -> Option<(PathBuf, bool)> {
    let said = |name| variable(name).filter(|value| !value.trim().is_empty()).map(PathBuf::from);
    if let Some(named) = said(VARIABLE) {
        return Some((named, true));
    }
    let folder = said("XDG_CONFIG_HOME").filter(|folder| folder.is_absolute());
    let folder = folder.or_else(|| said("HOME").map(|home| home.join(".config")))?;
    Some((folder.join("phasework").join("config.toml"), false))
}

impl ContextsFile {
    /// Reads the file, if it is there.
    pub(crate) fn find(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, Failure> {
        let Some((path, is_named)) = path(&variable) else { return Ok(None) };
        match std::fs::read_to_string(&path) {
            Ok(text) => Self::read(&path, &text, variable("HOME").as_deref()).map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !is_named => Ok(None),
            Err(error) => {
                let failure = Failure::usage(format!("cannot read {}: {error}", path.display()));
                Err(if is_named { failure.hint(format!("{VARIABLE} names it")) } else { failure })
            }
        }
    }

    /// Reads what stands in a file.
    pub(crate) fn read(path: &Path, text: &str, home: Option<&str>) -> Result<Self, Failure> {
        let reader = Reader { path, text, home };
        let document = Document::parse(text).map_err(|error| {
            // The error's own words quote the line, in which a token may stand.
            let line = line_of(text, error.span().map(|span| span.start));
            Failure::usage(format!("{}:{line}: {}", path.display(), error.message()))
        })?;
        let mut problems = Vec::new();
        let mut file = Self { path: path.to_owned(), current: None, contexts: Vec::new() };
        for (key, item) in entries(document.as_table()) {
            match key.get() {
                CURRENT => match item.as_str() {
                    Some(name) => file.current = Some((name.to_owned(), reader.line(item.span()))),
                    None => problems.push(reader.problem(key, "`context` is the name of one, a text")),
                },
                CONTEXTS => match item.as_table() {
                    Some(table) => {
                        for (name, item) in entries(table) {
                            file.contexts.extend(reader.context(name, item, &mut problems));
                        }
                    }
                    None => problems.push(reader.problem(key, "`contexts` is a table of tables")),
                },
                other if settings::names().any(|name| name == other) => {} // a setting of `serve`
                other => {
                    let near = nearest(other, settings::names().chain([CURRENT, CONTEXTS]));
                    problems.push(reader.problem(key, &format!("there is no setting `{other}`{}", did_you_mean(near))));
                }
            }
        }
        if problems.is_empty() { Ok(file) } else { Err(Failure::usage(problems.join("\n       "))) }
    }

    /// The context of this name. `line` is where the name stands, if in the file.
    pub(crate) fn context(&self, name: &str, line: Option<usize>) -> Result<&Context, Failure> {
        self.contexts.iter().find(|context| context.name == name).ok_or_else(|| {
            let near = did_you_mean(nearest(name, self.contexts.iter().map(|context| context.name.as_str())));
            let path = self.path.display();
            unknown_context(&match line {
                Some(line) => format!("{path}:{line}: there is no context `{name}`{near}"),
                None => format!("there is no context `{name}` in {path}{near}"),
            })
        })
    }

    /// What is to be said to who lets others read a token.
    pub(crate) fn exposure(&self) -> Option<String> {
        let has_token = self.contexts.iter().any(|context| matches!(context.token, Token::Here(_)));
        if has_token { exposure(&self.path, "a token") } else { None }
    }
}

/// What is to be said to who lets others read a file that holds `what`.
pub(crate) fn exposure(path: &Path, what: &str) -> Option<String> {
    let mode = std::fs::metadata(path).ok()?.permissions().mode() & 0o777;
    let path = path.display();
    (mode & 0o077 != 0)
        .then(|| format!("{path} holds {what} and others can read it (mode {mode:04o}); `chmod 600 {path}`"))
}

/// There is no such context.
pub(crate) fn unknown_context(words: &str) -> Failure {
    Failure::new(Exit::NotFound, words).hint("`phasework context list` shows which there are, `context add` adds one")
}

fn did_you_mean(near: Option<&str>) -> String {
    near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default()
}

/// What stands in a table, in order, each with the key as it was written.
fn entries(table: &Table) -> impl Iterator<Item = (&Key, &Item)> {
    table.iter().filter_map(|(name, _)| table.get_key_value(name))
}

/// The line of a byte, from 1.
fn line_of(text: &str, at: Option<usize>) -> usize {
    1 + text.as_bytes().iter().take(at.unwrap_or_default()).filter(|byte| **byte == b'\n').count()
}

/// Reads the contexts of a file.
struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    home: Option<&'a str>,
}

impl Reader<'_> {
    fn line(&self, span: Option<std::ops::Range<usize>>) -> usize {
        line_of(self.text, span.map(|span| span.start))
    }

    fn problem(&self, key: &Key, words: &str) -> String {
        format!("{}:{}: {words}", self.path.display(), self.line(key.span()))
    }

    fn context(&self, name: &Key, item: &Item, problems: &mut Vec<String>) -> Option<Context> {
        let Some(table) = item.as_table_like() else {
            problems.push(self.problem(name, &format!("context `{name}` is a table with a url")));
            return None;
        };
        let before = problems.len();
        let mut said = [const { None::<&str> }; KEYS.len()];
        for (key, item) in table.iter().filter_map(|(key, _)| table.get_key_value(key)) {
            match (KEYS.iter().position(|known| *known == key.get()), item.as_str()) {
                (None, _) => {
                    let near = did_you_mean(nearest(key.get(), KEYS));
                    problems.push(self.problem(key, &format!("a context has no key `{key}`{near}")));
                }
                (Some(_), None) => problems.push(self.problem(key, &format!("`{key}` is a text"))),
                (Some(place), Some(text)) => said[place] = Some(text),
            }
        }
        let [url, token, token_file, token_command, output] = said;
        let format = output.map(|output| Format::from_str(output, false).map_err(|_| output));
        if let Some(Err(output)) = &format {
            problems.push(self.problem(name, &format!("`output` is table, json or jsonl, not `{output}`")));
        }
        let output = format.and_then(Result::ok);
        if url.is_none() && problems.len() == before {
            problems.push(self.problem(name, &format!("context `{name}` has no url")));
        }
        let token = match (token, token_file, token_command) {
            (None, None, None) => Token::None,
            (Some(token), None, None) => Token::Here(token.to_owned()),
            (None, Some(file), None) => Token::File(self.file(file)),
            (None, None, Some(command)) => Token::Command(command.to_owned()),
            _ => {
                let words = format!("context `{name}` has more than one of token, token_file and token_command");
                problems.push(self.problem(name, &words));
                return None;
            }
        };
        let is_sound = problems.len() == before;
        Some(Context { name: name.get().to_owned(), url: url.filter(|_| is_sound)?.to_owned(), token, output })
    }

    /// A file that is named in this one: from the folder that this one is in, `~/` from home.
    fn file(&self, name: &str) -> PathBuf {
        match (name.strip_prefix("~/"), self.home) {
            (Some(rest), Some(home)) => Path::new(home).join(rest),
            _ => self.path.parent().unwrap_or(Path::new("")).join(name),
        }
    }
}

/// Changes the file; what a person wrote besides stays as it was. It is made if it is not there, and only its owner can
/// read it then.
pub(crate) fn change(path: &Path, change: impl FnOnce(&mut Draft) -> Result<(), Failure>) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::usage(format!("cannot write {}: {error}", path.display()));
    // A link stays one: what it leads to is changed.
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let (text, mode) = match std::fs::read_to_string(&path) {
        Ok(text) => (text, std::fs::metadata(&path).map_err(failed)?.permissions().mode() & 0o777),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => (String::new(), 0o600),
        Err(error) => return Err(Failure::usage(format!("cannot read {}: {error}", path.display()))),
    };
    if !text.is_empty() {
        ContextsFile::read(&path, &text, None)?;
    }
    let document = text.parse().map_err(|error: toml_edit::TomlError| Failure::usage(error.message().to_owned()))?;
    let mut draft = Draft { document, holds_token: false };
    change(&mut draft)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    let new = folder.join(format!(".config.toml.{}", std::process::id()));
    let mode = if draft.holds_token { 0o600 } else { mode };
    let write = || {
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
        file.write_all(draft.document.to_string().as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&new, &path)
    };
    write().map_err(|error| {
        // What was begun is of no use; that it cannot be removed either changes nothing.
        std::fs::remove_file(&new).ok();
        failed(error)
    })
}

/// The file, as it is to be.
#[derive(Debug)]
pub(crate) struct Draft {
    document: DocumentMut,
    holds_token: bool,
}

impl Draft {
    /// Makes a context the current one, or none.
    pub(crate) fn set_current(&mut self, name: Option<&str>) {
        match (name, self.document.get_mut(CURRENT).and_then(Item::as_value_mut)) {
            (Some(name), Some(before)) => {
                // Comments belong to the line and not to what it said.
                let decor = before.decor().clone();
                *before = name.into();
                *before.decor_mut() = decor;
            }
            (Some(name), None) => drop(self.document.insert(CURRENT, value(name))),
            (None, _) => drop(self.document.remove(CURRENT)),
        }
    }

    /// Puts a context in, in the place of another of its name.
    pub(crate) fn put(&mut self, context: &Context) {
        let mut table = Table::new();
        table.insert("url", value(&context.url));
        match &context.token {
            Token::None => {}
            Token::Here(token) => {
                self.holds_token = true;
                table.insert("token", value(token));
            }
            Token::File(path) => drop(table.insert("token_file", value(path.to_string_lossy().as_ref()))),
            Token::Command(command) => drop(table.insert("token_command", value(command))),
        }
        if let Some(output) = context.output {
            table.insert("output", value(output.as_str()));
        }
        self.contexts().insert(&context.name, Item::Table(table));
    }

    /// Takes a context out.
    pub(crate) fn remove(&mut self, name: &str) {
        self.contexts().remove(name);
    }

    fn contexts(&mut self) -> &mut dyn toml_edit::TableLike {
        let contexts = self.document.entry(CONTEXTS).or_insert_with(|| {
            let mut table = Table::new();
            table.set_implicit(true);
            Item::Table(table)
        });
        contexts.as_table_like_mut().expect("the file was read before: what stands there is a table")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: &str = r#"# mine
context = "prod"
broker = "memory:"

[contexts.prod]
url = "https://phasework.example"
token_file = "~/prod.token"
output = "json"

[contexts."my laptop"]
url = "http://127.0.0.1:7180" # at home
"#;

    fn read(text: &str) -> Result<ContextsFile, Failure> {
        ContextsFile::read(Path::new("/etc/pw/c.toml"), text, Some("/home/ann"))
    }

    #[test]
    fn contexts_are_read() {
        let file = read(SOUND).unwrap();
        assert_eq!(file.current, Some(("prod".to_owned(), 2)));
        let prod = file.context("prod", None).unwrap();
        assert_eq!((prod.url.as_str(), prod.output), ("https://phasework.example", Some(Format::Json)));
        assert_eq!(prod.token.words(), "from /home/ann/prod.token");
        assert_eq!(file.context("my laptop", None).unwrap().token.words(), "none");
        let relative = read("[contexts]\na = { url = \"http://h\", token_file = \"t\" }").unwrap();
        assert_eq!(relative.contexts[0].token.words(), "from /etc/pw/t");
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        for (text, expected) in [
            ("contxt = \"a\"", "/etc/pw/c.toml:1: there is no setting `contxt`; did you mean `context`?"),
            ("[contexts.a]\nulr = \"x\"", "/etc/pw/c.toml:2: a context has no key `ulr`; did you mean `url`?"),
            ("\n[contexts.a]\n", "/etc/pw/c.toml:2: context `a` has no url"),
            ("[contexts.a]\nurl = 5", "/etc/pw/c.toml:2: `url` is a text"),
            ("[contexts]\na = 5", "/etc/pw/c.toml:2: context `a` is a table with a url"),
            ("contexts = 5", "/etc/pw/c.toml:1: `contexts` is a table of tables"),
            ("context = 5", "/etc/pw/c.toml:1: `context` is the name of one, a text"),
            ("[contexts.a]\nurl = \"x\"\noutput = \"xml\"", "c.toml:1: `output` is table, json or jsonl, not `xml`"),
            (
                "[contexts.a]\nurl = \"x\"\ntoken = \"s3cret\"\ntoken_file = \"f\"",
                "c.toml:1: context `a` has more than one of token, token_file and token_command",
            ),
            ("[contexts.a]\ntoken = \"s3cret", "/etc/pw/c.toml:2: "),
        ] {
            let failure = read(text).unwrap_err();
            assert!(failure.message.contains(expected), "{text}: {failure:?}");
            assert!(!failure.message.contains("s3cret"), "{failure:?}");
            assert_eq!(failure.exit, Exit::Usage);
        }
        let file = read(SOUND).unwrap();
        let failure = file.context("prd", Some(2)).unwrap_err();
        assert_eq!(failure.message, "/etc/pw/c.toml:2: there is no context `prd`; did you mean `prod`?");
        assert_eq!(failure.exit, Exit::NotFound);
    }

    #[test]
    fn the_file_is_where_it_belongs() {
        for (variables, expected) in [
            (&[("PHASEWORK_CONFIG", "/c"), ("HOME", "/h")][..], Some(("/c", true))),
            (&[("PHASEWORK_CONFIG", ""), ("XDG_CONFIG_HOME", "/x")], Some(("/x/phasework/config.toml", false))),
            (&[("XDG_CONFIG_HOME", "not/absolute"), ("HOME", "/h")], Some(("/h/.config/phasework/config.toml", false))),
            (&[], None),
        ] {
            let variable =
                |name: &str| variables.iter().find(|(set, _)| *set == name).map(|(_, value)| (*value).into());
            let expected = expected.map(|(path, is_named)| (PathBuf::from(path), is_named));
            assert_eq!(path(variable), expected);
        }
    }

    #[test]
    fn what_a_person_wrote_stays_when_contexts_change() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("config.toml");
        std::fs::write(&path, SOUND).unwrap();
        let context = |name: &str, token| Context { name: name.into(), url: "http://h".into(), token, output: None };
        change(&path, |draft| {
            draft.put(&context("new", Token::Here("s3cret".into())));
            draft.remove("prod");
            draft.set_current(Some("new"));
            Ok(())
        })
        .unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let expected = "# mine\ncontext = \"new\"\nbroker = \"memory:\"\n\n[contexts.\"my laptop\"]\n\
                        url = \"http://127.0.0.1:7180\" # at home\n\n[contexts.new]\nurl = \"http://h\"\ntoken = \"s3cret\"\n";
        assert_eq!(text, expected);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let file = read(&text).unwrap();
        assert!(!format!("{file:?}").contains("s3cret"));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left behind");
    }
}
