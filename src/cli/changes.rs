//! The difference between a document and the version of its name that readers see.

use std::time::Duration;

use cable_client::{
    Cable,
    v1::{self, BodyFormat},
};
use cable_import::front_matter;
use prost::Message as _;
use prost_reflect::{DynamicMessage, ReflectMessage as _, Value};
use similar::TextDiff;

use super::{Error, document::Document, noun::Kind, nouns::ARTICLE, output::Entity};

/// The time after which a diff may be longer than necessary. Without it, long texts that share nothing take minutes.
const DIFF_TIMEOUT: Duration = Duration::from_millis(500);

/// The version that readers see, if there is one, and a document that would replace it.
pub(crate) struct Comparison {
    name: String,
    etag: String,
    current: Option<Version>,
    new: Version,
}

/// A version without the fields of the server, and the text of its body if the document has one.
struct Version {
    content: DynamicMessage,
    body: Option<String>,
}

impl Comparison {
    /// Gets the version that readers see.
    pub(crate) async fn new<K: Kind>(document: &Document<K>, cable: &Cable) -> Result<Self, Error> {
        let format = document.body.as_ref().map_or(BodyFormat::Blocks, v1::BodySource::format);
        let current = match K::get(document.name.clone(), format, cable).await {
            Ok(entity) => Some(Entity::new(K::NOUN, &entity).into_message()),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error.into()),
        };
        Ok(Comparison::of(current, document))
    }

    /// Compares a document with an article whose body is rendered in the format of the document.
    pub(crate) fn of_articles(current: &v1::Article, document: &Document<v1::Article>) -> Self {
        Comparison::of(Some(Entity::new(&ARTICLE, current).into_message()), document)
    }

    fn of<K: Kind>(current: Option<DynamicMessage>, document: &Document<K>) -> Self {
        let source = document.body.as_ref();
        let rendered = source.and(current.as_ref()).map(rendered_body);
        let body = source.map(|source| match &rendered {
            // The text that the server rendered is the body that it has.
            Some(rendered) if rendered.trim() == source.text.trim() => rendered.clone(),
            _ => normalised(source),
        });
        Comparison {
            name: document.name.clone(),
            etag: current.as_ref().map(|current| text(current, "etag").into_owned()).unwrap_or_default(),
            current: current.map(|current| Version { content: content(current), body: rendered }),
            new: Version { content: content(Entity::new(K::NOUN, &document.entity).into_message()), body },
        }
    }

    /// Returns the etag of the version that readers see; empty if there is none.
    pub(crate) fn etag(&self) -> &str {
        &self.etag
    }

    /// Returns whether a put of the document would change anything.
    pub(crate) fn has_changes(&self) -> bool {
        self.changed_fields().is_none_or(|fields| !fields.is_empty())
    }

    /// Returns the fields that differ, or `None` if readers see no version.
    pub(crate) fn changed_fields(&self) -> Option<Vec<String>> {
        let Version { content: current, body } = self.current.as_ref()?;
        let descriptor = current.descriptor();
        let fields = descriptor.fields().filter(|field| {
            current.has_field(field) != self.new.content.has_field(field)
                || current.get_field(field) != self.new.content.get_field(field)
        });
        let mut changed: Vec<String> = fields.map(|field| field.name().to_owned()).collect();
        if body.as_deref().map(str::trim) != self.new.body.as_deref().map(str::trim) {
            changed.push("body".to_owned());
        }
        Some(changed)
    }

    /// Describes the changes in a sentence that follows the name.
    pub(crate) fn describe(&self) -> String {
        match self.changed_fields() {
            None => "would be created".to_owned(),
            Some(fields) if fields.is_empty() => "would not change".to_owned(),
            Some(fields) => format!("would change: {}", fields.join(", ")),
        }
    }

    /// Returns the changes as a unified diff; empty if there are none.
    pub(crate) fn diff(&self) -> String {
        let (current, old_name) = match &self.current {
            Some(current) => (current.to_text(), format!("{} {}", self.name, self.etag)),
            None => (String::new(), "/dev/null".to_owned()),
        };
        let new = self.new.to_text();
        let diff = TextDiff::configure().timeout(DIFF_TIMEOUT).diff_lines(&current, &new);
        diff.unified_diff().header(&old_name, &self.name).to_string()
    }
}

impl Version {
    /// Returns the version in the form of the document: JSON, or text with front matter.
    fn to_text(&self) -> String {
        match &self.body {
            None => Entity::from(self.content.clone()).pretty() + "\n",
            Some(body) => {
                let article = v1::Article::decode(self.content.encode_to_vec().as_slice());
                front_matter::write(&article.unwrap_or_default(), &format!("{}\n", body.trim()))
            }
        }
    }
}

/// Returns the text of a body as the server will render it. A text that it will refuse is returned unchanged.
fn normalised(source: &v1::BodySource) -> String {
    match cable_body::convert(source.format(), &source.text) {
        Ok(converted) => cable_body::render(&converted.body, source.format()),
        Err(_) => source.text.clone(),
    }
}

/// Returns an entity without the fields that the server sets, which a put ignores.
fn content(mut entity: DynamicMessage) -> DynamicMessage {
    for field in entity.descriptor().fields() {
        if (2..10).contains(&field.number()) || field.name() == "former_paths" {
            entity.clear_field(&field);
        }
    }
    entity
}

fn text<'a>(message: &'a DynamicMessage, field: &str) -> std::borrow::Cow<'a, str> {
    match message.get_field_by_name(field) {
        Some(std::borrow::Cow::Borrowed(Value::String(text))) => text.as_str().into(),
        Some(std::borrow::Cow::Owned(Value::String(text))) => text.into(),
        _ => "".into(),
    }
}

fn rendered_body(article: &DynamicMessage) -> String {
    let body = article.get_field_by_name("rendered_body");
    body.and_then(|body| body.as_message().map(|body| text(body, "text").into_owned())).unwrap_or_default()
}
