//! A coordinator that meets runs which a later version of phasework has written: it leaves them to one of that version, and
//! nothing that happens to them is lost meanwhile.

use std::time::Duration;

use phasework_broker::{Address, Consumer, Delivery, Message, Subscription};
use phasework_engine::{Engine, EngineError};
use phasework_store::{Commit, RunIndex, Store};
use phasework_tests::{World, submit, wait};
use phasework_workflows::id::RunId;
use phasework_workflows::message::event::{Control, ControlAction, Tick};
use phasework_workflows::message::outcome::JobsFinished;
use phasework_workflows::message::{Body, encode};
use phasework_workflows::run::{Delta, Head, RunState, STATE_FORMAT};
use phasework_workflows::time::{Clock as _, SystemClock};
use serde_json::{Value, json};

use crate::bad_input::{announce_by_hand, publish};
use crate::scenarios;

scenarios!(
    what_happens_to_a_run_of_a_later_version_waits_for_it,
    a_queue_with_runs_of_a_later_version_goes_to_who_can_read_them,
    a_queue_full_of_what_is_for_a_later_version_is_left_to_others,
);

const PATIENCE: Duration = Duration::from_secs(60);

/// A run of two jobs that are both out, and what says that they are done, each by itself.
struct Out {
    engine: Engine,
    run: RunId,
    queue: u16,
    outcomes: Vec<String>,
}

async fn out(world: &mut World) -> Out {
    let engine = world.start_engine().await;
    let broker = world.broker().await;
    let subscription = Subscription { from: Address::Jobs("H.1.0.0".into()), prefetch: 10 };
    let mut jobs = broker.subscribe(subscription).await.expect("the job queue can be read");
    announce_by_hand(world, &engine, "H").await;
    let definition = r#"{ "workflow": "by-hand", "phases": { "only": { "is_initial": true, "is_final": true,
        "handlers": [{ "name": "H", "for_each": 2 }] } } }"#;
    let run = submit(&engine, definition, Value::Null).await;
    let (mut queue, mut outcomes) = (0, Vec::new());
    while outcomes.len() < 2 {
        for delivery in next(&mut *jobs).await {
            jobs.ack(&[delivery.tag]).await.expect("a job can be acknowledged");
            let message: Value = serde_json::from_slice(&delivery.body).expect("a job message is JSON");
            let group = &message["groups"][0];
            queue = u16::try_from(group["coordinator"].as_u64().expect("a number")).expect("a queue");
            let (first, count) =
                (group["range"][0].as_u64().expect("a job"), group["range"][1].as_u64().expect("jobs"));
            outcomes.extend((first..first + count).map(|index| {
                let outcome = json!({ "index": index, "attempt": 1, "status": "done", "output": index });
                let told = json!({ "run": group["run"], "entry": group["entry"], "nonce": group["nonce"], "handler": "H",
                    "outcomes": [outcome] });
                json!({ "v": 1, "groups": [told] }).to_string()
            }));
        }
    }
    Out { engine, run, queue, outcomes }
}

async fn next(consumer: &mut dyn Consumer) -> Vec<Delivery> {
    let next = tokio::time::timeout(PATIENCE, consumer.next(64)).await.expect("something comes in time");
    next.expect("the queue can be read")
}

/// Writes a run down as another version of phasework would.
async fn write_as(store: &dyn Store, run: RunId, format: u16) {
    let stored = store.load(&[run]).await.expect("it can be read").remove(0).expect("it is there");
    let mut head: Value = serde_json::from_slice(&stored.head).expect("a head is JSON");
    head["format"] = STATE_FORMAT.into();
    let now: Head = Head::from_json(&serde_json::to_vec(&head).expect("JSON")).expect("a head");
    head["format"] = format.into();
    let index = RunIndex {
        state: now.state,
        created_at: now.created_at,
        ended_at: now.ended_at,
        wake_at: now.wake_at,
        awaits_worker: now.awaits_worker,
    };
    let commit = Commit {
        run,
        expect: stored.version,
        head: serde_json::to_vec(&head).expect("JSON"),
        entry: now.entry.number,
        handlers: now.entry.handlers.len() as u16,
        delta: Delta::default(),
        data: None,
        effects: Vec::new(),
        published: Vec::new(),
        index,
    };
    for result in store.commit(vec![commit]).await {
        result.expect("nobody else writes it");
    }
}

/// Waits until an engine has met what it cannot read, and says so.
async fn until_met(engine: &Engine) {
    let met = async {
        while engine.warnings().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, met).await.expect("it says so in time");
    assert!(engine.warnings()[0].contains("is newer than"), "{:?}", engine.warnings());
    assert!(engine.readiness().await.is_empty(), "the others go on");
}

async fn what_happens_to_a_run_of_a_later_version_waits_for_it(mut world: World) {
    let Out { engine, run, queue, outcomes } = out(&mut world).await;
    let store = world.store().await;
    write_as(&*store, run, STATE_FORMAT + 1).await;
    for outcome in &outcomes {
        publish(&world, Address::Coordinator(queue), JobsFinished::KIND, outcome.clone()).await;
    }
    until_met(&engine).await;
    // Other runs go on, and who asks for this one is told why not; it is not ended by force either.
    let definition = r#"{ "workflow": "other", "phases": { "only": { "is_initial": true, "is_final": true } } }"#;
    for _ in 0..8 {
        let other = submit(&engine, definition, Value::Null).await;
        assert_eq!(wait(&engine, other).await.head.state, RunState::Succeeded);
    }
    let cancel = Control { force: true, ..Control::new(run, ControlAction::Cancel) };
    let refused = engine.order(cancel).await.expect_err("it cannot be read");
    assert!(matches!(&refused, EngineError::Unavailable(words) if words.contains("is newer than")), "{refused:?}");
    // A coordinator of the later version comes in its place.
    world.stop_engine(0).await;
    write_as(&*store, run, STATE_FORMAT).await;
    let engine = world.start_engine().await;
    let ended = wait(&engine, run).await;
    assert_eq!(ended.output.map(|output| output.to_value()), Some(json!({ "H": [0, 1] })));
    assert_eq!(engine.dead_count().await.expect("it can be asked"), 0);
    let history = engine.history(run, 0, 100).await.expect("it can be read");
    let lost = history.iter().find(|event| format!("{event:?}").contains("Lost"));
    assert!(lost.is_none() && ended.head.entry.handlers[0].retried == 0, "nothing was done again: {history:#?}");
    world.stop().await;
}

async fn a_queue_with_runs_of_a_later_version_goes_to_who_can_read_them(mut world: World) {
    let Out { engine, run, queue, outcomes } = out(&mut world).await;
    write_as(&*world.store().await, run, STATE_FORMAT + 1).await;
    publish(&world, Address::Coordinator(queue), JobsFinished::KIND, outcomes[0].clone()).await;
    until_met(&engine).await;
    let broker = world.broker().await;
    let subscription = Subscription { from: Address::Coordinator(queue), prefetch: 64 };
    let mut newer = broker.subscribe(subscription).await.expect("it stands in line");
    let tick = |format| Tick { from: "later".into(), at: SystemClock.now(), queues: None, format: Some(format) };
    let tick = String::from_utf8(encode(&tick(STATE_FORMAT + 1))).expect("JSON");
    publish(&world, Address::Coordinator(queue), Tick::KIND, tick).await;
    while !next(&mut *newer).await.iter().any(|it| it.body == outcomes[0].as_bytes() && it.redelivered) {}
    drop(newer);
    broker.close().await;
    world.stop().await;
}

async fn a_queue_full_of_what_is_for_a_later_version_is_left_to_others(mut world: World) {
    let Out { engine, run, queue, outcomes } = out(&mut world).await;
    write_as(&*world.store().await, run, STATE_FORMAT + 1).await;
    let broker = world.broker().await;
    let subscription = Subscription { from: Address::Coordinator(queue), prefetch: 512 };
    let mut newer = broker.subscribe(subscription).await.expect("it stands in line");
    let most = engine.parts().config.prefetch;
    let outcome = Message::new(Address::Coordinator(queue), JobsFinished::KIND, outcomes[0].clone());
    let published = broker.publish(vec![outcome; usize::from(most / 2)]).await;
    assert!(published.iter().all(Result::is_ok), "{published:?}");
    let mut came = 0;
    while came < most / 2 {
        came += next(&mut *newer).await.iter().filter(|it| it.body == outcomes[0].as_bytes()).count() as u16;
    }
    drop(newer);
    broker.close().await;
    world.stop().await;
}
