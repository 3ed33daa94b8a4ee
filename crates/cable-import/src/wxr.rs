//! WordPress exports (WXR 1.0 to 1.2) as records.
//!
//! The file is read twice and is never in memory as a whole. The first pass reads what posts refer to (authors,
//! categories, tags, attachments), the second reads the posts, one at a time. Comments, passwords and e-mail addresses
//! are not imported.

use std::{
    collections::{HashSet, VecDeque},
    fs::File,
    io::{self, BufRead, BufReader},
    path::Path,
};

use jiff::Timestamp;

use self::{
    attachments::Index,
    reader::{Element, Reader},
    terms::Terms,
};
use cable_body::html;

use crate::{ConvertedItem, Item, ItemOutcome, SkipReason};
use cable_proto::limit::Limit;

mod article;
mod attachments;
mod reader;
mod references;
mod terms;
mod utf8;

const NOT_UTF8: &str = "contains bytes that are not UTF-8";

/// An error that ends the reading of an export.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read the file")]
    Read(#[from] io::Error),
    /// The file is not a WordPress export.
    #[error("not a WordPress export: {0}")]
    NotWxr(String),
    /// The file is not well-formed XML.
    #[error("XML not well-formed at byte {position}: {error}")]
    Xml {
        /// The error of the XML parser.
        error: quick_xml::Error,
        /// The byte position of the error.
        position: u64,
    },
    /// The file is truncated.
    #[error("file truncated at byte {position}, within <{within}>")]
    Truncated {
        /// The element without an end.
        within: String,
        /// The length of the file in bytes.
        position: u64,
    },
}

/// The items of an export: sections, authors and tags first, then all others in the order of the file. The iterator
/// ends after the first error.
pub struct Items<R> {
    reader: Reader<R>,
    channel: VecDeque<Item>,
    terms: Terms,
    index: Index,
    language: String,
    source: String,
    ids: HashSet<u64>,
    now: Timestamp,
    total: u64,
}

/// Reads an export from a file. Posts dated after `now` are skipped as scheduled.
///
/// # Errors
/// Fails if the file cannot be read or is not a WordPress export.
pub fn open(path: &Path, now: Timestamp) -> Result<Items<BufReader<File>>, Error> {
    read(|| Ok(BufReader::with_capacity(1 << 18, File::open(path)?)), now)
}

/// Reads an export from a source that can be opened twice.
///
/// # Errors
/// Fails in the same cases as [`open`].
pub fn read<R: BufRead>(open: impl Fn() -> io::Result<R>, now: Timestamp) -> Result<Items<R>, Error> {
    let mut first = FirstPass::default();
    for element in Reader::new(open()?) {
        first.add(element?);
    }
    let (terms, channel) = first.terms.finish();
    Ok(Items {
        total: first.items + channel.len() as u64,
        reader: Reader::new(open()?),
        channel: channel.into(),
        terms,
        index: first.index,
        language: first.language,
        source: first.source,
        ids: HashSet::new(),
        now,
    })
}

#[derive(Default)]
struct FirstPass {
    terms: terms::Collector,
    index: Index,
    language: String,
    source: String,
    items: u64,
}

impl FirstPass {
    fn add(&mut self, element: Element) {
        match element.name.as_str() {
            "item" => {
                self.items += 1;
                if element.get("wp:post_type") == "attachment" {
                    self.index.add(&element);
                }
            }
            "language" => element.text.trim().clone_into(&mut self.language),
            "wp:base_blog_url" => element.text.trim().clone_into(&mut self.source),
            _ => self.terms.add(element),
        }
    }
}

impl<R: BufRead> Items<R> {
    /// Returns the source of the records: the URL of the site. Empty if the export does not state it.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Returns the total number of items.
    pub fn total(&self) -> u64 {
        self.total
    }

    fn item(&mut self, item: &Element) -> Item {
        let kind = match item.get("wp:post_type") {
            "" => "item",
            kind => kind,
        };
        let id = item.get("wp:post_id");
        let title = html::plain(item.raw("title"));
        let label = label(kind, id, &title);
        Item { label, kind: kind.to_owned(), outcome: self.convert(item, &title) }
    }

    fn convert(&mut self, item: &Element, title: &str) -> ItemOutcome {
        if let Some(reason) = self.skip_reason(item) {
            return ItemOutcome::Skipped(reason);
        }
        if item.damaged {
            return ItemOutcome::Failed(NOT_UTF8.into());
        }
        let Ok(id) = item.get("wp:post_id").parse::<u64>() else {
            return ItemOutcome::Failed("no post id".into());
        };
        if !self.ids.insert(id) {
            return ItemOutcome::Skipped(SkipReason::Duplicate);
        }
        let site = article::Site { index: &self.index, language: &self.language };
        article::article(&site, &mut self.terms, id, title, item)
    }

    fn skip_reason(&self, item: &Element) -> Option<SkipReason> {
        match item.get("wp:post_type") {
            "post" | "page" => {}
            "attachment" => return Some(SkipReason::Attachment),
            "" => return Some(SkipReason::PostType("not given".into())),
            other => return Some(SkipReason::PostType(other.to_owned())),
        }
        match item.get("wp:status") {
            "publish" => {}
            "future" => return Some(SkipReason::Scheduled),
            other => return Some(SkipReason::Status(other.to_owned())),
        }
        if !item.get("wp:post_password").is_empty() {
            return Some(SkipReason::Password);
        }
        article::publish_time(item).filter(|time| *time > self.now).map(|_| SkipReason::Scheduled)
    }
}

impl<R: BufRead> Iterator for Items<R> {
    type Item = Result<Item, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(item) = self.channel.pop_front() {
            return Some(Ok(item));
        }
        loop {
            match self.reader.next()? {
                Ok(element) if element.name == "item" => return Some(Ok(self.item(&element))),
                Ok(_) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// Returns a label such as `post 1177 'Storm closes the harbour'`.
fn label(kind: &str, id: &str, title: &str) -> String {
    const MAX_TITLE_BYTES: usize = 80;
    let mut label = kind.to_owned();
    if !id.is_empty() {
        label = format!("{label} {id}");
    }
    match truncate(title, MAX_TITLE_BYTES) {
        "" => label,
        title => format!("{label} '{title}'"),
    }
}

/// Returns the text, truncated to `bytes` bytes.
fn truncate(text: &str, bytes: usize) -> &str {
    html::head(text, bytes).trim_end()
}

/// Returns the text, truncated to its limit. If it is truncated, a note reports it.
fn bounded(text: &str, limit: &Limit, field: &str, notes: &mut Vec<String>) -> String {
    let bounded = truncate(text, limit.maximum as usize);
    if bounded.len() < text.len() {
        notes.push(format!("{field} truncated from {} to {} bytes", text.len(), bounded.len()));
    }
    bounded.to_owned()
}

#[cfg(test)]
mod tests;
