//! A service that records the headers of calls and ends each with one status, with or without TLS.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    runtime::Runtime,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig,
        crypto::ring::default_provider,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
        server::WebPkiClientVerifier,
    },
};

/// The headers of a call that tests compare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) method: String,
    pub(crate) token: Option<String>,
    pub(crate) has_deadline: bool,
}

pub(crate) struct Recorder {
    runtime: Option<Runtime>,
    pub(crate) address: SocketAddr,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl Recorder {
    /// Starts a service that ends each call with this gRPC status. Without a status, it never responds.
    pub(crate) fn start(status: Option<u8>, tls: Option<ServerConfig>) -> Recorder {
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let calls = Arc::new(Mutex::new(Vec::new()));
        let recorded = Arc::clone(&calls);
        let tls = tls.map(|config| TlsAcceptor::from(Arc::new(config)));
        runtime.spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (tls, recorded) = (tls.clone(), Arc::clone(&recorded));
                tokio::spawn(async move {
                    match tls {
                        None => serve(tcp, status, recorded).await,
                        Some(tls) => {
                            let Ok(stream) = tls.accept(tcp).await else { return };
                            serve(stream, status, recorded).await;
                        }
                    }
                });
            }
        });
        Recorder { runtime: Some(runtime), address, calls }
    }

    pub(crate) fn url(&self, scheme: &str) -> String {
        format!("{scheme}://localhost:{}", self.address.port())
    }

    /// Returns the calls since the last time.
    pub(crate) fn take(&self) -> Vec<Call> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn serve(io: impl AsyncRead + AsyncWrite + Unpin, status: Option<u8>, calls: Arc<Mutex<Vec<Call>>>) {
    let Ok(mut connection) = h2::server::handshake(io).await else { return };
    let mut open = Vec::new();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let header = |name: &str| request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        calls.lock().unwrap().push(Call {
            method: request.uri().path().rsplit('/').next().unwrap().to_owned(),
            token: header("authorization"),
            has_deadline: header("grpc-timeout").is_some(),
        });
        match status {
            Some(status) => {
                let response = http::Response::builder()
                    .header("content-type", "application/grpc")
                    .header("grpc-status", i32::from(status))
                    .header("grpc-message", "as the test demands")
                    .body(());
                respond.send_response(response.unwrap(), true).unwrap();
            }
            None => open.push((request, respond)),
        }
    }
}

/// An authority and the certificate of `localhost` that it has issued. The same certificate is for clients.
pub(crate) struct Certificates {
    pub(crate) ca: String,
    pub(crate) certificate: String,
    pub(crate) key: String,
    authority: CertifiedIssuer<'static, KeyPair>,
    issued: (rcgen::Certificate, KeyPair),
}

impl Certificates {
    pub(crate) fn new() -> Certificates {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &authority).unwrap();
        Certificates {
            ca: authority.pem(),
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            authority,
            issued: (certificate, key),
        }
    }

    /// Returns the configuration of a server, which can require a client certificate.
    pub(crate) fn server(&self, requires_client: bool) -> ServerConfig {
        let provider = Arc::new(default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let builder = if requires_client {
            let mut roots = RootCertStore::empty();
            roots.add(self.authority.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.issued.1.serialize_der()));
        let mut config = builder.with_single_cert(vec![self.issued.0.der().clone()], key).unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        config
    }
}
