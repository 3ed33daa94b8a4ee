//! Converts a feed to purges of an HTTP cache, such as Varnish or a CDN.
//!
//! `cargo run -p cable-client --example purge -- [--dry-run] [--any-tag TAG]... [--position-file FILE] http://cache:6081`
//!
//! For each change, it sends `PURGE {path}` for every current and former path of the article, and one `PURGE /` with
//! the header `Surrogate-Key` for the pages that show the article. Each page must therefore carry the resource names of
//! the entities that it shows, and the key `all`.
//!
//! It purges `all` in two cases:
//!
//! - The feed restarts: any page may have changed.
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
/// The largest number of keys in one purge: caches limit the length of a header.
const MAX_KEYS_PER_PURGE: usize = 50;
/// The key that every page carries.
const ALL: &str = "all";

/// A purge of one path, or of the pages with certain keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purge {
    /// The page at a path.
    Path(String),
    /// All pages that carry one of these keys.
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

/// Purges the pages that the feed's deliveries make stale. Returns when the feed fails.
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
    let (mut paths, mut keys) = (BTreeSet::new(), BTreeSet::new());
    for change in changes {
        add_change(change, &mut paths, &mut keys)?;
    }
    let keys: Vec<String> = keys.into_iter().collect();
    let paths = paths.into_iter().filter(|path| !path.is_empty()).map(Purge::Path);
    Ok(paths.chain(keys.chunks(MAX_KEYS_PER_PURGE).map(|keys| Purge::Keys(keys.to_vec()))).collect())
}

fn add_change(
    change: &FeedChange,
    paths: &mut BTreeSet<String>,
    keys: &mut BTreeSet<String>,
) -> cable_client::Result<()> {
    keys.insert(change.name.clone());
    keys.extend(change.former_names.iter().cloned());
    paths.extend(change.former_paths.iter().cloned());
    match &change.state {
        NameState::Upsert(record) => add_article(record, paths, keys)?,
        NameState::Removed(tombstone) => paths.extend(tombstone.paths.iter().cloned()),
        _ => {}
    }
    Ok(())
}

/// Adds the paths of an article, and the names of its tags, sections and authors.
fn add_article(
    record: &RawRecord,
    paths: &mut BTreeSet<String>,
    keys: &mut BTreeSet<String>,
) -> cable_client::Result<()> {
    let v1::Record { record: Some(Record::Article(article)), .. } = record.decode()? else { return Ok(()) };
    paths.insert(article.path);
    paths.extend(article.alias_paths);
    keys.extend(article.tags);
    keys.extend(article.additional_sections);
    let credits = article.byline.into_iter().flat_map(|byline| byline.credits);
    let others = credits.map(|credit| credit.author).chain([article.section]);
    keys.extend(others.filter(|name| !name.is_empty()));
    Ok(())
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

/// Escapes the characters that a request line must not contain, for example a space as `%20`.
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
