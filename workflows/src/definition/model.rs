//! What a workflow is, as plain data. Built only by validation, so whoever holds a [`Workflow`] holds a sound one.
//! Later parts of the language (signals, waits, `when`, `depends_on`, child workflows) get their fields here.

use std::sync::Arc;

use crate::definition::{Expression, Reads, Template, VersionRequirement};
use crate::id::{HandlerName, PhaseName, Revision, WorkflowName};
use crate::time::Millis;

/// A validated workflow definition.
#[derive(Clone, Debug, PartialEq)]
pub struct Workflow {
    /// Its name.
    pub name: WorkflowName,
    /// What it is for, in the author's words.
    pub description: Option<String>,
    /// How the job queues of its handlers are named.
    pub queues: QueueNaming,
    /// Its phases, in the order in which they were written; at least one.
    pub phases: Vec<Phase>,
    /// The run's result; without it, the outputs of the final phase.
    pub output: Option<Template>,
    /// The content hash of the canonical form.
    pub revision: Revision,
}

impl Workflow {
    /// The phase called `name`.
    pub fn phase(&self, name: &PhaseName) -> Option<&Phase> {
        self.phases.iter().find(|phase| phase.name == *name)
    }

    /// The phase in which a run begins.
    ///
    /// # Panics
    /// Never for a validated workflow: it has exactly one.
    pub fn initial(&self) -> &Phase {
        self.phases.iter().find(|phase| phase.is_initial).expect("validated: one initial phase")
    }

    /// The name of the job queue for `handler` of `phase` at `version` (without the broker's prefix).
    pub fn queue_of(&self, phase: &PhaseName, handler: &HandlerSpec, version: &semver::Version) -> String {
        match (&handler.queue, self.queues) {
            (Some(queue), _) => queue.to_string(),
            (None, QueueNaming::PerHandler) => handler_queue(&handler.name, version),
            (None, QueueNaming::PerPhase) => format!("{}.{phase}.{}", self.name, handler.name),
        }
    }
}

/// The name of the queue that carries the jobs of `handler` at `version`, unless a definition says otherwise.
pub fn handler_queue(handler: &HandlerName, version: &semver::Version) -> String {
    format!("{handler}.{version}")
}

/// How job queues are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum QueueNaming {
    /// One queue for each handler version, shared by all workflows: `<handler>.<version>`.
    #[default]
    PerHandler,
    /// One queue for each handler of each phase: `<workflow>.<phase>.<handler>`.
    PerPhase,
}

/// A state of the workflow's state machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Phase {
    /// Its name.
    pub name: PhaseName,
    /// Whether runs begin here.
    pub is_initial: bool,
    /// Whether runs end here, once its handlers are done.
    pub is_final: bool,
    /// What has to be done here; a phase without handlers is passed through.
    pub handlers: Vec<HandlerSpec>,
    /// Where a run goes when the phase has finished; absent for a final phase.
    pub transitions_to: Option<PhaseName>,
    /// Where a run goes when a job has failed for good; without it the run halts.
    pub on_error_transition_to: Option<PhaseName>,
}

impl Phase {
    /// The handler called `name` and its place.
    pub fn handler(&self, name: &HandlerName) -> Option<(usize, &HandlerSpec)> {
        self.handlers.iter().enumerate().find(|(_, handler)| handler.name == *name)
    }
}

/// A handler as a phase uses it.
#[derive(Clone, Debug, PartialEq)]
pub struct HandlerSpec {
    /// Its name.
    pub name: HandlerName,
    /// Which of its versions will do.
    pub version: VersionRequirement,
    /// What each job gets; without it, the item, or the run's data when there is no list. Of a handler that lists its jobs
    /// itself: what its listing gets.
    pub input: Option<Template>,
    /// What makes its list of jobs; without it there is one job.
    pub for_each: Option<ForEach>,
    /// Whether it lists its jobs itself, at run time.
    pub enumerate: bool,
    /// How many of its jobs may be out at once.
    pub max_in_flight: Option<u32>,
    /// How often and when a failed job is tried again.
    pub retry: RetryPolicy,
    /// How long one attempt may take.
    pub timeout: Millis,
    /// How long its jobs may wait while no worker hosts it; without it, for ever.
    pub start_timeout: Option<Millis>,
    /// How many of its jobs may fail for good without the phase failing.
    pub tolerate_failures: Tolerance,
    /// A queue of its own, in place of the one that [`QueueNaming`] gives.
    pub queue: Option<Arc<str>>,
}

impl HandlerSpec {
    /// Whether it has a list of jobs, and not one job.
    pub const fn has_list(&self) -> bool {
        self.for_each.is_some() || self.enumerate
    }

    /// What has to be there to make its list of jobs and their inputs.
    pub fn reads(&self) -> Reads {
        let list = match &self.for_each {
            Some(ForEach::Expression(expression)) => expression.reads(),
            _ => Reads::default(),
        };
        list.and(self.input.as_ref().map(Template::reads).unwrap_or_default())
    }
}

/// What makes a handler's list of jobs.
#[derive(Clone, Debug, PartialEq)]
pub enum ForEach {
    /// This many jobs; each gets its index.
    Count(u64),
    /// One job for each item of the list that the expression gives, or that many when it gives a number.
    Expression(Expression),
}

/// How often and when a failed job is tried again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryPolicy {
    /// How many tries a job gets, the first included; at least 1.
    pub max_attempts: u32,
    /// How the wait grows.
    pub backoff: Backoff,
    /// The wait before the second try.
    pub delay: Millis,
    /// The longest wait.
    pub max_delay: Millis,
    /// The share of the wait, 0 to 100 percent, that is drawn at random, so that retries do not come in step.
    pub jitter_percent: u8,
}

impl Default for RetryPolicy {
    /// Three tries, one second and then two apart, a fifth of it drawn at random.
    fn default() -> Self {
        Self {
            max_attempts: 3,
            backoff: Backoff::Exponential,
            delay: Millis::from_secs(1),
            max_delay: Millis::from_mins(5),
            jitter_percent: 20,
        }
    }
}

/// How the wait between tries grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backoff {
    /// Always the same.
    Fixed,
    /// Doubles with each try.
    Exponential,
}

/// How many jobs may fail for good without the phase failing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Tolerance {
    /// None.
    #[default]
    None,
    /// This many.
    Count(u64),
    /// This percentage of the list, rounded down.
    Percent(u8),
}

impl Tolerance {
    /// How many of `total` jobs may fail.
    pub fn allowed(self, total: u64) -> u64 {
        match self {
            Self::None => 0,
            Self::Count(count) => count,
            Self::Percent(percent) => {
                let share = u128::from(total) * u128::from(percent.min(100)) / 100;
                u64::try_from(share).unwrap_or(u64::MAX)
            }
        }
    }
}
