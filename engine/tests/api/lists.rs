//! Lists that handlers make themselves, from a worker in another language.

use phasework_broker::{Address, Message, Subscription};
use phasework_workflows::Payload;
use phasework_workflows::id::Nonce;
use phasework_workflows::message::job::{JobGroup, Jobs};
use phasework_workflows::message::listing::{JobsListed, Sealed};
use phasework_workflows::message::outcome::{JobsFinished, Outcome, OutcomeGroup, Status};
use phasework_workflows::message::{Body as _, decode, encode};
use serde_json::{Value, json};

use super::world::{World, within};

/// A workflow whose handler lists its jobs itself.
const LISTING: &str = r#"{"workflow": "listing", "phases": {
    "work": {"is_initial": true, "transitions_to": "end", "handlers": [{"name": "Echo", "enumerate": true}]},
    "end": {"is_final": true}}}"#;

/// Takes the message that asks for a list, and gives it in pages of these sizes, each job being its place in it.
async fn list(world: &World, list: Nonce, pages: &[u64]) {
    let from = Address::Jobs("Echo.1.0.0".into());
    let mut consumer = world.broker.subscribe(Subscription { from, prefetch: 1 }).await.unwrap();
    let deliveries = within(consumer.next(1)).await.unwrap();
    let JobGroup { run, entry, nonce, handler, coordinator, enumerate, .. } =
        decode::<Jobs>(&deliveries[0].body).unwrap().groups.remove(0);
    assert!(enumerate);
    let to = Address::Coordinator(coordinator);
    let (mut first, mut messages) = (0, Vec::new());
    for size in pages {
        let items = (first..first + size).map(|index| Payload::of(&index).unwrap()).collect();
        let (handler, worker, reply) = (handler.clone(), None, None);
        let page = JobsListed { run, entry, nonce, handler, attempt: 1, list, first, items, worker, reply };
        messages.push(Message::new(to.clone(), JobsListed::KIND, encode(&page)));
        first += size;
    }
    let output = Payload::of(&Sealed { list, jobs: first }).ok();
    let outcome = Outcome { index: 0, attempt: 1, status: Status::Done, output, error: None, details: None };
    let (done, outcomes, service_us) = (Vec::new(), vec![outcome], None);
    let group = OutcomeGroup { run, entry, nonce, handler, done, outcomes, service_us };
    let finished = JobsFinished { worker: None, groups: vec![group] };
    messages.push(Message::new(to, JobsFinished::KIND, encode(&finished)));
    for published in world.broker.publish(messages).await {
        published.unwrap();
    }
    consumer.ack(&[deliveries[0].tag]).await.unwrap();
}

#[tokio::test]
async fn the_inputs_of_a_list_that_a_handler_made_are_told_whatever_its_pages_were() {
    let world = World::new(&["Echo"]).await;
    world.apply(LISTING).await;
    let run = world.submit("listing", "order-8").await;
    let inputs = |from: &Value| format!("/v1/runs/{run}/inputs?entry=1&handler=Echo&from={from}");
    while world.get(&format!("/v1/runs/{run}")).await.json()["handlers"][0]["in_flight"] != 1 {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.get(&inputs(&json!(0))).await.status, 404, "there are none before it is sealed");
    list(&world, Nonce(7), &[3, 1, 1500]).await;
    while world.get(&format!("/v1/runs/{run}")).await.json()["handlers"][0]["total"] != 1504 {
        tokio::task::yield_now().await;
    }
    let (mut told, mut from) = (Vec::new(), json!(0));
    while !from.is_null() {
        let page = world.get(&inputs(&from)).await.json();
        told.extend(page["inputs"].as_array().unwrap().clone());
        from = page["next"].clone();
    }
    let expected: Vec<Value> = (0..1504).map(|index| json!({ "index": index, "input": index })).collect();
    assert_eq!(told, expected);
    let middle = world.get(&inputs(&json!(1301))).await.json();
    assert_eq!(middle["inputs"][0], json!({ "index": 1301, "input": 1301 }));
    for beyond in [1504, 1505, 4000, 1 << 53, u64::MAX] {
        let page = world.get(&inputs(&json!(beyond))).await;
        assert_eq!(page.status, 200, "{page:?}");
        assert_eq!(page.json(), json!({ "inputs": [], "next": null }), "{beyond}");
    }
    world.stop().await;
}

#[tokio::test]
async fn beyond_the_last_of_the_inputs_there_are_none() {
    const EACH: &str = r#"{"workflow": "each", "phases": {
        "work": {"is_initial": true, "transitions_to": "end", "handlers": [{"name": "Echo", "for_each": 3, "input": "{{ item }}"}]},
        "end": {"is_final": true}}}"#;
    let world = World::new(&["Echo"]).await;
    world.apply(EACH).await;
    let run = world.submit("each", "order-10").await;
    while world.get(&format!("/v1/runs/{run}")).await.json()["handlers"][0]["in_flight"] != 3 {
        tokio::task::yield_now().await;
    }
    let inputs = |from: u64| format!("/v1/runs/{run}/inputs?entry=1&handler=Echo&from={from}");
    assert_eq!(world.get(&inputs(2)).await.json(), json!({ "inputs": [{ "index": 2, "input": 2 }], "next": null }));
    for beyond in [3, 999, 1000, 1 << 53, u64::MAX] {
        let page = world.get(&inputs(beyond)).await;
        assert_eq!(page.status, 200, "{page:?}");
        assert_eq!(page.json(), json!({ "inputs": [], "next": null }), "{beyond}");
    }
    world.stop().await;
}

#[tokio::test]
async fn a_list_with_a_number_that_not_every_store_can_keep_fails_its_making() {
    for number in [1 << 53, u64::MAX] {
        let world = World::new(&["Echo"]).await;
        world.apply(LISTING).await;
        let run = world.submit("listing", "order-9").await;
        list(&world, Nonce(number), &[3]).await;
        let mut told = world.get(&format!("/v1/runs/{run}")).await.json();
        while told["state"] == "running" {
            tokio::task::yield_now().await;
            told = world.get(&format!("/v1/runs/{run}")).await.json();
        }
        let words = told.to_string();
        assert!(words.contains("is no number for a list"), "{words}");
        world.stop().await;
    }
}
