//! The parts of one item of RSS or Atom.

use url::Url;

use super::{
    entry::{Bases, Channel, Entry, Located, MAX_LANGUAGE_BYTES, Text, construct, relation, resolved},
    media::Attachment,
    mrss,
    plain::plain,
    xml::Element,
};
use crate::piece::Term;

/// Returns an item as an entry.
pub(super) fn entry(item: &Element, channel: &Channel, bases: &Bases) -> Entry {
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
    /// `description` or Atom's summary; those of podcasts, of Dublin Core, and of media.
    summaries: [Option<Located>; 5],
    /// Whether `media:description` is the caption of a file.
    is_caption: bool,
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
            "itunes:summary" => set(&mut self.summaries[1], html()),
            "dc:description" => set(&mut self.summaries[2], html()),
            "media:description" => {
                let is_html = child.attribute("type") == "html";
                let text = if is_html { Text::Html(child.html(true)) } else { Text::Plain(child.text()) };
                set(&mut self.summaries[3], located(text));
                self.is_caption |= mrss::add_caption(child, entry);
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
            "rdf:li" | "itunes:duration" => {}
            _ if mrss::add(child, entry, base.as_deref()) => {}
            name => entry.count(name),
        }
        if child.name == "media:group" {
            // The texts of a group are those of the item if it has no others.
            let texts = ["media:title", "media:description"];
            let children = child.children().filter(|child| texts.contains(&child.name.as_str()));
            for text in children {
                match text.name.as_str() {
                    "media:title" => set(&mut self.titles[1], Some(Text::Plain(text.plain()))),
                    _ => set(&mut self.summaries[4], located(Text::Plain(text.plain()))),
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

    /// Sets the content and the summary. Without content, the longest description is the text.
    fn set_texts(&mut self, entry: &mut Entry) {
        let caption = self.summaries[3].take();
        let mut texts: Vec<Located> = self.summaries.iter_mut().filter_map(Option::take).collect();
        entry.content = self.contents.iter_mut().find_map(Option::take);
        match caption {
            // It describes the item, and no file of it.
            Some(caption) if texts.is_empty() && entry.content.is_none() => {
                if self.is_caption {
                    let words = plain(caption.text.source().trim());
                    let of_item = entry.attachments.iter_mut().filter(|file| file.description == words);
                    of_item.for_each(|file| file.description.clear());
                }
                texts.push(caption);
            }
            Some(_) if !self.is_caption => entry.count("media:description"),
            _ => {}
        }
        texts.dedup_by(|one, other| one.text.source().trim() == other.text.source().trim());
        if entry.content.is_none() && texts.len() > 1 {
            let longest = (0..texts.len()).rev().max_by_key(|index| texts[*index].text.source().len());
            entry.content = longest.map(|index| texts.remove(index));
        }
        let mut texts = texts.into_iter();
        entry.summary = texts.next();
        texts.for_each(|_| entry.count("further descriptions"));
    }

    fn finish(mut self, item: &Element, channel: &Channel, entry: &mut Entry, bases: &Bases) {
        self.set_texts(entry);
        let Other { titles, links, original_link, is_permalink, guid, dates, changes, .. } = self;
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
        entry.published = dates.into_iter().find(|date| !date.is_empty()).unwrap_or_default();
        entry.updated = changes.into_iter().find(|date| !date.is_empty()).unwrap_or_default();
        mrss::set_durations(item, entry);
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
