//! A run: its state, what can happen to it, and the one function that decides what happens next.
//!
//! In reading order: [`Run`] is the state; [`Event`] what can happen; [`apply()`] decides; [`Effect`] and [`Question`]
//! are what it asks for; [`Delta`] is what has to be written down. Nothing here reads a clock, draws a random number
//! or talks to anyone: time and chance come in with a [`Moment`].

mod apply;
pub mod audit;
mod control;
mod delta;
mod dispatch;
mod effect;
mod entry;
mod enumeration;
mod event;
mod failure;
mod jobs;
mod leases;
mod listing;
mod outcomes;
mod phase;
mod recovery;
mod retry;
mod state;
#[cfg(test)]
mod tests;

pub use apply::{apply, start};
pub use delta::{BitPatch, Delta, ExceptionChange, FailureRecord, ForgottenEntry, ForgottenList, OutputPage};
pub use effect::{Dispatch, Effect, JobTicket, Question, Step};
pub use entry::{Entry, EntryOutputs, Enumeration, HandlerEntry, HandlerOutputs, ProbeOut, Stage};
pub use event::{Event, Ignored, Listing, Moment, Resolution};
pub use jobs::{Bitmap, Exception, ExceptionState, JobSet, Lease};
pub use listing::{Items, expression_fault};
pub use state::{
    Canceling, Cause, ENGINE, HandlerTally, Head, HistoryEvent, HistoryKind, LostWhy, Run, RunState, Unreadable,
};

use crate::message::lease::{LEASE, LEASE_AFTER};
use crate::time::Millis;

/// The version of the stored state that this code writes. It reads this one and the one before, and leaves a run of a
/// later one to a coordinator that reads that. It has to see the head for it, and stores read the rest along with that: a
/// later version must not make of exceptions what this one cannot parse.
pub const STATE_FORMAT: u16 = 2;

/// How many entries a run may have; a run that would exceed it halts.
pub const MAX_ENTRIES: u32 = 10_000;

/// How many jobs of a handler may be out at once, unless the definition or the number of live slots says otherwise.
pub const DEFAULT_WINDOW: u32 = 1024;

/// The largest window that follows the number of slots: workers may claim any number of them.
pub const LARGEST_WINDOW: u32 = 65_536;

/// How many failures of a handler of an entry are kept in full; further ones are counted.
pub const MAX_FAILURES_KEPT: u64 = 1000;

/// How many jobs a list may have that a handler makes itself.
pub const MAX_LISTED_JOBS: u64 = 10_000_000;

/// How many bytes the jobs of such a list may take together.
pub const MAX_LISTED_BYTES: u64 = 4 * 1024 * 1024 * 1024;

/// How long a finished phase waits to be moved on before its end is announced again.
pub const ANNOUNCE_AGAIN: Millis = Millis::from_secs(30);

/// How often a run that waits for a worker looks again, besides being woken when one comes.
pub const LOOK_FOR_WORKERS: Millis = Millis::from_mins(1);

/// How long nothing is heard of jobs that are out before a probe asks after them.
pub const QUIET: Millis = Millis::from_secs(30);

/// How long after it began to listen a coordinator does not act on silence: leases are renewed three times as often as
/// they run out, and live workers announce themselves more often than that.
pub const HEARING: Millis = Millis(LEASE.0 / 3 + 5000);

/// After how long, though other jobs of the handler are heard of, a probe asks after those that are not.
pub const ASK_ANYWAY: Millis = Millis::from_mins(5);

/// The longest that a probe is under way before it is sent once more.
pub const PROBE_AT_LAST: Millis = Millis::from_mins(60);

/// How many orders a run remembers, so that one that is repeated is carried out once.
pub(crate) const ORDERS_KEPT: usize = 8;

/// How long a probe may be under way before it is sent once more.
pub const PROBE_AGAIN: Millis = Millis::from_mins(2);

/// How long after a probe came back what it asked after may still be heard of: a job that runs takes a lease in time.
pub const HEARD_WITHIN: Millis = Millis(LEASE_AFTER.0 + 15_000);

/// How long a version may be without workers before a run that has pinned it moves to another within its requirement.
pub const MOVE_AFTER: Millis = Millis::from_secs(60);
