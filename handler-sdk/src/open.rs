//! The attempts that this worker holds: taken from the queue, and their outcomes not yet confirmed.
//! Says when a message may be acknowledged, what an order to cancel reaches, and which job came twice.
//!
//! Invariant: a [`Ticket`] is settled once for every job of its message, and only when that job's outcome is confirmed
//! or no longer wanted. What is dropped unsettled is never acknowledged.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use phasework_broker::DeliveryTag;
use phasework_workflows::id::{Attempt, EntryNo, HandlerName, JobIndex, Nonce, RunId};
use phasework_workflows::message::job::{CanceledEntry, JobGroup};
use tokio::sync::mpsc::UnboundedSender;
use tokio_util::sync::CancellationToken;

/// A message that waits for its acknowledgement.
#[derive(Debug)]
pub(crate) struct Ticket {
    tag: DeliveryTag,
    unsettled: AtomicUsize,
    settled: UnboundedSender<DeliveryTag>,
}

impl Ticket {
    /// A ticket with one count, which belongs to whoever takes the message apart.
    pub(crate) fn new(tag: DeliveryTag, settled: UnboundedSender<DeliveryTag>) -> Arc<Self> {
        Arc::new(Self { tag, unsettled: AtomicUsize::new(1), settled })
    }

    /// One more job to wait for.
    pub(crate) fn add(&self) {
        self.unsettled.fetch_add(1, Ordering::Relaxed);
    }

    /// One job less to wait for; after the last the message is acknowledged.
    pub(crate) fn settle(&self) {
        if self.unsettled.fetch_sub(1, Ordering::AcqRel) == 1 {
            // Nobody listens any more when the worker leaves at once; the message then comes again.
            self.settled.send(self.tag).ok();
        }
    }
}

/// Names an attempt.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    run: RunId,
    entry: EntryNo,
    handler: HandlerName,
    index: JobIndex,
    attempt: Attempt,
    nonce: Nonce,
}

#[derive(Debug)]
struct Held {
    canceled: CancellationToken,
    tickets: Vec<Arc<Ticket>>,
}

/// Every attempt that this worker holds.
#[derive(Debug, Default)]
pub(crate) struct Open {
    attempts: Mutex<BTreeMap<Key, Held>>,
}

impl Open {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Held>> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner) // no panic can leave the map half changed
    }

    /// Takes an attempt in. `None` when it is held already: the message came twice, and is settled with the first.
    pub(crate) fn begin(
        self: &Arc<Self>,
        group: &JobGroup,
        index: JobIndex,
        attempt: Attempt,
        ticket: &Arc<Ticket>,
    ) -> Option<(Hold, CancellationToken)> {
        let key = Key::of(group, index, attempt);
        ticket.add();
        match self.lock().entry(key.clone()) {
            Entry::Occupied(mut held) => {
                held.get_mut().tickets.push(Arc::clone(ticket));
                None
            }
            Entry::Vacant(place) => {
                let canceled = CancellationToken::new();
                place.insert(Held { canceled: canceled.clone(), tickets: vec![Arc::clone(ticket)] });
                Some((Hold::Attempt { open: Arc::clone(self), key: Some(key) }, canceled))
            }
        }
    }

    /// If this attempt is held, settles `ticket` with it.
    pub(crate) fn join(&self, group: &JobGroup, index: JobIndex, attempt: Attempt, ticket: &Arc<Ticket>) -> bool {
        match self.lock().get_mut(&Key::of(group, index, attempt)) {
            Some(held) => {
                ticket.add();
                held.tickets.push(Arc::clone(ticket));
                true
            }
            None => false,
        }
    }

    /// Cancels the attempts that no longer matter, and says how many those were.
    pub(crate) fn cancel(&self, no_longer_matters: &CanceledEntry) -> usize {
        let attempts = self.lock();
        let reached = attempts
            .iter()
            .filter(|(key, _)| key.run == no_longer_matters.run && key.entry <= no_longer_matters.entry)
            .filter(|(_, held)| !held.canceled.is_cancelled());
        reached.map(|(_, held)| held.canceled.cancel()).count()
    }
}

impl Key {
    fn of(group: &JobGroup, index: JobIndex, attempt: Attempt) -> Self {
        let JobGroup { run, entry, nonce, .. } = *group;
        Self { run, entry, handler: group.handler.clone(), index, attempt, nonce }
    }
}

/// One job's claim on the acknowledgement of its message. Dropped unsettled, it lets go of the attempt and leaves the
/// message unacknowledged.
#[derive(Debug)]
pub(crate) enum Hold {
    /// An attempt that was taken in.
    Attempt {
        /// Where it is listed.
        open: Arc<Open>,
        /// Its name, until it is settled.
        key: Option<Key>,
    },
    /// A job that is handed back at once.
    Message(Arc<Ticket>),
}

impl Hold {
    /// A claim for a job that is not taken in.
    pub(crate) fn on(ticket: &Arc<Ticket>) -> Self {
        ticket.add();
        Self::Message(Arc::clone(ticket))
    }

    /// The outcome is confirmed, or nobody wants it.
    pub(crate) fn settle(mut self) {
        match &mut self {
            Self::Message(ticket) => ticket.settle(),
            Self::Attempt { open, key } => {
                let held = key.take().and_then(|key| open.lock().remove(&key));
                held.iter().flat_map(|held| &held.tickets).for_each(|ticket| ticket.settle());
            }
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Self::Attempt { open, key: Some(key) } = self {
            open.lock().remove(key);
        }
    }
}
