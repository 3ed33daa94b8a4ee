//! Creates a store from a backup.

use std::{
    fmt,
    fs::{self, File},
    io,
    path::Path,
};

use super::{Error, Verified, assign_log_id, identity, rename, temporary_beside, verify_store};
use crate::{model::LogId, store};

/// A restored store. Displayed as what was verified, and its log id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    verified: Verified,
    /// The new log id. `None` if it is that of the original.
    new_log_id: Option<LogId>,
}

impl fmt::Display for Restored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.new_log_id {
            None => write!(f, "{}; the log id is unchanged", self.verified),
            Some(log_id) => write!(f, "{}; the new log id is {log_id}", self.verified),
        }
    }
}

/// Creates a store from a backup, and verifies it. The directory must be absent or empty. Without `keep_log_id` the
/// store is another history: it gets a new log id.
///
/// # Errors
/// There is no backup, the directory is not empty, the store could not be written, or the backup is damaged.
pub fn restore(
    from: &Path,
    to: &Path,
    keep_log_id: bool,
    on_phase: impl Fn(&'static str),
) -> Result<Restored, Error> {
    check_source(from)?;
    check_target(to)?;
    let temporary = temporary_beside(to)?;
    let store = temporary.path().join("store");
    on_phase("copying");
    copy(from, &store).map_err(Error::write(to))?;
    on_phase("verifying the copy");
    let verified = verify_store(&store).map_err(|error| not_restored(from, error))?;
    let log_id = assign_log_id(&store, identity(keep_log_id))?;
    rename(&store, to)?;
    Ok(Restored { verified, new_log_id: (!keep_log_id).then_some(log_id) })
}

fn check_source(from: &Path) -> Result<(), Error> {
    match fs::metadata(from) {
        Err(error) => return Err(Error::path(from, format!("no backup found ({error})"))),
        Ok(meta) if !meta.is_file() => {
            return Err(Error::path(from, "not a file; name the file that cable backup wrote"));
        }
        Ok(_) => {}
    }
    // The newest commits of a store may be in its write-ahead log alone, and nothing in its database shows that.
    if store::is_database(from) {
        let problem = "the database of a store, not a backup: its newest commits may be missing from this file; use a \
                       file that cable backup wrote, or put the database with its write-ahead log into a directory of \
                       its own, as cable.db and cable.db-wal, and back it up: cable backup --data DIR --to FILE";
        return Err(Error::path(from, problem));
    }
    Ok(())
}

/// Returns the error of a backup whose copy is no complete store. It names the backup: the copy is deleted.
fn not_restored(from: &Path, error: Error) -> Error {
    match error {
        Error::Damaged { faults, .. } => Error::Damaged { path: from.to_owned(), faults },
        Error::Store(cause) => {
            let version = cause.downcast_ref::<store::OpenError>().and_then(store::OpenError::version);
            Error::path(
                from,
                match version {
                    Some(version) => {
                        format!("a backup of store version {version}, which this release cannot read")
                    }
                    None => "not a complete backup; use a file that cable backup wrote".to_owned(),
                },
            )
        }
        other => other,
    }
}

fn check_target(to: &Path) -> Result<(), Error> {
    let is_absent = fs::symlink_metadata(to).is_err();
    let is_empty = || fs::read_dir(to).is_ok_and(|mut entries| entries.next().is_none());
    if is_absent || is_empty() {
        return Ok(());
    }
    Err(Error::path(to, "directory not empty; choose a new one"))
}

/// Copies only the bytes: the permissions of a backup, which may be read-only, must not become those of the store.
fn copy(from: &Path, dir: &Path) -> io::Result<()> {
    fs::create_dir(dir)?;
    let mut database = File::create_new(dir.join(store::DATABASE))?;
    io::copy(&mut File::open(from)?, &mut database)?;
    database.sync_all()
}
