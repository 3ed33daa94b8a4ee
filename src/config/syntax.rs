//! How settings write their values, apart from durations and sizes.

use std::{fmt::Display, net::SocketAddr, path::PathBuf, str::FromStr};

use super::{
    Share,
    network::{self, Network},
};
use crate::{
    model::{
        number,
        text::{self, Lines},
    },
    telemetry,
};

/// The text form of a setting's values of type `T`.
pub(super) trait Syntax<T> {
    /// Parses a value, or returns a description of valid values.
    fn parse(&self, text: &str) -> Result<T, String>;

    /// Returns a value as TOML.
    fn show(&self, value: &T) -> String;

    /// Describes the valid values.
    fn values(&self) -> String;
}

/// Returns the error of an invalid value.
pub(super) fn expected<T>(syntax: &impl Syntax<T>) -> String {
    format!("expected {}", syntax.values())
}

/// Returns a string of TOML.
pub(super) fn quoted(text: impl Display) -> String {
    toml::Value::String(text.to_string()).to_string()
}

/// An IP address and a port.
pub(super) struct Address;

impl Syntax<SocketAddr> for Address {
    fn parse(&self, text: &str) -> Result<SocketAddr, String> {
        text.parse().map_err(|_| expected(self))
    }

    fn show(&self, value: &SocketAddr) -> String {
        quoted(value)
    }

    fn values(&self) -> String {
        "an IP address and a port, such as \"127.0.0.1:7190\"".to_owned()
    }
}

/// An address, or `off`.
pub(super) struct AddressOrOff;

impl Syntax<Option<SocketAddr>> for AddressOrOff {
    fn parse(&self, text: &str) -> Result<Option<SocketAddr>, String> {
        match text {
            "off" => Ok(None),
            address => address.parse().map(Some).map_err(|_| expected(self)),
        }
    }

    fn show(&self, value: &Option<SocketAddr>) -> String {
        value.map_or_else(|| quoted("off"), quoted)
    }

    fn values(&self) -> String {
        format!("{}, or \"off\"", Address.values())
    }
}

/// `true` or `false`.
pub(super) struct Boolean;

impl Syntax<bool> for Boolean {
    fn parse(&self, text: &str) -> Result<bool, String> {
        text.parse().map_err(|_| expected(self))
    }

    fn show(&self, value: &bool) -> String {
        value.to_string()
    }

    fn values(&self) -> String {
        "true or false".to_owned()
    }
}

/// Maximum of a count. A larger one is a typing error: it exceeds the file descriptors and the memory of any machine.
const MAX_COUNT: u64 = 1_000_000_000;

/// A whole number above 0.
pub(super) struct Count;

impl<N: TryFrom<u64> + Display> Syntax<N> for Count {
    fn parse(&self, text: &str) -> Result<N, String> {
        let number = number::decimal(text).filter(|number| (1..=MAX_COUNT).contains(number));
        number.and_then(|number| N::try_from(number).ok()).ok_or_else(|| expected::<N>(self))
    }

    fn show(&self, value: &N) -> String {
        value.to_string()
    }

    fn values(&self) -> String {
        format!("a whole number from 1 to {MAX_COUNT}")
    }
}

/// A whole number.
pub(super) struct Number;

impl Syntax<u32> for Number {
    fn parse(&self, text: &str) -> Result<u32, String> {
        number::decimal(text).ok_or_else(|| expected(self))
    }

    fn show(&self, value: &u32) -> String {
        value.to_string()
    }

    fn values(&self) -> String {
        format!("a whole number from 0 to {}", u32::MAX)
    }
}

/// A whole number from 1 to a maximum.
pub(super) struct UpTo {
    /// The largest number.
    pub(super) max: usize,
}

impl Syntax<usize> for UpTo {
    fn parse(&self, text: &str) -> Result<usize, String> {
        let number = number::decimal(text).filter(|n| (1..=self.max).contains(n));
        number.ok_or_else(|| expected(self))
    }

    fn show(&self, value: &usize) -> String {
        value.to_string()
    }

    fn values(&self) -> String {
        format!("a number from 1 to {}", self.max)
    }
}

/// The path of a directory.
pub(super) struct Directory;

impl Syntax<PathBuf> for Directory {
    fn parse(&self, text: &str) -> Result<PathBuf, String> {
        if text.is_empty() { Err(expected(self)) } else { Ok(text.into()) }
    }

    fn show(&self, value: &PathBuf) -> String {
        quoted(value.display())
    }

    fn values(&self) -> String {
        "the path of a directory".to_owned()
    }
}

/// The path of a file, or nothing.
pub(super) struct OptionalFile;

impl Syntax<Option<PathBuf>> for OptionalFile {
    fn parse(&self, text: &str) -> Result<Option<PathBuf>, String> {
        Ok(Some(text).filter(|text| !text.is_empty()).map(PathBuf::from))
    }

    fn show(&self, value: &Option<PathBuf>) -> String {
        value.as_ref().map_or_else(|| quoted(""), |path| quoted(path.display()))
    }

    fn values(&self) -> String {
        "the path of a file, or nothing".to_owned()
    }
}

/// Networks, separated by commas.
pub(super) struct Networks;

impl Syntax<Vec<Network>> for Networks {
    fn parse(&self, text: &str) -> Result<Vec<Network>, String> {
        network::parse_all(text)
    }

    fn show(&self, value: &Vec<Network>) -> String {
        let all: Vec<String> = value.iter().map(Network::to_string).collect();
        quoted(all.join(","))
    }

    fn values(&self) -> String {
        network::EXPECTED.to_owned()
    }
}

/// Origins as browsers write them, separated by commas: scheme, host and port, with nothing after them; or `*`.
pub(super) struct Origins;

impl Syntax<Vec<String>> for Origins {
    fn parse(&self, text: &str) -> Result<Vec<String>, String> {
        let all = text.split(',').map(str::trim).filter(|origin| !origin.is_empty());
        all.map(|origin| {
            (origin == "*" || is_origin(origin)).then(|| origin.to_owned()).ok_or_else(|| expected(self))
        })
        .collect()
    }

    fn show(&self, value: &Vec<String>) -> String {
        quoted(value.join(","))
    }

    fn values(&self) -> String {
        "only scheme and host, such as \"https://desk.example\", separated by commas, or \"*\" for reads by any page"
            .to_owned()
    }
}

/// The address of a server: scheme, host and port. Nothing if there is none.
pub(super) struct OptionalOrigin;

impl Syntax<Option<String>> for OptionalOrigin {
    fn parse(&self, text: &str) -> Result<Option<String>, String> {
        match text {
            "" => Ok(None),
            text if is_origin(text) => Ok(Some(text.to_owned())),
            _ => Err(expected(self)),
        }
    }

    fn show(&self, value: &Option<String>) -> String {
        quoted(value.as_deref().unwrap_or_default())
    }

    fn values(&self) -> String {
        "only scheme, host and port, such as \"http://127.0.0.1:4317\", or nothing".to_owned()
    }
}

fn is_origin(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(['/', '?', '#', '*', '@']))
}

/// Maximum size of the address of a site in bytes: the longest name of a host has 253. Each link repeats it.
const MAX_SITE_URL: usize = 270;

/// The address of a site: scheme, host and perhaps a port. Nothing if there is none.
pub(super) struct OptionalSiteUrl;

impl Syntax<Option<String>> for OptionalSiteUrl {
    fn parse(&self, text: &str) -> Result<Option<String>, String> {
        match text.strip_suffix('/').unwrap_or(text) {
            "" if text.is_empty() => Ok(None),
            url if is_site_url(url) => Ok(Some(url.to_owned())),
            _ => Err(expected(self)),
        }
    }

    fn show(&self, value: &Option<String>) -> String {
        quoted(value.as_deref().unwrap_or_default())
    }

    fn values(&self) -> String {
        "only scheme, host and port, such as \"https://news.example\", or nothing".to_owned()
    }
}

fn is_site_url(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let authority = rest.and_then(|rest| rest.parse::<http::uri::Authority>().ok());
    authority.is_some_and(|authority| {
        let (whole, host) = (authority.as_str(), authority.host());
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
        let has_host = host.bytes().any(|byte| byte.is_ascii_alphanumeric()) && whole.bytes().all(is_plain);
        has_host && text.len() <= MAX_SITE_URL && (whole == host || authority.port_u16().is_some())
    })
}

/// A text in one line.
pub(super) struct Line {
    /// The maximum size in bytes.
    pub(super) max: usize,
}

impl Syntax<String> for Line {
    fn parse(&self, text: &str) -> Result<String, String> {
        let is_valid = text.len() <= self.max && text::find_forbidden(text, Lines::One).is_none();
        if is_valid { Ok(text.trim().to_owned()) } else { Err(expected(self)) }
    }

    fn show(&self, value: &String) -> String {
        quoted(value)
    }

    fn values(&self) -> String {
        format!("a text in one line of at most {} bytes, or nothing", self.max)
    }
}

/// A language, or nothing.
pub(super) struct OptionalLanguage;

impl Syntax<String> for OptionalLanguage {
    fn parse(&self, text: &str) -> Result<String, String> {
        // Google News and readers of feeds need a code of two or three letters first.
        let mut subtags = text.split('-');
        let has_code = subtags.next().is_some_and(|code| {
            (2..=3).contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_alphabetic())
        });
        let is_subtag = |subtag: &str| {
            (1..=8).contains(&subtag.len()) && subtag.bytes().all(|byte| byte.is_ascii_alphanumeric())
        };
        let is_valid = text.is_empty() || text.len() <= 64 && has_code && subtags.all(is_subtag);
        if is_valid { Ok(text.to_owned()) } else { Err(expected(self)) }
    }

    fn show(&self, value: &String) -> String {
        quoted(value)
    }

    fn values(&self) -> String {
        "a BCP 47 language tag that starts with a code of two or three letters, such as \"en-GB\", or nothing"
            .to_owned()
    }
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

    fn values(&self) -> String {
        "a number from 0 to 1".to_owned()
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

    fn values(&self) -> String {
        telemetry::LEVELS.to_owned()
    }
}

/// One of a few words.
pub(super) struct Word(pub(super) &'static str);

impl<T: FromStr<Err = String> + Display> Syntax<T> for Word {
    fn parse(&self, text: &str) -> Result<T, String> {
        text.parse()
    }

    fn show(&self, value: &T) -> String {
        quoted(value)
    }

    fn values(&self) -> String {
        self.0.to_owned()
    }
}
