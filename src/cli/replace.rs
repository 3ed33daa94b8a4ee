//! Files that get their name only once they are complete.

use std::{
    fs::{File, Permissions},
    io::{self, Write},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use cable::admin::{self, parent_directory};
use tempfile::NamedTempFile;

use super::Error;

/// Permissions before the umask, as for any new file.
const FILE_MODE: u32 = 0o666;

/// A file that is being written beside the one that it will replace, so that the rename stays within one file system.
/// Dropping it removes the file.
pub(crate) struct Replacement {
    temporary: NamedTempFile,
    path: PathBuf,
}

impl Replacement {
    /// Creates a file that will replace the one at `path`.
    ///
    /// # Errors
    /// The directory cannot be written to, or the path belongs to a store.
    pub(crate) fn create(path: &Path) -> Result<Self, Error> {
        Replacement::create_with_mode(path, FILE_MODE)
    }

    /// Creates a file with these permissions before the umask. See [`Replacement::create`].
    pub(crate) fn create_with_mode(path: &Path, mode: u32) -> Result<Self, Error> {
        admin::check_no_store(path)?;
        let mut builder = tempfile::Builder::new();
        builder.prefix(".cable-").permissions(Permissions::from_mode(mode));
        let temporary = builder
            .tempfile_in(parent_directory(path))
            .map_err(|source| Replacement::failed(path, source))?;
        Ok(Replacement { temporary, path: path.to_owned() })
    }

    /// Syncs the file and renames it to its path.
    ///
    /// # Errors
    /// The file could not be synced or renamed.
    pub(crate) fn commit(self) -> Result<(), Error> {
        let Replacement { temporary, path } = self;
        let failed = |source| Replacement::failed(&path, source);
        temporary.as_file().sync_all().map_err(failed)?;
        temporary.persist(&path).map_err(|error| failed(error.error))?;
        // The name is on disk only once its directory is synced.
        File::open(parent_directory(&path)).and_then(|directory| directory.sync_all()).map_err(failed)
    }

    /// Returns the error of a file at `path` that could not be written.
    pub(crate) fn failed(path: &Path, source: io::Error) -> Error {
        Error::io(format!("write {}", path.display()), source)
    }
}

impl Write for Replacement {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.temporary.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.temporary.flush()
    }
}
