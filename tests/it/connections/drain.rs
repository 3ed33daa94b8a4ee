//! Connections while the node stops.

use std::net::SocketAddr;

use bytes::Bytes;
use http::Request;
use serde_json::json;
use tokio::{net::TcpStream, sync::watch, time::Instant};
use tonic::Code;

use super::{
    frames::{DATA, EMPTY, GOAWAY, LIST_TAGS, PREFACE, Peer},
    is_still_pending, millis, soon,
    speaker::{Http2Client, framed},
};
use crate::{
    raw::request_bytes,
    support::{Node, article},
};

const IMPORT: &str = "/cable.v1.TransferService/Import";
const WATCH: &str = "/cable.v1.FeedService/Watch";
const HEALTH: &str = "/grpc.health.v1.Health/Watch";
const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";

#[tokio::test]
async fn a_stopping_node_sends_goaway_and_completes_calls() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start_with(dir.path(), |config| config.server.drain_timeout = millis(60_000)).await;
    let mut peer = Peer::handshake(node.address, &[]).await;
    let mut idle = Peer::handshake(node.address, &[]).await;
    peer.open(1, LIST_TAGS).await;
    // Both are known to the node before it stops.
    peer.call(3).await;
    idle.call(1).await;
    let mut stopped = tokio::spawn(node.stop());
    assert_eq!(idle.expect(GOAWAY).await.code(), 0);
    idle.wait_for_close().await;
    assert_eq!(peer.expect(GOAWAY).await.code(), 0);
    assert!(is_still_pending(&mut stopped).await, "a call is in flight");
    peer.finish(1, EMPTY).await;
    assert!(peer.read_response(1).await > EMPTY.len());
    peer.wait_for_close().await;
    soon(stopped).await.unwrap();
}

#[tokio::test]
async fn no_connection_delays_a_stop_beyond_the_drain_timeout() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start_with(dir.path(), |config| {
        config.server.drain_timeout = millis(300);
        config.connections.preface_timeout = millis(60_000);
    })
    .await;
    let _silent = Peer::connect(node.address).await;
    let mut half = Peer::connect(node.address).await;
    half.write(&PREFACE[..12]).await;
    let mut open = Peer::handshake(node.address, &[]).await;
    open.open(1, LIST_TAGS).await;
    open.call(3).await;
    let mut web = Peer::connect(node.address).await;
    web.write(b"POST /cable.v1.ContentService/ListTags HTTP/1.1\r\nhost: localhost\r\n").await;
    soon(node.stop()).await;
    open.expect(GOAWAY).await;
    open.wait_for_close().await;
}

/// The grace period of the old connection is longer than the node's drain timeout.
#[tokio::test]
async fn an_aged_connection_does_not_delay_a_stop() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start_with(dir.path(), |config| {
        config.server.drain_timeout = millis(300);
        config.connections.max_age = millis(300);
        config.connections.goaway_grace = millis(60_000);
    })
    .await;
    let mut peer = Peer::handshake(node.address, &[]).await;
    peer.open(1, LIST_TAGS).await;
    peer.expect(GOAWAY).await;
    soon(node.stop()).await;
}

/// None of these peers responds, and the node would drain for a minute.
#[tokio::test]
async fn a_stopping_node_waits_only_for_calls_in_flight() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start_with(dir.path(), |config| {
        config.server.drain_timeout = millis(60_000);
        config.connections.preface_timeout = millis(60_000);
    })
    .await;
    node.client().put(article("a", &"x".repeat(800), &["t"])).await.unwrap();
    let _silent = Peer::connect(node.address).await;
    let mut half = Peer::connect(node.address).await;
    half.write(&PREFACE[..12]).await;
    let mut greeted = Peer::handshake(node.address, &[]).await;
    let mut used = Peer::handshake(node.address, &[]).await;
    used.call(1).await;
    (greeted.polite, used.polite) = (false, false);
    let mut open = Vec::new();
    let snapshot = framed(&request_bytes("Watch", json!({"snapshot": true})));
    // With a window of 0 they cannot even receive the status.
    for window in [0, 1 << 16] {
        for (path, request) in
            [(WATCH, &snapshot[..]), (HEALTH, EMPTY), (REFLECTION, &[0, 0, 0, 0, 2, 0x3a, 0][..])]
        {
            let mut peer = Peer::handshake(node.address, &[(4, window)]).await;
            peer.open(1, path).await;
            peer.finish(1, request).await;
            peer.polite = false;
            if window > 0 {
                peer.expect(DATA).await;
            }
            open.push(peer);
        }
    }
    let mut web = Vec::new();
    for head in ["", "POST /cable.v1.ContentService/ListTags HTTP/1.1\r\nhost: localhost\r\n"] {
        let mut peer = Peer::connect(node.address).await;
        peer.write(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
        peer.write(head.as_bytes()).await;
        web.push(peer);
    }
    // All of them are known to the node.
    Peer::handshake(node.address, &[]).await.call(1).await;
    let mut late = Peer::handshake(node.address, &[]).await;
    late.open(1, LIST_TAGS).await;
    late.call(3).await;
    let mut stopped = tokio::spawn(node.stop());
    assert!(is_still_pending(&mut stopped).await, "a call is in flight");
    late.finish(1, EMPTY).await;
    let ended = Instant::now();
    assert!(late.read_response(1).await > EMPTY.len());
    tokio::time::timeout(millis(10_000), stopped).await.expect("nothing else holds the node").unwrap();
    println!("drain: the node stopped {} ms after its last call", ended.elapsed().as_millis());
}

#[tokio::test]
async fn a_client_stream_ends_between_messages_when_the_node_stops() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start_with(dir.path(), |config| config.server.drain_timeout = millis(60_000)).await;
    let client = Http2Client::connect(node.address, 1 << 20).await;
    let mut import = client.start_call(IMPORT, &[]).await;
    import.request.send_data(Bytes::new(), false).unwrap();
    let response = import.response().await;
    let stopped = tokio::spawn(node.stop());
    let (_, status) = response.finish().await;
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    soon(stopped).await.unwrap();
}

/// A client that obeys the protocol: it makes no call on a connection after a GOAWAY, and repeats calls that were not
/// accepted. No other call may fail.
#[tokio::test]
async fn a_restart_fails_no_accepted_call() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(dir.path()).await;
    let address = node.address;
    let (count, mut counted) = watch::channel(0);
    let calling = tokio::spawn(call_repeatedly(address, count));
    for restart in 1..=3 {
        soon(counted.wait_for(|count| *count >= restart * 30)).await.unwrap();
        node.stop().await;
        node = Node::start_on(address.port(), dir.path(), |_| {}).await;
    }
    soon(counted.wait_for(|count| *count >= 120)).await.unwrap();
    drop(counted);
    let failed = calling.await.unwrap();
    assert!(failed.is_empty(), "{} failed: {failed:?}", failed.len());
}

/// Makes a call every 10 ms, on a new connection whenever the last one ends, and counts the calls, until the receiver of
/// their number is dropped. Returns the failed ones.
async fn call_repeatedly(address: SocketAddr, count: watch::Sender<usize>) -> Vec<String> {
    let (mut calls, mut connection) = (Vec::new(), None);
    while !count.is_closed() {
        tokio::time::sleep(millis(10)).await;
        let Some(send) = ready(&mut connection, address).await else { continue };
        calls.push(tokio::spawn(call(send)));
        count.send_replace(calls.len());
    }
    let mut failed = Vec::new();
    for call in calls {
        failed.extend(call.await.unwrap().err());
    }
    failed
}

type Send = h2::client::SendRequest<Bytes>;

/// Returns a connection that accepts calls, or none while there is no node.
async fn ready(connection: &mut Option<Send>, address: SocketAddr) -> Option<Send> {
    if let Some(open) = connection.take()
        && let Ok(open) = open.ready().await
    {
        return connection.insert(open).clone().into();
    }
    let io = TcpStream::connect(address).await.ok()?;
    let (send, driver) = h2::client::handshake(io).await.ok()?;
    tokio::spawn(driver);
    let send = send.ready().await.ok()?;
    connection.insert(send).clone().into()
}

async fn call(mut send: Send) -> Result<(), String> {
    let request = Request::post(format!("http://localhost{LIST_TAGS}"));
    let request = request.header("te", "trailers").header("content-type", "application/grpc");
    let sent = send.send_request(request.body(()).unwrap(), false).and_then(|(response, mut body)| {
        body.send_data(Bytes::from_static(EMPTY), true)?;
        Ok(response)
    });
    let result = match sent {
        Ok(response) => response.await,
        Err(error) => Err(error),
    };
    let mut body = match result {
        Ok(response) => response.into_body(),
        // The call was not accepted: the client repeats it on another connection.
        Err(error) if error.is_go_away() || error.reason() == Some(h2::Reason::REFUSED_STREAM) => {
            return Ok(());
        }
        Err(error) if error.is_io() && !error.is_remote() => return Ok(()),
        Err(error) => return Err(format!("{error:?}")),
    };
    while let Some(chunk) = body.data().await {
        chunk.map_err(|error| format!("{error:?}"))?;
    }
    let trailers = body.trailers().await.map_err(|error| format!("{error:?}"))?;
    let code = trailers.as_ref().and_then(|trailers| trailers.get("grpc-status"));
    if code.is_some_and(|code| code == "0") { Ok(()) } else { Err(format!("{trailers:?}")) }
}
