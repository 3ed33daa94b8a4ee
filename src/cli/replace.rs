//! Files that get their name only once they are complete.

use std::{
    fs::{self, File, Permissions},
    io::{self, ErrorKind, Write},
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
    /// Creates a file that will replace the one at `path`. If the path is a symbolic link, the link stays, and the file
    /// that it names is replaced.
    ///
    /// # Errors
    /// The directory cannot be written to, the path belongs to a store, or it exists and is not a regular file.
    pub(crate) fn create(path: &Path) -> Result<Self, Error> {
        Replacement::create_with_mode(path, FILE_MODE)
    }

    /// Creates a file with these permissions before the umask. See [`Replacement::create`].
    pub(crate) fn create_with_mode(path: &Path, mode: u32) -> Result<Self, Error> {
        let target = resolve(path).map_err(|source| Replacement::failed(path, source))?;
        admin::check_no_store(&target)?;
        let mut builder = tempfile::Builder::new();
        builder.prefix(".cable-").permissions(Permissions::from_mode(mode));
        let temporary = builder
            .tempfile_in(parent_directory(&target))
            .map_err(|source| Replacement::failed(path, source))?;
        Ok(Replacement { temporary, path: target })
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

/// Returns the path of the file to replace, which is another one if this path is a symbolic link. Nothing is opened: a FIFO
/// would wait for a writer. A device must not become a file.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    match fs::metadata(path) {
        Ok(found) if !found.is_file() => Err(io::Error::new(ErrorKind::InvalidInput, "not a regular file")),
        Ok(_) if path.is_symlink() => fs::canonicalize(path),
        // The file of a link need not exist yet.
        Err(error) if error.kind() == ErrorKind::NotFound && path.is_symlink() => {
            resolve(&parent_directory(path).join(fs::read_link(path)?))
        }
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::{fs::symlink, net::UnixListener},
        process::Command,
    };

    use super::*;

    fn replace(path: &Path, text: &str) -> Result<(), Error> {
        let mut replacement = Replacement::create(path)?;
        replacement.write_all(text.as_bytes()).map_err(|source| Replacement::failed(path, source))?;
        replacement.commit()
    }

    #[test]
    fn a_symbolic_link_stays_and_its_file_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let (link, second) = (directory.path().join("link"), directory.path().join("second"));
        let file = elsewhere.path().join("file");
        symlink(&file, &link).unwrap();
        symlink("link", &second).unwrap();
        for (path, text) in [(&link, "created"), (&link, "replaced"), (&second, "again"), (&file, "directly")]
        {
            replace(path, text).unwrap();
            assert_eq!(fs::read_to_string(&file).unwrap(), text);
        }
        assert!(link.is_symlink() && second.is_symlink());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_path_that_is_no_regular_file_is_refused_and_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let _socket = UnixListener::bind(path("socket")).unwrap();
        fs::create_dir(path("directory")).unwrap();
        assert!(Command::new("mkfifo").arg(path("fifo")).status().unwrap().success());
        symlink("fifo", path("link")).unwrap();
        for name in ["socket", "directory", "fifo", "link"] {
            let kind = fs::metadata(path(name)).unwrap().file_type();
            let error = replace(&path(name), "text").unwrap_err();
            assert_eq!(error.to_string(), format!("cannot write {}", path(name).display()));
            assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "not a regular file");
            assert_eq!(fs::metadata(path(name)).unwrap().file_type(), kind, "{name}");
        }
        symlink("loop", path("loop")).unwrap();
        assert!(replace(&path("loop"), "text").is_err() && path("loop").is_symlink());
    }
}
