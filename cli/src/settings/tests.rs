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
    assert_eq!((&*usual.engine.name, usual.prefix.as_str(), usual.token), ("box-1", "phasework", None));
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
fn no_password_is_shown() {
    for (url, expected) in [
        ("amqp://u:sekret@h:5672/v", "amqp://u:***@h:5672/v"),
        ("redis://:sekret@h:6379", "redis://:***@h:6379"),
        ("amqp://u:se@kret@h", "amqp://u:***@h"),
        ("amqp://u:sekret@h:99999", "amqp://***@h:99999"),
        ("u:sekret@h", "***@h"),
        ("amqp://h", "amqp://h"),
        ("memory:", "memory:"),
    ] {
        assert_eq!(redact(url), expected);
    }
    let flags = [(Key::BROKER, Some("amqp://u:sekret@h")), (Key::TOKEN, Some("sekret"))];
    let words = Layers::new(&flags, |_| None, None).words();
    assert!(!words.contains("sekret") && words.contains("amqp://u:***@h"), "{words}");
    assert_eq!(format!("{:?}", BrokerUrl::Rabbit("amqp://u:sekret@h".into())), "amqp://u:***@h");
}
