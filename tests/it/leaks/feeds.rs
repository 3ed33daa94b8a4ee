//! The feeds of both stores, compared message by message.

use std::time::Duration;

use bytes::Bytes;
use cable_client::Position;
use prost::Message as _;
use serde_json::{Value, json};
use tonic::Streaming;

use super::{Pair, UNRELATED, names_unrelated, some};
use crate::{
    dice::Dice,
    raw::{Raw, all_of, decode, field, keep, request_bytes, values},
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
    filters.into_iter().enumerate().map(request).map(told_alike).collect()
}

/// Requests backfill, for the one necessary difference: a version that becomes visible for the first time was put as
/// news where it was pending, and is imported as a backfill where nothing is pending. Both are requested, and read as
/// news.
fn told_alike(mut request: Value) -> Value {
    request["include_backfill"] = json!(true);
    request["checkpoint_interval"] = json!("300s");
    request
}

/// Returns a filter that no feed has used before, so that the whole feed is read from the store.
fn random_filter(dice: &mut Dice, count: i64) -> Value {
    let terms = |what: &str, named: Vec<String>| [named, vec![format!("{what}unused-{count}")]].concat();
    let tags = |named: &[&str]| terms("tags/", named.iter().map(|name| format!("tags/{name}")).collect());
    let sections =
        |named: &[&str]| terms("sections/", named.iter().map(|name| format!("sections/{name}")).collect());
    match dice.between(0, 7) {
        0 => json!({}),
        1 => json!({"kinds": KINDS}),
        2 => json!({"any_tags": terms("tags/", some(dice, "tags/t", 3, 4))}),
        3 => json!({"any_tags": tags(&["waiting"])}),
        4 => json!({"any_tags": tags(&["never"])}),
        5 => json!({"sections": sections(&["s2", "never"])}),
        6 => json!({"authors": terms("authors/", vec!["authors/x1".into(), "authors/never".into()])}),
        _ => json!({"any_tags": tags(&["t1", "waiting"]), "sections": sections(&["s1", "s2"])}),
    }
}

/// Returns a message without the data that must differ: the chain of its position, whose length remains, and the
/// unrelated author's name. Returns none if it contained nothing else.
fn shown(message: &[u8]) -> Option<Vec<u8>> {
    let mut shown = Vec::new();
    for position in values(message, POSITION) {
        let chain = values(position, CHAIN).concat().len();
        let position = [keep(position, |number| number != CHAIN), field(CHAIN, &vec![0; chain])].concat();
        shown.extend(field(POSITION, &position));
    }
    for number in [CHANGES, SNAPSHOT] {
        for event in values(message, number) {
            assert!(keep(event, |number| number != 1).is_empty());
            let told: Vec<Vec<u8>> = told(number, event).collect();
            if told.is_empty() {
                return None;
            }
            shown.extend(field(number, &told.concat()));
        }
    }
    shown.extend(keep(message, |number| number > SNAPSHOT));
    Some(shown)
}

/// Returns the changes or records of an event, each as a field.
fn told(number: u32, event: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let others = values(event, 1).into_iter().filter(|one| !names_unrelated(one));
    others.map(move |one| field(1, &if number == CHANGES { as_news(one) } else { one.to_vec() }))
}

fn as_news(change: &[u8]) -> Vec<u8> {
    let kind = keep(change, |number| number == UPDATE_KIND);
    let backfill = [(UPDATE_KIND << 3) as u8, 4];
    let kind = if kind == backfill { vec![backfill[0], 1] } else { kind };
    [keep(change, |number| number != UPDATE_KIND), kind].concat()
}

/// Returns the next message as received.
async fn message(feed: &mut Streaming<Bytes>) -> Bytes {
    let message = tokio::time::timeout(PATIENCE, feed.message()).await;
    message.expect("a feed is not silent for so long").unwrap().expect("a feed does not end with OK")
}

/// Returns everything that a new feed delivers at once, or its error.
async fn all(raw: &Raw, request: Bytes) -> Result<Vec<Vec<u8>>, String> {
    let mut feed = raw.stream("Watch", request).await.map_err(|status| all_of(&status))?;
    let mut told = Vec::new();
    loop {
        let message = message(&mut feed).await;
        told.extend(shown(&message));
        // The checkpoint of a feed that is still behind is not empty.
        if values(&message, CHECKPOINT).iter().any(|at| at.is_empty()) {
            return Ok(told);
        }
    }
}

fn readable(told: &[Vec<u8>]) -> Vec<String> {
    told.iter().map(|one| decode("WatchResponse", one.clone().into()).to_string()).collect()
}

/// One request, followed at both nodes.
pub(super) struct Live {
    request: Value,
    feeds: [Streaming<Bytes>; 2],
}

impl Live {
    async fn open(pair: &Pair, request: Value) -> Live {
        let bytes = request_bytes("Watch", request.clone());
        let open = async |raw: &Raw| raw.stream("Watch", bytes.clone()).await.unwrap();
        let feeds = [open(&pair.holding).await, open(&pair.plain).await];
        Live { request, feeds }
    }

    /// Reads everything up to the marker's newest revision. The division into messages depends on timing, so it is not
    /// compared.
    pub(super) async fn compare(&mut self, marked: i64) {
        let [holding, plain] = &mut self.feeds;
        let (holding, plain) = (up_to(holding, marked).await, up_to(plain, marked).await);
        assert_eq!(readable(&holding), readable(&plain), "{}", self.request);
        assert!(holding == plain, "{}", self.request);
    }
}

/// Returns each record and change in a message of its own, and the last position.
async fn up_to(feed: &mut Streaming<Bytes>, revision: i64) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        let message = message(feed).await;
        for number in [CHANGES, SNAPSHOT] {
            let events = values(&message, number).into_iter();
            all.extend(events.flat_map(|event| told(number, event)).map(|one| field(number, &one)));
        }
        if Position::decode(&*values(&message, POSITION).concat()).unwrap().revision >= revision {
            assert!(
                all.last().is_some_and(|last| last.windows(MARKER.len()).any(|at| at == MARKER.as_bytes()))
            );
            let position = shown(&message).unwrap();
            all.push(keep(&position, |number| number == POSITION));
            return all;
        }
    }
}

/// Restarts the live feeds of both.
pub(super) async fn follow(pair: &mut Pair, dice: &mut Dice) {
    let mut live = Vec::new();
    for mut request in live_requests() {
        if dice.one_in(3) {
            request["snapshot"] = json!(true);
        }
        live.push(Live::open(pair, request).await);
    }
    pair.live = live;
}

/// Compares everything that one start delivers at once at both nodes.
async fn alike(pair: &Pair, request: Value) -> Result<Vec<Vec<u8>>, String> {
    let bytes = request_bytes("Watch", told_alike(request.clone()));
    let (holding, plain) = tokio::join!(all(&pair.holding, bytes.clone()), all(&pair.plain, bytes));
    let text =
        |told: &Result<Vec<Vec<u8>>, String>| told.as_ref().map(|told| readable(told)).map_err(String::clone);
    assert_eq!(text(&holding), text(&plain), "{request}");
    assert!(holding == plain, "{request}");
    holding
}

/// Compares each start, from several positions. The live followers must have received all changes before.
pub(super) async fn compare(pair: &mut Pair, dice: &mut Dice) {
    let status = pair.holding.call("GetStatus", json!({})).await.unwrap();
    let (head, log_id) = (status["head"]["revision"].as_u64().unwrap(), &status["head"]["log_id"]);
    for _ in 0..8 {
        pair.count += 1;
        let filter = random_filter(dice, pair.count);
        // A feed by reference is followed live, and delivered from memory.
        let view = dice.between(2, 3);
        let body_format = if view == 3 { dice.between(0, 4) } else { 0 };
        let request = json!({"filter": filter, "view": view, "body_format": body_format});
        let start = |name: &str, value: Value| {
            let mut request = request.clone();
            request[name] = value;
            request
        };
        let _ = alike(pair, request.clone()).await.unwrap();
        let _ = alike(pair, start("snapshot", json!(true))).await.unwrap();
        for after in [0, dice.between(0, head), dice.between(0, head), head.saturating_sub(3), head] {
            let position = json!({"revision": after, "log_id": log_id});
            let _ = alike(pair, start("after", position)).await;
        }
        let foreign = json!({"revision": dice.between(0, head), "log_id": "00000001"});
        let refused = alike(pair, start("after", foreign.clone())).await.unwrap_err();
        assert!(refused.contains("LOG_CHANGED"), "{refused}");
        let mut resetting = start("after", foreign);
        resetting["reset"] = json!(true);
        let _ = alike(pair, resetting).await.unwrap();
    }
}

/// Checks the positions that no feed can resume from, besides those of another log.
pub(super) async fn refusals(pair: &Pair, dice: &mut Dice) {
    let status = pair.holding.call("GetStatus", json!({})).await.unwrap();
    let head = status["head"]["revision"].as_u64().unwrap();
    let floor = status["floor_revision"].as_u64().unwrap_or(0);
    let refused = async |position: Value, reason: &str| {
        let request = json!({"filter": {"kinds": KINDS}, "after": position});
        let refused = alike(pair, request).await.unwrap_err();
        assert!(refused.contains(reason), "{refused}");
    };
    refused(json!({"revision": head + 1}), "NOT_CAUGHT_UP").await;
    // Revisions of pending versions are among them. Revision 0 has no chain.
    for _ in 0..20 {
        let revision = dice.between(floor.max(1), head);
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
fn a_message_that_only_names_the_unrelated_author_is_left_out_whole() {
    let change = |name: &str| field(1, &field(5, name.as_bytes()));
    let message = |changes: &[Vec<u8>]| field(CHANGES, &changes.concat());
    assert_eq!(shown(&message(&[change(UNRELATED)])), None);
    assert_eq!(
        shown(&message(&[change("articles/a"), change(UNRELATED)])),
        Some(message(&[change("articles/a")]))
    );
}
