//! What a worker leaves behind when it dies or stops, and what it does with what another one left.

use std::time::Duration;

use phasework_broker::{Message, Subscription};
use phasework_workflows::id::HandlerName;
use phasework_workflows::message::job::Jobs;
use phasework_workflows::message::outcome::Status;
use phasework_workflows::message::probe::Probes;
use phasework_workflows::message::{Body as _, MAX_PAYLOAD_BYTES, encode};
use phasework_workflows::time::Millis;
use serde_json::json;

use super::check::{KEPT, Kept};
use super::heard::{Said, Told};
use super::manners::{comes_back, is_set_aside, probe_of};
use super::outcomes::{STOPPING, cancel_until_told};
use super::stage::{Fault, SOON, Stage, job};

pub(super) fn is_returned(told: &Told, kinds: &[&str]) -> Result<(), Fault> {
    let kind = told.outcome.error.as_ref().map_or("", |error| &*error.kind);
    match told.outcome.status {
        Status::Returned if kinds.contains(&kind) => Ok(()),
        Status::Returned => Err(format!("job {} is handed back as `{kind}`, not `{}`", told.outcome.index, kinds[0])),
        status => Err(format!("job {} is told as {status:?}; it was to be handed back", told.outcome.index)),
    }
}

pub(super) async fn redelivered(stage: &mut Stage) -> Kept {
    // What was told of last may not be acknowledged yet, and would come again. Over AMQP nobody sees when it is.
    tokio::time::sleep(Duration::from_secs(2)).await;
    stage.kill().await;
    stage.until_depth(0, SOON).await?;
    let mut group = stage.group();
    group.range = Some((0, 2));
    group.jobs.push(job(5, 4, &json!({ "do": "echo", "value": "run all the same" })));
    let asked = stage.send(vec![group]).await?.remove(0);
    let probe = probe_of(stage);
    stage.publish(Message::new(stage.queue(), Probes::KIND, encode(&Probes { items: vec![probe.clone()] }))).await?;
    taken_and_given_back(stage, 2).await?;
    stage.start().await?;
    for index in [0, 1, 5] {
        is_returned(&stage.told(&asked, index, SOON).await?, &["redelivered"])?;
    }
    comes_back(stage, asked.from, &probe, SOON).await?;
    stage.until_depth(0, SOON).await?;
    KEPT
}

/// Takes what waits for the worker, and gives it back, as another worker does that dies.
async fn taken_and_given_back(stage: &Stage, count: usize) -> Result<(), Fault> {
    let words = |error: phasework_broker::BrokerError| format!("its queue cannot be read: {error}");
    let subscription = Subscription { from: stage.queue(), prefetch: 16 };
    let mut consumer = stage.broker.subscribe(subscription).await.map_err(words)?;
    let mut tags = Vec::new();
    while tags.len() < count {
        tags.extend(consumer.next(16).await.map_err(words)?.iter().map(|delivery| delivery.tag));
    }
    consumer.stop().await.map_err(words)?;
    consumer.release(&tags).await.map_err(words)
}

pub(super) async fn killed(stage: &mut Stage) -> Kept {
    let asked = stage.ask(&json!({ "do": "wait", "ms": 600_000 })).await?;
    stage.until_depth(0, SOON).await?;
    // Long enough for one that acknowledges what it has just taken. That nothing happens cannot be waited for otherwise.
    tokio::time::sleep(Duration::from_secs(2)).await;
    stage.kill().await;
    let back = stage.until_depth(1, STOPPING).await;
    back.map_err(|_| {
        "it was killed in the middle of a job, and the job is gone: it acknowledges too early".to_owned()
    })?;
    stage.start().await?;
    is_returned(&stage.told(&asked, 0, SOON).await?, &["redelivered"])?;
    KEPT
}

/// A worker that acknowledges nothing of a kind is found by its death: what it still held comes again. So does what it
/// acknowledged too early, which must come again and does not.
pub(super) async fn acknowledged(stage: &mut Stage) -> Kept {
    one_of_each(stage).await?;
    let mut half = stage.group();
    half.jobs = vec![
        job(0, 1, &json!({ "do": "echo", "value": "one of two" })),
        job(1, 1, &json!({ "do": "wait", "ms": 600_000 })),
    ];
    let half = stage.send(vec![half]).await?.remove(0);
    stage.told(&half, 0, SOON).await?;
    stage.until_depth(0, SOON).await?;
    // As long as an acknowledgement may take. That nothing more is acknowledged cannot be waited for otherwise.
    tokio::time::sleep(Duration::from_secs(2)).await;
    stage.kill().await;
    match stage.left_behind().await? {
        0 => return Err("of two jobs of a message one was told of, and the message is gone: the other is lost".into()),
        1 => {}
        left => return Err(format!("{} messages come again though all of their jobs were told of", left - 1)),
    }
    stage.start().await?;
    let told = stage.told_times(&half, 0, 2, SOON).await?;
    told.last().map_or(Ok(()), |told| is_returned(told, &["redelivered"]))?;
    is_returned(&stage.told(&half, 1, SOON).await?, &["redelivered"])?;
    KEPT
}

/// A message of each kind that a worker is done with at once.
async fn one_of_each(stage: &Stage) -> Result<(), Fault> {
    let mut orders = vec![
        stage.order(&json!({ "do": "echo", "value": "done" })),
        stage.order(&json!({ "do": "fail", "message": "failed" })),
        stage.order(&json!({ "do": "give-up", "message": "failed for good" })),
        stage.order(&json!({ "do": "large", "bytes": MAX_PAYLOAD_BYTES + 1 })),
    ];
    let mut late = stage.order(&json!({ "do": "wait", "ms": 120_000 }));
    late.timeout = Millis(500);
    let mut of_another = stage.order(&json!({ "do": "echo", "value": 1 }));
    of_another.handler = HandlerName::new("Nobody").expect("a name");
    orders.extend([late, of_another]);
    for order in orders {
        let asked = stage.send(vec![order]).await?.remove(0);
        stage.told(&asked, 0, SOON).await?;
    }
    let mut canceled = stage.order(&json!({ "do": "wait", "ms": 120_000 }));
    let asked = stage.send(vec![canceled.clone()]).await?.remove(0);
    canceled.entry += 1;
    cancel_until_told(stage, &canceled, &asked).await?;
    let (from, probe) = (stage.heard.so_far(), probe_of(stage));
    stage.publish(Message::new(stage.queue(), Probes::KIND, encode(&Probes { items: vec![probe.clone()] }))).await?;
    comes_back(stage, from, &probe, SOON).await?;
    is_set_aside(stage, "no JSON", Jobs::KIND, b"{\"v\":1,".to_vec()).await
}

pub(super) async fn drain(stage: &mut Stage) -> Kept {
    let short = stage.ask(&json!({ "do": "wait", "ms": 1000 })).await?;
    let long = stage.ask(&json!({ "do": "wait", "ms": 600_000 })).await?;
    stage.until_depth(0, SOON).await?;
    let from = stage.heard.so_far();
    let Some(worker) = stage.worker() else { return Err("it is not there".into()) };
    worker.terminate();
    let status = worker.ended(STOPPING).await;
    let status = status.ok_or_else(|| format!("it still runs {} s after SIGTERM", STOPPING.as_secs()))?;
    stage.bury();
    let mut left = 0;
    for asked in [&short, &long] {
        match stage.told(asked, 0, Duration::from_secs(2)).await {
            Ok(told) if told.outcome.status == Status::Done => {}
            Ok(told) => is_returned(&told, &["draining"])?,
            Err(_) => left += 1,
        }
    }
    stage.until_depth(left, SOON).await.map_err(|_| {
        format!("{left} of 2 jobs were not told of, and their messages are not in the queue: they are lost")
    })?;
    let gone = stage
        .heard
        .wait(from, Duration::from_secs(2), |said| said.iter().any(|said| matches!(said, Said::Gone)).then_some(()));
    gone.await.ok_or("it said no `WorkerGone`")?;
    if !status.success() {
        return Ok(Some(format!("it ended with {status}; 0 says that all is well")));
    }
    Ok((left > 0).then(|| format!("{left} of 2 jobs were left to be delivered again; handing them back is faster")))
}
