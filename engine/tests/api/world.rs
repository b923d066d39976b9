//! An engine on embedded parts behind a socket, a client that speaks plain HTTP, and a worker that does what it is told.
//! Time stands still and ids are counted, so answers are the same in every run.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use phasework_broker::memory::MemoryBroker;
use phasework_broker::{Address, Message, SharedBroker, Subscription};
use phasework_engine::api::{ApiConfig, router, serve};
use phasework_engine::engine::Parts;
use phasework_engine::{EngineConfig, RunningEngine};
use phasework_store::SharedStore;
use phasework_store::memory::MemoryStore;
use phasework_workflows::id::{HandlerName, IdSource};
use phasework_workflows::message::job::{JobGroup, Jobs};
use phasework_workflows::message::outcome::{JobError, JobsFinished, Outcome, OutcomeGroup, Status};
use phasework_workflows::message::presence::{HostedHandler, WorkerAnnounced};
use phasework_workflows::message::{Body as _, decode, encode};
use phasework_workflows::run::apply;
use phasework_workflows::time::{Clock, Timestamp};
use phasework_workflows::{Payload, Version};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// What time it is: 2026-01-31T12:00:00Z.
pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_769_860_800_000);

/// After this long something hangs.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug)]
struct StoppedClock;

impl Clock for StoppedClock {
    fn now(&self) -> Timestamp {
        NOW
    }
}

#[derive(Debug, Default)]
struct CountedIds(AtomicU64);

impl IdSource for CountedIds {
    fn uuid(&self) -> Uuid {
        Uuid::from_u128(self.0.fetch_add(1, Ordering::Relaxed).into())
    }

    fn random(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

pub(crate) struct World {
    pub(crate) address: std::net::SocketAddr,
    pub(crate) store: SharedStore,
    pub(crate) broker: SharedBroker,
    pub(crate) shutdown: CancellationToken,
    pub(crate) served: tokio::task::JoinHandle<std::io::Result<()>>,
    engine: RunningEngine,
}

impl World {
    /// An engine that everybody may ask, and a worker that hosts these handlers.
    pub(crate) async fn new(hosts: &[&str]) -> Self {
        Self::with(ApiConfig::default(), hosts, |router| router).await
    }

    pub(crate) async fn with(config: ApiConfig, hosts: &[&str], change: impl FnOnce(Router) -> Router) -> Self {
        let store: SharedStore = Arc::new(MemoryStore::new());
        let broker: SharedBroker = Arc::new(MemoryBroker::new());
        if !hosts.is_empty() {
            store.put_worker(worker(hosts), NOW).await.unwrap();
        }
        let parts = Parts {
            store: Arc::clone(&store),
            broker: Arc::clone(&broker),
            clock: Arc::new(StoppedClock),
            ids: Arc::new(CountedIds::default()),
            decide: apply,
            config: Arc::new(EngineConfig::new("c1")),
        };
        let engine = phasework_engine::start(parts).unwrap();
        // It begins once it has compared its broker and its store.
        within(async {
            while !engine.engine().readiness().await.is_empty() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let router = change(router(engine.engine().clone(), config));
        let served = tokio::spawn(serve(listener, router, shutdown.clone()));
        Self { address, store, broker, shutdown, served, engine }
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        within(self.served).await.unwrap().unwrap();
        within(self.engine.stop()).await;
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.ask("GET", path, &[], "").await
    }

    pub(crate) async fn post(&self, path: &str, body: &str) -> Reply {
        self.ask("POST", path, &[], body).await
    }

    pub(crate) async fn put(&self, path: &str, body: &str) -> Reply {
        self.ask("PUT", path, &[], body).await
    }

    pub(crate) async fn ask(&self, method: &str, path: &str, headers: &[&str], body: &str) -> Reply {
        let mut connection = self.connect().await;
        let length = format!("Content-Length: {}", body.len());
        let headers: String = headers.iter().chain([&&*length]).map(|line| format!("{line}\r\n")).collect();
        connection.send(&format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n{headers}\r\n", self.address)).await;
        connection.send(body).await;
        connection.reply().await
    }

    pub(crate) async fn connect(&self) -> Connection {
        Connection(within(TcpStream::connect(self.address)).await.unwrap())
    }

    /// Submits a run and gives its id.
    pub(crate) async fn submit(&self, workflow: &str, key: &str) -> String {
        let reply = self.post("/v1/runs", &format!(r#"{{"workflow":"{workflow}","key":"{key}"}}"#)).await;
        assert_eq!(reply.status, 201, "{reply:?}");
        reply.json()["run"].as_str().unwrap().to_owned()
    }

    /// Stores a definition.
    pub(crate) async fn apply(&self, definition: &str) {
        let reply = self.put("/v1/workflows", definition).await;
        assert_eq!(reply.status, 201, "{reply:?}");
    }

    /// Takes one message of jobs of `handler`, version 1.0.0, and reports what `work` makes of each job.
    pub(crate) async fn work(
        &self,
        handler: &str,
        work: impl Fn(&JobGroup) -> Result<Payload, JobError>,
    ) -> Vec<JobGroup> {
        let from = Address::Jobs(format!("{handler}.1.0.0").into());
        let mut consumer = self.broker.subscribe(Subscription { from, prefetch: 1 }).await.unwrap();
        let deliveries = within(consumer.next(1)).await.unwrap();
        let groups = decode::<Jobs>(&deliveries[0].body).unwrap().groups;
        for group in &groups {
            let outcomes = group.each().map(|job| match work(group) {
                Ok(output) => (job, Status::Done, Some(output), None),
                Err(error) => (job, Status::Failed, None, Some(error)),
            });
            let outcomes = outcomes.map(|(job, status, output, error)| Outcome {
                index: job.index,
                attempt: job.attempt,
                status,
                output,
                error,
                details: None,
            });
            let group = OutcomeGroup {
                run: group.run,
                entry: group.entry,
                nonce: group.nonce,
                handler: group.handler.clone(),
                done: Vec::new(),
                outcomes: outcomes.collect(),
                service_us: None,
            };
            let to = Address::Coordinator(groups[0].coordinator);
            let finished = encode(&JobsFinished { worker: None, groups: vec![group] });
            for result in self.broker.publish(vec![Message::new(to, JobsFinished::KIND, finished)]).await {
                result.unwrap();
            }
        }
        consumer.ack(&[deliveries[0].tag]).await.unwrap();
        groups
    }
}

fn worker(hosts: &[&str]) -> WorkerAnnounced {
    let hosted = hosts.iter().map(|name| HostedHandler {
        name: HandlerName::new(name).unwrap(),
        version: Version::new(1, 0, 0),
        slots: 8,
        in_flight: 2,
    });
    WorkerAnnounced {
        worker: "w1".into(),
        host: "box".into(),
        pid: 42,
        sdk: "test/1".into(),
        started_at: NOW,
        handlers: hosted.collect(),
        draining: false,
    }
}

/// What `future` gives, which must not take for ever.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("something hangs")
}

/// One connection, for one request.
pub(crate) struct Connection(pub(crate) TcpStream);

impl Connection {
    pub(crate) async fn send(&mut self, text: &str) {
        within(self.0.write_all(text.as_bytes())).await.unwrap();
    }

    /// The answer, read to its end.
    pub(crate) async fn reply(&mut self) -> Reply {
        let mut read = Vec::new();
        loop {
            if let Some(reply) = Reply::parse(&read) {
                return reply;
            }
            let mut chunk = [0; 16 * 1024];
            let count = within(self.0.read(&mut chunk)).await.unwrap();
            assert!(count > 0, "the connection ended within {:?}", String::from_utf8_lossy(&read));
            read.extend_from_slice(&chunk[..count]);
        }
    }
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Reply {
    /// An answer, once all of it has come.
    fn parse(read: &[u8]) -> Option<Self> {
        let head_end = read.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&read[..head_end]).into_owned();
        let mut lines = head.lines();
        let status = lines.next()?.split(' ').nth(1)?.parse().unwrap();
        let headers = lines.filter_map(|line| line.split_once(": "));
        let headers: Vec<_> = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
        let length = headers.iter().find(|(name, _)| name == "content-length")?.1.parse::<usize>().unwrap();
        let body = read.get(head_end + 4..head_end + 4 + length)?;
        Some(Self { status, headers, body: String::from_utf8(body.to_vec()).unwrap() })
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// The code of the error envelope.
    pub(crate) fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_else(|| panic!("no envelope: {self:?}")).to_owned()
    }

    /// The message of the error envelope.
    pub(crate) fn message(&self) -> String {
        self.json()["error"]["message"].as_str().unwrap_or_else(|| panic!("no envelope: {self:?}")).to_owned()
    }
}

/// A definition whose runs end at once.
pub(crate) const THROUGH: &str = r#"{"workflow": "through", "phases": {
    "begin": {"is_initial": true, "transitions_to": "end"}, "end": {"is_final": true}}}"#;

/// A definition whose runs wait for `Echo`, give what it gives, and halt when it fails.
pub(crate) const ECHO: &str = r#"{"workflow": "echo", "phases": {
    "work": {"is_initial": true, "transitions_to": "end", "handlers": [{"name": "Echo", "version": "~> 1.0"}]},
    "end": {"is_final": true}}, "output": "{{ outputs.work.Echo }}"}"#;
