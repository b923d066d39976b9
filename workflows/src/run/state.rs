//! The state of a run, and the history of how it came to it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::delta::Delta;
use super::entry::{Entry, EntryOutputs};
use super::jobs::JobSet;
use super::{BitPatch, STATE_FORMAT};
use crate::id::{Attempt, EntryNo, HandlerName, JobIndex, Nonce, PhaseName, Revision, RunId, WorkflowName};
use crate::message::event::PhaseStatus;
use crate::message::outcome::JobError;
use crate::time::Timestamp;

/// A run: its head, where the jobs of its current entry stand, and what has changed since it was last written down.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// Everything but the jobs.
    pub head: Head,
    /// Where the jobs of each handler of the current entry stand, in the order of the definition.
    pub jobs: Vec<JobSet>,
    pub(super) delta: Delta,
}

impl Run {
    /// A run as it was stored. Handlers without a job set get an empty one.
    pub fn from_parts(head: Head, mut jobs: Vec<JobSet>) -> Self {
        jobs.resize(head.entry.handlers.len(), JobSet::default());
        Self { head, jobs, delta: Delta::default() }
    }

    /// What has changed since the last call; the head is written whole besides.
    pub fn take_delta(&mut self) -> Delta {
        self.collect_bits();
        std::mem::take(&mut self.delta)
    }

    /// Moves changed bitmap bytes of the current entry into the delta.
    pub(super) fn collect_bits(&mut self) {
        let entry = self.head.entry.number;
        for (handler, jobs) in self.jobs.iter_mut().enumerate() {
            let patches = jobs.terminal.take_dirty().into_iter();
            self.delta.bits.extend(patches.map(|(offset, bytes)| BitPatch {
                entry,
                handler: handler as u16,
                offset,
                bytes,
            }));
        }
    }
}

/// Everything about a run but its jobs. Written whole with each commit, so it stays small.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The version of this format.
    pub format: u16,
    /// The run.
    pub id: RunId,
    /// Its workflow.
    pub workflow: WorkflowName,
    /// The revision it is pinned to.
    pub revision: Revision,
    /// The submitter's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Arc<str>>,
    /// Its state.
    pub state: RunState,
    /// When it was started.
    pub created_at: Timestamp,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// The entry it is in.
    pub entry: Entry,
    /// Whether it came here through an error transition, so that it will end `failed`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub on_error_path: bool,
    /// What made it halt, fail, or leave the ordinary path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// The order to cancel, while jobs that run have time to stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canceling: Option<Canceling>,
    /// The names of the orders it was given last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub orders: Vec<Arc<str>>,
    /// The outputs of the phases it has finished, a latest entry each, in the order of their first visit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<EntryOutputs>,
    /// Whether it has a result, which is stored apart.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_output: bool,
    /// How many things have happened to it: the number of the last event of its history.
    pub events: u64,
    /// When it is to be woken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wake_at: Option<Timestamp>,
    /// Whether a handler of the current entry waits for a worker.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub awaits_worker: bool,
    /// Where it belongs in a trace: a W3C trace context, which its jobs carry on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<Arc<str>>,
}

/// Why what is stored of a run cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// A later version of this program wrote it, and can read it.
    #[error("state format {format} is newer than {STATE_FORMAT}, which this program reads; update it")]
    Newer {
        /// The format that it is of.
        format: u16,
    },
    /// It is damaged. The text says how.
    #[error("{0}")]
    Damaged(String),
}

impl Unreadable {
    /// In one word.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Newer { .. } => "newer",
            Self::Damaged(_) => "damaged",
        }
    }
}

impl Head {
    /// Reads a stored head.
    ///
    /// # Errors
    /// When it is of a later format, or damaged.
    pub fn from_json(json: &[u8]) -> Result<Self, Unreadable> {
        #[derive(Deserialize)]
        struct Format {
            format: u16,
        }
        let damaged = |error: serde_json::Error| Unreadable::Damaged(format!("damaged state: {error}"));
        let format = serde_json::from_slice::<Format>(json).map_err(damaged)?.format;
        if format > STATE_FORMAT {
            return Err(Unreadable::Newer { format });
        }
        let mut head: Self = serde_json::from_slice(json).map_err(damaged)?;
        if format < STATE_FORMAT {
            head.upgrade();
        }
        Ok(head)
    }

    /// Brings a head of the format before up to this one, which knows since when a handler has no worker.
    fn upgrade(&mut self) {
        self.format = STATE_FORMAT;
        for handler in self.entry.handlers.iter_mut().filter(|handler| handler.version.is_none()) {
            handler.unmanned_since = (handler.total != Some(0)).then_some(self.entry.entered_at);
        }
    }

    /// Writes the head as it is stored.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a head is plain data")
    }
}

/// The state of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    /// It goes on by itself.
    Running,
    /// A job failed for good where there is no error transition, or the run has entered too many phases. Not the end,
    /// but it does not go on by itself.
    Halted,
    /// Nothing is dispatched until it is told to go on.
    Paused,
    /// It is to end as canceled, and waits for the jobs that run to stop.
    Canceling,
    /// It ended in a final phase that it did not reach through an error.
    Succeeded,
    /// It ended in a final phase that it reached through an error.
    Failed,
    /// It was ended by an order.
    Canceled,
}

impl RunState {
    /// Whether nothing changes any more.
    pub const fn is_ended(self) -> bool {
        match self {
            Self::Running | Self::Halted | Self::Paused | Self::Canceling => false,
            Self::Succeeded | Self::Failed | Self::Canceled => true,
        }
    }

    /// In one word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Halted => "halted",
            Self::Paused => "paused",
            Self::Canceling => "canceling",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
        }
    }
}

/// An order to cancel that is being carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Canceling {
    /// When jobs that still run are abandoned.
    pub deadline: Timestamp,
    /// Why, in the words of who asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What made a run halt, fail, or leave the ordinary path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// The phase in which it happened.
    pub phase: PhaseName,
    /// The handler, when it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handler: Option<HandlerName>,
    /// The job, when it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<JobIndex>,
    /// What went wrong.
    pub error: JobError,
}

/// Something that happened to a run. Numbered 1, 2, 3… without gaps; folding a history gives the run's phases.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEvent {
    /// Its number.
    pub n: u64,
    /// When it happened.
    pub at: Timestamp,
    /// What happened.
    pub what: HistoryKind,
    /// Who brought it about: who ordered it. Nobody when the engine did so by itself, and where it was not written down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<Arc<str>>,
}

/// As whom the engine itself acts.
pub const ENGINE: &str = "engine";

impl HistoryEvent {
    /// Who brought it about. What somebody has ordered is not the engine's own doing, even when it was not written down
    /// who that was.
    pub fn actor(&self) -> Option<&str> {
        self.actor.as_deref().or_else(|| (!self.what.is_ordered()).then_some(ENGINE))
    }
}

/// What can happen to a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HistoryKind {
    /// It was started.
    Started {
        /// The revision it is pinned to.
        revision: Revision,
    },
    /// It entered a phase.
    Entered {
        /// The entry's number.
        entry: EntryNo,
        /// Its nonce.
        nonce: Nonce,
        /// The phase.
        phase: PhaseName,
        /// The phase it came from.
        from: Option<PhaseName>,
        /// Whether by the error transition.
        on_error: bool,
    },
    /// A handler's version was chosen.
    Pinned {
        /// The entry.
        entry: EntryNo,
        /// The handler.
        handler: HandlerName,
        /// The version.
        version: semver::Version,
    },
    /// A handler has listed its jobs.
    Listed {
        /// The entry.
        entry: EntryNo,
        /// The handler.
        handler: HandlerName,
        /// The attempt whose list it is.
        attempt: Attempt,
        /// How many jobs it has.
        jobs: u64,
    },
    /// A phase finished.
    Finished {
        /// The entry.
        entry: EntryNo,
        /// How.
        status: PhaseStatus,
        /// What each handler came to.
        handlers: Vec<HandlerTally>,
    },
    /// It cannot go on by itself.
    Halted {
        /// Why.
        cause: Cause,
    },
    /// Jobs of which nothing is heard any more go out again.
    Lost {
        /// The entry.
        entry: EntryNo,
        /// The handler.
        handler: HandlerName,
        /// How many.
        jobs: u64,
        /// Whether it is the making of their list that is lost, and none of them.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        list: bool,
        /// How that is known.
        why: LostWhy,
    },
    /// It was told to dispatch nothing more for now.
    Paused {
        /// Why, if somebody said so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// It was told to go on after a pause.
    Resumed {
        /// Why, if somebody said so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// It was told to try again what made it halt.
    Retried {
        /// The entry.
        entry: EntryNo,
        /// How many jobs that had failed for good get new tries.
        jobs: u64,
        /// Why, if somebody said so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// It was told to end as canceled; jobs that run have until then to stop.
    Canceling {
        /// When they are abandoned.
        deadline: Timestamp,
        /// Why, if somebody said so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// An order made it leave a phase that had not finished: what was not done is abandoned.
    Abandoned {
        /// The entry.
        entry: EntryNo,
        /// What each handler had come to.
        handlers: Vec<HandlerTally>,
    },
    /// It was told to enter a phase anew.
    Rerun {
        /// The phase.
        phase: PhaseName,
        /// Why, if somebody said so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// It ended.
    Ended {
        /// In this state.
        state: RunState,
        /// Why, if somebody said so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
}

impl HistoryKind {
    /// Whether it happens only when it is asked for.
    pub const fn is_ordered(&self) -> bool {
        match self {
            Self::Started { .. }
            | Self::Paused { .. }
            | Self::Resumed { .. }
            | Self::Retried { .. }
            | Self::Canceling { .. }
            | Self::Rerun { .. } => true,
            Self::Entered { .. }
            | Self::Pinned { .. }
            | Self::Listed { .. }
            | Self::Finished { .. }
            | Self::Halted { .. }
            | Self::Lost { .. }
            | Self::Abandoned { .. }
            | Self::Ended { .. } => false,
        }
    }
}

/// How it is known that jobs are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LostWhy {
    /// A probe that followed them through their queue came back, and they were not heard of.
    Probe,
    /// The broker lost its messages, or the store was rewound.
    Recovery,
    /// No worker hosts their version any more, and the run has moved to another.
    Moved,
}

/// What a handler came to within an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandlerTally {
    /// The handler.
    pub handler: HandlerName,
    /// How many jobs it had; none when its list was never sealed.
    pub total: Option<u64>,
    /// How many are done.
    pub done: u64,
    /// How many failed for good.
    pub failed: u64,
    /// How many failed tries were followed by another.
    pub retried: u64,
    /// A digest of the bitmap of jobs that came to their end: 64-bit FNV-1a, in hexadecimal.
    pub digest: String,
}
