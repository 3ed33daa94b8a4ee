//! Feeds over streams that break in every way.

use std::sync::{Arc, Mutex};

use cable_client::{Delivery, Event, Feed, NameState, RawRecord, v1};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tonic::Status;
use v1::{watch_request::Start, watch_response};

use crate::support::{Responses, Server, article, position, server_stream};

mod messages;
mod positions;
mod resets;
mod streams;

/// Starts a server that serves each Watch according to its number, from 0, and its request. Returns the server and the
/// requests that it receives.
pub(crate) fn serve_watch(
    port: u16,
    respond: impl Fn(usize, &v1::WatchRequest) -> Responses<v1::WatchResponse> + Clone + Send + Sync + 'static,
) -> (Server, Arc<Mutex<Vec<v1::WatchRequest>>>) {
    let requests = Arc::new(Mutex::new(Vec::new()));
    let recorded = Arc::clone(&requests);
    let server = Server::start(port, move |_, request| {
        let (recorded, respond) = (Arc::clone(&recorded), respond.clone());
        server_stream(request, move |request: v1::WatchRequest| {
            let mut requests = recorded.lock().unwrap();
            requests.push(request);
            let number = requests.len() - 1;
            respond(number, &requests[number])
        })
    });
    (server, requests)
}

/// Sends these messages and leaves the stream open.
pub(crate) fn open(messages: Vec<v1::WatchResponse>) -> Responses<v1::WatchResponse> {
    stream::iter(messages).map(Ok).chain(stream::pending()).boxed()
}

/// Sends these messages and breaks the stream.
pub(crate) fn broken(messages: Vec<v1::WatchResponse>, status: Status) -> Responses<v1::WatchResponse> {
    stream::iter(messages).map(Ok).chain(stream::iter([Err(status)])).boxed()
}

fn message(at: Option<i64>, event: watch_response::Event) -> v1::WatchResponse {
    let mut message = v1::WatchResponse::default();
    (message.position, message.event) = (at.map(position), Some(event));
    message
}

pub(crate) fn record(name: &str) -> RawRecord {
    article(name).into()
}

pub(crate) fn upsert(revision: i64, record: RawRecord) -> v1::FeedChange {
    let mut change = v1::FeedChange::default();
    change.revision = revision;
    change.change = Some(v1::feed_change::Change::Upsert(record));
    change
}

pub(crate) fn removed(revision: i64, name: &str) -> v1::FeedChange {
    let mut tombstone = v1::Tombstone::default();
    tombstone.name = name.into();
    let mut change = v1::FeedChange::default();
    change.revision = revision;
    change.change = Some(v1::feed_change::Change::Removed(tombstone));
    change
}

pub(crate) fn changes(changes: Vec<v1::FeedChange>) -> v1::WatchResponse {
    let last = changes.last().map(|change| change.revision);
    let mut all = v1::FeedChanges::default();
    all.changes = changes;
    message(last, watch_response::Event::Changes(all))
}

/// A part of a commit that continues in the next message.
pub(crate) fn first_part(of: Vec<v1::FeedChange>) -> v1::WatchResponse {
    let mut all = v1::FeedChanges::default();
    (all.changes, all.more_follows) = (of, true);
    message(None, watch_response::Event::Changes(all))
}

fn one(revision: i64) -> v1::WatchResponse {
    changes(vec![upsert(revision, record(&format!("articles/{revision}")))])
}

pub(crate) fn checkpoint(revision: i64) -> v1::WatchResponse {
    message(Some(revision), watch_response::Event::Checkpoint(v1::FeedCheckpoint::default()))
}

pub(crate) fn part(records: Vec<RawRecord>) -> v1::WatchResponse {
    let mut part = v1::FeedSnapshot::default();
    part.records = records;
    message(None, watch_response::Event::Snapshot(part))
}

pub(crate) fn snapshot_end(revision: i64, count: i64) -> v1::WatchResponse {
    let mut end = v1::FeedSnapshotEnd::default();
    end.count = count;
    message(Some(revision), watch_response::Event::SnapshotEnd(end))
}

pub(crate) fn reset(reason: v1::FeedResetReason) -> v1::WatchResponse {
    let mut reset = v1::FeedReset::default();
    reset.set_reason(reason);
    message(None, watch_response::Event::Reset(reset))
}

/// Returns a summary of a delivery, such as `upsert 7`, `checkpoint 7`, `part 2` or `end 2 at 7`.
fn summarize(delivery: &Delivery) -> String {
    let at = delivery.position.as_ref().map_or("?".into(), |position| position.revision.to_string());
    match &delivery.event {
        Event::Changes(changes) => {
            let each = changes.iter().map(|change| match &change.state {
                NameState::Upsert(_) => format!("upsert {}", change.revision),
                NameState::Left => format!("left {}", change.revision),
                NameState::Removed(_) => format!("removed {}", change.revision),
                other => panic!("{other:?}"),
            });
            each.collect::<Vec<_>>().join(", ")
        }
        Event::Snapshot(records) => format!("part {}", records.len()),
        Event::SnapshotEnd { count, .. } => format!("end {count} at {at}"),
        Event::Checkpoint { behind: false } => format!("checkpoint {at}"),
        Event::Checkpoint { behind: true } => format!("behind at {at}"),
        Event::Reset(reason) => format!("reset {reason:?}"),
        other => panic!("{other:?}"),
    }
}

async fn next(feed: &mut Feed) -> String {
    summarize(&feed.next().await.unwrap().unwrap())
}

async fn receive(feed: &mut Feed, deliveries: usize) -> Vec<String> {
    feed.take(deliveries).map_ok(|delivery| summarize(&delivery)).try_collect().await.unwrap()
}

fn starts(requests: &Mutex<Vec<v1::WatchRequest>>) -> Vec<Option<Start>> {
    requests.lock().unwrap().iter().map(|request| request.start.clone()).collect()
}

fn after(revision: i64) -> Option<Start> {
    Some(Start::After(position(revision)))
}
