//! Every state that a small run can come to, whatever its messages do. Nothing is kept of what is on the wire: any
//! message that can ever have been sent may arrive at any time, any number of times, in any order, or not at all. So
//! duplicates, delays and losses are all there. A worker's death is a message handed back as redelivered, and the
//! coordinator dies in every state.

use std::collections::BTreeMap;

use crate::definition::Workflow;
use crate::message::event::ControlAction;
use crate::message::outcome::{Outcome, Status};
use crate::run::{Event, ExceptionState, HandlerEntry, Ignored, RunState, Stage};
use crate::testkit::{ApplyFn, Broken, Harness, JobStatus, Outside};
use crate::time::Millis;

/// What was found.
#[derive(Debug)]
pub(super) struct Explored {
    /// How many states, and how many ways between them.
    pub(super) states: usize,
    pub(super) steps: usize,
    /// The states in which runs came to rest, each with how often.
    pub(super) ends: BTreeMap<String, usize>,
}

/// Looks at every state that a run of `workflow` can come to when workers report any of `words`, `out` among them, and
/// orders and losses happen that are among them (`!pause`, `!recover`).
///
/// # Errors
/// The first invariant that breaks, with the way that leads there.
pub(super) fn explore(
    workflow: &Workflow,
    outside: &Outside,
    apply: ApplyFn,
    words: &[&str],
) -> Result<Explored, Broken> {
    let mut first = Harness::try_start(workflow.clone(), outside.clone(), 1)?;
    first.apply = apply;
    let mut seen = BTreeMap::from([(key(&first), 0_usize)]);
    let mut open = vec![(0, first, String::new())];
    // The ways that time and honest workers take, backwards: they lead from everywhere to a rest.
    let (mut back, mut rests, mut steps) = (vec![Vec::new()], Vec::new(), 0);
    let mut ends = BTreeMap::new();
    while let Some((id, mut harness, way)) = open.pop() {
        let told = |broken: Broken| Broken { words: format!("{}, on the way{way}", broken.words), ..broken };
        harness.crash().map_err(told)?;
        changes_nothing(&mut harness).map_err(told)?;
        if !matches!(harness.run.head.state, RunState::Running | RunState::Canceling) {
            rests.push(id);
            *ends.entry(harness.run.head.state.as_str().to_owned()).or_default() += 1;
        }
        for (what, is_honest, event) in choices(&harness, words) {
            let mut next = harness.clone();
            match what.as_str() {
                "wake" => next.move_to_timer(),
                "worker" => next.outside.absent.clear(),
                _ => {}
            }
            let told = |broken: Broken| Broken { words: format!("{} on the way{way} {what}", broken.words), ..broken };
            if next.try_deliver(&event).map_err(told)?.is_some() {
                continue;
            }
            steps += 1;
            (next.jobs, next.events, next.told) = Default::default();
            let (count, key) = (seen.len(), key(&next));
            let to = *seen.entry(key).or_insert(count);
            if to == count {
                back.push(Vec::new());
                open.push((to, next, format!("{way} {what}")));
            }
            if is_honest {
                back[to].push(id);
            }
        }
    }
    let led = reached(&back, rests);
    let stranded = seen.iter().find(|&(_, &id)| !led[id]);
    match stranded {
        None => Ok(Explored { states: seen.len(), steps, ends }),
        Some((key, _)) => Err(Broken { invariant: "no-stranded-run", words: format!("no way on from {key:?}") }),
    }
}

/// Which states have a way to a rest.
fn reached(back: &[Vec<usize>], rests: Vec<usize>) -> Vec<bool> {
    let mut led = vec![false; back.len()];
    let mut open = rests;
    while let Some(id) = open.pop() {
        if !std::mem::replace(&mut led[id], true) {
            open.extend(&back[id]);
        }
    }
    led
}

/// What may happen next and change something: its name, whether it takes neither a fault nor an order, the event.
fn choices(harness: &Harness, words: &[&str]) -> Vec<(String, bool, Event)> {
    let mut choices = vec![
        ("wake".to_owned(), true, Event::Wake),
        ("next".to_owned(), true, harness.phase_finished()),
        ("cancel".to_owned(), false, harness.cancel()),
        ("worker".to_owned(), true, Event::Wake),
    ];
    for what in words.iter().filter_map(|word| word.strip_prefix('!')) {
        let event = match what {
            "cancel" => harness.cancel_within(Millis(1000)),
            "cancel-later" => harness.cancel_within(Millis::from_mins(5)),
            "pause" => harness.order(ControlAction::Pause),
            "resume" => harness.order(ControlAction::Resume),
            "retry" if !has_been_out_often(harness) => harness.order(ControlAction::Retry),
            "rerun" if harness.run.head.entry.number < 2 => harness.order(ControlAction::Rerun),
            "recover" if !has_been_out_often(harness) => Event::Recover,
            _ => continue,
        };
        choices.push((format!("!{what}"), false, event));
    }
    for (handler, place) in harness.run.head.entry.handlers.iter().zip(0..) {
        if handler.is_listing() {
            choices.extend(pages_and_seals(harness, handler));
        }
        for index in 0..handler.cursor.min(handler.planned().unwrap_or(0)) {
            if JobStatus::of(&harness.run, place, index) == JobStatus::Ended {
                continue;
            }
            for &what in words.iter().filter(|word| !word.starts_with('!')) {
                if what == "out" && handler.is_listing() {
                    continue; // its seals are there
                }
                // Handing back is not bounded by the budget of tries, so it is bounded here.
                if matches!(what, "busy" | "unknown-handler") && harness.attempt(handler.name.as_str(), index) > 2 {
                    continue;
                }
                if what == "other-list" && harness.attempt(handler.name.as_str(), index) > 1 {
                    continue;
                }
                if what == "lease" {
                    let lease = harness.lease(handler.name.as_str(), index, None);
                    choices.push((format!("lease:{}:{index}", handler.name), false, lease));
                    continue;
                }
                let jobs = format!("{}:{index}", handler.name);
                choices.push((format!("{what}:{jobs}"), what == "out", harness.report_of(what, &jobs)));
            }
        }
    }
    choices
}

/// Every page of one job or two that goes on with a list of two makers of any attempt, and every seal of them. The makers
/// of all attempts have the same two numbers.
fn pages_and_seals(harness: &Harness, handler: &HandlerEntry) -> Vec<(String, bool, Event)> {
    let (name, listed, mut choices) = (handler.name.as_str(), handler.enumeration.unwrap_or_default(), Vec::new());
    for attempt in 1..=harness.attempt(name, 0) {
        for list in [10, 11] {
            for (first, jobs) in [(0, 1), (0, 2), (1, 1)] {
                let page = harness.page(name, attempt, list, first, jobs);
                choices.push((format!("page:{name}:{first}+{jobs}#{attempt}@{list}"), false, page));
            }
            let unfit = harness.unfit_page(name, attempt, list, listed.jobs);
            choices.push((format!("unfit:{name}:{}#{attempt}@{list}", listed.jobs), false, unfit));
            for jobs in 0..3 {
                let is_honest = jobs == listed.jobs;
                let sealed = harness.sealed(name, attempt, list, jobs);
                choices.push((format!("sealed:{name}:{jobs}#{attempt}@{list}"), is_honest, sealed));
            }
        }
    }
    choices
}

/// Losses and retries are not bounded by the budget of tries, so they are bounded here.
fn has_been_out_often(harness: &Harness) -> bool {
    let exceptions = harness.run.jobs.iter().flat_map(crate::run::JobSet::exceptions);
    exceptions.into_iter().any(|(_, exception)| exception.attempt > 1)
}

/// Delivers all that is stale, and some that never was: nothing changes.
fn changes_nothing(harness: &mut Harness) -> Result<(), Broken> {
    let entry = harness.run.head.entry.clone();
    for (handler, place) in entry.handlers.iter().zip(0..) {
        let mut outcomes = Vec::new();
        for index in (0..=handler.cursor).chain([u64::MAX]) {
            let out = match JobStatus::of(&harness.run, place, index) {
                JobStatus::Out(attempt) if !matches!(entry.stage, Stage::Finished { .. }) => Some(attempt),
                _ => None,
            };
            for attempt in (0..=5).filter(|&attempt| Some(attempt) != out) {
                for status in [Status::Done, Status::Failed, Status::Returned] {
                    outcomes.push(Outcome { index, attempt, status, output: None, error: None, details: None });
                }
            }
        }
        for (event, is_current) in stale_of_list(harness, handler, place) {
            if !is_current {
                must_be_ignored(harness, &event)?;
            }
        }
        let stale = harness.report(handler.name.as_str(), &[], outcomes);
        must_be_ignored(harness, &stale)?;
        for (entry, nonce) in [(entry.number, entry.nonce.0 ^ 1), (entry.number - 1, entry.nonce.0)] {
            let (nonce, done) = (crate::id::Nonce(nonce), vec![(0, u64::MAX)]);
            let handler = handler.name.clone();
            must_be_ignored(harness, &Event::JobsFinished { entry, nonce, handler, done, outcomes: Vec::new() })?;
            must_be_ignored(harness, &Event::PhaseFinished { entry, nonce })?;
        }
    }
    if !matches!(entry.stage, Stage::Finished { .. }) {
        must_be_ignored(harness, &harness.phase_finished())?;
    }
    Ok(())
}

/// Pages and seals of a list, each with whether it may count: those of no attempt that is out, and those that do not go
/// on where the list stands.
fn stale_of_list(harness: &Harness, handler: &HandlerEntry, place: usize) -> Vec<(Event, bool)> {
    let (name, listed) = (handler.name.as_str(), handler.enumeration.unwrap_or_default());
    let out = match JobStatus::of(&harness.run, place, 0) {
        JobStatus::Out(attempt) if handler.is_listing() => Some(attempt),
        _ => None,
    };
    let mut events = Vec::new();
    for attempt in 0..=5 {
        let is_out = out == Some(attempt) && !matches!(harness.run.head.entry.stage, Stage::Finished { .. });
        for (list, first) in [10, 11, 99].into_iter().flat_map(|list| (0..4).map(move |first| (list, first))) {
            let nonce = harness.run.head.entry.nonce;
            let is_taken = |taken| taken == nonce.of_list(place as u16, attempt, crate::id::Nonce(list));
            let is_taken = listed.list.is_none_or(is_taken);
            let goes_on = is_out && is_taken && first == listed.jobs;
            events.push((harness.page(name, attempt, list, first, 1), goes_on));
            events.push((harness.unfit_page(name, attempt, list, first), goes_on));
            events.push((harness.sealed(name, attempt, list, first), is_out && is_taken));
        }
        events.push((harness.page(name, attempt, 10, listed.jobs, 0), false));
    }
    events
}

fn must_be_ignored(harness: &mut Harness, event: &Event) -> Result<(), Broken> {
    match harness.try_apply(event)? {
        Some(Ignored::NothingDue | Ignored::AlreadyStarted) | None => {
            Err(Broken { invariant: "fenced", words: format!("{event:?} was not taken for stale") })
        }
        Some(_) => Ok(()),
    }
}

/// What makes two states the same for all that can happen afterwards. Jobs of a handler whose window holds them all
/// are alike, so their order does not matter; nor does what time it is.
fn key(harness: &Harness) -> Vec<u64> {
    let (head, now) = (&harness.run.head, harness.now);
    let stage = match head.entry.stage {
        Stage::Working => 0,
        Stage::Halted => 1,
        Stage::Finished { status, .. } => 2 + status as u64,
    };
    let until = |at: Option<crate::time::Timestamp>| at.map_or(u64::MAX, |at| at.since(now).0);
    let here = harness.outside.absent.is_empty();
    let flags = u64::from(head.on_error_path) + 2 * u64::from(head.awaits_worker) + 4 * u64::from(here);
    let deadline = until(head.canceling.as_ref().map(|canceling| canceling.deadline));
    let mut key = vec![head.state as u64, u64::from(head.entry.number), stage, flags, until(head.wake_at), deadline];
    let quiet = head.entry.handlers.iter().flat_map(|handler| {
        let probe = handler.probe.map_or([0; 2], |it| [1 + it.cursor, u64::from(it.returned_at.is_some())]);
        [probe[0], probe[1], u64::from(handler.unmanned_since.is_some())]
    });
    key.extend(quiet);
    for (handler, (jobs, place)) in head.entry.handlers.iter().zip(harness.run.jobs.iter().zip(0..)) {
        key.extend([u64::from(handler.version.is_some()), handler.cursor, handler.done, handler.failed]);
        let listed = handler.enumeration.unwrap_or_default();
        let taken = listed.list.filter(|_| handler.is_listing()).map_or(0, |list| list.0);
        key.extend([u64::from(handler.is_listing()), taken, listed.jobs]);
        let describe = |index| match (JobStatus::of(&harness.run, place, index), jobs.exception(index)) {
            (JobStatus::Ended, None) => [0; 4],
            (_, None) => [1; 4],
            (_, Some(exception)) => {
                let waits = match exception.state {
                    ExceptionState::Out => u64::MAX,
                    ExceptionState::Failed => u64::MAX - 1,
                    ExceptionState::Waiting(at) => at.since(now).0,
                    ExceptionState::Leased(lease) => (1 << 32) + lease.until.since(now).0,
                };
                let (tries, lost) = (u64::from(exception.failed_tries), u64::from(exception.redelivered));
                [u64::from(exception.attempt), tries, lost, waits]
            }
        };
        let mut each: Vec<_> = (0..handler.cursor).map(describe).collect();
        if handler.total.is_some_and(|total| total <= u64::from(handler.window)) {
            each.sort_unstable();
        }
        key.extend(each.concat());
    }
    key
}
