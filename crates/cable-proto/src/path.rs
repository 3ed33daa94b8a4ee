//! Paths of pages: the rules that they must meet, and those by which two of them are equal (RFC 3986, 6.2.2).

use unicode_normalization::UnicodeNormalization as _;

use crate::{
    limit,
    text::{self, Lines},
};

/// The rule that a path violates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The path does not start with exactly one `/`, or it contains `?`, `#`, `\\` or a space.
    Form,
    /// The path has a segment `.` or `..`, percent-encoded or not.
    DotSegment,
}

/// Returns the rule of paths that the text violates, besides those of every line of text: its length and characters.
#[must_use]
pub fn fault(path: &str) -> Option<Fault> {
    let is_clean = !path.contains(['?', '#', ' ', '\\']);
    if !path.starts_with('/') || path.starts_with("//") || !is_clean {
        return Some(Fault::Form);
    }
    has_dot_segment(path).then_some(Fault::DotSegment)
}

/// Returns whether the text can be the path of an article or a section.
///
/// ```
/// use cable_proto::path;
///
/// assert!(path::is_valid("/2026/05/storm/"));
/// assert!(!path::is_valid("//cdn.example/storm") && !path::is_valid("/a/../b"));
/// ```
#[must_use]
pub fn is_valid(path: &str) -> bool {
    path.len() as u64 <= limit::PATH.maximum
        && text::find_forbidden(path, Lines::One).is_none()
        && fault(path).is_none()
}

/// Returns the form in which paths are compared and indexed: percent-encoding in upper case and only where it is
/// needed, all other characters in NFC.
#[must_use]
pub fn normalise(path: &str) -> String {
    let mut normaliser = Normaliser { out: String::with_capacity(path.len()), run: String::new() };
    let mut rest = path;
    while let Some(next) = rest.chars().next() {
        if next == '%' {
            let (octets, after) = octets(rest);
            normaliser.octets(&octets);
            rest = after;
        } else {
            normaliser.character(next);
            rest = &rest[next.len_utf8()..];
        }
    }
    normaliser.end_run();
    normaliser.out
}

/// Returns whether two paths are equal.
#[must_use]
pub fn is_same(a: &str, b: &str) -> bool {
    a == b || normalise(a) == normalise(b)
}

/// Returns whether a path has a segment `.` or `..`, percent-encoded or not. Clients and proxies resolve such a path to
/// another one.
#[must_use]
pub fn has_dot_segment(path: &str) -> bool {
    normalise(path).split('/').any(|segment| matches!(segment, "." | ".."))
}

/// Returns the octets of the percent-encodings at the start of a text, and the rest of the text. A `%` that starts no
/// encoding is treated as a percent-encoded `%`.
fn octets(text: &str) -> (Vec<u8>, &str) {
    let (mut octets, mut rest) = (Vec::new(), text);
    while let Some(after) = rest.strip_prefix('%') {
        let digits = after.get(..2).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(octet) => {
                octets.push(octet);
                rest = &after[2..];
            }
            None => {
                octets.push(b'%');
                rest = after;
            }
        }
    }
    (octets, rest)
}

struct Normaliser {
    out: String,
    /// The characters since the last percent-encoding. No composition reaches across an encoding, because its digits
    /// are not text.
    run: String,
}

impl Normaliser {
    fn octets(&mut self, octets: &[u8]) {
        for chunk in octets.utf8_chunks() {
            chunk.valid().chars().for_each(|character| self.decoded(character));
            chunk.invalid().iter().for_each(|octet| self.encoded(*octet));
        }
    }

    /// Adds a character that was percent-encoded. A reserved character keeps its encoding, because the two forms differ
    /// in meaning.
    fn decoded(&mut self, character: char) {
        if character.is_ascii_alphanumeric() || "-._~".contains(character) || !character.is_ascii() {
            self.run.push(character);
        } else {
            self.encoded(character as u8);
        }
    }

    fn character(&mut self, character: char) {
        let is_literal = character.is_ascii_alphanumeric() || "-._~!$&'()*+,;=:@/".contains(character);
        if is_literal || !character.is_ascii() {
            self.run.push(character);
        } else {
            self.encoded(character as u8);
        }
    }

    fn encoded(&mut self, octet: u8) {
        use std::fmt::Write as _;
        self.end_run();
        // Writing to a string does not fail.
        let _ = write!(self.out, "%{octet:02X}");
    }

    fn end_run(&mut self) {
        if self.run.is_ascii() {
            self.out.push_str(&self.run);
        } else {
            self.out.extend(self.run.nfc());
        }
        self.run.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_path_are_equal() {
        for spellings in [
            &["/%d1%82/", "/%D1%82/", "/т/"][..],
            &["/caf\u{e9}", "/cafe\u{301}", "/caf%C3%A9", "/cafe%cc%81", "/%63af%c3%A9"],
            &["/a-b_c.d~e", "/%61%2db%5fc%2Ed%7e%65"],
            &["/100%", "/100%25"],
            &["/a|b\"c", "/a%7cb%22c"],
            &["/%ff/%C3", "/%FF/%c3"],
            &["/\u{212b}", "/\u{c5}", "/A\u{30a}"],
        ] {
            for spelling in spellings {
                assert!(is_same(spelling, spellings[0]), "{spelling}: {}", normalise(spelling));
            }
        }
    }

    #[test]
    fn different_paths_are_not_equal() {
        for (a, b) in [
            ("/a", "/A"),
            ("/a", "/a/"),
            ("/a%2Fb", "/a/b"),
            ("/a%3Fb", "/a"),
            ("/a%26b", "/a&b"),
            ("/%2561", "/%61"),
            ("/%3C\u{301}", "/%3\u{106}"),
            ("/%ff", "/\u{ff}"),
        ] {
            assert!(!is_same(a, b), "{a} {b}: {} {}", normalise(a), normalise(b));
        }
    }

    #[test]
    fn a_normal_form_is_not_changed_again() {
        let pieces =
            ["/", "%", "%2", "%2e", "%C3", "%a9", "%3C", "e", "\u{301}", "\u{e9}", "т", "[", "4", "."];
        let mut number = 0usize;
        for _ in 0..20_000 {
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let path: String = (0..6).map(|n| pieces[(number >> (n * 8)) % pieces.len()]).collect();
            assert_eq!(normalise(&normalise(&path)), normalise(&path), "{path}");
        }
    }

    #[test]
    fn every_spelling_of_a_dot_segment_is_found() {
        for path in ["/..", "/../etc", "/a/./b", "/a/%2e%2E/b", "/.%2e", "/%2e", "/a/.."] {
            assert!(has_dot_segment(path), "{path}");
        }
        for path in ["/", "/a", "/...", "/.a", "/a.", "/..%2F", "/%252e"] {
            assert!(!has_dot_segment(path), "{path}");
        }
    }
}
