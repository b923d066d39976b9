//! Finding runs: by timer, by what they wait for, by age, by their end.

use std::collections::BTreeSet;

use phasework_workflows::id::{RunId, Shard};
use phasework_workflows::run::RunState;
use phasework_workflows::time::Timestamp;

use super::SharedSubject;
use super::draft::{at, commit, done, end_and_remove, ended, live, run, runs_of};
use crate::{Commit, ListedRun, RunCounts, RunFilter, RunIndex, Store};

fn all() -> Vec<Shard> {
    Shard::all().collect()
}

fn placed(run: RunId, expect: u64, index: RunIndex) -> Commit {
    Commit { index, ..commit(run, expect) }
}

fn timed(wake_ms: Option<i64>) -> RunIndex {
    RunIndex { wake_at: wake_ms.map(at), ..live(1000) }
}

pub(super) async fn due_timers_come_most_overdue_first(subject: SharedSubject) {
    let store = subject.store();
    let wakes = [Some(500), Some(100), None, Some(300), Some(200), Some(300), Some(i64::MAX)];
    for (n, wake) in wakes.into_iter().enumerate() {
        done(&*store, placed(run(n as u64), 0, timed(wake))).await;
    }
    let mut same = [run(3), run(5)];
    same.sort();
    for (now, limit, expected) in [
        (99, 10, vec![]),
        (100, 10, vec![run(1)]),
        (299, 10, vec![run(1), run(4)]),
        (300, 10, vec![run(1), run(4), same[0], same[1]]),
        (10_000, 3, vec![run(1), run(4), same[0]]),
        (10_000, 10, vec![run(1), run(4), same[0], same[1], run(0)]),
        (10_000, 0, vec![]),
    ] {
        assert_eq!(store.due(&all(), at(now), limit).await.unwrap(), expected, "at {now}, {limit}");
    }
    assert_eq!(store.due(&[run(4).shard()], at(10_000), 10).await.unwrap(), [run(4)]);
    assert_eq!(store.next_due(&all()).await.unwrap(), Some(at(100)));
    assert_eq!(store.next_due(&[run(3).shard(), run(0).shard()]).await.unwrap(), Some(at(300)));
    assert_eq!(store.next_due(&[run(2).shard()]).await.unwrap(), None);
    assert!(store.next_due(&[run(6).shard()]).await.unwrap() > Some(at(i64::MAX / 2)), "never is far away");
    // A timer that was given stays until the run says otherwise.
    assert_eq!(store.due(&all(), at(100), 10).await.unwrap(), [run(1)]);
}

pub(super) async fn a_timer_is_replaced_and_cleared(subject: SharedSubject) {
    let store = subject.store();
    let steps = [Some(500), Some(100), Some(100), Some(700), None, None, Some(-5), Some(0)];
    for (expect, wake) in steps.into_iter().enumerate() {
        done(&*store, placed(run(1), expect as u64, timed(wake))).await;
        assert_eq!(store.next_due(&all()).await.unwrap(), wake.map(at));
        let due = store.due(&all(), at(wake.unwrap_or(i64::MAX)), 10).await.unwrap();
        assert_eq!(due.len(), usize::from(wake.is_some()));
        if let Some(ms) = wake {
            assert_eq!(store.due(&all(), at(ms - 1), 10).await.unwrap(), []);
        }
    }
}

pub(super) async fn runs_that_await_a_worker_are_found(subject: SharedSubject) {
    let store = subject.store();
    let runs = runs_of(Shard(9), 4);
    let waiting = |awaits_worker| RunIndex { awaits_worker, ..live(1000) };
    for (&run, awaits) in runs.iter().zip([true, false, true, true]) {
        done(&*store, placed(run, 0, waiting(awaits))).await;
    }
    let other = runs_of(Shard(77), 1)[0];
    done(&*store, placed(other, 0, waiting(true))).await;
    let found = async |shards: &[Shard], limit| {
        let found = store.awaiting_worker(shards, limit).await.unwrap();
        assert!(found.len() <= limit);
        found.into_iter().collect::<BTreeSet<_>>()
    };
    assert_eq!(found(&all(), 10).await, [runs[0], runs[2], runs[3], other].into());
    assert_eq!(found(&[Shard(9)], 10).await, [runs[0], runs[2], runs[3]].into());
    assert_eq!(found(&all(), 3).await.len(), 3);
    done(&*store, placed(runs[0], 1, waiting(false))).await;
    done(&*store, placed(runs[1], 1, waiting(true))).await;
    done(&*store, placed(runs[2], 1, ended(1000, 2000))).await;
    end_and_remove(&*store, runs[3], 1000).await;
    assert_eq!(found(&all(), 10).await, [runs[1], other].into());
    let mut met = BTreeSet::new();
    for _ in 0..100 {
        met.extend(found(&all(), 1).await);
    }
    assert_eq!(met, [runs[1], other].into(), "they take turns");
}

fn filter(ended: Option<bool>, before: Option<(Timestamp, RunId)>, limit: usize) -> RunFilter {
    RunFilter { ended, before, limit }
}

/// The runs of a listing that goes from page to page.
async fn in_pages(store: &dyn Store, ended: Option<bool>, page: usize) -> Vec<RunId> {
    let (mut met, mut before) = (Vec::new(), None);
    loop {
        let runs = store.runs(&filter(ended, before, page)).await.unwrap();
        met.extend(runs.iter().map(|listed| listed.run));
        assert!(met.len() < 10_000, "the listing has no end");
        match runs.last() {
            Some(last) if runs.len() == page => before = Some((last.created_at, last.run)),
            _ => return met,
        }
    }
}

pub(super) async fn runs_are_listed_newest_first(subject: SharedSubject) {
    let store = subject.store();
    let mut made: Vec<_> = (0..300).map(|n| (i64::try_from(n * 7919 % 300).unwrap(), run(n))).collect();
    for &(ms, run) in &made {
        let head = ms.to_string().into_bytes();
        done(&*store, Commit { head, ..placed(run, 0, live(ms)) }).await;
    }
    made.sort_unstable_by(|a, b| b.cmp(a));
    let listed = store.runs(&filter(None, None, 1000)).await.unwrap();
    let listed_as = |ms, run, head: &str| ListedRun { run, created_at: at(ms), head: head.as_bytes().to_vec() };
    let expected: Vec<_> = made.iter().map(|&(ms, run)| listed_as(ms, run, &ms.to_string())).collect();
    assert_eq!(listed, expected);
    assert_eq!(store.runs(&filter(None, None, 3)).await.unwrap(), expected[..3]);
    assert_eq!(store.runs(&filter(None, Some((at(made[10].0), made[10].1)), 4)).await.unwrap(), expected[11..15]);
    assert_eq!(store.runs(&filter(None, Some((at(-1), run(0))), 4)).await.unwrap(), []);
    assert_eq!(store.runs(&filter(None, None, 0)).await.unwrap(), []);
    done(&*store, Commit { head: b"changed".to_vec(), ..placed(made[0].1, 1, live(made[0].0)) }).await;
    assert_eq!(store.runs(&filter(None, None, 1)).await.unwrap(), [listed_as(made[0].0, made[0].1, "changed")]);
}

pub(super) async fn a_page_goes_on_exactly_where_the_last_one_stopped(subject: SharedSubject) {
    let store = subject.store();
    // Times before the epoch and many runs of one time, in one shard and in many.
    let time = |run: RunId| [-70_000, -1, 0, 5, 5, 5, 5][run.as_uuid().as_u128() as usize % 7];
    let mut runs: Vec<_> = (0..100).map(run).chain(runs_of(Shard(5), 30)).collect();
    runs.sort_unstable();
    runs.dedup();
    for &run in &runs {
        done(&*store, placed(run, 0, live(time(run)))).await;
    }
    runs.sort_unstable_by_key(|&run| std::cmp::Reverse((time(run), run)));
    for page in [1, 2, 7, 50, 1000] {
        assert_eq!(in_pages(&*store, None, page).await, runs, "in pages of {page}");
    }
    // A cursor holds although its run is gone, or has never been.
    end_and_remove(&*store, runs[20], time(runs[20])).await;
    let next = store.runs(&filter(None, Some((at(time(runs[20])), runs[20])), 1)).await.unwrap();
    assert_eq!(next[0].run, runs[21]);
    let next = store.runs(&filter(Some(false), Some((at(4), run(100_000))), 1)).await.unwrap();
    assert_eq!(time(next[0].run), 0);
}

pub(super) async fn live_and_ended_runs_are_listed_apart(subject: SharedSubject) {
    let store = subject.store();
    // The end comes in another order than the beginning.
    let states = [RunState::Running, RunState::Succeeded, RunState::Halted, RunState::Failed, RunState::Canceled];
    for n in 0..40_u64 {
        done(&*store, placed(run(n), 0, live(n as i64))).await;
        let state = states[n as usize % 5];
        let ended_at = state.is_ended().then(|| at(1000 - n as i64));
        done(&*store, placed(run(n), 1, RunIndex { state, ended_at, ..live(n as i64) })).await;
    }
    let of = |which: fn(u64) -> bool| (0..40).rev().filter(|&n| which(n)).map(run).collect::<Vec<_>>();
    for page in [3, 100] {
        assert_eq!(in_pages(&*store, Some(false), page).await, of(|n| [0, 2].contains(&(n % 5))));
        assert_eq!(in_pages(&*store, Some(true), page).await, of(|n| [1, 3, 4].contains(&(n % 5))));
        assert_eq!(in_pages(&*store, None, page).await, of(|_| true));
    }
}

pub(super) async fn runs_are_counted(subject: SharedSubject) {
    let store = subject.store();
    for n in 0..20 {
        done(&*store, placed(run(n), 0, live(0))).await;
    }
    for n in 0..7 {
        done(&*store, placed(run(n), 1, ended(0, 9))).await;
    }
    assert_eq!(store.run_counts().await.unwrap(), RunCounts { live: 13, ended: 7 });
    for n in 5..9 {
        end_and_remove(&*store, run(n), 0).await;
    }
    assert_eq!(subject.twin().run_counts().await.unwrap(), RunCounts { live: 11, ended: 5 });
}

pub(super) async fn ended_runs_are_found_oldest_first(subject: SharedSubject) {
    let store = subject.store();
    let same = runs_of(Shard(5), 200);
    // In one shard, the older half with an outbox; elsewhere one each.
    for (n, &run) in same.iter().enumerate() {
        let effects = if n < 150 { b"e".to_vec() } else { Vec::new() };
        done(&*store, Commit { effects, ..placed(run, 0, ended(5000, n as i64)) }).await;
    }
    for (n, ended_ms) in [(1, 170), (2, 149), (3, 10_000)] {
        done(&*store, placed(run(n), 0, live(0))).await;
        done(&*store, placed(run(n), 1, ended(0, ended_ms))).await;
    }
    done(&*store, placed(run(4), 0, live(0))).await;
    let found = async |time, limit| store.ended_before(&all(), at(time), limit).await.unwrap();
    assert_eq!(found(149, 10).await, []);
    assert_eq!(found(150, 10).await, [run(2)]);
    assert_eq!(found(151, 10).await, [run(2), same[150]]);
    assert_eq!(found(9000, 4).await, [run(2), same[150], same[151], same[152]]);
    assert_eq!(found(9000, 1000).await.len(), 52);
    assert_eq!(store.ended_before(&[run(1).shard()], at(9000), 9).await.unwrap(), [run(1)]);
    store.published(vec![(same[0], vec![1])]).await.unwrap();
    assert!(store.remove_run(run(2), at(9000)).await.unwrap());
    assert_eq!(found(9000, 2).await, [same[0], same[150]]);
}
