//! Content from elsewhere, and Cable's own files: what other systems export becomes records, records become lines or
//! length-delimited messages and come back from them.
//!
//! This module reads and maps; it opens no connection and decides nothing that the server decides. Its invariant:
//! whatever stands in a file is accounted for, once, as an [`Item`].

use crate::wire::v1;

pub(crate) mod binary;
pub(crate) mod html;
mod ids;
pub(crate) mod jsonl;
pub(crate) mod report;
pub(crate) mod wxr;

/// One thing met in a foreign file, and what becomes of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Item {
    /// Kind, id and title, for a person: `post 1177 'Storm closes the harbour'`.
    pub(crate) label: String,
    /// The kind, as the file calls it: `post`, `page`, `attachment`, `author`, `category`, `tag`, `term`.
    pub(crate) kind: String,
    /// What becomes of it.
    pub(crate) fate: Fate,
}

/// What becomes of an item.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Fate {
    /// It is put into records.
    Taken(Taken),
    /// It is not for readers, or Cable has no place for it.
    Skipped(SkipReason),
    /// It should have been taken and cannot be; why.
    Failed(String),
}

/// The records of an item.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Taken {
    /// What it names and the file does not define comes first, the item itself last.
    pub(crate) records: Vec<v1::Record>,
    /// Number of raw_html blocks in its body.
    pub(crate) raw_html: usize,
    /// Number of places where markup was left out because nothing safe remained of it; its words are kept.
    pub(crate) dropped: usize,
    /// What was changed to fit, for a person to check.
    pub(crate) notes: Vec<String>,
}

/// Why an item is not taken although nothing is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub(crate) enum SkipReason {
    /// A file: it becomes media where a post uses it.
    #[error("attachment: kept as media of the posts that use it")]
    Attachment,
    /// Menus, styles, templates and what plug-ins add.
    #[error("post type {0}")]
    PostType(String),
    /// It is not public: `draft`, `private`, `pending`, `trash`, `auto-draft`, `inherit`.
    #[error("status {0}")]
    Status(String),
    /// Its time has not come.
    #[error("scheduled")]
    Scheduled,
    /// Readers need a password for it.
    #[error("password-protected")]
    Password,
    /// A term of a taxonomy that is neither category nor tag.
    #[error("taxonomy {0}")]
    Taxonomy(String),
    /// The file has it twice; the first one counts.
    #[error("repeated in the file")]
    Repeated,
}
