//! The directory that a restored store fills.

use std::{
    fs::{self, DirBuilder, File, Permissions},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use super::{Error, make_private};
use crate::{
    files::{self, PRIVATE_DIRECTORY},
    store,
};

/// The directory that every new ext4 file system has.
const LOST_AND_FOUND: &str = "lost+found";

/// A directory in which a store is made. The directory itself may be a mount point, or the end of a link, so the store is
/// made within it, and its files are then renamed. The database comes last: without it, no command takes the directory
/// for a store. Dropping the target removes what is incomplete.
#[derive(Debug)]
pub(super) struct Target {
    dir: PathBuf,
    /// Whether the directory was absent.
    is_new: bool,
    is_complete: bool,
    /// Prevents that a node creates a store in the directory meanwhile.
    lock: File,
    /// Removed before the directory.
    temporary: Option<TempDir>,
}

impl Target {
    /// Locks a directory that is empty, or creates it with its parents.
    ///
    /// # Errors
    /// The directory is not empty, or cannot be written.
    pub(super) fn prepare(dir: &Path) -> Result<Target, Error> {
        let is_new = fs::symlink_metadata(dir).is_err();
        if is_new {
            create(dir).map_err(Error::write(dir))?;
        }
        check_empty(dir)?;
        let lock = store::lock(dir)?;
        let mut target = Target { dir: dir.to_owned(), is_new, is_complete: false, lock, temporary: None };
        // Another process may have been faster before the lock.
        if let Err(error) = check_empty(dir) {
            target.is_complete = true;
            return Err(error);
        }
        store::remove_abandoned(dir).map_err(Error::write(dir))?;
        let builder = &mut tempfile::Builder::new();
        builder.prefix(store::TEMPORARY_PREFIX).permissions(Permissions::from_mode(PRIVATE_DIRECTORY));
        target.temporary = Some(builder.tempdir_in(dir).map_err(Error::write(dir))?);
        Ok(target)
    }

    /// Returns the directory in which to make the store. It does not exist yet.
    pub(super) fn draft(&self) -> PathBuf {
        self.temporary.as_ref().map_or_else(|| self.dir.clone(), |temporary| temporary.path().join("store"))
    }

    /// Moves the files of the store into the directory.
    pub(super) fn fill(mut self) -> io::Result<()> {
        let draft = self.draft();
        let owner = fs::metadata(&self.dir)?;
        give(&self.lock, &owner)?;
        for entry in fs::read_dir(&draft)? {
            let entry = entry?;
            make_private(&entry.path())?;
            give(&File::open(entry.path())?, &owner)?;
            if entry.file_name() != store::DATABASE {
                fs::rename(entry.path(), self.dir.join(entry.file_name()))?;
            }
        }
        let sync = || File::open(&self.dir)?.sync_all();
        sync()?;
        fs::rename(draft.join(store::DATABASE), self.dir.join(store::DATABASE))?;
        self.is_complete = true;
        sync()
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        drop(self.temporary.take());
        if self.is_complete {
            return;
        }
        // A file that cannot be removed is no store.
        let _left = fs::remove_file(self.dir.join(store::LOCK));
        if self.is_new {
            let _left = fs::remove_dir(&self.dir);
        }
    }
}

fn create(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(super::parent_directory(dir))?;
    DirBuilder::new().mode(PRIVATE_DIRECTORY).create(dir)
}

fn check_empty(dir: &Path) -> Result<(), Error> {
    let unreadable =
        |error: io::Error| Error::path(dir, format!("{error}; name a directory that is empty or absent"));
    for entry in fs::read_dir(dir).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        let is_left_over =
            name == store::LOCK || name.as_encoded_bytes().starts_with(store::TEMPORARY_PREFIX.as_bytes());
        if name != LOST_AND_FOUND && !is_left_over {
            return Err(Error::path(dir, "directory not empty; choose a new one"));
        }
    }
    Ok(())
}

/// Gives a file to the owner of the directory, as root: the node runs as another user than the command.
fn give(file: &File, owner: &fs::Metadata) -> io::Result<()> {
    match file.metadata()?.uid() {
        0 => files::give(file, owner),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{chown, symlink};

    use super::*;
    use crate::admin::{backup, restore, verify};
    use crate::store::fixture::{apply, article, open};

    /// Returns a directory with a backup.
    fn directory() -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        let (store, mut writer) = open(&dir.path().join("store"));
        apply(&mut writer, &[article("a", "Storm", &["t"], 1)]);
        drop((store, writer));
        backup(&dir.path().join("store"), &dir.path().join("backup"), |_| {}).unwrap();
        dir
    }

    #[test]
    fn an_existing_directory_keeps_its_identity_owner_and_mode() {
        let dir = directory();
        let (from, to) = (dir.path().join("backup"), dir.path().join("to"));
        fs::create_dir_all(to.join(LOST_AND_FOUND)).unwrap();
        fs::create_dir(to.join(format!("{}x", store::TEMPORARY_PREFIX))).unwrap();
        fs::set_permissions(&to, Permissions::from_mode(0o750)).unwrap();
        // Only root can give a directory away.
        let _own = chown(&to, Some(7), Some(8));
        symlink(&to, dir.path().join("link")).unwrap();
        let before = fs::metadata(&to).unwrap();
        restore(&from, &dir.path().join("link"), true, |_| {}).unwrap();
        let after = fs::metadata(&to).unwrap();
        let identity = |meta: &fs::Metadata| (meta.ino(), meta.uid(), meta.gid(), meta.mode());
        assert_eq!(identity(&before), identity(&after));
        for entry in fs::read_dir(&to).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_file()) {
            let meta = entry.metadata().unwrap();
            assert_eq!((meta.uid(), meta.gid()), (before.uid(), before.gid()), "{entry:?}");
            assert!(entry.file_name() == store::LOCK || meta.mode() & 0o777 == 0o600, "{entry:?}");
        }
        let left = |name: &str| name.starts_with(store::TEMPORARY_PREFIX);
        let names = fs::read_dir(&to).unwrap().map(|entry| entry.unwrap().file_name());
        assert!(!names.into_iter().any(|name| left(&name.to_string_lossy())));
        verify(&to).unwrap();
        assert_eq!(fs::metadata(&from).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_directory_in_use_is_refused_and_a_failure_leaves_nothing() {
        let dir = directory();
        let (from, to) = (dir.path().join("backup"), dir.path().join("parent/to"));
        let target = Target::prepare(&to).unwrap();
        let locked = restore(&from, &to, true, |_| {}).unwrap_err().to_string();
        assert!(locked.contains(&format!("(process {})", std::process::id())), "{locked}");
        assert!(!store::is_database(&to.join(store::DATABASE)));
        drop(target);
        assert!(!to.exists());
        let whole = fs::read(&from).unwrap();
        fs::write(&from, [&whole[..], b"more"].concat()).unwrap();
        let longer = restore(&from, &to, true, |_| {}).unwrap_err().to_string();
        assert!(longer.contains(&format!("{} bytes", whole.len() + 4)) && !to.exists(), "{longer}");
    }
}
