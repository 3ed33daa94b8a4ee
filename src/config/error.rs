//! The reasons why the layers of the settings make no configuration.

use std::{net::SocketAddr, path::PathBuf};

use super::Origin;

/// The number of errors that are reported together. The rest is counted.
const MAX_SHOWN: usize = 20;

/// An error that prevents a configuration. The caller can only report it to the operator.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There are several errors. Each has a line of its own.
    #[error("{}", lines(errors, *more))]
    Several {
        /// The first ones.
        errors: Vec<Error>,
        /// The number of the others.
        more: usize,
    },
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
    #[error("{origin}: unknown setting `{key}`{}", did_you_mean(key, nearest.as_deref()))]
    UnknownKey {
        /// The key as given.
        key: String,
        /// The origin of the key.
        origin: Origin,
        /// The setting that the key is likely to mean, as that layer writes it.
        nearest: Option<String>,
    },
    /// Two variables of the environment set one setting, in different spellings. Their order is not defined.
    #[error("environment variables {} and {} set the same setting: unset the second", names[0], names[1])]
    Repeated {
        /// The variables, that in the usual spelling first.
        names: [String; 2],
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

impl Error {
    /// Returns the one error, or all of them; `None` if there are none.
    pub(super) fn of(mut errors: Vec<Error>) -> Option<Error> {
        if errors.len() < 2 {
            return errors.pop();
        }
        let more = errors.len().saturating_sub(MAX_SHOWN);
        errors.truncate(MAX_SHOWN);
        Some(Error::Several { errors, more })
    }

    /// Returns the first errors of several, or this one.
    #[must_use]
    pub fn each(&self) -> &[Error] {
        match self {
            Error::Several { errors, .. } => errors,
            one => std::slice::from_ref(one),
        }
    }
}

fn lines(errors: &[Error], more: usize) -> String {
    let mut lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    lines.join("\n")
}

/// Returns what to do about an address that other machines can reach, apart from accepting it.
fn without_tls(key: &str) -> &'static str {
    if key == "server.ops_listen" {
        "use a loopback address"
    } else {
        "set `tls.certificate` and `tls.key`, use a loopback address behind a proxy that provides TLS"
    }
}

fn did_you_mean(key: &str, nearest: Option<&str>) -> String {
    match nearest {
        Some(section) if section == key => {
            format!(": it is a section; write `[{section}]` above its settings")
        }
        Some(nearest) => format!("; did you mean `{nearest}`?"),
        None => String::new(),
    }
}
