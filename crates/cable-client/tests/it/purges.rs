//! The example that purges a cache, with a cache that fails at first.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use cable_client::{FeedFilter, Position, PositionStore, RawRecord, v1};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

use crate::{
    feeds::{broken, changes, checkpoint, open, part, removed, reset, serve_watch, snapshot_end, upsert},
    support::{article, position},
};

#[allow(dead_code, unreachable_pub, reason = "the example's own entry and visibility")]
#[path = "../../examples/purge.rs"]
mod purge;

/// Starts a cache that fails the first requests in different ways. Returns its address and the received requests, one
/// line each.
async fn cache(failures: usize) -> (String, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (sender, receiver) = mpsc::unbounded_channel();
    let failed = AtomicUsize::new(0);
    tokio::spawn(async move {
        loop {
            let (mut connection, _) = listener.accept().await.unwrap();
            let request = request(&mut connection).await;
            let response = match failed.fetch_add(1, SeqCst) {
                number if number >= failures => "HTTP/1.1 200 Purged\r\nContent-Length: 0\r\n\r\n",
                number if number % 2 == 0 => "HTTP/1.1 503 Busy\r\n\r\n",
                _ => "",
            };
            connection.write_all(response.as_bytes()).await.unwrap();
            let outcome = if response.contains("200") { "" } else { " (failed)" };
            if sender.send(request + outcome).is_err() {
                return;
            }
        }
    });
    (address, receiver)
}

/// Reads a request and returns its summary: `/path`, or `/ key key`.
async fn request(connection: &mut TcpStream) -> String {
    let mut lines = BufReader::new(connection).lines();
    let first = lines.next_line().await.unwrap().unwrap();
    let mut summary = first.strip_prefix("PURGE ").unwrap().strip_suffix(" HTTP/1.1").unwrap().to_owned();
    loop {
        match lines.next_line().await.unwrap().unwrap() {
            end if end.is_empty() => return summary,
            header => summary += header.strip_prefix("Surrogate-Key:").unwrap_or_default(),
        }
    }
}

#[derive(Clone, Default)]
struct Saved(Arc<Mutex<Option<i64>>>);

impl PositionStore for Saved {
    fn load(&self) -> std::io::Result<Option<Position>> {
        Ok(self.0.lock().unwrap().map(position))
    }

    fn save(&self, position: &Position) -> std::io::Result<()> {
        *self.0.lock().unwrap() = Some(position.revision);
        Ok(())
    }
}

fn story() -> v1::FeedChange {
    let mut credit = v1::Credit::default();
    credit.author = "authors/ann".into();
    let mut byline = v1::Byline::default();
    byline.credits = vec![credit, v1::Credit::default()];
    let mut article = article("articles/storm");
    article.path = "/weather/storm".into();
    article.alias_paths = vec!["/s/1".into()];
    article.section = "sections/weather".into();
    article.additional_sections = vec!["sections/coast".into()];
    article.tags = vec!["tags/storm".into()];
    article.byline = Some(byline);
    let mut change = upsert(7, article.into());
    change.former_names = vec!["tags/calm".into()];
    change.former_paths = vec!["/weather/calm".into()];
    change
}

#[tokio::test]
async fn each_purge_is_retried_until_the_cache_accepts_it() {
    let mut gone = removed(9, "articles/old");
    if let Some(v1::feed_change::Change::Removed(tombstone)) = &mut gone.change {
        tombstone.paths = vec!["/\u{e9}t\u{e9}|1".into()];
    }
    let (server, _) = serve_watch(0, move |_, _| {
        let restart = [reset(v1::FeedResetReason::Compacted), part(vec![article("articles/a").into()])];
        let messages =
            vec![checkpoint(6), changes(vec![story()]), checkpoint(8), changes(vec![gone.clone()])];
        open(messages.into_iter().chain(restart).chain([snapshot_end(20, 1)]).collect())
    });
    let (address, mut requests) = cache(3).await;
    let saved = Saved::default();
    let feed = server.client().feed(FeedFilter::default()).allow_reset(true).save_to(saved.clone()).open();
    let run = tokio::spawn(async move { purge::run(feed, &purge::Cache::Http(address)).await });
    for failed in ["/s/1 (failed)", "/s/1 (failed)", "/s/1 (failed)"] {
        assert_eq!(requests.recv().await.unwrap(), failed);
        assert!(saved.0.lock().unwrap().is_none_or(|at| at < 7), "its purges have not succeeded");
    }
    let rest = [
        "/s/1",
        "/weather/calm",
        "/weather/storm",
        "/ article:storm articles list:articles list:authors/ann list:sections/coast list:sections/weather \
         list:tags/calm list:tags/storm path:/s/1 path:/weather/calm path:/weather/storm",
        "/%C3%A9t%C3%A9|1",
        "/ article:old articles list:articles path:/%C3%A9t%C3%A9%7C1",
        "/ all",
    ];
    for expected in rest {
        assert_eq!(requests.recv().await.unwrap(), expected);
    }
    while *saved.0.lock().unwrap() != Some(20) {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert!(requests.try_recv().is_err());
    run.abort();
}

#[tokio::test]
async fn changes_that_may_hide_others_purge_everything_first() {
    // The first stream starts behind. The second one is live until it breaks; the third one starts behind again.
    let (server, _) = serve_watch(0, |number, _| match number {
        0 => broken(vec![changes(vec![removed(5, "articles/a")]), checkpoint(5)], cut_off()),
        1 => broken(vec![checkpoint(6), changes(vec![removed(7, "articles/b")])], cut_off()),
        _ => open(vec![changes(vec![removed(9, "articles/c")]), changes(vec![removed(10, "articles/d")])]),
    });
    let (address, mut requests) = cache(0).await;
    let feed = server.client().feed(FeedFilter::default()).open();
    let run = tokio::spawn(async move { purge::run(feed, &purge::Cache::Http(address)).await });
    let key = |id: &str| format!("/ article:{id} articles list:articles");
    let all = || "/ all".to_owned();
    for expected in [all(), key("a"), key("b"), all(), key("c"), key("d")] {
        assert_eq!(requests.recv().await.unwrap(), expected);
    }
    run.abort();
}

#[tokio::test]
async fn entities_of_each_kind_have_the_keys_of_their_responses() {
    let (mut author, mut section) = (v1::Author::default(), v1::Section::default());
    let (mut tag, mut collection) = (v1::Tag::default(), v1::Collection::default());
    author.name = "authors/ann".into();
    section.name = "sections/weather".into();
    tag.name = "tags/storm".into();
    collection.name = "collections/front".into();
    let entities: [RawRecord; 4] = [author.into(), section.into(), tag.into(), collection.into()];
    let (server, _) = serve_watch(0, move |_, _| {
        let upserts =
            (7..).zip(entities.clone()).map(|(revision, entity)| changes(vec![upsert(revision, entity)]));
        open([checkpoint(6)].into_iter().chain(upserts).collect())
    });
    let (address, mut requests) = cache(0).await;
    let feed = server.client().feed(FeedFilter::default()).open();
    let run = tokio::spawn(async move { purge::run(feed, &purge::Cache::Http(address)).await });
    for expected in [
        "/ author:ann authors list:authors",
        "/ list:sections section:weather sections",
        "/ list:tags tag:storm tags",
        "/ collection:front collections list:collections",
    ] {
        assert_eq!(requests.recv().await.unwrap(), expected);
    }
    run.abort();
}

#[tokio::test]
async fn keys_that_do_not_fit_into_a_header_are_sent_in_several_purges() {
    let mut large = article("articles/a");
    large.tags = (0..128).map(|number| format!("tags/{}{number}", "x".repeat(120))).collect();
    let (server, _) =
        serve_watch(0, move |_, _| open(vec![checkpoint(6), changes(vec![upsert(7, large.clone().into())])]));
    let (address, mut requests) = cache(0).await;
    let feed = server.client().feed(FeedFilter::default()).open();
    let run = tokio::spawn(async move { purge::run(feed, &purge::Cache::Http(address)).await });
    let mut keys = 0;
    while keys < 3 + 128 {
        let request = requests.recv().await.unwrap();
        assert!(request.len() < 7_000, "{}", request.len());
        keys += request.split(' ').count() - 1;
    }
    assert_eq!(keys, 3 + 128);
    run.abort();
}

fn cut_off() -> tonic::Status {
    tonic::Status::unavailable("cut off")
}
