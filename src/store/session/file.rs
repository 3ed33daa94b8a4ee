//! The session file: the identity of the database beside it, and the newest head.

use std::{fs, io, os::unix::fs::MetadataExt as _, path::Path, time::UNIX_EPOCH};

use xxhash_rust::xxh3::xxh3_64;

use crate::{digest::Hash, model::Revision, store::directory::SESSION_PREFIX};

/// The format of a session file.
const MAGIC: [u8; 8] = *b"cables-1";

/// The size of a session file in bytes: magic, id, previous id, inode, birth, revision, chain, checksum. One sector
/// holds it, so that a write of it is not torn.
pub(super) const SIZE: usize = 6 * 8 + 32 + 8;

/// The content of a session file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) id: u64,
    /// The previous session while the database may still name it, otherwise 0.
    pub(super) previous: u64,
    pub(super) database: FileId,
    /// The newest head, not synced. It can lag after a power cut, and is never ahead of the commits on disk.
    pub(super) revision: Revision,
    pub(super) chain: Hash,
}

/// The identity of a file, which distinguishes it from its copies, and survives a restart and a move within the file
/// system. The device number does not survive a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileId {
    inode: u64,
    /// The time of birth, in nanoseconds since 1970 UTC; 0 if the file system does not record it.
    birth_time: u64,
}

impl FileId {
    pub(super) fn of(path: &Path) -> io::Result<FileId> {
        let meta = fs::metadata(path)?;
        let birth_time =
            meta.created().ok().and_then(|birth_time| birth_time.duration_since(UNIX_EPOCH).ok());
        let birth_time =
            birth_time.and_then(|birth_time| u64::try_from(birth_time.as_nanos()).ok()).unwrap_or(0);
        Ok(FileId { inode: meta.ino(), birth_time })
    }

    pub(super) fn matches(self, other: FileId) -> bool {
        let has_same_birth =
            self.birth_time == other.birth_time || self.birth_time == 0 || other.birth_time == 0;
        self.inode == other.inode && has_same_birth
    }
}

impl Record {
    pub(super) fn encode(&self) -> [u8; SIZE] {
        let Record { id, previous, database: FileId { inode, birth_time }, revision, chain } = self;
        let numbers = [*id, *previous, *inode, *birth_time, *revision as u64].map(u64::to_le_bytes);
        let mut bytes = [&MAGIC[..], numbers.as_flattened(), chain].concat();
        bytes.extend(xxh3_64(&bytes).to_le_bytes());
        bytes.try_into().expect("the parts have a fixed size")
    }

    fn decode(bytes: &[u8; SIZE]) -> Option<Record> {
        let (sealed, sum) = bytes.split_last_chunk::<8>()?;
        let (numbers, chain) = sealed.split_last_chunk::<32>()?;
        let number = |index: usize| u64::from_le_bytes(std::array::from_fn(|byte| numbers[8 * index + byte]));
        let is_valid = xxh3_64(sealed).to_le_bytes() == *sum && numbers.starts_with(&MAGIC);
        is_valid.then(|| Record {
            id: number(1),
            previous: number(2),
            database: FileId { inode: number(3), birth_time: number(4) },
            revision: number(5) as Revision,
            chain: *chain,
        })
    }

    /// Returns `None` if the file is damaged or was renamed.
    pub(super) fn read(path: &Path) -> Option<Record> {
        let record = Record::decode(&fs::read(path).ok()?.try_into().ok()?)?;
        path.ends_with(record.file_name()).then_some(record)
    }

    pub(super) fn file_name(&self) -> String {
        format!("{SESSION_PREFIX}{:016x}", self.id)
    }
}
