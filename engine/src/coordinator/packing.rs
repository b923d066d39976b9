//! How many jobs go into one message. Packs are sized by how long jobs were seen to take, from one up: short jobs
//! travel together, because a message costs more than they do; long ones travel alone, so that no worker sits on
//! work that another could do.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use phasework_workflows::id::HandlerName;

/// How much work, in microseconds of one slot, a pack should hold.
const PACK_US: f64 = 10_000.0;

/// The most jobs in a pack.
pub(super) const MAX_PACK: usize = 100;

/// The most bytes in a pack of more than one job.
pub(super) const MAX_PACK_BYTES: usize = 256 * 1024;

/// How much one report counts against all before it.
const WEIGHT: f64 = 0.2;

/// What was learned about handlers, by all owners of a coordinator together. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Packing {
    /// The mean service time of a job in microseconds, the latest reports counting most.
    mean_us: Arc<Mutex<BTreeMap<HandlerName, f64>>>,
}

impl Packing {
    /// Learns from a report on `jobs` jobs that took `total_us` together.
    pub(super) fn learn(&self, handler: HandlerName, jobs: u64, total_us: u64) {
        if jobs == 0 {
            return;
        }
        let seen = total_us as f64 / jobs as f64;
        self.lock().entry(handler).and_modify(|mean| *mean += WEIGHT * (seen - *mean)).or_insert(seen);
    }

    /// How many jobs of a handler go into one message.
    pub(super) fn size(&self, handler: &HandlerName) -> usize {
        match self.lock().get(handler) {
            None => 1,
            Some(mean) => (PACK_US / mean.max(1.0)).clamp(1.0, MAX_PACK as f64) as usize,
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<HandlerName, f64>> {
        self.mean_us.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packs_follow_measured_service_time() {
        let handler = HandlerName::new("H").unwrap();
        let packing = Packing::default();
        assert_eq!(packing.size(&handler), 1, "nothing is known yet");
        packing.learn(handler.clone(), 10, 50);
        assert_eq!(packing.size(&handler), MAX_PACK);
        for _ in 0..50 {
            packing.learn(handler.clone(), 1, 2_000);
        }
        assert_eq!(packing.size(&handler), 5);
        for _ in 0..50 {
            packing.learn(handler.clone(), 4, 4_000_000);
        }
        assert_eq!(packing.size(&handler), 1);
        packing.learn(handler.clone(), 0, 5);
        assert_eq!(packing.size(&handler), 1);
    }
}
