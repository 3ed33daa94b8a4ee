//! Requests that are never complete.

use bytes::Bytes;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::{
    frames::{EMPTY, LIST_TAGS},
    millis,
    program::Program,
    speaker::{Http2Client, framed},
};
use crate::support::Node;

const WINDOW: u32 = 1 << 20;
const PUT: &str = "/cable.v1.PublishingService/PutArticle";
const IMPORT: &str = "/cable.v1.TransferService/Import";
const CHECK: &str = "/grpc.health.v1.Health/Check";
const HEALTH: &str = "/grpc.health.v1.Health/Watch";
const REFLECTION: [&str; 2] = [
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];
/// A request for the list of services.
const LIST_SERVICES: &[u8] = &[0x3a, 0];

#[tokio::test]
async fn an_unfinished_request_times_out_on_every_service() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start_with(dir.path(), |config| config.connections.request_timeout = millis(400)).await;
    let client = Http2Client::connect(node.address, WINDOW).await;
    let watch = "/cable.v1.FeedService/Watch";
    let status = "/cable.v1.StatusService/GetStatus";
    let export = "/cable.v1.TransferService/Export";
    let mut open = Vec::new();
    for first in [&b""[..], b"\0\0", b"\0\0\0\0\x09abc"] {
        for path in
            [LIST_TAGS, PUT, watch, status, export, IMPORT, CHECK, HEALTH, REFLECTION[0], REFLECTION[1]]
        {
            let mut call = client.start_call(path, &[]).await;
            call.request.send_data(Bytes::from_static(first), false).unwrap();
            open.push((path, call));
        }
    }
    for (path, call) in open {
        let (_, status) = call.response().await.finish().await;
        // tonic's reflection ends a stream that fails without a reason.
        let expected = if path.ends_with("Info") { Code::Ok } else { Code::DeadlineExceeded };
        assert_eq!(status.code(), expected, "{path}: {status:?}");
    }
}

#[tokio::test]
async fn a_client_stream_that_pauses_too_long_is_ended() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start_with(dir.path(), |config| config.connections.request_timeout = millis(600)).await;
    let client = Http2Client::connect(node.address, WINDOW).await;
    for path in REFLECTION {
        let mut call = client.start_call(path, &[]).await;
        for _ in 0..4 {
            call.request.send_data(framed(LIST_SERVICES), false).unwrap();
            tokio::time::sleep(millis(300)).await;
        }
        let mut response = call.response().await;
        assert!(response.next_chunk().await.is_some(), "each message restarts its time limit");
        response.finish().await;
    }
}

#[tokio::test]
async fn a_health_check_request_is_limited_to_4_kib() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let client = Http2Client::connect(node.address, WINDOW).await;
    for path in [CHECK, HEALTH] {
        let (_, status) = client.call(path, &[], framed(&vec![0; (4 << 10) + 1])).await;
        let details = status.get_error_details();
        let info = details.error_info().unwrap_or_else(|| panic!("{path}: {status:?}"));
        assert_eq!((status.code(), &*info.reason), (Code::InvalidArgument, "LIMIT_EXCEEDED"), "{path}");
        assert_eq!((&*info.metadata["limit"], &*info.metadata["maximum"]), ("check_request_bytes", "4096"));
    }
    let (_, status) = client.call(CHECK, &[], EMPTY.into()).await;
    assert_eq!(status.code(), Code::Ok);
}

/// The node would need 120 MB if it accepted all of them.
#[tokio::test]
async fn partial_messages_of_a_connection_share_one_limit() {
    let dir = tempfile::tempdir().unwrap();
    let program = Program::start(dir.path(), "true", &[]);
    let client = Http2Client::connect(program.address, WINDOW).await;
    client.call(LIST_TAGS, &[], EMPTY.into()).await;
    let before = program.memory("VmRSS");
    for path in [PUT, IMPORT, REFLECTION[0]] {
        let message = framed(&vec![0x0a; 2 << 20]);
        let mut open = Vec::new();
        for _ in 0..60 {
            let mut call = client.start_call(path, &[]).await;
            // Reflection rejects it immediately.
            let _ = call.request.send_data(message.slice(..message.len() - 1), false);
            open.push(call);
        }
        tokio::time::sleep(millis(1_500)).await;
        let grown = program.memory("VmRSS").saturating_sub(before);
        assert!(grown < 40 << 10, "{path}: {grown} KB more");
    }
    let other = Http2Client::connect(program.address, WINDOW).await;
    let (_, status) = other.call(LIST_TAGS, &[], EMPTY.into()).await;
    assert_eq!(status.code(), Code::Ok);
}

/// Each request completes in the end: a request that waits does not block one that is being read.
#[tokio::test]
async fn many_concurrent_large_requests_are_all_read() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let client = Http2Client::connect(node.address, WINDOW).await;
    let message = framed(&vec![0x0a; 400_000]);
    let mut open = Vec::new();
    for _ in 0..60 {
        let mut call = client.start_call(PUT, &[]).await;
        call.request.send_data(message.clone(), true).unwrap();
        open.push(call);
    }
    for call in open {
        let (_, status) = call.response().await.finish().await;
        assert_eq!(status.code(), Code::InvalidArgument, "read and rejected: {status:?}");
    }
}

#[tokio::test]
async fn imports_and_reflection_streams_are_limited_per_node() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let client = Http2Client::connect(node.address, WINDOW).await;
    for (path, limit) in [(IMPORT, 8), (REFLECTION[0], 64)] {
        let mut open = Vec::new();
        for _ in 0..limit {
            open.push(client.start_call(path, &[]).await.response().await);
        }
        let (_, status) = client.start_call(path, &[]).await.response().await.finish().await;
        let details = status.get_error_details();
        assert_eq!(
            (status.code(), &*details.error_info().unwrap().reason),
            (Code::Unavailable, "OVERLOADED")
        );
        assert!(details.retry_info().is_some(), "{path}");
        drop(open.pop());
        // That stream is reset, and its permit is free.
        for _ in 0..100 {
            let call = client.start_call(path, &[]).await.response().await;
            if Status::from_header_map(&call.headers).is_none() {
                open.push(call);
                break;
            }
            tokio::time::sleep(millis(20)).await;
        }
        assert_eq!(open.len(), limit, "{path}");
    }
}
