//! What an author of phasework handlers imports. A handler is an async function from a job's input to its output; a
//! [`Worker`] takes jobs from the queues of its handlers, runs them, and reports what became of them.
//!
//! ```no_run
//! use phasework_sdk::{Context, HandlerError, Worker};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Deserialize)]
//! struct Page { url: String }
//!
//! #[derive(Serialize)]
//! struct Stored { bytes: usize }
//!
//! async fn download(page: Page, ctx: Context) -> Result<Stored, HandlerError> {
//!     let body = fetch(&page.url).await?; // any error: the job is tried again
//!     if body.is_empty() {
//!         return Err(HandlerError::fail(format!("{} is empty", page.url))); // failed for good
//!     }
//!     save(&ctx.idempotency_key(), &body).await?;
//!     Ok(Stored { bytes: body.len() })
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result<(), phasework_sdk::WorkerError> {
//!     Worker::from_env()?.handler("PageDownloader", "1.2.0", download).concurrency(64).run().await
//! }
//! # async fn fetch(_: &str) -> std::io::Result<String> { Ok(String::new()) }
//! # async fn save(_: &str, _: &str) -> std::io::Result<()> { Ok(()) }
//! ```
//!
//! In reading order: `handler`, `error` and `context` are what handlers see, `layer` what may be around them; `worker` is how they are hosted (with
//! `settings` and `signals`; `connect` reaches the broker). `shift` runs a worker: `intake` reads a queue, `asked` a
//! message, `pack` starts its jobs on the `slots` of their `hosted` handler
//! as far as its `rate` lets it (`peers` are who that is shared with), `attempt` runs one (`panics` says where it
//! panicked), `list` sends the pages of a list of jobs, `report` the outcomes that `batch` puts together and `confirm` insists on. `open` knows what is not
//! settled yet and says when the `ticket` of a message is; `leasing` takes a `lease` on what runs for long, `probe`
//! answers whoever wonders where a job is. `control` and `presence` talk to all, `stop` says how far stopping has got,
//! `watchdog` ends a process that does nothing any more, `health` says whether it is well, and `listen` to whoever asks over HTTP.
//! `client` submits runs and waits for them; [`testing`] is for the tests of
//! handlers and of whole workflows.
//!
//! The promises: a job message is acknowledged only after the broker has confirmed the outcome of each of its jobs, or a
//! coordinator has granted a lease on it, which runs out if nobody renews it. So nothing is lost when a worker dies, and
//! a job may then run twice; its [`Context::idempotency_key`] stays the same.
//! Workers see the broker only: no store, and no other part of the engine.
//!
//! What a worker does is logged with [`tracing`](https://docs.rs/tracing), in a span `job` with run, workflow, phase,
//! entry, handler, version, job and attempt; handlers log into it. It is measured with the
//! [`metrics`](https://docs.rs/metrics) facade: `phasework_jobs_total` (by handler, version and outcome),
//! `phasework_job_seconds`, `phasework_jobs_running` and `phasework_worker_ready`. [`Worker::listen`] serves them to
//! Prometheus; for anything else install an exporter before the worker is run. `telemetry::init` writes the logs.

/// The examples of the book.
#[cfg(doctest)]
mod guides {
    #[doc = include_str!("../../README.md")]
    mod readme {}
    #[doc = include_str!("../../docs/definition.md")]
    mod definition {}
    #[doc = include_str!("../../docs/operations.md")]
    mod operations {}
    #[doc = include_str!("../../docs/handlers.md")]
    mod handlers {}
    #[doc = include_str!("../../docs/guides/fan-out.md")]
    mod fan_out {}
    #[doc = include_str!("../../docs/guides/errors.md")]
    mod errors {}
    #[doc = include_str!("../../docs/guides/long-jobs.md")]
    mod long_jobs {}
}

mod asked;
mod attempt;
mod batch;
mod client;
mod confirm;
mod connect;
mod context;
mod control;
mod error;
mod handler;
mod health;
mod hosted;
mod intake;
mod layer;
mod lease;
mod leasing;
mod list;
#[cfg(feature = "listen")]
mod listen;
mod open;
mod pack;
mod panics;
mod peers;
mod presence;
mod probe;
mod quick;
mod rate;
mod report;
mod settings;
mod shift;
mod signals;
mod slots;
mod stop;
#[cfg(feature = "telemetry")]
pub mod telemetry;
pub mod testing;
mod ticket;
mod trace;
mod watchdog;
mod worker;

pub use client::{Client, ClientError, Order, Ordered, RunView, Submission, Submitted};
pub use context::Context;
pub use error::HandlerError;
pub use health::WorkerHealth;
pub use layer::{Job, Next};
pub use list::JobList;
pub use phasework_broker::SharedBroker;
pub use phasework_workflows::Payload;
pub use phasework_workflows::id::RunId;
pub use tokio_util::sync::CancellationToken;
pub use worker::{DEFAULT_CONCURRENCY, DEFAULT_DRAIN_TIMEOUT, Worker, WorkerError};
