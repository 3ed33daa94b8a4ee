//! Output of the editor of WordPress and of its plug-ins.

use super::*;

#[test]
fn more_is_dropped_and_nextpage_is_a_divider() {
    let all = blocks("one<!--more-->two\n<!--nextpage-->\nthree<hr>");
    assert!(matches!(
        &all[..],
        [Kind::Paragraph(_), Kind::Paragraph(_), Kind::Divider(_), Kind::Paragraph(_), Kind::Divider(_)]
    ));
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
