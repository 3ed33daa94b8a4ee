//! The deliveries of a feed: options, commits in parts, limits and messages of later releases.

use std::time::Duration;

use cable_client::{EntityKind, ErrorKind, Event, FeedFilter, Position, View, v1};
use futures_util::StreamExt as _;
use tonic::{Code, Status};
use v1::watch_request::Start;

use super::{
    after, broken, changes, checkpoint, first_part, next, one, open, receive, record, removed, serve_watch,
    starts, upsert,
};
use crate::support::{position, refusal};

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
    assert_eq!((request.view(), request.include_backfill, request.allow_reset), (View::Full, true, true));
    assert_eq!(request.checkpoint_interval.unwrap().seconds, 7);
    assert_eq!(request.start, Some(Start::After(Position::from(1))));
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
async fn an_event_of_a_later_release_is_skipped() {
    let (server, _) = serve_watch(0, |_, _| open(vec![v1::WatchResponse::default(), one(1)]));
    let mut feed = server.client().feed(FeedFilter::default()).open();
    assert_eq!(next(&mut feed).await, "upsert 1");
}

#[tokio::test]
async fn the_limit_on_commits_applies_to_each_commit_of_a_message() {
    let change = |revision, seconds| {
        let mut change = upsert(revision, record(&format!("articles/{revision}")));
        change.time = Some(cable_client::Timestamp { seconds, nanos: 0 });
        change
    };
    let size = prost::Message::encoded_len(&change(1, 1));
    let (server, _) = serve_watch(0, move |_, _| {
        let commits = vec![change(1, 10), change(2, 20), change(3, 20), change(4, 30)];
        let large = vec![change(5, 50), change(6, 60), change(7, 60), change(8, 60)];
        open(vec![changes(commits), changes(large)])
    });
    let mut feed = server.client().feed(FeedFilter::default()).max_commit_bytes(2 * size).open();
    assert_eq!(next(&mut feed).await, "upsert 1, upsert 2, upsert 3, upsert 4");
    assert_eq!(feed.next().await.unwrap().unwrap_err().kind(), ErrorKind::TooLarge);
}
