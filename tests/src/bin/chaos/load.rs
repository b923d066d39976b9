//! Submits runs as long as faults strike, so that there are always some under way, and each until it is accepted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use fastrand::Rng;
use serde_json::json;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::api::{Api, Runs};
use crate::shapes::{SHAPES, Shape};

/// How many runs are to be under way at once.
const UNDER_WAY: usize = 100;

/// How many submit side by side. Those whose run is owned by a frozen coordinator wait; the others go on.
const SUBMITTERS: usize = 40;

/// What was submitted and accepted, by the run that it became.
pub(crate) type Submitted = BTreeMap<String, Submission>;

/// A submission that was accepted.
#[derive(Clone, Debug)]
pub(crate) struct Submission {
    pub(crate) key: String,
    pub(crate) shape: Shape,
    pub(crate) size: u64,
    /// How often it had to be submitted.
    pub(crate) tries: u32,
}

impl Submission {
    /// The `n`-th of a seed.
    fn draw(seed: u64, n: usize) -> Self {
        let mut rng = Rng::with_seed(seed.wrapping_mul(1_000_003).wrapping_add(n as u64));
        let shape = SHAPES[n % SHAPES.len()];
        Self { key: format!("run {n}"), shape, size: rng.u64(5..60), tries: 0 }
    }

    /// As the API takes it.
    pub(crate) fn body(&self) -> serde_json::Value {
        json!({ "definition": self.shape.definition(), "data": { "size": self.size }, "key": self.key })
    }
}

/// Submitters at work.
pub(crate) struct Load {
    stop: watch::Sender<bool>,
    live: Arc<AtomicUsize>,
    submitted: Arc<Mutex<Submitted>>,
    tasks: JoinSet<Result<()>>,
}

/// Begins to submit.
pub(crate) fn start(api: &Api, seed: u64) -> Load {
    let stop = watch::Sender::new(false);
    let (live, next) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let submitted = Arc::<Mutex<Submitted>>::default();
    let mut tasks = JoinSet::new();
    tasks.spawn(count(api.clone(), Arc::clone(&live), stop.subscribe()));
    for _ in 0..SUBMITTERS {
        let (api, live, next) = (api.clone(), Arc::clone(&live), Arc::clone(&next));
        let (submitted, stop) = (Arc::clone(&submitted), stop.subscribe());
        tasks.spawn(async move {
            while !*stop.borrow() {
                if live.load(Ordering::Relaxed) >= UNDER_WAY {
                    sleep(Duration::from_millis(50)).await;
                    continue;
                }
                live.fetch_add(1, Ordering::Relaxed);
                let mut submission = Submission::draw(seed, next.fetch_add(1, Ordering::Relaxed));
                let (run, tries) = api.submit(&submission.body()).await?;
                submission.tries = tries;
                if let Some(other) = submitted.lock().await.insert(run.clone(), submission.clone()) {
                    bail!("{} and {} became one run, {run}", other.key, submission.key);
                }
            }
            Ok(())
        });
    }
    Load { stop, live, submitted, tasks }
}

/// Keeps in mind how many runs are live, as long as anybody says so.
async fn count(api: Api, live: Arc<AtomicUsize>, stop: watch::Receiver<bool>) -> Result<()> {
    while !*stop.borrow() {
        if let Ok(runs) = api.try_get::<Runs>("/v1/runs?limit=1").await {
            live.store(runs.counts.live, Ordering::Relaxed);
        }
        sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

impl Load {
    /// Waits until there are as many runs under way as there are to be.
    pub(crate) async fn until_under_way(&self) -> Result<()> {
        let begun = Instant::now();
        while self.live.load(Ordering::Relaxed) < UNDER_WAY {
            if begun.elapsed() > Duration::from_secs(60) {
                bail!("{} runs are under way, not {UNDER_WAY}", self.live.load(Ordering::Relaxed));
            }
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Stops once everything that was begun is accepted.
    pub(crate) async fn stop(mut self) -> Result<Submitted> {
        self.stop.send_replace(true);
        while let Some(ended) = self.tasks.join_next().await {
            ended?.context("while submitting")?;
        }
        Ok(std::mem::take(&mut *self.submitted.lock().await))
    }
}
