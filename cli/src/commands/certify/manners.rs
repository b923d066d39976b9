//! How a worker behaves besides its jobs: presence, duplicates, garbage, probes, confirms.

use std::time::Duration;

use phasework_broker::Message;
use phasework_workflows::message::job::Jobs;
use phasework_workflows::message::presence::HEARTBEAT;
use phasework_workflows::message::probe::{Probe, Probes};
use phasework_workflows::message::{Body as _, encode};
use phasework_workflows::time::{Clock as _, SystemClock};
use serde_json::json;

use super::check::{KEPT, Kept};
use super::heard::Said;
use super::outcomes::still_works;
use super::stage::{Asked, Fault, SOON, Stage};
use super::values::output;
use super::wary::{Care, Seen};

async fn announces(stage: &Stage, from: usize, within: Duration) -> Result<(), Fault> {
    let announced = stage.heard.wait(from, within, |said| {
        said.iter().find_map(|said| if let Said::Announced(it) = said { Some(it.clone()) } else { None })
    });
    let announced = announced.await.ok_or_else(|| format!("nothing was announced within {} s", within.as_secs()))?;
    match announced.handlers.iter().find(|it| it.slots == 0) {
        Some(idle) => Err(format!("it announces `{}` with no slots, so it would get no jobs", idle.name)),
        None => Ok(()),
    }
}

pub(super) async fn announced(stage: &mut Stage) -> Kept {
    let from = stage.heard.so_far();
    stage.want_workers().await?;
    announces(stage, from, Duration::from_secs(5))
        .await
        .map_err(|fault| format!("asked by `WorkersWanted`: {fault}"))?;
    let beat = Duration::from(HEARTBEAT);
    for _ in 0..2 {
        let from = stage.heard.so_far();
        announces(stage, from, beat + beat / 2).await?;
    }
    KEPT
}

/// Of what comes twice while it is worked on, one outcome says enough. What comes after that is answered anew: a store
/// that was put back in time gives the same attempt again, and waits for its outcome.
pub(super) async fn twice(stage: &mut Stage) -> Kept {
    let group = stage.order(&json!({ "do": "wait", "ms": 500 }));
    let asked = stage.send(vec![group.clone()]).await?.remove(0);
    stage.send(vec![group.clone()]).await?;
    told_alike(stage, &asked, 1).await?;
    stage.until_depth(0, SOON).await?;
    // Those that are still worked on are told by now. That there are none cannot be waited for otherwise.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let so_far = told_alike(stage, &asked, 1).await?;
    stage.send(vec![group]).await?;
    told_alike(stage, &asked, so_far + 1).await?;
    stage.until_depth(0, SOON).await?;
    KEPT
}

/// How often a job was told of, when that is so many times at least and alike each time.
async fn told_alike(stage: &Stage, asked: &Asked, times: usize) -> Result<usize, Fault> {
    let all = stage.told_times(asked, 0, times, SOON).await?;
    for told in &all {
        let found = output(told)?;
        if found != "waited" {
            return Err(format!("of what came several times it gave {found} once, not \"waited\""));
        }
    }
    Ok(all.len())
}

pub(super) async fn garbage(stage: &mut Stage) -> Kept {
    let known = encode(&Jobs { groups: vec![stage.order(&json!({ "do": "echo", "value": "unread" }))] });
    let other = String::from_utf8_lossy(&known).replacen("\"v\":1", "\"v\":99", 1);
    let broken = [
        ("no JSON", Jobs::KIND, b"{\"v\":1,".to_vec()),
        ("no UTF-8", Jobs::KIND, vec![0xff, 0xfe, 0x00]),
        ("no object", Jobs::KIND, b"[1]".to_vec()),
        ("without groups", Jobs::KIND, b"{\"v\":1}".to_vec()),
        ("of protocol version 99", Jobs::KIND, other.into_bytes()),
        ("of type `Riddle`", "Riddle", known),
    ];
    for (what, kind, body) in broken {
        is_set_aside(stage, what, kind, body).await?;
    }
    still_works(stage).await?;
    stage.until_depth(0, SOON).await.map_err(|_| "the message that it set aside stayed in its queue".to_owned())?;
    KEPT
}

/// Whether a message that cannot be understood becomes a dead letter.
pub(super) async fn is_set_aside(stage: &Stage, what: &str, kind: &str, body: Vec<u8>) -> Result<(), Fault> {
    let from = stage.heard.so_far();
    stage.publish(Message::new(stage.queue(), kind, body)).await?;
    let letter = stage.heard.wait(from, SOON, |said| {
        said.iter().find_map(|said| if let Said::Dead(letter) = said { Some(letter.clone()) } else { None })
    });
    let letter = letter.await.ok_or_else(|| format!("a message {what} led to no `DeadLetter`"))?;
    if letter.reason.trim().is_empty() {
        return Err(format!("the dead letter of a message {what} gives no reason"));
    }
    Ok(())
}

/// A probe of a run that nobody knows.
pub(super) fn probe_of(stage: &Stage) -> Probe {
    let group = stage.group();
    let (run, entry, nonce, handler) = (group.run, group.entry, group.nonce, group.handler);
    Probe { run, entry, nonce, handler, coordinator: 2, sent_at: SystemClock.now() }
}

/// Whether a probe comes back as it was.
pub(super) async fn comes_back(stage: &Stage, from: usize, probe: &Probe, within: Duration) -> Result<(), Fault> {
    let back = stage.heard.wait(from, within, |said| {
        said.iter().find_map(|said| match said {
            Said::ProbeReturned(queue, back) if back.run == probe.run => Some((*queue, back.clone())),
            _ => None,
        })
    });
    let (queue, back) = back.await.ok_or_else(|| format!("no `ProbeReturned` within {} s", within.as_secs()))?;
    if (queue, &back) == (probe.coordinator, probe) {
        Ok(())
    } else {
        Err(format!("it came back to coordinator queue {queue} as {back:?}; sent was {probe:?}"))
    }
}

pub(super) async fn probe(stage: &mut Stage) -> Kept {
    let (from, probe) = (stage.heard.so_far(), probe_of(stage));
    stage.publish(Message::new(stage.queue(), Probes::KIND, encode(&Probes { items: vec![probe.clone()] }))).await?;
    comes_back(stage, from, &probe, SOON).await?;
    KEPT
}

/// Waits until the worker has acknowledged all that it was given.
async fn until_acknowledged(care: &Care) -> Result<(), Fault> {
    let acknowledged = async {
        while !care.holds_nothing() || !care.seen().contains(&Seen::Acknowledged) {
            // A look now and then: it is seen by another task, and seldom waited for.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let acknowledged = tokio::time::timeout(SOON, acknowledged).await;
    acknowledged.map_err(|_| format!("a job's message is not acknowledged within {} s of its report", SOON.as_secs()))
}

/// How many times in a row a report is not confirmed.
const REFUSALS: u32 = 2;

pub(super) async fn confirmed(stage: &mut Stage) -> Kept {
    let Some(care) = stage.site.care.clone() else {
        return Ok(Some("not tried: over AMQP a broker cannot be told to confirm nothing".into()));
    };
    // What was acknowledged before is not to be taken for what comes.
    care.refuse(0);
    still_works(stage).await?;
    until_acknowledged(&care).await?;
    care.refuse(REFUSALS);
    let asked = stage.ask(&json!({ "do": "echo", "value": "twice told" })).await?;
    output(
        &stage.told(&asked, 0, SOON).await.map_err(|fault| format!("after a report that was not confirmed {fault}"))?,
    )?;
    stage.until_depth(0, SOON).await?;
    let seen = care.seen();
    let confirmed = seen.iter().position(|seen| *seen == Seen::Confirmed);
    if seen.iter().take(confirmed.unwrap_or(seen.len())).any(|seen| *seen == Seen::Acknowledged) {
        return Err("it acknowledged the job's message before its report was confirmed".into());
    }
    KEPT
}
