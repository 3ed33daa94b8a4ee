//! Readers that call every reading method all the time, with warm caches, while articles are killed. A call that starts
//! after the acknowledgement of a kill returns nothing of the killed article.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;
use cable_client::{Cable, RemovalReason};
use serde_json::{Value, json};

use super::receive_until;
use crate::{
    connections::speaker::{Http2Client, framed},
    raw::{Raw, method_names, request_bytes},
    support::{Node, article, author},
};

const ARTICLES: usize = 100;
const KILLS: usize = 50;
const READERS: usize = 8;

/// The start of the text that only one article has, in its headline and in its body. The number of the article follows.
const MARK: &[u8] = b"murmur-";

/// The methods that return nothing of an article to a reader: those that write, the pending versions, the names of
/// other entities, and the state of the store. A kill ends backups, as `backups` tests.
const OTHERS: [&str; 28] = [
    "Backup",
    "PutArticle",
    "PatchArticle",
    "RemoveArticle",
    "PutAuthor",
    "RemoveAuthor",
    "PutSection",
    "RemoveSection",
    "PutTag",
    "RemoveTag",
    "PutCollection",
    "RemoveCollection",
    "Commit",
    "GetPending",
    "ListPending",
    "RemovePending",
    "Import",
    "GetAuthor",
    "ListAuthors",
    "GetSection",
    "ListSections",
    "GetTag",
    "ListTags",
    "ListCollections",
    "GetStatus",
    "AcknowledgePosition",
    "ListConsumers",
    "DeleteConsumer",
];

/// Returns the requests of all readers.
fn requests() -> Vec<(&'static str, Value)> {
    let name = |n: usize| format!("articles/a{n:03}");
    let all_includes = json!([1, 2, 3]);
    let mut requests = Vec::new();
    for n in 0..ARTICLES {
        requests.push(("GetArticle", json!({"name": name(n), "view": n % 4, "includes": all_includes})));
        requests.push(("GetArticle", json!({"name": name(n), "view": 3, "body_format": n % 5})));
        requests.push(("ResolvePath", json!({"path": format!("/murmurs/{n:03}"), "includes": all_includes})));
    }
    for first in (0..ARTICLES).step_by(20) {
        let names: Vec<_> = (first..first + 20).map(name).collect();
        requests.push(("BatchGetArticles", json!({"names": names, "view": 3, "includes": all_includes})));
    }
    for n in 0..4 {
        for view in 0..4 {
            let filter = json!({"all_tags": [format!("tags/t{n}")]});
            let list = json!({"filter": filter, "view": view, "page_size": 100, "includes": all_includes});
            requests.push(("ListArticles", list));
            let collection = format!("collections/c{n}");
            requests
                .push(("GetCollection", json!({"name": collection, "view": view, "includes": all_includes})));
            requests.push(("StreamArticles", json!({"filter": filter, "view": view, "order": n % 3})));
        }
    }
    requests.push(("Export", json!({})));
    requests.push(("Watch", json!({"snapshot": true, "view": 3, "filter": {}})));
    requests
}

/// Puts the articles, and what refers to them.
async fn fill(cable: &Cable, raw: &Raw) {
    cable.put(author("x", "Ann Ellery")).await.unwrap();
    for n in 0..ARTICLES {
        let mut murmur = article(&format!("a{n:03}"), &format!("murmur-{n:03}"), &[&format!("t{}", n % 4)]);
        murmur.path = format!("/murmurs/{n:03}");
        cable.put(murmur).await.unwrap();
    }
    for n in 0..4 {
        let names: Vec<_> =
            (0..ARTICLES).filter(|at| at % 4 == n).map(|at| format!("articles/a{at:03}")).collect();
        let collection = json!({"name": format!("collections/c{n}"), "title": "Murmurs", "articles": names});
        raw.call("PutCollection", json!({"collection": collection})).await.unwrap();
    }
}

/// Returns the numbers of the articles whose text is in the bytes.
fn marks(bytes: &[u8]) -> BTreeSet<usize> {
    let starts = bytes.windows(MARK.len()).enumerate().filter(|(_, window)| *window == MARK);
    let number = |(at, _): (usize, &[u8])| {
        let digits = bytes.get(at + MARK.len()..at + MARK.len() + 3)?;
        std::str::from_utf8(digits).ok()?.parse().ok()
    };
    starts.filter_map(number).collect()
}

/// The progress of a kill.
#[derive(Clone, Copy)]
struct Kill {
    start: Instant,
    acknowledged: Option<Instant>,
}

#[derive(Default)]
struct Kills(Mutex<BTreeMap<usize, Kill>>);

/// The responses of all readers.
#[derive(Default)]
struct Seen {
    responses: usize,
    methods: BTreeSet<String>,
    /// How long after the start of a kill a response with the article arrived, the longest for each article.
    latest: BTreeMap<usize, Duration>,
}

impl Kills {
    /// Returns the articles that must not be in responses from now on.
    fn acknowledged(&self) -> BTreeSet<usize> {
        let kills = self.0.lock().unwrap();
        kills.iter().filter(|(_, kill)| kill.acknowledged.is_some()).map(|(n, _)| *n).collect()
    }

    /// Checks a response to a call that started when these articles were gone.
    fn check(&self, what: &str, gone: &BTreeSet<usize>, response: &[u8], seen: &mut Seen) {
        let found = marks(response);
        let killed: Vec<_> = gone.intersection(&found).collect();
        assert!(killed.is_empty(), "{what} returns killed articles: {killed:?}");
        seen.responses += 1;
        seen.methods.insert(what.to_owned());
        for (n, kill) in self.0.lock().unwrap().iter().filter(|(n, _)| found.contains(n)) {
            let latest = seen.latest.entry(*n).or_default();
            *latest = (*latest).max(kill.start.elapsed());
        }
    }
}

/// Makes a call. Returns all bytes of its messages.
async fn read(raw: &Raw, method: &str, request: Bytes) -> Vec<u8> {
    if method == "Watch" {
        // A snapshot ends with the position from which the feed continues.
        let mut feed = raw.stream(method, request).await.unwrap();
        return receive_until(&mut feed, 1).await;
    }
    let responses = raw.send_bytes(method, request).await;
    responses.unwrap_or_else(|refused| vec![refused.into()]).concat()
}

/// Makes the same calls as a browser.
async fn read_as_browser(client: &Http2Client, method: &str, request: &Bytes) -> Vec<u8> {
    const WEB: (&str, &str) = ("content-type", "application/grpc-web+proto");
    let path = format!("/cable.v1.ContentService/{method}");
    let mut call = client.start_call(&path, &[WEB]).await;
    call.request.send_data(framed(request), true).unwrap();
    call.response().await.finish().await.0.to_vec()
}

/// Calls until all kills are done, and once more after that.
async fn run_reader(at: usize, raw: Raw, browser: Http2Client, kills: Arc<Kills>) -> Seen {
    let requests: Vec<_> =
        requests().into_iter().map(|(method, request)| (method, request_bytes(method, request))).collect();
    let mut seen = Seen::default();
    loop {
        let is_last = kills.acknowledged().len() == KILLS;
        // Each reader starts elsewhere.
        for n in 0..requests.len() {
            let (method, request) = &requests[(n + at * requests.len() / READERS) % requests.len()];
            let gone = kills.acknowledged();
            let response = read(&raw, method, request.clone()).await;
            kills.check(method, &gone, &response, &mut seen);
            if n % 7 == 0 && !["Watch", "Export"].contains(method) {
                let gone = kills.acknowledged();
                let response = read_as_browser(&browser, method, request).await;
                kills.check("gRPC-Web", &gone, &response, &mut seen);
            }
        }
        if is_last {
            return seen;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_returns_a_killed_body_after_the_acknowledgement() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let (cable, raw) = (node.client(), Raw::to(&node).await);
    fill(&cable, &raw).await;
    // The measure is valid: each article is in responses of each method before the kills.
    let mut found = BTreeMap::<&str, BTreeSet<usize>>::new();
    for (method, request) in requests() {
        let response = read(&raw, method, request_bytes(method, request)).await;
        found.entry(method).or_default().extend(marks(&response));
    }
    let read: BTreeSet<_> = found.keys().map(|method| (*method).to_owned()).collect();
    for (method, found) in found {
        assert_eq!(found.len(), ARTICLES, "{method}");
    }
    let others: BTreeSet<_> =
        method_names().into_iter().filter(|name| !OTHERS.contains(&&name[..])).collect();
    assert_eq!(others, read, "each method either is read here or returns no article");

    let kills = Arc::<Kills>::default();
    let mut readers = Vec::new();
    for at in 0..READERS {
        let (raw, browser) = (Raw::to(&node).await, Http2Client::connect(node.address, 1 << 20).await);
        readers.push(tokio::spawn(run_reader(at, raw, browser, kills.clone())));
    }
    for n in 0..KILLS {
        let start = Instant::now();
        kills.0.lock().unwrap().insert(n, Kill { start, acknowledged: None });
        cable.remove(format!("articles/a{n:03}"), RemovalReason::Killed).await.unwrap();
        kills.0.lock().unwrap().insert(n, Kill { start, acknowledged: Some(Instant::now()) });
    }
    let (mut responses, mut latest) = (0, Vec::new());
    for reader in readers {
        let seen = reader.await.unwrap();
        assert!(read.is_subset(&seen.methods) && seen.methods.contains("gRPC-Web"), "{:?}", seen.methods);
        responses += seen.responses;
        latest.extend(seen.latest.into_values());
    }
    latest.sort();
    println!("{responses} responses beside {KILLS} kills; last seen after their start: {:?}", latest.last());
    node.stop().await;
}
