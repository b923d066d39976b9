//! `phasework context use`, `add` and `remove`: changes the file of contexts, and nothing else in it.

use std::io::Read as _;
use std::path::PathBuf;

use clap::Args;
use clap_complete::ArgValueCandidates;
use phasework_workflows::id::check_name;

use crate::complete;
use crate::contexts::{self, Context, Token};
use crate::failure::{Exit, Failure, Outcome};
use crate::http::Api;
use crate::output::{Format, note};
use crate::session::Session;

const USE_EXAMPLES: &str = "\
Examples:
  phasework context use prod";

const ADD_EXAMPLES: &str = "\
Examples:
  phasework context add laptop --url http://127.0.0.1:7180
  phasework context add prod --url https://phasework.example --token-command 'pass show phasework/prod'
  phasework context add stage --url https://stage.example --token-file ~/.secrets/stage --default-output json
  phasework context add prod --url https://phasework.example --token - < token.txt

The first context becomes the current one. A token that is kept in the file makes it readable by its owner only; one on
the command line can be seen by others on this machine while the command runs, so - takes it from stdin.";

const REMOVE_EXAMPLES: &str = "\
Examples:
  phasework context remove stage";

/// Make a context the current one
#[derive(Args, Debug)]
#[command(after_help = USE_EXAMPLES)]
pub(crate) struct UseArgs {
    /// The context
    #[arg(value_name = "NAME", add = ArgValueCandidates::new(complete::contexts))]
    name: String,
}

/// Add a context
#[derive(Args, Debug)]
#[command(after_help = ADD_EXAMPLES)]
pub(crate) struct AddArgs {
    /// Its name
    #[arg(value_name = "NAME")]
    name: String,
    /// Where its API is
    #[arg(long, value_name = "URL", required = true)]
    url: Option<String>,
    /// Its token, to be kept in the file; - for stdin
    #[arg(long, value_name = "TOKEN", conflicts_with_all = ["token_file", "token_command"])]
    token: Option<String>,
    /// A file that holds its token
    #[arg(long, value_name = "FILE", conflicts_with = "token_command")]
    token_file: Option<PathBuf>,
    /// A command of the shell that prints its token
    #[arg(long, value_name = "COMMAND")]
    token_command: Option<String>,
    /// In which form answers are printed when nobody says
    #[arg(long, value_enum, value_name = "FORMAT")]
    default_output: Option<Format>,
    /// Replace the context of this name
    #[arg(long)]
    force: bool,
    /// Make it the current one
    #[arg(long = "use")]
    choose: bool,
}

/// Remove a context
#[derive(Args, Debug)]
#[command(after_help = REMOVE_EXAMPLES)]
pub(crate) struct RemoveArgs {
    /// The context
    #[arg(value_name = "NAME", add = ArgValueCandidates::new(complete::contexts))]
    name: String,
}

fn path() -> Result<PathBuf, Failure> {
    let path = contexts::path(|name| std::env::var(name).ok());
    path.map(|(path, _)| path).ok_or_else(|| {
        Failure::usage("there is no place for the file of contexts: HOME is not set").hint("PHASEWORK_CONFIG names one")
    })
}

/// Chooses a context.
pub(super) fn choose(args: &UseArgs, session: &Session) -> Outcome {
    match session.file()? {
        Some(file) => file.context(&args.name, None)?,
        None => return Err(contexts::unknown_context(&format!("there is no context `{}`", args.name))),
    };
    contexts::change(&path()?, |draft| {
        draft.set_current(Some(&args.name));
        Ok(())
    })?;
    note(&format!("`{}` is asked from now on", args.name));
    Ok(Exit::Good)
}

/// Adds a context.
pub(super) fn add(args: AddArgs, session: &Session) -> Outcome {
    check_name("context", &args.name).map_err(|error| Failure::usage(error.to_string()))?;
    let path = path()?;
    // A file that is named and not there is made.
    let file = if path.exists() { session.file()? } else { None };
    let (is_there, is_first) = match file {
        Some(file) => (file.contexts.iter().any(|context| context.name == args.name), file.contexts.is_empty()),
        None => (false, true),
    };
    if is_there && !args.force {
        return Err(Failure::usage(format!("there is a context `{}`", args.name)).hint("--force replaces it"));
    }
    let url = args.url.unwrap_or_default();
    Api::new(&url, None)?; // one that cannot be asked is not kept
    let token = match (args.token, args.token_file, args.token_command) {
        (Some(token), _, _) => Token::Here(if token == "-" { stdin()? } else { token }),
        (_, Some(file), _) => Token::File(std::path::absolute(&file).unwrap_or(file)),
        (_, _, Some(command)) => Token::Command(command),
        (None, None, None) => Token::None,
    };
    let context = Context { name: args.name, url, token, output: args.default_output };
    let is_chosen = args.choose || is_first;
    contexts::change(&path, |draft| {
        draft.put(&context);
        if is_chosen {
            draft.set_current(Some(&context.name));
        }
        Ok(())
    })?;
    let chosen = if is_chosen { ", and asked from now on" } else { "" };
    note(&format!("`{}` is kept in {}{chosen}", context.name, path.display()));
    Ok(Exit::Good)
}

/// Removes a context.
pub(super) fn remove(args: &RemoveArgs, session: &Session) -> Outcome {
    let Some(file) = session.file()? else {
        return Err(contexts::unknown_context(&format!("there is no context `{}`", args.name)));
    };
    file.context(&args.name, None)?;
    let is_current = file.current.as_ref().is_some_and(|(name, _)| *name == args.name);
    contexts::change(&path()?, |draft| {
        draft.remove(&args.name);
        if is_current {
            draft.set_current(None);
        }
        Ok(())
    })?;
    let also = if is_current { "; no context is the current one now" } else { "" };
    note(&format!("`{}` is removed{also}", args.name));
    Ok(Exit::Good)
}

fn stdin() -> Result<String, Failure> {
    let mut text = String::new();
    let read = std::io::stdin().read_to_string(&mut text);
    read.map_err(|error| Failure::usage(format!("cannot read the token from stdin: {error}")))?;
    Ok(text.trim().to_owned())
}
