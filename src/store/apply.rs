//! Application of entries: the only code that changes the state that readers see. Everything derived from an entry,
//! including the head, moves in one transaction with it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};

use super::{
    Error, Head, Snapshot, Store, Stripe, Subject, due,
    envelope::{self, Packed},
    erase,
    ledger::Superseded,
    request,
    row::{self, Columns},
    session::Session,
};

use crate::{
    digest::{self, Hash},
    entry::{Derived, Entry, Term},
    model::{Kind, Name, Revision, Slot},
};

/// The maximum number of terms whose numbers the writer caches: 8 MB of the longest ones. Above it, all are dropped.
const MAX_CACHED_TERMS: usize = 1 << 15;

/// The steps of SQLite's virtual machine after which the pulse of the writer beats: some 0.1 ms.
const STEPS_PER_PULSE: i32 = 1_000;

/// The term of a departure that represents all unknown departures.
pub(super) const ANY_TERM: i64 = 0;

/// The one writer of a store.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(super) connection: Connection,
    pub(super) store: Arc<Store>,
    /// The numbers of terms used before, at most [`MAX_CACHED_TERMS`]. Emptied when a transaction fails, because it may
    /// have created some.
    terms: HashMap<Term, i64>,
    pub(super) reader_timeout: Duration,
    session: Session,
    last_commit: Duration,
    /// Counts the steps of the writer, so that a long job can be distinguished from one that hangs.
    pulse: Arc<AtomicU64>,
}

impl Writer {
    pub(super) fn new(mut connection: Connection, store: Arc<Store>, session: Session) -> Writer {
        let pulse = Arc::new(AtomicU64::new(0));
        let beat = pulse.clone();
        let handler = move || {
            beat.fetch_add(1, Relaxed);
            false
        };
        if let Err(error) = connection.progress_handler(STEPS_PER_PULSE, Some(handler)) {
            tracing::warn!(%error, "progress of long writes not followed");
        }
        Writer {
            connection,
            store,
            terms: HashMap::new(),
            reader_timeout: erase::READER_TIMEOUT,
            session,
            last_commit: Duration::ZERO,
            pulse,
        }
    }

    /// Returns the count of the writer's steps.
    pub(crate) fn pulse(&self) -> Arc<AtomicU64> {
        self.pulse.clone()
    }

    /// Checks that the disk has space for puts.
    ///
    /// # Errors
    /// Fails with `Full` if the free space is the reserve, which is for operations that free space.
    pub(crate) fn check_space(&self) -> Result<(), Error> {
        self.store.check_space().inspect_err(|error| error.report(self.store.health()))
    }

    /// Returns how long the last commit took, most of which is the sync.
    pub(crate) fn last_commit(&self) -> Duration {
        self.last_commit
    }

    /// Returns the newest revision that is on disk.
    pub(crate) fn head_revision(&self) -> Revision {
        self.store.revision()
    }

    /// Applies entries in one transaction, and publishes their effect once it is on disk.
    ///
    /// # Errors
    /// Fails with `Uncertain` if the commit itself failed for a reason other than lack of space; otherwise nothing was
    /// written.
    pub(crate) fn transact<T>(
        &mut self,
        work: impl FnOnce(&mut Applier<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.store.check_writable()?;
        let done = transact(&mut self.connection, &mut self.terms, self.store.head().as_ref(), work);
        match done {
            Ok((result, effect)) => {
                self.session.record(&effect.head);
                self.last_commit = effect.commit_time;
                self.store.publish(effect);
                Ok(result)
            }
            Err(error) => {
                self.terms.clear();
                error.report(self.store.health());
                Err(error)
            }
        }
    }
}

/// The effect of a transaction on the state outside the database.
#[derive(Debug)]
pub(super) struct Effect {
    pub(super) head: Head,
    pub(super) changed: Vec<(Stripe, Revision)>,
    pub(super) superseded: Vec<Superseded>,
    pub(super) next_due: NextDue,
    /// The time of the commit, most of which is the sync.
    pub(super) commit_time: Duration,
}

/// The effect of a transaction on the earliest due time.
#[derive(Debug)]
pub(super) enum NextDue {
    Unchanged,
    /// The time may be another one now, in microseconds since 1970 UTC. `None` if nothing is scheduled.
    Updated(Option<i64>),
}

fn transact<T>(
    connection: &mut Connection,
    terms: &mut HashMap<Term, i64>,
    head: &Head,
    work: impl FnOnce(&mut Applier<'_>) -> Result<T, Error>,
) -> Result<(T, Effect), Error> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut applier = Applier {
        transaction: &transaction,
        terms,
        head: head.clone(),
        changed: Vec::new(),
        superseded: Vec::new(),
        term_deltas: BTreeMap::new(),
        due_changed: false,
    };
    let result = work(&mut applier)?;
    let mut effect = applier.finish(head)?;
    let start = Instant::now();
    transaction.commit().map_err(Error::from_commit)?;
    effect.commit_time = start.elapsed();
    Ok((result, effect))
}

/// The application of entries in one transaction.
#[derive(Debug)]
pub(crate) struct Applier<'a> {
    pub(super) transaction: &'a Transaction<'a>,
    terms: &'a mut HashMap<Term, i64>,
    pub(super) head: Head,
    changed: Vec<(Stripe, Revision)>,
    superseded: Vec<Superseded>,
    /// The rows added and removed, by term.
    term_deltas: BTreeMap<i64, TermDelta>,
    /// Whether a due time was added or removed.
    due_changed: bool,
}

/// The columns beside an entry, which are needed to undo its effects.
struct PreviousRow {
    revision: Revision,
    live: bool,
    due: Option<i64>,
    time: i64,
    terms: Vec<i64>,
    hash: Hash,
    content_hash: Option<Hash>,
    departures: Vec<DepartureRow>,
    /// Whether the columns are damaged. The lists that the article is in or has left then have to be looked up in the
    /// tables of lists and departures.
    is_damaged: bool,
}

/// The number of a list that an article has left, and the revision.
pub(super) type DepartureRow = (i64, Revision);

/// The rows that a transaction adds to those of a term.
#[derive(Debug, Clone, Copy, Default)]
struct TermDelta {
    articles: i64,
    departures: i64,
}

impl Applier<'_> {
    pub(crate) fn head(&self) -> &Head {
        &self.head
    }

    /// Returns the revision of a key's newest entry; 0 if it never had any.
    pub(crate) fn current_revision(&self, name: &Name, slot: Slot) -> Result<Revision, Error> {
        Ok(row::revision(self.transaction, name, slot)?.unwrap_or(0))
    }

    /// Returns the outcome of a request that was committed before.
    pub(crate) fn find_request(&self, id: &str, now: i64) -> Result<Option<request::PastRequest>, Error> {
        Snapshot::within(self.transaction).find_request(id, now)
    }

    /// Returns the live article whose own path this is, by the path's normal form.
    pub(crate) fn path_owner(&self, path: &str) -> Result<Option<Name>, Error> {
        Ok(Snapshot::within(self.transaction).path_owners(path)?.into_iter().next())
    }

    /// Applies the next entry of the log and returns its revision.
    pub(crate) fn apply(&mut self, entry: &Entry, packed: &Packed) -> Result<Revision, Error> {
        let revision = self.head.revision + 1;
        let old = self.previous_row(entry)?;
        let terms = self.term_numbers(&entry.derived.terms)?;
        if entry.slot == Slot::Live {
            self.update_live_state(entry, old.as_ref(), &terms, revision)?;
        }
        let due = old.as_ref().and_then(|old| old.due);
        self.due_changed |= entry.slot == Slot::Pending || entry.derived.due != due;
        let departures = self.update_departures(entry, revision, old.as_ref())?;
        self.replace(entry, packed, revision, old.as_ref(), (&terms, &departures))?;
        self.advance_head(entry, revision, old.as_ref())?;
        Ok(revision)
    }

    /// Updates the state that readers see. Only the live slot changes it: no response depends on a pending version.
    fn update_live_state(
        &mut self,
        entry: &Entry,
        old: Option<&PreviousRow>,
        terms: &[i64],
        revision: Revision,
    ) -> Result<(), Error> {
        self.mark_changed(Subject::Name(&entry.name), revision);
        self.mark_changed(Subject::Kind(entry.name.kind), revision);
        if entry.name.kind == Kind::Article {
            self.mark_lists_changed(entry, old, terms, revision)?;
            self.update_listings(entry, old, terms)?;
            self.update_paths(entry, revision, old.is_some())?;
            self.hold_pending(entry, revision)?;
        }
        Ok(())
    }

    fn mark_changed(&mut self, subject: Subject<'_>, revision: Revision) {
        self.changed.push((Stripe::of(subject), revision));
    }

    /// Marks the lists that contain the article, or did, as changed, even if its order in them stays the same.
    fn mark_lists_changed(
        &mut self,
        entry: &Entry,
        old: Option<&PreviousRow>,
        terms: &[i64],
        revision: Revision,
    ) -> Result<(), Error> {
        for term in &entry.derived.terms {
            self.mark_changed(Subject::Term(term), revision);
        }
        let was = old.map_or(&[][..], |old| &old.terms);
        for number in was.iter().filter(|number| !terms.contains(number)) {
            if let Some(term) = self.term(*number)? {
                self.mark_changed(Subject::Term(&term), revision);
            }
        }
        Ok(())
    }

    fn term(&self, number: i64) -> Result<Option<Term>, Error> {
        let mut statement = self.transaction.prepare_cached("SELECT kind, value FROM term WHERE n = ?1")?;
        let parts = statement.query_row([number], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)));
        Ok(parts.optional()?.and_then(|(kind, value)| Term::from_parts(kind, &value)))
    }

    fn previous_row(&self, entry: &Entry) -> Result<Option<PreviousRow>, Error> {
        let Some(columns) = row::columns(self.transaction, &entry.name, entry.slot)? else { return Ok(None) };
        let is_damaged = !columns.is_intact();
        let mut old = PreviousRow {
            revision: columns.revision,
            live: columns.live,
            due: columns.due,
            time: columns.time,
            terms: unpack_terms(&columns.terms),
            hash: columns.hash,
            content_hash: columns.content_hash,
            departures: unpack_departures(&columns.departures),
            is_damaged,
        };
        if is_damaged {
            self.repair_columns(&mut old, entry)?;
        }
        Ok(Some(old))
    }

    /// Corrects damaged columns from the entry beside them, as far as that is intact.
    fn repair_columns(&self, old: &mut PreviousRow, entry: &Entry) -> Result<(), Error> {
        let sql = "SELECT entry FROM doc WHERE revision = ?1";
        let stored: Vec<u8> =
            self.transaction.query_row(sql, [old.revision], |row| Ok(row.get(0).unwrap_or_default()))?;
        let opened = envelope::open(&stored, (&entry.name, entry.slot), old.revision).ok();
        if let Some(was) = opened.and_then(|bytes| Entry::decode(bytes).ok()) {
            (old.live, old.due, old.time) = (was.derived.live, was.derived.due, was.derived.time);
            (old.hash, old.content_hash) = (was.hash, was.derived.content_hash);
        }
        Ok(())
    }

    fn term_numbers(&mut self, terms: &[Term]) -> Result<Vec<i64>, Error> {
        let mut numbers = terms.iter().map(|term| self.term_number(term)).collect::<Result<Vec<_>, _>>()?;
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn term_number(&mut self, term: &Term) -> Result<i64, Error> {
        if let Some(number) = self.terms.get(term) {
            return Ok(*number);
        }
        let (kind, value) = term.parts();
        let key = params![kind, value];
        let select = "SELECT n FROM term WHERE kind = ?1 AND value = ?2";
        let known = self.transaction.prepare_cached(select)?.query_row(key, |row| row.get(0)).optional()?;
        let insert = "INSERT INTO term(kind, value) VALUES(?1, ?2) RETURNING n";
        let number = match known {
            Some(number) => number,
            None => self.transaction.prepare_cached(insert)?.query_row(key, |row| row.get(0))?,
        };
        if self.terms.len() >= MAX_CACHED_TERMS {
            self.terms.clear();
        }
        self.terms.insert(term.clone(), number);
        Ok(number)
    }

    fn term_delta(&mut self, term: i64) -> &mut TermDelta {
        self.term_deltas.entry(term).or_default()
    }

    /// Deletes a departure.
    pub(super) fn drop_departure(&mut self, id: &str, (term, at): DepartureRow) -> Result<(), Error> {
        let delete = "DELETE FROM departure WHERE revision = ?1 AND term = ?2 AND id = ?3";
        self.transaction.prepare_cached(delete)?.execute(params![at, term, id])?;
        self.term_delta(term).departures -= 1;
        Ok(())
    }

    /// Deletes all departures of an article whose own columns are damaged. It scans the whole store.
    fn drop_all_departures(&mut self, id: &str) -> Result<(), Error> {
        let transaction = self.transaction;
        let mut delete = transaction.prepare_cached("DELETE FROM departure WHERE id = ?1 RETURNING term")?;
        for term in delete.query_map([id], |row| row.get(0))? {
            self.term_delta(term?).departures -= 1;
        }
        Ok(())
    }

    /// Updates the lists of an article. Only the rows that differ are touched: most edits change no list.
    fn update_listings(
        &mut self,
        entry: &Entry,
        old: Option<&PreviousRow>,
        terms: &[i64],
    ) -> Result<(), Error> {
        let (id, time) = (entry.name.id.as_str(), entry.derived.time);
        if old.is_some_and(|old| old.is_damaged) {
            self.remove_from_all_lists(id)?;
        }
        let old = old.filter(|old| !old.is_damaged);
        let (was, was_at) = old.map_or((&[][..], 0), |old| (&old.terms[..], old.time));
        let moved = time != was_at;
        for term in was.iter().filter(|term| moved || !terms.contains(term)) {
            let delete = "DELETE FROM listing WHERE term = ?1 AND time = ?2 AND id = ?3";
            self.transaction.prepare_cached(delete)?.execute(params![term, was_at, id])?;
            self.term_delta(*term).articles -= 1;
        }
        for term in terms.iter().filter(|term| moved || !was.contains(term)) {
            let insert = "INSERT INTO listing VALUES(?1, ?2, ?3)";
            self.transaction.prepare_cached(insert)?.execute(params![term, time, id])?;
            self.term_delta(*term).articles += 1;
        }
        Ok(())
    }

    /// Removes an article from all lists. It scans all lists of the store, for an article whose own columns are
    /// damaged.
    fn remove_from_all_lists(&mut self, id: &str) -> Result<(), Error> {
        let transaction = self.transaction;
        let mut delete = transaction.prepare_cached("DELETE FROM listing WHERE id = ?1 RETURNING term")?;
        for term in delete.query_map([id], |row| row.get(0))? {
            self.term_delta(term?).articles -= 1;
        }
        Ok(())
    }

    /// Records the lists that the article has left, and when. Rows that remain are not touched.
    fn update_departures(
        &mut self,
        entry: &Entry,
        revision: Revision,
        old: Option<&PreviousRow>,
    ) -> Result<Vec<DepartureRow>, Error> {
        let Derived { departures: derived_departures, departure_floor, .. } = &entry.derived;
        let mut departures = Vec::with_capacity(derived_departures.len() + 1);
        departures.extend((*departure_floor > 0).then_some((ANY_TERM, *departure_floor)));
        for (term, at) in derived_departures {
            departures.push((self.term_number(term)?, if *at == 0 { revision } else { *at }));
        }
        departures.sort_unstable();
        let id = entry.name.id.as_str();
        if entry.slot == Slot::Live && old.is_some_and(|old| old.is_damaged) {
            self.drop_all_departures(id)?;
        }
        let was = old.filter(|old| !old.is_damaged).map_or(&[][..], |old| &old.departures);
        for departure in was.iter().filter(|departure| departures.binary_search(departure).is_err()) {
            self.drop_departure(id, *departure)?;
        }
        for (term, at) in departures.iter().filter(|departure| was.binary_search(departure).is_err()) {
            let insert = "INSERT INTO departure VALUES(?1, ?2, ?3)";
            self.transaction.prepare_cached(insert)?.execute(params![at, term, id])?;
            self.term_delta(*term).departures += 1;
        }
        Ok(departures)
    }

    fn update_paths(&mut self, entry: &Entry, revision: Revision, is_update: bool) -> Result<(), Error> {
        let id = entry.name.id.as_str();
        if is_update {
            let transaction = self.transaction;
            let mut delete = transaction.prepare_cached("DELETE FROM path WHERE id = ?1 RETURNING path")?;
            for path in delete.query_map([id], |row| row.get::<_, String>(0))? {
                self.mark_changed(Subject::Path(&path?), revision);
            }
        }
        for (path, claim) in &entry.derived.paths {
            self.mark_changed(Subject::Path(path), revision);
            let (rank, place) = claim.order(revision);
            let insert = "INSERT INTO path VALUES(?1, ?2, ?3, ?4, ?5)";
            self.transaction.prepare_cached(insert)?.execute(params![path, id, rank, place, revision])?;
        }
        Ok(())
    }

    /// Holds the pending version of an article if the live version is not the one that it is based on: it would
    /// overwrite a version that its editor has not seen.
    fn hold_pending(&mut self, entry: &Entry, revision: Revision) -> Result<(), Error> {
        let version = due::LiveVersion::of(entry.derived.live, revision, entry.derived.base);
        let sql = "UPDATE doc SET held = (base IS NULL OR (base != ?1 AND (base != 0 OR ?2)))
                   WHERE kind = 1 AND slot = 2 AND id = ?3 AND live = 1";
        let mut update = self.transaction.prepare_cached(sql)?;
        let id = entry.name.id.as_str();
        let held = update.execute(params![version.revision, version.holds_first_versions, id])?;
        self.due_changed |= held > 0;
        Ok(())
    }

    fn replace(
        &self,
        entry: &Entry,
        packed: &Packed,
        revision: Revision,
        old: Option<&PreviousRow>,
        (terms, departures): (&[i64], &[DepartureRow]),
    ) -> Result<(), Error> {
        if let Some(old) = old {
            self.transaction
                .prepare_cached("DELETE FROM doc WHERE revision = ?1")?
                .execute([old.revision])?;
        }
        let mut columns = Columns {
            revision,
            kind: entry.name.kind as i64,
            slot: entry.slot as i64,
            id: entry.name.id.to_string(),
            live: entry.derived.live,
            reason: if entry.derived.live { 0 } else { i64::from(entry.log.reason) },
            due: entry.derived.due,
            time: entry.derived.time,
            terms: pack_terms(terms),
            hash: entry.hash,
            content_hash: entry.derived.content_hash,
            departures: pack_departures(departures),
            base: entry.derived.base,
            wanted_path: entry.derived.wanted_path.clone(),
            sum: 0,
        };
        columns.sum = columns.checksum();
        let held = due::must_hold(self.transaction, entry)?;
        let sealed = envelope::seal(packed, (&entry.name, entry.slot), revision);
        row::insert(self.transaction, &columns, held, &sealed)
    }

    /// Moves the head: revision, chain, counts and both digests.
    fn advance_head(
        &mut self,
        entry: &Entry,
        revision: Revision,
        old: Option<&PreviousRow>,
    ) -> Result<(), Error> {
        let head = &mut self.head;
        let (name, slot) = (&entry.name, entry.slot);
        if let Some(old) = old.filter(|old| old.live) {
            head.log_digest.remove(&digest::record_hash(name, slot, old.revision, &old.hash));
        }
        if entry.derived.live {
            head.log_digest.add(&digest::record_hash(name, slot, revision, &entry.hash));
        }
        if let Some((content_hash, old_revision)) =
            old.and_then(|old| Some((old.content_hash?, old.revision)))
        {
            head.content_digest.remove(&content_hash);
            self.superseded.push(Superseded { content_hash, revision: old_revision, by: revision });
            *head.live_mut(name.kind) -= 1;
        }
        if let Some(content_hash) = entry.derived.content_hash {
            head.content_digest.add(&content_hash);
            *head.live_mut(name.kind) += 1;
        }
        head.chain = digest::link(&head.chain, revision, (name, slot), entry.log.operation(), &entry.hash);
        head.revision = revision;
        let insert = "INSERT INTO chain VALUES(?1, ?2, ?3)";
        self.transaction.prepare_cached(insert)?.execute(params![revision, head.chain, entry.log.time])?;
        Ok(())
    }

    /// Updates the use counts of terms, and deletes the terms that are no longer used.
    fn count_terms(&mut self) -> Result<(), Error> {
        let count = "UPDATE term SET articles = articles + ?1, departures = departures + ?2 WHERE n = ?3";
        let mut count = self.transaction.prepare_cached(count)?;
        let delete =
            "DELETE FROM term WHERE n = ?1 AND articles = 0 AND departures = 0 RETURNING kind, value";
        let mut delete = self.transaction.prepare_cached(delete)?;
        for (term, delta) in &self.term_deltas {
            count.execute([delta.articles, delta.departures, *term])?;
            let deleted = delete.query_row([term], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)));
            if let Some((kind, value)) = deleted.optional()? {
                Term::from_parts(kind, &value).and_then(|term| self.terms.remove(&term));
            }
        }
        Ok(())
    }

    fn finish(mut self, before: &Head) -> Result<Effect, Error> {
        self.count_terms()?;
        if self.head != *before {
            self.write_head()?;
        }
        let next_due = if self.due_changed {
            NextDue::Updated(due::next(self.transaction)?)
        } else {
            NextDue::Unchanged
        };
        let commit_time = Duration::ZERO;
        Ok(Effect {
            head: self.head,
            changed: self.changed,
            superseded: self.superseded,
            next_due,
            commit_time,
        })
    }

    fn write_head(&self) -> Result<(), Error> {
        let head = &self.head;
        let [articles, authors, sections, tags, collections] = head.live;
        let update =
            "UPDATE head SET revision = ?1, chain = ?2, floor = ?3, log_digest = ?4, content_digest = ?5,
                      articles = ?6, authors = ?7, sections = ?8, tags = ?9, collections = ?10";
        self.transaction.prepare_cached(update)?.execute(params![
            head.revision,
            head.chain,
            head.floor,
            head.log_digest.to_bytes(),
            head.content_digest.to_bytes(),
            articles,
            authors,
            sections,
            tags,
            collections,
        ])?;
        Ok(())
    }
}

fn pack_terms(terms: &[i64]) -> Vec<u8> {
    terms.iter().flat_map(|term| term.to_le_bytes()).collect()
}

fn pack_departures(departures: &[DepartureRow]) -> Vec<u8> {
    departures.iter().flat_map(|(term, at)| [*term, *at]).flat_map(i64::to_le_bytes).collect()
}

pub(super) fn unpack_departures(packed: &[u8]) -> Vec<DepartureRow> {
    unpack_terms(packed).chunks_exact(2).map(|pair| (pair[0], pair[1])).collect()
}

pub(super) fn unpack_terms(packed: &[u8]) -> Vec<i64> {
    packed.chunks_exact(8).map(|bytes| bytes.try_into().map_or(0, i64::from_le_bytes)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{HashPrefix, Id},
        store::{
            WriteOutcome,
            fixture::{apply, article, faults, name, open, removal, snapshot},
            floor::History,
            history,
            request::{MAX_CHANGES, MAX_DROPPED, RETENTION},
        },
        wire::{log::Departure, v1::RemovalReason},
    };

    fn count(writer: &Writer, sql: &str) -> i64 {
        writer.connection.query_row(sql, [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn requests_are_bounded_by_their_number_of_changes() {
        let dir = tempfile::tempdir().unwrap();
        let (_store, mut writer) = open(dir.path());
        let one = WriteOutcome {
            name: name("a"),
            revision: 1,
            prefix: HashPrefix(7),
            changed: true,
            slot: Slot::Live,
            due: None,
            removed: false,
            killed: false,
            path_owner: None,
        };
        let outcomes = vec![one; 5_000];
        let record = |writer: &mut Writer, n: i64, outcomes: &[WriteOutcome]| {
            let request =
                |applier: &mut Applier<'_>| applier.record_request(&format!("r{n}"), &[0; 32], outcomes, n);
            writer.transact(request).unwrap();
        };
        let is_stored =
            |writer: &Writer, n| snapshot(writer).find_request(&format!("r{n}"), 0).unwrap().is_some();
        for n in 1..=MAX_CHANGES / 5_000 {
            record(&mut writer, n, &outcomes);
        }
        // A request without a change counts as one.
        record(&mut writer, 1_000, &[]);
        assert_eq!(count(&writer, "SELECT max(n) FROM request"), MAX_CHANGES + 1);
        assert!(is_stored(&writer, 1), "some of its changes are among the last million");
        record(&mut writer, 1_001, &outcomes);
        assert!(!is_stored(&writer, 1) && is_stored(&writer, 2) && is_stored(&writer, 1_001));
    }

    #[test]
    fn a_write_drops_some_of_the_expired_requests() {
        let dir = tempfile::tempdir().unwrap();
        let (_store, mut writer) = open(dir.path());
        let mut record = |ids: std::ops::Range<i64>, time: i64| {
            let all = |applier: &mut Applier<'_>| {
                ids.into_iter()
                    .try_for_each(|n| applier.record_request(&format!("r{n}"), &[0; 32], &[], time))
            };
            writer.transact(all).unwrap();
            count(&writer, "SELECT count(*) FROM request")
        };
        assert_eq!(record(0..200, 1), 200);
        assert_eq!(record(200..201, RETENTION + 1), 201);
        assert_eq!(record(201..202, RETENTION + 2), 202 - MAX_DROPPED);
        assert_eq!(record(202..210, RETENTION + 2), 10);
    }

    #[test]
    fn an_expired_request_is_not_found_although_its_row_exists() {
        let dir = tempfile::tempdir().unwrap();
        let (_store, mut writer) = open(dir.path());
        writer.transact(|applier| applier.record_request("r", &[7; 32], &[], 5)).unwrap();
        let at = |now| snapshot(&writer).find_request("r", now).unwrap();
        assert_eq!(at(RETENTION + 5).map(|past| past.hash), Some([7; 32]));
        assert_eq!(at(RETENTION + 6), None);
        assert_eq!(count(&writer, "SELECT count(*) FROM request"), 1);
    }

    #[test]
    fn the_writer_caches_a_bounded_number_of_terms() {
        let dir = tempfile::tempdir().unwrap();
        let (_store, mut writer) = open(dir.path());
        let fill = |applier: &mut Applier<'_>| {
            (0..=MAX_CACHED_TERMS as i32).try_for_each(|n| applier.term_number(&Term::Type(n)).map(|_| ()))
        };
        writer.transact(fill).unwrap();
        assert_eq!(writer.terms.len(), 1);
    }

    #[test]
    fn an_unused_term_is_deleted_and_can_be_created_again() {
        let dir = tempfile::tempdir().unwrap();
        let (_store, mut writer) = open(dir.path());
        let tags = |writer: &Writer| count(writer, "SELECT count(*) FROM term WHERE kind = 1");
        let departing = |id: &str, tags: &[&str], departures: &[(&str, Revision)]| {
            let mut log = article(id, "A", tags, 1).log;
            let departures = departures
                .iter()
                .map(|(tag, revision)| Departure { name: format!("tags/{tag}"), revision: *revision });
            log.departures = departures.collect();
            Entry::new(name(id), Slot::Live, log)
        };
        apply(&mut writer, &[article("a", "A", &["t", "u"], 1), article("b", "A", &["u"], 1)]);
        assert_eq!(tags(&writer), 2);
        apply(&mut writer, &[departing("a", &["u"], &[("t", 0)])]);
        assert_eq!(tags(&writer), 2, "a departure still uses the tag");
        apply(&mut writer, &[article("a", "A", &["u"], 1)]);
        assert_eq!(
            (tags(&writer), writer.terms.contains_key(&Term::Tag(Id::parse("t").unwrap()))),
            (1, false)
        );
        // Also within one transaction.
        apply(&mut writer, &[article("a", "A", &["v"], 1), article("a", "A", &["t"], 1)]);
        assert_eq!(tags(&writer), 2);
        assert_eq!(faults(dir.path()), Vec::<String>::new());

        apply(
            &mut writer,
            &[removal("a", RemovalReason::Deleted, 2), removal("b", RemovalReason::Deleted, 2)],
        );
        writer.compact(1_000, &History { age: Duration::ZERO, entries: 0 }).unwrap();
        assert_eq!(count(&writer, "SELECT count(*) FROM term"), 0);
        assert_eq!(faults(dir.path()), Vec::<String>::new());
    }

    #[test]
    fn the_floor_of_an_article_is_found_by_its_revision() {
        let dir = tempfile::tempdir().unwrap();
        let (_store, mut writer) = open(dir.path());
        apply(&mut writer, &[article("a", "A", &["t"], 1), article("a", "B", &["u"], 1)]);
        let mut log = article("a", "C", &["v"], 1).log;
        log.departure_floor = 2;
        apply(&mut writer, &[Entry::new(name("a"), Slot::Live, log)]);
        assert_eq!(faults(dir.path()), Vec::<String>::new());
        let bounds = history::Bounds { rows: 10, events: 10, bytes: 1_000 };
        let departures = |after, tag: &str| {
            let terms = vec![Term::Tag(Id::parse(tag).unwrap())];
            let selection = history::Selection {
                terms: terms.clone(),
                departed_terms: Some(terms),
                kinds: vec![Kind::Article],
            };
            let range = snapshot(&writer).history(after, &selection, bounds).unwrap();
            let events = range.commits.into_iter().flat_map(|commit| commit.events);
            events.map(|event| event.revision).collect::<Vec<_>>()
        };
        for tag in ["t", "u", "never"] {
            assert_eq!([0, 1, 2].map(|after| departures(after, tag)), [vec![2], vec![2], vec![]], "{tag}");
        }
        // The next entry resets the floor.
        apply(&mut writer, &[article("a", "D", &["v"], 1)]);
        assert_eq!(count(&writer, "SELECT count(*) FROM departure"), 0);
        assert_eq!(faults(dir.path()), Vec::<String>::new());
    }
}
