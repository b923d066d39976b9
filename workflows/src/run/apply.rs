//! The one function that decides what happens next in a run. Total: every event in every state has an answer, and
//! where nothing changes the answer says why. It changes the run in place and notes what changed in its delta, so
//! that a batch of events costs one commit and a bitmap of a million jobs is never copied.

use super::effect::{Effect, Question, Step};
use super::entry::{Entry, Stage};
use super::event::{Event, Ignored, Moment};
use super::failure::{MAX_HEAD_MESSAGE_BYTES, beginning, shortened};
use super::jobs::JobSet;
use super::state::{Head, HistoryEvent, HistoryKind, Run, RunState};
use super::{ANNOUNCE_AGAIN, LOOK_FOR_WORKERS, STATE_FORMAT};
use crate::definition::{Phase, Workflow};
use crate::id::{EntryNo, Nonce};
use crate::message::event::{Control, ControlAction, StartRun};
use crate::message::notice::{Lifecycle, LifecycleEvent};
use crate::message::outcome::JobError;
use crate::payload::Payload;

/// Makes a run of `workflow` and lets it enter its initial phase.
pub fn start(workflow: &Workflow, order: &StartRun, moment: Moment) -> (Run, Step) {
    let initial = workflow.initial();
    let head = Head {
        format: STATE_FORMAT,
        id: order.run,
        workflow: workflow.name.clone(),
        revision: workflow.revision.clone(),
        key: order.key.clone(),
        state: RunState::Running,
        created_at: moment.now,
        ended_at: None,
        entry: Entry {
            number: 0,
            nonce: Nonce::default(),
            phase: initial.name.clone(),
            entered_at: moment.now,
            stage: Stage::Working,
            handlers: Vec::new(),
        },
        on_error_path: false,
        cause: None,
        outputs: Vec::new(),
        has_output: false,
        events: 0,
        wake_at: None,
        awaits_worker: false,
    };
    let mut run = Run::from_parts(head, Vec::<JobSet>::new());
    let mut turn = Turn::new(workflow, &mut run, moment);
    turn.record(HistoryKind::Started { revision: workflow.revision.clone() });
    turn.tell(LifecycleEvent::RunStarted);
    turn.enter(initial, false);
    let step = turn.changed();
    (run, step)
}

/// Applies `event` to `run`. What is known already, comes too late, or speaks of something else changes nothing.
pub fn apply(workflow: &Workflow, run: &mut Run, event: &Event, moment: Moment) -> Step {
    if run.head.state.is_ended() {
        return Step::Ignored(Ignored::RunEnded);
    }
    if let Some((entry, nonce)) = event.names_entry()
        && (entry, nonce) != (run.head.entry.number, run.head.entry.nonce)
    {
        return Step::Ignored(Ignored::OtherEntry);
    }
    let mut turn = Turn::new(workflow, run, moment);
    let applied = match event {
        Event::JobsFinished { handler, done, outcomes, .. } => turn.jobs_finished(handler, done, outcomes),
        Event::PhaseFinished { .. } => turn.move_on(),
        Event::Resolved { handlers, .. } => turn.resolved(handlers),
        Event::Enumerated { handler, listing, .. } => turn.enumerated(*handler, listing),
        Event::Concluded { output, .. } => turn.concluded(output),
        Event::Wake => turn.wake(),
        Event::Recover => turn.recover(),
        Event::Control(control) => turn.control(control),
    };
    match applied {
        Ok(()) => turn.changed(),
        Err(ignored) => Step::Ignored(ignored),
    }
}

impl Event {
    /// The entry that this event speaks of, unless it is meant for whatever entry the run is in.
    const fn names_entry(&self) -> Option<(EntryNo, Nonce)> {
        match self {
            Self::JobsFinished { entry, nonce, .. }
            | Self::PhaseFinished { entry, nonce }
            | Self::Resolved { entry, nonce, .. }
            | Self::Enumerated { entry, nonce, .. }
            | Self::Concluded { entry, nonce, .. } => Some((*entry, *nonce)),
            Self::Wake | Self::Recover | Self::Control(_) => None,
        }
    }
}

/// One application of an event: the run as it changes, and what that asks for.
pub(super) struct Turn<'a> {
    pub(super) workflow: &'a Workflow,
    pub(super) run: &'a mut Run,
    pub(super) moment: Moment,
    pub(super) effects: Vec<Effect>,
    pub(super) questions: Vec<Question>,
}

/// Whether an event changed anything.
pub(super) type Applied = Result<(), Ignored>;

impl<'a> Turn<'a> {
    fn new(workflow: &'a Workflow, run: &'a mut Run, moment: Moment) -> Self {
        Self { workflow, run, moment, effects: Vec::new(), questions: Vec::new() }
    }

    fn changed(self) -> Step {
        Step::Changed { effects: self.effects, questions: self.questions }
    }

    /// The phase the run is in. `None` when the run's state names one that its pinned definition does not have, which
    /// only damage can bring about.
    pub(super) fn phase(&self) -> Option<&'a Phase> {
        self.workflow.phase(&self.run.head.entry.phase)
    }

    pub(super) fn record(&mut self, what: HistoryKind) {
        let head = &mut self.run.head;
        head.events += 1;
        self.run.delta.history.push(HistoryEvent { n: head.events, at: self.moment.now, what });
    }

    pub(super) fn tell(&mut self, event: LifecycleEvent) {
        let head = &self.run.head;
        self.effects.push(Effect::Tell(Lifecycle {
            event,
            run: head.id,
            workflow: head.workflow.clone(),
            phase: head.entry.phase.clone(),
            entry: head.entry.number,
            state: head.state.as_str().into(),
            at: self.moment.now,
        }));
    }

    /// The run's timer went off, or a worker came: do what is due, and set the timer anew.
    fn wake(&mut self) -> Applied {
        let now = self.moment.now;
        let entry = &self.run.head.entry;
        let is_due = self.run.head.wake_at.is_some_and(|at| at <= now);
        match entry.stage {
            Stage::Working => {
                let missing = self.handlers_without_version();
                if !is_due && missing.is_empty() {
                    return Err(Ignored::NothingDue);
                }
                if is_due {
                    self.run.head.wake_at = None;
                }
                self.dispatch();
                self.ask_for_versions(missing);
                Ok(())
            }
            Stage::Finished { status, at } if is_due => {
                let announcement = self.announcement(status, at);
                self.effects.push(Effect::Announce(announcement));
                self.run.head.wake_at = Some(now.plus(ANNOUNCE_AGAIN));
                Ok(())
            }
            Stage::Finished { .. } | Stage::Halted => Err(Ignored::NothingDue),
        }
    }

    /// Sets the timer for whatever comes first in a working entry.
    pub(super) fn set_timer(&mut self) {
        let retry = self.next_retry();
        let look = self.run.head.awaits_worker.then(|| self.moment.now.plus(LOOK_FOR_WORKERS));
        // A look that is planned stays where it is, due or not: whatever else happens does not put it off for ever.
        let look = look.map(|at| self.run.head.wake_at.map_or(at, |planned| planned.min(at)));
        self.run.head.wake_at = [retry, look].into_iter().flatten().min();
    }

    fn control(&mut self, control: &Control) -> Applied {
        match control.action {
            ControlAction::Cancel => {
                self.effects.push(Effect::CancelJobs { entry: self.run.head.entry.number });
                let reason =
                    control.reason.as_deref().map(|reason| beginning(reason, MAX_HEAD_MESSAGE_BYTES).to_owned());
                self.end(RunState::Canceled, reason);
                Ok(())
            }
            ControlAction::Pause | ControlAction::Resume | ControlAction::Retry | ControlAction::Rerun => {
                Err(Ignored::TooLate)
            }
        }
    }

    /// The run's result is known: that is its end.
    fn concluded(&mut self, output: &Result<Payload, JobError>) -> Applied {
        let is_asked =
            matches!(self.run.head.entry.stage, Stage::Finished { .. }) && self.run.head.state == RunState::Running;
        if !is_asked || !self.phase().is_some_and(|phase| phase.is_final) {
            return Err(Ignored::TooLate);
        }
        match output {
            Ok(output) => {
                self.run.head.has_output = !output.is_null();
                self.run.delta.output = self.run.head.has_output.then(|| output.clone());
                self.end(self.final_state(), None);
            }
            Err(error) => {
                let error = shortened(error, MAX_HEAD_MESSAGE_BYTES);
                self.blame(None, None, error.clone());
                self.end(RunState::Failed, Some(error.message));
            }
        }
        Ok(())
    }
}
