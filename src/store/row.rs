//! The columns of a row of `doc` beside its entry. They suffice to undo the row's effects, so they have a checksum of
//! their own: with them, a damaged entry can be replaced.

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use xxhash_rust::xxh3::Xxh3;

use super::Error;
use crate::{
    digest::Hash,
    model::{Id, Kind, Name, Revision, Slot},
};

/// The term of a departure that represents all unknown departures.
pub(super) const ANY_TERM: i64 = 0;

/// The number of a list that an article has left, and the revision.
pub(super) type DepartureRow = (i64, Revision);

/// The columns of [`Columns`], in the order in which [`Columns::read`] expects them.
pub(super) const COLUMNS: &str = "revision, kind, slot, id, live, reason, due, time, terms, hash, content_hash, departures, base, wanted, page, sum";

/// All columns of a row of `doc` but the entry, as they were written or as they were found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Columns {
    pub(super) revision: Revision,
    pub(super) kind: i64,
    pub(super) slot: i64,
    pub(super) id: String,
    pub(super) live: bool,
    /// The removal reason of a tombstone, as in cable.v1.RemovalReason; otherwise 0.
    pub(super) reason: i64,
    pub(super) due: Option<i64>,
    pub(super) time: i64,
    pub(super) terms: Vec<u8>,
    pub(super) hash: Hash,
    pub(super) content_hash: Option<Hash>,
    pub(super) departures: Vec<u8>,
    pub(super) base: Option<Revision>,
    pub(super) wanted_path: Option<String>,
    /// The page of a live article, if it has a path.
    pub(super) page: Option<Vec<u8>>,
    /// The XXH3-64 of the other columns.
    pub(super) sum: i64,
}

impl Columns {
    /// Reads a row that was selected by [`COLUMNS`]. A value with another type than the one that was written is read as
    /// empty, and the checksum then fails.
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Columns> {
        let number = |i| row.get_ref(i).map(|value| value.as_i64_or_null().ok().flatten());
        let bytes =
            |i| row.get_ref(i).map(|value| value.as_blob_or_null().ok().flatten().map(<[u8]>::to_vec));
        let hash = |bytes: Vec<u8>| Hash::try_from(bytes).ok();
        Ok(Columns {
            revision: number(0)?.unwrap_or_default(),
            kind: number(1)?.unwrap_or_default(),
            slot: number(2)?.unwrap_or_default(),
            id: row.get_ref(3)?.as_str().unwrap_or_default().to_owned(),
            live: number(4)? == Some(1),
            reason: number(5)?.unwrap_or_default(),
            due: number(6)?,
            time: number(7)?.unwrap_or_default(),
            terms: bytes(8)?.unwrap_or_default(),
            hash: bytes(9)?.and_then(hash).unwrap_or_default(),
            content_hash: bytes(10)?.and_then(hash),
            departures: bytes(11)?.unwrap_or_default(),
            base: number(12)?,
            wanted_path: row.get_ref(13)?.as_str_or_null().ok().flatten().map(str::to_owned),
            page: bytes(14)?,
            sum: number(15)?.unwrap_or_default(),
        })
    }

    /// Returns the name, if the columns state one.
    pub(super) fn name(&self) -> Option<Name> {
        Some(Name { kind: Kind::from_number(self.kind)?, id: Id::parse(&self.id)? })
    }

    /// Returns the checksum of the columns as they are.
    pub(super) fn checksum(&self) -> i64 {
        let mut hasher = Xxh3::new();
        for number in [self.revision, self.kind, self.slot, i64::from(self.live), self.reason, self.time] {
            hasher.update(&number.to_le_bytes());
        }
        // The checksum covers the presence of an optional value, and the length of each value that varies.
        let due = self.due.map(i64::to_le_bytes);
        let base = self.base.map(i64::to_le_bytes);
        let optional = [
            due.as_ref().map(<[u8; 8]>::as_slice),
            base.as_ref().map(<[u8; 8]>::as_slice),
            self.content_hash.as_ref().map(Hash::as_slice),
            self.wanted_path.as_deref().map(str::as_bytes),
            self.page.as_deref(),
        ];
        let varying = [self.id.as_bytes(), &self.terms, &self.departures, &self.hash];
        for value in varying.into_iter().map(Some).chain(optional) {
            hasher.update(&value.map_or(u64::MAX, |value| value.len() as u64).to_le_bytes());
            hasher.update(value.unwrap_or_default());
        }
        hasher.digest().cast_signed()
    }

    /// Returns whether the columns are those that were written.
    pub(super) fn is_intact(&self) -> bool {
        self.checksum() == self.sum
    }

    /// Returns the label of the row in a report: its name or, if it has none, its revision.
    pub(super) fn label(&self) -> String {
        self.key().map_or_else(|| format!("revision {}", self.revision), |(name, _)| name.to_string())
    }

    /// Returns the key that the row itself states.
    pub(super) fn key(&self) -> Option<(Name, Slot)> {
        let name = Name { kind: Kind::from_number(self.kind)?, id: Id::parse(&self.id)? };
        Some((name, Slot::from_number(self.slot)?))
    }
}

/// Returns the revision of a key's newest entry, or `None` if it never had any. Both indexes of keys must agree, so
/// that a damaged page of one cannot make a name appear free.
pub(super) fn revision(connection: &Connection, name: &Name, slot: Slot) -> Result<Option<Revision>, Error> {
    let key = params![name.kind as i64, slot as i64, name.id.as_str()];
    let by_key = "SELECT revision FROM doc INDEXED BY doc_key WHERE kind = ?1 AND slot = ?2 AND id = ?3";
    let by_id = "SELECT revision FROM doc INDEXED BY doc_id WHERE kind = ?1 AND slot = ?2 AND id = ?3";
    let find = |sql| connection.prepare_cached(sql)?.query_row(key, |row| row.get(0)).optional();
    let (one, other): (Option<Revision>, Option<Revision>) = (find(by_key)?, find(by_id)?);
    if one == other { Ok(one) } else { Err(Error::malformed("name indexes disagree")) }
}

/// Returns the columns of a key's newest entry. They may be damaged.
pub(super) fn columns(connection: &Connection, name: &Name, slot: Slot) -> Result<Option<Columns>, Error> {
    let Some(revision) = revision(connection, name, slot)? else { return Ok(None) };
    let sql = format!("SELECT {COLUMNS} FROM doc WHERE revision = ?1");
    let found = connection.prepare_cached(&sql)?.query_row([revision], Columns::read).optional()?;
    let found = found.ok_or_else(|| Error::malformed("name index points to a missing record"))?;
    let is_same_key = found.key().is_none_or(|(found, at)| found == *name && at == slot);
    if is_same_key { Ok(Some(found)) } else { Err(Error::malformed("name index points to another record")) }
}

/// Adds a row with these columns and a sealed entry.
pub(super) fn insert(
    connection: &Connection,
    columns: &Columns,
    held: bool,
    entry: &[u8],
) -> Result<(), Error> {
    let sql = "INSERT INTO doc(revision, kind, slot, id, live, reason, due, time, terms, hash, content_hash,
                               departures, base, wanted, page, held, sum, entry)
               VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)";
    connection.prepare_cached(sql)?.execute(params![
        columns.revision,
        columns.kind,
        columns.slot,
        columns.id,
        columns.live,
        columns.reason,
        columns.due,
        columns.time,
        columns.terms,
        columns.hash,
        columns.content_hash,
        columns.departures,
        columns.base,
        columns.wanted_path,
        columns.page,
        held,
        columns.sum,
        entry,
    ])?;
    Ok(())
}

pub(super) fn pack_terms(terms: &[i64]) -> Vec<u8> {
    terms.iter().flat_map(|term| term.to_le_bytes()).collect()
}

pub(super) fn pack_departures(departures: &[DepartureRow]) -> Vec<u8> {
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

    #[test]
    fn a_change_of_any_column_fails_the_checksum() {
        let mut columns = Columns {
            revision: 1,
            kind: 1,
            slot: 1,
            id: "a".into(),
            live: true,
            terms: vec![1, 0, 0, 0],
            content_hash: Some([7; 32]),
            ..Columns::default()
        };
        columns.sum = columns.checksum();
        assert!(columns.is_intact());
        let changes: [fn(&mut Columns); 15] = [
            |columns| columns.revision = 2,
            |columns| columns.kind = 2,
            |columns| columns.slot = 2,
            |columns| columns.id = "b".into(),
            |columns| columns.live = false,
            |columns| columns.reason = 5,
            |columns| columns.due = Some(0),
            |columns| columns.time = 1,
            |columns| columns.terms[0] = 3,
            |columns| columns.hash[31] = 1,
            |columns| columns.content_hash = None,
            |columns| columns.departures = vec![0],
            |columns| columns.base = Some(0),
            |columns| columns.wanted_path = Some(String::new()),
            |columns| columns.page = Some(vec![1]),
        ];
        for (n, change) in changes.into_iter().enumerate() {
            let mut changed = columns.clone();
            change(&mut changed);
            assert!(!changed.is_intact(), "{n}");
        }
        // Bytes that move from one column to the next are a change, too.
        let moved = Columns { terms: Vec::new(), departures: columns.terms.clone(), ..columns };
        assert!(!moved.is_intact());
    }
}
