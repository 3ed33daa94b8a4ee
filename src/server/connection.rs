//! One connection, from its first byte to its last: which protocol it speaks, how it is served, and when it must end.

use std::{
    convert::Infallible,
    future::poll_fn,
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::Request;
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf},
    sync::watch,
};

use super::{
    calls::Calls,
    coalesce::Coalesced,
    life::{Life, Turn},
    streams::Streams,
    web,
};
use crate::config::Connections;

/// What an HTTP/2 connection begins with (RFC 9113, 3.4).
const PREFACE: [u8; 24] = *b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Streams that a peer may have this node reset, by breaking the protocol, before it is sent away (CVE-2025-8671).
const LOCAL_RESETS: usize = 1_024;

/// Streams that a peer may open and reset before they are looked at (CVE-2023-44487).
const PENDING_RESETS: usize = 20;

/// Bytes of a request's headers, decoded.
const HEADERS: u32 = 16 << 10;

/// What a peer may send before it is read, of one call and of all.
const STREAM_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;

/// What of one answer may wait for the peer's window, beyond the message under way.
const SEND_BUFFER: usize = 64 << 10;

/// What the connections of one core have in common.
#[derive(Clone)]
pub(super) struct Common {
    pub(super) calls: Arc<Calls>,
    pub(super) limits: Connections,
    /// How long calls may go on once the node drains.
    pub(super) drain: Duration,
    pub(super) draining: watch::Receiver<bool>,
}

/// Serves a connection until it ends.
pub(super) async fn serve(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, common: Common) {
    let served = match tokio::time::timeout(common.limits.preface, begin(io)).await {
        Err(_) => Err("it said nothing in time".into()),
        Ok(Err(error)) => Err(error.into()),
        Ok(Ok(Begun { io, is_http2: true })) => serve_http2(io, common).await,
        Ok(Ok(Begun { io, is_http2: false })) => serve_http1(io, common).await,
    };
    if let Err(error) = served {
        tracing::debug!(error, "a connection failed");
    }
}

type Served = Result<(), Box<dyn std::error::Error + Send + Sync>>;

async fn serve_http2(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, common: Common) -> Served {
    let Common { calls, limits, .. } = &common;
    let calls = calls.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let calls = calls.clone();
        async move {
            Ok::<_, Infallible>(if web::is_web(&request) {
                Box::pin(web::answer(calls, request)).await.map(web::into_either)
            } else {
                calls.call(request).await.map(http_body_util::Either::Left)
            })
        }
    });
    let (io, streams) = (Coalesced::new(TokioIo::new(io)), Streams::default());
    let connection = http2::Builder::new(streams.clone())
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        .max_local_error_reset_streams(LOCAL_RESETS)
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_header_list_size(HEADERS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(limits.ping)
        .keep_alive_timeout(limits.ping_timeout)
        .auto_date_header(false)
        .serve_connection(io.clone(), service);
    let mut connection = pin!(connection);
    let mut life = Life::new(&common, streams);
    let mut ended = None;
    poll_fn(|cx| {
        loop {
            if ended.is_none()
                && let Poll::Ready(end) = connection.as_mut().poll(cx)
            {
                ended = Some(end);
            }
            if io.poll_drain(cx)?.is_ready()
                && let Some(end) = ended.take()
            {
                return Poll::Ready(end.map_err(Into::into));
            }
            match life.poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Turn::Over) => return Poll::Ready(Err("it did not end in time".into())),
                Poll::Ready(Turn::Goodbye) if ended.is_none() => connection.as_mut().graceful_shutdown(),
                Poll::Ready(Turn::Goodbye) => {}
            }
        }
    })
    .await
}

/// HTTP/1.1, which browsers without TLS speak: gRPC-Web only.
async fn serve_http1(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, common: Common) -> Served {
    let calls = common.calls.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let calls = calls.clone();
        async move { Ok::<_, Infallible>(web::answer(calls, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(common.limits.preface)
        .max_headers(64)
        .serve_connection(TokioIo::new(io), service);
    let mut connection = pin!(connection);
    let mut life = Life::new(&common, Streams::default());
    poll_fn(|cx| {
        loop {
            if let Poll::Ready(end) = connection.as_mut().poll(cx) {
                return Poll::Ready(end.map_err(Into::into));
            }
            match life.poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Turn::Over) => return Poll::Ready(Err("it did not end in time".into())),
                Poll::Ready(Turn::Goodbye) => connection.as_mut().graceful_shutdown(),
            }
        }
    })
    .await
}

/// A connection whose protocol is known.
struct Begun<T> {
    io: Rewound<T>,
    is_http2: bool,
}

/// Reads as much as tells the protocol.
async fn begin<T: AsyncRead + Unpin>(mut io: T) -> io::Result<Begun<T>> {
    let (mut first, mut length) = ([0; PREFACE.len()], 0);
    while length < PREFACE.len() && first[..length] == PREFACE[..length] {
        let read = io.read(&mut first[length..]).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        length += read;
    }
    Ok(Begun { io: Rewound { first, next: 0, length, io }, is_http2: first == PREFACE })
}

/// A connection whose first bytes are read a second time.
struct Rewound<T> {
    first: [u8; PREFACE.len()],
    next: usize,
    length: usize,
    io: T,
}

impl<T: AsyncRead + Unpin> AsyncRead for Rewound<T> {
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

impl<T: AsyncWrite + Unpin> AsyncWrite for Rewound<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
