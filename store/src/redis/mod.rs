//! A store on Redis. What belongs to one run lies in one shard's keys and is written by one script per commit; nothing
//! here decides anything about runs.
//!
//! In reading order: [`keys`] names every key, [`record`] says how things are packed, [`commit`] writes and [`load`]
//! reads a run, [`payloads`] has what is large, [`find`] and [`list`] the indexes, [`remove`] the end of a run,
//! [`catalog`] what belongs to no run, [`timeline`] how a loss is noticed; [`check`] and [`server`] look at the server,
//! [`link`] talks to it.

mod catalog;
mod check;
mod commit;
mod find;
mod keys;
mod link;
mod list;
mod load;
mod payloads;
mod record;
mod remove;
mod server;
mod timeline;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use phasework_workflows::Payload;
use phasework_workflows::id::{EntryNo, JobIndex, Nonce, Revision, RunId, Shard, WorkflowName};
use phasework_workflows::message::notice::DeadLetter;
use phasework_workflows::message::presence::WorkerAnnounced;
use phasework_workflows::run::{FailureRecord, HistoryEvent};
use phasework_workflows::time::Timestamp;

use self::keys::{InputsName, Keys};
use self::link::Link;
pub use self::server::Server;
use crate::turns::Turns;
use crate::{
    Commit, CommitError, ListedRun, OutputsPage, RunCounts, RunFilter, RunVersion, Store, StoreError, StoredRun,
    StoredWorkflow,
};

/// How a store on Redis is reached.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisOptions {
    /// The server: `redis://[user][:password@]host[:port][/database]`, or `rediss://…` for TLS.
    pub url: String,
    /// What every key begins with, so that several installations can share a server.
    pub prefix: String,
    /// After how long a call without an answer fails as unavailable.
    pub timeout: Duration,
    /// After how long an attempt to connect is given up, and another one is made.
    pub connect_timeout: Duration,
    /// How many connections there are at most for calls with long answers.
    pub pool_size: usize,
}

impl RedisOptions {
    /// The server at `url`, with the usual settings.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            prefix: "phasework".to_owned(),
            timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(2),
            pool_size: 8,
        }
    }
}

impl fmt::Debug for RedisOptions {
    /// Without the URL, which may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisOptions").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// A store on Redis. It connects by itself and again after an outage; a call during one waits for its end, and fails with
/// [`StoreError::Unavailable`] when that is not soon.
#[derive(Debug)]
pub struct RedisStore {
    link: Link,
    keys: Keys,
    turns: Turns,
}

impl RedisStore {
    /// A store on the server that `options` name. It does not wait for the server: [`Store::check`] tells whether it is
    /// there. To be called within a Tokio runtime.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] when the options cannot be used.
    pub fn connect(options: &RedisOptions) -> Result<Self, StoreError> {
        if options.prefix.is_empty() || options.prefix.contains(['{', '}']) {
            let text = format!("`{}` cannot be a key prefix: choose one without braces", options.prefix);
            return Err(StoreError::Unusable(text));
        }
        Ok(Self { link: Link::new(options)?, keys: Keys::new(&options.prefix), turns: Turns::default() })
    }

    /// At most `limit` members of a set of these shards, in turn.
    async fn take_turns(&self, shards: &[Shard], limit: usize, set: find::Members) -> Result<Vec<RunId>, StoreError> {
        let mut lists = find::some(&self.link, &self.keys, shards, limit, set).await?;
        // Redis draws members at random, but names those it has drawn in an order that is always the same.
        self.turns.mix(&mut lists);
        Ok(self.turns.take(lists, limit))
    }
}

#[async_trait]
impl Store for RedisStore {
    async fn load(&self, runs: &[RunId]) -> Result<Vec<Option<StoredRun>>, StoreError> {
        load::load(&self.link, &self.keys, runs).await
    }

    async fn commit(&self, commits: Vec<Commit>) -> Vec<Result<(), CommitError>> {
        commit::commit(&self.link, &self.keys, &commits).await
    }

    async fn published(&self, runs: Vec<(RunId, Vec<RunVersion>)>) -> Result<(), StoreError> {
        commit::published(&self.link, &self.keys, &runs).await
    }

    async fn data(&self, run: RunId) -> Result<Option<Payload>, StoreError> {
        payloads::single(&self.link, self.keys.run(run).data()).await
    }

    async fn output(&self, run: RunId) -> Result<Option<Payload>, StoreError> {
        payloads::single(&self.link, self.keys.run(run).output()).await
    }

    async fn put_inputs(
        &self,
        run: RunId,
        entry: EntryNo,
        nonce: Nonce,
        handler: u16,
        pages: Vec<(u64, Vec<Payload>)>,
    ) -> Result<(), StoreError> {
        payloads::put_inputs(&self.link, &self.keys, run, InputsName { entry, nonce, handler }, pages).await
    }

    async fn inputs(
        &self,
        run: RunId,
        entry: EntryNo,
        nonce: Nonce,
        handler: u16,
        page: u64,
    ) -> Result<Option<Vec<Payload>>, StoreError> {
        payloads::inputs(&self.link, &self.keys, run, InputsName { entry, nonce, handler }, page).await
    }

    async fn outputs(
        &self,
        run: RunId,
        entry: EntryNo,
        handler: u16,
        max_bytes: usize,
    ) -> Result<Vec<(JobIndex, Payload)>, StoreError> {
        payloads::outputs(&self.link, self.keys.run(run).outputs(entry, handler), max_bytes).await
    }

    async fn outputs_page(
        &self,
        run: RunId,
        entry: EntryNo,
        handler: u16,
        from: u64,
        bytes: usize,
    ) -> Result<OutputsPage, StoreError> {
        payloads::outputs_page(&self.link, &self.keys, (run, entry, handler), from, bytes).await
    }

    async fn history(&self, run: RunId, after: u64, limit: usize) -> Result<Vec<HistoryEvent>, StoreError> {
        payloads::records(&self.link, "event", self.keys.run(run).history(), after, limit).await
    }

    async fn failures(&self, run: RunId, skip: usize, limit: usize) -> Result<Vec<FailureRecord>, StoreError> {
        payloads::records(&self.link, "failure", self.keys.run(run).failures(), skip as u64, limit).await
    }

    async fn due(&self, shards: &[Shard], now: Timestamp, limit: usize) -> Result<Vec<RunId>, StoreError> {
        find::due(&self.link, &self.keys, shards, now, limit).await
    }

    async fn next_due(&self, shards: &[Shard]) -> Result<Option<Timestamp>, StoreError> {
        find::next_due(&self.link, &self.keys, shards).await
    }

    async fn unpublished(&self, shards: &[Shard], limit: usize) -> Result<Vec<RunId>, StoreError> {
        self.take_turns(shards, limit, keys::ShardKeys::unpublished).await
    }

    async fn awaiting_worker(&self, shards: &[Shard], limit: usize) -> Result<Vec<RunId>, StoreError> {
        self.take_turns(shards, limit, keys::ShardKeys::awaiting).await
    }

    async fn runs(&self, filter: &RunFilter) -> Result<Vec<ListedRun>, StoreError> {
        list::runs(&self.link, &self.keys, filter).await
    }

    async fn run_counts(&self) -> Result<RunCounts, StoreError> {
        find::counts(&self.link, &self.keys).await
    }

    async fn ended_before(&self, shards: &[Shard], time: Timestamp, limit: usize) -> Result<Vec<RunId>, StoreError> {
        find::ended_before(&self.link, &self.keys, shards, time, limit).await
    }

    async fn remove_run(&self, run: RunId, time: Timestamp) -> Result<bool, StoreError> {
        remove::remove(&self.link, &self.keys, run, time).await
    }

    async fn put_workflow(&self, workflow: StoredWorkflow) -> Result<bool, StoreError> {
        catalog::put_workflow(&self.link, &self.keys, workflow, false).await
    }

    async fn keep_workflow(&self, workflow: StoredWorkflow) -> Result<bool, StoreError> {
        catalog::put_workflow(&self.link, &self.keys, workflow, true).await
    }

    async fn workflow(&self, revision: &Revision) -> Result<Option<StoredWorkflow>, StoreError> {
        Ok(catalog::workflows(&self.link, &self.keys, &[revision.to_string()]).await?.pop())
    }

    async fn latest_workflow(&self, name: &WorkflowName) -> Result<Option<StoredWorkflow>, StoreError> {
        match catalog::latest(&self.link, &self.keys, name).await? {
            Some(revision) => Ok(catalog::workflows(&self.link, &self.keys, &[revision]).await?.pop()),
            None => Ok(None),
        }
    }

    async fn workflows(&self) -> Result<Vec<StoredWorkflow>, StoreError> {
        let latest = catalog::all_latest(&self.link, &self.keys).await?;
        catalog::workflows(&self.link, &self.keys, &latest).await
    }

    async fn revisions(&self, name: &WorkflowName) -> Result<Vec<StoredWorkflow>, StoreError> {
        let revisions = catalog::revisions(&self.link, &self.keys, name).await?;
        catalog::workflows(&self.link, &self.keys, &revisions).await
    }

    async fn put_worker(&self, worker: WorkerAnnounced, at: Timestamp) -> Result<(), StoreError> {
        catalog::put_worker(&self.link, &self.keys, &worker, at).await
    }

    async fn workers(&self) -> Result<Vec<(WorkerAnnounced, Timestamp)>, StoreError> {
        catalog::workers(&self.link, &self.keys).await
    }

    async fn remove_workers(&self, workers: &[Arc<str>]) -> Result<(), StoreError> {
        catalog::remove_workers(&self.link, &self.keys, workers).await
    }

    async fn put_dead(&self, letter: DeadLetter) -> Result<(), StoreError> {
        catalog::put_dead(&self.link, &self.keys, &letter).await
    }

    async fn dead(&self, skip: usize, limit: usize) -> Result<Vec<DeadLetter>, StoreError> {
        catalog::dead(&self.link, &self.keys, skip, limit).await
    }

    async fn dead_letter(&self, id: &str) -> Result<Option<DeadLetter>, StoreError> {
        catalog::dead_letter(&self.link, &self.keys, id).await
    }

    async fn remove_dead(&self, id: &str) -> Result<bool, StoreError> {
        catalog::remove_dead(&self.link, &self.keys, id).await
    }

    async fn dead_count(&self) -> Result<u64, StoreError> {
        catalog::dead_count(&self.link, &self.keys).await
    }

    async fn live_runs(
        &self,
        shard: Shard,
        after: Option<(Timestamp, RunId)>,
        limit: usize,
    ) -> Result<Vec<(Timestamp, RunId)>, StoreError> {
        timeline::live_runs(&self.link, &self.keys, shard, after, limit).await
    }

    async fn lineage(&self) -> Result<Arc<str>, StoreError> {
        timeline::lineage(&self.link).await
    }

    async fn marker(&self) -> Result<Option<Arc<str>>, StoreError> {
        timeline::marker(&self.link, &self.keys).await
    }

    async fn replace_marker(&self, expect: Option<&str>, marker: &str) -> Result<bool, StoreError> {
        timeline::replace_marker(&self.link, &self.keys, expect, marker).await
    }

    async fn epochs(&self, shards: &[Shard]) -> Result<Vec<Option<Arc<str>>>, StoreError> {
        timeline::epochs(&self.link, &self.keys, shards).await
    }

    async fn put_epoch(&self, shards: &[Shard], epoch: &str) -> Result<(), StoreError> {
        timeline::put_epoch(&self.link, &self.keys, shards, epoch).await
    }

    async fn raise_queues(&self, queues: u16) -> Result<u16, StoreError> {
        timeline::raise_queues(&self.link, &self.keys, queues).await
    }

    async fn check(&self) -> Result<Vec<String>, StoreError> {
        check::check(&self.link, &self.keys).await
    }
}
