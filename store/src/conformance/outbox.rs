//! Effects: committed with the state, kept until they are known to be published, found by whoever owns the shard.

use std::collections::BTreeSet;

use phasework_workflows::id::Shard;

use super::SharedSubject;
use super::draft::{commit, done, loaded, run, runs_of};
use crate::{Commit, Store};

async fn versions(store: &dyn Store) -> Vec<u64> {
    let outbox = loaded(store, run(1)).await.outbox;
    assert!(outbox.iter().all(|(version, effects)| *effects == version.to_string().into_bytes()), "{outbox:?}");
    outbox.into_iter().map(|(version, _)| version).collect()
}

/// A commit with effects.
fn effective(expect: u64) -> Commit {
    Commit { effects: (expect + 1).to_string().into_bytes(), ..commit(run(1), expect) }
}

pub(super) async fn effects_stay_until_published(subject: SharedSubject) {
    let store = subject.store();
    // Many versions, so that an order by text would show.
    for expect in 0..12 {
        done(&*store, if expect == 4 { commit(run(1), expect) } else { effective(expect) }).await;
    }
    assert_eq!(versions(&*store).await, [1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 12]);
    assert_eq!(versions(&*subject.twin()).await, [1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 12]);
}

pub(super) async fn publishing_removes_just_those_versions(subject: SharedSubject) {
    let store = subject.store();
    for expect in 0..5 {
        done(&*store, effective(expect)).await;
    }
    for (published, left) in
        [(vec![2, 4], vec![1, 3, 5]), (vec![2, 4, 77], vec![1, 3, 5]), (vec![], vec![1, 3, 5]), (vec![5, 1], vec![3])]
    {
        store.published(vec![(run(1), published.clone())]).await.unwrap();
        assert_eq!(versions(&*store).await, left, "after {published:?}");
    }
    assert_eq!(loaded(&*store, run(1)).await.version, 5, "publishing is not a commit");
}

pub(super) async fn a_commit_publishes_what_came_before(subject: SharedSubject) {
    let store = subject.store();
    done(&*store, effective(0)).await;
    done(&*store, effective(1)).await;
    done(&*store, Commit { published: vec![1], ..effective(2) }).await;
    assert_eq!(versions(&*store).await, [2, 3]);
    done(&*store, Commit { published: vec![3, 2, 9], ..commit(run(1), 3) }).await;
    assert_eq!(versions(&*store).await, [0; 0]);
    assert_eq!(store.unpublished(&[run(1).shard()], 9).await.unwrap(), []);
    done(&*store, Commit { published: vec![3], ..effective(4) }).await;
    assert_eq!(versions(&*store).await, [5]);
    assert_eq!(store.unpublished(&[run(1).shard()], 9).await.unwrap(), [run(1)]);
}

pub(super) async fn runs_with_an_outbox_are_found(subject: SharedSubject) {
    let store = subject.store();
    let runs = runs_of(Shard(3), 3);
    let other = runs_of(Shard(250), 1)[0];
    for &run in runs.iter().chain([&other]) {
        done(&*store, Commit { effects: b"e".to_vec(), ..commit(run, 0) }).await;
    }
    done(&*store, commit(runs_of(Shard(4), 1)[0], 0)).await;
    let found = async |shards: &[u16]| {
        let shards: Vec<_> = shards.iter().map(|&shard| Shard(shard)).collect();
        store.unpublished(&shards, 10).await.unwrap().into_iter().collect::<BTreeSet<_>>()
    };
    assert_eq!(found(&[3]).await, runs.iter().copied().collect());
    assert_eq!(found(&[4, 5]).await, [].into());
    assert_eq!(found(&[250, 3]).await, runs.iter().copied().chain([other]).collect());
    let published = vec![(runs[0], vec![1]), (other, vec![1]), (runs[2], vec![8])];
    store.published(published).await.unwrap();
    assert_eq!(found(&[3, 250]).await, [runs[1], runs[2]].into());
}

pub(super) async fn unpublished_runs_take_turns(subject: SharedSubject) {
    let store = subject.store();
    let runs: Vec<_> = [Shard(3), Shard(4)].into_iter().flat_map(|shard| runs_of(shard, 10)).collect();
    for &run in &runs {
        done(&*store, Commit { effects: b"e".to_vec(), ..commit(run, 0) }).await;
    }
    let mut met = BTreeSet::new();
    for _ in 0..500 {
        let found = store.unpublished(&[Shard(3), Shard(4)], 3).await.unwrap();
        assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), 3, "as many as asked for, none twice");
        met.extend(found);
    }
    assert_eq!(met, runs.into_iter().collect());
}
