//! Recovery: the live runs of a shard that were not recovered for the current epoch are told that what was under way may
//! be lost, a few at a time, between deliveries. When all are through, the shard's epoch is noted; whoever dies before
//! that begins again, which does no harm.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use phasework_store::StoreError;
use phasework_workflows::id::{RunId, Shard};
use phasework_workflows::run::Event;
use phasework_workflows::time::Timestamp;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::intake::{Happening, What};
use super::owner::{Owner, Stopped};
use crate::timeline;

/// How many runs are recovered between two batches of deliveries.
const AT_ONCE: usize = 32;

/// What is still to be recovered.
#[derive(Debug, Default)]
pub(super) struct Recovery {
    /// For which epoch.
    epoch: Option<Arc<str>>,
    shards: VecDeque<Left>,
    /// When it goes on. Later than at once where the store could not be asked.
    next: Option<Instant>,
}

/// What is left of a shard.
#[derive(Clone, Copy, Debug)]
struct Left {
    shard: Shard,
    /// The last run that is done. Nothing before it is done again: whatever is under way would be sent once more.
    after: Option<(Timestamp, RunId)>,
}

/// How long after a pass the next one follows, if nothing else is to be done, and how long where the store could not be
/// asked.
const PAUSE: Duration = Duration::from_millis(5);
const STUCK: Duration = Duration::from_secs(1);

impl Recovery {
    /// All of these shards, at once.
    fn of(epoch: Option<Arc<str>>, shards: impl IntoIterator<Item = Shard>) -> Self {
        let shards = shards.into_iter().map(|shard| Left { shard, after: None }).collect();
        Self { epoch, shards, next: None }
    }

    pub(super) fn is_due(&self) -> bool {
        !self.shards.is_empty() && self.next.is_none_or(|next| next <= Instant::now())
    }

    /// How long until it goes on, if nothing else is to be done; never when nothing is left.
    pub(super) fn pause(&self) -> Option<Duration> {
        let wait = self.next.map_or(PAUSE, |next| next.saturating_duration_since(Instant::now()).max(PAUSE));
        (!self.shards.is_empty()).then_some(wait)
    }

    /// Whether the store cannot be asked for what is left.
    fn stuck(&mut self, is_stuck: bool) {
        self.next = is_stuck.then(|| Instant::now() + STUCK);
    }
}

impl Owner {
    /// Finds the shards that were not recovered for the current epoch. To be done before anything happens to their runs.
    pub(super) async fn look_for_losses(&mut self) {
        let Some(epoch) = self.timeline.see() else { return };
        self.recovery = match self.lost(&epoch).await {
            Ok(Some(shards)) => Recovery::of(Some(epoch), shards),
            // Our own check will find out.
            Ok(None) => Recovery::of(None, self.shards.iter().copied()),
            Err(error) => {
                tracing::warn!(queue = self.queue, %error, "what has to be recovered cannot be read; trying again");
                Recovery::of(None, self.shards.iter().copied())
            }
        };
        self.recovery.stuck(self.recovery.epoch.is_none());
    }

    /// The shards that were recovered for another epoch. One that never was has had no run yet: this epoch is its first.
    /// `None` when that other one may be later than `epoch`: another coordinator has found a loss before us.
    async fn lost(&self, epoch: &Arc<str>) -> Result<Option<Vec<Shard>>, StoreError> {
        let store = &self.engine.parts.store;
        let (mut fresh, mut lost) = (Vec::new(), Vec::new());
        for (&shard, known) in self.shards.iter().zip(store.epochs(&self.shards).await?) {
            match known {
                None => fresh.push(shard),
                Some(known) if known != *epoch => lost.push(shard),
                Some(_) => {}
            }
        }
        if !lost.is_empty() && timeline::stored(&**store).await?.as_deref() != Some(&**epoch) {
            return Ok(None);
        }
        store.put_epoch(&fresh, epoch).await?;
        Ok(Some(lost))
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
                self.recovery.stuck(true);
                return Ok(());
            }
        };
        // Where only shards are left that are damaged.
        self.recovery.stuck(runs.is_empty() && done.is_empty());
        let recover = || vec![Happening { what: What::Event(Event::Recover), reply: None, delivery: None }];
        if !runs.is_empty() {
            tracing::info!(queue = self.queue, runs = runs.len(), "what may be lost of live runs goes out again");
        }
        let runs: BTreeMap<_, _> = runs.into_iter().map(|run| (run, recover())).collect();
        self.carry_out(runs, shutdown).await?;
        // Where a newer coordinator has to do it, that one is to find it not done.
        let done: Vec<_> = done.into_iter().filter(|&shard| !self.newer.is_in(shard)).collect();
        if let Err(error) = self.engine.parts.store.put_epoch(&done, &epoch).await {
            tracing::debug!(queue = self.queue, %error, "a recovery could not be noted; it is done again");
        }
        Ok(())
    }

    /// The next runs, and the shards that are done once they are.
    async fn next_to_recover(&mut self) -> Result<(Vec<RunId>, Vec<Shard>), StoreError> {
        let (mut runs, mut done, mut damaged) = (Vec::new(), Vec::new(), 0);
        while let Some(&Left { shard, after }) = self.recovery.shards.front()
            && runs.len() < AT_ONCE
            && damaged < self.recovery.shards.len()
        {
            let limit = AT_ONCE - runs.len();
            let page = match self.engine.parts.store.live_runs(shard, after, limit).await {
                Ok(page) => page,
                // It goes to the end of the line: the others do not wait for one that cannot be read.
                Err(StoreError::Corrupt(reason)) => {
                    tracing::warn!(queue = self.queue, shard = shard.0, reason, "a shard cannot be recovered");
                    self.recovery.shards.rotate_left(1);
                    damaged += 1;
                    continue;
                }
                Err(error) if runs.is_empty() && done.is_empty() => return Err(error),
                // What was found before is not forgotten for that. The next pass asks again.
                Err(_) => break,
            };
            if page.len() < limit {
                self.recovery.shards.pop_front();
                done.push(shard);
            } else if let Some(left) = self.recovery.shards.front_mut() {
                left.after = page.last().copied();
            }
            runs.extend(page.into_iter().map(|(_, run)| run));
        }
        Ok((runs, done))
    }
}
