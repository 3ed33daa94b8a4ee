//! TLS of the listener: the certificate in use, and the handshakes of new connections.

use std::{
    fmt, io,
    net::IpAddr,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use tokio::net::TcpStream;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, pki_types::UnixTime, time_provider::TimeProvider},
    server::TlsStream,
};

use self::handshakes::Handshakes;
use super::peer::ClientCertificate;
use crate::{clock::Clock, telemetry::Metrics};

mod files;
mod handshakes;
mod hello;
mod reload;

pub(super) use files::Files;
pub(super) use reload::Reloader;

/// The names of the protocols in ALPN, by preference.
const HTTP_2: &[u8] = b"h2";
const HTTP_1: &[u8] = b"http/1.1";

/// A protocol that a client has negotiated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Http2,
    Http1,
}

/// TLS of a listener.
pub(super) struct Tls {
    config: RwLock<Arc<ServerConfig>>,
    handshakes: Handshakes,
    metrics: Arc<Metrics>,
}

/// A connection after its handshake.
pub(super) struct Secured {
    pub(super) io: TlsStream<TcpStream>,
    pub(super) certificate: Option<ClientCertificate>,
    /// None if the client has not negotiated one. Its first bytes show which it uses.
    pub(super) protocol: Option<Protocol>,
}

impl Tls {
    fn new(config: Arc<ServerConfig>, metrics: Arc<Metrics>) -> Tls {
        Tls { config: RwLock::new(config), handshakes: Handshakes::default(), metrics }
    }

    /// Replaces the certificate, the key and the client CA. They apply to handshakes that start from now on.
    fn replace(&self, config: Arc<ServerConfig>) {
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
    }

    fn acceptor(&self) -> TlsAcceptor {
        self.config.read().unwrap_or_else(PoisonError::into_inner).clone().into()
    }

    /// Performs the handshake of a connection from a network. Until the client has sent its hello, the connection holds
    /// no more than its socket.
    ///
    /// # Errors
    /// The peer does not complete the handshake in time, or has no valid certificate although it needs one.
    pub(super) async fn accept(&self, io: TcpStream, network: IpAddr) -> io::Result<Secured> {
        let secured = self.handshake(io, network).await.and_then(Secured::new);
        if secured.is_err() {
            self.metrics.tls_handshake_failures.inc();
        }
        secured
    }

    async fn handshake(&self, io: TcpStream, network: IpAddr) -> io::Result<TlsStream<TcpStream>> {
        hello::wait(&io).await?;
        self.handshakes.run(network, || self.acceptor().accept(io)).await
    }
}

impl Secured {
    /// # Errors
    /// The client certificate has too many names.
    fn new(io: TlsStream<TcpStream>) -> io::Result<Secured> {
        let (_, session) = io.get_ref();
        let leaf = session.peer_certificates().and_then(|chain| chain.first());
        let certificate = leaf.map(|leaf| ClientCertificate::parse(leaf)).transpose();
        let certificate = certificate.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        let protocol = session.alpn_protocol().map(|name| match name {
            HTTP_2 => Protocol::Http2,
            _ => Protocol::Http1,
        });
        Ok(Secured { io, certificate, protocol })
    }
}

/// The node's clock, for checks of certificates.
struct Time(Clock);

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        let micros = u64::try_from(self.0.now()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_micros(micros)))
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
