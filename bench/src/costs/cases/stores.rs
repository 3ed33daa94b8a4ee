//! The stores that the cases run against: each function imports the content of one.

use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::future::BoxFuture;

use super::encoding::{article, block, f, id, many, n, paragraph, span, x};
use crate::{Outcome, costs::raw::Raw};

pub(super) fn prepare_nothing(_: Raw) -> BoxFuture<'static, Outcome<()>> {
    Box::pin(async { Ok(()) })
}

/// A month in which articles were published, and a time in it, in seconds since 1970 UTC.
pub(super) const MONTH: &str = "2026-01";
const IN_MONTH: u64 = 1_768_000_000;

/// Returns records of each kind with the id `probe`, which all stores have. Requests for them are accepted unless
/// something else is wrong with them.
pub(in crate::costs) fn probe() -> Vec<Vec<u8>> {
    let references =
        [f(18, "sections/probe"), f(20, "tags/probe"), f(17, f(2, f(1, "authors/probe")))].concat();
    let page = [f(21, "/probe"), f(25, n(1, IN_MONTH))].concat();
    vec![
        f(1, article("probe", &[references, page].concat())),
        f(2, [f(1, "authors/probe"), f(10, "A")].concat()),
        f(3, [f(1, "sections/probe"), f(10, "S")].concat()),
        f(4, [f(1, "tags/probe"), f(10, "T")].concat()),
        f(5, [f(1, "collections/probe"), f(10, "C")].concat()),
    ]
}

/// Imports 30,000 articles with the longest paths: 10,000 of [`MONTH`], and 20,000 of the last hour.
pub(super) fn pages(raw: Raw) -> BoxFuture<'static, Outcome<()>> {
    Box::pin(async move {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let one = |i: usize| {
            let published = if i < 10_000 { IN_MONTH } else { now - 3_600 };
            let page = [f(21, format!("/{i:05}{}", x(1_000))), f(25, n(1, published))].concat();
            f(1, article(&format!("p{i}"), &page))
        };
        raw.import((0..30_000).map(one).collect()).await
    })
}

/// Imports 250,000 small articles of [`MONTH`], each with a page.
pub(super) fn full_month(raw: Raw) -> BoxFuture<'static, Outcome<()>> {
    Box::pin(async move {
        let one = |i: usize| {
            let page = [f(21, format!("/{i}")), f(25, n(1, IN_MONTH + i as u64))].concat();
            f(1, article(&format!("m{i}"), &page))
        };
        for batch in 0..25 {
            raw.import((batch * 10_000..(batch + 1) * 10_000).map(one).collect()).await?;
        }
        Ok(())
    })
}

/// Imports 5,000 articles of [`MONTH`], each with a page, 100 KB of text, a tag of its own, and one that all have.
pub(super) fn long_reads(raw: Raw) -> BoxFuture<'static, Outcome<()>> {
    Box::pin(async move {
        // Text that does not compress to nothing, so that reading it would cost as much as reading real text.
        let word = |n: usize| format!("{:08x} ", (n as u32).wrapping_mul(0x9e37_79b1));
        let sentence = move |n: usize| span(&(0..12).map(|k| word(12 * n + k)).collect::<String>());
        let text = |i: usize| f(15, paragraph(many(900, |j| sentence(900 * i + j))));
        let tags = |i: usize| [f(20, "tags/all"), f(20, format!("tags/own{i}"))].concat();
        let page = |i: usize| [f(21, format!("/{i}")), f(25, n(1, IN_MONTH)), tags(i), text(i)].concat();
        for batch in 0..50 {
            let one = |i: usize| f(1, article(&format!("r{i}"), &page(i)));
            raw.import((batch * 100..(batch + 1) * 100).map(one).collect()).await?;
        }
        Ok(())
    })
}

/// Imports articles of 1 MiB of text.
pub(super) fn large(raw: Raw) -> BoxFuture<'static, Outcome<()>> {
    Box::pin(async move {
        let text = |i: usize| f(15, paragraph(many(9_000, |j| span(&format!("{i} {j} {} ", x(96))))));
        raw.import((0..12).map(|i| f(1, article(&format!("l{i}"), &text(i)))).collect()).await
    })
}

/// Imports articles of 1 MiB with the most expensive rendering.
pub(super) fn costly(raw: Raw) -> BoxFuture<'static, Outcome<()>> {
    Box::pin(async move {
        let link = |i: usize| f(3, f(1, format!("/{i}")));
        let marked = move |i: usize| f(1, [f(1, "x"), f(2, [1, 2, 3]), link(i)].concat());
        let body = f(15, [paragraph(many(6_500, marked)), paragraph(span(&x(200_000)))].concat());
        raw.import((0..12).map(|i| f(1, article(&format!("l{i}"), &body))).collect()).await
    })
}

/// Imports 50 articles of 80 KB with as many elements as an article may have.
pub(super) fn elements(raw: Raw) -> BoxFuture<'static, Outcome<()>> {
    Box::pin(async move {
        let body = f(15, paragraph(f(1, []).repeat(40_000)));
        raw.import((0..50).map(|i| f(1, article(&format!("e{i}"), &body))).collect()).await
    })
}

/// Imports a thousand articles of 9 KB, with tags and sections.
pub(super) fn newsroom(raw: Raw) -> BoxFuture<'static, Outcome<()>> {
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
        let tag = |i: usize| f(4, [f(1, format!("tags/t{i}")), f(10, "T")].concat());
        raw.import((0..64).map(tag).collect()).await?;
        let section = |i: usize| {
            f(3, [f(1, format!("sections/s{i}")), f(10, "S"), f(13, format!("sections/s{}", i / 2))].concat())
        };
        raw.import((0..1_000).map(section).collect()).await
    })
}

/// Imports 500 chains of 19 moves, each of which ends at an article, and 500 more articles.
pub(super) fn moved(raw: Raw) -> BoxFuture<'static, Outcome<()>> {
    Box::pin(async move {
        raw.import((0..1_000).map(|i| f(1, article(&format!("n{i}"), &[]))).collect()).await?;
        // The end of each chain first, so that its start has a target.
        let moves = (0..19).rev().flat_map(|at| (0..500).map(move |chain| tombstone_of_move(chain, at)));
        raw.import(moves.map(|tombstone| f(6, tombstone)).collect()).await
    })
}

fn tombstone_of_move(chain: usize, at: usize) -> Vec<u8> {
    let next = if at == 18 { format!("articles/n{chain}") } else { format!("articles/m{chain}-{}", at + 1) };
    [f(1, format!("articles/m{chain}-{at}")), n(2, 1), f(3, next)].concat()
}

/// Imports 30,000 small articles. None of those that match the filter has any of the filter's excluded tags, which
/// other articles have.
pub(super) fn many_articles(raw: Raw) -> BoxFuture<'static, Outcome<()>> {
    Box::pin(async move {
        let tags = |i: usize| if i < 64 { f(20, format!("tags/t{i}")) } else { f(20, "tags/all") };
        raw.import((0..30_000).map(|i| f(1, article(&format!("c{i}"), &tags(i)))).collect()).await
    })
}

/// Imports an article with everything that it can include, at the limits.
pub(super) fn everything(raw: Raw) -> BoxFuture<'static, Outcome<()>> {
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

pub(super) fn scheduled(raw: Raw) -> BoxFuture<'static, Outcome<()>> {
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
