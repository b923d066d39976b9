//! What the errors of SQLite mean to whoever called.

use rusqlite::ffi::{
    SQLITE_IOERR_CORRUPTFS, SQLITE_IOERR_DATA, SQLITE_IOERR_READ, SQLITE_IOERR_SHMSIZE, SQLITE_IOERR_SHORT_READ,
    SQLITE_IOERR_WRITE,
};
use rusqlite::{Error, ErrorCode};

use crate::StoreError;

impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        let words = error.to_string();
        // Besides what SQLite finds damaged: a row that is not what our tables hold.
        let Some(failure) = error.sqlite_error() else { return Self::Corrupt(words) };
        match (failure.code, failure.extended_code) {
            (ErrorCode::DiskFull, _) => Self::Full(format!("the disk is full ({words}): make room on it")),
            // The second is how a quota is told, and a limit on the size of files.
            (ErrorCode::SystemIoFailure, SQLITE_IOERR_SHMSIZE | SQLITE_IOERR_WRITE) => {
                Self::Full(format!("the disk is full, or cannot be written ({words}): make room on it"))
            }
            (ErrorCode::ReadOnly, _) => Self::Full(format!("the file or its disk is read-only ({words})")),
            (ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::AuthorizationForStatementDenied, _) => {
                Self::Unusable(format!("the store's file cannot be opened: {words}"))
            }
            // A page that the disk does not give back; whether it gives others is asked by whoever is told so.
            (
                ErrorCode::SystemIoFailure,
                SQLITE_IOERR_READ | SQLITE_IOERR_SHORT_READ | SQLITE_IOERR_DATA | SQLITE_IOERR_CORRUPTFS,
            ) => Self::Corrupt(format!("the disk does not give it back ({words})")),
            // Busy, another error of the disk, no memory: it may be otherwise the next time.
            (
                ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::SystemIoFailure
                | ErrorCode::OutOfMemory
                | ErrorCode::OperationInterrupted
                | ErrorCode::OperationAborted
                | ErrorCode::FileLockingProtocolFailed
                | ErrorCode::SchemaChanged,
                _,
            ) => Self::Unavailable(words),
            _ => Self::Corrupt(words),
        }
    }
}

/// A number as SQLite holds it.
pub(super) fn int(number: u64) -> Result<i64, StoreError> {
    i64::try_from(number).map_err(|_| StoreError::Corrupt(format!("{number} is more than can be stored")))
}

/// A number that is not negative, as it was stored.
pub(super) fn uint<T: TryFrom<i64>>(stored: i64) -> Result<T, StoreError> {
    T::try_from(stored).map_err(|_| StoreError::Corrupt(format!("{stored} stands where it cannot be")))
}

/// How many rows to read at most.
pub(super) fn most(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi::{
        self, SQLITE_BUSY, SQLITE_CORRUPT, SQLITE_FULL, SQLITE_IOERR_FSYNC, SQLITE_IOERR_LOCK, SQLITE_NOTADB,
        SQLITE_READONLY,
    };

    use super::*;

    #[test]
    fn errors_say_what_the_caller_can_do() {
        for (code, expected) in [
            (SQLITE_FULL, "Full(\"the disk is full"),
            (SQLITE_IOERR_WRITE, "Full(\"the disk is full"),
            (SQLITE_IOERR_SHMSIZE, "Full(\"the disk is full"),
            (SQLITE_READONLY, "Full(\"the file or its disk is read-only"),
            // It may have been written all the same.
            (SQLITE_IOERR_FSYNC, "Unavailable"),
            (SQLITE_IOERR_LOCK, "Unavailable"),
            (SQLITE_BUSY, "Unavailable"),
            (SQLITE_IOERR_READ, "Corrupt"),
            (SQLITE_IOERR_SHORT_READ, "Corrupt"),
            (SQLITE_CORRUPT, "Corrupt"),
            (SQLITE_NOTADB, "Corrupt"),
        ] {
            let told = StoreError::from(Error::SqliteFailure(ffi::Error::new(code), None));
            assert!(format!("{told:?}").starts_with(expected), "{code}: {told:?}");
        }
        assert!(matches!(StoreError::from(Error::QueryReturnedNoRows), StoreError::Corrupt(_)));
    }
}
