//! Which layer wins, what is refused, and that no password is shown.

use super::*;

fn file(text: &str) -> Result<SettingsFile, Failure> {
    SettingsFile::read(Path::new("phasework.toml"), text)
}

/// The value of `retention`, and where it came from.
fn layered(flag: Option<&str>, variable: Option<&str>, in_file: Option<&str>) -> (String, Origin) {
    let file = in_file.map(|text| file(text).unwrap());
    let environment = |name: &str| variable.filter(|_| name == "PHASEWORK_RETENTION").map(str::to_owned);
    let layers = Layers::new(&[(Key::RETENTION, flag)], environment, file.as_ref());
    layers.0[&Key::RETENTION].clone()
}

#[test]
fn flags_go_before_the_environment_before_the_file_before_defaults() {
    let one = "retention = \"1d\"";
    let in_file = || Origin::File("phasework.toml".into());
    for (flag, variable, in_file, expected) in [
        (Some("3d"), Some("2d"), Some(one), ("3d", Origin::Flag)),
        (Some("3d"), None, None, ("3d", Origin::Flag)),
        (None, Some("2d"), Some(one), ("2d", Origin::Environment)),
        (None, Some("2d"), None, ("2d", Origin::Environment)),
        (None, Some(" "), Some(one), ("1d", in_file())),
        (None, None, Some(one), ("1d", in_file())),
        (None, None, Some("prefix = \"shop\""), ("7d", Origin::Default)),
        (None, None, None, ("7d", Origin::Default)),
    ] {
        let (value, origin) = layered(flag, variable, in_file);
        assert_eq!((value.as_str(), origin), expected, "{flag:?} {variable:?} {in_file:?}");
    }
}

#[test]
fn a_file_is_refused_with_everything_that_is_wrong_with_it() {
    for (text, expected) in [
        ("retension = \"7d\"", &["there is no setting `retension`; did you mean `retention`?"][..]),
        ("coordinator-queues = 3", &["did you mean `coordinator_queues`?"]),
        ("zzz = 1\nlisten = true", &["there is no setting `zzz`", "`listen` must be a text or a whole number"]),
        ("[broker]\nurl = \"amqp://b\"", &["`broker` must be a text"]),
        ("broker = \"amqp://u:sekret@h\nstore = 1", &["line 1, column"]),
    ] {
        let message = file(text).unwrap_err().message;
        assert!(message.starts_with("phasework.toml: "), "{message}");
        for part in expected {
            assert!(message.contains(part), "{part} is missing in: {message}");
        }
        assert!(!message.contains("sekret"), "{message}");
    }
}

/// Reads these settings, beside a broker and a store in memory.
fn read(set: &[(Key, &str)]) -> Result<Settings, Failure> {
    let mut flags = vec![(Key::BROKER, Some("memory:")), (Key::STORE, Some("memory:"))];
    for (key, value) in set {
        flags.retain(|(other, _)| other != key);
        flags.push((*key, Some(*value)));
    }
    Settings::read(&Layers::new(&flags, |_| None, None), "box-1")
}

#[test]
fn settings_are_read() {
    let usual = read(&[]).unwrap();
    assert_eq!((usual.broker, usual.store), (BrokerUrl::Memory, StoreUrl::Memory));
    assert_eq!(usual.listen.to_string(), "127.0.0.1:7180");
    assert_eq!((&*usual.engine.name, usual.prefix.as_str(), usual.tokens.is_empty()), ("box-1", "phasework", true));
    let said = read(&[
        (Key::BROKER, "amqps://u:p@rabbit/vhost"),
        (Key::STORE, "rediss://:p@redis:6379/0"),
        (Key::COORDINATOR_QUEUES, "16"),
        (Key::RETENTION, "36h"),
        (Key::NAME, "c1"),
        (Key::LOG_FORMAT, "json"),
    ]);
    let said = said.unwrap();
    assert_eq!(said.broker, BrokerUrl::Rabbit("amqps://u:p@rabbit/vhost".into()));
    assert_eq!(said.store, StoreUrl::Redis("rediss://:p@redis:6379/0".into()));
    assert_eq!((said.engine.coordinator_queues, said.engine.retention.0), (16, 36 * 3_600_000));
    assert_eq!((&*said.engine.name, said.log_format), ("c1", LogFormat::Json));
}

#[test]
fn a_setting_that_cannot_be_is_named_with_where_it_came_from() {
    for (key, value, expected) in [
        (Key::BROKER, "http://127.0.0.1", "--broker: `http:` is not a scheme for this; expected amqp://"),
        (Key::BROKER, "amqp://u:sekret@", "--broker: this is no URL"),
        (Key::BROKER, "sekret", "--broker: this is no URL"),
        (Key::STORE, "redis://u:sekret@h:99999", "--store: this is no URL"),
        (Key::STORE, "amqp://u:sekret@h", "--store: `amqp:` is not a scheme for this; expected redis://"),
        (Key::STORE, "sqlite:", "--store: no directory is named"),
        (Key::STORE, "sqlite:~/state", "--store: `~/state`: nobody puts your home in the place of `~` here"),
        (Key::STORE, "sqlite://state/a", "--store: `sqlite://state/a` is no path; expected sqlite:DIR"),
        (Key::STORE, "sqlit:state", "--store: `sqlit:` is not a scheme for this"),
        (Key::LISTEN, "7180", "--listen: `7180` is not an address"),
        (Key::PREFIX, "a.b", "--prefix: a prefix name has"),
        (Key::COORDINATOR_QUEUES, "many", "--coordinator-queues: `many` is not a number of queues"),
        (Key::COORDINATOR_QUEUES, "0", "coordinator_queues must be 1 to 256"),
        (Key::RETENTION, "7", "--retention: `7` is not a length of time"),
        (Key::RETENTION, "1ms", "retention must be at least 1s"),
        (Key::LOG_FORMAT, "xml", "--log-format: `xml` is neither text nor json"),
    ] {
        let failure = read(&[(key, value)]).err().unwrap();
        assert_eq!(failure.exit, crate::failure::Exit::Usage);
        assert!(failure.message.starts_with(expected), "{}", failure.message);
        assert!(!failure.message.contains("sekret"), "{}", failure.message);
    }
    let layers = Layers::new(&[], |name| (name == "PHASEWORK_LISTEN").then(|| "here".to_owned()), None);
    let message = Settings::read(&layers, "box-1").err().unwrap().message;
    for part in ["no broker is given", "no store is given", "PHASEWORK_LISTEN: `here`"] {
        assert!(message.contains(part), "{part} is missing in: {message}");
    }
}

#[test]
fn a_store_may_be_a_directory() {
    for dir in ["state", "./a b/c", "/var/lib/phasework", "///var/lib/phasework", "C:\\state"] {
        let settings = read(&[(Key::STORE, &format!("sqlite:{dir}"))]).unwrap();
        assert_eq!(settings.store, StoreUrl::Sqlite(dir.into()));
        assert_eq!(format!("{:?}", settings.store), format!("sqlite:{dir}"));
    }
    let mut layers = Layers::new(&[(Key::STATE, Some("kept"))], |_| None, None);
    layers.embed(Some(".phasework")).unwrap();
    let settings = Settings::read(&layers, "box-1").unwrap();
    assert_eq!((settings.broker, settings.store), (BrokerUrl::Memory, StoreUrl::Sqlite("kept".into())));
}

#[test]
fn tokens_come_with_names_and_from_files() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tokens");
    std::fs::write(&path, "# who is who\n#eve=3ve,dave=d4ve\nbob=b0b,b0b\n").unwrap();
    let file = path.to_str().unwrap();
    let settings = read(&[(Key::TOKENS, "alice=4lice"), (Key::TOKENS_FILE, file), (Key::TOKEN, "plain")]).unwrap();
    assert_eq!(format!("{:?}", settings.tokens), r#"["alice", "bob", "api"]"#);
    assert_eq!(settings.tokens.who(b"b0b,b0b").as_deref(), Some("bob"), "a file has one a line");
    assert_eq!(settings.tokens_file.as_deref(), Some(&*path));
    let worker = [(Key::TOKENS, "alice=4lice"), (Key::WORKER_TOKEN, "w0rker")];
    assert!(read(&worker).is_ok(), "a name is as good as none");
    std::fs::write(&path, "bob=b0b\nsekret").unwrap();
    for (set, expected) in [
        (vec![(Key::TOKENS, "alice")], "--tokens: token 1 is not NAME=SECRET"),
        (vec![(Key::TOKENS, " , ")], "--tokens: there is no token in it"),
        (vec![(Key::TOKENS_FILE, "/nowhere/tokens")], "--tokens-file: cannot read /nowhere/tokens: "),
        (vec![(Key::TOKENS_FILE, file)], "token 2 is not NAME=SECRET"),
        (vec![(Key::TOKEN, "two words")], "--token: the token must not be empty and must have visible ASCII"),
        (vec![(Key::TOKENS, "alice=sekret"), (Key::TOKEN, "sekret")], "has the same secret as `alice`"),
        (vec![(Key::TOKEN, "sekret"), (Key::WORKER_TOKEN, "sekret")], "worker_token: it is `token` too"),
        (
            vec![(Key::TOKENS, "bob=b0b,alice=sekret"), (Key::TOKEN, "t"), (Key::WORKER_TOKEN, " sekret")],
            "worker_token: it is the token of `alice` too",
        ),
    ] {
        let message = read(&set).err().unwrap().message;
        assert!(message.contains(expected) && !message.contains("sekret"), "{set:?}: {message}");
    }
}

#[test]
fn what_is_left_out_is_not_looked_at() {
    let flags = [(Key::BROKER, "memory:"), (Key::STORE, "memory:"), (Key::TOKENS_FILE, "/nowhere/tokens")];
    let mut layers = Layers::new(&flags.map(|(key, value)| (key, Some(value))), |_| None, None);
    assert!(Settings::read(&layers, "box-1").is_err());
    layers.leave_out(&[Key::TOKENS_FILE]);
    assert!(Settings::read(&layers, "box-1").unwrap().tokens.is_empty());
}

#[test]
fn no_password_is_shown() {
    for (url, expected) in [
        ("amqp://u:sekret@h:5672/v", "amqp://u:***@h:5672/v"),
        ("redis://:sekret@h:6379", "redis://:***@h:6379"),
        ("amqp://u:se@kret@h", "amqp://u:***@h"),
        ("amqp://u:sekret@h:99999", "amqp://***@h:99999"),
        ("u:sekret@h", "***@h"),
        ("amqp://h", "amqp://h"),
        ("memory:", "memory:"),
        ("sqlite:/home/me@work/a", "sqlite:/home/me@work/a"),
        ("sqlite:a@b", "sqlite:a@b"),
        ("amqp://u:sekret@h/a@b", "amqp://u:***@h/a@b"),
        ("redis://h/a@b", "redis://h/a@b"),
    ] {
        assert_eq!(redact(url), expected);
    }
    let tokens = (Key::TOKENS, Some("alice=sekret"));
    let flags = [(Key::BROKER, Some("amqp://u:sekret@h")), (Key::TOKEN, Some("sekret")), tokens];
    let words = Layers::new(&flags, |_| None, None).words();
    assert!(!words.contains("sekret") && words.contains("amqp://u:***@h"), "{words}");
    let mut layers = Layers::new(&[(Key::STATE, Some("/srv/me@work"))], |_| None, None);
    layers.embed(None).unwrap();
    let words = layers.words();
    assert!(words.contains(" = sqlite:/srv/me@work ") && words.contains(" = /srv/me@work "), "{words}");
    assert_eq!(format!("{:?}", BrokerUrl::Rabbit("amqp://u:sekret@h".into())), "amqp://u:***@h");
}
