//! Running text: first pieces in the order of the tree, then paragraphs of spans.

use super::block;
use cable_proto::v1::{self, Mark, Span, block::Kind};

/// The marks and the link of a text.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Style {
    pub(super) marks: Vec<i32>,
    pub(super) link: Option<v1::Link>,
}

impl Style {
    /// Returns whether the text has a mark.
    pub(super) fn has(&self, mark: Mark) -> bool {
        self.marks.contains(&mark.into())
    }
}

/// A piece of running text.
#[derive(Debug)]
pub(super) enum Inline {
    /// Text in which white space collapses to one space.
    Text(String, Style),
    /// An explicit line break. Two of them end the paragraph.
    Break(Style),
    /// A line feed that counts as a line break, unless one is due already.
    LineFeed(Style),
    /// White space of preformatted text, which is preserved.
    Space(String, Style),
    /// The end of the paragraph.
    Gap,
    /// The id of an element of running text.
    Anchor(String),
}

/// A paragraph with the ids in it. A run can end with ids after which no text follows: these have no spans.
#[derive(Debug, Default)]
pub(super) struct Text {
    pub(super) spans: Vec<Span>,
    pub(super) anchors: Vec<String>,
}

/// Adds text. In classic text a line feed is a line break, and an empty line ends the paragraph.
pub(super) fn push_text(run: &mut Vec<Inline>, text: &str, style: &Style, classic: bool) {
    if !classic {
        run.push(Inline::Text(text.to_owned(), style.clone()));
        return;
    }
    let mut lines = text.split('\n').peekable();
    let mut after_line_feed = false;
    while let Some(line) = lines.next() {
        let last = lines.peek().is_none();
        let empty = line.chars().all(|c| c.is_ascii_whitespace());
        if empty && after_line_feed && !last {
            run.push(Inline::Gap);
        }
        run.push(Inline::Text(line.to_owned(), style.clone()));
        if !last {
            run.push(Inline::LineFeed(style.clone()));
            after_line_feed = true;
        }
    }
}

/// Adds preformatted text in which marks count.
pub(super) fn push_verse(run: &mut Vec<Inline>, text: &str, style: &Style) {
    for (at, line) in text.split('\n').enumerate() {
        if at > 0 {
            run.push(Inline::LineFeed(style.clone()));
        }
        let body = line.trim_start_matches([' ', '\t']);
        run.push(Inline::Space(line[..line.len() - body.len()].to_owned(), style.clone()));
        run.push(Inline::Text(body.to_owned(), style.clone()));
    }
}

/// Returns the paragraphs of a run. Paragraphs with only white space are left out.
pub(super) fn paragraphs(run: Vec<Inline>) -> Vec<Text> {
    let mut writer = Writer::default();
    for piece in run {
        match piece {
            Inline::Text(text, style) => writer.text(&text, &style),
            Inline::Space(text, style) if !text.is_empty() => writer.indent = Some((text, style)),
            Inline::Space(..) => {}
            Inline::Break(style) => writer.line(true, style),
            Inline::LineFeed(style) => writer.line(false, style),
            Inline::Gap => writer.end(),
            Inline::Anchor(id) => writer.anchors.push(id),
        }
    }
    writer.end();
    if !writer.anchors.is_empty() {
        writer.done.push(Text { anchors: writer.anchors, ..Text::default() });
    }
    writer.done
}

#[derive(Default)]
struct Writer {
    done: Vec<Text>,
    spans: Vec<Span>,
    anchors: Vec<String>,
    space: Option<Style>,
    indent: Option<(String, Style)>,
    line_break: Option<Style>,
}

impl Writer {
    /// Records that a line break is due. A second explicit one ends the paragraph, a line feed does not.
    fn line(&mut self, explicit: bool, style: Style) {
        self.indent = None;
        if explicit && self.line_break.is_some() {
            self.end();
        } else {
            self.line_break.get_or_insert(style);
        }
    }

    fn text(&mut self, text: &str, style: &Style) {
        let mut rest = text;
        while !rest.is_empty() {
            let word = rest.find(|c: char| c.is_ascii_whitespace()).unwrap_or(rest.len());
            if word > 0 {
                self.before_word();
                self.push(&rest[..word], style);
                rest = &rest[word..];
            } else {
                self.space.get_or_insert_with(|| style.clone());
                rest = rest.trim_start_matches(|c: char| c.is_ascii_whitespace());
            }
        }
    }

    /// Writes the break or space that is due, except at the start of the paragraph.
    fn before_word(&mut self) {
        let space = self.space.take();
        let line_break = self.line_break.take();
        if !self.spans.is_empty() {
            if let Some(style) = line_break {
                self.push("\n", &style);
            } else if let Some(space) = space {
                self.push(" ", &space);
            }
        }
        if let Some((indent, style)) = self.indent.take() {
            self.push(&indent, &style);
        }
    }

    fn push(&mut self, text: &str, style: &Style) {
        match self.spans.last_mut() {
            Some(last) if last.marks == style.marks && last.link == style.link => last.text.push_str(text),
            _ => self.spans.push(Span {
                text: text.to_owned(),
                marks: style.marks.clone(),
                link: style.link.clone(),
            }),
        }
    }

    fn end(&mut self) {
        let spans = std::mem::take(&mut self.spans);
        if spans.iter().any(|span| !span.text.trim().is_empty()) {
            self.done.push(Text { spans, anchors: std::mem::take(&mut self.anchors) });
        }
        self.space = None;
        self.indent = None;
        self.line_break = None;
    }
}

/// Joins the paragraphs and headings into one line of spans, with line feeds between them. Returns the other blocks
/// beside it.
pub(super) fn join(blocks: Vec<v1::Block>) -> (Vec<Span>, Vec<v1::Block>) {
    let mut joined: Vec<Span> = Vec::new();
    let mut rest = Vec::new();
    for other in blocks {
        let (Some(Kind::Paragraph(v1::Paragraph { spans })) | Some(Kind::Heading(v1::Heading { spans, .. }))) =
            other.kind
        else {
            rest.push(other);
            continue;
        };
        append(&mut joined, spans);
    }
    (joined, rest)
}

/// Adds spans on a line of their own.
pub(super) fn append(line: &mut Vec<Span>, spans: Vec<Span>) {
    let line_feed = Span { text: "\n".into(), ..Span::default() };
    let apart = (!line.is_empty() && !spans.is_empty()).then_some(line_feed);
    for span in apart.into_iter().chain(spans) {
        match line.last_mut() {
            Some(last) if last.marks == span.marks && last.link == span.link => {
                last.text.push_str(&span.text);
            }
            _ => line.push(span),
        }
    }
}

/// Returns a paragraph block.
pub(super) fn paragraph(spans: Vec<Span>) -> v1::Block {
    block(Kind::Paragraph(v1::Paragraph { spans }))
}

/// Returns the text of the spans if none of them has a mark or a link.
pub(super) fn bare_text(spans: &[Span]) -> Option<&str> {
    match spans {
        [span] if span.marks.is_empty() && span.link.is_none() => Some(&span.text),
        _ => None,
    }
}
