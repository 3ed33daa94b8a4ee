//! Feeds over streams that break in every way.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use cable_client::{
    Cable, Delivery, EntityKind, ErrorKind, ErrorReason, Event, Feed, FeedFilter, FilePosition, NameState,
    Position, PositionStore, RawRecord, View, v1,
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tonic::{Code, Status};
use v1::{watch_request::Start, watch_response};

use crate::support::{Responses, Server, article, position, refusal, server_stream};

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

#[tokio::test]
async fn a_feed_sends_its_options_and_delivers_whole_messages() {
    let mut left = v1::FeedChange::default();
    left.revision = 3;
    left.former_names = vec!["tags/a".into()];
    left.change = Some(v1::feed_change::Change::Left("articles/b".into()));
    let commit = changes(vec![upsert(2, record("articles/a")), left, removed(4, "tags/c")]);
    let (server, requests) = serve_watch(0, move |_, _| open(vec![commit.clone(), checkpoint(5)]));
    let filter =
        FeedFilter::default().any_tag("storm").section("world").author("ann").kind(EntityKind::Article);
    let feed = server.client().feed(filter.clone()).view(View::Full).include_backfill().allow_reset(true);
    let mut feed = feed.after(1).checkpoint_interval(Duration::from_secs(7)).open();
    assert!(requests.lock().unwrap().is_empty(), "no request is sent before the feed is polled");
    let Event::Changes(received) = feed.next().await.unwrap().unwrap().event else { panic!("no changes") };
    let names: Vec<&str> = received.iter().map(|change| change.name.as_str()).collect();
    assert_eq!(names, ["articles/a", "articles/b", "tags/c"]);
    assert_eq!(received[1].former_names, ["tags/a"]);
    assert_eq!((feed.position(), feed.is_caught_up()), (Some(position(4)), false));
    assert_eq!(next(&mut feed).await, "checkpoint 5");
    assert_eq!((feed.position(), feed.is_caught_up(), feed.reconnects()), (Some(position(5)), true, 0));
    let request = requests.lock().unwrap()[0].clone();
    assert_eq!(request.filter, Some(filter));
    assert_eq!((request.view(), request.include_backfill, request.reset), (View::Full, true, true));
    assert_eq!(request.checkpoint_interval.unwrap().seconds, 7);
    assert_eq!(request.start, Some(Start::After(Position::from(1))));
}

#[tokio::test]
async fn a_feed_resumes_a_broken_stream_after_its_last_delivery() {
    let (server, requests) = serve_watch(0, |number, request| {
        let last = match &request.start {
            Some(Start::After(position)) => position.revision,
            _ => 0,
        };
        let messages = vec![one(last + 1), one(last + 2)];
        match number {
            0 => broken(messages, refusal(Code::Unavailable, "DRAINING")),
            1 => broken(messages, refusal(Code::Internal, "INTERNAL")),
            2 => broken(messages, Status::new(Code::Cancelled, "cut off")),
            3 => broken(messages, Status::new(Code::Unknown, "lost")),
            // Ends with OK, as no healthy server does.
            4 => stream::iter(messages).map(Ok).boxed(),
            _ => open(messages),
        }
    });
    let mut feed = server.client().feed(FeedFilter::default()).open();
    let expected: Vec<String> = (1..=12).map(|revision| format!("upsert {revision}")).collect();
    assert_eq!(receive(&mut feed, 12).await, expected);
    assert_eq!(starts(&requests), [None, after(2), after(4), after(6), after(8), after(10)]);
    assert_eq!(feed.reconnects(), 5);
}

#[tokio::test]
async fn a_feed_resumes_after_its_server_was_killed_and_restarted() {
    let (first, _) = serve_watch(0, |_, _| open(vec![one(1), checkpoint(1)]));
    let failures = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&failures);
    let feed = first.client().feed(FeedFilter::default()).on_retry(move |_| {
        counted.fetch_add(1, SeqCst);
    });
    let mut feed = feed.open();
    assert_eq!(receive(&mut feed, 2).await, ["upsert 1", "checkpoint 1"]);
    assert!(feed.is_caught_up());
    let port = first.address.port();
    drop(first);
    while failures.load(SeqCst) < 3 {
        assert!(tokio::time::timeout(Duration::from_millis(10), feed.next()).await.is_err());
    }
    assert!(!feed.is_caught_up());
    let (_second, requests) = serve_watch(port, |_, _| open(vec![one(2), checkpoint(2)]));
    assert_eq!(receive(&mut feed, 2).await, ["upsert 2", "checkpoint 2"]);
    assert_eq!(starts(&requests), [after(1)]);
    assert!(feed.is_caught_up());
}

#[tokio::test]
async fn a_feed_fails_over_when_its_node_is_killed() {
    let node = || {
        serve_watch(0, |_, request| match &request.start {
            Some(Start::After(position)) => open(vec![one(position.revision + 1)]),
            _ => open(vec![one(1)]),
        })
    };
    let (mut used, mut other) = (node(), node());
    let cable = Cable::builder([used.0.url(), other.0.url()]).build().unwrap();
    let mut feed = cable.feed(FeedFilter::default()).open();
    assert_eq!(next(&mut feed).await, "upsert 1");
    if starts(&used.1).is_empty() {
        (used, other) = (other, used);
    }
    drop(used.0);
    assert_eq!(next(&mut feed).await, "upsert 2");
    assert_eq!(starts(&other.1), [after(1)]);
}

#[tokio::test]
async fn a_silent_stream_is_dropped_after_three_intervals() {
    let (server, requests) = serve_watch(0, |number, _| open(vec![one(number as i64 + 1)]));
    let errors = Arc::new(Mutex::new(Vec::new()));
    let recorded = Arc::clone(&errors);
    let feed = server.client().feed(FeedFilter::default()).checkpoint_interval(Duration::from_millis(30));
    let mut feed = feed.on_retry(move |error| recorded.lock().unwrap().push(error.kind())).open();
    let start = std::time::Instant::now();
    assert_eq!(receive(&mut feed, 3).await, ["upsert 1", "upsert 2", "upsert 3"]);
    assert!(start.elapsed() >= Duration::from_millis(180), "{:?}", start.elapsed());
    assert_eq!(starts(&requests), [None, after(1), after(2)]);
    assert_eq!(*errors.lock().unwrap(), [ErrorKind::DeadlineExceeded, ErrorKind::DeadlineExceeded]);
}

#[tokio::test]
async fn delivered_changes_are_not_delivered_again() {
    let (server, _) = serve_watch(0, |number, _| match number {
        0 => broken(vec![one(1), one(2)], refusal(Code::Unavailable, "DRAINING")),
        1 => {
            let partly = changes(vec![
                upsert(2, record("articles/2")),
                upsert(3, record("articles/3")),
                removed(4, "articles/1"),
            ]);
            open(vec![one(1), one(2), partly])
        }
        _ => open(vec![]),
    });
    let mut feed = server.client().feed(FeedFilter::default()).open();
    assert_eq!(receive(&mut feed, 3).await, ["upsert 1", "upsert 2", "upsert 3, removed 4"]);
}

#[tokio::test]
async fn a_commit_in_parts_is_delivered_as_one_after_its_last_part() {
    let part = |revisions: &[i64]| {
        let change = |revision: &i64| upsert(*revision, record(&format!("articles/{revision}")));
        revisions.iter().map(change).collect::<Vec<_>>()
    };
    let empty = {
        let mut last = changes(vec![]);
        last.position = Some(position(9));
        last
    };
    let (server, requests) = serve_watch(0, move |number, _| match number {
        // Breaks between two parts: the feed resumes from the position before the commit.
        0 => broken(
            vec![one(1), first_part(part(&[2, 3])), first_part(part(&[4]))],
            Status::unavailable("gone"),
        ),
        1 => open(vec![
            first_part(part(&[2, 3])),
            first_part(part(&[4])),
            changes(part(&[5])),
            // The rest of this commit has been superseded.
            first_part(part(&[7])),
            empty.clone(),
            one(10),
        ]),
        _ => open(vec![]),
    });
    let mut feed = server.client().feed(FeedFilter::default()).open();
    assert_eq!(receive(&mut feed, 1).await, ["upsert 1"]);
    assert_eq!(receive(&mut feed, 1).await, ["upsert 2, upsert 3, upsert 4, upsert 5"]);
    assert_eq!(feed.position(), Some(position(5)));
    assert_eq!(receive(&mut feed, 1).await, ["upsert 7"]);
    assert_eq!(feed.position(), Some(position(9)));
    assert_eq!(receive(&mut feed, 1).await, ["upsert 10"]);
    assert_eq!(starts(&requests), [None, after(1)]);
}

#[tokio::test]
async fn a_reset_between_two_parts_drops_them() {
    let (server, _) = serve_watch(0, |_, _| {
        let part = first_part(vec![upsert(2, record("articles/2"))]);
        let restart = [reset(v1::FeedResetReason::Compacted), snapshot_end(8, 0), one(9)];
        open([one(1), part].into_iter().chain(restart).collect())
    });
    let mut feed = server.client().feed(FeedFilter::default()).allow_reset(true).open();
    assert_eq!(receive(&mut feed, 4).await, ["upsert 1", "reset Compacted", "end 0 at 8", "upsert 9"]);
}

#[tokio::test]
async fn a_commit_above_the_limit_ends_the_feed_with_too_large() {
    let (server, requests) = serve_watch(0, |_, _| {
        let part = |revision| first_part(vec![upsert(revision, record(&format!("articles/{revision}")))]);
        open(vec![one(1), part(2), part(3), part(4), one(5)])
    });
    let size = prost::Message::encoded_len(&first_part(vec![upsert(2, record("articles/2"))]));
    let mut feed = server.client().feed(FeedFilter::default()).max_commit_bytes(2 * size).open();
    assert_eq!(next(&mut feed).await, "upsert 1");
    let error = feed.next().await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::TooLarge, None));
    assert!(error.message().contains("max_commit_bytes"), "{error}");
    assert!(feed.next().await.is_none());
    assert_eq!((requests.lock().unwrap().len(), feed.position()), (1, Some(position(1))));
}

#[tokio::test]
async fn a_message_above_the_limit_is_not_a_compacted_revision() {
    let (server, requests) = serve_watch(0, |_, _| {
        let long = upsert(2, record(&format!("articles/{}", "a".repeat(5 << 20))));
        open(vec![one(1), changes(vec![long])])
    });
    let mut feed = server.client().feed(FeedFilter::default()).open();
    assert_eq!(next(&mut feed).await, "upsert 1");
    let error = feed.next().await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::TooLarge, None));
    assert!(error.message().contains("3.5 MiB"), "{error}");
    assert_eq!(requests.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn server_faults_are_retried_a_limited_number_of_times() {
    for (code, reason) in
        [(Code::DataLoss, "RECORD_CORRUPT"), (Code::Internal, "INTERNAL"), (Code::Unknown, "")]
    {
        let (server, requests) = serve_watch(0, move |number, _| match number {
            // The delivery of the third stream restarts the count.
            0 | 1 => broken(vec![], refusal(code, reason)),
            2 => broken(vec![one(1)], refusal(code, reason)),
            _ => broken(vec![], refusal(code, reason)),
        });
        let mut feed = server.client().feed(FeedFilter::default()).open();
        assert_eq!(next(&mut feed).await, "upsert 1");
        assert!(feed.next().await.unwrap().is_err(), "{code:?}");
        assert_eq!(requests.lock().unwrap().len(), 7, "{code:?}");
    }
}

#[tokio::test]
async fn an_event_of_a_later_release_is_skipped() {
    let (server, _) = serve_watch(0, |_, _| open(vec![v1::WatchResponse::default(), one(1)]));
    let mut feed = server.client().feed(FeedFilter::default()).open();
    assert_eq!(next(&mut feed).await, "upsert 1");
}

#[tokio::test]
async fn transient_errors_are_retried_until_they_pass() {
    let refusals = [
        (Code::Unavailable, "NOT_CAUGHT_UP"),
        (Code::Unavailable, "DRAINING"),
        (Code::ResourceExhausted, "TOO_MANY_FEEDS"),
        (Code::DataLoss, "RECORD_CORRUPT"),
        (Code::Unavailable, "STORE_FAILED"),
    ];
    let (server, requests) = serve_watch(0, move |number, _| match refusals.get(number) {
        Some((code, reason)) => broken(vec![], refusal(*code, reason)),
        None => open(vec![checkpoint(9)]),
    });
    let mut feed = server.client().feed(FeedFilter::default()).after(position(8)).open();
    assert_eq!(next(&mut feed).await, "checkpoint 9");
    assert_eq!(starts(&requests), vec![after(8); 6]);
}

#[tokio::test]
async fn errors_that_need_intervention_end_the_feed() {
    for (code, reason, expected) in [
        (Code::InvalidArgument, "FIELD_INVALID", ErrorReason::FieldInvalid),
        (Code::OutOfRange, "REVISION_COMPACTED", ErrorReason::RevisionCompacted),
        (Code::FailedPrecondition, "LOG_CHANGED", ErrorReason::LogChanged),
        (Code::Unimplemented, "NOT_SUPPORTED", ErrorReason::NotSupported),
        (Code::Unauthenticated, "", ErrorReason::Unspecified),
        (Code::PermissionDenied, "", ErrorReason::Unspecified),
    ] {
        let (server, requests) = serve_watch(0, move |number, _| match number {
            0 => broken(vec![checkpoint(7)], refusal(Code::Unavailable, "DRAINING")),
            _ => broken(vec![], refusal(code, reason)),
        });
        let mut feed = server.client().feed(FeedFilter::default()).open();
        assert_eq!(next(&mut feed).await, "checkpoint 7");
        let error = feed.next().await.unwrap().unwrap_err();
        assert_eq!(error.reason().unwrap_or_default(), expected, "{error:?}");
        assert!(feed.next().await.is_none() && !feed.is_caught_up());
        assert_eq!(requests.lock().unwrap().len(), 2, "{reason}");
        assert!(requests.lock().unwrap().iter().all(|request| !request.reset));
        assert_eq!(feed.position(), Some(position(7)), "the position remains for a later resume");
    }
}

#[tokio::test]
async fn a_compacted_position_leads_to_a_reset_and_a_snapshot() {
    let (server, requests) = serve_watch(0, |number, _| match number {
        0 => broken(vec![one(7)], refusal(Code::Unavailable, "DRAINING")),
        1 => {
            let messages = vec![reset(v1::FeedResetReason::Compacted), part(vec![record("articles/a")])];
            broken(messages, Status::new(Code::Unavailable, "gone"))
        }
        2 => open(vec![
            part(vec![record("articles/a"), record("articles/b")]),
            part(vec![record("articles/c")]),
            snapshot_end(20, 3),
            one(21),
            checkpoint(21),
        ]),
        _ => open(vec![]),
    });
    let mut feed = server.client().feed(FeedFilter::default()).allow_reset(true).open();
    assert_eq!(receive(&mut feed, 2).await, ["upsert 7", "reset Compacted"]);
    assert_eq!(feed.position(), None, "no position to resume from");
    let rest =
        ["part 1", "reset SnapshotBroken", "part 2", "part 1", "end 3 at 20", "upsert 21", "checkpoint 21"];
    assert_eq!(receive(&mut feed, 7).await, rest);
    assert_eq!(starts(&requests), [None, after(7), Some(Start::Snapshot(true))]);
    assert_eq!(feed.position(), Some(position(21)));
}

#[tokio::test]
async fn a_snapshot_of_another_log_may_have_lower_revisions() {
    let (server, _) = serve_watch(0, |number, _| match number {
        0 => broken(vec![one(700)], refusal(Code::Unavailable, "DRAINING")),
        _ => {
            let messages = vec![reset(v1::FeedResetReason::LogChanged), snapshot_end(2, 0), one(3)];
            open(messages)
        }
    });
    let mut feed = server.client().feed(FeedFilter::default()).allow_reset(true).open();
    assert_eq!(receive(&mut feed, 4).await, ["upsert 700", "reset LogChanged", "end 0 at 2", "upsert 3"]);
}

#[tokio::test]
async fn a_partly_delivered_snapshot_restarts_after_a_reset() {
    let (server, requests) = serve_watch(0, |number, _| match number {
        0 => broken(vec![], refusal(Code::Unavailable, "OVERLOADED")),
        1 => broken(vec![part(vec![record("articles/a")])], refusal(Code::Unavailable, "DRAINING")),
        // The count of the end exceeds the number of records sent.
        2 => open(vec![part(vec![record("articles/a")]), snapshot_end(5, 2)]),
        _ => open(vec![part(vec![record("articles/a")]), snapshot_end(6, 1)]),
    });
    let mut feed = server.client().feed(FeedFilter::default()).with_snapshot().open();
    let expected =
        ["part 1", "reset SnapshotBroken", "part 1", "reset SnapshotBroken", "part 1", "end 1 at 6"];
    assert_eq!(receive(&mut feed, 6).await, expected);
    assert_eq!(starts(&requests), vec![Some(Start::Snapshot(true)); 4]);
}

/// A position store in memory that records every saved position.
#[derive(Clone, Default)]
struct Memory {
    saved: Arc<Mutex<Vec<i64>>>,
    full: Arc<AtomicBool>,
}

impl PositionStore for Memory {
    fn load(&self) -> io::Result<Option<Position>> {
        Ok(self.saved.lock().unwrap().last().copied().map(position))
    }

    fn save(&self, position: &Position) -> io::Result<()> {
        if self.full.load(SeqCst) {
            return Err(io::Error::other("no room"));
        }
        self.saved.lock().unwrap().push(position.revision);
        Ok(())
    }
}

impl Memory {
    fn last(&self) -> Option<i64> {
        self.saved.lock().unwrap().last().copied()
    }
}

fn three() -> (Server, Arc<Mutex<Vec<v1::WatchRequest>>>) {
    serve_watch(0, |_, _| open(vec![one(1), one(2), one(3)]))
}

#[tokio::test]
async fn a_position_is_saved_when_the_next_delivery_is_requested() {
    let (server, requests) = three();
    let memory = Memory::default();
    let feed = || server.client().feed(FeedFilter::default()).save_to(memory.clone()).open();
    let mut dropped = feed();
    assert_eq!(receive(&mut dropped, 1).await, ["upsert 1"]);
    drop(dropped);
    assert_eq!(memory.last(), None, "the delivery may not have been handled");
    let mut dropped = feed();
    assert_eq!(receive(&mut dropped, 2).await, ["upsert 1", "upsert 2"]);
    drop(dropped);
    assert_eq!(memory.last(), Some(1));
    let mut closed = feed();
    assert_eq!(receive(&mut closed, 2).await, ["upsert 2", "upsert 3"]);
    closed.close().await.unwrap();
    assert_eq!(memory.last(), Some(3));
    let mut last = feed();
    assert!(tokio::time::timeout(Duration::from_millis(100), last.next()).await.is_err());
    assert_eq!(starts(&requests), [None, None, after(1), after(3)]);
}

#[tokio::test]
async fn a_waiting_feed_saves_its_position_at_a_limited_rate() {
    let (server, _) = serve_watch(0, |_, _| {
        let paced = stream::iter(1..=200).then(|revision| async move {
            tokio::time::sleep(Duration::from_millis(2)).await;
            Ok(one(revision))
        });
        paced.chain(stream::pending()).boxed()
    });
    let memory = Memory::default();
    let mut feed = server.client().feed(FeedFilter::default()).save_to(memory.clone()).open();
    let start = std::time::Instant::now();
    receive(&mut feed, 200).await;
    while memory.last() != Some(200) {
        let _nothing_new = tokio::time::timeout(Duration::from_millis(10), feed.next()).await;
    }
    let writes = memory.saved.lock().unwrap().len();
    let max = start.elapsed().as_millis() / 200 + 1;
    assert!(writes as u128 <= max, "{writes} writes, more than {max}");
}

#[tokio::test]
async fn an_unchanged_position_is_saved_once() {
    let (server, _) = serve_watch(0, |number, _| match number {
        0..10 => broken(vec![checkpoint(7)], refusal(Code::Unavailable, "DRAINING")),
        _ => open(vec![checkpoint(7)]),
    });
    let memory = Memory::default();
    let feed =
        || server.client().feed(FeedFilter::default()).after(position(6)).save_to(memory.clone()).open();
    let mut checked = feed();
    receive(&mut checked, 11).await;
    checked.close().await.unwrap();
    assert_eq!(*memory.saved.lock().unwrap(), [7]);
    feed().close().await.unwrap();
    assert_eq!(*memory.saved.lock().unwrap(), [7], "a feed that was never polled has handled nothing");
}

#[tokio::test]
async fn a_position_that_cannot_be_saved_ends_the_feed() {
    let (server, _) = three();
    let memory = Memory::default();
    memory.full.store(true, SeqCst);
    let feed = || server.client().feed(FeedFilter::default()).save_to(memory.clone()).open();
    let mut closed = feed();
    receive(&mut closed, 3).await;
    assert_eq!(closed.close().await.unwrap_err().kind(), ErrorKind::PositionStore);
    let (endless, _) = serve_watch(0, |_, _| stream::iter(1..).map(|revision| Ok(one(revision))).boxed());
    let mut ended = endless.client().feed(FeedFilter::default()).save_to(memory).open();
    let error = loop {
        match ended.next().await.unwrap() {
            Ok(_) => tokio::time::sleep(Duration::from_millis(1)).await,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::PositionStore);
    assert!(ended.next().await.is_none());
}

#[tokio::test]
async fn a_feed_resumes_after_the_position_in_its_file() {
    let directory = std::env::temp_dir().join(format!("cable-feed-{:032x}", fastrand::u128(..)));
    std::fs::create_dir(&directory).unwrap();
    let file = directory.join("position");
    let (server, requests) = three();
    let feed = || {
        server.client().feed(FeedFilter::default()).with_snapshot().save_to(FilePosition::new(&file)).open()
    };
    let mut first = feed();
    receive(&mut first, 3).await;
    first.close().await.unwrap();
    let mut second = feed();
    assert!(tokio::time::timeout(Duration::from_millis(100), second.next()).await.is_err());
    assert_eq!(starts(&requests), [Some(Start::Snapshot(true)), after(3)]);
    std::fs::write(&file, "damaged").unwrap();
    let error = feed().next().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PositionStore);
    assert_eq!(requests.lock().unwrap().len(), 2, "the feed starts from no other position");
    std::fs::remove_dir_all(directory).unwrap();
}
