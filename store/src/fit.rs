//! What every store refuses before it writes anything: commits whose parts do not fit together.
//! Never looks at what is stored.

use phasework_workflows::id::RunId;

use crate::{Commit, StoreError};

/// The most bytes a bitmap has: what a Redis string holds, 4 billion jobs.
pub(crate) const MAX_BITMAP_BYTES: u64 = 512 * 1024 * 1024;

impl Commit {
    /// Whether the parts of this commit fit together.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`], and the text says what does not fit.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        let misfit = |what: String| Err(StoreError::Corrupt(format!("commit of run {}: {what}", self.run)));
        let delta = &self.delta;
        let patched = delta.bits.iter().map(|patch| (patch.entry, patch.handler));
        let excepted = delta.exceptions.iter().map(|change| (change.entry, change.handler));
        for (entry, handler) in patched.chain(excepted) {
            if entry == self.entry && handler >= self.handlers {
                return misfit(format!("entry {entry} has {} handlers, so no handler {handler}", self.handlers));
            }
        }
        if let Some(patch) =
            delta.bits.iter().find(|patch| patch.offset.saturating_add(patch.bytes.len() as u64) > MAX_BITMAP_BYTES)
        {
            return misfit(format!("a bitmap has at most {MAX_BITMAP_BYTES} bytes, and none at {}", patch.offset));
        }
        match delta.history.windows(2).find(|pair| pair[0].n + 1 != pair[1].n) {
            Some(pair) => misfit(format!("event {} follows event {}", pair[1].n, pair[0].n)),
            None => Ok(()),
        }
    }
}

/// The refusal of a commit whose history does not go on where the stored history stops.
pub(crate) fn history_gap(run: RunId, first: u64) -> StoreError {
    StoreError::Corrupt(format!("commit of run {run}: event {first} is not the next one of its stored history"))
}
