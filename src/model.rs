//! Names, revisions and limits: the vocabulary that all other modules share. Plain values and their parsing, no I/O.

use std::fmt;

pub(crate) use cable_proto::{limit, number, path, text};

/// The number of an entry in the log's total order; 0 is before the first.
pub(crate) type Revision = i64;

/// The kinds of entity. The numbers are part of the log's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Kind {
    Article = 1,
    Author = 2,
    Section = 3,
    Tag = 4,
    Collection = 5,
}

impl Kind {
    pub(crate) const ALL: [Kind; 5] =
        [Kind::Article, Kind::Author, Kind::Section, Kind::Tag, Kind::Collection];

    /// Returns the first part of a resource name (AIP-122).
    pub(crate) fn collection(self) -> &'static str {
        match self {
            Kind::Article => "articles",
            Kind::Author => "authors",
            Kind::Section => "sections",
            Kind::Tag => "tags",
            Kind::Collection => "collections",
        }
    }

    pub(crate) fn noun(self) -> &'static str {
        match self {
            Kind::Article => "article",
            Kind::Author => "author",
            Kind::Section => "section",
            Kind::Tag => "tag",
            Kind::Collection => "collection",
        }
    }

    pub(crate) fn from_number(number: i64) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| *kind as i64 == number)
    }
}

/// The version of a name that a key of the log holds. The numbers are part of the log's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Slot {
    /// The version that readers see.
    Live = 1,
    /// The version that is not due yet.
    Pending = 2,
}

impl Slot {
    pub(crate) const ALL: [Slot; 2] = [Slot::Live, Slot::Pending];

    pub(crate) fn from_number(number: i64) -> Option<Slot> {
        Slot::ALL.into_iter().find(|slot| *slot as i64 == number)
    }
}

/// The client's id of an entity: 1 to 128 characters of `A-Z a-z 0-9 . _ ~ -`. `.` and `..` are not allowed, because in
/// a path or a file name they refer to another entry.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Id(Box<str>);

impl Id {
    pub(crate) fn parse(text: &str) -> Option<Id> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._~-".contains(&b);
        let fits = !matches!(text, "" | "." | "..") && text.len() as u64 <= limit::ID.maximum;
        (fits && text.bytes().all(allowed)).then(|| Id(text.into()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A resource name: `articles/{id}` and so on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Name {
    pub(crate) kind: Kind,
    pub(crate) id: Id,
}

impl Name {
    /// Parses a name of any kind.
    pub(crate) fn parse(text: &str) -> Option<Name> {
        let (collection, id) = text.split_once('/')?;
        let kind = Kind::ALL.into_iter().find(|kind| kind.collection() == collection)?;
        Some(Name { kind, id: Id::parse(id)? })
    }

    /// Parses a name that must be of this kind.
    pub(crate) fn parse_as(kind: Kind, text: &str) -> Option<Name> {
        Name::parse(text).filter(|name| name.kind == kind)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind.collection(), self.id)
    }
}

/// An id of one history of the log: 8 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct LogId(pub(crate) u32);

/// Returns a random number from the system's randomness.
pub(crate) fn random() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(std::process::id())
}

impl LogId {
    pub(crate) fn random() -> LogId {
        LogId(random() as u32)
    }

    pub(crate) fn parse(text: &str) -> Option<LogId> {
        let hex = text.len() == 8 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        hex.then(|| u32::from_str_radix(text, 16).ok().map(LogId)).flatten()
    }

    /// Returns the etag of the version that an entry of this log holds.
    pub(crate) fn etag(self, revision: Revision, prefix: HashPrefix) -> String {
        format!("{self}-{revision}-{:08x}", prefix.0)
    }
}

/// The first bytes of a hash of the values of an entry that readers see (`entry::hash_prefix`). In an etag it
/// distinguishes versions with the same log id and revision, which exist if a part of the history was lost and written
/// again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct HashPrefix(pub(crate) u32);

impl HashPrefix {
    pub(crate) fn of(hash: &[u8]) -> HashPrefix {
        HashPrefix(hash.first_chunk().map_or(0, |first| u32::from_be_bytes(*first)))
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_reads_back_as_written() {
        for text in
            ["articles/a", "articles/...", "authors/A.b_c~d-9", "sections/x", "tags/x", "collections/front"]
        {
            assert_eq!(Name::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn invalid_names_are_refused() {
        let long = format!("articles/{}", "a".repeat(129));
        for text in [
            "",
            "articles",
            "articles/",
            "articles/a/b",
            "articles/.",
            "articles/..",
            "articles/ä",
            "pages/a",
            "articles/a b",
            &long,
        ] {
            assert_eq!(Name::parse(text), None, "{text}");
        }
        assert!(Name::parse(&long[..long.len() - 1]).is_some());
    }

    #[test]
    fn an_etag_names_log_revision_and_content() {
        let etag = |log, revision, hash| LogId(log).etag(revision, HashPrefix::of(hash));
        assert_eq!(etag(0xbeef, 7, &[0x9d, 0x0c, 0x4e, 0x21, 0xff]), "0000beef-7-9d0c4e21");
        assert_ne!(etag(1, 7, &[1; 32]), etag(1, 7, &[2; 32]));
        assert_eq!(HashPrefix::of(&[]), HashPrefix(0));
    }

    #[test]
    fn a_log_id_is_eight_hex_digits() {
        assert_eq!(LogId::parse("0000beef").unwrap().to_string(), "0000beef");
        for text in ["", "beef", "0000BEEF", "+000beef", "0000beef0"] {
            assert_eq!(LogId::parse(text), None, "{text}");
        }
    }
}
