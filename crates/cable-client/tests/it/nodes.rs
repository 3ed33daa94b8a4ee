//! Nodes that hang, and connections that end with their runtime.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use cable_client::{Cable, ErrorKind, Retry, v1};
use futures_util::{StreamExt as _, stream};
use tokio::net::TcpListener;

use crate::support::{Server, article, unary};

async fn found(request: http::Request<tonic::body::Body>) -> http::Response<tonic::body::Body> {
    let respond = |_: v1::GetArticleRequest| async {
        let mut response = v1::GetArticleResponse::default();
        response.article = Some(article("articles/a"));
        Ok(response)
    };
    unary(request, respond).await
}

#[test]
fn a_client_is_usable_in_one_runtime_after_another() {
    let server = Server::start(0, |_, request| found(request));
    let cable = Cable::builder(server.url()).retry(Retry::none()).build().unwrap();
    for _ in 0..3 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(cable.article("a").into_future()).unwrap();
    }
}

/// The system accepts the connections of a listener, although the program never does.
#[tokio::test]
async fn a_node_that_accepts_connections_and_never_responds_is_skipped() {
    let hung = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let live = Server::start(0, |_, request| found(request));
    let endpoints = [format!("http://{}", hung.local_addr().unwrap()), live.url()];
    let cable = Cable::builder(endpoints).connect_timeout(Duration::from_millis(200)).build().unwrap();
    for _ in 0..20 {
        cable.article("a").await.unwrap();
    }
    let alone = Cable::builder(format!("http://{}", hung.local_addr().unwrap()));
    let alone = alone.connect_timeout(Duration::from_millis(200)).retry(Retry::none()).build().unwrap();
    let start = Instant::now();
    let error = alone.put(article("a")).await.unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert!(error.message().ends_with("lost: no HTTP/2 from the server within 200ms"), "{error}");
    // A server that awakes reads the call.
    assert!(error.kind() == ErrorKind::Unavailable && error.may_have_applied(), "{error:?}");
}

#[tokio::test]
async fn a_node_that_hangs_after_it_has_served_calls_is_skipped() {
    let hangs = Arc::new(AtomicBool::new(false));
    let is_hung = Arc::clone(&hangs);
    let first = Server::start(0, move |_, request| {
        let is_hung = is_hung.load(SeqCst);
        async move { if is_hung { std::future::pending().await } else { found(request).await } }
    });
    let second = Server::start(0, |_, request| found(request));
    let cable =
        Cable::builder([first.url(), second.url()]).timeout(Duration::from_millis(300)).build().unwrap();
    for _ in 0..20 {
        cable.article("a").await.unwrap();
    }
    hangs.store(true, SeqCst);
    let mut failures = 0;
    for _ in 0..60 {
        failures += usize::from(cable.article("a").await.is_err());
    }
    // Without the ejection, about 30.
    assert!(failures <= 8, "{failures}");
}

#[tokio::test]
async fn a_reset_stream_is_no_lost_connection() {
    let server = Server::start(0, |_, _| async {
        let body = stream::pending::<Result<Vec<u8>, std::io::Error>>();
        let body = stream::once(tokio::time::sleep(Duration::from_millis(50)))
            .map(|()| Err(std::io::Error::other("reset")))
            .chain(body);
        let response = http::Response::builder().header("content-type", "application/grpc");
        response.body(tonic::body::Body::new(axum::body::Body::from_stream(body))).unwrap()
    });
    let mut articles = server.client().stream(cable_client::Filter::default()).articles();
    let error = articles.next().await.unwrap().unwrap_err();
    assert!(error.message().starts_with(&format!("stream reset by {}: ", server.url())), "{error}");
    assert!(error.message().ends_with("; a server resets a stream whose reader is too slow"), "{error}");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn headers_above_the_limit_of_the_node_are_a_definite_refusal() {
    let server = Server::start(0, |_, _| async {
        http::Response::builder().status(431).body(tonic::body::Body::empty()).unwrap()
    });
    let error = server.client().put(article("a")).await.unwrap_err();
    assert!(error.message().contains("headers too large"), "{error}");
    assert!(error.kind() == ErrorKind::InvalidArgument && !error.may_have_applied(), "{error:?}");
}
