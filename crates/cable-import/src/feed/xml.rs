//! The elements of an RSS or Atom document. Damage costs only the item in which it is.
//!
//! A document type is skipped: nothing that it defines is ever expanded.

use std::rc::Rc;

use quick_xml::{
    XmlVersion, escape,
    events::{BytesRef, BytesStart, Event},
};
use url::Url;

use cable_proto::limit;

use super::plain::plain;
use crate::wxr::encoding::MARK;

/// The maximum number of elements in one document.
pub const MAX_ELEMENTS: usize = 1_000_000;

/// The maximum number of open elements.
pub const MAX_DEPTH: usize = 128;

/// The maximum number of attributes of one element.
pub const MAX_ATTRIBUTES: usize = 256;

/// The maximum number of namespaces that are declared at one place.
pub const MAX_NAMESPACES: usize = 64;

/// The maximum number of bytes that are read again to find the end of damaged items.
const MAX_REREAD_BYTES: usize = 16 << 20;

/// Namespaces, and the prefixes by which the rest of this module names them. The elements of RSS have none.
const NAMESPACES: [(&str, &str); 31] = [
    ("http://backend.userland.com/rss", ""),
    ("http://backend.userland.com/rss2", ""),
    ("http://blogs.law.harvard.edu/tech/rss", ""),
    ("http://my.netscape.com/rdf/simple/0.9/", ""),
    ("http://channel.netscape.com/rdf/simple/0.9/", ""),
    ("http://purl.org/rss/1.0/", ""),
    ("http://purl.org/net/rss1.1#", ""),
    ("http://www.w3.org/1999/02/22-rdf-syntax-ns#", "rdf"),
    ("http://www.w3.org/2005/Atom", "atom"),
    ("http://purl.org/atom/ns#", "atom"),
    ("http://www.w3.org/1999/xhtml", "xhtml"),
    ("http://purl.org/rss/1.0/modules/content/", "content"),
    ("http://purl.org/dc/elements/1.1/", "dc"),
    ("http://purl.org/dc/elements/1.0/", "dc"),
    ("http://purl.org/dc/terms/", "dcterms"),
    ("http://search.yahoo.com/mrss/", "media"),
    ("http://search.yahoo.com/mrss", "media"),
    ("http://www.itunes.com/dtds/podcast-1.0.dtd", "itunes"),
    ("http://www.itunes.com/DTDs/Podcast-1.0.dtd", "itunes"),
    ("http://www.itunes.com/DTDs/PodCast-1.0.dtd", "itunes"),
    ("https://podcastindex.org/namespace/1.0", "podcast"),
    ("http://rssnamespace.org/feedburner/ext/1.0", "feedburner"),
    ("http://purl.org/rss/1.0/modules/slash/", "slash"),
    ("http://wellformedweb.org/CommentAPI/", "wfw"),
    ("http://purl.org/syndication/thread/1.0", "thread"),
    ("http://purl.org/atompub/tombstones/1.0", "at"),
    ("http://www.georss.org/georss", "georss"),
    ("http://backend.userland.com/creativeCommonsRssModule", "cc"),
    ("http://creativecommons.org/ns#", "cc"),
    ("http://web.resource.org/cc/", "cc"),
    ("http://cyber.law.harvard.edu/rss/creativeCommonsRssModule.html", "cc"),
];

/// An element with its content.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Element {
    /// The name with the prefix of [`NAMESPACES`]: `title`, `atom:title`, `dc:creator`.
    pub(super) name: String,
    pub(super) attributes: Vec<(String, String)>,
    pub(super) nodes: Vec<Node>,
    /// The address against which its links are resolved, from `xml:base`.
    pub(super) base: Option<Rc<Url>>,
    /// The language, from `xml:lang`.
    pub(super) language: Option<Rc<str>>,
    /// The reason why the element cannot be used, if there is one.
    pub(super) damage: Option<String>,
}

/// A part of an element.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Text(String),
    Element(Element),
}

impl Element {
    pub(super) fn children(&self) -> impl Iterator<Item = &Element> {
        self.nodes.iter().filter_map(|node| match node {
            Node::Element(element) => Some(element),
            Node::Text(_) => None,
        })
    }

    /// Returns the first child of that name.
    pub(super) fn child(&self, name: &str) -> Option<&Element> {
        self.children().find(|child| child.name == name)
    }

    /// Returns the trimmed text of the first child of that name that has one; empty if there is none.
    pub(super) fn get(&self, name: &str) -> String {
        let texts = self.children().filter(|child| child.name == name).map(Element::text);
        texts.into_iter().find(|text| !text.is_empty()).unwrap_or_default()
    }

    /// Returns an attribute, trimmed; empty if there is none.
    pub(super) fn attribute(&self, name: &str) -> &str {
        self.attributes.iter().find(|(other, _)| other == name).map_or("", |(_, value)| value.trim())
    }

    /// Returns the trimmed text of the element and of everything in it.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        self.add_text(&mut text);
        text.trim().to_owned()
    }

    /// Returns the words of an element that should have neither references nor markup as text, and often does.
    pub(super) fn plain(&self) -> String {
        plain(&self.text())
    }

    fn add_text(&self, out: &mut String) {
        for node in &self.nodes {
            match node {
                Node::Text(text) => out.push_str(text),
                Node::Element(element) => element.add_text(out),
            }
        }
    }

    /// Returns the content as HTML. Text directly in the element is HTML already if `is_escaped`, as in RSS.
    pub(super) fn html(&self, is_escaped: bool) -> String {
        let mut html = String::new();
        self.add_html(is_escaped, &mut html);
        html
    }

    fn add_html(&self, is_escaped: bool, out: &mut String) {
        for node in &self.nodes {
            match node {
                Node::Text(text) if is_escaped => out.push_str(text),
                Node::Text(text) => out.push_str(&escaped(text)),
                Node::Element(element) => element.add_tags(out),
            }
        }
    }

    fn add_tags(&self, out: &mut String) {
        const VOID: [&str; 14] = [
            "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source",
            "track", "wbr",
        ];
        let name = local(&self.name);
        out.push('<');
        out.push_str(name);
        for (name, value) in &self.attributes {
            out.push_str(&format!(" {}=\"{}\"", local(name), escaped(value)));
        }
        out.push('>');
        if !VOID.contains(&name) {
            self.add_html(false, out);
            out.push_str(&format!("</{name}>"));
        }
    }
}

fn local(name: &str) -> &str {
    name.rsplit(':').next().unwrap_or_default()
}

/// Returns a text as HTML that shows it.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A document: its root with everything but the items, and the items.
#[derive(Debug, Default)]
pub(super) struct Document {
    /// The root, as far as it could be read.
    pub(super) root: Element,
    pub(super) items: Vec<Element>,
    /// The problem that ended the reading early, if there is one.
    pub(super) failure: Option<String>,
}

/// An element that is open, with its name as the document has it.
struct Open {
    element: Element,
    raw_name: String,
    /// The number of namespaces declared outside of it.
    outer: usize,
    /// The position after its start tag.
    start: usize,
}

struct Parser<'a> {
    text: &'a str,
    xml: quick_xml::Reader<&'a [u8]>,
    /// The position at which `xml` began.
    offset: usize,
    open: Vec<Open>,
    /// The declared namespaces: the prefix in the document, and ours.
    namespaces: Vec<(String, Option<&'static str>)>,
    elements: usize,
    reread: usize,
    document: Document,
}

fn reader(text: &str) -> quick_xml::Reader<&[u8]> {
    let mut xml = quick_xml::Reader::from_str(text);
    let config = xml.config_mut();
    config.expand_empty_elements = true;
    config.allow_dangling_amp = true;
    config.allow_unmatched_ends = true;
    config.check_end_names = false;
    xml
}

/// Parses a document. `base` is its address, `max_items` the number of items after which it ends.
pub(super) fn parse(text: &str, base: Option<&Url>, max_items: usize) -> Document {
    let mut parser = Parser {
        text,
        xml: reader(text),
        offset: 0,
        open: Vec::new(),
        namespaces: Vec::new(),
        elements: 0,
        reread: 0,
        document: Document::default(),
    };
    let base = base.map(|base| Rc::new(base.clone()));
    loop {
        match parser.step(&base, max_items) {
            Ok(true) => {}
            Ok(false) => break,
            Err(problem) => {
                if let Err(failure) = parser.recover(&problem) {
                    parser.document.failure = Some(failure);
                    break;
                }
            }
        }
    }
    parser.finish()
}

impl<'a> Parser<'a> {
    fn position(&self) -> usize {
        let inner = usize::try_from(self.xml.buffer_position()).unwrap_or(usize::MAX);
        self.text.len().min(self.offset.saturating_add(inner))
    }

    /// Reads one event. Returns false at the end of the document.
    fn step(&mut self, base: &Option<Rc<Url>>, max_items: usize) -> Result<bool, String> {
        let event = self
            .xml
            .read_event()
            .map_err(|error| format!("XML not well-formed at byte {}: {error}", self.position()))?;
        match event {
            Event::Start(start) => self.start(&start, base)?,
            Event::End(end) => {
                let name = end.name().as_ref().to_owned();
                self.end(&name)?;
                if self.document.items.len() > max_items {
                    self.document.items.pop();
                    self.document.failure = Some(format!("more than {max_items} items"));
                    return Ok(false);
                }
            }
            Event::Text(text) => self.add_text(&text.xml10_content())?,
            Event::CData(text) => self.add_text(&text.xml10_content())?,
            Event::GeneralRef(name) => {
                let text = resolve(&name);
                self.add_text(&text)?;
            }
            Event::Eof if self.open.is_empty() => return Ok(false),
            Event::Eof => return Err("the document was cut off".to_owned()),
            _ => {}
        }
        Ok(true)
    }

    fn start(&mut self, start: &BytesStart<'_>, base: &Option<Rc<Url>>) -> Result<(), String> {
        self.elements += 1;
        if self.elements > MAX_ELEMENTS {
            return Err(format!("more than {MAX_ELEMENTS} elements"));
        }
        let raw_name = start.name().as_ref().to_owned();
        if self.open.len() >= MAX_DEPTH {
            return Err(format!("nested more than {MAX_DEPTH} levels deep, at <{raw_name}>"));
        }
        let outer = self.namespaces.len();
        let mut raw: Vec<(String, String)> = Vec::new();
        // A search for duplicates would cost quadratic time. Attributes that are not well-formed name nothing.
        for attribute in start.attributes().with_checks(false).flatten() {
            if raw.len() == MAX_ATTRIBUTES {
                self.namespaces.truncate(outer);
                return Err(format!("more than {MAX_ATTRIBUTES} attributes of <{raw_name}>"));
            }
            let value = attribute.normalized_value(XmlVersion::Implicit1_0);
            // A reference that XML does not know stays as it is.
            let value =
                value.map_or_else(|_| attribute.value.as_ref().to_owned(), |value| value.into_owned());
            raw.push((attribute.key.as_ref().to_owned(), value));
        }
        for (name, value) in &raw {
            let prefix = match name.as_str() {
                "xmlns" => "",
                name => match name.strip_prefix("xmlns:") {
                    Some(prefix) => prefix,
                    None => continue,
                },
            };
            if self.namespaces.len() >= MAX_NAMESPACES {
                self.namespaces.truncate(outer);
                return Err(format!("more than {MAX_NAMESPACES} namespaces"));
            }
            let known = NAMESPACES.iter().find(|(uri, _)| *uri == value.trim());
            self.namespaces.push((prefix.to_owned(), known.map(|(_, prefix)| *prefix)));
        }
        let parent = self.open.last().map(|open| &open.element);
        let mut element = Element {
            name: self.name(&raw_name, true),
            base: parent.map_or_else(|| base.clone(), |parent| parent.base.clone()),
            language: parent.and_then(|parent| parent.language.clone()),
            ..Element::default()
        };
        let is_marked = raw.iter().any(|(_, value)| value.contains(MARK));
        for (name, value) in raw {
            if name == "xmlns" || name.starts_with("xmlns:") {
                continue;
            }
            let name = self.name(&name, false);
            match name.as_str() {
                "xml:base" => element.set_base(&value),
                "xml:lang" => element.language = Some(Rc::from(value.trim())),
                _ => element.attributes.push((name, value)),
            }
        }
        let start = self.position();
        self.open.push(Open { element, raw_name, outer, start });
        if is_marked {
            self.mark_damage();
        }
        Ok(())
    }

    /// Returns the name with our prefix. A prefix that nothing declares is taken for ours.
    fn name(&self, raw: &str, is_element: bool) -> String {
        let (prefix, local) = raw.split_once(':').unwrap_or(("", raw));
        if !is_element && prefix.is_empty() || prefix == "xml" {
            return raw.to_owned();
        }
        let declared = self.namespaces.iter().rev().find(|(other, _)| other == prefix);
        match declared {
            Some((_, Some(""))) => local.to_owned(),
            Some((_, Some(ours))) => format!("{ours}:{local}"),
            // The namespace has no meaning here.
            Some((_, None)) => format!("{}:{local}", if prefix.is_empty() { "other" } else { prefix }),
            None => raw.to_owned(),
        }
    }

    fn add_text(&mut self, text: &str) -> Result<(), String> {
        if text.contains(MARK) {
            self.mark_damage();
        }
        let Some(open) = self.open.last_mut() else {
            return if text.trim().is_empty() { Ok(()) } else { Err("text outside of all elements".into()) };
        };
        match open.element.nodes.last_mut() {
            Some(Node::Text(before)) => before.push_str(text),
            _ => open.element.nodes.push(Node::Text(text.to_owned())),
        }
        Ok(())
    }

    /// Marks the item that is open as damaged by bytes that are not valid in the encoding.
    fn mark_damage(&mut self) {
        if let Some(index) = self.item() {
            self.open[index].element.damage =
                Some("contains bytes that are not valid in the encoding of the feed".to_owned());
        }
    }

    fn end(&mut self, raw_name: &str) -> Result<(), String> {
        let Some(open) = self.open.last() else { return Ok(()) };
        if open.raw_name != raw_name {
            return Err(format!(
                "XML not well-formed at byte {}: </{raw_name}> where </{}> is due",
                self.position(),
                open.raw_name
            ));
        }
        let is_item = self.item() == Some(self.open.len() - 1);
        let Some(open) = self.open.pop() else { return Ok(()) };
        self.namespaces.truncate(open.outer);
        self.close(open.element, is_item);
        Ok(())
    }

    fn close(&mut self, element: Element, is_item: bool) {
        if is_item {
            self.document.items.push(element);
        } else if let Some(parent) = self.open.last_mut() {
            parent.element.nodes.push(Node::Element(element));
        } else {
            self.document.root = element;
        }
    }

    /// Returns the index of the item that is open.
    fn item(&self) -> Option<usize> {
        let is_item = |index: usize| {
            let parent = index.checked_sub(1).map_or("", |parent| self.open[parent].element.name.as_str());
            match self.open[index].element.name.as_str() {
                "item" => matches!(parent, "channel" | "rss" | "rdf:RDF" | "items" | "Channel"),
                "atom:entry" => matches!(parent, "atom:feed" | ""),
                _ => false,
            }
        };
        (0..self.open.len().min(4)).find(|index| is_item(*index))
    }

    /// Continues after the item in which a problem is. Without one, or if its end is not found, the problem ends the
    /// document.
    fn recover(&mut self, problem: &str) -> Result<(), String> {
        let Some(index) = self.item() else { return Err(problem.to_owned()) };
        let (start, end_tag) = (self.open[index].start, format!("</{}", self.open[index].raw_name));
        let outer = self.open[index].outer;
        // The children that were read name the item in the report.
        while self.open.len() > index + 1 {
            let Some(open) = self.open.pop() else { break };
            self.close(open.element, false);
        }
        if let Some(open) = self.open.pop() {
            self.namespaces.truncate(outer);
            self.close(Element { damage: Some(problem.to_owned()), ..open.element }, true);
        }
        if self.elements > MAX_ELEMENTS {
            return Err(problem.to_owned());
        }
        self.reread += self.position().saturating_sub(start);
        let rest = &self.text[start..];
        let is_whole =
            |at: usize| rest[at + end_tag.len()..].starts_with(|c: char| c == '>' || c.is_whitespace());
        let end = rest.match_indices(&end_tag).map(|(at, _)| at).find(|at| is_whole(*at));
        let next = end.and_then(|at| Some(at + rest[at..].find('>')? + 1));
        let Some(next) = next.filter(|_| self.reread <= MAX_REREAD_BYTES) else {
            return Err(problem.to_owned());
        };
        self.offset = start + next;
        self.xml = reader(&self.text[self.offset..]);
        Ok(())
    }

    fn finish(mut self) -> Document {
        while let Some(open) = self.open.pop() {
            self.close(open.element, false);
        }
        self.document
    }
}

impl Element {
    fn set_base(&mut self, value: &str) {
        let value = value.trim();
        let joined = match &self.base {
            Some(base) => base.join(value).ok(),
            None => Url::parse(value).ok(),
        };
        let fits = |url: &Url| {
            value.len() as u64 <= limit::URL.maximum && url.as_str().len() as u64 <= limit::URL.maximum
        };
        if let Some(url) = joined.filter(fits) {
            self.base = Some(Rc::new(url));
        }
    }
}

/// Returns the value of a reference. HTML's own references stay, for where HTML is read.
fn resolve(name: &BytesRef<'_>) -> String {
    if let Ok(Some(char)) = name.resolve_char_ref() {
        return char.into();
    }
    let name = name.xml10_content();
    match escape::resolve_xml_entity(&name) {
        Some(text) => text.to_owned(),
        None => format!("&{name};"),
    }
}
