//! Endpoints: the forms in which a caller lists them, and their parts.

use std::{fmt, net::IpAddr};

use tonic::codegen::http::Uri;

use crate::{Error, ErrorKind, Result};

/// A value that lists the endpoints of one Cable: `"http://a:7190"`, `"https://a:7190,https://b:7190"`, or a list of such
/// strings.
///
/// ```
/// use cable_client::IntoEndpoints as _;
///
/// let both = ["http://a:7190", "http://b:7190"];
/// assert_eq!("http://a:7190, http://b:7190".into_endpoints(), both);
/// assert_eq!(both.into_endpoints(), both);
/// ```
pub trait IntoEndpoints {
    /// Returns the endpoints, one per element.
    fn into_endpoints(self) -> Vec<String>;
}

impl IntoEndpoints for &str {
    fn into_endpoints(self) -> Vec<String> {
        self.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
    }
}

impl IntoEndpoints for String {
    fn into_endpoints(self) -> Vec<String> {
        self.as_str().into_endpoints()
    }
}

impl IntoEndpoints for &String {
    fn into_endpoints(self) -> Vec<String> {
        self.as_str().into_endpoints()
    }
}

impl<T: AsRef<str>> IntoEndpoints for &[T] {
    fn into_endpoints(self) -> Vec<String> {
        self.iter().flat_map(|part| part.as_ref().into_endpoints()).collect()
    }
}

impl<T: AsRef<str>> IntoEndpoints for Vec<T> {
    fn into_endpoints(self) -> Vec<String> {
        self.as_slice().into_endpoints()
    }
}

impl<T: AsRef<str>> IntoEndpoints for &Vec<T> {
    fn into_endpoints(self) -> Vec<String> {
        self.as_slice().into_endpoints()
    }
}

impl<T: AsRef<str>, const N: usize> IntoEndpoints for &[T; N] {
    fn into_endpoints(self) -> Vec<String> {
        self.as_slice().into_endpoints()
    }
}

impl<T: AsRef<str>, const N: usize> IntoEndpoints for [T; N] {
    fn into_endpoints(self) -> Vec<String> {
        self.as_slice().into_endpoints()
    }
}

/// The endpoints of a client, as given.
#[derive(Clone)]
pub(super) struct Endpoints(pub(super) Vec<String>);

impl fmt::Debug for Endpoints {
    /// Formats the endpoints. One with user information, which may be a password, is omitted.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let visible =
            |endpoint: &String| if endpoint.contains('@') { "...@..." } else { endpoint }.to_owned();
        f.debug_list().entries(self.0.iter().map(visible)).finish()
    }
}

/// The parts of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// The endpoint for messages: `https://cable.internal:7190`.
    pub(crate) url: String,
    /// The origin of requests, from which HTTP/2 takes `:scheme` and `:authority`.
    pub(crate) origin: Uri,
    /// The host name or address, without the brackets of IPv6.
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) is_https: bool,
}

impl Target {
    /// Parses an endpoint.
    pub(crate) fn parse(endpoint: &str) -> Result<Target> {
        // User information may be a password. Nothing of such an endpoint is in the message.
        if endpoint.contains('@') {
            let problem = "endpoint with user information (`user@host`): not supported; set a token instead";
            return Err(Error::new(ErrorKind::Config, problem));
        }
        let invalid =
            |problem: &str| Error::new(ErrorKind::Config, format!("endpoint `{endpoint}`: {problem}"));
        let origin: Uri = endpoint.parse().map_err(|error| invalid("invalid URL").with_source(error))?;
        let is_https = match origin.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(invalid("must start with `http://` or `https://`")),
        };
        if is_https && cfg!(not(feature = "tls")) {
            return Err(invalid("https needs the feature `tls` of cable-client"));
        }
        if origin.path() != "/" || origin.query().is_some() {
            return Err(invalid("must not have a path or query"));
        }
        let host = origin.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        if host.is_empty() {
            return Err(invalid("must have a host"));
        }
        let has_port =
            origin.authority().is_some_and(|authority| !authority.as_str().ends_with(authority.host()));
        let port = match origin.port_u16() {
            Some(port @ 1..) => port,
            None if !has_port => {
                if is_https {
                    443
                } else {
                    80
                }
            }
            _ => return Err(invalid("the port must be from 1 to 65535")),
        };
        Ok(Target { url: endpoint.trim_end_matches('/').to_owned(), origin, host, port, is_https })
    }

    /// Returns the address if the host is one and needs no lookup.
    pub(crate) fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_an_endpoint_are_found() {
        for (endpoint, host, port, is_https) in [
            ("http://a:7190", "a", 7190, false),
            ("http://a/", "a", 80, false),
            ("http://127.0.0.1:1", "127.0.0.1", 1, false),
            ("http://[::1]:7190", "::1", 7190, false),
            #[cfg(feature = "tls")]
            ("https://cable.internal", "cable.internal", 443, true),
        ] {
            let target = Target::parse(endpoint).unwrap();
            assert_eq!((target.host.as_str(), target.port, target.is_https), (host, port, is_https));
            assert_eq!(target.url, endpoint.trim_end_matches('/'));
            assert_eq!(target.ip().is_some(), host.contains(['1', ':']) && !host.contains('a'));
        }
    }

    #[test]
    fn a_password_in_an_endpoint_is_refused_and_not_repeated() {
        for endpoint in ["http://me:hunter2@a:7190", "https://hunter2@a", "hunter2@a"] {
            let error = Target::parse(endpoint).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        }
    }
}
