//! Each limit. A value at the limit is accepted, one above it is rejected with the limit's name.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde_json::{Value, json};
use tonic::Code;

use crate::{
    raw::{Raw, encode, field, padded, request_bytes},
    support::Node,
};

/// Limits that reject nothing under their own name, and their effect instead.
const ELSEWHERE: [(&str, &str); 10] = [
    ("check_request_bytes", "of calls outside cable.v1: see the tests of connections"),
    ("page_size", "larger values are reduced to the limit: see below"),
    ("page_bytes", "a page ends there and continues with its token"),
    ("id_bytes", "a longer id is a name of the wrong form: FIELD_INVALID, with the other bad names"),
    ("rendered_body_bytes", "found by calibration: see below"),
    ("rendered_article_bytes", "found by calibration: see below"),
    ("raw_html_steps", "found by calibration: see below"),
    ("page_read_bytes", "a page ends there and continues with its token: see below"),
    ("json_response_bytes", "of JSON over HTTP: see the tests of the web outputs"),
    ("commit_read_bytes", "of stored articles: see below"),
];

/// A limit, its value, a method, the rejected field, and a function that builds a request of the given size.
struct Bound {
    limit: &'static str,
    maximum: usize,
    method: &'static str,
    field: &'static str,
    request: fn(usize) -> Bytes,
}

macro_rules! bounds {
    ($($limit:literal $maximum:literal $method:literal $field:literal |$n:pat_param| $request:expr;)*) => {
        vec![$(Bound {
            limit: $limit, maximum: $maximum, method: $method, field: $field, request: |$n| $request,
        }),*]
    };
}

fn article(key: &str, value: Value) -> Bytes {
    let mut article = json!({"name": "articles/a", "headline": "H"});
    article[key] = value;
    request_bytes("PutArticle", json!({"article": article}))
}

fn blocks(blocks: Value) -> Bytes {
    article("body", json!({"blocks": blocks}))
}

fn raw_html(blocks_of: &[String]) -> Bytes {
    blocks(blocks_of.iter().map(|html| json!({"raw_html": {"html": html}})).collect())
}

fn put_entity(kind: &str, title: &str, key: &str, value: Value) -> Bytes {
    let lower = kind.to_lowercase();
    let mut entity = json!({"name": format!("{lower}s/a")});
    entity[title] = json!("T");
    entity[key] = value;
    request_bytes(&format!("Put{kind}"), json!({lower: entity}))
}

fn author(key: &str, value: Value) -> Bytes {
    put_entity("Author", "display_name", key, value)
}

fn text(length: usize) -> String {
    "x".repeat(length)
}

fn many(count: usize, one: impl Fn(usize) -> Value) -> Value {
    (0..count).map(one).collect()
}

/// Returns an entity whose content, without its name, has exactly this length.
fn sized(kind: &str, title: &str, length: usize) -> Vec<u8> {
    let name = field(1, format!("{}s/a", kind.to_lowercase()).as_bytes());
    let content = encode(kind, json!({title: "T"}));
    [&name[..], &padded(&content, length)].concat()
}

fn put_sized(kind: &str, title: &str, length: usize) -> Bytes {
    field(1, &sized(kind, title, length)).into()
}

fn nested(depth: usize) -> Value {
    (1..depth).fold(json!([{"divider": {}}]), |inner, _| json!([{"list": {"items": [{"blocks": inner}]}}]))
}

/// Returns a commit of four changes with this total length.
fn commit(length: usize) -> Bytes {
    let change = |i: usize, length: usize| {
        let entity = encode("Article", json!({"name": format!("articles/a{i}"), "headline": "H"}));
        // The change's own key and length around the article take 4 bytes.
        field(1, &field(1, &padded(&entity, length - 4)))
    };
    let quarter = length / 4;
    (0..4)
        .flat_map(|i| change(i, if i == 3 { length - 3 * quarter } else { quarter }))
        .collect::<Vec<_>>()
        .into()
}

fn bounds() -> Vec<Bound> {
    bounds! {
        "article_bytes" 1_048_576 "PutArticle" "article" |n| put_sized("Article", "headline", n);
        "author_bytes" 16_384 "PutAuthor" "author" |n| put_sized("Author", "display_name", n);
        "section_bytes" 8_192 "PutSection" "section" |n| put_sized("Section", "display_name", n);
        "tag_bytes" 8_192 "PutTag" "tag" |n| put_sized("Tag", "display_name", n);
        "collection_bytes" 131_072 "PutCollection" "collection" |n| put_sized("Collection", "title", n);
        "read_request_bytes" 131_072 "ListTags" "request" |n| padded(&[], n);
        "write_request_bytes" 4_194_304 "PutArticle" "request" |n| padded(&article("dek", json!("D")), n);
        "batch_names" 500 "BatchGetArticles" "names"
            |n| request_bytes("BatchGetArticles", json!({"names": many(n, |i| json!(format!("articles/b{i}")))}));
        "commit_changes" 500 "Commit" "changes" |n| {
            let put = |i| json!({"put_tag": {"name": format!("tags/t{i}"), "display_name": "T"}});
            request_bytes("Commit", json!({"changes": many(n, put)}))
        };
        "commit_bytes" 3_145_728 "Commit" "changes" |n| commit(n);
        "import_records" 1_000 "Import" "records" |n| {
            let record = |i| json!({"tag": {"name": format!("tags/t{i}"), "display_name": "T"}});
            request_bytes("Import", json!({"records": many(n, record)}))
        };
        "filter_names" 64 "ListArticles" "filter.all_tags" |n| {
            let tags = many(n, |i| json!(format!("tags/t{i}")));
            request_bytes("ListArticles", json!({"filter": {"all_tags": tags}}))
        };
        "filter_names" 64 "StreamArticles" "filter.authors" |n| {
            let authors = many(n, |i| json!(format!("authors/t{i}")));
            request_bytes("StreamArticles", json!({"filter": {"authors": authors}}))
        };
        "filter_types" 16 "ListArticles" "filter.types"
            |n| request_bytes("ListArticles", json!({"filter": {"types": many(n, |_| json!(1))}}));
        "request_id_bytes" 128 "PutTag" "request_id" |n| {
            request_bytes("PutTag", json!({"tag": {"name": "tags/a", "display_name": "T"}, "request_id": text(n)}))
        };
        "tags" 128 "PutArticle" "article.tags"
            |n| article("tags", many(n, |i| json!(format!("tags/t{i}"))));
        "credits" 64 "PutArticle" "article.byline.credits"
            |n| article("byline", json!({"credits": many(n, |_| json!({"display_name": "A"}))}));
        "additional_sections" 16 "PutArticle" "article.additional_sections"
            |n| article("additional_sections", many(n, |i| json!(format!("sections/s{i}"))));
        "elements" 50_000 "PutArticle" "article" |n| {
            let spans = [0x0a, 0x00].repeat(n - 1);
            let body = field(15, &field(1, &field(2, &spans)));
            field(1, &[field(1, b"articles/a"), field(11, b"H"), body].concat()).into()
        };
        "elements" 50_000 "PatchArticle" "request" |n| {
            let article = field(1, &[field(1, b"articles/a"), field(11, b"H")].concat());
            let masks = if n > 50_000 { [0x0a, 0x00].repeat(n) } else { field(1, b"headline") };
            [article, field(2, &masks)].concat().into()
        };
        "update_mask_paths" 64 "PatchArticle" "update_mask" |n| {
            let article = field(1, &[field(1, b"articles/a"), field(11, b"H")].concat());
            [article, field(2, &field(1, b"headline").repeat(n))].concat().into()
        };
        "body_source_bytes" 1_048_576 "PutArticle" "body_source.text" |n| {
            let article = json!({"name": "articles/a", "headline": "H"});
            request_bytes("PutArticle", json!({"article": article, "body_source": {"format": 2, "text": " ".repeat(n)}}))
        };
        "raw_html_bytes" 65_536 "PutArticle" "article.body.blocks[0].raw_html.html" |n| raw_html(&[text(n)]);
        "raw_html_tags" 2_000 "PutArticle" "article.body.blocks[0].raw_html.html" |n| raw_html(&["<br>".repeat(n)]);
        "raw_html_body_bytes" 262_144 "PutArticle" "article.body.blocks[4].raw_html.html" |n| {
            raw_html(&[text(65_536), text(65_536), text(65_536), text(65_000), text(n - 3 * 65_536 - 65_000)])
        };
        "blocks" 10_000 "PutArticle" "article.body.blocks" |n| blocks(many(n, |_| json!({"divider": {}})));
        "blocks" 10_000 "PutArticle" "article.body.blocks" |n| {
            let list = |i: usize| json!({"list": {"items": [{"blocks": many(i, |_| json!({"divider": {}}))}]}});
            blocks(json!([list(n / 2), list(n - n / 2 - 2)]))
        };
        "block_depth" 16 "PutArticle"
            "article.body.blocks[0].list.items[0].blocks[0].list.items[0].blocks[0].list.items[0].blocks[0]\
             .list.items[0].blocks[0].list.items[0].blocks[0].list.items[0].blocks[0].list.items[0].blocks[0]\
             .list.items[0].blocks[0].list.items[0].blocks[0].list.items[0].blocks[0].list.items[0].blocks[0]\
             .list.items[0].blocks[0].list.items[0].blocks[0].list.items[0].blocks[0].list.items[0].blocks[0]\
             .list.items[0].blocks"
            |n| blocks(nested(n));
        "alias_paths" 256 "PutArticle" "article.alias_paths"
            |n| article("alias_paths", many(n, |i| json!(format!("/p{i}"))));
        "alternative_headlines" 16 "PutArticle" "article.alternative_headlines" |n| {
            let headline = |i| json!({"role": format!("r{i}"), "text": "T"});
            article("alternative_headlines", many(n, headline))
        };
        "notices" 256 "PutArticle" "article.notices" |n| article("notices", many(n, |_| json!({"text": "N"})));
        "related" 256 "PutArticle" "article.related"
            |n| article("related", many(n, |i| json!({"article": format!("articles/r{i}")})));
        "alt_ids" 64 "PutArticle" "article.alt_ids" |n| article("alt_ids", many(n, |_| json!({"role": "r"})));
        "alt_ids" 64 "PutAuthor" "author.alt_ids"
            |n| author("alt_ids", (0..n).map(|i| (format!("r{i}"), json!("v"))).collect());
        "annotations" 64 "PutArticle" "article.annotations"
            |n| article("annotations", (0..n).map(|i| (format!("k{i}"), json!("v"))).collect());
        "annotations_bytes" 16_384 "PutArticle" "article.annotations"
            |n| article("annotations", json!({"key": text(n - 3)}));
        "author_alt_ids_bytes" 8_192 "PutAuthor" "author.alt_ids" |n| author("alt_ids", json!({"role": text(n - 4)}));
        "collection_articles" 500 "PutCollection" "collection.articles"
            |n| put_entity("Collection", "title", "articles", many(n, |i| json!(format!("articles/c{i}"))));
        "social_profiles" 32 "PutAuthor" "author.social_profiles"
            |n| author("social_profiles", many(n, |_| json!({"platform": "p"})));
        "external_ids" 64 "PutTag" "tag.external_ids"
            |n| put_entity("Tag", "display_name", "external_ids", many(n, |_| json!("e")));
        "cell_span" 1_000 "PutArticle" "article.body.blocks[0].table.rows[0].cells[0].row_span"
            |n| blocks(json!([{"table": {"rows": [{"cells": [{"row_span": n}]}]}}]));
        "token_bytes" 128 "PutArticle" "article.body.blocks[0].id" |n| blocks(json!([{"id": text(n)}]));
        "token_bytes" 128 "PutAuthor" "author.social_profiles[0].platform"
            |n| author("social_profiles", json!([{"platform": text(n)}]));
        "line_bytes" 1_024 "PutArticle" "article.headline" |n| article("headline", json!(text(n)));
        "line_bytes" 1_024 "PutArticle" "article.kicker" |n| article("kicker", json!(text(n)));
        "line_bytes" 1_024 "PutSection" "section.display_name"
            |n| put_entity("Section", "display_name", "display_name", json!(text(n)));
        "line_bytes" 1_024 "PutArticle" "article.lead_media.credit"
            |n| article("lead_media", json!({"credit": text(n)}));
        "path_bytes" 1_024 "PutArticle" "article.path" |n| article("path", json!(format!("/{}", text(n - 1))));
        "path_bytes" 1_024 "ResolvePath" "path"
            |n| request_bytes("ResolvePath", json!({"path": format!("/{}", text(n - 1))}));
        "url_bytes" 2_048 "PutArticle" "article.canonical_url" |n| article("canonical_url", json!(text(n)));
        "paragraph_bytes" 4_096 "PutArticle" "article.dek" |n| article("dek", json!(text(n)));
        "paragraph_bytes" 4_096 "PutSection" "section.tagline"
            |n| put_entity("Section", "display_name", "tagline", json!(text(n)));
        "paragraph_bytes" 4_096 "PutTag" "tag.description"
            |n| put_entity("Tag", "display_name", "description", json!(text(n)));
        "paragraph_bytes" 4_096 "PutCollection" "collection.description"
            |n| put_entity("Collection", "title", "description", json!(text(n)));
        "bio_bytes" 8_192 "PutAuthor" "author.bio" |n| author("bio", json!(text(n)));
        "bio_bytes" 8_192 "PutArticle" "article.notices[0].text" |n| article("notices", json!([{"text": text(n)}]));
        "max_wait_ms" 10_000 "ListTags" "freshness.max_wait" |n| {
            let wait = format!("{}.{:03}s", n / 1_000, n % 1_000);
            request_bytes("ListTags", json!({"freshness": {"max_wait": wait}}))
        };
    }
}

async fn started() -> (tempfile::TempDir, Node, Raw) {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let raw = Raw::to(&node).await;
    (dir, node, raw)
}

async fn limits(raw: &Raw) -> BTreeMap<String, usize> {
    let status = raw.call("GetStatus", json!({})).await.unwrap();
    let limit = |limit: &Value| {
        (limit["name"].as_str().unwrap().to_owned(), limit["maximum"].as_u64().unwrap() as usize)
    };
    status["limits"].as_array().unwrap().iter().map(limit).collect()
}

#[tokio::test]
async fn a_value_at_a_limit_is_accepted_and_one_above_is_refused() {
    let (_dir, node, raw) = started().await;
    let limits = limits(&raw).await;
    let mut wrong = Vec::new();
    for Bound { limit, maximum, method, field, request } in bounds() {
        assert_eq!(limits[limit], maximum, "{limit}");
        // A name or path that does not exist is a valid outcome: the request was decoded.
        if let Err(refused) = raw.send(method, request(maximum)).await
            && refused.code != Code::NotFound
        {
            wrong.push(format!("{limit} at {field}: {refused:?}"));
        }
        let Err(refused) = raw.send(method, request(maximum + 1)).await else {
            wrong.push(format!("one above {limit} at {field} was accepted"));
            continue;
        };
        let actual =
            ["limit", "maximum", "value"].map(|key| refused.metadata.get(key).cloned().unwrap_or_default());
        let wanted = [limit.to_owned(), maximum.to_string(), (maximum + 1).to_string()];
        let code = (refused.code, &*refused.reason, &*refused.field);
        if actual != wanted || code != (Code::InvalidArgument, "LIMIT_EXCEEDED", field) {
            wrong.push(format!("one above {limit} at {field}: {refused:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    node.stop().await;
}

#[tokio::test]
async fn every_limit_that_the_node_reports_is_tested() {
    let (_dir, node, raw) = started().await;
    let reported: BTreeSet<String> = limits(&raw).await.into_keys().collect();
    let mut tested: BTreeSet<String> = bounds().iter().map(|bound| bound.limit.to_owned()).collect();
    tested.extend(ELSEWHERE.map(|(limit, _)| limit.to_owned()));
    assert_eq!(reported, tested);
    node.stop().await;
}

#[tokio::test]
async fn a_body_rendered_one_byte_above_the_limit_is_refused() {
    let (_dir, node, raw) = started().await;
    let maximum = 1_048_576;
    // HTML is the longest form of empty cells; the text pads the body to its exact size.
    let rows = many(4_400, |_| json!({"cells": many(10, |_| json!({}))}));
    let body = |length: usize| {
        let table = json!({"table": {"rows": rows}});
        blocks(json!([table, {"paragraph": {"spans": [{"text": text(length)}]}}]))
    };
    let start = 800_000;
    let refused = raw.send("PutArticle", body(start)).await.unwrap_err();
    let value: usize = refused.metadata["value"].parse().unwrap();
    let at_limit = start - (value - maximum);
    let refused = raw.send("PutArticle", body(at_limit + 1)).await.unwrap_err();
    assert_eq!((&*refused.reason, &*refused.field), ("LIMIT_EXCEEDED", "article.body"));
    assert_eq!(refused.metadata["limit"], "rendered_body_bytes");
    assert_eq!(refused.metadata["value"], (maximum + 1).to_string());
    raw.send("PutArticle", body(at_limit)).await.unwrap();
    let request = json!({"name": "articles/a", "body_format": "BODY_FORMAT_HTML"});
    let read = raw.call("GetArticle", request).await.unwrap();
    assert_eq!(read["article"]["rendered_body"]["text"].as_str().unwrap().len(), maximum);
    node.stop().await;
}

#[tokio::test]
async fn an_article_with_its_rendered_body_has_a_limit() {
    let (_dir, node, raw) = started().await;
    let maximum = (1 << 20) + (64 << 10);
    let rows = many(4_400, |_| json!({"cells": many(10, |_| json!({}))}));
    let request = |length: usize| {
        let body = json!({"blocks": [{"table": {"rows": rows}}, {"paragraph": {"spans": [{"text": text(length)}]}}]});
        let notices = many(10, |_| json!({"text": text(8_000)}));
        let article = json!({"name": "articles/a", "headline": "H", "notices": notices, "body": body});
        request_bytes("PutArticle", json!({"article": article}))
    };
    let start = 605_000;
    let refused = raw.send("PutArticle", request(start)).await.unwrap_err();
    assert_eq!((&*refused.reason, &*refused.field), ("LIMIT_EXCEEDED", "article.body"));
    assert_eq!(refused.metadata["limit"], "rendered_article_bytes");
    let at_limit = start - (refused.metadata["value"].parse::<usize>().unwrap() - maximum);
    let refused = raw.send("PutArticle", request(at_limit + 1)).await.unwrap_err();
    assert_eq!(refused.metadata["value"], (maximum + 1).to_string());
    raw.send("PutArticle", request(at_limit)).await.unwrap();
    let request = json!({"name": "articles/a", "body_format": "BODY_FORMAT_HTML"});
    let read = raw.call("GetArticle", request).await.unwrap();
    let rendered = read["article"]["rendered_body"]["text"].as_str().unwrap().len();
    assert!((80_000..81_000).contains(&(maximum - rendered)), "{rendered}");
    node.stop().await;
}

#[tokio::test]
async fn expensive_html_is_refused_per_block_and_per_body() {
    let (_dir, node, raw) = started().await;
    let marks = |count: usize| (0..count).map(|i| format!("<b title=\"{i}\">")).collect::<String>();
    let html = |count: usize, paragraphs: usize| {
        format!("<p>{}{}{}</p>", marks(count), "<p>x</p>".repeat(paragraphs), "</b>".repeat(count))
    };
    let refused = raw.send("PutArticle", raw_html(&[html(90, 1_000)])).await.unwrap_err();
    assert_eq!(
        (&*refused.reason, &*refused.field),
        ("LIMIT_EXCEEDED", "article.body.blocks[0].raw_html.html")
    );
    assert_eq!(refused.metadata["limit"], "raw_html_steps");
    // Each of these is far below the bound of a block.
    let table = format!("<table><tbody><tr>{}</tr></tbody></table>", "<td><b>x</b></td>".repeat(900));
    raw.send("PutArticle", raw_html(std::slice::from_ref(&table))).await.unwrap();
    let refused = raw.send("PutArticle", raw_html(&vec![table; 12])).await.unwrap_err();
    assert_eq!(refused.metadata["limit"], "raw_html_steps");
    node.stop().await;
}

/// Puts articles of 1 MiB, most of it in a field that this server does not know.
async fn put_large(raw: &Raw, count: usize) {
    for i in 0..count {
        let article = [
            field(1, format!("articles/l{i:02}").as_bytes()),
            field(11, b"H"),
            field(99, &vec![7; 1 << 20][..1_048_000]),
        ];
        raw.send("PutArticle", field(1, &article.concat()).into()).await.unwrap();
    }
}

#[tokio::test]
async fn the_bytes_read_for_a_page_and_a_commit_are_limited() {
    let (_dir, node, raw) = started().await;
    put_large(&raw, 14).await;
    let page = raw.call("ListArticles", json!({"view": "ARTICLE_VIEW_REFERENCE"})).await.unwrap();
    assert_eq!(page["articles"].as_array().unwrap().len(), 12);
    let next = json!({"view": "ARTICLE_VIEW_REFERENCE", "page_token": page["next_page_token"]});
    let page = raw.call("ListArticles", next).await.unwrap();
    assert_eq!((page["articles"].as_array().unwrap().len(), &page["next_page_token"]), (2, &Value::Null));
    let patch = |i: usize| json!({"patch_article": {"article": {"name": format!("articles/l{i:02}"), "kicker": "K"}}});
    let commit = |count: usize| raw.call("Commit", json!({"changes": many(count, patch)}));
    let refused = commit(14).await.unwrap_err();
    assert_eq!((&*refused.reason, &*refused.field), ("LIMIT_EXCEEDED", "changes"));
    assert_eq!(refused.metadata["limit"], "commit_read_bytes");
    commit(8).await.unwrap();
    // An import reads batches of the same size, and continues.
    let record = |i: usize| json!({"article": {"name": format!("articles/l{i:02}"), "headline": "I"}});
    let response = raw.call("Import", json!({"records": many(14, record), "mode": 1})).await.unwrap();
    let written = response["results"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|one| one["outcome"] == "IMPORT_OUTCOME_WRITTEN");
    assert_eq!(written.count(), 14, "{response}");
    node.stop().await;
}

#[tokio::test]
async fn a_page_is_never_longer_than_the_limit() {
    let (_dir, node, raw) = started().await;
    for chunk in 0..2 {
        let record = |i| json!({"tag": {"name": format!("tags/t{chunk}-{i:04}"), "display_name": "T"}});
        raw.call("Import", json!({"records": many(501, record)})).await.unwrap();
    }
    let page = raw.call("ListTags", json!({"page_size": i32::MAX})).await.unwrap();
    assert_eq!(page["tags"].as_array().unwrap().len(), 1_000);
    let next = json!({"page_size": i32::MAX, "page_token": page["next_page_token"]});
    let page = raw.call("ListTags", next).await.unwrap();
    assert_eq!((page["tags"].as_array().unwrap().len(), &page["next_page_token"]), (2, &Value::Null));
    node.stop().await;
}
