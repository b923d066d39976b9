//! The environment variables a worker reads. Says every problem at once, and connects to nothing.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use phasework_workflows::id::check_name;
use phasework_workflows::message::lease;
use phasework_workflows::time::Millis;

/// Where the broker is.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) url: String,
    pub(crate) prefix: String,
    /// What an engine asks for that the broker is reached through.
    pub(crate) token: Option<String>,
}

impl Target {
    /// Whether the broker is reached through an engine.
    pub(crate) fn is_gateway(&self) -> bool {
        matches!(scheme(&self.url), Some("http" | "https"))
    }
}

impl fmt::Debug for Target {
    /// Without the token, and without the address, which may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = scheme(&self.url).unwrap_or_default();
        f.debug_struct("Target").field("scheme", &scheme).field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// What the environment says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) target: Target,
    pub(crate) handlers: Option<Vec<String>>,
    pub(crate) forced: Forced,
}

/// What goes before what the program says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Forced {
    pub(crate) concurrency: Option<u32>,
    pub(crate) drain_timeout: Option<Duration>,
    pub(crate) lease_after: Option<Duration>,
    pub(crate) watchdog: Option<Duration>,
    pub(crate) listen: Option<SocketAddr>,
}

pub(crate) const URL: &str = "PHASEWORK_URL";
pub(crate) const TOKEN: &str = "PHASEWORK_TOKEN";
pub(crate) const PREFIX: &str = "PHASEWORK_PREFIX";
pub(crate) const CONCURRENCY: &str = "PHASEWORK_CONCURRENCY";
pub(crate) const HANDLERS: &str = "PHASEWORK_HANDLERS";
pub(crate) const DRAIN_TIMEOUT: &str = "PHASEWORK_DRAIN_TIMEOUT";
pub(crate) const LEASE_AFTER: &str = "PHASEWORK_LEASE_AFTER";
pub(crate) const WATCHDOG: &str = "PHASEWORK_WATCHDOG";
pub(crate) const LISTEN: &str = "PHASEWORK_WORKER_LISTEN";

const DEFAULT_PREFIX: &str = "phasework";

impl Settings {
    /// Reads the settings; `variable` gives the value of an environment variable that is set.
    pub(crate) fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, Vec<String>> {
        let given = |name| variable(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let mut problems = Vec::new();
        let url = read_url(given(URL)).map_err(|problem| problems.push(problem)).unwrap_or_default();
        let prefix = given(PREFIX).unwrap_or_else(|| DEFAULT_PREFIX.to_owned());
        if let Err(error) = check_name("prefix", &prefix) {
            problems.push(format!("{PREFIX}: {error}"));
        }
        let mut read_slots = |text: String| {
            let slots = text.parse().ok().filter(|&slots| slots > 0);
            slots.or_else(|| complain(&mut problems, CONCURRENCY, "a whole number from 1 up", &text))
        };
        let concurrency = given(CONCURRENCY).and_then(&mut read_slots);
        let mut length = |name, expected, makes_sense: fn(Duration) -> bool| {
            let text = given(name)?;
            let length = text.parse::<Millis>().ok().map(Duration::from).filter(|&length| makes_sense(length));
            length.or_else(|| complain(&mut problems, name, expected, &text))
        };
        let drain_timeout = length(DRAIN_TIMEOUT, "a length such as `25s` or `2m`", |_| true);
        let lease_after = length(LEASE_AFTER, "a length such as `5s`, up to `30s`", is_lease_after);
        let watchdog = length(WATCHDOG, "a length such as `60s`, or `0s` for none", |_| true);
        let listen = given(LISTEN).and_then(|text| {
            let expected = "an address and a port, such as `127.0.0.1:9100`";
            text.parse().ok().or_else(|| complain(&mut problems, LISTEN, expected, &text))
        });
        let names =
            |text: String| text.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect();
        let handlers = given(HANDLERS).map(names);
        let target = Target { url, prefix, token: given(TOKEN) };
        let forced = Forced { concurrency, drain_timeout, lease_after, watchdog, listen };
        let settings = Self { target, handlers, forced };
        if problems.is_empty() { Ok(settings) } else { Err(problems) }
    }
}

/// Whether leases may be taken so long after a job was taken. Coordinators take those for lost that are later.
pub(crate) fn is_lease_after(length: Duration) -> bool {
    !length.is_zero() && length <= Duration::from(lease::LEASE_AFTER)
}

fn complain<T>(problems: &mut Vec<String>, name: &str, expected: &str, found: &str) -> Option<T> {
    problems.push(format!("{name} has to be {expected}; it is `{found}`"));
    None
}

fn read_url(given: Option<String>) -> Result<String, String> {
    const EXAMPLES: &str = "amqp://127.0.0.1:5672, or http://127.0.0.1:7180 for the gateway of an engine";
    let url = given.ok_or(format!("{URL} is not set; it says where the broker is, such as {EXAMPLES}"))?;
    let is_http = |url: &str| matches!(scheme(url.trim()), Some("http" | "https"));
    match scheme(&url) {
        Some("amqp" | "amqps") => Ok(url),
        Some("http" | "https") if url.split(',').all(is_http) => Ok(url),
        // The address may hold a password, so it is not repeated.
        Some("http" | "https") => Err(format!("{URL} is a list; each of it has to be an HTTP address")),
        _ => Err(format!("{URL} is no address of a broker, such as {EXAMPLES}")),
    }
}

fn scheme(url: &str) -> Option<&str> {
    url.split_once("://").map(|(scheme, _)| scheme)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(set: &[(&str, &str)]) -> Result<Settings, Vec<String>> {
        Settings::read(|name| set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn what_is_set_is_read() {
        let amqp = (URL, "amqp://127.0.0.1:5672");
        let bare = read(&[amqp, (PREFIX, "")]).unwrap();
        assert_eq!(bare.target, Target { url: amqp.1.into(), prefix: "phasework".into(), token: None });
        assert_eq!((bare.handlers, bare.forced), (None, Forced::default()));
        let lengths = [(DRAIN_TIMEOUT, "2m"), (LEASE_AFTER, "500ms"), (WATCHDOG, "0s"), (LISTEN, "127.0.0.1:9100")];
        let full = read(&[&[amqp, (PREFIX, "shop"), (CONCURRENCY, "8"), (HANDLERS, "A, B,")], &lengths[..]].concat());
        let full = full.unwrap();
        assert_eq!(full.target.prefix, "shop");
        assert_eq!(full.handlers, Some(vec!["A".to_owned(), "B".to_owned()]));
        let expected = Forced {
            concurrency: Some(8),
            drain_timeout: Some(Duration::from_secs(120)),
            lease_after: Some(Duration::from_millis(500)),
            watchdog: Some(Duration::ZERO),
            listen: Some(([127, 0, 0, 1], 9100).into()),
        };
        assert_eq!(full.forced, expected);
    }

    #[test]
    fn the_scheme_says_how_the_broker_is_reached() {
        for (url, is_gateway) in [
            ("amqp://127.0.0.1", false),
            ("amqps://rabbit.example/vhost", false),
            ("http://127.0.0.1:7180", true),
            ("https://a.example, https://b.example/phasework", true),
        ] {
            let target = read(&[(URL, url), (TOKEN, "s3cret")]).unwrap().target;
            assert_eq!(target.is_gateway(), is_gateway, "{url}");
            assert_eq!(target.token.as_deref(), Some("s3cret"));
        }
        let target = read(&[(URL, "http://me:pass@h"), (TOKEN, "s3cret")]).unwrap().target;
        assert_eq!(format!("{target:?}"), r#"Target { scheme: "http", prefix: "phasework", .. }"#);
    }

    #[test]
    fn what_is_wrong_is_said_at_once() {
        for (set, expected) in [
            (vec![], vec!["PHASEWORK_URL is not set"]),
            (vec![(URL, "http://a:1,amqp://b")], vec!["PHASEWORK_URL is a list; each of it has to be"]),
            (vec![(URL, "redis://127.0.0.1")], vec!["PHASEWORK_URL is no address"]),
            (vec![(URL, "127.0.0.1")], vec!["PHASEWORK_URL is no address"]),
            (
                vec![(URL, "amqp://h"), (PREFIX, "a b"), (CONCURRENCY, "0"), (DRAIN_TIMEOUT, "25")],
                vec![
                    "PHASEWORK_PREFIX: a prefix name",
                    "PHASEWORK_CONCURRENCY has to",
                    "PHASEWORK_DRAIN_TIMEOUT has to",
                ],
            ),
            (
                vec![(URL, "amqp://h"), (LEASE_AFTER, "31s"), (WATCHDOG, "off"), (LISTEN, "9100")],
                vec![
                    "PHASEWORK_LEASE_AFTER has to be a length such as `5s`, up to",
                    "PHASEWORK_WATCHDOG has to",
                    "PHASEWORK_WORKER_LISTEN has to be an address and a port",
                ],
            ),
            (vec![(URL, "amqp://h"), (LEASE_AFTER, "0s")], vec!["PHASEWORK_LEASE_AFTER has to"]),
        ] {
            let problems = read(&set).unwrap_err();
            assert_eq!(problems.len(), expected.len(), "{problems:?}");
            for (problem, start) in problems.iter().zip(expected) {
                assert!(problem.contains(start), "{problem}");
            }
        }
    }
}
