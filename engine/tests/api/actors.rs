//! Who did it: names of tokens, on their way into the history.

use phasework_broker::{Address, Message};
use phasework_engine::api::{ApiConfig, Tokens};
use phasework_workflows::Payload;
use phasework_workflows::message::Body as _;
use phasework_workflows::message::submission::Submit;

use super::world::{ECHO, World};

/// What is known of a run's events: what, and who.
async fn actors(world: &World, run: &str, header: &[&str]) -> Vec<(String, String)> {
    let reply = world.ask("GET", &format!("/v1/runs/{run}/history"), header, "").await;
    let events = reply.json()["events"].as_array().unwrap().clone();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or("-").to_owned();
    events.iter().map(|event| (text(&event["what"]), text(&event["actor"]))).collect()
}

#[tokio::test]
async fn the_history_says_who_asked() {
    let tokens = Tokens::read("alice=4lice,ci=c1").unwrap().and("plain").unwrap();
    let world = World::with(ApiConfig { tokens, metrics: None }, &[], |router| router).await;
    let (alice, ci, plain) = ("Authorization: Bearer 4lice", "Authorization: Bearer c1", "Authorization: Bearer plain");
    let refused = world.ask("GET", "/v1/runs", &["Authorization: Bearer alice"], "").await;
    assert_eq!(refused.status, 401, "{refused:?}");
    let submitted = world.ask("POST", "/v1/runs", &[alice], &format!(r#"{{"definition": {ECHO}}}"#)).await;
    let run = submitted.json()["run"].as_str().unwrap().to_owned();
    for (order, who) in [("pause", ci), ("resume", plain), ("cancel", alice)] {
        let reply = world.ask("POST", &format!("/v1/runs/{run}/{order}"), &[who], "").await;
        assert_eq!((reply.status, &reply.json()["changed"]), (200, &true.into()), "{order}: {reply:?}");
    }
    let told = actors(&world, &run, &[alice]).await;
    for (what, who) in [("started", "alice"), ("paused", "ci"), ("resumed", "api"), ("ended", "alice")] {
        assert!(told.contains(&(what.into(), who.into())), "{what} by {who}: {told:?}");
    }
    world.stop().await;
}

#[tokio::test]
async fn without_tokens_whoever_asks_is_the_api_and_a_queue_is_a_queue() {
    let world = World::new(&[]).await;
    let run = world.post("/v1/runs?wait=30s", &format!(r#"{{"definition": {}}}"#, super::world::THROUGH)).await;
    let told = actors(&world, run.json()["run"].as_str().unwrap(), &[]).await;
    assert_eq!(told.first(), Some(&("started".into(), "api".into())), "{told:?}");
    assert_eq!(told.last(), Some(&("ended".into(), "engine".into())), "{told:?}");

    let submit = Submit {
        workflow: None,
        revision: None,
        definition: Some(Payload::from_json(super::world::THROUGH.to_owned()).unwrap()),
        data: None,
        key: Some("by-queue".into()),
    };
    let body = phasework_workflows::message::encode(&submit);
    for result in world.broker.publish(vec![Message::new(Address::Submit, Submit::KIND, body)]).await {
        result.unwrap();
    }
    // The same key: whoever comes second is answered when the run is there, and does not start it.
    let run = loop {
        let runs = world.get("/v1/runs?limit=10").await.json();
        let found = runs["runs"].as_array().unwrap().iter().find(|run| run["key"] == "by-queue").cloned();
        if let Some(run) = found {
            break run["run"].as_str().unwrap().to_owned();
        }
    };
    let told = actors(&world, &run, &[]).await;
    assert_eq!(told.first(), Some(&("started".into(), "amqp".into())), "{told:?}");
    world.stop().await;
}
