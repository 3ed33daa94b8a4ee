//! The positions that consumers of feeds have acknowledged. They are stored beside the log and make no revision.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};

use super::{Error, Snapshot, Writer};
use crate::{
    digest::Hash,
    model::{LogId, Revision},
};

/// The key of a consumer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ConsumerKey {
    /// The name of the credential that it belongs to; empty for callers without one.
    pub(crate) owner: String,
    pub(crate) id: String,
}

/// A consumer, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Consumer {
    pub(crate) log_id: LogId,
    pub(crate) revision: Revision,
    pub(crate) chain: Hash,
    /// The time of its creation, in microseconds since 1970 UTC.
    pub(crate) created: i64,
    /// The time of its last acknowledgement, in microseconds since 1970 UTC.
    pub(crate) acknowledged: i64,
}

/// The consumers of a node.
pub(crate) type ConsumerTable = BTreeMap<ConsumerKey, Consumer>;

/// The new state of some consumers; `None` for those that are deleted.
pub(crate) type ConsumerChanges = BTreeMap<ConsumerKey, Option<Consumer>>;

impl Snapshot<'_> {
    /// Returns all consumers.
    pub(crate) fn consumers(self) -> Result<ConsumerTable, Error> {
        let sql = "SELECT owner, id, log_id, revision, chain, created, acknowledged FROM consumer";
        let mut statement = self.connection.prepare_cached(sql)?;
        let consumers = statement.query_map([], |row| {
            let key = ConsumerKey { owner: row.get(0)?, id: row.get(1)? };
            let consumer = Consumer {
                log_id: LogId(row.get(2)?),
                revision: row.get(3)?,
                chain: row.get(4)?,
                created: row.get(5)?,
                acknowledged: row.get(6)?,
            };
            Ok((key, consumer))
        })?;
        Ok(consumers.collect::<Result<_, _>>()?)
    }

    /// Returns the time of the oldest revision after another one, in microseconds since 1970 UTC. `None` if there is no
    /// such revision, or if its time is too old to be known.
    pub(crate) fn time_after(self, revision: Revision) -> Result<Option<i64>, Error> {
        let sql = "SELECT time FROM chain WHERE revision > ?1 ORDER BY revision LIMIT 1";
        let mut statement = self.connection.prepare_cached(sql)?;
        Ok(statement.query_row([revision], |row| row.get(0)).optional()?)
    }
}

impl Writer {
    /// Writes consumers in one transaction. They are on disk when the method returns. They may use the reserved disk
    /// space, because their number is bounded.
    ///
    /// # Errors
    /// Fails with `Uncertain` if the commit itself failed for a reason other than lack of space; otherwise nothing was
    /// written.
    pub(crate) fn write_consumers(&mut self, changes: &ConsumerChanges) -> Result<(), Error> {
        self.store.check_writable()?;
        write(&mut self.connection, changes).inspect_err(|error| error.report(self.store.health()))
    }
}

fn write(connection: &mut Connection, changes: &ConsumerChanges) -> Result<(), Error> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for (key, consumer) in changes {
        write_one(&transaction, key, consumer.as_ref())?;
    }
    transaction.commit().map_err(Error::from_commit)
}

fn write_one(
    transaction: &Transaction<'_>,
    ConsumerKey { owner, id }: &ConsumerKey,
    consumer: Option<&Consumer>,
) -> Result<(), Error> {
    let Some(Consumer { log_id, revision, chain, created, acknowledged }) = consumer else {
        let delete = "DELETE FROM consumer WHERE owner = ?1 AND id = ?2";
        transaction.prepare_cached(delete)?.execute(params![owner, id])?;
        return Ok(());
    };
    let replace = "INSERT OR REPLACE INTO consumer VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let values = params![owner, id, log_id.0, revision, chain, created, acknowledged];
    transaction.prepare_cached(replace)?.execute(values)?;
    Ok(())
}

/// Copies the consumers of another store.
pub(super) fn copy(from: Snapshot<'_>, to: &mut Writer) -> Result<(), Error> {
    let consumers = from.consumers()?;
    to.write_consumers(&consumers.into_iter().map(|(key, consumer)| (key, Some(consumer))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{
        fixture::{apply, article, open},
        read_only::ReadOnlyStore,
    };

    fn key(owner: &str, id: &str) -> ConsumerKey {
        ConsumerKey { owner: owner.into(), id: id.into() }
    }

    fn consumer(revision: Revision) -> Consumer {
        let head = Hash::try_from(&[revision as u8; 32][..]).unwrap();
        Consumer { log_id: LogId(u32::MAX), revision, chain: head, created: 1, acknowledged: 2 }
    }

    #[test]
    fn consumers_survive_the_process_and_change_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let (store, mut writer) = open(dir.path());
        apply(&mut writer, &[article("a", "A", &["t"], 1)]);
        let (head, mut heads) = (store.head(), store.heads());
        heads.mark_unchanged();
        let changes: ConsumerChanges =
            [(key("", "a"), Some(consumer(1))), (key("x", "a"), Some(consumer(2)))].into();
        writer.write_consumers(&changes).unwrap();
        let changes = [(key("", "a"), None), (key("x", "a"), Some(consumer(3))), (key("y", "b"), None)];
        writer.write_consumers(&changes.into()).unwrap();
        assert_eq!(store.head(), head);
        assert!(!heads.has_changed().unwrap(), "followers are not woken");
        drop((store, writer));
        let (store, _writer) = open(dir.path());
        assert_eq!(store.head(), head);
        let stored = ReadOnlyStore::open(dir.path()).unwrap().read(|snapshot| snapshot.consumers()).unwrap();
        assert_eq!(stored, [(key("x", "a"), consumer(3))].into());
    }

    #[test]
    fn a_failed_write_changes_no_consumer() {
        let dir = tempfile::tempdir().unwrap();
        let (_store, mut writer) = open(dir.path());
        writer.write_consumers(&[(key("", "a"), Some(consumer(1)))].into()).unwrap();
        let full = "CREATE TEMP TRIGGER full BEFORE INSERT ON main.consumer WHEN new.id = 'c'
                    BEGIN SELECT RAISE(ABORT, 'full'); END";
        writer.connection.execute_batch(full).unwrap();
        let changes =
            [(key("", "a"), None), (key("", "b"), Some(consumer(2))), (key("", "c"), Some(consumer(2)))];
        writer.write_consumers(&changes.into()).unwrap_err();
        let stored = ReadOnlyStore::open(dir.path()).unwrap().read(|snapshot| snapshot.consumers()).unwrap();
        assert_eq!(stored, [(key("", "a"), consumer(1))].into());
    }

    #[test]
    fn the_time_after_a_revision_is_that_of_the_next_commit() {
        let dir = tempfile::tempdir().unwrap();
        let (_store, mut writer) = open(dir.path());
        for (id, time) in [("a", 100), ("b", 200)] {
            apply(&mut writer, &[article(id, "A", &["t"], time)]);
        }
        let store = ReadOnlyStore::open(dir.path()).unwrap();
        let times = [0, 1, 2].map(|revision| store.read(|snapshot| snapshot.time_after(revision)).unwrap());
        assert!(times[0].is_some() && times[1].is_some() && times[2].is_none(), "{times:?}");
    }
}
