//! The file of an audit log: lines are on disk when an append returns, and a file that is full is followed by another.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use super::{
    chain::{End, MAX_LINE_BYTES, hex, is_start_of_line, time},
    line::{Event, Members},
};
use crate::model::Revision;

/// The mode of the file: only its owner may read and write it.
const MODE: u32 = 0o600;

/// The size of the file and the number of earlier files.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// The size at which a file is followed by another, in bytes.
    pub(super) file_bytes: u64,
    /// The maximum number of earlier files.
    pub(super) files: usize,
}

/// An open audit log. It is the only writer: the file is locked.
#[derive(Debug)]
pub(super) struct AuditFile {
    path: PathBuf,
    limits: Limits,
    file: File,
    length: u64,
    end: End,
    /// Why nothing can be written until a restart: it is unknown what is on disk.
    broken: Option<&'static str>,
}

impl AuditFile {
    /// Opens the log, or creates it. A last line that was cut short belongs to a write that did not happen, and is
    /// removed.
    ///
    /// # Errors
    /// The file cannot be opened, is not an audit log, or another process has it open.
    pub(super) fn open(path: &Path, limits: Limits) -> io::Result<AuditFile> {
        if fs::metadata(path).is_ok_and(|meta| !meta.is_file()) {
            return Err(io::Error::other("not a regular file"));
        }
        let mut file = create(path, OpenOptions::new().create(true))?;
        remove_torn(&mut file)?;
        let end = match read_end(&mut file)? {
            Some(end) => end,
            None => match earlier_files(path)?.last() {
                Some((_, earlier)) => read_end(&mut File::open(earlier)?)?.unwrap_or_default(),
                None => End::default(),
            },
        };
        sync_directory(path)?;
        let length = file.metadata()?.len();
        Ok(AuditFile { path: path.to_owned(), limits, file, length, end, broken: None })
    }

    /// Returns the newest revision that the lines describe, `None` if there are no lines.
    pub(super) fn head(&self) -> Option<Revision> {
        (self.end.line > 0).then_some(self.end.head)
    }

    /// Returns why nothing can be written until a restart.
    pub(super) fn broken(&self) -> Option<&'static str> {
        self.broken
    }

    /// Appends lines, each with the revision up to which the lines describe the store. They are on disk when this
    /// returns.
    ///
    /// # Errors
    /// None of the lines was written, unless the log is [`broken`](Self::broken).
    pub(super) fn append(&mut self, time: i64, lines: &[(Revision, Members)]) -> io::Result<()> {
        if let Some(reason) = self.broken {
            return Err(io::Error::other(reason));
        }
        let size: usize = lines.iter().map(|(_, members)| members.as_str().len()).sum();
        let mut expired = None;
        if self.length > 0 && self.length + size as u64 > self.limits.file_bytes {
            self.rotate()?;
            expired = self.expired()?;
        }
        let (mut end, mut out) = (self.end, String::new());
        if let Some((file, last)) = &expired {
            let event = Event::FileRemoved { file: display_name(file), lines: hex(&last.hash) };
            end.append(end.head, &event.members(time), &mut out);
        }
        for (head, members) in lines {
            end.append(*head, members, &mut out);
        }
        self.write(out.as_bytes())?;
        self.end = end;
        if let Some((file, _)) = expired {
            // The lines are written, so a failure to remove the file must not undo them.
            match fs::remove_file(&file) {
                Ok(()) => tracing::warn!(file = %file.display(), "oldest file of the audit log removed"),
                Err(error) => {
                    tracing::error!(%error, file = %file.display(), "oldest file of the audit log not removed")
                }
            }
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Err(error) = self.file.write_all_at(bytes, self.length) {
            // Without the part that was written, the next line starts where this one should have.
            if self.file.set_len(self.length).is_err() {
                self.broken = Some("a line was written in part");
            }
            return Err(error);
        }
        self.file.sync_data().inspect_err(|_| self.broken = Some("a sync failed"))?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Renames the file and creates another. Nothing has changed if the other one cannot be created.
    fn rotate(&mut self) -> io::Result<()> {
        let next = with_suffix(&self.path, "new");
        let file = create(&next, OpenOptions::new().create(true).truncate(true))?;
        let number = earlier_files(&self.path)?.last().map_or(1, |(number, _)| number + 1);
        let renamed = fs::rename(&self.path, with_suffix(&self.path, &format!("{number:06}")))
            .and_then(|()| fs::rename(&next, &self.path))
            .and_then(|()| sync_directory(&self.path));
        renamed.inspect_err(|_| self.broken = Some("the files could not be renamed"))?;
        (self.file, self.length) = (file, 0);
        Ok(())
    }

    /// Returns the oldest file if there are too many, with its end.
    fn expired(&self) -> io::Result<Option<(PathBuf, End)>> {
        let earlier = earlier_files(&self.path)?;
        let Some((_, oldest)) = earlier.first().filter(|_| earlier.len() > self.limits.files) else {
            return Ok(None);
        };
        let end = read_end(&mut File::open(oldest)?)?.unwrap_or_default();
        Ok(Some((oldest.clone(), end)))
    }
}

fn display_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Opens a file for writing, locks it and makes it private.
fn create(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let file = options.mode(MODE).read(true).write(true).open(path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(io::Error::other("another process has it open")),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    file.set_permissions(fs::Permissions::from_mode(MODE))?;
    Ok(file)
}

/// Returns the end of the chain in a file, `None` if it has no line. Removes a last line that was cut short.
fn read_end(file: &mut File) -> io::Result<Option<End>> {
    let foreign = || io::Error::other("not an audit log: its last line is not one of an audit log");
    let length = file.metadata()?.len();
    // The last line, and one that was cut short after it.
    let start = length.saturating_sub(2 * MAX_LINE_BYTES as u64);
    file.seek(SeekFrom::Start(start))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    let whole = tail.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
    let end = match tail[..whole].strip_suffix(b"\n") {
        Some(lines) => {
            let last = lines.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
            Some(End::of(last).ok_or_else(foreign)?)
        }
        None if start == 0 && is_start_of_line(&tail) => None,
        None => return Err(foreign()),
    };
    if whole < tail.len() {
        tracing::warn!(bytes = tail.len() - whole, "line of the audit log that was cut short removed");
        shorten(file, start + whole as u64)?;
    }
    Ok(end)
}

/// Removes the rest of an append that a power cut tore: it has units that were never written. They are blank, and a
/// line has no zero byte. All lines after them are of the same append, so they have the same time. Otherwise the file
/// was damaged later, or is another one, and remains as it is.
fn remove_torn(file: &mut File) -> io::Result<()> {
    let Some(blank) = first_blank(file)? else { return Ok(()) };
    if !is_torn(file, blank)? {
        tracing::error!(offset = blank, "zero byte in the audit log, not from a power cut");
        return Ok(());
    }
    tracing::warn!(offset = blank, "lines of the audit log that a power cut tore removed");
    shorten(file, blank)
}

/// Returns whether the content from the first zero byte on is what a power cut left of one append to an audit log.
fn is_torn(file: &mut File, blank: u64) -> io::Result<bool> {
    let mut start = Vec::new();
    file.rewind()?;
    file.by_ref().take(blank.min(32)).read_to_end(&mut start)?;
    if !is_start_of_line(&start) {
        return Ok(false);
    }
    file.seek(SeekFrom::Start(blank))?;
    let (mut reader, mut first) = (BufReader::new(file), None);
    loop {
        let mut line = Vec::new();
        if reader.by_ref().take(MAX_LINE_BYTES as u64).read_until(b'\n', &mut line)? == 0 {
            return Ok(true);
        }
        let is_text = line.iter().all(|byte| [0, b'\n'].contains(byte) || *byte >= b' ');
        let time = time(&line);
        let is_other = time.is_some() && *first.get_or_insert_with(|| time.clone()) != time;
        if !is_text || is_other {
            return Ok(false);
        }
    }
}

/// Returns the offset of the first zero byte.
fn first_blank(file: &mut File) -> io::Result<Option<u64>> {
    file.rewind()?;
    let (mut offset, mut buffer) = (0, vec![0; 64 << 10]);
    loop {
        let length = file.read(&mut buffer)?;
        if let Some(index) = buffer[..length].iter().position(|byte| *byte == 0) {
            return Ok(Some(offset + index as u64));
        }
        if length == 0 {
            return Ok(None);
        }
        offset += length as u64;
    }
}

/// Shortens the file before anything is appended: a power cut must not bring the rest back behind new lines.
fn shorten(file: &File, length: u64) -> io::Result<()> {
    file.set_len(length)?;
    file.sync_all()
}

/// Returns the earlier files of a log with their numbers, the oldest first.
fn earlier_files(path: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let prefix = format!("{}.", display_name(path));
    let mut files = Vec::new();
    for entry in fs::read_dir(directory(path))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let number = name.strip_prefix(&prefix).filter(|number| number.bytes().all(|b| b.is_ascii_digit()));
        files.extend(number.and_then(|number| number.parse().ok()).map(|number| (number, entry.path())));
    }
    files.sort_unstable();
    Ok(files)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path.as_os_str());
    name.push(".");
    name.push(suffix);
    name.into()
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(directory(path))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::{super::chain::verify, *};

    const LIMITS: Limits = Limits { file_bytes: 1 << 20, files: 3 };

    fn line(head: Revision) -> (Revision, Members) {
        (head, Event::Resumed.members(head))
    }

    fn write(file: &mut AuditFile, heads: std::ops::Range<i64>) {
        heads.for_each(|head| file.append(head, &[line(head)]).unwrap());
    }

    #[test]
    fn the_chain_continues_after_a_restart_and_a_line_cut_short() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.log");
        let mut file = AuditFile::open(&path, LIMITS).unwrap();
        assert_eq!(file.head(), None);
        write(&mut file, 1..4);
        drop(file);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
        let whole = fs::read(&path).unwrap();
        for cut in ["", "{", "{\"prev\":\"0000", "\u{0}\u{0}"] {
            fs::write(&path, [&whole[..], cut.as_bytes()].concat()).unwrap();
            let mut file = AuditFile::open(&path, LIMITS).unwrap();
            assert_eq!(file.head(), Some(3), "{cut:?}");
            write(&mut file, 4..6);
            assert_eq!(verify(std::slice::from_ref(&path)).unwrap().lines, 5, "{cut:?}");
        }
    }

    /// Four lines that one append wrote after three others, with units of 512 bytes that are not on the disk.
    #[test]
    fn lines_of_one_append_that_a_power_cut_tore_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.log");
        let mut file = AuditFile::open(&path, LIMITS).unwrap();
        write(&mut file, 1..4);
        let whole = fs::read(&path).unwrap();
        let long = Event::NotCommitted { after: 3, to: 4, reason: "r".repeat(700) };
        file.append(9, &(4..8).map(|head| (head, long.members(9))).collect::<Vec<_>>()).unwrap();
        drop(file);
        let appended = fs::read(&path).unwrap();
        let units = appended.len().div_ceil(512) - whole.len() / 512;
        for lost in 1..1_u32 << units {
            let mut torn = appended.clone();
            for at in whole.len()..torn.len() {
                let unit = at / 512 - whole.len() / 512;
                torn[at] *= u8::from(lost >> unit & 1 == 0);
            }
            fs::write(&path, torn).unwrap();
            let mut file = AuditFile::open(&path, LIMITS).unwrap_or_else(|error| panic!("{lost:b}: {error}"));
            let head = file.head().unwrap();
            assert!((3..8).contains(&head), "{lost:b}: {head}");
            write(&mut file, 8..10);
            assert_eq!(verify(std::slice::from_ref(&path)).unwrap().lines, head as u64 + 2, "{lost:b}");
        }
        // A blank line in front of lines of other times is damage of another kind: they remain.
        let file = AuditFile::open(&path, LIMITS).unwrap();
        drop(file);
        let mut damaged = fs::read(&path).unwrap();
        damaged[..100].fill(0);
        fs::write(&path, &damaged).unwrap();
        drop(AuditFile::open(&path, LIMITS).unwrap());
        assert_eq!(fs::read(&path).unwrap(), damaged);
        let binary = [&[0; 600][..], b"\x7fELF\x01\x02\n"].concat();
        fs::write(&path, &binary).unwrap();
        assert!(AuditFile::open(&path, LIMITS).is_err());
        assert_eq!(fs::read(&path).unwrap(), binary);
    }

    #[test]
    fn full_files_are_followed_by_others_and_the_removal_of_one_is_recorded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.log");
        let limits = Limits { file_bytes: 1_000, files: 3 };
        let mut file = AuditFile::open(&path, limits).unwrap();
        write(&mut file, 1..100);
        let earlier = earlier_files(&path).unwrap();
        assert_eq!(earlier.len(), 3);
        let mut paths: Vec<_> = earlier.into_iter().map(|(_, path)| path).collect();
        paths.push(path.clone());
        let chain = verify(&paths).unwrap();
        assert_ne!(chain.first, "0".repeat(64));
        let text = fs::read_to_string(&paths[2]).unwrap();
        assert!(text.contains("\"event\":\"file_removed\",\"file\":\"audit.log."), "{text}");
        for path in &paths {
            assert!(fs::metadata(path).unwrap().len() < 1_500);
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, MODE);
        }
        // The last file was moved away by a person: the chain continues.
        drop(file);
        fs::rename(&path, with_suffix(&path, "999999")).unwrap();
        let mut file = AuditFile::open(&path, limits).unwrap();
        assert_eq!(file.head(), Some(99));
        write(&mut file, 100..102);
        paths[3] = with_suffix(&path, "999999");
        paths.push(path);
        assert_eq!(verify(&paths).unwrap().lines, chain.lines + 2);
    }

    #[test]
    fn only_one_process_writes_a_log_and_only_a_log_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.log");
        let _file = AuditFile::open(&path, LIMITS).unwrap();
        assert!(AuditFile::open(&path, LIMITS).unwrap_err().to_string().contains("another process"));
        for (name, content) in [("other", "a b c\n"), ("half", "abc"), ("json", "{\"a\":1}\n")] {
            let path = dir.path().join(name);
            fs::write(&path, content).unwrap();
            assert!(AuditFile::open(&path, LIMITS).is_err(), "{name}");
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
        assert!(AuditFile::open(Path::new("/dev/full"), LIMITS).is_err());
    }

    #[test]
    fn after_a_failed_write_nothing_follows_a_line_cut_short() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.log");
        let mut file = AuditFile::open(&path, LIMITS).unwrap();
        write(&mut file, 1..3);
        let real = std::mem::replace(&mut file.file, File::options().write(true).open("/dev/full").unwrap());
        assert_eq!(file.append(3, &[line(3)]).unwrap_err().kind(), io::ErrorKind::StorageFull);
        // A device cannot be cut to the whole lines, so nothing more is written.
        file.file = real;
        assert!(file.broken().is_some());
        assert!(file.append(3, &[line(3)]).is_err());
        assert_eq!(verify(&[path]).unwrap().lines, 2);
    }
}
