//! What the parts may lose: a broker without its queues, a store without its runs. And queues that nothing is mapped
//! onto any more, which must not keep anything.

use std::time::Duration;

use phasework_broker::{Address, Broker};
use phasework_engine::{Engine, EngineError, Submission, ToRun};
use phasework_sdk::{Context, HandlerError};
use phasework_tests::{World, submit, wait};
use phasework_workflows::id::RunId;
use phasework_workflows::run::RunState;
use serde_json::{Value, json};

use crate::bad_input::announce_by_hand;
use crate::{scenarios, scenarios_on_sqlite};

scenarios!(
    what_a_lost_broker_held_goes_out_again,
    an_emptied_store_is_not_touched_until_adopted,
    nothing_is_stranded_when_the_number_of_queues_changes,
);

scenarios_on_sqlite!(
    what_a_lost_broker_held_goes_out_again,
    an_emptied_store_is_not_touched_until_adopted,
    nothing_is_stranded_when_the_number_of_queues_changes,
);

/// Sooner than a probe would find out.
const RECOVERED_WITHIN: Duration = Duration::from_secs(20);

const JOBS: &str = r#"{ "workflow": "by-hand", "phases": { "only": { "is_initial": true, "is_final": true,
    "handlers": [{ "name": "H", "for_each": 8 }] } } }"#;

async fn start_worker(world: &mut World) {
    world
        .start_worker(|worker| {
            worker.handler("H", "1.0.0", |index: Value, _: Context| async move { Ok::<_, HandlerError>(index) })
        })
        .await;
}

/// Returns when this many messages wait in the job queue, which must be soon: a probe would find out later.
pub(crate) async fn until_waiting(broker: &dyn Broker, queue: &str, count: u64) {
    let jobs = Address::Jobs(queue.into());
    let waiting = async {
        while broker.depth(&jobs).await.expect("the queue can be looked at") < count {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(RECOVERED_WITHIN, waiting).await.expect("jobs are sent in time");
}

async fn what_a_lost_broker_held_goes_out_again(mut world: World) {
    let engine = world.start_engine().await;
    announce_by_hand(&world, &engine, "H").await;
    let run = submit(&engine, JOBS, Value::Null).await;
    let (broker, store) = (world.broker().await, world.store().await);
    until_waiting(&*broker, "H.1.0.0", 8).await;
    let marker = store.marker().await.expect("the store answers").expect("there is a marker");
    // All that was on the broker is gone, and nobody is told.
    for lost in [Address::Jobs("H.1.0.0".into()), Address::Marker("used".into()), Address::Marker(marker.clone())] {
        broker.delete(&lost).await.expect("a queue can be deleted");
    }
    until_waiting(&*broker, "H.1.0.0", 8).await;
    start_worker(&mut world).await;
    let ended = wait(&engine, run).await;
    assert_eq!(ended.head.state, RunState::Succeeded, "{:#?}", ended.head);
    let renewed = store.marker().await.expect("the store answers").expect("there is a marker");
    assert_ne!(renewed, marker);
    assert_eq!(broker.depth(&Address::Marker(renewed)).await.expect("a depth"), 1);
    assert_eq!(broker.depth(&Address::Marker("used".into())).await.expect("a depth"), 1);
    world.stop().await;
}

async fn an_emptied_store_is_not_touched_until_adopted(mut world: World) {
    let engine = world.start_engine().await;
    announce_by_hand(&world, &engine, "H").await;
    submit(&engine, JOBS, Value::Null).await;
    let broker = world.broker().await;
    until_waiting(&*broker, "H.1.0.0", 8).await;
    world.stop_engine(0).await;
    world.lose_store();
    world.start_engine().await;
    let reason = world.engine_failed(0).await;
    assert!(reason.contains("--adopt") && reason.contains("marker.used"), "{reason}");
    assert_eq!(world.store().await.marker().await.expect("the store answers"), None, "nothing was touched");
    world.stop_engine(0).await;
    let engine = world.start_adopting_engine().await;
    start_worker(&mut world).await;
    let run = submit(&engine, JOBS, Value::Null).await;
    assert_eq!(wait(&engine, run).await.head.state, RunState::Succeeded);
    // Adopted once, it is a store like any other.
    world.stop_engine(0).await;
    let engine = world.start_engine().await;
    let run = submit(&engine, JOBS, Value::Null).await;
    assert_eq!(wait(&engine, run).await.head.state, RunState::Succeeded);
    world.stop().await;
}

/// How long a submission is asked for again and again. An engine asks for half a minute, which on a machine that does much
/// else was too short once; that is told, with what may say why.
const ACCEPTED_WITHIN: Duration = Duration::from_secs(90);

/// Submits until it is accepted, as every client does that has a key.
async fn accepted(broker: &dyn Broker, engine: &Engine, submission: Submission) -> RunId {
    let asking = async {
        loop {
            match engine.submit(submission.clone()).await {
                Ok(accepted) => return accepted.run,
                Err(EngineError::Unavailable(why)) => {
                    let mut depths = Vec::new();
                    for queue in 0..16 {
                        depths.push(broker.depth(&Address::Coordinator(queue)).await.expect("a depth"));
                    }
                    let (owned, reasons) = (engine.queues_owned(), engine.readiness().await);
                    eprintln!("asked again: {why}; it owns {owned} queues, {depths:?} wait in each, {reasons:?}");
                }
                Err(error) => panic!("{error}"),
            }
        }
    };
    tokio::time::timeout(ACCEPTED_WITHIN, asking).await.expect("it is accepted in time")
}

/// Submits runs to all shards, and waits for none.
async fn submit_many(broker: &dyn Broker, engine: &Engine, round: &str) -> Vec<RunId> {
    let definition = json!({ "workflow": "many", "phases": {
        "first": { "is_initial": true, "transitions_to": "last", "handlers": [{ "name": "H", "for_each": 5 }] },
        "last": { "is_final": true, "handlers": [{ "name": "H", "for_each": 5, "max_in_flight": 1 }] } } });
    let submissions = (0..40).map(|number| {
        let key = Some(format!("{round} {number}").into());
        accepted(broker, engine, Submission { what: ToRun::Definition(definition.to_string()), data: None, key })
    });
    futures::future::join_all(submissions).await
}

async fn nothing_is_stranded_when_the_number_of_queues_changes(mut world: World) {
    start_worker(&mut world).await;
    let mut runs = Vec::new();
    let mut engine = world.start_engine_mapping(8).await;
    let broker = world.broker().await;
    runs.extend(submit_many(&*broker, &engine, "8").await);
    for (round, queues) in [3, 8, 5, 16, 1].into_iter().enumerate() {
        // Each comes while the one before is at work, and then is alone with what that one left.
        let next = world.start_engine_mapping(queues).await;
        runs.extend(submit_many(&*broker, &engine, &format!("{round} before")).await);
        runs.extend(submit_many(&*broker, &next, &format!("{round} after")).await);
        world.stop_engine(0).await;
        engine = next;
    }
    for run in runs {
        assert_eq!(wait(&engine, run).await.head.state, RunState::Succeeded);
    }
    for queue in 1..16 {
        let depth = tokio::time::timeout(Duration::from_secs(10), async {
            while broker.depth(&Address::Coordinator(queue)).await.expect("a depth") > 0 {
                tokio::task::yield_now().await;
            }
        });
        depth.await.expect("queues of earlier numbers are emptied");
    }
    world.stop().await;
}
