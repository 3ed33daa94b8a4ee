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
use tokio::net::TcpListener;

use crate::{health::Health, telemetry::Metrics};

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone)]
struct Ops {
    metrics: Arc<Metrics>,
    health: Arc<Health>,
}

/// Serves `/metrics`, `/livez` (200 while the process answers at all) and `/readyz` (200 while the node serves
/// reads, else 503; with the conditions that hold) until it is dropped.
///
/// # Errors
/// The listener failed.
pub(crate) async fn serve(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
) -> io::Result<()> {
    let router = Router::new()
        .route("/metrics", get(scrape))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readiness))
        .with_state(Ops { metrics, health });
    axum::serve(listener, router).await
}

async fn scrape(State(ops): State<Ops>) -> impl IntoResponse {
    ([(CONTENT_TYPE, OPENMETRICS)], ops.metrics.to_text())
}

/// The causes stay in the log: they may name files.
async fn readiness(State(ops): State<Ops>) -> (StatusCode, String) {
    let conditions = ops.health.conditions();
    let (status, word) = match conditions.is_serving("") {
        true => (StatusCode::OK, "ready"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not ready"),
    };
    let names = conditions.iter().map(|(condition, _)| condition.name());
    (status, std::iter::once(word).chain(names).map(|line| format!("{line}\n")).collect())
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
    };

    use super::*;
    use crate::health::Condition;

    struct Node {
        address: SocketAddr,
        health: Arc<Health>,
        metrics: Arc<Metrics>,
    }

    async fn node() -> Node {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let metrics = Arc::new(Metrics::new());
        let health = Arc::<Health>::default();
        tokio::spawn(serve(listener, metrics.clone(), health.clone()));
        Node { address, health, metrics }
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
        for (condition, status, body) in [
            (None, "200", "ready\n"),
            (Some(Condition::DiskFull), "200", "ready\ndisk_full\n"),
            (Some(Condition::DatabaseCorrupt), "503", "not ready\ndatabase_corrupt\ndisk_full\n"),
            (Some(Condition::Draining), "503", "not ready\ndraining\ndatabase_corrupt\ndisk_full\n"),
        ] {
            condition.into_iter().for_each(|condition| node.health.report(condition, "a test"));
            let answer = fetch(node.address, "/readyz").await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{condition:?}: {answer}");
            assert!(answer.ends_with(&format!("\r\n\r\n{body}")), "{condition:?}: {answer}");
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
