//! Probes: sent through a job queue and back, to learn that what was put on the queue before is no longer on it.

use serde::{Deserialize, Serialize};

use super::{Batch, Body};
use crate::id::{EntryNo, HandlerName, Nonce, RunId};
use crate::time::Timestamp;

/// Probes on their way through a job queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Probes {
    /// The probes.
    pub items: Vec<Probe>,
}

impl Body for Probes {
    const KIND: &'static str = "Probe";
}

impl Batch for Probes {
    type Item = Probe;
    const ITEMS: &'static str = "items";

    fn into_items(self) -> Vec<Probe> {
        self.items
    }
}

/// Probes on their way back, to the coordinator queue they name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProbesReturned {
    /// The probes.
    pub items: Vec<Probe>,
}

impl Body for ProbesReturned {
    const KIND: &'static str = "ProbeReturned";
}

impl Batch for ProbesReturned {
    type Item = Probe;
    const ITEMS: &'static str = "items";

    fn into_items(self) -> Vec<Probe> {
        self.items
    }
}

/// Asks whoever reads a job queue to send it back. Whoever takes it has taken, or seen taken, all that was on the queue
/// before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// The run that waits for jobs on this queue.
    pub run: RunId,
    /// The entry.
    pub entry: EntryNo,
    /// Its nonce.
    pub nonce: Nonce,
    /// The handler.
    pub handler: HandlerName,
    /// The coordinator queue that it goes back to.
    pub coordinator: u16,
    /// When it was first sent; names it.
    pub sent_at: Timestamp,
}
