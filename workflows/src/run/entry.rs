//! One visit of a run to a phase.

use serde::{Deserialize, Serialize};

use crate::id::{EntryNo, HandlerName, JobIndex, Nonce, PhaseName};
use crate::message::event::PhaseStatus;
use crate::message::outcome::JobError;
use crate::time::Timestamp;

/// One visit of a run to a phase.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its number: 1, 2, 3… over the run.
    pub number: EntryNo,
    /// Tells it from an entry of the same number in a lost timeline.
    pub nonce: Nonce,
    /// The phase.
    pub phase: PhaseName,
    /// When it began.
    pub entered_at: Timestamp,
    /// How far it is.
    pub stage: Stage,
    /// How far each handler is, in the order of the definition.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub handlers: Vec<HandlerEntry>,
}

/// How far an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Jobs are listed, dispatched, reported.
    Working,
    /// All that can be done is done, and announced; the run is about to move on, unless it has halted here.
    Finished {
        /// How it finished.
        status: PhaseStatus,
        /// When.
        at: Timestamp,
    },
    /// A job failed for good and there is no error transition: nothing more is dispatched.
    Halted,
}

/// How far one handler of an entry is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandlerEntry {
    /// Its name.
    pub name: HandlerName,
    /// The version this entry has pinned; none until a worker that hosts a fitting one is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<semver::Version>,
    /// How many jobs it has; none until its list is sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// Whether it had a list of jobs by declaration, so that its outputs are a list.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_list: bool,
    /// Whether each job's input is stored.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stored_inputs: bool,
    /// The list that it makes itself, which is what is out, waiting or failed of it until that is sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enumeration: Option<Enumeration>,
    /// How many of its jobs may be out at once.
    pub window: u32,
    /// Jobs below this index have been dispatched at least once.
    pub cursor: u64,
    /// How many are out, leased ones among them.
    pub out: u64,
    /// How many of those are leased.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub leased: u64,
    /// How many are done.
    pub done: u64,
    /// How many failed for good.
    pub failed: u64,
    /// How many failed tries at its jobs were followed by another.
    pub retried: u64,
    /// How many have an output that is not `null`.
    pub outputs: u64,
    /// How many of its jobs are not out and wait for another attempt.
    pub waiting: u64,
    /// When something was last heard of its jobs, leases aside; or when they went out, if nothing was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard_at: Option<Timestamp>,
    /// When jobs of which nothing is heard were last asked after, or went out when there were none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_at: Option<Timestamp>,
    /// The probe that asks after jobs of which nothing is heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<ProbeOut>,
    /// Since when no worker that could do its jobs is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unmanned_since: Option<Timestamp>,
    /// The first failure for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_failure: Option<JobError>,
    /// The job that failed first; none when it was the list that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_failed: Option<JobIndex>,
}

/// A list of jobs that a handler makes itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Enumeration {
    /// What the pages are stored under of the list that is taken: [`Nonce::of_list`] of this entry, handler and attempt,
    /// and of the number that its maker has drawn. None before the first page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub list: Option<Nonce>,
    /// How many jobs it has, as far as it has come.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub jobs: u64,
    /// How many bytes they take.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub bytes: u64,
}

/// A probe on its way through a job queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeOut {
    /// When it was first sent; what went out later is not what it asks after.
    pub sent_at: Timestamp,
    /// When it was last sent: one that does not come back is sent again.
    pub asked_at: Timestamp,
    /// Jobs on their first attempt below this index had gone out before it.
    pub cursor: u64,
    /// When it came back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub returned_at: Option<Timestamp>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl HandlerEntry {
    /// How many jobs are out that nobody has a lease on.
    pub fn unleased(&self) -> u64 {
        self.out.saturating_sub(self.leased)
    }

    /// Whether it makes its list itself, and has not done so.
    pub const fn is_listing(&self) -> bool {
        self.total.is_none() && self.enumeration.is_some()
    }

    /// Whether it has no list because that could not be made.
    pub const fn has_failed_to_list(&self) -> bool {
        self.is_listing() && self.failed > 0
    }

    /// Whether its list, or the input of its job, has to be worked out.
    pub const fn wants_list(&self) -> bool {
        self.total.is_none() && self.enumeration.is_none()
    }

    /// How many jobs there are to be let out, the making of a list being one.
    pub fn planned(&self) -> Option<u64> {
        self.total.or(self.is_listing().then_some(1))
    }

    /// The nonce that the pages of its jobs' inputs are stored under, in an entry with `nonce`.
    pub fn inputs_under(&self, nonce: Nonce) -> Nonce {
        let sealed = self.enumeration.filter(|_| self.total.is_some());
        sealed.and_then(|enumeration| enumeration.list).unwrap_or(nonce)
    }

    /// Whether every job has come to its end.
    pub fn is_finished(&self) -> bool {
        self.total == Some(self.done + self.failed)
    }

    /// How many jobs have not been dispatched yet.
    pub fn undispatched(&self) -> u64 {
        self.planned().unwrap_or(0).saturating_sub(self.cursor)
    }
}

/// Where the outputs of a phase's latest finished entry are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryOutputs {
    /// The phase.
    pub phase: PhaseName,
    /// The entry.
    pub entry: EntryNo,
    /// Its nonce.
    pub nonce: Nonce,
    /// What each handler left.
    pub handlers: Vec<HandlerOutputs>,
}

/// What a handler left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandlerOutputs {
    /// Its name.
    pub name: HandlerName,
    /// How many jobs it had.
    pub total: u64,
    /// How many outputs are stored; the others are `null`.
    pub outputs: u64,
    /// Whether its outputs are a list (otherwise there was one job by declaration).
    pub is_list: bool,
}
