//! What holds for a whole command: which server it asks and with which token, in which form it prints, how it tells
//! times. Flags say it, then the environment, then the context, then defaults.

use std::cell::OnceCell;
use std::time::Duration;

use clap::{Args, ValueEnum as _};
use phasework_workflows::time::{Clock as _, SystemClock, Timestamp};

use crate::contexts::{Context, ContextsFile, unknown_context};
use crate::failure::Failure;
use crate::http::Api;
use crate::length::{ago, stamp};
use crate::output::{Format, Stream, note};

/// Where the API is when nobody says.
const DEFAULT_URL: &str = "http://127.0.0.1:7180";

/// Which server to ask.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Server")]
pub(crate) struct Server {
    /// Where the API is [env: PHASEWORK_API] [default: that of the context, or http://127.0.0.1:7180]
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// The token that the server asks for [env: PHASEWORK_TOKEN] [default: that of the context]
    #[arg(long, value_name = "TOKEN")]
    pub(crate) token: Option<String>,
}

/// In which form an answer is printed.
#[derive(Args, Clone, Debug)]
pub(crate) struct Form {
    /// In which form [env: PHASEWORK_OUTPUT] [default: that of the context, or table]
    #[arg(long, short, value_enum, value_name = "FORMAT")]
    output: Option<Format>,
}

/// In which form something is printed that can be looked at again and again.
#[derive(Args, Clone, Debug)]
pub(crate) struct WatchedForm {
    #[command(flatten)]
    pub(crate) form: Form,
    /// Look again every so often; 2 seconds if not given. Ctrl-C ends it
    #[arg(long, short, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2", value_parser = seconds)]
    pub(crate) watch: Option<Duration>,
}

/// A number of seconds that something is done again after.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let seconds = seconds.filter(|seconds| (Duration::from_millis(100)..Duration::from_secs(86_400)).contains(seconds));
    seconds.ok_or_else(|| "this is no number of seconds from 0.1; what is to be shown goes before --watch".to_owned())
}

/// How times are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Times {
    /// How long ago something was, seen from this moment.
    Ago(Timestamp),
    /// To the second, in UTC, without a space.
    Full,
}

impl Times {
    /// A time, told.
    pub(crate) fn tell(self, at: Timestamp) -> String {
        match self {
            Self::Ago(now) => ago(at, now),
            Self::Full => stamp(at),
        }
    }
}

/// What is to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) url: String,
    pub(crate) token: Option<String>,
    /// Whether somebody said where it is.
    pub(crate) is_named: bool,
}

/// What holds for a whole command.
#[derive(Debug, Default)]
pub(crate) struct Session {
    /// Whether times are told in full wherever they are shown.
    is_utc: bool,
    /// The context that the command line names.
    context: Option<String>,
    /// The file of contexts, once it was read.
    file: OnceCell<Option<ContextsFile>>,
}

impl Session {
    /// As the command line says.
    pub(crate) const fn new(context: Option<String>, is_utc: bool) -> Self {
        Self { is_utc, context, file: OnceCell::new() }
    }

    /// The server to ask.
    pub(crate) fn api(&self, server: &Server) -> Result<Api, Failure> {
        let Asked { url, token, .. } = self.asked(server)?;
        Api::new(&url, token.as_deref())
    }

    /// What is to be asked.
    pub(crate) fn asked(&self, server: &Server) -> Result<Asked, Failure> {
        if server.url.is_some() && server.token.is_some() {
            return asked(server, None, false, variable);
        }
        asked(server, self.chosen()?, self.context.is_some(), variable)
    }

    /// In which form to print.
    pub(crate) fn format(&self, form: &Form) -> Result<Format, Failure> {
        if let Some(format) = form.output {
            return Ok(format);
        }
        if let Some(output) = variable("PHASEWORK_OUTPUT") {
            return Format::from_str(&output, false)
                .map_err(|_| Failure::usage(format!("PHASEWORK_OUTPUT is table, json or jsonl, not `{output}`")));
        }
        Ok(self.chosen()?.and_then(|context| context.output).unwrap_or_default())
    }

    /// How to tell times on stdout.
    pub(crate) fn times(&self) -> Times {
        if self.is_utc || !Stream::Out.is_terminal() { Times::Full } else { Times::Ago(SystemClock.now()) }
    }

    /// The file of contexts, if there is one.
    pub(crate) fn file(&self) -> Result<Option<&ContextsFile>, Failure> {
        if self.file.get().is_none() {
            let file = ContextsFile::find(variable)?;
            file.as_ref().and_then(ContextsFile::exposure).iter().for_each(|words| note(&format!("warning: {words}")));
            return Ok(self.file.get_or_init(|| file).as_ref());
        }
        Ok(self.file.get().and_then(Option::as_ref))
    }

    /// The context that is asked when nothing else is said: the one that the command line names, or the environment, or
    /// the file.
    pub(crate) fn chosen(&self) -> Result<Option<&Context>, Failure> {
        let named = self.context.clone().or_else(|| variable("PHASEWORK_CONTEXT"));
        match (self.file()?, named) {
            (Some(file), Some(name)) => file.context(&name, None).map(Some),
            (None, Some(name)) => Err(unknown_context(&format!("there is no context `{name}`: there are none at all"))),
            (Some(file), None) => match &file.current {
                Some((name, line)) => file.context(name, Some(*line)).map(Some),
                None => Ok(None),
            },
            (None, None) => Ok(None),
        }
    }
}

/// A variable of the environment; an empty one says nothing.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.trim().is_empty())
}

/// Puts together who is asked: flags, and a context that a flag names; the environment; another context; the default. The
/// token of a context is told to the server of that context alone.
fn asked(
    server: &Server,
    context: Option<&Context>,
    is_flag: bool,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Asked, Failure> {
    let by_flag = context.filter(|_| is_flag);
    let of = |context: Option<&Context>| context.map(|context| context.url.clone());
    let said = server.url.clone();
    let is_elsewhere = said.is_some() || (by_flag.is_none() && variable("PHASEWORK_API").is_some());
    let url = said.or_else(|| of(by_flag)).or_else(|| variable("PHASEWORK_API")).or_else(|| of(context));
    let token_of = |context: Option<&Context>| match context.filter(|_| !is_elsewhere) {
        Some(context) => context.token.get(),
        None => Ok(None),
    };
    let token = match (&server.token, variable("PHASEWORK_TOKEN")) {
        (Some(token), _) => Some(token.clone()),
        (None, Some(token)) => match token_of(by_flag)? {
            Some(of_context) => Some(of_context),
            None => Some(token),
        },
        (None, None) => token_of(context)?,
    };
    Ok(Asked { is_named: url.is_some(), url: url.unwrap_or_else(|| DEFAULT_URL.to_owned()), token })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contexts::Token;

    #[test]
    fn a_watch_takes_seconds() {
        for (text, expected) in [
            ("2", Some(2000)),
            ("0.5", Some(500)),
            ("0", None),
            ("-1", None),
            ("x", None),
            ("NaN", None),
            ("1e9", None),
        ] {
            assert_eq!(seconds(text).ok().map(|length| length.as_millis()), expected, "{text}");
        }
    }

    #[test]
    fn times_are_told_for_people_or_in_full() {
        let at = Timestamp::from_millis(1_763_000_000_123);
        assert_eq!(Times::Full.tell(at), "2025-11-13T02:13:20Z");
        assert_eq!(Times::Ago(Timestamp::from_millis(1_763_000_200_000)).tell(at), "3m ago");
    }

    /// What is asked with these flags (`--url`, `--token`) and variables (`PHASEWORK_API`, `PHASEWORK_TOKEN`) and a
    /// context, named by a flag or not; as `url token`.
    fn check(flags: [&str; 2], variables: [&str; 2], context: Option<(bool, Token)>, expected: &str) {
        let said = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let server = Server { url: said(flags[0]), token: said(flags[1]) };
        let is_flag = context.as_ref().is_some_and(|(is_flag, _)| *is_flag);
        let (name, url) = ("prod".to_owned(), "http://context".to_owned());
        let context = context.map(|(_, token)| Context { name, url, token, output: None });
        let variable = |name: &str| match name {
            "PHASEWORK_API" => said(variables[0]),
            "PHASEWORK_TOKEN" => said(variables[1]),
            _ => None,
        };
        let asked = asked(&server, context.as_ref(), is_flag, variable).unwrap();
        let shown = format!("{} {}", asked.url, asked.token.unwrap_or_default());
        assert_eq!(shown.trim(), expected, "{flags:?} {variables:?} {context:?}");
    }

    #[test]
    fn flags_go_before_the_environment_before_the_context_before_the_default() {
        let here = || Token::Here("tc".to_owned());
        check(["", ""], ["", ""], None, DEFAULT_URL);
        check(["", ""], ["", ""], Some((false, here())), "http://context tc");
        check(["", ""], ["", ""], Some((false, Token::None)), "http://context");
        check(["", ""], ["", "te"], Some((false, here())), "http://context te");
        check(["", ""], ["http://env", "te"], Some((false, here())), "http://env te");
        check(["http://flag", "tf"], ["http://env", "te"], Some((true, here())), "http://flag tf");
        check(["http://flag", ""], ["http://env", "te"], None, "http://flag te");
    }

    #[test]
    fn a_context_that_a_flag_names_goes_before_the_environment() {
        let here = || Token::Here("tc".to_owned());
        check(["", ""], ["http://env", "te"], Some((true, here())), "http://context tc");
        check(["", ""], ["http://env", "te"], Some((true, Token::None)), "http://context te");
        check(["", "tf"], ["http://env", "te"], Some((true, here())), "http://context tf");
    }

    #[test]
    fn the_token_of_a_context_is_told_to_no_other_server() {
        let here = || Token::Here("tc".to_owned());
        check(["http://flag", ""], ["", ""], Some((false, here())), "http://flag");
        check(["http://flag", ""], ["", ""], Some((true, here())), "http://flag");
        check(["", ""], ["http://env", ""], Some((false, here())), "http://env");
    }
}
