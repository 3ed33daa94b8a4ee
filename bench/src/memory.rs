//! The maximum memory that peers can make a node use. Each kind of load runs against a fresh node; the peak is
//! measured, and the memory that remains once the load has ended.

use std::{
    fmt::Write as _,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    thread::sleep,
    time::{Duration, Instant},
};

use cable_client::{Cable, Import, RawRecord, Retry, v1};
use cable_load::random::Random;
use clap::builder::RangedU64ValueParser;
use futures_util::{StreamExt as _, future, stream};
use prost::Message as _;
use tokio::runtime::Runtime;

use crate::{
    Outcome,
    node::{Node, Program},
};
use peer::{Peer, framed};

mod peer;

/// The `cache.max_bytes` of the nodes: small, so that released memory shows.
const CACHE_BYTES: u64 = 64 << 20;

/// The maximum memory of a node above its cache.
const MAX_ABOVE_CACHE: u64 = 256 << 20;

/// The maximum memory that may remain above the start and the cache.
const MAX_REMAINING: u64 = 64 << 20;

/// The time for a node to release memory once the load has ended.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(20);

/// The number of connections of one peer, and of calls on each.
const CONNECTIONS: usize = 53;
const CALLS_PER_CONNECTION: usize = 200;

const DOCUMENT: &str = "docs/reliability.md";
const MARKERS: [&str; 2] = ["<!-- memory:begin -->", "<!-- memory:end -->"];

const BATCH: &str = "/cable.v1.ContentService/BatchGetArticles";
const LIST: &str = "/cable.v1.ContentService/ListArticles";
const GET: &str = "/cable.v1.ContentService/GetArticle";
const STREAM: &str = "/cable.v1.ContentService/StreamArticles";
const PUT: &str = "/cable.v1.PublishingService/PutArticle";
const EXPORT: &str = "/cable.v1.TransferService/Export";
const IMPORT: &str = "/cable.v1.TransferService/Import";
const WATCH: &str = "/cable.v1.FeedService/Watch";
const HEALTH: &str = "/grpc.health.v1.Health/Watch";
const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";

/// A kind of load.
struct Load {
    name: &'static str,
    /// A function that runs it. The returned peers hold it open until they are dropped.
    run: fn(&Target) -> Outcome<Vec<Peer>>,
}

const LOADS: [Load; 11] = [
    Load { name: "53 connections, windows of 0, 10,600 of the largest responses", run: unread },
    Load { name: "the same with the largest windows, nothing read", run: unread_in_the_socket },
    Load { name: "53 browsers that read nothing, base64", run: unread_by_browsers },
    Load { name: "600 followers with 600 filters, 3 commits of 500 articles", run: followers },
    Load { name: "100,000 feeds opened and reset, 50 filters", run: reconnects },
    Load { name: "100,000 feeds opened and reset, each with a filter of its own", run: filters },
    Load { name: "half requests: 500 connections of 200 calls, and 300 for operations", run: half_requests },
    Load { name: "20 connections of 60 imports, each with half a chunk of 4 MiB", run: partial_imports },
    Load { name: "24 imports of articles of 900 KB that do not compress", run: imports },
    Load { name: "24 dry runs of 50,000 small articles, then 40 of 900 KB", run: dry_runs },
    Load { name: "600 puts of articles of 900 KB that do not compress, 20 connections", run: puts },
];

/// A node under load.
struct Target {
    node: Node,
    address: SocketAddr,
    operations: SocketAddr,
    runtime: Runtime,
    cable: Cable,
}

/// The memory of a node under one load, in bytes.
struct Row {
    name: &'static str,
    start: u64,
    peak: u64,
    after: u64,
}

impl Row {
    fn is_within_bounds(&self) -> bool {
        self.peak <= CACHE_BYTES + MAX_ABOVE_CACHE && self.after <= self.start + CACHE_BYTES + MAX_REMAINING
    }

    fn markdown(&self) -> String {
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        let Row { name, start, peak, after } = self;
        format!("| {name} | {} | {} | {} |", mib(*start), mib(*peak), mib(*after))
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Number of the load to run alone, from 0; writes no results.
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(..LOADS.len() as u64))]
    only: Option<usize>,
    /// Server program to measure instead of the current one; writes no results.
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
}

/// Measures, and writes the table.
///
/// # Errors
/// Fails if a step of the measurement fails, or if a node exceeded its limit or did not release the memory.
pub(crate) fn run(root: &Path, options: Options) -> Outcome<()> {
    let Options { only, program } = options;
    let writes_results = only.is_none() && program.is_none();
    let program = program.map_or_else(|| Program::build(root), |path| Ok(Program::at(path)))?;
    let mut rows = Vec::new();
    for (number, load) in
        LOADS.iter().enumerate().filter(|(number, _)| only.is_none_or(|only| only == *number))
    {
        let dir = tempfile::tempdir()?;
        let row = measure(&program, dir.path(), load).map_err(|error| format!("load {number}: {error}"))?;
        eprintln!("{number}: {}", row.markdown());
        rows.push(row);
    }
    if writes_results {
        write(root, &rows)?;
    }
    let missed: Vec<_> = rows.iter().filter(|row| !row.is_within_bounds()).map(|row| row.name).collect();
    if missed.is_empty() { Ok(()) } else { Err(format!("above the bound: {}", missed.join("; ")).into()) }
}

fn measure(program: &Program, dir: &Path, load: &Load) -> Outcome<Row> {
    let target = Target::start(program, dir)?;
    let start = target.node.memory()?;
    let open = (load.run)(&target)?;
    sleep(Duration::from_secs(3));
    drop(open);
    let (ended, mut after) = (Instant::now(), target.node.memory()?);
    while after > start + CACHE_BYTES + MAX_REMAINING && ended.elapsed() < RELEASE_TIMEOUT {
        sleep(Duration::from_millis(200));
        after = target.node.memory()?;
    }
    let peak = target.node.peak_memory()?;
    // The node serves as before.
    target.runtime.block_on(target.cable.article("long").into_future())?;
    Ok(Row { name: load.name, start, peak, after })
}

impl Target {
    fn start(program: &Program, dir: &Path) -> Outcome<Target> {
        let operations = crate::process::free_address()?;
        let (bytes, ops_listen) = (CACHE_BYTES.to_string(), operations.to_string());
        let settings = [
            ("CABLE__CACHE__MAX_BYTES", &bytes[..]),
            ("CABLE__STORE__RESERVE_BYTES", "0"),
            ("CABLE__CONNECTIONS__MAX_PER_PEER", "1000"),
        ];
        let node = program.serve_operations(&dir.join("store"), &dir.join("log"), &ops_listen, &settings)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let cable = runtime.block_on(async { Cable::builder(&node.endpoint).build() })?;
        let address = node.endpoint.trim_start_matches("http://").parse()?;
        runtime.block_on(async {
            cable.put(article("long", 60_000, &["tags/all".to_owned()])).await?;
            for number in 0..40 {
                cable.put(article(&format!("large-{number}"), 900_000, &["tags/all".to_owned()])).await?;
            }
            Ok::<_, cable_client::Error>(())
        })?;
        Ok(Target { node, address, operations, runtime, cable })
    }

    fn commit(&self, round: usize) -> Outcome<()> {
        let articles = (0..500).map(|number| {
            let tags: Vec<_> =
                (0..40).map(|tag| format!("tags/t{}", (number * 7 + tag * 13 + round) % 500)).collect();
            article(&format!("committed-{number}"), 4_500, &tags)
        });
        let mut commit = self.cable.commit();
        for article in articles {
            commit = commit.put(article);
        }
        self.runtime.block_on(commit.into_future())?;
        Ok(())
    }
}

/// Returns a message with some fields set.
fn message<T: Default>(set: impl FnOnce(&mut T)) -> T {
    let mut message = T::default();
    set(&mut message);
    message
}

fn article(id: &str, bytes: usize, tags: &[String]) -> v1::Article {
    article_of(id, "y".repeat(bytes), tags)
}

fn article_of(id: &str, text: String, tags: &[String]) -> v1::Article {
    let span = message(|span: &mut v1::Span| span.text = text);
    let paragraph = message(|paragraph: &mut v1::Paragraph| paragraph.spans = vec![span]);
    let kind = Some(v1::block::Kind::Paragraph(paragraph));
    let block = message(|block: &mut v1::Block| block.kind = kind);
    message(|article: &mut v1::Article| {
        article.name = format!("articles/{id}");
        article.headline = id.to_owned();
        article.tags = tags.to_vec();
        article.body = Some(message(|body: &mut v1::Body| body.blocks = vec![block]));
    })
}

/// Returns the largest responses of each kind, in turns. Each request is different, so that no response is shared.
fn request(number: usize) -> (&'static str, Vec<u8>) {
    let full = v1::ArticleView::Full.into();
    match number % 8 {
        0..=2 => {
            let mut names = vec!["articles/long".to_owned(); 34];
            names.push(format!("articles/absent-{number}"));
            let batch = message(|batch: &mut v1::BatchGetArticlesRequest| {
                (batch.names, batch.view) = (names, full);
            });
            (BATCH, batch.encode_to_vec())
        }
        3 => {
            let list = message(|list: &mut v1::ListArticlesRequest| {
                (list.page_size, list.view) = (900 + (number % 100) as i32, full);
            });
            (LIST, list.encode_to_vec())
        }
        4 => {
            let get = message(|get: &mut v1::GetArticleRequest| {
                get.name = format!("articles/large-{}", number % 40);
                (get.view, get.body_format) = (full, v1::BodyFormat::Html.into());
            });
            (GET, get.encode_to_vec())
        }
        5 => {
            let stream = message(|stream: &mut v1::StreamArticlesRequest| stream.view = full);
            (STREAM, stream.encode_to_vec())
        }
        6 => (EXPORT, Vec::new()),
        _ if number % 16 == 7 => (HEALTH, Vec::new()),
        // The file that contains the service: the largest response of reflection.
        _ => (REFLECTION, [&b"\x22\x1a"[..], b"cable.v1.PublishingService"].concat()),
    }
}

fn unread(target: &Target) -> Outcome<Vec<Peer>> {
    read_nothing(target, 0)
}

fn unread_in_the_socket(target: &Target) -> Outcome<Vec<Peer>> {
    read_nothing(target, (1 << 31) - 1)
}

fn read_nothing(target: &Target, window: u32) -> Outcome<Vec<Peer>> {
    let mut peers = Vec::new();
    for connection in 0..CONNECTIONS {
        let mut peer = Peer::connect(target.address, window)?;
        for call in 0..CALLS_PER_CONNECTION {
            let (path, message) = request(connection * CALLS_PER_CONNECTION + call);
            if !peer.call(path, &message) {
                break;
            }
        }
        peers.push(peer);
    }
    sleep(Duration::from_secs(5));
    Ok(peers)
}

fn unread_by_browsers(target: &Target) -> Outcome<Vec<Peer>> {
    let mut peers = Vec::new();
    for connection in 0..CONNECTIONS {
        let mut peer = Peer::connect_silently(target.address)?;
        for call in 0..20 {
            let (path, message) = request(8 * (20 * connection + call));
            let body = base64(&framed(&message));
            let head = format!(
                "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/grpc-web-text\r\n\
                 content-length: {}\r\n\r\n{body}",
                body.len()
            );
            peer.send(head.as_bytes());
        }
        peers.push(peer);
    }
    sleep(Duration::from_secs(5));
    Ok(peers)
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = bytes.chunks(3).flat_map(|three| {
        let all = three.iter().chain(&[0; 2]).take(3).fold(0, |all, byte| all << 8 | usize::from(*byte));
        let count = three.len() + 1;
        (0..4).map(
            move |index| {
                if index < count { char::from(DIGITS[all >> (18 - 6 * index) & 63]) } else { '=' }
            },
        )
    });
    digits.collect()
}

fn watch(tags: impl Iterator<Item = usize>) -> Vec<u8> {
    let any_tags = tags.map(|tag| format!("tags/t{tag}")).collect();
    let watch = message(|watch: &mut v1::WatchRequest| {
        watch.filter = Some(message(|filter: &mut v1::FeedFilter| filter.any_tags = any_tags));
        watch.view = v1::ArticleView::Full.into();
    });
    watch.encode_to_vec()
}

fn followers(target: &Target) -> Outcome<Vec<Peer>> {
    let mut peers = Vec::new();
    for connection in 0..6 {
        let mut peer = Peer::connect(target.address, (1 << 31) - 1)?;
        for feed in 0..100 {
            peer.call(WATCH, &watch((0..64).map(|tag| (connection * 100 + feed + tag * 7) % 500)));
        }
        peers.push(peer);
    }
    sleep(Duration::from_secs(1));
    for round in 0..3 {
        target.commit(round)?;
        for _ in 0..20 {
            peers.iter_mut().for_each(Peer::drain);
            sleep(Duration::from_millis(50));
        }
    }
    Ok(peers)
}

fn reconnects(target: &Target) -> Outcome<Vec<Peer>> {
    open_and_reset(target, |number| watch((0..64).map(|tag| (number % 50 + tag * 7) % 500)))
}

fn filters(target: &Target) -> Outcome<Vec<Peer>> {
    open_and_reset(target, |number| watch([number, 1_000_000 + number].into_iter()))
}

/// Opens 100,000 feeds one after the other, with 40 that stay open.
fn open_and_reset(target: &Target, request: impl Fn(usize) -> Vec<u8>) -> Outcome<Vec<Peer>> {
    let mut persistent = Peer::connect(target.address, (1 << 31) - 1)?;
    for number in 0..40 {
        persistent.call(WATCH, &request(number));
    }
    let mut peer = Peer::connect(target.address, (1 << 31) - 1)?;
    for number in 0..100_000 {
        if !peer.call_and_reset(WATCH, &request(number)) {
            // The peer was disconnected: 20 resets at once count as a flood.
            peer = Peer::connect(target.address, (1 << 31) - 1)?;
        }
        if number % 10 == 9 {
            peer.drain();
        }
    }
    Ok(vec![persistent, peer])
}

fn half_requests(target: &Target) -> Outcome<Vec<Peer>> {
    let mut peers = Vec::new();
    let headers: Vec<_> = (0..12).map(|number| (format!("x-{number}"), "x".repeat(1_200))).collect();
    for connection in 0..500 {
        let mut peer = Peer::connect(target.address, 0)?;
        for call in 0..200 {
            let path = [PUT, GET, HEALTH, IMPORT, REFLECTION][call % 5];
            if !peer.start_call(path, &headers, &[0, 0, 0, 0x0f, 0xff, 0x0a][..1 + connection % 6]) {
                break;
            }
        }
        peers.push(peer);
    }
    for _ in 0..300 {
        let mut peer = Peer::connect_silently(target.operations)?;
        peer.send(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nx-a: ");
        peers.push(peer);
    }
    sleep(Duration::from_secs(2));
    Ok(peers)
}

fn partial_imports(target: &Target) -> Outcome<Vec<Peer>> {
    let mut peers = Vec::new();
    let start_of_message = [&[0, 0, 0x3f, 0xff, 0xff][..], &vec![0x0a; 60_000]].concat();
    for _ in 0..20 {
        let mut peer = Peer::connect(target.address, 0)?;
        for _ in 0..60 {
            if !peer.start_call(IMPORT, &[], &start_of_message)
                || !peer.start_call(PUT, &[], &start_of_message)
            {
                break;
            }
        }
        peers.push(peer);
    }
    sleep(Duration::from_secs(3));
    Ok(peers)
}

fn imports(target: &Target) -> Outcome<Vec<Peer>> {
    let text: Arc<str> = incompressible().into();
    import_each(target, |cable, number| {
        let text = text.clone();
        cable.import(stream::iter(0..40).map(move |record| part_of(&text, number * 40 + record).into()))
    })
}

fn dry_runs(target: &Target) -> Outcome<Vec<Peer>> {
    let text: Arc<str> = incompressible().into();
    import_each(target, |cable, number| {
        let text = text.clone();
        let small = (0..50_000).map(move |record| article(&format!("small-{number}-{record}"), 1, &[]));
        let large = (0..40).map(move |record| part_of(&text, number * 40 + record));
        cable.import(stream::iter(small.chain(large)).map(RawRecord::from)).dry_run()
    })
}

/// Runs 24 imports at once.
fn import_each(target: &Target, import: impl Fn(&Cable, usize) -> Import) -> Outcome<Vec<Peer>> {
    let run = async |number| {
        let cable = Cable::builder(&target.node.endpoint).build()?;
        let mut chunks = import(&cable, number);
        while let Some(chunk) = chunks.next().await {
            chunk?;
        }
        Ok(())
    };
    some_succeed(target.runtime.block_on(future::join_all((0..24).map(run))))
}

fn puts(target: &Target) -> Outcome<Vec<Peer>> {
    let text = &incompressible();
    let clients: Vec<_> = (0..20)
        .map(|_| Cable::builder(&target.node.endpoint).retry(Retry::none()).build())
        .collect::<Result<_, _>>()?;
    let put = |number: usize| clients[number % 20].put(part_of(text, number)).into_future();
    let done = target.runtime.block_on(future::join_all((0..600).map(put)));
    some_succeed(done.into_iter().map(|put| put.map(drop)).collect())
}

/// Checks that a node has accepted some of the work. It may refuse the rest: it is overloaded.
fn some_succeed(done: Vec<Result<(), cable_client::Error>>) -> Outcome<Vec<Peer>> {
    let is_success = done.iter().any(Result::is_ok);
    match done.into_iter().find_map(Result::err) {
        Some(error) if !is_success => Err(error.into()),
        _ => Ok(Vec::new()),
    }
}

/// Returns text that zstd hardly compresses.
fn incompressible() -> String {
    const CHARACTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut random = Random::new(7);
    (0..2_000_000).map(|_| char::from(CHARACTERS[random.below(64)])).collect()
}

/// Returns an article with a part of a text.
fn part_of(text: &str, number: usize) -> v1::Article {
    let at = number * 1_009 % 1_000_000;
    article_of(&format!("random-{number}"), text[at..at + 900_000].to_owned(), &[])
}

fn write(root: &Path, rows: &[Row]) -> Outcome<()> {
    let mut table =
        String::from("\n| Load | Start, MiB | Peak, MiB | After, MiB |\n| --- | ---: | ---: | ---: |\n");
    for row in rows {
        writeln!(table, "{}", row.markdown())?;
    }
    let path = root.join(DOCUMENT);
    let text = fs::read_to_string(&path)?;
    let [begin, end] = MARKERS;
    let (before, rest) = text.split_once(begin).ok_or_else(|| format!("{DOCUMENT}: missing {begin}"))?;
    let (_, after) = rest.split_once(end).ok_or_else(|| format!("{DOCUMENT}: missing {end}"))?;
    fs::write(path, format!("{before}{begin}\n{table}\n{end}{after}"))?;
    Ok(())
}
