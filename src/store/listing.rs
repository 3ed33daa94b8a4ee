//! Which articles match a query, in order, a slice at a time.
//!
//! A query is a conjunction of groups of terms. The shortest group drives: its terms' lists are merged, newest first,
//! and each candidate is looked up in the lists of the other groups. A slice scans a bounded number of rows, looks up a
//! bounded number of others and then says where to go on, so no query holds a reader thread for long.

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

/// Candidates that one slice looks at.
const SCAN: usize = 20_000;

/// Terms that one slice looks candidates up in: a filter can name 272 of them for each. Some 60 ms.
const LOOKUPS: usize = 60_000;

/// Rows fetched at once from the list of one term.
const BATCH: usize = 64;

/// What is asked for. All groups must hold, each by one of its terms.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query {
    pub(crate) groups: Vec<Vec<Term>>,
    /// Terms that must not hold.
    pub(crate) none: Vec<Term>,
    /// The section, or one below it, must hold.
    pub(crate) section_tree: Option<Id>,
    /// Not before, microseconds since 1970 UTC.
    pub(crate) not_before: Option<i64>,
    /// Before, microseconds since 1970 UTC.
    pub(crate) before: Option<i64>,
    pub(crate) order: Order,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Order {
    #[default]
    Time,
    Revision,
}

/// A place in a listing: what comes next is below it in the order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Cursor {
    /// Time or revision, as the order has it.
    pub(crate) key: i64,
    /// The id at that time; empty in the order of revisions.
    pub(crate) id: String,
}

/// Part of a listing.
#[derive(Debug, Default)]
pub(crate) struct Slice {
    /// What was found, each with the place after it.
    pub(crate) found: Vec<(Name, Cursor)>,
    /// Where to go on; none if the listing is at its end.
    pub(crate) next: Option<Cursor>,
    /// The head at which it was read.
    pub(crate) head: Revision,
}

/// Up to `limit` articles that come after a place, within one transaction of the caller's.
pub(crate) fn slice(
    connection: &Connection,
    query: &Query,
    from: Option<&Cursor>,
    limit: usize,
) -> Result<Slice, Error> {
    let head = read::head(connection)?.revision;
    let Some(plan) = Plan::make(connection, query)? else { return Ok(Slice { head, ..Slice::default() }) };
    let slice = match query.order {
        Order::Time => by_time(connection, query, &plan, from, limit),
        Order::Revision if plan.articles <= SCAN as i64 => {
            by_revision_of_few(connection, query, &plan, from, limit)
        }
        Order::Revision => by_revision_of_many(connection, query, &plan, from, limit),
    };
    Ok(Slice { head, ..slice? })
}

/// A query in numbers of terms.
struct Plan {
    /// The group that drives.
    driver: Vec<i64>,
    /// How many rows its lists have.
    articles: i64,
    others: Vec<Vec<i64>>,
    none: Vec<i64>,
    looked_up: Cell<usize>,
}

impl Plan {
    /// None if a group can hold for no article.
    fn make(connection: &Connection, query: &Query) -> Result<Option<Plan>, Error> {
        let mut groups = query.groups.clone();
        if let Some(root) = &query.section_tree {
            groups.push(section_tree(connection, root)?);
        }
        if groups.is_empty() {
            groups.push(vec![Term::All]);
        }
        let mut sized = Vec::with_capacity(groups.len());
        for group in &groups {
            let found = numbers(connection, group)?;
            if found.is_empty() {
                return Ok(None);
            }
            let articles: i64 = found.iter().map(|(_, articles)| articles).sum();
            sized.push((articles, found.into_iter().map(|(number, _)| number).collect::<Vec<_>>()));
        }
        sized.sort_by_key(|(articles, _)| *articles);
        let (articles, driver) = sized.remove(0);
        let others = sized.into_iter().map(|(_, group)| group).collect();
        let none = numbers(connection, &query.none)?.into_iter().map(|(number, _)| number).collect();
        Ok(Some(Plan { driver, articles, others, none, looked_up: Cell::new(0) }))
    }

    /// Whether the groups other than the driver hold, and none of the excluded terms.
    fn admits(&self, connection: &Connection, time: i64, id: &str) -> Result<bool, Error> {
        for group in &self.others {
            if !self.any_holds(connection, group, time, id)? {
                return Ok(false);
            }
        }
        Ok(!self.any_holds(connection, &self.none, time, id)?)
    }

    fn any_holds(&self, connection: &Connection, terms: &[i64], time: i64, id: &str) -> Result<bool, Error> {
        let sql = "SELECT 1 FROM listing WHERE term = ?1 AND time = ?2 AND id = ?3";
        let mut statement = connection.prepare_cached(sql)?;
        for term in terms {
            self.looked_up.set(self.looked_up.get() + 1);
            if statement.exists(params![term, time, id])? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a slice that has looked at so many candidates has to end.
    fn is_spent(&self, scanned: usize) -> bool {
        scanned >= SCAN || self.looked_up.get() >= LOOKUPS
    }
}

fn numbers(connection: &Connection, terms: &[Term]) -> Result<Vec<(i64, i64)>, Error> {
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

/// A section and all below it. Parents that name each other in a circle are each visited once.
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

/// The list of one term, read backwards a batch at a time.
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
    // No id is above this one: a place before everything of its time.
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
        if plan.admits(connection, time, &cursor.id)? {
            found.extend(article(&cursor.id).map(|name| (name, cursor.clone())));
        }
        if found.len() == limit || plan.is_spent(scanned) {
            return Ok(Slice { found, next: Some(cursor), head: 0 });
        }
    }
    Ok(Slice { found, next: None, head: 0 })
}

/// Lists read together, the newest row first, each row once.
struct Merge {
    readers: Vec<Reader>,
    /// The row in front of each list that has one, with the list.
    fronts: BinaryHeap<((i64, String), usize)>,
}

impl Merge {
    fn new(connection: &Connection, readers: Vec<Reader>) -> Result<Merge, Error> {
        let mut merge = Merge { fronts: BinaryHeap::with_capacity(readers.len()), readers };
        for list in 0..merge.readers.len() {
            merge.advance(connection, list)?;
        }
        Ok(merge)
    }

    fn advance(&mut self, connection: &Connection, list: usize) -> Result<(), Error> {
        let front = self.readers[list].next(connection)?;
        self.fronts.extend(front.map(|row| (row, list)));
        Ok(())
    }

    fn next(&mut self, connection: &Connection) -> Result<Option<(i64, String)>, Error> {
        let Some((row, list)) = self.fronts.pop() else { return Ok(None) };
        self.advance(connection, list)?;
        while let Some((_, list)) = self.fronts.peek().filter(|(other, _)| *other == row) {
            let list = *list;
            self.fronts.pop();
            self.advance(connection, list)?;
        }
        Ok(Some(row))
    }
}

fn article(id: &str) -> Option<Name> {
    Id::parse(id).map(|id| Name { kind: Kind::Article, id })
}

fn in_time(query: &Query, time: i64) -> bool {
    query.not_before.is_none_or(|bound| time >= bound) && query.before.is_none_or(|bound| time < bound)
}

/// The driving lists are short: read them whole, then sort by revision.
fn by_revision_of_few(
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
        if revision < below && in_time(query, time) {
            ordered.push((revision, time, id));
        }
    }
    ordered.sort_unstable_by(|a, b| b.cmp(a));
    let mut slice = Slice::default();
    for (revision, time, id) in ordered {
        // The row before is the last that this slice has looked at.
        if slice.found.len() == limit || plan.is_spent(0) {
            return Ok(slice);
        }
        if plan.admits(connection, time, &id)? {
            slice.found.extend(article(&id).map(|name| (name, at(revision))));
        }
        slice.next = Some(at(revision));
    }
    slice.next = None;
    Ok(slice)
}

/// The driving lists are long: most recent changes match, so scan those.
fn by_revision_of_many(
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
    let mut rows = statement.query(params![below, SCAN as i64, LIVE_SLOT])?;
    let (mut slice, mut scanned) = (Slice::default(), 0);
    while let Some(row) = rows.next()? {
        let (revision, time): (Revision, i64) = (row.get(0)?, row.get(1)?);
        let (id, kind, live): (String, i64, bool) = (row.get(2)?, row.get(3)?, row.get(4)?);
        scanned += 1;
        slice.next = Some(at(revision));
        let candidate = live && kind == Kind::Article as i64 && in_time(query, time);
        let holds = candidate
            && plan.any_holds(connection, &plan.driver, time, &id)?
            && plan.admits(connection, time, &id)?;
        if holds {
            slice.found.extend(article(&id).map(|name| (name, at(revision))));
        }
        if slice.found.len() == limit || plan.is_spent(0) {
            return Ok(slice);
        }
    }
    if scanned < SCAN {
        slice.next = None;
    }
    Ok(slice)
}

fn at(revision: Revision) -> Cursor {
    Cursor { key: revision, id: String::new() }
}
