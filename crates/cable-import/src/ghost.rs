//! Exports of Ghost (JSON) as records.
//!
//! The file is read twice and is never in memory as a whole: first the authors, the tags and what posts refer to, then
//! the posts, one at a time. Members, settings and e-mail addresses are not imported.

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    io,
    path::{Path, PathBuf},
};

use cable_body::{convert, html};
use cable_proto::{
    limit,
    v1::{self, BodyFormat, record::Record as Kind},
};
use jiff::{Timestamp, tz::Offset};
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_128;

use crate::{
    ConvertedItem, Item, ItemOutcome, SkipReason,
    addresses::without_addresses,
    fit::{bounded, label},
    listed::record,
    piece::{Fitter, Piece, Term, timestamp, words},
    times,
};
use export::Row;
use gates::Ungated;

mod documents;
mod export;
mod gates;

/// The role of Ghost's ids among the ids of other systems.
const ROLE: &str = "ghost";

/// The maximum number of rows in all tables that posts refer to.
pub const MAX_ROWS: u64 = 5_000_000;

/// The placeholder for the address of the site in URLs of an export.
const SITE: &str = "__GHOST_URL__";

/// An error that ends the reading of an export.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read the file")]
    Read(#[source] io::Error),
    /// The file is not an export of Ghost.
    #[error("not an export of Ghost: {0}")]
    NotGhost(String),
    /// The file was cut off. The items before that point are imported.
    #[error("the file was cut off: {0}")]
    Truncated(String),
    /// The export has too many rows.
    #[error("more than {MAX_ROWS} rows: export in parts")]
    TooMany,
}

/// The options of an import.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The time of the import. Posts that are dated later become pending versions.
    pub now: Timestamp,
    /// The prefix of all ids, without its hyphen. If empty, there is none.
    pub prefix: String,
    /// Whether drafts are imported, as pending versions without a time.
    pub drafts: bool,
}

/// An export whose authors, tags and references have been read.
pub struct Export {
    file: PathBuf,
    options: Options,
    fitter: Fitter,
    users: Vec<Row>,
    tags: Vec<Row>,
    /// The names of users and tags by id.
    user_terms: HashMap<String, Term>,
    tag_terms: HashMap<String, Term>,
    /// The ids of authors and tags of posts, with their order.
    authors_of: HashMap<String, Vec<(i64, String)>>,
    tags_of: HashMap<String, Vec<(i64, String)>>,
    meta_of: HashMap<String, Row>,
    /// The hash of the row of each post.
    posts: HashMap<String, u128>,
    total: u64,
    failure: Option<Error>,
}

/// Reads what the posts of an export refer to.
///
/// # Errors
/// Fails if the file cannot be read, or is not an export of Ghost.
pub fn read(file: &Path, options: &Options) -> Result<Export, Error> {
    let mut export = Export {
        file: file.to_owned(),
        options: options.clone(),
        fitter: Fitter::new(&options.prefix, options.now),
        users: Vec::new(),
        tags: Vec::new(),
        user_terms: HashMap::new(),
        tag_terms: HashMap::new(),
        authors_of: HashMap::new(),
        tags_of: HashMap::new(),
        meta_of: HashMap::new(),
        posts: HashMap::new(),
        total: 0,
        failure: None,
    };
    let (mut rows, mut claims) = (0, Vec::new());
    let tables = ["posts", "users", "tags", "posts_authors", "posts_tags", "posts_meta"];
    let read = export::rows(file, &tables, &mut |table, row| {
        rows += 1;
        if rows > MAX_ROWS {
            return Err(Error::TooMany);
        }
        export.survey(table, row, &mut claims);
        Ok(true)
    });
    match read {
        // The posts before the end of the file are imported.
        Err(error @ Error::Truncated(_)) if export.total > 0 => export.failure = Some(error),
        read => read?,
    }
    // A post that readers see has its path before one that they see later.
    claims.sort_by_key(|(is_later, ..)| *is_later);
    for (_, path, id) in claims {
        if !export.is_only_mail(&id) {
            export.fitter.claim(&path, &article_id(&id));
        }
    }
    for list in export.authors_of.values_mut().chain(export.tags_of.values_mut()) {
        list.sort();
    }
    Ok(export)
}

/// Returns the id of the article for a post.
fn article_id(id: &str) -> String {
    format!("gh-{id}")
}

fn path_of(row: &Row) -> String {
    match row.text("slug").as_str() {
        "" => String::new(),
        slug => format!("/{slug}/"),
    }
}

/// Returns a time as an export has it: in UTC, or as a number of milliseconds.
fn time(row: &Row, key: &str) -> Option<Timestamp> {
    let text = row.text(key);
    match text.parse() {
        Ok(milliseconds) => Timestamp::from_millisecond(milliseconds).ok(),
        Err(_) => times::parse(&text, Offset::UTC).map(|time| time.instant),
    }
}

impl Export {
    /// Returns the total number of items.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    fn survey(&mut self, table: &str, row: Row, claims: &mut Vec<(bool, String, String)>) {
        let term = |row: &Row| Term { slug: row.text("slug"), name: html::text(&row.text("name")) };
        let order = row.text("sort_order").parse().unwrap_or_default();
        let post = row.text("post_id");
        match table {
            "posts" => {
                self.total += 1;
                let is_live = row.text("status") == "published";
                let is_taken = is_live || row.text("status") == "scheduled" || self.options.drafts;
                if is_taken && !row.flag("email_only") {
                    claims.push((!is_live, path_of(&row), row.text("id")));
                }
            }
            "users" => {
                self.total += 1;
                self.user_terms.insert(row.text("id"), term(&row));
                self.users.push(row);
            }
            "tags" => {
                self.total += 1;
                self.tag_terms.insert(row.text("id"), term(&row));
                self.tags.push(row);
            }
            "posts_authors" => self.authors_of.entry(post).or_default().push((order, row.text("author_id"))),
            "posts_tags" => self.tags_of.entry(post).or_default().push((order, row.text("tag_id"))),
            _ => drop(self.meta_of.insert(post, row)),
        }
    }

    /// Calls a function with each item, until it returns false: authors, tags, then posts and pages in the order of the
    /// file.
    ///
    /// # Errors
    /// The file was cut off, or can no longer be read. The items before were delivered.
    pub fn for_each(mut self, deliver: &mut dyn FnMut(Item) -> bool) -> Result<(), Error> {
        for row in std::mem::take(&mut self.users) {
            if !deliver(self.author(&row)) {
                return Ok(());
            }
        }
        for row in std::mem::take(&mut self.tags) {
            if !deliver(self.tag(&row)) {
                return Ok(());
            }
        }
        let file = std::mem::take(&mut self.file);
        let read = export::rows(&file, &["posts"], &mut |_, row| Ok(deliver(self.post(&row))));
        self.failure.take().map_or(read, Err)
    }

    fn author(&mut self, row: &Row) -> Item {
        let name = without_addresses(&words(&row.text("name")));
        let outcome = self.author_outcome(row, &name);
        Item::new(label("author", &row.text("id"), &name), "author", outcome)
    }

    fn author_outcome(&mut self, row: &Row, name: &str) -> ItemOutcome {
        let mut notes = Vec::new();
        let id = self.fitter.id(&slug_of(row, name));
        if id.is_empty() || name.is_empty() {
            return ItemOutcome::Failed(
                "no slug or no name, apart from an e-mail address: set them in Ghost".into(),
            );
        }
        let mut author = v1::Author {
            name: format!("authors/{id}"),
            display_name: bounded(name, &limit::LINE, "display name", &mut notes),
            bio: bounded(&without_addresses(&words(&row.text("bio"))), &limit::BIO, "biography", &mut notes),
            image: media(&row.text("profile_image")),
            ..Default::default()
        };
        author.alt_ids.insert(ROLE.to_owned(), row.text("id"));
        let website = row.text("website");
        if html::rendition(&website, None, None).is_some() && website.starts_with("http") {
            let platform = "website".to_owned();
            author.social_profiles.push(v1::SocialProfile { platform, url: website, ..Default::default() });
        }
        for platform in ["facebook", "twitter"] {
            let handle = row.text(platform);
            let handle = handle.trim_start_matches('@');
            let fits = handle.len() as u64 <= limit::TOKEN.maximum && !handle.contains(char::is_whitespace);
            if !handle.is_empty() && fits {
                let (platform, handle) = (platform.to_owned(), handle.to_owned());
                author.social_profiles.push(v1::SocialProfile { platform, handle, ..Default::default() });
            }
        }
        self.fitter.records.item(record(Kind::Author(author)), notes)
    }

    fn tag(&mut self, row: &Row) -> Item {
        let name = words(&row.text("name"));
        let mut notes = Vec::new();
        let id = self.fitter.id(&slug_of(row, &name));
        let is_internal = row.text("visibility") == "internal" || name.starts_with('#');
        let outcome = if id.is_empty() || name.is_empty() {
            ItemOutcome::Failed("no slug or no name: set them in Ghost".into())
        } else {
            let tag = v1::Tag {
                name: format!("tags/{id}"),
                display_name: bounded(&name, &limit::LINE, "display name", &mut notes),
                description: bounded(
                    &words(&row.text("description")),
                    &limit::PARAGRAPH,
                    "description",
                    &mut notes,
                ),
                kind: if is_internal { v1::TagKind::Internal } else { v1::TagKind::Keyword }.into(),
                ..Default::default()
            };
            self.fitter.records.item(record(Kind::Tag(tag)), notes)
        };
        Item::new(label("tag", &row.text("id"), &name), "tag", outcome)
    }

    fn post(&mut self, row: &Row) -> Item {
        let is_page = row.text("type") == "page" || row.flag("page");
        let kind = if is_page { "page" } else { "post" };
        let title = words(&row.text("title"));
        let outcome = match self.skip_reason(row) {
            Some(reason) => ItemOutcome::Skipped(reason),
            None => match self.piece(row, is_page) {
                Err(problem) => ItemOutcome::Failed(problem),
                Ok(piece) => self.repetition(row).unwrap_or_else(|| self.fitter.fit(piece)),
            },
        };
        let article = self.fitter.article(&article_id(row));
        Item::of_article(label(kind, &row.text("id"), &title), kind, outcome, article)
    }

    /// Returns the outcome of a post whose id another one of the file has.
    fn repetition(&mut self, row: &Row) -> Option<ItemOutcome> {
        let id = row.text("id");
        let hash = xxh3_128(Value::Object(row.0.clone()).to_string().as_bytes());
        let problem =
            || format!("field `id`: another post with other content has the id {}", html::head(&id, 64));
        match self.posts.entry(id.clone()) {
            Entry::Vacant(entry) => {
                entry.insert(hash);
                None
            }
            Entry::Occupied(entry) if *entry.get() == hash => {
                Some(ItemOutcome::Skipped(SkipReason::Duplicate))
            }
            Entry::Occupied(_) => Some(ItemOutcome::Failed(problem())),
        }
    }

    /// Returns whether a post is sent to subscribers and never shown on the site.
    fn is_only_mail(&self, id: &str) -> bool {
        self.meta_of.get(id).is_some_and(|meta| meta.flag("email_only"))
    }

    fn skip_reason(&self, row: &Row) -> Option<SkipReason> {
        if self.is_only_mail(&row.text("id")) || row.flag("email_only") {
            return Some(SkipReason::OnlyMail);
        }
        match row.text("status").as_str() {
            "published" => None,
            "scheduled" if time(row, "published_at").is_none() => Some(SkipReason::ScheduledWithoutTime),
            "scheduled" => None,
            "draft" if self.options.drafts => None,
            status => Some(SkipReason::Status(status.to_owned())),
        }
    }

    fn piece(&self, row: &Row, is_page: bool) -> Result<Piece, String> {
        let id = row.text("id");
        if id.is_empty() {
            return Err("field `id`: missing: export again".into());
        }
        let mut result = ConvertedItem::default();
        let empty = Row::default();
        let meta = self.meta_of.get(&id).unwrap_or(&empty);
        // Older exports have these fields in the post.
        let either =
            |key: &str| Some(meta.text(key)).filter(|text| !text.is_empty()).unwrap_or_else(|| row.text(key));
        let (body, has_gates) = body(row, &mut result)?;
        let published = time(row, "published_at");
        note_on_times(row, published, &mut result.notes);
        let excerpt = row.text("custom_excerpt");
        let mut article = v1::Article {
            headline: row.text("title"),
            summary: if excerpt.is_empty() { either("meta_description") } else { excerpt.clone() },
            dek: excerpt,
            body: Some(body),
            path: path_of(row),
            language: row.text("locale"),
            canonical_url: row.text("canonical_url").replace(SITE, ""),
            publish_time: published.and_then(timestamp),
            modified_time: time(row, "updated_at").and_then(timestamp),
            access: access(&row.text("visibility"), has_gates, &mut result.notes).into(),
            alt_ids: vec![v1::AltId { role: ROLE.into(), value: id.clone() }],
            ..Default::default()
        };
        let uuid = row.text("uuid");
        if !uuid.is_empty() {
            article.alt_ids.push(v1::AltId { role: "ghost-uuid".into(), value: uuid });
        }
        article.lead_media = media(&row.text("feature_image"));
        if let Some(media) = &mut article.lead_media {
            media.alt_text = either("feature_image_alt");
            media.caption = html::spans(&either("feature_image_caption"));
        }
        let roles = [
            ("seo", "meta_title"),
            ("social", "og_title"),
            ("twitter", "twitter_title"),
            ("newsletter", "email_subject"),
        ];
        for (role, key) in roles {
            let text = either(key);
            if !text.is_empty() {
                article.alternative_headlines.push(v1::AlternativeHeadline { role: role.into(), text });
            }
        }
        if is_page {
            article.annotations.insert("post_type".into(), "page".into());
        }
        if article.path.is_empty() {
            result.notes.push("no path: the post has no slug".into());
        }
        leftovers(row, meta, &mut result.not_imported);
        let mut named = |kind: &str, terms: &HashMap<String, Term>, ids: Option<&Vec<(i64, String)>>| {
            let ids = ids.map_or(&[][..], Vec::as_slice);
            let found: Vec<Term> = ids.iter().filter_map(|(_, id)| terms.get(id).cloned()).collect();
            if found.len() < ids.len() {
                result.notes.push(format!("{} {kind} omitted: not in the file", ids.len() - found.len()));
            }
            found
        };
        let mut authors = named("authors", &self.user_terms, self.authors_of.get(&id));
        if authors.is_empty() {
            authors.extend(self.user_terms.get(&row.text("author_id")).cloned());
        }
        let tags = named("tags", &self.tag_terms, self.tags_of.get(&id));
        Ok(Piece {
            id: article_id(&id),
            article,
            sections: Vec::new(),
            tags,
            authors,
            is_draft: row.text("status") == "draft",
            result,
        })
    }
}

/// Reports times that are missing or cannot be read.
fn note_on_times(row: &Row, published: Option<Timestamp>, notes: &mut Vec<String>) {
    for (key, field) in [("published_at", "publication time"), ("updated_at", "time of the last change")] {
        let text = row.text(key);
        if !text.is_empty() && time(row, key).is_none() {
            notes.push(format!("{field} omitted: {:?} is not a time", html::head(&text, 64)));
        }
    }
    if published.is_none() && row.text("status") == "published" {
        notes.push("no publication time: that of the first import is used".into());
    }
}

/// Returns the slug of an author or a tag, unless it is made from an e-mail address.
fn slug_of(row: &Row, name: &str) -> String {
    match row.text("slug") {
        slug if slug.is_empty() || crate::addresses::has_address(&slug) => crate::ids::slug_of_name(name),
        slug => slug,
    }
}

/// Returns the body, and whether some of it is for members only: the HTML that Ghost has rendered, or else the document
/// of its editor.
fn body(row: &Row, result: &mut ConvertedItem) -> Result<(v1::Body, bool), String> {
    let Ungated { html: mut source, mut has_gates, omitted } = gates::ungated(&row.text("html"));
    if omitted > 0 {
        result.not_imported.insert(documents::NOT_ON_SITE.into(), omitted);
    }
    let has_html = !row.text("html").is_empty();
    if !has_html {
        let document =
            documents::lexical(&row.text("lexical")).or_else(|| documents::mobiledoc(&row.text("mobiledoc")));
        match document {
            Some(document) => {
                source = document.html;
                has_gates |= document.has_gates;
                result.not_imported.extend(document.counts);
            }
            None => {
                let has_document = !(row.text("lexical") + &row.text("mobiledoc")).is_empty();
                if has_document {
                    return Err("field `lexical` or `mobiledoc`: not a document, and `html` is empty: save the post in Ghost \
                                and export again"
                        .into());
                }
            }
        }
    }
    let plain = row.text("plaintext");
    if source.is_empty() && !has_html && !plain.is_empty() {
        source = documents::paragraphs(&plain);
        result.notes.push("field `html` is empty: the text is that of `plaintext`, without markup".into());
    }
    let converted = convert(BodyFormat::Html, &source.replace(SITE, ""))
        .map_err(|error| format!("body {error}; or split the post"))?;
    result.notes.extend(converted.notes);
    if converted.omitted_notes > 0 {
        result.notes.push(format!("and {} more notes on the text", converted.omitted_notes));
    }
    Ok((converted.body, has_gates))
}

fn media(url: &str) -> Option<v1::Media> {
    let rendition = html::rendition(&url.replace(SITE, ""), None, None).filter(|_| !url.is_empty())?;
    Some(v1::Media { renditions: vec![rendition], ..Default::default() })
}

/// Returns the access to a post. A part for members makes all of it theirs: an article has one access.
fn access(visibility: &str, has_gates: bool, notes: &mut Vec<String>) -> v1::Access {
    match visibility {
        "" | "public" if has_gates => {
            notes.push("access is SUBSCRIBER: some of the text is for members only".into());
            v1::Access::Subscriber
        }
        "" => v1::Access::Unspecified,
        "public" => v1::Access::Free,
        // Members, subscribers, and some tiers of them.
        _ => v1::Access::Subscriber,
    }
}

/// Counts the parts of a post that have no place in an article.
fn leftovers(row: &Row, meta: &Row, counts: &mut BTreeMap<String, u64>) {
    let mut add = |kind: &str, is_set: bool| {
        if is_set {
            *counts.entry(kind.to_owned()).or_default() += 1;
        }
    };
    add("featured marks", row.flag("featured"));
    for key in ["codeinjection_head", "codeinjection_foot", "custom_template"] {
        add(key, !row.text(key).is_empty());
    }
    for key in ["og_image", "og_description", "twitter_image", "twitter_description"] {
        add(key, !(row.text(key) + &meta.text(key)).is_empty());
    }
}

#[cfg(test)]
mod tests;
