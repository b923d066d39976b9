//! Runs that a later version of this program has written, as a coordinator of an earlier one meets them. What happens to
//! them is no damage and not set aside: it is held, unacknowledged, until a coordinator that can read them is there to be
//! given the queue. Meanwhile the other runs go on.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use phasework_broker::{Consumer, Delivery, DeliveryTag};
use phasework_workflows::id::{RunId, Shard};
use phasework_workflows::run::Unreadable;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::owner::Owner;
use crate::lanes::HELD_FOR;

/// How long a coordinator does not stand in line at a queue that holds little else. Whoever else is in line gets it.
const STAND_BACK: Duration = Duration::from_secs(10);

/// What the owner of a queue holds for a newer coordinator.
#[derive(Debug, Default)]
pub(super) struct ForNewer {
    /// Deliveries, and since when they are held.
    held: Vec<(DeliveryTag, Instant)>,
    /// The runs that were met.
    runs: BTreeSet<RunId>,
}

impl ForNewer {
    /// Holds more deliveries, by their places. What is held for long is given back, as brokers have it.
    pub(super) async fn hold(&mut self, consumer: &dyn Consumer, deliveries: &[Delivery], places: BTreeSet<usize>) {
        // Those that came over a connection that is lost come again.
        if let Some(generation) = deliveries.iter().map(|delivery| delivery.tag.generation).max() {
            self.held.retain(|(tag, _)| tag.generation >= generation);
        }
        let now = Instant::now();
        let (over, held): (Vec<_>, Vec<_>) = self.held.drain(..).partition(|(_, since)| now - *since >= HELD_FOR);
        self.held = held;
        self.held.extend(places.into_iter().map(|place| (deliveries[place].tag, now)));
        let over: Vec<_> = over.into_iter().map(|(tag, _)| tag).collect();
        if over.is_empty() {
            return;
        }
        if let Err(error) = consumer.release(&over).await {
            tracing::debug!(%error, "deliveries could not be given back; they come again");
        }
    }

    /// Whether what is held leaves little room for anything else, with such a prefetch.
    pub(super) fn is_too_much(&self, prefetch: u16) -> bool {
        !self.held.is_empty() && self.held.len() * 2 >= usize::from(prefetch)
    }

    /// Whether runs of a shard were met.
    pub(super) fn is_in(&self, shard: Shard) -> bool {
        self.runs.iter().any(|run| run.shard() == shard)
    }

    /// The queue serves somebody else: what was held is delivered there.
    pub(super) fn forget(&mut self) {
        self.held.clear();
        self.runs.clear();
    }
}

impl Owner {
    /// Notes runs that a later version has written.
    pub(super) fn meet_newer(&mut self, runs: &BTreeMap<RunId, u16>) {
        for (&run, &format) in runs {
            self.engine.share.lock().met_newer(self.queue, format);
            if self.newer.runs.insert(run) {
                let reason = Unreadable::Newer { format };
                tracing::warn!(queue = self.queue, %run, %reason, "what happens to a run is left to a newer coordinator");
            }
        }
    }
}

/// Leaves a queue to others for a while.
pub(super) async fn stand_back(queue: u16, shutdown: &CancellationToken) {
    tracing::warn!(
        queue,
        "most of what a queue holds is for a newer coordinator; this one leaves it alone for a while"
    );
    tokio::select! {
        biased;
        () = shutdown.cancelled() => {}
        () = tokio::time::sleep(STAND_BACK) => {}
    }
}
