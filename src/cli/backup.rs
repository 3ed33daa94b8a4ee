//! `cable backup` and `cable verify`: copy and verify a store, also while a node serves it.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use clap::Args;

use super::{
    Error,
    output::Output,
    progress,
    replace::{check_no_store, parent_directory},
    serve::Data,
};
use crate::store::{self, ReadOnlyStore, verify::Findings};

#[derive(Debug, Args)]
pub(crate) struct Backup {
    #[command(flatten)]
    data: Data,
    /// File of the backup. It replaces an older backup or an empty file, once it is complete and verified, but no other
    /// file. `cable restore` creates a store from it.
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    #[command(flatten)]
    data: Data,
}

/// Runs `cable backup`: copies the store, verifies the copy, and only then gives it its name.
pub(crate) fn backup(Backup { data, to }: Backup, output: &mut Output) -> Result<(), Error> {
    let dir = existing_store(data)?;
    check_target(&to)?;
    let failed = |source| Error::io(format!("write {}", to.display()), source);
    let parent = parent_directory(&to);
    let temporary = tempfile::Builder::new().prefix(".cable-backup-").tempdir_in(parent).map_err(failed)?;
    let bar = progress::bar();
    bar.set_message("copying");
    let copy = temporary.path().join(store::DATABASE);
    ReadOnlyStore::open(&dir)?.copy_to(&copy)?;
    bar.set_message("verifying the copy");
    let summary = verify_store(temporary.path())?;
    File::open(&copy).and_then(|file| file.sync_all()).map_err(failed)?;
    fs::rename(&copy, &to).map_err(failed)?;
    File::open(parent).and_then(|parent| parent.sync_all()).map_err(failed)?;
    bar.finish_and_clear();
    output.text(&format!("{}: {summary}", to.display()))
}

/// Runs `cable verify`.
pub(crate) fn verify(Verify { data }: Verify, output: &mut Output) -> Result<(), Error> {
    let dir = existing_store(data)?;
    let bar = progress::bar();
    bar.set_message("verifying the store");
    let summary = verify_store(&dir)?;
    bar.finish_and_clear();
    output.text(&format!("{}: {summary}", dir.display()))
}

/// Refuses a target that would replace anything but an older backup or an empty file, as `mktemp` creates it.
fn check_target(to: &Path) -> Result<(), Error> {
    check_no_store(to)?;
    let is_empty = fs::metadata(to).is_ok_and(|meta| meta.is_file() && meta.len() == 0);
    if fs::symlink_metadata(to).is_err() || is_empty || store::is_backup(to) {
        return Ok(());
    }
    let problem =
        if to.is_dir() { "is a directory; name a file in it" } else { "not a backup; choose another name" };
    Err(Error::Usage(format!("{}: {problem}", to.display())))
}

/// Returns the directory if it contains a store.
fn existing_store(data: Data) -> Result<PathBuf, Error> {
    let dir = data.dir()?;
    if dir.join(store::DATABASE).exists() {
        return Ok(dir);
    }
    Err(Error::Usage(format!("{}; select a store with --data", store::OpenError::Absent(dir))))
}

/// Verifies everything in the store. Returns a description of an intact store, else an error with the damage.
pub(super) fn verify_store(dir: &Path) -> Result<String, Error> {
    let store = ReadOnlyStore::open(dir)?;
    let Findings { head, records, faults } = store.read(|snapshot| snapshot.verify())?;
    if !faults.is_empty() {
        return Err(Error::Incomplete(format!(
            "{}: the store is damaged:\n  {}",
            dir.display(),
            faults.join("\n  ")
        )));
    }
    Ok(format!("verified: {records} records, revision {} of log {}", head.revision, head.log_id))
}
