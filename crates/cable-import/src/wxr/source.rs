//! The text of a file, recorded while an element is read, so that the reader can find the end of a damaged element and
//! continue after it.

use std::io::{self, BufRead, Read};

use super::encoding::Decoded;

/// The maximum size in bytes of one element with everything in it. A post has at most 4 MiB of text, and can have
/// thousands of comments.
pub(super) const MAX_ELEMENT_BYTES: usize = 32 << 20;

/// A source of text that can be read again from the start of a recording.
pub(super) struct Source<R> {
    inner: Decoded<R>,
    /// Text that is read again before the rest of the file.
    again: Vec<u8>,
    again_offset: usize,
    recording: Option<Vec<u8>>,
    /// The number of bytes of text consumed.
    position: u64,
}

impl<R: BufRead> Source<R> {
    pub(super) fn new(inner: R) -> Self {
        Source {
            inner: Decoded::new(inner),
            again: Vec::new(),
            again_offset: 0,
            recording: None,
            position: 0,
        }
    }

    /// Returns the number of bytes of text consumed.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Starts a recording of the text that is consumed from here on.
    pub(super) fn start_recording(&mut self) {
        let mut recording = self.recording.take().unwrap_or_default();
        recording.clear();
        self.recording = Some(recording);
    }

    /// Returns the text consumed since the start of the recording.
    pub(super) fn recorded(&self) -> &[u8] {
        self.recording.as_deref().unwrap_or_default()
    }

    /// Ends the recording and returns its text.
    pub(super) fn stop_recording(&mut self) -> Vec<u8> {
        self.recording.take().unwrap_or_default()
    }

    /// Reads a text again that was consumed just before.
    pub(super) fn push_back(&mut self, mut text: Vec<u8>) {
        self.position -= text.len() as u64;
        text.extend_from_slice(&self.again[self.again_offset..]);
        self.again = text;
        self.again_offset = 0;
    }

    /// Consumes all text up to the end of the first occurrence of the tag. Returns false at the end of the file.
    pub(super) fn skip_past(&mut self, tag: &str) -> io::Result<bool> {
        let tag = tag.as_bytes();
        // Only the first byte of a tag is `<`, so a mismatch can only start a new match.
        let mut matched = 0;
        loop {
            let text = self.buffer()?;
            if text.is_empty() {
                return Ok(false);
            }
            let length = text.len();
            let end = text.iter().position(|byte| {
                matched = if *byte == tag[matched] { matched + 1 } else { usize::from(*byte == tag[0]) };
                matched == tag.len()
            });
            self.consume(end.map_or(length, |end| end + 1));
            if end.is_some() {
                return Ok(true);
            }
        }
    }

    fn buffer(&mut self) -> io::Result<&[u8]> {
        if self.again_offset < self.again.len() {
            return Ok(&self.again[self.again_offset..]);
        }
        self.inner.fill_buf()
    }
}

impl<R: BufRead> Read for Source<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(into)?;
        self.consume(count);
        Ok(count)
    }
}

impl<R: BufRead> BufRead for Source<R> {
    /// Returns the next text. At the maximum size of an element, it returns none, as at the end of the file.
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.recorded().len() >= MAX_ELEMENT_BYTES {
            return Ok(&[]);
        }
        self.buffer()
    }

    fn consume(&mut self, count: usize) {
        self.position += count as u64;
        let is_again = self.again_offset < self.again.len();
        let text = if is_again { &self.again[self.again_offset..] } else { self.inner.ready() };
        if let Some(recording) = &mut self.recording
            && recording.len() < MAX_ELEMENT_BYTES
        {
            recording.extend_from_slice(&text[..count]);
        }
        if is_again {
            self.again_offset += count;
        } else {
            self.inner.consume(count);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    #[test]
    fn a_recording_is_read_again_before_the_rest() {
        for chunk in 1..8 {
            let mut source = Source::new(BufReader::with_capacity(chunk, &b"abc<x></y></x>rest"[..]));
            assert!(source.skip_past("c").unwrap());
            source.start_recording();
            assert!(source.skip_past("</x>").unwrap());
            assert_eq!((source.recorded(), source.position()), (&b"<x></y></x>"[..], 14));
            let recorded = source.stop_recording();
            source.push_back(recorded);
            assert_eq!(source.position(), 3);
            assert!(source.skip_past("</y>").unwrap());
            assert!(!source.skip_past("</z>").unwrap());
            assert_eq!(source.position(), 18);
        }
    }

    #[test]
    fn tags_are_found_after_a_false_start() {
        for text in ["</it</item>", "<</item>", "</</item>"] {
            assert!(Source::new(text.as_bytes()).skip_past("</item>").unwrap(), "{text}");
        }
    }
}
