//! A disk as a recorded program left it: the content that is certain, the changes that a power cut can lose, and images
//! of the disk after a power cut.
//!
//! The model: a sync of a file makes its earlier writes and lengths durable, and nothing else. A sync of the directory
//! makes its names durable. Of later writes any part may be on the disk, in units of 512 bytes. Of later changes of
//! names the first ones may be on the disk, in their order, as in every file system with a journal.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use crate::dice::Rng;

/// The unit in which a disk writes.
const SECTOR_BYTES: usize = 512;

/// One recorded call.
#[derive(Debug, Clone)]
pub(crate) enum Call<'a> {
    Create { file: u64, name: &'a str },
    Write { file: u64, at: usize, bytes: &'a [u8] },
    Truncate { file: u64, length: usize },
    Sync { file: u64 },
    SyncDirectory,
    Rename { from: &'a str, to: &'a str },
    Remove { name: &'a str },
}

/// A recorded call and the length of the trace with it.
#[derive(Debug, Clone)]
pub(crate) struct Entry<'a> {
    pub(crate) call: Call<'a>,
    pub(crate) end: u64,
}

/// Returns the entries of a trace, whose format `recorder.c` defines.
pub(crate) fn entries(trace: &[u8]) -> Vec<Entry<'_>> {
    let (mut entries, mut rest) = (Vec::new(), trace);
    while let Some((head, after)) = rest.split_at_checked(32) {
        let number = |index: usize| u64::from_ne_bytes(head[8 * index..][..8].try_into().unwrap());
        let (bytes, after) = after.split_at(number(3) as usize);
        let (file, at, name) = (number(1), number(2) as usize, std::str::from_utf8(bytes));
        let call = match number(0) as u8 {
            b'c' => Call::Create { file, name: name.unwrap() },
            b'w' => Call::Write { file, at, bytes },
            b't' => Call::Truncate { file, length: at },
            b's' => Call::Sync { file },
            b'd' => Call::SyncDirectory,
            b'r' => {
                let (from, to) = name.unwrap().split_once('/').unwrap();
                Call::Rename { from, to }
            }
            b'u' => Call::Remove { name: name.unwrap() },
            other => panic!("the recorder writes no entry {other}"),
        };
        rest = after;
        entries.push(Entry { call, end: (trace.len() - rest.len()) as u64 });
    }
    assert!(rest.is_empty(), "the trace ends within an entry");
    entries
}

/// A change of a file that is not synced.
#[derive(Debug, Clone)]
enum Change<'a> {
    Write { at: usize, bytes: &'a [u8] },
    Truncate(usize),
}

#[derive(Debug, Clone, Default)]
struct File<'a> {
    synced: Vec<u8>,
    pending: Vec<Change<'a>>,
}

/// A change of a name that is not synced.
#[derive(Debug, Clone)]
enum NameChange<'a> {
    Add(&'a str, usize),
    Rename(&'a str, &'a str),
    Remove(&'a str),
}

/// The files of an image by their names.
pub(crate) type Image = BTreeMap<String, Vec<u8>>;

/// The disk after some of the recorded calls.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk<'a> {
    files: Vec<File<'a>>,
    inodes: HashMap<u64, usize>,
    names: BTreeMap<String, usize>,
    pending: Vec<NameChange<'a>>,
}

impl<'a> Disk<'a> {
    /// Returns a disk on which the files of a directory are durable.
    pub(crate) fn of(dir: &Path) -> Disk<'a> {
        let mut disk = Disk::default();
        for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
            disk.inodes.insert(entry.metadata().unwrap().ino(), disk.files.len());
            disk.names.insert(entry.file_name().into_string().unwrap(), disk.files.len());
            disk.files.push(File { synced: fs::read(entry.path()).unwrap(), pending: Vec::new() });
        }
        disk
    }

    pub(crate) fn apply(&mut self, call: &Call<'a>) {
        match *call {
            Call::Create { file, name } => {
                self.inodes.insert(file, self.files.len());
                self.pending.push(NameChange::Add(name, self.files.len()));
                self.files.push(File::default());
            }
            Call::Write { file, at, bytes } => self.file(file).pending.push(Change::Write { at, bytes }),
            Call::Truncate { file, length } => self.file(file).pending.push(Change::Truncate(length)),
            Call::Sync { file } => {
                let file = self.file(file);
                file.synced = file.content(|_| Fate::Whole);
                file.pending.clear();
            }
            Call::SyncDirectory => {
                let changes = std::mem::take(&mut self.pending);
                changes.iter().for_each(|change| change.apply(&mut self.names));
            }
            Call::Rename { from, to } => self.pending.push(NameChange::Rename(from, to)),
            Call::Remove { name } => self.pending.push(NameChange::Remove(name)),
        }
    }

    fn file(&mut self, inode: u64) -> &mut File<'a> {
        &mut self.files[self.inodes[&inode]]
    }

    /// Returns the files as the program sees them.
    pub(crate) fn current(&self) -> Image {
        self.image(self.pending.len(), |file| file.content(|_| Fate::Whole))
    }

    /// Returns the files after a power cut.
    pub(crate) fn cut(&self, rng: &mut Rng) -> Image {
        let all = self.pending.len() as u64;
        let applied = [0, all, rng.between(0, all)][rng.between(0, 2) as usize];
        self.image(applied as usize, |file| file.cut(rng))
    }

    fn image(&self, applied: usize, mut content: impl FnMut(&File<'a>) -> Vec<u8>) -> Image {
        let mut names = self.names.clone();
        self.pending[..applied].iter().for_each(|change| change.apply(&mut names));
        // The index of the write-ahead log is memory that processes share. SQLite rebuilds it.
        names.retain(|name, _| !name.ends_with("-shm"));
        names.into_iter().map(|(name, file)| (name, content(&self.files[file]))).collect()
    }
}

impl NameChange<'_> {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match *self {
            NameChange::Add(name, file) => drop(names.insert(name.to_owned(), file)),
            NameChange::Rename(from, to) => {
                let file = names.remove(from).unwrap();
                names.insert(to.to_owned(), file);
            }
            NameChange::Remove(name) => drop(names.remove(name).unwrap()),
        }
    }
}

/// The fate of a change in a power cut.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fate {
    Whole,
    Lost,
    /// The data are lost, but the file has its new length.
    Blank,
    /// For each unit, whether it is on the disk.
    Torn(Vec<bool>),
}

impl Fate {
    /// Writes the part of `bytes`, which start at the offset `at` of the file, that is on the disk.
    fn write(&self, target: &mut [u8], bytes: &[u8], at: usize) {
        let Fate::Torn(units) = self else {
            if *self == Fate::Whole {
                target.copy_from_slice(bytes);
            }
            return;
        };
        let (mut start, mut kept) = (0, units.iter().cycle());
        while start < bytes.len() {
            let end = bytes.len().min(start + SECTOR_BYTES - (at + start) % SECTOR_BYTES);
            if kept.next() == Some(&true) {
                target[start..end].copy_from_slice(&bytes[start..end]);
            }
            start = end;
        }
    }
}

impl File<'_> {
    fn cut(&self, rng: &mut Rng) -> Vec<u8> {
        let count = self.pending.len() as u64;
        if count == 0 {
            return self.synced.clone();
        }
        let last = rng.between(0, count - 1);
        let mode = rng.between(0, 4);
        let torn = rng.one_in(2).then(|| rng.between(0, count - 1));
        let lost = if rng.one_in(2) { Fate::Blank } else { Fate::Lost };
        self.content(|index| {
            let index = index as u64;
            let is_kept = match mode {
                0 => false,
                1 => true,
                2 => index <= last,
                3 => index != last,
                _ => rng.one_in(2),
            };
            match (is_kept, torn == Some(index)) {
                (true, true) => Fate::Torn((0..64).map(|_| rng.one_in(2)).collect()),
                (true, false) => Fate::Whole,
                (false, _) => lost.clone(),
            }
        })
    }

    fn content(&self, mut fate: impl FnMut(usize) -> Fate) -> Vec<u8> {
        let mut content = self.synced.clone();
        for (index, change) in self.pending.iter().enumerate() {
            let fate = fate(index);
            match *change {
                _ if fate == Fate::Lost => {}
                Change::Truncate(_) if fate == Fate::Blank => {}
                Change::Truncate(length) => content.resize(length, 0),
                Change::Write { at, bytes } => {
                    content.resize(content.len().max(at + bytes.len()), 0);
                    fate.write(&mut content[at..at + bytes.len()], bytes, at);
                }
            }
        }
        content
    }
}
