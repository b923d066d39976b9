//! Long jobs: leased from their coordinator, whoever dies meanwhile.

use std::time::Duration;

use phasework_engine::Engine;
use phasework_sdk::{Context, HandlerError, RunId, Worker};
use phasework_tests::{Ledger, World, submit, wait};
use phasework_workflows::run::RunState;
use phasework_workflows::time::Millis;
use serde_json::{Value, json};

use crate::jobs::one_phase;
use crate::{scenarios_on_sqlite, scenarios_over_http_too};

scenarios_over_http_too!(
    a_leased_job_outlives_its_coordinator,
    a_leased_job_is_handed_on_when_its_worker_stops,
    a_leased_job_is_done_again_when_its_worker_has_died,
);

scenarios_on_sqlite!(a_leased_job_outlives_its_coordinator, a_leased_job_is_done_again_when_its_worker_has_died,);

/// A handler that is leased soon, and done once the ledger says so or on a later attempt.
fn long(ledger: &Ledger) -> impl FnOnce(Worker) -> Worker + use<> {
    let ledger = ledger.clone();
    move |worker| {
        let handler = move |_: Value, ctx: Context| {
            let ledger = ledger.clone();
            async move {
                ledger.note(format!("attempt {}", ctx.attempt()));
                ctx.progress(40);
                while ledger.count("go on") == 0 && ctx.attempt() == 1 {
                    tokio::task::yield_now().await;
                }
                Ok::<_, HandlerError>(ctx.attempt())
            }
        };
        worker.handler("Long", "1.0.0", handler).lease_after(Duration::from_millis(100))
    }
}

/// Starts a run of one long job; returns it once that is leased and its message gone.
async fn leased(world: &mut World) -> (Engine, RunId) {
    let engine = world.start_engine().await;
    world.start_worker(long(&world.ledger.clone())).await;
    let run = submit(&engine, &one_phase(&json!(["Long"])), Value::Null).await;
    while leases(&engine, run).await == 0 {
        tokio::task::yield_now().await;
    }
    (engine, run)
}

/// How many jobs of the run are leased.
async fn leases(engine: &Engine, run: RunId) -> u64 {
    let head = engine.run(run).await.expect("the run is there").head;
    head.entry.handlers.iter().map(|handler| handler.leased).sum()
}

/// The run's end, and on which attempts its job was begun.
async fn check(world: World, engine: &Engine, run: RunId, attempts: &[(&str, u64)]) {
    let ended = wait(engine, run).await;
    assert_eq!(ended.head.state, RunState::Succeeded, "{:#?}", ended.head);
    let seen = world.ledger.under("attempt");
    assert_eq!(seen.iter().map(|(what, times)| (what.as_str(), *times)).collect::<Vec<_>>(), attempts);
    // A worker whose connection was lost just then has to be back to acknowledge what came again.
    let is_emptied = async {
        while engine.queue_depth("Long.1.0.0").await.expect("a depth") > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), is_emptied).await.expect("the message is gone in the end");
    assert_eq!(engine.dead_count().await.expect("a count"), 0);
    world.stop().await;
}

async fn a_leased_job_outlives_its_coordinator(mut world: World) {
    let (engine, run) = leased(&mut world).await;
    drop(engine);
    world.kill_engine().await;
    let engine = world.start_engine().await;
    assert_eq!(leases(&engine, run).await, 1);
    world.ledger.note("go on");
    check(world, &engine, run, &[("attempt 1", 1)]).await;
}

async fn a_leased_job_is_handed_on_when_its_worker_stops(mut world: World) {
    let (engine, run) = leased(&mut world).await;
    world.stop_worker(0).await;
    world.start_worker(long(&world.ledger.clone())).await;
    check(world, &engine, run, &[("attempt 1", 1), ("attempt 2", 1)]).await;
}

async fn a_leased_job_is_done_again_when_its_worker_has_died(mut world: World) {
    let (engine, run) = leased(&mut world).await;
    world.kill_worker(0).await;
    assert_eq!(leases(&engine, run).await, 1, "nobody knows yet");
    drop(engine);
    world.kill_engine().await;
    let engine = world.start_engine_ahead(Millis::from_mins(2)).await;
    world.start_worker(long(&world.ledger.clone())).await;
    check(world, &engine, run, &[("attempt 1", 1), ("attempt 2", 1)]).await;
}
