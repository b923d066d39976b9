//! What an owner does for its shards every so often: publish what was left behind, remove what has had its time.

use std::collections::BTreeSet;
use std::sync::Arc;

use phasework_store::StoreError;
use phasework_workflows::id::RunId;
use phasework_workflows::time::Timestamp;
use tokio_util::sync::CancellationToken;

use super::owner::{Owner, PASS, Stopped};

/// How many passes of removals one sweep makes at most, so that it does not keep events waiting for long.
const REMOVALS: usize = 16;

impl Owner {
    /// Publishes what a dead owner, or a lost reply of the store, left in an outbox; removes runs whose time is over.
    pub(super) async fn sweep(&mut self, now: Timestamp, shutdown: &CancellationToken) -> Result<(), Stopped> {
        // What we published ourselves was not left behind by anyone.
        self.clear_published().await;
        let store = Arc::clone(&self.engine.parts.store);
        match store.unpublished(&self.shards, PASS).await {
            // Being loaded is all that is needed: the outbox comes along and is published.
            Ok(runs) => {
                let left = |run: &RunId| !self.hot.is_all_sent(*run) && !self.shunned.contains_key(run);
                let runs = runs.into_iter().filter(left).collect();
                self.wake(runs, shutdown).await?;
            }
            Err(error) => tracing::warn!(queue = self.queue, %error, "outboxes could not be swept"),
        }
        self.swept = now;
        // A timer of these shards may have been set by whoever owned a queue that is no longer theirs.
        self.next_due = Some(now);
        // A run goes only when nothing of it is left to be published.
        self.clear_published().await;
        self.remove_ended(now).await;
        Ok(())
    }

    /// Removes runs that ended longer ago than they are kept.
    pub(super) async fn remove_ended(&self, now: Timestamp) {
        let retention = self.engine.parts.config.retention.0;
        let over = Timestamp::from_millis(now.as_millis().saturating_sub_unsigned(retention));
        match self.remove_ended_before(over).await {
            Ok(0) => {}
            Ok(removed) => {
                metrics::counter!("phasework_runs_removed_total").increment(removed as u64);
                tracing::info!(queue = self.queue, removed, "ended runs were removed");
            }
            Err(error) => tracing::warn!(queue = self.queue, %error, "ended runs could not be removed"),
        }
    }

    /// How many were removed. Those that are damaged stay, and the others do not wait for them.
    async fn remove_ended_before(&self, over: Timestamp) -> Result<usize, StoreError> {
        let store = &self.engine.parts.store;
        let (mut removed, mut damaged) = (0, BTreeSet::new());
        for _ in 0..REMOVALS {
            let asked = PASS + damaged.len();
            let mut runs = store.ended_before(&self.shards, over, asked).await?;
            let is_last = runs.len() < asked;
            runs.retain(|run| !damaged.contains(run));
            let gone = futures::future::join_all(runs.iter().map(|&run| store.remove_run(run, over))).await;
            for (run, gone) in runs.into_iter().zip(gone) {
                match gone {
                    Err(StoreError::Corrupt(reason)) => {
                        tracing::warn!(%run, reason, "an ended run cannot be removed");
                        damaged.insert(run);
                    }
                    gone => removed += usize::from(gone?),
                }
            }
            if is_last {
                break;
            }
        }
        Ok(removed)
    }
}
