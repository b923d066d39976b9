//! The attempts that this worker holds: taken from the queue, and their outcomes not yet confirmed. Says when a message
//! may be acknowledged, what an order to cancel reaches, which job came twice, and which ones need a lease.
//!
//! Invariant: a [`Ticket`] is settled once for every job of its message, and only when that job is leased, or its
//! outcome is confirmed. What is dropped unsettled is never acknowledged.
//!
//! A worker may die at any moment; who has the job then?
//!
//! - Before it has a lease: its message, which was not acknowledged. It comes again, to another worker, who hands it
//!   back as *redelivered*, and the coordinator gives it a new attempt.
//! - Once the coordinator has granted the lease, and before its message is acknowledged: both. The message comes again
//!   and is handed back, which changes nothing while the lease lasts; the lease runs out.
//! - From the acknowledgement on: the lease alone. It runs out. (A coordinator whose store lost it finds out by a probe
//!   that the job is neither in its queue nor leased.)
//!
//! A lease that could not be renewed in time is no reason to stop: only the coordinator knows whether it gave the job
//! another attempt. If it did, it answers the next renewal without a lease, and what was done counts for nothing.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use phasework_workflows::id::{Attempt, EntryNo, HandlerName, JobIndex, Nonce, RunId};
use phasework_workflows::message::job::{CanceledEntry, JobGroup};
use phasework_workflows::message::lease::{LeaseWanted, LeasesAnswered};
use phasework_workflows::message::listing::{LISTING, ListAnswered};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::lease::{Lease, Progress};
use crate::list::Heard;
use crate::ticket::Ticket;

/// Names an attempt.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) run: RunId,
    pub(crate) entry: EntryNo,
    pub(crate) nonce: Nonce,
    pub(crate) handler: HandlerName,
    index: JobIndex,
    attempt: Attempt,
}

#[derive(Debug)]
struct Held {
    coordinator: u16,
    canceled: CancellationToken,
    progress: Arc<Progress>,
    lease: Lease,
    /// Who makes a list wants to know what the owner says to its pages.
    listed: Option<watch::Sender<Heard>>,
    /// The number that was drawn for that list.
    list: Option<Nonce>,
    /// Messages that wait for the outcome. None once it is leased.
    tickets: Vec<Arc<Ticket>>,
}

/// Every attempt that this worker holds.
#[derive(Debug)]
pub(crate) struct Open {
    attempts: Mutex<BTreeMap<Key, Held>>,
    lease_after: Duration,
    progressed: Arc<Notify>,
}

/// An attempt that was taken in.
pub(crate) struct Begun {
    pub(crate) hold: Hold,
    /// Canceled when it no longer matters.
    pub(crate) canceled: CancellationToken,
    /// How far its handler says it is.
    pub(crate) progress: Arc<Progress>,
    /// Of an attempt at a list: what the owner says to its pages.
    pub(crate) heard: Option<watch::Receiver<Heard>>,
}

/// A lease to be asked for, or renewed.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// The coordinator queue to ask.
    pub(crate) coordinator: u16,
    pub(crate) key: Key,
    pub(crate) lease: LeaseWanted,
}

impl Wanted {
    /// Puts together what goes together.
    pub(crate) fn order(&self) -> (u16, &Key) {
        (self.coordinator, &self.key)
    }

    /// Whether it is of the same entry and handler.
    pub(crate) fn goes_with(&self, other: &Self) -> bool {
        let of = |key: &Key| (key.run, key.entry, key.nonce);
        of(&self.key) == of(&other.key) && self.key.handler == other.key.handler
    }
}

impl Open {
    /// Nothing yet. What is held for longer than `lease_after` needs a lease.
    pub(crate) fn new(lease_after: Duration) -> Arc<Self> {
        Arc::new(Self { attempts: Mutex::default(), lease_after, progressed: Arc::default() })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Held>> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner) // no panic can leave the map half changed
    }

    /// Takes an attempt in, `now`. `None` when it is held already: the message came twice, and is settled with the
    /// first.
    pub(crate) fn begin(
        self: &Arc<Self>,
        group: &JobGroup,
        index: JobIndex,
        attempt: Attempt,
        ticket: &Arc<Ticket>,
        now: Instant,
    ) -> Option<Begun> {
        let key = Key::of(group, index, attempt);
        match self.lock().entry(key.clone()) {
            Entry::Occupied(mut held) => {
                held.get_mut().join(ticket);
                None
            }
            Entry::Vacant(place) => {
                ticket.add();
                let canceled = CancellationToken::new();
                let progress = Progress::new(Arc::clone(&self.progressed));
                let (listed, heard) = group.enumerate.then(|| watch::channel(Heard::default())).unzip();
                place.insert(Held {
                    coordinator: group.coordinator,
                    canceled: canceled.clone(),
                    progress: Arc::clone(&progress),
                    lease: Lease::wanted(now + self.lease_after),
                    listed,
                    list: None,
                    tickets: vec![Arc::clone(ticket)],
                });
                Some(Begun {
                    hold: Hold::Attempt { open: Arc::clone(self), key: Some(key) },
                    canceled,
                    progress,
                    heard,
                })
            }
        }
    }

    /// If this attempt is held, settles `ticket` with it.
    pub(crate) fn join(&self, group: &JobGroup, index: JobIndex, attempt: Attempt, ticket: &Arc<Ticket>) -> bool {
        let mut attempts = self.lock();
        let held = attempts.get_mut(&Key::of(group, index, attempt));
        held.map(|held| held.join(ticket)).is_some()
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

    /// The leases to ask for now, and when to look again. What is taken in after this is not due before that.
    pub(crate) fn due(&self, now: Instant) -> (Vec<Wanted>, Instant) {
        let (mut wanted, mut next) = (Vec::new(), now + self.lease_after);
        // One that is canceled is about to be handed back, and one whose handler has ended to be reported.
        for (key, held) in self.lock().iter_mut().filter(|(_, held)| !held.canceled.is_cancelled()) {
            let said = held.progress.said();
            if held.lease.due(said) <= now {
                held.lease.ask(now, said);
                let (progress, details) = (said.percent, held.progress.left());
                let lease = LeaseWanted { index: key.index, attempt: key.attempt, progress, details };
                wanted.push(Wanted { coordinator: held.coordinator, key: key.clone(), lease });
            }
            next = next.min(held.lease.due(said));
        }
        (wanted, next)
    }

    /// Waits until the handler of a leased job says that it got on.
    pub(crate) async fn progressed(&self) {
        self.progressed.notified().await;
    }

    /// Leases were granted, or not. An answer about what is not held any more, as it was reported meanwhile, says
    /// nothing.
    pub(crate) fn answered(&self, answered: &LeasesAnswered, now: Instant) {
        let mut leased = Vec::new();
        let mut attempts = self.lock();
        for answer in &answered.answers {
            let Some(held) = attempts.get_mut(&Key::answered(answered, answer.index, answer.attempt)) else { continue };
            match answer.leased {
                Some(lasts) => {
                    held.lease.grant(lasts.into(), now);
                    held.progress.leased();
                    leased.append(&mut held.tickets);
                }
                None => held.canceled.cancel(),
            }
        }
        drop(attempts);
        leased.iter().for_each(|ticket| ticket.settle());
    }
}

impl Open {
    /// An owner has answered to a page of a list. What it says of another list than the one that is made says nothing.
    pub(crate) fn listed(&self, answered: &ListAnswered) {
        let ListAnswered { run, entry, nonce, attempt, list, other, .. } = *answered;
        let (handler, index) = (answered.handler.clone(), LISTING);
        let attempts = self.lock();
        let held = attempts.get(&Key { run, entry, nonce, handler, index, attempt });
        let Some(held) = held.filter(|held| held.list == Some(list)) else { return };
        let Some(to) = &held.listed else { return };
        match answered.listed {
            Some(listed) => to.send_modify(|heard| heard.stored(listed)),
            None => {
                to.send_modify(|heard| heard.stop(other));
                held.canceled.cancel();
            }
        }
    }
}

impl Held {
    /// A message that is settled with this attempt: at once, if that is leased.
    fn join(&mut self, ticket: &Arc<Ticket>) {
        if !self.lease.is_granted() {
            ticket.add();
            self.tickets.push(Arc::clone(ticket));
        }
    }
}

impl Key {
    fn of(group: &JobGroup, index: JobIndex, attempt: Attempt) -> Self {
        let JobGroup { run, entry, nonce, .. } = *group;
        Self { run, entry, nonce, handler: group.handler.clone(), index, attempt }
    }

    fn answered(answered: &LeasesAnswered, index: JobIndex, attempt: Attempt) -> Self {
        let LeasesAnswered { run, entry, nonce, .. } = *answered;
        Self { run, entry, nonce, handler: answered.handler.clone(), index, attempt }
    }
}

/// One job's claim on the acknowledgement of its message. Dropped unsettled, it lets go of the attempt: the message
/// stays unacknowledged, and a lease runs out.
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

    /// The attempt makes this list: answers that name it are meant for it.
    pub(crate) fn makes(&self, list: Nonce) {
        if let Self::Attempt { open, key: Some(key) } = self
            && let Some(held) = open.lock().get_mut(key)
        {
            held.list = Some(list);
        }
    }

    /// The outcome is confirmed.
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
