//! The snapshot of a feed: the matches at one revision, read in parts without a long transaction. Names that have
//! changed since that revision are omitted, because the feed delivers their changes afterwards.

use std::sync::Arc;

use tokio::time::Instant;

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

/// The maximum number of records in one message, and the size in bytes at which it ends. The record that
/// reaches this size is the last one, so no message comes near
/// [`MAX_MESSAGE_BYTES`](super::message::MAX_MESSAGE_BYTES).
const MAX_RECORDS: usize = 256;
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
    /// The next message, as far as it is read, and the number of its records.
    unsent: (Vec<u8>, usize),
    /// Records that match and cannot be read.
    pub(super) damage: Damage,
}

/// A FeedSnapshot, the number of its records, and the cursor at which the kind continues.
struct Part {
    message: Vec<u8>,
    count: usize,
    damage: Damage,
    next: Option<Cursor>,
}

impl Snapshot {
    pub(super) fn new(filter: &Filter, head: Revision) -> Snapshot {
        let query = filter.query().map(Arc::new);
        let others: Vec<Kind> = filter.other_kinds().collect();
        let is_requested = |kind: &Kind| others.contains(kind) || (*kind == Kind::Article && query.is_some());
        let kinds = KIND_ORDER.into_iter().rev().filter(is_requested).collect();
        let unsent = (Vec::new(), 0);
        Snapshot { head, query, kinds, from: None, count: 0, unsent, damage: Damage::default() }
    }

    /// Returns the next FeedSnapshot. None at the end. A message is full, or the last one of its kind: if it ended where
    /// many articles were scanned, its size would reveal how many do not match, of which a limited caller learns
    /// nothing. If it is not complete at the time `until`, the message is one without records, so that the client sees
    /// that the node is still reading. Each step is a read of its own, so none occupies a reader thread for long.
    pub(super) async fn next(
        &mut self,
        feeds: &Arc<Feeds>,
        encoding: Encoding,
        until: Instant,
    ) -> Result<Option<Vec<u8>>, Error> {
        while let Some(kind) = self.kinds.last().copied() {
            let (from, head, query) = (self.from.take(), self.head, self.query.clone());
            let (records, bytes) = (MAX_RECORDS - self.unsent.1, TARGET_BYTES - self.unsent.0.len());
            let read = feeds.read_in_task(move |snapshot| {
                let (names, next) = names(snapshot, kind, query.as_deref(), (from.as_ref(), records))?;
                part(snapshot, kind, (&names, next), (head, bytes), encoding)
            });
            let part = read.await?;
            self.from = part.next;
            self.damage.merge(&part.damage);
            let (message, count) = &mut self.unsent;
            message.extend(part.message);
            *count += part.count;
            if self.from.is_none() {
                self.kinds.pop();
            }
            let is_full = *count >= MAX_RECORDS || message.len() >= TARGET_BYTES;
            if is_full || (*count > 0 && self.from.is_none()) {
                break;
            }
            if until <= Instant::now() {
                return Ok(Some(Vec::new()));
            }
        }
        let (message, count) = std::mem::take(&mut self.unsent);
        self.count += count as i64;
        Ok((count > 0).then_some(message))
    }
}

/// The next names of a kind, each with the cursor after it, and the cursor after all of them.
type Names = (Vec<(Name, Cursor)>, Option<Cursor>);

fn names(
    snapshot: store::Snapshot<'_>,
    kind: Kind,
    query: Option<&Query>,
    (from, limit): (Option<&Cursor>, usize),
) -> Result<Names, Error> {
    if let (Kind::Article, Some(query)) = (kind, query) {
        let slice = snapshot.articles(query, from, limit)?;
        return Ok((slice.found, slice.next));
    }
    let names = snapshot.names(kind, from, limit)?;
    let with_cursor = |name: Name| {
        let cursor = Cursor::by_id(&name);
        (name, cursor)
    };
    let names: Vec<_> = names.into_iter().map(with_cursor).collect();
    let next = names.last().filter(|_| names.len() == limit).map(|(_, cursor)| cursor.clone());
    Ok((names, next))
}

fn part(
    snapshot: store::Snapshot<'_>,
    kind: Kind,
    (names, next): (&[(Name, Cursor)], Option<Cursor>),
    (head, target): (Revision, usize),
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
        if part.message.len() >= target {
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        compose::Shape,
        entry::Term,
        feed::{Form, group::GroupKey},
        model::{Id, LogId},
        store::fixture::{apply, article, open},
        wire::v1,
    };

    /// Articles outside the scope that are scanned, so many that a read ends between two matches.
    #[tokio::test]
    async fn hidden_articles_do_not_show_in_the_messages_of_a_snapshot() {
        let mut sizes = Vec::new();
        for hidden in [0, 100, 700] {
            let dir = tempfile::tempdir().unwrap();
            let (store, mut writer) = open(dir.path());
            let scope: Vec<String> = (0..250).map(|n| format!("scope{n:03}")).collect();
            let outside: Vec<_> =
                (0..hidden).map(|n| article(&format!("h{n:03}"), "A", &["sea"], 2 * n)).collect();
            let within: Vec<_> =
                (0..30).map(|n| article(&format!("v{n:03}"), "A", &["sea", &scope[0]], 1 + 40 * n)).collect();
            // Each tag of the scope has a list, and together they are longer than that of `sea`.
            let others: Vec<_> = scope
                .iter()
                .flat_map(|tag| (0..4).map(move |n| article(&format!("{tag}-{n}"), "B", &[tag], 1)))
                .collect();
            for entries in [outside, within, others] {
                for entries in entries.chunks(500) {
                    apply(&mut writer, entries);
                }
            }
            let request = v1::FeedFilter { any_tags: vec!["tags/sea".into()], ..Default::default() };
            let mut filter = Filter::parse(&request).unwrap();
            filter.narrow(scope.iter().map(|tag| Term::Tag(Id::parse(tag).unwrap())).collect());
            let key = GroupKey { filter, shape: Shape::Basic, backfill: false, form: Form::Grpc };
            let feeds = Arc::new(Feeds::new(store.clone(), 10));
            // The second time, the next message is due before anything is read.
            for patience in [Duration::from_secs(600), Duration::ZERO] {
                let mut snapshot = Snapshot::new(&key.filter, store.revision());
                let (mut counts, mut empty) = (Vec::new(), 0);
                let until = || Instant::now() + patience;
                while let Some(message) =
                    snapshot.next(&feeds, key.encoding(LogId(7)), until()).await.unwrap()
                {
                    match message.is_empty() {
                        true => empty += 1,
                        false => counts.push(snapshot.count),
                    }
                }
                sizes.push(counts);
                assert_eq!(empty > 0, hidden == 700 && patience.is_zero(), "{hidden} {patience:?}: {empty}");
            }
        }
        assert_eq!(sizes, [[30]; 6]);
    }
}
