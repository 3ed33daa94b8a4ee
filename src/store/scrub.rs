//! A pass over everything that a store holds, in steps of a bounded number of rows, each within one short transaction.
//! It finds damaged records, and indexes that disagree with them, before they are needed.
//!
//! A long transaction would delay kills and checkpoints, so SQLite's own check is left to `verify`. Instead, each row
//! of each table and index is compared with the record that it is derived from, and each record with its rows.

use std::time::{Duration, Instant};

use rusqlite::{Connection, params};

use super::{
    Damage, Error, Tally,
    apply::{unpack_departures, unpack_terms},
    read,
    row::{self, COLUMNS, Columns},
    verify::{Check, Sums},
};
use crate::model::{Kind, Name, Revision, Slot};

/// The delay after a pass that failed, in microseconds.
const RETRY: i64 = 60_000_000;

/// The longest pause between two steps: a slow disk must not make a pass endless.
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// The number of consecutive steps that may wait for a head to be published. After that, the sums of the pass are not
/// compared.
const MAX_WAITS: u32 = 1_000;

/// The number of rows of one step: some 10 ms for records, less for indexes.
const STEP: i64 = 256;

/// The largest database that is scrubbed before it is served, in bytes: within half a second.
pub(super) const AT_ONCE: u64 = 16 << 20;

/// The findings of a pass.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scrubbed {
    /// The damaged records.
    pub(crate) damage: Damage,
    /// A fault of the database beyond single records.
    pub(crate) fault: Option<String>,
}

/// The inverse of the largest share of the time in which a pass works.
const DUTY: u32 = 20;

/// The part of a period after which the first pass starts, because a node that has just started reads for its callers.
const FIRST: u32 = 24;

/// Scrubs a store once in each `period`. A small store was scrubbed when it was opened. Never returns.
pub(crate) async fn run(store: std::sync::Arc<super::Store>, clock: crate::clock::Clock, period: Duration) {
    let after =
        |period: Duration| clock.now().saturating_add(i64::try_from(period.as_micros()).unwrap_or(i64::MAX));
    if store.last_scrub().has_ended {
        store.date_scrub(clock.now());
        clock.sleep_until(after(period)).await;
    } else {
        clock.sleep_until(after(period / FIRST)).await;
    }
    loop {
        let mut next = after(period);
        let mut pass = Some(Pass::new(store.tally()));
        while let Some(mut step) = pass.take() {
            let started = Instant::now();
            let done = store.read(move |connection| step.step(connection).map(|found| (step, found))).await;
            match done {
                Ok((_, Some(found))) => store.scrubbed(found, Some(clock.now())),
                Ok((rest, None)) => pass = Some(rest),
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "scrub failed; will retry");
                    next = clock.now().saturating_add(RETRY);
                }
            }
            // A pass yields to all other reads.
            tokio::time::sleep((started.elapsed() * (DUTY - 1)).min(MAX_PAUSE)).await;
        }
        clock.sleep_until(next).await;
    }
}

/// The row after which the scrub continues. Each step leads to a greater one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum At {
    Records(Revision),
    Keys(i64, i64, String),
    Ids(String, i64, i64),
    Listings(i64, i64, String),
    Paths(String, String),
    Departures(Revision, i64, String),
    Terms(i64),
    Chain(Revision),
    End,
}

/// A running pass.
#[derive(Debug)]
pub(crate) struct Pass {
    at: At,
    tally: Tally,
    found: Scrubbed,
    /// The number of consecutive steps that waited for a head to be published.
    waits: u32,
}

impl Pass {
    /// Starts a pass.
    pub(crate) fn new(tally: Tally) -> Pass {
        Pass { at: At::Records(0), tally, found: Scrubbed::default(), waits: 0 }
    }

    /// Runs the next step. Returns the findings when the pass is at its end.
    ///
    /// # Errors
    /// Fails if the store cannot be read at all. Damage that SQLite reports is a finding.
    pub(crate) fn step(&mut self, connection: &Connection) -> Result<Option<Scrubbed>, Error> {
        if matches!(self.at, At::End) || self.found.fault.is_some() {
            return Ok(Some(std::mem::take(&mut self.found)));
        }
        match self.advance(connection) {
            Err(Error::Malformed(cause)) => self.fault(cause.to_string()),
            // More records were superseded than the ledger notes: the sums of this pass are not compared.
            Err(Error::Overloaded) => self.at = At::Keys(0, 0, String::new()),
            done => done?,
        }
        Ok(None)
    }

    fn fault(&mut self, fault: impl Into<String>) {
        self.found.fault.get_or_insert_with(|| fault.into());
    }

    fn advance(&mut self, connection: &Connection) -> Result<(), Error> {
        let moment = connection.unchecked_transaction()?;
        let next = match self.at.clone() {
            At::Records(after) => self.records(&moment, after)?,
            At::Keys(kind, slot, id) => self.keys(&moment, (kind, slot, id.as_str()))?,
            At::Ids(id, kind, slot) => self.ids(&moment, (id.as_str(), kind, slot))?,
            At::Listings(term, time, id) => self.listings(&moment, (term, time, id.as_str()))?,
            At::Paths(path, id) => self.paths(&moment, (path.as_str(), id.as_str()))?,
            At::Departures(revision, term, id) => self.departures(&moment, (revision, term, id.as_str()))?,
            At::Terms(after) => self.terms(&moment, after)?,
            At::Chain(after) => self.chain(&moment, after)?,
            At::End => At::End,
        };
        // Rows that are out of order would make the pass endless.
        if next < self.at {
            self.fault("the rows of a table or an index are out of order");
        }
        self.waits = if next == self.at { self.waits + 1 } else { 0 };
        self.at = if self.waits > MAX_WAITS { At::Keys(0, 0, String::new()) } else { next };
        Ok(())
    }

    fn records(&mut self, moment: &Connection, after: Revision) -> Result<At, Error> {
        let head = read::head(moment)?;
        let mut check = Check::new(moment);
        let mut sums = Sums::default();
        let last = check.records_after(after, STEP, &mut sums)?;
        if let Some(fault) = check.faults.into_iter().next() {
            self.fault(fault);
        }
        self.found.damage.merge(&check.damage);
        if let Some(last) = last {
            self.tally.add(&sums.contents, last, head.revision)?;
            return Ok(At::Records(last));
        }
        let live: i64 = Kind::ALL.iter().map(|kind| head.live(*kind)).sum();
        // A commit is on disk some microseconds before it is published.
        let Some(found) = self.tally.at(head.revision)? else { return Ok(At::Records(after)) };
        if self.found.damage.is_empty() && found != (live, head.content_digest) {
            self.fault("the records are not those that the head counts");
        }
        Ok(At::Keys(0, 0, String::new()))
    }

    fn keys(&mut self, moment: &Connection, after: (i64, i64, &str)) -> Result<At, Error> {
        let sql = "SELECT kind, slot, id, revision FROM doc INDEXED BY doc_key
                   WHERE (kind, slot, id) > (?1, ?2, ?3) ORDER BY kind, slot, id LIMIT ?4";
        let rows: Vec<(i64, i64, String, Revision)> = moment
            .prepare_cached(sql)?
            .query_map(params![after.0, after.1, after.2, STEP], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            })?
            .collect::<rusqlite::Result<_>>()?;
        for (kind, slot, id, revision) in &rows {
            self.leads_to(moment, *revision, (*kind, *slot, id.as_str()))?;
        }
        let last = rows.into_iter().next_back();
        Ok(last.map_or(At::Ids(String::new(), 0, 0), |(kind, slot, id, _)| At::Keys(kind, slot, id)))
    }

    fn ids(&mut self, moment: &Connection, after: (&str, i64, i64)) -> Result<At, Error> {
        let sql = "SELECT id, kind, slot, revision FROM doc INDEXED BY doc_id
                   WHERE (id, kind, slot) > (?1, ?2, ?3) ORDER BY id, kind, slot LIMIT ?4";
        let rows: Vec<(String, i64, i64, Revision)> = moment
            .prepare_cached(sql)?
            .query_map(params![after.0, after.1, after.2, STEP], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            })?
            .collect::<rusqlite::Result<_>>()?;
        for (id, kind, slot, revision) in &rows {
            self.leads_to(moment, *revision, (*kind, *slot, id.as_str()))?;
        }
        let last = rows.into_iter().next_back();
        Ok(last.map_or(At::Listings(i64::MIN, i64::MIN, String::new()), |(id, kind, slot, _)| {
            At::Ids(id, kind, slot)
        }))
    }

    fn leads_to(
        &mut self,
        moment: &Connection,
        revision: Revision,
        key: (i64, i64, &str),
    ) -> Result<(), Error> {
        let sql = format!("SELECT {COLUMNS} FROM doc WHERE revision = ?1");
        let mut statement = moment.prepare_cached(&sql)?;
        let mut rows = statement.query([revision])?;
        let leads = match rows.next()? {
            Some(row) => {
                let columns = Columns::read(row)?;
                (columns.kind, columns.slot, columns.id.as_str()) == key
            }
            None => false,
        };
        if !leads {
            self.fault(format!("an index of names has an entry without a record: {}", key.2));
        }
        Ok(())
    }

    /// Returns the columns of a live slot, or `None` if they allow no conclusion.
    fn columns(&mut self, moment: &Connection, id: &str, of: &str) -> Result<Option<Columns>, Error> {
        let name = crate::model::Id::parse(id).map(|id| Name { kind: Kind::Article, id });
        let columns = name.map(|name| row::columns(moment, &name, Slot::Live)).transpose()?.flatten();
        if columns.is_none() {
            self.fault(format!("{of} has a row without a record: {id}"));
        }
        Ok(columns.filter(Columns::is_intact))
    }

    fn listings(&mut self, moment: &Connection, after: (i64, i64, &str)) -> Result<At, Error> {
        let sql = "SELECT term, time, id FROM listing WHERE (term, time, id) > (?1, ?2, ?3)
                   ORDER BY term, time, id LIMIT ?4";
        let rows: Vec<(i64, i64, String)> = moment
            .prepare_cached(sql)?
            .query_map(params![after.0, after.1, after.2, STEP], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })?
            .collect::<rusqlite::Result<_>>()?;
        for (term, time, id) in &rows {
            let columns = self.columns(moment, id, "a list")?;
            if columns.is_some_and(|it| it.time != *time || !unpack_terms(&it.terms).contains(term)) {
                self.fault(format!("articles/{id} stands in a list that it is not in"));
            }
        }
        let last = rows.into_iter().next_back();
        Ok(last
            .map_or(At::Paths(String::new(), String::new()), |(term, time, id)| At::Listings(term, time, id)))
    }

    fn paths(&mut self, moment: &Connection, after: (&str, &str)) -> Result<At, Error> {
        let sql =
            "SELECT path, id, revision FROM path WHERE (path, id) > (?1, ?2) ORDER BY path, id LIMIT ?3";
        let rows: Vec<(String, String, Revision)> = moment
            .prepare_cached(sql)?
            .query_map(params![after.0, after.1, STEP], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
            .collect::<rusqlite::Result<_>>()?;
        for (path, id, revision) in &rows {
            let columns = self.columns(moment, id, "the index of paths")?;
            if columns.is_some_and(|it| it.revision != *revision) {
                self.fault(format!("the path {path} leads to another version of articles/{id}"));
            }
        }
        let last = rows.into_iter().next_back();
        Ok(last.map_or(At::Departures(0, i64::MIN, String::new()), |(path, id, _)| At::Paths(path, id)))
    }

    fn departures(&mut self, moment: &Connection, after: (Revision, i64, &str)) -> Result<At, Error> {
        let sql = "SELECT revision, term, id FROM departure WHERE (revision, term, id) > (?1, ?2, ?3)
                   ORDER BY revision, term, id LIMIT ?4";
        let rows: Vec<(Revision, i64, String)> = moment
            .prepare_cached(sql)?
            .query_map(params![after.0, after.1, after.2, STEP], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })?
            .collect::<rusqlite::Result<_>>()?;
        for (revision, term, id) in &rows {
            let columns = self.columns(moment, id, "the table of departures")?;
            let is_noted = |it: Columns| unpack_departures(&it.departures).contains(&(*term, *revision));
            if columns.is_some_and(|it| !is_noted(it)) {
                self.fault(format!("articles/{id} is noted to have left a list that it has not"));
            }
        }
        let last = rows.into_iter().next_back();
        Ok(last.map_or(At::Terms(i64::MIN), |(revision, term, id)| At::Departures(revision, term, id)))
    }

    /// Checks the terms. The count of a list decides whether the list is read at all.
    fn terms(&mut self, moment: &Connection, after: i64) -> Result<At, Error> {
        let sql = "SELECT n, kind, value, articles, (SELECT count(*) FROM listing WHERE term = n)
                   FROM term WHERE n > ?1 ORDER BY n LIMIT ?2";
        let by_value = "SELECT n FROM term WHERE kind = ?1 AND value = ?2";
        let mut statement = moment.prepare_cached(sql)?;
        let mut rows = statement.query([after, STEP])?;
        let mut last = None;
        while let Some(row) = rows.next()? {
            let number: i64 = row.get(0)?;
            let (kind, value): (i64, String) = (row.get(1)?, row.get(2)?);
            let (noted, counted): (i64, i64) = (row.get(3)?, row.get(4)?);
            let found = moment.prepare_cached(by_value)?.query_row(params![kind, value], |row| row.get(0));
            if noted != counted || rusqlite::OptionalExtension::optional(found)? != Some(number) {
                self.fault(format!("the list {value} is counted as {noted} and has {counted}"));
            }
            last = Some(number);
        }
        Ok(last.map_or(At::Chain(0), At::Terms))
    }

    /// Checks that the chain has no gap from its first link to the head.
    fn chain(&mut self, moment: &Connection, after: Revision) -> Result<At, Error> {
        let head = read::head(moment)?;
        let sql = "SELECT revision FROM chain WHERE revision > ?1 ORDER BY revision LIMIT ?2";
        let revisions: Vec<Revision> = moment
            .prepare_cached(sql)?
            .query_map([after, 8 * STEP], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        let first = if after == 0 { revisions.first().copied() } else { Some(after + 1) };
        if revisions.iter().zip(first.unwrap_or(0)..).any(|(found, wanted)| *found != wanted) {
            self.fault("the chain has a gap");
        }
        if let Some(last) = revisions.last() {
            return Ok(At::Chain(*last));
        }
        let dropped = head.floor.max(0);
        if after != head.revision || (after == 0 && dropped != head.revision) {
            self.fault("the chain does not end at the head");
        }
        Ok(At::End)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        store::fixture::{apply, article, noise, open, pending, removal},
        wire::v1::RemovalReason,
    };

    fn scrub(connection: &Connection, tally: Tally) -> Scrubbed {
        let mut pass = Pass::new(tally);
        loop {
            if let Some(found) = pass.step(connection).unwrap() {
                return found;
            }
        }
    }

    /// Creates a store with more rows than one step reads.
    fn store(dir: &std::path::Path) {
        let (_store, mut writer) = open(dir);
        let versions: Vec<_> =
            (0..600).map(|n| article(&format!("a{n}"), &noise(n, 64), &["t", "u"], n as i64)).collect();
        apply(&mut writer, &versions);
        apply(&mut writer, &[removal("a1", RemovalReason::Moved, 700), article("a2", "B", &["u"], 701)]);
        apply(&mut writer, &[pending(article("a3", "C", &["u"], 702))]);
    }

    #[test]
    fn a_whole_store_gives_no_findings() {
        let dir = tempfile::tempdir().unwrap();
        store(dir.path());
        let (store, writer) = open(dir.path());
        let found = scrub(&writer.connection, store.tally());
        assert!(found.damage.is_empty() && found.fault.is_none(), "{found:?}");
    }

    #[test]
    fn each_kind_of_damage_is_found() {
        let cases = [
            ("UPDATE doc SET entry = zeroblob(length(entry)) WHERE id = 'a7'", Some("articles/a7")),
            ("UPDATE doc SET time = time + 1 WHERE id = 'a7'", Some("articles/a7")),
            ("UPDATE doc SET entry = zeroblob(9) WHERE slot = 2", Some("articles/a3")),
            ("DELETE FROM doc WHERE id = 'a7'", None),
            ("DELETE FROM listing WHERE id = 'a7' AND term = (SELECT n FROM term WHERE value = 't')", None),
            ("UPDATE listing SET id = 'a8x' WHERE id = 'a8'", None),
            ("UPDATE listing SET time = time + 1 WHERE id = 'a8'", None),
            (
                "INSERT INTO listing SELECT n, 3, 'a3' FROM term WHERE value = 'zzz' OR n = 9999 UNION SELECT 9999, 3, 'a3'",
                None,
            ),
            ("DELETE FROM path WHERE id = 'a7'", None),
            ("UPDATE path SET revision = revision + 1 WHERE id = 'a7'", None),
            ("INSERT INTO path VALUES('/x', 'nobody', 3, 1, 1)", None),
            ("INSERT INTO departure VALUES(3, 1, 'a7')", None),
            ("UPDATE term SET articles = 0 WHERE value = 't'", None),
            ("DELETE FROM chain WHERE revision = 300", None),
            ("DELETE FROM chain WHERE revision > 590", None),
            ("UPDATE head SET articles = articles + 1", None),
            ("UPDATE head SET content_digest = zeroblob(32)", None),
        ];
        for (change, name) in cases {
            let dir = tempfile::tempdir().unwrap();
            store(dir.path());
            let (store, writer) = open(dir.path());
            assert!(writer.connection.execute(change, []).unwrap() > 0, "{change}");
            let found = scrub(&writer.connection, store.tally());
            match name {
                Some(name) => assert_eq!(
                    (&found.damage.names[..], found.fault),
                    (&[name.to_owned()][..], None),
                    "{change}"
                ),
                None => assert!(found.fault.is_some(), "{change}: {found:?}"),
            }
        }
    }
}
