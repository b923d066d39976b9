//! `/v1/runs/{id}/failures`: the jobs of a run that failed for good, with the names that the store keeps as numbers.

use std::collections::BTreeMap;

use axum::Json as Answer;
use axum::extract::State;
use phasework_workflows::definition::Workflow;
use phasework_workflows::id::{Attempt, EntryNo, JobIndex, PhaseName, RunId};
use phasework_workflows::run::{FailureRecord, Head, HistoryKind};
use phasework_workflows::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::Api;
use super::error::ApiError;
use super::extract::{Params, RunOfPath, page_length};
use super::view::JobErrorView;
use crate::engine::{Engine, EngineError};

/// The most failures on a page.
const MAX_PAGE: usize = 1000;

/// How many events of a history are read at once.
const HISTORY_PAGE: usize = 1000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Query {
    #[serde(default)]
    skip: usize,
    limit: Option<usize>,
}

#[derive(Debug, Serialize)]
pub(super) struct FailuresView {
    failures: Vec<FailureView>,
}

#[derive(Debug, Serialize)]
struct FailureView {
    entry: EntryNo,
    #[serde(skip_serializing_if = "Option::is_none")]
    phase: Option<PhaseName>,
    /// Its name; its place in the phase, from 0, when the definition cannot be read.
    handler: String,
    index: JobIndex,
    attempt: Attempt,
    error: JobErrorView,
    at: Timestamp,
}

pub(super) async fn list(
    State(api): State<Api>,
    RunOfPath(run): RunOfPath,
    Params(query): Params<Query>,
) -> Result<Answer<FailuresView>, ApiError> {
    let limit = page_length(query.limit, 100, MAX_PAGE)?;
    let failures = api.engine.failures(run, query.skip, limit).await?;
    let head = api.engine.run(run).await?.head;
    let workflow = super::runs::workflow_of(&api.engine, &head).await;
    let phases = phases(&api.engine, &head, &failures).await?;
    let failures = failures.iter().map(|failure| view(failure, phases.get(&failure.entry), workflow.as_deref()));
    Ok(Answer(FailuresView { failures: failures.collect() }))
}

fn view(failure: &FailureRecord, phase: Option<&PhaseName>, workflow: Option<&Workflow>) -> FailureView {
    let place = usize::from(failure.handler);
    let spec = phase.and_then(|phase| workflow?.phase(phase)?.handlers.get(place));
    FailureView {
        entry: failure.entry,
        phase: phase.cloned(),
        handler: spec.map_or_else(|| place.to_string(), |spec| spec.name.to_string()),
        index: failure.index,
        attempt: failure.attempt,
        error: JobErrorView::from(&failure.error),
        at: failure.at,
    }
}

/// The phases that the entries of these failures were visits of. The run's history knows; the head knows the latest.
async fn phases(
    engine: &Engine,
    head: &Head,
    failures: &[FailureRecord],
) -> Result<BTreeMap<EntryNo, PhaseName>, EngineError> {
    let mut phases: BTreeMap<_, _> = head.outputs.iter().map(|left| (left.entry, left.phase.clone())).collect();
    phases.insert(head.entry.number, head.entry.phase.clone());
    let unknown = failures.iter().map(|failure| failure.entry).filter(|entry| !phases.contains_key(entry)).max();
    if let Some(last) = unknown {
        read_history(engine, head.id, last, &mut phases).await?;
    }
    Ok(phases)
}

/// Takes the phases of all entries up to `last` from the history.
async fn read_history(
    engine: &Engine,
    run: RunId,
    last: EntryNo,
    phases: &mut BTreeMap<EntryNo, PhaseName>,
) -> Result<(), EngineError> {
    let mut after = 0;
    loop {
        let events = engine.history(run, after, HISTORY_PAGE).await?;
        let Some(newest) = events.last().map(|event| event.n) else { return Ok(()) };
        for event in events {
            if let HistoryKind::Entered { entry, phase, .. } = event.what {
                phases.insert(entry, phase);
                if entry >= last {
                    return Ok(());
                }
            }
        }
        after = newest;
    }
}
