//! Handlers that list their jobs themselves, on whole systems: few jobs, many jobs, and everything that can come between
//! the first page of a list and its seal.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use phasework_engine::{Engine, RunDetail};
use phasework_sdk::{Context, HandlerError, JobList, Worker};
use phasework_tests::{Ledger, World, submit, wait};
use phasework_workflows::id::RunId;
use phasework_workflows::message::event::{Control, ControlAction};
use phasework_workflows::run::{HistoryKind, RunState};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::processes::until;
use crate::scenarios_over_http_too;

scenarios_over_http_too!(
    lists_of_any_length_are_done,
    a_worker_that_dies_in_the_middle_of_a_list_leaves_none_of_it,
    a_coordinator_that_dies_in_the_middle_of_a_list_loses_nothing_of_it,
    a_list_that_fails_is_made_again,
    a_list_that_cannot_be_made_halts_until_it_is_retried,
    a_run_is_canceled_in_the_middle_of_its_list,
    a_list_goes_on_in_a_pause_and_its_jobs_wait,
    every_message_of_a_list_may_come_twice,
    a_list_is_made_from_what_input_gives,
    a_checkpoint_is_for_the_next_attempt_at_the_same,
);

/// A run that lists `count` jobs, does them, and counts what they gave.
fn listing(retry: &Value) -> String {
    let definition = json!({
        "workflow": "listing",
        "output": { "count": "{{ outputs.work.Lister | length }}", "sum": "{{ outputs.work.Lister | sum }}" },
        "phases": {
            "work": { "is_initial": true, "transitions_to": "end",
                      "handlers": [{ "name": "Lister", "enumerate": true, "retry": retry }] },
            "end": { "is_final": true }
        }
    });
    definition.to_string()
}

/// How far lists are let, and how they have to end. Cheap to clone.
#[derive(Clone)]
struct Tap {
    limit: watch::Sender<u64>,
    /// How many attempts at the list there were.
    attempts: Arc<AtomicU64>,
    /// How many of those fail, once they have come to the limit.
    failures: u64,
}

impl Tap {
    fn at(limit: u64) -> Self {
        Self { limit: watch::Sender::new(limit), attempts: Arc::default(), failures: 0 }
    }

    fn open(&self) {
        self.limit.send_modify(|limit| *limit = u64::MAX);
    }

    fn attempts(&self) -> u64 {
        self.attempts.load(Ordering::Relaxed)
    }
}

/// A worker whose handler lists so many jobs as the run's data says. Each job is its place in the list, and which attempt
/// listed it: a list that was mixed would show.
fn hosting(ledger: &Ledger, tap: &Tap) -> impl FnOnce(Worker) -> Worker + use<> {
    let (ledger, tap) = (ledger.clone(), tap.clone());
    let list = move |count: u64, jobs: JobList<(u64, u64)>, ctx: Context| {
        let tap = tap.clone();
        async move {
            let attempt = tap.attempts.fetch_add(1, Ordering::Relaxed) + 1;
            let mut limit = tap.limit.subscribe();
            for index in 0..count {
                limit.wait_for(|limit| index < *limit).await.map_err(HandlerError::retry)?;
                if attempt <= tap.failures && index == count / 2 {
                    return Err(HandlerError::retry(format!("attempt {} fails", ctx.attempt())));
                }
                jobs.push((index, attempt)).await?;
            }
            Ok(())
        }
    };
    let handler = move |(index, attempt): (u64, u64), ctx: Context| {
        let ledger = ledger.clone();
        async move {
            assert_eq!(index, ctx.index(), "a job of another place in the list");
            ledger.note(format!("{} of attempt {attempt}", ctx.run()));
            Ok::<_, HandlerError>(index)
        }
    };
    move |worker| worker.concurrency(256).handler("Lister", "1.0.0", handler).enumerate(list)
}

/// Checks that a run did exactly so many jobs, all of one attempt's list.
#[track_caller]
fn check_whole(world: &World, detail: &RunDetail, count: u64) {
    assert_eq!(detail.head.state, RunState::Succeeded, "{:#?}", detail.head);
    let sum = if count == 0 { 0 } else { count * (count - 1) / 2 };
    let output = detail.output.as_ref().map(phasework_workflows::Payload::to_value);
    assert_eq!(output, Some(json!({ "count": count, "sum": sum })));
    let noted = world.ledger.under(&format!("{} of attempt ", detail.head.id));
    let done: u64 = noted.iter().map(|(_, times)| times).sum();
    assert!(done >= count, "{done} jobs of {count} were done");
    assert!(noted.len() <= 1, "jobs of several attempts at the list were done: {noted:?}");
}

async fn listed(engine: &Engine, run: RunId) -> Vec<u64> {
    let history = engine.history(run, 0, 1000).await.expect("the history can be read");
    let seals = history.into_iter().filter_map(|event| match event.what {
        HistoryKind::Listed { jobs, .. } => Some(jobs),
        _ => None,
    });
    seals.collect()
}

/// Of which attempts the lists were.
async fn attempts_sealed(engine: &Engine, run: RunId) -> Vec<u32> {
    let history = engine.history(run, 0, 1000).await.expect("the history can be read");
    let seals = history.into_iter().filter_map(|event| match event.what {
        HistoryKind::Listed { attempt, .. } => Some(attempt),
        _ => None,
    });
    seals.collect()
}

/// Waits until so many jobs of the list are stored.
async fn until_listed(engine: &Engine, run: RunId, jobs: u64) {
    until("jobs are listed", async || {
        let detail = engine.run(run).await.expect("the run can be looked at");
        let listed = detail.head.entry.handlers.first().and_then(|handler| handler.enumeration);
        listed.is_some_and(|enumeration| enumeration.jobs >= jobs)
    })
    .await;
}

async fn lists_of_any_length_are_done(mut world: World) {
    let engine = world.start_engine().await;
    let tap = Tap::at(u64::MAX);
    world.start_worker(hosting(&world.ledger.clone(), &tap)).await;
    for count in [0, 1, 2500, 100_000] {
        let run = submit(&engine, &listing(&json!({})), json!(count)).await;
        let detail = wait(&engine, run).await;
        check_whole(&world, &detail, count);
        assert_eq!(listed(&engine, run).await, [count]);
    }
    world.stop().await;
}

async fn a_worker_that_dies_in_the_middle_of_a_list_leaves_none_of_it(mut world: World) {
    let engine = world.start_engine().await;
    let tap = Tap::at(5000);
    world.start_worker(hosting(&world.ledger.clone(), &tap)).await;
    let run = submit(&engine, &listing(&json!({})), json!(6000)).await;
    until_listed(&engine, run, 4096).await;
    world.start_worker(hosting(&world.ledger.clone(), &tap)).await;
    world.kill_worker(0).await;
    tap.open();
    let detail = wait(&engine, run).await;
    check_whole(&world, &detail, 6000);
    assert_eq!((tap.attempts(), listed(&engine, run).await), (2, vec![6000]));
    world.stop().await;
}

async fn a_coordinator_that_dies_in_the_middle_of_a_list_loses_nothing_of_it(mut world: World) {
    let engine = world.start_engine().await;
    let tap = Tap::at(5000);
    world.start_worker(hosting(&world.ledger.clone(), &tap)).await;
    let run = submit(&engine, &listing(&json!({})), json!(9000)).await;
    until_listed(&engine, run, 4096).await;
    let engine = world.start_engine().await;
    world.kill_engine().await;
    tap.open();
    let detail = wait(&engine, run).await;
    check_whole(&world, &detail, 9000);
    assert_eq!(listed(&engine, run).await, [9000]);
    world.stop().await;
}

async fn a_list_that_fails_is_made_again(mut world: World) {
    let engine = world.start_engine().await;
    let tap = Tap { failures: 2, ..Tap::at(u64::MAX) };
    world.start_worker(hosting(&world.ledger.clone(), &tap)).await;
    let run = submit(&engine, &listing(&json!({ "max_attempts": 3, "delay": "10ms" })), json!(5000)).await;
    let detail = wait(&engine, run).await;
    check_whole(&world, &detail, 5000);
    assert_eq!((tap.attempts(), listed(&engine, run).await), (3, vec![5000]));
    world.stop().await;
}

async fn a_list_that_cannot_be_made_halts_until_it_is_retried(mut world: World) {
    let engine = world.start_engine().await;
    let tap = Tap { failures: 2, ..Tap::at(u64::MAX) };
    world.start_worker(hosting(&world.ledger.clone(), &tap)).await;
    let run = submit(&engine, &listing(&json!({ "max_attempts": 2, "delay": "10ms" })), json!(5000)).await;
    let halted = wait(&engine, run).await;
    let cause = halted.head.cause.expect("it says why");
    assert_eq!((halted.head.state, cause.index), (RunState::Halted, None));
    assert!(cause.error.message.contains("fails"), "{}", cause.error.message);
    let retry = Control::new(run, ControlAction::Retry);
    assert!(engine.order(retry).await.expect("a halted run can be retried").changed);
    let detail = wait(&engine, run).await;
    check_whole(&world, &detail, 5000);
    world.stop().await;
}

async fn a_run_is_canceled_in_the_middle_of_its_list(mut world: World) {
    let engine = world.start_engine().await;
    let tap = Tap::at(5000);
    world.start_worker(hosting(&world.ledger.clone(), &tap)).await;
    let run = submit(&engine, &listing(&json!({})), json!(9000)).await;
    until_listed(&engine, run, 4096).await;
    let begun = engine.run(run).await.expect("the run can be looked at").head;
    let kept = begun.entry.handlers[0].enumeration.and_then(|enumeration| enumeration.list).expect("it was begun");
    let store = world.store().await;
    assert!(store.inputs(run, 1, kept, 0, 0).await.expect("inputs can be read").is_some(), "its pages are there");
    let answer = engine.cancel(run, None).await.expect("it can be canceled");
    assert!(answer.changed);
    let ended = wait(&engine, run).await;
    assert_eq!((ended.head.state, tap.attempts()), (RunState::Canceled, 1));
    assert_eq!(world.ledger.under(&run.to_string()), [], "no job of it was let out");
    assert_eq!(store.inputs(run, 1, kept, 0, 0).await.expect("inputs can be read"), None, "its pages are gone");
    world.stop().await;
}

async fn a_list_goes_on_in_a_pause_and_its_jobs_wait(mut world: World) {
    let engine = world.start_engine().await;
    let tap = Tap::at(5000);
    world.start_worker(hosting(&world.ledger.clone(), &tap)).await;
    let run = submit(&engine, &listing(&json!({})), json!(9000)).await;
    until_listed(&engine, run, 4096).await;
    engine.order(Control::new(run, ControlAction::Pause)).await.expect("it can be paused");
    tap.open();
    until("it is listed", async || !listed(&engine, run).await.is_empty()).await;
    assert_eq!(world.ledger.under(&run.to_string()), [], "no job of it was let out");
    engine.order(Control::new(run, ControlAction::Resume)).await.expect("it can be resumed");
    let detail = wait(&engine, run).await;
    check_whole(&world, &detail, 9000);
    world.stop().await;
}

/// Two workers may then make the list at once: one of the lists counts, and nothing of the other.
async fn every_message_of_a_list_may_come_twice(mut world: World) {
    world.duplicate_messages();
    let engine = world.start_engine().await;
    let tap = Tap::at(u64::MAX);
    world.start_worker(hosting(&world.ledger.clone(), &tap)).await;
    world.start_worker(hosting(&world.ledger.clone(), &tap)).await;
    for count in [3000, 0, 1025] {
        let run = submit(&engine, &listing(&json!({})), json!(count)).await;
        let detail = wait(&engine, run).await;
        check_whole(&world, &detail, count);
        assert_eq!(listed(&engine, run).await, [count]);
        assert_eq!(attempts_sealed(&engine, run).await, [1], "one of them was told to stop, and it ended the other's");
    }
    world.stop().await;
}

/// Two handlers that list, and fail at their list and at each job, once each: whatever they leave comes to the attempt that
/// follows, and to nobody else.
async fn a_checkpoint_is_for_the_next_attempt_at_the_same(mut world: World) {
    let engine = world.start_engine().await;
    world.start_worker(|worker| leaving(leaving(worker, "First"), "Second")).await;
    let retry = json!({ "max_attempts": 2, "delay": "10ms" });
    let handlers = ["First", "Second"].map(|name| json!({ "name": name, "enumerate": true, "retry": retry }));
    let definition = json!({
        "workflow": "leaving",
        "output": { "first": "{{ outputs.work.First }}", "second": "{{ outputs.work.Second }}" },
        "phases": { "work": { "is_initial": true, "transitions_to": "end", "handlers": handlers }, "end": { "is_final": true } }
    });
    let run = submit(&engine, &definition.to_string(), json!(null)).await;
    let detail = wait(&engine, run).await;
    assert_eq!(detail.head.state, RunState::Succeeded, "{:#?}", detail.head);
    let output = detail.output.as_ref().map(phasework_workflows::Payload::to_value);
    let of = |name: &str| json!([format!("job 0 of {name}"), format!("job 1 of {name}")]);
    assert_eq!(output, Some(json!({ "first": of("First"), "second": of("Second") })));
    world.stop().await;
}

/// A handler that lists two jobs, and gives what the attempt before has left.
fn leaving(worker: Worker, name: &'static str) -> Worker {
    let list = move |_: Value, jobs: JobList<u64>, ctx: Context| async move {
        let left = ctx.last_checkpoint::<String>()?;
        if ctx.attempt() == 1 {
            assert_eq!(left, None);
            ctx.checkpoint(&format!("list of {name}"))?;
            jobs.push(7).await?;
            return Err(HandlerError::retry("the first time"));
        }
        if left != Some(format!("list of {name}")) {
            return Err(HandlerError::fail(format!("the list finds {left:?}")));
        }
        jobs.push(0).await?;
        jobs.push(1).await
    };
    let handler = move |_: u64, ctx: Context| async move {
        let left = ctx.last_checkpoint::<String>()?;
        if ctx.attempt() == 1 {
            if left.is_some() {
                return Err(HandlerError::fail(format!("a job finds {left:?}")));
            }
            ctx.checkpoint(&format!("job {} of {name}", ctx.index()))?;
            return Err(HandlerError::retry("the first time"));
        }
        Ok(left)
    };
    worker.handler(name, "1.0.0", handler).enumerate(list)
}

async fn a_list_is_made_from_what_input_gives(mut world: World) {
    let engine = world.start_engine().await;
    let tap = Tap::at(u64::MAX);
    world.start_worker(hosting(&world.ledger.clone(), &tap)).await;
    let mut definition: Value = serde_json::from_str(&listing(&json!({}))).expect("it is JSON");
    definition["phases"]["work"]["handlers"][0]["input"] = json!("{{ data.pages * 100 }}");
    let run = submit(&engine, &definition.to_string(), json!({ "pages": 20 })).await;
    let detail = wait(&engine, run).await;
    check_whole(&world, &detail, 2000);
    world.stop().await;
}
