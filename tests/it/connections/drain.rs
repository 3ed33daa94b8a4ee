//! What becomes of connections when the node stops.

use super::{
    frames::{EMPTY, GOAWAY, LIST_TAGS, PREFACE, Peer},
    millis, nothing, soon,
};
use crate::support::Node;

#[tokio::test]
async fn a_node_that_stops_says_so_and_lets_calls_end() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start_with(dir.path(), |config| config.server.drain = millis(60_000)).await;
    let mut peer = Peer::greet(node.address, &[]).await;
    let mut idle = Peer::greet(node.address, &[]).await;
    peer.open(1, LIST_TAGS).await;
    // Both are known to the node before it is told to stop.
    peer.call(3).await;
    idle.call(1).await;
    let mut stopped = tokio::spawn(node.stop());
    assert_eq!(idle.expect(GOAWAY).await.code(), 0);
    idle.end().await;
    assert_eq!(peer.expect(GOAWAY).await.code(), 0);
    assert!(nothing(&mut stopped).await, "a call is under way");
    peer.finish(1, EMPTY).await;
    assert!(peer.answer(1).await > EMPTY.len());
    peer.end().await;
    soon(stopped).await.unwrap();
}

#[tokio::test]
async fn nobody_holds_a_node_that_stops_beyond_its_deadline() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start_with(dir.path(), |config| {
        config.server.drain = millis(300);
        config.connections.preface = millis(60_000);
    })
    .await;
    let _silent = Peer::silent(node.address).await;
    let mut half = Peer::silent(node.address).await;
    half.write(&PREFACE[..12]).await;
    let mut open = Peer::greet(node.address, &[]).await;
    open.open(1, LIST_TAGS).await;
    open.call(3).await;
    let mut web = Peer::silent(node.address).await;
    web.write(b"POST /cable.v1.ContentService/ListTags HTTP/1.1\r\nhost: cable\r\n").await;
    soon(node.stop()).await;
    open.expect(GOAWAY).await;
    open.end().await;
}

/// The time that an old connection has left is longer than the node has.
#[tokio::test]
async fn a_connection_that_was_told_to_end_before_does_not_hold_the_node_either() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start_with(dir.path(), |config| {
        config.server.drain = millis(300);
        config.connections.age = millis(300);
        config.connections.grace = millis(60_000);
    })
    .await;
    let mut peer = Peer::greet(node.address, &[]).await;
    peer.open(1, LIST_TAGS).await;
    peer.expect(GOAWAY).await;
    soon(node.stop()).await;
}
