//! A gateway behind a socket, and programs that use it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use phasework_broker::gateway::{Exchange, Gateway, GatewayOptions, Method, NoAnswer, Request, Response};
use phasework_broker::{Address, Broker as _, Message, SharedBroker};
use phasework_engine::api::{GatewayConfig, Policy, gateway_router, serve};
use phasework_workflows::id::SystemIds;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

/// How long anything that must happen may take.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("something hangs")
}

/// A gateway to a broker.
pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) shutdown: CancellationToken,
    pub(crate) served: JoinHandle<std::io::Result<()>>,
}

impl Server {
    pub(crate) async fn start(broker: SharedBroker, policy: Policy) -> Self {
        Self::start_at("127.0.0.1:0", broker, policy).await
    }

    pub(crate) async fn start_at(address: &str, broker: SharedBroker, policy: Policy) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let config = GatewayConfig { token: None, policy };
        let router = gateway_router(broker, Arc::new(SystemIds), config);
        let shutdown = CancellationToken::new();
        let served = tokio::spawn(serve(listener, router, shutdown.clone()));
        Self { url, shutdown, served }
    }

    /// A program that uses it.
    pub(crate) async fn connect(&self) -> SharedBroker {
        Arc::new(within(Gateway::connect(GatewayOptions::new(&self.url))).await.unwrap())
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        within(self.served).await.unwrap().unwrap();
    }
}

pub(crate) fn jobs() -> Address {
    Address::Jobs("Echo.1.0.0".into())
}

/// Publishes messages with these bodies; all must be confirmed.
pub(crate) async fn send(broker: &dyn phasework_broker::Broker, to: &Address, bodies: &[&str]) {
    let messages = bodies.iter().map(|body| Message::new(to.clone(), "Jobs", body.as_bytes().to_vec())).collect();
    for result in within(broker.publish(messages)).await {
        result.unwrap();
    }
}

/// How many wait in the queue, as soon as that is so many.
pub(crate) async fn until_depth(broker: &phasework_broker::memory::MemoryBroker, queue: &Address, expected: u64) {
    within(async {
        while broker.depth(queue).await.unwrap() != expected {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// A gateway that is asked without a socket in between, so that the clock may be moved.
#[derive(Clone, Debug)]
pub(crate) struct Direct(pub(crate) Router);

impl Direct {
    pub(crate) fn new(broker: SharedBroker, policy: Policy) -> Self {
        Self(gateway_router(broker, Arc::new(SystemIds), GatewayConfig { token: None, policy }))
    }

    /// The status and the body, as JSON.
    pub(crate) async fn ask(&self, method: Method, path: &str, body: &str) -> (u16, Value) {
        let request = Request { method, path: format!("/v1/gateway{path}"), body: body.to_owned().into() };
        let Response { status, body } = self.exchange(0, request).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    /// Opens a session; its path.
    pub(crate) async fn open(&self) -> String {
        let (status, opened) = self.ask(Method::Post, "/sessions", "").await;
        assert_eq!(status, 201, "{opened}");
        format!("/sessions/{}", opened["session"].as_str().unwrap())
    }

    /// Subscribes a session to the job queue `Echo.1.0.0`.
    pub(crate) async fn subscribe(&self, session: &str) {
        let body = r#"{"from": "jobs.Echo.1.0.0", "prefetch": 10}"#;
        let (status, subscribed) = self.ask(Method::Put, &format!("{session}/subscriptions/jobs"), body).await;
        assert_eq!((status, &subscribed["queue"]), (200, &Value::from("jobs.Echo.1.0.0")), "{subscribed}");
    }

    /// The numbers of the deliveries that a poll is given.
    pub(crate) async fn poll(&self, session: &str, body: &str) -> Vec<u64> {
        let (status, answer) = self.ask(Method::Post, &format!("{session}/next"), body).await;
        assert_eq!(status, 200, "{answer}");
        answer["deliveries"].as_array().unwrap().iter().map(|delivery| delivery["n"].as_u64().unwrap()).collect()
    }
}

#[async_trait]
impl Exchange for Direct {
    fn servers(&self) -> usize {
        1
    }

    async fn exchange(&self, _: usize, request: Request) -> Result<Response, NoAnswer> {
        let method = match request.method {
            Method::Get => "GET",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
        };
        let body = axum::body::Body::from(request.body);
        let asked = axum::http::Request::builder().method(method).uri(&request.path).body(body).unwrap();
        let answer = self.0.clone().oneshot(asked).await.unwrap();
        let status = answer.status().as_u16();
        let body = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        Ok(Response { status, body })
    }
}
