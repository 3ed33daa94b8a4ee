//! Snapshots: read transactions on the database. Each module of the store adds its queries to [`Snapshot`].

use rusqlite::{Connection, Transaction};

use super::Error;

/// The state of the store in one transaction, with the queries of the store as its methods. All of them see the same
/// state.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Snapshot<'a> {
    pub(super) connection: &'a Connection,
}

impl<'a> Snapshot<'a> {
    /// Returns the state within a transaction of the writer.
    pub(super) fn within(transaction: &'a Transaction<'_>) -> Snapshot<'a> {
        Snapshot { connection: transaction }
    }

    /// Runs a read in a transaction of its own.
    ///
    /// Even a read of one record needs a transaction: it looks up an absent name in both indexes of names, and a commit
    /// between the two lookups would pass for damage. The two statements around the read are cached and touch no page.
    /// In exchange, SQLite locks the write-ahead log once for the read, not once for each of its statements.
    pub(super) fn read<T>(
        connection: &Connection,
        job: impl FnOnce(Snapshot<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        connection.prepare_cached("BEGIN")?.execute([])?;
        let transaction = ReadTransaction(connection);
        job(Snapshot { connection: transaction.0 })
    }
}

/// A read transaction. Dropping it ends the transaction, also when the read panics.
struct ReadTransaction<'a>(&'a Connection);

impl Drop for ReadTransaction<'_> {
    fn drop(&mut self) {
        // After some errors of the disk, SQLite itself has ended the transaction.
        if self.0.is_autocommit() {
            return;
        }
        let ended = self.0.prepare_cached("ROLLBACK").and_then(|mut statement| statement.execute([]));
        if let Err(error) = ended {
            tracing::error!(%error, "read transaction not ended");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{
        fixture::{apply, article, name, open},
        read_only::ReadOnlyStore,
    };

    #[test]
    fn all_queries_of_a_read_see_the_same_state() {
        let dir = tempfile::tempdir().unwrap();
        let (_store, mut writer) = open(dir.path());
        let reader = ReadOnlyStore::open(dir.path()).unwrap();
        let state = |snapshot: Snapshot<'_>| {
            Ok((snapshot.head()?.revision, snapshot.record(&name("a"))?.map(|record| record.revision)))
        };
        let read = reader.read(|snapshot| {
            let before = state(snapshot)?;
            apply(&mut writer, &[article("a", "A", &["t"], 1)]);
            Ok((before, state(snapshot)?))
        });
        assert_eq!(read.unwrap(), ((0, None), (0, None)));
        assert_eq!(reader.read(state).unwrap(), (1, Some(1)));
    }
}
