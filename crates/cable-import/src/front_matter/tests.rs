//! Front matter in both languages: short forms, types, errors, bounds, and the way back.

use std::time::Duration;

use cable_body::testing::Stopwatch;
use proptest::{collection::vec, prelude::*};

use super::*;

fn parsed(text: &str) -> v1::Article {
    parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).article
}

fn error(front_matter: &str) -> String {
    match parse(&format!("---\n{front_matter}\n---\n")) {
        Err(error) => error.to_string(),
        Ok(document) => panic!("{front_matter}: {document:?}"),
    }
}

const QUAY: &str = "---
id: quay
title: Quay reopens
dek: \"After a year: boats\"
tags: [port-averil, tags/quays]
section: local
authors:
  - ada
  - Nessa Voss
date: 2026-03-01
updated: 2026-03-01 06:00:00 +0200
path: /local/quay
type: liveblog
language: no
summary: 1984
leadMedia:
  renditions:
    href: https://img.example/quay.jpg
    width: 800
annotations:
  budget: 0123
---

The quay opened again.
";

#[test]
fn short_forms_are_fields_of_the_article() {
    let Document { article, body } = parse(QUAY).unwrap();
    assert_eq!(body, "The quay opened again.\n");
    assert_eq!((&*article.name, &*article.headline), ("articles/quay", "Quay reopens"));
    assert_eq!(article.dek, "After a year: boats");
    assert_eq!(article.tags, ["tags/port-averil", "tags/quays"]);
    assert_eq!(article.section, "sections/local");
    let credits = article.byline.unwrap().credits;
    assert_eq!((&*credits[0].author, &*credits[1].display_name), ("authors/ada", "Nessa Voss"));
    assert_eq!(article.publish_time.unwrap().seconds, 1_772_323_200);
    assert_eq!(article.modified_time.unwrap().seconds, 1_772_323_200 + 4 * 3600);
    assert_eq!(article.r#type, i32::from(v1::ArticleType::Liveblog));
    assert_eq!((&*article.language, &*article.summary), ("no", "1984"));
    assert_eq!(article.lead_media.unwrap().renditions[0].width, 800);
    assert_eq!(article.annotations["budget"], "0123");
}

#[test]
fn toml_gives_the_same_article_as_yaml() {
    let toml = "+++
id = 'quay'
title = 'Quay reopens'
dek = 'After a year: boats'
tags = ['port-averil', 'tags/quays']
section = 'local'
authors = ['ada', 'Nessa Voss']
date = 2026-03-01
updated = 2026-03-01T04:00:00Z
path = '/local/quay'
type = 'liveblog'
language = 'no'
summary = 1984
[leadMedia.renditions]
href = 'https://img.example/quay.jpg'
width = 800
[annotations]
budget = '0123'
+++

The quay opened again.
";
    assert_eq!(parse(toml), parse(QUAY));
    assert_eq!(parse(&toml.replace('\n', "\r\n")).unwrap().article, parsed(QUAY));
    assert_eq!(parse(&QUAY.replace('\n', "\r\n")).unwrap().article, parsed(QUAY));
}

#[test]
fn a_text_without_front_matter_is_a_body() {
    for text in ["", "The quay.", "# Quay\n\n---\n\nx", "----\na: b\n---\n", " ---\n---\n"] {
        let document = parse(text).unwrap();
        assert_eq!((document.body.as_str(), document.article), (text, v1::Article::default()), "{text:?}");
    }
    for (text, body) in [("---\n---", ""), ("---\n# only a comment\n...\nx", "x"), ("+++\n+++\n\n\nx", "\nx")]
    {
        assert_eq!(parse(text).unwrap().body, body, "{text:?}");
    }
}

#[test]
fn authors_have_three_forms() {
    for text in
        ["authors: ada", "author: ada", "authors: [authors/ada]", "byline: {credits: [{author: ada}]}"]
    {
        let article = parsed(&format!("---\n{text}\n---\n"));
        assert_eq!(article.byline.unwrap().credits[0].author, "authors/ada", "{text}");
    }
    let article = parsed("---\nauthors: [{author: ada, role: Photographer}]\n---\n");
    assert_eq!(article.byline.unwrap().credits[0].role, "Photographer");
}

#[test]
fn an_error_names_the_field_or_the_line() {
    for (front_matter, expected) in [
        ("headlin: x", "unknown field `headlin`"),
        ("byline: {texts: x}", "unknown field `byline.texts`"),
        ("headline: a\ntitle: b", "`title`: `headline` is given twice"),
        ("publishTime: 2026-03-01\npublish_time: 2026-03-02", "given twice"),
        ("headline: a\nheadline: b", "line 3: `headline` is given twice"),
        ("headline: [a, b]", "field `headline`: expected a single value"),
        ("headline: {a: b}", "field `headline`: expected a single value"),
        ("date: 2026-03-01T06:00:00", "field `publishTime`: expected a day"),
        ("date: yesterday", "field `publishTime`: expected a day"),
        ("date: {seconds: 1}", "field `publishTime`: expected a day"),
        ("type: essay", "field `type`: expected one of: article, liveblog"),
        ("leadMedia: x", "field `leadMedia`: expected a mapping"),
        (
            "leadMedia: {renditions: {width: wide}}",
            "field `leadMedia.renditions[0].width`: expected a number",
        ),
        ("related: [{article: a}, b]", "field `related[1]`: expected a mapping"),
        ("annotations: x", "field `annotations`: expected a mapping"),
        ("annotations: {a: [b]}", "field `annotations.a`: expected text"),
        ("body: x", "`body`: the body is the text below"),
        ("authors: [[a]]", "`authors`: expected ids or names"),
        ("- a", "expected fields"),
        ("headline: 'a", "line "),
        ("headline: a: b", "line 2"),
        ("a: &x b\nc: *x", "line 2: anchors are not supported"),
        ("headline: !!str a", "line 2: tags are not supported"),
        ("[a]: b", "line 2: "),
    ] {
        let error = error(front_matter);
        assert!(error.starts_with("front matter: ") && error.contains(expected), "{front_matter}: {error}");
    }
    for (text, expected) in [
        ("---\nheadline: x\n", "expected a line `---`"),
        ("+++\nheadline = 'x'\n---\n", "expected a line `+++`"),
        ("+++\nheadline = 'x'\nheadline = 'y'\n+++\n", "line 3: "),
        ("+++\nheadline = x\n+++\n", "line 2: "),
        ("+++\ndate = 2026-03-01T06:00:00\n+++\n", "expected a day"),
    ] {
        let error = parse(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text:?}: {error}");
    }
}

#[test]
fn null_and_empty_values_are_unset() {
    let article = parsed(
        "---\nheadline: x\ndek:\nsummary: ~\nkicker: null\ntags: []\nauthors:\nlanguage: \"null\"\n---\n",
    );
    let expected = v1::Article { headline: "x".into(), language: "null".into(), ..Default::default() };
    assert_eq!(article, expected);
}

#[test]
fn the_worst_front_matter_is_refused_or_read_in_time() {
    let repeated = |text: &str| text.repeat(MAX_BYTES / text.len() - 8);
    let keys: String = (0..MAX_BYTES / 12).map(|n| format!("k{n}: 0\n")).collect();
    let tables: String = (0..MAX_BYTES / 12).map(|n| format!("[t{n}]\n")).collect();
    for (delimiter, text) in [
        ("---", format!("a: {}", repeated("["))),
        ("---", format!("a: {}", repeated("{a: "))),
        ("---", repeated("- ")),
        ("---", repeated("? ")),
        ("---", keys),
        ("---", format!("a: \"{}\"", repeated("\\n"))),
        ("---", format!("a: {}", repeated("x "))),
        ("---", format!("a: [{}]", repeated("x,"))),
        ("---", repeated("#")),
        ("---", format!("a: |\n {}", repeated("\n"))),
        ("---", repeated("&a ")),
        ("---", repeated("%")),
        ("+++", format!("a = {}", repeated("["))),
        ("+++", format!("a = {}", repeated("{a="))),
        ("+++", format!("{}=1", repeated("a."))),
        ("+++", format!("[{}a]", repeated("a."))),
        ("+++", tables),
        ("+++", format!("a = [{}]", repeated("1,"))),
    ] {
        let clock = Stopwatch::start();
        let outcome = parse(&format!("{delimiter}\n{text}\n{delimiter}\n"));
        let took = clock.elapsed();
        // The bound is on a release build; this one is slower.
        assert!(took < Duration::from_secs(2), "{took:?}: {}", &text[..20]);
        assert!(outcome.is_err() || text.starts_with('#'), "{}", &text[..20]);
    }
    let long = format!("---\nheadline: {}\n---\n", "x".repeat(MAX_BYTES));
    assert_eq!(parse(&long), Err(Error::TooLong));
    assert_eq!(parse(&long[..MAX_BYTES]), Err(Error::Unclosed("---")));
}

fn article() -> impl Strategy<Value = v1::Article> {
    let text = prop_oneof!["[ -~]{0,20}", "\\PC{0,20}", any::<String>()];
    let name = prop_oneof!["[a-zA-Z0-9._~-]{1,12}", "[ -~]{1,9}"];
    let texts = (text.clone(), text.clone(), vec((name.clone(), text.clone()), 0..3));
    let byline = vec((name.clone(), text.clone(), text), 0..3);
    let rest = (vec(name, 0..3), -62_135_596_800..253_402_300_800_i64, -1..9_i32, any::<bool>());
    (texts, byline, rest).prop_map(|((headline, dek, annotations), credits, (tags, seconds, kind, flag))| {
        let credit = |(author, display_name, role): (String, String, String)| match flag {
            true => v1::Credit { author: format!("authors/{author}"), ..Default::default() },
            false => v1::Credit { author: String::new(), display_name, role },
        };
        v1::Article {
            headline,
            dek,
            annotations: annotations.into_iter().collect(),
            tags: tags.into_iter().map(|tag| format!("tags/{tag}")).collect(),
            byline: flag.then(|| v1::Byline {
                text: String::new(),
                credits: credits.into_iter().map(credit).collect(),
            }),
            publish_time: Some(prost_types::Timestamp { seconds, nanos: 5_000 }),
            r#type: kind,
            lead_media: flag.then(v1::Media::default),
            embargo: Some(v1::Embargo { until: None, note: "a: b".into() }),
            ..Default::default()
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn written_articles_are_parsed_unchanged(article in article(), body in "\\PC{0,40}") {
        let text = write(&article, &body);
        let document = parse(&text);
        prop_assert_eq!(document, Ok(Document { article, body }), "{}", text);
    }

    #[test]
    fn any_text_is_parsed_or_refused(text in any::<String>(), delimiter in "---|\\+\\+\\+") {
        let _any = parse(&format!("{delimiter}\n{text}\n{delimiter}\n"));
    }
}

#[test]
fn fields_of_the_server_and_the_body_are_not_written() {
    let article = v1::Article {
        name: "articles/quay".into(),
        etag: "fe49a3a5-1-c41f7e90".into(),
        revision: 7,
        headline: "Quay".into(),
        former_paths: vec![v1::FormerPath::default()],
        body: Some(v1::Body::default()),
        ..Default::default()
    };
    let text = write(&article, "Text.\n");
    assert_eq!(text, "---\nname: quay\netag: fe49a3a5-1-c41f7e90\nheadline: Quay\n---\n\nText.\n");
}

#[test]
fn a_nul_is_refused_rather_than_taken_for_the_end() {
    let error = parse("---\nheadline: Quay\ndek: a\0b\ntags: [x]\n---\nText.").unwrap_err().to_string();
    assert_eq!(error, "front matter: line 3: contains U+0000: remove it");
    assert!(fields("---\ntitle: a\0b\n---\nText.").is_err());
}

#[test]
fn empty_lines_above_front_matter_are_skipped() {
    for text in ["\n\n---\nheadline: Quay\n---\nText.", " \r\n+++\nheadline = \"Quay\"\n+++\nText."] {
        let document = parse(text).unwrap();
        assert_eq!((&*document.article.headline, &*document.body), ("Quay", "Text."), "{text:?}");
    }
    for text in
        ["\n---\n\nText.\n\n---\n", "\n---\nText.\n", "\nText.\n---\na: b\n---\n", "   ---\na: b\n---\n"]
    {
        assert_eq!(parse(text).unwrap().body, text);
    }
}
