//! Metrics, health and the operations page over plain HTTP, for monitoring.
//!
//! The endpoints never read content, and they respond while the node drains.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{
        HeaderMap, StatusCode,
        header::{
            ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, VARY,
            X_CONTENT_TYPE_OPTIONS,
        },
    },
    response::IntoResponse,
    routing::get,
};
use http::Request;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tower::ServiceExt as _;

mod page;
mod plot;
mod state;
mod tiles;
mod words;

use crate::{
    health::Health,
    readiness::Readiness,
    server::entrance::OriginPolicy,
    telemetry::{Exposition, Metrics},
};

#[derive(Clone)]
struct Ops {
    metrics: Arc<Metrics>,
    health: Arc<Health>,
}

/// The limits and access checks of the listener.
pub(crate) struct Access {
    /// Maximum open connections. One more replaces the oldest, so that a monitor receives its response immediately,
    /// even if other connections hang.
    pub(crate) connections: usize,
    pub(crate) origin_policy: OriginPolicy,
    pub(crate) limits: Limits,
}

/// The time limits of a connection.
pub(crate) struct Limits {
    /// Maximum time for the headers of a request, and between two requests.
    pub(crate) header_timeout: Duration,
    /// Maximum lifetime of a connection. A response is a few hundred kilobytes at most.
    pub(crate) lifetime: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { header_timeout: Duration::from_secs(5), lifetime: Duration::from_secs(60) }
    }
}

/// The pause after a failed accept: without it, a process without free file descriptors spins.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Maximum size of a request's headers, in bytes. `MAX_HEADERS` is their maximum number.
const MAX_HEADER_BYTES: usize = 16 << 10;
const MAX_HEADERS: usize = 64;

/// Serves `/`, the operations page, `/metrics`, `/livez` (200 while the process responds at all) and `/readyz` (200 while
/// the node serves reads, else 503; the body lists the conditions that hold) until the future is dropped.
pub(crate) async fn serve(listener: TcpListener, access: Access, metrics: Arc<Metrics>, health: Arc<Health>) {
    let router = Router::new()
        .route("/", get(operations_page))
        .route("/metrics", get(scrape))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readiness))
        .with_state(Ops { metrics, health });
    let access = Arc::new(access);
    let mut connections = Connections { max: access.connections, open: VecDeque::new() };
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        connections.make_room().await;
        connections.open.push_back(tokio::spawn(serve_connection(stream, router.clone(), access.clone())));
    }
}

/// The tasks of the open connections, the oldest first. They are aborted when the value is dropped.
struct Connections {
    max: usize,
    open: VecDeque<JoinHandle<()>>,
}

impl Connections {
    /// Closes the oldest connection if one more would be too many. Returns when its file descriptor is free: an aborted
    /// task keeps it until the runtime has time for the task.
    async fn make_room(&mut self) {
        self.open.retain(|connection| !connection.is_finished());
        if self.open.len() >= self.max
            && let Some(oldest) = self.open.pop_front()
        {
            oldest.abort();
            let _ = oldest.await;
        }
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        self.open.iter().for_each(JoinHandle::abort);
    }
}

async fn serve_connection(stream: TcpStream, router: Router, access: Arc<Access>) {
    let limits = &access.limits;
    let service = service_fn(|request: Request<Incoming>| {
        let refused = access.origin_policy.check(&request).err();
        let router = router.clone();
        async move {
            match refused {
                Some(rejection) => Ok((rejection.status, rejection.text()).into_response()),
                None => router.oneshot(request).await,
            }
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_headers(MAX_HEADERS)
        .max_header_size(MAX_HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    if let Ok(Err(error)) = tokio::time::timeout(limits.lifetime, served).await {
        tracing::debug!(%error, "ops connection failed");
    }
}

async fn scrape(State(ops): State<Ops>, headers: HeaderMap) -> impl IntoResponse {
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let format = Exposition::preferred(accept);
    ([(CONTENT_TYPE, format.content_type()), (VARY, "accept")], format.convert(ops.metrics.to_text()))
}

async fn operations_page(State(ops): State<Ops>) -> impl IntoResponse {
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CONTENT_SECURITY_POLICY, &**page::POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-store"),
    ];
    (headers, page::render(&ops.metrics, &ops.health))
}

/// Returns the readiness with the names of the conditions. Their causes are only in the log: they may name files.
async fn readiness(State(ops): State<Ops>) -> (StatusCode, String) {
    let conditions = ops.health.conditions();
    let names = conditions.iter().map(|(condition, _)| condition.name().to_owned());
    let readiness = Readiness { is_ready: conditions.is_serving(""), conditions: names.collect() };
    (readiness.status(), readiness.to_string())
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::health::Condition;

    struct Node {
        address: SocketAddr,
        health: Arc<Health>,
        metrics: Arc<Metrics>,
    }

    async fn node() -> Node {
        node_with(64, Limits::default()).await
    }

    async fn node_with(connections: usize, limits: Limits) -> Node {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let metrics = Arc::new(Metrics::new());
        let health = Arc::<Health>::default();
        let access = Access { connections, origin_policy: OriginPolicy::new(address.ip(), &[]), limits };
        tokio::spawn(serve(listener, access, metrics.clone(), health.clone()));
        Node { address, health, metrics }
    }

    async fn fetch(address: SocketAddr, path: &str) -> String {
        fetch_with(address, path, "").await
    }

    /// Fetches a path with further lines of the head.
    async fn fetch_with(address: SocketAddr, path: &str, lines: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{lines}Connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        response
    }

    #[tokio::test]
    async fn readiness_follows_the_node_and_liveness_does_not() {
        let node = node().await;
        for (condition, status, body) in [
            (None, "200", "ready\n"),
            (Some(Condition::DiskFull), "200", "ready\ndisk_full\n"),
            (Some(Condition::DatabaseCorrupt), "503", "not ready\ndatabase_corrupt\ndisk_full\n"),
            (Some(Condition::Draining), "503", "not ready\ndraining\ndatabase_corrupt\ndisk_full\n"),
        ] {
            condition.into_iter().for_each(|condition| node.health.report(condition, "a test"));
            let response = fetch(node.address, "/readyz").await;
            assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{condition:?}: {response}");
            assert!(response.ends_with(&format!("\r\n\r\n{body}")), "{condition:?}: {response}");
            assert!(fetch(node.address, "/livez").await.starts_with("HTTP/1.1 200 "));
        }
    }

    #[tokio::test]
    async fn metrics_are_served_as_openmetrics() {
        let node = node().await;
        node.metrics.cache_hits.inc_by(7);
        let response = fetch(node.address, "/metrics").await;
        assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
        assert!(response.contains("content-type: application/openmetrics-text; version=1.0.0"), "{response}");
        assert!(
            response.contains("\ncable_cache_hits_total 7\n") && response.ends_with("# EOF\n"),
            "{response}"
        );
        let plain = fetch_with(node.address, "/metrics", "Accept: text/plain\r\n").await;
        assert!(plain.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{plain}");
        assert!(
            plain.contains("\n# TYPE cable_cache_hits_total counter\ncable_cache_hits_total 7\n"),
            "{plain}"
        );
        assert!(!plain.contains("# EOF"), "{plain}");
        let page = fetch(node.address, "/").await;
        assert!(page.contains("\r\ncontent-security-policy: default-src 'none'; "), "{page}");
        assert!(page.contains("<h1>Serving</h1>"), "{page}");
        assert!(fetch(node.address, "/else").await.starts_with("HTTP/1.1 404 "));
    }

    /// Sends an incomplete request.
    async fn send_partial_request(address: SocketAddr) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nX-A: ").await.unwrap();
        stream
    }

    #[tokio::test]
    async fn half_requests_are_closed_and_block_no_others() {
        let limits = Limits { header_timeout: Duration::from_millis(200), lifetime: Duration::from_secs(60) };
        let node = node_with(3, limits).await;
        let mut hanging = Vec::new();
        for _ in 0..10 {
            hanging.push(send_partial_request(node.address).await);
        }
        assert!(fetch(node.address, "/livez").await.starts_with("HTTP/1.1 200 "));
        for mut stream in hanging {
            // The connection is closed, with or without a status.
            let closed =
                tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut Vec::new())).await;
            assert!(closed.is_ok());
        }
    }

    #[tokio::test]
    async fn a_connection_is_closed_before_there_is_room_for_another() {
        let (max, descriptor) = (3, Arc::new(()));
        let mut connections = Connections { max, open: VecDeque::new() };
        for _ in 0..10 {
            connections.make_room().await;
            assert!(Arc::strong_count(&descriptor) <= max, "{} are open", Arc::strong_count(&descriptor) - 1);
            let descriptor = descriptor.clone();
            connections.open.push_back(tokio::spawn(async move {
                let _descriptor = descriptor;
                std::future::pending().await
            }));
        }
    }

    #[tokio::test]
    async fn a_connection_ends_after_its_maximum_lifetime() {
        let limits = Limits { header_timeout: Duration::from_secs(60), lifetime: Duration::from_millis(300) };
        let node = node_with(3, limits).await;
        let mut stream = send_partial_request(node.address).await;
        let closed = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut Vec::new())).await;
        assert!(closed.is_ok());
    }

    #[tokio::test]
    async fn a_page_of_another_origin_is_refused() {
        let node = node().await;
        for (lines, status) in [
            ("Host: evil.example", "421"),
            ("Host: localhost\r\nOrigin: http://evil.example", "403"),
            ("Accept: text/plain", "400"),
            ("Host: localhost\r\nHost: localhost", "400"),
        ] {
            let mut stream = TcpStream::connect(node.address).await.unwrap();
            let request = format!("GET /metrics HTTP/1.1\r\n{lines}\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut response = String::new();
            stream.read_to_string(&mut response).await.unwrap();
            assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{response}");
        }
    }
}
