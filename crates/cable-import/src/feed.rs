//! Feeds as records: RSS 0.9 to 2.0, RSS 1.0 (RDF), Atom 1.0 and 0.3, and JSON Feed 1.0 and 1.1.
//!
//! The pages of a feed are added first, each as a document in memory; this crate fetches none. Then each item becomes an
//! article. No document type is read and no entity expanded. The bounds are those of the constants here.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    io,
};

use jiff::{Timestamp, tz::Offset};

use crate::{Item, ItemOutcome, SkipReason, fit::label, piece::Fitter, wxr::encoding};
use article::Texts;
use entry::{Channel, Entry};

mod article;
mod boilerplate;
mod entry;
mod item;
mod json;
mod media;
mod mrss;
mod plain;
mod xml;

pub use json::MAX_VALUES;
/// An address.
pub use url::Url;
pub use xml::{MAX_ATTRIBUTES, MAX_DEPTH, MAX_ELEMENTS, MAX_NAMESPACES};

/// The maximum size of all pages of a feed in bytes, decompressed.
pub const MAX_BYTES: u64 = 64 << 20;

/// The maximum number of items in all pages of a feed.
pub const MAX_ITEMS: usize = 100_000;

/// The maximum number of pages of a feed.
pub const MAX_PAGES: usize = 1_000;

/// The maximum length of an address in bytes.
const MAX_URL_BYTES: usize = 2_048;

/// The steps that the HTML parser may take for all texts of a feed: those of one large text, or some for each byte. A
/// typical text takes a step or two for each byte.
const MIN_STEPS: usize = 6_000_000;
const STEPS_PER_BYTE: usize = 6;

const NOT_HTML: &str =
    "a page of HTML: give the address of its feed, which the page names in <link rel=\"alternate\">";

/// An error that ends the reading of a feed. The items before were added.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The document is not a feed.
    #[error("not a feed: {0}")]
    NotFeed(String),
    /// The encoding of the document is not known.
    #[error("cannot decode the feed")]
    Encoding(#[source] io::Error),
    /// The document is damaged outside of its items, or was cut off, or exceeds a bound.
    #[error("the feed cannot be read to its end: {0}; what comes before was imported")]
    Damaged(String),
    /// The pages are too large.
    #[error("more than {} MiB: import the feed in parts, from files", MAX_BYTES >> 20)]
    TooLarge,
}

/// The options of an import.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The time of the import. Items that are dated later become pending versions.
    pub now: Timestamp,
    /// The prefix of all ids, without its hyphen. If empty, there is none.
    pub prefix: String,
    /// Whether the feed is another publisher's: its links become canonical URLs, not paths.
    pub canonical: bool,
    /// The offset of times without a zone. If unset, they are in UTC, with a note for each.
    pub offset: Option<Offset>,
}

impl Options {
    fn offset(&self) -> Offset {
        self.offset.unwrap_or(Offset::UTC)
    }
}

/// A document of a feed.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// The bytes of the document.
    pub bytes: Vec<u8>,
    /// The address that it came from. None for a file.
    pub address: Option<Url>,
    /// The encoding that the transport states.
    pub charset: Option<String>,
}

/// The page after a page, if there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Nothing: the feed is complete.
    End,
    /// Another page, at this address.
    Page(Url),
    /// Another page that is not followed: its address, and the reason.
    NotFollowed(String, &'static str),
}

/// A feed whose pages are being added.
pub struct Feed {
    options: Options,
    /// The properties of the feed, from its first page.
    channel: Option<Channel>,
    /// The hosts of the feed and of its site.
    sites: Vec<String>,
    /// The addresses of the pages so far.
    pages: HashSet<String>,
    bytes: usize,
    entries: Vec<Entry>,
}

fn is_short(url: &Url) -> bool {
    url.as_str().len() <= MAX_URL_BYTES
}

impl Feed {
    /// Starts with no page.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Feed {
            options,
            channel: None,
            sites: Vec::new(),
            pages: HashSet::new(),
            bytes: 0,
            entries: Vec::new(),
        }
    }

    /// Adds a page, and returns the next one.
    ///
    /// # Errors
    /// The document is not a feed, or cannot be read to its end. The items before were added.
    pub fn add(&mut self, page: Page) -> Result<Next, Error> {
        let Page { bytes, address, charset } = page;
        let address = address.filter(is_short);
        self.bytes += bytes.len();
        if self.bytes as u64 > MAX_BYTES {
            return Err(Error::TooLarge);
        }
        self.pages.extend(address.as_ref().map(without_fragment));
        let text = encoding::decode(&bytes, charset.as_deref()).map_err(Error::Encoding)?;
        drop(bytes);
        let room = MAX_ITEMS - self.entries.len();
        let start = text.trim_start_matches(|c: char| c.is_whitespace() || c == crate::text::BYTE_ORDER_MARK);
        let mut failure;
        let (channel, mut entries) = if start.starts_with('{') {
            let (channel, entries, problem) = json::read(start, address.as_ref()).map_err(Error::NotFeed)?;
            failure = problem;
            (channel, entries)
        } else if start.starts_with('<') {
            let document = xml::parse(start, address.as_ref(), room);
            failure = document.failure.clone();
            let read = entry::read(document, address.as_ref());
            read.map_err(|problem| {
                let cause = failure.as_ref().map(|cause| format!("; {cause}")).unwrap_or_default();
                Error::NotFeed(problem + &cause)
            })?
        } else {
            let problem = if start.is_empty() { "empty" } else { "neither XML nor JSON" };
            return Err(Error::NotFeed(problem.to_owned()));
        };
        if entries.len() > room {
            entries.truncate(room);
            failure = Some(format!("more than {MAX_ITEMS} items"));
        }
        self.entries.append(&mut entries);
        let next = self.next(&channel, address.as_ref());
        if self.channel.is_none() {
            let stated =
                [&channel.home, &channel.own_address].into_iter().filter_map(|url| Url::parse(url).ok());
            let hosts = stated.chain(address).map(|url| article::host(&url));
            self.sites = hosts.filter(|host| !host.is_empty()).collect();
            self.channel = Some(channel);
        }
        match failure {
            Some(failure) if failure.starts_with("more than") && self.entries.len() >= MAX_ITEMS => {
                Err(Error::Damaged(format!("more than {MAX_ITEMS} items")))
            }
            Some(failure) => Err(Error::Damaged(failure)),
            None => Ok(next),
        }
    }

    fn next(&self, channel: &Channel, address: Option<&Url>) -> Next {
        let text = channel.next.trim();
        if text.is_empty() {
            return Next::End;
        }
        let not = |reason| Next::NotFollowed(cable_body::html::head(text, MAX_URL_BYTES).to_owned(), reason);
        let Some(address) = address else {
            return not("a file has no network: import the feed by its address, or the pages as files");
        };
        let Some(url) = Url::parse(text).ok().filter(is_short) else { return not("not an address") };
        let is_web = matches!(url.scheme(), "http" | "https");
        if !is_web || url.host() != address.host() {
            return not("it is on another host");
        }
        if address.scheme() == "https" && url.scheme() == "http" {
            return not("it is not encrypted, and this page is");
        }
        if self.pages.contains(&without_fragment(&url)) {
            return not("it was read already");
        }
        if self.pages.len() >= MAX_PAGES {
            return not("there are too many pages");
        }
        Next::Page(url)
    }

    /// Returns the total number of items so far.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.entries.len() as u64
    }

    /// Returns the name of the source of the records: the address of the site, else of the feed, else the id of the
    /// feed, without its scheme. Versions of different sources never replace each other.
    #[must_use]
    pub fn source(&self) -> String {
        let Some(channel) = &self.channel else { return "feed".to_owned() };
        let of_page = self.pages.iter().min().map_or("", String::as_str);
        let found = [&channel.home, &channel.own_address, of_page, &channel.id]
            .into_iter()
            .map(crate::piece::one_line)
            .find(|text| !text.is_empty());
        let found = found.unwrap_or_default();
        let place = found.split_once("://").map_or(found.as_str(), |(_, rest)| rest);
        let place = place.split('#').next().unwrap_or_default().trim_end_matches('/');
        let place = place.strip_prefix("www.").unwrap_or(place);
        match cable_body::html::head(place, MAX_URL_BYTES / 2) {
            "" => "feed".to_owned(),
            place => format!("feed:{place}"),
        }
    }

    /// Returns the items, each with its outcome, in the order of the feed.
    #[must_use]
    pub fn items(self) -> Items {
        let Feed { options, channel, sites, bytes, entries, .. } = self;
        let mut newest: HashMap<String, usize> = HashMap::new();
        let has_version = |entry: &Entry| entry.damage.is_none() && entry.kind != entry::DELETED;
        for (index, entry) in entries.iter().enumerate().filter(|(_, entry)| has_version(entry)) {
            let best = newest.entry(article::key(entry)).or_insert(index);
            // The first one of those with the same time, or with none.
            if article::version(entry, &options) > article::version(&entries[*best], &options) {
                *best = index;
            }
        }
        let outcomes = entries.iter().enumerate().map(|(index, entry)| {
            if entry.kind == entry::DELETED {
                let is_listed = newest.contains_key(&article::key(entry));
                return Some(if is_listed { SkipReason::OtherVersion } else { SkipReason::Deleted });
            }
            let best = *newest.get(&article::key(entry)).filter(|_| entry.damage.is_none())?;
            if best == index || article::key(entry).is_empty() {
                None
            } else if *entry == entries[best] {
                Some(SkipReason::Duplicate)
            } else {
                Some(SkipReason::OtherVersion)
            }
        });
        let skipped: Vec<Option<SkipReason>> = outcomes.collect();
        Items {
            fitter: Fitter::new(&options.prefix, options.now),
            texts: Texts { steps: MIN_STEPS.max(STEPS_PER_BYTE * bytes) },
            channel: channel.unwrap_or_default(),
            sites,
            options,
            names: HashMap::new(),
            entries: entries.into_iter().zip(skipped).collect(),
        }
    }
}

fn without_fragment(url: &Url) -> String {
    url.as_str().split('#').next().unwrap_or_default().to_owned()
}

/// The items of a feed.
pub struct Items {
    options: Options,
    channel: Channel,
    sites: Vec<String>,
    fitter: Fitter,
    texts: Texts,
    /// The key of the item that became an article, by the id of the article.
    names: HashMap<String, String>,
    entries: VecDeque<(Entry, Option<SkipReason>)>,
}

impl Items {
    fn item(&mut self, entry: &Entry, skipped: Option<SkipReason>) -> Item {
        let key = article::key(entry);
        let title = entry.title.as_ref().map(|title| title.source()).unwrap_or_default();
        let title = crate::piece::one_line(cable_body::html::head(title, 200));
        let label = label(entry.kind, cable_body::html::head(&key, 120), &title);
        let outcome = match skipped {
            Some(reason) => ItemOutcome::Skipped(reason),
            None => self.outcome(entry, key.clone()),
        };
        Item::of_article(label, entry.kind, outcome, self.fitter.article(&article::id(&key)))
    }

    fn outcome(&mut self, entry: &Entry, key: String) -> ItemOutcome {
        let piece = article::piece(entry, &self.channel, &self.sites, &self.options, &mut self.texts);
        let piece = match piece {
            Ok(piece) => piece,
            Err(problem) => return ItemOutcome::Failed(problem),
        };
        let owner = self.names.entry(piece.id.clone()).or_insert_with(|| key.clone());
        if *owner != key {
            return ItemOutcome::Failed(format!("its id is that of another item: {owner}"));
        }
        self.fitter.fit(piece)
    }
}

impl Iterator for Items {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        let (entry, skipped) = self.entries.pop_front()?;
        Some(self.item(&entry, skipped))
    }
}

#[cfg(test)]
mod costs;
#[cfg(test)]
mod tests;
