//! Removal of characters that no text may hold from the source of a text, both literal and as HTML references that a
//! parser would decode into them. White space among them becomes a space.

use cable_proto::text;

/// Removes the characters and returns their number.
pub(super) fn clean(source: &mut String) -> usize {
    let unreferenced = without_references(source);
    let (cleaned, removed) = text::remove_forbidden(&unreferenced.0);
    let removed = removed + unreferenced.1;
    if removed > 0 {
        *source = cleaned.into_owned();
    }
    removed
}

/// Returns the source without references to such characters. Each pass can join two halves of another reference.
fn without_references(source: &str) -> (String, usize) {
    let (mut before, mut removed) = (source.to_owned(), 0);
    for _ in 0..MAX_PASSES {
        let (after, found) = remove_references(&before);
        removed += found;
        before = after;
        if found == 0 {
            break;
        }
    }
    (before, removed)
}

const MAX_PASSES: usize = 3;

fn remove_references(source: &str) -> (String, usize) {
    let (mut out, mut removed) = (String::with_capacity(source.len()), 0);
    let mut rest = source;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let refused = refused(rest);
        removed += usize::from(refused.is_some());
        let (length, replacement) = refused.unwrap_or((1, "&"));
        out.push_str(replacement);
        rest = &rest[length..];
    }
    out.push_str(rest);
    (out, removed)
}

/// Returns the length of the reference at the start if it refers to such a character, and its replacement: a space for
/// white space.
fn refused(html: &str) -> Option<(usize, &'static str)> {
    const NAMED: [&str; 7] =
        ["&af;", "&ApplyFunction;", "&it;", "&InvisibleTimes;", "&ic;", "&InvisibleComma;", "&#65279;"];
    if let Some(name) = NAMED.iter().find(|name| html.starts_with(**name)) {
        return Some((name.len(), ""));
    }
    let digits = html.strip_prefix("&#")?;
    let (digits, radix, prefix) = match digits.strip_prefix(['x', 'X']) {
        Some(digits) => (digits, 16, 3),
        None => (digits, 10, 2),
    };
    let end = digits.find(|c: char| !c.is_digit(radix)).unwrap_or(digits.len());
    let value = digits[..end].chars().fold(0_u32, |value, digit| {
        value.saturating_mul(radix).saturating_add(digit.to_digit(radix).unwrap_or_default())
    });
    // HTML maps the values 0x80 to 0x9f to letters of another encoding.
    let is_letter = (0x80..0xa0).contains(&value);
    let c = char::from_u32(value).filter(|_| end > 0 && !is_letter)?;
    let replacement = if matches!(c, '\u{b}' | '\u{c}') { " " } else { "" };
    let length = prefix + end + usize::from(digits[end..].starts_with(';'));
    (c == '\r' || text::is_forbidden(c)).then_some((length, replacement))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literal_and_referenced_characters_are_removed() {
        for (source, expected, count) in [
            ("Low\u{1}water", "Lowwater", 1),
            ("Low&#1;water", "Lowwater", 1),
            ("Low&#x202E;wa&#8238ter", "Lowwater", 2),
            ("a&#0000;b&af;c\u{feff}", "abc", 3),
            ("&#&#1;1;x", "x", 2),
            (
                "&\u{1}amp; &#150; &#x1F600; &lrm; caf&eacute; AT&T",
                "&amp; &#150; &#x1F600; &lrm; caf&eacute; AT&T",
                1,
            ),
            ("one\u{b}two\u{c}three\u{85}four", "one two three four", 3),
            ("one&#11;two&#xC;three", "one two three", 2),
            ("plain", "plain", 0),
        ] {
            let mut cleaned = source.to_owned();
            assert_eq!((clean(&mut cleaned), &*cleaned), (count, expected), "{source}");
        }
    }
}
