//! Crashes at a chosen point: just before, or just after, the n-th time that something is done to the store or the
//! broker. The engine that reaches the point never gets any further; the test then drops it, as `kill -9` would.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use async_trait::async_trait;
use phasework_broker::{
    Address, BrokerError, Consumer, Delivery, DeliveryTag, Message, PublishError, SharedBroker, Subscription,
};
use phasework_store::{
    Commit, CommitError, ListedRun, RunCounts, RunFilter, RunVersion, SharedStore, Store, StoreError, StoredRun,
    StoredWorkflow,
};
use phasework_workflows::Payload;
use phasework_workflows::id::{EntryNo, JobIndex, Nonce, Revision, RunId, Shard, WorkflowName};
use phasework_workflows::message::notice::DeadLetter;
use phasework_workflows::message::presence::WorkerAnnounced;
use phasework_workflows::run::{FailureRecord, HistoryEvent};
use phasework_workflows::time::Timestamp;
use tokio::sync::Notify;

use crate::around::broker_around;

/// What an engine does that others can see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// It commits runs.
    Commit,
    /// It publishes effects of runs (ticks, presence and answers do not count).
    Publish,
    /// It acknowledges what its coordinator queue delivered.
    Acknowledge,
}

/// When to crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// At what.
    pub deed: Deed,
    /// Once it is done, or before.
    pub after: bool,
    /// At which time, counted from 1.
    pub nth: u64,
}

/// A crash that is to happen. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Crash(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    point: Point,
    done: AtomicU64,
    happened: Notify,
}

impl Crash {
    /// A crash at `point`.
    pub fn at(point: Point) -> Self {
        Self(Arc::new(Inner { point, done: AtomicU64::new(0), happened: Notify::new() }))
    }

    /// Returns when it has happened.
    pub async fn happened(&self) {
        self.0.happened.notified().await;
    }

    /// Does a deed, and crashes if this is the point.
    async fn doing<T>(&self, deed: Deed, counts: bool, doing: impl Future<Output = T>) -> T {
        let Point { deed: at, after, nth } = self.0.point;
        let is_it = counts && deed == at && self.0.done.fetch_add(1, Ordering::SeqCst) + 1 == nth;
        if is_it && !after {
            self.die().await;
        }
        let done = doing.await;
        if is_it {
            self.die().await;
        }
        done
    }

    async fn die(&self) {
        self.0.happened.notify_one();
        std::future::pending::<()>().await;
    }
}

/// A broker in whose use a crash is to happen.
#[derive(Debug)]
pub struct CrashingBroker(pub SharedBroker, pub Crash);

/// Whether a message comes from a run's outbox.
fn is_effect(message: &Message) -> bool {
    matches!(message.to, Address::Jobs(_)) || &*message.kind == "PhaseFinished"
}

broker_around!(CrashingBroker {
    async fn publish(&self, messages: Vec<Message>) -> Vec<Result<(), PublishError>> {
        let counts = messages.iter().any(is_effect);
        self.1.doing(Deed::Publish, counts, self.0.publish(messages)).await
    }

    async fn subscribe(&self, subscription: Subscription) -> Result<Box<dyn Consumer>, BrokerError> {
        let is_queue = matches!(subscription.from, Address::Coordinator(_));
        let consumer = self.0.subscribe(subscription).await?;
        let crash = self.1.clone();
        Ok(if is_queue { Box::new(CrashingConsumer { consumer, crash, ticks: Vec::new() }) } else { consumer })
    }
});

struct CrashingConsumer {
    consumer: Box<dyn Consumer>,
    crash: Crash,
    ticks: Vec<DeliveryTag>,
}

#[async_trait]
impl Consumer for CrashingConsumer {
    async fn next(&mut self, max: usize) -> Result<Vec<Delivery>, BrokerError> {
        let deliveries = self.consumer.next(max).await?;
        let ticks = deliveries.iter().filter(|delivery| &*delivery.kind == "Tick");
        self.ticks = ticks.map(|delivery| delivery.tag).collect();
        Ok(deliveries)
    }

    async fn ack(&self, tags: &[DeliveryTag]) -> Result<(), BrokerError> {
        let counts = tags.iter().any(|tag| !self.ticks.contains(tag));
        self.crash.doing(Deed::Acknowledge, counts, self.consumer.ack(tags)).await
    }

    async fn release(&self, tags: &[DeliveryTag]) -> Result<(), BrokerError> {
        self.consumer.release(tags).await
    }

    async fn stop(&mut self) -> Result<(), BrokerError> {
        self.consumer.stop().await
    }
}

/// A store in whose use a crash is to happen.
#[derive(Debug)]
pub struct CrashingStore(pub SharedStore, pub Crash);

impl CrashingStore {
    async fn commit_all(&self, commits: Vec<Commit>) -> Vec<Result<(), CommitError>> {
        self.1.doing(Deed::Commit, true, self.0.commit(commits)).await
    }

    async fn live_runs_of(
        &self,
        shard: Shard,
        after: Option<(Timestamp, RunId)>,
        limit: usize,
    ) -> Result<Vec<(Timestamp, RunId)>, StoreError> {
        self.0.live_runs(shard, after, limit).await
    }
}

/// Shards whose live runs cannot be told.
#[derive(Clone, Debug)]
pub struct Damage {
    shards: Vec<Shard>,
    /// Whether the first page of each can.
    is_behind: bool,
    refused: Arc<AtomicU32>,
}

impl Damage {
    /// None of the live runs of these can be told.
    pub fn of(shards: Vec<Shard>) -> Self {
        Self { shards, is_behind: false, refused: Arc::default() }
    }

    /// Those behind the first page cannot be told.
    pub fn behind_the_first_page(shards: Vec<Shard>) -> Self {
        Self { is_behind: true, ..Self::of(shards) }
    }

    /// How often it was met.
    pub fn met(&self) -> u32 {
        self.refused.load(Ordering::Relaxed)
    }
}

/// A store with damaged shards.
#[derive(Debug)]
pub struct DamagedStore(pub SharedStore, pub Damage);

impl DamagedStore {
    async fn commit_all(&self, commits: Vec<Commit>) -> Vec<Result<(), CommitError>> {
        self.0.commit(commits).await
    }

    async fn live_runs_of(
        &self,
        shard: Shard,
        after: Option<(Timestamp, RunId)>,
        limit: usize,
    ) -> Result<Vec<(Timestamp, RunId)>, StoreError> {
        let Damage { shards, is_behind, refused } = &self.1;
        if shards.contains(&shard) && (after.is_some() || !is_behind) {
            refused.fetch_add(1, Ordering::Relaxed);
            return Err(StoreError::Corrupt("so the test has it".into()));
        }
        self.0.live_runs(shard, after, limit).await
    }
}

/// Hands other calls through to the store within.
macro_rules! hand_through {
    ($(fn $name:ident($($arg:ident: $kind:ty),*) -> $result:ty;)*) => {
        hand_through!(in CrashingStore: $(fn $name($($arg: $kind),*) -> $result;)*);
        hand_through!(in DamagedStore: $(fn $name($($arg: $kind),*) -> $result;)*);
    };
    (in $store:ident: $(fn $name:ident($($arg:ident: $kind:ty),*) -> $result:ty;)*) => {
        #[async_trait]
        impl Store for $store {
            async fn commit(&self, commits: Vec<Commit>) -> Vec<Result<(), CommitError>> {
                self.commit_all(commits).await
            }

            async fn live_runs(
                &self,
                shard: Shard,
                after: Option<(Timestamp, RunId)>,
                limit: usize,
            ) -> Result<Vec<(Timestamp, RunId)>, StoreError> {
                self.live_runs_of(shard, after, limit).await
            }

            $(async fn $name(&self, $($arg: $kind),*) -> $result {
                self.0.$name($($arg),*).await
            })*
        }
    };
}

hand_through! {
    fn load(runs: &[RunId]) -> Result<Vec<Option<StoredRun>>, StoreError>;
    fn published(runs: Vec<(RunId, Vec<RunVersion>)>) -> Result<(), StoreError>;
    fn data(run: RunId) -> Result<Option<Payload>, StoreError>;
    fn output(run: RunId) -> Result<Option<Payload>, StoreError>;
    fn put_inputs(run: RunId, entry: EntryNo, nonce: Nonce, handler: u16, pages: Vec<(u64, Vec<Payload>)>)
        -> Result<(), StoreError>;
    fn inputs(run: RunId, entry: EntryNo, nonce: Nonce, handler: u16, page: u64)
        -> Result<Option<Vec<Payload>>, StoreError>;
    fn outputs(run: RunId, entry: EntryNo, handler: u16, max_bytes: usize)
        -> Result<Vec<(JobIndex, Payload)>, StoreError>;
    fn history(run: RunId, after: u64, limit: usize) -> Result<Vec<HistoryEvent>, StoreError>;
    fn failures(run: RunId, skip: usize, limit: usize) -> Result<Vec<FailureRecord>, StoreError>;
    fn due(shards: &[Shard], now: Timestamp, limit: usize) -> Result<Vec<RunId>, StoreError>;
    fn next_due(shards: &[Shard]) -> Result<Option<Timestamp>, StoreError>;
    fn unpublished(shards: &[Shard], limit: usize) -> Result<Vec<RunId>, StoreError>;
    fn awaiting_worker(shards: &[Shard], limit: usize) -> Result<Vec<RunId>, StoreError>;
    fn runs(filter: &RunFilter) -> Result<Vec<ListedRun>, StoreError>;
    fn run_counts() -> Result<RunCounts, StoreError>;
    fn ended_before(shards: &[Shard], time: Timestamp, limit: usize) -> Result<Vec<RunId>, StoreError>;
    fn remove_run(run: RunId, time: Timestamp) -> Result<bool, StoreError>;
    fn put_workflow(workflow: StoredWorkflow) -> Result<bool, StoreError>;
    fn keep_workflow(workflow: StoredWorkflow) -> Result<bool, StoreError>;
    fn workflow(revision: &Revision) -> Result<Option<StoredWorkflow>, StoreError>;
    fn latest_workflow(name: &WorkflowName) -> Result<Option<StoredWorkflow>, StoreError>;
    fn workflows() -> Result<Vec<StoredWorkflow>, StoreError>;
    fn revisions(name: &WorkflowName) -> Result<Vec<StoredWorkflow>, StoreError>;
    fn put_worker(worker: WorkerAnnounced, at: Timestamp) -> Result<(), StoreError>;
    fn workers() -> Result<Vec<(WorkerAnnounced, Timestamp)>, StoreError>;
    fn remove_workers(workers: &[Arc<str>]) -> Result<(), StoreError>;
    fn put_dead(letter: DeadLetter) -> Result<(), StoreError>;
    fn dead(skip: usize, limit: usize) -> Result<Vec<DeadLetter>, StoreError>;
    fn dead_letter(id: &str) -> Result<Option<DeadLetter>, StoreError>;
    fn remove_dead(id: &str) -> Result<bool, StoreError>;
    fn dead_count() -> Result<u64, StoreError>;
    fn lineage() -> Result<Arc<str>, StoreError>;
    fn marker() -> Result<Option<Arc<str>>, StoreError>;
    fn replace_marker(expect: Option<&str>, marker: &str) -> Result<bool, StoreError>;
    fn epochs(shards: &[Shard]) -> Result<Vec<Option<Arc<str>>>, StoreError>;
    fn put_epoch(shards: &[Shard], epoch: &str) -> Result<(), StoreError>;
    fn raise_queues(queues: u16) -> Result<u16, StoreError>;
    fn check() -> Result<Vec<String>, StoreError>;
}
