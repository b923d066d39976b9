//! What a session is, request by request: nothing is lost with an answer, nothing outlives its reader.

use std::sync::Arc;
use std::time::Duration;

use phasework_broker::gateway::Method::{Delete, Post};
use phasework_broker::memory::MemoryBroker;
use phasework_engine::api::Policy;
use tokio::time::advance;

use super::world::{Direct, Server, jobs, send, until_depth, within};

async fn world() -> (Arc<MemoryBroker>, Direct, String) {
    let broker = Arc::new(MemoryBroker::new());
    let gateway = Direct::new(Arc::<MemoryBroker>::clone(&broker), Policy::Workers);
    let session = gateway.open().await;
    gateway.subscribe(&session).await;
    (broker, gateway, session)
}

#[tokio::test]
async fn a_poll_is_given_what_is_above_and_held() {
    let (broker, gateway, session) = world().await;
    send(&*broker, &jobs(), &["1", "2", "3"]).await;
    until_depth(&broker, &jobs(), 0).await;
    // As if the answers to the first two had been lost.
    for _ in 0..3 {
        assert_eq!(gateway.poll(&session, r#"{"after": 0}"#).await, [1, 2, 3]);
    }
    assert_eq!(gateway.poll(&session, r#"{"after": 1, "max": 1}"#).await, [2]);
    assert_eq!(gateway.poll(&session, r#"{"after": 1, "ack": [2, 2, 99]}"#).await, [3]);
    for _ in 0..2 {
        let (status, _) = gateway.ask(Post, &format!("{session}/settle"), r#"{"ack": [1], "release": [3]}"#).await;
        assert_eq!(status, 204);
    }
    // What was released comes again, under a number of its own.
    assert_eq!(gateway.poll(&session, r#"{"after": 3}"#).await, [4]);
    let (_, answer) = gateway.ask(Post, &format!("{session}/next"), r#"{"after": 3}"#).await;
    assert_eq!((&answer["deliveries"][0]["body"], &answer["deliveries"][0]["redelivered"]), (&3.into(), &true.into()));
    assert_eq!(gateway.poll(&session, r#"{"after": 4, "wait_ms": 0}"#).await, [0; 0]);
}

#[tokio::test]
async fn of_two_polls_the_later_one_is_served() {
    let (broker, gateway, session) = world().await;
    let first = gateway.poll(&session, "{}");
    let second = async {
        tokio::task::yield_now().await;
        let publish = async {
            tokio::task::yield_now().await;
            send(&*broker, &jobs(), &["1"]).await;
        };
        tokio::join!(biased; gateway.poll(&session, "{}"), publish).0
    };
    let (first, second) = within(async { tokio::join!(biased; first, second) }).await;
    assert_eq!((first, second), (vec![], vec![1]));
}

#[tokio::test(start_paused = true)]
async fn what_a_silent_reader_held_goes_to_others() {
    let (broker, gateway, session) = world().await;
    send(&*broker, &jobs(), &["1", "2"]).await;
    assert_eq!(gateway.poll(&session, r#"{"max": 2}"#).await, [1, 2]);
    advance(Duration::from_secs(29)).await;
    // Anything that is asked keeps it alive.
    gateway.ask(Post, &format!("{session}/settle"), r#"{"ack": [1]}"#).await;
    advance(Duration::from_secs(29)).await;
    assert_eq!(gateway.poll(&session, r#"{"after": 2, "wait_ms": 0}"#).await, [0; 0]);
    until_depth(&broker, &jobs(), 0).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    until_depth(&broker, &jobs(), 1).await;
    let (status, answer) = gateway.ask(Post, &format!("{session}/next"), "{}").await;
    assert_eq!((status, &answer["error"]["code"]), (404, &"no-session".into()), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_hangs_up_has_not_long_to_come_back() {
    for comes_back in [true, false] {
        let (broker, gateway, session) = world().await;
        send(&*broker, &jobs(), &["1"]).await;
        assert_eq!(gateway.poll(&session, "{}").await, [1]);
        // The connection is closed in the midst of a poll. Time is paused here: no sleep takes any.
        let poll = tokio::spawn({
            let (gateway, session) = (gateway.clone(), session.clone());
            async move { gateway.poll(&session, r#"{"after": 1}"#).await }
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        poll.abort();
        tokio::time::sleep(Duration::from_secs(4)).await;
        if comes_back {
            assert_eq!(gateway.poll(&session, r#"{"after": 1, "wait_ms": 0}"#).await, [0; 0]);
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        until_depth(&broker, &jobs(), u64::from(!comes_back)).await;
    }
}

#[tokio::test]
async fn closing_a_session_gives_back_what_is_not_settled() {
    let (broker, gateway, session) = world().await;
    send(&*broker, &jobs(), &["1", "2", "3"]).await;
    until_depth(&broker, &jobs(), 0).await;
    assert_eq!(gateway.poll(&session, "{}").await.len(), 3);
    gateway.ask(Post, &format!("{session}/settle"), r#"{"ack": [2]}"#).await;
    let (status, _) = gateway.ask(Delete, &session, "").await;
    assert_eq!(status, 204);
    until_depth(&broker, &jobs(), 2).await;
    let (status, _) = gateway.ask(Delete, &session, "").await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn a_stopped_subscription_says_what_comes_last() {
    let (broker, gateway, session) = world().await;
    send(&*broker, &jobs(), &["1", "2"]).await;
    until_depth(&broker, &jobs(), 0).await;
    for _ in 0..2 {
        let (status, answer) = gateway.ask(Post, &format!("{session}/subscriptions/jobs/stop"), "").await;
        assert_eq!((status, &answer["last"]), (200, &2.into()), "{answer}");
        send(&*broker, &jobs(), &["later"]).await;
    }
    assert_eq!(gateway.poll(&session, r#"{"wait_ms": 0}"#).await, [1, 2]);
    for _ in 0..2 {
        let (status, _) = gateway.ask(Delete, &format!("{session}/subscriptions/jobs"), "").await;
        assert_eq!(status, 204);
    }
    until_depth(&broker, &jobs(), 4).await;
}

#[tokio::test]
async fn a_subscription_takes_nothing_from_the_next_of_its_name() {
    let (broker, gateway, session) = world().await;
    send(&*broker, &jobs(), &["1", "2"]).await;
    assert_eq!(gateway.poll(&session, r#"{"max": 2}"#).await, [1, 2]);
    let path = format!("{session}/subscriptions/jobs");
    let stop = format!("{path}/stop");
    // While one is stopped and given up, another is made.
    let (stopped, dropped, ()) =
        tokio::join!(biased; gateway.ask(Post, &stop, ""), gateway.ask(Delete, &path, ""), gateway.subscribe(&session));
    assert_eq!(dropped.0, 204, "{dropped:?}");
    assert!(stopped.0 == 404 || stopped.1["last"].as_u64().unwrap() <= 2, "{stopped:?}");
    assert_eq!(gateway.poll(&session, r#"{"after": 2, "wait_ms": 5000}"#).await, [3, 4]);
    // What is settled of the one is nothing of the other.
    gateway.ask(Post, &format!("{session}/settle"), r#"{"ack": [1, 2, 3]}"#).await;
    gateway.ask(Delete, &session, "").await;
    until_depth(&broker, &jobs(), 1).await;
}

#[tokio::test]
async fn a_gateway_that_stops_answers_who_waits() {
    let broker = Arc::new(MemoryBroker::new());
    let server = Server::start(broker, Policy::Workers).await;
    let program = server.connect().await;
    let consumer = program.subscribe(phasework_broker::Subscription { from: jobs(), prefetch: 1 }).await.unwrap();
    // It polls by now, or is about to; either way stopping does not wait for it.
    let begun = tokio::time::Instant::now();
    server.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(8), "it did not stop promptly");
    within(async {
        while program.health().is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop(consumer);
    within(program.close()).await;
}
