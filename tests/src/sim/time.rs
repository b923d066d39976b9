//! Time and ids of simulated programs. Time is that of the runtime, which stands still while anybody has something to
//! do; ids come from the seed.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use fastrand::Rng;
use phasework_workflows::id::IdSource;
use phasework_workflows::time::{Clock, Timestamp};
use tokio::time::Instant;
use uuid::Uuid;

/// When every simulation begins, in milliseconds since 1970.
const BEGIN: i64 = 1_800_000_000_000;

/// The clock of one program. It may be wrong.
#[derive(Clone, Debug)]
pub(super) struct SimClock {
    begin: Instant,
    /// By how many milliseconds it is wrong.
    error: Arc<AtomicI64>,
}

impl SimClock {
    pub(super) fn new(begin: Instant) -> Self {
        Self { begin, error: Arc::default() }
    }

    /// From now on it is wrong by so many milliseconds.
    pub(super) fn jump(&self, error: i64) {
        self.error.store(error, Ordering::Relaxed);
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        let passed = i64::try_from(self.begin.elapsed().as_millis()).unwrap_or(i64::MAX / 2);
        Timestamp::from_millis(BEGIN + passed + self.error.load(Ordering::Relaxed))
    }
}

/// Ids that follow from the seed.
#[derive(Debug)]
pub(super) struct SimIds(Mutex<State>);

#[derive(Debug)]
struct State {
    chance: Rng,
    drawn: u64,
}

impl SimIds {
    pub(super) fn new(chance: Rng) -> Self {
        Self(Mutex::new(State { chance, drawn: 0 }))
    }
}

impl IdSource for SimIds {
    fn uuid(&self) -> Uuid {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.drawn += 1;
        Uuid::from_u64_pair(state.drawn, state.chance.u64(..))
    }

    fn random(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).chance.u64(..)
    }
}
