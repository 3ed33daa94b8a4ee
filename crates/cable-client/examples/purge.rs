//! Converts a feed to purges of an HTTP cache, such as Varnish or a CDN.
//!
//! `cargo run -p cable-client --example purge -- [--dry-run] [--any-tag TAG]... [--position-file FILE] http://cache:6081`
//!
//! A copy in a project of your own needs `cable-proto` with its feature `path`, for paths in normal form, besides
//! `cable-client`, `futures-util` and `tokio`.
//!
//! For each change, it sends one `PURGE /` with the header `Surrogate-Key` for all responses and pages that rest on the
//! changed entity, and `PURGE {path}` for every current and former path of an article, for sites whose pages have no
//! keys. The keys are those of the header `Surrogate-Key` of content over HTTP (docs/http.md). A page of a site carries
//! the keys of the responses that it is made of. The cache adds the key `all` to everything.
//!
//! It purges `all` in two cases:
//!
//! - The feed restarts: anything may have changed.
//! - Changes were missed: the feed delivers only the newest change of an article, which may have left other pages
//!   before.
//!
//! A purge is repeated until the cache confirms it. Only then is the next change requested and, with `--position-file`, the
//! position written.

#![allow(clippy::print_stdout, reason = "a dry run prints its purges")]

use std::{collections::BTreeSet, io, process::ExitCode, time::Duration};

use cable_client::{
    Cable, Delivery, Event, Feed, FeedChange, FeedFilter, FilePosition, NameState, RawRecord, v1,
    v1::record::Record,
};
use cable_proto::path::normalise;
use futures_util::StreamExt as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{sleep, timeout},
};

const USAGE: &str = "usage: purge [--dry-run] [--any-tag TAG]... [--position-file FILE] http://HOST:PORT";
/// The time limit for the response of the cache.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(10);
/// The largest size of the keys of one purge, in bytes: caches limit the length of a header, many to 8 KiB.
const MAX_KEY_BYTES: usize = 6_000;
/// The key that the cache adds to everything.
const ALL: &str = "all";

/// A purge of one path, or of everything with certain keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purge {
    /// The page at a path.
    Path(String),
    /// All that carries one of these keys.
    Keys(Vec<String>),
}

/// The destination of purges.
#[derive(Debug, Clone)]
pub enum Cache {
    /// An HTTP server: host and port.
    Http(String),
    /// The standard output.
    Print,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run_with_args(std::env::args().skip(1)).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("purge: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run_with_args(arguments: impl Iterator<Item = String>) -> Result<(), Box<dyn std::error::Error>> {
    let (mut filter, mut positions, mut cache, mut dry_run) = (FeedFilter::default(), None, None, false);
    let mut arguments = arguments;
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--dry-run" => dry_run = true,
            "--any-tag" => filter = filter.any_tag(arguments.next().ok_or(USAGE)?),
            "--position-file" => positions = Some(FilePosition::new(arguments.next().ok_or(USAGE)?)),
            url => cache = Some(url.strip_prefix("http://").ok_or(USAGE)?.trim_end_matches('/').to_owned()),
        }
    }
    let cache = if dry_run { Cache::Print } else { Cache::Http(cache.ok_or(USAGE)?) };
    let mut feed = Cable::from_env()?.feed(filter).allow_reset(true);
    feed = feed.on_retry(|error| eprintln!("purge: {error}; retrying"));
    if let Some(file) = positions {
        feed = feed.save_to(file);
    }
    Ok(run(feed.open(), &cache).await?)
}

/// Purges all that the feed's deliveries make stale. Returns when the feed fails.
pub async fn run(mut feed: Feed, cache: &Cache) -> cable_client::Result<()> {
    // `is_live`: the stream delivers each change made since it opened. Before the first of them, the server sends a
    // checkpoint.
    let (mut is_live, mut stream) = (false, 0);
    // The request for the next delivery marks this one as handled, so that its position is written.
    while let Some(delivery) = feed.next().await {
        let delivery = delivery?;
        if std::mem::replace(&mut stream, feed.reconnects()) != stream {
            is_live = false;
        }
        if matches!(delivery.event, Event::Changes(_)) && !std::mem::replace(&mut is_live, true) {
            cache.purge(&Purge::Keys(vec![ALL.to_owned()])).await;
        }
        is_live |= matches!(delivery.event, Event::Checkpoint { behind: false } | Event::Reset(_));
        for purge in purges(&delivery)? {
            cache.purge(&purge).await;
        }
    }
    Ok(())
}

/// Returns the purges for a delivery. A snapshot needs none: the reset before it has purged everything.
pub fn purges(delivery: &Delivery) -> cable_client::Result<Vec<Purge>> {
    let changes = match &delivery.event {
        Event::Changes(changes) => changes,
        Event::Reset(_) => return Ok(vec![Purge::Keys(vec![ALL.to_owned()])]),
        _ => return Ok(Vec::new()),
    };
    let mut stale = Stale::default();
    for change in changes {
        stale.add_change(change)?;
    }
    Ok(stale.purges())
}

/// The paths and keys that changes make stale.
#[derive(Default)]
struct Stale {
    /// The paths of pages of the site.
    paths: BTreeSet<String>,
    keys: BTreeSet<String>,
}

impl Stale {
    fn add_change(&mut self, change: &FeedChange) -> cable_client::Result<()> {
        self.add_entity(&change.name);
        self.add_lists(&change.former_names);
        self.add_paths(&change.former_paths);
        match &change.state {
            NameState::Upsert(record) => self.add_article(record)?,
            NameState::Removed(tombstone) => self.add_paths(&tombstone.paths),
            _ => {}
        }
        Ok(())
    }

    /// Adds the keys of an entity, of the pages of its kind, and of pages that contain too many entities to name each.
    fn add_entity(&mut self, name: &str) {
        let Some((collection, id)) = name.split_once('/') else { return };
        let noun = collection.strip_suffix('s').unwrap_or(collection);
        self.keys.extend([format!("{noun}:{id}"), collection.to_owned(), format!("list:{collection}")]);
    }

    /// Adds the keys of the pages of the articles of tags, sections and authors.
    fn add_lists<'a>(&mut self, names: impl IntoIterator<Item = &'a String>) {
        let names = names.into_iter().filter(|name| !name.is_empty());
        self.keys.extend(names.map(|name| format!("list:{name}")));
    }

    fn add_paths<'a>(&mut self, paths: impl IntoIterator<Item = &'a String>) {
        for path in paths.into_iter().filter(|path| !path.is_empty()) {
            self.keys.insert(format!("path:{}", escape(&normalise(path))));
            self.paths.insert(path.clone());
        }
    }

    /// Adds the paths of an article, and the pages that list it.
    fn add_article(&mut self, record: &RawRecord) -> cable_client::Result<()> {
        let v1::Record { record: Some(Record::Article(article)), .. } = record.decode()? else {
            return Ok(());
        };
        self.add_paths([&article.path].into_iter().chain(&article.alias_paths));
        self.add_lists(article.tags.iter().chain(&article.additional_sections).chain([&article.section]));
        self.add_lists(article.byline.iter().flat_map(|byline| &byline.credits).map(|credit| &credit.author));
        Ok(())
    }

    fn purges(self) -> Vec<Purge> {
        let mut purges: Vec<Purge> = self.paths.into_iter().map(Purge::Path).collect();
        let (mut keys, mut bytes) = (Vec::new(), 0);
        for key in self.keys {
            if bytes + key.len() > MAX_KEY_BYTES {
                purges.push(Purge::Keys(std::mem::take(&mut keys)));
                bytes = 0;
            }
            bytes += key.len() + 1;
            keys.push(key);
        }
        if !keys.is_empty() {
            purges.push(Purge::Keys(keys));
        }
        purges
    }
}

impl Purge {
    /// Returns the HTTP request.
    fn request(&self, host: &str) -> String {
        let (path, keys) = match self {
            Purge::Path(path) => (escape(path), String::new()),
            Purge::Keys(keys) => ("/".to_owned(), format!("Surrogate-Key: {}\r\n", keys.join(" "))),
        };
        format!(
            "PURGE {path} HTTP/1.1\r\nHost: {host}\r\n{keys}Content-Length: 0\r\nConnection: close\r\n\r\n"
        )
    }
}

/// Escapes the characters that a request line or a header must not contain, for example a space as `%20`.
fn escape(path: &str) -> String {
    let byte = |byte: u8| match byte {
        b'!'..=b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    path.bytes().map(byte).collect()
}

impl Cache {
    /// Purges, and returns once the cache has confirmed it.
    async fn purge(&self, purge: &Purge) {
        let host = match self {
            Cache::Http(host) => host,
            Cache::Print => return println!("{purge:?}"),
        };
        let (request, mut pause) = (purge.request(host), FIRST_PAUSE);
        loop {
            let response = timeout(RESPONSE_TIMEOUT, send(host, &request));
            match response.await.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut))) {
                Ok(()) => return,
                Err(error) => eprintln!("purge: {purge:?}: {error}; retrying"),
            }
            sleep(pause).await;
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }
}

/// Sends one request. A status 2xx is a success, and so is 404: the page was not in the cache.
async fn send(host: &str, request: &str) -> io::Result<()> {
    let mut connection = TcpStream::connect(host).await?;
    connection.write_all(request.as_bytes()).await?;
    let mut response = Vec::new();
    while !response.contains(&b'\n') && connection.read_buf(&mut response).await? > 0 {}
    let line = String::from_utf8_lossy(&response);
    let status = line.split(' ').nth(1).unwrap_or_default();
    if line.starts_with("HTTP/1.") && (status.len() == 3 && status.starts_with('2') || status == "404") {
        return Ok(());
    }
    Err(io::Error::other(format!("cache returned {:?}", line.lines().next().unwrap_or_default())))
}
