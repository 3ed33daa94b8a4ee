//! A response as JSON, or a feed or sitemap, with what the headers of HTTP state about it. It is encoded once, on a
//! reader thread, and cached beside the other forms.

use std::collections::BTreeSet;

use bytes::Bytes;
use http::HeaderValue;

use super::Read;
use crate::{
    compose::ResponseTemplate,
    model::{Kind, Name, limit},
    refusal::Refusal,
    wire::{
        fields, framed, json,
        number::{self, META},
    },
};

/// The maximum size of the surrogate keys of a response in bytes. Clients and proxies limit all headers of a response
/// together, many to 16 KiB.
const MAX_KEY_BYTES: usize = 8_000;

/// The key of all pages of articles, which replaces those of the lists of a filter that are too many.
const ALL_ARTICLES: &str = "list:articles";

/// A response over HTTP.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) body: Bytes,
    pub(crate) content_type: &'static str,
    /// The etag of this form, in quotes.
    pub(crate) etag: HeaderValue,
    /// The keys of all that the response rests on, separated by spaces.
    pub(crate) surrogate_keys: HeaderValue,
    /// The time at which the response changes by itself, if it does, in microseconds since 1970 UTC.
    pub(crate) next_change: Option<i64>,
}

impl Document {
    /// Encodes a response. `keys` are those of the request.
    ///
    /// # Errors
    /// The JSON is larger than the limit.
    pub(super) fn encode(
        read: Read,
        template: &ResponseTemplate,
        keys: &[String],
    ) -> Result<Document, Refusal> {
        // The message ends with `served_revision`, which differs between callers. JSON omits a 0.
        let encoded = [&template.bytes[framed::PREFIX..], &[0; 8]].concat();
        let maximum = limit::JSON_RESPONSE.maximum as usize;
        let body =
            json::message(&format!("{}Response", read.method()), &encoded, maximum).ok_or_else(|| {
                Refusal::Limit {
                    // The parameter that makes the response smaller.
                    field: if read.method().starts_with("List") { "page_size" } else { "view" }.to_owned(),
                    limit: &limit::JSON_RESPONSE,
                    value: limit::JSON_RESPONSE.maximum + 1,
                }
            })?;
        Document::new(
            (body, "application/json"),
            format!("\"{}.json\"", template.etag),
            surrogate_keys(names_in(read, &encoded), keys),
            template.next_change,
        )
    }

    /// Returns a document of bytes and their media type.
    pub(super) fn new(
        (body, content_type): (Vec<u8>, &'static str),
        etag: String,
        surrogate_keys: String,
        next_change: Option<i64>,
    ) -> Result<Document, Refusal> {
        let value = |text: String| {
            HeaderValue::try_from(text).map_err(|_| Refusal::Internal("a header of a response is not valid"))
        };
        let (etag, surrogate_keys) = (value(etag)?, value(surrogate_keys)?);
        Ok(Document { body: framed::shrink(body), content_type, etag, surrogate_keys, next_change })
    }

    /// Returns the bytes that the document owns.
    pub(super) fn weight(&self) -> usize {
        size_of::<Document>() + self.body.len() + self.etag.len() + self.surrogate_keys.len()
    }
}

impl Read {
    /// Returns the numbers of the response's fields of entities, and that of its includes.
    fn entity_fields(self) -> (&'static [u32], Option<u32>) {
        match self {
            Read::GetArticle | Read::ListArticles | Read::StreamArticles | Read::ResolvePath => {
                (&[1], Some(2))
            }
            Read::GetCollection => (&[1, 2], Some(3)),
            Read::BatchGetArticles => (&[], Some(2)),
            _ => (&[1], None),
        }
    }
}

/// Returns the names of the entities in a response, and of those that it states to be missing.
fn names_in(read: Read, encoded: &[u8]) -> BTreeSet<Name> {
    let mut names: BTreeSet<Name> = BTreeSet::new();
    let (entities, includes) = read.entity_fields();
    for field in fields::fields(encoded).map_while(Result::ok).filter(|field| field.number != META) {
        if entities.contains(&field.number) {
            names.extend(name_of(field.value));
        } else if Some(field.number) == includes {
            for included in fields::fields(field.value).map_while(Result::ok) {
                match included.number {
                    1..=3 => names.extend(name_of(included.value)),
                    // Names that are missing or damaged.
                    _ => names.extend(std::str::from_utf8(included.value).ok().and_then(Name::parse)),
                }
            }
        }
    }
    names
}

/// Returns the surrogate keys of a response, each once. If they are too many, the keys of single entities are replaced
/// by that of their kind, articles first. A filter whose own keys are too many is a list of all articles.
pub(super) fn surrogate_keys(names: BTreeSet<Name>, of_request: &[String]) -> String {
    let all = [ALL_ARTICLES.to_owned()];
    let is_long = of_request.iter().map(|key| key.len() + 1).sum::<usize>() > MAX_KEY_BYTES / 2;
    let of_request = if is_long { &all } else { of_request };
    let mut coarse: BTreeSet<Kind> = BTreeSet::new();
    loop {
        let mut keys: BTreeSet<String> = of_request.iter().cloned().collect();
        keys.extend(coarse.iter().map(|kind| kind.collection().to_owned()));
        keys.extend(names.iter().filter(|name| !coarse.contains(&name.kind)).map(key_of));
        let bytes: usize = keys.iter().map(|key| key.len() + 1).sum();
        let next = Kind::ALL.into_iter().find(|kind| !coarse.contains(kind));
        match next.filter(|_| bytes > MAX_KEY_BYTES) {
            Some(kind) => coarse.extend([kind]),
            None => return keys.into_iter().collect::<Vec<_>>().join(" "),
        }
    }
}

/// Returns the surrogate key of an entity.
pub(crate) fn key_of(name: &Name) -> String {
    format!("{}:{}", name.kind.noun(), name.id)
}

fn name_of(entity: &[u8]) -> Option<Name> {
    Name::parse(std::str::from_utf8(fields::last(entity, number::NAME)?).ok()?)
}
