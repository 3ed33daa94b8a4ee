//! The forms of bodies, and the check that parsers find the same words, marks and links in each of them.

use std::collections::BTreeSet;

use proptest::{collection::vec, prelude::*, sample::select};
use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};
use scraper::{ElementRef, Html};

use super::*;
use cable_proto::v1::{
    Audio, Block, Code, Credit, Divider, Gallery, Heading, Image, List, ListItem, LivePost, Paragraph,
    PullQuote, Quote, RawHtml, Table, TableCell, TableRow, Video, block::Kind,
};

fn span(text: &str) -> Span {
    Span { text: text.to_owned(), ..Span::default() }
}

fn marked(text: &str, marks: &[Mark]) -> Span {
    Span { marks: marks.iter().map(|&mark| mark.into()).collect(), ..span(text) }
}

fn linked(text: &str, href: &str) -> Span {
    Span { link: Some(Link { href: href.to_owned(), ..Link::default() }), ..span(text) }
}

fn block(kind: Kind) -> Block {
    Block { kind: Some(kind), ..Block::default() }
}

fn paragraph(spans: Vec<Span>) -> Block {
    block(Kind::Paragraph(Paragraph { spans }))
}

fn p(text: &str) -> Block {
    paragraph(vec![span(text)])
}

fn list(items: Vec<Vec<Block>>) -> List {
    List { items: items.into_iter().map(|blocks| ListItem { blocks }).collect(), ..List::default() }
}

fn file(href: &str, width: i32) -> Rendition {
    Rendition { href: href.to_owned(), width, ..Rendition::default() }
}

fn cell(text: &str) -> TableCell {
    TableCell { spans: vec![span(text)], ..TableCell::default() }
}

fn body(blocks: Vec<Block>) -> Body {
    Body { blocks }
}

/// Asserts all three forms of a body.
#[track_caller]
fn assert_forms(blocks: Vec<Block>, html: &str, markdown: &str, text: &str) {
    let body = body(blocks);
    assert_eq!(render(&body, BodyFormat::Html), html);
    assert_eq!(render(&body, BodyFormat::Markdown), markdown);
    assert_eq!(render(&body, BodyFormat::PlainText), text);
}

fn gallery(media: Vec<Media>, caption: Vec<Span>) -> Gallery {
    let image = |media| Image { media: Some(media), href: String::new() };
    Gallery { images: media.into_iter().map(image).collect(), caption }
}

#[test]
fn an_empty_body_is_an_empty_text() {
    let nothing = vec![
        Block { id: "a".to_owned(), kind: None },
        p(" \n"),
        block(Kind::Quote(Quote { blocks: vec![p("")], attribution: vec![] })),
        block(Kind::Image(Image::default())),
        block(Kind::Gallery(Gallery::default())),
        block(Kind::Embed(Embed::default())),
        block(Kind::Table(Table::default())),
        block(Kind::List(List::default())),
        block(Kind::Code(Code::default())),
        block(Kind::RawHtml(RawHtml::default())),
    ];
    assert_forms(vec![], "", "", "");
    assert_forms(nothing, "", "", "");
    assert_eq!(render(&body(vec![p("a")]), BodyFormat::Blocks), "");
}

#[test]
fn paragraphs_have_marks_links_and_line_breaks() {
    use Mark::{Code, Emphasis, Strike, Strong, Sub};
    let spans = vec![
        span("Up & "),
        marked("very ", &[Strong]),
        marked("far", &[Strong, Emphasis]),
        span(", H"),
        marked("2", &[Sub]),
        span("O, "),
        marked("old", &[Strike]),
        span(" "),
        marked("a`b", &[Code]),
        span(".\n"),
        linked("her", "https://example.org/?a=1&b=(2)"),
        Span { marks: vec![Strong.into()], ..linked("e", "https://example.org/?a=1&b=(2)") },
    ];
    assert_forms(
        vec![
            Block { id: "p1".to_owned(), ..paragraph(spans) },
            Block { id: "p\"2".to_owned(), ..p("1 < 2") },
        ],
        "<p id=\"p1\">Up &amp; <strong>very <em>far</em></strong>, H<sub>2</sub>O, <s>old</s> <code>a`b</code>.<br>\
         <a href=\"https://example.org/?a=1&amp;b=(2)\">her<strong>e</strong></a></p>\n<p>1 &lt; 2</p>",
        "Up & **very *far***, H<sub>2</sub>O, ~~old~~ ``a`b``.\\\n\
         [her**e**](https://example.org/?a=1&b=\\(2\\))\n\n1 \\< 2",
        "Up & very far, H2O, old a`b.\nhere\n\n1 < 2",
    );
}

#[test]
fn active_links_are_rendered_as_text() {
    for href in
        ["javascript:alert(1)", " JAVA\tscript:x", "\u{0}javascript:x", "data:text/html,x", "vbscript:x"]
    {
        assert_forms(vec![paragraph(vec![linked("a", href)])], "<p>a</p>", "a", "a");
    }
}

#[test]
fn headings_have_levels_two_to_six() {
    let heading = |level, text: &str| block(Kind::Heading(Heading { level, spans: vec![span(text)] }));
    assert_forms(
        vec![heading(0, "a #"), heading(6, "b\nc")],
        "<h2>a #</h2>\n<h6>b<br>c</h6>",
        "## a \\#\n\n###### b<br>c",
        "a #\n\nb\nc",
    );
}

#[test]
fn lists_nest_and_count() {
    let inner = list(vec![vec![p("b")], vec![]]);
    let outer = list(vec![
        vec![Block { id: "x".to_owned(), ..p("a") }, block(Kind::List(inner))],
        vec![p("c"), p("d")],
    ]);
    let second = List { ordered: true, start: 9, ..list(vec![vec![p("e")], vec![p("f"), p("g")]]) };
    assert_forms(
        vec![block(Kind::List(outer)), block(Kind::List(second))],
        "<ul><li id=\"x\">a\n<ul><li>b</li><li></li></ul></li><li><p>c</p>\n<p>d</p></li></ul>\n\
         <ol start=\"9\"><li>e</li><li><p>f</p>\n<p>g</p></li></ol>",
        "- a\n  * b\n  *\n- c\n\n  d\n\n9. e\n10. f\n\n    g",
        "- a\n  - b\n  -\n- c\n\n  d\n\n9. e\n10. f\n\n    g",
    );
}

#[test]
fn lists_in_a_row_stay_apart_in_markdown() {
    let bullets = || block(Kind::List(list(vec![vec![p("a")]])));
    let numbers = || block(Kind::List(List { ordered: true, ..list(vec![vec![p("a")]]) }));
    let body = body(vec![bullets(), bullets(), bullets(), numbers(), numbers()]);
    assert_eq!(render(&body, BodyFormat::Markdown), "- a\n\n* a\n\n- a\n\n1. a\n\n1) a");
}

#[test]
fn quotes_name_their_source() {
    let quote = Quote { blocks: vec![p("a"), p("b")], attribution: vec![span("Ann Vale")] };
    let pull = PullQuote { spans: vec![span("c\nd")], attribution: vec![] };
    assert_forms(
        vec![p("x"), block(Kind::Quote(quote)), block(Kind::PullQuote(pull))],
        "<p>x</p>\n<blockquote><p>a</p>\n<p>b</p><footer>Ann Vale</footer></blockquote>\n\
         <aside><blockquote><p>c<br>d</p></blockquote></aside>",
        "x\n\n> a\n>\n> b\n>\n> \u{2014} Ann Vale\n\n> c\\\n> d",
        "x\n\na\n\nb\n\u{2014} Ann Vale\n\nc\nd",
    );
}

#[test]
fn pictures_have_caption_and_credit() {
    let media = Media {
        renditions: vec![
            file("/s.jpg", 400),
            Rendition { height: 600, ..file("/l.jpg", 800) },
            file("data:x", 900),
        ],
        alt_text: "A \"boat\"".to_owned(),
        caption: vec![span("The "), marked("Gull", &[Mark::Emphasis]), span(".")],
        credit: "Ann Vale/Harbour Press".to_owned(),
        ..Media::default()
    };
    assert_forms(
        vec![block(Kind::Image(Image { media: Some(media), href: "/boat".to_owned() }))],
        "<figure><a href=\"/boat\"><img src=\"/l.jpg\" srcset=\"/s.jpg 400w, /l.jpg 800w\" \
         alt=\"A &quot;boat&quot;\" width=\"800\" height=\"600\"></a>\
         <figcaption>The <em>Gull</em>. <small>Ann Vale/Harbour Press</small></figcaption></figure>",
        "[![A \"boat\"](/l.jpg)](/boat)\\\n*The Gull. Ann Vale/Harbour Press*",
        "The Gull. Ann Vale/Harbour Press",
    );
}

#[test]
fn a_picture_without_a_file_is_rendered_as_text() {
    let media = Media {
        alt_text: "A boat".to_owned(),
        creator: "Ann Vale".to_owned(),
        supplier: "Harbour Press".to_owned(),
        ..Media::default()
    };
    assert_forms(
        vec![block(Kind::Image(Image { media: Some(media), href: "/boat".to_owned() }))],
        "<figure><figcaption>A boat <small>Ann Vale/Harbour Press</small></figcaption></figure>",
        "*A boat Ann Vale/Harbour Press*",
        "A boat Ann Vale/Harbour Press",
    );
}

#[test]
fn galleries_are_figures_of_figures() {
    let picture = |href, alt: &str| Media {
        renditions: vec![file(href, 0)],
        alt_text: alt.to_owned(),
        ..Media::default()
    };
    let gallery = gallery(vec![picture("/a", "a"), picture("/b", "b")], vec![span("c")]);
    assert_forms(
        vec![block(Kind::Gallery(gallery))],
        "<figure><figure><img src=\"/a\" alt=\"a\"></figure><figure><img src=\"/b\" alt=\"b\"></figure>\
         <figcaption>c</figcaption></figure>",
        "![a](/a)\n\n![b](/b)\n\n*c*",
        "a\nb\nc",
    );
}

#[test]
fn embeds_are_links_and_never_frames() {
    let embed = Embed {
        url: "https://video.example/1".to_owned(),
        title: "A film".to_owned(),
        fallback_text: "Boats come in.".to_owned(),
        caption: vec![span("c")],
        ..Embed::default()
    };
    let bare = Embed { url: "https://video.example/2".to_owned(), ..Embed::default() };
    let bad = Embed { url: "javascript:x".to_owned(), title: "t".to_owned(), ..Embed::default() };
    assert_forms(
        vec![block(Kind::Embed(embed)), block(Kind::Embed(bare)), block(Kind::Embed(bad))],
        "<figure><a href=\"https://video.example/1\">A film</a><p>Boats come in.</p><figcaption>c</figcaption></figure>\n\
         <figure><a href=\"https://video.example/2\">https://video.example/2</a></figure>\n<figure><p>t</p></figure>",
        "[A film](https://video.example/1)\\\nBoats come in.\\\n*c*\n\n\
         [https://video.example/2](https://video.example/2)\n\nt",
        "A film\nBoats come in.\nc\n\nhttps://video.example/2\n\nt",
    );
}

#[test]
fn code_is_unchanged() {
    let code = Code { text: "if a < b {\n\n    ```\n}\n".to_owned(), language: "rust".to_owned() };
    let odd = Code { text: "x".to_owned(), language: "a\" b".to_owned() };
    assert_forms(
        vec![block(Kind::Code(code)), block(Kind::Code(odd))],
        "<pre><code class=\"language-rust\">if a &lt; b {\n\n    ```\n}\n</code></pre>\n<pre><code>x</code></pre>",
        "````rust\nif a < b {\n\n    ```\n}\n````\n\n```\nx\n```",
        "if a < b {\n\n    ```\n}\n\nx",
    );
}

#[test]
fn tables_have_headers_and_cells_that_span() {
    let header = |text| TableCell { header: true, ..cell(text) };
    let table = Table {
        rows: vec![
            TableRow { cells: vec![header("a"), TableCell { column_span: 2, ..header("b|c") }] },
            TableRow { cells: vec![TableCell { row_span: 2, ..cell("d") }, cell("e"), cell("f\ng")] },
            TableRow { cells: vec![cell("h"), cell("")] },
        ],
        caption: vec![span("t")],
    };
    let headless = Table { rows: vec![TableRow { cells: vec![cell("i")] }], caption: vec![] };
    assert_forms(
        vec![block(Kind::Table(table)), block(Kind::Table(headless))],
        "<table><caption>t</caption><thead><tr><th>a</th><th colspan=\"2\">b|c</th></tr></thead>\
         <tbody><tr><td rowspan=\"2\">d</td><td>e</td><td>f<br>g</td></tr><tr><td>h</td><td></td></tr></tbody></table>\n\
         <table><tbody><tr><td>i</td></tr></tbody></table>",
        "*t*\n\n| a | b\\|c |  |\n| --- | --- | --- |\n| d | e | f<br>g |\n|  | h |  |\n\n|  |\n| --- |\n| i |",
        "t\na\tb|c\nd\te\tf g\nh\n\ni",
    );
}

#[test]
fn players_have_files_poster_caption_and_credit() {
    let file = |href, kind: &str, width| Rendition { r#type: kind.to_owned(), ..file(href, width) };
    let media = Media {
        renditions: vec![
            file("/a.mp4", "video/mp4", 640),
            file("/a.webm", "", 0),
            file("/still.jpg", "image/jpeg", 9),
        ],
        alt_text: "The quay".to_owned(),
        caption: vec![span("High water.")],
        credit: "Ann Vale".to_owned(),
        poster: "/p.jpg".to_owned(),
        ..Media::default()
    };
    let sound = Media { renditions: vec![file("/b.mp3", "audio/mpeg", 0)], ..Media::default() };
    let lost = Media { alt_text: "Gone".to_owned(), ..Media::default() };
    assert_forms(
        vec![
            Block { id: "v".to_owned(), ..block(Kind::Video(Video { media: Some(media) })) },
            block(Kind::Audio(Audio { media: Some(sound) })),
            block(Kind::Video(Video { media: Some(lost) })),
            block(Kind::Audio(Audio::default())),
        ],
        "<figure id=\"v\"><video controls=\"\" poster=\"/p.jpg\" aria-label=\"The quay\" width=\"640\">\
         <source src=\"/a.mp4\" type=\"video/mp4\"><source src=\"/a.webm\"></video>\
         <figcaption>High water. <small>Ann Vale</small></figcaption></figure>\n\
         <figure><audio controls=\"\"><source src=\"/b.mp3\" type=\"audio/mpeg\"></audio></figure>\n\
         <figure><figcaption>Gone</figcaption></figure>",
        "[The quay](/a.mp4)\\\n*High water. Ann Vale*\n\n[/b.mp3](/b.mp3)\n\n*Gone*",
        "High water. Ann Vale\n\n/b.mp3\n\nGone",
    );
}

#[test]
fn live_posts_have_title_times_and_authors() {
    let time = |text: &str| Some(text.parse().unwrap());
    let credit = |name: &str, role: &str| Credit {
        display_name: name.to_owned(),
        role: role.to_owned(),
        ..Credit::default()
    };
    let post = LivePost {
        title: "The *crane* is up".to_owned(),
        publish_time: time("2026-03-01T14:05:07Z"),
        update_time: time("2026-03-01T15:00:00.5Z"),
        credits: vec![
            credit("Kay Lund", "Reporter"),
            Credit { author: "authors/ann".to_owned(), ..Credit::default() },
            credit("Ann Vale", ""),
        ],
        key_event: true,
        pinned: true,
        blocks: vec![p("One."), p("Two.")],
    };
    let bare = LivePost { blocks: vec![p("Three.")], ..LivePost::default() };
    let empty = LivePost { key_event: true, ..LivePost::default() };
    let body_of = vec![
        Block { id: "p1".to_owned(), ..block(Kind::LivePost(post)) },
        block(Kind::LivePost(bare)),
        block(Kind::LivePost(empty)),
    ];
    let start = |id: &str, marks: &str| {
        format!(
            "<article{id} itemprop=\"liveBlogUpdate\" itemscope=\"\" itemtype=\"https://schema.org/BlogPosting\"{marks}>"
        )
    };
    let (first, second) = (start(" id=\"p1\"", " data-key-event=\"\" data-pinned=\"\""), start("", ""));
    let times = "<time itemprop=\"datePublished\" datetime=\"2026-03-01T14:05:07Z\">2026-03-01 14:05 UTC</time> \
                 <time itemprop=\"dateModified\" datetime=\"2026-03-01T15:00:00.500Z\">(2026-03-01 15:00 UTC)</time>";
    let authors = "<span itemprop=\"author\">Kay Lund <small>(Reporter)</small></span>, <span itemprop=\"author\">Ann Vale</span>";
    assert_forms(
        body_of.clone(),
        &format!(
            "{first}<header><h2 itemprop=\"headline\">The *crane* is up</h2><p>{times} {authors}</p></header>\n\
             <p>One.</p>\n<p>Two.</p></article>\n{second}<p>Three.</p></article>"
        ),
        &format!(
            "{first}\n\n## The \\*crane\\* is up\n\n{times} {authors}\n\nOne.\n\nTwo.\n\n</article>\n\n\
             {second}\n\nThree.\n\n</article>"
        ),
        "The *crane* is up\n2026-03-01 14:05 UTC (2026-03-01 15:00 UTC) Kay Lund (Reporter), Ann Vale\n\n\
         One.\n\nTwo.\n\nThree.",
    );
    assert_eq!(word_count(&body(body_of)), 12);
    let late = LivePost { publish_time: time("9999-12-31T23:59:59Z"), ..LivePost::default() };
    let mut invalid = late.clone();
    invalid.publish_time.as_mut().unwrap().seconds += 1;
    let html = |post| render(&body(vec![block(Kind::LivePost(post))]), BodyFormat::Html);
    assert!(html(late).contains("9999-12-31 23:59 UTC"));
    assert_eq!(html(invalid), "");
}

#[test]
fn blocks_in_cells_are_one_line_in_markdown_and_text() {
    let picture = Media { renditions: vec![file("/a.jpg", 0)], alt_text: "a".to_owned(), ..Media::default() };
    let blocks = vec![
        p("b|c"),
        block(Kind::Image(Image { media: Some(picture), href: "/x".to_owned() })),
        block(Kind::List(list(vec![vec![p("d")], vec![paragraph(vec![linked("e", "/e")])]]))),
        block(Kind::Code(Code { text: "f\ng".to_owned(), ..Code::default() })),
        block(Kind::Divider(Divider {})),
    ];
    let cells = vec![TableCell { blocks, ..TableCell::default() }, cell("h"), TableCell::default()];
    let table = Table { rows: vec![TableRow { cells }], caption: vec![] };
    let body = body(vec![block(Kind::Table(table))]);
    assert_eq!(
        render(&body, BodyFormat::Html),
        "<table><tbody><tr><td><p>b|c</p>\n<figure><a href=\"/x\"><img src=\"/a.jpg\" alt=\"a\"></a></figure>\n\
         <ul><li>d</li><li><a href=\"/e\">e</a></li></ul>\n<pre><code>f\ng</code></pre>\n<hr></td><td>h</td><td></td></tr></tbody></table>"
    );
    assert_eq!(
        render(&body, BodyFormat::Markdown),
        "|  |  |  |\n| --- | --- | --- |\n\
         | b\\|c<br>[![a](/a.jpg)](/x)<br>d<br>[e](/e)<br>`f`<br>`g` | h |  |"
    );
    assert_eq!(render(&body, BodyFormat::PlainText), "b|c a - d - e f g * * *\th");
    assert_eq!(word_count(&body), 7);
}

#[test]
fn dividers_and_raw_html_have_a_form_each() {
    let raw = |html: &str| block(Kind::RawHtml(RawHtml { html: html.to_owned(), ..RawHtml::default() }));
    assert_forms(
        vec![
            block(Kind::Divider(Divider {})),
            Block { id: "r".to_owned(), ..raw("<p>a &amp; *b*<br>c</p><script>x</script>") },
            raw("<pre>d\n\ne</pre>"),
        ],
        "<hr>\n<div id=\"r\"><p>a &amp; *b*<br>c</p></div>\n<pre>d\n\ne</pre>",
        "___\n\n<div>\n<p>a &amp; *b*<br>c</p>\n</div>\n\n<div>\n<pre>d\n&#10;e</pre>\n</div>",
        "* * *\n\na & *b*\nc\n\nd\ne",
    );
}

#[test]
fn word_count_excludes_numbers_and_dividers() {
    let quote = Quote { blocks: vec![p("a b")], attribution: vec![span("c")] };
    let blocks = vec![
        block(Kind::List(List { ordered: true, ..list(vec![vec![p("one two")], vec![p("three")]]) })),
        block(Kind::Divider(Divider {})),
        block(Kind::Quote(quote)),
        paragraph(vec![span("un"), marked("broken", &[Mark::Strong])]),
    ];
    assert_eq!(word_count(&body(blocks)), 7);
}

#[test]
fn deep_nesting_is_rendered() {
    let mut deep = p("a");
    for level in 0..100 {
        deep = if level % 2 == 0 {
            block(Kind::List(list(vec![vec![deep]])))
        } else {
            block(Kind::Quote(Quote { blocks: vec![deep], attribution: vec![] }))
        };
    }
    let body = body(vec![deep]);
    assert_eq!(render(&body, BodyFormat::PlainText).trim_start_matches(['-', ' ']), "a");
    assert!(render(&body, BodyFormat::Html).contains("<li>a</li>"));
    assert!(render(&body, BodyFormat::Markdown).ends_with("> * a"));
}

// Random bodies.

const TEXTS: &[&str] = &[
    "<script>alert(1)</script>",
    "javascript:alert(1)",
    "\" onclick=\"x",
    "' onerror='x",
    "--></div>",
    "&amp;",
    "&lt;b",
    "&#60;",
    "](x)",
    "**a**",
    "__a__",
    "~~a~~",
    "`a`",
    "```",
    "# a",
    "1. a",
    "1) a",
    "- a",
    "+ a",
    "> a",
    "===",
    "---",
    "***",
    "| a |\n| - |",
    ":-",
    "a\\",
    "\\*",
    "![a](b)",
    "<a@b.c>",
    "http://a.b",
    "a\n\nb",
    " a ",
    "a\r\nb",
    "a\u{0}b",
    "\u{a0}a",
    "\u{201c}a\u{201d}",
    "a\u{2014}b",
    "\u{1f30a}",
    "e\u{301}",
    "\u{e9}",
    "\n",
    "\t",
    " ",
    "a",
    "b",
    "!",
    ".",
];

fn words_of_text() -> impl Strategy<Value = String> {
    prop_oneof![
        select(TEXTS).prop_map(str::to_owned),
        "[a-c1 *_`<>&#|~!.)(+=:\n\\\\\\[\\]\u{e9}\u{201c}-]{0,8}",
        "[a-d ]{1,10}",
    ]
}

const HREFS: &[&str] = &[
    "https://a.example/",
    "/x?a=1&copy;=2",
    "/a_(b)*c*",
    "mailto:a@b.example",
    "javascript:alert(1)",
    "JaVaScRiPt:x",
    "java\nscript:x",
    " data:text/html,x",
    "/\" onclick=\"x",
    "",
];

prop_compose! {
    fn any_span()(
        text in words_of_text(),
        marks in prop_oneof![vec(0..8, 0..2), vec(1..5, 0..4)],
        href in proptest::option::weighted(0.2, select(HREFS)),
        title in select(&["", "a \"b\" `c`"][..]),
    ) -> Span {
        let link = href.map(|href| Link { href: href.to_owned(), title: title.to_owned(), ..Link::default() });
        Span { text, marks, link }
    }
}

fn any_spans() -> impl Strategy<Value = Vec<Span>> {
    vec(any_span(), 0..5)
}

prop_compose! {
    /// Generates alternative text or a caption: only one of them counts as words.
    fn any_media()(
        files in vec((select(HREFS), 0..3), 0..3),
        has_caption in any::<bool>(),
        alt in words_of_text(),
        caption in any_spans(),
        credit in words_of_text(),
    ) -> Media {
        let renditions = files.into_iter().map(|(href, width)| file(href, width)).collect();
        let (alt_text, caption) = if has_caption { (String::new(), caption) } else { (alt, vec![]) };
        Media { renditions, alt_text, caption, credit, ..Media::default() }
    }
}

prop_compose! {
    fn any_embed()(
        url in select(HREFS), title in words_of_text(), fallback_text in words_of_text(), caption in any_spans(),
    ) -> Embed {
        Embed { url: url.to_owned(), title: format!("T{title}"), fallback_text, caption, ..Embed::default() }
    }
}

/// Generates a player. Markdown shows the URL of a file without an alternative text, which is not among the words.
fn any_player() -> impl Strategy<Value = Media> {
    (any_media(), words_of_text()).prop_map(|(media, alt)| match media.renditions.is_empty() {
        true => media,
        false => Media { alt_text: format!("T{alt}"), caption: Vec::new(), ..media },
    })
}

prop_compose! {
    fn any_cell()(
        content in prop_oneof![
            3 => any_spans().prop_map(|spans| (spans, Vec::new())),
            1 => vec(any_simple().prop_map(block), 1..3).prop_map(|blocks| (Vec::new(), blocks)),
        ],
        header in any::<bool>(),
        column_span in 0..3,
        row_span in 0..3,
    ) -> TableCell {
        let (spans, blocks) = content;
        TableCell { spans, header, column_span, row_span, blocks }
    }
}

prop_compose! {
    fn any_post()(
        title in words_of_text(),
        credits in vec((words_of_text(), words_of_text()), 0..3),
        key_event in any::<bool>(),
        blocks in vec(any_block(any_leaf()), 0..3),
    ) -> Kind {
        let credit = |(display_name, role)| Credit { display_name, role, ..Credit::default() };
        let credits = credits.into_iter().map(credit).collect();
        Kind::LivePost(LivePost { title, credits, key_event, blocks, ..LivePost::default() })
    }
}

fn any_table() -> impl Strategy<Value = Table> {
    let rows = vec(vec(any_cell(), 0..4).prop_map(|cells| TableRow { cells }), 0..4);
    (rows, any_spans()).prop_map(|(rows, caption)| Table { rows, caption })
}

fn any_leaf() -> impl Strategy<Value = Kind> {
    prop_oneof![10 => any_simple(), 1 => any_table().prop_map(Kind::Table)]
}

fn any_simple() -> impl Strategy<Value = Kind> {
    prop_oneof![
        4 => any_spans().prop_map(|spans| Kind::Paragraph(Paragraph { spans })),
        1 => (0..8, any_spans()).prop_map(|(level, spans)| Kind::Heading(Heading { level, spans })),
        1 => (any_spans(), any_spans())
            .prop_map(|(spans, attribution)| Kind::PullQuote(PullQuote { spans, attribution })),
        1 => (any_media(), select(HREFS))
            .prop_map(|(media, href)| Kind::Image(Image { media: Some(media), href: href.to_owned() })),
        1 => (vec(any_media(), 0..3), any_spans())
            .prop_map(|(media, caption)| Kind::Gallery(gallery(media, caption))),
        1 => any_embed().prop_map(Kind::Embed),
        1 => (words_of_text(), select(TEXTS))
            .prop_map(|(text, language)| Kind::Code(Code { text, language: language.to_owned() })),
        1 => any_player().prop_map(|media| Kind::Video(Video { media: Some(media) })),
        1 => any_player().prop_map(|media| Kind::Audio(Audio { media: Some(media) })),
        1 => Just(Kind::Divider(Divider {})),
    ]
}

fn any_raw() -> impl Strategy<Value = Kind> {
    const RAW: &[&str] = &[
        "<script>x</script>a",
        "<p onclick=x>a<p>b",
        "<li>a",
        "</li></ul>a",
        "<table><tr><td>a<td>b</table>",
        "<a href=javascript:x>a</a>",
        "<pre>\n\na\n\n</pre>",
        "<!-- a -->",
        "&lt;script>",
        "<b>a",
        "</blockquote>a",
    ];
    vec(prop_oneof![select(RAW).prop_map(str::to_owned), words_of_text()], 0..4)
        .prop_map(|parts| Kind::RawHtml(RawHtml { html: parts.concat(), reason: String::new() }))
}

fn any_block(leaf: impl Strategy<Value = Kind> + 'static) -> impl Strategy<Value = Block> {
    let with_id = |(id, kind): (&str, Kind)| Block { id: id.to_owned(), kind: Some(kind) };
    let leaf = (select(&["", "a1", "\"><script>"][..]), leaf).prop_map(with_id);
    leaf.prop_recursive(4, 20, 4, |inner| {
        let items = vec(vec(inner.clone(), 0..3).prop_map(|blocks| ListItem { blocks }), 0..4);
        let list = (any::<bool>(), 0..12, items)
            .prop_map(|(ordered, start, items)| Kind::List(List { ordered, start, items }));
        let quote = (vec(inner, 0..4), any_spans())
            .prop_map(|(blocks, attribution)| Kind::Quote(Quote { blocks, attribution }));
        prop_oneof![list, quote].prop_map(block)
    })
}

fn any_body() -> impl Strategy<Value = Body> {
    let block = any_block(prop_oneof![6 => any_leaf(), 1 => any_raw()]);
    vec(prop_oneof![5 => block, 1 => any_post().prop_map(self::block)], 0..5).prop_map(body)
}

fn any_body_without_raw_html() -> impl Strategy<Value = Body> {
    vec(prop_oneof![5 => any_block(any_leaf()), 1 => any_post().prop_map(block)], 0..5).prop_map(body)
}

// Parsers of other projects read the forms back.

fn html_text(element: ElementRef<'_>, text: &mut String) {
    const INLINE: [&str; 10] = ["a", "strong", "em", "s", "code", "sub", "sup", "b", "small", "span"];
    let part = if INLINE.contains(&element.value().name()) { "" } else { " " };
    text.push_str(part);
    let alternative = ["alt", "aria-label"].iter().find_map(|name| element.attr(name));
    text.push_str(alternative.unwrap_or_default());
    for child in element.children() {
        match ElementRef::wrap(child) {
            Some(element) => html_text(element, text),
            None => text.push_str(child.value().as_text().map_or("", |text| text)),
        }
    }
    text.push_str(part);
}

fn parse(markdown: &str) -> Parser<'_> {
    Parser::new_ext(markdown, Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH)
}

fn is_inline(tag: &TagEnd) -> bool {
    matches!(tag, TagEnd::Emphasis | TagEnd::Strong | TagEnd::Strikethrough | TagEnd::Link | TagEnd::Image)
}

fn markdown_text(markdown: &str) -> String {
    let mut text = String::new();
    for event in parse(markdown) {
        match event {
            Event::Text(part) | Event::Code(part) => text.push_str(&part),
            Event::InlineHtml(tag) if &*tag != "<br>" => {}
            Event::Start(tag) if is_inline(&tag.to_end()) => {}
            Event::End(tag) if is_inline(&tag) => {}
            Event::Html(tag) if tag.starts_with("<article") || tag.trim() == "</article>" => text.push(' '),
            Event::Html(html) => panic!("unexpected {html:?}"),
            _ => text.push(' '),
        }
    }
    text
}

/// Returns the words, without the dash before an attribution.
fn words(text: &str) -> Vec<String> {
    text.split_whitespace().filter(|&word| word != "\u{2014}").map(str::to_owned).collect()
}

/// A character with its marks and link. White space is one blank without either.
type Look = (char, BTreeSet<i32>, Option<String>);

fn add(looks: &mut Vec<Look>, text: &str, marks: &BTreeSet<i32>, link: Option<&str>) {
    for c in text.chars() {
        if !c.is_whitespace() {
            looks.push((c, marks.clone(), link.map(str::to_owned)));
        } else if looks.last().is_some_and(|last| last.0 != ' ') {
            looks.push((' ', BTreeSet::new(), None));
        }
    }
}

fn trimmed(mut looks: Vec<Look>) -> Vec<Look> {
    if looks.last().is_some_and(|last| last.0 == ' ') {
        looks.pop();
    }
    looks
}

fn looks_of(spans: &[Span]) -> Vec<Look> {
    let mut looks = Vec::new();
    for span in spans {
        let marks = Marks::of(span).as_slice().iter().map(|&mark| mark as i32).collect();
        let target = link(span).map(|(_, target)| target.replace(' ', "%20"));
        add(&mut looks, &clean(&span.text), &marks, target.as_deref());
    }
    trimmed(looks)
}

fn looks_of_markdown(markdown: &str) -> Vec<Look> {
    let (mut looks, mut marks, mut link) = (Vec::new(), Vec::new(), None);
    for event in parse(markdown) {
        let set = || marks.iter().copied().collect::<BTreeSet<i32>>();
        match event {
            Event::Text(text) => add(&mut looks, &text, &set(), link.as_deref()),
            Event::Code(text) => {
                let marks = set().into_iter().chain([Mark::Code as i32]).collect();
                add(&mut looks, &text, &marks, link.as_deref());
            }
            Event::Start(Tag::Link { dest_url, .. }) => link = Some(dest_url.to_string()),
            Event::End(TagEnd::Link) => link = None,
            Event::Start(Tag::Strong) => marks.push(Mark::Strong as i32),
            Event::Start(Tag::Emphasis) => marks.push(Mark::Emphasis as i32),
            Event::Start(Tag::Strikethrough) => marks.push(Mark::Strike as i32),
            Event::End(TagEnd::Strong | TagEnd::Emphasis | TagEnd::Strikethrough) => drop(marks.pop()),
            Event::InlineHtml(tag) => match (&*tag, element_mark(&tag)) {
                ("<br>", _) => add(&mut looks, " ", &BTreeSet::new(), None),
                (_, Some(mark)) => marks.push(mark as i32),
                _ => drop(marks.pop()),
            },
            Event::SoftBreak | Event::HardBreak | Event::End(_) => {
                add(&mut looks, " ", &BTreeSet::new(), None)
            }
            _ => {}
        }
    }
    trimmed(looks)
}

fn element_mark(tag: &str) -> Option<Mark> {
    match tag {
        "<strong>" => Some(Mark::Strong),
        "<em>" => Some(Mark::Emphasis),
        "<s>" => Some(Mark::Strike),
        "<sub>" => Some(Mark::Sub),
        "<sup>" => Some(Mark::Sup),
        "<code>" => Some(Mark::Code),
        _ => None,
    }
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
        const OWN: [&str; 8] =
            ["id", "class", "srcset", "itemprop", "itemscope", "itemtype", KEY_EVENT, PINNED];
        let html = render(&body, BodyFormat::Html);
        for element in Html::parse_fragment(&html).root_element().descendent_elements().skip(1) {
            let name = element.value().name();
            prop_assert!(crate::sanitise::allows(name, None), "{name} in {html}");
            for (attribute, _) in element.value().attrs() {
                let is_allowed = OWN.contains(&attribute) || crate::sanitise::allows(name, Some(attribute));
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

#[test]
fn line_breaks_below_many_quotes_are_bounded() {
    let code = Code { text: "\n".repeat(900_000) + "x", ..Code::default() };
    let quoted = (0..15).fold(block(Kind::Code(code)), |inner, _| {
        block(Kind::Quote(Quote { blocks: vec![inner], ..Quote::default() }))
    });
    for format in [BodyFormat::Markdown, BodyFormat::PlainText] {
        let rendered = render(&body(vec![quoted.clone()]), format);
        assert!(rendered.capacity() < 4 << 20, "{format:?}: {}", rendered.capacity());
    }
}
