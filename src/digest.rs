//! Digests that identify the content of a store: a set digest to which hashes can be added and from which they can be
//! removed, the chain that links the entries of the log, and the hash of a content.

use prost_reflect::{Kind as FieldKind, MessageDescriptor};
use sha2::{Digest as _, Sha256};
use std::sync::LazyLock;

use crate::{
    model::{Kind, Name, Revision, Slot},
    wire::{POOL, fields, log::Operation, number, v1},
};

mod canonical;

pub(crate) use canonical::canonical;

/// The sha256 of an entry or of a content.
pub(crate) type Hash = [u8; 32];

/// A digest of a set of hashes: their sum modulo 2^256. Equal sets have equal digests, independent of the order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct SetDigest([u64; 4]);

impl SetDigest {
    pub(crate) fn add(&mut self, hash: &Hash) {
        let mut carry = false;
        for (sum, limb) in self.0.iter_mut().zip(limbs(hash)) {
            (*sum, carry) = sum.carrying_add_(limb, carry);
        }
    }

    pub(crate) fn remove(&mut self, hash: &Hash) {
        let mut borrow = false;
        for (sum, limb) in self.0.iter_mut().zip(limbs(hash)) {
            (*sum, borrow) = sum.borrowing_sub_(limb, borrow);
        }
    }

    pub(crate) fn to_bytes(self) -> Hash {
        let mut bytes = [0; 32];
        for (chunk, limb) in bytes.chunks_exact_mut(8).zip(self.0) {
            chunk.copy_from_slice(&limb.to_le_bytes());
        }
        bytes
    }

    pub(crate) fn from_bytes(bytes: &Hash) -> SetDigest {
        SetDigest(limbs(bytes))
    }
}

fn limbs(hash: &Hash) -> [u64; 4] {
    std::array::from_fn(|i| u64::from_le_bytes(std::array::from_fn(|j| hash[i * 8 + j])))
}

/// Addition and subtraction of one limb, with carry.
trait Limb: Sized {
    fn carrying_add_(self, other: Self, carry: bool) -> (Self, bool);
    fn borrowing_sub_(self, other: Self, borrow: bool) -> (Self, bool);
}

impl Limb for u64 {
    fn carrying_add_(self, other: u64, carry: bool) -> (u64, bool) {
        let (sum, first) = self.overflowing_add(other);
        let (sum, second) = sum.overflowing_add(u64::from(carry));
        (sum, first || second)
    }

    fn borrowing_sub_(self, other: u64, borrow: bool) -> (u64, bool) {
        let (difference, first) = self.overflowing_sub(other);
        let (difference, second) = difference.overflowing_sub(u64::from(borrow));
        (difference, first || second)
    }
}

/// Returns the hash that the log digest sums for a record with content: sha256(key, revision, entry hash).
pub(crate) fn record_hash(name: &Name, slot: Slot, revision: Revision, entry_hash: &Hash) -> Hash {
    let mut hasher = Sha256::new();
    put_key(&mut hasher, name, slot);
    hasher.update(revision.to_be_bytes());
    hasher.update(entry_hash);
    hasher.finalize().into()
}

/// Returns the next link of the chain: sha256(previous, revision, key, operation, entry hash). It proves lineage.
pub(crate) fn link(
    previous: &Hash,
    revision: Revision,
    (name, slot): (&Name, Slot),
    operation: Operation,
    entry_hash: &Hash,
) -> Hash {
    let mut hasher = Sha256::new();
    hasher.update(previous);
    hasher.update(revision.to_be_bytes());
    put_key(&mut hasher, name, slot);
    hasher.update([operation as u8]);
    hasher.update(entry_hash);
    hasher.finalize().into()
}

/// Hashes a key: kind, slot, length of the id, id.
fn put_key(hasher: &mut Sha256, name: &Name, slot: Slot) {
    let id = name.id.as_str().as_bytes();
    hasher.update([name.kind as u8, slot as u8, u8::try_from(id.len()).unwrap_or(u8::MAX)]);
    hasher.update(id);
}

/// Returns the sha256 of a name and its content in a canonical form. Contents with the same meaning have the same hash,
/// independent of the order in which their fields were received.
pub(crate) fn canonical_content(name: &Name, content: &[u8]) -> Hash {
    let mut hasher = Sha256::new();
    hasher.update(name.to_string());
    hasher.update([0]);
    hasher.update(reencode(name.kind, content));
    let descriptor = descriptor(name.kind);
    if has_unknown_fields(&descriptor, content) {
        put_unknown(&mut hasher, &descriptor, content);
    }
    hasher.finalize().into()
}

/// Returns the hash of a content together with the paths that led to its article, in any order.
pub(crate) fn with_former_paths(content: Hash, mut paths: Vec<&str>) -> Hash {
    if paths.is_empty() {
        return content;
    }
    paths.sort_unstable();
    let mut hasher = Sha256::new();
    hasher.update(content);
    for path in paths {
        hasher.update(path);
        hasher.update([0]);
    }
    hasher.finalize().into()
}

/// Hashes the fields that the schema does not know, each with the number and index of the fields that enclose it.
/// Within a message, fields are hashed in the order of their numbers. It makes one pass over the bytes: decoding by
/// reflection takes a thousand bytes of memory per message.
fn put_unknown(hasher: &mut Sha256, descriptor: &MessageDescriptor, message: &[u8]) {
    let mut fields: Vec<_> = fields::fields(message).map_while(Result::ok).collect();
    fields.sort_by_key(|field| field.number);
    let (mut number, mut index) = (0, 0_u64);
    for field in fields {
        index = if field.number == number { index + 1 } else { 0 };
        number = field.number;
        match descriptor.get_field(number).map(|known| known.kind()) {
            None => hasher.update(field.encoded),
            Some(FieldKind::Message(inner)) => {
                hasher.update(number.to_le_bytes());
                hasher.update(index.to_le_bytes());
                put_unknown(hasher, &inner, field.value);
                hasher.update([0]);
            }
            Some(_) => {}
        }
    }
}

fn reencode(kind: Kind, content: &[u8]) -> Vec<u8> {
    fn typed<M: prost::Message + Default>(content: &[u8]) -> Vec<u8> {
        // Content was decoded before it was accepted. If it is damaged, its raw bytes are hashed instead.
        M::decode(content).map_or_else(|_| content.to_vec(), |message| message.encode_to_vec())
    }
    match kind {
        Kind::Article => typed::<v1::Article>(content),
        Kind::Author => typed::<v1::Author>(content),
        Kind::Section => typed::<v1::Section>(content),
        Kind::Tag => typed::<v1::Tag>(content),
        Kind::Collection => typed::<v1::Collection>(content),
    }
}

fn descriptor(kind: Kind) -> MessageDescriptor {
    static ALL: LazyLock<[MessageDescriptor; 5]> = LazyLock::new(|| {
        Kind::ALL.map(|kind| {
            let mut name = kind.noun().to_owned();
            name[..1].make_ascii_uppercase();
            POOL.get_message_by_name(&format!("cable.v1.{name}")).expect("the schema has every kind")
        })
    });
    ALL[kind as usize - 1].clone()
}

/// Returns whether a message has fields, at any depth, that the schema does not know. A field with a known number but
/// another wire type counts as known: decoding rejects it.
pub(crate) fn has_unknown_fields(descriptor: &MessageDescriptor, message: &[u8]) -> bool {
    fields::fields(message).map_while(Result::ok).any(|field| match descriptor.get_field(field.number) {
        None => true,
        Some(known) => match known.kind() {
            FieldKind::Message(inner) => has_unknown_fields(&inner, field.value),
            _ => false,
        },
    })
}

/// Returns an entity as received without the fields that belong to the server.
pub(crate) fn content_of(kind: Kind, entity: &[u8]) -> Vec<u8> {
    let mut content = Vec::with_capacity(entity.len());
    fields::copy_if(entity, &mut content, |number| !number::is_server_field(kind, number));
    content
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_digest_ignores_order_and_removed_hashes() {
        let hashes: Vec<Hash> = (0..50u8).map(|n| Sha256::digest([n]).into()).collect();
        let mut forwards = SetDigest::default();
        hashes.iter().for_each(|hash| forwards.add(hash));
        let mut backwards = SetDigest::default();
        hashes.iter().rev().for_each(|hash| backwards.add(hash));
        assert_eq!(forwards, backwards);
        assert_eq!(SetDigest::from_bytes(&forwards.to_bytes()), forwards);
        hashes.iter().for_each(|hash| backwards.remove(hash));
        assert_eq!(backwards, SetDigest::default());
    }

    #[test]
    fn the_versions_of_a_name_differ_by_their_slot() {
        let name = Name::parse("articles/a").unwrap();
        let hash = [7; 32];
        let record = |slot| record_hash(&name, slot, 1, &hash);
        let link = |slot| link(&hash, 1, (&name, slot), Operation::Put, &hash);
        assert_ne!(record(Slot::Live), record(Slot::Pending));
        assert_ne!(link(Slot::Live), link(Slot::Pending));
    }

    #[test]
    fn a_content_hash_covers_unknown_fields_but_not_field_order() {
        let name = Name::parse("tags/a").unwrap();
        let mut one = Vec::new();
        fields::put_string(&mut one, 10, "Weather");
        fields::put_string(&mut one, 12, "Rain");
        let mut other = Vec::new();
        fields::put_string(&mut other, 12, "Rain");
        fields::put_string(&mut other, 10, "Weather");
        assert_eq!(canonical_content(&name, &one), canonical_content(&name, &other));
        fields::put_string(&mut other, 900, "later");
        assert_ne!(canonical_content(&name, &one), canonical_content(&name, &other));
    }

    #[test]
    fn former_paths_count_as_a_set() {
        let with = |paths: &[&str]| with_former_paths([7; 32], paths.to_vec());
        assert_eq!(with(&[]), [7; 32]);
        assert_eq!(with(&["/a", "/b"]), with(&["/b", "/a"]));
        let hashes = [with(&[]), with(&["/a"]), with(&["/b"]), with(&["/a", "/b"]), with(&["/a/b"])];
        assert_eq!(hashes.iter().collect::<std::collections::BTreeSet<_>>().len(), hashes.len());
    }

    #[test]
    fn an_unknown_field_is_found_at_any_depth() {
        let mut span = Vec::new();
        fields::put_string(&mut span, 99, "x");
        let mut media = Vec::new();
        fields::put_bytes(&mut media, 3, &span);
        let mut article = Vec::new();
        fields::put_string(&mut article, 11, "Storm");
        assert!(!has_unknown_fields(&descriptor(Kind::Article), &article));
        fields::put_bytes(&mut article, 16, &media);
        assert!(has_unknown_fields(&descriptor(Kind::Article), &article));
    }
}
