//! Pages and streams in progress: during writes, when clients disconnect, and with articles at their limits.

use std::{collections::BTreeMap, time::Duration};

use cable_client::{Cable, Filter, Include, RawRecord, Timestamp, View, v1};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use prost_types::Timestamp as Time;

use crate::{
    connections::places::{free_address, metrics_contain_soon},
    support::{Node, article, author, body},
};

/// The metric of the calls in flight.
const IN_FLIGHT: &str = "cable_rpc_in_flight{method=\"cable.v1.ContentService/StreamArticles\"}";

fn at(mut article: v1::Article, seconds: i64) -> v1::Article {
    article.publish_time = Some(Timestamp { seconds: 1_700_000_000 + seconds, nanos: 0 });
    article
}

async fn import(cable: &Cable, articles: impl Iterator<Item = v1::Article>) {
    let records: Vec<_> = articles.map(RawRecord::from).collect();
    let acks: Vec<_> = cable.import(stream::iter(records)).try_collect().await.unwrap();
    let mut results = acks.iter().flat_map(|ack| &ack.results);
    assert!(results.all(|result| result.outcome() == v1::ImportOutcome::Written));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crawl_sees_each_unchanged_article_once_during_writes() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let cable = node.client();
    let name = |prefix: &str, n: i64| format!("{prefix}-{n}");
    import(&cable, (0..300).map(|n| at(article(&name("stays", n), "Tide", &["sea"]), n / 3))).await;

    let writer = cable.clone();
    let writing = tokio::spawn(async move {
        let one = |n: i64| {
            let cable = writer.clone();
            let fresh = at(article(&name("new", n % 600), &format!("Tide {n}"), &["sea"]), n * 7 % 120);
            async move { cable.put(fresh).await.unwrap() }
        };
        stream::iter(0..1_000).map(one).buffer_unordered(8).collect::<Vec<_>>().await.len()
    });
    let mut crawls = 0;
    loop {
        let last = writing.is_finished();
        let mut seen: BTreeMap<String, u32> = BTreeMap::new();
        let mut articles = cable.list(Filter::default().tag("sea")).page_size(7).items();
        while let Some(article) = articles.try_next().await.unwrap() {
            *seen.entry(article.name).or_default() += 1;
        }
        let stays: Vec<_> = seen.iter().filter(|(name, _)| name.contains("/stays-")).collect();
        assert_eq!(stays.len(), 300);
        assert!(stays.iter().all(|(_, times)| **times == 1), "{stays:?}");
        crawls += 1;
        if last {
            break;
        }
    }
    assert_eq!(writing.await.unwrap(), 1_000);
    assert!(crawls > 1, "nothing was published during a crawl");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_disconnects_ends_its_stream() {
    let (dir, ops) = (tempfile::tempdir().unwrap(), free_address().await);
    let node = Node::start_with(dir.path(), |config| config.server.ops_listen = Some(ops)).await;
    let cable = node.client();
    let text = "The ferry did not sail. ".repeat(100);
    let long = |n: i64| {
        let mut long = at(article(&format!("a-{n}"), "Tide", &["sea"]), n);
        long.body = Some(body(&text));
        long
    };
    import(&cable, (0..5_000).map(long)).await;
    let cache_bytes = || async { cable.status().await.unwrap().cache_bytes };
    let mut articles = cable.stream(Filter::default().tag("sea")).view(View::Full).articles();
    for _ in 0..100 {
        articles.try_next().await.unwrap().unwrap();
    }
    // The reader pauses. Meanwhile the node composes what fits the windows, not the 12 MB of the listing.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let paused = cache_bytes().await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(cache_bytes().await, paused, "the node composes more although the reader is paused");
    assert!(paused < 6 << 20, "{paused}");
    let in_flight = |count: u32| metrics_contain_soon(ops, format!("{IN_FLIGHT} {count}"));
    in_flight(1).await;
    drop(articles);
    in_flight(0).await;
    assert_eq!(cache_bytes().await, paused, "the node composes nothing after the end of the call");
    // The measure is valid: a listing that is read to its end is in memory afterwards.
    let complete = cable.stream(Filter::default().tag("sea")).view(View::Full).articles();
    assert_eq!(complete.try_fold(0, |count, _| async move { Ok(count + 1) }).await.unwrap(), 5_000);
    assert!(cache_bytes().await > 2 * paused && paused > 200_000, "{paused} and {}", cache_bytes().await);
    node.stop().await;
}

/// Returns the JSON of an entity at its size limit, less some bytes.
fn filler(maximum: usize, encoded: usize) -> String {
    "x".repeat(maximum - encoded - 64)
}

/// Returns an article of almost 1 MiB that names 64 authors and 128 tags and has a unique time.
fn largest(n: i64) -> v1::Article {
    use prost::Message as _;
    let tags: Vec<String> = (0..128).map(|tag| format!("t-{n}-{tag}")).collect();
    let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
    let mut article = at(article(&format!("large-{n}"), "Tide", &tags), n);
    let mut byline = v1::Byline::default();
    for i in 0..64 {
        let mut credit = v1::Credit::default();
        credit.author = format!("authors/x-{n}-{i}");
        byline.credits.push(credit);
    }
    article.byline = Some(byline);
    article.body = None;
    let text = filler(1 << 20, article.encoded_len());
    article.body = Some(body(&text));
    article
}

async fn put_largest(cable: &Cable, n: i64) {
    use prost::Message as _;
    let tags = (0..128).map(|i| {
        let mut tag = v1::Tag::default();
        (tag.name, tag.display_name) = (format!("tags/t-{n}-{i}"), "Tide".into());
        tag.description = "d".repeat(4 << 10);
        tag.external_ids = (0..28).map(|id| format!("archive:{id:0>115}")).collect();
        assert!(tag.encoded_len() > 7_500);
        RawRecord::from(tag)
    });
    let authors = (0..64).map(|i| {
        let mut author = author(&format!("x-{n}-{i}"), "Ann Ellery");
        author.bio = "b".repeat(8 << 10);
        let profile = |n| {
            let mut profile = v1::SocialProfile::default();
            (profile.platform, profile.handle) = (format!("platform-{n}"), "ann".into());
            profile.url = format!("https://social.example/{n:0>190}");
            profile
        };
        author.social_profiles = (0..30).map(profile).collect();
        assert!(author.encoded_len() > 15_000);
        RawRecord::from(author)
    });
    let records: Vec<_> = tags.chain(authors).collect();
    let acks: Vec<_> = cable.import(stream::iter(records)).try_collect().await.unwrap();
    for result in acks.iter().flat_map(|ack| &ack.results) {
        assert_eq!(result.outcome(), v1::ImportOutcome::Written, "{result:?}");
    }
    let article = largest(n);
    assert!(article.encoded_len() > (1 << 20) - 128);
    cable.put(article).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_the_largest_articles_fit_the_client_message_limit() {
    const LARGEST: usize = 3_584 << 10;
    use prost::Message as _;
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let cable = node.client();
    for n in 0..4 {
        put_largest(&cable, n).await;
    }
    let all = [Include::Authors, Include::Tags];
    let size = |articles: &[v1::Article], includes: &v1::Includes| {
        articles.iter().map(|article| article.encoded_len()).sum::<usize>() + includes.encoded_len()
    };
    let mut pages = cable.list(Filter::default()).view(View::Full).include(all).page_size(100).pages();
    let mut names = Vec::new();
    while let Some(page) = pages.try_next().await.unwrap() {
        assert!(size(&page.articles, &page.includes) < LARGEST);
        assert_eq!((page.includes.authors.len(), page.includes.tags.len()), (64, 128));
        assert_eq!(page.articles.len(), 1, "a second one is more than 2 MiB");
        assert_eq!(page.next_page_token.is_some(), names.len() < 3);
        names.extend(page.value.articles.into_iter().map(|article| article.name));
    }
    assert_eq!(names, ["articles/large-3", "articles/large-2", "articles/large-1", "articles/large-0"]);

    let mut articles = cable.stream(Filter::default()).view(View::Full).include(all).articles();
    let mut streamed = 0;
    while let Some(article) = articles.try_next().await.unwrap() {
        assert!(size(&[article], articles.includes()) < LARGEST);
        streamed += 1;
    }
    assert_eq!(streamed, 4);
    // The client requests the rest of an incomplete batch.
    let batch = cable.articles(&names).view(View::Full).include(all).await.unwrap();
    assert_eq!((batch.items.len(), batch.includes.authors.len()), (4, 256));
    assert!(batch.found().map(|article| article.name).eq(names));
    let one = cable.article("large-0").include(all).await.unwrap();
    assert!(size(std::slice::from_ref(&one.value), &one.includes) < LARGEST);
    assert!(one.value.update_time.is_some_and(|time: Time| time.seconds > 0));
    node.stop().await;
}
