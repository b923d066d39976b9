//! What handlers do, and what is reported of it.

use std::time::Duration;

use phasework_sdk::{Context, HandlerError, Payload, Worker};
use phasework_workflows::message::job::{InputSource, Job, JobGroup};
use phasework_workflows::message::outcome::Status;
use phasework_workflows::time::Millis;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::bench::{Bench, group, kind, one, range};

#[derive(Deserialize)]
struct Page {
    url: String,
}

#[derive(Serialize)]
struct Stored {
    title: String,
    bytes: usize,
}

async fn download(page: Page, _: Context) -> Result<Stored, HandlerError> {
    Ok(Stored { title: page.url.to_uppercase(), bytes: page.url.len() })
}

#[tokio::test(start_paused = true)]
async fn typed_values_go_in_and_out() {
    let mut bench = Bench::start(|worker| worker.handler("Echo", "1.0.0", download)).await;
    bench.send(vec![one(r#"{"url":"abc","more":true}"#)]).await;
    let report = bench.report().await;
    assert_eq!(report.worker.as_deref(), Some("00000000-0000-0000-0000-0000000000aa"));
    let [group] = &report.groups[..] else { panic!("{report:?}") };
    assert_eq!((group.entry, group.nonce, &*group.handler.to_string()), (2, super::bench::group().nonce, "Echo"));
    assert_eq!(group.outcomes[0].output.as_ref().map(Payload::as_json), Some(r#"{"title":"ABC","bytes":3}"#));
    assert!(group.service_us.is_some());
    assert_eq!(bench.unacknowledged().await, 0);
}

/// What is expected of a job: its status, the kind of its error, whether it is tried again, and words of its message.
type Expected = (Status, &'static str, bool, &'static [&'static str]);

async fn check(worker: impl FnOnce(Worker) -> Worker, sent: JobGroup, expected: Expected) {
    let mut bench = Bench::start(worker).await;
    bench.send(vec![sent]).await;
    let outcome = bench.outcome().await;
    let error = outcome.error.clone().expect("an error");
    assert_eq!((outcome.status, kind(&outcome), error.retry), (expected.0, expected.1, expected.2), "{error:?}");
    assert!(expected.3.iter().all(|words| error.message.contains(words)), "{error:?}");
    assert_eq!(bench.unacknowledged().await, 0);
}

/// A handler that does what its input says.
async fn obey(order: String, _: Context) -> Result<Value, HandlerError> {
    match order.as_str() {
        "retry" => Err(HandlerError::retry("503 Service Unavailable")),
        "fail" => Err(HandlerError::fail("404 Not Found")),
        "question mark" => Ok(Value::from("x".parse::<u8>()?)),
        "panic" => panic!("nobody expected {order}"),
        "hang" => std::future::pending().await,
        "much" => Ok(Value::from("x".repeat(101))),
        other => Ok(Value::from(other)),
    }
}

#[tokio::test(start_paused = true)]
async fn failures_say_what_kind_and_whether_to_try_again() {
    let failed = |kind, retry, words| (Status::Failed, kind, retry, words);
    for (input, expected) in [
        (r#""retry""#, failed("error", true, &["503 Service Unavailable"][..])),
        (r#""fail""#, failed("error", false, &["404 Not Found"])),
        (r#""question mark""#, failed("error", true, &["invalid digit"])),
        (r#""panic""#, failed("panic", true, &["nobody expected panic", "outcomes.rs:"])),
        (r#""hang""#, failed("timeout", true, &["not done within 30s"])),
        (r#""much""#, failed("output", false, &["103 bytes", "at most 100"])),
        (r#"{"order":1}"#, failed("input", false, &["expected a string", "line 1 column"])),
    ] {
        check(|worker| worker.handler("Echo", "1.0.0", obey).max_output(100), one(input), expected).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_json_fails_for_good() {
    let handler =
        |_: Value, _| async { Ok(std::collections::BTreeMap::from([((1, 2), "keys of maps have to be texts")])) };
    let expected: Expected = (Status::Failed, "output", false, &["cannot be written as JSON"]);
    check(|worker| worker.handler("Echo", "1.0.0", handler), one("null"), expected).await;
}

#[tokio::test(start_paused = true)]
async fn a_wait_before_the_next_try_is_reported() {
    let handler = |_: Value, _| async { Err::<(), _>(HandlerError::retry_after("429", Duration::from_secs(7))) };
    let mut bench = Bench::start(|worker| worker.handler("Echo", "1.0.0", handler)).await;
    bench.send(vec![one("1")]).await;
    assert_eq!(bench.outcome().await.error.and_then(|error| error.retry_after), Some(Millis(7000)));
}

#[tokio::test(start_paused = true)]
async fn a_worker_goes_on_after_a_panic() {
    let mut bench = Bench::start(|worker| worker.handler("Echo", "1.0.0", obey).concurrency(1)).await;
    bench.send(vec![one(r#""panic""#)]).await;
    bench.send(vec![one(r#""calm""#)]).await;
    assert_eq!(bench.outcome().await.status, Status::Failed);
    assert_eq!(bench.outcome().await.output, Some(Payload::from(json!("calm"))));
}

#[tokio::test(start_paused = true)]
async fn a_future_that_panics_when_it_is_dropped_is_reported() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("dropped too early");
        }
    }
    let handler = |_: Value, _| async {
        let _bomb = Bomb;
        std::future::pending::<Result<(), _>>().await
    };
    let expected: Expected = (Status::Failed, "panic", true, &["dropped too early"]);
    check(|worker| worker.handler("Echo", "1.0.0", handler), one("1"), expected).await;
}

#[tokio::test(start_paused = true)]
async fn inputs_come_from_the_job_the_data_or_the_index() {
    let echo = |input: Value, _| async move { Ok(input) };
    let data = Some(Payload::from(json!({ "n": 1 })));
    let job = |input| Job { index: 3, attempt: 2, tried: 1, input, details: None };
    let source = |input, data, job| JobGroup { input, data, jobs: vec![job], ..group() };
    for (sent, expected) in [
        (source(InputSource::Data, data.clone(), job(None)), json!({ "n": 1 })),
        (source(InputSource::Data, data.clone(), job(Some(Payload::from(json!(5))))), json!(5)),
        (source(InputSource::Index, data, job(None)), json!(3)),
    ] {
        let mut bench = Bench::start(|worker| worker.handler("Echo", "1.0.0", echo)).await;
        bench.send(vec![sent]).await;
        assert_eq!(bench.outcome().await.output, Some(Payload::from(expected)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_context_tells_all_about_the_job() {
    #[derive(Deserialize)]
    struct Search {
        query: String,
    }
    let handler = |_: Value, ctx: Context| async move {
        let query = ctx.data::<Search>()?.query;
        let wrong = ctx.data::<u8>().unwrap_err();
        let numbers =
            (ctx.index(), ctx.attempt(), ctx.try_number(), ctx.max_attempts(), ctx.is_last_try(), ctx.entry());
        let names = [ctx.workflow().as_str(), ctx.phase().as_str(), ctx.handler().as_str()].join("/");
        let text = format!("{query} {numbers:?} {names} {} {:?}", ctx.version(), ctx.time_left());
        Ok((text, ctx.run(), ctx.idempotency_key(), ctx.is_canceled(), wrong.kind().to_owned()))
    };
    let mut bench = Bench::start(|worker| worker.handler("Echo", "1.0.0", handler)).await;
    let job = Job { index: 4, attempt: 9, tried: 3, input: Some(Payload::null()), details: None };
    bench.send(vec![JobGroup { data: Some(json!({ "query": "petrel" }).into()), jobs: vec![job], ..group() }]).await;
    let expected = json!([
        "petrel (4, 9, 3, 3, true, 2) search/fetching-pages/Echo 1.0.0 30s",
        "00000000-0000-0000-0000-000000000007",
        "00000000-0000-0000-0000-000000000007/2/Echo/4",
        false,
        "input"
    ]);
    assert_eq!(bench.outcome().await.output, Some(Payload::from(expected)));
}

#[tokio::test(start_paused = true)]
async fn a_timeout_cancels_what_the_handler_left_running() {
    let (sent, mut told) = tokio::sync::mpsc::unbounded_channel();
    let handler = move |_: Value, ctx: Context| {
        let sent = sent.clone();
        async move {
            tokio::spawn(async move {
                ctx.canceled().await;
                sent.send(ctx.is_canceled()).ok();
            });
            std::future::pending::<Result<(), _>>().await
        }
    };
    let mut bench = Bench::start(|worker| worker.handler("Echo", "1.0.0", handler)).await;
    bench.send(vec![range(0, 1)]).await;
    assert_eq!(kind(&bench.outcome().await), "timeout");
    assert_eq!(told.recv().await, Some(true));
}
