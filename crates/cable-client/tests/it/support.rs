//! Servers that follow the script of a test, and helpers for their responses.

use std::{convert::Infallible, future::Future, pin::Pin, time::Duration};

use cable_client::{Cable, Retry, v1};
use futures_util::stream::BoxStream;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Code, Request, Response, Status, Streaming, body::Body, server::Grpc};
use tonic_prost::ProstCodec;
use tonic_types::{ErrorDetails, StatusExt as _};
use tower::service_fn;

pub(crate) type Responses<T> = BoxStream<'static, Result<T, Status>>;

/// A server that runs a function of the test for each call. Dropping it kills it with all its connections.
pub(crate) struct Server {
    runtime: Option<tokio::runtime::Runtime>,
    pub(crate) address: std::net::SocketAddr,
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A runtime cannot be dropped on one of its own threads. Until the drop is complete, a socket may still
            // accept.
            let killed = std::thread::spawn(move || drop(runtime)).join();
            assert!(killed.is_ok());
        }
    }
}

impl Server {
    pub(crate) fn start<F, R>(port: u16, respond: F) -> Server
    where
        F: Fn(String, http::Request<Body>) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = http::Response<Body>> + Send + 'static,
    {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = std::thread::scope(|scope| {
            let bind = || runtime.block_on(TcpListener::bind(("127.0.0.1", port))).unwrap();
            scope.spawn(bind).join().unwrap()
        });
        let address = listener.local_addr().unwrap();
        let fallback = service_fn(move |request: http::Request<axum::body::Body>| {
            let call = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
            let response = respond(call, request.map(Body::new));
            async move { Ok::<_, Infallible>(response.await.map(axum::body::Body::new)) }
        });
        let routes = tonic::service::Routes::from(axum::Router::new().fallback_service(fallback));
        let served = tonic::transport::Server::builder().add_routes(routes);
        runtime.spawn(served.serve_with_incoming(TcpListenerStream::new(listener)));
        Server { runtime: Some(runtime), address }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn client(&self) -> Cable {
        let quick = Retry::default().backoff(Duration::from_millis(5), Duration::from_millis(20));
        Cable::builder(self.url()).timeout(Duration::from_secs(5)).retry(quick).build().unwrap()
    }
}

pub(crate) async fn unary<Q, A, R>(
    request: http::Request<Body>,
    respond: impl Fn(Q) -> R + Send + Sync,
) -> http::Response<Body>
where
    Q: prost::Message + Default + 'static,
    A: prost::Message + Default + 'static,
    R: Future<Output = Result<A, Status>> + Send + 'static,
{
    let service = service_fn(|request: Request<Q>| {
        let response = respond(request.into_inner());
        Box::pin(async move { response.await.map(Response::new) })
            as Pin<Box<dyn Future<Output = Result<Response<A>, Status>> + Send>>
    });
    Grpc::new(ProstCodec::<A, Q>::default()).unary(service, request).await
}

pub(crate) async fn server_stream<Q, A>(
    request: http::Request<Body>,
    respond: impl Fn(Q) -> Responses<A> + Send + Sync,
) -> http::Response<Body>
where
    Q: prost::Message + Default + 'static,
    A: prost::Message + Default + 'static,
{
    let service = service_fn(|request: Request<Q>| {
        std::future::ready(Ok(Response::new(respond(request.into_inner()))))
    });
    Grpc::new(ProstCodec::<A, Q>::default()).server_streaming(service, request).await
}

pub(crate) async fn both_streams<Q, A>(
    request: http::Request<Body>,
    respond: impl Fn(Streaming<Q>) -> Responses<A> + Send + Sync,
) -> http::Response<Body>
where
    Q: prost::Message + Default + 'static,
    A: prost::Message + Default + 'static,
{
    let service = service_fn(|request: Request<Streaming<Q>>| {
        std::future::ready(Ok(Response::new(respond(request.into_inner()))))
    });
    Grpc::new(ProstCodec::<A, Q>::default()).streaming(service, request).await
}

pub(crate) fn refusal(code: Code, reason: &str) -> Status {
    let details = ErrorDetails::with_error_info(reason, "cable.v1", std::collections::HashMap::new());
    Status::with_error_details(code, "no", details)
}

pub(crate) fn article(name: &str) -> v1::Article {
    let mut article = v1::Article::default();
    article.name = name.into();
    article.headline = "Storm over Norwick".into();
    article
}

pub(crate) fn position(revision: i64) -> v1::Position {
    let mut position = v1::Position::default();
    (position.log_id, position.revision) = ("0123abcd".into(), revision);
    position
}

/// Returns the response to a batch that has room for some of the articles. The others are deferred.
pub(crate) fn batch_response(
    batch: &v1::BatchGetArticlesRequest,
    room: usize,
) -> v1::BatchGetArticlesResponse {
    let mut response = v1::BatchGetArticlesResponse::default();
    let (now, later) = batch.names.split_at(batch.names.len().min(room));
    response.deferred = later.to_vec();
    for name in now {
        let mut item = v1::BatchItem::default();
        item.name = name.clone();
        item.result = Some(v1::batch_item::Result::Article(article(name)));
        response.items.push(item);
    }
    response
}
