//! The time at which a pending version becomes visible, also after downtime and on a full disk.

use serde_json::{Value, json};

use super::{SECOND, START, TestNode, article, at, reason};

#[tokio::test]
async fn a_scheduled_article_becomes_visible_at_its_publish_time() {
    let node = TestNode::open().await;
    let storm = article("a", "Storm", json!({"publish_time": at(60), "path": "/storm", "tags": ["tags/t"]}));
    let result = node.put(storm).await;
    assert_eq!((&result["pending"], &result["due_time"]), (&json!(true), &json!(at(60))), "{result}");
    assert_eq!((&result["changed"], &result["revision"]), (&json!(true), &json!(1)));
    assert_eq!(reason(node.get("a").await), "ARTICLE_NOT_FOUND");
    assert_eq!(node.refused("ResolvePath", json!({"path": "/storm"})).await.reason, "ARTICLE_NOT_FOUND");
    let listed = node.call("ListArticles", json!({"filter": {"all_tags": ["tags/t"]}})).await;
    assert_eq!(listed["articles"], json!(null));
    let exported = node.call("Export", json!({})).await;
    assert_eq!(exported["end"]["count"], json!(null), "{exported}");
    assert_eq!(node.call("GetStatus", json!({})).await["counts"], json!({}));

    let pending = node.pending("a").await.unwrap();
    assert_eq!(pending["due_time"], at(60));
    assert_eq!(pending["article"]["state"], "ARTICLE_STATE_PENDING");
    assert_eq!(pending["article"]["etag"], result["etag"]);
    assert_eq!(pending["article"]["first_publish_time"], json!(null));

    // Just before the time, only requested changes happen.
    node.hands.set(START + 60 * SECOND - 1);
    node.call("PutTag", json!({"tag": {"name": "tags/t", "display_name": "T"}})).await;
    assert_eq!(node.head().await, 2);
    assert_eq!(reason(node.get("a").await), "ARTICLE_NOT_FOUND");
    node.advance_to(60, 4).await;
    let found = node.get("a").await.unwrap();
    assert_eq!((&found["revision"], &found["state"]), (&json!(4), &json!("ARTICLE_STATE_LIVE")));
    assert_eq!(found["create_time"], at(0));
    assert_eq!((&found["update_time"], &found["first_publish_time"]), (&json!(at(60)), &json!(at(60))));
    assert_eq!(node.call("ResolvePath", json!({"path": "/storm"})).await["article"]["headline"], "Storm");
    assert_eq!(reason(node.pending("a").await), "ARTICLE_NOT_FOUND");
    let listed = node.call("ListArticles", json!({"filter": {"all_tags": ["tags/t"]}})).await;
    assert_eq!(listed["articles"].as_array().unwrap().len(), 1);
    node.close().await;
}

#[tokio::test]
async fn visibility_starts_at_the_later_of_embargo_and_publish_time() {
    let node = TestNode::open().await;
    let until = |seconds| json!({"until": at(seconds)});
    node.put(article("a", "A", json!({"publish_time": at(10), "embargo": until(20)}))).await;
    node.put(article("b", "B", json!({"publish_time": at(-90), "embargo": until(30)}))).await;
    let held =
        node.put(article("c", "C", json!({"publish_time": at(10), "embargo": {"note": "call"}}))).await;
    assert_eq!((&held["pending"], &held["due_time"]), (&json!(true), &json!(null)));
    let lifted = node.put(article("d", "D", json!({"embargo": until(0)}))).await;
    assert_eq!(lifted["pending"], json!(null), "a lifted embargo delays nothing: {lifted}");
    let listed = node.call("ListPending", json!({})).await;
    let names: Vec<&Value> =
        listed["pending"].as_array().unwrap().iter().map(|one| &one["article"]["name"]).collect();
    assert_eq!(names, ["articles/a", "articles/b", "articles/c"]);

    node.set(10);
    assert_eq!(node.head().await, 4);
    node.advance_to(20, 6).await;
    node.advance_to(30, 8).await;
    // The displayed date, if there is one; else the time at which the article became readable.
    assert_eq!(node.get("a").await.unwrap()["first_publish_time"], at(10));
    assert_eq!(node.get("b").await.unwrap()["first_publish_time"], at(-90));
    node.advance_to(100_000, 8).await;
    assert_eq!(reason(node.get("c").await), "ARTICLE_NOT_FOUND");
    let result = node.put(article("c", "C", json!({}))).await;
    assert_eq!((&result["pending"], &result["revision"]), (&json!(null), &json!(10)));
    assert_eq!(node.get("c").await.unwrap()["first_publish_time"], at(100_000));
    node.close().await;
}

#[tokio::test]
async fn a_pending_update_replaces_the_live_article_when_it_is_due() {
    let node = TestNode::open().await;
    let old = node.put(article("a", "Old", json!({"path": "/old"}))).await;
    let new = |headline: &str| article("a", headline, json!({"path": "/new", "publish_time": at(60)}));
    let waiting = node.put(new("New")).await;
    assert_eq!(node.get("a").await.unwrap()["etag"], old["etag"]);
    let again = node.put(new("New")).await;
    assert_eq!((&again["changed"], &again["etag"]), (&json!(null), &waiting["etag"]));
    assert_eq!((&again["pending"], &again["due_time"]), (&json!(true), &json!(at(60))));
    // A put with immediate effect leaves it in place; another pending version replaces it.
    node.put(article("a", "Mended", json!({"path": "/old"}))).await;
    assert_eq!(node.pending("a").await.unwrap()["article"]["headline"], "New");
    node.put(new("Newer")).await;
    assert_eq!(node.head().await, 4);
    assert_eq!(node.refused("ResolvePath", json!({"path": "/new"})).await.reason, "ARTICLE_NOT_FOUND");
    node.advance_to(60, 6).await;
    let found = node.get("a").await.unwrap();
    assert_eq!((&found["headline"], &found["create_time"]), (&json!("Newer"), &json!(at(0))));
    assert_eq!(found["first_publish_time"], at(0));
    let former = node.call("ResolvePath", json!({"path": "/old"})).await;
    assert_eq!(former["redirect_path"], "/new");
    node.close().await;
}

#[tokio::test]
async fn a_scheduled_version_is_held_after_the_live_one_changes() {
    let node = TestNode::open().await;
    let scheduled = |id: &str| match id {
        "embargo" => article(id, "Later", json!({"embargo": {"until": at(60)}})),
        _ => article(id, "Later", json!({"publish_time": at(60)})),
    };
    let correct = |id: &str| {
        let notice = json!({"kind": "NOTICE_KIND_CORRECTION", "text": "The quay was wrong."});
        json!({"article": {"name": format!("articles/{id}"), "notices": [notice]}})
    };
    let held = ["time", "embargo", "etag", "expires"];
    for id in held.into_iter().chain(["same"]) {
        let more = if id == "expires" { json!({"expire_time": at(90)}) } else { json!({}) };
        let live = node.put(article(id, "Live", more)).await;
        let mut put = json!({"article": scheduled(id)});
        if id == "etag" {
            put["precondition"] = json!({"etag": live["etag"]});
        }
        node.call("PutArticle", put).await;
        let pending = node.pending(id).await.unwrap();
        assert_eq!((&pending["hold_reason"], &pending["base_revision"]), (&json!(null), &live["revision"]));
    }
    for id in held {
        node.call("PatchArticle", correct(id)).await;
    }
    let listed = node.call("ListPending", json!({})).await["pending"].clone();
    for one in listed.as_array().unwrap() {
        let reason = match one["article"]["name"].as_str().unwrap() {
            "articles/same" => json!(null),
            _ => json!("HOLD_REASON_LIVE_VERSION_CHANGED"),
        };
        assert_eq!((&one["hold_reason"], &one["due_time"]), (&reason, &json!(at(60))), "{one}");
    }
    let head = node.head().await;
    node.advance_to(60, head + 2).await;
    assert_eq!(node.get("same").await.unwrap()["headline"], "Later");
    let node = node.restart(80, |_| {}).await;
    // An article that expires meanwhile does not return in its state before the correction.
    node.advance_to(100, head + 3).await;
    assert_eq!(reason(node.get("expires").await), "ARTICLE_GONE");
    for id in ["time", "embargo", "etag"] {
        let live = node.get(id).await.unwrap();
        assert_eq!(
            (&live["headline"], &live["notices"][0]["text"]),
            (&json!("Live"), &json!("The quay was wrong."))
        );
        assert_eq!(node.pending(id).await.unwrap()["article"]["headline"], "Later");
    }
    // An editor decides: the same version once more, immediately or later, or not at all.
    let again = article("time", "Later", json!({"publish_time": at(120)}));
    node.put(again.clone()).await;
    assert_eq!(node.pending("time").await.unwrap()["hold_reason"], json!(null));
    node.call("PatchArticle", correct("time")).await;
    let unchanged = node.pending("time").await.unwrap()["hold_reason"].clone();
    assert_eq!(unchanged, json!(null), "a patch that changes nothing holds nothing up");
    node.put(article("time", "Live 2", json!({}))).await;
    assert_ne!(node.pending("time").await.unwrap()["hold_reason"], json!(null));
    assert_eq!(node.put(again).await["changed"], json!(true), "the base version is another one now");
    node.call("RemovePending", json!({"name": "articles/etag"})).await;
    let head = node.head().await;
    node.advance_to(200, head + 2).await;
    assert_eq!(node.get("time").await.unwrap()["headline"], "Later");
    assert_eq!(node.get("etag").await.unwrap()["headline"], "Live");
    node.close().await;
}

#[tokio::test]
async fn changes_due_during_downtime_are_applied_in_order() {
    let node = TestNode::open().await;
    for n in 0..40 {
        // Put in one order, due in another.
        let due = 100 - n;
        node.put(article(&format!("a{n}"), "A", json!({"publish_time": at(due)}))).await;
    }
    node.put(article("end", "E", json!({"expire_time": at(80)}))).await;
    node.put(article("end", "Again", json!({"publish_time": at(80)}))).await;
    node.put(article("far", "F", json!({"publish_time": at(500)}))).await;
    let node = node.restart(200, |_| {}).await;
    node.wait_for_revision(43 + 80 + 3).await;
    let listed =
        node.call("ListArticles", json!({"order": "ARTICLE_ORDER_REVISION_DESC", "page_size": 100})).await;
    let articles = listed["articles"].as_array().unwrap();
    let mut due: Vec<&str> = articles.iter().filter_map(|article| article["publish_time"].as_str()).collect();
    assert_eq!(due.len(), 41);
    // The name that both ended and started at the same time took two passes.
    due.retain(|time| *time != at(80));
    assert!(due.is_sorted_by(|a, b| a > b), "{due:?}");
    assert_eq!(node.get("end").await.unwrap()["headline"], "Again");
    assert_eq!(reason(node.get("far").await), "ARTICLE_NOT_FOUND");
    node.advance_to(500, 128).await;
    assert_eq!(node.get("far").await.unwrap()["headline"], "F");
    node.close().await;
}

#[tokio::test]
async fn a_full_disk_delays_due_changes_until_there_is_space() {
    let node = TestNode::open().await;
    node.put(article("a", "A", json!({"publish_time": at(10)}))).await;
    let node = node.restart(10, |config| config.store.reserve_bytes = u64::MAX).await;
    assert_eq!(reason(node.get("a").await), "ARTICLE_NOT_FOUND");
    node.set(60);
    assert_eq!((node.head().await, reason(node.get("a").await)), (1, "ARTICLE_NOT_FOUND".to_owned()));
    let node = node.restart(60, |_| {}).await;
    node.wait_for_revision(3).await;
    assert_eq!(node.get("a").await.unwrap()["update_time"], at(60));
    node.close().await;
}
