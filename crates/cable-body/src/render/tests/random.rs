//! Random bodies: texts that look like markup, and links that are active.

use proptest::{collection::vec, prelude::*, sample::select};

use super::*;

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

pub(super) fn any_spans() -> impl Strategy<Value = Vec<Span>> {
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
        (seconds, nanos) in (any::<i64>(), 0..1_000_000_000_i32),
        (x, y) in any::<(f32, f32)>(),
    ) -> Media {
        let renditions = files.into_iter().map(|(href, width)| file(href, width)).collect();
        let (alt_text, caption) = if has_caption { (String::new(), caption) } else { (alt, vec![]) };
        // A negative time and a point outside the picture are not written.
        let duration = Some(prost_types::Duration { seconds, nanos });
        let focal_point = Some(FocalPoint { x, y });
        Media { renditions, alt_text, caption, credit, duration, focal_point, ..Media::default() }
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

pub(super) fn any_body() -> impl Strategy<Value = Body> {
    let block = any_block(prop_oneof![6 => any_leaf(), 1 => any_raw()]);
    vec(prop_oneof![5 => block, 1 => any_post().prop_map(self::block)], 0..5).prop_map(body)
}

pub(super) fn any_body_without_raw_html() -> impl Strategy<Value = Body> {
    vec(prop_oneof![5 => any_block(any_leaf()), 1 => any_post().prop_map(block)], 0..5).prop_map(body)
}
