//! The properties of the forms of all bodies: parsers find the same words, marks and links in each, and nothing active.

use proptest::prelude::*;
use scraper::Html;

use super::{
    random::{any_body, any_body_without_raw_html, any_spans},
    reading::{html_text, looks_of, looks_of_markdown, markdown_text},
    *,
};

/// Returns the words, without the dash before an attribution.
fn words(text: &str) -> Vec<String> {
    text.split_whitespace().filter(|&word| word != "\u{2014}").map(str::to_owned).collect()
}

/// Whether a quote ends a line with the marker of a list. pulldown-cmark reads a paragraph that follows such an empty item
/// in an outer list as code; the reference implementation, commonmark.py, reads it as a paragraph.
fn has_empty_item_in_quote(markdown: &str) -> bool {
    let is_marker =
        |word: &str| word == "-" || word.strip_suffix('.').is_some_and(|n| n.parse::<u64>().is_ok());
    markdown.lines().any(|line| {
        let mut words = line.split_whitespace().rev();
        words.next().is_some_and(is_marker) && words.any(|word| word == ">")
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn words_are_counted_as_by_split_whitespace(
        text in "[aé \\t\\n\\x0b\\x1f\u{85}\u{a0}\u{1680}\u{2003}\u{2028}\u{3000}\u{200b}]{0,40}|\\PC{0,40}",
    ) {
        prop_assert_eq!(count_words(&text), text.split_whitespace().count());
    }

    /// Regardless of the texts, the HTML contains nothing active.
    #[test]
    fn html_contains_nothing_active(body in any_body()) {
        let html = render(&body, BodyFormat::Html);
        prop_assert!(!html.to_ascii_lowercase().contains("<script"));
        for element in Html::parse_fragment(&html).root_element().descendent_elements() {
            prop_assert!(!matches!(element.value().name(), "script" | "style" | "iframe" | "form" | "object"));
            for (name, value) in element.value().attrs() {
                prop_assert!(!name.starts_with("on") && name != "style", "{name} in {html}");
                prop_assert!(!matches!(name, "href" | "src") || link_target(value).is_some(), "{value} in {html}");
            }
        }
    }

    /// A client may send the HTML back: the sanitiser allows each element, and each attribute except those that only the
    /// renderer may write.
    #[test]
    fn the_sanitiser_allows_rendered_html(body in any_body()) {
        const OWN: [&str; 6] = ["id", "class", "srcset", "itemprop", "itemscope", "itemtype"];
        const DATA: [&str; 4] = [KEY_EVENT, PINNED, FOCAL_POINT, DURATION];
        let html = render(&body, BodyFormat::Html);
        for element in Html::parse_fragment(&html).root_element().descendent_elements().skip(1) {
            let name = element.value().name();
            prop_assert!(crate::sanitise::allows(name, None), "{name} in {html}");
            for (attribute, _) in element.value().attrs() {
                let is_own = OWN.contains(&attribute) || DATA.contains(&attribute);
                let is_allowed = is_own || crate::sanitise::allows(name, Some(attribute));
                prop_assert!(is_allowed, "{attribute} in {html}");
            }
        }
    }

    /// The texts, captions, credits and, without a caption, alternative texts of the HTML as a browser parses it are
    /// the words that are counted, in the same order.
    #[test]
    fn html_has_the_words_of_the_plain_text(body in any_body()) {
        let html = render(&body, BodyFormat::Html);
        let mut text = String::new();
        html_text(Html::parse_fragment(&html).root_element(), &mut text);
        prop_assert_eq!(words(&text), words(&text::words(&body, 0)), "{}", html);
    }

    #[test]
    fn markdown_has_the_words_of_the_plain_text(body in any_body_without_raw_html()) {
        let markdown = render(&body, BodyFormat::Markdown);
        prop_assume!(!has_empty_item_in_quote(&markdown));
        prop_assert_eq!(words(&markdown_text(&markdown)), words(&text::words(&body, 0)), "{}", markdown);
    }

    /// Every character of a paragraph, heading or cell keeps its marks and its link.
    #[test]
    fn markdown_preserves_every_mark_and_link(spans in any_spans()) {
        let wanted = looks_of(&spans);
        let heading = block(Kind::Heading(Heading { level: 3, spans: spans.clone() }));
        let row = TableRow { cells: vec![TableCell { header: true, spans: spans.clone(), ..TableCell::default() }] };
        let table = block(Kind::Table(Table { rows: vec![row], caption: vec![] }));
        for block in [paragraph(spans), heading, table] {
            let markdown = render(&body(vec![block]), BodyFormat::Markdown);
            prop_assert_eq!(looks_of_markdown(&markdown), wanted.clone(), "{}", markdown);
        }
    }

    #[test]
    fn plain_text_has_no_white_space_at_the_end_of_a_line(body in any_body()) {
        let text = render(&body, BodyFormat::PlainText);
        prop_assert_eq!(text.trim_end(), &text);
        prop_assert!(text.split('\n').all(|line| line.trim_end() == line), "{text:?}");
    }

    #[test]
    fn rendering_is_deterministic(body in any_body()) {
        for format in [BodyFormat::Html, BodyFormat::Markdown, BodyFormat::PlainText] {
            prop_assert_eq!(render(&body, format), render(&body.clone(), format));
        }
    }
}
