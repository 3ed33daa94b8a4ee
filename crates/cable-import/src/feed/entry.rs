//! The entries of RSS and Atom documents, and the properties of the feed.

use std::{collections::BTreeMap, rc::Rc};

use url::Url;

use super::{
    item::entry,
    media::Attachment,
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
pub(super) const MAX_LANGUAGE_BYTES: usize = 65;

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

    pub(super) fn is_empty(&self) -> bool {
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
    /// Addresses of pages with players.
    pub(super) embeds: Vec<String>,
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

    pub(super) fn add_embed(&mut self, url: String) {
        if self.embeds.len() >= MAX_PARTS {
            self.count("players above the limit");
        } else if !url.is_empty() {
            self.embeds.push(url);
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
pub(super) struct Bases {
    /// The address that applies where no `xml:base` does. None if one applies to the item.
    default: Option<Rc<Url>>,
    document: Option<Rc<Url>>,
}

impl Bases {
    pub(super) fn of(&self, element: &Element) -> Option<Rc<Url>> {
        match &self.default {
            Some(default) if element.base == self.document => Some(default.clone()),
            _ => element.base.clone(),
        }
    }
}

/// Returns the relation of a link; of Atom's registry, with or without its prefix.
pub(super) fn relation(link: &Element) -> &str {
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
pub(super) fn construct(element: &Element) -> Option<Text> {
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
