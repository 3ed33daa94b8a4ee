//! Responses that no client reads.

use std::{net::SocketAddr, path::Path};

use bytes::Bytes;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpSocket,
};

use super::{
    frames::{DATA, EMPTY, HEADERS, LIST_TAGS, Peer, RST_STREAM, SETTINGS, WINDOW, WINDOW_UPDATE, frame},
    millis, soon,
    speaker::framed,
};
use crate::{
    raw::request_bytes,
    support::{Node, article, body},
};

const INITIAL_WINDOW_SIZE: u16 = 4;
const CANCEL: u32 = 8;
const BATCH: &str = "/cable.v1.ContentService/BatchGetArticles";
const WATCH: &str = "/cable.v1.FeedService/Watch";

/// Starts a node with one article of 60 KB, where a response may stall for 600 ms.
async fn node(dir: &Path) -> Node {
    let node = Node::start_with(dir, |config| config.connections.progress_timeout = millis(600)).await;
    let mut long = article("long", "Long", &["t"]);
    long.body = Some(body(&"y".repeat(60_000)));
    node.client().put(long).await.unwrap();
    node
}

/// Returns a request for the article `times` times, with `times` times 60 KB. Each request has a different other name,
/// so that each response is composed.
fn batch(times: usize, other: usize) -> Bytes {
    let mut names = vec!["articles/long".to_owned(); times];
    names.push(format!("articles/absent-{other}"));
    framed(&request_bytes("BatchGetArticles", json!({"names": names, "view": "ARTICLE_VIEW_FULL"})))
}

fn update(stream: u32, bytes: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes())
}

#[tokio::test]
async fn an_unread_response_of_any_method_is_reset() {
    let dir = tempfile::tempdir().unwrap();
    let node = &node(dir.path()).await;
    let list_services = framed(&[0x3a, 0]);
    let full = framed(&request_bytes("StreamArticles", json!({"view": "ARTICLE_VIEW_FULL"})));
    let snapshot = framed(&request_bytes("Watch", json!({"snapshot": true, "view": "ARTICLE_VIEW_FULL"})));
    let calls: [(&str, Bytes); 10] = [
        (LIST_TAGS, Bytes::from_static(EMPTY)),
        (BATCH, batch(1, 0)),
        (BATCH, batch(30, 0)),
        ("/cable.v1.ContentService/StreamArticles", full),
        (WATCH, snapshot),
        ("/cable.v1.StatusService/GetStatus", Bytes::from_static(EMPTY)),
        ("/cable.v1.TransferService/Export", Bytes::from_static(EMPTY)),
        ("/grpc.health.v1.Health/Check", Bytes::from_static(EMPTY)),
        ("/grpc.health.v1.Health/Watch", Bytes::from_static(EMPTY)),
        ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", list_services),
    ];
    // Nothing fits one of the windows, and a part fits the other.
    let stalls = [0, 10_000].into_iter().flat_map(|window| {
        calls.iter().map(move |(path, request)| stall(node.address, window, path, request))
    });
    futures_util::future::join_all(stalls).await;
}

/// Makes a call and reads nothing. The call is reset, or its response fits; the connection stays open in any case.
async fn stall(address: SocketAddr, window: u32, path: &str, request: &[u8]) {
    let mut peer = Peer::handshake(address, &[(INITIAL_WINDOW_SIZE, window)]).await;
    peer.open(1, path).await;
    peer.finish(1, request).await;
    let large = path == WATCH || ["Articles", "Export"].iter().any(|end| path.ends_with(end));
    let endless = path.ends_with("Health/Watch");
    if window == 0 || large {
        let reset = peer.expect(RST_STREAM).await;
        assert_eq!((reset.stream, reset.code()), (1, CANCEL), "{path}");
    } else if !endless {
        peer.read_response(1).await;
    }
    peer.write(&frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0])).await;
    peer.call(3).await;
}

/// Documents and files over HTTP/2. A small read now and then shows that the connection is alive, but not that the peer
/// reads the documents.
#[tokio::test]
async fn an_unread_document_is_reset() {
    let dir = tempfile::tempdir().unwrap();
    let node = node(dir.path()).await;
    for path in ["/v1/articles/long", "/room.js"] {
        for window in [0, 10_000] {
            let mut peer = Peer::handshake(node.address, &[(INITIAL_WINDOW_SIZE, window)]).await;
            peer.get(1, path).await;
            let mut resets = Vec::new();
            for stream in (3..23).step_by(2) {
                tokio::time::sleep(millis(200)).await;
                peer.open(stream, LIST_TAGS).await;
                peer.finish(stream, EMPTY).await;
                peer.write(&update(stream, 1_000)).await;
                while let Some(frame) = peer.next().await {
                    resets.extend((frame.kind == RST_STREAM).then(|| (frame.stream, frame.code())));
                    if frame.stream == stream && frame.ends_stream() {
                        break;
                    }
                }
            }
            assert_eq!(resets, [(1, CANCEL)], "{path} {window}");
        }
    }
}

/// A response of a call, a document and a file.
#[tokio::test]
async fn a_slow_reader_is_not_disconnected() {
    let dir = tempfile::tempdir().unwrap();
    let node = node(dir.path()).await;
    for path in [BATCH, "/v1/articles/long", "/room.js"] {
        let mut peer = Peer::handshake(node.address, &[(INITIAL_WINDOW_SIZE, 0)]).await;
        if path == BATCH {
            peer.open(1, BATCH).await;
            peer.finish(1, &batch(2, 0)).await;
        } else {
            peer.get(1, path).await;
        }
        // Three times as long as a response may stall without progress.
        for _ in 0..20 {
            peer.write(&update(1, 100)).await;
            tokio::time::sleep(millis(100)).await;
        }
        peer.write(&update(1, WINDOW / 2)).await;
        peer.write(&update(0, WINDOW / 2)).await;
        assert!(peer.read_response(1).await > 60_000, "{path}");
    }
}

/// Small responses that were handed over completely, with their last bytes stuck: no stream is left to reset.
#[tokio::test]
async fn a_connection_that_reads_nothing_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let node = node(dir.path()).await;
    let mut peer = Peer::handshake(node.address, &[(INITIAL_WINDOW_SIZE, 3)]).await;
    for stream in [1, 3, 5] {
        peer.open(stream, LIST_TAGS).await;
        peer.finish(stream, EMPTY).await;
    }
    soon(peer.wait_for_close()).await;
}

#[tokio::test]
async fn calls_above_the_response_limit_wait_for_their_reader() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let mut long = article("long", "Long", &[]);
    long.body = Some(body(&"y".repeat(60_000)));
    node.client().put(long).await.unwrap();
    let mut peer = Peer::handshake(node.address, &[(INITIAL_WINDOW_SIZE, 0)]).await;
    // 14 MB in total.
    let streams: Vec<u32> = (0..8).map(|at| 2 * at + 1).collect();
    for stream in &streams {
        peer.open(*stream, BATCH).await;
        peer.finish(*stream, &batch(30, *stream as usize)).await;
    }
    // Two responses fit. Of the others, not even the headers are sent.
    for _ in 0..2 {
        peer.expect(HEADERS).await;
    }
    assert!(super::is_still_pending(peer.expect(HEADERS)).await);
    peer.write(&update(0, WINDOW / 2)).await;
    for stream in &streams {
        peer.write(&update(*stream, WINDOW / 2)).await;
    }
    let (mut bytes, mut ended) = (0, 0);
    while ended < streams.len() {
        let frame = peer.next().await.expect("the connection stays open");
        assert_ne!(frame.kind, RST_STREAM);
        bytes += if frame.kind == DATA { frame.payload.len() } else { 0 };
        ended += usize::from(frame.ends_stream());
    }
    assert!(bytes > 8 * 30 * 60_000, "{bytes}");
}

#[tokio::test]
async fn a_browser_connection_that_reads_nothing_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let node = node(dir.path()).await;
    for kind in ["application/grpc-web", "application/grpc-web-text"] {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4_096).unwrap();
        let mut io = soon(socket.connect(node.address)).await.unwrap();
        let request = batch(50, 0);
        let text = base64(&request);
        let request = if kind.ends_with("text") { text.as_bytes() } else { &request[..] };
        let head = format!(
            "POST {BATCH} HTTP/1.1\r\nhost: localhost\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n",
            request.len()
        );
        // More than the system buffers for a reader that does not read.
        for _ in 0..6 {
            io.write_all(&[head.as_bytes(), request].concat()).await.unwrap();
        }
        tokio::time::sleep(millis(4_000)).await;
        let mut read = Vec::new();
        let _reset_or_closed = soon(io.read_to_end(&mut read)).await;
        assert!(read.len() < 6 * 50 * 60_000, "{kind}: {} bytes", read.len());
    }
}

/// A small response was sent before on the same connection, and is not what the node waits for.
#[tokio::test]
async fn a_slow_upload_after_a_small_response_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let node = node(dir.path()).await;
    let mut io = soon(tokio::net::TcpStream::connect(node.address)).await.unwrap();
    io.write_all(b"GET /v1/articles/absent HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let request = batch(1, 0);
    let head = format!(
        "POST {BATCH} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/grpc-web\r\n\
         content-length: {}\r\n\r\n",
        request.len()
    );
    let (first, last) = request.split_at(request.len() / 2);
    io.write_all(&[head.as_bytes(), first].concat()).await.unwrap();
    tokio::time::sleep(millis(2_500)).await;
    io.write_all(last).await.unwrap();
    let mut read = Vec::new();
    soon(io.read_to_end(&mut read)).await.unwrap();
    assert!(read.len() > 60_000, "{}", String::from_utf8_lossy(&read));
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
