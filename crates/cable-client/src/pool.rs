//! The nodes of a client, with one lazy HTTP/2 connection to each.
//!
//! Each endpoint has one node per address: its own, or those to which its name resolves (`names`). Each call goes to the
//! less busy of two random nodes. A node that cannot be reached, or lets calls time out, is ejected for a time that grows
//! with each failure in a row; after that, a single call probes it. If all nodes are ejected, the call goes to the one
//! whose ejection ends first, so that a client always makes an attempt.

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};
use tower_service::Service as _;

use crate::{
    Result,
    config::Target,
    connect::{Connector, Peer},
    retry::jittered,
    tls::Tls,
};

mod names;

use self::names::Names;
pub(crate) use self::names::{Lookup, system_lookup};

/// The ejection after the first failure, which doubles with each further one, and the longest ejection.
const FIRST_EJECTION: Duration = Duration::from_millis(250);
const LONGEST_EJECTION: Duration = Duration::from_secs(10);
/// The number of timeouts in a row that count as a failure of a node whose connection still receives something.
const MAX_TIMEOUTS: u32 = 3;
/// The time for which other calls avoid a node while one call probes it.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// The keepalive of all connections.
///
/// Idle connections need it too. Calls that are rare and short leave no stream open for long enough to be noticed: on a
/// connection that the network has dropped silently, each of them would end by its deadline until TCP gives up, after a
/// quarter of an hour.
pub(crate) const KEEP_ALIVE: KeepAlive =
    KeepAlive { interval: Duration::from_secs(20), timeout: Duration::from_secs(10) };
/// The HTTP/2 window of each stream: the bytes that a server may send ahead of a slow reader.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;

/// The nodes of a client.
#[derive(Debug)]
pub(crate) struct Pool(Arc<Names>);

/// The options that all connections of a client have in common.
pub(crate) struct Connections {
    /// The limit on a name's lookup, and on TCP, TLS and the first frame of HTTP/2 together.
    pub(crate) connect_timeout: Duration,
    pub(crate) tls: Option<Arc<Tls>>,
    pub(crate) lookup: Lookup,
    pub(crate) keep_alive: KeepAlive,
}

/// The interval of the pings on a connection, and the time to wait for the response to one before the connection is
/// closed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeepAlive {
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").field("connect_timeout", &self.connect_timeout).finish_non_exhaustive()
    }
}

/// A node: its connection, its calls in flight and its health.
#[derive(Debug)]
struct Node {
    peer: Peer,
    connections: Arc<Connections>,
    /// The connection, created at the first call: only then is a runtime certain to exist. It ends with the runtime of
    /// that call.
    channel: Mutex<Option<Channel>>,
    calls: AtomicUsize,
    health: Mutex<Health>,
    /// Set when a node fails: its name may have other addresses by now.
    has_failures: Arc<AtomicBool>,
}

/// The number of failures in a row, and the end of the ejection that they caused.
#[derive(Debug, Clone, Copy, Default)]
struct Health {
    failures: u32,
    /// The number of timeouts since the last response or failure.
    timeouts: u32,
    ejected_until: Option<Instant>,
}

/// A guard for a call in flight on a node; the call counts until the guard is dropped.
#[derive(Debug)]
pub(crate) struct NodeGuard {
    node: Arc<Node>,
    /// The number of the token that the call sent, or 0.
    pub(crate) token_number: u64,
}

impl Pool {
    pub(crate) fn new(targets: Vec<Target>, connections: Connections) -> Pool {
        Pool(Arc::new(Names::new(targets, connections)))
    }

    /// Returns the node for the next call, and the number of nodes. The first call looks up the names of the endpoints.
    pub(crate) async fn pick(&self) -> Result<(NodeGuard, usize)> {
        let nodes = Names::nodes(&self.0).await?;
        let node = match &nodes[..] {
            [only] => only,
            nodes => pick_from(nodes, Instant::now()),
        };
        node.calls.fetch_add(1, Relaxed);
        Ok((NodeGuard { node: Arc::clone(node), token_number: 0 }, nodes.len()))
    }
}

/// Returns the less busy of two random usable nodes or, if all are ejected, the one whose ejection ends first. Two
/// random choices keep many clients from all picking the same node.
fn pick_from(nodes: &[Arc<Node>], now: Instant) -> &Arc<Node> {
    let health: Vec<Health> = nodes.iter().map(|node| node.health()).collect();
    let mut usable: Vec<usize> = (0..nodes.len()).filter(|i| health[*i].is_usable(now)).collect();
    fastrand::shuffle(&mut usable);
    let chosen = usable.iter().take(2).min_by_key(|i| nodes[**i].calls.load(Relaxed)).copied();
    let soonest = || (0..nodes.len()).min_by_key(|i| health[*i].ejected_until);
    let node = &nodes[chosen.or_else(soonest).unwrap_or(0)];
    node.update(|health| health.probe(now));
    node
}

impl NodeGuard {
    /// Returns the connection to the node. It is established when the first call uses it, and replaced if its runtime has
    /// ended.
    pub(crate) fn channel(&self) -> Channel {
        let mut channel = self.node.channel.lock().unwrap_or_else(PoisonError::into_inner);
        if channel.as_ref().is_some_and(has_ended) {
            *channel = None;
        }
        channel.get_or_insert_with(|| self.node.connect_lazy()).clone()
    }

    /// Returns the server that the node is, for messages.
    pub(crate) fn peer(&self) -> &Peer {
        &self.node.peer
    }

    /// Records that the node responded, even if it refused the call.
    pub(crate) fn record_response(&self) {
        self.node.update(|health| *health = Health::default());
    }

    /// Records that a call had no response in time. The node counts as failed if its connection received nothing
    /// meanwhile, or after several timeouts in a row.
    pub(crate) fn record_timeout(&self, is_silent: bool) {
        let mut is_failure = is_silent;
        self.node.update(|health| {
            health.timeouts += 1;
            is_failure |= health.timeouts >= MAX_TIMEOUTS;
        });
        if is_failure {
            self.record_failure();
        }
    }

    /// Records that the node could not be reached, or is draining.
    pub(crate) fn record_failure(&self) {
        let now = Instant::now();
        self.node.update(|health| health.fail(now));
        self.node.has_failures.store(true, Relaxed);
    }
}

impl Drop for NodeGuard {
    fn drop(&mut self) {
        self.node.calls.fetch_sub(1, Relaxed);
    }
}

impl Node {
    fn new(
        target: Arc<Target>,
        address: SocketAddr,
        connections: Arc<Connections>,
        has_failures: Arc<AtomicBool>,
    ) -> Node {
        Node {
            peer: Peer::new(target, address),
            connections,
            channel: Mutex::default(),
            calls: AtomicUsize::new(0),
            health: Mutex::default(),
            has_failures,
        }
    }

    fn connect_lazy(&self) -> Channel {
        let target = &self.peer.target;
        let connector = Connector {
            peer: self.peer.clone(),
            tls: self.connections.tls.clone().filter(|_| target.is_https),
            timeout: self.connections.connect_timeout,
        };
        // The connector makes the handshake. With `https`, tonic would make its own.
        Endpoint::from_static("http://node")
            .origin(target.origin.clone())
            .user_agent(concat!("cable-client/", env!("CARGO_PKG_VERSION")))
            .expect("name and version are valid in a header")
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(4 * STREAM_WINDOW_BYTES)
            .http2_keep_alive_interval(self.connections.keep_alive.interval)
            .keep_alive_timeout(self.connections.keep_alive.timeout)
            .keep_alive_while_idle(true)
            .connect_with_connector_lazy(connector)
    }

    fn health(&self) -> Health {
        *self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update(&self, change: impl FnOnce(&mut Health)) {
        change(&mut self.health.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Returns whether the task of a connection is gone, as after the end of its runtime.
fn has_ended(channel: &Channel) -> bool {
    let mut context = Context::from_waker(Waker::noop());
    matches!(channel.clone().poll_ready(&mut context), Poll::Ready(Err(_)))
}

impl Health {
    fn is_usable(&self, now: Instant) -> bool {
        self.ejected_until.is_none_or(|until| until <= now)
    }

    /// Ejects the node: for 250 ms after the first failure in a row, doubling up to 10 s.
    fn fail(&mut self, now: Instant) {
        let longer = FIRST_EJECTION.saturating_mul(1 << self.failures.min(16));
        self.failures += 1;
        self.timeouts = 0;
        self.ejected_until = Some(now + jittered(longer.min(LONGEST_EJECTION)));
    }

    /// Extends the ejection of a node for a probe: the node gets one call at a time until it responds.
    fn probe(&mut self, now: Instant) {
        if self.ejected_until.is_some() {
            self.ejected_until = Some(now + PROBE_TIMEOUT);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;
    use crate::stubs::status_service_client::StatusServiceClient;

    fn nodes(count: u16) -> Vec<Arc<Node>> {
        let connections = Arc::new(Connections {
            connect_timeout: Duration::from_secs(1),
            tls: None,
            lookup: system_lookup(),
            keep_alive: KEEP_ALIVE,
        });
        let node = |port: u16| {
            let target = Target::parse(&format!("http://127.0.0.1:{port}")).unwrap();
            let address = SocketAddr::from(([127, 0, 0, 1], port));
            Arc::new(Node::new(Arc::new(target), address, Arc::clone(&connections), Arc::default()))
        };
        (1..=count).map(node).collect()
    }

    #[tokio::test]
    async fn calls_are_spread_evenly_over_two_nodes() {
        let targets = ["http://127.0.0.1:1", "http://127.0.0.1:2"].map(|url| Target::parse(url).unwrap());
        let connections = Connections {
            connect_timeout: Duration::from_secs(1),
            tls: None,
            lookup: system_lookup(),
            keep_alive: KEEP_ALIVE,
        };
        let pool = Pool::new(targets.into(), connections);
        let mut calls = Vec::new();
        for _ in 0..10 {
            let (call, count) = pool.pick().await.unwrap();
            assert_eq!(count, 2);
            calls.push(call);
        }
        assert_eq!(calls.iter().filter(|call| call.peer().address.port() == 1).count(), 5);
        drop(calls);
        assert!(Names::nodes(&pool.0).await.unwrap().iter().all(|node| node.calls.load(Relaxed) == 0));
    }

    /// A peer that accepts a connection, starts HTTP/2 and never responds, as a network that drops everything does.
    #[tokio::test]
    async fn a_dead_connection_is_closed_without_a_call_in_flight() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let keep_alive =
            KeepAlive { interval: Duration::from_millis(300), timeout: Duration::from_millis(100) };
        let connections = Connections {
            connect_timeout: Duration::from_secs(5),
            tls: None,
            lookup: system_lookup(),
            keep_alive,
        };
        let pool = Pool::new(vec![Target::parse(&format!("http://{address}")).unwrap()], connections);
        let (node, _) = pool.pick().await.unwrap();
        let call = async {
            let mut status = StatusServiceClient::new(node.channel());
            status.get_status(crate::v1::GetStatusRequest::default()).await
        };
        let (accepted, call) =
            tokio::join!(listener.accept(), tokio::time::timeout(Duration::from_millis(100), call));
        assert!(call.is_err());
        let (mut connection, _) = accepted.unwrap();
        let empty_settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
        connection.write_all(&empty_settings).await.unwrap();
        let mut received = Vec::new();
        let closed = connection.read_to_end(&mut received);
        tokio::time::timeout(Duration::from_secs(30), closed).await.expect("the client closes").unwrap();
    }

    #[test]
    fn a_failed_node_is_ejected_and_then_probed_once() {
        let nodes = nodes(2);
        let now = Instant::now();
        nodes[0].update(|health| health.fail(now));
        for _ in 0..20 {
            assert!(Arc::ptr_eq(pick_from(&nodes, now), &nodes[1]));
        }
        let later = now + LONGEST_EJECTION;
        nodes[1].calls.store(1, Relaxed);
        assert!(Arc::ptr_eq(pick_from(&nodes, later), &nodes[0]));
        assert!(Arc::ptr_eq(pick_from(&nodes, later), &nodes[1]));
    }

    #[test]
    fn the_first_node_to_return_is_picked_if_all_are_ejected() {
        let nodes = nodes(3);
        let now = Instant::now();
        for (index, secs) in [(0, 9), (1, 1), (2, 5)] {
            nodes[index].update(|health| health.ejected_until = Some(now + Duration::from_secs(secs)));
        }
        assert!(Arc::ptr_eq(pick_from(&nodes, now), &nodes[1]));
    }

    #[test]
    fn repeated_failures_extend_the_ejection_up_to_a_limit() {
        let mut health = Health::default();
        let now = Instant::now();
        for failures in 0..40 {
            health.fail(now);
            let ejection = health.ejected_until.unwrap() - now;
            assert!(
                ejection <= LONGEST_EJECTION && ejection >= FIRST_EJECTION / 2,
                "{failures}: {ejection:?}"
            );
        }
        assert!(health.ejected_until.unwrap() - now >= LONGEST_EJECTION / 2);
    }
}
