//! The messages of a feed for each start, each kind of change, and each way to resume.

use cable_client::{
    Cable, Change, RemovalReason, UpdateKind, View,
    v1::{self, Position, watch_request::Start},
};
use tonic::Code;

use crate::{
    follow::{Changed, FeedEvent, WatchStream, after, request},
    support::{Node, article, author, body},
};

fn upsert(id: &str, revision: i64) -> Changed {
    Changed::Upsert(format!("articles/{id}"), revision)
}

fn left(id: &str) -> Changed {
    Changed::Left(format!("articles/{id}"))
}

fn removed(id: &str, reason: RemovalReason) -> Changed {
    Changed::Removed(format!("articles/{id}"), reason)
}

async fn node() -> (tempfile::TempDir, Node, Cable) {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let cable = node.client();
    (dir, node, cable)
}

#[tokio::test]
async fn a_live_feed_reports_its_start_and_every_change() {
    let (_dir, node, cable) = node().await;
    cable.put(article("old", "Old", &["sea"])).await.unwrap();
    let mut feed = WatchStream::open(&node, request(&["sea", "ice"], None)).await.unwrap();
    assert_eq!(feed.next().await, (FeedEvent::Checkpoint, Some(1)));
    cable.put(article("a", "Storm", &["land"])).await.unwrap();
    cable.put(article("a", "Storm", &["land", "sea"])).await.unwrap();
    assert_eq!(feed.next().await, (FeedEvent::Changes(vec![upsert("a", 3)]), Some(3)));
    cable.put(article("a", "Storm", &["ice"])).await.unwrap();
    assert_eq!(feed.next().await, (FeedEvent::Changes(vec![upsert("a", 4)]), Some(4)));
    cable.put(article("a", "Storm", &["land"])).await.unwrap();
    assert_eq!(feed.next().await, (FeedEvent::Changes(vec![left("a")]), Some(5)));
    cable.put(article("a", "Calm", &["land"])).await.unwrap();
    cable.remove("articles/old", RemovalReason::Withdrawn).await.unwrap();
    let gone = removed("old", RemovalReason::Withdrawn);
    assert_eq!(feed.next().await, (FeedEvent::Changes(vec![gone]), Some(7)));
    node.stop().await;
}

#[tokio::test]
async fn a_resumed_feed_delivers_exactly_the_missed_changes() {
    let (_dir, node, cable) = node().await;
    for (id, tag) in [("a", "sea"), ("b", "sea"), ("c", "land"), ("d", "sea")] {
        cable.put(article(id, "Storm", &[tag])).await.unwrap();
    }
    cable.put(article("b", "Storm", &["land"])).await.unwrap();
    cable.put(article("b", "Calm", &["land"])).await.unwrap();
    cable.remove("articles/d", RemovalReason::Deleted).await.unwrap();
    cable.put(article("a", "Calm", &["sea"])).await.unwrap();
    for (from, expected) in [
        (0, vec![left("b"), removed("d", RemovalReason::Deleted), upsert("a", 8)]),
        (4, vec![left("b"), removed("d", RemovalReason::Deleted), upsert("a", 8)]),
        // The departures before the position are still known.
        (5, vec![removed("d", RemovalReason::Deleted), upsert("a", 8)]),
        (7, vec![upsert("a", 8)]),
    ] {
        let mut feed = WatchStream::open(&node, request(&["sea"], after(from))).await.unwrap();
        assert_eq!(feed.next().await, (FeedEvent::Changes(expected), Some(8)), "after {from}");
        assert_eq!(feed.next().await, (FeedEvent::Checkpoint, Some(8)), "after {from}");
    }
    let mut feed = WatchStream::open(&node, request(&["sea"], after(8))).await.unwrap();
    assert_eq!(feed.next().await, (FeedEvent::Checkpoint, Some(8)));
    node.stop().await;
}

#[tokio::test]
async fn departures_between_slices_of_a_catch_up_are_delivered() {
    let (_dir, node, cable) = node().await;
    let long = |id: &str| {
        let mut written = article(id, "Storm", &["sea"]);
        written.body = Some(body(&"Rain. ".repeat(8_000)));
        written
    };
    cable.put(article("a", "Storm", &["sea"])).await.unwrap();
    cable.put(article("a", "Storm", &["land"])).await.unwrap();
    for id in ["b", "c", "d"] {
        cable.put(long(id)).await.unwrap();
    }
    // The rest of the article's past is beyond the first slice of 64 KiB.
    cable.put(article("a", "Calm", &["land"])).await.unwrap();
    let mut feed = WatchStream::open(&node, request(&["sea"], after(1))).await.unwrap();
    let mut received = Vec::new();
    while let (FeedEvent::Changes(changes), _) = feed.next().await {
        received.extend(changes);
    }
    assert!(received.contains(&left("a")), "{received:?}");
    node.stop().await;
}

#[tokio::test]
async fn a_snapshot_continues_with_changes_without_a_gap() {
    let (_dir, node, cable) = node().await;
    for i in 0..600 {
        cable.put(article(&format!("a{i:03}"), "Storm", &[["sea", "land"][i % 2]])).await.unwrap();
    }
    let mut feed = WatchStream::open(&node, request(&["sea"], Some(Start::Snapshot(true)))).await.unwrap();
    let mut names = Vec::new();
    let end = loop {
        match feed.next().await {
            (FeedEvent::Snapshot(part), None) => names.extend(part),
            (FeedEvent::SnapshotEnd(count), position) => break (count, position),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(end, (300, Some(600)));
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 300);
    cable.put(article("a000", "Calm", &["sea"])).await.unwrap();
    assert_eq!(feed.changes().await, [upsert("a000", 601)]);
    node.stop().await;
}

#[tokio::test]
async fn a_commit_arrives_in_one_message() {
    let (_dir, node, cable) = node().await;
    let mut feed = WatchStream::open(&node, request(&["sea"], None)).await.unwrap();
    feed.next().await;
    let put = |id: &str, tag: &str| Change::put(article(id, "Storm", &[tag]));
    cable
        .commit()
        .changes([put("a", "sea"), put("b", "land"), put("c", "sea"), put("d", "land")])
        .await
        .unwrap();
    // Its position is that of the commit's end.
    assert_eq!(feed.next().await, (FeedEvent::Changes(vec![upsert("a", 1), upsert("c", 3)]), Some(4)));
    let mut late = WatchStream::open(&node, request(&["sea"], after(0))).await.unwrap();
    assert_eq!(late.next().await, (FeedEvent::Changes(vec![upsert("a", 1), upsert("c", 3)]), Some(4)));
    let mut middle = WatchStream::open(&node, request(&["sea"], after(2))).await.unwrap();
    assert_eq!(middle.next().await, (FeedEvent::Changes(vec![upsert("c", 3)]), Some(4)));
    node.stop().await;
}

#[tokio::test]
async fn feeds_filter_by_section_author_and_kind() {
    let (_dir, node, cable) = node().await;
    let open = async |change: fn(&mut v1::FeedFilter)| {
        let mut watch = request(&[], after(0));
        change(watch.filter.as_mut().unwrap());
        WatchStream::open(&node, watch).await.unwrap()
    };
    let mut written = article("a", "Storm", &["sea"]);
    written.section = "sections/news".into();
    written.byline = Some({
        let mut byline = v1::Byline::default();
        let mut credit = v1::Credit::default();
        credit.author = "authors/ada".into();
        byline.credits.push(credit);
        byline
    });
    cable.put(author("ada", "Ada Moss")).await.unwrap();
    cable.put(written.clone()).await.unwrap();
    let ada = Changed::Upsert("authors/ada".into(), 1);
    let mut section = open(|filter| filter.sections = vec!["sections/news".into()]).await;
    assert_eq!(section.changes().await, [upsert("a", 2)]);
    let mut by_author = open(|filter| filter.authors = vec!["authors/ada".into()]).await;
    assert_eq!(by_author.changes().await, [upsert("a", 2)]);
    let mut both = open(|filter| {
        filter.any_tags = vec!["tags/sea".into()];
        filter.authors = vec!["authors/ada".into()];
    })
    .await;
    assert_eq!(both.changes().await, [upsert("a", 2)]);
    let mut authors = open(|filter| filter.kinds = vec![v1::EntityKind::Author.into()]).await;
    assert_eq!(authors.changes().await, std::slice::from_ref(&ada));
    let mut everything = open(|_| {}).await;
    assert_eq!(everything.changes().await, [ada, upsert("a", 2)]);
    written.byline = None;
    cable.put(written).await.unwrap();
    assert_eq!(by_author.changes().await, [left("a")]);
    assert_eq!(both.changes().await, [left("a")]);
    assert_eq!(section.changes().await, [upsert("a", 3)]);
    cable.remove("authors/ada", RemovalReason::Deleted).await.unwrap();
    let gone = Changed::Removed("authors/ada".into(), RemovalReason::Deleted);
    assert_eq!(authors.changes().await, std::slice::from_ref(&gone));
    assert_eq!(everything.changes().await, [upsert("a", 3)]);
    assert_eq!(everything.changes().await, [gone]);
    node.stop().await;
}

#[tokio::test]
async fn backfill_is_delivered_only_on_request() {
    let (_dir, node, cable) = node().await;
    cable.put(article("old", "Old", &["sea"])).update_kind(UpdateKind::Backfill).await.unwrap();
    cable.put(article("new", "New", &["sea"])).await.unwrap();
    let mut feed = WatchStream::open(&node, request(&["sea"], after(0))).await.unwrap();
    assert_eq!(feed.changes().await, [upsert("new", 2)]);
    let mut watch = request(&["sea"], after(0));
    watch.include_backfill = true;
    let mut feed = WatchStream::open(&node, watch).await.unwrap();
    assert_eq!(feed.changes().await, [upsert("old", 1), upsert("new", 2)]);
    node.stop().await;
}

#[tokio::test]
async fn feeds_deliver_each_view_as_reads_return_it() {
    let (_dir, node, cable) = node().await;
    cable.put(article("a", "Storm", &["sea"])).await.unwrap();
    for view in [View::Reference, View::Basic, View::Full] {
        let read = cable.article("a").view(view).await.unwrap().into_inner();
        for start in [after(0), Some(Start::Snapshot(true))] {
            let mut watch = request(&["sea"], start);
            watch.view = view.into();
            let message = WatchStream::open(&node, watch).await.unwrap().message().await.unwrap();
            let record = match message.event.unwrap() {
                v1::watch_response::Event::Snapshot(part) => part.records[0].clone(),
                v1::watch_response::Event::Changes(changes) => match changes.changes[0].change.clone() {
                    Some(v1::feed_change::Change::Upsert(record)) => record,
                    other => panic!("{other:?}"),
                },
                other => panic!("{other:?}"),
            };
            assert_eq!(
                record.decode().unwrap().record,
                Some(v1::record::Record::Article(read.clone())),
                "{view:?}"
            );
        }
    }
    node.stop().await;
}

#[tokio::test]
async fn a_foreign_position_is_refused_or_resets_the_feed() {
    let (_dir, node, cable) = node().await;
    let written = cable.put(article("a", "Storm", &["sea"])).await.unwrap();
    let mut other_log = written.position.clone();
    other_log.log_id = "0badcafe".into();
    let mut other_chain = written.position.clone();
    other_chain.chain = vec![7; 32].into();
    for position in [other_log, other_chain] {
        let mut watch = request(&["sea"], Some(Start::After(position)));
        let refused = WatchStream::open(&node, watch.clone()).await.err().unwrap();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        watch.allow_reset = true;
        let mut feed = WatchStream::open(&node, watch).await.unwrap();
        assert_eq!(feed.next().await, (FeedEvent::Reset(v1::FeedResetReason::LogChanged), None));
        assert_eq!(feed.next().await, (FeedEvent::Snapshot(vec!["articles/a".into()]), None));
        assert_eq!(feed.next().await, (FeedEvent::SnapshotEnd(1), Some(1)));
        assert_eq!(feed.next().await, (FeedEvent::Checkpoint, Some(1)));
    }
    let mut same =
        WatchStream::open(&node, request(&["sea"], Some(Start::After(written.position)))).await.unwrap();
    assert_eq!(same.next().await, (FeedEvent::Checkpoint, Some(1)));
    node.stop().await;
}

#[tokio::test]
async fn a_position_ahead_of_the_node_is_awaited_then_refused() {
    let (_dir, node, cable) = node().await;
    let refused = WatchStream::open(&node, request(&["sea"], after(5))).await.err().unwrap();
    assert_eq!(refused.code(), Code::Unavailable);
    let opening = WatchStream::open(&node, request(&["sea"], after(1)));
    let put = cable.put(article("a", "Storm", &["sea"]));
    let (feed, written) = tokio::join!(opening, async { put.await });
    written.unwrap();
    assert_eq!(feed.unwrap().next().await, (FeedEvent::Checkpoint, Some(1)));
    node.stop().await;
}

#[tokio::test]
async fn a_quiet_feed_sends_checkpoints_at_the_requested_interval() {
    let (_dir, node, cable) = node().await;
    let mut watch = request(&["sea"], None);
    watch.checkpoint_interval = Some(cable_client::ProtoDuration { seconds: 1, nanos: 0 });
    let mut feed = WatchStream::open(&node, watch).await.unwrap();
    assert_eq!(feed.next().await, (FeedEvent::Checkpoint, Some(0)));
    cable.put(article("a", "Storm", &["land"])).await.unwrap();
    assert_eq!(feed.next().await, (FeedEvent::Checkpoint, Some(1)));
    node.stop().await;
}

#[tokio::test]
async fn a_feed_ends_on_drain_and_resumes_at_the_next_node() {
    let (dir, node, cable) = node().await;
    let mut feed = WatchStream::open(&node, request(&["sea"], None)).await.unwrap();
    feed.next().await;
    let written = cable.put(article("a", "Storm", &["sea"])).await.unwrap();
    assert_eq!(feed.changes().await, [upsert("a", 1)]);
    let (ended, ()) = tokio::join!(feed.message(), node.stop());
    assert_eq!(ended.unwrap_err().code(), Code::Unavailable);
    let node = Node::start(dir.path()).await;
    node.client().put(article("b", "Storm", &["sea"])).await.unwrap();
    let mut feed =
        WatchStream::open(&node, request(&["sea"], Some(Start::After(written.position)))).await.unwrap();
    assert_eq!(feed.changes().await, [upsert("b", 2)]);
    node.stop().await;
}

#[tokio::test]
async fn the_feeds_of_a_connection_are_limited() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start_with(dir.path(), |config| config.connections.max_feeds = 2).await;
    let raw = crate::raw::Raw::to(&node).await;
    let open = async |tag| WatchStream::open_on(&raw, request(&[tag], None)).await;
    let first = open("sea").await.unwrap();
    let _second = open("ice").await.unwrap();
    let refused = open("sea").await.err().unwrap();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    drop(first);
    // The permit is free as soon as the server has seen the reset.
    while open("sea").await.is_err() {
        tokio::task::yield_now().await;
    }
    node.stop().await;
}

#[tokio::test]
async fn the_feeds_of_a_node_are_limited() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start_with(dir.path(), |config| config.feed.max_open = 1).await;
    let first = WatchStream::open(&node, request(&["sea"], None)).await.unwrap();
    let refused = WatchStream::open(&node, request(&["sea"], None)).await.err().unwrap();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.message().contains("node"), "{}", refused.message());
    drop(first);
    while WatchStream::open(&node, request(&["sea"], None)).await.is_err() {
        tokio::task::yield_now().await;
    }
    node.stop().await;
}

#[tokio::test]
async fn an_invalid_watch_request_is_refused_with_its_field() {
    let (_dir, node, _) = node().await;
    let mut position = Position::default();
    position.revision = -1;
    let mut wrong: Vec<(&str, v1::WatchRequest)> = vec![
        ("filter.any_tags[0]", request(&["no such id"], None)),
        ("snapshot", request(&[], Some(Start::Snapshot(false)))),
        ("after.revision", request(&[], Some(Start::After(position)))),
    ];
    let mut kinds = request(&["sea"], None);
    kinds.filter.as_mut().unwrap().kinds = vec![v1::EntityKind::Author.into()];
    wrong.push(("filter.kinds[0]", kinds));
    let mut interval = request(&[], None);
    interval.checkpoint_interval = Some(cable_client::ProtoDuration { seconds: 0, nanos: 1 });
    wrong.push(("checkpoint_interval", interval));
    for (field, request) in wrong {
        let refused = WatchStream::open(&node, request).await.err().unwrap();
        assert_eq!(refused.code(), Code::InvalidArgument, "{field}");
        assert!(refused.message().starts_with(&format!("{field}: ")), "{}", refused.message());
    }
    node.stop().await;
}
