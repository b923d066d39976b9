//! What once broke, or would break first: limits, garbage, floods, damage.

use super::{guarded, plain};
use crate::definition::Tolerance;
use crate::id::{HandlerName, PhaseName};
use crate::message::outcome::{JobError, Outcome, Status};
use crate::run::{Event, Ignored, MAX_ENTRIES, Run, RunState, Step, apply};
use crate::testkit::{Harness, Outside, check_state, check_step, final_phase, handler, phase, workflow};

/// Applies an event outside of the harness's commits, which would not take a run that was tampered with.
#[track_caller]
fn apply_to(harness: &mut Harness, event: &Event) -> Option<Ignored> {
    let (before, moment) = (harness.run.clone(), harness.moment());
    let step = apply(&harness.workflow, &mut harness.run, event, moment);
    check_step(&harness.workflow, &before, (event, moment.now), &step, &harness.run).unwrap();
    check_state(&harness.workflow, &harness.run).unwrap();
    match step {
        Step::Changed { .. } => None,
        Step::Ignored(why) => Some(why),
    }
}

#[test]
fn a_run_that_goes_round_for_ever_halts() {
    let round = phase("work").to("end").on_error("work").handler(handler("a").count(3));
    let mut harness = Harness::start(workflow("round").phase(round).phase(final_phase("end")).build());
    harness.run.head.entry.number = MAX_ENTRIES;
    let failed = harness.report_of("fatal", "a:1");
    assert_eq!(apply_to(&mut harness, &failed), None);
    let end = harness.phase_finished();
    assert_eq!(apply_to(&mut harness, &end), None);
    assert_eq!((harness.run.head.state, harness.run.head.entry.number), (RunState::Halted, MAX_ENTRIES));
    let halted = harness.run.clone();
    for event in [&failed, &harness.outcome("a", 0, 1, Status::Done), &end] {
        assert_eq!(apply_to(&mut harness, event), Some(Ignored::TooLate), "{event:?}");
    }
    assert_eq!(apply_to(&mut harness, &Event::Wake), Some(Ignored::NothingDue));
    assert_eq!(harness.run, halted);
    let cancel = harness.cancel();
    assert_eq!(apply_to(&mut harness, &cancel), None);
    assert_eq!(harness.run.head.state, RunState::Canceled);
}

#[test]
fn a_report_of_everything_over_and_over_costs_little() {
    let jobs = 200_000;
    let mut harness = Harness::start(plain(handler("a").count(jobs).window(jobs as u32)));
    let moment = harness.moment();
    let mut report = |ranges: &[(u64, u64)]| {
        let event = harness.report("a", ranges, Vec::new());
        let step = apply(&harness.workflow, &mut harness.run, &event, moment);
        (step, harness.run.head.entry.handlers[0].clone())
    };
    assert_eq!(report(&[(0, jobs - 1)]).1.out, 1);
    let everything = vec![(0, u64::MAX); 100_000];
    let (step, handler) = report(&everything);
    assert!(matches!(step, Step::Changed { .. }) && handler.is_finished() && handler.done == jobs);
    assert_eq!(report(&everything).0, Step::Ignored(Ignored::TooLate));
}

#[test]
fn a_run_says_which_job_took_it_off_its_way() {
    for (workflow, script, expected) in [
        (plain(handler("a").count(9)), "done:a:0 fatal:a:7", Some(7)),
        (guarded(handler("a").count(9)), "done:a:0 fatal:a:7", Some(7)),
        (guarded(handler("a").count(9).tolerate(Tolerance::Count(1))), "fatal:a:7 crash fatal:a:2", Some(7)),
    ] {
        let mut harness = Harness::start(workflow);
        let cause = harness.play(script).run.head.cause.clone().unwrap();
        assert_eq!((cause.handler.unwrap().as_str(), cause.index), ("a", expected), "{script}");
    }
}

#[test]
fn a_long_error_does_not_swell_the_head() {
    let long = "é".repeat(1_000_000);
    let mut harness = Harness::start(guarded(handler("a").count(2)));
    let error = JobError::new(&long, long.clone()).for_good();
    let outcome = Outcome {
        index: 1,
        attempt: 1,
        status: Status::Failed,
        output: None,
        error: Some(error.clone()),
        details: None,
    };
    let report = harness.report("a", &[], vec![outcome]);
    harness.deliver(&report);
    let kept = &harness.stored.failures[0].error;
    assert!((16_000..=16_384).contains(&kept.message.len()) && kept.kind.len() <= 100 && !kept.retry, "{}", kept.kind);
    assert!(harness.run.head.to_json().len() < 10_000);

    let outside = Outside { lists: [(HandlerName::new("a").unwrap(), Err(error))].into(), ..Outside::default() };
    let harness = Harness::start_with(plain(handler("a").each("data")), outside);
    assert!(harness.run.head.to_json().len() < 10_000);
    assert!(serde_json::to_vec(&harness.stored.history).unwrap().len() < 10_000);
}

#[test]
fn state_that_does_not_fit_together_does_not_bring_the_coordinator_down() {
    let two = || guarded(handler("a").count(2));
    let damages: [fn(&mut Harness); 5] = [
        |harness| harness.run = Run::from_parts(harness.run.head.clone(), Vec::new()),
        |harness| harness.run.head.entry.handlers.clear(),
        |harness| harness.run.head.entry.handlers[0].name = HandlerName::new("b").unwrap(),
        |harness| harness.run.head.entry.phase = PhaseName::new("nowhere").unwrap(),
        |harness| harness.run.head.entry.handlers[0].out = 0,
    ];
    for damage in damages {
        let sound = Harness::start(two());
        let (done, end) = (sound.report_of("done", "a:0"), sound.phase_finished());
        let (lease, fatal) = (sound.lease("a", 1, None), sound.report_of("fatal", "a:1"));
        for event in [done, lease, fatal, end, Event::Wake, sound.cancel()] {
            let mut harness = sound.clone();
            damage(&mut harness);
            harness.run = Run::from_parts(harness.run.head.clone(), harness.run.jobs.clone());
            let moment = harness.moment();
            let _step = apply(&harness.workflow, &mut harness.run, &event, moment);
        }
    }
}

#[test]
fn outputs_that_go_are_not_written() {
    let round = phase("work").to("end").on_error("work").handler(handler("a").count(3));
    let mut harness = Harness::start(workflow("round").phase(round).phase(final_phase("end")).build());
    for _ in 0..2 {
        // All in one commit, as when a batch of events goes round the loop.
        let reports =
            [("out", "a:0"), ("fail", "a:2"), ("fatal", "a:1")].map(|(what, job)| harness.report_of(what, job));
        for event in reports.into_iter().chain([harness.phase_finished()]) {
            assert_eq!(harness.try_apply(&event), Ok(None));
        }
    }
    let delta = harness.run.take_delta();
    let pages: Vec<_> = delta.outputs.iter().map(|page| page.entry).collect();
    let gone: Vec<_> = delta.forget_outputs.iter().map(|gone| gone.entry).collect();
    assert_eq!((pages, gone), (vec![2], vec![1]));
    assert!(delta.bits.is_empty() && delta.exceptions.is_empty(), "{delta:?}");
    assert_eq!(delta.forget_jobs.iter().map(|gone| gone.entry).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(delta.failures.iter().map(|failure| failure.entry).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn an_outcome_costs_the_same_however_large_the_run_is() {
    // A million jobs that end one report at a time, each in debug some microseconds: walking the run would take hours.
    let jobs = 1_000_000;
    let mut harness = Harness::start(plain(handler("a").count(jobs)));
    let moment = harness.moment();
    for index in 0..20_000 {
        let report = harness.outcome("a", index, 1, Status::Done);
        let step = apply(&harness.workflow, &mut harness.run, &report, moment);
        assert!(matches!(step, Step::Changed { .. }), "{index}");
    }
    let delta = harness.run.take_delta();
    assert_eq!(delta.bits.iter().map(|patch| patch.bytes.len()).collect::<Vec<_>>(), [2500]);
}
