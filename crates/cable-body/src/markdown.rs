//! Conversion of Markdown into a body: CommonMark with tables, strikethrough, footnotes and task lists.
//!
//! The Markdown becomes HTML, and the HTML becomes blocks, so that HTML within it means what it means elsewhere. The
//! forms that the renderer writes, and that people write for the same things, become their blocks again: a picture or a
//! player with a line of emphasis below it, a URL alone, a quotation whose last line names its source.

use pulldown_cmark::{CodeBlockKind, CowStr, Event, LinkType, Options, Parser, Tag, TagEnd};

use crate::{
    html::{self, CHECKED, Converted, UNCHECKED},
    render::is_token,
};

mod figure;

/// The maximum size in bytes of the HTML that Markdown becomes. Texts that people write take less than twice their own.
const MAX_HTML_BYTES: usize = 4 << 20;

/// The maximum numbers of lines and of opening brackets. The Markdown parser takes half a microsecond and a microsecond
/// for each, and it reads a whole paragraph before the first event of it.
const MAX_LINES: usize = 100_000;
const MAX_BRACKETS: usize = 50_000;

/// The maximum number of characters that can be marks. For each of them the Markdown parser has up to two nodes of its
/// tree and two events, some 500 bytes together, before a paragraph is written.
const MAX_MARKS: usize = 100_000;

/// Converts a text into a body, unless that would take too long.
pub(crate) fn body(markdown: &str) -> Option<Converted> {
    html::plain_body(&to_html(markdown)?)
}

fn to_html(markdown: &str) -> Option<String> {
    let count = |byte: u8| markdown.bytes().filter(|&other| other == byte).count();
    if count(b'\n') > MAX_LINES || count(b'[') > MAX_BRACKETS {
        return None;
    }
    if markdown.bytes().filter(|byte| b"><*_`[]()!&\\~|-+\"'".contains(byte)).count() > MAX_MARKS {
        return None;
    }
    let options = Options::ENABLE_TABLES
        | Options::ENABLE_STRIKETHROUGH
        | Options::ENABLE_FOOTNOTES
        | Options::ENABLE_TASKLISTS;
    let mut writer = Writer { out: String::with_capacity(markdown.len() * 2), ..Writer::default() };
    let mut events = Parser::new_ext(markdown, options).peekable();
    while let Some(event) = events.next() {
        if let Event::Start(Tag::Paragraph) = event {
            let inline: Vec<_> =
                std::iter::from_fn(|| events.next_if(|event| *event != Event::End(TagEnd::Paragraph)))
                    .collect();
            events.next();
            let ends_quote = matches!(events.peek(), Some(Event::End(TagEnd::BlockQuote(_))));
            writer.paragraph(inline, ends_quote);
        } else if is_inline(&event) {
            let rest = std::iter::from_fn(|| events.next_if(is_inline));
            let inline: Vec<_> = std::iter::once(event).chain(rest).collect();
            writer.line(inline);
        } else {
            writer.event(event);
        }
        if writer.out.len() > MAX_HTML_BYTES || writer.tags > html::MAX_TAGS {
            return None;
        }
    }
    Some(writer.out)
}

/// A writer of HTML for the converter: it has the elements that become blocks and spans, nothing for a browser.
#[derive(Default)]
struct Writer {
    out: String,
    /// The number of elements so far.
    tags: usize,
    /// The start of the head of the open table.
    head: Option<usize>,
    /// Whether a heading, a cell or code is open.
    in_line: bool,
    /// The label of a footnote whose text has not started.
    label: Option<String>,
    /// The text of the open picture, and the number of pictures open in it.
    alt: Option<(String, usize)>,
}

impl Writer {
    fn paragraph(&mut self, events: Vec<Event<'_>>, ends_quote: bool) {
        if let Some(found) = figure::figure(&events) {
            return self.figure(found);
        }
        let attribution = if ends_quote { attribution(&events) } else { None };
        let tag = if attribution.is_some() { "footer" } else { "p" };
        self.out.push_str(&format!("<{tag}>"));
        self.label();
        let mut events = events.into_iter();
        if let Some(text) = attribution {
            events.next();
            self.escaped(&text);
        }
        events.for_each(|event| self.event(event));
        self.out.push_str(&format!("</{tag}>\n"));
    }

    /// Writes running text outside a paragraph: that of a heading, a cell, code or an item.
    fn line(&mut self, events: Vec<Event<'_>>) {
        match figure::figure(&events).filter(|_| !self.in_line) {
            Some(found) => self.figure(found),
            None => events.into_iter().for_each(|event| self.event(event)),
        }
    }

    fn figure(&mut self, found: figure::Figure<'_, '_>) {
        self.out.push_str("<figure>");
        let (name, target) = match &found.content {
            figure::Content::Picture(events) => {
                events.iter().cloned().for_each(|event| self.event(event));
                ("", "")
            }
            figure::Content::Embed(url) => ("a", *url),
            figure::Content::Video(url) => ("video", *url),
            figure::Content::Audio(url) => ("audio", *url),
        };
        if !name.is_empty() {
            self.out.push_str(&format!("<{name}"));
            self.attribute(if name == "a" { "href" } else { "src" }, target);
            if name != "a" {
                self.attribute("aria-label", &found.label);
            }
            self.out.push('>');
            self.escaped(if name == "a" { target } else { "" });
            self.out.push_str(&format!("</{name}>"));
        }
        self.out.push_str("<figcaption>");
        found
            .caption
            .iter()
            .filter(|event| !figure::is_emphasis(event))
            .cloned()
            .for_each(|event| self.event(event));
        self.out.push_str("</figcaption></figure>\n");
    }

    fn event(&mut self, event: Event<'_>) {
        if self.alt.is_some() {
            return self.in_picture(event);
        }
        match event {
            Event::Start(tag) => {
                self.tags += 1;
                self.start(tag);
            }
            Event::End(tag) => self.end(tag),
            Event::Text(text) => self.escaped(&text),
            Event::Code(text) => {
                self.out.push_str("<code>");
                self.escaped(&text);
                self.out.push_str("</code>");
            }
            Event::Html(html) | Event::InlineHtml(html) => self.out.push_str(&html),
            Event::FootnoteReference(label) => self.reference(&label),
            Event::SoftBreak => self.out.push('\n'),
            Event::HardBreak => self.out.push_str("<br>"),
            Event::Rule => self.out.push_str("<hr>\n"),
            Event::TaskListMarker(is_checked) => {
                self.out.push_str(if is_checked { CHECKED } else { UNCHECKED });
            }
            // Not enabled.
            Event::InlineMath(text) | Event::DisplayMath(text) => self.escaped(&text),
        }
    }

    /// Collects the text of a picture.
    fn in_picture(&mut self, event: Event<'_>) {
        let Some((alt, depth)) = &mut self.alt else { return };
        match event {
            Event::Text(text) | Event::Code(text) => alt.push_str(&text),
            Event::SoftBreak | Event::HardBreak => alt.push(' '),
            Event::Start(Tag::Image { .. }) => *depth += 1,
            Event::End(TagEnd::Image) if *depth > 0 => *depth -= 1,
            Event::End(TagEnd::Image) => {
                let (alt, _) = self.alt.take().unwrap_or_default();
                self.attribute("alt", &alt);
                self.out.push('>');
            }
            _ => {}
        }
    }

    fn start(&mut self, tag: Tag<'_>) {
        self.in_line |= matches!(tag, Tag::Heading { .. } | Tag::TableCell | Tag::CodeBlock(_));
        match tag {
            Tag::Heading { level, .. } => self.open(&format!("{level}")),
            Tag::BlockQuote(_) => self.open("blockquote"),
            Tag::CodeBlock(kind) => self.code_block(&kind),
            Tag::List(None) => self.open("ul"),
            Tag::List(Some(start)) => self.open(&format!("ol start=\"{start}\"")),
            Tag::Item => self.open("li"),
            Tag::FootnoteDefinition(label) => self.definition(&label),
            Tag::Table(_) => self.open("table"),
            Tag::TableHead => {
                self.head = Some(self.out.len());
                self.open("thead><tr");
            }
            Tag::TableRow => self.open("tr"),
            Tag::TableCell => self.open(if self.head.is_some() { "th" } else { "td" }),
            Tag::Emphasis => self.open("em"),
            Tag::Strong => self.open("strong"),
            Tag::Strikethrough => self.open("s"),
            Tag::Link { link_type: LinkType::Email, dest_url, title, .. } => {
                self.link(&format!("mailto:{dest_url}"), &title);
            }
            Tag::Link { dest_url, title, .. } => self.link(&dest_url, &title),
            Tag::Image { dest_url, title, .. } => {
                self.out.push_str("<img");
                self.attribute("src", &dest_url);
                if !title.is_empty() {
                    self.attribute("title", &title);
                }
                self.alt = Some((String::new(), 0));
            }
            // Paragraphs are collected. The others have no element, or are not enabled.
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd) {
        self.in_line &= !matches!(tag, TagEnd::Heading(_) | TagEnd::TableCell | TagEnd::CodeBlock);
        match tag {
            TagEnd::Heading(level) => self.close(&format!("{level}")),
            TagEnd::BlockQuote(_) => self.close("blockquote"),
            TagEnd::CodeBlock => self.out.push_str("</code></pre>\n"),
            TagEnd::List(is_ordered) => self.close(if is_ordered { "ol" } else { "ul" }),
            TagEnd::Item => self.close("li"),
            TagEnd::FootnoteDefinition => {
                self.label();
                self.close("div");
            }
            TagEnd::Table => self.close("table"),
            TagEnd::TableHead => self.end_head(),
            TagEnd::TableRow => self.close("tr"),
            TagEnd::TableCell => self.close(if self.head.is_some() { "th" } else { "td" }),
            TagEnd::Emphasis => self.out.push_str("</em>"),
            TagEnd::Strong => self.out.push_str("</strong>"),
            TagEnd::Strikethrough => self.out.push_str("</s>"),
            TagEnd::Link => self.out.push_str("</a>"),
            _ => {}
        }
    }

    /// Ends the head of a table, or removes it if it is empty: a table must have a head in Markdown.
    fn end_head(&mut self) {
        let start = self.head.take().unwrap_or(self.out.len());
        let is_empty = self.out[start..].replace("<th></th>\n", "") == "<thead><tr>";
        if is_empty {
            self.out.truncate(start);
        } else {
            self.out.push_str("</tr></thead>\n");
        }
    }

    fn code_block(&mut self, kind: &CodeBlockKind<'_>) {
        let language = match kind {
            CodeBlockKind::Fenced(info) => info.split([' ', ',', '\t']).next().unwrap_or_default(),
            CodeBlockKind::Indented => "",
        };
        self.out.push_str("<pre><code");
        if !language.is_empty() {
            self.attribute("class", &format!("language-{language}"));
        }
        self.out.push('>');
    }

    fn link(&mut self, target: &str, title: &str) {
        self.out.push_str("<a");
        self.attribute("href", target);
        if !title.is_empty() {
            self.attribute("title", title);
        }
        self.out.push('>');
    }

    fn reference(&mut self, label: &str) {
        self.out.push_str("<sup>");
        if is_token(label) {
            self.link(&format!("#fn-{label}"), "");
            self.escaped(label);
            self.out.push_str("</a></sup>");
        } else {
            self.escaped(label);
            self.out.push_str("</sup>");
        }
    }

    fn definition(&mut self, label: &CowStr<'_>) {
        self.out.push_str("<div");
        if is_token(label) {
            self.attribute("id", &format!("fn-{label}"));
        }
        self.out.push('>');
        self.label = Some(label.to_string());
    }

    /// Writes the label of a footnote before its text.
    fn label(&mut self) {
        if let Some(label) = self.label.take() {
            self.out.push_str("<sup>");
            self.escaped(&label);
            self.out.push_str("</sup> ");
        }
    }

    fn open(&mut self, tag: &str) {
        self.out.push_str(&format!("<{tag}>"));
    }

    /// Writes the end tag of a block.
    fn close(&mut self, tag: &str) {
        self.out.push_str(&format!("</{tag}>\n"));
    }

    fn attribute(&mut self, name: &str, value: &str) {
        self.out.push_str(&format!(" {name}=\""));
        self.escaped_before(value, &['"'], |_| true);
        self.out.push('"');
    }

    /// Writes text. Only what a parser would read as a tag or a reference is escaped.
    fn escaped(&mut self, text: &str) {
        let may_start = |next: &str| {
            next.is_empty()
                || next.starts_with(|c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '!' | '?' | '#'))
        };
        self.escaped_before(text, &[], may_start);
    }

    /// Writes text with `<` and `&` escaped where `may_start` accepts the text after them, and the `other` characters.
    fn escaped_before(&mut self, text: &str, other: &[char], may_start: impl Fn(&str) -> bool) {
        let mut rest = text;
        while let Some(at) = rest.find(|c| matches!(c, '<' | '&') || other.contains(&c)) {
            let (plain, special) = rest.split_at(at);
            self.out.push_str(plain);
            let (found, after) = special.split_at(1);
            let is_escaped = may_start(after);
            self.out.push_str(match found {
                "<" if is_escaped => "&lt;",
                "&" if is_escaped => "&amp;",
                "\"" => "&quot;",
                plain => plain,
            });
            rest = after;
        }
        self.out.push_str(rest);
    }
}

/// Returns whether the event is part of running text.
fn is_inline(event: &Event<'_>) -> bool {
    use {Tag as T, TagEnd as E};
    match event {
        Event::Start(tag) => {
            matches!(tag, T::Emphasis | T::Strong | T::Strikethrough | T::Link { .. } | T::Image { .. })
        }
        Event::End(tag) => {
            matches!(tag, E::Emphasis | E::Strong | E::Strikethrough | E::Link | E::Image)
        }
        Event::Html(_) | Event::Rule => false,
        _ => true,
    }
}

/// Returns the first text of an attribution without the dash before it, if the paragraph of a quotation is one.
fn attribution(events: &[Event<'_>]) -> Option<String> {
    match events.first() {
        Some(Event::Text(text)) => text.strip_prefix("\u{2014} ").map(|text| text.trim_start().to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
