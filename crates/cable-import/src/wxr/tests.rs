//! The items and records that an export becomes, and the check that each item is accounted for.

use std::{collections::BTreeMap, path::PathBuf};

use cable_body::testing::{missing_words, text_of_body};
use cable_proto::v1::{self, record::Record as Kind};

use super::*;
use crate::report::Report;

mod damage;
mod people;
mod places;
mod plugins;
mod sites;

fn options() -> Options {
    Options { now: "2026-01-01T00:00:00Z".parse().unwrap(), prefix: String::new() }
}

fn channel(inner: &str) -> String {
    format!(
        "<?xml version='1.0'?>\n<rss version='2.0'><channel><language>en-GB</language>{inner}</channel></rss>"
    )
}

fn post(id: u64, fields: &str) -> String {
    let plain = ["<title>", "wp:post_type", "wp:status", "<link>"];
    let defaults = [
        "<title>Storm closes the harbour</title>",
        "<wp:post_type>post</wp:post_type>",
        "<wp:status>publish</wp:status>",
        "<link>https://harbour.example/2024/05/storm/</link>",
    ];
    let missing =
        plain.iter().zip(defaults).filter(|(name, _)| !fields.contains(*name)).map(|(_, field)| field);
    let missing: String = missing.collect();
    format!("<item>{missing}<wp:post_id>{id}</wp:post_id>{fields}</item>")
}

fn items(export: &str) -> Vec<Item> {
    let (items, failure) = items_of(&[export.as_bytes()], &options());
    assert!(failure.is_none(), "{failure:?}");
    items
}

const NAMES: [&str; 2] = ["0.xml", "1.xml"];

/// Returns the items of an export in up to two files, and the error at its end.
fn items_of(files: &[&[u8]], options: &Options) -> (Vec<Item>, Option<FileError>) {
    let sources = NAMES.iter().zip(files).map(|(name, file)| (*name, *file));
    let items = read(sources.collect(), options).unwrap();
    let total = items.total();
    let (mut all, mut failure) = (Vec::new(), None);
    for item in items {
        match item {
            Ok(item) => all.push(item),
            Err(error) => failure = Some(error),
        }
    }
    assert_eq!(all.len() as u64, total);
    (all, failure)
}

/// Returns the error of an export that cannot be read at all.
fn error_of(file: &[u8]) -> String {
    read(vec![("a.xml", file)], &options()).err().unwrap().to_string()
}

/// Returns the custom field of a post.
fn meta(key: &str, value: &str) -> String {
    format!(
        "<wp:postmeta><wp:meta_key>{key}</wp:meta_key><wp:meta_value><![CDATA[{value}]]></wp:meta_value></wp:postmeta>"
    )
}

/// Returns the articles of an export by their names.
fn articles(items: &[Item]) -> BTreeMap<String, v1::Article> {
    let converted = items.iter().filter(|item| matches!(item.outcome, ItemOutcome::Converted(_)));
    let articles = converted.flat_map(kinds).filter_map(|kind| match kind {
        Kind::Article(article) => Some((article.name.clone(), article)),
        _ => None,
    });
    articles.collect()
}

fn converted(item: &Item) -> &ConvertedItem {
    let ItemOutcome::Converted(converted) = &item.outcome else { panic!("{item:?}") };
    converted
}

fn kinds(item: &Item) -> Vec<Kind> {
    let converted = converted(item);
    converted.mentions.iter().chain(&converted.records).filter_map(|record| record.record.clone()).collect()
}

fn article_of(item: &Item) -> v1::Article {
    match kinds(item).pop() {
        Some(Kind::Article(article)) => article,
        other => panic!("{other:?}"),
    }
}

fn article(fields: &str) -> v1::Article {
    article_of(&items(&channel(&post(7, fields)))[0])
}

#[test]
fn a_post_becomes_an_article_with_all_its_fields() {
    let export = channel(&format!(
        "<wp:author><wp:author_id>3</wp:author_id><wp:author_login>ana</wp:author_login>\
         <wp:author_email>ana@harbour.example</wp:author_email>\
         <wp:author_display_name><![CDATA[Ana Möyer]]></wp:author_display_name></wp:author>\
         <wp:category><wp:category_nicename>sea</wp:category_nicename><wp:category_parent>local</wp:category_parent>\
         <wp:cat_name><![CDATA[Sea &amp; Port]]></wp:cat_name>\
         <wp:category_description>What <b>floats</b></wp:category_description></wp:category>\
         <wp:tag><wp:tag_slug>storm</wp:tag_slug><wp:tag_name>Storm</wp:tag_name></wp:tag>{}{}",
        post(
            7,
            "<dc:creator>ana</dc:creator><content:encoded><![CDATA[One.\n\nTwo.]]></content:encoded>\
             <excerpt:encoded><![CDATA[In <em>short</em>]]></excerpt:encoded>\
             <wp:post_date_gmt>2024-05-06 07:08:09</wp:post_date_gmt>\
             <category domain='category' nicename='sea'>Sea</category>\
             <category domain='category' nicename='local'>Local</category>\
             <category domain='post_tag' nicename='storm'>Storm</category>\
             <category domain='post_format' nicename='post-format-image'>Image</category>\
             <wp:postmeta><wp:meta_key>_thumbnail_id</wp:meta_key><wp:meta_value>9</wp:meta_value></wp:postmeta>"
        ),
        "<item><title>quay</title><wp:post_id>9</wp:post_id><wp:post_type>attachment</wp:post_type>\
         <excerpt:encoded><![CDATA[The quay]]></excerpt:encoded>\
         <wp:attachment_url>https://harbour.example/quay.jpg</wp:attachment_url>\
         <wp:postmeta><wp:meta_key>_wp_attachment_image_alt</wp:meta_key><wp:meta_value>A quay</wp:meta_value></wp:postmeta>\
         <wp:postmeta><wp:meta_key>photographer</wp:meta_key><wp:meta_value>Bo Lind</wp:meta_value></wp:postmeta></item>",
    ));
    let all = items(&export);
    let kinds_of_items: Vec<_> = all.iter().map(|item| item.kind.as_str()).collect();
    assert_eq!(kinds_of_items, ["category", "author", "tag", "post", "attachment"]);
    assert_eq!(all[3].label, "post 7 'Storm closes the harbour'");
    assert_eq!(all[4].outcome, ItemOutcome::Skipped(SkipReason::Attachment));

    let [Kind::Section(section)] = &kinds(&all[0])[..] else { panic!("no section") };
    assert_eq!((section.name.as_str(), section.display_name.as_str()), ("sections/sea", "Sea & Port"));
    assert_eq!((section.tagline.as_str(), section.path.as_str()), ("What floats", "/category/local/sea/"));
    assert_eq!(section.parent, "sections/local");
    let [Kind::Author(author)] = &kinds(&all[1])[..] else { panic!("no author") };
    assert_eq!((author.name.as_str(), author.display_name.as_str()), ("authors/ana", "Ana Möyer"));
    assert_eq!(author.alt_ids, BTreeMap::from([("wordpress".to_owned(), "3".to_owned())]));

    let [Kind::Section(local), Kind::Article(article)] = &kinds(&all[3])[..] else { panic!("{:?}", all[3]) };
    assert_eq!(local.display_name, "Local", "the file lists no such category");
    assert_eq!((article.name.as_str(), article.path.as_str()), ("articles/wp-7", "/2024/05/storm/"));
    assert_eq!(
        (article.section.as_str(), &article.additional_sections[..]),
        ("sections/sea", &["sections/local".to_owned()][..])
    );
    assert_eq!((&article.tags[..], article.language.as_str()), (&["tags/storm".to_owned()][..], "en-GB"));
    assert_eq!(article.summary, "In short");
    assert_eq!(article.publish_time.as_ref().map(|t| t.seconds), Some(1_714_979_289));
    assert_eq!(article.alt_ids, [v1::AltId { role: "wordpress".into(), value: "7".into() }]);
    assert_eq!(article.annotations["post_format"], "Image");
    let credit = &article.byline.as_ref().unwrap().credits[0];
    assert_eq!((credit.author.as_str(), credit.display_name.as_str()), ("authors/ana", "Ana Möyer"));
    let media = article.lead_media.as_ref().unwrap();
    assert_eq!(
        (media.alt_text.as_str(), media.credit.as_str(), media.creator.as_str()),
        ("A quay", "Bo Lind", "Bo Lind")
    );
    assert_eq!(media.renditions[0].r#type, "image/jpeg");
    assert_eq!(media.caption[0].text, "The quay");
    assert_eq!(article.body.as_ref().unwrap().blocks.len(), 2);
}

#[test]
fn items_that_are_not_public_are_skipped_with_a_reason() {
    let outcome = |fields: &str| items(&channel(&post(1, fields)))[0].outcome.clone();
    for status in ["draft", "private", "pending", "trash", "auto-draft", "inherit"] {
        let fields = format!("<wp:status>{status}</wp:status>");
        assert_eq!(outcome(&fields), ItemOutcome::Skipped(SkipReason::Status(status.into())));
    }
    assert_eq!(
        outcome("<wp:status>future</wp:status>"),
        ItemOutcome::Skipped(SkipReason::ScheduledWithoutTime)
    );
    assert_eq!(outcome("<wp:post_password>x</wp:post_password>"), ItemOutcome::Skipped(SkipReason::Password));
    assert_eq!(
        outcome("<wp:post_type>nav_menu_item</wp:post_type>"),
        ItemOutcome::Skipped(SkipReason::PostType("nav_menu_item".into()))
    );
    assert!(matches!(
        outcome("<wp:post_date_gmt>2026-01-01 00:00:00</wp:post_date_gmt>"),
        ItemOutcome::Converted(_)
    ));
}

#[test]
fn the_most_precise_date_is_used() {
    let seconds = |fields: &str| article(fields).publish_time.map(|time| time.seconds);
    let zero = "<wp:post_date_gmt>0000-00-00 00:00:00</wp:post_date_gmt>";
    assert_eq!(
        seconds(&format!("{zero}<wp:post_date>2024-01-01 00:00:00</wp:post_date>")),
        Some(1_704_067_200)
    );
    let feed = "<pubDate>Mon, 01 Jan 2024 01:00:00 +0100</pubDate>";
    assert_eq!(seconds(&format!("{zero}{feed}")), Some(1_704_067_200));
    assert_eq!(seconds(&format!("{zero}<pubDate>Wed, 30 Nov -0001 00:00:00 +0000</pubDate>")), None);
}

#[test]
fn the_path_comes_from_the_link_or_else_the_slug() {
    let path = |link: &str, name: &str| {
        article(&format!("<link>{link}</link><wp:post_name>{name}</wp:post_name>")).path
    };
    assert_eq!(path("https://a.example/caf%C3%A9/?x=1#y", "cafe"), "/caf%C3%A9/");
    assert_eq!(path("https://a.example/?p=7", "storm"), "/storm/");
    assert_eq!(path("https://a.example/?p=7", ""), "");
    assert_eq!(path("https://a.example//port//storm/", "storm"), "/port//storm/");
    assert_eq!(path("https://a.example/", "home"), "/");
    assert_eq!(path("", "storm"), "");
}

#[test]
fn the_headline_defaults_to_the_first_words() {
    let headline = |content: &str| {
        article(&format!("<title></title><content:encoded><![CDATA[{content}]]></content:encoded>")).headline
    };
    assert_eq!(headline("<p>The ferry <b>is</b> late.</p>"), "The ferry is late.");
    let derived = headline(&"harbour ".repeat(20));
    assert_eq!(derived, ["harbour"; 10].join(" "));
    assert_eq!(headline("<img src='/a.jpg'>"), "Untitled");
    assert_eq!(article("<title><![CDATA[Sea &amp; <i>Port</i>]]></title>").headline, "Sea & Port");
}

#[test]
fn categories_and_tags_above_a_limit_are_preserved() {
    let mut fields: String =
        (0..20).map(|n| format!("<category domain='category' nicename='c{n}'>C{n}</category>")).collect();
    fields += &(0..130)
        .map(|n| format!("<category domain='post_tag' nicename='t{n}'>T{n}</category>"))
        .collect::<String>();
    let all = items(&channel(&post(7, &fields)));
    let article = article_of(&all[0]);
    assert_eq!((article.additional_sections.len(), article.tags.len()), (16, 128));
    assert_eq!(article.annotations["more_tags"], "tags/t128, tags/t129, tags/c17, tags/c18, tags/c19");
    assert_eq!(converted(&all[0]).notes, ["3 categories above the limit became tags"]);
    let names: Vec<_> = kinds(&all[0]).iter().filter(|k| matches!(k, Kind::Tag(_))).cloned().collect();
    assert_eq!(names.len(), 133, "each tag has a record");
}

#[test]
fn terms_without_slugs_are_matched_by_name() {
    let export = channel(&format!(
        "<wp:category><wp:category_nicename>sea</wp:category_nicename><wp:cat_name>Sea</wp:cat_name></wp:category>\
         <wp:category><wp:cat_name>Old Port</wp:cat_name></wp:category>{}",
        post(
            7,
            "<category>Sea</category><category domain='category' nicename='sea'>Sea</category>\
             <category domain='tag'>Storm</category><category domain='tag' nicename='storm'>Storm</category>\
             <category>Storm</category><category>Old Port</category><dc:creator>Ana Möyer</dc:creator>"
        )
    ));
    let all = items(&export);
    assert!(matches!(&kinds(&all[1])[..], [Kind::Section(s)] if s.name == "sections/old-port"));
    let article = article_of(&all[2]);
    assert_eq!(
        (article.section.as_str(), &article.additional_sections[..]),
        ("sections/sea", &["sections/old-port".to_owned()][..])
    );
    assert_eq!(article.tags, ["tags/storm"]);
    let Some(Kind::Author(author)) = kinds(&all[2]).into_iter().find(|k| matches!(k, Kind::Author(_))) else {
        panic!("no author");
    };
    assert_eq!(
        (author.name.as_str(), author.display_name.as_str()),
        ("authors/Ana~20M~c3~b6yer", "Ana Möyer")
    );
}

#[test]
fn guest_authors_are_credited_instead_of_the_user() {
    let article = article(
        "<dc:creator>desk</dc:creator><category domain='author' nicename='cap-ana'>ana</category>\
         <category domain='author' nicename='cap-bo-lind'>bo</category>",
    );
    let credits: Vec<_> = article.byline.unwrap().credits.into_iter().map(|credit| credit.author).collect();
    assert_eq!(credits, ["authors/ana", "authors/bo-lind"]);
    assert!(article.annotations.is_empty());
}

#[test]
fn values_that_the_server_would_refuse_are_omitted() {
    let fields = "<link>https://a.example//x y\\z/</link><content:encoded><![CDATA[<a href='/a b' title='T'>x</a>\
                  <img src='/c d.png'><a href='a\\b:c'>y</a>]]></content:encoded>";
    let export = channel(&post(7, fields)).replace("en-GB", "klingon_language_of_old");
    let article = article_of(&items(&export)[0]);
    assert_eq!((article.path.as_str(), article.language.as_str()), ("", "klingon-language-of-old"));
    let export = export.replace("klingon", "?");
    assert_eq!(article_of(&items(&export)[0]).language, "");
}

#[test]
fn other_taxonomies_and_duplicates_are_skipped() {
    let term = |taxonomy: &str, slug: &str| {
        format!(
            "<wp:term><wp:term_taxonomy>{taxonomy}</wp:term_taxonomy><wp:term_slug>{slug}</wp:term_slug><wp:term_name>X</wp:term_name></wp:term>"
        )
    };
    let tag = "<wp:tag><wp:tag_slug>x</wp:tag_slug><wp:tag_name>X</wp:tag_name></wp:tag>";
    let all = items(&channel(
        &[
            term("nav_menu", "m"),
            term("post_tag", "x"),
            term("category", "y"),
            tag.into(),
            "<wp:tag/>".into(),
            post(1, ""),
        ]
        .concat(),
    ));
    assert!(matches!(all[0].outcome, ItemOutcome::Converted(_)));
    assert!(matches!(all[1].outcome, ItemOutcome::Failed(_)), "a tag without slug and name");
    assert_eq!(all[2].outcome, ItemOutcome::Skipped(SkipReason::Taxonomy("nav_menu".into())));
    assert_eq!(all[3].outcome, ItemOutcome::Skipped(SkipReason::Duplicate));
    assert!(matches!(all[4].outcome, ItemOutcome::Converted(_)));
}

#[test]
fn an_invalid_post_fails_without_affecting_others() {
    let content = |text: &str| format!("<content:encoded><![CDATA[{text}]]></content:encoded>");
    let export = channel(
        &[
            post(1, &content(&"<hr>".repeat(10_001))),
            post(2, &content(&"word ".repeat(250_000))),
            "<item><wp:post_type>post</wp:post_type><wp:status>publish</wp:status></item>".to_owned(),
            post(4, ""),
            post(4, ""),
        ]
        .concat(),
    );
    let all = items(&export);
    let reasons: Vec<_> = all
        .iter()
        .map(|item| if let ItemOutcome::Failed(problem) = &item.outcome { problem.as_str() } else { "" })
        .collect();
    assert_eq!(reasons[0], "body has 10001 blocks: at most 10,000; split the post");
    assert!(reasons[1].ends_with("at most 1 MiB; split the post"), "{}", reasons[1]);
    assert_eq!(reasons[2], "no post id");
    assert!(matches!(all[3].outcome, ItemOutcome::Converted(_)));
    assert_eq!(all[4].outcome, ItemOutcome::Skipped(SkipReason::Duplicate));
}

#[test]
fn bytes_that_are_not_utf8_fail_their_post_only() {
    let mut export =
        channel(&[post(1, "<content:encoded>a\u{e9}b</content:encoded>"), post(2, "")].concat()).into_bytes();
    let at = export.iter().position(|b| *b == 0xc3).unwrap();
    export.remove(at);
    let (all, _) = items_of(&[&export], &options());
    let bad_bytes = element::BAD_BYTES;
    assert!(matches!(&all[0].outcome, ItemOutcome::Failed(problem) if problem == bad_bytes), "{:?}", all[0]);
    assert!(matches!(all[1].outcome, ItemOutcome::Converted(_)));
}

#[test]
fn forbidden_characters_are_removed_with_a_note() {
    let fields = "<title>Low\u{1}water</title><category domain='post_tag' nicename='a'>A&#8238;b</category>\
        <content:encoded><![CDATA[<p>The gauge fell\u{c} and&#1; the&#x202e; boats sat.\u{fffe}</p>]]></content:encoded>";
    let all = items(&channel(&post(91, fields)));
    let article = article_of(&all[0]);
    assert_eq!(article.headline, "Lowwater");
    let text = cable_body::render(article.body.as_ref().unwrap(), v1::BodyFormat::PlainText);
    assert_eq!(text, "The gauge fell and the boats sat.");
    let notes = &converted(&all[0]).notes;
    assert_eq!(notes, &["6 control and format characters removed"]);
    let line = Report::default().add(&all[0]);
    assert!(line.contains("control and format characters removed"), "{line}");
}

#[test]
fn entities_and_split_cdata_are_decoded() {
    let article = article(
        "<title>Sea &amp;amp; Port &#8211; A&nbsp;B & C</title><content:encoded><![CDATA[a]]]]><![CDATA[>b]]></content:encoded>",
    );
    assert_eq!(article.headline, "Sea & Port \u{2013} A B & C");
    let text = text_of_body(article.body.as_ref().unwrap());
    assert_eq!(text.trim(), "a]]>b");
}

#[test]
fn premium_content_is_for_subscribers() {
    let content = |text: &str| format!("<content:encoded><![CDATA[{text}]]></content:encoded>");
    let access = |fields: &str| {
        let items = items(&channel(&post(1, fields)));
        let notes = &converted(&items[0]).notes;
        let is_noted = notes.iter().any(|note| note.starts_with("access set to SUBSCRIBER"));
        let access = article_of(&items[0]).access();
        assert_eq!(is_noted, access == v1::Access::Subscriber, "{notes:?}");
        access
    };
    for fields in [
        content("a <!-- wp:jetpack/paywall /--> b"),
        content("a [restrict]b[/restrict]"),
        meta("_jetpack_newsletter_access", "subscribers"),
        meta("_jetpack_newsletter_access", "paid_subscribers_all_tiers"),
    ] {
        assert_eq!(access(&fields), v1::Access::Subscriber, "{fields}");
    }
    for fields in [content("a"), meta("_jetpack_newsletter_access", "everybody")] {
        assert_eq!(access(&fields), v1::Access::Unspecified, "{fields}");
    }
}

fn unit_test_file() -> Option<PathBuf> {
    let root = std::env::var_os("CABLE_TEST_DATA").map(PathBuf::from);
    let root = root.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"));
    let path = root.join("wordpress-theme-unit-test.xml");
    if path.exists() {
        return Some(path);
    }
    eprintln!("SKIPPED: the WordPress theme unit test is not at {}", path.display());
    None
}

/// Returns the contents of a file's published posts and pages, found without an XML parser.
fn contents(file: &str) -> BTreeMap<u64, String> {
    let between = |text: &str, open: &str, close: &str| -> Option<String> {
        let (_, rest) = text.split_once(open)?;
        Some(
            rest.split_once(close)?
                .0
                .trim()
                .trim_start_matches("<![CDATA[")
                .trim_end_matches("]]>")
                .to_owned(),
        )
    };
    let items = file.split("<item>").skip(1);
    items
        .filter_map(|item| {
            let id = between(item, "<wp:post_id>", "</wp:post_id>")?.parse().ok()?;
            Some((id, between(item, "<content:encoded>", "</content:encoded>")?))
        })
        .collect()
}

#[test]
fn every_word_of_the_theme_unit_test_survives() {
    let Some(path) = unit_test_file() else { return };
    let file = std::fs::read_to_string(&path).unwrap();
    let contents = contents(&file);
    let mut report = Report::default();
    let mut articles = 0;
    let mut lost = Vec::new();
    for item in read(vec![path], &options()).unwrap() {
        let item = item.unwrap();
        report.add(&item);
        assert!(!matches!(item.outcome, ItemOutcome::Failed(_)), "{item:?}");
        let ItemOutcome::Converted(converted) = &item.outcome else { continue };
        for record in &converted.records {
            let Some(Kind::Article(article)) = &record.record else { continue };
            articles += 1;
            let id: u64 = article.name.strip_prefix("articles/wp-").unwrap().parse().unwrap();
            // The two links of a file are two words, although nothing separates them.
            let content = contents[&id].replace("</a><a ", "</a> <a ");
            let missing = missing_words(&content, article.body.as_ref().unwrap());
            if !missing.is_empty() {
                lost.push((item.label.clone(), missing));
            }
        }
    }
    eprintln!("{report}");
    assert_eq!(lost, []);
    assert!(articles > 70, "{articles} articles");
    let count = |open: &str| file.matches(open).count();
    let elements = count("<item>")
        + count("<wp:author>")
        + count("<wp:category>")
        + count("<wp:tag>")
        + count("<wp:term>");
    assert!(report.to_string().contains(&format!("all {elements} items")), "{elements} in\n{report}");
}

const WITH_FOOTNOTE: &str = "<content:encoded><![CDATA[<!-- wp:paragraph --><p>Low<sup data-fn=\"f-1\"><a href=\"#f-1\" \
    id=\"f-1-link\">1</a></sup> water.</p><!-- /wp:paragraph --><!-- wp:footnotes /-->]]></content:encoded>";

#[test]
fn footnotes_are_a_list_at_their_block() {
    let field = meta("footnotes", r#"[{"content":"As of <em>Monday</em>.","id":"f-1"}]"#);
    let all = items(&channel(&post(7, &format!("{WITH_FOOTNOTE}{field}"))));
    assert!(converted(&all[0]).not_imported.is_empty(), "{:?}", all[0]);
    let article = article_of(&all[0]);
    let blocks = article.body.unwrap().blocks;
    let Some(v1::block::Kind::List(list)) = &blocks[1].kind else { panic!("{blocks:#?}") };
    assert_eq!((list.ordered, list.items[0].blocks[0].id.as_str()), (true, "f-1"));
    // A post that does not show them, and a field that cannot be read.
    for fields in [field.clone(), format!("{WITH_FOOTNOTE}{}", meta("footnotes", "[{"))] {
        let all = items(&channel(&post(7, &fields)));
        assert!(converted(&all[0]).not_imported.contains_key("custom field footnotes"), "{:?}", all[0]);
    }
}

#[test]
fn times_that_cannot_be_read_have_a_note() {
    for (fields, note) in [
        ("<wp:post_date_gmt>2024-02-31 25:61:00</wp:post_date_gmt>", "publication time omitted"),
        ("<wp:post_date_gmt>0000-00-00 00:00:00</wp:post_date_gmt>", "the publication time is zero"),
        (
            "<wp:post_date_gmt>2024-02-01 10:00:00</wp:post_date_gmt>\
             <wp:post_modified_gmt>later</wp:post_modified_gmt>",
            "time of the last change omitted",
        ),
    ] {
        let all = items(&channel(&post(7, fields)));
        let notes = &converted(&all[0]).notes;
        assert!(notes.len() == 1 && notes[0].starts_with(note), "{fields}: {notes:?}");
    }
}

#[test]
fn markup_that_is_not_escaped_is_reported() {
    let fields = "<content:encoded><p>See <a href='/x'>there</a>.</p></content:encoded>";
    let all = items(&channel(&post(7, fields)));
    let notes = &converted(&all[0]).notes;
    assert_eq!(notes, &["2 elements of markup that is not escaped: only their text was read"]);
}
