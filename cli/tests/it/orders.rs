//! Orders to runs: what is typed, what becomes of the run, what is said when an order changes nothing.

use serde_json::Value;

use crate::command::Place;
use crate::server::{HALT, PASS, STAY, Server, WAIT};

/// The run that a command printed.
fn run_of(place: &Place, arguments: &[&str]) -> String {
    place.check(arguments, 0, &[]).out.trim().to_owned()
}

/// Looks at a run until it is as wanted.
fn until(place: &Place, run: &str, is_so: impl Fn(&Value) -> bool) {
    for _ in 0..1000 {
        let shown = place.check(&["runs", "show", run, "--output", "json"], 0, &[]).out;
        if is_so(&serde_json::from_str(&shown).unwrap()) {
            return;
        }
    }
    panic!("run {run} never became so: {}", place.run(&["runs", "show", run]).out);
}

fn state_is(state: &str) -> impl Fn(&Value) -> bool {
    move |run| run["state"] == state
}

fn check_all(place: &Place, rows: &[(&[&str], i32, &[&str])]) {
    for (arguments, exit, expected) in rows {
        place.check(arguments, *exit, expected);
    }
}

#[test]
fn runs_are_paused_and_resumed() {
    let server = Server::start();
    let place = server.place().file("wait.json", WAIT);
    let [one, two] = [(); 2].map(|()| run_of(&place, &["run", "wait.json"]));
    let unknown = "0199a2b3-c4d5-7e6f-8a9b-0c1d2e3f4a5b";
    check_all(
        &place,
        &[
            (&["runs", "resume", &one], 0, &["is running already"]),
            (&["runs", "pause", &one, &two, "--reason", "lunch"], 0, &[&one, &two, "paused"]),
            (&["runs", "pause", &one], 0, &["is paused already"]),
            (&["runs", "list"], 0, &["paused"]),
            (
                &["runs", "show", &one],
                0,
                &["state     paused for", "waits for an order: it is paused", "paused: lunch", "LEASED"],
            ),
            (
                &["runs", "retry", &one],
                1,
                &["error: a run that is paused cannot be retried; only a run that has halted"],
            ),
            (&["runs", "rerun", &one], 1, &["error: a run that is paused cannot be rerun; resume it first"]),
            (
                &["runs", "resume", &one, unknown, &two],
                4,
                &[&one, &two, "running", &format!("error: {unknown}: there is no")],
            ),
            (&["runs", "show", &two], 0, &["state     running", "resumed"]),
            (&["runs", "pause"], 2, &["<ID>..."]),
        ],
    );
    let done = place.check(&["runs", "pause", &one, unknown, "--output", "jsonl"], 4, &[]);
    let lines: Vec<Value> = done.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["state"], &lines[0]["changed"]), (&"paused".into(), &true.into()));
    assert!(lines[1]["error"].as_str().unwrap().starts_with("there is no such run"), "{lines:?}");
}

#[test]
fn what_halted_is_tried_again_with_other_data() {
    let server = Server::start();
    let place = server.place().file("halt.json", HALT).file("mended.json", r#"{"mended": true}"#);
    let run = run_of(&place, &["run", "halt.json"]);
    until(&place, &run, state_is("halted"));
    check_all(
        &place,
        &[
            (&["runs", "pause", &run], 1, &["a run that has halted cannot be paused; nothing of it goes out"]),
            (&["runs", "retry", &run, "--data", "{"], 2, &["--data is no JSON"]),
            (&["runs", "retry", &run, "--reason", "perhaps now"], 0, &["running"]),
        ],
    );
    until(&place, &run, |run| run["state"] == "halted" && run["history"].to_string().contains("perhaps now"));
    place.check(&["runs", "retry", &run, "--data", "@mended.json"], 0, &["running"]);
    until(&place, &run, state_is("succeeded"));
    check_all(
        &place,
        &[
            (&["runs", "show", &run], 0, &["told to try 1 job again: perhaps now", "\"mended\": true"]),
            (&["runs", "retry", &run], 1, &["a run that has succeeded cannot be retried; start another"]),
        ],
    );
}

#[test]
fn a_phase_is_entered_anew() {
    let server = Server::start();
    let place = server.place().file("halt.json", HALT).file("pass.json", PASS);
    let run = run_of(&place, &["run", "halt.json"]);
    until(&place, &run, state_is("halted"));
    check_all(
        &place,
        &[
            (&["runs", "rerun", &run, "--phase", "brea"], 4, &["has no phase `brea`", "breaking"]),
            (&["runs", "rerun", &run, "--phase", "breaking", "--data", "{\"mended\":true}"], 0, &["running"]),
        ],
    );
    until(&place, &run, state_is("succeeded"));
    let words = ["phase abandoned: Breaker 0/1, 1 failed", "told to enter `breaking` anew", "phase succeeded"];
    place.check(&["runs", "show", &run], 0, &words);
    place.check(&["runs", "rerun", &run], 1, &["a run that has succeeded cannot be rerun; start another"]);
}

#[test]
fn a_cancel_waits_until_jobs_have_stopped() {
    let server = Server::start();
    let place = server.place().file("stay.json", STAY);
    let start = || {
        let run = run_of(&place, &["run", "stay.json"]);
        until(&place, &run, |run| run["handlers"][0]["in_flight"] == 1);
        run
    };
    let run = start();
    place.check(&["runs", "cancel", &run, "--reason", "enough", "--deadline", "60s"], 0, &[&run, "  canceled\n"]);
    place.check(&["runs", "show", &run], 0, &["being canceled, until ", ": enough", "ended canceled: enough"]);
    let run = start();
    place.check(&["runs", "cancel", &run, "--no-wait", "--deadline", "60s"], 0, &[&run, "  canceling\n"]);
    until(&place, &run, state_is("canceled"));
    let run = start();
    let done = place.check(&["runs", "cancel", &run, "--deadline", "0s", "--output", "jsonl"], 0, &[]);
    assert_eq!(serde_json::from_str::<Value>(&done.out).unwrap()["state"], "canceled");
}

#[test]
fn who_watches_is_told_of_orders() {
    let server = Server::start();
    let place = server.place().file("wait.json", WAIT);
    let mut watching = place.start(&["run", "wait.json", "--follow"]);
    let line = watching.until("run ");
    let run = line.split_whitespace().nth(1).unwrap();
    watching.until("> begin");
    place.check(&["runs", "pause", run, "--reason", "lunch"], 0, &[]);
    watching.until("• paused: lunch");
    watching.until("begin waits for an order: it is paused");
    place.check(&["runs", "resume", run], 0, &[]);
    watching.until("• resumed");
    place.check(&["runs", "rerun", run], 0, &[]);
    watching.until("– begin");
    watching.until("• told to enter `begin` anew");
    place.check(&["runs", "cancel", run, "--reason", "enough"], 0, &[]);
    let done = watching.end();
    assert_eq!(done.exit, 1, "{}", done.err);
    assert!(done.err.contains("error: the run was canceled after"), "{}", done.err);
}
