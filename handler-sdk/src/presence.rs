//! Tells who works here: at the start, every heartbeat, when asked, when the worker begins to drain, at the end.
//! Announcements expire; one that is lost is made up for by the next.

use std::sync::Arc;

use bytes::Bytes;
use phasework_broker::{Address, BrokerError, Consumer, Delivery, Message, SharedBroker};
use phasework_workflows::message::presence::{HEARTBEAT, WORKER_TTL, WorkerAnnounced, WorkerGone, WorkersWanted};
use phasework_workflows::message::{self, Body};
use phasework_workflows::time::Timestamp;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::health::WorkerHealth;
use crate::hosted::Handlers;
use crate::peers::Peers;

/// The most deliveries taken in one go.
const AT_ONCE: usize = 64;

pub(crate) struct Presence {
    pub(crate) worker: Arc<str>,
    pub(crate) host: Arc<str>,
    pub(crate) started_at: Timestamp,
    pub(crate) handlers: Arc<Handlers>,
    pub(crate) broker: SharedBroker,
    pub(crate) health: WorkerHealth,
}

impl Presence {
    /// Announces the worker until `end`. Does not say goodbye: that comes when the worker is done.
    pub(crate) async fn run(
        self: Arc<Self>,
        mut consumer: Box<dyn Consumer>,
        drain: CancellationToken,
        end: CancellationToken,
    ) -> Result<(), BrokerError> {
        let mut heartbeat = interval(HEARTBEAT.into());
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut draining = drain.is_cancelled();
        let mut was_ready = true;
        let shares =
            self.handlers.hosted.iter().any(|hosted| hosted.rate.as_ref().is_some_and(|rate| rate.is_shared()));
        let mut peers = shares.then(Peers::default);
        let mut wants_to_know = shares;
        loop {
            tokio::select! {
                biased;
                () = end.cancelled() => return Ok(()),
                () = drain.cancelled(), if !draining => draining = true,
                _ = heartbeat.tick() => { // the first is due at once
                    was_ready = self.note_health(was_ready, draining);
                    if let Some(peers) = &mut peers {
                        self.take(peers, &[]);
                    }
                }
                deliveries = consumer.next(AT_ONCE) => {
                    let deliveries = deliveries?;
                    let tags: Vec<_> = deliveries.iter().map(|delivery| delivery.tag).collect();
                    if let Err(error) = consumer.ack(&tags).await {
                        tracing::debug!(%error, "presence messages not acknowledged");
                    }
                    if deliveries.iter().any(|delivery| self.is_own(delivery)) {
                        self.health.heard();
                    }
                    if let Some(peers) = &mut peers {
                        self.take(peers, &deliveries);
                    }
                    if !deliveries.iter().any(|delivery| *delivery.kind == *WorkersWanted::KIND) {
                        continue; // what the other workers say
                    }
                }
            }
            self.announce(draining).await;
            if std::mem::take(&mut wants_to_know) {
                self.tell(&WorkersWanted { from: Arc::clone(&self.worker) }).await;
            }
        }
    }

    /// Whether it is what this worker announced.
    fn is_own(&self, delivery: &Delivery) -> bool {
        *delivery.kind == *WorkerAnnounced::KIND
            && message::decode::<WorkerAnnounced>(&delivery.body).is_ok_and(|by| by.worker == self.worker)
    }

    /// Takes note of who else works, and of what that means for limits that all keep together.
    fn take(&self, peers: &mut Peers, deliveries: &[Delivery]) {
        let now = Instant::now();
        for delivery in deliveries {
            if *delivery.kind == *WorkerAnnounced::KIND {
                message::decode::<WorkerAnnounced>(&delivery.body).map(|by| peers.announced(by, now)).ok(); // or of a later version
            } else if *delivery.kind == *WorkerGone::KIND {
                message::decode::<WorkerGone>(&delivery.body).map(|by| peers.gone(&by.worker)).ok();
            }
        }
        peers.forget_silent(now);
        peers.share_out(&self.worker, &self.handlers);
    }

    /// Measures whether the worker is ready, and logs when that has changed. Draining is logged where it begins.
    fn note_health(&self, was_ready: bool, draining: bool) -> bool {
        let reasons = self.health.reasons();
        let ready = reasons.is_empty();
        metrics::gauge!("phasework_worker_ready").set(if ready { 1.0 } else { 0.0 });
        match (was_ready, ready) {
            (true, false) if !draining => tracing::warn!(worker = %self.worker, "not ready: {}", reasons.join("; ")),
            (false, true) => tracing::info!(worker = %self.worker, "ready again"),
            _ => {}
        }
        ready
    }

    async fn announce(&self, draining: bool) {
        let announced = WorkerAnnounced {
            worker: Arc::clone(&self.worker),
            host: Arc::clone(&self.host),
            pid: std::process::id(),
            sdk: concat!("rust/", env!("CARGO_PKG_VERSION")).into(),
            started_at: self.started_at,
            handlers: self.handlers.hosted.iter().map(|hosted| hosted.announced()).collect(),
            draining,
        };
        self.tell(&announced).await;
    }

    /// Says goodbye.
    pub(crate) async fn leave(&self) {
        self.tell(&WorkerGone { worker: Arc::clone(&self.worker) }).await;
    }

    async fn tell<T: Body>(&self, body: &T) {
        let mut message = Message::new(Address::Presence, T::KIND, Bytes::from(message::encode(body)));
        message.expires = Some(WORKER_TTL.into());
        for error in self.broker.publish(vec![message]).await.into_iter().filter_map(Result::err) {
            tracing::debug!(%error, "not announced; the next heartbeat will do");
        }
    }
}
