//! Random writers that are disconnected, retry and conflict, on a store that is restored from older copies. After each
//! round, every response equals that of a short model.

use std::{collections::BTreeMap, path::Path, time::Duration};

use bytes::Bytes;
use cable::clock::{Clock, ManualClock};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::{
    connections::speaker::{Speaker, framed},
    dice::Dice,
    raw::{Raw, Refused, request_bytes, turned},
    restores::{Files, files, put, stop},
    support::Node,
};

mod model;

use model::{Action, Content, Done, Held, Leads, Model, PATHS, State, Step, Wants, Write};

/// Seeds that found faults or that reach rare states.
const KEPT: [u64; 2] = [1, 20_261_126];

const ROUNDS: i64 = 40;
const NAMES: u64 = 5;
const WRITERS: u64 = 4;
const START: i64 = 1_900_000_000_000_000;

/// The way in which a writer loses its call before it retries.
#[derive(Debug, Clone, Copy)]
enum Cut {
    /// The client resets the stream.
    Stream,
    /// The client resets the connection.
    Connection,
}

/// A write, with the failures of its calls.
struct Attempt {
    write: Write,
    cuts: Vec<(Cut, Duration)>,
}

/// A copy of the store, with its model.
struct Copy {
    files: Files,
    model: Model,
    log_id: String,
}

struct World {
    dice: Dice,
    dir: tempfile::TempDir,
    clock: Clock,
    hands: ManualClock,
    model: Model,
    log_id: String,
    copies: Vec<Copy>,
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

fn pick<T: Clone>(dice: &mut Dice, from: &[T]) -> Option<T> {
    from.get(dice.next() as usize % from.len().max(1)).cloned()
}

impl Action {
    fn random(dice: &mut Dice, of: usize) -> Action {
        if dice.one_in(3) {
            let reason = ["DELETED", "WITHDRAWN", "MOVED", "KILLED"][dice.between(0, 3) as usize];
            return Action::Remove(reason, (reason == "MOVED").then(|| (of + 1) % NAMES as usize));
        }
        let path = |dice: &mut Dice| dice.between(0, PATHS.len() as u64 - 1) as usize;
        let own = (!dice.one_in(4)).then(|| (path(dice), dice.between(0, 1) as usize));
        let aliases = (0..dice.between(0, 1)).map(|_| path(dice)).collect();
        Action::Put(Content { headline: dice.between(0, 9), path: own, aliases })
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
        match &self.wants {
            Some(Wants::Absent) => change["precondition"] = json!({"must_be_absent": true}),
            Some(Wants::Etag(etag)) => change["precondition"] = json!({"etag": etag}),
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
async fn cut_off(node: &Node, method: &str, request: Bytes, after: Duration) {
    let (speaker, connection) = Speaker::over(TcpStream::connect(node.address).await.unwrap(), 65_535).await;
    let path = format!("/cable.v1.PublishingService/{method}");
    let mut asked = speaker.ask(&path, &[]).await;
    asked.request.send_data(framed(&request), true).unwrap();
    tokio::time::sleep(after).await;
    // Received but unread bytes turn this into a reset.
    connection.abort();
}

async fn make(node: &Node, raw: &Raw, attempt: &Attempt) -> Result<Vec<Done>, Refused> {
    let (method, mut request) = attempt.write.request();
    for (cut, after) in &attempt.cuts {
        match cut {
            Cut::Stream => drop(tokio::time::timeout(*after, raw.send(method, request.clone())).await),
            Cut::Connection => cut_off(node, method, request.clone(), *after).await,
        }
        match &attempt.write.steps[..] {
            [step] if step.is_put() => request = turned(&request, &[1]).into(),
            [_] => request = turned(&request, &[]).into(),
            _ => {}
        }
    }
    let answer = raw.send(method, request).await?.remove(0);
    let results = answer.get("results").and_then(Value::as_array).cloned();
    let results = results.unwrap_or_else(|| vec![answer["result"].clone()]);
    let done = |result: &Value| Done {
        revision: result["revision"].as_i64().unwrap_or_default(),
        changed: result["changed"].as_bool().unwrap_or_default(),
        etag: Some(result["etag"].as_str().unwrap_or_default().to_owned()),
    };
    Ok(results.iter().map(done).collect())
}

/// Returns whether the node's response equals the model's, as far as the model knows the etags.
fn agree(told: &[Done], modelled: &[Done]) -> bool {
    let same = |(told, modelled): (&Done, &Done)| {
        (told.revision, told.changed) == (modelled.revision, modelled.changed)
            && modelled.etag.as_ref().is_none_or(|etag| told.etag.as_ref() == Some(etag))
    };
    told.len() == modelled.len() && told.iter().zip(modelled).all(same)
}

impl World {
    fn new(seed: u64) -> World {
        let (clock, hands) = Clock::manual(START);
        World {
            dice: Dice::new(seed),
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
            self.model.moved_to(&self.log_id, &log_id);
        }
        self.log_id = log_id;
        (node, raw)
    }

    fn step(&mut self, name: usize) -> Step {
        let dice = &mut self.dice;
        let current = self.model.live(name).and_then(|live| live.etag.clone());
        let wants = match dice.between(0, 9) {
            0 => Some(Wants::Absent),
            1 => pick(dice, &self.etags).map(Wants::Etag),
            2..4 => current.map(Wants::Etag),
            _ => None,
        };
        let action = Action::random(dice, name);
        let wants = wants.filter(|wants| *wants != Wants::Absent || matches!(action, Action::Put(_)));
        let allow_killed = matches!(action, Action::Put(_)) && dice.one_in(2);
        Step { name, action, wants, allow_killed }
    }

    fn attempt(&mut self) -> Attempt {
        let mut names: Vec<usize> = (0..NAMES as usize).collect();
        let count = if self.dice.one_in(4) { self.dice.between(2, 3) } else { 1 };
        let mut steps = Vec::new();
        for _ in 0..count {
            let at = self.dice.next() as usize % names.len();
            steps.push(self.step(names.swap_remove(at)));
        }
        let mut write = Write { steps, request: None };
        match self.dice.between(0, 9) {
            // A request that was made before, maybe in a lost history.
            0 => write = pick(&mut self.dice, &self.past).unwrap_or(write),
            // Its request_id, for a different request.
            1 => write.request = pick(&mut self.dice, &self.past).and_then(|past| past.request),
            2..7 => {
                self.requests += 1;
                write.request = Some(format!("r{}", self.requests));
            }
            _ => {}
        }
        let cuts = if write.request.is_some() { self.dice.between(0, 2) } else { 0 };
        let cut = |dice: &mut Dice| {
            let cut = if dice.one_in(3) { Cut::Connection } else { Cut::Stream };
            (cut, Duration::from_micros(dice.between(0, 3_000)))
        };
        Attempt { write, cuts: (0..cuts).map(|_| cut(&mut self.dice)).collect() }
    }

    /// Makes several concurrent writes.
    async fn round(&mut self, node: &Node, raw: &Raw, round: i64) {
        let time = START + round * 1_000_000;
        self.hands.set(time);
        let attempts: Vec<Attempt> = (0..WRITERS).map(|_| self.attempt()).collect();
        let answers = join_all(attempts.iter().map(|attempt| make(node, raw, attempt))).await;
        let (mut ordered, mut others, mut unsure) = (BTreeMap::new(), Vec::new(), Vec::new());
        for (attempt, answer) in attempts.into_iter().zip(answers) {
            let Attempt { write, cuts } = attempt;
            let first = answer.as_ref().ok().and_then(|done| done.iter().find(|done| done.changed));
            match first.filter(|first| first.revision > self.model.head) {
                Some(first) => drop(ordered.insert(first.revision, (write.clone(), answer.clone().ok()))),
                // An attempt that was cut off may have been committed after the last one failed.
                None if answer.is_err() && !cuts.is_empty() => unsure.push(write.clone()),
                None => {}
            }
            others.push((write, answer));
        }
        let head = raw.call("GetStatus", json!({})).await.unwrap()["head"]["revision"].as_i64().unwrap_or(0);
        let mut moments = vec![self.model.clone()];
        while self.model.head < head {
            let next = ordered.remove(&(self.model.head + 1));
            let next = next.or_else(|| Some((self.take_unsure(&mut unsure, time)?, None)));
            let (write, told) = next.unwrap_or_else(|| panic!("nobody wrote {}", self.model.head + 1));
            let made = self.model.make(&write, time);
            let made = made.unwrap_or_else(|refused| panic!("{refused}, but it was made: {write:?}"));
            if let Some(told) = told {
                assert!(agree(&told, &made), "{told:?} is not {made:?} of {write:?}");
                self.learn(&write, &told);
            }
            moments.push(self.model.clone());
        }
        assert!(ordered.is_empty(), "beyond the head {head}: {ordered:?}");
        // Writes that succeeded without a change come first: one of them may be the reason why another one failed.
        others.sort_by_key(|(_, answer)| answer.is_err());
        for (write, answer) in others {
            self.expect_at_some(&mut moments, &write, &answer, time);
        }
    }

    /// Removes a write that can be the next one from the possibly committed writes, and returns it.
    fn take_unsure(&self, unsure: &mut Vec<Write>, time: i64) -> Option<Write> {
        let is_next = |write: &Write| {
            let mut model = self.model.clone();
            model.make(write, time).is_ok() && model.head > self.model.head
        };
        let at = unsure.iter().position(is_next)?;
        Some(unsure.remove(at))
    }

    /// Asserts that the response was correct in some state of the round. A write that changes nothing has no revision
    /// of its own.
    fn expect_at_some(
        &mut self,
        moments: &mut [Model],
        write: &Write,
        answer: &Result<Vec<Done>, Refused>,
        time: i64,
    ) {
        let fits = |model: &Model| match (model.clone().make(write, time), answer) {
            (Ok(made), Ok(told)) => agree(told, &made),
            (Err(reason), Err(refused)) => refused.reason == reason,
            _ => false,
        };
        let at = moments.iter().position(fits);
        let at = at.unwrap_or_else(|| panic!("{write:?}: {answer:?}"));
        if let Ok(told) = answer {
            moments[at..].iter_mut().for_each(|model| model.remember(write, told));
            self.model.remember(write, told);
            self.learn(write, told);
        }
    }

    fn learn(&mut self, write: &Write, told: &[Done]) {
        self.model.learn(write, told);
        self.etags.extend(told.iter().filter_map(|done| done.etag.clone()).filter(|etag| !etag.is_empty()));
        if write.request.is_some() && !self.past.contains(write) {
            self.past.push(write.clone());
        }
    }

    /// Asserts that every response equals the model's.
    async fn compare(&mut self, raw: &Raw) {
        for n in 0..NAMES as usize {
            let answer = raw.call("GetArticle", json!({"name": name(n)})).await;
            let Some(Held { state, revision, .. }) = self.model.names.get_mut(&n) else {
                assert_eq!(answer.unwrap_err().reason, "ARTICLE_NOT_FOUND");
                continue;
            };
            match state {
                State::Gone(reason) => assert_gone(&answer.unwrap_err(), reason),
                State::Live(version) => {
                    let article = answer.unwrap()["article"].clone();
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
            let leads = self.model.leads(path);
            for spelling in spellings {
                let answer = raw.call("ResolvePath", json!({"path": spelling})).await;
                match &leads {
                    Leads::To(to, redirect) => {
                        let answer =
                            answer.unwrap_or_else(|refused| panic!("{spelling} {leads:?} {refused:?}"));
                        assert_eq!(answer["article"]["name"], name(*to), "{spelling} {:?}", self.model);
                        assert_eq!(
                            answer["redirect_path"].as_str(),
                            *redirect,
                            "{spelling} {:?}",
                            self.model
                        );
                    }
                    Leads::Gone(reason) => assert_gone(&answer.unwrap_err(), reason),
                    Leads::Nowhere => assert_eq!(answer.unwrap_err().reason, "ARTICLE_NOT_FOUND"),
                }
            }
        }
    }

    /// Copies the store, or replaces it with an older copy.
    fn between_runs(&mut self) {
        if self.dice.one_in(2) {
            let (files, model) = (files(self.store()), self.model.clone());
            self.copies.push(Copy { files, model, log_id: self.log_id.clone() });
        } else if let Some(at) =
            (0..self.copies.len()).nth(self.dice.next() as usize % self.copies.len().max(1))
        {
            let copy = &self.copies[at];
            std::fs::remove_dir_all(self.store()).unwrap();
            std::fs::create_dir(self.store()).unwrap();
            put(self.store(), &copy.files);
            (self.model, self.log_id) = (copy.model.clone(), copy.log_id.clone());
        }
    }
}

fn assert_gone(refused: &Refused, reason: &str) {
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
        if world.dice.one_in(5) {
            drop(raw);
            stop(node, world.store()).await;
            world.between_runs();
            (node, raw) = world.start().await;
            world.compare(&raw).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_that_are_cut_off_repeated_and_restored_agree_with_a_model() {
    if let Ok(seed) = std::env::var("CABLE_SEED") {
        return run(seed.parse().unwrap()).await;
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    for seed in KEPT.into_iter().chain([u64::from(now.subsec_nanos())]) {
        run(seed).await;
    }
}
