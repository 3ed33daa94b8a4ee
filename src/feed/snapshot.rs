//! The snapshot of a feed: the matches at one revision, read in parts without a long transaction. Names that have
//! changed since that revision are omitted, because the feed delivers their changes afterwards.

use std::sync::Arc;

use super::{
    Feeds,
    event::{self, Encoding},
    filter::Filter,
};
use crate::{
    entry::Derived,
    model::{Kind, Name, Revision},
    store::{
        self, Damage, Error, Record,
        listing::{Cursor, Query},
    },
    wire::fields,
};

/// The maximum number of names looked up for one message, and the size in bytes at which it ends. The record that
/// reaches this size is the last one, so no message comes near
/// [`MAX_MESSAGE_BYTES`](super::message::MAX_MESSAGE_BYTES).
const MAX_NAMES: usize = 256;
const TARGET_BYTES: usize = 256 << 10;

/// The order of the kinds. The entities that an article names come before it.
const KIND_ORDER: [Kind; 5] = [Kind::Author, Kind::Section, Kind::Tag, Kind::Article, Kind::Collection];

/// A cursor over the entities that match.
#[derive(Debug)]
pub(super) struct Snapshot {
    /// The revision of the snapshot. Records with a later revision are omitted.
    head: Revision,
    query: Option<Arc<Query>>,
    /// Kinds that are not finished, the next one last.
    kinds: Vec<Kind>,
    /// Where the current kind continues.
    from: Option<Cursor>,
    /// The number of records sent so far.
    pub(super) count: i64,
    /// Records that match and cannot be read.
    pub(super) damage: Damage,
}

/// A FeedSnapshot, the number of its records, and the cursor at which the kind continues.
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
        let is_requested = |kind: &Kind| others.contains(kind) || (*kind == Kind::Article && query.is_some());
        let kinds = KIND_ORDER.into_iter().rev().filter(is_requested).collect();
        Snapshot { head, query, kinds, from: None, count: 0, damage: Damage::default() }
    }

    /// Returns the next FeedSnapshot. None at the end.
    pub(super) async fn next(
        &mut self,
        feeds: &Arc<Feeds>,
        encoding: Encoding,
    ) -> Result<Option<Vec<u8>>, Error> {
        while let Some(kind) = self.kinds.last().copied() {
            let (from, head, query) = (self.from.take(), self.head, self.query.clone());
            let read = feeds.read_in_task(move |snapshot| {
                let (names, next) = names(snapshot, kind, query.as_deref(), from.as_ref())?;
                part(snapshot, kind, (&names, next), head, encoding)
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

/// The next names of a kind, each with the cursor after it, and the cursor after all of them.
type Names = (Vec<(Name, Cursor)>, Option<Cursor>);

fn names(
    snapshot: store::Snapshot<'_>,
    kind: Kind,
    query: Option<&Query>,
    from: Option<&Cursor>,
) -> Result<Names, Error> {
    if let (Kind::Article, Some(query)) = (kind, query) {
        let slice = snapshot.articles(query, from, MAX_NAMES)?;
        return Ok((slice.found, slice.next));
    }
    let names = snapshot.names(kind, from, MAX_NAMES)?;
    let with_cursor = |name: Name| {
        let cursor = Cursor::by_id(&name);
        (name, cursor)
    };
    let names: Vec<_> = names.into_iter().map(with_cursor).collect();
    let next = names.last().filter(|_| names.len() == MAX_NAMES).map(|(_, cursor)| cursor.clone());
    Ok((names, next))
}

fn part(
    snapshot: store::Snapshot<'_>,
    kind: Kind,
    (names, next): (&[(Name, Cursor)], Option<Cursor>),
    head: Revision,
    encoding: Encoding,
) -> Result<Part, Error> {
    let mut part = Part { message: Vec::new(), count: 0, damage: Damage::default(), next };
    for (name, cursor) in names {
        let record = match snapshot.record(name) {
            Ok(Some(record)) => record,
            // The name was found in an index of the same state.
            Ok(None) | Err(Error::Corrupt(_)) => {
                part.damage.add(name);
                continue;
            }
            Err(error) => return Err(error),
        };
        // The feed delivers later changes after the snapshot.
        if record.revision > head {
            continue;
        }
        if !matches_index(&record, kind, cursor) {
            part.damage.add(name);
            continue;
        }
        fields::put_bytes(&mut part.message, 1, &event::record(record, encoding));
        part.count += 1;
        if part.message.len() >= TARGET_BYTES {
            part.next = Some(cursor.clone());
            break;
        }
    }
    Ok(part)
}

/// Whether a record agrees with the index in which it was found.
fn matches_index(record: &Record, kind: Kind, cursor: &Cursor) -> bool {
    record.is_put() && (kind != Kind::Article || Derived::time(&record.name, &record.log) == cursor.key)
}
