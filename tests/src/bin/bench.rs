//! What a job costs, measured on whole processes: a coordinator, a worker, RabbitMQ and Redis, with the guarantees of
//! production (durable queues, confirms, append-only file). `cargo xtask bench` builds it, starts the services and runs
//! it. It prints what it saw and judges nothing but completeness: these figures depend on the machine, so each is also
//! given as a ratio to the smallest size of the same session.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tokio::time::Instant;

/// The sizes of the one phase that is measured.
const SIZES: [u64; 3] = [10_000, 100_000, 1_000_000];

#[tokio::main]
async fn main() -> Result<()> {
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        bail!("a TLS provider is installed already");
    }
    let sizes = sizes()?;
    let broker = std::env::var("PHASEWORK_TEST_BROKER_URL").context("started by `cargo xtask bench`, not by hand")?;
    let store = std::env::var("PHASEWORK_TEST_STORE_URL").context("started by `cargo xtask bench`, not by hand")?;
    let bench = Bench::start(&broker, &store).await?;
    bench.fan_out(1000).await.context("warming up")?;
    let mut measured = Vec::new();
    for &jobs in &sizes {
        eprintln!("fan-out of {jobs} jobs…");
        measured.push(bench.fan_out(jobs).await?);
    }
    print(&measured);
    Ok(())
}

/// The sizes asked for, or the usual ones.
fn sizes() -> Result<Vec<u64>> {
    let asked: Result<Vec<u64>, _> = std::env::args().skip(1).map(|size| size.parse()).collect();
    let asked = asked.context("the sizes must be numbers of jobs")?;
    Ok(if asked.is_empty() { SIZES.to_vec() } else { asked })
}

/// What one run came to.
struct Measured {
    jobs: u64,
    seconds: f64,
    cpu: [f64; 2],
    redis_bytes: u64,
    coordinator_rss: u64,
}

fn print(measured: &[Measured]) {
    println!("fan-out: one phase of N no-op jobs (`for_each: N`), RabbitMQ and Redis, one coordinator, one worker");
    println!(
        "{:>10} {:>9} {:>9} {:>8} {:>12} {:>12} {:>14} {:>16}",
        "jobs", "seconds", "jobs/s", "ratio", "coord µs/job", "worker µs/job", "Redis peak kB", "coordinator RSS"
    );
    let rate = |one: &Measured| one.jobs as f64 / one.seconds;
    for one in measured {
        let [coordinator, worker] = one.cpu.map(|seconds| seconds * 1e6 / one.jobs as f64);
        println!(
            "{:>10} {:>9.2} {:>9.0} {:>8.2} {:>12.1} {:>12.1} {:>14} {:>13} kB",
            one.jobs,
            one.seconds,
            rate(one),
            rate(one) / rate(&measured[0]),
            coordinator,
            worker,
            one.redis_bytes / 1024,
            one.coordinator_rss / 1024,
        );
    }
    println!("ratio: jobs/s against the first line. Redis peak: above what it held before the run.");
}

/// A coordinator and a worker, each a process of its own, ended when this is dropped.
struct Bench {
    coordinator: Process,
    worker: Process,
    redis: redis::aio::MultiplexedConnection,
    api: String,
    http: reqwest::Client,
}

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = self.0.kill().and_then(|()| self.0.wait().map(drop)) {
            eprintln!("a process could not be ended: {error}");
        }
    }
}

impl Process {
    fn rss(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kilobytes * 1024)
    }

    /// User and system time so far, in seconds.
    fn cpu(&self) -> Result<f64> {
        /// Linux counts in these on every platform that we know.
        const TICKS_A_SECOND: f64 = 100.0;
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id()))?;
        let after_name = stat.rsplit(')').next().context("no name")?;
        let fields: Vec<_> = after_name.split_whitespace().collect();
        ensure!(fields.len() > 12, "a short stat line");
        let (user, system): (f64, f64) = (fields[11].parse()?, fields[12].parse()?);
        Ok((user + system) / TICKS_A_SECOND)
    }
}

/// A program beside this one.
fn beside(name: &str) -> Result<PathBuf> {
    let me = std::env::current_exe()?;
    let path = me.parent().unwrap_or(Path::new(".")).join(name);
    ensure!(path.exists(), "{} is not built", path.display());
    Ok(path)
}

impl Bench {
    async fn start(broker: &str, store: &str) -> Result<Self> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let listen = format!("127.0.0.1:{port}");
        let coordinator = Command::new(beside("phasework")?)
            .args(["serve", "--broker", broker, "--store", store, "--listen", &listen, "--prefix", "bench"])
            .env("PHASEWORK_LOG", "warn")
            .stdout(Stdio::null())
            .spawn()?;
        let worker = Command::new(beside("noop-worker")?)
            .env("PHASEWORK_URL", broker)
            .env("PHASEWORK_PREFIX", "bench")
            .spawn()?;
        let redis = redis::Client::open(store)?.get_multiplexed_async_connection().await?;
        let (coordinator, worker) = (Process(coordinator), Process(worker));
        let bench = Self { coordinator, worker, redis, api: format!("http://{listen}"), http: reqwest::Client::new() };
        let started = Instant::now();
        let ready = format!("{}/health/ready", bench.api);
        while !bench.http.get(&ready).send().await.is_ok_and(|answer| answer.status().is_success()) {
            ensure!(started.elapsed() < Duration::from_secs(60), "the coordinator did not become ready");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(bench)
    }

    async fn used_memory(&self) -> Result<u64> {
        let info: String = redis::cmd("INFO").arg("memory").query_async(&mut self.redis.clone()).await?;
        let line = info.lines().find_map(|line| line.strip_prefix("used_memory:")).context("no used_memory")?;
        Ok(line.trim().parse()?)
    }

    /// One run with one phase of `jobs` jobs.
    async fn fan_out(&self, jobs: u64) -> Result<Measured> {
        let definition = json!({
            "workflow": "fan-out",
            "phases": {
                "all": { "is_initial": true, "transitions_to": "end",
                         "handlers": [{ "name": "Noop", "for_each": jobs, "timeout": "10m" }] },
                "end": { "is_final": true }
            }
        });
        let before = self.used_memory().await?;
        let cpu_before = [self.coordinator.cpu()?, self.worker.cpu()?];
        let started = Instant::now();
        let run: Value = self
            .http
            .post(format!("{}/v1/runs", self.api))
            .json(&json!({ "definition": definition }))
            .send()
            .await?
            .error_for_status()?
            .json()
            .await?;
        let id = run["run"].as_str().context("no run id")?.to_owned();
        let (mut peak, mut rss) = (0, 0);
        let ended = self.wait(&id);
        tokio::pin!(ended);
        let (view, ended) = loop {
            tokio::select! {
                biased;
                view = &mut ended => break (view?, started.elapsed()),
                () = tokio::time::sleep(Duration::from_millis(20)) => {
                    peak = peak.max(self.used_memory().await?);
                    rss = rss.max(self.coordinator.rss()?);
                }
            }
        };
        if view["state"] != "succeeded" {
            bail!("the run did not succeed: {view:#}");
        }
        let cpu_after = [self.coordinator.cpu()?, self.worker.cpu()?];
        Ok(Measured {
            jobs,
            seconds: ended.as_secs_f64(),
            cpu: [cpu_after[0] - cpu_before[0], cpu_after[1] - cpu_before[1]],
            redis_bytes: peak.saturating_sub(before),
            coordinator_rss: rss.max(self.coordinator.rss()?),
        })
    }

    async fn wait(&self, run: &str) -> Result<Value> {
        loop {
            let view: Value = self
                .http
                .get(format!("{}/v1/runs/{run}?wait=30s", self.api))
                .send()
                .await?
                .error_for_status()?
                .json()
                .await?;
            if view["state"] != "running" {
                return Ok(view);
            }
        }
    }
}
