//! The history floor: the revision from which a store knows the departures from its lists. It rises as entries age, and
//! records that only served older revisions are dropped.

use std::time::Duration;

use rusqlite::{OptionalExtension as _, params};

use super::{
    Error, Writer,
    apply::{Applier, Departure, unpack_departures},
    envelope, read,
};
use crate::{
    entry::Entry,
    model::{Kind, Name, Revision, Slot},
    wire::v1::RemovalReason,
};

/// The number of newest positions whose chain is retained even below the floor, so that their lineage can be proved.
const CHAIN_KEPT: i64 = 1_000_000;

/// The maximum number of rows of the chain that one pass reads: some 10 ms, for which writes wait.
const PASS: i64 = 10_000;

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
        let age = i64::try_from(history.age.as_micros()).unwrap_or(i64::MAX);
        let last = (head.revision - history.entries).min(head.floor + PASS);
        let floor = self.reach(head.floor, last, now.saturating_sub(age))?;
        let links = self.links_to_drop(floor.min(head.revision - CHAIN_KEPT))?;
        if floor == head.floor && links.is_none() {
            return Ok(false);
        }
        self.transact(|applier| {
            applier.raise_floor(floor)?;
            links.map_or(Ok(()), |last| applier.drop_links(last))
        })?;
        Ok(floor == head.floor + PASS
            || links.is_some_and(|last| last < floor.min(head.revision - CHAIN_KEPT)))
    }

    /// Returns the last revision up to `last` at which, and before which, all entries are older than `before`.
    fn reach(&self, floor: Revision, last: Revision, before: i64) -> Result<Revision, Error> {
        let sql = "SELECT min(revision) FROM chain WHERE revision > ?1 AND revision <= ?2 AND time >= ?3";
        let mut statement = self.connection.prepare_cached(sql)?;
        let young: Option<Revision> = statement.query_row(params![floor, last, before], |row| row.get(0))?;
        Ok(young.map_or(last, |young| young - 1).max(floor))
    }

    /// Returns the last of the links up to a revision that one pass drops from the chain.
    fn links_to_drop(&self, last: Revision) -> Result<Option<Revision>, Error> {
        let sql = "SELECT revision FROM chain WHERE revision <= ?1 ORDER BY revision LIMIT 1";
        let first: Option<Revision> =
            self.connection.prepare_cached(sql)?.query_row([last], |row| row.get(0)).optional()?;
        Ok(first.map(|first| last.min(first + PASS - 1)))
    }
}

/// A tombstone that is no longer needed, with its departures.
type Spent = (Name, Revision, Vec<Departure>);

impl Applier<'_> {
    fn raise_floor(&mut self, floor: Revision) -> Result<(), Error> {
        for (name, revision, departures) in self.spent_tombstones(floor)? {
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
    fn spent_tombstones(&self, floor: Revision) -> Result<Vec<Spent>, Error> {
        // A tombstone on which a pending version is based remains: without it, it is unknown whether the version must
        // be held.
        let sql = "SELECT kind, id, revision, entry, slot, departures FROM doc AS gone
                   WHERE revision > ?1 AND revision <= ?2 AND live = 0
                     AND NOT EXISTS(SELECT 1 FROM doc AS waiting
                                    WHERE waiting.kind = gone.kind AND waiting.slot = 2 AND waiting.id = gone.id
                                      AND waiting.live = 1 AND waiting.base != 0)";
        let mut statement = self.transaction.prepare_cached(sql)?;
        let mut rows = statement.query([self.head.floor, floor])?;
        let mut spent = Vec::new();
        while let Some(row) = rows.next()? {
            let (key, revision) = (read::row_name(row)?.zip(Slot::from_number(row.get(4)?)), row.get(2)?);
            let Some((name, slot)) = key else { continue };
            let stored = row.get_ref(3)?.as_blob().unwrap_or_default();
            let opened = envelope::open(stored, (&name, slot), revision);
            let entry = opened.ok().and_then(|bytes| Entry::decode(bytes).ok());
            let lasting =
                |entry: &Entry| matches!(entry.log.reason(), RemovalReason::Moved | RemovalReason::Killed);
            if entry.is_some_and(|entry| !lasting(&entry)) {
                let departures: Vec<u8> = row.get(5)?;
                spent.push((name, revision, unpack_departures(&departures)));
            }
        }
        Ok(spent)
    }

    fn drop_links(&self, last: Revision) -> Result<(), Error> {
        self.transaction.prepare_cached("DELETE FROM chain WHERE revision <= ?1")?.execute([last])?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fixture::{apply, article, faults, name, open, removal};

    const BY_AGE: History = History { age: Duration::from_micros(100), entries: 0 };

    fn articles(times: &[i64]) -> Vec<Entry> {
        times.iter().enumerate().map(|(n, time)| article(&format!("a{n}"), "A", &["t"], *time)).collect()
    }

    #[test]
    fn the_floor_is_the_last_revision_up_to_which_all_is_old_enough() {
        let dir = tempfile::tempdir().unwrap();
        let (store, mut writer) = open(dir.path());
        // The clock of the writer of the third entry was behind.
        apply(&mut writer, &articles(&[10, 20, 5, 40, 30]));
        for (now, floor) in [(109, 0), (110, 0), (111, 1), (121, 3), (131, 3), (140, 3), (141, 5), (100, 5)] {
            assert!(!writer.compact(now, &BY_AGE).unwrap());
            assert_eq!(store.head().floor, floor, "{now}");
        }
        assert_eq!(read::head(&writer.connection).unwrap(), *store.head());
    }

    #[test]
    fn the_floor_leaves_enough_entries_above_it() {
        let dir = tempfile::tempdir().unwrap();
        let (store, mut writer) = open(dir.path());
        apply(&mut writer, &articles(&[1, 2, 3, 4, 5]));
        for (entries, floor) in [(6, 0), (5, 0), (3, 2), (4, 2), (1, 4)] {
            writer.compact(1_000, &History { entries, ..BY_AGE }).unwrap();
            assert_eq!(store.head().floor, floor, "{entries}");
        }
    }

    #[test]
    fn tombstones_below_the_floor_go_but_for_those_that_last() {
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
        for (id, stays) in [
            ("withdrawn", false),
            ("deleted", false),
            ("expired", false),
            ("moved", true),
            ("killed", true),
            ("late", true),
            ("a", true),
        ] {
            assert_eq!(read::record(&writer.connection, &name(id)).unwrap().is_some(), stays, "{id}");
            let owner = read::path_owner(&writer.connection, &format!("/{id}")).unwrap();
            assert_eq!(owner.is_some(), stays, "{id}");
        }
        assert_eq!(digests(&store.head()), before);
        assert_eq!(faults(dir.path()), Vec::<String>::new());
        apply(&mut writer, &[article("deleted", "A", &["t"], 60)]);
        assert_eq!(faults(dir.path()), Vec::<String>::new());
    }

    #[test]
    fn a_long_history_goes_in_passes() {
        let dir = tempfile::tempdir().unwrap();
        let (store, writer) = open(dir.path());
        // Entries of that age no longer exist: only their links of the chain are left.
        let entries = 2 * PASS + 5;
        let old = CHAIN_KEPT + entries;
        let fill = "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ?1)
                    INSERT INTO chain SELECT n, zeroblob(32), CASE WHEN n <= ?2 THEN 1 ELSE 1000 END FROM n";
        writer.connection.execute(fill, [old, entries]).unwrap();
        writer.connection.execute("UPDATE head SET revision = ?1, chain = zeroblob(32)", [old]).unwrap();
        drop((writer, store));
        let (store, mut writer) = open(dir.path());
        for (floor, more) in [(PASS, true), (2 * PASS, true), (entries, false), (entries, false)] {
            assert_eq!(writer.compact(1_000, &BY_AGE).unwrap(), more, "{floor}");
            let first: i64 =
                writer.connection.query_row("SELECT min(revision) FROM chain", [], |row| row.get(0)).unwrap();
            assert_eq!((store.head().floor, first), (floor, floor + 1));
        }
        assert_eq!(faults(dir.path()), Vec::<String>::new());
    }
}
