//! The files in the directory of a store, and what they show without being opened as a database.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use crate::files::{self, CREDENTIALS, CREDENTIALS_USED};

/// The file name of the database in the directory.
pub(crate) const DATABASE: &str = "cable.db";
pub(crate) const LOCK: &str = "cable.lock";

/// The file whose time of modification is the end of the last backup.
const BACKUP_MARK: &str = "last-backup";
const NEW_BACKUP_MARK: &str = "last-backup.new";

/// The name of a session file, without the session id in 16 hex digits.
pub(super) const SESSION_PREFIX: &str = "cable.session-";

/// The journal mode of a write-ahead log, in a database's header.
const WAL: u8 = 2;

/// Returns the journal mode in the header of a database, or `None` if the file is not a database. A file that a store
/// has opened has [`WAL`]; a backup does not.
fn journal(path: &Path) -> Option<u8> {
    let mut header = [0; 20];
    // A pipe, such as /dev/stdout, would block.
    files::open(path).ok()?.read_exact(&mut header).ok()?;
    header.starts_with(b"SQLite format 3\0").then_some(header[18])
}

/// Returns whether a file is the database of a store, not a backup of one.
pub(crate) fn is_database(path: &Path) -> bool {
    journal(path) == Some(WAL)
}

/// Returns whether a file is a backup: a database that no store has opened.
pub(crate) fn is_backup(path: &Path) -> bool {
    journal(path).is_some_and(|journal| journal != WAL)
}

/// Returns whether a directory is that of a store.
pub(crate) fn is_store(dir: &Path) -> bool {
    dir.join(LOCK).exists()
        || is_database(&dir.join(DATABASE))
        || session_files(dir).is_ok_and(|files| !files.is_empty())
}

/// Returns whether a process has the store open.
pub(super) fn is_served(dir: &Path) -> bool {
    is_locked(&dir.join(LOCK)) || has_open_session(dir)
}

/// Returns whether a process has a session of the store open. Its file is locked, too: unlike that of the lock, it is not
/// removed by those who take it for a leftover.
pub(super) fn has_open_session(dir: &Path) -> bool {
    session_files(dir).is_ok_and(|files| files.iter().any(|file| is_locked(file)))
}

fn is_locked(file: &Path) -> bool {
    File::open(file).is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// Returns whether the node of a store has credentials in the directory, or has had some.
pub(super) fn had_credentials(dir: &Path) -> bool {
    [CREDENTIALS, CREDENTIALS_USED].iter().any(|file| dir.join(file).exists())
}

/// Returns the session files, of which there is one unless a start of the store was cut off.
pub(super) fn session_files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(SESSION_PREFIX.as_bytes()) {
            files.push(entry.path());
        }
    }
    Ok(files)
}

/// Notes that a backup of the store has been made. A node that serves the store shows its age. The mark is replaced, not
/// written: that of a command may belong to another user than the node.
pub(crate) fn mark_backup(dir: &Path) -> io::Result<()> {
    let new = dir.join(NEW_BACKUP_MARK);
    let _stale = fs::remove_file(&new);
    File::create_new(&new)?;
    fs::rename(new, dir.join(BACKUP_MARK))
}

/// Returns the end of the last backup, in seconds since 1970 UTC.
pub(super) fn last_backup_secs(dir: &Path) -> Option<u64> {
    let time = fs::metadata(dir.join(BACKUP_MARK)).ok()?.modified().ok()?;
    Some(time.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs())
}

/// Returns the size of the database with its write-ahead log, in bytes.
pub(super) fn bytes_on_disk(dir: &Path) -> u64 {
    let size = |file: &str| fs::metadata(dir.join(file)).map_or(0, |meta| meta.len());
    size(DATABASE) + size("cable.db-wal")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    /// A node cannot write the mark of a command that runs as root, but it can replace it.
    #[test]
    fn the_mark_of_a_backup_is_another_file_each_time() {
        let dir = tempfile::tempdir().unwrap();
        let mark = || {
            mark_backup(dir.path()).unwrap();
            fs::metadata(dir.path().join(BACKUP_MARK)).unwrap()
        };
        let first = mark();
        let held = File::open(dir.path().join(BACKUP_MARK)).unwrap();
        assert_ne!(mark().ino(), first.ino());
        assert!(held.metadata().unwrap().nlink() == 0 && last_backup_secs(dir.path()).is_some());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
