//! Recorded jobs, given to a worker again: this program, started as one.

use phasework_sdk::{Context, HandlerError, Worker};
use serde_json::Value;

use crate::command::Place;
use crate::server::{FAIL, GREET, Server};

/// How this program is started as a worker.
fn command() -> String {
    let program = std::env::current_exe().unwrap();
    format!("'{}' replay::be_a_worker --exact --ignored --nocapture", program.display())
}

#[test]
#[ignore = "this is the worker that the other tests start"]
fn be_a_worker() {
    rustls::crypto::ring::default_provider().install_default().ok(); // another test may have been first
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let greet = |name: String, _: Context| async move {
        let greeting = std::env::var("PHASEWORK_TEST_GREETING").unwrap_or_else(|_| "hello".to_owned());
        Ok::<_, HandlerError>(format!("{greeting} {name}"))
    };
    let break_down = |_: Value, _: Context| async { Err::<(), _>(HandlerError::fail("the glass is broken")) };
    runtime.block_on(async {
        let worker = Worker::from_env().unwrap();
        worker.handler("Greeter", "1.1.0", greet).handler("Breaker", "1.0.0", break_down).run().await.unwrap();
    });
}

/// A place with an exported run of this definition.
fn exported(definition: &str, data: &str) -> Place {
    let server = Server::start();
    let place = server.place().file("w.json", definition);
    let run = place.check(&["run", "w.json", "--data", data], 0, &[]).out.trim().to_owned();
    place.run(&["runs", "follow", &run]);
    place.check(&["runs", "export", &run, "run.jsonl"], 0, &[]);
    place.check(&["runs", "export", &run, "redacted.jsonl", "--redact"], 0, &[]);
    place
}

#[test]
fn a_worker_that_gives_the_same_again_is_told_from_one_that_does_not() {
    let place = exported(GREET, "{\"names\":[\"Ann\",\"Bo\",\"Cy\"]}");
    let replay = |place: &Place, more: &[&str], exit, expected: &[&str]| {
        let command = command();
        let usual = ["runs", "replay", "run.jsonl", "--phase", "greeting", "--command", &command];
        place.check(&[&usual[..], more].concat(), exit, expected)
    };
    let done = replay(&place, &[], 0, &["Greeter job 2  ✔ same", "3 of 3 the same", "Greeter is 1.1.0; it was 1.0.0"]);
    assert_eq!(done.out.lines().count(), 3);
    replay(&place, &["--job", "1", "-o", "json"], 0, &["\"same\": 1", "\"output\": \"hello Bo\""]);
    let place = place.with("PHASEWORK_TEST_GREETING", "goodbye");
    replay(&place, &[], 1, &["Greeter job 0  ✘ differs", "- \"hello Ann\"", "+ \"goodbye Ann\"", "3 different"]);
}

#[test]
fn a_job_that_failed_is_expected_to_fail_again() {
    let place = exported(FAIL, "{}");
    let replay = ["runs", "replay", "run.jsonl", "--phase", "breaking", "--command"];
    place.check(&[&replay[..], &[&command()]].concat(), 0, &["Breaker job 0  ✔ same"]);
    place.check(&[&replay[..], &["sh -c 'echo no; exit 3'"]].concat(), 1, &["it ended with exit status: 3", "no"]);
}

#[test]
fn what_cannot_be_replayed_is_said() {
    let place = exported(GREET, "{\"names\":[\"Ann\"]}");
    let rows: [(&[&str], i32, &str); 4] = [
        (
            &["run.jsonl", "--phase", "greting"],
            4,
            "has no jobs with inputs in phase `greting`; did you mean `greeting`?",
        ),
        (&["run.jsonl", "--phase", "greeting", "--job", "9"], 4, "none of these jobs is in the file"),
        (&["redacted.jsonl", "--phase", "greeting"], 2, "redacted.jsonl is redacted: it has no inputs"),
        (&["nowhere.jsonl", "--phase", "greeting"], 2, "cannot read nowhere.jsonl"),
    ];
    for (arguments, exit, expected) in rows {
        place.check(&[&["runs", "replay", "--command", "true"], arguments].concat(), exit, &[expected]);
    }
}
