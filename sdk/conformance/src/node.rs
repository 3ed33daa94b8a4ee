//! A node: the program `cable` with a store in a directory of its own, and a client that reaches it directly.

use std::{
    ffi::OsStr,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use cable_client::{
    Cable, Event, FeedFilter, Position, Retry, View,
    v1::{self, Body},
};
use cable_conformance::identify;
use futures_util::TryStreamExt as _;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    time::timeout,
};

use crate::{Outcome, fail, follower::Content};

/// The time for a node to start or to end. A debug build on a busy machine needs some seconds.
const START: Duration = Duration::from_secs(90);
/// The timeout of calls to the node.
const CALL: Duration = Duration::from_secs(60);

/// A node that runs, or is stopped and has its store.
pub(crate) struct Node {
    program: PathBuf,
    settings: Vec<(String, String)>,
    directory: TempDir,
    /// The number of the current store: a restored one is another directory.
    store: u32,
    process: Option<Child>,
    address: Option<SocketAddr>,
    /// The token of the direct client.
    token: Option<String>,
    client: Option<Cable>,
}

impl Node {
    /// Returns a node that does not run yet. Settings have their keys, as in `feed.max_open`.
    pub(crate) fn new(program: &Path, settings: &[(String, String)]) -> Outcome<Node> {
        let directory = tempfile::Builder::new()
            .prefix("cable-conformance-")
            .tempdir()
            .map_err(|error| format!("no temporary directory: {error}"))?;
        // With this file, the program looks for no other.
        std::fs::write(directory.path().join("cable.toml"), "")
            .map_err(|error| format!("cannot write the settings: {error}"))?;
        let settings = settings.to_vec();
        let program = program.to_owned();
        Ok(Node {
            program,
            settings,
            directory,
            store: 0,
            process: None,
            address: None,
            token: None,
            client: None,
        })
    }

    /// A path in the directory of the node.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn store_path(&self) -> PathBuf {
        self.path(&format!("store{}", self.store))
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        let own = std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CABLE"));
        own.for_each(|(name, _)| _ = command.env_remove(name));
        for (key, value) in &self.settings {
            let name = format!("CABLE__{}", key.replace('.', "__").to_ascii_uppercase());
            command.env(name, value);
        }
        command.current_dir(self.directory.path()).stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Runs a command of the program with these arguments, and returns its output.
    pub(crate) async fn run(&self, arguments: &[&OsStr]) -> Outcome<String> {
        let output = self.command().args(arguments).output().await;
        let output = output.map_err(|error| format!("cannot run {}: {error}", self.program.display()))?;
        if !output.status.success() {
            return fail(format!("cable {arguments:?}: {}", String::from_utf8_lossy(&output.stderr).trim()));
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Starts the process and waits until it serves.
    pub(crate) async fn start(&mut self) -> Outcome {
        let mut process = self
            .command()
            .args(["serve", "--listen", "127.0.0.1:0", "--ops-listen", "off", "--data"])
            .arg(self.store_path())
            .env("CABLE__LOG__LEVEL", "info")
            .env("CABLE__LOG__FORMAT", "json")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", self.program.display()))?;
        let log = process.stderr.take().ok_or("the node has no standard error")?;
        let mut lines = BufReader::new(log).lines();
        let serving = async {
            let mut seen = String::new();
            while let Ok(Some(line)) = lines.next_line().await {
                let event: Value = serde_json::from_str(&line).unwrap_or_default();
                if event["message"] == "serving"
                    && let Some(address) = event["address"].as_str().and_then(|a| a.parse().ok())
                {
                    return Ok(address);
                }
                seen = line;
            }
            fail(format!("the node ended: {seen}"))
        };
        let address: SocketAddr =
            timeout(START, serving).await.unwrap_or_else(|_| fail("the node does not serve"))?;
        // The node must never wait for the reader of its log.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        self.process = Some(process);
        self.address = Some(address);
        self.connect()
    }

    fn connect(&mut self) -> Outcome {
        let Some(address) = self.address else { return Ok(()) };
        let mut builder =
            Cable::builder(format!("http://{address}")).timeout(CALL).retry(Retry::default().attempts(10));
        if let Some(token) = &self.token {
            builder = builder.token(token.as_str());
        }
        self.client = Some(builder.build().map_err(|error| error.to_string())?);
        Ok(())
    }

    /// The address of the running node.
    pub(crate) fn address(&self) -> Outcome<SocketAddr> {
        self.address.ok_or_else(|| "the node has not been started".into())
    }

    /// The direct client.
    pub(crate) fn client(&self) -> Outcome<Cable> {
        self.client.clone().ok_or_else(|| "the node has not been started".into())
    }

    /// Sends a signal to the process.
    pub(crate) fn signal(&self, signal: Signal) -> Outcome {
        kill_process(self.pid()?, signal).map_err(|error| format!("cannot signal the node: {error}"))
    }

    fn pid(&self) -> Outcome<Pid> {
        let process = self.process.as_ref().and_then(|process| process.id());
        let pid = process.and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        pid.ok_or_else(|| "the node does not run".into())
    }

    /// Stops the process, and waits until all of its threads have stopped: until then they can serve calls.
    pub(crate) async fn stop(&self) -> Outcome {
        self.signal(Signal::STOP)?;
        let tasks = format!("/proc/{}/task", self.pid()?.as_raw_nonzero());
        let stopped = async {
            while !are_stopped(&tasks) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(START, stopped).await.map_err(|_| format!("the node did not stop within {START:?}"))
    }

    /// Waits for the end of the process.
    pub(crate) async fn wait(&mut self) -> Outcome {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        match timeout(START, process.wait()).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => fail(format!("the node cannot be awaited: {error}")),
            Err(_) => fail(format!("the node did not end within {START:?}")),
        }
    }

    /// Backs up the store, which may be in use.
    pub(crate) async fn back_up(&self) -> Outcome {
        let (store, file) = (self.store_path(), self.path("backup"));
        let arguments: [&OsStr; 5] =
            ["backup".as_ref(), "--data".as_ref(), store.as_ref(), "--to".as_ref(), file.as_ref()];
        self.run(&arguments).await.map(|_| ())
    }

    /// Restores the backup as the store that the next start serves.
    pub(crate) async fn restore(&mut self) -> Outcome {
        self.store += 1;
        let (store, file) = (self.store_path(), self.path("backup"));
        let arguments: [&OsStr; 5] =
            ["restore".as_ref(), "--from".as_ref(), file.as_ref(), "--to".as_ref(), store.as_ref()];
        self.run(&arguments).await.map(|_| ())
    }

    /// Creates a token, and returns it.
    pub(crate) async fn new_token(&self, name: &str, role: &str, expires: Option<&str>) -> Outcome<String> {
        let store = self.store_path();
        let mut arguments: Vec<&OsStr> =
            vec!["token".as_ref(), "new".as_ref(), "--role".as_ref(), role.as_ref(), "--data".as_ref()];
        arguments.extend::<[&OsStr; 2]>([store.as_ref(), name.as_ref()]);
        if let Some(expires) = expires {
            arguments.extend::<[&OsStr; 2]>(["--expires".as_ref(), expires.as_ref()]);
        }
        self.run(&arguments).await
    }

    /// Revokes a token by the name of its caller.
    pub(crate) async fn revoke(&self, name: &str) -> Outcome {
        let store = self.store_path();
        let arguments: [&OsStr; 5] =
            ["token".as_ref(), "revoke".as_ref(), "--data".as_ref(), store.as_ref(), name.as_ref()];
        self.run(&arguments).await.map(|_| ())
    }

    /// Sets the token of the direct client.
    pub(crate) fn set_token(&mut self, token: String) -> Outcome {
        self.token = Some(token);
        self.connect()
    }

    /// The newest position of the node.
    pub(crate) async fn head(&self) -> Outcome<Position> {
        let status = self.client()?.status().await.map_err(|error| format!("status of the node: {error}"))?;
        status.head.ok_or_else(|| "the node has no head".into())
    }

    /// A fresh snapshot of what a filter matches: etags by name.
    pub(crate) async fn snapshot(&self, filter: &FeedFilter) -> Outcome<Content> {
        let mut feed = self.client()?.feed(filter.clone()).view(View::Reference).with_snapshot().open();
        let mut content = Content::new();
        let read = async {
            while let Some(delivery) =
                feed.try_next().await.map_err(|error| format!("snapshot of the node: {error}"))?
            {
                match delivery.event {
                    Event::Snapshot(records) => {
                        content.extend(records.iter().filter_map(identify).map(|r| (r.name, r.etag)));
                    }
                    Event::Reset(_) => content.clear(),
                    Event::SnapshotEnd { .. } => return Ok(content),
                    _ => {}
                }
            }
            fail("the snapshot of the node has no end")
        };
        timeout(CALL, read).await.unwrap_or_else(|_| fail("the node sends no snapshot"))
    }
}

/// An article with a body of this many bytes.
pub(crate) fn article(name: &str, headline: &str, tags: &[String], bytes: usize, fill: &str) -> v1::Article {
    let mut article = v1::Article::default();
    article.name = name.to_owned();
    article.headline = headline.to_owned();
    article.tags = tags.to_vec();
    if bytes > 0 {
        article.body = Some(Body::paragraph(fill.repeat(bytes / fill.len().max(1))));
    }
    article
}

/// Returns whether all threads in a directory of `/proc` are stopped.
fn are_stopped(tasks: &str) -> bool {
    let threads = std::fs::read_dir(tasks).into_iter().flatten().flatten();
    let mut states = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("stat")).ok());
    // The state follows the name, which is in parentheses and can contain any character.
    states.all(|stat| stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with('T')))
}
