//! Calls that their client resets: in each state, the node drops the call.

use std::time::Instant;

use serde_json::{Value, json};

use super::{
    places::{free_address, metrics_contain_soon},
    speaker::{Http2Client, OpenCall, framed},
};
use crate::{
    raw::{Raw, request_bytes},
    support::{Node, article, body},
};

/// The window of the client: far less than the response of a stream.
const WINDOW: u32 = 1 << 10;
const ROUNDS: usize = 10;

/// How much of its request a call has sent when it is reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    All,
    /// All of a message, but more could follow.
    Open,
    /// A part of a message.
    Part,
}

/// The service and the method of each call, its request, and how much of that is sent: streams in progress, a call that
/// waits for a revision, and requests that are not complete, each of a method that is served in another way.
fn calls() -> Vec<(&'static str, &'static str, Value, Sent)> {
    let waits = json!({"name": "tags/t", "freshness": {"at_least_revision": 1_000_000, "max_wait": "10s"}});
    let put = json!({"article": {"name": "articles/b", "headline": "Quay"}});
    let record = json!({"records": [{"tag": {"name": "tags/u", "display_name": "U"}}]});
    vec![
        ("ContentService", "StreamArticles", json!({"view": 3}), Sent::All),
        ("TransferService", "Export", json!({}), Sent::All),
        ("FeedService", "Watch", json!({"snapshot": true, "view": 3, "filter": {}}), Sent::All),
        ("FeedService", "Watch", json!({"filter": {"any_tags": ["tags/quiet"]}}), Sent::All),
        ("ContentService", "GetTag", waits, Sent::All),
        ("ContentService", "GetTag", json!({"name": "tags/t"}), Sent::Part),
        ("FeedService", "Watch", json!({"snapshot": true, "filter": {}}), Sent::Part),
        ("PublishingService", "PutArticle", put, Sent::Part),
        ("TransferService", "Import", record.clone(), Sent::Part),
        ("TransferService", "Import", record, Sent::Open),
    ]
}

async fn start(client: &Http2Client, path: &str, request: &[u8], sent: Sent) -> OpenCall {
    let mut call = client.start_call(path, &[]).await;
    let request = framed(request);
    let length = if sent == Sent::Part { request.len() - 1 } else { request.len() };
    call.request.send_data(request.slice(..length), sent == Sent::All).unwrap();
    call
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_reset_ends_in_every_state() {
    let (dir, ops) = (tempfile::tempdir().unwrap(), free_address().await);
    let node = Node::start_with(dir.path(), |config| config.server.ops_listen = Some(ops)).await;
    let (cable, raw) = (node.client(), Raw::to(&node).await);
    for n in 0..20 {
        let mut long = article(&format!("a{n}"), "Tide", &["sea"]);
        long.body = Some(body(&"The ferry did not sail. ".repeat(8_000)));
        cable.put(long).await.unwrap();
    }
    for (service, method, request, sent) in calls() {
        let path = format!("/cable.v1.{service}/{method}");
        let in_flight = |count: u32| {
            let line = format!("cable_rpc_in_flight{{method=\"{}\"}} {count}", path.trim_start_matches('/'));
            metrics_contain_soon(ops, line)
        };
        let request = request_bytes(method, request);
        let mut longest = std::time::Duration::ZERO;
        for _ in 0..ROUNDS {
            let client = Http2Client::connect(node.address, WINDOW).await;
            let call = start(&client, &path, &request, sent).await;
            in_flight(1).await;
            let start = Instant::now();
            // This resets the stream; the connection stays open.
            drop(call);
            in_flight(0).await;
            longest = longest.max(start.elapsed());
            assert_eq!(
                client.call("/cable.v1.StatusService/GetStatus", &[], framed(&[])).await.1.code(),
                tonic::Code::Ok
            );
        }
        println!("{method} {sent:?}: gone at most {longest:?} after its reset");
    }
    // Nothing of the requests that were not complete has happened.
    assert!(raw.call("GetArticle", json!({"name": "articles/b"})).await.is_err());
    node.stop().await;
}
