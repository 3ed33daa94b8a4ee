//! The events since a revision, as far as the newest entries record them. Feeds follow them.
//!
//! Two tables record them together. `doc` has the newest entry of each name, under its revision. `departure` has the
//! lists that articles have left, under the revision of the departure. Newest entries alone do not suffice: a reader
//! that stops half way would never learn of a departure before that revision if the article has changed again after it.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use rusqlite::{OptionalExtension as _, Row, Rows, params};

use super::{
    Error, Record, Snapshot, envelope,
    read::{self, LIVE_SLOT},
    row::{ANY_TERM, COLUMNS, Columns, unpack_departures, unpack_terms},
    salvage, scan,
};
use crate::{
    digest::Hash,
    entry::{Derived, Term},
    model::{Id, Kind, Name, Revision, Slot},
};

/// A selection of the history.
#[derive(Debug, Clone, Default)]
pub(crate) struct Selection {
    /// Selects entries of articles that are in one of these lists, or have left one. If empty, of every article. Entries of
    /// other kinds are selected in any case.
    pub(crate) terms: Vec<Term>,
    /// Selects departures from these lists; if empty, from every list. `None` selects no departures.
    pub(crate) departed_terms: Option<Vec<Term>>,
    /// Selects entries of these kinds.
    pub(crate) kinds: Vec<Kind>,
}

/// The bounds of one read. The event that reaches a bound is the last one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// The number of rows read.
    pub(crate) rows: usize,
    /// The number of events found.
    pub(crate) events: usize,
    /// The size of the events in memory, in bytes.
    pub(crate) bytes: usize,
}

/// A revision of the history with its link of the chain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ChainPosition {
    pub(crate) revision: Revision,
    /// The link of the chain. `None` if it is too old to be known.
    pub(crate) chain: Option<Hash>,
}

/// The event of a name at a revision.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) revision: Revision,
    /// The time of the event, in microseconds since 1970 UTC; 0 if it is too old to be known.
    pub(crate) time: i64,
    /// The newest entry of the name, without its departures. If the event is only that an article has left a list, the
    /// entry is of a later revision and has no content.
    pub(crate) newest: Record,
    /// The lists that contain the article now.
    pub(crate) terms: Vec<Term>,
    /// The lists that the article has left, each with the revision.
    pub(crate) departures: Vec<(Term, Revision)>,
    /// The revision at or below which the article may have left any list.
    departure_floor: Revision,
    /// The damage of the newest entry.
    pub(crate) damage: EventDamage,
}

/// The damage of the entry of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EventDamage {
    None,
    /// The content cannot be read. The lists are known.
    Content,
    /// Neither the content nor the lists can be read. The event may concern any filter.
    All,
}

/// The selected events of a commit that no later entry has superseded.
#[derive(Debug)]
pub(crate) struct Commit {
    /// The events in the order of the log, also those of damaged entries.
    pub(crate) events: Vec<Event>,
    pub(crate) end: ChainPosition,
}

/// A range of the history.
#[derive(Debug)]
pub(crate) struct HistoryRange {
    /// The commits in their order, without those that have no selected event.
    pub(crate) commits: Vec<Commit>,
    /// The revision up to which everything was read.
    pub(crate) reached: ChainPosition,
    /// The last revision of the commit within which the range ends. That commit is then the only one: it is larger than
    /// the bounds, and the next range continues it.
    pub(crate) within: Option<Revision>,
    /// The history floor: departures are known from this revision on.
    pub(crate) floor: Revision,
}

impl Snapshot<'_> {
    /// Reads the range after a revision. It contains whole commits if one fits into the bounds, otherwise a part of the
    /// first one. A commit above the bounds is never in memory as a whole.
    pub(crate) fn history(
        self,
        after: Revision,
        selection: &Selection,
        bounds: Bounds,
    ) -> Result<HistoryRange, Error> {
        let head = self.head()?;
        let terms = TermSet::read(self, &selection.terms)?;
        let departed_terms =
            selection.departed_terms.as_ref().map(|terms| TermSet::read(self, terms)).transpose()?;
        let mut reader = RangeReader {
            snapshot: self,
            bounds,
            rows: 0,
            last: after,
            bytes: 0,
            events: Vec::new(),
            spans: BTreeMap::new(),
        };
        let stopped_at =
            reader.read((after, head.revision), &selection.kinds, &terms, departed_terms.as_ref())?;
        let RangeReader { mut events, spans, .. } = reader;
        let (reached, within) = commit_boundary(&spans, after, stopped_at.unwrap_or(head.revision));
        events.retain(|event| event.revision <= reached);
        let commits = group_by_commit(self, events, &spans)?;
        Ok(HistoryRange { commits, reached: self.chain_position(reached)?, within, floor: head.floor })
    }

    /// Returns a revision with its link of the chain.
    pub(crate) fn chain_position(self, revision: Revision) -> Result<ChainPosition, Error> {
        let mut statement = self.connection.prepare_cached("SELECT chain FROM chain WHERE revision = ?1")?;
        let chain = statement.query_row([revision], |row| row.get(0)).optional()?;
        Ok(ChainPosition { revision, chain })
    }
}

/// The lists of a selection, by their numbers.
enum TermSet {
    All,
    /// These lists; none of them if no article has ever been in any.
    Of(HashSet<i64>),
}

impl TermSet {
    /// Looks up the numbers of terms, including those whose lists are empty now. Without terms, every list is selected.
    fn read(snapshot: Snapshot<'_>, terms: &[Term]) -> Result<TermSet, Error> {
        if terms.is_empty() {
            return Ok(TermSet::All);
        }
        let sql = "SELECT n FROM term WHERE kind = ?1 AND value = ?2";
        let mut statement = snapshot.connection.prepare_cached(sql)?;
        let mut numbers = HashSet::with_capacity(terms.len());
        for term in terms {
            let (kind, value) = term.parts();
            let number = statement.query_row(params![kind, value], |row| row.get::<_, i64>(0));
            numbers.extend(number.optional()?);
        }
        Ok(TermSet::Of(numbers))
    }

    /// Returns whether a list is selected. The term that represents all unknown departures always is.
    fn contains(&self, term: i64) -> bool {
        match self {
            TermSet::All => true,
            TermSet::Of(numbers) => term == ANY_TERM || numbers.contains(&term),
        }
    }
}

/// Returns whether damaged columns may be those of a pending version: the entry is sealed as one or, if the entry is
/// damaged too, the columns state it.
fn may_be_pending(name: &Name, columns: &Columns, stored: &[u8]) -> bool {
    let is_sealed = |slot| envelope::is_intact(stored, (name, slot), columns.revision);
    is_sealed(Slot::Pending) || (columns.slot == Slot::Pending as i64 && !is_sealed(Slot::Live))
}

/// The index of the entry in a row that begins with [`COLUMNS`].
const ENTRY_COLUMN: usize = 16;

/// The last revision of each commit by its first one, as far as the entries read state them.
type Spans = BTreeMap<Revision, Revision>;

/// A range that is being read: newest entries and departures, merged by revision.
struct RangeReader<'a> {
    snapshot: Snapshot<'a>,
    bounds: Bounds,
    /// The number of rows read so far.
    rows: usize,
    /// The revision of the last row.
    last: Revision,
    /// The size of the events so far, in bytes.
    bytes: usize,
    events: Vec<Event>,
    spans: Spans,
}

impl RangeReader<'_> {
    /// Reads the rows after the first revision, up to the second. Returns the revision at which it stopped, if it
    /// reached a bound before.
    fn read(
        &mut self,
        (after, head): (Revision, Revision),
        kinds: &[Kind],
        terms: &TermSet,
        departed_terms: Option<&TermSet>,
    ) -> Result<Option<Revision>, Error> {
        // All slots, because the slot itself may be damaged.
        let sql = format!("SELECT {COLUMNS}, entry FROM doc WHERE revision > ?1 ORDER BY revision");
        let connection = self.snapshot.connection;
        let mut statement = connection.prepare_cached(&sql)?;
        let mut entries = statement.query(params![after])?;
        let sql = "SELECT revision, term, id FROM departure WHERE revision > ?1 AND revision <= ?2
                   ORDER BY revision, term, id";
        let mut statement = connection.prepare_cached(sql)?;
        let mut departures = match departed_terms {
            Some(terms) => {
                Some(Departures { rows: statement.query([after, head])?, terms, after, next: None })
            }
            None => None,
        };
        let mut previous = after;
        while let Some(row) = entries.next()? {
            let columns = Columns::read(row)?;
            let (revision, is_intact) = (columns.revision, columns.is_intact());
            scan::check_order(&previous, &revision)?;
            previous = revision;
            if let Some(departures) = &mut departures
                && let Some(stopped_at) = self.departures_before(departures, revision)?
            {
                self.add_span(&columns, row)?;
                return Ok(Some(stopped_at));
            }
            if self.is_full() {
                self.add_span(&columns, row)?;
                return Ok(Some(revision - 1));
            }
            self.rows += 1;
            self.last = revision;
            if is_intact && columns.slot != LIVE_SLOT {
                continue;
            }
            let is_selected = !is_intact || is_selected(&columns, kinds, terms);
            if is_selected && let Some(event) = self.event(&columns, is_intact, row)? {
                let (first, last) = span(&event.newest);
                self.spans.insert(first, last);
                self.push(event);
            }
        }
        match &mut departures {
            Some(departures) => self.departures_before(departures, Revision::MAX),
            None => Ok(None),
        }
    }

    /// Adds the span of the first row that is not read. The rows before it need not state that the range ends within its
    /// commit: those that are not selected are not opened, and departures do not state their commits.
    fn add_span(&mut self, columns: &Columns, row: &Row<'_>) -> Result<(), Error> {
        let slot = if columns.slot == LIVE_SLOT { Slot::Live } else { Slot::Pending };
        let stored = row.get_ref(ENTRY_COLUMN)?.as_blob().unwrap_or_default();
        if let Some(name) = columns.name()
            && let Ok(record) = read::open(name, slot, columns.revision, stored)
        {
            let (first, last) = span(&record);
            self.spans.insert(first, last);
        }
        Ok(())
    }

    /// Returns the event of a row, or `None` if the row does not state its name, or may be that of a pending version,
    /// which followers must not learn of.
    fn event(&self, columns: &Columns, is_intact: bool, row: &Row<'_>) -> Result<Option<Event>, Error> {
        let Some(name) = columns.name() else { return Ok(None) };
        let stored = row.get_ref(ENTRY_COLUMN)?.as_blob().unwrap_or_default();
        if !is_intact && may_be_pending(&name, columns, stored) {
            return Ok(None);
        }
        match read::open(name.clone(), Slot::Live, columns.revision, stored) {
            Ok(newest) => Ok(Some(Event::from_record(newest))),
            Err(Error::Corrupt(_)) => {
                let newest = salvage::stand_in(self.snapshot.connection, &name, Slot::Live, columns)?;
                let damage = if is_intact { EventDamage::Content } else { EventDamage::All };
                Ok(Some(Event { damage, ..Event::from_record(newest) }))
            }
            Err(error) => Err(error),
        }
    }

    /// Reads the departures below a revision. Returns the revision at which it stopped, if it reached a bound.
    fn departures_before(
        &mut self,
        departures: &mut Departures<'_>,
        below: Revision,
    ) -> Result<Option<Revision>, Error> {
        loop {
            let next = match departures.next.take() {
                None => departures.read()?,
                next => next,
            };
            let Some((revision, name)) = next else { return Ok(None) };
            let must_stop = self.is_full() && revision > self.last;
            if must_stop || revision >= below {
                departures.next = Some((revision, name));
                // The entries from `below` on are not read yet.
                return Ok(must_stop.then_some(revision.min(below) - 1));
            }
            self.rows += 1;
            self.last = revision;
            if let Some(name) = name
                && self.events.last().is_none_or(|event| event.revision < revision)
                && let Some(event) = departure_event(self.snapshot, revision, &name)?
            {
                self.push(event);
            }
        }
    }

    fn is_full(&self) -> bool {
        let Bounds { rows, events, bytes } = self.bounds;
        self.rows >= rows || self.events.len() >= events || self.bytes >= bytes
    }

    fn push(&mut self, event: Event) {
        self.bytes += event.bytes();
        self.events.push(event);
    }
}

/// The rows of departures in the order of the log. An entry is of one article, so all rows of a revision are, too.
struct Departures<'a> {
    rows: Rows<'a>,
    terms: &'a TermSet,
    /// The revision after which the rows are.
    after: Revision,
    /// The row that was read and is not processed yet. It has a name if the article has left one of the lists.
    next: Option<(Revision, Option<Name>)>,
}

impl Departures<'_> {
    fn read(&mut self) -> Result<Option<(Revision, Option<Name>)>, Error> {
        let Some(row) = self.rows.next()? else { return Ok(None) };
        let is_selected = self.terms.contains(row.get(1)?);
        let revision = row.get(0)?;
        scan::check_order(&self.after, &revision)?;
        // A revision has several rows.
        self.after = revision - 1;
        let id = row.get_ref(2)?.as_str().ok().filter(|_| is_selected).and_then(Id::parse);
        Ok(Some((revision, id.map(|id| Name { kind: Kind::Article, id }))))
    }
}

/// The size of a term in memory besides its id, in bytes.
const TERM_BYTES: usize = 48;

impl Event {
    /// Creates the event of an entry.
    fn from_record(newest: Record) -> Event {
        let (revision, time) = (newest.revision, newest.log.time);
        Event::new(revision, time, newest)
    }

    fn new(revision: Revision, time: i64, mut newest: Record) -> Event {
        let Derived { terms, mut departures, departure_floor, .. } =
            Derived::of_lists(&newest.name, &newest.log);
        for (_, at) in departures.iter_mut().filter(|(_, at)| *at == 0) {
            *at = newest.revision;
        }
        newest.log.departures = Vec::new();
        Event { revision, time, newest, terms, departures, departure_floor, damage: EventDamage::None }
    }

    /// Returns whether the event is the newest one of its name.
    pub(crate) fn is_newest(&self) -> bool {
        self.revision == self.newest.revision
    }

    /// Returns whether the event is that the article may have left any list.
    pub(crate) fn leaves_any(&self) -> bool {
        self.revision == self.departure_floor
    }

    /// Returns whether the article may ever have left any list, because some of its departures are unknown.
    pub(crate) fn left_any(&self) -> bool {
        self.departure_floor > 0
    }

    /// Returns the approximate size in memory, in bytes.
    fn bytes(&self) -> usize {
        let terms = self.terms.iter().chain(self.departures.iter().map(|(term, _)| term));
        let former = self.newest.log.former_paths.iter();
        size_of::<Event>()
            + self.newest.log.content.len()
            + former.map(|former| former.path.len() + size_of_val(former)).sum::<usize>()
            + terms.map(|term| TERM_BYTES + term.id_len()).sum::<usize>()
    }
}

/// Returns the end of a range that was read up to `reached`. If `reached` is within a commit, the range ends before
/// that commit or, if it is the first one, within it. In the latter case, the second value is the last revision of the
/// commit.
fn commit_boundary(spans: &Spans, after: Revision, reached: Revision) -> (Revision, Option<Revision>) {
    match spans.range(..=reached).next_back() {
        Some((first, last)) if reached < *last && first - 1 > after => (first - 1, None),
        Some((_, last)) if reached < *last => (reached, Some(*last)),
        _ => (reached, None),
    }
}

/// Returns whether an entry is selected: its article is in one of the lists, has just left one or, if the entry is a
/// tombstone, had left one at any time.
fn is_selected(columns: &Columns, kinds: &[Kind], terms: &TermSet) -> bool {
    if !Kind::from_number(columns.kind).is_some_and(|kind| kinds.contains(&kind)) {
        return false;
    }
    if matches!(terms, TermSet::All) || columns.kind != Kind::Article as i64 {
        return true;
    }
    let departures = unpack_departures(&columns.departures);
    let (live, revision) = (columns.live, columns.revision);
    let mut departed = departures.iter().filter(|(_, at)| !live || *at == revision).map(|(term, _)| term);
    departed.any(|term| terms.contains(*term))
        || unpack_terms(&columns.terms).into_iter().any(|term| terms.contains(term))
}

/// Groups events by commit.
fn group_by_commit(snapshot: Snapshot<'_>, events: Vec<Event>, spans: &Spans) -> Result<Vec<Commit>, Error> {
    let mut commits: Vec<Commit> = Vec::new();
    for event in events {
        let known = spans.range(..=event.revision).next_back().map(|(_, last)| *last);
        let end = known.filter(|last| *last >= event.revision).unwrap_or(event.revision);
        match commits.last_mut().filter(|commit| commit.end.revision == end) {
            Some(commit) => commit.events.push(event),
            None => commits.push(Commit { events: vec![event], end: snapshot.chain_position(end)? }),
        }
    }
    Ok(commits)
}

/// Returns the event of a departure, or `None` if the article left the list with its newest entry, whose own event
/// includes the departure.
fn departure_event(snapshot: Snapshot<'_>, revision: Revision, name: &Name) -> Result<Option<Event>, Error> {
    // The lists of a damaged entry are known: they are stored beside it.
    let Some((newest, _)) = snapshot.record_or_stand_in(name, Slot::Live)? else { return Ok(None) };
    let mut statement = snapshot.connection.prepare_cached("SELECT time FROM chain WHERE revision = ?1")?;
    let time = statement.query_row([revision], |row| row.get(0)).optional()?.unwrap_or(0);
    Ok((newest.revision != revision).then(|| {
        let mut event = Event::new(revision, time, newest);
        event.newest.log.content = Bytes::new();
        event.newest.log.former_paths = Vec::new();
        event
    }))
}

/// Returns the first and the last revision of the commit that an entry belongs to.
fn span(record: &Record) -> (Revision, Revision) {
    let (index, size) = (i64::from(record.log.commit_index), i64::from(record.log.commit_size));
    (record.revision - index, record.revision + (size - index - 1).max(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        entry::Entry,
        store::{ReadOnlyStore, Writer, fixture},
        wire::log::Departure,
    };

    const MANY: Bounds = Bounds { rows: 10_000, events: 10_000, bytes: 1 << 30 };

    /// Applies entries as one commit.
    fn commit(writer: &mut Writer, entries: Vec<Entry>) {
        let size = entries.len() as u32;
        let indexed = entries.into_iter().zip(0..).map(|(mut entry, index)| {
            (entry.log.commit_index, entry.log.commit_size) = (index, size);
            Entry::new(entry.name, entry.slot, entry.log)
        });
        fixture::apply(writer, &indexed.collect::<Vec<_>>());
    }

    fn articles(ids: &[&str], tag: &str) -> Vec<Entry> {
        ids.iter().map(|id| fixture::article(id, "Storm", &[tag], 1)).collect()
    }

    fn everything() -> Selection {
        Selection { terms: Vec::new(), departed_terms: Some(Vec::new()), kinds: Kind::ALL.to_vec() }
    }

    /// The revisions of each commit, the revision reached, and the end of the commit that is incomplete.
    type Read = (Vec<Vec<Revision>>, Revision, Option<Revision>);

    fn range(dir: &std::path::Path, after: Revision, bounds: Bounds) -> HistoryRange {
        let store = ReadOnlyStore::open(dir).unwrap();
        store.read(|snapshot| snapshot.history(after, &everything(), bounds)).unwrap()
    }

    fn read(dir: &std::path::Path, after: Revision, bounds: Bounds) -> Read {
        let range = range(dir, after, bounds);
        let revisions = |commit: &Commit| commit.events.iter().map(|event| event.revision).collect();
        (range.commits.iter().map(revisions).collect(), range.reached.revision, range.within)
    }

    #[test]
    fn a_commit_above_the_bounds_is_read_in_parts() {
        let dir = tempfile::tempdir().unwrap();
        let (_store, mut writer) = fixture::open(dir.path());
        commit(&mut writer, articles(&["a", "b", "c", "d", "e"], "sea"));
        commit(&mut writer, articles(&["f"], "sea"));
        for bounds in [Bounds { events: 2, ..MANY }, Bounds { rows: 2, ..MANY }] {
            assert_eq!(read(dir.path(), 0, bounds), (vec![vec![1, 2]], 2, Some(5)));
            assert_eq!(read(dir.path(), 2, bounds), (vec![vec![3, 4]], 4, Some(5)));
            // The end of one commit and a whole one.
            assert_eq!(read(dir.path(), 4, bounds), (vec![vec![5], vec![6]], 6, None));
        }
        assert_eq!(read(dir.path(), 0, Bounds { bytes: 1, ..MANY }), (vec![vec![1]], 1, Some(5)));
        assert_eq!(read(dir.path(), 0, MANY), (vec![vec![1, 2, 3, 4, 5], vec![6]], 6, None));
    }

    #[test]
    fn a_commit_that_fits_is_never_split_between_two_reads() {
        let dir = tempfile::tempdir().unwrap();
        let (_store, mut writer) = fixture::open(dir.path());
        for ids in [["a", "b"], ["c", "d"], ["e", "f"]] {
            commit(&mut writer, articles(&ids, "sea"));
        }
        let bounds = Bounds { events: 3, ..MANY };
        assert_eq!(read(dir.path(), 0, bounds), (vec![vec![1, 2]], 2, None));
        assert_eq!(read(dir.path(), 2, bounds), (vec![vec![3, 4]], 4, None));
        assert_eq!(read(dir.path(), 4, bounds), (vec![vec![5, 6]], 6, None));
    }

    #[test]
    fn a_range_that_ends_with_a_departure_is_not_the_end_of_its_commit() {
        let dir = tempfile::tempdir().unwrap();
        let (_store, mut writer) = fixture::open(dir.path());
        commit(&mut writer, articles(&["x"], "sea"));
        let mut left = fixture::article("x", "Calm", &["ice"], 1);
        left.log.departures = vec![Departure { name: "tags/sea".into(), revision: 0 }];
        let [before, after] = ["y", "z"].map(|id| articles(&[id], "land").remove(0));
        commit(&mut writer, vec![before, left, after]);
        // A later entry of the article: at revision 3 there is only its departure.
        let mut entry = fixture::article("x", "Calm again", &["ice"], 1);
        entry.log.departures = vec![Departure { name: "tags/sea".into(), revision: 3 }];
        commit(&mut writer, vec![Entry::new(entry.name, entry.slot, entry.log)]);
        let sea = vec![Term::Tag(Id::parse("sea").unwrap())];
        let selection =
            Selection { terms: sea.clone(), departed_terms: Some(sea), kinds: vec![Kind::Article] };
        let store = ReadOnlyStore::open(dir.path()).unwrap();
        let bounds = Bounds { events: 1, ..MANY };
        let range = store.read(|snapshot| snapshot.history(1, &selection, bounds)).unwrap();
        assert_eq!((range.reached.revision, range.within), (3, Some(4)));
    }

    #[test]
    fn no_entry_before_the_next_departure_is_skipped() {
        let dir = tempfile::tempdir().unwrap();
        let (_store, mut writer) = fixture::open(dir.path());
        for id in ["a", "b", "c"] {
            commit(&mut writer, articles(&[id], "sea"));
        }
        let mut entry = fixture::article("d", "Calm", &["sea"], 1);
        entry.log.departures = vec![Departure { name: "tags/ice".into(), revision: 0 }];
        commit(&mut writer, vec![Entry::new(entry.name, entry.slot, entry.log)]);
        let bounds = Bounds { events: 1, ..MANY };
        for after in 0..4 {
            assert_eq!(read(dir.path(), after, bounds), (vec![vec![after + 1]], after + 1, None));
        }
    }

    #[test]
    fn departures_count_as_bytes_and_have_no_content() {
        let dir = tempfile::tempdir().unwrap();
        let (_store, mut writer) = fixture::open(dir.path());
        let departures = |revision, tags: std::ops::Range<usize>| {
            tags.map(move |n| Departure { name: format!("tags/{n:0>100}"), revision }).collect::<Vec<_>>()
        };
        for id in ["a", "b", "c"] {
            let mut entry = fixture::article(id, "Calm", &["sea"], 1);
            entry.log.departures = departures(0, 0..200);
            commit(&mut writer, vec![Entry::new(entry.name, entry.slot, entry.log)]);
        }
        let bounds = Bounds { bytes: 20_000, ..MANY };
        assert_eq!(read(dir.path(), 0, bounds), (vec![vec![1]], 1, None));
        // A later entry of the first article: at revision 1 there is only its departure.
        let mut entry = fixture::article("a", "Calm again", &["sea"], 1);
        entry.log.departures = departures(1, 0..200);
        commit(&mut writer, vec![Entry::new(entry.name, entry.slot, entry.log)]);
        let all = range(dir.path(), 0, MANY);
        let events: Vec<&Event> = all.commits.iter().flat_map(|commit| &commit.events).collect();
        assert_eq!(events.iter().map(|event| event.revision).collect::<Vec<_>>(), [1, 2, 3, 4]);
        assert!(events[0].newest.log.content.is_empty() && events[0].departures.len() == 200);
        assert!(!events[0].is_newest() && !events[3].newest.log.content.is_empty());
        assert_eq!(read(dir.path(), 0, bounds), (vec![vec![1]], 1, None));
        assert_eq!(read(dir.path(), 0, Bounds { rows: 2, ..MANY }).1, 1);
    }
}
