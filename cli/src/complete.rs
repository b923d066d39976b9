//! What a shell is offered where a name is to stand: runs, workflows, dead letters, contexts. Asks the server that the
//! command line names so far, waits for it only briefly, and offers nothing when it does not answer.

use std::time::Duration;

use clap_complete::CompletionCandidate;
use serde_json::Value;

use crate::contexts::ContextsFile;
use crate::http::Ask;
use crate::routes::{self, Route};
use crate::session::{Server, Session};

/// How long a person who pressed a key is kept waiting.
const PATIENCE: Duration = Duration::from_secs(1);

/// How many names are offered.
const MOST: &str = "50";

/// The newest runs.
pub(crate) fn runs() -> Vec<CompletionCandidate> {
    offer(&routes::RUNS, &[("limit", MOST)], ("runs", "run"), about_run)
}

/// The newest runs that have not ended.
pub(crate) fn live_runs() -> Vec<CompletionCandidate> {
    offer(&routes::RUNS, &[("limit", MOST), ("state", "live")], ("runs", "run"), about_run)
}

/// Its workflow, where that can be read, and its state.
fn about_run(run: &Value) -> String {
    format!("{} {}", text(run, "workflow"), text(run, "state")).trim_start().to_owned()
}

/// Stored workflows.
pub(crate) fn workflows() -> Vec<CompletionCandidate> {
    offer(&routes::WORKFLOWS, &[], ("workflows", "name"), |workflow| text(workflow, "revision"))
}

/// The newest dead letters.
pub(crate) fn dead_letters() -> Vec<CompletionCandidate> {
    offer(&routes::DEAD, &[("limit", MOST)], ("dead", "id"), |letter| text(letter, "reason"))
}

/// Contexts.
pub(crate) fn contexts() -> Vec<CompletionCandidate> {
    let file = ContextsFile::find(|name| std::env::var(name).ok()).ok().flatten();
    let contexts = file.map(|file| file.contexts).unwrap_or_default();
    contexts.into_iter().map(|context| CompletionCandidate::new(context.name).help(Some(context.url.into()))).collect()
}

fn text(item: &Value, field: &str) -> String {
    item[field].as_str().unwrap_or_default().to_owned()
}

/// The names of what a server lists.
fn offer(
    route: &Route,
    query: &[(&str, &str)],
    (list, name): (&str, &str),
    about: impl Fn(&Value) -> String,
) -> Vec<CompletionCandidate> {
    let words: Vec<String> = std::env::args().collect();
    let server = Server { url: said(&words, "--url"), token: said(&words, "--token") };
    let Ok(api) = Session::new(said(&words, "--context"), false).api(&server) else { return Vec::new() };
    let query = query.iter().map(|&(name, value)| (name, value.to_owned())).collect();
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return Vec::new() };
    let asking = api.get::<Value>(route, &[], Ask { query, ..Ask::default() });
    let answer = runtime.block_on(async { tokio::time::timeout(PATIENCE, asking).await });
    let Ok(Ok(answer)) = answer else { return Vec::new() };
    let items = answer[list].as_array().map_or(&[][..], Vec::as_slice);
    items.iter().map(|item| CompletionCandidate::new(text(item, name)).help(Some(about(item).into()))).collect()
}

/// What stands behind an option in the command line that is being completed.
fn said(words: &[String], option: &str) -> Option<String> {
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.strip_prefix(option) {
            Some("") => return words.next().cloned(),
            Some(rest) if rest.starts_with('=') => return Some(rest[1..].to_owned()),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_were_typed_are_found() {
        let words: Vec<String> = ["phasework", "--url=http://h", "--context", "prod", "runs"].map(str::to_owned).into();
        assert_eq!(said(&words, "--url").as_deref(), Some("http://h"));
        assert_eq!(said(&words, "--context").as_deref(), Some("prod"));
        assert_eq!(said(&words, "--token"), None);
    }
}
