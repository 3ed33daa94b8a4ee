//! A stand-in for a record that cannot be read, made from the columns beside the entry, the lists and the paths. It is
//! used to plan a write over the record, which has to undo what readers and followers have seen. Its content is never
//! served.

use prost::Message as _;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::{
    Error, Record, Snapshot,
    row::{self, ANY_TERM, Columns, unpack_departures, unpack_terms},
};
use crate::{
    entry::{Claim, Term},
    model::{HashPrefix, Kind, Name, Revision, Slot},
    wire::{
        log::{Departure, FormerPath, Import, LogEntry, Operation},
        v1::{self, RemovalReason},
    },
};

impl Snapshot<'_> {
    /// Returns the newest entry of a key, or a stand-in for it if it is damaged, and whether it is a stand-in.
    pub(crate) fn record_or_stand_in(self, name: &Name, slot: Slot) -> Result<Option<(Record, bool)>, Error> {
        match self.newest(name, slot) {
            Err(Error::Corrupt(_)) => {
                let columns = row::columns(self.connection, name, slot)?;
                Ok(columns
                    .map(|columns| stand_in(self.connection, name, slot, &columns))
                    .transpose()?
                    .map(|record| (record, true)))
            }
            record => Ok(record?.map(|record| (record, false))),
        }
    }
}

/// Returns a stand-in for a damaged entry, made from the columns beside it.
pub(super) fn stand_in(
    connection: &Connection,
    name: &Name,
    slot: Slot,
    columns: &Columns,
) -> Result<Record, Error> {
    let revision = columns.revision;
    let time = time(connection, revision)?.unwrap_or(columns.time);
    let is_put = columns.live || columns.content_hash.is_some();
    let base_revision = columns.base.unwrap_or_default();
    let mut log = LogEntry { time, create_time: time, base_revision, ..LogEntry::default() };
    log.operation = if is_put { Operation::Put } else { Operation::Remove } as i32;
    if !is_put {
        log.reason = reason(columns) as i32;
    } else if slot == Slot::Live && columns.base.is_some() {
        log.import = Some(Import::default());
    }
    if name.kind == Kind::Article && slot == Slot::Live {
        log.first_publish_time = columns.time;
        let (own, others) = paths(connection, name)?;
        log.former_paths = others
            .into_iter()
            .map(|path| FormerPath { path, cease_time: time, ..FormerPath::default() })
            .collect();
        log.departures = departures(connection, &columns.departures)?;
        let floor = unpack_departures(&columns.departures).into_iter().find(|(term, _)| *term == ANY_TERM);
        log.departure_floor = floor.map_or(0, |(_, at)| at);
        log.content = content(connection, &columns.terms, own)?.encode_to_vec().into();
    }
    let prefix = HashPrefix::of(&columns.hash);
    Ok(Record { name: name.clone(), slot, revision, prefix, log })
}

/// Returns the removal reason. An uncertain reason counts as a kill: damage must not publish a killed name again.
fn reason(columns: &Columns) -> RemovalReason {
    let stated = i32::try_from(columns.reason).ok().and_then(|reason| RemovalReason::try_from(reason).ok());
    stated.filter(|_| columns.is_intact()).unwrap_or(RemovalReason::Killed)
}

fn time(connection: &Connection, revision: Revision) -> Result<Option<i64>, Error> {
    let mut statement = connection.prepare_cached("SELECT time FROM chain WHERE revision = ?1")?;
    Ok(statement.query_row([revision], |row| row.get(0)).optional()?)
}

/// Returns the article's own path, and all others that lead to it.
fn paths(connection: &Connection, name: &Name) -> Result<(Option<String>, Vec<String>), Error> {
    let mut statement =
        connection.prepare_cached("SELECT path, rank = ?2 FROM path WHERE id = ?1 ORDER BY path")?;
    let key = params![name.id.as_str(), Claim::OWN];
    let rows = statement.query_map(key, |row| Ok((row.get(0)?, row.get(1)?)))?;
    let (mut own, mut others) = (None, Vec::new());
    for row in rows {
        match row? {
            (path, true) => own = Some(path),
            (path, false) => others.push(path),
        }
    }
    Ok((own, others))
}

fn departures(connection: &Connection, departures: &[u8]) -> Result<Vec<Departure>, Error> {
    let mut departed = Vec::new();
    for (number, revision) in unpack_departures(departures) {
        let name = term(connection, number)?.and_then(|term| term.name());
        departed.extend(name.map(|name| Departure { name, revision }));
    }
    Ok(departed)
}

/// Returns an article that belongs to the same lists.
fn content(connection: &Connection, terms: &[u8], own_path: Option<String>) -> Result<v1::Article, Error> {
    let mut article = v1::Article { path: own_path.unwrap_or_default(), ..v1::Article::default() };
    let mut credits = Vec::new();
    for number in unpack_terms(terms) {
        let Some(term) = term(connection, number)? else { continue };
        let name = term.name().unwrap_or_default();
        match term {
            Term::All => {}
            Term::Tag(_) => article.tags.push(name),
            Term::Section(_) => article.additional_sections.push(name),
            Term::Author(_) => credits.push(v1::Credit { author: name, ..v1::Credit::default() }),
            Term::Type(number) => article.r#type = number,
            Term::Language(language) => article.language = language,
        }
    }
    article.byline = (!credits.is_empty()).then(|| v1::Byline { credits, ..v1::Byline::default() });
    Ok(article)
}

fn term(connection: &Connection, number: i64) -> Result<Option<Term>, Error> {
    let mut statement = connection.prepare_cached("SELECT kind, value FROM term WHERE n = ?1")?;
    let parts = statement.query_row([number], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)));
    Ok(parts.optional()?.and_then(|(kind, value)| Term::from_parts(kind, &value)))
}
