//! A pass over everything that a store holds, in steps of a bounded number of rows, each within one short transaction.
//! It finds damaged records, and indexes that disagree with them, before they are needed.
//!
//! A long transaction would delay kills and checkpoints, so SQLite's own check is left to `verify`. Instead, each row
//! of each table and index is compared with the record that it is derived from, and each record with its rows.

use std::time::{Duration, Instant};

use rusqlite::params;

use super::{
    Damage, Error, Snapshot, Tally,
    row::{self, COLUMNS, Columns, unpack_departures, unpack_terms},
    verify::{Check, Sums},
};
use crate::{
    clock::{self, Clock},
    model::{Kind, Name, Revision, Slot},
};

/// The delay after a pass that failed, in microseconds.
const RETRY_MICROS: i64 = 60_000_000;

/// The longest pause between two steps: a slow disk must not make a pass endless.
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// The number of consecutive steps that may wait for a head to be published. After that, the sums of the pass are not
/// compared.
const MAX_WAITS: u32 = 1_000;

/// The number of rows of one step: some 10 ms for records, less for indexes.
const STEP_ROWS: i64 = 256;

/// The largest database that is scrubbed before it is served, in bytes: within half a second.
pub(super) const MAX_BYTES_AT_OPEN: u64 = 16 << 20;

/// The findings of a pass.
#[derive(Debug, Clone, Default)]
pub(crate) struct ScrubFindings {
    /// The damaged records.
    pub(crate) damage: Damage,
    /// A fault of the database beyond single records.
    pub(crate) fault: Option<String>,
}

/// The inverse of the largest share of the time in which a pass works.
const DUTY_DIVISOR: u32 = 20;

/// The part of a period after which the first pass starts, because a node that has just started reads for its callers.
const FIRST_PASS_DIVISOR: u32 = 24;

/// Scrubs a store once in each `period`. A small store was scrubbed when it was opened. Never returns.
pub(crate) async fn run(store: std::sync::Arc<super::Store>, clock: Clock, period: Duration) {
    let after = |period: Duration| clock.now().saturating_add(clock::micros(period));
    if store.last_scrub().has_ended {
        store.set_scrub_time(clock.now());
        clock.sleep_until(after(period)).await;
    } else {
        clock.sleep_until(after(period / FIRST_PASS_DIVISOR)).await;
    }
    loop {
        let mut next = after(period);
        let mut pass = Some(Pass::new(store.start_tally()));
        while let Some(mut step) = pass.take() {
            let started = Instant::now();
            let result = store.read(move |snapshot| step.step(snapshot).map(|found| (step, found))).await;
            match result {
                Ok((_, Some(found))) => store.record_scrub(found, Some(clock.now())),
                Ok((rest, None)) => pass = Some(rest),
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "scrub failed; will retry");
                    next = clock.now().saturating_add(RETRY_MICROS);
                }
            }
            // A pass yields to all other reads.
            tokio::time::sleep((started.elapsed() * (DUTY_DIVISOR - 1)).min(MAX_PAUSE)).await;
        }
        clock.sleep_until(next).await;
    }
}

/// The row after which the scrub continues. Each step leads to a greater one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum ScrubCursor {
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
    cursor: ScrubCursor,
    tally: Tally,
    findings: ScrubFindings,
    /// The number of consecutive steps that waited for a head to be published.
    waits: u32,
}

impl Pass {
    /// Starts a pass.
    pub(crate) fn new(tally: Tally) -> Pass {
        Pass { cursor: ScrubCursor::Records(0), tally, findings: ScrubFindings::default(), waits: 0 }
    }

    /// Runs the next step. Returns the findings when the pass is at its end.
    ///
    /// # Errors
    /// Fails if the store cannot be read at all. Damage that SQLite reports is a finding.
    pub(crate) fn step(&mut self, snapshot: Snapshot<'_>) -> Result<Option<ScrubFindings>, Error> {
        if matches!(self.cursor, ScrubCursor::End) || self.findings.fault.is_some() {
            return Ok(Some(std::mem::take(&mut self.findings)));
        }
        match self.advance(snapshot) {
            Err(Error::Malformed(cause)) => self.report_fault(cause.to_string()),
            // More records were superseded than the ledger notes: the sums of this pass are not compared.
            Err(Error::Overloaded) => self.cursor = ScrubCursor::Keys(0, 0, String::new()),
            result => result?,
        }
        Ok(None)
    }

    fn report_fault(&mut self, fault: impl Into<String>) {
        self.findings.fault.get_or_insert_with(|| fault.into());
    }

    fn advance(&mut self, snapshot: Snapshot<'_>) -> Result<(), Error> {
        let next = match self.cursor.clone() {
            ScrubCursor::Records(after) => self.records(snapshot, after)?,
            ScrubCursor::Keys(kind, slot, id) => self.keys(snapshot, (kind, slot, id.as_str()))?,
            ScrubCursor::Ids(id, kind, slot) => self.ids(snapshot, (id.as_str(), kind, slot))?,
            ScrubCursor::Listings(term, time, id) => self.listings(snapshot, (term, time, id.as_str()))?,
            ScrubCursor::Paths(path, id) => self.paths(snapshot, (path.as_str(), id.as_str()))?,
            ScrubCursor::Departures(revision, term, id) => {
                self.departures(snapshot, (revision, term, id.as_str()))?
            }
            ScrubCursor::Terms(after) => self.terms(snapshot, after)?,
            ScrubCursor::Chain(after) => self.chain(snapshot, after)?,
            ScrubCursor::End => ScrubCursor::End,
        };
        // Rows that are out of order would make the pass endless.
        if next < self.cursor {
            self.report_fault("rows of a table or an index are out of order");
        }
        self.waits = if next == self.cursor { self.waits + 1 } else { 0 };
        self.cursor = if self.waits > MAX_WAITS { ScrubCursor::Keys(0, 0, String::new()) } else { next };
        Ok(())
    }

    fn records(&mut self, snapshot: Snapshot<'_>, after: Revision) -> Result<ScrubCursor, Error> {
        let head = snapshot.head()?;
        let mut check = Check::new(snapshot);
        let mut sums = Sums::default();
        let last = check.records_after(after, STEP_ROWS, &mut sums)?;
        if let Some(fault) = check.faults.into_iter().next() {
            self.report_fault(fault);
        }
        self.findings.damage.merge(&check.damage);
        if let Some(last) = last {
            self.tally.add(&sums.contents, last, head.revision)?;
            return Ok(ScrubCursor::Records(last));
        }
        let live: i64 = Kind::ALL.iter().map(|kind| head.live(*kind)).sum();
        // A commit is on disk some microseconds before it is published.
        let Some(found) = self.tally.at(head.revision)? else { return Ok(ScrubCursor::Records(after)) };
        if self.findings.damage.is_empty() && found != (live, head.content_digest) {
            self.report_fault("records do not match the head");
        }
        Ok(ScrubCursor::Keys(0, 0, String::new()))
    }

    fn keys(&mut self, snapshot: Snapshot<'_>, after: (i64, i64, &str)) -> Result<ScrubCursor, Error> {
        let sql = "SELECT kind, slot, id, revision FROM doc INDEXED BY doc_key
                   WHERE (kind, slot, id) > (?1, ?2, ?3) ORDER BY kind, slot, id LIMIT ?4";
        let rows: Vec<(i64, i64, String, Revision)> = snapshot
            .connection
            .prepare_cached(sql)?
            .query_map(params![after.0, after.1, after.2, STEP_ROWS], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            })?
            .collect::<rusqlite::Result<_>>()?;
        for (kind, slot, id, revision) in &rows {
            self.check_index_row(snapshot, *revision, (*kind, *slot, id.as_str()))?;
        }
        let last = rows.into_iter().next_back();
        Ok(last.map_or(ScrubCursor::Ids(String::new(), 0, 0), |(kind, slot, id, _)| {
            ScrubCursor::Keys(kind, slot, id)
        }))
    }

    fn ids(&mut self, snapshot: Snapshot<'_>, after: (&str, i64, i64)) -> Result<ScrubCursor, Error> {
        let sql = "SELECT id, kind, slot, revision FROM doc INDEXED BY doc_id
                   WHERE (id, kind, slot) > (?1, ?2, ?3) ORDER BY id, kind, slot LIMIT ?4";
        let rows: Vec<(String, i64, i64, Revision)> = snapshot
            .connection
            .prepare_cached(sql)?
            .query_map(params![after.0, after.1, after.2, STEP_ROWS], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            })?
            .collect::<rusqlite::Result<_>>()?;
        for (id, kind, slot, revision) in &rows {
            self.check_index_row(snapshot, *revision, (*kind, *slot, id.as_str()))?;
        }
        let last = rows.into_iter().next_back();
        Ok(last.map_or(ScrubCursor::Listings(i64::MIN, i64::MIN, String::new()), |(id, kind, slot, _)| {
            ScrubCursor::Ids(id, kind, slot)
        }))
    }

    fn check_index_row(
        &mut self,
        snapshot: Snapshot<'_>,
        revision: Revision,
        key: (i64, i64, &str),
    ) -> Result<(), Error> {
        let sql = format!("SELECT {COLUMNS} FROM doc WHERE revision = ?1");
        let mut statement = snapshot.connection.prepare_cached(&sql)?;
        let mut rows = statement.query([revision])?;
        let matches = match rows.next()? {
            Some(row) => {
                let columns = Columns::read(row)?;
                (columns.kind, columns.slot, columns.id.as_str()) == key
            }
            None => false,
        };
        if !matches {
            self.report_fault(format!("name index entry without a record: {}", key.2));
        }
        Ok(())
    }

    /// Returns the columns of a live slot, or `None` if they allow no conclusion.
    fn columns(&mut self, snapshot: Snapshot<'_>, id: &str, table: &str) -> Result<Option<Columns>, Error> {
        let name = crate::model::Id::parse(id).map(|id| Name { kind: Kind::Article, id });
        let columns =
            name.map(|name| row::columns(snapshot.connection, &name, Slot::Live)).transpose()?.flatten();
        if columns.is_none() {
            self.report_fault(format!("row without a record in {table}: {id}"));
        }
        Ok(columns.filter(Columns::is_intact))
    }

    fn listings(&mut self, snapshot: Snapshot<'_>, after: (i64, i64, &str)) -> Result<ScrubCursor, Error> {
        let sql = "SELECT term, time, id FROM listing WHERE (term, time, id) > (?1, ?2, ?3)
                   ORDER BY term, time, id LIMIT ?4";
        let rows: Vec<(i64, i64, String)> = snapshot
            .connection
            .prepare_cached(sql)?
            .query_map(params![after.0, after.1, after.2, STEP_ROWS], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })?
            .collect::<rusqlite::Result<_>>()?;
        for (term, time, id) in &rows {
            let columns = self.columns(snapshot, id, "listing")?;
            if columns
                .is_some_and(|columns| columns.time != *time || !unpack_terms(&columns.terms).contains(term))
            {
                self.report_fault(format!("articles/{id}: list row does not match the record"));
            }
        }
        let last = rows.into_iter().next_back();
        Ok(last.map_or(ScrubCursor::Paths(String::new(), String::new()), |(term, time, id)| {
            ScrubCursor::Listings(term, time, id)
        }))
    }

    fn paths(&mut self, snapshot: Snapshot<'_>, after: (&str, &str)) -> Result<ScrubCursor, Error> {
        let sql =
            "SELECT path, id, revision FROM path WHERE (path, id) > (?1, ?2) ORDER BY path, id LIMIT ?3";
        let rows: Vec<(String, String, Revision)> = snapshot
            .connection
            .prepare_cached(sql)?
            .query_map(params![after.0, after.1, STEP_ROWS], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })?
            .collect::<rusqlite::Result<_>>()?;
        for (path, id, revision) in &rows {
            let columns = self.columns(snapshot, id, "path")?;
            if columns.is_some_and(|columns| columns.revision != *revision) {
                self.report_fault(format!("articles/{id}: path {path} points to another version"));
            }
        }
        let last = rows.into_iter().next_back();
        Ok(last.map_or(ScrubCursor::Departures(0, i64::MIN, String::new()), |(path, id, _)| {
            ScrubCursor::Paths(path, id)
        }))
    }

    fn departures(
        &mut self,
        snapshot: Snapshot<'_>,
        after: (Revision, i64, &str),
    ) -> Result<ScrubCursor, Error> {
        let sql = "SELECT revision, term, id FROM departure WHERE (revision, term, id) > (?1, ?2, ?3)
                   ORDER BY revision, term, id LIMIT ?4";
        let rows: Vec<(Revision, i64, String)> = snapshot
            .connection
            .prepare_cached(sql)?
            .query_map(params![after.0, after.1, after.2, STEP_ROWS], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })?
            .collect::<rusqlite::Result<_>>()?;
        for (revision, term, id) in &rows {
            let columns = self.columns(snapshot, id, "departure")?;
            let is_recorded =
                |columns: Columns| unpack_departures(&columns.departures).contains(&(*term, *revision));
            if columns.is_some_and(|columns| !is_recorded(columns)) {
                self.report_fault(format!("articles/{id}: departure does not match the record"));
            }
        }
        let last = rows.into_iter().next_back();
        Ok(last.map_or(ScrubCursor::Terms(i64::MIN), |(revision, term, id)| {
            ScrubCursor::Departures(revision, term, id)
        }))
    }

    /// Checks the terms. The count of a list decides whether the list is read at all.
    fn terms(&mut self, snapshot: Snapshot<'_>, after: i64) -> Result<ScrubCursor, Error> {
        let sql = "SELECT n, kind, value, articles, (SELECT count(*) FROM listing WHERE term = n)
                   FROM term WHERE n > ?1 ORDER BY n LIMIT ?2";
        let by_value = "SELECT n FROM term WHERE kind = ?1 AND value = ?2";
        let mut statement = snapshot.connection.prepare_cached(sql)?;
        let mut rows = statement.query([after, STEP_ROWS])?;
        let mut last = None;
        while let Some(row) = rows.next()? {
            let number: i64 = row.get(0)?;
            let (kind, value): (i64, String) = (row.get(1)?, row.get(2)?);
            let (recorded, counted): (i64, i64) = (row.get(3)?, row.get(4)?);
            let found = snapshot
                .connection
                .prepare_cached(by_value)?
                .query_row(params![kind, value], |row| row.get(0));
            if recorded != counted || rusqlite::OptionalExtension::optional(found)? != Some(number) {
                self.report_fault(format!("list {value}: count is {recorded}, but {counted} rows exist"));
            }
            last = Some(number);
        }
        Ok(last.map_or(ScrubCursor::Chain(0), ScrubCursor::Terms))
    }

    /// Checks that the chain has no gap from its first link to the head.
    fn chain(&mut self, snapshot: Snapshot<'_>, after: Revision) -> Result<ScrubCursor, Error> {
        let head = snapshot.head()?;
        let sql = "SELECT revision FROM chain WHERE revision > ?1 ORDER BY revision LIMIT ?2";
        let revisions: Vec<Revision> = snapshot
            .connection
            .prepare_cached(sql)?
            .query_map([after, 8 * STEP_ROWS], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        let first = if after == 0 { revisions.first().copied() } else { Some(after + 1) };
        if revisions.iter().zip(first.unwrap_or(0)..).any(|(found, expected)| *found != expected) {
            self.report_fault("chain has a gap");
        }
        if let Some(last) = revisions.last() {
            return Ok(ScrubCursor::Chain(*last));
        }
        let dropped = head.floor.max(0);
        if after != head.revision || (after == 0 && dropped != head.revision) {
            self.report_fault("chain does not end at the head");
        }
        Ok(ScrubCursor::End)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        store::fixture::{apply, article, noise, open, pending, removal, snapshot},
        wire::v1::RemovalReason,
    };

    fn scrub(snapshot: Snapshot<'_>, tally: Tally) -> ScrubFindings {
        let mut pass = Pass::new(tally);
        loop {
            if let Some(found) = pass.step(snapshot).unwrap() {
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
    fn an_intact_store_has_no_findings() {
        let dir = tempfile::tempdir().unwrap();
        store(dir.path());
        let (store, writer) = open(dir.path());
        let found = scrub(snapshot(&writer), store.start_tally());
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
            let found = scrub(snapshot(&writer), store.start_tally());
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
