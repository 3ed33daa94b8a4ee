//! WordPress exports (WXR 1.0 to 1.2) as records.
//!
//! The files of an export are read twice and are never in memory as a whole. The first pass reads what posts refer to
//! (authors, categories, tags, attachments) and the paths that they claim, the second reads the posts, one at a time.
//! Comments, passwords and e-mail addresses are not imported.

use std::{
    collections::{HashMap, VecDeque},
    fs::File,
    io::{self, BufRead, BufReader},
    path::PathBuf,
};

use cable_body::html;
use jiff::Timestamp;

use self::{
    authors::GUEST,
    element::Element,
    reader::Reader,
    survey::{Survey, Surveyor},
};
use crate::{
    ConvertedItem, Item, ItemOutcome, SkipReason, addresses,
    fit::{bounded, label, truncate},
    listed::{Records, record},
};

mod access;
mod article;
mod attachments;
mod authors;
mod element;
mod enclosures;
pub(crate) mod encoding;
mod footnotes;
mod languages;
mod leftovers;
mod liveblog;
mod names;
mod paths;
mod patterns;
mod reader;
mod references;
mod search;
mod site;
mod source;
mod survey;
mod terms;
mod times;

/// An error that ends the reading of an export.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read the file")]
    Read(#[from] io::Error),
    /// The file is not a WordPress export.
    #[error("not a WordPress export: {0}")]
    NotWxr(String),
    /// No file of the export has a post.
    #[error("no post in the export")]
    NoPosts,
    /// The files come from different sites, whose ids have nothing to do with each other.
    #[error(
        "the file comes from {found}, the files before it come from {expected}: import each site by itself, with a \
         prefix of its own"
    )]
    OtherSite {
        /// The address of the site of the first files.
        expected: String,
        /// The address of the site of this file.
        found: String,
    },
    /// The file is damaged so that the next element cannot be found.
    #[error("damaged: {0}")]
    Damaged(String),
    /// The file is truncated. The items before that point are imported.
    #[error("the file was cut off at byte {position}, within <{within}>")]
    Truncated {
        /// The element without an end.
        within: String,
        /// The length of the file in bytes of UTF-8.
        position: u64,
    },
}

/// An error in one file of an export.
#[derive(Debug, thiserror::Error)]
#[error("{}: {error}", file.display())]
pub struct FileError {
    /// The file.
    pub file: PathBuf,
    /// The error.
    #[source]
    pub error: Error,
}

/// The options of an import.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The time of the import. Posts that are dated later become pending versions.
    pub now: Timestamp,
    /// The prefix of the ids of articles, authors, sections and tags, which are unique within one site only; a hyphen
    /// follows it. If empty, there is none.
    pub prefix: String,
}

/// A file of an export. It is opened twice.
pub trait ExportFile {
    /// The reader of the file.
    type Input: BufRead;
    /// Returns the name of the file.
    fn path(&self) -> PathBuf;
    /// Opens the file.
    ///
    /// # Errors
    /// Fails if the file cannot be opened.
    fn open(&self) -> io::Result<Self::Input>;
}

impl ExportFile for PathBuf {
    type Input = BufReader<File>;

    fn path(&self) -> PathBuf {
        self.clone()
    }

    fn open(&self) -> io::Result<Self::Input> {
        Ok(BufReader::with_capacity(1 << 18, File::open(self)?))
    }
}

/// A name and the content of the file.
impl<'a> ExportFile for (&'a str, &'a [u8]) {
    type Input = &'a [u8];

    fn path(&self) -> PathBuf {
        self.0.into()
    }

    fn open(&self) -> io::Result<Self::Input> {
        Ok(self.1)
    }
}

/// The items of an export: sections, authors and tags first, then all others in the order of the files. An error in a
/// file ends the reading of that file only; the iterator returns the first one at its end.
pub struct Items<F: ExportFile> {
    /// The files that have not been read.
    files: VecDeque<F>,
    reader: Option<(PathBuf, Reader<F::Input>)>,
    channel: VecDeque<Item>,
    survey: Survey,
    /// The hash of the item of each post id.
    posts: HashMap<u64, u128>,
    now: Timestamp,
    total: u64,
    failure: Option<FileError>,
}

/// Reads an export from its files.
///
/// # Errors
/// Fails if a file cannot be read or is not a WordPress export, or if the files come from different sites.
pub fn read<F: ExportFile>(files: Vec<F>, options: &Options) -> Result<Items<F>, FileError> {
    let mut surveyor = Surveyor::new(&options.prefix, options.now);
    for file in &files {
        let added = file.open().map_err(Error::Read).and_then(|input| surveyor.add_file(Reader::new(input)));
        added.map_err(|error| FileError { file: file.path(), error })?;
    }
    let last = files.last().map(ExportFile::path).unwrap_or_default();
    let (survey, channel, total) = surveyor.finish().map_err(|error| FileError { file: last, error })?;
    Ok(Items {
        files: files.into(),
        reader: None,
        channel: channel.into(),
        survey,
        posts: HashMap::new(),
        now: options.now,
        total,
        failure: None,
    })
}

impl<F: ExportFile> Items<F> {
    /// Returns the source of the records: host and directory of the site. Empty if the export does not state them.
    pub fn source(&self) -> String {
        self.survey.site.address()
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
        let title = html::text(item.raw("title"));
        let label = if kind == GUEST {
            label(kind, id, &addresses::without_addresses(&title))
        } else {
            label(kind, id, &title)
        };
        let outcome = self.convert(item, &title);
        let article = id.parse().map(|id| self.survey.site.article(id)).unwrap_or_default();
        Item::of_article(label, kind, outcome, article)
    }

    fn convert(&mut self, item: &Element, title: &str) -> ItemOutcome {
        if let Some(damage) = &item.damage {
            return ItemOutcome::Failed(damage.clone());
        }
        let is_guest = item.get("wp:post_type") == GUEST && item.get("wp:status") == "publish";
        if is_guest {
            let Survey { authors, site, index, .. } = &mut self.survey;
            return authors.guest_item(site, index, item);
        }
        let visibility = match article::visibility(item, &self.survey.times, self.now) {
            Ok(visibility) => visibility,
            Err(reason) => return ItemOutcome::Skipped(reason),
        };
        let Ok(id) = item.get("wp:post_id").parse::<u64>() else {
            return ItemOutcome::Failed("no post id".into());
        };
        match self.posts.insert(id, item.hash()) {
            None => article::article(&mut self.survey, visibility, id, title, item),
            Some(other) if other == item.hash() => ItemOutcome::Skipped(SkipReason::Duplicate),
            Some(other) => {
                self.posts.insert(id, other);
                ItemOutcome::Failed(format!("another item with other content has the id {id}"))
            }
        }
    }
}

impl<F: ExportFile> Items<F> {
    /// Returns the next element of the files. Records an error and continues with the next file.
    fn next_element(&mut self) -> Option<Element> {
        loop {
            if self.reader.is_none() {
                let file = self.files.pop_front()?;
                match file.open() {
                    Ok(input) => self.reader = Some((file.path(), Reader::new(input))),
                    Err(error) => self.fail(file.path(), Error::Read(error)),
                }
            }
            let Some((file, reader)) = &mut self.reader else { continue };
            match reader.next() {
                Some(Ok(element)) => return Some(element),
                Some(Err(error)) => {
                    let file = file.clone();
                    self.fail(file, error);
                    self.reader = None;
                }
                None => self.reader = None,
            }
        }
    }

    fn fail(&mut self, file: PathBuf, error: Error) {
        self.failure.get_or_insert(FileError { file, error });
    }
}

impl<F: ExportFile> Iterator for Items<F> {
    type Item = Result<Item, FileError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(item) = self.channel.pop_front() {
            return Some(Ok(item));
        }
        while let Some(element) = self.next_element() {
            match (element.name.as_str(), &element.damage) {
                ("item", _) => return Some(Ok(self.item(&element))),
                ("wp:author" | "wp:category" | "wp:tag" | "wp:term", _) | (_, None) => {}
                (_, Some(damage)) => return Some(Ok(survey::damaged_item(&element, damage))),
            }
        }
        self.failure.take().map(Err)
    }
}

#[cfg(test)]
mod tests;
