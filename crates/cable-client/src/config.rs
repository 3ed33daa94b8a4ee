//! The settings of a client.

use std::{sync::Arc, time::Duration};

use tonic::transport::Endpoint;

use crate::{Cable, Error, ErrorKind, Result, Retry, client::Shared, pool::Pool};

/// The address on which a Cable with default settings listens.
const DEFAULT_ENDPOINT: &str = "http://127.0.0.1:7190";
/// The interval of keepalive pings on a connection with open streams, and the time to wait for the response to a ping
/// before the connection is closed.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// The HTTP/2 window of each stream: the bytes that a server may send ahead of a slow reader.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;

/// A value that lists the endpoints of one Cable: `"http://a:7190"`, `"http://a:7190,http://b:7190"`, or a list of such
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

impl<T: AsRef<str>, const N: usize> IntoEndpoints for [T; N] {
    fn into_endpoints(self) -> Vec<String> {
        self.as_slice().into_endpoints()
    }
}

/// A builder for a [`Cable`]: its endpoints, timeouts and retries.
///
/// ```
/// use std::time::Duration;
/// use cable_client::{Cable, Retry};
///
/// let cable = Cable::builder(["http://10.0.0.1:7190", "http://10.0.0.2:7190"])
///     .timeout(Duration::from_secs(5))
///     .connect_timeout(Duration::from_secs(1))
///     .retry(Retry::none())
///     .build()?;
/// # Ok::<_, cable_client::Error>(())
/// ```
///
/// Connections are HTTP/2 without TLS, one per endpoint, with keepalive pings every 20 s while calls are open. A ping
/// without a response for 10 s closes the connection.
#[derive(Debug, Clone)]
#[must_use]
pub struct Builder {
    endpoints: Vec<String>,
    timeout: Duration,
    connect_timeout: Duration,
    retry: Retry,
}

impl Builder {
    pub(crate) fn new(endpoints: impl IntoEndpoints) -> Builder {
        Builder {
            endpoints: endpoints.into_endpoints(),
            timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(2),
            retry: Retry::default(),
        }
    }

    /// Returns the settings for the endpoints in `CABLE_ENDPOINTS`, or for the default endpoint.
    pub(crate) fn from_env() -> Builder {
        let endpoints = std::env::var("CABLE_ENDPOINTS").unwrap_or_default();
        Builder::new(if endpoints.trim().is_empty() { DEFAULT_ENDPOINT } else { &endpoints })
    }

    /// Sets the timeout of each call, including all its attempts and the waits between them. The timeout of a stream
    /// applies until the stream opens. If unset, 10 s.
    ///
    /// A call can have a timeout of its own, such as [`GetArticle::timeout`](crate::GetArticle::timeout). A call that
    /// times out fails with [`ErrorKind::DeadlineExceeded`].
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets the timeout for establishing a connection. If unset, 2 s.
    ///
    /// An attempt that cannot connect in time counts as a failure of the node: the next attempt goes to another node,
    /// if there is one.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Sets how failed calls are retried. If unset, [`Retry::default`].
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// Returns the client. It opens no connection; the first call does.
    ///
    /// # Errors
    /// [`ErrorKind::Config`]: there is no endpoint, or one of them is not an `http://` URL without path and query.
    pub fn build(self) -> Result<Cable> {
        if self.endpoints.is_empty() {
            return Err(Error::new(ErrorKind::Config, "no endpoints"));
        }
        let endpoints: Vec<Endpoint> =
            self.endpoints.iter().map(|address| self.endpoint(address)).collect::<Result<_>>()?;
        let (timeout, retry) = (self.timeout, self.retry);
        Ok(Cable { shared: Arc::new(Shared { pool: Pool::new(endpoints), timeout, retry }) })
    }

    /// Returns the endpoint for an address, with the timeouts and windows of its connection.
    fn endpoint(&self, address: &str) -> Result<Endpoint> {
        let invalid =
            |problem: &str| Error::new(ErrorKind::Config, format!("endpoint `{address}`: {problem}"));
        let endpoint = Endpoint::from_shared(address.to_owned())
            .map_err(|error| invalid("invalid URL").with_source(error))?;
        let uri = endpoint.uri();
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => return Err(invalid("https is not supported; use http")),
            _ => return Err(invalid("must start with `http://`")),
        }
        if uri.path() != "/" || uri.query().is_some() {
            return Err(invalid("must not have a path or query"));
        }
        Ok(endpoint
            .connect_timeout(self.connect_timeout)
            .tcp_nodelay(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(4 * STREAM_WINDOW_BYTES)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(endpoints: impl IntoEndpoints) -> Option<ErrorKind> {
        Builder::new(endpoints).build().err().map(|error| error.kind())
    }

    #[test]
    fn endpoints_are_split_at_commas_and_in_lists() {
        let both = ["http://a:7190", "http://b:7190"];
        assert_eq!("http://a:7190, http://b:7190,".into_endpoints(), both);
        assert_eq!(both.into_endpoints(), both);
        assert_eq!(vec!["http://a:7190,http://b:7190".to_owned()].into_endpoints(), both);
        assert_eq!(kind(both), None);
    }

    #[test]
    fn an_invalid_endpoint_is_refused_at_build() {
        for invalid in
            ["", " , ", "127.0.0.1:7190", "https://a:7190", "http://a:7190/cable", "http://a b", "ftp://a"]
        {
            assert_eq!(kind(invalid), Some(ErrorKind::Config), "{invalid:?}");
        }
        assert_eq!(kind(["http://a:7190", "b"]), Some(ErrorKind::Config));
    }

    #[test]
    fn a_client_is_built_without_runtime_or_server() {
        assert_eq!(kind(DEFAULT_ENDPOINT), None);
    }
}
