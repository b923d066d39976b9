//! What the facts say about losses: whether RabbitMQ and Redis still hold what they confirmed, and whether all runs were
//! recovered where they do not. Pure: from facts to lines.

use std::sync::Arc;

use phasework_engine::epoch_of;

use super::facts::{BrokerFacts, Facts, Markers, Part, Remembered, StoreFacts};
use super::line::Line;

/// What is to be said of it. Nothing where one of the two cannot be looked at, which was said.
pub(super) fn judge(facts: &Facts) -> Vec<Line> {
    let (Part::There(BrokerFacts { markers: Some(markers), .. }), Part::There(StoreFacts { memory: Ok(memory), .. })) =
        (&facts.broker, &facts.store)
    else {
        return Vec::new();
    };
    let markers = match markers {
        Ok(markers) => *markers,
        Err(why) => {
            let line = Line::warning("timeline", "marker", format!("cannot be looked for: {why}"));
            return vec![line.hint("has the account the right to configure the queues of the prefix?")];
        }
    };
    let mut lines = vec![marker(markers)];
    // Where RabbitMQ has lost the marker, all is recovered for the next one, and that was said.
    if let (Some(marker), Some(true)) = (&memory.marker, markers.holds_stored) {
        lines.push(recovery(memory, &epoch_of(marker, &memory.lineage)));
    }
    lines
}

/// What RabbitMQ and Redis say of each other.
fn marker(Markers { holds_stored, was_used }: Markers) -> Line {
    match (holds_stored, was_used) {
        (Some(true), true) => Line::ok("timeline", "marker", "the broker and the store hold the same".to_owned()),
        (Some(true), false) => {
            let found = "both hold the same, but the broker has not noted that it is used".to_owned();
            Line::warning("timeline", "marker", found).hint(
                "a coordinator notes it within seconds; until then a store that is emptied looks like a first start",
            )
        }
        (Some(false), _) => {
            let found = "the broker does not hold the one of the store: it has lost what it had, or is another one";
            Line::error("timeline", "marker", found.to_owned()).hint(
                "are --broker, its virtual host and --prefix right? A coordinator that runs sends out again within \
                 seconds what was under way; if none runs, `phasework serve` does when it starts",
            )
        }
        (None, true) => {
            let found = "the store has none, but the broker was used before: the store was emptied, or is another one";
            Line::error("timeline", "marker", found.to_owned()).hint(
                "are --store and --prefix right? Restore it from its backup, then start the coordinators again; or start \
                 one with `phasework serve --adopt`, which goes on with the store as it is. Until then none starts",
            )
        }
        (None, false) => Line::ok("timeline", "marker", "none yet: nothing was done here".to_owned()),
    }
}

/// Whether the runs of all shards were recovered since something may have been lost.
fn recovery(memory: &Remembered, epoch: &Arc<str>) -> Line {
    let behind = memory.epochs.iter().filter(|known| *known != epoch).count();
    match (behind, memory.epochs.len()) {
        (0, 0) => Line::ok("timeline", "recovery", "nothing to recover yet".to_owned()),
        (0, _) => Line::ok("timeline", "recovery", "all shards are up to date".to_owned()),
        (behind, all) => {
            let found = format!(
                "since the broker or the store was lost or restarted, {behind} of {all} shards were not recovered"
            );
            Line::warning("timeline", "recovery", found).hint(
                "a coordinator that runs does it within seconds, with many runs within minutes; if none runs, \
                 `phasework serve` starts one",
            )
        }
    }
}
