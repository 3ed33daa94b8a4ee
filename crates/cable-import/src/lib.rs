//! Conversion of other systems' exports into records, and of records into Cable's own files: JSON lines or
//! length-delimited messages, and back; articles as text with front matter; and the report of an import.
//!
//! This crate reads and maps. It opens no connection and repeats no decision of the server. Invariant: each thing in an
//! export is accounted for exactly once, as an [`Item`].

use std::collections::BTreeMap;

use cable_proto::v1;

mod addresses;
pub mod binary;
pub mod feed;
mod fit;
pub mod front_matter;
pub mod ghost;
mod ids;
pub mod json;
pub mod jsonl;
mod listed;
pub mod markdown;
mod piece;
pub mod references;
pub mod report;
pub mod text;
pub mod times;
pub mod versions;
mod wrong_file;
pub mod wxr;

pub use wrong_file::WrongFile;

/// One thing found in a foreign file, with its outcome.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// The kind, id and title for display: `post 1177 'Storm closes the harbour'`.
    pub label: String,
    /// The kind as the file names it: `post`, `page`, `attachment`, `author`, `category`, `tag`, `term`.
    pub kind: String,
    /// The outcome of the conversion.
    pub outcome: ItemOutcome,
    /// The name of the article that the item would be, if its source does not show it to readers; else empty. An earlier
    /// import may have made such an article, which is live until an editor removes it.
    pub hidden_article: String,
}

impl Item {
    fn new(label: String, kind: impl Into<String>, outcome: ItemOutcome) -> Self {
        Item { label, kind: kind.into(), outcome, hidden_article: String::new() }
    }

    /// Returns the item of an article with that name.
    fn of_article(label: String, kind: impl Into<String>, outcome: ItemOutcome, article: String) -> Self {
        let is_hidden = matches!(&outcome, ItemOutcome::Skipped(reason) if reason.is_hidden());
        let hidden_article = if is_hidden { article } else { String::new() };
        Item { hidden_article, ..Item::new(label, kind, outcome) }
    }
}

/// The outcome of an item.
#[derive(Debug, Clone, PartialEq)]
pub enum ItemOutcome {
    /// The item is converted into records.
    Converted(ConvertedItem),
    /// The item is not meant for readers, or Cable has no equivalent for it.
    Skipped(SkipReason),
    /// The item should be converted and cannot be. The text is the cause.
    Failed(String),
}

/// The records of an item.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ConvertedItem {
    /// The authors, sections and tags that the item names and the file does not list, with nothing but a name. They are
    /// written before the item, and only where the store has none of that name.
    pub mentions: Vec<v1::Record>,
    /// The records of the item itself.
    pub records: Vec<v1::Record>,
    /// The number of raw_html blocks in the body.
    pub raw_html: usize,
    /// The number of places where markup was removed because no safe markup remained. The words there are preserved.
    pub dropped: usize,
    /// Changes that were made so that the item fits, for an editor to check.
    pub notes: Vec<String>,
    /// The number of parts of the item that have no place in a record, by kind: `comments`, `custom field _edit_last`.
    pub not_imported: BTreeMap<String, u64>,
}

impl SkipReason {
    /// Returns whether the source does not show the item to its readers, and can have shown it before.
    #[must_use]
    pub fn is_hidden(&self) -> bool {
        matches!(
            self,
            SkipReason::Status(_)
                | SkipReason::OnlyMail
                | SkipReason::Deleted
                | SkipReason::ScheduledWithoutTime
                | SkipReason::Password
                | SkipReason::Expired
        )
    }
}

/// The reason to skip an item that has no fault.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum SkipReason {
    /// An attachment is a file. It becomes media where a post uses it.
    #[error("attachment: becomes media of the posts that use it")]
    Attachment,
    /// A menu, a style, a template or a post type that a plug-in adds.
    #[error("post type {0}")]
    PostType(String),
    /// The post is not public: `draft`, `private`, `pending`, `trash`, `auto-draft`, `inherit`.
    #[error("status {0}")]
    Status(String),
    /// The post is scheduled, and its time is missing or cannot be read.
    #[error("scheduled without a time")]
    ScheduledWithoutTime,
    /// The post is for a newsletter, and not for the site.
    #[error("only for mail: not shown on the site")]
    OnlyMail,
    /// Readers need a password for the post.
    #[error("password-protected")]
    Password,
    /// The term belongs to a taxonomy that is neither category nor tag.
    #[error("taxonomy {0}")]
    Taxonomy(String),
    /// The expiry of the article has passed.
    #[error("expired")]
    Expired,
    /// A file without text for readers, named by its extension.
    #[error("not Markdown: {0}")]
    NotMarkdown(String),
    /// A page of HTML without front matter: a template or a part of the site.
    #[error("HTML without front matter")]
    PlainHtml,
    /// A page that lists other pages, such as `_index.md`.
    #[error("list page: readers see the articles that it lists")]
    ListPage,
    /// A symbolic link, which is never followed. A target within the directory is imported itself.
    #[error("symbolic link: not followed")]
    SymbolicLink,
    /// A hidden file or directory, or one of a package manager.
    #[error("hidden, or not content")]
    Hidden,
    /// The file contains the same item twice. The first one is converted.
    #[error("duplicate in the file")]
    Duplicate,
    /// A feed states that the item is deleted. An import removes nothing.
    #[error("deleted in the feed: an import removes nothing; delete or kill the article")]
    Deleted,
    /// The file contains another version of the same item, which is newer or comes first.
    #[error("other version of an item that is in the file")]
    OtherVersion,
}
