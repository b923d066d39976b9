//! What a store would hold of one run: deltas folded in, as a commit of the store port does. Loading gives the run
//! back; more than a live run needs is never kept.

use std::collections::BTreeMap;

use super::{Broken, Check};
use crate::id::{EntryNo, JobIndex};
use crate::payload::Payload;
use crate::run::audit::ensure;
use crate::run::{Bitmap, Delta, Effect, Exception, FailureRecord, Head, HistoryEvent, JobSet, Run};

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

    /// The run, as a coordinator would load it: head and exceptions go through JSON.
    ///
    /// # Errors
    /// When what was written cannot be read, or reads as something else.
    pub fn load(&self) -> Result<Run, Broken> {
        let damaged = |words: String| Broken { invariant: "durable", words };
        let head = self.head.as_ref().ok_or_else(|| damaged("nothing was committed".into()))?;
        let read = Head::from_json(&head.to_json()).map_err(damaged)?;
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
            let exceptions = exceptions.map(|(&(_, _, index), &exception)| (index, exception));
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
}
