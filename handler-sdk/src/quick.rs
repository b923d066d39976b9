//! Whether the jobs of a handler are so short of late that a task of their own would cost more than they do. Only says
//! so: what is quick is run all the same, and what was thought to be and is not gets its task after all.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Jobs that take less are quick. A task costs about a microsecond; beyond this, jobs of one pack had better run on all
/// processors than one after the other.
const QUICK_NS: u64 = 20_000;

/// More is not learned from one job, so that a slow one is forgotten in time.
const LONGEST: Duration = Duration::from_secs(1);

/// How much of the mean a new job makes: one in this many. One job that blocks for a millisecond is enough for the next
/// hundred to get tasks.
const WEIGHT: u64 = 32;

/// The mean service time of the jobs of one handler, the latest counting most.
#[derive(Debug)]
pub(crate) struct Quick {
    mean_ns: AtomicU64,
}

impl Quick {
    /// Nothing is known yet, so nothing is quick.
    pub(crate) const fn new() -> Self {
        Self { mean_ns: AtomicU64::new(QUICK_NS * WEIGHT) }
    }

    /// A job took so long. Of several that end at the same moment one may be missed, which does not matter.
    pub(crate) fn learn(&self, service: Duration) {
        let took = service.min(LONGEST).as_nanos() as u64;
        let mean = self.mean_ns.load(Ordering::Relaxed);
        self.mean_ns.store(mean - mean / WEIGHT + took / WEIGHT, Ordering::Relaxed);
    }

    pub(crate) fn is_quick(&self) -> bool {
        self.mean_ns.load(Ordering::Relaxed) < QUICK_NS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quick_is_what_was_quick_for_a_while_and_one_slow_job_is_enough() {
        let quick = Quick::new();
        assert!(!quick.is_quick(), "nothing is known yet");
        let after = |service: Duration| (1..).find(|_| (quick.learn(service), quick.is_quick()).1);
        let jobs = after(Duration::from_micros(1)).unwrap();
        assert!((50..500).contains(&jobs), "{jobs}");
        quick.learn(Duration::from_millis(1));
        assert!(!quick.is_quick());
        (0..99).for_each(|_| quick.learn(Duration::MAX));
        let jobs = after(Duration::ZERO).unwrap();
        assert!(jobs < 500, "a slow handler that has become quick is found to be after {jobs} jobs");
    }
}
