//! What became of jobs: a worker's report to the coordinator.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Batch, Body};
use crate::id::{Attempt, EntryNo, HandlerName, JobIndex, Nonce, RunId};
use crate::payload::Payload;
use crate::time::Millis;

/// Outcomes of jobs, from any number of runs whose shards share a coordinator queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobsFinished {
    /// The worker that reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<Arc<str>>,
    /// The outcomes, grouped as the jobs were.
    pub groups: Vec<OutcomeGroup>,
}

impl Body for JobsFinished {
    const KIND: &'static str = "JobsFinished";
}

impl Batch for JobsFinished {
    type Item = OutcomeGroup;
    const ITEMS: &'static str = "groups";

    fn into_items(self) -> Vec<OutcomeGroup> {
        self.groups
    }
}

/// Outcomes of jobs of one handler within one entry of one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutcomeGroup {
    /// The run.
    pub run: RunId,
    /// The entry.
    pub entry: EntryNo,
    /// The entry's nonce, as the job message had it.
    pub nonce: Nonce,
    /// The handler.
    pub handler: HandlerName,
    /// `[first, count]`: jobs done on their first attempt, without output.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub done: Vec<(JobIndex, u64)>,
    /// All other outcomes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outcomes: Vec<Outcome>,
    /// How long the handler worked on these jobs, summed over the jobs, in microseconds. Packs are sized by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_us: Option<u64>,
}

/// What one attempt at one job came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The job.
    pub index: JobIndex,
    /// The attempt, as the job message had it.
    pub attempt: Attempt,
    /// What it came to.
    pub status: Status,
    /// Of a job that is done: its output; absent is `null`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Payload>,
    /// Of a job that failed: why. Of one that was returned: what kept it from being tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<JobError>,
    /// Of a job that is not done: what it has come to, in its own words, for its next attempt. None: what it said before.
    #[serde(default, deserialize_with = "Payload::present", skip_serializing_if = "Option::is_none")]
    pub details: Option<Payload>,
}

/// What an attempt came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// The handler did it.
    Done,
    /// The handler tried and failed.
    Failed,
    /// The handler was not asked, or is not known to have been: the worker is draining, or the message came twice.
    Returned,
}

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobError {
    /// What kind of failure: `error`, `panic`, `timeout`, `input`, `output`, `redelivered`, `draining`, `unknown-handler`…
    #[serde(default = "JobError::default_kind")]
    pub kind: Arc<str>,
    /// In words.
    pub message: String,
    /// Whether trying again may help.
    #[serde(default = "JobError::default_retry")]
    pub retry: bool,
    /// When to try again at the earliest, from now; in place of the backoff.
    #[serde(default, rename = "retry_after_ms", skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<Millis>,
}

impl JobError {
    /// An error of `kind` that says `message` and may be tried again.
    pub fn new(kind: &str, message: impl Into<String>) -> Self {
        Self { kind: kind.into(), message: message.into(), retry: true, retry_after: None }
    }

    /// The same, but trying again does not help.
    #[must_use]
    pub fn for_good(mut self) -> Self {
        self.retry = false;
        self
    }

    fn default_kind() -> Arc<str> {
        "error".into()
    }

    fn default_retry() -> bool {
        true
    }
}
