//! What is shown of a run. Views are never what is stored: either may change without the other.

use std::sync::Arc;

use phasework_workflows::definition::Workflow;
use phasework_workflows::id::{EntryNo, HandlerName, JobIndex, PhaseName, Revision, RunId, WorkflowName};
use phasework_workflows::message::event::Accepted;
use phasework_workflows::message::outcome::JobError;
use phasework_workflows::run::{Cause, HandlerEntry, Head, Unreadable};
use phasework_workflows::time::Timestamp;
use phasework_workflows::{Payload, Version};
use serde::Serialize;

use super::waiting::waiting_for;
use crate::registry::KnownWorker;

/// A run.
#[derive(Debug, Serialize)]
pub(super) struct RunView {
    run: RunId,
    workflow: WorkflowName,
    revision: Revision,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<Arc<str>>,
    state: &'static str,
    phase: PhaseName,
    entry: EntryNo,
    created_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<Timestamp>,
    /// Not in lists: an output may be large.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) output: Option<Payload>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<CauseView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting_for: Option<String>,
    handlers: Vec<HandlerView>,
}

impl From<&Head> for RunView {
    fn from(head: &Head) -> Self {
        Self {
            run: head.id,
            workflow: head.workflow.clone(),
            revision: head.revision.clone(),
            key: head.key.clone(),
            state: head.state.as_str(),
            phase: head.entry.phase.clone(),
            entry: head.entry.number,
            created_at: head.created_at,
            ended_at: head.ended_at,
            output: None,
            error: head.cause.as_ref().map(CauseView::from),
            waiting_for: None,
            handlers: head.entry.handlers.iter().map(HandlerView::from).collect(),
        }
    }
}

impl RunView {
    /// The run, with what it waits for, as far as its definition and the live workers tell.
    pub(super) fn waiting(head: &Head, workflow: Option<&Workflow>, live: &[KnownWorker]) -> Self {
        let phase = workflow.and_then(|workflow| workflow.phase(&head.entry.phase));
        let is_hosted = |name: &HandlerName, version: &Version| {
            let mut hosted = live.iter().flat_map(|worker| &worker.announced.handlers);
            hosted.any(|hosted| hosted.name == *name && hosted.version == *version)
        };
        Self { waiting_for: waiting_for(head, phase, &is_hosted), ..Self::from(head) }
    }
}

/// A run that cannot be read, as lists show it: the others do not suffer for it.
#[derive(Debug, Serialize)]
pub(super) struct UnreadableView {
    run: RunId,
    /// `damaged`, or `newer` when another version of this program can read it.
    state: &'static str,
    created_at: Timestamp,
    error: JobErrorView,
}

impl UnreadableView {
    pub(super) fn new(run: RunId, created_at: Timestamp, why: &Unreadable) -> Self {
        let state = why.as_str();
        Self { run, state, created_at, error: JobErrorView { kind: state.into(), message: why.to_string() } }
    }
}

/// Why a run failed or halted.
#[derive(Debug, Serialize)]
pub(super) struct CauseView {
    phase: PhaseName,
    #[serde(skip_serializing_if = "Option::is_none")]
    handler: Option<HandlerName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<JobIndex>,
    #[serde(flatten)]
    error: JobErrorView,
}

impl From<&Cause> for CauseView {
    fn from(cause: &Cause) -> Self {
        let Cause { phase, handler, index, error } = cause;
        Self { phase: phase.clone(), handler: handler.clone(), index: *index, error: error.into() }
    }
}

/// Why a job failed, or a run cannot be read.
#[derive(Debug, Serialize)]
pub(super) struct JobErrorView {
    kind: Arc<str>,
    message: String,
}

impl From<&JobError> for JobErrorView {
    fn from(error: &JobError) -> Self {
        Self { kind: Arc::clone(&error.kind), message: error.message.clone() }
    }
}

/// How far a handler of the current entry is.
#[derive(Debug, Serialize)]
struct HandlerView {
    name: HandlerName,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<Version>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<u64>,
    /// How many jobs its list has so far, while it makes that itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    listed: Option<u64>,
    done: u64,
    failed: u64,
    retried: u64,
    in_flight: u64,
    /// How many of those have run for so long that their workers hold leases on them.
    #[serde(skip_serializing_if = "is_zero")]
    leased: u64,
    /// Neither out nor at their end: not dispatched yet, or to be tried again.
    waiting: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl From<&HandlerEntry> for HandlerView {
    fn from(handler: &HandlerEntry) -> Self {
        Self {
            name: handler.name.clone(),
            version: handler.version.clone(),
            total: handler.total,
            listed: handler.enumeration.filter(|_| handler.is_listing()).map(|enumeration| enumeration.jobs),
            done: handler.done,
            failed: handler.failed,
            retried: handler.retried,
            in_flight: handler.out,
            leased: handler.leased,
            waiting: handler.undispatched() + handler.waiting,
        }
    }
}

/// The answer to a submission.
#[derive(Debug, Serialize)]
pub(super) struct SubmittedView {
    run: RunId,
    state: Arc<str>,
    created: bool,
}

impl From<Accepted> for SubmittedView {
    fn from(accepted: Accepted) -> Self {
        Self { run: accepted.run, state: accepted.state, created: accepted.changed }
    }
}

/// The answer to an order.
#[derive(Debug, Serialize)]
pub(super) struct OrderedView {
    run: RunId,
    state: Arc<str>,
    changed: bool,
}

impl From<Accepted> for OrderedView {
    fn from(accepted: Accepted) -> Self {
        Self { run: accepted.run, state: accepted.state, changed: accepted.changed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_is_shown_as_it_was_given() {
        let output = r#"{"z": 123456789012345678901234567890.125, "a":1e400,  "\u00e9": [ -0 ]}"#;
        let head = r#"{"format": 1, "id": "00000000-0000-0000-0000-000000000007", "workflow": "w", "revision": "r",
            "state": "succeeded", "created_at": "2026-01-31T12:00:00Z", "events": 3, "has_output": true,
            "entry": {"number": 1, "nonce": 5, "phase": "end", "entered_at": "2026-01-31T12:00:00Z", "stage": "working"}}"#;
        let mut view = RunView::from(&Head::from_json(head.as_bytes()).unwrap());
        view.output = Some(Payload::from_json(output.to_owned()).unwrap());
        let shown = serde_json::to_string(&view).unwrap();
        assert!(shown.contains(&format!(r#""output":{output},"#)), "{shown}");
    }
}
