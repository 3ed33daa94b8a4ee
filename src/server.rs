//! A node: its parts put together, served, and drained when it is asked to stop.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{net::TcpListener, sync::watch};
use tonic::service::Routes;
use tonic_health::server::HealthReporter;

use crate::{
    clock::Clock,
    config::Config,
    content::Content,
    feed::Feeds,
    log::local::LocalLog,
    model::LogId,
    ops,
    publishing::{self, Publishing},
    rpc,
    store::{self, Store, floor::History},
    telemetry::Metrics,
    wire,
};

mod accept;
mod calls;
mod coalesce;
mod connection;
mod cores;
mod life;
mod message;
mod reply;
mod streams;
mod web;

use calls::{Calls, Services};
use connection::Common;
use cores::Cores;

/// How often gauges are refreshed.
const OBSERVE: Duration = Duration::from_secs(1);

/// How often history that has grown too old is let go of.
const COMPACT: i64 = 60_000_000;

/// Why a node cannot start, or ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store cannot be opened.
    #[error("open the store")]
    Store(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// An address cannot be listened at.
    #[error("listen at {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The connections' side failed.
    #[error("serve")]
    Serve(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<store::OpenError> for Error {
    fn from(error: store::OpenError) -> Error {
        Error::Store(Box::new(error))
    }
}

/// Runs a node by a clock until `shutdown` is there and it has drained: calls under way may end within `server.drain`.
///
/// # Errors
/// It cannot start.
pub async fn run(
    config: Config,
    clock: Clock,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Error> {
    let node = Node::start(&config, clock)?;
    let (health, health_service) = tonic_health::server::health_reporter();
    report(&health, true).await;
    let routes = node.routes(health_service)?;
    let common = || Common {
        calls: Arc::new(node.calls(routes.clone(), config.connections.feeds)),
        limits: config.connections.clone(),
        drain: config.server.drain,
        draining: node.draining.subscribe(),
    };
    let cores = Cores::start(config.server.threads, common).map_err(|error| Error::Serve(error.into()))?;
    let ops = node.serve_ops(&config).await?;
    let observer = tokio::spawn(observe(
        node.store.clone(),
        node.content.clone(),
        node.feeds.clone(),
        node.metrics.clone(),
    ));
    let keeper = tokio::spawn(publishing::keep(node.publishing.clone()));

    let compaction = tokio::spawn(compact(node.log.clone(), node.clock.clone(), history(&config)));
    let feeds = node.feeds.clone();
    let hub = tokio::spawn(async move { feeds.run().await });

    let limits = &config.connections;
    tokio::select! {
        () = accept::run(listener, &cores, limits, node.metrics.clone()) => {}
        () = shutdown => {}
    }
    tracing::info!("draining");
    report(&health, false).await;
    node.draining.send_replace(true);
    end(keeper).await;
    cores.join().await;
    end(observer).await;
    end(compaction).await;
    end(hub).await;
    if let Some(ops) = ops {
        ops.abort();
    }
    let open = Arc::downgrade(&node.store);
    drop((node, routes));
    closed(&open).await;
    Ok(())
}

/// The parts of a node.
struct Node {
    store: Arc<Store>,
    content: Arc<Content>,
    feeds: Arc<Feeds>,
    publishing: Arc<Publishing>,
    log: Arc<LocalLog>,
    clock: Clock,
    metrics: Arc<Metrics>,
    /// Whether it was asked to stop.
    draining: watch::Sender<bool>,
    /// Microseconds since 1970 UTC.
    started: i64,
}

impl Node {
    fn start(config: &Config, clock: Clock) -> Result<Node, Error> {
        let options = store::Options {
            dir: config.store.dir.clone(),
            readers: config.store.readers,
            reserve_bytes: config.store.reserve_bytes,
        };
        let (store, writer) = Store::open(options, LogId(random()))?;
        let log = Arc::new(LocalLog::start(writer));
        let content = Arc::new(Content::new(store.clone(), config.cache.bytes));
        let feeds = Arc::new(Feeds::new(store.clone(), config.feed.most));
        // Weak, for both hold the store.
        let (content_kept, feeds_kept) = (Arc::downgrade(&content), Arc::downgrade(&feeds));
        store.on_erase(move || content_kept.upgrade().iter().for_each(|content| content.forget()));
        store.on_erase(move || feeds_kept.upgrade().iter().for_each(|feeds| feeds.forget()));
        Ok(Node {
            content,
            feeds,
            publishing: Arc::new(Publishing::new(store.clone(), log.clone(), clock.clone())),
            store,
            metrics: Arc::new(Metrics::new()),
            draining: watch::Sender::new(false),
            started: clock.now(),
            log,
            clock,
        })
    }

    /// The services that are tonic's to serve.
    fn routes(
        &self,
        health: impl tonic::codegen::Service<
            http::Request<tonic::body::Body>,
            Error = std::convert::Infallible,
            Response = http::Response<tonic::body::Body>,
            Future: Send,
        > + tonic::server::NamedService
        + Clone
        + Send
        + Sync
        + 'static,
    ) -> Result<Routes, Error> {
        let transfer = rpc::transfer::TransferRpc {
            store: self.store.clone(),
            publishing: self.publishing.clone(),
            draining: self.draining.subscribe(),
        };
        let status = rpc::status::StatusRpc {
            store: self.store.clone(),
            content: self.content.clone(),
            started: self.started,
        };
        let reflection_error = |error: tonic_reflection::server::Error| Error::Serve(error.into());
        let mut routes = Routes::builder();
        routes
            .add_service(rpc::publishing::server(self.publishing.clone()))
            .add_service(rpc::transfer::server(transfer))
            .add_service(rpc::status::server(status))
            .add_service(health)
            .add_service(reflection().build_v1().map_err(reflection_error)?)
            .add_service(reflection().build_v1alpha().map_err(reflection_error)?);
        Ok(routes.routes().prepare())
    }

    /// What one core answers with.
    fn calls(&self, routes: Routes, feeds: usize) -> Calls {
        let services = Services {
            content: rpc::content::ContentRpc { content: self.content.clone() },
            feed: rpc::feed::FeedRpc { feeds: self.feeds.clone() },
        };
        Calls::new(services, routes, feeds, &self.metrics, self.draining.subscribe())
    }

    async fn serve_ops(&self, config: &Config) -> Result<Option<tokio::task::JoinHandle<()>>, Error> {
        let Some(address) = config.server.ops_listen else { return Ok(None) };
        let listener =
            TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })?;
        let (metrics, draining) = (self.metrics.clone(), self.draining.subscribe());
        Ok(Some(tokio::spawn(async move {
            if let Err(error) = ops::serve(listener, metrics, draining).await {
                tracing::error!(%error, "the ops server ended");
            }
        })))
    }
}

/// Ends a task that would go on for ever, and waits until it has let go of what it held.
async fn end(task: tokio::task::JoinHandle<()>) {
    task.abort();
    let _ = task.await;
}

/// Waits until the last task has let go of the store: whoever waits for the end of a node may open it again then.
async fn closed(store: &Weak<Store>) {
    for _ in 0..200 {
        if store.strong_count() == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tracing::warn!("the store is still in use");
}

/// The schema, that of the health check, and that of the details of errors, so that tools can show them.
fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(wire::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
}

async fn report(health: &HealthReporter, serving: bool) {
    use tonic_health::ServingStatus::{NotServing, Serving};
    let status = if serving { Serving } else { NotServing };
    for service in ["", "cable.v1.ContentService", "cable.v1.FeedService", "cable.v1.PublishingService"] {
        health.set_service_status(service, status).await;
    }
}

/// Keeps gauges, and counters that others count, up to date.
async fn observe(store: Arc<Store>, content: Arc<Content>, feeds: Arc<Feeds>, metrics: Arc<Metrics>) {
    let (mut hits, mut misses, mut applied) = (0, 0, store.head().revision);
    loop {
        let (_, now_hits, now_misses) = content.cached();
        let revision = store.head().revision;
        metrics.cache_hits.inc_by(now_hits - hits);
        metrics.cache_misses.inc_by(now_misses - misses);
        metrics.entries_applied.inc_by((revision - applied).unsigned_abs());
        metrics.feeds.set(feeds.open() as u64);
        metrics.head_revision.set(revision.unsigned_abs());
        metrics.store_bytes.set(store.bytes_on_disk());
        (hits, misses, applied) = (now_hits, now_misses, revision);
        tokio::time::sleep(OBSERVE).await;
    }
}

fn history(config: &Config) -> History {
    History { age: config.feed.history, entries: i64::from(config.feed.history_entries) }
}

/// Lets go of old history for as long as the node runs.
async fn compact(log: Arc<LocalLog>, clock: Clock, history: History) {
    loop {
        clock.reached(clock.now() + COMPACT).await;
        loop {
            match log.compact(clock.now(), history).await {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "history was not let go of");
                    break;
                }
            }
        }
    }
}

fn random() -> u32 {
    use std::hash::{BuildHasher as _, RandomState};
    // Keyed by the system's randomness.
    RandomState::new().hash_one(std::process::id()) as u32
}
