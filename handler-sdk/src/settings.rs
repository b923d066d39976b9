//! The environment variables a worker reads. Says every problem at once, and connects to nothing.

use std::time::Duration;

use phasework_workflows::id::check_name;

/// Where the broker is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) url: String,
    pub(crate) prefix: String,
}

/// What the environment says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) target: Target,
    pub(crate) concurrency: Option<u32>,
    pub(crate) handlers: Option<Vec<String>>,
    pub(crate) drain_timeout: Option<Duration>,
}

pub(crate) const URL: &str = "PHASEWORK_URL";
pub(crate) const PREFIX: &str = "PHASEWORK_PREFIX";
pub(crate) const CONCURRENCY: &str = "PHASEWORK_CONCURRENCY";
pub(crate) const HANDLERS: &str = "PHASEWORK_HANDLERS";
pub(crate) const DRAIN_TIMEOUT: &str = "PHASEWORK_DRAIN_TIMEOUT";

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
        let mut read_drain = |text: String| {
            read_length(&text)
                .or_else(|| complain(&mut problems, DRAIN_TIMEOUT, "a length such as `25s` or `2m`", &text))
        };
        let drain_timeout = given(DRAIN_TIMEOUT).and_then(&mut read_drain);
        let names =
            |text: String| text.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect();
        let settings =
            Self { target: Target { url, prefix }, concurrency, handlers: given(HANDLERS).map(names), drain_timeout };
        if problems.is_empty() { Ok(settings) } else { Err(problems) }
    }
}

fn complain<T>(problems: &mut Vec<String>, name: &str, expected: &str, found: &str) -> Option<T> {
    problems.push(format!("{name} has to be {expected}; it is `{found}`"));
    None
}

fn read_url(given: Option<String>) -> Result<String, String> {
    let url = given.ok_or(format!("{URL} is not set; it says where the broker is, such as amqp://127.0.0.1:5672"))?;
    match url.split_once("://").map(|(scheme, _)| scheme) {
        Some("amqp" | "amqps") => Ok(url),
        Some("http" | "https") => Err(format!(
            "{URL} is an HTTP address; the gateway that would serve it comes in a \
                                               later version. Give the broker's, such as amqp://127.0.0.1:5672"
        )),
        // The address may hold a password, so it is not repeated.
        _ => Err(format!("{URL} is no address of a broker, such as amqp://127.0.0.1:5672")),
    }
}

/// Reads `1500ms`, `25s`, `2m`, `1h`.
fn read_length(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit_ms).map(Duration::from_millis)
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
        assert_eq!(bare.target, Target { url: amqp.1.into(), prefix: "phasework".into() });
        assert_eq!((bare.concurrency, bare.handlers, bare.drain_timeout), (None, None, None));
        let full =
            read(&[amqp, (PREFIX, "shop"), (CONCURRENCY, "8"), (HANDLERS, "A, B,"), (DRAIN_TIMEOUT, "2m")]).unwrap();
        assert_eq!(full.target.prefix, "shop");
        assert_eq!(full.concurrency, Some(8));
        assert_eq!(full.handlers, Some(vec!["A".to_owned(), "B".to_owned()]));
        assert_eq!(full.drain_timeout, Some(Duration::from_secs(120)));
    }

    #[test]
    fn what_is_wrong_is_said_at_once() {
        for (set, expected) in [
            (vec![], vec!["PHASEWORK_URL is not set"]),
            (vec![(URL, "http://127.0.0.1:7180")], vec!["the gateway that would serve it comes in a later version"]),
            (vec![(URL, "127.0.0.1")], vec!["PHASEWORK_URL is no address"]),
            (
                vec![(URL, "amqp://h"), (PREFIX, "a b"), (CONCURRENCY, "0"), (DRAIN_TIMEOUT, "25")],
                vec![
                    "PHASEWORK_PREFIX: a prefix name",
                    "PHASEWORK_CONCURRENCY has to",
                    "PHASEWORK_DRAIN_TIMEOUT has to",
                ],
            ),
        ] {
            let problems = read(&set).unwrap_err();
            assert_eq!(problems.len(), expected.len(), "{problems:?}");
            for (problem, start) in problems.iter().zip(expected) {
                assert!(problem.contains(start), "{problem}");
            }
        }
    }
}
