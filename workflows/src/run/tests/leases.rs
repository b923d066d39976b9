//! Leases on long jobs, and jobs of which nothing is heard.

use super::{check, guarded, plain};
use crate::message::lease::MAX_DETAILS_BYTES;
use crate::payload::Payload;
use crate::run::audit::audit;
use crate::run::{Event, ExceptionState, HistoryKind, LostWhy};
use crate::testkit::{Harness, handler};
use crate::time::Millis;

const LONG: Millis = Millis::from_mins(60);

#[test]
fn a_lease_holds_a_job_and_runs_out() {
    check(
        &plain(handler("a").count(2).tries(2).timeout(LONG)),
        &[
            ("lease:a:0", "running work#1, a out 2 leased 1, in 30s"),
            ("lease:a:0 lease:a:1", "running work#1, a out 2 leased 2, in 1m"),
            ("lease:a:0 done:a:0", "running work#1, a out 1 done 1"),
            ("lease:a:0 fail:a:0", "running work#1, a out 1 waiting 1, in 1s"),
            ("lease:a:0 lease:a:0 draining:a:0", "running work#1, a out 2"),
            ("lease:a:0 redelivered:a:0=stale", "running work#1, a out 2 leased 1, in 30s"),
            ("lease:a:7=stale lease:b:0=unknown-handler", "running work#1, a out 2"),
            ("done:a:1 lease:a:0 29999 lease:a:0 look=nothing-due", "running work#1, a out 1 leased 1 done 1, in 1m"),
        ],
    );
    let mut harness = Harness::start(plain(handler("a").count(1).timeout(LONG)));
    harness.play("lease:a:0@40 59999 look=nothing-due wake");
    assert_eq!(harness.summary(), "running work#1, a out 1", "after a minute without a word it goes out again");
    assert_eq!(harness.attempt("a", 0), 2);
    harness.play("done:a:0#1=stale lease:a:0 wake");
    // The second loss is that of a job which travelled alone: it counts.
    assert_eq!(harness.summary(), "running work#1, a waiting 1, in 1s");
}

#[test]
fn a_lease_keeps_what_the_job_said_of_itself() {
    let mut harness = Harness::start(plain(handler("a").count(1)));
    for (script, expected) in
        [("lease:a:0", None), ("lease:a:0@40", Some(40)), ("lease:a:0", Some(40)), ("lease:a:0@250", Some(100))]
    {
        harness.play(script).play("crash");
        let Some(ExceptionState::Leased(lease)) = harness.run.jobs[0].exception(0).map(|it| it.state) else {
            panic!("{script}: not leased")
        };
        assert_eq!(lease.progress, expected, "{script}");
    }
}

#[test]
fn what_a_job_left_is_there_for_its_next_attempt() {
    /// What the job has left; nothing of it is said in a head, a history or an outbox.
    fn left(harness: &mut Harness) -> Option<String> {
        harness.play("crash");
        harness.run.jobs[0].exception(0).and_then(|it| Some(it.details.as_ref()?.to_string()))
    }
    fn lease(harness: &mut Harness, details: &str) {
        let Event::Leases { entry, nonce, handler, mut leases } = harness.lease("a", 0, None) else { unreachable!() };
        leases[0].details = Payload::from_json(details.to_owned()).ok();
        assert_eq!(harness.deliver(&Event::Leases { entry, nonce, handler, leases }), None);
    }
    fn report(harness: &mut Harness, what: &str, details: &str) {
        let event = harness.report_of(what, "a:0");
        let Event::JobsFinished { entry, nonce, handler, done, mut outcomes } = event else { unreachable!() };
        outcomes[0].details = Payload::from_json(details.to_owned()).ok();
        assert_eq!(harness.deliver(&Event::JobsFinished { entry, nonce, handler, done, outcomes }), None);
    }
    let harness = &mut Harness::start(plain(handler("a").count(1).tries(3).timeout(LONG)));
    lease(harness, "[1]");
    assert_eq!(left(harness).as_deref(), Some("[1]"));
    harness.play("lease:a:0");
    assert_eq!(left(harness).as_deref(), Some("[1]"), "a renewal that says nothing takes nothing away");
    lease(harness, &format!("\"{}\"", "x".repeat(MAX_DETAILS_BYTES)));
    assert_eq!(left(harness).as_deref(), Some("[1]"), "too much of it is passed over, and the lease is given");
    harness.play("wake");
    assert_eq!((harness.attempt("a", 0), left(harness).as_deref()), (2, Some("[1]")), "its lease ran out");
    report(harness, "draining", "[2]");
    assert_eq!((harness.attempt("a", 0), left(harness).as_deref()), (2, Some("[2]")), "its worker stopped");
    harness.play("wake");
    report(harness, "fail", "null");
    assert_eq!(left(harness).as_deref(), Some("null"));
    harness.play("wake fatal:a:0");
    assert_eq!(left(harness).as_deref(), Some("null"), "who has it tried again may go on from there");
    harness.play("retry lease:a:0 done:a:0");
    assert_eq!(left(harness), None);
}

#[test]
fn a_leased_job_ends_with_its_time() {
    // The testkit's handlers have 30 seconds for an attempt, counted anew from the first lease.
    let mut harness = Harness::start(guarded(handler("a").count(1).tries(2)));
    harness.play("lease:a:0 20000 lease:a:0 9999 look=nothing-due 1");
    harness.play("wake");
    assert_eq!(harness.summary(), "running work#1, a waiting 1, in 1s");
    harness.play("wake lease:a:0 30000 lease:a:0=stale wake");
    assert_eq!(harness.summary(), "running work#1 finished failed, a failed 1, because timeout");
}

#[test]
fn silence_is_followed_by_a_probe_and_what_it_does_not_find_goes_out_again() {
    let quiet = |script: &str| {
        let mut harness = Harness::start(plain(handler("a").count(4).window(2).timeout(LONG)));
        harness.play(script);
        (harness.summary(), harness.probes.len())
    };
    for (script, expected, probes) in [
        ("29999 look=nothing-due", "running work#1, a out 2 left 2", 0),
        ("wake", "running work#1, a out 2 left 2", 1),
        ("wake look=nothing-due 119999 look=nothing-due", "running work#1, a out 2 left 2", 1),
        ("wake wake", "running work#1, a out 2 left 2", 2),
        ("wake probe probe=stale 44999 look=nothing-due", "running work#1, a out 2 left 2", 1),
        ("wake probe wake", "running work#1, a out 2 left 2", 1),
        ("wake probe wake done:a:0#1=stale done:a:1#2", "running work#1, a out 2 done 1 left 1", 1),
        // What is heard of others says nothing of those that were asked after.
        ("wake done:a:0 probe wake done:a:1#1=stale done:a:2#1", "running work#1, a out 2 done 2", 1),
        ("wake probe done:a:0 44999 done:a:1#1 2 done:a:2#1", "running work#1, a out 1 done 3", 1),
        // What is leased is not lost.
        ("lease:a:0 wake lease:a:0 probe wake done:a:0#1", "running work#1, a out 2 done 1 left 1", 1),
    ] {
        assert_eq!(quiet(script), (expected.to_owned(), probes), "after `{script}`");
    }
}

#[test]
fn a_probe_asks_after_what_was_there_before_it() {
    let mut harness = Harness::start(plain(handler("a").count(3).window(3).tries(9)));
    // Two are lost; one fails, and goes out again after the probe was sent.
    harness.play("wake probe fail:a:2 wake");
    assert_eq!(harness.attempt("a", 2), 2, "it is out again: {}", harness.summary());
    harness.play("wake");
    let attempts: Vec<_> = (0..3).map(|index| harness.attempt("a", index)).collect();
    assert_eq!((attempts, harness.probes.len()), (vec![2, 2, 2], 1), "{}", harness.summary());
    let lost = harness.stored.history.iter().filter_map(|event| match &event.what {
        HistoryKind::Lost { jobs, why, .. } => Some((*jobs, *why)),
        _ => None,
    });
    assert_eq!(lost.collect::<Vec<_>>(), [(2, LostWhy::Probe)]);
}

#[test]
fn what_is_lost_among_many_is_asked_after_all_the_same() {
    let mut harness = Harness::start(plain(handler("a").count(1000).window(2)));
    let lost = 0;
    for job in 1..100 {
        // One is done every ten seconds, so there is never silence.
        harness.play(&format!("10000 done:a:{job}"));
        harness.deliver(&crate::run::Event::Wake);
        if let Some(probe) = harness.probes.pop() {
            harness.deliver(&probe);
        }
        if harness.attempt("a", lost) == 2 {
            assert!((34..37).contains(&job), "{job}");
            return;
        }
    }
    panic!("nobody asked: {}", harness.summary());
}

#[test]
fn a_probe_is_sent_again_ever_more_rarely_and_not_while_nobody_reads_the_queue() {
    let mut harness = Harness::start(plain("a"));
    let mut waits = Vec::new();
    for _ in 0..8 {
        let before = harness.now;
        harness.play("wake");
        waits.push(harness.now.since(before).0 / 1000);
    }
    assert_eq!(waits, [30, 120, 120, 240, 480, 960, 1920, 3600]);
    harness.outside.absent.push(crate::id::HandlerName::new("a").unwrap());
    harness.play("wake");
    let sent = harness.probes.len();
    harness.play("wake wake wake wake");
    assert_eq!(
        (harness.probes.len(), harness.summary()),
        (sent, "running work#1, a out 1, awaits a worker, in 1m".into())
    );
    harness.play("worker:a probe wake");
    assert_eq!(harness.attempt("a", 0), 2);
}

#[test]
fn a_clock_that_was_set_back_keeps_no_lease_alive() {
    let mut harness = Harness::start(plain(handler("a").count(2).timeout(LONG)));
    harness.play("lease:a:0 50000");
    // The coordinator began to listen while its clock was an hour ahead.
    harness.listening_since = harness.now.plus(Millis::from_mins(60));
    harness.play("lease:a:1");
    assert_eq!(harness.summary(), "running work#1, a out 2 leased 2, in 10s");
    assert_eq!(audit(&harness.workflow, &harness.run, Some(&harness.stored.history), harness.now), []);
    harness.play("wake");
    assert_eq!(harness.summary(), "running work#1, a out 2 leased 1, in 30s");
}

#[test]
fn a_new_owner_hears_renewals_before_it_ends_leases() {
    let lapsed = |script: &str| {
        let mut harness = Harness::start(plain(handler("a").count(1).timeout(LONG)));
        harness.play("lease:a:0 59000");
        harness.listening_since = harness.now;
        harness.play(script).summary()
    };
    assert_eq!(lapsed("1000 wake"), "running work#1, a out 1 leased 1, in 24s");
    assert_eq!(lapsed("2000 lease:a:0 23000 look=nothing-due"), "running work#1, a out 1 leased 1, in 37s");
    assert_eq!(lapsed("25000 look"), "running work#1, a out 1", "there was time enough to say something");
}

#[test]
fn what_was_under_way_goes_out_again_after_a_loss() {
    check(
        &guarded(handler("a").count(5).window(3)),
        &[
            ("recover", "running work#1, a out 3 left 2"),
            ("recover done:a:0#1=stale done:a:0#2 recover", "running work#1, a out 3 done 1 left 1"),
            ("lease:a:0 recover done:a:0#1 done:a:1#1=stale", "running work#1, a out 3 done 1 left 1"),
            ("fail:a:0 recover", "running work#1, a out 3 waiting 1 left 1, in 30s"),
        ],
    );
    let mut harness = Harness::start(guarded(handler("a").count(1)));
    harness.play("done:a:0");
    harness.events.clear();
    harness.play("recover");
    assert_eq!(harness.events, [harness.phase_finished()]);
    check(&plain("a"), &[("fatal:a:0 recover=nothing-due", "halted work#1, a failed 1, because error")]);
}

#[test]
fn a_version_without_workers_is_given_up_for_one_that_has_some() {
    let mut harness = Harness::start(plain(handler("a").count(2)));
    harness.outside.version = semver::Version::new(1, 1, 0);
    harness.play("done:a:0 wake"); // silence: the version is looked for, and is not there
    assert_eq!(harness.summary(), "running work#1, a out 1 done 1, awaits a worker, in 1m");
    harness.play("59999 look");
    assert_eq!(harness.attempt("a", 1), 1, "its worker may come back within a minute");
    harness.play("wake");
    assert_eq!((harness.attempt("a", 1), harness.summary()), (2, "running work#1, a out 1 done 1".to_owned()));
    assert_eq!(harness.run.head.entry.handlers[0].version, Some(harness.outside.version.clone()));
    harness.play("done:a:1#1=stale done:a:1#2 next next");
    assert_eq!(harness.summary(), "succeeded end#2");
}

#[test]
fn a_version_is_given_up_before_the_wait_for_its_workers_fails() {
    for (start_timeout, waits) in [(20_000, 20_000), (60_000, 60_000), (90_000, 60_000)] {
        let mut harness = Harness::start(plain(handler("a").count(2).start_timeout(Millis(start_timeout))));
        harness.outside.version = semver::Version::new(1, 1, 0);
        harness.play("done:a:0");
        while !harness.run.head.awaits_worker {
            harness.play("wake"); // silence: the version is looked for, and is not there
        }
        let since = harness.now;
        harness.play("wake");
        assert_eq!((harness.now.since(since).0, harness.attempt("a", 1)), (waits, 2), "{}", harness.summary());
        harness.play("done:a:1#2 next next");
        assert_eq!(harness.summary(), "succeeded end#2");
    }
}

#[test]
fn a_version_whose_workers_come_back_is_kept() {
    let mut harness = Harness::start(plain(handler("a").count(2)));
    let (old, new) = (harness.outside.version.clone(), semver::Version::new(1, 1, 0));
    harness.outside.version = new;
    harness.play("wake");
    harness.outside.version = old.clone();
    harness.play("look wake wake wake done:a:0 done:a:1");
    assert_eq!(harness.run.head.entry.handlers[0].version, Some(old));
    assert_eq!(harness.summary(), "running work#1 finished, a done 2");
}

#[test]
fn nobody_waits_for_a_worker_longer_than_allowed() {
    let patient = |millis| handler("a").start_timeout(Millis(millis));
    let absent = crate::testkit::Outside {
        absent: vec![crate::id::HandlerName::new("a").unwrap()],
        ..crate::testkit::Outside::default()
    };
    super::check_outside(
        &guarded(patient(45_000)),
        &absent,
        &[
            ("44999 look", "running work#1, a left 1, awaits a worker, in 1ms"),
            ("wake", "running work#1 finished failed, a left 1, because start-timeout"),
            ("30000 worker:a", "running work#1, a out 1"),
        ],
    );
    // A worker that goes away while jobs are out counts as none.
    let mut harness = Harness::start(plain(patient(90_000)));
    harness.outside.absent.push(crate::id::HandlerName::new("a").unwrap());
    harness.play("wake");
    assert_eq!(harness.summary(), "running work#1, a out 1, awaits a worker, in 1m");
    harness.play("wake wake");
    assert_eq!(harness.summary(), "halted work#1, a out 1, because start-timeout");
    harness.outside.absent.clear();
    harness.play("retry wake probe wake done:a:0");
    assert_eq!(harness.summary(), "running work#1 finished, a done 1");
}
