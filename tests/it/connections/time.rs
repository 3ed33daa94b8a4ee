//! The time limits of connections: preface, idle time, silence and age.

use super::{
    frames::{ACK, EMPTY, GOAWAY, LIST_TAGS, PING, PREFACE, Peer, SETTINGS},
    millis, nothing, soon,
};
use crate::support::Node;

#[tokio::test]
async fn who_says_nothing_or_half_of_the_preface_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start_with(dir.path(), |config| config.connections.preface_timeout = millis(300)).await;
    for first in [&[][..], &PREFACE[..12], b"POST /cable.v1.ContentService/ListTags HTTP/1.1\r\nhost"] {
        let mut peer = Peer::silent(node.address).await;
        peer.write(first).await;
        peer.end().await;
    }
    // A peer that sends the preface in time stays connected, in any division of the bytes.
    let mut peer = Peer::silent(node.address).await;
    let hello = [&PREFACE[..], &super::frames::frame(SETTINGS, 0, 0, &[])].concat();
    for byte in hello {
        peer.write(&[byte]).await;
    }
    tokio::time::sleep(millis(600)).await;
    peer.call(1).await;
}

#[tokio::test]
async fn a_peer_that_answers_no_ping_is_closed_and_one_that_does_stays() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start_with(dir.path(), |config| {
        config.connections.ping_interval = millis(200);
        config.connections.ping_timeout = millis(400);
    })
    .await;
    let mut polite = Peer::greet(node.address, &[]).await;
    let mut gone = Peer::greet(node.address, &[]).await;
    gone.polite = false;
    gone.open(1, LIST_TAGS).await;
    let leaves = async {
        gone.expect(PING).await;
        gone.end().await;
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
async fn an_old_connection_is_told_so_and_its_call_may_end() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start_with(dir.path(), |config| config.connections.max_age = millis(500)).await;
    let mut peer = Peer::greet(node.address, &[]).await;
    peer.open(1, LIST_TAGS).await;
    assert_eq!(peer.expect(GOAWAY).await.code(), 0);
    assert!(nothing(peer.end()).await, "the call is under way");
    peer.finish(1, EMPTY).await;
    assert!(peer.answer(1).await > EMPTY.len());
    peer.end().await;
}

#[tokio::test]
async fn an_old_connection_whose_call_does_not_end_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start_with(dir.path(), |config| {
        config.connections.max_age = millis(300);
        config.connections.goaway_grace = millis(300);
    })
    .await;
    for polite in [true, false] {
        let mut peer = Peer::greet(node.address, &[]).await;
        peer.polite = polite;
        peer.open(1, LIST_TAGS).await;
        peer.expect(GOAWAY).await;
        peer.end().await;
    }
}

#[tokio::test]
async fn a_connection_that_nobody_uses_is_told_to_end() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start_with(dir.path(), |config| config.connections.idle_timeout = millis(300)).await;
    let mut peer = Peer::greet(node.address, &[]).await;
    assert_eq!(peer.expect(GOAWAY).await.code(), 0);
    peer.end().await;
}

#[tokio::test]
async fn a_connection_with_a_call_under_way_or_many_short_ones_is_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start_with(dir.path(), |config| config.connections.idle_timeout = millis(1_500)).await;
    let mut peer = Peer::greet(node.address, &[]).await;
    // Each call gets a response: none of them came after a GOAWAY.
    for stream in 0..30 {
        peer.call(2 * stream + 1).await;
        tokio::time::sleep(millis(100)).await;
    }
    peer.open(101, LIST_TAGS).await;
    tokio::time::sleep(millis(4_000)).await;
    peer.finish(101, EMPTY).await;
    assert!(peer.answer(101).await > EMPTY.len());
    // The time of the call itself does not count as idle.
    tokio::time::sleep(millis(1_000)).await;
    peer.call(103).await;
    assert_eq!(soon(peer.expect(GOAWAY)).await.code(), 0);
}
