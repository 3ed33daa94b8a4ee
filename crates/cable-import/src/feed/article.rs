//! Articles of the entries of feeds.

use std::cell::Cell;

use cable_body::{ConvertError, convert_foreign, html, render, sanitise};
use cable_proto::{
    limit,
    text::remove_forbidden,
    v1::{self, BodyFormat},
};
use jiff::Timestamp;
use url::Url;
use xxhash_rust::xxh3::xxh3_64;

use super::{
    Options, boilerplate,
    entry::{Channel, Entry, Located, Text},
    media,
    xml::escaped,
};
use crate::{
    ConvertedItem,
    fit::truncate,
    piece::{Piece, is_web, one_line, timestamp},
    times,
};

/// The role of the ids of feeds among the ids of other systems.
const ROLE: &str = "feed";

/// The maximum length in bytes of the readable part of an id.
const MAX_READABLE_BYTES: usize = 48;

/// The steps of the HTML parser for each byte of a text that a text may take, and for a short text.
const STEPS_PER_BYTE: usize = 40;
const STEPS_OF_TEXT: usize = 100_000;

/// The maximum length in bytes, and of tags, of a short text that is read without counting steps.
const SHORT_BYTES: usize = 1 << 10;
const SHORT_TAGS: usize = 16;

/// The maximum number of bytes that the resolved URLs of one text may have: more do not fit an article.
const MAX_RESOLVED_BYTES: usize = 2 << 20;

/// The conversion of texts, and the work that it may still do.
pub(super) struct Texts {
    pub(super) steps: usize,
}

impl Texts {
    /// Converts HTML within its share of the steps that are left.
    fn convert(&mut self, html: &str, base: Option<&Url>) -> Result<cable_body::Conversion, ConvertError> {
        let share = self.steps.min(STEPS_OF_TEXT + STEPS_PER_BYTE * html.len());
        let mut left = share;
        let resolved_bytes = Cell::new(0);
        let resolve = |url: &str| {
            if resolved_bytes.get() > MAX_RESOLVED_BYTES {
                return None;
            }
            let resolved = resolve(base, url)?;
            resolved_bytes.set(resolved_bytes.get() + resolved.len());
            (resolved_bytes.get() <= MAX_RESOLVED_BYTES).then_some(resolved)
        };
        let converted = convert_foreign(html, &resolve, &mut left);
        self.steps -= share - left;
        converted
    }

    /// Returns the words of a text on one line.
    fn words(&mut self, text: &Text) -> String {
        match text {
            Text::Plain(text) => one_line(text),
            Text::Html(html) if !html.contains(['<', '&']) => one_line(html),
            Text::Html(html) if html.len() <= SHORT_BYTES && html.matches('<').count() <= SHORT_TAGS => {
                one_line(&html::text(html))
            }
            Text::Html(html) => match self.convert(html, None) {
                Ok(converted) => one_line(&render(&converted.body, BodyFormat::PlainText)),
                Err(_) => one_line(html),
            },
        }
    }
}

/// Returns the absolute address of a relative one. None for all others, and within a page.
fn resolve(base: Option<&Url>, url: &str) -> Option<String> {
    let url = url.trim();
    if url.is_empty() || url.starts_with('#') || Url::parse(url).is_ok() {
        return None;
    }
    Some(base?.join(url).ok()?.into())
}

/// Returns the id of the article for a `guid` or `id`: a readable part of it, and a hash of all of it.
pub(super) fn id(guid: &str) -> String {
    let is_in_ids = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let last = guid.rsplit(|c| !is_in_ids(c)).find(|part| part.contains(|c: char| c.is_ascii_alphanumeric()));
    let readable = html::head(last.unwrap_or_default(), MAX_READABLE_BYTES).trim_matches(['.', '-', '_']);
    let hash = xxh3_64(guid.as_bytes());
    match readable {
        "" => format!("feed-{hash:016x}"),
        readable => format!("feed-{readable}-{hash:016x}"),
    }
}

/// Returns the time by which the versions of an entry are ordered.
pub(super) fn version(entry: &Entry, options: &Options) -> Option<Timestamp> {
    let text = if entry.updated.is_empty() { &entry.published } else { &entry.updated };
    times::parse(text, options.offset()).map(|time| time.instant)
}

/// Returns an article as a feed has it.
pub(super) fn piece(
    entry: &Entry,
    channel: &Channel,
    sites: &[String],
    options: &Options,
    texts: &mut Texts,
) -> Result<Piece, String> {
    if let Some(damage) = &entry.damage {
        return Err(damage.clone());
    }
    let key = key(entry);
    if key.is_empty() {
        let fields = if entry.kind == "entry" { "`id` and no `link`" } else { "`guid` or `id`, and no link" };
        return Err(format!("no {fields}: nothing identifies it in a later import; add one to the feed"));
    }
    let mut result = ConvertedItem { not_imported: entry.not_imported.clone(), ..Default::default() };
    let (body, summary) = body(entry, &mut result, texts)?;
    let mut article = v1::Article {
        headline: entry.title.as_ref().map(|title| escaped(&texts.words(title))).unwrap_or_default(),
        language: entry.language.clone(),
        ..Default::default()
    };
    set_summary(&mut article, entry, summary, &body, &mut result, texts);
    article.body = Some(body);
    set_times(&mut article, entry, options, &mut result);
    set_address(&mut article, entry, sites, options, &mut result.notes);
    set_rights(&mut article, entry, channel, options, &mut result.notes);
    media::place(entry, &mut article, &mut result);
    let is_id = |value: &str| !value.is_empty() && !sanitise::is_script_url(value);
    article.alt_ids.push(v1::AltId { role: ROLE.into(), value: one_line(&key) });
    if one_line(&entry.link) != one_line(&key) {
        article.alt_ids.push(v1::AltId { role: "url".into(), value: one_line(&entry.link) });
    }
    article.alt_ids.retain(|alt_id| is_id(&alt_id.value));
    if is_web(&entry.external_url) {
        let url = truncate(&one_line(&entry.external_url), limit::URL.maximum as usize).to_owned();
        article.annotations.insert("external_url".into(), url);
    }
    // Only Atom and JSON Feed have authors of a feed.
    let authors = if entry.authors.is_empty() { &channel.authors } else { &entry.authors };
    if entry.authors.is_empty() && channel.more_authors > 0 {
        result.notes.push(format!("{} more authors of the feed omitted", channel.more_authors));
    }
    let categories = entry.categories.iter().filter(|term| !one_line(&term.name).is_empty());
    Ok(Piece {
        id: id(&key),
        article,
        sections: Vec::new(),
        tags: categories.cloned().collect(),
        authors: authors.iter().map(|name| crate::piece::Term::of_name(name)).collect(),
        is_draft: false,
        result,
    })
}

/// Returns what identifies an entry: its `guid` or `id`, or else its link.
pub(super) fn key(entry: &Entry) -> String {
    let (guid, _) = remove_forbidden(entry.guid.trim());
    let (link, _) = remove_forbidden(entry.link.trim());
    if guid.trim().is_empty() { link.trim().to_owned() } else { guid.trim().to_owned() }
}

/// Returns the body, and the summary, unless that is the body.
fn body<'a>(
    entry: &'a Entry,
    result: &mut ConvertedItem,
    texts: &mut Texts,
) -> Result<(v1::Body, Option<&'a Located>), String> {
    let body = match &entry.content {
        Some(content) => convert_body(content, result, texts)?,
        None => v1::Body::default(),
    };
    match &entry.summary {
        Some(summary) if body.blocks.is_empty() => {
            if entry.content.is_some() {
                result.notes.push("the content has no text: the text is the summary".into());
            }
            Ok((convert_body(summary, result, texts)?, None))
        }
        summary => Ok((body, summary.as_ref())),
    }
}

fn convert_body(
    located: &Located,
    result: &mut ConvertedItem,
    texts: &mut Texts,
) -> Result<v1::Body, String> {
    let html = match &located.text {
        Text::Html(html) if html.contains('<') => html.clone(),
        // Text with references, whose lines are those of its author.
        Text::Html(html) => paragraphs(html, |text| text.to_owned()),
        Text::Plain(text) => paragraphs(text, escaped),
    };
    let converted = texts
        .convert(&html, located.base.as_deref())
        .map_err(|error| format!("body {error}; or split the item"))?;
    result.notes.extend(converted.notes);
    if converted.omitted_notes > 0 {
        result.notes.push(format!("and {} more notes on the text", converted.omitted_notes));
    }
    Ok(converted.body)
}

/// Returns plain text as HTML: an empty line ends a paragraph, a line feed a line.
fn paragraphs(text: &str, as_html: impl Fn(&str) -> String) -> String {
    let lines: Vec<&str> = text.trim().lines().map(str::trim_end).collect();
    let paragraphs = lines.split(|line| line.is_empty()).filter(|lines| !lines.is_empty());
    paragraphs.map(|lines| format!("<p>{}</p>", as_html(&lines.join("\n")).replace('\n', "<br>"))).collect()
}

/// Sets the summary, and the dek: a summary that does not merely repeat the first words of the text.
fn set_summary(
    article: &mut v1::Article,
    entry: &Entry,
    summary: Option<&Located>,
    body: &v1::Body,
    result: &mut ConvertedItem,
    texts: &mut Texts,
) {
    let subtitle = one_line(&entry.subtitle);
    if let Some(summary) = summary {
        let words = boilerplate::removed(&texts.words(&summary.text));
        let start = words.trim_end_matches(|c: char| !c.is_alphanumeric());
        let text = one_line(&render(body, BodyFormat::PlainText));
        let is_excerpt = text.starts_with(html::head(start, 200)) && !start.is_empty();
        if !is_excerpt && subtitle.is_empty() {
            article.dek = escaped(&words);
        }
        article.summary = escaped(&words);
        if summary.text.source().contains("<img") {
            result.not_imported.insert("pictures in summaries".into(), 1);
        }
    }
    if !subtitle.is_empty() && subtitle != article.headline {
        article.dek = escaped(&subtitle);
    }
}

fn set_times(article: &mut v1::Article, entry: &Entry, options: &Options, result: &mut ConvertedItem) {
    let mut time = |text: &str, field: &str| {
        if text.is_empty() {
            return None;
        }
        let Some(time) = times::parse(text, options.offset()) else {
            result.notes.push(format!("{field} time omitted: {:?} is not a time", truncate(text, 64)));
            return None;
        };
        if !time.has_zone && options.offset.is_none() {
            let problem = match times::unknown_zone(text) {
                Some(zone) => format!("is in the unknown zone {zone}"),
                None => "has no zone".to_owned(),
            };
            result.notes.push(format!("{field} time {problem}: taken as UTC; --utc-offset gives another"));
        }
        timestamp(time.instant)
    };
    let published = time(&entry.published, "publication");
    let updated = time(&entry.updated, "change");
    article.publish_time = published.or(updated);
    article.modified_time = updated;
    match (published, updated) {
        (Some(_), _) => {}
        (None, Some(_)) => {
            result.notes.push("no publication time: the time of the last change is used".into())
        }
        (None, None) => result.notes.push("no time: the time of the first import is used".into()),
    }
    if article.publish_time.is_some_and(|time| time.seconds > options.now.as_second()) {
        result.notes.push("the publication time is in the future: pending until then".into());
    }
}

/// Sets the path, for a page of the feed's own site; else the canonical URL.
fn set_address(
    article: &mut v1::Article,
    entry: &Entry,
    sites: &[String],
    options: &Options,
    notes: &mut Vec<String>,
) {
    let link = one_line(&entry.link);
    let Some(url) = Url::parse(&link).ok().filter(|url| is_web(url.as_str())) else {
        if !link.is_empty() {
            notes.push(format!("link omitted: {:?} is not the URL of a page", truncate(&link, 200)));
        }
        return;
    };
    let has_query = url.query_pairs().any(|(key, _)| !key.starts_with("utm_"));
    let is_own = sites.iter().any(|site| *site == host(&url));
    if is_own && !options.canonical && !has_query && url.path() != "/" {
        article.path = url.path().to_owned();
    } else {
        article.canonical_url = url.to_string();
    }
}

/// Returns the host of an address, without the `www.` that sites have or have not; empty if it has none.
pub(super) fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default().to_ascii_lowercase();
    host.strip_prefix("www.").map_or(host.clone(), str::to_owned)
}

fn set_rights(
    article: &mut v1::Article,
    entry: &Entry,
    channel: &Channel,
    options: &Options,
    notes: &mut Vec<String>,
) {
    let most = &limit::PARAGRAPH;
    let mut bounded = |text: &str, field: &str| crate::fit::bounded(&one_line(text), most, field, notes);
    let of_feed = &channel.copyright;
    let copyright = if entry.copyright.is_empty() { of_feed } else { &entry.copyright };
    let copyright = bounded(copyright, "copyright notice");
    let terms = bounded(&entry.terms, "usage terms");
    if !(copyright.clone() + &terms).is_empty() {
        let rights = v1::Rights { copyright_notice: copyright, usage_terms: terms };
        article.rights = Some(rights);
    }
    let name = match one_line(&entry.source) {
        name if name.is_empty() && options.canonical => one_line(&channel.title),
        name => name,
    };
    let name = crate::fit::bounded(&name, &limit::LINE, "source", notes);
    if !name.is_empty() {
        article.source = Some(v1::Source { name, ..Default::default() });
    }
}
