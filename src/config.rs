//! Settings: one table, read in layers (built-in values, a file, the environment, flags) into a [`Config`] that has
//! been checked as a whole.
//!
//! Each row of the table is one setting: its documentation, name, type, built-in value, and the syntax and bounds of
//! its values. The types, the reading and the printing of settings follow from the rows. Each value has an origin: the
//! layer that it came from.

mod combinations;
mod effective;
mod error;
#[cfg(test)]
mod fixture;
mod layers;
mod network;
mod share;
mod spelling;
mod syntax;
mod units;

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

pub use effective::Effective;
pub use error::Error;
pub use layers::{ENV_PREFIX, Flag, Layers, Origin, SEARCH_PATHS};
pub use network::Network;
pub use share::Share;
use syntax::{
    Address, AddressOrOff, Boolean, Count, Directory, Fraction, Level, Line, Networks, Number, OptionalFile,
    OptionalLanguage, OptionalOrigin, OptionalSiteUrl, Origins, Syntax as _, UpTo, Word,
};
use units::{Between, Bytes, Days, Seconds};
pub use units::{duration, size};

use crate::{files, role::Anonymous, telemetry};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// A queue that delays all calls for longer than this serves no client.
const MAX_QUEUE_DELAY: Duration = Duration::from_secs(60);

/// Maximum number of consumers: each has series of two metrics, and a list of all fits into one message.
const MAX_CONSUMERS: usize = 1_000;

/// Maximum number of threads. More would only wait for the same disk or the same cores.
const MAX_THREADS: usize = 64;

/// Minimum size of the cache, in bytes. A smaller one could not hold an article of the largest size.
const MIN_CACHE_BYTES: u64 = 1 << 20;

/// Minimum of `connections.max_buffered_response_bytes`: the share of one connection has room for the largest response.
const MIN_BUFFERED_RESPONSE_BYTES: u64 = 16 << 20;

/// Minimum of `connections.max_buffered_request_bytes`: the share of one connection has room for the largest request.
const MIN_BUFFERED_REQUEST_BYTES: u64 = 64 << 20;

/// Minimum interval of scrubs. With a shorter one, the node would read the store without a pause.
const MIN_SCRUB_INTERVAL: Duration = MINUTE;

/// Minimum age, idle time and ping interval of a connection. With less, a connection is of no use to a client.
const MIN_CONNECTION_TIME: Duration = SECOND;

/// Minimum time that a client is granted. Less than a round trip over a slow line would disconnect clients that do
/// nothing wrong.
const MIN_TIMEOUT: Duration = Duration::from_millis(100);

/// Maximum time that a peer may be silent. With more, peers that are gone would hold connections and memory.
const MAX_SILENCE: Duration = Duration::from_secs(3_600);

/// Maximum time that a stopping node takes. Supervisors kill a process that takes longer.
const MAX_STOP_TIME: Duration = Duration::from_secs(3_600);

/// Minimum age of history. Followers need some time to reconnect.
const MIN_HISTORY_RETENTION: Duration = MINUTE;

/// Minimum size of a file of the audit log: with less, a limit on the number of files means little.
const MIN_AUDIT_FILE_BYTES: u64 = 1 << 20;

/// Maximum sizes of the texts about the site, in bytes. Each feed and each entry of a news sitemap repeats them.
const MAX_SITE_NAME: usize = 256;
const MAX_SITE_DESCRIPTION: usize = 4_096;

/// A setting.
struct Setting {
    /// Name of the setting, as `section.key`.
    key: &'static str,
    /// The first line of the documentation.
    doc: &'static str,
    /// The other lines of the documentation.
    more: &'static [&'static str],
    /// Whether the built-in value depends on the machine.
    per_machine: bool,
    /// Whether a node takes over a new value at a reload. The others require a restart.
    reloads: bool,
    /// Parses and stores the value, or returns a description of valid values.
    set: fn(&mut Config, &str) -> Result<(), String>,
    /// Returns the value as TOML.
    show: fn(&Config) -> String,
    /// Describes the valid values.
    values: fn() -> String,
}

/// Defines [`Config`], a type with built-in values for each section, and [`SETTINGS`].
macro_rules! settings {
    ($(
        $(#[doc = $about:literal])+
        $section:ident: $Section:ident {$(
            #[doc = $doc:literal]
            $(#[doc = $more:literal])*
            $name:ident: $type:ty = $default:expr, $syntax:expr
                $(, per_machine: $per_machine:literal)? $(, reloads: $reloads:literal)?;
        )+}
    )+) => {
        /// The settings of a node.
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct Config {$(
            $(#[doc = $about])+
            pub $section: $Section,
        )+}

        $(
            $(#[doc = $about])+
            #[derive(Debug, Clone, PartialEq, Eq)]
            #[allow(rustdoc::bare_urls, reason = "the documentation is also printed, as plain text")]
            pub struct $Section {$(
                #[doc = $doc]
                $(#[doc = $more])*
                pub $name: $type,
            )+}

            impl Default for $Section {
                fn default() -> Self {
                    $Section { $($name: $default,)+ }
                }
            }
        )+

        /// The sections with their descriptions.
        const SECTIONS: &[(&str, &str)] = &[$((stringify!($section), concat!($($about),+))),+];

        /// All settings, grouped by section.
        const SETTINGS: &[Setting] = &[$($(Setting {
            key: concat!(stringify!($section), ".", stringify!($name)),
            doc: $doc,
            more: &[$($more),*],
            per_machine: false $(|| $per_machine)?,
            reloads: false $(|| $reloads)?,
            set: |config, text| {
                config.$section.$name = $syntax.parse(text)?;
                Ok(())
            },
            show: |config| $syntax.show(&config.$section.$name),
            values: || values::<$type>(&$syntax),
        },)+)+];
    };
}

// The first line of each documentation is printed in settings files, so it is complete and has no markup.
settings! {
    /// Listeners, threads and shutdown of a node.
    server: Server {
        /// Address of gRPC and gRPC-Web.
        listen: SocketAddr = loopback(7190), Address;

        /// Address of /metrics, /livez and /readyz over plain HTTP, or "off".
        ///
        /// Bind it to an address that only monitoring can reach.
        ops_listen: Option<SocketAddr> = Some(loopback(7191)), AddressOrOff;

        /// Whether addresses that other machines can reach may be served without TLS.
        ///
        /// The operations port has no TLS, so an address of it that other machines can reach requires this setting.
        plaintext: bool = false, Boolean;

        /// Networks of proxies that are trusted to state the address of a client, as in "10.0.0.0/8, ::1".
        ///
        /// With `proxy_protocol`, they must send a PROXY header. From them, `x-forwarded-for` is believed.
        trusted_proxies: Vec<Network> = Vec::new(), Networks;

        /// Whether trusted proxies start each connection with a header of the PROXY protocol, version 2.
        proxy_protocol: bool = false, Boolean;

        /// Time that a node asked to stop continues to serve while it reports that it is not ready, before it drains.
        ///
        /// Balancers need it to take the node out of rotation.
        lame_duck: Duration = Duration::ZERO, Between { min: Duration::ZERO, max: MAX_STOP_TIME };

        /// Maximum time for calls in flight to end once the node drains.
        drain_timeout: Duration = 20 * SECOND, Between { min: Duration::ZERO, max: MAX_STOP_TIME };

        /// Number of serving threads, 1 to 64. If unset, one per core.
        ///
        /// Each has connections of its own.
        threads: usize = cores(), UpTo { max: MAX_THREADS }, per_machine: true;
    }

    /// TLS of `server.listen`. The files are loaded again when they change.
    tls: Tls {
        /// Certificate chain of the node in PEM, its own certificate first; with `key`, it turns TLS on.
        certificate: Option<PathBuf> = None, OptionalFile;

        /// Private key of the certificate in PEM, not encrypted.
        key: Option<PathBuf> = None, OptionalFile;

        /// Certificates in PEM of the authorities that issue client certificates.
        client_ca: Option<PathBuf> = None, OptionalFile;

        /// Whether clients need a certificate of `client_ca`: "none", "optional" or "required".
        client_auth: ClientAuth = ClientAuth::None, Word("\"none\", \"optional\" or \"required\"");

        /// Interval at which the files are read, to notice a change.
        reload_interval: Duration = 2 * SECOND, Seconds { min: MIN_TIMEOUT };
    }

    /// Limits of connections.
    connections: Connections {
        /// Maximum open connections; never more than the process's file descriptors allow.
        max: usize = 10_000, Count;

        /// Maximum open connections of one address.
        max_per_peer: usize = 512, Count;

        /// Memory for responses that their clients have not read yet.
        ///
        /// The limit is in bytes, over all connections.
        max_buffered_response_bytes: u64 = 64 << 20, Bytes { min: MIN_BUFFERED_RESPONSE_BYTES };

        /// Memory for requests that have not arrived completely.
        ///
        /// The limit is in bytes, over all connections.
        max_buffered_request_bytes: u64 = 64 << 20, Bytes { min: MIN_BUFFERED_REQUEST_BYTES };

        /// Maximum time that a response waits without its client reading any byte of it.
        progress_timeout: Duration = 30 * SECOND, Between { min: MIN_TIMEOUT, max: MAX_SILENCE };

        /// Maximum time until a call has its response, and until the next message of a client stream is complete.
        request_timeout: Duration = 60 * SECOND, Seconds { min: MIN_TIMEOUT };

        /// Maximum calls in flight on one connection.
        max_streams: u32 = 200, Count;

        /// Maximum open feeds on one connection.
        ///
        /// The limit leaves room for other calls.
        max_feeds: usize = 100, Count;

        /// Maximum time for the first bytes of a connection.
        ///
        /// It is also the maximum time for the headers of an HTTP/1.1 request.
        preface_timeout: Duration = 5 * SECOND, Between { min: MIN_TIMEOUT, max: MAX_SILENCE };

        /// Maximum age of a connection, plus or minus a tenth.
        max_age: Duration = 30 * MINUTE, Seconds { min: MIN_CONNECTION_TIME };

        /// Maximum time for calls in flight to end once the server has sent GOAWAY.
        goaway_grace: Duration = 60 * SECOND, Seconds { min: MIN_TIMEOUT };

        /// Maximum time of a connection without a call.
        idle_timeout: Duration = 15 * MINUTE, Seconds { min: MIN_CONNECTION_TIME };

        /// Interval of keepalive pings on a connection.
        ping_interval: Duration = 30 * SECOND, Between { min: MIN_CONNECTION_TIME, max: MAX_SILENCE };

        /// Maximum time until a ping is acknowledged.
        ping_timeout: Duration = 10 * SECOND, Between { min: MIN_TIMEOUT, max: MAX_SILENCE };
    }

    /// A separate address for publishing.
    publish: Publish {
        /// Address of calls that write or show pending versions, or "off" to serve them at `server.listen`.
        ///
        /// The address also serves all other calls. TLS applies to it as to `server.listen`.
        listen: Option<SocketAddr> = None, AddressOrOff;
    }

    /// The callers of a node.
    auth: Auth {
        /// File of the credentials that `cable token` creates. If empty, credentials.toml in the directory of the data.
        ///
        /// A backup does not contain it.
        credentials: Option<PathBuf> = None, OptionalFile;

        /// Role of callers without a credential: none, reader, editor, publisher, admin, or auto.
        ///
        /// With "auto", they may do everything on a node that only this machine can reach and that has no credentials,
        /// otherwise nothing.
        anonymous: Anonymous = Anonymous::Auto, Word("\"auto\", \"none\" or a role");
    }

    /// How often one caller may call a node.
    rate: Rate {
        /// Maximum calls per second with one credential; 0 for no limit.
        ///
        /// A second's worth may come at once.
        credential_calls: u32 = 0, Number;

        /// Maximum calls per second without a credential from one address; 0 for no limit.
        address_calls: u32 = 0, Number;

        /// Maximum credentials from one address in a minute that are not accepted; 0 for no limit.
        ///
        /// Half of them may come at once. Beyond it, the address receives RATE_LIMITED for them. Valid credentials are
        /// accepted in any case.
        failures_per_minute: u32 = 10, Number;
    }

    /// The load and the memory at which a node refuses calls.
    overload: Overload {
        /// Maximum time that calls are queued before some of those that are not in memory are refused.
        ///
        /// The minimum over a tenth of a second counts. Calls from memory are refused at five times this delay; writes,
        /// health checks and open feeds never are.
        max_delay: Duration = Duration::from_millis(20),
            Between { min: Duration::from_millis(1), max: MAX_QUEUE_DELAY };

        /// Memory of the process; 0 for the limit of its control group.
        ///
        /// From 80 % of it the cache shrinks, from 90 % new feeds, streams and imports are refused, and from 95 % reads
        /// that are not in memory.
        max_memory_bytes: u64 = 0, Bytes { min: 0 };
    }

    /// HTTP and JSON for front ends, and the web pages that may call a node.
    web: Web {
        /// Whether the node serves content as JSON over HTTP, and its own pages.
        ///
        /// Without it, the address serves only gRPC and gRPC-Web.
        enabled: bool = true, Boolean;

        /// Maximum time for which a cache may reuse a response without asking the node.
        max_age: Duration = MINUTE, Between { min: Duration::ZERO, max: DAY };

        /// Step of the horizon: no cache reuses a response beyond the next whole multiple of it in UTC.
        ///
        /// A scheduled article whose time is a multiple of it is visible through caches on time.
        horizon: Duration = MINUTE, Between { min: SECOND, max: HOUR };

        /// Origins of web pages that may call the node, separated by commas, as in "https://desk.example".
        ///
        /// With "*", the pages of any origin may read.
        origins: Vec<String> = Vec::new(), Origins;
    }

    /// The site that feeds and sitemaps are about.
    site: Site {
        /// Address of the site, as in "https://news.example". If empty, there are no feeds and sitemaps.
        ///
        /// The links in them are this address followed by the path of an article. It needs `site.name` and
        /// `site.language`.
        url: Option<String> = None, OptionalSiteUrl;

        /// Name of the publication, as readers know it.
        name: String = String::new(), Line { max: MAX_SITE_NAME };

        /// Language of the publication, a BCP 47 tag such as "en-GB".
        language: String = String::new(), OptionalLanguage;

        /// Description of the publication in a sentence or two. If empty, its name.
        description: String = String::new(), Line { max: MAX_SITE_DESCRIPTION };
    }

    /// The data of a node on disk.
    store: Store {
        /// Directory of the data; it belongs to one node.
        dir: PathBuf = "./cable-data".into(), Directory;

        /// Bytes of the disk reserved for removals: puts are refused while less is free.
        reserve_bytes: u64 = 512 << 20, Bytes { min: 0 };

        /// Interval of scrubs, each of which reads and checks everything that is stored, in the background.
        scrub_interval: Duration = DAY, Days { min: MIN_SCRUB_INTERVAL };

        /// Number of threads that read from the disk, 1 to 64. If unset, one per core, at most 4.
        readers: usize = cores().min(4), UpTo { max: MAX_THREADS }, per_machine: true;
    }

    /// The cache of encoded responses.
    cache: Cache {
        /// Memory for encoded responses.
        ///
        /// The limit is in bytes.
        max_bytes: u64 = 256 << 20, Bytes { min: MIN_CACHE_BYTES };
    }

    /// The limit of feeds, and the history that feeds can resume from. History within either of its two bounds is
    /// retained.
    feed: Feed {
        /// Maximum open feeds on this node.
        max_open: usize = 20_000, Count;

        /// Minimum retention of departures and of the reasons of removals; MOVED and KILLED are always retained.
        ///
        /// It is the minimum age of an entry before its departures, and tombstones that need not last, may be dropped.
        history_retention: Duration = 90 * DAY, Days { min: MIN_HISTORY_RETENTION };

        /// Number of the newest entries whose history is retained in any case.
        history_min_entries: u32 = 1_000_000, Count;

        /// Maximum consumers on this node: followers with a name, whose positions the node stores; at most 1000.
        max_consumers: usize = 200, UpTo { max: MAX_CONSUMERS };

        /// Maximum consumers of one caller, at most 1000.
        ///
        /// All callers without a credential are one caller.
        max_consumers_per_caller: usize = 50, UpTo { max: MAX_CONSUMERS };

        /// Time without an acknowledgement after which a consumer is deleted.
        consumer_retention: Duration = 90 * DAY, Days { min: MIN_HISTORY_RETENTION };
    }

    /// The log events that a node writes to standard error.
    log: Log {
        /// Events on standard error: error, warn, info, debug, trace, or as in "info,cable=debug".
        level: String = "info".into(), Level, reloads: true;

        /// Format of the events: "text" or "json".
        format: telemetry::Format = telemetry::Format::Text, Word("\"text\" or \"json\"");

        /// Share of the calls that are logged, 0 to 1, such as 0.01.
        ///
        /// Calls that fail because of the node, and slow ones, are logged in any case.
        access: Share = Share::NONE, Fraction;

        /// Duration from which a call is logged in any case.
        ///
        /// The duration of a stream is the time until its first message.
        access_slow: Duration = Duration::from_millis(100), Seconds { min: Duration::from_millis(1) };
    }

    /// The log of writes, refused callers, and starts and stops of a node.
    audit: Audit {
        /// File of the audit log. If empty, its lines are events of the log with the target "audit".
        ///
        /// In a file, the line of a write is on disk before the write is committed.
        file: Option<PathBuf> = None, OptionalFile;

        /// Size at which the file is renamed and another is created.
        max_file_bytes: u64 = 64 << 20, Bytes { min: MIN_AUDIT_FILE_BYTES };

        /// Maximum number of renamed files. A further one replaces the oldest.
        max_files: usize = 32, Count;
    }

    /// The traces of calls, for a collector of OpenTelemetry.
    telemetry: Telemetry {
        /// Address of a collector that receives traces by OTLP over gRPC, as in "http://127.0.0.1:4317". If empty, none.
        otlp_endpoint: Option<String> = None, OptionalOrigin;

        /// Share of the calls without a trace of their caller that are traced, 0 to 1, such as 0.01.
        ///
        /// A call in a trace of its caller is traced if the caller records that trace.
        otlp_ratio: Share = Share::NONE, Fraction;
    }
}

impl Config {
    /// Returns the path of the file of credentials.
    #[must_use]
    pub fn credentials_path(&self) -> PathBuf {
        self.auth.credentials.clone().unwrap_or_else(|| self.store.dir.join(files::CREDENTIALS))
    }

    /// Returns the settings that differ from the built-in values, as text. No setting holds a secret: those are in files
    /// that settings name.
    pub(crate) fn changed(&self) -> String {
        let built_in = Config::default();
        let differs = |setting: &&Setting| (setting.show)(self) != (setting.show)(&built_in);
        let lines = SETTINGS.iter().filter(differs).map(|setting| {
            let value = (setting.show)(self);
            format!("{}={}", setting.key, value.trim_matches('"'))
        });
        lines.collect::<Vec<_>>().join(" ")
    }
}

/// Whether clients need a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientAuth {
    /// Clients are not asked for a certificate.
    #[default]
    None,
    /// A client may have none. A certificate that is not valid is refused.
    Optional,
    /// A client without a valid certificate is refused.
    Required,
}

impl FromStr for ClientAuth {
    type Err = String;

    fn from_str(text: &str) -> Result<ClientAuth, String> {
        match text {
            "none" => Ok(ClientAuth::None),
            "optional" => Ok(ClientAuth::Optional),
            "required" => Ok(ClientAuth::Required),
            _ => Err("expected none, optional or required".to_owned()),
        }
    }
}

impl fmt::Display for ClientAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ClientAuth::None => "none",
            ClientAuth::Optional => "optional",
            ClientAuth::Required => "required",
        })
    }
}

/// The documentation of a setting.
#[derive(Debug, Clone)]
pub struct Description {
    /// Name of the setting, as `section.key`.
    pub key: &'static str,
    /// The description of the setting, in sentences.
    pub doc: String,
    /// The built-in value as TOML. `None` if it depends on the machine.
    pub default: Option<String>,
    /// The valid values.
    pub values: String,
    /// The environment variable that sets it.
    pub variable: String,
    /// Whether a running node takes over a new value at a reload.
    pub reloads: bool,
}

/// Returns each section with its description and the documentation of its settings.
pub fn describe() -> impl Iterator<Item = (&'static str, &'static str, Vec<Description>)> {
    SECTIONS.iter().map(|(section, about)| {
        let is_in = |setting: &&Setting| section_and_name(setting.key).0 == *section;
        (*section, about.trim(), SETTINGS.iter().filter(is_in).map(describe_setting).collect())
    })
}

fn describe_setting(setting: &Setting) -> Description {
    let built_in = Config::default();
    Description {
        key: setting.key,
        doc: [&[setting.doc], setting.more].concat().concat().trim().to_owned(),
        default: (!setting.per_machine).then(|| (setting.show)(&built_in)),
        values: (setting.values)(),
        variable: layers::variable(setting.key),
        reloads: setting.reloads,
    }
}

/// Splits a key. A key without a section has an empty one.
fn section_and_name(key: &str) -> (&str, &str) {
    key.split_once('.').unwrap_or(("", key))
}

/// Describes the valid values of a setting of type `T`.
fn values<T>(syntax: &impl syntax::Syntax<T>) -> String {
    syntax.values()
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No setting accepts a value that can only be a mistake. Words and addresses refuse these values anyway.
    #[test]
    fn absurd_values_are_refused_by_every_setting() {
        const FREE_TEXT: [&str; 10] = [
            "store.dir",
            "log.level",
            "tls.certificate",
            "tls.key",
            "tls.client_ca",
            "auth.credentials",
            "audit.file",
            "site.name",
            "site.language",
            "site.description",
        ];
        let absurd =
            ["-1", "1e9", "NaN", "99999999999999", "999999999TiB", "999999999d", "18446744073709551616", "𝟙"];
        for setting in SETTINGS.iter().filter(|setting| !FREE_TEXT.contains(&setting.key)) {
            for value in absurd {
                let error = (setting.set)(&mut Config::default(), value).unwrap_err();
                assert!(error.starts_with("expected "), "{} = {value}: {error}", setting.key);
            }
        }
    }

    /// The description of a range is true at its bounds.
    #[test]
    fn the_described_bounds_are_accepted() {
        let mut ranges = 0;
        for setting in SETTINGS {
            let values = (setting.values)();
            let Some((_, range)) = values.split_once(" from ") else { continue };
            let (min, max) = range.split_once(" to ").unwrap();
            for bound in [min, max] {
                assert_eq!((setting.set)(&mut Config::default(), bound), Ok(()), "{} = {bound}", setting.key);
            }
            ranges += 1;
        }
        assert!(ranges >= 20, "{ranges} settings have a range");
    }
}
