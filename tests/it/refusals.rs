//! Invalid input at each call, with the code, the reason and the field that the table of `errors.proto` promises.

use serde_json::{Value, json};
use tonic::Code;

use crate::{
    raw::{Raw, Refusal, field, padded, request_bytes},
    support::Node,
};

mod content;
mod entities;
mod feeds;
mod publishing;
mod store;
mod transfer;

/// A method, a request, and the field that is rejected as FIELD_INVALID.
type Invalid = (&'static str, Value, &'static str);

/// The entities other than articles: message, field of requests, collection of names, and a valid entity.
const ENTITIES: [(&str, &str, &str, &str); 4] = [
    ("Author", "author", "authors", "display_name"),
    ("Section", "section", "sections", "display_name"),
    ("Tag", "tag", "tags", "display_name"),
    ("Collection", "collection", "collections", "title"),
];

async fn start() -> (tempfile::TempDir, Node, Raw) {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let raw = Raw::to(&node).await;
    (dir, node, raw)
}

/// Sends every request and compares all errors, so that one run shows every fault.
async fn all_invalid(raw: &Raw, table: Vec<Invalid>) {
    let mut wrong = Vec::new();
    for (method, request, field) in table {
        let wanted = refusal(Code::InvalidArgument, "FIELD_INVALID", field);
        let response = raw.call(method, request.clone()).await;
        let got = response.map_or_else(|r| (r.code, r.reason, r.field), |_| refusal(Code::Ok, "", ""));
        if got != wanted {
            wrong.push(format!("{method} {request}: {got:?}, not {field}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn refusal(code: Code, reason: &str, field: &str) -> (Code, String, String) {
    (code, reason.to_owned(), field.to_owned())
}

fn summary(refused: Result<Value, Refusal>) -> (Code, String, String) {
    match refused {
        Ok(response) => panic!("the request was accepted: {response}"),
        Err(refused) => (refused.code, refused.reason, refused.field),
    }
}

#[tokio::test]
async fn an_invalid_name_is_refused_by_every_method() {
    let (_dir, node, raw) = start().await;
    let long = format!("articles/{}", "a".repeat(129));
    let mut table: Vec<Invalid> = vec![
        ("BatchGetArticles", json!({"names": ["articles/a", "tags/b"]}), "names[1]"),
        ("BatchGetArticles", json!({"names": []}), "names"),
        ("ResolvePath", json!({"path": ""}), "path"),
        ("ResolvePath", json!({"path": "no-slash"}), "path"),
        ("ResolvePath", json!({"path": "//host/x"}), "path"),
        ("ResolvePath", json!({"path": "/a?b"}), "path"),
        ("GetAuthor", json!({"name": "articles/a"}), "name"),
        ("GetSection", json!({"name": "tags/a"}), "name"),
        ("GetTag", json!({"name": "sections/a"}), "name"),
        ("GetCollection", json!({"name": "collections/"}), "name"),
        ("RemoveAuthor", json!({"name": "tags/a", "reason": "DELETED"}), "name"),
        ("RemoveSection", json!({"name": "tags/a", "reason": "DELETED"}), "name"),
        ("RemoveTag", json!({"name": "", "reason": "DELETED"}), "name"),
        ("RemoveCollection", json!({"name": "collections/a b", "reason": "DELETED"}), "name"),
        ("PatchArticle", json!({"article": {"name": "tags/x", "headline": "H"}}), "article.name"),
        ("PatchArticle", json!({"article": {"headline": "H"}}), "article.name"),
    ];
    for name in
        ["", "a", "articles", "articles/", "articles/a/b", "articles/ä", "Articles/a", "tags/a", &long]
    {
        table.push(("GetArticle", json!({"name": name}), "name"));
        table.push(("PutArticle", json!({"article": {"name": name, "headline": "H"}}), "article.name"));
        table.push(("RemoveArticle", json!({"name": name, "reason": "REMOVAL_REASON_DELETED"}), "name"));
    }
    for (message, kind, _, title) in ENTITIES {
        let field = Box::leak(format!("{kind}.name").into_boxed_str());
        let method = Box::leak(format!("Put{message}").into_boxed_str());
        table.push((method, json!({kind: {"name": "articles/x", title: "T"}}), field));
    }
    for (_, request, _) in &mut table {
        if request["reason"] == "DELETED" {
            request["reason"] = json!("REMOVAL_REASON_DELETED");
        }
    }
    all_invalid(&raw, table).await;
    node.stop().await;
}

#[tokio::test]
async fn a_missing_name_is_not_found_with_the_reason_of_its_kind() {
    let (_dir, node, raw) = start().await;
    let deleted = "REMOVAL_REASON_DELETED";
    for (method, request, reason) in [
        ("GetArticle", json!({"name": "articles/a"}), "ARTICLE_NOT_FOUND"),
        ("PatchArticle", json!({"article": {"name": "articles/a", "dek": "D"}}), "ARTICLE_NOT_FOUND"),
        ("RemoveArticle", json!({"name": "articles/a", "reason": deleted}), "ARTICLE_NOT_FOUND"),
        ("ResolvePath", json!({"path": "/a"}), "ARTICLE_NOT_FOUND"),
        ("GetAuthor", json!({"name": "authors/a"}), "NAME_NOT_FOUND"),
        ("GetSection", json!({"name": "sections/a"}), "NAME_NOT_FOUND"),
        ("GetTag", json!({"name": "tags/a"}), "NAME_NOT_FOUND"),
        ("GetCollection", json!({"name": "collections/a"}), "NAME_NOT_FOUND"),
        ("RemoveAuthor", json!({"name": "authors/a", "reason": deleted}), "NAME_NOT_FOUND"),
        ("RemoveSection", json!({"name": "sections/a", "reason": deleted}), "NAME_NOT_FOUND"),
        ("RemoveTag", json!({"name": "tags/a", "reason": deleted}), "NAME_NOT_FOUND"),
        ("RemoveCollection", json!({"name": "collections/a", "reason": deleted}), "NAME_NOT_FOUND"),
    ] {
        let refused = raw.call(method, request).await.unwrap_err();
        assert_eq!((refused.code, &*refused.reason), (Code::NotFound, reason), "{method}");
    }
    node.stop().await;
}

#[tokio::test]
async fn malformed_requests_are_refused_by_every_method() {
    let (_dir, node, raw) = start().await;
    // Field 1 of a request is a name, a path, an entity, a filter, a page size or a record.
    let strings = [
        ("GetArticle", 1, "name"),
        ("BatchGetArticles", 1, "names"),
        ("ListArticles", 4, "page_token"),
        ("StreamArticles", 1, "filter.all_tags"),
        ("ResolvePath", 1, "path"),
        ("GetAuthor", 1, "name"),
        ("ListAuthors", 2, "page_token"),
        ("GetSection", 1, "name"),
        ("ListSections", 2, "page_token"),
        ("GetTag", 1, "name"),
        ("ListTags", 2, "page_token"),
        ("GetCollection", 1, "name"),
        ("ListCollections", 2, "page_token"),
        ("PutArticle", 3, "request_id"),
        ("PatchArticle", 4, "request_id"),
        ("RemoveArticle", 1, "name"),
        ("PutAuthor", 3, "request_id"),
        ("RemoveAuthor", 1, "name"),
        ("PutSection", 3, "request_id"),
        ("RemoveSection", 1, "name"),
        ("PutTag", 3, "request_id"),
        ("RemoveTag", 1, "name"),
        ("PutCollection", 3, "request_id"),
        ("RemoveCollection", 1, "name"),
        ("Commit", 2, "request_id"),
        ("Export", 2, "log_id"),
    ];
    let mut wrong = Vec::new();
    for (method, number, name) in strings {
        let value = if name == "filter.all_tags" { field(1, b"\xff\xfe") } else { b"\xff\xfe".to_vec() };
        let invalid = field(number, &value);
        let response = raw.send(method, invalid.clone().into()).await.map(|_| Value::Null);
        if summary(response.clone()) != refusal(Code::InvalidArgument, "FIELD_INVALID", name) {
            wrong.push((method, name, response));
        }
        let cut = invalid[..invalid.len() - 1].to_vec();
        let response = raw.send(method, cut.into()).await.map(|_| Value::Null);
        if !matches!(&response, Err(r) if r.code == Code::InvalidArgument && r.reason == "FIELD_INVALID") {
            wrong.push((method, "cut off", response));
        }
    }
    let cut = raw.send("Import", vec![0x12, 0x05, 0x0a].into()).await.map(|_| Value::Null);
    assert_eq!(summary(cut), refusal(Code::InvalidArgument, "FIELD_INVALID", "records"));
    assert!(wrong.is_empty(), "{wrong:#?}");
    node.stop().await;
}

#[tokio::test]
async fn a_request_one_byte_above_the_limit_is_refused() {
    let (_dir, node, raw) = start().await;
    let name = || request_bytes("GetTag", json!({"name": "tags/a"}));
    let tag = || request_bytes("PutTag", json!({"tag": {"name": "tags/a", "display_name": "A"}}));
    let chunk =
        || request_bytes("Import", json!({"records": [{"tag": {"name": "tags/a", "display_name": "A"}}]}));
    let (read, write) = (128 << 10, 4 << 20);
    raw.send("PutTag", padded(&tag(), write)).await.unwrap();
    raw.send("GetTag", padded(&name(), read)).await.unwrap();
    raw.send("Import", padded(&chunk(), write)).await.unwrap();
    for (method, request, limit, maximum) in [
        ("GetTag", name(), "read_request_bytes", read),
        ("PutTag", tag(), "write_request_bytes", write),
        ("Import", chunk(), "write_request_bytes", write),
    ] {
        let refused = raw.send(method, padded(&request, maximum + 1)).await.unwrap_err();
        let wanted = (Code::InvalidArgument, "LIMIT_EXCEEDED", "request");
        assert_eq!((refused.code, &*refused.reason, &*refused.field), wanted, "{method}");
        assert_eq!(refused.metadata["limit"], limit);
        assert_eq!(refused.metadata["maximum"], maximum.to_string());
        assert_eq!(refused.metadata["value"], (maximum + 1).to_string());
    }
    node.stop().await;
}

/// Reasons that no test here can produce, with the cause.
const ELSEWHERE: [(&str, &str); 5] = [
    ("UNSPECIFIED", "not used"),
    ("OVERLOADED", "needs more work than the queues hold"),
    ("DRAINING", "needs a call between the signal and the last response"),
    ("NODE_FAILED", "needs a part of the node that fails: src/server/failures.rs"),
    ("INTERNAL", "needs an internal error"),
];

/// Searches the sources of the tests for the reasons that they produce.
#[test]
fn every_reason_is_tested_or_excused() {
    let sources = [
        include_str!("access.rs"),
        include_str!("backups.rs"),
        include_str!("consumers.rs"),
        include_str!("refusals.rs"),
        include_str!("refusals/content.rs"),
        include_str!("refusals/entities.rs"),
        include_str!("refusals/feeds.rs"),
        include_str!("refusals/publishing.rs"),
        include_str!("refusals/store.rs"),
        include_str!("refusals/transfer.rs"),
        include_str!("requests.rs"),
        include_str!("limits.rs"),
        include_str!("partners/reads.rs"),
        include_str!("partners/visibility.rs"),
        include_str!("pending/paths.rs"),
        include_str!("pending/reads.rs"),
        include_str!("pending/removals.rs"),
        include_str!("pending/visibility.rs"),
        include_str!("pending/writes.rs"),
        include_str!("disk.rs"),
        include_str!("damage.rs"),
    ]
    .concat();
    let schema = include_str!("../../proto/cable/v1/errors.proto");
    let reasons = schema.lines().filter_map(|line| {
        let name = line.trim().strip_prefix("ERROR_REASON_")?.split_once(' ')?.0;
        Some(name.to_owned())
    });
    let reasons: Vec<String> = reasons.collect();
    assert_eq!(reasons.len(), 37);
    let is_mentioned = |reason: &String| {
        let title = reason.split('_').map(|word| word[..1].to_owned() + &word[1..].to_lowercase());
        sources.contains(&format!("\"{reason}\""))
            || sources.contains(&format!("ErrorReason::{}", title.collect::<String>()))
    };
    let missing: Vec<&String> = reasons.iter().filter(|reason| !is_mentioned(reason)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let excused = ELSEWHERE.map(|(reason, _)| reason.to_owned());
    assert!(excused.iter().all(|reason| reasons.contains(reason)));
}
