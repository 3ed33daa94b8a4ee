//! Responses through narrow pipes, and the number of writes that they take.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{
    TlsAcceptor, TlsConnector,
    rustls::{
        ClientConfig, RootCertStore, ServerConfig,
        crypto::ring,
        pki_types::{PrivateKeyDer, ServerName},
    },
};

use super::*;

/// Returns consecutive numbers, so that lost, repeated or misplaced bytes change the result.
fn numbers(count: u32) -> Bytes {
    (0..count).flat_map(u32::to_be_bytes).collect()
}

fn tls_pair() -> (TlsAcceptor, TlsConnector) {
    let certified = rcgen::generate_simple_self_signed(["cable".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(ring::default_provider());
    let server = ServerConfig::builder_with_provider(provider.clone());
    let server = server.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let server = server.with_single_cert(vec![certified.cert.der().clone()], key).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certified.cert.der().clone()).unwrap();
    let client = ClientConfig::builder_with_provider(provider);
    let client = client.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
    (Arc::new(server).into(), Arc::new(client.with_no_client_auth()).into())
}

/// Responds to each request with as many numbers as its path specifies.
async fn serve_numbers(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Served {
    let limits = Connections::default();
    let streams = Streams::for_test(&limits);
    let (_node, draining) = watch::channel(false);
    let lifetime = Lifetime::new(&limits, limits.goaway_grace, draining, streams.clone());
    let service = service_fn(|request: Request<Incoming>| async move {
        let count = request.uri().path()[1..].parse().unwrap();
        Ok::<_, Infallible>(Response::new(Full::new(numbers(count))))
    });
    drive_http2(io, &limits, streams, lifetime, service).await
}

async fn fetch(mut client: h2::client::SendRequest<Bytes>, count: u32) -> Bytes {
    let request = Request::get(format!("http://cable/{count}")).body(()).unwrap();
    let (response, _) = client.send_request(request, true).unwrap();
    let (mut body, mut all) = (response.await.unwrap().into_body(), Vec::new());
    while let Some(piece) = body.data().await {
        let piece = piece.unwrap();
        body.flow_control().release_capacity(piece.len()).unwrap();
        all.extend_from_slice(&piece);
    }
    all.into()
}

/// Each end has a thread of its own, so the pipe can have room again at any time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_responses_arrive_complete_through_a_narrow_pipe() {
    for (tls, width) in [(false, 1_000), (true, 100), (true, 5_000), (true, 1 << 20)] {
        let (ours, theirs) = tokio::io::duplex(width);
        let exchange = async {
            let served = if tls {
                let (acceptor, connector) = tls_pair();
                let ours = async move { serve_numbers(acceptor.accept(ours).await.unwrap()).await };
                let served = tokio::spawn(ours);
                let name = ServerName::try_from("cable").unwrap();
                check_exchange(connector.connect(name, theirs).await.unwrap()).await;
                served
            } else {
                let served = tokio::spawn(serve_numbers(ours));
                check_exchange(theirs).await;
                served
            };
            // Its last write may fail, because the client is gone by then.
            let _ = served.await.unwrap();
        };
        let done = tokio::time::timeout(Duration::from_secs(60), exchange).await;
        assert!(done.is_ok(), "stalled: TLS {tls}, {width} bytes wide");
    }
}

/// A socket that counts its writes.
struct Counting {
    io: TcpStream,
    writes: Arc<AtomicUsize>,
}

impl Counting {
    fn count(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.writes.fetch_add(1, Relaxed);
        }
        written
    }
}

impl AsyncRead for Counting {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counting {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        self.count(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.count(written)
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

/// Makes calls that arrive together. Returns the number of writes in which their responses leave.
async fn count_writes(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    writes: &AtomicUsize,
    counts: &[u32],
) -> usize {
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(1 << 20).initial_connection_window_size(4 << 20);
    let (client, connection) = builder.handshake(io).await.unwrap();
    tokio::spawn(connection);
    // The settings are exchanged.
    fetch(client.clone(), 1).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let before = writes.load(Relaxed);
    let responses = futures_util::future::join_all(counts.iter().map(|count| fetch(client.clone(), *count)));
    assert!(responses.await.iter().map(Bytes::len).eq(counts.iter().map(|count| *count as usize * 4)));
    writes.load(Relaxed) - before
}

#[tokio::test]
async fn the_responses_of_one_poll_leave_in_one_write_with_and_without_tls() {
    for tls in [false, true] {
        for counts in [&[300; 20][..], &[15_000], &[1]] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let theirs = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let writes = Arc::<AtomicUsize>::default();
            let ours = Counting { io: listener.accept().await.unwrap().0, writes: writes.clone() };
            let count = if tls {
                let (acceptor, connector) = tls_pair();
                tokio::spawn(async move { serve_numbers(acceptor.accept(ours).await.unwrap()).await });
                let name = ServerName::try_from("cable").unwrap();
                count_writes(connector.connect(name, theirs).await.unwrap(), &writes, counts).await
            } else {
                tokio::spawn(serve_numbers(ours));
                count_writes(theirs, &writes, counts).await
            };
            assert_eq!(count, 1, "TLS {tls}, {} responses", counts.len());
        }
    }
}

async fn check_exchange(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(1 << 20).initial_connection_window_size(4 << 20);
    let (client, connection) = builder.handshake(io).await.unwrap();
    let connection = tokio::spawn(connection);
    for counts in [[1, 300_000, 16_000, 70_000], [0, 2, 3, 200_000]] {
        let responses = counts.map(|count| tokio::spawn(fetch(client.clone(), count)));
        for (count, response) in counts.into_iter().zip(responses) {
            assert!(response.await.unwrap() == numbers(count), "{count} numbers");
        }
    }
    drop(client);
    connection.await.unwrap().unwrap();
}
