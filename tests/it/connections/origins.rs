//! Requests that web pages can make, and requests that are not calls.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{
    frames::{EMPTY, END_HEADERS, END_STREAM, HEADERS, LIST_TAGS, Peer, frame, literal},
    soon,
};
use crate::support::Node;

const WEB: &str = "application/grpc-web+proto";

/// Makes one request over HTTP/1.1. Returns the whole response.
async fn request_http1(node: &Node, method: &str, lines: &[(&str, &str)], body: &[u8]) -> String {
    let mut io = soon(TcpStream::connect(node.address)).await.unwrap();
    let lines: String = lines.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head = format!("{method} {LIST_TAGS} HTTP/1.1\r\n{lines}content-length: {}\r\n", body.len());
    io.write_all(&[head.as_bytes(), b"connection: close\r\n\r\n", body].concat()).await.unwrap();
    let mut response = Vec::new();
    soon(io.read_to_end(&mut response)).await.unwrap();
    String::from_utf8_lossy(&response).into_owned()
}

fn status(response: &str) -> &str {
    response.split(' ').nth(1).unwrap_or_default()
}

/// Returns the status of one request over HTTP/2. The status must be in HPACK's static table, or be written out.
async fn request_http2(node: &Node, authority: &str, headers: &[(&str, &str)]) -> String {
    let fields: Vec<_> = [(":authority", authority)].iter().chain(headers).copied().collect();
    post_http2(node, &fields).await
}

/// As `request_http2`, with `:authority` only if it is one of the fields.
async fn post_http2(node: &Node, fields: &[(&str, &str)]) -> String {
    let mut peer = Peer::handshake(node.address, &[]).await;
    let mut block = vec![0x83, 0x86];
    for (name, value) in [(":path", LIST_TAGS)].iter().chain(fields) {
        literal(&mut block, name, value);
    }
    peer.write(&frame(HEADERS, END_HEADERS, 1, &block)).await;
    peer.write(&frame(0, END_STREAM, 1, EMPTY)).await;
    let payload = peer.expect(HEADERS).await.payload;
    match payload[0] {
        0x88 => "200".to_owned(),
        0x8c => "400".to_owned(),
        // The value of `:status` is Huffman-coded or plain. The three digits are found by trying.
        _ => ["403", "405", "415", "421"]
            .into_iter()
            .find(|code| contains_status(&payload, code))
            .unwrap_or("other")
            .to_owned(),
    }
}

/// Digits have five or six bits in the code of RFC 7541: 0 1 2 are 0 to 2, 3 to 9 are 25 to 31.
fn contains_status(payload: &[u8], status: &str) -> bool {
    let (mut bits, mut length) = (0_u32, 0);
    for digit in status.bytes().map(|digit| u32::from(digit - b'0')) {
        let (code, width) = if digit < 3 { (digit, 5) } else { (digit + 22, 6) };
        (bits, length) = (bits << width | code, length + width);
    }
    let padding = (8 - length % 8) % 8;
    let coded = (bits << padding | ((1 << padding) - 1)).to_be_bytes();
    let coded = &coded[4 - (length + padding) as usize / 8..];
    let found = |bytes: &[u8]| payload.windows(bytes.len()).any(|window| window == bytes);
    found(coded) || found(status.as_bytes())
}

#[tokio::test]
async fn a_page_needs_the_nodes_own_host_or_an_allowed_origin() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start_with(dir.path(), |config| {
        config.web.origins = vec!["https://desk.example".to_owned()];
    })
    .await;
    let own = node.address.to_string();
    let itself = format!("http://{own}");
    for (host, origin, expected) in [
        ("localhost", None, "200"),
        (&own[..], None, "200"),
        (&own, Some(&itself[..]), "200"),
        (&own, Some("https://desk.example"), "200"),
        ("desk.example", Some("https://desk.example"), "200"),
        ("evil.example", None, "421"),
        ("evil.example", Some("http://evil.example"), "421"),
        ("localhost", Some("http://evil.example"), "403"),
        ("localhost", Some("null"), "403"),
    ] {
        let origin = origin.map(|origin| ("origin", origin));
        let headers: Vec<_> = [("content-type", WEB)].into_iter().chain(origin).collect();
        for method in ["POST", "GET", "OPTIONS"] {
            let lines: Vec<_> = [("host", host)].iter().chain(&headers).copied().collect();
            let response = request_http1(&node, method, &lines, EMPTY).await;
            let expected = if expected == "200" && method != "POST" { "405" } else { expected };
            assert_eq!(status(&response), expected, "{method} {host} {origin:?}: {response}");
        }
        assert_eq!(request_http2(&node, host, &headers).await, expected, "{host} {origin:?}");
    }
    // A page from another origin is one regardless of the content type.
    let native = [("content-type", "application/grpc"), ("origin", "http://evil.example")];
    assert_eq!(request_http2(&node, "localhost", &native).await, "403");
    // No page can send this request. A client may use any authority, as proxies do.
    assert_eq!(request_http2(&node, "cable.example", &[("content-type", "application/grpc")]).await, "200");
}

/// Sends a head over HTTP/1. Returns the whole response.
async fn send_head(node: &Node, head: &str) -> String {
    let mut io = soon(TcpStream::connect(node.address)).await.unwrap();
    io.write_all(head.as_bytes()).await.unwrap();
    let mut response = Vec::new();
    soon(io.read_to_end(&mut response)).await.unwrap();
    String::from_utf8(response).unwrap()
}

#[tokio::test]
async fn a_request_over_http1_names_its_host_once() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    for (line, hosts, expected, field) in [
        ("GET /v1/tags HTTP/1.1", &["localhost"][..], "200", ""),
        ("GET /v1/tags HTTP/1.0", &[], "200", ""),
        ("GET http://localhost/v1/tags HTTP/1.1", &["127.0.0.1"], "200", ""),
        ("GET /v1/tags HTTP/1.1", &[], "400", "Host"),
        ("GET http://localhost/v1/tags HTTP/1.1", &[], "400", "Host"),
        ("GET /v1/feed HTTP/1.1", &[], "400", "Host"),
        ("GET / HTTP/1.1", &[], "400", "Host"),
        ("POST /cable.v1.ContentService/ListTags HTTP/1.1", &[], "400", "Host"),
        ("GET /v1/tags HTTP/1.1", &["localhost", "localhost"], "400", "Host"),
        ("GET /v1/tags HTTP/1.0", &["localhost", "127.0.0.1"], "400", "Host"),
        ("GET /v1/tags HTTP/1.1", &[""], "400", "Host"),
        ("GET /v1/tags HTTP/1.1", &["localhost:x"], "400", "Host"),
        ("GET /v1/tags HTTP/1.1", &["ida@localhost"], "400", "Host"),
        ("GET /v1/tags HTTP/1.1", &["localhost/v1"], "400", "Host"),
        ("GET http://ida@localhost/v1/tags HTTP/1.1", &["localhost"], "400", "request target"),
        ("GET localhost:80 HTTP/1.1", &["localhost"], "400", "request target"),
        ("GET http://evil.example/v1/tags HTTP/1.1", &["localhost"], "421", ""),
        // A whole address replaces Host (RFC 9112, 3.2.2).
        ("GET http://localhost/v1/tags HTTP/1.1", &["evil.example"], "200", ""),
    ] {
        let hosts_lines: String = hosts.iter().map(|host| format!("host: {host}\r\n")).collect();
        let response = send_head(&node, &format!("{line}\r\n{hosts_lines}connection: close\r\n\r\n")).await;
        assert_eq!(status(&response), expected, "{line} {hosts:?}: {response}");
        if expected == "400" {
            let (head, body) = response.split_once("\r\n\r\n").unwrap();
            assert!(head.contains("content-type: application/json\r\n"), "{head}");
            assert!(head.contains("cache-control: no-store\r\n"), "{head}");
            let error: serde_json::Value = serde_json::from_str(body).unwrap();
            let details = error["details"].as_array().unwrap();
            let violations = details.iter().find_map(|detail| detail["fieldViolations"].as_array()).unwrap();
            assert_eq!(
                (error["code"].as_i64(), violations[0]["field"].as_str()),
                (Some(3), Some(field)),
                "{body}"
            );
        }
    }
    let head = send_head(&node, "HEAD /v1/tags HTTP/1.1\r\nconnection: close\r\n\r\n").await;
    assert!(status(&head) == "400" && head.ends_with("\r\n\r\n"), "{head}");
    // A connection survives the error, and its next request is served.
    let twice =
        "GET /v1/tags HTTP/1.1\r\n\r\nGET /v1/tags HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let both = send_head(&node, twice).await;
    assert!(both.starts_with("HTTP/1.1 400 ") && both.contains("HTTP/1.1 200 "), "{both}");
    node.stop().await;
}

#[tokio::test]
async fn a_request_over_http2_names_its_host_once() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    for (fields, web, native) in [
        (&[(":authority", "localhost")][..], "200", "200"),
        (&[(":authority", "localhost"), ("host", "localhost")], "200", "200"),
        // Some clients of gRPC send `host` alone. No page can send a native call, so it may name any host.
        (&[("host", "localhost")], "200", "200"),
        (&[("host", "cable.example")], "421", "200"),
        (&[], "400", "400"),
        (&[("host", "")], "400", "400"),
        (&[("host", "localhost"), ("host", "localhost")], "400", "400"),
        // gRPC ignores `host` beside `:authority`.
        (&[(":authority", "localhost"), ("host", "127.0.0.1")], "400", "200"),
        (&[(":authority", "localhost"), ("host", "localhost"), ("host", "localhost")], "400", "200"),
    ] {
        for (kind, expected) in [(WEB, web), ("application/grpc", native)] {
            let fields: Vec<_> = fields.iter().chain(&[("content-type", kind)]).copied().collect();
            assert_eq!(post_http2(&node, &fields).await, expected, "{fields:?}");
        }
    }
    node.stop().await;
}

#[tokio::test]
async fn a_page_of_an_allowed_origin_may_read_responses() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start_with(dir.path(), |config| {
        config.web.origins = vec!["https://desk.example".to_owned()];
    })
    .await;
    let page = [("host", "localhost"), ("origin", "https://desk.example")];
    let preflight = [("access-control-request-method", "POST")];
    let lines: Vec<_> = page.iter().chain(&preflight).copied().collect();
    let response = request_http1(&node, "OPTIONS", &lines, b"").await;
    assert_eq!(status(&response), "204", "{response}");
    assert!(response.contains("access-control-allow-origin: https://desk.example\r\n"), "{response}");
    assert!(response.contains("access-control-allow-headers: content-type, x-grpc-web"), "{response}");
    let lines: Vec<_> = page.iter().chain(&[("content-type", WEB)]).copied().collect();
    let response = request_http1(&node, "POST", &lines, EMPTY).await;
    assert!(response.contains("access-control-allow-origin: https://desk.example\r\n"), "{response}");
    assert!(response.contains("access-control-expose-headers: grpc-status"), "{response}");
    let response = request_http1(&node, "POST", &[("host", "localhost"), ("content-type", WEB)], EMPTY).await;
    assert!(!response.contains("access-control"), "{response}");
}

#[tokio::test]
async fn requests_that_are_not_calls_receive_http_statuses() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    for kind in ["application/json", "application/grpcish", "text/plain", "application/grpc-web+json", ""] {
        let response =
            request_http1(&node, "POST", &[("host", "localhost"), ("content-type", kind)], EMPTY).await;
        assert_eq!(status(&response), "415", "{kind}: {response}");
        assert_eq!(request_http2(&node, "localhost", &[("content-type", kind)]).await, "415", "{kind}");
    }
    assert_eq!(request_http2(&node, "localhost", &[]).await, "415");
    let native =
        request_http1(&node, "POST", &[("host", "localhost"), ("content-type", "application/grpc")], EMPTY)
            .await;
    assert_eq!(status(&native), "415", "{native}");
    for method in ["GET", "PUT", "DELETE", "OPTIONS", "BREW"] {
        let response =
            request_http1(&node, method, &[("host", "localhost"), ("content-type", WEB)], EMPTY).await;
        assert!(status(&response) == "405" && response.contains("allow: POST\r\n"), "{method}: {response}");
    }
}

#[tokio::test]
async fn a_body_that_is_not_base64_is_an_invalid_argument() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    for body in [&b"!!!!!!!!"[..], b"AAAAAAA", b"AAAA=AAA", "é".as_bytes()] {
        let lines = [("host", "localhost"), ("content-type", "application/grpc-web-text")];
        let response = request_http1(&node, "POST", &lines, body).await;
        assert!(response.contains("grpc-status: 3\r\n"), "{response}");
        assert!(response.contains("base64") || response.contains("incomplete%20message"), "{response}");
    }
}
