//! Jobs that vanish without anybody being told: silence is noticed, and what is lost goes out again.

use phasework_broker::Address;
use phasework_sdk::{Context, HandlerError, Worker};
use phasework_tests::{Ledger, World, submit, wait};
use phasework_workflows::run::{HistoryKind, LostWhy, RunState};
use serde_json::{Value, json};

use crate::jobs::one_phase;
use crate::scenarios_over_http_too;

scenarios_over_http_too!(jobs_of_a_lost_queue_go_out_again, a_run_moves_off_a_version_whose_workers_are_gone);

/// How much faster than the wall clock the engine's clock goes. A live worker announces itself every five seconds of the
/// wall clock, and counts as gone after twenty of the engine's.
const SPEED: u32 = 3;

/// A worker that notes each job it does, under its version.
fn version(version: &'static str, ledger: &Ledger) -> impl FnOnce(Worker) -> Worker + use<> {
    let ledger = ledger.clone();
    move |worker| {
        worker.handler("H", version, move |index: u64, _: Context| {
            ledger.note(format!("{version}: {index}"));
            async { Ok::<_, HandlerError>(()) }
        })
    }
}

/// Jobs are put on the queue of a worker that has just died, and then the queue goes.
async fn jobs_of_a_lost_queue_go_out_again(mut world: World) {
    let engine = world.start_fast_engine(SPEED).await;
    let ledger = world.ledger.clone();
    world.start_worker(version("1.0.0", &ledger)).await;
    while engine.registry().workers().is_empty() {
        tokio::task::yield_now().await;
    }
    world.kill_worker(0).await;
    let run = submit(&engine, &one_phase(&json!([{ "name": "H", "for_each": 5 }])), Value::Null).await;
    let (broker, queue) = (world.broker().await, Address::Jobs("H.1.0.0".into()));
    while broker.depth(&queue).await.expect("the broker is there") < 5 {
        tokio::task::yield_now().await;
    }
    broker.delete(&queue).await.expect("the queue goes");
    world.start_worker(version("1.0.0", &ledger)).await;
    let ended = wait(&engine, run).await;
    assert_eq!(ended.head.state, RunState::Succeeded, "{:#?}", ended.head);
    let history = engine.history(run, 0, 100).await.expect("a history");
    let lost = history.iter().filter_map(|event| match &event.what {
        HistoryKind::Lost { jobs, why, .. } => Some((*jobs, *why)),
        _ => None,
    });
    assert_eq!(lost.collect::<Vec<_>>(), [(5, LostWhy::Probe)], "{history:#?}");
    let done: Vec<_> = (0..5).map(|index| ledger.count(&format!("1.0.0: {index}"))).collect();
    assert_eq!(done, [1; 5]);
    broker.close().await;
    world.stop().await;
}

/// The version that a run has pinned is gone for good, and another one that fits its requirement is there.
async fn a_run_moves_off_a_version_whose_workers_are_gone(mut world: World) {
    let engine = world.start_fast_engine(SPEED).await;
    let ledger = world.ledger.clone();
    world.start_worker(version("1.1.0", &ledger)).await;
    while engine.registry().workers().is_empty() {
        tokio::task::yield_now().await;
    }
    world.kill_worker(0).await;
    let handlers = json!([{ "name": "H", "version": "^1", "for_each": 3 }]);
    let run = submit(&engine, &one_phase(&handlers), Value::Null).await;
    world.start_worker(version("1.0.0", &ledger)).await;
    let ended = wait(&engine, run).await;
    assert_eq!(ended.head.state, RunState::Succeeded, "{:#?}", ended.head);
    let done: Vec<_> = (0..3).map(|index| ledger.count(&format!("1.0.0: {index}"))).collect();
    assert_eq!((done, ledger.under("1.1.0").len()), (vec![1; 3], 0));
    world.stop().await;
}
