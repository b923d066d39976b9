//! What can happen to a run, and why an event may change nothing.

use super::HEARING;
use crate::id::{Attempt, EntryNo, HandlerName, JobIndex, Nonce};
use crate::message::event::Control;
use crate::message::lease::LeaseWanted;
use crate::message::outcome::{JobError, Outcome};
use crate::payload::Payload;
use crate::time::Timestamp;

/// Time and chance for one application of an event; drawn by the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The time it is.
    pub now: Timestamp,
    /// 64 random bits, for the nonce of an entry that begins and the jitter of a retry.
    pub random: u64,
    /// Since when whoever applies events has been hearing all that there is to hear of the run. Silence before that says
    /// nothing: what was said may still wait to be read.
    pub listening_since: Timestamp,
}

impl Moment {
    /// When to act on a silence that would otherwise have lasted long enough at `at`. That somebody began to listen in the
    /// future says that a clock was set back, and nothing more: whoever waited for that time to come would wait long.
    pub(super) fn not_before_heard(self, at: Timestamp) -> Timestamp {
        let heard = if self.listening_since > self.now { at } else { self.listening_since.plus(HEARING) };
        at.max(heard)
    }
}

/// Something that happened, as far as one run is concerned.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A worker reports on jobs of one handler.
    JobsFinished {
        /// The entry they belong to.
        entry: EntryNo,
        /// Its nonce, or that of its lists.
        nonce: Nonce,
        /// Their handler.
        handler: HandlerName,
        /// `(first, count)`: done on the first attempt, without output.
        done: Vec<(JobIndex, u64)>,
        /// All other outcomes.
        outcomes: Vec<Outcome>,
    },
    /// A worker gives a page of the list that a handler makes itself.
    JobsListed {
        /// The entry.
        entry: EntryNo,
        /// The nonce of its lists.
        nonce: Nonce,
        /// The handler.
        handler: HandlerName,
        /// The attempt.
        attempt: Attempt,
        /// Names the list.
        list: Nonce,
        /// The number of the first of these jobs.
        first: JobIndex,
        /// What each job is to work on; or why that cannot be, for good.
        items: Result<Vec<Payload>, JobError>,
    },
    /// A worker asks for leases on jobs of one handler, or renews them.
    Leases {
        /// The entry they belong to.
        entry: EntryNo,
        /// Its nonce.
        nonce: Nonce,
        /// Their handler.
        handler: HandlerName,
        /// The jobs.
        leases: Vec<LeaseWanted>,
    },
    /// A probe came back through a job queue.
    ProbeReturned {
        /// The entry that sent it.
        entry: EntryNo,
        /// Its nonce.
        nonce: Nonce,
        /// The handler.
        handler: HandlerName,
        /// When it was first sent.
        sent_at: Timestamp,
    },
    /// The current phase is finished, and that is known to whoever listens: move on.
    PhaseFinished {
        /// The entry that finished.
        entry: EntryNo,
        /// Its nonce.
        nonce: Nonce,
    },
    /// Which versions live was looked up: the answer to [`Question::Versions`](super::Question::Versions).
    Resolved {
        /// The entry that asked.
        entry: EntryNo,
        /// Its nonce.
        nonce: Nonce,
        /// The answer for each handler that was asked about.
        handlers: Vec<Resolution>,
    },
    /// A list of jobs was made: the answer to [`Question::List`](super::Question::List).
    Enumerated {
        /// The entry that asked.
        entry: EntryNo,
        /// Its nonce.
        nonce: Nonce,
        /// The handler, by its place in the phase.
        handler: u16,
        /// The list, or why there is none.
        listing: Result<Listing, JobError>,
    },
    /// The run's result was worked out: the answer to [`Question::Output`](super::Question::Output).
    Concluded {
        /// The entry that asked.
        entry: EntryNo,
        /// Its nonce.
        nonce: Nonce,
        /// The result, or why there is none.
        output: Result<Payload, JobError>,
    },
    /// The run's timer went off, or a worker it may be waiting for came.
    Wake,
    /// The broker or the store has lost what was under way: whatever is out and not leased goes out again, and the end
    /// of a finished phase is announced again. Applying it twice does no harm.
    Recover,
    /// Somebody gives an order.
    Control(Control),
}

/// Which version a handler gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolution {
    /// The handler, by its place in the phase.
    pub handler: u16,
    /// The highest live version that meets the requirement; none when no worker hosts one.
    pub version: Option<semver::Version>,
    /// How many slots the live workers have for it.
    pub slots: u32,
    /// Whether a worker hosts the version that is pinned.
    pub pinned_lives: bool,
}

/// A list of jobs that was made and stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listing {
    /// How many jobs it has.
    pub total: u64,
    /// Whether each job's input is stored; otherwise a job's input is its index, or the run's data.
    pub stored: bool,
}

/// Why an event changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ignored {
    /// The run has ended.
    RunEnded,
    /// The run exists already.
    AlreadyStarted,
    /// It speaks of an entry that is not the current one, or of one of a lost timeline.
    OtherEntry,
    /// The entry is past the point where this matters.
    TooLate,
    /// It speaks of a handler that the phase does not have.
    UnknownHandler,
    /// All of it was known, or came from superseded attempts.
    Stale,
    /// A timer went off with nothing due.
    NothingDue,
    /// What is ordered is so already.
    AlreadySo,
    /// The run is not in a state in which that can be ordered.
    NotNow,
    /// The order names a phase that the definition does not have.
    UnknownPhase,
    /// It is not known which jobs failed: the entry was begun by a version that did not write it down.
    NotRecorded,
}

impl Ignored {
    /// In one word, for logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RunEnded => "run-ended",
            Self::AlreadyStarted => "already-started",
            Self::OtherEntry => "other-entry",
            Self::TooLate => "too-late",
            Self::UnknownHandler => "unknown-handler",
            Self::Stale => "stale",
            Self::NothingDue => "nothing-due",
            Self::AlreadySo => "already-so",
            Self::NotNow => "not-now",
            Self::UnknownPhase => "unknown-phase",
            Self::NotRecorded => "not-recorded",
        }
    }
}
