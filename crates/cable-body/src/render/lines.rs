//! Text that is built line by line, with nested indentation or quoting.

use cable_proto::limit;

/// The length in bytes after which no more text is written. It needs a bound because a line of two bytes can follow a
/// hundred bytes of nesting prefix. The last write can exceed the bound. The caller rejects longer texts, so the rest
/// need not be written.
const MAX_BYTES: usize = limit::RENDERED.maximum as usize;

/// A text in which each line starts with the prefix of its nesting. A line break is written once text follows it.
pub(super) struct Lines {
    out: String,
    prefix: String,
    breaks: usize,
    /// The index of the current line's content.
    start: usize,
    /// Whether the current line still lacks its prefix.
    fresh: bool,
}

/// A saved state of [`Lines`].
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

    /// Returns the text without trailing white space.
    pub(super) fn finish(mut self) -> String {
        self.out.truncate(self.out.trim_end().len());
        self.out
    }

    /// Returns the text so far, without pending line breaks.
    pub(super) fn written(&self) -> &str {
        &self.out
    }

    pub(super) fn len(&self) -> usize {
        self.out.len()
    }

    pub(super) fn is_nested(&self) -> bool {
        !self.prefix.is_empty()
    }

    /// Returns whether the next text starts a line.
    pub(super) fn at_start(&self) -> bool {
        self.breaks > 0 || self.fresh || self.out.len() <= self.start
    }

    /// Returns the content of the current line so far.
    pub(super) fn line(&self) -> &str {
        if self.at_start() { "" } else { &self.out[self.start..] }
    }

    pub(super) fn push(&mut self, c: char) {
        self.flush();
        if self.out.len() <= MAX_BYTES {
            self.out.push(c);
        }
    }

    pub(super) fn push_str(&mut self, text: &str) {
        self.flush();
        if self.out.len() <= MAX_BYTES {
            self.out.push_str(text);
        }
    }

    /// Removes white space from the end of the line.
    pub(super) fn trim(&mut self) {
        self.out.truncate(self.out.trim_end_matches(|c: char| c != '\n' && c.is_whitespace()).len());
    }

    /// Ends the line with at least `breaks` line breaks, and without trailing white space.
    pub(super) fn break_line(&mut self, breaks: usize) {
        self.trim();
        self.breaks = self.breaks.max(breaks);
    }

    /// Ends the line if it has content.
    pub(super) fn end_line(&mut self) {
        if !self.at_start() {
            self.break_line(1);
        }
    }

    /// Ends the line without changing it.
    pub(super) fn newline(&mut self) {
        self.breaks += 1;
    }

    /// Writes text unchanged, line by line.
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

    /// Starts a nesting: writes `first` now and `rest` before each further line.
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
        if self.out.len() > MAX_BYTES {
            return;
        }
        while self.breaks > 0 && self.out.len() <= MAX_BYTES {
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
