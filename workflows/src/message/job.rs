//! Jobs on their way to a worker.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Batch, Body};
use crate::id::{Attempt, EntryNo, HandlerName, JobIndex, Nonce, PhaseName, RunId, WorkflowName};
use crate::payload::Payload;
use crate::time::Millis;

/// A pack of jobs for one queue, from any number of runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Jobs {
    /// The jobs, grouped by the run, entry and handler they belong to.
    pub groups: Vec<JobGroup>,
}

impl Body for Jobs {
    const KIND: &'static str = "Jobs";
}

impl Batch for Jobs {
    type Item = JobGroup;
    const ITEMS: &'static str = "groups";

    fn into_items(self) -> Vec<JobGroup> {
        self.groups
    }
}

/// Jobs of one handler within one entry of one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobGroup {
    /// The run.
    pub run: RunId,
    /// Its workflow.
    pub workflow: WorkflowName,
    /// The phase it is in.
    pub phase: PhaseName,
    /// Which entry of the run.
    pub entry: EntryNo,
    /// The entry's nonce; the outcome repeats it.
    pub nonce: Nonce,
    /// The handler that is to do them.
    pub handler: HandlerName,
    /// The version of the handler that the run has pinned.
    pub version: semver::Version,
    /// The coordinator queue that their outcomes go to.
    pub coordinator: u16,
    /// How long one attempt may take.
    #[serde(rename = "timeout_ms")]
    pub timeout: Millis,
    /// How many tries a job gets.
    pub max_attempts: u32,
    /// What a job's input is when the job does not carry one.
    pub input: InputSource,
    /// Where the run belongs in a trace: a W3C trace context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<Arc<str>>,
    /// Whether the handler is to list its jobs, and not to do one: [`listing`](super::listing).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub enumerate: bool,
    /// The run's data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Payload>,
    /// `[first, count]`: jobs on their first attempt that carry no input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<(JobIndex, u64)>,
    /// Jobs that carry an input, or are not on their first attempt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub jobs: Vec<Job>,
}

impl JobGroup {
    /// Every job of the group.
    pub fn each(&self) -> impl Iterator<Item = Job> + '_ {
        let (first, count) = self.range.unwrap_or((0, 0));
        let ranged = (first..first.saturating_add(count)).map(Job::fresh);
        ranged.chain(self.jobs.iter().cloned())
    }

    /// What a job of the group is to work on.
    pub fn input_of(&self, job: &Job) -> Payload {
        let shared = || match self.input {
            InputSource::Data => self.data.clone().unwrap_or_else(Payload::null),
            InputSource::Index => Payload::from(serde_json::Value::from(job.index)),
        };
        job.input.clone().unwrap_or_else(shared)
    }

    /// How many jobs the group has.
    pub fn len(&self) -> u64 {
        self.range.map_or(0, |(_, count)| count).saturating_add(self.jobs.len() as u64)
    }

    /// Whether the group has no job.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What a job's input is when the job does not carry one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InputSource {
    /// The run's data.
    Data,
    /// The job's index, a number.
    Index,
}

/// One attempt at one job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Which job of the group's handler and entry.
    pub index: JobIndex,
    /// The number of this dispatch; the outcome repeats it.
    pub attempt: Attempt,
    /// Which try this is, of `max_attempts`.
    #[serde(rename = "try")]
    pub tried: u32,
    /// What it is to work on.
    #[serde(default, deserialize_with = "Payload::present", skip_serializing_if = "Option::is_none")]
    pub input: Option<Payload>,
    /// What an attempt before this one had come to, in its own words.
    #[serde(default, deserialize_with = "Payload::present", skip_serializing_if = "Option::is_none")]
    pub details: Option<Payload>,
}

impl Job {
    /// The first attempt at a job that carries no input.
    pub const fn fresh(index: JobIndex) -> Self {
        Self { index, attempt: 1, tried: 1, input: None, details: None }
    }
}

/// An order to stop working on jobs whose outcomes no longer matter. Sent to every worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CancelJobs {
    /// What to stop.
    pub items: Vec<CanceledEntry>,
}

impl Body for CancelJobs {
    const KIND: &'static str = "CancelJobs";
}

/// An entry whose jobs no longer matter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CanceledEntry {
    /// The run.
    pub run: RunId,
    /// Jobs of this and earlier entries no longer matter.
    pub entry: EntryNo,
}
