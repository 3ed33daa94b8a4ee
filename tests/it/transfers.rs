//! Exports and imports: stores that are moved, and imports that are repeated beside editors.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use bytes::Bytes;
use cable::clock::{Clock, ManualClock};
use cable_client::Timestamp;
use serde_json::{Value, json};

use crate::{
    histories::verify,
    raw::{Raw, encode, field, request_bytes, values},
    support::{Node, article},
};

mod dry_runs;
mod editors;
mod generated;
mod moves;
mod streams;

/// The start of each test: in 2030, seconds since 1970 UTC.
const START: i64 = 1_900_000_000;

/// A node with a clock that the test sets.
struct Store {
    dir: tempfile::TempDir,
    server: Node,
    raw: Raw,
    hands: ManualClock,
}

impl Store {
    async fn open(seconds: i64) -> Store {
        let dir = tempfile::tempdir().unwrap();
        let (clock, hands) = Clock::manual((START + seconds) * 1_000_000);
        let server = Node::start_at(dir.path(), clock).await;
        let raw = Raw::to(&server).await;
        Store { dir, server, raw, hands }
    }

    async fn call(&self, method: &str, request: Value) -> Value {
        self.raw.call(method, request).await.unwrap_or_else(|refused| panic!("{method}: {refused:?}"))
    }

    /// Sets the time and waits until nothing is due.
    async fn advance(&self, seconds: i64) {
        self.hands.set((START + seconds) * 1_000_000);
        while self.has_due(&at(seconds)).await {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    }

    async fn has_due(&self, now: &str) -> bool {
        let pending = self.call("ListPending", json!({"page_size": 1000})).await;
        let live = self.call("ListArticles", json!({"page_size": 1000})).await;
        let is_due = |item: &Value, time: &str| item[time].as_str().is_some_and(|time| time <= now);
        let items = |list: &Value, name: &str| list[name].as_array().cloned().unwrap_or_default();
        items(&pending, "pending")
            .iter()
            .any(|item| item["hold_reason"].is_null() && is_due(item, "due_time"))
            || items(&live, "articles").iter().any(|article| is_due(article, "expire_time"))
    }

    /// Returns the encoded records of an export with pending versions.
    async fn export(&self) -> Vec<Vec<u8>> {
        let request = request_bytes("Export", json!({"include_pending": true}));
        let messages = self.raw.send_bytes("Export", request).await.unwrap();
        messages.iter().flat_map(|message| values(message, 1)).map(<[u8]>::to_vec).collect()
    }

    /// Imports encoded records in chunks. Returns the outcomes.
    async fn import(&self, records: &[Vec<u8>], options: Value) -> Vec<Value> {
        let options = encode("ImportRequest", options);
        let mut results = Vec::new();
        for chunk in records.chunks(50) {
            let records: Vec<u8> = chunk.iter().flat_map(|record| field(2, record)).collect();
            let request = Bytes::from([&records[..], &options[..]].concat());
            let response = self.raw.send("Import", request).await.unwrap().remove(0);
            results.extend(response["results"].as_array().unwrap().clone());
        }
        results
    }

    async fn close(self) {
        self.server.stop().await;
        verify(self.dir.path());
    }
}

/// Returns a time, given in seconds after the start.
fn at(seconds: i64) -> String {
    Timestamp { seconds: START + seconds, nanos: 0 }.to_string()
}

/// Returns the distinct outcomes of records.
fn outcomes(results: &[Value]) -> BTreeSet<&str> {
    results.iter().map(|result| result["outcome"].as_str().unwrap()).collect()
}

/// A client can name a revision that the node has not reached. The records that are written up to it meanwhile must not
/// be mistaken for records that the store lacks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_after_a_revision_of_the_future_is_complete() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let (cable, raw) = (node.client(), Raw::to(&node).await);
    let stop = AtomicBool::new(false);
    let write = async {
        for n in 0.. {
            if stop.load(Relaxed) {
                break;
            }
            cable.put(article(&format!("a{n}"), "Storm", &["sea"])).await.unwrap();
        }
    };
    let export = async {
        for _ in 0..300 {
            let head = cable.status().await.unwrap().head.unwrap().revision;
            for ahead in 1..=3 {
                let request = json!({"after_revision": head + ahead});
                let messages = raw.send("Export", request_bytes("Export", request)).await.unwrap();
                assert!(messages.last().unwrap()["end"].is_object(), "{messages:?}");
            }
        }
        stop.store(true, Relaxed);
    };
    tokio::join!(write, export);
}

/// The chunk is well-formed, and so is each other record.
#[tokio::test]
async fn a_damaged_record_is_refused_alone() {
    let store = Store::open(0).await;
    let tag = |id: &str| {
        encode("Record", json!({"tag": {"name": format!("tags/{id}"), "display_name": id}})).to_vec()
    };
    // The type of a field, the length of the tag, and the length of its name.
    for (at, byte, field) in [(0, 0x27, ""), (1, 0x7f, "record"), (3, 0x7f, "record")] {
        let mut damaged = tag("b");
        damaged[at] = byte;
        let records = [tag(&format!("a{at}")), damaged, tag(&format!("c{at}"))];
        let results = store.import(&records, json!({})).await;
        let outcomes: Vec<_> = results.iter().map(|result| result["outcome"].as_str().unwrap()).collect();
        let expected = ["IMPORT_OUTCOME_WRITTEN", "IMPORT_OUTCOME_REFUSED", "IMPORT_OUTCOME_WRITTEN"];
        assert_eq!(outcomes, expected, "{at}: {results:?}");
        let error = &results[1]["error"];
        assert_eq!(error["reason"], "ERROR_REASON_FIELD_INVALID", "{at}: {error}");
        assert_eq!(error["field"].as_str().unwrap_or_default(), field, "{at}: {error}");
    }
    store.close().await;
}
