//! What workers say to coordinators, and where that may lead: to no queue but the workers' own, and the coordinators'.

use phasework_broker::{Address, Message, Subscription};
use serde_json::json;

use super::world::{World, within};

/// A run that nobody knows: whoever asks about it is answered all the same.
const RUN: &str = "01990000-0000-7000-8000-000000000001";

async fn publish(world: &World, kind: &str, body: &serde_json::Value) {
    let message = Message::new(Address::Coordinator(0), kind, body.to_string());
    for result in within(world.broker.publish(vec![message])).await {
        result.unwrap();
    }
}

#[tokio::test]
async fn workers_are_answered_at_their_own_queues_and_nowhere_else() {
    let world = World::new(&[]).await;
    let others = ["client.1", "engine.c2", "jobs.Echo.1.0.0", "worker.", "x.worker.1"];
    let read = |name: &str| {
        let from = phasework_broker::gateway::address::read(name).unwrap_or_else(|_| Address::Private(name.into()));
        world.broker.subscribe(Subscription { from, prefetch: 100 })
    };
    let mut consumers = Vec::new();
    for other in &others {
        consumers.push((other, read(other).await.unwrap()));
    }
    let mut own = read("worker.1").await.unwrap();
    for queue in others.iter().chain(&["worker.1"]) {
        let reply = json!({ "queue": queue, "correlation_id": queue });
        let leases = json!({ "v": 1, "groups": [{ "run": RUN, "entry": 1, "nonce": 7, "handler": "Echo",
            "reply": reply, "leases": [{ "index": 0, "attempt": 1 }] }] });
        publish(&world, "Leases", &leases).await;
        let page = json!({ "v": 1, "run": RUN, "entry": 1, "nonce": 7, "handler": "Echo", "attempt": 1, "list": 3,
            "first": 0, "items": [1], "reply": reply });
        publish(&world, "JobsListed", &page).await;
    }
    // They are answered in their order, so by now the others would have been.
    let mut kinds = Vec::new();
    while kinds.len() < 2 {
        let answers = within(own.next(10)).await.unwrap();
        assert!(answers.iter().all(|answer| answer.correlation_id.as_deref() == Some("worker.1")));
        kinds.extend(answers.iter().map(|answer| answer.kind.to_string()));
    }
    kinds.sort();
    assert_eq!(kinds, ["LeasesAnswered", "ListAnswered"]);
    for (other, mut consumer) in consumers {
        let answers = tokio::time::timeout(std::time::Duration::ZERO, consumer.next(10)).await;
        assert!(answers.is_err(), "{other} was published to: {answers:?}");
    }
    world.stop().await;
}

#[tokio::test]
async fn a_gateway_makes_no_coordinator_queues() {
    let world = World::new(&[]).await;
    let message = |queue: u16| {
        let body = json!({ "v": 1, "groups": [] });
        json!({ "to": format!("coordinator.{queue}"), "type": "JobsFinished", "body": body })
    };
    let body = json!({ "messages": [message(7), message(8), message(65535), message(0)] }).to_string();
    let reply = world.post("/v1/gateway/publish", &body).await;
    let answer = reply.json();
    let results = answer["results"].as_array().unwrap();
    let statuses: Vec<_> = results.iter().map(|result| result["status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["confirmed", "unconfirmed", "unconfirmed", "confirmed"], "{reply:?}");
    assert!(results[1]["message"].as_str().unwrap().contains("`coordinator.8`"), "{reply:?}");
    for queue in [8, 65535] {
        assert_eq!(world.broker.depth(&Address::Coordinator(queue)).await.unwrap(), 0);
    }
    world.stop().await;
}
