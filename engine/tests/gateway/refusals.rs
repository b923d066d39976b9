//! What is refused, with which status, and in words.

use std::sync::Arc;

use phasework_broker::gateway::Method::{self, Delete, Get, Post, Put};
use phasework_broker::memory::MemoryBroker;
use phasework_engine::api::Policy;

use super::world::Direct;

#[tokio::test]
async fn every_refusal_has_a_status_and_words() {
    let gateway = Direct::new(Arc::new(MemoryBroker::new()), Policy::Workers);
    let session = gateway.open().await;
    gateway.subscribe(&session).await;
    let of = |path: &str| format!("{session}{path}");
    let rows: Vec<(Method, String, String, u16, &str, &str)> = vec![
        (Post, "/sessions/nowhere/next".into(), "{}".into(), 404, "no-session", "Open another one"),
        (Delete, "/sessions/nowhere".into(), String::new(), 404, "no-session", "Open another one"),
        (Post, "/sessions".into(), r#"{"name": ""}"#.into(), 400, "invalid", "1 to 64 bytes"),
        (Post, "/sessions".into(), r#"{"nam": "x"}"#.into(), 400, "malformed", "unknown field `nam`"),
        (Post, of("/next"), r#"{"after": 7}"#.into(), 400, "invalid", "the last delivery of this session was 0"),
        (Post, of("/next"), r#"{"afer": 7}"#.into(), 400, "malformed", "unknown field `afer`"),
        (
            Put,
            of("/subscriptions/x"),
            r#"{"from": "jobs", "prefetch": 1}"#.into(),
            400,
            "invalid",
            "`jobs` is no address",
        ),
        (Put, of("/subscriptions/x"), r#"{"from": "jobs.X", "prefetch": 0}"#.into(), 400, "invalid", "prefetch of 0"),
        (Put, of("/subscriptions/x"), r#"{"from": "jobs.X"}"#.into(), 400, "malformed", "missing field `prefetch`"),
        (
            Put,
            of("/subscriptions/x"),
            r#"{"from": "coordinator.0", "prefetch": 1}"#.into(),
            403,
            "forbidden",
            "do not read",
        ),
        (Put, of("/subscriptions/jobs"), r#"{"from": "jobs.X", "prefetch": 1}"#.into(), 409, "refused", "already"),
        (Post, of("/subscriptions/x/stop"), String::new(), 404, "not-found", "no subscription `x`"),
        (Post, "/publish".into(), "[]".into(), 400, "malformed", "not a list"),
        (Post, "/publish".into(), " ".repeat((16 << 20) + 1), 413, "too-large", "16777216 bytes at most"),
        (Get, "/queues/jobs.X".into(), String::new(), 403, "forbidden", "do not look after queues"),
        (Delete, "/queues/jobs.X".into(), String::new(), 403, "forbidden", "do not look after queues"),
    ];
    for (method, path, body, status, code, words) in rows {
        let (found, answer) = gateway.ask(method, &path, &body).await;
        let shown = &body[..body.len().min(80)];
        assert_eq!((found, &answer["error"]["code"]), (status, &code.into()), "{path} {shown}: {answer}");
        assert!(answer["error"]["message"].as_str().unwrap().contains(words), "{path} {shown}: {answer}");
    }
}

#[tokio::test]
async fn sessions_and_subscriptions_are_bounded() {
    let gateway = Direct::new(Arc::new(MemoryBroker::new()), Policy::Workers);
    let session = gateway.open().await;
    for n in 0..=64 {
        let path = format!("{session}/subscriptions/{n}");
        let (status, answer) = gateway.ask(Put, &path, &format!(r#"{{"from": "jobs.{n}", "prefetch": 60000}}"#)).await;
        match n {
            64 => assert_eq!((status, &answer["error"]["code"]), (429, &"too-many".into()), "{answer}"),
            // All of them together hold so much, and each one delivery at least.
            _ => assert_eq!((status, &answer["prefetch"]), (200, &if n == 0 { 4096 } else { 1 }.into()), "{answer}"),
        }
    }
    let mut sessions = vec![session];
    while sessions.len() < 1000 {
        sessions.push(gateway.open().await);
    }
    let (status, answer) = gateway.ask(Post, "/sessions", "").await;
    assert_eq!((status, &answer["error"]["code"]), (503, &"unavailable".into()), "{answer}");
    gateway.ask(Delete, &sessions[500], "").await;
    gateway.open().await;
}

#[tokio::test]
async fn what_a_session_holds_is_bounded_for_all_its_subscriptions_together() {
    let gateway = Direct::new(Arc::new(MemoryBroker::new()), Policy::Workers);
    let session = gateway.open().await;
    let subscribe = async |n: u64, prefetch: u64| {
        let path = format!("{session}/subscriptions/{n}");
        let body = format!(r#"{{"from": "jobs.{n}", "prefetch": {prefetch}}}"#);
        let (status, answer) = gateway.ask(Put, &path, &body).await;
        assert_eq!(status, 200, "{answer}");
        answer["prefetch"].as_u64().unwrap()
    };
    assert_eq!(subscribe(1, 3000).await, 3000);
    assert_eq!(subscribe(2, 3000).await, 1096);
    assert_eq!(subscribe(3, 10).await, 1);
    assert_eq!(subscribe(2, 3000).await, 1096, "repeating it changes nothing");
    gateway.ask(Delete, &format!("{session}/subscriptions/1"), "").await;
    assert_eq!(subscribe(4, 500).await, 500);
    assert_eq!(subscribe(5, 3000).await, 2500);
}
