//! Feeds and sitemaps, as feed-rs reads them, and what caches may do with them.

use std::collections::BTreeSet;

use cable::clock::{Clock, ManualClock};
use feed_rs::{model::Feed, parser};
use serde_json::{Value, json};

use super::client::{Http2, Response, Twins, get, get_with, request};
use crate::{demo::import_newsroom, raw::Raw, support::Node};

/// Addresses that the comparisons of two stores request. Some of the names exist there, others do not.
pub(crate) const TARGETS: [&str; 15] = [
    "/feeds/all.rss",
    "/feeds/all.atom",
    "/feeds/all.json",
    "/feeds/tag/t1.rss",
    "/feeds/tag/t1.atom",
    "/feeds/tag/t2.json",
    "/feeds/section/s1.json",
    "/feeds/section/s1.rss",
    "/feeds/author/x1.atom",
    "/feeds/tag/waiting.rss",
    "/feeds/tag/never.rss",
    "/feeds/all.rdf",
    "/sitemap.xml",
    "/sitemap-news.xml",
    "/sitemap-1999-01.xml",
];

const SITE: &str = "https://news.example";

/// Returns the paths of the sitemaps that the index of both nodes names.
pub(crate) async fn months(web: &Twins) -> Vec<String> {
    locations(&web.expect_equal("/sitemap.xml", &[]).await)
}

/// Returns the paths of the addresses in a sitemap.
#[track_caller]
fn locations(sitemap: &Response) -> Vec<String> {
    assert_eq!(sitemap.status, 200, "{}", sitemap.text());
    assert_eq!(sitemap.header("content-type"), "application/xml");
    let text = sitemap.text();
    let found = text.split("<loc>").skip(1).map(|rest| rest.split("</loc>").next().unwrap());
    found.map(|location| location.strip_prefix(SITE).unwrap().to_owned()).collect()
}

#[track_caller]
fn parse(response: &Response) -> Feed {
    assert_eq!(response.status, 200, "{}", response.text());
    parser::parse(&response.body[..]).unwrap_or_else(|error| panic!("{error}: {}", response.text()))
}

/// 2026-11-27T10:00:00Z.
const NOW: i64 = 1_795_773_600 * SECOND;
const SECOND: i64 = 1_000_000;
const HOUR: i64 = 3_600 * SECOND;

fn rfc3339(micros: i64) -> String {
    let nanos = (micros.rem_euclid(SECOND) * 1_000) as i32;
    cable_client::Timestamp { seconds: micros.div_euclid(SECOND), nanos }.to_string()
}

async fn start(dir: &std::path::Path) -> (Node, Raw, ManualClock) {
    let (clock, hands) = Clock::manual(NOW);
    let node = Node::start_at(dir, clock).await;
    let raw = Raw::to(&node).await;
    (node, raw, hands)
}

async fn put(raw: &Raw, article: Value) {
    raw.call("PutArticle", json!({"article": article})).await.unwrap();
}

async fn put_tag(raw: &Raw, id: &str, kind: u32) {
    let tag = json!({"name": format!("tags/{id}"), "display_name": id.to_uppercase(), "kind": kind});
    raw.call("PutTag", json!({"tag": tag})).await.unwrap();
}

fn body(text: &str) -> Value {
    json!({"blocks": [{"paragraph": {"spans": [{"text": text}]}}]})
}

#[tokio::test(flavor = "multi_thread")]
async fn every_feed_has_the_newest_articles_of_its_list() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    import_newsroom(&node).await;
    let mut lists = vec![("all".to_owned(), String::new())];
    for (noun, plural) in [("tag", "tags"), ("section", "sections"), ("author", "authors")] {
        let all = get(node.address, &format!("/v1/{plural}?page_size=1000")).await.json();
        for entity in all[plural].as_array().unwrap() {
            let id = entity["name"].as_str().unwrap().split('/').nth(1).unwrap();
            if entity["kind"] == "TAG_KIND_INTERNAL" {
                let hidden = get(node.address, &format!("/feeds/tag/{id}.rss")).await;
                let absent = get(node.address, "/feeds/tag/absent.rss").await;
                assert_eq!((hidden.status, hidden.text().replace(id, "absent")), (404, absent.text()));
                continue;
            }
            lists.push((format!("{noun}/{id}"), format!("&{noun}={id}")));
        }
    }
    assert!(lists.len() > 40, "{}", lists.len());
    let (mut full, mut withheld, mut pictures) = (0, 0, 0);
    for (list, filter) in lists {
        let target = format!("/v1/articles?page_size=50&view=full&body=html&include=tags{filter}");
        let listed = get(node.address, &target).await.json();
        let articles = listed["articles"].as_array().cloned().unwrap_or_default();
        for format in ["rss", "atom", "json"] {
            let address = format!("/feeds/{list}.{format}");
            let response = get(node.address, &address).await;
            let feed = parse(&response);
            assert!(feed.title.unwrap().content.starts_with("The Packet"), "{address}");
            assert_eq!(feed.entries.len(), articles.len(), "{address}");
            for (entry, article) in feed.entries.iter().zip(&articles) {
                let name = article["name"].as_str().unwrap();
                let id = if format == "atom" { format!("{SITE}/v1/{name}") } else { name.to_owned() };
                assert_eq!(entry.id, id);
                assert_eq!(entry.title.as_ref().unwrap().content, article["headline"], "{address}");
                let link = entry.links.iter().find(|link| link.rel.as_deref() != Some("enclosure")).unwrap();
                assert_eq!(link.href, format!("{SITE}{}", article["path"].as_str().unwrap()));
                let published: jiff::Timestamp = article["publishTime"].as_str().unwrap().parse().unwrap();
                assert_eq!(entry.published.unwrap().timestamp(), published.as_second(), "{address} {name}");
                let modified = article["modifiedTime"].as_str().or(article["updateTime"].as_str()).unwrap();
                let modified: jiff::Timestamp = modified.parse().unwrap();
                if format != "rss" {
                    let updated = entry.updated.unwrap().timestamp();
                    assert_eq!(updated, modified.max(published).as_second(), "{address} {name}");
                }
                let is_free = matches!(article["access"].as_str(), None | Some("ACCESS_FREE"));
                let has_terms = article["rights"]["usageTerms"].is_string();
                let source = article["source"]["kind"].as_str().unwrap_or_default();
                let is_own = !["SOURCE_KIND_WIRE", "SOURCE_KIND_PARTNER"].contains(&source);
                let html =
                    entry.content.as_ref().filter(|content| content.content_type.as_ref() == "text/html");
                if !(is_free && !has_terms && is_own) {
                    assert!(html.is_none(), "{address} {name}");
                    withheld += 1;
                } else if let Some(html) = html {
                    let html = html.body.as_deref().unwrap();
                    assert!(html.starts_with('<') && !html.contains("href=\"/"), "{address} {name} {html}");
                    full += 1;
                }
                let labels: BTreeSet<&str> = entry
                    .categories
                    .iter()
                    .map(|category| category.label.as_deref().unwrap_or(&category.term))
                    .collect();
                for tag in listed["includes"]["tags"].as_array().into_iter().flatten() {
                    let is_of = article["tags"].as_array().is_some_and(|tags| tags.contains(&tag["name"]));
                    let is_shown = is_of && tag["kind"] != "TAG_KIND_INTERNAL";
                    let label = tag["displayName"].as_str().unwrap();
                    assert_eq!(labels.contains(label), is_shown, "{address} {name} {label}");
                }
                pictures += entry.media.len();
            }
        }
    }
    assert!(full > 100 && withheld > 10 && pictures > 10, "{full} {withheld} {pictures}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_output_follows_the_rules_of_documents() {
    let dir = tempfile::tempdir().unwrap();
    let (node, raw, hands) = start(dir.path()).await;
    let http2 = Http2::connect(node.address).await;
    put_tag(&raw, "t", 1).await;
    let article = json!({
        "name": "articles/a", "headline": "A", "tags": ["tags/t", "tags/later"], "path": "/a",
        "byline": {"credits": [{"author": "authors/later"}]}, "expire_time": rfc3339(NOW + 30 * SECOND),
    });
    put(&raw, article).await;
    for (target, content_type, keys) in [
        ("/feeds/all.rss", "application/rss+xml", "article:a author:later list:articles tag:later tag:t"),
        ("/feeds/tag/t.atom", "application/atom+xml", "article:a author:later list:tags/t tag:later tag:t"),
        ("/feeds/all.json", "application/feed+json", "article:a author:later list:articles tag:later tag:t"),
        ("/sitemap-2026-11.xml", "application/xml", "articles list:articles"),
        ("/sitemap-news.xml", "application/xml", "articles list:articles"),
        ("/sitemap.xml", "application/xml", "articles list:articles"),
    ] {
        let whole = get(node.address, target).await;
        assert_eq!((whole.status, whole.header("content-type")), (200, content_type), "{target}");
        assert_eq!(whole.header("surrogate-key"), keys, "{target}");
        let expected = if target == "/sitemap.xml" { 60 } else { 30 };
        assert_eq!(
            whole.max_age(),
            expected,
            "{target}: until the minute, or the expiry of an article in it"
        );
        assert_eq!(
            (whole.header("vary"), whole.header("x-content-type-options")),
            ("authorization", "nosniff")
        );
        assert_eq!(http2.request("GET", target, &[]).await, whole, "{target}");
        let head = request(node.address, "HEAD", target, &[]).await;
        assert_eq!((head.status, &head.headers, head.body.len()), (200, &whole.headers, 0), "{target}");
        let etag = whole.header("etag").to_owned();
        let current = get_with(node.address, target, &[("if-none-match", &etag)]).await;
        assert_eq!((current.status, current.body.len()), (304, 0), "{target}");
        let refused = request(node.address, "POST", target, &[]).await;
        assert_eq!((refused.status, refused.header("allow")), (405, "GET, HEAD"), "{target}");
        let refused = get(node.address, &format!("{target}?colour=red")).await;
        assert_eq!((refused.status, &refused.reason()[..]), (400, "FIELD_INVALID"), "{target}");
        assert_eq!(refused.json()["details"][1]["fieldViolations"][0]["field"], "colour", "{target}");
        let behind = get(node.address, &format!("{target}?at_least_revision=99")).await;
        assert_eq!(behind.status, 503, "{target}");
        let reached = get_with(node.address, target, &[("cable-at-least", "2")]).await;
        assert_eq!(reached, whole, "{target}");
    }
    // A tag that is named is put: the feed is another one.
    let before = get(node.address, "/feeds/all.rss").await;
    put_tag(&raw, "later", 1).await;
    let after = get(node.address, "/feeds/all.rss").await;
    assert!(!before.text().contains("LATER") && after.text().contains("<category>LATER</category>"));
    for target in ["/feeds/tag/none.rss", "/feeds/section/none.json", "/feeds/author/none.atom"] {
        let absent = get(node.address, target).await;
        let kind = target.split('/').nth(2).unwrap();
        let document = get(node.address, &format!("/v1/{kind}s/none")).await;
        assert_eq!((absent.status, absent.text()), (404, document.text()), "{target}");
        assert_eq!(absent.max_age(), document.max_age());
    }
    for target in [
        "/feeds/",
        "/feeds/all",
        "/feeds/all.html",
        "/feeds/article/a.rss",
        "/feeds/collection/a.rss",
        "/feeds/tag/a/b.rss",
        "/sitemap-2026-13.xml",
        "/sitemap-2026-11-1.xml",
        "/sitemap-2026-11-02.xml",
        "/sitemap-2026-11-99999999999.xml",
        "/sitemapx.xml",
    ] {
        let absent = get(node.address, target).await;
        assert_eq!(absent.status, 404, "{target}");
        assert!(absent.text().contains("no such feed or sitemap"), "{target} {}", absent.text());
    }
    for target in ["/sitemap-2026-10.xml", "/sitemap-2026-11-2.xml"] {
        assert_eq!(get(node.address, target).await.status, 404, "{target}");
    }
    assert_eq!(get(node.address, "/feeds/tag/%2e%2e.rss").await.status, 400);
    raw.call("RemoveTag", json!({"name": "tags/t", "reason": 4})).await.unwrap();
    let gone = get(node.address, "/feeds/tag/t.rss").await;
    assert_eq!(gone.status, get(node.address, "/v1/tags/t").await.status);
    assert_eq!(gone.status, 410);
    raw.call("RemoveTag", json!({"name": "tags/later", "reason": 1, "moved_to": "tags/new"})).await.unwrap();
    let moved = get(node.address, "/feeds/tag/later.atom").await;
    assert_eq!((moved.status, moved.header("location")), (308, "/feeds/tag/new.atom"));
    drop(hands);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_site_the_error_names_the_setting() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start_with(dir.path(), |config| config.site = Default::default()).await;
    for target in ["/feeds/all.rss", "/sitemap.xml", "/sitemap-news.xml", "/sitemap-2026-11.xml", "/feeds/x"]
    {
        let response = get(node.address, target).await;
        assert_eq!(response.status, 404, "{target}");
        assert!(response.text().contains("`site.url`"), "{}", response.text());
    }
    node.stop().await;
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start_with(dir.path(), |config| config.web.enabled = false).await;
    assert_eq!(get(node.address, "/feeds/all.rss").await.status, 405);
    node.stop().await;
}

/// Returns the attributes of the links to feeds in the head of a page.
fn alternates(page: &Response) -> Vec<[String; 3]> {
    let html = page.text();
    let head = html.split_once("</head>").unwrap().0;
    let attribute = |link: &str, name: &str| {
        let value = link.split_once(&format!("{name}=\"")).unwrap_or_else(|| panic!("{link}: no {name}")).1;
        value.split('"').next().unwrap().to_owned()
    };
    let links = head.split("<link ").skip(1).map(|rest| rest.split('>').next().unwrap());
    let feeds = links.filter(|link| link.contains("rel=\"alternate\""));
    feeds.map(|link| ["type", "title", "href"].map(|name| attribute(link, name))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_leads_to_the_feeds_if_there_are_any() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let page = get(node.address, "/").await;
    let links = alternates(&page);
    assert_eq!(links.len(), 3, "{}", page.text());
    for [media_type, title, href] in links {
        let feed = get(node.address, &format!("/{href}")).await;
        assert_eq!((feed.status, feed.header("content-type")), (200, &media_type[..]), "{href}");
        assert!(title.starts_with("All articles, "), "{title}");
        parse(&feed);
    }
    let head = request(node.address, "HEAD", "/", &[]).await;
    assert_eq!(head.header("content-length"), page.body.len().to_string());
    let etag = page.header("etag").to_owned();
    assert_eq!(get_with(node.address, "/", &[("if-none-match", &etag)]).await.status, 304);
    node.stop().await;

    let dir = tempfile::tempdir().unwrap();
    let node = Node::start_with(dir.path(), |config| config.site = Default::default()).await;
    let bare = get_with(node.address, "/", &[("if-none-match", &etag)]).await;
    assert_eq!((bare.status, alternates(&bare)), (200, Vec::new()));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_response_is_one_that_the_description_has() {
    let dir = tempfile::tempdir().unwrap();
    let (node, raw, _hands) = start(dir.path()).await;
    put_tag(&raw, "storm", 1).await;
    put(&raw, json!({"name": "articles/storm", "headline": "S", "path": "/storm", "tags": ["tags/storm"]}))
        .await;
    let description = get(node.address, "/v1/openapi.json").await.json();
    let (mut found, mut absent) = (0, 0);
    for (path, operations) in description["paths"].as_object().unwrap() {
        if path == "/v1/feed" {
            // A stream has no end; its response is tested elsewhere.
            continue;
        }
        for id in ["storm", "absent"] {
            let month = if id == "storm" { "2026-11" } else { "1999-01-9" };
            let target = path.replace("{id}", id).replace("{path}", id).replace("{month}", month);
            let response = get(node.address, &target).await;
            let described = &operations["get"]["responses"][response.status.to_string()];
            let content = described["content"].as_object();
            let content = content.unwrap_or_else(|| panic!("{target}: {} is not described", response.status));
            assert!(content.contains_key(response.header("content-type")), "{target}: {response:?}");
            (found, absent) =
                (found + usize::from(response.status == 200), absent + usize::from(response.status == 404));
        }
    }
    assert!(found > 20 && absent > 10, "{found} {absent}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_article_is_in_the_news_sitemap_for_48_hours() {
    let dir = tempfile::tempdir().unwrap();
    let (node, raw, hands) = start(dir.path()).await;
    let news = async || get(node.address, "/sitemap-news.xml").await;
    let empty = news().await;
    assert_eq!((locations(&empty).len(), empty.max_age()), (0, 60));
    let published = NOW - 47 * HOUR;
    put(
        &raw,
        json!({"name": "articles/old", "headline": "O", "path": "/old",
        "publish_time": rfc3339(NOW - 48 * HOUR)}),
    )
    .await;
    put(
        &raw,
        json!({"name": "articles/a", "headline": "A & <B>", "path": "/a", "language": "de-AT",
        "publish_time": rfc3339(published)}),
    )
    .await;
    put(&raw, json!({"name": "articles/unpaged", "headline": "No page"})).await;
    put(
        &raw,
        json!({"name": "articles/copy", "headline": "C", "path": "/c",
        "canonical_url": "https://other.example/c"}),
    )
    .await;
    put(
        &raw,
        json!({"name": "articles/own", "headline": "W", "path": "/ö&'",
        "canonical_url": "https://news.example/%C3%B6&'"}),
    )
    .await;
    let sitemap = news().await;
    assert_eq!(locations(&sitemap), ["/%C3%B6&amp;&apos;", "/a"]);
    assert!(sitemap.text().contains("<news:language>de</news:language>"));
    assert!(sitemap.text().contains("<news:language>en</news:language>"));
    assert!(sitemap.text().contains("<news:title>A &amp; &lt;B&gt;</news:title>"));
    assert!(sitemap.text().contains("<news:publication_date>2026-11-25T11:00:00Z</news:publication_date>"));
    let leaves = published + 48 * HOUR;
    hands.set(leaves - 10 * SECOND - 1);
    assert_eq!(news().await.max_age(), 10, "until it leaves, not until the minute");
    hands.set(leaves - 1);
    assert_eq!((locations(&news().await).len(), news().await.max_age()), (2, 0));
    hands.set(leaves);
    let without = news().await;
    assert_eq!((locations(&without), without.max_age()), (vec!["/%C3%B6&amp;&apos;".to_owned()], 60));
    node.stop().await;
}

/// Puts articles with pages, a second apart, the newest first.
async fn put_many(raw: &Raw, count: i64, newest: i64) {
    let change = |n: i64| {
        let publish_time = rfc3339(newest - n * SECOND);
        json!({"put_article": {"name": format!("articles/a{n}"), "headline": "A", "path": format!("/a{n}"),
            "publish_time": publish_time}})
    };
    for first in (0..count).step_by(500) {
        let changes: Vec<Value> = (first..(first + 500).min(count)).map(change).collect();
        raw.call("Commit", json!({"changes": changes})).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sitemaps_have_at_most_their_number_of_pages() {
    let dir = tempfile::tempdir().unwrap();
    let (node, raw, _hands) = start(dir.path()).await;
    put_many(&raw, 5_002, NOW).await;
    put(
        &raw,
        json!({"name": "articles/older", "headline": "O", "path": "/older",
        "publish_time": "2020-02-29T23:59:59.999999Z"}),
    )
    .await;
    let index = get(node.address, "/sitemap.xml").await;
    let parts = locations(&index);
    assert_eq!(parts, ["/sitemap-2026-11.xml", "/sitemap-2026-11-2.xml", "/sitemap-2020-02.xml"]);
    let mut pages = Vec::new();
    for part in &parts {
        pages.push(locations(&get(node.address, part).await));
    }
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [5_000, 2, 1]);
    let all: BTreeSet<String> = pages.into_iter().flatten().collect();
    assert_eq!(all.len(), 5_003);
    let news = locations(&get(node.address, "/sitemap-news.xml").await);
    assert_eq!(news, (0..1_000).map(|n| format!("/a{n}")).collect::<Vec<_>>());
    assert_eq!(parse(&get(node.address, "/feeds/all.rss").await).entries.len(), 50);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_of_large_articles_ends_early() {
    let dir = tempfile::tempdir().unwrap();
    let (node, raw, _hands) = start(dir.path()).await;
    for n in 0..60 {
        let article = json!({"name": format!("articles/a{n}"), "headline": "A",
            "body": body(&"&".repeat(150_000)), "publish_time": rfc3339(NOW - n * SECOND)});
        put(&raw, article).await;
    }
    for format in ["rss", "atom", "json"] {
        let response = get(node.address, &format!("/feeds/all.{format}")).await;
        let entries = parse(&response).entries.len();
        assert!((3..=28).contains(&entries), "{format} {entries}");
        assert!(response.body.len() < 6 << 20, "{format} {}", response.body.len());
    }
    node.stop().await;
}

/// Each article has 80 KB, and takes far more memory and time once it is decoded.
#[tokio::test(flavor = "multi_thread")]
async fn a_feed_of_articles_with_many_elements_ends_early() {
    let dir = tempfile::tempdir().unwrap();
    let (node, raw, _hands) = start(dir.path()).await;
    let spans = vec![json!({}); 40_000];
    for n in 0..15 {
        let article = json!({"name": format!("articles/a{n}"), "headline": "A",
            "body": {"blocks": [{"paragraph": {"spans": spans}}]}, "publish_time": rfc3339(NOW - n * SECOND)});
        put(&raw, article).await;
    }
    let feed = parse(&get(node.address, "/feeds/all.rss").await);
    let ids: Vec<_> = feed.entries.iter().map(|entry| entry.id.clone()).collect();
    assert_eq!(ids, (0..12).map(|n| format!("articles/a{n}")).collect::<Vec<_>>());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_in_a_feed_only_if_others_may_show_it() {
    let dir = tempfile::tempdir().unwrap();
    let (node, raw, _hands) = start(dir.path()).await;
    put_tag(&raw, "public", 1).await;
    put_tag(&raw, "mark", 8).await;
    let picture = |terms: &str| json!({"renditions": [{"href": "/p.jpg", "type": "image/jpeg", "width": 100}], "usage_terms": terms});
    let of_body = |terms: &str| {
        json!({"blocks": [
            {"paragraph": {"spans": [{"text": "SECRET", "link": {"href": "../x"}}]}},
            {"list": {"items": [{"blocks": [{"image": {"media": picture(terms)}}]}]}},
        ]})
    };
    for (id, article, is_full) in [
        ("plain", json!({}), true),
        ("free", json!({"access": 1, "rights": {"copyright_notice": "(c)"}, "source": {"kind": 1}}), true),
        ("metered", json!({"access": 2}), false),
        ("subscriber", json!({"access": 3}), false),
        ("terms", json!({"rights": {"usage_terms": "Ask."}}), false),
        ("wire", json!({"source": {"kind": 3}}), false),
        ("partner", json!({"source": {"kind": 4}}), false),
        ("picture", json!({"body": of_body("Once."), "lead_media": picture("Once.")}), false),
    ] {
        let mut article = article;
        (article["name"], article["headline"]) = (json!(format!("articles/{id}")), json!("H"));
        (article["path"], article["dek"]) = (json!("/news/a"), json!("The <dek>"));
        article["tags"] = json!(["tags/public", "tags/mark"]);
        if article["body"].is_null() {
            article["body"] = of_body("");
            article["lead_media"] = picture("");
        }
        put(&raw, article).await;
        for format in ["rss", "atom", "json"] {
            let response = get(node.address, &format!("/feeds/all.{format}")).await;
            let feed = parse(&response);
            let text = response.text();
            assert_eq!(text.contains("SECRET"), is_full, "{id} {format}: {text}");
            assert_eq!(text.contains("p.jpg"), id != "picture", "{id} {format}");
            assert!(!text.contains("MARK") && text.contains("PUBLIC"), "{id} {format}");
            if is_full {
                assert!(text.contains("https://news.example/news/../x"), "{format} {text}");
                assert!(text.contains("https://news.example/p.jpg"), "{format} {text}");
            }
            let entry = &feed.entries[0];
            let summary = entry.summary.as_ref().unwrap().content.replace("&lt;", "<").replace("&gt;", ">");
            assert_eq!(summary, "The <dek>", "{format}");
        }
        raw.call("RemoveArticle", json!({"name": format!("articles/{id}"), "reason": 4})).await.unwrap();
    }
    // An article without a page has no link, and still a valid entry.
    put(&raw, json!({"name": "articles/unpaged", "headline": "Only a headline"})).await;
    for format in ["rss", "atom", "json"] {
        let feed = parse(&get(node.address, &format!("/feeds/all.{format}")).await);
        assert_eq!((feed.entries.len(), feed.entries[0].links.len()), (1, 0), "{format}");
    }
    node.stop().await;
}
