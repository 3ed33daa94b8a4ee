//! Proxies in front of a node: whose word is accepted, and what it changes.

use std::net::{IpAddr, SocketAddr};

use cable::{
    auth::{Anonymous, Role},
    config::Config,
};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpSocket, TcpStream},
};

use super::{
    authority::configure,
    client::{Client, Connection, Failed, soon, wait_for_close},
    files,
};
use crate::support::Node;

/// The address of the proxy in these tests. Other addresses of this machine are clients that connect directly.
const PROXY: [u8; 4] = [127, 0, 0, 3];

fn behind_proxy(config: &mut Config) {
    config.server.trusted_proxies = vec!["127.0.0.3".parse().unwrap()];
    config.auth.anonymous = Anonymous::Role(Role::Admin);
    config.server.proxy_protocol = true;
    config.connections.max_per_peer = 2;
}

/// Connects from an address of this machine.
async fn connect_from(local: impl Into<IpAddr>, node: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((local.into(), 0).into()).unwrap();
    soon(socket.connect(node)).await.unwrap()
}

/// Returns a header of the PROXY protocol, version 2, for a client with this address.
fn header(client: [u8; 4]) -> Vec<u8> {
    [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"[..], &client, &[127, 0, 0, 1], &[0x30, 0x39, 0x1c, 0x16]].concat()
}

/// Connects through the proxy for a client.
async fn connect_for(client: [u8; 4], node: SocketAddr) -> TcpStream {
    let mut io = connect_from(PROXY, node).await;
    io.write_all(&header(client)).await.unwrap();
    io
}

async fn call(io: TcpStream) -> Result<Connection, Failed> {
    let mut connection = Connection::start(io).await?;
    connection.call().await?;
    Ok(connection)
}

#[tokio::test]
async fn connections_are_limited_for_each_client_behind_a_proxy() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start_with(dir.path(), behind_proxy).await;
    let (one, other) = ([192, 0, 2, 1], [192, 0, 2, 2]);
    let first = call(connect_for(one, node.address).await).await.unwrap();
    let mut second = call(connect_for(one, node.address).await).await.unwrap();
    assert!(call(connect_for(one, node.address).await).await.is_err(), "the limit of the client is reached");
    let mut others = Vec::new();
    for _ in 0..2 {
        others.push(call(connect_for(other, node.address).await).await.unwrap());
    }
    drop(first);
    let again = async { while call(connect_for(one, node.address).await).await.is_err() {} };
    soon(again).await;
    second.call().await.unwrap();
    node.stop().await;
}

/// The proxy's own connections, such as health checks, have no client.
#[tokio::test]
async fn a_proxy_may_connect_for_itself_and_is_not_limited() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start_with(dir.path(), behind_proxy).await;
    let mut open = Vec::new();
    for _ in 0..4 {
        let mut io = connect_from(PROXY, node.address).await;
        io.write_all(b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0").await.unwrap();
        open.push(call(io).await.unwrap());
    }
    node.stop().await;
}

#[tokio::test]
async fn the_header_comes_before_tls() {
    let (dir, authority) = files();
    let node = Node::start_with(&dir.path().join("store"), |config| {
        configure(config, dir.path());
        behind_proxy(config);
    })
    .await;
    let client = Client::of(&authority);
    let mut open = Vec::new();
    for from in [[192, 0, 2, 1], [192, 0, 2, 1], [192, 0, 2, 2]] {
        let io = client.secure(connect_for(from, node.address).await).await.unwrap();
        let mut connection = Connection::start(io).await.unwrap();
        connection.call().await.unwrap();
        open.push(connection);
    }
    assert!(client.secure(connect_for([192, 0, 2, 1], node.address).await).await.is_err());
    assert!(client.secure(connect_from(PROXY, node.address).await).await.is_err(), "no header");
    client.call(node.address).await.unwrap();
    node.stop().await;
}

#[tokio::test]
async fn only_a_trusted_proxy_may_send_a_header_and_must() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start_with(dir.path(), behind_proxy).await;
    // Another peer is served directly, counts under its own address, and its header is no HTTP.
    let direct = [127, 0, 0, 9];
    let first = call(connect_from(direct, node.address).await).await.unwrap();
    let mut spoofed = connect_from(direct, node.address).await;
    spoofed.write_all(&header([192, 0, 2, 1])).await.unwrap();
    assert!(call(spoofed).await.is_err());
    let mut second = None;
    let again = async {
        while second.is_none() {
            second = call(connect_from(direct, node.address).await).await.ok();
        }
    };
    soon(again).await;
    assert!(call(connect_from(direct, node.address).await).await.is_err());
    // The proxy has sent no header, one of version 1, one that is cut off, or nothing.
    assert!(call(connect_from(PROXY, node.address).await).await.is_err());
    for bytes in [&b"PROXY TCP4 192.0.2.1 127.0.0.1 12345 7190\r\n"[..], &header([192, 0, 2, 1])[..20], b""] {
        let mut io = connect_from(PROXY, node.address).await;
        io.write_all(bytes).await.unwrap();
        wait_for_close(&mut io).await;
    }
    drop(first);
    node.stop().await;
}

/// A proxy that passes on requests has one connection for many clients.
#[tokio::test]
async fn a_proxy_for_requests_is_not_limited_as_a_peer() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start_with(dir.path(), |config| {
        behind_proxy(config);
        config.server.proxy_protocol = false;
    })
    .await;
    let mut open = Vec::new();
    for _ in 0..4 {
        open.push(call(connect_from(PROXY, node.address).await).await.unwrap());
    }
    let direct = [127, 0, 0, 9];
    for _ in 0..2 {
        open.push(call(connect_from(direct, node.address).await).await.unwrap());
    }
    assert!(call(connect_from(direct, node.address).await).await.is_err());
    node.stop().await;
}
