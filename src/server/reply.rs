//! The body of a response: shared bytes, then the status.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use futures_util::{future::BoxFuture, stream::BoxStream};
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use tonic::{Code, Status};

use super::calls::Call;
use crate::{rpc, wire::Framed};

static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// The body of a response. Its final status is counted for the call.
pub(super) struct Reply {
    content: Content,
    call: Call,
    /// Ends a stream early, with a status.
    until: Option<BoxFuture<'static, Status>>,
}

enum Content {
    /// One message, then OK.
    Message(Framed),
    /// The status OK.
    Ok,
    Stream(BoxStream<'static, Result<Framed, Status>>),
    /// The body of another service.
    Routed(tonic::body::Body),
    End,
}

impl Reply {
    /// Returns a response of one message.
    pub(super) fn message(message: Framed, call: Call) -> Response<Reply> {
        grpc_response(Reply { content: Content::Message(message), call, until: None })
    }

    /// Returns a response of the messages of a stream. It ends early if `until` completes.
    pub(super) fn stream(
        stream: BoxStream<'static, Result<Framed, Status>>,
        call: Call,
        until: Option<BoxFuture<'static, Status>>,
    ) -> Response<Reply> {
        grpc_response(Reply { content: Content::Stream(stream), call, until })
    }

    /// Returns a response without a message, only with a status.
    pub(super) fn status(status: &Status, mut call: Call) -> Response<Reply> {
        call.set_code(status.code());
        let mut response = grpc_response(Reply { content: Content::End, call, until: None });
        put_status(status, response.headers_mut());
        response
    }

    /// Wraps the response of another service.
    pub(super) fn routed(
        response: Response<tonic::body::Body>,
        mut call: Call,
        until: Option<BoxFuture<'static, Status>>,
    ) -> Response<Reply> {
        record_code(&mut call, response.headers());
        response.map(|body| Reply { content: Content::Routed(body), call, until })
    }

    /// Converts the body into the type that other services use.
    pub(super) fn into_routed(self) -> tonic::body::Body {
        let copy = |mut framed: Framed| framed.copy_to_bytes(framed.remaining());
        tonic::body::Body::new(self.map_frame(move |frame| frame.map_data(copy)))
    }

    fn end(&mut self, status: &Status) -> Frame<Framed> {
        self.content = Content::End;
        self.call.set_code(status.code());
        let mut trailers = HeaderMap::new();
        put_status(status, &mut trailers);
        Frame::trailers(trailers)
    }

    fn end_ok(&mut self) -> Frame<Framed> {
        self.content = Content::End;
        self.call.set_code(Code::Ok);
        let mut trailers = HeaderMap::with_capacity(1);
        trailers.insert(GRPC_STATUS.clone(), HeaderValue::from_static("0"));
        Frame::trailers(trailers)
    }
}

fn grpc_response(reply: Reply) -> Response<Reply> {
    let mut response = Response::new(reply);
    let grpc = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(http::header::CONTENT_TYPE, grpc);
    response
}

fn put_status(status: &Status, headers: &mut HeaderMap) {
    if status.add_header(headers).is_err() {
        // Text that is not valid in a header is omitted. The code is always valid.
        headers.insert(GRPC_STATUS.clone(), HeaderValue::from(status.code() as i32));
    }
}

fn record_code(call: &mut Call, headers: &HeaderMap) {
    let code = headers.get(&GRPC_STATUS).and_then(|code| code.to_str().ok());
    if let Some(code) = code.and_then(|code| code.parse::<i32>().ok()) {
        call.set_code(Code::from_i32(code));
    }
}

type Next<T> = Poll<Option<Result<T, Status>>>;

/// Polls a stream. A panic fails this stream and no other.
fn catch_panic<T>(next: impl FnOnce() -> Next<T>) -> Next<T> {
    let panicked = |_| Poll::Ready(Some(Err(rpc::internal("the stream panicked"))));
    catch_unwind(AssertUnwindSafe(next)).unwrap_or_else(panicked)
}

impl Body for Reply {
    type Data = Framed;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Framed>, Status>>> {
        let this = &mut *self;
        if let Some(until) = &mut this.until
            && let Poll::Ready(status) = until.as_mut().poll(cx)
        {
            this.until = None;
            return Poll::Ready(Some(Ok(this.end(&status))));
        }
        let frame = match &mut this.content {
            Content::Message(message) => {
                let message = std::mem::take(message);
                this.content = Content::Ok;
                Frame::data(message)
            }
            Content::Ok => this.end_ok(),
            Content::Stream(stream) => match ready!(catch_panic(|| stream.as_mut().poll_next(cx))) {
                Some(Ok(message)) => Frame::data(message),
                Some(Err(status)) => this.end(&status),
                None => this.end_ok(),
            },
            Content::Routed(body) => match ready!(catch_panic(|| Pin::new(body).poll_frame(cx))) {
                None => {
                    this.content = Content::End;
                    return Poll::Ready(None);
                }
                Some(Err(status)) => this.end(&status),
                Some(Ok(frame)) => {
                    if let Some(trailers) = frame.trailers_ref() {
                        record_code(&mut this.call, trailers);
                    }
                    frame.map_data(|data: Bytes| Framed::from(data))
                }
            },
            Content::End => return Poll::Ready(None),
        };
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::End => true,
            Content::Routed(body) => body.is_end_stream(),
            _ => false,
        }
    }
}
