//! The chain of an audit log: each line holds the hash of the line before it, so that a change of any line shows.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read as _},
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use super::line::Members;
use crate::{digest::Hash, model::Revision};

/// The maximum length of a line in bytes: that of a line with as many changes as it may list, each with the longest
/// name.
pub(super) const MAX_LINE_BYTES: usize = 1 << 20;

const PREV: &str = "{\"prev\":\"";

/// The end of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct End {
    /// The hash of the last line, zeros if there is none.
    pub(super) hash: Hash,
    /// The number of the last line, from 1.
    pub(super) line: u64,
    /// The newest revision that the lines up to it describe.
    pub(super) head: Revision,
}

impl End {
    /// Appends a line to `out`.
    pub(super) fn append(&mut self, head: Revision, members: &Members, out: &mut String) {
        let line = self.line + 1;
        let start = out.len();
        *out +=
            &format!("{PREV}{}\",\"line\":{line},\"head\":{head},{}}}", hex(&self.hash), members.as_str());
        *self = End { hash: hash(&out.as_bytes()[start..]), line, head };
        out.push('\n');
    }

    /// Returns the end of a chain whose last line is this one, `None` if it is no line of an audit log.
    pub(super) fn of(line: &[u8]) -> Option<End> {
        let (_, number, head) = parse(line)?;
        Some(End { hash: hash(line), line: number, head })
    }
}

fn hash(line: &[u8]) -> Hash {
    Sha256::digest(line).into()
}

pub(super) fn hex(hash: &Hash) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether the bytes are a line that was cut short, or none.
pub(super) fn is_start_of_line(bytes: &[u8]) -> bool {
    PREV.as_bytes().starts_with(bytes) || bytes.starts_with(PREV.as_bytes())
}

/// Returns the time of a line, as it is written.
pub(super) fn time(line: &[u8]) -> Option<String> {
    let (_, rest) = std::str::from_utf8(line).ok()?.split_once("\"time\":\"")?;
    Some(rest.split_once('"')?.0.to_owned())
}

/// Returns the members that every line starts with: the hash of the line before it, its number and its head.
fn parse(line: &[u8]) -> Option<(&str, u64, Revision)> {
    let line = std::str::from_utf8(line).ok()?;
    let (prev, rest) = line.strip_prefix(PREV)?.split_at_checked(64)?;
    let (number, rest) = rest.strip_prefix("\",\"line\":")?.split_once(',')?;
    let (head, _) = rest.strip_prefix("\"head\":")?.split_once(',')?;
    line.ends_with('}').then_some(())?;
    Some((prev, number.parse().ok()?, head.parse().ok()?))
}

/// The maximum number of notes of a verified chain.
const MAX_NOTES: usize = 100;

/// A chain that was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// The number of lines.
    pub lines: u64,
    /// The hash that the first line names as that of the line before it, in hexadecimal. Zeros at the start of a log.
    pub first: String,
    /// The hash of the last line, in hexadecimal. A log that was cut short has another one.
    pub last: String,
    /// The lines that state what the log does not have: changes without a line, files that are gone, denials that were
    /// only counted. At most 100 of them.
    pub notes: Vec<String>,
}

/// The reason why a chain cannot be verified.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A line is not the one that was written.
    #[error("{}:{line}: {problem}", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// The number of the line in the file, from 1.
        line: u64,
        /// The problem.
        problem: String,
    },
    /// The files have no line.
    #[error("no line to verify")]
    Empty,
}

/// Verifies the chain through files, the oldest first: no line was edited, removed, moved or added, and the lines
/// describe every revision once, unless a line states otherwise.
///
/// # Errors
/// A file cannot be read, or the chain is broken.
pub fn verify(paths: &[PathBuf]) -> Result<Chain, VerifyError> {
    let mut walk = Walk::default();
    for path in paths {
        verify_file(path, &mut walk)?;
    }
    let Walk { first, lines, end, notes } = walk;
    let first = first.ok_or(VerifyError::Empty)?;
    Ok(Chain { lines, first, last: hex(&end.hash), notes })
}

/// The lines that were verified so far.
#[derive(Default)]
struct Walk {
    /// The hash before the first line.
    first: Option<String>,
    lines: u64,
    end: End,
    notes: Vec<String>,
}

impl Walk {
    /// Verifies the next line.
    ///
    /// # Errors
    /// It does not continue the lines before it.
    fn add(&mut self, line: &[u8]) -> Result<(), String> {
        let (Some((prev, own, head)), Some(end), Ok(text)) =
            (parse(line), End::of(line), std::str::from_utf8(line))
        else {
            return Err("not a line of an audit log".to_owned());
        };
        if self.first.is_none() {
            self.first = Some(prev.to_owned());
        } else {
            let last = self.end.line;
            if own != last.wrapping_add(1) {
                return Err(format!("line {own} follows line {last}: lines are missing or repeated"));
            }
            if prev != hex(&self.end.hash) {
                return Err("the line before it is not the one that was written".to_owned());
            }
            if !continues(text, self.end.head, head) {
                return Err(format!(
                    "the lines before it describe revisions up to {}: a line between them and revision {head} is missing",
                    self.end.head
                ));
            }
        }
        if self.notes.len() < MAX_NOTES {
            self.notes.extend(note(text).map(|note| format!("line {own}: {note}")));
        }
        (self.lines, self.end) = (self.lines + 1, end);
        Ok(())
    }
}

/// Whether a line that describes the store up to `head` can follow lines that do so up to `previous`.
fn continues(line: &str, previous: Revision, head: Revision) -> bool {
    match member(line, "event") {
        Some("not_committed") => number(line, "after_revision") == Some(head) && head <= previous,
        Some("unrecorded") => number(line, "to_revision") == Some(head) && head > previous,
        Some("write") if member(line, "outcome") == Some("committed") => {
            let count = |action: &str| line.matches(action).count() as Revision;
            let entries = count(",\"action\":\"") - count(",\"action\":\"none\"");
            // Those that are omitted may have changed nothing.
            let omitted = number(line, "changes_omitted").unwrap_or(0);
            (previous + entries..=previous + entries + omitted).contains(&head)
        }
        Some("import") => match number(line, "first_revision") {
            Some(first) => first == previous + 1 && number(line, "last_revision") == Some(head),
            None => head == previous,
        },
        _ => head == previous,
    }
}

/// Returns what a line states that the log does not have.
fn note(line: &str) -> Option<String> {
    let text = |key| member(line, key).unwrap_or("?");
    Some(match text("event") {
        "unrecorded" => format!(
            "the changes after revision {}, up to {}, have no lines",
            text("after_revision"),
            text("to_revision")
        ),
        "file_lost" => format!("the lines before it were in another file: {}", text("reason")),
        "file_removed" => format!("{} was removed because of `audit.max_files`", text("file")),
        "denials_omitted" => format!("{} denials were only counted", text("count")),
        _ => return None,
    })
}

/// Returns a member of a line. A text that contains the key has its quotes escaped, so it is not mistaken for it.
fn member<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let (_, value) = line.split_once(&format!(",\"{key}\":"))?;
    match value.strip_prefix('"') {
        Some(text) => text.split('"').next(),
        None => value.split([',', '}']).next(),
    }
}

fn number(line: &str, key: &str) -> Option<Revision> {
    member(line, key)?.parse().ok()
}

/// Verifies one file.
fn verify_file(path: &Path, walk: &mut Walk) -> Result<(), VerifyError> {
    let io = |source| VerifyError::Io { path: path.to_owned(), source };
    let mut reader = BufReader::new(File::open(path).map_err(io)?);
    let mut number = 0;
    loop {
        let mut line = Vec::new();
        let length = reader.by_ref().take(MAX_LINE_BYTES as u64).read_until(b'\n', &mut line).map_err(io)?;
        if length == 0 {
            return Ok(());
        }
        number += 1;
        let broken = |problem| VerifyError::Broken { path: path.to_owned(), line: number, problem };
        let line = line.strip_suffix(b"\n");
        let line = line.ok_or_else(|| broken("the line is cut short, or too long".to_owned()))?;
        walk.add(line).map_err(broken)?;
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::audit::{Action, Change, Event, Origin};

    fn log(lines: i64) -> Vec<String> {
        let (mut end, mut out) = (End::default(), String::new());
        for time in 1..=lines {
            end.append(0, &Event::Resumed.members(time), &mut out);
        }
        out.lines().map(str::to_owned).collect()
    }

    fn verified(files: &[&[String]]) -> Result<Chain, String> {
        let dir = tempfile::tempdir().unwrap();
        let write = |(index, lines): (usize, &&[String])| {
            let path = dir.path().join(index.to_string());
            fs::write(&path, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
            path
        };
        let paths: Vec<_> = files.iter().enumerate().map(write).collect();
        verify(&paths).map_err(|error| error.to_string().rsplit_once('/').unwrap_or_default().1.to_owned())
    }

    #[test]
    fn an_edit_of_any_line_but_the_last_is_found() {
        let lines = log(5);
        let whole = verified(&[&lines]).unwrap();
        assert_eq!((whole.lines, &whole.first[..]), (5, &"0".repeat(64)[..]));
        for index in 0..4 {
            let mut edited = lines.clone();
            edited[index] = edited[index].replace("resumed", "RESUMED");
            let error = verified(&[&edited]).unwrap_err();
            assert!(error.starts_with(&format!("0:{}: ", index + 2)), "{error}");
        }
        // The last line has no successor: its hash is the one to compare.
        let mut edited = lines.clone();
        edited[4] = edited[4].replace("resumed", "RESUMED");
        assert_ne!(verified(&[&edited]).unwrap().last, whole.last);
    }

    #[test]
    fn a_line_that_is_missing_moved_or_foreign_is_found() {
        let lines = log(5);
        let without = |index: usize| {
            let mut lines = lines.clone();
            lines.remove(index);
            lines
        };
        for index in 1..4 {
            assert!(verified(&[&without(index)]).unwrap_err().contains("missing"));
        }
        let mut swapped = lines.clone();
        swapped.swap(1, 2);
        assert!(verified(&[&swapped]).is_err());
        let mut foreign = lines.clone();
        foreign[2] = "{\"event\":\"resumed\"}".into();
        assert!(verified(&[&foreign]).unwrap_err().contains("not a line"));
        assert!(verified(&[&[]]).is_err());
    }

    #[test]
    fn a_chain_continues_through_files_in_their_order() {
        let lines = log(6);
        let whole = verified(&[&lines]).unwrap();
        assert_eq!(verified(&[&lines[..2], &lines[2..3], &lines[3..]]).unwrap(), whole);
        let part = verified(&[&lines[2..]]).unwrap();
        assert_ne!((&part.first, part.lines), (&whole.first, whole.lines));
        assert_eq!(part.last, whole.last);
        assert!(verified(&[&lines[3..], &lines[..3]]).is_err());
        assert!(verified(&[&lines[..2], &lines[3..]]).is_err());
    }

    /// Lines of writes and of what may come between them, each with its head.
    fn written(events: &[(Revision, Event)]) -> Result<Vec<String>, String> {
        let (mut end, mut out) = (End::default(), String::new());
        events.iter().for_each(|(head, event)| end.append(*head, &event.members(0), &mut out));
        let lines: Vec<_> = out.lines().map(str::to_owned).collect();
        verified(&[&lines]).map(|chain| chain.notes)
    }

    #[test]
    fn revisions_that_no_line_or_two_lines_describe_are_found() {
        let change = |revision, action| Change { name: "tags/\",\"action\":\"".into(), action, revision };
        let write = |head: Revision, entries: i64| {
            let mut changes: Vec<_> =
                (head - entries + 1..=head).map(|revision| change(revision, Action::Put)).collect();
            changes.push(change(1, Action::Nothing));
            (head, Event::Write { origin: Origin::scheduler(), outcome: "committed", changes })
        };
        let import = |head, revisions| {
            let (origin, kills) = (Origin::scheduler(), Vec::new());
            (head, Event::Import { origin, records: 3, revisions, kills })
        };
        let correction =
            |after, to| (after, Event::NotCommitted { after, to, reason: ",\"event\":\"write\"".into() });
        let unrecorded = |after, to| (to, Event::Unrecorded { after, to });
        let resumed = |head| (head, Event::Resumed);
        for whole in [
            vec![write(2, 2), write(3, 1), write(3, 0), resumed(3)],
            vec![write(2, 2), import(5, Some((3, 5))), import(5, None), write(6, 1)],
            vec![write(2, 2), write(3, 1), correction(2, 3), write(3, 1)],
            vec![write(2, 2), unrecorded(2, 9), write(10, 1)],
        ] {
            assert!(written(&whole).is_ok(), "{whole:?}: {:?}", written(&whole));
        }
        for broken in [
            // A correction is missing.
            vec![write(2, 2), write(3, 1), write(3, 1)],
            vec![write(2, 2), write(3, 1), import(3, Some((3, 3)))],
            // A line without changes was written with an older head.
            vec![write(2, 2), write(3, 1), resumed(2)],
            vec![write(2, 2), write(3, 1), import(2, None)],
            // Lines are missing.
            vec![write(2, 2), write(4, 1)],
            vec![write(2, 2), import(5, Some((4, 5)))],
            vec![write(2, 2), resumed(3)],
            vec![write(2, 2), correction(3, 4)],
            vec![write(2, 2), unrecorded(1, 2)],
        ] {
            assert!(written(&broken).unwrap_err().contains("is missing"), "{broken:?}");
        }
    }

    #[test]
    fn lines_about_gaps_are_reported() {
        let notes = written(&[
            (4, Event::Unrecorded { after: 0, to: 4 }),
            (4, Event::FileLost { reason: "the file was removed or renamed" }),
            (4, Event::FileRemoved { file: "audit.log.000001".into(), lines: None }),
            (4, Event::DenialsOmitted { count: 7 }),
            (4, Event::Resumed),
        ]);
        let notes = notes.unwrap();
        assert_eq!(notes.len(), 4);
        assert_eq!(notes[0], "line 1: the changes after revision 0, up to 4, have no lines");
        assert!(notes[1].contains("removed or renamed") && notes[3].contains("7 denials"), "{notes:?}");
        let many: Vec<_> = (0..200).map(|_| (0, Event::DenialsOmitted { count: 1 })).collect();
        assert_eq!(written(&many).unwrap().len(), MAX_NOTES);
    }
}
