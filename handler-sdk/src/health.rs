//! Whether a worker can work: deliveries arrive when there are some. A connection that is up says little about that, so
//! the worker listens for its own announcements, which go through the broker and come back. Nothing is asked here.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use phasework_broker::SharedBroker;
use phasework_workflows::message::presence::{HEARTBEAT, WORKER_TTL};
use tokio::time::Instant;

use crate::stop::Stop;

/// How a [`Worker`](crate::Worker) is, to be asked at any time and from anywhere: for a metric, or a health check of
/// your own. (The worker's own is served by [`Worker::listen`](crate::Worker::listen).) Cheap to clone.
///
/// ```no_run
/// # use phasework_sdk::{Context, HandlerError, Worker};
/// # async fn serve(_: impl Fn() -> Result<(), String>) {}
/// # async fn greet(name: String, _: Context) -> Result<String, HandlerError> { Ok(name) }
/// # async fn start() -> Result<(), phasework_sdk::WorkerError> {
/// let worker = Worker::from_env()?.handler("Greeter", "1.0.0", greet);
/// let health = worker.health();
/// tokio::spawn(serve(move || if health.is_ready() { Ok(()) } else { Err(health.reasons().join("; ")) }));
/// worker.run().await
/// # }
/// ```
#[derive(Clone)]
pub struct WorkerHealth {
    stage: Arc<Mutex<Stage>>,
    address: Arc<OnceLock<SocketAddr>>,
}

enum Stage {
    New,
    Connecting,
    Working { broker: SharedBroker, stop: Stop, heard: Instant },
    Ended,
}

/// Marks a worker as ended when it is dropped.
pub(crate) struct Running(WorkerHealth);

impl Drop for Running {
    fn drop(&mut self) {
        *self.0.lock() = Stage::Ended;
    }
}

impl WorkerHealth {
    pub(crate) fn new() -> Self {
        Self { stage: Arc::new(Mutex::new(Stage::New)), address: Arc::default() }
    }

    /// Whether it takes jobs, as far as anybody can know.
    pub fn is_ready(&self) -> bool {
        self.reasons().is_empty()
    }

    /// Why it is not ready, each reason a sentence; empty when it is.
    pub fn reasons(&self) -> Vec<String> {
        match &*self.lock() {
            Stage::New => vec!["it was not started".to_owned()],
            Stage::Connecting => vec!["it has not reached the broker yet".to_owned()],
            Stage::Ended => vec!["it has ended".to_owned()],
            Stage::Working { broker, stop, heard } => {
                let mut reasons = Vec::new();
                if stop.drain.is_cancelled() {
                    reasons.push("it is draining".to_owned());
                }
                if let Err(error) = broker.health() {
                    reasons.push(error.to_string());
                }
                let silence = heard.elapsed();
                if silence > Duration::from(WORKER_TTL) {
                    let seconds = silence.as_secs();
                    reasons.push(format!(
                        "nothing came from the broker for {seconds} s, not even what the worker announces every {HEARTBEAT}"
                    ));
                }
                reasons
            }
        }
    }

    /// How long ago the broker last proved that deliveries arrive; `None` unless the worker is running.
    pub fn last_heard(&self) -> Option<Duration> {
        match &*self.lock() {
            Stage::Working { heard, .. } => Some(heard.elapsed()),
            Stage::New | Stage::Connecting | Stage::Ended => None,
        }
    }

    /// Where it can be asked over HTTP, once it [listens](crate::Worker::listen).
    pub fn address(&self) -> Option<SocketAddr> {
        self.address.get().copied()
    }

    /// It listens there.
    pub(crate) fn listens_at(&self, address: SocketAddr) {
        self.address.set(address).ok(); // a worker starts once
    }

    /// The worker starts; it has ended when this is dropped.
    pub(crate) fn start(&self) -> Running {
        *self.lock() = Stage::Connecting;
        Running(self.clone())
    }

    /// It is subscribed to everything.
    pub(crate) fn subscribed(&self, broker: SharedBroker, stop: Stop) {
        *self.lock() = Stage::Working { broker, stop, heard: Instant::now() };
    }

    /// What the worker sent came back to it.
    pub(crate) fn heard(&self) {
        if let Stage::Working { heard, .. } = &mut *self.lock() {
            *heard = Instant::now();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for WorkerHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WorkerHealth").field(&self.reasons()).finish()
    }
}
