//! The opening of a store: the checks of its files before SQLite changes any of them, and the reasons to refuse it.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, atomic::AtomicI64},
    time::Duration,
};

use rusqlite::Connection;
use tokio::sync::watch;

use super::{
    EraseListeners, Store, Writer,
    changed::LastChanged,
    copy,
    directory::{DATABASE, LOCK, has_open_session, is_served},
    due,
    error::is_damage,
    ledger::Ledgers,
    read,
    readers::Readers,
    schema,
    session::{self, Identity, Session},
    wal,
};
use crate::{
    health::Health,
    model::{LogId, Revision},
};

/// The number of attempts to lock a store, and the pause between them. A command that only reads the store holds the
/// lock for some microseconds, to check whether a node has it.
const LOCK_ATTEMPTS: usize = 5;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// The reason why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{0}: not a directory; name the directory of a store (`--data` or `store.dir`)")]
    NotDirectory(PathBuf),
    #[error(
        "{0}: a link to a directory that does not exist: create that directory, or name another (`--data` or `store.dir`)"
    )]
    DanglingLink(PathBuf),
    #[error(
        "{path}: another process has this store open{}: stop it, or select another directory (`--data` or `store.dir`)",
        process.map(|id| format!(" (process {id})")).unwrap_or_default()
    )]
    Locked { path: PathBuf, process: Option<u32> },
    #[error(
        "{0}: the file system is mounted for reading alone, and the store cannot be read without writing there: a node \
         has it open, or commits are in its write-ahead log (cable.db-wal); mount it for writing, or copy the directory \
         to another file system"
    )]
    ReadOnlyFileSystem(PathBuf),
    #[error("{0}: not a Cable store")]
    Foreign(PathBuf),
    #[error(
        "{path}: unsupported store version {version}: this release reads version {}; use {} release",
        schema::VERSION,
        if *version > schema::VERSION { "a newer" } else { "the older" }
    )]
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
        "{path}: database damaged ({error}): restore a backup, or create a store from the readable entries with \
         `cable rebuild --skip-damaged`"
    )]
    Damaged { path: PathBuf, error: rusqlite::Error },
    // The error is not the source: its own source repeats its text.
    #[error("{path}: {error}")]
    Engine { path: PathBuf, error: rusqlite::Error },
}

impl OpenError {
    /// Returns the version of the store, if this release cannot read it.
    pub(crate) fn version(&self) -> Option<i64> {
        match self {
            OpenError::Version { version, .. } => Some(*version),
            _ => None,
        }
    }

    /// Converts an error of the engine. Damage is a separate case, because it has a remedy of its own.
    pub(super) fn engine(path: &Path, error: rusqlite::Error) -> OpenError {
        let path = path.to_owned();
        if is_damage(&error) { OpenError::Damaged { path, error } } else { OpenError::Engine { path, error } }
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
        check_directory(&dir)?;
        fs::create_dir_all(&dir).map_err(io)?;
        let lock = lock(&dir)?;
        copy::remove_abandoned(&dir).map_err(io)?;
        wal::check_orphan(&dir)?;
        session::check_absent(&dir)?;
        wal::check(&dir)?;
        session::check_log_origin(&dir)?;
        let path = dir.join(DATABASE);
        let engine = |source| OpenError::engine(&path, source);
        let mut connection = Connection::open(&path).map_err(engine)?;
        // Rejected files stay as they are.
        schema::set_log_retained(&connection, true).map_err(engine)?;
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
        schema::set_log_retained(&connection, false).map_err(engine)?;
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
}

/// Locks the directory of a store. SQLite itself lets two processes write one file. The file names the process that has
/// it, so it is not truncated before the lock is there.
pub(crate) fn lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join(LOCK);
    let io = |source| OpenError::Io { path: path.clone(), source };
    let mut options = File::options();
    let mut file = options.read(true).write(true).create(true).truncate(false).open(&path).map_err(io)?;
    for _ in 0..LOCK_ATTEMPTS {
        match file.try_lock() {
            Ok(()) if !has_open_session(dir) => {
                // On a full disk, a node still starts.
                let _unnamed = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
                return Ok(file);
            }
            Ok(()) | Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(source)) => return Err(io(source)),
        }
    }
    let mut holder = String::new();
    let process = file.read_to_string(&mut holder).ok().and_then(|_| holder.trim().parse().ok());
    Err(OpenError::Locked { path: dir.to_owned(), process })
}

/// Rejects a path that leads to something else than a directory, or nowhere.
fn check_directory(dir: &Path) -> Result<(), OpenError> {
    match fs::metadata(dir) {
        Ok(meta) if !meta.is_dir() => Err(OpenError::NotDirectory(dir.to_owned())),
        Err(_) if fs::symlink_metadata(dir).is_ok() && fs::read_link(dir).is_ok() => {
            Err(OpenError::DanglingLink(dir.to_owned()))
        }
        _ => Ok(()),
    }
}

/// Rejects a write-ahead log from which SQLite would drop commits, unless a process has the store open.
///
/// # Errors
/// Fails with `NotDirectory`, `DamagedLog` or `OrphanLog`, or if a file cannot be read.
pub(crate) fn check_log_intact(dir: &Path) -> Result<(), OpenError> {
    check_directory(dir)?;
    if is_served(dir) {
        return Ok(());
    }
    wal::check_orphan(dir)?;
    wal::check(dir)
}
