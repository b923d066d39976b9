//! What is done: the scenarios, each as the definition of its workflow, the processes it needs, and the work.

use std::fmt;
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use phasework_tests::noop::{LONG, SLEEP};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::client::Client;
use crate::measure::Done;
use crate::system::Shape;

/// How many submissions are under way at once.
const SUBMITTERS: usize = 64;

/// How many runs are timed one after the other.
const TIMED: usize = 1000;

/// How often a small run starts beside a huge one.
const EVERY: Duration = Duration::from_millis(10);

/// One of the usual shape: whatever does nothing is never short of slots.
const USUAL: Shape = Shape { coordinators: 1, workers: 1, slots: 256 };

/// Where slots are what is short.
const SHORT: Shape = Shape { coordinators: 1, workers: 4, slots: 8 };

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scenario {
    /// One run of one phase of so many jobs, a join and a final step.
    FanOut { jobs: u64, listed: bool, output: bool },
    /// So many runs of three phases of one job, submitted as fast as they are accepted.
    Chains { runs: u64 },
    /// One such run at a time.
    Latency,
    /// A hundred such runs a second beside a run of so many jobs.
    Mixed { jobs: u64 },
    /// So many jobs of 50 ms.
    Slow { jobs: u64 },
    /// So many jobs, one in a hundred of 10 s, the others of 0.1 ms.
    Fooled { jobs: u64 },
    /// So many runs of one job, with input and output of so many bytes.
    Payload { runs: u64, bytes: usize },
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FanOut { jobs, listed, output } => {
                let inputs = if *listed { ", listed" } else { "" };
                let outputs = if *output { ", output" } else { "" };
                write!(f, "fan-out {jobs}{inputs}{outputs}")
            }
            Self::Chains { runs } => write!(f, "chains {runs}"),
            Self::Latency => f.write_str("latency"),
            Self::Mixed { jobs } => write!(f, "mixed, beside {jobs}"),
            Self::Slow { jobs } => write!(f, "slow {jobs}"),
            Self::Fooled { jobs } => write!(f, "pack-fooling {jobs}"),
            Self::Payload { bytes, .. } => write!(f, "payloads {bytes}"),
        }
    }
}

impl Scenario {
    /// The processes it needs.
    pub(crate) fn shape(self) -> Shape {
        match self {
            Self::Slow { .. } | Self::Fooled { .. } => SHORT,
            _ => USUAL,
        }
    }

    /// Stores its workflows.
    pub(crate) async fn prepare(self, client: &Client) -> Result<()> {
        let counted = |name: &str, jobs: u64| json!({ "name": name, "for_each": jobs, "timeout": "10m" });
        let definition = match self {
            Self::FanOut { jobs, listed, output } => {
                let handler = if output { "Hundred" } else { "Noop" };
                let listing = json!({ "name": handler, "enumerate": true, "timeout": "1h" });
                fan_out("fan-out", &if listed { listing } else { counted(handler, jobs) })
            }
            Self::Mixed { jobs } => {
                client.define(&chain()).await?;
                fan_out("fan-out", &counted("Noop", jobs))
            }
            Self::Chains { .. } | Self::Latency => chain(),
            Self::Slow { jobs } => fan_out("slow", &counted("Sleep", jobs)),
            Self::Fooled { jobs } => fan_out("pack-fooling", &counted("Mixed", jobs)),
            Self::Payload { .. } => json!({ "workflow": "payload", "phases": {
                "only": { "is_initial": true, "transitions_to": "last", "handlers": ["Echo"] },
                "last": { "is_final": true }
            } }),
        };
        client.define(&definition).await.with_context(|| format!("storing {definition}"))
    }

    /// Does it once.
    pub(crate) async fn run(self, client: &Client) -> Result<Done> {
        match self {
            Self::FanOut { jobs, .. } => {
                let run = client.submit("fan-out", &json!(jobs)).await?;
                client.wait(&run).await?;
                Ok(Done { runs: 1, jobs: jobs + 1, ..Done::default() })
            }
            Self::Chains { runs } => chains(client, runs).await,
            Self::Latency => {
                let mut latencies = Vec::new();
                for _ in 0..TIMED {
                    latencies.push(timed(client).await?);
                }
                let runs = TIMED as u64;
                Ok(Done { runs, jobs: 3 * runs, latencies, ..Done::default() })
            }
            Self::Mixed { jobs } => mixed(client, jobs).await,
            Self::Slow { jobs } => {
                let slots = SHORT.workers as f64 * f64::from(SHORT.slots);
                packed(client, "slow", jobs, (jobs as f64 / slots).ceil() * SLEEP.as_secs_f64()).await
            }
            Self::Fooled { jobs } => {
                let slots = SHORT.workers as f64 * f64::from(SHORT.slots);
                packed(client, "pack-fooling", jobs, (jobs as f64 / 100.0 / slots).ceil() * LONG.as_secs_f64()).await
            }
            Self::Payload { runs, bytes } => payloads(client, runs, bytes).await,
        }
    }
}

/// A workflow of one phase with this handler, a join, and a final step.
fn fan_out(name: &str, handler: &Value) -> Value {
    json!({ "workflow": name, "phases": {
        "all": { "is_initial": true, "transitions_to": "last", "handlers": [handler] },
        "last": { "is_final": true, "handlers": ["Noop"] }
    } })
}

/// Three phases of one job.
fn chain() -> Value {
    json!({ "workflow": "chain", "phases": {
        "first": { "is_initial": true, "transitions_to": "second", "handlers": ["Noop"] },
        "second": { "transitions_to": "third", "handlers": ["Noop"] },
        "third": { "is_final": true, "handlers": ["Noop"] }
    } })
}

async fn chains(client: &Client, runs: u64) -> Result<Done> {
    let before = client.ended().await?;
    submit_all(client, "chain", &Value::Null, runs).await?;
    client.wait_for_all(before, runs).await?;
    Ok(Done { runs, jobs: 3 * runs, ..Done::default() })
}

async fn payloads(client: &Client, runs: u64, bytes: usize) -> Result<Done> {
    let before = client.ended().await?;
    submit_all(client, "payload", &Value::String("x".repeat(bytes - 2)), runs).await?;
    client.wait_for_all(before, runs).await?;
    Ok(Done { runs, jobs: runs, ..Done::default() })
}

async fn submit_all(client: &Client, workflow: &str, data: &Value, runs: u64) -> Result<()> {
    let submissions = stream::iter(0..runs).map(|_| client.submit(workflow, data));
    submissions.buffer_unordered(SUBMITTERS).try_for_each(|_| async { Ok(()) }).await
}

/// One run of three phases; what it took its client, in milliseconds.
async fn timed(client: &Client) -> Result<f64> {
    let started = Instant::now();
    client.submit_and_wait("chain", &Value::Null).await?;
    Ok(started.elapsed().as_secs_f64() * 1000.0)
}

async fn mixed(client: &Client, jobs: u64) -> Result<Done> {
    let huge = client.submit("fan-out", &json!(jobs)).await?;
    let (mut small, mut latencies) = (JoinSet::new(), Vec::new());
    let mut next = Instant::now();
    let over = client.wait(&huge);
    tokio::pin!(over);
    loop {
        tokio::select! {
            biased;
            over = &mut over => break over?,
            () = tokio::time::sleep_until(next) => {
                next += EVERY;
                let client = client.clone();
                small.spawn(async move { timed(&client).await });
            }
        }
    }
    while let Some(latency) = small.join_next().await {
        latencies.push(latency??);
    }
    let runs = latencies.len() as u64;
    Ok(Done { runs: 1 + runs, jobs: jobs + 1 + 3 * runs, latencies, ..Done::default() })
}

async fn packed(client: &Client, workflow: &str, jobs: u64, ideal: f64) -> Result<Done> {
    let run = client.submit(workflow, &json!(jobs)).await?;
    client.wait(&run).await?;
    Ok(Done { runs: 1, jobs: jobs + 1, ideal: Some(ideal), ..Done::default() })
}
