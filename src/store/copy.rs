//! Copies of the database: to a file that a command names, and of a running node to a file without a name.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

use rusqlite::{Connection, OpenFlags};

use super::{DATABASE, Error, Head, Store, directory::had_credentials, read, schema, session};

/// The start of the names of directories in which a node copies its store, and a command restores one.
pub(crate) const PREFIX: &str = ".cable-copy-";

/// The number of steps of SQLite between two looks at whether a copy is still wanted: some microseconds.
const STEPS_BETWEEN_CHECKS: i32 = 1_000;

/// A copy of a store that is removed from the disk when its file is closed, even if the process is killed.
#[derive(Debug)]
pub(crate) struct StoreCopy {
    pub(crate) file: File,
    pub(crate) bytes: u64,
    /// The head of the store in the copy.
    pub(crate) head: Head,
}

/// Copies a database in its state at one point in time, while others continue to read and write it. The copy is
/// compact, and not yet synced to the disk. It records whether the directory `dir` of the database has credentials.
///
/// # Errors
/// Fails if the database cannot be read, or if the copy cannot be written. The target must not exist yet.
pub(super) fn copy_database(connection: &Connection, dir: &Path, path: &Path) -> Result<(), Error> {
    // A query-only connection may not write other files either.
    connection.pragma_update(None, "query_only", false)?;
    connection.execute("VACUUM INTO ?1", [path.to_string_lossy()])?;
    Ok(session::mark_copy(path, had_credentials(dir))?)
}

impl Store {
    /// Copies the store, on the disk of the store. It takes as long as reading and writing the database once. The
    /// write-ahead log grows meanwhile by what is written. The copy fails soon after `is_cancelled` returns `true`.
    ///
    /// # Errors
    /// Fails if the disk has no room, if a file fails, or if it is cancelled.
    pub(crate) fn copy(
        &self,
        is_cancelled: impl FnMut() -> bool + Send + 'static,
    ) -> Result<StoreCopy, Error> {
        self.check_room_for_copy()?;
        // A full disk prevents this copy alone: the reserve was checked.
        self.copy_unchecked(is_cancelled).inspect_err(|error| {
            if let Error::Malformed(_) = error {
                error.report(&self.options.health);
            }
        })
    }

    fn copy_unchecked(
        &self,
        is_cancelled: impl FnMut() -> bool + Send + 'static,
    ) -> Result<StoreCopy, Error> {
        let store = &self.options.dir;
        let dir = tempfile::Builder::new().prefix(PREFIX).tempdir_in(store)?;
        let path = dir.path().join(DATABASE);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(store.join(DATABASE), flags)?;
        schema::configure(&connection, schema::Role::Reader)?;
        connection.progress_handler(STEPS_BETWEEN_CHECKS, Some(is_cancelled))?;
        copy_database(&connection, store, &path)?;
        let copied = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let head = read::head(&copied)?;
        drop(copied);
        let file = File::open(&path)?;
        let bytes = file.metadata()?.len();
        // The open file remains readable.
        dir.close()?;
        Ok(StoreCopy { file, bytes, head })
    }

    /// Fails if a copy would take space that is reserved.
    fn check_room_for_copy(&self) -> Result<(), Error> {
        let reserve = self.options.reserve_bytes.saturating_add(self.bytes_on_disk());
        match self.free_bytes().filter(|free| *free < reserve) {
            Some(free) => Err(Error::NoRoomForCopy { free, required: reserve }),
            None => Ok(()),
        }
    }
}

/// Removes the copies of a process that was killed while it made them.
pub(crate) fn remove_abandoned(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes()) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read as _,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering::Relaxed},
        },
    };

    use super::*;
    use crate::store::fixture::{apply, article, faults, noise, open};

    fn copies(dir: &Path) -> usize {
        let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.as_encoded_bytes().starts_with(PREFIX.as_bytes())).count()
    }

    #[test]
    fn a_copy_is_a_store_and_leaves_no_file() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (store, mut writer) = open(dir.path());
        apply(&mut writer, &[article("a", &noise(1, 9_000), &["t"], 1)]);
        let mut copy = store.copy(|| false).unwrap();
        assert_eq!(copies(dir.path()), 0);
        apply(&mut writer, &[article("b", &noise(2, 9_000), &["t"], 2)]);
        assert_eq!(copy.head.revision + 1, store.head().revision);
        let mut bytes = Vec::new();
        copy.file.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len() as u64, copy.bytes);
        fs::write(other.path().join(DATABASE), bytes).unwrap();
        assert_eq!(faults(other.path()), Vec::<String>::new());
    }

    #[test]
    fn a_cancelled_copy_leaves_no_file_and_no_reader() {
        let dir = tempfile::tempdir().unwrap();
        let (store, mut writer) = open(dir.path());
        let articles: Vec<_> =
            (0..200).map(|n| article(&format!("a{n}"), &noise(n, 2_000), &["t"], 1)).collect();
        apply(&mut writer, &articles);
        let checks = Arc::new(AtomicUsize::new(0));
        let counted = checks.clone();
        store.copy(move || counted.fetch_add(1, Relaxed) == usize::MAX).unwrap();
        let all = checks.load(Relaxed);
        assert!(all > 4, "{all} checks");
        for after in [0, 1, all / 2, all - 1] {
            let mut left = after;
            let cancel = move || {
                left = left.wrapping_sub(1);
                left == usize::MAX
            };
            assert!(store.copy(cancel).is_err(), "after {after} of {all}");
            assert_eq!(copies(dir.path()), 0);
        }
        writer.erase().unwrap();
    }

    #[test]
    fn copies_of_a_killed_process_are_removed_at_the_next_start() {
        let dir = tempfile::tempdir().unwrap();
        drop(open(dir.path()));
        let left = dir.path().join(format!("{PREFIX}x"));
        fs::create_dir(&left).unwrap();
        fs::write(left.join(DATABASE), "part").unwrap();
        drop(open(dir.path()));
        assert_eq!(copies(dir.path()), 0);
    }
}
