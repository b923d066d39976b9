//! Claims on long jobs: a worker takes and renews them, so that no delivery has to be held for as long as a job runs.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::event::ReplyTo;
use super::{Batch, Body};
use crate::id::{Attempt, EntryNo, HandlerName, JobIndex, Nonce, RunId};
use crate::payload::Payload;
use crate::time::Millis;

/// How long a lease lasts from when it was taken or renewed. A worker renews it several times as often.
pub const LEASE: Millis = Millis::from_secs(60);

/// The most that a job may leave for its next attempt, in bytes.
pub const MAX_DETAILS_BYTES: usize = 16 * 1024;

/// How long a job runs before its worker takes a lease. Whatever is out, not leased and not heard of for longer than
/// this has been lost.
pub const LEASE_AFTER: Millis = Millis::from_secs(30);

/// Leases that are asked for, or to be renewed. Sent to the coordinator queue that the jobs name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Leases {
    /// Grouped as the jobs were.
    pub groups: Vec<LeaseGroup>,
}

impl Body for Leases {
    const KIND: &'static str = "Leases";
}

impl Batch for Leases {
    type Item = LeaseGroup;
    const ITEMS: &'static str = "groups";

    fn into_items(self) -> Vec<LeaseGroup> {
        self.groups
    }
}

/// Leases on jobs of one handler within one entry of one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LeaseGroup {
    /// The run.
    pub run: RunId,
    /// The entry.
    pub entry: EntryNo,
    /// The entry's nonce, as the job message had it.
    pub nonce: Nonce,
    /// The handler.
    pub handler: HandlerName,
    /// Who asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<Arc<str>>,
    /// Where the answer goes: the worker's private queue.
    pub reply: ReplyTo,
    /// The jobs.
    pub leases: Vec<LeaseWanted>,
}

/// A lease that is asked for, or to be renewed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseWanted {
    /// The job.
    pub index: JobIndex,
    /// The attempt, as the job message had it.
    pub attempt: Attempt,
    /// How far the job is, in percent, when its handler says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<u8>,
    /// What the job has come to, in its own words: its next attempt gets it, if there is one. None: what it said before.
    #[serde(default, deserialize_with = "Payload::present", skip_serializing_if = "Option::is_none")]
    pub details: Option<Payload>,
}

/// The answer to one [`LeaseGroup`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeasesAnswered {
    /// The run.
    pub run: RunId,
    /// The entry.
    pub entry: EntryNo,
    /// Its nonce.
    pub nonce: Nonce,
    /// The handler.
    pub handler: HandlerName,
    /// One for each job that was asked about.
    pub answers: Vec<LeaseAnswer>,
}

impl Body for LeasesAnswered {
    const KIND: &'static str = "LeasesAnswered";
}

/// Whether a job is leased.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseAnswer {
    /// The job.
    pub index: JobIndex,
    /// The attempt.
    pub attempt: Attempt,
    /// For how long from now; none when this attempt no longer matters, so that whoever works on it shall stop.
    #[serde(default, rename = "leased_ms", skip_serializing_if = "Option::is_none")]
    pub leased: Option<Millis>,
}
