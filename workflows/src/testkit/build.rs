//! Builders: a definition in a line, for tests that are about runs and not about the language. They check nothing.

use crate::definition::{
    Backoff, Expression, ForEach, HandlerSpec, Phase, QueueNaming, RetryPolicy, Template, Tolerance,
    VersionRequirement, Workflow,
};
use crate::id::{HandlerName, PhaseName, Revision, WorkflowName};
use crate::time::Millis;

/// Begins a workflow. Its first phase is the initial one.
pub fn workflow(name: &str) -> WorkflowBuilder {
    let name = WorkflowName::new(name).expect("a good workflow name");
    let revision = Revision::of(name.as_str().as_bytes());
    let queues = QueueNaming::default();
    WorkflowBuilder(Workflow { name, description: None, queues, phases: Vec::new(), output: None, revision })
}

/// A workflow that is being built.
#[derive(Clone, Debug)]
#[must_use]
pub struct WorkflowBuilder(Workflow);

impl WorkflowBuilder {
    /// Adds a phase.
    pub fn phase(mut self, phase: PhaseBuilder) -> Self {
        let mut phase = phase.0;
        phase.is_initial = self.0.phases.is_empty();
        self.0.phases.push(phase);
        self
    }

    /// Gives the run a result of its own making.
    pub fn output(mut self, template: serde_json::Value) -> Self {
        self.0.output = Some(Template::parse(template).expect("a good template"));
        self
    }

    /// The workflow.
    #[must_use]
    pub fn build(self) -> Workflow {
        self.0
    }
}

/// Begins a phase.
pub fn phase(name: &str) -> PhaseBuilder {
    PhaseBuilder(Phase {
        name: phase_name(name),
        is_initial: false,
        is_final: false,
        handlers: Vec::new(),
        transitions_to: None,
        on_error_transition_to: None,
    })
}

/// Begins a phase in which runs end.
pub fn final_phase(name: &str) -> PhaseBuilder {
    let mut phase = phase(name);
    phase.0.is_final = true;
    phase
}

/// A phase that is being built.
#[derive(Clone, Debug)]
#[must_use]
pub struct PhaseBuilder(Phase);

impl PhaseBuilder {
    /// Where it goes when it has finished.
    pub fn to(mut self, phase: &str) -> Self {
        self.0.transitions_to = Some(phase_name(phase));
        self
    }

    /// Where it goes when a job has failed for good.
    pub fn on_error(mut self, phase: &str) -> Self {
        self.0.on_error_transition_to = Some(phase_name(phase));
        self
    }

    /// Adds a handler.
    pub fn handler(mut self, handler: impl Into<HandlerBuilder>) -> Self {
        self.0.handlers.push(handler.into().0);
        self
    }
}

/// Begins a handler: one job, three tries a second and two apart, to the millisecond.
pub fn handler(name: &str) -> HandlerBuilder {
    HandlerBuilder(HandlerSpec {
        name: HandlerName::new(name).expect("a good handler name"),
        version: VersionRequirement::any(),
        input: None,
        for_each: None,
        enumerate: false,
        max_in_flight: None,
        retry: RetryPolicy { jitter_percent: 0, ..RetryPolicy::default() },
        timeout: Millis::from_secs(30),
        start_timeout: None,
        tolerate_failures: Tolerance::None,
        queue: None,
    })
}

/// A handler that is being built.
#[derive(Clone, Debug)]
#[must_use]
pub struct HandlerBuilder(HandlerSpec);

impl From<&str> for HandlerBuilder {
    fn from(name: &str) -> Self {
        handler(name)
    }
}

impl HandlerBuilder {
    /// This many jobs.
    pub fn count(mut self, jobs: u64) -> Self {
        self.0.for_each = Some(ForEach::Count(jobs));
        self
    }

    /// A job for each item that the expression gives.
    pub fn each(mut self, expression: &str) -> Self {
        self.0.for_each = Some(ForEach::Expression(Expression::parse(expression).expect("a good expression")));
        self
    }

    /// Jobs that the handler lists itself.
    pub fn enumerates(mut self) -> Self {
        self.0.enumerate = true;
        self
    }

    /// What each job gets.
    pub fn input(mut self, template: serde_json::Value) -> Self {
        self.0.input = Some(Template::parse(template).expect("a good template"));
        self
    }

    /// How many jobs may be out at once.
    pub fn window(mut self, jobs: u32) -> Self {
        self.0.max_in_flight = Some(jobs);
        self
    }

    /// How many tries a job gets.
    pub fn tries(mut self, max_attempts: u32) -> Self {
        self.0.retry.max_attempts = max_attempts;
        self
    }

    /// How long a job waits between tries.
    pub fn backoff(mut self, backoff: Backoff, delay: Millis, max_delay: Millis) -> Self {
        self.0.retry = RetryPolicy { backoff, delay, max_delay, ..self.0.retry };
        self
    }

    /// How long an attempt may take.
    pub fn timeout(mut self, length: Millis) -> Self {
        self.0.timeout = length;
        self
    }

    /// How long its jobs wait for a worker at most.
    pub fn start_timeout(mut self, length: Millis) -> Self {
        self.0.start_timeout = Some(length);
        self
    }

    /// How many jobs may fail for good.
    pub fn tolerate(mut self, tolerance: Tolerance) -> Self {
        self.0.tolerate_failures = tolerance;
        self
    }
}

fn phase_name(name: &str) -> PhaseName {
    PhaseName::new(name).expect("a good phase name")
}
