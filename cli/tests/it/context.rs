//! Contexts: the file, the commands, and what goes before what.

use std::os::unix::fs::PermissionsExt as _;

use crate::command::Place;
use crate::server::Server;

#[test]
fn contexts_are_added_chosen_asked_and_removed() {
    let server = Server::with_token(Some("s3cret"));
    let place = Place::new();
    let config = place.path().join("made/config.toml");
    let place = place.with("PHASEWORK_CONFIG", config.to_str().unwrap()).file("token", "s3cret\n");
    let rows: [(&[&str], i32, &[&str]); 17] = [
        (&["context", "add", "prod", "--url", "phasework.example"], 2, &["the server's URL is not one"]),
        (&["context", "add", "prod", "--url", &server.url, "--token", "s3cret"], 0, &["asked from now on"]),
        (&["context", "add", "prod", "--url", "http://127.0.0.1:1"], 2, &["there is a context `prod`", "--force"]),
        (&["context", "add", "filed", "--url", &server.url, "--token-file", "token"], 0, &["`filed` is kept in"]),
        (
            &[
                "context",
                "add",
                "told",
                "--url",
                &server.url,
                "--token-command",
                "echo s3c''ret",
                "--default-output",
                "json",
            ],
            0,
            &["`told` is kept in"],
        ),
        (&["context", "add", "away", "--url", "http://127.0.0.1:1"], 0, &[]),
        (&["context", "list"], 0, &["*  prod", "in the file", "from `echo s3c''ret`", "json"]),
        (&["context", "show", "filed", "-o", "json"], 0, &["\"token_from\": \"token_file\"", "\"current\": false"]),
        (&["runs", "list"], 0, &["no runs"]),
        (&["runs", "list", "--context", "filed"], 0, &["no runs"]),
        (&["--context", "told", "runs", "list"], 0, &["\"runs\": []"]),
        (&["runs", "list", "--context", "away"], 3, &["http://127.0.0.1:1 cannot be reached"]),
        (&["runs", "list", "--context", "prd"], 4, &["there is no context `prd` in", "did you mean `prod`?"]),
        (&["context", "use", "told"], 0, &["`told` is asked from now on"]),
        (&["runs", "list"], 0, &["\"runs\": []"]),
        (&["context", "remove", "told"], 0, &["no context is the current one now"]),
        (&["context", "show"], 4, &["no context is chosen"]),
    ];
    for (arguments, exit, expected) in rows {
        let done = place.check(arguments, exit, expected);
        assert!(!done.out.contains("s3cret") && !done.err.contains("s3cret"), "{arguments:?} {}{}", done.out, done.err);
    }
    assert_eq!(std::fs::metadata(&config).unwrap().permissions().mode() & 0o777, 0o600);
    let place = place.with("PHASEWORK_CONTEXT", "filed");
    place.check(&["runs", "list"], 0, &["no runs"]);
    place.check(&["runs", "list", "--context", "away"], 3, &["cannot be reached"]);
    place.check(&["runs", "list", "--context", "prod", "-o", "json"], 0, &["\"runs\": []"]);
    let place = place.with("PHASEWORK_API", "http://127.0.0.1:1");
    place.check(&["runs", "list"], 3, &["http://127.0.0.1:1 cannot be reached"]);
    place.check(&["runs", "list", "--context", "prod"], 0, &["no runs"]);
    let place = place.with("PHASEWORK_OUTPUT", "json");
    place.check(&["runs", "list", "--context", "prod"], 0, &["\"runs\": []"]);
}

#[test]
fn a_file_that_others_can_read_or_that_makes_no_sense_is_told() {
    let place = Place::new()
        .file("config.toml", "context = \"pord\"\n[contexts.prod]\nurl = \"http://127.0.0.1:1\"\ntoken = \"s3cret\"\n");
    let config = place.path().join("config.toml");
    let place = place.with("PHASEWORK_CONFIG", config.to_str().unwrap());
    std::fs::set_permissions(&config, std::fs::Permissions::from_mode(0o644)).unwrap();
    place.check(
        &["runs", "list"],
        4,
        &["config.toml:1: there is no context `pord`; did you mean `prod`?", "chmod 600"],
    );
    std::fs::set_permissions(&config, std::fs::Permissions::from_mode(0o600)).unwrap();
    let done = place.check(&["context", "use", "prod"], 0, &[]);
    assert!(!done.err.contains("chmod"), "{}", done.err);
    let place = place.file("config.toml", "[contexts.prod]\nulr = \"http://127.0.0.1:1\"\n");
    place.check(&["runs", "list"], 2, &["config.toml:2: a context has no key `ulr`; did you mean `url`?"]);
    place.check(
        &["runs", "list", "--url", "http://127.0.0.1:1", "--token", "t", "-o", "json"],
        3,
        &["cannot be reached"],
    );
    let place = place.with("PHASEWORK_CONFIG", "nowhere.toml");
    place.check(&["runs", "list"], 2, &["cannot read nowhere.toml", "PHASEWORK_CONFIG names it"]);
}

#[test]
fn the_file_is_the_settings_file_of_serve_as_well() {
    let text = "context = \"prod\"\nbroker = \"memory:\"\nstore = \"memory:\"\n[contexts.prod]\nurl = \"http://127.0.0.1:1\"\n";
    let place = Place::new().file("both.toml", text).with("PHASEWORK_CONFIG", "both.toml");
    place.check(&["serve", "--show-settings"], 0, &["broker             = memory:"]);
    place.check(&["runs", "list"], 3, &["http://127.0.0.1:1 cannot be reached"]);
}
