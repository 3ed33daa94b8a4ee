//! Applying entries: the only code that changes what readers see. Everything that follows from an entry, the head
//! included, moves in one transaction with it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};

use super::{
    Error, Head, Made, Store, Stripe, Subject, due,
    envelope::{self, Packed},
    erase,
    read::{self, PastRequest},
};

use crate::{
    digest::{self, Hash},
    entry::{Entry, Term},
    model::{Kind, Name, Revision, Slot},
};

/// How long a request_id is remembered, microseconds.
const REQUEST_KEPT: i64 = 24 * 3_600 * 1_000_000;

/// The one writer of a store.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(super) connection: Connection,
    pub(super) store: Arc<Store>,
    /// Numbers of terms met before. Emptied when a transaction fails: it may have made some.
    terms: HashMap<Term, i64>,
    pub(super) patience: Duration,
}

/// What to remember of a request.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    pub(crate) id: &'a str,
    pub(crate) hash: &'a Hash,
    pub(crate) made: &'a [Made],
    /// Microseconds since 1970 UTC.
    pub(crate) time: i64,
}

impl Writer {
    pub(super) fn new(connection: Connection, store: Arc<Store>) -> Writer {
        Writer { connection, store, terms: HashMap::new(), patience: erase::PATIENCE }
    }

    /// Applies entries in one transaction, and publishes what they changed once it is on disk.
    ///
    /// # Errors
    /// `Uncertain` if the commit itself failed; else nothing was written.
    pub(crate) fn transact<T>(
        &mut self,
        work: impl FnOnce(&mut Applier<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.store.check_writable()?;
        self.store.check_space().inspect_err(|error| error.report(self.store.health()))?;
        let done = transact(&mut self.connection, &mut self.terms, self.store.head().as_ref(), work);
        match done {
            Ok((answer, effect)) => {
                self.store.publish(effect);
                Ok(answer)
            }
            Err(error) => {
                self.terms.clear();
                error.report(self.store.health());
                Err(error)
            }
        }
    }
}

/// What a transaction changed for those who do not look into the store.
#[derive(Debug)]
pub(super) struct Effect {
    pub(super) head: Head,
    pub(super) changed: Vec<(Stripe, Revision)>,
    /// The earliest due time, if it may be another now.
    pub(super) due: Option<Option<i64>>,
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
        listed: BTreeMap::new(),
        moved_due: false,
    };
    let answer = work(&mut applier)?;
    let effect = applier.finish()?;
    transaction.commit().map_err(Error::of_commit)?;
    Ok((answer, effect))
}

/// One transaction's worth of applying.
#[derive(Debug)]
pub(crate) struct Applier<'a> {
    pub(super) transaction: &'a Transaction<'a>,
    terms: &'a mut HashMap<Term, i64>,
    pub(super) head: Head,
    changed: Vec<(Stripe, Revision)>,
    /// How many articles more, or fewer, stand in a term's list.
    listed: BTreeMap<i64, i64>,
    /// Whether a due time came or went.
    moved_due: bool,
}

/// What is kept beside an entry, to take its effects back.
struct Old {
    revision: Revision,
    live: bool,
    due: Option<i64>,
    time: i64,
    terms: Vec<i64>,
    hash: Hash,
    content_hash: Option<Hash>,
    departures: Vec<Departure>,
}

/// The number of a list that an article has left, and the revision.
pub(super) type Departure = (i64, Revision);

impl Applier<'_> {
    pub(crate) fn head(&self) -> &Head {
        &self.head
    }

    /// The revision of a key's newest entry; 0 if it never had any.
    pub(crate) fn current(&self, name: &Name, slot: Slot) -> Result<Revision, Error> {
        let sql = "SELECT revision FROM doc WHERE kind = ?1 AND slot = ?2 AND id = ?3";
        let mut statement = self.transaction.prepare_cached(sql)?;
        let key = params![name.kind as i64, slot as i64, name.id.as_str()];
        let found = statement.query_row(key, |row| row.get(0));
        Ok(found.optional()?.unwrap_or(0))
    }

    /// What came of a request before.
    pub(crate) fn past_request(&self, id: &str) -> Result<Option<PastRequest>, Error> {
        read::request(self.transaction, id)
    }

    /// Remembers a request, and forgets those that are too old.
    pub(crate) fn remember(&self, request: &Request<'_>) -> Result<(), Error> {
        let packed = read::pack_made(request.made);
        let forget = "DELETE FROM request WHERE time < ?1";
        self.transaction.prepare_cached(forget)?.execute([request.time - REQUEST_KEPT])?;
        let insert = "INSERT OR REPLACE INTO request VALUES(?1, ?2, ?3, ?4)";
        let row = params![request.id, request.hash, packed, request.time];
        self.transaction.prepare_cached(insert)?.execute(row)?;
        Ok(())
    }

    /// Applies the next entry of the log and returns its revision.
    pub(crate) fn apply(&mut self, entry: &Entry, packed: &Packed) -> Result<Revision, Error> {
        let revision = self.head.revision + 1;
        let old = self.old(entry)?;
        let terms = self.term_numbers(&entry.derived.terms)?;
        if entry.slot == Slot::Live {
            self.show(entry, old.as_ref(), &terms, revision)?;
        }
        self.moved_due |= entry.derived.due != old.as_ref().and_then(|old| old.due);
        let departures = self.move_departures(entry, revision, old.as_ref())?;
        self.replace(entry, packed, revision, old.as_ref(), (&terms, &departures))?;
        self.advance(entry, revision, old.as_ref())?;
        Ok(revision)
    }

    /// What readers see moves with the live slot alone: no answer rests on what waits.
    fn show(
        &mut self,
        entry: &Entry,
        old: Option<&Old>,
        terms: &[i64],
        revision: Revision,
    ) -> Result<(), Error> {
        self.changed(Subject::Name(&entry.name), revision);
        self.changed(Subject::Kind(entry.name.kind), revision);
        if entry.name.kind == Kind::Article {
            self.mark_listings(entry, old, terms, revision)?;
            self.move_listings(entry, old, terms)?;
            self.move_paths(entry, revision, old.is_some())?;
        }
        Ok(())
    }

    fn changed(&mut self, subject: Subject<'_>, revision: Revision) {
        self.changed.push((Stripe::of(subject), revision));
    }

    /// The lists that show the article, or did, have changed even where it keeps its place in them.
    fn mark_listings(
        &mut self,
        entry: &Entry,
        old: Option<&Old>,
        terms: &[i64],
        revision: Revision,
    ) -> Result<(), Error> {
        for term in &entry.derived.terms {
            self.changed(Subject::Term(term), revision);
        }
        let was = old.map_or(&[][..], |old| &old.terms);
        for number in was.iter().filter(|number| !terms.contains(number)) {
            let term = self.term(*number)?;
            self.changed(Subject::Term(&term), revision);
        }
        Ok(())
    }

    fn term(&self, number: i64) -> Result<Term, Error> {
        let mut statement = self.transaction.prepare_cached("SELECT kind, value FROM term WHERE n = ?1")?;
        let (kind, value) =
            statement.query_row([number], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))?;
        Term::from_parts(kind, &value).ok_or(Error::Failed(Arc::new(rusqlite::Error::InvalidQuery)))
    }

    fn old(&self, entry: &Entry) -> Result<Option<Old>, Error> {
        let sql = "SELECT revision, live, due, time, terms, hash, content_hash, departures
                   FROM doc WHERE kind = ?1 AND slot = ?2 AND id = ?3";
        let mut statement = self.transaction.prepare_cached(sql)?;
        let key = params![entry.name.kind as i64, entry.slot as i64, entry.name.id.as_str()];
        let old = statement.query_row(key, |row| {
            let (terms, departures): (Vec<u8>, Vec<u8>) = (row.get(4)?, row.get(7)?);
            Ok(Old {
                revision: row.get(0)?,
                live: row.get(1)?,
                due: row.get(2)?,
                time: row.get(3)?,
                terms: unpack_terms(&terms),
                hash: row.get(5)?,
                content_hash: row.get(6)?,
                departures: unpack_departures(&departures),
            })
        });
        Ok(old.optional()?)
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
        let insert = "INSERT INTO term(kind, value) VALUES(?1, ?2) ON CONFLICT DO NOTHING";
        self.transaction.prepare_cached(insert)?.execute(params![kind, value])?;
        let select = "SELECT n FROM term WHERE kind = ?1 AND value = ?2";
        let number =
            self.transaction.prepare_cached(select)?.query_row(params![kind, value], |row| row.get(0))?;
        self.terms.insert(term.clone(), number);
        Ok(number)
    }

    /// Only the rows that differ are touched: most edits change no list.
    fn move_listings(&mut self, entry: &Entry, old: Option<&Old>, terms: &[i64]) -> Result<(), Error> {
        let (was, was_at) = old.map_or((&[][..], 0), |old| (&old.terms[..], old.time));
        let (id, time) = (entry.name.id.as_str(), entry.derived.time);
        let moved = time != was_at;
        for term in was.iter().filter(|term| moved || !terms.contains(term)) {
            let delete = "DELETE FROM listing WHERE term = ?1 AND time = ?2 AND id = ?3";
            self.transaction.prepare_cached(delete)?.execute(params![term, was_at, id])?;
            *self.listed.entry(*term).or_default() -= 1;
        }
        for term in terms.iter().filter(|term| moved || !was.contains(term)) {
            let insert = "INSERT INTO listing VALUES(?1, ?2, ?3)";
            self.transaction.prepare_cached(insert)?.execute(params![term, time, id])?;
            *self.listed.entry(*term).or_default() += 1;
        }
        Ok(())
    }

    /// Notes what the article has left, and when. Rows that stay are not touched.
    fn move_departures(
        &mut self,
        entry: &Entry,
        revision: Revision,
        old: Option<&Old>,
    ) -> Result<Vec<Departure>, Error> {
        let mut departures = Vec::with_capacity(entry.derived.left.len());
        for (term, at) in &entry.derived.left {
            departures.push((self.term_number(term)?, if *at == 0 { revision } else { *at }));
        }
        let id = entry.name.id.as_str();
        let was = old.map_or(&[][..], |old| &old.departures);
        for (term, at) in was.iter().filter(|departure| !departures.contains(departure)) {
            let delete = "DELETE FROM departure WHERE revision = ?1 AND term = ?2 AND id = ?3";
            self.transaction.prepare_cached(delete)?.execute(params![at, term, id])?;
        }
        for (term, at) in departures.iter().filter(|departure| !was.contains(departure)) {
            let insert = "INSERT INTO departure VALUES(?1, ?2, ?3)";
            self.transaction.prepare_cached(insert)?.execute(params![at, term, id])?;
        }
        Ok(departures)
    }

    fn move_paths(&mut self, entry: &Entry, revision: Revision, is_update: bool) -> Result<(), Error> {
        let id = entry.name.id.as_str();
        if is_update {
            let transaction = self.transaction;
            let mut delete = transaction.prepare_cached("DELETE FROM path WHERE id = ?1 RETURNING path")?;
            for path in delete.query_map([id], |row| row.get::<_, String>(0))? {
                self.changed(Subject::Path(&path?), revision);
            }
        }
        for (path, own) in &entry.derived.paths {
            self.changed(Subject::Path(path), revision);
            let insert = "INSERT INTO path VALUES(?1, ?2, ?3, ?4)";
            self.transaction.prepare_cached(insert)?.execute(params![path, id, own, revision])?;
        }
        Ok(())
    }

    fn replace(
        &self,
        entry: &Entry,
        packed: &Packed,
        revision: Revision,
        old: Option<&Old>,
        (terms, departures): (&[i64], &[Departure]),
    ) -> Result<(), Error> {
        if let Some(old) = old {
            self.transaction
                .prepare_cached("DELETE FROM doc WHERE revision = ?1")?
                .execute([old.revision])?;
        }
        let insert = "INSERT INTO doc VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";
        self.transaction.prepare_cached(insert)?.execute(params![
            revision,
            entry.name.kind as i64,
            entry.slot as i64,
            entry.name.id.as_str(),
            entry.derived.live,
            entry.derived.due,
            entry.derived.time,
            pack_terms(terms),
            entry.hash,
            entry.derived.content_hash,
            pack_departures(departures),
            envelope::seal(packed, (&entry.name, entry.slot), revision),
        ])?;
        Ok(())
    }

    /// Moves the head: revision, chain, counts and both digests.
    fn advance(&mut self, entry: &Entry, revision: Revision, old: Option<&Old>) -> Result<(), Error> {
        let head = &mut self.head;
        let (name, slot) = (&entry.name, entry.slot);
        if let Some(old) = old.filter(|old| old.live) {
            head.log_digest.remove(&digest::record_hash(name, slot, old.revision, &old.hash));
        }
        if entry.derived.live {
            head.log_digest.add(&digest::record_hash(name, slot, revision, &entry.hash));
        }
        if let Some(content_hash) = old.and_then(|old| old.content_hash) {
            head.content_digest.remove(&content_hash);
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

    fn finish(self) -> Result<Effect, Error> {
        let mut count =
            self.transaction.prepare_cached("UPDATE term SET articles = articles + ?1 WHERE n = ?2")?;
        for (term, more) in self.listed.iter().filter(|(_, more)| **more != 0) {
            count.execute([more, term])?;
        }
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
        let due = if self.moved_due { Some(due::next(self.transaction)?) } else { None };
        Ok(Effect { head: self.head, changed: self.changed, due })
    }
}

fn pack_terms(terms: &[i64]) -> Vec<u8> {
    terms.iter().flat_map(|term| u32::try_from(*term).unwrap_or(u32::MAX).to_le_bytes()).collect()
}

fn pack_departures(departures: &[Departure]) -> Vec<u8> {
    let mut packed = Vec::with_capacity(12 * departures.len());
    for (term, revision) in departures {
        packed.extend(u32::try_from(*term).unwrap_or(u32::MAX).to_le_bytes());
        packed.extend(revision.to_le_bytes());
    }
    packed
}

pub(super) fn unpack_departures(packed: &[u8]) -> Vec<Departure> {
    let departure = |bytes: &[u8]| {
        let (term, revision) = bytes.split_first_chunk::<4>()?;
        Some((i64::from(u32::from_le_bytes(*term)), Revision::from_le_bytes(revision.try_into().ok()?)))
    };
    packed.chunks_exact(12).filter_map(departure).collect()
}

pub(super) fn unpack_terms(packed: &[u8]) -> Vec<i64> {
    let term = |bytes: &[u8]| bytes.try_into().map_or(0, |bytes| i64::from(u32::from_le_bytes(bytes)));
    packed.chunks_exact(4).map(term).collect()
}
