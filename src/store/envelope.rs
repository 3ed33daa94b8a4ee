//! The envelope of an entry, its stored form: compressed, with a checksum over its key and its content, because no
//! B-tree engine checks its values. The checksum is verified at every read.
//!
//! Layout, 16 bytes and the data: version (1), codec (0 raw, 1 zstd), dictionary (0: none), reserved (0), length of the
//! entry (4, little-endian), XXH3-64 (8, little-endian) over kind, slot, id, revision, the bytes before and the data.

use std::{cell::RefCell, io};

use bytes::Bytes;
use xxhash_rust::xxh3::Xxh3;
use zstd::bulk::{Compressor, Decompressor};

use crate::{
    entry::MAX_ENTRY,
    model::{Name, Revision, Slot},
};

const VERSION: u8 = 1;
const RAW: u8 = 0;
const ZSTD: u8 = 1;
const HEADER_BYTES: usize = 16;

/// The compression level at which bodies halve at 40 µs each; higher levels gain little.
const LEVEL: i32 = 3;

thread_local! {
    /// The compressor of a thread. Creating one costs as much as compressing a small article.
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    /// The decompressor of a thread: some 100 KB. Creating one costs more than decompressing an article.
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// A compressed entry without its checksum, which needs the revision that only the log knows.
#[derive(Debug, Clone)]
pub(crate) struct Packed {
    header: [u8; HEADER_BYTES - 8],
    data: Vec<u8>,
}

impl Packed {
    /// Returns the size of the compressed entry in bytes.
    pub(crate) fn len(&self) -> usize {
        self.data.len()
    }
}

/// The key that an entry belongs to. An entry that is sealed for one key cannot be opened under another.
pub(super) type Key<'a> = (&'a Name, Slot);

/// An error: the stored bytes are not those that were written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("checksum mismatch")]
pub(super) struct Damaged;

/// An error: the entry has more bytes than [`open`] accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("entry has {0} bytes: at most {max} are allowed", max = MAX_ENTRY.maximum)]
pub(crate) struct TooLarge(pub(crate) usize);

/// Compresses an entry. This costs some 40 µs for an article and must not run on the writer's thread.
///
/// # Errors
/// Fails if the entry could not be read again.
pub(crate) fn pack(entry: &[u8]) -> Result<Packed, TooLarge> {
    if entry.len() as u64 > MAX_ENTRY.maximum {
        return Err(TooLarge(entry.len()));
    }
    let compressed = compress(entry).ok().filter(|data| data.len() < entry.len());
    let (codec, data) = compressed.map_or_else(|| (RAW, entry.to_vec()), |data| (ZSTD, data));
    let mut header = [VERSION, codec, 0, 0, 0, 0, 0, 0];
    let length = u32::try_from(entry.len()).unwrap_or(u32::MAX);
    header[4..].copy_from_slice(&length.to_le_bytes());
    Ok(Packed { header, data })
}

fn compress(entry: &[u8]) -> io::Result<Vec<u8>> {
    COMPRESSOR.with_borrow_mut(|cached| match cached {
        Some(compressor) => compressor.compress(entry),
        empty => empty.insert(Compressor::new(LEVEL)?).compress(entry),
    })
}

/// Returns the bytes to store, with the checksum.
pub(super) fn seal(packed: &Packed, (name, slot): Key<'_>, revision: Revision) -> Vec<u8> {
    let mut stored = Vec::with_capacity(HEADER_BYTES + packed.data.len());
    stored.extend_from_slice(&packed.header);
    stored.extend_from_slice(&checksum((name, slot), revision, &packed.header, &packed.data).to_le_bytes());
    stored.extend_from_slice(&packed.data);
    stored
}

/// Returns whether the bytes are those that were sealed for this key and revision. This costs less than opening them.
pub(super) fn is_intact(stored: &[u8], key: Key<'_>, revision: Revision) -> bool {
    split(stored, key, revision).is_ok()
}

/// Returns the entry in sealed bytes.
///
/// # Errors
/// Fails if the bytes are not those that were sealed for this key and revision.
pub(super) fn open(stored: &[u8], (name, slot): Key<'_>, revision: Revision) -> Result<Bytes, Damaged> {
    let (header, data) = split(stored, (name, slot), revision)?;
    let length = header[4..].iter().rev().fold(0usize, |length, byte| length << 8 | usize::from(*byte));
    if length as u64 > MAX_ENTRY.maximum {
        return Err(Damaged);
    }
    let entry = match (header[0], header[1]) {
        (VERSION, RAW) => data.to_vec(),
        (VERSION, ZSTD) => decompress(data, length).map_err(|_| Damaged)?,
        _ => return Err(Damaged),
    };
    if entry.len() == length { Ok(entry.into()) } else { Err(Damaged) }
}

/// Decompresses data of at most `length` bytes.
fn decompress(data: &[u8], length: usize) -> io::Result<Vec<u8>> {
    DECOMPRESSOR.with_borrow_mut(|cached| match cached {
        Some(decompressor) => decompressor.decompress(data, length),
        empty => empty.insert(Decompressor::new()?).decompress(data, length),
    })
}

/// Returns the header without the checksum, and the data, if the checksum matches.
fn split<'a>(stored: &'a [u8], key: Key<'_>, revision: Revision) -> Result<(&'a [u8], &'a [u8]), Damaged> {
    let (header, rest) = stored.split_at_checked(HEADER_BYTES - 8).ok_or(Damaged)?;
    let (sum, data) = rest.split_at_checked(8).ok_or(Damaged)?;
    let matches = checksum(key, revision, header, data).to_le_bytes() == sum;
    if matches { Ok((header, data)) } else { Err(Damaged) }
}

fn checksum((name, slot): Key<'_>, revision: Revision, header: &[u8], data: &[u8]) -> u64 {
    let mut hasher = Xxh3::new();
    hasher.update(&[name.kind as u8, slot as u8]);
    hasher.update(name.id.as_str().as_bytes());
    hasher.update(&[0]);
    hasher.update(&revision.to_le_bytes());
    hasher.update(header);
    hasher.update(data);
    hasher.digest()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    #[test]
    fn a_sealed_entry_opens_unchanged() {
        for entry in [&b""[..], b"x", &[7; 100_000]] {
            let stored = seal(&pack(entry).unwrap(), (&name("articles/a"), Slot::Live), 9);
            assert_eq!(open(&stored, (&name("articles/a"), Slot::Live), 9).unwrap(), entry);
        }
    }

    #[test]
    fn an_entry_above_the_limit_is_not_packed() {
        let maximum = MAX_ENTRY.maximum as usize;
        // Text that cannot be compressed is stored as it is.
        let noise = crate::store::fixture::noise(1, maximum + 16).into_bytes();
        for largest in [vec![7; maximum], noise[..maximum].to_vec()] {
            let stored = seal(&pack(&largest).unwrap(), (&name("articles/a"), Slot::Live), 9);
            assert_eq!(open(&stored, (&name("articles/a"), Slot::Live), 9).unwrap(), largest);
        }
        for larger in [vec![7; maximum + 1], noise[..=maximum].to_vec()] {
            assert_eq!(pack(&larger).unwrap_err(), TooLarge(maximum + 1));
        }
    }

    #[test]
    fn every_flipped_bit_is_detected() {
        let packed = pack(b"the harbour was quiet, the harbour was grey").unwrap();
        let stored = seal(&packed, (&name("articles/a"), Slot::Live), 9);
        for bit in 0..stored.len() * 8 {
            let mut flipped = stored.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open(&flipped, (&name("articles/a"), Slot::Live), 9), Err(Damaged), "bit {bit}");
        }
    }

    #[test]
    fn an_entry_opens_only_under_its_own_key() {
        let stored = seal(&pack(b"text").unwrap(), (&name("articles/a"), Slot::Live), 9);
        assert_eq!(open(&stored, (&name("articles/b"), Slot::Live), 9), Err(Damaged));
        assert_eq!(open(&stored, (&name("authors/a"), Slot::Live), 9), Err(Damaged));
        assert_eq!(open(&stored, (&name("articles/a"), Slot::Pending), 9), Err(Damaged));
        assert_eq!(open(&stored, (&name("articles/a"), Slot::Live), 8), Err(Damaged));
    }
}
