//! Which jobs go out, and when: never more of a handler at once than its window, waiting ones before fresh ones.

use super::apply::Turn;
use super::effect::{Dispatch, Effect, JobTicket};
use super::entry::{HandlerEntry, Stage};
use super::jobs::{Exception, ExceptionState};
use super::state::RunState;

/// Windows from this size on are refilled by the quarter, so that jobs can go out in packs.
const REFILL_BY_QUARTERS_FROM: u64 = 64;

impl Turn<'_> {
    /// Lets out what may go out, and sets the timer for the rest.
    pub(super) fn dispatch(&mut self) {
        if (self.run.head.state, self.run.head.entry.stage) != (RunState::Running, Stage::Working) {
            return;
        }
        for place in 0..self.run.head.entry.handlers.len() {
            if let Some(dispatch) = self.dispatch_handler(place) {
                self.effects.push(Effect::Dispatch(dispatch));
            }
        }
        self.run.head.awaits_worker = !self.unmanned().is_empty();
        self.set_timer();
    }

    fn dispatch_handler(&mut self, place: usize) -> Option<Dispatch> {
        let handler = &self.run.head.entry.handlers[place];
        let version = handler.version.clone()?;
        handler.planned()?;
        let was_idle = handler.unleased() == 0;
        let again = self.let_out_waiting(place);
        let fresh = self.let_out_fresh(place);
        let entry = &mut self.run.head.entry;
        if was_idle {
            // Silence counts from now on, and what was asked before does not concern these.
            let handler = &mut entry.handlers[place];
            (handler.heard_at, handler.asked_at) = (Some(self.moment.now), Some(self.moment.now));
            handler.probe = None;
        }
        let handler = &entry.handlers[place];
        (fresh.is_some() || !again.is_empty()).then(|| Dispatch {
            entry: entry.number,
            nonce: entry.nonce,
            phase: entry.phase.clone(),
            handler: place as u16,
            name: handler.name.clone(),
            version,
            enumerate: handler.is_listing(),
            stored_inputs: handler.stored_inputs,
            fresh,
            again,
        })
    }

    /// Waiting jobs whose time has come, the most overdue first, each with a new attempt.
    fn let_out_waiting(&mut self, place: usize) -> Vec<JobTicket> {
        let mut again = Vec::new();
        while room(&self.run.head.entry.handlers[place]) > 0 {
            let Some((index, before)) = self.run.jobs[place].most_overdue(self.moment.now) else { break };
            let attempt = before.attempt.saturating_add(1);
            self.begin_list_anew(place); // what an earlier program may have left of it
            let handler = &mut self.run.head.entry.handlers[place];
            handler.waiting -= 1;
            handler.out += 1;
            let sent_at = Some(self.moment.now);
            self.set_exception(place, index, Exception { attempt, sent_at, state: ExceptionState::Out, ..before });
            let (tried, alone) = (before.failed_tries.saturating_add(1), before.redelivered > 0);
            again.push(JobTicket { index, attempt, tried, alone });
        }
        again
    }

    /// The next jobs that were never out.
    fn let_out_fresh(&mut self, place: usize) -> Option<(u64, u64)> {
        let handler = &mut self.run.head.entry.handlers[place];
        let (room, left, window) = (room(handler), handler.undispatched(), u64::from(handler.window));
        let too_few = window >= REFILL_BY_QUARTERS_FROM && room < window / 4 && room < left;
        let count = room.min(left);
        if count == 0 || too_few {
            return None;
        }
        let first = handler.cursor;
        handler.cursor += count;
        handler.out += count;
        Some((first, count))
    }
}

/// How many more jobs of a handler may be out.
pub(super) fn room(handler: &HandlerEntry) -> u64 {
    u64::from(handler.window).saturating_sub(handler.out)
}
