//! One queue that loses its messages, or goes, while all else stays: nobody is told, and the runs concerned end all the
//! same.

use phasework_broker::Address;
use phasework_tests::{Swallow, World};
use phasework_workflows::id::RunId;
use phasework_workflows::run::{ANNOUNCE_AGAIN, HistoryKind, LostWhy};
use phasework_workflows::time::Millis;

use crate::bad_input::announce_by_hand;
use crate::fans::{QUEUE, Tap, ended_rightly, fan, hosting, losses, submit_all, until_jobs};
use crate::processes::until;
use crate::{lost, scenarios};

scenarios!(
    jobs_of_a_purged_queue_go_out_again,
    a_purged_coordinator_queue_costs_what_was_reported_and_no_run,
    a_deleted_coordinator_queue_costs_what_was_reported_and_no_run,
    coordinator_queues_may_go_while_they_are_read,
    an_end_of_a_phase_that_is_lost_is_announced_again,
);

/// How much faster than the wall clock the engine's clock goes; see [`crate::silence`].
const SPEED: u32 = 3;

/// How many jobs each phase of a run has.
const JOBS: u64 = 6;

/// How many runs there are: some for every coordinator queue.
const RUNS: usize = 12;

async fn jobs_of_a_purged_queue_go_out_again(mut world: World) {
    let engine = world.start_fast_engine(SPEED).await;
    announce_by_hand(&world, &engine, "Note").await;
    let runs = submit_all(&engine, &fan(JOBS), "run", RUNS).await;
    let broker = world.broker().await;
    lost::until_waiting(&*broker, QUEUE, RUNS as u64 * JOBS).await;
    world.purge(&Address::Jobs(QUEUE.into())).await;
    let ledger = world.ledger.clone();
    world.start_worker(hosting(&ledger, &Tap::at(u64::MAX))).await;
    for run in runs {
        ended_rightly(&world, &engine, run, JOBS).await;
        probed(&world, run).await;
    }
    broker.close().await;
    world.stop().await;
}

/// What was lost was found by its silence.
async fn probed(world: &World, run: RunId) {
    let losses = losses(world, run).await;
    assert!(!losses.is_empty() && losses.iter().all(|why| *why == LostWhy::Probe), "{run}: {losses:?}");
}

async fn a_purged_coordinator_queue_costs_what_was_reported_and_no_run(world: World) {
    lose_what_was_reported(world, async |world, queue| world.purge(queue).await).await;
}

async fn a_deleted_coordinator_queue_costs_what_was_reported_and_no_run(world: World) {
    let delete = async |world: &World, queue: &Address| {
        let broker = world.broker().await;
        broker.delete(queue).await.expect("a queue can be deleted");
        broker.close().await;
    };
    lose_what_was_reported(world, delete).await;
}

/// Workers report to queues that nobody reads for now, and all of it is lost.
async fn lose_what_was_reported(mut world: World, lose: impl AsyncFn(&World, &Address)) {
    let tap = Tap::at(0);
    let engine = world.start_engine().await;
    let ledger = world.ledger.clone();
    world.start_worker(hosting(&ledger, &tap)).await;
    let runs = submit_all(&engine, &fan(JOBS), "run", RUNS).await;
    until_jobs(&world, "begun", &runs, RUNS * JOBS as usize).await;
    world.stop_engine(0).await;
    tap.turn(u64::MAX);
    until_jobs(&world, "done", &runs, RUNS * JOBS as usize).await;
    // It stops once all is reported.
    world.stop_worker(0).await;
    for queue in 0..4 {
        lose(&world, &Address::Coordinator(queue)).await;
    }
    world.start_worker(hosting(&ledger, &tap)).await;
    let engine = world.start_fast_engine(SPEED).await;
    for run in runs {
        ended_rightly(&world, &engine, run, JOBS).await;
        probed(&world, run).await;
    }
    world.stop().await;
}

async fn coordinator_queues_may_go_while_they_are_read(mut world: World) {
    let tap = Tap::at(2);
    let engine = world.start_fast_engine(SPEED).await;
    let ledger = world.ledger.clone();
    world.start_worker(hosting(&ledger, &tap)).await;
    let runs = submit_all(&engine, &fan(JOBS), "run", RUNS).await;
    until_jobs(&world, "begun", &runs, RUNS * JOBS as usize).await;
    let broker = world.broker().await;
    for queue in 0..4 {
        tap.turn(3 + u64::from(queue));
        broker.delete(&Address::Coordinator(queue)).await.expect("a queue can be deleted");
    }
    tap.turn(u64::MAX);
    for run in runs {
        ended_rightly(&world, &engine, run, JOBS).await;
    }
    broker.close().await;
    world.stop().await;
}

async fn an_end_of_a_phase_that_is_lost_is_announced_again(mut world: World) {
    let swallow = Swallow::first("PhaseFinished");
    let engine = world.start_swallowing_engine(&swallow, SPEED).await;
    let ledger = world.ledger.clone();
    world.start_worker(hosting(&ledger, &Tap::at(u64::MAX))).await;
    let run = submit_all(&engine, &fan(JOBS), "run", 1).await[0];
    until("the end of a phase is lost", async || swallow.is_done()).await;
    ended_rightly(&world, &engine, run, JOBS).await;
    let history = engine.history(run, 0, 100).await.expect("a history");
    let finished = history.iter().find(|event| matches!(event.what, HistoryKind::Finished { .. }));
    let finished = finished.expect("the first phase finished");
    let entered = history.iter().find(|event| matches!(event.what, HistoryKind::Entered { entry: 2, .. }));
    let waited = entered.expect("it was left").at.since(finished.at);
    assert!(waited >= ANNOUNCE_AGAIN && waited <= Millis::from_mins(2), "{waited}");
    world.stop().await;
}
