//! The versions that a file of records has of each name, to find two that contradict each other.

use std::collections::HashMap;

use cable_proto::v1::{self, RemovalReason, record::Record as Entity};
use prost::Message as _;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

/// The maximum number of names that are remembered: 40 bytes each, and one for the table, whose 2^20 places are at most
/// 7/8 full. That is 43 MiB. Contradictions between further names are not found.
const MAX_NAMES: usize = (1 << 20) / 8 * 7;

/// The versions of a file so far. Of a name and its content, hashes alone are in memory.
#[derive(Debug, Default)]
pub struct Versions {
    by_name: HashMap<Key, Version>,
}

/// The hash of a name and its slot. An export has both versions of a name: the live one, or its tombstone, and the
/// pending one. In two halves, which need no alignment to 16 bytes.
type Key = [u64; 2];

#[derive(Debug, Clone, Copy)]
struct Version {
    content: u64,
    /// The revision of the entry that wrote the version, or 0 if the file does not state it.
    revision: i64,
    /// The place of the record in the file.
    number: u64,
}

/// A record contradicts an earlier one: the names are equal, the contents are not, and nothing shows which is newer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{name}: another record of the file, {place} {number}, has this name and other content: keep one of them"
)]
pub struct Contradiction {
    /// The name of both.
    pub name: String,
    /// The unit in which the file counts records: `line` or `record`.
    pub place: &'static str,
    /// The place of the earlier record.
    pub number: u64,
}

impl Versions {
    /// Checks a record against the records before it. `number` is its place in the file, counted in the unit `place`.
    ///
    /// An export states revisions, and has a name again if it changes meanwhile: the record with another revision is
    /// another version, not a contradiction. A mention replaces nothing, and a kill always applies.
    ///
    /// # Errors
    /// The record contradicts an earlier one. If both were written, each run of the import would write both again.
    pub fn check(
        &mut self,
        record: &v1::Record,
        place: &'static str,
        number: u64,
    ) -> Result<(), Contradiction> {
        let Some((name, key, version)) = of_record(record, number) else { return Ok(()) };
        let has_room = self.by_name.len() < MAX_NAMES;
        match self.by_name.get_mut(&key) {
            Some(earlier) if earlier.content == version.content => {}
            Some(earlier) if is_other_revision(earlier.revision, version.revision) => *earlier = version,
            Some(earlier) => {
                return Err(Contradiction { name: name.to_owned(), place, number: earlier.number });
            }
            None if has_room => drop(self.by_name.insert(key, version)),
            None => {}
        }
        Ok(())
    }
}

fn is_other_revision(earlier: i64, later: i64) -> bool {
    earlier != 0 && later != 0 && earlier != later
}

/// Returns the name, the key and the version of a record that can contradict another one.
fn of_record(record: &v1::Record, number: u64) -> Option<(&str, Key, Version)> {
    if record.mentioned {
        return None;
    }
    let (slot, name, revision, content) = match record.record.as_ref()? {
        Entity::Article(article) => ("", &article.name, article.revision, article.encode_to_vec()),
        Entity::Author(author) => ("", &author.name, author.revision, author.encode_to_vec()),
        Entity::Section(section) => ("", &section.name, section.revision, section.encode_to_vec()),
        Entity::Tag(tag) => ("", &tag.name, tag.revision, tag.encode_to_vec()),
        Entity::Collection(one) => ("", &one.name, one.revision, one.encode_to_vec()),
        Entity::Tombstone(tombstone) if tombstone.reason() == RemovalReason::Killed => return None,
        Entity::Tombstone(one) => ("", &one.name, one.revision, one.encode_to_vec()),
        Entity::PendingArticle(pending) => {
            let article = pending.article.as_ref()?;
            ("pending ", &article.name, article.revision, article.encode_to_vec())
        }
    };
    let key = xxh3_128(format!("{slot}{name}").as_bytes());
    let version = Version { content: xxh3_64(&content), revision, number };
    Some((name, [key as u64, (key >> 64) as u64], version))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "articles/a";

    fn article(headline: &str, revision: i64) -> v1::Article {
        v1::Article { name: NAME.into(), headline: headline.into(), revision, ..Default::default() }
    }

    fn record(entity: Entity) -> v1::Record {
        v1::Record { record: Some(entity), ..Default::default() }
    }

    fn live(headline: &str, revision: i64) -> v1::Record {
        record(Entity::Article(article(headline, revision)))
    }

    fn tombstone(reason: RemovalReason, revision: i64) -> v1::Record {
        let name = NAME.into();
        record(Entity::Tombstone(v1::Tombstone {
            name,
            revision,
            reason: reason.into(),
            ..Default::default()
        }))
    }

    /// Returns the places, from 1, of the records that contradict an earlier one, and the place of that one.
    fn contradictions(records: &[v1::Record]) -> Vec<(u64, u64)> {
        let mut versions = Versions::default();
        let found = (1..).zip(records).filter_map(|(number, record)| {
            versions.check(record, "line", number).err().map(|earlier| (number, earlier.number))
        });
        found.collect()
    }

    #[test]
    fn another_content_of_a_name_is_a_contradiction() {
        assert_eq!(contradictions(&[live("A", 0), live("A", 0), live("B", 0), live("A", 0)]), [(3, 1)]);
        assert_eq!(contradictions(&[live("A", 7), live("B", 7), live("C", 0)]), [(2, 1), (3, 1)]);
        assert_eq!(contradictions(&[live("A", 0), tombstone(RemovalReason::Deleted, 0)]), [(2, 1)]);
        let mut versions = Versions::default();
        versions.check(&live("A", 0), "line", 4).unwrap();
        assert_eq!(
            versions.check(&live("B", 0), "line", 9).unwrap_err().to_string(),
            "articles/a: another record of the file, line 4, has this name and other content: keep one of them"
        );
    }

    /// As in an export during which the name was put, removed and put again, and in two exports that were joined.
    #[test]
    fn versions_of_other_revisions_are_no_contradiction() {
        let removed = tombstone(RemovalReason::Deleted, 9);
        assert!(
            contradictions(&[live("A", 5), live("B", 7), removed, live("C", 11), live("A", 5)]).is_empty()
        );
    }

    #[test]
    fn pending_versions_mentions_and_kills_are_no_contradiction() {
        let pending = |headline: &str| {
            let article = Some(article(headline, 6));
            record(Entity::PendingArticle(v1::PendingArticle { article, ..Default::default() }))
        };
        let mention = v1::Record { mentioned: true, ..live("C", 0) };
        let with_pending = v1::Record { has_pending: Some(true), import_source: "s".into(), ..live("A", 5) };
        let killed = tombstone(RemovalReason::Killed, 0);
        assert!(contradictions(&[live("A", 5), pending("B"), mention, with_pending, killed]).is_empty());
        assert_eq!(contradictions(&[pending("A"), pending("B")]), [(2, 1)]);
    }

    #[test]
    fn the_memory_for_names_is_bounded() {
        assert!(size_of::<(Key, Version)>() == 40);
        let mut versions = Versions::default();
        for number in 0..MAX_NAMES as u64 {
            let version = Version { content: 0, revision: 0, number };
            versions.by_name.insert([number, 0], version);
        }
        let places = versions.by_name.capacity();
        assert_eq!(places, MAX_NAMES, "the table has no free places");
        versions.check(&live("A", 0), "line", 1).unwrap();
        versions.check(&live("B", 0), "line", 2).unwrap();
        assert_eq!((versions.by_name.len(), versions.by_name.capacity()), (MAX_NAMES, places));
    }
}
