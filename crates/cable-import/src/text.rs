//! The encoding of text files that people and other programs write.

use std::{borrow::Cow, str::Utf8Error};

/// The byte order mark, which some editors write at the start of a file.
pub const BYTE_ORDER_MARK: char = '\u{feff}';

/// The first bytes of compressed files and archives.
const COMPRESSED: [(&[u8], &str); 5] = [
    (b"\x1f\x8b", "gzip"),
    (b"PK\x03\x04", "zip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\xfd7zXZ\0", "xz"),
    (b"BZh9", "bzip2"),
];

/// The bytes of a file are not text that Cable reads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The text has two bytes for most characters.
    #[error("the text is UTF-16: convert it to UTF-8, for example with `iconv -f UTF-16 -t UTF-8`")]
    Utf16,
    /// The text has four bytes for each character.
    #[error("the text is UTF-32: convert it to UTF-8, for example with `iconv -f UTF-32 -t UTF-8`")]
    Utf32,
    /// The file is compressed, by the program of this name.
    #[error("the file is compressed ({0}): decompress it first")]
    Compressed(&'static str),
    /// The text is in another encoding, or damaged.
    #[error("not UTF-8: {0}")]
    NotUtf8(#[from] Utf8Error),
}

/// Returns the text of a file in UTF-8, without a byte order mark. Carriage returns alone, with which old programs end
/// lines, become line feeds, as in CommonMark and HTML.
///
/// # Errors
/// The bytes are in another encoding, or compressed.
pub fn decode(bytes: &[u8]) -> Result<Cow<'_, str>, Error> {
    check_start(bytes)?;
    let text = std::str::from_utf8(bytes)?;
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    if !text.split("\r\n").any(|part| part.contains('\r')) {
        return Ok(Cow::Borrowed(text));
    }
    Ok(Cow::Owned(text.replace("\r\n", "\n").replace('\r', "\n")))
}

/// Checks the start of a file, of which four bytes are enough: those of UTF-16 and UTF-32 are a byte order mark, or a
/// character whose upper bytes are zero.
///
/// # Errors
/// The file is compressed, or its text is not UTF-8.
pub fn check_start(start: &[u8]) -> Result<(), Error> {
    if let Some((_, program)) = COMPRESSED.iter().find(|(magic, _)| start.starts_with(magic)) {
        return Err(Error::Compressed(program));
    }
    match start {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, _, _, ..] | [_, 0, 0, 0, ..] => Err(Error::Utf32),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, ..] | [_, 0, ..] => Err(Error::Utf16),
        _ => Ok(()),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Returns a text in UTF-16 and UTF-32 of both byte orders, with and without a byte order mark, each with its error.
    pub(crate) fn wide_encodings(text: &str) -> Vec<(Vec<u8>, Error)> {
        let marked = format!("{BYTE_ORDER_MARK}{text}");
        [text, &marked]
            .into_iter()
            .flat_map(|text| {
                let units: Vec<u16> = text.encode_utf16().collect();
                [
                    (units.iter().flat_map(|unit| unit.to_le_bytes()).collect(), Error::Utf16),
                    (units.iter().flat_map(|unit| unit.to_be_bytes()).collect(), Error::Utf16),
                    (text.chars().flat_map(|c| u32::from(c).to_le_bytes()).collect(), Error::Utf32),
                    (text.chars().flat_map(|c| u32::from(c).to_be_bytes()).collect(), Error::Utf32),
                ]
            })
            .collect()
    }

    /// Returns the starts of compressed files, each with its error.
    pub(crate) fn compressed() -> impl Iterator<Item = (Vec<u8>, Error)> {
        COMPRESSED
            .iter()
            .map(|(magic, program)| ([magic, &b"\0\x7b\n"[..]].concat(), Error::Compressed(program)))
    }

    #[test]
    fn a_byte_order_mark_is_removed_and_other_encodings_are_refused() {
        assert_eq!(decode("\u{feff}{\"a\": 1}".as_bytes()).unwrap(), "{\"a\": 1}");
        assert_eq!(decode("é".as_bytes()).unwrap(), "é");
        assert_eq!(decode(b"").unwrap(), "");
        for (wide, error) in wide_encodings("{\"a\": 1}\n").into_iter().chain(compressed()) {
            assert_eq!(decode(&wide), Err(error), "{wide:?}");
        }
        assert!(matches!(decode(b"caf\xe9"), Err(Error::NotUtf8(_))));
    }

    #[test]
    fn carriage_returns_end_lines() {
        assert_eq!(decode(b"a\rb\r\rc\r").unwrap(), "a\nb\n\nc\n");
        assert_eq!(decode(b"a\r\nb\rc").unwrap(), "a\nb\nc");
        assert_eq!(decode(b"a\r\nb\r\n").unwrap(), "a\r\nb\r\n");
    }
}
