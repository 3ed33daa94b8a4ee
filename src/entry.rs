//! The log entry: its durable encoding, its hash, and the lists, paths and digests that are derived from it.
//!
//! The derived values are a function of the entry alone. They are computed once, when an entry is created or received,
//! never in the writer's transaction.

use bytes::Bytes;
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::{
    digest::{self, Hash, canonical_content},
    model::{
        HashPrefix, Id, Kind, Name, Revision, Slot,
        limit::{self, Limit},
        path,
    },
    wire::{
        fields,
        log::{self, PendingBase},
        number::article,
        v1,
    },
};

mod page;

pub(crate) use page::SitePage;

/// The format version that this release writes. It also reads the one before, whose entries have a content hash without
/// former paths.
const FORMAT_VERSION: u32 = 2;
const FORMAT_WITHOUT_PATHS: u32 = 1;

/// The largest encoded entry, in bytes. No request reaches it: a change that would is rejected, because the store reads
/// nothing larger.
pub(crate) const MAX_ENTRY: Limit = Limit { name: "entry_bytes", maximum: 2 << 20 };

/// The maximum number of departures of one article, and their maximum encoded size in bytes. Each write of the article
/// encodes and stores all of them, and each feed that reads it compares them with its filter.
pub(crate) const MAX_DEPARTURES: usize = 1_024;
pub(crate) const MAX_DEPARTURE_BYTES: usize = 128 << 10;

/// The maximum size of one departure in bytes: `sections/`, an id, a revision, and the keys and lengths of the fields.
const DEPARTURE_BYTES: u64 = 9 + limit::ID.maximum + 16;

/// All departures of one entry are known, however many older ones are dropped.
const _: () = {
    let terms = limit::TAGS.maximum + 1 + limit::ADDITIONAL_SECTIONS.maximum + limit::CREDITS.maximum;
    assert!(terms <= MAX_DEPARTURES as u64 && terms * DEPARTURE_BYTES <= MAX_DEPARTURE_BYTES as u64);
};

/// The parts of an entry that have limits of their own fit into one entry; 4 KiB are for names, times and numbers.
const _: () = {
    let former_paths = limit::ALIAS_PATHS.maximum * (limit::PATH.maximum + limit::ID.maximum + 32);
    let parts = limit::ARTICLE.maximum + former_paths + MAX_DEPARTURE_BYTES as u64 + (4 << 10);
    assert!(parts <= MAX_ENTRY.maximum);
};

/// One change of one key, ready to be appended.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) name: Name,
    pub(crate) slot: Slot,
    pub(crate) log: log::LogEntry,
    /// The encoded entry: the same bytes in every engine.
    pub(crate) bytes: Bytes,
    /// The sha256 of `bytes`.
    pub(crate) hash: Hash,
    pub(crate) derived: Derived,
}

/// The values derived from an entry for lists, paths, digests and the scheduler.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Derived {
    /// Whether the entry holds content.
    pub(crate) live: bool,
    /// Articles: the sort key in lists, in microseconds since 1970 UTC.
    pub(crate) time: i64,
    /// Articles: the lists that contain the article. Sorted, without duplicates.
    pub(crate) terms: Vec<Term>,
    /// Articles: the paths that lead to the article, in normal form, each with its claim. Sorted, without duplicates.
    pub(crate) paths: Vec<(String, Claim)>,
    /// Articles: the lists that feeds can follow and that the article has left, each with the revision; 0 is the
    /// revision of this entry. Sorted, without duplicates.
    pub(crate) departures: Vec<(Term, Revision)>,
    /// The revision at or below which departures are unknown. If 0, `departures` contains all departures within the
    /// history.
    pub(crate) departure_floor: Revision,
    /// The sha256 of name, canonical content and former paths, for content that readers see.
    pub(crate) content_hash: Option<Hash>,
    /// The time at which a pending version becomes visible or a live article expires, in microseconds since 1970 UTC.
    pub(crate) due: Option<i64>,
    /// For a pending version, the live revision that it is based on; 0 if there was none, or if it is based on the live
    /// version of an import; `None` if it is held in any case. For a live version, 0 if an import wrote it. For a
    /// tombstone, the revision that expired.
    pub(crate) base: Option<Revision>,
    /// For a pending version, its own path in normal form.
    pub(crate) wanted_path: Option<String>,
    /// The encoded [`SitePage`] of an article that readers see, if it has a path.
    pub(crate) page: Option<Vec<u8>>,
}

/// The reason why a path leads to an article. If several articles claim a path, it leads to the one with the greatest
/// claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Claim {
    /// The path led to the article until this time, and the article was removed.
    Removed(i64),
    /// The path was the article's own path until this time.
    Former(i64),
    /// The article lists the path in `alias_paths`.
    Alias,
    /// The path is the article's own path.
    Own,
}

impl Claim {
    /// Returns the claim as the store orders it: its rank, and the order among claims of one rank. Larger values win.
    pub(crate) fn order(self, revision: Revision) -> (i64, i64) {
        match self {
            Claim::Removed(time) => (Claim::REMOVED, time),
            Claim::Former(time) => (1, time),
            // Between two aliases the order of the writes does not matter.
            Claim::Alias => (2, 0),
            Claim::Own => (Claim::OWN, revision),
        }
    }

    /// The rank of a path of a removed article.
    pub(crate) const REMOVED: i64 = 0;

    /// The rank of an own path.
    pub(crate) const OWN: i64 = 3;
}

/// The time from which readers may see a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Release {
    /// The version has no release time.
    Immediate,
    /// The version is released at this time, in microseconds since 1970 UTC.
    At(i64),
    /// The version is not released until another put.
    OnPut,
}

impl Release {
    /// Returns the release of an article: at the later of `publish_time` and the end of its embargo.
    pub(crate) fn of(publish_time: Option<i64>, embargo: Option<&v1::Embargo>) -> Release {
        let Some(embargo) = embargo else { return publish_time.map_or(Release::Immediate, Release::At) };
        match embargo.until.as_ref().map(fields::micros) {
            Some(until) => Release::At(publish_time.map_or(until, |time| time.max(until))),
            None => Release::OnPut,
        }
    }

    /// Returns whether the version waits for its release.
    pub(crate) fn is_pending(self, now: i64) -> bool {
        match self {
            Release::Immediate => false,
            Release::At(time) => time > now,
            Release::OnPut => true,
        }
    }
}

/// A list that articles belong to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Term {
    /// The list of all articles.
    All,
    Tag(Id),
    Section(Id),
    Author(Id),
    Type(i32),
    /// A language tag in lower case.
    Language(String),
}

impl Term {
    /// Returns the stored form of the term: the number of its kind, which never changes, and its value.
    pub(crate) fn parts(&self) -> (i64, String) {
        match self {
            Term::All => (0, String::new()),
            Term::Tag(id) => (1, id.to_string()),
            Term::Section(id) => (2, id.to_string()),
            Term::Author(id) => (3, id.to_string()),
            Term::Type(number) => (4, number.to_string()),
            Term::Language(language) => (5, language.clone()),
        }
    }

    /// Returns a number that stands for the term in a [`SitePage`]. It never changes.
    pub(crate) fn fingerprint(&self) -> u64 {
        let (kind, value) = self.parts();
        xxh3_64_with_seed(value.as_bytes(), kind.cast_unsigned())
    }

    /// Returns the term for a stored form that [`Term::parts`] returned.
    pub(crate) fn from_parts(kind: i64, value: &str) -> Option<Term> {
        Some(match kind {
            0 => Term::All,
            1 => Term::Tag(Id::parse(value)?),
            2 => Term::Section(Id::parse(value)?),
            3 => Term::Author(Id::parse(value)?),
            4 => Term::Type(value.parse().ok()?),
            5 => Term::Language(value.to_owned()),
            _ => return None,
        })
    }

    /// Returns the term for a name in a departure of an entry.
    pub(crate) fn from_name(name: &str) -> Option<Term> {
        let Name { kind, id } = Name::parse(name)?;
        match kind {
            Kind::Tag => Some(Term::Tag(id)),
            Kind::Section => Some(Term::Section(id)),
            Kind::Author => Some(Term::Author(id)),
            Kind::Article | Kind::Collection => None,
        }
    }

    /// Returns the length of the term's id in bytes.
    pub(crate) fn id_len(&self) -> usize {
        match self {
            Term::Tag(id) | Term::Section(id) | Term::Author(id) => id.as_str().len(),
            Term::All | Term::Type(_) | Term::Language(_) => 0,
        }
    }

    /// Returns the name that an entry records for a departure, for the terms that feeds can follow.
    pub(crate) fn name(&self) -> Option<String> {
        let (kind, id) = match self {
            Term::Tag(id) => (Kind::Tag, id),
            Term::Section(id) => (Kind::Section, id),
            Term::Author(id) => (Kind::Author, id),
            Term::All | Term::Type(_) | Term::Language(_) => return None,
        };
        Some(Name { kind, id: id.clone() }.to_string())
    }
}

/// The reason why bytes are not a valid entry.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("log entry cannot be decoded")]
    Undecodable(#[from] prost::DecodeError),
    #[error("unsupported format {0} of a log entry: this release reads up to {FORMAT_VERSION}")]
    Format(u32),
    #[error("log entry without a valid key")]
    Key,
}

/// Returns the first bytes of a hash of the values of an entry that readers see. The entry hash is not used: it covers
/// the size of the commit, which differs where a pending version became visible.
pub(crate) fn hash_prefix(log: &log::LogEntry) -> HashPrefix {
    let kind = log.time.unsigned_abs() ^ u64::from(log.reason.unsigned_abs()) << 56;
    let seed = xxh3_64_with_seed(log.moved_to.as_bytes(), kind);
    HashPrefix::of(&xxh3_64_with_seed(&log.content, seed).to_be_bytes())
}

impl Entry {
    /// Encodes an entry that this node creates.
    pub(crate) fn new(name: Name, slot: Slot, mut log: log::LogEntry) -> Entry {
        log.format = FORMAT_VERSION;
        log.key = Some(log::Key { kind: name.kind as i32, slot: slot as i32, id: name.id.to_string() });
        let bytes = Bytes::from(log.encode_to_vec());
        Entry::with_derived(name, slot, log, bytes)
    }

    /// Reads an entry from the bytes that an engine stored.
    pub(crate) fn decode(bytes: Bytes) -> Result<Entry, Malformed> {
        let log = log::LogEntry::decode(bytes.clone())?;
        if !(FORMAT_WITHOUT_PATHS..=FORMAT_VERSION).contains(&log.format) {
            return Err(Malformed::Format(log.format));
        }
        let key = log.key.as_ref().ok_or(Malformed::Key)?;
        let kind = Kind::from_number(i64::from(key.kind)).ok_or(Malformed::Key)?;
        let slot = Slot::from_number(i64::from(key.slot)).ok_or(Malformed::Key)?;
        let id = Id::parse(&key.id).ok_or(Malformed::Key)?;
        Ok(Entry::with_derived(Name { kind, id }, slot, log, bytes))
    }

    fn with_derived(name: Name, slot: Slot, log: log::LogEntry, bytes: Bytes) -> Entry {
        let hash = Sha256::digest(&bytes).into();
        let derived = match slot {
            Slot::Live => Derived::of(&name, &log),
            Slot::Pending => Derived::pending(&log),
        };
        Entry { name, slot, log, bytes, hash, derived }
    }
}

/// Returns the hash that the content digest sums for an entry that readers see.
pub(crate) fn content_hash(name: &Name, log: &log::LogEntry) -> Hash {
    let content = canonical_content(name, &log.content);
    if log.format == FORMAT_WITHOUT_PATHS {
        return content;
    }
    digest::with_former_paths(content, log.former_paths.iter().map(|former| &*former.path).collect())
}

impl Derived {
    fn of(name: &Name, log: &log::LogEntry) -> Derived {
        let derived = Derived::of_lists(name, log);
        let content_hash = derived.live.then(|| content_hash(name, log));
        let page = SitePage::of(log, &derived.terms).filter(|_| name.kind == Kind::Article);
        Derived { content_hash, page: page.map(|page| page.encode_to_vec()), ..derived }
    }

    /// Derives the values of a pending version. It belongs to no list, has no path and no content hash: only a due
    /// time.
    pub(crate) fn pending(log: &log::LogEntry) -> Derived {
        let live = log.operation() == log::Operation::Put;
        let due = match release_of(&log.content) {
            // Such a version is put into the live slot. Here, it would be due at once.
            Release::Immediate => Some(log.time),
            Release::At(time) => Some(time),
            Release::OnPut => None,
        };
        let due = due.filter(|_| live);
        let is_held =
            log.import.as_ref().is_some_and(|import| import.pending_base() == PendingBase::Superseded);
        let base = Some(log.base_revision).filter(|_| live && !is_held);
        let wanted_path = own_path(&log.content).filter(|_| live).map(|own| path::normalise(&own));
        Derived { live, due, base, wanted_path, ..Derived::default() }
    }

    /// Returns the sort key in lists alone.
    pub(crate) fn time(name: &Name, log: &log::LogEntry) -> i64 {
        match name.kind {
            Kind::Article => publish_time(&log.content).unwrap_or(log.first_publish_time),
            _ => 0,
        }
    }

    /// Derives everything but the content hash and the page, which only the store needs. The hash costs more than the
    /// rest.
    pub(crate) fn of_lists(name: &Name, log: &log::LogEntry) -> Derived {
        let live = log.operation() == log::Operation::Put;
        let mut derived = Derived { live, ..Derived::default() };
        if name.kind == Kind::Article {
            derived.base = match live {
                true => log.import.as_ref().map(|_| 0),
                false => Some(log.base_revision).filter(|base| *base != 0),
            };
            derived.time = log.first_publish_time;
            let claim = if live { Claim::Former } else { Claim::Removed };
            let former = log
                .former_paths
                .iter()
                .map(|former| (path::normalise(&former.path), claim(former.cease_time)));
            derived.paths.extend(former);
            let departure =
                |departure: &log::Departure| Some((Term::from_name(&departure.name)?, departure.revision));
            derived.departures.extend(log.departures.iter().filter_map(departure));
            derived.departures.sort_unstable();
            derived.departures.dedup_by(|a, b| a.0 == b.0);
            derived.departure_floor = log.departure_floor;
            if live {
                derived.read_article(&log.content);
            }
            // Keep the greatest of several claims on one path, which is sorted last.
            derived.paths.sort_unstable();
            derived.paths.reverse();
            derived.paths.dedup_by(|a, b| a.0 == b.0);
            derived.paths.reverse();
        }
        derived
    }

    fn read_article(&mut self, content: &[u8]) {
        let mut kind = v1::ArticleType::Article as i32;
        self.terms.push(Term::All);
        for field in fields::fields(content).map_while(Result::ok) {
            let text = || String::from_utf8_lossy(field.value);
            match field.number {
                article::TYPE => kind = read_varint(field.value).unwrap_or(kind),
                article::BYLINE => self.terms.extend(author_terms(field.value)),
                article::SECTION | article::ADDITIONAL_SECTIONS => {
                    self.terms.extend(id_of(Kind::Section, &text()).map(Term::Section));
                }
                article::TAGS => self.terms.extend(id_of(Kind::Tag, &text()).map(Term::Tag)),
                article::ALIAS_PATHS => self.paths.push((path::normalise(&text()), Claim::Alias)),
                article::LANGUAGE => self.terms.push(Term::Language(text().to_lowercase())),
                article::PUBLISH_TIME => {
                    self.time = read_time(field.value).unwrap_or(self.time);
                }
                article::EXPIRE_TIME => self.due = read_time(field.value),
                _ => {}
            }
        }
        self.terms.push(Term::Type(if kind == 0 { v1::ArticleType::Article as i32 } else { kind }));
        self.terms.retain(|term| !matches!(term, Term::Language(language) if language.is_empty()));
        self.terms.sort_unstable();
        self.terms.dedup();
        self.paths.extend(own_path(content).map(|own| (path::normalise(&own), Claim::Own)));
    }

    /// Returns the names of the lists that feeds can follow and that contain this article.
    pub(crate) fn followed_lists(&self) -> impl Iterator<Item = String> + '_ {
        self.terms.iter().filter_map(Term::name)
    }

    /// Returns the article's own path, in normal form.
    pub(crate) fn own_path(&self) -> Option<&str> {
        self.paths.iter().find(|(_, claim)| *claim == Claim::Own).map(|(path, _)| path.as_str())
    }
}

fn id_of(kind: Kind, name: &str) -> Option<Id> {
    Name::parse_as(kind, name).map(|name| name.id)
}

fn author_terms(byline: &[u8]) -> Vec<Term> {
    let byline = v1::Byline::decode(byline).unwrap_or_default();
    let authors = byline.credits.iter().filter_map(|credit| id_of(Kind::Author, &credit.author));
    authors.map(Term::Author).collect()
}

/// Returns the own path in an article's content, as the client spelled it.
pub(crate) fn own_path(content: &[u8]) -> Option<String> {
    let path = fields::last(content, article::PATH).filter(|path| !path.is_empty())?;
    Some(String::from_utf8_lossy(path).into_owned())
}

/// Returns the `publish_time` in an article's content, in microseconds since 1970 UTC.
pub(crate) fn publish_time(content: &[u8]) -> Option<i64> {
    fields::last(content, article::PUBLISH_TIME).and_then(read_time)
}

/// Returns the `expire_time` in an article's content, in microseconds since 1970 UTC.
pub(crate) fn expire_time(content: &[u8]) -> Option<i64> {
    fields::last(content, article::EXPIRE_TIME).and_then(read_time)
}

fn release_of(content: &[u8]) -> Release {
    let embargo = fields::last(content, article::EMBARGO);
    let embargo = embargo.map(|embargo| v1::Embargo::decode(embargo).unwrap_or_default());
    Release::of(publish_time(content), embargo.as_ref())
}

fn read_time(value: &[u8]) -> Option<i64> {
    prost_types::Timestamp::decode(value).ok().as_ref().map(fields::micros)
}

fn read_varint(mut value: &[u8]) -> Option<i32> {
    // An enum is an int32. A negative one is sign-extended to 64 bits, hence the truncation.
    prost::encoding::decode_varint(&mut value).ok().map(|number| number as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn article(content: &v1::Article) -> Entry {
        let log = log::LogEntry {
            operation: log::Operation::Put as i32,
            first_publish_time: 5,
            content: content.encode_to_vec().into(),
            ..Default::default()
        };
        Entry::new(Name::parse("articles/a").unwrap(), Slot::Live, log)
    }

    #[test]
    fn an_entry_reads_back_as_written() {
        let entry = article(&v1::Article { headline: "Storm".into(), ..Default::default() });
        let back = Entry::decode(entry.bytes.clone()).unwrap();
        assert_eq!((back.name, back.hash, back.derived), (entry.name, entry.hash, entry.derived));
    }

    #[test]
    fn an_entry_of_a_later_format_is_refused() {
        let mut log = article(&v1::Article::default()).log;
        for format in [0, 3] {
            log.format = format;
            let decoded = Entry::decode(log.encode_to_vec().into());
            assert!(matches!(decoded, Err(Malformed::Format(found)) if found == format));
        }
    }

    #[test]
    fn former_paths_change_the_content_hash_since_format_2() {
        let plain = article(&v1::Article { headline: "Storm".into(), ..Default::default() });
        let mut moved = plain.log.clone();
        moved.former_paths.push(log::FormerPath { path: "/old".into(), ..Default::default() });
        let hash =
            |log: &log::LogEntry| Entry::decode(log.encode_to_vec().into()).unwrap().derived.content_hash;
        assert_ne!(hash(&moved), plain.derived.content_hash);
        moved.format = 1;
        assert_eq!(hash(&moved), plain.derived.content_hash);
    }

    #[test]
    fn an_imported_version_is_marked_for_pending_versions() {
        let base = |slot, base_revision, import: Option<PendingBase>| {
            let log = log::LogEntry {
                operation: log::Operation::Put as i32,
                base_revision,
                import: import.map(|base| log::Import { pending_base: base as i32, ..Default::default() }),
                ..Default::default()
            };
            Entry::new(Name::parse("articles/a").unwrap(), slot, log).derived.base
        };
        assert_eq!(base(Slot::Live, 0, None), None);
        assert_eq!(base(Slot::Live, 0, Some(PendingBase::Unspecified)), Some(0));
        assert_eq!(base(Slot::Pending, 7, None), Some(7));
        assert_eq!(base(Slot::Pending, 7, Some(PendingBase::Unspecified)), Some(7));
        assert_eq!(base(Slot::Pending, 0, Some(PendingBase::Imported)), Some(0));
        assert_eq!(base(Slot::Pending, 0, Some(PendingBase::Superseded)), None);
    }

    #[test]
    fn a_pending_version_derives_only_its_due_time() {
        let time = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        let pending = |publish_time, embargo, operation| {
            let article = v1::Article {
                path: "/a".into(),
                tags: vec!["tags/t".into()],
                publish_time,
                embargo,
                ..Default::default()
            };
            let log = log::LogEntry {
                operation: operation as i32,
                content: article.encode_to_vec().into(),
                ..Default::default()
            };
            Entry::new(Name::parse("articles/a").unwrap(), Slot::Pending, log)
        };
        let until = |until| Some(v1::Embargo { until, ..Default::default() });
        let due = |publish_time, embargo| pending(publish_time, embargo, log::Operation::Put).derived.due;
        assert_eq!(due(time(5), None), Some(5_000_000));
        assert_eq!(due(time(5), until(time(7))), Some(7_000_000));
        assert_eq!(due(time(9), until(time(7))), Some(9_000_000));
        assert_eq!(due(time(9), until(None)), None);
        let entry = pending(time(5), None, log::Operation::Put);
        let (due, wanted_path) = (Some(5_000_000), Some("/a".into()));
        let expected = Derived { live: true, due, base: Some(0), wanted_path, ..Derived::default() };
        assert_eq!(entry.derived, expected);
        assert_eq!(Entry::decode(entry.bytes.clone()).unwrap().slot, Slot::Pending);
        assert_eq!(pending(time(5), None, log::Operation::Remove).derived, Derived::default());
    }

    #[test]
    fn a_live_article_is_due_when_it_expires() {
        let expire_time = Some(prost_types::Timestamp { seconds: 8, nanos: 1_999 });
        let entry = article(&v1::Article { expire_time, ..Default::default() });
        assert_eq!(entry.derived.due, Some(8_000_001));
        assert_eq!(article(&v1::Article::default()).derived.due, None);
    }

    #[test]
    fn a_path_leads_to_an_article_once_by_its_greatest_claim() {
        let former =
            |path: &str, cease_time| log::FormerPath { path: path.into(), cease_time, ..Default::default() };
        let mut log = article(&v1::Article {
            path: "/own/%e9".into(),
            alias_paths: vec!["/alias".into(), "/own/%E9".into(), "/ali%61s".into()],
            ..Default::default()
        })
        .log;
        log.former_paths = vec![former("/former", 3), former("/%66ormer", 5), former("/alias", 7)];
        let claims = |log: &log::LogEntry| Derived::of_lists(&Name::parse("articles/a").unwrap(), log).paths;
        let expected = [("/alias", Claim::Alias), ("/former", Claim::Former(5)), ("/own/%E9", Claim::Own)];
        assert_eq!(claims(&log), expected.map(|(path, claim)| (path.to_owned(), claim)));
        log.operation = log::Operation::Remove as i32;
        let expected = [("/alias", Claim::Removed(7)), ("/former", Claim::Removed(5))];
        assert_eq!(claims(&log), expected.map(|(path, claim)| (path.to_owned(), claim)));
    }

    #[test]
    fn an_article_is_in_each_list_once() {
        let id = |text| Id::parse(text).unwrap();
        let credit = |author: &str| v1::Credit { author: author.into(), ..Default::default() };
        let entry = article(&v1::Article {
            section: "sections/world".into(),
            additional_sections: vec!["sections/world".into(), "sections/sea".into()],
            tags: vec!["tags/russia".into()],
            byline: Some(v1::Byline {
                credits: vec![credit("authors/ann"), credit("")],
                ..Default::default()
            }),
            language: "en-GB".into(),
            ..Default::default()
        });
        let expected = vec![
            Term::All,
            Term::Tag(id("russia")),
            Term::Section(id("sea")),
            Term::Section(id("world")),
            Term::Author(id("ann")),
            Term::Type(1),
            Term::Language("en-gb".into()),
        ];
        assert_eq!(entry.derived.terms, expected);
        assert_eq!(entry.derived.time, 5);
    }
}
