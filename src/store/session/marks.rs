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
        Marks::read(&open_unchanging(path)?)
    }

    /// Reads the marks in the write-ahead log.
    pub(super) fn with_log(path: &Path) -> rusqlite::Result<Marks> {
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        schema::set_log_retained(&connection, true)?;
        Marks::read(&connection)
    }
}

/// Opens the file of a database that no process changes, without its write-ahead log. No other file is created.
pub(in crate::store) fn open_unchanging(path: &Path) -> rusqlite::Result<Connection> {
    let mut uri = "file:".to_owned();
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => uri.push(*byte as char),
            other => uri += &format!("%{other:02x}"),
        }
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    Connection::open_with_flags(uri + "?immutable=1", flags)
}

/// Marks a database as a copy. With `had_credentials`, the copy has the table of that name, without rows: the credentials
/// are not in it, and a store that is made of it must not be open to all callers because of that.
pub(in crate::store) fn mark_copy(path: &Path, had_credentials: bool) -> rusqlite::Result<()> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.execute("UPDATE head SET session = 0, previous_session = 0", [])?;
    if had_credentials {
        connection.execute_batch("CREATE TABLE IF NOT EXISTS had_credentials(one INTEGER) STRICT")?;
    }
    Ok(())
}

/// Removes the mark of credentials from a copy. Returns whether it had one.
pub(super) fn take_credentials_mark(connection: &Connection) -> rusqlite::Result<bool> {
    let had_credentials = connection.table_exists(None, "had_credentials")?;
    connection.execute_batch("DROP TABLE IF EXISTS had_credentials")?;
    Ok(had_credentials)
}
