//! Long random stories of one run, told to a store and to a model made of the types of `phasework_workflows::run`; after
//! every step both must be the same. A failing story names its seed, and tells the same again.

use std::collections::BTreeMap;
use std::ops::Range;

use phasework_workflows::Payload;
use phasework_workflows::id::{JobIndex, RunId};
use phasework_workflows::run::{BitPatch, Bitmap, Delta, ExceptionChange, JobSet, OutputPage};

use super::SharedSubject;
use super::draft::{at, commit, done, ended, event, exception, failure, forgotten, json, live, loaded, run};
use crate::{Commit, CommitError, RunIndex, Store};

const STORIES: u64 = 12;
const STEPS: usize = 80;

/// Chance, out of a seed. Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators" (SplitMix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.roll() % end
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn some(&mut self, most: u64) -> Range<u64> {
        0..self.below(most + 1)
    }
}

/// What the store should hold of the run.
#[derive(Clone)]
struct Model {
    run: RunId,
    version: u64,
    entry: u32,
    jobs: Vec<JobSet>,
    outbox: BTreeMap<u64, Vec<u8>>,
    data: Option<Payload>,
    output: Option<Payload>,
    outputs: BTreeMap<(u32, u16), BTreeMap<JobIndex, Payload>>,
    failures: Vec<JobIndex>,
    events: u64,
    index: RunIndex,
}

impl Model {
    fn new(run: RunId) -> Self {
        Self {
            run,
            version: 0,
            entry: 1,
            jobs: vec![JobSet::default()],
            outbox: BTreeMap::new(),
            data: None,
            output: None,
            outputs: BTreeMap::new(),
            failures: Vec::new(),
            events: 0,
            index: live(run.shard().0.into()),
        }
    }

    /// Goes on at random; what has to be committed.
    fn step(&mut self, dice: &mut Dice) -> Commit {
        let mut delta = Delta::default();
        if dice.one_in(6) {
            self.enter(dice, &mut delta);
        }
        self.change_jobs(dice, &mut delta);
        self.report(dice, &mut delta);
        if dice.one_in(9) {
            self.jobs.fill(JobSet::default());
            delta.forget_jobs.push(forgotten(self.entry, self.jobs.len() as u16));
        }
        let change = Commit { delta, ..commit(self.run, self.version) };
        self.version += 1;
        let data = (self.version == 1).then(|| json(format!("\"data of {}\"", self.run)));
        self.data = data.clone().or(self.data.take());
        self.index.wake_at = if dice.one_in(3) { Some(at(dice.below(50) as i64)) } else { self.index.wake_at };
        self.index.wake_at = self.index.wake_at.filter(|_| !dice.one_in(5));
        self.index.awaits_worker = dice.one_in(4);
        let (effects, published) = self.effects(dice);
        let (entry, handlers, index) = (self.entry, self.jobs.len() as u16, self.index.clone());
        Commit { entry, handlers, data, effects, published, index, ..change }
    }

    /// Another entry; the old one is mostly forgotten, and leaves a last change behind.
    fn enter(&mut self, dice: &mut Dice, delta: &mut Delta) {
        self.change_jobs(dice, delta);
        if !dice.one_in(4) {
            delta.forget_jobs.push(forgotten(self.entry, self.jobs.len() as u16));
        }
        self.entry += 1 + dice.below(2) as u32;
        self.jobs = vec![JobSet::default(); dice.below(7) as usize];
        if dice.one_in(3) {
            let gone = self.entry - 1;
            self.outputs.retain(|&(entry, _), _| entry != gone);
            delta.forget_outputs.push(forgotten(gone, 7));
        }
    }

    fn change_jobs(&mut self, dice: &mut Dice, delta: &mut Delta) {
        for (handler, jobs) in self.jobs.iter_mut().enumerate() {
            let (entry, handler) = (self.entry, handler as u16);
            let reach = [8, 300, 40_000][dice.below(3) as usize];
            for _ in dice.some(20) {
                jobs.terminal.insert(dice.below(reach));
            }
            let patches = jobs.terminal.take_dirty().into_iter();
            delta.bits.extend(patches.map(|(offset, bytes)| BitPatch { entry, handler, offset, bytes }));
            for _ in dice.some(6) {
                let index = dice.below(12);
                let exception = (!dice.one_in(3)).then(|| exception(dice.below(200) as u32));
                match exception.clone() {
                    Some(exception) => jobs.set(index, exception),
                    None => drop(jobs.remove(index)),
                }
                delta.exceptions.push(ExceptionChange { entry, handler, index, exception });
            }
        }
    }

    fn report(&mut self, dice: &mut Dice, delta: &mut Delta) {
        for handler in 0..self.jobs.len() as u16 {
            let kept = self.outputs.entry((self.entry, handler)).or_default();
            let mut items = Vec::new();
            for _ in dice.some(3) {
                let (index, output) = (dice.roll() >> 11, json(format!("[{}]", dice.roll())));
                kept.insert(index, output.clone());
                items.push((index, output));
            }
            delta.outputs.push(OutputPage { entry: self.entry, handler, items });
        }
        for _ in dice.some(2) {
            self.failures.push(self.failures.len() as u64);
            delta.failures.push(failure(self.failures.len() as u64 - 1));
        }
        for _ in dice.some(2) {
            self.events += 1;
            delta.history.push(event(self.events));
        }
        if dice.one_in(10) {
            self.output = Some(json(dice.roll().to_string()));
            delta.output = self.output.clone();
        }
    }

    fn effects(&mut self, dice: &mut Dice) -> (Vec<u8>, Vec<u64>) {
        let mut published: Vec<u64> = self.outbox.keys().copied().filter(|_| dice.one_in(2)).collect();
        published.extend(dice.one_in(5).then_some(1_000_000));
        let effects: Vec<u8> = dice.some(5).map(|byte| byte as u8).collect();
        self.outbox.retain(|version, _| !published.contains(version));
        if !effects.is_empty() {
            self.outbox.insert(self.version, effects.clone());
        }
        (effects, published)
    }

    /// Whether the store holds just this.
    async fn compare(&self, store: &dyn Store) {
        let stored = loaded(store, self.run).await;
        assert_eq!((stored.version, stored.head), (self.version, format!("head {}", self.version).into_bytes()));
        let jobs: Vec<_> = stored
            .bits
            .into_iter()
            .zip(stored.exceptions)
            .map(|(bits, exceptions)| JobSet::from_parts(Bitmap::from_bytes(bits), exceptions))
            .collect();
        assert_eq!(jobs, self.jobs);
        assert_eq!(stored.outbox, self.outbox.clone().into_iter().collect::<Vec<_>>());
        let shards = [self.run.shard()];
        let found = store.unpublished(&shards, 10).await.unwrap().contains(&self.run);
        assert_eq!(found, !self.outbox.is_empty());
        let found = store.awaiting_worker(&shards, 10).await.unwrap().contains(&self.run);
        assert_eq!(found, self.index.awaits_worker);
        assert_eq!(store.next_due(&shards).await.unwrap(), self.index.wake_at);
    }

    /// Whether the store holds just this of what is not loaded with the run.
    async fn compare_payloads(&self, store: &dyn Store) {
        assert_eq!(store.data(self.run).await.unwrap(), self.data);
        assert_eq!(store.output(self.run).await.unwrap(), self.output);
        for (&(entry, handler), outputs) in &self.outputs {
            let stored = store.outputs(self.run, entry, handler, 1 << 20).await.unwrap();
            assert_eq!(stored, outputs.clone().into_iter().collect::<Vec<_>>());
        }
        let history: Vec<_> = (1..=self.events).map(event).collect();
        assert_eq!(store.history(self.run, 0, 10_000).await.unwrap(), history);
        let failures: Vec<_> = self.failures.iter().copied().map(failure).collect();
        assert_eq!(store.failures(self.run, 0, 10_000).await.unwrap(), failures);
    }
}

/// Tells the seed of a story that fails.
struct Telling(u64);

impl Drop for Telling {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the story of seed {} failed", self.0);
        }
    }
}

pub(super) async fn random_stories_end_as_the_model_says(subject: SharedSubject) {
    let handles = [subject.store(), subject.twin()];
    let traces = subject.traces().await;
    for seed in 0..STORIES {
        let _telling = Telling(seed);
        let (mut dice, mut model) = (Dice(seed), Model::new(run(seed)));
        for _ in 0..STEPS {
            let store = &*handles[dice.below(2) as usize];
            if model.version > 0 && dice.one_in(5) {
                let mut rival = model.clone();
                let late = Commit { expect: dice.below(model.version), ..rival.step(&mut dice) };
                assert!(matches!(store.commit(vec![late]).await[0], Err(CommitError::Conflict)));
            }
            let change = model.step(&mut dice);
            let results = store.commit(vec![change]).await;
            assert!(results[0].is_ok(), "{results:?}");
            model.compare(store).await;
        }
        model.compare_payloads(&*handles[0]).await;
        let (made, version, handlers) = (model.run.shard().0.into(), model.version, model.jobs.len() as u16);
        let end = Commit { entry: model.entry, handlers, index: ended(made, 5), ..commit(model.run, version) };
        done(&*handles[0], end).await;
        assert!(handles[1].remove_run(model.run, at(6)).await.unwrap());
        assert_eq!(subject.traces().await, traces);
    }
}
