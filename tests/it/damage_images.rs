//! A small store is damaged in every way that a disk or an operator can cause: one flipped bit in a page of each kind,
//! a truncated, missing or foreign file, a write-ahead log with a flipped bit. Each image is opened, and everything
//! readable is read. No byte may be wrong, and no incomplete response may pass for complete.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::Path,
    time::Duration,
};

use cable::{clock::Clock, config::Config};
use cable_client::{Cable, EntityKind, ErrorKind, Event, FeedFilter, Filter, RemovalReason, Retry, View, v1};
use futures_util::{Stream, StreamExt as _};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle, time::timeout};

use crate::{
    dice::Rng,
    support::{Node, article, author, body},
};

const PAGE: usize = 8_192;
/// The time limit of a call. A call that does not end would itself be a fault.
const PATIENCE: Duration = Duration::from_secs(20);

/// The content that all responses must agree with: entities by name, without their etags, which differ in a copy of a
/// store.
#[derive(Debug, Default, PartialEq)]
struct Expected {
    entities: BTreeMap<String, v1::Article>,
    tagged: BTreeSet<String>,
    removed: BTreeSet<String>,
    authors: BTreeSet<String>,
    paths: BTreeMap<String, String>,
}

/// The outcome of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// All content is present and no fault is reported.
    NoEffect,
    /// The store is not opened. The message names a remedy.
    Refused,
    /// Responses report the missing content.
    Reported,
}

/// The method that makes an image from the files of a store.
#[derive(Debug, Clone, Copy)]
enum Damage {
    Flip { at: usize, bit: u8 },
    Cut(usize),
    Absent,
    Foreign,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Outcome::NoEffect => "no effect",
            Outcome::Refused => "refused",
            Outcome::Reported => "reported",
        })
    }
}

fn noise(seed: usize, words: usize) -> String {
    let word = |n: usize| {
        let x = (seed * 7_919 + n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        format!("{:016x} ", x ^ (x >> 29))
    };
    (0..words).map(word).collect()
}

/// Fills a store. The returned `Expected` is its content.
async fn fill(cable: &Cable) -> Expected {
    let mut expected = Expected::default();
    for id in ["ann", "bob"] {
        cable.put(author(id, "Ann Ellery")).await.unwrap();
        expected.authors.insert(format!("authors/{id}"));
    }
    for n in 0..60 {
        let tags: &[&str] = if n % 3 == 0 { &["sea", "sky"] } else { &["sky"] };
        let mut one = article(&format!("a{n:02}"), &noise(n, 6), tags);
        one.path = format!("/news/{n}");
        // Some bodies take several pages.
        one.body = Some(body(&noise(n, if n % 10 == 0 { 4_000 } else { 40 })));
        cable.put(one.clone()).await.unwrap();
        if n % 7 == 0 {
            one.tags = vec!["tags/sea".into()];
            cable.put(one).await.unwrap();
        }
    }
    for (id, reason) in
        [("a05", RemovalReason::Withdrawn), ("a06", RemovalReason::Killed), ("a20", RemovalReason::Deleted)]
    {
        cable.remove(format!("articles/{id}"), reason).await.unwrap();
        expected.removed.insert(format!("articles/{id}"));
    }
    for n in [1, 90, 91] {
        let mut later = article(&format!("a{n:02}"), "Later", &["sky"]);
        later.publish_time = Some(prost_types::Timestamp { seconds: 32_503_680_000, nanos: 0 });
        cable.put(later).await.unwrap();
    }
    for n in 0..60 {
        let name = format!("articles/a{n:02}");
        if expected.removed.contains(&name) {
            continue;
        }
        let found = cable.article(name.as_str()).await.unwrap().value;
        if found.tags.iter().any(|tag| tag == "tags/sea") {
            expected.tagged.insert(name.clone());
        }
        expected.paths.insert(found.path.clone(), name.clone());
        expected.entities.insert(name, without_etag(found));
    }
    expected
}

fn without_etag(mut article: v1::Article) -> v1::Article {
    article.etag.clear();
    article
}

/// The files of a store that was closed, and of one that was killed with commits in its log.
struct Store {
    expected: Expected,
    closed: Vec<u8>,
    killed: BTreeMap<String, Vec<u8>>,
}

async fn store() -> Store {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let expected = fill(&node.client()).await;
    let files = std::fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap());
    let read = |file: std::fs::DirEntry| {
        (file.file_name().to_string_lossy().into_owned(), std::fs::read(file.path()).unwrap())
    };
    let killed = files.map(read).collect();
    node.stop().await;
    let closed = std::fs::read(dir.path().join("cable.db")).unwrap();
    Store { expected, closed, killed }
}

/// A node that may fail to open its store.
struct Opened {
    cable: Cable,
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<(), cable::server::Error>>,
}

async fn open(dir: &Path) -> Result<Opened, String> {
    let mut config = Config::default();
    config.store.dir = dir.to_owned();
    (config.store.reserve_bytes, config.server.ops_listen, config.server.threads) = (0, None, 1);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (stop, stopped) = oneshot::channel::<()>();
    let mut running = tokio::spawn(cable::server::run(config, Clock::system(), listener, async {
        let _ = stopped.await;
    }));
    let cable = Cable::builder(endpoint).retry(Retry::none()).build().unwrap();
    tokio::select! {
        biased;
        ended = &mut running => return Err(refusal(ended)),
        status = cable.status() => if status.is_ok() {
            return Ok(Opened { cable, stop, running });
        }
    }
    Err(refusal(running.await))
}

/// Returns the reason why a node did not open its store.
fn refusal(ended: Result<Result<(), cable::server::Error>, tokio::task::JoinError>) -> String {
    let error = ended.expect("a damaged store is no panic").expect_err("the node failed");
    let cause = std::error::Error::source(&error).map(ToString::to_string);
    format!("{error}: {}", cause.unwrap_or_default())
}

/// A reader that compares responses with the truth and counts reported faults.
struct Reader<'a> {
    expected: &'a Expected,
    reported: usize,
}

impl Reader<'_> {
    /// Counts an error, which must report damage and nothing else.
    fn report(&mut self, error: &cable_client::Error, of: &str) {
        assert_eq!(error.kind(), ErrorKind::DataLoss, "{of}: {error}");
        self.reported += 1;
    }

    fn check(&self, found: v1::Article, of: &str) -> String {
        let name = found.name.clone();
        let expected =
            self.expected.entities.get(&name).unwrap_or_else(|| panic!("{of}: {name} does not exist"));
        assert_eq!(&without_etag(found), expected, "{of}: wrong bytes");
        name
    }

    async fn read_all(&mut self, cable: &Cable) {
        for name in self.expected.entities.keys() {
            match cable.article(name.as_str()).await {
                Ok(found) => drop(self.check(found.value, "get")),
                Err(error) => self.report(&error, name),
            }
        }
        for name in &self.expected.removed {
            let error = cable.article(name.as_str()).await.expect_err("the article was removed");
            if error.kind() != ErrorKind::NotFound {
                self.report(&error, name);
            }
        }
        for (path, name) in &self.expected.paths {
            match cable.resolve(path.as_str()).await {
                Ok(found) => assert_eq!(&self.check(found.value.article, "path"), name, "{path}"),
                Err(error) => self.report(&error, path),
            }
        }
        let all: BTreeSet<String> = self.expected.entities.keys().cloned().collect();
        let tagged = || Filter::default().tag("sea");
        self.complete(cable.list(Filter::default()).view(View::Full).items(), &all, "list").await;
        self.complete(cable.list(tagged()).view(View::Full).items(), &self.expected.tagged, "list of a tag")
            .await;
        self.complete(cable.stream(Filter::default()).view(View::Full).articles(), &all, "stream").await;
        self.complete(
            cable.stream(tagged()).view(View::Full).articles(),
            &self.expected.tagged,
            "stream of a tag",
        )
        .await;
        self.authors(cable).await;
        self.export(cable).await;
        self.snapshot(cable, &all).await;
    }

    /// Asserts that all received items are correct and, if no fault is reported, complete.
    async fn complete(
        &mut self,
        mut items: impl Stream<Item = cable_client::Result<v1::Article>> + Unpin,
        wanted: &BTreeSet<String>,
        of: &str,
    ) {
        let (mut found, mut complete) = (BTreeSet::new(), true);
        while let Some(item) = items.next().await {
            match item {
                Ok(item) => assert!(found.insert(self.check(item, of)), "{of}: twice"),
                Err(error) => {
                    self.report(&error, of);
                    complete = false;
                }
            }
        }
        assert!(found.is_subset(wanted), "{of}: {found:?}");
        assert!(!complete || found == *wanted, "{of} lacks {:?} in silence", wanted.difference(&found));
    }

    async fn authors(&mut self, cable: &Cable) {
        let mut authors = cable.authors().items();
        let (mut found, mut complete) = (BTreeSet::new(), true);
        while let Some(author) = authors.next().await {
            match author {
                Ok(author) => drop(found.insert(author.name)),
                Err(error) => {
                    self.report(&error, "authors");
                    complete = false;
                }
            }
        }
        assert!(!complete || found == self.expected.authors, "authors: {found:?}");
    }

    async fn export(&mut self, cable: &Cable) {
        let mut records = cable.export().records();
        let (mut found, mut complete) = (BTreeSet::new(), true);
        while let Some(record) = records.next().await {
            match record {
                Ok(record) => {
                    if let Some(v1::record::Record::Article(one)) = record.decode().unwrap().record {
                        found.insert(self.check(one, "export"));
                    }
                }
                Err(error) => {
                    self.report(&error, "export");
                    complete = false;
                }
            }
        }
        assert!(
            !complete || found.len() == self.expected.entities.len(),
            "an export lacks articles in silence"
        );
    }

    async fn snapshot(&mut self, cable: &Cable, all: &BTreeSet<String>) {
        let filter = FeedFilter::default().kind(EntityKind::Article);
        let mut feed = cable.feed(filter).view(View::Full).with_snapshot().open();
        let mut found = BTreeSet::new();
        // A feed retries without limit while a node cannot read, so its silence claims nothing.
        while let Ok(Some(delivery)) = timeout(Duration::from_secs(3), feed.next()).await {
            match delivery {
                Ok(delivery) => match delivery.event {
                    Event::Snapshot(records) => {
                        for record in records {
                            if let Some(v1::record::Record::Article(one)) = record.decode().unwrap().record {
                                found.insert(self.check(one, "snapshot"));
                            }
                        }
                    }
                    Event::SnapshotEnd { damage: None, .. } => {
                        assert_eq!(&found, all, "a snapshot lacks articles in silence");
                        return;
                    }
                    Event::SnapshotEnd { .. } => break,
                    _ => {}
                },
                Err(error) => return self.report(&error, "snapshot"),
            }
        }
        self.reported += 1;
    }
}

/// Opens an image and reads it.
async fn read_image(dir: &Path, expected: &Expected) -> Outcome {
    let opened =
        match timeout(PATIENCE, open(dir)).await.expect("a damaged store is opened or refused at once") {
            Ok(opened) => opened,
            Err(refusal) => {
                let names_remedy = ["backup", "rebuild", "put ", "move ", "remove"]
                    .iter()
                    .any(|word| refusal.contains(word));
                assert!(names_remedy, "no remedy: {refusal}");
                return Outcome::Refused;
            }
        };
    let mut reader = Reader { expected, reported: 0 };
    timeout(PATIENCE, reader.read_all(&opened.cable)).await.expect("a damaged store is read or refused");
    drop(opened.stop);
    timeout(PATIENCE, opened.running).await.unwrap().expect("no panic").unwrap();
    if reader.reported == 0 { Outcome::NoEffect } else { Outcome::Reported }
}

fn damaged(bytes: &[u8], damage: Damage) -> Option<Vec<u8>> {
    let mut bytes = bytes.to_vec();
    match damage {
        Damage::Flip { at, bit } => bytes[at] ^= 1 << bit,
        Damage::Cut(length) => bytes.truncate(length),
        Damage::Absent => return None,
        Damage::Foreign => bytes = b"%PDF-1.7 not a database\n".repeat(1_000),
    }
    Some(bytes)
}

/// Returns the kind of a page, by its first byte.
fn kind(bytes: &[u8], page: usize) -> &'static str {
    match (page, bytes[page * PAGE]) {
        (0, _) => "header",
        (_, 2) => "interior of an index",
        (_, 5) => "interior of a table",
        (_, 10) => "leaf of an index",
        (_, 13) => "leaf of a table",
        _ => "overflow or free",
    }
}

type Counts = BTreeMap<(String, Outcome), usize>;

async fn read_damaged_database(store: &Store, part: &str, damage: Damage, counts: &mut Counts) {
    let dir = tempfile::tempdir().unwrap();
    if let Some(bytes) = damaged(&store.closed, damage) {
        std::fs::write(dir.path().join("cable.db"), bytes).unwrap();
    } else {
        std::fs::write(dir.path().join("cable.db-wal"), &store.killed["cable.db-wal"]).unwrap();
    }
    println!("{part}: {damage:?}");
    let outcome = read_image(dir.path(), &store.expected).await;
    *counts.entry((part.to_owned(), outcome)).or_default() += 1;
}

async fn read_damaged_log(store: &Store, damage: Damage, counts: &mut Counts) {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in &store.killed {
        let bytes = if name == "cable.db-wal" { damaged(bytes, damage) } else { Some(bytes.clone()) };
        if let Some(bytes) = bytes {
            std::fs::write(dir.path().join(name), bytes).unwrap();
        }
    }
    println!("write-ahead log: {damage:?}");
    let outcome = read_image(dir.path(), &store.expected).await;
    *counts.entry(("write-ahead log".to_owned(), outcome)).or_default() += 1;
}

/// Damages `flips_per_page` positions of each page, or of one page of each kind if `sampled`.
async fn run(flips_per_page: usize, sampled: bool) -> Counts {
    let store = store().await;
    let mut rng = Rng::new(7);
    let mut counts = Counts::new();
    let pages = store.closed.len() / PAGE;
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for page in 0..pages {
        let kind = kind(&store.closed, page);
        let times = seen.entry(kind).or_default();
        *times += 1;
        // The second page of each kind.
        if sampled && *times != 2 && kind != "header" {
            continue;
        }
        for n in 0..flips_per_page {
            // The first bytes of a page are its structure.
            let at = page * PAGE
                + if n % 2 == 0 {
                    rng.between(0, 15) as usize
                } else {
                    rng.between(0, PAGE as u64 - 1) as usize
                };
            read_damaged_database(
                &store,
                kind,
                Damage::Flip { at, bit: rng.between(0, 7) as u8 },
                &mut counts,
            )
            .await;
        }
    }
    let cuts: Vec<usize> = (1..pages).filter(|page| !sampled || page % (pages / 3) == 1).collect();
    for page in cuts {
        read_damaged_database(
            &store,
            "cut off",
            Damage::Cut(page * PAGE + if page % 2 == 0 { 0 } else { 77 }),
            &mut counts,
        )
        .await;
    }
    for damage in [Damage::Absent, Damage::Foreign] {
        read_damaged_database(&store, "absent or foreign", damage, &mut counts).await;
    }
    read_damaged_log(&store, Damage::Foreign, &mut counts).await;
    let length = store.killed["cable.db-wal"].len();
    let flips = if sampled { 4 } else { length / (PAGE + 24) };
    for n in 0..flips {
        let at =
            if n == 0 { rng.between(0, 31) as usize } else { rng.between(0, length as u64 - 1) as usize };
        read_damaged_log(&store, Damage::Flip { at, bit: rng.between(0, 7) as u8 }, &mut counts).await;
    }
    for cut in [length / 3, length - 9_000] {
        read_damaged_log(&store, Damage::Cut(cut), &mut counts).await;
    }
    counts
}

#[tokio::test]
async fn damage_of_each_kind_is_refused_or_reported() {
    let counts = run(2, true).await;
    let total =
        |wanted| counts.iter().filter(|((_, outcome), _)| *outcome == wanted).map(|(_, n)| n).sum::<usize>();
    assert!(total(Outcome::Refused) > 3 && total(Outcome::Reported) > 2, "{counts:?}");
}

/// Prints the table of docs/reliability.md.
#[tokio::test]
#[ignore = "takes minutes"]
async fn damage_of_every_page_is_refused_or_reported() {
    let counts = run(6, false).await;
    let kinds: BTreeSet<&String> = counts.keys().map(|(kind, _)| kind).collect();
    println!("| damaged | images | no effect | reported | refused |\n|---|---|---|---|---|");
    for kind in kinds {
        let of = |outcome| counts.get(&(kind.clone(), outcome)).copied().unwrap_or(0);
        let (none, reported, refused) = (of(Outcome::NoEffect), of(Outcome::Reported), of(Outcome::Refused));
        println!("| {kind} | {} | {none} | {reported} | {refused} |", none + reported + refused);
    }
}
