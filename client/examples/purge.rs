//! Turns a feed into purges of an HTTP cache, such as a CDN's or Varnish.
//!
//! `cargo run -p cable-client --example purge -- [--dry-run] [--tag TAG]... [--save FILE] http://cache:6081`
//!
//! For each change it sends `PURGE {path}` for every path that led or leads to the article, and one `PURGE /` with the
//! header `Surrogate-Key` for the pages that show it: they must carry the resource names of what they show, and `all`.
//! Where the feed has to begin anew nobody knows what has changed, and the key `all` is purged; so it is where changes were
//! missed, for an article may have left other pages before the newest change, which alone is delivered. A purge is repeated until
//! the cache has answered it; only then is the next change asked for, and with `--save` the position written.

#![allow(clippy::print_stdout, reason = "that is where a dry run goes")]

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

const USAGE: &str = "usage: purge [--dry-run] [--tag TAG]... [--save FILE] http://HOST:PORT";
/// The cache must have answered within this time.
const PATIENCE: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Caches bound the length of a header.
const KEYS_AT_ONCE: usize = 50;
/// The key that every page carries.
const ALL: &str = "all";

/// One thing to be purged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purge {
    /// The page at a path.
    Path(String),
    /// All pages that carry one of these keys.
    Keys(Vec<String>),
}

/// Where purges go.
#[derive(Debug, Clone)]
pub enum Cache {
    /// To an HTTP server: host and port.
    Http(String),
    /// To standard output.
    Print,
}

#[tokio::main]
async fn main() -> ExitCode {
    match begin(std::env::args().skip(1)).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("purge: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn begin(arguments: impl Iterator<Item = String>) -> Result<(), Box<dyn std::error::Error>> {
    let (mut filter, mut save, mut cache, mut dry_run) = (FeedFilter::default(), None, None, false);
    let mut arguments = arguments;
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--dry-run" => dry_run = true,
            "--tag" => filter = filter.tag(arguments.next().ok_or(USAGE)?),
            "--save" => save = Some(FilePosition::new(arguments.next().ok_or(USAGE)?)),
            url => cache = Some(url.strip_prefix("http://").ok_or(USAGE)?.trim_end_matches('/').to_owned()),
        }
    }
    let cache = if dry_run { Cache::Print } else { Cache::Http(cache.ok_or(USAGE)?) };
    let mut feed = Cable::from_env()?.feed(filter).reset_allowed(true);
    feed = feed.on_retry(|error| eprintln!("purge: {error}; trying again"));
    if let Some(file) = save {
        feed = feed.save_to(file);
    }
    Ok(run(feed.open(), &cache).await?)
}

/// Purges what the feed tells, until the feed fails.
pub async fn run(mut feed: Feed, cache: &Cache) -> cable_client::Result<()> {
    // Whether each change arrives since the stream began. The server says so before the first one that it delivers live.
    let (mut is_live, mut stream) = (false, 0);
    // Asking for the next delivery says that this one is done with, and lets its position be written.
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

/// What a delivery makes stale. A snapshot makes nothing stale that the reset before it did not.
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
    Ok(paths.chain(keys.chunks(KEYS_AT_ONCE).map(|keys| Purge::Keys(keys.to_vec()))).collect())
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

/// An article's paths, and what it belongs to.
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
    /// As an HTTP request.
    fn request(&self, host: &str) -> String {
        let (path, keys) = match self {
            Purge::Path(path) => (escaped(path), String::new()),
            Purge::Keys(keys) => ("/".to_owned(), format!("Surrogate-Key: {}\r\n", keys.join(" "))),
        };
        format!(
            "PURGE {path} HTTP/1.1\r\nHost: {host}\r\n{keys}Content-Length: 0\r\nConnection: close\r\n\r\n"
        )
    }
}

/// What may not stand in a request line, as `%20`.
fn escaped(path: &str) -> String {
    let byte = |byte: u8| match byte {
        b'!'..=b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    path.bytes().map(byte).collect()
}

impl Cache {
    /// Does not return before the cache has done it.
    async fn purge(&self, purge: &Purge) {
        let host = match self {
            Cache::Http(host) => host,
            Cache::Print => return println!("{purge:?}"),
        };
        let (request, mut pause) = (purge.request(host), FIRST_PAUSE);
        loop {
            let sent = timeout(PATIENCE, send(host, &request));
            match sent.await.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut))) {
                Ok(()) => return,
                Err(error) => eprintln!("purge: {purge:?}: {error}; trying again"),
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// Any answer of success will do, and 404: there was nothing to purge.
async fn send(host: &str, request: &str) -> io::Result<()> {
    let mut connection = TcpStream::connect(host).await?;
    connection.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    while !answer.contains(&b'\n') && connection.read_buf(&mut answer).await? > 0 {}
    let line = String::from_utf8_lossy(&answer);
    let status = line.split(' ').nth(1).unwrap_or_default();
    if line.starts_with("HTTP/1.") && (status.len() == 3 && status.starts_with('2') || status == "404") {
        return Ok(());
    }
    Err(io::Error::other(format!("the cache answered {:?}", line.lines().next().unwrap_or_default())))
}
