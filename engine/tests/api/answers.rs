//! One answer of every endpoint, frozen: what callers rely on changes only on purpose.

use phasework_workflows::Payload;
use phasework_workflows::message::notice::DeadLetter;
use phasework_workflows::message::outcome::JobError;
use serde_json::Value;

use super::world::{ECHO, NOW, Reply, THROUGH, World};

/// A definition that goes wrong and says so.
const RISKY: &str = r#"{"workflow": "risky", "phases": {
    "try": {"is_initial": true, "transitions_to": "good", "on_error_transition_to": "bad",
            "handlers": [{"name": "Echo", "retry": {"max_attempts": 1}}]},
    "good": {"is_final": true},
    "bad": {"is_final": true}}}"#;

/// Headers that belong to the contract.
const SHOWN: [&str; 5] = ["content-type", "location", "allow", "retry-after", "www-authenticate"];

/// Asks, and freezes the answer under `name`.
async fn check(world: &World, name: &str, method: &str, path: &str, body: &str) -> Reply {
    let reply = world.ask(method, path, &[], body).await;
    let mut text = format!("{method} {path}\n");
    if !body.is_empty() {
        text += &format!("{body}\n");
    }
    text += &format!("\n{}\n", reply.status);
    for (name, value) in reply.headers.iter().filter(|(name, _)| SHOWN.contains(&name.as_str())) {
        text += &format!("{name}: {value}\n");
    }
    text += &format!("\n{}\n", serde_json::to_string_pretty(&shape(reply.json())).unwrap());
    insta::with_settings!({ snapshot_path => "answers", prepend_module_to_snapshot => false, omit_expression => true }, {
        insta::assert_snapshot!(name, text);
    });
    reply
}

/// An answer without the words of problems in definitions: those belong to who reads definitions.
fn shape(mut answer: Value) -> Value {
    if answer["error"]["code"] == "invalid-definition" {
        for problem in answer["error"]["problems"].as_array_mut().unwrap() {
            for words in ["message", "hint"] {
                problem.get_mut(words).into_iter().for_each(|words| *words = "…".into());
            }
        }
    }
    answer
}

#[tokio::test]
async fn answers_about_workflows() {
    let world = World::new(&[]).await;
    check(&world, "workflow-applied", "PUT", "/v1/workflows", ECHO).await;
    check(&world, "workflow-known", "PUT", "/v1/workflows", ECHO).await;
    world.apply(THROUGH).await;
    check(&world, "workflows", "GET", "/v1/workflows", "").await;
    check(&world, "workflow", "GET", "/v1/workflows/echo", "").await;
    check(&world, "workflow-valid", "POST", "/v1/workflows/validate", THROUGH).await;
    let broken =
        r#"{"workflow": "w", "phases": {"a": {"is_initial": true, "transition_to": "b"}, "b": {"is_final": 1}}}"#;
    check(&world, "workflow-invalid", "POST", "/v1/workflows/validate", broken).await;
    check(&world, "workflow-unknown", "GET", "/v1/workflows/ecko", "").await;
    check(&world, "workflow-revision-unknown", "GET", "/v1/workflows/echo?revision=0", "").await;
    world.stop().await;
}

#[tokio::test]
async fn answers_about_a_run_that_succeeds() {
    let world = World::new(&["Echo"]).await;
    world.apply(ECHO).await;
    let body = r#"{"workflow": "echo", "key": "order-1", "data": {"greeting": "hello"}}"#;
    let run = check(&world, "run-submitted", "POST", "/v1/runs", body).await.json()["run"].clone();
    check(&world, "run-submitted-again", "POST", "/v1/runs", body).await;
    let run = run.as_str().unwrap();
    world.work("Echo", |group| Ok(group.data.clone().unwrap())).await;
    check(&world, "run-succeeded", "GET", &format!("/v1/runs/{run}?wait=30s"), "").await;
    check(&world, "run-history", "GET", &format!("/v1/runs/{run}/history"), "").await;
    check(&world, "run-history-page", "GET", &format!("/v1/runs/{run}/history?after=1&limit=1"), "").await;
    check(&world, "run-ended-before-cancel", "POST", &format!("/v1/runs/{run}/cancel"), "").await;
    check(&world, "workers", "GET", "/v1/workers", "").await;
    check(&world, "runs", "GET", "/v1/runs?state=ended&limit=10", "").await;
    world.stop().await;
}

#[tokio::test]
async fn answers_about_runs_that_do_not() {
    let world = World::new(&["Echo"]).await;
    world.apply(RISKY).await;
    let run = world.submit("risky", "order-2").await;
    let fail = |_: &_| Err(JobError::new("error", "the printer is on fire").for_good());
    world.work("Echo", fail).await;
    check(&world, "run-failed", "GET", &format!("/v1/runs/{run}?wait=30s"), "").await;
    check(&world, "run-failures", "GET", &format!("/v1/runs/{run}/failures"), "").await;

    world.apply(ECHO).await;
    let run = world.submit("echo", "order-3").await;
    world.work("Echo", fail).await;
    check(&world, "run-halted", "GET", &format!("/v1/runs/{run}?wait=30s"), "").await;
    let body = r#"{"reason": "no longer wanted"}"#;
    check(&world, "run-canceled", "POST", &format!("/v1/runs/{run}/cancel"), body).await;
    check(&world, "run-canceled-history", "GET", &format!("/v1/runs/{run}/history?after=3"), "").await;

    let unknown = "/v1/runs/00000000-0000-0000-0000-00000000ffff";
    check(&world, "run-unknown", "GET", unknown, "").await;
    check(&world, "run-no-id", "GET", "/v1/runs/latest", "").await;
    check(&world, "run-nothing-to-run", "POST", "/v1/runs", "{}").await;
    check(&world, "run-unknown-workflow", "POST", "/v1/runs", r#"{"workflow": "riski"}"#).await;
    check(&world, "run-malformed", "POST", "/v1/runs", "{\n  \"workflow\": \"risky\",\n}").await;
    let body = "{\"definition\": {\n  \"workflow\": \"w\",\n  \"phasse\": {}\n}}";
    check(&world, "run-invalid-definition", "POST", "/v1/runs", body).await;
    world.stop().await;
}

#[tokio::test]
async fn answers_about_a_run_that_waits() {
    let world = World::new(&[]).await;
    world.apply(ECHO).await;
    let run = world.submit("echo", "order-4").await;
    check(&world, "run-waiting", "GET", &format!("/v1/runs/{run}"), "").await;
    check(&world, "runs-live", "GET", "/v1/runs?state=live", "").await;
    world.stop().await;
}

/// A workflow whose handler has a job for each item of the data.
const EACH: &str = r#"{"workflow": "each", "phases": {
    "work": {"is_initial": true, "transitions_to": "end", "handlers": [{"name": "Echo", "for_each": "data"}]},
    "end": {"is_final": true}}}"#;

#[tokio::test]
async fn answers_about_what_a_run_and_its_jobs_were_given_and_gave() {
    let world = World::new(&["Echo"]).await;
    world.apply(EACH).await;
    let body = r#"{"workflow": "each", "key": "order-6", "data": ["a", {"n": 1.50}]}"#;
    let run = world.post("/v1/runs", body).await.json()["run"].as_str().unwrap().to_owned();
    let path = |what: &str| format!("/v1/runs/{run}/{what}");
    while world.get(&format!("/v1/runs/{run}")).await.json()["handlers"][0]["in_flight"] != 2 {
        tokio::task::yield_now().await;
    }
    check(&world, "run-data", "GET", &path("data"), "").await;
    check(&world, "run-inputs", "GET", &path("inputs?entry=1&handler=Echo"), "").await;
    // The jobs may come in one message or in two.
    let mut worked = 0;
    while worked < 2 {
        let groups = world.work("Echo", |_| Ok(Payload::from_json("{\"ok\": 1e2}".into()).unwrap())).await;
        worked += groups.iter().map(|group| group.each().count()).sum::<usize>();
    }
    assert_eq!(world.get(&format!("/v1/runs/{run}?wait=30s")).await.json()["state"], "succeeded");
    check(&world, "run-outputs", "GET", &path("outputs?entry=1&handler=Echo"), "").await;
    check(&world, "run-inputs-gone", "GET", &path("inputs?entry=1&handler=Echo"), "").await;
    check(&world, "run-outputs-unknown", "GET", &path("outputs?entry=7&handler=Echo"), "").await;
    check(&world, "run-data-unknown", "GET", "/v1/runs/00000000-0000-0000-0000-00000000ffff/data", "").await;
    world.stop().await;
}

#[tokio::test]
async fn answers_about_coordinators() {
    let world = World::new(&[]).await;
    while world.get("/v1/coordinators").await.json()["coordinators"][0]["queues_owned"] != 8 {
        tokio::task::yield_now().await;
    }
    check(&world, "coordinators", "GET", "/v1/coordinators", "").await;
    world.stop().await;
}

#[tokio::test]
async fn answers_to_orders() {
    let world = World::new(&["Echo"]).await;
    world.apply(ECHO).await;
    let run = world.submit("echo", "order-5").await;
    let path = |action: &str| format!("/v1/runs/{run}/{action}");
    // Its job has to be out: what is canceled otherwise ends at once.
    while world.get(&format!("/v1/runs/{run}")).await.json()["handlers"][0]["in_flight"] != 1 {
        tokio::task::yield_now().await;
    }
    check(&world, "run-paused", "POST", &path("pause"), r#"{"reason": "lunch"}"#).await;
    check(&world, "run-paused-view", "GET", &format!("/v1/runs/{run}"), "").await;
    check(&world, "run-paused-before", "POST", &path("pause"), "").await;
    check(&world, "run-not-to-be-retried", "POST", &path("retry"), "").await;
    check(&world, "run-resumed", "POST", &path("resume"), "").await;
    world.work("Echo", |_| Err(JobError::new("error", "the printer is on fire").for_good())).await;
    assert_eq!(world.get(&format!("/v1/runs/{run}?wait=30s")).await.json()["state"], "halted");
    check(&world, "run-retried", "POST", &path("retry"), r#"{"reason": "it is out", "data": {"n": 1}}"#).await;
    check(&world, "run-rerun", "POST", &path("rerun"), r#"{"phase": "work", "data": {"n": 1}}"#).await;
    check(&world, "run-rerun-nowhere", "POST", &path("rerun"), r#"{"phase": "wrok"}"#).await;
    check(&world, "run-canceling", "POST", &path("cancel"), r#"{"deadline": "30s", "reason": "enough"}"#).await;
    check(&world, "run-canceling-view", "GET", &format!("/v1/runs/{run}"), "").await;
    check(&world, "run-cancel-wrong", "POST", &path("cancel"), r#"{"deadline": "25h"}"#).await;
    check(&world, "run-canceled-at-once", "POST", &path("cancel"), r#"{"deadline": "0s"}"#).await;
    check(&world, "run-orders-history", "GET", &path("history?after=3"), "").await;
    world.stop().await;
}

#[tokio::test]
async fn answers_about_dead_letters() {
    let world = World::new(&[]).await;
    let letter = |id: &str, body: &str| DeadLetter {
        id: id.into(),
        reason: "not a Submit: expected value at line 1 column 1".into(),
        at: NOW,
        queue: "jobs.Echo.1.0.0".into(),
        kind: "Submit".into(),
        body: body.into(),
        size: body.len() as u64,
    };
    world.store.put_dead(letter("l1", "hello")).await.unwrap();
    world.store.put_dead(letter("l2", &"é".repeat(1000))).await.unwrap();
    world.store.put_dead(DeadLetter { size: 1_000_000, ..letter("l3", "cut short") }).await.unwrap();
    check(&world, "dead-letters", "GET", "/v1/dead?limit=2", "").await;
    check(&world, "dead-letter", "GET", "/v1/dead/l1", "").await;
    check(&world, "dead-letter-requeued", "POST", "/v1/dead/l1/requeue", "").await;
    check(&world, "dead-letter-gone", "POST", "/v1/dead/l1/requeue", "").await;
    check(&world, "dead-letter-not-whole", "POST", "/v1/dead/l3/requeue", "").await;
    check(&world, "dead-letter-removed", "DELETE", "/v1/dead/l2", "").await;
    let left = world.get("/v1/dead").await.json();
    assert_eq!((&left["count"], &left["dead"][0]["id"]), (&1.into(), &"l3".into()));
    world.stop().await;
}

#[tokio::test]
async fn answers_about_the_program() {
    let world = World::new(&[]).await;
    check(&world, "about", "GET", "/", "").await;
    check(&world, "live", "GET", "/health/live", "").await;
    check(&world, "ready", "GET", "/health/ready", "").await;
    check(&world, "path-unknown", "GET", "/v1/run", "").await;
    check(&world, "method-wrong", "DELETE", "/v1/runs", "").await;
    check(&world, "metrics-none", "GET", "/metrics", "").await;
    world.broker.close().await;
    check(&world, "not-ready", "GET", "/health/ready", "").await;
    world.stop().await;
}

#[tokio::test]
async fn a_payload_that_was_sent_is_the_payload_that_arrives() {
    let world = World::new(&["Echo"]).await;
    world.apply(ECHO).await;
    let data = r#"{"z": 123456789012345678901234567890.125, "a":1e400,  "é\u00e9": [ -0 ]}"#;
    let body = format!(r#"{{"workflow": "echo", "data": {data}}}"#);
    assert_eq!(world.post("/v1/runs", &body).await.status, 201);
    let jobs = world.work("Echo", |_| Ok(Payload::null())).await;
    assert_eq!(jobs[0].data.as_ref().unwrap().as_json(), data);
    world.stop().await;
}
