//! A follower of a feed that uses the messages of the schema directly.

use std::time::Duration;

use bytes::Bytes;
use cable_client::v1::{
    self, Position, WatchRequest, WatchResponse, feed_change::Change, watch_request::Start,
    watch_response::Event,
};
use futures_util::FutureExt as _;
use prost::Message as _;
use tonic::{Status, Streaming};

use crate::{raw::Raw, support::Node};

/// A time limit longer than any step takes.
const PATIENCE: Duration = Duration::from_secs(120);

/// A stream of Watch.
#[derive(Debug)]
pub(crate) struct WatchStream {
    messages: Streaming<Bytes>,
    /// The encoded size of the largest message so far, and the number of parts of commits.
    pub(crate) largest: usize,
    pub(crate) parts: usize,
    /// The changes of a commit whose last part has not been received.
    partial: Option<Vec<v1::FeedChange>>,
}

/// The event of a message, in short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FeedEvent {
    Changes(Vec<Changed>),
    Snapshot(Vec<String>),
    SnapshotEnd(i64),
    Checkpoint,
    Reset(v1::FeedResetReason),
}

/// A change of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Changed {
    /// The name and its revision.
    Upsert(String, i64),
    Left(String),
    Removed(String, v1::RemovalReason),
}

/// Returns a request for entities with one of these tags, or for all entities if there are none.
pub(crate) fn request(tags: &[&str], start: Option<Start>) -> WatchRequest {
    let mut request = WatchRequest::default();
    let mut filter = v1::FeedFilter::default();
    filter.any_tags = tags.iter().map(|tag| format!("tags/{tag}")).collect();
    request.filter = Some(filter);
    request.start = start;
    request
}

pub(crate) fn after(revision: i64) -> Option<Start> {
    let mut position = Position::default();
    position.revision = revision;
    Some(Start::After(position))
}

impl WatchStream {
    pub(crate) async fn open(node: &Node, request: WatchRequest) -> Result<WatchStream, Status> {
        WatchStream::open_on(&Raw::to(node).await, request).await
    }

    /// Opens a stream on a connection that others may share.
    pub(crate) async fn open_on(raw: &Raw, request: WatchRequest) -> Result<WatchStream, Status> {
        let messages = raw.stream("Watch", request.encode_to_vec().into()).await?;
        Ok(WatchStream { messages, largest: 0, parts: 0, partial: None })
    }

    /// Returns the next message, with the parts of a commit joined.
    pub(crate) async fn message(&mut self) -> Result<WatchResponse, Status> {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.messages.message()).await;
            let message = message.expect("a feed is not silent for so long")?;
            if let Some(joined) = self.join(message) {
                return Ok(joined);
            }
        }
    }

    /// Returns the changes of the first part of a commit. [`message`](Follow::message) continues with the others.
    pub(crate) async fn first_part(&mut self) -> Vec<Changed> {
        while self.partial.is_none() {
            let message = self.messages.message().await.unwrap();
            let joined = self.join(message);
            let is_checkpoint = |joined: &WatchResponse| matches!(joined.event, Some(Event::Checkpoint(_)));
            assert!(joined.as_ref().is_none_or(is_checkpoint), "no part of a commit: {joined:?}");
        }
        self.partial.clone().unwrap_or_default().into_iter().map(changed).collect()
    }

    /// Returns the next message if one is available, with the parts of a commit joined.
    pub(crate) fn ready(&mut self) -> Option<Result<WatchResponse, Status>> {
        loop {
            match self.messages.message().now_or_never()? {
                Err(status) => return Some(Err(status)),
                Ok(message) => {
                    if let Some(joined) = self.join(message) {
                        return Some(Ok(joined));
                    }
                }
            }
        }
    }

    /// Joins a message with the parts before it. Returns none while more of the commit follows.
    fn join(&mut self, message: Option<Bytes>) -> Option<WatchResponse> {
        let message = message.expect("a feed does not end with OK");
        self.largest = self.largest.max(message.len());
        let mut message = WatchResponse::decode(message).unwrap();
        if let Some(partial) = self.partial.take() {
            match &mut message.event {
                Some(Event::Changes(changes)) => drop(changes.changes.splice(..0, partial)),
                // Later changes replaced the history: a snapshot follows instead of the other parts.
                Some(Event::Reset(_)) => {}
                _ => panic!("{message:?} between two parts of a commit"),
            }
        }
        match &mut message.event {
            Some(Event::Changes(changes)) if changes.more_follows => {
                assert_eq!(message.position, None, "only the last part has a position");
                self.parts += 1;
                self.partial = Some(std::mem::take(&mut changes.changes));
                None
            }
            _ => Some(message),
        }
    }

    /// Returns the event of the next message, and the revision to resume after.
    pub(crate) async fn next(&mut self) -> (FeedEvent, Option<i64>) {
        let message = self.message().await.unwrap();
        (summarize(message.event.unwrap()), message.position.map(|position| position.revision))
    }

    /// Returns the next changes, and skips the checkpoints before them.
    pub(crate) async fn changes(&mut self) -> Vec<Changed> {
        loop {
            match self.next().await.0 {
                FeedEvent::Changes(changes) => return changes,
                FeedEvent::Checkpoint => {}
                other => panic!("changes were expected, not {other:?}"),
            }
        }
    }
}

pub(crate) fn summarize(event: Event) -> FeedEvent {
    match event {
        Event::Changes(changes) => FeedEvent::Changes(changes.changes.into_iter().map(changed).collect()),
        Event::Snapshot(part) => FeedEvent::Snapshot(
            part.records.into_iter().map(|record| name(&record.decode().unwrap()).0).collect(),
        ),
        Event::SnapshotEnd(end) => FeedEvent::SnapshotEnd(end.count),
        Event::Checkpoint(_) => FeedEvent::Checkpoint,
        Event::Reset(reset) => FeedEvent::Reset(reset.reason()),
    }
}

pub(crate) fn changed(change: v1::FeedChange) -> Changed {
    match change.change.unwrap() {
        Change::Upsert(record) => {
            let (name, revision) = name(&record.decode().unwrap());
            assert_eq!(revision, change.revision, "{name}");
            Changed::Upsert(name, revision)
        }
        Change::Left(name) => Changed::Left(name),
        Change::Removed(tombstone) => {
            assert_eq!(tombstone.revision, change.revision, "{}", tombstone.name);
            let reason = tombstone.reason();
            Changed::Removed(tombstone.name, reason)
        }
        _ => panic!("a change of a later schema"),
    }
}

/// Returns a record's name and revision.
pub(crate) fn name(record: &v1::Record) -> (String, i64) {
    use v1::record::Record as Kind;
    match record.record.clone().unwrap() {
        Kind::Article(entity) => (entity.name, entity.revision),
        Kind::Author(entity) => (entity.name, entity.revision),
        Kind::Section(entity) => (entity.name, entity.revision),
        Kind::Tag(entity) => (entity.name, entity.revision),
        Kind::Collection(entity) => (entity.name, entity.revision),
        other => panic!("{other:?}"),
    }
}
