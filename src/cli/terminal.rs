//! Text for people: escaped, so that content cannot control the terminal, and wrapped at its width.

use std::{
    borrow::Cow,
    fmt::Write as _,
    io::{self, IsTerminal as _, Write},
};

use cable_proto::text::is_forbidden;
use textwrap::{Options, WordSplitter};

/// Maximum width of wrapped text, in columns. Longer lines are hard to read.
const MAX_TEXT_WIDTH: u16 = 100;

/// Returns the text with its control characters and directional overrides in the notation of JSON: `\u001b`. Within
/// JSON, which has such characters only in strings, this does not change the value. Line feeds and tabs stay.
pub(crate) fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(is_forbidden) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 5);
    for c in text.chars() {
        if is_forbidden(c) {
            let units = &mut [0; 2];
            c.encode_utf16(units).iter().for_each(|unit| _ = write!(escaped, "\\u{unit:04x}"));
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}

/// Returns the standard output. On a terminal, it escapes text.
pub(crate) fn stdout() -> Box<dyn Write> {
    let stdout = io::stdout();
    if stdout.is_terminal() { Box::new(Escaped(stdout)) } else { Box::new(stdout) }
}

/// Returns the number of columns of the terminal. `None` if standard output is not one.
pub(crate) fn width() -> Option<u16> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    Some(size.ws_col).filter(|columns| *columns > 0)
}

/// Moves the cursor home and clears the screen, in the control sequences of ECMA-48. They are not text, so they pass by
/// the writer that escapes text.
const CLEAR: &[u8] = b"\x1b[H\x1b[2J";

/// Clears the terminal. Does nothing if standard output is not one.
pub(crate) fn clear() -> io::Result<()> {
    let mut stdout = io::stdout();
    if !stdout.is_terminal() {
        return Ok(());
    }
    stdout.write_all(CLEAR)?;
    stdout.flush()
}

/// A writer that escapes text. Each write has complete characters, as those of the formatting macros have.
struct Escaped<W>(W);

impl<W: Write> Write for Escaped<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write_all(escape(&String::from_utf8_lossy(bytes)).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Wraps the paragraphs of Markdown for a terminal of this width. Continued lines keep the indentation of their list
/// item or quote. Code, tables and HTML are unchanged.
pub(crate) fn wrap_markdown(text: &str, width: u16) -> String {
    let width = usize::from(width.min(MAX_TEXT_WIDTH));
    let mut wrapped = String::with_capacity(text.len() + text.len() / 50);
    let mut is_code = false;
    for line in text.split('\n') {
        let content = line.trim_start_matches([' ', '>']);
        let is_fence = content.starts_with("```") || content.starts_with("~~~");
        is_code ^= is_fence;
        if is_code || is_fence || line.starts_with("    ") || content.starts_with(['|', '<']) {
            wrapped += line;
        } else {
            let options = Options::new(width).break_words(false).word_splitter(WordSplitter::NoHyphenation);
            let indent = continuation(line, line.len() - content.len());
            wrapped += &textwrap::fill(line, options.subsequent_indent(&indent));
        }
        wrapped.push('\n');
    }
    wrapped.pop();
    wrapped
}

/// Returns the start of the lines that continue a line: its quote marks, and spaces for the marker of a list item.
fn continuation(line: &str, content_at: usize) -> String {
    let (start, content) = line.split_at(content_at);
    let marker = match content.split_once(' ') {
        Some((marker @ ("-" | "*" | "+"), _)) => marker.len() + 1,
        Some((number, _)) if number.strip_suffix(['.', ')']).is_some_and(|n| n.parse::<u32>().is_ok()) => {
            number.len() + 1
        }
        _ => 0,
    };
    format!("{start}{:marker$}", "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_as_in_json() {
        for (text, expected) in [
            ("Storm\n\tover Norwick", "Storm\n\tover Norwick"),
            ("\u{1b}[2J", "\\u001b[2J"),
            ("\r\u{7}\0\u{7f}\u{9b}2J", "\\u000d\\u0007\\u0000\\u007f\\u009b2J"),
            ("a\u{202e}b\u{2066}", "a\\u202eb\\u2066"),
            ("\u{e0001}", "\\udb40\\udc01"),
            ("👩\u{200d}🚀", "👩\u{200d}🚀"),
        ] {
            assert_eq!(escape(text), expected);
        }
        let json = serde_json::to_string("\u{1b}\u{9b}\u{202e}é\u{e0001}\\").unwrap();
        assert_eq!(
            serde_json::from_str::<String>(&escape(&json)).unwrap(),
            "\u{1b}\u{9b}\u{202e}é\u{e0001}\\"
        );
    }

    #[test]
    fn a_writer_escapes_complete_writes() {
        let mut written = Vec::new();
        write!(Escaped(&mut written), "\u{1b} {}", "é\u{9b}".to_owned()).unwrap();
        assert_eq!(String::from_utf8(written).unwrap(), "\\u001b é\\u009b");
    }

    #[test]
    fn paragraphs_lists_and_quotes_are_wrapped() {
        let text = "The quay opened again on Monday.\n\n- The first boats came\n  in the morning tide\n10. ten\n> Quays are for boats\n```\na line of code that is long\n```\n| a | table of many columns |\nhttps://example.com/a/long/address";
        assert_eq!(
            wrap_markdown(text, 16),
            "The quay opened\nagain on Monday.\n\n- The first\n  boats came\n  in the morning\n  tide\n10. ten\n\
             > Quays are for\n> boats\n```\na line of code that is long\n```\n| a | table of many columns |\n\
             https://example.com/a/long/address"
        );
    }

    #[test]
    fn wrapping_adds_only_breaks() {
        let text = "a  b\n\n\n - x\n\n";
        assert_eq!(wrap_markdown(text, 80), text);
    }
}
