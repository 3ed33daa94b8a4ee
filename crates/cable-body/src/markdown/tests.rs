//! The blocks that Markdown becomes.

use cable_proto::v1::{self, Block, Mark, block::Kind};

use super::body;

fn blocks(markdown: &str) -> Vec<Block> {
    body(markdown).unwrap().body.blocks
}

fn one(markdown: &str) -> Kind {
    let mut all = blocks(markdown);
    assert_eq!(all.len(), 1, "{all:#?}");
    all.remove(0).kind.unwrap()
}

fn names(markdown: &str) -> String {
    let name = |block: &Block| match block.kind.as_ref().unwrap() {
        Kind::Paragraph(_) => "paragraph",
        Kind::Heading(_) => "heading",
        Kind::List(_) => "list",
        Kind::Quote(_) => "quote",
        Kind::Image(_) => "image",
        Kind::Embed(_) => "embed",
        Kind::Code(_) => "code",
        Kind::Table(_) => "table",
        Kind::Divider(_) => "divider",
        Kind::RawHtml(_) => "raw_html",
        Kind::LivePost(_) => "live_post",
        Kind::Video(_) => "video",
        Kind::Audio(_) => "audio",
        _ => "other",
    };
    blocks(markdown).iter().map(name).collect::<Vec<_>>().join(" ")
}

fn text(spans: &[v1::Span]) -> String {
    spans.iter().map(|span| span.text.as_str()).collect()
}

#[test]
fn an_address_in_angle_brackets_is_a_link_to_it() {
    for (markdown, href) in [
        ("Mail <desk@lantern.example>.", "mailto:desk@lantern.example"),
        ("Mail <mailto:desk@lantern.example>.", "mailto:desk@lantern.example"),
        ("Read <https://lantern.example/a>.", "https://lantern.example/a"),
    ] {
        let html = crate::render(&body(markdown).unwrap().body, v1::BodyFormat::Html);
        assert!(html.contains(&format!("href=\"{href}\"")), "{markdown}: {html}");
    }
}

#[test]
fn each_construct_has_its_block() {
    for (markdown, wanted) in [
        ("a\nb", "paragraph"),
        ("a\n\nb", "paragraph paragraph"),
        ("# a\n\na\n=\n\n###### b", "heading heading heading"),
        ("- a\n- b\n\n1. c", "list list"),
        ("> a", "quote"),
        ("```rust\na\n```\n\n    b", "code code"),
        ("| a |\n| - |\n| b |", "table"),
        ("a\n\n---\n\n***", "paragraph divider divider"),
        ("![a](/b.jpg)", "image"),
        ("[![a](/b.jpg)](/c)", "image"),
        ("a ![b](/b.jpg) c", "paragraph image paragraph"),
        ("https://video.example/1", "embed"),
        ("<https://video.example/1>", "embed"),
        ("- https://video.example/1", "list"),
        ("see https://video.example/1", "paragraph"),
        ("[a](https://video.example/1)", "paragraph"),
        ("https://a.example/b.mp4", "video"),
        ("[a](/b.mp4)", "video"),
        ("[a](/b.mp3)", "audio"),
        ("a [b](/b.mp3)", "paragraph"),
        ("/b.mp3", "paragraph"),
        ("<div>a</div>\n\n<dl><dt>b</dt></dl>", "paragraph raw_html"),
        ("<div itemprop=\"liveBlogUpdate\">\n\n## a\n\nb\n\n</div>", "live_post"),
        ("<!-- a -->\n\nb", "paragraph"),
        ("[gallery]\n\n[form]", "paragraph paragraph"),
        ("", ""),
    ] {
        assert_eq!(names(markdown), wanted, "{markdown}");
    }
}

#[test]
fn running_text_has_marks_and_links() {
    let Kind::Paragraph(paragraph) =
        one("**a** *b* ~~c~~ `d<e` H<sub>2</sub>O [f](/f \"t\") &copy; 1 < 2 & AT&T\\*")
    else {
        panic!("no paragraph")
    };
    let marked: Vec<_> = paragraph.spans.iter().filter(|span| !span.marks.is_empty()).collect();
    let marks = [Mark::Strong, Mark::Emphasis, Mark::Strike, Mark::Code, Mark::Sub];
    assert_eq!(marked.iter().map(|span| span.marks[0]).collect::<Vec<_>>(), marks.map(i32::from));
    assert_eq!(text(&paragraph.spans), "a b c d<e H2O f \u{a9} 1 < 2 & AT&T*");
    let link = paragraph.spans.iter().find_map(|span| span.link.as_ref()).unwrap();
    assert_eq!((link.href.as_str(), link.title.as_str()), ("/f", "t"));
}

#[test]
fn a_line_of_emphasis_is_the_caption() {
    for markdown in
        ["![a](/a.jpg)\n*Old* *quay*", "![a](/a.jpg)\\\n*Old quay*", "- ![a](/a.jpg)\n  <em>Old quay</em>"]
    {
        let kind = match one(markdown) {
            Kind::List(mut list) => list.items[0].blocks.remove(0).kind.unwrap(),
            kind => kind,
        };
        let Kind::Image(image) = kind else { panic!("{markdown}: {kind:?}") };
        let media = image.media.unwrap();
        assert_eq!((media.alt_text.as_str(), text(&media.caption).as_str()), ("a", "Old quay"));
        assert!(media.caption.iter().all(|span| span.marks.is_empty()), "{markdown}");
    }
    assert_eq!(names("![a](/a.jpg)\nOld *quay*"), "image paragraph");
    assert_eq!(names("![a](/a.jpg)\n\n*Old quay*"), "image paragraph");
    let Kind::Video(video) = one("[Waves](/a.mp4)\n*High water*") else { panic!("no video") };
    let media = video.media.unwrap();
    assert_eq!((media.alt_text.as_str(), text(&media.caption).as_str()), ("Waves", "High water"));
}

#[test]
fn the_last_line_of_a_quotation_names_its_source() {
    let Kind::Quote(quote) = one("> We sail.\n>\n> \u{2014} Ana, [\u{2014} captain](/ana)") else {
        panic!("no quote")
    };
    assert_eq!((quote.blocks.len(), text(&quote.attribution).as_str()), (1, "Ana, \u{2014} captain"));
    for markdown in ["> We sail.\n> \u{2014} Ana", "> \u{2014} We sail.\n>\n> Now.", "\u{2014} Ana"] {
        assert!(!matches!(one(markdown), Kind::Quote(quote) if !quote.attribution.is_empty()), "{markdown}");
    }
}

#[test]
fn footnotes_are_links_to_blocks() {
    let all = blocks("High[^1] water.\n\n[^1]: At 03:40.\n[^odd one]: b");
    let Some(Kind::Paragraph(first)) = &all[0].kind else { panic!("{all:?}") };
    assert_eq!(first.spans[1].link.as_ref().unwrap().href, "#fn-1");
    let Some(Kind::Paragraph(note)) = &all[1].kind else { panic!("{all:?}") };
    assert_eq!((all[1].id.as_str(), text(&note.spans).as_str()), ("fn-1", "1 At 03:40."));
}

#[test]
fn tables_have_heads_only_if_they_have_words() {
    let rows = |markdown| match one(markdown) {
        Kind::Table(table) => table.rows,
        kind => panic!("{kind:?}"),
    };
    let with_head = rows("| a | b |\n| - | - |\n| c<br>d | e |");
    assert!(with_head[0].cells.iter().all(|cell| cell.header));
    assert_eq!((with_head.len(), text(&with_head[1].cells[0].spans).as_str()), (2, "c\nd"));
    let without_head = rows("|  |  |\n| - | - |\n| c | ![x](/x.png) |");
    assert_eq!((without_head.len(), without_head[0].cells[1].blocks.len()), (1, 1));
}

#[test]
fn task_lists_have_check_boxes() {
    let Kind::List(list) = one("- [x] a\n- [ ] b") else { panic!("no list") };
    let item = |at: usize| match &list.items[at].blocks[0].kind {
        Some(Kind::Paragraph(paragraph)) => text(&paragraph.spans),
        kind => panic!("{kind:?}"),
    };
    assert_eq!((item(0).as_str(), item(1).as_str()), ("\u{2611} a", "\u{2610} b"));
}

/// The parser has a node for each of them before its first event.
#[test]
fn characters_that_can_be_marks_are_bounded() {
    for mark in [">", "> ", "*", "_a", "`a", "|a", "- ", "&a"] {
        let text = |count: usize| mark.repeat(count);
        assert!(super::body(&text(super::MAX_MARKS + 1)).is_none(), "{mark}");
        assert!(super::body(&format!("{}\n\n{}", "a ".repeat(100_000), text(3))).is_some(), "{mark}");
    }
}

#[test]
fn a_title_of_a_picture_is_reported() {
    let notes = body("![Quay](/a.jpg \"By Jo\")").unwrap().notes.lines;
    assert_eq!(notes, ["title `By Jo` of a picture: left out"]);
}
