//! The addresses of the endpoints: lookups of their names, and the nodes that result.
//!
//! A name is looked up at the first call, and again by a call after [`MAX_AGE`] or, if a node has failed since, after
//! [`MIN_AGE`]. Only the first lookup, and one while no node can be reached, is waited for. A node whose address stays
//! keeps its connection. If a lookup fails, the nodes stay.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::future::join_all;
use tokio::{
    net::lookup_host,
    time::{Instant, timeout},
};

use super::{Connections, Node};
use crate::{BoxFuture, Error, Result, config::Target};

/// The age at which addresses are looked up again: about the time to live of a name that moves between machines.
const MAX_AGE: Duration = Duration::from_secs(30);
/// The age at which addresses are looked up again after a failure.
const MIN_AGE: Duration = Duration::from_secs(1);
/// The most addresses of a name that a client connects to. A random choice of so many spreads the load of many clients.
const MAX_ADDRESSES: usize = 16;

/// The endpoints of a client, and the nodes at their addresses.
#[derive(Debug)]
pub(super) struct Names {
    targets: Vec<Arc<Target>>,
    /// Whether an endpoint has a name instead of an address.
    has_names: bool,
    connections: Arc<Connections>,
    nodes: RwLock<Arc<[Arc<Node>]>>,
    /// The time of the last lookup. `None` before the first one.
    looked_up: Mutex<Option<Instant>>,
    /// Held during a lookup.
    looking_up: tokio::sync::Mutex<()>,
    has_failures: Arc<AtomicBool>,
}

impl Names {
    /// Returns the endpoints. The nodes of those with an address instead of a name exist at once.
    pub(super) fn new(targets: Vec<Target>, connections: Connections) -> Names {
        let names = Names {
            has_names: targets.iter().any(|target| target.ip().is_none()),
            targets: targets.into_iter().map(Arc::new).collect(),
            connections: Arc::new(connections),
            nodes: RwLock::new(Arc::new([])),
            looked_up: Mutex::new(None),
            looking_up: tokio::sync::Mutex::default(),
            has_failures: Arc::default(),
        };
        if !names.has_names {
            names.update(&names.targets.iter().map(|target| addresses(target)).collect::<Vec<_>>());
        }
        names
    }

    /// Returns the nodes, at least one.
    pub(super) async fn nodes(names: &Arc<Names>) -> Result<Arc<[Arc<Node>]>> {
        let nodes = names.current();
        if !nodes.is_empty() && !names.is_due() {
            return Ok(nodes);
        }
        let now = Instant::now();
        if nodes.iter().any(|node| node.health().is_usable(now)) {
            // The call continues with the nodes that it has.
            let names = Arc::clone(names);
            tokio::spawn(async move {
                if let Ok(_looking_up) = names.looking_up.try_lock() { names.look_up().await } else { Ok(()) }
            });
            return Ok(nodes);
        }
        let _looking_up = names.looking_up.lock().await;
        if names.current().is_empty() || names.is_due() {
            names.look_up().await?;
        }
        Ok(names.current())
    }

    fn current(&self) -> Arc<[Arc<Node>]> {
        Arc::clone(&self.nodes.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn is_due(&self) -> bool {
        if !self.has_names {
            return false;
        }
        let max = if self.has_failures.load(Relaxed) { MIN_AGE } else { MAX_AGE };
        self.looked_up.lock().unwrap_or_else(PoisonError::into_inner).is_none_or(|at| at.elapsed() >= max)
    }

    /// Looks up all names. An error if no node is known then.
    async fn look_up(&self) -> Result<()> {
        self.has_failures.store(false, Relaxed);
        let found = self.targets.iter().map(|target| addresses_within(&self.connections, target));
        let found = join_all(found).await;
        *self.looked_up.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        let failure = found.iter().find_map(|found| found.as_ref().err().cloned());
        if failure.is_some() {
            self.has_failures.store(true, Relaxed);
        }
        self.update(&found);
        match failure {
            Some(failure) if self.current().is_empty() => Err(Error::refused(failure)),
            _ => Ok(()),
        }
    }

    /// Replaces the nodes by those at the addresses that were found for each endpoint.
    fn update(&self, found: &[Result<Vec<SocketAddr>, String>]) {
        let old = self.current();
        let mut nodes = Vec::new();
        for (target, found) in self.targets.iter().zip(found) {
            let known = || old.iter().filter(|node| Arc::ptr_eq(&node.peer.target, target));
            match found {
                Ok(addresses) => nodes.extend(addresses.iter().map(|address| {
                    known().find(|node| node.peer.address == *address).cloned().unwrap_or_else(|| {
                        let (connections, failed) = (&self.connections, &self.has_failures);
                        Arc::new(Node::new(
                            Arc::clone(target),
                            *address,
                            Arc::clone(connections),
                            Arc::clone(failed),
                        ))
                    })
                })),
                Err(_) => nodes.extend(known().cloned()),
            }
        }
        *self.nodes.write().unwrap_or_else(PoisonError::into_inner) = nodes.into();
    }
}

/// A function that looks up the addresses of a host, with the port.
pub(crate) type Lookup = Box<dyn Fn(&str, u16) -> BoxFuture<io::Result<Vec<SocketAddr>>> + Send + Sync>;

/// Returns the lookup by the operating system.
pub(crate) fn system_lookup() -> Lookup {
    Box::new(|host, port| {
        let host = host.to_owned();
        Box::pin(async move { Ok(lookup_host((host.as_str(), port)).await?.collect()) })
    })
}

/// Returns the address of an endpoint that has one.
fn addresses(target: &Target) -> Result<Vec<SocketAddr>, String> {
    target
        .ip()
        .map(|ip| vec![SocketAddr::new(ip, target.port)])
        .ok_or_else(|| format!("{} has a name", target.url))
}

/// Returns the addresses of an endpoint, or the message for its failed lookup.
async fn addresses_within(
    Connections { connect_timeout: limit, lookup, .. }: &Connections,
    target: &Target,
) -> Result<Vec<SocketAddr>, String> {
    if target.ip().is_some() {
        return addresses(target);
    }
    let Target { url, host, port, .. } = target;
    let found = match timeout(*limit, lookup(host, *port)).await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => return Err(format!("cannot reach {url}: no address for `{host}`: {error}")),
        Err(_) => return Err(format!("cannot reach {url}: no address for `{host}` within {limit:?}")),
    };
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in found {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() {
        return Err(format!("cannot reach {url}: no address for `{host}`"));
    }
    Ok(at_most(MAX_ADDRESSES, addresses))
}

fn at_most<T>(limit: usize, mut addresses: Vec<T>) -> Vec<T> {
    if addresses.len() > limit {
        fastrand::shuffle(&mut addresses);
        addresses.truncate(limit);
    }
    addresses
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use tokio::net::TcpListener;

    use super::*;
    use crate::{Builder, Cable, ErrorKind, Retry};

    /// The addresses of every name, which a test changes.
    #[derive(Clone, Default)]
    struct Zone(Arc<(AtomicUsize, Mutex<Vec<SocketAddr>>)>);

    impl Zone {
        fn of(addresses: impl IntoIterator<Item = u8>) -> Zone {
            let zone = Zone::default();
            zone.set(addresses);
            zone
        }

        fn set(&self, addresses: impl IntoIterator<Item = u8>) {
            let addresses = addresses.into_iter().map(|last| SocketAddr::from(([127, 0, 0, last], 1)));
            *self.0.1.lock().unwrap() = addresses.collect();
        }

        fn lookups(&self) -> usize {
            self.0.0.load(Relaxed)
        }

        fn lookup(&self) -> Lookup {
            let zone = self.clone();
            Box::new(move |_, _| {
                zone.0.0.fetch_add(1, Relaxed);
                let found = zone.0.1.lock().unwrap().clone();
                Box::pin(async move {
                    if found.is_empty() { Err(io::Error::other("no such host")) } else { Ok(found) }
                })
            })
        }

        fn names(&self, endpoints: &[&str]) -> Arc<Names> {
            let targets = endpoints.iter().map(|endpoint| Target::parse(endpoint).unwrap()).collect();
            let connect_timeout = Duration::from_secs(1);
            Arc::new(Names::new(
                targets,
                Connections {
                    connect_timeout,
                    tls: None,
                    lookup: self.lookup(),
                    keep_alive: crate::pool::KEEP_ALIVE,
                },
            ))
        }

        fn client(&self, builder: Builder) -> Cable {
            builder.build_with(self.lookup()).unwrap()
        }
    }

    async fn last_bytes(names: &Arc<Names>) -> Vec<u8> {
        let nodes = Names::nodes(names).await.unwrap();
        nodes
            .iter()
            .map(|node| node.peer.address.ip().to_string().rsplit('.').next().unwrap().parse().unwrap())
            .collect()
    }

    /// Waits for lookups in the background.
    async fn settle() {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_has_a_node_per_address_and_is_looked_up_again() {
        let zone = Zone::of([1, 2, 2]);
        let names = zone.names(&["http://cable.internal:1", "http://127.0.0.9:1"]);
        assert_eq!(last_bytes(&names).await, [1, 2, 9]);
        let before = Names::nodes(&names).await.unwrap();
        zone.set([2, 3]);
        assert_eq!((last_bytes(&names).await, zone.lookups()), (vec![1, 2, 9], 1));
        tokio::time::advance(MAX_AGE).await;
        // This call does not wait for the lookup.
        assert_eq!(last_bytes(&names).await, [1, 2, 9]);
        settle().await;
        assert_eq!((last_bytes(&names).await, zone.lookups()), (vec![2, 3, 9], 2));
        let after = Names::nodes(&names).await.unwrap();
        assert!(Arc::ptr_eq(&before[1], &after[0]) && Arc::ptr_eq(&before[2], &after[2]));
        zone.set([]);
        tokio::time::advance(MAX_AGE).await;
        let _old = last_bytes(&names).await;
        settle().await;
        assert_eq!((last_bytes(&names).await, zone.lookups()), (vec![2, 3, 9], 3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_leads_to_a_lookup_that_a_call_waits_for_if_no_node_is_left() {
        let zone = Zone::of([1, 2]);
        let names = zone.names(&["http://cable.internal:1"]);
        let nodes = Names::nodes(&names).await.unwrap();
        let fail = |node: &Arc<Node>| {
            node.update(|health| health.fail(Instant::now()));
            node.has_failures.store(true, Relaxed);
        };
        fail(&nodes[0]);
        zone.set([3]);
        assert_eq!(last_bytes(&names).await, [1, 2]);
        settle().await;
        assert_eq!(zone.lookups(), 1, "looked up again within a second");
        tokio::time::advance(MIN_AGE).await;
        nodes.iter().for_each(fail);
        assert_eq!((last_bytes(&names).await, zone.lookups()), (vec![3], 2));
    }

    #[tokio::test]
    async fn endpoints_with_an_address_are_never_looked_up() {
        let zone = Zone::of([]);
        let names = zone.names(&["http://127.0.0.1:1", "http://[::1]:1"]);
        assert_eq!(Names::nodes(&names).await.unwrap().len(), 2);
        assert_eq!(zone.lookups(), 0);
    }

    #[tokio::test]
    async fn a_name_without_address_is_an_error_that_names_both() {
        let zone = Zone::of([]);
        let cable = zone.client(Cable::builder("http://cable.internal:1").retry(Retry::none()));
        let error = cable.status().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        let expected = "cannot reach http://cable.internal:1: no address for `cable.internal`: no such host";
        assert_eq!(error.message(), expected);
        assert!(!error.may_have_applied() && error.is_node_failure());
        // One of two endpoints suffices.
        let both = zone.names(&["http://cable.internal:1", "http://127.0.0.9:1"]);
        assert_eq!(last_bytes(&both).await, [9]);
    }

    #[tokio::test]
    async fn a_call_tries_each_address_once() {
        let live = TcpListener::bind("127.0.0.3:0").await.unwrap();
        let port = live.local_addr().unwrap().port();
        let zone = Zone::default();
        let address = |last| SocketAddr::from(([127, 0, 0, last], port));
        *zone.0.1.lock().unwrap() = [1, 2, 3].map(address).to_vec();
        for _ in 0..5 {
            let builder = Cable::builder("http://cable.internal").retry(Retry::none());
            let cable = zone.client(builder.timeout(Duration::from_millis(500)));
            let (accepted, error) = tokio::join!(live.accept(), cable.status());
            drop(accepted);
            // It was connected, whichever address came first; the server that accepts does not respond.
            let error = error.unwrap_err();
            assert!(error.message().contains("(127.0.0.3:"), "{error}");
        }
        drop(live);
        let cable = zone.client(Cable::builder("http://cable.internal").retry(Retry::none()));
        let error = cable.put(crate::v1::Article::default()).await.unwrap_err();
        assert!(error.message().ends_with("; 2 other addresses failed before"), "{error}");
        assert!(!error.may_have_applied(), "{error}");
    }

    #[tokio::test]
    async fn a_token_is_not_sent_in_plaintext_to_a_name_of_another_machine() {
        let zone = Zone::default();
        *zone.0.1.lock().unwrap() = vec![SocketAddr::from(([192, 0, 2, 1], 1))];
        let builder = Cable::builder("http://cable.internal:1").token("canary");
        let error = zone.client(builder).status().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        let start = "the token is not sent to http://cable.internal:1 (192.0.2.1:1) without TLS";
        assert!(error.message().starts_with(start) && !error.message().contains("canary"), "{error}");
    }

    #[test]
    fn the_addresses_of_a_name_are_bounded() {
        let chosen = at_most(MAX_ADDRESSES, (0..200).collect::<Vec<_>>());
        assert_eq!(chosen.len(), MAX_ADDRESSES);
        assert_eq!(
            at_most(MAX_ADDRESSES, (0..MAX_ADDRESSES).collect()),
            (0..MAX_ADDRESSES).collect::<Vec<_>>()
        );
    }
}
