//! Creates a store from a backup.

use std::{
    fmt,
    fs::{self, DirBuilder, File},
    io::{self, Read as _},
    os::unix::fs::DirBuilderExt as _,
    path::Path,
};

use super::{Error, Verified, identity, target::Target, verify_store};
use crate::{
    files::{self, PRIVATE_DIRECTORY},
    model::LogId,
    store::{self, Adopted},
};

/// A restored store. Displayed as what was verified, and its log id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    verified: Verified,
    /// The new log id. `None` if it is that of the original.
    new_log_id: Option<LogId>,
    had_credentials: bool,
}

impl Restored {
    /// Returns whether the node of the original had credentials, which a backup does not contain.
    #[must_use]
    pub fn had_credentials(&self) -> bool {
        self.had_credentials
    }
}

impl fmt::Display for Restored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.new_log_id {
            None => write!(f, "{}; the log id is unchanged", self.verified),
            Some(log_id) => write!(f, "{}; the new log id is {log_id}", self.verified),
        }
    }
}

/// Creates a store from a backup, and verifies it. The directory must be absent or empty. An existing one keeps its owner
/// and mode, and as root the files are given to its owner. Without `keep_log_id` the store is another history: it gets a
/// new log id.
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
    let target = Target::prepare(to)?;
    let store = target.draft();
    on_phase("copying");
    copy(from, &store).map_err(Error::write(to))?;
    on_phase("verifying the copy");
    let verified = verify_store(&store).map_err(|error| not_restored(from, error))?;
    let Adopted { log_id, had_credentials } = store::adopt_copy(&store, identity(keep_log_id))?;
    if had_credentials {
        files::create_private(&store.join(files::CREDENTIALS_USED)).map_err(Error::write(to))?;
    }
    target.fill().map_err(Error::write(to))?;
    Ok(Restored { verified, new_log_id: (!keep_log_id).then_some(log_id), had_credentials })
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
    check_length(from)
}

/// Refuses a backup that is not as long as its header states: cut off, or with bytes after its end.
fn check_length(from: &Path) -> Result<(), Error> {
    let length = File::open(from).and_then(|file| Ok((stated_length(&file)?, file.metadata()?.len())));
    match length.map_err(|error| Error::path(from, error.to_string()))? {
        (Some(stated), actual) if stated != actual => Err(Error::path(
            from,
            format!(
                "not a complete backup: the file has {actual} bytes, and its header states {stated}; use a file that \
                 cable backup wrote"
            ),
        )),
        _ => Ok(()),
    }
}

/// Returns the length that the header of a database states, in bytes: its number of pages and their size. `None` if the
/// file is shorter than a header.
fn stated_length(mut file: &File) -> io::Result<Option<u64>> {
    let mut header = [0; 32];
    match file.read_exact(&mut header) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let page_bytes = match u16::from_be_bytes([header[16], header[17]]) {
        1 => 1 << 16,
        bytes => u64::from(bytes),
    };
    let pages = u32::from_be_bytes([header[28], header[29], header[30], header[31]]);
    Ok(header.starts_with(b"SQLite format 3\0").then_some(page_bytes * u64::from(pages)))
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

/// Copies only the bytes: the permissions of a backup, which may be read-only, must not become those of the store.
fn copy(from: &Path, dir: &Path) -> io::Result<()> {
    DirBuilder::new().mode(PRIVATE_DIRECTORY).create(dir)?;
    let mut database = files::create_private(&dir.join(store::DATABASE))?;
    io::copy(&mut File::open(from)?, &mut database)?;
    database.sync_all()
}
