//! The reasons why an operation of the store fails, and the condition of the whole store that each one reveals.

use std::{io, sync::Arc};

use rusqlite::ffi;

use crate::{
    audit::NotAudited,
    health::{Condition, Health},
    model::Name,
};

/// The reason why the store failed to execute an operation.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Error {
    /// The record is damaged; others are not.
    #[error("checksum mismatch in the record {0}")]
    Corrupt(Name),
    /// The database is damaged beyond single records. A record that it does not return may still exist.
    #[error(
        "database damaged: restore a backup, or create a store from the readable entries with `cable rebuild`"
    )]
    Malformed(#[source] Arc<rusqlite::Error>),
    /// Too much work is waiting. Try again later.
    #[error("the queue of the store is full")]
    Overloaded,
    /// The free space is reserved. Free some space; reads and removals continue.
    #[error(
        "disk space low: {free} bytes free, {reserve} reserved for removals; free space on the disk of the store"
    )]
    Full { free: u64, reserve: u64 },
    /// The operation has certainly not happened. Free some space; reads and removals continue.
    #[error("disk full: free space on the disk of the store")]
    NoSpace(#[source] Arc<rusqlite::Error>),
    /// The disk has no room for a copy of the store beside what is reserved.
    #[error("disk space low: a copy of the store needs {required} bytes with the reserve, {free} are free")]
    NoRoomForCopy { free: u64, required: u64 },
    /// A file beside the database could not be read or written.
    #[error("file of the store failed")]
    File(#[source] Arc<io::Error>),
    /// The operation has certainly not happened.
    #[error("store operation failed")]
    Failed(#[source] Arc<rusqlite::Error>),
    /// The operation may have happened.
    #[error("store commit failed; the write may have been applied")]
    Uncertain(#[source] Arc<rusqlite::Error>),
    /// The operation has happened. A repeat erases again.
    #[error(
        "killed content is no longer served, but not yet erased from the disk: repeat the call to erase it"
    )]
    NotErased,
    /// Writes are rejected permanently; reads continue.
    #[error("writes are rejected until {until}: {cause}")]
    ReadOnly { cause: Arc<str>, until: &'static str },
    /// An internal error in this one read. Others are not affected.
    #[error("store read panicked")]
    Panicked,
    /// A thread of the store has ended, and the node shuts down. The operation has certainly not happened.
    #[error("a task of this node has failed; the node is shutting down")]
    Closed,
    /// The writer's thread ended during the operation, which may have happened.
    #[error("the node failed during the write; the write may have been applied")]
    Lost,
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Error {
        Error::File(Arc::new(error))
    }
}

impl From<NotAudited> for Error {
    fn from(NotAudited { cause, until }: NotAudited) -> Error {
        Error::ReadOnly { cause, until }
    }
}

impl Error {
    /// Converts an error of the commit of a transaction. If the disk had no space for it, the transaction has not
    /// happened; after any other error, it may have.
    pub(super) fn from_commit(error: rusqlite::Error) -> Error {
        match Error::from(error) {
            Error::Failed(error) => Error::Uncertain(error),
            other => other,
        }
    }

    /// Reports the condition of the whole store that the error reveals.
    pub(super) fn report(&self, health: &Health) {
        if let Some(condition) = self.condition() {
            let cause = std::error::Error::source(self).map_or_else(|| self.to_string(), ToString::to_string);
            health.report(condition, cause);
        }
    }

    /// Returns the condition of the whole store that the error reveals.
    fn condition(&self) -> Option<Condition> {
        let engine = match self {
            Error::NoSpace(_) | Error::Full { .. } => return Some(Condition::DiskFull),
            Error::Malformed(_) => return Some(Condition::DatabaseCorrupt),
            Error::Uncertain(error) if is_damage(error) => return Some(Condition::DatabaseCorrupt),
            Error::Failed(error) | Error::Uncertain(error) => error.sqlite_error()?,
            _ => return None,
        };
        match (engine.code, engine.extended_code) {
            (_, ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC) => Some(Condition::SyncFailed),
            _ => None,
        }
    }
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Error {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => Error::NoSpace(Arc::new(error)),
            _ if is_damage(&error) => Error::Malformed(Arc::new(error)),
            _ => Error::Failed(Arc::new(error)),
        }
    }
}

impl Error {
    /// Returns the error for a database that was found to be damaged before.
    pub(crate) fn damaged() -> Error {
        Error::malformed("damage was detected earlier")
    }

    /// Returns an error for damage that SQLite itself does not detect.
    pub(super) fn malformed(reason: &'static str) -> Error {
        let failure = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
        Error::Malformed(Arc::new(rusqlite::Error::SqliteFailure(failure, Some(reason.to_owned()))))
    }
}

/// Returns whether an error of the engine is caused by the stored data: SQLite reports damage, a value has another type
/// than the one that was written, a row that always exists is missing, or a row that was deleted exists again.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::{Error, ErrorCode};
    match error {
        Error::SqliteFailure(failure, _) => matches!(
            failure.code,
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::ConstraintViolation
        ),
        Error::FromSqlConversionFailure(..)
        | Error::IntegralValueOutOfRange(..)
        | Error::Utf8Error(..)
        | Error::InvalidColumnType(..)
        | Error::SqlInputError { .. }
        | Error::QueryReturnedNoRows => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::{Error as EngineError, ffi};

    use super::*;

    fn engine(code: std::ffi::c_int) -> EngineError {
        EngineError::SqliteFailure(ffi::Error::new(code), None)
    }

    #[test]
    fn engine_errors_map_to_conditions_of_the_store() {
        for (code, condition) in [
            (ffi::SQLITE_IOERR_FSYNC, Some(Condition::SyncFailed)),
            (ffi::SQLITE_IOERR_DIR_FSYNC, Some(Condition::SyncFailed)),
            (ffi::SQLITE_FULL, Some(Condition::DiskFull)),
            (ffi::SQLITE_CORRUPT, Some(Condition::DatabaseCorrupt)),
            (ffi::SQLITE_NOTADB, Some(Condition::DatabaseCorrupt)),
            (ffi::SQLITE_IOERR_READ, None),
            (ffi::SQLITE_BUSY, None),
        ] {
            assert_eq!(Error::from(engine(code)).condition(), condition, "{code}");
            assert_eq!(Error::from_commit(engine(code)).condition(), condition, "{code}");
        }
        assert_eq!(Error::Full { free: 0, reserve: 1 }.condition(), Some(Condition::DiskFull));
    }

    #[test]
    fn only_a_full_disk_proves_that_a_failed_commit_had_no_effect() {
        assert!(matches!(Error::from_commit(engine(ffi::SQLITE_FULL)), Error::NoSpace(_)));
        assert!(matches!(Error::from_commit(engine(ffi::SQLITE_IOERR_FSYNC)), Error::Uncertain(_)));
    }
}
