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
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// How often a lasting failure is logged.
const SAID_AGAIN: Duration = Duration::from_secs(5);

/// TCP_USER_TIMEOUT in milliseconds, and the idle time before the first keepalive probe. A peer that acknowledges no
/// byte, or no probe, for the timeout is gone.
const UNACKNOWLEDGED: u32 = 30_000;
const KEEPALIVE: Duration = Duration::from_secs(60);

/// File descriptors that no connection gets, because the store opens files while it works.
const RESERVE: usize = 32;

/// The maximum number of connections of the operations listener.
const OPERATIONS: usize = 64;

/// Accepts connections. Never returns.
pub(super) async fn run(
    listener: TcpListener,
    cores: &Cores,
    limits: &Connections,
    file_descriptors: usize,
    metrics: Arc<Metrics>,
) {
    let places = Places::new(limits, file_descriptors, metrics);
    let mut trouble = Trouble::default();
    loop {
        // The permit is acquired before the accept: connections above the limit wait in the listen backlog.
        let permit = places.next().await;
        match listener.accept().await {
            Ok((stream, peer)) => {
                trouble.pause = None;
                if let Some(place) = places.of_peer(permit, peer.ip())
                    && let Ok(stream) = prepare(stream)
                {
                    cores.deal(Accepted { stream, place });
                }
            }
            Err(error) if is_of_peer(&error) => {}
            Err(error) => trouble.wait(&error).await,
        }
    }
}

fn prepare(stream: TcpStream) -> io::Result<std::net::TcpStream> {
    stream.set_nodelay(true)?;
    sockopt::set_tcp_user_timeout(&stream, UNACKNOWLEDGED)?;
    sockopt::set_socket_keepalive(&stream, true)?;
    sockopt::set_tcp_keepidle(&stream, KEEPALIVE)?;
    stream.into_std()
}

/// Whether the connection was gone before it was accepted. The next one may be fine.
fn is_of_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Consecutive failures of accept.
#[derive(Default)]
struct Trouble {
    pause: Option<Duration>,
    said: Option<Instant>,
}

impl Trouble {
    async fn wait(&mut self, error: &io::Error) {
        if self.said.is_none_or(|said| said.elapsed() > SAID_AGAIN) {
            tracing::error!(%error, "no connection can be accepted");
            self.said = Some(Instant::now());
        }
        let pause = self.pause.map_or(FIRST_PAUSE, |pause| (pause * 2).min(LONGEST_PAUSE));
        self.pause = Some(pause);
        sleep(pause).await;
    }
}

/// The connection limits, and the open connections of each peer.
struct Places {
    all: Arc<Semaphore>,
    per_peer: usize,
    peers: Arc<Peers>,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
struct Peers(Mutex<HashMap<IpAddr, usize>>);

/// The permit of one connection. It is released when dropped.
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
    peer: IpAddr,
    peers: Arc<Peers>,
    metrics: Arc<Metrics>,
}

impl Places {
    fn new(limits: &Connections, file_descriptors: usize, metrics: Arc<Metrics>) -> Places {
        let most = limits.max.min(file_descriptors).min(Semaphore::MAX_PERMITS);
        let all = Arc::new(Semaphore::new(most));
        Places { all, per_peer: limits.max_per_peer, peers: Arc::default(), metrics }
    }

    async fn next(&self) -> OwnedSemaphorePermit {
        self.all.clone().acquire_owned().await.expect("the semaphore is never closed")
    }

    /// Returns the permit of a connection. None if the peer has reached its limit.
    fn of_peer(&self, permit: OwnedSemaphorePermit, peer: IpAddr) -> Option<Place> {
        let peer = network(peer);
        let mut peers = self.peers.0.lock().unwrap_or_else(PoisonError::into_inner);
        let open = peers.entry(peer).or_default();
        if *open >= self.per_peer {
            self.metrics.connections_refused.inc();
            return None;
        }
        *open += 1;
        self.metrics.connections.inc();
        Some(Place { _permit: permit, peer, peers: self.peers.clone(), metrics: self.metrics.clone() })
    }
}

impl Drop for Place {
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
/// minus the descriptors that are open now, [`RESERVE`] and `others`, the number that other listeners may have.
pub(super) fn file_descriptors(others: usize) -> usize {
    let most = process::getrlimit(process::Resource::Nofile).current.unwrap_or(u64::MAX);
    let open = fs::read_dir("/proc/self/fd").map_or(RESERVE, Iterator::count);
    usize::try_from(most).unwrap_or(usize::MAX).saturating_sub(open + RESERVE + others).max(1)
}

/// Returns the connection limit of the operations listener: a small number, at most a quarter of what is available.
pub(super) fn for_operations() -> usize {
    OPERATIONS.min(file_descriptors(0) / 4).max(1)
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
        let most = process::getrlimit(process::Resource::Nofile).current.unwrap();
        let open = fs::read_dir("/proc/self/fd").unwrap().count();
        let operations = for_operations();
        let all = file_descriptors(operations) + operations;
        assert!(all + open + RESERVE <= most as usize + 4, "{all} of {most}, {open} open");
    }
}
