//! What workers report: fences, windows, retries, tolerance, jobs handed back.

use std::collections::BTreeSet;

use super::{check, guarded, plain};
use crate::definition::{Backoff, Tolerance};
use crate::message::outcome::{JobError, Outcome, Status};
use crate::testkit::{Harness, Outside, handler};
use crate::time::Millis;

#[test]
fn what_is_stale_foreign_or_garbage_changes_nothing() {
    check(
        &plain(handler("a").count(3).window(2)),
        &[
            ("done:a:0 done:a:0=stale fail:a:0=stale", "running work#1, a out 2 done 1"),
            (
                "done:a:2=stale done:a:0#0=stale done:a:0#2=stale done:a:18446744073709551615=stale",
                "running work#1, a out 2 left 1",
            ),
            ("done:b:0=unknown-handler", "running work#1, a out 2 left 1"),
            ("busy:a:0 done:a:0#1=stale done:a:0#2 fail:a:0#2=stale", "running work#1, a out 2 done 1"),
            ("fail:a:0 done:a:1 done:a:0#1=stale wake done:a:0#1=stale done:a:0#2", "running work#1, a out 1 done 2"),
        ],
    );
}

#[test]
fn ranges_are_counted_by_what_is_in_them() {
    for (ranges, expected) in [
        (vec![(0, u64::MAX)], "running work#1, a out 4 done 4 left 2"),
        (vec![(u64::MAX, u64::MAX), (1, 2), (2, 1), (0, 0)], "running work#1, a out 4 done 2 left 4"),
        (vec![(3, 1); 100_000], "running work#1, a out 4 done 1 left 5"),
    ] {
        let mut harness = Harness::start(plain(handler("a").count(10).window(4)));
        let event = harness.report("a", &ranges, Vec::new());
        assert_eq!(harness.deliver(&event), None);
        assert_eq!(harness.summary(), expected);
    }
}

#[test]
fn windows_hold_and_are_refilled() {
    check(
        &plain(handler("a").count(5).window(2)),
        &[
            ("", "running work#1, a out 2 left 3"),
            ("done:a:1", "running work#1, a out 2 done 1 left 2"),
            ("fail:a:1", "running work#1, a out 2 waiting 1 left 2, in 30s"),
            ("fail:a:0 fail:a:1 fail:a:2 fail:a:3", "running work#1, a out 1 waiting 4, in 1s"),
            ("fail:a:0 fail:a:1 fail:a:2 fail:a:3 wake", "running work#1, a out 2 waiting 3, in 29s"),
            ("fail:a:0 fail:a:1 fail:a:2 fail:a:3 wake done:a:4", "running work#1, a out 2 waiting 2 done 1, in 29s"),
        ],
    );
    check(
        &plain(handler("a").count(500).window(64)),
        &[
            ("", "running work#1, a out 64 left 436"),
            ("done:a:0-14", "running work#1, a out 49 done 15 left 436"),
            ("done:a:0-15", "running work#1, a out 64 done 16 left 420"),
            ("done:a:0-63 done:a:64-127", "running work#1, a out 64 done 128 left 308"),
        ],
    );
    check(
        &plain(handler("a").count(70).window(64)),
        &[("done:a:0-4", "running work#1, a out 59 done 5 left 6"), ("done:a:0-5", "running work#1, a out 64 done 6")],
    );
    check(&plain(handler("a").count(1_000_000)), &[("", "running work#1, a out 1024 left 998976")]);
}

#[test]
fn a_window_follows_the_slots_of_the_workers() {
    let mut outside = crate::testkit::Outside::default();
    outside.slots.insert(crate::id::HandlerName::new("a").unwrap(), 1000);
    let rows = [("", "running work#1, a out 2000 left 3000")];
    super::check_outside(&plain(handler("a").count(5000)), &outside, &rows);
    let rows = [("", "running work#1, a out 7 left 4993")];
    super::check_outside(&plain(handler("a").count(5000).window(7)), &outside, &rows);
    outside.slots.insert(crate::id::HandlerName::new("a").unwrap(), u32::MAX);
    let rows = [("", "running work#1, a out 65536 left 99999934464")];
    super::check_outside(&plain(handler("a").count(100_000_000_000)), &outside, &rows);
}

#[test]
fn a_failed_job_is_tried_again_after_its_backoff() {
    let fixed = |tries| handler("a").tries(tries).backoff(Backoff::Fixed, Millis(500), Millis(60_000));
    check(
        &plain(fixed(3)),
        &[
            ("fail:a:0", "running work#1, a waiting 1, in 500ms"),
            ("fail:a:0 499 look=nothing-due", "running work#1, a waiting 1, in 1ms"),
            ("fail:a:0 wake", "running work#1, a out 1"),
            ("fail:a:0 crash wake crash fail:a:0 crash wake", "running work#1, a out 1"),
            ("fail:a:0 wake fail:a:0 wake fail:a:0", "halted work#1, a failed 1, because error"),
            ("fail:a:0 wake done:a:0 next next", "succeeded end#2"),
            ("later:a:0", "running work#1, a waiting 1, in 1m"),
            ("fatal:a:0", "halted work#1, a failed 1, because error"),
        ],
    );
    check(&plain(fixed(1)), &[("fail:a:0", "halted work#1, a failed 1, because error")]);
    let doubling = handler("a").tries(4).backoff(Backoff::Exponential, Millis(500), Millis(900));
    check(
        &plain(doubling),
        &[
            ("fail:a:0 wake fail:a:0", "running work#1, a waiting 1, in 900ms"),
            ("fail:a:0 wake fail:a:0 wake fail:a:0", "running work#1, a waiting 1, in 900ms"),
        ],
    );
}

#[test]
fn retries_do_not_come_in_step_and_not_in_a_year() {
    let mut workflow = plain(handler("a").count(20));
    workflow.phases[0].handlers[0].retry.jitter_percent = 50;
    let mut harness = Harness::start(workflow);
    harness.play("fail:a:0-19");
    let waits: BTreeSet<_> = harness.run.jobs[0]
        .exceptions()
        .map(|(_, exception)| exception.state)
        .map(|state| format!("{state:?}"))
        .collect();
    assert!(waits.len() > 15, "{waits:?}");

    let mut harness = Harness::start(plain("a"));
    let error = JobError { retry_after: Some(Millis(u64::MAX)), ..JobError::new("error", "next year") };
    let outcome =
        Outcome { index: 0, attempt: 1, status: Status::Failed, output: None, error: Some(error), details: None };
    let report = harness.report("a", &[], vec![outcome]);
    harness.deliver(&report);
    assert_eq!(harness.summary(), "running work#1, a waiting 1, in 24h");
}

#[test]
fn not_every_failure_is_kept() {
    let mut harness = Harness::start(plain(handler("a").count(1020).tolerate(Tolerance::Percent(100))));
    harness.play("fatal:a:0-499 fatal:a:500-1019");
    assert_eq!((harness.stored.failures.len(), harness.run.head.entry.handlers[0].failed), (1000, 1020));
}

#[test]
fn some_failures_are_tolerated() {
    let jobs = |tolerance| guarded(handler("a").count(10).tolerate(tolerance));
    check(
        &jobs(Tolerance::Count(2)),
        &[
            ("fatal:a:0-1", "running work#1, a out 8 failed 2"),
            ("fatal:a:0-2", "running work#1 finished failed, a out 7 failed 3, because error"),
            ("fatal:a:0-1 done:a:2-9 next next", "succeeded end#2"),
        ],
    );
    check(
        &jobs(Tolerance::Percent(29)),
        &[
            ("fatal:a:0-1", "running work#1, a out 8 failed 2"),
            ("fatal:a:0-2", "running work#1 finished failed, a out 7 failed 3, because error"),
        ],
    );
    check(&jobs(Tolerance::Percent(100)), &[("fatal:a:0-9 next next", "succeeded end#2")]);
    check(&guarded(handler("a").count(0).tolerate(Tolerance::Percent(0))), &[("next next", "succeeded end#2")]);
}

#[test]
fn a_job_that_is_handed_back_goes_out_again() {
    check(
        &plain(handler("a").count(2).tries(2)),
        &[
            ("busy:a:0", "running work#1, a out 2"),
            ("busy:a:0 draining:a:0", "running work#1, a out 1 waiting 1, in 10ms"),
            ("busy:a:0 draining:a:0 wake busy:a:0", "running work#1, a out 1 waiting 1, in 20ms"),
            ("unknown-handler:a:0", "running work#1, a out 1 waiting 1, in 1s"),
            ("unknown-handler:a:0 wake", "running work#1, a out 2"),
            ("redelivered:a:0", "running work#1, a out 2"),
            ("fail:a:0 wake redelivered:a:0 redelivered:a:0", "halted work#1, a out 1 failed 1, because worker-lost"),
        ],
    );
}

/// Jobs that go round together in step would meet the same workers for ever, on a queue that serves workers in turn.
#[test]
fn a_job_that_meets_wrong_workers_over_and_over_falls_out_of_step() {
    let waits = |script: &str| -> BTreeSet<String> {
        let start = |seed| Harness::try_start(plain(handler("a")), Outside::default(), seed).unwrap();
        (1..20).map(|seed| start(seed).play(script).summary()).collect()
    };
    assert_eq!(waits("other-version:a:0").len(), 1);
    assert!(waits("other-version:a:0 wake other-version:a:0").len() > 10);
}

#[test]
fn a_job_that_may_have_killed_its_worker_travels_alone() {
    for (script, attempt, tried, alone) in [
        ("busy:a:0", 2, 1, false),
        ("fail:a:0 wake busy:a:0", 3, 2, false),
        ("fail:a:0 wake", 2, 2, false),
        ("redelivered:a:0", 2, 1, true),
        ("redelivered:a:0 busy:a:0 wake", 3, 1, true),
        ("redelivered:a:0 redelivered:a:0 wake", 3, 2, true),
    ] {
        let mut harness = Harness::start(plain(handler("a").count(2)));
        let last = harness.play(script).jobs.last().cloned().unwrap();
        assert_eq!((last.index, last.attempt, last.tried, last.alone), (0, attempt, tried, alone), "{script}");
    }
}
#[test]
fn a_lost_worker_is_spaced_by_the_backoff_once_it_counts() {
    check(
        &plain(handler("a").tries(3)),
        &[
            ("redelivered:a:0", "running work#1, a out 1"),
            ("redelivered:a:0 redelivered:a:0", "running work#1, a waiting 1, in 1s"),
            ("redelivered:a:0 redelivered:a:0 wake redelivered:a:0", "running work#1, a waiting 1, in 2s"),
            ("fail:a:0 wake redelivered:a:0 redelivered:a:0", "running work#1, a waiting 1, in 2s"),
            (
                "redelivered:a:0 redelivered:a:0 wake redelivered:a:0 wake redelivered:a:0",
                "halted work#1, a failed 1, because worker-lost",
            ),
        ],
    );
}

#[test]
fn a_worker_that_hands_back_at_once_does_not_turn_hot() {
    let mut harness = Harness::start(plain("a"));
    let began = harness.now;
    for _ in 0..200 {
        harness.play("busy:a:0");
        if harness.run.head.wake_at.is_some() {
            harness.play("wake");
        }
    }
    assert!(harness.now.since(began) > Millis::from_mins(2), "{}", harness.now.since(began));
    assert_eq!(harness.play("busy:a:0").summary(), "running work#1, a waiting 1, in 1s");
}
