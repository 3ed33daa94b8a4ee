//! The file of an audit log: lines are on disk when an append returns, and a file that is full is followed by another.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use super::{
    chain::{End, hex},
    line::{Event, Members},
};
use crate::model::Revision;

mod ending;
mod names;
#[cfg(test)]
mod tests;

use names::{display_name, earlier_files};

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
                (end, log.length) = ending::recover(&mut file)?;
                log.live = Some(file);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                log.create_live().or_else(|error| if is_full(&error) { Ok(()) } else { Err(error) })?;
            }
            Err(error) => return Err(error),
        }
        let mut earlier = earlier_files(path)?;
        while let (None, Some((_, file))) = (end, earlier.pop()) {
            (end, _) = ending::read_end(&mut File::open(file)?)?;
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
            fs::rename(&self.path, names::next_earlier(&self.path)?)?;
            file = open_locked(&self.path, OpenOptions::new().create_new(true))?;
        }
        names::sync_directory(&self.path)?;
        (self.live, self.length, self.denial_bytes, self.may_expire) = (Some(file), 0, 0, true);
        Ok(())
    }

    /// Renames the file and creates another. If that fails, a later append creates it.
    fn rotate(&mut self) -> io::Result<()> {
        fs::rename(&self.path, names::next_earlier(&self.path)?)?;
        (self.live, self.length) = (None, 0);
        self.create_live()
    }

    /// Returns the oldest files if there are too many, each with its end. A file that cannot be read must not prevent
    /// new lines, so it has none.
    fn expired(&self) -> io::Result<Vec<(PathBuf, Option<End>)>> {
        let mut earlier = earlier_files(&self.path)?;
        earlier.truncate(earlier.len().saturating_sub(self.limits.files));
        let end =
            |file: &PathBuf| Some(ending::read_end(&mut File::open(file).ok()?).ok()?.0.unwrap_or_default());
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
