//! What has happened since a revision, as far as the newest entries tell: what feeds follow.
//!
//! Two tables tell it together. `doc` has the newest entry of each name, under its revision. `departure` has what
//! articles have left, under the revision at which they did: by a newest entry alone a reader who stops half way would
//! never learn of a departure before that place, if the article has changed again behind it.

use std::collections::{BTreeMap, HashSet};

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{
    Error, Record,
    apply::{ANY_TERM, unpack_departures, unpack_terms},
    read::{self, LIVE_SLOT, row_name},
};
use crate::{
    digest::Hash,
    entry::Term,
    model::{Id, Kind, Name, Revision, Slot},
    wire::{fields, log::LogEntry, number::article},
};

/// What of the history is wanted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    /// Entries of articles that stand in one of these lists, or have left one. Empty: every article.
    pub(crate) terms: Vec<Term>,
    /// Departures from these lists; empty: from every list. None: no departures.
    pub(crate) left: Option<Vec<Term>>,
    /// Entries of these kinds.
    pub(crate) kinds: Vec<Kind>,
}

/// How much is read at once, of newest entries and of departures each. A commit is never split: the last one may go
/// over.
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

/// What has become of a name at a revision.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) revision: Revision,
    /// When, microseconds since 1970 UTC; 0: it is too long ago to be known.
    pub(crate) time: i64,
    /// The newest entry of the name. It is of a later revision where the event is only that an article has left a list.
    pub(crate) newest: Record,
}

/// What is left of a commit and was wanted of it.
#[derive(Debug)]
pub(crate) struct Commit {
    /// In the order of the log. Damaged entries were reported, and are left out.
    pub(crate) events: Vec<Event>,
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
    let terms = numbers(&moment, &wanted.terms)?;
    let left = wanted.left.as_ref().map(|left| numbers(&moment, left)).transpose()?;
    let (records, reached) = scan(&moment, after, wanted, &terms, bounds)?;
    let reached = reached.unwrap_or(head.revision);
    let departures = |reached, bounds| match &left {
        Some(left) => departures(&moment, (after, reached), left, bounds),
        None => Ok(Departures { names: Vec::new(), reached }),
    };
    let departed = departures(reached, bounds)?;
    let reached = whole(&records, after, departed.reached);
    let departed = match reached > departed.reached {
        // The first commit alone is larger than a stretch: all of it, however much that is.
        true => departures(reached, Bounds { rows: usize::MAX, records: usize::MAX, ..bounds })?,
        false => departed,
    };
    let commits = commits(&moment, records, departed.names, reached)?;
    Ok(Stretch { commits, reached: place(&moment, reached)?, floor: head.floor })
}

/// A place by its revision.
pub(crate) fn place(connection: &Connection, revision: Revision) -> Result<Place, Error> {
    let mut statement = connection.prepare_cached("SELECT chain FROM chain WHERE revision = ?1")?;
    let chain = statement.query_row([revision], |row| row.get(0)).optional()?;
    Ok(Place { revision, chain })
}

/// Newest entries, and the end of the commit that a bound was reached in.
fn scan(
    moment: &Connection,
    after: Revision,
    wanted: &Wanted,
    terms: &HashSet<i64>,
    bounds: Bounds,
) -> Result<(Vec<Record>, Option<Revision>), Error> {
    let sql = "SELECT kind, id, revision, terms, departures, entry, live, hash FROM doc
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
        let is_wanted = is_wanted(row, revision, wanted, terms)?;
        let record = if is_wanted || full { open(row)? } else { None };
        if full && end.is_none() {
            end = Some(record.as_ref().map_or(revision, |record| span(record).1));
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
    // Terms that no article has ever had: no row is wanted.
    if numbers.is_empty() && !terms.is_empty() {
        numbers.insert(i64::MIN);
    }
    Ok(numbers)
}

/// Whether an entry is wanted: it stands in one of the lists, has just left one or, if it is a tombstone, may ever have.
fn is_wanted(
    row: &Row<'_>,
    revision: Revision,
    wanted: &Wanted,
    terms: &HashSet<i64>,
) -> Result<bool, Error> {
    let kind = Kind::from_number(row.get(0)?);
    if !kind.is_some_and(|kind| wanted.kinds.contains(&kind)) {
        return Ok(false);
    }
    if wanted.terms.is_empty() {
        return Ok(true);
    }
    let standing = unpack_terms(row.get_ref(3)?.as_blob().unwrap_or_default());
    let departures = unpack_departures(row.get_ref(4)?.as_blob().unwrap_or_default());
    let live: bool = row.get(6)?;
    let mut left = departures.iter().filter(|(_, at)| !live || *at == revision).map(|(term, _)| term);
    let has_left = left.any(|term| *term == ANY_TERM || terms.contains(term));
    Ok(has_left || standing.iter().any(|term| terms.contains(term)))
}

fn open(row: &Row<'_>) -> Result<Option<Record>, Error> {
    let Some(name) = row_name(row)? else { return Ok(None) };
    let version = (row.get(2)?, read::prefix(row, 7)?);
    match read::open(name, Slot::Live, version, row.get_ref(5)?.as_blob().unwrap_or_default()) {
        // It was reported where it was read; it must not end a feed.
        Err(Error::Corrupt(_)) => Ok(None),
        record => record.map(Some),
    }
}

/// Articles that have left a list within a stretch, each with the revision.
struct Departures {
    names: Vec<(Revision, Name)>,
    /// What lies behind this has not been looked at.
    reached: Revision,
}

/// `within`: after the first revision, up to the second. At most so many rows are looked at, and articles found: the
/// newest entry of each is read.
fn departures(
    moment: &Connection,
    within: (Revision, Revision),
    terms: &HashSet<i64>,
    bounds: Bounds,
) -> Result<Departures, Error> {
    let sql = "SELECT revision, term, id FROM departure WHERE revision > ?1 AND revision <= ?2
               ORDER BY revision, term, id";
    let mut statement = moment.prepare_cached(sql)?;
    let mut rows = statement.query([within.0, within.1])?;
    let (mut names, mut looked_at): (Vec<(Revision, Name)>, usize) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let revision: Revision = row.get(0)?;
        looked_at += 1;
        let begins = names.last().is_none_or(|(at, _)| *at < revision);
        if looked_at > bounds.rows || (begins && names.len() >= bounds.records) {
            names.retain(|(at, _)| *at < revision);
            return Ok(Departures { names, reached: revision - 1 });
        }
        let term = row.get(1)?;
        if !terms.is_empty() && term != ANY_TERM && !terms.contains(&term) {
            continue;
        }
        let Some(id) = row.get_ref(2)?.as_str().ok().and_then(Id::parse) else { continue };
        let departure = (revision, Name { kind: Kind::Article, id });
        if names.last() != Some(&departure) {
            names.push(departure);
        }
    }
    Ok(Departures { names, reached: within.1 })
}

/// The last place up to `reached` that is within no commit; where there is none after `after`, the end of the commit.
fn whole(records: &[Record], after: Revision, reached: Revision) -> Revision {
    let spans = records.iter().map(span);
    match spans.into_iter().find(|(first, last)| *first <= reached && reached < *last) {
        None => reached,
        Some((first, last)) if first - 1 <= after => last,
        Some((first, _)) => first - 1,
    }
}

/// Puts together what has happened, commit by commit.
fn commits(
    moment: &Connection,
    records: Vec<Record>,
    departed: Vec<(Revision, Name)>,
    reached: Revision,
) -> Result<Vec<Commit>, Error> {
    let ends: BTreeMap<Revision, Revision> = records.iter().map(span).collect();
    let mut events = BTreeMap::new();
    let newest: HashSet<Revision> = records.iter().map(|record| record.revision).collect();
    for (revision, name) in departed.into_iter().filter(|(revision, _)| !newest.contains(revision)) {
        if let Some(event) = departure(moment, revision, &name)? {
            events.insert(revision, event);
        }
    }
    for newest in records.into_iter().filter(|record| record.revision <= reached) {
        let (revision, time) = (newest.revision, newest.log.time);
        events.insert(revision, Event { revision, time, newest });
    }
    let mut commits: Vec<Commit> = Vec::new();
    for (revision, event) in events {
        let known = ends.range(..=revision).next_back().map(|(_, end)| *end);
        let end = known.filter(|end| *end >= revision).unwrap_or(revision);
        match commits.last_mut().filter(|commit| commit.end.revision == end) {
            Some(commit) => commit.events.push(event),
            None => commits.push(Commit { events: vec![event], end: place(moment, end)? }),
        }
    }
    Ok(commits)
}

/// What is told of a departure; none, if the entry by which the article left is its newest one: that tells it.
fn departure(moment: &Connection, revision: Revision, name: &Name) -> Result<Option<Event>, Error> {
    let newest = match read::record(moment, name) {
        Ok(Some(newest)) => Record { log: without_body(newest.log), ..newest },
        Ok(None) | Err(Error::Corrupt(_)) => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut statement = moment.prepare_cached("SELECT time FROM chain WHERE revision = ?1")?;
    let time = statement.query_row([revision], |row| row.get(0)).optional()?.unwrap_or(0);
    Ok((newest.revision != revision).then_some(Event { revision, time, newest }))
}

/// A departure needs the lists that the article stands in now, and no more: hundreds of whole articles would be too much
/// memory.
fn without_body(mut log: LogEntry) -> LogEntry {
    let mut content = Vec::new();
    fields::copy_if(&log.content, &mut content, |number| number != article::BODY);
    log.content = content.into();
    log
}

/// The first and the last revision of the commit that an entry belongs to.
fn span(record: &Record) -> (Revision, Revision) {
    let (index, size) = (i64::from(record.log.commit_index), i64::from(record.log.commit_size));
    (record.revision - index, record.revision + (size - index - 1).max(0))
}
