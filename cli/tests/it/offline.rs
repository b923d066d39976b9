//! What needs no server.

use crate::command::Place;
use crate::server::PASS;

#[test]
fn help_version_and_completions_are_printed() {
    let place = Place::new();
    for (arguments, expected) in [
        (&["--help"][..], "Exit codes:"),
        (&["help", "run"], "phasework run search.json"),
        (&["serve", "--help"], "PHASEWORK_COORDINATOR_QUEUES"),
        (&["demo", "--help"], "Ctrl-C cancels it"),
        (&["dead", "requeue", "--help"], "--all"),
        (&["--version"], "phasework 0."),
        (&["version"], "wire protocol 1"),
        (&["version", "--output", "json"], "\"protocol\": 1"),
        (&["completions", "bash"], "_clap_complete_phasework()"),
        (&["completions", "zsh"], "#compdef phasework"),
        (&["completions", "elvish"], "edit:completion:arg-completer"),
        (&["completions", "powershell"], "Register-ArgumentCompleter"),
        (&["man"], ".TH phasework 1"),
        (&["completions", "fish"], "complete --keep-order --exclusive --command phasework"),
    ] {
        place.check(arguments, 0, &[expected]);
    }
}

#[test]
fn a_command_line_that_makes_no_sense_is_exit_code_2() {
    let place = Place::new().file("pass.json", PASS);
    for (arguments, expected) in [
        (&[][..], "Usage: phasework"),
        (&["validat"], "similar subcommands exist: 'audit', 'validate'"),
        (&["runs", "show", "x"], "`x` is not a run id: run ids are UUIDs"),
        (&["runs", "list", "--state", "dead"], "[possible values: live, ended, all]"),
        (&["run", "pass", "--timeout", "5s"], "--follow"),
        (&["run", "pass", "--follow", "--timeout", "5"], "`5` is not a length of time such as"),
        (&["run", "pass.json", "--revision", "r1"], "--revision goes with the name of a stored workflow"),
        (&["run", "pass.json", "--data", "{x"], "--data is no JSON"),
        (&["run", "pass.json", "--data", "@nowhere"], "cannot read nowhere"),
        (&["run", "-", "--data", "-"], "cannot both come from stdin"),
        (&["run", "not a name"], "a workflow name has letters, digits"),
        (&["run", "./nowhere.json"], "cannot read ./nowhere.json"),
        (&["runs", "list", "--url", "127.0.0.1:7180"], "--url and PHASEWORK_API take http://"),
        (&["dead", "drop"], "required"),
        (&["dead", "drop", "--all", "x"], "cannot be used with"),
        (&["validate"], "required"),
        (&["validate", "nowhere.json"], "cannot read nowhere.json"),
    ] {
        place.check(arguments, 2, &[expected]);
    }
}

#[test]
fn a_server_that_is_not_there_is_exit_code_3() {
    // Port 1 of this machine: nothing listens there.
    let place = Place::new().with("PHASEWORK_API", "http://127.0.0.1:1").file("pass.json", PASS);
    let id = "0199a2b3-c4d5-7e6f-8a9b-0c1d2e3f4a5b";
    for arguments in [
        &["run", "pass"][..],
        &["run", "pass.json", "--follow"],
        &["runs", "list"],
        &["runs", "show", id],
        &["runs", "cancel", id],
        &["workflows", "list"],
        &["workflows", "show", "pass"],
        &["apply", "pass.json"],
        &["dead", "list"],
        &["dead", "drop", "--all", "--yes"],
        &["workers"],
    ] {
        let expected =
            ["error: the server at http://127.0.0.1:1 cannot be reached:", "hint: is it running? `phasework serve`"];
        assert_eq!(place.check(arguments, 3, &expected).out, "");
    }
}

const BAD: &str = r#"{
  "workflow": "bad",
  "phases": {
    "begin": { "is_initial": true, "transition_to": "end" },
    "end": { "is_final": true }
  }
}"#;

#[test]
fn definitions_are_checked_with_every_problem_where_it_is() {
    let place = Place::new().file("pass.json", PASS).file("bad.json", BAD).file("broken.json", "{");
    let good = "pass.json: workflow `pass` is valid: 2 phases";
    for (arguments, exit, expected) in [
        (&["validate", "pass.json"][..], 0, &[good][..]),
        (
            &["validate", "bad.json"],
            1,
            &[
                "bad.json:4:36",
                "\"transition_to\": \"end\"",
                "───────────────",
                "did you mean `transitions_to`?",
                "✘ bad.json: 2 problems",
            ],
        ),
        (&["validate", "broken.json"], 1, &["✘ broken.json: 1 problem"]),
        (&["validate", "pass.json", "bad.json"], 1, &[good, "✘ bad.json"]),
        (
            &["validate", "bad.json", "--output", "json"],
            1,
            &["\"valid\": false", "\"line\": 4", "\"column\": 36", "\"hint\": \"did you mean `transitions_to`?\""],
        ),
    ] {
        place.check(arguments, exit, expected);
    }
    let lines = place.check(&["validate", "pass.json", "bad.json", "--output", "jsonl"], 1, &[]).out;
    assert_eq!(lines.lines().count(), 2, "{lines}");
}
