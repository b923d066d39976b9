//! Turns bytes into events: likely ones, which name what is there, and impossible ones.

use std::sync::Arc;

use arbitrary::{Result, Unstructured};
use phasework_workflows::Payload;
use phasework_workflows::id::{EntryNo, HandlerName, Nonce, PhaseName};
use phasework_workflows::message::event::{Control, ControlAction};
use phasework_workflows::message::lease::LeaseWanted;
use phasework_workflows::message::outcome::{JobError, Outcome, Status};
use phasework_workflows::run::{Event, Listing, Resolution, Run};
use phasework_workflows::time::{Millis, Timestamp};
use serde_json::Value;

/// The most jobs of a list that a coordinator makes here; what it makes is bounded, and what workers say is not.
const LONGEST_LIST: u64 = 10_000;

/// What workers and clients can say of `run`.
pub(crate) fn said(bytes: &mut Unstructured<'_>, run: &Run) -> Result<Event> {
    let (entry, nonce) = entry(bytes, run)?;
    Ok(match bytes.int_in_range(0..=9)? {
        0..=3 => Event::JobsFinished {
            entry,
            nonce,
            handler: handler(bytes, run)?,
            done: several(bytes, 3, |bytes| Ok((index(bytes)?, index(bytes)?)))?,
            outcomes: several(bytes, 4, |bytes| outcome(bytes, run))?,
        },
        4 | 5 => Event::Leases {
            entry,
            nonce,
            handler: handler(bytes, run)?,
            leases: several(bytes, 3, |bytes| {
                let index = index(bytes)?;
                Ok(LeaseWanted {
                    index,
                    attempt: attempt(bytes, run, index)?,
                    progress: bytes.arbitrary()?,
                    details: None,
                })
            })?,
        },
        6 => Event::ProbeReturned { entry, nonce, handler: handler(bytes, run)?, sent_at: probe(bytes, run)? },
        7 => Event::PhaseFinished { entry, nonce },
        _ => Event::Control(control(bytes, run)?),
    })
}

/// What can happen to `run` at all: what is said, and what the coordinator itself finds out.
pub(crate) fn event(bytes: &mut Unstructured<'_>, run: &Run) -> Result<Event> {
    let (entry, nonce) = (run.head.entry.number, run.head.entry.nonce);
    Ok(match bytes.int_in_range(0..=9)? {
        0 => Event::Wake,
        1 => Event::Recover,
        2 => Event::Resolved { entry, nonce, handlers: several(bytes, 3, resolution)? },
        3 => {
            let listing = Listing { total: bytes.int_in_range(0..=LONGEST_LIST)?, stored: bytes.arbitrary()? };
            let listing = if bytes.ratio(1, 4)? { Err(error(bytes)?) } else { Ok(listing) };
            Event::Enumerated { entry, nonce, handler: bytes.int_in_range(0..=3)?, listing }
        }
        4 => {
            let output = if bytes.arbitrary()? { Ok(payload(bytes)?) } else { Err(error(bytes)?) };
            Event::Concluded { entry, nonce, output }
        }
        _ => said(bytes, run)?,
    })
}

/// At most `most` of something.
fn several<T>(
    bytes: &mut Unstructured<'_>,
    most: usize,
    mut one: impl FnMut(&mut Unstructured<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    (0..bytes.int_in_range(0..=most)?).map(|_| one(bytes)).collect()
}

/// Mostly the entry that the run is in.
fn entry(bytes: &mut Unstructured<'_>, run: &Run) -> Result<(EntryNo, Nonce)> {
    let (entry, nonce) = (run.head.entry.number, run.head.entry.nonce);
    Ok(match bytes.int_in_range(0..=19)? {
        0 => (bytes.arbitrary()?, nonce),
        1 => (entry, Nonce::from_random(bytes.arbitrary()?)),
        _ => (entry, nonce),
    })
}

/// Mostly a handler of the run's entry.
fn handler(bytes: &mut Unstructured<'_>, run: &Run) -> Result<HandlerName> {
    let handlers = &run.head.entry.handlers;
    if handlers.is_empty() || bytes.ratio(1, 20)? {
        return Ok(bytes.choose(&["a", "b", "nobody"])?.parse().expect("a handler's name"));
    }
    Ok(bytes.choose(handlers)?.name.clone())
}

/// Mostly a job that there may be.
fn index(bytes: &mut Unstructured<'_>) -> Result<u64> {
    if bytes.ratio(1, 16)? { bytes.arbitrary() } else { bytes.int_in_range(0..=20) }
}

/// Mostly the last attempt of a job.
fn attempt(bytes: &mut Unstructured<'_>, run: &Run, index: u64) -> Result<u32> {
    let last = run.jobs.iter().find_map(|jobs| jobs.exception(index)).map_or(1, |record| record.attempt);
    if bytes.ratio(1, 10)? { bytes.arbitrary() } else { Ok(last) }
}

fn outcome(bytes: &mut Unstructured<'_>, run: &Run) -> Result<Outcome> {
    let index = index(bytes)?;
    Ok(Outcome {
        index,
        attempt: attempt(bytes, run, index)?,
        status: *bytes.choose(&[Status::Done, Status::Failed, Status::Returned])?,
        output: if bytes.arbitrary()? { Some(payload(bytes)?) } else { None },
        error: if bytes.arbitrary()? { Some(error(bytes)?) } else { None },
        details: None,
    })
}

fn error(bytes: &mut Unstructured<'_>) -> Result<JobError> {
    const KINDS: [&str; 6] = ["error", "redelivered", "draining", "busy", "unknown-handler", ""];
    let message = (*bytes.choose(&["", "it was so", "ü".repeat(20_000).as_str()])?).to_owned();
    let retry_after = if bytes.ratio(1, 4)? { Some(millis(bytes)?) } else { None };
    Ok(JobError { kind: Arc::from(*bytes.choose(&KINDS)?), message, retry: bytes.arbitrary()?, retry_after })
}

fn payload(bytes: &mut Unstructured<'_>) -> Result<Payload> {
    Ok(Payload::from(bytes.choose(&[Value::Null, Value::from(1), Value::from("text")])?.clone()))
}

/// A length of time, mostly one that is used.
pub(crate) fn millis(bytes: &mut Unstructured<'_>) -> Result<Millis> {
    const LENGTHS: [u64; 8] = [0, 1, 1000, 15_000, 30_000, 60_000, 120_000, 86_400_000];
    Ok(Millis(if bytes.ratio(1, 10)? { bytes.arbitrary()? } else { *bytes.choose(&LENGTHS)? }))
}

/// Mostly the probe that is out.
fn probe(bytes: &mut Unstructured<'_>, run: &Run) -> Result<Timestamp> {
    let mut probes = run.head.entry.handlers.iter().filter_map(|handler| handler.probe);
    match probes.next().filter(|_| !bytes.ratio(1, 10).unwrap_or(true)) {
        Some(probe) => Ok(probe.sent_at),
        None => Ok(Timestamp::from_millis(bytes.arbitrary()?)),
    }
}

fn control(bytes: &mut Unstructured<'_>, run: &Run) -> Result<Control> {
    use ControlAction::{Cancel, Pause, Rerun, Resume, Retry};
    let mut control = Control::new(run.head.id, *bytes.choose(&[Cancel, Pause, Resume, Retry, Rerun])?);
    control.deadline = if bytes.arbitrary()? { Some(millis(bytes)?) } else { None };
    if bytes.ratio(1, 3)? {
        control.phase = Some(bytes.choose(&["work", "more", "end", "nowhere"])?.parse::<PhaseName>().expect("a name"));
    }
    control.reason = bytes.ratio(1, 4)?.then(|| "ü".repeat(2000));
    Ok(control)
}

fn resolution(bytes: &mut Unstructured<'_>) -> Result<Resolution> {
    let versions = [None, Some(semver::Version::new(1, 0, 0)), Some(semver::Version::new(1, 1, 0))];
    Ok(Resolution {
        handler: bytes.int_in_range(0..=3)?,
        version: bytes.choose(&versions)?.clone(),
        slots: bytes.arbitrary()?,
        pinned_lives: bytes.arbitrary()?,
    })
}
