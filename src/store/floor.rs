//! The history floor: the revision from which a store knows the departures from its lists. It rises as entries age, and
//! records that only served older revisions are dropped.

use std::time::Duration;

use rusqlite::{OptionalExtension as _, params};

use super::{
    Error, Writer,
    apply::Applier,
    envelope, read,
    record::PERMANENT,
    row::{DepartureRow, unpack_departures},
};
use crate::{
    clock,
    entry::Entry,
    model::{Kind, Name, Revision, Slot},
};

/// The number of newest positions whose chain is retained even below the floor, so that their lineage can be proved.
const MIN_CHAIN_LINKS: i64 = 1_000_000;

/// The maximum number of rows of the chain that one pass reads: some 10 ms, for which writes wait.
const PASS_ROWS: i64 = 10_000;

/// The retention of history above the floor. Entries within either bound are retained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct History {
    /// The minimum age of the entries at or below the floor.
    pub(crate) age: Duration,
    /// The minimum number of entries above the floor.
    pub(crate) entries: i64,
}

impl Writer {
    /// Raises the floor to the last revision up to which all entries are older than `history` requires, but by no more
    /// than one pass. Drops the tombstones at or below the floor, except those with the reasons MOVED and KILLED. `now`
    /// is in microseconds since 1970 UTC. Returns whether another pass has more to do.
    ///
    /// # Errors
    /// Fails like [`Writer::transact`].
    pub(crate) fn compact(&mut self, now: i64, history: &History) -> Result<bool, Error> {
        let head = self.store.head();
        let age = clock::micros(history.age);
        let last = (head.revision - history.entries).min(head.floor + PASS_ROWS);
        let floor = self.next_floor(head.floor, last, now.saturating_sub(age))?;
        let links = self.links_to_drop(floor.min(head.revision - MIN_CHAIN_LINKS))?;
        if floor == head.floor && links.is_none() {
            return Ok(false);
        }
        self.transact(|applier| {
            applier.raise_floor(floor)?;
            links.map_or(Ok(()), |last| applier.drop_links(last))
        })?;
        Ok(floor == head.floor + PASS_ROWS
            || links.is_some_and(|last| last < floor.min(head.revision - MIN_CHAIN_LINKS)))
    }

    /// Returns the last revision up to `last` at which, and before which, all entries are older than `before`.
    fn next_floor(&self, floor: Revision, last: Revision, before: i64) -> Result<Revision, Error> {
        let sql = "SELECT min(revision) FROM chain WHERE revision > ?1 AND revision <= ?2 AND time >= ?3";
        let mut statement = self.connection.prepare_cached(sql)?;
        let recent: Option<Revision> = statement.query_row(params![floor, last, before], |row| row.get(0))?;
        Ok(recent.map_or(last, |recent| recent - 1).max(floor))
    }

    /// Returns the last of the links up to a revision that one pass drops from the chain.
    fn links_to_drop(&self, last: Revision) -> Result<Option<Revision>, Error> {
        let sql = "SELECT revision FROM chain WHERE revision <= ?1 ORDER BY revision LIMIT 1";
        let first: Option<Revision> =
            self.connection.prepare_cached(sql)?.query_row([last], |row| row.get(0)).optional()?;
        Ok(first.map(|first| last.min(first + PASS_ROWS - 1)))
    }
}

/// A tombstone that is no longer needed, with its departures.
type DroppableTombstone = (Name, Revision, Vec<DepartureRow>);

impl Applier<'_> {
    fn raise_floor(&mut self, floor: Revision) -> Result<(), Error> {
        for (name, revision, departures) in self.droppable_tombstones(floor)? {
            self.transaction.prepare_cached("DELETE FROM doc WHERE revision = ?1")?.execute([revision])?;
            if name.kind == Kind::Article {
                let delete = "DELETE FROM path WHERE id = ?1 AND revision = ?2";
                self.transaction.prepare_cached(delete)?.execute(params![name.id.as_str(), revision])?;
                for departure in departures {
                    self.drop_departure(name.id.as_str(), departure)?;
                }
            }
        }
        self.head.floor = floor;
        Ok(())
    }

    /// Returns the tombstones between the present floor and the next one that are no longer needed. A damaged one
    /// remains, for `verify`.
    fn droppable_tombstones(&self, floor: Revision) -> Result<Vec<DroppableTombstone>, Error> {
        // A tombstone on which a pending version is based remains: without it, it is unknown whether the version must
        // be held.
        let sql = "SELECT kind, id, revision, entry, slot, departures FROM doc AS tombstone
                   WHERE revision > ?1 AND revision <= ?2 AND live = 0
                     AND NOT EXISTS(SELECT 1 FROM doc AS pending
                                    WHERE pending.kind = tombstone.kind AND pending.slot = 2
                                      AND pending.id = tombstone.id AND pending.live = 1 AND pending.base != 0)";
        let mut statement = self.transaction.prepare_cached(sql)?;
        let mut rows = statement.query([self.head.floor, floor])?;
        let mut droppable = Vec::new();
        while let Some(row) = rows.next()? {
            let (key, revision) = (read::row_name(row)?.zip(Slot::from_number(row.get(4)?)), row.get(2)?);
            let Some((name, slot)) = key else { continue };
            let stored = row.get_ref(3)?.as_blob().unwrap_or_default();
            let opened = envelope::open(stored, (&name, slot), revision);
            let entry = opened.ok().and_then(|bytes| Entry::decode(bytes).ok());
            if entry.is_some_and(|entry| !PERMANENT.contains(&entry.log.reason())) {
                let departures: Vec<u8> = row.get(5)?;
                droppable.push((name, revision, unpack_departures(&departures)));
            }
        }
        Ok(droppable)
    }

    fn drop_links(&self, last: Revision) -> Result<(), Error> {
        self.transaction.prepare_cached("DELETE FROM chain WHERE revision <= ?1")?.execute([last])?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fixture::{apply, article, faults, name, open, removal, snapshot};
    use crate::wire::v1::RemovalReason;

    const BY_AGE: History = History { age: Duration::from_micros(100), entries: 0 };

    fn articles(times: &[i64]) -> Vec<Entry> {
        times.iter().enumerate().map(|(n, time)| article(&format!("a{n}"), "A", &["t"], *time)).collect()
    }

    #[test]
    fn the_floor_stops_before_the_first_recent_entry() {
        let dir = tempfile::tempdir().unwrap();
        let (store, mut writer) = open(dir.path());
        // The clock of the writer of the third entry was behind.
        apply(&mut writer, &articles(&[10, 20, 5, 40, 30]));
        for (now, floor) in [(109, 0), (110, 0), (111, 1), (121, 3), (131, 3), (140, 3), (141, 5), (100, 5)] {
            assert!(!writer.compact(now, &BY_AGE).unwrap());
            assert_eq!(store.head().floor, floor, "{now}");
        }
        assert_eq!(snapshot(&writer).head().unwrap(), *store.head());
    }

    #[test]
    fn the_minimum_number_of_entries_stays_above_the_floor() {
        let dir = tempfile::tempdir().unwrap();
        let (store, mut writer) = open(dir.path());
        apply(&mut writer, &articles(&[1, 2, 3, 4, 5]));
        for (entries, floor) in [(6, 0), (5, 0), (3, 2), (4, 2), (1, 4)] {
            writer.compact(1_000, &History { entries, ..BY_AGE }).unwrap();
            assert_eq!(store.head().floor, floor, "{entries}");
        }
    }

    #[test]
    fn only_permanent_tombstones_stay_below_the_floor() {
        let dir = tempfile::tempdir().unwrap();
        let (store, mut writer) = open(dir.path());
        let reasons = [
            ("withdrawn", RemovalReason::Withdrawn),
            ("deleted", RemovalReason::Deleted),
            ("expired", RemovalReason::Expired),
            ("moved", RemovalReason::Moved),
            ("killed", RemovalReason::Killed),
        ];
        apply(&mut writer, &reasons.map(|(id, _)| article(id, "A", &["t"], 1)));
        apply(&mut writer, &reasons.map(|(id, reason)| removal(id, reason, 2)));
        apply(&mut writer, &[article("a", "A", &["t"], 2), removal("late", RemovalReason::Deleted, 50)]);
        let digests = |head: &crate::store::Head| (head.log_digest, head.content_digest, head.chain);
        let before = digests(&store.head());

        writer.compact(110, &BY_AGE).unwrap();
        assert_eq!(store.head().floor, 11);
        for (id, is_retained) in [
            ("withdrawn", false),
            ("deleted", false),
            ("expired", false),
            ("moved", true),
            ("killed", true),
            ("late", true),
            ("a", true),
        ] {
            assert_eq!(snapshot(&writer).record(&name(id)).unwrap().is_some(), is_retained, "{id}");
            let owner = snapshot(&writer).resolve_path(&format!("/{id}")).unwrap();
            assert_eq!(owner.is_some(), is_retained, "{id}");
        }
        assert_eq!(digests(&store.head()), before);
        assert_eq!(faults(dir.path()), Vec::<String>::new());
        apply(&mut writer, &[article("deleted", "A", &["t"], 60)]);
        assert_eq!(faults(dir.path()), Vec::<String>::new());
    }

    #[test]
    fn a_long_history_is_compacted_in_passes() {
        let dir = tempfile::tempdir().unwrap();
        let (store, writer) = open(dir.path());
        // Entries of that age no longer exist: only their links of the chain are left.
        let entries = 2 * PASS_ROWS + 5;
        let old = MIN_CHAIN_LINKS + entries;
        let fill = "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ?1)
                    INSERT INTO chain SELECT n, zeroblob(32), CASE WHEN n <= ?2 THEN 1 ELSE 1000 END FROM n";
        writer.connection.execute(fill, [old, entries]).unwrap();
        writer.connection.execute("UPDATE head SET revision = ?1, chain = zeroblob(32)", [old]).unwrap();
        drop((writer, store));
        let (store, mut writer) = open(dir.path());
        for (floor, more) in [(PASS_ROWS, true), (2 * PASS_ROWS, true), (entries, false), (entries, false)] {
            assert_eq!(writer.compact(1_000, &BY_AGE).unwrap(), more, "{floor}");
            let first: i64 =
                writer.connection.query_row("SELECT min(revision) FROM chain", [], |row| row.get(0)).unwrap();
            assert_eq!((store.head().floor, first), (floor, floor + 1));
        }
        assert_eq!(faults(dir.path()), Vec::<String>::new());
    }
}
