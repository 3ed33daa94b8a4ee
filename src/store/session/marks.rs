//! The session that a database names, in its own file and in a write-ahead log.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use crate::{model::Revision, store::schema};

/// The session that a database names, and its newest revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Marks {
    /// The session id; 0 if there is none, as in a backup.
    pub(super) id: u64,
    /// The previous session where the database file may still name it instead, otherwise 0.
    pub(super) previous: u64,
    pub(super) revision: Revision,
}

impl Marks {
    pub(super) fn read(connection: &Connection) -> rusqlite::Result<Marks> {
        let sql = "SELECT session, previous_session, revision FROM head";
        connection.query_row(sql, [], |row| {
            let number = |index| row.get::<_, i64>(index).map(|number| number as u64);
            Ok(Marks { id: number(0)?, previous: number(1)?, revision: row.get(2)? })
        })
    }

    /// Reads the marks in the file of the database alone.
    pub(super) fn without_log(path: &Path) -> rusqlite::Result<Marks> {
        let mut uri = "file:".to_owned();
        for byte in path.as_os_str().as_encoded_bytes() {
            match byte {
                b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => {
                    uri.push(*byte as char)
                }
                other => uri += &format!("%{other:02x}"),
            }
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
        Marks::read(&Connection::open_with_flags(uri + "?immutable=1", flags)?)
    }

    /// Reads the marks in the write-ahead log.
    pub(super) fn with_log(path: &Path) -> rusqlite::Result<Marks> {
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        schema::set_log_retained(&connection, true)?;
        Marks::read(&connection)
    }
}

/// Marks a database as a copy.
pub(in crate::store) fn mark_copy(path: &Path) -> rusqlite::Result<()> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.execute("UPDATE head SET session = 0, previous_session = 0", [])?;
    Ok(())
}
