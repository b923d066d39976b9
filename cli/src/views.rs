//! What a server answers, as this program reads it: only what is shown, and nothing that a newer server might leave out
//! or add stands in the way. Holds data, decides nothing.

use phasework_workflows::time::{Millis, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

/// A refusal.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ErrorEnvelope {
    pub(crate) error: ErrorView,
}

/// What is wrong.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ErrorView {
    #[serde(default)]
    pub(crate) code: String,
    pub(crate) message: String,
    #[serde(default)]
    pub(crate) problems: Vec<ProblemView>,
}

/// One thing that is wrong with a definition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProblemView {
    #[serde(default)]
    pub(crate) pointer: String,
    #[serde(default)]
    pub(crate) line: usize,
    #[serde(default)]
    pub(crate) column: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) end: Option<PositionView>,
    pub(crate) message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) hint: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) severity: Option<String>,
}

/// A place in a text; both numbers start at 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PositionView {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

impl ProblemView {
    /// Whether the definition can be used all the same.
    pub(crate) fn is_warning(&self) -> bool {
        self.severity.as_deref() == Some("warning")
    }

    /// On one line, where the source is not at hand.
    pub(crate) fn line(&self) -> String {
        let hint = self.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
        format!("line {}, column {}: {}{hint}", self.line, self.column, self.message)
    }
}

/// Whether a server can work.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ReadinessView {
    /// Whether it has not begun to work.
    #[serde(default)]
    pub(crate) starting: bool,
    pub(crate) reasons: Vec<String>,
    /// What should be seen to, ready or not.
    #[serde(default)]
    pub(crate) warnings: Vec<String>,
}

/// An accepted submission.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Submitted {
    pub(crate) run: String,
    pub(crate) state: String,
    #[serde(default)]
    pub(crate) created: bool,
}

/// A run.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct RunView {
    pub(crate) run: String,
    /// Not known of a run that cannot be read, as little as its phase.
    #[serde(default)]
    pub(crate) workflow: String,
    #[serde(default)]
    pub(crate) revision: String,
    #[serde(default)]
    pub(crate) key: Option<String>,
    pub(crate) state: String,
    #[serde(default)]
    pub(crate) phase: String,
    #[serde(default)]
    pub(crate) entry: u32,
    pub(crate) created_at: Timestamp,
    #[serde(default)]
    pub(crate) ended_at: Option<Timestamp>,
    #[serde(default)]
    pub(crate) output: Option<Value>,
    #[serde(default)]
    pub(crate) error: Option<CauseView>,
    #[serde(default)]
    pub(crate) waiting_for: Option<String>,
    #[serde(default)]
    pub(crate) handlers: Vec<HandlerView>,
}

impl RunView {
    /// Whether nothing changes any more, or nothing does until the cause of a failure is mended. A run that is paused or
    /// being canceled is not over.
    pub(crate) fn is_over(&self) -> bool {
        self.has_ended() || self.state == "halted"
    }

    /// Whether nothing changes any more.
    pub(crate) fn has_ended(&self) -> bool {
        ["succeeded", "failed", "canceled"].contains(&self.state.as_str())
    }

    /// Why it cannot be read, if that is so.
    pub(crate) fn unreadable(&self) -> Option<&str> {
        let is_unreadable = ["damaged", "newer"].contains(&self.state.as_str());
        self.error.as_ref().filter(|_| is_unreadable).map(|error| error.message.as_str())
    }

    /// How long it took, or takes up to now.
    pub(crate) fn took(&self, now: Timestamp) -> Millis {
        self.ended_at.unwrap_or(now).since(self.created_at)
    }
}

/// What made a run halt, fail, or leave the ordinary path; or why it cannot be read.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct CauseView {
    #[serde(default)]
    pub(crate) phase: String,
    #[serde(default)]
    pub(crate) handler: Option<String>,
    #[serde(default)]
    pub(crate) index: Option<u64>,
    #[serde(default)]
    pub(crate) kind: Option<String>,
    #[serde(default)]
    pub(crate) message: String,
}

impl CauseView {
    /// Where it happened and what it was.
    pub(crate) fn words(&self) -> String {
        if self.phase.is_empty() {
            return self.message.clone();
        }
        let handler = self.handler.as_ref().map(|handler| match self.index {
            Some(index) => format!(", {handler} job {index}"),
            None => format!(", {handler}"),
        });
        let kind = self.kind.as_deref().filter(|kind| *kind != "error").map(|kind| format!("{kind}: "));
        let (handler, kind) = (handler.unwrap_or_default(), kind.unwrap_or_default());
        format!("in phase `{}`{handler}: {kind}{}", self.phase, self.message)
    }
}

/// How far a handler of an entry is, or what it came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct HandlerView {
    #[serde(alias = "handler")]
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) version: Option<String>,
    #[serde(default)]
    pub(crate) total: Option<u64>,
    /// How many jobs its list has so far, while it makes that itself.
    #[serde(default)]
    pub(crate) listed: Option<u64>,
    #[serde(default)]
    pub(crate) done: u64,
    #[serde(default)]
    pub(crate) failed: u64,
    #[serde(default)]
    pub(crate) retried: u64,
    #[serde(default)]
    pub(crate) in_flight: u64,
    #[serde(default)]
    pub(crate) leased: u64,
    #[serde(default)]
    pub(crate) waiting: u64,
}

impl HandlerView {
    /// `PageDownloader 36/37, 1 failed, 4 retried`.
    pub(crate) fn words(&self) -> String {
        let total = self.total.map_or("?".to_owned(), |total| total.to_string());
        let mut words = match self.listed {
            Some(listed) => format!("{} lists its jobs, {listed} so far", self.name),
            None => format!("{} {}/{total}", self.name, self.done),
        };
        for (count, what) in [(self.failed, "failed"), (self.retried, "retried")] {
            if count > 0 {
                words.push_str(&format!(", {count} {what}"));
            }
        }
        words
    }
}

/// What an order came to.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct OrderedView {
    pub(crate) state: String,
    #[serde(default)]
    pub(crate) changed: bool,
}

/// A page of runs.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct RunsPage {
    pub(crate) runs: Vec<RunView>,
    #[serde(default)]
    pub(crate) next: Option<String>,
    #[serde(default)]
    pub(crate) counts: Counts,
}

/// How many runs there are.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(crate) struct Counts {
    #[serde(default)]
    pub(crate) live: u64,
    #[serde(default)]
    pub(crate) ended: u64,
}

/// A page of a run's history.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct HistoryPage {
    pub(crate) events: Vec<Value>,
}

/// A page of inputs of jobs.
#[derive(Debug, Deserialize)]
pub(crate) struct InputsPage {
    pub(crate) inputs: Vec<InputView>,
    #[serde(default)]
    pub(crate) next: Option<u64>,
}

/// What a job was given; as it was written.
#[derive(Debug, Deserialize)]
pub(crate) struct InputView {
    pub(crate) index: u64,
    pub(crate) input: Box<RawValue>,
}

/// A page of outputs of jobs.
#[derive(Debug, Deserialize)]
pub(crate) struct OutputsPage {
    pub(crate) outputs: Vec<OutputView>,
    #[serde(default)]
    pub(crate) next: Option<u64>,
}

/// What a job gave; as it was written.
#[derive(Debug, Deserialize)]
pub(crate) struct OutputView {
    pub(crate) index: u64,
    pub(crate) output: Box<RawValue>,
}

/// A job that failed for good.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct FailureView {
    #[serde(default)]
    pub(crate) phase: Option<String>,
    #[serde(default)]
    pub(crate) handler: Option<Value>,
    #[serde(default)]
    pub(crate) index: u64,
    #[serde(default)]
    pub(crate) attempt: u32,
    #[serde(default)]
    pub(crate) error: Value,
    pub(crate) at: Timestamp,
}

/// A page of failed jobs.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct FailuresPage {
    pub(crate) failures: Vec<FailureView>,
}

/// A stored definition.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct WorkflowView {
    pub(crate) name: String,
    pub(crate) revision: String,
    #[serde(default)]
    pub(crate) stored_at: Option<Timestamp>,
    #[serde(default)]
    pub(crate) phases: Option<u64>,
    #[serde(default)]
    pub(crate) definition: Value,
    #[serde(default)]
    pub(crate) revisions: Vec<RevisionView>,
}

/// A revision of a definition.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct RevisionView {
    pub(crate) revision: String,
    pub(crate) stored_at: Timestamp,
}

/// The judgement on a definition, or what storing it came to.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct AppliedView {
    pub(crate) name: String,
    pub(crate) revision: String,
    #[serde(default)]
    pub(crate) created: bool,
    #[serde(default)]
    pub(crate) warnings: Vec<ProblemView>,
}

/// A worker.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct WorkerView {
    #[serde(default)]
    pub(crate) host: String,
    #[serde(default)]
    pub(crate) pid: u32,
    #[serde(default)]
    pub(crate) sdk: String,
    pub(crate) last_seen: Timestamp,
    #[serde(default)]
    pub(crate) live: bool,
    #[serde(default)]
    pub(crate) draining: bool,
    #[serde(default)]
    pub(crate) handlers: Vec<HostedView>,
}

/// The workers that are known.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(not(feature = "top"), expect(dead_code, reason = "only `top` reads it whole"))]
pub(crate) struct WorkersPage {
    pub(crate) workers: Vec<WorkerView>,
}

/// The coordinators that live.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(not(feature = "top"), expect(dead_code, reason = "only `top` reads it whole"))]
pub(crate) struct CoordinatorsPage {
    pub(crate) coordinators: Vec<CoordinatorView>,
}

/// A coordinator.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(not(feature = "top"), expect(dead_code, reason = "only `top` reads it"))]
pub(crate) struct CoordinatorView {
    pub(crate) coordinator: String,
    #[serde(default)]
    pub(crate) queues_owned: Option<u64>,
}

/// A handler that a worker hosts.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct HostedView {
    pub(crate) name: String,
    pub(crate) version: String,
    #[serde(default)]
    pub(crate) slots: u32,
    #[serde(default)]
    pub(crate) in_flight: u32,
}

/// A dead letter.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct DeadView {
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) reason: String,
    pub(crate) at: Timestamp,
    #[serde(default)]
    pub(crate) queue: String,
    #[serde(default)]
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) size: u64,
    #[serde(default)]
    pub(crate) body: Option<String>,
}

/// A page of dead letters.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct DeadPage {
    pub(crate) dead: Vec<DeadView>,
    #[serde(default)]
    pub(crate) count: u64,
}
