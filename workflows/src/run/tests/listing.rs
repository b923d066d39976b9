//! Lists that handlers make themselves: pages, seals, and all that can come between.

use serde_json::json;

use super::{check, check_outside, guarded, plain};
use crate::definition::{Backoff, Tolerance};
use crate::id::{HandlerName, Nonce};
use crate::message::outcome::JobError;
use crate::run::{Event, HistoryKind, MAX_LISTED_BYTES, MAX_LISTED_JOBS};
use crate::testkit::{HandlerBuilder, Harness, Outside, final_phase, handler, phase, workflow};
use crate::time::Millis;

fn lister(name: &str) -> HandlerBuilder {
    handler(name).enumerates().tries(2).backoff(Backoff::Fixed, Millis(1000), Millis(1000)).window(2)
}

#[test]
fn jobs_are_those_of_the_sealed_list() {
    check(
        &plain(lister("a")),
        &[
            ("", "running work#1, a lists 0 out 1"),
            ("page:a:0-2", "running work#1, a lists 3 out 1"),
            ("page:a:0-2 page:a:3", "running work#1, a lists 4 out 1"),
            ("page:a:0-2 sealed:a:3", "running work#1, a out 2 left 1"),
            ("page:a:0-2 sealed:a:3 done:a:1 done:a:0 done:a:2", "running work#1 finished, a done 3"),
            ("page:a:0-2 crash page:a:3-4 crash sealed:a:5 crash done:a:0-1", "running work#1, a out 2 done 2 left 1"),
            ("sealed:a:0", "running work#1 finished, a"),
            ("sealed:a:0 next next", "succeeded end#2"),
        ],
    );
}

#[test]
fn pages_are_taken_in_their_order_of_one_list() {
    check(
        &plain(lister("a")),
        &[
            ("page:a:1-2=stale page:a:0 page:a:1-2", "running work#1, a lists 3 out 1"),
            ("page:a:0-1 page:a:0-1=stale page:a:1-2=stale page:a:3=stale", "running work#1, a lists 2 out 1"),
            ("page:a:0-1 page:a:2-3@8=stale page:a:0@8=stale page:a:2", "running work#1, a lists 3 out 1"),
            ("page:a:0-1 sealed:a:2@8=stale sealed:a:0@8=stale sealed:a:2", "running work#1, a out 2"),
            ("page:a:0-1#2=stale sealed:a:0#2=stale sealed:a:0#0=stale", "running work#1, a lists 0 out 1"),
            ("page:a:0-1 sealed:a:2 page:a:2-3=stale sealed:a:2=stale sealed:a:4=stale", "running work#1, a out 2"),
            ("page:b:0-1=unknown-handler", "running work#1, a lists 0 out 1"),
            // Nor does an unfit page say anything of a list that it is not of, or not where that stands.
            ("page:a:0-1 unfit:a:0=stale unfit:a:3=stale unfit:a:2@8=stale", "running work#1, a lists 2 out 1"),
            ("unfit:a:1=stale unfit:a:0#2=stale page:a:0", "running work#1, a lists 1 out 1"),
        ],
    );
}

#[test]
fn a_list_that_is_not_whole_is_made_again() {
    check(
        &plain(lister("a")),
        &[
            ("page:a:0-1 sealed:a:3", "running work#1, a lists 0 waiting 1, in 1s"),
            ("sealed:a:1", "running work#1, a lists 0 waiting 1, in 1s"),
            ("page:a:0-1 sealed:a:3 wake", "running work#1, a lists 0 out 1"),
            ("page:a:0-1 sealed:a:3 wake page:a:2#1=stale page:a:0#1=stale", "running work#1, a lists 0 out 1"),
            ("page:a:0-1 sealed:a:3 wake page:a:0@8 sealed:a:1@8", "running work#1, a out 1"),
            ("page:a:0-1 sealed:a:3 wake sealed:a:1", "halted work#1, a lists 0 failed 1, because list-incomplete"),
        ],
    );
}

#[test]
fn making_a_list_has_tries_and_leases_as_jobs_have() {
    let fails = "fail:a:0 wake fail:a:0";
    check(
        &plain(lister("a")),
        &[
            ("page:a:0 fail:a:0", "running work#1, a lists 0 waiting 1, in 1s"),
            ("page:a:0 fail:a:0 page:a:1=stale sealed:a:1=stale", "running work#1, a lists 0 waiting 1, in 1s"),
            (fails, "halted work#1, a lists 0 failed 1, because error"),
            ("fatal:a:0", "halted work#1, a lists 0 failed 1, because error"),
            ("fatal:a:0 retry", "running work#1, a lists 0 out 1"),
            ("page:a:0 fatal:a:0 retry page:a:0-1@8 sealed:a:2@8", "running work#1, a out 2"),
            (
                "page:a:0 fatal:a:0 crash retry crash page:a:0-1@8 crash sealed:a:2@8 done:a:0",
                "running work#1, a out 1 done 1",
            ),
            ("lease:a:0@30", "running work#1, a lists 0 out 1 leased 1, in 30s"),
            ("page:a:0-1 lease:a:0 sealed:a:2", "running work#1, a out 2"),
            ("page:a:0-1 redelivered:a:0 page:a:0@8 sealed:a:1@8", "running work#1, a out 1"),
            ("page:a:0-1 busy:a:0 sealed:a:2#1=stale", "running work#1, a lists 0 out 1"),
            ("page:a:0-1 recover page:a:2#1=stale sealed:a:0#2", "running work#1 finished, a"),
            ("unfit:a:0", "halted work#1, a lists 0 failed 1, because output"),
            ("page:a:0-1 unfit:a:2", "halted work#1, a lists 0 failed 1, because output"),
            ("page:a:0-1 unfit:a:2 retry page:a:0 sealed:a:1", "running work#1, a out 1"),
            // A worker that does not know what it was asked for.
            ("done:a:0", "halted work#1, a lists 0 failed 1, because enumerate"),
            ("out:a:0", "halted work#1, a lists 0 failed 1, because enumerate"),
        ],
    );
    let patient = plain(lister("a").timeout(Millis::from_mins(10)));
    check(&patient, &[("page:a:0-1 lease:a:0 +60000 wake sealed:a:2#1=stale", "running work#1, a lists 0 out 1")]);
    check(&guarded(lister("a")), &[(fails, "running work#1 finished failed, a lists 0 failed 1, because error")]);
    let tolerant = guarded(lister("a").tolerate(Tolerance::Count(3)));
    check(&tolerant, &[(fails, "running work#1 finished failed, a lists 0 failed 1, because error")]);
    let half = plain(lister("a").tolerate(Tolerance::Percent(50)).window(9));
    check(
        &half,
        &[
            ("page:a:0-3 sealed:a:4 fatal:a:0-1", "running work#1, a out 2 failed 2"),
            ("page:a:0-3 sealed:a:4 fatal:a:0-2", "halted work#1, a out 1 failed 3, because error"),
        ],
    );
}

#[test]
fn what_a_worker_says_in_a_range_is_no_list() {
    let mut harness = Harness::start(plain(lister("a")));
    let report = harness.report("a", &[(0, 1)], Vec::new());
    assert_eq!(harness.deliver(&report), None);
    assert_eq!(harness.summary(), "halted work#1, a lists 0 failed 1, because enumerate");
}

/// Its message came twice. The second maker is told to stop, and what it hands back is not the first one's list.
#[test]
fn who_makes_another_list_is_not_heard() {
    check(
        &plain(lister("a")),
        &[
            ("page:a:0-1 other-list:a:0=stale page:a:2 sealed:a:3", "running work#1, a out 2 left 1"),
            ("page:a:0-1 lease:a:0 other-list:a:0=stale", "running work#1, a lists 2 out 1 leased 1, in 30s"),
            ("page:a:0-1 canceled:a:0", "running work#1, a lists 0 out 1"),
            // Nobody else's is taken: it is handed back, to be made by somebody else.
            ("other-list:a:0 page:a:0#1=stale page:a:0#2", "running work#1, a lists 1 out 1"),
            ("page:a:0 sealed:a:1 other-list:a:0#1", "running work#1, a out 1"),
            ("page:a:0 cancel:5000 other-list:a:0=stale canceled:a:0", "canceled work#1, a lists 0 waiting 1"),
        ],
    );
}

#[test]
fn orders_reach_the_making_of_a_list() {
    check(
        &plain(lister("a")),
        &[
            ("pause page:a:0-1 sealed:a:2", "paused work#1, a left 2"),
            ("pause page:a:0-1 sealed:a:2 resume", "running work#1, a out 2"),
            ("pause fail:a:0 wake=nothing-due", "paused work#1, a lists 0 waiting 1"),
            ("pause sealed:a:0 resume next next", "succeeded end#2"),
            ("cancel", "canceled work#1, a lists 0 out 1"),
            ("page:a:0-1 cancel:5000 page:a:2=too-late sealed:a:2", "canceled work#1, a left 2"),
            ("page:a:0-1 cancel:5000 canceled:a:0", "canceled work#1, a lists 0 waiting 1"),
            ("page:a:0-1 rerun page:a:0#1 sealed:a:1", "running work#2, a out 1"),
            ("page:a:0-1 sealed:a:2 rerun", "running work#2, a lists 0 out 1"),
        ],
    );
    // A halted entry still takes what was under way.
    let two = phase("work").to("end").handler(lister("a")).handler(handler("b"));
    check(
        &workflow("two").phase(two).phase(final_phase("end")).build(),
        &[
            ("fatal:b:0 page:a:0-1 sealed:a:2", "halted work#1, a left 2, b failed 1, because error"),
            ("fatal:b:0 page:a:0-1 sealed:a:2 retry", "running work#1, a out 2, b out 1"),
            ("sealed:a:0", "running work#1, a, b out 1"),
        ],
    );
}

#[test]
fn a_list_waits_for_a_worker_and_for_its_input() {
    let name = HandlerName::new("a").unwrap();
    let absent = Outside { absent: vec![name.clone()], ..Outside::default() };
    check_outside(
        &plain(lister("a")),
        &absent,
        &[
            ("", "running work#1, a lists 0 left 1, awaits a worker, in 1m"),
            ("worker:a", "running work#1, a lists 0 out 1"),
        ],
    );
    let with_input = plain(lister("a").input(json!("{{ data.query }}")));
    check(
        &with_input,
        &[("", "running work#1, a lists 0 out 1"), ("page:a:0-2 sealed:a:3", "running work#1, a out 2 left 1")],
    );
    let no_input = Err(JobError::new("expression", "no such field").for_good());
    let outside = Outside { lists: [(name, no_input)].into(), ..Outside::default() };
    let mut harness = Harness::start_with(with_input, outside);
    assert_eq!(harness.summary(), "halted work#1, a, because expression");
    harness.outside.lists.clear();
    assert_eq!(harness.play("retry").summary(), "running work#1, a lists 0 out 1");
}

#[test]
fn a_list_that_is_too_large_fails_for_good() {
    for (jobs, bytes) in [(MAX_LISTED_JOBS - 1, 0), (3, MAX_LISTED_BYTES - 2)] {
        let mut harness = Harness::start(plain(lister("a")));
        harness.play("page:a:0");
        let enumeration = harness.run.head.entry.handlers[0].enumeration.as_mut().unwrap();
        (enumeration.jobs, enumeration.bytes) = (jobs, bytes);
        let page = harness.page("a", 1, 7, jobs, 2);
        let moment = harness.moment();
        let before = harness.run.clone();
        let step = crate::run::apply(&harness.workflow, &mut harness.run, &page, moment);
        let checked = (&page, moment.now);
        crate::testkit::check_step(&harness.workflow, &before, checked, &step, &harness.run).unwrap();
        let cause = harness.run.head.cause.clone().unwrap();
        assert_eq!((&*cause.error.kind, cause.index), ("limit", None), "{}", cause.error.message);
        assert_eq!(harness.run.head.state.as_str(), "halted");
    }
}

#[test]
fn a_leased_job_zero_is_not_the_making_of_its_list() {
    let mut harness = Harness::start(plain(lister("a")));
    harness.play("page:a:0-1 lease:a:0");
    let (lease, fail) = (harness.lease("a", 0, None), harness.report_of("fail", "a:0"));
    harness.play("sealed:a:2");
    for late in [&lease, &fail] {
        assert_eq!(harness.deliver(late).map(crate::run::Ignored::as_str), Some("stale"), "{late:?}");
    }
    let (early_lease, early_done) = (harness.lease("a", 0, None), harness.report_of("done", "a:0"));
    let mut other = Harness::start(plain(lister("a")));
    for early in [&early_lease, &early_done] {
        assert_eq!(other.deliver(early).map(crate::run::Ignored::as_str), Some("stale"), "{early:?}");
    }
}

/// The number is the maker's to choose, and a maker of no care chooses what it likes.
#[test]
fn lists_of_one_number_are_kept_apart() {
    let two = || workflow("two").phase(phase("work").to("end").handler(lister("a")).handler(lister("b")));
    for (script, summary) in [
        ("page:a:0-1 page:b:0-2 fail:b:0 wake page:a:2 sealed:a:3", "running work#1, a out 2 left 1, b lists 0 out 1"),
        ("page:a:0-1 page:b:0-2 fatal:b:0", "halted work#1, a lists 2 out 1, b lists 0 failed 1, because error"),
        ("page:a:0-1 sealed:a:2 page:b:0 sealed:b:1 fail:a:0 wake", "running work#1, a out 2, b out 1"),
    ] {
        let mut harness = Harness::start(two().phase(final_phase("end")).build());
        assert_eq!(harness.play(script).summary(), summary, "{script}");
        let lists = harness.stored.lists.iter().map(|((_, place, _), pages)| (*place, pages.len()));
        let expected = harness.run.head.entry.handlers.iter().zip(0_u16..).filter_map(|(handler, place)| {
            handler.enumeration.filter(|it| it.list.is_some()).map(|it| (place, it.jobs as usize))
        });
        assert_eq!(lists.collect::<Vec<_>>(), expected.collect::<Vec<_>>(), "{script}");
    }
    // Nor is it where the input is stored that the list is made from.
    let mut harness = Harness::start(plain(lister("a").input(json!("{{ data.query }}"))));
    let nonce = harness.run.head.entry.nonce;
    harness.deliver(&harness.page("a", 1, nonce.0, 0, 2));
    let kept: Vec<_> = harness.stored.lists.keys().map(|(_, _, list)| *list).collect();
    assert!(kept.len() == 1 && kept[0] != nonce, "{kept:?}");
    assert_eq!(harness.run.head.entry.handlers[0].inputs_under(nonce), nonce, "until it is sealed");
    harness.deliver(&harness.sealed("a", 1, nonce.0, 2));
    assert_eq!(harness.run.head.entry.handlers[0].inputs_under(nonce), kept[0]);
}

#[test]
fn the_pages_of_a_list_go_with_it() {
    for (script, kept) in [
        ("page:a:0-2", vec![(1, 7)]),
        ("page:a:0-2 fail:a:0", vec![]),
        ("page:a:0-2 fatal:a:0", vec![]),
        ("page:a:0-2 unfit:a:3", vec![]),
        ("page:a:0-2 recover", vec![]),
        ("page:a:0-2 lease:a:0 +60000 wake", vec![]),
        ("page:a:0-2 fail:a:0 wake", vec![]),
        ("page:a:0-2 fail:a:0 wake page:a:0", vec![(2, 7)]),
        ("page:a:0-2 fail:a:0 wake page:a:0@8", vec![(2, 8)]),
        ("page:a:0-2 sealed:a:3", vec![(1, 7)]),
        ("page:a:0-2 sealed:a:3 done:a:0-1 done:a:2 next", vec![]),
        ("page:a:0-2 cancel", vec![]),
        ("page:a:0-2 rerun", vec![]),
    ] {
        let mut harness = Harness::start(plain(lister("a")));
        let nonce = harness.run.head.entry.nonce;
        let lists: Vec<_> = harness.play(script).stored.lists.keys().map(|(_, _, list)| *list).collect();
        let kept: Vec<_> = kept.into_iter().map(|(attempt, list)| nonce.of_list(0, attempt, Nonce(list))).collect();
        assert_eq!(lists, kept, "after `{script}`");
    }
}

/// A page is stored ahead of the commit that counts it. When that never comes, another may be taken in its place.
#[test]
fn pages_that_no_commit_told_of_go_with_their_entry() {
    let mut harness = Harness::start(plain(lister("a")));
    let lost = harness.page("a", 1, 8, 0, 3);
    assert_eq!(harness.try_apply(&lost), Ok(None));
    harness.crash().unwrap();
    assert_eq!(harness.play("page:a:0-1").stored.lists.len(), 2);
    harness.play("sealed:a:2 done:a:0-1");
    assert_eq!(harness.stored.lists.len(), 2);
    assert_eq!(harness.play("next").stored.lists.len(), 0);
}

/// The making of a list is no job: its tries and losses are not counted as those of jobs.
#[test]
fn tries_of_a_list_are_not_those_of_jobs() {
    let mut harness = Harness::start(plain(lister("a").tries(9)));
    harness.play("page:a:0 fail:a:0 wake fail:a:0 wake recover page:a:0-1 sealed:a:2");
    assert_eq!(harness.run.head.entry.handlers[0].retried, 0);
    harness.play("fail:a:0 wake recover");
    assert_eq!(harness.run.head.entry.handlers[0].retried, 1);
    let lost = harness.stored.history.iter().filter_map(|event| match &event.what {
        HistoryKind::Lost { jobs, list, .. } => Some((*jobs, *list)),
        _ => None,
    });
    assert_eq!(lost.collect::<Vec<_>>(), [(0, true), (2, false)]);
}

#[test]
fn a_seal_is_in_the_history() {
    let mut harness = Harness::start(plain(lister("a")));
    harness.play("page:a:0 fail:a:0 wake page:a:0-2@8 sealed:a:3@8");
    let listed: Vec<_> = harness
        .stored
        .history
        .iter()
        .filter_map(|event| match &event.what {
            HistoryKind::Listed { entry, attempt, jobs, .. } => Some((*entry, *attempt, *jobs)),
            _ => None,
        })
        .collect();
    assert_eq!(listed, [(1, 2, 3)]);
    assert_eq!(harness.deliver(&Event::Wake).map(crate::run::Ignored::as_str), Some("nothing-due"));
}
