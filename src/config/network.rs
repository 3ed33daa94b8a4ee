//! Networks of IP addresses, as settings name them.

use std::{fmt, net::IpAddr, str::FromStr};

use crate::model::number;

/// A description of valid values.
pub(super) const EXPECTED: &str = "networks such as \"10.0.0.0/8, 2001:db8::1\"";

/// The maximum number of networks in one setting. Each new connection is compared with all of them.
const MAX_NETWORKS: usize = 64;

/// A network: an address and the number of its leading bits that all addresses of the network share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u32,
}

impl Network {
    /// Whether an address belongs to the network. An IPv4 address that is mapped into IPv6 counts as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                (own.to_bits() ^ other.to_bits()).leading_zeros() >= self.prefix
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                (own.to_bits() ^ other.to_bits()).leading_zeros() >= self.prefix
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Network, String> {
        let expected = || format!("expected {EXPECTED}, not \"{text}\"");
        let (address, prefix) =
            text.split_once('/').map_or((text, None), |(left, right)| (left, Some(right)));
        let address = address.parse::<IpAddr>().map_err(|_| expected())?;
        let max = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Some(max), |prefix| number::decimal(prefix).filter(|bits| *bits <= max));
        let network = Network { address, prefix: prefix.ok_or_else(expected)? };
        if address != address.to_canonical() {
            return Err(format!("expected an IPv4 network in place of \"{text}\""));
        }
        Ok(network)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// Parses networks that are separated by commas.
pub(super) fn parse_all(text: &str) -> Result<Vec<Network>, String> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let networks: Vec<Network> = parts.map(str::parse).collect::<Result<_, _>>()?;
    if networks.len() > MAX_NETWORKS {
        return Err(format!("expected at most {MAX_NETWORKS} networks"));
    }
    Ok(networks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_contains_the_addresses_that_share_its_prefix() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("10.1.2.3/8", "10.0.0.1", "9.255.255.255"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.6"),
            ("192.0.2.128/25", "::ffff:192.0.2.255", "192.0.2.127"),
            ("0.0.0.0/0", "203.0.113.9", "::1"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"),
            ("::/0", "2001:db8::1", "127.0.0.1"),
            ("::1", "::1", "::2"),
        ] {
            let network: Network = network.parse().unwrap();
            assert!(network.contains(inside.parse().unwrap()), "{network} {inside}");
            assert!(!network.contains(outside.parse().unwrap()), "{network} {outside}");
            assert_eq!(network.to_string().parse(), Ok(network));
        }
    }

    #[test]
    fn only_networks_are_accepted_and_not_too_many() {
        for text in [
            "10.0.0.0/33",
            "::/129",
            "10.0.0/8",
            "a",
            "10.0.0.0/",
            "10.0.0.0/-1",
            "10.0.0.0/+8",
            "/8",
            "::ffff:10.0.0.0/104",
        ] {
            assert!(parse_all(text).is_err(), "{text}");
        }
        assert_eq!(parse_all(" , ").unwrap(), []);
        assert_eq!(parse_all("10.0.0.0/8,::1").unwrap().len(), 2);
        assert!(parse_all(&vec!["::1"; MAX_NETWORKS].join(",")).is_ok());
        assert!(parse_all(&vec!["::1"; MAX_NETWORKS + 1].join(",")).is_err());
    }
}
