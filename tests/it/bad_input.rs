//! Bad input of every kind: an answer that says what is wrong, or a dead letter with its reason; nothing is lost and
//! nobody is held up.

use std::sync::Arc;

use phasework_broker::{Address, Message, Subscription};
use phasework_engine::{Engine, EngineError, Submission, ToRun};
use phasework_sdk::{Context, HandlerError};
use phasework_tests::{World, submit, wait};
use phasework_workflows::Payload;
use phasework_workflows::message::Body;
use phasework_workflows::message::event::{Accepted, Refused, StartRuns};
use phasework_workflows::message::job::Jobs;
use phasework_workflows::message::notice::DeadLetter;
use phasework_workflows::message::outcome::JobsFinished;
use phasework_workflows::message::submission::Submit;
use phasework_workflows::run::RunState;
use serde_json::{Value, json};

use crate::scenarios;

scenarios!(
    garbage_on_every_queue_is_set_aside,
    a_bad_outcome_does_not_spoil_its_neighbours,
    submissions_by_message_are_answered,
    an_output_that_is_too_large_is_a_failure,
    an_expression_that_does_not_fit_the_data_says_so,
    data_over_the_limit_is_refused,
    an_unknown_workflow_has_a_nearest_one,
);

const ECHO: &str = r#"{
    "workflow": "echo",
    "phases": { "only": { "is_initial": true, "is_final": true, "handlers": ["Echo"] } }
}"#;

async fn start_echo(world: &mut World) -> Engine {
    let engine = world.start_engine().await;
    world
        .start_worker(|worker| {
            worker.handler("Echo", "1.0.0", |data: Value, _: Context| async move { Ok::<_, HandlerError>(data) })
        })
        .await;
    engine
}

async fn echo_works(world: &World) {
    let run = world.run(ECHO, json!("hello")).await;
    assert_eq!(run.head.state, RunState::Succeeded, "{:#?}", run.head);
}

/// Waits until there are `count` dead letters.
pub(crate) async fn dead_letters(engine: &Engine, count: u64) -> Vec<DeadLetter> {
    let waited = async {
        while engine.dead_count().await.expect("dead letters can be counted") < count {
            tokio::task::yield_now().await;
        }
    };
    let waited = tokio::time::timeout(std::time::Duration::from_secs(30), waited).await;
    let letters = engine.dead_letters(0, 100).await.expect("dead letters can be listed");
    assert!(waited.is_ok() && letters.len() as u64 == count, "expected {count}: {letters:#?}");
    letters
}

pub(crate) async fn publish(world: &World, to: Address, kind: &str, body: impl Into<Vec<u8>>) {
    phasework_tests::publish(&world.broker().await, Message::new(to, kind, body.into())).await;
}

async fn garbage_on_every_queue_is_set_aside(mut world: World) {
    let engine = start_echo(&mut world).await;
    echo_works(&world).await;
    let deep = "[".repeat(10_000);
    let queues = [
        (Address::Coordinator(0), JobsFinished::KIND),
        (Address::Coordinator(1), "no such kind"),
        (Address::Coordinator(2), StartRuns::KIND),
        (Address::Submit, Submit::KIND),
        (Address::Jobs("Echo.1.0.0".into()), Jobs::KIND),
    ];
    let bodies: [&[u8]; 4] = [b"", b"\xff\xfe garbage", deep.as_bytes(), br#"{"v":99,"items":[]}"#];
    let mut sent = 0;
    for (queue, kind) in &queues {
        for body in bodies {
            publish(&world, queue.clone(), kind, body).await;
            sent += 1;
        }
    }
    for exchange in [Address::Presence, Address::Control, Address::Events("run.finished.x".into())] {
        publish(&world, exchange, "Lifecycle", "garbage").await;
    }
    let letters = dead_letters(&engine, sent).await;
    assert!(letters.iter().all(|letter| !letter.reason.is_empty()), "{letters:#?}");
    // What can be put back goes where it came from, and is set aside again under a new id.
    let whole = letters.iter().find(|letter| letter.queue == "coordinator.1" && letter.is_whole());
    let whole = whole.expect("a letter that was kept whole");
    engine.requeue_dead_letter(&whole.id).await.expect("it can be put back");
    assert!(matches!(engine.dead_letter(&whole.id).await, Err(EngineError::NotFound(_))));
    let letters = dead_letters(&engine, sent).await;
    engine.drop_dead_letter(&letters[0].id).await.expect("it can be dropped");
    assert!(matches!(engine.drop_dead_letter(&letters[0].id).await, Err(EngineError::NotFound(_))));
    echo_works(&world).await;
    world.stop().await;
}

async fn a_bad_outcome_does_not_spoil_its_neighbours(mut world: World) {
    let engine = world.start_engine().await;
    // This test is the worker: it answers by hand.
    let broker = world.broker().await;
    let subscription = Subscription { from: Address::Jobs("H.1.0.0".into()), prefetch: 10 };
    let mut jobs = broker.subscribe(subscription).await.expect("the job queue can be read");
    announce_by_hand(&world, &engine, "H").await;
    let definition = r#"{ "workflow": "by-hand",
        "phases": { "only": { "is_initial": true, "is_final": true, "handlers": ["H"] } } }"#;
    let run = submit(&engine, definition, Value::Null).await;
    let delivery = jobs.next(1).await.expect("a job comes").remove(0);
    let job: Value = serde_json::from_slice(&delivery.body).expect("a job message is JSON");
    let group = &job["groups"][0];
    let good = json!({
        "run": group["run"], "entry": group["entry"], "nonce": group["nonce"], "handler": "H",
        "outcomes": [{ "index": 0, "attempt": 1, "status": "done", "output": { "by": "hand" } }]
    });
    let bad = json!({ "run": group["run"], "entry": "three", "nonce": 1, "handler": "H" });
    let coordinator = Address::Coordinator(u16::try_from(group["coordinator"].as_u64().unwrap_or(0)).unwrap_or(0));
    let body = json!({ "v": 1, "groups": [bad, good, 7] }).to_string();
    publish(&world, coordinator, JobsFinished::KIND, body).await;
    let ended = wait(&engine, run).await;
    assert_eq!(ended.output.map(|output| output.to_value()), Some(json!({ "H": { "by": "hand" } })));
    let letters = dead_letters(&engine, 2).await;
    assert!(
        letters.iter().any(|letter| letter.body.contains("three") && letter.reason.contains("u32")),
        "{letters:#?}"
    );
    world.stop().await;
}

/// Announces a worker that hosts a handler, which the test itself is. Who listens later than we speak does not hear: announces
/// until the engine knows.
pub(crate) async fn announce_by_hand(world: &World, engine: &Engine, handler: &str) {
    let announced = json!({
        "v": 1, "worker": "by-hand", "host": "test", "pid": 1, "sdk": "none", "started_at": "2026-01-31T12:00:00Z",
        "handlers": [{ "name": handler, "version": "1.0.0", "slots": 1, "in_flight": 0 }]
    });
    while engine.registry().workers().is_empty() {
        publish(world, Address::Presence, "WorkerAnnounced", announced.to_string()).await;
    }
}

async fn submissions_by_message_are_answered(mut world: World) {
    let engine = start_echo(&mut world).await;
    let broker = world.broker().await;
    let answers = Address::Private("client.test".into());
    let mut consumer = broker
        .subscribe(Subscription { from: answers.clone(), prefetch: 10 })
        .await
        .expect("an answer queue can be read");
    let reply_to: Arc<str> = broker.name_of(&answers).into();
    let definition: Value = serde_json::from_str(ECHO).expect("a definition");
    let wrong = json!({ "workflow": "wrong", "phases": { "a": { "is_initial": true, "transitions_to": "bb" } } });
    for (n, (body, kind, expected)) in [
        (
            json!({ "v": 1, "definition": definition, "data": 1, "key": "k" }).to_string(),
            Accepted::KIND,
            "\"changed\":true",
        ),
        (json!({ "v": 1, "workflow": "echo", "data": 1, "key": "k" }).to_string(), Accepted::KIND, "\"changed\":false"),
        (json!({ "v": 1, "workflow": "ecko" }).to_string(), Refused::KIND, "did you mean `echo`?"),
        (json!({ "v": 1, "definition": wrong }).to_string(), Refused::KIND, "bb"),
        (json!({ "v": 1 }).to_string(), Refused::KIND, "say what to run"),
        (
            format!(r#"{{"v":1,"workflow":"echo","data":{}1{}}}"#, "[".repeat(101), "]".repeat(101)),
            Refused::KIND,
            "101 deep",
        ),
        ("{".into(), Refused::KIND, "line 1 column"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut message = Message::new(Address::Submit, Submit::KIND, body.clone());
        message.reply_to = Some(Arc::clone(&reply_to));
        message.correlation_id = Some(n.to_string().into());
        phasework_tests::publish(&broker, message).await;
        let answer = consumer.next(1).await.expect("an answer comes").remove(0);
        assert_eq!((&*answer.kind, answer.correlation_id.as_deref()), (kind, Some(&*n.to_string())), "{body}");
        let text = String::from_utf8_lossy(&answer.body);
        assert!(text.contains(expected), "{body} was answered {text}");
        consumer.ack(&[answer.tag]).await.expect("an answer can be acknowledged");
    }
    assert_eq!(engine.dead_count().await.expect("dead letters can be counted"), 0, "whoever is told needs no letter");
    publish(&world, Address::Submit, Submit::KIND, r#"{"v":1,"workflow":"nobody-asks"}"#).await;
    let letters = dead_letters(&engine, 1).await;
    assert!(letters[0].reason.contains("nobody-asks"), "{letters:#?}");
    world.stop().await;
}

async fn an_output_that_is_too_large_is_a_failure(mut world: World) {
    world.start_engine().await;
    world
        .start_worker(|worker| {
            worker
                .handler("Large", "1.0.0", |_: Value, _: Context| async { Ok::<_, HandlerError>("x".repeat(2 << 20)) })
                .handler("Deep", "1.0.0", |_: Value, _: Context| async {
                    Ok::<_, HandlerError>((0..101).fold(json!(1), |deep, _| json!([deep])))
                })
                .handler("NoJson", "1.0.0", |_: Value, _: Context| async {
                    let map: std::collections::BTreeMap<Vec<u8>, u8> = [(vec![1], 2)].into();
                    Ok::<_, HandlerError>(map)
                })
        })
        .await;
    for handler in ["Large", "Deep", "NoJson"] {
        let definition = json!({
            "workflow": "outputs",
            "phases": { "only": { "is_initial": true, "is_final": true, "handlers": [handler] } }
        });
        let run = world.run(&definition.to_string(), Value::Null).await;
        assert_eq!(run.head.state, RunState::Halted, "{handler}: {:#?}", run.head);
        let error = run.head.cause.expect("a halted run says why").error;
        assert_eq!(&*error.kind, "output", "{error:?}");
    }
    world.stop().await;
}

async fn an_expression_that_does_not_fit_the_data_says_so(mut world: World) {
    world.start_engine().await;
    for (for_each, data, expected) in [
        ("data.items", json!({}), "items"),
        ("data.items", json!({ "items": "text" }), "not a list"),
        ("data.n", json!({ "n": -1 }), "not a number of jobs"),
        ("range(100000) | map('string') | list * 100000", Value::Null, ""),
    ] {
        let definition = json!({
            "workflow": "expressions",
            "phases": { "only": { "is_initial": true, "is_final": true,
                                  "handlers": [{ "name": "H", "for_each": for_each }] } }
        });
        let run = world.run(&definition.to_string(), data).await;
        assert_eq!(run.head.state, RunState::Halted, "{for_each}: {:#?}", run.head);
        let error = run.head.cause.expect("a halted run says why").error;
        assert!(&*error.kind == "expression" && error.message.contains(expected), "{for_each}: {error:?}");
    }
    world.stop().await;
}

async fn data_over_the_limit_is_refused(mut world: World) {
    let engine = start_echo(&mut world).await;
    let large = |bytes: usize| Submission {
        what: ToRun::Definition(ECHO.into()),
        data: Some(Payload::from(Value::from("x".repeat(bytes)))),
        key: None,
    };
    let refused = engine.submit(large(1 << 20)).await;
    assert!(matches!(refused, Err(EngineError::TooLarge { limit: 1_048_576, .. })), "{refused:?}");
    let accepted = engine.submit(large((1 << 20) - 100)).await.expect("just below the limit");
    assert_eq!(wait(&engine, accepted.run).await.head.state, RunState::Succeeded);
    world.stop().await;
}

async fn an_unknown_workflow_has_a_nearest_one(mut world: World) {
    let engine = start_echo(&mut world).await;
    engine.apply_workflow(ECHO).await.expect("it can be stored");
    let name = phasework_workflows::id::WorkflowName::new("ehco").expect("a name");
    let submission = Submission { what: ToRun::Workflow(name, None), data: None, key: None };
    let error = engine.submit(submission).await.expect_err("there is none").to_string();
    assert!(error.contains("did you mean `echo`?"), "{error}");
    world.stop().await;
}
