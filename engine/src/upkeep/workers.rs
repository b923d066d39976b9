//! Forgets workers that have not been heard of for long, here and in the store.

use phasework_workflows::message::presence::WORKER_TTL;
use phasework_workflows::time::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::engine::{Engine, Parts};
use crate::registry::Registry;

pub(crate) struct LostWorkers {
    parts: Parts,
    registry: Registry,
}

impl LostWorkers {
    pub(crate) fn new(engine: &Engine) -> Self {
        Self { parts: engine.parts.clone(), registry: engine.registry.clone() }
    }

    pub(crate) async fn run(self, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(WORKER_TTL.into()) => self.run_once(self.parts.clock.now()).await,
            }
        }
    }

    async fn run_once(&self, now: Timestamp) {
        let lost = self.registry.forget_lost(now);
        if lost.is_empty() {
            return;
        }
        tracing::warn!(workers = ?lost, "workers have not been heard of for long and are forgotten");
        if let Err(error) = self.parts.store.remove_workers(&lost).await {
            tracing::debug!(%error, "lost workers could not be forgotten by the store");
        }
    }
}
