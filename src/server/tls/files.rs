//! The certificate, the key and the client CA on disk: how they are read, and what makes them valid.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use sha2::{Digest as _, Sha256};
use tokio_rustls::rustls::{
    self, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
    server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
    sign::{CertifiedKey, SingleCertAndKey},
    version::{TLS12, TLS13},
};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{HTTP_1, HTTP_2, Time};
use crate::{
    clock::Clock,
    config::{self, ClientAuth},
    files,
};

/// The maximum size of a file in bytes. Certificates have some kilobytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The maximum number of certificates in the chain of the node. Each handshake sends all of them.
const MAX_CHAIN: usize = 16;

/// The maximum number of authorities for client certificates. Each handshake sends the names of all of them.
const MAX_CLIENT_CAS: usize = 100;

/// The bit of a file's mode with which every user may read it.
const OTHERS_READ: u32 = 0o004;

const UNSUPPORTED_KEY: &str = "the kind or size of the key is not supported: use ECDSA (P-256 or P-384), Ed25519, or RSA of \
                               2048 to 8192 bits";

/// The reason why files cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("`{setting}` ({path}): {problem}", path = path.display())]
pub(crate) struct Error {
    setting: &'static str,
    path: PathBuf,
    problem: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The files that the settings name.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    certificate: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
    client_auth: ClientAuth,
}

/// The content of the files.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

/// Files that were checked.
pub(crate) struct Loaded {
    pub(crate) config: Arc<ServerConfig>,
    /// The time at which the certificate expires, in seconds since 1970 UTC.
    pub(crate) expires: i64,
    /// Identifies the content of the files.
    pub(crate) digest: [u8; 32],
}

impl Files {
    /// Returns the files. None without TLS.
    pub(crate) fn new(settings: &config::Tls) -> Option<Files> {
        Some(Files {
            certificate: settings.certificate.clone()?,
            key: settings.key.clone()?,
            client_ca: settings.client_ca.clone(),
            client_auth: settings.client_auth,
        })
    }

    /// Reads and checks the files.
    ///
    /// # Errors
    /// A file cannot be read, or is not valid.
    pub(crate) fn load(&self, clock: &Clock) -> Result<Loaded, Error> {
        self.check(&self.read()?, clock)
    }

    /// Reads the files.
    ///
    /// # Errors
    /// A file cannot be read, or is too large.
    pub(super) fn read(&self) -> Result<Contents, Error> {
        let read =
            |setting, path: &Path| read_limited(path).map_err(|error| Error::new(setting, path, error));
        Ok(Contents {
            certificate: read("tls.certificate", &self.certificate)?,
            key: read("tls.key", &self.key)?,
            client_ca: self.client_ca.as_deref().map(|path| read("tls.client_ca", path)).transpose()?,
        })
    }

    /// Checks that the contents are valid now, and belong together.
    ///
    /// # Errors
    /// They are not, or do not.
    pub(super) fn check(&self, contents: &Contents, clock: &Clock) -> Result<Loaded, Error> {
        let provider = Arc::new(ring::default_provider());
        let (pair, expires) = self.certified_key(contents, &provider, clock)?;
        let verifier = self.client_verifier(contents, &provider)?;
        self.warn_of_readable_key();
        let internal = |error: rustls::Error| {
            Error::new(
                "tls.certificate",
                &self.certificate,
                Problem::from("the file cannot be used").caused_by(error),
            )
        };
        let builder = ServerConfig::builder_with_details(provider, Arc::new(Time(clock.clone())));
        let builder = builder.with_protocol_versions(&[&TLS13, &TLS12]).map_err(internal)?;
        let resumes = verifier.is_none();
        let builder = match verifier {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
        config.alpn_protocols = vec![HTTP_2.to_vec(), HTTP_1.to_vec()];
        if resumes {
            config.ticketer = ring::Ticketer::new().map_err(internal)?;
        } else {
            // A resumed session would skip the check of the client's certificate.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        Ok(Loaded { config: Arc::new(config), expires, digest: contents.digest() })
    }

    /// Returns the certificate chain with its key, and the time at which the certificate expires.
    fn certified_key(
        &self,
        contents: &Contents,
        provider: &CryptoProvider,
        clock: &Clock,
    ) -> Result<(CertifiedKey, i64), Error> {
        let of_certificate = |problem: Problem| Error::new("tls.certificate", &self.certificate, problem);
        let of_key = |problem: Problem| Error::new("tls.key", &self.key, problem);
        let chain = parse_certificates(&contents.certificate, MAX_CHAIN).map_err(of_certificate)?;
        let expires = check_chain(&chain, clock.now() / 1_000_000).map_err(of_certificate)?;
        let key = PrivateKeyDer::from_pem_slice(&contents.key)
            .map_err(|error| of_key(no_key(error, &contents.key)))?;
        let pair =
            CertifiedKey::from_der(chain.clone(), key.clone_key(), provider).map_err(
                |error| match error {
                    rustls::Error::InconsistentKeys(_) => self.mismatch(&chain, &key, provider),
                    // The text of this error is about the parser.
                    rustls::Error::General(_) => of_key(UNSUPPORTED_KEY.into()),
                    error => {
                        of_key(Problem::from("the key cannot be used with its certificate").caused_by(error))
                    }
                },
            )?;
        Ok((pair, expires))
    }

    /// Explains a key that does not belong to the first certificate.
    fn mismatch(
        &self,
        chain: &[CertificateDer<'static>],
        key: &PrivateKeyDer<'static>,
        provider: &CryptoProvider,
    ) -> Error {
        let has_key = |certificate: &CertificateDer<'static>| {
            CertifiedKey::from_der(vec![certificate.clone()], key.clone_key(), provider).is_ok()
        };
        let path = &self.certificate;
        match chain.iter().position(has_key) {
            Some(index) => {
                let number = index + 1;
                let problem = format!(
                    "the first certificate must be that of the node, and the key belongs to number {number}: move that to \
                     the start of the file"
                );
                Error::new("tls.certificate", path, problem)
            }
            None => {
                let certificate = path.display();
                let problem =
                    format!("the key does not belong to the certificate {certificate}; replace both files");
                Error::new("tls.key", &self.key, problem)
            }
        }
    }

    fn warn_of_readable_key(&self) {
        let mode = std::fs::metadata(&self.key).map_or(0, |meta| meta.permissions().mode());
        if mode & OTHERS_READ != 0 {
            let path = self.key.display();
            tracing::warn!(%path, "private key (`tls.key`) can be read by every user of this machine: run chmod 600");
        }
    }

    /// Returns the verifier of client certificates. None if clients need none.
    fn client_verifier(
        &self,
        contents: &Contents,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Option<Arc<dyn ClientCertVerifier>>, Error> {
        let (Some(path), Some(pem)) = (&self.client_ca, &contents.client_ca) else { return Ok(None) };
        let error = |problem: Problem| Error::new("tls.client_ca", path, problem);
        let mut roots = RootCertStore::empty();
        for root in parse_certificates(pem, MAX_CLIENT_CAS).map_err(error)? {
            let unusable = |cause| error(Problem::from("a certificate cannot be used").caused_by(cause));
            roots.add(root).map_err(unusable)?;
        }
        let builder = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
        let builder = match self.client_auth {
            ClientAuth::None => return Ok(None),
            ClientAuth::Optional => builder.allow_unauthenticated(),
            ClientAuth::Required => builder,
        };
        let unusable = |cause| error(Problem::from("the file cannot be used").caused_by(cause));
        builder.build().map(Some).map_err(unusable)
    }
}

impl Contents {
    /// Returns a value that identifies the contents.
    pub(super) fn digest(&self) -> [u8; 32] {
        let parts = [Some(&self.certificate), Some(&self.key), self.client_ca.as_ref()];
        let of_each = parts.into_iter().flatten().map(Sha256::digest);
        of_each.fold(Sha256::new(), |all, digest| all.chain_update(digest)).finalize().into()
    }
}

impl Error {
    fn new(setting: &'static str, path: &Path, problem: impl Into<Problem>) -> Error {
        let Problem { text, source } = problem.into();
        Error { setting, path: path.to_owned(), problem: text, source }
    }
}

/// The problem with a file.
struct Problem {
    text: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Problem {
    fn caused_by(mut self, error: impl std::error::Error + Send + Sync + 'static) -> Problem {
        self.source = Some(Box::new(error));
        self
    }
}

impl<T: Into<String>> From<T> for Problem {
    fn from(text: T) -> Problem {
        Problem { text: text.into(), source: None }
    }
}

fn read_limited(path: &Path) -> Result<Vec<u8>, Problem> {
    match files::open(path).and_then(|file| files::read_limited(file, MAX_FILE_BYTES)) {
        Ok(None) => Err("the file has more than 1 MiB".into()),
        Ok(Some(content)) => Ok(content),
        Err(error) => Err(Problem::from("the file cannot be read").caused_by(error)),
    }
}

/// Parses the certificates of a file: at least one, and at most `max`.
fn parse_certificates(pem: &[u8], max: usize) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let all = CertificateDer::pem_slice_iter(pem).take(max + 1).collect::<Result<Vec<_>, _>>();
    let all = all.map_err(not_pem)?;
    match all.len() {
        0 => Err("the file has no certificate in PEM".into()),
        count if count > max => Err(format!("the file has more than {max} certificates").into()),
        _ => Ok(all),
    }
}

/// Checks that each certificate of a chain can be read, and that the first one is valid now. Returns the time at which
/// it expires.
fn check_chain(chain: &[CertificateDer<'_>], now: i64) -> Result<i64, Problem> {
    let mut expires = None;
    for certificate in chain {
        let unreadable = |error| Problem::from("a certificate cannot be read").caused_by(error);
        let (_, parsed) = X509Certificate::from_der(certificate).map_err(unreadable)?;
        if expires.is_none() {
            let validity = parsed.validity();
            if validity.not_after.timestamp() <= now {
                return Err(format!("the certificate expired on {}; renew it", validity.not_after).into());
            }
            if validity.not_before.timestamp() > now {
                let from = validity.not_before;
                return Err(format!(
                    "the certificate is not valid before {from}; check the clock of this machine"
                )
                .into());
            }
            expires = Some(validity.not_after.timestamp());
        }
    }
    expires.ok_or_else(|| "the file has no certificate in PEM".into())
}

fn no_key(error: pem::Error, text: &[u8]) -> Problem {
    const MARK: &[u8] = b"ENCRYPTED";
    if text.windows(MARK.len()).any(|part| part == MARK) {
        return "the key is encrypted: write it without a passphrase (openssl pkey -in KEY -out NEW)".into();
    }
    match error {
        pem::Error::NoItemsFound => {
            "the file has no private key in PEM (PKCS #8, PKCS #1 or SEC 1, not encrypted)".into()
        }
        error => not_pem(error),
    }
}

/// Describes a file that is not PEM, without its bytes.
fn not_pem(error: pem::Error) -> Problem {
    match error {
        pem::Error::MissingSectionEnd { .. } | pem::Error::IllegalSectionStart { .. } => {
            "the file is not complete: a line that begins or ends a section of PEM is cut off or missing"
                .into()
        }
        error => Problem::from("the file is not valid PEM").caused_by(error),
    }
}
