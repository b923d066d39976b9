//! What a job leaves for its next attempt: with its lease, with its outcome, and what the next attempt finds.

use std::time::Duration;

use phasework_sdk::testing::TestRun;
use phasework_sdk::{Context, HandlerError, Payload, Worker};
use phasework_workflows::message::job::{Job, JobGroup};
use phasework_workflows::message::lease::{LEASE, Leases};
use phasework_workflows::message::outcome::Status;
use phasework_workflows::time::Millis;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::bench::{Bench, kind, range};

/// Leaves a page number every second, goes on from the last, and fails after the page that its input says.
async fn import(fails_at: u32, ctx: Context) -> Result<u32, HandlerError> {
    let first = ctx.last_checkpoint::<u32>()?.unwrap_or(0);
    for page in first..1000 {
        sleep(Duration::from_secs(1)).await;
        ctx.checkpoint(&(page + 1))?;
        if page + 1 == fails_at {
            return Err(HandlerError::retry("the connection is gone"));
        }
    }
    Ok(first)
}

fn importer(worker: Worker) -> Worker {
    worker.handler("Echo", "1.0.0", import)
}

fn job(input: &str, details: Option<Value>) -> JobGroup {
    let input = Payload::from_json(input.to_owned()).ok();
    let job = Job { index: 0, attempt: 2, tried: 2, input, details: details.map(Payload::from) };
    JobGroup { timeout: Millis::from_mins(60), range: None, jobs: vec![job], ..range(0, 1) }
}

fn left(asked: &Leases) -> String {
    asked.groups[0].leases[0].details.as_ref().map_or_else(|| "nothing".to_owned(), Payload::to_string)
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_goes_with_the_lease_at_once_when_there_is_one() {
    let mut bench = Bench::start(importer).await;
    bench.send(vec![job("0", None)]).await;
    let (asked, at) = bench.answer_leases(Some(LEASE)).await;
    let first: f64 = left(&asked).parse().unwrap();
    assert!((28.0..31.0).contains(&first), "a page a second, for half a minute: {first}");
    for _ in 0..5 {
        let (asked, _) = bench.answer_leases(Some(LEASE)).await;
        let age = first + at.elapsed().as_secs_f64() - left(&asked).parse::<f64>().unwrap();
        assert!(age.abs() <= 1.5, "{age} s: {asked:?}");
    }
    assert!(at.elapsed() < Duration::from_secs(10), "told within a second or so: {:?}", at.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_job_that_fails_or_is_handed_back_leaves_its_checkpoint() {
    let mut bench = Bench::start(|worker| importer(worker).drain_timeout(Duration::from_secs(1))).await;
    bench.send(vec![job("3", None)]).await;
    let outcome = bench.outcome().await;
    assert_eq!((outcome.status, outcome.details.unwrap().to_string()), (Status::Failed, "3".to_owned()));
    bench.send(vec![job("0", Some(json!(998)))]).await;
    let outcome = bench.outcome().await;
    assert_eq!((outcome.output.unwrap().to_string(), outcome.details), ("998".to_owned(), None));
    bench.send(vec![job("0", Some(json!({ "page": 9 })))]).await;
    let outcome = bench.outcome().await;
    assert_eq!((kind(&outcome), outcome.details.as_ref()), ("input", None));
    assert!(outcome.error.unwrap().message.starts_with("the last checkpoint: invalid type"));
    bench.send(vec![job("0", None)]).await;
    sleep(Duration::from_secs(6)).await;
    bench.stop.cancel();
    let outcome = bench.outcome().await;
    assert_eq!((kind(&outcome), outcome.details.as_ref().unwrap().to_string()), ("draining", "7".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_that_is_too_large_is_refused() {
    let mut bench = Bench::start(|worker: Worker| {
        worker.handler("Echo", "1.0.0", |(): (), ctx: Context| async move { ctx.checkpoint(&"x".repeat(20_000)) })
    })
    .await;
    bench.send(vec![job("null", None)]).await;
    let error = bench.outcome().await.error.unwrap();
    assert_eq!(
        (error.message.as_str(), error.retry),
        ("the checkpoint is 20002 bytes long; at most 16384 are taken", false)
    );
}

#[tokio::test(start_paused = true)]
async fn leases_with_checkpoints_are_asked_for_in_messages_of_some_size() {
    let large = |_: u64, ctx: Context| async move {
        ctx.checkpoint(&"x".repeat(16_000))?;
        sleep(Duration::from_secs(3600)).await;
        Ok(())
    };
    let mut bench = Bench::start(|worker| worker.handler("Echo", "1.0.0", large).concurrency(200)).await;
    bench.send(vec![JobGroup { timeout: Millis::from_mins(600), ..range(0, 200) }]).await;
    let (mut asked, mut messages) = (0, 0);
    while asked < 200 {
        let (leases, _) = bench.answer_leases(Some(LEASE)).await;
        asked += leases.groups.iter().map(|group| group.leases.len()).sum::<usize>();
        messages += 1;
    }
    assert_eq!((asked, messages), (200, 4), "a megabyte each");
}

#[tokio::test(start_paused = true)]
async fn a_tested_run_goes_on_from_checkpoints() {
    let definition = json!({ "workflow": "w", "phases": { "a": { "is_initial": true, "is_final": true,
        "handlers": [{ "name": "Importer", "input": "{{ 500 }}", "timeout": "2h" }] } } });
    let began = Instant::now();
    let run = TestRun::of(definition).handler("Importer", "1.0.0", import).run().await.unwrap();
    assert_eq!((run.state(), run.output_of::<u32>("a", "Importer")), ("succeeded", 500));
    assert_eq!(run.calls()[0].checkpoints::<u32>().last(), Some(&500));
    assert!(began.elapsed() < Duration::from_secs(1100));
}
