//! What all simulated programs share: the broker and the store as they are now, and what is wrong with them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use phasework_broker::memory::MemoryBroker;
use phasework_store::SharedStore;
use tokio::task::coop::consume_budget;
use tokio::time::{Instant, sleep};

use super::breaks::Break;
use super::fault::{Fault, Faults};
use super::kept::Kept;
use super::process::Process;
use super::witness::Witness;

/// What is wrong with broker and store for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    BrokerAway,
    PublishersBlocked,
    StoreAway,
    StoreFull,
}

/// Broker, store, and what is wrong with them.
#[derive(Debug)]
pub(super) struct Hub {
    parts: Mutex<Parts>,
    pub(super) faults: Faults,
    pub(super) witness: Arc<Witness>,
    pub(super) broken: Option<Break>,
    chance: Mutex<Rng>,
    /// Calls that did what they should, and others.
    pub(super) calls: (AtomicU64, AtomicU64),
}

#[derive(Debug)]
struct Parts {
    broker: Arc<MemoryBroker>,
    /// How many brokers there were before this one.
    brokers: u64,
    store: Kept,
    /// How many timelines the store had before this one.
    rewinds: u64,
    backup: Option<Kept>,
    troubles: Vec<Trouble>,
}

impl Hub {
    pub(super) fn new(
        store: Kept,
        faults: Faults,
        witness: Arc<Witness>,
        broken: Option<Break>,
        chance: Rng,
    ) -> Arc<Self> {
        let parts = Parts {
            broker: Arc::new(MemoryBroker::new()),
            brokers: 0,
            store,
            rewinds: 0,
            backup: None,
            troubles: Vec::new(),
        };
        let (parts, chance) = (Mutex::new(parts), Mutex::new(chance));
        Arc::new(Self { parts, faults, witness, broken, chance, calls: <_>::default() })
    }

    fn parts(&self) -> MutexGuard<'_, Parts> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The broker as it is now, and how many there were before.
    pub(super) fn broker(&self) -> (Arc<MemoryBroker>, u64) {
        let parts = self.parts();
        (Arc::clone(&parts.broker), parts.brokers)
    }

    /// The store as it is now.
    pub(super) fn store(&self) -> SharedStore {
        self.parts().store.store()
    }

    /// How often the store went back.
    pub(super) fn rewinds(&self) -> u64 {
        self.parts().rewinds
    }

    /// Puts an empty broker in the place of the one there is.
    pub(super) fn lose_broker(&self) {
        let mut parts = self.parts();
        parts.broker = Arc::new(MemoryBroker::new());
        parts.brokers += 1;
    }

    /// Keeps the store as it is now.
    pub(super) async fn back_up(&self) {
        let kept = self.parts().store.clone();
        let copy = kept.copy().await;
        self.parts().backup = Some(copy);
    }

    /// Brings the store back as it was when it was backed up; whether it ever was.
    pub(super) fn rewind_store(&self) -> bool {
        let mut parts = self.parts();
        let Some(backup) = parts.backup.take() else { return false };
        parts.store = backup;
        parts.rewinds += 1;
        true
    }

    /// Puts an empty store in the place of the one there is.
    pub(super) fn empty_store(&self) {
        let mut parts = self.parts();
        parts.store = parts.store.empty();
        parts.rewinds += 1;
    }

    pub(super) fn begin(&self, trouble: Trouble) {
        self.parts().troubles.push(trouble);
    }

    pub(super) fn end(&self, trouble: Trouble) {
        let mut parts = self.parts();
        if let Some(place) = parts.troubles.iter().position(|other| *other == trouble) {
            parts.troubles.remove(place);
        }
    }

    pub(super) fn end_all(&self) {
        self.parts().troubles.clear();
    }

    pub(super) fn has(&self, trouble: Trouble) -> bool {
        self.parts().troubles.contains(&trouble)
    }

    /// A number below `limit`.
    pub(super) fn below(&self, limit: u64) -> u64 {
        self.chance.lock().unwrap_or_else(PoisonError::into_inner).u64(0..limit.max(1))
    }

    /// Begins a call of a program: it may take long, and the program may die before it is made.
    pub(super) async fn before_call(&self, process: &Arc<Process>) {
        // Nothing here waits, so a loop of calls would never let anybody else do anything.
        consume_budget().await;
        self.witness.calls();
        process.gate().await;
        if self.faults.strikes(Fault::Slow) {
            sleep(Duration::from_millis(20 + self.below(4000))).await;
            process.gate().await;
        }
        self.may_die(process).await;
    }

    /// Ends a call of a program: it may die before it learns what came of it.
    pub(super) async fn after_call(&self, process: &Arc<Process>, was_done: bool) {
        self.may_die(process).await;
        process.gate().await;
        let (done, failed) = &self.calls;
        if was_done { done } else { failed }.fetch_add(1, Ordering::Relaxed);
    }

    async fn may_die(&self, process: &Arc<Process>) {
        let fault = match process.role {
            super::process::Role::Coordinator => Fault::CoordinatorDies,
            super::process::Role::Worker => Fault::WorkerDies,
        };
        if self.faults.strikes(fault) {
            process.die().await;
        }
    }

    /// Waits until publishers are served, but not for ever. Whether they are.
    pub(super) async fn publishers_served(&self) -> bool {
        let give_up = Instant::now() + Duration::from_secs(10);
        while self.has(Trouble::PublishersBlocked) && Instant::now() < give_up {
            sleep(Duration::from_millis(200)).await;
        }
        !self.has(Trouble::PublishersBlocked)
    }
}
