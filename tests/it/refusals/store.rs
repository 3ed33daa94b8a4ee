//! Errors of every service while the store is full or damaged.

use serde_json::json;
use tonic::Code;

use crate::{raw::Raw, support::Node};

#[tokio::test]
async fn a_full_disk_refuses_writes_and_serves_reads() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let tag = json!({"tag": {"name": "tags/a", "display_name": "A"}});
    Raw::to(&node).await.call("PutTag", tag).await.unwrap();
    node.stop().await;

    let node = Node::start_with(dir.path(), |config| config.store.reserve_bytes = u64::MAX).await;
    let raw = Raw::to(&node).await;
    let tag = json!({"tag": {"name": "tags/b", "display_name": "B"}});
    let records = json!({"records": [tag]});
    let commit = json!({"changes": [{"put_tag": tag["tag"]}]});
    for (method, request) in [("PutTag", tag), ("Commit", commit), ("Import", records)] {
        let refused = raw.call(method, request).await.unwrap_err();
        let wanted = (Code::ResourceExhausted, "STORE_FULL", true);
        assert_eq!((refused.code, &*refused.reason, refused.retry), wanted, "{method}");
    }
    raw.call("GetTag", json!({"name": "tags/a"})).await.unwrap();
    assert_eq!(raw.call("GetTag", json!({"name": "tags/b"})).await.unwrap_err().reason, "NAME_NOT_FOUND");
    node.stop().await;
}

#[tokio::test]
async fn a_damaged_record_is_reported_and_not_served() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let raw = Raw::to(&node).await;
    for id in ["a", "b"] {
        let article = json!({"name": format!("articles/{id}"), "headline": "H", "path": format!("/{id}")});
        raw.call("PutArticle", json!({"article": article})).await.unwrap();
    }
    node.stop().await;
    damage(dir.path(), "a");

    let node = Node::start(dir.path()).await;
    let raw = Raw::to(&node).await;
    for (method, request) in [
        ("GetArticle", json!({"name": "articles/a"})),
        ("ResolvePath", json!({"path": "/a"})),
        ("PatchArticle", json!({"article": {"name": "articles/a", "dek": "D"}})),
    ] {
        let refused = raw.call(method, request).await.unwrap_err();
        assert_eq!((refused.code, &*refused.reason), (Code::DataLoss, "RECORD_CORRUPT"), "{method}");
    }
    let batch = raw.call("BatchGetArticles", json!({"names": ["articles/a", "articles/b"]})).await.unwrap();
    assert_eq!(batch["items"][0]["error"]["reason"], "ERROR_REASON_RECORD_CORRUPT");
    assert_eq!(batch["items"][1]["article"]["headline"], "H");
    // One damaged record does not empty a page, but an incomplete export fails.
    let page = raw.call("ListArticles", json!({})).await.unwrap();
    assert_eq!(page["articles"].as_array().unwrap().len(), 1);
    let refused = raw.call("Export", json!({})).await.unwrap_err();
    assert_eq!((refused.code, &*refused.reason), (Code::DataLoss, "RECORD_CORRUPT"));
    node.stop().await;
}

/// Changes the last byte of the record stored under a name.
fn damage(dir: &std::path::Path, id: &str) {
    let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let open = |path| rusqlite::Connection::open(path).unwrap();
    let is_store = |path: &std::path::PathBuf| {
        std::fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"SQLite format 3"))
    };
    let connection = files.filter(is_store).map(open).next().unwrap();
    let mut entry: Vec<u8> =
        connection.query_row("SELECT entry FROM doc WHERE id = ?1", [id], |row| row.get(0)).unwrap();
    *entry.last_mut().unwrap() ^= 1;
    connection.execute("UPDATE doc SET entry = ?1 WHERE id = ?2", rusqlite::params![entry, id]).unwrap();
}
