//! The run of one case: its node, its proxies, its driver, and what its followers hold.

mod checks;
mod steps;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    path::PathBuf,
    time::{Duration, Instant},
};

use cable_client::{EntityKind, FeedFilter};
use serde_json::{Value, json};
use tokio::net::TcpSocket;

use crate::{
    Outcome,
    case::{Case, Endpoint, Filter, Step, TokenKind},
    driver::Driver,
    fail,
    follower::{Commit, Follower},
    gate::Gate,
    node::Node,
    proxy::Proxy,
};

/// The number of lines of the record that a failure prints.
const RECORD_LINES: usize = 60;

/// The options that all runs have in common.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) program: PathBuf,
    pub(crate) driver: String,
}

/// A mirror of the driver.
struct Mirror {
    filter: Filter,
}

/// A case in progress.
pub(crate) struct Run {
    context: Context,
    endpoints: Vec<Endpoint>,
    timeout_ms: u64,
    token: TokenKind,
    /// The tokens by the names of their callers.
    tokens: HashMap<String, String>,
    node: Node,
    gate: Option<Gate>,
    proxy: Proxy,
    other: Proxy,
    /// The connections through the first proxy when its treatment of them last changed, or a step last awaited some.
    counted: u64,
    /// A bound port on which nothing listens.
    dead: TcpSocket,
    driver: Driver,
    followers: BTreeMap<String, Follower>,
    filters: BTreeMap<String, Filter>,
    /// The commands of the followers, to repeat them.
    commands: BTreeMap<String, Value>,
    mirrors: BTreeMap<String, Mirror>,
    commits: Vec<Commit>,
    variables: HashMap<String, Value>,
    started: HashMap<String, Instant>,
    /// The newest steps and events.
    record: VecDeque<String>,
}

/// Runs a case. The error has the end of the record.
pub(crate) async fn run(case: &Case, context: &Context) -> Outcome {
    let mut run = Run::start(case, context).await?;
    let mut outcome = run.perform(&case.steps).await;
    if outcome.is_ok() {
        outcome = run.converge(&[], Duration::from_secs(60)).await;
    }
    match outcome {
        Ok(()) => run.driver.end().await,
        Err(problem) => fail(format!("{problem}\n{}", run.recorded())),
    }
}

impl Run {
    pub(crate) async fn start(case: &Case, context: &Context) -> Outcome<Run> {
        let mut settings: Vec<(String, String)> = vec![
            // The suite runs where a test machine has little room.
            ("store.reserve_bytes".to_owned(), "1MiB".to_owned()),
            ("server.drain_timeout".to_owned(), "5s".to_owned()),
        ];
        if case.token != TokenKind::None {
            settings.push(("auth.anonymous".to_owned(), "none".to_owned()));
            settings.push(("rate.failures_per_minute".to_owned(), "0".to_owned()));
        }
        for (key, value) in &case.settings {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            settings.push((key.clone(), value));
        }
        let mut node = Node::new(&context.program, &settings)?;
        let mut tokens = HashMap::new();
        if case.token != TokenKind::None {
            let token = node.new_token("suite", "admin", None).await?;
            node.set_token(token)?;
            let token = node.new_token("client", "publisher", None).await?;
            write_token(&node, &token)?;
            tokens.insert("client".to_owned(), token);
        }
        node.start().await?;
        let address = node.address()?;
        let gate = match case.gate {
            true => Some(Gate::start(address).await.map_err(|error| error.to_string())?),
            false => None,
        };
        let upstream = gate.as_ref().map_or(address, Gate::address);
        let proxy = Proxy::start(upstream).await.map_err(|error| error.to_string())?;
        let other = Proxy::start(upstream).await.map_err(|error| error.to_string())?;
        let dead = TcpSocket::new_v4().map_err(|error| error.to_string())?;
        dead.bind(([127, 0, 0, 1], 0).into()).map_err(|error| error.to_string())?;
        let driver = Driver::start(&context.driver).await?;
        let mut run = Run {
            context: context.clone(),
            endpoints: case.endpoints.clone(),
            timeout_ms: case.timeout_ms,
            token: case.token,
            tokens,
            node,
            gate,
            proxy,
            other,
            counted: 0,
            dead,
            driver,
            followers: BTreeMap::new(),
            filters: BTreeMap::new(),
            commands: BTreeMap::new(),
            mirrors: BTreeMap::new(),
            commits: Vec::new(),
            variables: HashMap::new(),
            started: HashMap::new(),
            record: VecDeque::new(),
        };
        run.connect().await?;
        Ok(run)
    }

    /// Carries out steps. The error names the step.
    pub(crate) async fn perform(&mut self, steps: &[Step]) -> Outcome {
        for (index, step) in steps.iter().enumerate() {
            self.note(format!("step {}: {step:?}", index + 1));
            Box::pin(self.step(step)).await.map_err(|problem| format!("step {}: {problem}", index + 1))?;
        }
        Ok(())
    }

    /// Connects the driver's client.
    async fn connect(&mut self) -> Outcome {
        let dead = self.dead.local_addr().map_err(|error| error.to_string())?;
        let endpoints: Vec<String> = self
            .endpoints
            .iter()
            .map(|endpoint| match endpoint {
                Endpoint::Proxy => self.proxy.address(),
                Endpoint::Other => self.other.address(),
                Endpoint::Dead => dead,
            })
            .map(|address| format!("http://{address}"))
            .collect();
        let mut command =
            json!({"command": "connect", "endpoints": endpoints, "timeout_ms": self.timeout_ms});
        match self.token {
            TokenKind::None | TokenKind::Missing => {}
            TokenKind::Text => command["token"] = read_token(&self.node)?.into(),
            TokenKind::File => command["token_file"] = token_path(&self.node).to_string_lossy().into(),
        }
        let event = self.driver.ask(command).await?;
        match event["event"] == "connected" {
            true => Ok(()),
            false => fail(format!("connect: {event}")),
        }
    }

    /// Replaces the driver by another process. Returns the events of the earlier one that were not read.
    async fn replace_driver(&mut self) -> Outcome<HashMap<String, VecDeque<Value>>> {
        let driver = Driver::start(&self.context.driver).await?;
        let events = std::mem::replace(&mut self.driver, driver).kill().await?;
        self.connect().await?;
        Ok(events)
    }

    fn note(&mut self, line: String) {
        if self.record.len() == RECORD_LINES {
            self.record.pop_front();
        }
        let end = line.char_indices().nth(300).map_or(line.len(), |(end, _)| end);
        self.record.push_back(line[..end].to_owned());
    }

    /// The newest steps and events, for a failure.
    pub(crate) fn recorded(&self) -> String {
        let lines: Vec<String> = self.record.iter().map(|line| format!("    {line}")).collect();
        lines.join("\n")
    }
}

fn token_path(node: &Node) -> PathBuf {
    node.path("token")
}

fn write_token(node: &Node, token: &str) -> Outcome {
    // Renamed, so that no reader finds half a token.
    let path = node.path("token.new");
    std::fs::write(&path, format!("{token}\n"))
        .and_then(|()| std::fs::rename(&path, token_path(node)))
        .map_err(|error| format!("cannot write the token: {error}"))
}

fn read_token(node: &Node) -> Outcome<String> {
    let text = std::fs::read_to_string(token_path(node));
    text.map(|text| text.trim().to_owned()).map_err(|error| format!("cannot read the token: {error}"))
}

/// Returns a filter as the JSON of a command.
fn filter_json(filter: &Filter) -> Value {
    let mut json = json!({});
    let names = |collection: &str, ids: &[String]| -> Vec<String> {
        ids.iter().map(|id| format!("{collection}/{id}")).collect()
    };
    if !filter.tags.is_empty() {
        json["anyTags"] = names("tags", &filter.tags).into();
    }
    if !filter.sections.is_empty() {
        json["sections"] = names("sections", &filter.sections).into();
    }
    if !filter.kinds.is_empty() {
        json["kinds"] = filter.kinds.clone().into();
    }
    json
}

/// Returns a filter for the direct client.
fn filter_message(filter: &Filter) -> Outcome<FeedFilter> {
    let mut message = FeedFilter::default();
    for tag in &filter.tags {
        message = message.any_tag(tag);
    }
    for section in &filter.sections {
        message = message.section(section);
    }
    for kind in &filter.kinds {
        let kind = EntityKind::from_str_name(kind).ok_or_else(|| format!("unknown kind {kind}"))?;
        message = message.kind(kind);
    }
    Ok(message)
}
