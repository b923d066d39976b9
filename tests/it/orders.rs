//! Orders to runs: cancel, pause, resume, retry, rerun.

use std::sync::Arc;

use phasework_sdk::{Context, HandlerError};
use phasework_tests::{World, submit, wait};
use phasework_workflows::Payload;
use phasework_workflows::message::event::{CANCEL_DEADLINE, Control, ControlAction};
use phasework_workflows::run::RunState;
use phasework_workflows::time::Millis;
use serde_json::{Value, json};

use crate::jobs::one_phase;
use crate::{scenarios_on_sqlite, scenarios_over_http_too};

scenarios_over_http_too!(
    a_canceled_run_ends_when_its_jobs_have_stopped,
    a_canceled_run_does_not_wait_for_ever,
    a_halted_run_goes_on_once_its_cause_is_mended,
    a_phase_is_run_anew,
    a_paused_run_lets_nothing_out,
);

scenarios_on_sqlite!(
    a_canceled_run_ends_when_its_jobs_have_stopped,
    a_halted_run_goes_on_once_its_cause_is_mended,
    a_phase_is_run_anew,
    a_paused_run_lets_nothing_out,
);

async fn a_canceled_run_ends_when_its_jobs_have_stopped(mut world: World) {
    let engine = world.start_engine().await;
    let ledger = world.ledger.clone();
    world
        .start_worker(|worker| {
            worker.handler("Endless", "1.0.0", move |_: Value, ctx: Context| {
                ledger.note("started");
                let ledger = ledger.clone();
                async move {
                    ctx.canceled().await;
                    ledger.note("canceled");
                    Ok::<_, HandlerError>(())
                }
            })
        })
        .await;
    let run = submit(&engine, &one_phase(&json!(["Endless"])), Value::Null).await;
    while world.ledger.count("started") == 0 {
        tokio::task::yield_now().await;
    }
    let answer = engine.cancel(run, Some("no longer needed".into())).await.expect("a running run can be canceled");
    assert_eq!((answer.changed, &*answer.state), (true, "canceling"), "a job still runs");
    // Its worker says that it has stopped, long before the deadline.
    let ended = wait(&engine, run).await;
    assert_eq!((ended.head.state, world.ledger.count("canceled")), (RunState::Canceled, 1));
    let left = ended.head.ended_at.expect("it has ended").since(ended.head.entry.entered_at);
    assert!(left < CANCEL_DEADLINE, "it took {left}");
    let again = engine.cancel(run, None).await.expect("canceling twice does no harm");
    assert_eq!((again.changed, &*again.state), (false, "canceled"));
    world.stop().await;
}

/// A worker that goes on regardless holds a canceled run up no longer than allowed.
async fn a_canceled_run_does_not_wait_for_ever(mut world: World) {
    let engine = world.start_engine().await;
    let ledger = world.ledger.clone();
    world
        .start_worker(|worker| {
            worker.handler("Deaf", "1.0.0", move |_: Value, _: Context| {
                ledger.note("started");
                std::future::pending::<Result<(), HandlerError>>()
            })
        })
        .await;
    let run = submit(&engine, &one_phase(&json!(["Deaf"])), Value::Null).await;
    while world.ledger.count("started") == 0 {
        tokio::task::yield_now().await;
    }
    let cancel = Control { deadline: Some(Millis(300)), ..Control::new(run, ControlAction::Cancel) };
    assert_eq!(&*engine.order(cancel).await.expect("an answer").state, "canceling");
    assert_eq!(wait(&engine, run).await.head.state, RunState::Canceled);
    world.stop().await;
}

/// What failed for good is tried again once its cause is mended, with other data; what was done is not done again.
async fn a_halted_run_goes_on_once_its_cause_is_mended(mut world: World) {
    let engine = world.start_engine().await;
    let ledger = world.ledger.clone();
    world
        .start_worker(|worker| {
            worker.handler("Picky", "1.0.0", move |index: u64, ctx: Context| {
                let is_mended = ctx.data::<Value>().is_ok_and(|data| data["mended"] == true);
                ledger.note(format!("{index}"));
                async move {
                    if index == 2 && !is_mended {
                        return Err(HandlerError::fail("not like this"));
                    }
                    Ok(index * 10)
                }
            })
        })
        .await;
    let work = json!({ "is_initial": true, "is_final": true, "handlers": [{ "name": "Picky", "for_each": 4 }] });
    let definition = json!({ "workflow": "picky", "phases": { "work": work } }).to_string();
    let run = submit(&engine, &definition, json!({ "mended": false })).await;
    assert_eq!(wait(&engine, run).await.head.state, RunState::Halted);
    let data = Some(Payload::from(json!({ "mended": true })));
    let retry = Control { data, ..Control::new(run, ControlAction::Retry) };
    let answer = engine.order(retry.clone()).await.expect("an answer");
    assert_eq!((answer.changed, &*answer.state), (true, "running"));
    let ended = wait(&engine, run).await;
    assert_eq!(ended.head.state, RunState::Succeeded, "{:#?}", ended.head);
    assert_eq!(ended.output.map(|output| output.to_value()), Some(json!({ "Picky": [0, 10, 20, 30] })));
    let times: Vec<_> = (0..4).map(|index| world.ledger.count(&index.to_string())).collect();
    assert_eq!(times, [1, 1, 2, 1]);
    assert!(!engine.order(retry).await.expect("an answer").changed, "it has ended");
    world.stop().await;
}

async fn a_phase_is_run_anew(mut world: World) {
    let engine = world.start_engine().await;
    let ledger = world.ledger.clone();
    world
        .start_worker(|worker| {
            worker.handler("H", "1.0.0", move |_: Value, ctx: Context| {
                ledger.note(format!("{}#{}", ctx.phase(), ctx.entry()));
                async move {
                    if ctx.phase() == "second" && ctx.entry() == 2 {
                        return Err(HandlerError::fail("the first time"));
                    }
                    Ok(())
                }
            })
        })
        .await;
    let definition = json!({ "workflow": "anew", "phases": {
        "first": { "is_initial": true, "transitions_to": "second", "handlers": ["H"] },
        "second": { "transitions_to": "end", "handlers": ["H"] },
        "end": { "is_final": true } } });
    let run = submit(&engine, &definition.to_string(), Value::Null).await;
    assert_eq!(wait(&engine, run).await.head.state, RunState::Halted);
    let rerun = |phase: &str| {
        let phase = Some(phase.parse().expect("a phase name"));
        engine.order(Control { phase, ..Control::new(run, ControlAction::Rerun) })
    };
    let refused = rerun("fist").await.expect_err("there is no such phase").to_string();
    assert!(refused.contains("did you mean `first`"), "{refused}");
    assert!(rerun("first").await.expect("an answer").changed);
    assert_eq!(wait(&engine, run).await.head.state, RunState::Succeeded);
    let entries: Vec<_> = ["first#1", "second#2", "first#3", "second#4"].map(|it| world.ledger.count(it)).into();
    assert_eq!(entries, [1, 1, 1, 1]);
    world.stop().await;
}

/// While a run is paused nothing of it is let out; the jobs that were out come back and count.
async fn a_paused_run_lets_nothing_out(mut world: World) {
    let engine = world.start_engine().await;
    let (ledger, gate) = (world.ledger.clone(), Arc::new(tokio::sync::Semaphore::new(0)));
    let opened = Arc::clone(&gate);
    world
        .start_worker(|worker| {
            worker.handler("Gated", "1.0.0", move |_: u64, _: Context| {
                ledger.note("started");
                let gate = Arc::clone(&gate);
                async move {
                    gate.acquire().await.map_err(HandlerError::retry)?.forget();
                    Ok(())
                }
            })
        })
        .await;
    let definition = one_phase(&json!([{ "name": "Gated", "for_each": 6, "max_in_flight": 2 }]));
    let run = submit(&engine, &definition, Value::Null).await;
    while world.ledger.count("started") < 2 {
        tokio::task::yield_now().await;
    }
    let pause = engine.order(Control::new(run, ControlAction::Pause)).await.expect("an answer");
    assert_eq!((pause.changed, &*pause.state), (true, "paused"));
    opened.add_permits(6);
    loop {
        let handler = engine.run(run).await.expect("a run").head.entry.handlers.remove(0);
        if handler.done == 2 {
            assert_eq!((handler.out, handler.cursor), (0, 2));
            break;
        }
        tokio::task::yield_now().await;
    }
    // Whatever else reaches the run: nothing goes out.
    assert!(!engine.order(Control::new(run, ControlAction::Retry)).await.expect("an answer").changed);
    assert_eq!(world.ledger.count("started"), 2);
    engine.order(Control::new(run, ControlAction::Resume)).await.expect("an answer");
    assert_eq!(wait(&engine, run).await.head.state, RunState::Succeeded);
    assert_eq!(world.ledger.count("started"), 6);
    world.stop().await;
}
