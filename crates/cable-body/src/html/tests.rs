//! The blocks that HTML becomes, and the check that no word is lost.

use cable_proto::v1::{Block, Mark, Span};
use proptest::prelude::*;

use super::*;
use crate::testing::{missing_words, soup, text_of_block, text_of_body};

fn blocks(html: &str) -> Vec<Kind> {
    let converted = body(html, &NoAttachments);
    assert_eq!(missing_words(html, &converted.body), Vec::<String>::new(), "of {html}");
    converted.body.blocks.into_iter().map(|b| b.kind.expect("every block has a kind")).collect()
}

fn one(html: &str) -> Kind {
    let mut all = blocks(html);
    assert_eq!(all.len(), 1, "{all:#?}");
    all.remove(0)
}

fn bare(text: &str) -> Span {
    Span { text: text.into(), ..Span::default() }
}

fn marked(text: &str, marks: &[Mark]) -> Span {
    Span { text: text.into(), marks: marks.iter().map(|m| (*m).into()).collect(), link: None }
}

fn linked(text: &str, href: &str) -> Span {
    Span {
        text: text.into(),
        link: Some(v1::Link { href: href.into(), ..Default::default() }),
        ..Span::default()
    }
}

fn paragraph(spans: &[Span]) -> Kind {
    Kind::Paragraph(v1::Paragraph { spans: spans.to_vec() })
}

fn text(kind: &Kind) -> String {
    let mut text = String::new();
    text_of_block(&block(kind.clone()), &mut text);
    text.trim().to_owned()
}

#[test]
fn line_feeds_and_empty_lines_count_in_classic_text() {
    let all = blocks("The ferry is late.\nIt waits.\n\nNobody <em>minds\n\nmuch</em>.\n");
    let expected = [
        paragraph(&[bare("The ferry is late.\nIt waits.")]),
        paragraph(&[bare("Nobody "), marked("minds", &[Mark::Emphasis])]),
        paragraph(&[marked("much", &[Mark::Emphasis]), bare(".")]),
    ];
    assert_eq!(all, expected);
}

#[test]
fn line_feeds_in_editor_blocks_are_spaces() {
    let html =
        "<!-- wp:paragraph {\"align\":\"left\"} -->\n<p>The ferry\nis<br>late.</p>\n<!-- /wp:paragraph -->";
    assert_eq!(one(html), paragraph(&[bare("The ferry is\nlate.")]));
}

#[test]
fn marks_nest_in_the_order_of_the_source() {
    let html =
        "<p>a <strong>b <em>c</em></strong> <code>d</code> <s>e</s><sub>f</sub><sup>g</sup> <u>h</u></p>";
    let expected = paragraph(&[
        bare("a "),
        marked("b ", &[Mark::Strong]),
        marked("c", &[Mark::Strong, Mark::Emphasis]),
        bare(" "),
        marked("d", &[Mark::Code]),
        bare(" "),
        marked("e", &[Mark::Strike]),
        marked("f", &[Mark::Sub]),
        marked("g", &[Mark::Sup]),
        bare(" h"),
    ]);
    assert_eq!(one(html), expected);
}

#[test]
fn links_with_harmful_schemes_become_text() {
    assert_eq!(one("<p>go <a href='/x'>there</a></p>"), paragraph(&[bare("go "), linked("there", "/x")]));
    let long = format!("<a href='/{}'>there</a>", "x".repeat(2_048));
    for html in
        ["<a href='javascript:alert(1)'>there</a>", "<a href=' data:x'>there</a>", "<a>there</a>", &long]
    {
        assert_eq!(one(html), paragraph(&[bare("there")]));
    }
}

#[test]
fn first_level_headings_become_second_level() {
    let all = blocks("<h1>One</h1><h2>Two</h2><h6>Six</h6>");
    let levels: Vec<_> = all.iter().map(|k| if let Kind::Heading(h) = k { h.level } else { 0 }).collect();
    assert_eq!(levels, [2, 2, 6]);
}

#[test]
fn lists_nest_and_retain_their_start() {
    let Kind::List(list) = one("<ol start=3><li>three<ul><li>a</li><li>b</li></ul></li><li>four</li></ol>")
    else {
        panic!("no list");
    };
    assert_eq!((list.ordered, list.start, list.items.len()), (true, 3, 2));
    assert!(matches!(&list.items[0].blocks[1].kind, Some(Kind::List(inner)) if inner.items.len() == 2));
}

#[test]
fn a_misplaced_list_belongs_to_the_previous_item() {
    let Kind::List(list) = one("<ul><li>one</li><ul><li>nested</li></ul><li>two</li></ul>") else {
        panic!("no list");
    };
    assert_eq!(list.items.len(), 2);
    assert_eq!(list.items[0].blocks.len(), 2);
}

#[test]
fn quotes_retain_their_attribution() {
    let Kind::Quote(quote) = one("<blockquote><p>We sail.</p><cite>Ana Möyer</cite></blockquote>") else {
        panic!("no quote");
    };
    assert_eq!(quote.attribution, [bare("Ana Möyer")]);
    let Kind::Quote(quote) = one("<blockquote>In <cite>The Log</cite> we sail.</blockquote>") else {
        panic!("no quote");
    };
    assert!(quote.attribution.is_empty());
    let html = "<figure class='wp-block-pullquote'><blockquote><p>We sail.</p><p>Now.</p><cite>Ana</cite></blockquote></figure>";
    let Kind::PullQuote(quote) = one(html) else { panic!("no pull quote") };
    assert_eq!((quote.spans, quote.attribution), (vec![bare("We sail.\nNow.")], vec![bare("Ana")]));
}

struct Files;

impl Attachments for Files {
    fn media(&self, id: u64) -> Option<v1::Media> {
        let renditions = vec![rendition(&format!("/{id}.png"), None, None)?];
        (id < 100).then(|| v1::Media { renditions, credit: format!("Credit {id}"), ..Default::default() })
    }

    fn own_pictures(&self) -> Vec<v1::Media> {
        self.media(7).into_iter().collect()
    }
}

fn with_files(html: &str) -> Vec<Kind> {
    body(html, &Files).body.blocks.into_iter().filter_map(|b| b.kind).collect()
}

#[test]
fn pictures_retain_size_texts_credit_and_link() {
    let html = "<figure class='wp-block-image'><a href='/big'><img class='wp-image-7' src='https://a.b/c.jpg' \
                width='640' height='480' alt='A quay'></a><figcaption>The <em>old</em> quay</figcaption></figure>";
    let [Kind::Image(image)] = &with_files(html)[..] else { panic!("no image") };
    let media = image.media.as_ref().unwrap();
    let expected = v1::Rendition {
        href: "https://a.b/c.jpg".into(),
        r#type: "image/jpeg".into(),
        width: 640,
        height: 480,
    };
    assert_eq!(media.renditions, [expected]);
    assert_eq!((media.alt_text.as_str(), media.credit.as_str()), ("A quay", "Credit 7"));
    assert_eq!(media.caption, [bare("The "), marked("old", &[Mark::Emphasis]), bare(" quay")]);
    assert_eq!(image.href, "/big");
}

#[test]
fn the_caption_shortcode_is_a_figure() {
    let html = r#"[caption id="attachment_7" width="300" caption="x>y"]<a href="/q"><img src="/a.gif" alt=""/></a> The quay, <b>closed</b>[/caption] After"#;
    let all = with_files(html);
    let [Kind::Image(image), Kind::Paragraph(_)] = &all[..] else { panic!("{all:?}") };
    let caption: String = image.media.iter().flat_map(|m| &m.caption).map(|s| s.text.as_str()).collect();
    assert_eq!(caption, "x>y The quay, closed");
    assert_eq!(image.href, "/q");
}

#[test]
fn galleries_are_read_from_blocks_and_shortcodes() {
    let html = "<figure class='wp-block-gallery'><figure><img src='/1.jpg'><figcaption>One</figcaption></figure>\
                <figure><img src='/2.jpg'></figure><figcaption>Both</figcaption></figure>";
    let Kind::Gallery(gallery) = one(html) else { panic!("no gallery") };
    assert_eq!(gallery.images[0].media.as_ref().unwrap().caption, [bare("One")]);
    assert_eq!(gallery.caption, [bare("Both")]);
    for (html, count) in
        [("[gallery ids=\"1,2,200\"]", 2), ("<p>[gallery]</p>", 1), ("[gallery ids='3'/]", 1)]
    {
        let all = with_files(html);
        assert!(matches!(&all[..], [Kind::Gallery(g)] if g.images.len() == count), "{all:?}");
    }
    assert!(
        matches!(&with_files("[gallery ids='200']")[..], [Kind::RawHtml(raw)] if raw.reason == "shortcode [gallery]")
    );
}

#[test]
fn content_of_other_sites_is_embedded_by_url() {
    let url = "https://www.youtube.com/watch?v=1";
    let sources = [
        format!("{url}\n"),
        format!("[embed width='3']{url}[/embed]"),
        format!(
            "<figure class='wp-block-embed'><div class='wp-block-embed__wrapper'>\n{url}\n</div></figure>"
        ),
        format!("<iframe src='{url}'></iframe>"),
        format!("[video width=\"3\" mp4=\"{url}\"][/video]"),
        format!("[audio {url}]"),
        format!("<!-- wp:embed {{\"url\":\"{url}\"}} /-->"),
    ];
    for html in sources {
        let all = with_files(&html);
        let [Kind::Embed(embed)] = &all[..] else { panic!("{html}: {all:?}") };
        assert_eq!((embed.provider.as_str(), embed.url.as_str()), ("youtube", url));
    }
    let all = blocks("See\nhttps://vimeo.com/1\nnow. https://vimeo.com/2 too");
    assert!(matches!(&all[..], [Kind::Paragraph(_), Kind::Embed(_), Kind::Paragraph(_)]), "{all:?}");
    let in_block = "<!-- wp:paragraph --><p>https://vimeo.com/1</p><!-- /wp:paragraph -->";
    assert_eq!(one(in_block), paragraph(&[bare("https://vimeo.com/1")]));
}

#[test]
fn code_retains_white_space_and_language() {
    let code =
        |text: &str, language: &str| Kind::Code(v1::Code { text: text.into(), language: language.into() });
    let html = "<pre class='language-Rust'>\n  a &lt; b\n\n    [gallery]\n</pre>";
    assert_eq!(one(html), code("  a < b\n\n    [gallery]", "rust"));
    let html =
        "<!-- wp:code {\"language\":\"go\"} --><pre><code>x<br>y</code></pre><!-- /wp:code --><pre>z</pre>";
    assert_eq!(blocks(html), [code("x\ny", "go"), code("z", "")]);
    let verse = "<pre class='wp-block-verse'>one\n  <em>two</em></pre>";
    assert_eq!(one(verse), paragraph(&[bare("one\n  "), marked("two", &[Mark::Emphasis])]));
}

#[test]
fn cells_have_text_or_blocks() {
    let html = "<figure class='wp-block-table'><table><thead><tr><th colspan=2>Tide</th></tr></thead>\
                <tbody><tr><td>high</td><td><b>4</b> m</td></tr></tbody></table><figcaption>Tides</figcaption></figure>";
    let Kind::Table(table) = one(html) else { panic!("no table") };
    assert_eq!(table.rows.len(), 2);
    assert!(table.rows[0].cells[0].header && table.rows[0].cells[0].column_span == 2);
    assert_eq!(table.caption, [bare("Tides")]);
    for (cell, wanted) in [
        ("<p>one</p>", vec![]),
        ("", vec![]),
        ("<p>one</p><p>two</p>", vec!["paragraph", "paragraph"]),
        ("one<ul><li>two</li></ul>", vec!["paragraph", "list"]),
        ("<img src='/a.jpg'>one", vec!["image", "paragraph"]),
        ("<h3>one</h3>", vec!["heading"]),
        ("<table><tr><td>one</td></tr></table>", vec!["table"]),
        ("<p id=x>one</p>", vec!["paragraph"]),
        ("https://video.example/1", vec![]),
    ] {
        let Kind::Table(table) = one(&format!("<table><tr><td>{cell}</td></tr></table>")) else {
            panic!("no table of {cell}")
        };
        let [cell] = &table.rows[0].cells[..] else { panic!("{table:?}") };
        let kinds: Vec<_> = cell.blocks.iter().flat_map(|block| &block.kind).map(kind_name).collect();
        assert_eq!(kinds, wanted);
        assert!(cell.blocks.is_empty() || cell.spans.is_empty());
    }
    for irregular in [
        "<table><tr><td>x</td></tr><tbody><div>y</div></tbody><form></form></table>",
        "<table><form></form></table>",
    ] {
        assert!(!blocks(irregular).iter().any(|kind| matches!(kind, Kind::Table(t) if t.rows.is_empty())));
    }
}

fn kind_name(kind: &Kind) -> &'static str {
    match kind {
        Kind::Paragraph(_) => "paragraph",
        Kind::Heading(_) => "heading",
        Kind::List(_) => "list",
        Kind::Image(_) => "image",
        Kind::Table(_) => "table",
        Kind::Video(_) => "video",
        Kind::Audio(_) => "audio",
        Kind::Embed(_) => "embed",
        Kind::RawHtml(_) => "raw_html",
        _ => "other",
    }
}

#[test]
fn galleries_of_any_markup_are_galleries() {
    let (a, b) = ("<img src='/a.jpg'>", "<img src='/b.jpg'>");
    for html in [
        format!(
            "<ul class='wp-block-gallery columns-2'><li class='blocks-gallery-item'><figure>{a}</figure></li>\
             <li><figure>{b}</figure></li></ul>"
        ),
        format!(
            "<!-- wp:gallery --><ul class='wp-block-gallery'><li>{a}</li><li>{b}</li></ul><!-- /wp:gallery -->"
        ),
        format!(
            "<figure class='wp-block-gallery'><ul class='blocks-gallery-grid'><li>{a}</li><li>{b}</li></ul></figure>"
        ),
        format!("<ol class='gallery'><li>{a}</li><li>{b}</li></ol>"),
        format!(
            "<div class='gallery'><dl class='gallery-item'><dt>{a}</dt><dd class='gallery-caption'>A</dd></dl>\
             <dl><dt>{b}</dt></dl></div>"
        ),
        format!("<div class='tiled-gallery'><div class='gallery-row'>{a}{b}</div></div>"),
    ] {
        let Kind::Gallery(gallery) = one(&html) else { panic!("{html}") };
        assert_eq!(gallery.images.len(), 2, "{html}");
    }
    for html in [
        format!("<ul><li>{a}</li><li>{b}</li></ul>"),
        format!("<ul class='gallery'><li>{a} one</li><li>{b}</li></ul>"),
    ] {
        assert!(matches!(one(&html), Kind::List(_)), "{html}");
    }
}

#[test]
fn shortcodes_of_players_become_players() {
    for (shortcode, files) in [
        ("[video width=\"640\" mp4=\"/c.mp4\" webm=\"/c.webm?a=1&amp;b=2\" poster=\"/p.jpg\"][/video]", 2),
        ("[video src='https://a.b/c.mov' /]", 1),
        ("[audio mp3=\"https://a.b/c.mp3\" ogg=\"https://a.b/c.ogg\"][/audio]", 2),
        ("[audio https://a.b/c.mp3]", 1),
    ] {
        let media = match one(shortcode) {
            Kind::Video(video) => {
                let media = video.media.unwrap();
                assert_eq!(media.poster.is_empty(), files == 1, "{shortcode}");
                media
            }
            Kind::Audio(audio) => audio.media.unwrap(),
            other => panic!("{other:?}"),
        };
        assert_eq!(media.renditions.len(), files, "{shortcode}");
    }
    assert!(matches!(one("[video src='https://vimeo.com/1']"), Kind::Embed(_)));
}

#[test]
fn urls_that_are_not_taken_are_noted() {
    let long = "x".repeat(2_048);
    for (html, note) in [
        ("<p><a href='javascript:void(0)'>x</a></p>".to_owned(), "link to `javascript:void(0)`"),
        ("<h2><a href='data:x'>x</a></h2>".to_owned(), "link to `data:x`"),
        ("<table><tr><td><a href='x:y'>x</a></td></tr></table>".to_owned(), "link to `x:y`"),
        ("<pre>a <a href='javascript:x'>b</a></pre>".to_owned(), "link to `javascript:x`"),
        (
            "<figure><a href='javascript:x'><img src='/a.jpg'></a></figure>".to_owned(),
            "link to `javascript:x`",
        ),
        ("<img src='data:image/png;base64,AAAA' alt='x'>".to_owned(), "file `data:image/png;base64,AAAA`"),
        ("<figure><img src='file:///c:/x.png' alt='x'></figure>".to_owned(), "file `file:///c:/x.png`"),
        ("<img src='file:///c:/x.png'>".to_owned(), "picture `file:///c:/x.png`"),
        ("<dl><dt><a href='javascript:x'>a</a></dt></dl>".to_owned(), "element <dl>: 1 links or files"),
        (format!("<p><a href='/{long}'>x</a></p>"), "link to `/xxx"),
        (format!("<img src='/a.jpg' alt='{}'>", "x".repeat(5_000)), "text alternative `xxx"),
    ] {
        let notes = body(&html, &NoAttachments).notes;
        assert!(notes.lines.iter().any(|line| line.starts_with(note)), "{html}: {notes:?}");
    }
}

#[test]
fn links_in_preformatted_text_survive() {
    let Kind::Paragraph(paragraph) = one("<pre>let x =\n  <a href='/doc'>doc</a>;</pre>") else {
        panic!("no paragraph")
    };
    let text: String = paragraph.spans.iter().map(|span| span.text.as_str()).collect();
    assert_eq!(text, "let x =\n  doc;");
    assert!(paragraph.spans.iter().all(|span| span.marks == [i32::from(Mark::Code)]));
    assert!(paragraph.spans.iter().any(|span| span.link.as_ref().is_some_and(|link| link.href == "/doc")));
}

#[test]
fn more_is_dropped_and_nextpage_is_a_divider() {
    let all = blocks("one<!--more-->two\n<!--nextpage-->\nthree<hr>");
    assert!(matches!(
        &all[..],
        [Kind::Paragraph(_), Kind::Paragraph(_), Kind::Divider(_), Kind::Paragraph(_), Kind::Divider(_)]
    ));
}

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
fn players_have_files_poster_caption_and_credit() {
    let html = "<figure><video controls poster='/p.jpg' width=640 height=360 aria-label='Sea'>\
                <source src='https://a.b/c.mp4' type='video/mp4'><source src='/c.webm'></video>\
                <figcaption>Waves <small>Ann Vale</small></figcaption></figure>";
    let Kind::Video(video) = one(html) else { panic!("no video") };
    let media = video.media.unwrap();
    let file = |href: &str, kind: &str, width, height| v1::Rendition {
        href: href.into(),
        r#type: kind.into(),
        width,
        height,
    };
    assert_eq!(
        media.renditions,
        [file("https://a.b/c.mp4", "video/mp4", 640, 360), file("/c.webm", "video/webm", 0, 0)]
    );
    assert_eq!((media.poster.as_str(), media.alt_text.as_str()), ("/p.jpg", "Sea"));
    assert_eq!((&media.caption[..], media.credit.as_str()), (&[bare("Waves")][..], "Ann Vale"));
    for (html, wanted) in [
        ("<audio src='/a.mp3'></audio>", "audio"),
        ("<video src='/a.mp4'>Get a new browser.</video>", "video"),
        ("<p>w1 <video src='/a.mp4'></video></p>", "paragraph video"),
        ("<video src='/a.mp4'><p>w1<div>w2</div></video>", "video paragraph paragraph"),
        ("<video src='javascript:x'>w1</video>", "raw_html"),
        ("<iframe src='https://video.example/1'></iframe>", "embed"),
        (
            "<figure><video src='/a.mp4'></video><img src='/b.jpg'><figcaption>w1</figcaption></figure>",
            "video image paragraph",
        ),
    ] {
        let kinds: Vec<_> = with_files(html).iter().map(kind_name).collect();
        assert_eq!(kinds.join(" "), wanted, "{html}");
    }
    let converted = body("<video src='/a.mp4'><track src='/t.vtt'>Get a browser.</video>", &NoAttachments);
    assert_eq!(converted.notes.lines.len(), 2, "{:?}", converted.notes);
}

#[test]
fn unknown_shortcodes_on_a_line_become_raw_html() {
    let all = blocks(
        "Before\n\n[contact-form id=\"1\"]\n\nAfter [1] and [sic] go on.\n\n[figure 4: each boat has a crew]",
    );
    let [_, Kind::RawHtml(raw), Kind::Paragraph(_), Kind::Paragraph(_)] = &all[..] else { panic!("{all:?}") };
    assert_eq!(raw.reason, "shortcode [contact-form]");
    assert_eq!(text(&all[1]), "[contact-form id=\"1\"]");
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
fn ids_of_elements_become_ids_of_blocks() {
    for (html, wanted) in [
        ("<h2 id=a>one</h2><p id=b>two</p>", vec!["a", "b"]),
        ("<h2><a name=a></a>one</h2>", vec!["a"]),
        ("<p>one <sup id=a>1</sup></p>", vec!["a"]),
        ("<p id=a>one <sup id=b>1</sup></p>", vec!["a"]),
        ("<div id=a><p>one</p><p>two</p></div>", vec!["a", ""]),
        ("<div id=a><p id=b>one</p></div>", vec!["b"]),
        ("<a id=a></a><p>one</p>", vec!["a"]),
        ("<p>one</p><a id=a></a><ul><li>two</li></ul>", vec!["", "a"]),
        ("one\n\n<a id=a></a>two", vec!["", "a"]),
        ("<figure id=a><img src='/a.jpg'></figure>", vec!["a"]),
        ("<ul id=a><li id=b>one</li></ul>", vec!["a"]),
        ("<table id=a><tr><td>one</td></tr></table>", vec!["a"]),
        ("<dl id=a><dt>one</dt></dl>", vec!["a"]),
        ("<hr id=a>", vec!["a"]),
        ("<p id=a>one</p><p id=a>two</p>", vec!["a", ""]),
        ("<p id='a b'>one</p>", vec![""]),
        ("<p id=''>one</p>", vec![""]),
    ] {
        let converted = body(html, &NoAttachments);
        let ids: Vec<_> = converted.body.blocks.iter().map(|block| block.id.as_str()).collect();
        assert_eq!(ids, wanted, "{html}");
    }
    let Kind::List(list) = one("<ul id=a><li id=b>one</li><li><p id=c>two</p></li></ul>") else {
        panic!("no list")
    };
    assert_eq!(list.items.iter().map(|item| item.blocks[0].id.as_str()).collect::<Vec<_>>(), ["b", "c"]);
    let lost = body("<p id=a>one</p><p id=a>two</p><p id='a b'>three</p><i id=c></i>", &NoAttachments);
    assert_eq!(lost.notes.lines.len(), 3, "{:?}", lost.notes);
}

#[test]
fn pictures_of_a_gallery_have_links_and_files() {
    let html = "<figure><a href='/x'><img src='/1.jpg' srcset='/1.jpg 800w, /s.jpg 400w, /d.jpg 2x'></a>\
                <figure><img src='/2.jpg'><figcaption>Two</figcaption></figure></figure>";
    let Kind::Gallery(gallery) = one(html) else { panic!("no gallery") };
    assert_eq!(gallery.images.iter().map(|i| i.href.as_str()).collect::<Vec<_>>(), ["/x", ""]);
    let files = &gallery.images[0].media.as_ref().unwrap().renditions;
    assert_eq!(
        files.iter().map(|f| (f.href.as_str(), f.width)).collect::<Vec<_>>(),
        [("/1.jpg", 0), ("/s.jpg", 400)]
    );
    let html = "<figure><img src='/1.jpg'><img src='/2.jpg'><figure><figcaption>Three</figcaption></figure></figure>";
    assert!(matches!(one(html), Kind::Gallery(gallery) if gallery.caption == [bare("Three")]));
}

#[test]
fn updates_of_a_live_blog_are_live_posts() {
    let html = "<article id=p1 itemprop=liveBlogUpdate data-key-event><header><h2 itemprop=headline>The <b>crane</b></h2>\
                <p><time itemprop=datePublished datetime='2026-03-01T14:05:00Z'>2 pm</time> \
                <span itemprop=author>Kay Lund <small>(Reporter)</small></span>, <span itemprop=author>Ann</span></p></header>\
                <p>Up.</p></article>";
    let converted = plain_body(html).unwrap();
    let [Block { id, kind: Some(Kind::LivePost(post)) }] = &converted.body.blocks[..] else {
        panic!("{converted:?}")
    };
    assert_eq!(
        (id.as_str(), post.title.as_str(), post.key_event, post.pinned),
        ("p1", "The crane", true, false)
    );
    assert_eq!(post.publish_time.unwrap().to_string(), "2026-03-01T14:05:00Z");
    let credits: Vec<_> = post.credits.iter().map(|c| (c.display_name.as_str(), c.role.as_str())).collect();
    assert_eq!(credits, [("Kay Lund", "Reporter"), ("Ann", "")]);
    assert_eq!(post.blocks.len(), 1);
    let post = |html: &str| match plain_body(html).unwrap().body.blocks.pop().and_then(|block| block.kind) {
        Some(Kind::LivePost(post)) => post,
        other => panic!("{html}: {other:?}"),
    };
    let titled = post("<div itemprop='x liveBlogUpdate'><h3>Up</h3><p>w1</p></div>");
    assert_eq!((titled.title.as_str(), titled.blocks.len()), ("Up", 1));
    for (html, blocks) in [
        ("<div itemprop=liveBlogUpdate><time itemprop=datePublished datetime=soon>w1</time> w2</div>", 1),
        ("<div itemprop=liveBlogUpdate><p>By <span itemprop=author>Ann</span> w1</p></div>", 1),
        ("<div itemprop=liveBlogUpdate><div itemprop=liveBlogUpdate><p>w1</p></div><p>w2</p></div>", 2),
    ] {
        assert_eq!(post(html).blocks.len(), blocks, "{html}");
    }
    for empty in
        ["<article itemprop=liveBlogUpdate>", "<article itemprop=liveBlogUpdate data-pinned data-key-event>"]
    {
        assert_eq!(plain_body(empty).unwrap().body.blocks, [], "{empty}");
    }
    let nested = plain_body("<ul><li><div itemprop=liveBlogUpdate>w1</div></li></ul>").unwrap();
    assert!(matches!(nested.body.blocks[0].kind, Some(Kind::List(_))));
}

#[test]
fn line_feeds_and_shortcodes_mean_nothing_in_plain_html() {
    let converted = plain_body("one\ntwo\n\n[gallery]\nhttps://video.example/1<p>[form]</p>").unwrap();
    assert_eq!(text_of_body(&converted.body), "one two [gallery] https://video.example/1\n[form]\n");
    assert_eq!((converted.raw_html, converted.dropped), (0, 0));
}

#[test]
fn focal_points_and_playing_times_of_other_forms_are_ignored() {
    let point = |value: &str| match one(&format!("<img src='/a.jpg' data-focal-point='{value}'>")) {
        Kind::Image(image) => image.media.unwrap().focal_point.map(|point| (point.x, point.y)),
        other => panic!("{other:?}"),
    };
    assert_eq!((point("0.375 0.5"), point(" 0 1 ")), (Some((0.375, 0.5)), Some((0.0, 1.0))));
    for value in ["", "0.5", "0.5,0.5", "0.5 1.1", "-0.1 0.5", "NaN 0.5", "inf 0", "0.5 0.5 0.5", "50% 50%"] {
        assert_eq!(point(value), None, "{value}");
    }
    let time = |value: &str| {
        let html = format!("<video src='/a.mp4' data-duration-seconds='{value}'></video>");
        match one(&html) {
            Kind::Video(video) => video.media.unwrap().duration.map(|time| (time.seconds, time.nanos)),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(
        (time("74"), time("9.5"), time("0.000000001")),
        (Some((74, 0)), Some((9, 500_000_000)), Some((0, 1)))
    );
    assert_eq!(time("315576000000"), Some((315_576_000_000, 0)));
    for value in
        ["", ".5", "-1", "+1", "1e3", "PT9S", "9:30", "0.0000000001", "315576000001", "99999999999999999999"]
    {
        assert_eq!(time(value), None, "{value}");
    }
}

/// Files 1 and 2 are sounds, 3 is a video, 4 a document.
struct Recordings;

impl Attachments for Recordings {
    fn media(&self, id: u64) -> Option<v1::Media> {
        let name = ["a.mp3", "b.mp3", "c.mp4", "d.pdf"].get(usize::try_from(id).ok()?.checked_sub(1)?)?;
        let renditions = rendition(&format!("https://a.example/{name}"), None, None);
        Some(v1::Media { renditions: renditions.into_iter().collect(), ..Default::default() })
    }

    fn own_pictures(&self) -> Vec<v1::Media> {
        Vec::new()
    }
}

#[test]
fn a_playlist_becomes_its_sounds_and_videos() {
    let found = body("Before [playlist ids=\"1,3,4,9\"] after", &Recordings);
    let kinds: Vec<_> = found.body.blocks.iter().map(|block| block.kind.as_ref().unwrap()).collect();
    let [Kind::Paragraph(_), Kind::Audio(sound), Kind::Video(_), Kind::Paragraph(_)] = &kinds[..] else {
        panic!("{kinds:#?}")
    };
    assert_eq!(sound.media.as_ref().unwrap().renditions[0].href, "https://a.example/a.mp3");
    let notes = found.notes.lines.join("; ");
    assert!(notes.contains("not in the file: `9`") && notes.contains("d.pdf"), "{notes}");
    let Kind::RawHtml(raw) = one("[playlist ids='1']") else { panic!("no raw HTML") };
    assert_eq!(raw.reason, "shortcode [playlist]");
}

#[test]
fn attachments_that_are_not_known_are_reported() {
    for html in [
        "[gallery ids=\"1,9\"]",
        "<!-- wp:gallery {\"ids\":[1,9]} /-->",
        "<!-- wp:gallery {\"ids\":[9]} /-->",
        "<!-- wp:image {\"id\":9} /-->",
    ] {
        let notes = body(html, &Recordings).notes.lines;
        assert!(notes.iter().any(|note| note.contains("not in the file: `9`")), "{html}: {notes:?}");
    }
}

#[test]
fn a_background_is_a_picture_of_its_cover_or_reported() {
    for style in [
        "background-image:url(/a.jpg)",
        "background-image: url('/a.jpg')",
        "background:#000 url(&quot;/a.jpg&quot;)",
    ] {
        let html = format!("<div class='wp-block-cover' style=\"{style}\"><p>Words</p></div>");
        let all = blocks(&html);
        let [Kind::Image(image), Kind::Paragraph(_)] = &all[..] else { panic!("{html}: {all:#?}") };
        assert_eq!(image.media.as_ref().unwrap().renditions[0].href, "/a.jpg");
        let other = body(&html.replace("wp-block-cover", "hero"), &NoAttachments);
        assert_eq!(other.notes.lines, ["background picture `/a.jpg`: left out"]);
    }
    let shown = "<div class='wp-block-cover' style='background-image:url(/a.jpg)'><img src='/a.jpg'></div>";
    assert!(matches!(one(shown), Kind::Image(_)));
}

#[test]
fn a_title_of_a_picture_is_reported() {
    let notes = |html: &str| body(html, &NoAttachments).notes.lines;
    assert_eq!(
        notes("<img src='/a.jpg' alt='Quay' title='By  Jo'>"),
        ["title `By Jo` of a picture: left out"]
    );
    assert!(notes("<img src='/a.jpg' alt='Quay' title='Quay'><img src='/b.jpg' title=''>").is_empty());
}

#[test]
fn a_shortcode_with_the_address_of_a_video_is_an_embed() {
    for html in [
        "[youtube https://youtu.be/1]",
        "[youtube url='https://youtu.be/1' width=3]",
        "[youtube=https://youtu.be/1]",
        "[youtube=\"https://youtu.be/1\" w=3]",
    ] {
        let all = with_files(html);
        let [Kind::Embed(embed)] = &all[..] else { panic!("{html}: {all:?}") };
        assert_eq!((embed.provider.as_str(), embed.url.as_str()), ("youtube", "https://youtu.be/1"));
    }
    assert!(matches!(one("[vimeo 12345]"), Kind::RawHtml(_)));
    assert!(matches!(&with_files("[vimeo=https://vimeo.com/1]")[..], [Kind::Embed(_)]));
    assert!(matches!(&with_files("[tweet https://twitter.com/a/status/1]")[..], [Kind::Embed(_)]));
}

fn words_and_notes(html: &str) -> (String, Vec<String>) {
    let converted = body(html, &NoAttachments);
    let words = text_of_body(&converted.body).split_whitespace().collect::<Vec<_>>().join(" ");
    (words, converted.notes.lines)
}

#[test]
fn blocks_that_readers_do_not_see_are_left_out() {
    let open = |name: &str, attributes: &str| format!("<!-- wp:{name} {attributes} -->");
    let hidden = "{\"metadata\":{\"name\":\"x\",\"blockVisibility\":false}}";
    let shown = "{\"metadata\":{\"blockVisibility\":{\"viewport\":{\"mobile\":false}}}}";
    let nested = "<!-- wp:group --><div><!-- wp:spacer /--><!-- wp:paragraph --><p>w2</p><!-- /wp:paragraph --></div>\
                  <!-- /wp:group -->";
    for (attributes, left_out) in [
        (hidden, true),
        ("{\"blockVisibility\":{\"hideBlock\":true}}", true),
        (shown, false),
        ("{\"metadata\":{\"blockVisibility\":true}}", false),
        ("{\"blockVisibility\":{\"hideBlock\":false}}", false),
        ("{\"blockVisibility\"", false),
    ] {
        for (name, inner) in [("paragraph", "<p>w2</p>"), ("core/group", nested)] {
            let block = format!("{}{inner}<!-- /wp:{name} -->", open(name, attributes));
            let converted = body(&format!("<p>w1</p>\n{block}\n<p>w3</p>"), &NoAttachments);
            let text = text_of_body(&converted.body);
            assert_eq!(text, if left_out { "w1\nw3\n" } else { "w1\nw2\nw3\n" }, "{block}");
            assert_eq!(converted.dropped, usize::from(left_out), "{block}");
            let name = name.trim_start_matches("core/");
            let note = format!("wp:{name}: left out, readers do not see it");
            assert_eq!(converted.notes.lines.contains(&note), left_out, "{block}");
        }
    }
    // The end is in another element, or missing; a block without HTML has none.
    let paragraph = open("paragraph", hidden);
    let (words, _) = words_and_notes(&format!("{paragraph}<div><p>w1<!-- /wp:paragraph --></div><p>w2"));
    assert_eq!(words, "w2");
    let (words, notes) = words_and_notes(&format!("<p>w1</p>{paragraph}<p>w2</p>"));
    assert_eq!(words, "w1");
    assert!(notes[0].ends_with("its end is missing"), "{notes:?}");
    let (words, notes) = words_and_notes(&format!("<!-- wp:query {hidden} /--><p>w1</p>"));
    assert_eq!((words.as_str(), notes.len()), ("w1", 1));
    // Nor in a text that is nested too deeply.
    let (words, _) =
        words_and_notes(&format!("{paragraph}<p>w1</p><!-- /wp:paragraph -->{}w2", "<div>".repeat(500)));
    assert_eq!(words, "w2");
}

#[test]
fn blocks_without_html_leave_their_words_or_a_note() {
    for (comment, spans) in [
        ("wp:jetpack/button {\"element\":\"a\",\"text\":\"Go <b>on</b>\",\"url\":\"/go\"}", "Go on"),
        ("wp:social-link {\"url\":\"/go\",\"service\":\"mastodon\"}", "mastodon"),
        ("wp:social-link {\"url\":\"/go\",\"service\":\"x\",\"label\":\"Ours\"}", "Ours"),
    ] {
        let converted = body(&format!("<!-- {comment} /-->"), &NoAttachments);
        let [Block { kind: Some(Kind::Paragraph(paragraph)), .. }] = &converted.body.blocks[..] else {
            panic!("{converted:?}")
        };
        let text: String = paragraph.spans.iter().map(|span| span.text.as_str()).collect();
        assert_eq!(text, spans, "{comment}");
        let is_linked = |span: &Span| span.link.as_ref().is_some_and(|link| link.href == "/go");
        assert!(paragraph.spans.iter().all(is_linked), "{comment}");
        assert!(converted.notes.lines.is_empty(), "{comment}");
    }
    let fields = "<!-- wp:acf/faq {\"name\":\"acf/faq\",\"data\":{\"question\":\"Why?\",\"_question\":\"field_1\",\
                  \"answer\":\"<p>Be<em>cause</em></p>\",\"picture\":\"12\",\"rows\":2}} /-->";
    assert_eq!(
        words_and_notes(fields),
        ("Why? Because".into(), vec!["wp:acf/faq: 2 fields became paragraphs".into()])
    );
    for name in ["acf/empty", "block", "pattern", "newspack-blocks/homepage-articles", "jetpack/gif"] {
        let converted = body(&format!("<!-- wp:{name} {{\"ref\":3}} /-->"), &NoAttachments);
        assert_eq!(converted.notes.lines, [format!("wp:{name}: left out, its content is not in the text")]);
        assert_eq!(converted.dropped, 1);
    }
    for name in ["latest-posts", "core/query", "post-title", "spacer", "tag-cloud"] {
        assert_eq!(words_and_notes(&format!("<!-- wp:{name} /-->")), Default::default(), "{name}");
    }
    let harmful = "<!-- wp:jetpack/button {\"text\":\"Go\",\"url\":\"javascript:x\"} /-->";
    assert_eq!(words_and_notes(harmful).1, ["link to `javascript:x`: left out, its text stays"]);
}

#[test]
fn content_for_subscribers_is_reported() {
    for (html, words) in [
        ("<p>w1</p><!-- wp:jetpack/paywall --><!-- /wp:jetpack/paywall --><p>w2</p>", "w1 w2"),
        ("<p>w1</p><!-- wp:jetpack/paywall /--><p>w2</p>", "w1 w2"),
        (
            "<!-- wp:premium-content/container --><div><!-- wp:premium-content/subscriber-view --><p>w1</p>\
             <!-- /wp:premium-content/subscriber-view --><!-- wp:premium-content/logged-out-view --><p>Log in</p>\
             <!-- wp:premium-content/buttons --><p>Pay</p><!-- /wp:premium-content/buttons -->\
             <!-- /wp:premium-content/logged-out-view --></div><!-- /wp:premium-content/container --><p>w2</p>",
            "w1 w2",
        ),
        ("w1 [restrict level=\"1\"]w2 <b>w3</b>[/restrict] w4", "w1 w2 w3 w4"),
        ("[members]w1[/members][members]w2[/members]", "w1 w2"),
    ] {
        let converted = body(html, &NoAttachments);
        let (found, notes) = words_and_notes(html);
        assert_eq!((found.as_str(), converted.restricted), (words, true), "{html}");
        assert!(notes.iter().all(|note| note.contains("premium content: ")), "{notes:?}");
        let blocks = notes.iter().filter(|note| note.contains("only subscribers may read it")).count();
        assert_eq!(blocks, if html.contains("container") { 2 } else { 1 }, "{notes:?}");
    }
    for html in ["The [members] voted.", "<p>w1</p>", "[restrict] w1", "w1 [/restrict]"] {
        let converted = body(html, &NoAttachments);
        assert!(
            !converted.restricted
                && text_of_body(&converted.body).contains(html.trim_matches(|c| "<p>/".contains(c)))
        );
    }
}

#[test]
fn shortcodes_with_code_become_code() {
    let code =
        |text: &str, language: &str| Kind::Code(v1::Code { text: text.into(), language: language.into() });
    for (html, text, language) in [
        (
            "[sourcecode language=\"python\"]\nif a &lt; b:\n    c &amp; d\n[/sourcecode]",
            "if a < b:\n    c & d",
            "python",
        ),
        (
            "[code lang='js']if (a<b) {\n\n  c = \"<i>\"; // &nbsp; [gallery]\n}[/code]",
            "if (a<b) {\n\n  c = \"<i>\"; // &nbsp; [gallery]\n}",
            "js",
        ),
        ("[php]<?php if ($a<$b) echo '<!--'; ?>[/php]", "<?php if ($a<$b) echo '<!--'; ?>", "php"),
        ("[code=\"CSS\"]a {}[/code]", "a {}", "css"),
        ("[crayon lang=\"c++\" title=\"x\"]<script>[/crayon]", "<script>", "c++"),
        ("[highlight]a\nb[/highlight]", "a\nb", ""),
        ("[code]a<br />  b[/code]", "a\n  b", ""),
        ("<pre class='lang:sql decode:true'>a</pre>", "a", "sql"),
    ] {
        let source = format!("w1\n\n{html}\n\nw2 <a href='/x'>w3</a> [gallery ids='3']");
        let all = with_files(&source);
        let [first, found, last, Kind::Gallery(_)] = &all[..] else { panic!("{source}: {all:#?}") };
        assert_eq!(*first, paragraph(&[bare("w1")]));
        assert_eq!(*found, code(text, language), "{html}");
        assert_eq!(*last, paragraph(&[bare("w2 "), linked("w3", "/x")]));
    }
    for html in ["Press [code] to go on.", "A [highlight]word[/highlight].", "See [[php]a[/php]]."] {
        assert_eq!(one(html), paragraph(&[bare(html)]));
    }
}

#[test]
fn styles_give_and_take_marks() {
    let (strong, emphasis, strike) = (Mark::Strong, Mark::Emphasis, Mark::Strike);
    for (html, wanted) in [
        ("<span style='text-decoration: line-through;'>a</span>", vec![marked("a", &[strike])]),
        ("<span style='Font-Weight:700'>a</span>", vec![marked("a", &[strong])]),
        ("<span style='font-weight: bold !important'>a</span>", vec![marked("a", &[strong])]),
        ("<i style='font-weight:600'>a</i>", vec![marked("a", &[emphasis, strong])]),
        (
            "<span style='font-style:italic'>a<u style='font-weight:bolder;color:red'>b</u></span>",
            vec![marked("a", &[emphasis]), marked("b", &[emphasis, strong])],
        ),
        ("<b style='font-weight:normal'><p>a <b>b</b></p></b>", vec![bare("a "), marked("b", &[strong])]),
        (
            "<strong>a<span style='font-weight: 400;'>b</span></strong>",
            vec![marked("a", &[strong]), bare("b")],
        ),
        ("<em style='font-style:normal'>a</em>", vec![bare("a")]),
        ("<p style='font-style:italic;font-weight:300'>a</p>", vec![marked("a", &[emphasis])]),
        ("<span style='font-weight;:;font-style:inherit'>a</span>", vec![bare("a")]),
    ] {
        assert_eq!(one(html), paragraph(&wanted), "{html}");
    }
}

#[test]
fn quotations_have_the_marks_that_browsers_show() {
    for (html, wanted) in [
        ("a <q>b</q>", "a \u{201c}b\u{201d}"),
        ("<q>a <q>b</q></q>", "\u{201c}a \u{2018}b\u{2019}\u{201d}"),
        ("<q><q>a</q></q>", "\u{201c}\u{2018}a\u{2019}\u{201d}"),
        ("<q>\u{201c}a\u{201d}</q>", "\u{201c}a\u{201d}"),
        ("\"<q>a</q>\"", "\"a\""),
        ("a<q> </q>", "a"),
    ] {
        assert_eq!(words_and_notes(html).0, wanted, "{html}");
    }
    let quote = one_of_plain("<p><q>a</q> b</p>");
    assert_eq!(quote, paragraph(&[bare("\u{201c}a\u{201d} b")]));
}

fn one_of_plain(html: &str) -> Kind {
    plain_body(html).unwrap().body.blocks.remove(0).kind.unwrap()
}

#[test]
fn shortcodes_that_stay_in_the_text_are_reported() {
    for (html, names) in [
        ("<p>[su_note note_color=\"#eee\"]One <em>two</em> three[/su_note]</p>", vec![("su_note", 2)]),
        (
            "[dropcap]T[/dropcap]he [tooltip text=\"x\"]tide[/tooltip] [dropcap]i[/dropcap]s",
            vec![("dropcap", 4), ("tooltip", 2)],
        ),
        (
            "<h2>A [icon name='x'] b</h2><ul><li>c [recent_posts] d</li></ul>",
            vec![("icon", 1), ("recent_posts", 1)],
        ),
        ("See [url=https://a.example/]this[/url].", vec![("url", 2)]),
        ("He [sic] said [1] so [Editor's note: he did] [/sarcasm] [a = b] [so-called] [table 2].", vec![]),
        ("<p>Type <code>[su_note a=1]</code></p><pre>[su_note a=1]</pre>", vec![]),
    ] {
        let (_, notes) = words_and_notes(html);
        let wanted: Vec<_> = names
            .iter()
            .map(|name| format!("shortcode [{}]: stays in the text, tags: {}", name.0, name.1))
            .collect();
        assert_eq!(notes, wanted, "{html}");
    }
    // A line of its own is raw HTML, with a note.
    let (_, notes) = words_and_notes("[su_list]\n\n<b>a</b>\n\n[/su_list]");
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(
        notes.iter().all(|note| note.starts_with("shortcode [su_list]: stored as raw HTML")),
        "{notes:?}"
    );
}

#[test]
fn layout_of_page_builders_is_left_out() {
    let html = "[vc_row css=\".a{b: c}\"][vc_column width=\"1/2\"][vc_column_text]One <b>two</b>\n\nthree[/vc_column_text]\
                [vc_column_text]<h3>four</h3>[gallery ids=\"3\"][/vc_column_text][/vc_column][/vc_row]five \
                [et_pb_section][et_pb_row /]six[/et_pb_section] [fusion_text columns=\"\"]<p>seven</p>[/fusion_text]";
    let converted = body(html, &Files);
    let kinds: Vec<_> = converted.body.blocks.iter().flat_map(|block| &block.kind).collect();
    let [Kind::Paragraph(_), Kind::Paragraph(_), Kind::Heading(_), Kind::Gallery(_), rest @ ..] = &kinds[..]
    else {
        panic!("{kinds:#?}")
    };
    assert_eq!(rest.iter().map(|kind| text(kind)).collect::<Vec<_>>(), ["five", "six", "seven"]);
    assert_eq!(converted.notes.lines, ["13 tags of page builders: left out, their content stays"]);
}

#[test]
fn a_caption_stays_with_its_picture_beside_icons() {
    for (beside, blocks) in [
        ("<div><svg><path d=\"M0 0\"/></svg></div>", 1),
        ("<button type=\"button\"> <svg></svg> </button>", 1),
        ("<button>Enlarge</button>", 3),
    ] {
        let html = format!(
            "<figure><a href=\"https://a.example/big.jpg\"><div><img src=\"https://a.example/a.jpg\" alt=\"x\">\
             {beside}</div></a><figcaption>The quay</figcaption></figure>"
        );
        let body = body(&html, &NoAttachments).body;
        assert_eq!(body.blocks.len(), blocks, "{body:?}");
        let Some(Kind::Image(image)) = &body.blocks[0].kind else { panic!("{body:?}") };
        assert_eq!(image.href, "https://a.example/big.jpg");
        if blocks == 1 {
            assert_eq!(image.media.as_ref().unwrap().caption[0].text, "The quay");
        }
    }
}

#[test]
fn captions_of_players_and_of_texts_are_no_shortcodes() {
    let video = "https://www.youtube.com/embed/1";
    for inner in [format!("<iframe src='{video}'></iframe>"), format!("[youtube {video}]")] {
        let all = with_files(&format!("[caption width=\"3\"]{inner} A <b>caption</b>[/caption] w1"));
        let [Kind::Embed(embed), Kind::Paragraph(_)] = &all[..] else { panic!("{all:#?}") };
        assert_eq!((embed.url.as_str(), embed.caption.len()), (video, 2));
    }
    assert_eq!(words_and_notes("[caption caption='w1']w2 <b>w3</b>[/caption] w4").0, "w1 w2 w3 w4");
}

#[test]
fn videos_of_videopress_are_embeds() {
    let (open, close) = ("<!-- wp:videopress/video {\"guid\":\"X1\"}", "<!-- /wp:videopress/video -->");
    let figure =
        |inner: &str| format!("{open} --><figure class='wp-block-videopress-video'>{inner}</figure>{close}");
    for (html, caption) in [
        (figure("<div class='wrapper'>\nhttps://videopress.com/v/X1\n</div>"), false),
        (figure("<div>https://videopress.com/v/X1</div><figcaption>w1</figcaption>"), true),
        (figure("<iframe src='https://videopress.com/v/X1'></iframe>"), false),
        (figure(""), false),
        (format!("{open} /-->"), false),
    ] {
        let all = with_files(&format!("<p>a</p>{html}<p>b</p>"));
        let [Kind::Paragraph(_), Kind::Embed(embed), Kind::Paragraph(_)] = &all[..] else {
            panic!("{html}: {all:#?}")
        };
        assert_eq!((embed.url.as_str(), !embed.caption.is_empty()), ("https://videopress.com/v/X1", caption));
    }
}

#[test]
fn a_picture_with_only_a_set_of_files_has_one() {
    for (html, files) in [
        ("<img srcset='/s1.jpg 1x, /s2.jpg 2x' alt='a'>", vec!["/s1.jpg"]),
        ("<img srcset='/s1.jpg, /s2.jpg 2x'>", vec!["/s1.jpg"]),
        ("<img srcset='/s1.jpg 400w, /s2.jpg 800w' width=3>", vec!["/s1.jpg", "/s2.jpg"]),
        ("<img src='data:image/gif;base64,R0' data-srcset='/s1.jpg 2x'>", vec!["/s1.jpg"]),
        ("<picture><source srcset='/s1.webp 1x'><img alt='a'></picture>", vec!["/s1.webp"]),
        ("<img src='/a.jpg' srcset='/s1.jpg 2x'>", vec!["/a.jpg"]),
    ] {
        let Kind::Image(image) = one(html) else { panic!("{html}") };
        let media = image.media.unwrap();
        assert_eq!(media.renditions.iter().map(|f| f.href.as_str()).collect::<Vec<_>>(), files, "{html}");
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
