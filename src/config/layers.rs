//! The layers of the settings, from the built-in values to the flags, and the configuration that results.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use toml::de::{DeTable, DeValue};

use super::{ClientAuth, Config, SETTINGS, Setting, Share};
use crate::near;

/// The settings files to look for, in this order, if none is named.
pub const SEARCH_PATHS: [&str; 2] = ["cable.toml", "/etc/cable/cable.toml"];

/// The prefix of settings in the environment: `CABLE__SERVER__LISTEN` is `server.listen`.
pub const ENV_PREFIX: &str = "CABLE__";

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
    #[error("{origin}: unknown setting `{key}`{}", did_you_mean(nearest.as_deref()))]
    UnknownKey {
        /// The key as given.
        key: String,
        /// The origin of the key.
        origin: Origin,
        /// The setting that the key is likely to mean, as that layer writes it.
        nearest: Option<String>,
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
        "`{key}` is {address} ({origin}), which other machines can reach without TLS: {} or, on a network \
         that you trust, set `server.plaintext = true` (flag --plaintext)",
        without_tls(key)
    )]
    Plaintext {
        /// The setting that has the address.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// The origin of the address.
        origin: Origin,
    },
    /// Two listeners have the same address, which they cannot share.
    #[error("`{}` and `{}` are both {address}: use two addresses, or set the second to \"off\"", keys[0], keys[1])]
    SameAddress {
        /// The settings that have the address.
        keys: [&'static str; 2],
        /// The address.
        address: SocketAddr,
    },
    /// A setting has no effect, or no safe one, without another.
    #[error("{origin}: `{key}` needs another setting: {way_out}")]
    Incomplete {
        /// The setting.
        key: &'static str,
        /// The origin of its value.
        origin: Origin,
        /// The settings to change.
        way_out: &'static str,
    },
    /// This program was built without the part that a setting is for.
    #[error(
        "{origin}: `{key}` needs a program that was built with the feature `{feature}`: build it by `cargo build --release \
         --features {feature}`, or remove the setting"
    )]
    Feature {
        /// The setting.
        key: &'static str,
        /// The origin of its value.
        origin: Origin,
        /// The Cargo feature.
        feature: &'static str,
    },
}

/// Returns what to do about an address that other machines can reach, apart from accepting it.
fn without_tls(key: &str) -> &'static str {
    if key == "server.ops_listen" {
        "use a loopback address"
    } else {
        "set `tls.certificate` and `tls.key`, use a loopback address behind a proxy that provides TLS"
    }
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

    /// Returns the settings whose values differ from those of a running node, and that the node takes over only when it
    /// is restarted.
    #[must_use]
    pub fn needing_restart(&self, running: &Config) -> Vec<&'static str> {
        let differs = |setting: &&Setting| (setting.show)(&self.config) != (setting.show)(running);
        let changed = SETTINGS.iter().filter(differs).filter(|setting| !setting.reloads);
        changed.map(|setting| setting.key).collect()
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
            let (of, key) = section_and_name(setting.key);
            if of != section {
                let gap = if section.is_empty() { "" } else { "\n" };
                text += &format!("{gap}[{of}]\n");
                section = of;
            }
            let value = (setting.show)(&self.config);
            let from = if with_origins { format!("  # {origin}") } else { String::new() };
            // Another machine that reads the file must not take over this machine's number of cores.
            let unset = *origin == Origin::Default && setting.per_machine;
            let key = if unset { format!("#{key}") } else { key.to_owned() };
            // The line starts with the space that follows the slashes of the comment.
            text += &format!("#{}\n{key} = {value}{from}\n", setting.doc);
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
        let Some(at) = index_of(key) else {
            return Err(unknown_key(key, origin));
        };
        let setting = &SETTINGS[at];
        (setting.set)(&mut self.config, value.trim()).map_err(|expected| Error::Value {
            key: setting.key,
            value: without_user(value),
            origin: origin.clone(),
            expected,
        })?;
        self.origins[at] = origin;
        Ok(())
    }

    fn check(&self) -> Result<(), Error> {
        let server = &self.config.server;
        let addresses = [
            ("server.listen", Some(server.listen)),
            ("publish.listen", self.config.publish.listen),
            ("server.ops_listen", server.ops_listen),
        ];
        for (key, address) in addresses {
            match address {
                Some(address) if !self.may_serve(key) && !is_loopback(address.ip()) => {
                    return Err(Error::Plaintext { key, address, origin: self.origin(key) });
                }
                _ => {}
            }
        }
        // Port 0 is a different port each time.
        for (at, (key, address)) in addresses.iter().enumerate() {
            let same = addresses[at + 1..].iter().find(|(_, other)| other.is_some() && other == address);
            if let (Some((other, _)), Some(address)) = (same, address.filter(|address| address.port() != 0)) {
                return Err(Error::SameAddress { keys: [key, other], address });
            }
        }
        if self.config.telemetry.otlp_endpoint.is_some() && !cfg!(feature = "otlp") {
            let key = "telemetry.otlp_endpoint";
            return Err(Error::Feature { key, origin: self.origin(key), feature: "otlp" });
        }
        match self.find_incomplete() {
            Some((key, way_out)) => Err(Error::Incomplete { key, origin: self.origin(key), way_out }),
            None => Ok(()),
        }
    }

    /// Whether an address that other machines can reach may be served.
    fn may_serve(&self, key: &str) -> bool {
        self.config.server.plaintext || key != "server.ops_listen" && self.config.tls.certificate.is_some()
    }

    /// Returns a setting that needs another one, and which.
    fn find_incomplete(&self) -> Option<(&'static str, &'static str)> {
        let (server, tls, telemetry) = (&self.config.server, &self.config.tls, &self.config.telemetry);
        let site = &self.config.site;
        let verifies = tls.client_auth != ClientAuth::None;
        let needs = [
            ("tls.certificate", tls.certificate.is_some() && tls.key.is_none(), "set `tls.key` as well"),
            ("tls.key", tls.key.is_some() && tls.certificate.is_none(), "set `tls.certificate` as well"),
            (
                "tls.client_ca",
                tls.client_ca.is_some() && (tls.certificate.is_none() || !verifies),
                "set `tls.certificate` and `tls.key`, and `tls.client_auth` to \"optional\" or \"required\"",
            ),
            (
                "tls.client_auth",
                verifies && tls.client_ca.is_none(),
                "set `tls.client_ca` to the authorities that issue client certificates",
            ),
            (
                "server.proxy_protocol",
                server.proxy_protocol && server.trusted_proxies.is_empty(),
                "set `server.trusted_proxies` to the networks of the proxies",
            ),
            (
                "telemetry.otlp_ratio",
                telemetry.otlp_ratio != Share::NONE && telemetry.otlp_endpoint.is_none(),
                "set `telemetry.otlp_endpoint` to the address of a collector",
            ),
            (
                "site.url",
                site.url.is_some() && (site.name.is_empty() || site.language.is_empty()),
                "set `site.name` and `site.language`, which feeds and sitemaps state",
            ),
        ];
        needs.into_iter().find(|(_, incomplete, _)| *incomplete).map(|(key, _, way_out)| (key, way_out))
    }

    fn origin(&self, key: &str) -> Origin {
        index_of(key).map_or(Origin::Default, |at| self.origins[at].clone())
    }
}

/// Returns a value without the user and the password of a URL, for an error, which is printed and logged.
fn without_user(value: &str) -> String {
    match value.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once('@')?.1))) {
        Some((scheme, host)) => format!("{scheme}://...@{host}"),
        None => value.to_owned(),
    }
}

/// Returns the index of a setting in [`SETTINGS`].
fn index_of(key: &str) -> Option<usize> {
    SETTINGS.iter().position(|setting| setting.key == key)
}

/// Splits a key. A key without a section has an empty one.
fn section_and_name(key: &str) -> (&str, &str) {
    key.split_once('.').unwrap_or(("", key))
}

fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

/// Returns a warning if a variable is almost that of a setting: with one underscore too few, in lower case, or without
/// the section.
fn misspelling_warning(name: &str) -> Option<String> {
    let letters = |text: &str| text.replace(['_', '.'], "").to_ascii_lowercase();
    let upper = name.to_ascii_uppercase();
    let rest = upper.strip_prefix("CABLE_")?;
    let is_meant = |key: &str| letters(key) == letters(rest);
    let with_section = SETTINGS.iter().find(|setting| is_meant(setting.key));
    let by_name = || SETTINGS.iter().find(|setting| is_meant(section_and_name(setting.key).1));
    let intended = with_section.or_else(by_name)?;
    Some(format!("environment variable {name} ignored; did you mean {}?", variable(intended.key)))
}

/// Returns the environment variable of a setting.
pub(super) fn variable(key: &str) -> String {
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

/// Returns the error of a key that is not a setting, with the setting that it is likely to mean.
fn unknown_key(key: &str, origin: Origin) -> Error {
    let nearest = nearest_setting(key);
    let nearest = match origin {
        Origin::Env(_) => nearest.map(variable),
        _ => nearest.or_else(|| nearest_section(key)).map(str::to_owned),
    };
    Error::UnknownKey { key: key.to_owned(), origin, nearest }
}

/// Returns the setting that a key is likely to mean: its section or its name is misspelt, or it belongs to another
/// section.
fn nearest_setting(key: &str) -> Option<&'static str> {
    let keys = || SETTINGS.iter().map(|setting| setting.key);
    let (section, name) = section_and_name(key);
    // Compared as a whole, two keys of one section would have much in common.
    let in_section = |setting: &&str| {
        section.is_empty() || near::nearest(section, [section_and_name(setting).0], |known| known).is_some()
    };
    near::nearest(name, keys().filter(in_section), |setting| section_and_name(setting).1)
        .or_else(|| keys().find(|setting| section_and_name(setting).1 == name))
}

/// Returns the section that a key without a section is likely to mean.
fn nearest_section(key: &str) -> Option<&'static str> {
    near::nearest(key, SETTINGS.iter().map(|setting| section_and_name(setting.key).0), |section| section)
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |nearest| format!("; did you mean `{nearest}`?"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{
        super::{Auth, Cache, Connections, Feed, Log, Publish, Rate, Server, Site, Store, Tls, Web},
        *,
    };
    use crate::{
        auth::{Anonymous, Role},
        telemetry,
    };

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
            ("\n[sever]\n", "FILE:2: unknown setting `sever`; did you mean `server`?"),
            (
                "[server]\ndrain = '1s'",
                "unknown setting `server.drain`; did you mean `server.drain_timeout`?",
            ),
            ("[cache]\nlisten = 'x'", "unknown setting `cache.listen`; did you mean `server.listen`?"),
            ("[server.listen]\nx = 1", "invalid value \"{...}\" for `server.listen`"),
        ] {
            let error = load_error(text);
            assert!(error.contains(expected), "{text:?}: {error}");
        }
        for text in ["[tls]\nquota = 'x'", "quota = 1", "[server]\ntoken = 'x'", "[quotas]\n"] {
            let error = load_error(text);
            assert!(
                error.contains("unknown setting") && !error.contains("did you mean"),
                "{text:?}: {error}"
            );
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
            ("[cache]\nmax_bytes = '999999GiB'", "expected at most 64TiB"),
            ("[connections]\nping_interval = '1d'", "expected at most 1h"),
            ("[connections]\nrequest_timeout = '9999999d'", "expected at most 31d"),
            ("[feed]\nhistory_retention = '99999999d'", "expected at most 36500d"),
            ("[connections]\nmax = 99999999999", "expected a whole number from 1 to 1000000000"),
            ("[cache]\nmax_bytes = [1]", "invalid value \"[...]\" for `cache.max_bytes`"),
            ("[connections]\nmax_buffered_response_bytes = '1MiB'", "expected at least 16MiB"),
            ("[connections]\nmax_buffered_request_bytes = 0", "expected at least 64MiB"),
            ("[web]\norigins = 'https://*'", "expected only scheme and host"),
            ("[web]\nhorizon = '0s'", "expected at least 1s"),
            ("[web]\nhorizon = '2h'", "expected at most 1h"),
            ("[web]\nmax_age = '2d'", "expected at most 1d"),
            ("[web]\norigins = 'https://a.example/'", "expected only scheme and host"),
            ("[web]\norigins = 'https://a.example,*.example'", "expected only scheme and host"),
            ("[connections]\nmax = '+5'", "expected a whole number from 1 to 1000000000"),
            ("[store]\nreaders = '+5'", "expected a number from 1 to 64"),
            ("[server]\ntrusted_proxies = '10.0.0.0/+8'", "expected networks such as"),
            ("[telemetry]\notlp_endpoint = '*'", "expected only scheme, host and port"),
            ("[telemetry]\notlp_endpoint = 'http://*'", "expected only scheme, host and port"),
            ("[telemetry]\notlp_endpoint = '127.0.0.1:4317'", "expected only scheme, host and port"),
            ("[site]\nurl = 'news.example'", "for `site.url`: expected only scheme, host and port"),
            ("[site]\nurl = '/'", "for `site.url`: expected"),
            ("[site]\nurl = '*'", "for `site.url`: expected"),
            ("[site]\nurl = 'ftp://news.example'", "for `site.url`: expected"),
            ("[site]\nurl = 'https://'", "for `site.url`: expected"),
            ("[site]\nurl = 'https://:8443'", "for `site.url`: expected"),
            ("[site]\nurl = 'https://news.example:'", "for `site.url`: expected"),
            ("[site]\nurl = 'https://news.example:99999'", "for `site.url`: expected"),
            ("[site]\nurl = 'https://news.example/blog'", "for `site.url`: expected"),
            ("[site]\nurl = 'https://news.example?x'", "for `site.url`: expected"),
            ("[site]\nurl = 'https://me@news.example'", "for `site.url`: expected"),
            ("[site]\nurl = 'https://a\"b'", "for `site.url`: expected"),
            ("[site]\nname = \"a\\nb\"", "for `site.name`: expected a text in one line"),
            ("[site]\nlanguage = 'english'", "for `site.language`: expected a BCP 47 language tag"),
            ("[site]\nlanguage = 'en_GB'", "for `site.language`: expected"),
            (
                "[telemetry]\notlp_endpoint = 'https://user:secret@a.example'",
                "expected only scheme, host and port",
            ),
            ("[telemetry]\notlp_ratio = 2", "expected a number from 0 to 1"),
            ("[log]\nlevel = 'info,=,'", "invalid value \"info,=,\" for `log.level`"),
            ("[log]\nformat = 'xml'", "expected text or json"),
            ("[log]\nformat = ", "FILE:2: "),
        ] {
            let error = load_error(text);
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }

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
    fn a_reachable_address_needs_no_plaintext_with_tls() {
        let with = |text: &str| {
            let (_dir, path) = file(text);
            Effective::load(Layers { file: Some(path), ..Default::default() })
        };
        let tls = "[tls]\ncertificate = 'a'\nkey = 'b'\n[server]\n";
        assert!(with(&format!("{tls}listen = '0.0.0.0:7190'")).is_ok());
        let ops = with(&format!("{tls}ops_listen = '0.0.0.0:7191'")).unwrap_err();
        assert!(matches!(ops, Error::Plaintext { key: "server.ops_listen", .. }), "{ops}");
        assert!(!ops.to_string().contains("tls."), "the operations port has no TLS: {ops}");
        let plain = with("[server]\nlisten = '0.0.0.0:7190'").unwrap_err().to_string();
        assert!(plain.contains("set `tls.certificate` and `tls.key`"), "{plain}");
    }

    #[test]
    fn a_setting_that_needs_another_is_refused_with_its_name() {
        for (text, expected) in [
            ("[tls]\ncertificate = 'a'", "`tls.certificate` needs another setting: set `tls.key`"),
            ("[tls]\nkey = 'a'", "`tls.key` needs another setting: set `tls.certificate`"),
            ("[tls]\ncertificate='a'\nkey='b'\nclient_ca = 'c'", "`tls.client_auth` to \"optional\""),
            ("[tls]\nclient_ca='c'\nclient_auth = 'required'", "set `tls.certificate` and `tls.key`"),
            ("[tls]\ncertificate='a'\nkey='b'\nclient_auth = 'optional'", "set `tls.client_ca`"),
            ("[server]\nproxy_protocol = true", "set `server.trusted_proxies`"),
            ("[telemetry]\notlp_ratio = 0.5", "set `telemetry.otlp_endpoint`"),
            ("[site]\nurl = 'https://a.example'", "`site.url` needs another setting: set `site.name`"),
            ("[site]\nurl = 'https://a.example'\nname = 'A'", "and `site.language`"),
        ] {
            let error = load_error(text);
            assert!(error.starts_with("FILE:") && error.contains(expected), "{text:?}: {error}");
        }
        for (text, expected) in [
            ("[tls]\nclient_auth = 'yes'", "expected none, optional or required"),
            ("[tls]\nreload_interval = '0s'", "expected at least 100ms"),
            ("[server]\ntrusted_proxies = '10.0.0.0/33'", "expected networks such as"),
        ] {
            let error = load_error(text);
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_refusal_shows_no_password_of_a_url() {
        for key in ["[telemetry]\notlp_endpoint", "[web]\norigins", "[server]\nlisten"] {
            let error = load_error(&format!("{key} = 'https://averil:canary@a.example:4317'"));
            assert!(error.contains("https://...@a.example:4317"), "{error}");
            assert!(!error.contains("canary") && !error.contains("averil"), "{error}");
        }
    }

    #[test]
    fn a_collector_needs_the_feature_that_its_refusal_names() {
        let (_dir, path) = file("[telemetry]\notlp_endpoint = 'http://127.0.0.1:4317'");
        let loaded = Effective::load(Layers { file: Some(path.clone()), ..Default::default() });
        if cfg!(feature = "otlp") {
            let config = loaded.unwrap().into_config();
            assert_eq!(config.telemetry.otlp_endpoint.as_deref(), Some("http://127.0.0.1:4317"));
            return;
        }
        let error = loaded.unwrap_err().to_string();
        for part in [":2: `telemetry.otlp_endpoint`", "the feature `otlp`", "--features otlp`", "remove"] {
            assert!(error.contains(part), "{part}: {error}");
        }
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
        assert!(matches!(same(7000), Err(Error::SameAddress { .. })));
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
                trusted_proxies: vec!["10.0.0.0/8".parse().unwrap(), "::1".parse().unwrap()],
                proxy_protocol: true,
                lame_duck: 5 * SECOND,
                drain_timeout: Duration::from_millis(1500),
                threads: 3,
            },
            tls: Tls {
                certificate: Some("tls/node.pem".into()),
                key: Some("tls/node.key".into()),
                client_ca: Some("a \"b\"".into()),
                client_auth: ClientAuth::Optional,
                reload_interval: SECOND,
            },
            connections: Connections {
                max: 7,
                max_per_peer: 1,
                max_streams: 2,
                max_age: SECOND,
                ..Connections::default()
            },
            publish: Publish { listen: Some("127.0.0.1:7192".parse().unwrap()) },
            auth: Auth {
                credentials: Some("/etc/cable/credentials.toml".into()),
                anonymous: Anonymous::Role(Role::Reader),
            },
            rate: Rate { credential_calls: 100, address_calls: 20, failures_per_minute: 0 },
            overload: super::super::Overload { max_delay: 50 * SECOND, max_memory_bytes: 1 << 30 },
            site: Site {
                url: Some("https://a.example:8443".to_owned()),
                name: "The \"A\" & co".to_owned(),
                language: "en-GB".to_owned(),
                description: "News".to_owned(),
            },
            web: Web {
                enabled: false,
                max_age: 5 * SECOND,
                horizon: 300 * SECOND,
                origins: vec![
                    "https://a.example".to_owned(),
                    "http://b.example:8080".to_owned(),
                    "*".to_owned(),
                ],
            },
            store: Store {
                dir: "a \"b\"\\c".into(),
                reserve_bytes: 0,
                scrub_interval: Duration::from_secs(7_200),
                readers: 64,
            },
            cache: Cache { max_bytes: 2_000_000 },
            feed: Feed {
                max_open: 3,
                history_retention: 36 * 3_600 * SECOND,
                history_min_entries: 7,
                max_consumers: 1_000,
                max_consumers_per_caller: 9,
                consumer_retention: 60 * SECOND,
            },
            log: Log {
                level: "info,cable=debug".into(),
                format: telemetry::Format::Json,
                access: "0.25".parse().unwrap(),
                access_slow: Duration::from_millis(250),
            },
            audit: super::super::Audit {
                file: Some("/var/log/cable/audit.log".into()),
                max_file_bytes: 5 << 20,
                max_files: 7,
            },
            // Without the feature, the address is refused, and the share needs it.
            telemetry: if cfg!(feature = "otlp") {
                super::super::Telemetry {
                    otlp_endpoint: Some("https://collector.example:4317".to_owned()),
                    otlp_ratio: "0.125".parse().unwrap(),
                }
            } else {
                super::super::Telemetry::default()
            },
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
    fn a_changed_setting_needs_a_restart_unless_it_reloads() {
        let running = Config::default();
        assert!(Effective::load(Layers::default()).unwrap().needing_restart(&running).is_empty());
        let (_dir, path) = file(
            "[server]\ndrain_timeout = '1s'\nthreads = 64\n[store]\ndir = 'other'\n[cache]\nmax_bytes = '256MiB'\n\
             [log]\nlevel = 'debug'\nformat = 'json'",
        );
        let loaded = Effective::load(Layers { file: Some(path), ..Default::default() }).unwrap();
        assert_eq!(
            loaded.needing_restart(&running),
            ["server.drain_timeout", "server.threads", "store.dir", "log.format"]
        );
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
            "CABLE_LISTEN",
            "CABLE_MAX_BYTES",
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
                warning(names[4], "CABLE__SERVER__LISTEN"),
                warning(names[5], "CABLE__CACHE__MAX_BYTES"),
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
