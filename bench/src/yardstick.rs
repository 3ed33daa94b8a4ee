//! The cost of the engine alone to write a store's content: the rows of its articles (the sealed entries, the lists,
//! the paths, the chain), in the same order, into the same tables with the same settings, with 1,000 articles in each
//! synchronous transaction. No protocol, no checks, no hashes, no compression.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use rusqlite::{Connection, OpenFlags, params};

use crate::{Outcome, process::own_cpu};

const BATCH: usize = 1_000;

/// The settings of the store's writer.
const WRITER_PRAGMAS: &str = "
PRAGMA page_size=8192;
PRAGMA secure_delete=ON;
PRAGMA journal_mode=WAL;
PRAGMA synchronous=FULL;
PRAGMA wal_autocheckpoint=1000;
PRAGMA mmap_size=0;
PRAGMA cell_size_check=ON;
PRAGMA cache_size=-65536;
";

/// The rows of one article.
struct Article {
    revision: i64,
    kind: i64,
    slot: i64,
    id: String,
    live: i64,
    reason: i64,
    due: Option<i64>,
    time: i64,
    terms: Vec<u8>,
    hash: Vec<u8>,
    content_hash: Vec<u8>,
    departures: Vec<u8>,
    sum: i64,
    entry: Vec<u8>,
    paths: Vec<(String, i64, i64)>,
    chain: Vec<u8>,
}

/// Copies the articles of a store that no process has open. Returns the time spent writing, and the processor time.
///
/// # Errors
/// Fails if the store cannot be read or the copy cannot be written.
pub(crate) fn write(store: &Path, copy: &Path) -> Outcome<(Duration, Duration)> {
    let from = Connection::open_with_flags(store, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let mut to = Connection::open(copy)?;
    to.execute_batch(WRITER_PRAGMAS)?;
    for table in tables(&from)? {
        to.execute_batch(&table)?;
    }
    let (mut elapsed, mut cpu) = (Duration::ZERO, Duration::ZERO);
    let mut after = 0;
    loop {
        let batch = read(&from, after)?;
        let Some(last) = batch.last() else { return Ok((elapsed, cpu)) };
        after = last.revision;
        let (start, before) = (Instant::now(), own_cpu()?);
        insert(&mut to, &batch)?;
        elapsed += start.elapsed();
        cpu += own_cpu()?.saturating_sub(before);
    }
}

fn tables(from: &Connection) -> rusqlite::Result<Vec<String>> {
    let sql =
        "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' ORDER BY rowid";
    from.prepare(sql)?.query_map([], |row| row.get(0))?.collect()
}

fn read(from: &Connection, after: i64) -> rusqlite::Result<Vec<Article>> {
    let sql = "SELECT revision, kind, slot, id, live, reason, due, d.time, terms, hash, content_hash, departures, sum, entry,
                      c.chain
               FROM doc d JOIN chain c USING(revision)
               WHERE d.revision > ?1 AND d.kind = 1 AND d.live = 1 ORDER BY d.revision LIMIT ?2";
    let mut statement = from.prepare_cached(sql)?;
    let rows = statement.query_map(params![after, BATCH as i64], |row| {
        let id: String = row.get(3)?;
        Ok(Article {
            revision: row.get(0)?,
            kind: row.get(1)?,
            slot: row.get(2)?,
            paths: paths(from, &id)?,
            id,
            live: row.get(4)?,
            reason: row.get(5)?,
            due: row.get(6)?,
            time: row.get(7)?,
            terms: row.get(8)?,
            hash: row.get(9)?,
            content_hash: row.get(10)?,
            departures: row.get(11)?,
            sum: row.get(12)?,
            entry: row.get(13)?,
            chain: row.get(14)?,
        })
    })?;
    rows.collect()
}

fn paths(from: &Connection, id: &str) -> rusqlite::Result<Vec<(String, i64, i64)>> {
    let mut statement = from.prepare_cached("SELECT path, rank, place FROM path WHERE id = ?1")?;
    statement.query_map([id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect()
}

fn insert(to: &mut Connection, batch: &[Article]) -> rusqlite::Result<()> {
    let transaction = to.transaction()?;
    {
        let mut doc = transaction.prepare_cached(
            "INSERT INTO doc(revision, kind, slot, id, live, reason, due, time, terms, hash, content_hash,
                                 departures, sum, entry, held)
                 VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,0)",
        )?;
        let mut listing = transaction.prepare_cached("INSERT INTO listing VALUES(?1,?2,?3)")?;
        let mut path = transaction.prepare_cached("INSERT INTO path VALUES(?1,?2,?3,?4,?5)")?;
        let mut chain = transaction.prepare_cached("INSERT INTO chain VALUES(?1,?2,?3)")?;
        for a in batch {
            for term in a.terms.chunks_exact(4).filter_map(|term| term.try_into().ok()) {
                listing.execute(params![u32::from_le_bytes(term), a.time, a.id])?;
            }
            for (value, rank, place) in &a.paths {
                path.execute(params![value, a.id, rank, place, a.revision])?;
            }
            doc.execute(params![
                a.revision,
                a.kind,
                a.slot,
                a.id,
                a.live,
                a.reason,
                a.due,
                a.time,
                a.terms,
                a.hash,
                a.content_hash,
                a.departures,
                a.sum,
                a.entry
            ])?;
            chain.execute(params![a.revision, a.chain, a.time])?;
        }
    }
    transaction.commit()
}
