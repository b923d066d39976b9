//! What coordinator queues carry besides outcomes: runs to start, phases that finished, orders, ticks.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Batch, Body};
use crate::id::{EntryNo, Nonce, PhaseName, Revision, RunId, WorkflowName};
use crate::payload::Payload;
use crate::time::{Millis, Timestamp};

/// Runs to start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StartRuns {
    /// Each with its own answer.
    pub items: Vec<StartRun>,
}

impl Body for StartRuns {
    const KIND: &'static str = "StartRun";
}

impl Batch for StartRuns {
    type Item = StartRun;
    const ITEMS: &'static str = "items";

    fn into_items(self) -> Vec<StartRun> {
        self.items
    }
}

/// A run to start. Starting one that exists changes nothing, and is answered alike.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StartRun {
    /// Its id; derived from the key when there is one.
    pub run: RunId,
    /// The workflow.
    pub workflow: WorkflowName,
    /// The revision of the workflow, which the store has.
    pub revision: Revision,
    /// The submitter's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Arc<str>>,
    /// Its data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Payload>,
    /// Where to say that it was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<ReplyTo>,
    /// Where it belongs in a trace: the W3C trace context that its jobs carry on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<Arc<str>>,
    /// Who asked for it, as far as that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<Arc<str>>,
}

/// Where an answer goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplyTo {
    /// The full name of a queue.
    pub queue: Arc<str>,
    /// What the answer repeats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<Arc<str>>,
}

/// Phases that finished: the coordinator moves their runs on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PhasesFinished {
    /// The phases.
    pub items: Vec<PhaseFinished>,
}

impl Body for PhasesFinished {
    const KIND: &'static str = "PhaseFinished";
}

impl Batch for PhasesFinished {
    type Item = PhaseFinished;
    const ITEMS: &'static str = "items";

    fn into_items(self) -> Vec<PhaseFinished> {
        self.items
    }
}

/// A phase of a run that finished: every job is done, or one has failed for good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseFinished {
    /// The run.
    pub run: RunId,
    /// The phase.
    pub phase: PhaseName,
    /// The entry.
    pub entry: EntryNo,
    /// The entry's nonce.
    pub nonce: Nonce,
    /// How it finished.
    pub status: PhaseStatus,
    /// When the phase was entered.
    pub started_at: Timestamp,
    /// When it finished.
    pub finished_at: Timestamp,
}

/// How a phase finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PhaseStatus {
    /// Every job is done or tolerated.
    Succeeded,
    /// More jobs failed for good than are tolerated.
    Failed,
}

/// Orders for runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Controls {
    /// Each with its own answer.
    pub items: Vec<Control>,
}

impl Body for Controls {
    const KIND: &'static str = "Control";
}

impl Batch for Controls {
    type Item = Control;
    const ITEMS: &'static str = "items";

    fn into_items(self) -> Vec<Control> {
        self.items
    }
}

/// An order for a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Control {
    /// The run.
    pub run: RunId,
    /// What to do with it.
    pub action: ControlAction,
    /// Names the order, so that repeating it does no harm: a run that knows it already ignores it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Arc<str>>,
    /// Of a cancel: how long jobs that run may go on before they are abandoned; [`CANCEL_DEADLINE`] when absent.
    #[serde(default, rename = "deadline_ms", skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Millis>,
    /// Of a cancel: the run ends at once, even if where its jobs stand is damaged.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
    /// Of a rerun: the phase to enter; the one the run is in when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<PhaseName>,
    /// Of a retry or rerun: data in place of what the run was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Payload>,
    /// Why, in the words of who asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who asked, as far as that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<Arc<str>>,
    /// Where to say what came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<ReplyTo>,
}

/// What can be ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ControlAction {
    /// End the run as `canceled`, once its jobs have stopped or the deadline has passed.
    Cancel,
    /// Dispatch nothing more for now.
    Pause,
    /// Go on after a pause.
    Resume,
    /// Try again what made the run halt.
    Retry,
    /// Leave the current phase as it is and enter one anew.
    Rerun,
}

impl ControlAction {
    /// Whether data that comes with it takes the place of what the run was given.
    pub const fn takes_data(self) -> bool {
        match self {
            Self::Retry | Self::Rerun => true,
            Self::Cancel | Self::Pause | Self::Resume => false,
        }
    }

    /// In one word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Retry => "retry",
            Self::Rerun => "rerun",
        }
    }
}

impl Control {
    /// An order without anything further said.
    pub const fn new(run: RunId, action: ControlAction) -> Self {
        let (force, deadline) = (false, None);
        let (reason, actor, reply) = (None, None, None);
        Self { run, action, id: None, deadline, force, phase: None, data: None, reason, actor, reply }
    }

    /// Whether it ends the run without a look at its jobs.
    pub fn is_forced_cancel(&self) -> bool {
        self.force && self.action == ControlAction::Cancel
    }
}

/// The longest that the running jobs of a canceled run may go on.
pub const MAX_CANCEL_DEADLINE: Millis = Millis::from_mins(24 * 60);

/// How long the running jobs of a canceled run may go on, unless the order says otherwise.
pub const CANCEL_DEADLINE: Millis = Millis::from_secs(10);

/// Tells whoever is served by a coordinator queue that it is the owner now, and what time it is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tick {
    /// The coordinator that sent it.
    pub from: Arc<str>,
    /// When.
    pub at: Timestamp,
    /// How many queues that coordinator maps runs onto; absent is as many as the receiver does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queues: Option<u16>,
    /// Which format of stored state that coordinator writes; absent is what the receiver does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<u16>,
}

impl Body for Tick {
    const KIND: &'static str = "Tick";
}

/// The answer to a [`StartRun`], a [`Control`] or a submission that was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// The run.
    pub run: RunId,
    /// Whether this very request changed anything: false when the run was there before, or the order came too late.
    pub changed: bool,
    /// The state the run is in: `running`, `paused`, `halted`, `canceling`, `succeeded`, `failed` or `canceled`.
    pub state: Arc<str>,
}

impl Body for Accepted {
    const KIND: &'static str = "Accepted";
}

/// The answer to a request that was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// What is wrong: `unknown-workflow`, `invalid-definition`, `unknown-run`, `too-large`, `malformed`…
    pub code: Arc<str>,
    /// In words.
    pub message: String,
    /// Every problem found, one a line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

impl Body for Refused {
    const KIND: &'static str = "Refused";
}
