//! Reads lengths of time as definitions spell them: `"500ms"`, `"30s"`, `"5m"`, `"24h"`, `"7d"`, or milliseconds.

use super::node::{Content, Located};
use super::problem::Report;
use crate::time::Millis;

const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// The length that `here` spells, from `least` to `most`.
pub(super) fn read(
    here: &Located<'_>,
    what: &str,
    least: Millis,
    most: Millis,
    report: &mut Report<'_>,
) -> Option<Millis> {
    let length = match &here.node.content {
        Content::Number(text) => text.parse().ok().map(Millis),
        Content::Text(text) => parse(text),
        _ => None,
    };
    match length {
        Some(length) if (least..=most).contains(&length) => Some(length),
        Some(_) => here.mismatch(what, &format!("between {least} and {most}"), report),
        None => here.mismatch(
            what,
            "a length of time such as \"500ms\", \"30s\", \"5m\", \"24h\" or a number of milliseconds",
            report,
        ),
    }
}

/// The length that `text` spells.
fn parse(text: &str) -> Option<Millis> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, factor) = UNITS.into_iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(factor).map(Millis)
}

#[cfg(test)]
mod tests {
    use super::*;

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
            assert_eq!(parse(text).map(|length| length.0), expected, "{text}");
        }
    }

    #[test]
    fn a_length_as_it_is_written_back_is_read_again() {
        for ms in [0, 1, 999, 1000, 1500, 60_000, 90_000, 3_600_000, 604_800_000] {
            assert_eq!(parse(&Millis(ms).to_string()), Some(Millis(ms)));
        }
    }
}
