//! Ownership goes back and forth: what an owner remembers from before may be old, and must not cost an outcome.

use std::time::Duration;

use phasework_broker::{Address, Consumer, Subscription};
use phasework_engine::{Submission, ToRun};
use phasework_tests::{Blink, World, submit, wait};
use phasework_workflows::message::Body;
use phasework_workflows::message::outcome::JobsFinished;
use phasework_workflows::run::RunState;
use serde_json::{Value, json};

use crate::bad_input::{announce_by_hand, publish};
use crate::scenarios;

scenarios!(an_owner_that_blinked_does_not_trust_its_memory, what_changes_nothing_sends_nothing_out_again);

/// Takes the next job and reports it done.
async fn do_next(world: &World, jobs: &mut Box<dyn Consumer>) -> Value {
    let delivery = tokio::time::timeout(Duration::from_secs(60), jobs.next(1)).await.expect("a job comes in time");
    let delivery = delivery.expect("the queue can be read").remove(0);
    jobs.ack(&[delivery.tag]).await.expect("a job can be acknowledged");
    let message: Value = serde_json::from_slice(&delivery.body).expect("a job message is JSON");
    let group = &message["groups"][0];
    let index = group["range"][0].clone();
    let body = json!({ "v": 1, "groups": [{
        "run": group["run"], "entry": group["entry"], "nonce": group["nonce"], "handler": "H",
        "outcomes": [{ "index": index, "attempt": 1, "status": "done", "output": index }]
    }] });
    let queue = group["coordinator"].as_u64().and_then(|queue| u16::try_from(queue).ok()).expect("a queue");
    publish(world, Address::Coordinator(queue), JobsFinished::KIND, body.to_string()).await;
    index
}

async fn an_owner_that_blinked_does_not_trust_its_memory(mut world: World) {
    let (first, second) = (Blink::default(), Blink::default());
    let engine = world.start_blinking_engine(&first).await;
    let broker = world.broker().await;
    let subscription = Subscription { from: Address::Jobs("H.1.0.0".into()), prefetch: 1 };
    let mut jobs = broker.subscribe(subscription).await.expect("the job queue can be read");
    announce_by_hand(&world, &engine, "H").await;
    let definition = r#"{ "workflow": "by-hand", "phases": { "only": { "is_initial": true, "is_final": true,
        "handlers": [{ "name": "H", "for_each": 8, "max_in_flight": 1 }] } } }"#;
    let run = submit(&engine, definition, Value::Null).await;
    world.start_blinking_engine(&second).await;
    // Whoever blinks loses the queue to the other, and gets it back with a memory that is two jobs old.
    for round in 0..4 {
        let blink = if round % 2 == 0 { &first } else { &second };
        for job in 0..2 {
            // What the other had published and not yet cleared may come once more; nothing may be left out.
            let expected = json!(2 * round + job);
            while do_next(&world, &mut jobs).await != expected {}
        }
        blink.now();
    }
    let ended = wait(&engine, run).await;
    assert_eq!(ended.head.state, RunState::Succeeded, "{:#?}", ended.head);
    assert_eq!(ended.output.map(|output| output.to_value()), Some(json!({ "H": [0, 1, 2, 3, 4, 5, 6, 7] })));
    drop(jobs);
    world.stop().await;
}

/// An event that changes nothing has its run loaded anew. What was published before, and still stands in the stored
/// outbox, must not go out once more: a job that is done twice reports twice, which changes nothing, and so on for ever.
async fn what_changes_nothing_sends_nothing_out_again(mut world: World) {
    let engine = world.start_blinking_engine(&Blink::default()).await;
    let broker = world.broker().await;
    let queue = Address::Jobs("H.1.0.0".into());
    let mut jobs = broker.subscribe(Subscription { from: queue, prefetch: 10 }).await.expect("the queue can be read");
    announce_by_hand(&world, &engine, "H").await;
    let definition = r#"{ "workflow": "once", "phases": { "only": { "is_initial": true, "is_final": true,
        "handlers": [{ "name": "H", "for_each": 4, "max_in_flight": 1 }] } } }"#;
    let submission = || Submission {
        what: ToRun::Definition(definition.to_owned()),
        key: Some("k".into()),
        ..Submission::default()
    };
    let run = engine.submit(submission()).await.expect("the submission is accepted").run;
    for job in 0..4 {
        assert_eq!(do_next(&world, &mut jobs).await, json!(job), "a job went out again");
        engine.submit(submission()).await.expect("the submission is known");
    }
    assert_eq!(wait(&engine, run).await.head.state, RunState::Succeeded);
    drop(jobs);
    world.stop().await;
}
