//! Exported runs: what is in the file, and that it is read back.

use serde_json::Value;

use crate::command::Place;
use crate::server::{FAIL, GREET, PASS, STAY, Server};

fn records(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What stands under `field` in the records of a kind.
fn of<'a>(records: &'a [Value], kind: &str, field: &str) -> Vec<&'a Value> {
    records.iter().filter(|record| record["record"] == kind).map(|record| &record[field]).collect()
}

fn run_to_its_end(place: &Place, file: &str, data: &str) -> String {
    let run = place.check(&["run", file, "--data", data], 0, &[]).out.trim().to_owned();
    place.run(&["runs", "follow", &run]);
    run
}

#[test]
fn a_run_is_exported_with_what_its_jobs_were_given_and_gave() {
    let server = Server::start();
    let place = server.place().file("greet.json", GREET).file("fail.json", FAIL).file("pass.json", PASS);
    let data = r#"{"names": ["Ann", "Bo\u0021"], "exact": 12345678901234567890.50}"#;
    let run = run_to_its_end(&place, "greet.json", data);
    let done = place.check(&["runs", "export", &run, "run.jsonl"], 0, &["run.jsonl: ", "records"]);
    assert_eq!(done.out, "");
    let text = std::fs::read_to_string(place.path().join("run.jsonl")).unwrap();
    assert!(text.contains(r#""data":{"names": ["Ann", "Bo\u0021"], "exact": 12345678901234567890.50}"#), "{text}");
    let all = records(&text);
    assert_eq!((&all[0]["record"], &all[0]["format"]), (&"export".into(), &1.into()));
    assert_eq!(all.last().unwrap()["record"], "end");
    assert_eq!(of(&all, "run", "run")[0]["state"], "succeeded");
    assert_eq!(of(&all, "definition", "definition")[0]["workflow"], "greet");
    assert_eq!(of(&all, "jobs", "version"), ["1.0.0"]);
    assert_eq!(of(&all, "input", "input"), ["Ann", "Bo!"]);
    let mut outputs = of(&all, "output", "output");
    outputs.sort_by_key(ToString::to_string);
    assert_eq!(outputs, ["hello Ann", "hello Bo!"]);
    assert!(of(&all, "gap", "why").is_empty(), "{text}");

    place.check(&["runs", "export", &run, "run.jsonl"], 2, &["run.jsonl is there already", "--force writes over it"]);
    place.check(&["runs", "export", &run, "run.jsonl", "--force"], 0, &[]);
    assert_eq!(place.check(&["runs", "export", &run], 0, &[]).out.lines().count(), all.len());
    place.check(&["runs", "export", "0199a2b3-c4d5-7e6f-8a9b-0c1d2e3f4a5b", "none.jsonl"], 4, &["there is no run"]);
    assert!(!place.path().join("none.jsonl").exists() && !place.path().join("none.jsonl.part").exists());
}

#[test]
fn an_exported_run_is_read_back_without_a_server() {
    let server = Server::start();
    let place = server.place().file("fail.json", FAIL);
    let run = run_to_its_end(&place, "fail.json", "{}");
    place.check(&["runs", "export", &run, "run.jsonl"], 0, &[]);
    let alone = Place::new().with("PHASEWORK_API", "http://127.0.0.1:1");
    let text = std::fs::read_to_string(place.path().join("run.jsonl")).unwrap();
    let cut = &text[..text.rfind("{\"record\":\"end\"").unwrap()];
    let alone = alone.file("run.jsonl", &text).file("cut.jsonl", cut).file("other.jsonl", "{}");
    alone.check(&["runs", "show", "--file", "run.jsonl"], 0, &[&run, "failed after", "the glass is broken"]);
    let history = alone.check(&["runs", "history", "--file", "run.jsonl"], 0, &["entered `breaking`", "ended failed"]);
    assert_eq!(history.err, "");
    let same = place.check(&["runs", "history", &run, "-o", "json"], 0, &[]).out;
    assert_eq!(alone.check(&["runs", "history", "--file", "run.jsonl", "-o", "json"], 0, &[]).out, same);
    alone.check(&["runs", "history", "--file", "run.jsonl", "--limit", "2"], 0, &["--after 2 shows them"]);
    alone.check(&["runs", "show", "--file", "cut.jsonl"], 0, &["warning: cut.jsonl ends early"]);
    alone.check(&["runs", "show", "--file", "other.jsonl"], 2, &["other.jsonl:1: this is no record"]);
    alone.check(&["runs", "show", "--file", "nowhere.jsonl"], 2, &["cannot read nowhere.jsonl"]);
    alone.check(&["runs", "show"], 2, &["<ID>"]);
}

#[test]
fn what_is_redacted_shows_only_its_size() {
    let server = Server::start();
    let place = server.place().file("greet.json", GREET);
    let run = run_to_its_end(&place, "greet.json", r#"{"names": ["Sekretta"]}"#);
    let text = place.check(&["runs", "export", &run, "--redact"], 0, &[]).out;
    assert!(!text.contains("Sekretta"), "{text}");
    let all = records(&text);
    assert_eq!(all[0]["redacted"], true);
    assert_eq!(of(&all, "input", "input")[0]["bytes"], 10);
    assert_eq!(of(&all, "output", "output")[0]["sha256"].as_str().unwrap().len(), 64);
    assert_eq!(of(&all, "data", "data")[0]["bytes"], 23);
}

#[test]
fn a_run_that_is_under_way_is_exported_as_far_as_it_is() {
    let server = Server::start();
    let place = server.place().file("stay.json", STAY);
    let run = place.check(&["run", "stay.json", "--data", "{\"n\":1}"], 0, &[]).out.trim().to_owned();
    let all = records(&place.check(&["runs", "export", &run], 0, &[]).out);
    assert_eq!(of(&all, "input", "input"), [&serde_json::json!({ "n": 1 })]);
    assert!(of(&all, "output", "output").is_empty());
}
