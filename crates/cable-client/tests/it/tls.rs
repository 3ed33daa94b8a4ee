//! TLS, and the messages for connections that cannot be used: each names the address, the cause and the remedy.

use std::{sync::Arc, time::Duration};

use cable_client::{Builder, Cable, Error, ErrorKind, Pem, Retry, v1};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig,
        crypto::ring::default_provider,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
        server::WebPkiClientVerifier,
        version::{TLS12, TLS13},
    },
};

use crate::support::{Server, unary};

/// An authority that issues the certificates of a test.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key.
struct Issued {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Authority {
    fn new() -> Authority {
        Authority::named("authority")
    }

    fn named(name: &str) -> Authority {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn ca(&self) -> Pem {
        Pem::bytes(self.0.pem())
    }

    fn issue(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Issued {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        Issued { certificate: params.signed_by(&key, &self.0).unwrap(), key }
    }
}

impl Issued {
    fn pem(&self) -> (Pem, Pem) {
        (Pem::bytes(self.certificate.pem()), Pem::bytes(self.key.serialize_pem()))
    }

    /// Returns the configuration of a server with this certificate, which requires one of `clients` if given.
    fn server(&self, clients: Option<&Authority>, is_old: bool) -> ServerConfig {
        let versions: &[_] = if is_old { &[&TLS12] } else { &[&TLS13] };
        let provider = Arc::new(default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_protocol_versions(versions).unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(clients) => {
                let mut roots = RootCertStore::empty();
                roots.add(clients.0.der().clone()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        let mut config = builder.with_single_cert(vec![self.certificate.der().clone()], key).unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        config
    }
}

fn serve_status() -> Server {
    Server::start(0, |_, request| {
        unary(request, |_: v1::GetStatusRequest| async { Ok(v1::GetStatusResponse::default()) })
    })
}

/// Accepts connections with TLS and passes their bytes to a server. Returns the port.
async fn terminate_tls(config: ServerConfig, server: std::net::SocketAddr) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut outer) = acceptor.accept(tcp).await else { return };
                let mut inner = TcpStream::connect(server).await.unwrap();
                let _closed = copy_bidirectional(&mut outer, &mut inner).await;
            });
        }
    });
    port
}

/// Responds to each connection with these bytes, once the client has sent something, and closes it.
async fn respond_with(bytes: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut received = [0; 4096];
                let _some = tcp.read(&mut received).await;
                let _closed = tcp.write_all(bytes).await;
            });
        }
    });
    port
}

fn quick(builder: Builder) -> Cable {
    builder.retry(Retry::none()).connect_timeout(Duration::from_millis(500)).build().unwrap()
}

async fn failure(builder: Builder) -> Error {
    let error = quick(builder).status().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    error
}

#[tokio::test]
async fn a_call_over_tls_succeeds_with_the_ca_and_a_client_certificate() {
    let (authority, server) = (Authority::new(), serve_status());
    let node = authority.issue("localhost", |_| {});
    let client = authority.issue("importer", |_| {});
    for is_old in [false, true] {
        for clients in [None, Some(&authority)] {
            let port = terminate_tls(node.server(clients, is_old), server.address).await;
            let (certificate, key) = client.pem();
            let url = format!("https://localhost:{port}");
            let cable = Cable::builder(url).ca(authority.ca()).client_certificate(certificate, key);
            quick(cable.token("cable_7f3a_example")).status().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_certificate_and_key_are_read_from_files() {
    let (authority, server, dir) = (Authority::new(), serve_status(), tempfile::tempdir().unwrap());
    let port =
        terminate_tls(authority.issue("localhost", |_| {}).server(Some(&authority), false), server.address)
            .await;
    let client = authority.issue("importer", |_| {});
    let file = |name: &str, text: String| {
        std::fs::write(dir.path().join(name), text).unwrap();
        Pem::file(dir.path().join(name))
    };
    let cable = Cable::builder(format!("https://localhost:{port}"))
        .ca(file("ca.pem", authority.0.pem()))
        .client_certificate(
            file("c.pem", client.certificate.pem()),
            file("c.key", client.key.serialize_pem()),
        );
    quick(cable).status().await.unwrap();
}

#[tokio::test]
async fn the_name_of_the_certificate_can_be_set() {
    let (authority, server) = (Authority::new(), serve_status());
    let port =
        terminate_tls(authority.issue("cable.internal", |_| {}).server(None, false), server.address).await;
    let builder = Cable::builder(format!("https://127.0.0.1:{port}")).ca(authority.ca());
    quick(builder.clone().domain_name("cable.internal")).status().await.unwrap();
    let error = failure(builder).await;
    let cause =
        "certificate is for cable.internal, not for 127.0.0.1; use one of its names, or set `domain_name`";
    assert_eq!(error.message(), format!("cannot reach https://127.0.0.1:{port}: {cause}"));
}

#[tokio::test]
async fn each_failed_handshake_has_its_cause_and_remedy() {
    let (authority, server) = (Authority::new(), serve_status());
    let past = |params: &mut CertificateParams| params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let future = |params: &mut CertificateParams| params.not_before = rcgen::date_time_ymd(3000, 1, 1);
    let of = |issued: Issued, clients: Option<&Authority>, is_old| issued.server(clients, is_old);
    let valid = || authority.issue("localhost", |_| {});
    let (other, renewed) = (Authority::named("other"), Authority::new());
    for (config, cause) in [
        (
            of(renewed.issue("localhost", |_| {}), None, false),
            "signed by another CA of the same name; set `ca`",
        ),
        (
            of(other.issue("localhost", |_| {}), None, false),
            "certificate is not trusted: unknown issuer; set `ca`",
        ),
        (of(authority.issue("localhost", past), None, false), "certificate has expired; "),
        (of(authority.issue("localhost", future), None, false), "certificate is not valid yet; "),
        (of(authority.issue("elsewhere", |_| {}), None, false), "certificate is for "),
        (of(valid(), Some(&authority), false), "client certificate"),
        (of(valid(), Some(&authority), true), "client certificate"),
    ] {
        let port = terminate_tls(config, server.address).await;
        let error = failure(Cable::builder(format!("https://localhost:{port}")).ca(authority.ca())).await;
        let message = error.message();
        assert!(message.contains(&format!("https://localhost:{port} (127.0.0.1:{port})")), "{message}");
        assert!(message.contains(cause), "{cause}: {message}");
    }
}

#[tokio::test]
async fn a_client_certificate_of_another_authority_is_refused() {
    let (authority, server) = (Authority::new(), serve_status());
    for (other, is_old) in [("other", false), ("other", true), ("authority", false), ("authority", true)] {
        let other = Authority::named(other);
        let config = authority.issue("localhost", |_| {}).server(Some(&authority), is_old);
        let port = terminate_tls(config, server.address).await;
        let (certificate, key) = other.issue("importer", |_| {}).pem();
        let builder = Cable::builder(format!("https://localhost:{port}")).ca(authority.ca());
        let error = failure(builder.client_certificate(certificate, key)).await;
        assert!(error.message().contains("client certificate"), "{error}");
    }
}

#[tokio::test]
async fn a_server_without_http2_is_recognised() {
    let (authority, server) = (Authority::new(), serve_status());
    for protocols in [vec![], vec![b"http/1.1".to_vec()]] {
        let mut config = authority.issue("localhost", |_| {}).server(None, false);
        config.alpn_protocols = protocols;
        let port = terminate_tls(config, server.address).await;
        let error = failure(Cable::builder(format!("https://localhost:{port}")).ca(authority.ca())).await;
        assert!(error.message().contains("does not offer HTTP/2"), "{error}");
    }
}

#[tokio::test]
async fn tls_to_a_port_without_it_is_recognised() {
    let (authority, server) = (Authority::new(), serve_status());
    let http1 = respond_with(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await;
    let nothing = respond_with(b"").await;
    for (port, cause) in [
        (server.address.port(), ""),
        (http1, "does not speak TLS on this port: use http://"),
        (nothing, "closed the connection in the TLS handshake: the port may not be one for TLS"),
    ] {
        let error = failure(Cable::builder(format!("https://localhost:{port}")).ca(authority.ca())).await;
        assert!(error.message().contains(cause) && error.message().contains("TLS"), "{port}: {error}");
    }
}

#[tokio::test]
async fn plaintext_to_a_port_with_tls_is_recognised() {
    let (authority, server) = (Authority::new(), serve_status());
    for is_old in [false, true] {
        let config = authority.issue("localhost", |_| {}).server(None, is_old);
        let port = terminate_tls(config, server.address).await;
        let cable = quick(Cable::builder(format!("http://127.0.0.1:{port}")));
        let error = cable.put(crate::support::article("a")).await.unwrap_err();
        let cause = "the server speaks TLS on this port: use https://";
        assert_eq!(error.message(), format!("cannot reach http://127.0.0.1:{port}: {cause}"));
        assert!(!error.may_have_applied());
    }
}

#[tokio::test]
async fn a_response_of_http1_is_quoted() {
    for (bytes, line) in [
        (&b"HTTP/1.1 502 Bad Gateway\r\nserver: proxy\r\n\r\n<html>"[..], "HTTP/1.1 502 Bad Gateway"),
        (b"HTTP/1.0 407 \x1b[2JProxy\r\n\r\n", "HTTP/1.0 407 \\u{1b}[2JProxy"),
        (b"<html>no</html>", "<html>no</html>"),
    ] {
        let port = respond_with(bytes).await;
        let error = failure(Cable::builder(format!("http://127.0.0.1:{port}"))).await;
        let cause = format!(
            "the server responds with `{line}`, not HTTP/2: a proxy without gRPC, or another service"
        );
        assert_eq!(error.message(), format!("cannot reach http://127.0.0.1:{port}: {cause}"));
    }
}

#[tokio::test]
async fn a_response_of_http2_without_grpc_is_described() {
    for (status, kind) in [
        (404, ErrorKind::Unimplemented),
        (401, ErrorKind::Unauthenticated),
        (403, ErrorKind::PermissionDenied),
        (502, ErrorKind::Unavailable),
        (500, ErrorKind::Unknown),
    ] {
        let server = Server::start(0, move |_, _| async move {
            let response = http::Response::builder().status(status).header("content-type", "text/html");
            response.body(tonic::body::Body::empty()).unwrap()
        });
        let error = quick(Cable::builder(server.url())).status().await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        let expected = format!(
            "{} responded with HTTP status {status}, not gRPC: a proxy, or another service",
            server.url()
        );
        assert_eq!(error.message(), expected);
    }
}

#[tokio::test]
async fn a_server_that_is_silent_is_named_after_the_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let error = failure(Cable::builder(format!("https://localhost:{port}")).ca(Authority::new().ca())).await;
    assert!(error.message().contains("no TLS handshake within 500ms"), "{error}");
    let silent =
        quick(Cable::builder(format!("http://127.0.0.1:{port}")).timeout(Duration::from_millis(200)));
    let error = silent.status().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    assert_eq!(error.message(), format!("no response from http://127.0.0.1:{port} before the deadline"));
}

#[tokio::test]
async fn system_roots_do_not_trust_a_private_authority() {
    let (authority, server) = (Authority::new(), serve_status());
    let port = terminate_tls(authority.issue("localhost", |_| {}).server(None, false), server.address).await;
    match Cable::builder(format!("https://localhost:{port}")).build() {
        Ok(cable) => {
            let error = cable.status().await.unwrap_err();
            assert!(error.message().contains("unknown issuer; set `ca`"), "{error}");
        }
        Err(error) => assert!(error.message().contains("no CA certificates on this system"), "{error}"),
    }
}
