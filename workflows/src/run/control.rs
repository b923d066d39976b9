//! Orders: cancel, pause, resume, retry, rerun. Each is taken once, by a run in a state in which it makes sense.

use super::apply::{Applied, Turn};
use super::delta::ForgottenEntry;
use super::effect::{Effect, Question};
use super::entry::{Entry, HandlerEntry, Stage};
use super::event::Ignored;
use super::failure::{MAX_HEAD_MESSAGE_BYTES, beginning};
use super::jobs::{Exception, ExceptionState, JobSet};
use super::state::{Canceling, HistoryKind, RunState};
use super::{MAX_ENTRIES, ORDERS_KEPT};
use crate::message::event::{CANCEL_DEADLINE, Control, ControlAction, MAX_CANCEL_DEADLINE};
use crate::time::{Millis, Timestamp};

/// The longest name of an order that is remembered, in bytes.
const MAX_ORDER_ID_BYTES: usize = 64;

impl Turn<'_> {
    /// Carries out an order, unless it was carried out before.
    pub(super) fn control(&mut self, control: &Control) -> Applied {
        let id = control.id.as_deref().map(|id| beginning(id, MAX_ORDER_ID_BYTES));
        if id.is_some_and(|id| self.run.head.orders.iter().any(|known| **known == *id)) {
            return Err(Ignored::AlreadySo);
        }
        self.carry_out(control)?;
        if let Some(id) = id {
            let orders = &mut self.run.head.orders;
            orders.push(id.into());
            orders.drain(..orders.len().saturating_sub(ORDERS_KEPT));
        }
        Ok(())
    }

    fn carry_out(&mut self, control: &Control) -> Applied {
        let reason = control.reason.as_deref().map(|reason| beginning(reason, MAX_HEAD_MESSAGE_BYTES).to_owned());
        match control.action {
            ControlAction::Cancel if control.force => {
                self.end_by_force(reason);
                Ok(())
            }
            ControlAction::Cancel => {
                let allowed = control.deadline.unwrap_or(CANCEL_DEADLINE);
                self.cancel(allowed.min(MAX_CANCEL_DEADLINE), reason)
            }
            ControlAction::Pause => self.pause(reason),
            ControlAction::Resume => self.resume(reason),
            ControlAction::Retry => self.retry(reason),
            ControlAction::Rerun => self.rerun(control, reason),
        }
    }

    /// Nothing more goes out, and jobs that run are told to stop. Once they have, or have had their time, that is the
    /// end of the run.
    fn cancel(&mut self, allowed: Millis, reason: Option<String>) -> Applied {
        let deadline = self.moment.now.plus(allowed);
        match &mut self.run.head.canceling {
            Some(earlier) if earlier.deadline <= deadline => return Err(Ignored::AlreadySo),
            Some(earlier) => {
                earlier.deadline = deadline;
                earlier.reason = reason.or(earlier.reason.take());
            }
            None => {
                self.effects.push(Effect::CancelJobs { entry: self.run.head.entry.number });
                self.run.head.canceling = Some(Canceling { deadline, reason: reason.clone() });
                if self.is_anything_out() && allowed > Millis(0) {
                    self.run.head.state = RunState::Canceling;
                    self.run.head.awaits_worker = false;
                    self.record(HistoryKind::Canceling { deadline, reason });
                }
            }
        }
        self.set_cancel_timer(deadline);
        if !self.is_anything_out() || allowed == Millis(0) {
            self.end_canceled();
        }
        Ok(())
    }

    /// Where its jobs stand may be damaged: nothing of it is believed or counted.
    fn end_by_force(&mut self, reason: Option<String>) {
        let earlier = self.run.head.canceling.take().and_then(|canceling| canceling.reason);
        self.effects.push(Effect::CancelJobs { entry: self.run.head.entry.number });
        let deadline = self.moment.now;
        self.run.head.canceling = Some(Canceling { deadline, reason: reason.or(earlier) });
        self.end_canceled();
    }

    /// For the deadline, or the end of the next lease if that comes first: whoever has that job is told to stop, gets no
    /// other lease, and would have reported by then.
    fn set_cancel_timer(&mut self, deadline: Timestamp) {
        let lapses = self.run.jobs.iter().filter_map(JobSet::next_lapse);
        let lapse = lapses.min().map(|at| self.moment.not_before_heard(at));
        self.run.head.wake_at = Some(lapse.map_or(deadline, |lapse| lapse.min(deadline)));
    }

    /// The timer of a run that is being canceled went off.
    pub(super) fn wake_canceling(&mut self) {
        let deadline = self.run.head.canceling.as_ref().map(|canceling| canceling.deadline);
        let Some(deadline) = deadline.filter(|&deadline| deadline > self.moment.now) else {
            return self.end_canceled();
        };
        self.end_lapsed_leases();
        self.set_cancel_timer(deadline);
        self.end_if_stopped();
    }

    fn is_anything_out(&self) -> bool {
        let entry = &self.run.head.entry;
        !matches!(entry.stage, Stage::Finished { .. }) && entry.handlers.iter().any(|handler| handler.out > 0)
    }

    /// A run that is being canceled ends once nothing of it runs any more.
    pub(super) fn end_if_stopped(&mut self) {
        if !self.is_anything_out() {
            self.end_canceled();
        }
    }

    pub(super) fn end_canceled(&mut self) {
        self.abandon();
        let reason = self.run.head.canceling.take().and_then(|canceling| canceling.reason);
        self.end(RunState::Canceled, reason);
    }

    /// An entry that has not finished is left as it is: one record says what it had come to.
    fn abandon(&mut self) {
        if !matches!(self.run.head.entry.stage, Stage::Finished { .. }) {
            let (entry, handlers) = (self.run.head.entry.number, self.tallies());
            self.record(HistoryKind::Abandoned { entry, handlers });
        }
    }

    fn pause(&mut self, reason: Option<String>) -> Applied {
        match self.run.head.state {
            RunState::Running => {}
            RunState::Paused => return Err(Ignored::AlreadySo),
            _ => return Err(Ignored::NotNow),
        }
        self.run.head.state = RunState::Paused;
        self.run.head.wake_at = None;
        self.run.head.awaits_worker = false;
        self.record(HistoryKind::Paused { reason });
        Ok(())
    }

    /// The run goes on as if it had been slow: silence during the pause says nothing.
    fn resume(&mut self, reason: Option<String>) -> Applied {
        match self.run.head.state {
            RunState::Paused => {}
            RunState::Running => return Err(Ignored::AlreadySo),
            _ => return Err(Ignored::NotNow),
        }
        self.run.head.state = RunState::Running;
        self.record(HistoryKind::Resumed { reason });
        match self.run.head.entry.stage {
            Stage::Finished { status, at } => self.announce_again(status, at),
            Stage::Working | Stage::Halted => self.go_on(),
        }
        Ok(())
    }

    /// A working entry takes up its work again.
    fn go_on(&mut self) {
        let now = self.moment.now;
        for handler in &mut self.run.head.entry.handlers {
            handler.heard_at = (handler.out > 0).then_some(now);
            handler.asked_at = handler.heard_at;
            handler.probe = None;
            handler.unmanned_since = handler.unmanned_since.map(|_| now);
        }
        self.settle();
        if self.run.head.entry.stage == Stage::Working {
            let missing = self.unmanned();
            self.ask_for_versions(missing);
        }
    }

    /// What made the run halt is tried again: jobs that failed for good with all their tries, lists that could not be
    /// made.
    fn retry(&mut self, reason: Option<String>) -> Applied {
        if (self.run.head.state, self.run.head.entry.stage) != (RunState::Halted, Stage::Halted) {
            return Err(Ignored::NotNow);
        }
        if self.is_halted_by_unrecorded() {
            return Err(Ignored::NotRecorded);
        }
        let Entry { number: entry, nonce, .. } = self.run.head.entry;
        let mut jobs = 0;
        for place in 0..self.run.head.entry.handlers.len() {
            let again = self.let_failed_wait(place);
            let handler = &mut self.run.head.entry.handlers[place];
            jobs += if handler.is_listing() { 0 } else { again };
            (handler.first_failure, handler.first_failed) = (None, None);
            if handler.wants_list() {
                self.questions.push(Question::List { entry, nonce, handler: place as u16 });
            }
        }
        let head = &mut self.run.head;
        head.state = RunState::Running;
        head.entry.stage = Stage::Working;
        head.cause = None;
        self.record(HistoryKind::Retried { entry, jobs, reason });
        self.go_on();
        Ok(())
    }

    /// Whether more jobs failed than are tolerated of which it is not known which they are. The version before this one
    /// did not write that down.
    fn is_halted_by_unrecorded(&self) -> bool {
        let specs = self.phase().map_or(&[][..], |phase| &phase.handlers);
        let mut places = self.run.head.entry.handlers.iter().zip(&self.run.jobs).zip(specs);
        places.any(|((handler, jobs), spec)| {
            let known = jobs.exceptions().filter(|(_, it)| it.state == ExceptionState::Failed).count() as u64;
            let allowed = handler.total.map_or(0, |total| spec.tolerate_failures.allowed(total));
            handler.failed.saturating_sub(known) > allowed
        })
    }

    /// The jobs of a handler that failed for good wait for a first try; how many those are.
    fn let_failed_wait(&mut self, place: usize) -> u64 {
        let all = self.run.jobs[place].exceptions();
        let failed: Vec<_> =
            all.filter(|(_, it)| it.state == ExceptionState::Failed).map(|(index, it)| (index, it.clone())).collect();
        let count = failed.len() as u64;
        for (index, record) in failed {
            self.run.jobs[place].terminal.remove(index);
            let state = ExceptionState::Waiting(self.moment.now);
            let record = Exception { failed_tries: 0, redelivered: 0, sent_at: None, state, ..record };
            self.set_exception(place, index, record);
        }
        let handler: &mut HandlerEntry = &mut self.run.head.entry.handlers[place];
        handler.failed -= count;
        handler.waiting += count;
        count
    }

    /// The current entry is left as it is, and a phase entered anew, the same one unless another is named.
    fn rerun(&mut self, control: &Control, reason: Option<String>) -> Applied {
        match self.run.head.state {
            RunState::Running | RunState::Halted => {}
            _ => return Err(Ignored::NotNow),
        }
        let Entry { number, nonce, .. } = self.run.head.entry;
        let phase = control.phase.as_ref().unwrap_or(&self.run.head.entry.phase);
        let Some(target) = self.workflow.phase(phase) else { return Err(Ignored::UnknownPhase) };
        if number >= MAX_ENTRIES {
            return Err(Ignored::NotNow);
        }
        if self.is_anything_out() {
            self.effects.push(Effect::CancelJobs { entry: number });
        }
        self.abandon();
        self.record(HistoryKind::Rerun { phase: target.name.clone(), reason });
        self.forget_jobs();
        if !self.run.head.outputs.iter().any(|kept| kept.entry == number) {
            let handlers = self.run.head.entry.handlers.len() as u16;
            self.run.delta.outputs.retain(|page| page.entry != number);
            self.run.delta.forget_outputs.push(ForgottenEntry { entry: number, nonce, handlers });
        }
        let head = &mut self.run.head;
        (head.state, head.on_error_path, head.cause) = (RunState::Running, false, None);
        self.enter(target, false);
        Ok(())
    }
}
