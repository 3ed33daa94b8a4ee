//! Metrics and health over plain HTTP, for machines that watch over the node.
//!
//! It never touches content, and answers while the node drains.

use std::{
    future::{Future, IntoFuture as _},
    io,
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};
use tokio::{
    net::TcpListener,
    sync::{oneshot, watch},
};

use crate::telemetry::Metrics;

/// A request here is answered at once; what is still open after this long was not waiting for us.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone)]
struct Ops {
    metrics: Arc<Metrics>,
    ready: watch::Receiver<bool>,
}

/// Serves `/metrics`, `/livez` (200 while the process answers at all) and `/readyz` (200 while `ready` holds, else
/// 503) until `shutdown` is there.
///
/// # Errors
/// The listener failed.
pub(crate) async fn serve(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    ready: watch::Receiver<bool>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let router = Router::new()
        .route("/metrics", get(scrape))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readiness))
        .with_state(Ops { metrics, ready });
    let (ended, end) = oneshot::channel::<()>();
    let stop = async move {
        shutdown.await;
        drop(ended);
    };
    let grace = async {
        let _dropped = end.await;
        tokio::time::sleep(LAST_ANSWERS).await;
    };
    tokio::select! {
        served = axum::serve(listener, router).with_graceful_shutdown(stop).into_future() => served,
        () = grace => Ok(()),
    }
}

async fn scrape(State(ops): State<Ops>) -> impl IntoResponse {
    ([(CONTENT_TYPE, OPENMETRICS)], ops.metrics.to_text())
}

async fn readiness(State(ops): State<Ops>) -> (StatusCode, &'static str) {
    if *ops.ready.borrow() {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
        task::JoinHandle,
    };

    use super::*;

    struct Node {
        address: SocketAddr,
        ready: watch::Sender<bool>,
        stop: oneshot::Sender<()>,
        task: JoinHandle<io::Result<()>>,
        metrics: Arc<Metrics>,
    }

    async fn node() -> Node {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let metrics = Arc::new(Metrics::new());
        let (ready, is_ready) = watch::channel(false);
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(serve(listener, Arc::clone(&metrics), is_ready, async {
            let _sender = stopped.await;
        }));
        Node { address, ready, stop, task, metrics }
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
        for (ready, status) in [(false, "503"), (true, "200"), (false, "503")] {
            node.ready.send(ready).unwrap();
            let answer = fetch(node.address, "/readyz").await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "ready {ready}: {answer}");
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

    #[tokio::test]
    async fn it_ends_when_told_to_even_with_a_silent_client() {
        let node = node().await;
        let silent = TcpStream::connect(node.address).await.unwrap();
        fetch(node.address, "/livez").await;
        node.stop.send(()).unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(10), node.task).await;
        assert!(ended.unwrap().unwrap().is_ok());
        drop(silent);
        assert!(TcpStream::connect(node.address).await.is_err());
    }
}
