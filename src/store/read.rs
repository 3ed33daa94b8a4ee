//! Reads of single records, paths and the order of changes.

use rusqlite::{Connection, Row, params};

use super::{
    Damage, Error, Head, Record, Snapshot, damage, envelope,
    listing::{Cursor, Query},
    record::PERMANENT,
    row, scan,
};
use crate::{
    digest::{Hash, SetDigest},
    entry::{self, Claim},
    model::{Id, Kind, LogId, Name, Revision, Slot},
    wire::log::LogEntry,
};
use prost::Message as _;

/// The maximum number of claims on one path that are read to find an article within a scope. Any number of articles may
/// list a path as an alias.
const MAX_CLAIMS: i64 = 64;

pub(super) const LIVE_SLOT: i64 = Slot::Live as i64;

/// Returns the head of the store.
pub(super) fn head(connection: &Connection) -> rusqlite::Result<Head> {
    let sql = "SELECT log_id, revision, chain, floor, log_digest, content_digest,
                      articles, authors, sections, tags, collections FROM head";
    connection.query_row(sql, [], |row| {
        let live = [row.get(6)?, row.get(7)?, row.get(8)?, row.get(9)?, row.get(10)?];
        Ok(Head {
            log_id: LogId(row.get(0)?),
            revision: row.get(1)?,
            chain: row.get(2)?,
            floor: row.get(3)?,
            log_digest: SetDigest::from_bytes(&row.get(4)?),
            content_digest: SetDigest::from_bytes(&row.get(5)?),
            live,
        })
    })
}

pub(super) fn open(name: Name, slot: Slot, revision: Revision, stored: &[u8]) -> Result<Record, Error> {
    let opened = envelope::open(stored, (&name, slot), revision).ok();
    match opened.and_then(|bytes| LogEntry::decode(bytes).ok()) {
        Some(log) => Ok(Record { name, slot, revision, prefix: entry::hash_prefix(&log), log }),
        None => {
            damage::log(&name, slot, revision);
            Err(Error::Corrupt(name))
        }
    }
}

/// Returns the name in a row of `doc` whose first two columns are kind and id.
pub(super) fn row_name(row: &Row<'_>) -> rusqlite::Result<Option<Name>> {
    let kind = Kind::from_number(row.get(0)?);
    let id = row.get_ref(1)?.as_str().ok().and_then(Id::parse);
    Ok(kind.zip(id).map(|(kind, id)| Name { kind, id }))
}

/// Records that were counted without being opened.
#[derive(Debug, Default)]
pub(crate) struct RecordCount {
    /// The content hash of each record that readers see.
    pub(crate) contents: Vec<Hash>,
    pub(crate) damage: Damage,
    /// The last revision read.
    pub(crate) last: Option<Revision>,
}

impl Snapshot<'_> {
    /// Returns the head of the store.
    pub(crate) fn head(self) -> Result<Head, Error> {
        Ok(head(self.connection)?)
    }

    /// Returns the record of a name that readers see: content or tombstone.
    pub(crate) fn record(self, name: &Name) -> Result<Option<Record>, Error> {
        let Some(record) = self.newest(name, Slot::Live)? else { return Ok(None) };
        Ok((!self.is_outlived(&record)?).then_some(record))
    }

    /// Returns whether a tombstone is past its retention: at or below the floor, where compaction retains it only for a
    /// pending version. Readers do not see it, because nothing that they see depends on a pending version.
    fn is_outlived(self, record: &Record) -> Result<bool, Error> {
        let is_droppable = record.tombstone().is_some_and(|tombstone| !tombstone.is_permanent());
        Ok(is_droppable && record.revision <= self.head()?.floor)
    }

    /// Returns the pending version of a name, or the tombstone of one. Never for readers.
    pub(crate) fn pending_record(self, name: &Name) -> Result<Option<Record>, Error> {
        self.newest(name, Slot::Pending)
    }

    /// Returns the newest entry of a key.
    pub(super) fn newest(self, name: &Name, slot: Slot) -> Result<Option<Record>, Error> {
        let sql =
            "SELECT revision, entry FROM doc INDEXED BY doc_key WHERE kind = ?1 AND slot = ?2 AND id = ?3";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(params![name.kind as i64, slot as i64, name.id.as_str()])?;
        match rows.next()? {
            Some(row) => {
                let stored = row.get_ref(1)?.as_blob().unwrap_or_default();
                open(name.clone(), slot, row.get(0)?, stored).map(Some)
            }
            None => row::revision(self.connection, name, slot).map(|_absent| None),
        }
    }

    /// Visits the records of some slots after a revision, in the order of the log: each with its revision, a damaged one
    /// by its name. A pending version that was removed is not a record, nor is a tombstone past its retention. Ends after
    /// `limit` records, or when `visit` returns false.
    pub(crate) fn visit_records(
        self,
        after: Revision,
        limit: usize,
        slots: &[Slot],
        mut visit: impl FnMut(Revision, Result<Record, String>) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        let sql = "SELECT kind, id, revision, entry, slot FROM doc
                   WHERE revision > ?1 AND (slot = ?2 OR (?3 AND live = 1))
                     AND (live = 1 OR revision > ?4 OR reason IN (?5, ?6)) ORDER BY revision LIMIT ?7";
        let mut statement = self.connection.prepare_cached(sql)?;
        let pending = slots.contains(&Slot::Pending);
        let floor = self.head()?.floor;
        let [moved, killed] = PERMANENT.map(|reason| reason as i32);
        let mut rows =
            statement.query(params![after, LIVE_SLOT, pending, floor, moved, killed, limit as i64])?;
        let mut last = after;
        while let Some(row) = rows.next()? {
            let revision = row.get(2)?;
            scan::check_order(&last, &revision)?;
            last = revision;
            let stored = row.get_ref(3)?.as_blob().unwrap_or_default();
            let opened = row_name(row)?;
            let slot = Slot::from_number(row.get(4)?);
            let opened = opened.zip(slot).map(|(name, slot)| open(name, slot, revision, stored));
            let found = match opened {
                Some(Ok(record)) => Ok(record),
                Some(Err(Error::Corrupt(name))) => Err(name.to_string()),
                Some(Err(error)) => return Err(error),
                None => Err(format!("revision {revision}")),
            };
            if !visit(revision, found)? {
                break;
            }
        }
        Ok(())
    }

    /// Counts up to `limit` records that readers see within a range of revisions: after the first, up to the second.
    pub(crate) fn count_records(
        self,
        range: (Revision, Revision),
        limit: usize,
    ) -> Result<RecordCount, Error> {
        let sql = format!(
            "SELECT {}, entry FROM doc WHERE revision > ?1 AND revision <= ?2 ORDER BY revision LIMIT ?3",
            row::COLUMNS
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query(params![range.0, range.1, limit as i64])?;
        let mut record_count = RecordCount::default();
        while let Some(row) = rows.next()? {
            let columns = row::Columns::read(row)?;
            let stored = row.get_ref("entry")?.as_blob().unwrap_or_default();
            let key = columns.key().filter(|_| columns.is_intact());
            let is_intact =
                key.is_some_and(|(name, slot)| envelope::is_intact(stored, (&name, slot), columns.revision));
            if !is_intact {
                record_count.damage.add(columns.label());
            } else if columns.slot == LIVE_SLOT {
                record_count.contents.extend(columns.content_hash);
            }
            scan::check_order(&record_count.last.unwrap_or(range.0), &columns.revision)?;
            record_count.last = Some(columns.revision);
        }
        Ok(record_count)
    }

    /// Returns up to `limit` live names of a kind in the order of ids, after a cursor.
    pub(crate) fn names(self, kind: Kind, after: Option<&Cursor>, limit: usize) -> Result<Vec<Name>, Error> {
        let sql = "SELECT kind, id FROM doc INDEXED BY doc_key
                   WHERE kind = ?1 AND slot = ?2 AND id > ?3 AND live = 1 ORDER BY id LIMIT ?4";
        // No id is empty.
        let after = after.map_or("", |cursor| &cursor.id);
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map(params![kind as i64, LIVE_SLOT, after, limit as i64], row_name)?;
        let names: Vec<Name> =
            rows.filter_map(rusqlite::Result::transpose).collect::<rusqlite::Result<_>>()?;
        let mut last = after;
        for name in &names {
            scan::check_order(&last, &name.id.as_str())?;
            last = name.id.as_str();
        }
        Ok(names)
    }

    /// Returns the article that a path leads to, by the path's normal form: the live article that owns it; otherwise
    /// one that lists it as an alias; otherwise one that owned it; otherwise one that was removed.
    pub(crate) fn resolve_path(self, path: &str) -> Result<Option<Name>, Error> {
        let sql = "SELECT 1, id, rank FROM path WHERE path = ?1 ORDER BY rank DESC, place DESC, id";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query([path])?;
        while let Some(row) = rows.next()? {
            let Some(name) = row_name(row)? else { continue };
            let of_live: bool = row.get::<_, i64>(2)? != Claim::REMOVED;
            if of_live || self.leads_to_tombstone(&name)? {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    /// Returns whether a removed article, which claims a path, has a tombstone that readers see. A damaged one counts:
    /// its reader gets the error.
    fn leads_to_tombstone(self, name: &Name) -> Result<bool, Error> {
        match self.record(name) {
            Ok(record) => Ok(record.is_some()),
            Err(Error::Corrupt(_)) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Returns the article that a path leads to among those that match a query, and all articles that claim the path up
    /// to it. The result depends on each of them.
    pub(crate) fn resolve_path_within(
        self,
        path: &str,
        scope: &Query,
    ) -> Result<(Option<Name>, Vec<Name>), Error> {
        let sql = "SELECT 1, id FROM path WHERE path = ?1 ORDER BY rank DESC, place DESC, id LIMIT ?2";
        let mut statement = self.connection.prepare_cached(sql)?;
        let claims = statement.query_map(params![path, MAX_CLAIMS], row_name)?;
        let claims: Vec<Option<Name>> = claims.collect::<rusqlite::Result<_>>()?;
        let mut seen = Vec::new();
        for name in claims.into_iter().flatten() {
            seen.push(name.clone());
            if self.readable_within(&name, scope)?.is_some() {
                return Ok((Some(name), seen));
            }
        }
        Ok((None, seen))
    }

    /// Returns the record of an article that readers see, if it matches a query. A damaged one that matches, as far as
    /// the lists beside it show, is an error.
    pub(crate) fn record_within(self, name: &Name, scope: &Query) -> Result<Option<Record>, Error> {
        self.readable_within(name, scope)?.transpose()
    }

    fn readable_within(self, name: &Name, scope: &Query) -> Result<Option<Result<Record, Error>>, Error> {
        match self.record(name) {
            Ok(Some(record)) => Ok(self.matches(scope, &record)?.then_some(Ok(record))),
            Ok(None) => Ok(None),
            Err(Error::Corrupt(damaged)) => {
                let stand_in = self.record_or_stand_in(name, Slot::Live)?.map(|(record, _)| record);
                let matches = stand_in.map(|record| self.matches(scope, &record)).transpose()?;
                Ok((matches == Some(true)).then_some(Err(Error::Corrupt(damaged))))
            }
            Err(error) => Err(error),
        }
    }

    /// Returns the live articles whose own path this is, by its normal form: one, or several if records are damaged.
    /// The one that the path leads to comes first.
    pub(crate) fn path_owners(self, path: &str) -> Result<Vec<Name>, Error> {
        let sql = "SELECT 1, id FROM path WHERE path = ?1 AND rank = ?2 ORDER BY place DESC, id";
        let mut statement = self.connection.prepare_cached(sql)?;
        let names: rusqlite::Result<Vec<_>> =
            statement.query_map(params![path, Claim::OWN], row_name)?.collect();
        Ok(names?.into_iter().flatten().collect())
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::{
        entry::Entry,
        store::fixture::{apply, faults, name, open, removal, snapshot},
        wire::{log, v1},
    };

    fn live(id: &str, path: &str, aliases: &[&str], former: &[(&str, i64)]) -> Entry {
        let alias_paths = aliases.iter().map(ToString::to_string).collect();
        let content = v1::Article { path: path.into(), alias_paths, ..Default::default() };
        let former = former.iter().map(|(path, cease_time)| log::FormerPath {
            path: (*path).into(),
            cease_time: *cease_time,
            ..Default::default()
        });
        let log = log::LogEntry {
            operation: log::Operation::Put as i32,
            content: content.encode_to_vec().into(),
            former_paths: former.collect(),
            ..Default::default()
        };
        Entry::new(name(id), Slot::Live, log)
    }

    /// Each claim yields to the one before it. The last two differ only in the time.
    #[test]
    fn a_path_leads_to_the_best_claim_in_any_write_order() {
        let removed = |id, time| {
            let mut log = removal(id, v1::RemovalReason::Deleted, time).log;
            log.former_paths[0].path = "/p".into();
            Entry::new(name(id), Slot::Live, log)
        };
        let claims = [
            live("own", "/p", &[], &[]),
            live("alias", "/a", &["/p"], &[]),
            live("bias", "", &["/p"], &[("/p", 9)]),
            live("former", "/f", &[], &[("/p", 7)]),
            live("before", "", &[], &[("/p", 5)]),
            removed("later", 8),
            removed("earlier", 6),
        ];
        for rotation in 0..claims.len() {
            for reversed in [false, true] {
                let dir = tempfile::tempdir().unwrap();
                let (_store, mut writer) = open(dir.path());
                let mut order: Vec<usize> = (0..claims.len()).collect();
                order.rotate_left(rotation);
                if reversed {
                    order.reverse();
                }
                let entries: Vec<Entry> = order.iter().map(|n| claims[*n].clone()).collect();
                apply(&mut writer, &entries);
                for best in &claims {
                    let owner = snapshot(&writer).resolve_path("/p").unwrap();
                    assert_eq!(owner.as_ref(), Some(&best.name), "{order:?}");
                    assert_eq!(faults(dir.path()), Vec::<String>::new());
                    // The article no longer claims the path.
                    let id = best.name.id.as_str();
                    apply(&mut writer, &[live(id, &format!("/{id}"), &[], &[])]);
                }
                assert_eq!(snapshot(&writer).resolve_path("/p").unwrap(), None);
            }
        }
    }
}
