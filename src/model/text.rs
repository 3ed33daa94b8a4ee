//! Which characters a text may hold.
//!
//! What is published goes into pages, feeds and sitemaps that others make. XML forbids most control characters and some
//! code points; overrides of the direction of text make it read as something else than it is; and what cannot be seen
//! makes two texts that look the same differ.

use std::borrow::Cow;

/// Whether a text may have more than one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lines {
    One,
    Many,
}

/// The flag that begins a sequence of tag characters: those of England, Scotland and Wales.
const BLACK_FLAG: char = '\u{1f3f4}';

/// Whether the character has no place in any text. Joiners, marks of direction, soft hyphens and the like do: scripts
/// and emoji need them. A line feed and a tab are up to the text.
pub(crate) fn is_refused(c: char) -> bool {
    match c {
        '\n' | '\t' => false,
        // Embeddings, overrides and isolates of direction.
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
        // Invisible operators, deprecated format characters, marks of order, annotations.
        '\u{2061}'..='\u{2065}' | '\u{206a}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' => true,
        // Not characters.
        '\u{fdd0}'..='\u{fdef}' => true,
        '\u{e0001}' => true,
        c => c.is_control() || u32::from(c) & 0xfffe == 0xfffe,
    }
}

fn is_tag(c: char) -> bool {
    matches!(c, '\u{e0020}'..='\u{e007f}')
}

/// Whether the character leaves nothing to see, though it is no white space.
fn is_invisible(c: char) -> bool {
    is_refused(c)
        || is_tag(c)
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{2800}' | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{ffa0}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0100}'..='\u{e01ef}')
}

/// Whether there is something to see.
pub(crate) fn is_visible(text: &str) -> bool {
    text.chars().any(|c| !c.is_whitespace() && !is_invisible(c))
}

/// The first character that the text may not hold.
pub(crate) fn refused(text: &str, lines: Lines) -> Option<char> {
    let plain = |byte: u8| matches!(byte, b' '..=b'~');
    let start = text.bytes().position(|byte| !plain(byte))?;
    let mut in_flag = false;
    text[start.min(floor(text, start))..].chars().find(|&c| {
        let breaks = lines == Lines::One && matches!(c, '\n' | '\t');
        let loose_tag = is_tag(c) && !in_flag;
        in_flag = c == BLACK_FLAG || (in_flag && is_tag(c));
        breaks || loose_tag || is_refused(c)
    })
}

/// The position of the character that a byte belongs to.
fn floor(text: &str, at: usize) -> usize {
    (0..=at).rev().find(|&at| text.is_char_boundary(at)).unwrap_or_default()
}

/// The text without what it may not hold, and how many characters that were.
pub(crate) fn cleaned(text: &str) -> (Cow<'_, str>, usize) {
    if refused(text, Lines::Many).is_none() {
        return (Cow::Borrowed(text), 0);
    }
    let (mut kept, mut left_out, mut in_flag) = (String::with_capacity(text.len()), 0, false);
    for c in text.chars() {
        let loose_tag = is_tag(c) && !in_flag;
        in_flag = c == BLACK_FLAG || (in_flag && is_tag(c));
        if c == '\r' {
            // A line break of another system: the parser of HTML and of XML reads it as a line feed.
            kept.push('\n');
        } else if loose_tag || is_refused(c) {
            left_out += 1;
        } else {
            kept.push(c);
        }
    }
    (Cow::Owned(kept), left_out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_and_emoji_keep_what_they_need() {
        for text in [
            "Storm over Norwick",
            "מזג \u{200f}אוויר",
            "می\u{200c}خواهم",
            "👩\u{200d}🚀 ❤\u{fe0f}",
            "🏴\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f} wins",
            "Donau\u{ad}dampf",
            "ភាសា\u{200b}ខ្មែរ",
            "葛\u{e0100}",
        ] {
            assert_eq!(refused(text, Lines::One), None, "{text}");
            assert_eq!(cleaned(text), (Cow::Borrowed(text), 0));
            assert!(is_visible(text));
        }
    }

    #[test]
    fn control_format_and_no_characters_are_refused() {
        for c in "\0\u{1}\u{b}\r\u{1b}\u{1c}\u{7f}\u{85}\u{9f}\u{202a}\u{202e}\u{2066}\u{2069}\u{2061}\u{2064}\u{206a}\u{feff}\
                  \u{fff9}\u{fffb}\u{fdd0}\u{fffe}\u{ffff}\u{1fffe}\u{10ffff}\u{e0001}\u{e0041}"
            .chars()
        {
            for text in [c.to_string(), format!("Low{c}water"), format!("é{c}")] {
                assert_eq!(refused(&text, Lines::Many), Some(c), "{text:?}");
            }
        }
        assert_eq!(refused("a\tb\nc", Lines::Many), None);
        assert_eq!(refused("a\tb", Lines::One), Some('\t'));
        assert_eq!(cleaned("Low\u{1}wa\u{202e}ter\r"), ("Lowwater\n".into(), 2));
    }

    #[test]
    fn blank_text_shows_nothing() {
        for text in
            ["", " \n", "\u{200b}", "\u{2060}\u{ad} \u{feff}", "\u{3164}", "\u{2800}", "\u{fe0f}", "\u{200d}"]
        {
            assert!(!is_visible(text), "{text:?}");
        }
        assert!(is_visible("\u{200b}a"));
    }
}
