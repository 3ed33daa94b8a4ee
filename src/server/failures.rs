//! Tests that kill each supervised task and thread of a running node.

use std::{path::Path, time::Duration};

use prost::Message;
use tokio::{sync::oneshot, task::JoinHandle};
use tonic::{Code, Request, Status, Streaming, client::Grpc, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse, health_client::HealthClient};
use tonic_prost::ProstCodec;
use tonic_types::StatusExt as _;

use super::*;
use crate::{
    supervise::failpoint::Kill,
    systemd::tests::Supervisor,
    wire::v1::{self, ErrorReason},
};

/// The maximum wait for an expected event.
const EVENT_TIMEOUT: Duration = Duration::from_secs(20);

/// The tasks that end whenever they are killed.
const TASKS: [&str; 12] = [
    "accept",
    "compaction",
    "consumers",
    "gauges",
    "health",
    "hub",
    "ops",
    "overload",
    "scheduler",
    "scrub",
    "serve-0",
    "watchdog",
];

struct Running {
    health: Arc<Health>,
    channel: Channel,
    running: JoinHandle<Result<(), Error>>,
    stop: oneshot::Sender<()>,
}

async fn start(dir: &Path) -> Running {
    start_with(dir, Notifier::default(), |_| {}).await
}

async fn start_with(dir: &Path, notifier: Notifier, change: impl FnOnce(&mut Config)) -> Running {
    let mut config = Config::default();
    config.store.dir = dir.to_owned();
    config.store.reserve_bytes = 0;
    config.store.readers = 1;
    config.server.ops_listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    config.server.threads = 1;
    change(&mut config);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let health = Arc::<Health>::default();
    let (stop, stopped) = oneshot::channel::<()>();
    let control = Control { notifier, ..async { drop(stopped.await) }.into() };
    let running = tokio::spawn(run_with(config, Clock::system(), listener, control, health.clone()));
    let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    Running { health, channel, running, stop }
}

impl Running {
    async fn call<Q, A>(&self, method: &'static str, request: Q) -> Result<A, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready().await.unwrap();
        let path = http::uri::PathAndQuery::from_static(method);
        let response = grpc.unary(Request::new(request), path, ProstCodec::<Q, A>::new()).await?;
        Ok(response.into_inner())
    }

    async fn put(&self, id: &str) -> Result<v1::PutArticleResponse, Status> {
        let name = format!("articles/{id}");
        let article = v1::Article { name, headline: "Quay".into(), ..Default::default() };
        let request = v1::PutArticleRequest { article: Some(article), ..Default::default() };
        self.call("/cable.v1.PublishingService/PutArticle", request).await
    }

    async fn get(&self, id: &str) -> Result<v1::GetArticleResponse, Status> {
        let name = format!("articles/{id}");
        let request = v1::GetArticleRequest { name, ..Default::default() };
        self.call("/cable.v1.ContentService/GetArticle", request).await
    }

    /// Starts a feed of everything, and receives its first message.
    async fn follow(&self) -> Streaming<v1::WatchResponse> {
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready().await.unwrap();
        let path = http::uri::PathAndQuery::from_static("/cable.v1.FeedService/Watch");
        let codec = ProstCodec::<v1::WatchRequest, v1::WatchResponse>::new();
        let request = v1::WatchRequest { filter: Some(v1::FeedFilter::default()), ..Default::default() };
        let mut stream =
            grpc.server_streaming(Request::new(request), path, codec).await.unwrap().into_inner();
        stream.message().await.unwrap().unwrap();
        stream
    }

    async fn watch_health(&self) -> Streaming<HealthCheckResponse> {
        let mut client = HealthClient::new(self.channel.clone());
        let request = HealthCheckRequest { service: "cable.v1.TransferService".into() };
        let mut health = client.watch(request).await.unwrap().into_inner();
        assert_eq!(health.message().await.unwrap().unwrap().status, 1);
        health
    }

    fn kill(&self, name: &str, how: Kill) {
        self.health.kill.send_replace(Some((name.into(), how)));
    }

    /// Returns the error that the node ends with. No service may be reported as serving before that.
    async fn failure(self) -> String {
        let ended = tokio::time::timeout(EVENT_TIMEOUT, self.running).await.expect("timed out").unwrap();
        let conditions = self.health.conditions();
        assert!(
            crate::health::SERVICES.into_iter().chain([""]).all(|service| !conditions.is_serving(service))
        );
        ended.expect_err("the node ended without an error").to_string()
    }
}

fn reason(status: &Status) -> (Code, String) {
    let details = status.get_error_details();
    (status.code(), details.error_info().map(|info| info.reason.clone()).unwrap_or_default())
}

fn node_failed() -> (Code, String) {
    (Code::Unavailable, ErrorReason::NodeFailed.as_str_name().trim_start_matches("ERROR_REASON_").into())
}

/// Returns the last message of a stream, and how the stream ended.
async fn drain_stream<T>(mut stream: Streaming<T>) -> (Option<T>, Result<(), Status>) {
    let mut last = None;
    let end = tokio::time::timeout(EVENT_TIMEOUT, async {
        loop {
            match stream.message().await {
                Ok(Some(message)) => last = Some(message),
                Ok(None) => return Ok(()),
                Err(status) => return Err(status),
            }
        }
    });
    let end = end.await.expect("timed out");
    (last, end)
}

/// A panic in the handler of a call, of every method: reads, feeds and the services of tonic, with and without streams.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_panics_fails_alone() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path()).await;
    node.put("a").await.unwrap();
    let call = async |path: &str| {
        let mut grpc = Grpc::new(node.channel.clone());
        grpc.ready().await.unwrap();
        let result = grpc.server_streaming(Request::new(()), path.parse().unwrap(), ProstCodec::default());
        match tokio::time::timeout(EVENT_TIMEOUT, result).await.expect("timed out") {
            Ok(response) => {
                tokio::time::timeout(EVENT_TIMEOUT, next(response.into_inner())).await.expect("timed out")
            }
            Err(status) => Err(status),
        }
    };
    let methods: Vec<_> =
        crate::wire::POOL.services().flat_map(|service| service.methods().collect::<Vec<_>>()).collect();
    assert!(methods.len() > 20, "{}", methods.len());
    let mut follower = node.follow().await;
    let before = panics();
    for method in &methods {
        let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
        node.kill(&path, Kill::Panic);
        let (code, reason) = reason(&call(&path).await.unwrap_err());
        assert_eq!((code, &reason[..]), (Code::Internal, "INTERNAL"), "{path}");
        node.health.kill.send_replace(None);
        if let Err(status) = call(&path).await {
            assert!(![Code::Internal, Code::Unknown].contains(&status.code()), "{path}: {status:?}");
        }
    }
    assert!(panics() >= before + methods.len() as u64, "each panic is counted");
    assert_eq!(node.get("a").await.unwrap().article.unwrap().headline, "Quay");
    node.put("b").await.unwrap();
    follower.message().await.unwrap().expect("an open feed continues");
    assert!(node.health.cause(Condition::TaskFailed).is_none());
    node.stop.send(()).unwrap();
    node.running.await.unwrap().unwrap();
}

/// Returns the first message of a stream, or nothing if it has none.
async fn next(mut stream: Streaming<()>) -> Result<(), Status> {
    stream.message().await.map(|_| ())
}

/// Returns the number of panics that the process has counted. Other tests may add some.
fn panics() -> u64 {
    let text = Metrics::new().to_text();
    let line = text.lines().find_map(|line| line.strip_prefix("cable_panics_total "));
    line.unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_ends_stops_the_node_with_its_name() {
    for name in TASKS {
        for how in [Kill::Panic, Kill::Return] {
            let dir = tempfile::tempdir().unwrap();
            let node = start(dir.path()).await;
            let (follower, health) = (node.follow().await, node.watch_health().await);
            node.kill(name, how);
            let (_, end) = drain_stream(follower).await;
            let (last, _) = drain_stream(health).await;
            // The thread that served them has ended, and their connection with it.
            if name != "serve-0" {
                assert_eq!(reason(&end.unwrap_err()), node_failed(), "{name} {how:?}");
                assert_eq!(last.map(|health| health.status), Some(2), "{name} {how:?}");
            }
            let error = node.failure().await;
            let how = if how == Kill::Panic { "panicked: killed by a test" } else { "ended early" };
            assert_eq!(error, format!("the task `{name}` {how}"));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_that_panics_ends_the_node() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path()).await;
    let follower = node.follow().await;
    node.put("a").await.unwrap();
    node.kill("log-write", Kill::Panic);
    let refused = node.put("b").await.unwrap_err();
    assert_eq!(reason(&refused), (Code::Unavailable, "OUTCOME_UNKNOWN".into()));
    let (_, end) = drain_stream(follower).await;
    assert_eq!(reason(&end.unwrap_err()), node_failed());
    assert_eq!(node.failure().await, "the task `log-write` panicked: killed by a test");

    let node = start(dir.path()).await;
    node.get("a").await.unwrap();
    assert_eq!(node.get("b").await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_panics_fails_its_calls_and_ends_the_node() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path()).await;
    let follower = node.follow().await;
    node.kill("store-read-0", Kill::Panic);
    // The next job of the reader is this call or one that measures the queue. After the latter, the connection is closed,
    // and the client makes a status of its own, with the error of its transport as the source.
    let refused = node.get("a").await.unwrap_err();
    let lost = std::error::Error::source(&refused).is_some();
    assert!(lost || reason(&refused) == node_failed(), "{refused:?}");
    let (_, end) = drain_stream(follower).await;
    assert_eq!(reason(&end.unwrap_err()), node_failed());
    assert_eq!(node.failure().await, "the task `store-read-0` panicked: killed by a test");
}

#[tokio::test]
async fn a_node_that_cannot_listen_creates_no_directory() {
    let occupied = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::default();
    config.store.dir = dir.path().join("store");
    config.server.ops_listen = Some(occupied.local_addr().unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let error = run(config.clone(), Clock::system(), listener, std::future::pending()).await.unwrap_err();
    assert!(error.to_string().contains("set `server.ops_listen` (flag --ops-listen)"), "{error}");
    assert!(!config.store.dir.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_stop_after_a_failed_sync_and_pause_on_a_full_disk() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path()).await;
    node.put("a").await.unwrap();
    let status = async |service: &str| {
        let request = HealthCheckRequest { service: service.into() };
        HealthClient::new(node.channel.clone()).check(request).await.unwrap().into_inner().status
    };
    node.health.report(Condition::SyncFailed, "fsync: I/O error");
    let refused = node.put("b").await.unwrap_err();
    assert_eq!(reason(&refused), (Code::Unavailable, "STORE_FAILED".into()));
    assert!(refused.message().contains("until this node is restarted: fsync: I/O error"), "{refused}");
    node.get("a").await.unwrap();
    while status("cable.v1.PublishingService").await != 2 {
        tokio::task::yield_now().await;
    }
    for service in crate::health::SERVICES.into_iter().chain([""]) {
        assert_eq!(status(service).await, if service.contains("Publishing") { 2 } else { 1 }, "{service}");
    }
}

/// A lame duck is still supervised, although it reports that it drains.
#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_fails_in_a_lame_duck_ends_it() {
    for name in ["serve-0", "scheduler"] {
        let dir = tempfile::tempdir().unwrap();
        let node = start_with(dir.path(), Notifier::default(), |config| {
            config.server.lame_duck = Duration::from_secs(3_600);
        })
        .await;
        node.stop.send(()).unwrap();
        node.health.wait_for(Condition::Draining).await;
        node.health.kill.send_replace(Some((name.into(), Kill::Return)));
        let error = tokio::time::timeout(EVENT_TIMEOUT, node.running).await.unwrap().unwrap().unwrap_err();
        assert_eq!(error.to_string(), format!("the task `{name}` ended early"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thread_that_hangs_ends_the_signs_of_life() {
    const PING: Duration = Duration::from_millis(100);
    for name in ["serve-1", "log-write"] {
        let dir = tempfile::tempdir().unwrap();
        let supervisor = Supervisor::new(2 * PING);
        let node =
            start_with(dir.path(), supervisor.notifier.clone(), |config| config.server.threads = 3).await;
        assert_eq!(supervisor.receive(EVENT_TIMEOUT).unwrap(), "READY=1");
        assert!(supervisor.receive(EVENT_TIMEOUT).unwrap().starts_with("STATUS=serving gRPC at 127.0.0.1:"));
        let alive = || supervisor.receive(EVENT_TIMEOUT).is_some_and(|text| text == "WATCHDOG=1");
        assert!(alive() && alive(), "{name}");
        node.health.kill.send_replace(Some((name.into(), Kill::Hang)));
        // A response may be under way.
        while supervisor.receive(10 * PING).is_some() {}
        assert_eq!(supervisor.receive(10 * PING), None, "{name}");
        assert!(!node.running.is_finished());
        node.health.kill.send_replace(None);
        if name == "log-write" {
            assert!(alive(), "the thread responds again");
        }
    }
}
