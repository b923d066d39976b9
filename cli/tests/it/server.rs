//! A server for the program to talk to: a whole engine with its API in this process, on a broker and a store in memory,
//! and a worker with a few handlers.

use std::sync::Arc;

use phasework_broker::memory::MemoryBroker;
use phasework_broker::{Address, Message, SharedBroker};
use phasework_engine::api::{ApiConfig, Tokens, router, serve};
use phasework_engine::engine::Parts;
use phasework_engine::{EngineConfig, RunningEngine, start};
use phasework_sdk::{Context, HandlerError, Worker};
use phasework_store::memory::MemoryStore;
use phasework_workflows::id::SystemIds;
use phasework_workflows::run::apply;
use phasework_workflows::time::SystemClock;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::command::Place;

/// A workflow without handlers: its runs end at once.
pub(crate) const PASS: &str = r#"{ "workflow": "pass", "output": { "greeting": "hello {{ data.name }}" },
  "phases": { "begin": { "is_initial": true, "transitions_to": "end" }, "end": { "is_final": true } } }"#;

/// A workflow that greets three people, and sums up.
pub(crate) const GREET: &str = r#"{ "workflow": "greet", "output": { "greetings": "{{ outputs.greeting.Greeter }}" },
  "phases": { "greeting": { "is_initial": true, "transitions_to": "end",
                            "handlers": [ { "name": "Greeter", "for_each": "data.names" } ] },
              "end": { "is_final": true } } }"#;

/// A workflow whose only handler nobody hosts.
pub(crate) const WAIT: &str = r#"{ "workflow": "wait",
  "phases": { "begin": { "is_initial": true, "transitions_to": "end", "handlers": ["Nobody"] },
              "end": { "is_final": true } } }"#;

/// A workflow whose handler fails for good, and where that leads.
pub(crate) const FAIL: &str = r#"{ "workflow": "fail",
  "phases": { "breaking": { "is_initial": true, "transitions_to": "end", "on_error_transition_to": "broken",
                            "handlers": ["Breaker"] },
              "end": { "is_final": true }, "broken": { "is_final": true } } }"#;

/// A workflow whose handler fails for good, and nothing is said about where that leads. With the data
/// `{"mended": true}` it does not, and gives that.
pub(crate) const HALT: &str = r#"{ "workflow": "halt", "output": "{{ outputs.breaking.Breaker }}",
  "phases": { "breaking": { "is_initial": true, "transitions_to": "end", "handlers": ["Breaker"] },
              "end": { "is_final": true } } }"#;

/// A workflow whose handler stays until it is told to stop.
pub(crate) const STAY: &str = r#"{ "workflow": "stay",
  "phases": { "staying": { "is_initial": true, "transitions_to": "end", "handlers": ["Stayer"] },
              "end": { "is_final": true } } }"#;

/// A server. It stops with this value.
pub(crate) struct Server {
    pub(crate) url: String,
    broker: SharedBroker,
    engine: Option<RunningEngine>,
    worker: Option<JoinHandle<()>>,
    over: CancellationToken,
    runtime: Runtime,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::with_token(None)
    }

    pub(crate) fn with_token(token: Option<&str>) -> Self {
        rustls::crypto::ring::default_provider().install_default().ok(); // another test may have been first
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let over = CancellationToken::new();
        let broker: SharedBroker = Arc::new(MemoryBroker::new());
        let config =
            ApiConfig { tokens: token.map(|token| Tokens::one(token).unwrap()).unwrap_or_default(), metrics: None };
        let (engine, url) = runtime.block_on(serve_engine(&broker, config, over.clone()));
        let worker = Worker::new(Arc::clone(&broker))
            .handler("Greeter", "1.0.0", greet)
            .handler("Breaker", "1.0.0", break_down)
            .handler("Stayer", "1.0.0", stay)
            .run_until(over.clone());
        let worker = runtime.spawn(async { worker.await.unwrap() });
        Self { url, broker, engine: Some(engine), worker: Some(worker), over, runtime }
    }

    /// Where the program is told of this server.
    pub(crate) fn place(&self) -> Place {
        Place::new().with("PHASEWORK_API", &self.url)
    }

    /// Puts a message on the queue for submissions that nobody understands, and waits until it is set aside.
    pub(crate) fn set_aside(&self, body: &str, count: u64) {
        let message = Message::new(Address::Submit, "Nonsense", body.to_owned());
        self.runtime.block_on(async {
            self.broker.publish(vec![message]).await.pop().unwrap().unwrap();
            let engine = self.engine.as_ref().unwrap().engine();
            while engine.dead_count().await.unwrap() < count {
                tokio::task::yield_now().await;
            }
        });
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over.cancel();
        let (engine, worker) = (self.engine.take().unwrap(), self.worker.take().unwrap());
        self.runtime.block_on(async {
            worker.await.unwrap();
            engine.stop().await;
        });
    }
}

async fn serve_engine(broker: &SharedBroker, config: ApiConfig, over: CancellationToken) -> (RunningEngine, String) {
    let parts = Parts {
        store: Arc::new(MemoryStore::new()),
        broker: Arc::clone(broker),
        clock: Arc::new(SystemClock),
        ids: Arc::new(SystemIds),
        decide: apply,
        config: Arc::new(EngineConfig::new("test")),
    };
    let engine = start(parts).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let serving = serve(listener, router(engine.engine().clone(), config), over);
    tokio::spawn(async { serving.await.unwrap() });
    (engine, url)
}

async fn greet(name: String, _: Context) -> Result<String, HandlerError> {
    Ok(format!("hello {name}"))
}

/// Fails unless the run's data says that all is mended.
async fn break_down(data: Value, _: Context) -> Result<Value, HandlerError> {
    if data["mended"] == true { Ok(data) } else { Err(HandlerError::fail("the glass is broken")) }
}

async fn stay(_: Value, ctx: Context) -> Result<(), HandlerError> {
    ctx.canceled().await;
    Err(HandlerError::fail("it was told to stop"))
}
