//! Every table, column and setting of the store, with its reason. The engine is SQLite.

use std::{ffi::c_int, sync::Arc, time::Duration};

use rusqlite::{Connection, config::DbConfig, hooks::Wal};

use super::Error;
use crate::health::Health;

/// "Cabl": identifies the file as a store of this program.
const APPLICATION_ID: i64 = 0x4361_626c;

/// The version of the tables. Any other is rejected: no earlier one was in a release.
pub(super) const VERSION: i64 = 6;

const TABLES: &str = "
-- The newest entry of each key, clustered by revision: the local log and the index of changes at once.
CREATE TABLE doc(
  revision INTEGER PRIMARY KEY,
  kind INTEGER NOT NULL,        -- as in cable.log.v1.Kind
  slot INTEGER NOT NULL,        -- as in cable.log.v1.Slot
  id TEXT NOT NULL,
  live INTEGER NOT NULL,        -- 1: content; 0: tombstone
  reason INTEGER NOT NULL,      -- of a tombstone, as in cable.v1.RemovalReason; else 0
  due INTEGER,                  -- due time, microseconds since 1970 UTC; NULL: never
  time INTEGER NOT NULL,        -- sort key in lists, microseconds since 1970 UTC
  terms BLOB NOT NULL,          -- term numbers, 8 bytes each, little-endian, ascending: its listing rows
  hash BLOB NOT NULL,           -- sha256 of the uncompressed entry
  content_hash BLOB,            -- summed by the content digest; NULL for a tombstone or a pending version
  departures BLOB NOT NULL,     -- term number and revision, 8 bytes each, little-endian, ascending: its departure rows
  base INTEGER,                 -- pending: the live revision it was based on, 0 for none or an import's, NULL: held;
                                -- live: 0 if an import wrote it; tombstone: the revision that expired
  wanted TEXT,                  -- of a pending version: its own path, in its normal form
  page BLOB,                    -- of a live article with a path: its page as sitemaps show it, see entry/page.rs
  sum INTEGER NOT NULL,         -- checksum of the columns above, see row.rs
  held INTEGER NOT NULL,        -- 1: `base` is not the live version: not published when due
  entry BLOB NOT NULL           -- envelope with a checksum of its own, see envelope.rs
) STRICT;

-- Two indexes of names, which must agree: a damaged page of one must not make a name look free.
CREATE UNIQUE INDEX doc_key ON doc(kind, slot, id);
CREATE UNIQUE INDEX doc_id ON doc(id, kind, slot);

-- Changes by due time: pending versions that become visible, live articles that expire.
CREATE INDEX due ON doc(due, kind, slot, id) WHERE due IS NOT NULL AND held = 0;

-- Pending versions that are held for an editor's decision.
CREATE INDEX held ON doc(id) WHERE held = 1;

-- Pending versions in the order of their due times.
CREATE INDEX pending ON doc(due, id) WHERE slot = 2 AND live = 1;

-- Lists that contain an article or that one has left; a row without either is deleted. `articles` also lets a query
-- start from the shortest.
CREATE TABLE term(
  n INTEGER PRIMARY KEY,        -- from 1
  kind INTEGER NOT NULL,        -- 0 all, 1 tag, 2 section, 3 author, 4 type, 5 language
  value TEXT NOT NULL,
  articles INTEGER NOT NULL DEFAULT 0,   -- rows of `listing`
  departures INTEGER NOT NULL DEFAULT 0, -- rows of `departure`
  UNIQUE(kind, value)
) STRICT;

-- Newest first within a term: read backwards.
CREATE TABLE listing(
  term INTEGER NOT NULL, time INTEGER NOT NULL, id TEXT NOT NULL,
  PRIMARY KEY(term, time, id)
) STRICT, WITHOUT ROWID;

-- Departures of articles from lists, as their newest entries record them. A feed that catches up reads them beside
-- `doc`, where the entry of a departure is replaced when the article changes again. Term 0 is the article's own floor:
-- the departures at and below this revision are unknown, so it may have left any list.
CREATE TABLE departure(
  revision INTEGER NOT NULL, term INTEGER NOT NULL, id TEXT NOT NULL,
  PRIMARY KEY(revision, term, id)
) STRICT, WITHOUT ROWID;

-- Claims on paths, in their normal form. A path leads to the claimant of the highest rank, the largest `place` in it,
-- and the first id.
CREATE TABLE path(
  path TEXT NOT NULL, id TEXT NOT NULL,
  rank INTEGER NOT NULL,        -- 0 of a removed article, 1 former, 2 alias, 3 own
  place INTEGER NOT NULL,       -- order in a rank; 0 and 1: end of the claim; 2: 0; 3: the revision
  revision INTEGER NOT NULL,    -- of the entry
  PRIMARY KEY(path, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX path_id ON path(id);

-- Requests of the last 24 hours, at most those of the last million changes, with their outcome.
CREATE TABLE request(
  n INTEGER PRIMARY KEY,        -- number of changes in all requests up to this one
  id TEXT NOT NULL UNIQUE,
  hash BLOB NOT NULL,           -- identity of the request
  made BLOB NOT NULL,           -- outcome of each change, see request.rs
  time INTEGER NOT NULL         -- microseconds since 1970 UTC
) STRICT;
CREATE INDEX request_time ON request(time);

-- Proof of lineage: every position above the floor, and the last million.
CREATE TABLE chain(
  revision INTEGER PRIMARY KEY,
  chain BLOB NOT NULL,
  time INTEGER NOT NULL         -- the entry's, microseconds since 1970 UTC: how old a revision is
) STRICT;

-- Positions that consumers of feeds have acknowledged. They are beside the log: nothing in it, or derived from it,
-- depends on them. The chain proves a position, so damage of a row shows as a position of another history.
CREATE TABLE consumer(
  owner TEXT NOT NULL,          -- name of the credential, empty for callers without one
  id TEXT NOT NULL,
  log_id INTEGER NOT NULL,
  revision INTEGER NOT NULL,
  chain BLOB NOT NULL,
  created INTEGER NOT NULL,     -- microseconds since 1970 UTC
  acknowledged INTEGER NOT NULL, -- the same; at most an hour behind the last acknowledgement
  PRIMARY KEY(owner, id)
) STRICT, WITHOUT ROWID;

-- The head of the store; moves in the transaction of each entry.
CREATE TABLE head(
  one INTEGER PRIMARY KEY CHECK(one = 1),
  log_id INTEGER NOT NULL,
  session INTEGER NOT NULL,          -- of the store's last opening, see session.rs; 0: a backup
  previous_session INTEGER NOT NULL, -- while the file without its write-ahead log may name it; else 0
  revision INTEGER NOT NULL,
  chain BLOB NOT NULL,
  floor INTEGER NOT NULL,       -- departures are known from here on
  log_digest BLOB NOT NULL,
  content_digest BLOB NOT NULL,
  articles INTEGER NOT NULL, authors INTEGER NOT NULL, sections INTEGER NOT NULL,
  tags INTEGER NOT NULL, collections INTEGER NOT NULL   -- live ones
) STRICT;
";

/// The settings of the database. Pages of 8 KB hold two compressed articles. mmap is off because a truncated file would
/// cause a signal, not an error.
const SETTINGS: &str = "
PRAGMA page_size=8192;
PRAGMA secure_delete=ON;        -- killed content must not remain in free pages
PRAGMA journal_mode=WAL;
PRAGMA synchronous=FULL;        -- an acknowledged write is on disk
PRAGMA mmap_size=0;
PRAGMA max_page_count=33554431; -- 256 GiB: a page of a long row begins with the next one's number, a node with 2 to 13
PRAGMA cell_size_check=ON;
PRAGMA trusted_schema=OFF;
";

/// The number of pages in the write-ahead log at which the writer moves it into the database, inline. The log stays
/// near 8 MB.
const CHECKPOINT_PAGES: c_int = 1_000;

/// The cache of the writer and of each reader, in KiB, which SQLite expects as a negative number.
const WRITER_CACHE: &str = "PRAGMA cache_size=-65536;";
const READER_CACHE: &str = "PRAGMA cache_size=-8192; PRAGMA query_only=ON;";

/// The time for which one connection waits for the lock of another.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The purpose of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Writer,
    Reader,
}

/// Configures a connection.
pub(super) fn configure(connection: &Connection, role: Role) -> rusqlite::Result<()> {
    match role {
        Role::Writer => {
            connection.execute_batch(SETTINGS)?;
            connection.execute_batch(WRITER_CACHE)?;
        }
        Role::Reader => connection.execute_batch(READER_CACHE)?,
    }
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}

/// Makes the writer's commits move the log into the database from time to time. SQLite's own automatic checkpoint would
/// not report a sync that fails.
pub(super) fn checkpoint_inline(connection: &mut Connection, health: Arc<Health>) -> rusqlite::Result<()> {
    connection.wal_hook(Some(move |wal: &mut Wal, pages| {
        // If readers are in the way, the next commit continues.
        if pages >= CHECKPOINT_PAGES
            && let Err(error) = wal.checkpoint().map_err(Error::from)
        {
            error.report(&health);
        }
        Ok(())
    }))
}

/// Sets whether a connection leaves the write-ahead log in place when it is the last one to close. Otherwise it moves
/// the log into the database and removes it.
pub(super) fn set_log_retained(connection: &Connection, retain: bool) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, retain).map(drop)
}

/// Returns the version of the tables: 0 for an empty file, `None` for a file of another program.
pub(super) fn version(connection: &Connection) -> rusqlite::Result<Option<i64>> {
    let pragma = |name| connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0));
    let (application, version) = (pragma("application_id")?, pragma("user_version")?);
    let empty =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))? == 0;
    Ok((application == APPLICATION_ID || empty).then_some(version))
}

/// Creates the tables in an empty file.
pub(super) fn create(connection: &Connection, log_id: u32) -> rusqlite::Result<()> {
    let zero = [0u8; 32];
    let transaction = connection.unchecked_transaction()?;
    transaction.execute_batch(TABLES)?;
    transaction.execute(
        "INSERT INTO head VALUES(1, ?1, 0, 0, 0, ?2, 0, ?2, ?2, 0, 0, 0, 0, 0)",
        rusqlite::params![log_id, zero],
    )?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()
}
