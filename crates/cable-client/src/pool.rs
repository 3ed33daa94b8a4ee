//! The nodes of a client, with one lazy HTTP/2 connection to each.
//!
//! Each call goes to the less busy of two random nodes. A node that cannot be reached is ejected for a time that grows
//! with each failure in a row; after that, a single call probes it. If all nodes are ejected, the call goes to the one
//! whose ejection ends first, so that a client always makes an attempt.

use std::{
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};

use crate::retry::jittered;

/// The ejection after the first failure, which doubles with each further one, and the longest ejection.
const FIRST_EJECTION: Duration = Duration::from_millis(250);
const LONGEST_EJECTION: Duration = Duration::from_secs(10);
/// The time for which other calls avoid a node while one call probes it.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// The nodes of a client, in the order of its endpoints.
#[derive(Debug)]
pub(crate) struct Pool(Vec<Arc<Node>>);

/// A node: its connection, its calls in flight and its health.
#[derive(Debug)]
struct Node {
    endpoint: Endpoint,
    /// The address for messages: `http://127.0.0.1:7190`.
    address: String,
    /// The connection, created at the first call: only then is a runtime certain to exist.
    channel: OnceLock<Channel>,
    calls: AtomicUsize,
    health: Mutex<Health>,
}

/// The number of failures in a row, and the end of the ejection that they caused.
#[derive(Debug, Clone, Copy, Default)]
struct Health {
    failures: u32,
    ejected_until: Option<Instant>,
}

/// A guard for a call in flight on a node; the call counts until the guard is dropped.
#[derive(Debug)]
pub(crate) struct NodeGuard(Arc<Node>);

impl Pool {
    pub(crate) fn new(endpoints: impl IntoIterator<Item = Endpoint>) -> Pool {
        let node = |endpoint: Endpoint| Node {
            address: endpoint.uri().to_string().trim_end_matches('/').to_owned(),
            endpoint,
            channel: OnceLock::new(),
            calls: AtomicUsize::new(0),
            health: Mutex::default(),
        };
        Pool(endpoints.into_iter().map(node).map(Arc::new).collect())
    }

    /// Returns the node for the next call.
    pub(crate) fn pick(&self) -> NodeGuard {
        let node = match &self.0[..] {
            [only] => only,
            nodes => pick_from(nodes, Instant::now()),
        };
        node.calls.fetch_add(1, Relaxed);
        NodeGuard(Arc::clone(node))
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
    /// Returns the connection to the node. It is established when the first call uses it.
    pub(crate) fn channel(&self) -> Channel {
        self.0.channel.get_or_init(|| self.0.endpoint.connect_lazy()).clone()
    }

    /// Returns the address of the node, for messages.
    pub(crate) fn address(&self) -> &str {
        &self.0.address
    }

    /// Records that the node responded, even if it refused the call.
    pub(crate) fn record_response(&self) {
        self.0.update(|health| *health = Health::default());
    }

    /// Records that the node could not be reached, or is draining.
    pub(crate) fn record_failure(&self) {
        let now = Instant::now();
        self.0.update(|health| health.fail(now));
    }
}

impl Drop for NodeGuard {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Relaxed);
    }
}

impl Node {
    fn health(&self) -> Health {
        *self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update(&self, change: impl FnOnce(&mut Health)) {
        change(&mut self.health.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Health {
    fn is_usable(&self, now: Instant) -> bool {
        self.ejected_until.is_none_or(|until| until <= now)
    }

    /// Ejects the node: for 250 ms after the first failure in a row, doubling up to 10 s.
    fn fail(&mut self, now: Instant) {
        let longer = FIRST_EJECTION.saturating_mul(1 << self.failures.min(16));
        self.failures += 1;
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
    use super::*;

    fn pool(nodes: usize) -> Pool {
        Pool::new(
            (0..nodes).map(|port| Endpoint::from_shared(format!("http://127.0.0.1:{}", port + 1)).unwrap()),
        )
    }

    fn index_of(pool: &Pool, guard: &NodeGuard) -> usize {
        pool.0.iter().position(|node| Arc::ptr_eq(node, &guard.0)).unwrap()
    }

    #[test]
    fn calls_are_spread_evenly_over_two_nodes() {
        let pool = pool(2);
        let calls: Vec<NodeGuard> = (0..10).map(|_| pool.pick()).collect();
        assert_eq!(calls.iter().filter(|guard| index_of(&pool, guard) == 0).count(), 5);
        drop(calls);
        assert!(pool.0.iter().all(|node| node.calls.load(Relaxed) == 0));
    }

    #[test]
    fn a_failed_node_is_ejected_and_then_probed_once() {
        let pool = pool(2);
        let now = Instant::now();
        pool.0[0].update(|health| health.fail(now));
        for _ in 0..20 {
            assert!(Arc::ptr_eq(pick_from(&pool.0, now), &pool.0[1]));
        }
        let later = now + LONGEST_EJECTION;
        pool.0[1].calls.store(1, Relaxed);
        assert!(Arc::ptr_eq(pick_from(&pool.0, later), &pool.0[0]));
        assert!(Arc::ptr_eq(pick_from(&pool.0, later), &pool.0[1]));
    }

    #[test]
    fn the_first_node_to_return_is_picked_if_all_are_ejected() {
        let pool = pool(3);
        let now = Instant::now();
        for (index, secs) in [(0, 9), (1, 1), (2, 5)] {
            pool.0[index].update(|health| health.ejected_until = Some(now + Duration::from_secs(secs)));
        }
        assert!(Arc::ptr_eq(pick_from(&pool.0, now), &pool.0[1]));
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
