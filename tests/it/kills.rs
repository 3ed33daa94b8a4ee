//! Kills. The content of a killed name is erased for every reader, from memory and from disk, and its tombstone
//! remains.

use std::{collections::HashSet, fs, path::Path};

use bytes::Bytes;
use cable_client::{
    Cable, ErrorReason, RemovalReason, Timestamp,
    v1::{self, WatchRequest, WatchResponse, watch_request::Start},
};
use prost::Message as _;
use rusqlite::{Connection, OpenFlags};
use serde_json::json;
use tonic::Streaming;

use crate::{
    dice::Rng,
    follow::{after, request},
    raw::Raw,
    support::{Node, article, body},
};

mod readers;

type Piece = [u8; 64];

/// The slots of a name.
const LIVE: i64 = 1;
const PENDING: i64 = 2;

/// Returns the stored bytes of an article, in pieces. The ends are left out, since other articles may share them.
fn stored(dir: &Path, id: &str, slot: i64) -> HashSet<Piece> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE;
    let connection = Connection::open_with_flags(dir.join("cable.db"), flags).unwrap();
    let sql = "SELECT entry FROM doc WHERE id = ?1 AND slot = ?2";
    let entry: Vec<u8> = connection.query_row(sql, (id, slot), |row| row.get(0)).unwrap();
    entry[64..entry.len() - 64].chunks_exact(64).map(|piece| piece.try_into().unwrap()).collect()
}

/// Returns how many of the pieces are anywhere in the data directory.
fn traces(dir: &Path, pieces: &HashSet<Piece>) -> usize {
    let mut found: HashSet<&Piece> = HashSet::new();
    for file in fs::read_dir(dir).unwrap() {
        // The file that names the opening of a store is created and removed during the test.
        let Ok(bytes) = fs::read(file.unwrap().path()) else { continue };
        found.extend(bytes.windows(64).filter_map(|window| pieces.get(window)));
    }
    found.len()
}

/// Returns an article of about 64 KB that compresses to not much less than half.
fn noise(id: &str, seed: u64) -> v1::Article {
    let mut rng = Rng::new(seed);
    let noise: String = (0..4_096).map(|_| format!("{:016x}", rng.next())).collect();
    let mut article = article(id, id, &["t"]);
    article.body = Some(body(&noise));
    article
}

async fn put_noise(cable: &Cable, id: &str, seed: u64) {
    cable.put(noise(id, seed)).await.unwrap();
}

/// Schedules the article for a year in which no test runs.
fn scheduled(mut article: v1::Article) -> v1::Article {
    article.publish_time = Some(Timestamp { seconds: 32_000_000_000, nanos: 0 });
    article
}

async fn assert_killed(cable: &Cable, id: &str) {
    let error = cable.article(id).await.unwrap_err();
    assert_eq!(error.reason(), Some(ErrorReason::ArticleGone));
    assert_eq!(error.metadata()["reason"], "KILLED");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_erases_all_versions_before_it_returns() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let cable = node.client();
    put_noise(&cable, "other", 1).await;
    put_noise(&cable, "a", 2).await;
    let mut pieces = stored(dir.path(), "a", LIVE);
    put_noise(&cable, "a", 3).await;
    pieces.extend(stored(dir.path(), "a", LIVE));
    for seed in [4, 5] {
        assert!(cable.put(scheduled(noise("a", seed))).await.unwrap().pending);
        pieces.extend(stored(dir.path(), "a", PENDING));
    }
    assert!(pieces.len() > 1_500);
    cable.article("a").await.unwrap();
    cable.pending("a").await.unwrap();
    assert!(traces(dir.path(), &pieces) > pieces.len() * 9 / 10);

    let kill = || cable.remove("articles/a", RemovalReason::Killed).request_id("kill-1");
    let killed = kill().await.unwrap();
    assert!(killed.changed);
    assert_eq!(traces(dir.path(), &pieces), 0);
    assert_killed(&cable, "a").await;
    assert_eq!(cable.pending("a").await.unwrap_err().reason(), Some(ErrorReason::ArticleNotFound));
    assert_eq!(kill().await.unwrap(), killed);
    let again = cable.remove("articles/a", RemovalReason::Killed).await.unwrap();
    assert_eq!((again.changed, again.revision), (false, killed.revision));

    node.stop().await;
    let node = Node::start(dir.path()).await;
    let cable = node.client();
    assert_eq!(traces(dir.path(), &pieces), 0);
    assert_killed(&cable, "a").await;
    cable.article("other").await.unwrap();
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_erases_an_article_that_was_only_pending() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let cable = node.client();
    put_noise(&cable, "other", 1).await;
    cable.put(scheduled(noise("a", 2))).await.unwrap();
    let pieces = stored(dir.path(), "a", PENDING);
    assert!(traces(dir.path(), &pieces) > pieces.len() * 9 / 10);
    cable.remove("articles/a", RemovalReason::Killed).await.unwrap();
    assert_eq!(traces(dir.path(), &pieces), 0);
    node.stop().await;
    let node = Node::start(dir.path()).await;
    assert_eq!(traces(dir.path(), &pieces), 0);
    let unknown = node.client().article("a").await.unwrap_err();
    assert_eq!(unknown.reason(), Some(ErrorReason::ArticleNotFound), "the article was never visible");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_outlasts_the_versions_that_were_allowed_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let cable = node.client();
    let later = |id: &str, text: &str| scheduled(article(id, text, &["t"]));
    for id in ["live", "scheduled"] {
        let first = if id == "live" { article(id, "A", &["t"]) } else { later(id, "A") };
        cable.put(first).await.unwrap();
        cable.remove(format!("articles/{id}"), RemovalReason::Killed).await.unwrap();
        let is_killed = async || {
            for refused in [article(id, "B", &["t"]), later(id, "B")] {
                let error = cable.put(refused).await.unwrap_err();
                assert_eq!(error.reason(), Some(ErrorReason::NameKilled), "{id}");
            }
        };
        is_killed().await;
        for text in ["C", "D"] {
            cable.put(later(id, text)).allow_killed().await.unwrap();
            is_killed().await;
        }
        cable.remove_pending(id).await.unwrap();
        is_killed().await;
        cable.put(later(id, "E")).allow_killed().await.unwrap();
        cable.remove(format!("articles/{id}"), RemovalReason::Killed).await.unwrap();
        is_killed().await;
        cable.put(article(id, "F", &["t"])).allow_killed().await.unwrap();
        cable.put(article(id, "G", &["t"])).await.unwrap();
    }
    node.stop().await;
}

/// The texts of the killed article: the live version and the pending version.
const TEXTS: [&str; 2] = ["live text", "pending text"];

/// Follows whole articles, on a connection of its own.
async fn follow(node: &Node, start: Option<Start>) -> Streaming<Bytes> {
    let mut watch: WatchRequest = request(&["t"], start);
    watch.view = v1::ArticleView::Full.into();
    Raw::to(node).await.stream("Watch", watch.encode_to_vec().into()).await.unwrap()
}

/// Returns all bytes that a feed delivers until it is at a revision.
async fn receive_until(feed: &mut Streaming<Bytes>, revision: i64) -> Vec<u8> {
    let mut received = Vec::new();
    loop {
        let message = feed.message().await.unwrap().unwrap();
        received.extend_from_slice(&message);
        let position = WatchResponse::decode(message).unwrap().position;
        if position.is_some_and(|position| position.revision >= revision) {
            return received;
        }
    }
}

fn contains(received: &[u8], text: &str) -> bool {
    received.windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_feed_delivers_killed_content_after_the_kill() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let cable = node.client();
    let (mut prompt, mut behind) = (follow(&node, None).await, follow(&node, None).await);
    // This is more than a connection accepts for a peer that does not read. The rest remains at the node.
    for n in 0..6 {
        let mut large = article(&format!("large{n}"), "Large", &["t"]);
        large.body = Some(body(&"x".repeat(1_000_000)));
        cable.put(large).await.unwrap();
    }
    let [live, pending] = TEXTS.map(|text| article("a", text, &["t"]));
    let live = cable.put(live).await.unwrap();
    cable.put(scheduled(pending)).await.unwrap();
    let before = receive_until(&mut prompt, live.revision).await;
    assert!(contains(&before, TEXTS[0]) && !contains(&before, TEXTS[1]));

    let killed = cable.remove("articles/a", RemovalReason::Killed).await.unwrap();
    let mut resumed = follow(&node, after(0)).await;
    let mut snapshot = follow(&node, Some(Start::Snapshot(true))).await;
    for (reader, feed) in [
        ("live", &mut prompt),
        ("behind", &mut behind),
        ("resumed", &mut resumed),
        ("snapshot", &mut snapshot),
    ] {
        let received = receive_until(feed, killed.revision).await;
        assert_eq!(TEXTS.map(|text| contains(&received, text)), [false, false], "{reader}");
        assert_eq!(contains(&received, "articles/a"), reader != "snapshot", "{reader}");
    }
    node.stop().await;
}

#[tokio::test]
async fn a_kill_replaces_the_reason_of_an_earlier_removal() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let cable = node.client();
    for id in ["a", "b"] {
        put_noise(&cable, id, 1).await;
        cable.remove(format!("articles/{id}"), RemovalReason::Withdrawn).await.unwrap();
    }
    assert!(cable.remove("articles/a", RemovalReason::Killed).await.unwrap().changed);
    let tombstone = json!({"name": "articles/b", "reason": "REMOVAL_REASON_KILLED"});
    let raw = Raw::to(&node).await;
    let imported = raw.call("Import", json!({"records": [{"tombstone": tombstone}]})).await.unwrap();
    assert_eq!(imported["results"][0]["error"], json!(null), "{imported}");
    assert_killed(&cable, "a").await;
    assert_killed(&cable, "b").await;
    let unknown = cable.remove("articles/never", RemovalReason::Killed).await.unwrap_err();
    assert_eq!(unknown.reason(), Some(ErrorReason::ArticleNotFound));
    node.stop().await;
}
