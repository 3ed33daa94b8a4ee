//! The services that tonic serves, behind the call layer: the only place where a call takes the types of tonic's HTTP.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header::CONTENT_TYPE};
use http_body::{Body, Frame};
use tonic::{
    Status,
    codegen::{Service as _, StdError},
    service::Routes,
};

use super::{head::RequestBody, inbound::Inbound, reply::Piece};
use crate::{audit::Origin, auth::Identity, rpc::ShowsPending, wire::Framed};

/// The services that tonic serves.
#[derive(Clone)]
pub(super) struct Bridge(Routes);

impl Bridge {
    pub(super) fn new(routes: Routes) -> Bridge {
        Bridge(routes)
    }

    /// Makes a call of the method with this path. The service finds the caller among the extensions of its request.
    ///
    /// # Errors
    /// The service refuses the call without a message.
    pub(super) async fn call<B: RequestBody>(
        &self,
        path: &str,
        body: Inbound<B>,
        caller: Identity,
        shows_pending: ShowsPending,
        origin: Origin,
    ) -> Result<Routed, Status> {
        let mut request = Request::new(body);
        *request.method_mut() = http::Method::POST;
        *request.version_mut() = http::Version::HTTP_2;
        *request.uri_mut() = path.parse().map_err(|_| Status::unimplemented("unknown method"))?;
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        request.extensions_mut().insert(caller);
        request.extensions_mut().insert(shows_pending);
        request.extensions_mut().insert(origin);
        let Ok(response) = self.0.clone().call(request).await;
        let (head, body) = Response::into_parts(response);
        match Status::from_header_map(&head.headers) {
            Some(status) if status.code() != tonic::Code::Ok => Err(status),
            _ => Ok(Routed(body)),
        }
    }
}

/// The reply of a service that tonic serves.
pub(super) struct Routed(tonic::body::Body);

impl Routed {
    #[cfg(test)]
    pub(super) fn new(body: tonic::body::Body) -> Routed {
        Routed(body)
    }

    /// Returns the next piece. A body that ends without a status has failed.
    pub(super) fn poll_piece(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Piece> {
        let frame = match ready!(Pin::new(&mut self.0).poll_frame(cx)) {
            None => return Poll::Ready(Piece::End(Err(crate::rpc::internal("the reply has no status")))),
            Some(Err(status)) => return Poll::Ready(Piece::End(Err(status))),
            Some(Ok(frame)) => frame,
        };
        Poll::Ready(match frame.into_data() {
            Ok(data) => Piece::Message(Framed::from(data)),
            Err(frame) => {
                let status = frame.trailers_ref().and_then(Status::from_header_map);
                Piece::End(match status {
                    Some(status) if status.code() == tonic::Code::Ok => Ok(()),
                    Some(status) => Err(status),
                    None => Err(crate::rpc::internal("the reply has no status")),
                })
            }
        })
    }
}

impl<B: RequestBody> Body for Inbound<B> {
    type Data = Bytes;
    type Error = StdError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        let data = ready!(self.get_mut().poll_data(cx));
        Poll::Ready(data.map(|data| data.map(Frame::data).map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.is_end()
    }
}
