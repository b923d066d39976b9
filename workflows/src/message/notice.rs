//! What is told to the world: lifecycle events for whoever listens, and dead letters with their reason.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Batch, Body};
use crate::id::{EntryNo, PhaseName, RunId, WorkflowName};
use crate::time::Timestamp;

/// What happened to some runs, all of it with one routing key: that which [`Lifecycle::routing_key`] gives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lifecycles {
    /// What happened, in the order in which it did.
    pub items: Vec<Lifecycle>,
}

impl Body for Lifecycles {
    const KIND: &'static str = "Lifecycle";
}

impl Batch for Lifecycles {
    type Item = Lifecycle;
    const ITEMS: &'static str = "items";

    fn into_items(self) -> Vec<Lifecycle> {
        self.items
    }
}

/// Something happened to a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lifecycle {
    /// What happened.
    pub event: LifecycleEvent,
    /// The run.
    pub run: RunId,
    /// Its workflow.
    pub workflow: WorkflowName,
    /// The phase it happened in.
    pub phase: PhaseName,
    /// The entry it happened in.
    pub entry: EntryNo,
    /// The state the run is in now.
    pub state: Arc<str>,
    /// When.
    pub at: Timestamp,
}

impl Lifecycle {
    /// `run.started.<workflow>`, `phase.finished.<workflow>.<phase>`, `run.halted.<workflow>`, `run.finished.<workflow>`.
    pub fn routing_key(&self) -> String {
        match self.event {
            LifecycleEvent::RunStarted => format!("run.started.{}", self.workflow),
            LifecycleEvent::PhaseFinished => format!("phase.finished.{}.{}", self.workflow, self.phase),
            LifecycleEvent::RunHalted => format!("run.halted.{}", self.workflow),
            LifecycleEvent::RunFinished => format!("run.finished.{}", self.workflow),
        }
    }
}

/// What can happen to a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LifecycleEvent {
    /// It was started.
    #[serde(rename = "run.started")]
    RunStarted,
    /// It left a phase.
    #[serde(rename = "phase.finished")]
    PhaseFinished,
    /// It cannot go on by itself.
    #[serde(rename = "run.halted")]
    RunHalted,
    /// It ended.
    #[serde(rename = "run.finished")]
    RunFinished,
}

/// A message that could not be understood or carried out, kept with its reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Its id.
    pub id: Arc<str>,
    /// What is wrong with it.
    pub reason: String,
    /// When it was set aside.
    pub at: Timestamp,
    /// The queue it came from, without the prefix: `submit`, `coordinator.3`, `jobs.PageDownloader.1.2.0`.
    pub queue: String,
    /// Its `type` property.
    pub kind: String,
    /// Its body as text; bytes that are no UTF-8 are replaced.
    pub body: String,
    /// The size of the whole body in bytes; `body` holds at most [`DeadLetter::MAX_BODY`] of them.
    pub size: u64,
}

impl Body for DeadLetter {
    const KIND: &'static str = "DeadLetter";
}

impl DeadLetter {
    /// The most of a body that is kept, in bytes.
    pub const MAX_BODY: usize = 256 * 1024;

    /// Whether the whole body is kept as it was, so that it can be put back on its queue.
    pub fn is_whole(&self) -> bool {
        self.body.len() as u64 == self.size && !self.body.contains('\u{fffd}')
    }
}
