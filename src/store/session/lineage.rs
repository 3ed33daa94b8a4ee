//! The lineage of a database: whether it is in the state that the last session left, is a copy, or lacks commits.

use std::{cmp::Reverse, collections::BTreeSet, path::PathBuf};

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

/// Decides the lineage of a database from the family of its session files, its own identity and the session that it
/// names.
pub(super) fn decide(
    family: Option<&[Record]>,
    database: FileId,
    marks: Marks,
    chain_at: impl Fn(Revision) -> rusqlite::Result<Option<Hash>>,
) -> rusqlite::Result<Lineage> {
    let is_same_file = |record: &Record| record.database.matches(database);
    let Some(records) = family.filter(|family| family.iter().all(is_same_file)) else {
        return Ok(Lineage::Copy);
    };
    let Some(newest) = records.iter().max_by_key(|record| record.revision) else { return Ok(Lineage::Copy) };
    if newest.revision > marks.revision {
        return Ok(Lineage::Behind(newest.revision));
    }
    let chain = chain_at(newest.revision)?;
    Ok(if chain.is_some_and(|chain| chain != newest.chain) { Lineage::Copy } else { Lineage::Same })
}

/// Returns the sessions with a file, if all of them descend from each other, and one from the session that the database
/// names, which is 0 if it names none. While one session replaces another, both have a file, and the database names
/// either one. Each start that is cut off adds another.
///
/// Each session is related to the named one by those before it: without the last ones, the rest is a family as well.
pub(super) fn family(records: &[Option<Record>], named: u64) -> Option<Vec<Record>> {
    let mut others: Vec<Record> = records.iter().copied().collect::<Option<_>>().filter(|_| named != 0)?;
    let mut family = Vec::with_capacity(others.len());
    let mut known = BTreeSet::from([named]);
    while !others.is_empty() {
        let is_known = |id: u64| id != 0 && known.contains(&id);
        let relative = others.iter().position(|record| is_known(record.id) || is_known(record.previous))?;
        let relative = others.swap_remove(relative);
        known.extend([relative.id, relative.previous]);
        family.push(relative);
    }
    Some(family)
}

/// Sorts session files for their removal. Without the first ones, those of a family are still one: a start can be cut
/// off between two removals.
pub(super) fn sort_for_removal(files: &mut [PathBuf], family: &[Record]) {
    files.sort_by_key(|file| Reverse(family.iter().position(|record| file.ends_with(record.file_name()))));
}
