//! Invalid input at each call, with the code, the reason and the field that the table of `errors.proto` promises.

use std::time::Duration;

use cable::{clock::Clock, config::Config};
use serde_json::{Value, json};
use tonic::Code;

use crate::{
    raw::{Raw, Refusal, encode, field, padded, request_bytes},
    support::Node,
};

/// A method, a request, and the field that is rejected as FIELD_INVALID.
type Invalid = (&'static str, Value, &'static str);

fn refusal(code: Code, reason: &str, field: &str) -> (Code, String, String) {
    (code, reason.to_owned(), field.to_owned())
}

fn summary(refused: Result<Value, Refusal>) -> (Code, String, String) {
    match refused {
        Ok(response) => panic!("the request was accepted: {response}"),
        Err(refused) => (refused.code, refused.reason, refused.field),
    }
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

async fn start() -> (tempfile::TempDir, Node, Raw) {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let raw = Raw::to(&node).await;
    (dir, node, raw)
}

/// The entities other than articles: message, field of requests, collection of names, and a valid entity.
const ENTITIES: [(&str, &str, &str, &str); 4] = [
    ("Author", "author", "authors", "display_name"),
    ("Section", "section", "sections", "display_name"),
    ("Tag", "tag", "tags", "display_name"),
    ("Collection", "collection", "collections", "title"),
];

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
async fn an_invalid_read_field_is_refused_with_its_path() {
    let (_dir, node, raw) = start().await;
    let mut table: Vec<Invalid> = vec![
        ("ListArticles", json!({"filter": {"all_tags": ["tags/a", "sections/b"]}}), "filter.all_tags[1]"),
        ("ListArticles", json!({"filter": {"any_tags": ["a"]}}), "filter.any_tags[0]"),
        ("ListArticles", json!({"filter": {"none_tags": ["tags/"]}}), "filter.none_tags[0]"),
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
async fn an_invalid_entity_field_is_refused_with_its_path() {
    let (_dir, node, raw) = start().await;
    let article = |field: &str, value: Value| {
        let mut article = json!({"name": "articles/a", "headline": "H"});
        article[field] = value;
        json!({"article": article})
    };
    let block = |block: Value| article("body", json!({"blocks": [{}, block]}));
    let mut table: Vec<Invalid> = vec![
        ("PutArticle", json!({}), "article"),
        ("PutArticle", article("headline", json!(" ")), "article.headline"),
        ("PutArticle", article("section", json!("tags/a")), "article.section"),
        (
            "PutArticle",
            article("additional_sections", json!(["sections/a", "x"])),
            "article.additional_sections[1]",
        ),
        ("PutArticle", article("tags", json!(["tags/a", "tags/a"])), "article.tags[1]"),
        (
            "PutArticle",
            article("byline", json!({"credits": [{"author": "x"}]})),
            "article.byline.credits[0].author",
        ),
        ("PutArticle", article("path", json!("x")), "article.path"),
        ("PutArticle", article("alias_paths", json!(["/a", "//b"])), "article.alias_paths[1]"),
        ("PutArticle", article("canonical_url", json!("javascript:x")), "article.canonical_url"),
        ("PutArticle", article("language", json!("e")), "article.language"),
        ("PutArticle", article("related", json!([{"article": "x"}])), "article.related[0].article"),
        ("PutArticle", article("alt_ids", json!([{"value": "x"}])), "article.alt_ids[0].role"),
        (
            "PutArticle",
            article("lead_media", json!({"renditions": [{"href": "data:x"}]})),
            "article.lead_media.renditions[0].href",
        ),
        ("PutArticle", block(json!({"heading": {"level": 1}})), "article.body.blocks[1].heading.level"),
        (
            "PutArticle",
            block(json!({"raw_html": {"html": "<script>x</script>"}})),
            "article.body.blocks[1].raw_html.html",
        ),
        (
            "PutArticle",
            block(json!({"paragraph": {"spans": [{"text": "x", "link": {"href": "javascript:x"}}]}})),
            "article.body.blocks[1].paragraph.spans[0].link.href",
        ),
        ("PutArticle", block(json!({"embed": {"url": ""}})), "article.body.blocks[1].embed.url"),
        (
            "PutArticle",
            block(json!({"table": {"rows": [{"cells": [{"column_span": -1}]}]}})),
            "article.body.blocks[1].table.rows[0].cells[0].column_span",
        ),
        ("PutAuthor", json!({"author": {"name": "authors/a"}}), "author.display_name"),
        (
            "PutAuthor",
            json!({"author": {"name": "authors/a", "display_name": "A", "social_profiles": [{}]}}),
            "author.social_profiles[0].platform",
        ),
        ("PutSection", json!({"section": {"name": "sections/a"}}), "section.display_name"),
        (
            "PutSection",
            json!({"section": {"name": "sections/a", "display_name": "A", "parent": "x"}}),
            "section.parent",
        ),
        ("PutTag", json!({"tag": {"name": "tags/a"}}), "tag.display_name"),
        ("PutCollection", json!({"collection": {"name": "collections/a"}}), "collection.title"),
        (
            "PutCollection",
            json!({"collection": {"name": "collections/a", "title": "T", "articles": ["tags/x"]}}),
            "collection.articles[0]",
        ),
    ];
    for (message, kind, _, _) in ENTITIES {
        let method = Box::leak(format!("Put{message}").into_boxed_str());
        table.push((method, json!({}), kind));
    }
    all_invalid(&raw, table).await;
    let time = field(
        1,
        &[&field(1, b"articles/a")[..], &field(11, b"H"), &field(25, &[0x10, 0xff, 0xff, 0xff, 0xff, 0x0f])]
            .concat(),
    );
    let response = raw.send("PutArticle", time.into()).await.map(|_| Value::Null);
    assert_eq!(summary(response), refusal(Code::InvalidArgument, "FIELD_INVALID", "article.publish_time"));
    node.stop().await;
}

/// Returns every text of every entity, by its path: `(method, request with that text, field)`.
fn texts(value: &str) -> Vec<(&'static str, Value, String)> {
    let mut table = Vec::new();
    let article = |field: &str, content: Value| {
        let mut article = json!({"name": "articles/a", "headline": "H"});
        article[field] = content;
        json!({"article": article})
    };
    let span = || json!([{"text": value}]);
    let media = || json!({"alt_text": value});
    let simple = ["headline", "dek", "kicker", "summary"].map(|field| (field, json!(value), ""));
    let nested = [
        ("byline", json!({"text": value}), ".text"),
        ("byline", json!({"credits": [{"display_name": value}]}), ".credits[0].display_name"),
        ("byline", json!({"credits": [{"role": value}]}), ".credits[0].role"),
        ("rights", json!({"copyright_notice": value}), ".copyright_notice"),
        ("rights", json!({"usage_terms": value}), ".usage_terms"),
        ("source", json!({"name": value}), ".name"),
        ("embargo", json!({"note": value}), ".note"),
        ("notices", json!([{"text": value}]), "[0].text"),
        ("related", json!([{"article": "articles/b", "kind": value}]), "[0].kind"),
        ("alt_ids", json!([{"role": value}]), "[0].role"),
        ("alt_ids", json!([{"role": "r", "value": value}]), "[0].value"),
        ("annotations", json!({"k": value}), "[\"k\"]"),
        ("path", json!(format!("/{value}")), ""),
        ("alias_paths", json!([format!("/{value}")]), "[0]"),
        ("canonical_url", json!(format!("/{value}")), ""),
        ("lead_media", media(), ".alt_text"),
        ("lead_media", json!({"caption": span()}), ".caption[0].text"),
        ("lead_media", json!({"credit": value}), ".credit"),
        ("lead_media", json!({"creator": value}), ".creator"),
        ("lead_media", json!({"supplier": value}), ".supplier"),
        ("lead_media", json!({"copyright_notice": value}), ".copyright_notice"),
        ("lead_media", json!({"renditions": [{"href": "/a", "type": value}]}), ".renditions[0].type"),
    ];
    for (field, content, rest) in simple.into_iter().chain(nested) {
        table.push(("PutArticle", article(field, content), format!("article.{field}{rest}")));
    }
    let blocks = [
        (json!({"paragraph": {"spans": span()}}), "paragraph.spans[0].text"),
        (
            json!({"paragraph": {"spans": [{"text": "x", "link": {"href": "/a", "title": value}}]}}),
            "paragraph.spans[0].link.title",
        ),
        (json!({"heading": {"spans": span()}}), "heading.spans[0].text"),
        (
            json!({"list": {"items": [{"blocks": [{"paragraph": {"spans": span()}}]}]}}),
            "list.items[0].blocks[0].paragraph.spans[0].text",
        ),
        (
            json!({"quote": {"blocks": [{"heading": {"spans": span()}}]}}),
            "quote.blocks[0].heading.spans[0].text",
        ),
        (json!({"quote": {"attribution": span()}}), "quote.attribution[0].text"),
        (json!({"pull_quote": {"spans": span()}}), "pull_quote.spans[0].text"),
        (json!({"pull_quote": {"attribution": span()}}), "pull_quote.attribution[0].text"),
        (json!({"image": {"media": media()}}), "image.media.alt_text"),
        (json!({"gallery": {"media": [{}, media()]}}), "gallery.media[1].alt_text"),
        (json!({"gallery": {"caption": span()}}), "gallery.caption[0].text"),
        (json!({"embed": {"url": "/a", "title": value}}), "embed.title"),
        (json!({"embed": {"url": "/a", "fallback_text": value}}), "embed.fallback_text"),
        (json!({"embed": {"url": "/a", "provider": value}}), "embed.provider"),
        (json!({"embed": {"url": "/a", "caption": span()}}), "embed.caption[0].text"),
        (json!({"code": {"text": value}}), "code.text"),
        (json!({"code": {"language": value}}), "code.language"),
        (
            json!({"table": {"rows": [{"cells": [{}, {"spans": span()}]}]}}),
            "table.rows[0].cells[1].spans[0].text",
        ),
        (json!({"table": {"caption": span()}}), "table.caption[0].text"),
        (json!({"raw_html": {"html": value}}), "raw_html.html"),
        (json!({"raw_html": {"reason": value}}), "raw_html.reason"),
        (json!({"id": value}), "id"),
    ];
    for (block, path) in blocks {
        let field = format!("article.body.blocks[0].{path}");
        table.push(("PutArticle", article("body", json!({"blocks": [block]})), field));
    }
    let nouns = [
        ("PutAuthor", "author", "display_name", json!(value), ""),
        ("PutAuthor", "author", "bio", json!(value), ""),
        ("PutAuthor", "author", "job_title", json!(value), ""),
        ("PutAuthor", "author", "affiliation", json!(value), ""),
        ("PutAuthor", "author", "social_profiles", json!([{"platform": value}]), "[0].platform"),
        ("PutAuthor", "author", "social_profiles", json!([{"platform": "p", "handle": value}]), "[0].handle"),
        ("PutAuthor", "author", "image", media(), ".alt_text"),
        ("PutAuthor", "author", "alt_ids", json!({"k": value}), "[\"k\"]"),
        ("PutSection", "section", "display_name", json!(value), ""),
        ("PutSection", "section", "tagline", json!(value), ""),
        ("PutSection", "section", "path", json!(format!("/{value}")), ""),
        ("PutTag", "tag", "display_name", json!(value), ""),
        ("PutTag", "tag", "description", json!(value), ""),
        ("PutTag", "tag", "external_ids", json!([value]), "[0]"),
        ("PutCollection", "collection", "title", json!(value), ""),
        ("PutCollection", "collection", "description", json!(value), ""),
    ];
    for (method, kind, field, content, rest) in nouns {
        let mut entity = json!({"name": format!("{kind}s/a")});
        entity[if kind == "collection" { "title" } else { "display_name" }] = json!("T");
        entity[field] = content;
        table.push((method, json!({kind: entity}), format!("{kind}.{field}{rest}")));
    }
    table
}

#[tokio::test]
async fn invisible_and_misleading_characters_are_refused() {
    let (_dir, node, raw) = start().await;
    for c in ["\0", "\u{1b}", "\u{1c}", "\u{85}", "\u{202e}", "\u{2066}", "\u{feff}", "\u{fffe}", "\u{ffff}"]
    {
        for (method, request, field) in texts(&format!("a{c}b")) {
            let response = raw.call(method, request).await;
            assert_eq!(summary(response), refusal(Code::InvalidArgument, "FIELD_INVALID", &field), "{c:?}");
        }
    }
    for (method, request, field) in texts("می\u{200c}خواهم👩\u{200d}🚀") {
        let response = raw.call(method, request).await;
        assert!(response.is_ok(), "{field}: {response:?}");
    }
    node.stop().await;
}

#[tokio::test]
async fn blank_required_texts_and_dot_ids_are_refused() {
    let (_dir, node, raw) = start().await;
    let mut table: Vec<Invalid> = Vec::new();
    for blank in [" ", "\u{200b}", "\u{2060}\u{ad}", "\u{3164}"] {
        table.push((
            "PutArticle",
            json!({"article": {"name": "articles/a", "headline": blank}}),
            "article.headline",
        ));
        table.push(("PutTag", json!({"tag": {"name": "tags/a", "display_name": blank}}), "tag.display_name"));
        table.push((
            "PutCollection",
            json!({"collection": {"name": "collections/a", "title": blank}}),
            "collection.title",
        ));
    }
    for id in [".", ".."] {
        let name = |kind: &str| format!("{kind}/{id}");
        table.push((
            "PutArticle",
            json!({"article": {"name": name("articles"), "headline": "H"}}),
            "article.name",
        ));
        table.push(("PutTag", json!({"tag": {"name": name("tags"), "display_name": "T"}}), "tag.name"));
        table.push(("GetArticle", json!({"name": name("articles")}), "name"));
        let tags = json!({"article": {"name": "articles/a", "headline": "H", "tags": [name("tags")]}});
        table.push(("PutArticle", tags, "article.tags[0]"));
    }
    all_invalid(&raw, table).await;
    node.stop().await;
}

#[tokio::test]
async fn script_and_misleading_urls_are_refused() {
    let (_dir, node, raw) = start().await;
    let article = |field: &str, content: Value| {
        let mut article = json!({"name": "articles/a", "headline": "H"});
        article[field] = content;
        json!({"article": article})
    };
    let links = |url: &str| -> Vec<(&'static str, Value, &'static str)> {
        let block = |block: Value| article("body", json!({"blocks": [block]}));
        vec![
            ("PutArticle", article("canonical_url", json!(url)), "article.canonical_url"),
            (
                "PutArticle",
                article("lead_media", json!({"renditions": [{"href": url}]})),
                "article.lead_media.renditions[0].href",
            ),
            (
                "PutArticle",
                block(json!({"paragraph": {"spans": [{"text": "x", "link": {"href": url}}]}})),
                "article.body.blocks[0].paragraph.spans[0].link.href",
            ),
            ("PutArticle", block(json!({"image": {"href": url}})), "article.body.blocks[0].image.href"),
            ("PutArticle", block(json!({"embed": {"url": url}})), "article.body.blocks[0].embed.url"),
            (
                "PutAuthor",
                json!({"author": {"name": "authors/a", "display_name": "A",
              "social_profiles": [{"platform": "p", "url": url}]}}),
                "author.social_profiles[0].url",
            ),
        ]
    };
    let ids = |url: &str| -> Vec<(&'static str, Value, &'static str)> {
        vec![
            (
                "PutArticle",
                article("alt_ids", json!([{"role": "r", "value": url}])),
                "article.alt_ids[0].value",
            ),
            (
                "PutAuthor",
                json!({"author": {"name": "authors/a", "display_name": "A", "alt_ids": {"r": url}}}),
                "author.alt_ids[\"r\"]",
            ),
            (
                "PutAuthor",
                json!({"author": {"name": "authors/a", "display_name": "A",
              "social_profiles": [{"platform": "p", "handle": url}]}}),
                "author.social_profiles[0].handle",
            ),
            (
                "PutTag",
                json!({"tag": {"name": "tags/a", "display_name": "T", "external_ids": [url]}}),
                "tag.external_ids[0]",
            ),
        ]
    };
    let runs = ["javascript:alert(1)", "JavaScript:x", "vbscript:x", "data:text/html,x"];
    for url in runs {
        all_invalid(&raw, [links(url), ids(url)].concat()).await;
    }
    for url in [" javascript:x", "java script:x"] {
        all_invalid(&raw, ids(url)).await;
    }
    let astray = [
        "\\\\evil.example",
        "/\\evil.example",
        "http:javascript:x",
        "https:/a",
        "http:///a",
        "java\tscript:x",
        "ja\u{200b}vascript:x",
    ];
    for url in astray {
        all_invalid(&raw, links(url)).await;
    }
    for url in ["https://example.org/a:b", "//example.org", "/a", "mailto:a@b.c"] {
        for (method, request, field) in links(url) {
            assert!(raw.call(method, request).await.is_ok(), "{url} at {field}");
        }
    }
    for id in ["medtop:20000055", "urn:uuid:1", "Q42", "http://www.wikidata.org/entity/Q42", "7"] {
        for (method, request, field) in ids(id) {
            assert!(raw.call(method, request).await.is_ok(), "{id} at {field}");
        }
    }
    node.stop().await;
}

#[tokio::test]
async fn the_options_of_a_write_are_checked_by_every_method() {
    let (_dir, node, raw) = start().await;
    raw.call("PutArticle", json!({"article": {"name": "articles/a", "headline": "H"}})).await.unwrap();
    let deleted = "REMOVAL_REASON_DELETED";
    let writes = [
        ("PutArticle", json!({"article": {"name": "articles/a", "headline": "H"}})),
        ("PatchArticle", json!({"article": {"name": "articles/a", "headline": "H"}})),
        ("RemoveArticle", json!({"name": "articles/a", "reason": deleted})),
        ("PutAuthor", json!({"author": {"name": "authors/a", "display_name": "A"}})),
        ("RemoveAuthor", json!({"name": "authors/a", "reason": deleted})),
        ("PutSection", json!({"section": {"name": "sections/a", "display_name": "A"}})),
        ("RemoveSection", json!({"name": "sections/a", "reason": deleted})),
        ("PutTag", json!({"tag": {"name": "tags/a", "display_name": "A"}})),
        ("RemoveTag", json!({"name": "tags/a", "reason": deleted})),
        ("PutCollection", json!({"collection": {"name": "collections/a", "title": "A"}})),
        ("RemoveCollection", json!({"name": "collections/a", "reason": deleted})),
    ];
    let mut table: Vec<Invalid> = Vec::new();
    for (method, request) in writes {
        let with = |field: &str, value: Value| {
            let mut request = request.clone();
            request[field] = value;
            request
        };
        table.push((method, with("request_id", json!("a b")), "request_id"));
        table.push((method, with("precondition", json!({"etag": ""})), "precondition.etag"));
        let absent = with("precondition", json!({"must_be_absent": false}));
        table.push((method, absent, "precondition.must_be_absent"));
        if method.starts_with("Remove") {
            table.push((method, with("reason", json!(0)), "reason"));
            table.push((method, with("reason", json!(99)), "reason"));
            table.push((method, with("reason", json!("REMOVAL_REASON_EXPIRED")), "reason"));
            table.push((method, with("reason", json!("REMOVAL_REASON_MOVED")), "moved_to"));
            table.push((method, with("moved_to", request["name"].clone()), "moved_to"));
            table.push((method, with("moved_to", json!("elsewhere/x")), "moved_to"));
        }
        if method.ends_with("Article") && method != "RemoveArticle" {
            table.push((method, with("update_kind", json!(99)), "update_kind"));
        }
    }
    for mask in ["colour", "revision", "name", "byline.text", "*,headline"] {
        let request = json!({"article": {"name": "articles/a", "headline": "H"}, "update_mask": mask});
        table.push(("PatchArticle", request, "update_mask"));
    }
    table.push(("PatchArticle", json!({}), "article"));
    let patch = json!({"article": {"name": "articles/a"}, "update_mask": "headline"});
    table.push(("PatchArticle", patch, "article.headline"));
    let backfill =
        json!({"article": {"name": "articles/a", "headline": "I"}, "update_kind": "UPDATE_KIND_BACKFILL"});
    table.push(("PutArticle", backfill, "update_kind"));
    all_invalid(&raw, table).await;
    node.stop().await;
}

#[tokio::test]
async fn an_invalid_change_of_a_commit_is_refused_with_its_index() {
    let (_dir, node, raw) = start().await;
    let valid = json!({"put_tag": {"name": "tags/a", "display_name": "A"}});
    let commit = |change: Value| json!({"changes": [valid.clone(), change]});
    let article = json!({"name": "articles/a", "headline": "H"});
    let deleted = "REMOVAL_REASON_DELETED";
    let table: Vec<Invalid> = vec![
        ("Commit", json!({}), "changes"),
        ("Commit", commit(json!({})), "changes[1].change"),
        ("Commit", commit(json!({"put_article": {"name": "articles/a"}})), "changes[1].put_article.headline"),
        ("Commit", commit(json!({"put_author": {"name": "x"}})), "changes[1].put_author.display_name"),
        (
            "Commit",
            commit(json!({"put_section": {"name": "x", "display_name": "A"}})),
            "changes[1].put_section.name",
        ),
        ("Commit", commit(json!({"put_tag": {"name": "tags/b"}})), "changes[1].put_tag.display_name"),
        (
            "Commit",
            commit(json!({"put_collection": {"name": "collections/b"}})),
            "changes[1].put_collection.title",
        ),
        ("Commit", commit(json!({"patch_article": {}})), "changes[1].patch_article.article"),
        (
            "Commit",
            commit(json!({"patch_article": {"article": {"name": "x"}}})),
            "changes[1].patch_article.article.name",
        ),
        (
            "Commit",
            commit(json!({"patch_article": {"article": article, "update_mask": "colour"}})),
            "changes[1].patch_article.update_mask",
        ),
        ("Commit", commit(json!({"remove": {"name": "x", "reason": deleted}})), "changes[1].remove.name"),
        ("Commit", commit(json!({"remove": {"name": "tags/b"}})), "changes[1].remove.reason"),
        (
            "Commit",
            commit(json!({"remove": {"name": "tags/b", "reason": "REMOVAL_REASON_MOVED"}})),
            "changes[1].remove.moved_to",
        ),
        (
            "Commit",
            commit(json!({"remove": {"name": "tags/b", "reason": deleted}, "precondition": {"etag": ""}})),
            "changes[1].precondition.etag",
        ),
        (
            "Commit",
            commit(json!({"put_article": article, "precondition": {"must_be_absent": false}})),
            "changes[1].precondition.must_be_absent",
        ),
        ("Commit", commit(json!({"put_article": article, "update_kind": 99})), "changes[1].update_kind"),
        ("Commit", commit(valid.clone()), "changes[1].put_tag.name"),
        ("Commit", json!({"changes": [valid], "request_id": "a b"}), "request_id"),
    ];
    all_invalid(&raw, table).await;
    assert_eq!(raw.call("ListTags", json!({})).await.unwrap()["tags"], Value::Null, "no change was applied");
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
async fn text_that_is_not_utf8_is_refused_in_every_entity() {
    let (_dir, node, raw) = start().await;
    let named = |name: &[u8], rest: Vec<u8>| [&field(1, name)[..], &rest].concat();
    let bad = b"\xc3\x28";
    let span = field(15, &field(1, &field(2, &field(1, &field(1, bad)))));
    for (method, entity, wanted) in [
        ("PutArticle", named(b"articles/a", field(11, bad)), "article.headline"),
        ("PutArticle", named(b"articles/a", field(20, bad)), "article.tags"),
        ("PutArticle", named(b"articles/a", span.clone()), "article.body.blocks.kind.spans.text"),
        ("PatchArticle", named(b"articles/a", field(12, bad)), "article.dek"),
        ("PutAuthor", named(b"authors/a", field(11, bad)), "author.bio"),
        ("PutSection", named(b"sections/a", field(11, bad)), "section.tagline"),
        ("PutTag", named(b"tags/a", field(12, bad)), "tag.description"),
        ("PutCollection", named(b"collections/a", field(11, bad)), "collection.description"),
    ] {
        if method == "PatchArticle" {
            let article = json!({"article": {"name": "articles/a", "headline": "H"}});
            raw.call("PutArticle", article).await.unwrap();
        }
        let response = raw.send(method, field(1, &entity).into()).await.map(|_| Value::Null);
        assert_eq!(summary(response), refusal(Code::InvalidArgument, "FIELD_INVALID", wanted), "{method}");
    }
    // Only the bad record of an import is rejected; the next one is accepted.
    let valid = encode("Record", json!({"tag": {"name": "tags/a", "display_name": "A"}}));
    let record = field(1, &named(b"articles/b", span));
    let chunk = [field(2, &record), field(2, &valid)].concat();
    let ack = raw.send("Import", chunk.into()).await.unwrap().remove(0);
    assert_eq!(ack["results"][0]["outcome"], "IMPORT_OUTCOME_REFUSED");
    assert_eq!(ack["results"][0]["error"]["reason"], "ERROR_REASON_FIELD_INVALID");
    assert_eq!(ack["results"][0]["error"]["code"], 3);
    assert_eq!(ack["results"][0]["error"]["field"], "body.blocks.kind.spans.text");
    assert_eq!(ack["results"][1]["outcome"], "IMPORT_OUTCOME_WRITTEN");
    node.stop().await;
}

#[tokio::test]
async fn an_invalid_import_record_is_refused_with_its_field() {
    let (_dir, node, raw) = start().await;
    let empty = raw.call("Import", json!({"chunk": 7})).await;
    assert_eq!(summary(empty), refusal(Code::InvalidArgument, "FIELD_INVALID", "records"));
    let moved = "REMOVAL_REASON_MOVED";
    let table = [
        (json!({}), ""),
        (json!({"article": {"name": "articles/a"}}), "headline"),
        (json!({"author": {"name": "tags/a", "display_name": "A"}}), "name"),
        (json!({"tombstone": {"name": "x", "reason": moved}}), "name"),
        (json!({"tombstone": {"name": "tags/x", "reason": 99}}), "reason"),
        (json!({"tombstone": {"name": "tags/x", "reason": moved}}), "moved_to"),
        (json!({"tombstone": {"name": "tags/x", "reason": moved, "moved_to": "articles/x"}}), "moved_to"),
        (json!({"tombstone": {"name": "articles/x", "reason": 4, "paths": ["/a", "b"]}}), "paths[1]"),
        (
            json!({"article": {"name": "articles/a", "headline": "H", "create_time": "9999-12-31T23:59:59Z"}}),
            "WRITTEN",
        ),
    ];
    let records: Vec<Value> = table.iter().map(|(record, _)| record.clone()).collect();
    let ack = raw.call("Import", json!({"chunk": 7, "records": records})).await.unwrap();
    assert_eq!(ack["chunk"], 7);
    for (i, (record, wanted)) in table.iter().enumerate() {
        let result = &ack["results"][i];
        if *wanted == "WRITTEN" {
            assert_eq!(result["outcome"], "IMPORT_OUTCOME_WRITTEN", "{record}");
            continue;
        }
        assert_eq!(result["error"]["reason"], "ERROR_REASON_FIELD_INVALID", "{record}: {result}");
        assert_eq!(result["error"]["field"].as_str().unwrap_or_default(), *wanted, "{record}: {result}");
    }
    // An invalid time that no JSON can hold: year 300,000.
    let time = field(4, &[0x08, 0x80, 0xc0, 0xca, 0xf3, 0x84, 0xa3, 0x02]);
    let tag = [field(1, b"tags/late"), field(10, b"Late"), time].concat();
    let chunk = field(2, &field(4, &tag));
    let ack = raw.send("Import", chunk.into()).await.unwrap().remove(0);
    assert_eq!(ack["results"][0]["error"]["field"], "create_time", "{ack}");
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

#[tokio::test]
async fn a_feed_that_cannot_resume_returns_the_known_revisions() {
    let dir = tempfile::tempdir().unwrap();
    let (clock, hands) = Clock::manual(0);
    let short_history = |config: &mut Config| {
        (config.feed.history_retention, config.feed.history_min_entries) = (Duration::from_secs(1), 3);
    };
    let node = Node::run(0, dir.path(), clock, short_history).await;
    let raw = Raw::to(&node).await;
    for n in 1..=10 {
        let tag = json!({"name": "tags/a", "display_name": n.to_string()});
        raw.call("PutTag", json!({"tag": tag})).await.unwrap();
    }
    // The node drops history once a minute.
    hands.set(60_000_000);
    while raw.call("GetStatus", json!({})).await.unwrap()["floor_revision"].is_null() {
        tokio::task::yield_now().await;
    }
    let refused = async |after: Value| raw.call("Watch", json!({"after": after})).await.unwrap_err();
    let compacted = refused(json!({"revision": 6})).await;
    let actual = (compacted.code, &*compacted.reason, &*compacted.field, compacted.retry);
    assert_eq!(actual, (Code::OutOfRange, "REVISION_COMPACTED", "after", false));
    let metadata = [("head_revision", "10"), ("oldest_revision", "7")];
    assert_eq!(compacted.metadata, metadata.map(|(key, value)| (key.into(), value.into())).into());

    let log_id = raw.call("GetStatus", json!({})).await.unwrap()["head"]["log_id"].clone();
    // A chain of 32 bytes that belongs to no log.
    let chain = format!("{}=", "A".repeat(43));
    for position in [json!({"revision": 8, "log_id": "00000001"}), json!({"revision": 8, "chain": chain})] {
        let changed = refused(position.clone()).await;
        let actual = (changed.code, &*changed.reason, &*changed.field, changed.retry);
        assert_eq!(actual, (Code::FailedPrecondition, "LOG_CHANGED", "", false), "{position}");
        assert_eq!(changed.metadata["log_id"], log_id.as_str().unwrap());
    }
    let ahead = refused(json!({"revision": 11})).await;
    assert_eq!((ahead.code, &*ahead.reason, ahead.retry), (Code::Unavailable, "NOT_CAUGHT_UP", true));
    assert_eq!(ahead.metadata["revision"], "10");
    node.stop().await;
}

#[tokio::test]
async fn a_feed_above_the_connection_limit_is_refused_as_retryable() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start_with(dir.path(), |config| config.connections.max_feeds = 1).await;
    let raw = Raw::to(&node).await;
    let _open = raw.stream("Watch", request_bytes("Watch", json!({}))).await.unwrap();
    let refused = raw.call("Watch", json!({})).await.unwrap_err();
    let actual = (refused.code, &*refused.reason, &*refused.field, refused.retry);
    assert_eq!(actual, (Code::ResourceExhausted, "TOO_MANY_FEEDS", "", true));
    assert!(refused.metadata.is_empty(), "{refused:?}");
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
async fn contradictory_times_are_refused_with_their_field() {
    let (_dir, node, raw) = start().await;
    let (past, later, latest) = ("2001-01-01T00:00:00Z", "2998-01-01T00:00:00Z", "2999-01-01T00:00:00Z");
    let article = |times: Value| {
        let mut article = json!({"name": "articles/a", "headline": "H"});
        article.as_object_mut().unwrap().extend(times.as_object().unwrap().clone());
        article
    };
    let ended = [
        json!({"expire_time": past}),
        json!({"expire_time": later, "publish_time": latest}),
        json!({"expire_time": later, "publish_time": later}),
        json!({"expire_time": later, "embargo": {"until": latest}}),
        json!({"expire_time": past, "embargo": {}}),
        json!({"expire_time": later, "publish_time": latest, "embargo": {}}),
    ];
    let mut table: Vec<Invalid> = Vec::new();
    for times in ended {
        table.push(("PutArticle", json!({"article": article(times.clone())}), "article.expire_time"));
        let commit = json!({"changes": [{"put_article": article(times)}]});
        table.push(("Commit", commit, "changes[0].put_article.expire_time"));
    }
    let later = article(json!({"publish_time": later}));
    table.push((
        "PutArticle",
        json!({"article": later, "update_kind": "UPDATE_KIND_BACKFILL"}),
        "update_kind",
    ));
    all_invalid(&raw, table).await;
    let record = json!({"article": article(json!({"expire_time": past}))});
    let ack = raw.call("Import", json!({"records": [record]})).await.unwrap();
    assert_eq!(ack["results"][0]["error"]["field"], "expire_time");
    let status = raw.call("GetStatus", json!({})).await.unwrap();
    assert_eq!(status["head"]["revision"], Value::Null, "{status}");
    node.stop().await;
}

#[tokio::test]
async fn invalid_pending_requests_are_refused_with_their_field() {
    let (_dir, node, raw) = start().await;
    let mut table: Vec<Invalid> = vec![
        ("GetPending", json!({"name": "tags/a"}), "name"),
        ("GetPending", json!({"name": "articles/a", "view": 9}), "view"),
        ("GetPending", json!({"name": "articles/a", "body_format": 9}), "body_format"),
        ("ListPending", json!({"page_size": -1}), "page_size"),
        ("ListPending", json!({"view": 9}), "view"),
        ("ListPending", json!({"body_format": "BODY_FORMAT_HTML"}), "body_format"),
        ("RemovePending", json!({"name": "articles/"}), "name"),
    ];
    let with = |field: &str, value: Value| {
        let mut request = json!({"name": "articles/a"});
        request[field] = value;
        request
    };
    table.push(("RemovePending", with("request_id", json!("a b")), "request_id"));
    table.push(("RemovePending", with("precondition", json!({"etag": ""})), "precondition.etag"));
    all_invalid(&raw, table).await;
    let token = raw.call("ListPending", json!({"page_token": "garbage"})).await;
    assert_eq!(summary(token), refusal(Code::InvalidArgument, "PAGE_TOKEN_INVALID", "page_token"));
    for method in ["GetPending", "RemovePending"] {
        let refused = raw.call(method, json!({"name": "articles/a"})).await.unwrap_err();
        assert_eq!((refused.code, &*refused.reason), (Code::NotFound, "ARTICLE_NOT_FOUND"), "{method}");
    }
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
const ELSEWHERE: [(&str, &str); 6] = [
    ("UNSPECIFIED", "not used"),
    ("NOT_SUPPORTED", "this release holds all that the schema has"),
    ("OVERLOADED", "needs more work than the queues hold"),
    ("DRAINING", "needs a call between the signal and the last response"),
    ("NODE_FAILED", "needs a part of the node that fails: src/server/failures.rs"),
    ("INTERNAL", "needs an internal error"),
];

#[tokio::test]
async fn a_full_disk_refuses_writes_and_serves_reads() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let tag = json!({"tag": {"name": "tags/a", "display_name": "A"}});
    Raw::to(&node).await.call("PutTag", tag).await.unwrap();
    node.stop().await;

    let node = Node::start_with(dir.path(), |config| config.store.reserve_bytes = u64::MAX).await;
    let raw = Raw::to(&node).await;
    let tag = json!({"tag": {"name": "tags/b", "display_name": "B"}});
    let records = json!({"records": [tag]});
    let commit = json!({"changes": [{"put_tag": tag["tag"]}]});
    for (method, request) in [("PutTag", tag), ("Commit", commit), ("Import", records)] {
        let refused = raw.call(method, request).await.unwrap_err();
        let wanted = (Code::ResourceExhausted, "STORE_FULL", true);
        assert_eq!((refused.code, &*refused.reason, refused.retry), wanted, "{method}");
    }
    raw.call("GetTag", json!({"name": "tags/a"})).await.unwrap();
    assert_eq!(raw.call("GetTag", json!({"name": "tags/b"})).await.unwrap_err().reason, "NAME_NOT_FOUND");
    node.stop().await;
}

/// Changes the last byte of the record stored under a name.
fn damage(dir: &std::path::Path, id: &str) {
    let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let open = |path| rusqlite::Connection::open(path).unwrap();
    let is_store = |path: &std::path::PathBuf| {
        std::fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"SQLite format 3"))
    };
    let connection = files.filter(is_store).map(open).next().unwrap();
    let mut entry: Vec<u8> =
        connection.query_row("SELECT entry FROM doc WHERE id = ?1", [id], |row| row.get(0)).unwrap();
    *entry.last_mut().unwrap() ^= 1;
    connection.execute("UPDATE doc SET entry = ?1 WHERE id = ?2", rusqlite::params![entry, id]).unwrap();
}

#[tokio::test]
async fn a_damaged_record_is_reported_and_not_served() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let raw = Raw::to(&node).await;
    for id in ["a", "b"] {
        let article = json!({"name": format!("articles/{id}"), "headline": "H", "path": format!("/{id}")});
        raw.call("PutArticle", json!({"article": article})).await.unwrap();
    }
    node.stop().await;
    damage(dir.path(), "a");

    let node = Node::start(dir.path()).await;
    let raw = Raw::to(&node).await;
    for (method, request) in [
        ("GetArticle", json!({"name": "articles/a"})),
        ("ResolvePath", json!({"path": "/a"})),
        ("PatchArticle", json!({"article": {"name": "articles/a", "dek": "D"}})),
    ] {
        let refused = raw.call(method, request).await.unwrap_err();
        assert_eq!((refused.code, &*refused.reason), (Code::DataLoss, "RECORD_CORRUPT"), "{method}");
    }
    let batch = raw.call("BatchGetArticles", json!({"names": ["articles/a", "articles/b"]})).await.unwrap();
    assert_eq!(batch["items"][0]["error"]["reason"], "ERROR_REASON_RECORD_CORRUPT");
    assert_eq!(batch["items"][1]["article"]["headline"], "H");
    // One damaged record does not empty a page, but an incomplete export fails.
    let page = raw.call("ListArticles", json!({})).await.unwrap();
    assert_eq!(page["articles"].as_array().unwrap().len(), 1);
    let refused = raw.call("Export", json!({})).await.unwrap_err();
    assert_eq!((refused.code, &*refused.reason), (Code::DataLoss, "RECORD_CORRUPT"));
    node.stop().await;
}

/// Searches the sources of the tests for the reasons that they produce.
#[test]
fn every_reason_is_tested_or_excused() {
    let sources = [
        include_str!("refusals.rs"),
        include_str!("requests.rs"),
        include_str!("limits.rs"),
        include_str!("pending.rs"),
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
    assert_eq!(reasons.len(), 28);
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
