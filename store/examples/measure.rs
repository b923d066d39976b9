//! What a store costs: commits and loads a second, and on Redis the bytes of a run and of a job. To be built with
//! `--release`; `cargo run --release -p phasework-store --example measure -- redis://127.0.0.1:6379`, or `sqlite:DIR` for
//! one on SQLite; without an address for the store in memory. Leaves its keys, which begin with `measure-`, behind, and
//! the directory.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result};
use phasework_store::memory::MemoryStore;
use phasework_store::redis::{RedisOptions, RedisStore};
use phasework_store::sqlite::{SqliteOptions, SqliteStore};
use phasework_store::{Commit, RunIndex, SharedStore};
use phasework_workflows::Payload;
use phasework_workflows::id::{Nonce, Revision, RunId, SystemIds};
use phasework_workflows::run::{BitPatch, Delta, HistoryEvent, HistoryKind, OutputPage, RunState};
use phasework_workflows::time::Timestamp;
use uuid::Uuid;

const RUNS: u64 = 20_000;
const BATCH: usize = 64;

#[tokio::main]
async fn main() -> Result<()> {
    let url = std::env::args().nth(1);
    let store: SharedStore = match &url {
        Some(url) if url.starts_with("sqlite:") => {
            Arc::new(SqliteStore::open(&SqliteOptions::new(&url["sqlite:".len()..]), &SystemIds)?)
        }
        Some(url) => {
            let prefix = format!("measure-{}", std::process::id());
            Arc::new(RedisStore::connect(&RedisOptions { prefix, ..RedisOptions::new(url) })?)
        }
        None => Arc::new(MemoryStore::new()),
    };
    store.check().await?;
    let memory = Memory::of(url.as_deref().filter(|url| !url.starts_with("sqlite:"))).await?;

    for callers in [1, 8, 64] {
        singly(&store, callers).await?;
    }

    let before = memory.used().await?;
    speed(&store, 1, "runs made", 0, made).await?;
    memory.tell("a live run of one phase, with 200 bytes of data", before, RUNS).await?;
    for tasks in [1, 4] {
        let from = if tasks == 1 { 1 } else { 5 };
        speed(&store, tasks, "commits of progress", from, progressed).await?;
    }
    loads(&store).await?;
    jobs(&store, &memory).await
}

fn run(n: u64) -> RunId {
    RunId::new(Uuid::from_u64_pair(n.wrapping_mul(0x9e37_79b9_7f4a_7c15), n))
}

/// A commit as small as they are: a head of 700 bytes.
fn commit(n: u64, expect: u64) -> Commit {
    Commit {
        run: run(n),
        expect,
        head: vec![b'h'; 700],
        entry: 1,
        handlers: 1,
        delta: Delta::default(),
        data: None,
        effects: Vec::new(),
        published: Vec::new(),
        index: RunIndex {
            state: RunState::Running,
            created_at: Timestamp::from_millis(1_763_000_000_000 + n as i64),
            ended_at: None,
            wake_at: None,
            awaits_worker: false,
        },
    }
}

/// Commits one at a time, by that many callers, each of whom waits for its own: of runs that nothing else is done with.
async fn singly(store: &SharedStore, callers: u64) -> Result<()> {
    const COMMITS: u64 = 2000;
    let started = Instant::now();
    let working = (0..callers).map(|caller| {
        let store = store.clone();
        tokio::spawn(async move {
            let n = 10 * RUNS + callers * 100 + caller;
            for expect in 0..COMMITS.div_ceil(callers) {
                let change = if expect == 0 { made(n, 0) } else { progressed(n, expect) };
                store.commit(vec![change]).await.into_iter().collect::<Result<Vec<_>, _>>()?;
            }
            anyhow::Ok(())
        })
    });
    for caller in futures::future::join_all(working).await {
        caller??;
    }
    let rate = COMMITS as f64 / started.elapsed().as_secs_f64();
    println!("{rate:>10.0} commits a second, one at a time, by {callers} callers");
    Ok(())
}

fn made(n: u64, expect: u64) -> Commit {
    let what = || HistoryKind::Started { revision: Revision::from("0123456789abcdef0123456789abcdef") };
    let history =
        (1..=2).map(|n| HistoryEvent { n, at: Timestamp::from_millis(0), what: what(), actor: None }).collect();
    let data = Payload::from_json(format!("\"{}\"", "d".repeat(198))).ok();
    Commit { data, delta: Delta { history, ..Delta::default() }, effects: vec![b'e'; 300], ..commit(n, expect) }
}

fn progressed(n: u64, expect: u64) -> Commit {
    let bits = vec![BitPatch { entry: 1, handler: 0, offset: expect * 4, bytes: vec![0xff; 4] }];
    let delta = Delta { bits, ..Delta::default() };
    Commit { delta, effects: vec![b'e'; 300], published: vec![expect], ..commit(n, expect) }
}

/// Commits in batches, each of `tasks` waiting for its own; four rounds over all runs, or one when they are made.
async fn speed(store: &SharedStore, tasks: u64, what: &str, from: u64, change: fn(u64, u64) -> Commit) -> Result<()> {
    let rounds = if from == 0 { 1 } else { 4 };
    let started = Instant::now();
    let working = (0..tasks).map(|task| {
        let store = store.clone();
        tokio::spawn(async move {
            for version in from..from + rounds {
                let own: Vec<u64> = (task..RUNS).step_by(tasks as usize).collect();
                for batch in own.chunks(BATCH) {
                    let results = store.commit(batch.iter().map(|&n| change(n, version)).collect()).await;
                    results.into_iter().collect::<Result<Vec<_>, _>>()?;
                }
            }
            anyhow::Ok(())
        })
    });
    for task in futures::future::join_all(working).await {
        task??;
    }
    let rate = (RUNS * rounds) as f64 / started.elapsed().as_secs_f64();
    println!("{rate:>10.0} {what} a second, {BATCH} at once, by {tasks} at a time");
    Ok(())
}

async fn loads(store: &SharedStore) -> Result<()> {
    let runs: Vec<_> = (0..RUNS).map(run).collect();
    let started = Instant::now();
    for batch in runs.chunks(BATCH) {
        store.load(batch).await?;
    }
    println!("{:>10.0} loads a second, {BATCH} at once", RUNS as f64 / started.elapsed().as_secs_f64());
    Ok(())
}

/// What jobs cost: done, with an output, with a listed input.
async fn jobs(store: &SharedStore, memory: &Memory) -> Result<()> {
    const JOBS: u64 = 1_000_000;
    let (n, mut version) = (RUNS, 0);
    let mut next = async |delta| {
        let results = store.commit(vec![Commit { delta, ..commit(n, version) }]).await;
        version += 1;
        results.into_iter().collect::<Result<Vec<_>, _>>()
    };
    let before = memory.used().await?;
    for offset in (0..JOBS / 8).step_by(125) {
        let bits = vec![BitPatch { entry: 1, handler: 0, offset, bytes: vec![0xff; 125] }];
        next(Delta { bits, ..Delta::default() }).await?;
    }
    memory.tell("a job that is done, of a million", before, JOBS).await?;
    let before = memory.used().await?;
    let output = Payload::from_json("\"0123456789\"".to_owned())?;
    for first in (0..JOBS / 10).step_by(100) {
        let items = (first..first + 100).map(|index| (index, output.clone())).collect();
        next(Delta { outputs: vec![OutputPage { entry: 1, handler: 0, items }], ..Delta::default() }).await?;
    }
    memory.tell("a job's output of 12 bytes, 100 to a page", before, JOBS / 10).await?;
    let before = memory.used().await?;
    let input = Payload::from_json(format!("\"{}\"", "i".repeat(198)))?;
    let pages = (0..100).map(|page| (page, vec![input.clone(); 1000])).collect();
    store.put_inputs(run(n), 1, Nonce(1), 0, pages).await?;
    memory.tell("a job's listed input of 200 bytes", before, 100_000).await
}

/// The memory of the server, when there is one.
struct Memory(Option<redis::aio::MultiplexedConnection>);

impl Memory {
    async fn of(url: Option<&str>) -> Result<Self> {
        Ok(Self(match url {
            Some(url) => Some(redis::Client::open(url)?.get_multiplexed_async_connection().await?),
            None => None,
        }))
    }

    async fn used(&self) -> Result<u64> {
        let Some(connection) = &self.0 else { return Ok(0) };
        let info: String = redis::cmd("INFO").arg("memory").query_async(&mut connection.clone()).await?;
        let used = info.lines().find_map(|line| line.strip_prefix("used_memory_dataset:"));
        used.context("the server does not tell its memory")?.trim().parse().context("the server's memory")
    }

    async fn tell(&self, what: &str, before: u64, count: u64) -> Result<()> {
        if self.0.is_some() {
            let bytes = (self.used().await? as f64 - before as f64) / count as f64;
            println!("{bytes:>10.2} bytes for {what}");
        }
        Ok(())
    }
}
