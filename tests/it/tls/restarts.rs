//! A node that restarts under load: calls of the client crate that may be repeated do not fail, and feeds resume.

use std::{path::Path, time::Duration};

use cable_client::{Cable, Event, FeedFilter, Pem, Retry};
use futures_util::StreamExt as _;
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};

use super::{authority::configure, files};
use crate::support::{Node, article};

/// The time for feeds to receive the last change after the load.
const CATCH_UP: Duration = Duration::from_secs(30);
/// The limit on the time that a node takes to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// More attempts than a restart takes: the only node is away meanwhile.
const ATTEMPTS: u32 = 30;
const TAG: &str = "restarts";

/// The load, and how often the node restarts.
struct Load {
    reads_per_second: u32,
    feeds: usize,
    restarts: u32,
    up: Duration,
}

/// The load of each run of the tests.
const SMALL: Load = Load { reads_per_second: 100, feeds: 50, restarts: 3, up: Duration::from_millis(700) };
/// The load with CABLE_TEST_RESTARTS=full.
const FULL: Load = Load { reads_per_second: 1_000, feeds: 1_000, restarts: 3, up: Duration::from_secs(5) };

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_fails_no_repeatable_call_and_no_feed() {
    let load = match std::env::var("CABLE_TEST_RESTARTS").as_deref() {
        Ok("full") => FULL,
        _ => SMALL,
    };
    let (dir, authority) = files();
    let mut node = start(0, dir.path()).await;
    let port = node.address.port();
    let client = || {
        let builder = Cable::builder(format!("https://localhost:{port}")).timeout(Duration::from_secs(30));
        builder.ca(Pem::bytes(authority.pem())).retry(Retry::default().attempts(ATTEMPTS)).build().unwrap()
    };
    client().put(article("read", "Read", &[])).await.unwrap();
    let first = client().put(article("first", "First", &[TAG])).await.unwrap().revision;
    let mut feeds = JoinSet::new();
    for _ in 0..load.feeds.div_ceil(100) {
        let connection = client();
        for _ in 0..load.feeds.min(100) {
            feeds.spawn(follow(connection.clone()));
        }
    }
    let end = Instant::now() + load.up * (load.restarts + 1);
    let reads = tokio::spawn(read(client(), load.reads_per_second, end));
    let writes = tokio::spawn(write(client(), end));
    for _ in 0..load.restarts {
        sleep(load.up).await;
        timeout(STOP_TIMEOUT, node.stop()).await.expect("a stop takes no longer");
        node = start(port, dir.path()).await;
    }
    let (reads, mut revisions) = (reads.await.unwrap(), writes.await.unwrap());
    let last = client().put(article("last", "Last", &[TAG])).await.unwrap().revision;
    revisions.insert(0, first);
    revisions.push(last);
    let mut reconnects = 0;
    while let Some(feed) = timeout(CATCH_UP, feeds.join_next()).await.expect("feeds catch up") {
        let (received, reconnected) = feed.unwrap();
        let start = revisions.iter().position(|revision| Some(revision) == received.first());
        assert_eq!(received, revisions[start.expect("a revision that was written")..], "once and in order");
        reconnects += reconnected;
    }
    println!(
        "restarts: {reads} reads and {} writes, 0 failed; {} feeds resumed {reconnects} times",
        revisions.len(),
        load.feeds
    );
    assert!(reads > 50 && revisions.len() > 10, "{reads} reads, {} writes", revisions.len());
    assert!(reconnects >= load.feeds as u64, "the feeds were open during the restarts");
    node.stop().await;
}

async fn start(port: u16, dir: &Path) -> Node {
    Node::start_on(port, &dir.join("store"), |config| configure(config, dir)).await
}

/// Reads at a rate, each call in a task of its own, until the end. Returns the number of calls; none has failed.
async fn read(client: Cable, per_second: u32, end: Instant) -> usize {
    let mut ticks = interval(Duration::from_secs(1) / per_second);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut calls = JoinSet::new();
    while Instant::now() < end {
        ticks.tick().await;
        let client = client.clone();
        calls.spawn(async move { client.article("read").await });
    }
    let calls = calls.join_all().await;
    let failed: Vec<_> = calls.iter().filter_map(|call| call.as_ref().err()).collect();
    assert!(failed.is_empty(), "{} of {} reads failed: {:?}", failed.len(), calls.len(), failed.first());
    calls.len()
}

/// Writes new articles until the end: a feed that resumes omits changes of an article that later ones supersede. Returns
/// the revisions. The request ids make retries safe.
async fn write(client: Cable, end: Instant) -> Vec<i64> {
    let mut revisions = Vec::new();
    while Instant::now() < end {
        let written = article(&format!("written-{}", revisions.len()), "Written", &[TAG]);
        revisions.push(client.put(written).await.unwrap().revision);
        sleep(Duration::from_millis(20)).await;
    }
    revisions
}

/// Follows the tag until the last article. Returns the revisions, and how often the feed has resumed.
async fn follow(client: Cable) -> (Vec<i64>, u64) {
    let mut feed = client.feed(FeedFilter::default().any_tag(TAG)).open();
    let mut revisions = Vec::new();
    while let Some(delivery) = feed.next().await {
        let Event::Changes(changes) = delivery.unwrap().event else { continue };
        revisions.extend(changes.iter().map(|change| change.revision));
        if changes.iter().any(|change| change.name == "articles/last") {
            break;
        }
    }
    (revisions, feed.reconnects())
}
