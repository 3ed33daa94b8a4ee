//! Files that get their name only once they are complete.

use std::{
    fs::{File, Permissions},
    io::{self, Write},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;

use super::Error;
use crate::store;

/// Permissions before the umask, as for any new file.
const MODE: u32 = 0o666;

/// A file that is being written beside the one that it will replace, so that the rename stays within one file system.
/// Dropping it removes the file.
pub(crate) struct Replacement {
    beside: NamedTempFile,
    path: PathBuf,
}

impl Replacement {
    /// Creates a file that will replace the one at `path`.
    ///
    /// # Errors
    /// The directory cannot be written to, or the path belongs to a store.
    pub(crate) fn begin(path: &Path) -> Result<Self, Error> {
        check_no_store(path)?;
        let mut beside = tempfile::Builder::new();
        beside.prefix(".cable-").permissions(Permissions::from_mode(MODE));
        let beside =
            beside.tempfile_in(directory(path)).map_err(|source| Replacement::failed(path, source))?;
        Ok(Replacement { beside, path: path.to_owned() })
    }

    /// Syncs the file and renames it to its path.
    ///
    /// # Errors
    /// The file could not be synced or renamed.
    pub(crate) fn commit(self) -> Result<(), Error> {
        let Replacement { beside, path } = self;
        let failed = |source| Replacement::failed(&path, source);
        beside.as_file().sync_all().map_err(failed)?;
        beside.persist(&path).map_err(|error| failed(error.error))?;
        // The name is on disk only once its directory is synced.
        File::open(directory(&path)).and_then(|directory| directory.sync_all()).map_err(failed)
    }

    /// Returns the error of a file at `path` that could not be written.
    pub(crate) fn failed(path: &Path, source: io::Error) -> Error {
        Error::io(format!("write {}", path.display()), source)
    }
}

/// Refuses an output file that is or leads to a file of a store.
pub(crate) fn check_no_store(path: &Path) -> Result<(), Error> {
    let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    if store::is_store(directory(path)) || store::is_store(directory(&target)) {
        let problem = "this is in the directory of a store; choose another directory";
        return Err(Error::Usage(format!("{}: {problem}", path.display())));
    }
    if store::is_database(&target) {
        let problem = "this is the database of a store, which would be replaced; choose another name";
        return Err(Error::Usage(format!("{}: {problem}", path.display())));
    }
    Ok(())
}

/// Returns the directory that contains a file.
pub(crate) fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

impl Write for Replacement {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.beside.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.beside.flush()
    }
}
