//! A client of the web outputs, over HTTP/1.1 and over HTTP/2.

use std::{collections::BTreeMap, net::SocketAddr};

use bytes::Bytes;
use http::{HeaderMap, Request};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{connections::soon, support::Node};

/// A response, without the time at which it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    fn new(status: u16, headers: impl IntoIterator<Item = (String, String)>, body: Vec<u8>) -> Response {
        // HTTP/1.1 adds the date of the machine, and the state of the connection.
        let headers =
            headers.into_iter().filter(|(name, _)| !["date", "connection"].contains(&name.as_str()));
        Response { status, headers: headers.collect(), body }
    }

    fn of(status: u16, headers: &HeaderMap, body: Vec<u8>) -> Response {
        let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let mut all = BTreeMap::<String, String>::new();
        for (name, value) in headers {
            let known = all.entry(name.to_string()).or_default();
            *known = if known.is_empty() { text(value) } else { format!("{known}, {}", text(value)) };
        }
        Response::new(status, all, body)
    }

    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name}: {self:?}"))
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{}", self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Returns the seconds for which a public cache may reuse the response.
    #[track_caller]
    pub(crate) fn max_age(&self) -> i64 {
        let value = self.header("cache-control");
        value.strip_prefix("public, max-age=").unwrap_or_else(|| panic!("{value}")).parse().unwrap()
    }

    /// Returns the part of an error that clients decide by.
    #[track_caller]
    pub(crate) fn reason(&self) -> String {
        let body = self.json();
        let mut details = body["details"].as_array().unwrap_or_else(|| panic!("{body}")).iter();
        let info = details.find(|detail| detail["@type"].as_str().unwrap().ends_with("ErrorInfo"));
        info.unwrap_or_else(|| panic!("{body}"))["reason"].as_str().unwrap().to_owned()
    }
}

/// Two nodes that must respond alike, each with the token of its caller, if it sends one.
pub(crate) struct Twins(pub(crate) [(SocketAddr, Option<String>); 2]);

impl Twins {
    pub(crate) fn anonymous(nodes: [&Node; 2]) -> Twins {
        Twins(nodes.map(|node| (node.address, None)))
    }

    /// Makes a GET to both. Panics unless the responses are the same: status, headers and body.
    pub(crate) async fn expect_equal(&self, target: &str, headers: &[(&str, &str)]) -> Response {
        let mut responses = Vec::new();
        for (address, token) in &self.0 {
            let token = token.as_ref().map(|token| format!("Bearer {token}"));
            let headers: Vec<_> = headers
                .iter()
                .copied()
                .chain(token.iter().map(|token| ("authorization", &token[..])))
                .collect();
            responses.push(get_with(*address, target, &headers).await);
        }
        let describe = |response: &Response| (response.headers.clone(), response.text());
        assert_eq!(describe(&responses[0]), describe(&responses[1]), "{target}");
        assert_eq!(responses[0], responses[1], "{target}");
        responses.remove(0)
    }

    /// Makes a GET to both, and another one with the etag of the response.
    pub(crate) async fn expect_equal_twice(&self, target: &str) -> Response {
        let response = self.expect_equal(target, &[]).await;
        if let Some(etag) = response.headers.get("etag") {
            let current = self.expect_equal(target, &[("if-none-match", etag)]).await;
            // In the last second before the horizon there is no 304.
            assert!(current.status == 304 || current.max_age() == 0, "{target}: {current:?}");
        }
        response
    }

    /// Follows a listing to its end.
    pub(crate) async fn expect_equal_pages(&self, target: &str) -> Vec<Response> {
        let (mut pages, mut token) = (Vec::new(), String::new());
        loop {
            let separator = if target.contains('?') { '&' } else { '?' };
            let page = self.expect_equal_twice(&format!("{target}{separator}page_token={token}")).await;
            assert_eq!(page.status, 200, "{target} {}", page.text());
            let next = page.json()["nextPageToken"].as_str().map(str::to_owned);
            pages.push(page);
            match next {
                Some(next) => token = next.replace('+', "%2B").replace('=', "%3D"),
                None => return pages,
            }
        }
    }
}

/// Makes a GET over HTTP/1.1.
pub(crate) async fn get(address: SocketAddr, target: &str) -> Response {
    get_with(address, target, &[]).await
}

/// Makes a GET with headers.
pub(crate) async fn get_with(address: SocketAddr, target: &str, headers: &[(&str, &str)]) -> Response {
    request(address, "GET", target, headers).await
}

/// Makes a request without a body over HTTP/1.1.
pub(crate) async fn request(
    address: SocketAddr,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
) -> Response {
    let mut io = soon(TcpStream::connect(address)).await.unwrap();
    io.write_all(&head(method, target, headers)).await.unwrap();
    let mut all = Vec::new();
    soon(io.read_to_end(&mut all)).await.unwrap();
    parse(method, &all)
}

/// Returns the head of a request after which the connection closes.
pub(crate) fn head(method: &str, target: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let host = if headers.iter().any(|(name, _)| *name == "host") { "" } else { "host: localhost\r\n" };
    let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("{method} {target} HTTP/1.1\r\n{host}{lines}connection: close\r\n\r\n").into_bytes()
}

/// Parses a whole response. Its body must have the length that the headers state.
pub(crate) fn parse(method: &str, response: &[u8]) -> Response {
    let end = response.windows(4).position(|window| window == b"\r\n\r\n");
    let end = end.unwrap_or_else(|| panic!("no head: {}", String::from_utf8_lossy(response)));
    let (head, body) = (std::str::from_utf8(&response[..end]).unwrap(), &response[end + 4..]);
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let fields = lines.map(|line| {
        let (name, value) = line.split_once(": ").unwrap();
        (name.to_ascii_lowercase(), value.to_owned())
    });
    let mut all = BTreeMap::<String, String>::new();
    for (name, value) in fields {
        let known = all.entry(name).or_default();
        *known = if known.is_empty() { value } else { format!("{known}, {value}") };
    }
    let mut body = body.to_vec();
    if all.get("transfer-encoding").is_some_and(|coding| coding == "chunked") {
        all.remove("transfer-encoding");
        body = dechunk(&body);
    }
    let length = all.get("content-length").map(|length| length.parse::<usize>().unwrap());
    match (method, status) {
        ("HEAD", _) | (_, 304) => assert!(body.is_empty(), "{head}"),
        _ => assert!(length.is_none_or(|length| length == body.len()), "{head}"),
    }
    Response::new(status, all, body)
}

fn dechunk(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|window| window == b"\r\n").unwrap();
        let length = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        if length == 0 {
            return body;
        }
        body.extend_from_slice(&rest[end + 2..end + 2 + length]);
        rest = &rest[end + 2 + length + 2..];
    }
}

/// A connection over HTTP/2.
pub(crate) struct Http2(h2::client::SendRequest<Bytes>);

impl Http2 {
    pub(crate) async fn connect(address: SocketAddr) -> Http2 {
        let io = soon(TcpStream::connect(address)).await.unwrap();
        let (client, connection) = h2::client::handshake(io).await.unwrap();
        tokio::spawn(async move { drop(connection.await) });
        Http2(client)
    }

    /// Makes a request without a body.
    pub(crate) async fn request(&self, method: &str, target: &str, headers: &[(&str, &str)]) -> Response {
        let mut request = Request::builder().method(method).uri(format!("http://localhost{target}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut client = self.0.clone().ready().await.unwrap();
        let (response, _) = client.send_request(request.body(()).unwrap(), true).unwrap();
        let (head, mut body) = soon(response).await.unwrap().into_parts();
        let mut received = Vec::new();
        while let Some(data) = soon(body.data()).await {
            let data = data.unwrap();
            body.flow_control().release_capacity(data.len()).unwrap();
            received.extend_from_slice(&data);
        }
        Response::of(head.status.as_u16(), &head.headers, received)
    }
}
