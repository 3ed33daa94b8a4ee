//! The partner's feeds of both stores, compared message by message.

use bytes::Bytes;
use cable_client::Position;
use futures_util::future::join_all;
use prost::Message as _;
use serde_json::{Value, json};
use tonic::Streaming;

use super::{PATIENCE, Pair, assert_not_hidden, steps::random_names};
use crate::{
    dice::Rng,
    raw::{Raw, decode, describe, field, request_bytes, retain_fields, values},
};

/// Fields of a WatchResponse and of its position.
const POSITION: u32 = 1;
const CHANGES: u32 = 2;
const SNAPSHOT: u32 = 3;
const CHECKPOINT: u32 = 5;
const CHAIN: u32 = 3;

const MARKER: &str = "articles/marker";

/// Returns an article that all live followers receive: it matches every filter, in several versions.
fn marker(count: i64) -> Value {
    json!({
        "name": MARKER,
        "headline": count.to_string(),
        "tags": ["tags/t1", "tags/t2", "tags/marker"],
        "section": "sections/s1",
        "additional_sections": ["sections/marker"],
        "byline": {"credits": [{"author": "authors/x1"}, {"author": "authors/marker"}]},
    })
}

/// Returns the filters of the live followers. Each matches the marker.
fn live_requests() -> Vec<Value> {
    let filters = [
        json!({}),
        json!({"kinds": [1]}),
        json!({"any_tags": ["tags/t3", "tags/marker"]}),
        json!({"any_tags": ["tags/hidden-tag", "tags/marker"]}),
        json!({"sections": ["sections/s2", "sections/marker"], "any_tags": ["tags/t1", "tags/t2"]}),
        json!({"authors": ["authors/x2", "authors/marker"]}),
    ];
    let request = |(i, filter): (usize, Value)| json!({"filter": filter, "view": 1 + i % 2, "checkpoint_interval": "300s", "include_backfill": i % 2 == 0});
    filters.into_iter().enumerate().map(request).collect()
}

/// One request, followed at both stores.
pub(super) struct Live {
    request: Value,
    feeds: [Streaming<Bytes>; 2],
}

/// Restarts the live feeds of both stores.
pub(super) async fn follow(pair: &mut Pair, rng: &mut Rng) {
    pair.live.clear();
    pair.compared.insert("Watch".to_owned());
    for mut request in live_requests() {
        if rng.one_in(3) {
            request["snapshot"] = json!(true);
        }
        let bytes = request_bytes("Watch", request.clone());
        // A snapshot leaves out what changes while it is read, so it is read before anything is written.
        let (all, received) = start(&pair.all.partner, bytes.clone()).await.unwrap();
        let (matching, expected) = start(&pair.matching.partner, bytes).await.unwrap();
        assert_eq!(readable(&received), readable(&expected), "{} {request}", pair.filter);
        pair.live.push(Live { request, feeds: [all, matching] });
    }
}

/// Checks that the live followers of both stores receive the same changes. The division into messages depends on
/// timing, so it is not compared.
pub(super) async fn compare_live(pair: &mut Pair) {
    pair.count += 1;
    let put = json!({"article": marker(pair.count)});
    pair.matching.admin.call("PutArticle", put.clone()).await.unwrap();
    let marked = pair.all.admin.call("PutArticle", put).await.unwrap();
    let revision = marked["result"]["revision"].as_i64().unwrap();
    for Live { request, feeds } in &mut pair.live {
        let [all, matching] = feeds;
        let (all, matching) = (read_up_to(all, revision).await, read_up_to(matching, revision).await);
        assert_eq!(readable(&all), readable(&matching), "{} {request}", pair.filter);
        assert!(all == matching, "{} {request}", pair.filter);
    }
    for live in &mut pair.web_live {
        live.compare(revision).await;
    }
}

/// Returns each record and change in a message of its own, and the last position.
async fn read_up_to(feed: &mut Streaming<Bytes>, revision: i64) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        let message = message(feed).await;
        for number in [CHANGES, SNAPSHOT] {
            let events = values(&message, number).into_iter();
            all.extend(events.flat_map(|event| values(event, 1)).map(|one| field(number, &field(1, one))));
        }
        if Position::decode(&*values(&message, POSITION).concat()).unwrap().revision >= revision {
            all.push(retain_fields(&without_chain(&message), |number| number == POSITION));
            return all;
        }
    }
}

/// Returns the next message as received.
async fn message(feed: &mut Streaming<Bytes>) -> Bytes {
    let message = tokio::time::timeout(PATIENCE, feed.message()).await;
    let message =
        message.expect("a feed is not silent for so long").unwrap().expect("a feed does not end with OK");
    assert_not_hidden(&message);
    message
}

/// Returns a message with zeros for the chain of its position, a hash over all entries.
fn without_chain(message: &[u8]) -> Vec<u8> {
    let positions = values(message, POSITION).into_iter().flat_map(|position| {
        let chain = field(CHAIN, &vec![0; values(position, CHAIN).concat().len()]);
        field(POSITION, &[retain_fields(position, |number| number != CHAIN), chain].concat())
    });
    positions.chain(retain_fields(message, |number| number != POSITION)).collect()
}

/// Returns everything that a new feed delivers at once, or its error.
async fn read_all(raw: &Raw, request: Bytes) -> Result<Vec<Vec<u8>>, String> {
    start(raw, request).await.map(|(_, received)| received)
}

/// Starts a feed, and reads until it has caught up.
async fn start(raw: &Raw, request: Bytes) -> Result<(Streaming<Bytes>, Vec<Vec<u8>>), String> {
    let mut feed = raw.stream("Watch", request).await.map_err(|status| describe(&status))?;
    let mut received = Vec::new();
    loop {
        let message = match tokio::time::timeout(PATIENCE, feed.message()).await.expect("not silent") {
            Ok(message) => message.expect("a feed does not end with OK"),
            Err(status) => return Err(describe(&status)),
        };
        assert_not_hidden(&message);
        received.push(without_chain(&message));
        // The checkpoint of a feed that is still behind is not empty.
        if values(&message, CHECKPOINT).iter().any(|at| at.is_empty()) {
            return Ok((feed, received));
        }
    }
}

fn readable(received: &[Vec<u8>]) -> Vec<String> {
    received.iter().map(|one| decode("WatchResponse", one.clone().into()).to_string()).collect()
}

/// Compares each start, from several positions. A feed after a future position waits for a second before it is refused,
/// so all are open at the same time.
pub(super) async fn compare(pair: &mut Pair, rng: &mut Rng) {
    compare_live(pair).await;
    let head = pair.head().await;
    let mut requests = Vec::new();
    for _ in 0..6 {
        pair.count += 1;
        let request = json!({
            "filter": random_filter(rng, pair.count),
            // No live feed has this view, so everything is read from the store.
            "view": 3,
            "include_backfill": rng.one_in(2),
        });
        let mut start = |name: &str, value: Value| {
            let mut request = request.clone();
            request[name] = value;
            requests.push(request);
        };
        start("snapshot", json!(true));
        for after in [0, rng.between(0, head), rng.between(0, head), head.saturating_sub(3), head, head + 1] {
            start("after", json!({"revision": after}));
        }
        let foreign = json!({"revision": rng.between(0, head), "log_id": "00000001"});
        start("after", foreign.clone());
        start("after", foreign);
        requests.last_mut().unwrap()["allow_reset"] = json!(true);
    }
    let pair = &*pair;
    join_all(requests.into_iter().map(|request| expect_equal(pair, request))).await;
}

async fn expect_equal(pair: &Pair, request: Value) {
    let bytes = request_bytes("Watch", request.clone());
    let (all, matching) =
        tokio::join!(read_all(&pair.all.partner, bytes.clone()), read_all(&pair.matching.partner, bytes));
    let text = |received: &Result<Vec<Vec<u8>>, String>| {
        received.as_ref().map(|received| readable(received)).map_err(String::clone)
    };
    assert_eq!(text(&all), text(&matching), "{} {request}", pair.filter);
    assert!(all == matching, "{} {request}", pair.filter);
}

/// Returns a filter that no feed has used before, so that the whole feed is read from the store.
fn random_filter(rng: &mut Rng, count: i64) -> Value {
    let terms = |prefix: &str, named: Vec<String>| [named, vec![format!("{prefix}unused-{count}")]].concat();
    match rng.between(0, 5) {
        0 => json!({}),
        1 => json!({"kinds": [1, 2, 3, 4, 5]}),
        2 => json!({"any_tags": terms("tags/", random_names(rng, "tags/t", 3, 3))}),
        3 => json!({"any_tags": terms("tags/", vec!["tags/hidden-tag".into()])}),
        4 => json!({"sections": terms("sections/", vec!["sections/s1".into(), "sections/s2".into()])}),
        _ => {
            json!({"authors": terms("authors/", vec!["authors/x2".into()]), "any_tags": ["tags/t1", "tags/t3"]})
        }
    }
}
