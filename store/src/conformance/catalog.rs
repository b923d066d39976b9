//! What belongs to no run: definitions, workers, dead letters, and the state of the store itself.

use std::sync::Arc;

use phasework_workflows::id::{HandlerName, Revision, WorkflowName};
use phasework_workflows::message::notice::DeadLetter;
use phasework_workflows::message::presence::{HostedHandler, WorkerAnnounced};

use super::SharedSubject;
use super::draft::at;
use crate::StoredWorkflow;

fn name(text: &str) -> WorkflowName {
    WorkflowName::new(text).unwrap()
}

fn workflow(of: &str, revision: &str, stored_ms: i64) -> StoredWorkflow {
    StoredWorkflow {
        name: name(of),
        revision: Revision::from(revision),
        definition: format!("{{\"workflow\":\"{of}\",\"ü\":\"{revision}\\n\"}}"),
        stored_at: at(stored_ms),
    }
}

pub(super) async fn workflows_are_kept_by_revision(subject: SharedSubject) {
    let store = subject.store();
    assert_eq!(store.workflow(&Revision::from("aa")).await.unwrap(), None);
    assert_eq!(store.latest_workflow(&name("search")).await.unwrap(), None);
    assert_eq!(store.revisions(&name("search")).await.unwrap(), []);
    let (a, b, c) = (workflow("search", "aa", 10), workflow("search", "bb", 20), workflow("search", "cc", 20));
    for (put, is_new) in [(&a, true), (&b, true), (&b, false), (&c, true)] {
        assert_eq!(store.put_workflow(put.clone()).await.unwrap(), is_new);
        assert_eq!(store.latest_workflow(&name("search")).await.unwrap().as_ref(), Some(put));
    }
    assert_eq!(store.revisions(&name("search")).await.unwrap(), [c.clone(), b.clone(), a.clone()]);
    // An old one is made the latest again; it keeps its time.
    assert!(!store.put_workflow(workflow("search", "aa", 99)).await.unwrap());
    let twin = subject.twin();
    assert_eq!(twin.latest_workflow(&name("search")).await.unwrap(), Some(a.clone()));
    assert_eq!(twin.revisions(&name("search")).await.unwrap(), [a.clone(), c, b]);
    assert_eq!(twin.workflow(&a.revision).await.unwrap(), Some(a));
}

pub(super) async fn what_is_kept_does_not_displace_the_latest(subject: SharedSubject) {
    let store = subject.store();
    let (a, b, c) = (workflow("search", "aa", 10), workflow("search", "bb", 20), workflow("search", "cc", 30));
    // The first of a name is its latest, and stays that.
    for (keep, is_new) in [(&a, true), (&b, true), (&b, false), (&a, false)] {
        assert_eq!(store.keep_workflow(keep.clone()).await.unwrap(), is_new);
        assert_eq!(store.latest_workflow(&name("search")).await.unwrap().as_ref(), Some(&a));
    }
    assert_eq!(store.revisions(&name("search")).await.unwrap(), [a.clone(), b.clone()]);
    assert!(store.put_workflow(c.clone()).await.unwrap());
    // What is stored keeps its time and its place.
    assert!(!store.keep_workflow(workflow("search", "aa", 99)).await.unwrap());
    // Another name has another latest.
    let other = workflow("crawl", "dd", 40);
    assert!(store.keep_workflow(other.clone()).await.unwrap());
    let twin = subject.twin();
    assert_eq!(twin.workflows().await.unwrap(), [other, c.clone()]);
    assert_eq!(twin.revisions(&name("search")).await.unwrap(), [c, a, b.clone()]);
    assert_eq!(twin.workflow(&b.revision).await.unwrap(), Some(b));
}

pub(super) async fn an_old_definition_is_kept_while_a_new_one_is_put(subject: SharedSubject) {
    let (store, twin) = (subject.store(), subject.twin());
    for round in 0..20 {
        let of = format!("w{round}");
        let (old, new) = (workflow(&of, &format!("old{round}"), 1), workflow(&of, &format!("new{round}"), 2));
        let (here, put, there) = tokio::join!(
            store.keep_workflow(old.clone()),
            store.put_workflow(new.clone()),
            twin.keep_workflow(old.clone()),
        );
        assert!(put.unwrap());
        assert!(here.unwrap() != there.unwrap(), "one of the two has stored it");
        assert_eq!(store.revisions(&name(&of)).await.unwrap(), [new.clone(), old]);
        assert_eq!(store.latest_workflow(&name(&of)).await.unwrap(), Some(new));
    }
}

pub(super) async fn the_latest_definition_of_each_name_is_listed(subject: SharedSubject) {
    let store = subject.store();
    assert_eq!(store.workflows().await.unwrap(), []);
    let puts = [("z", "11"), ("a:b", "22"), ("Search", "33"), ("a", "44"), ("z", "55"), ("a-b", "66")];
    for (of, revision) in puts {
        assert!(store.put_workflow(workflow(of, revision, 1)).await.unwrap());
    }
    let listed = store.workflows().await.unwrap();
    let listed: Vec<_> = listed.iter().map(|stored| (stored.name.as_str(), stored.revision.as_str())).collect();
    assert_eq!(listed, [("Search", "33"), ("a", "44"), ("a-b", "66"), ("a:b", "22"), ("z", "55")]);
}

fn worker(id: &str, in_flight: u32) -> WorkerAnnounced {
    let handler = HostedHandler {
        name: HandlerName::new("PageDownloader").unwrap(),
        version: phasework_workflows::Version::new(1, 2, 3),
        slots: 4,
        in_flight,
    };
    WorkerAnnounced {
        worker: id.into(),
        host: "büro".into(),
        pid: 7,
        sdk: "rust/0.1.0".into(),
        started_at: at(5),
        handlers: vec![handler],
        draining: in_flight == 0,
    }
}

pub(super) async fn workers_are_remembered_and_forgotten(subject: SharedSubject) {
    let store = subject.store();
    assert_eq!(store.workers().await.unwrap(), []);
    for (id, in_flight, ms) in [("b", 1, 10), ("a", 2, 20), ("c", 3, 30), ("b", 0, 40)] {
        store.put_worker(worker(id, in_flight), at(ms)).await.unwrap();
    }
    let expected = [(worker("a", 2), at(20)), (worker("b", 0), at(40)), (worker("c", 3), at(30))];
    assert_eq!(subject.twin().workers().await.unwrap(), expected);
    let gone: Vec<Arc<str>> = ["b", "nobody", "c"].map(Into::into).to_vec();
    store.remove_workers(&gone).await.unwrap();
    assert_eq!(store.workers().await.unwrap(), expected[..1]);
}

fn letter(id: &str, ms: i64, body: &str) -> DeadLetter {
    DeadLetter {
        id: id.into(),
        reason: "no such run: ü".into(),
        at: at(ms),
        queue: "coordinator.3".into(),
        kind: "JobsFinished".into(),
        body: body.into(),
        size: body.len() as u64,
    }
}

pub(super) async fn dead_letters_are_kept_once(subject: SharedSubject) {
    let store = subject.store();
    let letters = [letter("d", 30, "4"), letter("c", 20, "3"), letter("b", 20, "2"), letter("a", 10, "1")];
    for kept in [2, 0, 3, 1] {
        store.put_dead(letters[kept].clone()).await.unwrap();
    }
    store.put_dead(letter("a", 99, "another")).await.unwrap(); // changes nothing
    assert_eq!(store.dead_count().await.unwrap(), 4);
    for (skip, limit) in [(0, 10), (0, 2), (1, 2), (3, 2), (4, 2), (0, 0), (usize::MAX, 1), (1, usize::MAX)] {
        let expected: Vec<_> = letters.iter().skip(skip).take(limit).cloned().collect();
        assert_eq!(subject.twin().dead(skip, limit).await.unwrap(), expected, "{limit} after {skip}");
    }
    assert_eq!(store.dead_letter("a").await.unwrap(), Some(letters[3].clone()));
    assert_eq!(store.dead_letter("e").await.unwrap(), None);
    for (id, was_there) in [("c", true), ("c", false), ("e", false)] {
        assert_eq!(store.remove_dead(id).await.unwrap(), was_there);
    }
    assert_eq!(store.dead_letter("c").await.unwrap(), None);
    assert_eq!(store.dead_count().await.unwrap(), 3);
    assert_eq!(store.dead(1, 1).await.unwrap(), [letters[2].clone()]);
    let large = letter("e", 50, &"\0ü".repeat(100_000));
    store.put_dead(large.clone()).await.unwrap();
    assert!(store.dead(0, 1).await.unwrap() == [large]);
}

pub(super) async fn a_sound_store_passes_its_own_check(subject: SharedSubject) {
    let store = subject.store();
    let first = store.check().await.unwrap();
    assert_eq!(store.check().await.unwrap(), first, "looking twice changes nothing");
    assert_eq!(subject.twin().check().await.unwrap(), first);
}
