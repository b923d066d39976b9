//! What the auditor says of live runs, sound and damaged.

use phasework_store::{Commit, RunIndex};
use phasework_workflows::id::RunId;
use phasework_workflows::run::{Delta, Head};
use serde_json::json;

use super::world::{ECHO, World};

/// Writes down a head that does not fit the rest of the run.
async fn tamper(world: &World, run: RunId, change: impl FnOnce(&mut Head)) {
    let stored = world.store.load(&[run]).await.unwrap().remove(0).unwrap();
    let mut head = Head::from_json(&stored.head).unwrap();
    let index = RunIndex {
        state: head.state,
        created_at: head.created_at,
        ended_at: head.ended_at,
        wake_at: head.wake_at,
        awaits_worker: head.awaits_worker,
    };
    change(&mut head);
    let commit = Commit {
        run,
        expect: stored.version,
        head: head.to_json(),
        entry: head.entry.number,
        handlers: head.entry.handlers.len() as u16,
        delta: Delta::default(),
        data: None,
        effects: Vec::new(),
        published: Vec::new(),
        index,
    };
    for result in world.store.commit(vec![commit]).await {
        result.unwrap();
    }
}

#[tokio::test]
async fn what_is_wrong_with_live_runs_is_found() {
    let world = World::new(&[]).await;
    world.apply(ECHO).await;
    let mut runs = Vec::new();
    for _ in 0..5 {
        let reply = world.post("/v1/runs", r#"{"workflow": "echo"}"#).await.json();
        runs.push(reply["run"].as_str().unwrap().parse::<RunId>().unwrap());
    }
    let sound = world.get("/v1/audit").await.json();
    assert_eq!(sound, json!({ "audited": 5, "findings": [], "next": null }));

    tamper(&world, runs[1], |head| head.events += 1).await;
    tamper(&world, runs[3], |head| head.entry.handlers[0].out = 7).await;
    let (mut found, mut audited, mut next) = (Vec::new(), 0, String::new());
    loop {
        let page = world.get(&format!("/v1/audit?limit=2{next}")).await.json();
        audited += page["audited"].as_u64().unwrap();
        for finding in page["findings"].as_array().unwrap() {
            let run = finding["run"].as_str().unwrap().parse::<RunId>().unwrap();
            found.push((run, finding["invariant"].as_str().unwrap().to_owned()));
        }
        match page["next"].as_str() {
            Some(cursor) => next = format!("&before={cursor}"),
            None => break,
        }
    }
    found.sort();
    let mut expected = vec![(runs[1], "history-true".to_owned()), (runs[3], "counted-once".to_owned())];
    expected.sort();
    assert_eq!((audited, found), (5, expected));
    world.stop().await;
}

/// Wrong numbers have no bounds: with one of these, a coordinator would go through jobs for years, or run out of memory.
#[tokio::test]
async fn a_run_that_does_not_add_up_is_not_touched() {
    let world = World::new(&[]).await;
    world.apply(ECHO).await;
    let damages: [fn(&mut Head); 3] = [
        |head| (head.entry.handlers[0].cursor, head.entry.handlers[0].out) = (u64::MAX, u64::MAX),
        |head| head.entry.handlers[0].done = u64::MAX,
        |head| head.entry.handlers[0].waiting = 1,
    ];
    for damage in damages {
        let reply = world.post("/v1/runs", r#"{"workflow": "echo"}"#).await.json();
        let run = reply["run"].as_str().unwrap().to_owned();
        tamper(&world, run.parse().unwrap(), damage).await;
        let refused = world.post(&format!("/v1/runs/{run}/pause"), "{}").await;
        assert!(refused.status >= 400 && refused.message().contains("damaged state"), "{}", refused.body);
    }
    let sound = world.submit("echo", "sound").await;
    assert_eq!(world.post(&format!("/v1/runs/{sound}/pause"), "{}").await.status, 200);
    world.stop().await;
}
