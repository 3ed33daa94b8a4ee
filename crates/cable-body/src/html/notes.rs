//! The report of a conversion: a line for each part of the source that was changed or left out.

use super::head;

/// The maximum number of lines in a report. Beyond it, they are only counted.
pub const MAX_NOTES: usize = 100;

/// The maximum number of bytes of the source that a line quotes.
const MAX_QUOTED_BYTES: usize = 80;

/// The lines of a report.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notes {
    /// The first lines, in the order of the source.
    pub lines: Vec<String>,
    /// The number of lines beyond the first [`MAX_NOTES`].
    pub omitted: usize,
}

impl Notes {
    /// Adds a line. It is written only if there is room for it.
    pub(crate) fn add(&mut self, line: impl FnOnce() -> String) {
        if self.lines.len() < MAX_NOTES { self.lines.push(line()) } else { self.omitted += 1 }
    }
}

/// Returns a part of the source as a note quotes it: in one line, shortened.
pub(super) fn quoted(text: &str) -> String {
    let short = head(text, MAX_QUOTED_BYTES);
    let end = if short.len() < text.len() { "\u{2026}" } else { "" };
    let short: String = short.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!("`{short}{end}`")
}
