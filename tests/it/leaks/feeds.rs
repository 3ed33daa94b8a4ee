//! The feeds of both stores, compared message by message.

use std::time::Duration;

use bytes::Bytes;
use cable_client::Position;
use prost::Message as _;
use serde_json::{Value, json};
use tonic::Streaming;

use super::{Pair, UNRELATED, responses::names_unrelated, steps::random_names};
use crate::{
    dice::Rng,
    raw::{Raw, decode, describe, field, request_bytes, retain_fields, values},
};

/// A time limit longer than any step takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// Fields of a WatchResponse, of its position and of its changes.
const POSITION: u32 = 1;
const CHANGES: u32 = 2;
const SNAPSHOT: u32 = 3;
const CHECKPOINT: u32 = 5;
const CHAIN: u32 = 3;
const UPDATE_KIND: u32 = 3;

/// Everything but authors.
const KINDS: [u32; 4] = [1, 3, 4, 5];

const MARKER: &str = "articles/marker";

/// Returns an article that all live followers receive. Everything that happened before is delivered before it.
pub(super) fn marker(count: i64) -> Value {
    json!({
        "name": MARKER,
        "headline": count.to_string(),
        "tags": ["tags/marker"],
        "section": "sections/marker",
        "byline": {"credits": [{"author": "authors/marker"}]},
    })
}

/// Returns the filters of the live followers. Each contains the marker's terms where it restricts them.
fn live_requests() -> Vec<Value> {
    let filters = [
        json!({}),
        json!({"kinds": KINDS}),
        json!({"any_tags": ["tags/t1", "tags/marker"]}),
        json!({"any_tags": ["tags/waiting", "tags/never", "tags/marker"]}),
        json!({"any_tags": ["tags/never", "tags/marker"]}),
        json!({"sections": ["sections/s2", "sections/never", "sections/marker"]}),
        json!({"authors": ["authors/x1", "authors/never", "authors/marker"]}),
        json!({
            "any_tags": ["tags/t1", "tags/t2", "tags/waiting", "tags/marker"],
            "sections": ["sections/s1", "sections/s2", "sections/marker"],
        }),
    ];
    let request = |(i, filter): (usize, Value)| json!({"filter": filter, "view": 1 + i / 2 % 3});
    filters.into_iter().enumerate().map(request).map(with_backfill).collect()
}

/// Requests backfill, for the one necessary difference: a version that becomes visible for the first time was put as
/// news where it was pending, and is imported as a backfill where nothing is pending. Both are requested, and read as
/// news.
fn with_backfill(mut request: Value) -> Value {
    request["include_backfill"] = json!(true);
    request["checkpoint_interval"] = json!("300s");
    request
}

/// Returns a filter that no feed has used before, so that the whole feed is read from the store.
fn random_filter(rng: &mut Rng, count: i64) -> Value {
    let terms = |prefix: &str, named: Vec<String>| [named, vec![format!("{prefix}unused-{count}")]].concat();
    let tags = |named: &[&str]| terms("tags/", named.iter().map(|name| format!("tags/{name}")).collect());
    let sections =
        |named: &[&str]| terms("sections/", named.iter().map(|name| format!("sections/{name}")).collect());
    match rng.between(0, 7) {
        0 => json!({}),
        1 => json!({"kinds": KINDS}),
        2 => json!({"any_tags": terms("tags/", random_names(rng, "tags/t", 3, 4))}),
        3 => json!({"any_tags": tags(&["waiting"])}),
        4 => json!({"any_tags": tags(&["never"])}),
        5 => json!({"sections": sections(&["s2", "never"])}),
        6 => json!({"authors": terms("authors/", vec!["authors/x1".into(), "authors/never".into()])}),
        _ => json!({"any_tags": tags(&["t1", "waiting"]), "sections": sections(&["s1", "s2"])}),
    }
}

/// Returns a message without the data that must differ: the chain of its position, whose length remains, and the
/// unrelated author's name. Returns none if it contained nothing else.
fn normalize(message: &[u8]) -> Option<Vec<u8>> {
    let mut normalized = Vec::new();
    for position in values(message, POSITION) {
        let chain = values(position, CHAIN).concat().len();
        let position =
            [retain_fields(position, |number| number != CHAIN), field(CHAIN, &vec![0; chain])].concat();
        normalized.extend(field(POSITION, &position));
    }
    for number in [CHANGES, SNAPSHOT] {
        for event in values(message, number) {
            assert!(retain_fields(event, |number| number != 1).is_empty());
            let received: Vec<Vec<u8>> = items_of(number, event).collect();
            if received.is_empty() {
                return None;
            }
            normalized.extend(field(number, &received.concat()));
        }
    }
    normalized.extend(retain_fields(message, |number| number > SNAPSHOT));
    Some(normalized)
}

/// Returns the changes or records of an event, each as a field.
fn items_of(number: u32, event: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let others = values(event, 1).into_iter().filter(|one| !names_unrelated(one));
    others.map(move |one| field(1, &if number == CHANGES { as_news(one) } else { one.to_vec() }))
}

fn as_news(change: &[u8]) -> Vec<u8> {
    let kind = retain_fields(change, |number| number == UPDATE_KIND);
    let backfill = [(UPDATE_KIND << 3) as u8, 4];
    let kind = if kind == backfill { vec![backfill[0], 1] } else { kind };
    [retain_fields(change, |number| number != UPDATE_KIND), kind].concat()
}

/// Returns the next message as received.
async fn message(feed: &mut Streaming<Bytes>) -> Bytes {
    let message = tokio::time::timeout(PATIENCE, feed.message()).await;
    message.expect("a feed is not silent for so long").unwrap().expect("a feed does not end with OK")
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
        let message = message(&mut feed).await;
        received.extend(normalize(&message));
        // The checkpoint of a feed that is still behind is not empty.
        if values(&message, CHECKPOINT).iter().any(|at| at.is_empty()) {
            return Ok((feed, received));
        }
    }
}

fn readable(received: &[Vec<u8>]) -> Vec<String> {
    received.iter().map(|one| decode("WatchResponse", one.clone().into()).to_string()).collect()
}

/// One request, followed at both nodes.
pub(super) struct Live {
    request: Value,
    feeds: [Streaming<Bytes>; 2],
}

impl Live {
    async fn open(pair: &Pair, request: Value) -> Live {
        let bytes = request_bytes("Watch", request.clone());
        // A snapshot leaves out what changes while it is read, so it is read before anything is written.
        let (holding, received) = start(&pair.holding, bytes.clone()).await.unwrap();
        let (plain, expected) = start(&pair.plain, bytes).await.unwrap();
        assert_eq!(readable(&received), readable(&expected), "{request}");
        Live { request, feeds: [holding, plain] }
    }

    /// Reads everything up to the marker's newest revision. The division into messages depends on timing, so it is not
    /// compared.
    pub(super) async fn compare(&mut self, marked: i64) {
        let [holding, plain] = &mut self.feeds;
        let (holding, plain) = (read_up_to(holding, marked).await, read_up_to(plain, marked).await);
        assert_eq!(readable(&holding), readable(&plain), "{}", self.request);
        assert!(holding == plain, "{}", self.request);
    }
}

/// Returns each record and change in a message of its own, and the last position.
async fn read_up_to(feed: &mut Streaming<Bytes>, revision: i64) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        let message = message(feed).await;
        for number in [CHANGES, SNAPSHOT] {
            let events = values(&message, number).into_iter();
            all.extend(events.flat_map(|event| items_of(number, event)).map(|one| field(number, &one)));
        }
        if Position::decode(&*values(&message, POSITION).concat()).unwrap().revision >= revision {
            assert!(
                all.last().is_some_and(|last| last.windows(MARKER.len()).any(|at| at == MARKER.as_bytes()))
            );
            let position = normalize(&message).unwrap();
            all.push(retain_fields(&position, |number| number == POSITION));
            return all;
        }
    }
}

/// Restarts the live feeds of both.
pub(super) async fn follow(pair: &mut Pair, rng: &mut Rng) {
    let mut live = Vec::new();
    for mut request in live_requests() {
        if rng.one_in(3) {
            request["snapshot"] = json!(true);
        }
        live.push(Live::open(pair, request).await);
    }
    pair.live = live;
}

/// Compares everything that one start delivers at once at both nodes.
async fn expect_equal(pair: &Pair, request: Value) -> Result<Vec<Vec<u8>>, String> {
    let bytes = request_bytes("Watch", with_backfill(request.clone()));
    let (holding, plain) = tokio::join!(read_all(&pair.holding, bytes.clone()), read_all(&pair.plain, bytes));
    let text = |received: &Result<Vec<Vec<u8>>, String>| {
        received.as_ref().map(|received| readable(received)).map_err(String::clone)
    };
    assert_eq!(text(&holding), text(&plain), "{request}");
    assert!(holding == plain, "{request}");
    holding
}

/// Compares each start, from several positions. The live followers must have received all changes before.
pub(super) async fn compare(pair: &mut Pair, rng: &mut Rng) {
    let status = pair.holding.call("GetStatus", json!({})).await.unwrap();
    let (head, log_id) = (status["head"]["revision"].as_u64().unwrap(), &status["head"]["log_id"]);
    for _ in 0..8 {
        pair.count += 1;
        let filter = random_filter(rng, pair.count);
        // A feed by reference is followed live, and delivered from memory.
        let view = rng.between(2, 3);
        let body_format = if view == 3 { rng.between(0, 4) } else { 0 };
        let request = json!({"filter": filter, "view": view, "body_format": body_format});
        let start = |name: &str, value: Value| {
            let mut request = request.clone();
            request[name] = value;
            request
        };
        let _ = expect_equal(pair, request.clone()).await.unwrap();
        let _ = expect_equal(pair, start("snapshot", json!(true))).await.unwrap();
        for after in [0, rng.between(0, head), rng.between(0, head), head.saturating_sub(3), head] {
            let position = json!({"revision": after, "log_id": log_id});
            let _ = expect_equal(pair, start("after", position)).await;
        }
        let foreign = json!({"revision": rng.between(0, head), "log_id": "00000001"});
        let refused = expect_equal(pair, start("after", foreign.clone())).await.unwrap_err();
        assert!(refused.contains("LOG_CHANGED"), "{refused}");
        let mut resetting = start("after", foreign);
        resetting["allow_reset"] = json!(true);
        let _ = expect_equal(pair, resetting).await.unwrap();
    }
}

/// Checks the positions that no feed can resume from, besides those of another log.
pub(super) async fn refusals(pair: &Pair, rng: &mut Rng) {
    let status = pair.holding.call("GetStatus", json!({})).await.unwrap();
    let head = status["head"]["revision"].as_u64().unwrap();
    let floor = status["oldest_revision"].as_u64().unwrap_or(0);
    let refused = async |position: Value, reason: &str| {
        let request = json!({"filter": {"kinds": KINDS}, "after": position});
        let refused = expect_equal(pair, request).await.unwrap_err();
        assert!(refused.contains(reason), "{refused}");
    };
    refused(json!({"revision": head + 1}), "NOT_CAUGHT_UP").await;
    // Revisions of pending versions are among them. Revision 0 has no chain.
    for _ in 0..20 {
        let revision = rng.between(floor.max(1), head);
        // 32 bytes that belong to no log.
        let chain = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE=";
        refused(json!({"revision": revision, "chain": chain}), "LOG_CHANGED").await;
    }
    for revision in [0, floor / 2, floor.saturating_sub(1)] {
        if revision < floor {
            refused(json!({"revision": revision}), "REVISION_COMPACTED").await;
        }
    }
}

#[test]
fn a_message_about_only_the_unrelated_author_is_dropped() {
    let change = |name: &str| field(1, &field(5, name.as_bytes()));
    let message = |changes: &[Vec<u8>]| field(CHANGES, &changes.concat());
    assert_eq!(normalize(&message(&[change(UNRELATED)])), None);
    assert_eq!(
        normalize(&message(&[change("articles/a"), change(UNRELATED)])),
        Some(message(&[change("articles/a")]))
    );
}
