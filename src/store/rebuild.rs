//! Rebuilds a store from the entries of another: lists, paths, counts and digests are computed again, and the chain is
//! followed. A copy of the log goes through the same on any node.

use std::{path::Path, sync::Arc};

use rusqlite::{Row, params};

use super::{
    Error, Head, Identity, OpenError, Options, ReadOnlyStore, Snapshot, Store, Writer,
    apply::Applier,
    consumer,
    envelope::{self, Packed},
};
use crate::{
    digest::Hash,
    entry::Entry,
    model::{Name, Revision, Slot},
};

/// The maximum size of one transaction, in rows and in bytes of entries.
const MAX_CHUNK_ROWS: usize = 1_000;
const MAX_CHUNK_BYTES: usize = 8 << 20;

/// The result of a rebuild.
#[derive(Debug)]
pub(crate) struct RebuildReport {
    pub(crate) head: Head,
    /// The number of entries copied.
    pub(crate) entries: u64,
    /// Descriptions of the faults of the old store. An entry among them is not in the new one. If empty, both stores
    /// are equal in revision, chain, digests and counts.
    pub(crate) faults: Vec<String>,
}

/// The reason why there is no new store.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RebuildError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Store(#[from] Error),
}

/// Creates a store in the directory `to`, which must contain none, from the store in `from` in its state at one point
/// in time, with the same revisions. The log id is that of the old store only if `identity` keeps it. Remembered
/// requests are not copied, because they are not part of the log.
///
/// # Errors
/// Fails if the old store cannot be read, or if the new one cannot be written.
pub(crate) fn rebuild(from: &Path, to: &Path, identity: Identity) -> Result<RebuildReport, RebuildError> {
    ReadOnlyStore::open(from)?.read(|snapshot| Ok(rebuild_from(snapshot, to, identity)))?
}

fn rebuild_from(
    snapshot: Snapshot<'_>,
    to: &Path,
    identity: Identity,
) -> Result<RebuildReport, RebuildError> {
    let source = snapshot.head()?;
    let options = Options { dir: to.to_owned(), readers: 1, reserve_bytes: 0, health: Arc::default() };
    let log_id = match identity {
        Identity::New(log_id) => log_id,
        Identity::Original => source.log_id,
    };
    let (store, writer) = Store::open(options, log_id)?;
    let mut rebuild = Rebuild { writer, anchored: true, entries: 0, faults: Vec::new() };
    rebuild.copy_revisions(snapshot)?;
    rebuild.writer.transact(|applier| {
        applier.head.floor = source.floor;
        Ok(())
    })?;
    if let Err(error) = consumer::copy(snapshot, &mut rebuild.writer) {
        rebuild.faults.push(format!("consumers not copied: {error}"));
    }
    let Rebuild { entries, mut faults, .. } = rebuild;
    let head = store.head().as_ref().clone();
    if head != (Head { log_id, ..source }) {
        faults.push("head does not match the entries: revision, chain, digests or counts differ".into());
    }
    Ok(RebuildReport { head, entries, faults })
}

struct Rebuild {
    writer: Writer,
    /// Whether the chain is known at the new store's head, so that the next link can be verified.
    anchored: bool,
    entries: u64,
    faults: Vec<String>,
}

/// The data of one revision in the old store.
struct RevisionData {
    revision: Revision,
    /// The chain and the time, unless they are so old that they have been dropped.
    link: Option<(Hash, i64)>,
    /// The entry, unless a newer one has superseded it.
    entry: Option<Result<Box<(Entry, Packed)>, String>>,
    /// The stored size, in bytes.
    size: usize,
}

impl RevisionData {
    fn read(row: &Row<'_>) -> rusqlite::Result<RevisionData> {
        let revision = row.get(0)?;
        let link = row.get::<_, Option<Hash>>(1)?.zip(row.get(2)?);
        let stored = row.get_ref(3)?.as_blob_or_null().ok().flatten();
        let entry = stored.map(|stored| entry(row, revision, stored)).transpose()?;
        Ok(RevisionData { revision, link, entry, size: stored.map_or(0, <[u8]>::len) })
    }
}

fn entry(
    row: &Row<'_>,
    revision: Revision,
    stored: &[u8],
) -> rusqlite::Result<Result<Box<(Entry, Packed)>, String>> {
    let id: String = row.get(6)?;
    let damaged = || format!("revision {revision} ({id}): the entry is damaged");
    let hash: Hash = row.get(4)?;
    let kind = crate::model::Kind::from_number(row.get(5)?);
    let name = kind.zip(crate::model::Id::parse(&id)).map(|(kind, id)| Name { kind, id });
    let key = name.zip(Slot::from_number(row.get(7)?));
    let opened = key.and_then(|(name, slot)| {
        let bytes = envelope::open(stored, (&name, slot), revision).ok()?;
        let is_same_key = |entry: &Entry| entry.name == name && entry.slot == slot && entry.hash == hash;
        let entry = Entry::decode(bytes).ok().filter(is_same_key)?;
        let packed = envelope::pack(&entry.bytes).ok()?;
        Some((entry, packed))
    });
    Ok(opened.map(Box::new).ok_or_else(damaged))
}

impl Rebuild {
    /// Visits all revisions of which the old store has data, in their order.
    fn copy_revisions(&mut self, from: Snapshot<'_>) -> Result<(), Error> {
        let sql = "SELECT revision, chain.chain, chain.time, doc.entry, doc.hash, doc.kind, doc.id, doc.slot
                   FROM (SELECT revision FROM doc UNION SELECT revision FROM chain)
                   LEFT JOIN chain USING(revision) LEFT JOIN doc USING(revision) ORDER BY revision";
        let mut statement = from.connection.prepare(sql)?;
        let mut rows = statement.query([])?;
        let (mut chunk, mut size) = (Vec::with_capacity(MAX_CHUNK_ROWS), 0);
        while let Some(row) = rows.next()? {
            let data = RevisionData::read(row)?;
            size += data.size;
            chunk.push(data);
            if chunk.len() == MAX_CHUNK_ROWS || size > MAX_CHUNK_BYTES {
                self.apply_chunk(std::mem::take(&mut chunk))?;
                size = 0;
            }
        }
        self.apply_chunk(chunk)
    }

    fn apply_chunk(&mut self, revisions: Vec<RevisionData>) -> Result<(), Error> {
        let Rebuild { writer, anchored, entries, faults } = self;
        writer.transact(|applier| {
            for RevisionData { revision, link, entry, .. } in revisions {
                match entry {
                    Some(Ok(entry)) => {
                        let (entry, packed) = *entry;
                        let computed = applier.apply_at(&entry, &packed, revision)?.filter(|_| *anchored);
                        if computed.zip(link).is_some_and(|(computed, (chain, _))| computed != chain) {
                            faults.push(format!("chain link {revision} does not match its entry"));
                        }
                        *entries += 1;
                    }
                    Some(Err(fault)) => faults.push(fault),
                    None => {}
                }
                applier.copy_link(revision, link)?;
                *anchored = link.is_some();
            }
            Ok(())
        })
    }
}

impl Applier<'_> {
    /// Applies an entry at its own revision. Returns the link that follows from it, if the head is just before it.
    fn apply_at(
        &mut self,
        entry: &Entry,
        packed: &Packed,
        revision: Revision,
    ) -> Result<Option<Hash>, Error> {
        let contiguous = self.head.revision == revision - 1;
        self.head.revision = revision - 1;
        self.apply(entry, packed)?;
        Ok(contiguous.then_some(self.head.chain))
    }

    /// Copies the link of a revision in the chain, if it is known.
    fn copy_link(&mut self, revision: Revision, link: Option<(Hash, i64)>) -> Result<(), Error> {
        self.head.revision = revision;
        self.transaction.prepare_cached("DELETE FROM chain WHERE revision = ?1")?.execute([revision])?;
        if let Some((chain, time)) = link {
            self.head.chain = chain;
            let insert = "INSERT INTO chain VALUES(?1, ?2, ?3)";
            self.transaction.prepare_cached(insert)?.execute(params![revision, chain, time])?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Duration};

    use rusqlite::Connection;

    use super::*;
    use crate::{
        model::LogId,
        store::{
            fixture::{apply, article, faults, noise, open, pending, removal},
            floor::History,
        },
        wire::v1::RemovalReason,
    };

    fn create_store(dir: &Path) {
        let (_store, mut writer) = open(dir);
        let put = |id: usize, n: usize| article(&format!("a{id}"), &noise(n, 300), &["t"], n as i64);
        let versions: Vec<_> = (0..60).map(|n| put(n * n % 17, n)).collect();
        apply(&mut writer, &versions);
        apply(&mut writer, &[removal("a0", RemovalReason::Deleted, 70)]);
        let pending_versions = [pending(put(2, 72)), pending(put(90, 72))];
        apply(&mut writer, &pending_versions);
        apply(&mut writer, &[removal("a1", RemovalReason::Moved, 70), put(2, 71)]);
        let history = History { age: Duration::from_micros(1), entries: 2 };
        writer.compact(1_000, &history).unwrap();
    }

    /// Drops links as if the first of a million positions had been dropped.
    fn drop_links(dir: &Path, up_to: i64) {
        let connection = Connection::open(dir.join("cable.db")).unwrap();
        connection.execute("DELETE FROM chain WHERE revision <= ?1", [up_to]).unwrap();
    }

    #[test]
    fn a_rebuilt_store_equals_the_original() {
        for dropped in [0, 55, 63] {
            let dir = tempfile::tempdir().unwrap();
            let (old, new) = (dir.path().join("old"), dir.path().join("new"));
            create_store(&old);
            drop_links(&old, dropped);
            let rebuilt = rebuild(&old, &new, Identity::Original).unwrap();
            assert_eq!(rebuilt.faults, Vec::<String>::new());
            assert_eq!((rebuilt.head.revision, rebuilt.head.floor, rebuilt.entries), (65, 63, 10));
            assert_eq!(rebuilt.head.log_id, LogId(7));
            assert_eq!(faults(&new), Vec::<String>::new());
            let another = dir.path().join("another");
            let other = rebuild(&old, &another, Identity::New(LogId(9))).unwrap();
            assert_eq!(other.faults, Vec::<String>::new());
            assert_eq!(other.head, Head { log_id: LogId(9), ..rebuilt.head });
            assert_eq!(open(&another).0.head().log_id, LogId(9));
        }
    }

    #[test]
    fn a_damaged_entry_is_reported_and_omitted() {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) = (dir.path().join("old"), dir.path().join("new"));
        create_store(&old);
        let connection = Connection::open(old.join("cable.db")).unwrap();
        let damage = "UPDATE doc SET entry = zeroblob(length(entry)) WHERE id = 'a16'";
        assert_eq!(connection.execute(damage, []).unwrap(), 1);
        drop(connection);
        let rebuilt = rebuild(&old, &new, Identity::Original).unwrap();
        assert!(rebuilt.faults[0].contains("(a16): the entry is damaged"), "{:?}", rebuilt.faults);
        assert_eq!((rebuilt.faults.len(), rebuilt.entries), (2, 9));
        assert_eq!(faults(&new), Vec::<String>::new());
    }

    #[test]
    fn a_chain_that_does_not_match_its_entries_is_reported() {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) = (dir.path().join("old"), dir.path().join("new"));
        create_store(&old);
        let connection = Connection::open(old.join("cable.db")).unwrap();
        connection.execute("UPDATE chain SET chain = zeroblob(32) WHERE revision = 64", []).unwrap();
        drop(connection);
        let faults = rebuild(&old, &new, Identity::Original).unwrap().faults;
        assert!(faults.iter().any(|fault| fault.contains("link 64 does not match")), "{faults:?}");
        assert!(fs::exists(new.join("cable.db")).unwrap());
    }
}
