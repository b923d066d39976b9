//! Noticing that something was lost: the lineage, the marker, the epochs of shards, and the live runs to be recovered.

use phasework_workflows::id::Shard;

use super::SharedSubject;
use super::draft::{at, commit, done, ended, live, run, runs_of};
use crate::Commit;

pub(super) async fn the_lineage_stays_while_the_store_does(subject: SharedSubject) {
    let first = subject.store().lineage().await.unwrap();
    assert!(!first.is_empty());
    done(&*subject.store(), commit(run(1), 0)).await;
    assert_eq!(subject.twin().lineage().await.unwrap(), first);
}

pub(super) async fn of_two_who_replace_the_marker_one_wins(subject: SharedSubject) {
    let (store, twin) = (subject.store(), subject.twin());
    assert_eq!(store.marker().await.unwrap(), None);
    assert!(!store.replace_marker(Some("a"), "b").await.unwrap(), "there is none to be replaced");
    let (one, two) = tokio::join!(biased; store.replace_marker(None, "one"), twin.replace_marker(None, "two"));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert!(one != two, "one of them wins");
    let winner = if one { "one" } else { "two" };
    assert_eq!(twin.marker().await.unwrap().as_deref(), Some(winner));
    assert!(!store.replace_marker(None, "three").await.unwrap());
    assert!(twin.replace_marker(Some(winner), "three").await.unwrap());
    assert!(!twin.replace_marker(Some(winner), "four").await.unwrap());
    assert_eq!(store.marker().await.unwrap().as_deref(), Some("three"));
}

pub(super) async fn epochs_are_kept_by_shard(subject: SharedSubject) {
    let store = subject.store();
    let shards = [Shard(3), Shard(200), Shard(0)];
    assert_eq!(store.epochs(&shards).await.unwrap(), [None, None, None]);
    store.put_epoch(&[Shard(200), Shard(3)], "m/l").await.unwrap();
    store.put_epoch(&[Shard(3)], "n/l").await.unwrap();
    store.put_epoch(&[], "o").await.unwrap();
    let found = subject.twin().epochs(&shards).await.unwrap();
    assert_eq!(found, [Some("n/l".into()), Some("m/l".into()), None]);
    assert_eq!(store.epochs(&[]).await.unwrap(), []);
}

pub(super) async fn the_highest_number_of_queues_is_remembered(subject: SharedSubject) {
    let store = subject.store();
    for (queues, highest) in [(0, 0), (4, 4), (2, 4), (16, 16), (0, 16), (9, 16)] {
        assert_eq!(store.raise_queues(queues).await.unwrap(), highest);
    }
    assert_eq!(subject.twin().raise_queues(1).await.unwrap(), 16);
}

pub(super) async fn live_runs_are_listed_page_by_page(subject: SharedSubject) {
    let store = subject.store();
    let runs = runs_of(Shard(7), 6);
    let mut expected = Vec::new();
    for (&run, made) in runs.iter().zip([500, -3, 500, 0, 20, 70]) {
        done(&*store, Commit { index: live(made), ..commit(run, 0) }).await;
        expected.push((at(made), run));
    }
    done(&*store, commit(runs_of(Shard(8), 1)[0], 0)).await;
    done(&*store, Commit { index: ended(20, 90), ..commit(runs[4], 1) }).await;
    expected.retain(|(_, run)| *run != runs[4]);
    expected.sort();
    for limit in [1, 2, 5, 100] {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = store.live_runs(Shard(7), after, limit).await.unwrap();
            after = page.last().copied().or(after);
            let is_last = page.len() < limit;
            found.extend(page);
            if is_last {
                break;
            }
        }
        assert_eq!(found, expected, "in pages of {limit}");
    }
    assert_eq!(store.live_runs(Shard(9), None, 10).await.unwrap(), []);
}
