//! The requests of the last 24 hours, with their outcomes.

use rusqlite::{OptionalExtension as _, params};

use super::{Error, Snapshot, WriteOutcome, apply::Applier};
use crate::{
    digest::Hash,
    model::{HashPrefix, Id, Kind, Name, Slot},
};

/// The time for which a `request_id` is remembered, in microseconds.
const RETENTION: i64 = 24 * 3_600 * 1_000_000;

/// The number of changes whose requests are remembered: some 400 MB of rows if every request has an id of 128 bytes and
/// one change.
const MAX_CHANGES: i64 = 1_000_000;

/// The maximum number of requests that one write drops because of their age: it must not pay for a day of them.
const MAX_DROPPED: i64 = 64;

/// A request that was committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PastRequest {
    /// The identity of the request.
    pub(crate) hash: Hash,
    /// The outcome of each change.
    pub(crate) outcomes: Vec<WriteOutcome>,
}

impl Snapshot<'_> {
    /// Looks up a request by its `request_id`, at a time. A request that is too old may still have its row, and is not
    /// found.
    pub(crate) fn find_request(self, id: &str, now: i64) -> Result<Option<PastRequest>, Error> {
        let sql = "SELECT hash, made FROM request WHERE id = ?1 AND time >= ?2";
        let mut statement = self.connection.prepare_cached(sql)?;
        let found = statement.query_row(params![id, now - RETENTION], |row| {
            let packed: Vec<u8> = row.get(1)?;
            Ok(unpack(&packed).zip(Some(row.get(0)?)))
        });
        match found.optional()? {
            None => Ok(None),
            Some(Some((outcomes, hash))) => Ok(Some(PastRequest { hash, outcomes })),
            Some(None) => Err(rusqlite::Error::InvalidQuery.into()),
        }
    }
}

impl Applier<'_> {
    /// Stores a request with its time, and drops requests that are too old.
    pub(crate) fn record_request(
        &self,
        id: &str,
        hash: &Hash,
        outcomes: &[WriteOutcome],
        time: i64,
    ) -> Result<(), Error> {
        let prepare = |sql| self.transaction.prepare_cached(sql);
        let last: i64 =
            prepare("SELECT coalesce(max(n), 0) FROM request")?.query_row([], |row| row.get(0))?;
        let n = last + (outcomes.len() as i64).max(1);
        prepare("DELETE FROM request WHERE n <= ?1")?.execute([n - MAX_CHANGES])?;
        let old =
            "DELETE FROM request WHERE n IN (SELECT n FROM request WHERE time < ?1 ORDER BY time LIMIT ?2)";
        prepare(old)?.execute([time - RETENTION, MAX_DROPPED])?;
        let insert = "INSERT OR REPLACE INTO request VALUES(?1, ?2, ?3, ?4, ?5)";
        prepare(insert)?.execute(params![n, id, hash, pack(outcomes), time])?;
        Ok(())
    }
}

const CHANGED: u8 = 1;
const REMOVED: u8 = 2;
const KILLED: u8 = 4;
const HAS_DUE: u8 = 8;
const HAS_OWNER: u8 = 16;

/// Encodes the outcome of each change: kind, slot and flags, one byte each; revision and due time, 8 bytes each, and
/// the hash prefix, 4 bytes, all little-endian; the id, and the id of the path's owner, each after its length in one
/// byte.
fn pack(outcomes: &[WriteOutcome]) -> Vec<u8> {
    let mut packed = Vec::with_capacity(outcomes.len() * 32);
    for outcome in outcomes {
        let flag = |flag, set| if set { flag } else { 0 };
        let flags = flag(CHANGED, outcome.changed)
            | flag(REMOVED, outcome.removed)
            | flag(KILLED, outcome.killed)
            | flag(HAS_DUE, outcome.due.is_some())
            | flag(HAS_OWNER, outcome.path_owner.is_some());
        packed.extend([outcome.name.kind as u8, outcome.slot as u8, flags]);
        packed.extend(outcome.revision.to_le_bytes());
        packed.extend(outcome.due.unwrap_or_default().to_le_bytes());
        packed.extend(outcome.prefix.0.to_le_bytes());
        let owner = outcome.path_owner.as_ref().map_or("", |owner| owner.id.as_str());
        for id in [outcome.name.id.as_str(), owner] {
            // An id has at most 128 characters.
            packed.push(u8::try_from(id.len()).unwrap_or(u8::MAX));
            packed.extend(id.as_bytes());
        }
    }
    packed
}

/// Returns `None` if the bytes are damaged.
fn unpack(mut packed: &[u8]) -> Option<Vec<WriteOutcome>> {
    let mut outcomes = Vec::new();
    while !packed.is_empty() {
        outcomes.push(unpack_one(&mut packed)?);
    }
    Some(outcomes)
}

fn unpack_one(rest: &mut &[u8]) -> Option<WriteOutcome> {
    let [kind, slot, flags] = *take(rest)?;
    let revision = i64::from_le_bytes(*take(rest)?);
    let due = i64::from_le_bytes(*take(rest)?);
    let prefix = HashPrefix(u32::from_le_bytes(*take(rest)?));
    let name = Name { kind: Kind::from_number(i64::from(kind))?, id: Id::parse(text(rest)?)? };
    let owner = text(rest)?;
    let owner = if flags & HAS_OWNER == 0 { None } else { Some(Id::parse(owner)?) };
    Some(WriteOutcome {
        name,
        revision,
        prefix,
        changed: flags & CHANGED != 0,
        slot: Slot::from_number(i64::from(slot))?,
        due: Some(due).filter(|_| flags & HAS_DUE != 0),
        removed: flags & REMOVED != 0,
        killed: flags & KILLED != 0,
        path_owner: owner.map(|id| Name { kind: Kind::Article, id }),
    })
}

fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (taken, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(taken)
}

fn text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let [length] = *take(rest)?;
    let (text, after) = rest.split_at_checked(usize::from(length))?;
    *rest = after;
    std::str::from_utf8(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{
        Writer,
        fixture::{name, open, snapshot},
    };

    #[test]
    fn an_outcome_reads_back_as_written() {
        let outcome = |name: &str, revision, slot, due| WriteOutcome {
            name: Name::parse(name).unwrap(),
            revision,
            prefix: HashPrefix(revision as u32),
            changed: revision % 2 == 0,
            slot,
            due,
            removed: revision == 7,
            killed: revision == 7,
            path_owner: due.and_then(|_| Name::parse("articles/owner")),
        };
        let outcomes = [
            outcome("articles/a", 7, Slot::Live, None),
            outcome("tags/b", 8, Slot::Pending, Some(-1)),
            outcome(&format!("articles/{}", "x".repeat(128)), i64::MAX, Slot::Pending, Some(i64::MAX)),
        ];
        let packed = pack(&outcomes);
        assert_eq!(unpack(&packed).unwrap(), outcomes);
        for end in 1..packed.len() {
            assert!(unpack(&packed[..end]).is_none_or(|cut| cut.len() < outcomes.len()), "cut at {end}");
        }
    }

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
}
