//! Exports of Ghost (JSON) as records.
//!
//! The file is read twice and is never in memory as a whole: first the authors, the tags and what posts refer to, then
//! the posts, one at a time. Members, settings and e-mail addresses are not imported.

use std::{
    collections::{HashMap, hash_map::Entry},
    io,
    path::{Path, PathBuf},
};

use cable_body::html;
use cable_proto::{
    limit,
    v1::{self, record::Record as Kind},
};
use jiff::{Timestamp, tz::Offset};
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_128;

use crate::{
    ConvertedItem, Item, ItemOutcome, SkipReason,
    addresses::without_addresses,
    fit::{bounded, label},
    listed::record,
    piece::{Fitter, Piece, Term, one_line, timestamp},
    times,
};
use export::Row;
use post::{access, body, leftovers, media, note_on_times};

mod documents;
mod export;
mod gates;
mod post;

/// The role of Ghost's ids among the ids of other systems.
const ROLE: &str = "ghost";

/// The maximum number of rows in all tables that posts refer to.
pub const MAX_ROWS: u64 = 5_000_000;

/// The problem of a row without values.
const NO_ROW: &str = "the row of the table is empty, or not an object: export again";

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
    /// The file was cut off before the end of a table that all posts refer to. Nothing is imported.
    #[error("the file was cut off before the end of its table `{0}`, so nothing is imported: export again")]
    Incomplete(String),
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
                let name = without_addresses(&one_line(&row.text("name")));
                self.user_terms.extend(term(&row, name));
                self.users.push(row);
            }
            "tags" => {
                self.total += 1;
                self.tag_terms.extend(term(&row, without_addresses(&one_line(&row.text("name")))));
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
        let name = without_addresses(&one_line(&row.text("name")));
        let outcome = self.author_outcome(row, &name);
        Item::new(label("author", &row.text("id"), &name), "author", outcome)
    }

    fn author_outcome(&mut self, row: &Row, name: &str) -> ItemOutcome {
        let mut notes = Vec::new();
        let id = self.fitter.id(&slug_of(row, name));
        if row.0.is_empty() {
            return ItemOutcome::Failed(NO_ROW.into());
        }
        if id.is_empty() || name.is_empty() {
            return ItemOutcome::Failed(
                "no slug or no name, apart from an e-mail address: set them in Ghost".into(),
            );
        }
        let mut author = v1::Author {
            name: format!("authors/{id}"),
            display_name: bounded(name, &limit::LINE, "display name", &mut notes),
            bio: bounded(
                &without_addresses(&one_line(&row.text("bio"))),
                &limit::BIO,
                "biography",
                &mut notes,
            ),
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
        let name = without_addresses(&one_line(&row.text("name")));
        let mut notes = Vec::new();
        let id = self.fitter.id(&slug_of(row, &name));
        let is_internal = row.text("visibility") == "internal" || name.starts_with('#');
        let outcome = if row.0.is_empty() {
            ItemOutcome::Failed(NO_ROW.into())
        } else if id.is_empty() || name.is_empty() {
            ItemOutcome::Failed("no slug or no name: set them in Ghost".into())
        } else {
            let tag = v1::Tag {
                name: format!("tags/{id}"),
                display_name: bounded(&name, &limit::LINE, "display name", &mut notes),
                description: bounded(
                    &one_line(&row.text("description")),
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
        let title = one_line(&row.text("title"));
        let outcome = match self.skip_reason(row) {
            _ if row.0.is_empty() => ItemOutcome::Failed(NO_ROW.into()),
            Some(reason) => ItemOutcome::Skipped(reason),
            None => match self.piece(row, is_page) {
                Err(problem) => ItemOutcome::Failed(problem),
                Ok(piece) => self.repetition(row).unwrap_or_else(|| self.fitter.fit(piece)),
            },
        };
        let article = self.fitter.article(&article_id(&row.text("id")));
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
            headline: plain(&row.text("title")),
            summary: plain(&if excerpt.is_empty() { either("meta_description") } else { excerpt.clone() }),
            dek: plain(&excerpt),
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
            media.alt_text = plain(&either("feature_image_alt"));
            media.caption = html::spans(&either("feature_image_caption"));
        }
        let roles = [
            ("seo", "meta_title"),
            ("social", "og_title"),
            ("twitter", "twitter_title"),
            ("newsletter", "email_subject"),
        ];
        for (role, key) in roles {
            let text = plain(&either(key));
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
                result.notes.push(format!(
                    "{} {kind} omitted: not in the file, or failed there",
                    ids.len() - found.len()
                ));
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

/// Returns a plain text of Ghost as the HTML that shows it, as articles have their texts before they are fitted.
fn plain(text: &str) -> String {
    documents::escaped(text)
}

/// Returns the term by which posts name an author or a tag, by its id. `None` if the row becomes no record.
fn term(row: &Row, name: String) -> Option<(String, Term)> {
    let term = Term { slug: slug_of(row, &name), name };
    (!term.slug.is_empty() && !term.name.is_empty()).then(|| (row.text("id"), term))
}

/// Returns the slug of an author or a tag, unless it is made from an e-mail address.
fn slug_of(row: &Row, name: &str) -> String {
    match row.text("slug") {
        slug if slug.is_empty() || crate::addresses::has_address(&slug) => crate::ids::slug_of_name(name),
        slug => slug,
    }
}

#[cfg(test)]
mod tests;
