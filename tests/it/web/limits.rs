//! Bounds: large requests, large documents, and clients that do not read.

use std::time::Duration;

use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::client::{Http2, get, head, parse};
use crate::{connections::soon, raw::Raw, support::Node};

/// Puts an article whose JSON is many times as large as the article: each mark takes a byte, and its name 18 in JSON.
async fn put_large(raw: &Raw, id: &str, marks: usize) {
    let span = json!({"text": "a", "marks": vec![0; marks]});
    let article = json!({
        "name": format!("articles/{id}"), "headline": id, "tags": ["tags/t"],
        "body": {"blocks": [{"paragraph": {"spans": [span]}}]},
    });
    raw.call("PutArticle", json!({"article": article})).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_as_large_as_its_head_may_be() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let http2 = Http2::connect(node.address).await;
    let tags = |count: usize| (0..count).map(|number| format!("t{number}")).collect::<Vec<_>>().join(",");
    let (few, many) = (tags(64), tags(2_000));
    assert_eq!(get(node.address, &format!("/v1/articles?tag={few}")).await.status, 200);
    let large = format!("/v1/articles?tag={many}");
    let refused = get(node.address, &large).await;
    assert_eq!((refused.status, &refused.reason()[..]), (400, "LIMIT_EXCEEDED"));
    assert_eq!(http2.request("GET", &large, &[]).await.status, 400);
    let huge = format!("/v1/articles?tag={}", "x".repeat(20_000));
    let status = get(node.address, &huge).await.status;
    assert!([414, 431].contains(&status), "{status}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_document_is_served_in_pieces_and_a_too_large_one_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let raw = Raw::to(&node).await;
    put_large(&raw, "large", 500_000).await;
    let over_1 = get(node.address, "/v1/articles/large").await;
    assert_eq!(over_1.status, 200, "{}", over_1.text());
    assert!(over_1.body.len() > 9_000_000, "{}", over_1.body.len());
    assert_eq!(over_1.header("content-length"), over_1.body.len().to_string());
    let marks = over_1.json()["article"]["body"]["blocks"][0]["paragraph"]["spans"][0]["marks"].clone();
    assert_eq!(marks.as_array().unwrap().len(), 500_000);
    let over_2 = Http2::connect(node.address).await.request("GET", "/v1/articles/large", &[]).await;
    assert_eq!(over_2.body, over_1.body);
    put_large(&raw, "larger", 1_000_000).await;
    let refused = get(node.address, "/v1/articles/larger").await;
    assert_eq!((refused.status, &refused.reason()[..]), (400, "LIMIT_EXCEEDED"));
    assert_eq!(refused.json()["details"][0]["metadata"]["limit"], "json_response_bytes");
    assert_eq!(get(node.address, "/v1/articles/larger?view=basic").await.status, 200);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_is_disconnected_and_others_are_served() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start_with(dir.path(), |config| {
        config.connections.progress_timeout = Duration::from_millis(500);
    })
    .await;
    let raw = Raw::to(&node).await;
    put_large(&raw, "large", 800_000).await;
    let whole = get(node.address, "/v1/articles/large").await;
    let mut stalled = Vec::new();
    for _ in 0..8 {
        let mut io = soon(TcpStream::connect(node.address)).await.unwrap();
        io.write_all(&head("GET", "/v1/articles/large", &[])).await.unwrap();
        stalled.push(io);
    }
    assert_eq!(get(node.address, "/v1/articles/large?view=basic").await.status, 200);
    tokio::time::sleep(Duration::from_secs(3)).await;
    for mut io in stalled {
        let mut received = Vec::new();
        // The connection ends early, with an error or without.
        drop(soon(io.read_to_end(&mut received)).await);
        assert!(received.len() < whole.body.len(), "{}", received.len());
    }
    // A client that reads slowly is no such client.
    let mut io = soon(TcpStream::connect(node.address)).await.unwrap();
    io.write_all(&head("GET", "/v1/articles/large", &[])).await.unwrap();
    let (mut received, mut piece) = (Vec::new(), vec![0; 1 << 20]);
    loop {
        let read = soon(io.read(&mut piece)).await.unwrap();
        if read == 0 {
            break;
        }
        received.extend_from_slice(&piece[..read]);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(parse("GET", &received).body, whole.body);
    node.stop().await;
}
