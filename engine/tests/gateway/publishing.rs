//! What becomes of what is published, message by message, and that nobody keeps others from it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::{Either, join_all, select};
use futures::stream;
use phasework_broker::gateway::Method::Post;
use phasework_broker::gateway::{Exchange, Gateway, GatewayOptions, NoAnswer, Request as Asked, Response};
use phasework_broker::memory::MemoryBroker;
use phasework_broker::{Address, Broker as _, Message, PublishError, Subscription};
use phasework_engine::api::Policy;
use tower::ServiceExt as _;

use super::world::{Direct, within};

const GONE: &str = r#"{"messages": [{"to": "presence", "type": "WorkerGone", "body": {"v": 1, "worker": "7"}}]}"#;

/// Has a request to publish be made that announces so much, sends so much, and then no more. Never answered, unless
/// refused; the status then.
async fn stall(gateway: Direct, announced: usize, sent: usize) -> StatusCode {
    const PART: usize = 1 << 20;
    let parts = (0..sent.div_ceil(PART)).map(move |part| Bytes::from(vec![b' '; PART.min(sent - part * PART)]));
    let parts = stream::iter(parts.map(Ok::<_, std::io::Error>)).chain(stream::pending());
    let request = Request::post("/v1/gateway/publish").header(header::CONTENT_LENGTH, announced);
    gateway.0.oneshot(request.body(Body::from_stream(parts)).unwrap()).await.unwrap().status()
}

#[tokio::test(start_paused = true)]
async fn who_announces_much_and_sends_nothing_keeps_nobody_from_publishing() {
    let gateway = Direct::new(Arc::new(MemoryBroker::new()), Policy::Workers);
    let stalled = join_all((0..20).map(|_| stall(gateway.clone(), 16 << 20, 1 << 20)));
    match select(Box::pin(stalled), Box::pin(gateway.ask(Post, "/publish", GONE))).await {
        Either::Right(((status, answer), _)) => assert_eq!(status, 200, "{answer}"),
        Either::Left((statuses, _)) => panic!("{statuses:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn what_has_come_of_requests_is_bounded_for_all_of_them_together() {
    let gateway = Direct::new(Arc::new(MemoryBroker::new()), Policy::Workers);
    let stalled = join_all((0..4).map(|_| stall(gateway.clone(), 16 << 20, 16 << 20)));
    let one_more = Box::pin(gateway.ask(Post, "/publish", GONE));
    let stalled = match select(Box::pin(stalled), one_more).await {
        Either::Right(((status, answer), stalled)) => {
            assert_eq!((status, &answer["error"]["code"]), (503, &"unavailable".into()), "{answer}");
            stalled
        }
        Either::Left((statuses, _)) => panic!("{statuses:?}"),
    };
    // They are given up, each after its time, and what they had makes room.
    assert_eq!(stalled.await, [StatusCode::REQUEST_TIMEOUT; 4]);
    let (status, answer) = gateway.ask(Post, "/publish", GONE).await;
    assert_eq!(status, 200, "{answer}");
}

#[tokio::test]
async fn every_message_of_a_request_stands_for_itself() {
    let broker = Arc::new(MemoryBroker::with_max_message_bytes(100));
    let gateway = Direct::new(Arc::<MemoryBroker>::clone(&broker), Policy::Workers);
    let message = |to: &str, kind: &str| format!(r#"{{"to": "{to}", "type": "{kind}", "body": {{}}}}"#);
    let large = format!(r#"{{"to": "coordinator.0", "type": "JobsFinished", "body": "{}"}}"#, "x".repeat(100));
    let rows = [
        (message("coordinator.0", "JobsFinished"), "confirmed", ""),
        (message("coordinator.0", "Tick"), "refused", "workers send no `Tick` to `coordinator.0`"),
        (message("jobs.X", "Jobs"), "refused", "workers send no `Jobs` to `jobs.X`"),
        (r#"{"queue": "q", "type": "X"}"#.to_owned(), "refused", "`queue`"),
        (r#"{"type": "X"}"#.to_owned(), "refused", "either `to` or `queue`"),
        (message("nowhere", "X"), "refused", "`nowhere` is no address"),
        (
            r#"{"to": "presence", "type": "WorkerGone", "body_base64": "*"}"#.to_owned(),
            "refused",
            "`body_base64` is no base64",
        ),
        (large, "too-large", ""),
        // Who shares a limit out with others asks for them.
        (message("presence", "WorkersWanted"), "confirmed", ""),
        (message("coordinator.0", "Leases"), "confirmed", ""),
    ];
    let messages: Vec<_> = rows.iter().map(|(message, ..)| message.as_str()).collect();
    let body = format!(r#"{{"messages": [{}]}}"#, messages.join(", "));
    let (status, answer) = gateway.ask(Post, "/publish", &body).await;
    assert_eq!(status, 200, "{answer}");
    let results = answer["results"].as_array().unwrap();
    assert_eq!(results.len(), rows.len());
    for (result, (message, status, words)) in results.iter().zip(&rows) {
        assert_eq!(result["status"], *status, "{message}: {result}");
        assert!(result["message"].as_str().unwrap_or_default().contains(words), "{message}: {result}");
    }
    assert_eq!(broker.depth(&Address::Coordinator(0)).await.unwrap(), 2);
}

/// A way on which a proxy takes no more than so many bytes.
#[derive(Debug)]
struct Narrow {
    inner: Direct,
    most: usize,
    refused: AtomicUsize,
}

#[async_trait]
impl Exchange for Narrow {
    fn servers(&self) -> usize {
        1
    }

    async fn exchange(&self, server: usize, request: Asked) -> Result<Response, NoAnswer> {
        if request.body.len() > self.most {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Ok(Response { status: 413, body: "<html>Request Entity Too Large</html>".into() });
        }
        self.inner.exchange(server, request).await
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_too_much_for_one_request_goes_in_several() {
    let broker = Arc::new(MemoryBroker::new());
    let inner = Direct::new(Arc::<MemoryBroker>::clone(&broker), Policy::Workers);
    let narrow = Arc::new(Narrow { inner, most: 5000, refused: AtomicUsize::new(0) });
    let program = Gateway::over(Arc::<Narrow>::clone(&narrow), GatewayOptions::new("")).await.unwrap();
    let report = |number: usize, bytes: usize| {
        let body = format!(r#"["{number}", "{}"]"#, "x".repeat(bytes));
        Message::new(Address::Coordinator(0), "JobsFinished", body)
    };
    let mut messages: Vec<_> = (0..50).map(|number| report(number, 400)).collect();
    messages.insert(20, report(99, 6000));
    let results = within(program.publish(messages.clone())).await;
    assert!(narrow.refused.load(Ordering::Relaxed) > 0);
    for (place, result) in results.iter().enumerate() {
        match result {
            Ok(()) => assert_ne!(place, 20),
            Err(PublishError::TooLarge { .. }) => assert_eq!(place, 20),
            Err(other) => panic!("{place}: {other}"),
        }
    }
    let mut consumer = broker.subscribe(Subscription { from: Address::Coordinator(0), prefetch: 1000 }).await.unwrap();
    let arrived: Vec<_> = consumer.next(1000).await.unwrap().into_iter().map(|delivery| delivery.body).collect();
    messages.remove(20);
    let sent: Vec<_> = messages.into_iter().map(|message| message.body).collect();
    assert!(arrived == sent, "in order, and once each: {} of {}", arrived.len(), sent.len());
    program.close().await;
}
