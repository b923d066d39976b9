//! Leases on long jobs: asked for, renewed, and what becomes of a job that gets none.

use std::collections::BTreeSet;
use std::time::Duration;

use phasework_workflows::id::JobIndex;
use phasework_workflows::message::outcome::Status;
use serde_json::json;

use super::check::Kept;
use super::faults::is_returned;
use super::heard::Said;
use super::stage::{Asked, Fault, SOON, Stage, job};
use super::values::output;

/// When a lease is to be asked for at the latest, how long a job takes that needs one and its renewal, and how soon after
/// a refusal a job must be over.
const ASKED_BY: Duration = Duration::from_secs(50);
const LONG_MS: u64 = 65_000;
const OVER: Duration = Duration::from_secs(20);

/// How long after it was handed back a job is given again.
const AGAIN: Duration = Duration::from_millis(500);

/// How long a job takes that does not end by itself.
const ENDLESS_MS: u64 = 600_000;

/// The most jobs that are refused a lease at once.
const MOST_REFUSED: u32 = 1000;

/// How often it was asked for a lease on one job.
fn asked_for(asked: &Asked, index: JobIndex, said: &[Said]) -> usize {
    let of_it = said.iter().filter_map(|said| match said {
        Said::Leases(1, group) if group.run == asked.group.run => Some(group.leases.iter()),
        _ => None,
    });
    of_it.flatten().filter(|lease| lease.index == index).count()
}

async fn until_asked_for(stage: &Stage, asked: &Asked) -> Result<(), Fault> {
    let each: Vec<_> = asked.group.each().map(|job| job.index).collect();
    let leases = stage
        .heard
        .wait(asked.from, ASKED_BY, |said| each.iter().all(|&index| asked_for(asked, index, said) > 0).then_some(()));
    let seconds = ASKED_BY.as_secs();
    leases.await.ok_or_else(|| format!("it did not ask for a lease in {seconds} s, so its message would be taken away"))
}

/// One job is done under a lease, one keeps its lease, and so many get none that they leave no slot free: unless each of
/// them stops, the worker can do nothing more.
pub(super) async fn lease(stage: &mut Stage) -> Kept {
    let granted = stage.ask(&json!({ "do": "wait", "ms": LONG_MS })).await?;
    let endless = json!({ "do": "wait", "ms": ENDLESS_MS });
    let kept = stage.ask(&endless).await?;
    let mut refused = stage.group();
    let count = stage.slots().saturating_sub(2).clamp(1, MOST_REFUSED);
    refused.jobs = (0..u64::from(count)).map(|index| job(index, 1, &endless)).collect();
    stage.refuse_leases(refused.run);
    let refused = stage.send(vec![refused]).await?.remove(0);
    for asked in [&granted, &kept, &refused] {
        until_asked_for(stage, asked).await?;
    }
    let from = stage.heard.so_far();
    if !has_room(stage).await {
        let seconds = OVER.as_secs();
        return Err(format!(
            "{seconds} s after {count} jobs got no lease they take up its slots: they were not stopped"
        ));
    }
    output(&stage.told(&granted, 0, Duration::from_millis(LONG_MS)).await?)?;
    if stage
        .heard
        .wait(granted.from, Duration::ZERO, |said| (asked_for(&granted, 0, said) > 1).then_some(()))
        .await
        .is_none()
    {
        return Err("it did not renew its lease within 30 s; every 20 s is right".into());
    }
    is_left_alone(stage, from, &refused)?;
    let progress: BTreeSet<_> = stage
        .heard
        .all(granted.from, |said| match said {
            Said::Leases(_, group) if group.run == granted.group.run => {
                group.leases.first().and_then(|lease| lease.progress)
            }
            _ => None,
        })
        .into_iter()
        .collect();
    are_acknowledged(stage).await?;
    Ok(progress.is_empty().then(|| "it tells no progress".to_owned()))
}

/// Whether the worker does a job that takes no time. One that has no slot free may hand it back.
async fn has_room(stage: &Stage) -> bool {
    let done = async {
        loop {
            match stage.answer(&json!({ "do": "echo", "value": "there is room" })).await {
                Ok(told) if told.outcome.status == Status::Done => return,
                // Handed back for want of a slot: when one is free only the worker knows.
                Ok(_) | Err(_) => tokio::time::sleep(AGAIN).await,
            }
        }
    };
    tokio::time::timeout(OVER, done).await.is_ok()
}

/// Whether nothing more is said of jobs that got no lease, but that they were handed back.
fn is_left_alone(stage: &Stage, from: usize, refused: &Asked) -> Result<(), Fault> {
    let since: Vec<Said> = stage.heard.all(from, |said| Some(said.clone()));
    for job in refused.group.each() {
        let again = asked_for(refused, job.index, &since);
        if again > 2 {
            return Err(format!("the answer without `leased_ms` did not stop a job: it asked {again} times more"));
        }
        let told = since.iter().find_map(|said| said.told(refused.group.run, job.index));
        if let Some(told) = told {
            is_returned(&told, &["canceled", "draining"])
                .map_err(|fault| format!("of a job that got no lease: {fault}"))?;
        }
    }
    Ok(())
}

/// Whether the messages of jobs that are leased, or got no lease, were acknowledged: when the worker dies, they do not
/// come again. One that must come again shows that there was time for it.
async fn are_acknowledged(stage: &mut Stage) -> Result<(), Fault> {
    let fresh = stage.ask(&json!({ "do": "wait", "ms": ENDLESS_MS })).await?;
    stage.until_depth(0, SOON).await?;
    stage.kill().await;
    match stage.left_behind().await? {
        0 => return Err("it acknowledged the message of a job that is neither leased nor told of".into()),
        1 => {}
        left => return Err(format!("{} messages come again whose jobs are leased or got no lease", left - 1)),
    }
    stage.start().await?;
    is_returned(&stage.told(&fresh, 0, SOON).await?, &["redelivered"])
}
