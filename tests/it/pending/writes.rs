//! Writes of pending versions: what a put, a patch or an import replaces, and how a retry repeats its result.

use serde_json::{Value, json};
use tonic::Code;

use super::{TestNode, article, at, reason};

#[tokio::test]
async fn an_immediate_put_cancels_a_version_that_was_only_pending() {
    let node = TestNode::open().await;
    node.put(article("a", "Later", json!({"publish_time": at(60)}))).await;
    node.set(5);
    let response = node.call("PutArticle", json!({"article": article("a", "Now", json!({}))})).await;
    assert_eq!((&response["result"]["revision"], &response["position"]["revision"]), (&json!(3), &json!(3)));
    assert_eq!(reason(node.pending("a").await), "ARTICLE_NOT_FOUND");
    assert_eq!(node.get("a").await.unwrap()["create_time"], at(5), "the cancelled version leaves no trace");
    node.set(60);
    node.call("PutTag", json!({"tag": {"name": "tags/t", "display_name": "T"}})).await;
    assert_eq!(node.head().await, 4);
    assert_eq!(node.get("a").await.unwrap()["headline"], "Now");
    node.close().await;
}

#[tokio::test]
async fn a_patch_of_the_live_version_may_become_the_pending_one() {
    let node = TestNode::open().await;
    node.put(article("a", "Old", json!({"dek": "Dek"}))).await;
    node.put(article("a", "Waiting", json!({"publish_time": at(90)}))).await;
    let patch = json!({"article": article("a", "Patched", json!({"publish_time": at(60)}))});
    let result = node.call("PatchArticle", patch).await["result"].clone();
    assert_eq!((&result["pending"], &result["due_time"]), (&json!(true), &json!(at(60))));
    assert_eq!(node.get("a").await.unwrap()["headline"], "Old");
    let pending = node.pending("a").await.unwrap()["article"].clone();
    assert_eq!((&pending["headline"], &pending["dek"]), (&json!("Patched"), &json!("Dek")));
    node.put(article("b", "Waiting", json!({"publish_time": at(90)}))).await;
    let patch = json!({"article": {"name": "articles/b", "dek": "D"}});
    assert_eq!(node.refused("PatchArticle", patch).await.reason, "ARTICLE_NOT_FOUND");
    node.close().await;
}

#[tokio::test]
async fn preconditions_apply_to_the_version_being_replaced() {
    let node = TestNode::open().await;
    let put = |article: Value, precondition: Value| json!({"article": article, "precondition": precondition});
    let absent = json!({"must_be_absent": true});
    let later = |headline: &str| article("a", headline, json!({"publish_time": at(60)}));
    let waiting = node.call("PutArticle", put(later("1"), absent.clone())).await["result"]["etag"].clone();
    for again in [later("2"), article("a", "2", json!({}))] {
        let refused = node.refused("PutArticle", put(again, absent.clone())).await;
        assert_eq!((&*refused.reason, &json!(refused.metadata["etag"])), ("NAME_EXISTS", &waiting));
    }
    // A put with immediate effect replaces the live version, and there is none.
    let now = || article("a", "Now", json!({}));
    let refused = node.refused("PutArticle", put(now(), json!({"etag": waiting}))).await;
    assert_eq!((&*refused.reason, refused.metadata.get("etag")), ("ETAG_MISMATCH", None));
    let replaced = node.call("PutArticle", put(later("2"), json!({"etag": waiting}))).await;
    let waiting = replaced["result"]["etag"].clone();

    let live = node.put(now()).await["etag"].clone();
    assert_eq!(reason(node.pending("a").await), "ARTICLE_NOT_FOUND");
    let refused = node.refused("PutArticle", put(later("3"), json!({"etag": waiting}))).await;
    assert_eq!(json!(refused.metadata["etag"]), live, "without a pending version the live one counts");
    let put_later = node.call("PutArticle", put(later("3"), json!({"etag": live}))).await;
    let waiting = put_later["result"]["etag"].clone();
    let patch = json!({"article": later("4"), "precondition": {"etag": live}});
    assert_eq!(json!(node.refused("PatchArticle", patch).await.metadata["etag"]), waiting);

    let remove = |etag: &Value| json!({"name": "articles/a", "precondition": {"etag": etag}});
    let refused = node.refused("RemovePending", remove(&live)).await;
    assert_eq!((refused.code, json!(refused.metadata["etag"])), (Code::Aborted, waiting.clone()));
    let removed = node.call("RemovePending", remove(&waiting)).await["result"].clone();
    assert_eq!((&removed["changed"], &removed["etag"]), (&json!(true), &json!(null)));
    assert_eq!((&removed["pending"], node.get("a").await.unwrap()["etag"].clone()), (&json!(null), live));
    let refused = node.refused("RemovePending", json!({"name": "articles/a"})).await;
    assert_eq!((refused.code, &*refused.reason), (Code::NotFound, "ARTICLE_NOT_FOUND"));
    node.close().await;
}

#[tokio::test]
async fn an_imported_article_that_is_not_due_stays_pending() {
    let node = TestNode::open().await;
    let times = json!({"publish_time": at(60), "create_time": at(-500), "state": "ARTICLE_STATE_LIVE"});
    let report = node.call("Import", json!({"records": [{"article": article("a", "A", times)}]})).await;
    assert_eq!(report["results"][0]["outcome"], "IMPORT_OUTCOME_WRITTEN");
    assert_eq!(reason(node.get("a").await), "ARTICLE_NOT_FOUND");
    assert_eq!(node.pending("a").await.unwrap()["due_time"], at(60));
    node.advance_to(60, 3).await;
    assert_eq!(node.get("a").await.unwrap()["create_time"], at(-500));
    let backfill = |article| json!({"article": article, "update_kind": "UPDATE_KIND_BACKFILL"});
    node.put(article("b", "B", json!({"publish_time": at(90)}))).await;
    let refused = node.refused("PutArticle", backfill(article("b", "B", json!({})))).await;
    assert_eq!((&*refused.reason, &*refused.field), ("FIELD_INVALID", "update_kind"));
    node.close().await;
}

#[tokio::test]
async fn a_repeated_pending_write_returns_its_first_result() {
    let node = TestNode::open().await;
    let later = |seconds| article("a", "Later", json!({"publish_time": at(seconds)}));
    let put = json!({"article": later(60), "request_id": "one"});
    let first = node.call("PutArticle", put.clone()).await["result"].clone();
    let commit = json!({"changes": [
        {"put_article": article("b", "Now", json!({}))},
        {"put_article": later(60)},
        {"put_article": article("c", "Held", json!({"embargo": {}}))},
    ], "request_id": "two"});
    let second = node.call("Commit", commit.clone()).await["results"].clone();
    assert_eq!((&second[1]["changed"], &second[1]["pending"]), (&json!(null), &json!(true)));
    assert_eq!((&second[2]["changed"], &second[2]["pending"]), (&json!(true), &json!(true)));
    let remove = json!({"name": "articles/c", "request_id": "three"});
    let third = node.call("RemovePending", remove.clone()).await["result"].clone();
    node.advance_to(60, 6).await;
    assert_eq!(node.call("PutArticle", put).await["result"], first);
    assert_eq!(node.call("Commit", commit).await["results"], second);
    assert_eq!(node.call("RemovePending", remove).await["result"], third);
    assert_eq!(node.head().await, 6);
    node.close().await;
}

/// The same bytes are rejected as a new request: by then they break a rule of time or content.
#[tokio::test]
async fn a_retry_repeats_the_outcome_despite_later_changes() {
    let node = TestNode::open().await;
    let ends = |id: &str| article(id, "Ends", json!({"expire_time": at(30), "path": format!("/{id}")}));
    node.put(article("there", "There", json!({}))).await;
    node.put(article("waits", "Waits", json!({"publish_time": at(20)}))).await;
    let absent = json!({"must_be_absent": true});
    let calls = [
        ("PutArticle", json!({"article": ends("a"), "precondition": absent})),
        ("PatchArticle", json!({"article": {"name": "articles/there", "expire_time": at(30)}})),
        (
            "Commit",
            json!({"changes": [{"put_article": ends("b")}, {"remove": {"name": "articles/a", "reason": 4}}]}),
        ),
        ("RemovePending", json!({"name": "articles/waits"})),
        ("RemoveArticle", json!({"name": "articles/there", "reason": 4})),
    ];
    let mut completed = Vec::new();
    for (n, (method, mut request)) in calls.into_iter().enumerate() {
        request["request_id"] = json!(format!("r{n}"));
        let response = node.call(method, request.clone()).await;
        completed.push((method, request, response));
    }
    let head = node.head().await;
    node.advance_to(60, head + 1).await;
    node.put(article("other", "Other", json!({"path": "/a"}))).await;
    let node = node.restart(61, |_| {}).await;
    for (method, mut request, response) in completed {
        let again = node.call(method, request.clone()).await;
        assert_eq!(
            (&again["result"], &again["results"]),
            (&response["result"], &response["results"]),
            "{method}"
        );
        request["request_id"] = json!("new");
        node.refused(method, request).await;
    }
    assert_eq!(node.head().await, head + 2);
    node.close().await;
}
