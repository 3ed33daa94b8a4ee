//! Small stores for tests.

use std::{path::Path, sync::Arc};

use prost::Message as _;
use xxhash_rust::xxh3::xxh3_64;

use super::{Options, ReadOnlyStore, Snapshot, Store, Writer, envelope};
use crate::{
    entry::Entry,
    model::{LogId, Name, Revision, Slot},
    wire::{log, v1},
};

/// Opens a store in a directory.
pub(crate) fn open(dir: &Path) -> (Arc<Store>, Writer) {
    let options = Options { dir: dir.to_owned(), readers: 1, reserve_bytes: 0, health: Arc::default() };
    Store::open(options, LogId(7)).unwrap()
}

/// Returns text that does not repeat, the same for the same seed.
pub(crate) fn noise(seed: usize, characters: usize) -> String {
    let word = |n: usize| format!("{:016x}", xxh3_64(format!("{seed} {n}").as_bytes()));
    (0..characters / 16).map(word).collect()
}

/// Returns a version of an article with a bare id and a time in microseconds.
pub(crate) fn article(id: &str, headline: &str, tags: &[&str], time: i64) -> Entry {
    let tags = tags.iter().map(|tag| format!("tags/{tag}")).collect();
    let path = format!("/{id}");
    let content = v1::Article { headline: headline.to_owned(), tags, path, ..Default::default() };
    let log = log::LogEntry {
        operation: log::Operation::Put as i32,
        time,
        content: content.encode_to_vec().into(),
        ..Default::default()
    };
    Entry::new(name(id), Slot::Live, log)
}

/// Returns the removal of an article, with the path that led to it.
pub(crate) fn removal(id: &str, reason: v1::RemovalReason, time: i64) -> Entry {
    let former = log::FormerPath { path: format!("/{id}"), cease_time: time, ..Default::default() };
    let log = log::LogEntry {
        operation: log::Operation::Remove as i32,
        reason: reason as i32,
        time,
        former_paths: vec![former],
        ..Default::default()
    };
    Entry::new(name(id), Slot::Live, log)
}

/// Returns the same entry in the pending slot.
pub(crate) fn pending(entry: Entry) -> Entry {
    Entry::new(entry.name, Slot::Pending, entry.log)
}

/// Returns the name of an article.
pub(crate) fn name(id: &str) -> Name {
    Name::parse(&format!("articles/{id}")).unwrap()
}

/// Applies entries in one transaction. Returns the revision of the last one.
pub(crate) fn apply(writer: &mut Writer, entries: &[Entry]) -> Revision {
    let apply = |applier: &mut super::apply::Applier<'_>| {
        for entry in entries {
            applier.apply(entry, &envelope::pack(&entry.bytes).unwrap())?;
        }
        Ok(applier.head().revision)
    };
    writer.transact(apply).unwrap()
}

/// Renames the table from which departures are read, or renames it back. Reads of the history fail while it is hidden.
pub(crate) fn hide_departures(dir: &Path, hide: bool) {
    let (from, to) = if hide { ("departure", "hidden") } else { ("hidden", "departure") };
    let connection = rusqlite::Connection::open(dir.join(super::DATABASE)).unwrap();
    connection.execute_batch(&format!("ALTER TABLE {from} RENAME TO {to}")).unwrap();
}

/// Returns the faults of a store, none if it is intact.
pub(crate) fn faults(dir: &Path) -> Vec<String> {
    ReadOnlyStore::open(dir).unwrap().read(|snapshot| snapshot.verify()).unwrap().faults
}

/// Returns the state that the writer's next transaction starts from.
pub(super) fn snapshot(writer: &Writer) -> Snapshot<'_> {
    Snapshot { connection: &writer.connection }
}

/// Returns the number of rows that the writer has changed so far.
pub(crate) fn changes(writer: &Writer) -> u64 {
    writer.connection.total_changes()
}

/// Limits the database to its present size, so that it is full.
pub(crate) fn fill(writer: &Writer) {
    let pages: i64 = writer.connection.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
    writer.connection.pragma_update(None, "max_page_count", pages).unwrap();
}
