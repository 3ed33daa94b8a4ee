//! The settings of a client.

use std::{ffi::OsString, sync::Arc, time::Duration};

use tonic::metadata::MetadataMap;

use crate::{
    Cable, Error, ErrorKind, Pem, Result, Retry, Token,
    client::Shared,
    pool::{Connections, KEEP_ALIVE, Lookup, Pool, system_lookup},
    scope::Scope,
    tls::{Tls, TlsSettings},
    token::Credentials,
};

mod endpoint;

use self::endpoint::Endpoints;
pub use self::endpoint::IntoEndpoints;
pub(crate) use self::endpoint::Target;

/// The address on which a Cable with default settings listens.
const DEFAULT_ENDPOINT: &str = "http://127.0.0.1:7190";

/// The variables of the environment that [`Builder::from_env`] reads.
const VARIABLES: [&str; 6] = [
    "CABLE_ENDPOINTS",
    "CABLE_TOKEN",
    "CABLE_TOKEN_FILE",
    "CABLE_CA",
    "CABLE_CLIENT_CERT",
    "CABLE_CLIENT_KEY",
];

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
/// With TLS, a token in a file and a CA of one's own:
///
/// ```no_run
/// use cable_client::{Cable, Pem, Token};
///
/// let cable = Cable::builder("https://cable.internal:7190")
///     .ca(Pem::file("/etc/cable/ca.pem"))
///     .token(Token::file("/run/secrets/cable-token"))
///     .build()?;
/// # Ok::<_, cable_client::Error>(())
/// ```
///
/// There is one HTTP/2 connection per address of an endpoint, with keepalive pings every 20 s while calls are open. A
/// ping without a response for 10 s closes the connection. The name of an endpoint is looked up again after 30 s, and
/// after a failure.
#[derive(Debug, Clone)]
#[must_use]
pub struct Builder {
    endpoints: Endpoints,
    timeout: Duration,
    connect_timeout: Duration,
    retry: Retry,
    tls: TlsSettings,
    token: Option<Token>,
    allow_plaintext_token: bool,
    conflict: Option<String>,
}

impl Builder {
    pub(crate) fn new(endpoints: impl IntoEndpoints) -> Builder {
        Builder {
            endpoints: Endpoints(endpoints.into_endpoints()),
            timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(2),
            retry: Retry::default(),
            tls: TlsSettings::default(),
            token: None,
            allow_plaintext_token: false,
            conflict: None,
        }
    }

    /// Returns the settings of the environment. An empty variable counts as unset, and one that is not UTF-8 is an error of
    /// [`build`](Builder::build).
    ///
    /// | variable | setting |
    /// |---|---|
    /// | `CABLE_ENDPOINTS` | endpoints, separated by commas; if unset, `http://127.0.0.1:7190` |
    /// | `CABLE_TOKEN` | the token |
    /// | `CABLE_TOKEN_FILE` | the file of the token; not together with `CABLE_TOKEN` |
    /// | `CABLE_CA` | the file of the CA |
    /// | `CABLE_CLIENT_CERT`, `CABLE_CLIENT_KEY` | the files of the client certificate and its key |
    ///
    /// ```
    /// use std::time::Duration;
    /// use cable_client::Builder;
    ///
    /// let cable = Builder::from_env().timeout(Duration::from_secs(2)).build()?;
    /// # Ok::<_, cable_client::Error>(())
    /// ```
    pub fn from_env() -> Builder {
        Builder::from_variables(|name| std::env::var_os(name))
    }

    fn from_variables(get: impl Fn(&str) -> Option<OsString>) -> Builder {
        let set = |name| get(name)?.into_string().ok().filter(|value| !value.trim().is_empty());
        let file = |name| set(name).map(Pem::file);
        let mut builder = Builder::new(set("CABLE_ENDPOINTS").as_deref().unwrap_or(DEFAULT_ENDPOINT));
        builder.tls.ca = file("CABLE_CA");
        match (file("CABLE_CLIENT_CERT"), file("CABLE_CLIENT_KEY")) {
            (None, None) => {}
            (Some(certificate), Some(key)) => builder.tls.identity = Some((certificate, key)),
            _ => {
                builder.conflict = Some("CABLE_CLIENT_CERT and CABLE_CLIENT_KEY: set both or neither".into())
            }
        }
        builder.token = match (set("CABLE_TOKEN"), set("CABLE_TOKEN_FILE")) {
            (Some(_), Some(_)) => {
                builder.conflict =
                    Some("CABLE_TOKEN and CABLE_TOKEN_FILE are both set: unset one of them".into());
                None
            }
            (Some(token), None) => Some(Token::new(token.trim())),
            (None, Some(path)) => Some(Token::file(path)),
            (None, None) => None,
        };
        let not_text = VARIABLES.iter().find(|name| get(name).is_some_and(|value| value.to_str().is_none()));
        if let Some(name) = not_text {
            builder.conflict = Some(format!("{name}: not valid UTF-8"));
        }
        builder
    }

    /// Sets the token that each call sends. If unset, calls are anonymous.
    ///
    /// ```
    /// use cable_client::{Cable, Token};
    ///
    /// let cable = Cable::builder("http://127.0.0.1:7190").token("cable_7f3a_example").build()?;
    /// # Ok::<_, cable_client::Error>(())
    /// ```
    pub fn token(mut self, token: impl Into<Token>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Allows calls to send the token over plaintext to other machines, where anyone between can read it. If unset, only
    /// `https://` endpoints and this machine receive it, and other calls fail with [`ErrorKind::Config`].
    ///
    /// ```
    /// use cable_client::Cable;
    ///
    /// // A network between containers that is encrypted below HTTP.
    /// let cable = Cable::builder("http://10.0.0.7:7190")
    ///     .token("cable_7f3a_example")
    ///     .allow_plaintext_token(true)
    ///     .build()?;
    /// # Ok::<_, cable_client::Error>(())
    /// ```
    pub fn allow_plaintext_token(mut self, allow: bool) -> Self {
        self.allow_plaintext_token = allow;
        self
    }

    /// Sets the CA certificates that the client trusts, in place of those of the system.
    ///
    /// ```no_run
    /// use cable_client::{Cable, Pem};
    ///
    /// let ca = Pem::file("/etc/cable/ca.pem");
    /// let cable = Cable::builder("https://cable.internal:7190").ca(ca).build()?;
    /// # Ok::<_, cable_client::Error>(())
    /// ```
    pub fn ca(mut self, certificates: Pem) -> Self {
        self.tls.ca = Some(certificates);
        self
    }

    /// Sets the certificate that the client presents to the server, with its chain, and the private key.
    ///
    /// ```no_run
    /// use cable_client::{Cable, Pem};
    ///
    /// let cable = Cable::builder("https://cable.internal:7190")
    ///     .client_certificate(Pem::file("client.pem"), Pem::file("client.key"))
    ///     .build()?;
    /// # Ok::<_, cable_client::Error>(())
    /// ```
    pub fn client_certificate(mut self, certificate: Pem, key: Pem) -> Self {
        self.tls.identity = Some((certificate, key));
        self
    }

    /// Sets the name for which the certificate of a server must be valid. If unset, the host of the endpoint.
    ///
    /// ```no_run
    /// use cable_client::Cable;
    ///
    /// // Through a tunnel, the endpoint does not have the name of the server.
    /// let cable = Cable::builder("https://127.0.0.1:17190").domain_name("cable.internal").build()?;
    /// # Ok::<_, cable_client::Error>(())
    /// ```
    pub fn domain_name(mut self, name: impl Into<String>) -> Self {
        self.tls.domain_name = Some(name.into());
        self
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

    /// Sets the timeout for establishing a connection, including TLS and the first frame of HTTP/2, and for the lookup of a
    /// name. If unset, 2 s.
    ///
    /// A node without a connection in time counts as failed: the call goes to another address, if there is one.
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
    /// [`ErrorKind::Config`]: there is no endpoint, or one of them is not an `http://` or `https://` URL without path and
    /// query; the token, a certificate or a key cannot be read; or the token would be sent over plaintext to the address
    /// of another machine.
    pub fn build(self) -> Result<Cable> {
        self.build_with(system_lookup())
    }

    /// Returns the client, which looks up names by this function.
    pub(crate) fn build_with(self, lookup: Lookup) -> Result<Cable> {
        let config_error = |problem: String| Err(Error::new(ErrorKind::Config, problem));
        if let Some(conflict) = self.conflict {
            return config_error(conflict);
        }
        let targets: Vec<Target> =
            self.endpoints.0.iter().map(|endpoint| Target::parse(endpoint)).collect::<Result<_>>()?;
        if targets.is_empty() {
            return config_error("no endpoints".to_owned());
        }
        let is_readable = |target: &&Target| {
            !target.is_https && target.ip().is_some_and(|ip| !ip.to_canonical().is_loopback())
        };
        if self.token.is_some()
            && !self.allow_plaintext_token
            && let Some(Target { url, .. }) = targets.iter().find(is_readable)
        {
            return Err(Error::plaintext_token(url));
        }
        let uses_tls = targets.iter().any(|target| target.is_https);
        let tls = uses_tls.then(|| Tls::new(&self.tls)).transpose()?.map(Arc::new);
        let connections =
            Connections { connect_timeout: self.connect_timeout, tls, lookup, keep_alive: KEEP_ALIVE };
        Ok(Cable {
            shared: Arc::new(Shared {
                pool: Pool::new(targets, connections),
                retry: self.retry,
                credentials: self.token.map(Credentials::new).transpose()?,
                allow_plaintext_token: self.allow_plaintext_token,
            }),
            scope: Arc::new(Scope { metadata: MetadataMap::new(), timeout: self.timeout }),
        })
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
        for invalid in [
            "",
            " , ",
            "127.0.0.1:7190",
            "http://a:7190/cable",
            "http://a b",
            "ftp://a",
            "https://",
            "http://me@a",
            "http://a:",
            "http://a:0",
            "http://a:65536",
            "http://[::1]:99999",
            "https://a:443443",
        ] {
            assert_eq!(kind(invalid), Some(ErrorKind::Config), "{invalid:?}");
        }
        assert_eq!(kind(["http://a:7190", "b"]), Some(ErrorKind::Config));
    }

    #[test]
    fn a_variable_that_is_no_text_is_refused_by_its_name() {
        use std::os::unix::ffi::OsStringExt as _;

        for name in VARIABLES {
            let get = |variable: &str| (variable == name).then(|| OsString::from_vec(b"a\xff".to_vec()));
            let error = Builder::from_variables(get).build().unwrap_err();
            assert_eq!(
                (error.kind(), error.message()),
                (ErrorKind::Config, &*format!("{name}: not valid UTF-8"))
            );
        }
    }

    #[test]
    fn debug_output_has_no_user_information() {
        let text = format!("{:?}", Builder::new(["http://me:hunter2@a", "http://b:7190"]));
        assert!(!text.contains("hunter2") && text.contains("http://b:7190"), "{text}");
    }

    #[test]
    fn lists_of_endpoints_are_accepted_by_reference() {
        let list = vec!["http://a:7190".to_owned(), "http://b:7190".to_owned()];
        assert_eq!(kind(&list), None);
        let array = &["http://a:7190", "http://b:7190"];
        assert_eq!(kind(array), None);
        assert_eq!(array.into_endpoints(), list);
    }

    #[test]
    fn a_client_is_built_without_runtime_or_server() {
        assert_eq!(kind(DEFAULT_ENDPOINT), None);
    }

    #[test]
    fn a_token_is_refused_over_plaintext_to_another_machine() {
        let refusal = |url: &str| Builder::new(url).token("canary").build().err().map(|e| e.to_string());
        for own in ["http://127.0.0.1:1", "http://[::1]:1", "http://127.8.9.1", "http://[::ffff:127.0.0.1]:1"]
        {
            assert_eq!(refusal(own), None, "{own}");
        }
        // The address of a name is checked when it is known.
        assert_eq!(refusal("http://localhost:7190"), None);
        for other in ["http://10.0.0.7:7190", "http://[2001:db8::1]", "http://127.0.0.1,http://0.0.0.0:1"] {
            let refusal = refusal(other).unwrap();
            assert!(refusal.contains("without TLS") && !refusal.contains("canary"), "{refusal}");
            let allowed = Builder::new(other).token("canary").allow_plaintext_token(true).build();
            assert!(allowed.is_ok());
        }
    }

    #[test]
    fn settings_of_the_environment_are_read() {
        let build = |variables: &'static [(&str, &str)]| {
            Builder::from_variables(|name| {
                let (_, value) = variables.iter().find(|(variable, _)| *variable == name)?;
                Some(OsString::from(*value))
            })
        };
        assert_eq!(build(&[]).endpoints.0, [DEFAULT_ENDPOINT]);
        assert_eq!(build(&[("CABLE_ENDPOINTS", " ")]).endpoints.0, [DEFAULT_ENDPOINT]);
        let all = build(&[
            ("CABLE_ENDPOINTS", "http://127.0.0.1:1,http://[::1]:1"),
            ("CABLE_TOKEN", "canary\n"),
            ("CABLE_CA", "ca.pem"),
            ("CABLE_CLIENT_CERT", "client.pem"),
            ("CABLE_CLIENT_KEY", "client.key"),
        ]);
        let text = format!("{all:?}");
        for part in ["file ca.pem", "file client.pem", "file client.key", "http://[::1]:1", "Token(\"...\")"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("canary"), "{text}");
        assert!(all.build().is_ok());
        for (variables, problem) in [
            (&[("CABLE_TOKEN", "a"), ("CABLE_TOKEN_FILE", "b")], "both set"),
            (&[("CABLE_CLIENT_CERT", "a"), ("CABLE_TOKEN", "b")], "set both or neither"),
            (&[("CABLE_TOKEN_FILE", "/no/such/file"), ("CABLE_CA", "")], "token file /no/such/file: "),
        ] {
            let error = build(variables).build().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains(problem), "{error}");
        }
    }
}
