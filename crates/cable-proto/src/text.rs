//! The characters that a text may contain.
//!
//! Published text is shown in pages, feeds and sitemaps of other programs. XML forbids most control characters and some
//! code points. Overrides of the direction of text make it read as something that it is not. Invisible characters make
//! two texts differ that look the same.

use std::borrow::Cow;

/// Whether a text may have more than one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lines {
    /// One line: no line feed and no tab.
    One,
    /// Any number of lines.
    Many,
}

/// The flag that starts a sequence of tag characters: the flags of England, Scotland and Wales.
const BLACK_FLAG: char = '\u{1f3f4}';

/// Returns whether a character is allowed in no text. Joiners, direction marks, soft hyphens and the like are allowed:
/// scripts and emoji need them. Whether a line feed or a tab is allowed depends on the text.
pub fn is_forbidden(c: char) -> bool {
    match c {
        '\n' | '\t' => false,
        // Embeddings, overrides and isolates of direction.
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
        // Invisible operators, deprecated format characters, byte order marks, annotations.
        '\u{2061}'..='\u{2065}' | '\u{206a}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' => true,
        // Noncharacters.
        '\u{fdd0}'..='\u{fdef}' => true,
        '\u{e0001}' => true,
        c => c.is_control() || u32::from(c) & 0xfffe == 0xfffe,
    }
}

fn is_tag(c: char) -> bool {
    matches!(c, '\u{e0020}'..='\u{e007f}')
}

/// Returns whether a character is invisible, though it is not white space.
fn is_invisible(c: char) -> bool {
    is_forbidden(c)
        || is_tag(c)
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{2800}' | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{ffa0}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0100}'..='\u{e01ef}')
}

/// Returns whether a text has a visible character.
pub fn is_visible(text: &str) -> bool {
    text.chars().any(|c| !c.is_whitespace() && !is_invisible(c))
}

/// Returns the first character that the text may not contain.
pub fn find_forbidden(text: &str, lines: Lines) -> Option<char> {
    let is_plain = |byte: u8| matches!(byte, b' '..=b'~');
    let start = text.bytes().position(|byte| !is_plain(byte))?;
    let mut in_flag = false;
    text[start.min(char_start(text, start))..].chars().find(|&c| {
        let is_break = lines == Lines::One && matches!(c, '\n' | '\t');
        let is_loose_tag = is_tag(c) && !in_flag;
        in_flag = c == BLACK_FLAG || (in_flag && is_tag(c));
        is_break || is_loose_tag || is_forbidden(c)
    })
}

/// Returns the index of the first byte of the character that a byte belongs to.
fn char_start(text: &str, at: usize) -> usize {
    (0..=at).rev().find(|&at| text.is_char_boundary(at)).unwrap_or_default()
}

/// Returns the text without the characters that it may not contain, with a space for each that separates words. Also
/// returns the number of these characters.
pub fn remove_forbidden(text: &str) -> (Cow<'_, str>, usize) {
    if find_forbidden(text, Lines::Many).is_none() {
        return (Cow::Borrowed(text), 0);
    }
    let (mut cleaned, mut omitted, mut in_flag) = (String::with_capacity(text.len()), 0, false);
    for c in text.chars() {
        let is_loose_tag = is_tag(c) && !in_flag;
        in_flag = c == BLACK_FLAG || (in_flag && is_tag(c));
        if c == '\r' {
            // A line break of another system: parsers of HTML and XML read it as a line feed.
            cleaned.push('\n');
        } else if is_loose_tag || is_forbidden(c) {
            omitted += 1;
            // Vertical tabs, form feeds and next lines separate words.
            cleaned.extend(c.is_whitespace().then_some(' '));
        } else {
            cleaned.push(c);
        }
    }
    (Cow::Owned(cleaned), omitted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_and_emoji_are_allowed() {
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
            assert_eq!(find_forbidden(text, Lines::One), None, "{text}");
            assert_eq!(remove_forbidden(text), (Cow::Borrowed(text), 0));
            assert!(is_visible(text));
        }
    }

    #[test]
    fn control_format_and_noncharacters_are_forbidden() {
        for c in "\0\u{1}\u{b}\r\u{1b}\u{1c}\u{7f}\u{85}\u{9f}\u{202a}\u{202e}\u{2066}\u{2069}\u{2061}\u{2064}\u{206a}\u{feff}\
                  \u{fff9}\u{fffb}\u{fdd0}\u{fffe}\u{ffff}\u{1fffe}\u{10ffff}\u{e0001}\u{e0041}"
            .chars()
        {
            for text in [c.to_string(), format!("Low{c}water"), format!("é{c}")] {
                assert_eq!(find_forbidden(&text, Lines::Many), Some(c), "{text:?}");
            }
        }
        assert_eq!(find_forbidden("a\tb\nc", Lines::Many), None);
        assert_eq!(find_forbidden("a\tb", Lines::One), Some('\t'));
        assert_eq!(remove_forbidden("Low\u{1}wa\u{202e}ter\r"), ("Lowwater\n".into(), 2));
    }

    #[test]
    fn blank_text_is_not_visible() {
        for text in
            ["", " \n", "\u{200b}", "\u{2060}\u{ad} \u{feff}", "\u{3164}", "\u{2800}", "\u{fe0f}", "\u{200d}"]
        {
            assert!(!is_visible(text), "{text:?}");
        }
        assert!(is_visible("\u{200b}a"));
    }
}
