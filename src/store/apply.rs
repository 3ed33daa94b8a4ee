//! Application of entries: the only code that changes the state that readers see. Everything derived from an entry,
//! including the head, moves in one transaction with it.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use super::{
    Error, Head, Snapshot, Stripe, Subject, due,
    envelope::{self, Packed},
    ledger::Superseded,
    request,
    row::{self, Columns, DepartureRow, pack_departures, pack_terms},
};
use crate::{
    digest,
    entry::{Entry, Term},
    model::{Kind, Name, Revision, Slot},
};

mod lists;
mod previous;

use lists::TermDelta;
use previous::PreviousRow;

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

/// Runs work in a transaction that starts from a head, and commits it.
pub(super) fn transact<T>(
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

    /// Returns the name that a removed name has moved to. A record that cannot be read leads nowhere.
    pub(crate) fn moved_to(&self, name: &Name) -> Result<Option<Name>, Error> {
        match Snapshot::within(self.transaction).newest(name, Slot::Live) {
            Ok(record) => Ok(record.and_then(|record| record.tombstone()?.moved_to)),
            Err(Error::Corrupt(_)) => Ok(None),
            Err(error) => Err(error),
        }
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
            page: entry.derived.page.clone(),
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
