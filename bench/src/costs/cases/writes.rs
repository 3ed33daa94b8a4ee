//! Writes: bodies, fields, encodings, commits and imports.

use super::{
    Case, MIB, case,
    encoding::{article, block, f, id, many, n, paragraph, span, x},
    stores::{large, moved, newsroom},
};

const PUT: &str = "PublishingService/PutArticle";

pub(super) fn html() -> Vec<Case> {
    let marks = |count: usize| (0..count).map(|i| format!("<b title=\"{i}\">")).collect::<String>();
    let ends = |count: usize| "</b>".repeat(count);
    let table = format!(
        "<table><tbody>{}</tbody></table>",
        format!("<tr>{}</tr>", "<td><b>x</b></td>".repeat(30)).repeat(30)
    );
    let legal = |count: usize| (0..count).flat_map(|_| block(13, f(1, table.clone()))).collect::<Vec<_>>();
    let deep = "<div>".repeat(99) + &"<p>x</p>".repeat(1_800) + &"</div>".repeat(99);
    let mixed: Vec<&str> = ["b", "i", "u", "s", "em", "strong", "small", "code"].into();
    let open: String = (0..88).map(|i| format!("<{} lang=\"{i}\">", mixed[i % 8])).collect();
    let close: String = (0..88).rev().map(|i| format!("</{}>", mixed[i % 8])).collect();
    vec![
        raw_html("raw_html: marks that each paragraph opens again", format!("<p>{}{}{}</p>", marks(90), "<p>x</p>".repeat(1_800), ends(90))),
        raw_html("raw_html: the same with 254 marks, 4 MiB", format!("<p>{}{}{}</p>", marks(254), "<p>x</p>".repeat(490_000), ends(254))),
        raw_html("raw_html: a mix of marks", format!("<p>{open}{}{close}</p>", "<p>x</p>".repeat(1_800))),
        raw_html("raw_html: marks, as many as are accepted", format!("<p>{}{}{}</p>", marks(9), "<p>x</p>".repeat(800), ends(9))),
        raw_html("raw_html: content beside cells", format!("<table>{}{}{}</table>", marks(90), "<p>x</p>".repeat(1_800), ends(90))),
        raw_html("raw_html: tables in tables", "<table><tbody><tr><td>".repeat(24) + &"<p>x</p>".repeat(1_500) + &"</td></tr></tbody></table>".repeat(24)),
        raw_html("raw_html: anchors in anchors", "<a href=\"/x\"><div>".repeat(49) + &"<p>x</p>".repeat(1_800) + &"</div></a>".repeat(49)),
        raw_html("raw_html: a hundred levels", deep),
        raw_html("raw_html: attributes", format!("<video controls=\"\" height=\"1\" poster=\"/\" src=\"/\" width=\"1\" dir=\"a\" lang=\"b\" title=\"{}\"></video>", x(60)).repeat(370)),
        raw_html("raw_html: 16,000 attributes of one tag", format!("<p {}></p>", (0..16_000).map(|i| format!("a{i} ")).collect::<String>())),
        raw_html("raw_html: references", "&amp;".repeat(13_000)),
        raw_html("raw_html: comments", "<!---->".repeat(9_000)),
        raw_html("raw_html: CDATA and foreign elements", "<svg><![CDATA[x]]><desc>".repeat(2_600)),
        raw_html("raw_html: templates and selects", "<template><select><option>x".repeat(2_400)),
        body("raw_html: four blocks of 64 KiB of text", many(4, |_| block(13, f(1, x(64 << 10))))),
        body("raw_html: tables up to the bound of a body", legal(6)),
        body("raw_html: tables above the bound of a body", legal(64)),
    ]
}

pub(super) fn bodies() -> Vec<Case> {
    let link = |i: usize| f(3, f(1, format!("/{i}")));
    let marked = |i: usize| f(1, [f(1, "x"), f(2, [1, 2, 3, 4, 5, 6]), link(i)].concat());
    let cell = || f(1, [n(3, 1_000), n(4, 1_000)].concat());
    let list = |inner: Vec<u8>| block(4, [n(1, 1), n(2, 999_999_999), f(3, inner)].concat());
    let quote = |inner: Vec<u8>| block(5, inner);
    let media = |i: usize| {
        [f(1, [f(1, format!("/{i}")), f(2, "image/png"), n(3, i as u64)].concat()), f(2, "alt")].concat()
    };
    vec![
        body("body: one paragraph of 1 MiB", paragraph(span(&x(MIB - 200)))),
        body("body: line feeds", paragraph(span(&"\n".repeat(MIB / 2)))),
        body("body: 49,000 empty spans", paragraph(many(49_000, |_| f(1, [])))),
        body("body: 500,000 empty spans", paragraph(many(500_000, |_| f(1, [])))),
        body("body: 500,000 empty blocks", many(500_000, |_| f(1, []))),
        body("body: 49,000 empty cells", block(11, f(1, many(49_000, |_| f(1, []))))),
        body("body: cells with spans", block(11, many(80, |_| f(1, many(300, |_| cell()))))),
        body("body: 10,000 rows of 3 cells", block(11, many(10_000, |_| f(1, many(3, |_| f(1, [])))))),
        body("body: marks and links around each character", paragraph(many(9_000, marked))),
        body("body: the same, above the bound of its rendering", paragraph(many(40_000, marked))),
        body(
            "body: code below sixteen lists",
            (0..15).fold(block(10, f(1, "a\n".repeat(400_000))), |inner, _| list(inner)),
        ),
        body(
            "body: empty lines below sixteen quotes",
            (0..15).fold(block(10, f(1, "\n".repeat(900_000) + "x")), |inner, _| quote(inner)),
        ),
        body("body: digits and full stops", paragraph(span(&("1".repeat(500_000) + &".".repeat(500_000))))),
        body("body: characters that Markdown escapes", paragraph(span(&"*_`[]<".repeat(80_000)))),
        body(
            "body: ampersands in links",
            paragraph(many(500, |i| {
                f(1, [f(1, "x"), f(3, f(1, format!("/{i}{}", "&".repeat(2_000) + ";")))].concat())
            })),
        ),
        body(
            "body: back-ticks",
            paragraph(many(30_000, |i| f(1, [f(1, "`".repeat(i % 30 + 1)), f(2, [3])].concat()))),
        ),
        body(
            "body: 24,000 renditions of one picture",
            block(
                7,
                f(
                    1,
                    [many(24_000, |i| f(1, [f(1, format!("/{i}")), n(3, i as u64)].concat())), f(2, "a")]
                        .concat(),
                ),
            ),
        ),
        body("body: a gallery of 20,000 pictures", block(8, many(20_000, |i| f(1, media(i))))),
        body(
            "body: 10,000 embeds with captions",
            many(10_000, |i| block(9, [f(2, format!("https://a/{i}")), f(5, f(1, "c"))].concat())),
        ),
        body(
            "body: 10,000 blocks with ids",
            many(10_000, |i| f(1, [f(1, id(i, 64)), f(2, span("x"))].concat())),
        ),
        body("body: a control character at the end of 1 MiB", paragraph(span(&(x(MIB - 200) + "\u{202e}")))),
        body("body: letters of three bytes", paragraph(span(&"港".repeat(340_000)))),
        body(
            "body: nested deeper than can be decoded",
            (0..60_000).fold(Vec::new(), |inner: Vec<u8>, i| if i > 3_000 { inner } else { quote(inner) }),
        ),
    ]
}

pub(super) fn fields() -> Vec<Case> {
    let wide = |kind: &str, i: usize| format!("{kind}/{}", id(i, 128));
    vec![
        put("headline: 4 MiB", f(11, x(4 * MIB - 200))),
        case(PUT, "name: 4 MiB", |_| f(1, f(1, x(4 * MIB - 200)))),
        put("tags: 128 of the longest ids", many(128, move |i| f(20, wide("tags", i)))),
        put("tags: 500,000 empty ones", many(90_000, |_| f(20, []))),
        put(
            "byline: 64 credits at their limits",
            f(
                17,
                many(64, move |i| f(2, [f(1, wide("authors", i)), f(2, x(1_024)), f(3, x(1_024))].concat())),
            ),
        ),
        put("alias_paths: 256 of 1 KiB", many(256, |i| f(22, format!("/{}", id(i, 1_023))))),
        put("notices: 120 of 8 KiB", many(120, |_| f(28, f(2, x(8_192))))),
        put(
            "related: 256 of the longest names",
            many(256, move |i| f(31, [f(1, wide("articles", i)), f(2, x(128))].concat())),
        ),
        put("alt_ids: 64 of 2 KiB", many(64, |_| f(32, [f(1, "r"), f(2, x(2_048))].concat()))),
        put("annotations: 140,000", many(140_000, |i| f(33, f(1, id(i, 6))))),
        put("unknown fields: 350,000 of 3 bytes", many(349_000, |i| n(100, (i % 100) as u64))),
        put(
            "unknown fields: in each of 45,000 spans",
            f(15, paragraph(many(45_000, |_| f(1, [f(1, "x"), n(100, 1)].concat())))),
        ),
        case(PUT, "request_id: with 1 MiB", |i| {
            [f(1, article(&format!("a{i}"), &f(15, paragraph(span(&x(MIB - 200)))))), f(3, format!("r{i}"))]
                .concat()
        }),
        case(PUT, "rendered_body: 4 MiB that the server sets itself", |i| {
            f(1, [article(&format!("a{i}"), &[]), f(9, f(2, x(4 * MIB - 300)))].concat())
        }),
        Case {
            prepare: large,
            ..case("PublishingService/PatchArticle", "kicker of an article of 1 MiB", |i| {
                f(1, [f(1, "articles/l0"), f(13, format!("{i}"))].concat())
            })
        },
        case("PublishingService/PatchArticle", "update_mask: 90,000 paths", |_| {
            [f(1, f(1, "articles/probe")), f(2, many(90_000, |_| f(1, "headline")))].concat()
        }),
        case("PublishingService/PatchArticle", "update_mask: 2,000,000 empty paths", |_| {
            [f(1, f(1, "articles/probe")), f(2, many(2_000_000, |_| f(1, [])))].concat()
        }),
        case("PublishingService/RemoveArticle", "name: 4 MiB", |_| {
            [f(1, x(4 * MIB - 100)), n(2, 4)].concat()
        }),
        case("PublishingService/RemovePending", "name: 4 MiB", |_| f(1, x(4 * MIB - 100))),
    ]
}

pub(super) fn encodings() -> Vec<Case> {
    let groups = |depth: usize| [vec![0x03; depth], vec![0x04; depth]].concat();
    vec![
        case(PUT, "1,000,000 empty fields", |_| many(2_000_000, |_| f(1, []))),
        case(PUT, "30,000 nested groups", move |_| f(1, groups(30_000))),
        case("PublishingService/Commit", "2,000,000 empty changes", |_| many(2_000_000, |_| f(1, []))),
        case("TransferService/Import", "2,000,000 empty records", |_| many(2_000_000, |_| f(2, []))),
        case("TransferService/Import", "2,000,000 empty paths of a tombstone", |_| {
            f(2, f(6, many(2_000_000, |_| f(6, []))))
        }),
        case("StatusService/GetStatus", "128 KiB of unknown fields", |_| many(60_000, |_| n(9, 1))),
    ]
}

pub(super) fn commits() -> Vec<Case> {
    let commit = |label, request: fn(usize) -> Vec<u8>| case("PublishingService/Commit", label, request);
    let import = |label, request: fn(usize) -> Vec<u8>| case("TransferService/Import", label, request);
    vec![
        commit("500 small articles", |i| many(500, |j| put_change(i * 500 + j, &[]))),
        commit("three articles of 1 MiB", |i| {
            many(3, |j| put_change(i * 3 + j, &f(15, paragraph(span(&x(MIB - 300))))))
        }),
        Case {
            prepare: large,
            ..commit("8 patches of articles of 1 MiB", |i| {
                many(8, |j| {
                    f(1, f(6, f(1, [f(1, format!("articles/l{j}")), f(13, format!("{i}"))].concat())))
                })
            })
        },
        Case {
            prepare: newsroom,
            ..commit("500 patches of articles of 9 KB", |i| {
                many(500, |j| {
                    f(1, f(6, f(1, [f(1, format!("articles/n{j}")), f(13, format!("{i}"))].concat())))
                })
            })
        },
        Case {
            prepare: newsroom,
            ..commit("500 removals", |i| {
                many(if i == 0 { 500 } else { 1 }, |j| {
                    f(1, f(7, [f(1, format!("articles/n{j}")), n(2, 4)].concat()))
                })
            })
        },
        Case {
            prepare: moved,
            needs_success: true,
            ..commit("500 removals, each moved to a chain of 19 moves", |i| {
                many(if i == 0 { 500 } else { 1 }, |j| {
                    let (name, target) = (format!("articles/n{}", 500 + j), format!("articles/m{j}-0"));
                    f(1, f(7, [f(1, name), n(2, 1), f(3, target)].concat()))
                })
            })
        },
        import("1,000 tombstones in chains of 20 moves", |i| {
            many(1_000, |j| {
                let (chain, at) = (j / 20, j % 20);
                let name = |at| format!("articles/m{i}-{chain}-{at}");
                f(2, f(6, [f(1, name(at)), n(2, 1), f(3, name(at + 1))].concat()))
            })
        }),
        import("four articles of 1 MiB, empty spans", |i| {
            many(4, |j| {
                f(2, f(1, article(&format!("i{i}-{j}"), &f(15, paragraph(many(49_000, |_| f(1, [])))))))
            })
        }),
        import("four articles of 1 MiB of text", |i| {
            many(4, |j| f(2, f(1, article(&format!("i{i}-{j}"), &f(15, paragraph(span(&x(MIB - 300))))))))
        }),
        import("1,000 articles of 4 KB", |i| {
            many(1_000, |j| f(2, f(1, article(&format!("i{i}-{j}"), &f(15, paragraph(span(&x(3_900))))))))
        }),
        import("1,000 tombstones of 256 paths", |i| {
            many(1_000, |j| {
                f(
                    2,
                    f(
                        6,
                        [
                            f(1, format!("articles/t{i}-{j}")),
                            n(2, 4),
                            many(256, |p| f(6, format!("/{i}{j}{p}"))),
                        ]
                        .concat(),
                    ),
                )
            })
        }),
        Case {
            prepare: large,
            ..import("12 articles over articles of 1 MiB", |i| {
                many(12, |j| f(2, f(1, [article(&format!("l{j}"), &[]), f(13, format!("{i}"))].concat())))
            })
        },
    ]
}

pub(super) fn entities() -> Vec<Case> {
    vec![
        case("PublishingService/PutAuthor", "image: 7,000 empty renditions", |i| {
            f(1, [f(1, format!("authors/a{i}")), f(10, "A"), f(15, many(7_000, |_| f(1, [])))].concat())
        }),
        case("PublishingService/PutAuthor", "alt_ids, social_profiles at their limits", |i| {
            f(
                1,
                [
                    f(1, format!("authors/a{i}")),
                    f(10, "A"),
                    many(32, |j| f(12, [f(1, id(j, 128)), f(2, x(128))].concat())),
                    many(64, |j| f(16, [f(1, id(j, 40)), f(2, x(40))].concat())),
                ]
                .concat(),
            )
        }),
        case("PublishingService/PutSection", "path and tagline at their limits", |i| {
            f(
                1,
                [
                    f(1, format!("sections/s{i}")),
                    f(10, "S"),
                    f(11, x(4_096)),
                    f(12, format!("/{}", x(1_000))),
                ]
                .concat(),
            )
        }),
        case("PublishingService/PutTag", "external_ids: 4 of 1.8 KiB", |i| {
            f(1, [f(1, format!("tags/t{i}")), f(10, "T"), many(4, |_| f(14, x(1_800)))].concat())
        }),
        case("PublishingService/PutCollection", "articles: 500 of the longest names", |i| {
            f(
                1,
                [
                    f(1, format!("collections/c{i}")),
                    f(10, "C"),
                    many(500, |j| f(12, format!("articles/{}", id(j, 128)))),
                ]
                .concat(),
            )
        }),
        case("PublishingService/PutCollection", "articles: 60,000 empty ones", |i| {
            f(1, [f(1, format!("collections/c{i}")), f(10, "C"), many(60_000, |_| f(12, []))].concat())
        }),
        case("PublishingService/RemoveTag", "name: 4 MiB", |_| [f(1, x(4 * MIB - 100)), n(2, 4)].concat()),
    ]
}

/// Returns a put of the n-th article with these fields.
fn put(label: &'static str, fields: impl AsRef<[u8]> + 'static) -> Case {
    case(PUT, label, move |i| f(1, article(&format!("a{i}"), fields.as_ref())))
}

fn body(label: &'static str, blocks: impl AsRef<[u8]> + 'static) -> Case {
    put(label, f(15, blocks))
}

fn raw_html(label: &'static str, html: String) -> Case {
    body(label, block(13, f(1, html)))
}

/// Returns a change that puts an article.
fn put_change(i: usize, fields: &[u8]) -> Vec<u8> {
    f(1, f(1, article(&format!("k{i}"), fields)))
}
