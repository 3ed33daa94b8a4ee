//! Ids derived from foreign slugs.

use std::fmt::Write as _;

use xxhash_rust::xxh3::xxh3_64;

use cable_proto::limit;

const MAX_BYTES: usize = limit::ID.maximum as usize;
/// The suffix of a cut id: `~~` and 16 hex digits. No shorter id contains `~~`.
const HASH_BYTES: usize = 18;

/// Returns the id for a slug: the prefix and the percent-decoded slug, in which `~` and two hex digits replace each byte
/// that an id cannot contain, and each byte of `.` and `..`. Slugs that decode to different bytes have different ids. An
/// id that is too long is cut and ends in a hash of the slug. An empty slug has no id.
pub(crate) fn from_slug(prefix: &str, slug: &str) -> String {
    let bytes = percent_decoded(slug);
    if bytes.is_empty() {
        return String::new();
    }
    let mut id = String::with_capacity(prefix.len() + bytes.len());
    id.push_str(prefix);
    // No id is `.` or `..`.
    let is_dots = matches!(&bytes[..], b"." | b"..");
    for &byte in &bytes {
        if is_dots {
            let _ = write!(id, "~{byte:02x}");
        } else if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-') {
            id.push(byte.into());
        } else {
            let _ = write!(id, "~{byte:02x}");
        }
    }
    if id.len() > MAX_BYTES {
        id.truncate(MAX_BYTES - HASH_BYTES);
        let _ = write!(id, "~~{:016x}", xxh3_64(&bytes));
    }
    id
}

/// Derives a slug from a name, for terms without one: lower case, hyphens for white space.
pub(crate) fn slug_of_name(name: &str) -> String {
    name.split_whitespace().map(str::to_lowercase).collect::<Vec<_>>().join("-")
}

fn percent_decoded(slug: &str) -> Vec<u8> {
    let bytes = slug.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = bytes.get(at + 1..at + 3).filter(|_| bytes[at] == b'%').and_then(hex_byte);
        out.push(escaped.unwrap_or(bytes[at]));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    out
}

fn hex_byte(digits: &[u8]) -> Option<u8> {
    let value = |digit: u8| char::from(digit).to_digit(16);
    Some((value(digits[0])? * 16 + value(digits[1])?) as u8)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn from_slug(slug: &str) -> String {
        super::from_slug("", slug)
    }

    #[test]
    fn a_prefix_comes_before_the_slug() {
        assert_eq!(super::from_slug("gazette-", "port"), "gazette-port");
        assert_eq!(super::from_slug("gazette-", ""), "");
        let long = super::from_slug("gazette-", &"x".repeat(200));
        assert!(long.starts_with("gazette-x") && long.len() == MAX_BYTES);
    }

    #[test]
    fn a_plain_slug_is_its_own_id() {
        assert_eq!(from_slug("world-news_2.0"), "world-news_2.0");
    }

    #[test]
    fn percent_encoded_and_raw_slugs_have_the_same_id() {
        assert_eq!(from_slug("%e6%b8%af"), from_slug("港"));
        assert_eq!(from_slug("港"), "~e6~b8~af");
        assert_eq!(from_slug("100%"), "100~25");
        assert_eq!(from_slug("a~b"), "a~7eb");
    }

    #[test]
    fn long_slugs_have_different_ids() {
        let long = "x".repeat(200);
        let longer = "x".repeat(201);
        assert_eq!(from_slug(&long).len(), MAX_BYTES);
        assert_ne!(from_slug(&long), from_slug(&longer));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn ids_are_valid_and_different(slugs in prop::collection::vec("[a-c~%\u{e9}/ ]{1,60}|\\PC{1,90}", 1..40)) {
            let mut seen: HashMap<String, Vec<u8>> = HashMap::new();
            for slug in slugs {
                let id = from_slug(&slug);
                prop_assert!((1..=MAX_BYTES).contains(&id.len()));
                prop_assert!(id.bytes().all(|b| b.is_ascii_alphanumeric() || b"._~-".contains(&b)));
                let bytes = percent_decoded(&slug);
                prop_assert_eq!(seen.entry(id).or_insert_with(|| bytes.clone()), &bytes);
            }
        }
    }
}
