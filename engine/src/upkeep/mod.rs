//! What has to be done every so often, by every engine, whoever owns what: ticks, forgetting lost workers,
//! and the auditor.
//! What belongs to shards (timers, sweeps, retention) is done by their owner.

mod auditor;
mod ticks;
mod workers;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::engine::Engine;

pub(crate) fn spawn(engine: &Engine, tasks: &mut JoinSet<()>, shutdown: &CancellationToken) {
    tasks.spawn(auditor::Auditor::new(engine).run(shutdown.clone()));
    tasks.spawn(ticks::Ticks::new(engine).run(shutdown.clone()));
    tasks.spawn(workers::LostWorkers::new(engine).run(shutdown.clone()));
}
