//! A store in memory: for the demo, for tests, for finding out what everything else costs. It keeps every promise of
//! [`Store`] but one: what it holds goes with the process.

mod shard;

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use phasework_workflows::Payload;
use phasework_workflows::id::{EntryNo, JobIndex, Nonce, Revision, RunId, SHARDS, Shard, WorkflowName};
use phasework_workflows::message::notice::DeadLetter;
use phasework_workflows::message::presence::WorkerAnnounced;
use phasework_workflows::run::{FailureRecord, HistoryEvent};
use phasework_workflows::time::Timestamp;

use self::shard::{ByTime, Kept, Rotation, ShardState};
use crate::turns::Turns;
use crate::{
    Commit, CommitError, ListedRun, RunCounts, RunFilter, RunVersion, Store, StoreError, StoredRun, StoredWorkflow,
};

/// A store in memory. A lock per shard, held for no longer than one change takes.
#[derive(Debug)]
pub struct MemoryStore {
    shards: Vec<Mutex<ShardState>>,
    catalog: Mutex<Catalog>,
    turns: Turns,
}

/// What belongs to no shard.
#[derive(Clone, Debug, Default)]
struct Catalog {
    definitions: HashMap<Revision, StoredWorkflow>,
    /// The revisions of each name, the latest last.
    revisions: BTreeMap<WorkflowName, Vec<Revision>>,
    workers: BTreeMap<Arc<str>, (WorkerAnnounced, Timestamp)>,
    dead: BTreeMap<(Timestamp, Arc<str>), DeadLetter>,
    /// When each dead letter was set aside.
    dead_at: HashMap<Arc<str>, Timestamp>,
    marker: Option<Arc<str>>,
    /// The highest number of coordinator queues there ever were.
    queues: u16,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            catalog: Mutex::default(),
            turns: Turns::default(),
        }
    }

    /// A store that holds what this one holds now, as a backup does. What either is given later, the other does not see.
    #[must_use]
    pub fn copy(&self) -> Self {
        Self {
            shards: Shard::all().map(|shard| Mutex::new(self.shard(shard).clone())).collect(),
            catalog: Mutex::new(self.catalog().clone()),
            turns: Turns::default(),
        }
    }

    fn shard(&self, shard: Shard) -> MutexGuard<'_, ShardState> {
        // Nothing that can panic runs between two writes under this lock.
        self.shards[usize::from(shard.0)].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn catalog(&self) -> MutexGuard<'_, Catalog> {
        self.catalog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of_run<T>(&self, run: RunId, read: impl FnOnce(&Kept) -> T) -> Option<T> {
        self.shard(run.shard()).run(run).map(read)
    }

    /// At most `limit` runs of one index of these shards, in turn.
    fn take_turns(
        &self,
        shards: &[Shard],
        limit: usize,
        index: impl Fn(&mut ShardState) -> &mut Rotation,
    ) -> Vec<RunId> {
        let lists = shards.iter().map(|&shard| index(&mut self.shard(shard)).next(limit)).collect();
        let taken = self.turns.take(lists, limit);
        for &run in &taken {
            index(&mut self.shard(run.shard())).taken(run);
        }
        taken
    }

    /// At most `limit` runs of an order, the newest first, and before `before`.
    fn page(index: &ByTime, before: Option<(Timestamp, RunId)>, limit: usize) -> Vec<(Timestamp, RunId)> {
        match before {
            Some(before) => index.range(..before).rev().take(limit).copied().collect(),
            None => index.iter().rev().take(limit).copied().collect(),
        }
    }

    /// How many things the store keeps of runs.
    #[cfg(test)]
    pub(crate) fn traces(&self) -> usize {
        Shard::all().map(|shard| self.shard(shard).traces()).sum()
    }
}

fn earliest(mut runs: Vec<(Timestamp, RunId)>, limit: usize) -> Vec<RunId> {
    runs.sort_unstable();
    runs.into_iter().take(limit).map(|(_, run)| run).collect()
}

#[async_trait]
impl Store for MemoryStore {
    async fn load(&self, runs: &[RunId]) -> Result<Vec<Option<StoredRun>>, StoreError> {
        Ok(runs.iter().map(|&run| self.shard(run.shard()).load(run)).collect())
    }

    async fn commit(&self, commits: Vec<Commit>) -> Vec<Result<(), CommitError>> {
        commits.into_iter().map(|commit| self.shard(commit.run.shard()).commit(commit)).collect()
    }

    async fn published(&self, runs: Vec<(RunId, Vec<RunVersion>)>) -> Result<(), StoreError> {
        for (run, versions) in runs {
            self.shard(run.shard()).published(run, &versions);
        }
        Ok(())
    }

    async fn data(&self, run: RunId) -> Result<Option<Payload>, StoreError> {
        Ok(self.of_run(run, |kept| kept.data.clone()).flatten())
    }

    async fn output(&self, run: RunId) -> Result<Option<Payload>, StoreError> {
        Ok(self.of_run(run, |kept| kept.output.clone()).flatten())
    }

    async fn put_inputs(
        &self,
        run: RunId,
        entry: EntryNo,
        nonce: Nonce,
        handler: u16,
        pages: Vec<(u64, Vec<Payload>)>,
    ) -> Result<(), StoreError> {
        self.shard(run.shard()).put_inputs(run, (entry, nonce, handler), pages);
        Ok(())
    }

    async fn inputs(
        &self,
        run: RunId,
        entry: EntryNo,
        nonce: Nonce,
        handler: u16,
        page: u64,
    ) -> Result<Option<Vec<Payload>>, StoreError> {
        Ok(self.shard(run.shard()).inputs(run, (entry, nonce, handler), page))
    }

    async fn outputs(
        &self,
        run: RunId,
        entry: EntryNo,
        handler: u16,
        max_bytes: usize,
    ) -> Result<Vec<(JobIndex, Payload)>, StoreError> {
        let stored = self.of_run(run, |kept| kept.outputs.get(&(entry, handler)).cloned());
        let mut outputs = stored.flatten().unwrap_or_default();
        let size = outputs.iter().map(|(_, output)| output.len()).sum();
        if size > max_bytes {
            return Err(StoreError::TooLarge { what: "outputs", size, limit: max_bytes });
        }
        outputs.sort_by_key(|(index, _)| *index);
        Ok(outputs)
    }

    async fn history(&self, run: RunId, after: u64, limit: usize) -> Result<Vec<HistoryEvent>, StoreError> {
        let skip = usize::try_from(after).unwrap_or(usize::MAX);
        let page = self.of_run(run, |kept| kept.history.iter().skip(skip).take(limit).cloned().collect());
        Ok(page.unwrap_or_default())
    }

    async fn failures(&self, run: RunId, skip: usize, limit: usize) -> Result<Vec<FailureRecord>, StoreError> {
        let page = self.of_run(run, |kept| kept.failures.iter().skip(skip).take(limit).cloned().collect());
        Ok(page.unwrap_or_default())
    }

    async fn due(&self, shards: &[Shard], now: Timestamp, limit: usize) -> Result<Vec<RunId>, StoreError> {
        let mut due = Vec::new();
        for &shard in shards {
            due.extend(self.shard(shard).timers.iter().take_while(|(at, _)| *at <= now).take(limit));
        }
        Ok(earliest(due, limit))
    }

    async fn next_due(&self, shards: &[Shard]) -> Result<Option<Timestamp>, StoreError> {
        Ok(shards.iter().filter_map(|&shard| self.shard(shard).timers.first().map(|(at, _)| *at)).min())
    }

    async fn unpublished(&self, shards: &[Shard], limit: usize) -> Result<Vec<RunId>, StoreError> {
        Ok(self.take_turns(shards, limit, |shard| &mut shard.unpublished))
    }

    async fn awaiting_worker(&self, shards: &[Shard], limit: usize) -> Result<Vec<RunId>, StoreError> {
        Ok(self.take_turns(shards, limit, |shard| &mut shard.awaiting))
    }

    async fn runs(&self, filter: &RunFilter) -> Result<Vec<ListedRun>, StoreError> {
        let mut newest = Vec::new();
        for id in Shard::all() {
            let shard = self.shard(id);
            if filter.ended != Some(true) {
                newest.extend(Self::page(&shard.live, filter.before, filter.limit));
            }
            if filter.ended != Some(false) {
                newest.extend(Self::page(&shard.ended, filter.before, filter.limit));
            }
        }
        newest.sort_unstable_by(|a, b| b.cmp(a));
        let with_head =
            |(created_at, run)| self.of_run(run, |kept| ListedRun { run, created_at, head: kept.head.clone() });
        Ok(newest.into_iter().filter_map(with_head).take(filter.limit).collect())
    }

    async fn run_counts(&self) -> Result<RunCounts, StoreError> {
        let mut counts = RunCounts::default();
        for id in Shard::all() {
            let shard = self.shard(id);
            counts.live += shard.live.len() as u64;
            counts.ended += shard.ended.len() as u64;
        }
        Ok(counts)
    }

    async fn ended_before(&self, shards: &[Shard], time: Timestamp, limit: usize) -> Result<Vec<RunId>, StoreError> {
        let mut ended = Vec::new();
        for &shard in shards {
            ended.extend(self.shard(shard).ended_before(time).take(limit));
        }
        Ok(earliest(ended, limit))
    }

    async fn remove_run(&self, run: RunId, time: Timestamp) -> Result<bool, StoreError> {
        Ok(self.shard(run.shard()).remove(run, time))
    }

    async fn put_workflow(&self, workflow: StoredWorkflow) -> Result<bool, StoreError> {
        let mut catalog = self.catalog();
        let (name, revision) = (workflow.name.clone(), workflow.revision.clone());
        let is_new = !catalog.definitions.contains_key(&revision);
        if is_new {
            catalog.definitions.insert(revision.clone(), workflow);
        }
        let revisions = catalog.revisions.entry(name).or_default();
        revisions.retain(|known| *known != revision);
        revisions.push(revision);
        Ok(is_new)
    }

    async fn keep_workflow(&self, workflow: StoredWorkflow) -> Result<bool, StoreError> {
        let mut catalog = self.catalog();
        if catalog.definitions.contains_key(&workflow.revision) {
            return Ok(false);
        }
        catalog.revisions.entry(workflow.name.clone()).or_default().insert(0, workflow.revision.clone());
        catalog.definitions.insert(workflow.revision.clone(), workflow);
        Ok(true)
    }

    async fn workflow(&self, revision: &Revision) -> Result<Option<StoredWorkflow>, StoreError> {
        Ok(self.catalog().definitions.get(revision).cloned())
    }

    async fn latest_workflow(&self, name: &WorkflowName) -> Result<Option<StoredWorkflow>, StoreError> {
        let catalog = self.catalog();
        let latest = catalog.revisions.get(name).and_then(|revisions| revisions.last());
        Ok(latest.and_then(|revision| catalog.definitions.get(revision)).cloned())
    }

    async fn workflows(&self) -> Result<Vec<StoredWorkflow>, StoreError> {
        let catalog = self.catalog();
        let latest = catalog.revisions.values().filter_map(|revisions| revisions.last());
        Ok(latest.filter_map(|revision| catalog.definitions.get(revision)).cloned().collect())
    }

    async fn revisions(&self, name: &WorkflowName) -> Result<Vec<StoredWorkflow>, StoreError> {
        let catalog = self.catalog();
        let revisions = catalog.revisions.get(name).into_iter().flatten().rev();
        Ok(revisions.filter_map(|revision| catalog.definitions.get(revision)).cloned().collect())
    }

    async fn put_worker(&self, worker: WorkerAnnounced, at: Timestamp) -> Result<(), StoreError> {
        self.catalog().workers.insert(worker.worker.clone(), (worker, at));
        Ok(())
    }

    async fn workers(&self) -> Result<Vec<(WorkerAnnounced, Timestamp)>, StoreError> {
        Ok(self.catalog().workers.values().cloned().collect())
    }

    async fn remove_workers(&self, workers: &[Arc<str>]) -> Result<(), StoreError> {
        self.catalog().workers.retain(|id, _| !workers.contains(id));
        Ok(())
    }

    async fn put_dead(&self, letter: DeadLetter) -> Result<(), StoreError> {
        let mut catalog = self.catalog();
        if !catalog.dead_at.contains_key(&letter.id) {
            catalog.dead_at.insert(letter.id.clone(), letter.at);
            catalog.dead.insert((letter.at, letter.id.clone()), letter);
        }
        Ok(())
    }

    async fn dead(&self, skip: usize, limit: usize) -> Result<Vec<DeadLetter>, StoreError> {
        Ok(self.catalog().dead.values().rev().skip(skip).take(limit).cloned().collect())
    }

    async fn dead_letter(&self, id: &str) -> Result<Option<DeadLetter>, StoreError> {
        let catalog = self.catalog();
        let place = catalog.dead_at.get_key_value(id).map(|(id, &at)| (at, id.clone()));
        Ok(place.and_then(|place| catalog.dead.get(&place)).cloned())
    }

    async fn remove_dead(&self, id: &str) -> Result<bool, StoreError> {
        let mut catalog = self.catalog();
        let removed = catalog.dead_at.remove_entry(id);
        Ok(removed.and_then(|(id, at)| catalog.dead.remove(&(at, id))).is_some())
    }

    async fn dead_count(&self) -> Result<u64, StoreError> {
        Ok(self.catalog().dead.len() as u64)
    }

    async fn live_runs(
        &self,
        shard: Shard,
        after: Option<(Timestamp, RunId)>,
        limit: usize,
    ) -> Result<Vec<(Timestamp, RunId)>, StoreError> {
        let after = after.map_or(Bound::Unbounded, Bound::Excluded);
        Ok(self.shard(shard).live.range((after, Bound::Unbounded)).take(limit).copied().collect())
    }

    async fn lineage(&self) -> Result<Arc<str>, StoreError> {
        Ok("memory".into()) // what is lost here is lost with all the rest
    }

    async fn marker(&self) -> Result<Option<Arc<str>>, StoreError> {
        Ok(self.catalog().marker.clone())
    }

    async fn replace_marker(&self, expect: Option<&str>, marker: &str) -> Result<bool, StoreError> {
        let mut catalog = self.catalog();
        let is_expected = catalog.marker.as_deref() == expect;
        if is_expected {
            catalog.marker = Some(marker.into());
        }
        Ok(is_expected)
    }

    async fn epochs(&self, shards: &[Shard]) -> Result<Vec<Option<Arc<str>>>, StoreError> {
        Ok(shards.iter().map(|&shard| self.shard(shard).epoch.clone()).collect())
    }

    async fn put_epoch(&self, shards: &[Shard], epoch: &str) -> Result<(), StoreError> {
        let epoch: Arc<str> = epoch.into();
        shards.iter().for_each(|&shard| self.shard(shard).epoch = Some(Arc::clone(&epoch)));
        Ok(())
    }

    async fn raise_queues(&self, queues: u16) -> Result<u16, StoreError> {
        let mut catalog = self.catalog();
        catalog.queues = catalog.queues.max(queues);
        Ok(catalog.queues)
    }

    async fn check(&self) -> Result<Vec<String>, StoreError> {
        Ok(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SharedStore;
    use crate::conformance::{SharedSubject, Subject, examine};

    struct Examined(Arc<MemoryStore>);

    #[async_trait]
    impl Subject for Examined {
        fn store(&self) -> SharedStore {
            self.0.clone()
        }

        fn twin(&self) -> SharedStore {
            self.0.clone()
        }

        async fn traces(&self) -> usize {
            self.0.traces()
        }
    }

    #[tokio::test]
    async fn a_copy_goes_its_own_way() {
        let store = MemoryStore::new();
        store.replace_marker(None, "a").await.unwrap();
        store.put_epoch(&[Shard(7)], "a/1").await.unwrap();
        let copy = store.copy();
        store.replace_marker(Some("a"), "b").await.unwrap();
        copy.put_epoch(&[Shard(7)], "a/2").await.unwrap();
        assert_eq!(
            (copy.marker().await.unwrap().as_deref(), store.marker().await.unwrap().as_deref()),
            (Some("a"), Some("b"))
        );
        let epoch = async |store: &MemoryStore| store.epochs(&[Shard(7)]).await.unwrap()[0].clone();
        assert_eq!((epoch(&store).await.as_deref(), epoch(&copy).await.as_deref()), (Some("a/1"), Some("a/2")));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn it_keeps_the_promises() {
        examine(|| async { Arc::new(Examined(Arc::default())) as SharedSubject }).await;
    }
}
