//! The code of Markdown, which kramdown reads before its extensions: fenced blocks and code between backticks.

use cable_body::html;

/// The maximum length of code between backticks. Others are text, so that the search for an end takes a bounded number of
/// steps.
const MAX_BYTES: usize = 8 << 10;

/// A reader of the blocks of a text, line by line.
#[derive(Debug, Default)]
pub(super) struct Code {
    /// The start of the first line that has not been read.
    at: usize,
    /// The end of the part without a line end that has been searched.
    searched: usize,
    fence: Option<Fence>,
    /// The start of the open paragraph.
    paragraph: usize,
    /// The end of the part of the paragraph whose backticks are paired.
    paired: usize,
}

impl Code {
    /// Returns whether a position is within code. Positions must not go back.
    pub(super) fn contains(&mut self, source: &str, at: usize) -> bool {
        self.read_to(source, at);
        if let Some(line) = source.get(self.at..at) {
            self.fence = self.fence.take().filter(|fence| fence.holds(line));
            if line.trim_start().starts_with('#') || is_item(line) {
                self.paragraph = self.paragraph.max(self.at);
            }
        }
        self.fence.is_some() || self.is_between_backticks(source, at)
    }

    /// Returns whether a position in the open paragraph is between two runs of backticks of the same length.
    fn is_between_backticks(&mut self, source: &str, at: usize) -> bool {
        self.paired = self.paired.max(self.paragraph);
        while let Some(start) = source.get(self.paired..at).and_then(|text| text.find('`')) {
            let start = self.paired + start;
            let is_escaped = is_escaped(&source[self.paired..start]);
            let length = run(&source[start..]);
            self.paired = start + length;
            let length = length - usize::from(is_escaped);
            self.paired += end_of_code(&source[self.paired..], length).unwrap_or_default();
        }
        at < self.paired
    }

    /// Omits a part of the text that is no Markdown.
    pub(super) fn skip(&mut self, source: &str, start: usize, end: usize) {
        self.read_to(source, start);
        let part = &source[start..end];
        if part.contains(['\n', '`']) {
            self.paragraph = self.paragraph.max(end);
        }
        if part.contains('\n') {
            self.at = source[end..].find('\n').map_or(source.len(), |length| end + length + 1);
        }
    }

    /// Reads the lines before the one of a position.
    fn read_to(&mut self, source: &str, at: usize) {
        while let Some(end) = self.line_end(source, at) {
            let start = std::mem::replace(&mut self.at, end + 1);
            let line = &source[start..end];
            let fence = Fence::new(line);
            self.fence = self.fence.take().filter(|fence| line.trim().is_empty() || fence.holds(line));
            match (&self.fence, &fence) {
                (None, Some(_)) => self.fence.clone_from(&fence),
                (Some(open), Some(close)) if close.closes(open) => self.fence = None,
                _ => {}
            }
            if fence.is_some() || is_boundary(line) {
                self.paragraph = self.at;
            } else if is_item(line) {
                self.paragraph = start;
            }
        }
    }

    /// Returns the end of the first line that has not been read, if it is before a position.
    fn line_end(&mut self, source: &str, at: usize) -> Option<usize> {
        let from = self.at.max(self.searched);
        let end = source.get(from..at)?.find('\n').map(|length| from + length);
        self.searched = end.unwrap_or(at);
        end
    }
}

/// A line that starts or ends a block of code.
#[derive(Debug, Clone)]
struct Fence {
    sign: u8,
    length: usize,
    /// Whether the line has nothing else.
    is_bare: bool,
    is_quoted: bool,
    /// Whether the line is the first one of an item of a list.
    is_item: bool,
}

impl Fence {
    fn new(line: &str) -> Option<Fence> {
        let text = content(line);
        let sign = *text.as_bytes().first().filter(|sign| matches!(sign, b'`' | b'~'))?;
        let length = text.bytes().take_while(|byte| *byte == sign).count();
        let info = text[length..].trim();
        let is_fence = length >= 3 && !(sign == b'`' && info.contains('`'));
        let is_quoted = line.trim_start().starts_with('>');
        is_fence.then(|| Fence { sign, length, is_bare: info.is_empty(), is_quoted, is_item: is_item(line) })
    }

    fn closes(&self, open: &Fence) -> bool {
        self.is_bare && self.sign == open.sign && self.length >= open.length
    }

    /// Returns whether a line that has text, with this start, is within the quotation or the item of the fence.
    fn holds(&self, line: &str) -> bool {
        let is_quoted = !self.is_quoted || line.trim_start().starts_with('>');
        let is_indented = !self.is_item || line.starts_with(['>', '\t']) || line.starts_with("  ");
        is_quoted && is_indented
    }
}

/// Returns the line without the signs of quotations and lists before its text.
fn content(line: &str) -> &str {
    let line = line.trim_start_matches(['>', ' ', '\t']);
    if !is_item(line) {
        return line;
    }
    line.trim_start_matches(|c: char| c.is_ascii_digit() || matches!(c, '-' | '*' | '+' | '.' | ')' | ' '))
}

/// Returns whether no paragraph has the line.
fn is_boundary(line: &str) -> bool {
    let line = line.trim_start_matches(['>', ' ', '\t']);
    line.trim_end().is_empty() || line.starts_with('#')
}

/// Returns whether the line is the first one of an item of a list.
fn is_item(line: &str) -> bool {
    let line = line.trim_start_matches(['>', ' ', '\t']);
    let digits = line.bytes().take_while(u8::is_ascii_digit).count();
    let mark = if digits > 0 { ['.', ')', ')'] } else { ['-', '*', '+'] };
    line[digits..].strip_prefix(mark).is_some_and(|rest| rest.starts_with(' '))
}

/// Returns whether the sign after a text is literal.
fn is_escaped(text: &str) -> bool {
    text.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

/// Returns the number of backticks at the start of a text.
fn run(text: &str) -> usize {
    text.bytes().take_while(|byte| *byte == b'`').count()
}

/// Returns the end of the code at the start of a text, after as many backticks as there were before it. `None` if the
/// paragraph has none.
fn end_of_code(text: &str, length: usize) -> Option<usize> {
    let window = html::head(text, MAX_BYTES);
    let mut at = 0;
    while let Some(start) = window[at..].find('`').filter(|_| length > 0) {
        let start = at + start;
        at = start + run(&window[start..]);
        if at - start == length {
            return is_within_paragraph(&window[..start]).then_some(at);
        }
    }
    None
}

/// Returns whether a text that starts in a paragraph ends in it.
fn is_within_paragraph(text: &str) -> bool {
    let is_end = |line: &str| is_boundary(line) || Fence::new(line).is_some() || is_item(line);
    let mut lines = text.split('\n').skip(1).peekable();
    std::iter::from_fn(|| lines.next().map(|line| (line, lines.peek().is_none())))
        .all(|(line, is_last)| !is_end(line) || (is_last && content(line).is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_in_fences_and_between_backticks() {
        for (text, expected) in [
            ("a @ b", false),
            ("`a @ b`", true),
            ("``a ` @ b``", true),
            ("`a` @ `b`", false),
            ("a ` @ b", false),
            ("\\`a @ b`", false),
            ("\\``a @ b`", true),
            ("a ` b\n\n@ ` c", false),
            ("a `b\n@ c` d", true),
            ("a `b\n@\n` d", true),
            ("> a `b\n> @\n> ` d", true),
            ("a `b` @ `c` d", false),
            ("- a ` b\n- @ ` c", false),
            ("# a ` b\n@ ` c", false),
            ("a ` b\n# @ ` c", false),
            ("a ` @\n```\nb `\n```", false),
            ("```\na\n@\n```", true),
            ("```\na\n```\n@", false),
            ("> ~~~ x\n> ```\n> @\n> ~~~", true),
            ("1. ```\n   @\n   ```", true),
            ("1. ```\n   a\n\n   @", true),
            ("1. ```\n   a\n\n@", false),
            ("1. ```\n   a\n\nb @", false),
            ("> ```\n> a\n\nb\n@", false),
            ("> ```\n> a\n> @", true),
            ("````\n```\n@\n````", true),
            ("``` a ` b\n@", false),
        ] {
            let at = text.find('@').unwrap();
            assert_eq!(Code::default().contains(text, at), expected, "{text}");
        }
    }

    #[test]
    fn a_part_that_is_no_markdown_has_no_code() {
        let text = "a (\n```\n) b\n@ c";
        let mut code = Code::default();
        code.skip(text, 2, text.find(')').unwrap());
        assert!(!code.contains(text, text.find('@').unwrap()));
        let text = "a ( ` ) @ ` b";
        let mut code = Code::default();
        code.skip(text, 2, text.find(')').unwrap());
        assert!(!code.contains(text, text.find('@').unwrap()));
    }

    #[test]
    fn backticks_far_from_each_other_are_text() {
        for (bytes, expected) in [(MAX_BYTES, true), (MAX_BYTES + 1, false)] {
            let text = format!("`@{}`", "x".repeat(bytes - 2));
            assert_eq!(Code::default().contains(&text, 1), expected, "{bytes}");
        }
    }
}
