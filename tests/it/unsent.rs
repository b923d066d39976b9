//! Messages that cannot be published: a job that is too large fails for good, and a queue that confirms nothing holds up
//! nobody but those who wait for it.

use std::collections::BTreeSet;
use std::time::Duration;

use phasework_broker::{Address, Message, Subscription};
use phasework_engine::Engine;
use phasework_sdk::{Context, HandlerError};
use phasework_tests::{Clog, World, publish, submit, wait};
use phasework_workflows::id::{RunId, WorkflowName};
use phasework_workflows::message::event::{Accepted, Control, ControlAction};
use phasework_workflows::message::submission::Submit;
use phasework_workflows::message::{Body as _, decode};
use phasework_workflows::run::RunState;
use serde_json::{Value, json};

use crate::bad_input::dead_letters;
use crate::scenarios;

scenarios!(
    a_job_too_large_to_be_sent_fails_for_good,
    a_clogged_queue_holds_up_nobody_else,
    orders_to_others_pass_a_clogged_coordinator_queue,
    submissions_of_others_pass_a_clogged_coordinator_queue,
    owners_of_others_hear_ticks_while_a_coordinator_queue_is_clogged,
    events_pass_a_clogged_dead_letter_queue,
);

/// How many coordinator queues there are, and the one that is clogged.
const QUEUES: u16 = 4;
const CLOGGED: u16 = 1;

/// What is not held up is done within this time, on a machine that does much else, too; what is held up is so for ten
/// seconds.
const SOON: Duration = Duration::from_secs(8);

const EMPTY: &str = r#"{ "workflow": "empty", "phases": { "only": { "is_initial": true, "is_final": true } } }"#;

fn is_clogged(run: RunId) -> bool {
    run.shard().queue(QUEUES) == CLOGGED
}

async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, work).await.unwrap_or_else(|_| panic!("held up: {what}"))
}

async fn a_job_too_large_to_be_sent_fails_for_good(mut world: World) {
    world.limit_messages(20_000);
    let engine = world.start_engine().await;
    world
        .start_worker(|worker| {
            worker.handler("Echo", "1.0.0", |data: Value, _: Context| async { Ok::<_, HandlerError>(data) })
        })
        .await;
    let texts = vec!["{{ data.text }}"; 10];
    let definition = json!({ "workflow": "large", "phases": {
        "only": { "is_initial": true, "transitions_to": "done", "on_error_transition_to": "error",
            "handlers": [{ "name": "Echo", "input": texts }] },
        "error": { "is_final": true },
        "done": { "is_final": true } } });
    let detail = world.run(&definition.to_string(), json!({ "text": "x".repeat(3000) })).await;
    assert_eq!(
        (detail.head.state, detail.head.entry.phase.as_str()),
        (RunState::Failed, "error"),
        "{:#?}",
        detail.head
    );
    let failures = engine.failures(detail.head.id, 0, 10).await.expect("failures can be listed");
    let found: Vec<_> = failures.iter().map(|failure| (failure.index, &*failure.error.kind)).collect();
    assert_eq!(found, [(0, "too-large")], "{failures:#?}");
    assert!(failures[0].error.message.contains("at most 20000"), "{failures:#?}");
    world.stop().await;
}

fn one_job(handler: &str) -> String {
    format!(
        r#"{{ "workflow": "one-{}", "phases": {{ "only": {{ "is_initial": true, "is_final": true,
            "handlers": ["{handler}"] }} }} }}"#,
        handler.to_lowercase()
    )
}

async fn a_clogged_queue_holds_up_nobody_else(mut world: World) {
    let clog = Clog::of("Stuck.1.0.0");
    let engine = world.start_clogged_engine(&clog).await;
    world
        .start_worker(|worker| {
            let echo = |data: Value, _: Context| async { Ok::<_, HandlerError>(data) };
            worker.handler("Echo", "1.0.0", echo).handler("Stuck", "1.0.0", echo)
        })
        .await;
    let stuck = submit(&engine, &one_job("Stuck"), json!(1)).await;
    // Enough that all coordinator queues have some, and that of the stuck one too.
    for number in 0..32 {
        let run = submit(&engine, &one_job("Echo"), json!(number)).await;
        assert_eq!(wait(&engine, run).await.head.state, RunState::Succeeded);
    }
    assert!(clog.refused() > 0);
    let head = engine.run(stuck).await.expect("the run is there").head;
    assert_eq!(head.state, RunState::Running);
    clog.open();
    assert_eq!(wait(&engine, stuck).await.head.state, RunState::Succeeded);
    world.stop().await;
}

/// Starts runs until there are some of every coordinator queue: first one of the queue that is going to be clogged, then
/// those of the others.
async fn runs_of_every_queue(engine: &Engine, definition: &str) -> (RunId, Vec<RunId>) {
    let (mut clogged, mut others) = (None, Vec::new());
    while clogged.is_none() || others.len() < 12 {
        let run = submit(engine, definition, Value::Null).await;
        if is_clogged(run) {
            clogged = Some(run);
        } else {
            others.push(run);
        }
    }
    (clogged.expect("there is one"), others)
}

async fn orders_to_others_pass_a_clogged_coordinator_queue(mut world: World) {
    let clog = Clog::later(Address::Coordinator(CLOGGED));
    let engine = world.start_clogged_engine(&clog).await;
    let (stuck, others) = runs_of_every_queue(&engine, &one_job("Nobody")).await;
    clog.shut();
    let asking = engine.clone();
    let held_up = tokio::spawn(async move { asking.order(Control::new(stuck, ControlAction::Pause)).await });
    while clog.refused() == 0 {
        tokio::task::yield_now().await;
    }
    for &run in &others {
        let order = Control::new(run, ControlAction::Pause);
        soon("an order", engine.order(order)).await.expect("it is carried out");
    }
    clog.open();
    held_up.await.expect("no panic").expect("it is carried out once the queue takes something");
    assert_eq!(engine.run(stuck).await.expect("it is there").head.state, RunState::Paused);
    world.stop().await;
}

async fn submissions_of_others_pass_a_clogged_coordinator_queue(mut world: World) {
    let clog = Clog::later(Address::Coordinator(CLOGGED));
    let engine = world.start_clogged_engine(&clog).await;
    let broker = world.broker().await;
    let (answers, name) = (Address::Private("test.answers".into()), WorkflowName::new("empty").expect("a name"));
    let mut consumer =
        broker.subscribe(Subscription { from: answers.clone(), prefetch: 100 }).await.expect("it can be read");
    let submission = |number: u32| {
        let body = r#"{ "v": 1, "workflow": "empty" }"#;
        let mut message = Message::new(Address::Submit, Submit::KIND, body);
        message.id = Some(format!("{name}-{number}").into());
        message.reply_to = Some(broker.name_of(&answers).into());
        message
    };
    submit(&engine, EMPTY, Value::Null).await;
    clog.shut();
    let (mut sent, mut accepted) = (0, BTreeSet::new());
    // Until some are held up, and some have come after those.
    let (mut held_up, mut after) = (0, 0);
    while after < 12 {
        let is_held_up = clog.refused() > 0;
        publish(&broker, submission(sent)).await;
        sent += 1;
        let taken = match tokio::time::timeout(SOON / 10, consumer.next(100)).await {
            Ok(taken) => taken.expect("it can be read"),
            Err(_) => {
                held_up += 1;
                // Far more than is clogged: were all of them, this would not end.
                assert!(held_up < 50, "{held_up} of {sent} were held up");
                continue;
            }
        };
        consumer.ack(&taken.iter().map(|it| it.tag).collect::<Vec<_>>()).await.expect("it is acknowledged");
        after += if is_held_up { taken.len() } else { 0 };
        accepted.extend(taken.iter().map(|it| decode::<Accepted>(&it.body).expect("it is accepted").run));
    }
    assert!(accepted.iter().all(|run| !is_clogged(*run)));
    clog.open();
    while accepted.len() < sent as usize {
        let taken = tokio::time::timeout(SOON * 6, consumer.next(100)).await.expect("in time").expect("can be read");
        accepted.extend(taken.iter().map(|it| decode::<Accepted>(&it.body).expect("it is accepted").run));
    }
    world.stop().await;
}

async fn owners_of_others_hear_ticks_while_a_coordinator_queue_is_clogged(mut world: World) {
    let clog = Clog::later(Address::Coordinator(CLOGGED));
    let engine = world.start_clogged_engine(&clog).await;
    let fails_once = |_: Value, context: Context| async move {
        if context.attempt() > 1 { Ok(()) } else { Err(HandlerError::retry("not yet")) }
    };
    world.start_worker(|worker| worker.handler("Twice", "1.0.0", fails_once)).await;
    let definition = r#"{ "workflow": "twice", "phases": { "only": { "is_initial": true, "is_final": true,
        "handlers": [{ "name": "Twice", "retry": { "backoff": "fixed", "delay": "1s" } }] } } }"#;
    let (_, others) = runs_of_every_queue(&engine, definition).await;
    clog.shut();
    // An owner that hears no ticks for half a second does not know that it is one any more, and leaves timers alone.
    for run in others {
        assert_eq!(soon("a timer", wait(&engine, run)).await.head.state, RunState::Succeeded);
    }
    clog.open();
    world.stop().await;
}

async fn events_pass_a_clogged_dead_letter_queue(mut world: World) {
    let clog = Clog::later(Address::Dead);
    let engine = world.start_clogged_engine(&clog).await;
    submit(&engine, EMPTY, Value::Null).await;
    clog.shut();
    let garbage = |queue| Message::new(Address::Coordinator(queue), "Garbage", "{}");
    let broker = world.broker().await;
    for queue in 0..QUEUES {
        publish(&broker, garbage(queue)).await;
    }
    while clog.refused() < u64::from(QUEUES) {
        tokio::task::yield_now().await;
    }
    for _ in 0..12 {
        let ended = async { wait(&engine, submit(&engine, EMPTY, Value::Null).await).await };
        assert_eq!(soon("a run", ended).await.head.state, RunState::Succeeded);
        for queue in 0..QUEUES {
            publish(&broker, garbage(queue)).await;
        }
    }
    // What is set aside is held until it is published, and does not come again and again meanwhile.
    assert!(clog.refused() <= u64::from(13 * QUEUES), "{} times", clog.refused());
    clog.open();
    dead_letters(&engine, u64::from(13 * QUEUES)).await;
    world.stop().await;
}
