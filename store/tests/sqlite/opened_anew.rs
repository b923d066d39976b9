//! A store that is closed and opened again after every few calls.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use phasework_store::sqlite::{SqliteOptions, SqliteStore};
use phasework_store::{
    Commit, CommitError, ListedRun, OutputsPage, RunCounts, RunFilter, RunVersion, Store, StoreError, StoredRun,
    StoredWorkflow,
};
use phasework_workflows::Payload;
use phasework_workflows::id::{EntryNo, JobIndex, Nonce, Revision, RunId, Shard, SystemIds, WorkflowName};
use phasework_workflows::message::notice::DeadLetter;
use phasework_workflows::message::presence::WorkerAnnounced;
use phasework_workflows::run::{FailureRecord, HistoryEvent};
use phasework_workflows::time::Timestamp;
use tokio::sync::{RwLock, RwLockReadGuard};

/// After how many calls. Not a divisor of how often the checks do things.
const CALLS: u32 = 29;

#[derive(Debug)]
pub(crate) struct OpenedAnew {
    dir: PathBuf,
    store: RwLock<Option<SqliteStore>>,
    calls: AtomicU32,
}

impl OpenedAnew {
    pub(crate) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), store: RwLock::new(Some(open(dir))), calls: AtomicU32::new(1) }
    }

    async fn store(&self) -> RwLockReadGuard<'_, SqliteStore> {
        if self.calls.fetch_add(1, Ordering::Relaxed).is_multiple_of(CALLS) {
            let mut store = self.store.write().await;
            drop(store.take());
            *store = Some(open(&self.dir));
        }
        RwLockReadGuard::map(self.store.read().await, |store| store.as_ref().unwrap())
    }
}

fn open(dir: &Path) -> SqliteStore {
    SqliteStore::open(&SqliteOptions::new(dir), &SystemIds).unwrap()
}

macro_rules! calls {
    ($(fn $name:ident(&self $(, $argument:ident: $type:ty)*) -> $result:ty;)*) => {
        #[async_trait]
        impl Store for OpenedAnew {
            $(async fn $name(&self $(, $argument: $type)*) -> Result<$result, StoreError> {
                self.store().await.$name($($argument),*).await
            })*

            async fn commit(&self, commits: Vec<Commit>) -> Vec<Result<(), CommitError>> {
                self.store().await.commit(commits).await
            }
        }
    };
}

calls! {
    fn load(&self, runs: &[RunId]) -> Vec<Option<StoredRun>>;
    fn published(&self, runs: Vec<(RunId, Vec<RunVersion>)>) -> ();
    fn data(&self, run: RunId) -> Option<Payload>;
    fn output(&self, run: RunId) -> Option<Payload>;
    fn put_inputs(
        &self, run: RunId, entry: EntryNo, nonce: Nonce, handler: u16, pages: Vec<(u64, Vec<Payload>)>
    ) -> ();
    fn inputs(
        &self, run: RunId, entry: EntryNo, nonce: Nonce, handler: u16, page: u64
    ) -> Option<Vec<Payload>>;
    fn outputs(
        &self, run: RunId, entry: EntryNo, handler: u16, max_bytes: usize
    ) -> Vec<(JobIndex, Payload)>;
    fn outputs_page(
        &self, run: RunId, entry: EntryNo, handler: u16, from: u64, bytes: usize
    ) -> OutputsPage;
    fn history(&self, run: RunId, after: u64, limit: usize) -> Vec<HistoryEvent>;
    fn failures(&self, run: RunId, skip: usize, limit: usize) -> Vec<FailureRecord>;
    fn due(&self, shards: &[Shard], now: Timestamp, limit: usize) -> Vec<RunId>;
    fn next_due(&self, shards: &[Shard]) -> Option<Timestamp>;
    fn unpublished(&self, shards: &[Shard], limit: usize) -> Vec<RunId>;
    fn awaiting_worker(&self, shards: &[Shard], limit: usize) -> Vec<RunId>;
    fn runs(&self, filter: &RunFilter) -> Vec<ListedRun>;
    fn run_counts(&self) -> RunCounts;
    fn ended_before(&self, shards: &[Shard], time: Timestamp, limit: usize) -> Vec<RunId>;
    fn remove_run(&self, run: RunId, time: Timestamp) -> bool;
    fn put_workflow(&self, workflow: StoredWorkflow) -> bool;
    fn keep_workflow(&self, workflow: StoredWorkflow) -> bool;
    fn workflow(&self, revision: &Revision) -> Option<StoredWorkflow>;
    fn latest_workflow(&self, name: &WorkflowName) -> Option<StoredWorkflow>;
    fn workflows(&self) -> Vec<StoredWorkflow>;
    fn revisions(&self, name: &WorkflowName) -> Vec<StoredWorkflow>;
    fn put_worker(&self, worker: WorkerAnnounced, at: Timestamp) -> ();
    fn workers(&self) -> Vec<(WorkerAnnounced, Timestamp)>;
    fn remove_workers(&self, workers: &[Arc<str>]) -> ();
    fn put_dead(&self, letter: DeadLetter) -> ();
    fn dead(&self, skip: usize, limit: usize) -> Vec<DeadLetter>;
    fn dead_letter(&self, id: &str) -> Option<DeadLetter>;
    fn remove_dead(&self, id: &str) -> bool;
    fn dead_count(&self) -> u64;
    fn live_runs(
        &self, shard: Shard, after: Option<(Timestamp, RunId)>, limit: usize
    ) -> Vec<(Timestamp, RunId)>;
    fn lineage(&self) -> Arc<str>;
    fn marker(&self) -> Option<Arc<str>>;
    fn replace_marker(&self, expect: Option<&str>, marker: &str) -> bool;
    fn epochs(&self, shards: &[Shard]) -> Vec<Option<Arc<str>>>;
    fn put_epoch(&self, shards: &[Shard], epoch: &str) -> ();
    fn raise_queues(&self, queues: u16) -> u16;
    fn check(&self) -> Vec<String>;
}
