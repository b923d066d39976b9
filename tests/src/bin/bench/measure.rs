//! One measurement: what a piece of work took of everything, from the moment it begins until its client knows that it
//! is done.

use std::future::Future;
use std::time::Duration;

use anyhow::Result;
use tokio::time::Instant;

use crate::servers::Servers;
use crate::system::{System, Taken};

/// How often it is looked how much Redis keeps.
const LOOK: Duration = Duration::from_millis(50);

/// What was done.
#[derive(Clone, Debug, Default)]
pub(crate) struct Done {
    pub(crate) runs: u64,
    pub(crate) jobs: u64,
    /// How long each run took for its client, where that is what is measured, in milliseconds.
    pub(crate) latencies: Vec<f64>,
    /// How long it would have taken had no slot ever waited, in seconds, where that is what is measured.
    pub(crate) ideal: Option<f64>,
}

/// What was done, and what it took.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    pub(crate) done: Done,
    pub(crate) seconds: f64,
    pub(crate) taken: Taken,
    /// The most that Redis kept above what it had before, in bytes.
    pub(crate) kept: Option<u64>,
    /// The most memory of an engine's process, and of a worker's, in bytes.
    pub(crate) peaks: (u64, u64),
}

/// Measures `work`.
pub(crate) async fn measure(system: &System<'_>, work: impl Future<Output = Result<Done>>) -> Result<Measured> {
    system.forget_peaks()?;
    let before = system.taken().await?;
    let kept_before = kept(system.servers()).await?;
    let started = Instant::now();
    let mut most = kept_before;
    tokio::pin!(work);
    let (mut done, seconds) = loop {
        tokio::select! {
            biased;
            done = &mut work => break (done?, started.elapsed().as_secs_f64()),
            () = tokio::time::sleep(LOOK), if most.is_some() => most = most.max(kept(system.servers()).await?),
        }
    };
    done.latencies.sort_by(f64::total_cmp);
    Ok(Measured {
        done,
        seconds,
        taken: system.taken().await?.since(&before),
        kept: most.zip(kept_before).map(|(most, before)| most.saturating_sub(before)),
        peaks: system.peaks()?,
    })
}

async fn kept(servers: Option<&Servers>) -> Result<Option<u64>> {
    match servers {
        Some(servers) => servers.kept().await.map(Some),
        None => Ok(None),
    }
}

impl Measured {
    /// Of work that was measured several times, the one whose time is in the middle, with the least and the most time.
    pub(crate) fn median(mut all: Vec<Self>) -> Option<(Self, f64, f64)> {
        all.sort_by(|one, other| one.seconds.total_cmp(&other.seconds));
        let (least, most) = (all.first()?.seconds, all.last()?.seconds);
        Some((all.swap_remove(all.len() / 2), least, most))
    }

    pub(crate) fn jobs_a_second(&self) -> f64 {
        self.done.jobs as f64 / self.seconds
    }

    pub(crate) fn runs_a_second(&self) -> f64 {
        self.done.runs as f64 / self.seconds
    }

    /// The latency that this share of all runs did not exceed, in milliseconds.
    pub(crate) fn quantile(&self, share: f64) -> Option<f64> {
        let place = (share * self.done.latencies.len() as f64).ceil() as usize;
        self.done.latencies.get(place.saturating_sub(1)).copied()
    }
}
