//! Layers around handlers: their order, what they may change, and that they panic as handlers do.

use std::sync::{Arc, Mutex};

use phasework_broker::Address;
use phasework_sdk::testing::TestRun;
use phasework_sdk::{Context, HandlerError, Job, Next, Payload, Worker};
use phasework_workflows::id::HandlerName;
use phasework_workflows::message::job::{JobGroup, Jobs};
use phasework_workflows::message::outcome::Status;
use serde_json::json;

use crate::bench::{Bench, kind, one, range};

type Log = Arc<Mutex<Vec<String>>>;

/// A layer that notes when a job passes it, and when its outcome does.
fn noting(
    log: &Log,
    name: &'static str,
) -> impl Fn(Job, Next) -> futures::future::BoxFuture<'static, Result<Payload, HandlerError>> + use<> {
    let log = Arc::clone(log);
    move |job, next| {
        let log = Arc::clone(&log);
        Box::pin(async move {
            log.lock().unwrap().push(format!("{name} {}", job.context.handler()));
            let result = next.run(job).await;
            log.lock().unwrap().push(format!("/{name}"));
            result
        })
    }
}

async fn echo(text: String, _: Context) -> Result<String, HandlerError> {
    Ok(text)
}

#[tokio::test(start_paused = true)]
async fn the_first_layer_is_the_outermost_and_those_of_all_handlers_are_around_their_own() {
    let log = Log::default();
    let mut bench = Bench::start(|worker: Worker| {
        worker
            .layer(noting(&log, "all-1"))
            .layer(noting(&log, "all-2"))
            .handler("Echo", "1.0.0", echo)
            .layer(noting(&log, "own-1"))
            .layer(noting(&log, "own-2"))
            .handler("Other", "1.0.0", echo)
    })
    .await;
    bench.send(vec![one("\"a\"")]).await;
    assert_eq!(bench.outcome().await.status, Status::Done);
    let own = ["all-1 Echo", "all-2 Echo", "own-1 Echo", "own-2 Echo", "/own-2", "/own-1", "/all-2", "/all-1"];
    assert_eq!(std::mem::take(&mut *log.lock().unwrap()), own);
    let other = JobGroup { handler: HandlerName::new("Other").unwrap(), ..one("\"a\"") };
    bench.publish(Address::Jobs("Other.1.0.0".into()), &Jobs { groups: vec![other] }).await;
    bench.outcome().await;
    assert_eq!(std::mem::take(&mut *log.lock().unwrap()), ["all-1 Other", "all-2 Other", "/all-2", "/all-1"]);
}

#[tokio::test(start_paused = true)]
async fn a_layer_may_change_input_output_and_error_and_keep_a_job_from_its_handler() {
    let mut bench = Bench::start(|worker: Worker| {
        let worker = worker.layer(|job, next| async move {
            match job.context.index() {
                0 => Ok(Payload::of(&"from the layer")?),
                1 => next.run(Job { input: Payload::of(&"changed")?, ..job }).await,
                2 => match next.run(job.clone()).await {
                    Err(error) if error.kind() == "input" => {
                        next.run(Job { input: Payload::of(&"again")?, ..job }).await
                    }
                    result => result,
                },
                _ => next.run(job).await.map_err(|error| HandlerError::fail(format!("mapped: {error}"))),
            }
        });
        worker.handler("Echo", "1.0.0", echo)
    })
    .await;
    bench.send(vec![range(0, 4)]).await;
    let outcomes = bench.outcomes(4).await;
    let outputs: Vec<_> = outcomes.iter().map(|(_, outcome)| outcome.output.as_ref().map(Payload::to_string)).collect();
    assert_eq!(outputs[..3], ["\"from the layer\"", "\"changed\"", "\"again\""].map(|text| Some(text.to_owned())));
    let error = outcomes[3].1.error.clone().unwrap();
    assert!(error.message.starts_with("mapped: the input: invalid type") && !error.retry, "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_layer_that_panics_is_an_attempt_that_panics() {
    let mut bench = Bench::start(|worker: Worker| {
        let worker = worker.layer(|_, _| async { if true { panic!("no secrets") } else { Ok(Payload::null()) } });
        worker.handler("Echo", "1.0.0", echo)
    })
    .await;
    bench.send(vec![one("\"a\"")]).await;
    let outcome = bench.outcome().await;
    assert_eq!((outcome.status, kind(&outcome)), (Status::Failed, "panic"));
    assert!(outcome.error.unwrap().message.starts_with("no secrets (at "));
}

#[tokio::test]
async fn tested_runs_have_the_layers_of_their_worker() {
    let definition = json!({ "workflow": "w", "phases": {
        "a": { "is_initial": true, "is_final": true, "handlers": [{ "name": "Echo", "input": "text" }] } } });
    let loud = |worker: Worker| {
        let worker = worker.layer(|job, next| async move {
            let output: String = next.run(job).await?.read()?;
            Ok(Payload::of(&output.to_uppercase())?)
        });
        worker.handler("Echo", "1.0.0", echo)
    };
    let run = TestRun::of(definition).worker(loud).run().await.unwrap();
    assert_eq!(run.output_of::<String>("a", "Echo"), "TEXT");
}
