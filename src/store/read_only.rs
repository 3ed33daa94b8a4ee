//! The database of a store, read by a command beside the process that serves it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, OpenFlags};
use rustix::fs::{StatVfsMountFlags, statvfs};

use super::{
    DATABASE, Error, OpenError, Snapshot, check_log_intact, copy::copy_database, directory::is_served,
    schema, session,
};

/// The database of a store, open for reading. A node may serve the store meanwhile.
#[derive(Debug)]
pub(crate) struct ReadOnlyStore {
    connection: Connection,
    dir: PathBuf,
}

impl ReadOnlyStore {
    /// Opens the database of the store in a directory.
    ///
    /// # Errors
    /// Fails if there is no database, or if it is not a store of Cable.
    pub(crate) fn open(dir: &Path) -> Result<ReadOnlyStore, OpenError> {
        let path = dir.join(DATABASE);
        match path.try_exists() {
            Ok(true) => {}
            Ok(false) => return Err(OpenError::Absent(dir.to_owned())),
            Err(source) => return Err(OpenError::Io { path, source }),
        }
        check_log_intact(dir)?;
        let engine = |source| OpenError::engine(&path, source);
        let connection = match is_on_read_only_file_system(dir) {
            true => open_unchanging(dir)?,
            false => open_beside_node(dir)?,
        };
        match schema::version(&connection).map_err(engine)? {
            Some(schema::VERSION) => {}
            Some(0) | None => return Err(OpenError::Foreign(path)),
            Some(version) => return Err(OpenError::Version { path, version }),
        }
        schema::configure(&connection, schema::Role::Reader).map_err(engine)?;
        Ok(ReadOnlyStore { connection, dir: dir.to_owned() })
    }

    /// Runs a read in one transaction.
    ///
    /// # Errors
    /// Fails if the read fails.
    pub(crate) fn read<T>(&self, job: impl FnOnce(Snapshot<'_>) -> Result<T, Error>) -> Result<T, Error> {
        Snapshot::read(&self.connection, job)
    }

    /// Copies the database in its state at one point in time, while others continue to read and write it. The copy is
    /// compact, and not yet synced to the disk.
    ///
    /// # Errors
    /// Fails if the store cannot be read, or if the copy cannot be written. The target must not exist yet.
    pub(crate) fn copy_to(&self, path: &Path) -> Result<(), Error> {
        copy_database(&self.connection, &self.dir, path)
    }
}

fn open_beside_node(dir: &Path) -> Result<Connection, OpenError> {
    let path = dir.join(DATABASE);
    let engine = |source| OpenError::engine(&path, source);
    let has_log = !is_served(dir) && session::check_log_origin(dir)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(&path, flags).map_err(engine)?;
    // A command that reads a killed store leaves its files as they are.
    schema::set_log_retained(&connection, has_log).map_err(engine)?;
    Ok(connection)
}

fn is_on_read_only_file_system(dir: &Path) -> bool {
    statvfs(dir).is_ok_and(|system| system.f_flag.contains(StatVfsMountFlags::RDONLY))
}

/// Opens a database without writing beside it, as SQLite otherwise does. Such a connection neither sees the write-ahead
/// log, nor notices a change of the database: by a node for which the same file system is mounted for writing.
fn open_unchanging(dir: &Path) -> Result<Connection, OpenError> {
    let path = dir.join(DATABASE);
    let log = fs::metadata(dir.join(format!("{DATABASE}-wal")));
    if log.is_ok_and(|log| log.len() > 0) || is_served(dir) {
        return Err(OpenError::ReadOnlyFileSystem(dir.to_owned()));
    }
    session::open_unchanging(&path).map_err(|source| OpenError::engine(&path, source))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{
        Writer,
        fixture::{apply, article, open},
    };

    fn write(writer: &mut Writer) {
        apply(writer, &[article("a", "Storm", &["t"], 1)]);
    }

    /// A test cannot mount a file system, but what is opened on one is a directory like any other.
    #[test]
    fn an_unchanging_store_is_copied_and_one_with_a_log_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (store, mut writer) = open(dir.path());
        write(&mut writer);
        let refused = |dir: &Path| matches!(open_unchanging(dir), Err(OpenError::ReadOnlyFileSystem(_)));
        assert!(refused(dir.path()), "its node runs");
        let killed = tempfile::tempdir().unwrap();
        for file in [DATABASE, "cable.db-wal"] {
            fs::copy(dir.path().join(file), killed.path().join(file)).unwrap();
        }
        assert!(refused(killed.path()), "commits are in its log");
        drop((store, writer));
        while dir.path().join("cable.db-wal").exists() {
            std::thread::yield_now();
        }
        let files = || fs::read_dir(dir.path()).unwrap().count();
        let before = files();
        let connection = open_unchanging(dir.path()).unwrap();
        let copy = killed.path().join("copy");
        copy_database(&connection, dir.path(), &copy).unwrap();
        assert_eq!(files(), before);
        let count = "SELECT count(*) FROM doc WHERE live = 1";
        let copied = session::open_unchanging(&copy).unwrap();
        assert_eq!(copied.query_row(count, [], |row| row.get::<_, i64>(0)).unwrap(), 1);
    }
}
