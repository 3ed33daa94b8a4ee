//! Broken streams, silent servers and refusals: which of them a feed retries, and where it resumes.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use cable_client::{Cable, ErrorKind, ErrorReason, FeedFilter, v1};
use futures_util::{StreamExt as _, stream};
use tonic::{Code, Status};
use v1::watch_request::Start;

use super::{after, broken, checkpoint, next, one, open, receive, serve_watch, starts};
use crate::support::{position, refusal};

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
        (Code::Unimplemented, "", ErrorReason::Unspecified),
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
        assert!(feed.next().await.is_none() && feed.next().await.is_none() && !feed.is_caught_up());
        assert_eq!(requests.lock().unwrap().len(), 2, "{reason}");
        assert!(requests.lock().unwrap().iter().all(|request| !request.allow_reset));
        assert_eq!(feed.position(), Some(position(7)), "the position remains for a later resume");
    }
}

#[tokio::test]
async fn a_feed_with_a_longest_outage_ends_when_no_node_has_served_it_for_so_long() {
    let limit = Duration::from_millis(200);
    let (server, requests) = serve_watch(0, |number, _| match number {
        // Each message ends an outage. The breaks together may last longer than the limit.
        0..30 => broken(vec![one(number as i64 + 1)], refusal(Code::Unavailable, "DRAINING")),
        _ => broken(vec![], refusal(Code::ResourceExhausted, "TOO_MANY_FEEDS")),
    });
    let failures = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&failures);
    let feed = server.client().feed(FeedFilter::default()).max_outage(limit).on_retry(move |_| {
        counted.fetch_add(1, SeqCst);
    });
    let mut feed = feed.open();
    let expected: Vec<String> = (1..=30).map(|revision| format!("upsert {revision}")).collect();
    assert_eq!(receive(&mut feed, 30).await, expected);
    let error = feed.next().await.unwrap().unwrap_err();
    assert_eq!(error.reason(), Some(ErrorReason::TooManyFeeds), "{error:?}");
    assert!(error.message().ends_with("; no node has served the feed for 200ms"), "{error}");
    assert!(feed.next().await.is_none());
    assert_eq!(feed.position(), Some(position(30)), "the position remains for a later resume");
    // The last failure is the error, and each one before it was followed by a retry.
    let streams = requests.lock().unwrap().len();
    assert_eq!(failures.load(SeqCst), streams - 1);
    // Waits of at most 20 ms.
    assert!(streams >= 30 + 5, "{streams}");
}

#[tokio::test]
async fn a_feed_whose_nodes_are_gone_ends_with_the_address_and_the_cause() {
    let (server, _) = serve_watch(0, |_, _| open(vec![one(1)]));
    let mut feed = server.client().feed(FeedFilter::default()).max_outage(Duration::from_millis(100)).open();
    assert_eq!(next(&mut feed).await, "upsert 1");
    let url = server.url();
    drop(server);
    let error = feed.next().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    let text = error.to_string();
    assert!(text.contains(url.strip_prefix("http://").unwrap()) && text.contains("refused"), "{text}");
}

#[tokio::test]
async fn a_checkpoint_of_an_idle_log_restarts_the_count_of_faults() {
    let (server, _) = serve_watch(0, |number, _| match number {
        0..12 => broken(vec![checkpoint(7)], refusal(Code::Internal, "INTERNAL")),
        _ => open(vec![one(8)]),
    });
    let mut feed = server.client().feed(FeedFilter::default()).after(position(7)).open();
    for _ in 0..12 {
        assert_eq!(next(&mut feed).await, "checkpoint 7");
    }
    assert_eq!(next(&mut feed).await, "upsert 8");
}

#[tokio::test]
async fn a_silent_stream_ends_a_feed_with_a_longest_outage() {
    let (server, requests) = serve_watch(0, |_, _| open(vec![one(1)]));
    let feed = server.client().feed(FeedFilter::default()).checkpoint_interval(Duration::from_millis(20));
    let mut feed = feed.max_outage(Duration::from_millis(50)).open();
    assert_eq!(next(&mut feed).await, "upsert 1");
    let ended = tokio::time::timeout(Duration::from_secs(10), feed.next()).await.unwrap();
    let error = ended.unwrap().unwrap_err();
    assert!(error.message().ends_with("; no node has served the feed for 50ms"), "{error}");
    assert_eq!(requests.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn the_requested_silence_is_at_most_half_of_the_longest_outage() {
    let secs = Duration::from_secs;
    for (limit, interval) in
        [(secs(12), secs(2)), (secs(2), secs(1)), (secs(600), secs(10)), (Duration::MAX, secs(10))]
    {
        let (server, requests) = serve_watch(0, |_, _| open(vec![one(1)]));
        let mut feed = server.client().feed(FeedFilter::default()).max_outage(limit).open();
        assert_eq!(next(&mut feed).await, "upsert 1");
        let requested = requests.lock().unwrap()[0].checkpoint_interval.unwrap();
        assert_eq!(Duration::try_from(requested).unwrap(), interval, "{limit:?}");
    }
}
