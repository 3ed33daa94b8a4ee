//! The peer of a connection: its address, and the certificate that it has proved to hold.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use x509_parser::{
    extensions::GeneralName,
    prelude::{FromDer as _, X509Certificate},
};

use super::proxy::Proxies;

/// The maximum number of names that a client certificate may hold, and their maximum total length in bytes. They are
/// compared with the names of principals, and held as long as the connection.
const MAX_NAMES: usize = 100;
const MAX_NAME_BYTES: usize = 16 << 10;

/// The listeners of a node for gRPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Listener {
    /// `server.listen`.
    Main,
    /// `publish.listen`.
    Publishing,
}

/// The peer of a connection.
#[derive(Debug)]
pub(crate) struct Peer {
    /// The listener that it has connected to.
    pub(crate) listener: Listener,
    /// The address of the client, or of the last proxy before this node that does not announce its clients.
    pub(crate) address: SocketAddr,
    /// The verified certificate of the client, if it has one.
    pub(crate) certificate: Option<ClientCertificate>,
    /// The trusted proxies, if the peer is one of them.
    proxies: Option<Arc<Proxies>>,
}

/// The names in a client certificate.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ClientCertificate {
    /// The common name of the subject. None if there is no such name, or more than one.
    pub(crate) common_name: Option<Box<str>>,
    /// The subject alternative names of each kind, as they are written.
    pub(crate) dns_names: Box<[Box<str>]>,
    pub(crate) uris: Box<[Box<str>]>,
    pub(crate) emails: Box<[Box<str>]>,
}

impl Peer {
    /// Returns the peer at an address. A trusted proxy may forward the addresses of others.
    pub(super) fn new(
        listener: Listener,
        address: SocketAddr,
        certificate: Option<ClientCertificate>,
        proxies: &Arc<Proxies>,
    ) -> Peer {
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        let is_proxy = proxies.contain(address.ip());
        Peer { listener, address, certificate, proxies: is_proxy.then(|| proxies.clone()) }
    }

    /// Returns a peer of tests that have none.
    #[cfg(test)]
    pub(super) fn for_test() -> Peer {
        let address = SocketAddr::from(([127, 0, 0, 1], 9));
        Peer { listener: Listener::Main, address, certificate: None, proxies: None }
    }

    /// Returns the address of the client that sent a request: the peer's own, unless the peer is a trusted proxy.
    /// `forwarded` returns the values of the request's headers
    /// `x-forwarded-for`, in order.
    pub(crate) fn client_address<'a, I>(&self, forwarded: impl FnOnce() -> I) -> IpAddr
    where
        I: DoubleEndedIterator<Item = &'a [u8]>,
    {
        match &self.proxies {
            Some(proxies) => proxies.client_address(self.address.ip(), forwarded()),
            None => self.address.ip(),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)?;
        let Some(certificate) = &self.certificate else { return Ok(()) };
        certificate.names().try_for_each(|name| write!(f, " {}", name.escape_debug()))
    }
}

impl ClientCertificate {
    /// Returns all names in the certificate, each with its kind, such as `DNS:desk.example`. A name of one kind never
    /// stands for one of another: an authority may check some kinds only.
    pub(crate) fn names(&self) -> impl Iterator<Item = String> {
        let ClientCertificate { common_name, dns_names, uris, emails } = self;
        let kinds = [("CN", common_name.as_slice()), ("DNS", dns_names), ("URI", uris), ("email", emails)];
        kinds.into_iter().flat_map(|(kind, names)| names.iter().map(move |name| format!("{kind}:{name}")))
    }

    /// Reads the names of a certificate that was verified.
    ///
    /// # Errors
    /// The certificate cannot be read, or has too many names.
    pub(super) fn parse(der: &[u8]) -> Result<ClientCertificate, &'static str> {
        const UNREADABLE: &str = "the client certificate cannot be read";
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| UNREADABLE)?;
        let mut common_names = certificate.subject().iter_common_name();
        let common_name = match (common_names.next(), common_names.next()) {
            (Some(name), None) => Some(name.as_str().map_err(|_| UNREADABLE)?.into()),
            _ => None,
        };
        let alternatives = certificate.subject_alternative_name().map_err(|_| UNREADABLE)?;
        let alternatives = alternatives.map_or(&[][..], |extension| &extension.value.general_names);
        let bytes: usize = alternatives.iter().filter_map(text).map(|(_, name)| name.len()).sum();
        if alternatives.len() > MAX_NAMES || bytes > MAX_NAME_BYTES {
            return Err("the client certificate has too many names");
        }
        let of = |kind| {
            let all = alternatives.iter().filter_map(text);
            all.filter(|(of, _)| *of == kind).map(|(_, name)| Box::from(name)).collect()
        };
        Ok(ClientCertificate {
            common_name,
            dns_names: of(NameKind::Dns),
            uris: of(NameKind::Uri),
            emails: of(NameKind::Email),
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NameKind {
    Dns,
    Uri,
    Email,
}

/// Returns the text of a name, if it is of a kind that can identify a principal.
fn text<'a>(name: &'a GeneralName<'_>) -> Option<(NameKind, &'a str)> {
    match name {
        GeneralName::DNSName(name) => Some((NameKind::Dns, name)),
        GeneralName::URI(name) => Some((NameKind::Uri, name)),
        GeneralName::RFC822Name(name) => Some((NameKind::Email, name)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn parse(params: CertificateParams) -> Result<ClientCertificate, &'static str> {
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        ClientCertificate::parse(certificate.der())
    }

    fn named(common_name: Option<&str>, names: Vec<SanType>) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(name) = common_name {
            params.distinguished_name.push(DnType::CommonName, name);
        }
        params.distinguished_name.push(DnType::OrganizationName, "The Averil Packet");
        params.subject_alt_names = names;
        params
    }

    fn list(names: &[&str]) -> Box<[Box<str>]> {
        names.iter().map(|name| Box::from(*name)).collect()
    }

    #[test]
    fn the_names_of_a_certificate_are_read_by_kind() {
        let names = vec![
            SanType::DnsName("desk.example".try_into().unwrap()),
            SanType::URI("spiffe://averil/desk".try_into().unwrap()),
            SanType::Rfc822Name("desk@averil.example".try_into().unwrap()),
            SanType::IpAddress("192.0.2.1".parse().unwrap()),
            SanType::DnsName("*.averil.example".try_into().unwrap()),
        ];
        let certificate = parse(named(Some("Desk \u{e9}"), names)).unwrap();
        assert_eq!(certificate.common_name.as_deref(), Some("Desk \u{e9}"));
        assert_eq!(certificate.dns_names, list(&["desk.example", "*.averil.example"]));
        assert_eq!(certificate.uris, list(&["spiffe://averil/desk"]));
        assert_eq!(certificate.emails, list(&["desk@averil.example"]));
        assert_eq!(parse(named(None, Vec::new())).unwrap(), ClientCertificate::default());
    }

    #[test]
    fn the_names_of_a_certificate_are_limited() {
        let many = |count: usize, length: usize| {
            let name = |i: usize| SanType::URI(format!("{i:0length$}").try_into().unwrap());
            parse(named(None, (0..count).map(name).collect()))
        };
        assert_eq!(many(MAX_NAMES, 4).unwrap().uris.len(), MAX_NAMES);
        assert!(many(MAX_NAMES + 1, 4).is_err());
        assert!(many(4, MAX_NAME_BYTES / 4).is_ok());
        assert!(many(4, MAX_NAME_BYTES / 4 + 1).is_err());
    }

    #[test]
    fn no_bytes_that_are_not_a_certificate_are_read() {
        let certificate = named(Some("Desk"), Vec::new());
        let whole = certificate.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec();
        assert!(ClientCertificate::parse(&whole).is_ok());
        for length in 0..whole.len() {
            assert!(ClientCertificate::parse(&whole[..length]).is_err(), "{length}");
        }
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 0xff;
            // A changed byte may be part of a name or of the signature, which is not verified here.
            drop(ClientCertificate::parse(&changed));
        }
    }
}
