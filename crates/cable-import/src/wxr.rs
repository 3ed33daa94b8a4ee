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

use crate::{Fate, Item, SkipReason, Taken};
use cable_proto::limit::Limit;

mod article;
mod attachments;
mod reader;
mod references;
mod terms;
mod utf8;

const DAMAGED: &str = "it holds bytes that are not UTF-8";

/// An error that ends the reading of an export.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("read the file")]
    Read(#[from] io::Error),
    /// The file is not a WordPress export.
    #[error("not a WordPress export: {0}")]
    NotWxr(String),
    /// The file is not well-formed XML.
    #[error("the XML is not well-formed at byte {position}: {error}")]
    Xml {
        /// The error of the XML parser.
        error: quick_xml::Error,
        /// The byte position of the error.
        position: u64,
    },
    /// The file is truncated.
    #[error("the file ends at byte {position}, within <{within}>: it was cut off")]
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
    let mut first = First::default();
    for element in Reader::new(open()?) {
        first.take(element?);
    }
    let (terms, channel) = first.terms.finish();
    Ok(Items {
        total: first.items + channel.len() as u64,
        reader: Reader::new(open()?),
        channel: channel.into(),
        terms,
        index: first.index,
        language: first.language,
        ids: HashSet::new(),
        now,
    })
}

#[derive(Default)]
struct First {
    terms: terms::Collector,
    index: Index,
    language: String,
    items: u64,
}

impl First {
    fn take(&mut self, element: Element) {
        match element.name.as_str() {
            "item" => {
                self.items += 1;
                if element.get("wp:post_type") == "attachment" {
                    self.index.add(&element);
                }
            }
            "language" => element.text.trim().clone_into(&mut self.language),
            _ => self.terms.add(element),
        }
    }
}

impl<R: BufRead> Items<R> {
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
        Item { label, kind: kind.to_owned(), fate: self.fate(item, &title) }
    }

    fn fate(&mut self, item: &Element, title: &str) -> Fate {
        if let Some(reason) = self.skipped(item) {
            return Fate::Skipped(reason);
        }
        if item.damaged {
            return Fate::Failed(DAMAGED.into());
        }
        let Ok(id) = item.get("wp:post_id").parse::<u64>() else {
            return Fate::Failed("it has no post id".into());
        };
        if !self.ids.insert(id) {
            return Fate::Skipped(SkipReason::Repeated);
        }
        let site = article::Site { index: &self.index, language: &self.language };
        article::article(&site, &mut self.terms, id, title, item)
    }

    fn skipped(&self, item: &Element) -> Option<SkipReason> {
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
    const LONGEST_TITLE_BYTES: usize = 80;
    let mut label = kind.to_owned();
    if !id.is_empty() {
        label = format!("{label} {id}");
    }
    match cut(title, LONGEST_TITLE_BYTES) {
        "" => label,
        title => format!("{label} '{title}'"),
    }
}

/// Returns the text, cut to `bytes` bytes.
fn cut(text: &str, bytes: usize) -> &str {
    html::head(text, bytes).trim_end()
}

/// Returns the text, cut to its limit. If it is cut, a note reports it.
fn bounded(text: &str, limit: &Limit, what: &str, notes: &mut Vec<String>) -> String {
    let bounded = cut(text, limit.maximum as usize);
    if bounded.len() < text.len() {
        notes.push(format!("{what} cut from {} to {} bytes", text.len(), bounded.len()));
    }
    bounded.to_owned()
}

#[cfg(test)]
mod tests;
