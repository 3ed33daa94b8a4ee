//! The layers of the settings above the built-in values, and the origin of a value in them.

use std::{fmt, path::PathBuf};

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

/// Returns the environment variable of a setting.
pub(super) fn variable(key: &str) -> String {
    format!("{ENV_PREFIX}{}", key.replace('.', "__").to_ascii_uppercase())
}
