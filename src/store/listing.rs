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

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{Error, Snapshot, read::LIVE_SLOT, scan};
use crate::{
    entry::Term,
    model::{Id, Kind, Name, Revision},
    wire::{fields, number::SECTION_PARENT},
};

mod months;
mod skip;

pub(crate) use months::{Month, MonthWalk};

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
    /// Sections. For each of them, the article must be in it or in a section below it.
    pub(crate) section_trees: Vec<Id>,
    /// The earliest time, inclusive, in microseconds since 1970 UTC.
    pub(crate) not_before: Option<i64>,
    /// The end of the time range, exclusive, in microseconds since 1970 UTC.
    pub(crate) before: Option<i64>,
    pub(crate) order: Order,
}

impl Query {
    /// Narrows the query to the articles that another one matches too. The order remains.
    pub(crate) fn narrow(&mut self, other: &Query) {
        self.groups.extend_from_slice(&other.groups);
        self.excluded.extend_from_slice(&other.excluded);
        self.section_trees.extend_from_slice(&other.section_trees);
        self.not_before = self.not_before.max(other.not_before);
        self.before = self.before.into_iter().chain(other.before).min();
    }

    pub(super) fn is_in_time_range(&self, time: i64) -> bool {
        self.not_before.is_none_or(|bound| time >= bound) && self.before.is_none_or(|bound| time < bound)
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Order {
    #[default]
    Time,
    Revision,
}

/// A cursor in a listing. The listing continues after it in its order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Cursor {
    /// The time or the revision, depending on the order; 0 in the order of ids.
    pub(crate) key: i64,
    /// The id at that time; empty in the order of revisions.
    pub(crate) id: String,
}

impl Cursor {
    /// Returns the cursor of an article in the order of revisions.
    fn by_revision(revision: Revision) -> Cursor {
        Cursor { key: revision, id: String::new() }
    }

    /// Returns the cursor of a name in the order of ids.
    pub(crate) fn by_id(name: &Name) -> Cursor {
        Cursor { key: 0, id: name.id.to_string() }
    }
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

impl Snapshot<'_> {
    /// Returns up to `limit` articles after a cursor.
    pub(crate) fn articles(
        self,
        query: &Query,
        after: Option<&Cursor>,
        limit: usize,
    ) -> Result<Slice, Error> {
        let head = self.head()?.revision;
        let Some(plan) = Plan::build(self, query)? else { return Ok(Slice { head, ..Slice::default() }) };
        let connection = self.connection;
        let slice = match query.order {
            Order::Time => by_time(connection, query, &plan, after, limit),
            Order::Revision if plan.articles <= MAX_SCANNED as i64 => {
                by_revision_sorted(connection, query, &plan, after, limit)
            }
            Order::Revision => by_revision_scanned(connection, query, &plan, after, limit),
        };
        Ok(Slice { head, ..slice? })
    }
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
    fn build(snapshot: Snapshot<'_>, query: &Query) -> Result<Option<Plan>, Error> {
        let connection = snapshot.connection;
        let mut groups = query.groups.clone();
        for root in &query.section_trees {
            groups.push(section_tree(snapshot, root)?);
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

    /// Returns the number of the only term that decides what matches, if there is one.
    fn only_list(&self) -> Option<i64> {
        let alone = self.driver.len() == 1 && self.others.is_empty() && self.excluded.is_empty();
        alone.then(|| self.driver[0])
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
pub(super) fn section_tree(snapshot: Snapshot<'_>, root: &Id) -> Result<Vec<Term>, Error> {
    let mut children: HashMap<Id, Vec<Id>> = HashMap::new();
    let mut after = None;
    loop {
        let names = snapshot.names(Kind::Section, after.as_ref(), BATCH)?;
        let Some(last) = names.last() else { break };
        after = Some(Cursor::by_id(last));
        for name in names {
            let record = snapshot.record(&name)?;
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
    /// The bound below which the rows are. `None` if they are all rows of the list.
    below: Option<Cursor>,
    exhausted: bool,
}

impl Reader {
    fn next(&mut self, connection: &Connection) -> Result<Option<(i64, String)>, Error> {
        if self.rows.is_empty() && !self.exhausted {
            self.rows = self.batch(connection)?;
            self.exhausted = self.rows.len() < BATCH;
            if let Some((time, id)) = self.rows.back() {
                self.below = Some(Cursor { key: *time, id: id.clone() });
            }
        }
        Ok(self.rows.pop_front())
    }

    fn batch(&self, connection: &Connection) -> Result<VecDeque<(i64, String)>, Error> {
        let rows = self.fetch(connection)?;
        if let (Some(below), Some((time, id))) = (&self.below, rows.front()) {
            scan::check_order(&(*time, id), &(below.key, &below.id))?;
        }
        for (row, next) in rows.iter().zip(rows.iter().skip(1)) {
            scan::check_order(next, row)?;
        }
        Ok(rows)
    }

    fn fetch(&self, connection: &Connection) -> rusqlite::Result<VecDeque<(i64, String)>> {
        let all = "SELECT time, id FROM listing WHERE term = ?1 ORDER BY time DESC, id DESC LIMIT ?2";
        let below = "SELECT time, id FROM listing WHERE term = ?1 AND (time, id) < (?3, ?4)
                     ORDER BY time DESC, id DESC LIMIT ?2";
        let row = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
        let (term, limit) = (self.term, BATCH as i64);
        match &self.below {
            None => connection.prepare_cached(all)?.query_map(params![term, limit], row)?.collect(),
            Some(Cursor { key, id }) => {
                connection.prepare_cached(below)?.query_map(params![term, limit, key, id], row)?.collect()
            }
        }
    }
}

fn by_time(
    connection: &Connection,
    query: &Query,
    plan: &Plan,
    after: Option<&Cursor>,
    limit: usize,
) -> Result<Slice, Error> {
    // The empty id is below all ids of its time.
    let end = query.before.map(|before| Cursor { key: before, id: String::new() });
    let below = after.cloned().into_iter().chain(end).min();
    let reader =
        |term: &i64| Reader { term: *term, rows: VecDeque::new(), below: below.clone(), exhausted: false };
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

/// Lists articles by revision if the driving lists are short: reads them as a whole, then sorts by revision.
fn by_revision_sorted(
    connection: &Connection,
    query: &Query,
    plan: &Plan,
    after: Option<&Cursor>,
    limit: usize,
) -> Result<Slice, Error> {
    let below = after.map_or(Revision::MAX, |cursor| cursor.key);
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
        if revision < below && query.is_in_time_range(time) {
            ordered.push((revision, time, id));
        }
    }
    ordered.sort_unstable_by(|a, b| b.cmp(a));
    let mut slice = Slice::default();
    for (revision, time, id) in ordered {
        if plan.matches_rest(connection, time, &id)? {
            slice.found.extend(article_name(&id).map(|name| (name, Cursor::by_revision(revision))));
        }
        slice.next = Some(Cursor::by_revision(revision));
        // The end does not depend on the rows after it: these may be articles that the caller may not see.
        if slice.found.len() == limit || plan.is_exhausted(0) {
            return Ok(slice);
        }
    }
    slice.next = None;
    Ok(slice)
}

/// Lists articles by revision if the driving lists are long: most recent changes match, so it scans those.
fn by_revision_scanned(
    connection: &Connection,
    query: &Query,
    plan: &Plan,
    after: Option<&Cursor>,
    limit: usize,
) -> Result<Slice, Error> {
    let below = after.map_or(Revision::MAX, |cursor| cursor.key);
    let sql = "SELECT revision, time, id, kind, live FROM doc WHERE revision < ?1 AND slot = ?3
         ORDER BY revision DESC LIMIT ?2";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![below, MAX_SCANNED as i64, LIVE_SLOT])?;
    let (mut slice, mut scanned) = (Slice::default(), 0);
    while let Some(row) = rows.next()? {
        let (revision, time): (Revision, i64) = (row.get(0)?, row.get(1)?);
        let (id, kind, live): (String, i64, bool) = (row.get(2)?, row.get(3)?, row.get(4)?);
        scanned += 1;
        scan::check_order(&revision, &slice.next.map_or(below, |last| last.key))?;
        slice.next = Some(Cursor::by_revision(revision));
        let candidate = live && kind == Kind::Article as i64 && query.is_in_time_range(time);
        let is_match = candidate
            && plan.any_contains(connection, &plan.driver, time, &id)?
            && plan.matches_rest(connection, time, &id)?;
        if is_match {
            slice.found.extend(article_name(&id).map(|name| (name, Cursor::by_revision(revision))));
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
