//! What phasework remembers: the [`Store`] port and its adapters, in memory ([`memory`]), on SQLite ([`sqlite`]) and on
//! Redis ([`redis`]). It writes what it is given, all of a commit or nothing, and decides nothing about runs.
//!
//! In reading order: the port below, with a promise at each method; [`conformance`], the same promises as tests, which
//! every adapter runs; the adapters.

pub mod conformance;
mod fit;
mod json;
pub mod memory;
pub mod redis;
pub mod sqlite;
mod turns;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use phasework_workflows::Payload;
use phasework_workflows::id::{EntryNo, JobIndex, Nonce, Revision, RunId, Shard, WorkflowName};
use phasework_workflows::message::notice::DeadLetter;
use phasework_workflows::message::presence::WorkerAnnounced;
use phasework_workflows::run::{Delta, Exception, FailureRecord, HistoryEvent, RunState};
use phasework_workflows::time::Timestamp;

/// How many job inputs make a page, where the whole list is known before it is written.
pub const PAGE_JOBS: u64 = 1000;

/// The version of a run: how many commits it has had. 0 is that of a run that does not exist.
pub type RunVersion = u64;

/// Why a store call failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The store cannot be reached, or did not answer: what was asked for may or may not have been done. Try again.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// The store is full or refuses writes. Nothing was written. Trying again later may help.
    #[error("the store refuses writes: {0}")]
    Full(String),
    /// What is stored cannot be read. Trying again does not help.
    #[error("stored data is damaged: {0}")]
    Corrupt(String),
    /// What was asked for is larger than the caller wants to hold.
    #[error("{what} of {size} bytes; at most {limit} are read")]
    TooLarge {
        /// What it is.
        what: &'static str,
        /// Its size in bytes, or more than this.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The store cannot be used as it is set up (it evicts keys, is of another format…). The text says what to do.
    #[error("{0}")]
    Unusable(String),
}

/// What became of a commit.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CommitError {
    /// The run is not at the version it was loaded at; nothing was written. Load it and apply again.
    #[error("the run has changed in between")]
    Conflict,
    /// As [`StoreError`] says. After [`StoreError::Unavailable`] the commit may have been done: load the run and apply
    /// again, which then changes nothing.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A run as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredRun {
    /// Its version.
    pub version: RunVersion,
    /// Its head, as it was committed.
    pub head: Vec<u8>,
    /// For each handler of the current entry, the bitmap of terminal jobs (empty when none was written).
    pub bits: Vec<Vec<u8>>,
    /// The exceptions of each handler of the current entry, in the order of their indexes.
    pub exceptions: Vec<Vec<(JobIndex, Exception)>>,
    /// What is committed and not known to be published: the version and the effects of each such commit, oldest first.
    pub outbox: Vec<(RunVersion, Vec<u8>)>,
}

/// A change of one run, written whole or not at all.
///
/// Bitmap bytes and exceptions are kept for the entry that the run is in: those that [`delta`](Self::delta) holds for
/// another one are passed over, and those stored go when [`entry`](Self::entry) changes. What is forgotten goes last, so
/// it also takes what the same delta adds.
///
/// A commit that does not fit together (a handler that the entry does not have, history that does not go on where it
/// stopped) is refused with [`StoreError::Corrupt`].
#[derive(Clone, Debug)]
pub struct Commit {
    /// The run.
    pub run: RunId,
    /// The version it was loaded at; 0 when it is to be made. It has the next one afterwards.
    pub expect: RunVersion,
    /// Its head.
    pub head: Vec<u8>,
    /// The entry it is in now: what [`Store::load`] gives bitmaps and exceptions of.
    pub entry: EntryNo,
    /// How many handlers that entry has.
    pub handlers: u16,
    /// What else has changed.
    pub delta: Delta,
    /// Its data, when it is made; none leaves what is stored.
    pub data: Option<Payload>,
    /// Effects to be kept in the outbox under the new version; empty when there are none.
    pub effects: Vec<u8>,
    /// Versions whose effects are published: they leave the outbox.
    pub published: Vec<RunVersion>,
    /// Where it is to be found.
    pub index: RunIndex,
}

/// Where a run is to be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunIndex {
    /// Its state: live runs and ended runs are listed apart.
    pub state: RunState,
    /// When it was made; the same in every commit of a run.
    pub created_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// When [`Store::due`] is to give it.
    pub wake_at: Option<Timestamp>,
    /// Whether [`Store::awaiting_worker`] is to give it.
    pub awaits_worker: bool,
}

/// A stored definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredWorkflow {
    /// Its name.
    pub name: WorkflowName,
    /// Its revision.
    pub revision: Revision,
    /// Its canonical form.
    pub definition: String,
    /// When it was stored.
    pub stored_at: Timestamp,
}

/// Which runs to list.
#[derive(Clone, Debug, Default)]
pub struct RunFilter {
    /// Ended runs only, live ones only, or both.
    pub ended: Option<bool>,
    /// Only runs older than this one: the last of the page before.
    pub before: Option<(Timestamp, RunId)>,
    /// At most this many.
    pub limit: usize,
}

/// A run in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedRun {
    /// Which.
    pub run: RunId,
    /// When it was made, as its [index](RunIndex) says: with the run, its place in the list.
    pub created_at: Timestamp,
    /// Its head, as it was committed; empty when that cannot be read.
    pub head: Vec<u8>,
}

/// How many runs there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct RunCounts {
    /// Not ended.
    pub live: u64,
    /// Ended and not yet removed.
    pub ended: u64,
}

/// Some of the outputs of a handler's jobs, in an order that stays the same.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OutputsPage {
    /// Some of them.
    pub outputs: Vec<(JobIndex, Payload)>,
    /// The place that the next page begins at; nothing at the end.
    pub next: Option<u64>,
}

/// Remembers. Shared by the whole program; every method may be called from many tasks at once. Unless it says
/// otherwise, what a method wrote is durable as the store's own policy says when it returns, and a process that dies
/// during the call leaves it done or not done, never half done.
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// The runs, in the order asked for; `None` for one that does not exist.
    async fn load(&self, runs: &[RunId]) -> Result<Vec<Option<StoredRun>>, StoreError>;

    /// Makes the changes, each on condition that its run is at the version it says. Runs do not affect each other.
    /// One result per commit, in order. No two commits of one call are of the same run.
    async fn commit(&self, commits: Vec<Commit>) -> Vec<Result<(), CommitError>>;

    /// Removes effects that are published, by their versions. Lazy: nothing is lost when it never happens.
    async fn published(&self, runs: Vec<(RunId, Vec<RunVersion>)>) -> Result<(), StoreError>;

    /// The run's data; `None` when it was given none, or does not exist.
    async fn data(&self, run: RunId) -> Result<Option<Payload>, StoreError>;

    /// The run's result.
    async fn output(&self, run: RunId) -> Result<Option<Payload>, StoreError>;

    /// Writes pages of job inputs of a handler of an entry, under whatever numbers. They become visible by the commit that
    /// seals the list, and go when it is forgotten; at the latest with their entry, whether they became visible or not.
    /// Writing a page again replaces it.
    async fn put_inputs(
        &self,
        run: RunId,
        entry: EntryNo,
        nonce: Nonce,
        handler: u16,
        pages: Vec<(u64, Vec<Payload>)>,
    ) -> Result<(), StoreError>;

    /// A page of job inputs; `None` when it is not there, whatever number is asked for.
    async fn inputs(
        &self,
        run: RunId,
        entry: EntryNo,
        nonce: Nonce,
        handler: u16,
        page: u64,
    ) -> Result<Option<Vec<Payload>>, StoreError>;

    /// All stored outputs of a handler of an entry, in the order of their jobs.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] when they are more than `max_bytes` together.
    async fn outputs(
        &self,
        run: RunId,
        entry: EntryNo,
        handler: u16,
        max_bytes: usize,
    ) -> Result<Vec<(JobIndex, Payload)>, StoreError>;

    /// Stored outputs of a handler of an entry, from a place on: 0, or where the page before says. About `bytes` of them;
    /// the last may go beyond. Each output that was there at first is on one page; of what is committed meanwhile some may
    /// be missing.
    ///
    /// An adapter that can read them in parts does; without that all are read for every page.
    async fn outputs_page(
        &self,
        run: RunId,
        entry: EntryNo,
        handler: u16,
        from: u64,
        bytes: usize,
    ) -> Result<OutputsPage, StoreError> {
        /// More than any store holds of one handler, and a number that every store can compare with.
        const ALL: usize = i64::MAX as usize;
        let all = self.outputs(run, entry, handler, ALL).await?;
        let (mut outputs, mut size, mut next) = (Vec::new(), 0, None);
        // The place is an index: what is committed meanwhile may stand before it, and is then passed over.
        for (index, output) in all.into_iter().filter(|(index, _)| *index >= from) {
            if size >= bytes && !outputs.is_empty() {
                next = Some(index);
                break;
            }
            size += output.len();
            outputs.push((index, output));
        }
        Ok(OutputsPage { outputs, next })
    }

    /// The history of a run after event number `after`, at most `limit` events.
    async fn history(&self, run: RunId, after: u64, limit: usize) -> Result<Vec<HistoryEvent>, StoreError>;

    /// The jobs of a run that failed for good, oldest first, at most `limit` after the first `skip`.
    async fn failures(&self, run: RunId, skip: usize, limit: usize) -> Result<Vec<FailureRecord>, StoreError>;

    /// Runs of these shards whose timer is due, most overdue first, at most `limit`.
    async fn due(&self, shards: &[Shard], now: Timestamp, limit: usize) -> Result<Vec<RunId>, StoreError>;

    /// When the next timer of these shards is due.
    async fn next_due(&self, shards: &[Shard]) -> Result<Option<Timestamp>, StoreError>;

    /// Runs of these shards that have something in their outbox, at most `limit`. When there are more, calls take
    /// turns among them, so that one that stays does not hide the others for ever.
    async fn unpublished(&self, shards: &[Shard], limit: usize) -> Result<Vec<RunId>, StoreError>;

    /// Runs of these shards in which a handler waits for a worker, at most `limit`; taking turns when there are more.
    async fn awaiting_worker(&self, shards: &[Shard], limit: usize) -> Result<Vec<RunId>, StoreError>;

    /// Runs, each with its stored head: the one made last first, of those made at the same time the highest id first.
    /// Fewer than the limit only when there are no more. One whose head cannot be read is listed like the others.
    async fn runs(&self, filter: &RunFilter) -> Result<Vec<ListedRun>, StoreError>;

    /// How many runs there are.
    async fn run_counts(&self) -> Result<RunCounts, StoreError>;

    /// Runs of these shards that ended before `time` and have nothing in their outbox, oldest first, at most `limit`.
    async fn ended_before(&self, shards: &[Shard], time: Timestamp, limit: usize) -> Result<Vec<RunId>, StoreError>;

    /// Removes all that is known of a run that ended before `time`. Whether it did: not when there is no such run, when it
    /// lives, or ended later, as one that was made anew since somebody found it in [`Store::ended_before`].
    async fn remove_run(&self, run: RunId, time: Timestamp) -> Result<bool, StoreError>;

    /// Stores a definition and makes it the latest of its name. Whether its revision was not stored before; one that was
    /// keeps the time it was first stored at.
    async fn put_workflow(&self, workflow: StoredWorkflow) -> Result<bool, StoreError>;

    /// Stores a definition if its revision is not stored, as the oldest of its name; the latest stays the latest, only a
    /// name that has none gets this one. Whether its revision was not stored before.
    async fn keep_workflow(&self, workflow: StoredWorkflow) -> Result<bool, StoreError>;

    /// A definition by its revision.
    async fn workflow(&self, revision: &Revision) -> Result<Option<StoredWorkflow>, StoreError>;

    /// The latest definition of a name.
    async fn latest_workflow(&self, name: &WorkflowName) -> Result<Option<StoredWorkflow>, StoreError>;

    /// The latest definition of every name, in the order of the names.
    async fn workflows(&self) -> Result<Vec<StoredWorkflow>, StoreError>;

    /// All revisions of a name, the one that was last made the latest first.
    async fn revisions(&self, name: &WorkflowName) -> Result<Vec<StoredWorkflow>, StoreError>;

    /// Remembers a worker, seen at `at`.
    async fn put_worker(&self, worker: WorkerAnnounced, at: Timestamp) -> Result<(), StoreError>;

    /// The workers that were remembered, each with the time it was last seen, in the order of their ids.
    async fn workers(&self) -> Result<Vec<(WorkerAnnounced, Timestamp)>, StoreError>;

    /// Forgets workers.
    async fn remove_workers(&self, workers: &[Arc<str>]) -> Result<(), StoreError>;

    /// Keeps a dead letter; keeping it again changes nothing.
    async fn put_dead(&self, letter: DeadLetter) -> Result<(), StoreError>;

    /// Dead letters, newest first (of the same time the highest id first), at most `limit` after the first `skip`.
    async fn dead(&self, skip: usize, limit: usize) -> Result<Vec<DeadLetter>, StoreError>;

    /// One dead letter.
    async fn dead_letter(&self, id: &str) -> Result<Option<DeadLetter>, StoreError>;

    /// Removes a dead letter; whether it was there.
    async fn remove_dead(&self, id: &str) -> Result<bool, StoreError>;

    /// How many dead letters there are.
    async fn dead_count(&self) -> Result<u64, StoreError>;

    /// Live runs of a shard, each with the time it was made, the one made first first (of the same time the lowest id
    /// first), after one of them; fewer than the limit only when there are no more.
    async fn live_runs(
        &self,
        shard: Shard,
        after: Option<(Timestamp, RunId)>,
        limit: usize,
    ) -> Result<Vec<(Timestamp, RunId)>, StoreError>;

    /// Names the timeline of what is stored, as far as the store can tell: another one than before means that the last
    /// of what was confirmed may be lost.
    async fn lineage(&self) -> Result<Arc<str>, StoreError>;

    /// The marker that the broker holds too; `None` in a store that never had one, or was emptied.
    async fn marker(&self) -> Result<Option<Arc<str>>, StoreError>;

    /// Puts a marker in the place of the one expected; whether that was the one there.
    async fn replace_marker(&self, expect: Option<&str>, marker: &str) -> Result<bool, StoreError>;

    /// For which epoch the runs of these shards are known to be recovered, in the order asked for.
    async fn epochs(&self, shards: &[Shard]) -> Result<Vec<Option<Arc<str>>>, StoreError>;

    /// Notes that the runs of these shards are recovered for an epoch.
    async fn put_epoch(&self, shards: &[Shard], epoch: &str) -> Result<(), StoreError>;

    /// Notes that there are this many coordinator queues; the highest number that there ever were.
    async fn raise_queues(&self, queues: u16) -> Result<u16, StoreError>;

    /// Whether the store can be reached and used, with warnings about how it is set up.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] when it must not be used (it evicts keys, holds a newer format).
    async fn check(&self) -> Result<Vec<String>, StoreError>;

    /// Puts everything away: what was begun is done when this returns, and whoever still holds the store may have its calls
    /// refused as unavailable. Closing it again changes nothing. Without it nothing is lost, only left lying.
    async fn close(&self) {}
}

/// A store shared by the parts of a program.
pub type SharedStore = Arc<dyn Store>;
