//! Programs that a command starts: they end with it.

use std::path::Path;

use crate::command::Place;

/// Whether a process is there and has not ended.
fn is_running(id: &str) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(id).join("stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, fields)| !fields.trim_start().starts_with(['Z', 'X']))
}

#[cfg(target_os = "linux")]
#[test]
fn a_worker_ends_with_who_tries_it() {
    for signal in ["HUP", "INT", "TERM"] {
        let place = Place::new();
        let directory = tempfile::tempdir().unwrap();
        let (begun, ids) = (directory.path().join("begun"), directory.path().join("ids"));
        assert!(std::process::Command::new("mkfifo").arg(&begun).status().unwrap().success());
        // What it starts goes as well.
        let script = format!("sh -c 'sleep 600 & echo $$ $! > {}; echo > {}; wait'", ids.display(), begun.display());
        let trying = place.start(&["certify", "--command", &script]);
        std::fs::read(&begun).unwrap();
        let ids = std::fs::read_to_string(&ids).unwrap();
        let ids: Vec<_> = ids.split_whitespace().collect();
        assert!(ids.len() == 2 && ids.iter().all(|id| is_running(id)), "{signal}: {ids:?}");
        trying.signal(signal);
        let done = trying.end();
        assert_eq!(done.exit, 130, "{signal}: {}{}", done.out, done.err);
        while ids.iter().any(|id| is_running(id)) {
            std::thread::yield_now();
        }
    }
}
