//! Ticks: a small event to every coordinator queue, so that whoever is served by a queue knows that it owns it, and who
//! else there is to share the queues with.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use phasework_broker::{Address, Message};
use phasework_workflows::message::event::Tick;
use phasework_workflows::message::{Body, encode};
use phasework_workflows::run::STATE_FORMAT;
use phasework_workflows::time::Millis;
use tokio::time::Instant;
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
        // Each by itself: a queue that takes nothing holds up no other, and gets no more while one is on its way there.
        let (mut under_way, mut busy) = (FuturesUnordered::new(), BTreeSet::new());
        let mut next = Instant::now();
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                Some(queue) = under_way.next() => {
                    busy.remove(&queue);
                    continue;
                }
                () = self.share.lined_up() => {}
                () = tokio::time::sleep_until(next) => {}
            }
            next = Instant::now() + self.parts.config.tick.into();
            for (queue, tick) in self.ticks() {
                if busy.insert(queue) {
                    under_way.push(self.send(queue, tick));
                }
            }
        }
    }

    /// A tick for every queue, if this coordinator stands in line for any.
    fn ticks(&self) -> Vec<(u16, Message)> {
        let (config, now) = (&self.parts.config, self.parts.clock.now());
        metrics::gauge!("phasework_coordinator_queues_owned").set(self.share.owned(now) as f64);
        let Some(from) = self.share.name_in_line() else { return Vec::new() };
        let body = encode(&Tick { from, at: now, queues: Some(config.coordinator_queues), format: Some(STATE_FORMAT) });
        // Those that runs were mapped onto once, too: something may be left in them.
        let queues = 0..self.timeline.queues.get();
        let tick = |queue| {
            let mut tick = Message::new(Address::Coordinator(queue), Tick::KIND, body.clone());
            tick.expires = Some(Millis(config.tick.0 * WORTHLESS_AFTER).into());
            (queue, tick)
        };
        queues.map(tick).collect()
    }

    fn send(&self, queue: u16, tick: Message) -> BoxFuture<'static, u16> {
        let broker = Arc::clone(&self.parts.broker);
        Box::pin(async move {
            if let Some(error) = broker.publish(vec![tick]).await.into_iter().find_map(Result::err) {
                tracing::debug!(queue, %error, "a tick could not be sent");
            }
            queue
        })
    }
}
