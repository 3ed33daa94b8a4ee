//! A store with damaged records. Each affects only itself, and no response that lacks one passes for complete.

use std::path::Path;

use cable_client::{ErrorKind, v1::ErrorReason};
use futures_util::StreamExt as _;
use rusqlite::{Connection, params};
use serde_json::{Value, json};
use tonic::Code;

use crate::{
    raw::{Raw, decode, request_bytes},
    support::Node,
};

/// The damaged part of a row of `doc`.
#[derive(Debug, Clone, Copy)]
enum Part {
    /// The entry, with the content.
    Entry,
    /// The columns beside the entry: its lists, its digests, its times.
    Columns,
    Both,
}

const PARTS: [Part; 3] = [Part::Entry, Part::Columns, Part::Both];

/// Damages the stored row of a key in a closed store.
fn damage(dir: &Path, (kind, slot, id): (i64, i64, &str), part: Part) {
    let connection = Connection::open(dir.join("cable.db")).unwrap();
    let key = params![kind, slot, id];
    let entry = "entry = CAST(substr(entry, 1, 20) || x'00' || substr(entry, 22) AS BLOB)";
    let columns = "terms = x'ffffff00', hash = zeroblob(32), time = time + 1, departures = x'01'";
    let change = match part {
        Part::Entry => entry.to_owned(),
        Part::Columns => columns.to_owned(),
        Part::Both => format!("{entry}, {columns}"),
    };
    let sql = format!("UPDATE doc SET {change} WHERE kind = ?1 AND slot = ?2 AND id = ?3");
    assert_eq!(connection.execute(&sql, key).unwrap(), 1, "{id}");
}

fn article(id: &str, headline: &str, tag: &str) -> Value {
    let paragraph = json!({"paragraph": {"spans": [{"text": headline.repeat(200)}]}});
    json!({"name": format!("articles/{id}"), "headline": headline, "path": format!("/{id}"),
           "tags": [format!("tags/{tag}")], "body": {"blocks": [paragraph]}})
}

async fn put(raw: &Raw, article: Value) -> Value {
    raw.call("PutArticle", json!({"article": article})).await.unwrap()
}

/// Returns the names of the articles of a list that is complete, sorted.
async fn list_tag(raw: &Raw, tag: &str) -> Vec<String> {
    let filter = json!({"all_tags": [format!("tags/{tag}")]});
    let page = raw.call("ListArticles", json!({"filter": filter})).await.unwrap();
    assert_eq!(page["damage"], Value::Null, "{tag}");
    let mut names: Vec<String> = page["articles"]
        .as_array()
        .map(|articles| articles.iter().map(|article| article["name"].as_str().unwrap().to_owned()).collect())
        .unwrap_or_default();
    names.sort_unstable();
    names
}

async fn create_store() -> (tempfile::TempDir, Vec<&'static str>) {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let raw = Raw::to(&node).await;
    let ids = vec!["a", "b", "c", "d", "e", "f"];
    for id in &ids {
        put(&raw, article(id, "Old", "sea")).await;
    }
    node.stop().await;
    (dir, ids)
}

fn verify_output(dir: &Path) -> String {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_cable"))
        .args(["verify", "--data"])
        .arg(dir)
        .output()
        .unwrap();
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test]
async fn a_damaged_record_can_be_put_removed_and_killed() {
    for part in PARTS {
        let (dir, _) = create_store().await;
        for id in ["a", "b", "c", "d"] {
            damage(dir.path(), (1, 1, id), part);
        }
        let node = Node::start(dir.path()).await;
        let raw = Raw::to(&node).await;
        let put = put(&raw, article("a", "New", "land")).await;
        assert_eq!(put["article"]["headline"].as_str().unwrap_or("New"), "New", "{part:?}");
        for (id, reason) in [("b", "WITHDRAWN"), ("c", "KILLED")] {
            let remove =
                json!({"name": format!("articles/{id}"), "reason": format!("REMOVAL_REASON_{reason}")});
            raw.call("RemoveArticle", remove).await.unwrap();
        }
        let changes = json!([{"put_article": article("d", "New", "land")}, {"put_article": article("g", "New", "sea")}]);
        raw.call("Commit", json!({"changes": changes})).await.unwrap();
        for (id, headline) in [("a", "New"), ("d", "New"), ("e", "Old"), ("g", "New")] {
            let got = raw.call("GetArticle", json!({"name": format!("articles/{id}")})).await.unwrap();
            assert_eq!(got["article"]["headline"], headline, "{part:?} {id}");
        }
        let gone = raw.call("GetArticle", json!({"name": "articles/c"})).await.unwrap_err();
        assert_eq!((&*gone.reason, &*gone.metadata["reason"]), ("ARTICLE_GONE", "KILLED"), "{part:?}");
        assert_eq!(list_tag(&raw, "sea").await, ["articles/e", "articles/f", "articles/g"], "{part:?}");
        assert_eq!(list_tag(&raw, "land").await, ["articles/a", "articles/d"], "{part:?}");
        node.stop().await;
        let found = verify_output(dir.path());
        match part {
            // The digests of unreadable records are lost.
            Part::Both => assert!(!found.contains("list") && !found.contains("articles/"), "{found}"),
            Part::Entry | Part::Columns => assert!(found.contains("verified"), "{part:?}: {found}"),
        }
    }
}

#[tokio::test]
async fn a_damaged_record_cannot_be_patched_and_the_error_states_why() {
    let (dir, _) = create_store().await;
    damage(dir.path(), (1, 1, "a"), Part::Entry);
    let node = Node::start(dir.path()).await;
    let raw = Raw::to(&node).await;
    let patch = json!({"article": {"name": "articles/a", "dek": "D"}});
    let refused = raw.call("PatchArticle", patch).await.unwrap_err();
    assert_eq!((refused.code, &*refused.reason), (Code::DataLoss, "RECORD_CORRUPT"));
    node.stop().await;
}

#[tokio::test]
async fn a_damaged_tombstone_preserves_a_kill_and_can_be_replaced() {
    let (dir, _) = create_store().await;
    let node = Node::start(dir.path()).await;
    let raw = Raw::to(&node).await;
    for (id, reason) in [("a", "KILLED"), ("b", "WITHDRAWN")] {
        let remove = json!({"name": format!("articles/{id}"), "reason": format!("REMOVAL_REASON_{reason}")});
        raw.call("RemoveArticle", remove).await.unwrap();
    }
    node.stop().await;
    for id in ["a", "b"] {
        damage(dir.path(), (1, 1, id), Part::Entry);
    }
    let node = Node::start(dir.path()).await;
    let raw = Raw::to(&node).await;
    put(&raw, article("b", "New", "sea")).await;
    let refused = raw.call("PutArticle", json!({"article": article("a", "New", "sea")})).await.unwrap_err();
    assert_eq!(refused.reason, "NAME_KILLED");
    raw.call("PutArticle", json!({"article": article("a", "New", "sea"), "allow_killed": true}))
        .await
        .unwrap();
    node.stop().await;
    assert!(verify_output(dir.path()).contains("verified"));
}

#[tokio::test]
async fn a_record_that_mentions_a_damaged_one_is_imported() {
    let (dir, _) = create_store().await;
    damage(dir.path(), (1, 1, "a"), Part::Entry);
    let node = Node::start(dir.path()).await;
    let raw = Raw::to(&node).await;
    let records = json!([{"article": article("a", "New", "sea")}, {"article": article("h", "New", "sea")}]);
    let ack = raw.call("Import", json!({"records": records})).await.unwrap();
    for result in ack["results"].as_array().unwrap() {
        assert_eq!(result["outcome"], "IMPORT_OUTCOME_WRITTEN", "{result}");
    }
    node.stop().await;
}

#[tokio::test]
async fn responses_name_damaged_records_and_continue() {
    let (dir, _) = create_store().await;
    let node = Node::start(dir.path()).await;
    let raw = Raw::to(&node).await;
    let credits = json!([{"author": "authors/x"}, {"author": "authors/y"}]);
    let mut named = article("g", "New", "sky");
    named["byline"] = json!({"credits": credits});
    put(&raw, named).await;
    for id in ["x", "y"] {
        let author = json!({"name": format!("authors/{id}"), "display_name": "X"});
        raw.call("PutAuthor", json!({"author": author})).await.unwrap();
    }
    let front =
        json!({"name": "collections/front", "title": "Front", "articles": ["articles/a", "articles/b"]});
    raw.call("PutCollection", json!({"collection": front})).await.unwrap();
    node.stop().await;
    damage(dir.path(), (1, 1, "a"), Part::Entry);
    damage(dir.path(), (2, 1, "x"), Part::Entry);

    let node = Node::start(dir.path()).await;
    let raw = Raw::to(&node).await;
    let one = |name: &str| json!({"count": 1, "names": [name]});
    let page = raw.call("ListArticles", json!({})).await.unwrap();
    assert_eq!((page["articles"].as_array().unwrap().len(), &page["damage"]), (6, &one("articles/a")));
    let page = raw.call("ListArticles", json!({"order": "ARTICLE_ORDER_REVISION_DESC"})).await.unwrap();
    assert_eq!(page["damage"], one("articles/a"));
    let stream = raw.send("StreamArticles", request_bytes("StreamArticles", json!({}))).await.unwrap();
    let end = &stream.last().unwrap()["end"];
    assert_eq!((&end["count"], &end["damage"]), (&json!(6), &one("articles/a")));
    let authors = raw.call("ListAuthors", json!({})).await.unwrap();
    assert_eq!((authors["authors"].as_array().unwrap().len(), &authors["damage"]), (1, &one("authors/x")));
    let got =
        raw.call("GetArticle", json!({"name": "articles/g", "includes": ["INCLUDE_AUTHORS"]})).await.unwrap();
    assert_eq!(got["includes"]["damaged"], json!(["authors/x"]));
    assert_eq!(got["includes"]["missing"], Value::Null);
    let front = raw.call("GetCollection", json!({"name": "collections/front"})).await.unwrap();
    assert_eq!(
        (front["articles"].as_array().unwrap().len(), &front["includes"]["damaged"]),
        (1, &json!(["articles/a"]))
    );
    let mut feed = raw.stream("Watch", request_bytes("Watch", json!({"snapshot": true}))).await.unwrap();
    let end = loop {
        let message = decode("WatchResponse", feed.message().await.unwrap().unwrap());
        if message["snapshot_end"] != Value::Null {
            break message["snapshot_end"].clone();
        }
    };
    assert_eq!((&end["count"], &end["damage"]["count"]), (&json!(8), &json!(2)));
    let mut records = node.client().export().records();
    let (mut read, mut failed) = (0, None);
    while let Some(record) = records.next().await {
        match record {
            Ok(_) => read += 1,
            Err(error) => failed = Some((error.kind(), error.reason())),
        }
    }
    assert_eq!((read, failed), (8, Some((ErrorKind::DataLoss, Some(ErrorReason::RecordCorrupt)))));
    let damage = records.end().unwrap().damage.clone().unwrap();
    assert_eq!((damage.count, damage.names), (2, vec!["articles/a".to_owned(), "authors/x".to_owned()]));
    node.stop().await;
}

/// Returns the changes after a position, up to the next checkpoint.
async fn changes_after(raw: &Raw, position: &Value, filter: Value) -> Vec<Value> {
    let request = json!({"after": position, "filter": filter});
    let mut feed = raw.stream("Watch", request_bytes("Watch", request)).await.unwrap();
    let mut all = Vec::new();
    loop {
        let message = decode("WatchResponse", feed.message().await.unwrap().unwrap());
        all.extend(message["changes"]["changes"].as_array().into_iter().flatten().cloned());
        if message["checkpoint"] != Value::Null {
            return all;
        }
    }
}

/// The articles: `a` is put again, `b` leaves the tag, `c` is removed, and `d` is of another tag.
#[tokio::test]
async fn a_resumed_feed_names_the_records_it_cannot_read() {
    for part in PARTS {
        let (dir, _) = create_store().await;
        let node = Node::start(dir.path()).await;
        let raw = Raw::to(&node).await;
        let from = raw.call("GetStatus", json!({})).await.unwrap()["head"].clone();
        put(&raw, article("a", "New", "sea")).await;
        put(&raw, article("b", "New", "ice")).await;
        raw.call("RemoveArticle", json!({"name": "articles/c", "reason": "REMOVAL_REASON_WITHDRAWN"}))
            .await
            .unwrap();
        put(&raw, article("d", "New", "sky")).await;
        put(&raw, article("d", "Newer", "sky")).await;
        put(&raw, article("e", "New", "sea")).await;
        node.stop().await;
        for id in ["a", "b", "c", "d"] {
            damage(dir.path(), (1, 1, id), part);
        }

        let node = Node::start(dir.path()).await;
        let raw = Raw::to(&node).await;
        let changes = changes_after(&raw, &from, json!({"any_tags": ["tags/sea"]})).await;
        let find = |name: &str| {
            let of = |change: &&Value| {
                change["unreadable"] == name
                    || change["left"] == name
                    || change["removed"]["name"] == name
                    || change["upsert"]["article"]["name"] == name
            };
            changes.iter().rfind(of).cloned().unwrap_or_default()
        };
        assert_eq!(find("articles/e")["upsert"]["article"]["headline"], "New", "{part:?}");
        let [a, b, c, d] = ["a", "b", "c", "d"].map(|id| find(&format!("articles/{id}")));
        let is_unreadable = |change: &Value| change["unreadable"] != Value::Null;
        match part {
            Part::Entry => {
                assert!(is_unreadable(&a), "{a}");
                assert_eq!(
                    (&b["left"], &c["removed"]["reason"]),
                    (&json!("articles/b"), &json!("REMOVAL_REASON_WITHDRAWN"))
                );
                assert_eq!(d["left"], "articles/d");
            }
            Part::Columns => {
                assert_eq!(a["upsert"]["article"]["headline"], "New");
                assert_eq!((&b["left"], &d["left"]), (&json!("articles/b"), &json!("articles/d")));
                assert_eq!(c["removed"]["reason"], "REMOVAL_REASON_WITHDRAWN");
            }
            Part::Both => assert!([&a, &b, &c, &d].into_iter().all(is_unreadable), "{a} {b} {c} {d}"),
        }
        let all = changes_after(&raw, &from, json!({})).await;
        let unreadable = all.iter().filter(|change| is_unreadable(change)).count();
        // The columns state that an entry is a removal.
        let expected = match part {
            Part::Entry => 3,
            Part::Columns => 0,
            Part::Both => 4,
        };
        assert_eq!(unreadable, expected, "{part:?}");
        node.stop().await;
    }
}

/// A follower must not learn that a pending version exists, not even by its damage.
#[tokio::test]
async fn a_damaged_pending_version_is_not_delivered() {
    for part in PARTS {
        let (dir, _) = create_store().await;
        let node = Node::start(dir.path()).await;
        let raw = Raw::to(&node).await;
        let from = raw.call("GetStatus", json!({})).await.unwrap()["head"].clone();
        let mut pending = article("secret", "Pending", "sea");
        pending["publish_time"] = json!("2040-01-01T00:00:00Z");
        put(&raw, pending).await;
        put(&raw, article("a", "New", "sea")).await;
        node.stop().await;
        damage(dir.path(), (1, 2, "secret"), part);

        let node = Node::start(dir.path()).await;
        let raw = Raw::to(&node).await;
        for filter in [json!({}), json!({"any_tags": ["tags/sea"]}), json!({"any_tags": ["tags/other"]})] {
            let changes = changes_after(&raw, &from, filter).await;
            assert!(!json!(changes).to_string().contains("secret"), "{part:?}: {changes:?}");
        }
        node.stop().await;
    }
}

/// Hides the last row of an index or a table: flips one bit in the row count of its first leaf page.
fn hide_last_row(dir: &Path, table: &str) {
    let path = dir.join("cable.db");
    let connection = Connection::open(&path).unwrap();
    let sql = "SELECT rootpage FROM sqlite_schema WHERE name = ?1";
    let root: u32 = connection.query_row(sql, [table], |row| row.get(0)).unwrap();
    drop(connection);
    let mut bytes = std::fs::read(&path).unwrap();
    let page = (root as usize - 1) * 8_192;
    assert!(matches!(bytes[page], 10 | 13) && bytes[page + 4] % 2 == 1, "an odd number of rows in one leaf");
    bytes[page + 4] ^= 1;
    std::fs::write(&path, bytes).unwrap();
}

/// Returns a store with an odd number of small tags.
async fn create_tag_store() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let raw = Raw::to(&node).await;
    for id in ["a", "b", "c", "d", "e"] {
        let tag = json!({"name": format!("tags/{id}"), "display_name": "T"});
        raw.call("PutTag", json!({"tag": tag})).await.unwrap();
    }
    node.stop().await;
    dir
}

#[tokio::test]
async fn a_name_lost_by_an_index_is_not_reported_as_absent() {
    for index in ["doc_key", "doc_id"] {
        let dir = create_tag_store().await;
        hide_last_row(dir.path(), index);
        let node = Node::start(dir.path()).await;
        let raw = Raw::to(&node).await;
        let put = json!({"tag": {"name": "tags/e", "display_name": "Other"}});
        if index == "doc_key" {
            let refused = raw.call("GetTag", json!({"name": "tags/e"})).await.unwrap_err();
            assert_eq!((refused.code, &*refused.reason), (Code::DataLoss, "STORE_DAMAGED"), "{index}");
        }
        for (method, request) in
            [("PutTag", put), ("RemoveTag", json!({"name": "tags/a", "reason": "REMOVAL_REASON_DELETED"}))]
        {
            let refused = raw.call(method, request).await.unwrap_err();
            assert_eq!(
                (refused.code, &*refused.reason),
                (Code::DataLoss, "STORE_DAMAGED"),
                "{index} {method}"
            );
        }
        let tag = raw.call("GetTag", json!({"name": "tags/a"})).await.unwrap();
        assert_eq!(tag["tag"]["display_name"], "T");
        node.stop().await;
    }
}

#[tokio::test]
async fn an_export_with_a_missing_row_fails_at_its_end() {
    let dir = create_tag_store().await;
    hide_last_row(dir.path(), "doc");
    let node = Node::start(dir.path()).await;
    let mut records = node.client().export().records();
    let (mut read, mut failed) = (0, None);
    while let Some(record) = records.next().await {
        match record {
            Ok(_) => read += 1,
            Err(error) => failed = Some((error.kind(), error.reason())),
        }
    }
    assert_eq!((read, failed), (4, Some((ErrorKind::DataLoss, Some(ErrorReason::StoreDamaged)))));
    node.stop().await;
}
