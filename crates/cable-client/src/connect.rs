//! Connections: TCP, TLS and the start of HTTP/2 to one address, and the facts that they reveal about the server.
//!
//! The transport reports a failed connection as a chain of errors from which the cause is often lost. So the stream
//! below it records the cause: an alert of TLS, or first bytes that are not HTTP/2.

use std::{
    error::Error as StdError,
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Sleep, sleep_until, timeout_at},
};
use tonic::codegen::http::Uri;
use tower_service::Service;

use crate::{BoxFuture, config::Target, retry::after, tls::Tls};

/// The server of a connection, for messages: the endpoint, the address, and the facts that connections to it revealed.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) target: Arc<Target>,
    pub(crate) address: SocketAddr,
    finding: Arc<Mutex<Option<Finding>>>,
    /// The number of reads of all connections that returned bytes.
    received: Arc<AtomicU64>,
}

/// A fact about the server that explains why a connection is of no use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// The cause and the remedy.
    pub(crate) cause: String,
    /// Whether the server cannot have received a call.
    pub(crate) is_refusal: bool,
}

impl Peer {
    pub(crate) fn new(target: Arc<Target>, address: SocketAddr) -> Peer {
        Peer { target, address, finding: Arc::default(), received: Arc::default() }
    }

    /// Returns whether the traffic is private: it is encrypted, or stays on this machine.
    pub(crate) fn is_private(&self) -> bool {
        self.target.is_https || self.address.ip().to_canonical().is_loopback()
    }

    /// Returns the finding of the last connections. One that starts HTTP/2 clears it.
    pub(crate) fn finding(&self) -> Option<Finding> {
        self.finding.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns a number that changes whenever a connection to the server receives something.
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }

    fn set_finding(&self, finding: Option<Finding>) {
        *self.finding.lock().unwrap_or_else(PoisonError::into_inner) = finding;
    }
}

impl fmt::Display for Peer {
    /// Formats the endpoint, and the address if the endpoint has a name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.target.ip() {
            Some(_) => f.write_str(&self.target.url),
            None => write!(f, "{} ({})", self.target.url, self.address),
        }
    }
}

/// The failure to establish a connection. The text is the cause.
#[derive(Debug)]
pub(crate) struct ConnectFailure(String);

impl fmt::Display for ConnectFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for ConnectFailure {}

/// A service that connects to one address, regardless of the URL.
#[derive(Clone)]
pub(crate) struct Connector {
    pub(crate) peer: Peer,
    pub(crate) tls: Option<Arc<Tls>>,
    /// The limit on TCP, TLS and the first frame of HTTP/2 together.
    pub(crate) timeout: Duration,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Observed>;
    type Error = ConnectFailure;
    type Future = BoxFuture<Result<Self::Response, ConnectFailure>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectFailure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move { connector.connect().await.map(TokioIo::new) })
    }
}

impl Connector {
    async fn connect(self) -> Result<Observed, ConnectFailure> {
        let Connector { peer, tls, timeout } = self;
        let until = after(timeout);
        let tcp = match timeout_at(until, TcpStream::connect(peer.address)).await {
            Ok(Ok(tcp)) => tcp,
            Ok(Err(error)) => return Err(ConnectFailure(error.to_string())),
            Err(_) => return Err(ConnectFailure(format!("no TCP connection within {timeout:?}"))),
        };
        // A call is a few small packets, which must not wait for each other. Without the option, it is only slower.
        let _slower = tcp.set_nodelay(true);
        let (stream, is_tls): (Box<dyn Stream>, bool) = match tls {
            None => (Box::new(tcp), false),
            #[cfg(feature = "tls")]
            Some(tls) => match timeout_at(until, tls.connect(&peer.target.host, tcp)).await {
                Ok(Ok(stream)) => (Box::new(stream), true),
                Ok(Err(error)) => return Err(ConnectFailure(describe_handshake(&error))),
                Err(_) => {
                    let cause =
                        format!("no TLS handshake within {timeout:?}: the port may not be one for TLS");
                    return Err(ConnectFailure(cause));
                }
            },
            #[cfg(not(feature = "tls"))]
            Some(_) => return Err(ConnectFailure("https needs the feature `tls`".to_owned())),
        };
        let silence = Silence { until: Box::pin(sleep_until(until)), timeout };
        Ok(Observed {
            stream,
            is_tls,
            peer,
            received: Vec::new(),
            is_recognised: false,
            silence: Some(silence),
        })
    }
}

#[cfg(feature = "tls")]
fn describe_handshake(error: &io::Error) -> String {
    match crate::tls::describe(error) {
        Some(cause) => cause,
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            "the server closed the connection in the TLS handshake: the port may not be one for TLS"
                .to_owned()
        }
        None => error.to_string(),
    }
}

/// A connection that records as the finding of its peer why it is of no use.
pub(crate) struct Observed {
    stream: Box<dyn Stream>,
    is_tls: bool,
    peer: Peer,
    /// The first bytes from the server, until they are recognised.
    received: Vec<u8>,
    /// Whether the first bytes have arrived, and were HTTP/2 or are the finding.
    is_recognised: bool,
    /// The limit on the wait for the first bytes. `None` once they have arrived.
    silence: Option<Silence>,
}

/// The time at which a server that has sent nothing counts as hung. Every server of HTTP/2 sends a frame at once.
struct Silence {
    until: Pin<Box<Sleep>>,
    timeout: Duration,
}

/// A connection with or without TLS.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// The bytes by which a protocol is recognised. The frame with which a server starts HTTP/2 has as many or more.
const RECOGNISED_BYTES: usize = 9;
/// The longest part of a foreign response in a message.
const MAX_QUOTED_BYTES: usize = 64;

impl Observed {
    /// Examines the first bytes from the server. The first frame of HTTP/2 is SETTINGS, on stream 0.
    fn observe(&mut self, bytes: &[u8]) {
        self.received.extend(bytes.iter().take(MAX_QUOTED_BYTES));
        let received = &self.received;
        if received.len() < RECOGNISED_BYTES && !received.starts_with(b"\x15\x03") {
            return;
        }
        let refusal = |cause: String| Some(Finding { cause, is_refusal: true });
        if received.starts_with(b"HTTP/1") || received.starts_with(b"<") {
            let line = received.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
            let line = String::from_utf8_lossy(line).into_owned();
            self.peer.set_finding(refusal(format!(
                "the server responds with `{}`, not HTTP/2: a proxy without gRPC, or another service",
                line.escape_default()
            )));
        } else if matches!(received[..], [0x15 | 0x16, 0x03, ..]) {
            self.peer.set_finding(refusal("the server speaks TLS on this port: use https://".to_owned()));
        } else {
            self.peer.set_finding(None);
        }
        self.is_recognised = true;
        self.received = Vec::new();
    }

    /// Returns an error if the server has sent nothing in time. It is no refusal: a hung server that awakes still reads the
    /// calls that were sent.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(Silence { until, timeout }) = &mut self.silence else { return Poll::Pending };
        ready!(until.as_mut().poll(cx));
        let cause = format!("no HTTP/2 from the server within {timeout:?}");
        self.peer.set_finding(Some(Finding { cause: cause.clone(), is_refusal: false }));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, cause)))
    }

    /// Records why the stream has ended.
    fn observe_error(&self, error: &io::Error) {
        if self.peer.finding().is_some() {
            return;
        }
        #[cfg(feature = "tls")]
        if let Some(cause) = crate::tls::describe(error) {
            let is_refusal = crate::tls::is_alert(error) && !self.is_recognised;
            return self.peer.set_finding(Some(Finding { cause, is_refusal }));
        }
        self.observe_end(&error.to_string());
    }

    /// Records the end of a stream over TLS before its first byte. With TLS 1.3 the client cannot see in the handshake
    /// that the server refuses its certificate, and the alert can be lost.
    fn observe_end(&self, end: &str) {
        if self.is_tls && !self.is_recognised {
            let cause = format!(
                "closed after the TLS handshake; the server may require a client certificate ({end})"
            );
            self.peer.set_finding(Some(Finding { cause, is_refusal: false }));
        }
    }
}

/// Returns the outcome of a write. If it failed before the first byte from the server, the read side ends the connection:
/// the bytes that the server sent before it closed the connection are the cause, and reading wakes the same task.
fn after_first_read<T>(is_recognised: bool, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
    match written {
        Poll::Ready(Err(_)) if !is_recognised => Poll::Pending,
        written => written,
    }
}

impl AsyncRead for Observed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let start = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > start {
            self.peer.received.fetch_add(1, Relaxed);
            self.silence = None;
        }
        match &read {
            Poll::Ready(Ok(())) if self.is_recognised => {}
            Poll::Ready(Ok(())) if buf.filled().len() == start => self.observe_end("end of stream"),
            Poll::Ready(Ok(())) => self.observe(&buf.filled()[start..]),
            Poll::Ready(Err(error)) => self.observe_error(error),
            Poll::Pending => return self.poll_silence(cx),
        }
        read
    }
}

impl AsyncWrite for Observed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        after_first_read(self.is_recognised, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        after_first_read(self.is_recognised, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        after_first_read(self.is_recognised, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
