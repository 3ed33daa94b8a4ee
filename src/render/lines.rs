//! Text that is built line by line, nested in indentation or quoting.

use crate::model::limit;

/// Longest text that is written, and some more: a line of two bytes can stand below a hundred bytes of nesting. What is
/// longer is refused by whoever asked, so the rest need not be written.
const LONGEST: usize = limit::RENDERED.maximum as usize;

/// A text whose lines begin as their nesting asks. Line breaks are written when something follows them.
pub(super) struct Lines {
    out: String,
    prefix: String,
    breaks: usize,
    /// Where the content of the current line begins.
    start: usize,
    /// Whether the current line still lacks its prefix.
    fresh: bool,
}

/// A state of [`Lines`] to go back to.
pub(super) struct Saved {
    len: usize,
    breaks: usize,
    start: usize,
    fresh: bool,
}

impl Lines {
    pub(super) fn with_capacity(capacity: usize) -> Self {
        Self { out: String::with_capacity(capacity), prefix: String::new(), breaks: 0, start: 0, fresh: true }
    }

    /// The text, without white space at its end.
    pub(super) fn finish(mut self) -> String {
        self.out.truncate(self.out.trim_end().len());
        self.out
    }

    /// The text so far; line breaks still to be written are missing.
    pub(super) fn written(&self) -> &str {
        &self.out
    }

    pub(super) fn len(&self) -> usize {
        self.out.len()
    }

    pub(super) fn is_nested(&self) -> bool {
        !self.prefix.is_empty()
    }

    /// Whether what is pushed next begins a line.
    pub(super) fn at_start(&self) -> bool {
        self.breaks > 0 || self.fresh || self.out.len() <= self.start
    }

    /// What the current line holds so far.
    pub(super) fn line(&self) -> &str {
        if self.at_start() { "" } else { &self.out[self.start..] }
    }

    pub(super) fn push(&mut self, c: char) {
        self.flush();
        if self.out.len() <= LONGEST {
            self.out.push(c);
        }
    }

    pub(super) fn push_str(&mut self, text: &str) {
        self.flush();
        if self.out.len() <= LONGEST {
            self.out.push_str(text);
        }
    }

    /// Takes the white space off the end of the line.
    pub(super) fn trim(&mut self) {
        self.out.truncate(self.out.trim_end_matches(|c: char| c != '\n' && c.is_whitespace()).len());
    }

    /// Ends the line with at least so many line breaks, and without white space at its end.
    pub(super) fn break_line(&mut self, breaks: usize) {
        self.trim();
        self.breaks = self.breaks.max(breaks);
    }

    /// Ends the line if something is on it.
    pub(super) fn end_line(&mut self) {
        if !self.at_start() {
            self.break_line(1);
        }
    }

    /// Ends the line as it stands.
    pub(super) fn newline(&mut self) {
        self.breaks += 1;
    }

    /// Text as it stands, line for line.
    pub(super) fn verbatim(&mut self, text: &str) {
        for (at, line) in text.split('\n').enumerate() {
            if at > 0 {
                self.newline();
            }
            if !line.is_empty() {
                self.push_str(line);
            }
        }
    }

    /// Begins a nesting: `first` now, `rest` before each further line.
    pub(super) fn open(&mut self, first: &str, rest: &str) {
        self.push_str(first);
        self.start = self.out.len();
        self.prefix.push_str(rest);
    }

    /// Ends the nesting that was opened with `rest`.
    pub(super) fn close(&mut self, rest: &str) {
        self.prefix.truncate(self.prefix.len() - rest.len());
    }

    pub(super) fn save(&self) -> Saved {
        Saved { len: self.out.len(), breaks: self.breaks, start: self.start, fresh: self.fresh }
    }

    pub(super) fn restore(&mut self, saved: &Saved) {
        self.out.truncate(saved.len);
        (self.breaks, self.start, self.fresh) = (saved.breaks, saved.start, saved.fresh);
    }

    fn flush(&mut self) {
        if self.out.len() > LONGEST {
            return;
        }
        while self.breaks > 0 {
            self.out.push('\n');
            self.breaks -= 1;
            self.fresh = true;
            if self.breaks > 0 {
                self.out.push_str(self.prefix.trim_end());
            }
        }
        if self.fresh {
            self.out.push_str(&self.prefix);
            self.start = self.out.len();
            self.fresh = false;
        }
    }
}
