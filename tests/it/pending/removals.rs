//! Removals of articles with pending versions, and expiry: neither reveals a version that readers have not seen.

use serde_json::json;
use tonic::Code;

use super::{TestNode, article, at, reason};

#[tokio::test]
async fn a_removal_cancels_and_never_reveals_a_pending_version() {
    let node = TestNode::open().await;
    for reason in ["DELETED", "WITHDRAWN"] {
        let start = node.head().await;
        node.put(article("a", "Live", json!({}))).await;
        node.put(article("a", "Waiting", json!({"publish_time": at(60)}))).await;
        let removed = node.remove("a", reason).await.unwrap();
        assert_eq!((&removed["revision"], node.head().await), (&json!(start + 4), start + 4));
        assert_eq!(self::reason(node.pending("a").await), "ARTICLE_NOT_FOUND");
        assert_eq!(self::reason(node.get("a").await), "ARTICLE_GONE");
    }
    // The response does not reveal whether a version is pending.
    node.put(article("b", "Waiting", json!({"publish_time": at(60)}))).await;
    let absent = json!({"must_be_absent": true});
    for precondition in [json!(null), absent, json!({"etag": "00000000-1"})] {
        let mut responses = Vec::new();
        for id in ["b", "c"] {
            let name = format!("articles/{id}");
            let mut request = json!({"name": name, "reason": "REMOVAL_REASON_DELETED"});
            if !precondition.is_null() {
                request["precondition"] = precondition.clone();
            }
            responses.push(node.refused("RemoveArticle", request).await);
        }
        assert_eq!(responses[0], responses[1]);
    }
    assert_eq!(self::reason(node.remove("a", "DELETED").await), "ARTICLE_GONE");
    node.put(article("a", "Waiting", json!({"publish_time": at(60)}))).await;
    assert_eq!(self::reason(node.remove("a", "DELETED").await), "ARTICLE_GONE");
    assert_eq!(node.pending("a").await.unwrap()["article"]["headline"], "Waiting");
    node.close().await;
}

#[tokio::test]
async fn a_kill_erases_pending_versions_and_blocks_the_name() {
    let node = TestNode::open().await;
    let now = |id| article(id, "Now", json!({}));
    let later = |id| article(id, "Later", json!({"publish_time": at(60)}));
    assert_eq!(reason(node.remove("never", "KILLED").await), "ARTICLE_NOT_FOUND");
    // Only pending: readers continue to see that there was never anything.
    node.put(later("waiting")).await;
    let killed = node.remove("waiting", "KILLED").await.unwrap();
    assert_eq!((&killed["changed"], &killed["revision"]), (&json!(true), &json!(2)));
    assert_eq!(reason(node.get("waiting").await), "ARTICLE_NOT_FOUND");
    assert_eq!(reason(node.pending("waiting").await), "ARTICLE_NOT_FOUND");
    // Live, with a pending version.
    node.put(now("live")).await;
    node.put(later("live")).await;
    node.remove("live", "KILLED").await.unwrap();
    assert_eq!(reason(node.pending("live").await), "ARTICLE_NOT_FOUND");
    assert_eq!(node.get("live").await.unwrap_err().metadata["reason"], "KILLED");
    // Removed for another reason.
    node.put(now("gone")).await;
    node.remove("gone", "DELETED").await.unwrap();
    node.put(later("gone")).await;
    node.remove("gone", "KILLED").await.unwrap();
    assert_eq!(reason(node.pending("gone").await), "ARTICLE_NOT_FOUND");
    assert_eq!(node.get("gone").await.unwrap_err().metadata["reason"], "KILLED");

    let head = node.head().await;
    for id in ["waiting", "live", "gone"] {
        assert_eq!(
            node.remove(id, "KILLED").await.unwrap()["changed"],
            json!(null),
            "{id} is killed already"
        );
        for article in [now(id), later(id)] {
            let refused = node.refused("PutArticle", json!({"article": article})).await;
            assert_eq!((refused.code, &*refused.reason), (Code::FailedPrecondition, "NAME_KILLED"), "{id}");
            assert_eq!(refused.metadata["remove_time"], at(0));
            let commit = json!({"changes": [{"put_article": article}]});
            assert_eq!(node.refused("Commit", commit).await.reason, "NAME_KILLED");
            let import = json!({"records": [{"article": article}]});
            assert_eq!(
                node.call("Import", import.clone()).await["results"][0]["keep_reason"],
                "KEEP_REASON_REMOVED"
            );
            let mut insisting = import;
            insisting["mode"] = json!("IMPORT_MODE_OVERWRITE");
            let report = node.call("Import", insisting).await;
            assert_eq!(report["results"][0]["error"]["reason"], "ERROR_REASON_NAME_KILLED");
        }
        let tombstone = json!({"name": format!("articles/{id}"), "reason": "REMOVAL_REASON_DELETED"});
        let report = node.call("Import", json!({"records": [{"tombstone": tombstone}]})).await;
        assert_eq!(report["results"][0]["outcome"], "IMPORT_OUTCOME_UNCHANGED", "a kill stays one");
    }
    assert_eq!(node.head().await, head);
    node.call("PutArticle", json!({"article": now("live"), "allow_killed": true})).await;
    node.call("Commit", json!({"changes": [{"put_article": later("gone"), "allow_killed": true}]})).await;
    node.call("PutArticle", json!({"article": now("waiting"), "allow_killed": true})).await;
    for id in ["live", "waiting"] {
        assert_eq!(node.get(id).await.unwrap()["headline"], "Now");
        node.put(later(id)).await;
    }
    assert_eq!(node.get("gone").await.unwrap_err().metadata["reason"], "KILLED");
    assert_eq!(node.pending("gone").await.unwrap()["article"]["headline"], "Later");
    node.remove("gone", "KILLED").await.unwrap();
    assert_eq!(reason(node.pending("gone").await), "ARTICLE_NOT_FOUND");

    let author = json!({"author": {"name": "authors/ann", "display_name": "Ann"}});
    node.call("PutAuthor", author.clone()).await;
    let kill = json!({"name": "authors/ann", "reason": "REMOVAL_REASON_KILLED"});
    node.call("RemoveAuthor", kill).await;
    assert_eq!(node.refused("PutAuthor", author).await.reason, "NAME_KILLED");
    node.close().await;
}

#[tokio::test]
async fn an_expired_article_is_removed_and_exported_as_removed() {
    let node = TestNode::open().await;
    node.put(article("a", "A", json!({"expire_time": at(30), "path": "/a"}))).await;
    node.put(article("b", "B", json!({"publish_time": at(10), "expire_time": at(20)}))).await;
    node.put(article("c", "C", json!({"expire_time": at(15)}))).await;
    node.put(article("c", "C", json!({}))).await;
    node.advance_to(10, 6).await;
    node.advance_to(20, 7).await;
    let gone = node.get("b").await.unwrap_err();
    assert_eq!((&*gone.reason, &*gone.metadata["reason"]), ("ARTICLE_GONE", "EXPIRED"));
    assert_eq!(gone.metadata["remove_time"], at(20));
    // A version that is due after the end becomes visible.
    node.put(article("a", "Again", json!({"publish_time": at(40)}))).await;
    node.advance_to(30, 9).await;
    assert_eq!(node.refused("ResolvePath", json!({"path": "/a"})).await.reason, "ARTICLE_GONE");
    assert_eq!(node.get("c").await.unwrap()["headline"], "C", "the later put has no expire_time");
    let exported = node.call("Export", json!({})).await;
    assert_eq!(exported["end"]["count"], json!(3), "{exported}");
    let records = node.raw.send("Export", bytes::Bytes::new()).await.unwrap()[0]["records"].clone();
    node.advance_to(40, 11).await;
    assert_eq!(node.get("a").await.unwrap()["headline"], "Again");
    assert_eq!(node.get("a").await.unwrap()["first_publish_time"], at(0));

    let other = TestNode::open().await;
    let report = other.call("Import", json!({"records": records})).await;
    let outcomes = report["results"].as_array().unwrap().iter().map(|result| &result["outcome"]);
    assert!(outcomes.into_iter().all(|outcome| outcome == "IMPORT_OUTCOME_WRITTEN"), "{report}");
    assert_eq!(other.get("b").await.unwrap_err().metadata["reason"], "EXPIRED");
    other.close().await;
    node.close().await;
}

#[tokio::test]
async fn removals_of_every_kind_may_use_the_disk_reserve() {
    let node = TestNode::open().await;
    for id in ["a", "b", "c"] {
        node.put(article(id, "A", json!({}))).await;
    }
    node.put(article("due", "Due", json!({"publish_time": at(10)}))).await;
    node.put(article("later", "Later", json!({"publish_time": at(90)}))).await;
    node.put(article("end", "End", json!({"expire_time": at(20)}))).await;
    node.call("PutTag", json!({"tag": {"name": "tags/t", "display_name": "T"}})).await;
    let node = node.restart(5, |config| config.store.reserve_bytes = u64::MAX).await;

    let put = json!({"article": article("a", "B", json!({}))});
    let patch = json!({"article": article("a", "B", json!({})), "update_mask": "headline"});
    let remove = json!({"remove": {"name": "articles/a", "reason": "REMOVAL_REASON_DELETED"}});
    let mixed = json!({"changes": [remove, {"put_tag": {"name": "tags/u", "display_name": "U"}}]});
    for (method, request) in [("PutArticle", put), ("PatchArticle", patch), ("Commit", mixed)] {
        assert_eq!(node.refused(method, request).await.reason, "STORE_FULL", "{method}");
    }
    assert_eq!(node.head().await, 7);
    node.remove("a", "WITHDRAWN").await.unwrap();
    node.remove("b", "KILLED").await.unwrap();
    node.call("RemovePending", json!({"name": "articles/later"})).await;
    node.call("RemoveTag", json!({"name": "tags/t", "reason": "REMOVAL_REASON_DELETED"})).await;
    let removal = json!({"changes": [{"remove": {"name": "articles/a", "reason": "REMOVAL_REASON_KILLED"}}]});
    node.call("Commit", removal).await;
    let tombstone = json!({"tombstone": {"name": "articles/c", "reason": "REMOVAL_REASON_DELETED"}});
    let imported = node.call("Import", json!({"records": [tombstone], "mode": 1})).await;
    assert_eq!(imported["results"][0]["outcome"], "IMPORT_OUTCOME_WRITTEN", "{imported}");
    assert_eq!(node.head().await, 13);
    // A version that is due first and exceeds a limit does not delay an expiry.
    node.advance_to(60, 14).await;
    assert_eq!((reason(node.get("end").await), reason(node.get("due").await)), {
        ("ARTICLE_GONE".to_owned(), "ARTICLE_NOT_FOUND".to_owned())
    });
    let node = node.restart(60, |_| {}).await;
    node.wait_for_revision(16).await;
    node.close().await;
}
