//! Numbers as text.
//!
//! The parsers of the standard library also accept a sign, even before hexadecimal digits. A text from outside must not
//! have two forms.

use std::str::FromStr;

/// Parses a whole number that consists of decimal digits alone.
pub fn decimal<N: FromStr>(text: &str) -> Option<N> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// Parses bytes, each in two hexadecimal digits of either case.
pub fn hex(text: &str) -> Option<Vec<u8>> {
    let digit = |digit: u8| char::from(digit).to_digit(16).map(|value| value as u8);
    let pairs = text.as_bytes().chunks(2).map(|pair| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_one_form() {
        assert_eq!(decimal("0"), Some(0_u8));
        assert_eq!(decimal("007"), Some(7_u8));
        assert_eq!(decimal(&i64::MAX.to_string()), Some(i64::MAX));
        for text in ["", "+7", "-7", "-0", " 7", "7 ", "0x7", "7_0", "\u{0667}", "9223372036854775808"] {
            assert_eq!(decimal::<i64>(text), None, "{text}");
        }
    }

    #[test]
    fn a_byte_has_two_digits() {
        assert_eq!(hex("00ffAb"), Some(vec![0, 0xff, 0xab]));
        assert_eq!(hex(""), Some(Vec::new()));
        for text in ["0", "000", "+f", "-1", "f+", "0x", "0g", " 0", "é", "\u{ff11}\u{ff11}"] {
            assert_eq!(hex(text), None, "{text}");
        }
    }
}
