//! Callers with a token that is limited by the largest filter.

use super::{
    Case, case,
    encoding::{f, many, n},
    stores::{MONTH, long_reads, many_articles, newsroom},
};

/// The number of names that each list of a filter may have.
const NAMES: usize = 64;

pub(super) fn partners() -> Vec<Case> {
    let of_all = |case: Case| Case { prepare: many_articles, token: Some(excluding()), ..case };
    let of_feed = |case: Case| Case { prepare: newsroom, token: Some(any_of_many()), ..case };
    let tags = |number: u32| many(NAMES, |j| f(number, format!("tags/t{j}")));
    let own = move |i: usize| {
        [f(1, [f(1, "tags/all"), tags(2), tags(3)].concat()), n(3, 900 - i as u64 % 500)].concat()
    };
    vec![
        of_all(case(
            "ContentService/ListArticles",
            "token with 193 names: no condition, 1,000 articles",
            |i| n(3, 1_000 - i as u64 % 500),
        )),
        of_all(case(
            "ContentService/ListArticles",
            "token with 193 names: 64 any_tags and excluded_tags",
            own,
        )),
        of_all(case("ContentService/StreamArticles", "token with 193 names: the first message", |i| {
            n(7, 1_000 + i as u64)
        })),
        of_all(case("ContentService/GetArticle", "token with 193 names: an article outside", |i| {
            f(1, format!("articles/c{}", i % 64))
        })),
        of_all(case("ContentService/BatchGetArticles", "token with 193 names: 500 articles", |i| {
            many(500, |j| f(1, format!("articles/c{}", i * 500 + j)))
        })),
        of_all(case("GET /v1/articles", "token with 193 names: 1,000 articles", |i| {
            format!("/v1/articles?page_size={}", 1_000 - i % 500).into()
        })),
        Case {
            prepare: long_reads,
            ..of_all(case(
                "GET /sitemap-{month}.xml",
                "token with 193 names: 5,000 articles of 100 KB",
                |_| format!("/sitemap-{MONTH}.xml").into(),
            ))
        },
        of_feed(case(
            "FeedService/Watch",
            "token with 64 tags: a snapshot of 64 tags, the first message",
            move |_| [f(1, tags(1)), n(2, 3), n(5, 1)].concat(),
        )),
        Case {
            messages: 3,
            ..of_feed(case(
                "GET /v1/feed",
                "token with 64 tags: a snapshot of 64 tags, the first events",
                |_| format!("/v1/feed?snapshot=true&view=full&tag={}", names("t", NAMES)).into(),
            ))
        },
    ]
}

/// Returns a filter with every list at its limit.
fn excluding() -> Vec<String> {
    let option = |name: &str, id: String| [format!("--{name}"), id];
    let excluded = (0..NAMES).flat_map(|i| option("no-tag", format!("t{i}")));
    let any = (0..NAMES - 1)
        .flat_map(|i| option("any-tag", format!("u{i}")))
        .chain(option("any-tag", "all".into()));
    option("tag", "all".into()).into_iter().chain(excluded).chain(any).collect()
}

/// Returns the largest filter that allows feeds.
fn any_of_many() -> Vec<String> {
    (0..NAMES).flat_map(|i| ["--any-tag".to_owned(), format!("t{i}")]).collect()
}

/// Returns ids separated by commas.
pub(super) fn names(prefix: &str, count: usize) -> String {
    (0..count).map(|i| format!("{prefix}{i}")).collect::<Vec<_>>().join(",")
}
