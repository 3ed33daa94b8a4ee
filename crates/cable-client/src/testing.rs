//! A server for tests: the program `cable`, on a port of its own, with a store of its own.

use std::{
    ffi::OsString,
    fmt, fs,
    io::{self, BufRead as _, BufReader},
    path::{Path, PathBuf, absolute},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{Cable, Result, Token};

/// The time for a server to start. A debug build on a busy machine needs some seconds.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// The time for a server to drain before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// The interval at which the end of a process is checked.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// The prefix of settings in the environment. Those of this process do not apply.
const SETTING_PREFIX: &str = "CABLE__";
/// The remedy for a program that does not exist.
const NOT_FOUND_HINT: &str = "set CABLE_BIN to the program, or install it in PATH";
/// The lines of the log that the message of a failed start has.
const QUOTED_LINES: usize = 20;

/// A running server with an empty store in a temporary directory. It listens on a free port of 127.0.0.1.
///
/// The server is the program `cable`: the one that [`ServerBuilder::program`] names, else `CABLE_BIN`, else the one in
/// `PATH`. Dropping the value stops it by SIGTERM, after 10 s by SIGKILL, and removes the store.
///
/// ```no_run
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use cable_client::{testing::Server, v1};
///
/// let server = Server::start()?;
/// let cable = server.client()?;
/// let mut article = v1::Article::default();
/// article.name = "storm".into();
/// article.headline = "Storm".into();
/// cable.put(article).await?;
/// assert_eq!(cable.article("storm").await?.headline, "Storm");
/// # Ok(())
/// # }
/// ```
///
/// A test may start it within a runtime: the call blocks for less than a second.
///
/// The server outlives a value that is never dropped. Rust drops no value in a `static`, such as a `LazyLock`, and none when
/// the process is killed: keep the server in a local variable of each test.
///
/// A workspace that contains the server can run it in its own process instead, by `cable::server::run` with a listener on
/// port 0. This crate cannot, because it does not depend on the server.
#[derive(Debug)]
pub struct Server {
    process: Child,
    endpoint: String,
    token: Option<Token>,
    store: TempDir,
}

/// The options of a [`Server`].
///
/// ```no_run
/// # fn main() -> Result<(), cable_client::testing::StartError> {
/// use cable_client::testing::Server;
///
/// let server = Server::builder()
///     .program("target/release/cable")
///     .setting("feed.max_open", "10")
///     .start()?;
/// println!("{}", server.endpoint());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct ServerBuilder {
    program: Option<PathBuf>,
    settings: Vec<(String, OsString)>,
    token: Option<Token>,
}

/// The failure to start a server: the program and the cause, with the end of its log.
#[derive(Debug)]
pub struct StartError {
    message: String,
    source: Option<io::Error>,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}

impl ServerBuilder {
    /// Sets the program. If unset, the environment variable `CABLE_BIN` names it, else it is `cable` in `PATH`.
    pub fn program(mut self, path: impl Into<PathBuf>) -> Self {
        self.program = Some(path.into());
        self
    }

    /// Sets a setting of the server by its key; `cable config print` lists them all.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), cable_client::testing::StartError> {
    /// use cable_client::testing::Server;
    ///
    /// let server = Server::builder().setting("server.drain_timeout", "1s").start()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn setting(mut self, key: &str, value: impl Into<OsString>) -> Self {
        let variable = format!("{SETTING_PREFIX}{}", key.replace('.', "__").to_ascii_uppercase());
        self.settings.push((variable, value.into()));
        self
    }

    /// Sets the token that [`Server::client`] sends. The server must know it by a setting.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), cable_client::testing::StartError> {
    /// use cable_client::testing::Server;
    ///
    /// let server = Server::builder().token("cable_7f3a_example").start()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn token(mut self, token: impl Into<Token>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Starts the server and waits until it serves.
    ///
    /// # Errors
    /// The program does not exist, ends before it serves, or does not serve within a minute.
    pub fn start(self) -> std::result::Result<Server, StartError> {
        let ServerBuilder { program, settings, token } = self;
        let named = || std::env::var_os("CABLE_BIN").filter(|path| !path.is_empty()).map(PathBuf::from);
        let program = program.or_else(named).unwrap_or_else(|| "cable".into());
        let failed = |problem: String, source| StartError {
            message: format!("cannot start {}: {problem}", program.display()),
            source,
        };
        let failed_io = |error: io::Error| failed(error.to_string(), Some(error));
        let store = tempfile::Builder::new().prefix("cable-").tempdir().map_err(failed_io)?;
        // With this file, the server looks for no other.
        fs::write(store.path().join("cable.toml"), "").map_err(failed_io)?;
        // A bare name is looked up in PATH. A path must not depend on the directory of the server.
        let is_name = program.parent() == Some(Path::new(""));
        let path = if is_name { program.clone() } else { absolute(&program).map_err(failed_io)? };
        let mut command = Command::new(path);
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--ops-listen", "off", "--data"])
            .arg(store.path().join("store"));
        let own = std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with(SETTING_PREFIX));
        own.for_each(|(name, _)| _ = command.env_remove(name));
        command.current_dir(store.path()).envs(settings);
        command.env("CABLE__LOG__LEVEL", "info").env("CABLE__LOG__FORMAT", "json");
        let mut process =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().map_err(
                |error| match error.kind() {
                    io::ErrorKind::NotFound => failed(format!("{error}; {NOT_FOUND_HINT}"), Some(error)),
                    _ => failed_io(error),
                },
            )?;
        match wait_until_serving(&mut process) {
            Ok(address) => Ok(Server { process, endpoint: format!("http://{address}"), token, store }),
            Err(problem) => {
                let _already_ended = process.kill();
                let _reaped = process.wait();
                Err(failed(problem, None))
            }
        }
    }
}

impl Server {
    /// Starts a server with default settings.
    ///
    /// # Errors
    /// As [`ServerBuilder::start`].
    pub fn start() -> std::result::Result<Server, StartError> {
        Server::builder().start()
    }

    /// Returns the options of a server.
    pub fn builder() -> ServerBuilder {
        ServerBuilder::default()
    }

    /// Returns the endpoint, such as `http://127.0.0.1:40123`.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Returns the directory of the store, for tests that back it up or verify it.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.store.path().join("store")
    }

    /// Returns a client of the server, with the token of the builder.
    ///
    /// # Errors
    /// As [`Builder::build`](crate::Builder::build).
    pub fn client(&self) -> Result<Cable> {
        let builder = Cable::builder(self.endpoint());
        match &self.token {
            Some(token) => builder.token(token.clone()).build(),
            None => builder.build(),
        }
    }

    /// Sends SIGTERM and waits for the process.
    fn stop(&mut self) -> io::Result<()> {
        kill_process(Pid::from_child(&self.process), Signal::TERM)?;
        let end = Instant::now() + STOP_TIMEOUT;
        while self.process.try_wait()?.is_none() {
            if Instant::now() > end {
                return Err(io::ErrorKind::TimedOut.into());
            }
            thread::sleep(POLL_INTERVAL);
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.stop().is_err() {
            let _already_ended = self.process.kill();
            let _reaped = self.process.wait();
        }
    }
}

/// Reads the log until the server reports its address. After that, a thread reads the rest, so that the server never
/// waits for its log.
fn wait_until_serving(process: &mut Child) -> std::result::Result<String, String> {
    let log = process.stderr.take().expect("standard error is a pipe");
    let (sender, lines) = mpsc::sync_channel::<String>(QUOTED_LINES);
    thread::spawn(move || {
        let mut log = BufReader::new(log).lines().map_while(io::Result::ok);
        let _receiver_is_gone = log.try_for_each(|line| sender.send(line));
        log.for_each(drop);
    });
    let end = Instant::now() + START_TIMEOUT;
    let mut seen = Vec::new();
    loop {
        match lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                if let Some(address) = serving_address(&line) {
                    return Ok(address.to_owned());
                }
                seen.push(line);
            }
            Err(RecvTimeoutError::Timeout) => return Err(format!("not serving within {START_TIMEOUT:?}")),
            Err(RecvTimeoutError::Disconnected) => {
                let last = &seen[seen.len().saturating_sub(QUOTED_LINES)..];
                return Err(format!("the process ended: {}", last.join("\n")));
            }
        }
    }
}

/// Returns the address in the line of the log that reports it.
fn serving_address(line: &str) -> Option<&str> {
    if !line.contains(r#""message":"serving""#) {
        return None;
    }
    let (_, rest) = line.split_once(r#""address":""#)?;
    Some(rest.split_once('"')?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_in_the_line_that_reports_serving() {
        let line =
            r#"{"timestamp":"x","level":"INFO","message":"serving","address":"127.0.0.1:40123","data":"d"}"#;
        assert_eq!(serving_address(line), Some("127.0.0.1:40123"));
        assert_eq!(serving_address(&line.replace("serving", "draining")), None);
    }

    #[test]
    fn a_missing_program_is_an_error_that_names_it() {
        let error = Server::builder().program("/no/such/cable").start().unwrap_err();
        let expected = "cannot start /no/such/cable: No such file or directory (os error 2); set CABLE_BIN";
        assert!(error.to_string().starts_with(expected), "{error}");
        assert!(std::error::Error::source(&error).is_some());
    }

    #[test]
    fn a_program_that_ends_is_an_error_with_its_log() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("cable");
        std::fs::write(&program, "#!/bin/sh\necho \"cable: no space left\" >&2\nexit 1\n").unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&program, mode).unwrap();
        let error = Server::builder().program(&program).start().unwrap_err();
        assert!(error.to_string().ends_with("the process ended: cable: no space left"), "{error}");
    }
}
