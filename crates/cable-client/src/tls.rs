//! TLS: the certificates that the client trusts and presents, and the causes of failed handshakes.

use std::{fmt, path::PathBuf};

use crate::{Error, ErrorKind, Result};

/// Certificates or a private key in PEM form: a file, or the bytes of one.
///
/// Files are read when the client is built.
///
/// ```no_run
/// use cable_client::{Cable, Pem};
///
/// let cable = Cable::builder("https://cable.internal:7190").ca(Pem::file("/etc/cable/ca.pem")).build()?;
/// # Ok::<_, cable_client::Error>(())
/// ```
#[derive(Clone)]
pub struct Pem(Source);

#[derive(Clone)]
enum Source {
    File(PathBuf),
    Bytes(Vec<u8>),
}

impl Pem {
    /// Returns the content of a file.
    #[must_use]
    pub fn file(path: impl Into<PathBuf>) -> Pem {
        Pem(Source::File(path.into()))
    }

    /// Returns bytes in PEM form.
    ///
    /// ```no_run
    /// use cable_client::{Cable, Pem};
    ///
    /// let ca = Pem::bytes(b"-----BEGIN CERTIFICATE-----\n...".as_slice());
    /// let cable = Cable::builder("https://cable.internal:7190").ca(ca).build()?;
    /// # Ok::<_, cable_client::Error>(())
    /// ```
    #[must_use]
    pub fn bytes(bytes: impl Into<Vec<u8>>) -> Pem {
        Pem(Source::Bytes(bytes.into()))
    }

    /// Returns the error for this input in its role, such as `ca`.
    #[cfg(feature = "tls")]
    fn invalid(&self, role: &str, problem: impl fmt::Display) -> Error {
        let origin = match &self.0 {
            Source::File(path) => format!("{role} {}", path.display()),
            Source::Bytes(_) => role.to_owned(),
        };
        Error::new(ErrorKind::Config, format!("{origin}: {problem}"))
    }

    #[cfg(feature = "tls")]
    fn read(&self, role: &str) -> Result<Vec<u8>> {
        match &self.0 {
            Source::File(path) => std::fs::read(path).map_err(|error| self.invalid(role, error)),
            Source::Bytes(bytes) => Ok(bytes.clone()),
        }
    }
}

impl fmt::Debug for Pem {
    /// Formats the file, or the number of bytes: a private key must not be in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::File(path) => write!(f, "Pem(file {})", path.display()),
            Source::Bytes(bytes) => write!(f, "Pem({} bytes)", bytes.len()),
        }
    }
}

/// The settings of TLS, as the builder has them.
#[derive(Debug, Clone, Default)]
pub(crate) struct TlsSettings {
    pub(crate) ca: Option<Pem>,
    pub(crate) identity: Option<(Pem, Pem)>,
    pub(crate) domain_name: Option<String>,
}

#[cfg(feature = "tls")]
pub(crate) use self::rustls::{Tls, describe, is_alert};

#[cfg(not(feature = "tls"))]
pub(crate) struct Tls;

#[cfg(not(feature = "tls"))]
impl Tls {
    pub(crate) fn new(_: &TlsSettings) -> Result<Tls> {
        Err(Error::new(ErrorKind::Config, "https needs the feature `tls` of cable-client"))
    }
}

/// The handshake, by rustls.
#[cfg(feature = "tls")]
mod rustls {
    use std::{io, sync::Arc};

    use tokio::net::TcpStream;
    use tokio_rustls::{
        TlsConnector,
        client::TlsStream,
        rustls::{
            AlertDescription, CertificateError, ClientConfig, Error as TlsError, InvalidMessage,
            RootCertStore,
            crypto::ring,
            pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
        },
    };

    use super::{Error, ErrorKind, Pem, Result, TlsSettings};

    /// The protocol that both sides agree on in the handshake: gRPC needs HTTP/2.
    const ALPN_HTTP2: &[u8] = b"h2";

    /// A configuration of TLS for all connections of a client.
    pub(crate) struct Tls {
        config: Arc<ClientConfig>,
        domain_name: Option<ServerName<'static>>,
    }

    impl Tls {
        /// Reads the certificates and the key. Without a CA, the roots of the system are trusted.
        pub(crate) fn new(settings: &TlsSettings) -> Result<Tls> {
            let TlsSettings { ca, identity, domain_name } = settings;
            let roots = match ca {
                Some(ca) => roots_of(ca)?,
                None => system_roots()?,
            };
            let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
                .with_safe_default_protocol_versions()
                .map_err(|error| config_error("TLS", &error))?
                .with_root_certificates(roots);
            let mut config = match identity {
                Some((certificate, key)) => {
                    let chain = certificates(certificate, "client certificate")?;
                    let private_key = PrivateKeyDer::from_pem_slice(&key.read("client key")?)
                        .map_err(|_| key.invalid("client key", "no private key in PEM form"))?;
                    builder
                        .with_client_auth_cert(chain, private_key)
                        .map_err(|error| config_error("client certificate and key", &error))?
                }
                None => builder.with_no_client_auth(),
            };
            config.alpn_protocols = vec![ALPN_HTTP2.to_vec()];
            let domain_name = domain_name.clone().map(|name| {
                let problem = format!("domain_name `{name}`: not a host name");
                ServerName::try_from(name).map_err(|_| Error::new(ErrorKind::Config, problem))
            });
            Ok(Tls { config: Arc::new(config), domain_name: domain_name.transpose()? })
        }

        /// Makes the handshake. The certificate must be valid for `host`, or for the name that replaces it.
        pub(crate) async fn connect(&self, host: &str, tcp: TcpStream) -> io::Result<TlsStream<TcpStream>> {
            let name = match &self.domain_name {
                Some(name) => name.clone(),
                None => ServerName::try_from(host.to_owned()).map_err(io::Error::other)?,
            };
            let stream = TlsConnector::from(Arc::clone(&self.config)).connect(name, tcp).await?;
            match stream.get_ref().1.alpn_protocol() {
                Some(ALPN_HTTP2) => Ok(stream),
                _ => Err(io::Error::other(
                    "the server does not offer HTTP/2 (ALPN `h2`): not a Cable server, or behind a proxy without gRPC",
                )),
            }
        }
    }

    fn config_error(what: &str, error: &TlsError) -> Error {
        Error::new(ErrorKind::Config, format!("{what}: {error}"))
    }

    fn certificates(pem: &Pem, role: &str) -> Result<Vec<CertificateDer<'static>>> {
        let bytes = pem.read(role)?;
        let found = CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>();
        match found {
            Ok(found) if !found.is_empty() => Ok(found),
            _ => Err(pem.invalid(role, "no certificate in PEM form")),
        }
    }

    fn roots_of(ca: &Pem) -> Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(ca, "ca")? {
            roots.add(certificate).map_err(|error| ca.invalid("ca", error))?;
        }
        Ok(roots)
    }

    fn system_roots() -> Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            let problem = "no CA certificates on this system: install them, or set `ca`";
            return Err(Error::new(ErrorKind::Config, problem));
        }
        Ok(roots)
    }

    /// Returns whether the peer has ended the connection with an alert.
    pub(crate) fn is_alert(error: &io::Error) -> bool {
        matches!(tls_error(error), Some(TlsError::AlertReceived(_)))
    }

    /// Returns the cause and the remedy of a failure, if it is one of TLS.
    pub(crate) fn describe(error: &io::Error) -> Option<String> {
        let remedy = match tls_error(error)? {
            TlsError::InvalidCertificate(problem) => return Some(describe_certificate(problem)),
            TlsError::AlertReceived(alert) => return Some(describe_alert(*alert)),
            TlsError::InvalidMessage(InvalidMessage::InvalidContentType) => {
                "use http://, or the port for TLS"
            }
            other => return Some(format!("TLS handshake failed: {other}")),
        };
        Some(format!("the server does not speak TLS on this port: {remedy}"))
    }

    fn tls_error(error: &io::Error) -> Option<&TlsError> {
        error.get_ref()?.downcast_ref()
    }

    fn describe_certificate(problem: &CertificateError) -> String {
        match problem {
            CertificateError::UnknownIssuer => {
                "certificate is not trusted: unknown issuer; set `ca`".to_owned()
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "certificate has expired; check the clock of this machine, or replace the certificate"
                    .to_owned()
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "certificate is not valid yet; check the clock of this machine".to_owned()
            }
            CertificateError::NotValidForName => {
                "certificate is for another name; use that name, or set `domain_name`".to_owned()
            }
            CertificateError::NotValidForNameContext { expected, presented } => format!(
                "certificate is for {}, not for {}; use one of its names, or set `domain_name`",
                presented.iter().map(|name| plain(name)).collect::<Vec<_>>().join(", "),
                expected.to_str()
            ),
            // A CA that was created again has the same name and another key.
            CertificateError::BadSignature => {
                "certificate is not trusted: signed by another CA of the same name; set `ca`".to_owned()
            }
            other => format!("certificate is not trusted: {other}"),
        }
    }

    /// Returns a name of a certificate without its type: `a` for `DnsName("a")`.
    fn plain(name: &str) -> &str {
        let value = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
        value.trim_matches('"')
    }

    fn describe_alert(alert: AlertDescription) -> String {
        match alert {
            AlertDescription::CertificateRequired => {
                "the server requires a client certificate; set `client_certificate`".to_owned()
            }
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::DecryptError => "the server does not trust the client certificate".to_owned(),
            AlertDescription::CertificateExpired => "the client certificate has expired".to_owned(),
            AlertDescription::NoApplicationProtocol => {
                "the server does not offer HTTP/2 (ALPN `h2`)".to_owned()
            }
            AlertDescription::HandshakeFailure => {
                "the server refuses the handshake; it may require a client certificate".to_owned()
            }
            other => format!("the server refuses the TLS connection: {other:?}"),
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn invalid_certificates_and_keys_are_refused_when_read() {
            let no_pem = || Pem::bytes("no PEM");
            let settings = TlsSettings { ca: Some(no_pem()), ..Default::default() };
            assert_eq!(refusal(&settings), "ca: no certificate in PEM form");
            let missing = TlsSettings { ca: Some(Pem::file("/no/such/ca.pem")), ..Default::default() };
            assert_eq!(refusal(&missing), "ca /no/such/ca.pem: No such file or directory (os error 2)");
            let ca = rcgen::generate_simple_self_signed(["ca".to_owned()]).unwrap();
            let other = rcgen::generate_simple_self_signed(["other".to_owned()]).unwrap();
            let certificate = || Pem::bytes(ca.cert.pem());
            let key = other.signing_key.serialize_pem();
            for (identity, start) in [
                ((no_pem(), no_pem()), "client certificate: no certificate"),
                ((certificate(), no_pem()), "client key: no private key"),
                ((certificate(), Pem::bytes(key.as_str())), "client certificate and key: "),
            ] {
                let settings =
                    TlsSettings { ca: Some(certificate()), identity: Some(identity), domain_name: None };
                assert!(refusal(&settings).starts_with(start), "{}", refusal(&settings));
                assert!(!format!("{settings:?}").contains("PRIVATE"));
            }
            let settings = TlsSettings {
                ca: Some(certificate()),
                domain_name: Some("not a name".into()),
                ..Default::default()
            };
            assert_eq!(refusal(&settings), "domain_name `not a name`: not a host name");
        }

        fn refusal(settings: &TlsSettings) -> String {
            let error = Tls::new(settings).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::Config);
            error.to_string()
        }

        #[test]
        fn causes_name_the_remedy() {
            let described = |error| describe(&io::Error::other(error)).unwrap();
            for (error, part) in [
                (TlsError::InvalidCertificate(CertificateError::UnknownIssuer), "unknown issuer; set `ca`"),
                (TlsError::InvalidCertificate(CertificateError::Expired), "expired"),
                (TlsError::InvalidCertificate(CertificateError::NotValidYet), "not valid yet"),
                (TlsError::InvalidCertificate(CertificateError::NotValidForName), "set `domain_name`"),
                (TlsError::InvalidCertificate(CertificateError::Revoked), "certificate is not trusted: "),
                (TlsError::AlertReceived(AlertDescription::CertificateRequired), "client certificate; set"),
                (TlsError::AlertReceived(AlertDescription::UnknownCA), "does not trust"),
                (
                    TlsError::AlertReceived(AlertDescription::CertificateExpired),
                    "client certificate has expired",
                ),
                (TlsError::AlertReceived(AlertDescription::HandshakeFailure), "client certificate"),
                (TlsError::AlertReceived(AlertDescription::InternalError), "InternalError"),
                (TlsError::AlertReceived(AlertDescription::NoApplicationProtocol), "HTTP/2"),
                (TlsError::InvalidMessage(InvalidMessage::InvalidContentType), "use http://"),
                (TlsError::DecryptError, "TLS handshake failed: "),
            ] {
                let text = described(error);
                assert!(text.contains(part), "{part}: {text}");
            }
            assert_eq!(describe(&io::Error::other("reset")), None);
        }
    }
}
