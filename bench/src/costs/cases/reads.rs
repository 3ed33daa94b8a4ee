//! Reads: single articles, batches, lists, streams, exports and feeds.

use super::{
    Case, case,
    encoding::{f, many, n, x},
    stores::{costly, everything, large, many_articles, newsroom, scheduled},
};

pub(super) fn reads() -> Vec<Case> {
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

pub(super) fn lists() -> Vec<Case> {
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
            ..case(
                LIST,
                "64 excluded_tags over 30,000 articles",
                list([f(1, "tags/all"), tags(3)].concat(), 0),
            )
        },
        Case {
            prepare: many_articles,
            ..case(LIST, "64 any_tags over 30,000 articles", list([f(1, "tags/all"), tags(2)].concat(), 0))
        },
        Case {
            prepare: many_articles,
            ..case(
                LIST,
                "64 any_tags and excluded_tags, by revision",
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
            ..case("ContentService/StreamArticles", "64 excluded_tags: the first message", move |i| {
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
