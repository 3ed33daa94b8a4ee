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
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Read as _},
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use rusqlite::{Connection, OpenFlags, OptionalExtension as _, config::DbConfig, params};
use xxhash_rust::xxh3::xxh3_64;

use super::{DATABASE, Head, LOCK, OpenError, erase::truncate_log, read};
use crate::{
    digest::Hash,
    model::{LogId, Revision, random},
};

/// The name of the session file, without the session id in 16 hex digits.
const PREFIX: &str = "cable.session-";

/// The name of a session file that is being created.
const TEMPORARY: &str = "cable.new-session";

/// The format of a session file.
const MAGIC: [u8; 8] = *b"cables-1";

/// The size of a session file in bytes: magic, id, previous id, inode, birth, revision, chain, checksum. One sector
/// holds it, so that a write of it is not torn.
const SIZE: usize = 6 * 8 + 32 + 8;

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

/// The content of a session file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Record {
    id: u64,
    /// The previous session while the database may still name it, otherwise 0.
    previous: u64,
    database: FileId,
    /// The newest head, not synced. It can lag after a power cut, and is never ahead of the commits on disk.
    revision: Revision,
    chain: Hash,
}

/// The identity of a file, which distinguishes it from its copies, and survives a restart and a move within the file
/// system. The device number does not survive a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileId {
    inode: u64,
    /// The time of birth, in nanoseconds since 1970 UTC; 0 if the file system does not record it.
    birth_time: u64,
}

/// The session that a database names, and its newest revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Marks {
    /// The session id; 0 if there is none, as in a backup.
    id: u64,
    /// The previous session where the database file may still name it instead, otherwise 0.
    previous: u64,
    revision: Revision,
}

/// The lineage of a database, as the files of its directory show it.
#[derive(Debug, PartialEq, Eq)]
enum Lineage {
    /// The database is in the state that the last session left.
    Same,
    Copy,
    /// The database ends before this revision, which was acknowledged.
    Behind(Revision),
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
        let old = session_files(dir).map_err(io)?;
        let records: Vec<_> = old.iter().map(|file| Record::read(file)).collect();
        let database = FileId::of(&path).map_err(io)?;
        let marks = Marks::read(connection).map_err(engine)?;
        let chain = |revision| chain_at(connection, revision);
        let lineage = lineage(&records, database, marks, chain).map_err(engine)?;
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
        session.replace(dir, &old).map_err(io)
    }

    fn create(dir: &Path, record: Record) -> io::Result<Session> {
        // The file has its name only once its content is on disk: without it, the store would seem to be a copy.
        let temporary = dir.join(TEMPORARY);
        let file = File::create(&temporary)?;
        file.write_all_at(&record.encode(), 0)?;
        file.sync_all()?;
        fs::rename(temporary, dir.join(record.file_name()))?;
        sync_directory(dir)?;
        Ok(Session { file, record })
    }

    /// Removes the files of older sessions: the database names this one.
    fn replace(mut self, dir: &Path, old: &[PathBuf]) -> io::Result<Session> {
        old.iter().try_for_each(fs::remove_file)?;
        // Until no power cut can bring them back, the record shows that they belong to the same history.
        sync_directory(dir)?;
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

fn lineage(
    records: &[Option<Record>],
    database: FileId,
    marks: Marks,
    chain_at: impl Fn(Revision) -> rusqlite::Result<Option<Hash>>,
) -> rusqlite::Result<Lineage> {
    let all: Option<Vec<Record>> = records.iter().copied().collect();
    let Some(records) = all.filter(|_| marks.id != 0) else { return Ok(Lineage::Copy) };
    let is_same_file = |record: &Record| record.database.matches(database);
    if !is_family(&records, marks.id) || !records.iter().all(is_same_file) {
        return Ok(Lineage::Copy);
    }
    let Some(newest) = records.iter().max_by_key(|record| record.revision) else { return Ok(Lineage::Copy) };
    if newest.revision > marks.revision {
        return Ok(Lineage::Behind(newest.revision));
    }
    let chain = chain_at(newest.revision)?;
    Ok(if chain.is_some_and(|chain| chain != newest.chain) { Lineage::Copy } else { Lineage::Same })
}

/// Returns whether all sessions with a file descend from each other, one of them being that which the database names.
/// While one session replaces another, both have a file, and the database names either one. Each start that is cut off
/// adds another.
fn is_family(records: &[Record], id: u64) -> bool {
    let mut known = BTreeSet::from([id]);
    loop {
        let before = known.len();
        for record in records {
            let relatives = [Some(record.id), Some(record.previous).filter(|previous| *previous != 0)];
            if relatives.iter().flatten().any(|relative| known.contains(relative)) {
                known.extend(relatives.iter().flatten());
            }
        }
        if known.len() == before {
            return records.iter().all(|record| known.contains(&record.id));
        }
    }
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
pub(super) fn check_log(dir: &Path) -> Result<bool, OpenError> {
    let (path, log) = (dir.join(DATABASE), dir.join(format!("{DATABASE}-wal")));
    if fs::metadata(&log).map_or(0, |meta| meta.len()) == 0 {
        return Ok(false);
    }
    if journal(&path).is_some_and(|journal| journal != WAL) {
        return Err(OpenError::ForeignLog(log));
    }
    // A database that cannot be read is damaged, or was never created: opening it reports that.
    let Ok(alone) = Marks::without_log(&path) else { return Ok(true) };
    let is_own = Marks::with_log(&path).is_ok_and(|both| {
        (both.id == alone.id || both.previous == alone.id) && both.revision >= alone.revision
    });
    if is_own { Ok(true) } else { Err(OpenError::ForeignLog(log)) }
}

/// Sets whether a connection leaves the write-ahead log in place when it is the last one to close. Otherwise it moves
/// the log into the database and removes it.
pub(super) fn set_log_retained(connection: &Connection, retain: bool) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, retain).map(drop)
}

/// The journal mode of a write-ahead log, in a database's header.
const WAL: u8 = 2;

/// Returns the journal mode in the header of a database, or `None` if the file is not a database. A file that a store
/// has opened has [`WAL`]; a backup does not.
fn journal(path: &Path) -> Option<u8> {
    let mut header = [0; 20];
    File::open(path).ok()?.read_exact(&mut header).ok()?;
    header.starts_with(b"SQLite format 3\0").then_some(header[18])
}

/// Returns whether a file is the database of a store, not a backup of one.
pub(crate) fn is_database(path: &Path) -> bool {
    journal(path) == Some(WAL)
}

/// Returns whether a file is a backup: a database that no store has opened.
pub(crate) fn is_backup(path: &Path) -> bool {
    journal(path).is_some_and(|journal| journal != WAL)
}

/// Returns whether a directory is that of a store.
pub(crate) fn is_store(dir: &Path) -> bool {
    dir.join(LOCK).exists()
        || is_database(&dir.join(DATABASE))
        || session_files(dir).is_ok_and(|files| !files.is_empty())
}

/// Marks a database as a copy.
pub(super) fn mark_copy(path: &Path) -> rusqlite::Result<()> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.execute("UPDATE head SET session = 0, previous_session = 0", [])?;
    Ok(())
}

impl Marks {
    fn read(connection: &Connection) -> rusqlite::Result<Marks> {
        let sql = "SELECT session, previous_session, revision FROM head";
        connection.query_row(sql, [], |row| {
            let number = |index| row.get::<_, i64>(index).map(|number| number as u64);
            Ok(Marks { id: number(0)?, previous: number(1)?, revision: row.get(2)? })
        })
    }

    /// Reads the marks in the file of the database alone.
    fn without_log(path: &Path) -> rusqlite::Result<Marks> {
        let mut uri = "file:".to_owned();
        for byte in path.as_os_str().as_encoded_bytes() {
            match byte {
                b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => {
                    uri.push(*byte as char)
                }
                other => uri += &format!("%{other:02x}"),
            }
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
        Marks::read(&Connection::open_with_flags(uri + "?immutable=1", flags)?)
    }

    /// Reads the marks in the write-ahead log.
    fn with_log(path: &Path) -> rusqlite::Result<Marks> {
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        set_log_retained(&connection, true)?;
        Marks::read(&connection)
    }
}

impl FileId {
    fn of(path: &Path) -> io::Result<FileId> {
        let meta = fs::metadata(path)?;
        let birth_time =
            meta.created().ok().and_then(|birth_time| birth_time.duration_since(UNIX_EPOCH).ok());
        let birth_time =
            birth_time.and_then(|birth_time| u64::try_from(birth_time.as_nanos()).ok()).unwrap_or(0);
        Ok(FileId { inode: meta.ino(), birth_time })
    }

    fn matches(self, other: FileId) -> bool {
        let has_same_birth =
            self.birth_time == other.birth_time || self.birth_time == 0 || other.birth_time == 0;
        self.inode == other.inode && has_same_birth
    }
}

impl Record {
    fn encode(&self) -> [u8; SIZE] {
        let Record { id, previous, database: FileId { inode, birth_time }, revision, chain } = self;
        let numbers = [*id, *previous, *inode, *birth_time, *revision as u64].map(u64::to_le_bytes);
        let mut bytes = [&MAGIC[..], numbers.as_flattened(), chain].concat();
        bytes.extend(xxh3_64(&bytes).to_le_bytes());
        bytes.try_into().expect("the parts have a fixed size")
    }

    fn decode(bytes: &[u8; SIZE]) -> Option<Record> {
        let (sealed, sum) = bytes.split_last_chunk::<8>()?;
        let (numbers, chain) = sealed.split_last_chunk::<32>()?;
        let number = |index: usize| u64::from_le_bytes(std::array::from_fn(|byte| numbers[8 * index + byte]));
        let is_valid = xxh3_64(sealed).to_le_bytes() == *sum && numbers.starts_with(&MAGIC);
        is_valid.then(|| Record {
            id: number(1),
            previous: number(2),
            database: FileId { inode: number(3), birth_time: number(4) },
            revision: number(5) as Revision,
            chain: *chain,
        })
    }

    /// Returns `None` if the file is damaged or was renamed.
    fn read(path: &Path) -> Option<Record> {
        let record = Record::decode(&fs::read(path).ok()?.try_into().ok()?)?;
        path.ends_with(record.file_name()).then_some(record)
    }

    fn file_name(&self) -> String {
        format!("{PREFIX}{:016x}", self.id)
    }
}

fn session_files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes()) {
            files.push(entry.path());
        }
    }
    Ok(files)
}

fn sync_directory(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use super::*;
    use crate::store::{
        self, ReadOnlyStore, Store, Writer,
        fixture::{apply, article, faults, open},
    };

    /// The log id of the stores that the fixture creates.
    const ORIGINAL: LogId = LogId(7);

    type Files = BTreeMap<String, Vec<u8>>;

    fn write(writer: &mut Writer, n: i64) {
        apply(writer, &[article(&format!("a{n}"), "Storm", &["t"], n)]);
    }

    fn options(dir: &Path) -> store::Options {
        store::Options { dir: dir.to_owned(), readers: 1, reserve_bytes: 0, health: Arc::default() }
    }

    /// Closes a store. The last of its connections, that of a reader thread, removes the write-ahead log.
    fn close(dir: &Path, (store, writer): (Arc<Store>, Writer)) -> Head {
        let head = store.head().as_ref().clone();
        drop((store, writer));
        while dir.join("cable.db-wal").exists() {
            std::thread::yield_now();
        }
        head
    }

    /// Opens a store, writes to it and closes it.
    fn run(dir: &Path, n: i64) -> Head {
        let (store, mut writer) = open(dir);
        write(&mut writer, n);
        close(dir, (store, writer))
    }

    fn opened(dir: &Path) -> Head {
        close(dir, Store::open(options(dir), LogId::random()).unwrap())
    }

    fn open_error(dir: &Path) -> OpenError {
        Store::open(options(dir), ORIGINAL).expect_err("opening the store fails")
    }

    /// Returns the files of a directory as a copy takes them.
    fn files(dir: &Path) -> Files {
        let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
        let names = fs::read_dir(dir).unwrap().map(|entry| name(entry.unwrap()));
        let names = names.filter(|name| name != LOCK && !name.ends_with("-shm"));
        names.map(|name| (name.clone(), fs::read(dir.join(name)).unwrap())).collect()
    }

    /// Writes files over existing ones, as `cp` does.
    fn put(dir: &Path, files: &Files) {
        fs::create_dir_all(dir).unwrap();
        files.iter().for_each(|(name, bytes)| fs::write(dir.join(name), bytes).unwrap());
    }

    /// Leaves a store as SIGKILL does, with its last commits in the write-ahead log.
    fn killed(dir: &Path, commits: std::ops::Range<i64>) -> Files {
        let (store, mut writer) = open(dir);
        commits.for_each(|n| write(&mut writer, n));
        let files = files(dir);
        close(dir, (store, writer));
        put(dir, &files);
        files
    }

    fn backup(dir: &Path, to: &Path) {
        ReadOnlyStore::open(dir).unwrap().copy_to(to).unwrap();
    }

    fn session_file(dir: &Path) -> PathBuf {
        let files = session_files(dir).unwrap();
        assert_eq!(files.len(), 1, "{files:?}");
        files[0].clone()
    }

    #[test]
    fn a_restart_a_kill_and_a_move_continue_the_history() {
        let temp = tempfile::tempdir().unwrap();
        let (dir, moved) = (temp.path().join("store"), temp.path().join("moved"));
        run(&dir, 1);
        assert_eq!((opened(&dir).log_id, opened(&dir).revision), (ORIGINAL, 1));
        let files = killed(&dir, 2..4);
        assert!(files.contains_key("cable.db-wal"), "{:?}", files.keys());
        let head = opened(&dir);
        assert_eq!((head.log_id, head.revision), (ORIGINAL, 3));
        fs::rename(&dir, &moved).unwrap();
        assert_eq!(opened(&moved), head);
        // A power cut can remove the newest head from the session file.
        let path = session_file(&moved);
        let record = Record::read(&path).unwrap();
        fs::write(&path, Record { revision: 1, chain: chain_of(&moved, 1), ..record }.encode()).unwrap();
        assert_eq!(opened(&moved), head);
    }

    fn chain_of(dir: &Path, revision: Revision) -> Hash {
        ReadOnlyStore::open(dir)
            .unwrap()
            .read(|snapshot| Ok(chain_at(snapshot.connection, revision)?))
            .unwrap()
            .unwrap()
    }

    /// A way to copy the store in the first directory, which was stopped at revision 2, to the second one.
    type Copying = (&'static str, fn(&Path, &Path));

    const COPIES: &[Copying] = &[
        ("a backup", |from, to| backup(from, &to.join(DATABASE))),
        ("the database alone", |from, to| fs::write(to.join(DATABASE), &files(from)[DATABASE]).unwrap()),
        ("the directory", |from, to| put(to, &files(from))),
        ("the directory of a killed store", |from, to| put(to, &killed(from, 0..0))),
        ("the directory of a running store", |from, to| {
            let (_store, _writer) = open(from);
            put(to, &files(from));
        }),
        ("the directory, file by file", |from, to| {
            let beside = from.with_extension("beside");
            put(&beside, &files(from));
            files(&beside).keys().for_each(|name| fs::rename(beside.join(name), to.join(name)).unwrap());
        }),
        ("the directory without the session file", |from, to| {
            fs::remove_file(session_file(from)).unwrap();
            put(to, &files(from));
        }),
    ];

    #[test]
    fn every_copy_is_another_history() {
        for (name, copy) in COPIES {
            let temp = tempfile::tempdir().unwrap();
            let (from, to) = (temp.path().join("from"), temp.path().join("to"));
            run(&from, 1);
            let original = run(&from, 2);
            fs::create_dir(&to).unwrap();
            copy(&from, &to);
            let head = opened(&to);
            assert_ne!(head.log_id, ORIGINAL, "{name}");
            assert_eq!(Head { log_id: ORIGINAL, ..head.clone() }, original, "{name}");
            assert_eq!(opened(&to), head, "{name}: the copy keeps its log id");
            assert_eq!(faults(&to), Vec::<String>::new(), "{name}");
        }
    }

    /// A way to restore an older state. The files are those at revision 2, when the store was stopped. It was then
    /// continued to revision 4, and stopped.
    type Restoring = (&'static str, fn(&Path, &Files));

    const RESTORES: &[Restoring] = &[
        ("the database, written over", |dir, old| fs::write(dir.join(DATABASE), &old[DATABASE]).unwrap()),
        ("the database, moved into the directory", |dir, old| {
            fs::write(dir.join("x"), &old[DATABASE]).unwrap();
            fs::rename(dir.join("x"), dir.join(DATABASE)).unwrap();
        }),
        ("all files, written over", |dir, old| put(dir, old)),
        ("the directory, replaced", |dir, old| {
            fs::remove_dir_all(dir).unwrap();
            put(dir, old);
        }),
        ("a backup, written over", |dir, old| {
            let beside = dir.with_extension("beside");
            put(&beside, old);
            backup(&beside, &dir.join("x"));
            fs::write(dir.join(DATABASE), fs::read(dir.join("x")).unwrap()).unwrap();
        }),
        ("a copy that was continued elsewhere", |dir, old| {
            let beside = dir.with_extension("beside");
            put(&beside, old);
            for n in 10..20 {
                run(&beside, n);
            }
            put(dir, &files(&beside));
        }),
    ];

    #[test]
    fn a_restored_older_state_is_another_history() {
        for (name, restore) in RESTORES {
            let temp = tempfile::tempdir().unwrap();
            let dir = temp.path().join("store");
            run(&dir, 1);
            run(&dir, 2);
            let old = files(&dir);
            run(&dir, 3);
            run(&dir, 4);
            restore(&dir, &old);
            let head = opened(&dir);
            assert_ne!(head.log_id, ORIGINAL, "{name}");
            assert_ne!(head.revision, 4, "{name}");
            assert_eq!(opened(&dir), head, "{name}");
            assert_eq!(session_files(&dir).unwrap().len(), 1, "{name}");
        }
    }

    #[test]
    fn a_damaged_session_file_makes_a_copy() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("store");
        let mut log_id = run(&dir, 1).log_id;
        for damage in [
            (|file: &Path| fs::write(file, b"").unwrap()) as fn(&Path),
            |file| fs::write(file, &fs::read(file).unwrap()[..SIZE - 1]).unwrap(),
            |file| {
                let mut bytes = fs::read(file).unwrap();
                bytes[20] ^= 1;
                fs::write(file, bytes).unwrap();
            },
            |file| fs::rename(file, file.with_file_name("cable.session-0000000000000001")).unwrap(),
        ] {
            damage(&session_file(&dir));
            assert_ne!(std::mem::replace(&mut log_id, opened(&dir).log_id), log_id);
        }
    }

    #[test]
    fn a_crash_at_the_start_of_a_session_continues_the_history() {
        for steps in 1..=3 {
            let temp = tempfile::tempdir().unwrap();
            let dir = temp.path().join("store");
            let head = run(&dir, 1);
            let old = session_file(&dir);
            let previous = Record::read(&old).unwrap();
            let session =
                Session::create(&dir, Record { id: 99, previous: previous.id, ..previous }).unwrap();
            if steps > 1 {
                let mut connection = Connection::open(dir.join(DATABASE)).unwrap();
                name_session(&mut connection, ORIGINAL, (99, previous.id)).unwrap();
            }
            if steps > 2 {
                fs::remove_file(old).unwrap();
            }
            drop(session);
            assert_eq!(opened(&dir), head, "after {steps} steps");
            session_file(&dir);
        }
    }

    /// Each start either names its session in the database or does not get that far.
    #[test]
    fn starts_that_are_cut_off_in_a_row_continue_the_history() {
        for naming in 0..1_u64 << 4 {
            let temp = tempfile::tempdir().unwrap();
            let dir = temp.path().join("store");
            let head = run(&dir, 1);
            let first = Record::read(&session_file(&dir)).unwrap();
            let mut named = first.id;
            for start in 0..4 {
                let id = 100 + start;
                let session = Session::create(&dir, Record { id, previous: named, ..first }).unwrap();
                if naming >> start & 1 == 1 {
                    let mut connection = Connection::open(dir.join(DATABASE)).unwrap();
                    name_session(&mut connection, ORIGINAL, (id, named)).unwrap();
                    named = id;
                }
                drop(session);
            }
            assert_eq!(opened(&dir), head, "{naming:b}");
            session_file(&dir);
        }
    }

    #[test]
    fn a_backup_of_a_lost_original_can_continue_its_history() {
        let temp = tempfile::tempdir().unwrap();
        let (from, to) = (temp.path().join("from"), temp.path().join("to"));
        let original = run(&from, 1);
        fs::create_dir(&to).unwrap();
        backup(&from, &to.join(DATABASE));
        let restored = Store::open_as(options(&to), LogId(9), Identity::Original).unwrap();
        assert_eq!(close(&to, restored), original);
        assert_eq!(opened(&to), original);
    }

    #[test]
    fn a_database_without_acknowledged_commits_is_refused() {
        let ways: [fn(&Path, &Files); 4] = [
            |dir, _| fs::remove_file(dir.join("cable.db-wal")).unwrap(),
            |dir, _| fs::write(dir.join("cable.db-wal"), b"").unwrap(),
            |dir, files| fs::write(dir.join("cable.db-wal"), &files["cable.db-wal"][..20_000]).unwrap(),
            |dir, _| {
                fs::remove_file(dir.join("cable.db-wal")).unwrap();
                fs::remove_file(dir.join(DATABASE)).unwrap();
            },
        ];
        for (index, lose) in ways.into_iter().enumerate() {
            let temp = tempfile::tempdir().unwrap();
            let dir = temp.path().join("store");
            run(&dir, 1);
            let complete = killed(&dir, 2..6);
            lose(&dir, &complete);
            let filled = || files(&dir).into_iter().filter(|(_, bytes)| !bytes.is_empty()).collect::<Files>();
            let before = filled();
            let error = open_error(&dir);
            drop(ReadOnlyStore::open(&dir));
            assert!(filled() == before, "{index}: nothing was changed");
            // A truncated log is rejected before it is opened.
            let is_cut = matches!(error, OpenError::DamagedLog { .. });
            assert!(is_cut || matches!(error, OpenError::Behind { acknowledged: 5, .. }), "{index}: {error}");
            if is_cut {
                fs::remove_file(dir.join("cable.db-wal")).unwrap();
            }
            assert!(error.to_string().contains("cable restore"), "{error}");
            fs::remove_file(session_file(&dir)).unwrap();
            assert_ne!(opened(&dir).log_id, ORIGINAL, "{index}: the remedy");
        }
    }

    /// Stores with a write-ahead log of another database.
    fn replaced(temp: &Path) -> Vec<(&'static str, PathBuf)> {
        let mut stores = Vec::new();
        let mut store = |name: &'static str| -> PathBuf {
            let dir = temp.join(name.replace(' ', "-"));
            stores.push((name, dir.clone()));
            dir
        };
        let dir = store("a backup");
        run(&dir, 1);
        backup(&dir, &temp.join("copy"));
        killed(&dir, 2..6);
        fs::copy(temp.join("copy"), dir.join(DATABASE)).unwrap();

        let dir = store("the database of an earlier session");
        run(&dir, 1);
        fs::copy(dir.join(DATABASE), temp.join("raw")).unwrap();
        killed(&dir, 2..6);
        fs::copy(temp.join("raw"), dir.join(DATABASE)).unwrap();

        let dir = store("the database of another store");
        killed(&dir, 1..6);
        run(&temp.join("other"), 1);
        fs::copy(temp.join("other").join(DATABASE), dir.join(DATABASE)).unwrap();

        let dir = store("a log of another store cut short");
        run(&dir, 1);
        let log = killed(&temp.join("third"), 1..9)["cable.db-wal"].clone();
        fs::write(dir.join("cable.db-wal"), &log[..log.len() * 2 / 3]).unwrap();

        let dir = store("a log of an earlier session");
        let log = killed(&dir, 1..6)["cable.db-wal"].clone();
        run(&dir, 6);
        fs::write(dir.join("cable.db-wal"), log).unwrap();
        stores
    }

    #[test]
    fn a_write_ahead_log_of_another_database_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        for (name, dir) in replaced(temp.path()) {
            let before = files(&dir);
            for _ in 0..2 {
                let error = open_error(&dir);
                assert!(matches!(error, OpenError::ForeignLog(_)), "{name}: {error}");
                assert!(error.to_string().contains("cable.db-wal"), "{name}: {error}");
                let read = ReadOnlyStore::open(&dir).err();
                assert!(matches!(read, Some(OpenError::ForeignLog(_))), "{name}: {read:?}");
            }
            assert!(files(&dir) == before, "{name}: nothing was changed");
            fs::remove_file(dir.join("cable.db-wal")).unwrap();
            let _none_of_a_new_store = fs::remove_file(dir.join("cable.db-shm"));
            if !name.starts_with("a log") {
                assert_ne!(opened(&dir).log_id, ORIGINAL, "{name}: the remedy");
                assert_eq!(faults(&dir), Vec::<String>::new(), "{name}");
            }
        }
    }
}
