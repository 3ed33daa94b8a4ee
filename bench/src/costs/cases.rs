//! The worst known requests for each method and field: valid ones, and those that are only just rejected.

use bytes::Bytes;
use cable_client::v1;
use futures_util::future::BoxFuture;
use prost::Message as _;

use super::raw::Raw;
use crate::Outcome;

/// One request.
pub(super) struct Case {
    /// The service and method.
    pub(super) method: &'static str,
    /// The reason why it is costly.
    pub(super) label: &'static str,
    /// A function that fills the store beforehand.
    pub(super) prepare: fn(Raw) -> BoxFuture<'static, Outcome<()>>,
    /// A function that builds the request. Each number gives a different one.
    pub(super) request: Box<dyn Fn(usize) -> Bytes>,
    /// The number of messages to read: of a stream, the first.
    pub(super) messages: usize,
}

const MIB: usize = 1 << 20;
const PUT: &str = "PublishingService/PutArticle";

/// Returns all cases.
pub(super) fn all() -> Vec<Case> {
    [html(), bodies(), fields(), encodings(), commits(), entities(), reads(), lists()]
        .into_iter()
        .flatten()
        .collect()
}

// Protobuf by hand: many of these requests contain messages that no client would build.

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Returns a field that holds bytes, a text or a message.
fn f(number: u32, value: impl AsRef<[u8]>) -> Vec<u8> {
    let value = value.as_ref();
    let mut out = Vec::with_capacity(value.len() + 8);
    varint(u64::from(number) << 3 | 2, &mut out);
    varint(value.len() as u64, &mut out);
    out.extend_from_slice(value);
    out
}

fn n(number: u32, value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    varint(u64::from(number) << 3, &mut out);
    varint(value, &mut out);
    out
}

fn many(count: usize, one: impl Fn(usize) -> Vec<u8>) -> Vec<u8> {
    (0..count).flat_map(one).collect()
}

fn x(length: usize) -> String {
    "x".repeat(length)
}

fn id(i: usize, width: usize) -> String {
    format!("{i:0width$}")
}

fn prepare_nothing(_: Raw) -> BoxFuture<'static, Outcome<()>> {
    Box::pin(async { Ok(()) })
}

fn case(method: &'static str, label: &'static str, request: impl Fn(usize) -> Vec<u8> + 'static) -> Case {
    Case {
        method,
        label,
        prepare: prepare_nothing,
        request: Box::new(move |i| request(i).into()),
        messages: 1,
    }
}

/// Returns an article with these fields as content.
fn article(name: &str, fields: &[u8]) -> Vec<u8> {
    [f(1, format!("articles/{name}")), f(11, "H"), fields.to_vec()].concat()
}

/// Returns a put of the n-th article with these fields.
fn put(label: &'static str, fields: impl AsRef<[u8]> + 'static) -> Case {
    case(PUT, label, move |i| f(1, article(&format!("a{i}"), fields.as_ref())))
}

fn body(label: &'static str, blocks: impl AsRef<[u8]> + 'static) -> Case {
    put(label, f(15, blocks))
}

fn block(kind: u32, value: impl AsRef<[u8]>) -> Vec<u8> {
    f(1, f(kind, value))
}

fn paragraph(spans: impl AsRef<[u8]>) -> Vec<u8> {
    block(2, spans)
}

fn span(text: &str) -> Vec<u8> {
    f(1, f(1, text))
}

fn raw_html(label: &'static str, html: String) -> Case {
    body(label, block(13, f(1, html)))
}

pub(super) fn small(name: &str) -> v1::Article {
    let mut article = v1::Article::default();
    article.name = format!("articles/{name}");
    article.headline = "H".into();
    article
}

/// Returns a request for an article.
pub(super) fn get(name: &str) -> Bytes {
    let mut request = v1::GetArticleRequest::default();
    request.name = format!("articles/{name}");
    request.encode_to_vec().into()
}

fn html() -> Vec<Case> {
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

fn bodies() -> Vec<Case> {
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

fn fields() -> Vec<Case> {
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

fn encodings() -> Vec<Case> {
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

/// Imports articles of 1 MiB of text.
fn large(raw: Raw) -> BoxFuture<'static, Outcome<()>> {
    Box::pin(async move {
        let text = |i: usize| f(15, paragraph(many(9_000, |j| span(&format!("{i} {j} {} ", x(96))))));
        raw.import((0..12).map(|i| f(1, article(&format!("l{i}"), &text(i)))).collect()).await
    })
}

/// Imports articles of 1 MiB with the most expensive rendering.
fn costly(raw: Raw) -> BoxFuture<'static, Outcome<()>> {
    Box::pin(async move {
        let link = |i: usize| f(3, f(1, format!("/{i}")));
        let marked = move |i: usize| f(1, [f(1, "x"), f(2, [1, 2, 3]), link(i)].concat());
        let body = f(15, [paragraph(many(6_500, marked)), paragraph(span(&x(200_000)))].concat());
        raw.import((0..12).map(|i| f(1, article(&format!("l{i}"), &body))).collect()).await
    })
}

/// Imports a thousand articles of 9 KB.
fn newsroom(raw: Raw) -> BoxFuture<'static, Outcome<()>> {
    Box::pin(async move {
        let body = f(15, many(30, |i| paragraph(span(&format!("{i} {}", "word ".repeat(55))))));
        let tags = |i: usize| {
            (0..64).flat_map(move |tag| {
                if (i + tag).is_multiple_of(50) { f(20, format!("tags/t{tag}")) } else { Vec::new() }
            })
        };
        let section = |i: usize| f(18, format!("sections/s{}", i % 500));
        let one = |i: usize| {
            f(1, article(&format!("n{i}"), &[body.clone(), tags(i).collect(), section(i)].concat()))
        };
        raw.import((0..1_000).map(one).collect()).await?;
        let section = |i: usize| {
            f(3, [f(1, format!("sections/s{i}")), f(10, "S"), f(13, format!("sections/s{}", i / 2))].concat())
        };
        raw.import((0..1_000).map(section).collect()).await
    })
}

/// Imports 30,000 small articles. None of those that match the filter has any of the filter's excluded tags, which
/// other articles have.
fn many_articles(raw: Raw) -> BoxFuture<'static, Outcome<()>> {
    Box::pin(async move {
        let tags = |i: usize| if i < 64 { f(20, format!("tags/t{i}")) } else { f(20, "tags/all") };
        raw.import((0..30_000).map(|i| f(1, article(&format!("c{i}"), &tags(i)))).collect()).await
    })
}

/// Imports an article with everything that it can include, at the limits.
fn everything(raw: Raw) -> BoxFuture<'static, Outcome<()>> {
    Box::pin(async move {
        let name = |kind: &str, i: usize| format!("{kind}/{}", id(i, 120));
        let author = |i| {
            f(
                2,
                [f(1, name("authors", i)), f(10, "A"), f(11, x(8_000)), f(15, f(3, span(&x(7_900))))]
                    .concat(),
            )
        };
        let tag = |i| {
            f(
                4,
                [f(1, name("tags", i)), f(10, "T"), f(12, x(4_000)), f(14, x(2_000)), f(14, x(1_800))]
                    .concat(),
            )
        };
        let section = |i| f(3, [f(1, name("sections", i)), f(10, x(1_000)), f(11, x(4_000))].concat());
        let records = (0..64).map(author).chain((0..128).map(tag)).chain((0..17).map(section));
        raw.import(records.collect()).await?;
        let credits = f(17, many(64, |i| f(2, f(1, name("authors", i)))));
        let tags = many(128, |i| f(20, name("tags", i)));
        let sections = [f(18, name("sections", 0)), many(16, |i| f(19, name("sections", i + 1)))].concat();
        let body = f(
            15,
            [
                block(11, many(60, |_| f(1, many(300, |_| f(1, [n(3, 2), n(4, 2)].concat()))))),
                paragraph(span(&x(400_000))),
            ]
            .concat(),
        );
        raw.import(vec![f(1, article("e", &[credits, tags, sections, body].concat()))]).await
    })
}

fn scheduled(raw: Raw) -> BoxFuture<'static, Outcome<()>> {
    Box::pin(async move {
        let later = f(25, n(1, 4_000_000_000));
        let body = f(15, many(9_000, |j| paragraph(span(&format!("{j} {}", x(90))))));
        raw.import(
            (0..12)
                .map(|i| f(1, article(&format!("p{i}"), &[later.clone(), body.clone()].concat())))
                .collect(),
        )
        .await
    })
}

/// Returns a change that puts an article.
fn put_change(i: usize, fields: &[u8]) -> Vec<u8> {
    f(1, f(1, article(&format!("k{i}"), fields)))
}

fn commits() -> Vec<Case> {
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

fn entities() -> Vec<Case> {
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

fn reads() -> Vec<Case> {
    const GET: &str = "ContentService/GetArticle";
    const BATCH: &str = "ContentService/BatchGetArticles";
    let form = |name: &'static str, format: u64| {
        move |i: usize| [f(1, format!("articles/{name}{}", i % 12)), n(3, format)].concat()
    };
    let names = |label: &'static str, count: usize| many(count, |j| f(1, format!("articles/{label}{j}")));
    let includes = || [n(4, 1), n(4, 2), n(4, 3)].concat();
    vec![
        Case { prepare: large, ..case(GET, "1 MiB of text as blocks", form("l", 1)) },
        Case { prepare: costly, ..case(GET, "1 MiB of marks as HTML", form("l", 2)) },
        Case { prepare: costly, ..case(GET, "1 MiB of marks as Markdown", form("l", 3)) },
        Case { prepare: costly, ..case(GET, "1 MiB of marks as plain text", form("l", 4)) },
        Case {
            prepare: everything,
            ..case(GET, "everything included, as HTML", move |_| {
                [f(1, "articles/e"), n(3, 2), includes()].concat()
            })
        },
        case(GET, "name: 128 KiB", |i| f(1, format!("{i}{}", x(127 << 10)))),
        case(GET, "60,000 includes", |_| [f(1, "articles/probe"), n(4, 1).repeat(60_000)].concat()),
        case(BATCH, "500 names that do not exist", |i| {
            many(500, |j| f(1, format!("articles/x{}", i * 500 + j)))
        }),
        case(BATCH, "60,000 empty names", |_| many(60_000, |_| f(1, []))),
        Case {
            prepare: newsroom,
            ..case(BATCH, "500 articles of 9 KB as HTML", |i| {
                [many(500, |j| f(1, format!("articles/n{}", (i * 37 + j) % 1_000))), n(2, 3), n(3, 2)]
                    .concat()
            })
        },
        Case {
            prepare: costly,
            ..case(BATCH, "12 articles whose rendering costs most, as Markdown", move |_| {
                [names("l", 12), n(2, 3), n(3, 3)].concat()
            })
        },
        Case {
            prepare: large,
            ..case(BATCH, "12 articles of 1 MiB without their bodies", move |_| {
                [names("l", 12), n(2, 1)].concat()
            })
        },
        Case {
            prepare: large,
            ..case("ContentService/ListArticles", "12 articles of 1 MiB, references only", |i| {
                [n(3, 100 + i as u64), n(5, 1)].concat()
            })
        },
        case("ContentService/ResolvePath", "path of 1 KiB", |i| f(1, format!("/{i}{}", x(1_000)))),
        case("ContentService/GetTag", "name: 128 KiB", |i| f(1, format!("{i}{}", x(127 << 10)))),
        Case {
            prepare: scheduled,
            ..case("PublishingService/GetPending", "1 MiB as HTML", |i| {
                [f(1, format!("articles/p{}", i % 12)), n(3, 2)].concat()
            })
        },
        Case {
            prepare: scheduled,
            ..case("PublishingService/ListPending", "12 of 1 MiB, as HTML", |_| {
                [n(1, 1_000), n(3, 3), n(4, 2)].concat()
            })
        },
        Case {
            prepare: scheduled,
            ..case("PublishingService/ListPending", "12 of 1 MiB, without their bodies", |_| n(1, 1_000))
        },
    ]
}

fn lists() -> Vec<Case> {
    const LIST: &str = "ContentService/ListArticles";
    let tags = |number: u32| many(64, |j| f(number, format!("tags/t{j}")));
    let filter =
        |fields: Vec<u8>, i: usize| [f(1, [fields, f(8, format!("l{i}"))].concat()), n(3, 1_000)].concat();
    // A language that no article has would end the search, so the language is unset and the page size differs each
    // time.
    let list = move |fields: Vec<u8>, order: u64| {
        move |i: usize| [f(1, &fields), n(2, order), n(3, 1_000 - i as u64 % 500)].concat()
    };
    vec![
        Case {
            prepare: many_articles,
            ..case(LIST, "64 none_tags over 30,000 articles", list([f(1, "tags/all"), tags(3)].concat(), 0))
        },
        Case {
            prepare: many_articles,
            ..case(LIST, "64 any_tags over 30,000 articles", list([f(1, "tags/all"), tags(2)].concat(), 0))
        },
        Case {
            prepare: many_articles,
            ..case(
                LIST,
                "64 any_tags and none_tags, by revision",
                list([f(1, "tags/all"), tags(2), tags(3)].concat(), 2),
            )
        },
        Case { prepare: many_articles, ..case(LIST, "no condition, 1,000 articles", list(Vec::new(), 0)) },
        case(LIST, "a language of 128 KiB", move |i| filter(f(8, x(127 << 10)), i)),
        Case {
            prepare: newsroom,
            ..case(LIST, "a tree of 1,000 sections", list([f(4, "sections/s0"), n(5, 1)].concat(), 0))
        },
        Case {
            prepare: newsroom,
            ..case(LIST, "1,000 articles of 9 KB as HTML", |i| {
                [n(3, 1_000 - i as u64), n(5, 3), n(6, 2)].concat()
            })
        },
        case(LIST, "page_token: 128 KiB", |_| f(4, x(127 << 10))),
        Case {
            prepare: newsroom,
            ..case("ContentService/ListSections", "1,000 sections", |i| n(1, 1_000 - i as u64))
        },
        Case {
            prepare: many_articles,
            ..case("ContentService/StreamArticles", "64 none_tags: the first message", move |i| {
                [f(1, [f(1, "tags/all"), tags(3)].concat()), n(7, i as u64)].concat()
            })
        },
        Case {
            prepare: large,
            ..case("ContentService/StreamArticles", "1 MiB each, as Markdown: the first message", |_| {
                [n(3, 3), n(4, 3)].concat()
            })
        },
        Case {
            prepare: large,
            ..case("TransferService/Export", "1 MiB each: the first message", |_| Vec::new())
        },
        Case {
            prepare: newsroom,
            ..case("FeedService/Watch", "a snapshot of everything, FULL: the first message", |_| {
                [n(2, 3), n(5, 1)].concat()
            })
        },
        case("FeedService/Watch", "60,000 empty tags", |_| f(1, many(60_000, |_| f(1, [])))),
        Case {
            prepare: newsroom,
            ..case("FeedService/Watch", "64 tags, sections and authors each", move |_| {
                f(
                    1,
                    [
                        tags(1),
                        many(64, |j| f(2, format!("sections/s{j}"))),
                        many(64, |j| f(3, format!("authors/a{j}"))),
                    ]
                    .concat(),
                )
            })
        },
    ]
}
