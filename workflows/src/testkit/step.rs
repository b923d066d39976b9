//! What holds of one step of a run: what an event did, and did not, change.

use std::collections::BTreeMap;

use super::Check;
use crate::definition::{Phase, Workflow};
use crate::id::{Attempt, EntryNo, HandlerName, JobIndex, Nonce};
use crate::message::event::{ControlAction, PhaseStatus};
use crate::message::listing::{OTHER_LIST, Sealed};
use crate::message::notice::LifecycleEvent;
use crate::message::outcome::{Outcome, Status};
use crate::run::audit::allowed;
use crate::run::audit::ensure;
use crate::run::{
    Effect, Enumeration, Event, ExceptionState, HEARING, HandlerEntry, JobSet, MAX_LISTED_BYTES, MAX_LISTED_JOBS, Run,
    RunState, Stage, Step,
};
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
        let is_of_list = named == (current.0, current.1.of_lists()) && may_speak_of_lists(event);
        ensure(named == current || is_of_list, "fenced", || format!("{event:?} changed entry {current:?}"))?;
    }
    if let Event::Enumerated { handler, listing: Ok(listing), .. } = event {
        let handler = &after.head.entry.handlers[usize::from(*handler)];
        let total = if handler.enumeration.is_some() { None } else { Some(listing.total) };
        let sealed = (handler.total, handler.stored_inputs) == (total, listing.stored);
        ensure(sealed, "one-enumeration", || format!("{listing:?} became {handler:?}"))?;
    }
    let goes_out = effects.iter().any(|effect| matches!(effect, Effect::Dispatch(_)));
    let is_still = after.head.state == RunState::Paused && before.head.state == RunState::Paused;
    ensure(!(is_still && goes_out), "pause-holds", || format!("{event:?} lets jobs of a paused run out"))?;
    check_transition(workflow, before, (event, now), after)?;
    check_told(before, effects, after)?;
    check_dispatched(effects, after)?;
    if after.head.entry.number == before.head.entry.number && !after.head.state.is_ended() {
        for place in 0..after.jobs.len() {
            check_list(before, event, after, place)?;
            check_jobs(before, event, effects, after, place)?;
        }
    }
    check_lapses(after, now)?;
    let hot = matches!(event, Event::Wake) && after.head.wake_at.is_some_and(|at| at <= now);
    ensure(!hot, "bounded-failure", || format!("after a wake at {now} the timer is {:?}", after.head.wake_at))
}

/// The end of a lease is noticed; a coordinator that is new gives workers time to be heard first.
fn check_lapses(after: &Run, now: Timestamp) -> Check {
    let is_at_work = matches!(after.head.state, RunState::Running | RunState::Canceling);
    let goes_on = is_at_work && after.head.entry.stage == Stage::Working;
    let lapse = after.jobs.iter().filter_map(JobSet::next_lapse).min().filter(|_| goes_on);
    let Some(lapse) = lapse else { return Ok(()) };
    let is_set = after.head.wake_at.is_some_and(|at| at <= lapse.max(now).plus(HEARING));
    ensure(is_set, "no-stranded-run", || format!("a lease ends at {lapse}, and the timer is {:?}", after.head.wake_at))
}

fn names_entry(event: &Event) -> Option<(EntryNo, Nonce)> {
    match event {
        Event::JobsFinished { entry, nonce, .. }
        | Event::JobsListed { entry, nonce, .. }
        | Event::Leases { entry, nonce, .. }
        | Event::ProbeReturned { entry, nonce, .. }
        | Event::PhaseFinished { entry, nonce }
        | Event::Resolved { entry, nonce, .. }
        | Event::Enumerated { entry, nonce, .. }
        | Event::Concluded { entry, nonce, .. } => Some((*entry, *nonce)),
        Event::Wake | Event::Recover | Event::Control(_) => None,
    }
}

const fn may_speak_of_lists(event: &Event) -> bool {
    matches!(event, Event::JobsFinished { .. } | Event::JobsListed { .. } | Event::Leases { .. })
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
        let beyond = places.any(|(handler, spec)| {
            let tolerated = if spec.enumerate && handler.total.is_none() { 0 } else { handler.failed };
            handler.failed > tolerated.min(allowed(spec.tolerate_failures, handler.total))
        });
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
            let of_handler = (&dispatch.name, dispatch.stored_inputs, dispatch.enumerate)
                == (&handler.name, handler.stored_inputs, handler.total.is_none());
            of_entry && of_handler && Some(&dispatch.version) == handler.version.as_ref() && !dispatch.is_empty()
        });
        ensure(fits, "fenced", || format!("{dispatch:?} is not of {entry:?}"))?;
    }
    Ok(())
}

/// A list that a handler makes itself grows by the pages of one attempt, one after another, and is nothing once that is
/// over; or it is sealed with all that was taken of it, and never changes after that.
fn check_list(before: &Run, event: &Event, after: &Run, place: usize) -> Check {
    let (old, new) = (&before.head.entry.handlers[place], &after.head.entry.handlers[place]);
    let (Some(was), Some(is)) = (old.enumeration, new.enumeration) else {
        return ensure(old.enumeration.is_none(), "one-enumeration", || format!("the list of {} is gone", old.name));
    };
    let broken = |fits: bool| ensure(fits, "one-enumeration", || format!("{was:?} became {is:?} by {event:?}"));
    let (then, now) = (JobStatus::of(before, place, 0), JobStatus::of(after, place, 0));
    let goes_on = then == now && matches!(now, JobStatus::Out(_));
    broken(goes_on || !new.is_listing() || is == Enumeration::default())?;
    if (was == is && old.total == new.total) || (new.is_listing() && !goes_on) {
        return Ok(());
    }
    broken(old.total.is_none())?;
    let of_lists = before.head.entry.nonce.of_lists();
    let stored_under = |attempt, list| before.head.entry.nonce.of_list(place as u16, attempt, list);
    let JobStatus::Out(current) = then else { return broken(false) };
    match event {
        Event::JobsListed { nonce, handler, attempt, list, first, items, .. } => {
            let is_of_attempt = (*nonce, handler, *attempt) == (of_lists, &old.name, current);
            let list = stored_under(*attempt, *list);
            let goes_on = *first == was.jobs && was.list.is_none_or(|taken| taken == list);
            broken(is_of_attempt && goes_on && new.total.is_none())?;
            broken((is.list, is.jobs) == (Some(list), was.jobs + items.as_ref().map_or(0, Vec::len) as u64))
        }
        Event::JobsFinished { nonce, handler, outcomes, .. } if new.total.is_some() => {
            let says = |outcome: &&Outcome| (outcome.status, outcome.attempt) == (Status::Done, current);
            let sealed = outcomes.iter().find(says).and_then(|outcome| outcome.output.as_ref()?.read::<Sealed>().ok());
            broken((*nonce, handler) == (of_lists, &old.name) && was == is && new.total == Some(is.jobs))?;
            let is_taken = |list| is.list.is_none_or(|taken| taken == stored_under(current, list));
            broken(sealed.is_some_and(|sealed| sealed.jobs == is.jobs && is_taken(sealed.list)))
        }
        _ => broken(false),
    }
}

/// A list was sealed: its jobs are such that were never out.
fn check_jobs_of_sealed(effects: &[Effect], after: &Run, place: usize) -> Check {
    let (handler, sent) = (&after.head.entry.handlers[place], dispatched(effects, place));
    let each = |index| JobStatus::of(after, place, index) == JobStatus::Out(1) && sent.get(&index) == Some(&vec![1]);
    let fits = (0..handler.cursor).all(each) && sent.len() as u64 == handler.cursor;
    ensure(fits && handler.done + handler.failed == 0, "one-enumeration", || format!("{handler:?} sent {sent:?}"))
}

/// Each job of one handler went where the event and the effects say, and nowhere else.
fn check_jobs(before: &Run, event: &Event, effects: &[Effect], after: &Run, place: usize) -> Check {
    let handler = &after.head.entry.handlers[place];
    let sent = dispatched(effects, place);
    let can_count = !matches!(before.head.entry.stage, Stage::Finished { .. });
    let was = &before.head.entry.handlers[place];
    if was.is_listing() && !handler.is_listing() {
        return check_jobs_of_sealed(effects, after, place);
    }
    let nonce = if was.is_listing() { before.head.entry.nonce.of_lists() } else { before.head.entry.nonce };
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
                let is_said = names_entry(event) == Some((before.head.entry.number, nonce));
                let is_taken = was.is_listing() && was.enumeration.is_some_and(|it| it.list.is_some());
                let report = reported(event, (&handler.name, index, attempt), (is_leased, is_taken));
                let report = report.filter(|_| is_said);
                let stored_under = |list| before.head.entry.nonce.of_list(place as u16, attempt, list);
                match was.is_listing() {
                    true => report_on_list(event, (was, attempt), (report, is_said), stored_under),
                    false => report,
                }
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
            retried += if was.is_listing() { 0 } else { u64::from(tries(after) - tries(before)) };
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

/// What a report on the making of a list comes to that is not sealed by it.
fn report_on_list(
    event: &Event,
    (was, attempt): (&HandlerEntry, Attempt),
    (report, is_said): (Option<Status>, bool),
    stored_under: impl Fn(Nonce) -> Nonce,
) -> Option<Status> {
    let listed = was.enumeration.unwrap_or_default();
    match event {
        Event::JobsListed { handler, attempt: of, list, first, items, .. } if *handler == was.name => {
            let is_taken = listed.list.is_none_or(|taken| taken == stored_under(*list));
            let goes_on = is_taken && (*of, *first) == (attempt, listed.jobs);
            let is_unfit = items.as_ref().map_or(true, |items| {
                let bytes: u64 = items.iter().map(|item| item.len() as u64).sum();
                listed.jobs + items.len() as u64 > MAX_LISTED_JOBS || listed.bytes + bytes > MAX_LISTED_BYTES
            });
            (goes_on && is_unfit && is_said).then_some(Status::Failed)
        }
        Event::JobsFinished { outcomes, .. } if report == Some(Status::Done) => {
            let sealed = outcomes.iter().find_map(|outcome| outcome.output.as_ref()?.read::<Sealed>().ok());
            let is_of_another =
                sealed.zip(listed.list).is_some_and(|(sealed, taken)| stored_under(sealed.list) != taken);
            (!is_of_another).then_some(Status::Failed)
        }
        _ => report,
    }
}

/// What the event first says of this attempt. That the message of a leased job came again says nothing of it, nor does
/// who makes another list than the one that is taken.
fn reported(
    event: &Event,
    (name, index, attempt): (&HandlerName, JobIndex, Attempt),
    (is_leased, is_taken): (bool, bool),
) -> Option<Status> {
    let Event::JobsFinished { handler, done, outcomes, .. } = event else { return None };
    if handler != name {
        return None;
    }
    let in_range = |&(first, count): &(JobIndex, u64)| index >= first && index - first < count;
    if attempt == 1 && done.iter().any(in_range) {
        return Some(Status::Done);
    }
    let says_nothing = |outcome: &Outcome| {
        let kind = outcome.error.as_ref().map(|error| &*error.kind);
        let came_again = is_leased && kind == Some("redelivered");
        outcome.status == Status::Returned && (came_again || is_taken && kind == Some(OTHER_LIST))
    };
    let mut outcomes = outcomes.iter().filter(|outcome| (outcome.index, outcome.attempt) == (index, attempt));
    outcomes.find(|outcome| !says_nothing(outcome)).map(|outcome| outcome.status)
}
