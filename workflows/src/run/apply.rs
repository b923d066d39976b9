//! The one function that decides what happens next in a run. Total: every event in every state has an answer, and
//! where nothing changes the answer says why. It changes the run in place and notes what changed in its delta, so
//! that a batch of events costs one commit and a bitmap of a million jobs is never copied.

use std::sync::Arc;

use super::dispatch::room;
use super::effect::{Effect, Question, Step};
use super::entry::{Entry, Stage};
use super::enumeration::Page;
use super::event::{Event, Ignored, Moment};
use super::failure::{MAX_ACTOR_BYTES, MAX_HEAD_MESSAGE_BYTES, beginning, shortened};
use super::jobs::JobSet;
use super::recovery::next_question;
use super::state::{Head, HistoryEvent, HistoryKind, Run, RunState};
use super::{ANNOUNCE_AGAIN, LOOK_FOR_WORKERS, STATE_FORMAT};
use crate::definition::{Phase, Workflow};
use crate::id::{EntryNo, Nonce};
use crate::message::event::{PhaseStatus, StartRun};
use crate::message::notice::{Lifecycle, LifecycleEvent};
use crate::message::outcome::JobError;
use crate::payload::Payload;
use crate::time::Timestamp;

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
        canceling: None,
        orders: Vec::new(),
        outputs: Vec::new(),
        has_output: false,
        events: 0,
        wake_at: None,
        awaits_worker: false,
        traceparent: order.traceparent.clone(),
    };
    let mut run = Run::from_parts(head, Vec::<JobSet>::new());
    let mut turn = Turn::new(workflow, &mut run, moment, order.actor.as_deref());
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
    let Entry { number: current, nonce: of_entry, .. } = run.head.entry;
    if let Some((entry, nonce)) = event.names_entry()
        && (entry, nonce) != (current, of_entry)
        && !(event.may_speak_of_lists() && (entry, nonce) == (current, of_entry.of_lists()))
    {
        return Step::Ignored(Ignored::OtherEntry);
    }
    let mut turn = Turn::new(workflow, run, moment, event.actor());
    let applied = match event {
        Event::JobsFinished { nonce, handler, done, outcomes, .. } => {
            turn.jobs_finished(handler, *nonce, done, outcomes)
        }
        Event::JobsListed { nonce, handler, attempt, list, first, items, .. } => turn.jobs_listed(
            handler,
            *nonce,
            Page { attempt: *attempt, list: *list, first: *first, items: items.as_deref() },
        ),
        Event::Leases { nonce, handler, leases, .. } => turn.leases(handler, *nonce, leases),
        Event::ProbeReturned { handler, sent_at, .. } => turn.probe_returned(handler, *sent_at),
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
            | Self::JobsListed { entry, nonce, .. }
            | Self::Leases { entry, nonce, .. }
            | Self::ProbeReturned { entry, nonce, .. }
            | Self::PhaseFinished { entry, nonce }
            | Self::Resolved { entry, nonce, .. }
            | Self::Enumerated { entry, nonce, .. }
            | Self::Concluded { entry, nonce, .. } => Some((*entry, *nonce)),
            Self::Wake | Self::Recover | Self::Control(_) => None,
        }
    }

    /// Who brought it about, when that was not the engine itself.
    fn actor(&self) -> Option<&str> {
        match self {
            Self::Control(control) => control.actor.as_deref(),
            Self::JobsFinished { .. }
            | Self::JobsListed { .. }
            | Self::Leases { .. }
            | Self::ProbeReturned { .. }
            | Self::PhaseFinished { .. }
            | Self::Resolved { .. }
            | Self::Enumerated { .. }
            | Self::Concluded { .. }
            | Self::Wake
            | Self::Recover => None,
        }
    }

    /// Whether it may name the nonce of an entry's lists in place of the entry's own.
    const fn may_speak_of_lists(&self) -> bool {
        match self {
            Self::JobsFinished { .. } | Self::JobsListed { .. } | Self::Leases { .. } => true,
            Self::ProbeReturned { .. }
            | Self::PhaseFinished { .. }
            | Self::Resolved { .. }
            | Self::Enumerated { .. }
            | Self::Concluded { .. } => false,
            Self::Wake | Self::Recover | Self::Control(_) => false,
        }
    }
}

/// One application of an event: the run as it changes, and what that asks for.
pub(super) struct Turn<'a> {
    pub(super) workflow: &'a Workflow,
    pub(super) run: &'a mut Run,
    pub(super) moment: Moment,
    /// Who brings it about, if not the engine itself.
    actor: Option<Arc<str>>,
    pub(super) effects: Vec<Effect>,
    pub(super) questions: Vec<Question>,
}

/// Whether an event changed anything.
pub(super) type Applied = Result<(), Ignored>;

impl<'a> Turn<'a> {
    fn new(workflow: &'a Workflow, run: &'a mut Run, moment: Moment, actor: Option<&str>) -> Self {
        let actor = actor.map(|actor| beginning(actor, MAX_ACTOR_BYTES).into());
        Self { workflow, run, moment, actor, effects: Vec::new(), questions: Vec::new() }
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
        let actor = self.actor.clone();
        self.run.delta.history.push(HistoryEvent { n: head.events, at: self.moment.now, what, actor });
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
        let is_due = self.run.head.wake_at.is_some_and(|at| at <= now);
        match (self.run.head.state, self.run.head.entry.stage) {
            (RunState::Running, Stage::Working) => self.wake_working(is_due),
            (RunState::Running, Stage::Finished { status, at }) if is_due => {
                self.announce_again(status, at);
                Ok(())
            }
            (RunState::Canceling, _) if is_due => {
                self.wake_canceling();
                Ok(())
            }
            (RunState::Running, Stage::Finished { .. } | Stage::Halted)
            | (RunState::Canceling | RunState::Paused | RunState::Halted, _)
            | (RunState::Succeeded | RunState::Failed | RunState::Canceled, _) => Err(Ignored::NothingDue),
        }
    }

    fn wake_working(&mut self, is_due: bool) -> Applied {
        let mut missing = self.unmanned();
        if !is_due && missing.is_empty() {
            return Err(Ignored::NothingDue);
        }
        if is_due {
            self.run.head.wake_at = None;
            self.end_lapsed_leases();
            missing.extend(self.ask_after_quiet_jobs());
            missing.sort_unstable();
            missing.dedup();
        }
        self.settle();
        if self.run.head.entry.stage == Stage::Working {
            self.ask_for_versions(missing);
        }
        Ok(())
    }

    /// The end of the current phase was announced and not heard of: once more.
    pub(super) fn announce_again(&mut self, status: PhaseStatus, at: Timestamp) {
        let announcement = self.announcement(status, at);
        self.effects.push(Effect::Announce(announcement));
        self.run.head.wake_at = Some(self.moment.now.plus(ANNOUNCE_AGAIN));
    }

    /// Sets the timer for whatever comes first in a working entry.
    pub(super) fn set_timer(&mut self) {
        let (now, head) = (self.moment.now, &self.run.head);
        let handlers = head.entry.handlers.iter().zip(&self.run.jobs);
        let phase = self.phase();
        let each = handlers.enumerate().flat_map(|(place, (handler, jobs))| {
            let spec = phase.and_then(|phase| phase.handlers.get(place));
            let patience = handler.unmanned_since.zip(spec.and_then(|spec| spec.start_timeout));
            // Once that is over, the answer to who is there decides, and it is asked for again with every look.
            let patience = patience.map(|(since, most)| self.moment.not_before_heard(since.plus(most)));
            let patience = patience.filter(|&at| at > now);
            let retry = (room(handler) > 0).then(|| jobs.next_due()).flatten();
            let lapse = jobs.next_lapse().map(|at| self.moment.not_before_heard(at));
            [retry, lapse, next_question(handler, self.moment), patience]
        });
        let look = head.awaits_worker.then(|| now.plus(LOOK_FOR_WORKERS));
        let next = each.chain([look]).flatten().min();
        // While something is out, what is planned earlier stays, due or not: looking too early costs less than writing
        // down a new time with every outcome, and nothing is put off for ever by what happens meanwhile.
        let is_busy = head.awaits_worker || head.entry.handlers.iter().any(|handler| handler.unleased() > 0);
        let planned = head.wake_at.filter(|_| is_busy);
        self.run.head.wake_at = next.map(|next| planned.map_or(next, |planned| planned.min(next)));
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
