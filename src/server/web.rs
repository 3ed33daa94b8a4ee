//! gRPC-Web: the same calls, for browsers, through a layer of tonic's.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response, header::CONTENT_TYPE};
use http_body_util::{BodyExt as _, Either, combinators::MapFrame};
use hyper::body::{Frame, Incoming};
use tonic::{body::Body, codegen::Service};
use tonic_web::GrpcWebLayer;
use tower::Layer as _;

use super::{calls::Calls, reply::Reply, streams::Streams};
use crate::wire::Framed;

pub(super) fn is_web<B>(request: &Request<B>) -> bool {
    let kind = request.headers().get(CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc-web"))
}

/// Answers a call of gRPC-Web; what is none is told so.
pub(super) async fn answer(
    calls: Arc<Calls>,
    streams: Streams,
    request: Request<Incoming>,
) -> Response<Body> {
    let Ok(response) = GrpcWebLayer::new().layer(Web(calls, streams)).call(request).await;
    response
}

type AsFramed = fn(Frame<Bytes>) -> Frame<Framed>;

/// Such an answer beside others.
pub(super) fn into_either(body: Body) -> Either<Reply, MapFrame<Body, AsFramed>> {
    let framed: AsFramed = |frame| frame.map_data(Framed::from);
    Either::Right(body.map_frame(framed))
}

/// The calls, as the layer wants them.
#[derive(Clone)]
struct Web(Arc<Calls>, Streams);

impl Service<Request<Body>> for Web {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (calls, streams) = (self.0.clone(), self.1.clone());
        Box::pin(async move { Ok(calls.call(request, streams).await.map(Reply::into_routed)) })
    }
}
