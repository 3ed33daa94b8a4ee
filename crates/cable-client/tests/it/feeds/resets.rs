//! Resets of a feed, and the snapshots that follow them.

use cable_client::{FeedFilter, v1};
use tonic::{Code, Status};
use v1::watch_request::Start;

use super::{
    after, broken, checkpoint, first_part, one, open, part, receive, record, reset, serve_watch,
    snapshot_end, starts, upsert,
};
use crate::support::{position, refusal};

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
