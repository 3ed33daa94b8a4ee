//! What the clock will change: pending versions, and live articles that expire. Nothing here is for readers.

use rusqlite::{Connection, params};

use super::{Error, listing::Cursor, read::row_name};
use crate::model::{Id, Kind, Name, Slot};

/// What is due at a time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Due {
    /// Microseconds since 1970 UTC.
    pub(crate) time: i64,
    pub(crate) name: Name,
    pub(crate) slot: Slot,
}

/// Where pending versions without a due time stand among the others: last.
pub(crate) const HELD: i64 = i64::MAX;

/// The earliest due time.
pub(super) fn next(connection: &Connection) -> rusqlite::Result<Option<i64>> {
    let mut statement = connection.prepare_cached("SELECT min(due) FROM doc WHERE due IS NOT NULL")?;
    statement.query_row([], |row| row.get(0))
}

/// Up to `limit` of what is due by a time, the earliest first, after one that was read before.
pub(crate) fn by(
    connection: &Connection,
    time: i64,
    after: Option<&Due>,
    limit: usize,
) -> Result<Vec<Due>, Error> {
    let sql = "SELECT kind, id, slot, due FROM doc
               WHERE due IS NOT NULL AND due <= ?1 AND (due, kind, slot, id) > (?2, ?3, ?4, ?5)
               ORDER BY due, kind, slot, id LIMIT ?6";
    let mut statement = connection.prepare_cached(sql)?;
    let place = after.map_or((i64::MIN, 0, 0, ""), |due| {
        (due.time, due.name.kind as i64, due.slot as i64, due.name.id.as_str())
    });
    let mut rows = statement.query(params![time, place.0, place.1, place.2, place.3, limit as i64])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let key = row_name(row)?.zip(Slot::from_number(row.get(2)?));
        let time = row.get(3)?;
        found.extend(key.map(|(name, slot)| Due { time, name, slot }));
    }
    Ok(found)
}

/// Up to `limit` pending versions after a place, the one that is due next first; those without a due time last.
pub(crate) fn pending(
    connection: &Connection,
    after: Option<&Cursor>,
    limit: usize,
) -> Result<Vec<(Name, Cursor)>, Error> {
    let start = Cursor { key: i64::MIN, id: String::new() };
    let after = after.unwrap_or(&start);
    let timed = "SELECT due, id FROM doc INDEXED BY pending
                 WHERE slot = 2 AND live = 1 AND (due, id) > (?1, ?2) ORDER BY due, id LIMIT ?3";
    let mut statement = connection.prepare_cached(timed)?;
    let mut found = cursors(statement.query(params![after.key, after.id, limit as i64])?)?;
    if found.len() < limit {
        let held = "SELECT ?1, id FROM doc INDEXED BY pending
                    WHERE slot = 2 AND live = 1 AND due IS NULL AND id > ?2 ORDER BY id LIMIT ?3";
        let mut statement = connection.prepare_cached(held)?;
        let id = if after.key == HELD { after.id.as_str() } else { "" };
        found.extend(cursors(statement.query(params![HELD, id, (limit - found.len()) as i64])?)?);
    }
    Ok(found)
}

fn cursors(mut rows: rusqlite::Rows<'_>) -> Result<Vec<(Name, Cursor)>, Error> {
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let cursor = Cursor { key: row.get(0)?, id: row.get(1)? };
        let id = Id::parse(&cursor.id);
        found.extend(id.map(|id| (Name { kind: Kind::Article, id }, cursor)));
    }
    Ok(found)
}
