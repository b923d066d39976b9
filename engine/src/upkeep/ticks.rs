//! Ticks: a small event to every coordinator queue, so that whoever is served by a queue knows that it owns it, and who
//! else there is to share the queues with.

use futures::future::join_all;
use phasework_broker::{Address, Message};
use phasework_workflows::message::event::Tick;
use phasework_workflows::message::{Body, encode};
use phasework_workflows::time::Millis;
use tokio_util::sync::CancellationToken;

use crate::coordinator::SharedShare;
use crate::engine::{Engine, Parts};
use crate::timeline::Timeline;

/// After how many ticks one that waited in a long queue says nothing any more.
const WORTHLESS_AFTER: u64 = 30;

pub(crate) struct Ticks {
    parts: Parts,
    share: SharedShare,
    timeline: Timeline,
}

impl Ticks {
    pub(crate) fn new(engine: &Engine) -> Self {
        Self { parts: engine.parts.clone(), share: engine.share.clone(), timeline: engine.timeline.clone() }
    }

    pub(crate) async fn run(self, shutdown: CancellationToken) {
        loop {
            self.run_once().await;
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = self.share.lined_up() => {}
                () = tokio::time::sleep(self.parts.config.tick.into()) => {}
            }
        }
    }

    /// Sends a tick to every queue, if this coordinator stands in line for any.
    async fn run_once(&self) {
        let (config, now) = (&self.parts.config, self.parts.clock.now());
        metrics::gauge!("phasework_coordinator_queues_owned").set(self.share.owned(now) as f64);
        let Some(from) = self.share.name_in_line() else { return };
        let body = encode(&Tick { from, at: now, queues: Some(config.coordinator_queues) });
        // Those that runs were mapped onto once, too: something may be left in them.
        let ticks = (0..*self.timeline.queues.borrow()).map(|queue| {
            let mut tick = Message::new(Address::Coordinator(queue), Tick::KIND, body.clone());
            tick.expires = Some(Millis(config.tick.0 * WORTHLESS_AFTER).into());
            tick
        });
        // Each by itself: a queue that takes nothing holds up no other.
        let sent = join_all(ticks.map(|tick| self.parts.broker.publish(vec![tick]))).await;
        if let Some(error) = sent.into_iter().flatten().find_map(Result::err) {
            tracing::debug!(%error, "ticks could not be sent");
        }
    }
}
