//! The history that a database belongs to. A copy of a store that is opened becomes another history with a log id of
//! its own: its original may continue elsewhere, or was continued before the copy replaced it.
//!
//! Each opening of a store is a *session* with a random id. The id is in the row `head`, and in the name of a file
//! beside the database, which also holds the identity of the database's file and the newest head. A store continues its
//! history only if all of them agree:
//! - a copied database is another file, with another inode or time of birth, unless it was written over the old one;
//! - copies written over the old files leave the session file of a later session in place, since its name is new;
//! - the session file has a newer head than a database that lost commits;
//! - a backup has no session.
//!
//! Each commit writes the row `head`. A write-ahead log therefore names its session, and a log that is not of the
//! session that the database itself names belongs to another database.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, OptionalExtension as _, params};

use super::{
    Head, OpenError,
    directory::{self, DATABASE, session_files},
    erase::truncate_log,
    read, schema,
};
use crate::{
    digest::Hash,
    model::{LogId, Revision, random},
};

mod file;
mod lineage;
mod marks;
#[cfg(test)]
mod tests;

use file::{FileId, Record};
use lineage::Lineage;
use marks::Marks;
pub(super) use marks::{mark_copy, open_unchanging};

/// The name of a session file that is being created.
const TEMPORARY: &str = "cable.new-session";

/// The time to wait for readers when the write-ahead log is emptied at the start.
const READER_TIMEOUT: std::time::Duration = std::time::Duration::from_millis(200);

/// The log id of a store that turns out to be a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Identity {
    /// This log id, or another one if the copy has this one already.
    New(LogId),
    /// The log id of the original, which is permanently gone.
    Original,
}

/// The session of an open store.
#[derive(Debug)]
pub(super) struct Session {
    file: File,
    record: Record,
}

impl Session {
    /// Starts a session of an open database, and decides its log id.
    ///
    /// # Errors
    /// Fails if commits are missing, or if the session cannot be recorded.
    pub(super) fn start(
        dir: &Path,
        connection: &mut Connection,
        identity: Identity,
    ) -> Result<Session, OpenError> {
        let path = dir.join(DATABASE);
        let engine = |source| OpenError::engine(&path, source);
        let io = |source| OpenError::Io { path: path.clone(), source };
        let mut old = session_files(dir).map_err(io)?;
        let records: Vec<_> = old.iter().map(|file| Record::read(file)).collect();
        let database = FileId::of(&path).map_err(io)?;
        let marks = Marks::read(connection).map_err(engine)?;
        let chain = |revision| chain_at(connection, revision);
        let family = lineage::family(&records, marks.id);
        let lineage = lineage::decide(family.as_deref(), database, marks, chain).map_err(engine)?;
        let head = read::head(connection).map_err(engine)?;
        let (log_id, previous) = match lineage {
            Lineage::Same => (head.log_id, marks.id),
            Lineage::Copy => (copy_log_id(&head, identity), 0),
            Lineage::Behind(acknowledged) => {
                return Err(OpenError::Behind { path, revision: marks.revision, acknowledged });
            }
        };
        // A process that was killed may have left a commit that is not synced, and a power cut frames after the last
        // commit. The record below must not be newer than the disk, and a log holds the commits of one session.
        truncate_log(connection, READER_TIMEOUT).map_err(engine)?;
        // SQLite's integers have 63 bits; 0 means no session.
        let id = (random() >> 1).max(1);
        let record = Record { id, previous, database, revision: head.revision, chain: head.chain };
        let session = Session::create(dir, record).map_err(io)?;
        name_session(connection, log_id, (id, marks.id)).map_err(engine)?;
        lineage::sort_for_removal(&mut old, &family.unwrap_or_default());
        session.replace(dir, &old).map_err(io)
    }

    fn create(dir: &Path, record: Record) -> io::Result<Session> {
        // The file has its name only once its content is on disk: without it, the store would seem to be a copy.
        let temporary = dir.join(TEMPORARY);
        let file = File::create(&temporary)?;
        // Another process finds the store open even if the file `cable.lock` has been removed.
        file.try_lock()?;
        file.write_all_at(&record.encode(), 0)?;
        file.sync_all()?;
        fs::rename(temporary, dir.join(record.file_name()))?;
        sync_directory(dir)?;
        Ok(Session { file, record })
    }

    /// Removes the files of older sessions: the database names this one.
    fn replace(mut self, dir: &Path, old: &[PathBuf]) -> io::Result<Session> {
        for file in old {
            fs::remove_file(file)?;
            // A power cut cannot bring this one back without the next ones.
            sync_directory(dir)?;
        }
        // Nor any of them now, so that the record need not show that they belong to the same history.
        self.record.previous = 0;
        self.file.write_all_at(&self.record.encode(), 0)?;
        self.file.sync_all()?;
        Ok(self)
    }

    /// Records a head that is on disk, before it is acknowledged.
    pub(super) fn record(&mut self, head: &Head) {
        (self.record.revision, self.record.chain) = (head.revision, head.chain);
        if let Err(error) = self.file.write_all_at(&self.record.encode(), 0) {
            tracing::warn!(%error, "session file not updated");
        }
    }
}

/// A copy of a store that has become a store of its own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Adopted {
    pub(crate) log_id: LogId,
    /// Whether the node of the original had credentials, which the copy lacks.
    pub(crate) had_credentials: bool,
}

/// Starts and ends a session of a copy, which decides its log id.
///
/// # Errors
/// Fails if the copy cannot be opened, or if the session cannot be recorded.
pub(crate) fn adopt_copy(dir: &Path, identity: Identity) -> Result<Adopted, OpenError> {
    let path = dir.join(DATABASE);
    let engine = |source| OpenError::engine(&path, source);
    let mut connection = Connection::open(&path).map_err(engine)?;
    schema::configure(&connection, schema::Role::Writer).map_err(engine)?;
    let had_credentials = marks::take_credentials_mark(&connection).map_err(engine)?;
    let _session = Session::start(dir, &mut connection, identity)?;
    let log_id = read::head(&connection).map_err(engine)?.log_id;
    Ok(Adopted { log_id, had_credentials })
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Err(error) = self.file.sync_all() {
            tracing::warn!(%error, "session file not synced");
        }
    }
}

/// Returns the log id of a copy.
fn copy_log_id(head: &Head, identity: Identity) -> LogId {
    let Identity::New(log_id) = identity else { return head.log_id };
    let log_id = if log_id == head.log_id { LogId(log_id.0.wrapping_add(1)) } else { log_id };
    tracing::warn!(old = %head.log_id, new = %log_id, revision = head.revision,
        "store is a copy: continuing as another history with a new log id");
    log_id
}

/// Writes the session's id to the database, and into the database file as well, so that a write-ahead log of this
/// session is never beside a file that names another one.
fn name_session(connection: &mut Connection, log_id: LogId, (id, old): (u64, u64)) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let update = "UPDATE head SET log_id = ?1, session = ?2, previous_session = ?3";
    transaction.execute(update, params![log_id.0, id as i64, old as i64])?;
    transaction.commit()?;
    if truncate_log(connection, READER_TIMEOUT)? {
        connection.execute("UPDATE head SET previous_session = 0", [])?;
    }
    Ok(())
}

fn chain_at(connection: &Connection, revision: Revision) -> rusqlite::Result<Option<Hash>> {
    let sql = "SELECT chain FROM chain WHERE revision = ?1";
    connection.query_row(sql, [revision], |row| row.get(0)).optional()
}

/// Rejects an absent or empty database if commits were acknowledged.
pub(super) fn check_absent(dir: &Path) -> Result<(), OpenError> {
    let path = dir.join(DATABASE);
    if fs::metadata(&path).is_ok_and(|meta| meta.len() > 0) {
        return Ok(());
    }
    let files = session_files(dir).map_err(|source| OpenError::Io { path: path.clone(), source })?;
    let newest = files.iter().filter_map(|file| Record::read(file)).map(|record| record.revision).max();
    match newest.filter(|newest| *newest > 0) {
        Some(acknowledged) => Err(OpenError::Behind { path, revision: 0, acknowledged }),
        None => Ok(()),
    }
}

/// Rejects a write-ahead log that does not belong to the database beside it. It changes neither of them: SQLite would
/// move the log into the database. Returns whether there is a log.
///
/// # Errors
/// Fails with `ForeignLog`.
pub(super) fn check_log_origin(dir: &Path) -> Result<bool, OpenError> {
    let (path, log) = (dir.join(DATABASE), dir.join(format!("{DATABASE}-wal")));
    if fs::metadata(&log).map_or(0, |meta| meta.len()) == 0 {
        return Ok(false);
    }
    if directory::is_backup(&path) {
        return Err(OpenError::ForeignLog(log));
    }
    // A database that cannot be read is damaged, or was never created: opening it reports that.
    let Ok(alone) = Marks::without_log(&path) else { return Ok(true) };
    let is_own = Marks::with_log(&path).is_ok_and(|both| {
        (both.id == alone.id || both.previous == alone.id) && both.revision >= alone.revision
    });
    if is_own { Ok(true) } else { Err(OpenError::ForeignLog(log)) }
}

fn sync_directory(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
