//! The commands that talk to a server: command line, exit code, what is printed.

use serde_json::Value;

use crate::command::Place;
use crate::server::{GREET, PASS, Server, WAIT};

/// The run that a command printed.
fn run_of(place: &Place, arguments: &[&str]) -> String {
    place.check(arguments, 0, &[]).out.trim().to_owned()
}

#[test]
fn definitions_are_stored_and_shown() {
    let server = Server::start();
    let bad = r#"{ "workflow": "bad", "phases": { "begin": { "is_initial": true } } }"#;
    let place = server.place().file("pass.json", PASS).file("greet.json", GREET).file("bad.json", bad);
    let nothing: [(&[&str], i32, &[&str]); 11] = [
        (&["workflows", "list"], 0, &["no workflows; `phasework apply FILE` stores one"]),
        (
            &["apply", "pass.json", "bad.json"],
            2,
            &["bad.json:1:34", "does not say where it leads", "nothing was stored"],
        ),
        (&["workflows", "list"], 0, &["no workflows"]),
        (&["apply", "pass.json", "greet.json"], 0, &["WORKFLOW", "pass ", "greet ", "new"]),
        (&["apply", "pass.json"], 0, &["unchanged"]),
        (&["apply", "pass.json", "--output", "jsonl"], 0, &["\"created\":false"]),
        (&["workflows", "list"], 0, &["greet", "pass", "PHASES"]),
        (&["workflows", "list", "--output", "jsonl"], 0, &["\"name\":\"pass\""]),
        (&["workflows", "show", "pass"], 0, &["pass (revision ", "\"is_initial\": true"]),
        (&["workflows", "show", "pas"], 4, &["error: there is no workflow `pas`; did you mean `pass`?"]),
        (&["workflows", "show", "pass", "--revision", "r1"], 4, &["workflow `pass` has no revision r1"]),
    ];
    for (arguments, exit, expected) in nothing {
        place.check(arguments, exit, expected);
    }
}

#[test]
fn runs_are_started_listed_shown_and_canceled() {
    let server = Server::start();
    let place = server.place().file("wait.json", WAIT).file("pass.json", PASS).file("data.json", "{\"name\":\"Ann\"}");
    place.check(&["runs", "list"], 0, &["no runs; `phasework run FILE` starts one"]);
    let waiting = run_of(&place, &["run", "wait.json", "--key", "order-7"]);
    let again = place.check(&["run", "wait", "--key", "order-7"], 0, &["was there before; it is running"]);
    assert_eq!(again.out.trim(), waiting);
    place.check(&["run", "pass.json", "--data", "@data.json", "--follow"], 0, &["\"greeting\": \"hello Ann\""]);
    let rows: [(&[&str], i32, &[&str]); 13] = [
        (&["run", "nowhere"], 4, &["there is no workflow `nowhere`", "`phasework workflows list`"]),
        (&["run", "pass", "--data", "@data.json", "--output", "json"], 0, &["\"created\": true"]),
        (&["runs", "list"], 0, &["RUN", &waiting, "running", "succeeded"]),
        (&["runs", "list", "--limit", "1"], 0, &["the newest 1 of 1 live and 2 ended runs; --limit shows more"]),
        (&["runs", "list", "--state", "live", "--output", "jsonl"], 0, &[&waiting]),
        (
            &["runs", "show", &waiting],
            0,
            &["key       order-7", "waits for a worker that hosts Nobody", "entered `begin`"],
        ),
        (&["runs", "show", &waiting, "--output", "json"], 0, &["\"history\": [", "\"failures\": []"]),
        (&["runs", "cancel", &waiting, "--reason", "enough"], 0, &["canceled"]),
        (&["runs", "cancel", &waiting], 0, &["was canceled before"]),
        (&["runs", "show", &waiting], 0, &["state     canceled after", "ended canceled: enough"]),
        (&["runs", "list", "--state", "live"], 0, &["no runs"]),
        (&["runs", "show", "0199a2b3-c4d5-7e6f-8a9b-0c1d2e3f4a5b"], 4, &["error: there is no run 0199a2b3"]),
        (&["runs", "cancel", "0199a2b3-c4d5-7e6f-8a9b-0c1d2e3f4a5b"], 4, &["error: there is no "]),
    ];
    for (arguments, exit, expected) in rows {
        place.check(arguments, exit, expected);
    }
    let list = place.check(&["runs", "list", "--state", "ended", "--output", "json"], 0, &[]).out;
    let list: Value = serde_json::from_str(&list).unwrap();
    assert_eq!(list["counts"]["ended"], 3);
    let ended = list["runs"].as_array().unwrap().iter().find(|run| run["workflow"] == "pass").unwrap();
    let id = ended["run"].as_str().unwrap();
    place.check(&["runs", "cancel", id], 1, &["error: a run that has succeeded cannot be canceled"]);
}

#[test]
fn dead_letters_are_looked_at_put_back_and_dropped() {
    let server = Server::start();
    let place = server.place();
    place.check(&["dead", "list"], 0, &["no dead letters"]);
    place.check(&["dead", "requeue", "--all"], 0, &["no dead letters"]);
    for count in 1..=3 {
        server.set_aside("{ \"what\": 1 }", count);
    }
    let list = place.check(&["dead", "list", "--limit", "1", "--output", "jsonl"], 0, &["submit"]).out;
    let id = serde_json::from_str::<Value>(&list).unwrap()["id"].as_str().unwrap().to_owned();
    let rows: [(&[&str], i32, &[&str]); 9] = [
        (&["dead", "list"], 0, &[&id, "Nonsense", "REASON"]),
        (&["dead", "list", "--limit", "2"], 0, &["2 of 3; --skip and --limit show more"]),
        (&["dead", "show", &id], 0, &["queue   submit", "\"what\": 1"]),
        (&["dead", "show", "x"], 4, &["there is no dead letter x"]),
        (&["dead", "drop", &id], 0, &["1 of 1 dropped"]),
        (&["dead", "drop", &id, "x"], 4, &["there is no dead letter x", "0 of 2 dropped"]),
        (&["dead", "drop", "--all"], 2, &["--all asks first, and nobody is there to answer", "--yes goes ahead"]),
        (&["dead", "drop", "--all", "--yes", "--output", "jsonl"], 0, &["\"result\":\"dropped\""]),
        (&["dead", "list"], 0, &["no dead letters"]),
    ];
    for (arguments, exit, expected) in rows {
        place.check(arguments, exit, expected);
    }
}

#[test]
fn what_is_put_back_and_dies_again_is_not_put_back_again() {
    let server = Server::start();
    server.set_aside("{}", 1);
    server.place().check(&["dead", "requeue", "--all", "--yes"], 0, &["1 of 1 requeued"]);
    server.set_aside("{}", 2);
}

#[test]
fn workers_are_listed_with_what_they_host() {
    let server = Server::start();
    let place = server.place().file("greet.json", GREET);
    // A run that was served shows that the worker is known.
    place.check(&["run", "greet.json", "--data", "{\"names\":[\"Bo\"]}", "--follow"], 0, &["hello Bo"]);
    place.check(&["workers"], 0, &["HANDLER", "Greeter", "Breaker", "1.0.0", "live"]);
    place.check(&["workers", "--output", "json"], 0, &["\"name\": \"Greeter\""]);
}

#[test]
fn a_token_is_asked_for_and_never_shown() {
    let server = Server::with_token(Some("s3cret"));
    for (place, exit, expected) in [
        (server.place(), 2, "--token or PHASEWORK_TOKEN gives the token"),
        (server.place().with("PHASEWORK_TOKEN", "wr0ng"), 2, "this is not the token"),
        (server.place().with("PHASEWORK_TOKEN", "s3cret"), 0, "no runs"),
    ] {
        let done = place.check(&["runs", "list"], exit, &[expected]);
        assert!(!done.err.contains("s3cret") && !done.err.contains("wr0ng"), "{}", done.err);
    }
    let help =
        server.place().with("PHASEWORK_TOKEN", "s3cret").check(&["runs", "list", "--help"], 0, &["PHASEWORK_TOKEN"]);
    assert!(!help.out.contains("s3cret"));
}

#[test]
fn the_server_is_named_before_the_command_or_behind_it() {
    let server = Server::with_token(Some("s3cret"));
    let (place, url) = (Place::new(), server.url.as_str());
    let rows: [&[&str]; 5] = [
        &["--url", url, "--token", "s3cret", "runs", "list"],
        &["runs", "--url", url, "list", "--token", "s3cret"],
        &["--token", "s3cret", "runs", "list", "--url", url],
        &["runs", "list", "--url", url, "--token", "s3cret"],
        &["--url", "http://127.0.0.1:1", "runs", "list", "--url", url, "--token", "s3cret"],
    ];
    for arguments in rows {
        place.check(arguments, 0, &["no runs"]);
    }
    let elsewhere = Place::new().with("PHASEWORK_API", "http://127.0.0.1:1").with("PHASEWORK_TOKEN", "wr0ng");
    elsewhere.check(rows[0], 0, &["no runs"]);
}
