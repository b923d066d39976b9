//! What a store would hold of one run: deltas folded in, as a commit of the store port does. Loading gives the run
//! back; more than a live run needs is never kept.

use std::collections::{BTreeMap, BTreeSet};

use super::{Broken, Check};
use crate::id::{EntryNo, JobIndex, Nonce};
use crate::payload::Payload;
use crate::run::audit::ensure;
use crate::run::{
    Bitmap, Delta, Effect, Enumeration, Event, Exception, FailureRecord, Head, HistoryEvent, JobSet, Run,
};

/// One run as a store would hold it.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Stored {
    /// How many commits there were.
    pub version: u64,
    /// The head; none before the first commit.
    pub head: Option<Head>,
    /// Bitmaps by entry and handler.
    pub bits: BTreeMap<(EntryNo, u16), Vec<u8>>,
    /// Exceptions by entry, handler and job.
    pub exceptions: BTreeMap<(EntryNo, u16, JobIndex), Exception>,
    /// Outputs by entry, handler and job.
    pub outputs: BTreeMap<(EntryNo, u16, JobIndex), Payload>,
    /// Lists that handlers make themselves, by entry, handler and what they are stored under.
    pub lists: BTreeMap<(EntryNo, u16, Nonce), BTreeMap<JobIndex, Payload>>,
    /// Those of them that were written ahead of a commit that never came.
    pub orphans: BTreeSet<(EntryNo, u16, Nonce)>,
    /// Failures for good, in the order in which they came.
    pub failures: Vec<FailureRecord>,
    /// What happened.
    pub history: Vec<HistoryEvent>,
    /// The run's result.
    pub output: Option<Payload>,
    /// Effects that are not known to be published, by the version that asked for them.
    pub outbox: Vec<(u64, Vec<Effect>)>,
}

impl Stored {
    /// Takes a commit: first what is written, then what goes.
    ///
    /// # Errors
    /// When something is written twice that is written once.
    pub fn commit(&mut self, head: &Head, delta: Delta, effects: Vec<Effect>) -> Check {
        self.version += 1;
        self.head = Some(head.clone());
        for patch in delta.bits {
            let bits = self.bits.entry((patch.entry, patch.handler)).or_default();
            let offset = usize::try_from(patch.offset).expect("a small bitmap");
            bits.resize(bits.len().max(offset + patch.bytes.len()), 0);
            bits[offset..offset + patch.bytes.len()].copy_from_slice(&patch.bytes);
        }
        for change in delta.exceptions {
            let key = (change.entry, change.handler, change.index);
            match change.exception {
                Some(exception) => self.exceptions.insert(key, exception),
                None => self.exceptions.remove(&key),
            };
        }
        for page in delta.outputs {
            for (index, output) in page.items {
                let earlier = self.outputs.insert((page.entry, page.handler, index), output);
                ensure(earlier.is_none(), "counted-once", || format!("job {index} has two outputs"))?;
            }
        }
        for failure in delta.failures {
            let is_same = |other: &FailureRecord| {
                let job = (other.entry, other.handler, other.index) == (failure.entry, failure.handler, failure.index);
                job && other.attempt == failure.attempt
            };
            ensure(!self.failures.iter().any(is_same), "counted-once", || format!("{failure:?} is there already"))?;
            self.failures.push(failure);
        }
        self.history.extend(delta.history);
        for gone in delta.forget_jobs {
            self.bits.retain(|&(entry, _), _| entry != gone.entry);
            self.exceptions.retain(|&(entry, ..), _| entry != gone.entry);
            self.lists.retain(|&(entry, ..), _| entry > gone.entry);
        }
        for gone in delta.forget_inputs {
            self.lists.remove(&(gone.entry, gone.handler, gone.nonce));
        }
        for gone in delta.forget_outputs {
            self.outputs.retain(|&(entry, ..), _| entry != gone.entry);
        }
        self.output = delta.output.or(self.output.take());
        if !effects.is_empty() {
            self.outbox.push((self.version, effects));
        }
        Ok(())
    }

    /// Writes a page of a list that was taken, ahead of the commit that says so.
    pub(super) fn take_page(&mut self, head: &Head, event: &Event) {
        let Event::JobsListed { entry, handler, first, items: Ok(items), .. } = event else { return };
        let Some((handler, place)) = head.entry.handlers.iter().zip(0_u16..).find(|(it, _)| it.name == *handler) else {
            return;
        };
        let Some(list) = handler.enumeration.and_then(|enumeration| enumeration.list) else { return };
        self.lists.entry((*entry, place, list)).or_default().extend((*first..).zip(items.iter().cloned()));
    }

    /// A coordinator died between writing a page and its commit: nobody knows of it, and it goes with its entry.
    pub(super) fn note_orphans(&mut self) {
        let Some(head) = &self.head else { return };
        self.orphans.extend(self.lists.keys().filter(|&&key| !is_listed(head, key)));
    }

    /// The run, as a coordinator would load it: head and exceptions go through JSON.
    ///
    /// # Errors
    /// When what was written cannot be read, or reads as something else.
    pub fn load(&self) -> Result<Run, Broken> {
        let damaged = |words: String| Broken { invariant: "durable", words };
        let head = self.head.as_ref().ok_or_else(|| damaged("nothing was committed".into()))?;
        let read = Head::from_json(&head.to_json()).map_err(|error| damaged(error.to_string()))?;
        ensure(read == *head, "durable", || format!("written {head:?}\nread {read:?}"))?;
        for (key, exception) in &self.exceptions {
            let json = serde_json::to_vec(exception).expect("an exception is plain data");
            let read = serde_json::from_slice::<Exception>(&json).map_err(|error| damaged(error.to_string()))?;
            ensure(read == *exception, "durable", || format!("{key:?}: written {exception:?}, read {read:?}"))?;
        }
        Ok(self.fold(head))
    }

    /// The run with `head`, without the way through JSON.
    fn fold(&self, head: &Head) -> Run {
        let entry = head.entry.number;
        let jobs = (0..head.entry.handlers.len()).map(|place| {
            let handler = place as u16;
            let bits = self.bits.get(&(entry, handler)).cloned().unwrap_or_default();
            let exceptions = self.exceptions.range((entry, handler, 0)..=(entry, handler, u64::MAX));
            let exceptions = exceptions.map(|(&(_, _, index), exception)| (index, exception.clone()));
            JobSet::from_parts(Bitmap::from_bytes(bits), exceptions)
        });
        Run::from_parts(head.clone(), jobs.collect())
    }

    /// Checks that it gives `run` back, and holds no more than that run needs.
    ///
    /// # Errors
    /// When it does not.
    pub fn check(&self, run: &Run) -> Check {
        let loaded = self.fold(self.head.as_ref().unwrap_or(&run.head));
        ensure(loaded == *run, "durable", || format!("in memory {run:?}\nbut stored {loaded:?}"))?;
        let head = &run.head;
        let is_kept = |entry: EntryNo| entry == head.entry.number && !head.state.is_ended();
        let (bits, exceptions) = (self.bits.keys().map(|key| key.0), self.exceptions.keys().map(|key| key.0));
        for entry in bits.chain(exceptions) {
            ensure(is_kept(entry), "forgotten", || format!("jobs of entry {entry} are kept"))?;
        }
        self.check_lists(head)?;
        let has_outputs = |entry| entry == head.entry.number || head.outputs.iter().any(|kept| kept.entry == entry);
        for &(entry, ..) in self.outputs.keys() {
            ensure(has_outputs(entry), "forgotten", || format!("outputs of entry {entry} are kept"))?;
        }
        let places = head.entry.handlers.iter().zip(0_u16..);
        for (handler, place) in places {
            let entry = head.entry.number;
            let stored = self.outputs.range((entry, place, 0)..=(entry, place, u64::MAX)).count() as u64;
            ensure(stored == handler.outputs, "counted-once", || {
                format!("{} has {stored} outputs, and counts {}", handler.name, handler.outputs)
            })?;
        }
        ensure(self.output.is_some() == head.has_output, "durable", || "the result and `has_output` differ".into())
    }

    /// The lists that there are, are those of the current entry, and hold what they should, each of one maker.
    fn check_lists(&self, head: &Head) -> Check {
        for &key in self.lists.keys() {
            let is_known = is_listed(head, key) || (key.0 == head.entry.number && self.orphans.contains(&key));
            let is_kept = is_known && !head.state.is_ended();
            ensure(is_kept, "forgotten", || format!("the list {key:?} is kept"))?;
        }
        for (handler, place) in head.entry.handlers.iter().zip(0_u16..).filter(|_| !head.state.is_ended()) {
            let Some(Enumeration { list: Some(list), jobs, .. }) = handler.enumeration else { continue };
            let stored = self.lists.get(&(head.entry.number, place, list));
            let item = |index: JobIndex| stored?.get(&index)?.read::<(u64, JobIndex)>().ok();
            let maker = item(0).map(|(maker, _)| maker);
            let is_own = |index: JobIndex| item(index).is_some_and(|it| (Some(it.0), it.1) == (maker, index));
            let lacking = (0..jobs).find(|&index| !is_own(index));
            ensure(lacking.is_none(), "one-enumeration", || format!("{} has no job {lacking:?}", handler.name))?;
        }
        Ok(())
    }
}

fn is_listed(head: &Head, (entry, place, list): (EntryNo, u16, Nonce)) -> bool {
    let handler = head.entry.handlers.get(usize::from(place)).filter(|_| head.entry.number == entry);
    handler.and_then(|handler| handler.enumeration).is_some_and(|it| it.list == Some(list))
}
