//! A reader that makes its input valid UTF-8: it marks invalid bytes, so that one bad byte does not end a file of
//! gigabytes.

use std::io::{self, BufRead, Read};

/// The mark for bytes that are not UTF-8. It is a noncharacter without meaning, so no text contains it otherwise.
pub(super) const MARK: char = '\u{fdd0}';

/// A reader that returns only UTF-8.
pub(super) struct Utf8<R> {
    inner: R,
    ready: Vec<u8>,
    offset: usize,
    /// The start of a character whose rest has not been read.
    partial: Vec<u8>,
}

impl<R> Utf8<R> {
    pub(super) fn new(inner: R) -> Self {
        Utf8 { inner, ready: Vec::new(), offset: 0, partial: Vec::new() }
    }
}

impl<R: BufRead> Utf8<R> {
    fn refill(&mut self) -> io::Result<()> {
        self.offset = 0;
        self.ready.clear();
        loop {
            let mut bytes = std::mem::take(&mut self.partial);
            let more = self.inner.fill_buf()?;
            let (length, ended) = (more.len(), more.is_empty());
            bytes.extend_from_slice(more);
            self.inner.consume(length);
            self.accept(bytes, ended);
            if ended || !self.ready.is_empty() {
                return Ok(());
            }
        }
    }

    fn accept(&mut self, mut bytes: Vec<u8>, ended: bool) {
        match std::str::from_utf8(&bytes) {
            Ok(_) => self.ready = bytes,
            Err(error) if error.error_len().is_none() && !ended => {
                self.partial = bytes.split_off(error.valid_up_to());
                self.ready = bytes;
            }
            Err(_) => self.mark(&bytes, ended),
        }
    }

    fn mark(&mut self, bytes: &[u8], ended: bool) {
        let mut rest = bytes;
        loop {
            let Err(error) = std::str::from_utf8(rest) else {
                return self.ready.extend_from_slice(rest);
            };
            let (valid, bad) = rest.split_at(error.valid_up_to());
            self.ready.extend_from_slice(valid);
            rest = match error.error_len() {
                None if !ended => return self.partial = bad.to_vec(),
                None => &[],
                Some(length) => &bad[length..],
            };
            self.ready.extend_from_slice(MARK.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
}

impl<R: BufRead> Read for Utf8<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(into)?;
        self.consume(count);
        Ok(count)
    }
}

impl<R: BufRead> BufRead for Utf8<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.offset == self.ready.len() {
            self.refill()?;
        }
        Ok(&self.ready[self.offset..])
    }

    fn consume(&mut self, count: usize) {
        self.offset += count;
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use proptest::prelude::*;

    use super::*;

    fn through(bytes: &[u8], chunk: usize) -> String {
        let mut text = String::new();
        Utf8::new(BufReader::with_capacity(chunk, bytes)).read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn invalid_bytes_are_marked_at_any_chunk_boundary() {
        for chunk in 1..9 {
            assert_eq!(through("aé€𝄞z".as_bytes(), chunk), "aé€𝄞z");
            assert_eq!(through(b"a\xffb\xe2\x82", chunk), "a\u{fdd0}b\u{fdd0}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_marks_are_those_of_the_standard_library(bytes: Vec<u8>, chunk in 1_usize..9) {
            let expected = String::from_utf8_lossy(&bytes).replace('\u{fffd}', "\u{fdd0}");
            prop_assert_eq!(through(&bytes, chunk).replace('\u{fffd}', "\u{fdd0}"), expected);
        }
    }
}
