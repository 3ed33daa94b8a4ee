//! The calls over hyper: a request becomes a [`Head`] and a [`RequestBody`], a [`Reply`] becomes a response.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header::CONTENT_TYPE, request::Parts};
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use tonic::{Code, Status, codegen::StdError};

use super::{
    calls::{CallReply, Calls},
    head::{Head, RequestBody},
    peer::Peer,
    reply::{Piece, Reply},
    streams::Streams,
};
use crate::wire::Framed;

static FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// Makes the call that a request asks for. Its head is dropped before this returns.
pub(super) fn call<B>(
    calls: Arc<Calls>,
    request: Request<B>,
    streams: Streams,
) -> impl Future<Output = CallReply> + use<B>
where
    HttpBody<B>: RequestBody,
{
    let (parts, body) = request.into_parts();
    let head = head(&parts, streams.peer());
    calls.call(&head, HttpBody(body), streams)
}

pub(super) fn head<'a>(parts: &'a Parts, peer: &Peer) -> Head<'a> {
    let forwarded = || parts.headers.get_all(&FORWARDED_FOR).iter().map(HeaderValue::as_bytes);
    let mut head = Head::new(parts.uri.path(), peer.client_address(forwarded));
    // One pass over the few fields of a call costs less than a look-up of each.
    for (name, value) in &parts.headers {
        let (name, value) = (name.as_str(), value.as_bytes());
        head.bytes += name.len() + value.len();
        let field = match name {
            "grpc-timeout" => &mut head.timeout,
            "authorization" => &mut head.authorization,
            "x-request-id" => &mut head.request_id,
            "traceparent" => &mut head.traceparent,
            _ => continue,
        };
        field.get_or_insert(value);
    }
    head
}

/// The body of a request.
pub(super) struct HttpBody<B>(pub(super) B);

impl<B> RequestBody for HttpBody<B>
where
    B: Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: Into<StdError>,
{
    fn poll_data(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Status>>> {
        loop {
            match ready!(Pin::new(&mut self.0).poll_frame(cx)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(map_error(error.into())))),
                // A client sends no trailers that matter.
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Poll::Ready(Some(Ok(data)));
                    }
                }
            }
        }
    }

    fn is_end(&self) -> bool {
        self.0.is_end_stream()
    }
}

/// Returns the status after a failed read: the client has gone, unless a layer in between states why it cannot
/// continue.
fn map_error(error: StdError) -> Status {
    match error.downcast::<Status>() {
        Ok(status) if status.code() == Code::InvalidArgument => *status,
        Ok(status) => Status::cancelled(status.message()),
        Err(error) => Status::cancelled(error.to_string()),
    }
}

/// Returns the response of a reply. A refusal is sent in the headers alone.
pub(super) fn response(reply: Reply) -> Response<Reply> {
    let refusal = reply.refusal().map(|status| {
        let mut headers = HeaderMap::new();
        put_status(status, &mut headers);
        put_request_id(reply.request_id(), &mut headers);
        headers
    });
    let mut response = Response::new(reply);
    if let Some(headers) = refusal {
        *response.headers_mut() = headers;
    }
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// Converts the body into the type that other services use.
pub(super) fn into_routed(reply: Reply) -> tonic::body::Body {
    let copy = |mut framed: Framed| framed.copy_to_bytes(framed.remaining());
    tonic::body::Body::new(reply.map_frame(move |frame| frame.map_data(copy)))
}

fn trailers(status: Result<(), Status>, request_id: Option<&str>) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(1);
    put_request_id(request_id, &mut trailers);
    match status {
        Ok(()) => {
            trailers.insert(GRPC_STATUS.clone(), HeaderValue::from_static("0"));
        }
        Err(status) => put_status(&status, &mut trailers),
    }
    trailers
}

fn put_request_id(request_id: Option<&str>, headers: &mut HeaderMap) {
    if let Some(value) = request_id.and_then(|id| HeaderValue::from_str(id).ok()) {
        headers.insert(REQUEST_ID.clone(), value);
    }
}

fn put_status(status: &Status, headers: &mut HeaderMap) {
    if status.add_header(headers).is_err() {
        // Text that is not valid in a header is omitted. The code is always valid.
        headers.insert(GRPC_STATUS.clone(), HeaderValue::from(status.code() as i32));
    }
}

impl Body for Reply {
    type Data = Framed;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Framed>, Status>>> {
        let reply = self.get_mut();
        Poll::Ready(ready!(reply.poll_piece(cx)).map(|piece| {
            Ok(match piece {
                Piece::Message(message) => Frame::data(message),
                Piece::End(status) => Frame::trailers(trailers(status, reply.request_id())),
            })
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.is_end()
    }
}
