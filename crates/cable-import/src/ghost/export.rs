//! The tables of an export, read row by row: `{"db": [{"data": {"posts": [...]}}]}`, or `{"data": ...}`.

use std::{
    cell::Cell,
    fmt,
    fs::File,
    io::{self, BufRead as _, BufReader, Read},
    path::Path,
    rc::Rc,
};

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::Error;
use crate::text;

/// The byte order mark, which some editors write at the start of a file.
const BYTE_ORDER_MARK: &str = "\u{feff}";

/// The maximum size of one row in bytes.
pub(super) const MAX_ROW_BYTES: u64 = 32 << 20;

/// The table whose rows become articles.
const POSTS: &str = "posts";

/// A row of a table. One that is not an object has no value.
#[derive(Debug, Clone, Default)]
pub(super) struct Row(pub(super) Map<String, Value>);

impl Row {
    /// Returns a text or a number as text; empty if the row has none.
    pub(super) fn text(&self, key: &str) -> String {
        match self.0.get(key) {
            Some(Value::String(text)) => text.trim().to_owned(),
            Some(Value::Number(number)) => number.to_string(),
            _ => String::new(),
        }
    }

    /// Returns whether a value is true, or 1 as in older exports.
    pub(super) fn flag(&self, key: &str) -> bool {
        matches!(self.0.get(key), Some(Value::Bool(true))) || self.text(key) == "1"
    }
}

/// A reader that fails once more bytes than a row may have are read without a pause.
struct Bounded<R> {
    inner: R,
    left: Rc<Cell<u64>>,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = self.left.get();
        if left == 0 {
            return Err(io::Error::other(format!("a row has more than {} MiB", MAX_ROW_BYTES >> 20)));
        }
        let length = into.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let count = self.inner.read(&mut into[..length])?;
        self.left.set(left - count as u64);
        Ok(count)
    }
}

/// Calls a function with each row of the wanted tables, until it returns false.
///
/// # Errors
/// The file cannot be read, or is not an export.
pub(super) fn rows(
    file: &Path,
    wanted: &[&str],
    each: &mut dyn FnMut(&str, Row) -> Result<bool, Error>,
) -> Result<(), Error> {
    let file = File::open(file).map_err(Error::Read)?;
    let left = Rc::new(Cell::new(MAX_ROW_BYTES));
    let mut file = BufReader::with_capacity(1 << 18, file);
    let start = file.fill_buf().map_err(Error::Read)?;
    text::check_start(start).map_err(|error| Error::NotGhost(error.to_string()))?;
    if start.starts_with(BYTE_ORDER_MARK.as_bytes()) {
        file.consume(BYTE_ORDER_MARK.len());
    }
    let reader = Bounded { inner: file, left: left.clone() };
    let mut state = State { wanted, each, left, tables: 0, complete: Vec::new(), stop: None };
    let mut json = serde_json::Deserializer::from_reader(reader);
    let read = Level::Root.seed(&mut state).deserialize(&mut json);
    match (state.stop.take(), read) {
        (Some(stop), _) => stop,
        (None, Err(error)) if error.is_eof() => {
            let is_open =
                |table: &&&str| **table != POSTS && !state.complete.iter().any(|other| other == **table);
            match wanted.iter().find(is_open) {
                Some(table) => Err(Error::Incomplete((*table).to_owned())),
                None => Err(Error::Truncated(error.to_string())),
            }
        }
        (None, Err(error)) => Err(Error::NotGhost(error.to_string())),
        (None, Ok(())) if state.tables == 0 => {
            Err(Error::NotGhost("no table `posts` in `db[0].data`".into()))
        }
        (None, Ok(())) => Ok(()),
    }
}

struct State<'a> {
    wanted: &'a [&'a str],
    each: &'a mut dyn FnMut(&str, Row) -> Result<bool, Error>,
    left: Rc<Cell<u64>>,
    /// The number of tables `posts`.
    tables: u64,
    /// The wanted tables that were read to their end.
    complete: Vec<String>,
    /// The result of a function that has ended the reading.
    stop: Option<Result<(), Error>>,
}

/// The part of the file that a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level<'a> {
    Root,
    /// The list of databases, or one of them.
    Database,
    Tables,
    Table(&'a str),
}

impl<'a> Level<'a> {
    fn seed<'b, 'c>(self, state: &'b mut State<'c>) -> Seed<'a, 'b, 'c> {
        Seed { level: self, state }
    }
}

struct Seed<'a, 'b, 'c> {
    level: Level<'a>,
    state: &'b mut State<'c>,
}

impl<'de> DeserializeSeed<'de> for Seed<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an export of Ghost")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            self.state.left.set(MAX_ROW_BYTES);
            let level = match (self.level, key.as_str()) {
                (Level::Root, "db") => Level::Database,
                (Level::Root | Level::Database, "data") => Level::Tables,
                (Level::Tables, table) => Level::Table(table),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            self.state.tables += u64::from(level == Level::Table(POSTS));
            map.next_value_seed(level.seed(self.state))?;
            if matches!(level, Level::Table(_)) && self.state.wanted.contains(&key.as_str()) {
                self.state.complete.push(key);
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        loop {
            self.state.left.set(MAX_ROW_BYTES);
            let table = match self.level {
                Level::Table(table) if self.state.wanted.contains(&table) => table,
                Level::Database => match seq.next_element_seed(Level::Database.seed(self.state))? {
                    Some(()) => continue,
                    None => return Ok(()),
                },
                _ => match seq.next_element::<IgnoredAny>()? {
                    Some(_) => continue,
                    None => return Ok(()),
                },
            };
            let Some(value) = seq.next_element::<Value>()? else { return Ok(()) };
            let row = if let Value::Object(row) = value { Row(row) } else { Row::default() };
            match (self.state.each)(table, row) {
                Ok(true) => {}
                result => {
                    self.state.stop = Some(result.map(drop));
                    return Err(A::Error::custom("stopped"));
                }
            }
        }
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _value: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _value: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _value: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _value: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _value: &str) -> Result<(), E> {
        Ok(())
    }
}
