//! What holds of one step of a run: what an event did, and did not, change.

use std::collections::BTreeMap;

use super::Check;
use crate::definition::{Phase, Workflow};
use crate::id::{Attempt, EntryNo, HandlerName, JobIndex, Nonce};
use crate::message::event::{ControlAction, PhaseStatus};
use crate::message::notice::LifecycleEvent;
use crate::message::outcome::{Outcome, Status};
use crate::run::audit::allowed;
use crate::run::audit::ensure;
use crate::run::{Effect, Event, ExceptionState, Run, RunState, Stage, Step};
use crate::time::Timestamp;

/// Where a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum JobStatus {
    /// It was never out.
    Undispatched,
    /// This attempt of it is out.
    Out(Attempt),
    /// This attempt of it came back, and another is to follow.
    Waiting(Attempt),
    /// It is done or has failed for good.
    Ended,
}

impl JobStatus {
    /// Where a job of `run` is.
    pub fn of(run: &Run, handler: usize, index: JobIndex) -> Self {
        let jobs = &run.jobs[handler];
        if index >= run.head.entry.handlers[handler].cursor {
            return Self::Undispatched;
        }
        match jobs.exception(index) {
            _ if jobs.terminal.contains(index) => Self::Ended,
            None => Self::Out(1),
            Some(exception) if exception.state.is_out() => Self::Out(exception.attempt),
            Some(exception) => Self::Waiting(exception.attempt),
        }
    }
}

/// Checks what `event` made of `before`.
///
/// # Errors
/// The first invariant that does not hold.
pub fn check_step(
    workflow: &Workflow,
    before: &Run,
    (event, now): (&Event, Timestamp),
    step: &Step,
    after: &Run,
) -> Check {
    let Step::Changed { effects, .. } = step else {
        return ensure(before == after, "fenced", || format!("ignored, and changed all the same: {event:?}"));
    };
    ensure(!before.head.state.is_ended(), "one-end", || format!("changed after its end by {event:?}"))?;
    if let Some(named) = names_entry(event) {
        let current = (before.head.entry.number, before.head.entry.nonce);
        ensure(named == current, "fenced", || format!("{event:?} changed entry {current:?}"))?;
    }
    if let Event::Enumerated { handler, listing: Ok(listing), .. } = event {
        let handler = &after.head.entry.handlers[usize::from(*handler)];
        let sealed = (handler.total, handler.stored_inputs) == (Some(listing.total), listing.stored);
        ensure(sealed, "one-enumeration", || format!("{listing:?} became {handler:?}"))?;
    }
    check_transition(workflow, before, (event, now), after)?;
    check_told(before, effects, after)?;
    check_dispatched(effects, after)?;
    if after.head.entry.number == before.head.entry.number && !after.head.state.is_ended() {
        for place in 0..after.jobs.len() {
            check_jobs(before, event, effects, after, place)?;
        }
    }
    let hot = matches!(event, Event::Wake) && after.head.wake_at.is_some_and(|at| at <= now);
    ensure(!hot, "bounded-failure", || format!("after a wake at {now} the timer is {:?}", after.head.wake_at))
}

fn names_entry(event: &Event) -> Option<(EntryNo, Nonce)> {
    match event {
        Event::JobsFinished { entry, nonce, .. }
        | Event::Leases { entry, nonce, .. }
        | Event::ProbeReturned { entry, nonce, .. }
        | Event::PhaseFinished { entry, nonce }
        | Event::Resolved { entry, nonce, .. }
        | Event::Enumerated { entry, nonce, .. }
        | Event::Concluded { entry, nonce, .. } => Some((*entry, *nonce)),
        Event::Wake | Event::Recover | Event::Control(_) => None,
    }
}

/// The head moved as it may.
fn check_transition(workflow: &Workflow, before: &Run, (event, now): (&Event, Timestamp), after: &Run) -> Check {
    let (old, new) = (&before.head.entry, &after.head.entry);
    if (old.number, old.nonce) != (new.number, new.nonce) {
        let moved = matches!(event, Event::PhaseFinished { .. }) && matches!(old.stage, Stage::Finished { .. });
        let ordered = is_order(event, ControlAction::Rerun);
        let fits = (moved || ordered) && new.number == old.number + 1;
        ensure(fits, "one-successor", || format!("{event:?} led to {new:?}"))?;
        let may = before.head.state == RunState::Running || (ordered && before.head.state == RunState::Halted);
        return ensure(may, "one-end", || format!("a {} run moved on", before.head.state.as_str()));
    }
    ensure(old.phase == new.phase, "one-successor", || format!("{:?} turned into {:?}", old.phase, new.phase))?;
    let may = match (old.stage, new.stage) {
        (Stage::Working, _) => true,
        (Stage::Halted, Stage::Working) => is_order(event, ControlAction::Retry),
        (Stage::Finished { .. } | Stage::Halted, stage) => stage == old.stage,
    };
    ensure(may, "fan-in-exact", || format!("from {:?} to {:?} by {event:?}", old.stage, new.stage))?;
    if old.stage == Stage::Working
        && let Some(phase) = workflow.phase(&new.phase)
    {
        let mut places = new.handlers.iter().zip(&phase.handlers);
        let beyond = places.any(|(handler, spec)| handler.failed > allowed(spec.tolerate_failures, handler.total));
        let no_list =
            matches!(event, Event::Enumerated { listing: Err(_), .. }) || waited_in_vain((event, now), phase, before);
        let has_path = phase.on_error_transition_to.is_some() || (phase.is_final && after.head.on_error_path);
        let is_all = new.handlers.iter().all(|handler| handler.total == Some(handler.done + handler.failed));
        let fits = match new.stage {
            Stage::Working => !beyond && !no_list && !is_all,
            Stage::Finished { status: PhaseStatus::Succeeded, .. } => is_all && !beyond && !no_list,
            Stage::Finished { status: PhaseStatus::Failed, .. } => (beyond || no_list) && has_path,
            Stage::Halted => (beyond || no_list) && !has_path,
        };
        // A canceled run stays in the stage that it was in.
        let is_canceled = after.head.state.is_ended() || after.head.state == RunState::Canceling;
        ensure(fits || is_canceled, "fan-in-exact", || format!("{:?}: {:?}", new.stage, new.handlers))?;
    }
    let ends = match after.head.state {
        RunState::Running => before.head.state == RunState::Running || matches!(event, Event::Control(_)),
        RunState::Halted => true,
        RunState::Paused => before.head.state == RunState::Paused || is_order(event, ControlAction::Pause),
        RunState::Canceling => before.head.state == RunState::Canceling || is_order(event, ControlAction::Cancel),
        RunState::Canceled => before.head.state == RunState::Canceling || is_order(event, ControlAction::Cancel),
        RunState::Succeeded | RunState::Failed => {
            let at_end = workflow.phase(&old.phase).is_some_and(|phase| phase.is_final);
            at_end && matches!(old.stage, Stage::Finished { .. }) && before.head.state == RunState::Running
        }
    };
    ensure(ends, "one-end", || format!("{event:?} ended it {:?}", after.head.state))
}

/// What happened was told, and what did not was not.
fn check_told(before: &Run, effects: &[Effect], after: &Run) -> Check {
    let told =
        |wanted| effects.iter().filter(|effect| matches!(effect, Effect::Tell(it) if it.event == wanted)).count();
    let same_entry = before.head.entry.number == after.head.entry.number;
    let was_working = before.head.entry.stage == Stage::Working || !same_entry;
    let finished = was_working && matches!(after.head.entry.stage, Stage::Finished { .. });
    let halted = before.head.state != RunState::Halted && after.head.state == RunState::Halted;
    for (event, happened) in [
        (LifecycleEvent::RunFinished, after.head.state.is_ended()),
        (LifecycleEvent::RunHalted, halted),
        (LifecycleEvent::PhaseFinished, finished),
    ] {
        let times = told(event);
        ensure(times == usize::from(happened), "history-true", || format!("{event:?} was told {times} times"))?;
    }
    let ended_early = after.head.state.is_ended() && !matches!(before.head.entry.stage, Stage::Finished { .. });
    let left_out = after.head.entry.handlers.iter().any(|handler| handler.out > 0);
    let was_told = before.head.state == RunState::Canceling;
    let abandoned = left_out && (finished || ended_early) && !was_told;
    let is_canceling = after.head.state == RunState::Canceling;
    let is_over =
        after.head.state.is_ended() || is_canceling || matches!(after.head.entry.stage, Stage::Finished { .. });
    let current = after.head.entry.number;
    let canceled =
        effects.iter().find_map(|it| if let Effect::CancelJobs { entry } = it { Some(*entry) } else { None });
    let fits = canceled.map_or(!abandoned, |entry| entry < current || (entry == current && is_over));
    ensure(fits, "fan-in-exact", || format!("jobs abandoned: {abandoned}; told to cancel those of {canceled:?}"))?;
    let announced = effects.iter().any(|effect| matches!(effect, Effect::Announce(_)));
    ensure(announced || !finished, "no-stranded-run", || "a phase finished, and nobody announced it".into())
}

fn is_order(event: &Event, wanted: ControlAction) -> bool {
    matches!(event, Event::Control(control) if control.action == wanted)
}

/// Whether an event may show that jobs were lost which nobody reports on.
const fn may_lose(event: &Event) -> bool {
    matches!(event, Event::Wake | Event::Recover | Event::Resolved { .. })
}

/// Whether a handler has waited for a worker for as long as it may.
fn waited_in_vain((event, now): (&Event, Timestamp), phase: &Phase, before: &Run) -> bool {
    let Event::Resolved { handlers, .. } = event else { return false };
    handlers.iter().any(|found| {
        let place = usize::from(found.handler);
        let since = before.head.entry.handlers[place].unmanned_since;
        let patience = since.zip(phase.handlers[place].start_timeout);
        let is_over = patience.is_some_and(|(since, most)| now.since(since) >= most);
        is_over && found.version.is_none() && !found.pinned_lives
    })
}

/// What was dispatched belongs to the entry that works now.
fn check_dispatched(effects: &[Effect], after: &Run) -> Check {
    let entry = &after.head.entry;
    for effect in effects {
        let Effect::Dispatch(dispatch) = effect else { continue };
        let is_live = after.head.state == RunState::Running && entry.stage == Stage::Working;
        ensure(is_live, "fan-in-exact", || format!("dispatched in {:?}: {dispatch:?}", entry.stage))?;
        let handler = entry.handlers.get(usize::from(dispatch.handler));
        let fits = handler.is_some_and(|handler| {
            let of_entry =
                (dispatch.entry, dispatch.nonce, &dispatch.phase) == (entry.number, entry.nonce, &entry.phase);
            let of_handler = (&dispatch.name, dispatch.stored_inputs) == (&handler.name, handler.stored_inputs);
            of_entry && of_handler && Some(&dispatch.version) == handler.version.as_ref() && !dispatch.is_empty()
        });
        ensure(fits, "fenced", || format!("{dispatch:?} is not of {entry:?}"))?;
    }
    Ok(())
}

/// Each job of one handler went where the event and the effects say, and nowhere else.
fn check_jobs(before: &Run, event: &Event, effects: &[Effect], after: &Run, place: usize) -> Check {
    let handler = &after.head.entry.handlers[place];
    let sent = dispatched(effects, place);
    let can_count = !matches!(before.head.entry.stage, Stage::Finished { .. });
    let was = &before.head.entry.handlers[place];
    let (mut done, mut failed, mut retried) = (was.done, was.failed, was.retried);
    for index in 0..handler.cursor {
        let (old, new) = (JobStatus::of(before, place, index), JobStatus::of(after, place, index));
        let had_failed = before.jobs[place].exception(index).is_some_and(|it| it.state == ExceptionState::Failed);
        let gets_tries = had_failed && is_order(event, ControlAction::Retry);
        let sent = sent.get(&index).map_or(&[][..], Vec::as_slice);
        let report = match old {
            JobStatus::Out(attempt) if can_count => {
                let state = before.jobs[place].exception(index).map(|it| it.state);
                let is_leased = matches!(state, Some(ExceptionState::Leased(_)));
                reported(event, (&handler.name, index, attempt), is_leased)
            }
            _ => None,
        };
        let fits = match (old, report, new) {
            (JobStatus::Undispatched, _, JobStatus::Out(1)) => sent == [1],
            (JobStatus::Waiting(attempt), _, JobStatus::Out(next)) => next == attempt + 1 && sent == [next],
            (JobStatus::Out(_), Some(Status::Done), _) => new == JobStatus::Ended && sent.is_empty(),
            (JobStatus::Out(_), Some(Status::Failed | Status::Returned), JobStatus::Ended) => sent.is_empty(),
            (JobStatus::Out(old), Some(_), JobStatus::Waiting(new)) => old == new && sent.is_empty(),
            (JobStatus::Out(old), Some(_), JobStatus::Out(new)) => new == old + 1 && sent == [new],
            (JobStatus::Out(old), None, JobStatus::Waiting(new)) => old == new && sent.is_empty() && may_lose(event),
            (JobStatus::Out(_), None, JobStatus::Ended) => sent.is_empty() && matches!(event, Event::Wake),
            (JobStatus::Out(old), None, JobStatus::Out(new)) if old != new => {
                new == old + 1 && sent == [new] && may_lose(event)
            }
            (JobStatus::Ended, None, JobStatus::Waiting(_)) => sent.is_empty() && gets_tries,
            (JobStatus::Ended, None, JobStatus::Out(new)) => sent == [new] && gets_tries,
            (_, None, _) => old == new && sent.is_empty(),
            (_, Some(_), _) => false,
        };
        let broken = match (old, new, report) {
            (JobStatus::Ended, ..) | (_, _, Some(Status::Done)) => "counted-once",
            (_, JobStatus::Out(_), _) if sent.is_empty() && old != new => "no-stranded-run",
            (_, _, None) => "fenced",
            (_, _, Some(_)) => "counted-once",
        };
        ensure(fits, broken, || {
            format!("{} {index}: {old:?} became {new:?} by {report:?}, sent {sent:?}", handler.name)
        })?;
        if old == JobStatus::Ended && new != old {
            failed -= 1;
        } else if new != JobStatus::Ended {
            let tries = |run: &Run| run.jobs[place].exception(index).map_or(0, |exception| exception.failed_tries);
            retried += u64::from(tries(after) - tries(before));
        }
        if (old, new) != (JobStatus::Ended, JobStatus::Ended) && new == JobStatus::Ended {
            let has_failed = report != Some(Status::Done);
            done += u64::from(!has_failed);
            failed += u64::from(has_failed);
            let record = after.jobs[place].exception(index).map(|it| it.state == ExceptionState::Failed);
            ensure(record == has_failed.then_some(true), "counted-once", || {
                format!("{} {index} has failed: {has_failed}, and its record says {record:?}", handler.name)
            })?;
        }
    }
    ensure((done, failed, retried) == (handler.done, handler.failed, handler.retried), "counted-once", || {
        format!("{handler:?}, not {done} done, {failed} failed, {retried} retried")
    })?;
    let beyond = sent.keys().next_back().is_some_and(|&index| index >= handler.cursor);
    ensure(!beyond, "counted-once", || format!("{}: dispatched beyond the cursor", handler.name))
}

/// The attempts that went out of each job.
fn dispatched(effects: &[Effect], place: usize) -> BTreeMap<JobIndex, Vec<Attempt>> {
    let mut sent: BTreeMap<JobIndex, Vec<Attempt>> = BTreeMap::new();
    for effect in effects {
        let Effect::Dispatch(dispatch) = effect else { continue };
        if usize::from(dispatch.handler) == place {
            let fresh = dispatch.fresh.map_or(0..0, |(first, count)| first..first + count);
            fresh.for_each(|index| sent.entry(index).or_default().push(1));
            dispatch.again.iter().for_each(|ticket| sent.entry(ticket.index).or_default().push(ticket.attempt));
        }
    }
    sent
}

/// What the event first says of this attempt. That the message of a leased job came again says nothing of it.
fn reported(
    event: &Event,
    (name, index, attempt): (&HandlerName, JobIndex, Attempt),
    is_leased: bool,
) -> Option<Status> {
    let Event::JobsFinished { handler, done, outcomes, .. } = event else { return None };
    if handler != name {
        return None;
    }
    let in_range = |&(first, count): &(JobIndex, u64)| index >= first && index - first < count;
    if attempt == 1 && done.iter().any(in_range) {
        return Some(Status::Done);
    }
    let came_again = |outcome: &Outcome| {
        let kind = outcome.error.as_ref().map(|error| &*error.kind);
        is_leased && outcome.status == Status::Returned && kind == Some("redelivered")
    };
    let mut outcomes = outcomes.iter().filter(|outcome| (outcome.index, outcome.attempt) == (index, attempt));
    outcomes.find(|outcome| !came_again(outcome)).map(|outcome| outcome.status)
}
