//! Random cases: writes and faults in an order that a seed decides. The same seed gives the same steps.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use fastrand::Rng;

use crate::{
    Outcome,
    case::{Case, Endpoint, Filter, Start, Step, TokenKind},
    fail, lock, print,
    proxy::Mode,
    run::{Context, Run},
};

/// The number of random cases that share a node and a driver.
const RUNS_PER_NODE: u32 = 50;
/// The time for one random case.
const LONGEST: Duration = Duration::from_secs(180);
/// The time for the follower to catch up at the end.
const CATCH_UP: Duration = Duration::from_secs(90);

/// Runs random cases with the seeds from `first` on. Returns whether all passed.
pub(crate) async fn run_all(
    context: &Context,
    language: &str,
    first: u64,
    runs: u64,
    jobs: usize,
) -> Outcome<bool> {
    let started = Instant::now();
    let next = Arc::new(AtomicU64::new(0));
    let failures = Arc::new(Mutex::new(Vec::new()));
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..jobs.max(1) {
        let (context, next, failures) = (context.clone(), Arc::clone(&next), Arc::clone(&failures));
        workers.spawn(async move {
            loop {
                let Some(problem) = work(&context, &next, first, runs).await else { return };
                print(&problem);
                lock(&failures).push(problem);
            }
        });
    }
    while workers.join_next().await.is_some() {}
    let failed = lock(&failures).len();
    print(&format!(
        "{language}: {runs} random cases from seed {first} in {:.0} s: {} passed, {failed} failed",
        started.elapsed().as_secs_f64(),
        runs.saturating_sub(failed as u64),
    ));
    Ok(failed == 0)
}

/// Runs cases until one fails, and returns its problem. `None`: there are no more.
async fn work(context: &Context, next: &AtomicU64, first: u64, runs: u64) -> Option<String> {
    loop {
        let mut run = None;
        for _ in 0..RUNS_PER_NODE {
            let index = next.fetch_add(1, Relaxed);
            if index >= runs {
                return None;
            }
            if index > 0 && index.is_multiple_of(100) {
                print(&format!("{index} random cases"));
            }
            let seed = first + index;
            let outcome = tokio::time::timeout(LONGEST, one(context, &mut run, seed)).await;
            let outcome = outcome.unwrap_or_else(|_| fail(format!("not done within {LONGEST:?}")));
            if let Err(problem) = outcome {
                let record = run.as_ref().map(Run::recorded).unwrap_or_default();
                return Some(format!("FAILED   --random 1 --seed {seed}: {problem}\n{record}"));
            }
        }
    }
}

async fn one(context: &Context, run: &mut Option<Run>, seed: u64) -> Outcome {
    let run = match run {
        Some(run) => run,
        none => none.insert(Run::start(&case(), context).await?),
    };
    run.perform(&steps(seed)).await?;
    run.converge(&[], CATCH_UP).await?;
    run.stop_all().await
}

/// The node and the client of random cases.
fn case() -> Case {
    Case {
        name: "random".to_owned(),
        about: String::new(),
        needs: Vec::new(),
        settings: toml::Table::new(),
        endpoints: vec![Endpoint::Proxy],
        timeout_ms: 5_000,
        gate: false,
        token: TokenKind::None,
        long: false,
        steps: Vec::new(),
    }
}

/// The state that the steps so far have led to.
struct Scene {
    rng: Rng,
    tag: String,
    prefix: String,
    follower: String,
    filter: Filter,
    store: Option<String>,
    view: Option<String>,
    /// The articles by their number, and whether they match.
    articles: BTreeMap<usize, bool>,
    /// Whether the driver can be replaced. A follower that starts now and has no position yet would miss changes.
    is_restartable: bool,
    steps: Vec<Step>,
}

/// Returns the steps of a seed.
fn steps(seed: u64) -> Vec<Step> {
    let mut rng = Rng::with_seed(seed);
    let tag = format!("r{seed}");
    let store = [None, Some("file"), Some("file"), Some("memory")][rng.usize(..4)].map(str::to_owned);
    let view = [None, Some("ARTICLE_VIEW_FULL"), Some("ARTICLE_VIEW_REFERENCE")][rng.usize(..3)];
    let mut scene = Scene {
        rng,
        prefix: format!("r{seed}-"),
        follower: format!("f{seed}"),
        filter: Filter { tags: vec![tag.clone()], ..Filter::default() },
        tag,
        store,
        view: view.map(str::to_owned),
        articles: BTreeMap::new(),
        is_restartable: false,
        steps: Vec::new(),
    };
    scene.publish();
    if scene.rng.u8(..4) == 0 {
        // The first connection is a bad one.
        scene.limit();
    }
    let start = match scene.steps.iter().any(|step| matches!(step, Step::Proxy { .. })) {
        true => Start::Snapshot,
        false => [Start::Snapshot, Start::Snapshot, Start::Now][scene.rng.usize(..3)].clone(),
    };
    scene.follow(start);
    for _ in 0..scene.rng.u8(3..9) {
        scene.act();
    }
    scene.steps.push(Step::Proxy { mode: Mode::Pass, other: false });
    if scene.rng.bool() {
        scene.publish();
    }
    scene.steps
}

impl Scene {
    fn act(&mut self) {
        match self.rng.u8(..100) {
            0..24 => self.publish(),
            24..32 => self.patch(),
            32..42 => self.remove(),
            42..50 => self.retag(),
            50..60 => self.steps.push(Step::Cut {}),
            60..70 => self.limit(),
            70..74 => {
                self.steps.push(Step::Proxy { mode: Mode::Refuse, other: false });
                self.pause();
                self.pass();
            }
            74..78 => {
                let delay = self.rng.u64(1..30);
                self.steps.push(Step::Proxy { mode: Mode::DelayMs(delay), other: false });
            }
            78..81 => {
                self.steps.push(Step::Proxy { mode: Mode::Silent, other: false });
                self.publish();
                self.pause();
                self.pass();
            }
            81..84 => self.pass(),
            84..88 => self.restart_node(),
            88..94 => self.restart_driver(),
            94..97 => self.pause(),
            _ => self.steps.push(Step::Converge {
                of: Vec::new(),
                within_ms: u64::try_from(CATCH_UP.as_millis()).unwrap_or(u64::MAX),
            }),
        }
        if matches!(self.steps.last(), Some(Step::Converge { .. })) {
            // A connection that is cut again and again can make no progress.
            let last = self.steps.len() - 1;
            self.steps.insert(last, Step::Proxy { mode: Mode::Pass, other: false });
        }
    }

    fn follow(&mut self, start: Start) {
        self.is_restartable = matches!(start, Start::Snapshot) && self.store.as_deref() == Some("file");
        self.steps.push(Step::Follow {
            id: self.follower.clone(),
            filter: self.filter.clone(),
            raw_filter: None,
            start,
            reset: true,
            view: self.view.clone(),
            body_format: None,
            store: self.store.clone(),
            interval_ms: 1_000,
            refused: false,
        });
    }

    fn publish(&mut self) {
        let count = self.rng.usize(1..6);
        let commit = self.rng.bool();
        let bytes = [0, 200, 5_000, 60_000][self.rng.usize(..4)];
        let headline = format!("Storm {}", self.rng.u32(..));
        for number in 0..count {
            self.articles.insert(number, true);
        }
        self.steps.push(Step::Publish {
            articles: count,
            prefix: self.prefix.clone(),
            tags: vec![self.tag.clone()],
            bytes,
            fill: "storm ".to_owned(),
            headline,
            commit,
            import: false,
        });
    }

    /// Patches all articles up to the first that does not exist.
    fn patch(&mut self) {
        let articles = (0..).take_while(|number| self.articles.contains_key(number)).count();
        if articles > 0 {
            let headline = format!("Calm {}", self.rng.u32(..));
            self.steps.push(Step::Patch { articles, prefix: self.prefix.clone(), headline });
        }
    }

    fn remove(&mut self) {
        let numbers: Vec<usize> = self.articles.keys().copied().collect();
        let Some(number) = self.rng.choice(numbers) else { return };
        self.articles.remove(&number);
        let name = format!("articles/{}{number}", self.prefix);
        self.steps.push(Step::Remove { name, reason: "REMOVAL_REASON_WITHDRAWN".to_owned() });
    }

    /// Puts the first articles without their tag.
    fn retag(&mut self) {
        let articles = self.rng.usize(1..4);
        for number in 0..articles {
            self.articles.insert(number, false);
        }
        self.steps.push(Step::Publish {
            articles,
            prefix: self.prefix.clone(),
            tags: Vec::new(),
            bytes: 0,
            fill: String::new(),
            headline: format!("Elsewhere {}", self.rng.u32(..)),
            commit: self.rng.bool(),
            import: false,
        });
    }

    /// Cuts every connection after some bytes.
    fn limit(&mut self) {
        let bytes = 1 << self.rng.u32(4..17);
        let bytes = bytes + self.rng.u64(..bytes);
        self.steps.push(Step::Proxy { mode: Mode::CutAfter(bytes), other: false });
        self.steps.push(Step::Cut {});
    }

    fn pass(&mut self) {
        self.steps.push(Step::Proxy { mode: Mode::Pass, other: false });
    }

    fn pause(&mut self) {
        let ms = self.rng.u64(1..200);
        self.steps.push(Step::Sleep { ms });
    }

    fn restart_node(&mut self) {
        let actions: &[&str] = if self.rng.bool() { &["kill", "start"] } else { &["term", "wait", "start"] };
        self.steps.extend(actions.iter().map(|action| Step::Node { action: (*action).to_owned() }));
    }

    /// Only a position in a file survives the driver.
    fn restart_driver(&mut self) {
        if self.is_restartable {
            self.steps.push(Step::KillDriver);
            self.publish();
            self.steps.push(Step::Restart { of: self.follower.clone() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_steps_and_seeds_differ() {
        assert_eq!(format!("{:?}", steps(7)), format!("{:?}", steps(7)));
        assert_ne!(format!("{:?}", steps(7)), format!("{:?}", steps(8)));
    }
}
