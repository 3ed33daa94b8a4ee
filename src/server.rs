//! A node: its parts, how they are started and served, and how the node drains when it is stopped.

use std::{
    fmt,
    future::Future,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    pin::pin,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, join_all},
};
use tokio::{net::TcpListener, sync::watch};
use tonic::service::Routes;

use crate::{
    audit::{Audit, AuditError},
    auth::{Access, CredentialError, CredentialFile, Role},
    backup::Backups,
    clock::Clock,
    config::Config,
    content::Content,
    feed::{ConsumerLimits, Consumers, Feeds},
    health::{Condition, Health},
    log::local::{LocalLog, Recorder},
    model::{Kind, LogId},
    ops,
    publishing::{self, Publishing},
    rpc,
    store::{self, Store, floor::History, scrub},
    supervise::{self, Task},
    systemd::Notifier,
    telemetry::{self, Metrics, Spans},
    wire,
};

mod accept;
mod access_log;
mod arrival;
mod bridge;
mod call;
mod calls;
mod coalesce;
mod connection;
mod cores;
mod delivery;
pub(crate) mod entrance;
mod flight;
mod frames;
mod gauges;
mod head;
mod inbound;
mod life;
mod loads;
mod memory;
mod message;
mod methods;
mod peer;
mod proxy;
mod reply;
mod request_id;
mod shedding;
mod streams;
mod tls;
mod traces;
mod transport;
mod watchdog;
mod web;

pub use crate::reload::{Reload, Requests};
use accept::ConnectionLimiter;
use access_log::{AccessLog, Observer};
use bridge::Bridge;
use calls::{Calls, NodeState, Services};
use connection::{ConnectionContext, OriginPolicies};
use cores::Cores;
use entrance::OriginPolicy;
use memory::Memory;
use peer::Listener;
use proxy::Proxies;
use shedding::{CoreOverload, Overload};
use tls::{Files, Reloader};
use traces::Traces;
use web::Outputs;

/// The reason for a stop that a condition describes.
const FAILURE: &str = "failure";

/// The cause of [`Condition::Draining`].
const SHUTTING_DOWN: &str = "the node is shutting down";

/// How long a node of which a part has failed waits for its calls to end.
const FAILED_DRAIN_TIMEOUT: Duration = Duration::from_secs(3);

/// How often old history is compacted, in microseconds.
const COMPACTION_INTERVAL_MICROS: i64 = 60_000_000;

/// The reason why a node cannot start, or has ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store cannot be opened.
    #[error("cannot open the store")]
    Store(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The node cannot listen on an address.
    #[error("cannot listen at {address}: set `{setting}`{flag} to another address", flag = listen_flag(setting))]
    Listen {
        /// The setting that holds the address.
        setting: &'static str,
        /// The address.
        address: SocketAddr,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The credentials cannot be read.
    #[error("cannot read the credentials")]
    Credentials(#[from] CredentialError),
    /// The audit log cannot be written.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// No caller could use the node.
    #[error(
        "{address} cannot be used by any caller: {path} has no credential. Create one with `cable token new NAME --role ROLE`, or \
         give callers without one a role by `auth.anonymous`, such as \"reader\"",
        path = path.display()
    )]
    NoCredentials {
        /// The address of the node.
        address: SocketAddr,
        /// The file of credentials.
        path: PathBuf,
    },
    /// The certificate, the key or the client CA cannot be used.
    #[error("cannot start TLS")]
    Tls(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Traces cannot be sent.
    #[error("cannot send traces to {endpoint}: change or remove `telemetry.otlp_endpoint`")]
    Traces {
        /// The address of the collector.
        endpoint: String,
        /// The problem with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The serving side cannot start.
    #[error("cannot start the server")]
    Serve(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A task or thread ended early or panicked. The text names it.
    #[error("{0}")]
    TaskFailed(String),
}

impl From<store::OpenError> for Error {
    fn from(error: store::OpenError) -> Error {
        Error::Store(Box::new(error))
    }
}

/// Returns the flag that sets the address of a listener, for a message.
fn listen_flag(setting: &str) -> &'static str {
    match setting {
        "server.listen" => " (flag --listen)",
        "server.ops_listen" => " (flag --ops-listen)",
        _ => "",
    }
}

/// Listens on the address of a setting.
///
/// # Errors
/// The operating system refuses the address.
pub async fn listen(setting: &'static str, address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| Error::Listen { setting, address, source })
}

/// Checks the files that the settings name, as a start does. It changes none.
///
/// # Errors
/// The credentials, the files of TLS or the directory of the audit log are missing or not valid.
pub fn check_files(config: &Config) -> Result<(), Error> {
    credential_file(config)?.read()?;
    if let Some(files) = Files::new(&config.tls) {
        files.load(&Clock::system()).map_err(|error| Error::Tls(error.into()))?;
    }
    Ok(Audit::check_directory(&config.audit)?)
}

/// The operator's side of a running node.
pub struct Control {
    /// Completes with the reason when the node must stop.
    pub shutdown: BoxFuture<'static, &'static str>,
    /// Requests to read files again.
    pub reload: Reload,
    /// The supervisor that is notified of the node's state.
    pub notifier: Notifier,
}

impl<F: Future<Output = ()> + Send + 'static> From<F> for Control {
    /// Returns the control of a node that only stops.
    fn from(shutdown: F) -> Control {
        let shutdown = Box::pin(shutdown.map(|()| "request"));
        Control { shutdown, reload: Reload::default(), notifier: Notifier::default() }
    }
}

/// Runs a node, with `clock` as its time, until `control` requests its stop and the node has drained. Calls in flight
/// may finish within `server.drain_timeout`.
///
/// # Errors
/// The node cannot start, or one of its tasks or threads failed.
pub async fn run(
    config: Config,
    clock: Clock,
    listener: TcpListener,
    control: impl Into<Control>,
) -> Result<(), Error> {
    run_with(config, clock, listener, control.into(), Arc::default()).await
}

/// As [`run`], for a node whose health the caller shares.
async fn run_with(
    config: Config,
    clock: Clock,
    listener: TcpListener,
    control: Control,
    health: Arc<Health>,
) -> Result<(), Error> {
    telemetry::start_counting_panics();
    // Listen before the store is opened: a node that cannot listen creates no directory.
    let ops_listener = match config.server.ops_listen {
        Some(address) => Some(listen("server.ops_listen", address).await?),
        None => None,
    };
    let publish_listener = match config.publish.listen {
        Some(address) => Some(listen("publish.listen", address).await?),
        None => None,
    };
    let access = open_access(&config, clock.clone())?;
    let metrics = Arc::new(Metrics::new());
    let tls = Files::new(&config.tls)
        .map(|files| Reloader::load(files, clock.clone(), metrics.clone()))
        .transpose()
        .map_err(|error| Error::Tls(error.into()))?;
    let addresses = Addresses::of(&listener, publish_listener.as_ref(), ops_listener.as_ref());
    let traces = Traces::start(&config.telemetry, &metrics)?;
    let opening = Instant::now();
    let node = Node::start(&config, clock, (metrics, traces.spans.clone()), health.clone(), access.clone())?;
    let open_time = opening.elapsed();
    let routes = node.routes()?;
    let memory = Arc::new(Memory::new(&config.connections));
    let overload = Overload::new(&config.overload, &node.metrics);
    let observer = Arc::new(Observer {
        audit: node.audit.clone(),
        access: AccessLog::new(&config.log),
        metrics: node.metrics.clone(),
        spans: traces.spans.clone(),
    });
    let origin_policy = |listen: SocketAddr| Arc::new(OriginPolicy::new(listen.ip(), &config.web.origins));
    let main = origin_policy(config.server.listen);
    let publishing = config.publish.listen.map_or_else(|| main.clone(), origin_policy);
    let origin_policies = OriginPolicies { main, publishing };
    let web = Arc::new(Outputs::new(node.clock.clone(), &config, node.store.next_due()));
    let proxies = Proxies::new(&config.server);
    let connection_context = || ConnectionContext {
        calls: Arc::new(node.calls(
            routes.clone(),
            &config,
            (memory.clone(), overload.for_core()),
            observer.clone(),
        )),
        memory: memory.for_core(),
        origin_policies: origin_policies.clone(),
        web: web.clone(),
        proxies: proxies.clone(),
        tls: tls.as_ref().map(Reloader::tls),
        limits: config.connections.clone(),
        drain: config.server.drain_timeout,
        draining: node.draining.subscribe(),
    };
    let cores = Cores::start(config.server.threads, &health, connection_context)
        .map_err(|error| Error::Serve(error.into()))?;
    let scheduler = Task::start("scheduler", &health, publishing::run_scheduler(node.publishing.clone()));
    let mut others = node.start_tasks(&config, ops_listener, (memory, overload.clone()), &control.notifier);
    others.push(Task::start(
        "credentials",
        &health,
        access.run(control.reload.subscribe(), node.audit.clone()),
    ));
    let run_tls = |tls: Reloader| tls.run(config.tls.reload_interval, control.reload.subscribe());
    others.extend(tls.map(|tls| Task::start("tls", &health, run_tls(tls))));
    node.log_start(&config, &addresses, open_time);
    control.notifier.ready();
    control.notifier.status(&addresses);
    let threads = watchdog::Threads { cores: cores.probes(), log: node.log.clone() };
    others.push(Task::start("watchdog", &health, watchdog::run(control.notifier.clone(), threads)));

    let descriptors = accept::available_descriptors(accept::max_ops_connections());
    let limiter = Arc::new(ConnectionLimiter::new(&config.connections, descriptors, node.metrics.clone()));
    let listeners =
        [Some((Listener::Main, listener)), publish_listener.map(|open| (Listener::Publishing, open))];
    let accepting = listeners.into_iter().flatten();
    let accepting = accepting.map(|listener| accept::run(listener, &cores, limiter.clone(), &proxies));
    let accepting = supervise::run_endless("accept", health.clone(), join_all(accepting).map(drop));
    // The last local variable, so that it is dropped before the tasks and queues of the node.
    let _abandon_at_drop = AbandonAtDrop(&health);
    let reason = accept_until_stopped(accepting, control, config.server.lame_duck, &health).await;
    tracing::info!("draining");
    health.report(Condition::Draining, SHUTTING_DOWN);
    node.draining.send_replace(true);
    scheduler.abort_and_join().await;
    // Every connection sends its last messages immediately. After a failure the node does not wait for calls that
    // depend on the failed part.
    let mut joined = pin!(cores.join());
    tokio::select! {
        () = &mut joined => {}
        () = health.wait_for(Condition::TaskFailed) => {
            drop(tokio::time::timeout(FAILED_DRAIN_TIMEOUT, joined).await);
        }
    }
    for task in others {
        task.abort_and_join().await;
    }
    let failure = health.cause(Condition::TaskFailed).map(|cause| cause.to_string());
    node.log_stop(failure.as_deref().unwrap_or(reason));
    let (store, audit) = (Arc::downgrade(&node.store), node.audit.clone());
    drop((node, routes, observer));
    if failure.is_none() {
        wait_for_store_close(&store).await;
    }
    traces.stop().await;
    audit.stop(failure.clone());
    failure.map_or(Ok(()), |cause| Err(Error::TaskFailed(cause)))
}

/// Ends the reports of tasks when the node is dropped, as by a second signal: they end because of that.
struct AbandonAtDrop<'a>(&'a Health);

impl Drop for AbandonAtDrop<'_> {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

/// Accepts connections until the node must stop, and for the time `lame_duck` after that. In this time the node is not
/// ready, so that balancers send no new connections, but serves those that arrive. Returns the reason for the stop.
async fn accept_until_stopped(
    accepting: impl Future<Output = ()>,
    Control { shutdown, notifier, .. }: Control,
    lame_duck: Duration,
    health: &Health,
) -> &'static str {
    let (mut accepting, mut failed) = (pin!(accepting), pin!(health.wait_for(Condition::TaskFailed)));
    let reason = tokio::select! {
        () = &mut accepting => FAILURE,
        () = &mut failed => FAILURE,
        reason = shutdown => reason,
    };
    notifier.stopping();
    if lame_duck.is_zero() || reason == FAILURE {
        return reason;
    }
    tracing::info!(lame_duck_secs = lame_duck.as_secs_f64(), reason, "not ready; serving until the drain");
    health.report(Condition::Draining, SHUTTING_DOWN);
    tokio::select! {
        () = accepting => FAILURE,
        () = failed => FAILURE,
        () = tokio::time::sleep(lame_duck) => reason,
    }
}

/// The addresses that are open.
struct Addresses {
    grpc: Option<SocketAddr>,
    publish: Option<SocketAddr>,
    ops: Option<SocketAddr>,
}

impl Addresses {
    fn of(grpc: &TcpListener, publish: Option<&TcpListener>, ops: Option<&TcpListener>) -> Addresses {
        let local = |listener: &TcpListener| listener.local_addr().ok();
        Addresses { grpc: local(grpc), publish: publish.and_then(local), ops: ops.and_then(local) }
    }
}

impl fmt::Display for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("serving")?;
        self.grpc.iter().try_for_each(|address| write!(f, " gRPC at {address}"))?;
        self.publish.iter().try_for_each(|address| write!(f, ", publishing at {address}"))?;
        self.ops.iter().try_for_each(|address| write!(f, ", metrics and health at {address}"))
    }
}

/// The parts of a node.
struct Node {
    store: Arc<Store>,
    content: Arc<Content>,
    feeds: Arc<Feeds>,
    consumers: Arc<Consumers>,
    publishing: Arc<Publishing>,
    log: Arc<LocalLog>,
    audit: Arc<Audit>,
    backups: Arc<Backups>,
    clock: Clock,
    metrics: Arc<Metrics>,
    /// Whether the node is shutting down.
    draining: watch::Sender<bool>,
    access: Arc<Access>,
    /// The start time, in microseconds since 1970 UTC.
    started: i64,
}

impl Node {
    fn start(
        config: &Config,
        clock: Clock,
        (metrics, spans): (Arc<Metrics>, Spans),
        health: Arc<Health>,
        access: Arc<Access>,
    ) -> Result<Node, Error> {
        let options = store::Options {
            dir: config.store.dir.clone(),
            readers: config.store.readers,
            reserve_bytes: config.store.reserve_bytes,
            health: health.clone(),
        };
        // Opened first: a node whose audit log is not one opens no store.
        let audit = Arc::new(Audit::open(&config.audit, clock.clone(), health.clone())?);
        let (store, writer) = Store::open(options, LogId::random())?;
        let head = store.head();
        audit.start(head.log_id, head.revision);
        let recorder = Recorder {
            audit: audit.clone(),
            commit_seconds: metrics.commit_seconds.clone(),
            sync_seconds: metrics.commit_sync_seconds.clone(),
            spans,
        };
        let log = Arc::new(LocalLog::start(writer, health, recorder));
        let content = Arc::new(Content::new(store.clone(), clock.clone(), config.cache.max_bytes));
        let feeds = Arc::new(Feeds::new(store.clone(), config.feed.max_open));
        let limits = ConsumerLimits {
            of_node: config.feed.max_consumers,
            of_owner: config.feed.max_consumers_per_caller,
            retention: config.feed.consumer_retention,
        };
        let consumers = Arc::new(Consumers::new(store.clone(), log.clone(), clock.clone(), limits));
        // Weak references, because both hold the store.
        let (weak_content, weak_feeds) = (Arc::downgrade(&content), Arc::downgrade(&feeds));
        store.on_erase(move || weak_content.upgrade().iter().for_each(|content| content.clear_caches()));
        store.on_erase(move || weak_feeds.upgrade().iter().for_each(|feeds| feeds.clear()));
        Ok(Node {
            content,
            feeds,
            consumers,
            publishing: Arc::new(Publishing::new(store.clone(), log.clone(), clock.clone())),
            backups: Arc::new(Backups::new(store.clone(), audit.clone(), metrics.clone())),
            store,
            metrics,
            draining: watch::Sender::new(false),
            access,
            started: clock.now(),
            log,
            audit,
            clock,
        })
    }

    /// Returns the services that tonic serves.
    fn routes(&self) -> Result<Routes, Error> {
        let transfer = rpc::transfer::TransferRpc {
            store: self.store.clone(),
            publishing: self.publishing.clone(),
            health: self.store.health().clone(),
            draining: self.draining.subscribe(),
        };
        let status = rpc::status::StatusRpc {
            store: self.store.clone(),
            content: self.content.clone(),
            consumers: self.consumers.clone(),
            clock: self.clock.clone(),
            started: self.started,
        };
        let admin = rpc::admin::AdminRpc {
            backups: self.backups.clone(),
            health: self.store.health().clone(),
            draining: self.draining.subscribe(),
        };
        let reflection_error = |error: tonic_reflection::server::Error| Error::Serve(error.into());
        let mut routes = Routes::builder();
        routes
            .add_service(rpc::publishing::server(self.publishing.clone()))
            .add_service(rpc::transfer::server(transfer))
            .add_service(rpc::status::server(status))
            .add_service(rpc::feed::server(self.feed_rpc()))
            .add_service(rpc::admin::server(admin))
            .add_service(rpc::health::server(self.store.health().clone()))
            .add_service(reflection().build_v1().map_err(reflection_error)?)
            .add_service(reflection().build_v1alpha().map_err(reflection_error)?);
        Ok(routes.routes().prepare())
    }

    fn feed_rpc(&self) -> rpc::feed::FeedRpc {
        rpc::feed::FeedRpc { feeds: self.feeds.clone(), consumers: self.consumers.clone() }
    }

    /// Creates the calls of one core.
    fn calls(
        &self,
        routes: Routes,
        config: &Config,
        (memory, overload): (Arc<Memory>, CoreOverload),
        observer: Arc<Observer>,
    ) -> Calls {
        let services = Services {
            content: rpc::content::ContentRpc { content: self.content.clone() },
            feed: self.feed_rpc(),
        };
        let state = NodeState {
            access: self.access.clone(),
            draining: self.draining.subscribe(),
            health: self.store.health().clone(),
        };
        Calls::new(services, Bridge::new(routes), config, memory, observer, (state, overload))
    }

    /// Starts the tasks that continue while the node drains.
    fn start_tasks(
        &self,
        config: &Config,
        ops: Option<TcpListener>,
        (memory, overload): (Arc<Memory>, Arc<Overload>),
        notifier: &Notifier,
    ) -> Vec<Task> {
        let health = self.store.health();
        let start = |name, work: BoxFuture<'static, ()>| Task::start(name, health, work);
        let (feeds, metrics) = (self.feeds.clone(), self.metrics.clone());
        let gauges = gauges::Sources {
            store: self.store.clone(),
            log: self.log.clone(),
            content: self.content.clone(),
            feeds: feeds.clone(),
            consumers: self.consumers.clone(),
            audit: self.audit.clone(),
            memory,
            overload: overload.clone(),
            clock: self.clock.clone(),
            metrics: metrics.clone(),
        };
        let consumers = self.consumers.clone();
        let compaction = compact(self.log.clone(), self.clock.clone(), history(config));
        let mut tasks = vec![
            start("health", Box::pin(show_conditions(health.clone(), metrics.clone(), notifier.clone()))),
            start("gauges", Box::pin(gauges::run(gauges))),
            start("compaction", Box::pin(compaction)),
            start("overload", Box::pin(shedding::run(overload, self.store.clone(), self.content.clone()))),
            start("audit", Box::pin(self.audit.clone().run())),
            start("hub", Box::pin(async move { feeds.run().await })),
            start("consumers", Box::pin(async move { consumers.run().await })),
            start(
                "scrub",
                Box::pin(scrub::run(self.store.clone(), self.clock.clone(), config.store.scrub_interval)),
            ),
        ];
        let serve_ops = |listener| ops::serve(listener, ops_access(config), metrics, health.clone());
        tasks.extend(ops.map(|listener| start("ops", Box::pin(serve_ops(listener)))));
        tasks
    }

    fn log_start(&self, config: &Config, addresses: &Addresses, open_time: Duration) {
        let head = self.store.head();
        tracing::info!(
            address = addresses.grpc.map(tracing::field::display),
            publish_address = addresses.publish.map(tracing::field::display),
            ops_address = addresses.ops.map(tracing::field::display),
            tls = config.tls.certificate.is_some(),
            data = %config.store.dir.display(),
            version = env!("CARGO_PKG_VERSION"),
            commit = env!("CABLE_COMMIT"),
            log_id = %head.log_id,
            head_revision = head.revision,
            articles = head.live(Kind::Article),
            store_bytes = self.store.bytes_on_disk(),
            open_ms = open_time.as_millis() as u64,
            settings = config.changed(),
            "serving"
        );
    }

    fn log_stop(&self, reason: &str) {
        let uptime_secs = (self.clock.now() - self.started) / 1_000_000;
        tracing::info!(reason, uptime_secs, head_revision = self.store.revision(), "stopped");
    }
}

/// Returns the file of credentials. A node whose credentials are lost does not start.
fn credential_file(config: &Config) -> Result<CredentialFile, CredentialError> {
    let file = CredentialFile::new(config.credentials_path());
    file.check_not_lost(config.auth.credentials.is_some(), config.auth.anonymous)?;
    Ok(file)
}

/// Reads the credentials. A node that no caller could use does not start.
fn open_access(config: &Config, clock: Clock) -> Result<Arc<Access>, Error> {
    let file = credential_file(config)?;
    let mut addresses = [Some(config.server.listen), config.publish.listen].into_iter().flatten();
    // Behind a proxy, a node on loopback has callers from elsewhere.
    let loopback = config.server.trusted_proxies.is_empty()
        && addresses.all(|address| address.ip().to_canonical().is_loopback());
    let access = Access::open(file, clock, config.auth.anonymous, loopback, &config.rate)?;
    if !access.is_usable() {
        return Err(Error::NoCredentials { address: config.server.listen, path: config.credentials_path() });
    }
    if access.anonymous().includes(Role::Publisher) {
        tracing::info!(
            "callers without a credential may read and write; `cable token new --help` explains credentials"
        );
    }
    Ok(Arc::new(access))
}

/// Returns the limits and checks of the operations listener.
fn ops_access(config: &Config) -> ops::Access {
    let listen = config.server.ops_listen.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |address| address.ip());
    ops::Access {
        connections: accept::max_ops_connections(),
        // A page of any origin may read content, not the state of the node.
        origin_policy: OriginPolicy::new(
            listen,
            &config.web.origins.iter().filter(|origin| *origin != entrance::ANY).cloned().collect::<Vec<_>>(),
        ),
        limits: ops::Limits::default(),
    }
}

/// Waits up to 10 s until the last task has released the store. A caller that waits for the node to end can then open
/// the store again, or replace its files: SQLite removes the files of a write-ahead log by their names when the last
/// connection is closed.
async fn wait_for_store_close(store: &Weak<Store>) {
    for _ in 0..2_000 {
        if store.strong_count() == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tracing::warn!("store still open at shutdown");
}

/// Returns the reflection service with the schema, the health check and the error details, so that tools can show them.
fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(wire::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
}

/// Shows the conditions of a node in its metrics, and to its supervisor.
async fn show_conditions(health: Arc<Health>, metrics: Arc<Metrics>, notifier: Notifier) {
    let mut changes = health.subscribe();
    loop {
        let conditions = changes.borrow_and_update().clone();
        metrics.set_conditions(&conditions);
        if changes.changed().await.is_err() {
            return;
        }
        notifier.status(&*changes.borrow());
    }
}

fn history(config: &Config) -> History {
    History { age: config.feed.history_retention, entries: i64::from(config.feed.history_min_entries) }
}

/// Compacts old history for as long as the node runs.
async fn compact(log: Arc<LocalLog>, clock: Clock, history: History) {
    loop {
        clock.sleep_until(clock.now() + COMPACTION_INTERVAL_MICROS).await;
        loop {
            match log.compact(clock.now(), history).await {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "history compaction failed");
                    break;
                }
            }
        }
    }
}

#[cfg(test)]
mod failures;
