//! What goes out again because it was lost on the way.

use super::ANNOUNCE_AGAIN;
use super::apply::{Applied, Turn};
use super::effect::Effect;
use super::entry::Stage;
use super::event::Ignored;
use super::jobs::{Exception, ExceptionState};

impl Turn<'_> {
    /// What was under way may be lost: all of it goes out again, with new attempts.
    pub(super) fn recover(&mut self) -> Applied {
        match self.run.head.entry.stage {
            Stage::Working => {
                for place in 0..self.run.head.entry.handlers.len() {
                    self.take_back(place);
                }
                self.dispatch();
                Ok(())
            }
            Stage::Finished { status, at } => {
                let announcement = self.announcement(status, at);
                self.effects.push(Effect::Announce(announcement));
                self.run.head.wake_at = Some(self.moment.now.plus(ANNOUNCE_AGAIN));
                Ok(())
            }
            Stage::Halted => Err(Ignored::NothingDue),
        }
    }

    /// Every job of a handler that is out waits for its next attempt.
    fn take_back(&mut self, place: usize) {
        let end = self.run.head.entry.handlers[place].cursor;
        let mut from = 0;
        while let Some(index) = self.run.jobs[place].terminal.first_absent(from, end) {
            let fresh = Exception { attempt: 1, failed_tries: 0, redelivered: 0, state: ExceptionState::Out };
            let record = self.run.jobs[place].exception(index).copied().unwrap_or(fresh);
            if record.state == ExceptionState::Out {
                let state = ExceptionState::Waiting(self.moment.now);
                let handler = &mut self.run.head.entry.handlers[place];
                handler.out -= 1;
                handler.waiting += 1;
                self.set_exception(place, index, Exception { state, ..record });
            }
            from = index + 1;
        }
    }
}
