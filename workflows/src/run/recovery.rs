//! What goes out again because it was lost on the way, and how that is found out: by silence, and a probe that follows
//! the jobs through their queue.

use super::apply::{Applied, Turn};
use super::effect::Effect;
use super::entry::{HandlerEntry, ProbeOut, Stage};
use super::event::{Ignored, Moment};
use super::jobs::{Exception, ExceptionState};
use super::state::{HistoryKind, LostWhy, RunState};
use super::{ASK_ANYWAY, HEARD_WITHIN, PROBE_AGAIN, PROBE_AT_LAST, QUIET};
use crate::id::{HandlerName, JobIndex};
use crate::time::Timestamp;

impl Turn<'_> {
    /// What was under way may be lost: all of it goes out again, with new attempts.
    pub(super) fn recover(&mut self) -> Applied {
        match (self.run.head.state, self.run.head.entry.stage) {
            (RunState::Running | RunState::Paused, Stage::Working) => {
                for place in 0..self.run.head.entry.handlers.len() {
                    self.take_back(place, LostWhy::Recovery, None);
                }
                self.dispatch();
                Ok(())
            }
            (RunState::Running, Stage::Finished { status, at }) => {
                self.announce_again(status, at);
                Ok(())
            }
            // A halted run looks after what was out once it goes on; one that is paused announces its end then.
            (RunState::Running | RunState::Paused | RunState::Halted | RunState::Canceling, _)
            | (RunState::Succeeded | RunState::Failed | RunState::Canceled, _) => Err(Ignored::NothingDue),
        }
    }

    /// Sends a probe after jobs of which nothing was heard for a while, and takes back those that one has shown to be
    /// lost. The handlers concerned: their workers may be gone.
    pub(super) fn ask_after_quiet_jobs(&mut self) -> Vec<u16> {
        let now = self.moment.now;
        let mut quiet = Vec::new();
        for place in 0..self.run.head.entry.handlers.len() {
            let handler = &self.run.head.entry.handlers[place];
            if next_question(handler, self.moment).is_none_or(|at| at > now) {
                continue;
            }
            quiet.push(place as u16);
            match handler.probe {
                Some(probe) if probe.returned_at.is_some() => self.take_back(place, LostWhy::Probe, Some(probe)),
                Some(probe) => self.send_probe(place, ProbeOut { asked_at: now, ..probe }),
                None => {
                    let cursor = handler.cursor;
                    self.send_probe(place, ProbeOut { sent_at: now, asked_at: now, cursor, returned_at: None });
                }
            }
        }
        quiet
    }

    fn send_probe(&mut self, place: usize, probe: ProbeOut) {
        let entry = &mut self.run.head.entry;
        let handler = &mut entry.handlers[place];
        let Some(version) = handler.version.clone() else { return };
        handler.probe = Some(probe);
        let (phase, sent_at) = (entry.phase.clone(), probe.sent_at);
        let (entry, nonce) = (entry.number, entry.nonce);
        self.effects.push(Effect::Probe { entry, nonce, phase, handler: place as u16, version, sent_at });
    }

    /// A probe is back: what was on the queue before it is with a worker, has been reported, or is lost.
    pub(super) fn probe_returned(&mut self, name: &HandlerName, sent_at: Timestamp) -> Applied {
        if (self.run.head.state, self.run.head.entry.stage) != (RunState::Running, Stage::Working) {
            return Err(Ignored::TooLate);
        }
        let handler = self.run.head.entry.handlers.iter_mut().find(|handler| handler.name == *name);
        let Some(handler) = handler else { return Err(Ignored::UnknownHandler) };
        match &mut handler.probe {
            Some(probe) if probe.sent_at == sent_at && probe.returned_at.is_none() => {
                probe.returned_at = Some(self.moment.now);
                self.set_timer();
                Ok(())
            }
            _ => Err(Ignored::Stale),
        }
    }

    /// The jobs of a handler that are out and not leased wait for their next attempt; with a probe, only those that it
    /// asked after.
    pub(super) fn take_back(&mut self, place: usize, why: LostWhy, probe: Option<ProbeOut>) {
        let handler = &self.run.head.entry.handlers[place];
        let (cursor, name) = (handler.cursor, handler.name.clone());
        let (mut from, mut jobs) = (0, 0);
        while let Some(index) = self.run.jobs[place].terminal.first_absent(from, cursor) {
            from = index + 1;
            let record = self.run.jobs[place].exception(index);
            if is_lost(index, record, probe) {
                let record = record.cloned().unwrap_or(Exception::first(ExceptionState::Out));
                self.set_exception(
                    place,
                    index,
                    Exception { state: ExceptionState::Waiting(self.moment.now), ..record },
                );
                jobs += 1;
            }
        }
        if jobs > 0 {
            self.begin_list_anew(place);
        }
        let handler = &mut self.run.head.entry.handlers[place];
        handler.out -= jobs;
        handler.waiting += jobs;
        handler.probe = None;
        (handler.heard_at, handler.asked_at) = (Some(self.moment.now), Some(self.moment.now));
        if jobs > 0 {
            let entry = self.run.head.entry.number;
            let (list, jobs) = if self.is_listing(place) { (true, 0) } else { (false, jobs) };
            self.record(HistoryKind::Lost { entry, handler: name, jobs, list, why });
        }
    }
}

/// Whether a job that has not ended is out, not leased, and was so when the probe was sent.
fn is_lost(index: JobIndex, record: Option<&Exception>, probe: Option<ProbeOut>) -> bool {
    match (record, probe) {
        (None, None) => true,
        (None, Some(probe)) => index < probe.cursor,
        (Some(record), probe) => {
            let before = probe.is_none_or(|probe| record.sent_at.is_none_or(|at| at <= probe.sent_at));
            record.state == ExceptionState::Out && before
        }
    }
}

/// When something is to be done about jobs of a handler of which nothing is heard.
pub(super) fn next_question(handler: &HandlerEntry, moment: Moment) -> Option<Timestamp> {
    if handler.unleased() == 0 || handler.version.is_none() {
        return None;
    }
    match handler.probe {
        None => {
            let quiet = handler.heard_at.unwrap_or_default().plus(QUIET);
            Some(handler.asked_at.map_or(quiet, |asked| quiet.min(asked.plus(ASK_ANYWAY))))
        }
        // Nobody reads the queue: a worker that comes is what to wait for.
        Some(ProbeOut { returned_at: None, .. }) if handler.unmanned_since.is_some() => None,
        // A queue that is long takes long to go through, so the pauses double.
        Some(ProbeOut { sent_at, asked_at, returned_at: None, .. }) => {
            Some(asked_at.plus(asked_at.since(sent_at).clamp(PROBE_AGAIN, PROBE_AT_LAST)))
        }
        Some(ProbeOut { returned_at: Some(at), .. }) => Some(moment.not_before_heard(at.plus(HEARD_WITHIN))),
    }
}
