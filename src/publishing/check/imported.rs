//! The records that importers make, against the rules of the server: no export becomes a record that the server refuses.

use std::fmt::Write as _;

use cable_body::{
    html::{NoAttachments, body},
    testing::soup,
};
use cable_import::{Item, ItemOutcome, feed, wxr};
use cable_proto::v1::{self, record::Record};
use proptest::prelude::*;
use prost::Message;

use crate::model::Kind;

/// Returns the reason to refuse an entity, if there is one.
fn refusal(kind: Kind, entity: &impl Message) -> Option<String> {
    super::entity(kind, &entity.encode_to_vec(), super::Mode::Import)
        .err()
        .map(|refusal| format!("{refusal:?}"))
}

fn refusal_of_body(html: &str) -> Option<String> {
    let article = v1::Article {
        name: "articles/x".into(),
        headline: "X".into(),
        body: Some(body(html, &NoAttachments).body),
        ..Default::default()
    };
    refusal(Kind::Article, &article)
}

/// Returns the reasons to refuse the records of an item.
fn refusals(item: &Item) -> Vec<String> {
    let ItemOutcome::Converted(converted) = &item.outcome else { return Vec::new() };
    let refused = |record: &v1::Record| match record.record.as_ref()? {
        Record::Article(article) => refusal(Kind::Article, article),
        Record::Author(author) => refusal(Kind::Author, author),
        Record::Section(section) => refusal(Kind::Section, section),
        Record::Tag(tag) => refusal(Kind::Tag, tag),
        other => Some(format!("an importer makes no {other:?}")),
    };
    converted.mentions.iter().chain(&converted.records).filter_map(refused).collect()
}

fn items(export: &str) -> Vec<Item> {
    let options = wxr::Options { now: "2026-01-01T00:00:00Z".parse().unwrap(), prefix: String::new() };
    let items = wxr::read(vec![("export.xml", export.as_bytes())], &options).unwrap();
    items.collect::<Result<_, _>>().unwrap()
}

/// Generates texts with the characters that limits and rules concern.
fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => "[a-zA-Z0-9 /.,:_-]{0,20}",
        1 => "\\PC{0,10}",
        1 => prop::sample::select(vec![
            "&#8232;", "&#x202e;", "\u{feff}", "\t", "\n", "..", ".", "//", "javascript:x", "https://a.example/%zz?q#f",
        ])
        .prop_map(str::to_owned),
        1 => (100_usize..3_000).prop_map(|length| "ü".repeat(length)),
    ];
    prop::collection::vec(piece, 0..4)
        .prop_map(|pieces| pieces.concat().replace('<', "&lt;").replace("]]>", ""))
}

/// Generates the items of an export with the fields that become names, paths and texts.
fn export() -> impl Strategy<Value = String> {
    let item = (text(), text(), text(), text(), text()).prop_map(|(title, slug, author, term, link)| {
        format!(
            "<item><title>{title}</title><link>https://news.example/{link}</link><wp:post_id>1</wp:post_id>\
             <wp:post_type>post</wp:post_type><wp:status>publish</wp:status><wp:post_name>{slug}</wp:post_name>\
             <dc:creator>{author}</dc:creator><excerpt:encoded>{title}</excerpt:encoded>\
             <category domain='post_tag' nicename='{}'>{term}</category>\
             <category domain='category' nicename='{}'>{author}</category>\
             <content:encoded>{link}</content:encoded></item>",
            term.replace('\'', ""),
            slug.replace('\'', ""),
        )
    });
    prop::collection::vec(item, 1..3).prop_map(|items| {
        let mut export =
            String::from("<?xml version='1.0'?>\n<rss version='2.0'><channel><language>en-GB</language>");
        items.iter().for_each(|item| write!(export, "{item}").unwrap());
        export + "</channel></rss>"
    })
}

/// Returns the items of a feed. Every document here is one.
fn items_of_feed(document: &str, canonical: bool) -> Vec<Item> {
    let now = "2026-01-01T00:00:00Z".parse().unwrap();
    let mut feed = feed::Feed::new(feed::Options { now, canonical, ..feed::Options::default() });
    let address = Some("https://news.example/feeds/all".parse().unwrap());
    feed.add(feed::Page { bytes: document.as_bytes().to_vec(), address, charset: None }).unwrap();
    feed.items().collect()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('\'', "&#39;")
}

/// Generates addresses: relative ones, those of the feed's own site, and what is none.
fn address() -> impl Strategy<Value = String> {
    let start = prop::sample::select(vec![
        "",
        "/",
        "//",
        "?",
        "#",
        "https://news.example/",
        "https://WWW.news.example",
        "http://other.example/",
        "mailto:",
        "javascript:",
        "urn:uuid:",
        "tag:news.example,2026:",
        "data:text/html,",
        "file:///",
        "https://[::1]:8/",
    ]);
    (start, text()).prop_map(|(start, rest)| format!("{start}{rest}"))
}

/// The texts of an item of a feed.
#[derive(Debug)]
struct Texts {
    id: String,
    link: String,
    file: String,
    r#type: String,
    title: String,
    html: String,
    name: String,
    time: String,
}

fn texts() -> impl Strategy<Value = Texts> {
    let r#type = prop_oneof![
        3 => prop::sample::select(vec!["", "image/jpeg", "audio/mpeg", "video/mp4", "application/pdf", "Image/\u{fc}"])
            .prop_map(str::to_owned),
        1 => text(),
    ];
    let time = prop_oneof![
        3 => prop::sample::select(vec![
            "2025-01-02T03:04:05Z", "Sat, 02 May 2026 08:00:00 +0200", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z",
            "-009999-01-01T00:00:00Z", "1969-12-31", "",
        ])
        .prop_map(str::to_owned),
        1 => text(),
    ];
    let html = prop_oneof![soup(), text()];
    (address(), address(), address(), r#type, text(), html, text(), time).prop_map(
        |(id, link, file, r#type, title, html, name, time)| Texts {
            id,
            link,
            file,
            r#type,
            title,
            html,
            name,
            time,
        },
    )
}

/// Generates feeds: RSS, Atom or JSON Feed of the same texts.
fn feed() -> impl Strategy<Value = String> {
    let items = prop::collection::vec(texts(), 1..3);
    (items, prop::sample::select(vec![rss as fn(&[Texts]) -> String, atom, json_feed]))
        .prop_map(|(items, document)| document(&items))
}

fn rss(items: &[Texts]) -> String {
    let item = |Texts { id, link, file, r#type, title, html, name, time }: &Texts| {
        let [id, link, file, r#type, html] = [id, link, file, r#type, html].map(|text| escaped(text));
        let [title, name, time] = [title, name, time].map(|text| escaped(text));
        format!(
            "<item><guid>{id}</guid><link>{link}</link><title>{title}</title><description>{title}</description>\
             <content:encoded>{html}</content:encoded><author>{name}</author><category>{name}</category>\
             <enclosure url='{file}' type='{type}'/><m:content url='{file}' medium='image' width='-{id}'>\
             <m:title>{title}</m:title><m:credit>{name}</m:credit><m:thumbnail url='{link}'/></m:content>\
             <i:image href='{link}'/><i:duration>{id}:9</i:duration><i:subtitle>{name}</i:subtitle>\
             <pubDate>{time}</pubDate><source>{name}</source></item>"
        )
    };
    let items: String = items.iter().map(item).collect();
    format!(
        "<rss xmlns:content='http://purl.org/rss/1.0/modules/content/' xmlns:m='http://search.yahoo.com/mrss/' \
         xmlns:i='http://www.itunes.com/dtds/podcast-1.0.dtd'><channel><link>https://news.example/</link>\
         {items}</channel></rss>"
    )
}

fn atom(items: &[Texts]) -> String {
    let entry = |Texts { id, link, file, r#type, title, html, name, time }: &Texts| {
        let [id, link, file, r#type, html] = [id, link, file, r#type, html].map(|text| escaped(text));
        let [title, name, time] = [title, name, time].map(|text| escaped(text));
        format!(
            "<entry xml:base='{link}' xml:lang='{name}'><id>{id}</id><link href='{link}'/><title>{title}</title>\
             <link rel='enclosure' href='{file}' type='{type}' title='{title}'/><link rel='license' href='{file}'/>\
             <author><name>{name}</name></author><category term='{name}' label='{title}'/><rights>{html}</rights>\
             <summary type='html'>{html}</summary><content type='html'>{html}</content>\
             <published>{time}</published><updated>2025-01-02T03:04:05Z</updated></entry>"
        )
    };
    let entries: String = items.iter().map(entry).collect();
    format!("<feed xmlns='http://www.w3.org/2005/Atom'>{entries}</feed>")
}

fn json_feed(items: &[Texts]) -> String {
    let item = |Texts { id, link, file, r#type, title, html, name, time }: &Texts| {
        serde_json::json!({
            "id": id, "url": link, "external_url": file, "title": title, "content_html": html, "summary": html,
            "image": file, "date_published": time, "date_modified": time, "language": name, "tags": [name, title],
            "authors": [{"name": name}],
            "attachments": [{"url": file, "mime_type": r#type, "title": title, "duration_in_seconds": 9.5}],
        })
    };
    let items: Vec<_> = items.iter().map(item).collect();
    serde_json::json!({"version": "https://jsonfeed.org/version/1.1", "title": "News", "items": items})
        .to_string()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_converted_body_is_accepted(html in soup()) {
        prop_assert_eq!(refusal_of_body(&html), None, "of {}", html);
    }

    #[test]
    fn every_converted_text_is_accepted(html in "[<>/!\\-\\[\\]\"'=& \\n]{0,10}(\\PC|<[a-z]{1,8}( [a-z]{1,4}=[\"'a-z<>]{0,6})?>|\\[[a-z]{3,8} ?|</[a-z]{1,8}>|<!--|-->|\\n){0,60}") {
        prop_assert_eq!(refusal_of_body(&html), None, "of {}", html);
    }

    #[test]
    fn every_imported_record_is_accepted(export in export()) {
        for item in items(&export) {
            prop_assert_eq!(refusals(&item), Vec::<String>::new(), "{} of {}", item.label, export);
        }
    }

    #[test]
    fn every_record_of_a_feed_is_accepted(feed in feed(), canonical in any::<bool>()) {
        for item in items_of_feed(&feed, canonical) {
            prop_assert_eq!(refusals(&item), Vec::<String>::new(), "{} of {}", item.label, feed);
        }
    }
}

#[test]
fn all_records_of_a_real_export_are_accepted() {
    let data = std::env::var_os("CABLE_TEST_DATA").map(std::path::PathBuf::from);
    let data = data.unwrap_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data").into());
    let path = data.join("wordpress-theme-unit-test.xml");
    let Ok(export) = std::fs::read_to_string(&path) else {
        return eprintln!("SKIPPED: the WordPress theme unit test is not at {}", path.display());
    };
    let items = items(&export);
    assert!(items.len() > 100, "{}", items.len());
    for item in items {
        assert_eq!(refusals(&item), Vec::<String>::new(), "{}", item.label);
    }
}
