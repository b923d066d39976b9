//! What the auditor says of live runs, sound and damaged.

use phasework_store::{Commit, RunIndex};
use phasework_workflows::id::RunId;
use phasework_workflows::message::outcome::JobError;
use phasework_workflows::run::{Delta, ExceptionChange, Head, STATE_FORMAT};
use serde_json::json;

use super::world::{ECHO, World};

/// Writes down a head that does not fit the rest of the run.
async fn tamper(world: &World, run: RunId, change: impl FnOnce(&mut Head)) {
    tamper_with(world, run, Delta::default(), change).await;
}

async fn tamper_with(world: &World, run: RunId, delta: Delta, change: impl FnOnce(&mut Head)) {
    let change = |mut head: Head| {
        change(&mut head);
        head.to_json()
    };
    rewrite(world, run, delta, change).await;
}

async fn rewrite(world: &World, run: RunId, delta: Delta, change: impl FnOnce(Head) -> Vec<u8>) {
    let stored = world.store.load(&[run]).await.unwrap().remove(0).unwrap();
    let head = Head::from_json(&stored.head).unwrap();
    let index = RunIndex {
        state: head.state,
        created_at: head.created_at,
        ended_at: head.ended_at,
        wake_at: head.wake_at,
        awaits_worker: head.awaits_worker,
    };
    let (entry, handlers) = (head.entry.number, head.entry.handlers.len() as u16);
    let commit = Commit {
        run,
        expect: stored.version,
        head: change(head),
        entry,
        handlers,
        delta,
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

#[tokio::test]
async fn a_run_that_cannot_be_read_is_listed_with_the_others() {
    let world = World::new(&[]).await;
    world.apply(ECHO).await;
    let mut runs = Vec::new();
    for _ in 0..4 {
        let reply = world.post("/v1/runs", r#"{"workflow": "echo"}"#).await.json();
        runs.push(reply["run"].as_str().unwrap().parse::<RunId>().unwrap());
    }
    rewrite(&world, runs[1], Delta::default(), |_| b"{ \"format\": 2, \"id\": 7".to_vec()).await;
    let later = |head: Head| Head { format: STATE_FORMAT + 1, ..head }.to_json();
    rewrite(&world, runs[2], Delta::default(), later).await;
    let damaged = "damaged state: EOF while parsing an object at line 1 column 22";
    let newer = "state format 3 is newer than 2, which this program reads; update it";
    // On pages of one, too: each has a place to go on from.
    for limit in [1, 3, 100] {
        let (mut listed, mut next) = (Vec::new(), String::new());
        loop {
            let page = world.get(&format!("/v1/runs?state=live&limit={limit}{next}")).await.json();
            listed.extend(page["runs"].as_array().unwrap().clone());
            match page["next"].as_str() {
                Some(cursor) => next = format!("&before={cursor}"),
                None => break,
            }
        }
        listed.reverse();
        let shown: Vec<_> = listed.iter().map(|run| (run["run"].as_str().unwrap(), &run["state"])).collect();
        let states = ["running", "damaged", "newer", "running"].map(|state| json!(state));
        let expected: Vec<_> = runs.iter().map(ToString::to_string).zip(states).collect();
        assert_eq!(shown, expected.iter().map(|(run, state)| (&**run, state)).collect::<Vec<_>>(), "{limit}");
        let error = |kind: &str, message| json!({ "kind": kind, "message": message });
        assert_eq!((&listed[1]["error"], &listed[2]["error"]), (&error("damaged", damaged), &error("newer", newer)));
        assert_eq!(listed[1]["created_at"], listed[0]["created_at"]);
    }
    // Asked for by itself, each says why it cannot be shown; the auditor passes none over for it.
    let (one, other) =
        (world.get(&format!("/v1/runs/{}", runs[1])).await, world.get(&format!("/v1/runs/{}", runs[2])).await);
    assert_eq!((one.status, one.message(), other.status, other.message()), (500, damaged.into(), 503, newer.into()));
    let (mut audited, mut next) = (0, String::new());
    loop {
        let page = world.get(&format!("/v1/audit?limit=1{next}")).await.json();
        audited += page["audited"].as_u64().unwrap();
        match page["next"].as_str() {
            Some(cursor) => next = format!("&before={cursor}"),
            None => break,
        }
    }
    assert_eq!(audited, 4);
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
        assert_eq!((refused.status, &*refused.code()), (500, "damaged"), "{}", refused.body);
        assert!(refused.message().contains("damaged state"), "{}", refused.body);
        // Only by force can it be ended, and that is in its history.
        let cancel = format!("/v1/runs/{run}/cancel");
        assert_eq!(world.post(&cancel, r#"{"deadline": "0s"}"#).await.status, 500);
        assert_eq!(world.post(&cancel, r#"{"deadline": "0s", "force": true}"#).await.status, 400);
        let ended = world.post(&cancel, r#"{"force": true, "reason": "beyond repair"}"#).await;
        assert_eq!(ended.json(), json!({ "run": run, "state": "canceled", "changed": true }));
        let history = world.get(&format!("/v1/runs/{run}/history")).await.body;
        assert!(history.contains("beyond repair"), "{history}");
        assert_eq!(world.get("/v1/audit").await.json()["findings"], json!([]));
    }
    let sound = world.submit("echo", "sound").await;
    assert_eq!(world.post(&format!("/v1/runs/{sound}/pause"), "{}").await.status, 200);
    world.stop().await;
}

/// An earlier version did not record which jobs failed, so there is none that could be tried again.
#[tokio::test]
async fn a_retry_of_what_was_not_recorded_is_refused() {
    let world = World::new(&["Echo"]).await;
    world.apply(ECHO).await;
    let run = world.submit("echo", "broken").await;
    world.work("Echo", |_| Err(JobError::new("error", "the printer is on fire").for_good())).await;
    assert_eq!(world.get(&format!("/v1/runs/{run}?wait=30s")).await.json()["state"], "halted");
    let forgotten = ExceptionChange { entry: 1, handler: 0, index: 0, exception: None };
    // The coordinator remembers the run as it was, and looks again as the version is another.
    let delta = Delta { exceptions: vec![forgotten], ..Delta::default() };
    tamper_with(&world, run.parse().unwrap(), delta, |_| ()).await;
    let refused = world.post(&format!("/v1/runs/{run}/retry"), "{}").await;
    assert_eq!((refused.status, &*refused.code()), (400, "invalid"), "{}", refused.body);
    assert!(refused.message().contains("rerun enters the phase anew"), "{}", refused.body);
    let rerun = world.post(&format!("/v1/runs/{run}/rerun"), "{}").await.json();
    assert_eq!((&rerun["state"], &rerun["changed"]), (&json!("running"), &json!(true)));
    world.stop().await;
}
