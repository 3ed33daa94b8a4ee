//! A reader of an export's XML that returns one element of the channel at a time.
//!
//! It knows which elements exist, but not their meaning.

use std::io::BufRead;

use quick_xml::{
    XmlVersion,
    events::{BytesRef, BytesStart, Event},
};

use super::{
    Error, references,
    utf8::{MARK, Utf8},
};

/// An element of the channel: an item, an author, a category, a tag, a term, the language.
#[derive(Debug, Default)]
pub(super) struct Element {
    /// The element's name: `item`, `wp:author`, ...
    pub(super) name: String,
    /// The element's own text.
    pub(super) text: String,
    /// The child elements, in order.
    pub(super) fields: Vec<Field>,
    /// The wp:postmeta fields, in order.
    pub(super) meta: Vec<(String, String)>,
    /// Whether the element holds bytes that are not UTF-8.
    pub(super) damaged: bool,
    /// The number of characters removed because no text may contain them.
    pub(super) removed_chars: usize,
}

/// A child of an element.
#[derive(Debug, Default)]
pub(super) struct Field {
    name: String,
    /// The taxonomy of a `category`.
    pub(super) domain: Option<String>,
    /// The slug of a `category`.
    pub(super) nicename: Option<String>,
    /// The field's text.
    pub(super) text: String,
}

impl Element {
    /// Returns the trimmed text of the first child with that name; empty if there is none.
    pub(super) fn get(&self, name: &str) -> &str {
        self.raw(name).trim()
    }

    /// Returns the text of the first child with that name, with its white space.
    pub(super) fn raw(&self, name: &str) -> &str {
        self.fields.iter().find(|field| field.name == name).map_or("", |field| &field.text)
    }

    /// Returns the children with that name.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Field> {
        self.fields.iter().filter(move |field| field.name == name)
    }

    /// Returns the last non-empty value of a custom field.
    pub(super) fn meta(&self, key: &str) -> Option<&str> {
        let values = self.meta.iter().rev().filter(|(k, _)| k == key);
        values.map(|(_, value)| value.trim()).find(|value| !value.is_empty())
    }
}

/// A reader of a channel's elements.
pub(super) struct Reader<R> {
    xml: quick_xml::Reader<Utf8<R>>,
    buffer: Vec<u8>,
    has_root: bool,
    ended: bool,
}

enum Step {
    Open(Field),
    Close,
    Text(String),
    Nothing,
    End,
}

impl<R: BufRead> Reader<R> {
    pub(super) fn new(input: R) -> Self {
        let mut xml = quick_xml::Reader::from_reader(Utf8::new(input));
        xml.config_mut().expand_empty_elements = true;
        xml.config_mut().allow_dangling_amp = true;
        Reader { xml, buffer: Vec::new(), has_root: false, ended: false }
    }

    /// Returns the number of bytes read so far.
    pub(super) fn offset(&self) -> u64 {
        self.xml.buffer_position()
    }

    fn read(&mut self) -> Result<Option<Element>, Error> {
        loop {
            match self.next_step()? {
                Step::Open(field) => {
                    self.check_root(&field.name)?;
                    if is_element(&field.name) {
                        return self.element(field.name).map(Some);
                    }
                }
                Step::End if !self.has_root => return Err(Error::NotWxr("no elements".into())),
                Step::End => return Ok(None),
                _ => {}
            }
        }
    }

    fn check_root(&mut self, name: &str) -> Result<(), Error> {
        if !self.has_root && name != "rss" {
            return Err(Error::NotWxr(format!("first element is <{name}>, not <rss>")));
        }
        self.has_root = true;
        Ok(())
    }

    fn element(&mut self, name: String) -> Result<Element, Error> {
        let mut element = Element { name, ..Element::default() };
        let mut path: Vec<String> = Vec::new();
        loop {
            match self.next_step()? {
                Step::Open(field) => {
                    path.push(field.name.clone());
                    element.damaged |=
                        [&field.domain, &field.nicename].into_iter().flatten().any(|v| v.contains(MARK));
                    element.open_child(&path, field);
                }
                Step::Text(text) => element.add_text(&path, &text),
                Step::Close if path.pop().is_none() => return Ok(element.cleaned()),
                Step::End => return Err(Error::Truncated { within: element.name, position: self.offset() }),
                Step::Close | Step::Nothing => {}
            }
        }
    }

    fn next_step(&mut self) -> Result<Step, Error> {
        self.buffer.clear();
        let step = match self.xml.read_event_into(&mut self.buffer) {
            Ok(Event::Start(start)) => Step::Open(field(&start)),
            Ok(Event::End(_)) => Step::Close,
            Ok(Event::Text(text)) => Step::Text(text.xml10_content().into_owned()),
            Ok(Event::CData(text)) => Step::Text(text.xml10_content().into_owned()),
            Ok(Event::GeneralRef(name)) => Step::Text(resolve(&name)),
            Ok(Event::Eof) => Step::End,
            Ok(_) => Step::Nothing,
            Err(error) => return Err(Error::Xml { error, position: self.offset() }),
        };
        Ok(step)
    }
}

impl<R: BufRead> Iterator for Reader<R> {
    type Item = Result<Element, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let read = self.read();
        self.ended = !matches!(read, Ok(Some(_)));
        read.transpose()
    }
}

impl Element {
    fn open_child(&mut self, path: &[String], field: Field) {
        match path {
            [_] => self.fields.push(field),
            [parent, child] if parent == "wp:postmeta" && child == "wp:meta_key" => {
                self.meta.push(Default::default());
            }
            _ => {}
        }
    }

    /// Returns the element without the characters that no text may hold, literal or as an HTML reference.
    fn cleaned(mut self) -> Self {
        if self.damaged {
            return self;
        }
        let fields = self.fields.iter_mut().flat_map(|field| {
            [Some(&mut field.text), field.domain.as_mut(), field.nicename.as_mut()].into_iter().flatten()
        });
        let meta = self.meta.iter_mut().map(|(_, value)| value);
        let texts = fields.chain(meta).chain([&mut self.text]);
        self.removed_chars = texts.map(references::clean).sum();
        self
    }

    /// Returns a note on the characters that were removed.
    pub(super) fn note(&self) -> Option<String> {
        (self.removed_chars > 0)
            .then(|| format!("{} control and format characters removed", self.removed_chars))
    }

    fn add_text(&mut self, path: &[String], text: &str) {
        self.damaged |= text.contains(MARK);
        match path {
            [] => self.text.push_str(text),
            // Markup that is not escaped is read for its text.
            [parent, ..]
                if path.len() == 1
                    || !matches!(parent.as_str(), "wp:comment" | "wp:postmeta" | "wp:termmeta") =>
            {
                if let Some(field) = self.fields.last_mut() {
                    field.text.push_str(text);
                }
            }
            [parent, child] if parent == "wp:postmeta" => {
                let Some((key, value)) = self.meta.last_mut() else { return };
                match child.as_str() {
                    "wp:meta_key" => key.push_str(text),
                    "wp:meta_value" => value.push_str(text),
                    _ => {}
                }
            }
            _ => {}
        }
    }
}

fn is_element(name: &str) -> bool {
    matches!(name, "item" | "wp:author" | "wp:category" | "wp:tag" | "wp:term" | "language")
}

fn field(start: &BytesStart<'_>) -> Field {
    let mut field = Field { name: start.name().as_ref().to_owned(), ..Field::default() };
    // Plug-ins write attributes that are not well-formed; those name no taxonomy.
    for attribute in start.attributes().flatten() {
        let value = || attribute.normalized_value(XmlVersion::Implicit1_0).ok().map(|v| v.into_owned());
        match attribute.key.as_ref() {
            "domain" => field.domain = value(),
            "nicename" => field.nicename = value(),
            _ => {}
        }
    }
    field
}

/// Returns the value of a reference. HTML's own references are left for the HTML parser.
fn resolve(name: &BytesRef<'_>) -> String {
    if let Ok(Some(char)) = name.resolve_char_ref() {
        return char.into();
    }
    let name = name.xml10_content();
    match quick_xml::escape::resolve_xml_entity(&name) {
        Some(text) => text.to_owned(),
        None => format!("&{name};"),
    }
}
