//! The entry that another one replaces: its columns, which are needed to undo its effects.

use super::Applier;
use crate::{
    digest::Hash,
    entry::Entry,
    model::Revision,
    store::{
        Error, envelope,
        row::{self, DepartureRow, unpack_departures, unpack_terms},
    },
};

/// The columns beside an entry, which are needed to undo its effects.
pub(super) struct PreviousRow {
    pub(super) revision: Revision,
    pub(super) live: bool,
    pub(super) due: Option<i64>,
    pub(super) time: i64,
    pub(super) terms: Vec<i64>,
    pub(super) hash: Hash,
    pub(super) content_hash: Option<Hash>,
    pub(super) departures: Vec<DepartureRow>,
    /// Whether the columns are damaged. The lists that the article is in or has left then have to be looked up in the
    /// tables of lists and departures.
    pub(super) is_damaged: bool,
}

impl Applier<'_> {
    /// Returns the columns of the key's newest entry, if it has one.
    pub(super) fn previous_row(&self, entry: &Entry) -> Result<Option<PreviousRow>, Error> {
        let Some(columns) = row::columns(self.transaction, &entry.name, entry.slot)? else { return Ok(None) };
        let is_damaged = !columns.is_intact();
        let mut old = PreviousRow {
            revision: columns.revision,
            live: columns.live,
            due: columns.due,
            time: columns.time,
            terms: unpack_terms(&columns.terms),
            hash: columns.hash,
            content_hash: columns.content_hash,
            departures: unpack_departures(&columns.departures),
            is_damaged,
        };
        if is_damaged {
            self.repair_columns(&mut old, entry)?;
        }
        Ok(Some(old))
    }

    /// Corrects damaged columns from the entry beside them, as far as that is intact.
    fn repair_columns(&self, old: &mut PreviousRow, entry: &Entry) -> Result<(), Error> {
        let sql = "SELECT entry FROM doc WHERE revision = ?1";
        let stored: Vec<u8> =
            self.transaction.query_row(sql, [old.revision], |row| Ok(row.get(0).unwrap_or_default()))?;
        let opened = envelope::open(&stored, (&entry.name, entry.slot), old.revision).ok();
        if let Some(was) = opened.and_then(|bytes| Entry::decode(bytes).ok()) {
            (old.live, old.due, old.time) = (was.derived.live, was.derived.due, was.derived.time);
            (old.hash, old.content_hash) = (was.hash, was.derived.content_hash);
        }
        Ok(())
    }
}
