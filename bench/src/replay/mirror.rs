//! The content of a follower that applies each message of a tag's feed, and the promises that each message must keep.

use std::collections::BTreeMap;

use cable_client::{
    Position,
    v1::{self, FeedChange, WatchResponse, feed_change, record::Record, watch_response::Event},
};

/// The compared part of an article.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shown {
    headline: String,
    tags: Vec<String>,
}

/// An article as the node returns it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) shown: Shown,
    pub(super) revision: i64,
}

/// Articles by name.
pub(super) type Articles<T> = BTreeMap<String, T>;

/// The content that one follower holds of a tag.
#[derive(Debug)]
pub(super) struct Mirror {
    /// The tag's name, `tags/{id}`.
    pub(super) tag: String,
    pub(super) articles: Articles<Held>,
    /// The position to resume from.
    pub(super) position: Position,
    /// The revision of the last checkpoint.
    pub(super) checkpoint: i64,
    /// The revision up to which the stream has delivered everything. Later messages must be above it.
    told: i64,
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

impl From<&v1::Article> for Shown {
    fn from(article: &v1::Article) -> Shown {
        Shown { headline: article.headline.clone(), tags: article.tags.clone() }
    }
}

impl From<&v1::Article> for Held {
    fn from(article: &v1::Article) -> Held {
        Held { shown: article.into(), revision: article.revision }
    }
}

impl Mirror {
    pub(super) fn new(tag: String, position: Position) -> Mirror {
        Mirror {
            tag,
            articles: Articles::new(),
            checkpoint: 0,
            told: position.revision,
            parts: Vec::new(),
            position,
            traffic: Traffic::default(),
            fault: None,
        }
    }

    /// Prepares for a new stream after the position.
    pub(super) fn resume(&mut self) {
        self.told = self.position.revision;
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
                return Err("a part of a commit has a position".into());
            }
            self.parts.extend(part.changes.iter().cloned());
            return Ok(());
        }
        let position = message.position.ok_or("a message has no position")?;
        let checkpoint = match message.event {
            Some(Event::Changes(last)) => {
                let changes = std::mem::take(&mut self.parts).into_iter().chain(last.changes);
                changes.into_iter().try_for_each(|change| self.change(change))?;
                false
            }
            _ if !self.parts.is_empty() => return Err("another message between two parts of a commit".into()),
            Some(Event::Checkpoint(_)) => true,
            other => return Err(format!("after a position there is no {other:?}")),
        };
        if position.revision < self.told {
            return Err(format!("the position {} comes after revision {}", position.revision, self.told));
        }
        self.told = position.revision;
        if checkpoint {
            self.checkpoint = position.revision;
        }
        self.position = position;
        Ok(())
    }

    fn change(&mut self, FeedChange { revision, change, .. }: FeedChange) -> Result<(), String> {
        if revision <= self.told {
            return Err(format!("revision {revision} comes when all up to {} was told", self.told));
        }
        self.told = revision;
        self.traffic.changes += 1;
        let name = match change {
            Some(feed_change::Change::Upsert(record)) => return self.upsert(revision, &record),
            Some(feed_change::Change::Left(name)) => name,
            Some(feed_change::Change::Removed(tombstone)) => tombstone.name,
            other => return Err(format!("revision {revision} is {other:?}")),
        };
        // A feed may remove an article that this follower never held.
        self.articles.remove(&name);
        Ok(())
    }

    fn upsert(&mut self, revision: i64, record: &cable_client::RawRecord) -> Result<(), String> {
        let record = record.decode().map_err(|error| error.to_string())?;
        let Some(Record::Article(article)) = record.record else {
            return Err(format!("revision {revision} is no article"));
        };
        if article.revision != revision || !article.tags.contains(&self.tag) {
            let (name, tags) = (&article.name, &article.tags);
            return Err(format!("revision {revision} shows {name} of {} with {tags:?}", article.revision));
        }
        self.articles.insert(article.name.clone(), Held::from(&article));
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

    fn change(revision: i64, what: feed_change::Change) -> FeedChange {
        let mut change = FeedChange::default();
        change.revision = revision;
        change.change = Some(what);
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

    fn told(revision: i64, changes: Vec<FeedChange>) -> WatchResponse {
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
    fn whoever_applies_all_messages_holds_what_matches() {
        let mut mirror = mirror();
        mirror.resume();
        mirror.apply(told(5, vec![article("a", 1), article("b", 2), article("c", 4)])).unwrap();
        mirror.apply(checkpoint(5)).unwrap();
        mirror.apply(told(8, vec![left("a", 6), removed("b", 7), removed("unknown", 8)])).unwrap();
        assert_eq!(mirror.articles.keys().collect::<Vec<_>>(), ["articles/c"]);
        assert_eq!((mirror.checkpoint, mirror.position.revision), (5, 8));
        let traffic = Traffic { streams: 1, messages: 3, changes: 6, lost: 0 };
        assert_eq!(mirror.traffic, traffic);
    }

    #[test]
    fn a_broken_promise_is_told() {
        let broken: [(&str, Vec<WatchResponse>); 6] = [
            ("twice", vec![told(2, vec![article("a", 2), article("a", 2)])]),
            ("out of order", vec![told(2, vec![article("a", 2), left("b", 1)])]),
            ("below a checkpoint", vec![checkpoint(3), told(4, vec![article("a", 3)])]),
            ("a position before what was told", vec![told(1, vec![article("a", 2)])]),
            ("a checkpoint that goes back", vec![checkpoint(3), checkpoint(2)]),
            (
                "a snapshot that nobody asked for",
                vec![at(1, Event::SnapshotEnd(v1::FeedSnapshotEnd::default()))],
            ),
        ];
        for (what, messages) in broken {
            let mut mirror = mirror();
            assert!(messages.into_iter().any(|message| mirror.apply(message).is_err()), "{what}");
        }
        let mut other = Mirror::new("tags/land".into(), Position::default());
        assert!(other.apply(told(1, vec![article("a", 1)])).is_err());
    }

    #[test]
    fn a_resumed_stream_tells_nothing_at_or_below_its_position() {
        let mut mirror = mirror();
        mirror.apply(told(5, vec![article("a", 4)])).unwrap();
        mirror.resume();
        assert!(mirror.apply(told(6, vec![article("a", 5)])).is_err());
    }
}
