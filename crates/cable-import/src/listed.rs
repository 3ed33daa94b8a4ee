//! The authors, sections and tags that an export lists or only mentions, each once.

use std::collections::HashMap;

use prost::Message as _;
use xxhash_rust::xxh3::xxh3_64;

use crate::{ConvertedItem, ItemOutcome, SkipReason};
use cable_proto::v1::{self, record::Record as Kind};

/// The records that an export lists or mentions, by name.
#[derive(Debug, Default)]
pub(crate) struct Records {
    /// The hash of each listed record; none for a record that is only mentioned so far.
    hashes: HashMap<String, Option<u64>>,
}

impl Records {
    /// Returns the outcome of an item that lists a record. The first one of a name counts.
    pub(crate) fn item(&mut self, record: v1::Record, notes: Vec<String>) -> ItemOutcome {
        let hash = xxh3_64(&record.encode_to_vec());
        let listed = self.hashes.entry(name_of(&record)).or_default();
        match *listed {
            Some(other) if other == hash => ItemOutcome::Skipped(SkipReason::Duplicate),
            Some(_) => {
                ItemOutcome::Failed(format!("another item with other content became {}", name_of(&record)))
            }
            None => {
                *listed = Some(hash);
                ItemOutcome::Converted(ConvertedItem { records: vec![record], notes, ..Default::default() })
            }
        }
    }

    /// Returns the record at its first mention, if no item lists it.
    pub(crate) fn mention(&mut self, record: v1::Record) -> Option<v1::Record> {
        let name = name_of(&record);
        if self.hashes.contains_key(&name) {
            return None;
        }
        self.hashes.insert(name, None);
        Some(record)
    }
}

/// Returns the name of an author, a section or a tag.
pub(crate) fn name_of(record: &v1::Record) -> String {
    match &record.record {
        Some(Kind::Author(author)) => author.name.clone(),
        Some(Kind::Section(section)) => section.name.clone(),
        Some(Kind::Tag(tag)) => tag.name.clone(),
        _ => String::new(),
    }
}

/// Returns the record of an entity.
pub(crate) fn record(kind: Kind) -> v1::Record {
    v1::Record { record: Some(kind), ..Default::default() }
}
