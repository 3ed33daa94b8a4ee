//! The changes that will become due: pending versions, and live articles that expire. Nothing here is for readers.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::{Error, Snapshot, listing::Cursor, read::row_name, scan};
use crate::{
    entry::{Claim, Entry},
    model::{Id, Kind, Name, Revision, Slot},
};

/// A change that is due at a time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Due {
    /// The due time, in microseconds since 1970 UTC.
    pub(crate) time: i64,
    pub(crate) name: Name,
    pub(crate) slot: Slot,
}

/// The key in the cursor of a pending version without a due time: such versions come last.
const UNTIMED: i64 = i64::MAX;

/// Returns the earliest due time.
pub(super) fn next(connection: &Connection) -> rusqlite::Result<Option<i64>> {
    let mut statement =
        connection.prepare_cached("SELECT min(due) FROM doc WHERE due IS NOT NULL AND held = 0")?;
    statement.query_row([], |row| row.get(0))
}

impl Snapshot<'_> {
    /// Returns up to `limit` changes that are due by a time, the earliest first, after one that was read before.
    pub(crate) fn due_by(self, time: i64, after: Option<&Due>, limit: usize) -> Result<Vec<Due>, Error> {
        let sql = "SELECT kind, id, slot, due FROM doc
                   WHERE due IS NOT NULL AND held = 0 AND due <= ?1 AND (due, kind, slot, id) > (?2, ?3, ?4, ?5)
                   ORDER BY due, kind, slot, id LIMIT ?6";
        let mut statement = self.connection.prepare_cached(sql)?;
        let after = after.map_or((i64::MIN, 0, 0, ""), |due| {
            (due.time, due.name.kind as i64, due.slot as i64, due.name.id.as_str())
        });
        let mut previous = (after.0, after.1, after.2, after.3.to_owned());
        let mut rows = statement.query(params![time, after.0, after.1, after.2, after.3, limit as i64])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let key = row_name(row)?.zip(Slot::from_number(row.get(2)?));
            let time = row.get(3)?;
            let place = (time, row.get(0)?, row.get(2)?, row.get(1)?);
            scan::check_order(&previous, &place)?;
            previous = place;
            found.extend(key.map(|(name, slot)| Due { time, name, slot }));
        }
        Ok(found)
    }

    /// Returns up to `limit` names with a pending version after a cursor, in the order in which they are due. Those
    /// without a due time come last.
    pub(crate) fn pending_names(
        self,
        after: Option<&Cursor>,
        limit: usize,
    ) -> Result<Vec<(Name, Cursor)>, Error> {
        let timed = "SELECT due, id FROM doc INDEXED BY pending
                     WHERE slot = 2 AND live = 1 AND (due, id) > (?1, ?2) ORDER BY due, id LIMIT ?3";
        let mut statement = self.connection.prepare_cached(timed)?;
        let (due, id) = after.map_or((i64::MIN, ""), |cursor| (cursor.key, &cursor.id));
        let after_timed = Cursor { key: due, id: id.to_owned() };
        let mut found = cursors(statement.query(params![due, id, limit as i64])?, after_timed)?;
        if found.len() < limit {
            let untimed = "SELECT ?1, id FROM doc INDEXED BY pending
                           WHERE slot = 2 AND live = 1 AND due IS NULL AND id > ?2 ORDER BY id LIMIT ?3";
            let mut statement = self.connection.prepare_cached(untimed)?;
            let id = after.filter(|cursor| cursor.key == UNTIMED).map_or("", |cursor| &cursor.id);
            let rows = statement.query(params![UNTIMED, id, (limit - found.len()) as i64])?;
            found.extend(cursors(rows, Cursor { key: UNTIMED, id: id.to_owned() })?);
        }
        Ok(found)
    }

    /// Returns whether the pending version of an article is held, because the live version is no longer the one that it
    /// is based on.
    pub(crate) fn is_held(self, name: &Name) -> Result<bool, Error> {
        let sql = "SELECT held FROM doc WHERE kind = ?1 AND slot = 2 AND id = ?2";
        let mut statement = self.connection.prepare_cached(sql)?;
        let held = statement.query_row(params![name.kind as i64, name.id.as_str()], |row| row.get(0));
        Ok(held.optional()?.unwrap_or(false))
    }

    /// Returns whether an article has a pending version.
    pub(crate) fn has_pending(self, name: &Name) -> Result<bool, Error> {
        let sql = "SELECT live FROM doc WHERE kind = ?1 AND slot = 2 AND id = ?2";
        let mut statement = self.connection.prepare_cached(sql)?;
        let live = statement.query_row(params![name.kind as i64, name.id.as_str()], |row| row.get(0));
        Ok(live.optional()?.unwrap_or(false))
    }

    /// Returns the revision of the live version of an article if an import wrote it, otherwise 0.
    pub(crate) fn imported_revision(self, name: &Name) -> Result<Revision, Error> {
        let sql = "SELECT revision FROM doc
                   WHERE kind = ?1 AND slot = 1 AND id = ?2 AND live = 1 AND base IS NOT NULL";
        let mut statement = self.connection.prepare_cached(sql)?;
        let revision = statement.query_row(params![name.kind as i64, name.id.as_str()], |row| row.get(0));
        Ok(revision.optional()?.unwrap_or(0))
    }

    /// Counts the pending versions.
    pub(crate) fn count_pending(self) -> Result<Counts, Error> {
        let sql = "SELECT (SELECT count(*) FROM doc INDEXED BY pending WHERE slot = 2 AND live = 1),
                          (SELECT count(*) FROM doc WHERE held = 1),
                          (SELECT count(*) FROM
                             (SELECT id, wanted FROM doc INDEXED BY pending
                              WHERE slot = 2 AND live = 1 AND due IS NOT NULL ORDER BY due LIMIT ?1) AS next
                           WHERE EXISTS(SELECT 1 FROM path
                                        WHERE path.path = next.wanted AND rank = ?2 AND path.id != next.id))";
        let mut statement = self.connection.prepare_cached(sql)?;
        let counts = statement.query_row([MAX_PATH_LOOKUPS, Claim::OWN], |row| {
            let count = |column| row.get::<_, i64>(column).map(i64::unsigned_abs);
            Ok(Counts { pending: count(0)?, held: count(1)?, taking_a_path: count(2)? })
        });
        Ok(counts?)
    }
}

/// Returns whether an entry puts a pending version that must be held. Only an entry from another store can do so, never
/// one that was planned for a write on this store.
pub(super) fn must_hold(connection: &Connection, entry: &Entry) -> Result<bool, Error> {
    if entry.slot != Slot::Pending || !entry.derived.live {
        return Ok(false);
    }
    let sql = "SELECT live, revision, base FROM doc WHERE kind = 1 AND slot = 1 AND id = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let version = statement.query_row([entry.name.id.as_str()], |row| {
        Ok(LiveVersion::of(row.get(0)?, row.get(1)?, row.get(2)?))
    });
    let version = version.optional()?;
    Ok(match entry.derived.base {
        None => true,
        Some(base) => version.is_some_and(|version| version.holds(base)),
    })
}

/// The present or last version in the live slot of an article, as pending versions are compared with it.
pub(super) struct LiveVersion {
    /// The revision of the newest entry or, if that is an expiry, the revision that expired. An expiry therefore changes
    /// nothing for a pending version that is based on the expired one.
    pub(super) revision: Revision,
    /// Whether it holds a pending version that is based on none. A version that an import wrote does not: the pending
    /// version of the same import is based on it, whichever of the two came first.
    pub(super) holds_first_versions: bool,
}

impl LiveVersion {
    /// Returns the version of a row or an entry, from its derived values.
    pub(super) fn of(live: bool, revision: Revision, base: Option<Revision>) -> LiveVersion {
        LiveVersion {
            revision: if live { revision } else { base.unwrap_or(revision) },
            holds_first_versions: live && base.is_none(),
        }
    }

    fn holds(&self, base: Revision) -> bool {
        base != self.revision && (base != 0 || self.holds_first_versions)
    }
}

/// The numbers of pending versions, for operators.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) pending: u64,
    pub(crate) held: u64,
    /// The versions among the next [`MAX_PATH_LOOKUPS`] that will take the path of a live article.
    pub(crate) taking_a_path: u64,
}

/// The number of pending versions whose paths are looked up for each count: some 5 ms.
const MAX_PATH_LOOKUPS: i64 = 1_000;

/// Returns the names of rows with their cursors, which are above `after`.
fn cursors(mut rows: rusqlite::Rows<'_>, mut after: Cursor) -> Result<Vec<(Name, Cursor)>, Error> {
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let cursor = Cursor { key: row.get(0)?, id: row.get(1)? };
        scan::check_order(&after, &cursor)?;
        after = cursor.clone();
        let id = Id::parse(&cursor.id);
        found.extend(id.map(|id| (Name { kind: Kind::Article, id }, cursor)));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::Revision,
        store::{
            Record, Writer,
            fixture::{apply, article, faults, name, open, pending, removal, snapshot},
            floor::History,
            rebuild::rebuild,
            session::Identity,
        },
        wire::{fields, number, v1::RemovalReason},
    };

    /// Returns a version that is due at the time 50 and based on a revision.
    fn scheduled(id: &str, base: Revision) -> Entry {
        let mut log = article(id, "Later", &[], 2).log;
        let mut content = log.content.to_vec();
        fields::put_time(&mut content, number::article::PUBLISH_TIME, 50);
        if id == "d" {
            fields::put_string(&mut content, number::article::PATH, "/a");
        }
        (log.content, log.base_revision) = (content.into(), base);
        Entry::new(name(id), Slot::Pending, log)
    }

    fn expired(id: &str, revision: Revision) -> Entry {
        let mut log = removal(id, RemovalReason::Expired, 3).log;
        log.base_revision = revision;
        Entry::new(name(id), Slot::Live, log)
    }

    fn held(writer: &Writer) -> Vec<&'static str> {
        let ids = ["a", "b", "c", "d", "e"];
        ids.into_iter().filter(|id| snapshot(writer).is_held(&name(id)).unwrap()).collect()
    }

    #[test]
    fn a_pending_version_is_held_while_its_base_is_not_live() {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) = (dir.path().join("old"), dir.path().join("new"));
        let (store, mut writer) = open(&old);
        let live = |id: &str| article(id, "Live", &[], 1);
        apply(&mut writer, &["a", "b", "c"].map(live));
        apply(&mut writer, &[scheduled("a", 1), scheduled("b", 2), scheduled("c", 3), scheduled("d", 0)]);
        assert_eq!((held(&writer), next(&writer.connection).unwrap()), (vec![], Some(50)));
        apply(&mut writer, &[live("a"), expired("b", 2), live("c")]);
        assert_eq!(held(&writer), ["a", "c"]);
        // The expired version is not the one that the pending version is based on.
        apply(&mut writer, &[expired("c", 10)]);
        let due = |writer: &Writer| {
            let due = snapshot(writer).due_by(100, None, 10).unwrap();
            due.into_iter().map(|due| due.name.id.to_string()).collect::<Vec<_>>()
        };
        assert_eq!((held(&writer), due(&writer)), (vec!["a", "c"], vec!["b".to_owned(), "d".to_owned()]));
        assert_eq!(
            snapshot(&writer).count_pending().unwrap(),
            Counts { pending: 4, held: 2, taking_a_path: 1 }
        );
        assert_eq!(*store.next_due().borrow(), Some(50));

        let history = History { age: std::time::Duration::ZERO, entries: 0 };
        assert!(["b", "c"].iter().all(|id| snapshot(&writer).record(&name(id)).unwrap().is_some()));
        writer.compact(1_000, &history).unwrap();
        assert_eq!(faults(&old), Vec::<String>::new());
        // Readers do not see the tombstones that only pending versions retain.
        let readers = snapshot(&writer);
        for id in ["b", "c"] {
            assert!(readers.newest(&name(id), Slot::Live).unwrap().is_some(), "{id}");
            assert!(readers.record(&name(id)).unwrap().is_none(), "{id}");
            assert_eq!(readers.resolve_path(&format!("/{id}")).unwrap(), None, "{id}");
        }
        let mut seen = Vec::new();
        let visit = |_, record: Result<Record, String>| {
            seen.push(record.unwrap().name.id.to_string());
            Ok(true)
        };
        readers.visit_records(0, 10, &[Slot::Live], visit).unwrap();
        assert_eq!(seen, ["a"]);
        let rebuilt = rebuild(&old, &new, Identity::Original).unwrap();
        assert_eq!((rebuilt.faults, faults(&new)), (vec![], vec![]));
        drop(store);
        drop(writer);
        let (store, mut writer) = open(&new);
        assert_eq!((held(&writer), due(&writer)), (vec!["a", "c"], vec!["b".to_owned(), "d".to_owned()]));
        // A new put is based on the current version.
        let again = |id, base| pending(scheduled(id, base));
        let revision = snapshot(&writer).record(&name("a")).unwrap().unwrap().revision;
        apply(&mut writer, &[again("a", revision), again("c", 0), again("b", 0), again("d", 0)]);
        assert_eq!((held(&writer), due(&writer).len()), (vec![], 4));
        apply(&mut writer, &["a", "b", "c", "d"].map(|id| pending(removal(id, RemovalReason::Withdrawn, 9))));
        assert_eq!((next(&writer.connection).unwrap(), *store.next_due().borrow()), (None, None));
        assert_eq!(faults(&new), Vec::<String>::new());
    }
}
