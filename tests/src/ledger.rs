//! What handlers did, as they themselves wrote it down: the one thing a test may believe about executions.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Counts what happened under a name. Cheap to clone; all clones are one ledger.
#[derive(Clone, Debug, Default)]
pub struct Ledger(Arc<Mutex<BTreeMap<String, u64>>>);

impl Ledger {
    /// Writes down that `what` happened once more; how often it has happened now.
    pub fn note(&self, what: impl Into<String>) -> u64 {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = entries.entry(what.into()).or_default();
        *count += 1;
        *count
    }

    /// How often `what` happened.
    pub fn count(&self, what: &str) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(what).copied().unwrap_or(0)
    }

    /// Everything whose name begins with `prefix`, and how often it happened.
    pub fn under(&self, prefix: &str) -> Vec<(String, u64)> {
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let under = entries.iter().filter(|(what, _)| what.starts_with(prefix));
        under.map(|(what, count)| (what.clone(), *count)).collect()
    }
}
