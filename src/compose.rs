//! Composes responses from encoded parts: an entity in one view, and a message around entities. A protobuf message is
//! the concatenation of its fields, so encoded parts are not decoded for this.

use bytes::Bytes;
use prost::Message as _;
use xxhash_rust::xxh3::Xxh3;

use crate::{
    model::{Kind, LogId, Name, Revision, Slot},
    store::{Record, Stripe, Subject},
    wire::{
        Framed, fields, framed,
        log::{self, LogEntry},
        number::{META, article},
        v1,
    },
};

/// The shape in which an entity is served. Kinds other than articles are served as `Full(Blocks)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Shape {
    Reference,
    Basic,
    Full(v1::BodyFormat),
}

impl Shape {
    pub(crate) const FULL_BLOCKS: Shape = Shape::Full(v1::BodyFormat::Blocks);

    fn number(self) -> u8 {
        match self {
            Shape::Reference => 1,
            Shape::Basic => 2,
            Shape::Full(format) => 10 + format as u8,
        }
    }
}

/// The kinds of entities that a response includes with its articles.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Wants {
    pub(crate) authors: bool,
    pub(crate) sections: bool,
    pub(crate) tags: bool,
}

/// Encodes an entity in one shape.
#[must_use]
pub(crate) fn entity(record: &Record, log_id: LogId, shape: Shape) -> Bytes {
    let mut out = Vec::with_capacity(record.log.content.len() + 128);
    put_entity(&mut out, record, log_id, shape);
    framed::shrink(out)
}

fn put_entity(out: &mut Vec<u8>, record: &Record, log_id: LogId, shape: Shape) {
    let (log, name) = (&record.log, &record.name);
    fields::put_string(out, 1, &name.to_string());
    fields::put_string(out, 2, &log_id.etag(record.revision, record.prefix));
    fields::put_varint(out, 3, record.revision as u64);
    fields::put_time(out, 4, log.create_time);
    fields::put_time(out, 5, log.time);
    if name.kind != Kind::Article {
        out.extend_from_slice(&log.content);
        return;
    }
    fields::put_time(out, 6, log.first_publish_time);
    let state = match record.slot {
        Slot::Live => v1::ArticleState::Live,
        Slot::Pending => v1::ArticleState::Pending,
    };
    fields::put_varint(out, 7, state as u64);
    fields::put_varint(out, 8, u64::try_from(log.word_count).unwrap_or(0));
    put_content(out, log, shape);
    if let Shape::Full(_) = shape {
        put_former_paths(out, log);
    }
}

/// Adds the part of an article's content that a shape has.
fn put_content(out: &mut Vec<u8>, log: &LogEntry, shape: Shape) {
    match shape {
        Shape::Reference => fields::copy_if(&log.content, out, |number| number == article::PUBLISH_TIME),
        Shape::Basic => fields::copy_if(&log.content, out, |number| {
            !matches!(number, article::BODY | article::EDITORIAL_NOTE)
        }),
        Shape::Full(v1::BodyFormat::Blocks | v1::BodyFormat::Unspecified) => {
            out.extend_from_slice(&log.content)
        }
        Shape::Full(format) => {
            let body = fields::last(&log.content, article::BODY).unwrap_or_default();
            let body = v1::Body::decode(body).unwrap_or_default();
            let text = cable_body::render(&body, format);
            fields::put_message(
                out,
                article::RENDERED_BODY,
                &v1::RenderedBody { format: format as i32, text },
            );
            fields::copy_if(&log.content, out, |number| number != article::BODY);
        }
    }
}

fn put_former_paths(out: &mut Vec<u8>, log: &LogEntry) {
    for former in &log.former_paths {
        fields::put_message(out, article::FORMER_PATHS, &former_path(former));
    }
}

/// Returns a former path as it is served.
#[must_use]
pub(crate) fn former_path(former: &log::FormerPath) -> v1::FormerPath {
    let taken_by = match former.taken_by.as_str() {
        "" => String::new(),
        id => format!("{}/{id}", Kind::Article.collection()),
    };
    v1::FormerPath {
        path: former.path.clone(),
        cease_time: Some(fields::timestamp(former.cease_time)),
        taken_by,
    }
}

/// Returns the public tombstone of a removed name.
#[must_use]
pub(crate) fn tombstone(record: &Record) -> v1::Tombstone {
    let log = &record.log;
    v1::Tombstone {
        name: record.name.to_string(),
        reason: log.reason,
        moved_to: log.moved_to.clone(),
        remove_time: Some(fields::timestamp(log.time)),
        revision: record.revision,
        paths: log.former_paths.iter().map(|former| former.path.clone()).collect(),
        ..v1::Tombstone::default()
    }
}

/// Returns the names in an article that a response can include, in their order in the article.
#[must_use]
pub(crate) fn references(content: &[u8]) -> Vec<Name> {
    let mut names = Vec::new();
    for field in fields::fields(content).map_while(Result::ok) {
        match field.number {
            article::BYLINE => {
                let byline = v1::Byline::decode(field.value).unwrap_or_default();
                names.extend(byline.credits.iter().filter_map(|credit| Name::parse(&credit.author)));
            }
            article::SECTION | article::ADDITIONAL_SECTIONS | article::TAGS => {
                names.extend(std::str::from_utf8(field.value).ok().and_then(Name::parse));
            }
            _ => {}
        }
    }
    names
}

/// A response that calls share: everything except the revision at which each call is served.
#[derive(Debug, Clone)]
pub(crate) struct ResponseTemplate {
    /// The message with its prefix, up to the value of its last field.
    pub(crate) bytes: Bytes,
    pub(crate) etag: String,
    /// The time at which the response changes by itself, if it does, in microseconds since 1970 UTC.
    pub(crate) next_change: Option<i64>,
    log_id: LogId,
    /// The number of the field `not_modified`; 0 if the response has none.
    not_modified: u32,
}

/// A message around entities that is being built. Its contents are hashed into its etag as they are added.
pub(crate) struct Composer {
    out: Vec<u8>,
    etag: Xxh3,
    log_id: LogId,
    stripes: Vec<Stripe>,
    next_change: Option<i64>,
}

impl Composer {
    /// Starts a message. `method` distinguishes it from other responses with the same entities.
    pub(crate) fn new(log_id: LogId, method: &str, shape: Shape, wants: Wants) -> Composer {
        let mut etag = Xxh3::new();
        etag.update(method.as_bytes());
        etag.update(&[0, shape.number()]);
        etag.update(&[wants.authors, wants.sections, wants.tags].map(u8::from));
        Composer { out: vec![0; framed::PREFIX], etag, log_id, stripes: Vec::new(), next_change: None }
    }

    /// Records a subject that the response depends on. When the subject changes, the response is stale.
    pub(crate) fn depends_on(&mut self, subject: Subject<'_>) {
        self.stripes.push(Stripe::of(subject));
    }

    /// Records a time at which the response changes by itself. The earliest one counts.
    pub(crate) fn changes_at(&mut self, time: Option<i64>) {
        self.next_change = self.next_change.into_iter().chain(time).min();
    }

    /// Returns the earliest of these times.
    pub(crate) fn next_change(&self) -> Option<i64> {
        self.next_change
    }

    /// Returns the stripes that the response depends on, each once.
    pub(crate) fn take_stripes(&mut self) -> Box<[Stripe]> {
        let mut stripes = std::mem::take(&mut self.stripes);
        stripes.sort_unstable();
        stripes.dedup();
        stripes.into()
    }

    /// Adds an entity as a field.
    pub(crate) fn entity(&mut self, field: u32, name: &Name, revision: Revision, bytes: &[u8]) {
        self.out.reserve(bytes.len() + 64);
        fields::put_bytes(&mut self.out, field, bytes);
        self.hash_entity(name, revision);
    }

    /// Adds a field and hashes its bytes into the etag.
    pub(crate) fn field(&mut self, field: u32, bytes: &[u8]) {
        fields::put_bytes(&mut self.out, field, bytes);
        self.etag.update(&field.to_le_bytes());
        self.etag.update(&(bytes.len() as u64).to_le_bytes());
        self.etag.update(bytes);
    }

    /// Adds a field around entities that [`Composer::hash_entity`] hashes into the etag.
    pub(crate) fn nested(&mut self, field: u32, bytes: &[u8]) {
        fields::put_bytes(&mut self.out, field, bytes);
    }

    pub(crate) fn hash_entity(&mut self, name: &Name, revision: Revision) {
        self.etag.update(&[name.kind as u8]);
        self.etag.update(name.id.as_str().as_bytes());
        self.etag.update(&[0]);
        self.etag.update(&revision.to_le_bytes());
    }

    /// Adds the end of the message, up to the value of the last field. `not_modified` is the number of the field with
    /// that name.
    pub(crate) fn finish(mut self, not_modified: u32) -> ResponseTemplate {
        self.etag.update(&self.out[framed::PREFIX..]);
        self.etag.update(&self.log_id.0.to_le_bytes());
        let etag = format!("{:032x}", self.etag.digest128());
        put_meta(&mut self.out, self.log_id, &etag, self.next_change);
        ResponseTemplate {
            bytes: framed::shrink(self.out),
            etag,
            next_change: self.next_change,
            log_id: self.log_id,
            not_modified,
        }
    }

    /// Returns the message without `meta`, for a stream.
    pub(crate) fn finish_without_meta(self) -> Framed {
        Framed::message(self.out)
    }
}

/// Adds the end of a response, and sets the prefix. `served_revision` is field 3 of `meta`, a fixed 8 bytes that the
/// caller appends.
fn put_meta(out: &mut Vec<u8>, log_id: LogId, etag: &str, next_change: Option<i64>) {
    const SERVED_REVISION: u8 = 3 << 3 | 1;
    let mut meta = Vec::with_capacity(64);
    fields::put_string(&mut meta, 1, &log_id.to_string());
    fields::put_string(&mut meta, 2, etag);
    if let Some(time) = next_change {
        fields::put_message(&mut meta, 4, &fields::timestamp(time));
    }
    meta.push(SERVED_REVISION);
    prost::encoding::encode_key(META, prost::encoding::WireType::LengthDelimited, out);
    prost::encoding::encode_varint(meta.len() as u64 + 8, out);
    out.extend_from_slice(&meta);
    let length = out.len() + 8 - framed::PREFIX;
    framed::put_prefix(out, length);
}

impl ResponseTemplate {
    /// Returns the response to one call.
    pub(crate) fn respond(&self, served: Revision, if_none_match: &str) -> Framed {
        if if_none_match != self.etag || self.not_modified == 0 {
            return Framed::with_suffix(self.bytes.clone(), served);
        }
        let mut out = Vec::with_capacity(112);
        out.resize(framed::PREFIX, 0);
        fields::put_varint(&mut out, self.not_modified, 1);
        put_meta(&mut out, self.log_id, &self.etag, self.next_change);
        Framed::with_suffix(out.into(), served)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::HashPrefix;

    #[test]
    fn a_view_without_the_body_needs_no_memory_for_it() {
        let mut content = Vec::new();
        fields::put_string(&mut content, 11, "Storm over Norwick");
        fields::put_bytes(&mut content, article::BODY, &[0; 100_000]);
        let log = LogEntry { content: content.into(), ..LogEntry::default() };
        let name = Name::parse("articles/a").unwrap();
        let record = Record { name, slot: Slot::Live, revision: 7, prefix: HashPrefix(1), log };
        let capacity = |shape| entity(&record, LogId(1), shape).try_into_mut().unwrap().capacity();
        assert!(capacity(Shape::Basic) < 200, "{}", capacity(Shape::Basic));
        assert!(capacity(Shape::FULL_BLOCKS) >= 100_000);
    }
}
