//! The checks can fail: transition functions that are broken on purpose are caught, each by the invariant it breaks.

use super::explore::explore;
use crate::definition::Workflow;
use crate::message::listing::Sealed;
use crate::message::outcome::Status;
use crate::payload::Payload;
use crate::run::{Bitmap, Effect, Enumeration, Event, JobSet, Moment, Run, RunState, Stage, Step, apply};
use crate::testkit::{ApplyFn, JobStatus, Outside, final_phase, handler, phase, workflow};

/// Lets every outcome pass for one of the attempt that is out.
fn no_fence(workflow: &Workflow, run: &mut Run, event: &Event, moment: Moment) -> Step {
    let mut event = event.clone();
    if let Event::JobsFinished { outcomes, handler, .. } = &mut event
        && let Some(place) = run.head.entry.handlers.iter().position(|it| it.name == *handler)
    {
        for outcome in outcomes {
            if let JobStatus::Out(attempt) = JobStatus::of(run, place, outcome.index) {
                outcome.attempt = attempt;
            }
        }
    }
    apply(workflow, run, &event, moment)
}

/// Lets every end of a phase pass for that of the current one.
fn no_entry_check(workflow: &Workflow, run: &mut Run, event: &Event, moment: Moment) -> Step {
    let (number, current) = (run.head.entry.number, run.head.entry.nonce);
    let event = match event {
        Event::PhaseFinished { .. } => Event::PhaseFinished { entry: number, nonce: current },
        _ => event.clone(),
    };
    apply(workflow, run, &event, moment)
}

/// Changes the effects of a step.
fn with_effects(step: Step, change: impl FnOnce(&mut Vec<Effect>)) -> Step {
    match step {
        Step::Changed { mut effects, questions } => {
            change(&mut effects);
            Step::Changed { effects, questions }
        }
        ignored @ Step::Ignored(_) => ignored,
    }
}

fn forgets_to_dispatch(workflow: &Workflow, run: &mut Run, event: &Event, moment: Moment) -> Step {
    let step = apply(workflow, run, event, moment);
    with_effects(step, |effects| effects.retain(|effect| !matches!(effect, Effect::Dispatch(_))))
}

fn dispatches_twice(workflow: &Workflow, run: &mut Run, event: &Event, moment: Moment) -> Step {
    let step = apply(workflow, run, event, moment);
    with_effects(step, |effects| {
        let again: Vec<_> = effects.iter().filter(|effect| matches!(effect, Effect::Dispatch(_))).cloned().collect();
        effects.extend(again);
    })
}

fn announces_nothing(workflow: &Workflow, run: &mut Run, event: &Event, moment: Moment) -> Step {
    let step = apply(workflow, run, event, moment);
    with_effects(step, |effects| effects.retain(|effect| !matches!(effect, Effect::Announce(_))))
}

fn sets_no_timer(workflow: &Workflow, run: &mut Run, event: &Event, moment: Moment) -> Step {
    let step = apply(workflow, run, event, moment);
    if let Step::Changed { .. } = step {
        run.head.wake_at = None;
    }
    step
}

fn leaves_the_timer_due(workflow: &Workflow, run: &mut Run, event: &Event, moment: Moment) -> Step {
    let due = run.head.wake_at;
    let step = apply(workflow, run, event, moment);
    if matches!((event, &step), (Event::Wake, Step::Changed { .. })) {
        run.head.wake_at = due;
    }
    step
}

/// Loses the record that a job has ended once another one does.
fn forgets_a_job(workflow: &Workflow, run: &mut Run, event: &Event, moment: Moment) -> Step {
    let step = apply(workflow, run, event, moment);
    for jobs in run.jobs.iter_mut().filter(|jobs| jobs.terminal.count() == 2) {
        *jobs =
            JobSet::from_parts(Bitmap::from_bytes(vec![1]), jobs.exceptions().map(|(index, it)| (index, it.clone())));
    }
    step
}

fn takes_failures_for_successes(workflow: &Workflow, run: &mut Run, event: &Event, moment: Moment) -> Step {
    let mut event = event.clone();
    if let Event::JobsFinished { outcomes, .. } = &mut event {
        outcomes.iter_mut().for_each(|outcome| outcome.status = Status::Done);
    }
    apply(workflow, run, &event, moment)
}

fn finishes_early(workflow: &Workflow, run: &mut Run, event: &Event, moment: Moment) -> Step {
    let lacks_one = |run: &Run| run.head.entry.handlers.iter().map(|it| it.done + 1).sum::<u64>() > 4;
    let step = apply(workflow, run, event, moment);
    if run.head.entry.stage == Stage::Working && lacks_one(run) {
        let status = crate::message::event::PhaseStatus::Succeeded;
        run.head.entry.stage = Stage::Finished { status, at: moment.now };
    }
    step
}

fn ignores_and_changes(workflow: &Workflow, run: &mut Run, event: &Event, moment: Moment) -> Step {
    let step = apply(workflow, run, event, moment);
    if let Step::Ignored(_) = step {
        run.head.has_output = true;
    }
    step
}

fn skips_a_number(workflow: &Workflow, run: &mut Run, event: &Event, moment: Moment) -> Step {
    let step = apply(workflow, run, event, moment);
    if let (Event::PhaseFinished { .. }, Step::Changed { .. }) = (event, &step) {
        run.head.events += 1;
    }
    step
}

fn writes_nothing_down(workflow: &Workflow, run: &mut Run, event: &Event, moment: Moment) -> Step {
    let step = apply(workflow, run, event, moment);
    if let (Event::JobsFinished { .. }, Step::Changed { .. }) = (event, &step) {
        let _lost = run.take_delta();
    }
    step
}

fn goes_on_after_the_end(workflow: &Workflow, run: &mut Run, event: &Event, moment: Moment) -> Step {
    if run.head.state == RunState::Canceled && matches!(event, Event::PhaseFinished { .. }) {
        run.head.state = RunState::Succeeded;
        return Step::Changed { effects: Vec::new(), questions: Vec::new() };
    }
    apply(workflow, run, event, moment)
}

fn lets_one_more_out(workflow: &Workflow, run: &mut Run, event: &Event, moment: Moment) -> Step {
    let widen = |run: &mut Run, by: i64| {
        for handler in &mut run.head.entry.handlers {
            handler.window = handler.window.saturating_add_signed(i32::try_from(by).unwrap());
        }
    };
    widen(run, 1);
    let step = apply(workflow, run, event, moment);
    widen(run, -1);
    step
}

/// Takes pages of whatever list, and of whatever attempt, where its own stands.
fn mixes_lists(workflow: &Workflow, run: &mut Run, event: &Event, moment: Moment) -> Step {
    let (before, mut event) = (run.head.entry.clone(), event.clone());
    if let Event::JobsListed { handler, attempt, list, first, .. } = &mut event
        && let Some(place) = before.handlers.iter().position(|it| it.name == *handler)
        && let (Some(listed), JobStatus::Out(current)) =
            (before.handlers[place].enumeration, JobStatus::of(run, place, 0))
    {
        (*attempt, *first) = (current, listed.jobs);
        let list = listed.list.and(Some(before.nonce.of_list(place as u16, current, *list)));
        run.head.entry.handlers[place].enumeration = Some(Enumeration { list, ..listed });
    }
    let step = apply(workflow, run, &event, moment);
    if let Step::Ignored(_) = step {
        run.head.entry = before;
    }
    step
}

/// Seals a list with what has come of it, whatever it was to be.
fn seals_early(workflow: &Workflow, run: &mut Run, event: &Event, moment: Moment) -> Step {
    let mut event = event.clone();
    if let Event::JobsFinished { handler, outcomes, .. } = &mut event
        && let Some(listed) =
            run.head.entry.handlers.iter().find(|it| it.name == *handler).and_then(|it| it.enumeration)
    {
        for outcome in outcomes.iter_mut() {
            let sealed = outcome.output.as_ref().and_then(|output| output.read::<Sealed>().ok());
            let sealed = sealed.map(|sealed| Sealed { jobs: listed.jobs, ..sealed });
            outcome.output = sealed.and_then(|sealed| Payload::of(&sealed).ok());
        }
    }
    apply(workflow, run, &event, moment)
}

/// Keeps what an attempt has listed for the next one.
fn keeps_pages(workflow: &Workflow, run: &mut Run, event: &Event, moment: Moment) -> Step {
    let before: Vec<_> = run.head.entry.handlers.iter().map(|handler| handler.enumeration).collect();
    let step = apply(workflow, run, event, moment);
    for (handler, before) in run.head.entry.handlers.iter_mut().zip(before) {
        if handler.enumeration.is_some_and(|listed| listed.list.is_none()) && before.is_some() {
            handler.enumeration = before;
        }
    }
    step
}

#[test]
fn lists_that_are_mixed_are_caught() {
    let lister = || handler("a").enumerates().tries(2).window(1);
    let small = workflow("small").phase(phase("work").to("end").handler(lister())).phase(final_phase("end")).build();
    for (number, apply) in [mixes_lists as ApplyFn, seals_early, keeps_pages].into_iter().enumerate() {
        let found = explore(&small, &Outside::default(), apply, &["out", "fail", "redelivered"]);
        let caught = found.as_ref().map_err(|broken| broken.invariant);
        assert_eq!(caught.err(), Some("one-enumeration"), "number {number}: {found:?}");
    }
}

#[test]
fn what_is_broken_is_caught() {
    let job = |name| handler(name).count(2).tries(2).window(1);
    let work = phase("work").to("end").on_error("end").handler(job("a")).handler(job("b").window(2));
    let small = workflow("small").phase(work).phase(final_phase("end").handler("c")).build();
    let sound = explore(&small, &Outside::default(), apply, &["out", "fail"]);
    assert!(sound.is_ok(), "{sound:?}");
    let broken: [(ApplyFn, &str); 15] = [
        (no_fence, "fenced"),
        (no_entry_check, "fenced"),
        (forgets_to_dispatch, "no-stranded-run"),
        (dispatches_twice, "fenced"),
        (announces_nothing, "no-stranded-run"),
        (sets_no_timer, "no-stranded-run"),
        (leaves_the_timer_due, "bounded-failure"),
        (forgets_a_job, "counted-once"),
        (takes_failures_for_successes, "counted-once"),
        (finishes_early, "fan-in-exact"),
        (ignores_and_changes, "fenced"),
        (skips_a_number, "history-true"),
        (writes_nothing_down, "durable"),
        (goes_on_after_the_end, "one-end"),
        (lets_one_more_out, "limits-hold"),
    ];
    for (number, (apply, invariant)) in broken.into_iter().enumerate() {
        let found = explore(&small, &Outside::default(), apply, &["out", "fail"]);
        let caught = found.as_ref().map_err(|broken| broken.invariant);
        assert_eq!(caught.err(), Some(invariant), "number {number}: {found:?}");
    }
}
