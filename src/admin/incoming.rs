//! Backups that are received from a node.

use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::{Error, Verified, backup_target, keep_verified, temporary_beside};
use crate::store;

/// A backup of which the bytes arrive one after the other. It gets its name once it is complete, and replaces an older
/// backup or an empty file, but no other file. Dropping it removes what has arrived.
#[derive(Debug)]
pub struct Incoming {
    to: PathBuf,
    temporary: TempDir,
    file: File,
    sha256: Sha256,
}

impl Incoming {
    /// Creates a file for a backup with this name.
    ///
    /// # Errors
    /// The target is something else, or its directory cannot be written.
    pub fn create(to: &Path) -> Result<Incoming, Error> {
        let to = backup_target(to)?;
        let temporary = temporary_beside(&to)?;
        let file = File::create_new(temporary.path().join(store::DATABASE)).map_err(Error::write(&to))?;
        Ok(Incoming { to, temporary, file, sha256: Sha256::new() })
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.sha256.update(bytes);
        self.file.write_all(bytes).map_err(Error::write(&self.to))
    }

    /// Compares the digest of all bytes, verifies the backup, and gives it its name.
    ///
    /// # Errors
    /// The bytes differ from those that were sent, the backup is damaged, or it could not be written.
    pub fn finish(self, sha256: &[u8], on_phase: impl Fn(&'static str)) -> Result<Verified, Error> {
        let Incoming { to, temporary, file, sha256: received } = self;
        drop(file);
        if received.finalize()[..] != *sha256 {
            let faults = vec!["the bytes received are not those that the node has sent".to_owned()];
            return Err(Error::Damaged { path: to, faults });
        }
        keep_verified(&temporary, &to, on_phase)
    }
}
