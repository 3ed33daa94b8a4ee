//! The path of an article while a version is pending and when it becomes visible.

use serde_json::{Value, json};

use super::{TestNode, article, at};
use crate::raw::{decode, request_bytes};

#[tokio::test]
async fn a_due_article_takes_its_path_from_a_live_one() {
    let node = TestNode::open().await;
    let old = node.put(article("a", "A", json!({"path": "/x"}))).await;
    let later =
        |id: &str, seconds| article(id, "Later", json!({"path": "/%78", "publish_time": at(seconds)}));
    for (id, seconds) in [("b", 60), ("c", 60), ("d", 70)] {
        assert_eq!(node.put(later(id, seconds)).await["pending"], json!(true));
        assert_eq!(node.pending(id).await.unwrap()["path_owner"], "articles/a");
    }
    let listed = node.call("ListPending", json!({})).await["pending"].clone();
    assert!(listed.as_array().unwrap().iter().all(|one| one["path_owner"] == "articles/a"), "{listed}");
    // Until then the path is the live article's, and a pending version has none.
    let put = |id: &str| json!({"article": article(id, "Now", json!({"path": "/x"})), "request_id": format!("put-{id}")});
    let refused = node.refused("PutArticle", put("e")).await;
    assert_eq!((&*refused.reason, &*refused.metadata["owner"]), ("PATH_TAKEN", "articles/a"));
    assert_eq!(node.call("ResolvePath", json!({"path": "/x"})).await["article"]["name"], "articles/a");

    // One after the other takes the path; each loss is an entry of the loser.
    node.advance_to(60, 4 + 3 + 3).await;
    let resolved = node.call("ResolvePath", json!({"path": "/x"})).await;
    assert_eq!(
        (&resolved["article"]["name"], &resolved["redirect_path"]),
        (&json!("articles/c"), &json!(null))
    );
    let lost = node.get("a").await.unwrap();
    assert_eq!((&lost["path"], &lost["revision"], &lost["headline"]), (&json!(null), &json!(5), &json!("A")));
    assert_ne!(lost["etag"], old["etag"]);
    let watch = request_bytes("Watch", json!({"after": {"revision": 4}, "view": "ARTICLE_VIEW_FULL"}));
    let message = node.raw.stream("Watch", watch).await.unwrap().message().await.unwrap().unwrap();
    let change = decode("WatchResponse", message)["changes"]["changes"][0].clone();
    assert_eq!(
        (&change["upsert"]["article"]["name"], &change["former_paths"]),
        (&json!("articles/a"), &json!(["/x"]))
    );
    assert_eq!(change["update_kind"], "UPDATE_KIND_REPUBLISH");

    // Its publisher does not see that, but the others do.
    let written = node.call("PutArticle", put("a")).await["result"].clone();
    assert_eq!((&written["changed"], &written["path_owner"]), (&json!(true), &json!("articles/c")));
    assert_eq!(node.call("PutArticle", put("a")).await["result"], written, "a retry");
    let again = node.put(article("a", "Now", json!({"path": "/%78"}))).await;
    assert_eq!((&again["changed"], &again["path_owner"]), (&json!(null), &json!("articles/c")));
    let now = node.get("a").await.unwrap();
    assert_eq!((&now["path"], &now["headline"]), (&json!(null), &json!("Now")));
    assert_eq!(node.refused("PutArticle", put("e")).await.reason, "PATH_TAKEN");
    node.put(article("b", "B", json!({"path": "/y"}))).await;
    assert_eq!(
        node.refused("PutArticle", put("b")).await.reason,
        "PATH_TAKEN",
        "its current path is another one"
    );

    let head = node.head().await;
    node.advance_to(70, head + 3).await;
    assert_eq!(node.call("ResolvePath", json!({"path": "/x"})).await["article"]["name"], "articles/d");
    // The path is free: it leads to the last article that had it, and any article may take it.
    node.remove("d", "DELETED").await.unwrap();
    let former = node.call("ResolvePath", json!({"path": "/x"})).await;
    assert_eq!((&former["article"]["name"], &former["redirect_path"]), (&json!("articles/c"), &json!(null)));
    let back = node.put(article("a", "Back", json!({"path": "/x"}))).await;
    assert_eq!(back["path_owner"], json!(null));
    assert_eq!(node.get("a").await.unwrap()["path"], "/x");
    node.close().await;
}

#[tokio::test]
async fn a_pending_version_neither_frees_nor_takes_a_path() {
    let node = TestNode::open().await;
    let later = |id, path| article(id, "Later", json!({"path": path, "publish_time": at(60)}));
    let commit =
        |first: Value, second: Value| json!({"changes": [{"put_article": first}, {"put_article": second}]});
    node.put(article("a", "A", json!({"path": "/a"}))).await;
    let gives = commit(later("a", "/z"), article("e", "Now", json!({"path": "/a"})));
    assert_eq!(node.refused("Commit", gives).await.reason, "PATH_TAKEN");
    node.call("Commit", commit(later("e", "/e"), article("f", "Now", json!({"path": "/e"})))).await;
    assert_eq!(node.call("ResolvePath", json!({"path": "/e"})).await["article"]["name"], "articles/f");
    node.advance_to(60, 3 + 3).await;
    assert_eq!(node.call("ResolvePath", json!({"path": "/e"})).await["article"]["name"], "articles/e");
    node.close().await;
}
