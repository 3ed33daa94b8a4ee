//! A caller that is limited by a filter sees no other article. Two stores have the same history by one clock, but one of
//! them has only what matches the filter. Where the other one takes a write of an article that does not match, this one
//! takes a put of a hidden article without lists, so that revisions remain equal. If an article comes to match
//! later, or has matched before, it takes a stub of it that does not match. To every request of that caller, both must
//! return the same response, byte for byte.
//!
//! The comparison leaves out one thing: the chain of positions, a hash over all entries.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use cable::{
    auth::{CredentialFile, NewCredential, Role},
    clock::{Clock, ManualClock},
};
use cable_client::v1::ArticleFilter;
use prost::Message as _;
use serde_json::{Value, json};

use crate::{
    dice::Rng,
    leaks::twins,
    raw::{Raw, decode, encode, method_names, request_bytes},
    support::Node,
    web::{
        client::{Response, Twins},
        feed_twins::FeedTwins,
    },
};

mod feeds;
mod reads;
mod scopes;
mod steps;
mod visibility;
mod web_feeds;

const START: i64 = 1_900_000_000_000_000;
const SECOND: i64 = 1_000_000;
const STEPS: usize = 45;

/// A store with a caller that may do everything, and one that is limited by a filter.
struct Store {
    admin: Raw,
    partner: Raw,
}

/// The store with all articles, and the one with only those that match.
struct Pair {
    all: Store,
    matching: Store,
    /// The partner at both stores over HTTP.
    web: Twins,
    hands: ManualClock,
    now: i64,
    /// A counter that makes each text unique.
    count: i64,
    filter: Value,
    names: BTreeMap<String, State>,
    /// Names that are removed.
    removed: BTreeSet<String>,
    /// Feeds of the partner that are followed at both stores throughout the history.
    live: Vec<feeds::Live>,
    /// The same over HTTP.
    web_live: Vec<FeedTwins>,
    /// The methods whose responses were compared.
    compared: BTreeSet<String>,
}

/// The view that the partner has of a name that has been written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Visible,
    /// It was removed while it was visible.
    Removed,
    /// The store with only what matches has a stub.
    Hidden,
}

/// A write of one article, as both stores take it.
struct Mirrored {
    all: Value,
    matching: Value,
    name: String,
    /// The state afterwards.
    state: State,
}

impl Pair {
    /// Writes the change of an article that is accepted by the store with all articles to both.
    async fn commit(&mut self, changes: Vec<Mirrored>) {
        let request =
            |of: fn(&Mirrored) -> &Value| json!({"changes": changes.iter().map(of).collect::<Vec<_>>()});
        if self.all.admin.call("Commit", request(|change| &change.all)).await.is_ok() {
            self.matching.admin.call("Commit", request(|change| &change.matching)).await.unwrap();
            for Mirrored { all, name, state, .. } in changes {
                match all["remove"].is_null() {
                    true => self.removed.remove(&name),
                    false => self.removed.insert(name.clone()),
                };
                self.names.insert(name, state);
            }
        }
    }

    /// Makes a change that concerns no article to both stores.
    async fn call_both(&mut self, method: &str, request: Value) {
        for store in [&self.all, &self.matching] {
            store.admin.call(method, request.clone()).await.unwrap();
        }
    }

    /// Makes a write to the store with all articles that the partner must not see.
    async fn call_hidden(&mut self, method: &str, request: Value) {
        let before = self.head().await;
        if self.all.admin.call(method, request).await.is_ok() && self.head().await > before {
            let padding = self.padding();
            self.matching.admin.call("Commit", json!({"changes": [padding]})).await.unwrap();
        }
    }

    async fn head(&self) -> u64 {
        let status = self.all.admin.call("GetStatus", json!({})).await.unwrap();
        status["head"]["revision"].as_u64().unwrap()
    }

    /// Returns a change for the store with only what matches, where the other one takes one that the partner must not see.
    fn padding(&mut self) -> Value {
        let name = format!("articles/hidden-padding{}", self.count);
        self.stub(&name, &Value::Null)
    }

    /// Returns the put of an article that matches none of the filters.
    fn stub(&mut self, name: &str, publish_time: &Value) -> Value {
        self.count += 1;
        let mut article = json!({"name": name, "headline": format!("hidden-stub {}", self.count), "type": 3});
        article["language"] = json!("fr");
        if !publish_time.is_null() {
            article["publish_time"] = publish_time.clone();
        }
        json!({"put_article": article, "allow_killed": true})
    }

    fn pass(&mut self, seconds: i64) {
        self.now += seconds * SECOND;
        self.hands.set(self.now);
    }

    /// Sends the request of the partner to both stores. Panics unless both return the same messages or the same error,
    /// and nothing in them names a hidden article.
    async fn expect_equal(&mut self, method: &str, request: Bytes) -> Result<Vec<Bytes>, String> {
        self.compared.insert(method.to_owned());
        let all = self.all.partner.send_bytes(method, request.clone()).await;
        let matching = self.matching.partner.send_bytes(method, request.clone()).await;
        if all != matching {
            let read = |result: &Result<Vec<Bytes>, String>| match result {
                Ok(responses) => responses
                    .iter()
                    .map(|one| decode(&format!("{method}Response"), one.clone()).to_string())
                    .collect(),
                Err(error) => vec![error.clone()],
            };
            let sent = decode(&format!("{method}Request"), request);
            panic!(
                "{}: responses to {method} {sent} differ:\n{:#?}\n{:#?}",
                self.filter,
                read(&all),
                read(&matching)
            );
        }
        all.iter().flatten().for_each(|message| assert_not_hidden(message));
        all
    }

    async fn expect_equal_json(&mut self, method: &str, request: Value) -> Result<Vec<Bytes>, String> {
        self.expect_equal(method, request_bytes(method, request)).await
    }
}

/// Checks that a message has no text that only hidden articles have.
fn assert_not_hidden(message: &[u8]) {
    assert!(!message.windows(7).any(|text| text == b"hidden-"), "{}", String::from_utf8_lossy(message));
}

/// Checks the same for the headers and the body of a response over HTTP.
fn assert_web_not_hidden(response: &Response) {
    assert_not_hidden(&response.body);
    response.headers.values().for_each(|value| assert_not_hidden(value.as_bytes()));
}

/// Creates the credentials of a store: one that may do everything, and one of a reader with a filter.
fn credentials(dir: &std::path::Path, filter: &Value) -> [String; 2] {
    let file = CredentialFile::new(dir.join("credentials.toml"));
    let filter = ArticleFilter::decode(encode("ArticleFilter", filter.clone())).unwrap();
    [("admin", Role::Admin, None), ("partner", Role::Reader, Some(filter))].map(|(name, role, filter)| {
        let new = NewCredential { name: name.to_owned(), role, filter, lifetime: None, certificate: None };
        file.create(new, START).unwrap().unwrap().expose().to_owned()
    })
}

async fn start(dir: &std::path::Path, clock: &Clock, filter: &Value) -> (Node, Store, String) {
    let [admin, partner] = credentials(dir, filter);
    let node = Node::start_at(dir, clock.clone()).await;
    let raw = Raw::to(&node).await;
    let store = Store { admin: raw.with_token(&admin), partner: raw.with_token(&partner) };
    (node, store, partner)
}

/// Runs a random history, and compares what the partner sees throughout.
async fn run_history(filter: Value, has_feeds: bool, rng: &mut Rng) {
    let (clock, hands) = Clock::manual(START);
    let dirs = twins(&clock).await;
    let (all_node, all, of_all) = start(dirs[0].path(), &clock, &filter).await;
    let (matching_node, matching, of_matching) = start(dirs[1].path(), &clock, &filter).await;
    let mut pair = Pair {
        all,
        matching,
        web: Twins([(all_node.address, Some(of_all)), (matching_node.address, Some(of_matching))]),
        hands,
        now: START,
        count: 0,
        filter,
        names: BTreeMap::new(),
        removed: BTreeSet::new(),
        live: Vec::new(),
        web_live: Vec::new(),
        compared: BTreeSet::new(),
    };
    steps::put_entities(&mut pair).await;
    let mut visible = 0;
    let (mut step, mut hidden) = (0, 0);
    // A history continues until the partner has seen enough, and enough has been hidden from it.
    while step < STEPS || visible <= STEPS || hidden <= 3 {
        step += 1;
        assert!(step <= 10 * STEPS, "{}: {visible} {hidden}", pair.filter);
        if has_feeds && step % 15 == 1 {
            feeds::follow(&mut pair, rng).await;
            web_feeds::follow(&mut pair, rng).await;
        }
        steps::perform_step(&mut pair, rng).await;
        if step % 3 == 0 {
            reads::by_name(&mut pair, rng).await;
        }
        visible += pair.names.values().filter(|state| **state == State::Visible).count();
        hidden = pair.names.values().filter(|state| **state == State::Hidden).count();
        if has_feeds {
            feeds::compare_live(&mut pair).await;
        }
        if step % 15 == 0 {
            reads::compare(&mut pair, rng).await;
            if has_feeds {
                feeds::compare(&mut pair, rng).await;
                web_feeds::compare(&mut pair, rng).await;
            }
        }
    }
    reads::every_method(&mut pair, has_feeds).await;
    if has_feeds {
        web_feeds::not_caught_up(&pair).await;
    } else {
        web_feeds::refused(&pair).await;
    }
    pair.live.clear();
    pair.web_live.clear();
    all_node.stop().await;
    matching_node.stop().await;
}

fn rng() -> Rng {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let seed =
        std::env::var("CABLE_SEED").map_or(u64::from(now.subsec_nanos()), |seed| seed.parse().unwrap());
    println!("partners: CABLE_SEED={seed}");
    Rng::new(seed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partner_sees_nothing_outside_its_filter() {
    let mut rng = rng();
    for filter in [
        json!({"all_tags": ["tags/t1"], "excluded_tags": ["tags/t2"]}),
        json!({"section": "sections/s1", "include_child_sections": true, "language": "en-gb"}),
        json!({"types": [1, 2], "published_after": steps::rfc3339(START)}),
        json!({
            "all_tags": ["tags/t1"],
            "any_tags": ["tags/t1", "tags/t2", "tags/t3"],
            "authors": ["authors/x1", "authors/x2"],
            "published_before": steps::rfc3339(START + 90 * SECOND),
        }),
    ] {
        run_history(filter, false, &mut rng).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partner_that_follows_feeds_sees_nothing_outside_its_filter() {
    let mut rng = rng();
    for filter in [
        json!({"any_tags": ["tags/t1", "tags/t2"]}),
        json!({"all_tags": ["tags/t1"]}),
        json!({"section": "sections/s1"}),
        json!({"authors": ["authors/x1"]}),
    ] {
        run_history(filter, true, &mut rng).await;
    }
}

/// Waits no longer than any step takes.
const PATIENCE: Duration = Duration::from_secs(120);

/// Methods whose responses to a partner are compared; all others are refused.
const COMPARED: [&str; 18] = [
    "GetArticle",
    "BatchGetArticles",
    "ListArticles",
    "StreamArticles",
    "ResolvePath",
    "GetAuthor",
    "ListAuthors",
    "GetSection",
    "ListSections",
    "GetTag",
    "ListTags",
    "GetCollection",
    "ListCollections",
    "GetStatus",
    "Watch",
    "AcknowledgePosition",
    "ListConsumers",
    "DeleteConsumer",
];

fn refused_methods() -> Vec<String> {
    method_names().into_iter().filter(|name| !COMPARED.contains(&name.as_str())).collect()
}
