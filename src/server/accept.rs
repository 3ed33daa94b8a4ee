//! Accepts connections: their limits, and the handling of failed accepts.

use std::{
    collections::HashMap,
    fs, io,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustix::{net::sockopt, process};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep},
};

use super::cores::{Accepted, Cores};
use crate::{config::Connections, telemetry::Metrics};

/// The first and the longest pause after a failed accept. Without a pause, a process without free file descriptors
/// would spin on the queue.
const MIN_PAUSE: Duration = Duration::from_millis(50);
const MAX_PAUSE: Duration = Duration::from_millis(500);

/// How often a lasting failure is logged.
const LOG_INTERVAL: Duration = Duration::from_secs(5);

/// TCP_USER_TIMEOUT in milliseconds, and the idle time before the first keepalive probe. A peer that acknowledges no
/// byte, or no probe, for the timeout is gone.
const USER_TIMEOUT_MILLIS: u32 = 30_000;
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);

/// File descriptors that no connection gets, because the store opens files while it works.
const RESERVED_DESCRIPTORS: usize = 32;

/// The maximum number of connections of the operations listener.
const MAX_OPS_CONNECTIONS: usize = 64;

/// Accepts connections. Never returns.
pub(super) async fn run(
    listener: TcpListener,
    cores: &Cores,
    limits: &Connections,
    file_descriptors: usize,
    metrics: Arc<Metrics>,
) {
    let limiter = ConnectionLimiter::new(limits, file_descriptors, metrics);
    let mut backoff = Backoff::default();
    loop {
        // The permit is acquired before the accept: connections above the limit wait in the listen backlog.
        let permit = limiter.acquire().await;
        match listener.accept().await {
            Ok((stream, peer)) => {
                backoff.pause = None;
                if let Some(permit) = limiter.admit(permit, peer.ip())
                    && let Ok(stream) = prepare(stream)
                {
                    cores.assign(Accepted { stream, peer: peer.ip().to_canonical(), permit });
                }
            }
            Err(error) if is_peer_error(&error) => {}
            Err(error) => backoff.wait(&error).await,
        }
    }
}

fn prepare(stream: TcpStream) -> io::Result<std::net::TcpStream> {
    stream.set_nodelay(true)?;
    sockopt::set_tcp_user_timeout(&stream, USER_TIMEOUT_MILLIS)?;
    sockopt::set_socket_keepalive(&stream, true)?;
    sockopt::set_tcp_keepidle(&stream, KEEPALIVE_IDLE)?;
    stream.into_std()
}

/// Whether the connection was gone before it was accepted. The next one may be fine.
fn is_peer_error(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Consecutive failures of accept.
#[derive(Default)]
struct Backoff {
    pause: Option<Duration>,
    last_logged: Option<Instant>,
}

impl Backoff {
    async fn wait(&mut self, error: &io::Error) {
        if self.last_logged.is_none_or(|time| time.elapsed() > LOG_INTERVAL) {
            tracing::error!(%error, "accept failed");
            self.last_logged = Some(Instant::now());
        }
        let pause = self.pause.map_or(MIN_PAUSE, |pause| (pause * 2).min(MAX_PAUSE));
        self.pause = Some(pause);
        sleep(pause).await;
    }
}

/// The connection limits, and the open connections of each peer.
struct ConnectionLimiter {
    all: Arc<Semaphore>,
    per_peer: usize,
    peers: Arc<Peers>,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
struct Peers(Mutex<HashMap<IpAddr, usize>>);

/// The permit of one connection. It is released when dropped.
pub(super) struct ConnectionPermit {
    _permit: OwnedSemaphorePermit,
    peer: IpAddr,
    peers: Arc<Peers>,
    metrics: Arc<Metrics>,
}

impl ConnectionLimiter {
    fn new(limits: &Connections, file_descriptors: usize, metrics: Arc<Metrics>) -> ConnectionLimiter {
        let most = limits.max.min(file_descriptors).min(Semaphore::MAX_PERMITS);
        let all = Arc::new(Semaphore::new(most));
        ConnectionLimiter { all, per_peer: limits.max_per_peer, peers: Arc::default(), metrics }
    }

    async fn acquire(&self) -> OwnedSemaphorePermit {
        self.all.clone().acquire_owned().await.expect("the semaphore is never closed")
    }

    /// Returns the permit of a connection. None if the peer has reached its limit.
    fn admit(&self, permit: OwnedSemaphorePermit, peer: IpAddr) -> Option<ConnectionPermit> {
        let peer = network(peer);
        let mut peers = self.peers.0.lock().unwrap_or_else(PoisonError::into_inner);
        let open = peers.entry(peer).or_default();
        if *open >= self.per_peer {
            self.metrics.connections_refused.inc();
            return None;
        }
        *open += 1;
        self.metrics.connections.inc();
        Some(ConnectionPermit {
            _permit: permit,
            peer,
            peers: self.peers.clone(),
            metrics: self.metrics.clone(),
        })
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.metrics.connections.dec();
        let mut peers = self.peers.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = peers.get_mut(&self.peer) {
            *open -= 1;
            if *open == 0 {
                peers.remove(&self.peer);
            }
        }
    }
}

/// Returns the address by which a peer is counted. A /64 is the smallest IPv6 network that one customer gets.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        address => address,
    }
}

/// Returns the number of connections that leave enough file descriptors for everything else: the limit of the process
/// minus the descriptors that are open now, [`RESERVED_DESCRIPTORS`] and `others`, the number that other listeners may
/// have.
pub(super) fn available_descriptors(others: usize) -> usize {
    let limit = process::getrlimit(process::Resource::Nofile).current.unwrap_or(u64::MAX);
    let open = fs::read_dir("/proc/self/fd").map_or(RESERVED_DESCRIPTORS, Iterator::count);
    usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(open + RESERVED_DESCRIPTORS + others).max(1)
}

/// Returns the connection limit of the operations listener: a small number, at most a quarter of what is available.
pub(super) fn max_ops_connections() -> usize {
    MAX_OPS_CONNECTIONS.min(available_descriptors(0) / 4).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_peer_is_its_network() {
        let of = |text: &str| network(text.parse().unwrap()).to_string();
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(of("2001:db8:1:2::9"), "2001:db8:1:2::");
        assert_ne!(of("2001:db8:1:3::9"), "2001:db8:1:2::");
        assert_eq!(of("192.0.2.1"), "192.0.2.1");
        assert_eq!(of("::ffff:192.0.2.1"), "192.0.2.1");
    }

    #[test]
    fn listeners_leave_file_descriptors_to_the_store() {
        let limit = process::getrlimit(process::Resource::Nofile).current.unwrap();
        let open = fs::read_dir("/proc/self/fd").unwrap().count();
        let operations = max_ops_connections();
        let all = available_descriptors(operations) + operations;
        assert!(all + open + RESERVED_DESCRIPTORS <= limit as usize + 4, "{all} of {limit}, {open} open");
    }
}
