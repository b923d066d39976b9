//! One shard of a [`MemoryStore`](super::MemoryStore): its runs and the indexes they are found by, changed together
//! under one lock. Checks before it writes, so that a refused commit leaves no trace.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use phasework_workflows::Payload;
use phasework_workflows::id::{EntryNo, JobIndex, Nonce, RunId};
use phasework_workflows::run::{Delta, Exception, FailureRecord, HistoryEvent};
use phasework_workflows::time::Timestamp;

use crate::fit::history_gap;
use crate::{Commit, CommitError, RunIndex, RunVersion, StoredRun};

/// Runs in the order of a time.
pub(super) type ByTime = BTreeSet<(Timestamp, RunId)>;

/// The input pages of one handler of one entry, by nonce.
type InputsKey = (EntryNo, Nonce, u16);

/// The runs of a shard. The hash maps are only ever asked for single runs: their order is of chance.
#[derive(Clone, Debug, Default)]
pub(super) struct ShardState {
    runs: HashMap<RunId, Kept>,
    /// Apart from the runs, because inputs may come before their run.
    inputs: HashMap<RunId, BTreeMap<InputsKey, BTreeMap<u64, Vec<Payload>>>>,
    /// Live runs, by the time they were made.
    pub(super) live: ByTime,
    /// Ended runs, by the time they were made.
    pub(super) ended: ByTime,
    /// Ended runs, by the time they ended.
    ended_at: ByTime,
    /// Runs that wait for a time.
    pub(super) timers: ByTime,
    /// Runs that have something in their outbox.
    pub(super) unpublished: Rotation,
    /// Runs in which a handler waits for a worker.
    pub(super) awaiting: Rotation,
    /// The epoch that its runs were recovered for.
    pub(super) epoch: Option<Arc<str>>,
}

/// A run as it is kept.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    version: RunVersion,
    pub(super) head: Vec<u8>,
    entry: EntryNo,
    jobs: Vec<KeptJobs>,
    outbox: BTreeMap<RunVersion, Vec<u8>>,
    index: RunIndex,
    pub(super) data: Option<Payload>,
    pub(super) output: Option<Payload>,
    pub(super) outputs: BTreeMap<(EntryNo, u16), Vec<(JobIndex, Payload)>>,
    pub(super) failures: Vec<FailureRecord>,
    pub(super) history: Vec<HistoryEvent>,
}

/// The jobs of one handler of the current entry.
#[derive(Clone, Debug, Default)]
struct KeptJobs {
    bits: Vec<u8>,
    exceptions: BTreeMap<JobIndex, Exception>,
}

impl ShardState {
    pub(super) fn run(&self, run: RunId) -> Option<&Kept> {
        self.runs.get(&run)
    }

    pub(super) fn load(&self, run: RunId) -> Option<StoredRun> {
        let kept = self.runs.get(&run)?;
        Some(StoredRun {
            version: kept.version,
            head: kept.head.clone(),
            bits: kept.jobs.iter().map(|jobs| jobs.bits.clone()).collect(),
            exceptions: kept
                .jobs
                .iter()
                .map(|jobs| jobs.exceptions.iter().map(|(&i, e)| (i, e.clone())).collect())
                .collect(),
            outbox: kept.outbox.iter().map(|(&version, effects)| (version, effects.clone())).collect(),
        })
    }

    pub(super) fn commit(&mut self, commit: Commit) -> Result<(), CommitError> {
        let stored = self.runs.get(&commit.run);
        if stored.map_or(0, |kept| kept.version) != commit.expect {
            return Err(CommitError::Conflict);
        }
        commit.check()?;
        let next_event = stored.map_or(0, |kept| kept.history.len()) as u64 + 1;
        if let Some(event) = commit.delta.history.first().filter(|event| event.n != next_event) {
            return Err(history_gap(commit.run, event.n).into());
        }
        self.write(commit);
        Ok(())
    }

    fn write(&mut self, commit: Commit) {
        let Commit { run, expect, head, entry, handlers, mut delta, data, effects, published, index } = commit;
        let version = expect + 1;
        let old = self.runs.get(&run).map(|kept| kept.index.clone());
        if old.as_ref() != Some(&index) {
            self.place(run, old.as_ref(), &index);
        }
        for gone in &delta.forget_jobs {
            self.forget_inputs(run, |(entry, ..)| entry <= gone.entry);
        }
        for gone in &delta.forget_inputs {
            self.forget_inputs(run, |key| key == (gone.entry, gone.nonce, gone.handler));
        }
        let kept = self.runs.entry(run).or_insert_with(|| Kept::new(index.clone()));
        (kept.version, kept.head, kept.index) = (version, head, index);
        kept.data = data.or(kept.data.take());
        kept.output = delta.output.take().or(kept.output.take());
        kept.write_jobs(entry, handlers, &delta);
        kept.append(delta);
        if !effects.is_empty() {
            kept.outbox.insert(version, effects);
        }
        self.published(run, &published);
    }

    /// Moves a run to where it is to be found now.
    fn place(&mut self, run: RunId, old: Option<&RunIndex>, new: &RunIndex) {
        if let Some(old) = old {
            self.unplace(run, old);
        }
        if new.state.is_ended() {
            self.ended.insert((new.created_at, run));
            self.ended_at.extend(new.ended_at.map(|at| (at, run)));
        } else {
            self.live.insert((new.created_at, run));
        }
        self.timers.extend(new.wake_at.map(|at| (at, run)));
        if new.awaits_worker {
            self.awaiting.members.insert(run);
        }
    }

    fn unplace(&mut self, run: RunId, old: &RunIndex) {
        self.live.remove(&(old.created_at, run));
        self.ended.remove(&(old.created_at, run));
        if let Some(at) = old.ended_at {
            self.ended_at.remove(&(at, run));
        }
        if let Some(at) = old.wake_at {
            self.timers.remove(&(at, run));
        }
        self.awaiting.members.remove(&run);
    }

    pub(super) fn published(&mut self, run: RunId, versions: &[RunVersion]) {
        let Some(kept) = self.runs.get_mut(&run) else { return };
        for version in versions {
            kept.outbox.remove(version);
        }
        if kept.outbox.is_empty() {
            self.unpublished.members.remove(&run);
        } else {
            self.unpublished.members.insert(run);
        }
    }

    pub(super) fn put_inputs(&mut self, run: RunId, key: InputsKey, pages: Vec<(u64, Vec<Payload>)>) {
        if !pages.is_empty() {
            self.inputs.entry(run).or_default().entry(key).or_default().extend(pages);
        }
    }

    pub(super) fn inputs(&self, run: RunId, key: InputsKey, page: u64) -> Option<Vec<Payload>> {
        self.inputs.get(&run)?.get(&key)?.get(&page).cloned()
    }

    fn forget_inputs(&mut self, run: RunId, is_gone: impl Fn(InputsKey) -> bool) {
        if let Some(inputs) = self.inputs.get_mut(&run) {
            inputs.retain(|&key, _| !is_gone(key));
            if inputs.is_empty() {
                self.inputs.remove(&run);
            }
        }
    }

    /// Ended runs that ended before `time` and have an empty outbox, by the time they ended.
    pub(super) fn ended_before(&self, time: Timestamp) -> impl Iterator<Item = (Timestamp, RunId)> {
        let published = |run: &RunId| self.runs.get(run).is_some_and(|kept| kept.outbox.is_empty());
        self.ended_at.iter().take_while(move |(at, _)| *at < time).filter(move |(_, run)| published(run)).copied()
    }

    /// Removes a run that ended before `time`; whether it did.
    pub(super) fn remove(&mut self, run: RunId, time: Timestamp) -> bool {
        let index = self.runs.get(&run).map(|kept| kept.index.clone());
        let Some(index) = index.filter(|index| index.ended_at.is_some_and(|at| at < time)) else { return false };
        self.runs.remove(&run);
        self.inputs.remove(&run);
        self.unpublished.members.remove(&run);
        self.unplace(run, &index);
        true
    }

    /// How many things it keeps.
    #[cfg(test)]
    pub(super) fn traces(&self) -> usize {
        let of_run = |kept: &Kept| {
            1 + kept.jobs.iter().filter(|jobs| !jobs.bits.is_empty()).count()
                + kept.jobs.iter().map(|jobs| jobs.exceptions.len()).sum::<usize>()
                + kept.outbox.len()
                + kept.outputs.len()
        };
        let indexes = [&self.live, &self.ended, &self.ended_at, &self.timers].map(BTreeSet::len);
        self.runs.values().map(of_run).sum::<usize>()
            + self.inputs.values().map(BTreeMap::len).sum::<usize>()
            + indexes.iter().sum::<usize>()
            + self.unpublished.members.len()
            + self.awaiting.members.len()
    }
}

impl Kept {
    /// A run before its first commit is written.
    fn new(index: RunIndex) -> Self {
        Self {
            version: 0,
            head: Vec::new(),
            entry: 0,
            jobs: Vec::new(),
            outbox: BTreeMap::new(),
            index,
            data: None,
            output: None,
            outputs: BTreeMap::new(),
            failures: Vec::new(),
            history: Vec::new(),
        }
    }

    fn write_jobs(&mut self, entry: EntryNo, handlers: u16, delta: &Delta) {
        if (self.entry, self.jobs.len()) != (entry, usize::from(handlers)) {
            self.entry = entry;
            self.jobs = vec![KeptJobs::default(); usize::from(handlers)];
        }
        for patch in delta.bits.iter().filter(|patch| patch.entry == entry) {
            let (bits, start) = (&mut self.jobs[usize::from(patch.handler)].bits, patch.offset as usize);
            let end = start + patch.bytes.len();
            if bits.len() < end {
                bits.resize(end, 0);
            }
            bits[start..end].copy_from_slice(&patch.bytes);
        }
        for change in delta.exceptions.iter().filter(|change| change.entry == entry) {
            let exceptions = &mut self.jobs[usize::from(change.handler)].exceptions;
            match change.exception.clone() {
                Some(exception) => exceptions.insert(change.index, exception),
                None => exceptions.remove(&change.index),
            };
        }
        if delta.forget_jobs.iter().any(|gone| gone.entry == entry) {
            self.jobs.fill(KeptJobs::default());
        }
    }

    fn append(&mut self, delta: Delta) {
        for page in delta.outputs.into_iter().filter(|page| !page.items.is_empty()) {
            self.outputs.entry((page.entry, page.handler)).or_default().extend(page.items);
        }
        for gone in &delta.forget_outputs {
            self.outputs.retain(|&(entry, _), _| entry != gone.entry);
        }
        self.failures.extend(delta.failures);
        self.history.extend(delta.history);
    }
}

/// A set of runs of which a few are taken at a time, in turn.
#[derive(Clone, Debug, Default)]
pub(super) struct Rotation {
    members: BTreeSet<RunId>,
    last: Option<RunId>,
}

impl Rotation {
    /// The next `limit` runs after the last one taken.
    pub(super) fn next(&self, limit: usize) -> Vec<RunId> {
        let Some(last) = self.last else { return self.members.iter().take(limit).copied().collect() };
        let after = self.members.range((Bound::Excluded(last), Bound::Unbounded));
        after.chain(self.members.range(..=last)).take(limit).copied().collect()
    }

    /// Notes that `run` was taken.
    pub(super) fn taken(&mut self, run: RunId) {
        self.last = Some(run);
    }
}
