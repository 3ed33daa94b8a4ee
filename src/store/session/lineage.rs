//! The lineage of a database: whether it is in the state that the last session left, is a copy, or lacks commits.

use std::collections::BTreeSet;

use super::{
    file::{FileId, Record},
    marks::Marks,
};
use crate::{digest::Hash, model::Revision};

/// The lineage of a database, as the files of its directory show it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Lineage {
    /// The database is in the state that the last session left.
    Same,
    Copy,
    /// The database ends before this revision, which was acknowledged.
    Behind(Revision),
}

/// Decides the lineage of a database from its session files, its own identity and the session that it names.
pub(super) fn decide(
    records: &[Option<Record>],
    database: FileId,
    marks: Marks,
    chain_at: impl Fn(Revision) -> rusqlite::Result<Option<Hash>>,
) -> rusqlite::Result<Lineage> {
    let all: Option<Vec<Record>> = records.iter().copied().collect();
    let Some(records) = all.filter(|_| marks.id != 0) else { return Ok(Lineage::Copy) };
    let is_same_file = |record: &Record| record.database.matches(database);
    if !is_family(&records, marks.id) || !records.iter().all(is_same_file) {
        return Ok(Lineage::Copy);
    }
    let Some(newest) = records.iter().max_by_key(|record| record.revision) else { return Ok(Lineage::Copy) };
    if newest.revision > marks.revision {
        return Ok(Lineage::Behind(newest.revision));
    }
    let chain = chain_at(newest.revision)?;
    Ok(if chain.is_some_and(|chain| chain != newest.chain) { Lineage::Copy } else { Lineage::Same })
}

/// Returns whether all sessions with a file descend from each other, one of them being that which the database names.
/// While one session replaces another, both have a file, and the database names either one. Each start that is cut off
/// adds another.
fn is_family(records: &[Record], id: u64) -> bool {
    let mut known = BTreeSet::from([id]);
    loop {
        let before = known.len();
        for record in records {
            let relatives = [Some(record.id), Some(record.previous).filter(|previous| *previous != 0)];
            if relatives.iter().flatten().any(|relative| known.contains(relative)) {
                known.extend(relatives.iter().flatten());
            }
        }
        if known.len() == before {
            return records.iter().all(|record| known.contains(&record.id));
        }
    }
}
