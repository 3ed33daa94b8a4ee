//! The settings of a client.

use std::{sync::Arc, time::Duration};

use tonic::transport::Endpoint;

use crate::{Cable, Error, Kind, Result, Retry, client::Shared, pool::Pool};

/// The address on which a Cable with default settings listens.
const DEFAULT_ENDPOINT: &str = "http://127.0.0.1:7190";
/// The interval of keepalive pings on a connection with open streams, and the time to wait for the response to a ping
/// before the connection is closed.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// The HTTP/2 window of each stream: the bytes that a server may send ahead of a slow reader.
const STREAM_WINDOW: u32 = 1 << 20;

/// A value that lists the endpoints of one Cable: `"http://a:7190"`, `"http://a:7190,http://b:7190"`, or a list of such
/// strings.
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

    pub(crate) fn from_env() -> Builder {
        let endpoints = std::env::var("CABLE_ENDPOINTS").unwrap_or_default();
        Builder::new(if endpoints.trim().is_empty() { DEFAULT_ENDPOINT } else { &endpoints })
    }

    /// Sets the timeout of each call, including all its attempts and the waits between them. The timeout of a stream
    /// applies until the stream opens. If unset, 10 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets the timeout for establishing a connection. If unset, 2 s.
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
    /// [`Kind::Config`]: there is no endpoint, or one of them is not an `http://` URL without path and query.
    pub fn build(self) -> Result<Cable> {
        if self.endpoints.is_empty() {
            return Err(Error::new(Kind::Config, "no endpoint given"));
        }
        let endpoints: Vec<Endpoint> =
            self.endpoints.iter().map(|e| self.endpoint(e)).collect::<Result<_>>()?;
        let (timeout, retry) = (self.timeout, self.retry);
        Ok(Cable { shared: Arc::new(Shared { pool: Pool::new(endpoints), timeout, retry }) })
    }

    fn endpoint(&self, given: &str) -> Result<Endpoint> {
        let wrong = |why: &str| Error::new(Kind::Config, format!("endpoint `{given}`: {why}"));
        let endpoint = Endpoint::from_shared(given.to_owned())
            .map_err(|error| wrong("it is no URL").with_source(error))?;
        let uri = endpoint.uri();
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => return Err(wrong("this release speaks plain HTTP/2 only")),
            _ => return Err(wrong("it must begin with `http://`")),
        }
        if uri.path() != "/" || uri.query().is_some() {
            return Err(wrong("it may have no path"));
        }
        Ok(endpoint
            .connect_timeout(self.connect_timeout)
            .tcp_nodelay(true)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(4 * STREAM_WINDOW)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(endpoints: impl IntoEndpoints) -> Option<Kind> {
        Builder::new(endpoints).build().err().map(|error| error.kind())
    }

    #[test]
    fn endpoints_come_one_by_one_in_lists_or_between_commas() {
        let both = ["http://a:7190", "http://b:7190"];
        assert_eq!("http://a:7190, http://b:7190,".into_endpoints(), both);
        assert_eq!(both.into_endpoints(), both);
        assert_eq!(vec!["http://a:7190,http://b:7190".to_owned()].into_endpoints(), both);
        assert_eq!(kind(both), None);
    }

    #[test]
    fn what_is_no_endpoint_is_refused_before_any_call() {
        for wrong in
            ["", " , ", "127.0.0.1:7190", "https://a:7190", "http://a:7190/cable", "http://a b", "ftp://a"]
        {
            assert_eq!(kind(wrong), Some(Kind::Config), "{wrong:?}");
        }
        assert_eq!(kind(["http://a:7190", "b"]), Some(Kind::Config));
    }

    #[test]
    fn a_client_is_built_without_a_runtime_and_without_a_server() {
        assert_eq!(kind(DEFAULT_ENDPOINT), None);
    }
}
