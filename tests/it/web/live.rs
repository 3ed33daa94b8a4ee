//! The live feed over HTTP: its events are the messages of a Watch, and a browser resumes it.

use std::{collections::VecDeque, net::SocketAddr};

use bytes::Bytes;
use cable::{
    auth::{Anonymous, CredentialFile, NewCredential, Role},
    clock::Clock,
};
use cable_client::v1::ArticleFilter;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::client::{Response, get, get_with, head, parse, request};
use crate::{
    connections::soon,
    raw::{Raw, request_bytes},
    support::Node,
};

/// An event as a browser receives it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Event {
    pub(crate) kind: String,
    pub(crate) data: Value,
    /// The id that the browser knows after the event, if the event has changed it.
    pub(crate) id: Option<String>,
}

/// A stream of events over HTTP/1.1, read by the rules of the HTML standard.
pub(crate) struct Events {
    io: TcpStream,
    head: String,
    /// Bytes of the stream that are not chunked any more, up to an incomplete event.
    text: String,
    chunks: Vec<u8>,
    events: VecDeque<Event>,
    /// The last id, which a browser sends when it connects again.
    last_id: Option<String>,
    is_over: bool,
}

impl Events {
    async fn open(address: SocketAddr, target: &str, headers: &[(&str, &str)]) -> Events {
        let opened = Events::try_open(address, target, headers).await;
        opened.unwrap_or_else(|refused| panic!("{target}: {refused:?}"))
    }

    /// Starts a feed. Returns the response if that is not a stream.
    pub(crate) async fn try_open(
        address: SocketAddr,
        target: &str,
        headers: &[(&str, &str)],
    ) -> Result<Events, Response> {
        let mut io = soon(TcpStream::connect(address)).await.unwrap();
        io.write_all(&head("GET", target, headers)).await.unwrap();
        let mut chunks = Vec::new();
        let end = loop {
            if let Some(end) = chunks.windows(4).position(|window: &[u8]| window == b"\r\n\r\n") {
                break end;
            }
            assert_ne!(soon(io.read_buf(&mut chunks)).await.unwrap(), 0);
        };
        let head = String::from_utf8(chunks[..end].to_vec()).unwrap();
        if !head.starts_with("HTTP/1.1 200") {
            soon(io.read_to_end(&mut chunks)).await.unwrap();
            return Err(parse("GET", &chunks));
        }
        chunks.drain(..end + 4);
        let (text, events) = (String::new(), VecDeque::new());
        Ok(Events { io, head, text, chunks, events, last_id: None, is_over: false })
    }

    /// Returns the status and the headers, without the time of the machine.
    pub(crate) fn headers(&self) -> Vec<String> {
        let lines = self.head.lines().filter(|line| !line.to_ascii_lowercase().starts_with("date:"));
        lines.map(str::to_owned).collect()
    }

    /// Returns the next event; None at the end of the stream.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            if self.is_over {
                return None;
            }
            if !self.take_chunk() {
                let read = soon(self.io.read_buf(&mut self.chunks)).await.unwrap();
                assert_ne!(read, 0, "the connection closed within the response");
            }
        }
    }

    /// Returns the next event that is not a checkpoint; None at the end of the stream.
    async fn next_after_checkpoints(&mut self) -> Option<Event> {
        loop {
            match self.next().await {
                Some(event) if event.kind == "checkpoint" => {}
                next => return next,
            }
        }
    }

    async fn next_change(&mut self) -> Event {
        self.next_after_checkpoints().await.expect("the stream continues")
    }

    /// Waits for a checkpoint: everything before it has arrived.
    async fn catch_up(&mut self) {
        while self.next().await.expect("the stream continues").kind != "checkpoint" {}
    }

    fn take_chunk(&mut self) -> bool {
        let Some(end) = self.chunks.windows(2).position(|window| window == b"\r\n") else { return false };
        let length = usize::from_str_radix(std::str::from_utf8(&self.chunks[..end]).unwrap(), 16).unwrap();
        if self.chunks.len() < end + 2 + length + 2 {
            return false;
        }
        self.is_over = length == 0;
        self.text.push_str(std::str::from_utf8(&self.chunks[end + 2..end + 2 + length]).unwrap());
        self.chunks.drain(..end + 2 + length + 2);
        while let Some(end) = self.text.find("\n\n") {
            let block: String = self.text.drain(..end + 2).collect();
            self.take_event(&block);
        }
        true
    }

    fn take_event(&mut self, block: &str) {
        let (mut kind, mut data, mut id) = ("message".to_owned(), None, None);
        for line in block.lines().filter(|line| !line.is_empty()) {
            let (field, value) = line.split_once(": ").unwrap_or_else(|| panic!("{line}"));
            match field {
                "event" => kind = value.to_owned(),
                "data" => assert_eq!(data.replace(serde_json::from_str(value).unwrap()), None),
                "id" => id = Some(value.to_owned()),
                "retry" => assert!(value.parse::<u64>().is_ok()),
                other => panic!("{other}"),
            }
        }
        self.last_id = id.clone().or(self.last_id.take());
        self.events.extend(data.map(|data| Event { kind, data, id }));
    }
}

/// Returns a message of a Watch as the event that it is over HTTP.
fn event_of(response: &Value) -> Event {
    let position = response.get("position").map(|position| {
        let chain = position["chain"].as_str().map(decode_base64);
        let hex: Option<String> = chain.map(|chain| chain.iter().map(|byte| format!("{byte:02x}")).collect());
        let revision = position.get("revision").and_then(Value::as_str).unwrap_or("0");
        let parts = [position["logId"].as_str().unwrap().to_owned(), revision.to_owned()];
        parts.into_iter().chain(hex).collect::<Vec<_>>().join(":")
    });
    let (field, data) = response.as_object().unwrap().iter().find(|(field, _)| *field != "position").unwrap();
    let kind = if field == "snapshotEnd" { "snapshot_end" } else { field };
    Event { kind: kind.to_owned(), data: data.clone(), id: position }
}

/// Returns the canonical JSON of a WatchResponse.
fn canonical(response: Bytes) -> Value {
    let pool = DescriptorPool::decode(cable_proto::DESCRIPTORS).unwrap();
    let descriptor = pool.get_message_by_name("cable.v1.WatchResponse").unwrap();
    let message = DynamicMessage::decode(descriptor, response).unwrap();
    message.serialize_with_options(serde_json::value::Serializer, &SerializeOptions::new()).unwrap()
}

fn decode_base64(text: &str) -> Vec<u8> {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    BASE64_STANDARD.decode(text).unwrap()
}

/// Returns the messages of a Watch up to a checkpoint, without checkpoints.
async fn watch(raw: &Raw, request: Value) -> Vec<Event> {
    let mut stream = raw.stream("Watch", request_bytes("Watch", request)).await.unwrap();
    let mut events = Vec::new();
    loop {
        let message = soon(stream.message()).await.unwrap().expect("the feed continues");
        let event = event_of(&canonical(message));
        match &event.kind[..] {
            "checkpoint" => return events,
            _ => events.push(event),
        }
    }
}

/// Returns the events of a stream up to a checkpoint, without checkpoints.
async fn events(address: SocketAddr, target: &str, headers: &[(&str, &str)]) -> Vec<Event> {
    let mut stream = Events::open(address, target, headers).await;
    let mut events = Vec::new();
    loop {
        let event = stream.next().await.expect("the feed continues");
        match &event.kind[..] {
            "checkpoint" => return events,
            _ => events.push(event),
        }
    }
}

/// Returns the reason of an error in JSON.
fn reason(error: &Value) -> &str {
    let mut details = error["details"].as_array().unwrap().iter();
    details.find_map(|detail| detail["reason"].as_str()).unwrap()
}

async fn put(raw: &Raw, id: &str, headline: &str, tags: &[&str]) {
    let tags: Vec<_> = tags.iter().map(|tag| format!("tags/{tag}")).collect();
    let body = json!({"blocks": [{"paragraph": {"spans": [{"text": "a \"line\"\nanother\u{2028}"}]}}]});
    let article = json!({"name": format!("articles/{id}"), "headline": headline, "tags": tags, "body": body});
    raw.call("PutArticle", json!({"article": article})).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_events_are_the_messages_of_a_watch() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let raw = Raw::to(&node).await;
    raw.call("PutTag", json!({"tag": {"name": "tags/a", "displayName": "A"}})).await.unwrap();
    put(&raw, "one", "One", &["a"]).await;
    put(&raw, "two", "Two: data: x", &["a", "b"]).await;
    put(&raw, "three", "Three", &["b"]).await;
    let mut live = Events::open(node.address, "/v1/feed?tag=a&view=full&interval=1", &[]).await;
    assert!(live.head.contains("content-type: text/event-stream"), "{}", live.head);
    assert!(live.head.contains("cache-control: no-store"), "{}", live.head);
    live.catch_up().await;
    let request = json!({"filter": {"anyTags": ["tags/a"]}, "view": "ARTICLE_VIEW_FULL"});
    let mut stream = raw.stream("Watch", request_bytes("Watch", request)).await.unwrap();
    soon(stream.message()).await.unwrap().unwrap();

    put(&raw, "one", "One more", &["a"]).await;
    put(&raw, "two", "Two", &["b"]).await;
    put(&raw, "three", "Three", &["a"]).await;
    raw.call("RemoveArticle", json!({"name": "articles/one", "reason": "REMOVAL_REASON_WITHDRAWN"}))
        .await
        .unwrap();
    let changes = [("four", "a"), ("five", "a"), ("six", "b")].map(|(id, tag)| {
        let name = format!("articles/{id}");
        json!({"putArticle": {"name": name, "headline": id, "tags": [format!("tags/{tag}")]}})
    });
    raw.call("Commit", json!({"changes": changes})).await.unwrap();
    let mut seen = 0;
    while seen < 5 {
        let message = soon(stream.message()).await.unwrap().unwrap();
        let expected = event_of(&canonical(message));
        if expected.kind != "checkpoint" {
            assert_eq!(live.next_change().await, expected);
            seen += 1;
        }
    }

    for (query, request) in [
        ("snapshot=true", json!({"snapshot": true})),
        ("snapshot=true&tag=a,b", json!({"snapshot": true, "filter": {"anyTags": ["tags/a", "tags/b"]}})),
        ("snapshot=true&kind=tag", json!({"snapshot": true, "filter": {"kinds": ["ENTITY_KIND_TAG"]}})),
        ("after=0", json!({"after": {"revision": 0}})),
        (
            "after=3&view=full&body=html&backfill=true",
            json!({
                "after": {"revision": 3}, "view": "ARTICLE_VIEW_FULL", "bodyFormat": "BODY_FORMAT_HTML",
                "includeBackfill": true,
            }),
        ),
    ] {
        let (events, expected) =
            (events(node.address, &format!("/v1/feed?{query}"), &[]).await, watch(&raw, request).await);
        assert!(!expected.is_empty(), "{query}");
        assert_eq!(events, expected, "{query}");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_connects_again_misses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let raw = Raw::to(&node).await;
    let mut stream = Events::open(node.address, "/v1/feed?tag=a&snapshot=true", &[]).await;
    let mut received = Vec::new();
    stream.catch_up().await;
    for number in 0..12 {
        put(&raw, &format!("a{number}"), "Storm", &["a"]).await;
        if number % 3 == 2 {
            // The connection is lost while the change is under way.
            let id = stream.last_id.clone().unwrap();
            drop(stream);
            let headers = [("last-event-id", &id[..])];
            stream = Events::open(node.address, "/v1/feed?tag=a&snapshot=true", &headers).await;
        }
        let wanted = if number % 3 == 1 { 0 } else { number + 1 };
        while received.len() < wanted {
            let event = stream.next_change().await;
            assert_eq!(event.kind, "changes");
            let changes = event.data["changes"].as_array().unwrap();
            received.extend(changes.iter().map(|change| change["upsert"]["article"]["name"].clone()));
        }
    }
    let expected: Vec<_> = (0..12).map(|number| json!(format!("articles/a{number}"))).collect();
    assert_eq!(received, expected);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_that_cannot_start_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    for (target, status, expected) in [
        ("/v1/feed?tags=a", 400, "FIELD_INVALID"),
        ("/v1/feed?tag=a%20b", 400, "FIELD_INVALID"),
        ("/v1/feed?interval=0", 400, "FIELD_INVALID"),
        ("/v1/feed?after=00000000:0", 400, "LOG_CHANGED"),
        ("/v1/feed?after=99", 503, "NOT_CAUGHT_UP"),
    ] {
        let refused = get(node.address, target).await;
        assert_eq!((refused.status, reason(&refused.json())), (status, expected), "{target}");
        assert_eq!(refused.header("cache-control"), "no-store", "{target}");
    }
    let fields = get(node.address, "/v1/feed?tag=a%20b").await.json();
    assert!(fields.to_string().contains(r#""field":"tag""#), "{fields}");
    for method in ["POST", "PUT"] {
        let refused = request(node.address, method, "/v1/feed", &[]).await;
        assert_eq!((refused.status, refused.header("allow")), (405, "GET, HEAD"), "{method}");
    }
    for (target, status) in [("/v1/feed", 200), ("/v1/feed?snapshot=true", 200), ("/v1/feed?tags=a", 400)] {
        let head = request(node.address, "HEAD", target, &[]).await;
        assert_eq!((head.status, head.body.len()), (status, 0), "{target}");
        let kind = if status == 200 { "text/event-stream" } else { "application/json" };
        assert_eq!(head.header("content-type"), kind, "{target}");
    }
    let two = [("last-event-id", "0000000a:1"), ("last-event-id", "0000000a:2")];
    let refused = get_with(node.address, "/v1/feed", &two).await;
    assert_eq!(refused.status, 400);
    assert!(refused.text().contains(r#""field":"last-event-id""#), "{}", refused.text());
    let reset = events(node.address, "/v1/feed?after=00000000:0&reset=true", &[]).await;
    assert_eq!(reset[0].kind, "reset");
    assert_eq!(reset[0].data, json!({"reason": "FEED_RESET_REASON_LOG_CHANGED"}));

    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_that_ends_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start_with(dir.path(), |config| config.feed.max_open = 1).await;
    let mut open = Events::open(node.address, "/v1/feed", &[]).await;
    open.catch_up().await;
    let full = get(node.address, "/v1/feed").await;
    assert_eq!((full.status, reason(&full.json())), (429, "TOO_MANY_FEEDS"));
    let (_, ended) = tokio::join!(node.stop(), open.next_after_checkpoints());
    let ended = ended.expect("an event before the end");
    assert_eq!((&ended.kind[..], reason(&ended.data)), ("failed", "DRAINING"));
    assert_eq!(open.next().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_has_the_rights_of_its_caller() {
    let dir = tempfile::tempdir().unwrap();
    let file = CredentialFile::new(dir.path().join("credentials.toml"));
    let token = |name: &str, role, filter: Option<ArticleFilter>| {
        let new = NewCredential { name: name.to_owned(), role, filter, lifetime: None, certificate: None };
        let secret = file.create(new, Clock::system().now()).unwrap().unwrap();
        format!("Bearer {}", secret.expose())
    };
    let only_a = ArticleFilter { all_tags: vec!["tags/a".to_owned()], ..Default::default() };
    let [publisher, reader, partner] = [
        token("publisher", Role::Publisher, None),
        token("reader", Role::Reader, None),
        token("partner", Role::Reader, Some(only_a)),
    ];
    let node = Node::start_with(dir.path(), |config| {
        config.auth.anonymous = Anonymous::Nothing;
        config.rate.failures_per_minute = 0;
    })
    .await;
    for wrong in [&[][..], &[("authorization", "Bearer wrong")]] {
        let refused = get_with(node.address, "/v1/feed", wrong).await;
        assert_eq!((refused.status, reason(&refused.json())), (401, "UNAUTHENTICATED"));
    }
    let raw = Raw::to(&node).await.with_authorization(&publisher);
    put(&raw, "seen", "Seen", &["a"]).await;
    put(&raw, "hidden", "Hidden", &["b"]).await;
    let partner = [("authorization", &partner[..])];
    let seen = events(node.address, "/v1/feed?kind=article&snapshot=true", &partner).await;
    let text = serde_json::to_string(&seen.iter().map(|event| &event.data).collect::<Vec<_>>()).unwrap();
    assert!(text.contains("articles/seen") && !text.contains("hidden"), "{text}");

    let mut stream =
        Events::open(node.address, "/v1/feed?interval=1", &[("authorization", &reader[..])]).await;
    stream.catch_up().await;
    file.revoke("reader").unwrap();
    let ended = stream.next_change().await;
    assert_eq!((&ended.kind[..], reason(&ended.data)), ("failed", "UNAUTHENTICATED"));
    node.stop().await;
}
