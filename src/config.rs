//! Settings: one table, read in layers (built-in values, a file, the environment, flags) into a [`Config`] that has
//! been checked as a whole.
//!
//! Only the table defines the name, meaning and syntax of each setting. Each value has an origin: the layer that it
//! came from.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use toml::de::{DeTable, DeValue};

use crate::telemetry;

/// The settings files to look for, in this order, if none is named.
pub const SEARCH_PATHS: [&str; 2] = ["cable.toml", "/etc/cable/cable.toml"];

/// The prefix of settings in the environment: `CABLE__SERVER__LISTEN` is `server.listen`.
pub const ENV_PREFIX: &str = "CABLE__";

/// Maximum number of threads. More would only wait for the same disk or the same cores.
const MAX_THREADS: usize = 64;

/// Minimum size of the cache, in bytes. A smaller one could not hold an article of the largest size.
const MIN_CACHE_BYTES: u64 = 1 << 20;

/// Minimum interval of scrubs. With a shorter one, the node would read the store without a pause.
const MIN_SCRUB_INTERVAL: Duration = Duration::from_secs(60);

/// Minimum age, idle time and ping interval of a connection. With less, a connection is of no use to a client.
const MIN_CONNECTION_TIME: Duration = Duration::from_secs(1);

/// Minimum time that a client is granted. Less than a round trip over a slow line would disconnect clients that do
/// nothing wrong.
const MIN_TIMEOUT: Duration = Duration::from_millis(100);

/// Minimum age of history. Followers need some time to reconnect.
const MIN_HISTORY_RETENTION: Duration = Duration::from_secs(60);

/// Settings whose built-in value depends on the machine.
const MACHINE_DEPENDENT: [&str; 2] = ["server.threads", "store.readers"];

/// The settings of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// Listeners, threads and shutdown.
    pub server: Server,
    /// Limits of connections.
    pub connections: Connections,
    /// Web pages that may call the node.
    pub web: Web,
    /// The data on disk.
    pub store: Store,
    /// The cache of encoded responses.
    pub cache: Cache,
    /// The limit of feeds, and the history that feeds can resume from.
    pub feed: Feed,
    /// Log events.
    pub log: Log,
}

/// Listeners, threads and shutdown of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Address of gRPC and gRPC-Web.
    pub listen: SocketAddr,
    /// Address of metrics and health over plain HTTP. If `None`, they are not served.
    pub ops_listen: Option<SocketAddr>,
    /// Whether addresses that other machines can reach may be served without TLS.
    pub plaintext: bool,
    /// Maximum time for calls in flight to end once the node is asked to stop.
    pub drain_timeout: Duration,
    /// Number of serving threads, each with connections of its own.
    pub threads: usize,
}

/// Limits of connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connections {
    /// Maximum open connections; never more than the process's file descriptors allow.
    pub max: usize,
    /// Maximum open connections of one address.
    pub max_per_peer: usize,
    /// Maximum bytes of responses that their peers have not read yet, over all connections.
    pub max_buffered_response_bytes: u64,
    /// Maximum bytes of requests that have not arrived completely, over all connections.
    pub max_buffered_request_bytes: u64,
    /// Maximum time that a response waits without its peer reading any byte of it.
    pub progress_timeout: Duration,
    /// Maximum time until the response of a call, and until the next message of a client that streams has arrived
    /// completely.
    pub request_timeout: Duration,
    /// Maximum calls in flight on one connection.
    pub max_streams: u32,
    /// Maximum open feeds on one connection; the limit leaves room for other calls.
    pub max_feeds: usize,
    /// Maximum time for the first bytes of a connection, and for the headers of an HTTP/1.1 request.
    pub preface_timeout: Duration,
    /// Maximum age of a connection, plus or minus a tenth.
    pub max_age: Duration,
    /// Maximum time for calls in flight to end once the server has sent GOAWAY on their connection.
    pub goaway_grace: Duration,
    /// Maximum time of a connection without a call.
    pub idle_timeout: Duration,
    /// Interval of keepalive pings on a connection.
    pub ping_interval: Duration,
    /// Maximum time until a ping is acknowledged.
    pub ping_timeout: Duration,
}

/// Web pages that may call a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Web {
    /// Origins of the pages, as browsers write them: `https://desk.example`.
    pub origins: Vec<String>,
}

/// The data of a node on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    /// Directory of the data; it belongs to one node.
    pub dir: PathBuf,
    /// Bytes of the disk that are reserved for removals: puts are refused while less is free.
    pub reserve_bytes: u64,
    /// Interval of scrubs, each of which reads and checks everything that is stored.
    pub scrub_interval: Duration,
    /// Number of threads that read from the disk.
    pub readers: usize,
}

/// The cache of encoded responses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    /// Maximum size of the encoded responses, in bytes.
    pub max_bytes: u64,
}

/// The limit of feeds, and the history that feeds can resume from. History within either of its two bounds is retained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feed {
    /// Maximum open feeds.
    pub max_open: usize,
    /// Minimum age of an entry before its departures, and tombstones that need not last, may be dropped.
    pub history_retention: Duration,
    /// Minimum number of entries after an entry before its departures, and tombstones that need not last, may be
    /// dropped.
    pub history_min_entries: u32,
}

/// The log events that a node writes to standard error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// Filter of the events: a level, or directives such as `info,cable=debug`.
    pub level: String,
    /// Format of the events.
    pub format: telemetry::Format,
}

impl Default for Server {
    fn default() -> Self {
        Server {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7190)),
            ops_listen: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 7191))),
            plaintext: false,
            drain_timeout: Duration::from_secs(20),
            threads: cores(),
        }
    }
}

impl Default for Connections {
    fn default() -> Self {
        Connections {
            max: 10_000,
            max_per_peer: 512,
            max_buffered_response_bytes: 64 << 20,
            max_buffered_request_bytes: 64 << 20,
            progress_timeout: Duration::from_secs(30),
            request_timeout: Duration::from_secs(60),
            max_streams: 200,
            max_feeds: 100,
            preface_timeout: Duration::from_secs(5),
            max_age: Duration::from_secs(30 * 60),
            goaway_grace: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(15 * 60),
            ping_interval: Duration::from_secs(30),
            ping_timeout: Duration::from_secs(10),
        }
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

impl Default for Store {
    fn default() -> Self {
        let (reserve_bytes, readers) = (512 << 20, cores().min(4));
        Store {
            dir: "./cable-data".into(),
            reserve_bytes,
            scrub_interval: Duration::from_secs(86_400),
            readers,
        }
    }
}

impl Default for Cache {
    fn default() -> Self {
        Cache { max_bytes: 256 << 20 }
    }
}

impl Default for Feed {
    fn default() -> Self {
        Feed {
            max_open: 20_000,
            history_retention: Duration::from_secs(90 * 24 * 3_600),
            history_min_entries: 1_000_000,
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Log { level: "info".into(), format: telemetry::Format::Text }
    }
}

/// A setting.
struct Setting {
    /// Name of the setting, as `section.key`.
    key: &'static str,
    /// One line of documentation.
    doc: &'static str,
    /// Parses and stores the value, or returns a description of valid values.
    set: fn(&mut Config, &str) -> Result<(), String>,
    /// Returns the value as TOML.
    show: fn(&Config) -> String,
}

/// All settings, grouped by section.
const SETTINGS: [Setting; 30] = [
    Setting {
        key: "server.listen",
        doc: "Address of gRPC and gRPC-Web.",
        set: |c, text| assign(&mut c.server.listen, address(text)?),
        show: |c| quoted(c.server.listen),
    },
    Setting {
        key: "server.ops_listen",
        doc: "Address of /metrics, /livez and /readyz over plain HTTP, or \"off\".",
        set: |c, text| {
            assign(&mut c.server.ops_listen, if text == "off" { None } else { Some(address(text)?) })
        },
        show: |c| c.server.ops_listen.map_or_else(|| quoted("off"), quoted),
    },
    Setting {
        key: "server.plaintext",
        doc: "Whether addresses that other machines can reach may be served without TLS.",
        set: |c, text| assign(&mut c.server.plaintext, boolean(text)?),
        show: |c| c.server.plaintext.to_string(),
    },
    Setting {
        key: "server.drain_timeout",
        doc: "Maximum time for calls in flight to end once the node is asked to stop.",
        set: |c, text| assign(&mut c.server.drain_timeout, duration(text)?),
        show: |c| quoted(show_duration(c.server.drain_timeout)),
    },
    Setting {
        key: "server.threads",
        doc: "Number of serving threads, 1 to 64. If unset, one per core.",
        set: |c, text| assign(&mut c.server.threads, threads(text)?),
        show: |c| c.server.threads.to_string(),
    },
    Setting {
        key: "connections.max",
        doc: "Maximum open connections; never more than the process's file descriptors allow.",
        set: |c, text| assign(&mut c.connections.max, count(text)?),
        show: |c| c.connections.max.to_string(),
    },
    Setting {
        key: "connections.max_per_peer",
        doc: "Maximum open connections of one address.",
        set: |c, text| assign(&mut c.connections.max_per_peer, count(text)?),
        show: |c| c.connections.max_per_peer.to_string(),
    },
    Setting {
        key: "connections.max_buffered_response_bytes",
        doc: "Memory for responses that their clients have not read yet.",
        set: |c, text| {
            assign(
                &mut c.connections.max_buffered_response_bytes,
                bytes_from(MIN_BUFFERED_RESPONSE_BYTES, text)?,
            )
        },
        show: |c| quoted(show_bytes(c.connections.max_buffered_response_bytes)),
    },
    Setting {
        key: "connections.max_buffered_request_bytes",
        doc: "Memory for requests that have not arrived completely.",
        set: |c, text| {
            assign(
                &mut c.connections.max_buffered_request_bytes,
                bytes_from(MIN_BUFFERED_REQUEST_BYTES, text)?,
            )
        },
        show: |c| quoted(show_bytes(c.connections.max_buffered_request_bytes)),
    },
    Setting {
        key: "connections.progress_timeout",
        doc: "Maximum time that a response waits without its client reading any byte of it.",
        set: |c, text| assign(&mut c.connections.progress_timeout, duration_from(MIN_TIMEOUT, text)?),
        show: |c| quoted(show_duration(c.connections.progress_timeout)),
    },
    Setting {
        key: "connections.request_timeout",
        doc: "Maximum time until a call has its response, and until the next message of a client stream is complete.",
        set: |c, text| assign(&mut c.connections.request_timeout, duration_from(MIN_TIMEOUT, text)?),
        show: |c| quoted(show_duration(c.connections.request_timeout)),
    },
    Setting {
        key: "connections.max_streams",
        doc: "Maximum calls in flight on one connection.",
        set: |c, text| assign(&mut c.connections.max_streams, count(text)?),
        show: |c| c.connections.max_streams.to_string(),
    },
    Setting {
        key: "connections.max_feeds",
        doc: "Maximum open feeds on one connection.",
        set: |c, text| assign(&mut c.connections.max_feeds, count(text)?),
        show: |c| c.connections.max_feeds.to_string(),
    },
    Setting {
        key: "connections.preface_timeout",
        doc: "Maximum time for the first bytes of a connection.",
        set: |c, text| assign(&mut c.connections.preface_timeout, duration_from(MIN_TIMEOUT, text)?),
        show: |c| quoted(show_duration(c.connections.preface_timeout)),
    },
    Setting {
        key: "connections.max_age",
        doc: "Maximum age of a connection, plus or minus a tenth.",
        set: |c, text| assign(&mut c.connections.max_age, duration_from(MIN_CONNECTION_TIME, text)?),
        show: |c| quoted(show_duration(c.connections.max_age)),
    },
    Setting {
        key: "connections.goaway_grace",
        doc: "Maximum time for calls in flight to end once the server has sent GOAWAY.",
        set: |c, text| assign(&mut c.connections.goaway_grace, duration_from(MIN_TIMEOUT, text)?),
        show: |c| quoted(show_duration(c.connections.goaway_grace)),
    },
    Setting {
        key: "connections.idle_timeout",
        doc: "Maximum time of a connection without a call.",
        set: |c, text| assign(&mut c.connections.idle_timeout, duration_from(MIN_CONNECTION_TIME, text)?),
        show: |c| quoted(show_duration(c.connections.idle_timeout)),
    },
    Setting {
        key: "connections.ping_interval",
        doc: "Interval of keepalive pings on a connection.",
        set: |c, text| assign(&mut c.connections.ping_interval, duration_from(MIN_CONNECTION_TIME, text)?),
        show: |c| quoted(show_duration(c.connections.ping_interval)),
    },
    Setting {
        key: "connections.ping_timeout",
        doc: "Maximum time until a ping is acknowledged.",
        set: |c, text| assign(&mut c.connections.ping_timeout, duration_from(MIN_TIMEOUT, text)?),
        show: |c| quoted(show_duration(c.connections.ping_timeout)),
    },
    Setting {
        key: "web.origins",
        doc: "Origins of web pages that may call the node, separated by commas, as in \"https://desk.example\".",
        set: |c, text| assign(&mut c.web.origins, origins(text)?),
        show: |c| quoted(c.web.origins.join(",")),
    },
    Setting {
        key: "store.dir",
        doc: "Directory of the data; it belongs to one node.",
        set: |c, text| assign(&mut c.store.dir, directory(text)?),
        show: |c| quoted(c.store.dir.display()),
    },
    Setting {
        key: "store.reserve_bytes",
        doc: "Bytes of the disk reserved for removals: puts are refused while less is free.",
        set: |c, text| assign(&mut c.store.reserve_bytes, bytes(text)?),
        show: |c| quoted(show_bytes(c.store.reserve_bytes)),
    },
    Setting {
        key: "store.scrub_interval",
        doc: "Interval of scrubs, each of which reads and checks everything that is stored, in the background.",
        set: |c, text| assign(&mut c.store.scrub_interval, duration_from(MIN_SCRUB_INTERVAL, text)?),
        show: |c| quoted(show_days(c.store.scrub_interval)),
    },
    Setting {
        key: "store.readers",
        doc: "Number of threads that read from the disk, 1 to 64. If unset, one per core, at most 4.",
        set: |c, text| assign(&mut c.store.readers, threads(text)?),
        show: |c| c.store.readers.to_string(),
    },
    Setting {
        key: "cache.max_bytes",
        doc: "Memory for encoded responses.",
        set: |c, text| assign(&mut c.cache.max_bytes, bytes_from(MIN_CACHE_BYTES, text)?),
        show: |c| quoted(show_bytes(c.cache.max_bytes)),
    },
    Setting {
        key: "feed.max_open",
        doc: "Maximum open feeds on this node.",
        set: |c, text| assign(&mut c.feed.max_open, count(text)?),
        show: |c| c.feed.max_open.to_string(),
    },
    Setting {
        key: "feed.history_retention",
        doc: "Minimum retention of departures and of the reasons of removals; MOVED and KILLED are always retained.",
        set: |c, text| assign(&mut c.feed.history_retention, duration_from(MIN_HISTORY_RETENTION, text)?),
        show: |c| quoted(show_days(c.feed.history_retention)),
    },
    Setting {
        key: "feed.history_min_entries",
        doc: "Number of the newest entries whose history is retained in any case.",
        set: |c, text| assign(&mut c.feed.history_min_entries, count(text)?),
        show: |c| c.feed.history_min_entries.to_string(),
    },
    Setting {
        key: "log.level",
        doc: "Events on standard error: error, warn, info, debug, trace, or as in \"info,cable=debug\".",
        set: |c, text| {
            telemetry::check_level(text)?;
            assign(&mut c.log.level, text.to_owned())
        },
        show: |c| quoted(&c.log.level),
    },
    Setting {
        key: "log.format",
        doc: "Format of the events: \"text\" or \"json\".",
        set: |c, text| assign(&mut c.log.format, text.parse()?),
        show: |c| quoted(c.log.format),
    },
];

fn assign<T>(target: &mut T, value: T) -> Result<(), String> {
    *target = value;
    Ok(())
}

/// The origin of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The built-in value.
    Default,
    /// A line of a file.
    File {
        /// The file.
        path: PathBuf,
        /// Number of the line, from 1.
        line: usize,
    },
    /// An environment variable, by its name.
    Env(String),
    /// A flag of the command.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { path, line } => write!(f, "{}:{line}", path.display()),
            Origin::Env(name) => write!(f, "environment variable {name}"),
            Origin::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// An error that prevents a configuration. The caller can only report it to the operator.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file does not exist or cannot be read.
    #[error("cannot read the settings file {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The file is not valid TOML.
    #[error("{path}:{line}: {source}", path = path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Number of the line, from 1.
        line: usize,
        /// The problem at that line.
        source: toml::de::Error,
    },
    /// The setting does not exist.
    #[error("{origin}: unknown setting `{key}`; did you mean `{nearest}`?")]
    UnknownKey {
        /// The key as given.
        key: String,
        /// The origin of the key.
        origin: Origin,
        /// The setting with the most similar name, as that layer writes it.
        nearest: String,
    },
    /// The value of a setting is not allowed.
    #[error("{origin}: invalid value {value:?} for `{key}`: {expected}")]
    Value {
        /// The setting.
        key: &'static str,
        /// The value as given.
        value: String,
        /// The origin of the value.
        origin: Origin,
        /// A description of the allowed values.
        expected: String,
    },
    /// Other machines could read all traffic of an address.
    #[error(
        "`{key}` is {address} ({origin}), which other machines can reach without TLS: use a loopback address \
         behind a proxy that provides TLS or, on a network that you trust, set `server.plaintext = true` \
         (flag --plaintext)"
    )]
    Plaintext {
        /// The setting that has the address.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// The origin of the address.
        origin: Origin,
    },
    /// Both listeners have the same address, which they cannot share.
    #[error(
        "`server.listen` and `server.ops_listen` are both {0}: use two addresses, or set `ops_listen = \"off\"`"
    )]
    SameAddress(SocketAddr),
}

/// The layers above the built-in values, lowest first.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    /// The file to read. If `None`, no file is read.
    pub file: Option<PathBuf>,
    /// The environment. Variables of other programs are ignored.
    pub env: Vec<(String, String)>,
    /// The flags that were given.
    pub flags: Vec<Flag>,
}

/// A flag that sets a setting.
#[derive(Debug, Clone)]
pub struct Flag {
    /// Name on the command line.
    pub name: &'static str,
    /// Key of the setting.
    pub key: &'static str,
    /// The value as given.
    pub value: String,
}

impl Layers {
    /// Returns the layers of this process: `file`, or else the first of [`SEARCH_PATHS`] that exists; the environment;
    /// `flags`.
    #[must_use]
    pub fn for_process(file: Option<PathBuf>, flags: Vec<Flag>) -> Self {
        let found = || SEARCH_PATHS.iter().map(PathBuf::from).find(|path| path.exists());
        let lossy = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        let env = std::env::vars_os().map(|(name, value)| (lossy(name), lossy(value))).collect();
        Layers { file: file.or_else(found), env, flags }
    }
}

/// A checked configuration with the origin of each value.
#[derive(Debug, Clone)]
pub struct Effective {
    config: Config,
    /// One origin for each of [`SETTINGS`].
    origins: Vec<Origin>,
    warnings: Vec<String>,
}

impl Effective {
    /// Applies the layers, lowest first, and checks the result.
    ///
    /// # Errors
    /// The file cannot be read, a key does not exist, a value is not allowed, or two values conflict.
    pub fn load(layers: Layers) -> Result<Self, Error> {
        let mut effective = Effective {
            config: Config::default(),
            origins: vec![Origin::Default; SETTINGS.len()],
            warnings: Vec::new(),
        };
        if let Some(path) = &layers.file {
            effective.add_file(path)?;
        }
        for (name, value) in &layers.env {
            if let Some(rest) = name.strip_prefix(ENV_PREFIX) {
                let key = rest.to_ascii_lowercase().replace("__", ".");
                effective.set(&key, value, Origin::Env(name.clone()))?;
            } else {
                effective.warnings.extend(misspelling_warning(name));
            }
        }
        for Flag { name, key, value } in &layers.flags {
            effective.set(key, value, Origin::Flag(name))?;
        }
        effective.check()?;
        Ok(effective)
    }

    /// Returns the configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Returns warnings of probable mistakes, as text.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Consumes the value and returns the configuration.
    #[must_use]
    pub fn into_config(self) -> Config {
        self.config
    }

    /// Returns the configuration as a settings file that results in it. Each setting has its documentation and, if
    /// requested, the origin of its value.
    #[must_use]
    pub fn to_toml(&self, with_origins: bool) -> String {
        let mut text = String::new();
        let mut section = "";
        for (setting, origin) in SETTINGS.iter().zip(&self.origins) {
            let (of, key) = setting.key.split_once('.').unwrap_or(("", setting.key));
            if of != section {
                let gap = if section.is_empty() { "" } else { "\n" };
                text += &format!("{gap}[{of}]\n");
                section = of;
            }
            let value = (setting.show)(&self.config);
            let from = if with_origins { format!("  # {origin}") } else { String::new() };
            // Another machine that reads the file must not take over this machine's number of cores.
            let unset = *origin == Origin::Default && MACHINE_DEPENDENT.contains(&setting.key);
            let key = if unset { format!("#{key}") } else { key.to_owned() };
            text += &format!("# {}\n{key} = {value}{from}\n", setting.doc);
        }
        text
    }

    fn add_file(&mut self, path: &Path) -> Result<(), Error> {
        let text =
            std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.into(), source })?;
        let line_of =
            |at: usize| text.as_bytes()[..at.min(text.len())].iter().filter(|b| **b == b'\n').count() + 1;
        let table = DeTable::parse(&text).map_err(|source| {
            let line = line_of(source.span().map_or(0, |span| span.start));
            Error::Syntax { path: path.into(), line, source }
        })?;
        for (key, value, at) in leaves(table.get_ref(), "") {
            let origin = Origin::File { path: path.into(), line: line_of(at) };
            self.set(&key, &value, origin)?;
        }
        Ok(())
    }

    fn set(&mut self, key: &str, value: &str, origin: Origin) -> Result<(), Error> {
        let Some(at) = SETTINGS.iter().position(|setting| setting.key == key) else {
            return Err(unknown_key(key, origin));
        };
        let setting = &SETTINGS[at];
        (setting.set)(&mut self.config, value.trim()).map_err(|expected| Error::Value {
            key: setting.key,
            value: value.to_owned(),
            origin: origin.clone(),
            expected,
        })?;
        self.origins[at] = origin;
        Ok(())
    }

    fn check(&self) -> Result<(), Error> {
        let server = &self.config.server;
        let addresses = [("server.listen", Some(server.listen)), ("server.ops_listen", server.ops_listen)];
        for (key, address) in addresses {
            match address {
                Some(address) if !server.plaintext && !is_loopback(address.ip()) => {
                    return Err(Error::Plaintext { key, address, origin: self.origin(key) });
                }
                _ => {}
            }
        }
        // Port 0 is a different port each time.
        if server.ops_listen == Some(server.listen) && server.listen.port() != 0 {
            return Err(Error::SameAddress(server.listen));
        }
        Ok(())
    }

    fn origin(&self, key: &str) -> Origin {
        let at = SETTINGS.iter().position(|setting| setting.key == key);
        at.map_or(Origin::Default, |at| self.origins[at].clone())
    }
}

fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

/// Returns a warning if a variable is almost that of a setting: with one underscore too few, or in lower case.
fn misspelling_warning(name: &str) -> Option<String> {
    let letters = |text: &str| text.replace(['_', '.'], "").to_ascii_lowercase();
    let upper = name.to_ascii_uppercase();
    let rest = upper.strip_prefix("CABLE_")?;
    let intended = SETTINGS.iter().find(|setting| letters(setting.key) == letters(rest))?;
    Some(format!("environment variable {name} ignored; did you mean {}?", variable(intended.key)))
}

/// Returns the environment variable of a setting.
fn variable(key: &str) -> String {
    format!("{ENV_PREFIX}{}", key.replace('.', "__").to_ascii_uppercase())
}

/// Returns every value of a file with its dotted key and the offset of that key. A table that no setting belongs to,
/// even an empty one, counts as a value, so that it is refused by name.
fn leaves(table: &DeTable<'_>, prefix: &str) -> Vec<(String, String, usize)> {
    let mut found = Vec::new();
    for (name, value) in table {
        let key = format!("{prefix}{}", name.get_ref());
        match value.get_ref() {
            DeValue::Table(inner) if SETTINGS.iter().any(|s| s.key.starts_with(&format!("{key}."))) => {
                found.extend(leaves(inner, &format!("{key}.")));
            }
            other => found.push((key, plain(other), name.span().start)),
        }
    }
    found.sort_by_key(|(_, _, at)| *at);
    found
}

/// Returns the text of a value, as an environment variable would have it.
fn plain(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) if number.radix() == 10 => number.as_str().replace('_', ""),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.as_str().to_owned(),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(_) => "[...]".to_owned(),
        DeValue::Table(_) => "{...}".to_owned(),
    }
}

fn unknown_key(key: &str, origin: Origin) -> Error {
    let (_, last) = key.rsplit_once('.').unwrap_or(("", key));
    let similarity = |setting: &str| {
        let ratio = strsim::normalized_damerau_levenshtein;
        let (section, name) = setting.split_once('.').unwrap_or(("", setting));
        // A key without its section, or in the wrong one, is still similar; so is a section without a key.
        ratio(setting, key).max(0.9 * ratio(name, last)).max(0.9 * ratio(section, key))
    };
    let keys = SETTINGS.iter().map(|setting| setting.key);
    let nearest = keys.max_by(|a, b| similarity(a).total_cmp(&similarity(b))).unwrap_or_default();
    let nearest = match origin {
        Origin::Env(_) => variable(nearest),
        _ => nearest.to_owned(),
    };
    Error::UnknownKey { key: key.to_owned(), origin, nearest }
}

fn quoted(text: impl fmt::Display) -> String {
    toml::Value::String(text.to_string()).to_string()
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "expected an IP address and a port, such as \"127.0.0.1:7190\"".to_owned())
}

fn boolean(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| "expected true or false".to_owned())
}

fn directory(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("expected the path of a directory".to_owned()) } else { Ok(text.into()) }
}

fn threads(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|n| (1..=MAX_THREADS).contains(n));
    number.ok_or_else(|| format!("expected a number from 1 to {MAX_THREADS}"))
}

fn count<N: FromStr + PartialOrd + From<u8>>(text: &str) -> Result<N, String> {
    let number = text.parse().ok().filter(|n| *n >= N::from(1));
    number.ok_or_else(|| "expected a whole number above 0".to_owned())
}

const DURATION_UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

const BYTE_UNITS: [(&str, u64); 9] = [
    ("", 1),
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
];

/// Parses a whole number with a unit. Returns the number multiplied by the factor of the unit.
fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// Parses a duration: a whole number with its unit, ms, s, m, h or d.
///
/// # Errors
/// The text is something else. The error states what is expected.
pub fn duration(text: &str) -> Result<Duration, String> {
    let millis = with_unit(text, &DURATION_UNITS);
    millis
        .map(Duration::from_millis)
        .ok_or_else(|| "expected a whole number and ms, s, m, h or d: \"20s\"".to_owned())
}

fn duration_from(minimum: Duration, text: &str) -> Result<Duration, String> {
    let time = duration(text)?;
    if time >= minimum { Ok(time) } else { Err(format!("expected at least {}", show_days(minimum))) }
}

fn bytes(text: &str) -> Result<u64, String> {
    with_unit(text, &BYTE_UNITS)
        .ok_or_else(|| "expected a whole number and KiB, MiB or GiB: \"256MiB\"".to_owned())
}

/// Minimum of `connections.max_buffered_response_bytes`: the share of one connection has room for the largest response.
const MIN_BUFFERED_RESPONSE_BYTES: u64 = 16 << 20;

/// Minimum of `connections.max_buffered_request_bytes`: the share of one connection has room for the largest request.
const MIN_BUFFERED_REQUEST_BYTES: u64 = 64 << 20;

fn bytes_from(minimum: u64, text: &str) -> Result<u64, String> {
    let size = bytes(text)?;
    if size >= minimum { Ok(size) } else { Err(format!("expected at least {}", show_bytes(minimum))) }
}

/// Parses origins as browsers write them: scheme, host and port, with nothing after them.
fn origins(text: &str) -> Result<Vec<String>, String> {
    let all = text.split(',').map(str::trim).filter(|origin| !origin.is_empty());
    let checked = all.map(|origin| {
        let rest = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
        let is_origin =
            rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(['/', '?', '#', '*', '@']));
        let expected = || "expected only scheme and host, such as \"https://desk.example\"".to_owned();
        if is_origin { Ok(origin.to_owned()) } else { Err(expected()) }
    });
    checked.collect()
}

/// Formats a number in the largest unit that leaves a whole number.
fn show_unit(number: u64, units: &[(&str, u64)]) -> String {
    let fits = |(_, factor): &&(&str, u64)| number.is_multiple_of(*factor);
    let (unit, factor) = units.iter().rev().find(fits).unwrap_or(&units[0]);
    format!("{}{unit}", number / factor)
}

fn show_duration(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    // Minutes and hours are only for input: "20s" is printed in seconds, and so is "120s".
    show_unit(millis, &DURATION_UNITS[..2])
}

/// Formats a duration in units of up to a day.
fn show_days(duration: Duration) -> String {
    show_unit(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX), &DURATION_UNITS)
}

fn show_bytes(number: u64) -> String {
    if number == 0 { "0".to_owned() } else { show_unit(number, &BYTE_UNITS[1..6]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn flag(name: &'static str, key: &'static str, value: &str) -> Flag {
        Flag { name, key, value: value.to_owned() }
    }

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cable.toml");
        std::fs::write(&path, text).unwrap();
        (dir, path)
    }

    fn load_error(text: &str) -> String {
        let (_dir, path) = file(text);
        let error = Effective::load(Layers { file: Some(path.clone()), ..Default::default() }).unwrap_err();
        error.to_string().replace(&path.display().to_string(), "FILE")
    }

    #[test]
    fn without_layers_the_defaults_apply() {
        let config = Effective::load(Layers::default()).unwrap().into_config();
        assert_eq!(config, Config::default());
        assert_eq!(config.server.listen.to_string(), "127.0.0.1:7190");
        assert_eq!(config.store.reserve_bytes, 536_870_912);
        assert!((1..=4).contains(&config.store.readers));
    }

    #[test]
    fn flags_override_environment_override_file_override_defaults() {
        let (_dir, path) = file(
            "[server]\nlisten = '127.0.0.1:1'\ndrain_timeout = '1m'\n[cache]\nmax_bytes = 1_048_576\n[store]\nreaders=3",
        );
        let layers = Layers {
            file: Some(path.clone()),
            env: env(&[
                ("CABLE__SERVER__LISTEN", "127.0.0.1:2"),
                ("CABLE__CACHE__MAX_BYTES", "2 MiB"),
                ("CABLE_ENDPOINTS", "http://ignored"),
            ]),
            flags: vec![flag("--listen", "server.listen", "127.0.0.1:3")],
        };
        let effective = Effective::load(layers).unwrap();
        let config = effective.config();
        assert_eq!(config.server.listen.port(), 3);
        assert_eq!(config.cache.max_bytes, 2 << 20);
        assert_eq!(config.server.drain_timeout, Duration::from_secs(60));
        assert_eq!(config.store.readers, 3);
        assert_eq!(effective.origin("server.listen"), Origin::Flag("--listen"));
        assert_eq!(effective.origin("cache.max_bytes"), Origin::Env("CABLE__CACHE__MAX_BYTES".into()));
        assert_eq!(effective.origin("server.drain_timeout"), Origin::File { path, line: 3 });
        assert_eq!(effective.origin("log.level"), Origin::Default);
    }

    #[test]
    fn an_unknown_key_is_reported_with_origin_and_nearest_key() {
        for (text, expected) in [
            (
                "[server]\nlisen = 'x'",
                "FILE:2: unknown setting `server.lisen`; did you mean `server.listen`?",
            ),
            (
                "drain_timeout = '1s'",
                "FILE:1: unknown setting `drain_timeout`; did you mean `server.drain_timeout`?",
            ),
            ("\n[sever]\n", "FILE:2: unknown setting `sever`; did you mean `server."),
            ("[server.listen]\nx = 1", "invalid value \"{...}\" for `server.listen`"),
        ] {
            let error = load_error(text);
            assert!(error.contains(expected), "{text:?}: {error}");
        }
        let layers = Layers { env: env(&[("CABLE__CACHE__MAX_BYTE", "1")]), ..Default::default() };
        let error = Effective::load(layers).unwrap_err().to_string();
        assert!(error.contains("variable CABLE__CACHE__MAX_BYTE"), "{error}");
        assert!(error.contains("did you mean `CABLE__CACHE__MAX_BYTES`?"), "{error}");
    }

    #[test]
    fn an_invalid_value_is_reported_with_its_origin() {
        for (text, expected) in [
            (
                "[server]\nlisten = 'localhost'",
                "FILE:2: invalid value \"localhost\" for `server.listen`: expected an IP",
            ),
            (
                "[server]\ndrain_timeout = 20",
                "invalid value \"20\" for `server.drain_timeout`: expected a whole number and",
            ),
            ("[server]\nplaintext = 'yes'", "expected true or false"),
            ("[store]\nreaders = 0", "expected a number from 1 to 64"),
            ("[store]\nreaders = 65", "expected a number from 1 to 64"),
            ("[store]\ndir = ''", "expected the path of a directory"),
            ("[cache]\nmax_bytes = '1 parsec'", "expected a whole number and KiB"),
            ("[cache]\nmax_bytes = -1", "expected a whole number and KiB"),
            ("[cache]\nmax_bytes = '99999999999GiB'", "expected a whole number and KiB"),
            ("[cache]\nmax_bytes = 0", "invalid value \"0\" for `cache.max_bytes`: expected at least 1MiB"),
            ("[cache]\nmax_bytes = '1023KiB'", "expected at least 1MiB"),
            (
                "[connections]\nmax_age = '1ms'",
                "invalid value \"1ms\" for `connections.max_age`: expected at least 1s",
            ),
            ("[connections]\nidle_timeout = '999ms'", "expected at least 1s"),
            ("[connections]\nping_interval = '0s'", "expected at least 1s"),
            ("[connections]\npreface_timeout = '99ms'", "expected at least 100ms"),
            ("[connections]\ngoaway_grace = '0s'", "expected at least 100ms"),
            ("[connections]\nping_timeout = '1ms'", "expected at least 100ms"),
            ("[feed]\nhistory_retention = '59s'", "expected at least 1m"),
            ("[cache]\nmax_bytes = [1]", "invalid value \"[...]\" for `cache.max_bytes`"),
            ("[connections]\nmax_buffered_response_bytes = '1MiB'", "expected at least 16MiB"),
            ("[connections]\nmax_buffered_request_bytes = 0", "expected at least 64MiB"),
            ("[web]\norigins = '*'", "expected only scheme and host"),
            ("[web]\norigins = 'https://a.example/'", "expected only scheme and host"),
            ("[log]\nlevel = 'info,=,'", "invalid value \"info,=,\" for `log.level`"),
            ("[log]\nformat = 'xml'", "expected text or json"),
            ("[log]\nformat = ", "FILE:2: "),
        ] {
            let error = load_error(text);
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_reachable_address_requires_plaintext() {
        for address in ["0.0.0.0:7190", "[::]:7190", "192.0.2.1:7190", "[::ffff:192.0.2.1]:7190"] {
            let flags = vec![flag("--listen", "server.listen", address)];
            let error = Effective::load(Layers { flags: flags.clone(), ..Default::default() }).unwrap_err();
            assert!(matches!(error, Error::Plaintext { key: "server.listen", .. }), "{address}: {error}");
            assert!(error.to_string().contains("set `server.plaintext = true`"), "{error}");
            let flags = [flags, vec![flag("--plaintext", "server.plaintext", "true")]].concat();
            assert!(Effective::load(Layers { flags, ..Default::default() }).is_ok(), "{address}");
        }
        for address in ["127.0.0.1:9", "127.8.0.1:9", "[::1]:9", "[::ffff:127.0.0.1]:9"] {
            let flags = vec![flag("--listen", "server.listen", address)];
            assert!(Effective::load(Layers { flags, ..Default::default() }).is_ok(), "{address}");
        }
        let flags = vec![flag("--ops-listen", "server.ops_listen", "0.0.0.0:7191")];
        assert!(Effective::load(Layers { flags, ..Default::default() }).is_err());
    }

    #[test]
    fn both_servers_on_one_address_are_refused() {
        let same = |port| {
            let address = format!("127.0.0.1:{port}");
            let flags = vec![
                flag("--listen", "server.listen", &address),
                flag("--ops-listen", "server.ops_listen", &address),
            ];
            Effective::load(Layers { flags, ..Default::default() })
        };
        assert!(matches!(same(7000), Err(Error::SameAddress(_))));
        assert!(same(0).is_ok());
    }

    #[test]
    fn printed_settings_load_as_the_same_configuration() {
        const SECOND: Duration = Duration::from_secs(1);
        let config = Config {
            server: Server {
                listen: "[::1]:80".parse().unwrap(),
                ops_listen: None,
                plaintext: true,
                drain_timeout: Duration::from_millis(1500),
                threads: 3,
            },
            connections: Connections {
                max: 7,
                max_per_peer: 1,
                max_streams: 2,
                max_age: SECOND,
                ..Connections::default()
            },
            web: Web { origins: vec!["https://a.example".to_owned(), "http://b.example:8080".to_owned()] },
            store: Store {
                dir: "a \"b\"\\c".into(),
                reserve_bytes: 0,
                scrub_interval: Duration::from_secs(7_200),
                readers: 64,
            },
            cache: Cache { max_bytes: 2_000_000 },
            feed: Feed { max_open: 3, history_retention: 36 * 3_600 * SECOND, history_min_entries: 7 },
            log: Log { level: "info,cable=debug".into(), format: telemetry::Format::Json },
        };
        for config in [config, Config::default()] {
            let effective = Effective {
                config: config.clone(),
                origins: vec![Origin::Env("X".into()); SETTINGS.len()],
                warnings: Vec::new(),
            };
            for origins in [false, true] {
                let (_dir, path) = file(&effective.to_toml(origins));
                let read = Effective::load(Layers { file: Some(path), ..Default::default() }).unwrap();
                assert_eq!(read.config(), &config);
            }
        }
    }

    #[test]
    fn machine_dependent_defaults_are_printed_as_comments() {
        let text = Effective::load(Layers::default()).unwrap().to_toml(false);
        assert!(text.contains("\n#threads = ") && text.contains("\n#readers = "), "{text}");
        let layers = Layers { env: env(&[("CABLE__SERVER__THREADS", "3")]), ..Default::default() };
        assert!(Effective::load(layers).unwrap().to_toml(false).contains("\nthreads = 3\n"));
    }

    #[test]
    fn a_misspelt_variable_is_warned_about() {
        let names = [
            "CABLE_SERVER__LISTEN",
            "CABLE_SERVER_LISTEN",
            "cable__server__listen",
            "CABLE_SERVER_OPS_LISTEN",
            "CABLE_ENDPOINTS",
            "CABLE_BIN",
            "LISTEN",
        ];
        let layers = Layers { env: env(&names.map(|name| (name, "1"))), ..Default::default() };
        let effective = Effective::load(layers).unwrap();
        let warning =
            |name, intended| format!("environment variable {name} ignored; did you mean {intended}?");
        assert_eq!(
            effective.warnings(),
            [
                warning(names[0], "CABLE__SERVER__LISTEN"),
                warning(names[1], "CABLE__SERVER__LISTEN"),
                warning(names[2], "CABLE__SERVER__LISTEN"),
                warning(names[3], "CABLE__SERVER__OPS_LISTEN"),
            ]
        );
    }

    #[test]
    fn origins_are_printed_beside_their_values() {
        let layers = Layers { env: env(&[("CABLE__LOG__FORMAT", "json")]), ..Default::default() };
        let text = Effective::load(layers).unwrap().to_toml(true);
        assert!(text.contains("format = \"json\"  # environment variable CABLE__LOG__FORMAT\n"), "{text}");
        assert!(text.contains("listen = \"127.0.0.1:7190\"  # default\n"), "{text}");
    }

    #[test]
    fn a_missing_file_is_an_error_that_names_it() {
        let layers = Layers { file: Some("/nonexistent/cable.toml".into()), ..Default::default() };
        let error = Effective::load(layers).unwrap_err();
        assert_eq!(error.to_string(), "cannot read the settings file /nonexistent/cable.toml");
    }

    /// The example names every setting, commented out, with its built-in value.
    #[test]
    fn the_example_file_shows_the_defaults() {
        let example =
            std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/cable.toml")).unwrap();
        let parsed = |text: &str| {
            let (_dir, path) = file(text);
            Effective::load(Layers { file: Some(path), ..Default::default() }).unwrap()
        };
        assert_eq!(parsed(&example).config(), &Config::default());
        let uncommented = parsed(&example.replace("\n#", "\n").replace("\n ", "\n# "));
        assert_eq!(
            Config {
                store: Store { readers: Store::default().readers, ..uncommented.config().store.clone() },
                ..uncommented.config().clone()
            },
            Config::default()
        );
        for (setting, origin) in SETTINGS.iter().zip(&uncommented.origins) {
            assert_ne!(origin, &Origin::Default, "{} is missing in the example", setting.key);
        }
    }
}
