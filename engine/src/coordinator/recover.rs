//! Recovery: the live runs of a shard that were not recovered for the current epoch are told that what was under way may
//! be lost, a few at a time, between deliveries. When all are through, the shard's epoch is noted; whoever dies before
//! that begins again, which does no harm.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use phasework_store::StoreError;
use phasework_workflows::id::{RunId, Shard};
use phasework_workflows::run::Event;
use phasework_workflows::time::{Millis, Timestamp};
use tokio_util::sync::CancellationToken;

use super::intake::{Happening, What};
use super::owner::{Owner, Stopped};

/// How many runs are recovered between two batches of deliveries.
const AT_ONCE: usize = 32;

/// What is still to be recovered.
#[derive(Debug, Default)]
pub(super) struct Recovery {
    /// For which epoch.
    epoch: Option<Arc<str>>,
    shards: VecDeque<Shard>,
    /// The last run of the first shard that is done.
    after: Option<(Timestamp, RunId)>,
    /// Whether the store could not be asked.
    is_stuck: bool,
}

impl Recovery {
    pub(super) fn is_due(&self) -> bool {
        !self.shards.is_empty()
    }

    /// How long after a pass the next one follows, if nothing else is to be done.
    pub(super) const fn pause(&self) -> Millis {
        if self.is_stuck { Millis::from_secs(1) } else { Millis(5) }
    }
}

impl Owner {
    /// Finds the shards that were not recovered for the current epoch. To be done before anything happens to their runs.
    pub(super) async fn look_for_losses(&mut self) {
        let Some(epoch) = self.timeline.borrow_and_update().clone() else { return };
        self.recovery = match self.lost(&epoch).await {
            Ok(shards) => Recovery { shards, epoch: Some(epoch), ..Recovery::default() },
            Err(error) => {
                tracing::warn!(queue = self.queue, %error, "what has to be recovered cannot be read; trying again");
                let shards = self.shards.iter().copied().collect();
                Recovery { shards, is_stuck: true, ..Recovery::default() }
            }
        };
    }

    /// The shards that were recovered for another epoch. One that never was has had no run yet: this epoch is its first.
    async fn lost(&self, epoch: &Arc<str>) -> Result<VecDeque<Shard>, StoreError> {
        let store = &self.engine.parts.store;
        let (mut fresh, mut lost) = (Vec::new(), VecDeque::new());
        for (&shard, known) in self.shards.iter().zip(store.epochs(&self.shards).await?) {
            match known {
                None => fresh.push(shard),
                Some(known) if known != *epoch => lost.push_back(shard),
                Some(_) => {}
            }
        }
        store.put_epoch(&fresh, epoch).await?;
        Ok(lost)
    }

    /// Something may be lost, so what is remembered may be of a time that never was.
    pub(super) async fn begin_anew(&mut self) {
        self.hot.clear();
        self.look_for_losses().await;
    }

    /// Recovers some runs.
    pub(super) async fn recover_some(&mut self, shutdown: &CancellationToken) -> Result<(), Stopped> {
        let Some(epoch) = self.recovery.epoch.clone() else {
            self.look_for_losses().await;
            return Ok(());
        };
        let (runs, done) = match self.next_to_recover().await {
            Ok(next) => next,
            Err(error) => {
                tracing::warn!(queue = self.queue, %error, "runs cannot be recovered now; trying again");
                self.recovery.is_stuck = true;
                return Ok(());
            }
        };
        self.recovery.is_stuck = false;
        let recover = || vec![Happening { what: What::Event(Event::Recover), reply: None, delivery: None }];
        if !runs.is_empty() {
            tracing::info!(queue = self.queue, runs = runs.len(), "what may be lost of live runs goes out again");
        }
        let runs: BTreeMap<_, _> = runs.into_iter().map(|run| (run, recover())).collect();
        self.carry_out(runs, shutdown).await?;
        if let Err(error) = self.engine.parts.store.put_epoch(&done, &epoch).await {
            tracing::debug!(queue = self.queue, %error, "a recovery could not be noted; it is done again");
        }
        Ok(())
    }

    /// The next runs, and the shards that are done once they are.
    async fn next_to_recover(&mut self) -> Result<(Vec<RunId>, Vec<Shard>), StoreError> {
        let (mut runs, mut done) = (Vec::new(), Vec::new());
        while let Some(&shard) = self.recovery.shards.front()
            && runs.len() < AT_ONCE
        {
            let limit = AT_ONCE - runs.len();
            let page = self.engine.parts.store.live_runs(shard, self.recovery.after, limit).await?;
            self.recovery.after = page.last().copied().or(self.recovery.after);
            if page.len() < limit {
                self.recovery.shards.pop_front();
                self.recovery.after = None;
                done.push(shard);
            }
            runs.extend(page.into_iter().map(|(_, run)| run));
        }
        Ok((runs, done))
    }
}
