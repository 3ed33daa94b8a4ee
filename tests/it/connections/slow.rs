//! Thousands of peers that connect and then stop: before their first byte, within it, and within a handshake of TLS. A
//! client that keeps to the protocol connects and calls without delay all the time.

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    time::{Duration, Instant},
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::oneshot;

use super::{
    frames::{PREFACE, Peer},
    millis,
    program::Program,
};
use crate::tls::{
    authority::{Authority, write_pair},
    client::Client,
};

/// The number of peers of one address: fewer than a node accepts from it.
const PEERS_PER_ADDRESS: usize = 500;

/// The maximum time in which a client connects and receives its first response, and that in which a peer that stops is
/// disconnected: the node allows 5 s. A build without optimization on a busy machine gets more time.
const CONNECT: Duration = if cfg!(debug_assertions) { Duration::from_secs(10) } else { millis(100) };
const CLOSE: Duration = Duration::from_secs(if cfg!(debug_assertions) { 60 } else { 6 });

/// Returns the number of peers: 2,000, or that of the environment.
fn peers() -> usize {
    std::env::var("CABLE_TEST_PEERS").map_or(2_000, |count| count.parse().unwrap())
}

/// Permits as many file descriptors as the system does.
fn raise_file_descriptors() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
}

/// Returns the address of a peer.
fn address(at: usize) -> IpAddr {
    IpAddr::from([127, 0, 2, u8::try_from(at / PEERS_PER_ADDRESS + 1).unwrap()])
}

/// Connects a peer for each of the openings, and sends it. Returns the longest time until one was disconnected.
async fn open_and_wait(node: SocketAddr, openings: Vec<Vec<u8>>) -> Duration {
    let mut peers = Vec::new();
    for (at, opening) in openings.into_iter().enumerate() {
        let mut peer = Peer::connect_from(address(at), node).await;
        let start = Instant::now();
        peer.write(&opening).await;
        peers.push(tokio::spawn(async move {
            tokio::time::timeout(CLOSE, peer.closed()).await.expect("the peer is disconnected in time");
            start.elapsed()
        }));
    }
    let mut longest = Duration::ZERO;
    for peer in peers {
        longest = longest.max(peer.await.unwrap());
    }
    longest
}

/// Makes calls on new connections until the end. Returns how long each took.
async fn call_until(mut end: oneshot::Receiver<()>, call: impl AsyncFn()) -> Vec<Duration> {
    let mut times = Vec::new();
    while end.try_recv() == Err(oneshot::error::TryRecvError::Empty) {
        let start = Instant::now();
        call().await;
        times.push(start.elapsed());
        tokio::time::sleep(millis(50)).await;
    }
    times.sort();
    times
}

/// Checks that peers that stop are disconnected, and that calls on new connections are not delayed meanwhile.
async fn check(what: &str, node: SocketAddr, openings: Vec<Vec<u8>>, call: impl AsyncFn()) {
    let count = openings.len();
    let (ended, end) = oneshot::channel();
    let peers = async {
        let longest = open_and_wait(node, openings).await;
        ended.send(()).unwrap();
        longest
    };
    let (longest, times) = tokio::join!(peers, call_until(end, call));
    let (median, slowest) = (times[times.len() / 2], times[times.len() - 1]);
    println!(
        "{count} peers that stop {what}: disconnected within {longest:?}; \
         {} new connections with a call: median {median:?}, at most {slowest:?}",
        times.len()
    );
    assert!(slowest < CONNECT, "{what}: {slowest:?}");
}

fn start(dir: &Path, env: &[(&str, &str)]) -> Program {
    raise_file_descriptors();
    Program::start(dir, "ulimit -n $(ulimit -H -n)", env)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_that_stop_within_the_preface_delay_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let program = start(dir.path(), &[]);
    let node = program.address;
    let call = async || Peer::handshake(node, &[]).await.call(1).await;
    let openings = (0..peers()).map(|at| PREFACE[..at % 2 * 12].to_vec()).collect();
    check("within the preface", node, openings, call).await;
}

/// A node with TLS, and a client that trusts it.
fn start_with_tls(dir: &Path) -> (Program, Client) {
    let authority = Authority::new("Averil CA");
    write_pair(dir, &authority.node());
    let path = |name: &str| dir.join(name).display().to_string();
    let (certificate, key) = (path("node.pem"), path("node.key"));
    let env = [("CABLE__TLS__CERTIFICATE", &certificate[..]), ("CABLE__TLS__KEY", &key)];
    (start(&dir.join("store"), &env), Client::of(&authority))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_that_stop_before_the_end_of_their_hello_delay_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let (program, client) = start_with_tls(dir.path());
    let (node, hello) = (program.address, client.hello());
    let openings = (0..peers()).map(|at| hello[..at * 7 % hello.len()].to_vec()).collect();
    check("within the hello", node, openings, async || client.call(node).await.unwrap()).await;
}

/// They use all handshakes that peers of their networks can have: more wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_that_stop_after_their_hello_delay_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let (program, client) = start_with_tls(dir.path());
    let (node, hello) = (program.address, client.hello());
    let openings = (0..peers().min(400)).map(|_| hello.clone()).collect();
    check("after the hello", node, openings, async || client.call(node).await.unwrap()).await;
}
