//! Text, lists, quotations, code and tables.

use super::*;

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
fn line_feeds_and_shortcodes_mean_nothing_in_plain_html() {
    let converted = plain_body("one\ntwo\n\n[gallery]\nhttps://video.example/1<p>[form]</p>").unwrap();
    assert_eq!(text_of_body(&converted.body), "one two [gallery] https://video.example/1\n[form]\n");
    assert_eq!((converted.raw_html, converted.dropped), (0, 0));
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
