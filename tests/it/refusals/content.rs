//! Errors of the content service: invalid fields of reads, page tokens and freshness.

use serde_json::{Value, json};
use tonic::Code;

use super::{Invalid, all_invalid, refusal, start, summary};
use crate::{
    raw::{Raw, field},
    support::Node,
};

#[tokio::test]
async fn an_invalid_read_field_is_refused_with_its_path() {
    let (_dir, node, raw) = start().await;
    let mut table: Vec<Invalid> = vec![
        ("ListArticles", json!({"filter": {"all_tags": ["tags/a", "sections/b"]}}), "filter.all_tags[1]"),
        ("ListArticles", json!({"filter": {"any_tags": ["a"]}}), "filter.any_tags[0]"),
        ("ListArticles", json!({"filter": {"excluded_tags": ["tags/"]}}), "filter.excluded_tags[0]"),
        ("ListArticles", json!({"filter": {"authors": ["tags/a"]}}), "filter.authors[0]"),
        ("ListArticles", json!({"filter": {"section": "tags/a"}}), "filter.section"),
        ("ListArticles", json!({"filter": {"types": [1, 99]}}), "filter.types[1]"),
        (
            "ListArticles",
            json!({"filter": {"include_child_sections": true}}),
            "filter.include_child_sections",
        ),
        ("ListArticles", json!({"order": 9}), "order"),
        ("ListArticles", json!({"page_size": -1}), "page_size"),
        ("ListAuthors", json!({"page_size": -1}), "page_size"),
        ("ListSections", json!({"page_size": -1}), "page_size"),
        ("ListTags", json!({"page_size": -1}), "page_size"),
        ("ListCollections", json!({"page_size": -1}), "page_size"),
        ("StreamArticles", json!({"filter": {"section": "tags/a"}}), "filter.section"),
        ("StreamArticles", json!({"filter": {"types": [99]}}), "filter.types[0]"),
        ("StreamArticles", json!({"order": 9}), "order"),
        ("StreamArticles", json!({"max_articles": -1}), "max_articles"),
        ("Export", json!({"after_revision": -1}), "after_revision"),
        ("Export", json!({"log_id": "xyz"}), "log_id"),
    ];
    let methods = [
        ("GetArticle", json!({"name": "articles/a"})),
        ("BatchGetArticles", json!({"names": ["articles/a"]})),
        ("ListArticles", json!({})),
        ("StreamArticles", json!({})),
        ("ResolvePath", json!({"path": "/a"})),
        ("GetCollection", json!({"name": "collections/a"})),
    ];
    for (method, request) in methods {
        let with = |field: &str, value: Value| {
            let mut request = request.clone();
            request[field] = value;
            request
        };
        table.push((method, with("view", json!(9)), "view"));
        table.push((method, with("body_format", json!(9)), "body_format"));
        table.push((method, with("includes", json!([1, 0])), "includes[1]"));
        table.push((method, with("includes", json!([9])), "includes[0]"));
        table.push((method, with("includes", json!([1, 2, 1])), "includes[2]"));
        let mut html = with("view", json!("ARTICLE_VIEW_BASIC"));
        html["body_format"] = json!("BODY_FORMAT_HTML");
        table.push((method, html, "body_format"));
    }
    let fresh = [
        ("GetArticle", json!({"name": "articles/a"})),
        ("BatchGetArticles", json!({"names": ["articles/a"]})),
        ("ListArticles", json!({})),
        ("StreamArticles", json!({})),
        ("ResolvePath", json!({"path": "/a"})),
        ("GetAuthor", json!({"name": "authors/a"})),
        ("ListAuthors", json!({})),
        ("GetSection", json!({"name": "sections/a"})),
        ("ListSections", json!({})),
        ("GetTag", json!({"name": "tags/a"})),
        ("ListTags", json!({})),
        ("GetCollection", json!({"name": "collections/a"})),
        ("ListCollections", json!({})),
    ];
    for (method, request) in fresh {
        for (freshness, field) in [
            (json!({"at_least_revision": -1}), "freshness.at_least_revision"),
            (json!({"log_id": "not hex!"}), "freshness.log_id"),
            (json!({"max_wait": "-1s"}), "freshness.max_wait"),
        ] {
            let mut request = request.clone();
            request["freshness"] = freshness;
            table.push((method, request, field));
        }
    }
    all_invalid(&raw, table).await;
    for time in [json!({"seconds": 253_402_300_800i64}), json!({"nanos": -1})] {
        let seconds = time["seconds"].as_i64().unwrap_or_default();
        let nanos = time["nanos"].as_i64().unwrap_or_default() as i32;
        let time = prost::Message::encode_to_vec(&cable_client::Timestamp { seconds, nanos });
        for (number, name) in [(9, "filter.published_after"), (10, "filter.published_before")] {
            let filter = field(1, &field(number, &time));
            for method in ["ListArticles", "StreamArticles"] {
                let response = raw.send(method, filter.clone().into()).await.map(|_| Value::Null);
                assert_eq!(summary(response), refusal(Code::InvalidArgument, "FIELD_INVALID", name));
            }
        }
    }
    node.stop().await;
}

#[tokio::test]
async fn a_page_token_of_another_request_is_refused() {
    let (_dir, node, raw) = start().await;
    for i in 0..3 {
        let article = json!({"name": format!("articles/a{i}"), "headline": "H", "tags": ["tags/t"]});
        raw.call("PutArticle", json!({"article": article})).await.unwrap();
        let tag = json!({"name": format!("tags/t{i}"), "display_name": "T"});
        raw.call("PutTag", json!({"tag": tag})).await.unwrap();
    }
    let page = raw.call("ListArticles", json!({"page_size": 1})).await.unwrap();
    let of_articles = page["next_page_token"].as_str().unwrap().to_owned();
    let page = raw.call("ListTags", json!({"page_size": 1})).await.unwrap();
    let of_tags = page["next_page_token"].as_str().unwrap().to_owned();

    let other_dir = tempfile::tempdir().unwrap();
    let other_node = Node::start(other_dir.path()).await;
    let other = Raw::to(&other_node).await;
    let refused = refusal(Code::InvalidArgument, "PAGE_TOKEN_INVALID", "page_token");
    let filter = json!({"all_tags": ["tags/t"]});
    let table = [
        ("garbage", &raw, "ListArticles", json!({"page_token": "garbage"})),
        ("not base64", &raw, "ListArticles", json!({"page_token": "!!"})),
        ("cut", &raw, "ListArticles", json!({"page_token": of_articles[1..]})),
        ("another filter", &raw, "ListArticles", json!({"page_token": of_articles, "filter": filter})),
        (
            "another order",
            &raw,
            "ListArticles",
            json!({"page_token": of_articles, "order": "ARTICLE_ORDER_REVISION_DESC"}),
        ),
        ("another list", &raw, "ListArticles", json!({"page_token": of_tags})),
        ("another list", &raw, "ListTags", json!({"page_token": of_articles})),
        ("another list", &raw, "ListAuthors", json!({"page_token": of_tags})),
        ("another list", &raw, "ListSections", json!({"page_token": of_tags})),
        ("another list", &raw, "ListCollections", json!({"page_token": of_tags})),
        ("another log", &other, "ListArticles", json!({"page_token": of_articles})),
        ("another log", &other, "ListTags", json!({"page_token": of_tags})),
    ];
    for (label, to, method, request) in table {
        assert_eq!(summary(to.call(method, request).await), refused, "{label} at {method}");
    }
    let next = raw.call("ListArticles", json!({"page_token": of_articles, "page_size": 2})).await.unwrap();
    assert_eq!(
        next["articles"].as_array().unwrap().len(),
        2,
        "its own request takes it, with another page size"
    );
    other_node.stop().await;
    node.stop().await;
}

#[tokio::test]
async fn a_future_revision_or_one_of_another_log_is_refused() {
    let (_dir, node, raw) = start().await;
    let log_id = raw.call("GetStatus", json!({})).await.unwrap()["head"]["log_id"].clone();
    let ahead = json!({"at_least_revision": 99, "log_id": log_id, "max_wait": "0.010s"});
    let foreign = json!({"at_least_revision": 1, "log_id": "00000001"});
    for (method, request) in
        [("GetTag", json!({"name": "tags/a"})), ("ListArticles", json!({})), ("StreamArticles", json!({}))]
    {
        let mut request = request;
        request["freshness"] = ahead.clone();
        let refused = raw.call(method, request.clone()).await.unwrap_err();
        assert_eq!((refused.code, &*refused.reason), (Code::Unavailable, "NOT_CAUGHT_UP"), "{method}");
        assert!(refused.retry && refused.metadata["revision"] == "0", "{refused:?}");
        request["freshness"] = foreign.clone();
        let refused = raw.call(method, request).await.unwrap_err();
        assert_eq!((refused.code, &*refused.reason), (Code::FailedPrecondition, "LOG_CHANGED"), "{method}");
        assert_eq!(refused.metadata["log_id"], log_id.as_str().unwrap());
    }
    let refused = raw.call("Export", json!({"after_revision": 1, "log_id": "00000001"})).await.unwrap_err();
    assert_eq!((refused.code, &*refused.reason), (Code::FailedPrecondition, "LOG_CHANGED"));
    node.stop().await;
}
