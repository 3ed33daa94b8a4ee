//! Nothing that readers receive depends on pending versions. Two stores start equal and have the same history by one
//! clock. Where one takes an entry of the pending slot, the other takes a put of an author that nothing else names, so
//! that revisions remain equal. To every request, both must return the same response, byte for byte.
//!
//! The comparison leaves out only data that names that author, and the data for verifying a store's lineage and
//! content: the chain and the digests.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use cable::{
    clock::{Clock, ManualClock},
    config::Config,
};
use cable_client::Timestamp;
use prost::Message as _;
use serde_json::{Value, json};

use crate::{
    dice::Rng,
    histories::{rebuild, verify},
    raw::{Raw, field, request_bytes, values},
    support::Node,
    web::{client::Twins, feed_twins::FeedTwins},
};

mod feeds;
pub(crate) mod responses;
mod steps;
mod web_feeds;

use responses::{by_name, compare, status};
use steps::perform_step;

const START: i64 = 1_900_000_000_000_000;
const SECOND: i64 = 1_000_000;
const ARTICLES: u64 = 14;
const PATHS: u64 = 8;
const STEPS: usize = 200;
const UNRELATED: &str = "authors/unrelated";

/// The store with pending versions, and the one with an unrelated author in their place.
struct Pair {
    holding: Raw,
    plain: Raw,
    /// Both stores over HTTP.
    web: Twins,
    hands: ManualClock,
    now: i64,
    /// A counter that makes each due time and each text unique.
    count: i64,
    names: BTreeMap<String, Known>,
    /// Feeds that are followed at both stores throughout the history.
    live: Vec<feeds::Live>,
    /// The same over HTTP.
    web_live: Vec<FeedTwins>,
}

impl Pair {
    /// Puts the unrelated author, in place of one entry of the pending slot.
    async fn put_unrelated(&mut self) {
        self.count += 1;
        let author = json!({"name": UNRELATED, "display_name": "U", "bio": self.count.to_string()});
        self.plain.call("PutAuthor", json!({"author": author})).await.unwrap();
    }

    /// Makes the same call to both stores. The responses must be the same, except for the chain. Returns whether the
    /// call was accepted.
    async fn call_both(&mut self, method: &str, request: Value) -> bool {
        let bytes = request_bytes(method, request.clone());
        let holding = self.holding.send_bytes(method, bytes.clone()).await;
        if holding.is_ok() && self.removes_pending(method, &request) {
            self.put_unrelated().await;
        }
        let plain = self.plain.send_bytes(method, bytes).await;
        assert_eq!(holding.as_ref().err(), plain.as_ref().err(), "{method} {request}");
        let results = |response: &[Bytes]| values(&response[0], 1).concat();
        if let (Ok(holding), Ok(plain)) = (&holding, &plain) {
            assert_eq!(results(holding), results(plain), "{method} {request}");
            self.compare_live_feeds().await;
        }
        holding.is_ok()
    }

    /// Checks that live followers of both stores receive the same changes.
    async fn compare_live_feeds(&mut self) {
        self.count += 1;
        let put = json!({"article": feeds::marker(self.count)});
        self.plain.call("PutArticle", put.clone()).await.unwrap();
        let marked = self.holding.call("PutArticle", put).await.unwrap();
        let revision = marked["result"]["revision"].as_i64().unwrap();
        for live in &mut self.live {
            live.compare(revision).await;
        }
        for live in &mut self.web_live {
            live.compare(revision).await;
        }
    }

    /// Returns whether an accepted change of the live version also removes the pending version, and records the
    /// removal.
    fn removes_pending(&mut self, method: &str, request: &Value) -> bool {
        let name = match method {
            "PutArticle" => request["article"]["name"].as_str(),
            "RemoveArticle" => request["name"].as_str(),
            _ => None,
        };
        let Some(known) = name.and_then(|name| self.names.get_mut(name)) else { return false };
        let stays = method == "PutArticle" && known.live.is_some();
        !stays && known.pending.take().is_some()
    }

    /// Makes a call to the store with pending versions: one entry that readers must not see. Returns whether it was
    /// made.
    async fn call_hidden(&mut self, method: &str, request: Value) -> bool {
        let before = head(&self.holding).await;
        let accepted = self.holding.call(method, request).await.is_ok();
        let has_written = head(&self.holding).await > before;
        if has_written {
            self.put_unrelated().await;
        }
        accepted && has_written
    }

    /// Lets time pass. Each due version takes effect at its own time.
    async fn pass(&mut self, micros: i64) {
        let end = self.now + micros;
        loop {
            let due = self.names.iter().flat_map(|(name, known)| {
                let pending = known.pending.as_ref().filter(|pending| !pending.held);
                let pending = pending.and_then(|pending| pending.due);
                let expires = known.live.flatten();
                [(pending, true), (expires, false)]
                    .map(|(time, is_pending)| time.map(|time| (time, is_pending, name)))
            });
            let next = due.flatten().filter(|(time, ..)| *time <= end).min();
            let Some((time, is_pending, name)) =
                next.map(|(time, is_pending, name)| (time, is_pending, name.clone()))
            else {
                break;
            };
            let entries = if is_pending { 2 } else { 1 };
            let revision = head(&self.holding).await + entries;
            self.now = time;
            self.hands.set(time);
            if is_pending {
                self.make_visible(&name, time).await
            } else {
                self.names.get_mut(&name).unwrap().live = None
            }
            reach(&self.holding, revision).await;
            reach(&self.plain, revision).await;
            self.compare_live_feeds().await;
        }
        self.now = end;
        self.hands.set(end);
    }

    /// Puts the version that becomes visible into the store without pending versions, as it would have been put.
    async fn make_visible(&mut self, name: &str, time: i64) {
        self.put_unrelated().await;
        let known = self.names.get_mut(name).unwrap();
        let pending = known.pending.take().unwrap();
        (known.live, known.killed) = (Some(pending.expire_time), false);
        let mut article = [field(1, name.as_bytes()), pending.content].concat();
        if known.created.is_some() {
            // With `allow_killed`, the field 5.
            let request = [&field(1, &article)[..], &[5 << 3, 1]].concat();
            self.plain.send_bytes("PutArticle", request.into()).await.unwrap();
            return;
        }
        known.created = Some(pending.created);
        // Only an import can set these times.
        article.extend(field(4, &timestamp(pending.created).encode_to_vec()));
        article.extend(field(6, &timestamp(pending.publish_time.unwrap_or(time)).encode_to_vec()));
        let chunk = field(2, &field(1, &article));
        let report = self.plain.send("Import", chunk.into()).await.unwrap().remove(0);
        assert_eq!(report["results"][0]["outcome"], "IMPORT_OUTCOME_WRITTEN", "{report}");
    }

    /// Returns a time at which nothing else is due.
    fn unique_time(&mut self, rng: &mut Rng) -> i64 {
        self.count += 1;
        self.now + rng.between(1, 60) as i64 * SECOND + self.count
    }
}

/// A pending version, as the history has it.
#[derive(Debug, Clone)]
struct PendingVersion {
    /// The content as it was put, byte for byte.
    content: Vec<u8>,
    publish_time: Option<i64>,
    expire_time: Option<i64>,
    /// The time at which the version is due. None is an embargo without an end.
    due: Option<i64>,
    /// The time at which the first pending version in this slot was put.
    created: i64,
    /// Whether the live version has changed since, so that this version does not become visible.
    held: bool,
}

/// The known state of a name.
#[derive(Debug, Clone, Default)]
struct Known {
    /// The creation time, if readers ever saw it.
    created: Option<i64>,
    /// Whether readers see it, and until when.
    live: Option<Option<i64>>,
    /// Whether it was killed since readers last saw it.
    killed: bool,
    pending: Option<PendingVersion>,
}

impl Known {
    /// Records a change of the live version.
    fn hold(&mut self) {
        self.pending.iter_mut().for_each(|pending| pending.held = true);
    }
}

fn timestamp(micros: i64) -> Timestamp {
    let nanos = (micros.rem_euclid(SECOND) * 1_000) as i32;
    Timestamp { seconds: micros.div_euclid(SECOND), nanos }
}

async fn head(raw: &Raw) -> i64 {
    raw.call("GetStatus", json!({})).await.unwrap()["head"]["revision"].as_i64().unwrap_or(0)
}

async fn reach(raw: &Raw, revision: i64) {
    let freshness = json!({"at_least_revision": revision, "max_wait": "10s"});
    raw.call("GetTag", json!({"name": "tags/t1", "freshness": freshness})).await.unwrap();
}

/// Returns one store twice, with the same log.
pub(crate) async fn twins(clock: &Clock) -> [tempfile::TempDir; 2] {
    let [first, second] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let node = Node::start_at(first.path(), clock.clone()).await;
    let raw = Raw::to(&node).await;
    raw.call("PutAuthor", json!({"author": {"name": UNRELATED, "display_name": "U"}})).await.unwrap();
    raw.call("PutTag", json!({"tag": {"name": "tags/t1", "display_name": "T"}})).await.unwrap();
    node.stop().await;
    // Rebuilding creates the directory.
    std::fs::remove_dir(second.path()).unwrap();
    rebuild(first.path(), second.path());
    [first, second]
}

/// Restarts both with a history of half a minute, and waits until they have dropped the older history.
async fn restart_with_short_history(
    pair: &mut Pair,
    nodes: [Node; 2],
    dirs: &[tempfile::TempDir; 2],
    clock: &Clock,
) -> [Node; 2] {
    pair.live.clear();
    pair.web_live.clear();
    let mut started = Vec::new();
    for (node, dir) in nodes.into_iter().zip(dirs) {
        node.stop().await;
        let short_history = |config: &mut Config| {
            (config.feed.history_retention, config.feed.history_min_entries) = (Duration::from_secs(30), 0);
        };
        started.push(Node::run(0, dir.path(), clock.clone(), short_history).await);
    }
    (pair.holding, pair.plain) = (Raw::to(&started[0]).await, Raw::to(&started[1]).await);
    pair.web = Twins::anonymous([&started[0], &started[1]]);
    status(pair).await;
    // The node drops history once a minute.
    pair.pass(60 * SECOND).await;
    for raw in [&pair.holding, &pair.plain] {
        while raw.call("GetStatus", json!({})).await.unwrap()["oldest_revision"].is_null() {
            tokio::task::yield_now().await;
        }
    }
    started.try_into().ok().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pending_versions_change_no_response() {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let seed =
        std::env::var("CABLE_SEED").map_or(u64::from(now.subsec_nanos()), |seed| seed.parse().unwrap());
    println!("leaks: CABLE_SEED={seed}");
    let mut rng = Rng::new(seed);
    let (clock, hands) = Clock::manual(START);
    let dirs = twins(&clock).await;
    let nodes = [
        Node::start_at(dirs[0].path(), clock.clone()).await,
        Node::start_at(dirs[1].path(), clock.clone()).await,
    ];
    let mut pair = Pair {
        holding: Raw::to(&nodes[0]).await,
        plain: Raw::to(&nodes[1]).await,
        web: Twins::anonymous([&nodes[0], &nodes[1]]),
        hands,
        now: START,
        count: 0,
        names: BTreeMap::new(),
        live: Vec::new(),
        web_live: Vec::new(),
    };
    // Both have started before time passes.
    status(&pair).await;
    feeds::follow(&mut pair, &mut rng).await;
    web_feeds::follow(&mut pair, &mut rng).await;
    let (mut pending_count, mut live_count) = (0, 0);
    for step in 1..=STEPS {
        perform_step(&mut pair, &mut rng).await;
        pending_count += pair.names.values().filter(|known| known.pending.is_some()).count();
        live_count += pair.names.values().filter(|known| known.live.is_some()).count();
        by_name(&pair, &mut rng).await;
        if step % 10 == 0 {
            compare(&mut pair, &mut rng).await;
            feeds::follow(&mut pair, &mut rng).await;
            web_feeds::follow(&mut pair, &mut rng).await;
        }
    }
    feeds::refusals(&pair, &mut rng).await;
    web_feeds::refusals(&pair, &mut rng).await;
    // The history contained enough of the tested cases.
    assert!(pending_count > STEPS && live_count > STEPS, "{pending_count} {live_count}");
    let nodes = restart_with_short_history(&mut pair, nodes, &dirs, &clock).await;
    compare(&mut pair, &mut rng).await;
    feeds::refusals(&pair, &mut rng).await;
    web_feeds::refusals(&pair, &mut rng).await;
    for (node, dir) in nodes.into_iter().zip(&dirs) {
        node.stop().await;
        verify(dir.path());
    }
}
