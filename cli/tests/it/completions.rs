//! Completion in a real bash.

use std::process::Command;

use crate::command::Place;
use crate::server::{PASS, Server, WAIT};

/// What bash offers for the last of these words.
fn offered(place: &Place, words: &[&str]) -> Vec<String> {
    let last = words.len() - 1;
    let script = format!(
        "source <(phasework completions bash)\nCOMP_WORDS=({})\nCOMP_CWORD={last}\nCOMP_TYPE=9\n\
         _clap_complete_phasework phasework '{}' '{}'\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"",
        words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" "),
        words[last],
        words[last - 1],
    );
    let mut bash = Command::new("bash");
    place.surround(bash.args(["--norc", "-c", &script]));
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_phasework")).parent().unwrap().to_owned();
    let path =
        std::env::join_paths([program].into_iter().chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())));
    let output = bash.env("PATH", path.unwrap()).output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(err.is_empty(), "{err}");
    String::from_utf8(output.stdout).unwrap().split_whitespace().map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_options_and_names() {
    let server = Server::start();
    let place = server.place().file("wait.json", WAIT).file("pass.json", PASS);
    let config = place.path().join("config.toml");
    let place = place.with("PHASEWORK_CONFIG", config.to_str().unwrap());
    place.check(&["context", "add", "prod", "--url", &server.url], 0, &[]);
    place.check(&["apply", "pass.json"], 0, &[]);
    let live = place.check(&["run", "wait.json"], 0, &[]).out.trim().to_owned();
    let ended = place.check(&["run", "pass.json", "--data", "{\"name\":1}"], 0, &[]).out.trim().to_owned();
    place.check(&["runs", "follow", &ended], 0, &[]);
    for (words, expected) in [
        (&["phasework", "work"][..], &["workers", "workflows"][..]),
        (&["phasework", "runs", "re"], &["resume", "retry", "rerun"]),
        (&["phasework", "runs", "list", "--sta"], &["--state"]),
        (&["phasework", "runs", "list", "--state", ""], &["live", "ended", "all"]),
        (&["phasework", "runs", "show", ""], &[&live, &ended]),
        (&["phasework", "runs", "cancel", ""], &[&live]),
        (&["phasework", "workflows", "show", "pa"], &["pass"]),
        (&["phasework", "--context", ""], &["prod"]),
        (&["phasework", "context", "use", "p"], &["prod"]),
    ] {
        let offered = offered(&place, words);
        for name in expected {
            assert!(offered.iter().any(|offered| offered == name), "{words:?} offers {offered:?}, not {name}");
        }
        if words[1..] == ["runs", "cancel", ""] {
            assert!(!offered.contains(&ended), "{offered:?}");
        }
    }
}
