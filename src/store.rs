//! The durable store of one node: one directory, one embedded database, one writer, a few readers.
//!
//! It owns the newest entry of each key and what lists and paths follow from them. Only [`apply`] changes what
//! readers see, always together with the head. It knows nothing of calls, caches or feeds; it refuses to say what an
//! entry should be.

use std::{
    fmt,
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
};

/// A connection that reads; what else it can do is the store's own.
pub(crate) use rusqlite::Connection;
use rusqlite::ffi;
use tokio::sync::watch;

use crate::{
    digest::Hash,
    digest::SetDigest,
    health::{Condition, Health},
    model::{HashPrefix, Kind, LogId, Name, Revision, Slot},
    wire::{log, v1},
};

pub(crate) mod apply;
mod changed;
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
pub(crate) mod read;
mod readers;
pub(crate) mod rebuild;
pub(crate) mod request;
mod row;
pub(crate) mod salvage;
mod schema;
pub(crate) mod scrub;
mod session;
pub(crate) mod verify;
mod wal;

pub(crate) use apply::Writer;
use changed::LastChanged;
pub(crate) use changed::{Stripe, Subject};
pub(crate) use damage::Damage;
use ledger::Ledgers;
pub(crate) use ledger::Tally;
use readers::Readers;
use session::Session;
pub(crate) use session::{Identity, is_backup, is_database, is_store};

/// The database within the directory.
pub(crate) const DATABASE: &str = "cable.db";
const LOCK: &str = "cable.lock";

/// A command that only reads the store holds the lock for some microseconds, to see whether a node has it.
const LOCK_ATTEMPTS: usize = 5;
const LOCK_PAUSE: std::time::Duration = std::time::Duration::from_millis(20);

/// Where a store stands: moves in the transaction of each entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) log_id: LogId,
    pub(crate) revision: Revision,
    pub(crate) chain: Hash,
    /// What left a list is known from this revision on.
    pub(crate) floor: Revision,
    pub(crate) log_digest: SetDigest,
    pub(crate) content_digest: SetDigest,
    live: [i64; Kind::ALL.len()],
}

impl Head {
    /// Number of live versions of a kind.
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
    /// Of the entry's hash.
    pub(crate) prefix: HashPrefix,
    pub(crate) log: log::LogEntry,
}

impl Record {
    /// Whether it holds content.
    pub(crate) fn is_put(&self) -> bool {
        self.log.operation() == log::Operation::Put
    }

    /// What is left of the key, if its content was removed.
    pub(crate) fn tombstone(&self) -> Option<Tombstone> {
        (!self.is_put()).then(|| Tombstone {
            reason: self.log.reason(),
            moved_to: Name::parse(&self.log.moved_to),
            time: self.log.time,
            revision: self.revision,
        })
    }
}

/// What is left of a removed name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tombstone {
    pub(crate) reason: v1::RemovalReason,
    pub(crate) moved_to: Option<Name>,
    /// When it was removed, microseconds since 1970 UTC.
    pub(crate) time: i64,
    pub(crate) revision: Revision,
}

/// The outcome of one change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) name: Name,
    /// The revision of the name's newest version: of this change, or, where it changed nothing, of an earlier one.
    pub(crate) revision: Revision,
    /// Of the entry's hash.
    pub(crate) prefix: HashPrefix,
    /// Whether the change made a revision.
    pub(crate) changed: bool,
    pub(crate) slot: Slot,
    /// Of a pending version: when it becomes visible, microseconds since 1970 UTC.
    pub(crate) due: Option<i64>,
    /// Whether nothing is left in the slot.
    pub(crate) removed: bool,
    /// Whether it is a kill.
    pub(crate) killed: bool,
    /// The article that has the path of this one, which was written without it.
    pub(crate) path_owner: Option<Name>,
}

/// Why the store did not answer.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Error {
    /// The record is damaged; others are not.
    #[error("what is stored under {0} does not pass its checksum")]
    Corrupt(Name),
    /// The database is damaged beyond single records: what it does not return may be there all the same.
    #[error(
        "the database is damaged: restore a backup, or make a new store of what can be read with `cable rebuild`"
    )]
    Malformed(#[source] Arc<rusqlite::Error>),
    /// Try again later.
    #[error("the store has more to read than it can queue")]
    Overloaded,
    /// Make room; reads and removals continue.
    #[error("the disk has {free} bytes free; {reserve} are reserved for removals")]
    Full { free: u64, reserve: u64 },
    /// It certainly did not happen. Make room; reads and removals continue.
    #[error("the disk is full")]
    NoSpace(#[source] Arc<rusqlite::Error>),
    /// It certainly did not happen.
    #[error("the store failed")]
    Failed(#[source] Arc<rusqlite::Error>),
    /// It may have happened.
    #[error("the store failed while it committed")]
    Uncertain(#[source] Arc<rusqlite::Error>),
    /// It happened; a repeat erases again.
    #[error(
        "the killed content is gone for readers, but not yet erased from the disk: repeat the call to erase it again"
    )]
    NotErased,
    /// Writes are refused for good; reads go on.
    #[error("writes are refused until {until}: {cause}")]
    ReadOnly { cause: Arc<str>, until: &'static str },
    /// A fault of ours in this one read. Others are not affected.
    #[error("a read of the store panicked")]
    Panicked,
    /// A thread of the store has ended: the node shuts down. It certainly did not happen.
    #[error("a part of this node has failed; the node is shutting down")]
    Closed,
    /// The writer's thread ended while it had this in hand. It may have happened.
    #[error("this node failed while it wrote")]
    Lost,
}

impl Error {
    /// An error of the transaction's end: without space for it, it did not happen; after any other, it may have.
    pub(super) fn of_commit(error: rusqlite::Error) -> Error {
        match Error::from(error) {
            Error::Failed(error) => Error::Uncertain(error),
            other => other,
        }
    }

    /// Reports what it says about the whole store.
    fn report(&self, health: &Health) {
        if let Some(condition) = self.condition() {
            let cause = std::error::Error::source(self).map_or_else(|| self.to_string(), ToString::to_string);
            health.report(condition, cause);
        }
    }

    /// What it says about the whole store.
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
    /// The database was found to be damaged before.
    pub(crate) fn damaged() -> Error {
        Error::malformed("it was found to be damaged before")
    }

    /// Damage that SQLite does not notice by itself.
    fn malformed(why: &'static str) -> Error {
        let failure = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
        Error::Malformed(Arc::new(rusqlite::Error::SqliteFailure(failure, Some(why.to_owned()))))
    }
}

/// Whether an error of the engine is due to what is stored: SQLite reports it, a value is not of the type that was
/// written, a row that is always there is not, or one that was taken out is there again.
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

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{0}: another process has this store open")]
    Locked(PathBuf),
    #[error("{0}: this is not a store of Cable")]
    Foreign(PathBuf),
    #[error("{path}: the store has version {version}; this release reads version {} alone", schema::VERSION)]
    Version { path: PathBuf, version: i64 },
    #[error("{0}: there is no store here (no {DATABASE})")]
    Absent(PathBuf),
    /// Acknowledged commits are missing.
    #[error(
        "{path}: it ends at revision {revision}, but revision {acknowledged} was acknowledged: the database or its \
         write-ahead log was damaged, removed or replaced by an older one; put the files back, or restore a backup to \
         a new directory (cable restore); to continue without the missing writes, as another history, remove the \
         session file (cable.session-*) beside it"
    )]
    Behind { path: PathBuf, revision: Revision, acknowledged: Revision },
    #[error(
        "{0}: this write-ahead log is not of the database beside it, which was replaced by a copy or a backup: to open \
         the copy, remove the log and the file ending in -shm, or restore the copy to a new directory (cable restore); \
         to open the store that was there before, put its database back"
    )]
    ForeignLog(PathBuf),
    /// Acknowledged commits are in it, behind what is damaged.
    #[error(
        "{path}: the write-ahead log is damaged at byte {offset}: commits that were acknowledged cannot be read; restore \
         a backup to a new directory (cable restore); to continue without these commits, move this file away (the store is then as of \
         its last checkpoint)"
    )]
    DamagedLog { path: PathBuf, offset: u64 },
    /// It holds commits of a database that is gone.
    #[error(
        "{0}: this write-ahead log holds commits, but the database beside it is absent or empty: put {DATABASE} back, or \
         restore a backup to a new directory (cable restore); to start with an empty store, move this file away"
    )]
    OrphanLog(PathBuf),
    #[error(
        "{path}: the database is damaged ({source}): restore a backup, or make a new store of what can be read with \
         `cable rebuild --skip-damaged`"
    )]
    Damaged { path: PathBuf, source: rusqlite::Error },
    #[error("{path}: {source}")]
    Engine { path: PathBuf, source: rusqlite::Error },
}

impl OpenError {
    /// An error of the engine, of which damage has a remedy of its own.
    fn engine(path: &Path, source: rusqlite::Error) -> OpenError {
        let path = path.to_owned();
        if is_damage(&source) {
            OpenError::Damaged { path, source }
        } else {
            OpenError::Engine { path, source }
        }
    }
}

/// How a store is opened.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) dir: PathBuf,
    /// Threads that read, each with a connection of its own.
    pub(crate) readers: usize,
    /// Puts are refused when the disk has fewer bytes free; removals are not.
    pub(crate) reserve_bytes: u64,
    /// Where the store reports its condition.
    pub(crate) health: Arc<Health>,
}

/// An open store: reads, and where it stands. Dropping it closes the readers.
#[derive(Debug)]
pub(crate) struct Store {
    options: Options,
    readers: Readers,
    head: watch::Sender<Arc<Head>>,
    /// The earliest time at which the clock changes something.
    due: watch::Sender<Option<i64>>,
    /// That of the head, for those who ask for nothing else.
    revision: AtomicI64,
    changed: LastChanged,
    keepers: Keepers,
    ledgers: Ledgers,
    scrubbed: Mutex<Scrub>,
    _lock: File,
}

/// What the last pass over the whole store found.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scrub {
    /// Records that are damaged.
    pub(crate) damage: Damage,
    /// Whether a pass has ended since the store was opened.
    pub(crate) has_ended: bool,
    /// When it ended, microseconds since 1970 UTC; unset until the server dates the one at the opening.
    pub(crate) time: Option<i64>,
}

/// Those who keep in memory what they have read.
#[derive(Default)]
struct Keepers(Mutex<Vec<Box<dyn Fn() + Send + Sync>>>);

impl fmt::Debug for Keepers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keepers")
    }
}

impl Store {
    /// Opens the store in a directory, or creates one there. A new store and a copy get the log id `new_log_id`.
    ///
    /// # Errors
    /// The directory is in use, is not a store's, or its tables have another version.
    pub(crate) fn open(options: Options, new_log_id: LogId) -> Result<(Arc<Store>, Writer), OpenError> {
        Store::open_as(options, new_log_id, Identity::New(new_log_id))
    }

    /// As [`Store::open`]; `copy` is the log id that a copy gets.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub(crate) fn open_as(
        options: Options,
        new_log_id: LogId,
        copy: Identity,
    ) -> Result<(Arc<Store>, Writer), OpenError> {
        let dir = options.dir.clone();
        let io = |source| OpenError::Io { path: dir.clone(), source };
        fs::create_dir_all(&dir).map_err(io)?;
        let lock = lock(&dir)?;
        wal::check_orphan(&dir)?;
        session::check_absent(&dir)?;
        wal::check(&dir)?;
        session::check_log(&dir)?;
        let path = dir.join(DATABASE);
        let engine = |source| OpenError::engine(&path, source);
        let mut connection = Connection::open(&path).map_err(engine)?;
        // Refused files stay as they are.
        session::keep_log(&connection, true).map_err(engine)?;
        let mut copy = copy;
        match schema::version(&connection).map_err(engine)? {
            None => return Err(OpenError::Foreign(path)),
            Some(version @ (0 | schema::VERSION)) => {
                schema::configure(&connection, schema::Role::Writer).map_err(engine)?;
                if version == 0 {
                    schema::create(&connection, new_log_id.0).map_err(engine)?;
                    copy = Identity::Keep;
                }
            }
            Some(version) => return Err(OpenError::Version { path, version }),
        }
        schema::checkpoint_inline(&mut connection, options.health.clone()).map_err(engine)?;
        let session = Session::begin(&dir, &mut connection, copy)?;
        session::keep_log(&connection, false).map_err(engine)?;
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
            keepers: Keepers::default(),
            ledgers: Ledgers::default(),
            scrubbed: Mutex::default(),
            _lock: lock,
        });
        store.scrub_if_small(&connection);
        Ok((store.clone(), Writer::new(connection, store, session)))
    }

    /// The newest head that is applied.
    pub(crate) fn head(&self) -> Arc<Head> {
        self.head.borrow().clone()
    }

    /// To wait for later heads.
    pub(crate) fn heads(&self) -> watch::Receiver<Arc<Head>> {
        self.head.subscribe()
    }

    /// The newest revision that is applied.
    pub(crate) fn revision(&self) -> Revision {
        self.revision.load(Ordering::Acquire)
    }

    /// The earliest time at which the clock changes something, microseconds since 1970 UTC; to wait for others.
    pub(crate) fn next_due(&self) -> watch::Receiver<Option<i64>> {
        self.due.subscribe()
    }

    /// Whether nothing that shares one of the stripes has changed since a revision: what was loaded at that head is
    /// what there is now.
    pub(crate) fn unchanged_since(&self, revision: Revision, stripes: &[Stripe]) -> bool {
        stripes.iter().all(|stripe| self.changed.at(*stripe) <= revision)
    }

    /// Runs a read on one of the reader threads. It must be short: some hundred rows.
    ///
    /// # Errors
    /// The queue is full, or the read failed.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.readers.run(job).await.inspect_err(|error| error.report(&self.options.health))
    }

    /// Bytes that the store takes on disk.
    pub(crate) fn bytes_on_disk(&self) -> u64 {
        let size = |file: &str| fs::metadata(self.options.dir.join(file)).map_or(0, |meta| meta.len());
        size(DATABASE) + size("cable.db-wal")
    }

    /// Has `forget` called after each kill, once it is visible and before it is acknowledged, in the writer's thread:
    /// nothing that was read before may be kept after it. It holds up all writes.
    pub(crate) fn on_erase(&self, forget: impl Fn() + Send + Sync + 'static) {
        self.keepers.0.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(forget));
    }

    /// Whether the database is damaged beyond single records: what a read does not find may be there all the same.
    pub(crate) fn is_damaged(&self) -> bool {
        self.options.health.conditions().holds(Condition::DatabaseCorrupt)
    }

    /// Scrubs a small store at once, so that no index is relied upon that lost something while nobody looked.
    fn scrub_if_small(&self, connection: &Connection) {
        if self.bytes_on_disk() > scrub::AT_ONCE {
            return;
        }
        let mut pass = scrub::Pass::new(self.tally());
        loop {
            match pass.step(connection) {
                Ok(None) => {}
                Ok(Some(found)) => return self.scrubbed(found, None),
                Err(error) => return tracing::warn!(%error, "the store was not scrubbed"),
            }
        }
    }

    /// Takes note of what a pass found, and when it ended, in microseconds since 1970 UTC.
    pub(crate) fn scrubbed(&self, found: scrub::Scrubbed, time: Option<i64>) {
        if let Some(fault) = &found.fault {
            self.options.health.report(Condition::DatabaseCorrupt, fault);
        }
        let mut last = self.scrubbed.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Scrub { damage: found.damage, has_ended: true, time: time.or(last.time) };
    }

    /// Dates the pass that the store was opened with, which knows no clock.
    pub(crate) fn date_scrub(&self, now: i64) {
        self.scrubbed.lock().unwrap_or_else(PoisonError::into_inner).time.get_or_insert(now);
    }

    /// What the last pass over the whole store found.
    pub(crate) fn last_scrub(&self) -> Scrub {
        self.scrubbed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Starts to add up records.
    pub(crate) fn tally(&self) -> Tally {
        self.ledgers.tally(|| self.revision())
    }

    fn forget(&self) {
        for forget in self.keepers.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            forget();
        }
    }

    /// Makes an entry's effect visible; the order matters: whoever sees the head finds the changes marked.
    fn publish(&self, effect: apply::Effect) {
        for (stripe, revision) in effect.changed {
            self.changed.mark(stripe, revision);
        }
        self.ledgers.note(&effect.superseded, effect.head.revision);
        self.revision.store(effect.head.revision, Ordering::Release);
        self.head.send_replace(Arc::new(effect.head));
        if let Some(due) = effect.due {
            self.due.send_replace(due);
        }
    }

    /// The health of the node that has the store.
    pub(crate) fn health(&self) -> &Arc<Health> {
        &self.options.health
    }

    /// Reports whether the disk has space for writes, also when there are none.
    pub(crate) fn observe_space(&self) {
        match self.check_space() {
            Ok(()) => self.options.health.clear(Condition::DiskFull),
            Err(error) => error.report(&self.options.health),
        }
    }

    /// Writes that end well could not be relied upon any more.
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
        let Ok(space) = rustix::fs::statvfs(&self.options.dir) else { return Ok(()) };
        let free = space.f_bavail.saturating_mul(space.f_frsize);
        if free < reserve { Err(Error::Full { free, reserve }) } else { Ok(()) }
    }
}

/// SQLite itself lets two processes write one file: the directory's lock is ours.
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

/// Whether a process has the store open.
fn is_served(dir: &Path) -> bool {
    let lock = File::open(dir.join(LOCK));
    lock.is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// Refuses a write-ahead log from which SQLite would drop commits, unless a process has the store open.
///
/// # Errors
/// `DamagedLog` or `OrphanLog`, or a file cannot be read.
pub(crate) fn check_log(dir: &Path) -> Result<(), OpenError> {
    if is_served(dir) {
        return Ok(());
    }
    wal::check_orphan(dir)?;
    wal::check(dir)
}

/// Opens the database of a store for looking at, beside the process that serves it.
///
/// # Errors
/// There is none, or it is not one of ours.
pub(crate) fn open_to_read(dir: &Path) -> Result<Connection, OpenError> {
    let path = dir.join(DATABASE);
    if !path.exists() {
        return Err(OpenError::Absent(dir.to_owned()));
    }
    check_log(dir)?;
    let has_log = !is_served(dir) && session::check_log(dir)?;
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE | rusqlite::OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let engine = |source| OpenError::engine(&path, source);
    let connection = Connection::open_with_flags(&path, flags).map_err(engine)?;
    // A command that reads a killed store leaves its files as they are.
    session::keep_log(&connection, has_log).map_err(engine)?;
    match schema::version(&connection).map_err(engine)? {
        Some(schema::VERSION) => {}
        Some(0) | None => return Err(OpenError::Foreign(path)),
        Some(version) => return Err(OpenError::Version { path, version }),
    }
    schema::configure(&connection, schema::Role::Reader).map_err(engine)?;
    Ok(connection)
}

/// Copies the database as it stands at one moment, while others go on reading and writing it. The copy is compact, and
/// not yet synced to the disk.
///
/// # Errors
/// The store cannot be read, or the copy cannot be written; it must not be there yet.
pub(crate) fn copy(connection: &Connection, to: &Path) -> Result<(), Error> {
    // A connection that may only query may write no other file either.
    connection.pragma_update(None, "query_only", false)?;
    connection.execute("VACUUM INTO ?1", [to.to_string_lossy()])?;
    Ok(session::mark_copy(to)?)
}

#[cfg(test)]
mod tests {
    use rusqlite::{Error as EngineError, ffi};

    use super::*;

    fn engine(code: std::ffi::c_int) -> EngineError {
        EngineError::SqliteFailure(ffi::Error::new(code), None)
    }

    #[test]
    fn an_error_is_reported_as_what_it_says_about_the_store() {
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
            assert_eq!(Error::of_commit(engine(code)).condition(), condition, "{code}");
        }
        assert_eq!(Error::Full { free: 0, reserve: 1 }.condition(), Some(Condition::DiskFull));
    }

    #[test]
    fn only_a_full_disk_makes_a_failed_commit_certain() {
        assert!(matches!(Error::of_commit(engine(ffi::SQLITE_FULL)), Error::NoSpace(_)));
        assert!(matches!(Error::of_commit(engine(ffi::SQLITE_IOERR_FSYNC)), Error::Uncertain(_)));
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
