//! The rules that an entity must meet to be put: every rule in the comments of the schema, checked before anything is
//! written.

use std::collections::HashSet;

use cable_body::sanitise;
use prost::Message;
use prost_types::Timestamp;

use crate::{
    digest::content_of,
    entry::Release,
    model::{
        Id, Kind, Name, limit,
        limit::Limit,
        text::{self, Lines},
    },
    parse::{self, characters, line, name, path, time},
    refusal::{Refusal, at_most, decode_error},
    wire::{elements, fields, log::FormerPath, number, v1},
};

mod body;
#[cfg(test)]
mod imported;

/// An entity that may be put.
#[derive(Debug, Clone)]
pub(crate) struct Checked {
    pub(crate) name: Name,
    /// The entity without the server's fields, otherwise as received.
    pub(crate) content: Vec<u8>,
    pub(crate) word_count: i32,
    /// Articles: `publish_time`, in microseconds since 1970 UTC.
    pub(crate) publish_time: Option<i64>,
    pub(crate) release: Release,
    /// Articles: `expire_time`, in microseconds since 1970 UTC.
    pub(crate) expire_time: Option<i64>,
    /// The values of the server's fields in another store. Only imports have and retain them.
    pub(crate) original: Original,
}

/// The values of the server's fields in the store that a record comes from. Times are in microseconds since 1970 UTC.
#[derive(Debug, Clone, Default)]
pub(crate) struct Original {
    pub(crate) created: Option<i64>,
    pub(crate) first_published: Option<i64>,
    pub(crate) former_paths: Vec<FormerPath>,
}

/// The write that an entity is checked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// A put at a time, in microseconds since 1970 UTC. The server's fields are ignored.
    Put { now: i64 },
    /// An import, in which an article may have expired.
    Import,
}

type Check = Result<(), Refusal>;

/// Checks an entity as received.
///
/// # Errors
/// Returns the first rule that the entity violates, with the field's path.
pub(crate) fn entity(kind: Kind, bytes: &[u8], mode: Mode) -> Result<Checked, Refusal> {
    let maximum = match kind {
        Kind::Article => &limit::ARTICLE,
        Kind::Author => &limit::AUTHOR,
        Kind::Section => &limit::SECTION,
        Kind::Tag => &limit::TAG,
        Kind::Collection => &limit::COLLECTION,
    };
    let content = content_of(kind, bytes);
    at_most(maximum, content.len(), "")?;
    match kind {
        Kind::Article => {
            check_elements(bytes)?;
            article(&decode(bytes)?, content, mode)
        }
        Kind::Author => {
            let author: v1::Author = decode(bytes)?;
            check_author(&author)?;
            check_named(kind, &author.name, content, author.create_time.as_ref(), mode)
        }
        Kind::Section => {
            let section: v1::Section = decode(bytes)?;
            check_section(&section)?;
            check_named(kind, &section.name, content, section.create_time.as_ref(), mode)
        }
        Kind::Tag => {
            let tag: v1::Tag = decode(bytes)?;
            check_tag(&tag)?;
            check_named(kind, &tag.name, content, tag.create_time.as_ref(), mode)
        }
        Kind::Collection => {
            let collection: v1::Collection = decode(bytes)?;
            check_collection(&collection)?;
            check_named(kind, &collection.name, content, collection.create_time.as_ref(), mode)
        }
    }
}

/// Bounds the elements of an article before it is decoded. Former paths, which are not content, count on their own.
fn check_elements(bytes: &[u8]) -> Check {
    let fields = fields::fields(bytes).map_while(Result::ok);
    let former_paths = fields.filter(|field| field.number == number::article::FORMER_PATHS).count();
    at_most(&limit::ALIAS_PATHS, former_paths, "former_paths")?;
    let elements = elements::article().elements(bytes, limit::ELEMENTS.maximum as usize + former_paths);
    let elements = elements.map_err(|error| decode_error(&error))?;
    at_most(&limit::ELEMENTS, elements.saturating_sub(former_paths), "")
}

fn decode<M: Message + Default>(bytes: &[u8]) -> Result<M, Refusal> {
    M::decode(bytes).map_err(|error| decode_error(&error))
}

fn check_named(
    kind: Kind,
    text: &str,
    content: Vec<u8>,
    created: Option<&Timestamp>,
    mode: Mode,
) -> Result<Checked, Refusal> {
    let name = name(kind, text, "name")?;
    let created = time(created, "create_time")?.filter(|_| mode == Mode::Import);
    let original = Original { created, ..Original::default() };
    Ok(Checked {
        name,
        content,
        word_count: 0,
        publish_time: None,
        release: Release::Immediate,
        expire_time: None,
        original,
    })
}

fn article(article: &v1::Article, content: Vec<u8>, mode: Mode) -> Result<Checked, Refusal> {
    let name = name(Kind::Article, &article.name, "name")?;
    texts(article)?;
    references(article)?;
    paths(article)?;
    lists(article)?;
    timing(article, mode)?;
    let none = v1::Body::default();
    let body = article.body.as_ref().unwrap_or(&none);
    if let Some(media) = &article.lead_media {
        self::media(media).map_err(at(|| "lead_media".into()))?;
    }
    body::check(body, content.len().saturating_sub(body.encoded_len()))?;
    let original = match mode {
        Mode::Put { .. } => Original::default(),
        Mode::Import => Original {
            created: article.create_time.as_ref().map(fields::micros),
            first_published: article.first_publish_time.as_ref().map(fields::micros),
            former_paths: parse::former_paths(&article.former_paths)?,
        },
    };
    Ok(Checked {
        name,
        content,
        word_count: cable_body::word_count(body),
        publish_time: article.publish_time.as_ref().map(fields::micros),
        release: release(article),
        expire_time: article.expire_time.as_ref().map(fields::micros),
        original,
    })
}

fn texts(article: &v1::Article) -> Check {
    required(&article.headline, "headline")?;
    line(&limit::LINE, &article.headline, "headline")?;
    text(&limit::PARAGRAPH, &article.dek, "dek")?;
    line(&limit::LINE, &article.kicker, "kicker")?;
    text(&limit::PARAGRAPH, &article.summary, "summary")?;
    if let Some(byline) = &article.byline {
        line(&limit::LINE, &byline.text, "byline.text")?;
    }
    if let Some(rights) = &article.rights {
        text(&limit::PARAGRAPH, &rights.copyright_notice, "rights.copyright_notice")?;
        text(&limit::PARAGRAPH, &rights.usage_terms, "rights.usage_terms")?;
    }
    if let Some(source) = &article.source {
        line(&limit::LINE, &source.name, "source.name")?;
    }
    line(&limit::LINE, &article.dateline, "dateline")?;
    foreign_id(&limit::URL, &article.genre, "genre")?;
    foreign_id(&limit::URL, &article.digital_source_type, "digital_source_type")?;
    text(&limit::BIO, &article.editorial_note, "editorial_note")?;
    alternative_headlines(&article.alternative_headlines)?;
    if !article.translation_group.is_empty() && Id::parse(&article.translation_group).is_none() {
        let problem = "must be 1 to 128 characters of A-Z a-z 0-9 . _ ~ -";
        return Err(Refusal::field("translation_group", problem));
    }
    language(&article.language)
}

fn alternative_headlines(headlines: &[v1::AlternativeHeadline]) -> Check {
    count(&limit::ALTERNATIVE_HEADLINES, headlines, "alternative_headlines")?;
    let mut roles = HashSet::new();
    for (i, headline) in headlines.iter().enumerate() {
        let field = |field| format!("alternative_headlines[{i}].{field}");
        required(&headline.role, &field("role"))?;
        line(&limit::TOKEN, &headline.role, &field("role"))?;
        if !roles.insert(&headline.role) {
            return Err(Refusal::field(field("role"), format!("duplicate: {}", headline.role)));
        }
        required(&headline.text, &field("text"))?;
        line(&limit::LINE, &headline.text, &field("text"))?;
    }
    Ok(())
}

/// Checks the shape of a BCP 47 tag: subtags of 1 to 8 letters and digits, the first of 2 to 8 letters.
fn language(tag: &str) -> Check {
    let mut subtags = tag.split('-');
    let first = subtags.next().unwrap_or_default();
    let primary = (2..=8).contains(&first.len()) && first.bytes().all(|b| b.is_ascii_alphabetic());
    let rest =
        |subtag: &str| (1..=8).contains(&subtag.len()) && subtag.bytes().all(|b| b.is_ascii_alphanumeric());
    if tag.is_empty() || (tag.len() <= 64 && primary && subtags.all(rest)) {
        return Ok(());
    }
    Err(Refusal::field("language", "must be a BCP 47 language tag, such as `en-GB`"))
}

fn references(article: &v1::Article) -> Check {
    if let Some(byline) = &article.byline {
        credits(&byline.credits, "byline.credits")?;
    }
    reference(Kind::Section, &article.section, "section")?;
    count(&limit::ADDITIONAL_SECTIONS, &article.additional_sections, "additional_sections")?;
    distinct(Kind::Section, &article.additional_sections, "additional_sections")?;
    count(&limit::TAGS, &article.tags, "tags")?;
    distinct(Kind::Tag, &article.tags, "tags")?;
    count(&limit::RELATED, &article.related, "related")?;
    for (i, related) in article.related.iter().enumerate() {
        name(Kind::Article, &related.article, &format!("related[{i}].article"))?;
        line(&limit::TOKEN, &related.kind, &format!("related[{i}].kind"))?;
    }
    Ok(())
}

fn credits(credits: &[v1::Credit], list: &str) -> Check {
    count(&limit::CREDITS, credits, list)?;
    for (i, credit) in credits.iter().enumerate() {
        let field = |field| format!("{list}[{i}].{field}");
        reference(Kind::Author, &credit.author, &field("author"))?;
        line(&limit::LINE, &credit.display_name, &field("display_name"))?;
        line(&limit::LINE, &credit.role, &field("role"))?;
    }
    Ok(())
}

fn paths(article: &v1::Article) -> Check {
    if !article.path.is_empty() {
        path(&article.path, "path")?;
    }
    count(&limit::ALIAS_PATHS, &article.alias_paths, "alias_paths")?;
    for (i, alias) in article.alias_paths.iter().enumerate() {
        path(alias, &format!("alias_paths[{i}]"))?;
    }
    if article.canonical_url.is_empty() { Ok(()) } else { url(&article.canonical_url, "canonical_url") }
}

fn lists(article: &v1::Article) -> Check {
    count(&limit::NOTICES, &article.notices, "notices")?;
    for (i, notice) in article.notices.iter().enumerate() {
        text(&limit::BIO, &notice.text, &format!("notices[{i}].text"))?;
        time(notice.time.as_ref(), &format!("notices[{i}].time"))?;
    }
    count(&limit::ALT_IDS, &article.alt_ids, "alt_ids")?;
    for (i, alt_id) in article.alt_ids.iter().enumerate() {
        required(&alt_id.role, &format!("alt_ids[{i}].role"))?;
        line(&limit::TOKEN, &alt_id.role, &format!("alt_ids[{i}].role"))?;
        foreign_id(&limit::URL, &alt_id.value, &format!("alt_ids[{i}].value"))?;
    }
    at_most(&limit::ANNOTATIONS, article.annotations.len(), "annotations")?;
    let bytes = article.annotations.iter().map(|(key, value)| key.len() + value.len()).sum();
    at_most(&limit::ANNOTATIONS_BYTES, bytes, "annotations")?;
    for (key, value) in &article.annotations {
        characters(key, Lines::One, "annotations")?;
        prose(value, &format!("annotations[{key:?}]"))?;
    }
    Ok(())
}

/// Checks that times are valid and that no end is before its start.
fn timing(article: &v1::Article, mode: Mode) -> Check {
    time(article.create_time.as_ref(), "create_time")?;
    time(article.first_publish_time.as_ref(), "first_publish_time")?;
    time(article.modified_time.as_ref(), "modified_time")?;
    let publish_time = time(article.publish_time.as_ref(), "publish_time")?;
    let expire_time = time(article.expire_time.as_ref(), "expire_time")?;
    if let Some(embargo) = &article.embargo {
        time(embargo.until.as_ref(), "embargo.until")?;
        text(&limit::PARAGRAPH, &embargo.note, "embargo.note")?;
    }
    let Some(expire_time) = expire_time else { return Ok(()) };
    let visible = match release(article) {
        Release::At(time) => Some(time),
        Release::Immediate | Release::OnPut => publish_time,
    };
    let now = match mode {
        Mode::Put { now } => Some(now),
        Mode::Import => None,
    };
    if [visible, now].into_iter().flatten().all(|time| expire_time > time) {
        return Ok(());
    }
    Err(Refusal::field("expire_time", "must be later than now, publish_time and embargo.until"))
}

fn release(article: &v1::Article) -> Release {
    let publish_time = article.publish_time.as_ref().map(fields::micros);
    Release::of(publish_time, article.embargo.as_ref())
}

fn check_author(author: &v1::Author) -> Check {
    required(&author.display_name, "display_name")?;
    line(&limit::LINE, &author.display_name, "display_name")?;
    text(&limit::BIO, &author.bio, "bio")?;
    line(&limit::LINE, &author.job_title, "job_title")?;
    line(&limit::LINE, &author.affiliation, "affiliation")?;
    count(&limit::SOCIAL_PROFILES, &author.social_profiles, "social_profiles")?;
    for (i, profile) in author.social_profiles.iter().enumerate() {
        let field = |field| format!("social_profiles[{i}].{field}");
        required(&profile.platform, &field("platform"))?;
        line(&limit::TOKEN, &profile.platform, &field("platform"))?;
        foreign_id(&limit::TOKEN, &profile.handle, &field("handle"))?;
        if !profile.url.is_empty() {
            url(&profile.url, &field("url"))?;
        }
    }
    if let Some(image) = &author.image {
        media(image).map_err(|refusal| refusal.within("image"))?;
    }
    at_most(&limit::ALT_IDS, author.alt_ids.len(), "alt_ids")?;
    let bytes = author.alt_ids.iter().map(|(role, value)| role.len() + value.len()).sum();
    at_most(&limit::AUTHOR_ALT_IDS_BYTES, bytes, "alt_ids")?;
    for (role, value) in &author.alt_ids {
        characters(role, Lines::One, "alt_ids")?;
        foreign_id(&limit::AUTHOR_ALT_IDS_BYTES, value, &format!("alt_ids[{role:?}]"))?;
    }
    Ok(())
}

fn check_section(section: &v1::Section) -> Check {
    required(&section.display_name, "display_name")?;
    line(&limit::LINE, &section.display_name, "display_name")?;
    text(&limit::PARAGRAPH, &section.tagline, "tagline")?;
    if !section.path.is_empty() {
        path(&section.path, "path")?;
    }
    reference(Kind::Section, &section.parent, "parent")
}

fn check_tag(tag: &v1::Tag) -> Check {
    required(&tag.display_name, "display_name")?;
    line(&limit::LINE, &tag.display_name, "display_name")?;
    text(&limit::PARAGRAPH, &tag.description, "description")?;
    reference(Kind::Tag, &tag.parent, "parent")?;
    count(&limit::EXTERNAL_IDS, &tag.external_ids, "external_ids")?;
    for (i, external) in tag.external_ids.iter().enumerate() {
        foreign_id(&limit::URL, external, &format!("external_ids[{i}]"))?;
    }
    Ok(())
}

fn check_collection(collection: &v1::Collection) -> Check {
    required(&collection.title, "title")?;
    line(&limit::LINE, &collection.title, "title")?;
    text(&limit::PARAGRAPH, &collection.description, "description")?;
    count(&limit::COLLECTION_ARTICLES, &collection.articles, "articles")?;
    distinct(Kind::Article, &collection.articles, "articles")
}

fn media(media: &v1::Media) -> Check {
    text(&limit::PARAGRAPH, &media.alt_text, "alt_text")?;
    body::spans(&media.caption).map_err(at(|| "caption".into()))?;
    line(&limit::LINE, &media.credit, "credit")?;
    line(&limit::LINE, &media.creator, "creator")?;
    line(&limit::LINE, &media.supplier, "supplier")?;
    line(&limit::LINE, &media.copyright_notice, "copyright_notice")?;
    text(&limit::PARAGRAPH, &media.usage_terms, "usage_terms")?;
    if !media.poster.is_empty() {
        url(&media.poster, "poster")?;
    }
    if media.duration.is_some_and(|duration| !is_duration(&duration)) {
        return Err(Refusal::field("duration", "must be a valid duration, not negative"));
    }
    if media.focal_point.is_some_and(|point| ![point.x, point.y].iter().all(|at| (0.0..=1.0).contains(at))) {
        return Err(Refusal::field("focal_point", "x and y must be from 0 to 1"));
    }
    for (i, rendition) in media.renditions.iter().enumerate() {
        self::rendition(rendition).map_err(at(|| format!("renditions[{i}]")))?;
    }
    Ok(())
}

/// Returns whether a duration is one by the rules of google.protobuf.Duration, and not negative.
fn is_duration(duration: &prost_types::Duration) -> bool {
    const MAX_SECONDS: i64 = 315_576_000_000;
    (0..=MAX_SECONDS).contains(&duration.seconds) && (0..1_000_000_000).contains(&duration.nanos)
}

fn rendition(rendition: &v1::Rendition) -> Check {
    url(&rendition.href, "href")?;
    line(&limit::TOKEN, &rendition.r#type, "type")?;
    if rendition.width < 0 || rendition.height < 0 {
        return Err(Refusal::field("width", "width and height must not be negative"));
    }
    Ok(())
}

/// Adds the location of a value to its refusal. The location is formatted only for a refusal, because a body has many.
fn at(location: impl FnOnce() -> String) -> impl FnOnce(Refusal) -> Refusal {
    move |refusal| refusal.within(&location())
}

fn required(value: &str, field: &str) -> Check {
    if text::is_visible(value) {
        Ok(())
    } else {
        Err(Refusal::field(field, "required; must contain a visible character"))
    }
}

/// Checks a text that may have several lines.
fn text(limit: &'static Limit, value: &str, field: &str) -> Check {
    at_most(limit, value.len(), field)?;
    characters(value, Lines::Many, field)
}

/// Checks a text that has no limit but that of its entity.
fn prose(value: &str, field: &str) -> Check {
    characters(value, Lines::Many, field)
}

/// Checks an id in another system. Sites turn ids that look like URLs into links.
fn foreign_id(limit: &'static Limit, value: &str, field: &str) -> Check {
    line(limit, value, field)?;
    if sanitise::is_script_url(value) {
        return Err(Refusal::field(field, "must not be a URL that a browser could execute"));
    }
    Ok(())
}

fn count<T>(limit: &'static Limit, values: &[T], field: &str) -> Check {
    at_most(limit, values.len(), field)
}

fn reference(kind: Kind, text: &str, field: &str) -> Check {
    parse::optional_name(kind, text, field).map(drop)
}

fn distinct(kind: Kind, names: &[String], field: &str) -> Check {
    let mut seen = HashSet::<Id>::with_capacity(names.len());
    for (i, text) in names.iter().enumerate() {
        let field = format!("{field}[{i}]");
        if !seen.insert(name(kind, text, &field)?.id) {
            return Err(Refusal::field(field, format!("duplicate: {text}")));
        }
    }
    Ok(())
}

/// Checks a URL that can be shown as a link or a source: no scheme that could run a script.
fn url(url: &str, field: &str) -> Check {
    at_most(&limit::URL, url.len(), field)?;
    if sanitise::link_target(url) == Some(url) && !url.contains(char::is_whitespace) {
        return Ok(());
    }
    let problem = "must be a relative URL, or start with `http://`, `https://`, `mailto:` or `tel:`, and contain no white \
                   space, `\\` or control character";
    Err(Refusal::field(field, problem))
}
