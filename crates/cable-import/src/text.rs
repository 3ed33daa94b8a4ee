//! The encoding of text files that people and other programs write.

use std::str::Utf8Error;

/// The byte order mark, which some editors write at the start of a file.
pub const BYTE_ORDER_MARK: char = '\u{feff}';

/// The bytes of a file are not text that Cable reads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The text is in an encoding of two or four bytes for each character.
    #[error("the text is UTF-16 or UTF-32: convert it to UTF-8, for example with `iconv -f UTF-16 -t UTF-8`")]
    Wide,
    /// The text is in another encoding, or damaged.
    #[error("not UTF-8: {0}")]
    NotUtf8(#[from] Utf8Error),
}

/// Returns the text of a file in UTF-8, without a byte order mark.
///
/// # Errors
/// The bytes are in another encoding.
pub fn decode(bytes: &[u8]) -> Result<&str, Error> {
    if is_wide(bytes) {
        return Err(Error::Wide);
    }
    let text = std::str::from_utf8(bytes)?;
    Ok(text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text))
}

/// Returns whether a text starts like UTF-16 or UTF-32: with a byte order mark of one, or with a character whose upper
/// bytes are zero.
pub fn is_wide(start: &[u8]) -> bool {
    start.starts_with(b"\xff\xfe")
        || start.starts_with(b"\xfe\xff")
        || start.iter().take(2).any(|byte| *byte == 0)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Returns a text in UTF-16 and UTF-32 of both byte orders, with and without a byte order mark.
    pub(crate) fn wide_encodings(text: &str) -> Vec<Vec<u8>> {
        let marked = format!("{BYTE_ORDER_MARK}{text}");
        [text, &marked]
            .into_iter()
            .flat_map(|text| {
                let units: Vec<u16> = text.encode_utf16().collect();
                [
                    units.iter().flat_map(|unit| unit.to_le_bytes()).collect(),
                    units.iter().flat_map(|unit| unit.to_be_bytes()).collect(),
                    text.chars().flat_map(|c| u32::from(c).to_le_bytes()).collect(),
                    text.chars().flat_map(|c| u32::from(c).to_be_bytes()).collect::<Vec<u8>>(),
                ]
            })
            .collect()
    }

    #[test]
    fn a_byte_order_mark_is_removed_and_other_encodings_are_refused() {
        assert_eq!(decode("\u{feff}{\"a\": 1}".as_bytes()), Ok("{\"a\": 1}"));
        assert_eq!(decode("é".as_bytes()), Ok("é"));
        assert_eq!(decode(b""), Ok(""));
        for wide in wide_encodings("{\"a\": 1}\n") {
            assert_eq!(decode(&wide), Err(Error::Wide), "{wide:?}");
        }
        assert!(matches!(decode(b"caf\xe9"), Err(Error::NotUtf8(_))));
    }
}
