//! The messages of a feed for each start, each kind of change, and each way to resume.

use cable_client::{
    Cable, Change, RemovalReason, UpdateKind, View,
    v1::{self, Position, watch_request::Start},
};
use tonic::Code;

use crate::{
    follow::{Changed, Follow, Told, after, request},
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
async fn a_feed_from_now_says_where_it_starts_and_tells_what_enters_changes_and_leaves() {
    let (_dir, node, cable) = node().await;
    cable.put(article("old", "Old", &["sea"])).await.unwrap();
    let mut feed = Follow::open(&node, request(&["sea", "ice"], None)).await.unwrap();
    assert_eq!(feed.next().await, (Told::Checkpoint, Some(1)));
    cable.put(article("a", "Storm", &["land"])).await.unwrap();
    cable.put(article("a", "Storm", &["land", "sea"])).await.unwrap();
    assert_eq!(feed.next().await, (Told::Changes(vec![upsert("a", 3)]), Some(3)));
    cable.put(article("a", "Storm", &["ice"])).await.unwrap();
    assert_eq!(feed.next().await, (Told::Changes(vec![upsert("a", 4)]), Some(4)));
    cable.put(article("a", "Storm", &["land"])).await.unwrap();
    assert_eq!(feed.next().await, (Told::Changes(vec![left("a")]), Some(5)));
    cable.put(article("a", "Calm", &["land"])).await.unwrap();
    cable.remove("articles/old", RemovalReason::Withdrawn).await.unwrap();
    let gone = removed("old", RemovalReason::Withdrawn);
    assert_eq!(feed.next().await, (Told::Changes(vec![gone]), Some(7)));
    node.stop().await;
}

#[tokio::test]
async fn a_feed_resumed_after_a_position_tells_what_was_missed_and_no_more() {
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
        let mut feed = Follow::open(&node, request(&["sea"], after(from))).await.unwrap();
        assert_eq!(feed.next().await, (Told::Changes(expected), Some(8)), "after {from}");
        assert_eq!(feed.next().await, (Told::Checkpoint, Some(8)), "after {from}");
    }
    let mut feed = Follow::open(&node, request(&["sea"], after(8))).await.unwrap();
    assert_eq!(feed.next().await, (Told::Checkpoint, Some(8)));
    node.stop().await;
}

#[tokio::test]
async fn what_left_between_two_pieces_of_a_catch_up_is_told() {
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
    let mut feed = Follow::open(&node, request(&["sea"], after(1))).await.unwrap();
    let mut told = Vec::new();
    while let (Told::Changes(changes), _) = feed.next().await {
        told.extend(changes);
    }
    assert!(told.contains(&left("a")), "{told:?}");
    node.stop().await;
}

#[tokio::test]
async fn a_snapshot_goes_over_into_what_happens_without_a_seam() {
    let (_dir, node, cable) = node().await;
    for i in 0..600 {
        cable.put(article(&format!("a{i:03}"), "Storm", &[["sea", "land"][i % 2]])).await.unwrap();
    }
    let mut feed = Follow::open(&node, request(&["sea"], Some(Start::Snapshot(true)))).await.unwrap();
    let mut names = Vec::new();
    let end = loop {
        match feed.next().await {
            (Told::Snapshot(part), None) => names.extend(part),
            (Told::SnapshotEnd(count), position) => break (count, position),
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
async fn a_commit_comes_whole_in_one_message() {
    let (_dir, node, cable) = node().await;
    let mut feed = Follow::open(&node, request(&["sea"], None)).await.unwrap();
    feed.next().await;
    let put = |id: &str, tag: &str| Change::put(article(id, "Storm", &[tag]));
    cable
        .commit()
        .changes([put("a", "sea"), put("b", "land"), put("c", "sea"), put("d", "land")])
        .await
        .unwrap();
    // Its position is that of the commit's end.
    assert_eq!(feed.next().await, (Told::Changes(vec![upsert("a", 1), upsert("c", 3)]), Some(4)));
    let mut late = Follow::open(&node, request(&["sea"], after(0))).await.unwrap();
    assert_eq!(late.next().await, (Told::Changes(vec![upsert("a", 1), upsert("c", 3)]), Some(4)));
    let mut middle = Follow::open(&node, request(&["sea"], after(2))).await.unwrap();
    assert_eq!(middle.next().await, (Told::Changes(vec![upsert("c", 3)]), Some(4)));
    node.stop().await;
}

#[tokio::test]
async fn sections_authors_and_kinds_are_followed_too() {
    let (_dir, node, cable) = node().await;
    let open = async |change: fn(&mut v1::FeedFilter)| {
        let mut asked = request(&[], after(0));
        change(asked.filter.as_mut().unwrap());
        Follow::open(&node, asked).await.unwrap()
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
async fn backfill_is_told_only_to_those_who_ask() {
    let (_dir, node, cable) = node().await;
    cable.put(article("old", "Old", &["sea"])).update_kind(UpdateKind::Backfill).await.unwrap();
    cable.put(article("new", "New", &["sea"])).await.unwrap();
    let mut feed = Follow::open(&node, request(&["sea"], after(0))).await.unwrap();
    assert_eq!(feed.changes().await, [upsert("new", 2)]);
    let mut asked = request(&["sea"], after(0));
    asked.include_backfill = true;
    let mut feed = Follow::open(&node, asked).await.unwrap();
    assert_eq!(feed.changes().await, [upsert("old", 1), upsert("new", 2)]);
    node.stop().await;
}

#[tokio::test]
async fn each_view_is_told_as_it_is_read() {
    let (_dir, node, cable) = node().await;
    cable.put(article("a", "Storm", &["sea"])).await.unwrap();
    for view in [View::Reference, View::Basic, View::Full] {
        let read = cable.article("a").view(view).await.unwrap().into_inner();
        for start in [after(0), Some(Start::Snapshot(true))] {
            let mut asked = request(&["sea"], start);
            asked.view = view.into();
            let message = Follow::open(&node, asked).await.unwrap().message().await.unwrap();
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
async fn a_position_of_another_history_is_refused_or_answered_by_a_snapshot() {
    let (_dir, node, cable) = node().await;
    let written = cable.put(article("a", "Storm", &["sea"])).await.unwrap();
    let mut other_log = written.position.clone();
    other_log.log_id = "0badcafe".into();
    let mut other_chain = written.position.clone();
    other_chain.chain = vec![7; 32].into();
    for position in [other_log, other_chain] {
        let mut asked = request(&["sea"], Some(Start::After(position)));
        let refused = Follow::open(&node, asked.clone()).await.err().unwrap();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        asked.reset = true;
        let mut feed = Follow::open(&node, asked).await.unwrap();
        assert_eq!(feed.next().await, (Told::Reset(v1::FeedResetReason::LogChanged), None));
        assert_eq!(feed.next().await, (Told::Snapshot(vec!["articles/a".into()]), None));
        assert_eq!(feed.next().await, (Told::SnapshotEnd(1), Some(1)));
        assert_eq!(feed.next().await, (Told::Checkpoint, Some(1)));
    }
    let mut same =
        Follow::open(&node, request(&["sea"], Some(Start::After(written.position)))).await.unwrap();
    assert_eq!(same.next().await, (Told::Checkpoint, Some(1)));
    node.stop().await;
}

#[tokio::test]
async fn a_position_ahead_of_the_node_is_waited_for_and_then_refused() {
    let (_dir, node, cable) = node().await;
    let refused = Follow::open(&node, request(&["sea"], after(5))).await.err().unwrap();
    assert_eq!(refused.code(), Code::Unavailable);
    let opening = Follow::open(&node, request(&["sea"], after(1)));
    let put = cable.put(article("a", "Storm", &["sea"]));
    let (feed, written) = tokio::join!(opening, async { put.await });
    written.unwrap();
    assert_eq!(feed.unwrap().next().await, (Told::Checkpoint, Some(1)));
    node.stop().await;
}

#[tokio::test]
async fn a_silent_feed_says_so_as_often_as_asked_and_its_place_moves_on() {
    let (_dir, node, cable) = node().await;
    let mut asked = request(&["sea"], None);
    asked.checkpoint_interval = Some(cable_client::ProtoDuration { seconds: 1, nanos: 0 });
    let mut feed = Follow::open(&node, asked).await.unwrap();
    assert_eq!(feed.next().await, (Told::Checkpoint, Some(0)));
    cable.put(article("a", "Storm", &["land"])).await.unwrap();
    assert_eq!(feed.next().await, (Told::Checkpoint, Some(1)));
    node.stop().await;
}

#[tokio::test]
async fn a_feed_ends_when_the_node_drains_and_goes_on_at_the_next_one() {
    let (dir, node, cable) = node().await;
    let mut feed = Follow::open(&node, request(&["sea"], None)).await.unwrap();
    feed.next().await;
    let written = cable.put(article("a", "Storm", &["sea"])).await.unwrap();
    assert_eq!(feed.changes().await, [upsert("a", 1)]);
    let (ended, ()) = tokio::join!(feed.message(), node.stop());
    assert_eq!(ended.unwrap_err().code(), Code::Unavailable);
    let node = Node::start(dir.path()).await;
    node.client().put(article("b", "Storm", &["sea"])).await.unwrap();
    let mut feed =
        Follow::open(&node, request(&["sea"], Some(Start::After(written.position)))).await.unwrap();
    assert_eq!(feed.changes().await, [upsert("b", 2)]);
    node.stop().await;
}

#[tokio::test]
async fn one_connection_has_so_many_feeds_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start_with(dir.path(), |config| config.connections.max_feeds = 2).await;
    let raw = crate::raw::Raw::to(&node).await;
    let open = async |tag| Follow::open_on(&raw, request(&[tag], None)).await;
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
async fn a_node_has_so_many_feeds_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start_with(dir.path(), |config| config.feed.max_open = 1).await;
    let first = Follow::open(&node, request(&["sea"], None)).await.unwrap();
    let refused = Follow::open(&node, request(&["sea"], None)).await.err().unwrap();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.message().contains("node"), "{}", refused.message());
    drop(first);
    while Follow::open(&node, request(&["sea"], None)).await.is_err() {
        tokio::task::yield_now().await;
    }
    node.stop().await;
}

#[tokio::test]
async fn what_is_asked_wrongly_is_told_with_its_field() {
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
        let refused = Follow::open(&node, request).await.err().unwrap();
        assert_eq!(refused.code(), Code::InvalidArgument, "{field}");
        assert!(refused.message().starts_with(&format!("{field}: ")), "{}", refused.message());
    }
    node.stop().await;
}
