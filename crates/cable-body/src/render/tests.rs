//! The forms of bodies.

use super::*;
use cable_proto::v1::{
    Audio, Block, Code, Credit, Divider, FocalPoint, Gallery, Heading, Image, List, ListItem, LivePost,
    Paragraph, PullQuote, Quote, RawHtml, Table, TableCell, TableRow, Video, block::Kind,
};

mod properties;
mod random;
mod reading;

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
fn codes_with_the_same_marks_in_another_order_are_one() {
    let code = |text: &str, outer: [Mark; 2]| Span {
        text: text.to_owned(),
        marks: outer.into_iter().chain([Mark::Code]).map(i32::from).collect(),
        link: None,
    };
    let spans = vec![code("a", [Mark::Strong, Mark::Emphasis]), code("b", [Mark::Emphasis, Mark::Strong])];
    let text = render(&body(vec![paragraph(spans)]), BodyFormat::Markdown);
    assert_eq!(text.trim(), "***`ab`***");
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
        focal_point: Some(FocalPoint { x: 0.375, y: 0.5 }),
        ..Media::default()
    };
    assert_forms(
        vec![block(Kind::Image(Image { media: Some(media), href: "/boat".to_owned() }))],
        "<figure><a href=\"/boat\"><img src=\"/l.jpg\" srcset=\"/s.jpg 400w, /l.jpg 800w\" \
         alt=\"A &quot;boat&quot;\" width=\"800\" height=\"600\" \
         data-focal-point=\"0.375 0.5\"></a>\
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
        duration: Some(prost_types::Duration { seconds: 74, nanos: 0 }),
        ..Media::default()
    };
    let duration = Some(prost_types::Duration { seconds: 9, nanos: 500_000_000 });
    let sound = Media { renditions: vec![file("/b.mp3", "audio/mpeg", 0)], duration, ..Media::default() };
    let lost = Media { alt_text: "Gone".to_owned(), ..Media::default() };
    assert_forms(
        vec![
            Block { id: "v".to_owned(), ..block(Kind::Video(Video { media: Some(media) })) },
            block(Kind::Audio(Audio { media: Some(sound) })),
            block(Kind::Video(Video { media: Some(lost) })),
            block(Kind::Audio(Audio::default())),
        ],
        "<figure id=\"v\"><video controls=\"\" poster=\"/p.jpg\" aria-label=\"The quay\" width=\"640\" \
         data-duration-seconds=\"74\">\
         <source src=\"/a.mp4\" type=\"video/mp4\"><source src=\"/a.webm\"></video>\
         <figcaption>High water. <small>Ann Vale</small></figcaption></figure>\n\
         <figure><audio controls=\"\" data-duration-seconds=\"9.5\"><source src=\"/b.mp3\" type=\"audio/mpeg\"></audio></figure>\n\
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
