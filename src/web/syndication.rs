//! Feeds and sitemaps: the addresses at which aggregators and search engines find what is new, and the text of each, a
//! pure function of the articles in it.

use std::sync::Arc;

use bytes::Bytes;

use super::request::{Parameter, Values, percent_decode};
use crate::{
    config,
    content::{Collected, Output, Source, key_of},
    model::{Kind, Name},
    parse,
    refusal::Refusal,
    store::listing::Month,
    wire::v1::Freshness,
};

mod atom;
mod entry;
mod json_feed;
mod media;
mod rss;
mod sitemap;
mod urls;
mod xml;

/// The number of articles in a feed.
const MAX_ENTRIES: usize = 50;

/// The maximum size of the articles that are read for a feed, in bytes: 80 KiB each if there are 50.
const MAX_READ_BYTES: usize = 4 << 20;

/// The size after which a feed ends, in bytes. An entry, which has a body of at most 1 MiB, is at most 6 MiB: a feed is
/// not larger than the largest document. The articles and the text together take less than 64 MiB of memory.
const MAX_FEED_BYTES: usize = 4 << 20;

/// The number of articles in a sitemap. Sitemaps may have 50,000, and 50 MB: with this number, even the longest paths
/// do not reach that, and a node reads few enough articles for one response.
const MAX_MONTH_PAGES: usize = 5_000;

/// The rules of Google News: the time for which an article is in the news sitemap, in microseconds, and the maximum
/// number of pages.
const NEWS_AGE: i64 = 48 * 3_600 * 1_000_000;
const MAX_NEWS_PAGES: usize = 1_000;

/// The number of articles in which pages for the news sitemap are looked for. Articles without a page are not in it.
const MAX_NEWS_READ: usize = 5_000;

/// The paths of the index and of the news sitemap, and the media type of all sitemaps.
const INDEX_PATH: &str = "/sitemap.xml";
const NEWS_PATH: &str = "/sitemap-news.xml";
const SITEMAP_TYPE: &str = "application/xml";

/// The addresses that there are, for the error at another one.
pub(crate) const ADDRESSES: &str = "no such feed or sitemap; there are /feeds/all.rss, /feeds/tag/{id}.rss, \
    /feeds/section/{id}.rss and /feeds/author/{id}.rss, each also as .atom and .json, /sitemap.xml and /sitemap-news.xml";

/// The error of all of them without the address of the site.
pub(crate) const NO_SITE: &str = "no feeds and sitemaps: set `site.url`, `site.name` and `site.language`";

/// The site that feeds and sitemaps are about.
#[derive(Debug)]
pub(crate) struct Site {
    /// Scheme, host and port.
    url: String,
    name: String,
    language: String,
    description: String,
}

impl Site {
    /// Returns the site of the settings. `None` if they have no address.
    pub(crate) fn new(settings: &config::Site) -> Option<Site> {
        Some(Site {
            url: settings.url.clone()?,
            name: settings.name.clone(),
            language: settings.language.clone(),
            description: settings.description.clone(),
        })
    }
}

/// The formats of feeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Rss,
    Atom,
    Json,
}

impl Format {
    pub(crate) const ALL: [Format; 3] = [Format::Rss, Format::Atom, Format::Json];

    /// Returns the name that readers of feeds know.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Format::Rss => "RSS",
            Format::Atom => "Atom",
            Format::Json => "JSON Feed",
        }
    }

    fn extension(self) -> &'static str {
        match self {
            Format::Rss => "rss",
            Format::Atom => "atom",
            Format::Json => "json",
        }
    }

    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Format::Rss => rss::MEDIA_TYPE,
            Format::Atom => atom::MEDIA_TYPE,
            Format::Json => json_feed::MEDIA_TYPE,
        }
    }

    fn write(self, feed: &entry::Feed<'_>) -> Vec<u8> {
        match self {
            Format::Rss => rss::write(feed),
            Format::Atom => atom::write(feed),
            Format::Json => json_feed::write(feed),
        }
    }
}

/// A feed or a sitemap, by the path of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Address<'a> {
    /// The newest articles, all or those of an entity, by its id as the path has it.
    Feed(Option<(Kind, &'a str)>, Format),
    /// The index of the sitemaps.
    Index,
    /// A part of the sitemap of a month, from 1.
    Month(Month, usize),
    News,
}

/// The kinds of entities that have feeds.
pub(crate) const KINDS: [Kind; 3] = [Kind::Tag, Kind::Section, Kind::Author];

/// A request for a feed or a sitemap.
#[derive(Debug)]
pub(crate) struct OutputRequest {
    /// The key under which the output is cached.
    pub(crate) key: Bytes,
    pub(crate) output: Output,
    pub(crate) freshness: Option<Freshness>,
}

/// Whether a path is where feeds and sitemaps are.
pub(crate) fn is_within(path: &str) -> bool {
    path == "/feeds" || path.starts_with("/feeds/") || path.starts_with("/sitemap") && path.ends_with(".xml")
}

impl Address<'static> {
    /// Returns an address of each form, which the description lists.
    pub(crate) fn forms() -> impl Iterator<Item = Address<'static>> {
        let lists = std::iter::once(None).chain(KINDS.map(|kind| Some((kind, "{id}"))));
        let feeds = lists.flat_map(|of| Format::ALL.map(|format| Address::Feed(of, format)));
        feeds.chain([Address::Index, Address::Month(Month::of(0), 1), Address::News])
    }
}

impl<'a> Address<'a> {
    /// Returns the path of addresses of this form, with what differs in braces.
    pub(crate) fn template(self) -> String {
        match self {
            Address::Feed(of, format) => feed_path(of.map(|(kind, _)| (kind, "{id}")), format),
            Address::Index => INDEX_PATH.to_owned(),
            Address::Month(..) => "/sitemap-{month}.xml".to_owned(),
            Address::News => NEWS_PATH.to_owned(),
        }
    }

    /// Returns the media type of the response.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Address::Feed(_, format) => format.content_type(),
            Address::Index | Address::Month(..) | Address::News => SITEMAP_TYPE,
        }
    }

    /// Returns what is at a path.
    pub(crate) fn at(path: &'a str) -> Option<Address<'a>> {
        if let Some(feed) = path.strip_prefix("/feeds/") {
            let (of, extension) = feed.rsplit_once('.')?;
            let format = Format::ALL.into_iter().find(|format| format.extension() == extension)?;
            if of == "all" {
                return Some(Address::Feed(None, format));
            }
            let (noun, id) = of.split_once('/').filter(|(_, id)| !id.contains('/'))?;
            let kind = KINDS.into_iter().find(|kind| kind.noun() == noun)?;
            return Some(Address::Feed(Some((kind, id)), format));
        }
        match path.strip_prefix("/sitemap")?.strip_suffix(".xml")? {
            "" => Some(Address::Index),
            "-news" => Some(Address::News),
            month => {
                let (month, part) = parse_month(month.strip_prefix('-')?)?;
                Some(Address::Month(month, part))
            }
        }
    }

    /// Returns the path of the same feed of another entity, if it has one.
    pub(crate) fn moved_to(self, name: &str) -> Option<String> {
        let Address::Feed(Some(_), format) = self else { return None };
        let name = Name::parse(name).filter(|name| KINDS.contains(&name.kind))?;
        Some(feed_path(Some((name.kind, name.id.as_str())), format))
    }

    /// Returns the request for the feed or the sitemap. `at_least` is the value of the header `cable-at-least`.
    ///
    /// # Errors
    /// The id or a parameter is not valid.
    pub(crate) fn request(
        self,
        site: &Arc<Site>,
        query: Option<&str>,
        at_least: Option<&[u8]>,
    ) -> Result<OutputRequest, Refusal> {
        let values = Values::parse(&[Parameter::AtLeastRevision], query.unwrap_or_default())?;
        let freshness = values.freshness(at_least)?;
        let (path, output) = match self {
            Address::Feed(of, format) => {
                let of = of.map(|(kind, id)| parse_id(kind, id)).transpose()?;
                let path = feed_path(of.as_ref().map(|name| (name.kind, name.id.as_str())), format);
                let output = feed(site.clone(), path.clone(), of, format);
                (path, output)
            }
            Address::Index => (INDEX_PATH.to_owned(), sitemap(site, Source::Months)),
            Address::News => {
                let source = Source::Recent { age: NEWS_AGE, pages: MAX_NEWS_PAGES, articles: MAX_NEWS_READ };
                (NEWS_PATH.to_owned(), sitemap(site, source))
            }
            Address::Month(month, part) => {
                let skip = (part - 1) * MAX_MONTH_PAGES;
                let source = Source::Month { month, skip, articles: MAX_MONTH_PAGES };
                (month_path(month, part), sitemap(site, source))
            }
        };
        Ok(OutputRequest { key: path.into(), output, freshness })
    }
}

fn parse_id(kind: Kind, id: &str) -> Result<Name, Refusal> {
    let id =
        percent_decode(id, false).ok_or_else(|| Refusal::field("name", "must be UTF-8, percent-encoded"))?;
    parse::name(kind, &format!("{}/{id}", kind.collection()), "name")
}

/// Parses a month and the number of a part: `2026-11` or `2026-11-2`.
fn parse_month(text: &str) -> Option<(Month, usize)> {
    let (month, part) = match text.get(7..)? {
        "" => (text, 1),
        part => {
            let part = part.strip_prefix('-').filter(|part| part.len() <= 5)?;
            let number = part.parse::<usize>().ok().filter(|number| *number > 1)?;
            (&text[..7], Some(number).filter(|number| number.to_string() == part)?)
        }
    };
    Some((Month::parse(month)?, part))
}

fn month_path(month: Month, part: usize) -> String {
    match part {
        1 => format!("/sitemap-{month}.xml"),
        part => format!("/sitemap-{month}-{part}.xml"),
    }
}

/// Returns the path of the feed of all articles, or of an entity by its id.
pub(crate) fn feed_path(of: Option<(Kind, &str)>, format: Format) -> String {
    let extension = format.extension();
    match of {
        None => format!("/feeds/all.{extension}"),
        Some((kind, id)) => format!("/feeds/{}/{id}.{extension}", kind.noun()),
    }
}

fn feed(site: Arc<Site>, path: String, of: Option<Name>, format: Format) -> Output {
    let keys = match &of {
        None => vec!["list:articles".to_owned()],
        Some(name) => vec![key_of(name), format!("list:{name}")],
    };
    Output {
        source: Source::Newest { of, articles: MAX_ENTRIES, bytes: MAX_READ_BYTES },
        keys: keys.into(),
        content_type: format.content_type(),
        write: Arc::new(move |collected| match collected {
            Collected::Articles { topic, articles, topics } => {
                format.write(&entry::Feed::new(&site, path.clone(), topic, articles, topics))
            }
            Collected::Pages(_) | Collected::Months(_) => Vec::new(),
        }),
    }
}

fn sitemap(site: &Arc<Site>, source: Source) -> Output {
    let (site, is_news) = (site.clone(), matches!(source, Source::Recent { .. }));
    Output {
        source,
        // One key for all articles: thousands of keys have no room.
        keys: Arc::new(["articles".to_owned(), "list:articles".to_owned()]),
        content_type: SITEMAP_TYPE,
        write: Arc::new(move |collected| match collected {
            Collected::Months(months) => sitemap::write_index(&site, &months),
            Collected::Pages(pages) if is_news => sitemap::write_news(&site, &pages),
            Collected::Pages(pages) => sitemap::write_month(&site, &pages),
            Collected::Articles { .. } => Vec::new(),
        }),
    }
}
