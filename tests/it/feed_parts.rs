//! The size of feed messages. Large commits arrive in parts, and no message exceeds a client's default limit.

use cable_client::{
    Cable, Change, FeedFilter, View,
    v1::{self, WatchResponse, watch_request::Start, watch_response::Event},
};
use futures_util::{StreamExt as _, future::join_all};
use prost::Message as _;

use crate::{
    follow::{Changed, FeedEvent, WatchStream, after, request},
    raw::Raw,
    support::{Node, article, body},
};

/// The maximum size of a message in bytes: 3.5 MiB.
const MAX_MESSAGE: usize = 3_670_016;

/// The maximum size of one change in bytes. The client crate's limit on a commit depends on both.
const MAX_CHANGE: usize = 5 << 19;

async fn node() -> (tempfile::TempDir, Node, Cable) {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let cable = node.client();
    (dir, node, cable)
}

/// Puts large articles, one at a time. A commit of small patches of them is larger than any message.
async fn put_large(cable: &Cable, count: usize) {
    for n in 0..count {
        let mut large = article(&format!("a{n}"), "Storm", &["sea"]);
        large.body = Some(body(&"x".repeat(900_000)));
        cable.put(large).await.unwrap();
    }
}

/// Patches the headlines of all large articles in one commit. Returns its last revision.
async fn patch_all(cable: &Cable, count: usize) -> i64 {
    let patch = |n| Change::patch(article(&format!("a{n}"), "Calm", &[]), ["headline"]);
    cable.commit().changes((0..count).map(patch)).await.unwrap().position.revision
}

fn patched(count: i64) -> Vec<Changed> {
    (0..count).map(|n| Changed::Upsert(format!("articles/a{n}"), count + n + 1)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_larger_than_a_message_arrives_in_parts() {
    let (_dir, node, cable) = node().await;
    put_large(&cable, 6).await;
    let open = async |format: v1::BodyFormat, start: Option<Start>| {
        let mut watch = request(&["sea"], start);
        (watch.view, watch.body_format) = (View::Full.into(), format.into());
        WatchStream::open(&node, watch).await.unwrap()
    };
    let formats =
        [v1::BodyFormat::Blocks, v1::BodyFormat::Html, v1::BodyFormat::Markdown, v1::BodyFormat::PlainText];
    let mut feeds = Vec::new();
    for format in formats {
        let mut live = open(format, None).await;
        assert_eq!(live.next().await, (FeedEvent::Checkpoint, Some(6)));
        feeds.push(live);
    }
    let mut mirrored = cable.feed(FeedFilter::default().any_tag("sea")).view(View::Full).after(6).open();
    let end = patch_all(&cable, 6).await;
    for format in formats {
        feeds.push(open(format, after(6)).await);
    }
    for mut feed in feeds {
        // On a slow machine a checkpoint comes before.
        assert_eq!(feed.changes().await, patched(6));
        assert!(
            feed.parts >= 1 && feed.largest <= MAX_MESSAGE,
            "{} parts, {} bytes",
            feed.parts,
            feed.largest
        );
        assert_eq!(feed.next().await, (FeedEvent::Checkpoint, Some(end)));
    }
    let mut small = WatchStream::open(&node, request(&["sea"], after(6))).await.unwrap();
    assert_eq!(small.next().await, (FeedEvent::Changes(patched(6)), Some(end)));
    assert!(small.largest < 10_000, "{} bytes", small.largest);
    // The client crate delivers it as one event, within the default limits.
    let delivery = mirrored.next().await.unwrap().unwrap();
    let cable_client::Event::Changes(changes) = delivery.event else { panic!("no changes") };
    assert_eq!((changes.len(), delivery.position.unwrap().revision), (6, end));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_broken_between_parts_resumes_before_the_commit() {
    let (_dir, node, cable) = node().await;
    put_large(&cable, 4).await;
    let end = patch_all(&cable, 4).await;
    let mut watch = request(&["sea"], after(4));
    watch.view = View::Full.into();
    let mut broken = Raw::to(&node).await.stream("Watch", watch.encode_to_vec().into()).await.unwrap();
    let first = WatchResponse::decode(broken.message().await.unwrap().unwrap()).unwrap();
    assert_eq!(first.position, None);
    assert!(
        matches!(first.event, Some(Event::Changes(part)) if part.more_follows && !part.changes.is_empty())
    );
    drop(broken);
    let mut feed = WatchStream::open(&node, watch).await.unwrap();
    assert_eq!(feed.next().await, (FeedEvent::Changes(patched(4)), Some(end)));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_superseded_between_parts_arrives_later() {
    let (_dir, node, cable) = node().await;
    put_large(&cable, 5).await;
    let end = patch_all(&cable, 5).await;
    let mut watch = request(&["sea"], after(5));
    watch.view = View::Full.into();
    // The windows are smaller than the first part, so the node has not encoded the last ones yet.
    let raw = Raw::narrow(&node).await;
    let mut feed = WatchStream::open_on(&raw, watch).await.unwrap();
    let first = feed.first_part().await;
    let sent = first.len();
    assert!((1..4).contains(&sent), "{sent} changes in the first part");
    for n in 0..5 {
        cable.put(article(&format!("a{n}"), "Gone", &["land"])).await.unwrap();
    }
    let (FeedEvent::Changes(commit), Some(position)) = feed.next().await else { panic!("no commit") };
    assert_eq!(commit[..sent], patched(5)[..sent]);
    assert!(position >= end && !commit.contains(&patched(5)[4]), "{commit:?} up to {position}");
    let mut left: Vec<Changed> = commit[sent..].to_vec();
    while left.iter().filter(|change| matches!(change, Changed::Left(_))).count() < 5 {
        left.extend(feed.changes().await);
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_names_only_the_lists_left_by_that_change() {
    let (_dir, node, cable) = node().await;
    let names = |round: usize| (0..100).map(|n| format!("{round}-{n:0>100}")).collect::<Vec<_>>();
    let put = async |id: usize, round| {
        let tags = names(round);
        let mut tags: Vec<&str> = tags.iter().map(String::as_str).collect();
        tags.push("sea");
        cable.put(article(&format!("a{id}"), &format!("{round}"), &tags)).await.unwrap().revision
    };
    for id in 0..2 {
        for round in 0..4 {
            put(id, round).await;
        }
    }
    let mut live = WatchStream::open(&node, request(&[], None)).await.unwrap();
    live.next().await;
    let last = put(0, 4).await;
    let removed = cable.remove("articles/a1", cable_client::RemovalReason::Withdrawn).await.unwrap();
    let mut late = WatchStream::open(&node, request(&[], after(0))).await.unwrap();
    let expected = |round| names(round).into_iter().map(|name| format!("tags/{name}")).collect::<Vec<_>>();
    for feed in [&mut live, &mut late] {
        let mut changes = Vec::new();
        while changes.len() < 2 {
            if let Some(Event::Changes(message)) = feed.message().await.unwrap().event {
                changes.extend(message.changes);
            }
        }
        assert_eq!(
            changes.iter().map(|change| change.revision).collect::<Vec<_>>(),
            [last, removed.revision]
        );
        assert_eq!(changes[0].former_names, expected(3));
        let mut withdrawn = expected(3);
        withdrawn.push("tags/sea".into());
        assert_eq!(changes[1].former_names, withdrawn);
    }
    // A follower of a list that the article left long before receives that change.
    let tag = names(1)[7].clone();
    let mut of_list = WatchStream::open(&node, request(&[&tag], after(0))).await.unwrap();
    let FeedEvent::Changes(changes) = of_list.next().await.0 else { panic!("no changes") };
    assert!(changes.contains(&Changed::Left("articles/a0".into())), "{changes:?}");
    node.stop().await;
}

/// Puts the article with the largest accepted change: its rendered body, all its other content, its former paths and
/// the lists that it leaves.
async fn put_largest(cable: &Cable) -> i64 {
    for n in 0..=256 {
        let mut moved = article("a", "Storm", &["sea"]);
        moved.path = format!("/{n:0>1000}");
        if n == 256 {
            moved.tags.extend((0..120).map(|tag| format!("tags/{tag:0>120}")));
        }
        cable.put(moved).await.unwrap();
    }
    // 30 bytes of HTML for each cell of 6 bytes.
    let mut cell = v1::TableCell::default();
    (cell.column_span, cell.row_span) = (2, 2);
    let mut row = v1::TableRow::default();
    row.cells = vec![cell; 300];
    let mut table = v1::Table::default();
    table.rows = vec![row; 95];
    let mut block = v1::Block::default();
    block.kind = Some(v1::block::Kind::Table(table));
    let mut largest = article("a", "Storm", &["sea"]);
    largest.body = Some({
        let mut body = v1::Body::default();
        body.blocks.push(block);
        body
    });
    // With the rendered body, the article is just below the limit.
    while largest.notices.len() < 19 {
        let mut notice = v1::Notice::default();
        notice.text = "z".repeat(8_000);
        largest.notices.push(notice);
    }
    cable.put(largest).await.unwrap().revision
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_change_fits_into_a_message_in_every_shape() {
    let (_dir, node, cable) = node().await;
    let views = [View::Reference, View::Basic, View::Full];
    let formats =
        [v1::BodyFormat::Blocks, v1::BodyFormat::Html, v1::BodyFormat::Markdown, v1::BodyFormat::PlainText];
    let mut shapes: Vec<(View, v1::BodyFormat)> = views.iter().map(|view| (*view, formats[0])).collect();
    shapes.extend(formats[1..].iter().map(|format| (View::Full, *format)));
    let open = async |(view, format): (View, v1::BodyFormat), start| {
        let mut watch = request(&["sea"], start);
        (watch.view, watch.body_format) = (view.into(), format.into());
        WatchStream::open(&node, watch).await.unwrap()
    };
    let mut lives = Vec::new();
    for shape in &shapes {
        lives.push(open(*shape, None).await);
    }
    let revision = put_largest(&cable).await;
    let largest_of = async |shape, mut feed: WatchStream| {
        while feed.message().await.unwrap().position.is_none_or(|position| position.revision < revision) {}
        assert!(feed.largest <= MAX_CHANGE, "{shape:?}: {} bytes", feed.largest);
        feed.largest
    };
    // At the same time: a feed that is not read is cut off after a while.
    let live = shapes.iter().zip(lives).map(|(shape, feed)| largest_of(*shape, feed));
    let mut sizes = join_all(live).await;
    for shape in shapes {
        for start in [after(0), Some(Start::Snapshot(true))] {
            sizes.push(largest_of(shape, open(shape, start).await).await);
        }
    }
    let largest = sizes.into_iter().max().unwrap();
    assert!(largest > 1_300_000, "not the largest change: {largest} bytes");
    node.stop().await;
}
