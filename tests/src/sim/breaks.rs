//! Deliberate breaks: each takes one mechanism away that an invariant rests on. A simulator that does not find them is
//! worth nothing.

use std::fmt;
use std::str::FromStr;

use phasework_workflows::definition::Workflow;
use phasework_workflows::id::PhaseName;
use phasework_workflows::run::{Enumeration, Event, ExceptionState, Moment, Run, RunState, Step, apply};

/// A mechanism that is taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    /// Deliveries are acknowledged as soon as they arrive.
    AckEarly,
    /// A commit that makes a run is answered, and not done.
    CommitForgotten,
    /// A commit is done whatever the version of the run is by now.
    CommitOverwrites,
    /// Effects are not kept with the state.
    OutboxForgotten,
    /// History loses events.
    HistoryForgotten,
    /// An outcome counts, whatever its attempt is.
    FenceDown,
    /// An outcome counts, whatever entry it is of.
    NonceIgnored,
    /// A job's failed tries are forgotten.
    TriesForgotten,
    /// A job has failed for good when its first try fails.
    GivenUpEarly,
    /// A paused run goes on.
    PauseIgnored,
    /// Twice as many jobs are let out.
    WindowDoubled,
    /// An entry is left when the first of its jobs is done.
    FanInEarly,
    /// A list of jobs is taken again.
    ListTwice,
    /// Pages of any attempt at a list are taken, of any list.
    ListsMixed,
    /// An ended run begins anew when something is heard of it.
    EndUndone,
    /// A run's timer is not set.
    TimerForgotten,
    /// The version that an entry has pinned gives way to another.
    VersionForgotten,
    /// A run goes on with another phase than the definition says.
    WrongWay,
}

impl Break {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::AckEarly,
        Self::CommitForgotten,
        Self::CommitOverwrites,
        Self::OutboxForgotten,
        Self::HistoryForgotten,
        Self::FenceDown,
        Self::NonceIgnored,
        Self::TriesForgotten,
        Self::GivenUpEarly,
        Self::PauseIgnored,
        Self::WindowDoubled,
        Self::FanInEarly,
        Self::ListTwice,
        Self::ListsMixed,
        Self::EndUndone,
        Self::TimerForgotten,
        Self::VersionForgotten,
        Self::WrongWay,
    ];

    /// What it is called on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AckEarly => "ack-early",
            Self::CommitForgotten => "commit-forgotten",
            Self::CommitOverwrites => "commit-overwrites",
            Self::OutboxForgotten => "outbox-forgotten",
            Self::HistoryForgotten => "history-forgotten",
            Self::FenceDown => "fence-down",
            Self::NonceIgnored => "nonce-ignored",
            Self::TriesForgotten => "tries-forgotten",
            Self::GivenUpEarly => "given-up-early",
            Self::PauseIgnored => "pause-ignored",
            Self::WindowDoubled => "window-doubled",
            Self::FanInEarly => "fan-in-early",
            Self::ListTwice => "list-twice",
            Self::ListsMixed => "lists-mixed",
            Self::EndUndone => "end-undone",
            Self::TimerForgotten => "timer-forgotten",
            Self::VersionForgotten => "version-forgotten",
            Self::WrongWay => "wrong-way",
        }
    }

    /// Decides as [`apply`] does, but for what is broken.
    pub(super) fn decide(self, workflow: &Workflow, run: &mut Run, event: &Event, moment: Moment) -> Step {
        match self {
            Self::FenceDown => apply(workflow, run, &without_fence(run, event), moment),
            Self::NonceIgnored => apply(workflow, run, &of_current_entry(run, event), moment),
            Self::TriesForgotten => {
                forget_tries(run);
                apply(workflow, run, event, moment)
            }
            Self::GivenUpEarly => {
                let mut workflow = workflow.clone();
                let handlers = workflow.phases.iter_mut().flat_map(|phase| &mut phase.handlers);
                handlers.for_each(|handler| handler.retry.max_attempts = 1);
                apply(&workflow, run, event, moment)
            }
            Self::PauseIgnored if run.head.state == RunState::Paused => {
                run.head.state = RunState::Running;
                let step = apply(workflow, run, event, moment);
                if run.head.state == RunState::Running {
                    run.head.state = RunState::Paused;
                    (run.head.wake_at, run.head.awaits_worker) = (None, false);
                }
                step
            }
            Self::WindowDoubled => {
                run.head.entry.handlers.iter_mut().for_each(|handler| handler.window *= 2);
                let step = apply(workflow, run, event, moment);
                run.head.entry.handlers.iter_mut().for_each(|handler| handler.window = (handler.window / 2).max(1));
                step
            }
            Self::FanInEarly if matches!(event, Event::JobsFinished { .. }) => {
                let step = apply(workflow, run, event, moment);
                for handler in run.head.entry.handlers.iter_mut().filter(|handler| handler.done > 0) {
                    handler.total = Some(handler.done + handler.failed);
                }
                step
            }
            Self::ListTwice if matches!(event, Event::Enumerated { .. }) => {
                let step = apply(workflow, run, event, moment);
                for handler in &mut run.head.entry.handlers {
                    handler.total = handler.total.map(|total| total + 1);
                }
                step
            }
            Self::ListsMixed => of_any_list(workflow, run, event, moment),
            Self::EndUndone if run.head.state.is_ended() => {
                run.head.state = RunState::Running;
                run.head.ended_at = None;
                apply(workflow, run, event, moment)
            }
            Self::TimerForgotten => {
                let step = apply(workflow, run, event, moment);
                run.head.wake_at = None;
                step
            }
            Self::VersionForgotten => {
                let step = apply(workflow, run, event, moment);
                if let Step::Changed { .. } = step {
                    run.head
                        .entry
                        .handlers
                        .iter_mut()
                        .filter_map(|it| it.version.as_mut())
                        .for_each(|it| it.minor ^= 1);
                }
                step
            }
            Self::WrongWay if matches!(event, Event::PhaseFinished { .. }) => {
                apply(&astray(workflow), run, event, moment)
            }
            _ => apply(workflow, run, event, moment),
        }
    }
}

/// The event as if every outcome were of the attempt that is out.
fn without_fence(run: &Run, event: &Event) -> Event {
    let mut event = event.clone();
    if let Event::JobsFinished { handler, outcomes, .. } = &mut event
        && let Some(place) = run.head.entry.handlers.iter().position(|it| it.name == *handler)
        && let Some(jobs) = run.jobs.get(place)
    {
        for outcome in outcomes {
            outcome.attempt = jobs.exception(outcome.index).map_or(1, |exception| exception.attempt);
        }
    }
    event
}

/// The event as if it were of the entry that the run is in.
fn of_current_entry(run: &Run, event: &Event) -> Event {
    let (current, its_nonce) = (run.head.entry.number, run.head.entry.nonce);
    let mut event = event.clone();
    if let Event::JobsFinished { entry, nonce, .. } | Event::PhaseFinished { entry, nonce } = &mut event {
        (*entry, *nonce) = (current, its_nonce);
    }
    event
}

/// Applies a page as if it were where the list stands that is made, which becomes that of the page.
fn of_any_list(workflow: &Workflow, run: &mut Run, event: &Event, moment: Moment) -> Step {
    let (before, mut event) = (run.head.entry.clone(), event.clone());
    if let Event::JobsListed { handler, attempt, list, first, .. } = &mut event
        && let Some(place) = before.handlers.iter().position(|it| it.name == *handler)
        && let (Some(jobs), Some(listed)) = (run.jobs.get(place), before.handlers[place].enumeration)
    {
        *attempt = jobs.exception(0).map_or(1, |exception| exception.attempt);
        *first = listed.jobs;
        let list = listed.list.and(Some(before.nonce.of_list(place as u16, *attempt, *list)));
        run.head.entry.handlers[place].enumeration = Some(Enumeration { list, ..listed });
    }
    let step = apply(workflow, run, &event, moment);
    if let Step::Ignored(_) = step {
        run.head.entry = before;
    }
    step
}

fn forget_tries(run: &mut Run) {
    for jobs in &mut run.jobs {
        let tried: Vec<_> = jobs.exceptions().map(|(index, exception)| (index, exception.clone())).collect();
        for (index, mut exception) in tried {
            if matches!(exception.state, ExceptionState::Out) {
                exception.failed_tries = 0;
                exception.redelivered = 0;
                jobs.set(index, exception);
            }
        }
    }
}

/// The definition with every way leading to the last phase.
fn astray(workflow: &Workflow) -> Workflow {
    let mut workflow = workflow.clone();
    let last: Option<PhaseName> = workflow.phases.last().map(|phase| phase.name.clone());
    for phase in workflow.phases.iter_mut().filter(|phase| !phase.is_final) {
        phase.transitions_to = last.clone();
    }
    workflow
}

impl fmt::Display for Break {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Break {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|broken| broken.name() == text);
        let names = || Self::ALL.map(Self::name).join(", ");
        found.ok_or_else(|| format!("there is no break `{text}`; there are {}", names()))
    }
}
