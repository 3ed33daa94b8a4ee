//! Elements without a block, and bounds: depth, cost, and no lost word.

use proptest::prelude::*;

use super::*;
use crate::testing::soup;

#[test]
fn elements_without_a_block_remain_sanitised_html() {
    let converted =
        body("<dl onclick='x()'><dt>a</dt><dd>b<script>alert(1)</script></dd></dl>", &NoAttachments);
    let [Block { kind: Some(Kind::RawHtml(raw)), .. }] = &converted.body.blocks[..] else {
        panic!("no html")
    };
    assert_eq!((raw.reason.as_str(), converted.raw_html), ("element <dl>", 1));
    assert!(!raw.html.contains("script") && !raw.html.contains("onclick"), "{}", raw.html);
    assert_eq!(crate::sanitise::sanitise(&raw.html), raw.html);
}

#[test]
fn elements_emptied_by_sanitising_leave_text_or_url() {
    let converted = body("<form><input value=x></form><p>then</p><script>x()</script>", &NoAttachments);
    assert_eq!(converted.dropped, 2);
    assert_eq!(text_of_body(&converted.body).trim(), "then");
    let html = "<figure><object data='https://a.b/c.swf'></object><figcaption>Waves</figcaption></figure>";
    let all = with_files(html);
    let [Kind::Embed(embed)] = &all[..] else { panic!("{all:?}") };
    assert_eq!((embed.url.as_str(), &embed.caption[..]), ("https://a.b/c.swf", &[bare("Waves")][..]));
}

#[test]
fn missing_words_are_detected() {
    let body = body("<p>one two two</p>", &NoAttachments).body;
    assert_eq!(missing_words("<b>two</b> two two on<i>e</i> three", &body), ["two", "three"]);
}

#[test]
fn wrapper_elements_are_removed() {
    let html = "<div><section><article><div>one<div>two</div></div><p>three</p></article></section></div>";
    assert_eq!(blocks(html).len(), 3);
}

fn depth(blocks: &[Block]) -> usize {
    let of = |block: &Block| match &block.kind {
        Some(Kind::List(list)) => list.items.iter().map(|i| depth(&i.blocks)).max().unwrap_or(0),
        Some(Kind::Quote(quote)) => depth(&quote.blocks),
        _ => 0,
    };
    blocks.iter().map(|block| 1 + of(block)).max().unwrap_or(0)
}

#[test]
fn blocks_nested_deeper_than_sixteen_become_html() {
    for (open, close) in [("<ul><li>", "</li></ul>"), ("<blockquote>", "</blockquote>")] {
        let nested = |levels: usize| format!("{}deep{}", open.repeat(levels), close.repeat(levels));
        let converted = body(&nested(15), &NoAttachments);
        assert_eq!((depth(&converted.body.blocks), converted.raw_html), (16, 0));
        let converted = body(&nested(40), &NoAttachments);
        assert_eq!((depth(&converted.body.blocks), converted.raw_html), (16, 1));
        assert_eq!(text_of_body(&converted.body).trim(), "deep");
    }
}

#[test]
fn very_deep_nesting_becomes_text() {
    for tag in ["div", "b", "blockquote", "span", "ul", "svg", "table", "font size=1"] {
        let html = format!("{}deep <b>water</b>", format!("<{tag}>").repeat(100_000));
        let converted = body(&html, &NoAttachments);
        assert_eq!(missing_words("deep water", &converted.body), Vec::<String>::new(), "{tag}");
        assert!(depth(&converted.body.blocks) <= 16);
    }
    let closed = format!("{}deep{}", "<div>".repeat(100_000), "</div>".repeat(100_000));
    assert_eq!(text_of_body(&body(&closed, &NoAttachments).body).trim(), "deep");
}

#[test]
fn unclosed_shortcodes_cost_no_quadratic_time() {
    let html = "[caption] [embed] [gallery ".repeat(30_000);
    let clock = crate::testing::Stopwatch::start();
    let converted = body(&html, &NoAttachments);
    assert!(text_of_body(&converted.body).contains("[caption]"));
    assert!(clock.elapsed().as_secs() < 20, "{:?}", clock.elapsed());
}

#[test]
fn plain_text_has_no_markup() {
    assert_eq!(plain("Tom &amp; <em>Ana</em><br>sail  <p>now</p><script>x</script>"), "Tom & Ana sail now");
    assert_eq!(plain("1 < 2"), "1 < 2");
    assert_eq!(spans("By <b>Ana</b>"), [bare("By "), marked("Ana", &[Mark::Strong])]);
}

fn numbered(text: &str) -> Vec<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric());
    words.filter(|word| word.strip_prefix('w').is_some_and(|digits| digits.parse::<u32>().is_ok())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_markup_loses_a_word(html in soup()) {
        let converted = body(&html, &NoAttachments);
        let text = text_of_body(&converted.body);
        let mut remaining = numbered(&text);
        for word in numbered(&html) {
            let at = remaining.iter().position(|other| *other == word);
            prop_assert!(at.is_some(), "{} of {} is not in {}", word, html, text);
            remaining.swap_remove(at.unwrap());
        }
        prop_assert!(depth(&converted.body.blocks) <= 16);
    }

    #[test]
    fn no_html_causes_a_panic(html in "[<>/!\\-\\[\\]\"'=& \\n]{0,10}(\\PC|<[a-z]{1,8}( [a-z]{1,4}=[\"'a-z<>]{0,6})?>|\\[[a-z]{3,8} ?|</[a-z]{1,8}>|<!--|-->|\\n){0,60}") {
        body(&html, &Files);
        plain(&html);
    }
}

#[test]
fn markup_of_wordpress_costs_no_quadratic_time() {
    const BYTES: usize = 1 << 17;
    // The clock of a thread can be coarse.
    const MARGIN: std::time::Duration = std::time::Duration::from_secs(1);
    let hidden = "<!-- wp:group {\"metadata\":{\"blockVisibility\":false}} -->a";
    let void = "<!-- wp:acf/a {\"data\":{\"a\":\"<b>b\"}} /-->";
    for piece in [
        hidden,
        void,
        "<!-- wp:videopress/video {\"guid\":\"a\"} -->",
        "<!-- wp:",
        "[restrict]",
        "[code]",
        "[[code]",
        "[code]<!--[/code]",
        "[vc_row a=\"",
        "[vc_row]",
        "[caption]a",
        "[caption][youtube=",
        "[/a",
        "[aa]b[/aa]",
        "[a_b c=1] ",
        "<q>a",
        "<ol><li value=2>a</ol>",
        "<picture><img><source srcset='/a'>",
        "<b style='font-weight:400;'>a",
    ] {
        let time = |bytes: usize| {
            let html = piece.repeat(bytes / piece.len()) + "[/restrict][/code][/caption]";
            let clock = crate::testing::Stopwatch::start();
            body(&html, &NoAttachments);
            clock.elapsed()
        };
        let (eighth, all) = (time(BYTES / 8), time(BYTES));
        assert!(all < 20 * eighth + MARGIN, "{piece}: {eighth:?}, then {all:?}");
    }
}
