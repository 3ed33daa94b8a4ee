//! Reads of pending versions: single ones, pages, and the calls of the client library.

use cable_client::{Change, ErrorReason, RemovalReason, Timestamp, View, v1};
use futures_util::TryStreamExt as _;
use serde_json::{Value, json};

use super::{SECOND, START, TestNode, article, at};
use crate::support;

#[tokio::test]
async fn pending_versions_are_listed_by_due_time_in_bounded_pages() {
    let node = TestNode::open().await;
    let body = |text: &str| json!({"blocks": [{"paragraph": {"spans": [{"text": text}]}}]});
    let large = "x".repeat(1_000_000);
    for (id, time) in [("d", 5), ("c", 5), ("b", 7), ("a", 9)] {
        node.put(article(id, "A", json!({"publish_time": at(time), "body": body(&large)}))).await;
    }
    for id in ["f", "e"] {
        node.put(article(id, "A", json!({"embargo": {}, "body": body("x")}))).await;
    }
    node.put(article("live", "L", json!({"expire_time": at(6)}))).await;
    let all = ["c", "d", "b", "a", "e", "f"];
    for size in 1..=7 {
        assert_eq!(pages(&node, json!({"page_size": size})).await.concat(), all);
    }
    let full = pages(&node, json!({"view": "ARTICLE_VIEW_FULL", "page_size": 1_000})).await;
    assert_eq!(full, [vec!["c", "d"], vec!["b", "a", "e", "f"]]);
    let basic = node.call("ListPending", json!({})).await["pending"][0]["article"].clone();
    assert_eq!((&basic["body"], &basic["headline"]), (&json!(null), &json!("A")));
    let request =
        json!({"name": "articles/e", "view": "ARTICLE_VIEW_FULL", "body_format": "BODY_FORMAT_PLAIN_TEXT"});
    let rendered = node.call("GetPending", request).await["pending"]["article"].clone();
    assert_eq!(rendered["rendered_body"]["text"].as_str().unwrap().trim(), "x");
    let reference = json!({"name": "articles/e", "view": "ARTICLE_VIEW_REFERENCE"});
    assert_eq!(node.call("GetPending", reference).await["pending"]["article"]["headline"], json!(null));
    let token = node.call("ListPending", json!({"page_size": 1})).await["next_page_token"].clone();
    let elsewhere = node.refused("ListTags", json!({"page_token": token})).await;
    assert_eq!(elsewhere.reason, "PAGE_TOKEN_INVALID");
    node.close().await;
}

#[tokio::test]
async fn the_client_puts_lists_gets_and_removes_pending_versions() {
    let node = TestNode::open().await;
    let cable = node.server.client();
    let due = Timestamp { seconds: START / SECOND + 60, nanos: 0 };
    let later = |id: &str| {
        let mut article = support::article(id, "Later", &["t"]);
        article.publish_time = Some(due);
        article
    };
    let put = cable.put(later("a")).await.unwrap();
    assert_eq!((put.changed, put.pending, put.due_time), (true, true, Some(due)));
    let mut held = support::article("b", "Held", &[]);
    held.embargo = Some(v1::Embargo::default());
    let held = cable.put(held).await.unwrap();
    assert_eq!((held.changed, held.pending, held.due_time), (true, true, None));

    let got = cable.pending("a").await.unwrap();
    let article = got.article.unwrap();
    assert_eq!((got.due_time, &*article.headline, article.body.is_some()), (Some(due), "Later", true));
    assert_eq!((article.state(), &article.etag), (v1::ArticleState::Pending, &put.etag));
    let reference = cable.pending("articles/a").view(View::Reference).await.unwrap().article.unwrap();
    assert_eq!((&*reference.headline, reference.body), ("", None));
    let listed: Vec<v1::PendingArticle> =
        cable.list_pending().page_size(1).items().try_collect().await.unwrap();
    let listed = listed.into_iter().map(|one| (one.article.unwrap(), one.due_time));
    let listed: Vec<_> = listed.map(|(article, due)| (article.name, article.body, due)).collect();
    assert_eq!(listed, [("articles/a".into(), None, Some(due)), ("articles/b".into(), None, None)]);

    let mismatch = cable.remove_pending("a").if_etag(held.etag).await.unwrap_err();
    assert_eq!(mismatch.reason(), Some(ErrorReason::EtagMismatch));
    let removed = cable.remove_pending("a").if_etag(put.etag).await.unwrap();
    assert_eq!((&*removed.name, removed.changed, removed.pending), ("articles/a", true, false));
    assert_eq!(cable.pending("a").optional().await.unwrap(), None);

    cable.remove("articles/b", RemovalReason::Killed).await.unwrap();
    assert_eq!(cable.pending("b").await.unwrap_err().reason(), Some(ErrorReason::ArticleNotFound));
    let killed = cable.put(later("b")).await.unwrap_err();
    assert_eq!(killed.reason(), Some(ErrorReason::NameKilled));
    assert!(cable.put(later("b")).allow_killed().await.unwrap().pending);
    cable.remove("articles/b", RemovalReason::Killed).await.unwrap();
    let change = || Change::put(later("b"));
    let refused = cable.commit().change(change()).await.unwrap_err();
    assert_eq!(refused.reason(), Some(ErrorReason::NameKilled));
    let committed = cable.commit().change(change().allow_killed()).await.unwrap();
    node.advance_to(60, committed.position.revision + 2).await;
    assert_eq!(cable.article("b").await.unwrap().headline, "Later");
    node.close().await;
}

/// Returns the ids on all pages of a listing.
async fn pages(node: &TestNode, mut request: Value) -> Vec<Vec<String>> {
    let mut pages = Vec::new();
    loop {
        let page = node.call("ListPending", request.clone()).await;
        let listed = page["pending"].as_array().cloned().unwrap_or_default();
        let id = |one: &Value| one["article"]["name"].as_str().unwrap().replace("articles/", "");
        if !listed.is_empty() {
            pages.push(listed.iter().map(id).collect());
        }
        match page["next_page_token"].as_str() {
            Some(token) => request["page_token"] = json!(token),
            None => return pages,
        }
    }
}
