//! A node: its parts put together, served, and drained when it is asked to stop.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{net::TcpListener, sync::watch};
use tonic::transport::{Server, server::TcpIncoming};
use tonic_health::server::HealthReporter;

use crate::{
    config::Config,
    content::Content,
    log::{Log, local::LocalLog},
    model::{LogId, system_clock},
    ops,
    publishing::Publishing,
    rpc,
    store::{self, Store},
    telemetry::Metrics,
    wire,
};

mod calls;

/// Streams that one connection may have open. tonic's own default is no bound.
const STREAMS_PER_CONNECTION: u32 = 200;

/// Resets that a peer may provoke on one connection. tonic's own default is no bound.
const LOCAL_RESETS: usize = 1_024;

/// A peer that answers no ping is gone after both together.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// How often gauges are refreshed.
const OBSERVE: Duration = Duration::from_secs(1);

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

/// Runs a node until `shutdown` is there and it has drained: calls under way may end within `server.drain`.
///
/// # Errors
/// It cannot start, or serving failed.
pub async fn run(
    config: Config,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Error> {
    let options = store::Options {
        dir: config.store.dir.clone(),
        readers: config.store.readers,
        reserve_bytes: config.store.reserve_bytes,
    };
    let (store, writer) = Store::open(options, LogId(random()))?;
    let metrics = Arc::new(Metrics::new());
    let log: Arc<dyn Log> = Arc::new(LocalLog::start(writer));
    let clock = system_clock();
    let content = Arc::new(Content::new(store.clone(), config.cache.bytes));
    let publishing = Arc::new(Publishing::new(store.clone(), log, clock.clone()));
    let (draining, is_draining) = watch::channel(false);
    let (ready, is_ready) = watch::channel(true);
    let (health, health_service) = tonic_health::server::health_reporter();
    report(&health, true).await;

    let transfer = rpc::transfer::TransferRpc {
        store: store.clone(),
        publishing: publishing.clone(),
        draining: is_draining.clone(),
    };
    let status = rpc::status::StatusRpc { store: store.clone(), content: content.clone(), started: clock() };
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let serving = Server::builder()
        .accept_http1(true)
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .http2_max_local_error_reset_streams(Some(LOCAL_RESETS))
        .http2_keepalive_interval(Some(PING_INTERVAL))
        .http2_keepalive_timeout(Some(PING_TIMEOUT))
        .layer(tonic_web::GrpcWebLayer::new())
        .layer(calls::Layer::new(metrics.clone()))
        .add_service(rpc::content::server(content.clone()))
        .add_service(rpc::publishing::server(publishing))
        .add_service(rpc::transfer::server(transfer))
        .add_service(rpc::status::server(status))
        .add_service(health_service)
        .add_service(reflection().build_v1().map_err(serve_error)?)
        .add_service(reflection().build_v1alpha().map_err(serve_error)?)
        .serve_with_incoming_shutdown(incoming, drained(is_draining.clone()));

    let ops = serve_ops(&config, metrics.clone(), is_ready, is_draining.clone()).await?;
    let open = Arc::downgrade(&store);
    let observer = tokio::spawn(observe(store, content, metrics, is_draining));
    let drain = async {
        shutdown.await;
        tracing::info!("draining");
        report(&health, false).await;
        ready.send_replace(false);
        draining.send_replace(true);
        tokio::time::sleep(config.server.drain).await;
    };
    let served = tokio::select! {
        served = serving => served.map_err(serve_error),
        () = drain => {
            tracing::warn!("calls under way did not end in time");
            Ok(())
        }
    };
    observer.abort();
    if let Some(ops) = ops {
        // It ends by itself when the node drains; if the node failed, it need not.
        ops.abort();
    }
    closed(&open).await;
    served
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

fn serve_error(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Serve(Box::new(error))
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
    for service in ["", "cable.v1.ContentService", "cable.v1.PublishingService"] {
        health.set_service_status(service, status).await;
    }
}

async fn drained(mut draining: watch::Receiver<bool>) {
    // The sender lives as long as the node: an error means that it is gone, too.
    let _ = draining.wait_for(|draining| *draining).await;
}

async fn serve_ops(
    config: &Config,
    metrics: Arc<Metrics>,
    ready: watch::Receiver<bool>,
    draining: watch::Receiver<bool>,
) -> Result<Option<tokio::task::JoinHandle<()>>, Error> {
    let Some(address) = config.server.ops_listen else { return Ok(None) };
    let listener = TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })?;
    Ok(Some(tokio::spawn(async move {
        if let Err(error) = ops::serve(listener, metrics, ready, drained(draining)).await {
            tracing::error!(%error, "the ops server ended");
        }
    })))
}

/// Keeps gauges, and counters that others count, up to date.
async fn observe(
    store: Arc<Store>,
    content: Arc<Content>,
    metrics: Arc<Metrics>,
    mut draining: watch::Receiver<bool>,
) {
    let (mut hits, mut misses, mut applied) = (0, 0, store.head().revision);
    while !*draining.borrow_and_update() {
        let (_, now_hits, now_misses) = content.cached();
        let revision = store.head().revision;
        metrics.cache_hits.inc_by(now_hits - hits);
        metrics.cache_misses.inc_by(now_misses - misses);
        metrics.entries_applied.inc_by((revision - applied).unsigned_abs());
        metrics.head_revision.set(revision.unsigned_abs());
        metrics.store_bytes.set(store.bytes_on_disk());
        (hits, misses, applied) = (now_hits, now_misses, revision);
        tokio::time::sleep(OBSERVE).await;
    }
}

fn random() -> u32 {
    use std::hash::{BuildHasher as _, RandomState};
    // Keyed by the system's randomness.
    RandomState::new().hash_one(std::process::id()) as u32
}
