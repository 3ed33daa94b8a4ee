//! The live feed over HTTP: a stream of server-sent events.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS},
    request::Parts,
};
use http_body::Frame;
use tonic::Status;

use super::{
    Outputs,
    documents::{REQUEST_ID, WebBody, build, read_only, refused, whole},
};
use crate::{
    server::{
        calls::Calls,
        delivery::Delivery,
        reply::{Piece, Reply},
        streams::Streams,
    },
    web::errors::HttpError,
    wire::Framed,
};

/// The first bytes of a stream: how long a browser waits before it connects again, in milliseconds.
const START: &[u8] = b"retry: 1000\n\n";

/// The header that keeps a proxy from collecting events before it passes them on.
const UNBUFFERED: &str = "x-accel-buffering";

/// Responds to a request for the feed.
pub(super) async fn respond(
    calls: &Calls,
    outputs: &Outputs,
    streams: Streams,
    parts: &Parts,
) -> Response<Delivery<WebBody>> {
    if !matches!(parts.method, Method::GET | Method::HEAD) {
        return read_only(streams);
    }
    let freshness = outputs.caching.now();
    match calls.live(parts, &streams).await {
        Ok((reply, pace)) => {
            let mut headers = HeaderMap::with_capacity(5);
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
            headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            headers.insert(UNBUFFERED, HeaderValue::from_static("no"));
            if let Some(id) = reply.request_id().and_then(|id| HeaderValue::from_str(id).ok()) {
                headers.insert(REQUEST_ID, id);
            }
            if parts.method == Method::HEAD {
                return whole(StatusCode::OK, headers, Bytes::new(), true, streams);
            }
            let body = Events { start: Bytes::from_static(START), reply: Some(reply) };
            build(StatusCode::OK, headers, Delivery::new(WebBody::Live(body), pace))
        }
        Err((call, status)) => {
            let response = refused(&freshness, call, status, (true, &[]), parts, streams);
            let (mut parts, body) = response.into_parts();
            // A feed that is refused now may start later.
            parts.headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            Response::from_parts(parts, body)
        }
    }
}

/// The events of a feed. An error is the last event.
pub(in crate::server) struct Events {
    start: Bytes,
    /// None after the last event.
    reply: Option<Reply>,
}

impl Events {
    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Framed>, Status>>> {
        if !self.start.is_empty() {
            let start = std::mem::take(&mut self.start);
            return Poll::Ready(Some(Ok(Frame::data(Framed::from(start)))));
        }
        let Some(reply) = &mut self.reply else { return Poll::Ready(None) };
        let piece = match ready!(Pin::new(reply).poll_piece(cx)) {
            Some(Piece::Message(piece)) => piece,
            Some(Piece::End(Err(status))) => {
                self.reply = None;
                Framed::from(failure(&status))
            }
            Some(Piece::End(Ok(()))) | None => {
                self.reply = None;
                return Poll::Ready(None);
            }
        };
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    pub(super) fn is_end(&self) -> bool {
        self.reply.is_none()
    }
}

/// Returns the event of an error that ends a feed.
fn failure(status: &Status) -> Bytes {
    let error = HttpError::new(status.code() as i32, status.message(), status.details());
    Bytes::from(format!("event: failed\ndata: {}\n\n", error.body.trim_end()))
}
