//! A reader that turns a file of any declared encoding into UTF-8: it marks bytes that are invalid in that encoding, so
//! that one bad byte does not end a file of gigabytes.

use std::io::{self, BufRead, Read};

use encoding_rs::{Decoder, DecoderResult, Encoding, UTF_8, UTF_16BE, UTF_16LE};

use crate::text;

/// The mark for bytes that are invalid. It is a noncharacter without meaning, so no text contains it otherwise.
pub(crate) const MARK: char = '\u{fdd0}';

/// The number of bytes in which the XML declaration is looked for.
const DECLARATION_BYTES: usize = 1 << 10;

/// A reader that returns only UTF-8.
pub(super) struct Decoded<R> {
    inner: R,
    /// None before the first read, which detects the encoding.
    decoder: Option<Decoder>,
    has_ended: bool,
    ready: String,
    offset: usize,
}

impl<R> Decoded<R> {
    pub(super) fn new(inner: R) -> Self {
        Decoded { inner, decoder: None, has_ended: false, ready: String::new(), offset: 0 }
    }

    /// Returns the text that is decoded and not consumed.
    pub(super) fn ready(&self) -> &[u8] {
        &self.ready.as_bytes()[self.offset..]
    }

    fn decode(&mut self, mut bytes: &[u8]) {
        let Some(decoder) = &mut self.decoder else { return };
        self.has_ended = bytes.is_empty();
        loop {
            self.ready.reserve(decoder.max_utf8_buffer_length_without_replacement(bytes.len()).unwrap_or(0));
            let (result, read) =
                decoder.decode_to_string_without_replacement(bytes, &mut self.ready, self.has_ended);
            bytes = &bytes[read..];
            match result {
                DecoderResult::InputEmpty => return,
                DecoderResult::OutputFull => {}
                DecoderResult::Malformed(..) => self.ready.push(MARK),
            }
        }
    }
}

impl<R: BufRead> Decoded<R> {
    fn refill(&mut self) -> io::Result<()> {
        self.offset = 0;
        self.ready.clear();
        if self.decoder.is_none() {
            let mut head = Vec::new();
            (&mut self.inner).take(DECLARATION_BYTES as u64).read_to_end(&mut head)?;
            check_start(&head)?;
            let (encoding, mark) = encoding_of(&head)?;
            self.decoder = Some(encoding.new_decoder_without_bom_handling());
            if head.len() > mark {
                self.decode(&head[mark..]);
            }
        }
        while self.ready.is_empty() && !self.has_ended {
            let bytes = self.inner.fill_buf()?.to_vec();
            self.inner.consume(bytes.len());
            self.decode(&bytes);
        }
        Ok(())
    }
}

/// Decodes a document in memory. Without a byte order mark, the encoding is that of its transport, if that states one;
/// else that of the XML declaration. Invalid bytes become [`MARK`].
pub(crate) fn decode(bytes: &[u8], charset: Option<&str>) -> io::Result<String> {
    check_start(bytes)?;
    let (encoding, mark) = match charset {
        Some(charset) if Encoding::for_bom(bytes).is_none() => {
            let unknown = || {
                let problem = format!("the response declares the unknown encoding {charset}");
                io::Error::new(io::ErrorKind::InvalidData, problem)
            };
            (Encoding::for_label_no_replacement(charset.as_bytes()).ok_or_else(unknown)?, 0)
        }
        _ => encoding_of(&bytes[..bytes.len().min(DECLARATION_BYTES)])?,
    };
    let mut decoded = Decoded::new(io::empty());
    decoded.decoder = Some(encoding.new_decoder_without_bom_handling());
    if bytes.len() > mark {
        decoded.decode(&bytes[mark..]);
    }
    decoded.decode(b"");
    Ok(decoded.ready)
}

/// Checks the start of a file for what no decoder here reads.
fn check_start(head: &[u8]) -> io::Result<()> {
    match text::check_start(head) {
        Ok(()) | Err(text::Error::Utf16) => Ok(()),
        Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
    }
}

/// Returns the encoding of a file that starts with these bytes, and the length of its byte order mark.
fn encoding_of(head: &[u8]) -> io::Result<(&'static Encoding, usize)> {
    if let Some(found) = Encoding::for_bom(head) {
        return Ok(found);
    }
    match head {
        [b'<', 0, ..] => return Ok((UTF_16LE, 0)),
        [0, b'<', ..] => return Ok((UTF_16BE, 0)),
        _ => {}
    }
    let Some(label) = declared_label(head) else { return Ok((UTF_8, 0)) };
    let unknown = || {
        let label = String::from_utf8_lossy(label);
        io::Error::new(io::ErrorKind::InvalidData, format!("the file declares the unknown encoding {label}"))
    };
    let encoding = Encoding::for_label_no_replacement(label).ok_or_else(unknown)?;
    // A declaration that can be read as ASCII is not in UTF-16, even if it names it.
    let encoding = if encoding == UTF_16LE || encoding == UTF_16BE { UTF_8 } else { encoding };
    Ok((encoding, 0))
}

/// Returns the encoding that an XML declaration names.
fn declared_label(head: &[u8]) -> Option<&[u8]> {
    let declaration = head.trim_ascii_start().strip_prefix(b"<?xml")?;
    let declaration = &declaration[..find(declaration, b"?>")?];
    let after = declaration[find(declaration, b"encoding")? + b"encoding".len()..].trim_ascii_start();
    let value = after.strip_prefix(b"=")?.trim_ascii_start();
    let (quote, value) = value.split_first().filter(|(quote, _)| matches!(quote, b'"' | b'\''))?;
    value.split(|byte| byte == quote).next()
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

impl<R: BufRead> Read for Decoded<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(into)?;
        self.consume(count);
        Ok(count)
    }
}

impl<R: BufRead> BufRead for Decoded<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.offset == self.ready.len() {
            self.refill()?;
        }
        Ok(self.ready())
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
        Decoded::new(BufReader::with_capacity(chunk, bytes)).read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn invalid_bytes_are_marked_at_any_chunk_boundary() {
        let long = " ".repeat(DECLARATION_BYTES - 2);
        for chunk in 1..9 {
            assert_eq!(through("aé€𝄞z".as_bytes(), chunk), "aé€𝄞z");
            assert_eq!(through(b"a\xffb\xe2\x82", chunk), "a\u{fdd0}b\u{fdd0}");
            assert_eq!(through(format!("{long}é€𝄞").as_bytes(), chunk), format!("{long}é€𝄞"));
            assert_eq!(through(b"", chunk), "");
        }
    }

    #[test]
    fn the_declared_encoding_is_decoded() {
        let text = |label: &str| format!("<?xml version='1.0' encoding=\"{label}\"?><a>Küste – 5 €</a>");
        for label in ["UTF-8", "utf8", "windows-1252", "ISO-8859-1", "cp1252", "Latin1"] {
            let text = text(label);
            let encoding = Encoding::for_label(label.as_bytes()).unwrap();
            assert_eq!(through(&encoding.encode(&text).0, 5), text, "{label}");
        }
        for (label, word) in [("KOI8-R", "Гавань"), ("Shift_JIS", "港"), ("ISO-8859-15", "5 €")] {
            let text = format!("\n<?xml encoding = '{label}' ?>{word}");
            let encoding = Encoding::for_label(label.as_bytes()).unwrap();
            assert_eq!(through(&encoding.encode(&text).0, 3), text, "{label}");
        }
    }

    #[test]
    fn utf_16_is_recognised_by_its_mark_or_its_first_character() {
        let text = "<?xml version='1.0' encoding='UTF-16'?><a>Küste 港 𝄞</a>";
        let little: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
        for chunk in [1, 2, 3, 4_096] {
            assert_eq!(through(&[b"\xff\xfe", &little[..]].concat(), chunk), text);
            assert_eq!(through(&[b"\xfe\xff", &big[..]].concat(), chunk), text);
            assert_eq!(through(&little, chunk), text);
            assert_eq!(through(&big, chunk), text);
            assert_eq!(through(&[b"\xef\xbb\xbf", text.as_bytes()].concat(), chunk), text);
            assert_eq!(through(text.as_bytes(), chunk), text, "declared UTF-16, written in UTF-8");
        }
        let unpaired = [&little[..], b"\x00\xd8"].concat();
        assert_eq!(through(&unpaired, 3), format!("{text}{MARK}"));
    }

    #[test]
    fn an_unknown_encoding_is_an_error() {
        let error = Decoded::new(&b"<?xml encoding='klingon'?>"[..]).fill_buf().unwrap_err();
        assert_eq!(error.to_string(), "the file declares the unknown encoding klingon");
    }

    #[test]
    fn compressed_files_and_four_bytes_for_a_character_are_errors() {
        let wide = text::tests::wide_encodings("<rss/>")
            .into_iter()
            .filter(|(_, error)| *error != text::Error::Utf16);
        for (bytes, expected) in wide.chain(text::tests::compressed()) {
            let error = Decoded::new(&bytes[..]).fill_buf().unwrap_err();
            assert_eq!(error.to_string(), expected.to_string(), "{bytes:?}");
            assert_eq!(decode(&bytes, Some("utf-8")).unwrap_err().to_string(), expected.to_string());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_marks_are_those_of_the_standard_library(bytes: Vec<u8>, chunk in 1_usize..9) {
            let bytes = [b"xy", &bytes[..]].concat();
            let expected = String::from_utf8_lossy(&bytes).replace('\u{fffd}', "\u{fdd0}");
            prop_assert_eq!(through(&bytes, chunk).replace('\u{fffd}', "\u{fdd0}"), expected);
        }
    }
}
