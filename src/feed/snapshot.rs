//! What matches at one moment, read a part at a time without a long transaction: whatever has changed since that moment
//! is left out, because the feed tells of it afterwards.

use std::sync::Arc;

use super::{Feeds, event, filter::Filter};
use crate::{
    compose::Shape,
    entry::Derived,
    model::{Kind, LogId, Name, Revision},
    store::{
        Connection, Damage, Error, Record,
        listing::{self, Cursor, Query},
        read,
    },
    wire::fields,
};

/// Names looked up for one message, and its encoded bytes: the record that reaches them is the last one, so that no
/// message comes near [`MAX_MESSAGE`](super::message::MAX_MESSAGE).
const NAMES: usize = 256;
const BYTES: usize = 256 << 10;

/// What comes first: whatever an article names is there before it.
const ORDER: [Kind; 5] = [Kind::Author, Kind::Section, Kind::Tag, Kind::Article, Kind::Collection];

/// A way through what matches.
#[derive(Debug)]
pub(super) struct Snapshot {
    /// The moment: what has a later revision is left out.
    head: Revision,
    query: Option<Arc<Query>>,
    /// Kinds still to come, the next one last.
    kinds: Vec<Kind>,
    /// Where the kind under way goes on.
    from: Option<Cursor>,
    /// Records told so far.
    pub(super) count: i64,
    /// Records that match and cannot be read.
    pub(super) damage: Damage,
}

/// A FeedSnapshot, with the number of its records, and where to go on.
struct Part {
    message: Vec<u8>,
    count: i64,
    damage: Damage,
    next: Option<Cursor>,
}

impl Snapshot {
    pub(super) fn new(filter: &Filter, head: Revision) -> Snapshot {
        let query = filter.query().map(Arc::new);
        let others: Vec<Kind> = filter.other_kinds().collect();
        let is_asked = |kind: &Kind| others.contains(kind) || (*kind == Kind::Article && query.is_some());
        let kinds = ORDER.into_iter().rev().filter(is_asked).collect();
        Snapshot { head, query, kinds, from: None, count: 0, damage: Damage::default() }
    }

    /// The next FeedSnapshot; none at the end.
    pub(super) async fn next(&mut self, feeds: &Arc<Feeds>, shape: Shape) -> Result<Option<Vec<u8>>, Error> {
        let log_id = feeds.log_id;
        while let Some(kind) = self.kinds.last().copied() {
            let (from, head, query) = (self.from.take(), self.head, self.query.clone());
            let read = feeds.read_apart(move |connection| {
                let moment = connection.unchecked_transaction()?;
                let (names, next) = names(&moment, kind, query.as_deref(), from.as_ref())?;
                part(&moment, kind, (&names, next), head, log_id, shape)
            });
            let part = read.await?;
            self.from = part.next;
            self.damage.merge(&part.damage);
            if self.from.is_none() {
                self.kinds.pop();
            }
            if part.count > 0 {
                self.count += part.count;
                return Ok(Some(part.message));
            }
        }
        Ok(None)
    }
}

/// The next names of a kind, each with the place after it, and where to go on after all.
type Names = (Vec<(Name, Cursor)>, Option<Cursor>);

fn names(
    connection: &Connection,
    kind: Kind,
    query: Option<&Query>,
    from: Option<&Cursor>,
) -> Result<Names, Error> {
    if let (Kind::Article, Some(query)) = (kind, query) {
        let slice = listing::slice(connection, query, from, NAMES)?;
        return Ok((slice.found, slice.next));
    }
    let after = from.map_or("", |cursor| &cursor.id);
    let names = read::names(connection, kind, after, NAMES)?;
    let place = |name: Name| {
        let cursor = Cursor { key: 0, id: name.id.to_string() };
        (name, cursor)
    };
    let names: Vec<_> = names.into_iter().map(place).collect();
    let next = names.last().filter(|_| names.len() == NAMES).map(|(_, cursor)| cursor.clone());
    Ok((names, next))
}

fn part(
    connection: &Connection,
    kind: Kind,
    (names, next): (&[(Name, Cursor)], Option<Cursor>),
    head: Revision,
    log_id: LogId,
    shape: Shape,
) -> Result<Part, Error> {
    let mut part = Part { message: Vec::new(), count: 0, damage: Damage::default(), next };
    for (name, cursor) in names {
        let record = match read::record(connection, name) {
            Ok(Some(record)) => record,
            // It was found in an index at the same moment.
            Ok(None) | Err(Error::Corrupt(_)) => {
                part.damage.add(name);
                continue;
            }
            Err(error) => return Err(error),
        };
        // What has changed since the moment is told afterwards.
        if record.revision > head {
            continue;
        }
        if !stands_at(&record, kind, cursor) {
            part.damage.add(name);
            continue;
        }
        fields::put_bytes(&mut part.message, 1, &event::record(&record, log_id, shape));
        part.count += 1;
        if part.message.len() >= BYTES {
            part.next = Some(cursor.clone());
            break;
        }
    }
    Ok(part)
}

/// Whether a record is what the index says in which it was found.
fn stands_at(record: &Record, kind: Kind, cursor: &Cursor) -> bool {
    record.is_put() && (kind != Kind::Article || Derived::time(&record.name, &record.log) == cursor.key)
}
