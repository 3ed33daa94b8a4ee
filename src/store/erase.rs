//! Erasure: after a kill, nothing of the killed content remains in a file of the store or in memory.
//!
//! `secure_delete` alone does not achieve this. It zeroes the bytes of a deleted row. But when SQLite repacks the rows
//! of a page, copies of them can remain in the unused middle of the page, and outlive the rows.

use std::{
    ops::RangeInclusive,
    time::{Duration, Instant},
};

use rusqlite::{Connection, TransactionBehavior, params};

use super::{Error, Writer};

/// The time for which a kill waits for reads of the state before it.
pub(super) const READER_TIMEOUT: Duration = Duration::from_secs(10);

/// The maximum number of pages that are cleared in one transaction, 8 MiB: the write-ahead log stays small on a full
/// disk.
const MAX_PAGES: u32 = 1_024;

/// The types of the nodes of a tree, in the first byte of a page:
/// <https://sqlite.org/fileformat2.html#b_tree_pages>.
const INTERIOR_INDEX: u8 = 2;
const INTERIOR_TABLE: u8 = 5;
const LEAF_INDEX: u8 = 10;
const LEAF_TABLE: u8 = 13;

/// The sizes of the headers of nodes, in bytes. The list of cells follows the header.
const INTERIOR_HEADER_BYTES: usize = 12;
const LEAF_HEADER_BYTES: usize = 8;

/// The offsets of the number of cells and of the start of their content in a header, 2 bytes each.
const CELL_COUNT_OFFSET: usize = 3;
const CELL_CONTENT_OFFSET: usize = 5;

/// The size of an item in the list of cells, in bytes.
const CELL_POINTER_BYTES: usize = 2;

impl Writer {
    /// Erases removed content: from the caches, from the pages of the database, and from the write-ahead log, by
    /// emptying it. Reads continue meanwhile. It takes about a second per GB of the store.
    ///
    /// # Errors
    /// Fails with `NotErased` if an old state of the store is read for too long, or if the disk is full or fails. The
    /// kill remains committed, and erasing may be repeated.
    pub(crate) fn erase(&mut self) -> Result<(), Error> {
        self.store.notify_erase_listeners();
        match self.erase_files() {
            Ok(true) => return Ok(()),
            Ok(false) => tracing::error!("erase timed out: an older snapshot is still being read"),
            Err(error) => {
                let error = Error::from(error);
                error.report(self.store.health());
                tracing::error!(error = &error as &dyn std::error::Error, "erase failed");
            }
        }
        Err(Error::NotErased)
    }

    /// Returns whether the content is erased. If not, an old state of the store is still being read.
    fn erase_files(&mut self) -> rusqlite::Result<bool> {
        clear_pages(&mut self.connection)?;
        let started = Instant::now();
        while !truncate_log(&self.connection, Duration::from_millis(200))? {
            if started.elapsed() >= self.reader_timeout {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Drop for Writer {
    /// Empties the write-ahead log, so that a closed store takes no more space than it needs, and is one file.
    fn drop(&mut self) {
        // After a failed sync the log is the better copy.
        if self.store.check_writable().is_err() {
            return;
        }
        if let Err(error) = truncate_log(&self.connection, Duration::from_millis(200)) {
            tracing::warn!(%error, "write-ahead log not emptied");
        }
    }
}

/// Moves the write-ahead log into the database and truncates it to zero bytes. Returns `false` if its content is still
/// being read after `wait`.
pub(super) fn truncate_log(connection: &Connection, wait: Duration) -> rusqlite::Result<bool> {
    connection.busy_timeout(wait)?;
    let busy = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0));
    connection.busy_timeout(super::schema::BUSY_TIMEOUT)?;
    Ok(!busy?)
}

/// Zeroes the bytes of every page that no row uses. The one writer is busy here, so nothing changes between two steps.
fn clear_pages(connection: &mut Connection) -> rusqlite::Result<()> {
    let pages: u32 = connection.query_row("PRAGMA page_count", [], |row| row.get(0))?;
    // The first page holds only the schema.
    let mut first = 2;
    while first <= pages {
        let last = pages.min(first.saturating_add(MAX_PAGES - 1));
        clear(connection, first..=last)?;
        first = last + 1;
    }
    Ok(())
}

fn clear(connection: &mut Connection, pages: RangeInclusive<u32>) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for page in pages {
        let mut select = transaction.prepare_cached("SELECT data FROM sqlite_dbpage WHERE pgno = ?1")?;
        let cleared = select.query_row([page], |row| Ok(row.get_ref(0)?.as_blob().ok().and_then(cleared)))?;
        if let Some(cleared) = cleared {
            let update = "UPDATE sqlite_dbpage SET data = ?2 WHERE pgno = ?1";
            transaction.prepare_cached(update)?.execute(params![page, cleared])?;
        }
    }
    transaction.commit()
}

/// Returns a node of a tree with zeroes between its list of cells and the first of them. Returns `None` if the page is
/// not a node, which its first byte shows thanks to `schema::SETTINGS`, or if those bytes are zero.
fn cleared(page: &[u8]) -> Option<Vec<u8>> {
    let cell_list = match *page.first()? {
        INTERIOR_INDEX | INTERIOR_TABLE => INTERIOR_HEADER_BYTES,
        LEAF_INDEX | LEAF_TABLE => LEAF_HEADER_BYTES,
        _ => return None,
    };
    let number = |at: usize| Some(usize::from(u16::from_be_bytes([*page.get(at)?, *page.get(at + 1)?])));
    let cell_count = number(CELL_COUNT_OFFSET)?;
    let unused = cell_list + CELL_POINTER_BYTES * cell_count..number(CELL_CONTENT_OFFSET)?;
    // A damaged page must not lose cells that it still has.
    let cells = (0..cell_count).map(|cell| number(cell_list + CELL_POINTER_BYTES * cell));
    if cells.clone().any(|start| start.is_none_or(|start| start < unused.end)) {
        return None;
    }
    if page.get(unused.clone())?.iter().all(|byte| *byte == 0) {
        return None;
    }
    let mut cleared = page.to_vec();
    cleared[unused].fill(0);
    Some(cleared)
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, fs, path::Path};

    use super::*;
    use crate::{
        model::Slot,
        store::{
            ReadOnlyStore,
            fixture::{apply, article, faults, name, noise, open, pending, removal, snapshot},
        },
        wire::v1::RemovalReason,
    };

    /// A byte sequence to search for, long enough not to occur by chance.
    type Sequence = [u8; 32];

    /// Returns the envelope and the page of an article as they are stored, in pieces, without their ends, which other
    /// versions can share.
    fn stored(writer: &Writer, id: &str, slot: Slot) -> HashSet<Sequence> {
        let sql = "SELECT entry, page FROM doc WHERE id = ?1 AND slot = ?2";
        let columns = |row: &rusqlite::Row<'_>| Ok([row.get(0)?, row.get::<_, Option<Vec<u8>>>(1)?]);
        let stored = writer.connection.query_row(sql, params![id, slot as i64], columns).unwrap();
        let middle = |column: &Vec<u8>| column.get(64..column.len().saturating_sub(64)).map(<[u8]>::to_vec);
        let middles: Vec<Vec<u8>> = stored.iter().flatten().filter_map(middle).collect();
        let pieces = middles.iter().flat_map(|middle| middle.chunks_exact(32));
        pieces.map(|chunk| chunk.try_into().unwrap()).collect()
    }

    /// Returns how many of the sequences occur in the files of a store.
    fn traces(dir: &Path, sequences: &HashSet<Sequence>) -> usize {
        let mut found: HashSet<&Sequence> = HashSet::new();
        for file in fs::read_dir(dir).unwrap() {
            let bytes = fs::read(file.unwrap().path()).unwrap();
            found.extend(bytes.windows(32).filter_map(|window| sequences.get(window)));
        }
        found.len()
    }

    /// Also with the setting off, to show that the search would find something.
    #[test]
    fn secure_delete_removes_killed_content_from_every_file() {
        for secure in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            let (store, mut writer) = open(dir.path());
            writer.connection.pragma_update(None, "secure_delete", secure).unwrap();
            let others = [("b", 4), ("c", 5)].map(|(id, seed)| article(id, &noise(seed, 9_000), &["t"], 1));
            apply(&mut writer, &others);
            apply(&mut writer, &[article("a", &noise(1, 1 << 16), &["t"], 1)]);
            let superseded = stored(&writer, "a", Slot::Live);
            apply(&mut writer, &[article("a", &noise(2, 1 << 16), &["t"], 2)]);
            let newest = stored(&writer, "a", Slot::Live);
            apply(&mut writer, &[pending(article("a", &noise(3, 1 << 16), &["t"], 2))]);
            let pending_version = stored(&writer, "a", Slot::Pending);
            let killed = [superseded, newest, pending_version];
            for sequences in &killed {
                assert!(sequences.len() > 900);
                assert!(traces(dir.path(), sequences) > sequences.len() * 9 / 10);
            }

            let kill = || removal("a", RemovalReason::Killed, 3);
            apply(&mut writer, &[pending(kill()), kill()]);
            writer.erase().unwrap();
            let traces_left = || killed.each_ref().map(|sequences| traces(dir.path(), sequences));
            // Each version would be found, even on its own.
            assert_eq!(traces_left().map(|count| count == 0), [secure; 3], "{:?}", traces_left());
            drop((writer, store));
            if secure {
                let (_store, writer) = open(dir.path());
                assert_eq!(traces_left(), [0; 3]);
                let tombstone = snapshot(&writer).record(&name("a")).unwrap().unwrap().tombstone();
                assert_eq!(tombstone.unwrap().reason, RemovalReason::Killed);
                for entry in others {
                    let found = snapshot(&writer).record(&entry.name).unwrap().unwrap();
                    assert_eq!(found.log, entry.log);
                }
                assert_eq!(faults(dir.path()), Vec::<String>::new());
            }
        }
    }

    /// With the seed of the search, deletion alone leaves copies.
    #[test]
    fn copies_in_unused_parts_of_pages_are_erased() {
        let dir = tempfile::tempdir().unwrap();
        let (_store, mut writer) = open(dir.path());
        let mut superseded = HashSet::new();
        for round in 0..40 {
            let versions: Vec<_> = (0..100)
                .map(|n| {
                    let random = xxhash_rust::xxh3::xxh3_64(format!("4 {round} {n}").as_bytes()) as usize;
                    let text = noise(random, 100 + random % 800);
                    article(&format!("a{}", random / 3_000 % 400), &text, &[], 1)
                })
                .collect();
            let names: HashSet<_> = versions.iter().map(|entry| entry.name.id.to_string()).collect();
            for id in &names {
                let sql = "SELECT count(*) FROM doc WHERE id = ?1";
                let held: i64 = writer.connection.query_row(sql, [id], |row| row.get(0)).unwrap();
                if held == 1 {
                    superseded.extend(stored(&writer, id, Slot::Live));
                }
            }
            apply(&mut writer, &versions);
        }
        assert!(truncate_log(&writer.connection, Duration::ZERO).unwrap());
        assert!(traces(dir.path(), &superseded) > 0, "no copy found before the erase");
        writer.erase().unwrap();
        assert_eq!(traces(dir.path(), &superseded), 0);
        assert_eq!(faults(dir.path()), Vec::<String>::new());
    }

    #[test]
    fn a_kill_is_erased_once_no_older_snapshot_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let (_store, mut writer) = open(dir.path());
        apply(&mut writer, &[article("a", &noise(1, 1 << 16), &[], 1)]);
        let killed = stored(&writer, "a", Slot::Live);
        let reader = ReadOnlyStore::open(dir.path()).unwrap();
        let read = reader.read(|snapshot| {
            snapshot.head()?;
            apply(&mut writer, &[removal("a", RemovalReason::Killed, 2)]);
            writer.reader_timeout = Duration::ZERO;
            assert!(matches!(writer.erase(), Err(Error::NotErased)));
            assert!(traces(dir.path(), &killed) > 0);
            Ok(())
        });
        read.unwrap();
        writer.erase().unwrap();
        assert_eq!(traces(dir.path(), &killed), 0);
    }

    #[test]
    fn a_closed_writer_leaves_an_empty_write_ahead_log() {
        let dir = tempfile::tempdir().unwrap();
        let (_store, mut writer) = open(dir.path());
        apply(&mut writer, &[article("a", &noise(1, 1 << 16), &[], 1)]);
        let log = dir.path().join("cable.db-wal");
        assert!(fs::metadata(&log).unwrap().len() > 30_000);
        drop(writer);
        assert_eq!(fs::metadata(&log).unwrap().len(), 0);
    }
}
