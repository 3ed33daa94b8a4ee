//! A checked configuration: it is made from the layers, and printed as the settings file that results in it.

use std::{fs::File, io, path::Path};

use toml::de::{DeTable, DeValue};

use crate::files;

use super::{
    Config, Error, Flag, Layers, Origin, SETTINGS, Setting, combinations, layers::ENV_PREFIX,
    section_and_name, spelling,
};

/// The maximum size of a settings file in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

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
    /// The file cannot be read, or it is not TOML. Otherwise all keys that do not exist and all values that are not
    /// allowed; if there are none, all values that conflict.
    pub fn load(layers: Layers) -> Result<Self, Error> {
        let mut effective = Effective {
            config: Config::default(),
            origins: vec![Origin::Default; SETTINGS.len()],
            warnings: Vec::new(),
        };
        let mut errors = Vec::new();
        if let Some(path) = &layers.file {
            errors = effective.add_file(path)?;
        }
        for (name, value) in &layers.env {
            if let Some(rest) = name.strip_prefix(ENV_PREFIX) {
                let key = rest.to_ascii_lowercase().replace("__", ".");
                if let Origin::Env(other) = effective.origin(&key) {
                    let mut names = [other, name.clone()];
                    names.sort_by_key(|name| name.bytes().any(|byte| byte.is_ascii_lowercase()));
                    errors.push(Error::Repeated { names });
                    continue;
                }
                errors.extend(effective.set(&key, value, Origin::Env(name.clone())).err());
            } else {
                effective.warnings.extend(spelling::misspelling_warning(name));
            }
        }
        for Flag { name, key, value } in &layers.flags {
            errors.extend(effective.set(key, value, Origin::Flag(name)).err());
        }
        if errors.is_empty() {
            errors = combinations::check(&effective.config, |key| effective.origin(key));
        }
        Error::of(errors).map_or(Ok(effective), Err)
    }

    /// Applies the layers again while a node runs, like [`load`](Effective::load). A file that can be read only once, such
    /// as a pipe, is refused instead of waited for.
    ///
    /// # Errors
    /// Those of [`load`](Effective::load), or the file is not a regular file.
    pub fn load_again(layers: Layers) -> Result<Self, Error> {
        if let Some(path) = &layers.file {
            files::open(path).map_err(|source| Error::Read { path: path.clone(), source })?;
        }
        Self::load(layers)
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

    /// Applies the values of a file. Returns those that are not allowed.
    fn add_file(&mut self, path: &Path) -> Result<Vec<Error>, Error> {
        let failed = |source| Error::Read { path: path.into(), source };
        let content =
            files::read_limited(File::open(path).map_err(failed)?, MAX_FILE_BYTES).map_err(failed)?;
        let content = content.ok_or_else(|| failed(io::Error::other("the file has more than 1 MiB")))?;
        let text = String::from_utf8(content)
            .map_err(|_| failed(io::Error::new(io::ErrorKind::InvalidData, "the file is not UTF-8")))?;
        let line_of =
            |at: usize| text.as_bytes()[..at.min(text.len())].iter().filter(|b| **b == b'\n').count() + 1;
        let table = DeTable::parse(&text).map_err(|source| {
            let line = line_of(source.span().map_or(0, |span| span.start));
            Error::Syntax { path: path.into(), line, source }
        })?;
        let mut errors = Vec::new();
        for (key, value, at) in leaves(table.get_ref(), "") {
            let origin = Origin::File { path: path.into(), line: line_of(at) };
            errors.extend(self.set(&key, &value, origin).err());
        }
        Ok(errors)
    }

    fn set(&mut self, key: &str, value: &str, origin: Origin) -> Result<(), Error> {
        let Some(at) = index_of(key) else {
            return Err(spelling::unknown_key(key, origin));
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

    /// Returns the origin of a setting's value.
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        auth::{Anonymous, Role},
        config::{
            Auth, Cache, ClientAuth, Connections, Feed, Log, Publish, Rate, Server, Site, Store, Tls, Web,
            fixture::{env, file, flag, load_error},
        },
        telemetry,
    };

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

    #[test]
    fn all_errors_are_reported_together_and_conflicts_after_them() {
        let text = "[server]\nlissen = ''\nlisten = '0.0.0.0:7190'\n[store]\nreaders = 0\n[tls]\nkey = 'k'";
        let (_dir, path) = file(text);
        let env = env(&[("CABLE__CACHE__MAX_BYTES", "1"), ("CABLE__LOG__LEVEL", "warn")]);
        let flags = vec![flag("--ops-listen", "server.ops_listen", "here")];
        let layers = Layers { file: Some(path), env, flags };
        let error = Effective::load(layers).unwrap_err();
        let text = error.to_string();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!((lines.len(), error.each().len()), (4, 4), "{text}");
        for (line, part) in
            lines.iter().zip([":2: unknown", ":5: invalid", "CABLE__CACHE__MAX_BYTES", "--ops-listen"])
        {
            assert!(line.contains(part), "{line}");
        }
        let conflicts = load_error(
            "[server]\nlisten = '0.0.0.0:7190'\nproxy_protocol = true\n[site]\nurl = 'https://a.example'",
        );
        for part in ["plaintext", "server.trusted_proxies", "site.name"] {
            assert_eq!(
                conflicts.lines().filter(|line| line.contains(part)).count(),
                1,
                "{part}: {conflicts}"
            );
        }
    }

    #[test]
    fn many_errors_are_counted() {
        let unknown: String = (0..1_000).map(|n| format!("a{n} = 1\n")).collect();
        let error = load_error(&unknown);
        assert_eq!((error.lines().count(), error.lines().last()), (21, Some("and 980 more")));
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
            overload: crate::config::Overload { max_delay: 50 * SECOND, max_memory_bytes: 1 << 30 },
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
            audit: crate::config::Audit {
                file: Some("/var/log/cable/audit.log".into()),
                max_file_bytes: 5 << 20,
                max_files: 7,
            },
            // Without the feature, the address is refused, and the share needs it.
            telemetry: if cfg!(feature = "otlp") {
                crate::config::Telemetry {
                    otlp_endpoint: Some("https://collector.example:4317".to_owned()),
                    otlp_ratio: "0.125".parse().unwrap(),
                }
            } else {
                crate::config::Telemetry::default()
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
