//! Errors of the entities that a write contains, by the path of the field.

use serde_json::{Value, json};
use tonic::Code;

use super::{ENTITIES, Invalid, all_invalid, refusal, start, summary};
use crate::raw::{encode, field};

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
        (
            "PutArticle",
            article("lead_media", json!({"focal_point": {"x": 1.5}})),
            "article.lead_media.focal_point",
        ),
        ("PutArticle", article("lead_media", json!({"duration": "-1s"})), "article.lead_media.duration"),
        ("PutArticle", article("lead_media", json!({"poster": "data:x"})), "article.lead_media.poster"),
        ("PutArticle", article("translation_group", json!("a b")), "article.translation_group"),
        (
            "PutArticle",
            article(
                "alternative_headlines",
                json!([{"role": "print", "text": "A"}, {"role": "print", "text": "B"}]),
            ),
            "article.alternative_headlines[1].role",
        ),
        (
            "PutArticle",
            block(
                json!({"table": {"rows": [{"cells": [{"spans": [{"text": "a"}], "blocks": [{"divider": {}}]}]}]}}),
            ),
            "article.body.blocks[1].table.rows[0].cells[0].blocks",
        ),
        (
            "PutArticle",
            block(json!({"quote": {"blocks": [{"live_post": {}}]}})),
            "article.body.blocks[1].quote.blocks[0].live_post",
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
    let simple = [
        "headline",
        "dek",
        "kicker",
        "summary",
        "dateline",
        "genre",
        "digital_source_type",
        "editorial_note",
    ]
    .map(|field| (field, json!(value), ""));
    let nested = [
        ("byline", json!({"text": value}), ".text"),
        ("byline", json!({"credits": [{"display_name": value}]}), ".credits[0].display_name"),
        ("byline", json!({"credits": [{"role": value}]}), ".credits[0].role"),
        ("rights", json!({"copyright_notice": value}), ".copyright_notice"),
        ("rights", json!({"usage_terms": value}), ".usage_terms"),
        ("source", json!({"name": value}), ".name"),
        ("alternative_headlines", json!([{"role": value, "text": "T"}]), "[0].role"),
        ("alternative_headlines", json!([{"role": "print", "text": value}]), "[0].text"),
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
        (json!({"gallery": {"images": [{}, {"media": media()}]}}), "gallery.images[1].media.alt_text"),
        (json!({"video": {"media": media()}}), "video.media.alt_text"),
        (json!({"audio": {"media": {"usage_terms": value}}}), "audio.media.usage_terms"),
        (json!({"live_post": {"title": value}}), "live_post.title"),
        (json!({"live_post": {"credits": [{"role": value}]}}), "live_post.credits[0].role"),
        (
            json!({"live_post": {"blocks": [{"paragraph": {"spans": span()}}]}}),
            "live_post.blocks[0].paragraph.spans[0].text",
        ),
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
        (
            json!({"table": {"rows": [{"cells": [{"blocks": [{"paragraph": {"spans": span()}}]}]}]}}),
            "table.rows[0].cells[0].blocks[0].paragraph.spans[0].text",
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
