//! Restricts the requests of web pages. A page from any site can make a browser send requests to a node on loopback,
//! even under a domain name of its own that resolves there (DNS rebinding). Such a request must therefore name the node
//! in a way that no other site can, and come from an origin that the operator allows. A request that does not name its
//! host as HTTP requires is refused in any case.

use std::net::{IpAddr, Ipv6Addr};

use http::{
    HeaderMap, Method, Request, StatusCode, Uri, Version,
    header::{HOST, ORIGIN},
    uri::Scheme,
};
use tonic::Code;

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
    /// The code of gRPC.
    pub(crate) code: Code,
    /// The part of the head at fault.
    pub(crate) field: &'static str,
    pub(crate) problem: &'static str,
}

impl Rejection {
    const fn malformed(field: &'static str, problem: &'static str) -> Rejection {
        Rejection { status: StatusCode::BAD_REQUEST, code: Code::InvalidArgument, field, problem }
    }

    /// Returns the response as a line of text.
    pub(crate) fn text(&self) -> String {
        format!("{}: {}\n", self.field, self.problem)
    }
}

const HOST_REJECTED: Rejection = Rejection {
    status: StatusCode::MISDIRECTED_REQUEST,
    code: Code::FailedPrecondition,
    field: "Host",
    problem: "not allowed: this node listens on loopback; use localhost, an IP address, \
              or the host of an origin in `web.origins`",
};

pub(crate) const ORIGIN_REJECTED: Rejection = Rejection {
    status: StatusCode::FORBIDDEN,
    code: Code::PermissionDenied,
    field: "Origin",
    problem: "not allowed: not listed in `web.origins`",
};

const HOST_MISSING: Rejection = Rejection::malformed(
    "Host",
    "missing: send the host and port of the address, such as `Host: cable.example:7190`, or `:authority` over HTTP/2",
);

const HOST_REPEATED: Rejection = Rejection::malformed("Host", "repeated: send it once");

const HOST_INVALID: Rejection =
    Rejection::malformed("Host", "must be a host, and perhaps a port, such as `cable.example:7190`");

const HOST_DIFFERS: Rejection = Rejection::malformed(
    "Host",
    "differs from `:authority`: send `:authority` alone, or the same value in both",
);

const AUTHORITY_INVALID: Rejection = Rejection::malformed(
    "request target",
    "its authority must be a host, and perhaps a port, such as `cable.example:7190`",
);

const TARGET_INVALID: Rejection =
    Rejection::malformed("request target", "must be a path such as `/v1/articles`, or a whole address");

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

    /// Whether the pages of any origin may read.
    pub(crate) fn any_reads(&self) -> bool {
        self.any_reads
    }

    /// Checks whether a request may be served, and returns the page that it comes from.
    ///
    /// # Errors
    /// The head is not valid, or the request names a host that is not this node, or comes from a page that is not
    /// allowed.
    pub(crate) fn check<'a, B>(&self, request: &'a Request<B>) -> Result<Page<'a>, Rejection> {
        check_target(request)?;
        check_host(request)?;
        let headers = request.headers();
        if self.loopback && !authority(request.uri(), headers).is_none_or(|host| self.is_own_host(host)) {
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
        is_local(authority) || self.origins.iter().any(|origin| is_host_of(origin, authority))
    }

    fn is_allowed_origin(&self, origin: &str) -> bool {
        let is_same = |allowed: &String| match (split_origin(allowed), split_origin(origin)) {
            (Some((scheme, host)), Some((other, of))) => scheme == other && is_same_host(&scheme, host, of),
            _ => false,
        };
        self.origins.iter().any(is_same)
    }
}

/// Whether a call over HTTP/2 names its host: in `:authority` or, as some gRPC clients do, in `host` alone. With
/// `:authority`, gRPC ignores `host`.
pub(crate) fn names_host<B>(request: &Request<B>) -> bool {
    request.uri().authority().is_some() || check_host(request).is_ok()
}

/// Checks the form of the target (RFC 9112, 3.2).
fn check_target<B>(request: &Request<B>) -> Result<(), Rejection> {
    let is_valid = match request.uri().path() {
        "*" => request.method() == Method::OPTIONS,
        path => path.starts_with('/') || request.method() == Method::CONNECT,
    };
    if is_valid { Ok(()) } else { Err(TARGET_INVALID) }
}

/// Checks that a request names its host, once and in a valid form (RFC 9112, 3.2; RFC 9113, 8.3.1). With a whole address
/// as the target of HTTP/1.1, the value of Host does not count.
fn check_host<B>(request: &Request<B>) -> Result<(), Rejection> {
    let (uri, is_http2) = (request.uri(), request.version() == Version::HTTP_2);
    let authority = uri.authority().map(http::uri::Authority::as_str);
    if authority.is_some_and(|authority| !is_host(authority.as_bytes())) {
        return Err(AUTHORITY_INVALID);
    }
    let mut hosts = request.headers().get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (_, Some(_)) => Err(HOST_REPEATED),
        (None, None) if is_http2 && authority.is_some() || request.version() < Version::HTTP_11 => Ok(()),
        (None, None) => Err(HOST_MISSING),
        (Some(host), None) if !is_host(host.as_bytes()) => Err(HOST_INVALID),
        (Some(host), None) => {
            let is_same = authority.is_none_or(|authority| {
                let scheme = uri.scheme().unwrap_or(&Scheme::HTTP);
                host.to_str().is_ok_and(|host| is_same_host(scheme, host, authority))
            });
            if is_same || !is_http2 { Ok(()) } else { Err(HOST_DIFFERS) }
        }
    }
}

/// Whether a text is a host with or without a port (RFC 3986, 3.2). There is no http address with an empty host.
fn is_host(text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else { return false };
    let (host, port) = split_port(text);
    let is_port = port.is_empty() || port.parse::<u16>().is_ok();
    is_port
        && match host.strip_prefix('[') {
            Some(address) => address.strip_suffix(']').is_some_and(|ip| ip.parse::<Ipv6Addr>().is_ok()),
            None => is_registered_name(host),
        }
}

fn is_registered_name(host: &str) -> bool {
    let mut bytes = host.bytes();
    let mut is_valid = !host.is_empty();
    while let Some(byte) = bytes.next() {
        let mut is_digit = || bytes.next().is_some_and(|digit| digit.is_ascii_hexdigit());
        is_valid &= match byte {
            b'%' => is_digit() && is_digit(),
            byte => byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&byte),
        };
    }
    is_valid
}

/// Whether two hosts with their ports are the same. A port that is left out is that of the scheme.
fn is_same_host(scheme: &Scheme, one: &str, other: &str) -> bool {
    let default = if *scheme == Scheme::HTTPS { "443" } else { "80" };
    let [one, other] = [one, other].map(|authority| match split_port(authority) {
        (host, "") => (host, default),
        whole => whole,
    });
    one.0.eq_ignore_ascii_case(other.0) && one.1 == other.1
}

/// Splits an authority into its host and its port, which may be empty.
fn split_port(authority: &str) -> (&str, &str) {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (host, port),
        _ => (authority, ""),
    }
}

/// Returns the host that a request names. A whole address as the target of HTTP/1.1 replaces `Host` (RFC 9112, 3.2.2);
/// over HTTP/2 both are the same.
fn authority<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    let of_header = || headers.get(HOST).map(|host| host.to_str().unwrap_or("?"));
    uri.authority().map(http::uri::Authority::as_str).or_else(of_header)
}

/// Whether a page comes from the node itself, under a name that no other site can have.
fn is_same_origin(origin: &str, uri: &Uri, headers: &HeaderMap) -> bool {
    let is_local_origin = split_origin(origin).is_some_and(|(_, host)| is_local(host));
    is_local_origin && authority(uri, headers).is_some_and(|authority| is_host_of(origin, authority))
}

/// Whether an authority is the host and port of an origin.
fn is_host_of(origin: &str, authority: &str) -> bool {
    split_origin(origin).is_some_and(|(scheme, host)| is_same_host(&scheme, host, authority))
}

/// Splits an origin into its scheme, and its host and port.
fn split_origin(origin: &str) -> Option<(Scheme, &str)> {
    let with = |start: &str, scheme| {
        let found = origin.get(..start.len()).filter(|found| found.eq_ignore_ascii_case(start));
        found.map(|_| (scheme, &origin[start.len()..]))
    };
    with("http://", Scheme::HTTP).or_else(|| with("https://", Scheme::HTTPS))
}

/// Whether the host is an IP address or localhost, with or without a port.
fn is_local(authority: &str) -> bool {
    let (host, _) = split_port(authority);
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
        for host in ["evil.example", "evil.example:7190", "localhost.evil.example", "127.0.0.1.evil.example"]
        {
            assert_eq!(at("/x", &[host]), Err(421), "{host}");
        }
        for host in ["DESK.example", "desk.example:443", "Desk.Example:443"] {
            assert_eq!(at("/x", &[host]), Ok(false), "{host}");
        }
        assert_eq!(at("/x", &["desk.example:80"]), Err(421), "another port than that of the origin");
        assert_eq!(at("http://evil.example/x", &["localhost"]), Err(421), "the target is checked");
        assert_eq!(at("http://localhost/x", &["evil.example"]), Ok(false), "and replaces Host");
        assert_eq!(at("http://127.0.0.1:7190/x", &["localhost"]), Ok(false));
        assert_eq!(check(Ipv4Addr::UNSPECIFIED, "/x", &[("host", "cable.example")]), Ok(false));
    }

    #[test]
    fn a_request_names_its_host_once_and_in_a_valid_form() {
        let policy = OriginPolicy::new(Ipv4Addr::UNSPECIFIED.into(), &[]);
        let at = |version, method: Method, uri: &str, hosts: &[&str]| {
            let headers: Vec<_> = hosts.iter().map(|host| ("host", *host)).collect();
            let mut request = request(uri, &headers);
            (*request.version_mut(), *request.method_mut()) = (version, method);
            let checked = policy.check(&request).map(drop);
            assert!(
                version != Version::HTTP_2 || uri.contains("://") || names_host(&request) == checked.is_ok()
            );
            checked
        };
        let (http1, http2) = (Version::HTTP_11, Version::HTTP_2);
        let whole = "https://cable.example/x";
        for (version, uri, hosts, expected) in [
            (http1, "/x", &["cable.example"][..], Ok(())),
            (http1, "/x", &[], Err(HOST_MISSING)),
            (http1, whole, &[], Err(HOST_MISSING)),
            (Version::HTTP_10, "/x", &[], Ok(())),
            (Version::HTTP_10, "/x", &["a", "a"], Err(HOST_REPEATED)),
            (http1, "/x", &["cable.example", "cable.example"], Err(HOST_REPEATED)),
            (http1, whole, &["other.example"], Ok(())),
            (http1, "http://ida@cable.example/x", &["cable.example"], Err(AUTHORITY_INVALID)),
            (http2, whole, &[], Ok(())),
            (http2, "/x", &["cable.example"], Ok(())),
            (http2, "/x", &[], Err(HOST_MISSING)),
            (http2, "/x", &["a", "b"], Err(HOST_REPEATED)),
            (http2, "/x", &[""], Err(HOST_INVALID)),
            (http2, whole, &["a", "cable.example"], Err(HOST_REPEATED)),
            (http2, whole, &["CABLE.example:443"], Ok(())),
            (http2, "http://cable.example:80/x", &["cable.example"], Ok(())),
            (http2, whole, &["cable.example:80"], Err(HOST_DIFFERS)),
            (http2, whole, &["other.example"], Err(HOST_DIFFERS)),
            (http2, "https://ida@cable.example/x", &[], Err(AUTHORITY_INVALID)),
        ] {
            assert_eq!(at(version, Method::GET, uri, hosts), expected, "{version:?} {uri} {hosts:?}");
        }
        for host in
            ["a", "a:", "a:80", "a_b.example", "%C3%BC.example", "192.0.2.1:1", "[2001:db8::1]:80", "[::]"]
        {
            assert_eq!(at(http1, Method::GET, "/x", &[host]), Ok(()), "{host}");
        }
        for host in [
            "",
            ":80",
            "a:x",
            "a:+80",
            "a:65536",
            "a:80:80",
            "a/b",
            "a b",
            "a,b c",
            "ida@a",
            "http://a",
            "a?b",
            "%f",
            "%zz",
            "[::1",
            "[a]",
            "[]",
            "[::1]x",
            "[fe80::1%25eth0]",
            "::1",
            "é",
        ] {
            assert_eq!(at(http1, Method::GET, "/x", &[host]), Err(HOST_INVALID), "{host}");
        }
        assert_eq!(at(http1, Method::OPTIONS, "*", &["a"]), Ok(()));
        assert_eq!(at(http1, Method::GET, "*", &["a"]), Err(TARGET_INVALID));
        assert_eq!(at(http1, Method::GET, "cable.example:80", &["a"]), Err(TARGET_INVALID));
        assert_eq!(at(http1, Method::CONNECT, "cable.example:80", &["a"]), Ok(()));
    }

    #[test]
    fn a_page_needs_an_allowed_or_local_origin() {
        for listen in [Ipv4Addr::LOCALHOST, Ipv4Addr::UNSPECIFIED] {
            let from = |origin, host| check(listen, "/x", &[("host", host), ("origin", origin)]);
            for desk in ["https://desk.example", "https://DESK.example", "https://desk.example:443"] {
                assert_eq!(from(desk, "localhost:7190"), Ok(true), "{desk}");
            }
            assert_eq!(from("http://localhost", "localhost:80"), Ok(false));
            assert_eq!(from("http://LOCALHOST:80", "localhost"), Ok(false));
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
