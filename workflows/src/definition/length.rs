//! Reads lengths of time as definitions spell them: `"500ms"`, `"30s"`, `"5m"`, `"24h"`, `"7d"`, or milliseconds.

use super::node::{Content, Located};
use super::problem::Report;
use crate::time::Millis;

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
        Content::Text(text) => text.parse().ok(),
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
