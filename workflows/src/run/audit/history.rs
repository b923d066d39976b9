//! What a history must be: numbered without gaps, a path in the definition, each entry left once; folding it gives
//! the run.

use super::{Check, ensure};
use crate::definition::{Phase, Tolerance, Workflow};
use crate::id::{EntryNo, PhaseName};
use crate::message::event::PhaseStatus;
use crate::run::{HandlerTally, HistoryEvent, HistoryKind, JobSet, Run, RunState, Stage};

/// What folding a history gives.
#[derive(Debug, Default)]
struct Folded<'a> {
    state: Option<RunState>,
    phase: Option<&'a Phase>,
    entry: EntryNo,
    /// How the current entry finished.
    finished: Option<PhaseStatus>,
    on_error_path: bool,
    /// The phase that an order has named.
    ordered: Option<&'a PhaseName>,
    /// Whether the current entry was left unfinished.
    abandoned: bool,
}

/// Checks the whole history of a run against its state and its definition.
///
/// # Errors
/// The first invariant that does not hold.
pub fn check_history(workflow: &Workflow, run: &Run, history: &[HistoryEvent]) -> Check {
    let head = &run.head;
    let mut folded = Folded::default();
    for (event, n) in history.iter().zip(1..) {
        ensure(event.n == n, "history-true", || format!("event {n} has the number {}", event.n))?;
        let is_over = folded.state.is_some_and(RunState::is_ended);
        ensure(!is_over, "one-end", || format!("after its end: {:?}", event.what))?;
        folded.take(workflow, &event.what)?;
    }
    ensure(history.len() as u64 == head.events, "history-true", || {
        format!("{} events, and the head counts {}", history.len(), head.events)
    })?;
    ensure(folded.state == Some(head.state), "history-true", || {
        format!("it folds to {:?}, and the run is {:?}", folded.state, head.state)
    })?;
    let place = (folded.entry, folded.phase.map(|phase| &phase.name), folded.on_error_path);
    let really = (head.entry.number, Some(&head.entry.phase), head.on_error_path);
    ensure(place == really, "history-true", || format!("it folds to {place:?}, and the run is at {really:?}"))?;
    let finished = match head.entry.stage {
        Stage::Finished { status, .. } => Some(status),
        Stage::Working | Stage::Halted => None,
    };
    ensure(folded.finished == finished, "history-true", || format!("{:?} folds to {:?}", finished, folded.finished))?;
    let last = history.iter().rev().find_map(|event| match &event.what {
        HistoryKind::Finished { entry, handlers, .. } if *entry == head.entry.number => Some(handlers),
        _ => None,
    });
    last.map_or(Ok(()), |tallies| check_tallies(run, tallies))
}

/// What was recorded of the end of the current entry is what its handlers came to.
fn check_tallies(run: &Run, tallies: &[HandlerTally]) -> Check {
    let handlers = &run.head.entry.handlers;
    ensure(tallies.len() == handlers.len(), "history-true", || format!("{tallies:?} of {handlers:?}"))?;
    for ((handler, jobs), tally) in handlers.iter().zip(&run.jobs).zip(tallies) {
        let digest = if run.head.state.is_ended() { tally.digest.clone() } else { digest(jobs, handler.cursor) };
        let (total, done, failed, retried) = (handler.total, handler.done, handler.failed, handler.retried);
        let fits = *tally == HandlerTally { handler: handler.name.clone(), total, done, failed, retried, digest };
        ensure(fits, "history-true", || format!("{tally:?} was recorded of {handler:?}"))?;
    }
    Ok(())
}

/// The digest that the format describes, job by job.
fn digest(jobs: &JobSet, cursor: u64) -> String {
    let last = (0..cursor).rev().find(|&index| jobs.terminal.contains(index));
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in 0..last.map_or(0, |last| last / 8 + 1) {
        let bits = (0..8).filter(|bit| jobs.terminal.contains(byte * 8 + bit)).fold(0, |bits, bit| bits | 1_u64 << bit);
        hash = (hash ^ bits).wrapping_mul(0x0000_0100_0000_01b3);
    }
    format!("{hash:016x}")
}

impl<'a> Folded<'a> {
    fn take(&mut self, workflow: &'a Workflow, what: &'a HistoryKind) -> Check {
        match what {
            HistoryKind::Started { .. } => {
                ensure(self.state.is_none(), "accepted-once", || "it was started twice".into())?;
                self.state = Some(RunState::Running);
            }
            HistoryKind::Entered { entry, phase, from, on_error, .. } => {
                ensure(*entry == self.entry + 1, "one-successor", || format!("entry {entry} follows {}", self.entry))?;
                ensure(from.as_ref() == self.phase.map(|phase| &phase.name), "one-successor", || {
                    format!("{phase:?} was entered from {from:?}")
                })?;
                let target = match (self.phase, self.finished) {
                    _ if self.ordered.is_some() => self.ordered,
                    (None, _) => Some(&workflow.initial().name),
                    (Some(last), Some(PhaseStatus::Succeeded)) => last.transitions_to.as_ref(),
                    (Some(last), Some(PhaseStatus::Failed)) => last.on_error_transition_to.as_ref(),
                    (Some(_), None) => None,
                };
                ensure(target == Some(phase), "one-successor", || format!("{phase:?} entered, not {target:?}"))?;
                let left = self.finished.is_some() || self.abandoned || self.entry == 0;
                ensure(left, "fan-in-exact", || format!("entry {} was never left", self.entry))?;
                let by_error = self.finished == Some(PhaseStatus::Failed) && self.ordered.is_none();
                ensure(*on_error == by_error, "one-successor", || format!("on_error is {on_error}"))?;
                self.entry = *entry;
                self.phase = workflow.phase(phase);
                self.finished = None;
                (self.ordered, self.abandoned) = (None, false);
                self.on_error_path |= *on_error;
            }
            HistoryKind::Pinned { entry, .. } | HistoryKind::Lost { entry, .. } => self.same_entry(*entry)?,
            HistoryKind::Listed { entry, .. } => {
                // What was under way may still come, whatever was ordered meanwhile.
                let is_live = self.state.is_some_and(|state| !state.is_ended());
                let fits = *entry == self.entry && self.finished.is_none() && !self.abandoned && is_live;
                ensure(fits, "history-true", || format!("a list of entry {entry} after {self:?}"))?;
            }
            HistoryKind::Paused { .. } => self.turns(&[RunState::Running], RunState::Paused)?,
            HistoryKind::Resumed { .. } => self.turns(&[RunState::Paused], RunState::Running)?,
            HistoryKind::Retried { entry, .. } => {
                self.turns(&[RunState::Halted], RunState::Running)?;
                self.same_entry(*entry)?;
            }
            HistoryKind::Canceling { .. } => {
                let from = [RunState::Running, RunState::Paused, RunState::Halted];
                self.turns(&from, RunState::Canceling)?;
            }
            HistoryKind::Abandoned { entry, .. } => {
                let fits = *entry == self.entry && self.finished.is_none() && !self.abandoned;
                ensure(fits, "fan-in-exact", || format!("entry {entry} was left after {self:?}"))?;
                self.abandoned = true;
            }
            HistoryKind::Rerun { phase, .. } => {
                self.turns(&[RunState::Running, RunState::Halted], RunState::Running)?;
                self.ordered = Some(phase);
                self.on_error_path = false;
            }
            HistoryKind::Finished { entry, status, handlers } => {
                self.same_entry(*entry)?;
                self.finished = Some(*status);
                let Some(phase) = self.phase else { return self.same_entry(0) };
                let places = phase.handlers.iter().zip(handlers);
                let is_sound = places.clone().all(|(spec, tally)| {
                    let is_all = tally.total == Some(tally.done + tally.failed);
                    is_all && tally.failed <= allowed(spec.tolerate_failures, tally.total)
                });
                let complete = phase.handlers.len() == handlers.len() && is_sound;
                ensure(complete || *status == PhaseStatus::Failed, "fan-in-exact", || {
                    format!("it succeeded: {what:?}")
                })?;
                ensure(!complete || *status == PhaseStatus::Succeeded, "fan-in-exact", || format!("failed: {what:?}"))?;
            }
            HistoryKind::Halted { .. } => {
                self.turns(&[RunState::Running, RunState::Paused], RunState::Halted)?;
            }
            HistoryKind::Ended { state, .. } => {
                ensure(state.is_ended(), "one-end", || format!("it ended {state:?}"))?;
                let at_end = self.finished.is_some() && self.phase.is_some_and(|phase| phase.is_final);
                let fits = match state {
                    RunState::Canceled => self.finished.is_some() || self.abandoned,
                    RunState::Succeeded => at_end && !self.on_error_path,
                    _ => at_end,
                };
                ensure(fits, "one-end", || format!("it ended {state:?} with {self:?}"))?;
                self.state = Some(*state);
            }
        }
        Ok(())
    }

    fn turns(&mut self, from: &[RunState], to: RunState) -> Check {
        let fits = self.state.is_some_and(|state| from.contains(&state));
        ensure(fits, "history-true", || format!("from {:?} to {to:?}", self.state))?;
        self.state = Some(to);
        Ok(())
    }

    fn same_entry(&self, entry: EntryNo) -> Check {
        let goes_on = matches!(self.state, Some(RunState::Running | RunState::Paused));
        let fits = entry == self.entry && self.finished.is_none() && !self.abandoned && goes_on;
        ensure(fits, "history-true", || format!("something of entry {entry} after {self:?}"))
    }
}

/// How many failures are tolerated, worked out anew.
pub(crate) fn allowed(tolerance: Tolerance, total: Option<u64>) -> u64 {
    match (tolerance, total) {
        (Tolerance::None, _) | (Tolerance::Percent(_), None) => 0,
        (Tolerance::Count(count), _) => count,
        (Tolerance::Percent(percent), Some(total)) => (total as f64 * f64::from(percent) / 100.0).floor() as u64,
    }
}
