//! Kills: what a name held is gone for every reader, from memory and from the disk, and its tombstone stays.

use std::{collections::HashSet, fs, path::Path};

use cable_client::{Cable, ErrorReason, RemovalReason};
use rusqlite::{Connection, OpenFlags};
use serde_json::json;

use crate::{
    dice::Dice,
    raw::Raw,
    support::{Node, article, body},
};

type Piece = [u8; 64];

/// The stored bytes of an article, in pieces; not its ends, which others may share.
fn stored(dir: &Path, id: &str) -> HashSet<Piece> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE;
    let connection = Connection::open_with_flags(dir.join("cable.db"), flags).unwrap();
    let sql = "SELECT entry FROM doc WHERE id = ?1 AND live = 1";
    let entry: Vec<u8> = connection.query_row(sql, [id], |row| row.get(0)).unwrap();
    entry[64..entry.len() - 64].chunks_exact(64).map(|piece| piece.try_into().unwrap()).collect()
}

/// How many of the pieces are anywhere in the data directory.
fn traces(dir: &Path, pieces: &HashSet<Piece>) -> usize {
    let mut found: HashSet<&Piece> = HashSet::new();
    for file in fs::read_dir(dir).unwrap() {
        let bytes = fs::read(file.unwrap().path()).unwrap();
        found.extend(bytes.windows(64).filter_map(|window| pieces.get(window)));
    }
    found.len()
}

async fn put_noise(cable: &Cable, id: &str, seed: u64) {
    let mut dice = Dice::new(seed);
    let noise: String = (0..4_096).map(|_| format!("{:016x}", dice.next())).collect();
    let mut article = article(id, id, &["t"]);
    article.body = Some(body(&noise));
    cable.put(article).await.unwrap();
}

async fn is_killed(cable: &Cable, id: &str) {
    let error = cable.article(id).await.unwrap_err();
    assert_eq!(error.reason(), Some(ErrorReason::ArticleGone));
    assert_eq!(error.metadata()["reason"], "KILLED");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_article_is_nowhere_once_the_kill_is_answered_and_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let cable = node.client();
    put_noise(&cable, "other", 1).await;
    put_noise(&cable, "a", 2).await;
    let mut pieces = stored(dir.path(), "a");
    put_noise(&cable, "a", 3).await;
    pieces.extend(stored(dir.path(), "a"));
    cable.article("a").await.unwrap();
    assert!(traces(dir.path(), &pieces) > pieces.len() * 9 / 10);

    let kill = || cable.remove("articles/a", RemovalReason::Killed).request_id("kill-1");
    let killed = kill().await.unwrap();
    assert!(killed.changed);
    assert_eq!(traces(dir.path(), &pieces), 0);
    is_killed(&cable, "a").await;
    assert_eq!(kill().await.unwrap(), killed);
    let again = cable.remove("articles/a", RemovalReason::Killed).await.unwrap();
    assert_eq!((again.changed, again.revision), (false, killed.revision));

    node.stop().await;
    let node = Node::start(dir.path()).await;
    let cable = node.client();
    assert_eq!(traces(dir.path(), &pieces), 0);
    is_killed(&cable, "a").await;
    cable.article("other").await.unwrap();
    node.stop().await;
}

#[tokio::test]
async fn a_kill_of_what_was_removed_for_another_reason_gives_it_this_reason() {
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
    is_killed(&cable, "a").await;
    is_killed(&cable, "b").await;
    let unknown = cable.remove("articles/never", RemovalReason::Killed).await.unwrap_err();
    assert_eq!(unknown.reason(), Some(ErrorReason::ArticleNotFound));
    node.stop().await;
}
