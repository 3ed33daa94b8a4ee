//! Verification of a store: everything that can be recomputed is recomputed, and compared with the stored data.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::{
    Damage, Error, Head, Snapshot, due, envelope,
    read::row_name,
    row::{self, ANY_TERM, COLUMNS, Columns, DepartureRow, unpack_departures, unpack_terms},
    scan,
};
use crate::{
    digest::{self, Hash, SetDigest},
    entry::{Derived, Entry, Term},
    model::{Kind, Revision, Slot},
    wire::log::Operation,
};

/// The findings of a verification.
#[derive(Debug)]
pub(crate) struct Findings {
    pub(crate) head: Head,
    /// The number of records read.
    pub(crate) records: u64,
    /// Descriptions of the faults, at most [`MAX_FAULTS`]. If empty, the store is intact.
    pub(crate) faults: Vec<String>,
}

/// The maximum number of faults that are reported. A store with more is as good as lost.
const MAX_FAULTS: usize = 100;

impl Snapshot<'_> {
    /// Checks every record, list, path and link of the store.
    pub(crate) fn verify(self) -> Result<Findings, Error> {
        let head = self.head()?;
        let mut check = Check::new(self);
        check.check_integrity()?;
        for result in [check.check_records(&head), check.check_chain(&head)] {
            match result {
                Err(Error::Malformed(cause)) => check.report_fault(cause.to_string()),
                result => result?,
            }
        }
        let damaged = check.damage.names.iter().map(|name| format!("{name}: checksum mismatch"));
        check.faults.splice(0..0, damaged);
        check.faults.truncate(MAX_FAULTS);
        Ok(Findings { head, records: check.records, faults: check.faults })
    }
}

pub(super) struct Check<'a> {
    connection: &'a Connection,
    pub(super) faults: Vec<String>,
    /// The damaged records.
    pub(super) damage: Damage,
    records: u64,
}

/// The sums that the records must give together.
#[derive(Default)]
pub(super) struct Sums {
    log: SetDigest,
    content: SetDigest,
    /// The hashes that the content digest sums, record by record.
    pub(super) contents: Vec<Hash>,
    live: BTreeMap<Kind, i64>,
    listed: BTreeMap<i64, i64>,
    departed: BTreeMap<i64, i64>,
    rows: i64,
    paths: i64,
    departures: i64,
    due: i64,
    last: Revision,
}

impl<'a> Check<'a> {
    pub(super) fn new(snapshot: Snapshot<'a>) -> Check<'a> {
        Check { connection: snapshot.connection, faults: Vec::new(), damage: Damage::default(), records: 0 }
    }

    fn report_fault(&mut self, fault: impl Into<String>) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(fault.into());
        }
    }

    fn check_integrity(&mut self) -> Result<(), Error> {
        let mut statement = self.connection.prepare("PRAGMA integrity_check")?;
        let lines: Vec<String> =
            statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        for line in lines.into_iter().filter(|line| line != "ok") {
            self.report_fault(line);
        }
        Ok(())
    }

    fn check_records(&mut self, head: &Head) -> Result<(), Error> {
        let mut sums = Sums::default();
        while self.records_after(sums.last, 4_096, &mut sums)?.is_some() {
            sums.contents.clear();
        }
        self.check_totals(head, &sums)
    }

    /// Checks up to `limit` records after a revision. Returns the last revision, or `None` if there are no more.
    pub(super) fn records_after(
        &mut self,
        after: Revision,
        limit: i64,
        sums: &mut Sums,
    ) -> Result<Option<Revision>, Error> {
        let sql =
            format!("SELECT {COLUMNS}, held, entry FROM doc WHERE revision > ?1 ORDER BY revision LIMIT ?2");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query([after, limit])?;
        let mut last = None;
        while let Some(row) = rows.next()? {
            let columns = Columns::read(row)?;
            let revision = columns.revision;
            scan::check_order(&last.unwrap_or(after), &revision)?;
            last = Some(revision);
            (sums.last, self.records) = (revision, self.records + 1);
            let stored = row.get_ref("entry")?.as_blob().unwrap_or_default();
            let key = columns.key();
            let opened =
                key.as_ref().and_then(|(name, slot)| envelope::open(stored, (name, *slot), revision).ok());
            let entry = opened.and_then(|bytes| Entry::decode(bytes).ok()).filter(|_| columns.is_intact());
            let Some(((name, slot), entry)) = key.zip(entry) else {
                self.damage.add(columns.label());
                continue;
            };
            let stored_columns =
                (columns.live, columns.due, columns.time, columns.hash, columns.content_hash, columns.page);
            let derived = &entry.derived;
            let page = derived.page.clone();
            let expected_columns =
                (derived.live, derived.due, derived.time, entry.hash, derived.content_hash, page);
            if stored_columns != expected_columns || (&entry.name, entry.slot) != (&name, slot) {
                self.report_fault(format!("{name}: columns do not match the entry"));
            }
            let held = row.get_ref("held")?.as_i64().unwrap_or(-1);
            let stored_pending = (columns.base, &columns.wanted_path, held);
            let must_hold = i64::from(due::must_hold(self.connection, &entry)?);
            if stored_pending != (derived.base, &derived.wanted_path, must_hold) {
                self.report_fault(format!("{name}: columns of the pending version do not match the entry"));
            }
            sums.due += i64::from(derived.due.is_some() && held == 0);
            if row::revision(self.connection, &name, slot)? != Some(revision) {
                self.report_fault(format!("{name}: name index points to another record"));
            }
            self.check_lists(&entry, &unpack_terms(&columns.terms), sums)?;
            self.check_departures(&entry, revision, &unpack_departures(&columns.departures), sums)?;
            self.check_paths(&entry, revision, sums)?;
            sum(sums, revision, &entry);
        }
        Ok(last)
    }

    fn check_lists(&mut self, entry: &Entry, terms: &[i64], sums: &mut Sums) -> Result<(), Error> {
        let mut expected = entry.derived.terms.iter().map(|term| term.parts()).collect::<Vec<_>>();
        let mut found = Vec::with_capacity(terms.len());
        for term in terms {
            let sql = "SELECT kind, value FROM term WHERE n = ?1 AND EXISTS(
                         SELECT 1 FROM listing WHERE term = ?1 AND time = ?2 AND id = ?3)";
            let mut statement = self.connection.prepare_cached(sql)?;
            let key = params![term, entry.derived.time, entry.name.id.as_str()];
            let mut rows = statement.query(key)?;
            if let Some(row) = rows.next()? {
                found.push((row.get::<_, i64>(0)?, row.get::<_, String>(1)?));
            }
            *sums.listed.entry(*term).or_default() += 1;
        }
        expected.sort_unstable();
        found.sort_unstable();
        if expected != found {
            self.report_fault(format!("{}: list rows do not match the entry", entry.name));
        }
        sums.rows += terms.len() as i64;
        Ok(())
    }

    fn check_departures(
        &mut self,
        entry: &Entry,
        revision: Revision,
        departures: &[DepartureRow],
        sums: &mut Sums,
    ) -> Result<(), Error> {
        let Derived { departures: derived_departures, departure_floor, .. } = &entry.derived;
        let parts = |(term, at): &(Term, Revision)| {
            let (kind, value) = term.parts();
            ((Some(kind), Some(value)), if *at == 0 { revision } else { *at })
        };
        let mut expected = derived_departures.iter().map(parts).collect::<Vec<_>>();
        expected.extend((*departure_floor > 0).then_some(((None, None), *departure_floor)));
        let sql = "SELECT kind, value FROM departure LEFT JOIN term ON term.n = departure.term
                   WHERE departure.revision = ?1 AND departure.term = ?2 AND departure.id = ?3";
        let mut statement = self.connection.prepare_cached(sql)?;
        let departure = |(term, at): &DepartureRow| {
            let row = params![at, term, entry.name.id.as_str()];
            statement.query_row(row, |row| Ok(((row.get(0)?, row.get(1)?), *at))).optional()
        };
        let found = departures.iter().map(departure).collect::<rusqlite::Result<Option<Vec<_>>>>()?;
        for (term, _) in departures.iter().filter(|(term, _)| *term != ANY_TERM) {
            *sums.departed.entry(*term).or_default() += 1;
        }
        sums.departures += departures.len() as i64;
        expected.sort_unstable();
        let found = found.map(|mut found| {
            found.sort_unstable();
            found
        });
        if found != Some(expected) {
            self.report_fault(format!("{}: departures do not match the entry", entry.name));
        }
        Ok(())
    }

    fn check_paths(&mut self, entry: &Entry, revision: Revision, sums: &mut Sums) -> Result<(), Error> {
        for (path, claim) in &entry.derived.paths {
            let sql = "SELECT 1 FROM path WHERE path = ?1 AND id = ?2 AND rank = ?3 AND place = ?4 AND revision = ?5";
            let mut statement = self.connection.prepare_cached(sql)?;
            let (rank, place) = claim.order(revision);
            if !statement.exists(params![path, entry.name.id.as_str(), rank, place, revision])? {
                self.report_fault(format!("{}: path row missing or wrong: {path}", entry.name));
            }
        }
        sums.paths += entry.derived.paths.len() as i64;
        Ok(())
    }

    fn check_totals(&mut self, head: &Head, sums: &Sums) -> Result<(), Error> {
        if sums.log != head.log_digest {
            self.report_fault("log digest does not match the records");
        }
        if sums.content != head.content_digest {
            self.report_fault("content digest does not match the records");
        }
        for kind in Kind::ALL {
            let counted = sums.live.get(&kind).copied().unwrap_or(0);
            if counted != head.live(kind) {
                self.report_fault(format!(
                    "count mismatch: {counted} live {}, head has {}",
                    kind.collection(),
                    head.live(kind)
                ));
            }
        }
        if sums.last > head.revision {
            self.report_fault("record above the head");
        }
        let count = |sql| self.connection.query_row(sql, [], |row| row.get::<_, i64>(0));
        let (rows, paths) = (count("SELECT count(*) FROM listing")?, count("SELECT count(*) FROM path")?);
        if (rows, paths) != (sums.rows, sums.paths) {
            self.report_fault("rows without a record in lists or paths");
        }
        if count("SELECT count(*) FROM departure")? != sums.departures {
            self.report_fault("rows without a record in departures");
        }
        if count("SELECT count(*) FROM doc INDEXED BY due WHERE due IS NOT NULL AND held = 0")? != sums.due {
            self.report_fault("index of due times does not match the records");
        }
        let mut statement = self.connection.prepare("SELECT n, articles, departures FROM term")?;
        let terms: Vec<(i64, i64, i64)> = statement
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
            .collect::<rusqlite::Result<_>>()?;
        let is_wrong = |(n, articles, departures): &(i64, i64, i64)| {
            let counts = [&sums.listed, &sums.departed].map(|counts| counts.get(n).copied().unwrap_or(0));
            counts != [*articles, *departures]
        };
        if terms.iter().any(is_wrong) {
            self.report_fault("count of a list does not match its rows");
        }
        if terms.iter().any(|(_, articles, departures)| (*articles, *departures) == (0, 0)) {
            self.report_fault("unused list");
        }
        Ok(())
    }

    /// Checks that the chain is contiguous and ends with the head's link, and that each link follows from its entry, if
    /// that entry and the link's predecessor still exist.
    fn check_chain(&mut self, head: &Head) -> Result<(), Error> {
        let mut statement = self.connection.prepare("SELECT revision, chain FROM chain ORDER BY revision")?;
        let links: Vec<(Revision, [u8; 32])> = statement
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<_>>()?;
        if links.windows(2).any(|pair| pair[0].0 + 1 != pair[1].0) {
            self.report_fault("chain has a gap");
        }
        if links.first().is_some_and(|(first, _)| *first > head.floor + 1) {
            self.report_fault("chain starts above the history floor");
        }
        let last = links.last().map_or((0, [0; 32]), |last| *last);
        if last != (head.revision, head.chain) {
            self.report_fault("chain does not end at the head");
        }
        let mut statement =
            self.connection.prepare("SELECT kind, id, live, hash, slot FROM doc WHERE revision = ?1")?;
        // The first stored link has no predecessor to follow from, unless it is the first of all.
        let mut previous = links.first().filter(|(revision, _)| *revision == 1).map(|_| [0; 32]);
        for (revision, link) in links {
            let mut rows = statement.query([revision])?;
            if let Some(previous) = previous
                && let Some(row) = rows.next()?
                && let Some(name) = row_name(row)?
                && let Some(slot) = Slot::from_number(row.get(4)?)
            {
                let operation = if row.get(2)? { Operation::Put } else { Operation::Remove };
                if digest::link(&previous, revision, (&name, slot), operation, &row.get(3)?) != link {
                    self.report_fault(format!("chain link {revision} does not match its entry"));
                }
            }
            previous = Some(link);
        }
        Ok(())
    }
}

fn sum(sums: &mut Sums, revision: Revision, entry: &Entry) {
    if entry.derived.live {
        sums.log.add(&digest::record_hash(&entry.name, entry.slot, revision, &entry.hash));
    }
    if let Some(content_hash) = entry.derived.content_hash {
        sums.content.add(&content_hash);
        sums.contents.push(content_hash);
        *sums.live.entry(entry.name.kind).or_default() += 1;
    }
}
