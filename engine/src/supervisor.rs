//! Starts every part of an engine and stops them all. Only this spawns.

use std::sync::Arc;
use std::time::Duration;

use phasework_broker::{BrokerError, Consumer, SharedBroker, Subscription};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::answers::Asker;
use crate::config::ConfigError;
use crate::coordinator::{Owner, SharedShare};
use crate::ends::EndWatch;
use crate::engine::{Engine, Parts};
use crate::registry::Registry;
use crate::workflows::Workflows;
use crate::{dead, presence, submissions, upkeep};

/// A running engine. Dropping it stops it without waiting; [`RunningEngine::stop`] waits.
#[derive(Debug)]
pub struct RunningEngine {
    engine: Engine,
    shutdown: CancellationToken,
    tasks: JoinSet<()>,
}

/// Starts an engine: one owner for each coordinator queue, the listeners, and upkeep. It waits for nothing: parts that
/// cannot be reached are waited for in the background, and [`Engine::readiness`] says so.
///
/// # Errors
/// When a setting cannot be.
#[expect(clippy::needless_pass_by_value, reason = "an engine is made of its parts, it does not borrow them")]
pub fn start(parts: Parts) -> Result<RunningEngine, ConfigError> {
    parts.config.check()?;
    let shutdown = CancellationToken::new();
    let registry = Registry::new();
    let workflows = Workflows::new(Arc::clone(&parts.store));
    let name = format!("{}.{}", parts.config.name, parts.ids.uuid().simple());
    let (asker, asker_loops) = Asker::new(Arc::clone(&parts.broker), &name, parts.config.coordinator_queues);
    let ends = EndWatch::default();
    // Two coordinators of one name would take each other's ticks for their own.
    let share = SharedShare::new(name.into(), parts.config.coordinator_queues, parts.config.tick);
    let engine =
        Engine { parts: parts.clone(), workflows, registry: registry.clone(), asker, ends: ends.clone(), share };

    let mut tasks = JoinSet::new();
    tasks.spawn(asker_loops.run(shutdown.clone()));
    tasks.spawn(ends.run(Arc::clone(&parts.broker), shutdown.clone()));
    tasks.spawn(presence::run(parts.clone(), registry, shutdown.clone()));
    tasks.spawn(dead::run(parts.clone(), shutdown.clone()));
    tasks.spawn(submissions::run(engine.clone(), shutdown.clone()));
    for queue in 0..parts.config.coordinator_queues {
        tasks.spawn(Owner::new(engine.clone(), queue).run(shutdown.clone()));
    }
    upkeep::spawn(&engine, &mut tasks, &shutdown);
    Ok(RunningEngine { engine, shutdown, tasks })
}

impl RunningEngine {
    /// The door into it.
    pub const fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Stops it: batches under way are finished, nothing new is begun. Returns when all work is safe.
    pub async fn stop(mut self) {
        self.shutdown.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a part of the engine ended badly");
            }
        }
    }

    /// Returns when a part of the engine has ended though nobody asked it to, which is a defect. Cancel safe.
    pub async fn failed(&mut self) {
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a part of the engine ended badly");
            }
            if !self.shutdown.is_cancelled() {
                return;
            }
        }
        std::future::pending::<()>().await;
    }
}

impl Drop for RunningEngine {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// Subscribes, and tries for ever when the broker is away. `None` when it was told to stop, or the broker was closed.
pub(crate) async fn subscribe(
    broker: &SharedBroker,
    subscription: &Subscription,
    shutdown: &CancellationToken,
) -> Option<Box<dyn Consumer>> {
    let mut wait = Duration::from_millis(200);
    loop {
        let subscribed = tokio::select! {
            biased;
            () = shutdown.cancelled() => return None,
            subscribed = broker.subscribe(subscription.clone()) => subscribed,
        };
        match subscribed {
            Ok(consumer) => return Some(consumer),
            Err(BrokerError::Closed) => return None,
            Err(error) => {
                tracing::warn!(%error, from = ?subscription.from, "cannot read from the broker yet; trying again");
            }
        }
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return None,
            () = tokio::time::sleep(wait) => wait = (wait * 2).min(Duration::from_secs(5)),
        }
    }
}
