//! Leases on long jobs: taken and renewed by workers, ended by time.

use super::apply::{Applied, Turn};
use super::entry::Stage;
use super::event::Ignored;
use super::jobs::{Exception, ExceptionState, Lease};
use super::state::RunState;
use crate::id::{HandlerName, Nonce};
use crate::message::lease::{LEASE, LeaseWanted};
use crate::message::outcome::JobError;
use crate::time::Millis;

impl Turn<'_> {
    /// Gives or renews leases, each to the attempt that is the job's last and is out. Nobody gets one who is to stop.
    pub(super) fn leases(&mut self, name: &HandlerName, nonce: Nonce, wanted: &[LeaseWanted]) -> Applied {
        if matches!(self.run.head.entry.stage, Stage::Finished { .. }) || self.run.head.state == RunState::Canceling {
            return Err(Ignored::TooLate);
        }
        let place = self.run.head.entry.handlers.iter().position(|handler| handler.name == *name);
        let spec = self.phase().and_then(|phase| phase.handler(name));
        let (Some(place), Some((_, spec))) = (place, spec) else { return Err(Ignored::UnknownHandler) };
        self.must_speak_of(place, nonce)?;
        let timeout = spec.timeout;
        let mut given = 0;
        for wanted in wanted {
            if self.is_current(place, wanted.index, wanted.attempt) {
                given += u64::from(self.lease(place, wanted, timeout));
            }
        }
        if given == 0 {
            return Err(Ignored::Stale);
        }
        if (self.run.head.state, self.run.head.entry.stage) == (RunState::Running, Stage::Working) {
            self.set_timer();
        }
        Ok(())
    }

    /// Whether the job is leased now: not when it has taken as long as it may.
    fn lease(&mut self, place: usize, wanted: &LeaseWanted, timeout: Millis) -> bool {
        let now = self.moment.now;
        let fresh = Exception::first(ExceptionState::Out);
        let mut record = self.run.jobs[place].exception(wanted.index).cloned().unwrap_or(fresh);
        // The first lease comes some time after the job has begun, so the worker's own deadline comes before this one.
        let (deadline, said) = match record.state {
            ExceptionState::Leased(lease) => (lease.deadline, lease.progress),
            ExceptionState::Out | ExceptionState::Waiting(_) | ExceptionState::Failed => (now.plus(timeout), None),
        };
        if deadline <= now {
            return false;
        }
        if record.state == ExceptionState::Out {
            self.run.head.entry.handlers[place].leased += 1;
        }
        record.note(wanted.details.as_ref());
        let progress = wanted.progress.map(|percent| percent.min(100)).or(said);
        let state = ExceptionState::Leased(Lease { until: now.plus(LEASE), deadline, progress });
        self.set_exception(place, wanted.index, Exception { state, ..record });
        true
    }

    /// Jobs whose lease has run out go out again, as after the loss of a worker; those whose time is over have failed.
    pub(super) fn end_lapsed_leases(&mut self) {
        let Some(phase) = self.phase() else { return };
        for (place, spec) in phase.handlers.iter().enumerate().take(self.run.jobs.len()) {
            while let Some((at, index, record)) = self.run.jobs[place].first_lapse() {
                if self.moment.not_before_heard(at) > self.moment.now {
                    break;
                }
                let is_over = matches!(record.state, ExceptionState::Leased(it) if it.deadline <= self.moment.now);
                if is_over {
                    let words = format!("it took longer than {}", spec.timeout);
                    self.try_failed(place, index, record, &JobError::new("timeout", words), spec.retry);
                } else {
                    self.worker_lost(place, index, record, spec.retry);
                }
            }
        }
    }
}
