//! The entries of RSS and Atom documents, and the properties of the feed.

use std::{collections::BTreeMap, rc::Rc};

use url::Url;

use super::{
    media::{self, Attachment},
    plain::{people, plain},
    xml::{Document, Element},
};
use crate::piece::Term;

/// The maximum number of authors, of categories and of files of one item that are used.
const MAX_PARTS: usize = 1_000;

/// The maximum number of authors of a feed, and of bytes of their names, that each item without authors gets.
const MAX_FEED_AUTHORS: usize = 8;
const MAX_FEED_AUTHOR_BYTES: usize = 512;

/// The maximum length in bytes of a text about the feed that each item gets.
const MAX_FEED_TEXT_BYTES: usize = 2 << 10;

/// The maximum length of a language in bytes. No tag is longer.
const MAX_LANGUAGE_BYTES: usize = 65;

/// The kind of an entry that states the deletion of another one (RFC 6721).
pub(super) const DELETED: &str = "deleted-entry";

/// A text as a feed has it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Text {
    Html(String),
    Plain(String),
}

impl Text {
    pub(super) fn source(&self) -> &str {
        let (Text::Html(source) | Text::Plain(source)) = self;
        source
    }

    fn is_empty(&self) -> bool {
        self.source().trim().is_empty()
    }
}

/// A text with the address against which its links are resolved.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Located {
    pub(super) text: Text,
    pub(super) base: Option<Rc<Url>>,
}

/// One item of a feed, of any format.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Entry {
    /// `item`, or `entry` of Atom.
    pub(super) kind: &'static str,
    /// The `guid` or `id`; empty if there is none.
    pub(super) guid: String,
    pub(super) link: String,
    /// The address of the page that a link blog comments on.
    pub(super) external_url: String,
    pub(super) title: Option<Text>,
    pub(super) content: Option<Located>,
    pub(super) summary: Option<Located>,
    /// A line below the title that is not the summary.
    pub(super) subtitle: String,
    pub(super) published: String,
    pub(super) updated: String,
    pub(super) authors: Vec<String>,
    pub(super) categories: Vec<Term>,
    pub(super) attachments: Vec<Attachment>,
    /// Addresses of small pictures that stand for the item.
    pub(super) thumbnails: Vec<String>,
    pub(super) language: String,
    pub(super) copyright: String,
    pub(super) terms: String,
    /// The name of the feed that the item was taken from.
    pub(super) source: String,
    /// The address against which links outside of texts were resolved.
    pub(super) base: Option<Rc<Url>>,
    pub(super) not_imported: BTreeMap<String, u64>,
    pub(super) damage: Option<String>,
}

impl Entry {
    pub(super) fn count(&mut self, kind: &str) {
        let kind = cable_body::html::head(kind, 64);
        *self.not_imported.entry(kind.to_owned()).or_default() += 1;
    }

    /// Adds the authors whom a field names.
    pub(super) fn add_authors(&mut self, text: &str) {
        people(text).into_iter().for_each(|name| self.add_author(name));
    }

    fn add_author(&mut self, name: String) {
        if self.authors.len() >= MAX_PARTS {
            self.count("authors above the limit");
        } else if !name.is_empty() && !self.authors.contains(&name) {
            self.authors.push(name);
        }
    }

    pub(super) fn add_category(&mut self, category: Term) {
        if self.categories.len() >= MAX_PARTS {
            self.count("categories above the limit");
        } else {
            self.categories.push(category);
        }
    }

    pub(super) fn add_attachment(&mut self, attachment: Attachment) {
        if self.attachments.len() >= MAX_PARTS {
            self.count("files above the limit");
        } else {
            self.attachments.push(attachment);
        }
    }
}

/// The properties of the feed as a whole.
#[derive(Debug, Clone, Default)]
pub(super) struct Channel {
    pub(super) title: String,
    /// The address of the site or the page that the feed belongs to.
    pub(super) home: String,
    /// The address of the feed as it states it.
    pub(super) own_address: String,
    /// The id of the feed, of Atom.
    pub(super) id: String,
    pub(super) language: String,
    pub(super) copyright: String,
    /// The authors of entries that name none. Only Atom and JSON Feed have this rule.
    pub(super) authors: Vec<String>,
    /// The number of further authors.
    pub(super) more_authors: usize,
    /// The address of the next page.
    pub(super) next: String,
}

impl Channel {
    /// Bounds what each item gets from the feed.
    pub(super) fn bounded(mut self) -> Self {
        let mut bytes = 0;
        let fits = |name: &&String| {
            bytes += name.len();
            bytes <= MAX_FEED_AUTHOR_BYTES
        };
        let count = self.authors.iter().take(MAX_FEED_AUTHORS).take_while(fits).count();
        self.more_authors = self.authors.len() - count;
        self.authors.truncate(count);
        for (text, most) in [
            (&mut self.title, MAX_FEED_TEXT_BYTES),
            (&mut self.copyright, MAX_FEED_TEXT_BYTES),
            (&mut self.language, MAX_LANGUAGE_BYTES),
        ] {
            *text = cable_body::html::head(text, most).to_owned();
        }
        self
    }
}

/// Returns a URL resolved against an address; unchanged if that is not possible.
pub(super) fn resolved(base: Option<&Url>, url: &str) -> String {
    let url = url.trim();
    match base {
        Some(base) if !url.is_empty() && Url::parse(url).is_err() => {
            base.join(url).map_or_else(|_| url.to_owned(), String::from)
        }
        _ => url.to_owned(),
    }
}

/// Returns the properties of the feed and the entries of a document. The error states why the document is not a feed.
pub(super) fn read(document: Document, address: Option<&Url>) -> Result<(Channel, Vec<Entry>), String> {
    let root = &document.root;
    let head = match root.name.as_str() {
        "atom:feed" => root,
        "rss" | "rdf:RDF" | "Channel" => root.child("channel").unwrap_or(root),
        // A document of one entry, or one that was cut off.
        _ if !document.items.is_empty() => root,
        "html" | "xhtml:html" | "HTML" => return Err(super::NOT_HTML.to_owned()),
        "" => return Err("no elements".to_owned()),
        name => return Err(format!("its first element is <{name}>, not <rss>, <rdf:RDF> or <feed>")),
    };
    if head.child("wp:wxr_version").is_some() {
        return Err("an export of WordPress: use `cable import wxr`".to_owned());
    }
    let channel = channel(head);
    // Without `xml:base`, links of RSS are relative to the site, and those of Atom to the document.
    let site = (root.name != "atom:feed").then(|| Url::parse(&channel.home).ok()).flatten();
    let site = site.or_else(|| address.cloned()).or_else(|| Url::parse(&channel.own_address).ok());
    let site = site.or_else(|| Url::parse(&channel.home).ok()).filter(super::is_short).map(Rc::new);
    let document_base = address.map(|address| Rc::new(address.clone()));
    let entries = document.items.iter().map(|item| {
        let has_own_base = item.base != document_base || head.base != document_base;
        let default = if has_own_base { None } else { site.as_ref() };
        entry(item, &channel, &Bases { default: default.cloned(), document: document_base.clone() })
    });
    let deleted = head.children().filter(|child| child.name == "at:deleted-entry").map(|child| {
        let guid = child.attribute("ref").to_owned();
        Entry { kind: DELETED, guid, ..Entry::default() }
    });
    let entries = entries.chain(deleted).collect();
    Ok((channel, entries))
}

/// The addresses against which the links of an item are resolved.
struct Bases {
    /// The address that applies where no `xml:base` does. None if one applies to the item.
    default: Option<Rc<Url>>,
    document: Option<Rc<Url>>,
}

impl Bases {
    fn of(&self, element: &Element) -> Option<Rc<Url>> {
        match &self.default {
            Some(default) if element.base == self.document => Some(default.clone()),
            _ => element.base.clone(),
        }
    }
}

/// Returns the relation of a link; of Atom's registry, with or without its prefix.
fn relation(link: &Element) -> &str {
    match link.attribute("rel").rsplit('/').next().unwrap_or_default() {
        "" => "alternate",
        rel => rel,
    }
}

fn channel(head: &Element) -> Channel {
    let mut channel = Channel {
        title: plain(&head.get("title")),
        home: head.get("link"),
        language: head.get("language"),
        copyright: plain(&head.get("copyright")),
        id: head.get("atom:id"),
        ..Channel::default()
    };
    let base = head.base.as_deref();
    for child in head.children() {
        let href = || resolved(base, child.attribute("href"));
        match child.name.as_str() {
            "atom:link" => match relation(child) {
                "alternate" if channel.home.is_empty() => channel.home = href(),
                "self" => channel.own_address = href(),
                "next" => channel.next = href(),
                // An archive of older entries (RFC 5005).
                "prev-archive" if channel.next.is_empty() => channel.next = href(),
                _ => {}
            },
            "atom:title" | "dc:title" if channel.title.is_empty() => channel.title = child.plain(),
            "atom:rights" | "atom:copyright" | "dc:rights" if channel.copyright.is_empty() => {
                channel.copyright = child.plain();
            }
            "dc:language" if channel.language.is_empty() => channel.language = child.text(),
            "atom:author" if head.name == "atom:feed" && channel.authors.len() < MAX_PARTS => {
                channel.authors.extend(people(&child.get("atom:name")))
            }
            _ => {}
        }
    }
    if channel.language.is_empty() {
        channel.language = head.language.as_deref().unwrap_or_default().to_owned();
    }
    channel.home = resolved(base, &channel.home);
    channel.authors.retain(|name| !name.is_empty());
    channel.bounded()
}

/// Returns a text construct of Atom 1.0 or 0.3. None if it is not text, or is elsewhere.
fn construct(element: &Element) -> Option<Text> {
    let r#type = element.attribute("type").to_ascii_lowercase();
    let r#type = r#type.split(';').next().unwrap_or_default().trim();
    if !element.attribute("src").is_empty() {
        return None;
    }
    match (element.attribute("mode"), r#type) {
        ("xml", _) | (_, "xhtml" | "application/xhtml+xml") => Some(Text::Html(element.html(false))),
        ("base64", _) => None,
        (_, "html" | "text/html") => Some(Text::Html(element.html(true))),
        // Markup in a text that should have none.
        (_, "" | "text" | "text/plain") if element.children().next().is_some() => {
            Some(Text::Html(element.html(false)))
        }
        (_, "" | "text") => Some(Text::Plain(element.text())),
        (_, r#type) if r#type.starts_with("text/") => Some(Text::Plain(element.text())),
        _ => None,
    }
}

fn entry(item: &Element, channel: &Channel, bases: &Bases) -> Entry {
    let is_atom = item.name == "atom:entry";
    let base = bases.of(item);
    let mut entry = Entry {
        kind: if is_atom { "entry" } else { "item" },
        guid: if is_atom { String::new() } else { item.attribute("rdf:about").to_owned() },
        base: base.clone(),
        damage: item.damage.clone(),
        ..Entry::default()
    };
    let mut other = Other::default();
    for child in item.children() {
        other.add(child, &mut entry, bases);
    }
    other.finish(item, channel, &mut entry, bases);
    entry
}

/// The parts of an item of which only some are used, by preference.
#[derive(Default)]
struct Other {
    titles: [Option<Text>; 2],
    /// The link of RSS, the alternate link of Atom that is a page, any alternate link.
    links: [String; 3],
    original_link: String,
    is_permalink: bool,
    guid: String,
    /// `content:encoded` and Atom's content; XHTML in an item of RSS.
    contents: [Option<Located>; 2],
    /// `description`, Atom's summary; those of podcasts and media.
    summaries: [Option<Located>; 4],
    dates: [String; 4],
    changes: [String; 2],
}

fn set<T>(place: &mut Option<T>, value: Option<T>) {
    if place.is_none() {
        *place = value;
    }
}

fn set_text(place: &mut String, value: String) {
    if place.is_empty() {
        *place = value;
    }
}

impl Other {
    fn add(&mut self, child: &Element, entry: &mut Entry, bases: &Bases) {
        let base = bases.of(child);
        let located =
            |text: Text| Some(Located { text, base: base.clone() }).filter(|at| !at.text.is_empty());
        let html = || located(Text::Html(child.html(true)));
        match child.name.as_str() {
            "title" => set(&mut self.titles[0], Some(Text::Html(child.html(true)))),
            "atom:title" => set(&mut self.titles[0], construct(child)),
            "media:title" | "itunes:title" | "dc:title" => {
                set(&mut self.titles[1], Some(Text::Plain(child.plain())));
            }
            "link" => set_text(&mut self.links[0], resolved(base.as_deref(), &child.text())),
            "feedburner:origLink" => set_text(&mut self.original_link, child.text()),
            "atom:link" => self.add_link(child, entry, base.as_deref()),
            "guid" => {
                self.is_permalink = !child.attribute("isPermaLink").eq_ignore_ascii_case("false");
                self.guid = child.text();
            }
            "atom:id" => entry.guid = child.text(),
            "content:encoded" => set(&mut self.contents[0], html()),
            "atom:content" => match construct(child) {
                Some(text) => set(&mut self.contents[0], located(text)),
                None if child.attribute("src").is_empty() => entry.count("content that is not text"),
                None => {
                    let (src, r#type) = (child.attribute("src"), child.attribute("type"));
                    entry.add_attachment(Attachment::of_file(resolved(base.as_deref(), src), r#type));
                }
            },
            "xhtml:body" | "xhtml:div" => {
                set(&mut self.contents[1], located(Text::Html(child.html(false))));
            }
            "description" => set(&mut self.summaries[0], html()),
            "atom:summary" => set(&mut self.summaries[0], construct(child).and_then(located)),
            "itunes:summary" | "dc:description" => set(&mut self.summaries[1], html()),
            "media:description" => {
                let is_html = child.attribute("type") == "html";
                let text = if is_html { Text::Html(child.html(true)) } else { Text::Plain(child.text()) };
                set(&mut self.summaries[2], located(text));
            }
            "itunes:subtitle" => set_text(&mut entry.subtitle, child.plain()),
            "pubDate" | "atom:published" | "atom:issued" => set_text(&mut self.dates[0], child.text()),
            "dcterms:issued" => set_text(&mut self.dates[1], child.text()),
            "dc:date" => set_text(&mut self.dates[2], child.text()),
            "dcterms:created" | "atom:created" => set_text(&mut self.dates[3], child.text()),
            "atom:updated" | "atom:modified" => set_text(&mut self.changes[0], child.text()),
            "dcterms:modified" => set_text(&mut self.changes[1], child.text()),
            "author" | "dc:creator" | "itunes:author" => entry.add_authors(&child.text()),
            "atom:author" => {
                entry.add_authors(&child.get("atom:name"));
                if !(child.get("atom:uri") + &child.get("atom:url")).is_empty() {
                    entry.count("addresses of authors");
                }
            }
            "category" | "dc:subject" => entry.add_category(Term::of_name(&child.plain())),
            "atom:category" => add_category(child, entry),
            "media:keywords" | "itunes:keywords" => {
                child.plain().split(',').for_each(|name| entry.add_category(Term::of_name(name)));
            }
            "dc:language" => entry.language = child.text(),
            "atom:rights" | "atom:copyright" | "dc:rights" | "media:copyright" => {
                set_text(&mut entry.copyright, child.plain());
            }
            "cc:license" => set_text(&mut entry.terms, license(child)),
            "source" => entry.source = child.plain(),
            "atom:source" => {
                entry.source = plain(&child.get("atom:title"));
                if entry.authors.is_empty() {
                    let authors = child.children().filter(|child| child.name == "atom:author");
                    authors.for_each(|author| entry.add_authors(&author.get("atom:name")));
                }
            }
            // Their content is part of other elements, or of the feed's machinery.
            "rdf:li" | "itunes:duration" | "media:player" => {}
            _ if media::add(child, entry, base.as_deref()) => {}
            name => entry.count(name),
        }
        if child.name == "media:group" {
            // The texts of a group are those of the item if it has no others.
            let texts = ["media:title", "media:description"];
            let children = child.children().filter(|child| texts.contains(&child.name.as_str()));
            for text in children {
                match text.name.as_str() {
                    "media:title" => set(&mut self.titles[1], Some(Text::Plain(text.plain()))),
                    _ => set(&mut self.summaries[3], located(Text::Plain(text.plain()))),
                }
            }
        }
    }

    fn add_link(&mut self, link: &Element, entry: &mut Entry, base: Option<&Url>) {
        let href = resolved(base, link.attribute("href"));
        let r#type = link.attribute("type");
        match relation(link) {
            "alternate" if r#type.is_empty() || r#type.contains("html") => set_text(&mut self.links[1], href),
            "alternate" => set_text(&mut self.links[2], href),
            "enclosure" => {
                let title = link.attribute("title").to_owned();
                entry.add_attachment(Attachment { title, ..Attachment::of_file(href, r#type) });
            }
            "license" => set_text(&mut entry.terms, href),
            rel => entry.count(&format!("link of the relation {rel}")),
        }
    }

    fn finish(self, item: &Element, channel: &Channel, entry: &mut Entry, bases: &Bases) {
        let Other { titles, links, original_link, is_permalink, guid, contents, summaries, dates, changes } =
            self;
        let language = item.language.as_deref().unwrap_or_default();
        set_text(&mut entry.language, cable_body::html::head(language, MAX_LANGUAGE_BYTES).to_owned());
        set_text(&mut entry.language, channel.language.clone());
        let is_web = |text: &str| text.starts_with("http://") || text.starts_with("https://");
        let permalink = if is_permalink && is_web(&guid) { guid.clone() } else { String::new() };
        let [link, page, any_page] = links;
        let found = [original_link, link, page, any_page, permalink];
        entry.link = found.into_iter().find(|link| !link.is_empty()).unwrap_or_default();
        if !guid.is_empty() {
            entry.guid = guid;
        }
        entry.title = titles.into_iter().flatten().find(|title| !title.is_empty());
        entry.content = contents.into_iter().flatten().next();
        entry.summary = summaries.into_iter().flatten().next();
        entry.published = dates.into_iter().find(|date| !date.is_empty()).unwrap_or_default();
        entry.updated = changes.into_iter().find(|date| !date.is_empty()).unwrap_or_default();
        media::set_durations(item, entry);
        entry.base = bases.of(item);
    }
}

fn license(element: &Element) -> String {
    match element.attribute("rdf:resource") {
        "" => element.text(),
        url => url.to_owned(),
    }
}

/// Adds a category of Atom. The marks of Blogger that distinguish posts from comments are no topics.
fn add_category(element: &Element, entry: &mut Entry) {
    let (term, label) = (element.attribute("term"), element.attribute("label"));
    if element.attribute("scheme") == "http://schemas.google.com/g/2005#kind" {
        return entry.count("kind of Blogger");
    }
    let name = if label.is_empty() { term } else { label };
    let slug = if label.is_empty() { String::new() } else { crate::ids::slug_of_name(term) };
    entry.add_category(Term { slug, name: name.to_owned() });
}
