//! Reads what a command is given: a definition from a file or stdin, JSON from the command line. Judges nothing.

use std::io::Read as _;
use std::path::Path;

use serde_json::value::RawValue;

use crate::failure::Failure;

/// A definition as it was given.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// What to call it in messages.
    pub(crate) name: String,
    /// Its text.
    pub(crate) text: String,
}

/// Reads a file, or stdin when it is called `-`.
pub(crate) fn read(file: &str) -> Result<Source, Failure> {
    let (name, text) = match file {
        "-" => ("stdin".to_owned(), read_stdin()?),
        _ => (file.to_owned(), read_file(file)?),
    };
    Ok(Source { name, text })
}

/// Whether `what` means a file, and not the name of a stored workflow.
pub(crate) fn is_file(what: &str) -> bool {
    let path = Path::new(what);
    let looks_like_one = what == "-" || what.contains(['/', '\\', '.']);
    looks_like_one || path.is_file()
}

/// Reads JSON given as text, as `@file`, or as `-` for stdin. Numbers stay as they were written.
pub(crate) fn read_json(option: &str, given: &str) -> Result<Box<RawValue>, Failure> {
    let (name, text) = match given.strip_prefix('@') {
        Some(file) => (file, read_file(file)?),
        None if given == "-" => ("stdin", read_stdin()?),
        None => (option, given.to_owned()),
    };
    serde_json::from_str(&text).map_err(|error| {
        let hint = format!("{option} takes JSON ('{{\"n\":1}}'), @FILE, or - for stdin");
        Failure::usage(format!("{name} is no JSON: {error}")).hint(hint)
    })
}

fn read_file(file: &str) -> Result<String, Failure> {
    std::fs::read_to_string(file).map_err(|error| Failure::usage(format!("cannot read {file}: {error}")))
}

fn read_stdin() -> Result<String, Failure> {
    let mut text = String::new();
    let read = std::io::stdin().read_to_string(&mut text);
    read.map_err(|error| Failure::usage(format!("cannot read stdin: {error}")))?;
    Ok(text)
}
