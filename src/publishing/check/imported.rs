//! The records that importers make, against the rules of the server: no export becomes a record that the server refuses.

use std::fmt::Write as _;

use cable_body::{
    html::{NoAttachments, body},
    testing::soup,
};
use cable_import::{Item, ItemOutcome, wxr};
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
    let now = "2026-01-01T00:00:00Z".parse().unwrap();
    let items = wxr::read(|| Ok(export.as_bytes()), now).unwrap();
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
