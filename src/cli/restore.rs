//! `cable restore`: creates a store from a backup.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use clap::Args;

use super::{Error, backup::verify_store, output::Output, progress, replace::parent_directory};
use crate::{
    model::LogId,
    store::{self, Identity, Options, Store},
};

#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// Backup to restore: a file that `cable backup` wrote.
    #[arg(long, value_name = "BACKUP")]
    from: PathBuf,
    /// Directory of the new store; it must be absent or empty.
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Keep the log id of the original, so that followers resume without a snapshot. Use it only if the original will
    /// never be opened again and acknowledged no write after the backup.
    #[arg(long)]
    keep_log_id: bool,
}

/// Runs the command. The store gets its name once it is complete and verified.
pub(crate) fn run(Restore { from, to, keep_log_id }: Restore, output: &mut Output) -> Result<(), Error> {
    check_source(&from)?;
    check_target(&to)?;
    let failed = |source| Error::io(format!("write {}", to.display()), source);
    let parent = parent_directory(&to);
    let temporary = tempfile::Builder::new().prefix(".cable-restore-").tempdir_in(parent).map_err(failed)?;
    let store = temporary.path().join("store");
    let bar = progress::bar();
    bar.set_message("copying");
    copy(&from, &store).map_err(failed)?;
    bar.set_message("verifying the copy");
    let summary = verify_store(&store)?;
    let log_id = open(&store, if keep_log_id { Identity::Original } else { Identity::New(LogId::random()) })?;
    fs::rename(&store, &to).map_err(failed)?;
    File::open(parent).and_then(|parent| parent.sync_all()).map_err(failed)?;
    bar.finish_and_clear();
    let log = match keep_log_id {
        true => "the log id is unchanged".to_owned(),
        false => format!("the new log id is {log_id}"),
    };
    output.text(&format!("{}: {summary}; {log}", to.display()))
}

fn check_source(from: &Path) -> Result<(), Error> {
    let error = |problem: &str| Err(Error::Usage(format!("{}: {problem}", from.display())));
    if !from.is_file() {
        return error("no backup found (no such file)");
    }
    let mut wal = from.as_os_str().to_owned();
    wal.push("-wal");
    if fs::metadata(wal).is_ok_and(|meta| meta.len() > 0) {
        return error("database of a store with a write-ahead log; use a file that cable backup wrote");
    }
    Ok(())
}

fn check_target(to: &Path) -> Result<(), Error> {
    let is_absent = fs::symlink_metadata(to).is_err();
    let is_empty = || fs::read_dir(to).is_ok_and(|mut entries| entries.next().is_none());
    if is_absent || is_empty() {
        return Ok(());
    }
    Err(Error::Usage(format!("{}: directory not empty; choose a new one", to.display())))
}

/// Copies only the bytes: the permissions of a backup, which may be read-only, must not become those of the store.
fn copy(from: &Path, dir: &Path) -> io::Result<()> {
    fs::create_dir(dir)?;
    let mut database = File::create_new(dir.join(store::DATABASE))?;
    io::copy(&mut File::open(from)?, &mut database)?;
    database.sync_all()
}

/// Opens the store once, which gives it its log id. Returns the log id.
fn open(dir: &Path, identity: Identity) -> Result<LogId, Error> {
    let options =
        Options { dir: dir.to_owned(), readers: 1, reserve_bytes: 0, health: std::sync::Arc::default() };
    let (store, _writer) = Store::open_as(options, LogId::random(), identity)?;
    Ok(store.head().log_id)
}
