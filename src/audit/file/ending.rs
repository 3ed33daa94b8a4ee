//! The end of a file: its last whole line, and what a stop or a power cut left of an append after it.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom},
};

use crate::audit::chain::{End, MAX_LINE_BYTES, is_start_of_line, time};

/// Removes what was left of an append that did not happen. Returns the same as [`read_end`].
pub(super) fn recover(file: &mut File) -> io::Result<(Option<End>, u64)> {
    remove_torn(file)?;
    let (end, length) = read_end(file)?;
    trim(file, length)?;
    Ok((end, length))
}

/// Returns the end of the chain in a file, `None` if it has no line, and the length of its whole lines in bytes.
pub(super) fn read_end(file: &mut File) -> io::Result<(Option<End>, u64)> {
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
