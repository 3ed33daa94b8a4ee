//! One connection, from its first byte to its last: which protocol it uses, how it is served, and when it must end.

use std::{
    convert::Infallible,
    future::poll_fn,
    io::{self, IoSlice},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{FutureExt as _, future::Either};
use http::Request;
use http_body_util::{BodyExt as _, Either as EitherBody};
use hyper::{
    body::{Body, Incoming},
    rt::bounds::Http2ServerConnExec,
    server::conn::{http1, http2},
    service::{HttpService, service_fn},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf},
    sync::watch,
};

use super::{
    calls::Calls,
    coalesce::Coalesced,
    delivery::Delivery,
    entrance::OriginPolicy,
    frames::Frames,
    life::{self, Lifetime, Shutdown},
    memory::CoreMemory,
    peer::{Listener, Peer},
    proxy::Proxies,
    streams::{StallGuard, Streams, Watched},
    tls::{Protocol, Tls},
    transport,
    web::{self, Outputs},
};
use crate::config::Connections;

/// The first bytes of an HTTP/2 connection (RFC 9113, 3.4).
const PREFACE: [u8; 24] = *b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Streams that a peer can make this node reset by protocol errors, before the connection is closed (CVE-2025-8671).
const MAX_LOCAL_RESETS: usize = 1_024;

/// Streams that a peer may open and reset before they are processed (CVE-2023-44487).
const MAX_PENDING_RESETS: usize = 20;

/// The maximum size of the decoded headers of a request in bytes.
const MAX_HEADER_BYTES: u32 = 16 << 10;

/// Bytes that a peer may send on one call before they are read. The window of the connection has room for all calls, so
/// that a waiting call does not delay others. A call that is not read counts as this many bytes (`inbound`).
const STREAM_WINDOW_BYTES: u32 = 64 << 10;

/// Bytes of one response that may wait for the peer's window, beyond the message in flight.
const SEND_BUFFER_BYTES: usize = 64 << 10;

/// GOAWAY with ENHANCE_YOUR_CALM (RFC 9113, 6.8), for a peer that floods. Its last stream id is the maximum, because
/// any call of the peer may have been processed.
const GOAWAY_CALM: [u8; 17] = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 11];

/// The policy of each listener for requests of web pages.
#[derive(Debug, Clone)]
pub(super) struct OriginPolicies {
    pub(super) main: Arc<OriginPolicy>,
    pub(super) publishing: Arc<OriginPolicy>,
}

impl OriginPolicies {
    fn of(&self, listener: Listener) -> Arc<OriginPolicy> {
        match listener {
            Listener::Main => self.main.clone(),
            Listener::Publishing => self.publishing.clone(),
        }
    }
}

/// The state that the connections of one core share.
#[derive(Clone)]
pub(super) struct ConnectionContext {
    pub(super) calls: Arc<Calls>,
    pub(super) memory: CoreMemory,
    pub(super) origin_policies: OriginPolicies,
    pub(super) web: Arc<Outputs>,
    pub(super) proxies: Arc<Proxies>,
    /// None if connections are not encrypted.
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) limits: Connections,
    /// How long calls may continue once the node drains.
    pub(super) drain: Duration,
    pub(super) draining: watch::Receiver<bool>,
}

/// Serves a connection until it ends. `negotiated` is the protocol that the client has negotiated, if any.
///
/// # Errors
/// The connection has failed.
pub(super) async fn serve(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Arc<Peer>,
    negotiated: Option<Protocol>,
    context: ConnectionContext,
) -> Served {
    let timeout = context.limits.preface_timeout;
    let detected = tokio::select! {
        biased;
        detected = tokio::time::timeout(timeout, detect_protocol(io)) => detected,
        () = life::wait_for_drain(context.draining.clone()) => return Ok(()),
    };
    let Detected { io, protocol } = detected.map_err(|_| "preface timeout")??;
    match protocol {
        // A peer that does not keep to the protocol could be taken for another by a proxy (RFC 7301, 3.2).
        used if negotiated.is_some_and(|negotiated| negotiated != used) => {
            Err("the client uses another protocol than it has negotiated".into())
        }
        Protocol::Http2 => serve_http2(io, peer, context).await,
        Protocol::Http1 => serve_http1(io, peer, context).await,
    }
}

pub(super) type Failure = Box<dyn std::error::Error + Send + Sync>;

pub(super) type Served = Result<(), Failure>;

async fn serve_http2(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Arc<Peer>,
    context: ConnectionContext,
) -> Served {
    let (calls, origin_policy) = (context.calls.clone(), context.origin_policies.of(peer.listener));
    let outputs = context.web.clone();
    let streams = Streams::new(&context.memory, peer);
    let connection_streams = streams.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let (calls, streams) = (calls.clone(), connection_streams.clone());
        // Boxed, because hyper moves the future several times, and holds its memory for as long as a stream is open.
        let response = if web::is_native(&request) {
            let reply = Box::pin(transport::call(calls, request, streams));
            Either::Right(reply.map(|(reply, pace)| {
                transport::response(reply).map(|reply| EitherBody::Left(Delivery::new(reply, pace)))
            }))
        } else {
            let response = web::respond(calls, (origin_policy.clone(), outputs.clone()), streams, request);
            Either::Left(Box::pin(response).map(|response| response.map(EitherBody::Right)))
        };
        response.map(Ok::<_, Infallible>)
    });
    let lifetime = Lifetime::new(&context.limits, context.drain, context.draining, streams.clone());
    drive_http2(io, &context.limits, streams, lifetime, service).await
}

/// Serves HTTP/2 with a service.
async fn drive_http2<S, B>(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    limits: &Connections,
    streams: Streams,
    mut lifetime: Lifetime,
    service: S,
) -> Served
where
    S: HttpService<Incoming, ResBody = B, Error: Into<Failure>>,
    B: Body<Error: Into<Failure>> + 'static,
    Streams: Http2ServerConnExec<S::Future, B>,
{
    let io = Coalesced::new(TokioIo::new(Frames::new(io, PREFACE.len(), streams.clone())));
    let connection = http2::Builder::new(streams.clone())
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.max_streams)
        .max_local_error_reset_streams(MAX_LOCAL_RESETS)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_header_list_size(MAX_HEADER_BYTES)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(
            limits.max_streams.saturating_mul(STREAM_WINDOW_BYTES).min(i32::MAX as u32),
        )
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .keep_alive_interval(limits.ping_interval)
        .keep_alive_timeout(limits.ping_timeout)
        .auto_date_header(false)
        .serve_connection(io.clone(), service);
    let mut connection = pin!(connection);
    let mut guard = streams.guard(Watched::Connection);
    let mut ended = None;
    poll_fn(|cx| {
        loop {
            if ended.is_none()
                && let Poll::Ready(end) = connection.as_mut().poll(cx)
            {
                ended = Some(end);
                if streams.is_flooded() {
                    io.append(&GOAWAY_CALM);
                    lifetime.close_soon();
                } else {
                    lifetime.close_within_grace();
                }
            }
            let written = io.poll_drain(cx)?.is_ready();
            if written && let Some(end) = ended.take() {
                return Poll::Ready(end.map_err(Into::into));
            }
            if guard.poll(cx).is_ready() {
                return Poll::Ready(Err(STALLED.into()));
            }
            match lifetime.poll(cx, written) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Shutdown::Close) => return Poll::Ready(Err("shutdown timeout".into())),
                Poll::Ready(Shutdown::GoAway) => connection.as_mut().graceful_shutdown(),
            }
        }
    })
    .await
}

const STALLED: &str = "stalled: the peer does not read responses";

/// Serves HTTP/1.1, which browsers use without TLS, and many clients and proxies: gRPC-Web and the web outputs.
async fn serve_http1(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Arc<Peer>,
    context: ConnectionContext,
) -> Served {
    let (calls, origin_policy) = (context.calls.clone(), context.origin_policies.of(peer.listener));
    let outputs = context.web.clone();
    let streams = Streams::new(&context.memory, peer);
    let mut lifetime = Lifetime::new(&context.limits, context.drain, context.draining, streams.clone());
    let connection_streams = streams.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let (calls, streams) = (calls.clone(), connection_streams.clone());
        let in_progress = streams.track();
        let (origin_policy, outputs) = (origin_policy.clone(), outputs.clone());
        async move {
            let response = web::respond(calls, (origin_policy, outputs), streams, request).await;
            Ok::<_, Infallible>(response.map(|body| {
                body.map_frame(move |frame| {
                    let _until_the_body_is_dropped = &in_progress;
                    frame
                })
            }))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(context.limits.preface_timeout)
        .max_headers(64)
        .max_header_size(MAX_HEADER_BYTES as usize)
        // Otherwise a response is copied into a buffer, and its bytes no longer count.
        .writev(true)
        .serve_connection(TokioIo::new(io), service);
    let mut connection = pin!(connection);
    let mut guard: Option<StallGuard> = None;
    poll_fn(|cx| {
        loop {
            if let Poll::Ready(end) = connection.as_mut().poll(cx) {
                return Poll::Ready(end.map_err(Into::into));
            }
            if let Some(watched) = streams.take_watched() {
                guard = Some(streams.guard(watched));
            }
            if guard.as_mut().is_some_and(|guard| guard.poll(cx).is_ready()) {
                return Poll::Ready(Err(STALLED.into()));
            }
            match lifetime.poll(cx, true) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Shutdown::Close) => return Poll::Ready(Err("shutdown timeout".into())),
                Poll::Ready(Shutdown::GoAway) => connection.as_mut().graceful_shutdown(),
            }
        }
    })
    .await
}

/// A connection whose protocol is known.
struct Detected<T> {
    io: Replay<T>,
    protocol: Protocol,
}

/// Reads the bytes that determine the protocol.
async fn detect_protocol<T: AsyncRead + Unpin>(mut io: T) -> io::Result<Detected<T>> {
    let (mut first, mut length) = ([0; PREFACE.len()], 0);
    while length < PREFACE.len() && first[..length] == PREFACE[..length] {
        let read = io.read(&mut first[length..]).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        length += read;
    }
    let protocol = if first == PREFACE { Protocol::Http2 } else { Protocol::Http1 };
    Ok(Detected { io: Replay { first, next: 0, length, io }, protocol })
}

/// A connection whose first bytes are read a second time.
struct Replay<T> {
    first: [u8; PREFACE.len()],
    next: usize,
    length: usize,
    io: T,
}

impl<T: AsyncRead + Unpin> AsyncRead for Replay<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.next == self.length {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        let end = self.length.min(self.next + buf.remaining());
        buf.put_slice(&self.first[self.next..end]);
        self.next = end;
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Replay<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
