//! Random writers that are disconnected, retry and conflict, on a store that is restored from older copies. After each
//! round, every response equals that of a short model.

use std::{collections::BTreeMap, path::Path, time::Duration};

use bytes::Bytes;
use cable::clock::{Clock, ManualClock};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::{
    connections::speaker::{Http2Client, framed},
    dice::Rng,
    raw::{Raw, Refusal, request_bytes, reverse_fields},
    restores::{Files, files, put, stop},
    support::Node,
};

mod model;

use model::{
    Action, Content, Model, NameState, PATHS, Precondition, Resolution, State, Step, StepResult, Write,
};

/// Seeds that found faults or that reach rare states.
const KNOWN_SEEDS: [u64; 2] = [1, 20_261_126];

const ROUNDS: i64 = 40;
const NAMES: u64 = 5;
const WRITERS: u64 = 4;
const START: i64 = 1_900_000_000_000_000;

/// The way in which a writer loses its call before it retries.
#[derive(Debug, Clone, Copy)]
enum Interruption {
    /// The client resets the stream.
    Stream,
    /// The client resets the connection.
    Connection,
}

/// A write, with the failures of its calls.
struct Attempt {
    write: Write,
    interruptions: Vec<(Interruption, Duration)>,
}

/// A copy of the store, with its model.
struct StoreCopy {
    files: Files,
    model: Model,
    log_id: String,
}

struct World {
    rng: Rng,
    dir: tempfile::TempDir,
    clock: Clock,
    hands: ManualClock,
    model: Model,
    log_id: String,
    copies: Vec<StoreCopy>,
    /// Every etag that was ever returned, including those of lost histories.
    etags: Vec<String>,
    /// Completed writes with a request_id, in any history.
    past: Vec<Write>,
    /// The number of the next request_id.
    requests: u64,
}

fn name(name: usize) -> String {
    format!("articles/{}", (b'a' + name as u8) as char)
}

fn pick<T: Clone>(rng: &mut Rng, from: &[T]) -> Option<T> {
    from.get(rng.next() as usize % from.len().max(1)).cloned()
}

impl Action {
    fn random(rng: &mut Rng, of: usize) -> Action {
        if rng.one_in(3) {
            let reason = ["DELETED", "WITHDRAWN", "MOVED", "KILLED"][rng.between(0, 3) as usize];
            // Moves of all names in a circle would be refused.
            return Action::Remove(reason, (reason == "MOVED").then_some(of + 1));
        }
        let path = |rng: &mut Rng| rng.between(0, PATHS.len() as u64 - 1) as usize;
        let own = (!rng.one_in(4)).then(|| (path(rng), rng.between(0, 1) as usize));
        let aliases = (0..rng.between(0, 1)).map(|_| path(rng)).collect();
        Action::Put(Content { headline: rng.between(0, 9), path: own, aliases })
    }
}

impl Step {
    fn is_put(&self) -> bool {
        matches!(self.action, Action::Put(_))
    }

    /// Returns the object of the change: an article, or the removal of one.
    fn subject(&self) -> Value {
        match &self.action {
            Action::Put(content) => {
                let path = content.path.map_or("", |(path, spelling)| PATHS[path][spelling]);
                let aliases: Vec<_> = content.aliases.iter().map(|path| PATHS[*path][1]).collect();
                // Encoders write the entries of a map in any order.
                let notes: BTreeMap<_, _> = (0..8).map(|n| (n.to_string(), "note")).collect();
                json!({
                    "name": name(self.name), "headline": format!("H{}", content.headline),
                    "path": path, "alias_paths": aliases, "annotations": notes,
                })
            }
            Action::Remove(reason, moved_to) => {
                let (reason, moved_to) = (format!("REMOVAL_REASON_{reason}"), moved_to.map(name));
                json!({"name": name(self.name), "reason": reason, "moved_to": moved_to.unwrap_or_default()})
            }
        }
    }

    /// Returns the change with its conditions, as a request of its own or as part of a commit.
    fn change(&self, is_alone: bool) -> Value {
        let mut change = match (self.is_put(), is_alone) {
            (true, true) => json!({"article": self.subject()}),
            (true, false) => json!({"put_article": self.subject()}),
            (false, true) => self.subject(),
            (false, false) => json!({"remove": self.subject()}),
        };
        if self.is_put() {
            change["allow_killed"] = json!(self.allow_killed);
        }
        match &self.precondition {
            Some(Precondition::Absent) => change["precondition"] = json!({"must_be_absent": true}),
            Some(Precondition::Etag(etag)) => change["precondition"] = json!({"etag": etag}),
            None => {}
        }
        change
    }
}

impl Write {
    /// Returns the method and its request.
    fn request(&self) -> (&'static str, Bytes) {
        let (method, mut request) = match &self.steps[..] {
            [step] if step.is_put() => ("PutArticle", step.change(true)),
            [step] => ("RemoveArticle", step.change(true)),
            steps => {
                let changes: Vec<_> = steps.iter().map(|step| step.change(false)).collect();
                ("Commit", json!({"changes": changes}))
            }
        };
        request["request_id"] = json!(self.request.as_deref().unwrap_or_default());
        (method, request_bytes(method, request))
    }
}

/// Makes a call on a connection of its own and resets the connection after a time. A response that arrives before is
/// ignored.
async fn call_and_reset(node: &Node, method: &str, request: Bytes, after: Duration) {
    let (client, connection) =
        Http2Client::handshake(TcpStream::connect(node.address).await.unwrap(), 65_535).await;
    let path = format!("/cable.v1.PublishingService/{method}");
    let mut call = client.start_call(&path, &[]).await;
    call.request.send_data(framed(&request), true).unwrap();
    tokio::time::sleep(after).await;
    // Received but unread bytes turn this into a reset.
    connection.abort();
}

async fn send_attempt(node: &Node, raw: &Raw, attempt: &Attempt) -> Result<Vec<StepResult>, Refusal> {
    let (method, mut request) = attempt.write.request();
    for (interruption, after) in &attempt.interruptions {
        match interruption {
            Interruption::Stream => {
                drop(tokio::time::timeout(*after, raw.send(method, request.clone())).await)
            }
            Interruption::Connection => call_and_reset(node, method, request.clone(), *after).await,
        }
        match &attempt.write.steps[..] {
            [step] if step.is_put() => request = reverse_fields(&request, &[1]).into(),
            [_] => request = reverse_fields(&request, &[]).into(),
            _ => {}
        }
    }
    let response = raw.send(method, request).await?.remove(0);
    let results = response.get("results").and_then(Value::as_array).cloned();
    let results = results.unwrap_or_else(|| vec![response["result"].clone()]);
    let done = |result: &Value| StepResult {
        revision: result["revision"].as_i64().unwrap_or_default(),
        changed: result["changed"].as_bool().unwrap_or_default(),
        etag: Some(result["etag"].as_str().unwrap_or_default().to_owned()),
    };
    Ok(results.iter().map(done).collect())
}

/// Returns whether the node's response equals the model's, as far as the model knows the etags.
fn equals(actual: &[StepResult], modelled: &[StepResult]) -> bool {
    let same = |(actual, modelled): (&StepResult, &StepResult)| {
        (actual.revision, actual.changed) == (modelled.revision, modelled.changed)
            && modelled.etag.as_ref().is_none_or(|etag| actual.etag.as_ref() == Some(etag))
    };
    actual.len() == modelled.len() && actual.iter().zip(modelled).all(same)
}

impl World {
    fn new(seed: u64) -> World {
        let (clock, hands) = Clock::manual(START);
        World {
            rng: Rng::new(seed),
            dir: tempfile::tempdir().unwrap(),
            clock,
            hands,
            model: Model::default(),
            log_id: String::new(),
            copies: Vec::new(),
            etags: Vec::new(),
            past: Vec::new(),
            requests: 0,
        }
    }

    fn store(&self) -> &Path {
        self.dir.path()
    }

    async fn start(&mut self) -> (Node, Raw) {
        let node = Node::start_at(self.store(), self.clock.clone()).await;
        let raw = Raw::to(&node).await;
        let status = raw.call("GetStatus", json!({})).await.unwrap();
        let log_id = status["head"]["log_id"].as_str().unwrap().to_owned();
        if !self.log_id.is_empty() && log_id != self.log_id {
            self.model.change_log_id(&self.log_id, &log_id);
        }
        self.log_id = log_id;
        (node, raw)
    }

    fn step(&mut self, name: usize) -> Step {
        let rng = &mut self.rng;
        let current = self.model.live(name).and_then(|live| live.etag.clone());
        let precondition = match rng.between(0, 9) {
            0 => Some(Precondition::Absent),
            1 => pick(rng, &self.etags).map(Precondition::Etag),
            2..4 => current.map(Precondition::Etag),
            _ => None,
        };
        let action = Action::random(rng, name);
        let precondition = precondition
            .filter(|precondition| *precondition != Precondition::Absent || matches!(action, Action::Put(_)));
        let allow_killed = matches!(action, Action::Put(_)) && rng.one_in(2);
        Step { name, action, precondition, allow_killed }
    }

    fn attempt(&mut self) -> Attempt {
        let mut names: Vec<usize> = (0..NAMES as usize).collect();
        let count = if self.rng.one_in(4) { self.rng.between(2, 3) } else { 1 };
        let mut steps = Vec::new();
        for _ in 0..count {
            let at = self.rng.next() as usize % names.len();
            steps.push(self.step(names.swap_remove(at)));
        }
        let mut write = Write { steps, request: None };
        match self.rng.between(0, 9) {
            // A request that was made before, maybe in a lost history.
            0 => write = pick(&mut self.rng, &self.past).unwrap_or(write),
            // Its request_id, for a different request.
            1 => write.request = pick(&mut self.rng, &self.past).and_then(|past| past.request),
            2..7 => {
                self.requests += 1;
                write.request = Some(format!("r{}", self.requests));
            }
            _ => {}
        }
        let interruptions = if write.request.is_some() { self.rng.between(0, 2) } else { 0 };
        let interruption = |rng: &mut Rng| {
            let interruption = if rng.one_in(3) { Interruption::Connection } else { Interruption::Stream };
            (interruption, Duration::from_micros(rng.between(0, 3_000)))
        };
        Attempt { write, interruptions: (0..interruptions).map(|_| interruption(&mut self.rng)).collect() }
    }

    /// Makes several concurrent writes.
    async fn round(&mut self, node: &Node, raw: &Raw, round: i64) {
        let time = START + round * 1_000_000;
        self.hands.set(time);
        let attempts: Vec<Attempt> = (0..WRITERS).map(|_| self.attempt()).collect();
        let responses = join_all(attempts.iter().map(|attempt| send_attempt(node, raw, attempt))).await;
        let (mut ordered, mut others, mut uncertain) = (BTreeMap::new(), Vec::new(), Vec::new());
        for (attempt, response) in attempts.into_iter().zip(responses) {
            let Attempt { write, interruptions } = attempt;
            let first = response.as_ref().ok().and_then(|done| done.iter().find(|done| done.changed));
            match first.filter(|first| first.revision > self.model.head) {
                Some(first) => drop(ordered.insert(first.revision, (write.clone(), response.clone().ok()))),
                // An attempt that was cut off may have been committed after the last one failed.
                None if response.is_err() && !interruptions.is_empty() => uncertain.push(write.clone()),
                None => {}
            }
            others.push((write, response));
        }
        let head = raw.call("GetStatus", json!({})).await.unwrap()["head"]["revision"].as_i64().unwrap_or(0);
        let mut states = vec![self.model.clone()];
        while self.model.head < head {
            let next = ordered.remove(&(self.model.head + 1));
            let next = next.or_else(|| Some((self.take_uncertain(&mut uncertain, time)?, None)));
            let (write, actual) =
                next.unwrap_or_else(|| panic!("no write explains revision {}", self.model.head + 1));
            let modelled = self.model.apply(&write, time);
            let modelled =
                modelled.unwrap_or_else(|refused| panic!("{refused}, but the write was made: {write:?}"));
            if let Some(actual) = actual {
                assert!(equals(&actual, &modelled), "{actual:?} is not {modelled:?} of {write:?}");
                self.learn(&write, &actual);
            }
            states.push(self.model.clone());
        }
        assert!(ordered.is_empty(), "beyond the head {head}: {ordered:?}");
        // Writes that succeeded without a change come first: one of them may be the reason why another one failed.
        others.sort_by_key(|(_, response)| response.is_err());
        for (write, response) in others {
            self.expect_in_some_state(&mut states, &write, &response, time);
        }
    }

    /// Removes a write that can be the next one from the possibly committed writes, and returns it.
    fn take_uncertain(&self, uncertain: &mut Vec<Write>, time: i64) -> Option<Write> {
        let is_next = |write: &Write| {
            let mut model = self.model.clone();
            model.apply(write, time).is_ok() && model.head > self.model.head
        };
        let at = uncertain.iter().position(is_next)?;
        Some(uncertain.remove(at))
    }

    /// Asserts that the response was correct in some state of the round. A write that changes nothing has no revision
    /// of its own.
    fn expect_in_some_state(
        &mut self,
        states: &mut [Model],
        write: &Write,
        response: &Result<Vec<StepResult>, Refusal>,
        time: i64,
    ) {
        let fits = |model: &Model| match (model.clone().apply(write, time), response) {
            (Ok(modelled), Ok(actual)) => equals(actual, &modelled),
            (Err(reason), Err(refused)) => refused.reason == reason,
            _ => false,
        };
        let at = states.iter().position(fits);
        let at = at.unwrap_or_else(|| panic!("{write:?}: {response:?}"));
        if let Ok(actual) = response {
            states[at..].iter_mut().for_each(|model| model.remember(write, actual));
            self.model.remember(write, actual);
            self.learn(write, actual);
        }
    }

    fn learn(&mut self, write: &Write, actual: &[StepResult]) {
        self.model.learn(write, actual);
        self.etags.extend(actual.iter().filter_map(|done| done.etag.clone()).filter(|etag| !etag.is_empty()));
        if write.request.is_some() && !self.past.contains(write) {
            self.past.push(write.clone());
        }
    }

    /// Asserts that every response equals the model's.
    async fn compare(&mut self, raw: &Raw) {
        for n in 0..NAMES as usize {
            let response = raw.call("GetArticle", json!({"name": name(n)})).await;
            let Some(NameState { state, revision, .. }) = self.model.names.get_mut(&n) else {
                assert_eq!(response.unwrap_err().reason, "ARTICLE_NOT_FOUND");
                continue;
            };
            match state {
                State::Gone(reason) => assert_gone(&response.unwrap_err(), reason),
                State::Live(version) => {
                    let article = response.unwrap()["article"].clone();
                    let content = &version.content;
                    let path = content.path.map_or("", |(path, spelling)| PATHS[path][spelling]);
                    assert_eq!(article["headline"], format!("H{}", content.headline));
                    assert_eq!(article["path"].as_str().unwrap_or_default(), path);
                    assert_eq!(article["alias_paths"].as_array().map_or(0, Vec::len), content.aliases.len());
                    assert_eq!(article["revision"], json!(revision));
                    let etag = article["etag"].as_str().unwrap().to_owned();
                    assert!(etag.starts_with(&format!("{}-{revision}-", self.log_id)), "{etag}");
                    assert!(version.etag.as_ref().is_none_or(|known| *known == etag), "{version:?} {etag}");
                    version.etag = Some(etag);
                }
            }
        }
        for (path, spellings) in PATHS.iter().enumerate() {
            let resolution = self.model.resolve(path);
            for spelling in spellings {
                let response = raw.call("ResolvePath", json!({"path": spelling})).await;
                match &resolution {
                    Resolution::To(to, redirect) => {
                        let response = response
                            .unwrap_or_else(|refused| panic!("{spelling} {resolution:?} {refused:?}"));
                        assert_eq!(response["article"]["name"], name(*to), "{spelling} {:?}", self.model);
                        assert_eq!(
                            response["redirect_path"].as_str(),
                            *redirect,
                            "{spelling} {:?}",
                            self.model
                        );
                    }
                    Resolution::Gone(reason) => assert_gone(&response.unwrap_err(), reason),
                    Resolution::Nowhere => assert_eq!(response.unwrap_err().reason, "ARTICLE_NOT_FOUND"),
                }
            }
        }
    }

    /// Copies the store, or replaces it with an older copy.
    fn between_runs(&mut self) {
        if self.rng.one_in(2) {
            let (files, model) = (files(self.store()), self.model.clone());
            self.copies.push(StoreCopy { files, model, log_id: self.log_id.clone() });
        } else if let Some(at) =
            (0..self.copies.len()).nth(self.rng.next() as usize % self.copies.len().max(1))
        {
            let copy = &self.copies[at];
            std::fs::remove_dir_all(self.store()).unwrap();
            std::fs::create_dir(self.store()).unwrap();
            put(self.store(), &copy.files);
            (self.model, self.log_id) = (copy.model.clone(), copy.log_id.clone());
        }
    }
}

fn assert_gone(refused: &Refusal, reason: &str) {
    let expected = if reason == "MOVED" { "ARTICLE_MOVED" } else { "ARTICLE_GONE" };
    assert_eq!(refused.reason, expected);
    if reason != "MOVED" {
        assert_eq!(refused.metadata["reason"], reason);
    }
}

async fn run(seed: u64) {
    println!("write model: CABLE_SEED={seed}");
    let mut world = World::new(seed);
    let (mut node, mut raw) = world.start().await;
    for round in 0..ROUNDS {
        world.round(&node, &raw, round).await;
        world.compare(&raw).await;
        if world.rng.one_in(5) {
            drop(raw);
            stop(node, world.store()).await;
            world.between_runs();
            (node, raw) = world.start().await;
            world.compare(&raw).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn interrupted_repeated_and_restored_writes_match_a_model() {
    if let Ok(seed) = std::env::var("CABLE_SEED") {
        return run(seed.parse().unwrap()).await;
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    for seed in KNOWN_SEEDS.into_iter().chain([u64::from(now.subsec_nanos())]) {
        run(seed).await;
    }
}
