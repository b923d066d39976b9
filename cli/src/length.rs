//! Lengths of time as people type and read them. Reads what a definition takes, and writes what is quickly understood.

use std::time::Duration;

use phasework_workflows::time::{Millis, NoLength, Timestamp};

/// Reads `500ms`, `30s`, `5m`, `24h`, `7d`.
pub(crate) fn parse(text: &str) -> Result<Millis, String> {
    text.parse().map_err(|error: NoLength| error.to_string())
}

/// As [`parse`], for clap.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    parse(text).map(Duration::from)
}

/// Writes a length with as much precision as it deserves: `340ms`, `1.2s`, `2m 05s`, `3h 12m`, `2d 4h`.
pub(crate) fn words(length: Millis) -> String {
    let seconds = length.0 / 1000;
    match seconds {
        0 => format!("{}ms", length.0),
        1..10 => format!("{:.1}s", length.0 as f64 / 1000.0),
        10..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// How long ago something was, in the largest unit that is not 0.
pub(crate) fn ago(at: Timestamp, now: Timestamp) -> String {
    let seconds = now.since(at).0 / 1000;
    match seconds {
        0 => "just now".to_owned(),
        1..60 => format!("{seconds}s ago"),
        60..3600 => format!("{}m ago", seconds / 60),
        3600..86_400 => format!("{}h ago", seconds / 3600),
        _ => format!("{}d ago", seconds / 86_400),
    }
}

/// A point in time to the second, in UTC and in one word: `2026-01-31T12:00:00Z`.
pub(crate) fn stamp(at: Timestamp) -> String {
    let full = at.to_string();
    full.split('.').next().unwrap_or_default().trim_end_matches('Z').to_owned() + "Z"
}

/// A point in time as a person reads it, in UTC: `2026-01-31 12:00:00.123`.
pub(crate) fn moment(at: Timestamp) -> String {
    at.to_string().replacen('T', " ", 1).trim_end_matches('Z').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_read_as_in_definitions() {
        for (text, expected) in [
            ("500ms", Some(500)),
            ("30s", Some(30_000)),
            ("5m", Some(300_000)),
            ("24h", Some(86_400_000)),
            ("7d", Some(604_800_000)),
            ("30", None),
            ("s", None),
            ("-1s", None),
            ("1.5s", None),
            ("213503982335d", None),
            ("", None),
        ] {
            assert_eq!(parse(text).ok().map(|length| length.0), expected, "{text}");
        }
    }

    #[test]
    fn lengths_are_written_with_the_precision_they_deserve() {
        for (ms, expected) in [
            (0, "0ms"),
            (999, "999ms"),
            (1_240, "1.2s"),
            (12_900, "12s"),
            (125_000, "2m 05s"),
            (11_520_000, "3h 12m"),
            (187_200_000, "2d 4h"),
        ] {
            assert_eq!(words(Millis(ms)), expected);
        }
        let at = Timestamp::from_millis(1_763_000_000_123);
        assert_eq!(moment(at), "2025-11-13 02:13:20.123");
        assert_eq!(stamp(at), "2025-11-13T02:13:20Z");
        for (later, expected) in
            [(0, "just now"), (3_900, "3s ago"), (60_000, "1m ago"), (7_300_000, "2h ago"), (200_000_000, "2d ago")]
        {
            assert_eq!(ago(at, at.plus(Millis(later))), expected);
        }
    }
}
