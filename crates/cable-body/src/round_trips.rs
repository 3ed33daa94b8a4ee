//! Bodies of every kind of block, to HTML and Markdown and back. The first step may lose what a form cannot express;
//! after it nothing changes, and no word is ever lost.

use cable_proto::v1::{
    self, Block, Body, BodyFormat, Code, Credit, Divider, Embed, FocalPoint, Gallery, Heading, Image, Link,
    List, ListItem, LivePost, Media, Paragraph, PullQuote, Quote, RawHtml, Rendition, Span, Table, TableCell,
    TableRow, block::Kind,
};
use proptest::{collection::vec, prelude::*, sample::select};

use crate::{convert, render, testing::text_of_body};

fn words() -> impl Strategy<Value = String> {
    vec("w[0-9]{1,4}|[*_<>&#\\[\\]`~|!.:()\u{e9}\u{2014}+=-]|1[.]|&amp;|</p>|\\\\", 1..6)
        .prop_map(|parts| parts.join(" "))
}

fn plain_words() -> impl Strategy<Value = String> {
    vec("w[0-9]{1,4}", 1..5).prop_map(|words| words.join(" "))
}

fn maybe(strategy: impl Strategy<Value = String> + 'static) -> BoxedStrategy<String> {
    prop_oneof![Just(String::new()), strategy].boxed()
}

prop_compose! {
    fn span()(
        text in words(),
        space in select(&["", " ", "\n"][..]),
        marks in vec(1..7, 0..3),
        href in proptest::option::weighted(0.2, select(&["https://a.example/", "/x?a=1&b=2", "#p1", "mailto:a@b.example"][..])),
        title in select(&["", "a \"b\""][..]),
    ) -> Span {
        let link = href.map(|href| Link { href: href.to_owned(), title: title.to_owned(), ..Link::default() });
        Span { text: format!("{text}{space}"), marks, link }
    }
}

fn spans() -> impl Strategy<Value = Vec<Span>> {
    vec(span(), 1..4)
}

fn maybe_spans() -> BoxedStrategy<Vec<Span>> {
    prop_oneof![Just(Vec::new()), spans()].boxed()
}

fn media(files: &'static [(&'static str, &'static str)]) -> impl Strategy<Value = Media> {
    let file = (select(files), 0..3_i32).prop_map(|((href, kind), width)| Rendition {
        href: href.to_owned(),
        r#type: kind.to_owned(),
        width: width * 400,
        height: width * 300,
    });
    let texts = (maybe(words()), maybe_spans(), maybe(words()), select(&["", "/p.jpg"][..]));
    (vec(file, 0..3), texts, duration(), focal_point()).prop_map(
        |(renditions, (alt_text, caption, credit, poster), duration, focal_point)| {
            // Without a file, the alternative text is shown only in place of a caption.
            let alt_text =
                if renditions.is_empty() && !caption.is_empty() { String::new() } else { alt_text };
            let poster = poster.to_owned();
            let texts = Media { renditions, alt_text, caption, credit, poster, ..Media::default() };
            Media { duration, focal_point, ..texts }
        },
    )
}

fn duration() -> impl Strategy<Value = Option<prost_types::Duration>> {
    let nanos = prop_oneof![Just(0), 0..1_000_000_000_i32, (0..10).prop_map(|tenths| tenths * 100_000_000)];
    let duration = (0..=315_576_000_000_i64, nanos)
        .prop_map(|(seconds, nanos)| prost_types::Duration { seconds, nanos });
    proptest::option::of(duration)
}

fn focal_point() -> impl Strategy<Value = Option<FocalPoint>> {
    let fraction = || prop_oneof![select(&[0.0, 0.5, 1.0, f32::MIN_POSITIVE][..]), 0.0..1.0_f32];
    proptest::option::of((fraction(), fraction()).prop_map(|(x, y)| FocalPoint { x, y }))
}

fn image() -> impl Strategy<Value = Image> {
    let media = media(&[
        ("/a.jpg", "image/jpeg"),
        ("/b_(c).png", ""),
        ("https://a.example/d.jpg?x=1&y=2", "image/jpeg"),
    ]);
    (media, select(&["", "/x", "https://a.example/"][..]))
        .prop_map(|(media, href)| Image { media: Some(media), href: href.to_owned() })
}

fn leaf() -> impl Strategy<Value = Kind> {
    let video = media(&[("/a.mp4", "video/mp4"), ("https://a.example/b.webm", "")]);
    let audio = media(&[("/a.mp3", "audio/mpeg"), ("https://a.example/b.ogg", "")]);
    let urls = &["https://video.example/1", "https://video.example/a_b?c=1&d=2", "/relative"][..];
    prop_oneof![
        4 => spans().prop_map(|spans| Kind::Paragraph(Paragraph { spans })),
        1 => (2..7, spans()).prop_map(|(level, spans)| Kind::Heading(Heading { level, spans })),
        1 => (spans(), maybe_spans()).prop_map(|(spans, attribution)| Kind::PullQuote(PullQuote { spans, attribution })),
        2 => image().prop_map(Kind::Image),
        1 => (vec(image(), 1..4), maybe_spans()).prop_map(|(images, caption)| Kind::Gallery(Gallery { images, caption })),
        1 => (select(urls), maybe(plain_words()), maybe(words()), maybe_spans()).prop_map(
            |(url, title, fallback_text, caption)| Kind::Embed(Embed {
                url: url.to_owned(), title, fallback_text, caption, ..Embed::default()
            })),
        1 => (words(), select(&["", "rust"][..])).prop_map(|(text, language)| Kind::Code(Code {
            text: text.replace(' ', "\n  "), language: language.to_owned(),
        })),
        1 => Just(Kind::Divider(Divider {})),
        1 => plain_words().prop_map(|words| {
            let html = crate::sanitise::sanitise(&format!("<dl><dt>{words}</dt></dl>"));
            Kind::RawHtml(RawHtml { html, ..RawHtml::default() })
        }),
        2 => video.prop_map(|media| Kind::Video(v1::Video { media: Some(media) })),
        2 => audio.prop_map(|media| Kind::Audio(v1::Audio { media: Some(media) })),
    ]
}

fn block(kind: Kind) -> Block {
    Block { kind: Some(kind), ..Block::default() }
}

fn table(inner: impl Strategy<Value = Block> + 'static) -> impl Strategy<Value = Kind> {
    let content = prop_oneof![
        3 => maybe_spans().prop_map(|spans| (spans, Vec::new())),
        1 => vec(inner, 1..3).prop_map(|blocks| (Vec::new(), blocks)),
    ];
    let cell = (content, any::<bool>(), 0..3_i32).prop_map(|((spans, blocks), header, column_span)| {
        TableCell { spans, header, column_span, blocks, ..TableCell::default() }
    });
    let rows = vec(vec(cell, 1..3).prop_map(|cells| TableRow { cells }), 1..4);
    (rows, maybe_spans()).prop_map(|(rows, caption)| Kind::Table(Table { rows, caption }))
}

fn nested() -> impl Strategy<Value = Block> {
    leaf().prop_map(block).prop_recursive(3, 16, 3, |inner| {
        let items = vec(vec(inner.clone(), 1..3).prop_map(|blocks| ListItem { blocks }), 1..4);
        prop_oneof![
            (any::<bool>(), 1..12, items).prop_map(|(ordered, start, items)| Kind::List(List {
                ordered,
                start,
                items
            })),
            (vec(inner.clone(), 1..4), maybe_spans())
                .prop_map(|(blocks, attribution)| Kind::Quote(Quote { blocks, attribution })),
            table(inner),
        ]
        .prop_map(block)
    })
}

prop_compose! {
    fn post()(
        title in maybe(words()),
        seconds in proptest::option::of(0..4_000_000_000_i64),
        update in proptest::option::of(0..4_000_000_000_i64),
        credits in vec((plain_words(), maybe(plain_words())), 0..3),
        (key_event, pinned) in any::<(bool, bool)>(),
        blocks in vec(nested(), 0..4),
    ) -> Kind {
        let mut post = LivePost { title, key_event, pinned, blocks, ..LivePost::default() };
        post.publish_time = seconds.map(timestamp);
        post.update_time = update.map(timestamp);
        post.credits = credits
            .into_iter()
            .map(|(display_name, role)| Credit { display_name, role, ..Credit::default() })
            .collect();
        Kind::LivePost(post)
    }
}

fn timestamp(seconds: i64) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds, nanos: 0 }
}

fn body() -> impl Strategy<Value = Body> {
    let block = prop_oneof![5 => nested(), 1 => post().prop_map(block)];
    vec(block, 1..5).prop_map(|mut blocks| {
        for (at, block) in blocks.iter_mut().enumerate().filter(|(at, _)| at % 2 == 0) {
            block.id = format!("b{at}");
        }
        Body { blocks }
    })
}

fn numbered(text: &str) -> Vec<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric());
    let is_word = |word: &&str| word.strip_prefix('w').is_some_and(|digits| digits.parse::<u32>().is_ok());
    words.filter(is_word).map(str::to_owned).collect()
}

/// Returns the words of the first text that the second one lacks.
fn lost(before: &Body, after: &Body) -> Vec<String> {
    let mut remaining = numbered(&text_of_body(after));
    let mut lost = numbered(&text_of_body(before));
    lost.retain(|word| match remaining.iter().position(|other| other == word) {
        Some(at) => {
            remaining.swap_remove(at);
            false
        }
        None => true,
    });
    lost
}

/// Returns the body with white space that has no marks and no links: Markdown moves marks between it and its neighbours.
fn plain_spaces(mut body: Body) -> Body {
    body.blocks.iter_mut().for_each(plain_spaces_of_block);
    body
}

fn plain_spaces_of_block(block: &mut Block) {
    let lists = match block.kind.as_mut().unwrap() {
        Kind::Paragraph(paragraph) => vec![&mut paragraph.spans],
        Kind::Heading(heading) => vec![&mut heading.spans],
        Kind::List(list) => {
            list.items.iter_mut().flat_map(|item| &mut item.blocks).for_each(plain_spaces_of_block);
            vec![]
        }
        Kind::Quote(quote) => {
            quote.blocks.iter_mut().for_each(plain_spaces_of_block);
            vec![&mut quote.attribution]
        }
        Kind::PullQuote(quote) => vec![&mut quote.spans, &mut quote.attribution],
        Kind::Image(image) => image.media.iter_mut().map(|media| &mut media.caption).collect(),
        Kind::Gallery(gallery) => {
            let media = gallery.images.iter_mut().flat_map(|image| &mut image.media);
            media.map(|media| &mut media.caption).chain([&mut gallery.caption]).collect()
        }
        Kind::Embed(embed) => vec![&mut embed.caption],
        Kind::Table(table) => {
            let cells = table.rows.iter_mut().flat_map(|row| &mut row.cells);
            let spans = cells.map(|cell| {
                cell.blocks.iter_mut().for_each(plain_spaces_of_block);
                &mut cell.spans
            });
            spans.chain([&mut table.caption]).collect()
        }
        Kind::LivePost(post) => {
            post.blocks.iter_mut().for_each(plain_spaces_of_block);
            vec![]
        }
        Kind::Video(video) => video.media.iter_mut().map(|media| &mut media.caption).collect(),
        Kind::Audio(audio) => audio.media.iter_mut().map(|media| &mut media.caption).collect(),
        Kind::Code(_) | Kind::Divider(_) | Kind::RawHtml(_) => vec![],
    };
    lists.into_iter().for_each(|spans| *spans = spans_with_plain_spaces(spans));
}

fn spans_with_plain_spaces(spans: &[Span]) -> Vec<Span> {
    let mut plain: Vec<Span> = Vec::new();
    for span in spans {
        for c in span.text.chars() {
            let mut one = Span { text: c.to_string(), ..Span::default() };
            if !c.is_whitespace() {
                (one.marks, one.link) = (span.marks.clone(), span.link.clone());
            }
            match plain.last_mut() {
                Some(last) if last.marks == one.marks && last.link == one.link => last.text.push(c),
                _ => plain.push(one),
            }
        }
    }
    plain
}

fn round(format: BodyFormat, body: &Body) -> Result<(String, Body), TestCaseError> {
    let text = render(body, format);
    let converted = convert(format, &text).map_err(|error| TestCaseError::fail(error.to_string()))?;
    Ok((text, converted.body))
}

fn check(format: BodyFormat, first: &Body) -> Result<(), TestCaseError> {
    let (text, second) = round(format, first)?;
    let (again, third) = round(format, &second)?;
    let (second, third) = (plain_spaces(second), plain_spaces(third));
    prop_assert_eq!(&second, &third, "{} became {}", text, again);
    prop_assert_eq!(lost(first, &third), Vec::<String>::new(), "{}", text);
    Ok(())
}

/// A focal point of a picture, or a playing time.
#[derive(Debug, PartialEq)]
enum Property {
    Point(FocalPoint),
    Time(prost_types::Duration),
}

/// Returns the focal points of the pictures and the playing times of the players that have a file, in their order.
fn properties(blocks: &[Block]) -> Vec<Property> {
    let shown = |media: &Option<Media>| media.clone().filter(|media| !media.renditions.is_empty());
    let point = |image: &Image| Some(Property::Point(shown(&image.media)?.focal_point?));
    let time = |media: &Option<Media>| Some(Property::Time(shown(media)?.duration?));
    let mut found = Vec::new();
    for block in blocks {
        match block.kind.as_ref().unwrap() {
            Kind::Image(image) => found.extend(point(image)),
            Kind::Gallery(gallery) => found.extend(gallery.images.iter().filter_map(point)),
            Kind::Video(video) => found.extend(time(&video.media)),
            Kind::Audio(audio) => found.extend(time(&audio.media)),
            Kind::List(list) => list.items.iter().for_each(|item| found.extend(properties(&item.blocks))),
            Kind::Quote(quote) => found.extend(properties(&quote.blocks)),
            Kind::LivePost(post) => found.extend(properties(&post.blocks)),
            Kind::Table(table) => {
                let cells = table.rows.iter().flat_map(|row| &row.cells);
                cells.for_each(|cell| found.extend(properties(&cell.blocks)));
            }
            _ => {}
        }
    }
    found
}

/// Found by the property below: the last word was strong text around emphasis after the first step, and the reverse
/// after the second.
#[test]
fn marks_of_one_extent_keep_their_order() {
    use v1::Mark::{self, Emphasis, Strong};
    let span = |text: &str, marks: &[Mark]| Span {
        text: text.to_owned(),
        marks: marks.iter().map(|mark| *mark as i32).collect(),
        link: None,
    };
    let block = |kind| Block { id: String::new(), kind: Some(kind) };
    let first = PullQuote { spans: vec![span("w0", &[Strong])], attribution: Vec::new() };
    let second =
        Heading { level: 2, spans: vec![span("w0\n", &[Emphasis]), span("w0", &[Strong, Emphasis])] };
    let items =
        [Kind::PullQuote(first), Kind::Heading(second)].map(|kind| ListItem { blocks: vec![block(kind)] });
    let list = List { ordered: false, start: 1, items: items.into() };
    let cell = TableCell { blocks: vec![block(Kind::List(list))], ..TableCell::default() };
    let table = Table { rows: vec![TableRow { cells: vec![cell] }], caption: Vec::new() };
    let quote = Quote { blocks: vec![block(Kind::Table(table))], attribution: Vec::new() };
    check(BodyFormat::Markdown, &Body { blocks: vec![block(Kind::Quote(quote))] }).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn html_is_stable_from_the_second_step(body in body()) {
        check(BodyFormat::Html, &body)?;
        let (html, second) = round(BodyFormat::Html, &body)?;
        prop_assert_eq!(properties(&body.blocks), properties(&second.blocks), "{}", html);
    }

    #[test]
    fn markdown_is_stable_from_the_second_step(body in body()) {
        check(BodyFormat::Markdown, &body)?;
    }
}
