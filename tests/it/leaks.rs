//! Nothing that readers receive depends on pending versions. Two stores start equal and have the same history by one
//! clock. Where one takes an entry of the pending slot, the other takes a put of an author that nothing else names, so
//! that revisions remain equal. To every request, both must return the same response, byte for byte.
//!
//! The comparison leaves out only data that names that author, and the data for verifying a store's lineage and
//! content: the chain and the digests.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

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
    raw::{Raw, decode, field, request_bytes, retain_fields, values},
    support::Node,
};

mod feeds;

const START: i64 = 1_900_000_000_000_000;
const SECOND: i64 = 1_000_000;
const ARTICLES: u64 = 14;
const PATHS: u64 = 8;
const STEPS: usize = 200;
const UNRELATED: &str = "authors/unrelated";

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

/// The store with pending versions, and the one with an unrelated author in their place.
struct Pair {
    holding: Raw,
    plain: Raw,
    hands: ManualClock,
    now: i64,
    /// A counter that makes each due time and each text unique.
    count: i64,
    names: BTreeMap<String, Known>,
    /// Feeds that are followed at both stores throughout the history.
    live: Vec<feeds::Live>,
}

fn timestamp(micros: i64) -> Timestamp {
    let nanos = (micros.rem_euclid(SECOND) * 1_000) as i32;
    Timestamp { seconds: micros.div_euclid(SECOND), nanos }
}

fn rfc3339(micros: i64) -> String {
    timestamp(micros).to_string()
}

async fn head(raw: &Raw) -> i64 {
    raw.call("GetStatus", json!({})).await.unwrap()["head"]["revision"].as_i64().unwrap_or(0)
}

async fn reach(raw: &Raw, revision: i64) {
    let freshness = json!({"at_least_revision": revision, "max_wait": "10s"});
    raw.call("GetTag", json!({"name": "tags/t1", "freshness": freshness})).await.unwrap();
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
        for live in &mut self.live {
            live.compare(marked["result"]["revision"].as_i64().unwrap()).await;
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

fn micros(time: &Value) -> Option<i64> {
    let time: Timestamp = time.as_str()?.parse().unwrap();
    Some(time.seconds * SECOND + i64::from(time.nanos / 1_000))
}

fn expire_time(article: &Value) -> Option<i64> {
    micros(&article["expire_time"])
}

fn random_names(rng: &mut Rng, prefix: &str, max: u64, of: u64) -> Vec<String> {
    let numbers: BTreeSet<u64> = (0..rng.between(0, max)).map(|_| rng.between(1, of)).collect();
    numbers.into_iter().map(|n| format!("{prefix}{n}")).collect()
}

/// Returns an article that becomes visible at once unless its caller adds a later time.
fn random_article(pair: &mut Pair, rng: &mut Rng) -> Value {
    pair.count += 1;
    let mut article = json!({
        "name": format!("articles/a{}", rng.between(1, ARTICLES)),
        "headline": format!("Storm {}", pair.count),
        "body": {"blocks": [{"paragraph": {"spans": [{"text": "The ferry did not sail."}]}}]},
        "tags": random_names(rng, "tags/t", 3, 4),
        "section": format!("sections/s{}", rng.between(1, 3)),
        "type": rng.between(1, 3),
        "language": if rng.one_in(2) { "en-GB" } else { "ru" },
    });
    if rng.one_in(2) {
        article["path"] = json!(format!("/p{}", rng.between(1, PATHS)));
    }
    if rng.one_in(4) {
        article["alias_paths"] = json!([format!("/p{}", rng.between(1, PATHS))]);
    }
    if rng.one_in(2) {
        article["byline"] = json!({"credits": [{"author": format!("authors/x{}", rng.between(1, 3))}]});
    }
    if rng.one_in(3) {
        article["publish_time"] = json!(rfc3339(START - rng.between(0, 9) as i64 * SECOND));
    }
    article
}

fn name_of(article: &Value) -> String {
    article["name"].as_str().unwrap().to_owned()
}

/// Returns a path that no other article uses. Pending versions have it: a version that becomes visible takes its path
/// from any article that got it meanwhile, which no put of the other store could do.
fn own_path(name: &str) -> String {
    name.replace("articles/", "/own-")
}

async fn put_live(pair: &mut Pair, rng: &mut Rng) {
    let mut article = random_article(pair, rng);
    let name = name_of(&article);
    if rng.one_in(4) {
        article["expire_time"] = json!(rfc3339(pair.unique_time(rng)));
    }
    if rng.one_in(4) {
        article["path"] = json!(own_path(&name));
    }
    pair.names.entry(name.clone()).or_default();
    if pair.call_both("PutArticle", json!({"article": article, "allow_killed": true})).await {
        let now = pair.now;
        let known = pair.names.get_mut(&name).unwrap();
        known.created.get_or_insert(now);
        (known.live, known.killed) = (Some(expire_time(&article)), false);
        known.hold();
    }
}

async fn put_pending(pair: &mut Pair, rng: &mut Rng) {
    let mut article = random_article(pair, rng);
    article["path"] = json!(own_path(&name_of(&article)));
    let due = pair.unique_time(rng);
    let due = match rng.between(0, 3) {
        0 => {
            article["embargo"] = json!({"until": rfc3339(due)});
            Some(due)
        }
        1 => {
            article["embargo"] = json!({"note": "until called"});
            // Terms that no reader ever sees an article with.
            article["tags"] = json!(["tags/never", "tags/t1"]);
            article["section"] = json!("sections/never");
            article["byline"] = json!({"credits": [{"author": "authors/never"}]});
            None
        }
        _ => {
            article["publish_time"] = json!(rfc3339(due));
            article["tags"].as_array_mut().unwrap().push(json!("tags/waiting"));
            Some(due)
        }
    };
    if rng.one_in(4) {
        article["expire_time"] = json!(rfc3339(due.unwrap_or(pair.now) + 40 * SECOND));
    }
    // Some names that become due are put in a commit.
    let request = json!({"article": article, "allow_killed": true});
    let (method, request) = match rng.one_in(4) {
        true => ("Commit", json!({"changes": [{"put_article": article, "allow_killed": true}]})),
        false => ("PutArticle", request),
    };
    put_and_record(pair, method, request, &article, due).await;
}

/// Makes a call that puts a pending version, and records what matters later.
async fn put_and_record(pair: &mut Pair, method: &str, request: Value, put: &Value, due: Option<i64>) {
    let name = name_of(put);
    if !pair.call_hidden(method, request).await {
        return;
    }
    let get = request_bytes("GetPending", json!({"name": name}));
    let pending = pair.holding.bytes("GetPending", get).await;
    let content = retain_fields(values(values(&pending, 1)[0], 1)[0], |number| number >= 10);
    let (publish_time, expire_time) = (micros(&put["publish_time"]), expire_time(put));
    let now = pair.now;
    let known = pair.names.entry(name).or_default();
    let created = known.pending.as_ref().map(|pending| pending.created);
    let created = known.created.or(created).unwrap_or(now);
    known.pending = Some(PendingVersion { content, publish_time, expire_time, due, created, held: false });
}

async fn patch(pair: &mut Pair, rng: &mut Rng) {
    let name = format!("articles/a{}", rng.between(1, ARTICLES));
    pair.count += 1;
    let patched = json!({"name": name, "headline": format!("Patched {}", pair.count)});
    if pair.call_both("PatchArticle", json!({"article": patched})).await {
        pair.names.get_mut(&name).into_iter().for_each(Known::hold);
    }
    if pair.names.get(&name).is_none_or(|known| known.live.is_none()) || rng.one_in(2) {
        return;
    }
    let due = pair.unique_time(rng);
    let mut patched = json!({"name": name, "publish_time": rfc3339(due), "path": own_path(&name)});
    patched["expire_time"] = json!(rfc3339(due + 9 * SECOND));
    put_and_record(pair, "PatchArticle", json!({"article": patched}), &patched, Some(due)).await;
}

async fn remove(pair: &mut Pair, rng: &mut Rng) {
    let name = format!("articles/a{}", rng.between(1, ARTICLES));
    let reason = ["DELETED", "WITHDRAWN", "KILLED"][rng.between(0, 2) as usize];
    let request = json!({"name": name, "reason": format!("REMOVAL_REASON_{reason}")});
    let kills = reason == "KILLED";
    let known = pair.names.entry(name.clone()).or_default();
    if kills && known.live.is_none() && (known.created.is_none() || known.killed) {
        // Readers never saw the article, or saw it killed already. They see nothing of this kill.
        if pair.call_hidden("RemoveArticle", request).await {
            pair.names.get_mut(&name).unwrap().pending = None;
        }
    } else if pair.call_both("RemoveArticle", request).await {
        let known = pair.names.get_mut(&name).unwrap();
        (known.live, known.killed) = (None, kills);
    }
}

async fn remove_pending(pair: &mut Pair, rng: &mut Rng) {
    let name = format!("articles/a{}", rng.between(1, ARTICLES));
    if pair.call_hidden("RemovePending", json!({"name": name})).await {
        pair.names.get_mut(&name).unwrap().pending = None;
    }
}

async fn put_other_entity(pair: &mut Pair, rng: &mut Rng) {
    pair.count += 1;
    let (n, text) = (rng.between(1, 3), pair.count.to_string());
    let (method, request) = match rng.between(0, 3) {
        0 => ("PutTag", json!({"tag": {"name": format!("tags/t{n}"), "display_name": text}})),
        1 => ("PutAuthor", json!({"author": {"name": format!("authors/x{n}"), "display_name": text}})),
        2 => {
            let parent = if n == 1 { String::new() } else { "sections/s1".to_owned() };
            let section = json!({"name": format!("sections/s{n}"), "display_name": text, "parent": parent});
            ("PutSection", json!({"section": section}))
        }
        _ => {
            let articles = random_names(rng, "articles/a", 9, ARTICLES);
            let collection =
                json!({"name": format!("collections/c{n}"), "title": text, "articles": articles});
            ("PutCollection", json!({"collection": collection}))
        }
    };
    assert!(pair.call_both(method, request).await);
}

async fn perform_step(pair: &mut Pair, rng: &mut Rng) {
    match rng.between(0, 12) {
        0..=2 => put_live(pair, rng).await,
        3..=6 => put_pending(pair, rng).await,
        7..=8 => patch(pair, rng).await,
        9..=10 => remove(pair, rng).await,
        11 => remove_pending(pair, rng).await,
        _ => put_other_entity(pair, rng).await,
    }
    let passed = rng.between(0, 12) as i64 * SECOND;
    pair.pass(passed).await;
    assert_eq!(head(&pair.holding).await, head(&pair.plain).await);
}

/// Makes a request to both. All messages, or the error, must be the same.
async fn expect_equal(pair: &Pair, method: &str, request: Bytes) -> Result<Vec<Bytes>, String> {
    let holding = pair.holding.send_bytes(method, request.clone()).await;
    let plain = pair.plain.send_bytes(method, request.clone()).await;
    if holding != plain {
        let read = |result: &Result<Vec<Bytes>, String>| match result {
            Ok(responses) => responses.iter().map(|one| response_json(method, one).to_string()).collect(),
            Err(error) => vec![error.clone()],
        };
        let request = decode(&format!("{method}Request"), request);
        panic!("{method} {request}:\n{:#?}\n{:#?}", read(&holding), read(&plain));
    }
    holding
}

fn response_json(method: &str, response: &Bytes) -> Value {
    decode(&format!("{method}Response"), response.clone())
}

async fn expect_equal_json(pair: &Pair, method: &str, request: Value) -> Result<Vec<Bytes>, String> {
    expect_equal(pair, method, request_bytes(method, request)).await
}

/// Returns random views and includes for a response with articles.
fn random_selection(rng: &mut Rng) -> Value {
    let includes: Vec<u64> = (1..=3).filter(|_| rng.one_in(2)).collect();
    let view = rng.between(0, 3);
    let format = if view == 3 { rng.between(0, 4) } else { 0 };
    json!({"view": view, "body_format": format, "includes": includes})
}

fn random_filter(rng: &mut Rng) -> Value {
    match rng.between(0, 9) {
        0 => json!({"all_tags": random_names(rng, "tags/t", 2, 4)}),
        1 => json!({"any_tags": random_names(rng, "tags/t", 3, 4)}),
        2 => json!({"none_tags": random_names(rng, "tags/t", 2, 4)}),
        3 => json!({"section": "sections/s2"}),
        4 => json!({"section": "sections/s1", "include_child_sections": true}),
        5 => json!({"authors": ["authors/x1", "authors/x2"]}),
        6 => json!({"types": [rng.between(1, 3)]}),
        7 => json!({"language": "en-gb"}),
        8 => json!({"published_after": rfc3339(START), "types": [1, 2]}),
        _ => json!({}),
    }
}

async fn by_name(pair: &Pair, rng: &mut Rng) {
    let names: Vec<String> = (1..=ARTICLES).map(|n| format!("articles/a{n}")).collect();
    for name in &names {
        let mut request = random_selection(rng);
        request["name"] = json!(name);
        if let Ok(response) = expect_equal_json(pair, "GetArticle", request.clone()).await {
            let etag = decode("GetArticleResponse", response[0].clone())["meta"]["etag"].clone();
            request["if_none_match"] = etag;
            expect_equal_json(pair, "GetArticle", request).await.unwrap();
        }
    }
    let mut request = random_selection(rng);
    request["names"] = json!(names);
    expect_equal_json(pair, "BatchGetArticles", request).await.unwrap();
    let own = names.iter().map(|name| own_path(name));
    for path in (1..=PATHS).map(|path| format!("/p{path}")).chain(own) {
        let mut request = random_selection(rng);
        request["path"] = json!(path);
        let _ = expect_equal_json(pair, "ResolvePath", request).await;
    }
}

/// Compares all pages of a listing, whose token is a field of the response and of the request.
async fn pages(pair: &Pair, method: &str, request: Value, (response_field, request_field): (u32, u32)) {
    let start = request_bytes(method, request);
    let mut request = start.to_vec();
    loop {
        let page = expect_equal(pair, method, request.into()).await.unwrap();
        match values(&page[0], response_field).first() {
            Some(token) => request = [&start[..], &field(request_field, token)].concat(),
            None => return,
        }
    }
}

async fn listings(pair: &Pair, rng: &mut Rng) {
    for _ in 0..6 {
        let filter = random_filter(rng);
        for order in 1..=2 {
            let mut request = random_selection(rng);
            (request["filter"], request["order"]) = (filter.clone(), json!(order));
            expect_equal_json(pair, "StreamArticles", request.clone()).await.unwrap();
            request["page_size"] = json!(rng.between(1, 9));
            pages(pair, "ListArticles", request, (3, 4)).await;
        }
    }
}

async fn other_entities(pair: &Pair, rng: &mut Rng) {
    for n in 1..=4 {
        for (method, name) in [("GetTag", "tags/t"), ("GetSection", "sections/s"), ("GetAuthor", "authors/x")]
        {
            let _ = expect_equal_json(pair, method, json!({"name": format!("{name}{n}")})).await;
        }
        let mut request = random_selection(rng);
        request["name"] = json!(format!("collections/c{n}"));
        let _ = expect_equal_json(pair, "GetCollection", request).await;
    }
    for method in ["ListTags", "ListSections", "ListCollections"] {
        pages(pair, method, json!({"page_size": rng.between(1, 3)}), (2, 2)).await;
    }
    // The unrelated author is in this list, and in no other. Its bytes are left out, and with them the etag.
    let listed = async |raw: &Raw| {
        let response = raw.bytes("ListAuthors", Bytes::new()).await;
        let others = values(&response, 1).into_iter().filter(|author| !names_unrelated(author));
        others.map(<[u8]>::to_vec).collect::<Vec<_>>()
    };
    assert_eq!(listed(&pair.holding).await, listed(&pair.plain).await);
}

fn names_unrelated(bytes: &[u8]) -> bool {
    bytes.windows(UNRELATED.len()).any(|window| window == UNRELATED.as_bytes())
}

/// Returns the content of an export: its records without the unrelated author's, their number, and the head.
async fn exported(raw: &Raw, after: i64) -> (Vec<Vec<u8>>, i64, Value) {
    let messages =
        raw.send_bytes("Export", request_bytes("Export", json!({"after_revision": after}))).await.unwrap();
    let records = messages.iter().flat_map(|message| values(message, 1)).map(<[u8]>::to_vec);
    let (unrelated, records): (Vec<_>, Vec<_>) = records.partition(|record| names_unrelated(record));
    let end = decode("ExportResponse", messages.last().unwrap().clone())["end"].clone();
    let count = end["count"].as_i64().unwrap_or(0) - unrelated.len() as i64;
    (records, count, end["position"]["revision"].clone())
}

async fn transfers(pair: &Pair, rng: &mut Rng) {
    let head = head(&pair.holding).await;
    for after in [0, rng.between(0, head as u64) as i64, head] {
        assert_eq!(exported(&pair.holding, after).await, exported(&pair.plain, after).await, "after {after}");
    }
}

async fn status(pair: &Pair) {
    let read_status = async |raw: &Raw| {
        let mut status = raw.call("GetStatus", json!({})).await.unwrap();
        status["head"]["chain"] = json!(null);
        for own in ["log_digest", "content_digest", "store_bytes", "cache_bytes", "check_time"] {
            status[own] = json!(null);
        }
        status
    };
    assert_eq!(read_status(&pair.holding).await, read_status(&pair.plain).await);
}

/// Compares every call that readers have. Each service has a function here.
async fn compare(pair: &mut Pair, rng: &mut Rng) {
    by_name(pair, rng).await;
    listings(pair, rng).await;
    other_entities(pair, rng).await;
    transfers(pair, rng).await;
    status(pair).await;
    // A feed that starts now receives only what both have delivered.
    pair.compare_live_feeds().await;
    feeds::compare(pair, rng).await;
}

/// Returns one store twice, with the same log.
async fn twins(clock: &Clock) -> [tempfile::TempDir; 2] {
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
    let mut started = Vec::new();
    for (node, dir) in nodes.into_iter().zip(dirs) {
        node.stop().await;
        let short_history = |config: &mut Config| {
            (config.feed.history_retention, config.feed.history_min_entries) = (Duration::from_secs(30), 0);
        };
        started.push(Node::run(0, dir.path(), clock.clone(), short_history).await);
    }
    (pair.holding, pair.plain) = (Raw::to(&started[0]).await, Raw::to(&started[1]).await);
    status(pair).await;
    // The node drops history once a minute.
    pair.pass(60 * SECOND).await;
    for raw in [&pair.holding, &pair.plain] {
        while raw.call("GetStatus", json!({})).await.unwrap()["floor_revision"].is_null() {
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
        hands,
        now: START,
        count: 0,
        names: BTreeMap::new(),
        live: Vec::new(),
    };
    // Both have started before time passes.
    status(&pair).await;
    feeds::follow(&mut pair, &mut rng).await;
    let (mut pending_count, mut live_count) = (0, 0);
    for step in 1..=STEPS {
        perform_step(&mut pair, &mut rng).await;
        pending_count += pair.names.values().filter(|known| known.pending.is_some()).count();
        live_count += pair.names.values().filter(|known| known.live.is_some()).count();
        by_name(&pair, &mut rng).await;
        if step % 10 == 0 {
            compare(&mut pair, &mut rng).await;
            feeds::follow(&mut pair, &mut rng).await;
        }
    }
    feeds::refusals(&pair, &mut rng).await;
    // The history contained enough of the tested cases.
    assert!(pending_count > STEPS && live_count > STEPS, "{pending_count} {live_count}");
    let nodes = restart_with_short_history(&mut pair, nodes, &dirs, &clock).await;
    compare(&mut pair, &mut rng).await;
    feeds::refusals(&pair, &mut rng).await;
    for (node, dir) in nodes.into_iter().zip(&dirs) {
        node.stop().await;
        verify(dir.path());
    }
}
