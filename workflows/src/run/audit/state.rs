//! What holds of a run between commits, whatever happened to it.

use super::{Check, ensure};
use crate::definition::{MAX_IN_FLIGHT, Workflow};
use crate::run::{ExceptionState, HandlerEntry, JobSet, Run, RunState, Stage};

/// Checks a run whose questions are answered.
///
/// # Errors
/// The first invariant that does not hold.
pub fn check_state(workflow: &Workflow, run: &Run) -> Check {
    let head = &run.head;
    let entry = &head.entry;
    let fits = match head.state {
        RunState::Running => entry.stage != Stage::Halted,
        RunState::Halted => entry.stage != Stage::Working,
        RunState::Paused => entry.stage != Stage::Halted,
        RunState::Canceling => !matches!(entry.stage, Stage::Finished { .. }),
        RunState::Succeeded | RunState::Failed | RunState::Canceled => true,
    };
    ensure(fits, "one-end", || format!("the run is {:?} and its entry {:?}", head.state, entry.stage))?;
    ensure(head.ended_at.is_some() == head.state.is_ended(), "one-end", || format!("ended at {:?}", head.ended_at))?;
    ensure(workflow.phase(&entry.phase).is_some(), "pinned", || format!("there is no phase {:?}", entry.phase))?;
    check_jobs(workflow, run)?;
    if head.state == RunState::Canceling {
        let is_out = entry.handlers.iter().any(|handler| handler.out > 0);
        let ends = head.wake_at.is_some() && head.canceling.is_some() && is_out;
        ensure(ends, "no-stranded-run", || "a run is to end and waits for nothing".into())?;
        let deadline = head.canceling.as_ref().map(|canceling| canceling.deadline);
        ensure(head.wake_at <= deadline, "no-stranded-run", || {
            format!("a run that is to end by {deadline:?} waits until {:?}", head.wake_at)
        })?;
    } else if head.state != RunState::Running {
        let is_still = head.wake_at.is_none() && !head.awaits_worker;
        ensure(is_still, "one-end", || "a run that does not go on has a timer".into())?;
    }
    if head.state.is_ended() {
        return ensure(run.jobs.iter().all(|jobs| *jobs == JobSet::default()), "forgotten", || "jobs are kept".into());
    }
    for HandlerEntry { name, out, window, .. } in &entry.handlers {
        ensure(*out <= u64::from(*window), "limits-hold", || format!("{name}: {out} are out of a window of {window}"))?;
    }
    match (head.state, entry.stage) {
        (RunState::Running, Stage::Working) => check_working(run),
        (RunState::Running, Stage::Finished { .. }) => ensure(head.wake_at.is_some(), "no-stranded-run", || {
            "an entry has finished, and nothing announces it again".into()
        }),
        (RunState::Running, Stage::Halted) => Ok(()),
        (RunState::Halted | RunState::Paused | RunState::Canceling, _) => Ok(()),
        (RunState::Succeeded | RunState::Failed | RunState::Canceled, _) => Ok(()),
    }
}

/// Checks that where the jobs of a live run stand is what its head counts, and that its handlers are those of its phase.
/// Where it is not so, there is no telling what is still to be done, and what follows from wrong numbers has no bounds.
///
/// # Errors
/// The first thing that does not add up.
pub fn check_jobs(workflow: &Workflow, run: &Run) -> Check {
    let handlers = &run.head.entry.handlers;
    ensure(run.jobs.len() == handlers.len(), "durable", || "handlers and job sets differ in number".into())?;
    if run.head.state.is_ended() {
        return Ok(());
    }
    let phase = workflow.phase(&run.head.entry.phase);
    let defined = phase.map(|phase| phase.handlers.iter().map(|handler| &handler.name));
    let fits = defined.is_some_and(|defined| defined.eq(handlers.iter().map(|handler| &handler.name)));
    ensure(fits, "pinned", || format!("the handlers of {:?} are others", run.head.entry.phase))?;
    handlers.iter().zip(&run.jobs).try_for_each(|(handler, jobs)| check_counters(handler, jobs))
}

/// The counters are what the jobs themselves come to.
fn check_counters(handler: &HandlerEntry, jobs: &JobSet) -> Check {
    let HandlerEntry { name, cursor, out, done, failed, waiting, window, .. } = handler;
    // What is out without a record is all that could cost more than it takes to store.
    let is_possible = *window <= MAX_IN_FLIGHT && handler.unleased() <= u64::from(MAX_IN_FLIGHT);
    ensure(is_possible, "limits-hold", || format!("{name}: {out} are out of a window of {window}"))?;
    let ended = jobs.terminal.count();
    // Damaged numbers may be of any size.
    let is_counted = Some(ended) == done.checked_add(*failed);
    ensure(is_counted, "counted-once", || format!("{name}: {ended} ended, counted {done} + {failed}"))?;
    let accounted = ended.saturating_add(*out).saturating_add(*waiting);
    ensure(accounted == *cursor, "counted-once", || format!("{name}: {accounted} jobs of {cursor} are accounted for"))?;
    let last = jobs.terminal.last();
    ensure(last.is_none_or(|last| last < *cursor), "counted-once", || {
        format!("{name}: {last:?} ended and never began")
    })?;
    let in_total = handler.planned().is_none_or(|total| accounted + handler.undispatched() == total);
    ensure(in_total, "counted-once", || format!("{name}: {handler:?} does not add up"))?;
    let sealed = handler.total.is_some() || *cursor == 0 || handler.is_listing() && *cursor == 1;
    ensure(sealed, "one-enumeration", || format!("{name}: jobs went out before the list was sealed"))?;
    let listed = handler.enumeration.map_or(handler.total, |listed| handler.total.map(|_| listed.jobs));
    ensure(listed == handler.total, "one-enumeration", || format!("{name}: {:?} of {listed:?} jobs", handler.total))?;
    let waits = |state| matches!(state, ExceptionState::Waiting(_));
    let really_waiting = jobs.exceptions().filter(|(_, exception)| waits(exception.state)).count() as u64;
    ensure(really_waiting == *waiting, "counted-once", || format!("{name}: {really_waiting} wait, counted {waiting}"))?;
    let really_failed = jobs.exceptions().filter(|(_, it)| it.state == ExceptionState::Failed).count() as u64;
    // Fewer in an entry that was begun by a version that kept no records of them.
    ensure(really_failed <= *failed, "counted-once", || format!("{name}: {really_failed} failed, counted {failed}"))?;
    let really_leased =
        jobs.exceptions().filter(|(_, it)| matches!(it.state, ExceptionState::Leased(_))).count() as u64;
    let leased = handler.leased;
    ensure(really_leased == leased, "counted-once", || format!("{name}: {really_leased} leased, counted {leased}"))?;
    for (index, exception) in jobs.exceptions() {
        let has_failed = exception.state == ExceptionState::Failed;
        let fits = index < *cursor && jobs.terminal.contains(index) == has_failed;
        ensure(fits, "counted-once", || format!("{name}: job {index} is past or beyond, and has {exception:?}"))?;
    }
    Ok(())
}

/// A working entry waits for something that exists.
fn check_working(run: &Run) -> Check {
    let head = &run.head;
    let is_done = head.entry.handlers.iter().all(|handler| handler.total == Some(handler.done + handler.failed));
    ensure(!is_done, "fan-in-exact", || "every job has come to its end, and the entry still works".into())?;
    let mut awaits_worker = false;
    for (handler, jobs) in head.entry.handlers.iter().zip(&run.jobs) {
        let name = &handler.name;
        ensure(handler.planned().is_some(), "one-enumeration", || format!("{name}: nobody makes its list"))?;
        let is_done = handler.total == Some(handler.done + handler.failed);
        awaits_worker |= handler.unmanned_since.is_some() && !is_done;
        let is_known = handler.version.is_some() || handler.unmanned_since.is_some() || handler.total == Some(0);
        ensure(is_known, "no-stranded-run", || format!("{name}: nobody looks for a worker"))?;
        ensure(handler.out == 0 || head.wake_at.is_some(), "no-stranded-run", || {
            format!("{name}: jobs are out, and nobody would ever ask after them")
        })?;
        if let Some(lapse) = jobs.next_lapse() {
            // How late it may be depends on when its coordinator was new, which a state does not tell.
            ensure(head.wake_at.is_some(), "no-stranded-run", || {
                format!("{name}: a lease ends at {lapse}, unnoticed")
            })?;
        }
        let has_room = handler.out < u64::from(handler.window);
        if let (true, Some(due)) = (has_room, jobs.next_due()) {
            let is_set = head.wake_at.is_some_and(|at| at <= due);
            ensure(is_set, "no-stranded-run", || {
                format!("{name}: a job is due at {due}, the timer {:?}", head.wake_at)
            })?;
        }
        let may_go = handler.version.is_some() && handler.undispatched() > 0;
        let is_stuck = may_go && handler.out == 0;
        ensure(!is_stuck, "no-stranded-run", || format!("{name}: nothing is out, and jobs are left"))?;
    }
    ensure(head.awaits_worker == awaits_worker, "no-stranded-run", || {
        format!("it awaits a worker: {awaits_worker}, and says {}", head.awaits_worker)
    })?;
    ensure(!awaits_worker || head.wake_at.is_some(), "no-stranded-run", || "it never looks for workers again".into())
}
