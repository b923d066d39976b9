//! Looking at a server: what is printed where and in which form, paging, looking again and again.

use serde_json::Value;

use crate::command::Place;
use crate::server::{FAIL, GREET, PASS, Server, WAIT};

/// The run that a command printed.
fn run_of(place: &Place, arguments: &[&str]) -> String {
    place.check(arguments, 0, &[]).out.trim().to_owned()
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn the_server_is_looked_at() {
    let server = Server::start();
    let place = server.place().file("pass.json", PASS);
    place.check(&["run", "pass.json", "--data", "{\"name\":\"Ann\"}", "--follow"], 0, &[]);
    place.check(&["status"], 0, &["ready    yes", "runs     0 live, 1 ended", "dead     no letters", &server.url]);
    let status = place.check(&["status", "-o", "json"], 0, &[]).out;
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!((&status["ready"], &status["runs"]["ended"]), (&true.into(), &1.into()));
    place.check(&["metrics"], 4, &["this program records no metrics"]);
    let away = Place::new().with("PHASEWORK_API", "http://127.0.0.1:1");
    away.check(&["status"], 3, &["cannot be reached"]);
}

#[test]
fn the_history_of_a_run_is_listed_and_followed() {
    let server = Server::start();
    let place = server.place().file("greet.json", GREET).file("wait.json", WAIT);
    let run = run_of(&place, &["run", "greet.json", "--data", "{\"names\":[\"Bo\"]}"]);
    let followed = place.check(&["runs", "history", &run, "--follow"], 0, &["entered `greeting`", "ended succeeded"]);
    assert_eq!(followed.err, "");
    let all = lines(&place.check(&["runs", "history", &run, "-o", "jsonl"], 0, &[]).out);
    let numbers: Vec<_> = all.iter().map(|event| event["n"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    assert_eq!(followed.out.lines().count(), numbers.len());
    let page = place.check(&["runs", "history", &run, "--after", "1", "--limit", "2"], 0, &["--after 3 shows them"]);
    assert!(!page.out.contains("started") && page.out.contains("AFTER"), "{}", page.out);
    assert!(page.out.contains("ACTOR") && page.out.contains(" api "), "{}", page.out);
    assert!(all.iter().all(|event| event["actor"].is_string()), "{all:?}");
    let waiting = run_of(&place, &["run", "wait.json"]);
    let following = place.start(&["runs", "history", &waiting, "--follow", "-o", "jsonl"]);
    place.check(&["runs", "cancel", &waiting, "--reason", "enough"], 0, &[]);
    let done = following.end();
    assert_eq!((done.exit, lines(&done.out).last().unwrap()["reason"].as_str()), (0, Some("enough")), "{}", done.out);
    place.check(&["runs", "history", &run, "--follow", "-o", "json"], 2, &["hint: --output jsonl"]);
}

#[test]
fn failed_jobs_are_listed_and_a_run_is_watched_again() {
    let server = Server::start();
    let place = server.place().file("fail.json", FAIL).file("pass.json", PASS);
    let run = run_of(&place, &["run", "fail.json"]);
    place.check(&["runs", "follow", &run], 1, &["is watched", "the run failed after", "the glass is broken"]);
    place.check(&["runs", "failures", &run], 0, &["Breaker", "the glass is broken", "TRIED"]);
    place.check(&["runs", "failures", &run, "--skip", "1"], 0, &["no job has failed for good"]);
    let failures = lines(&place.check(&["runs", "failures", &run, "-o", "jsonl"], 0, &[]).out);
    assert_eq!(failures[0]["error"]["message"], "the glass is broken");
    let passed = run_of(&place, &["run", "pass.json", "--data", "{\"name\":\"Ann\"}"]);
    let done = place.check(&["runs", "follow", &passed], 0, &[]);
    assert_eq!(done.out, "{\n  \"greeting\": \"hello Ann\"\n}\n");
}

#[test]
fn lists_go_on_by_themselves_and_say_when_there_is_more() {
    let server = Server::start();
    let place = server.place();
    for count in 1..=3 {
        server.set_aside("{}", count);
    }
    let page = place.check(&["dead", "list", "--limit", "2", "-o", "jsonl"], 0, &[]);
    assert_eq!((lines(&page.out).len(), page.err.as_str()), (2, "2 of 3; --skip and --limit show more\n"));
    place.check(&["dead", "list", "--limit", "2", "--skip", "1"], 0, &["KIND"]);
    let all = place.check(&["dead", "list", "--limit", "3"], 0, &[]);
    assert_eq!((all.out.lines().count(), all.err.as_str()), (4, ""));
}

#[test]
fn what_is_watched_is_told_when_it_changes_until_ctrl_c() {
    let server = Server::start();
    let place = server.place().file("wait.json", WAIT);
    let run = run_of(&place, &["run", "wait.json"]);
    for form in ["jsonl", "table"] {
        let mut watching = place.start(&["runs", "list", "--watch", "0.1", "-o", form]);
        let first = watching.line();
        watching.signal("INT");
        let done = watching.end();
        assert_eq!((done.exit, done.err.as_str()), (130, ""), "{}", done.out);
        let expected = if form == "jsonl" { run.as_str() } else { "RUN " };
        assert!(first.contains(expected), "{first}");
        assert!(!done.out.contains('\x1b'), "{}", done.out);
    }
    let mut watching = place.start(&["runs", "show", &run, "--watch", "0.1", "-o", "jsonl"]);
    assert!(watching.line().contains("\"running\""));
    place.check(&["runs", "cancel", &run], 0, &[]);
    let done = watching.end();
    let last = lines(&done.out).pop().unwrap();
    assert_eq!((done.exit, last["state"].as_str()), (0, Some("canceled")), "it ends with the run");
    place.check(&["runs", "list", "--watch", "-o", "json"], 2, &["--watch does not go with one JSON document"]);
    place.check(&["runs", "show", "--watch", &run], 2, &["what is to be shown goes before --watch"]);
}

#[test]
fn colours_are_where_they_are_wanted() {
    let server = Server::start();
    let place = server.place().file("wait.json", WAIT);
    run_of(&place, &["run", "wait.json"]);
    for (variable, arguments, expected) in [
        (None, &["runs", "list", "--color", "always"][..], true),
        (None, &["--color", "always", "runs", "list"], true),
        (Some("CLICOLOR_FORCE"), &["runs", "list"], true),
        (Some("CLICOLOR_FORCE"), &["runs", "list", "--color", "never"], false),
        (Some("NO_COLOR"), &["runs", "list", "--color", "auto"], false),
    ] {
        let place = server.place();
        let place = variable.into_iter().fold(place, |place, name| place.with(name, "1"));
        let done = place.run(arguments);
        assert_eq!(
            (done.exit, done.out.contains("\x1b[36mrunning")),
            (0, expected),
            "{variable:?} {arguments:?}: {}",
            done.out
        );
    }
}

#[test]
fn top_prints_once_for_scripts() {
    let server = Server::start();
    let place = server.place().file("wait.json", WAIT).file("greet.json", GREET);
    run_of(&place, &["run", "wait.json"]);
    place.check(&["run", "greet.json", "--data", "{\"names\":[\"Bo\"]}", "--follow"], 0, &[]);
    let expected = ["runs      1 live, 1 ended", "1 for a worker", "1 coordinator", "Nobody", "Greeter", "WAITS FOR"];
    let done = place.check(&["top", "--once"], 0, &expected);
    assert_eq!(done.err, "");
    let figures: Value = serde_json::from_str(&place.check(&["top", "--once", "-o", "json"], 0, &[]).out).unwrap();
    let nobody = figures["handlers"].as_array().unwrap().iter().find(|row| row["handler"] == "Nobody").unwrap();
    assert_eq!((&nobody["backlog"], &nobody["workers"]), (&1.into(), &0.into()));
    assert!(figures["runs"]["jobs_per_s"].is_number());
    place.check(&["top"], 2, &["top draws on a terminal", "hint: --once prints once"]);
    Place::new().with("PHASEWORK_API", "http://127.0.0.1:1").check(&["top", "--once"], 3, &["cannot be reached"]);
}
