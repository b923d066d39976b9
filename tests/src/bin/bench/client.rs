//! Whoever submits runs and waits for them: over the HTTP API, as users do.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tokio::time::Instant;

/// Longer than anything here takes.
const FOR_EVER: Duration = Duration::from_secs(900);

/// How often it is looked whether all runs have ended.
const LOOK: Duration = Duration::from_millis(25);

#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: String,
}

impl Client {
    pub(crate) fn new(base: &str) -> Self {
        Self { http: reqwest::Client::new(), base: base.to_owned() }
    }

    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    pub(crate) async fn is_ready(&self) -> bool {
        let answer = self.http.get(format!("{}/health/ready", self.base)).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    /// How many workers are known.
    pub(crate) async fn workers(&self) -> Result<usize> {
        let workers = self.get("/v1/workers").await?;
        Ok(workers["workers"].as_array().context("no list of workers")?.len())
    }

    /// Stores a definition, so that runs name it.
    pub(crate) async fn define(&self, definition: &Value) -> Result<()> {
        let request = self.http.put(format!("{}/v1/workflows", self.base)).json(definition);
        checked(request.send().await?).await.map(drop)
    }

    /// Starts a run of a stored workflow; its id.
    pub(crate) async fn submit(&self, workflow: &str, data: &Value) -> Result<String> {
        let request = self.http.post(format!("{}/v1/runs", self.base));
        let answer = request.json(&json!({ "workflow": workflow, "data": data })).send().await?;
        let answer: Value = checked(answer).await?.json().await?;
        Ok(answer["run"].as_str().context("no run id")?.to_owned())
    }

    /// Starts a run and waits until it has succeeded, in one request.
    pub(crate) async fn submit_and_wait(&self, workflow: &str, data: &Value) -> Result<()> {
        let request = self.http.post(format!("{}/v1/runs?wait=60s", self.base));
        let answer = request.json(&json!({ "workflow": workflow, "data": data })).send().await?;
        let view: Value = checked(answer).await?.json().await?;
        ensure!(view["state"] == "succeeded", "a run did not succeed in time: {view:#}");
        Ok(())
    }

    /// Waits until a run has succeeded.
    pub(crate) async fn wait(&self, run: &str) -> Result<()> {
        loop {
            let view = self.get(&format!("/v1/runs/{run}?wait=30s")).await?;
            match view["state"].as_str() {
                Some("running") => {}
                Some("succeeded") => return Ok(()),
                _ => bail!("a run did not succeed: {view:#}"),
            }
        }
    }

    /// Waits until so many runs have ended since there were `before`.
    pub(crate) async fn wait_for_all(&self, before: u64, runs: u64) -> Result<()> {
        let until = Instant::now() + FOR_EVER;
        while self.ended().await? < before + runs {
            ensure!(Instant::now() < until, "the runs do not end");
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// How many ended runs are kept.
    pub(crate) async fn ended(&self) -> Result<u64> {
        self.metric("phasework_runs{state=\"ended\"}").await
    }

    /// How many commits the engine has made.
    pub(crate) async fn commits(&self) -> Result<u64> {
        self.metric("phasework_commits_total").await
    }

    async fn metric(&self, name: &str) -> Result<u64> {
        let metrics = self.http.get(format!("{}/metrics", self.base)).send().await?.error_for_status()?.text().await?;
        let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
        // One that was never counted is not shown.
        Ok(value.unwrap_or_default() as u64)
    }

    async fn get(&self, path: &str) -> Result<Value> {
        let answer = self.http.get(format!("{}{path}", self.base)).send().await?;
        Ok(checked(answer).await?.json().await?)
    }
}

/// The answer, or what it says is wrong.
async fn checked(answer: reqwest::Response) -> Result<reqwest::Response> {
    let status = answer.status();
    ensure!(status.is_success(), "{status}: {}", answer.text().await?);
    Ok(answer)
}
