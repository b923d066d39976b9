//! Watching a run to its end: what is told on the way, the result on stdout, the exit code.

use crate::server::{FAIL, GREET, HALT, PASS, Server, WAIT};

#[test]
fn the_exit_code_is_the_runs() {
    let server = Server::start();
    let place = server
        .place()
        .file("pass.json", PASS)
        .file("greet.json", GREET)
        .file("wait.json", WAIT)
        .file("fail.json", FAIL)
        .file("halt.json", HALT);
    let three = r#"{"names":["Ann","Bo","Cy"]}"#;
    let rows: [(&[&str], i32, &[&str]); 6] = [
        (
            &["pass.json", "--data", "{\"name\":\"\"}"],
            0,
            &["✔ begin", "✔ run succeeded after", "\"greeting\": \"hello \""],
        ),
        (&["greet.json", "--data", three], 0, &["✔ greeting", "Greeter 3/3", "\"hello Cy\""]),
        (&["greet.json", "--data", three, "--output", "json"], 0, &["\"state\": \"succeeded\"", "\"output\": {"]),
        (&["fail.json"], 1, &["the run failed after", "in phase `breaking`, Breaker job 0: the glass is broken"]),
        (&["halt.json"], 1, &["the run halted after", "the glass is broken", "`phasework runs retry "]),
        (
            &["wait.json", "--timeout", "1s"],
            1,
            &["the run has not ended after", "it is in phase `begin`", "it goes on"],
        ),
    ];
    for (arguments, exit, expected) in rows {
        place.check(&[&["run", "--follow"], arguments].concat(), exit, expected);
    }
}

#[test]
fn only_the_result_goes_to_stdout() {
    let server = Server::start();
    let place = server.place().file("pass.json", PASS);
    let done = place.check(&["run", "pass.json", "--data", "{\"name\":\"Ann\"}", "--follow"], 0, &[]);
    assert_eq!(done.out, "{\n  \"greeting\": \"hello Ann\"\n}\n");
}

#[test]
fn ctrl_c_stops_watching_and_the_run_goes_on() {
    let server = Server::start();
    let place = server.place().file("wait.json", WAIT);
    let mut watching = place.start(&["run", "wait.json", "--follow"]);
    watching.until("> begin");
    watching.signal("INT");
    let done = watching.end();
    assert_eq!(done.exit, 130, "{}", done.err);
    assert!(done.err.contains("the run goes on; `phasework runs follow "), "{}", done.err);
    place.check(&["runs", "list", "--state", "live"], 0, &["running"]);
}

#[test]
fn a_run_that_stands_still_is_told_what_it_waits_for() {
    let server = Server::start();
    let place = server.place().file("wait.json", WAIT);
    let mut watching = place.start(&["run", "wait.json", "--follow"]);
    watching.until("begin waits for a worker that hosts Nobody");
}
