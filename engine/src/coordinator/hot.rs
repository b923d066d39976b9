//! Runs kept in memory by their owner. Only ever a guess: every commit is made on condition that the run has not
//! changed since, and what turns out to be old is dropped.

use std::collections::BTreeMap;
use std::sync::Arc;

use phasework_store::{RunVersion, StoredRun};
use phasework_workflows::Payload;
use phasework_workflows::definition::Workflow;
use phasework_workflows::id::RunId;
use phasework_workflows::run::audit::check_jobs;
use phasework_workflows::run::{Bitmap, Effect, Head, JobSet, Run};
use phasework_workflows::time::Timestamp;

/// Run data up to this size is kept with the run; larger data is read again whenever it is needed.
const DATA_KEPT: usize = 8 * 1024;

/// A run in memory.
#[derive(Clone, Debug)]
pub(super) struct HotRun {
    /// Its state as of its version.
    pub(super) run: Run,
    /// Its definition.
    pub(super) workflow: Arc<Workflow>,
    /// Its version.
    pub(super) version: RunVersion,
    /// Its head as it was committed.
    pub(super) head: Vec<u8>,
    /// Its data, once it was read and is small enough to keep.
    pub(super) data: Option<Option<Payload>>,
    /// Committed effects that are not known to be published, oldest first.
    pub(super) outbox: Vec<(RunVersion, Vec<Effect>)>,
    /// Versions whose effects are published and still stand in the stored outbox.
    pub(super) published: Vec<RunVersion>,
    /// Since when its owner has been hearing all that there is to hear of it.
    pub(super) listening_since: Timestamp,
    /// Whether it was kept in memory, so that the store may know better by now.
    pub(super) is_guess: bool,
    used: u64,
}

impl HotRun {
    /// A run that is about to be made.
    pub(super) fn new(run: Run, workflow: Arc<Workflow>, data: Option<Payload>) -> Self {
        let mut hot = Self {
            run,
            workflow,
            version: 0,
            head: Vec::new(),
            data: None,
            outbox: Vec::new(),
            published: Vec::new(),
            listening_since: Timestamp::default(),
            is_guess: false,
            used: 0,
        };
        hot.keep_data(data);
        hot
    }

    /// A run as it was stored.
    ///
    /// # Errors
    /// When what is stored cannot be read; the text says why.
    pub(super) fn from_stored(stored: StoredRun, head: Head, workflow: Arc<Workflow>) -> Result<Self, String> {
        let mut bits = stored.bits.into_iter();
        let mut exceptions = stored.exceptions.into_iter();
        let jobs = (0..head.entry.handlers.len()).map(|_| {
            let terminal = Bitmap::from_bytes(bits.next().unwrap_or_default());
            JobSet::from_parts(terminal, exceptions.next().unwrap_or_default())
        });
        let jobs = jobs.collect();
        let mut outbox = Vec::with_capacity(stored.outbox.len());
        for (version, effects) in stored.outbox {
            let effects = serde_json::from_slice(&effects).map_err(|error| format!("damaged outbox: {error}"))?;
            outbox.push((version, effects));
        }
        Ok(Self {
            run: Run::from_parts(head, jobs),
            workflow,
            version: stored.version,
            head: stored.head,
            data: None,
            outbox,
            published: Vec::new(),
            listening_since: Timestamp::default(),
            is_guess: false,
            used: 0,
        })
    }

    /// This run, when its jobs are what its head counts: with others, nothing could be relied upon.
    ///
    /// # Errors
    /// When they are not; the text says where.
    pub(super) fn adds_up(self) -> Result<Self, String> {
        check_jobs(&self.workflow, &self.run).map_err(|broken| format!("damaged state: {broken}"))?;
        Ok(self)
    }

    /// Keeps data that was read, if it is small.
    pub(super) fn keep_data(&mut self, data: Option<Payload>) {
        if data.as_ref().is_none_or(|data| data.len() <= DATA_KEPT) {
            self.data = Some(data);
        }
    }
}

/// The runs an owner keeps in memory.
#[derive(Debug)]
pub(super) struct HotRuns {
    runs: BTreeMap<RunId, HotRun>,
    limit: usize,
    uses: u64,
    /// Since when the queue serves whoever keeps them.
    pub(super) listening_since: Timestamp,
}

impl HotRuns {
    pub(super) const fn new(limit: usize) -> Self {
        Self { runs: BTreeMap::new(), limit, uses: 0, listening_since: Timestamp::from_millis(0) }
    }

    pub(super) fn contains(&self, run: RunId) -> bool {
        self.runs.contains_key(&run)
    }

    /// Whether a run is here, with nothing left to be sent.
    pub(super) fn is_all_sent(&self, run: RunId) -> bool {
        self.runs.get(&run).is_some_and(|hot| hot.outbox.is_empty())
    }

    /// Takes a run out, to be changed and put back.
    pub(super) fn take(&mut self, run: RunId) -> Option<HotRun> {
        self.runs.remove(&run).map(|hot| HotRun { is_guess: true, ..hot })
    }

    /// Puts a run in; returns the runs that had to go for it.
    pub(super) fn put(&mut self, mut hot: HotRun) -> Vec<HotRun> {
        self.uses += 1;
        hot.used = self.uses;
        self.runs.insert(hot.run.head.id, hot);
        if self.runs.len() <= self.limit {
            return Vec::new();
        }
        // The least recently used quarter goes at once, so that this is rare.
        let mut by_use: Vec<_> = self.runs.values().map(|hot| (hot.used, hot.run.head.id)).collect();
        by_use.sort_unstable();
        by_use.truncate((self.limit / 4).max(1));
        by_use.iter().filter_map(|(_, run)| self.runs.remove(run)).collect()
    }

    /// All of them, to be looked through.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut HotRun> {
        self.runs.values_mut()
    }

    /// Forgets all of them.
    pub(super) fn clear(&mut self) {
        self.runs.clear();
    }
}
