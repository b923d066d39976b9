//! Points in time and lengths of time, and the port through which a program learns what time it is.
//! Nothing here reads the wall clock except [`SystemClock`], which only `main` makes.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A point in time, in milliseconds since 1970-01-01T00:00:00Z. Written as RFC 3339 in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The point `ms` milliseconds after the Unix epoch.
    pub const fn from_millis(ms: i64) -> Self {
        Self(ms)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// The first and the last point that can be written down so that they are read again: the years have four digits.
    const WRITABLE: (Self, Self) = (Self(-62_167_219_200_000), Self(253_402_300_799_999));

    /// This point, moved on by `length`, but not beyond the year 9999: whoever asks for more means for ever.
    pub const fn plus(self, length: Millis) -> Self {
        let ms = if length.0 > i64::MAX as u64 { i64::MAX } else { length.0 as i64 };
        let (at, Self(last)) = (self.0.saturating_add(ms), Self::WRITABLE.1);
        Self(if at > last { last } else { at })
    }

    /// How long after `earlier` this point is; zero when it is not after.
    pub const fn since(self, earlier: Self) -> Millis {
        let ms = self.0.saturating_sub(earlier.0);
        Millis(if ms < 0 { 0 } else { ms as u64 })
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match DateTime::<Utc>::from_timestamp_millis(self.0) {
            Some(at) => f.write_str(&at.to_rfc3339_opts(SecondsFormat::Millis, true)),
            None => write!(f, "{}ms", self.0),
        }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        DateTime::parse_from_rfc3339(&text)
            .map(|at| Self(at.timestamp_millis()).clamp(Self::WRITABLE.0, Self::WRITABLE.1))
            .map_err(|_| D::Error::custom(format!("`{text}` is not an RFC 3339 time such as 2026-01-31T12:00:00Z")))
    }
}

/// A length of time in whole milliseconds. A number in JSON; definitions also spell it `"30s"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Millis(pub u64);

impl Millis {
    /// `seconds` seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// `minutes` minutes.
    pub const fn from_mins(minutes: u64) -> Self {
        Self::from_secs(minutes.saturating_mul(60))
    }
}

/// A text that spells no length of time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a length of time such as 500ms, 30s, 5m, 24h or 7d")]
pub struct NoLength(String);

impl FromStr for Millis {
    type Err = NoLength;

    /// Reads `500ms`, `30s`, `5m`, `24h`, `7d`, with or without a space between.
    fn from_str(text: &str) -> Result<Self, NoLength> {
        const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let factor = UNITS.into_iter().find(|(name, _)| *name == unit.trim_start()).map(|(_, factor)| factor);
        let length = factor.and_then(|factor| number.parse::<u64>().ok()?.checked_mul(factor));
        length.map(Self).ok_or_else(|| NoLength(text.to_owned()))
    }
}

impl From<Millis> for Duration {
    fn from(length: Millis) -> Self {
        Self::from_millis(length.0)
    }
}

impl From<Duration> for Millis {
    fn from(length: Duration) -> Self {
        Self(u64::try_from(length.as_millis()).unwrap_or(u64::MAX))
    }
}

impl fmt::Display for Millis {
    /// The shortest spelling that a definition takes: `1500ms`, `30s`, `5m`, `24h`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("0s"),
            ms if ms % 3_600_000 == 0 => write!(f, "{}h", ms / 3_600_000),
            ms if ms % 60_000 == 0 => write!(f, "{}m", ms / 60_000),
            ms if ms % 1000 == 0 => write!(f, "{}s", ms / 1000),
            ms => write!(f, "{ms}ms"),
        }
    }
}

/// Tells the time. One is made in `main`; everyone else is given it.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The current time.
    fn now(&self) -> Timestamp;
}

/// A clock shared by the parts of a program.
pub type SharedClock = Arc<dyn Clock>;

/// The wall clock of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place where the wall clock is read")]
    fn now(&self) -> Timestamp {
        Timestamp(Utc::now().timestamp_millis())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_survives_json() {
        let at = Timestamp::from_millis(1_763_000_000_123);
        let json = serde_json::to_string(&at).unwrap();
        assert_eq!(json, "\"2025-11-13T02:13:20.123Z\"");
        assert_eq!(serde_json::from_str::<Timestamp>(&json).unwrap(), at);
    }

    /// A run whose timer was set for such a time could not be loaded any more.
    #[test]
    fn the_ends_of_time_survive_json() {
        let epoch = Timestamp::from_millis(0);
        let ends = [epoch.plus(Millis(u64::MAX)), epoch.plus(Millis(300_000_000_000_000))];
        let read = ["9999-12-31T23:59:59-23:59", "0000-01-01T00:00:00+23:59"];
        let read = read.map(|text| serde_json::from_value::<Timestamp>(text.into()).unwrap());
        for at in ends.into_iter().chain(read) {
            let json = serde_json::to_string(&at).unwrap();
            assert_eq!(serde_json::from_str::<Timestamp>(&json).ok(), Some(at), "{json}");
        }
    }

    #[test]
    fn lengths_are_spelled_as_definitions_spell_them() {
        for (ms, text) in [(0, "0s"), (1500, "1500ms"), (30_000, "30s"), (300_000, "5m"), (86_400_000, "24h")] {
            assert_eq!(Millis(ms).to_string(), text);
        }
    }

    #[test]
    fn time_does_not_overflow() {
        assert_eq!(Timestamp::from_millis(5).plus(Millis(u64::MAX)).to_string(), "9999-12-31T23:59:59.999Z");
        assert_eq!(Timestamp::from_millis(5).since(Timestamp::from_millis(9)), Millis(0));
    }

    #[test]
    fn lengths_are_read() {
        for (text, expected) in [
            ("500ms", Some(500)),
            ("30s", Some(30_000)),
            ("5m", Some(300_000)),
            ("5 m", Some(300_000)),
            ("24h", Some(86_400_000)),
            ("7d", Some(604_800_000)),
            ("0s", Some(0)),
            ("30", None),
            ("s", None),
            ("-1s", None),
            ("1.5s", None),
            ("1h30m", None),
            ("30 seconds", None),
            ("", None),
            ("213503982335d", None),
            ("99999999999999999999s", None),
        ] {
            assert_eq!(text.parse::<Millis>().ok().map(|length| length.0), expected, "{text}");
        }
    }

    #[test]
    fn a_length_as_it_is_written_back_is_read_again() {
        for ms in [0, 1, 999, 1000, 1500, 60_000, 90_000, 3_600_000, 604_800_000] {
            assert_eq!(Millis(ms).to_string().parse(), Ok(Millis(ms)));
        }
    }
}
