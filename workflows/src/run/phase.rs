//! Entering, finishing and leaving phases.

use super::apply::{Applied, Turn};
use super::delta::ForgottenEntry;
use super::effect::{Effect, Question};
use super::entry::{Entry, EntryOutputs, Enumeration, HandlerEntry, HandlerOutputs, Stage};
use super::event::{Ignored, Listing, Resolution};
use super::failure::{MAX_HEAD_MESSAGE_BYTES, shortened};
use super::jobs::{Bitmap, JobSet};
use super::state::{Cause, HandlerTally, HistoryKind, LostWhy, RunState};
use super::{ANNOUNCE_AGAIN, DEFAULT_WINDOW, LARGEST_WINDOW, MAX_ENTRIES, MOVE_AFTER};
use crate::definition::{ForEach, HandlerSpec, Phase};
use crate::id::{HandlerName, JobIndex, Nonce};
use crate::message::event::{PhaseFinished, PhaseStatus};
use crate::message::notice::LifecycleEvent;
use crate::message::outcome::JobError;
use crate::time::{Millis, Timestamp};

impl Turn<'_> {
    /// Begins an entry: its handlers are set up, and asked for are the versions and lists that are not known.
    pub(super) fn enter(&mut self, phase: &Phase, on_error: bool) {
        let number = self.run.head.entry.number + 1;
        let from = (number > 1).then(|| self.run.head.entry.phase.clone());
        let nonce = Nonce::from_random(self.moment.random);
        let entry = Entry {
            number,
            nonce,
            phase: phase.name.clone(),
            entered_at: self.moment.now,
            stage: Stage::Working,
            handlers: phase.handlers.iter().map(HandlerEntry::begin).collect(),
        };
        self.run.head.on_error_path |= on_error;
        self.run.head.entry = entry;
        self.run.head.wake_at = None;
        self.run.head.awaits_worker = false;
        self.run.jobs = vec![JobSet::default(); phase.handlers.len()];
        self.record(HistoryKind::Entered { entry: number, nonce, phase: phase.name.clone(), from, on_error });
        let unlisted = self.run.head.entry.handlers.iter().zip(0..).filter(|(handler, _)| handler.wants_list());
        self.questions.extend(unlisted.map(|(_, handler)| Question::List { entry: number, nonce, handler }));
        for handler in self.run.head.entry.handlers.iter_mut().filter(|handler| handler.total != Some(0)) {
            handler.unmanned_since = Some(self.moment.now);
        }
        let missing = self.unmanned();
        self.ask_for_versions(missing);
        self.settle();
    }

    /// The handlers of a working entry that have work, or may, and no worker to do it, as far as is known.
    pub(super) fn unmanned(&self) -> Vec<u16> {
        let needs = |handler: &HandlerEntry| handler.unmanned_since.is_some() && !handler.is_finished();
        let handlers = self.run.head.entry.handlers.iter().zip(0..);
        handlers.filter(|(handler, _)| needs(handler)).map(|(_, index)| index).collect()
    }

    pub(super) fn ask_for_versions(&mut self, handlers: Vec<u16>) {
        if !handlers.is_empty() {
            let (entry, nonce) = (self.run.head.entry.number, self.run.head.entry.nonce);
            self.questions.push(Question::Versions { entry, nonce, handlers });
        }
    }

    /// Versions were looked up: those found are pinned, for the others the entry waits as before, though not longer
    /// than they may. A version that has had no worker for a while is given up for another one that has.
    pub(super) fn resolved(&mut self, resolutions: &[Resolution]) -> Applied {
        self.must_be_working()?;
        let Some(phase) = self.phase() else { return Err(Ignored::UnknownHandler) };
        let before = self.run.head.entry.handlers.clone();
        for resolution in resolutions {
            let place = usize::from(resolution.handler);
            let (Some(_), Some(spec)) = (self.run.head.entry.handlers.get(place), phase.handlers.get(place)) else {
                continue;
            };
            if self.man(place, spec, resolution) {
                continue;
            }
            if let Some(most) = spec.start_timeout.filter(|&most| self.has_waited(place, most)) {
                let words = format!("no worker for {} {} came within {most}", spec.name, spec.version);
                self.fail(Some(spec.name.clone()), None, JobError::new("start-timeout", words).for_good());
                return Ok(());
            }
        }
        if self.run.head.entry.handlers == before {
            return Err(Ignored::Stale);
        }
        self.settle();
        Ok(())
    }

    /// Whether a handler has been without workers for so long.
    fn has_waited(&self, place: usize, time: Millis) -> bool {
        let since = self.run.head.entry.handlers[place].unmanned_since;
        since.is_some_and(|since| self.moment.not_before_heard(since.plus(time)) <= self.moment.now)
    }

    /// Gives a handler the version that was found for it; whether it has workers now. A pinned one is given up when it
    /// has had none for a while, or for as long as the handler may wait.
    fn man(&mut self, place: usize, spec: &HandlerSpec, found: &Resolution) -> bool {
        let now = self.moment.now;
        let is_in_vain = spec.start_timeout.is_some_and(|most| self.has_waited(place, most));
        let handler = &mut self.run.head.entry.handlers[place];
        let moves = match &handler.version {
            None => true,
            Some(_) if found.pinned_lives => {
                handler.unmanned_since = None;
                return true;
            }
            Some(_) => is_in_vain || now.since(*handler.unmanned_since.get_or_insert(now)) >= MOVE_AFTER,
        };
        let Some(version) = found.version.as_ref().filter(|_| moves) else { return false };
        let was_pinned = handler.version.replace(version.clone()).is_some();
        handler.unmanned_since = None;
        let enough = found.slots.saturating_mul(2).clamp(DEFAULT_WINDOW, LARGEST_WINDOW);
        handler.window = spec.max_in_flight.unwrap_or(enough);
        let (entry, name) = (self.run.head.entry.number, handler.name.clone());
        self.record(HistoryKind::Pinned { entry, handler: name, version: version.clone() });
        if was_pinned {
            self.take_back(place, LostWhy::Moved, None);
        }
        true
    }

    /// A list of jobs was made, or what a handler needs to make its own; or it cannot be made, which fails the phase.
    pub(super) fn enumerated(&mut self, place: u16, listing: &Result<Listing, JobError>) -> Applied {
        self.must_be_working()?;
        let place = usize::from(place);
        let spec = self.phase().and_then(|phase| phase.handlers.get(place));
        let (Some(handler), Some(spec)) = (self.run.head.entry.handlers.get_mut(place), spec) else {
            return Err(Ignored::UnknownHandler);
        };
        if !handler.wants_list() {
            return Err(Ignored::Stale);
        }
        match listing {
            Ok(listing) if spec.enumerate => {
                handler.enumeration = Some(Enumeration::default());
                handler.stored_inputs = listing.stored;
                self.settle();
            }
            Ok(listing) => {
                handler.total = Some(listing.total);
                handler.stored_inputs = listing.stored;
                self.settle();
            }
            Err(error) => {
                let (name, error) = (handler.name.clone(), shortened(error, MAX_HEAD_MESSAGE_BYTES));
                handler.first_failure = Some(error.clone());
                self.fail(Some(name), None, error);
            }
        }
        Ok(())
    }

    fn must_be_working(&self) -> Applied {
        if self.run.head.entry.stage == Stage::Working { Ok(()) } else { Err(Ignored::TooLate) }
    }

    /// Looks whether a working entry is finished or has failed, and dispatches what may go out otherwise.
    pub(super) fn settle(&mut self) {
        // A run that is being canceled ends; what is paused is counted, and may finish or halt.
        if self.run.head.entry.stage != Stage::Working || self.run.head.state == RunState::Canceling {
            return;
        }
        let Some(phase) = self.phase() else { return };
        let handlers = &self.run.head.entry.handlers;
        let beyond = handlers.iter().zip(&phase.handlers).find(|(handler, spec)| {
            let is_beyond = |total| handler.failed > spec.tolerate_failures.allowed(total);
            handler.has_failed_to_list() || handler.total.is_some_and(is_beyond)
        });
        if let Some((handler, _)) = beyond {
            let (name, index, failed) = (handler.name.clone(), handler.first_failed, handler.failed);
            let error = handler.first_failure.clone();
            let error = error.unwrap_or_else(|| JobError::new("error", format!("{failed} jobs failed")).for_good());
            return self.fail(Some(name), index, error);
        }
        if handlers.iter().all(HandlerEntry::is_finished) {
            return self.finish(PhaseStatus::Succeeded);
        }
        self.dispatch();
    }

    /// A working entry has failed: by the error transition if there is one, otherwise the run halts. In a final phase
    /// that was reached through an error there is nowhere else to go: the run ends all the same.
    fn fail(&mut self, handler: Option<HandlerName>, index: Option<JobIndex>, error: JobError) {
        let phase = self.phase();
        let has_error_transition = phase.is_some_and(|phase| phase.on_error_transition_to.is_some());
        let ends_anyway = self.run.head.on_error_path && phase.is_some_and(|phase| phase.is_final);
        if has_error_transition || ends_anyway {
            self.blame(handler, index, error);
            self.finish(PhaseStatus::Failed);
        } else {
            let phase = self.run.head.entry.phase.clone();
            self.halt(Cause { phase, handler, index, error });
        }
    }

    /// Remembers what took the run off its ordinary path; the first cause stays.
    pub(super) fn blame(&mut self, handler: Option<HandlerName>, index: Option<JobIndex>, error: JobError) {
        let phase = self.run.head.entry.phase.clone();
        self.run.head.cause.get_or_insert(Cause { phase, handler, index, error });
    }

    fn halt(&mut self, cause: Cause) {
        let head = &mut self.run.head;
        head.state = RunState::Halted;
        if head.entry.stage == Stage::Working {
            head.entry.stage = Stage::Halted;
        }
        head.wake_at = None;
        head.awaits_worker = false;
        head.cause = Some(cause.clone());
        self.record(HistoryKind::Halted { cause });
        self.tell(LifecycleEvent::RunHalted);
    }

    /// Nothing more is to be done in this entry. Its end is announced; the announcement moves the run on.
    fn finish(&mut self, status: PhaseStatus) {
        let now = self.moment.now;
        let entry = &mut self.run.head.entry;
        entry.stage = Stage::Finished { status, at: now };
        let number = entry.number;
        let left_out = entry.handlers.iter().any(|handler| handler.out > 0);
        self.run.head.awaits_worker = false;
        let announces_again = self.run.head.state == RunState::Running;
        self.run.head.wake_at = announces_again.then(|| now.plus(ANNOUNCE_AGAIN));
        let handlers = self.tallies();
        self.record(HistoryKind::Finished { entry: number, status, handlers });
        self.keep_outputs();
        if left_out {
            self.effects.push(Effect::CancelJobs { entry: number });
        }
        let announcement = self.announcement(status, now);
        self.effects.push(Effect::Announce(announcement));
        self.tell(LifecycleEvent::PhaseFinished);
    }

    pub(super) fn announcement(&self, status: PhaseStatus, finished_at: Timestamp) -> PhaseFinished {
        let Entry { number, nonce, phase, entered_at, .. } = &self.run.head.entry;
        PhaseFinished {
            run: self.run.head.id,
            phase: phase.clone(),
            entry: *number,
            nonce: *nonce,
            status,
            started_at: *entered_at,
            finished_at,
        }
    }

    /// From now on this entry's outputs are those of its phase; those of an earlier entry go.
    fn keep_outputs(&mut self) {
        let head = &mut self.run.head;
        let entry = &head.entry;
        let handlers: Vec<_> = entry.handlers.iter().map(HandlerOutputs::of).collect();
        let outputs = EntryOutputs { phase: entry.phase.clone(), entry: entry.number, nonce: entry.nonce, handlers };
        match head.outputs.iter_mut().find(|earlier| earlier.phase == outputs.phase) {
            Some(earlier) => {
                let (entry, nonce, handlers) = (earlier.entry, earlier.nonce, earlier.handlers.len() as u16);
                self.run.delta.outputs.retain(|page| page.entry != entry);
                self.run.delta.forget_outputs.push(ForgottenEntry { entry, nonce, handlers });
                *earlier = outputs;
            }
            None => head.outputs.push(outputs),
        }
    }

    /// The current phase is finished and announced: the one place where a run goes from a phase to another, or ends.
    pub(super) fn move_on(&mut self) -> Applied {
        let Entry { number, stage, .. } = self.run.head.entry;
        let (RunState::Running, Stage::Finished { status, .. }) = (self.run.head.state, stage) else {
            return Err(Ignored::TooLate);
        };
        let Some(phase) = self.phase() else { return Err(Ignored::TooLate) };
        if phase.is_final && (status == PhaseStatus::Succeeded || self.run.head.on_error_path) {
            self.conclude();
            return Ok(());
        }
        let (target, on_error) = match status {
            PhaseStatus::Succeeded => (&phase.transitions_to, false),
            PhaseStatus::Failed => (&phase.on_error_transition_to, true),
        };
        let Some(target) = target.as_ref().and_then(|name| self.workflow.phase(name)) else {
            return Err(Ignored::TooLate); // validated: whoever finishes this way has a target
        };
        if number >= MAX_ENTRIES {
            // The entry stays finished: what is still heard of its jobs has come too late.
            let limit = JobError::new("limit", format!("a run may enter {MAX_ENTRIES} phases, and this one has"));
            self.halt(Cause { phase: phase.name.clone(), handler: None, index: None, error: limit.for_good() });
            return Ok(());
        }
        self.forget_jobs();
        self.enter(target, on_error);
        Ok(())
    }

    fn conclude(&mut self) {
        let Entry { number: entry, nonce, handlers, .. } = &self.run.head.entry;
        if self.workflow.output.is_some() || handlers.iter().any(|handler| handler.outputs > 0) {
            self.questions.push(Question::Output { entry: *entry, nonce: *nonce });
        } else {
            self.end(self.final_state(), None);
        }
    }

    pub(super) const fn final_state(&self) -> RunState {
        if self.run.head.on_error_path { RunState::Failed } else { RunState::Succeeded }
    }

    /// The run ends; nothing changes afterwards.
    pub(super) fn end(&mut self, state: RunState, reason: Option<String>) {
        let head = &mut self.run.head;
        head.state = state;
        head.ended_at = Some(self.moment.now);
        head.canceling = None;
        head.wake_at = None;
        head.awaits_worker = false;
        self.record(HistoryKind::Ended { state, reason });
        self.tell(LifecycleEvent::RunFinished);
        self.forget_jobs();
    }

    /// Where the jobs of the current entry stand no longer matters: neither what is stored nor what is about to be.
    /// (Changed bits are not in the delta before it is taken; they go with the job sets.)
    pub(super) fn forget_jobs(&mut self) {
        let Entry { number: entry, nonce, ref handlers, .. } = self.run.head.entry;
        if handlers.is_empty() {
            return;
        }
        for place in 0..handlers.len() {
            self.forget_list(place);
        }
        let handlers = &self.run.head.entry.handlers;
        self.run.delta.forget_jobs.push(ForgottenEntry { entry, nonce, handlers: handlers.len() as u16 });
        self.run.delta.exceptions.retain(|change| change.entry != entry);
        self.run.jobs = vec![JobSet::default(); self.run.jobs.len()];
    }

    pub(super) fn tallies(&self) -> Vec<HandlerTally> {
        let handlers = self.run.head.entry.handlers.iter().zip(&self.run.jobs);
        handlers
            .map(|(handler, jobs)| HandlerTally {
                handler: handler.name.clone(),
                total: handler.total,
                done: handler.done,
                failed: handler.failed,
                retried: handler.retried,
                digest: digest(&jobs.terminal),
            })
            .collect()
    }
}

impl HandlerEntry {
    /// A handler as an entry begins. The number of its jobs is known unless a list or their inputs have to be made.
    fn begin(spec: &HandlerSpec) -> Self {
        let total = match (&spec.for_each, &spec.input) {
            _ if spec.enumerate => None,
            (None, None) => Some(1),
            (Some(ForEach::Count(count)), None) => Some(*count),
            (Some(ForEach::Expression(_)), _) | (_, Some(_)) => None,
        };
        Self {
            name: spec.name.clone(),
            version: None,
            total,
            is_list: spec.has_list(),
            stored_inputs: false,
            enumeration: (spec.enumerate && spec.input.is_none()).then(Enumeration::default),
            window: spec.max_in_flight.unwrap_or(DEFAULT_WINDOW),
            cursor: 0,
            out: 0,
            leased: 0,
            done: 0,
            failed: 0,
            retried: 0,
            outputs: 0,
            waiting: 0,
            heard_at: None,
            asked_at: None,
            probe: None,
            unmanned_since: None,
            first_failure: None,
            first_failed: None,
        }
    }
}

impl HandlerOutputs {
    fn of(handler: &HandlerEntry) -> Self {
        Self {
            name: handler.name.clone(),
            total: handler.total.unwrap_or(0),
            outputs: handler.outputs,
            is_list: handler.is_list,
        }
    }
}

/// 64-bit FNV-1a over the bitmap without its zeros at the end, in hexadecimal.
fn digest(bits: &Bitmap) -> String {
    let hash = bits
        .as_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    format!("{hash:016x}")
}
