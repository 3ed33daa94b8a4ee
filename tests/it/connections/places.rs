//! The limit on connections, and the behaviour of a node without free file descriptors.

use std::net::{IpAddr, SocketAddr};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::{
    frames::{Peer, SETTINGS},
    millis, nothing,
    program::Program,
    soon,
};
use crate::support::{Node, article};

#[tokio::test]
async fn a_connection_too_many_waits_and_is_served_when_another_ends() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start_with(dir.path(), |config| config.connections.max = 2).await;
    let mut first = Peer::greet(node.address, &[]).await;
    let mut second = Peer::greet(node.address, &[]).await;
    first.call(1).await;
    second.call(1).await;
    let mut third = Peer::greet(node.address, &[]).await;
    assert!(nothing(third.next()).await, "there are as many as there may be");
    drop(first);
    third.call(1).await;
    second.call(3).await;
}

#[tokio::test]
async fn a_peer_with_too_many_connections_is_refused_and_counted_and_others_are_served() {
    let dir = tempfile::tempdir().unwrap();
    let ops = free_address().await;
    let node = Node::start_with(dir.path(), |config| {
        config.connections.max_per_peer = 2;
        config.server.ops_listen = Some(ops);
    })
    .await;
    let mut first = Peer::greet(node.address, &[]).await;
    let mut second = Peer::greet(node.address, &[]).await;
    first.call(1).await;
    second.call(1).await;
    let mut third = Peer::greet(node.address, &[]).await;
    assert!(third.next().await.is_none());
    assert!(scraped(ops, "cable_connections_refused_total 1").await);
    assert!(scraped(ops, "cable_connections 2").await);
    let mut other = Peer::silent_from(IpAddr::from([127, 0, 0, 2]), node.address).await;
    other.say_hello(&[]).await;
    other.call(1).await;
    drop(first);
    while !scraped(ops, "cable_connections 2").await {
        tokio::time::sleep(millis(20)).await;
    }
    Peer::greet(node.address, &[]).await.call(1).await;
    second.call(3).await;
}

/// A loop without pauses uses a whole core here.
#[tokio::test]
async fn a_node_without_file_descriptors_neither_spins_nor_stays_deaf() {
    let dir = tempfile::tempdir().unwrap();
    let program = Program::start(dir.path(), "ulimit -n 256", &[]);
    let mut peers = vec![Peer::greet(program.address, &[]).await];
    peers[0].call(1).await;
    // The node started with a higher limit than it has now.
    program.allow_file_descriptors(program.file_descriptors() + 4);
    for _ in 0..10 {
        peers.push(Peer::greet(program.address, &[]).await);
    }
    let exhausted = async {
        while program.said("no connection can be accepted") == 0 {
            tokio::time::sleep(millis(20)).await;
        }
    };
    soon(exhausted).await;
    let before = program.processor_time();
    tokio::time::sleep(millis(2_000)).await;
    let used = program.processor_time() - before;
    assert!(used < 60, "{used} hundredths of a second within 2 seconds");
    assert!(program.said("no connection can be accepted") <= 1, "it says so again and again");
    peers[0].call(3).await;
    let mut waiting = peers.pop().unwrap();
    assert!(nothing(waiting.next()).await, "it was accepted: nothing is exhausted");
    peers.clear();
    waiting.expect(SETTINGS).await;
    waiting.call(1).await;
}

/// Incomplete requests on both listeners use all connections, and the store still opens the files that it needs.
#[tokio::test]
async fn connections_leave_file_descriptors_to_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let ops = free_address().await;
    let ops_listen = ops.to_string();
    let env = [("CABLE__SERVER__OPS_LISTEN", &ops_listen[..])];
    let program = Program::start_serving_ops(dir.path(), "ulimit -n 128", &env);
    let cable = cable_client::Cable::builder(format!("http://{}", program.address)).build().unwrap();
    cable.put(article("a", "A", &[])).await.unwrap();
    let (mut peers, mut half) = (Vec::new(), Vec::new());
    for _ in 0..150 {
        peers.push(Peer::greet(program.address, &[]).await);
        let mut io = soon(TcpStream::connect(ops)).await.unwrap();
        let _ = io.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nx-a: ").await;
        half.push(io);
    }
    assert!(program.file_descriptors() <= 128 - 16, "{}", program.file_descriptors());
    for at in 0..5 {
        cable.put(article(&format!("b{at}"), "B", &[])).await.unwrap();
    }
    assert_eq!(program.said("no connection can be accepted"), 0);
    assert!(
        scraped(ops, "cable_connections_refused_total 0").await,
        "whoever asks at once is answered at once"
    );
}

async fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// Returns whether the metrics contain this line.
async fn scraped(ops: SocketAddr, line: &str) -> bool {
    let mut io = soon(TcpStream::connect(ops)).await.unwrap();
    io.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut text = String::new();
    soon(io.read_to_string(&mut text)).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    text.lines().any(|found| found == line)
}
