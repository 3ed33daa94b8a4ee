//! The check of the write-ahead log before SQLite opens it. SQLite treats the first frame with a wrong checksum as the
//! end of the log, and drops the frames after it. That is right for a commit that a crash cut off, and wrong for a
//! damaged log: the commits after the damage were acknowledged. This module distinguishes the two.
//!
//! The format: <https://sqlite.org/fileformat2.html#the_write_ahead_log>.

use std::{
    fs::{self, File},
    io::{self, BufReader, ErrorKind, Read},
    path::Path,
};

use super::{DATABASE, OpenError};

const HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;

/// The header's first number, without its last bit, which states the byte order of the checksums.
const MAGIC: u32 = 0x377f_0682;

/// The result of the check of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CheckResult {
    /// All commits can be read. A commit that was cut off may follow; it was never acknowledged.
    Intact,
    /// Frames at this offset, or the header, are damaged, and commits follow.
    Damaged(u64),
}

/// Rejects a log from which SQLite would drop commits.
///
/// # Errors
/// Fails with `DamagedLog`, or if the file cannot be read.
pub(super) fn check(dir: &Path) -> Result<(), OpenError> {
    let path = dir.join(format!("{DATABASE}-wal"));
    let committed = committed(&dir.join(format!("{DATABASE}-shm")));
    let found = match File::open(&path) {
        Ok(file) => examine(BufReader::with_capacity(1 << 20, file), committed),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => Err(error),
    };
    match found.map_err(|source| OpenError::Io { path: path.clone(), source })? {
        CheckResult::Intact => Ok(()),
        CheckResult::Damaged(offset) => Err(OpenError::DamagedLog { path, offset }),
    }
}

/// The header of a log.
#[derive(Debug, Clone, Copy)]
struct Header {
    big_endian: bool,
    page: usize,
    salts: [u8; 8],
    sum: (u32, u32),
}

/// The number of committed frames, and their log, as processes on this machine last shared them in memory. After a
/// power cut they may be older than the log, never newer.
#[derive(Debug, Clone, Copy)]
struct Committed {
    frames: u64,
    salts: [u8; 8],
}

fn examine(mut log: impl Read, committed: Option<Committed>) -> io::Result<CheckResult> {
    let mut header = [0; HEADER_BYTES];
    if read(&mut log, &mut header)? < HEADER_BYTES {
        // The log was being created: it contains no commit.
        return Ok(CheckResult::Intact);
    }
    let Some(header) = Header::parse(&header) else {
        let mut rest = Vec::new();
        log.read_to_end(&mut rest)?;
        let is_blank = header.iter().chain(&rest).all(|byte| *byte == 0);
        return Ok(if is_blank { CheckResult::Intact } else { CheckResult::Damaged(0) });
    };
    let committed =
        committed.filter(|committed| committed.salts == header.salts).map_or(0, |found| found.frames);
    let mut frame = vec![0; FRAME_HEADER_BYTES + header.page];
    let (mut sum, mut valid, mut index) = (header.sum, 0_u64, 0_u64);
    // The first frame that does not follow, and the commits at or after it that claim to be of this log.
    let (mut broken, mut commits) = (None, 0);
    loop {
        let length = read(&mut log, &mut frame)?;
        if length < frame.len() {
            break;
        }
        let is_own = frame[8..16] == header.salts;
        if broken.is_none() {
            let next = header.checksum(header.checksum(sum, &frame[..8]), &frame[FRAME_HEADER_BYTES..]);
            if is_own && next == (number(&frame, 16), number(&frame, 20)) && number(&frame, 0) != 0 {
                (sum, valid) = (next, index + 1);
            } else {
                broken = Some(index);
            }
        }
        if broken.is_some() && is_own && number(&frame, 4) != 0 {
            commits += 1;
        }
        index += 1;
    }
    // One commit after the break can be the last one, which the crash cut off: its pages are written in any order.
    // Several cannot, because each is on disk before the next one starts.
    let is_lost = commits > 1 || valid < committed;
    let offset = HEADER_BYTES as u64 + broken.unwrap_or(index) * (FRAME_HEADER_BYTES + header.page) as u64;
    Ok(if is_lost { CheckResult::Damaged(offset) } else { CheckResult::Intact })
}

impl Header {
    /// Returns `None` if the header is damaged.
    fn parse(bytes: &[u8; HEADER_BYTES]) -> Option<Header> {
        let magic = number(bytes, 0);
        let page = number(bytes, 8) as usize;
        let mut header = Header { big_endian: magic & 1 == 1, page, salts: [0; 8], sum: (0, 0) };
        header.salts.copy_from_slice(&bytes[16..24]);
        header.sum = header.checksum((0, 0), &bytes[..24]);
        let is_valid = magic & !1 == MAGIC
            && header.sum == (number(bytes, 24), number(bytes, 28))
            && (512..=65_536).contains(&page)
            && page.is_power_of_two();
        is_valid.then_some(header)
    }

    /// Continues SQLite's checksum over a multiple of 8 bytes.
    fn checksum(&self, (mut one, mut two): (u32, u32), bytes: &[u8]) -> (u32, u32) {
        let order = if self.big_endian { u32::from_be_bytes } else { u32::from_le_bytes };
        for pair in bytes.chunks_exact(8) {
            one = one.wrapping_add(order([pair[0], pair[1], pair[2], pair[3]])).wrapping_add(two);
            two = two.wrapping_add(order([pair[4], pair[5], pair[6], pair[7]])).wrapping_add(one);
        }
        (one, two)
    }
}

/// Returns the content of the shared index of the log, if it is intact: the two copies of its header are equal and pass
/// their checksum. It is in the byte order of this machine.
fn committed(path: &Path) -> Option<Committed> {
    const COPY: usize = 48;
    let mut index = [0; 2 * COPY];
    File::open(path).ok()?.read_exact(&mut index).ok()?;
    let (one, two) = index.split_at(COPY);
    let native = |at: usize| u32::from_ne_bytes(std::array::from_fn(|i| one[at + i]));
    let header = Header { big_endian: cfg!(target_endian = "big"), page: 0, salts: [0; 8], sum: (0, 0) };
    let sum = header.checksum((0, 0), &one[..COPY - 8]);
    let is_valid = one == two && native(0) == 3_007_000 && one[12] == 1 && sum == (native(40), native(44));
    is_valid.then(|| Committed { frames: u64::from(native(16)), salts: std::array::from_fn(|i| one[32 + i]) })
}

fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(std::array::from_fn(|i| bytes[at + i]))
}

/// Fills a buffer as far as there is data. Returns the number of bytes read.
fn read(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(more) => filled += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Rejects an absent or empty database beside a log that is not empty: SQLite would create a new database and delete
/// the log.
///
/// # Errors
/// Fails with `OrphanLog`.
pub(super) fn check_orphan(dir: &Path) -> Result<(), OpenError> {
    let size = |name: &str| fs::metadata(dir.join(name)).map_or(0, |meta| meta.len());
    let log = format!("{DATABASE}-wal");
    if size(DATABASE) == 0 && size(&log) > 0 { Err(OpenError::OrphanLog(dir.join(log))) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{
        ReadOnlyStore,
        fixture::{apply, article, noise, open},
    };

    const PAGE_BYTES: usize = 8_192;
    const FRAME_BYTES: usize = FRAME_HEADER_BYTES + PAGE_BYTES;

    /// Returns the files of a store that was killed, with seven commits in its log.
    fn killed() -> (tempfile::TempDir, Vec<u8>) {
        let (dir, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (_store, mut writer) = open(dir.path());
        for n in 0..7 {
            apply(&mut writer, &[article(&format!("a{n}"), &noise(n, 9_000), &["t"], 1)]);
        }
        for file in fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap()) {
            fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
        }
        let log = fs::read(copy.path().join("cable.db-wal")).unwrap();
        (copy, log)
    }

    fn commits(log: &[u8]) -> Vec<usize> {
        let is_commit = |frame: &[u8]| number(frame, 4) != 0;
        let frames = log[HEADER_BYTES..].chunks_exact(FRAME_BYTES).enumerate();
        frames.filter(|(_, frame)| is_commit(frame)).map(|(index, _)| index).collect()
    }

    fn with(log: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut changed = log.to_vec();
        change(&mut changed);
        changed
    }

    fn frame(index: usize) -> usize {
        HEADER_BYTES + index * FRAME_BYTES
    }

    #[test]
    fn a_flipped_bit_in_a_committed_frame_is_damage() {
        let (dir, log) = killed();
        let shared = committed(&dir.path().join("cable.db-shm")).expect("a killed store leaves the index");
        let frames = (log.len() - HEADER_BYTES) / FRAME_BYTES;
        assert_eq!(shared.frames, frames as u64);
        assert_eq!(examine(&log[..], Some(shared)).unwrap(), CheckResult::Intact);
        for index in 0..frames {
            for at in [0, 3, 4, 8, 15, 16, 23, 24, 24 + PAGE_BYTES / 2, FRAME_BYTES - 1] {
                let damaged = with(&log, |log| log[frame(index) + at] ^= 4);
                let expected = CheckResult::Damaged(frame(index) as u64);
                assert_eq!(examine(&damaged[..], Some(shared)).unwrap(), expected, "frame {index} at {at}");
            }
        }
        for at in 0..HEADER_BYTES {
            let damaged = with(&log, |log| log[at] ^= 4);
            assert_eq!(
                examine(&damaged[..], Some(shared)).unwrap(),
                CheckResult::Damaged(0),
                "header at {at}"
            );
        }
    }

    #[test]
    fn without_the_shared_index_only_the_last_commit_is_unverified() {
        let (_dir, log) = killed();
        let commits = commits(&log);
        let last = commits[commits.len() - 2] + 1;
        for index in 0..=commits[commits.len() - 1] {
            let damaged = with(&log, |log| log[frame(index) + FRAME_HEADER_BYTES] ^= 1);
            let found = examine(&damaged[..], None).unwrap();
            assert_eq!(found == CheckResult::Intact, index >= last, "frame {index}: {found:?}");
        }
    }

    #[test]
    fn a_log_truncated_by_a_crash_is_intact() {
        let (_dir, log) = killed();
        let commits = commits(&log);
        let last = commits[commits.len() - 2] + 1;
        let shared = |frames| Committed { frames, salts: std::array::from_fn(|i| log[16 + i]) };
        // The last commit was not acknowledged: any part of it may be missing.
        for cut in [frame(last), frame(last) + 7, frame(last) + FRAME_HEADER_BYTES, log.len() - 1] {
            assert_eq!(
                examine(&log[..cut], Some(shared(last as u64))).unwrap(),
                CheckResult::Intact,
                "{cut}"
            );
        }
        let torn = with(&log, |log| log[frame(last)..frame(last + 1)].fill(0));
        assert_eq!(examine(&torn[..], Some(shared(last as u64))).unwrap(), CheckResult::Intact);
        // Frames of the log before this one, which was overwritten from its start.
        let older = with(&log, |log| {
            for index in last..(log.len() - HEADER_BYTES) / FRAME_BYTES {
                log[frame(index) + 11] ^= 1;
            }
        });
        assert_eq!(examine(&older[..], Some(shared(last as u64))).unwrap(), CheckResult::Intact);
        for creating in [&b""[..], &log[..31], &[0; 8_000]] {
            assert_eq!(examine(creating, None).unwrap(), CheckResult::Intact);
        }
        // A commit that was acknowledged must not be missing.
        assert_eq!(
            examine(&log[..frame(last)], Some(shared(last as u64 + 1))).unwrap(),
            CheckResult::Damaged(frame(last) as u64)
        );
    }

    #[test]
    fn a_damaged_log_is_refused_and_not_changed() {
        let (dir, log) = killed();
        let path = dir.path().join("cable.db-wal");
        let damaged = with(&log, |log| log[frame(1) + 99] ^= 1);
        fs::write(&path, &damaged).unwrap();
        let options = || crate::store::Options {
            dir: dir.path().to_owned(),
            readers: 1,
            reserve_bytes: 0,
            health: Default::default(),
        };
        for _ in 0..2 {
            let errors = [
                crate::store::Store::open(options(), crate::model::LogId(1)).map(drop).unwrap_err(),
                ReadOnlyStore::open(dir.path()).map(drop).unwrap_err(),
            ];
            for error in errors {
                assert!(matches!(error, OpenError::DamagedLog { .. }), "{error}");
                let text = error.to_string();
                assert!(text.contains("cable.db-wal") && text.contains("backup"), "{text}");
            }
            assert_eq!(fs::read(&path).unwrap(), damaged);
        }
        fs::write(&path, log).unwrap();
        let (store, _writer) = open(dir.path());
        assert_eq!(store.revision(), 7);
    }

    #[test]
    fn a_log_without_a_database_is_refused() {
        for empty in [true, false] {
            let (dir, _) = killed();
            let database = dir.path().join(DATABASE);
            fs::remove_file(&database).unwrap();
            if empty {
                fs::write(&database, b"").unwrap();
            }
            let options = crate::store::Options {
                dir: dir.path().to_owned(),
                readers: 1,
                reserve_bytes: 0,
                health: Default::default(),
            };
            let error = crate::store::Store::open(options, crate::model::LogId(1)).map(drop).unwrap_err();
            assert!(matches!(error, OpenError::OrphanLog(_)), "{error}");
        }
    }
}
