//! Concurrent clients read, write with preconditions and remove a few names. The history of all calls, with the time of
//! each start and end, must be one that a single copy of the names could have produced.
//!
//! `CABLE_OPS` sets the number of calls (20,000 by default), `CABLE_SEED` repeats the choices of an earlier run.

mod checker;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use cable_client::{Cable, ErrorReason, RemovalReason, v1};
use futures_util::future::join_all;

use crate::{
    dice::Rng,
    support::{Node, article},
};
use checker::{Action, Event, Version, check};

const CLIENTS: u64 = 16;
const NAMES: usize = 8;

fn from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_calls_have_an_order_that_explains_all_responses() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = from_env("CABLE_SEED").unwrap_or(u64::from(now.subsec_nanos()));
    let calls = from_env("CABLE_OPS").unwrap_or(20_000);
    println!("order of calls: CABLE_SEED={seed}");
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let mut rng = Rng::new(seed);
    let start = Instant::now();
    let contents = Arc::new(AtomicU64::new(0));
    let clients = (0..CLIENTS).map(|_| {
        let client = Client {
            cable: node.client(),
            rng: rng.fork(),
            start,
            contents: contents.clone(),
            known: vec![Known::Nothing; NAMES],
        };
        tokio::spawn(client.run(calls / CLIENTS))
    });
    let events: Vec<_> = join_all(clients).await.into_iter().flat_map(Result::unwrap).collect();
    let took = start.elapsed();
    let counts = check(&events).unwrap();
    println!("{} calls in {:.1} s, {counts:?}", events.len(), took.as_secs_f64());
    assert!(counts.puts > 0 && counts.refused_puts > 0 && counts.removals > 0 && counts.reads > 0);
    node.stop().await;
}

/// The newest version of a name that a client has read or written.
#[derive(Debug, Clone)]
enum Known {
    Nothing,
    Absent,
    Present { etag: String, revision: i64 },
}

struct Client {
    cable: Cable,
    rng: Rng,
    start: Instant,
    /// The number of contents so far: each put has its own.
    contents: Arc<AtomicU64>,
    known: Vec<Known>,
}

impl Client {
    async fn run(mut self, calls: u64) -> Vec<Event> {
        let mut events = Vec::new();
        for _ in 0..calls {
            let name = self.rng.between(0, NAMES as u64 - 1) as usize;
            let start = self.now();
            let action = match (self.rng.between(0, 9), self.known[name].clone()) {
                (0, _) => self.remove(name).await,
                (1..=3, _) | (_, Known::Nothing) => self.get(name).await,
                (_, known) => self.put(name, known).await,
            };
            events.push(Event { start, end: self.now(), name, action });
        }
        events
    }

    fn now(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    async fn get(&mut self, name: usize) -> Action {
        let found = match self.cable.article(format!("n{name}")).await {
            Ok(found) => Some(found.into_inner()),
            Err(error) => {
                assert!(is_absence(&error), "{error}");
                None
            }
        };
        let version = found.as_ref().map(|article| Version {
            revision: article.revision,
            content: article.headline.parse().unwrap(),
        });
        self.known[name] = match found {
            Some(v1::Article { etag, revision, .. }) => Known::Present { etag, revision },
            None => Known::Absent,
        };
        Action::Get { found: version }
    }

    async fn put(&mut self, name: usize, known: Known) -> Action {
        let content = self.contents.fetch_add(1, Relaxed);
        let put = self.cable.put(article(&format!("n{name}"), &content.to_string(), &[]));
        let (put, expected) = match &known {
            Known::Present { etag, revision } => (put.if_etag(etag), Some(*revision)),
            _ => (put.if_absent(), None),
        };
        let revision = match put.await {
            Ok(written) => {
                assert!(written.changed);
                let (etag, revision) = (written.etag, written.revision);
                self.known[name] = Known::Present { etag, revision };
                Some(revision)
            }
            Err(error) => {
                let reason = error.reason();
                let is_refusal =
                    [ErrorReason::EtagMismatch, ErrorReason::NameExists].map(Some).contains(&reason);
                assert!(is_refusal || is_absence(&error), "{error}");
                self.known[name] = Known::Nothing;
                None
            }
        };
        Action::Put { expected, content, revision }
    }

    async fn remove(&mut self, name: usize) -> Action {
        let removed = self.cable.remove(format!("articles/n{name}"), RemovalReason::Deleted).await;
        self.known[name] = Known::Absent;
        let revision = match removed {
            Ok(written) => written.changed.then_some(written.revision),
            Err(error) => {
                assert!(is_absence(&error), "{error}");
                None
            }
        };
        Action::Remove { revision }
    }
}

fn is_absence(error: &cable_client::Error) -> bool {
    use ErrorReason::{ArticleGone, ArticleNotFound, NameGone, NameNotFound};
    [ArticleGone, ArticleNotFound, NameGone, NameNotFound].map(Some).contains(&error.reason())
}
