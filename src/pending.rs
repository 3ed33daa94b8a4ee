//! A pending version as its publishers and exports see it. Nothing here is for readers.

use bytes::Bytes;

use crate::{
    compose::{self, Shape},
    entry::Derived,
    model::{LogId, Name, Revision},
    store::{Error, Record, Snapshot},
    wire::{Encoded, fields, log::PendingBase, service, v1::HoldReason},
};

/// A version that is not due yet.
#[derive(Debug, Clone)]
pub(crate) struct Pending {
    /// The article, encoded.
    pub(crate) article: Bytes,
    /// The time at which it becomes visible, in microseconds since 1970 UTC. `None` if it needs another put.
    due: Option<i64>,
    /// The live revision that it is based on; 0 if there was none.
    base: Revision,
    /// Whether it is held for an editor's decision, because the live version is not the one that it is based on.
    held: bool,
    /// The live article that loses its path to this version when it becomes visible.
    path_owner: Option<Name>,
}

impl Pending {
    /// Reads what belongs to the record of a pending version.
    pub(crate) fn read(
        snapshot: Snapshot<'_>,
        record: &Record,
        log_id: LogId,
        shape: Shape,
    ) -> Result<Pending, Error> {
        let article = compose::entity(record, log_id, shape);
        let derived = Derived::pending(&record.log);
        let holders = derived.wanted_path.map_or(Ok(Vec::new()), |path| snapshot.path_owners(&path))?;
        Ok(Pending {
            article,
            due: derived.due,
            base: base_revision(snapshot, record)?,
            held: snapshot.is_held(&record.name)?,
            path_owner: holders.into_iter().find(|holder| *holder != record.name),
        })
    }

    /// Converts the version to its message.
    pub(crate) fn into_message(self) -> service::PendingArticle {
        service::PendingArticle {
            article: Some(Encoded(self.article)),
            due_time: self.due.map(fields::timestamp),
            path_owner: self.path_owner.map(|owner| owner.to_string()).unwrap_or_default(),
            hold_reason: if self.held { HoldReason::LiveVersionChanged as i32 } else { 0 },
            base_revision: self.base,
        }
    }
}

/// Returns the live revision that a pending version is based on. One that came with an import is based on the live
/// version of that import.
fn base_revision(snapshot: Snapshot<'_>, record: &Record) -> Result<Revision, Error> {
    let import = record.log.import.as_ref();
    if import.is_none_or(|import| import.pending_base() != PendingBase::Imported) {
        return Ok(record.log.base_revision);
    }
    snapshot.imported_revision(&record.name)
}
