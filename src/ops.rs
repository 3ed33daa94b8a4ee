//! Metrics and health over plain HTTP, for machines that watch over the node.
//!
//! It never touches content, and answers while the node drains.

use std::{io, sync::Arc};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};
use tokio::{net::TcpListener, sync::watch};

use crate::telemetry::Metrics;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone)]
struct Ops {
    metrics: Arc<Metrics>,
    draining: watch::Receiver<bool>,
}

/// Serves `/metrics`, `/livez` (200 while the process answers at all) and `/readyz` (503 while `draining` holds, else
/// 200) until it is dropped.
///
/// # Errors
/// The listener failed.
pub(crate) async fn serve(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    draining: watch::Receiver<bool>,
) -> io::Result<()> {
    let router = Router::new()
        .route("/metrics", get(scrape))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readiness))
        .with_state(Ops { metrics, draining });
    axum::serve(listener, router).await
}

async fn scrape(State(ops): State<Ops>) -> impl IntoResponse {
    ([(CONTENT_TYPE, OPENMETRICS)], ops.metrics.to_text())
}

async fn readiness(State(ops): State<Ops>) -> (StatusCode, &'static str) {
    if *ops.draining.borrow() {
        (StatusCode::SERVICE_UNAVAILABLE, "draining\n")
    } else {
        (StatusCode::OK, "ready\n")
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
    };

    use super::*;

    struct Node {
        address: SocketAddr,
        draining: watch::Sender<bool>,
        metrics: Arc<Metrics>,
    }

    async fn node() -> Node {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let metrics = Arc::new(Metrics::new());
        let (draining, is_draining) = watch::channel(false);
        tokio::spawn(serve(listener, Arc::clone(&metrics), is_draining));
        Node { address, draining, metrics }
    }

    async fn fetch(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: ops\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn readiness_follows_the_node_and_liveness_does_not() {
        let node = node().await;
        for (draining, status) in [(false, "200"), (true, "503")] {
            node.draining.send(draining).unwrap();
            let answer = fetch(node.address, "/readyz").await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "draining {draining}: {answer}");
            assert!(fetch(node.address, "/livez").await.starts_with("HTTP/1.1 200 "));
        }
    }

    #[tokio::test]
    async fn metrics_are_served_as_openmetrics() {
        let node = node().await;
        node.metrics.cache_hits.inc_by(7);
        let answer = fetch(node.address, "/metrics").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(answer.contains("content-type: application/openmetrics-text; version=1.0.0"), "{answer}");
        assert!(answer.contains("\ncable_cache_hits_total 7\n") && answer.ends_with("# EOF\n"), "{answer}");
        assert!(fetch(node.address, "/else").await.starts_with("HTTP/1.1 404 "));
    }
}
