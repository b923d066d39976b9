//! A run: its state, what can happen to it, and the one function that decides what happens next.
//!
//! In reading order: [`Run`] is the state; [`Event`] what can happen; [`apply()`] decides; [`Effect`] and [`Question`]
//! are what it asks for; [`Delta`] is what has to be written down. Nothing here reads a clock, draws a random number
//! or talks to anyone: time and chance come in with a [`Moment`].

mod apply;
mod delta;
mod dispatch;
mod effect;
mod entry;
mod event;
mod failure;
mod jobs;
mod outcomes;
mod phase;
mod recovery;
mod retry;
mod state;
#[cfg(test)]
mod tests;

pub use apply::{apply, start};
pub use delta::{BitPatch, Delta, ExceptionChange, FailureRecord, ForgottenEntry, OutputPage};
pub use effect::{Dispatch, Effect, JobTicket, Question, Step};
pub use entry::{Entry, EntryOutputs, HandlerEntry, HandlerOutputs, Stage};
pub use event::{Event, Ignored, Listing, Moment, Resolution};
pub use jobs::{Bitmap, Exception, ExceptionState, JobSet};
pub use state::{Cause, HandlerTally, Head, HistoryEvent, HistoryKind, Run, RunState};

use crate::time::Millis;

/// The version of the stored state that this code writes. It reads this one and the one before.
pub const STATE_FORMAT: u16 = 1;

/// How many entries a run may have; a run that would exceed it halts.
pub const MAX_ENTRIES: u32 = 10_000;

/// How many jobs of a handler may be out at once, unless the definition or the number of live slots says otherwise.
pub const DEFAULT_WINDOW: u32 = 1024;

/// The largest window that follows the number of slots: workers may claim any number of them.
pub const LARGEST_WINDOW: u32 = 65_536;

/// How many failures of a handler of an entry are kept in full; further ones are counted.
pub const MAX_FAILURES_KEPT: u64 = 1000;

/// How long a finished phase waits to be moved on before its end is announced again.
pub const ANNOUNCE_AGAIN: Millis = Millis::from_secs(30);

/// How often a run that waits for a worker looks again, besides being woken when one comes.
pub const LOOK_FOR_WORKERS: Millis = Millis::from_mins(1);
