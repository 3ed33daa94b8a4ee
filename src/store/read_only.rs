//! The database of a store, read by a command beside the process that serves it.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::{
    DATABASE, Error, OpenError, Snapshot, check_log_intact, copy::copy_database, directory::is_served,
    schema, session,
};

/// The database of a store, open for reading. A node may serve the store meanwhile.
#[derive(Debug)]
pub(crate) struct ReadOnlyStore(Connection);

impl ReadOnlyStore {
    /// Opens the database of the store in a directory.
    ///
    /// # Errors
    /// Fails if there is no database, or if it is not a store of Cable.
    pub(crate) fn open(dir: &Path) -> Result<ReadOnlyStore, OpenError> {
        let path = dir.join(DATABASE);
        if !path.exists() {
            return Err(OpenError::Absent(dir.to_owned()));
        }
        check_log_intact(dir)?;
        let has_log = !is_served(dir) && session::check_log_origin(dir)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let engine = |source| OpenError::engine(&path, source);
        let connection = Connection::open_with_flags(&path, flags).map_err(engine)?;
        // A command that reads a killed store leaves its files as they are.
        schema::set_log_retained(&connection, has_log).map_err(engine)?;
        match schema::version(&connection).map_err(engine)? {
            Some(schema::VERSION) => {}
            Some(0) | None => return Err(OpenError::Foreign(path)),
            Some(version) => return Err(OpenError::Version { path, version }),
        }
        schema::configure(&connection, schema::Role::Reader).map_err(engine)?;
        Ok(ReadOnlyStore(connection))
    }

    /// Runs a read in one transaction.
    ///
    /// # Errors
    /// Fails if the read fails.
    pub(crate) fn read<T>(&self, job: impl FnOnce(Snapshot<'_>) -> Result<T, Error>) -> Result<T, Error> {
        Snapshot::read(&self.0, job)
    }

    /// Copies the database in its state at one point in time, while others continue to read and write it. The copy is
    /// compact, and not yet synced to the disk.
    ///
    /// # Errors
    /// Fails if the store cannot be read, or if the copy cannot be written. The target must not exist yet.
    pub(crate) fn copy_to(&self, path: &Path) -> Result<(), Error> {
        copy_database(&self.0, path)
    }
}
