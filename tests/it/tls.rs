//! TLS of a node: who is served, who is refused, and how certificates are replaced.

pub(crate) mod authority;
pub(crate) mod client;
mod proxies;
mod reload;
mod restarts;

use std::time::{Duration, Instant};

use cable::config::ClientAuth;
use tempfile::TempDir;
use tokio::{io::AsyncWriteExt as _, net::TcpStream};
use tokio_rustls::rustls::version::{TLS12, TLS13};

use self::{
    authority::{Authority, configure, replace, write_pair},
    client::{Client, Connection, call_http_1, soon, wait_for_close},
};
use crate::{
    connections::{
        frames::PREFACE,
        places::{free_address, metrics_contain_soon},
        program::Program,
    },
    support::Node,
};

/// A directory with the certificate of a node, and the authority that has issued it.
fn files() -> (TempDir, Authority) {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new("Averil CA"));
    write_pair(dir.path(), &authority.node());
    (dir, authority)
}

async fn start(dir: &TempDir) -> Node {
    Node::start_with(&dir.path().join("store"), |config| configure(config, dir.path())).await
}

/// Starts a node that asks clients for certificates of an authority.
async fn start_verifying(dir: &TempDir, authority: &Authority, client_auth: ClientAuth) -> Node {
    replace(&dir.path().join("ca.pem"), &authority.pem());
    Node::start_with(&dir.path().join("store"), |config| {
        configure(config, dir.path());
        config.tls.client_ca = Some(dir.path().join("ca.pem"));
        config.tls.client_auth = client_auth;
    })
    .await
}

#[tokio::test]
async fn a_client_that_trusts_the_node_is_served_over_both_protocols_and_versions() {
    let (dir, authority) = files();
    let node = start(&dir).await;
    for version in [&TLS12, &TLS13] {
        let client = Client::of(&authority).speaking(version);
        for protocols in [&["h2"][..], &["h2", "http/1.1"], &["spdy/3", "h2"], &[]] {
            client.negotiating(protocols).call(node.address).await.unwrap();
        }
        for protocols in [&["http/1.1"][..], &["spdy/3", "http/1.1"], &[]] {
            let io = client.negotiating(protocols).connect(node.address).await.unwrap();
            let response = call_http_1(io, "").await.unwrap();
            assert!(response.starts_with("HTTP/1.1 200") && response.contains("grpc-status:0"), "{response}");
        }
    }
    node.stop().await;
}

#[tokio::test]
async fn peers_that_do_not_keep_to_the_protocol_are_disconnected_and_others_are_served() {
    let (dir, authority) = files();
    let ops = free_address().await;
    let node = Node::start_with(&dir.path().join("store"), |config| {
        configure(config, dir.path());
        config.server.ops_listen = Some(ops);
    })
    .await;
    let client = Client::of(&authority);
    let mut open = Connection::start(client.connect(node.address).await.unwrap()).await.unwrap();

    assert!(Client::of(&Authority::new("Averil CA")).call(node.address).await.is_err(), "another authority");
    assert!(client.negotiating(&["spdy/3"]).call(node.address).await.is_err(), "no common protocol");
    metrics_contain_soon(ops, "cable_tls_handshake_failures_total 2".to_owned()).await;
    let used_other = client.negotiating(&["http/1.1"]).call(node.address).await;
    assert!(used_other.is_err(), "HTTP/2 after HTTP/1.1 was negotiated");
    let io = client.negotiating(&["h2"]).connect(node.address).await.unwrap();
    assert_eq!(call_http_1(io, "").await.unwrap_or_default(), "", "HTTP/1.1 after HTTP/2 was negotiated");

    // A hello of TLS 1.1: a record of version 3.1 with a client version of 3.2, and no extension for a newer one.
    let body = [&[3, 2][..], &[7; 32], &[0], &[0, 2, 0, 0x2f], &[1, 0]].concat();
    let hello = [&[1, 0, 0, u8::try_from(body.len()).unwrap()][..], &body].concat();
    let hello = [&[22, 3, 1, 0, u8::try_from(hello.len()).unwrap()][..], &hello].concat();
    for bytes in [
        &PREFACE[..],
        b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"\x16\x03\x01\xff\xff",
        &hello,
        &[0xff; 4096],
        &[22, 3, 1, 0, 0].repeat(1_000),
        &[22, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff],
    ] {
        let mut io = soon(TcpStream::connect(node.address)).await.unwrap();
        let _ = io.write_all(bytes).await;
        wait_for_close(&mut io).await;
        open.call().await.unwrap();
    }
    client.call(node.address).await.unwrap();
    node.stop().await;
}

#[tokio::test]
async fn a_required_client_certificate_must_be_valid() {
    let (dir, authority) = files();
    let (desk, other) = (Authority::new("Desk CA"), Authority::new("Desk CA"));
    let node = start_verifying(&dir, &desk, ClientAuth::Required).await;
    for version in [&TLS12, &TLS13] {
        let client = Client::of(&authority).speaking(version);
        client.with(desk.client("desk")).call(node.address).await.unwrap();
        for (refused, reason) in [
            (client.clone(), "no certificate"),
            (client.with(other.client("desk")), "another authority of the same name"),
            (client.with(authority.client("desk")), "the authority of the node"),
            (client.with(desk.expired_client("desk")), "expired"),
            (client.with(desk.node()), "a certificate for servers"),
        ] {
            assert!(refused.call(node.address).await.is_err(), "{reason}");
        }
        client.with(desk.client("desk")).call(node.address).await.unwrap();
    }
    node.stop().await;
}

#[tokio::test]
async fn an_optional_client_certificate_may_be_missing_but_not_invalid() {
    let (dir, authority) = files();
    let desk = Authority::new("Desk CA");
    let node = start_verifying(&dir, &desk, ClientAuth::Optional).await;
    let client = Client::of(&authority);
    client.call(node.address).await.unwrap();
    client.with(desk.client("desk")).call(node.address).await.unwrap();
    assert!(client.with(desk.expired_client("desk")).call(node.address).await.is_err());
    assert!(client.with(authority.client("desk")).call(node.address).await.is_err());
    node.stop().await;
}

/// More peers than there are handshakes at once are silent, or stop after a part of their hello.
#[tokio::test]
async fn half_handshakes_are_closed_and_do_not_prevent_others() {
    let (dir, authority) = files();
    let node = start(&dir).await;
    let client = Client::of(&authority);
    let mut open = Connection::start(client.connect(node.address).await.unwrap()).await.unwrap();
    let start = Instant::now();
    let mut half = Vec::new();
    for at in 0..300 {
        let mut io = soon(TcpStream::connect(node.address)).await.unwrap();
        io.write_all(&[22, 3, 1, 1, 0, 1][..at % 7]).await.unwrap();
        half.push(io);
    }
    for _ in 0..3 {
        open.call().await.unwrap();
        client.call(node.address).await.unwrap();
    }
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    for io in &mut half {
        wait_for_close(io).await;
    }
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    client.call(node.address).await.unwrap();
    node.stop().await;
}

#[tokio::test]
async fn a_node_that_stops_does_not_wait_for_handshakes() {
    let (dir, _) = files();
    let node = start(&dir).await;
    let mut half = soon(TcpStream::connect(node.address)).await.unwrap();
    half.write_all(&[22, 3, 1]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let start = Instant::now();
    node.stop().await;
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}

/// The memory of followers that have received nothing for a while, in bytes for each.
async fn idle_follower_bytes(env: &[(&str, &str)], client: Option<&Client>) -> u64 {
    const FOLLOWERS: u64 = 450;
    let dir = tempfile::tempdir().unwrap();
    let program = Program::start(dir.path(), ":", env);
    let (mut open, mut before) = (Vec::new(), 0);
    // The first ones make the node allocate what all connections share.
    for follower in 0..FOLLOWERS + 20 {
        if follower == 20 {
            tokio::time::sleep(Duration::from_millis(1_500)).await;
            before = program.memory("VmRSS");
        }
        let mut connection = match client {
            Some(client) => Connection::start(client.connect(program.address).await.unwrap()).await,
            None => Connection::start(soon(TcpStream::connect(program.address)).await.unwrap()).await,
        }
        .unwrap();
        open.push((connection.follow().await.unwrap(), connection));
    }
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    program.memory("VmRSS").saturating_sub(before) * 1_024 / FOLLOWERS
}

#[tokio::test]
async fn an_idle_follower_needs_little_more_memory_over_tls() {
    let (dir, authority) = files();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (certificate, key) = (path("node.pem"), path("node.key"));
    let env = [("CABLE__TLS__CERTIFICATE", &certificate[..]), ("CABLE__TLS__KEY", &key)];
    // With 3,000 followers the difference is 9 KB. With fewer, the unit in which memory is allocated matters, and so does
    // what the allocator keeps on a busy machine. A difference for each follower is there in each attempt.
    let mut differences = Vec::new();
    for _ in 0..3 {
        let plain = idle_follower_bytes(&[], None).await;
        let secured = idle_follower_bytes(&env, Some(&Client::of(&authority))).await;
        println!("an idle follower: {plain} bytes, over TLS {secured} bytes");
        if secured < plain + (16 << 10) {
            return;
        }
        differences.push((plain, secured));
    }
    panic!("{differences:?} bytes");
}
