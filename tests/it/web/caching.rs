//! Conditional requests, and how long caches may reuse a response: by a clock that the test sets.

use std::time::Duration;

use cable::clock::{Clock, ManualClock};
use serde_json::json;

use super::client::{Http2, Response, get, get_with, request};
use crate::{raw::Raw, support::Node};

/// A whole minute in UTC: 2030-03-17T17:46:00Z.
const MINUTE: i64 = 1_900_000_000_000_000 - 40 * SECOND;
const SECOND: i64 = 1_000_000;

fn rfc3339(micros: i64) -> String {
    let timestamp = cable_client::Timestamp {
        seconds: micros.div_euclid(SECOND),
        nanos: (micros.rem_euclid(SECOND) * 1_000) as i32,
    };
    timestamp.to_string()
}

async fn start(dir: &std::path::Path, now: i64) -> (Node, Raw, ManualClock) {
    let (clock, hands) = Clock::manual(now);
    let node = Node::start_at(dir, clock).await;
    let raw = Raw::to(&node).await;
    (node, raw, hands)
}

async fn put(raw: &Raw, article: serde_json::Value) {
    raw.call("PutArticle", json!({"article": article})).await.unwrap();
}

/// Repeats a request until its response is as wanted: the node makes due changes in the background.
async fn becomes(node: &Node, target: &str, wanted: impl Fn(&Response) -> bool) -> Response {
    let repeat = async {
        loop {
            let response = get(node.address, target).await;
            if wanted(&response) {
                return response;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    crate::connections::soon(repeat).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_that_is_current_is_not_sent_again() {
    let dir = tempfile::tempdir().unwrap();
    let (node, raw, _hands) = start(dir.path(), MINUTE).await;
    let http2 = Http2::connect(node.address).await;
    put(&raw, json!({"name": "articles/a", "headline": "Storm", "tags": ["tags/t"]})).await;
    raw.call("PutTag", json!({"tag": {"name": "tags/t", "display_name": "T"}})).await.unwrap();
    for target in
        ["/v1/articles/a", "/v1/articles?tag=t", "/v1/tags/t", "/v1/tags", "/v1/articles/a?view=basic"]
    {
        let whole = get(node.address, target).await;
        let etag = whole.header("etag").to_owned();
        assert!(etag.starts_with('"') && etag.ends_with(".json\""), "{etag}");
        for value in [etag.clone(), format!("W/{etag}"), format!("\"x\", {etag}"), "*".to_owned()] {
            let current = get_with(node.address, target, &[("if-none-match", &value)]).await;
            assert_eq!((current.status, current.body.len()), (304, 0), "{target} {value}");
            for name in ["etag", "cache-control", "vary", "surrogate-key", "cable-revision"] {
                assert_eq!(current.header(name), whole.header(name), "{target} {name}");
            }
            assert!(!current.headers.contains_key("content-length"), "{current:?}");
            let head = request(node.address, "HEAD", target, &[("if-none-match", &value)]).await;
            assert_eq!(head, current, "{target}");
            assert_eq!(http2.request("GET", target, &[("if-none-match", &value)]).await, current, "{target}");
        }
        let bare = etag.replace(".json", "");
        for value in ["\"x\"", &bare, etag.trim_matches('"'), ""] {
            let other = get_with(node.address, target, &[("if-none-match", value)]).await;
            assert_eq!(other, whole, "{target} {value}");
        }
        let head = request(node.address, "HEAD", target, &[]).await;
        assert_eq!((head.status, &head.headers), (200, &whole.headers), "{target}");
        assert_eq!(http2.request("HEAD", target, &[]).await, head, "{target}");
    }
    let (one, other) =
        (get(node.address, "/v1/articles/a").await, get(node.address, "/v1/articles/a?view=basic").await);
    assert_ne!(one.header("etag"), other.header("etag"), "views differ");
    put(&raw, json!({"name": "articles/a", "headline": "Storm over Norwick", "tags": ["tags/t"]})).await;
    let changed = get_with(node.address, "/v1/articles/a", &[("if-none-match", one.header("etag"))]).await;
    assert_eq!(
        (changed.status, changed.json()["article"]["headline"].as_str()),
        (200, Some("Storm over Norwick"))
    );
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_response_is_reused_beyond_the_horizon_or_the_next_change() {
    let dir = tempfile::tempdir().unwrap();
    let (node, raw, hands) = start(dir.path(), MINUTE + 20 * SECOND + 1).await;
    put(&raw, json!({"name": "articles/a", "headline": "a"})).await;
    let expires = MINUTE + 30 * SECOND;
    put(&raw, json!({"name": "articles/b", "headline": "b", "expire_time": rfc3339(expires)})).await;
    let all = [
        "/v1/articles/a",
        "/v1/articles/none",
        "/v1/articles/a?x=1",
        "/v1/paths/none",
        "/v1/tags",
        "/v1/nothing",
    ];
    let ages = async |targets: &[&str]| {
        let mut ages = Vec::new();
        for target in targets {
            ages.push(get(node.address, target).await.max_age());
        }
        ages
    };
    assert_eq!(ages(&all).await, [39; 6], "until the next minute, rounded down");
    let soon = ["/v1/articles/b", "/v1/articles", "/v1/articles?page_size=1&view=reference"];
    assert_eq!(ages(&soon).await, [9; 3], "until the expiry, rounded down");
    hands.set(MINUTE + 60 * SECOND - 1);
    assert_eq!(ages(&all).await, [0; 6]);
    becomes(&node, "/v1/articles/b", |response| response.status == 410).await;
    hands.set(MINUTE + 60 * SECOND);
    assert_eq!(ages(&all).await, [60; 6]);
    let gone = get(node.address, "/v1/articles/b").await;
    assert_eq!((gone.status, gone.max_age()), (410, 60));
    node.stop().await;
}

/// nginx reuses a response that is confirmed with `max-age=0` for as long as the old one stated.
#[tokio::test(flavor = "multi_thread")]
async fn a_response_that_may_not_be_reused_is_not_confirmed() {
    let dir = tempfile::tempdir().unwrap();
    let (node, raw, hands) = start(dir.path(), MINUTE).await;
    let expires = MINUTE + 30 * SECOND + SECOND / 2;
    put(&raw, json!({"name": "articles/a", "headline": "a"})).await;
    put(&raw, json!({"name": "articles/b", "headline": "b", "expire_time": rfc3339(expires)})).await;
    let http2 = Http2::connect(node.address).await;
    for (target, last) in [("/v1/articles/b", expires), ("/v1/articles/a", MINUTE + 60 * SECOND)] {
        let whole = get(node.address, target).await;
        let given = [("if-none-match", whole.header("etag"))];
        hands.set(last - SECOND);
        if last > expires {
            // Until the expiry is committed, no response may be reused.
            becomes(&node, "/v1/articles/b", |response| response.status == 410).await;
        }
        let confirmed = get_with(node.address, target, &given).await;
        assert_eq!((confirmed.status, confirmed.max_age()), (304, 1), "{target}");
        hands.set(last - SECOND + 1);
        let sent = get_with(node.address, target, &given).await;
        assert_eq!((sent.status, sent.max_age(), &sent.body), (200, 0, &whole.body), "{target}");
        assert_eq!(http2.request("GET", target, &given).await, sent, "{target}");
        assert_eq!(request(node.address, "HEAD", target, &given).await.status, 200, "{target}");
    }
    node.stop().await;
    let (clock, _hands) = Clock::manual(MINUTE);
    let node = Node::run(0, dir.path(), clock, |config| config.web.max_age = Duration::ZERO).await;
    let whole = get(node.address, "/v1/articles/a").await;
    let confirmed =
        get_with(node.address, "/v1/articles/a", &[("if-none-match", whole.header("etag"))]).await;
    assert_eq!((whole.max_age(), confirmed.status), (0, 304), "no cache stores it");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_times_are_settings() {
    let dir = tempfile::tempdir().unwrap();
    let (clock, _hands) = Clock::manual(MINUTE + 20 * SECOND);
    let node = Node::run(0, dir.path(), clock, |config| {
        (config.web.max_age, config.web.horizon) = (Duration::from_secs(7), Duration::from_secs(25));
    })
    .await;
    let response = get(node.address, "/v1/tags").await;
    // 1,899,999,960 is no multiple of 25: the next one comes 20 seconds after it has passed by 5.
    let left = 25 - (MINUTE / SECOND + 20) % 25;
    assert_eq!(response.max_age(), left.min(7));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scheduled_article_is_as_absent_as_one_that_never_existed() {
    let dir = tempfile::tempdir().unwrap();
    let (node, raw, hands) = start(dir.path(), MINUTE + SECOND / 2).await;
    let due = MINUTE + 45 * SECOND;
    let before = get(node.address, "/v1/articles?tag=t").await;
    put(
        &raw,
        json!({
            "name": "articles/pending", "headline": "p", "tags": ["tags/t"], "path": "/pending",
            "publish_time": rfc3339(due), "expire_time": rfc3339(due + SECOND),
        }),
    )
    .await;
    let unnamed = |mut response: Response, name: &str| {
        let body = response.text().replace(name, "NAME");
        response.body = body.into_bytes();
        let keys = response.headers.get("surrogate-key").map(|keys| keys.replace(name, "NAME"));
        response.headers.extend(keys.map(|keys| ("surrogate-key".to_owned(), keys)));
        response
    };
    for collection in ["articles", "paths"] {
        let [pending, unknown] = ["pending", "unknown"].map(|id| (id, format!("/v1/{collection}/{id}")));
        let absent = get(node.address, &unknown.1).await;
        assert_eq!(absent.status, 404);
        let hidden = get(node.address, &pending.1).await;
        assert_eq!(unnamed(hidden, pending.0), unnamed(absent, unknown.0), "{collection}");
    }
    let mut after = get(node.address, "/v1/articles?tag=t").await;
    after.headers.insert("cable-revision".to_owned(), before.header("cable-revision").to_owned());
    assert_eq!(after, before, "only the revision moves on, as it does for every write");
    hands.set(due - 1);
    assert_eq!(get(node.address, "/v1/articles/pending").await.status, 404);
    hands.set(due);
    let live = becomes(&node, "/v1/articles/pending", |response| response.status == 200).await;
    assert_eq!(live.max_age(), 1, "it expires a second later");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn surrogate_keys_name_all_that_a_response_rests_on() {
    let dir = tempfile::tempdir().unwrap();
    let (node, raw, _hands) = start(dir.path(), MINUTE).await;
    raw.call("PutTag", json!({"tag": {"name": "tags/t", "display_name": "T"}})).await.unwrap();
    raw.call("PutSection", json!({"section": {"name": "sections/s", "display_name": "S"}})).await.unwrap();
    put(&raw, json!({
        "name": "articles/a", "headline": "a", "tags": ["tags/t"], "section": "sections/s", "path": "/News/a",
        "byline": {"credits": [{"author": "authors/missing"}]},
    }))
    .await;
    put(&raw, json!({"name": "articles/b", "headline": "b", "tags": ["tags/t"]})).await;
    let collection =
        json!({"name": "collections/c", "title": "C", "articles": ["articles/b", "articles/none"]});
    raw.call("PutCollection", json!({"collection": collection})).await.unwrap();
    for (target, keys) in [
        ("/v1/articles/a", "article:a"),
        ("/v1/articles/a?include=authors,sections,tags", "article:a author:missing section:s tag:t"),
        ("/v1/articles/none", "article:none"),
        ("/v1/articles", "article:a article:b list:articles"),
        ("/v1/articles?tag=t", "article:a article:b list:tags/t"),
        ("/v1/articles?tag=t&section=s&author=x", "list:authors/x list:sections/s list:tags/t"),
        ("/v1/paths/News/a", "article:a path:/News/a"),
        ("/v1/paths/none", "path:/none"),
        ("/v1/tags/t", "tag:t"),
        ("/v1/tags", "list:tags tag:t"),
        ("/v1/collections/c", "article:b article:none collection:c"),
    ] {
        assert_eq!(get(node.address, target).await.header("surrogate-key"), keys, "{target}");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_surrogate_keys_become_coarser_ones() {
    let dir = tempfile::tempdir().unwrap();
    let (node, raw, _hands) = start(dir.path(), MINUTE).await;
    let long = "x".repeat(100);
    for n in 0..90 {
        put(&raw, json!({"name": format!("articles/{long}{n}"), "headline": "a"})).await;
    }
    let few = get(node.address, "/v1/articles?page_size=60&view=reference").await;
    assert_eq!(few.header("surrogate-key").split(' ').count(), 61);
    let many = get(node.address, "/v1/articles?page_size=90&view=reference").await;
    assert_eq!(many.header("surrogate-key"), "articles list:articles");
    let tags: Vec<_> = (0..64).map(|n| format!("{long}{n}")).collect();
    let filtered = get(node.address, &format!("/v1/articles?any_tag={}", tags.join(","))).await;
    assert_eq!((filtered.status, filtered.header("surrogate-key")), (200, "list:articles"));
    node.stop().await;
}
