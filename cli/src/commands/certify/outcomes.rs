//! What else may become of a job: failed, failed for good, too late, too large, handed back, canceled.

use std::time::Duration;

use phasework_workflows::message::MAX_PAYLOAD_BYTES;
use phasework_workflows::message::job::JobGroup;
use phasework_workflows::message::outcome::{JobError, Status};
use phasework_workflows::time::Millis;
use serde_json::{Value, json};

use super::check::{KEPT, Kept};
use super::heard::Told;
use super::stage::{Asked, Fault, SOON, Stage};
use super::values::output;

fn failed(told: &Told) -> Result<&JobError, Fault> {
    match (told.outcome.status, &told.outcome.error) {
        (Status::Failed, Some(error)) => Ok(error),
        (status, _) => Err(format!("it is told as {status:?}, not failed")),
    }
}

async fn failure(stage: &Stage, deed: &str) -> Result<JobError, Fault> {
    let told = stage.answer(&json!({ "do": deed, "message": "the lamp is broken: ünlit" })).await?;
    let error = failed(&told)?.clone();
    if error.message.contains("the lamp is broken: ünlit") {
        Ok(error)
    } else {
        Err(format!("its message is {:?}; the handler's own is missing", error.message))
    }
}

pub(super) async fn fails(stage: &mut Stage) -> Kept {
    let error = failure(stage, "fail").await?;
    if error.retry { KEPT } else { Err("`retry` is false, so it would not be tried again".into()) }
}

pub(super) async fn fails_for_good(stage: &mut Stage) -> Kept {
    let error = failure(stage, "give-up").await?;
    if error.retry { Err("`retry` is not false, so it would be tried again".into()) } else { KEPT }
}

pub(super) async fn timeout(stage: &mut Stage) -> Kept {
    let mut group = stage.order(&json!({ "do": "wait", "ms": 120_000 }));
    group.timeout = Millis(500);
    let asked = stage.send(vec![group]).await?.remove(0);
    let told = stage.told(&asked, 0, SOON).await?;
    failed(&told)
        .map(|error| (&*error.kind != "timeout").then(|| format!("its kind is `{}`, not `timeout`", error.kind)))
}

pub(super) async fn oversize(stage: &mut Stage) -> Kept {
    let most = MAX_PAYLOAD_BYTES;
    // The quotes count.
    let told = stage.answer(&json!({ "do": "large", "bytes": most - 2 })).await?;
    output(&told).map_err(|fault| format!("an output of {most} bytes is allowed: {fault}"))?;
    let told = stage.answer(&json!({ "do": "large", "bytes": most + 1 })).await?;
    failed(&told).map_err(|fault| format!("an output of {} bytes is too large: {fault}", most + 3))?;
    still_works(stage).await
}

/// Whether the worker still does what it is given.
pub(super) async fn still_works(stage: &Stage) -> Kept {
    let told = stage.answer(&json!({ "do": "echo", "value": "still there" })).await;
    match output(&told.map_err(|fault| format!("afterwards it does nothing more: {fault}"))?) {
        Ok(Value::String(text)) if text == "still there" => KEPT,
        other => Err(format!("afterwards it gives {other:?}")),
    }
}

pub(super) async fn other_handler(stage: &mut Stage) -> Kept {
    let mut group = stage.order(&json!({ "do": "echo", "value": 1 }));
    group.handler = phasework_workflows::id::HandlerName::new("Nobody").expect("a name");
    let asked = stage.send(vec![group]).await?.remove(0);
    let told = stage.told(&asked, 0, SOON).await?;
    match told.outcome.status {
        Status::Returned => KEPT,
        Status::Failed => Ok(Some("it is told as failed, which costs a try; `returned` would not".into())),
        Status::Done => Err("a job for the handler `Nobody` is told as done".into()),
    }
}

pub(super) async fn canceled(stage: &mut Stage) -> Kept {
    let mut group = stage.order(&json!({ "do": "wait", "ms": 120_000 }));
    group.entry = 2;
    let asked = stage.send(vec![group.clone()]).await?.remove(0);
    let other = stage.ask(&json!({ "do": "wait", "ms": 1500 })).await?;
    stage.until_depth(0, SOON).await?;
    // An order for a later entry reaches earlier ones, and no other run.
    group.entry = 3;
    let told = cancel_until_told(stage, &group, &asked).await;
    let told = told?;
    output(&stage.told(&other, 0, SOON).await?).map_err(|fault| format!("of a run that was not canceled: {fault}"))?;
    match (told.outcome.status, told.outcome.error) {
        (Status::Returned, Some(error)) if &*error.kind == "canceled" => KEPT,
        (Status::Returned, error) => Err(format!(
            "it is handed back as `{}`, not `canceled`",
            error.map_or_else(String::new, |it| it.kind.to_string())
        )),
        (status, _) => Err(format!("it is told as {status:?}, not returned")),
    }
}

/// Cancels until something is said of the job: an order that overtakes its job comes to nothing.
pub(super) async fn cancel_until_told(stage: &Stage, group: &JobGroup, asked: &Asked) -> Result<Told, Fault> {
    let mut told = Err(String::new());
    for _ in 0..5 {
        stage.cancel(group).await?;
        told = stage.told(asked, 0, SOON / 5).await;
        if told.is_ok() {
            break;
        }
    }
    told
}

/// The worker may take this long to stop.
pub(super) const STOPPING: Duration = Duration::from_secs(60);
