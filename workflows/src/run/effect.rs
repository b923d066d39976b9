//! What a step of a run asks for. Effects are data: they are committed with the state and carried out afterwards,
//! maybe more than once, maybe by another process. Questions are answered before the commit and never stored.

use serde::{Deserialize, Serialize};

use super::event::Ignored;
use crate::id::{Attempt, EntryNo, HandlerName, JobIndex, Nonce, PhaseName};
use crate::message::event::PhaseFinished;
use crate::message::notice::Lifecycle;
use crate::time::Timestamp;

/// What came of applying an event.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub enum Step {
    /// The run changed.
    Changed {
        /// What is to be done once that is committed.
        effects: Vec<Effect>,
        /// What has to be answered, by further events, before it is committed.
        questions: Vec<Question>,
    },
    /// Nothing changed.
    Ignored(Ignored),
}

/// Something to be done once the state is committed. Doing it again does no harm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Effect {
    /// Put jobs on a handler's queue.
    Dispatch(Dispatch),
    /// Send a probe through a handler's queue.
    Probe {
        /// The entry that asks.
        entry: EntryNo,
        /// Its nonce.
        nonce: Nonce,
        /// The phase.
        phase: PhaseName,
        /// The handler's place in the phase.
        handler: u16,
        /// The version the entry has pinned.
        version: semver::Version,
        /// When it was first sent.
        sent_at: Timestamp,
    },
    /// Put the end of a phase on the coordinator queue of the run's shard.
    Announce(PhaseFinished),
    /// Tell whoever listens.
    Tell(Lifecycle),
    /// Tell workers that jobs of this and earlier entries no longer matter.
    CancelJobs {
        /// The last entry that no longer matters.
        entry: EntryNo,
    },
}

/// Jobs to be put on a handler's queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dispatch {
    /// Their entry.
    pub entry: EntryNo,
    /// Its nonce.
    pub nonce: Nonce,
    /// The phase.
    pub phase: PhaseName,
    /// The handler's place in the phase.
    pub handler: u16,
    /// Its name.
    pub name: HandlerName,
    /// The version the entry has pinned.
    pub version: semver::Version,
    /// Whether it is the making of the handler's list that goes out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub enumerate: bool,
    /// Whether the jobs' inputs are stored; otherwise see [`Listing`](super::Listing).
    pub stored_inputs: bool,
    /// `(first, count)`: jobs on their first attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fresh: Option<(JobIndex, u64)>,
    /// Jobs that go out again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub again: Vec<JobTicket>,
}

impl Dispatch {
    /// How many jobs it has.
    pub fn len(&self) -> u64 {
        self.fresh.map_or(0, |(_, count)| count).saturating_add(self.again.len() as u64)
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A job that goes out again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobTicket {
    /// The job.
    pub index: JobIndex,
    /// The number of this dispatch.
    pub attempt: Attempt,
    /// Which try it is.
    #[serde(rename = "try")]
    pub tried: u32,
    /// Whether it must travel alone, because a worker may have died of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub alone: bool,
}

/// Something that only the outside can tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Which versions of these handlers (by their place in the phase) live? Answered by
    /// [`Event::Resolved`](super::Event::Resolved).
    Versions {
        /// The entry.
        entry: EntryNo,
        /// Its nonce.
        nonce: Nonce,
        /// The handlers.
        handlers: Vec<u16>,
    },
    /// What jobs does this handler have? Answered by [`Event::Enumerated`](super::Event::Enumerated).
    List {
        /// The entry.
        entry: EntryNo,
        /// Its nonce.
        nonce: Nonce,
        /// The handler.
        handler: u16,
    },
    /// What is the run's result? Answered by [`Event::Concluded`](super::Event::Concluded).
    Output {
        /// The entry.
        entry: EntryNo,
        /// Its nonce.
        nonce: Nonce,
    },
}

impl Effect {
    /// In one word, for logs and metrics.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Dispatch(_) => "dispatch",
            Self::Probe { .. } => "probe",
            Self::Announce(_) => "announce",
            Self::Tell(_) => "tell",
            Self::CancelJobs { .. } => "cancel-jobs",
        }
    }
}
