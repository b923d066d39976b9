//! What a commit writes, when it is refused, and that it is whole.

use futures::future::join_all;
use phasework_workflows::id::{Nonce, RunId, Shard};
use phasework_workflows::run::{Delta, ForgottenList};

use super::SharedSubject;
use super::draft::{
    NONCE, at, commit, done, end_and_remove, ended, event, except, failure, find, forgotten, json, live, loaded,
    outputs, patch, run, runs_of,
};
use crate::{Commit, CommitError, RunCounts, RunFilter, Store, StoreError};

pub(super) async fn a_run_is_made_once(subject: SharedSubject) {
    let store = subject.store();
    assert_eq!(find(&*store, run(1)).await, None);
    done(&*store, commit(run(1), 0)).await;
    let again = Commit { head: b"another".to_vec(), ..commit(run(1), 0) };
    assert!(matches!(subject.twin().commit(vec![again]).await[0], Err(CommitError::Conflict)));
    let stored = loaded(&*store, run(1)).await;
    assert_eq!((stored.version, stored.head.as_slice()), (1, &b"head 1"[..]));
    assert_eq!((stored.bits, stored.exceptions, stored.outbox), (vec![vec![]], vec![vec![]], vec![]));
}

pub(super) async fn a_commit_needs_the_version_it_was_loaded_at(subject: SharedSubject) {
    let store = subject.store();
    for expect in [1, 2, u64::from(u32::MAX) + 1] {
        let result = &store.commit(vec![commit(run(1), expect)]).await[0];
        assert!(matches!(result, Err(CommitError::Conflict)), "of a missing run at {expect}: {result:?}");
    }
    for expect in 0..300 {
        done(&*store, commit(run(1), expect)).await;
    }
    for expect in [0, 1, 44, 255, 256, 299, 301, 65_836] {
        let result = &store.commit(vec![commit(run(1), expect)]).await[0];
        assert!(matches!(result, Err(CommitError::Conflict)), "of version 300 at {expect}: {result:?}");
    }
    assert_eq!(loaded(&*store, run(1)).await.version, 300);
}

pub(super) async fn of_concurrent_commits_one_wins(subject: SharedSubject) {
    let handles = [subject.store(), subject.twin()];
    for version in 0..25 {
        let rivals = (0..8).map(|rival| {
            let store = handles[rival % 2].clone();
            let head = format!("rival {rival}").into_bytes();
            let effects = head.clone();
            let change = Commit { head, effects, ..commit(run(1), version) };
            tokio::spawn(async move { store.commit(vec![change]).await.remove(0) })
        });
        let results: Vec<_> = join_all(rivals).await.into_iter().map(Result::unwrap).collect();
        let winners: Vec<_> = (0..8).filter(|&rival| results[rival].is_ok()).collect();
        assert_eq!(winners.len(), 1, "version {version}: {results:?}");
        assert!(results.iter().all(|result| matches!(result, Ok(()) | Err(CommitError::Conflict))), "{results:?}");
        let stored = loaded(&*handles[0], run(1)).await;
        assert_eq!((stored.version, stored.head), (version + 1, format!("rival {}", winners[0]).into_bytes()));
        assert_eq!(stored.outbox.len() as u64, version + 1, "a loser's effects are kept");
    }
}

/// A commit that touches everything there is.
fn sweeping(run: RunId, expect: u64) -> Commit {
    let delta = Delta {
        bits: vec![patch(1, 0, 0, &[0xff]), patch(2, 0, 0, &[0xff])],
        exceptions: vec![except(1, 0, 9, Some(9)), except(2, 0, 9, Some(9))],
        outputs: vec![outputs(1, 0, &[(0, "\"sweeping\"")])],
        failures: vec![failure(77)],
        history: vec![event(3)],
        forget_jobs: vec![forgotten(1, 1)],
        forget_inputs: vec![ForgottenList { entry: 1, nonce: NONCE, handler: 0 }],
        forget_outputs: vec![forgotten(1, 1)],
        output: Some(json("\"sweeping\"")),
    };
    Commit {
        head: b"sweeping".to_vec(),
        entry: 2,
        delta,
        data: Some(json("\"sweeping\"")),
        effects: b"sweeping".to_vec(),
        published: vec![1, 2],
        index: ended(1000, 5000),
        ..commit(run, expect)
    }
}

/// A run of two commits with a little of everything.
async fn settled(store: &dyn Store, run: RunId) {
    let delta = Delta {
        bits: vec![patch(1, 0, 2, &[7])],
        exceptions: vec![except(1, 0, 3, Some(3))],
        outputs: vec![outputs(1, 0, &[(4, "4")])],
        failures: vec![failure(5)],
        history: vec![event(1), event(2)],
        output: Some(json("true")),
        ..Delta::default()
    };
    store.put_inputs(run, 1, NONCE, 0, vec![(0, vec![json("0")])]).await.unwrap();
    done(store, Commit { data: Some(json("{}")), effects: b"1".to_vec(), ..commit(run, 0) }).await;
    let mut index = live(1000);
    (index.wake_at, index.awaits_worker) = (Some(at(2000)), true);
    done(store, Commit { delta, effects: b"2".to_vec(), index, ..commit(run, 1) }).await;
}

/// All that the port tells about a run.
async fn everything(store: &dyn Store, run: RunId) -> String {
    let shards = [run.shard()];
    let listed = RunFilter { limit: 10, ..RunFilter::default() };
    format!(
        "{:?}",
        (
            (find(store, run).await, store.data(run).await, store.output(run).await),
            store.inputs(run, 1, NONCE, 0, 0).await,
            store.outputs(run, 1, 0, 1000).await,
            (store.failures(run, 0, 10).await, store.history(run, 0, 10).await),
            (store.due(&shards, at(9000), 10).await, store.next_due(&shards).await),
            (store.unpublished(&shards, 10).await, store.awaiting_worker(&shards, 10).await),
            (store.runs(&listed).await, store.run_counts().await),
            store.ended_before(&shards, at(9000), 10).await,
        )
    )
}

pub(super) async fn a_refused_commit_changes_nothing(subject: SharedSubject) {
    let store = subject.store();
    settled(&*store, run(1)).await;
    let before = everything(&*store, run(1)).await;
    let traces = subject.traces().await;
    for expect in [0, 1, 3] {
        let result = &store.commit(vec![sweeping(run(1), expect)]).await[0];
        assert!(matches!(result, Err(CommitError::Conflict)), "at {expect}: {result:?}");
        assert_eq!(everything(&*store, run(1)).await, before, "after a conflict at {expect}");
        assert_eq!(subject.traces().await, traces);
    }
    done(&*store, sweeping(run(1), 2)).await;
    assert_ne!(everything(&*store, run(1)).await, before, "what is refused above would have changed something");
}

pub(super) async fn a_commit_that_does_not_fit_together_is_refused(subject: SharedSubject) {
    let store = subject.store();
    settled(&*store, run(1)).await;
    let before = everything(&*store, run(1)).await;
    let traces = subject.traces().await;
    let history =
        |numbers: &[u64]| Delta { history: numbers.iter().map(|&n| event(n)).collect(), ..sweeping(run(1), 2).delta };
    let misfits = [
        ("history that leaves a gap", history(&[4])),
        ("history that is there already", history(&[2, 3])),
        ("history with a gap inside", history(&[3, 5])),
        ("bits of a missing handler", Delta { bits: vec![patch(2, 1, 0, &[1])], ..Delta::default() }),
        ("an exception of a missing handler", Delta { exceptions: vec![except(2, 1, 0, None)], ..Delta::default() }),
        ("a bit beyond all bitmaps", Delta { bits: vec![patch(2, 0, u64::MAX, &[1])], ..Delta::default() }),
    ];
    for (what, delta) in misfits {
        let result = &store.commit(vec![Commit { delta, ..sweeping(run(1), 2) }]).await[0];
        assert!(matches!(result, Err(CommitError::Store(StoreError::Corrupt(_)))), "{what}: {result:?}");
        assert_eq!(everything(&*store, run(1)).await, before, "{what}");
        assert_eq!(subject.traces().await, traces, "{what}");
    }
}

pub(super) async fn runs_of_a_batch_do_not_affect_each_other(subject: SharedSubject) {
    let store = subject.store();
    let neighbours = runs_of(Shard(7), 2);
    let runs = [run(1), neighbours[0], run(3), neighbours[1], run(5)];
    done(&*store, commit(runs[1], 0)).await;
    let misfit = Delta { history: vec![event(9)], ..Delta::default() };
    let batch = vec![
        commit(runs[0], 0),
        commit(runs[1], 0), // is there already
        Commit { delta: misfit, ..commit(runs[2], 0) },
        commit(runs[3], 0),
        commit(runs[4], 7), // is not there yet
    ];
    let results = store.commit(batch).await;
    let told: Vec<_> = results
        .iter()
        .map(|result| match result {
            Ok(()) => "done",
            Err(CommitError::Conflict) => "conflict",
            Err(CommitError::Store(StoreError::Corrupt(_))) => "corrupt",
            Err(other) => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(told, ["done", "conflict", "corrupt", "done", "conflict"]);
    let there: Vec<_> = store.load(&runs).await.unwrap().iter().map(Option::is_some).collect();
    assert_eq!(there, [true, true, false, true, false]);
}

pub(super) async fn a_large_batch_is_committed_and_loaded_in_order(subject: SharedSubject) {
    let store = subject.store();
    let runs: Vec<_> = (0..700).map(run).collect();
    let batch = runs
        .iter()
        .enumerate()
        .filter(|(n, _)| n % 7 != 3)
        .map(|(n, &run)| Commit { head: n.to_string().into_bytes(), ..commit(run, 0) });
    let results = store.commit(batch.collect()).await;
    assert!(results.len() == 600 && results.iter().all(Result::is_ok), "{results:?}");
    for (n, stored) in store.load(&runs).await.unwrap().into_iter().enumerate() {
        let head = stored.map(|stored| String::from_utf8(stored.head).unwrap());
        assert_eq!(head, (n % 7 != 3).then(|| n.to_string()));
    }
}

pub(super) async fn bytes_and_text_survive_as_they_are(subject: SharedSubject) {
    let store = subject.store();
    let bytes: Vec<u8> = (0..=255).chain(*b"\r\n$-1\r\n\0").collect();
    let text =
        "{ \"ключ\" : [\"\u{0}é\\u0000\\n\", 12345678901234567890.10, -0.0 ],\r\n \"🦀\":null }".replace('\u{0}', "");
    let change = Commit {
        head: bytes.clone(),
        effects: bytes.iter().rev().copied().collect(),
        data: Some(json(text.clone())),
        delta: Delta {
            bits: vec![patch(1, 0, 0, &bytes)],
            outputs: vec![outputs(1, 0, &[(0, &text), (1, "\"a,b]\"")])],
            output: Some(json(text.clone())),
            ..Delta::default()
        },
        ..commit(run(1), 0)
    };
    done(&*store, change).await;
    let stored = loaded(&*store, run(1)).await;
    assert_eq!(stored.head, bytes);
    assert_eq!(stored.outbox, vec![(1, bytes.iter().rev().copied().collect())]);
    let bits = &stored.bits[0];
    assert_eq!(bits[..bytes.len() - 1], bytes[..bytes.len() - 1]); // a zero at the end may be left out
    assert_eq!(store.data(run(1)).await.unwrap(), Some(json(text.clone())));
    assert_eq!(store.output(run(1)).await.unwrap(), Some(json(text.clone())));
    let outputs = store.outputs(run(1), 1, 0, 1000).await.unwrap();
    assert_eq!(outputs, vec![(0, json(text)), (1, json("\"a,b]\""))]);
}

pub(super) async fn nothing_is_asked_and_nothing_happens(subject: SharedSubject) {
    let store = subject.store();
    let traces = subject.traces().await;
    assert_eq!(store.load(&[]).await.unwrap(), vec![]);
    assert!(store.commit(Vec::new()).await.is_empty());
    store.published(Vec::new()).await.unwrap();
    store.published(vec![(run(1), vec![1, 2]), (run(2), vec![])]).await.unwrap();
    store.put_inputs(run(1), 1, NONCE, 0, Vec::new()).await.unwrap();
    assert!(!store.remove_run(run(1), at(i64::MAX)).await.unwrap());
    store.remove_workers(&[]).await.unwrap();
    assert_eq!(store.due(&[], at(1), 10).await.unwrap(), vec![]);
    assert_eq!(store.next_due(&[]).await.unwrap(), None);
    assert_eq!(store.unpublished(&[], 10).await.unwrap(), vec![]);
    assert_eq!(store.awaiting_worker(&[], 10).await.unwrap(), vec![]);
    assert_eq!(store.ended_before(&[], at(1), 10).await.unwrap(), vec![]);
    assert_eq!(store.runs(&RunFilter { limit: 10, ..RunFilter::default() }).await.unwrap(), vec![]);
    assert_eq!(store.run_counts().await.unwrap(), RunCounts::default());
    assert_eq!((store.data(run(1)).await.unwrap(), store.output(run(1)).await.unwrap()), (None, None));
    assert_eq!(store.inputs(run(1), 1, NONCE, 0, 0).await.unwrap(), None);
    assert_eq!(store.outputs(run(1), 1, 0, 0).await.unwrap(), vec![]);
    assert_eq!(store.history(run(1), 0, 10).await.unwrap(), vec![]);
    assert_eq!(store.failures(run(1), 0, 10).await.unwrap(), vec![]);
    assert_eq!(subject.traces().await, traces);
}

pub(super) async fn a_removed_run_leaves_nothing_behind(subject: SharedSubject) {
    let store = subject.store();
    let traces = subject.traces().await;
    let nothing = everything(&*store, run(1)).await;
    settled(&*store, run(1)).await;
    // Entries with different numbers of handlers, outputs of each, inputs of a nonce that was never committed.
    for (version, entry, handlers) in [(2, 2, 5), (3, 3, 1), (4, 4, 3)] {
        let handler = handlers - 1;
        let delta = Delta {
            bits: vec![patch(entry, handler, 0, &[1])],
            exceptions: vec![except(entry, handler, 0, Some(2))],
            outputs: vec![outputs(entry, handler, &[(0, "0")])],
            ..Delta::default()
        };
        let index = if version == 4 { ended(1000, 5000) } else { live(1000) };
        let change = Commit { entry, handlers, delta, effects: b"e".to_vec(), index, ..commit(run(1), version) };
        done(&*store, change).await;
    }
    store.put_inputs(run(1), 4, Nonce(1), 2, vec![(3, vec![json("1")])]).await.unwrap();
    assert!(store.remove_run(run(1), at(5001)).await.unwrap());
    assert!(!store.remove_run(run(1), at(5001)).await.unwrap(), "it is gone");
    assert_eq!(subject.traces().await, traces);
    assert_eq!(everything(&*store, run(1)).await, nothing, "a removed run is like one that never was");
}

pub(super) async fn a_removed_run_can_be_made_again(subject: SharedSubject) {
    let store = subject.store();
    settled(&*store, run(1)).await;
    let before = everything(&*store, run(1)).await;
    end_and_remove(&*store, run(1), 1000).await;
    settled(&*store, run(1)).await;
    assert_eq!(everything(&*store, run(1)).await, before);
}

pub(super) async fn only_a_run_that_ended_in_time_is_removed(subject: SharedSubject) {
    let store = subject.store();
    settled(&*store, run(1)).await;
    store.put_inputs(run(2), 1, NONCE, 0, vec![(0, vec![json("1")])]).await.unwrap();
    let before = (everything(&*store, run(1)).await, everything(&*store, run(2)).await);
    for run in [run(1), run(2)] {
        assert!(!store.remove_run(run, at(i64::MAX)).await.unwrap(), "one lives, one is about to be made");
    }
    assert_eq!((everything(&*store, run(1)).await, everything(&*store, run(2)).await), before);
    done(&*store, Commit { index: ended(1000, 5000), ..commit(run(1), 2) }).await;
    for (time, is_removed) in [(4999, false), (5000, false), (5001, true), (5001, false)] {
        assert_eq!(subject.twin().remove_run(run(1), at(time)).await.unwrap(), is_removed, "{time}");
    }
}
