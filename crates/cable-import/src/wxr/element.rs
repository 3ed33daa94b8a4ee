//! An element of an export's channel, with the text of everything in it.

use quick_xml::{XmlVersion, events::BytesStart};
use xxhash_rust::xxh3::Xxh3Default;

use super::{encoding::MARK, liveblog, references};

/// The problem of an element with bytes that are invalid in the encoding of the file.
pub(super) const BAD_BYTES: &str = "contains bytes that are not valid in the encoding of the file";

/// An element of the channel: an item, an author, a category, a tag, a term, the language.
#[derive(Debug, Default)]
pub(super) struct Element {
    /// The element's name: `item`, `wp:author`, ...
    pub(super) name: String,
    /// The element's own text.
    pub(super) text: String,
    /// The child elements, in order.
    pub(super) fields: Vec<Field>,
    /// The wp:postmeta and wp:termmeta fields, in order.
    pub(super) meta: Vec<(String, String)>,
    /// The comments that are entries of a live blog, in order.
    pub(super) comments: Vec<Comment>,
    /// The reason why the element cannot be used, if there is one.
    pub(super) damage: Option<String>,
    /// The number of characters removed because no text may contain them.
    pub(super) removed_chars: usize,
    /// The number of elements within fields: markup that is not escaped, of which the text is read.
    pub(super) unescaped: usize,
}

/// A comment that is an entry of a live blog.
#[derive(Debug, Default)]
pub(super) struct Comment {
    fields: Vec<(String, String)>,
    meta: Vec<(String, String)>,
}

impl Comment {
    /// Returns the trimmed text of the field with that name; empty if there is none.
    pub(super) fn get(&self, name: &str) -> &str {
        find(&self.fields, name)
    }

    /// Returns the trimmed value of a custom field; empty if there is none.
    pub(super) fn meta(&self, key: &str) -> &str {
        find(&self.meta, key)
    }
}

fn find<'a>(pairs: &'a [(String, String)], name: &str) -> &'a str {
    pairs.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.trim())
}

/// A child of an element.
#[derive(Debug, Default)]
pub(super) struct Field {
    pub(super) name: String,
    /// The taxonomy of a `category`.
    pub(super) domain: Option<String>,
    /// The slug of a `category`.
    pub(super) nicename: Option<String>,
    /// The field's text.
    pub(super) text: String,
}

impl Field {
    pub(super) fn new(name: String, start: &BytesStart<'_>) -> Self {
        let mut field = Field { name, ..Field::default() };
        // Plug-ins write attributes that are not well-formed; those name no taxonomy. A search for duplicates would cost
        // quadratic time.
        for attribute in start.attributes().with_checks(false).flatten() {
            let value = || attribute.normalized_value(XmlVersion::Implicit1_0).ok().map(|v| v.into_owned());
            match attribute.key.as_ref() {
                "domain" => field.domain = value(),
                "nicename" => field.nicename = value(),
                _ => {}
            }
        }
        field
    }
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
        let values = self.meta.iter().rev().filter(|(name, _)| name == key);
        values.map(|(_, value)| value.trim()).find(|value| !value.is_empty())
    }

    /// Returns the values of a custom field that are not empty.
    pub(super) fn all_meta<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        let values = self.meta.iter().filter(move |(name, _)| name == key);
        values.map(|(_, value)| value.trim()).filter(|value| !value.is_empty())
    }

    /// Returns a note on the characters that were removed.
    pub(super) fn note(&self) -> Option<String> {
        (self.removed_chars > 0)
            .then(|| format!("{} control and format characters removed", self.removed_chars))
    }

    /// Returns a hash of the whole content, equal for equal elements.
    pub(super) fn hash(&self) -> u128 {
        let mut hash = Xxh3Default::new();
        let mut add = |text: &str| {
            hash.update(&text.len().to_le_bytes());
            hash.update(text.as_bytes());
        };
        add(&self.text);
        for field in &self.fields {
            add(&field.name);
            add(field.domain.as_deref().unwrap_or_default());
            add(field.nicename.as_deref().unwrap_or_default());
            add(&field.text);
        }
        let of_comments = self.comments.iter().flat_map(|comment| comment.fields.iter().chain(&comment.meta));
        for (key, value) in self.meta.iter().chain(of_comments) {
            add(key);
            add(value);
        }
        hash.digest128()
    }

    /// Opens a child. The path has the names of the open elements below this one.
    pub(super) fn open_child(&mut self, path: &[String], field: Field) {
        let attributes = [&field.domain, &field.nicename];
        if attributes.into_iter().flatten().any(|value| value.contains(MARK)) {
            self.damage = Some(BAD_BYTES.to_owned());
        }
        match path {
            [name] => {
                if name == COMMENT {
                    self.end_comment();
                    self.comments.push(Comment::default());
                }
                self.fields.push(field);
            }
            [parent, child] if parent == COMMENT => self.add_to_comment(|comment| {
                comment.fields.push((child.clone(), String::new()));
            }),
            [parent, _, child] if parent == COMMENT && child == "wp:meta_key" => {
                self.add_to_comment(|comment| comment.meta.push(Default::default()));
            }
            [parent, child] if is_meta(parent) && child == "wp:meta_key" => {
                self.meta.push(Default::default());
            }
            [parent, ..] if !is_meta(parent) && parent != COMMENT => self.unescaped += 1,
            _ => {}
        }
    }

    fn add_to_comment(&mut self, add: impl FnOnce(&mut Comment)) {
        if let Some(comment) = self.comments.last_mut() {
            add(comment);
        }
    }

    /// Drops the last comment unless it is an entry of a live blog. Its type comes after its text.
    fn end_comment(&mut self) {
        self.comments.pop_if(|comment| comment.get("wp:comment_type") != liveblog::TYPE);
    }

    /// Returns a note on markup that is not escaped.
    pub(super) fn note_on_markup(&self) -> Option<String> {
        let count = self.unescaped;
        (count > 0)
            .then(|| format!("{count} elements of markup that is not escaped: only their text was read"))
    }

    /// Adds text within the elements of the path.
    pub(super) fn add_text(&mut self, path: &[String], text: &str) {
        if text.contains(MARK) {
            self.damage = Some(BAD_BYTES.to_owned());
        }
        match path {
            [] => self.text.push_str(text),
            [parent, child] if is_meta(parent) => {
                let Some((key, value)) = self.meta.last_mut() else { return };
                match child.as_str() {
                    "wp:meta_key" => key.push_str(text),
                    "wp:meta_value" => value.push_str(text),
                    _ => {}
                }
            }
            [parent, _] if parent == COMMENT => self.add_to_comment(|comment| {
                if let Some((_, value)) = comment.fields.last_mut() {
                    value.push_str(text);
                }
            }),
            [parent, _, child] if parent == COMMENT => self.add_to_comment(|comment| {
                let Some((key, value)) = comment.meta.last_mut() else { return };
                match child.as_str() {
                    "wp:meta_key" => key.push_str(text),
                    "wp:meta_value" => value.push_str(text),
                    _ => {}
                }
            }),
            // Markup that is not escaped is read for its text.
            [parent, below @ ..] if below.is_empty() || !(is_meta(parent) || parent == COMMENT) => {
                if let Some(field) = self.fields.last_mut() {
                    field.text.push_str(text);
                }
            }
            _ => {}
        }
    }

    /// Returns the element without the characters that no text may hold, literal or as an HTML reference.
    pub(super) fn cleaned(mut self) -> Self {
        if self.damage.is_some() {
            return self;
        }
        self.end_comment();
        let fields = self.fields.iter_mut().flat_map(|field| {
            [Some(&mut field.text), field.domain.as_mut(), field.nicename.as_mut()].into_iter().flatten()
        });
        let of_comments =
            self.comments.iter_mut().flat_map(|comment| comment.fields.iter_mut().chain(&mut comment.meta));
        let meta = self.meta.iter_mut().chain(of_comments).flat_map(|(key, value)| [key, value]);
        let texts = fields.chain(meta).chain([&mut self.text]);
        self.removed_chars = texts.map(references::clean).sum();
        self
    }

    /// Returns a damaged element, with the fields that name it as far as they can be found in its source.
    pub(super) fn damaged(name: String, source: &str, damage: String) -> Self {
        let fields = NAMING_FIELDS.iter().filter_map(|field| {
            let text = text_between(source, field.split(':').next_back()?)?;
            Some(Field { name: (*field).to_owned(), text, ..Field::default() })
        });
        Element { fields: fields.collect(), name, damage: Some(damage), ..Element::default() }
    }
}

/// The fields that name an element in the report.
const NAMING_FIELDS: [&str; 10] = [
    "title",
    "wp:post_id",
    "wp:post_type",
    "wp:author_id",
    "wp:author_display_name",
    "wp:term_id",
    "wp:term_name",
    "wp:term_taxonomy",
    "wp:cat_name",
    "wp:tag_name",
];

/// Returns the text of the first element with the local name, found without a parser.
fn text_between(source: &str, local: &str) -> Option<String> {
    let (_, rest) = source.split_once(&format!("{local}>"))?;
    let text = rest.trim_start().strip_prefix("<![CDATA[").unwrap_or(rest);
    let mut text = text[..text.find(['<', ']'])?].trim().replace(MARK, "");
    references::clean(&mut text);
    Some(text)
}

/// The name of comments.
const COMMENT: &str = "wp:comment";

fn is_meta(name: &str) -> bool {
    matches!(name, "wp:postmeta" | "wp:termmeta")
}
