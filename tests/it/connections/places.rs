//! The limit on connections, and the behaviour of a node without free file descriptors.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicU8, Ordering},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::{
    frames::{Peer, SETTINGS},
    is_still_pending, millis,
    program::Program,
    soon,
};
use crate::support::{Node, article};

#[tokio::test]
async fn a_connection_above_the_limit_waits_until_another_ends() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start_with(dir.path(), |config| config.connections.max = 2).await;
    let mut first = Peer::handshake(node.address, &[]).await;
    let mut second = Peer::handshake(node.address, &[]).await;
    first.call(1).await;
    second.call(1).await;
    let mut third = Peer::handshake(node.address, &[]).await;
    assert!(is_still_pending(third.next()).await, "the limit of two connections is reached");
    drop(first);
    third.call(1).await;
    second.call(3).await;
}

#[tokio::test]
async fn a_peer_above_its_connection_limit_is_refused_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let ops = free_address().await;
    let node = Node::start_with(dir.path(), |config| {
        config.connections.max_per_peer = 2;
        config.server.ops_listen = Some(ops);
    })
    .await;
    let mut first = Peer::handshake(node.address, &[]).await;
    let mut second = Peer::handshake(node.address, &[]).await;
    first.call(1).await;
    second.call(1).await;
    let mut third = Peer::handshake(node.address, &[]).await;
    assert!(third.next().await.is_none());
    assert!(metrics_contain(ops, "cable_connections_refused_total 1").await);
    assert!(metrics_contain(ops, "cable_connections 2").await);
    let mut other = Peer::connect_from(IpAddr::from([127, 0, 0, 2]), node.address).await;
    other.send_preface(&[]).await;
    other.call(1).await;
    drop(first);
    while !metrics_contain(ops, "cable_connections 2").await {
        tokio::time::sleep(millis(20)).await;
    }
    Peer::handshake(node.address, &[]).await.call(1).await;
    second.call(3).await;
}

/// A loop without pauses uses a whole core here.
#[tokio::test]
async fn a_node_out_of_file_descriptors_backs_off_and_recovers() {
    let dir = tempfile::tempdir().unwrap();
    let program = Program::start(dir.path(), "ulimit -n 256", &[]);
    let mut peers = vec![Peer::handshake(program.address, &[]).await];
    peers[0].call(1).await;
    // The node started with a higher limit than it has now.
    program.limit_file_descriptors(program.file_descriptors() + 4);
    for _ in 0..10 {
        peers.push(Peer::handshake(program.address, &[]).await);
    }
    let exhausted = async {
        while program.count_log_lines("accept failed") == 0 {
            tokio::time::sleep(millis(20)).await;
        }
    };
    soon(exhausted).await;
    let before = program.processor_time();
    tokio::time::sleep(millis(2_000)).await;
    let used = program.processor_time() - before;
    assert!(used < 60, "{used} hundredths of a second within 2 seconds");
    assert!(program.count_log_lines("accept failed") <= 1, "the failure is logged at most once more");
    peers[0].call(3).await;
    let mut waiting = peers.pop().unwrap();
    assert!(is_still_pending(waiting.next()).await, "the connection is not accepted yet");
    peers.clear();
    waiting.expect(SETTINGS).await;
    waiting.call(1).await;
}

/// Incomplete requests on both listeners use all connections, and the store still opens the files that it needs.
#[tokio::test]
async fn connections_leave_file_descriptors_for_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let ops = free_address().await;
    let ops_listen = ops.to_string();
    let env = [("CABLE__SERVER__OPS_LISTEN", &ops_listen[..])];
    let program = Program::start_serving_ops(dir.path(), "ulimit -n 128", &env);
    let cable = cable_client::Cable::builder(format!("http://{}", program.address)).build().unwrap();
    cable.put(article("a", "A", &[])).await.unwrap();
    let (mut peers, mut half) = (Vec::new(), Vec::new());
    for _ in 0..150 {
        peers.push(Peer::handshake(program.address, &[]).await);
        let mut io = soon(TcpStream::connect(ops)).await.unwrap();
        let _ = io.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nx-a: ").await;
        half.push(io);
    }
    assert!(program.file_descriptors() <= 128 - 16, "{}", program.file_descriptors());
    for at in 0..5 {
        cable.put(article(&format!("b{at}"), "B", &[])).await.unwrap();
    }
    assert_eq!(program.count_log_lines("accept failed"), 0);
    assert!(
        metrics_contain(ops, "cable_connections_refused_total 0").await,
        "complete requests are served immediately"
    );
}

/// Returns an address that nothing else uses. On Linux it is a loopback address of its own, so that another test cannot
/// receive its port meanwhile.
pub(crate) async fn free_address() -> SocketAddr {
    static USED: AtomicU8 = AtomicU8::new(0);
    let ip = if cfg!(target_os = "linux") {
        let [.., high, low] = std::process::id().to_be_bytes();
        Ipv4Addr::new(127, high.max(1), low, USED.fetch_add(1, Ordering::Relaxed))
    } else {
        Ipv4Addr::LOCALHOST
    };
    TcpListener::bind((ip, 0)).await.unwrap().local_addr().unwrap()
}

/// Returns whether the metrics contain this line.
pub(crate) async fn metrics_contain(ops: SocketAddr, line: &str) -> bool {
    metrics(ops).await.lines().any(|found| found == line)
}

/// Waits until the metrics contain a line.
pub(crate) async fn metrics_contain_soon(ops: SocketAddr, line: String) {
    let contain = async {
        while !metrics_contain(ops, &line).await {
            tokio::time::sleep(millis(5)).await;
        }
    };
    soon(contain).await;
}

/// Returns the metrics.
pub(crate) async fn metrics(ops: SocketAddr) -> String {
    let mut io = soon(TcpStream::connect(ops)).await.unwrap();
    io.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut text = String::new();
    soon(io.read_to_string(&mut text)).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    text
}
