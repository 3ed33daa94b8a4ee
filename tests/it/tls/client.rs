//! A client with TLS that lets the test choose what it offers, and returns each failure.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion,
        crypto::ring,
        pki_types::ServerName,
        version::{TLS12, TLS13},
    },
};
use tonic::Status;

use super::authority::{Authority, Pair};
use crate::connections::frames::{EMPTY, LIST_TAGS};

/// The maximum time of one step. It is far longer than any step takes.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) type Failed = Box<dyn std::error::Error + Send + Sync>;

/// The offer of a client in its handshake.
#[derive(Clone)]
pub(crate) struct Client {
    roots: Arc<RootCertStore>,
    identity: Option<Arc<Pair>>,
    protocols: Vec<Vec<u8>>,
    versions: Vec<&'static SupportedProtocolVersion>,
}

impl Client {
    /// Returns a client that trusts an authority.
    pub(crate) fn of(authority: &Authority) -> Client {
        let mut roots = RootCertStore::empty();
        roots.add(authority.certificate().clone()).unwrap();
        let (roots, versions) = (Arc::new(roots), vec![&TLS12, &TLS13]);
        Client { roots, identity: None, protocols: vec![b"h2".to_vec()], versions }
    }

    /// Returns the client with a certificate of its own.
    pub(crate) fn with(&self, identity: Pair) -> Client {
        Client { identity: Some(identity.into()), ..self.clone() }
    }

    /// Returns the client with other protocols in ALPN.
    pub(crate) fn negotiating(&self, protocols: &[&str]) -> Client {
        let protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Client { protocols, ..self.clone() }
    }

    /// Returns the client with one version of TLS.
    pub(crate) fn speaking(&self, version: &'static SupportedProtocolVersion) -> Client {
        Client { versions: vec![version], ..self.clone() }
    }

    fn config(&self) -> ClientConfig {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_protocol_versions(&self.versions).unwrap();
        let builder = builder.with_root_certificates(self.roots.clone());
        let mut config = match &self.identity {
            Some(pair) => builder.with_client_auth_cert(vec![pair.certificate.clone()], pair.key()).unwrap(),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = self.protocols.clone();
        config
    }

    /// Returns the first bytes of a handshake.
    pub(crate) fn hello(&self) -> Vec<u8> {
        let name = ServerName::try_from("localhost").unwrap();
        let mut connection = ClientConnection::new(Arc::new(self.config()), name).unwrap();
        let mut hello = Vec::new();
        connection.write_tls(&mut hello).unwrap();
        hello
    }

    /// Connects, and completes the client's part of the handshake.
    pub(crate) async fn connect(&self, address: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
        self.secure(soon(TcpStream::connect(address)).await?).await
    }

    /// Completes the client's part of the handshake on a connection.
    pub(crate) async fn secure(&self, io: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from("localhost").unwrap();
        let handshake = TlsConnector::from(Arc::new(self.config())).connect(name, io);
        soon(Box::pin(handshake)).await
    }

    /// Connects, and makes a call over HTTP/2.
    pub(crate) async fn call(&self, address: SocketAddr) -> Result<(), Failed> {
        let mut connection = Connection::start(self.connect(address).await?).await?;
        connection.call().await
    }
}

/// A connection over HTTP/2.
pub(crate) struct Connection(h2::client::SendRequest<Bytes>);

impl Connection {
    pub(crate) async fn start(
        io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<Connection, Failed> {
        let (send, connection) = soon(Box::pin(h2::client::handshake(io))).await?;
        tokio::spawn(async { drop(connection.await) });
        Ok(Connection(send))
    }

    /// Opens a feed and returns it once it has started.
    pub(crate) async fn follow(&mut self) -> Result<h2::RecvStream, Failed> {
        Ok(self.send("/cable.v1.FeedService/Watch").await?.into_body())
    }

    async fn send(&mut self, path: &str) -> Result<Response<h2::RecvStream>, Failed> {
        let mut send = soon(self.0.clone().ready()).await?;
        let request = Request::post(format!("https://localhost{path}")).header("te", "trailers");
        let request = request.header("content-type", "application/grpc").body(())?;
        let (response, mut body) = send.send_request(request, false)?;
        body.send_data(EMPTY.into(), true)?;
        Ok(soon(response).await?)
    }

    /// Makes a call.
    pub(super) async fn call(&mut self) -> Result<(), Failed> {
        let (head, mut body) = self.send(LIST_TAGS).await?.into_parts();
        while let Some(chunk) = soon(body.data()).await {
            body.flow_control().release_capacity(chunk?.len())?;
        }
        let trailers = soon(body.trailers()).await?;
        match Status::from_header_map(&trailers.unwrap_or(head.headers)) {
            Some(status) if status.code() == tonic::Code::Ok => Ok(()),
            other => Err(format!("{other:?}").into()),
        }
    }
}

/// Makes a call of gRPC-Web over HTTP/1.1. Returns the response as it arrives, until the connection ends.
pub(crate) async fn call_http_1(
    mut io: impl AsyncRead + AsyncWrite + Unpin,
    headers: &str,
) -> Result<String, Failed> {
    let head = format!(
        "POST {LIST_TAGS} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}\
         content-type: application/grpc-web+proto\r\ncontent-length: 5\r\n\r\n"
    );
    soon(io.write_all(&[head.as_bytes(), EMPTY].concat())).await?;
    let mut response = Vec::new();
    soon(io.read_to_end(&mut response)).await?;
    Ok(String::from_utf8_lossy(&response).into_owned())
}

/// Waits for a step that takes far less time.
pub(crate) async fn soon<T>(step: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, step).await.expect("the step completes in time")
}

/// Reads until the node closes the connection.
pub(crate) async fn wait_for_close(io: &mut (impl AsyncRead + Unpin)) {
    let mut rest = Vec::new();
    // A reset is as good as an end.
    let _ = soon(io.read_to_end(&mut rest)).await;
}
