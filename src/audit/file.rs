//! The file of an audit log: lines are on disk when an append returns, and a file that is full is followed by another.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom},
    os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use super::{
    chain::{End, MAX_LINE_BYTES, hex, is_start_of_line, time},
    line::{Event, Members},
};
use crate::model::Revision;

/// The mode of the file: only its owner may read and write it.
const MODE: u32 = 0o600;

/// The part of a file that lines of denials may occupy. Anyone can cause denials, and a full file is followed by another
/// until the oldest one is removed: without a bound, they would displace the lines of writes.
const DENIAL_SHARE: u64 = 4;

/// The size of the file and the number of earlier files.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// The size at which a file is followed by another, in bytes.
    pub(super) file_bytes: u64,
    /// The maximum number of earlier files.
    pub(super) files: usize,
}

/// A line to append.
#[derive(Debug)]
pub(super) struct Line {
    /// The newest revision that the lines up to this one describe. `None` if this one describes no change.
    pub(super) head: Option<Revision>,
    pub(super) members: Members,
    /// Whether the line belongs to the share of denials.
    pub(super) is_denial: bool,
}

impl Line {
    pub(super) fn new(head: Option<Revision>, event: &Event, time: i64) -> Line {
        Line { head, members: event.members(time), is_denial: event.is_denial() }
    }
}

/// An open audit log. It is the only writer: the file is locked.
#[derive(Debug)]
pub(super) struct AuditFile {
    path: PathBuf,
    limits: Limits,
    /// The file that is written. `None` if it could not be created yet.
    live: Option<File>,
    length: u64,
    /// The bytes of the file that are lines of denials, since it was opened.
    denial_bytes: u64,
    end: End,
    /// The loss of the file that was written before, until a line states it.
    loss: Option<&'static str>,
    /// Lines that could not be written yet. No other line precedes them.
    overdue: Vec<Line>,
    /// Whether earlier files may have to be removed.
    may_expire: bool,
    /// Why nothing can be written until a restart: it is unknown what is on disk.
    broken: Option<&'static str>,
}

impl AuditFile {
    /// Opens the log, or creates it. A last line that was cut short belongs to a write that did not happen, and is
    /// removed. If the disk is full, the file is created by a later append.
    ///
    /// # Errors
    /// The file cannot be opened, is not an audit log, or another process has it open.
    pub(super) fn open(path: &Path, limits: Limits) -> io::Result<AuditFile> {
        let mut log = AuditFile {
            path: path.to_owned(),
            limits,
            live: None,
            length: 0,
            denial_bytes: 0,
            end: End::default(),
            loss: None,
            overdue: Vec::new(),
            may_expire: true,
            broken: None,
        };
        let mut end = None;
        match open_locked(path, &mut OpenOptions::new()) {
            Ok(mut file) => {
                remove_torn(&mut file)?;
                (end, log.length) = read_end(&mut file)?;
                trim(&file, log.length)?;
                log.live = Some(file);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                log.create_live().or_else(|error| if is_full(&error) { Ok(()) } else { Err(error) })?;
            }
            Err(error) => return Err(error),
        }
        let mut earlier = earlier_files(path)?;
        while let (None, Some((_, file))) = (end, earlier.pop()) {
            (end, _) = read_end(&mut File::open(file)?)?;
        }
        log.end = end.unwrap_or_default();
        Ok(log)
    }

    /// Returns the newest revision that the lines describe.
    pub(super) fn head(&self) -> Revision {
        self.end.head
    }

    /// Returns why nothing can be written until a restart.
    pub(super) fn broken(&self) -> Option<&'static str> {
        self.broken
    }

    /// Whether the file has room for further lines of denials.
    pub(super) fn has_room_for_denials(&self) -> bool {
        self.denial_bytes < self.limits.file_bytes / DENIAL_SHARE
    }

    /// Whether there is something to write besides new lines: overdue ones, or that the file is lost.
    pub(super) fn is_due(&self) -> bool {
        let is_lost = || self.loss.is_some() || !matches!(self.find_loss(), Ok(None));
        self.broken.is_none() && (!self.overdue.is_empty() || is_lost())
    }

    /// Appends lines. If they cannot be written, they precede the next lines.
    ///
    /// # Errors
    /// The lines were not written yet.
    pub(super) fn append_or_defer(
        &mut self,
        time: i64,
        lines: impl IntoIterator<Item = Line>,
    ) -> io::Result<()> {
        self.overdue.extend(lines);
        self.append(time, &[])
    }

    /// Appends lines. They are on disk when this returns.
    ///
    /// # Errors
    /// None of the lines was written, unless the log is [`broken`](Self::broken).
    pub(super) fn append(&mut self, time: i64, lines: &[Line]) -> io::Result<()> {
        if let Some(reason) = self.broken {
            return Err(io::Error::other(reason));
        }
        self.ensure_live()?;
        let size: usize = self.overdue.iter().chain(lines).map(|line| line.members.as_str().len()).sum();
        if self.length > 0 && self.length + size as u64 > self.limits.file_bytes {
            self.rotate()?;
        }
        let expired = if self.may_expire { self.expired()? } else { Vec::new() };
        let (mut end, mut out, mut denial_bytes) = (self.end, String::new(), self.denial_bytes);
        let lost = self.loss.map(|reason| Event::FileLost { reason });
        let removed = expired.iter().map(|(file, last)| Event::FileRemoved {
            file: display_name(file),
            lines: last.map(|end| hex(&end.hash)),
        });
        for event in lost.into_iter().chain(removed) {
            end.append(end.head, &event.members(time), &mut out);
        }
        for line in self.overdue.iter().chain(lines) {
            let start = out.len();
            end.append(line.head.unwrap_or(end.head), &line.members, &mut out);
            denial_bytes += if line.is_denial { (out.len() - start) as u64 } else { 0 };
        }
        self.write(out.as_bytes())?;
        (self.end, self.denial_bytes, self.loss, self.may_expire) = (end, denial_bytes, None, false);
        self.overdue.clear();
        // The lines are written, so a failure to remove a file must not undo them.
        expired.iter().for_each(|(file, _)| remove_expired(file));
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(file) = &self.live else { return Err(io::ErrorKind::NotFound.into()) };
        if let Err(error) = file.write_all_at(bytes, self.length) {
            // Without the part that was written, the next line starts where this one should have.
            if file.set_len(self.length).is_err() {
                self.broken = Some("a line was written in part");
            }
            return Err(error);
        }
        file.sync_data().inspect_err(|_| self.broken = Some("a sync failed"))?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Creates the file if there is none, or if the one that was written is no longer the log.
    fn ensure_live(&mut self) -> io::Result<()> {
        if let Some(reason) = self.find_loss()? {
            tracing::error!(file = %self.path.display(), reason, "file of the audit log lost; another one follows");
            (self.live, self.length) = (None, 0);
            self.loss = Some(reason);
        }
        if self.live.is_none() { self.create_live() } else { Ok(()) }
    }

    /// Returns what happened to the file, if its name no longer names it or its length has changed.
    fn find_loss(&self) -> io::Result<Option<&'static str>> {
        let Some(live) = &self.live else { return Ok(None) };
        let (found, written) = match fs::metadata(&self.path) {
            Ok(found) => (found, live.metadata()?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Some("the file was removed or renamed"));
            }
            Err(error) => return Err(error),
        };
        Ok(if (found.dev(), found.ino()) != (written.dev(), written.ino()) {
            Some("the file was replaced by another one")
        } else if written.len() != self.length {
            Some("the file was changed by another program")
        } else {
            None
        })
    }

    /// Creates the file. One that is in its place becomes an earlier file.
    fn create_live(&mut self) -> io::Result<()> {
        let mut file = open_locked(&self.path, OpenOptions::new().create(true))?;
        if file.metadata()?.len() > 0 {
            fs::rename(&self.path, self.next_earlier()?)?;
            file = open_locked(&self.path, OpenOptions::new().create_new(true))?;
        }
        sync_directory(&self.path)?;
        (self.live, self.length, self.denial_bytes, self.may_expire) = (Some(file), 0, 0, true);
        Ok(())
    }

    /// Renames the file and creates another. If that fails, a later append creates it.
    fn rotate(&mut self) -> io::Result<()> {
        fs::rename(&self.path, self.next_earlier()?)?;
        (self.live, self.length) = (None, 0);
        self.create_live()
    }

    /// Returns the name of the next earlier file.
    fn next_earlier(&self) -> io::Result<PathBuf> {
        let number = earlier_files(&self.path)?.last().map_or(1, |(number, _)| number + 1);
        Ok(with_suffix(&self.path, &format!("{number:06}")))
    }

    /// Returns the oldest files if there are too many, each with its end. A file that cannot be read must not prevent
    /// new lines, so it has none.
    fn expired(&self) -> io::Result<Vec<(PathBuf, Option<End>)>> {
        let mut earlier = earlier_files(&self.path)?;
        earlier.truncate(earlier.len().saturating_sub(self.limits.files));
        let end = |file: &PathBuf| Some(read_end(&mut File::open(file).ok()?).ok()?.0.unwrap_or_default());
        Ok(earlier.into_iter().map(|(_, file)| (file.clone(), end(&file))).collect())
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn remove_expired(file: &Path) {
    match fs::remove_file(file) {
        Ok(()) => tracing::warn!(file = %file.display(), "oldest file of the audit log removed"),
        Err(error) => {
            tracing::error!(%error, file = %file.display(), "oldest file of the audit log not removed")
        }
    }
}

fn display_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Opens a file for writing, locks it and makes it private.
fn open_locked(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    if fs::metadata(path).is_ok_and(|meta| !meta.is_file()) {
        return Err(io::Error::other("not a regular file"));
    }
    let file = options.mode(MODE).read(true).write(true).open(path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(io::Error::other("another process has it open")),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    file.set_permissions(fs::Permissions::from_mode(MODE))?;
    Ok(file)
}

/// Returns the end of the chain in a file, `None` if it has no line, and the length of its whole lines in bytes.
fn read_end(file: &mut File) -> io::Result<(Option<End>, u64)> {
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
    Ok((end, start + whole as u64))
}

/// Removes a last line that was cut short.
fn trim(file: &File, length: u64) -> io::Result<()> {
    let surplus = file.metadata()?.len() - length;
    if surplus > 0 {
        tracing::warn!(bytes = surplus, "line of the audit log that was cut short removed");
        shorten(file, length)?;
    }
    Ok(())
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
    use super::{
        super::{Action, Change, Origin, chain::verify},
        *,
    };

    const LIMITS: Limits = Limits { file_bytes: 1 << 20, files: 3 };

    fn line(head: Revision) -> Line {
        let change = Change { name: "tags/a".into(), action: Action::Put, revision: head };
        let event = Event::Write { origin: Origin::scheduler(), outcome: "committed", changes: vec![change] };
        Line::new(Some(head), &event, head)
    }

    fn open(path: &Path) -> AuditFile {
        AuditFile::open(path, LIMITS).unwrap()
    }

    fn write(file: &mut AuditFile, heads: std::ops::Range<i64>) {
        heads.for_each(|head| file.append(head, &[line(head)]).unwrap());
    }

    #[test]
    fn the_chain_continues_after_a_restart_and_a_line_cut_short() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.log");
        let mut file = AuditFile::open(&path, LIMITS).unwrap();
        assert_eq!(file.head(), 0);
        write(&mut file, 1..4);
        drop(file);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
        let whole = fs::read(&path).unwrap();
        for cut in ["", "{", "{\"prev\":\"0000", "\u{0}\u{0}"] {
            fs::write(&path, [&whole[..], cut.as_bytes()].concat()).unwrap();
            let mut file = AuditFile::open(&path, LIMITS).unwrap();
            assert_eq!(file.head(), 3, "{cut:?}");
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
        let long = |head| {
            let change =
                Change { name: format!("tags/{}", "a".repeat(700)), action: Action::Put, revision: head };
            let origin = Origin::scheduler();
            Line::new(Some(head), &Event::Write { origin, outcome: "committed", changes: vec![change] }, 9)
        };
        file.append(9, &(4..8).map(long).collect::<Vec<_>>()).unwrap();
        drop(file);
        let appended = fs::read(&path).unwrap();
        let units = appended.len().div_ceil(512) - whole.len() / 512;
        for lost in 1..1_u32 << units {
            let mut torn = appended.clone();
            for (at, byte) in torn.iter_mut().enumerate().skip(whole.len()) {
                let unit = at / 512 - whole.len() / 512;
                *byte *= u8::from(lost >> unit & 1 == 0);
            }
            fs::write(&path, torn).unwrap();
            let mut file = AuditFile::open(&path, LIMITS).unwrap_or_else(|error| panic!("{lost:b}: {error}"));
            let head = file.head();
            assert!((3..8).contains(&head), "{lost:b}: {head}");
            write(&mut file, head + 1..head + 3);
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
        let mut file = AuditFile::open(&path, Limits { files: 4, ..limits }).unwrap();
        assert_eq!(file.head(), 99);
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
        let real = file.live.replace(File::options().write(true).open("/dev/full").unwrap());
        assert_eq!(file.write(b"x").unwrap_err().kind(), io::ErrorKind::StorageFull);
        // A device cannot be cut to the whole lines, so nothing more is written.
        file.live = real;
        assert!(file.broken().is_some());
        assert!(file.append(3, &[line(3)]).is_err());
        assert_eq!(verify(&[path]).unwrap().lines, 2);
    }

    #[test]
    fn a_lost_file_is_followed_by_one_that_states_it() {
        type Lose = fn(&Path);
        let cases: [(&str, Lose, &str); 6] = [
            ("removed", |path| fs::remove_file(path).unwrap(), "removed or renamed"),
            ("renamed", |path| fs::rename(path, path.with_extension("old")).unwrap(), "removed or renamed"),
            (
                "rotated by another program",
                |path| {
                    fs::rename(path, path.with_extension("old")).unwrap();
                    fs::write(path, "").unwrap();
                },
                "replaced",
            ),
            (
                "replaced",
                |path| {
                    fs::remove_file(path).unwrap();
                    fs::write(path, "x\n").unwrap();
                },
                "replaced",
            ),
            ("emptied", |path| fs::write(path, "").unwrap(), "changed"),
            (
                "cut short",
                |path| {
                    let file = OpenOptions::new().write(true).open(path).unwrap();
                    file.set_len(file.metadata().unwrap().len() - 10).unwrap();
                },
                "changed",
            ),
        ];
        for (name, lose, reason) in cases {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("audit.log");
            let mut file = open(&path);
            write(&mut file, 1..4);
            assert!(!file.is_due());
            let before = fs::read(&path).unwrap();
            lose(&path);
            assert!(file.is_due(), "{name}");
            write(&mut file, 4..6);
            assert!(!file.is_due(), "{name}");
            let text = fs::read_to_string(&path).unwrap();
            let first = text.lines().next().unwrap();
            assert!(first.contains("\"event\":\"file_lost\"") && first.contains(reason), "{name}: {text}");
            // The new file continues the chain, so the missing lines show and the whole ones verify.
            let chain = verify(std::slice::from_ref(&path)).unwrap();
            assert!(chain.notes[0].contains(reason), "{name}: {:?}", chain.notes);
            let damaged = dir.path().join("audit.log.000001");
            if damaged.exists() {
                assert!(verify(&[damaged, path.clone()]).is_err(), "{name}");
            }
            let whole = dir.path().join("whole");
            fs::write(&whole, before).unwrap();
            assert_eq!(verify(&[whole, path.clone()]).unwrap().lines, 6, "{name}");
            drop(file);
            assert_eq!(open(&path).head(), 5, "{name}");
        }
    }

    /// Another program that has taken the name and writes the log is not disturbed.
    #[test]
    fn a_file_that_another_process_has_open_is_not_moved() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.log");
        let mut first = open(&path);
        write(&mut first, 1..3);
        fs::remove_file(&path).unwrap();
        let mut second = open(&path);
        write(&mut second, 1..2);
        assert!(first.append(3, &[line(3)]).unwrap_err().to_string().contains("another process"));
        write(&mut second, 2..3);
        drop(second);
        write(&mut first, 3..4);
    }

    #[test]
    fn lines_that_could_not_be_written_precede_all_others() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.log");
        let mut file = open(&path);
        write(&mut file, 1..4);
        let correction = Event::NotCommitted { after: 1, to: 3, reason: "no space".into() };
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        let deferred = [Line::new(Some(1), &correction, 0)];
        file.append_or_defer(0, deferred).unwrap_err();
        assert!(file.append(2, &[line(2)]).is_err() && file.is_due());
        fs::remove_dir(&path).unwrap();
        write(&mut file, 2..3);
        let text = fs::read_to_string(&path).unwrap();
        let events: Vec<_> = text.lines().map(|line| line.split("\"event\":\"").nth(1).unwrap()).collect();
        assert!(events[0].starts_with("file_lost"), "{text}");
        assert!(events[1].starts_with("not_committed") && events[2].starts_with("write"), "{text}");
        assert_eq!((events.len(), file.head()), (3, 2));
    }

    #[test]
    fn a_lower_bound_removes_all_files_above_it_at_the_next_append() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.log");
        let limits = |files| Limits { file_bytes: 1_000, files };
        write(&mut AuditFile::open(&path, limits(10)).unwrap(), 1..100);
        assert_eq!(earlier_files(&path).unwrap().len(), 10);
        // A file that is not readable is removed, too.
        fs::write(&earlier_files(&path).unwrap()[1].1, "foreign\n").unwrap();
        let mut file = AuditFile::open(&path, limits(2)).unwrap();
        write(&mut file, 100..101);
        let earlier = earlier_files(&path).unwrap();
        assert_eq!(earlier.len(), 2);
        let mut paths: Vec<_> = earlier.into_iter().map(|(_, path)| path).collect();
        paths.push(path);
        let notes = verify(&paths).unwrap().notes;
        assert!(notes.iter().filter(|note| note.contains("removed")).count() >= 8, "{notes:?}");
    }

    #[test]
    fn denials_do_not_displace_other_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.log");
        let limits = Limits { file_bytes: 10_000, files: 3 };
        let mut file = AuditFile::open(&path, limits).unwrap();
        let denial = || {
            let (origin, reason) = (Origin::scheduler(), "no token".to_owned());
            Line::new(None, &Event::Denial { origin, code: "UNAUTHENTICATED", reason }, 0)
        };
        for _ in 0..1_000 {
            if file.has_room_for_denials() {
                file.append(0, &[denial()]).unwrap();
            }
        }
        assert!(fs::metadata(&path).unwrap().len() < 3_000);
        assert!(earlier_files(&path).unwrap().is_empty());
        write(&mut file, 1..40);
        assert!(file.has_room_for_denials(), "the next file has a share of its own");
    }
}
