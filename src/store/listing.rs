//! Queries: the articles that match, in order, one slice at a time.
//!
//! A query is a conjunction of groups of terms. The shortest group drives: the lists of its terms are merged, newest
//! first, and each candidate is looked up in the lists of the other groups. A slice scans a bounded number of rows,
//! makes a bounded number of lookups, and returns the cursor from which to continue. No query therefore occupies a
//! reader thread for long.

use std::{
    cell::Cell,
    collections::{BinaryHeap, HashMap, HashSet, VecDeque},
};

use rusqlite::{Connection, OptionalExtension as _, params};

use super::{
    Error,
    read::{self, LIVE_SLOT},
};
use crate::{
    entry::Term,
    model::{Id, Kind, Name, Revision},
    wire::{fields, number::SECTION_PARENT},
};

/// The maximum number of candidates that one slice scans.
const MAX_SCANNED: usize = 20_000;

/// The maximum number of terms in which one slice looks up candidates, some 60 ms. A filter can name 272 for each
/// candidate.
const MAX_LOOKUPS: usize = 60_000;

/// The number of rows fetched at once from the list of one term.
const BATCH: usize = 64;

/// A query for articles. All groups must match, each by one of its terms.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query {
    pub(crate) groups: Vec<Vec<Term>>,
    /// Terms that must not match.
    pub(crate) excluded: Vec<Term>,
    /// A section. The article must be in it or in a section below it.
    pub(crate) section_tree: Option<Id>,
    /// The earliest time, inclusive, in microseconds since 1970 UTC.
    pub(crate) not_before: Option<i64>,
    /// The end of the time range, exclusive, in microseconds since 1970 UTC.
    pub(crate) before: Option<i64>,
    pub(crate) order: Order,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Order {
    #[default]
    Time,
    Revision,
}

/// A cursor in a listing. The rows that follow are below it in the order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Cursor {
    /// The time or the revision, depending on the order.
    pub(crate) key: i64,
    /// The id at that time; empty in the order of revisions.
    pub(crate) id: String,
}

/// A part of a listing.
#[derive(Debug, Default)]
pub(crate) struct Slice {
    /// The names found, each with the cursor after it.
    pub(crate) found: Vec<(Name, Cursor)>,
    /// The cursor from which to continue. `None` if the listing is at its end.
    pub(crate) next: Option<Cursor>,
    /// The head at which the slice was read.
    pub(crate) head: Revision,
}

/// Returns up to `limit` articles after a cursor, within one transaction of the caller.
pub(crate) fn slice(
    connection: &Connection,
    query: &Query,
    from: Option<&Cursor>,
    limit: usize,
) -> Result<Slice, Error> {
    let head = read::head(connection)?.revision;
    let Some(plan) = Plan::build(connection, query)? else { return Ok(Slice { head, ..Slice::default() }) };
    let slice = match query.order {
        Order::Time => by_time(connection, query, &plan, from, limit),
        Order::Revision if plan.articles <= MAX_SCANNED as i64 => {
            by_revision_sorted(connection, query, &plan, from, limit)
        }
        Order::Revision => by_revision_scanned(connection, query, &plan, from, limit),
    };
    Ok(Slice { head, ..slice? })
}

/// A query with the numbers of its terms.
struct Plan {
    /// The group that drives the query.
    driver: Vec<i64>,
    /// The number of rows in the lists of the driver.
    articles: i64,
    others: Vec<Vec<i64>>,
    excluded: Vec<i64>,
    lookups: Cell<usize>,
}

impl Plan {
    /// Returns `None` if a group can match no article.
    fn build(connection: &Connection, query: &Query) -> Result<Option<Plan>, Error> {
        let mut groups = query.groups.clone();
        if let Some(root) = &query.section_tree {
            groups.push(section_tree(connection, root)?);
        }
        if groups.is_empty() {
            groups.push(vec![Term::All]);
        }
        let mut sized = Vec::with_capacity(groups.len());
        for group in &groups {
            let found = term_numbers(connection, group)?;
            if found.is_empty() {
                return Ok(None);
            }
            let articles: i64 = found.iter().map(|(_, articles)| articles).sum();
            sized.push((articles, found.into_iter().map(|(number, _)| number).collect::<Vec<_>>()));
        }
        sized.sort_by_key(|(articles, _)| *articles);
        let (articles, driver) = sized.remove(0);
        let others = sized.into_iter().map(|(_, group)| group).collect();
        let excluded =
            term_numbers(connection, &query.excluded)?.into_iter().map(|(number, _)| number).collect();
        Ok(Some(Plan { driver, articles, others, excluded, lookups: Cell::new(0) }))
    }

    /// Returns whether the groups other than the driver match, and none of the excluded terms.
    fn matches_rest(&self, connection: &Connection, time: i64, id: &str) -> Result<bool, Error> {
        for group in &self.others {
            if !self.any_contains(connection, group, time, id)? {
                return Ok(false);
            }
        }
        Ok(!self.any_contains(connection, &self.excluded, time, id)?)
    }

    fn any_contains(
        &self,
        connection: &Connection,
        terms: &[i64],
        time: i64,
        id: &str,
    ) -> Result<bool, Error> {
        let sql = "SELECT 1 FROM listing WHERE term = ?1 AND time = ?2 AND id = ?3";
        let mut statement = connection.prepare_cached(sql)?;
        for term in terms {
            self.lookups.set(self.lookups.get() + 1);
            if statement.exists(params![term, time, id])? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns whether a slice that has scanned this number of candidates must end.
    fn is_exhausted(&self, scanned: usize) -> bool {
        scanned >= MAX_SCANNED || self.lookups.get() >= MAX_LOOKUPS
    }
}

fn term_numbers(connection: &Connection, terms: &[Term]) -> Result<Vec<(i64, i64)>, Error> {
    let sql = "SELECT n, articles FROM term WHERE kind = ?1 AND value = ?2 AND articles > 0";
    let mut statement = connection.prepare_cached(sql)?;
    let mut found = Vec::with_capacity(terms.len());
    for term in terms {
        let (kind, value) = term.parts();
        let row = statement.query_row(params![kind, value], |row| Ok((row.get(0)?, row.get(1)?)));
        found.extend(row.optional()?);
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// Returns a section and all sections below it. Sections whose parents form a cycle are each visited once.
fn section_tree(connection: &Connection, root: &Id) -> Result<Vec<Term>, Error> {
    let mut children: HashMap<Id, Vec<Id>> = HashMap::new();
    let mut after = String::new();
    loop {
        let names = read::names(connection, Kind::Section, &after, BATCH)?;
        let Some(last) = names.last() else { break };
        after = last.id.to_string();
        for name in names {
            let record = read::record(connection, &name)?;
            let parent = record.as_ref().and_then(|record| fields::last(&record.log.content, SECTION_PARENT));
            let parent = parent.and_then(|parent| Name::parse(std::str::from_utf8(parent).ok()?));
            if let Some(parent) = parent {
                children.entry(parent.id).or_default().push(name.id);
            }
        }
    }
    let mut tree = vec![root.clone()];
    let mut seen = HashSet::from([root.clone()]);
    let mut next = 0;
    while let Some(parent) = tree.get(next) {
        let new = children.remove(parent).unwrap_or_default();
        tree.extend(new.into_iter().filter(|id| seen.insert(id.clone())));
        next += 1;
    }
    Ok(tree.into_iter().map(Term::Section).collect())
}

/// A reader of the list of one term, backwards, a batch at a time.
struct Reader {
    term: i64,
    rows: VecDeque<(i64, String)>,
    below: (i64, String),
    exhausted: bool,
}

impl Reader {
    fn next(&mut self, connection: &Connection) -> Result<Option<(i64, String)>, Error> {
        if self.rows.is_empty() && !self.exhausted {
            let sql = "SELECT time, id FROM listing WHERE term = ?1 AND (time, id) < (?2, ?3)
                       ORDER BY time DESC, id DESC LIMIT ?4";
            let mut statement = connection.prepare_cached(sql)?;
            let page = params![self.term, self.below.0, self.below.1, BATCH as i64];
            let rows = statement.query_map(page, |row| Ok((row.get(0)?, row.get(1)?)))?;
            self.rows = rows.collect::<rusqlite::Result<_>>()?;
            self.exhausted = self.rows.len() < BATCH;
            if let Some(last) = self.rows.back() {
                self.below = last.clone();
            }
        }
        Ok(self.rows.pop_front())
    }
}

fn by_time(
    connection: &Connection,
    query: &Query,
    plan: &Plan,
    from: Option<&Cursor>,
    limit: usize,
) -> Result<Slice, Error> {
    // No id is above this one: a cursor before all rows of its time.
    let top = (query.before.map_or(i64::MAX, |before| before - 1), "\u{7f}".to_owned());
    let start = from.map_or(top.clone(), |cursor| top.min((cursor.key, cursor.id.clone())));
    let reader =
        |term: &i64| Reader { term: *term, rows: VecDeque::new(), below: start.clone(), exhausted: false };
    let mut merge = Merge::new(connection, plan.driver.iter().map(reader).collect())?;
    let mut found = Vec::new();
    for scanned in 1.. {
        let row = merge.next(connection)?;
        let Some((time, id)) = row.filter(|(time, _)| query.not_before.is_none_or(|bound| *time >= bound))
        else {
            break;
        };
        let cursor = Cursor { key: time, id };
        if plan.matches_rest(connection, time, &cursor.id)? {
            found.extend(article_name(&cursor.id).map(|name| (name, cursor.clone())));
        }
        if found.len() == limit || plan.is_exhausted(scanned) {
            return Ok(Slice { found, next: Some(cursor), head: 0 });
        }
    }
    Ok(Slice { found, next: None, head: 0 })
}

/// Lists that are read together, the newest row first, each row once.
struct Merge {
    readers: Vec<Reader>,
    /// The next row of each list that has one, with the index of the list.
    next_rows: BinaryHeap<((i64, String), usize)>,
}

impl Merge {
    fn new(connection: &Connection, readers: Vec<Reader>) -> Result<Merge, Error> {
        let mut merge = Merge { next_rows: BinaryHeap::with_capacity(readers.len()), readers };
        for list in 0..merge.readers.len() {
            merge.advance(connection, list)?;
        }
        Ok(merge)
    }

    fn advance(&mut self, connection: &Connection, list: usize) -> Result<(), Error> {
        let next_row = self.readers[list].next(connection)?;
        self.next_rows.extend(next_row.map(|row| (row, list)));
        Ok(())
    }

    fn next(&mut self, connection: &Connection) -> Result<Option<(i64, String)>, Error> {
        let Some((row, list)) = self.next_rows.pop() else { return Ok(None) };
        self.advance(connection, list)?;
        while let Some((_, list)) = self.next_rows.peek().filter(|(other, _)| *other == row) {
            let list = *list;
            self.next_rows.pop();
            self.advance(connection, list)?;
        }
        Ok(Some(row))
    }
}

fn article_name(id: &str) -> Option<Name> {
    Id::parse(id).map(|id| Name { kind: Kind::Article, id })
}

fn is_in_time_range(query: &Query, time: i64) -> bool {
    query.not_before.is_none_or(|bound| time >= bound) && query.before.is_none_or(|bound| time < bound)
}

/// Lists articles by revision if the driving lists are short: reads them as a whole, then sorts by revision.
fn by_revision_sorted(
    connection: &Connection,
    query: &Query,
    plan: &Plan,
    from: Option<&Cursor>,
    limit: usize,
) -> Result<Slice, Error> {
    let below = from.map_or(Revision::MAX, |cursor| cursor.key);
    let mut candidates = HashSet::new();
    let mut all = connection.prepare_cached("SELECT time, id FROM listing WHERE term = ?1")?;
    for term in &plan.driver {
        let rows = all.query_map([term], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)))?;
        for row in rows {
            candidates.insert(row?);
        }
    }
    let sql = "SELECT revision FROM doc WHERE kind = ?1 AND slot = ?2 AND id = ?3";
    let mut revision_of = connection.prepare_cached(sql)?;
    let mut ordered = Vec::with_capacity(candidates.len());
    for (time, id) in candidates {
        let key = params![Kind::Article as i64, LIVE_SLOT, id];
        let revision: Revision = revision_of.query_row(key, |row| row.get(0)).optional()?.unwrap_or(0);
        if revision < below && is_in_time_range(query, time) {
            ordered.push((revision, time, id));
        }
    }
    ordered.sort_unstable_by(|a, b| b.cmp(a));
    let mut slice = Slice::default();
    for (revision, time, id) in ordered {
        // The row before is the last one that this slice has read.
        if slice.found.len() == limit || plan.is_exhausted(0) {
            return Ok(slice);
        }
        if plan.matches_rest(connection, time, &id)? {
            slice.found.extend(article_name(&id).map(|name| (name, revision_cursor(revision))));
        }
        slice.next = Some(revision_cursor(revision));
    }
    slice.next = None;
    Ok(slice)
}

/// Lists articles by revision if the driving lists are long: most recent changes match, so it scans those.
fn by_revision_scanned(
    connection: &Connection,
    query: &Query,
    plan: &Plan,
    from: Option<&Cursor>,
    limit: usize,
) -> Result<Slice, Error> {
    let below = from.map_or(Revision::MAX, |cursor| cursor.key);
    let sql = "SELECT revision, time, id, kind, live FROM doc WHERE revision < ?1 AND slot = ?3
         ORDER BY revision DESC LIMIT ?2";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![below, MAX_SCANNED as i64, LIVE_SLOT])?;
    let (mut slice, mut scanned) = (Slice::default(), 0);
    while let Some(row) = rows.next()? {
        let (revision, time): (Revision, i64) = (row.get(0)?, row.get(1)?);
        let (id, kind, live): (String, i64, bool) = (row.get(2)?, row.get(3)?, row.get(4)?);
        scanned += 1;
        slice.next = Some(revision_cursor(revision));
        let candidate = live && kind == Kind::Article as i64 && is_in_time_range(query, time);
        let is_match = candidate
            && plan.any_contains(connection, &plan.driver, time, &id)?
            && plan.matches_rest(connection, time, &id)?;
        if is_match {
            slice.found.extend(article_name(&id).map(|name| (name, revision_cursor(revision))));
        }
        if slice.found.len() == limit || plan.is_exhausted(0) {
            return Ok(slice);
        }
    }
    if scanned < MAX_SCANNED {
        slice.next = None;
    }
    Ok(slice)
}

fn revision_cursor(revision: Revision) -> Cursor {
    Cursor { key: revision, id: String::new() }
}
