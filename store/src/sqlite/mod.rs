//! A store on SQLite: durable on one machine, with nothing to install. All is in one file of ordinary tables, see
//! `schema.sql`; nothing here decides anything about runs.
//!
//! In reading order: [`file`] has the directory and its connections, [`call`] what a call is and how several become one
//! transaction, [`threads`] who carries calls out; [`commit`] writes and [`load`] reads a run, [`find`] has the indexes
//! and the end of a run, [`catalog`] what belongs to no run, [`timeline`] how a loss is noticed; [`look`] is for others.
//!
//! What is done with a connection are plain functions, so that a store can also be in memory and without threads:
//! a simulation plays that one.

mod call;
mod catalog;
mod commit;
mod error;
mod file;
mod find;
mod load;
mod look;
#[cfg(test)]
mod tests;
mod threads;
mod timeline;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use phasework_workflows::Payload;
use phasework_workflows::id::{EntryNo, IdSource, JobIndex, Nonce, Revision, RunId, Shard, WorkflowName};
use phasework_workflows::message::notice::DeadLetter;
use phasework_workflows::message::presence::WorkerAnnounced;
use phasework_workflows::run::{FailureRecord, HistoryEvent};
use phasework_workflows::time::Timestamp;
use rusqlite::Connection;
use tokio::sync::oneshot;

use self::file::Home;
pub use self::file::{FILE, FILES};
use self::find::{Damage, Members};
use self::load::{Inputs, List};
pub use self::look::Looked;
use self::threads::Threads;
use crate::turns::Turns;
use crate::{
    Commit, CommitError, ListedRun, OutputsPage, RunCounts, RunFilter, RunVersion, Store, StoreError, StoredRun,
    StoredWorkflow,
};

/// Where a store on SQLite is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqliteOptions {
    /// Its directory, on a local disk. It is made if it is not there.
    pub dir: PathBuf,
    /// How many connections read.
    pub readers: usize,
    /// How large the file may become, in bytes; `None` for as large as the disk. What does not fit is refused as on a
    /// full disk.
    pub max_bytes: Option<u64>,
    /// After how long a call without an answer fails as unavailable. Longer than another program that writes to the file is
    /// waited for.
    pub timeout: Duration,
}

impl SqliteOptions {
    /// The directory `dir`, with the usual settings.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), readers: 4, max_bytes: None, timeout: Duration::from_secs(10) }
    }
}

/// A store on SQLite. One at a time, in one process, has a directory.
pub struct SqliteStore {
    place: Place,
    turns: Turns,
    /// The last run that was taken of a set of a shard.
    taken: Mutex<BTreeMap<(Members, Shard), RunId>>,
    /// What was told to be damaged.
    damage: Arc<Damage>,
}

enum Place {
    /// A file, threads that work on it, and how long they are waited for.
    File(Arc<Home>, Arc<Threads>, Duration),
    /// No threads: calls are carried out where they are made. A store in memory, or one that is only looked at.
    Here(Mutex<Connection>),
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match &self.place {
            Place::File(home, ..) => home.dir().display().to_string(),
            Place::Here(_) => "here".to_owned(),
        };
        f.debug_tuple("SqliteStore").field(&place).finish()
    }
}

impl SqliteStore {
    /// Opens the store in a directory; a new one if there is none. Waits for the disk: not to be called where other
    /// tasks wait.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] when the directory is in use or cannot be used, and the text says what to do;
    /// [`StoreError::Unavailable`] and [`StoreError::Full`] when it may be had later.
    pub fn open(options: &SqliteOptions, ids: &dyn IdSource) -> Result<Self, StoreError> {
        let home = Arc::new(Home::take(&options.dir)?);
        let writer = home.writer(ids, options.max_bytes)?;
        let readers = (0..options.readers.max(1)).map(|_| home.reader()).collect::<Result<_, _>>()?;
        home.note_opened();
        let threads = Arc::new(Threads::start(&home, writer, readers)?);
        Ok(Self::at(Place::File(home, threads, options.timeout)))
    }

    /// A new store in memory, which is gone with the process. Every call is done when it returns, in the order of the
    /// calls, and nothing is left to chance.
    ///
    /// # Errors
    /// As [`StoreError`] says; not for want of anything but memory.
    pub fn in_memory(ids: &dyn IdSource) -> Result<Self, StoreError> {
        let connection = Connection::open_in_memory()?;
        file::prepare(&connection)?;
        file::make(&connection, ids)?;
        Ok(Self::at(Place::Here(Mutex::new(connection))))
    }

    fn at(place: Place) -> Self {
        Self { place, turns: Turns::default(), taken: Mutex::default(), damage: Arc::default() }
    }

    /// A store in memory that holds what this one holds now, as a backup does. What either is given later, the other does
    /// not see.
    ///
    /// # Errors
    /// As [`StoreError`] says.
    pub async fn copy(&self) -> Result<Self, StoreError> {
        let copied = self.read(|from| {
            let mut to = Connection::open_in_memory()?;
            file::prepare(&to)?;
            rusqlite::backup::Backup::new(from, &mut to)?.step(-1)?;
            Ok(to)
        });
        Ok(Self::at(Place::Here(Mutex::new(copied.await?))))
    }

    /// Has a call carried out that only reads.
    async fn read<T, W>(&self, work: W) -> Result<T, StoreError>
    where
        T: Send + 'static,
        W: FnMut(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let (call, mut answer) = call::call(work);
        match &self.place {
            Place::File(_, threads, timeout) => {
                threads.read(call);
                self.judge(within(*timeout, answer).await).await
            }
            Place::Here(connection) => {
                call::read(&lock(connection), call);
                // There already. Waiting for it would have a task give way now and then, which a simulation sees.
                answer.try_recv().unwrap_or_else(|_| Err(gone()))
            }
        }
    }

    /// Has a call carried out that writes; it is durable when this returns.
    async fn write<T, W>(&self, work: W) -> Result<T, StoreError>
    where
        T: Send + 'static,
        W: FnMut(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let (call, mut answer) = call::call(work);
        match &self.place {
            Place::File(_, threads, timeout) => {
                threads.write(call);
                self.judge(within(*timeout, answer).await).await
            }
            Place::Here(connection) => {
                call::write(&lock(connection), vec![call]);
                answer.try_recv().unwrap_or_else(|_| Err(gone()))
            }
        }
    }

    /// What cannot be read is damaged only where other things can be had: a disk that gives nothing back may be there again
    /// later, and what is told to be damaged is given up by whoever asked for it.
    async fn judge<T>(&self, end: Result<T, StoreError>) -> Result<T, StoreError> {
        let Place::File(_, threads, timeout) = &self.place else { return end };
        let words = match end {
            Err(StoreError::Corrupt(words)) => words,
            end => return end,
        };
        for step in [file::take_pages, file::give_room] {
            let (call, answer) = call::call(step);
            threads.write(call);
            if let Err(error) = within(*timeout, answer).await {
                return Err(StoreError::Unavailable(format!("{words}; and nothing can be written either: {error}")));
            }
        }
        Err(StoreError::Corrupt(words))
    }

    /// Makes one commit.
    async fn commit_one(&self, commit: Commit) -> Result<(), CommitError> {
        commit.check()?;
        self.write(move |connection| commit::commit(connection, &commit)).await?
    }

    /// At most `limit` runs of a set of these shards, in turn.
    async fn take_turns(&self, set: Members, shards: &[Shard], limit: usize) -> Result<Vec<RunId>, StoreError> {
        let after: Vec<_> = {
            let taken = lock(&self.taken);
            shards.iter().map(|&shard| (shard, taken.get(&(set, shard)).copied())).collect()
        };
        let damage = Arc::clone(&self.damage);
        let lists = self.read(move |connection| find::next_in_turn(connection, &damage, set, &after, limit)).await?;
        let runs = self.turns.take(lists, limit);
        lock(&self.taken).extend(runs.iter().map(|&run| ((set, run.shard()), run)));
        Ok(runs)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that panics leaves anything behind: a call that does is caught, and rolled back.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The answer to a call, if it comes in time.
async fn within<T>(timeout: Duration, answer: oneshot::Receiver<Result<T, StoreError>>) -> Result<T, StoreError> {
    match tokio::time::timeout(timeout, answer).await {
        Ok(answer) => answer.unwrap_or_else(|_| Err(gone())),
        Err(_) => Err(StoreError::Unavailable(format!("the disk did not answer in {timeout:?}"))),
    }
}

fn gone() -> StoreError {
    StoreError::Unavailable("the store's thread has ended, which is a defect: start the program again".to_owned())
}

#[async_trait]
impl Store for SqliteStore {
    async fn load(&self, runs: &[RunId]) -> Result<Vec<Option<StoredRun>>, StoreError> {
        let runs = runs.to_vec();
        self.read(move |connection| runs.iter().map(|&run| load::load(connection, run)).collect()).await
    }

    async fn commit(&self, commits: Vec<Commit>) -> Vec<Result<(), CommitError>> {
        // Each is a call of its own, so that no run suffers from another; they reach the writer together.
        join_all(commits.into_iter().map(|commit| self.commit_one(commit))).await
    }

    async fn published(&self, runs: Vec<(RunId, Vec<RunVersion>)>) -> Result<(), StoreError> {
        self.write(move |connection| commit::published(connection, &runs)).await
    }

    async fn data(&self, run: RunId) -> Result<Option<Payload>, StoreError> {
        self.read(move |connection| load::single(connection, run, "data")).await
    }

    async fn output(&self, run: RunId) -> Result<Option<Payload>, StoreError> {
        self.read(move |connection| load::single(connection, run, "output")).await
    }

    async fn put_inputs(
        &self,
        run: RunId,
        entry: EntryNo,
        nonce: Nonce,
        handler: u16,
        pages: Vec<(u64, Vec<Payload>)>,
    ) -> Result<(), StoreError> {
        let of = Inputs { run, entry, nonce, handler };
        self.write(move |connection| load::put_inputs(connection, of, &pages)).await
    }

    async fn inputs(
        &self,
        run: RunId,
        entry: EntryNo,
        nonce: Nonce,
        handler: u16,
        page: u64,
    ) -> Result<Option<Vec<Payload>>, StoreError> {
        let of = Inputs { run, entry, nonce, handler };
        self.read(move |connection| load::inputs(connection, of, page)).await
    }

    async fn outputs(
        &self,
        run: RunId,
        entry: EntryNo,
        handler: u16,
        max_bytes: usize,
    ) -> Result<Vec<(JobIndex, Payload)>, StoreError> {
        self.read(move |connection| load::outputs(connection, (run, entry, handler), max_bytes)).await
    }

    async fn outputs_page(
        &self,
        run: RunId,
        entry: EntryNo,
        handler: u16,
        from: u64,
        bytes: usize,
    ) -> Result<OutputsPage, StoreError> {
        self.read(move |connection| load::outputs_page(connection, (run, entry, handler), from, bytes)).await
    }

    async fn history(&self, run: RunId, after: u64, limit: usize) -> Result<Vec<HistoryEvent>, StoreError> {
        self.read(move |connection| load::records(connection, List::History, run, after.saturating_add(1), limit)).await
    }

    async fn failures(&self, run: RunId, skip: usize, limit: usize) -> Result<Vec<FailureRecord>, StoreError> {
        self.read(move |connection| load::records(connection, List::Failures, run, skip as u64, limit)).await
    }

    async fn due(&self, shards: &[Shard], now: Timestamp, limit: usize) -> Result<Vec<RunId>, StoreError> {
        let (shards, damage) = (shards.to_vec(), Arc::clone(&self.damage));
        self.read(move |connection| find::due(connection, &damage, &shards, now, limit)).await
    }

    async fn next_due(&self, shards: &[Shard]) -> Result<Option<Timestamp>, StoreError> {
        let (shards, damage) = (shards.to_vec(), Arc::clone(&self.damage));
        self.read(move |connection| find::next_due(connection, &damage, &shards)).await
    }

    async fn unpublished(&self, shards: &[Shard], limit: usize) -> Result<Vec<RunId>, StoreError> {
        self.take_turns(Members::Unpublished, shards, limit).await
    }

    async fn awaiting_worker(&self, shards: &[Shard], limit: usize) -> Result<Vec<RunId>, StoreError> {
        self.take_turns(Members::Awaiting, shards, limit).await
    }

    async fn runs(&self, filter: &RunFilter) -> Result<Vec<ListedRun>, StoreError> {
        let filter = filter.clone();
        self.read(move |connection| find::list(connection, &filter)).await
    }

    async fn run_counts(&self) -> Result<RunCounts, StoreError> {
        self.read(find::counts).await
    }

    async fn ended_before(&self, shards: &[Shard], time: Timestamp, limit: usize) -> Result<Vec<RunId>, StoreError> {
        let (shards, damage) = (shards.to_vec(), Arc::clone(&self.damage));
        self.read(move |connection| find::ended_before(connection, &damage, &shards, time, limit)).await
    }

    async fn remove_run(&self, run: RunId, time: Timestamp) -> Result<bool, StoreError> {
        self.write(move |connection| find::remove(connection, run, time)).await
    }

    async fn put_workflow(&self, workflow: StoredWorkflow) -> Result<bool, StoreError> {
        self.write(move |connection| catalog::put_workflow(connection, &workflow)).await
    }

    async fn keep_workflow(&self, workflow: StoredWorkflow) -> Result<bool, StoreError> {
        self.write(move |connection| catalog::keep_workflow(connection, &workflow)).await
    }

    async fn workflow(&self, revision: &Revision) -> Result<Option<StoredWorkflow>, StoreError> {
        let revision = revision.clone();
        let mut found = self
            .read(move |connection| catalog::workflows(connection, "WHERE revision = ?1", [revision.as_str()]))
            .await?;
        Ok(found.pop())
    }

    async fn latest_workflow(&self, name: &WorkflowName) -> Result<Option<StoredWorkflow>, StoreError> {
        const LATEST: &str = "WHERE name = ?1 ORDER BY place DESC LIMIT 1";
        let name = name.clone();
        Ok(self.read(move |connection| catalog::workflows(connection, LATEST, [name.as_str()])).await?.pop())
    }

    async fn workflows(&self) -> Result<Vec<StoredWorkflow>, StoreError> {
        const LATEST: &str =
            "AS this WHERE place = (SELECT max(place) FROM workflows WHERE name = this.name) ORDER BY name";
        self.read(|connection| catalog::workflows(connection, LATEST, [])).await
    }

    async fn revisions(&self, name: &WorkflowName) -> Result<Vec<StoredWorkflow>, StoreError> {
        const ALL: &str = "WHERE name = ?1 ORDER BY place DESC";
        let name = name.clone();
        self.read(move |connection| catalog::workflows(connection, ALL, [name.as_str()])).await
    }

    async fn put_worker(&self, worker: WorkerAnnounced, at: Timestamp) -> Result<(), StoreError> {
        self.write(move |connection| catalog::put_worker(connection, &worker, at)).await
    }

    async fn workers(&self) -> Result<Vec<(WorkerAnnounced, Timestamp)>, StoreError> {
        self.read(catalog::workers).await
    }

    async fn remove_workers(&self, workers: &[Arc<str>]) -> Result<(), StoreError> {
        let workers = workers.to_vec();
        self.write(move |connection| catalog::remove_workers(connection, &workers)).await
    }

    async fn put_dead(&self, letter: DeadLetter) -> Result<(), StoreError> {
        self.write(move |connection| catalog::put_dead(connection, &letter)).await
    }

    async fn dead(&self, skip: usize, limit: usize) -> Result<Vec<DeadLetter>, StoreError> {
        self.read(move |connection| catalog::dead(connection, skip, limit)).await
    }

    async fn dead_letter(&self, id: &str) -> Result<Option<DeadLetter>, StoreError> {
        let id = id.to_owned();
        self.read(move |connection| catalog::dead_letter(connection, &id)).await
    }

    async fn remove_dead(&self, id: &str) -> Result<bool, StoreError> {
        let id = id.to_owned();
        self.write(move |connection| catalog::remove_dead(connection, &id)).await
    }

    async fn dead_count(&self) -> Result<u64, StoreError> {
        self.read(catalog::dead_count).await
    }

    async fn live_runs(
        &self,
        shard: Shard,
        after: Option<(Timestamp, RunId)>,
        limit: usize,
    ) -> Result<Vec<(Timestamp, RunId)>, StoreError> {
        self.read(move |connection| find::live_runs(connection, shard, after, limit)).await
    }

    async fn lineage(&self) -> Result<Arc<str>, StoreError> {
        self.read(timeline::lineage).await
    }

    async fn marker(&self) -> Result<Option<Arc<str>>, StoreError> {
        self.read(timeline::marker).await
    }

    async fn replace_marker(&self, expect: Option<&str>, marker: &str) -> Result<bool, StoreError> {
        let (expect, marker) = (expect.map(str::to_owned), marker.to_owned());
        self.write(move |connection| timeline::replace_marker(connection, expect.as_deref(), &marker)).await
    }

    async fn epochs(&self, shards: &[Shard]) -> Result<Vec<Option<Arc<str>>>, StoreError> {
        let shards = shards.to_vec();
        self.read(move |connection| timeline::epochs(connection, &shards)).await
    }

    async fn put_epoch(&self, shards: &[Shard], epoch: &str) -> Result<(), StoreError> {
        let (shards, epoch) = (shards.to_vec(), epoch.to_owned());
        self.write(move |connection| timeline::put_epoch(connection, &shards, &epoch)).await
    }

    async fn raise_queues(&self, queues: u16) -> Result<u16, StoreError> {
        self.write(move |connection| timeline::raise_queues(connection, queues)).await
    }

    async fn close(&self) {
        let Place::File(_, threads, _) = &self.place else { return };
        let threads = Arc::clone(threads);
        if let Err(error) = tokio::task::spawn_blocking(move || threads.close()).await {
            tracing::error!(%error, "the store was not closed well, which is a defect");
        }
    }

    async fn check(&self) -> Result<Vec<String>, StoreError> {
        match &self.place {
            Place::File(home, ..) => {
                home.is_there()?;
                self.read(timeline::lineage).await?;
                if let Some(failures) = home.failures() {
                    // What an earlier look may have left comes first: in its place there is room in any case.
                    self.write(file::give_room).await?;
                    self.write(file::take_room).await?;
                    self.write(file::give_room).await?;
                    home.note_room(failures);
                }
                Ok(home.warnings())
            }
            Place::Here(_) => Ok(Vec::new()),
        }
    }
}
