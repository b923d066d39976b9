//! `serve`: from settings to a running engine, and to its end.

use std::os::unix::fs::PermissionsExt as _;

use crate::command::{Place, Running};
use crate::server::PASS;

/// Reads the log up to where the API listens, and gives its address.
pub(crate) fn address(serving: &mut Running) -> String {
    let line = serving.until("phasework listens on http://");
    let rest = &line[line.find("http://").unwrap()..];
    rest.split([' ', '"']).next().unwrap().to_owned()
}

/// An engine with nothing but memory.
pub(crate) const IN_MEMORY: [&str; 7] =
    ["serve", "--broker", "memory:", "--store", "memory:", "--listen", "127.0.0.1:0"];

#[test]
fn an_engine_in_memory_serves_until_it_is_told_to_stop() {
    for (format, signal, expected) in
        [("text", "TERM", "stopped; all work is safe"), ("json", "INT", "\"level\":\"INFO\"")]
    {
        let place = Place::new().file("pass.json", PASS).with("PHASEWORK_LOG_FORMAT", format);
        let mut serving = place.start(&IN_MEMORY);
        let url = address(&mut serving);
        serving.until("ready: the broker and the store can be used");
        place.check(&["run", "pass.json", "--data", "{\"name\":\"Bo\"}", "--follow", "--url", &url], 0, &["hello Bo"]);
        place.check(&["audit", "--url", &url], 0, &["0 live runs looked at, nothing found"]);
        serving.signal(signal);
        let done = serving.end();
        assert_eq!(done.exit, 0, "{}", done.err);
        assert!(done.err.contains(expected), "{}", done.err);
    }
}

#[test]
fn tokens_that_others_can_read_are_warned_of() {
    let place = Place::new().file("tokens", "bob=b0b\n");
    for (mode, expected) in
        [(0o640, "tokens holds tokens and others can read it (mode 0640)"), (0o600, "phasework listens")]
    {
        std::fs::set_permissions(place.path().join("tokens"), std::fs::Permissions::from_mode(mode)).unwrap();
        let mut serving = place.start(&[&IN_MEMORY[..], &["--tokens-file", "tokens"]].concat());
        serving.until(expected);
        serving.signal("TERM");
        let done = serving.end();
        assert_eq!((done.exit, done.err.contains("others can read")), (0, mode == 0o640), "{}", done.err);
    }
}

#[test]
fn what_is_not_there_yet_is_waited_for() {
    // Port 1 of this machine: nothing listens there.
    let (rabbit, redis) = ("amqp://user:sekret@127.0.0.1:1", "redis://:sekret@127.0.0.1:1");
    for (broker, store, waits) in [
        (rabbit, "memory:", "the broker is not there yet; trying again"),
        ("memory:", redis, "the store is not there yet; trying again"),
        (rabbit, redis, "the broker is not there yet; trying again"),
    ] {
        let place = Place::new();
        let mut serving = place.start(&["serve", "--broker", broker, "--store", store, "--listen", "127.0.0.1:0"]);
        let url = address(&mut serving);
        serving.until(waits);
        let part = if waits.contains("broker") { "broker: " } else { "store: " };
        place.check(&["runs", "list", "--url", &url], 3, &["the engine is starting: ", part]);
        serving.signal("TERM");
        let done = serving.end();
        assert_eq!(done.exit, 0, "{}", done.err);
        assert!(done.err.contains(":***@127.0.0.1:1") && !done.err.contains("sekret"), "{}", done.err);
    }
}

#[test]
fn what_cannot_be_served_is_exit_code_2() {
    let file = "broker = \"memory:\"\nstore = \"memory:\"\nlisten = \"0.0.0.0:0\"\n";
    let place = Place::new().file("open.toml", file).file("typo.toml", "brokr = \"memory:\"");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let rows: [(&[&str], &[&str]); 8] = [
        (&[], &["no broker is given (--broker or PHASEWORK_BROKER)", "no store is given", "hint: "]),
        (&["--broker", "amqp://u:sekret@:5", "--store", "memory:"], &["--broker: this is no URL"]),
        (
            &["--broker", "http://127.0.0.1", "--store", "x"],
            &["--broker: `http:` is not a scheme", "--store: this is no URL"],
        ),
        (
            &["--config", "open.toml"],
            &["can be reached from other machines", "--token or PHASEWORK_TOKEN sets a token"],
        ),
        (&["--config", "open.toml", "--token", "two words"], &["visible ASCII characters only"]),
        (&["--config", "typo.toml"], &["typo.toml: there is no setting `brokr`; did you mean `broker`?"]),
        (&["--config", "nowhere.toml"], &["cannot read nowhere.toml"]),
        (&["--config", "open.toml", "--listen", &taken], &["cannot listen on", "--listen takes another address"]),
    ];
    for (arguments, expected) in rows {
        let done = place.check(&[&["serve"], arguments].concat(), 2, expected);
        assert!(!done.err.contains("sekret"), "{}", done.err);
    }
}

#[test]
fn settings_are_shown_with_where_they_come_from() {
    let place = Place::new()
        .file("phasework.toml", "broker = \"amqp://u:sekret@h\"\nretention = \"30d\"\nprefix = \"shop\"\n")
        .with("PHASEWORK_STORE", "memory:")
        .with("PHASEWORK_PREFIX", "stall")
        .with("PHASEWORK_TOKEN", "sekret");
    let done = place.check(&["serve", "--coordinator-queues", "4", "--show-settings"], 0, &[]);
    let shown: Vec<Vec<&str>> = done.out.lines().map(|line| line.split_whitespace().collect()).collect();
    let expected = [
        "broker = amqp://u:***@h (phasework.toml)",
        "store = memory: (environment)",
        "state not set",
        "listen = 127.0.0.1:7180 (default)",
        "token = *** (environment)",
        "tokens not set",
        "tokens_file not set",
        "worker_token not set",
        "name not set",
        "prefix = stall (environment)",
        "coordinator_queues = 4 (flag)",
        "retention = 30d (phasework.toml)",
        "log_format = text (default)",
    ];
    assert_eq!(shown.iter().map(|words| words.join(" ")).collect::<Vec<_>>(), expected);
}
