//! The content of a follower that applies each message of a tag's feed, and the promises that each message must keep.

use std::collections::BTreeMap;

use cable_client::{
    Position,
    v1::{self, FeedChange, WatchResponse, feed_change, record::Record, watch_response::Event},
};

/// The compared part of an article.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ComparedFields {
    headline: String,
    tags: Vec<String>,
}

/// An article as the node returns it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MirroredArticle {
    pub(super) fields: ComparedFields,
    pub(super) revision: i64,
}

/// Articles by name.
pub(super) type Articles<T> = BTreeMap<String, T>;

/// The content that one follower holds of a tag.
#[derive(Debug)]
pub(super) struct Mirror {
    /// The tag's name, `tags/{id}`.
    pub(super) tag: String,
    pub(super) articles: Articles<MirroredArticle>,
    /// The position to resume from.
    pub(super) position: Position,
    /// The revision of the last checkpoint.
    pub(super) checkpoint: i64,
    /// The revision up to which the stream has delivered everything. Later messages must be above it.
    delivered_up_to: i64,
    /// The changes of a commit whose last part has not been received.
    parts: Vec<FeedChange>,
    pub(super) traffic: Traffic,
    /// A broken promise, or the reason why the feed cannot continue.
    pub(super) fault: Option<String>,
}

/// The received traffic.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Traffic {
    pub(super) streams: u64,
    pub(super) messages: u64,
    pub(super) changes: u64,
    /// The number of streams that ended without the follower's request.
    pub(super) lost: u64,
}

impl From<&v1::Article> for ComparedFields {
    fn from(article: &v1::Article) -> ComparedFields {
        ComparedFields { headline: article.headline.clone(), tags: article.tags.clone() }
    }
}

impl From<&v1::Article> for MirroredArticle {
    fn from(article: &v1::Article) -> MirroredArticle {
        MirroredArticle { fields: article.into(), revision: article.revision }
    }
}

impl Mirror {
    pub(super) fn new(tag: String, position: Position) -> Mirror {
        Mirror {
            tag,
            articles: Articles::new(),
            checkpoint: 0,
            delivered_up_to: position.revision,
            parts: Vec::new(),
            position,
            traffic: Traffic::default(),
            fault: None,
        }
    }

    /// Prepares for a new stream after the position.
    pub(super) fn resume(&mut self) {
        self.delivered_up_to = self.position.revision;
        self.parts.clear();
        self.traffic.streams += 1;
    }

    /// Applies a message.
    ///
    /// # Errors
    /// Fails if the message breaks a promise.
    pub(super) fn apply(&mut self, message: WatchResponse) -> Result<(), String> {
        self.traffic.messages += 1;
        if let Some(Event::Changes(part)) = &message.event
            && part.more_follows
        {
            if message.position.is_some() {
                return Err("position before the last part of a commit".into());
            }
            self.parts.extend(part.changes.iter().cloned());
            return Ok(());
        }
        let position = message.position.ok_or("message without a position")?;
        let checkpoint = match message.event {
            Some(Event::Changes(last)) => {
                let changes = std::mem::take(&mut self.parts).into_iter().chain(last.changes);
                changes.into_iter().try_for_each(|change| self.change(change))?;
                false
            }
            _ if !self.parts.is_empty() => return Err("another message between the parts of a commit".into()),
            Some(Event::Checkpoint(_)) => true,
            other => return Err(format!("unexpected event after a position: {other:?}")),
        };
        if position.revision < self.delivered_up_to {
            return Err(format!("position {} after revision {}", position.revision, self.delivered_up_to));
        }
        self.delivered_up_to = position.revision;
        if checkpoint {
            self.checkpoint = position.revision;
        }
        self.position = position;
        Ok(())
    }

    fn change(&mut self, FeedChange { revision, change, .. }: FeedChange) -> Result<(), String> {
        if revision <= self.delivered_up_to {
            return Err(format!("revision {revision} after delivery up to {}", self.delivered_up_to));
        }
        self.delivered_up_to = revision;
        self.traffic.changes += 1;
        let name = match change {
            Some(feed_change::Change::Upsert(record)) => return self.upsert(revision, &record),
            Some(feed_change::Change::Left(name)) => name,
            Some(feed_change::Change::Removed(tombstone)) => tombstone.name,
            other => return Err(format!("revision {revision}: unexpected change {other:?}")),
        };
        // A feed may remove an article that this follower never held.
        self.articles.remove(&name);
        Ok(())
    }

    fn upsert(&mut self, revision: i64, record: &cable_client::RawRecord) -> Result<(), String> {
        let record = record.decode().map_err(|error| error.to_string())?;
        let Some(Record::Article(article)) = record.record else {
            return Err(format!("revision {revision}: not an article"));
        };
        if article.revision != revision || !article.tags.contains(&self.tag) {
            let (name, tags) = (&article.name, &article.tags);
            return Err(format!(
                "revision {revision}: unexpected {name} of revision {} with tags {tags:?}",
                article.revision
            ));
        }
        self.articles.insert(article.name.clone(), MirroredArticle::from(&article));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use cable_client::RawRecord;

    use super::*;

    fn article(id: &str, revision: i64) -> FeedChange {
        let mut article = v1::Article::default();
        article.name = format!("articles/{id}");
        article.headline = "Storm over Norwick".into();
        article.tags.push("tags/sea".into());
        article.revision = revision;
        change(revision, feed_change::Change::Upsert(RawRecord::from(article)))
    }

    fn change(revision: i64, kind: feed_change::Change) -> FeedChange {
        let mut change = FeedChange::default();
        change.revision = revision;
        change.change = Some(kind);
        change
    }

    fn left(id: &str, revision: i64) -> FeedChange {
        change(revision, feed_change::Change::Left(format!("articles/{id}")))
    }

    fn removed(id: &str, revision: i64) -> FeedChange {
        let mut tombstone = v1::Tombstone::default();
        tombstone.name = format!("articles/{id}");
        change(revision, feed_change::Change::Removed(tombstone))
    }

    fn at(revision: i64, event: Event) -> WatchResponse {
        let mut message = WatchResponse::default();
        let mut position = Position::default();
        position.revision = revision;
        message.position = Some(position);
        message.event = Some(event);
        message
    }

    fn changes_message(revision: i64, changes: Vec<FeedChange>) -> WatchResponse {
        let mut event = v1::FeedChanges::default();
        event.changes = changes;
        at(revision, Event::Changes(event))
    }

    fn checkpoint(revision: i64) -> WatchResponse {
        at(revision, Event::Checkpoint(v1::FeedCheckpoint::default()))
    }

    fn mirror() -> Mirror {
        Mirror::new("tags/sea".into(), Position::default())
    }

    #[test]
    fn applying_all_messages_yields_the_matching_articles() {
        let mut mirror = mirror();
        mirror.resume();
        mirror.apply(changes_message(5, vec![article("a", 1), article("b", 2), article("c", 4)])).unwrap();
        mirror.apply(checkpoint(5)).unwrap();
        mirror.apply(changes_message(8, vec![left("a", 6), removed("b", 7), removed("unknown", 8)])).unwrap();
        assert_eq!(mirror.articles.keys().collect::<Vec<_>>(), ["articles/c"]);
        assert_eq!((mirror.checkpoint, mirror.position.revision), (5, 8));
        let traffic = Traffic { streams: 1, messages: 3, changes: 6, lost: 0 };
        assert_eq!(mirror.traffic, traffic);
    }

    #[test]
    fn a_broken_promise_is_an_error() {
        let broken: [(&str, Vec<WatchResponse>); 6] = [
            ("repeated revision", vec![changes_message(2, vec![article("a", 2), article("a", 2)])]),
            ("revision out of order", vec![changes_message(2, vec![article("a", 2), left("b", 1)])]),
            ("revision below a checkpoint", vec![checkpoint(3), changes_message(4, vec![article("a", 3)])]),
            ("position below a delivered revision", vec![changes_message(1, vec![article("a", 2)])]),
            ("checkpoint below another", vec![checkpoint(3), checkpoint(2)]),
            ("snapshot without a request", vec![at(1, Event::SnapshotEnd(v1::FeedSnapshotEnd::default()))]),
        ];
        for (violation, messages) in broken {
            let mut mirror = mirror();
            assert!(messages.into_iter().any(|message| mirror.apply(message).is_err()), "{violation}");
        }
        let mut other = Mirror::new("tags/land".into(), Position::default());
        assert!(other.apply(changes_message(1, vec![article("a", 1)])).is_err());
    }

    #[test]
    fn a_resumed_stream_continues_above_its_position() {
        let mut mirror = mirror();
        mirror.apply(changes_message(5, vec![article("a", 4)])).unwrap();
        mirror.resume();
        assert!(mirror.apply(changes_message(6, vec![article("a", 5)])).is_err());
    }
}
