//! How many jobs of a handler run at once, and whose turn it is. Knows nothing of messages.

use std::sync::Arc;

use tokio::sync::{Mutex, MutexGuard, OwnedSemaphorePermit, Semaphore};

/// The slots of one handler in one worker.
#[derive(Debug)]
pub(crate) struct Slots {
    size: u32,
    free: Arc<Semaphore>,
    turn: Mutex<()>,
}

/// A slot that is taken; free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    _permit: OwnedSemaphorePermit,
}

impl Slots {
    pub(crate) fn new(size: u32) -> Self {
        Self { size, free: Arc::new(Semaphore::new(size as usize)), turn: Mutex::new(()) }
    }

    pub(crate) fn size(&self) -> u32 {
        self.size
    }

    pub(crate) fn in_flight(&self) -> u32 {
        self.size.saturating_sub(u32::try_from(self.free.available_permits()).unwrap_or(self.size))
    }

    /// Waits until the packs that came earlier have started their jobs. Without turns, packs would take slots
    /// alternately, and all of them would finish late instead of one after the other.
    pub(crate) async fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// A free slot, if there is one now.
    pub(crate) fn try_take(&self) -> Option<Slot> {
        Arc::clone(&self.free).try_acquire_owned().ok().map(|permit| Slot { _permit: permit })
    }

    /// Waits for a free slot.
    pub(crate) async fn take(&self) -> Slot {
        let permit = Arc::clone(&self.free).acquire_owned().await.expect("the semaphore is never closed");
        Slot { _permit: permit }
    }
}
