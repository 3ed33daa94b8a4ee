//! The durable store of one node: one directory, one embedded database, one writer, a few readers.
//!
//! It holds the newest entry of each key, and the lists and paths derived from these entries. Only [`apply`] changes
//! the state that readers see, always together with the head. It knows nothing of calls, caches or feeds, and does not
//! decide what an entry contains.

use std::{
    fmt,
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use rusqlite::{Connection, ffi};
use tokio::sync::watch;

use crate::{
    audit::NotAudited,
    digest::Hash,
    digest::SetDigest,
    health::{Condition, Health},
    model::{HashPrefix, Kind, LogId, Name, Revision, Slot},
    wire::{log, v1},
};

pub(crate) mod apply;
mod changed;
pub(crate) mod consumer;
mod copy;
mod damage;
pub(crate) mod due;
pub(crate) mod envelope;
mod erase;
#[cfg(test)]
pub(crate) mod fixture;
pub(crate) mod floor;
pub(crate) mod history;
mod ledger;
pub(crate) mod listing;
mod matching;
mod read;
mod read_only;
mod readers;
pub(crate) mod rebuild;
pub(crate) mod request;
mod row;
mod salvage;
mod schema;
pub(crate) mod scrub;
mod session;
mod snapshot;
pub(crate) mod verify;
mod wal;

use apply::NextDue;
pub(crate) use apply::Writer;
use changed::LastChanged;
pub(crate) use changed::{Stripe, Subject};
pub(crate) use copy::StoreCopy;
pub(crate) use damage::Damage;
use ledger::Ledgers;
pub(crate) use ledger::Tally;
pub(crate) use read::RecordCount;
pub(crate) use read_only::ReadOnlyStore;
use readers::Readers;
use session::Session;
pub(crate) use session::{Identity, is_backup, is_database, is_store};
pub(crate) use snapshot::Snapshot;

/// The file name of the database in the directory.
pub(crate) const DATABASE: &str = "cable.db";
const LOCK: &str = "cable.lock";

/// The file whose time of modification is the end of the last backup.
const BACKUP_MARK: &str = "last-backup";

/// The number of attempts to lock a store, and the pause between them. A command that only reads the store holds the
/// lock for some microseconds, to check whether a node has it.
const LOCK_ATTEMPTS: usize = 5;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// The head of a store: its revision, counts and digests. It moves in the transaction of each entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) log_id: LogId,
    pub(crate) revision: Revision,
    pub(crate) chain: Hash,
    /// The history floor: departures are known from this revision on.
    pub(crate) floor: Revision,
    pub(crate) log_digest: SetDigest,
    pub(crate) content_digest: SetDigest,
    live: [i64; Kind::ALL.len()],
}

impl Head {
    /// Returns the number of live versions of a kind.
    pub(crate) fn live(&self, kind: Kind) -> i64 {
        self.live[kind as usize - 1]
    }

    fn live_mut(&mut self, kind: Kind) -> &mut i64 {
        &mut self.live[kind as usize - 1]
    }
}

/// The newest entry of a key, as read.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) name: Name,
    pub(crate) slot: Slot,
    pub(crate) revision: Revision,
    /// The hash prefix of the entry.
    pub(crate) prefix: HashPrefix,
    pub(crate) log: log::LogEntry,
}

impl Record {
    /// Returns whether the entry holds content.
    pub(crate) fn is_put(&self) -> bool {
        self.log.operation() == log::Operation::Put
    }

    /// Returns the tombstone of the key, if its content was removed.
    pub(crate) fn tombstone(&self) -> Option<Tombstone> {
        (!self.is_put()).then(|| Tombstone {
            reason: self.log.reason(),
            moved_to: Name::parse(&self.log.moved_to),
            time: self.log.time,
            revision: self.revision,
        })
    }
}

/// The tombstone of a removed name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tombstone {
    pub(crate) reason: v1::RemovalReason,
    pub(crate) moved_to: Option<Name>,
    /// The time of the removal, in microseconds since 1970 UTC.
    pub(crate) time: i64,
    pub(crate) revision: Revision,
}

impl Tombstone {
    /// Returns whether the tombstone is retained permanently, and not only as long as the history.
    pub(crate) fn is_permanent(&self) -> bool {
        PERMANENT.contains(&self.reason)
    }
}

/// The reasons whose tombstones are retained permanently.
const PERMANENT: [v1::RemovalReason; 2] = [v1::RemovalReason::Moved, v1::RemovalReason::Killed];

/// The outcome of one change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WriteOutcome {
    pub(crate) name: Name,
    /// The revision of the name's newest version: that of this change or, if it changed nothing, of an earlier one.
    pub(crate) revision: Revision,
    /// The hash prefix of the entry.
    pub(crate) prefix: HashPrefix,
    /// Whether the change created a revision.
    pub(crate) changed: bool,
    pub(crate) slot: Slot,
    /// For a pending version, the time at which it becomes visible, in microseconds since 1970 UTC.
    pub(crate) due: Option<i64>,
    /// Whether the slot is empty after the change.
    pub(crate) removed: bool,
    /// Whether the change is a kill.
    pub(crate) killed: bool,
    /// The article that owns the path of this one, which was written without the path.
    pub(crate) path_owner: Option<Name>,
}

/// The reason why the store failed to execute an operation.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Error {
    /// The record is damaged; others are not.
    #[error("checksum mismatch in the record {0}")]
    Corrupt(Name),
    /// The database is damaged beyond single records. A record that it does not return may still exist.
    #[error(
        "database damaged: restore a backup, or create a store from the readable entries with `cable rebuild`"
    )]
    Malformed(#[source] Arc<rusqlite::Error>),
    /// Too much work is waiting. Try again later.
    #[error("the queue of the store is full")]
    Overloaded,
    /// The free space is reserved. Free some space; reads and removals continue.
    #[error("disk space low: {free} bytes free, {reserve} reserved for removals")]
    Full { free: u64, reserve: u64 },
    /// The operation has certainly not happened. Free some space; reads and removals continue.
    #[error("disk full")]
    NoSpace(#[source] Arc<rusqlite::Error>),
    /// The disk has no room for a copy of the store beside what is reserved.
    #[error("disk space low: a copy of the store needs {required} bytes with the reserve, {free} are free")]
    NoRoomForCopy { free: u64, required: u64 },
    /// A file beside the database could not be read or written.
    #[error("file of the store failed")]
    File(#[source] Arc<io::Error>),
    /// The operation has certainly not happened.
    #[error("store operation failed")]
    Failed(#[source] Arc<rusqlite::Error>),
    /// The operation may have happened.
    #[error("store commit failed; the write may have been applied")]
    Uncertain(#[source] Arc<rusqlite::Error>),
    /// The operation has happened. A repeat erases again.
    #[error(
        "killed content is no longer served, but not yet erased from the disk: repeat the call to erase it"
    )]
    NotErased,
    /// Writes are rejected permanently; reads continue.
    #[error("writes are rejected until {until}: {cause}")]
    ReadOnly { cause: Arc<str>, until: &'static str },
    /// An internal error in this one read. Others are not affected.
    #[error("store read panicked")]
    Panicked,
    /// A thread of the store has ended, and the node shuts down. The operation has certainly not happened.
    #[error("a task of this node has failed; the node is shutting down")]
    Closed,
    /// The writer's thread ended during the operation, which may have happened.
    #[error("the node failed during the write; the write may have been applied")]
    Lost,
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Error {
        Error::File(Arc::new(error))
    }
}

impl From<NotAudited> for Error {
    fn from(NotAudited { cause, until }: NotAudited) -> Error {
        Error::ReadOnly { cause, until }
    }
}

impl Error {
    /// Converts an error of the commit of a transaction. If the disk had no space for it, the transaction has not
    /// happened; after any other error, it may have.
    pub(super) fn from_commit(error: rusqlite::Error) -> Error {
        match Error::from(error) {
            Error::Failed(error) => Error::Uncertain(error),
            other => other,
        }
    }

    /// Reports the condition of the whole store that the error reveals.
    fn report(&self, health: &Health) {
        if let Some(condition) = self.condition() {
            let cause = std::error::Error::source(self).map_or_else(|| self.to_string(), ToString::to_string);
            health.report(condition, cause);
        }
    }

    /// Returns the condition of the whole store that the error reveals.
    fn condition(&self) -> Option<Condition> {
        let engine = match self {
            Error::NoSpace(_) | Error::Full { .. } => return Some(Condition::DiskFull),
            Error::Malformed(_) => return Some(Condition::DatabaseCorrupt),
            Error::Uncertain(error) if is_damage(error) => return Some(Condition::DatabaseCorrupt),
            Error::Failed(error) | Error::Uncertain(error) => error.sqlite_error()?,
            _ => return None,
        };
        match (engine.code, engine.extended_code) {
            (_, ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC) => Some(Condition::SyncFailed),
            _ => None,
        }
    }
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Error {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => Error::NoSpace(Arc::new(error)),
            _ if is_damage(&error) => Error::Malformed(Arc::new(error)),
            _ => Error::Failed(Arc::new(error)),
        }
    }
}

impl Error {
    /// Returns the error for a database that was found to be damaged before.
    pub(crate) fn damaged() -> Error {
        Error::malformed("damage was detected earlier")
    }

    /// Returns an error for damage that SQLite itself does not detect.
    fn malformed(reason: &'static str) -> Error {
        let failure = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
        Error::Malformed(Arc::new(rusqlite::Error::SqliteFailure(failure, Some(reason.to_owned()))))
    }
}

/// Returns whether an error of the engine is caused by the stored data: SQLite reports damage, a value has another type
/// than the one that was written, a row that always exists is missing, or a row that was deleted exists again.
fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::{Error, ErrorCode};
    match error {
        Error::SqliteFailure(failure, _) => matches!(
            failure.code,
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::ConstraintViolation
        ),
        Error::FromSqlConversionFailure(..)
        | Error::IntegralValueOutOfRange(..)
        | Error::Utf8Error(..)
        | Error::InvalidColumnType(..)
        | Error::SqlInputError { .. }
        | Error::QueryReturnedNoRows => true,
        _ => false,
    }
}

/// The reason why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{0}: another process has this store open")]
    Locked(PathBuf),
    #[error("{0}: not a Cable store")]
    Foreign(PathBuf),
    #[error("{path}: unsupported store version {version}: this release reads version {}", schema::VERSION)]
    Version { path: PathBuf, version: i64 },
    #[error("{0}: there is no store here (no {DATABASE})")]
    Absent(PathBuf),
    /// Acknowledged commits are missing.
    #[error(
        "{path}: acknowledged commits are missing: the store ends at revision {revision}, but revision {acknowledged} \
         was acknowledged; the database or its write-ahead log was damaged, removed or replaced by an older one: put \
         the files back, or restore a backup to a new directory (cable restore); to continue without the missing \
         writes, as another history, remove the session file (cable.session-*) beside it"
    )]
    Behind { path: PathBuf, revision: Revision, acknowledged: Revision },
    #[error(
        "{0}: the write-ahead log does not belong to the database beside it, which was replaced by a copy or a backup: \
         to open the copy, remove the log and the file ending in -shm, or restore the copy to a new directory (cable \
         restore); to open the previous store, put its database back"
    )]
    ForeignLog(PathBuf),
    /// The log contains acknowledged commits after the damaged part.
    #[error(
        "{path}: write-ahead log damaged at byte {offset}: acknowledged commits cannot be read; restore a backup to a \
         new directory (cable restore); to continue without these commits, move this file away (the store then \
         returns to its last checkpoint)"
    )]
    DamagedLog { path: PathBuf, offset: u64 },
    /// The log contains commits of a database that no longer exists.
    #[error(
        "{0}: the write-ahead log holds commits, but the database beside it is absent or empty: put {DATABASE} back, or \
         restore a backup to a new directory (cable restore); to start with an empty store, move this file away"
    )]
    OrphanLog(PathBuf),
    #[error(
        "{path}: database damaged ({source}): restore a backup, or create a store from the readable entries with \
         `cable rebuild --skip-damaged`"
    )]
    Damaged { path: PathBuf, source: rusqlite::Error },
    #[error("{path}: {source}")]
    Engine { path: PathBuf, source: rusqlite::Error },
}

impl OpenError {
    /// Converts an error of the engine. Damage is a separate case, because it has a remedy of its own.
    fn engine(path: &Path, source: rusqlite::Error) -> OpenError {
        let path = path.to_owned();
        if is_damage(&source) {
            OpenError::Damaged { path, source }
        } else {
            OpenError::Engine { path, source }
        }
    }
}

/// The options with which a store is opened.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) dir: PathBuf,
    /// The number of reader threads, each with a connection of its own.
    pub(crate) readers: usize,
    /// The free disk space below which puts are rejected, in bytes. Removals are not rejected.
    pub(crate) reserve_bytes: u64,
    /// The health to which the store reports its conditions.
    pub(crate) health: Arc<Health>,
}

/// An open store: reads, and the head. Dropping it closes the readers.
#[derive(Debug)]
pub(crate) struct Store {
    options: Options,
    readers: Readers,
    head: watch::Sender<Arc<Head>>,
    /// The earliest due time.
    due: watch::Sender<Option<i64>>,
    /// The revision of the head, for callers that need nothing else.
    revision: AtomicI64,
    changed: LastChanged,
    erase_listeners: EraseListeners,
    ledgers: Ledgers,
    last_scrub: Mutex<LastScrub>,
    _lock: File,
}

/// The findings of the last pass over the whole store.
#[derive(Debug, Clone, Default)]
pub(crate) struct LastScrub {
    /// The damaged records.
    pub(crate) damage: Damage,
    /// Whether a pass has ended since the store was opened.
    pub(crate) has_ended: bool,
    /// The time at which the pass ended, in microseconds since 1970 UTC. Unset until the server sets the time of the
    /// pass at the opening.
    pub(crate) time: Option<i64>,
}

/// The callbacks of components that hold data in memory that they have read from the store.
#[derive(Default)]
struct EraseListeners(Mutex<Vec<Box<dyn Fn() + Send + Sync>>>);

impl fmt::Debug for EraseListeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EraseListeners")
    }
}

impl Store {
    /// Opens the store in a directory, or creates one there. A new store and a copy get the log id `new_log_id`.
    ///
    /// # Errors
    /// Fails if the directory is in use, if it does not belong to a store, or if its tables have another version.
    pub(crate) fn open(options: Options, new_log_id: LogId) -> Result<(Arc<Store>, Writer), OpenError> {
        Store::open_as(options, new_log_id, Identity::New(new_log_id))
    }

    /// Like [`Store::open`]; `copy_identity` is the log id that a copy gets.
    ///
    /// # Errors
    /// Fails like [`Store::open`].
    pub(crate) fn open_as(
        options: Options,
        new_log_id: LogId,
        copy_identity: Identity,
    ) -> Result<(Arc<Store>, Writer), OpenError> {
        let dir = options.dir.clone();
        let io = |source| OpenError::Io { path: dir.clone(), source };
        fs::create_dir_all(&dir).map_err(io)?;
        let lock = lock(&dir)?;
        copy::remove_abandoned(&dir).map_err(io)?;
        wal::check_orphan(&dir)?;
        session::check_absent(&dir)?;
        wal::check(&dir)?;
        session::check_log(&dir)?;
        let path = dir.join(DATABASE);
        let engine = |source| OpenError::engine(&path, source);
        let mut connection = Connection::open(&path).map_err(engine)?;
        // Rejected files stay as they are.
        session::set_log_retained(&connection, true).map_err(engine)?;
        let mut copy_identity = copy_identity;
        match schema::version(&connection).map_err(engine)? {
            None => return Err(OpenError::Foreign(path)),
            Some(version @ (0 | schema::VERSION)) => {
                schema::configure(&connection, schema::Role::Writer).map_err(engine)?;
                if version == 0 {
                    schema::create(&connection, new_log_id.0).map_err(engine)?;
                    copy_identity = Identity::Original;
                }
            }
            Some(version) => return Err(OpenError::Version { path, version }),
        }
        schema::checkpoint_inline(&mut connection, options.health.clone()).map_err(engine)?;
        let session = Session::start(&dir, &mut connection, copy_identity)?;
        session::set_log_retained(&connection, false).map_err(engine)?;
        let head = read::head(&connection).map_err(engine)?;
        let readers = Readers::start(&path, options.readers, &options.health).map_err(engine)?;
        let changed = LastChanged::new(head.revision);
        let revision = AtomicI64::new(head.revision);
        let head = watch::Sender::new(Arc::new(head));
        let due = watch::Sender::new(due::next(&connection).map_err(engine)?);
        let store = Arc::new(Store {
            options,
            readers,
            head,
            due,
            revision,
            changed,
            erase_listeners: EraseListeners::default(),
            ledgers: Ledgers::default(),
            last_scrub: Mutex::default(),
            _lock: lock,
        });
        store.scrub_if_small(&connection);
        Ok((store.clone(), Writer::new(connection, store, session)))
    }

    /// Returns the newest head that is applied.
    pub(crate) fn head(&self) -> Arc<Head> {
        self.head.borrow().clone()
    }

    /// Returns a receiver that is notified of later heads.
    pub(crate) fn heads(&self) -> watch::Receiver<Arc<Head>> {
        self.head.subscribe()
    }

    /// Returns the newest revision that is applied.
    pub(crate) fn revision(&self) -> Revision {
        self.revision.load(Ordering::Acquire)
    }

    /// Returns a receiver of the earliest due time, in microseconds since 1970 UTC, that is notified of changes.
    pub(crate) fn next_due(&self) -> watch::Receiver<Option<i64>> {
        self.due.subscribe()
    }

    /// Returns whether no subject of the stripes has changed since a revision. Data that was loaded at that head is
    /// then current. Other subjects share the stripes, so `false` does not prove a change.
    pub(crate) fn unchanged_since(&self, revision: Revision, stripes: &[Stripe]) -> bool {
        stripes.iter().all(|stripe| self.changed.at(*stripe) <= revision)
    }

    /// Runs a read in one transaction, on one of the reader threads. It must be short: some hundred rows.
    ///
    /// # Errors
    /// Fails if the queue is full, or if the read fails.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        job: impl FnOnce(Snapshot<'_>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.readers.run(job).await.inspect_err(|error| error.report(&self.options.health))
    }

    /// Measures how long a read is queued now. `None` if the queue is full.
    pub(crate) async fn measure_read_delay(&self) -> Option<Duration> {
        self.readers.measure_delay().await
    }

    /// Returns the size of the store on disk, in bytes.
    pub(crate) fn bytes_on_disk(&self) -> u64 {
        let size = |file: &str| fs::metadata(self.options.dir.join(file)).map_or(0, |meta| meta.len());
        size(DATABASE) + size("cable.db-wal")
    }

    /// Registers a function that the writer's thread calls after each kill, once the kill is visible and before it is
    /// acknowledged. The function must drop all data that was read before. It blocks all writes.
    pub(crate) fn on_erase(&self, listener: impl Fn() + Send + Sync + 'static) {
        self.erase_listeners.0.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(listener));
    }

    /// Returns whether the database is damaged beyond single records. A record that a read does not find may still
    /// exist.
    pub(crate) fn is_damaged(&self) -> bool {
        self.options.health.conditions().is_active(Condition::DatabaseCorrupt)
    }

    /// Scrubs a small store immediately, so that no index is used that has lost rows unnoticed.
    fn scrub_if_small(&self, connection: &Connection) {
        if self.bytes_on_disk() > scrub::MAX_BYTES_AT_OPEN {
            return;
        }
        let mut pass = scrub::Pass::new(self.start_tally());
        loop {
            match Snapshot::read(connection, |snapshot| pass.step(snapshot)) {
                Ok(None) => {}
                Ok(Some(findings)) => return self.record_scrub(findings, None),
                Err(error) => return tracing::warn!(%error, "initial scrub failed"),
            }
        }
    }

    /// Records the findings of a pass and the time at which it ended, in microseconds since 1970 UTC.
    pub(crate) fn record_scrub(&self, findings: scrub::ScrubFindings, time: Option<i64>) {
        if let Some(fault) = &findings.fault {
            self.options.health.report(Condition::DatabaseCorrupt, fault);
        }
        let mut last = self.last_scrub.lock().unwrap_or_else(PoisonError::into_inner);
        *last = LastScrub { damage: findings.damage, has_ended: true, time: time.or(last.time) };
    }

    /// Sets the time of the pass that ran when the store was opened, which had no clock.
    pub(crate) fn set_scrub_time(&self, now: i64) {
        self.last_scrub.lock().unwrap_or_else(PoisonError::into_inner).time.get_or_insert(now);
    }

    /// Returns the findings of the last pass over the whole store.
    pub(crate) fn last_scrub(&self) -> LastScrub {
        self.last_scrub.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Starts a sum of records.
    pub(crate) fn start_tally(&self) -> Tally {
        self.ledgers.start_tally(self.revision())
    }

    fn notify_erase_listeners(&self) {
        for listener in self.erase_listeners.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            listener();
        }
    }

    /// Makes an entry's effect visible. The order matters: a reader that sees the head finds the changes marked.
    fn publish(&self, effect: apply::Effect) {
        for (stripe, revision) in effect.changed {
            self.changed.mark(stripe, revision);
        }
        self.ledgers.note(&effect.superseded, effect.head.revision);
        self.revision.store(effect.head.revision, Ordering::Release);
        self.head.send_replace(Arc::new(effect.head));
        if let NextDue::Updated(due) = effect.next_due {
            self.due.send_replace(due);
        }
    }

    /// Returns the health of the node that owns the store.
    pub(crate) fn health(&self) -> &Arc<Health> {
        &self.options.health
    }

    /// Reports whether the disk has space for writes, even if there are none.
    pub(crate) fn observe_space(&self) {
        match self.check_space() {
            Ok(()) => self.options.health.clear(Condition::DiskFull),
            Err(error) => error.report(&self.options.health),
        }
    }

    /// Fails if even a successful write could no longer be relied upon.
    fn check_writable(&self) -> Result<(), Error> {
        if self.is_damaged() {
            return Err(Error::damaged());
        }
        match self.options.health.cause(Condition::SyncFailed) {
            Some(cause) => Err(Error::ReadOnly { cause, until: "this node is restarted" }),
            None => Ok(()),
        }
    }

    fn check_space(&self) -> Result<(), Error> {
        let reserve = self.options.reserve_bytes;
        let Some(free) = self.free_bytes() else { return Ok(()) };
        if free < reserve { Err(Error::Full { free, reserve }) } else { Ok(()) }
    }

    /// Returns the free bytes of the disk.
    pub(crate) fn free_bytes(&self) -> Option<u64> {
        let space = rustix::fs::statvfs(&self.options.dir).ok()?;
        Some(space.f_bavail.saturating_mul(space.f_frsize))
    }

    /// Notes that a backup has been sent.
    pub(crate) fn mark_backup(&self) -> io::Result<()> {
        mark_backup(&self.options.dir)
    }

    /// Returns the end of the last backup, in seconds since 1970 UTC.
    pub(crate) fn last_backup_secs(&self) -> Option<u64> {
        let time = std::fs::metadata(self.options.dir.join(BACKUP_MARK)).ok()?.modified().ok()?;
        Some(time.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs())
    }

    /// Returns the bytes of the disk that are reserved for removals.
    pub(crate) fn reserve_bytes(&self) -> u64 {
        self.options.reserve_bytes
    }

    /// Returns the number of reads that wait for a thread, and that of reads refused so far.
    pub(crate) fn read_queue(&self) -> (usize, u64) {
        self.readers.counts()
    }
}

/// Locks the directory of a store. SQLite itself lets two processes write one file.
fn lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join(LOCK);
    let file = File::create(&path).map_err(|source| OpenError::Io { path: path.clone(), source })?;
    for _ in 0..LOCK_ATTEMPTS {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(source)) => return Err(OpenError::Io { path, source }),
        }
    }
    Err(OpenError::Locked(dir.to_owned()))
}

/// Notes that a backup of the store has been made. A node that serves the store shows its age.
pub(crate) fn mark_backup(dir: &Path) -> std::io::Result<()> {
    File::create(dir.join(BACKUP_MARK))?.set_modified(std::time::SystemTime::now())
}

/// Returns whether a process has the store open.
fn is_served(dir: &Path) -> bool {
    let lock = File::open(dir.join(LOCK));
    lock.is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// Rejects a write-ahead log from which SQLite would drop commits, unless a process has the store open.
///
/// # Errors
/// Fails with `DamagedLog` or `OrphanLog`, or if a file cannot be read.
pub(crate) fn check_log(dir: &Path) -> Result<(), OpenError> {
    if is_served(dir) {
        return Ok(());
    }
    wal::check_orphan(dir)?;
    wal::check(dir)
}

#[cfg(test)]
mod tests {
    use rusqlite::{Error as EngineError, ffi};

    use super::*;

    fn engine(code: std::ffi::c_int) -> EngineError {
        EngineError::SqliteFailure(ffi::Error::new(code), None)
    }

    #[test]
    fn engine_errors_map_to_conditions_of_the_store() {
        for (code, condition) in [
            (ffi::SQLITE_IOERR_FSYNC, Some(Condition::SyncFailed)),
            (ffi::SQLITE_IOERR_DIR_FSYNC, Some(Condition::SyncFailed)),
            (ffi::SQLITE_FULL, Some(Condition::DiskFull)),
            (ffi::SQLITE_CORRUPT, Some(Condition::DatabaseCorrupt)),
            (ffi::SQLITE_NOTADB, Some(Condition::DatabaseCorrupt)),
            (ffi::SQLITE_IOERR_READ, None),
            (ffi::SQLITE_BUSY, None),
        ] {
            assert_eq!(Error::from(engine(code)).condition(), condition, "{code}");
            assert_eq!(Error::from_commit(engine(code)).condition(), condition, "{code}");
        }
        assert_eq!(Error::Full { free: 0, reserve: 1 }.condition(), Some(Condition::DiskFull));
    }

    #[test]
    fn only_a_full_disk_proves_that_a_failed_commit_had_no_effect() {
        assert!(matches!(Error::from_commit(engine(ffi::SQLITE_FULL)), Error::NoSpace(_)));
        assert!(matches!(Error::from_commit(engine(ffi::SQLITE_IOERR_FSYNC)), Error::Uncertain(_)));
    }

    #[test]
    fn a_full_disk_is_reported_until_there_is_space() {
        let dir = tempfile::tempdir().unwrap();
        let options = |reserve_bytes| Options {
            dir: dir.path().into(),
            readers: 1,
            reserve_bytes,
            health: Arc::default(),
        };
        let (store, writer) = Store::open(options(u64::MAX), LogId(1)).unwrap();
        store.observe_space();
        assert!(store.health().cause(Condition::DiskFull).is_some());
        drop((store, writer));
        let (store, _writer) = Store::open(options(0), LogId(1)).unwrap();
        store.health().report(Condition::DiskFull, "a test");
        store.observe_space();
        assert!(store.health().cause(Condition::DiskFull).is_none());
    }
}
