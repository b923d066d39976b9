//! What workers report about jobs. A job's end is recorded once, whatever arrives how often and in what order.

use super::apply::{Applied, Turn};
use super::delta::{ExceptionChange, FailureRecord, OutputPage};
use super::entry::Stage;
use super::event::Ignored;
use super::jobs::{Exception, ExceptionState};
use super::state::RunState;
use super::{MAX_FAILURES_KEPT, failure, retry};
use crate::definition::{Backoff, RetryPolicy};
use crate::id::{HandlerName, JobIndex, Nonce};
use crate::message::listing::OTHER_LIST;
use crate::message::outcome::{JobError, Outcome, Status};
use crate::payload::Payload;
use crate::time::Millis;

/// How long a job waits that was handed back by a worker that cannot do it at all.
const UNFIT_WORKER_DELAY: Millis = Millis::from_secs(1);

/// By how much more a job waits each time it is handed back untried. It goes out again at once the first time; one
/// that is handed back over and over does not keep workers and queues busy with nothing else.
const HANDED_BACK_STEP: Millis = Millis(10);

impl Turn<'_> {
    /// Applies the outcomes one by one; those of unknown, ended or superseded attempts change nothing.
    pub(super) fn jobs_finished(
        &mut self,
        name: &HandlerName,
        nonce: Nonce,
        done: &[(JobIndex, u64)],
        outcomes: &[Outcome],
    ) -> Applied {
        // A halted entry still counts what was out: it may go on from there.
        if matches!(self.run.head.entry.stage, Stage::Finished { .. }) {
            return Err(Ignored::TooLate);
        }
        let mut handlers = self.run.head.entry.handlers.iter();
        let place = handlers.position(|handler| handler.name == *name);
        let spec = self.phase().and_then(|phase| phase.handler(name));
        let (Some(place), Some((_, spec))) = (place, spec) else { return Err(Ignored::UnknownHandler) };
        self.must_speak_of(place, nonce)?;
        let (retry, out) = (spec.retry, self.run.head.entry.handlers[place].out);
        let mut accepted = match self.is_listing(place) {
            true => u64::from(self.done_in_place_of_list(place, done, retry)),
            false => self.ranges_done(place, done),
        };
        let mut outputs = Vec::new();
        for outcome in outcomes {
            let is_current = self.is_current(place, outcome.index, outcome.attempt);
            if !is_current || self.is_with_its_worker(place, outcome) || self.is_of_other_list(place, outcome) {
                continue;
            }
            accepted += 1;
            match outcome.status {
                Status::Done if self.is_listing(place) => {
                    if !self.listed(place, outcome, retry) {
                        accepted -= 1;
                    }
                }
                Status::Done => {
                    self.done(place, outcome.index);
                    outputs.extend(output_of(outcome));
                }
                Status::Failed => self.failed(place, outcome, retry),
                Status::Returned => self.returned(place, outcome, retry),
            }
        }
        if accepted == 0 {
            return Err(Ignored::Stale);
        }
        if !outputs.is_empty() {
            self.run.head.entry.handlers[place].outputs += outputs.len() as u64;
            let entry = self.run.head.entry.number;
            self.run.delta.outputs.push(OutputPage { entry, handler: place as u16, items: outputs });
        }
        let handler = &mut self.run.head.entry.handlers[place];
        if handler.out < out {
            (handler.heard_at, handler.unmanned_since) = (Some(self.moment.now), None);
        }
        match self.run.head.state {
            RunState::Canceling => self.end_if_stopped(),
            _ => self.settle(),
        }
        Ok(())
    }

    /// The fence: whether this attempt is the job's last, is out, and has not been reported on.
    pub(super) fn is_current(&self, place: usize, index: JobIndex, attempt: u32) -> bool {
        let (handler, jobs) = (&self.run.head.entry.handlers[place], &self.run.jobs[place]);
        if handler.out == 0 || index >= handler.cursor || jobs.terminal.contains(index) {
            return false;
        }
        match jobs.exception(index) {
            None => attempt == 1,
            Some(exception) => attempt == exception.attempt && exception.state.is_out(),
        }
    }

    /// The message of a leased job came again, because its acknowledgement was lost. Whoever has the lease has the job.
    fn is_with_its_worker(&self, place: usize, outcome: &Outcome) -> bool {
        let state = self.run.jobs[place].exception(outcome.index).map(|exception| exception.state);
        let came_twice = outcome.error.as_ref().is_some_and(|error| &*error.kind == "redelivered");
        outcome.status == Status::Returned && came_twice && matches!(state, Some(ExceptionState::Leased(_)))
    }

    /// Jobs done on their first attempt; how many that are news. However many ranges there are and whatever they
    /// span, each job that has been out is looked at once, and those that have ended by the byte.
    fn ranges_done(&mut self, place: usize, ranges: &[(JobIndex, u64)]) -> u64 {
        let cursor = self.run.head.entry.handlers[place].cursor;
        let mut ranges = ranges.to_vec();
        ranges.sort_unstable();
        let (mut accepted, mut seen) = (0, 0);
        for (first, count) in ranges {
            let end = first.saturating_add(count).min(cursor);
            let mut from = first.max(seen);
            while let Some(index) = self.run.jobs[place].terminal.first_absent(from, end) {
                if self.is_current(place, index, 1) {
                    self.done(place, index);
                    accepted += 1;
                }
                from = index + 1;
            }
            seen = seen.max(end);
        }
        accepted
    }

    /// A job that was out is out no longer.
    pub(super) fn come_back(&mut self, place: usize, index: JobIndex) {
        let state = self.run.jobs[place].exception(index).map(|exception| exception.state);
        let handler = &mut self.run.head.entry.handlers[place];
        handler.out -= 1;
        handler.leased -= u64::from(matches!(state, Some(ExceptionState::Leased(_))));
    }

    fn done(&mut self, place: usize, index: JobIndex) {
        self.come_back(place, index);
        self.run.head.entry.handlers[place].done += 1;
        let jobs = &mut self.run.jobs[place];
        jobs.terminal.insert(index);
        if jobs.remove(index) {
            let entry = self.run.head.entry.number;
            let change = ExceptionChange { entry, handler: place as u16, index, exception: None };
            self.run.delta.exceptions.push(change);
        }
    }

    pub(super) fn failed(&mut self, place: usize, outcome: &Outcome, retry: RetryPolicy) {
        let (before, unsaid) = (self.record_of(place, outcome), JobError::new("error", "the worker did not say why"));
        self.try_failed(place, outcome.index, before, outcome.error.as_ref().unwrap_or(&unsaid), retry);
    }

    /// A try that counts has failed: another follows after the backoff, unless it was the last.
    pub(super) fn try_failed(
        &mut self,
        place: usize,
        index: JobIndex,
        before: Exception,
        error: &JobError,
        retry: RetryPolicy,
    ) {
        let failed_tries = before.failed_tries.saturating_add(1);
        let before = Exception { failed_tries, ..before };
        if !error.retry || failed_tries >= retry.max_attempts {
            return self.fail_for_good(place, index, before, error);
        }
        let wait = error.retry_after.map_or_else(
            || retry::wait(retry, failed_tries, self.moment.random ^ index),
            |asked| asked.min(retry::LONGEST_WAIT),
        );
        if !self.is_listing(place) {
            self.run.head.entry.handlers[place].retried += 1;
        }
        self.wait(place, index, before, wait);
    }

    /// The worker that had a job was lost. Only a job that is lost twice, and so travelled alone the second time, is
    /// held responsible for that.
    pub(super) fn worker_lost(&mut self, place: usize, index: JobIndex, before: Exception, retry: RetryPolicy) {
        let record = Exception { redelivered: before.redelivered.saturating_add(1), ..before };
        if record.redelivered == 1 {
            return self.wait(place, index, record, Millis(0));
        }
        let words = format!("its worker was lost {} times while it was out", record.redelivered);
        self.try_failed(place, index, record, &JobError::new("worker-lost", words), retry);
    }

    /// How long a job waits that went to a worker that cannot do it. Once it has met several such workers the wait
    /// varies: jobs that go round together would meet the same workers each time, in turn, and never another.
    fn wait_for_another_worker(&self, index: JobIndex, before: &Exception) -> Millis {
        let (delay, jitter_percent) = (UNFIT_WORKER_DELAY, if before.attempt > 1 { 50 } else { 0 });
        let policy = RetryPolicy { backoff: Backoff::Fixed, delay, max_delay: delay, jitter_percent, max_attempts: 1 };
        retry::wait(policy, 1, self.moment.random ^ index)
    }

    /// Handed back, not tried, or not known to have been.
    fn returned(&mut self, place: usize, outcome: &Outcome, retry: RetryPolicy) {
        let before = self.record_of(place, outcome);
        let wait = match outcome.error.as_ref().map_or("draining", |error| &*error.kind) {
            "redelivered" => return self.worker_lost(place, outcome.index, before, retry),
            "draining" | "busy" | "canceled" | OTHER_LIST => {
                let times = before.attempt.saturating_sub(before.failed_tries).saturating_sub(1);
                Millis(HANDED_BACK_STEP.0 * u64::from(times)).min(UNFIT_WORKER_DELAY)
            }
            _ => self.wait_for_another_worker(outcome.index, &before),
        };
        self.wait(place, outcome.index, before, wait);
    }

    /// The record of a job that is out, as far as it has one.
    fn record_of(&self, place: usize, outcome: &Outcome) -> Exception {
        let none = Exception::first(ExceptionState::Out);
        let mut record = self.run.jobs[place].exception(outcome.index).cloned().unwrap_or(none);
        record.note(outcome.details.as_ref());
        record
    }

    fn wait(&mut self, place: usize, index: JobIndex, record: Exception, wait: Millis) {
        let state = ExceptionState::Waiting(self.moment.now.plus(wait));
        self.come_back(place, index);
        self.begin_list_anew(place);
        self.run.head.entry.handlers[place].waiting += 1;
        self.set_exception(place, index, Exception { state, ..record });
    }

    pub(super) fn set_exception(&mut self, place: usize, index: JobIndex, exception: Exception) {
        self.run.jobs[place].set(index, exception.clone());
        let entry = self.run.head.entry.number;
        let change = ExceptionChange { entry, handler: place as u16, index, exception: Some(exception) };
        self.run.delta.exceptions.push(change);
    }

    /// Its record stays, so that it can be told from those that are done, and what is sent if it is tried again is a
    /// new attempt.
    fn fail_for_good(&mut self, place: usize, index: JobIndex, record: Exception, error: &JobError) {
        let entry = self.run.head.entry.number;
        self.come_back(place, index);
        self.begin_list_anew(place);
        let handler = &mut self.run.head.entry.handlers[place];
        let is_job = !handler.is_listing();
        handler.failed += 1;
        if handler.first_failure.is_none() {
            let short = failure::shortened(error, failure::MAX_HEAD_MESSAGE_BYTES);
            (handler.first_failure, handler.first_failed) = (Some(short), is_job.then_some(index));
        }
        if handler.failed <= MAX_FAILURES_KEPT && is_job {
            self.run.delta.failures.push(FailureRecord {
                entry,
                handler: place as u16,
                index,
                attempt: record.attempt,
                error: failure::shortened(error, failure::MAX_MESSAGE_BYTES),
                at: self.moment.now,
            });
        }
        self.run.jobs[place].terminal.insert(index);
        self.set_exception(place, index, Exception { state: ExceptionState::Failed, ..record });
    }
}

fn output_of(outcome: &Outcome) -> Option<(JobIndex, Payload)> {
    let output = outcome.output.as_ref().filter(|output| !output.is_null())?;
    Some((outcome.index, output.clone()))
}
