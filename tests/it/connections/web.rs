//! Calls of browsers: gRPC-Web over HTTP/2 and over HTTP/1.1.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{
    frames::{EMPTY, LIST_TAGS},
    millis, soon,
    speaker::Http2Client,
};
use crate::support::Node;

const WEB: (&str, &str) = ("content-type", "application/grpc-web+proto");

/// Returns whether the status of gRPC-Web is OK. It is a message of its own kind at the end of the response.
fn is_ok(response: &[u8]) -> bool {
    let found = |bytes: &[u8]| response.windows(bytes.len()).any(|window| window == bytes);
    found(b"grpc-status:0") && found(&[0x80, 0, 0, 0])
}

fn head(length: usize) -> Vec<u8> {
    let (name, value) = WEB;
    format!(
        "POST {LIST_TAGS} HTTP/1.1\r\nhost: localhost\r\n{name}: {value}\r\ncontent-length: {length}\r\n\r\n"
    )
    .into_bytes()
}

/// Reads a chunked response to its end.
async fn read_response(io: &mut TcpStream) -> Vec<u8> {
    let mut read = Vec::new();
    while !read.ends_with(b"\r\n0\r\n\r\n") {
        assert_ne!(soon(io.read_buf(&mut read)).await.unwrap(), 0, "{}", String::from_utf8_lossy(&read));
    }
    read
}

#[tokio::test]
async fn a_browser_is_served_over_http_2_and_over_http_1() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let client = Http2Client::connect(node.address, 1 << 20).await;
    let mut call = client.start_call(LIST_TAGS, &[WEB]).await;
    call.request.send_data(EMPTY.into(), true).unwrap();
    let response = call.response().await;
    assert_eq!(response.headers["content-type"], WEB.1);
    assert!(is_ok(&response.finish().await.0));

    let mut io = soon(TcpStream::connect(node.address)).await.unwrap();
    for _ in 0..2 {
        io.write_all(&[&head(EMPTY.len()), EMPTY].concat()).await.unwrap();
        let response = read_response(&mut io).await;
        assert!(
            response.starts_with(b"HTTP/1.1 200") && is_ok(&response),
            "{}",
            String::from_utf8_lossy(&response)
        );
    }
}

#[tokio::test]
async fn oversized_headers_are_refused_over_http_1() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    for (bytes, status) in [(15 << 10, "HTTP/1.1 200"), (17 << 10, "HTTP/1.1 431")] {
        let mut io = soon(TcpStream::connect(node.address)).await.unwrap();
        let large = "x".repeat(bytes);
        let head =
            format!("GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nx-large: {large}\r\n\r\n");
        io.write_all(head.as_bytes()).await.unwrap();
        let mut response = Vec::new();
        soon(io.read_to_end(&mut response)).await.unwrap();
        assert!(response.starts_with(status.as_bytes()), "{}", String::from_utf8_lossy(&response));
    }
}

#[tokio::test]
async fn an_http_1_connection_is_idle_only_after_its_call_ends() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start_with(dir.path(), |config| {
        config.connections.idle_timeout = millis(300);
        config.connections.goaway_grace = millis(300);
    })
    .await;
    let mut io = soon(TcpStream::connect(node.address)).await.unwrap();
    io.write_all(&head(EMPTY.len())).await.unwrap();
    tokio::time::sleep(millis(2_000)).await;
    io.write_all(EMPTY).await.unwrap();
    assert!(is_ok(&read_response(&mut io).await));
    assert_eq!(soon(io.read(&mut [0])).await.unwrap(), 0, "the connection is closed");
}
