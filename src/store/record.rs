//! The newest entry of a key, as read, and the tombstone that it is if the content was removed.

use crate::{
    model::{HashPrefix, Name, Revision, Slot},
    wire::{log, v1},
};

/// The newest entry of a key, as read.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) name: Name,
    pub(crate) slot: Slot,
    pub(crate) revision: Revision,
    /// The hash prefix of the entry.
    pub(crate) prefix: HashPrefix,
    pub(crate) log: log::LogEntry,
}

impl Record {
    /// Returns whether the entry holds content.
    pub(crate) fn is_put(&self) -> bool {
        self.log.operation() == log::Operation::Put
    }

    /// Returns the tombstone of the key, if its content was removed.
    pub(crate) fn tombstone(&self) -> Option<Tombstone> {
        (!self.is_put()).then(|| Tombstone {
            reason: self.log.reason(),
            moved_to: Name::parse(&self.log.moved_to),
            time: self.log.time,
            revision: self.revision,
        })
    }
}

/// The tombstone of a removed name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tombstone {
    pub(crate) reason: v1::RemovalReason,
    pub(crate) moved_to: Option<Name>,
    /// The time of the removal, in microseconds since 1970 UTC.
    pub(crate) time: i64,
    pub(crate) revision: Revision,
}

impl Tombstone {
    /// Returns whether the tombstone is retained permanently, and not only as long as the history.
    pub(crate) fn is_permanent(&self) -> bool {
        PERMANENT.contains(&self.reason)
    }
}

/// The reasons whose tombstones are retained permanently.
pub(super) const PERMANENT: [v1::RemovalReason; 2] = [v1::RemovalReason::Moved, v1::RemovalReason::Killed];
