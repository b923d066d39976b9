//! Entering, finishing and leaving phases; how runs end.

use semver::Version;

use super::{check, check_outside, guarded, plain};
use crate::definition::Workflow;
use crate::message::notice::LifecycleEvent;
use crate::message::outcome::{JobError, Status};
use crate::payload::Payload;
use crate::run::{Event, Ignored, Listing, Resolution};
use crate::testkit::{Harness, Outside, WorkflowBuilder, final_phase, handler, phase, workflow};

fn name(text: &str) -> crate::id::HandlerName {
    crate::id::HandlerName::new(text).unwrap()
}

#[test]
fn a_phase_is_left_when_its_jobs_are_done() {
    check(
        &plain("a"),
        &[
            ("", "running work#1, a out 1"),
            ("done:a:0", "running work#1 finished, a done 1"),
            ("done:a:0 next", "running end#2 finished"),
            ("done:a:0 next next", "succeeded end#2"),
        ],
    );
    check(&plain(handler("a").count(0)), &[("", "running work#1 finished, a"), ("next next", "succeeded end#2")]);
    check(
        &plain(handler("a").count(3)),
        &[
            ("done:a:2 done:a:0", "running work#1, a out 1 done 2"),
            ("done:a:0-2", "running work#1 finished, a done 3"),
            ("done:a:1 crash done:a:0 crash done:a:2 crash next crash next", "succeeded end#2"),
        ],
    );
}

#[test]
fn a_start_that_comes_twice_makes_the_same_run() {
    // The store takes the first commit only; what a second coordinator makes of the same order must not differ.
    let (one, two) = (Harness::start(plain("a")), Harness::start(plain("a")));
    assert_eq!((&one.run, &one.stored, &one.told), (&two.run, &two.stored, &two.told));
    let started = one.told.iter().filter(|told| told.event == LifecycleEvent::RunStarted).count();
    assert_eq!((started, one.told.len(), one.stored.version), (1, 1, 1));
}

#[test]
fn a_phase_waits_for_all_its_handlers() {
    let work = phase("work").to("end").handler(handler("a").count(2)).handler("b").handler(handler("c").count(0));
    check(
        &workflow("several").phase(work).phase(final_phase("end")).build(),
        &[
            ("", "running work#1, a out 2, b out 1, c"),
            ("done:a:0-1", "running work#1, a done 2, b out 1, c"),
            ("done:b:0 done:a:0-1", "running work#1 finished, a done 2, b done 1, c"),
            ("done:b:0 done:a:0-1 next next", "succeeded end#2"),
        ],
    );
}

#[test]
fn a_phase_without_handlers_is_passed_through() {
    let passed = ["one", "two", "three"].windows(2).map(|pair| phase(pair[0]).to(pair[1]));
    let chain = passed.fold(workflow("chain"), WorkflowBuilder::phase);
    check(
        &chain.phase(final_phase("three")).build(),
        &[
            ("", "running one#1 finished"),
            ("next", "running two#2 finished"),
            ("next next", "running three#3 finished"),
            ("next next next", "succeeded three#3"),
        ],
    );
    check(
        &workflow("shortest").phase(final_phase("all")).build(),
        &[("", "running all#1 finished"), ("next next=run-ended", "succeeded all#1")],
    );
}

#[test]
fn an_end_that_is_not_heard_is_announced_again() {
    let mut harness = Harness::start(plain("a"));
    harness.play("done:a:0 29999 look=nothing-due wake wake wake");
    assert_eq!(harness.events.len(), 4, "{:?}", harness.events);
    assert!(harness.events.iter().all(|event| *event == harness.phase_finished()));
    harness.play("next look=nothing-due next next=run-ended look=run-ended");
}

#[test]
fn what_is_of_another_entry_or_a_lost_timeline_changes_nothing() {
    let mut harness = Harness::start(guarded(handler("a").count(2)));
    let (outcome, end) = (harness.outcome("a", 0, 1, Status::Done), harness.phase_finished());
    let lost = Harness::try_start(guarded(handler("a").count(2)), Outside::default(), 2).unwrap();
    harness.play("fatal:a:1");
    for (script, expected) in [("", [Ignored::TooLate, Ignored::OtherEntry]), ("next", [Ignored::OtherEntry; 2])] {
        harness.play(script);
        for (event, expected) in [(&outcome, expected[0]), (&lost.phase_finished(), expected[1])] {
            assert_eq!(harness.deliver(event), Some(expected), "{event:?} after `{script}`");
        }
    }
    assert_eq!(harness.deliver(&end), Some(Ignored::OtherEntry));
    assert_eq!(harness.deliver(&lost.outcome("a", 0, 1, Status::Done)), Some(Ignored::OtherEntry));
}

#[test]
fn an_end_moves_a_run_on_once() {
    let mut harness = Harness::start(plain("a"));
    let early = harness.phase_finished();
    assert_eq!(harness.deliver(&early), Some(Ignored::TooLate));
    harness.play("done:a:0 next");
    assert_eq!(harness.deliver(&early), Some(Ignored::OtherEntry));
    harness.play("next");
    assert_eq!(harness.deliver(&early), Some(Ignored::RunEnded));
}

#[test]
fn a_job_that_failed_for_good_takes_the_error_transition() {
    check(
        &guarded(handler("a").count(3)),
        &[
            ("fatal:a:1", "running work#1 finished failed, a out 2 failed 1, because error"),
            ("fatal:a:1 next", "running oops#2 finished, because error"),
            ("fatal:a:1 done:a:0=too-late next next", "failed oops#2, because error"),
        ],
    );
}

#[test]
fn without_an_error_transition_a_run_halts_and_still_counts() {
    check(
        &plain(handler("a").count(4).window(3)),
        &[
            ("fatal:a:1", "halted work#1, a out 2 failed 1 left 1, because error"),
            ("fatal:a:1 done:a:0 done:a:0=stale", "halted work#1, a out 1 done 1 failed 1 left 1, because error"),
            ("fatal:a:1 fail:a:0 fatal:a:2", "halted work#1, a waiting 1 failed 2 left 1, because error"),
            ("fatal:a:1 busy:a:0 look=nothing-due", "halted work#1, a out 1 waiting 1 failed 1 left 1, because error"),
            (
                "fatal:a:1 next=too-late crash out:a:2 cancel done:a:0=run-ended",
                "canceled work#1, a out 1 done 1 failed 1 left 1, because error",
            ),
        ],
    );
}

fn with_error_handler(error_phase_to: Option<&str>) -> Workflow {
    let work = phase("work").to("end").on_error("oops").handler("a");
    let oops = match error_phase_to {
        None => final_phase("oops"),
        Some(next) => phase("oops").to(next),
    };
    let oops = oops.handler(handler("mail").tries(2));
    workflow("guarded").phase(work).phase(final_phase("end")).phase(oops).build()
}

#[test]
fn a_final_phase_reached_through_an_error_ends_the_run_failed() {
    check(
        &with_error_handler(None),
        &[
            ("fatal:a:0 next", "running oops#2, mail out 1, because error"),
            ("fatal:a:0 next done:mail:0 next", "failed oops#2, mail done 1, because error"),
            (
                "fatal:a:0 next fail:mail:0 wake fail:mail:0",
                "running oops#2 finished failed, mail failed 1, because error",
            ),
            ("fatal:a:0 next fatal:mail:0 next", "failed oops#2, mail failed 1, because error"),
        ],
    );
    check(
        &with_error_handler(Some("end")),
        &[
            ("fatal:a:0 next done:mail:0 next next", "failed end#3, because error"),
            ("fatal:a:0 next fatal:mail:0", "halted oops#2, mail failed 1, because error"),
        ],
    );
}

#[test]
fn the_first_cause_stays() {
    for script in ["fatal:a:0", "fatal:a:0 next fatal:mail:0", "fatal:a:0 next fatal:mail:0 next"] {
        let mut harness = Harness::start(with_error_handler(None));
        let cause = harness.play(script).run.head.cause.clone().unwrap();
        assert_eq!((cause.phase.as_str(), cause.handler.unwrap().as_str()), ("work", "a"), "{script}");
    }
}

#[test]
fn outputs_are_those_of_the_latest_entry() {
    let work = phase("work").to("end").on_error("work").handler(handler("a").count(3)).handler("b");
    let mut harness = Harness::start(workflow("outputs").phase(work).phase(final_phase("end").handler("c")).build());
    harness.play("out:a:0 out:a:2 out:b:0 fatal:a:1 next out:a:1 done:a:0 done:a:2 done:b:0");
    let [work] = &harness.run.head.outputs[..] else { panic!("{:?}", harness.run.head.outputs) };
    let kept: Vec<_> = work.handlers.iter().map(|it| (it.name.as_str(), it.total, it.outputs, it.is_list)).collect();
    assert_eq!((work.phase.as_str(), work.entry, kept), ("work", 2, vec![("a", 3, 1, true), ("b", 1, 0, false)]));
    assert_eq!(harness.stored.outputs.keys().copied().collect::<Vec<_>>(), [(2, 0, 1)]);
    harness.play("next out:c:0 next");
    assert_eq!(harness.run.head.outputs.len(), 2);
}

#[test]
fn a_final_phase_reached_by_itself_may_halt_or_go_to_its_error_phase() {
    let end = final_phase("end").handler("last");
    check(
        &workflow("halts").phase(phase("work").to("end")).phase(end.clone()).build(),
        &[
            ("next done:last:0 next", "succeeded end#2, last done 1"),
            ("next fatal:last:0", "halted end#2, last failed 1, because error"),
        ],
    );
    check(
        &workflow("goes").phase(phase("work").to("end")).phase(end.on_error("oops")).phase(final_phase("oops")).build(),
        &[("next fatal:last:0 next next", "failed oops#3, because error")],
    );
}

#[test]
fn a_run_can_be_canceled_until_it_ends() {
    check(
        &with_error_handler(None),
        &[
            ("cancel", "canceled work#1, a out 1"),
            (
                "cancel done:a:0=run-ended cancel=run-ended crash next=run-ended look=run-ended",
                "canceled work#1, a out 1",
            ),
            ("fail:a:0 cancel wake=run-ended", "canceled work#1, a waiting 1"),
            ("done:a:0 cancel next=run-ended", "canceled work#1, a done 1"),
            ("done:a:0 next cancel next=run-ended", "canceled end#2"),
            ("fatal:a:0 next cancel", "canceled oops#2, mail out 1, because error"),
            ("done:a:0 next next cancel=run-ended", "succeeded end#2"),
        ],
    );
    check_outside(&plain("a"), &absent("a"), &[("cancel worker:a=run-ended", "canceled work#1, a left 1")]);
}

fn absent(handler: &str) -> Outside {
    Outside { absent: vec![name(handler)], ..Outside::default() }
}

#[test]
fn a_phase_waits_for_a_worker() {
    check_outside(
        &plain("a"),
        &absent("a"),
        &[
            ("", "running work#1, a left 1, awaits a worker, in 1m"),
            ("wake", "running work#1, a left 1, awaits a worker, in 1m"),
            ("20000 look", "running work#1, a left 1, awaits a worker, in 40s"),
            ("crash worker:a", "running work#1, a out 1"),
            ("worker:a look=nothing-due done:a:0 next next", "succeeded end#2"),
        ],
    );
    check_outside(&plain(handler("a").count(0)), &absent("a"), &[("next next", "succeeded end#2")]);
    let work = phase("work").to("end").handler("a").handler("b");
    check_outside(
        &workflow("both").phase(work).phase(final_phase("end")).build(),
        &absent("b"),
        &[
            ("", "running work#1, a out 1, b left 1, awaits a worker, in 30s"),
            ("done:a:0", "running work#1, a done 1, b left 1, awaits a worker, in 30s"),
            ("fail:a:0", "running work#1, a waiting 1, b left 1, awaits a worker, in 1s"),
            ("fail:a:0 wake", "running work#1, a out 1, b left 1, awaits a worker, in 30s"),
            ("fail:a:0 worker:b", "running work#1, a waiting 1, b out 1, in 1s"),
        ],
    );
    let later = workflow("later").phase(phase("work").to("end")).phase(final_phase("end").handler("a")).build();
    check_outside(&later, &absent("a"), &[("next", "running end#2, a left 1, awaits a worker, in 1m")]);
    let busy = phase("work").to("end").handler(handler("a").count(9).window(1)).handler("b");
    check_outside(
        &workflow("busy").phase(busy).phase(final_phase("end")).build(),
        &absent("b"),
        &[
            ("29999 done:a:0", "running work#1, a out 1 done 1 left 7, b left 1, awaits a worker, in 1ms"),
            ("29999 done:a:0 1 done:a:1", "running work#1, a out 1 done 2 left 6, b left 1, awaits a worker, in 0s"),
            (
                "60000 done:a:0 9 done:a:1 wake",
                "running work#1, a out 1 done 2 left 6, b left 1, awaits a worker, in 30s",
            ),
        ],
    );
}

#[test]
fn an_answer_that_says_nothing_new_changes_nothing() {
    let mut harness = Harness::start_with(plain("a"), absent("a"));
    let (entry, nonce) = (1, harness.run.head.entry.nonce);
    let found = |handler, version| Event::Resolved {
        entry,
        nonce,
        handlers: vec![Resolution { handler, version, slots: 1, pinned_lives: true }],
    };
    let one = Some(Version::new(1, 0, 0));
    for (event, expected) in [
        (found(0, None), Some(Ignored::Stale)),
        (found(7, one.clone()), Some(Ignored::Stale)),
        (found(0, one.clone()), None),
        (found(0, one), Some(Ignored::Stale)),
        (found(0, Some(Version::new(2, 0, 0))), Some(Ignored::Stale)),
        (
            Event::Enumerated { entry, nonce, handler: 0, listing: Ok(Listing { total: 5, stored: true }) },
            Some(Ignored::Stale),
        ),
        (
            Event::Enumerated { entry, nonce, handler: 9, listing: Ok(Listing { total: 5, stored: true }) },
            Some(Ignored::UnknownHandler),
        ),
        (Event::Concluded { entry, nonce, output: Ok(Payload::null()) }, Some(Ignored::TooLate)),
    ] {
        assert_eq!(harness.deliver(&event), expected, "{event:?}");
    }
    harness.play("done:a:0");
    let concluded = Event::Concluded { entry, nonce, output: Ok(Payload::null()) };
    assert_eq!(harness.deliver(&concluded), Some(Ignored::TooLate), "the phase is not final");
}

fn list(listing: Result<Listing, JobError>) -> Outside {
    Outside { lists: [(name("a"), listing)].into(), ..Outside::default() }
}

#[test]
fn a_list_is_sealed_once_and_may_be_empty() {
    let each = || handler("a").each("data.pages");
    let of = |total| list(Ok(Listing { total, stored: total < 10 }));
    check_outside(&plain(each()), &of(0), &[("", "running work#1 finished, a"), ("next next", "succeeded end#2")]);
    check_outside(&plain(each()), &of(2), &[("done:a:0-1 next next", "succeeded end#2")]);
    let endless = ("done:a:0-4", "running work#1, a out 5 done 5 left 18446744073709551605");
    check_outside(&plain(each().window(5)), &of(u64::MAX), &[endless]);
    let error = || list(Err(JobError::new("input", "`data.pages` is no list").for_good()));
    check_outside(&plain(each()), &error(), &[("", "halted work#1, a, because input")]);
    check_outside(
        &guarded(each()),
        &error(),
        &[("", "running work#1 finished failed, a, because input"), ("next next", "failed oops#2, because input")],
    );
    let mut nobody = of(0);
    nobody.absent = vec![name("a")];
    check_outside(&plain(each()), &nobody, &[("", "running work#1 finished, a")]);
    let templated = plain(handler("a").input(serde_json::json!({ "n": 1 })));
    check(&templated, &[("", "running work#1, a out 1"), ("done:a:0 next next", "succeeded end#2")]);
}

#[test]
fn a_result_is_worked_out_at_the_end() {
    let of = |output| Outside { output, ..Outside::default() };
    let work = || workflow("result").phase(phase("work").to("end").handler("a")).phase(final_phase("end").handler("b"));
    let templated = work().output(serde_json::json!("{{ outputs }}")).build();
    let ended = "out:a:0 next done:b:0 next next=run-ended";
    check(&templated, &[(ended, "succeeded end#2, b done 1")]);
    let error = of(Err(JobError::new("output", "no such field")));
    check_outside(&templated, &error, &[(ended, "failed end#2, b done 1, because output")]);
    check_outside(&work().build(), &error, &[(ended, "succeeded end#2, b done 1")]);
    let with_output = "out:a:0 next out:b:0 next next=run-ended";
    check_outside(&work().build(), &error, &[(with_output, "failed end#2, b done 1, because output")]);
    for (output, has_output) in [(serde_json::json!([1]), true), (serde_json::Value::Null, false)] {
        let mut harness = Harness::start_with(templated.clone(), of(Ok(output.into())));
        harness.play(ended);
        assert_eq!(harness.run.head.has_output, has_output);
    }
}
