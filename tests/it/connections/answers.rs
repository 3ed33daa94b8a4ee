//! The status of calls that are too large, too late or unknown.

use bytes::Bytes;
use serde_json::json;
use tonic::Code;
use tonic_types::StatusExt as _;

use super::{
    frames::{EMPTY, LIST_TAGS},
    millis,
    speaker::{Http2Client, framed},
};
use crate::{
    raw::request_bytes,
    support::{Node, article},
};

const WINDOW: u32 = 1 << 20;
const STREAM: &str = "/cable.v1.ContentService/StreamArticles";
const PUT: &str = "/cable.v1.PublishingService/PutArticle";

#[tokio::test]
async fn a_request_above_the_limit_is_refused_with_its_reason() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let client = Http2Client::connect(node.address, WINDOW).await;
    for (path, maximum) in [(LIST_TAGS, 128 << 10), (PUT, 4 << 20)] {
        let (_, status) = client.call(path, &[], framed(&vec![0; maximum + 1])).await;
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!((status.code(), &*info.reason), (Code::InvalidArgument, "LIMIT_EXCEEDED"), "{path}");
        assert_eq!(info.metadata["maximum"], maximum.to_string(), "{path}");
    }
}

#[tokio::test]
async fn a_huge_declared_length_is_refused_before_the_body_arrives() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let client = Http2Client::connect(node.address, WINDOW).await;
    for path in [LIST_TAGS, STREAM, PUT] {
        let mut call = client.start_call(path, &[]).await;
        call.request.send_data(Bytes::from_static(b"\0\xff\xff\xff\xff"), false).unwrap();
        let (_, status) = call.response().await.finish().await;
        let details = status.get_error_details();
        assert_eq!(details.error_info().unwrap().reason, "LIMIT_EXCEEDED", "{path}: {status:?}");
    }
}

#[tokio::test]
async fn a_call_ends_at_its_deadline_in_every_state() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let client = Http2Client::connect(node.address, WINDOW).await;
    let timeout = [("grpc-timeout", "300m")];
    for path in [LIST_TAGS, STREAM, PUT, "/cable.v1.TransferService/Import"] {
        // The request never ends.
        let call = client.start_call(path, &timeout).await;
        let (_, status) = call.response().await.finish().await;
        assert_eq!(status.code(), Code::DeadlineExceeded, "{path}");
    }
    let wait = json!({"freshness": {"at_least_revision": 1_000_000, "max_wait": "10s"}});
    let (_, status) = client.call(LIST_TAGS, &timeout, framed(&request_bytes("ListTags", wait))).await;
    assert_eq!(status.code(), Code::DeadlineExceeded);
    let (_, status) = client.call(LIST_TAGS, &[("grpc-timeout", "10S")], EMPTY.into()).await;
    assert_eq!(status.code(), Code::Ok);
}

#[tokio::test]
async fn a_running_stream_ends_at_its_deadline() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    for at in 0..20 {
        node.client().put(article(&format!("a{at}"), &"x".repeat(1_000), &[])).await.unwrap();
    }
    let client = Http2Client::connect(node.address, 2_000).await;
    let mut call = client.start_call(STREAM, &[("grpc-timeout", "500m")]).await;
    call.request.send_data(EMPTY.into(), true).unwrap();
    let mut response = call.response().await;
    assert!(response.next_chunk().await.is_some(), "the stream sends");
    tokio::time::sleep(millis(700)).await;
    assert_eq!(response.finish().await.1.code(), Code::DeadlineExceeded);
    // A stream of another service, which sends one message and then waits.
    let mut call = client.start_call("/grpc.health.v1.Health/Watch", &[("grpc-timeout", "500m")]).await;
    call.request.send_data(EMPTY.into(), true).unwrap();
    let mut response = call.response().await;
    assert!(response.next_chunk().await.is_some(), "the stream sends");
    assert_eq!(response.finish().await.1.code(), Code::DeadlineExceeded);
}

/// The protocol requires it, so that a client knows that it must not compress.
#[tokio::test]
async fn a_compressed_request_is_refused_with_accepted_encodings() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let client = Http2Client::connect(node.address, WINDOW).await;
    for path in [
        "/cable.v1.ContentService/GetArticle",
        "/cable.v1.ContentService/StreamArticles",
        "/cable.v1.FeedService/Watch",
        "/cable.v1.PublishingService/PutArticle",
        "/cable.v1.StatusService/GetStatus",
        "/cable.v1.TransferService/Export",
        "/grpc.health.v1.Health/Check",
    ] {
        let compressed = bytes::Bytes::from_static(b"\x01\0\0\0\x03abc");
        let (_, status) = client.call(path, &[("grpc-encoding", "gzip")], compressed).await;
        assert_eq!(status.code(), Code::Unimplemented, "{path}: {status}");
        let accepted = status.metadata().get("grpc-accept-encoding");
        assert_eq!(
            accepted.map(|accepted| accepted.as_bytes()),
            Some(&b"identity"[..]),
            "{path}: {status:?}"
        );
    }
}

#[tokio::test]
async fn an_unknown_method_is_unimplemented() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let client = Http2Client::connect(node.address, WINDOW).await;
    for path in ["/cable.v1.ContentService/Nothing", "/cable.v1.Nothing/ListTags", "/", "/ListTags"] {
        let (_, status) = client.call(path, &[], EMPTY.into()).await;
        assert_eq!(status.code(), Code::Unimplemented, "{path}");
    }
}
