//! Restricts the requests of web pages. A page from any site can make a browser send requests to a node on loopback,
//! even under a domain name of its own that resolves there (DNS rebinding). Such a request must therefore name the node
//! in a way that no other site can, and come from an origin that the operator allows.

use std::net::IpAddr;

use http::{
    HeaderMap, Request, StatusCode, Uri,
    header::{HOST, ORIGIN},
};

/// The hosts and origins whose requests are served.
#[derive(Debug, Clone)]
pub(crate) struct OriginPolicy {
    /// Whether the listener is reachable from this machine only.
    loopback: bool,
    /// The origins of allowed pages, as browsers write them.
    origins: Vec<String>,
    /// Whether the pages of all other origins may read.
    any_reads: bool,
}

/// The page that a request comes from, as far as its origin shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Page<'a> {
    /// A page of the node itself, or none.
    Own,
    /// A page of an origin that the operator allows.
    Allowed(&'a str),
    /// A page of another origin, which may only read.
    Reading,
}

/// The setting that lets the pages of any origin read.
pub(crate) const ANY: &str = "*";

/// The response to a request that is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rejection {
    pub(crate) status: StatusCode,
    pub(crate) text: &'static str,
}

const HOST_REJECTED: Rejection = Rejection {
    status: StatusCode::MISDIRECTED_REQUEST,
    text: "host not allowed: this node listens on loopback; use localhost, an IP address, \
           or the host of an origin in `web.origins`\n",
};

pub(crate) const ORIGIN_REJECTED: Rejection =
    Rejection { status: StatusCode::FORBIDDEN, text: "origin not allowed: not listed in `web.origins`\n" };

impl OriginPolicy {
    pub(crate) fn new(listen: IpAddr, origins: &[String]) -> OriginPolicy {
        OriginPolicy {
            loopback: listen.to_canonical().is_loopback(),
            origins: origins.iter().filter(|origin| *origin != ANY).cloned().collect(),
            any_reads: origins.iter().any(|origin| origin == ANY),
        }
    }

    /// Whether a response differs by the origin of the page that requests it.
    pub(crate) fn varies(&self) -> bool {
        !self.origins.is_empty()
    }

    /// Checks whether a request may be served, and returns the page that it comes from.
    ///
    /// # Errors
    /// The request names a host that is not this node, or comes from a page that is not allowed.
    pub(crate) fn check<'a, B>(&self, request: &'a Request<B>) -> Result<Page<'a>, Rejection> {
        let headers = request.headers();
        if self.loopback && !authorities(request.uri(), headers).all(|authority| self.is_own_host(authority))
        {
            return Err(HOST_REJECTED);
        }
        let mut page = Page::Own;
        for origin in headers.get_all(ORIGIN) {
            let origin = origin.to_str().map_err(|_| ORIGIN_REJECTED)?;
            if self.is_allowed_origin(origin) {
                page = Page::Allowed(origin);
            } else if !is_same_origin(origin, request.uri(), headers) {
                if !self.any_reads {
                    return Err(ORIGIN_REJECTED);
                }
                return Ok(Page::Reading);
            }
        }
        Ok(page)
    }

    fn is_own_host(&self, authority: &str) -> bool {
        is_local(authority) || self.origins.iter().any(|origin| parse_authority(origin) == Some(authority))
    }

    fn is_allowed_origin(&self, origin: &str) -> bool {
        self.origins.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin))
    }
}

/// Returns the hosts that a request names, in its headers and in its target.
fn authorities<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> impl Iterator<Item = &'a str> {
    let named = headers.get_all(HOST).iter().map(|host| host.to_str().unwrap_or("?"));
    named.chain(uri.authority().map(http::uri::Authority::as_str))
}

/// Whether a page comes from the node itself, under a name that no other site can have.
fn is_same_origin(origin: &str, uri: &Uri, headers: &HeaderMap) -> bool {
    let Some(own) = parse_authority(origin).filter(|own| is_local(own)) else { return false };
    let mut authorities = authorities(uri, headers).peekable();
    authorities.peek().is_some() && authorities.all(|authority| authority.eq_ignore_ascii_case(own))
}

/// Returns the host and port of an origin.
fn parse_authority(origin: &str) -> Option<&str> {
    origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"))
}

/// Whether the host is an IP address or localhost, with or without a port.
fn is_local(authority: &str) -> bool {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    host.eq_ignore_ascii_case("localhost") || bare.unwrap_or(host).parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn request(uri: &str, headers: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::post(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    }

    fn check(listen: Ipv4Addr, uri: &str, headers: &[(&str, &str)]) -> Result<bool, u16> {
        let policy = OriginPolicy::new(listen.into(), &["https://desk.example".to_owned()]);
        let request = request(uri, headers);
        policy.check(&request).map(|page| page != Page::Own).map_err(|rejection| rejection.status.as_u16())
    }

    #[test]
    fn a_node_on_loopback_is_named_by_address_or_as_localhost() {
        let at = |uri: &str, hosts: &[&str]| {
            let headers: Vec<_> = hosts.iter().map(|host| ("host", *host)).collect();
            check(Ipv4Addr::LOCALHOST, uri, &headers)
        };
        for host in [
            "localhost",
            "LOCALHOST:7190",
            "127.0.0.1",
            "127.0.0.1:7190",
            "[::1]:7190",
            "[::1]",
            "10.1.2.3:80",
            "desk.example",
        ] {
            assert_eq!(at("/x", &[host]), Ok(false), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:7190",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "",
            "é",
            "localhost:x",
            "127.0.0.1@evil.example",
            "evil.example:127.0.0.1",
        ] {
            assert_eq!(at("/x", &[host]), Err(421), "{host}");
        }
        assert_eq!(at("/x", &["localhost", "evil.example"]), Err(421), "every host header is checked");
        assert_eq!(at("http://evil.example/x", &["localhost"]), Err(421), "the target is checked");
        assert_eq!(at("http://127.0.0.1:7190/x", &[]), Ok(false));
        assert_eq!(at("/x", &[]), Ok(false), "HTTP/1.0, which no browser speaks");
        assert_eq!(check(Ipv4Addr::UNSPECIFIED, "/x", &[("host", "cable.example")]), Ok(false));
    }

    #[test]
    fn a_page_needs_an_allowed_or_local_origin() {
        for listen in [Ipv4Addr::LOCALHOST, Ipv4Addr::UNSPECIFIED] {
            let from = |origin, host| check(listen, "/x", &[("host", host), ("origin", origin)]);
            assert_eq!(from("https://desk.example", "localhost:7190"), Ok(true));
            assert_eq!(from("http://localhost:7190", "localhost:7190"), Ok(false));
            assert_eq!(from("http://[::1]:7190", "[::1]:7190"), Ok(false));
            for origin in [
                "null",
                "",
                "https://evil.example",
                "http://localhost:8000",
                "http://desk.example",
                "https://desk.example.evil.example",
                "file://localhost:7190",
                "localhost:7190",
            ] {
                assert_eq!(from(origin, "localhost:7190"), Err(403), "{origin}");
            }
        }
        let policy = OriginPolicy::new(
            Ipv4Addr::LOCALHOST.into(),
            &["*".to_owned(), "https://desk.example".to_owned()],
        );
        for (origin, page) in [
            ("https://desk.example", Page::Allowed("https://desk.example")),
            ("https://evil.example", Page::Reading),
            ("null", Page::Reading),
            ("*", Page::Reading),
            ("http://localhost:7190", Page::Own),
        ] {
            let request = request("/x", &[("host", "localhost:7190"), ("origin", origin)]);
            assert_eq!(policy.check(&request), Ok(page), "{origin}");
        }
        let rebound = [("host", "evil.example:7190"), ("origin", "http://evil.example:7190")];
        assert_eq!(check(Ipv4Addr::LOCALHOST, "/x", &rebound), Err(421));
        assert_eq!(check(Ipv4Addr::UNSPECIFIED, "/x", &rebound), Err(403));
    }
}
