//! The cost of the engine alone to write a store's content: the rows of its articles (the sealed entries, the lists,
//! the paths, the chain), in the same order, into the same tables with the same settings, with 1,000 articles in each
//! synchronous transaction. No protocol, no checks, no hashes, no compression.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use rusqlite::{Connection, OpenFlags, params, params_from_iter, types::Value};

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
    id: String,
    time: i64,
    /// The numbers of its lists.
    terms: Vec<i64>,
    paths: Vec<(String, i64, i64)>,
    chain: Vec<u8>,
    /// All columns of its row of `doc`.
    columns: Vec<Value>,
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
    let sql = "SELECT doc.*, chain.chain FROM doc JOIN chain USING(revision)
               WHERE revision > ?1 AND kind = 1 AND slot = 1 AND live = 1 ORDER BY revision LIMIT ?2";
    let mut statement = from.prepare_cached(sql)?;
    let chain = statement.column_count() - 1;
    let rows = statement.query_map(params![after, BATCH as i64], |row| {
        let id: String = row.get("id")?;
        let terms: Vec<u8> = row.get("terms")?;
        Ok(Article {
            revision: row.get("revision")?,
            paths: paths(from, &id)?,
            id,
            time: row.get("time")?,
            terms: terms.as_chunks().0.iter().map(|term| i64::from_le_bytes(*term)).collect(),
            chain: row.get(chain)?,
            columns: (0..chain).map(|column| row.get(column)).collect::<rusqlite::Result<_>>()?,
        })
    })?;
    rows.collect()
}

fn paths(from: &Connection, id: &str) -> rusqlite::Result<Vec<(String, i64, i64)>> {
    let mut statement = from.prepare_cached("SELECT path, rank, place FROM path WHERE id = ?1")?;
    statement.query_map([id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect()
}

fn insert(to: &mut Connection, batch: &[Article]) -> rusqlite::Result<()> {
    let columns = batch.first().map_or(0, |article| article.columns.len());
    let transaction = to.transaction()?;
    {
        let sql = format!("INSERT INTO doc VALUES({})", vec!["?"; columns].join(", "));
        let mut doc = transaction.prepare_cached(&sql)?;
        let mut listing = transaction.prepare_cached("INSERT INTO listing VALUES(?1,?2,?3)")?;
        let mut path = transaction.prepare_cached("INSERT INTO path VALUES(?1,?2,?3,?4,?5)")?;
        let mut chain = transaction.prepare_cached("INSERT INTO chain VALUES(?1,?2,?3)")?;
        for article in batch {
            for term in &article.terms {
                listing.execute(params![term, article.time, article.id])?;
            }
            for (value, rank, place) in &article.paths {
                path.execute(params![value, article.id, rank, place, article.revision])?;
            }
            doc.execute(params_from_iter(&article.columns))?;
            chain.execute(params![article.revision, article.chain, article.time])?;
        }
    }
    transaction.commit()
}
