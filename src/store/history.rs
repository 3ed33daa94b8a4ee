//! What has happened since a revision, as far as the newest entries tell: what feeds follow.

use std::collections::HashSet;

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{
    Error, Record,
    apply::unpack_terms,
    read::{self, LIVE_SLOT, row_name},
};
use crate::{
    digest::Hash,
    entry::Term,
    model::{Kind, Revision, Slot},
};

/// What of the history is wanted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    /// Entries of articles that stand in one of these lists, or have left one. Empty: every article.
    pub(crate) terms: Vec<Term>,
    /// Entries of these kinds.
    pub(crate) kinds: Vec<Kind>,
}

/// How much is read at once. A commit is never split: the last one may go over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Rows looked at.
    pub(crate) rows: usize,
    /// Records found.
    pub(crate) records: usize,
    /// Bytes of their content.
    pub(crate) bytes: usize,
}

/// A place in the history.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) revision: Revision,
    /// The chain's link there; none: it is too long ago to be known.
    pub(crate) chain: Option<Hash>,
}

/// What is left of a commit and was wanted of it.
#[derive(Debug)]
pub(crate) struct Commit {
    /// The newest entries of their names, in the order of the log. Damaged ones were reported, and are left out.
    pub(crate) records: Vec<Record>,
    pub(crate) end: Place,
}

/// A stretch of the history.
#[derive(Debug)]
pub(crate) struct Stretch {
    /// In their order; those of which nothing was wanted are left out.
    pub(crate) commits: Vec<Commit>,
    /// Where the stretch ends, at the end of a commit.
    pub(crate) reached: Place,
    /// From here on it is known what left a list.
    pub(crate) floor: Revision,
}

/// The stretch after a revision, within one moment.
pub(crate) fn stretch(
    connection: &Connection,
    after: Revision,
    wanted: &Wanted,
    bounds: Bounds,
) -> Result<Stretch, Error> {
    let moment = connection.unchecked_transaction()?;
    let head = read::head(&moment)?;
    let (records, reached) = scan(&moment, after, wanted, bounds)?;
    let reached = place(&moment, reached.unwrap_or(head.revision))?;
    let mut commits: Vec<Commit> = Vec::new();
    for record in records {
        let end = end_of_commit(&record);
        match commits.last_mut().filter(|commit| commit.end.revision == end) {
            Some(commit) => commit.records.push(record),
            None => commits.push(Commit { records: vec![record], end: place(&moment, end)? }),
        }
    }
    Ok(Stretch { commits, reached, floor: head.floor })
}

/// A place by its revision.
pub(crate) fn place(connection: &Connection, revision: Revision) -> Result<Place, Error> {
    let mut statement = connection.prepare_cached("SELECT chain FROM chain WHERE revision = ?1")?;
    let chain = statement.query_row([revision], |row| row.get(0)).optional()?;
    Ok(Place { revision, chain })
}

/// What was found, and the end of the commit that a bound was reached in.
fn scan(
    moment: &Connection,
    after: Revision,
    wanted: &Wanted,
    bounds: Bounds,
) -> Result<(Vec<Record>, Option<Revision>), Error> {
    let terms = numbers(moment, &wanted.terms)?;
    let sql = "SELECT kind, id, revision, terms, left_terms, entry FROM doc
               WHERE revision > ?1 AND slot = ?2 ORDER BY revision";
    let mut statement = moment.prepare_cached(sql)?;
    let mut rows = statement.query(params![after, LIVE_SLOT])?;
    let (mut records, mut end) = (Vec::new(), None);
    let (mut looked_at, mut bytes) = (0, 0);
    while let Some(row) = rows.next()? {
        let revision: Revision = row.get(2)?;
        if end.is_some_and(|end| revision > end) {
            break;
        }
        looked_at += 1;
        let full = looked_at >= bounds.rows || records.len() >= bounds.records || bytes >= bounds.bytes;
        let is_wanted = is_wanted(row, wanted, &terms)?;
        let record = if is_wanted || full { open(row)? } else { None };
        if full && end.is_none() {
            end = Some(record.as_ref().map_or(revision, end_of_commit));
        }
        if let Some(record) = record.filter(|_| is_wanted) {
            bytes += record.log.content.len();
            records.push(record);
        }
    }
    Ok((records, end))
}

/// Numbers of terms, also of those whose lists are empty now.
fn numbers(connection: &Connection, terms: &[Term]) -> Result<HashSet<i64>, Error> {
    let mut statement = connection.prepare_cached("SELECT n FROM term WHERE kind = ?1 AND value = ?2")?;
    let mut numbers = HashSet::with_capacity(terms.len());
    for term in terms {
        let (kind, value) = term.parts();
        numbers.extend(statement.query_row(params![kind, value], |row| row.get::<_, i64>(0)).optional()?);
    }
    Ok(numbers)
}

fn is_wanted(row: &Row<'_>, wanted: &Wanted, terms: &HashSet<i64>) -> Result<bool, Error> {
    let kind = Kind::from_number(row.get(0)?);
    if !kind.is_some_and(|kind| wanted.kinds.contains(&kind)) {
        return Ok(false);
    }
    if wanted.terms.is_empty() {
        return Ok(true);
    }
    for column in [3, 4] {
        let numbers = unpack_terms(row.get_ref(column)?.as_blob().unwrap_or_default());
        if numbers.iter().any(|number| terms.contains(number)) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn open(row: &Row<'_>) -> Result<Option<Record>, Error> {
    let Some(name) = row_name(row)? else { return Ok(None) };
    match read::open(name, Slot::Live, row.get(2)?, row.get_ref(5)?.as_blob().unwrap_or_default()) {
        Ok(record) => Ok(Some(record)),
        Err(Error::Corrupt(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The last revision of the commit that an entry belongs to.
fn end_of_commit(record: &Record) -> Revision {
    let log = &record.log;
    record.revision + i64::from(log.commit_size.saturating_sub(log.commit_index + 1))
}
