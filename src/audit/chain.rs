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

/// A chain that was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// The number of lines.
    pub lines: u64,
    /// The hash that the first line names as that of the line before it, in hexadecimal. Zeros at the start of a log.
    pub first: String,
    /// The hash of the last line, in hexadecimal. A log that was cut short has another one.
    pub last: String,
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

/// Verifies the chain through files, the oldest first.
///
/// # Errors
/// A file cannot be read, or the chain is broken.
pub fn verify(paths: &[PathBuf]) -> Result<Chain, VerifyError> {
    let mut chain: Option<(String, u64, End)> = None;
    for path in paths {
        verify_file(path, &mut chain)?;
    }
    let (first, lines, end) = chain.ok_or(VerifyError::Empty)?;
    Ok(Chain { lines, first, last: hex(&end.hash) })
}

/// Verifies one file. `chain` is the hash before the first line, the number of lines and their end.
fn verify_file(path: &Path, chain: &mut Option<(String, u64, End)>) -> Result<(), VerifyError> {
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
        let broken = |problem: &str| VerifyError::Broken {
            path: path.to_owned(),
            line: number,
            problem: problem.to_owned(),
        };
        let line = line.strip_suffix(b"\n").ok_or_else(|| broken("the line is cut short, or too long"))?;
        let (prev, own, _) = parse(line).ok_or_else(|| broken("not a line of an audit log"))?;
        let end = End::of(line).ok_or_else(|| broken("not a line of an audit log"))?;
        let (_, lines, last) = chain
            .get_or_insert_with(|| (prev.to_owned(), 0, End { line: own.wrapping_sub(1), ..End::default() }));
        if own != last.line.wrapping_add(1) {
            return Err(broken(&format!(
                "line {own} follows line {}: lines are missing or repeated",
                last.line
            )));
        }
        if *lines > 0 && prev != hex(&last.hash) {
            return Err(broken("the line before it is not the one that was written"));
        }
        (*lines, *last) = (*lines + 1, end);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::audit::line::Event;

    fn log(lines: i64) -> Vec<String> {
        let (mut end, mut out) = (End::default(), String::new());
        for head in 1..=lines {
            end.append(head, &Event::Resumed.members(head), &mut out);
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
}
