//! The file of contexts: named settings with which commands reach a service.
//!
//! It has the paths of secrets, never secrets. Commands that change it write it as a whole, one after the other.

use std::{
    collections::BTreeMap,
    env,
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use cable::{admin::parent_directory, near};
use rustix::fs::{FlockOperation, flock};
use toml::de::{DeTable, DeValue};

use super::{Error, replace::Replacement};

/// The environment variable that names the file.
pub(crate) const FILE_VARIABLE: &str = "CABLE_CLIENT_CONFIG";

/// The largest file. A thousand contexts have a fifth of it.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The longest name of a context.
const MAX_NAME_BYTES: usize = 64;

/// The paths of a user's secrets are private.
const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;

const HEADER: &str =
    "# Contexts of the command `cable`, which rewrites this file: comments are not preserved.\n";

/// The settings of one context.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Context {
    pub(crate) endpoint: Option<String>,
    pub(crate) ca: Option<PathBuf>,
    pub(crate) client_cert: Option<PathBuf>,
    pub(crate) client_key: Option<PathBuf>,
    pub(crate) domain_name: Option<String>,
    pub(crate) token_file: Option<PathBuf>,
    pub(crate) allow_plaintext_token: bool,
}

/// The contexts of a user, and the name of the one that applies if none is named.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Contexts {
    pub(crate) current: Option<String>,
    pub(crate) all: BTreeMap<String, Context>,
}

impl Context {
    /// Returns the settings that are set, with their keys in the file.
    pub(crate) fn settings(&self) -> Vec<(&'static str, String)> {
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        let settings = [
            ("endpoint", self.endpoint.clone()),
            ("ca", path(&self.ca)),
            ("client_cert", path(&self.client_cert)),
            ("client_key", path(&self.client_key)),
            ("domain_name", self.domain_name.clone()),
            ("token_file", path(&self.token_file)),
            ("allow_plaintext_token", self.allow_plaintext_token.then(|| "true".to_owned())),
        ];
        settings.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
    }

    fn set(&mut self, key: &str, value: &DeValue<'_>) -> Result<(), String> {
        let text = || match value {
            DeValue::String(text) if !text.is_empty() => Ok(text.to_string()),
            _ => Err(format!("`{key}`: expected a string")),
        };
        let path = || text().map(|text| Some(PathBuf::from(text)));
        match key {
            "endpoint" => self.endpoint = Some(text()?),
            "ca" => self.ca = path()?,
            "client_cert" => self.client_cert = path()?,
            "client_key" => self.client_key = path()?,
            "domain_name" => self.domain_name = Some(text()?),
            "token_file" => self.token_file = path()?,
            "allow_plaintext_token" => match value {
                DeValue::Boolean(allow) => self.allow_plaintext_token = *allow,
                _ => return Err(format!("`{key}`: expected true or false")),
            },
            "token" => return Err("`token`: secrets do not belong in this file; set `token_file`".to_owned()),
            _ => return Err(unknown(key, &KEYS)),
        }
        Ok(())
    }
}

/// The keys of a context.
const KEYS: [&str; 7] =
    ["endpoint", "ca", "client_cert", "client_key", "domain_name", "token_file", "allow_plaintext_token"];

fn unknown(key: &str, known: &[&str]) -> String {
    let near = near::nearest(key, known.iter().copied(), |known| *known);
    let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
    format!("unknown key `{key}`{hint}")
}

impl Contexts {
    /// Reads the file. Without a file there are no contexts.
    pub(crate) fn load() -> Result<Contexts, Error> {
        match path() {
            Some(path) => read(&path),
            None => Ok(Contexts::default()),
        }
    }

    /// Returns the context of this name.
    pub(crate) fn get(&self, name: &str) -> Result<&Context, Error> {
        self.all.get(name).ok_or_else(|| {
            let near = near::nearest(name, self.all.keys(), |known| known);
            let hint = match near {
                Some(near) => format!("did you mean {near}?"),
                None if self.all.is_empty() => "there are none; see `cable context add --help`".to_owned(),
                None => format!("there are {}", self.all.keys().cloned().collect::<Vec<_>>().join(", ")),
            };
            Error::Usage(format!("no context {name}: {hint}"))
        })
    }

    /// Changes the file. Other commands that change it wait.
    pub(crate) fn change<T>(change: impl FnOnce(&mut Contexts) -> Result<T, Error>) -> Result<T, Error> {
        let no_path = || Error::Usage(format!("no file for contexts: set HOME or {FILE_VARIABLE}"));
        let path = path().ok_or_else(no_path)?;
        // A link stays one: the file that it names is replaced.
        let path = fs::canonicalize(&path).unwrap_or(path);
        let failed = |source| Replacement::failed(&path, source);
        let directory = parent_directory(&path);
        fs::DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(directory).map_err(failed)?;
        let lock = File::open(directory).map_err(failed)?;
        flock(&lock, FlockOperation::LockExclusive).map_err(|error| failed(error.into()))?;
        let mut contexts = read(&path)?;
        let changed = change(&mut contexts)?;
        let text = contexts.to_toml();
        check_text(&text).map_err(|problem| Error::Usage(format!("{}: {problem}", path.display())))?;
        let mut replacement = Replacement::create_with_mode(&path, FILE_MODE)?;
        replacement.write_all(text.as_bytes()).map_err(failed)?;
        replacement.commit()?;
        Ok(changed)
    }

    fn parse(text: &str) -> Result<Contexts, (usize, String)> {
        let table = DeTable::parse(text)
            .map_err(|error| (error.span().map_or(0, |span| span.start), error.message().to_owned()))?;
        let mut contexts = Contexts::default();
        for (key, value) in table.get_ref() {
            let at = key.span().start;
            match (key.get_ref().as_ref(), value.get_ref()) {
                ("current", DeValue::String(name)) => contexts.current = Some(name.to_string()),
                ("current", _) => return Err((at, "`current`: expected a string".to_owned())),
                ("contexts", DeValue::Table(all)) => {
                    for (name, settings) in all {
                        let context = parse_context(name.get_ref(), settings.get_ref());
                        let context = context
                            .map_err(|(inner, problem)| (inner.unwrap_or(name.span().start), problem))?;
                        contexts.all.insert(name.get_ref().to_string(), context);
                    }
                }
                ("contexts", _) => return Err((at, "`contexts`: expected tables".to_owned())),
                (key, _) => return Err((at, unknown(key, &["current", "contexts"]))),
            }
        }
        Ok(contexts)
    }

    fn to_toml(&self) -> String {
        let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
        let mut text = HEADER.to_owned();
        if let Some(current) = &self.current {
            text += &format!("current = {}\n", quoted(current));
        }
        for (name, context) in &self.all {
            text += &format!("\n[contexts.{}]\n", quoted(name));
            for (key, value) in context.settings() {
                let value = if key == "allow_plaintext_token" { value } else { quoted(&value) };
                text += &format!("{key} = {value}\n");
            }
        }
        text
    }
}

/// Checks that the text of a file can be read again, since every command reads it.
fn check_text(text: &str) -> Result<(), String> {
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(format!("would be larger than {MAX_FILE_BYTES} bytes; remove contexts first"));
    }
    let unreadable = |(_, problem)| format!("could not be read again, and is unchanged: {problem}");
    Contexts::parse(text).map(drop).map_err(unreadable)
}

/// Parses the settings of a context. An error has the offset of its key, if it is that of a key.
fn parse_context(name: &str, settings: &DeValue<'_>) -> Result<Context, (Option<usize>, String)> {
    check_name(name).map_err(|problem| (None, problem))?;
    let DeValue::Table(settings) = settings else {
        return Err((None, format!("context {name}: expected a table")));
    };
    let mut context = Context::default();
    for (key, value) in settings {
        context.set(key.get_ref(), value.get_ref()).map_err(|problem| (Some(key.span().start), problem))?;
    }
    Ok(context)
}

/// Checks the name of a context.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    let is_valid = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(is_valid) || name.starts_with('-')
    {
        return Err(format!(
            "name of a context: must be 1 to {MAX_NAME_BYTES} of the characters A-Z, a-z, 0-9, '.', '_' and '-', \
             and not start with '-'"
        ));
    }
    Ok(())
}

/// Returns the path of the file. `None` if the environment has none of the variables that determine it.
pub(crate) fn path() -> Option<PathBuf> {
    path_by(|name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from))
}

fn path_by(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let in_config = |directory: PathBuf| directory.join("cable/config.toml");
    // The specification of XDG requires that a relative path is ignored.
    let xdg = || variable("XDG_CONFIG_HOME").filter(|path| path.is_absolute()).map(in_config);
    let home = || variable("HOME").map(|home| in_config(home.join(".config")));
    variable(FILE_VARIABLE).or_else(xdg).or_else(home)
}

fn read(path: &Path) -> Result<Contexts, Error> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text));
    match read {
        Ok(bytes) if bytes as u64 > MAX_FILE_BYTES => {
            return Err(Error::Usage(format!("{}: larger than {MAX_FILE_BYTES} bytes", path.display())));
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Contexts::default()),
        Err(error) => return Err(Error::Usage(format!("cannot read {}: {error}", path.display()))),
    }
    Contexts::parse(&text).map_err(|(at, problem)| {
        let line = text.as_bytes()[..at.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1;
        Error::Usage(format!("{}:{line}: {problem}", path.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contexts() -> Contexts {
        let full = Context {
            endpoint: Some("https://cable.internal:7190".into()),
            ca: Some("/etc/\"cable\"/ca.pem".into()),
            client_cert: Some("/c.pem".into()),
            client_key: Some("/c.key".into()),
            domain_name: Some("cable".into()),
            token_file: Some("/run/token".into()),
            allow_plaintext_token: true,
        };
        let bare = Context { endpoint: Some("http://127.0.0.1:1".into()), ..Default::default() };
        let all = [("prod.eu".to_owned(), full), ("local".to_owned(), bare)];
        Contexts { current: Some("local".into()), all: all.into() }
    }

    #[test]
    fn contexts_survive_writing_and_reading() {
        for contexts in [contexts(), Contexts::default()] {
            assert_eq!(Contexts::parse(&contexts.to_toml()).unwrap(), contexts);
        }
        let context = contexts().all.remove("prod.eu").unwrap();
        assert_eq!(context.settings().iter().map(|(key, _)| *key).collect::<Vec<_>>(), KEYS);
    }

    #[test]
    fn a_file_that_could_not_be_read_again_is_refused() {
        assert_eq!(check_text(&contexts().to_toml()), Ok(()));
        let mut many = contexts();
        let context = many.all.values().next().unwrap().clone();
        many.all.extend((0..MAX_FILE_BYTES / 10).map(|at| (format!("c{at}"), context.clone())));
        assert!(check_text(&many.to_toml()).unwrap_err().contains("larger than"));
        assert!(check_text("[contexts.\"\"]").unwrap_err().contains("could not be read again"));
    }

    #[test]
    fn a_broken_file_has_an_error_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        let read_text = |text: &str| {
            fs::write(&path, text).unwrap();
            read(&path).unwrap_err().to_string()
        };
        for (text, line, problem) in [
            ("current = \"a\"\ncontexts = 3\n", 2, "`contexts`: expected tables"),
            ("\ncurrent = 7\n", 2, "`current`: expected a string"),
            ("\n\ncontext = 7\n", 3, "unknown key `context`; did you mean `contexts`?"),
            ("[contexts.a]\nendpoint = \"x\"\ncas = \"y\"\n", 3, "unknown key `cas`; did you mean `ca`?"),
            ("[contexts.a]\nendpoint = 3\n", 2, "`endpoint`: expected a string"),
            ("[contexts.a]\nca = \"\"\n", 2, "`ca`: expected a string"),
            ("[contexts.a]\nallow_plaintext_token = \"yes\"\n", 2, "`allow_plaintext_token`: expected true"),
            ("[contexts.a]\ntoken = \"canary\"\n", 2, "`token`: secrets do not belong in this file"),
            ("\n[contexts]\na = 3\n", 3, "context a: expected a table"),
            ("[contexts.\"a b\"]\n", 1, "name of a context: must be"),
            ("[contexts.a]\nendpoint = \"x\n", 2, ""),
            ("[contexts.a\n", 1, ""),
            ("[contexts.a]\nca = \"x\"\nca = \"y\"\n", 3, ""),
        ] {
            let error = read_text(text);
            let start = format!("{}:{line}: {problem}", path.display());
            assert!(error.starts_with(&start), "{text:?}: {error}");
            assert!(!error.contains("canary"), "{error}");
        }
        let huge = format!("# {}", "x".repeat(MAX_FILE_BYTES as usize));
        assert!(read_text(&huge).ends_with("larger than 1048576 bytes"));
        fs::write(&path, b"\xff\xfe").unwrap();
        assert!(read(&path).unwrap_err().to_string().starts_with("cannot read "));
        assert_eq!(read(&dir.path().join("none")).unwrap(), Contexts::default());
    }

    #[test]
    fn the_path_depends_on_the_environment() {
        let path = |variables: &[(&str, &str)]| {
            let find = |name: &str| variables.iter().find(|(variable, _)| *variable == name);
            path_by(|name| find(name).map(|(_, value)| PathBuf::from(value)))
        };
        let home = ("HOME", "/home/ann");
        assert_eq!(path(&[]), None);
        assert_eq!(path(&[home]), Some("/home/ann/.config/cable/config.toml".into()));
        assert_eq!(path(&[home, ("XDG_CONFIG_HOME", "/xdg")]), Some("/xdg/cable/config.toml".into()));
        assert_eq!(
            path(&[home, ("XDG_CONFIG_HOME", "xdg")]),
            Some("/home/ann/.config/cable/config.toml".into())
        );
        assert_eq!(path(&[home, (FILE_VARIABLE, "own.toml")]), Some("own.toml".into()));
    }

    #[test]
    fn names_of_contexts_are_checked() {
        for name in ["a", "prod.eu-1", "A_b", &"x".repeat(MAX_NAME_BYTES)] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in ["", "a b", "-a", "é", "a/b", "a\n", &"x".repeat(MAX_NAME_BYTES + 1)] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn an_unknown_context_is_an_error_with_the_near_name() {
        let error = |name: &str| contexts().get(name).unwrap_err().to_string();
        assert_eq!(error("locl"), "no context locl: did you mean local?");
        assert_eq!(error("xyz"), "no context xyz: there are local, prod.eu");
        let none = Contexts::default().get("a").unwrap_err().to_string();
        assert_eq!(none, "no context a: there are none; see `cable context add --help`");
    }
}
