//! The time limits of connections: preface, idle time, silence and age.

use super::{
    frames::{ACK, EMPTY, GOAWAY, LIST_TAGS, PING, PREFACE, Peer, SETTINGS},
    is_still_pending, millis, soon,
};
use crate::support::Node;

#[tokio::test]
async fn a_connection_without_a_complete_preface_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start_with(dir.path(), |config| config.connections.preface_timeout = millis(300)).await;
    for first in [&[][..], &PREFACE[..12], b"POST /cable.v1.ContentService/ListTags HTTP/1.1\r\nhost"] {
        let mut peer = Peer::connect(node.address).await;
        peer.write(first).await;
        peer.wait_for_close().await;
    }
    // A peer that sends the preface in time stays connected, in any division of the bytes.
    let mut peer = Peer::connect(node.address).await;
    let preface = [&PREFACE[..], &super::frames::frame(SETTINGS, 0, 0, &[])].concat();
    for byte in preface {
        peer.write(&[byte]).await;
    }
    tokio::time::sleep(millis(600)).await;
    peer.call(1).await;
}

#[tokio::test]
async fn a_peer_that_ignores_pings_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start_with(dir.path(), |config| {
        config.connections.ping_interval = millis(200);
        config.connections.ping_timeout = millis(400);
    })
    .await;
    let mut polite = Peer::handshake(node.address, &[]).await;
    let mut silent = Peer::handshake(node.address, &[]).await;
    silent.polite = false;
    silent.open(1, LIST_TAGS).await;
    let leaves = async {
        silent.expect(PING).await;
        silent.wait_for_close().await;
    };
    let stays = async {
        for _ in 0..10 {
            assert_eq!(polite.expect(PING).await.flags & ACK, 0);
        }
    };
    tokio::join!(leaves, stays);
    polite.call(1).await;
}

#[tokio::test]
async fn an_old_connection_receives_goaway_and_its_call_completes() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start_with(dir.path(), |config| config.connections.max_age = millis(500)).await;
    let mut peer = Peer::handshake(node.address, &[]).await;
    peer.open(1, LIST_TAGS).await;
    assert_eq!(peer.expect(GOAWAY).await.code(), 0);
    assert!(is_still_pending(peer.wait_for_close()).await, "the call is in flight");
    peer.finish(1, EMPTY).await;
    assert!(peer.read_response(1).await > EMPTY.len());
    peer.wait_for_close().await;
}

#[tokio::test]
async fn an_old_connection_is_closed_after_the_goaway_grace() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start_with(dir.path(), |config| {
        config.connections.max_age = millis(300);
        config.connections.goaway_grace = millis(300);
    })
    .await;
    for polite in [true, false] {
        let mut peer = Peer::handshake(node.address, &[]).await;
        peer.polite = polite;
        peer.open(1, LIST_TAGS).await;
        peer.expect(GOAWAY).await;
        peer.wait_for_close().await;
    }
}

#[tokio::test]
async fn an_idle_connection_receives_goaway() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start_with(dir.path(), |config| config.connections.idle_timeout = millis(300)).await;
    let mut peer = Peer::handshake(node.address, &[]).await;
    assert_eq!(peer.expect(GOAWAY).await.code(), 0);
    peer.wait_for_close().await;
}

#[tokio::test]
async fn calls_in_flight_and_short_calls_prevent_the_idle_timeout() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start_with(dir.path(), |config| config.connections.idle_timeout = millis(1_500)).await;
    let mut peer = Peer::handshake(node.address, &[]).await;
    // Each call gets a response: none of them came after a GOAWAY.
    for stream in 0..30 {
        peer.call(2 * stream + 1).await;
        tokio::time::sleep(millis(100)).await;
    }
    peer.open(101, LIST_TAGS).await;
    tokio::time::sleep(millis(4_000)).await;
    peer.finish(101, EMPTY).await;
    assert!(peer.read_response(101).await > EMPTY.len());
    // The time of the call itself does not count as idle.
    tokio::time::sleep(millis(1_000)).await;
    peer.call(103).await;
    assert_eq!(soon(peer.expect(GOAWAY)).await.code(), 0);
}
