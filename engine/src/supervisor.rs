//! Starts every part of an engine and stops them all. Only this spawns.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use phasework_broker::{BrokerError, Consumer, SharedBroker, Subscription};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::answers::{Asker, AskerLoops};
use crate::config::ConfigError;
use crate::coordinator::{Owner, Packing, SharedShare};
use crate::ends::EndWatch;
use crate::engine::{Engine, Parts};
use crate::registry::Registry;
use crate::timeline::TimelineCheck;
use crate::workflows::Workflows;
use crate::{dead, presence, submissions, upkeep};

/// A running engine. Dropping it stops it without waiting; [`RunningEngine::stop`] waits.
#[derive(Debug)]
pub struct RunningEngine {
    engine: Engine,
    shutdown: CancellationToken,
    tasks: JoinSet<()>,
    /// Why it cannot go on, where that is known.
    failure: Arc<OnceLock<String>>,
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
    let workflows = Workflows::new(Arc::clone(&parts.store), Arc::clone(&parts.clock));
    let name = format!("{}.{}", parts.config.name, parts.ids.uuid().simple());
    let (asker, asker_loops) = Asker::new(Arc::clone(&parts.broker), &name, parts.config.coordinator_queues);
    let ends = EndWatch::default();
    let (check, timeline) = TimelineCheck::new(parts.clone(), workflows.clone());
    // Two coordinators of one name would take each other's ticks for their own.
    let share = SharedShare::new(name.into(), parts.config.coordinator_queues, parts.config.tick);
    let engine =
        Engine { parts: parts.clone(), workflows, registry, asker, ends, share, timeline, packing: Packing::default() };

    let (mut tasks, failure) = (JoinSet::new(), Arc::default());
    tasks.spawn(live(engine.clone(), asker_loops, check, shutdown.clone(), Arc::clone(&failure)));
    Ok(RunningEngine { engine, shutdown, tasks, failure })
}

/// Runs every part, once broker and store have been found to belong together; until then nothing is touched. Ends when
/// it is told to, or when a part does.
async fn live(
    engine: Engine,
    asker_loops: AskerLoops,
    check: TimelineCheck,
    shutdown: CancellationToken,
    failure: Arc<OnceLock<String>>,
) {
    let over = shutdown.child_token();
    let mut tasks = JoinSet::new();
    let (until, why) = (over.clone(), Arc::clone(&failure));
    tasks.spawn(async move {
        if let Some(reason) = check.run(until).await {
            why.get_or_init(|| reason);
        }
    });
    let (mut begun, mut queues, mut owners) = (false, engine.timeline.queues.clone(), 0);
    let mut asker_loops = Some(asker_loops);
    let mut epoch = engine.timeline.epoch.clone();
    while !tasks.is_empty() {
        if begun {
            while owners < queues.see() {
                tasks.spawn(Owner::new(engine.clone(), owners).run(over.clone()));
                owners += 1;
            }
        }
        tokio::select! {
            biased;
            Some(ended) = tasks.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "a part of the engine ended badly");
                }
                over.cancel(); // told to, or not: the others end too
            }
            () = epoch.changed(), if !begun => {
                begun = true;
                asker_loops.take().into_iter().for_each(|loops| spawn_parts(&engine, loops, &mut tasks, &over));
            }
            () = queues.changed(), if begun => {}
        }
    }
}

/// Starts everything but the owners.
fn spawn_parts(engine: &Engine, asker_loops: AskerLoops, tasks: &mut JoinSet<()>, shutdown: &CancellationToken) {
    let parts = &engine.parts;
    tasks.spawn(asker_loops.run(shutdown.clone()));
    tasks.spawn(engine.ends.clone().run(Arc::clone(&parts.broker), shutdown.clone()));
    tasks.spawn(presence::run(parts.clone(), engine.registry.clone(), shutdown.clone()));
    tasks.spawn(dead::run(parts.clone(), shutdown.clone()));
    tasks.spawn(submissions::run(engine.clone(), shutdown.clone()));
    upkeep::spawn(engine, tasks, shutdown);
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

    /// Returns when the engine has ended though nobody asked it to, with the reason. Cancel safe.
    pub async fn failed(&mut self) -> String {
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "the engine ended badly");
            }
            if !self.shutdown.is_cancelled() {
                let defect = || "a part of the engine has died, which is a defect; start it again".to_owned();
                return self.failure.get().cloned().unwrap_or_else(defect);
            }
        }
        std::future::pending().await
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
