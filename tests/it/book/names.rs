//! The names in the book are those in the code: variables of the environment, metrics.

use std::collections::BTreeSet;

use phasework_engine::EngineConfig;
use phasework_engine::api::{MAX_BODY_BYTES, MAX_WAIT};
use phasework_engine::engine::MAX_KEY_BYTES;
use phasework_workflows::definition::MAX_TIMEOUT;
use phasework_workflows::message::event::{CANCEL_DEADLINE, MAX_CANCEL_DEADLINE};
use phasework_workflows::message::lease::{LEASE, LEASE_AFTER, MAX_DETAILS_BYTES};
use phasework_workflows::message::presence::{HEARTBEAT, WORKER_TTL};
use phasework_workflows::message::{MAX_BODY_BYTES as MAX_MESSAGE_BYTES, MAX_PAYLOAD_BYTES};
use phasework_workflows::run::{
    ASK_ANYWAY, DEFAULT_WINDOW, HEARD_WITHIN, LARGEST_WINDOW, MAX_ENTRIES, MAX_FAILURES_KEPT, MAX_LISTED_BYTES,
    MAX_LISTED_JOBS, MOVE_AFTER, PROBE_AGAIN, QUIET,
};
use phasework_workflows::time::Millis;
use xtask::book::{page, pages};

use super::rules::files;

/// Where the code is that is documented.
const SOURCES: [&str; 7] =
    ["workflows/src", "store/src", "broker/src", "handler-sdk/src", "engine/src", "cli/src", "examples"];

/// Variables that are for tests and for the program itself.
const OUR_OWN: [&str; 2] = ["PHASEWORK_COMPLETE", "PHASEWORK_WRITE_DOCS"];

/// The words in `text` that begin with `start` and go on with letters that `is_inside`, each with what stands before it.
fn words<'t>(text: &'t str, start: &'t str, is_inside: impl Fn(char) -> bool + Copy) -> Vec<(&'t str, &'t str)> {
    let found = text.match_indices(start);
    found
        .map(|(at, _)| {
            let rest = &text[at..];
            (&text[..at], &rest[..rest.find(|c| !is_inside(c)).unwrap_or(rest.len())])
        })
        .collect()
}

/// The names in the code that begin with `start`, as texts or where a flag names its variable.
fn names(folders: &[&str], start: &str, is_inside: impl Fn(char) -> bool + Copy) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let files = folders.iter().flat_map(|folder| ["rs", "py", "ts"].map(|ending| files(folder, ending))).flatten();
    for file in files {
        let text = std::fs::read_to_string(file).expect("a file can be read");
        let named = words(&text, start, is_inside).into_iter();
        let named = named.filter(|(before, _)| ["\"", "env: ", "env."].iter().any(|quote| before.ends_with(quote)));
        names.extend(named.map(|(_, name)| name.to_owned()));
    }
    names
}

#[test]
fn every_variable_is_one_that_is_read_and_every_one_that_is_read_is_in_the_book() {
    let is_inside = |c: char| c.is_ascii_uppercase() || c == '_';
    let mut read = names(&SOURCES, "PHASEWORK_", is_inside);
    read.retain(|name| {
        !name.starts_with("PHASEWORK_TEST_") && name != "PHASEWORK_" && !OUR_OWN.contains(&name.as_str())
    });
    let mut told = BTreeSet::new();
    for page in pages().expect("the book can be read") {
        told.extend(words(&page.text, "PHASEWORK_", is_inside).into_iter().map(|(_, name)| name.to_owned()));
    }
    told.retain(|name| !name.starts_with("PHASEWORK_TEST_"));
    assert!(read.len() > 20, "{read:?}");
    assert_eq!(told, read, "left: told of in the book; right: read by the code");
}

#[test]
fn every_metric_is_one_that_is_measured_and_every_one_that_is_measured_is_in_the_book() {
    let is_inside = |c: char| c.is_ascii_lowercase() || c == '_';
    let mut measured = names(&["engine/src", "handler-sdk/src"], "phasework_", is_inside);
    // Crates, in the names of where logs come from.
    measured.retain(|name| !["phasework_engine", "phasework_sdk"].contains(&name.as_str()));
    let operations = page("docs/operations.md").expect("the page can be read");
    let rows = operations.text.lines().filter(|line| line.starts_with("| `phasework_"));
    let first = rows.filter_map(|row| row.split('|').nth(1));
    let told: BTreeSet<_> =
        first.flat_map(|cell| words(cell, "phasework_", is_inside)).map(|(_, name)| name.to_owned()).collect();
    assert!(measured.len() > 15, "{measured:?}");
    assert_eq!(told, measured, "left: told of in the book; right: measured");
    for page in pages().expect("the book can be read") {
        for quoted in page.quoted() {
            let name = &quoted[..quoted.find(|c| !is_inside(c)).unwrap_or(quoted.len())];
            let is_metric = quoted.starts_with("phasework_") && !["phasework_engine", "phasework_sdk"].contains(&name);
            assert!(!is_metric || measured.contains(name), "{}: there is no metric `{quoted}`", page.path);
        }
    }
}

fn bytes(number: u64) -> String {
    let (unit, name) = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")]
        .into_iter()
        .find(|(unit, _)| number.is_multiple_of(*unit))
        .unwrap_or((1, "bytes"));
    format!("{} {name}", number / unit)
}

fn length(length: Millis) -> String {
    match length.0 / 1000 {
        days if days % 86_400 == 0 && days > 86_400 => format!("{} days", days / 86_400),
        hours if hours % 3600 == 0 => format!("{} hours", hours / 3600),
        minutes if minutes % 60 == 0 && minutes > 120 => format!("{} min", minutes / 60),
        seconds => format!("{seconds} s"),
    }
}

#[test]
fn limits_are_those_of_the_code() {
    let page = page("docs/operations.md").expect("the page can be read").text;
    let (_, part) = page.split_once("\n## Limits").expect("there is such a part");
    let engine = EngineConfig::new("c1");
    let seconds = |length: Millis| format!("{} s", length.0 / 1000);
    let minutes = |length: Millis| format!("{} min", length.0 / 60_000);
    for (what, values) in [
        ("run data, an input, an output, a result", vec![bytes(MAX_PAYLOAD_BYTES as u64)]),
        ("a request to the API", vec![bytes(MAX_BODY_BYTES as u64)]),
        ("one wait", vec![format!("{} s", MAX_WAIT.as_secs())]),
        ("a submission's key", vec![format!("{MAX_KEY_BYTES} bytes")]),
        ("the deadline of a cancel", vec![length(MAX_CANCEL_DEADLINE), length(CANCEL_DEADLINE)]),
        ("a message |", vec![bytes(MAX_MESSAGE_BYTES as u64)]),
        ("jobs of a handler and entry that are out", vec![DEFAULT_WINDOW.to_string(), LARGEST_WINDOW.to_string()]),
        ("one attempt at a job", vec![length(MAX_TIMEOUT)]),
        ("failed jobs that are kept", vec![MAX_FAILURES_KEPT.to_string()]),
        ("phases that a run enters", vec![MAX_ENTRIES.to_string()]),
        ("jobs that a handler lists", vec![MAX_LISTED_JOBS.to_string(), bytes(MAX_LISTED_BYTES)]),
        ("what a job leaves", vec![bytes(MAX_DETAILS_BYTES as u64)]),
        ("runs that a coordinator keeps", vec![engine.cached_runs.to_string()]),
        ("messages that a coordinator holds", vec![engine.prefetch.to_string(), engine.batch.to_string()]),
        ("a worker announces itself", vec![seconds(HEARTBEAT), seconds(WORKER_TTL)]),
        ("a lease on a job", vec![seconds(LEASE), seconds(LEASE_AFTER)]),
        ("a probe after jobs", vec![seconds(QUIET), minutes(ASK_ANYWAY), minutes(PROBE_AGAIN), seconds(HEARD_WITHIN)]),
        ("a version that nobody hosts", vec![seconds(MOVE_AFTER)]),
    ] {
        let row = part.lines().find(|line| line.starts_with(&format!("| {what}")));
        // 10,000 and 10000 are one number.
        let row = row.unwrap_or_else(|| panic!("no row {what}")).replace(',', "");
        for value in values {
            // Not the end of another number.
            let is_there = row.match_indices(&value).any(|(at, _)| !row[..at].ends_with(|c: char| c.is_ascii_digit()));
            assert!(is_there, "{value} is not in: {row}");
        }
    }
}
