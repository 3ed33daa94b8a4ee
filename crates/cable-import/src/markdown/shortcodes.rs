//! Shortcodes of Hugo, tags and outputs of Liquid, and attribute lists of kramdown: each is replaced by a word that no
//! parser changes, so that Markdown around it means what it means, and becomes its own block afterwards.

use cable_body::html;
use xxhash_rust::xxh3::xxh3_64;

use self::{
    arguments::parse,
    meaning::{meaning, output, unknown},
};
use super::code::Code;

mod arguments;
mod meaning;

pub(super) use meaning::{Meaning, Picture};

/// The maximum length of one shortcode in bytes.
const MAX_BYTES: usize = 8 << 10;

/// The maximum length of the attributes of a heading: an id has at most 128 bytes, and classes are short.
pub(super) const MAX_ATTRIBUTES_BYTES: usize = 1 << 10;

/// The maximum number of shortcodes of one text, and of openings that start none. Each of the latter costs a search.
pub(super) const MAX_SHORTCODES: usize = 10_000;
pub(super) const MAX_UNCLOSED: usize = 1_000;

/// A shortcode of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shortcode {
    /// The source, as in the text.
    pub(super) source: String,
    pub(super) meaning: Meaning,
    /// Whether the shortcode fills its line.
    pub(super) own_line: bool,
}

/// A text with words in place of its shortcodes.
#[derive(Debug, Default)]
pub(super) struct Text {
    pub(super) text: String,
    pub(super) shortcodes: Vec<Shortcode>,
    /// The start of each word; the number of the shortcode and `z` follow.
    pub(super) mark: String,
    /// The number of openings that were not read, because a limit was reached before them.
    pub(super) unread: usize,
}

impl Text {
    /// Returns the first word within a text: its start, its end, and the index of the shortcode.
    pub(super) fn find(&self, text: &str) -> Option<(usize, usize, usize)> {
        if self.shortcodes.is_empty() {
            return None;
        }
        let mut from = 0;
        while let Some(at) = text[from..].find(&self.mark).map(|at| at + from) {
            let number = at + self.mark.len();
            let digits = text[number..].bytes().take_while(u8::is_ascii_digit).count();
            let end = number + digits;
            if text[end..].starts_with('z')
                && let Some(index) =
                    text[number..end].parse().ok().filter(|index| *index < self.shortcodes.len())
            {
                return Some((at, end + 1, index));
            }
            from = number;
        }
        None
    }

    /// Returns the text with the given replacement for each shortcode.
    pub(super) fn replace(&self, text: &str, replacement: &mut dyn FnMut(usize) -> String) -> String {
        let (mut out, mut rest) = (String::with_capacity(text.len()), text);
        while let Some((start, end, index)) = self.find(rest) {
            out.push_str(&rest[..start]);
            out.push_str(&replacement(index));
            rest = &rest[end..];
        }
        out + rest
    }
}

/// Replaces the shortcodes of a text.
pub(super) fn extract(source: &str) -> Text {
    let mut scan = Scan {
        source,
        at: 0,
        line: 0,
        out: Text::default(),
        unclosed: 0,
        code: Code::default(),
        without_line: Vec::new(),
    };
    let mut seed = 0;
    scan.out.mark = loop {
        let mark = format!("q{:016x}z", xxh3_64(format!("{seed}{source}").as_bytes()));
        if !source.contains(&mark) {
            break mark;
        }
        seed += 1;
    };
    scan.run();
    scan.out
}

struct Scan<'a> {
    source: &'a str,
    /// The end of the part that has been copied.
    at: usize,
    /// The start of the line of the last opening.
    line: usize,
    out: Text,
    unclosed: usize,
    code: Code,
    /// The extensions of kramdown whose closing tag fills no line of the rest of the text.
    without_line: Vec<String>,
}

/// The openings of shortcodes. The first one that matches counts.
const FORMS: [(&str, &str); 5] = [("{{<", ">}}"), ("{{%", "%}}"), ("{%", "%}"), ("{{", "}}"), ("{:", "}")];

/// The openings of attributes of a heading.
const ATTRIBUTES: [&str; 2] = ["{#", "{."];

/// Returns the delimiters of the shortcode that can start at the start of a text.
fn form(text: &str) -> Option<(&'static str, &'static str)> {
    let attributes = || ATTRIBUTES.into_iter().find(|open| text.starts_with(open)).map(|open| (open, "}"));
    FORMS.into_iter().find(|(open, _)| text.starts_with(open)).or_else(attributes)
}

impl Scan<'_> {
    fn run(&mut self) {
        let mut from = 0;
        while let Some(at) = self.source[from..].find('{').map(|at| at + from) {
            if let Some(end) = self.source[from..at].rfind('\n') {
                self.line = from + end + 1;
            }
            from = at + 1;
            let Some((open, close)) = form(&self.source[at..]) else { continue };
            if self.out.shortcodes.len() >= MAX_SHORTCODES || self.unclosed >= MAX_UNCLOSED {
                self.out.unread = openings(&self.source[at..]);
                break;
            }
            match self.shortcode(at, open, close) {
                Some(end) => {
                    if let Some(length) = self.source[from..end].rfind('\n') {
                        self.line = from + length + 1;
                    }
                    from = end;
                }
                None => self.unclosed += 1,
            }
        }
        self.out.text.push_str(&self.source[self.at..]);
    }

    /// Replaces the shortcode at a position. Returns its end, or `None` if there is none.
    fn shortcode(&mut self, at: usize, open: &str, close: &str) -> Option<usize> {
        let rest = &self.source[at..];
        if ATTRIBUTES.contains(&open) {
            let end = at + heading_attributes(&self.source[self.line..at], rest)?;
            self.push(at, end, attributes(&self.source[at + 1..end - 1]));
            return Some(end);
        }
        let length = end_of(&rest[open.len()..], open, close)?;
        let end = at + open.len() + length + close.len();
        let inner = &rest[open.len()..open.len() + length];
        match open {
            "{:" => {
                if inner.strip_prefix(':').is_some_and(|inner| self.extension(at, end, inner)) {
                    return Some(self.at);
                }
                let is_list =
                    inner.starts_with(['.', '#', ':', ' ']) || inner.contains('=') || matches!(inner, "toc");
                if !is_list || inner.contains('\n') {
                    return None;
                }
                self.push(at, end, attributes(inner));
                Some(end)
            }
            "{{" => {
                if inner.contains("\n\n") {
                    return None;
                }
                self.push(at, end, output(inner));
                Some(end)
            }
            "{%" => Some(self.liquid(at, end, inner)),
            _ => Some(self.hugo(at, end, inner, open, close)),
        }
    }

    fn hugo(&mut self, at: usize, end: usize, inner: &str, open: &str, close: &str) -> usize {
        if let Some(literal) = inner.trim().strip_prefix("/*").and_then(|inner| inner.strip_suffix("*/")) {
            self.push(at, end, Meaning::Text(format!("{open}{literal}{close}")));
            return end;
        }
        if let Some(name) = inner.trim().strip_prefix('/') {
            self.push(at, end, unknown(name.trim()));
            return end;
        }
        let (name, arguments) = parse(inner.trim().trim_end_matches('/'));
        if matches!(name.as_str(), "highlight" | "code")
            && let Some((tag, after)) = self.until(end, [open, "/", &name, close])
        {
            let text = self.source[end..tag].trim_matches('\n').to_owned();
            let language = arguments.positional(0).or(arguments.get("lang")).unwrap_or_default().to_owned();
            self.push(at, after, Meaning::Code { text, language });
            return after;
        }
        self.push(at, end, meaning(&name, &arguments));
        end
    }

    fn liquid(&mut self, at: usize, end: usize, inner: &str) -> usize {
        let inner = inner.trim_matches(|c: char| c == '-' || c.is_whitespace());
        let (name, arguments) = parse(inner);
        if matches!(name.as_str(), "raw" | "comment" | "highlight")
            && let Some((tag, after)) = self.until(end, ["{%", "end", &name, "%}"])
        {
            let (start, end) = (end, after);
            match name.as_str() {
                "raw" => {
                    // The text between the tags is Markdown in which nothing is a shortcode.
                    self.hide(at, start);
                    self.hide(tag, end);
                }
                "comment" => self.hide(at, end),
                _ => {
                    let language = arguments.positional(0).unwrap_or_default().to_owned();
                    let text = self.source[start..tag].trim_matches('\n').to_owned();
                    self.push(at, end, Meaning::Code { text, language });
                }
            }
            return self.at;
        }
        self.push(at, end, meaning(&name, &arguments));
        end
    }

    /// Replaces an extension of kramdown: `{::comment}`, `{::nomarkdown}` or `{::options /}`. Returns false if it is none.
    fn extension(&mut self, at: usize, end: usize, inner: &str) -> bool {
        let inner = inner.trim();
        let is_closed = inner.ends_with('/');
        let (name, arguments) = parse(inner.trim_end_matches('/'));
        let is_known = matches!(name.as_str(), "comment" | "nomarkdown" | "options");
        // In kramdown, code comes before an extension, but not before its closing tag.
        if !is_known || self.code.contains(self.source, at) {
            return false;
        }
        if is_closed {
            self.hide(at, end);
            return true;
        }
        let Some((tag, after)) = self.end_of_extension(at, end, &name) else {
            self.hide(at, end);
            return true;
        };
        // Text for LaTeX is no part of the page.
        let is_shown = name == "nomarkdown" && arguments.get("type").is_none_or(|kind| kind.contains("html"));
        if is_shown {
            self.hide(at, end);
            self.hide(tag, after);
        } else {
            self.hide(at, after);
        }
        true
    }

    /// Returns the start and the end of the closing tag of an extension. As in kramdown, that of an opening which fills its
    /// line fills one as well, if there is such a tag.
    fn end_of_extension(&mut self, at: usize, end: usize, name: &str) -> Option<(usize, usize)> {
        let parts = ["{:", "/", name, "}"];
        if self.fills_line(at, end) && !self.without_line.iter().any(|other| other == name) {
            let found = self.closing_tags(end, parts).find(|(start, end)| self.fills_line(*start, *end));
            if found.is_some() {
                return found;
            }
            self.without_line.push(name.to_owned());
        }
        self.until(end, parts)
    }

    /// Returns whether a part of the text fills its line.
    fn fills_line(&self, start: usize, end: usize) -> bool {
        let before = self.source[..start].trim_end_matches(['>', ' ', '\t']);
        (before.is_empty() || before.ends_with('\n')) && is_line_end(&self.source[end..])
    }

    /// Returns the position of the closing tag, and the position after it: of `{{< / name >}}` for its opening, the sign
    /// or word before the name, the name and its closing. The closing tag of kramdown can lack the name.
    fn until(&mut self, from: usize, parts: [&str; 4]) -> Option<(usize, usize)> {
        let found = self.closing_tags(from, parts).next();
        if found.is_none() {
            self.unclosed += 1;
        }
        found
    }

    /// Returns the starts and ends of all closing tags.
    fn closing_tags<'b>(
        &'b self,
        from: usize,
        [open, sign, name, close]: [&'b str; 4],
    ) -> impl Iterator<Item = (usize, usize)> + 'b {
        let rest = &self.source[from..];
        let is_space = move |c: char| c.is_whitespace() || (open == "{%" && c == '-');
        rest.match_indices(open).filter_map(move |(at, _)| {
            let after = rest[at + open.len()..].trim_start_matches(is_space).strip_prefix(sign)?;
            let after = after.trim_start_matches(is_space);
            let after = match after.strip_prefix(name) {
                None if open == "{:" => after,
                other => other?,
            };
            let after = after.trim_start_matches(is_space).strip_prefix(close)?;
            Some((from + at, self.source.len() - after.len()))
        })
    }

    /// Removes a part of the text, with the space after it if there is one before it.
    fn hide(&mut self, start: usize, end: usize) {
        let is_doubled = self.source[..start].ends_with(' ') && self.source[end..].starts_with(' ');
        self.push(start, end + usize::from(is_doubled), Meaning::Text(String::new()));
    }

    fn push(&mut self, start: usize, end: usize, meaning: Meaning) {
        let own_line = self.fills_line(start, end);
        self.code.skip(self.source, start, end);
        let number = self.out.shortcodes.len();
        self.out.text.push_str(&self.source[self.at..start]);
        self.out.text.push_str(&format!("{}{number}z", self.out.mark));
        let source = self.source[start..end].to_owned();
        self.out.shortcodes.push(Shortcode { source, meaning, own_line });
        self.at = end;
    }
}

/// Returns the number of openings in a text.
fn openings(text: &str) -> usize {
    let is_opening = |at: usize| !text[..at].ends_with('{') && form(&text[at..]).is_some();
    text.match_indices('{').filter(|(at, _)| is_opening(*at)).count()
}

/// Returns whether a text has nothing but white space before its first line end.
fn is_line_end(text: &str) -> bool {
    let rest = text.trim_start_matches(|c: char| c.is_whitespace() && c != '\n');
    rest.is_empty() || rest.starts_with('\n')
}

/// Returns the position of the closing delimiter: the first one of Liquid, and else the first one outside quotation
/// marks, if there is one.
fn end_of(text: &str, open: &str, close: &str) -> Option<usize> {
    let window = html::head(text, MAX_BYTES);
    if matches!(open, "{%" | "{{") {
        return window.find(close);
    }
    let mut quote = None;
    let mut is_escaped = false;
    for (at, c) in window.char_indices() {
        if std::mem::take(&mut is_escaped) {
            continue;
        }
        match quote {
            Some('"') if c == '\\' => is_escaped = true,
            None if window[at..].starts_with(close) => return Some(at),
            None if matches!(c, '"' | '`') => quote = Some(c),
            Some(open) if c == open => quote = None,
            _ => {}
        }
    }
    window.find(close)
}

/// Returns the meaning of a list of attributes: `#id .class`.
fn attributes(list: &str) -> Meaning {
    let id = list.split_whitespace().find_map(|word| word.trim_start_matches(':').strip_prefix('#'));
    match id {
        Some(id) => Meaning::Anchor(id.split(['.', '#']).next().unwrap_or_default().to_owned()),
        None => Meaning::Text(String::new()),
    }
}

/// Returns the length of the attributes at the end of a heading: ` {#id .class}`.
fn heading_attributes(line_before: &str, rest: &str) -> Option<usize> {
    let end = html::head(rest, MAX_ATTRIBUTES_BYTES).find(['}', '\n'])? + 1;
    let is_closed = rest[..end].ends_with('}') && line_before.ends_with(' ');
    if !is_closed || !is_line_end(&rest[end..]) {
        return None;
    }
    (line_before.starts_with('#') || is_underlined(&rest[end..])).then_some(end)
}

/// Returns whether the line after the first line end is the underline of a heading.
fn is_underlined(text: &str) -> bool {
    let Some((_, below)) = text.split_once('\n') else { return false };
    let below = below.lines().next().unwrap_or_default().trim();
    let sign = below.bytes().next().filter(|sign| matches!(sign, b'=' | b'-'));
    sign.is_some_and(|sign| below.bytes().all(|byte| byte == sign))
}
