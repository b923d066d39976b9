//! The HTTP API of the coordinators, asked as a careful client does: another one when one does not answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use phasework_workflows::time::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::{Instant, sleep};

/// How long one coordinator may take to answer before another one is asked.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long all of them may leave something unanswered.
const LONG_PATIENCE: Duration = Duration::from_secs(120);

/// The coordinators, as clients see them. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Api {
    http: reqwest::Client,
    addresses: Arc<[String]>,
    next: Arc<AtomicUsize>,
}

/// A run as the API shows it, as far as it matters here.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Run {
    pub(crate) run: String,
    pub(crate) workflow: String,
    pub(crate) key: Option<String>,
    pub(crate) state: String,
    pub(crate) created_at: Timestamp,
    pub(crate) ended_at: Option<Timestamp>,
    #[serde(default)]
    pub(crate) output: Value,
    pub(crate) phase: String,
    pub(crate) waiting_for: Option<String>,
    pub(crate) error: Option<Value>,
}

/// A page of runs.
#[derive(Debug, Deserialize)]
pub(crate) struct Runs {
    pub(crate) runs: Vec<Run>,
    pub(crate) counts: Counts,
}

/// How many runs there are.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Counts {
    pub(crate) live: usize,
}

impl Api {
    /// The API at these addresses.
    pub(crate) fn new(addresses: Vec<String>) -> Result<Self> {
        let http = reqwest::Client::builder().timeout(PATIENCE).build()?;
        Ok(Self { http, addresses: addresses.into(), next: Arc::default() })
    }

    /// Waits for every coordinator.
    pub(crate) async fn until_all_are_ready(&self) -> Result<()> {
        let begun = Instant::now();
        for address in &*self.addresses {
            let url = format!("{address}/health/ready");
            while !self.http.get(&url).send().await.is_ok_and(|answer| answer.status().is_success()) {
                if begun.elapsed() > LONG_PATIENCE {
                    bail!("{address} is not ready");
                }
                sleep(Duration::from_millis(100)).await;
            }
        }
        Ok(())
    }

    /// Asks one coordinator, once.
    pub(crate) async fn try_get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let answer = self.http.get(format!("{}{path}", self.address())).send().await?;
        Ok(answer.error_for_status()?.json().await?)
    }

    /// Asks until one answers.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let begun = Instant::now();
        loop {
            match self.try_get(path).await {
                Ok(answer) => return Ok(answer),
                Err(error) if begun.elapsed() > LONG_PATIENCE => {
                    return Err(error).with_context(|| format!("no coordinator answers GET {path}"));
                }
                Err(_) => sleep(Duration::from_millis(100)).await,
            }
        }
    }

    /// Submits until it is accepted; the run's id, and how often it had to be tried. An answer that says that it is
    /// wrong is an error.
    pub(crate) async fn submit(&self, body: &Value) -> Result<(String, u32)> {
        let begun = Instant::now();
        let mut tries = 0;
        loop {
            tries += 1;
            let answer = self.http.post(format!("{}/v1/runs", self.address())).json(body).send().await;
            if let Ok(answer) = answer {
                let status = answer.status();
                let text = answer.text().await;
                if status.is_client_error() {
                    bail!("a submission was refused with {status}: {text:?}");
                }
                // An answer that breaks off says nothing.
                let accepted = text.ok().filter(|_| status.is_success()).and_then(|text| run_of(&text));
                if let Some(run) = accepted {
                    return Ok((run, tries));
                }
            }
            if begun.elapsed() > LONG_PATIENCE {
                bail!("no coordinator accepts {}", body["key"]);
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// A page of all that is listed at `path` under `name`, and all pages after it.
    pub(crate) async fn pages(&self, path: &str, name: &str, next_as: &str) -> Result<Vec<Value>> {
        let (mut all, mut next) = (Vec::new(), String::new());
        loop {
            let mut page: Value = self.get(&format!("{path}?limit=1000{next}")).await?;
            let Value::Array(items) = page[name].take() else { bail!("{path} has no `{name}`") };
            all.extend(items);
            next = match &page["next"] {
                Value::Null => return Ok(all),
                Value::String(cursor) => format!("&{next_as}={cursor}"),
                cursor => format!("&{next_as}={cursor}"),
            };
        }
    }

    fn address(&self) -> &str {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        &self.addresses[turn % self.addresses.len()]
    }
}

fn run_of(answer: &str) -> Option<String> {
    let answer: Value = serde_json::from_str(answer).ok()?;
    answer["run"].as_str().map(str::to_owned)
}
