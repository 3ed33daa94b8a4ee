//! How settings write their values, apart from durations and sizes.

use std::{fmt::Display, net::SocketAddr, path::PathBuf, str::FromStr};

use super::Share;
use crate::telemetry;

/// The text form of a setting's values of type `T`.
pub(super) trait Syntax<T> {
    /// Parses a value, or returns a description of valid values.
    fn parse(&self, text: &str) -> Result<T, String>;

    /// Returns a value as TOML.
    fn show(&self, value: &T) -> String;
}

/// Returns a string of TOML.
pub(super) fn quoted(text: impl Display) -> String {
    toml::Value::String(text.to_string()).to_string()
}

/// An IP address and a port.
pub(super) struct Address;

impl Syntax<SocketAddr> for Address {
    fn parse(&self, text: &str) -> Result<SocketAddr, String> {
        text.parse().map_err(|_| "expected an IP address and a port, such as \"127.0.0.1:7190\"".to_owned())
    }

    fn show(&self, value: &SocketAddr) -> String {
        quoted(value)
    }
}

/// An address, or `off`.
pub(super) struct AddressOrOff;

impl Syntax<Option<SocketAddr>> for AddressOrOff {
    fn parse(&self, text: &str) -> Result<Option<SocketAddr>, String> {
        if text == "off" { Ok(None) } else { Address.parse(text).map(Some) }
    }

    fn show(&self, value: &Option<SocketAddr>) -> String {
        value.map_or_else(|| quoted("off"), quoted)
    }
}

/// `true` or `false`.
pub(super) struct Boolean;

impl Syntax<bool> for Boolean {
    fn parse(&self, text: &str) -> Result<bool, String> {
        text.parse().map_err(|_| "expected true or false".to_owned())
    }

    fn show(&self, value: &bool) -> String {
        value.to_string()
    }
}

/// A whole number above 0.
pub(super) struct Count;

impl<N: FromStr + PartialOrd + From<u8> + Display> Syntax<N> for Count {
    fn parse(&self, text: &str) -> Result<N, String> {
        let number = text.parse().ok().filter(|n| *n >= N::from(1));
        number.ok_or_else(|| "expected a whole number above 0".to_owned())
    }

    fn show(&self, value: &N) -> String {
        value.to_string()
    }
}

/// A number of threads.
pub(super) struct Threads {
    /// The largest number.
    pub(super) max: usize,
}

impl Syntax<usize> for Threads {
    fn parse(&self, text: &str) -> Result<usize, String> {
        let number = text.parse().ok().filter(|n| (1..=self.max).contains(n));
        number.ok_or_else(|| format!("expected a number from 1 to {}", self.max))
    }

    fn show(&self, value: &usize) -> String {
        value.to_string()
    }
}

/// The path of a directory.
pub(super) struct Directory;

impl Syntax<PathBuf> for Directory {
    fn parse(&self, text: &str) -> Result<PathBuf, String> {
        if text.is_empty() { Err("expected the path of a directory".to_owned()) } else { Ok(text.into()) }
    }

    fn show(&self, value: &PathBuf) -> String {
        quoted(value.display())
    }
}

/// The path of a file, or nothing.
pub(super) struct FilePath;

impl Syntax<PathBuf> for FilePath {
    fn parse(&self, text: &str) -> Result<PathBuf, String> {
        Ok(text.into())
    }

    fn show(&self, value: &PathBuf) -> String {
        quoted(value.display())
    }
}

/// Origins as browsers write them, separated by commas: scheme, host and port, with nothing after them.
pub(super) struct Origins;

impl Syntax<Vec<String>> for Origins {
    fn parse(&self, text: &str) -> Result<Vec<String>, String> {
        let all = text.split(',').map(str::trim).filter(|origin| !origin.is_empty());
        let expected = || "expected only scheme and host, such as \"https://desk.example\"".to_owned();
        all.map(|origin| is_origin(origin).then(|| origin.to_owned()).ok_or_else(expected)).collect()
    }

    fn show(&self, value: &Vec<String>) -> String {
        quoted(value.join(","))
    }
}

fn is_origin(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(['/', '?', '#', '*', '@']))
}

/// A number from 0 to 1.
pub(super) struct Fraction;

impl Syntax<Share> for Fraction {
    fn parse(&self, text: &str) -> Result<Share, String> {
        text.parse()
    }

    fn show(&self, value: &Share) -> String {
        value.to_string()
    }
}

/// A filter of log events.
pub(super) struct Level;

impl Syntax<String> for Level {
    fn parse(&self, text: &str) -> Result<String, String> {
        telemetry::check_level(text).map(|()| text.to_owned())
    }

    fn show(&self, value: &String) -> String {
        quoted(value)
    }
}

/// One of a few words.
pub(super) struct Word;

impl<T: FromStr<Err = String> + Display> Syntax<T> for Word {
    fn parse(&self, text: &str) -> Result<T, String> {
        text.parse()
    }

    fn show(&self, value: &T) -> String {
        quoted(value)
    }
}
