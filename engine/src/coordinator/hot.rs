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

/// Of so many runs that are not in memory it is known what is left of their outboxes.
const LEFT_KEPT: usize = 4096;

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
    /// What is wrong with it, so that it can only be ended by force.
    pub(super) damage: Option<String>,
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
            damage: None,
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
            damage: None,
            is_guess: false,
            used: 0,
        })
    }

    /// This run, noting it when its jobs are not what its head counts.
    pub(super) fn adds_up_or_not(mut self) -> Self {
        self.damage = check_jobs(&self.workflow, &self.run).err().map(|broken| format!("damaged state: {broken}"));
        self
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
    /// Of runs that are not in memory: versions that are published and may still stand in the stored outbox.
    published: BTreeMap<RunId, Vec<RunVersion>>,
    /// Of runs that are not in memory: what is left of their outboxes, where some of it is published.
    left: BTreeMap<RunId, Vec<(RunVersion, Vec<Effect>)>>,
    limit: usize,
    uses: u64,
    /// Since when the queue serves whoever keeps them.
    pub(super) listening_since: Timestamp,
}

impl HotRuns {
    pub(super) const fn new(limit: usize) -> Self {
        let listening_since = Timestamp::from_millis(0);
        Self {
            runs: BTreeMap::new(),
            published: BTreeMap::new(),
            left: BTreeMap::new(),
            limit,
            uses: 0,
            listening_since,
        }
    }

    pub(super) fn contains(&self, run: RunId) -> bool {
        self.runs.contains_key(&run)
    }

    /// Whether a run is here, with nothing left to be sent.
    pub(super) fn is_all_sent(&self, run: RunId) -> bool {
        self.runs.get(&run).is_some_and(|hot| hot.outbox.is_empty())
    }

    /// Lets go of a run, but not of what is known to be published of it: that must not be taken for something that was
    /// left behind when the run is loaded again. Otherwise an announcement that changes nothing, of a run whose outbox
    /// cannot be sent whole, would be heard, and have the run loaded, and be sent again, without end.
    pub(super) fn let_go(&mut self, hot: HotRun) {
        let run = hot.run.head.id;
        if !hot.published.is_empty() {
            self.published.entry(run).or_default().extend(hot.published);
        }
        if !hot.outbox.is_empty() {
            self.left.insert(run, hot.outbox);
        }
        if self.left.len() > LEFT_KEPT {
            self.left.pop_first(); // it is sent whole again, which does no harm once
        }
    }

    /// Takes what is known to be published out of the outbox of a run that was loaded.
    pub(super) fn recall(&mut self, hot: &mut HotRun) {
        for (version, left) in self.left.remove(&hot.run.head.id).unwrap_or_default() {
            if let Some((_, effects)) = hot.outbox.iter_mut().find(|(stored, _)| *stored == version) {
                *effects = left;
            }
        }
        let Some(mut published) = self.published.remove(&hot.run.head.id) else { return };
        published.retain(|version| hot.outbox.iter().any(|(stored, _)| stored == version));
        hot.outbox.retain(|(version, _)| !published.contains(version));
        hot.published = published;
    }

    /// Of how many runs that are not in memory something published may still stand in the stored outbox.
    pub(super) fn published_elsewhere(&self) -> usize {
        self.published.len()
    }

    /// Takes all that is known to be published, to be cleared from the stored outboxes.
    pub(super) fn take_published(&mut self) -> Vec<(RunId, Vec<RunVersion>)> {
        let mut published: Vec<_> = std::mem::take(&mut self.published).into_iter().collect();
        for hot in self.runs.values_mut().filter(|hot| !hot.published.is_empty()) {
            published.push((hot.run.head.id, std::mem::take(&mut hot.published)));
        }
        published
    }

    /// Takes a run out, to be changed and put back.
    pub(super) fn take(&mut self, run: RunId) -> Option<HotRun> {
        self.runs.remove(&run).map(|hot| HotRun { is_guess: true, ..hot })
    }

    /// Puts a run in; others may have to go for it.
    pub(super) fn put(&mut self, mut hot: HotRun) {
        self.uses += 1;
        hot.used = self.uses;
        self.runs.insert(hot.run.head.id, hot);
        if self.runs.len() <= self.limit {
            return;
        }
        // The least recently used quarter goes at once, so that this is rare.
        let mut by_use: Vec<_> = self.runs.values().map(|hot| (hot.used, hot.run.head.id)).collect();
        by_use.sort_unstable();
        by_use.truncate((self.limit / 4).max(1));
        for (_, run) in by_use {
            if let Some(gone) = self.runs.remove(&run) {
                self.let_go(gone);
            }
        }
    }

    /// Forgets all of them, and all that is known of others.
    pub(super) fn clear(&mut self) {
        self.runs.clear();
        self.published.clear();
        self.left.clear();
    }
}

#[cfg(test)]
mod tests {
    use phasework_workflows::testkit::{Harness, final_phase, handler, phase, workflow};

    use super::*;

    #[test]
    fn what_is_published_is_not_sent_again_when_a_run_is_loaded() {
        let work = phase("work").to("end").handler(handler("a").count(2));
        let harness = Harness::start(workflow("small").phase(work).phase(final_phase("end")).build());
        let effects: Vec<_> = (1..4).map(|entry| Effect::CancelJobs { entry }).collect();
        let loaded = || HotRun {
            outbox: vec![(1, effects.clone()), (2, effects.clone()), (3, effects.clone())],
            ..HotRun::new(harness.run.clone(), Arc::clone(&harness.workflow), None)
        };
        let mut hot = loaded();
        hot.outbox.remove(0);
        hot.outbox[0].1.truncate(1);
        hot.published = vec![1];
        let left = hot.outbox.clone();
        let mut runs = HotRuns::new(1);
        runs.let_go(hot);
        let mut again = loaded();
        runs.recall(&mut again);
        assert_eq!((again.outbox, again.published), (left, vec![1]));
        runs.recall(&mut loaded()); // known once only
        assert_eq!(runs.published_elsewhere() + runs.left.len(), 0);
    }
}
