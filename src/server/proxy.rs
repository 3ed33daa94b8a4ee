//! Proxies in front of a node: which are trusted, and how they announce the address of a client. One that passes on
//! connections sends a header of the PROXY protocol, version 2, before the first byte of the client. One that passes on
//! requests adds the header `x-forwarded-for`.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    time::{Instant, timeout},
};

use crate::config::{Network, Server};

/// The maximum time until a trusted proxy has sent its header.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// The maximum length in bytes of the rest of a header, after its first 16 bytes: addresses, and extensions that are
/// skipped.
const MAX_HEADER_BYTES: usize = 4 << 10;

/// The maximum number of proxies that a request passes. Addresses before them are not read.
const MAX_HOPS: usize = 16;

/// How often a lasting mistake in the settings of a proxy is logged.
const LOG_INTERVAL: Duration = Duration::from_secs(5);

/// The first bytes of a header of version 2, and of version 1.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
const SIGNATURE_1: &[u8] = b"PROXY ";

/// The trusted proxies of a node.
#[derive(Debug)]
pub(super) struct Proxies {
    networks: Vec<Network>,
    /// Whether they send a header of the PROXY protocol.
    protocol: bool,
    header_timeout: Duration,
    /// When an invalid header was last logged.
    logged: Mutex<Option<Instant>>,
}

/// The reason why a header is refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum HeaderError {
    #[error("no PROXY header: let the proxy send the PROXY protocol, version 2")]
    Missing,
    #[error("a PROXY header of version 1: let the proxy send version 2")]
    Version1,
    #[error("an invalid PROXY header: {0}")]
    Invalid(&'static str),
    #[error("no complete PROXY header in time")]
    Timeout,
    #[error("the connection ended before its PROXY header")]
    Io(#[from] io::Error),
}

impl Proxies {
    pub(super) fn new(server: &Server) -> Arc<Proxies> {
        let networks = server.trusted_proxies.clone();
        Arc::new(Proxies {
            networks,
            protocol: server.proxy_protocol,
            header_timeout: HEADER_TIMEOUT,
            logged: Mutex::default(),
        })
    }

    /// Whether a trusted proxy has this address.
    pub(super) fn contain(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(address))
    }

    /// Reads the header of a connection, if its peer is a proxy that sends one. Returns the address of the client, or
    /// else that of the peer.
    ///
    /// # Errors
    /// The proxy has not sent a valid header in time.
    pub(super) async fn read_client(
        &self,
        peer: SocketAddr,
        io: &mut (impl AsyncRead + Unpin),
    ) -> Result<SocketAddr, HeaderError> {
        if !self.protocol || !self.contain(peer.ip()) {
            return Ok(peer);
        }
        let read = timeout(self.header_timeout, read_header(io)).await.unwrap_or(Err(HeaderError::Timeout));
        if let Err(error) = &read {
            self.log(peer, error);
        }
        read.map(|client| client.unwrap_or(peer))
    }

    fn log(&self, peer: SocketAddr, error: &HeaderError) {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.is_none_or(|time| time.elapsed() > LOG_INTERVAL) {
            tracing::warn!(%error, %peer, "connection of a trusted proxy refused");
            *logged = Some(Instant::now());
        }
    }

    /// Returns the address of a client behind the trusted proxy `peer`: the last one of `x-forwarded-for` that is not
    /// a trusted proxy. Everything before it was written by that client. If the header is missing or ends with
    /// something else than an address, the proxy itself counts as the client.
    pub(super) fn client_address<'a>(
        &self,
        peer: IpAddr,
        forwarded: impl DoubleEndedIterator<Item = &'a [u8]>,
    ) -> IpAddr {
        let hops = forwarded.rev().flat_map(|value| value.rsplit(|byte| *byte == b','));
        let mut client = peer;
        for hop in hops.take(MAX_HOPS) {
            let Some(address) = parse_hop(hop) else { return client };
            client = address;
            if !self.contain(client) {
                return client;
            }
        }
        client
    }
}

/// Parses an address as proxies write it: with or without a port.
fn parse_hop(hop: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(hop).ok()?.trim();
    let address = text.parse().or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip()));
    let bare = || text.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    address.ok().or_else(bare).map(|address: IpAddr| address.to_canonical())
}

/// Reads a header. Returns the address of the client, unless the connection is the proxy's own.
async fn read_header(io: &mut (impl AsyncRead + Unpin)) -> Result<Option<SocketAddr>, HeaderError> {
    let mut signature = [0; SIGNATURE.len()];
    let mut length = 0;
    while length < signature.len() {
        let read = io.read(&mut signature[length..]).await?;
        if read == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        length += read;
        if signature[..length] == SIGNATURE[..length] {
            continue;
        }
        let version_1 = SIGNATURE_1.len().min(length);
        if signature[..version_1] != SIGNATURE_1[..version_1] {
            return Err(HeaderError::Missing);
        }
        if version_1 == SIGNATURE_1.len() {
            return Err(HeaderError::Version1);
        }
    }
    let [command, family, high, low] = {
        let mut rest = [0; 4];
        io.read_exact(&mut rest).await?;
        rest
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > MAX_HEADER_BYTES {
        return Err(HeaderError::Invalid("it is too long"));
    }
    let mut addresses = vec![0; length];
    io.read_exact(&mut addresses).await?;
    parse_addresses(command, family, &addresses).map_err(HeaderError::Invalid)
}

/// Parses the rest of a header after its signature (PROXY protocol, 2.2).
fn parse_addresses(command: u8, family: u8, addresses: &[u8]) -> Result<Option<SocketAddr>, &'static str> {
    const TOO_SHORT: &str = "its addresses are too short";
    match command {
        0x20 => return Ok(None),
        0x21 => {}
        _ => return Err("its version or command is unknown"),
    }
    match family {
        0x00 => Ok(None),
        0x11 => {
            let [a, b, c, d, _, _, _, _, high, low, _, _] = *addresses.first_chunk().ok_or(TOO_SHORT)?;
            Ok(Some((Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low])).into()))
        }
        0x21 => {
            let (source, rest) = addresses.split_first_chunk::<16>().ok_or(TOO_SHORT)?;
            let [.., high, low, _, _] = *rest.first_chunk::<20>().ok_or(TOO_SHORT)?;
            Ok(Some((Ipv6Addr::from(*source), u16::from_be_bytes([high, low])).into()))
        }
        _ => Err("its addresses are not of TCP"),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        pin::Pin,
        task::{Context, Poll},
    };

    use bytes::Bytes;
    use tokio::io::ReadBuf;

    use super::*;

    fn proxies(networks: &[&str]) -> Proxies {
        let networks = networks.iter().map(|network| network.parse().unwrap()).collect();
        Proxies {
            networks,
            protocol: true,
            header_timeout: Duration::from_millis(10),
            logged: Mutex::default(),
        }
    }

    fn header(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let length = u16::try_from(addresses.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, addresses].concat()
    }

    const IPV4: [u8; 12] = [192, 0, 2, 7, 10, 0, 0, 1, 0xab, 0xcd, 0, 80];

    fn ipv6() -> Vec<u8> {
        let source: Ipv6Addr = "2001:db8::7".parse().unwrap();
        [&source.octets()[..], &[0; 16], &[0xab, 0xcd, 0, 80]].concat()
    }

    /// Reads a header that arrives in pieces of `size` bytes. Returns the address and the bytes after the header.
    async fn read(bytes: &[u8], size: usize) -> (Result<Option<SocketAddr>, String>, Vec<u8>) {
        let mut io = in_pieces(bytes, size);
        let read = read_header(&mut io).await.map_err(|error| error.to_string());
        let mut rest = Vec::new();
        io.read_to_end(&mut rest).await.unwrap();
        (read, rest)
    }

    fn in_pieces(bytes: &[u8], size: usize) -> impl AsyncRead + Unpin {
        Pieces(bytes.chunks(size).map(Bytes::copy_from_slice).collect())
    }

    /// A connection whose peer sends one piece at a time.
    struct Pieces(VecDeque<Bytes>);

    impl AsyncRead for Pieces {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            if let Some(mut piece) = self.0.pop_front() {
                buf.put_slice(&piece.split_to(piece.len().min(buf.remaining())));
                if !piece.is_empty() {
                    self.0.push_front(piece);
                }
            }
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn the_address_of_the_client_is_read_and_nothing_after_the_header() {
        let with_extension = [&IPV4[..], &[0x04, 0, 2, 1, 2]].concat();
        for (header, expected) in [
            (header(0x21, 0x11, &IPV4), Some("192.0.2.7:43981")),
            (header(0x21, 0x11, &with_extension), Some("192.0.2.7:43981")),
            (header(0x21, 0x21, &ipv6()), Some("[2001:db8::7]:43981")),
            (header(0x20, 0x11, &IPV4), None),
            (header(0x20, 0x00, &[]), None),
            (header(0x21, 0x00, &[]), None),
            (header(0x21, 0x00, &vec![1; MAX_HEADER_BYTES]), None),
        ] {
            for size in [1, 5, 13, usize::MAX] {
                let (read, rest) = read(&[&header[..], b"PRI *"].concat(), size.min(10_000)).await;
                assert_eq!(read, Ok(expected.map(|address| address.parse().unwrap())));
                assert_eq!(rest, b"PRI *");
            }
        }
    }

    #[tokio::test]
    async fn a_header_that_is_invalid_is_refused_with_its_reason() {
        let version_1 = "version 1: let the proxy send version 2";
        for (bytes, expected) in [
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 4000 80\r\n".to_vec(), version_1),
            (b"PROXY UNKNOWN\r\n".to_vec(), version_1),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), "no PROXY header"),
            (b"\x16\x03\x01\x02\x00\x01".to_vec(), "no PROXY header"),
            (b"\r\n\r\n\0\r\nQUIT\r".to_vec(), "no PROXY header"),
            (b"\r\n".to_vec(), "ended before"),
            (header(0x11, 0x11, &IPV4), "version or command is unknown"),
            (header(0x22, 0x11, &IPV4), "version or command is unknown"),
            (header(0x21, 0x11, &IPV4[..11]), "ended before"),
            (header(0x21, 0x11, &IPV4[..9]), "too short"),
            (header(0x21, 0x21, &IPV4), "too short"),
            (header(0x21, 0x21, &ipv6()[..35]), "too short"),
            (header(0x21, 0x12, &IPV4), "not of TCP"),
            (header(0x21, 0x31, &[0; 216]), "not of TCP"),
            (header(0x21, 0x00, &vec![1; MAX_HEADER_BYTES + 1]), "too long"),
        ] {
            let bytes = if expected == "ended before" { &bytes[..bytes.len() - 1] } else { &bytes[..] };
            for size in [1, 7, 10_000] {
                let (read, _) = read(bytes, size).await;
                let error = read.unwrap_err();
                assert!(error.contains(expected), "{bytes:?}: {error}");
            }
        }
    }

    #[tokio::test]
    async fn a_proxy_has_limited_time_and_others_send_no_header() {
        let proxies = proxies(&["10.0.0.0/8"]);
        let (proxy, other) = ("10.1.1.1:9".parse().unwrap(), "192.0.2.9:9".parse().unwrap());
        let (mut node, _silent) = tokio::io::duplex(100);
        let read = proxies.read_client(proxy, &mut node).await;
        assert!(matches!(read, Err(HeaderError::Timeout)));
        assert_eq!(proxies.read_client(other, &mut node).await.unwrap(), other, "it connects directly");
        let mut header = &header(0x21, 0x11, &IPV4)[..];
        assert_eq!(proxies.read_client(proxy, &mut header).await.unwrap().to_string(), "192.0.2.7:43981");
        let without = Proxies { protocol: false, ..proxies };
        assert_eq!(without.read_client(proxy, &mut node).await.unwrap(), proxy);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_of_a_proxy_are_read_beyond_the_bound(
            start in proptest::sample::select(vec![&SIGNATURE[..], &SIGNATURE[..5], b"PROXY", b""]),
            rest in proptest::collection::vec(proptest::num::u8::ANY, 0..8_000),
            size in 1..2_000_usize,
        ) {
            let bytes = [start, &rest].concat();
            let (_, after) = futures_util::FutureExt::now_or_never(read(&bytes, size)).unwrap();
            let used = bytes.len() - after.len();
            assert!(used <= SIGNATURE.len() + 4 + MAX_HEADER_BYTES, "{used} bytes");
        }

        #[test]
        fn a_forwarded_client_is_never_another_than_one_of_the_addresses(
            values in proptest::collection::vec("[0-9a-f:., \\[\\]x]{0,60}", 0..4),
        ) {
            let proxies = proxies(&["10.0.0.0/8", "::/3"]);
            let peer: IpAddr = "10.0.0.1".parse().unwrap();
            let client = proxies.client_address(peer, values.iter().map(String::as_bytes));
            let named = values.iter().flat_map(|value| value.split(',')).filter_map(|hop| parse_hop(hop.as_bytes()));
            assert!(client == peer || named.into_iter().any(|address| address == client));
        }
    }

    #[test]
    fn the_last_address_that_is_no_trusted_proxy_is_the_client() {
        let proxies = proxies(&["10.0.0.0/8", "2001:db8:1::/48"]);
        let peer: IpAddr = "10.0.0.1".parse().unwrap();
        let client = |headers: &[&str]| {
            proxies.client_address(peer, headers.iter().map(|header| header.as_bytes())).to_string()
        };
        for (headers, expected) in [
            (&["192.0.2.7"][..], "192.0.2.7"),
            (&["203.0.113.1, 192.0.2.7"], "192.0.2.7"),
            (&["192.0.2.7, 10.9.9.9,2001:db8:1::5"], "192.0.2.7"),
            (&["203.0.113.1", "192.0.2.7, 10.9.9.9"], "192.0.2.7"),
            (&["192.0.2.7", "10.9.9.9"], "192.0.2.7"),
            (&["192.0.2.7:5000"], "192.0.2.7"),
            (&["[2001:db8::7]:5000"], "2001:db8::7"),
            (&["[2001:db8::7]"], "2001:db8::7"),
            (&["::ffff:192.0.2.7"], "192.0.2.7"),
            (&["10.3.3.3, 10.2.2.2"], "10.3.3.3"),
            (&[], "10.0.0.1"),
            (&[""], "10.0.0.1"),
            (&["192.0.2.7, unknown"], "10.0.0.1"),
            (&["192.0.2.7, unknown, 10.2.2.2"], "10.2.2.2"),
            (&["192.0.2.7,"], "10.0.0.1"),
        ] {
            assert_eq!(client(headers), expected, "{headers:?}");
        }
        let long = format!("192.0.2.7{}", ",10.2.2.2".repeat(MAX_HOPS - 1));
        assert_eq!(client(&[&long]), "192.0.2.7");
        let longer = format!("192.0.2.7{}", ",10.2.2.2".repeat(1 << 17));
        assert_eq!(client(&[&longer]), "10.2.2.2", "the addresses before are not read");
        assert_eq!(proxies.client_address(peer, [&b"\xff"[..]].into_iter()), peer);
    }
}
