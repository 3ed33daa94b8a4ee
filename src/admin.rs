//! Operations on a store that need no running node: back up, verify, restore, rebuild, receive a backup.
//!
//! A new store or backup gets its name only once it is complete. Backing up and
//! restoring report their phases to a callback, for the display of their progress.

use std::{
    fmt,
    fs::{self, File, Permissions},
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use crate::{
    files::{PRIVATE_DIRECTORY, PRIVATE_FILE},
    model::LogId,
    store::{self, Head, Identity, ReadOnlyStore, rebuild::RebuildError, verify::Findings},
};

mod incoming;
mod rebuild;
mod restore;
mod target;

pub use incoming::Incoming;
pub use rebuild::{Rebuild, Rebuilt, rebuild};
pub use restore::{Restored, restore};

/// The reason why an operation was not done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A path cannot be used for the operation. The text names the path and the way out.
    #[error("{}: {problem}", path.display())]
    Path {
        /// The path.
        path: PathBuf,
        /// The problem.
        problem: String,
    },
    /// The directory has no store.
    #[error("{}: there is no store here (no {})", .0.display(), store::DATABASE)]
    NoStore(PathBuf),
    /// The store is damaged.
    #[error("{}: the store is damaged:\n  {}", path.display(), faults.join("\n  "))]
    Damaged {
        /// The directory or file of the store.
        path: PathBuf,
        /// A description of each fault.
        faults: Vec<String>,
    },
    /// The store cannot be opened or read.
    #[error(transparent)]
    Store(Box<dyn std::error::Error + Send + Sync>),
    /// A file could not be written.
    #[error("write {}", path.display())]
    Write {
        /// The path.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
}

impl Error {
    fn path(path: &Path, problem: impl Into<String>) -> Error {
        Error::Path { path: path.to_owned(), problem: problem.into() }
    }

    fn write(path: &Path) -> impl Fn(io::Error) -> Error + '_ {
        |source| Error::Write { path: path.to_owned(), source }
    }
}

impl From<store::OpenError> for Error {
    fn from(error: store::OpenError) -> Error {
        Error::Store(Box::new(error))
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Error {
        Error::Store(Box::new(error))
    }
}

impl From<RebuildError> for Error {
    fn from(error: RebuildError) -> Error {
        match error {
            RebuildError::Open(error) => error.into(),
            RebuildError::Store(error) => error.into(),
        }
    }
}

/// A verified store or backup. Displayed as its number of records, its revision and its log id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    records: u64,
    end: End,
}

impl fmt::Display for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "verified: {} records, {}", self.records, self.end)
    }
}

/// The newest revision of a store, and its log.
#[derive(Debug, Clone, PartialEq, Eq)]
struct End {
    revision: i64,
    log_id: LogId,
}

impl From<&Head> for End {
    fn from(head: &Head) -> End {
        End { revision: head.revision, log_id: head.log_id }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "revision {} of log {}", self.revision, self.log_id)
    }
}

/// Verifies everything in the store of a directory: recomputes what can be recomputed. A node may serve the store.
///
/// # Errors
/// There is no store, it cannot be read, or it is damaged.
pub fn verify(dir: &Path) -> Result<Verified, Error> {
    check_is_store(dir)?;
    verify_store(dir)
}

fn verify_store(dir: &Path) -> Result<Verified, Error> {
    let store = ReadOnlyStore::open(dir)?;
    let Findings { head, records, faults } = store.read(|snapshot| snapshot.verify())?;
    if !faults.is_empty() {
        return Err(Error::Damaged { path: dir.to_owned(), faults });
    }
    Ok(Verified { records, end: End::from(&head) })
}

/// Copies the store of a directory to a file and verifies the copy. A node may serve the store. The file replaces an
/// older backup or an empty file, but no other file.
///
/// # Errors
/// There is no store, the target is something else, the copy could not be written, or it is damaged.
pub fn backup(dir: &Path, to: &Path, on_phase: impl Fn(&'static str)) -> Result<Verified, Error> {
    check_is_store(dir)?;
    let to = &backup_target(to)?;
    let temporary = temporary_beside(to)?;
    on_phase("copying");
    let copy = temporary.path().join(store::DATABASE);
    ReadOnlyStore::open(dir)?.copy_to(&copy)?;
    keep_verified(&temporary, to, on_phase)
}

/// Verifies the copy in a temporary directory, and gives it its name.
fn keep_verified(temporary: &TempDir, to: &Path, on_phase: impl Fn(&'static str)) -> Result<Verified, Error> {
    on_phase("verifying the copy");
    let verified = verify_store(temporary.path())?;
    let copy = temporary.path().join(store::DATABASE);
    make_private(&copy).and_then(|()| File::open(&copy)?.sync_all()).map_err(Error::write(to))?;
    rename(&copy, to)?;
    Ok(verified)
}

/// Notes that a backup of the store has been made. A node that serves the store shows its age in a metric.
///
/// # Errors
/// The directory of the store cannot be written.
pub fn mark_backup(dir: &Path) -> std::io::Result<()> {
    store::mark_backup(dir)
}

/// Returns the file that a backup replaces or creates: that to which a link leads. Refuses a target that would replace
/// anything but an older backup or an empty file, as `mktemp` creates it.
fn backup_target(to: &Path) -> Result<PathBuf, Error> {
    check_no_store(to)?;
    let target = fs::read_link(to).map_or_else(|_| to.to_owned(), |link| parent_directory(to).join(link));
    let target = target.canonicalize().unwrap_or(target);
    let problem = match fs::metadata(&target) {
        _ if to == Path::new("-") => "a backup cannot be written to standard output; name a file",
        Err(_) => return Ok(target),
        Ok(meta) if meta.is_dir() => "is a directory; name a file in it",
        Ok(meta) if !meta.is_file() => "not a regular file; a backup is one",
        Ok(meta) if meta.len() == 0 || store::is_backup(&target) => return Ok(target),
        Ok(_) => "not a backup; choose another name",
    };
    Err(Error::path(to, problem))
}

/// Checks that a node can use the store of a directory, or create one there. A client need not wait for a store that is
/// refused.
///
/// # Errors
/// The write-ahead log of the store is damaged, or lacks its database.
pub fn check_log_intact(dir: &Path) -> Result<(), Error> {
    Ok(store::check_log_intact(dir)?)
}

/// Refuses an output file that is or leads to a file of a store.
///
/// # Errors
/// It is, or does.
pub fn check_no_store(path: &Path) -> Result<(), Error> {
    let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    if store::is_store(parent_directory(path)) || store::is_store(parent_directory(&target)) {
        return Err(Error::path(path, "in the directory of a store; choose another directory"));
    }
    if store::is_database(&target) {
        return Err(Error::path(path, "database of a store; choose another name"));
    }
    Ok(())
}

fn check_is_store(dir: &Path) -> Result<(), Error> {
    match dir.join(store::DATABASE).try_exists() {
        Ok(true) => Ok(()),
        Ok(false) => Err(Error::NoStore(dir.to_owned())),
        Err(error) => Err(Error::path(dir, format!("{error}; run the command as the user of the node"))),
    }
}

/// Returns the directory that contains a file.
#[must_use]
pub fn parent_directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Creates a temporary directory in the directory of a target, so that the final rename stays within one file system.
fn temporary_beside(to: &Path) -> Result<TempDir, Error> {
    let builder = &mut tempfile::Builder::new();
    builder.prefix(".cable-").permissions(Permissions::from_mode(PRIVATE_DIRECTORY));
    builder.tempdir_in(parent_directory(to)).map_err(Error::write(to))
}

/// Lets only the owner read a file: a store holds pending versions.
fn make_private(file: &Path) -> io::Result<()> {
    fs::set_permissions(file, Permissions::from_mode(PRIVATE_FILE))
}

/// Gives a complete file or directory its name.
fn rename(from: &Path, to: &Path) -> Result<(), Error> {
    let sync_parent = || File::open(parent_directory(to))?.sync_all();
    fs::rename(from, to).and_then(|()| sync_parent()).map_err(Error::write(to))
}

/// Returns the identity of a store that is created from another.
fn identity(keep_log_id: bool) -> Identity {
    if keep_log_id { Identity::Original } else { Identity::New(LogId::random()) }
}
