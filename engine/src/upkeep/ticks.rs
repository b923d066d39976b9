//! Ticks: a small event to every coordinator queue, so that whoever is served by a queue knows that it owns it.

use phasework_broker::{Address, Message};
use phasework_workflows::message::event::Tick;
use phasework_workflows::message::{Body, encode};
use tokio_util::sync::CancellationToken;

use crate::engine::Parts;

pub(crate) struct Ticks {
    parts: Parts,
}

impl Ticks {
    pub(crate) const fn new(parts: Parts) -> Self {
        Self { parts }
    }

    pub(crate) async fn run(self, shutdown: CancellationToken) {
        loop {
            self.run_once().await;
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(self.parts.config.tick.into()) => {}
            }
        }
    }

    /// Sends a tick to every queue. One that nobody took in time is worthless.
    async fn run_once(&self) {
        let config = &self.parts.config;
        let body = encode(&Tick { from: config.name.clone(), at: self.parts.clock.now() });
        let ticks = (0..config.coordinator_queues).map(|queue| {
            let mut tick = Message::new(Address::Coordinator(queue), Tick::KIND, body.clone());
            tick.expires = Some(config.tick.into());
            tick
        });
        let failed = self.parts.broker.publish(ticks.collect()).await.into_iter().find_map(Result::err);
        if let Some(error) = failed {
            tracing::debug!(%error, "ticks could not be sent");
        }
    }
}
