//! Every resource is the canonical JSON of the call that it stands for.

use cable::clock::Clock;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde_json::{Value, json};

use super::client::{Http2, get, get_with};
use crate::{
    demo::import_newsroom,
    raw::{Raw, request_bytes},
    support::Node,
};

/// Returns the JSON of the response to a call, without the revision at which it was served.
async fn called(raw: &Raw, method: &str, request: Value) -> Value {
    let response = raw.bytes(method, request_bytes(method, request)).await;
    let pool = DescriptorPool::decode(cable_proto::DESCRIPTORS).unwrap();
    let descriptor = pool.get_message_by_name(&format!("cable.v1.{method}Response")).unwrap();
    let message = DynamicMessage::decode(descriptor, response).unwrap();
    let mut json =
        message.serialize_with_options(serde_json::value::Serializer, &SerializeOptions::new()).unwrap();
    json["meta"].as_object_mut().unwrap().remove("servedRevision");
    json
}

/// Returns the names of a kind in a listing.
async fn names(raw: &Raw, method: &str, field: &str) -> Vec<String> {
    let listed = raw.call(method, json!({"page_size": 1_000})).await.unwrap();
    let all = listed[field].as_array().unwrap().iter();
    all.map(|entity| entity["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_resource_is_the_canonical_json_of_its_call() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let raw = import_newsroom(&node).await;
    let http2 = Http2::connect(node.address).await;
    let mut pairs: Vec<(String, &str, Value)> = Vec::new();
    let mut paths = Vec::new();
    for name in names(&raw, "ListArticles", "articles").await {
        let target = format!("/v1/{name}");
        let article = called(&raw, "GetArticle", json!({"name": name})).await;
        paths.extend(article["article"]["path"].as_str().map(str::to_owned));
        pairs.push((target.clone(), "GetArticle", json!({"name": name})));
        for (query, request) in [
            ("view=reference", json!({"view": 1})),
            ("view=basic&include=authors", json!({"view": 2, "includes": [1]})),
            ("view=full&body=html", json!({"view": 3, "body_format": 2})),
            ("body=markdown&include=tags,sections", json!({"body_format": 3, "includes": [3, 2]})),
            ("body=plain_text", json!({"body_format": 4})),
        ] {
            let mut request = request;
            request["name"] = json!(name);
            pairs.push((format!("{target}?{query}"), "GetArticle", request));
        }
    }
    assert!(paths.len() > 10, "{paths:?}");
    for path in paths {
        pairs.push((format!("/v1/paths{path}"), "ResolvePath", json!({"path": path})));
        // As a client that is generated from the description sends it.
        let encoded = path[1..].replace('/', "%2F");
        pairs.push((format!("/v1/paths/{encoded}"), "ResolvePath", json!({"path": path})));
        pairs.push((format!("/v1/paths{path}?view=basic"), "ResolvePath", json!({"path": path, "view": 2})));
    }
    for (get, list, field) in [
        ("GetAuthor", "ListAuthors", "authors"),
        ("GetSection", "ListSections", "sections"),
        ("GetTag", "ListTags", "tags"),
        ("GetCollection", "ListCollections", "collections"),
    ] {
        let of_kind = names(&raw, list, field).await;
        assert!(!of_kind.is_empty(), "{field}");
        pairs.push((format!("/v1/{field}"), list, json!({})));
        pairs.push((format!("/v1/{field}?page_size=2"), list, json!({"page_size": 2})));
        pairs.extend(of_kind.iter().map(|name| (format!("/v1/{name}"), get, json!({"name": name}))));
        if get == "GetCollection" {
            let request = json!({"name": of_kind[0], "view": 3, "includes": [1, 2, 3]});
            pairs.push((format!("/v1/{}?view=full&include=authors,sections,tags", of_kind[0]), get, request));
        }
    }
    let (tags, authors) =
        (names(&raw, "ListTags", "tags").await, names(&raw, "ListAuthors", "authors").await);
    let sections = names(&raw, "ListSections", "sections").await;
    let bare = |name: &str| name.split_once('/').unwrap().1.to_owned();
    for (query, filter) in [
        (String::new(), json!(null)),
        (format!("tag={}", bare(&tags[0])), json!({"all_tags": [tags[0]]})),
        (format!("tag={},{}", bare(&tags[0]), tags[1]), json!({"all_tags": [tags[0], tags[1]]})),
        (format!("any_tag={},{}", tags[0], bare(&tags[1])), json!({"any_tags": [tags[0], tags[1]]})),
        (format!("section={}", bare(&sections[0])), json!({"section": sections[0]})),
        (format!("author={}", bare(&authors[0])), json!({"authors": [authors[0]]})),
    ] {
        let mut request = json!({"view": 2, "page_size": 3, "includes": [1]});
        if !filter.is_null() {
            request["filter"] = filter;
        }
        let target = format!("/v1/articles?{query}&view=basic&page_size=3&include=authors");
        pairs.push((target, "ListArticles", request));
    }
    for (target, method, request) in pairs {
        let expected = called(&raw, method, request).await;
        let over_1 = get(node.address, &target).await;
        assert_eq!((over_1.status, over_1.json()), (200, expected), "{target}");
        assert_eq!(over_1.header("content-type"), "application/json");
        let etag = format!("\"{}.json\"", over_1.json()["meta"]["etag"].as_str().unwrap());
        assert_eq!(over_1.header("etag"), etag, "{target}");
        assert_eq!(over_1.header("vary"), "authorization");
        let mut over_2 = http2.request("GET", &target, &[]).await;
        // The horizon may have passed in between.
        over_2.headers.insert("cache-control".to_owned(), over_1.header("cache-control").to_owned());
        assert_eq!(over_2, over_1, "{target}");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_continue_with_the_token_of_the_page_before() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let raw = import_newsroom(&node).await;
    let all = names(&raw, "ListArticles", "articles").await;
    let (mut listed, mut token) = (Vec::new(), String::new());
    loop {
        let page = get(node.address, &format!("/v1/articles?page_size=4&page_token={token}")).await;
        assert_eq!(page.status, 200, "{}", page.text());
        let page = page.json();
        let articles = page["articles"].as_array().unwrap();
        listed.extend(articles.iter().map(|article| article["name"].as_str().unwrap().to_owned()));
        match page["nextPageToken"].as_str() {
            Some(next) => token = next.replace('+', "%2B").replace('=', "%3D"),
            None => break,
        }
    }
    assert_eq!(listed, all);
    let foreign = get(node.address, &format!("/v1/articles?tag=x&page_token={token}")).await;
    assert_eq!((foreign.status, &foreign.reason()[..]), (400, "PAGE_TOKEN_INVALID"));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_waits_for_the_revision_that_it_names() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let raw = Raw::to(&node).await;
    let put = json!({"article": {"name": "articles/a", "headline": "Storm"}});
    let put = raw.call("PutArticle", put).await.unwrap();
    let revision = put["result"]["revision"].as_i64().unwrap();
    for (target, header) in [
        (format!("/v1/articles/a?at_least_revision={revision}"), None),
        ("/v1/articles/a".to_owned(), Some(revision)),
        (format!("/v1/articles/a?at_least_revision={}", revision - 1), Some(revision)),
    ] {
        let header = header.map(|revision| revision.to_string());
        let headers: Vec<_> = header.iter().map(|value| ("cable-at-least", &value[..])).collect();
        let read = get_with(node.address, &target, &headers).await;
        assert_eq!(read.status, 200, "{target} {}", read.text());
        assert_eq!(read.header("cable-revision"), revision.to_string());
    }
    let late = get(node.address, &format!("/v1/articles/a?at_least_revision={}", revision + 1)).await;
    assert_eq!((late.status, &late.reason()[..]), (503, "NOT_CAUGHT_UP"));
    assert_eq!((late.header("retry-after"), late.header("cache-control")), ("1", "no-store"));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_of_the_next_change_is_that_of_the_first_expiry() {
    let dir = tempfile::tempdir().unwrap();
    let (clock, _hands) = Clock::manual(1_900_000_000_000_000);
    let node = Node::start_at(dir.path(), clock).await;
    let raw = Raw::to(&node).await;
    for (id, expire_time) in
        [("a", Some("2030-03-17T18:00:00Z")), ("b", None), ("c", Some("2030-03-17T17:50:00.5Z"))]
    {
        let mut article = json!({"name": format!("articles/{id}"), "headline": id, "tags": ["tags/t"]});
        if let Some(time) = expire_time {
            article["expire_time"] = json!(time);
        }
        raw.call("PutArticle", json!({"article": article})).await.unwrap();
    }
    for (method, request, expected) in [
        ("GetArticle", json!({"name": "articles/a", "view": 1}), json!("2030-03-17T18:00:00Z")),
        ("GetArticle", json!({"name": "articles/b"}), json!(null)),
        ("ListArticles", json!({}), json!("2030-03-17T17:50:00.500Z")),
        ("ListArticles", json!({"page_size": 1, "view": 1}), json!("2030-03-17T17:50:00.500Z")),
        ("BatchGetArticles", json!({"names": ["articles/b", "articles/a"]}), json!("2030-03-17T18:00:00Z")),
    ] {
        let response = raw.call(method, request.clone()).await.unwrap();
        assert_eq!(response["meta"]["next_change_time"], expected, "{method} {request}");
    }
    let read = get(node.address, "/v1/articles").await.json();
    assert_eq!(read["meta"]["nextChangeTime"], "2030-03-17T17:50:00.500Z");
    node.stop().await;
}
