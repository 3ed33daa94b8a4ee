//! `cable-limit --listen ADDRESS --size BYTES [--messages N]`: the baseline of Cable's benchmarks. It is a
//! separate program so that nothing else in `bench` affects how it is compiled.
//!
//! It is the limit: hyper and h2 alone, with one canned response. It reads each request to its end, as gRPC requires,
//! but decodes none. A server that sends the same bytes with the same libraries can hardly cost less.

use std::{
    convert::Infallible,
    future::poll_fn,
    net::{SocketAddr, TcpListener, TcpStream},
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
    thread,
};

use bytes::Bytes;
use clap::Parser;
use http::{HeaderMap, HeaderValue, Request, Response, header::CONTENT_TYPE};
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use hyper::{body::Incoming, rt::Executor, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    runtime,
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
};

mod gathered;

use gathered::Gathered;

/// Cable's allocator, so that both servers use the same one.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// The bytes per chunk of a body with many messages, as in Cable's streams.
const CHUNK_BYTES: usize = 256 << 10;

/// The length of a gRPC message prefix: one byte that marks the message as uncompressed, and its length in four.
const PREFIX: usize = 5;

/// The length of the filler's key and length. The filler is one field of bytes, which is the whole message: its key takes
/// two bytes and its length three.
const FILLER: usize = 5;
const MAX_SIZE: usize = 1 << 21;

/// Cable's settings of connections, except for the limits on reset streams and the pings.
const MAX_STREAMS: u32 = 200;
const MAX_HEADER_BYTES: u32 = 16 << 10;
const STREAM_WINDOW_BYTES: u32 = 64 << 10;
const CONNECTION_WINDOW_BYTES: u32 = MAX_STREAMS * STREAM_WINDOW_BYTES;
const SEND_BUFFER_BYTES: usize = 64 << 10;

/// Serve one response, framed in advance, for every request.
#[derive(Debug, Parser)]
#[command(name = "cable-limit")]
struct Options {
    /// Address to listen on.
    #[arg(long, value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Size of a message, in bytes.
    #[arg(long, value_name = "BYTES")]
    size: usize,
    /// Number of messages in a response.
    #[arg(long, value_name = "N", default_value_t = 1)]
    messages: usize,
}

fn main() -> Outcome<()> {
    let options = Options::parse();
    let response = CannedResponse::new(options.size, options.messages)?;
    let listener = TcpListener::bind(options.listen)?;
    let count = thread::available_parallelism().map_or(1, usize::from);
    let cores = (0..count).map(|_| start_core(response.clone())).collect::<Outcome<Vec<_>>>()?;
    for core in cores.iter().cycle() {
        let (stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        core.send(stream)?;
    }
    Ok(())
}

/// Starts a thread that serves the connections sent to it.
fn start_core(response: CannedResponse) -> Outcome<UnboundedSender<TcpStream>> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let (sender, accepted) = unbounded_channel();
    thread::spawn(move || runtime.block_on(serve_all(accepted, response)));
    Ok(sender)
}

async fn serve_all(mut accepted: UnboundedReceiver<TcpStream>, response: CannedResponse) {
    while let Some(stream) = accepted.recv().await {
        let response = response.clone();
        tokio::spawn(async move {
            if let Err(error) = serve(stream, response).await {
                eprintln!("connection failed: {error}");
            }
        });
    }
}

async fn serve(
    stream: TcpStream,
    response: CannedResponse,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let io = Gathered::new(TokioIo::new(tokio::net::TcpStream::from_std(stream)?));
    let service = service_fn(move |request: Request<Incoming>| {
        let response = response.clone();
        async move {
            let mut body = request.into_body();
            while let Some(Ok(_)) = body.frame().await {}
            let mut response = Response::new(response);
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            Ok::<_, Infallible>(response)
        }
    });
    let connection = http2::Builder::new(PollFirst)
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADER_BYTES)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .auto_date_header(false)
        .serve_connection(io.clone(), service);
    let (mut connection, mut ended) = (pin!(connection), None);
    poll_fn(|cx| {
        if ended.is_none()
            && let Poll::Ready(end) = connection.as_mut().poll(cx)
        {
            ended = Some(end);
        }
        match (io.poll_out(cx)?, ended.take()) {
            (Poll::Ready(()), Some(end)) => Poll::Ready(end.map_err(Into::into)),
            (_, still) => {
                ended = still;
                Poll::Pending
            }
        }
    })
    .await
}

/// An executor that polls each new stream immediately, as Cable does. A stream that has to wait is spawned as a task.
#[derive(Clone)]
struct PollFirst;

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for PollFirst {
    fn execute(&self, stream: F) {
        let mut stream = Box::pin(stream);
        if stream.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            tokio::spawn(stream);
        }
    }
}

/// A response: messages framed in advance, then OK.
#[derive(Debug, Clone)]
struct CannedResponse {
    chunk: Bytes,
    /// The number of bytes that are not sent yet.
    unsent: usize,
    /// Whether the status was sent.
    ended: bool,
}

impl CannedResponse {
    fn new(size: usize, messages: usize) -> Outcome<CannedResponse> {
        let message = framed(size)?;
        let at_once = (CHUNK_BYTES / message.len()).clamp(1, messages.max(1));
        let unsent = message.len() * messages;
        Ok(CannedResponse { chunk: message.repeat(at_once).into(), unsent, ended: false })
    }
}

/// Returns a message of `size` bytes that every client accepts: one field, which it does not know.
fn framed(size: usize) -> Outcome<Vec<u8>> {
    if !(FILLER..MAX_SIZE).contains(&size) {
        return Err(format!("--size must be from {FILLER} to {}", MAX_SIZE - 1).into());
    }
    let mut framed = vec![0; PREFIX - 4];
    framed.extend((size as u32).to_be_bytes());
    let filler = size - FILLER;
    let septet = |index: usize| (filler >> (7 * index) & 0x7f) as u8;
    framed.extend([0x82, 0x01, septet(0) | 0x80, septet(1) | 0x80, septet(2)]);
    framed.resize(PREFIX + size, b'x');
    Ok(framed)
}

impl Body for CannedResponse {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = &mut *self;
        if this.ended {
            return Poll::Ready(None);
        }
        if this.unsent > 0 {
            let data = this.chunk.slice(..this.chunk.len().min(this.unsent));
            this.unsent -= data.len();
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        this.ended = true;
        let mut trailers = HeaderMap::with_capacity(1);
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}

#[cfg(test)]
mod tests {
    use cable_client::v1;
    use prost::Message as _;

    use super::*;

    #[test]
    fn a_framed_message_is_valid_and_has_the_requested_size() {
        for size in [FILLER, 130, 6_400, 70_000, MAX_SIZE - 1] {
            let framed = framed(size).unwrap();
            assert_eq!(framed.len(), PREFIX + size);
            assert_eq!(framed[..PREFIX], [&[0], &(size as u32).to_be_bytes()[..]].concat());
            assert_eq!(
                v1::GetArticleResponse::decode(&framed[PREFIX..]),
                Ok(v1::GetArticleResponse::default())
            );
        }
        assert!(framed(FILLER - 1).is_err() && framed(MAX_SIZE).is_err());
    }

    #[tokio::test]
    async fn a_body_has_all_messages_and_a_status() {
        for messages in [0, 1, 3, 39, 100] {
            let collected = CannedResponse::new(6_400, messages).unwrap().collect().await.unwrap();
            assert_eq!(collected.trailers().and_then(|trailers| trailers.get("grpc-status")).unwrap(), "0");
            assert!(collected.to_bytes() == framed(6_400).unwrap().repeat(messages), "{messages}");
        }
    }
}
