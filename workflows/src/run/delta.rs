//! What has changed in a run since it was last written down. Small, whatever the size of the run; several steps add
//! up to one.

use serde::{Deserialize, Serialize};

use super::jobs::Exception;
use super::state::HistoryEvent;
use crate::id::{Attempt, EntryNo, JobIndex, Nonce};
use crate::message::outcome::JobError;
use crate::payload::Payload;
use crate::time::Timestamp;

/// What has changed besides the head, which is written whole. What is forgotten goes after the rest is written.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Delta {
    /// Bytes of terminal-job bitmaps to be overwritten.
    pub bits: Vec<BitPatch>,
    /// Exceptions to be set or removed; of several for one job the last counts.
    pub exceptions: Vec<ExceptionChange>,
    /// Outputs to be appended.
    pub outputs: Vec<OutputPage>,
    /// Failures for good, to be appended.
    pub failures: Vec<FailureRecord>,
    /// What happened, numbered without gaps, to be appended.
    pub history: Vec<HistoryEvent>,
    /// Entries whose inputs, bitmaps, exceptions (not outputs, not failures) go. Inputs go whatever they were stored under,
    /// those of entries before as well: some may have been stored ahead of a commit that never came.
    pub forget_jobs: Vec<ForgottenEntry>,
    /// Lists of inputs that go, and nothing else of their entry.
    pub forget_inputs: Vec<ForgottenList>,
    /// Entries whose outputs go, because a later entry of the same phase has taken their place.
    pub forget_outputs: Vec<ForgottenEntry>,
    /// The run's result.
    pub output: Option<Payload>,
}

/// Bytes of the bitmap of terminal jobs of one handler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BitPatch {
    /// The entry.
    pub entry: EntryNo,
    /// The handler's place in the phase.
    pub handler: u16,
    /// Where in the bitmap, in bytes.
    pub offset: u64,
    /// What stands there now.
    pub bytes: Vec<u8>,
}

/// An exception that is set or removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExceptionChange {
    /// The entry.
    pub entry: EntryNo,
    /// The handler's place in the phase.
    pub handler: u16,
    /// The job.
    pub index: JobIndex,
    /// Its record now; none when it has come to its end.
    pub exception: Option<Exception>,
}

/// Outputs of some jobs of one handler.
#[derive(Clone, Debug, PartialEq)]
pub struct OutputPage {
    /// The entry.
    pub entry: EntryNo,
    /// The handler's place in the phase.
    pub handler: u16,
    /// The outputs, each with its job.
    pub items: Vec<(JobIndex, Payload)>,
}

/// A job that failed for good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureRecord {
    /// The entry.
    pub entry: EntryNo,
    /// The handler's place in the phase.
    pub handler: u16,
    /// The job.
    pub index: JobIndex,
    /// The attempt that was its last.
    pub attempt: Attempt,
    /// Why.
    pub error: JobError,
    /// When.
    pub at: Timestamp,
}

/// A list of inputs that goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForgottenList {
    /// The entry.
    pub entry: EntryNo,
    /// What it is stored under.
    pub nonce: Nonce,
    /// The handler's place in the phase.
    pub handler: u16,
}

/// An entry whose data goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForgottenEntry {
    /// The entry.
    pub entry: EntryNo,
    /// Its nonce.
    pub nonce: Nonce,
    /// How many handlers its phase has.
    pub handlers: u16,
}
