//! A body as HTML: semantic elements without classes, except a code block's language.
//!
//! A picture is a `figure`, with the credit in `small` after the caption. Files of one picture become `srcset` if they
//! have the type of the largest file, so that no browser selects one that it cannot read. HTML has no
//! attributes for a focal point and a playing time, and styles are not allowed: each has a `data-` attribute.

mod player;
mod post;

pub(super) use post::{start_tag as post_start_tag, time_elements};

use std::fmt::Write as _;

use super::{
    FOCAL_POINT, Marks, Stops, are_blank, credit, embed_texts, files, first_number, is_blank, is_token,
    language, largest, level, link, span_of, stand_in,
};
use crate::sanitise::{clean_char, link_target, safe_html};
use cable_proto::v1::{
    Block, Body, Code, Embed, FocalPoint, Gallery, Image, Link, List, ListItem, Mark, Media, PullQuote,
    Quote, Span, Table, TableCell, TableRow, block::Kind,
};

pub(super) fn render(body: &Body, capacity: usize) -> String {
    let mut html = Html { out: String::with_capacity(capacity) };
    html.blocks(&body.blocks);
    html.out
}

struct Html {
    out: String,
}

impl Html {
    fn blocks(&mut self, blocks: &[Block]) {
        let begin = self.out.len();
        for block in blocks {
            let part = if self.out.len() > begin { "\n" } else { "" };
            self.parted(part, |html| html.block(block));
        }
    }

    /// Writes content with `part` before it, or nothing if the content is empty.
    fn parted(&mut self, part: &str, content: impl FnOnce(&mut Self)) {
        let before = self.out.len();
        self.out.push_str(part);
        let inner = self.out.len();
        content(self);
        if self.out.len() == inner {
            self.out.truncate(before);
        }
    }

    fn block(&mut self, block: &Block) {
        const HEADINGS: [&str; 5] = ["h2", "h3", "h4", "h5", "h6"];
        let id = block.id.as_str();
        match &block.kind {
            Some(Kind::Paragraph(paragraph)) => self.line("p", id, &paragraph.spans),
            Some(Kind::Heading(heading)) => self.line(HEADINGS[level(heading.level) - 2], id, &heading.spans),
            Some(Kind::List(list)) => self.list(id, list),
            Some(Kind::Quote(quote)) => self.wrapped("blockquote", id, |html| html.quote(quote)),
            Some(Kind::PullQuote(quote)) => self.wrapped("aside", id, |html| html.pull_quote(quote)),
            Some(Kind::Image(image)) => self.image(id, image),
            Some(Kind::Gallery(gallery)) => self.wrapped("figure", id, |html| html.gallery(gallery)),
            Some(Kind::Embed(embed)) => self.wrapped("figure", id, |html| html.embed(embed)),
            Some(Kind::Code(code)) => self.wrapped("pre", id, |html| html.code(code)),
            Some(Kind::Table(table)) => self.wrapped("table", id, |html| html.table(table)),
            Some(Kind::Divider(_)) => self.open("hr", id),
            Some(Kind::RawHtml(raw)) if is_token(id) => {
                self.wrapped("div", id, |html| html.out.push_str(&safe_html(&raw.html)));
            }
            Some(Kind::RawHtml(raw)) => self.out.push_str(&safe_html(&raw.html)),
            Some(Kind::LivePost(post)) => self.live_post(id, post),
            Some(Kind::Video(video)) => video.media.iter().for_each(|media| self.player("video", id, media)),
            Some(Kind::Audio(audio)) => audio.media.iter().for_each(|media| self.player("audio", id, media)),
            None => {}
        }
    }

    fn open(&mut self, tag: &str, id: &str) {
        self.out.push('<');
        self.out.push_str(tag);
        if is_token(id) {
            self.attribute("id", id);
        }
        self.out.push('>');
    }

    fn close(&mut self, tag: &str) {
        self.out.push_str("</");
        self.out.push_str(tag);
        self.out.push('>');
    }

    fn attribute(&mut self, name: &str, value: &str) {
        self.out.push(' ');
        self.out.push_str(name);
        self.out.push_str("=\"");
        self.escaped(value, " ", "&quot;");
        self.out.push('"');
    }

    fn number(&mut self, name: &str, value: impl std::fmt::Display) {
        // Writing to a String cannot fail.
        let _ = write!(self.out, " {name}=\"{value}\"");
    }

    fn text(&mut self, text: &str) {
        self.escaped(text, "<br>", "\"");
    }

    fn escaped(&mut self, text: &str, line_feed: &str, quote: &str) {
        static STOPS: Stops = Stops::new(b"&<>\"");
        let mut rest = text;
        loop {
            let (plain, special) = STOPS.split(rest);
            self.out.push_str(plain);
            let mut special = special.chars();
            match special.next() {
                None => return,
                Some('&') => self.out.push_str("&amp;"),
                Some('<') => self.out.push_str("&lt;"),
                Some('>') => self.out.push_str("&gt;"),
                Some('"') => self.out.push_str(quote),
                Some('\n') => self.out.push_str(line_feed),
                Some(c) => self.out.extend(clean_char(c)),
            }
            rest = special.as_str();
        }
    }

    /// Writes an element, unless it would be empty.
    fn wrapped(&mut self, tag: &str, id: &str, content: impl FnOnce(&mut Self)) {
        let before = self.out.len();
        self.open(tag, id);
        let inner = self.out.len();
        content(self);
        if self.out.len() == inner { self.out.truncate(before) } else { self.close(tag) }
    }

    /// Writes an element of running text, unless there is no text.
    fn line(&mut self, tag: &str, id: &str, spans: &[Span]) {
        self.wrapped(tag, id, |html| html.spans(spans));
    }

    fn spans(&mut self, spans: &[Span]) {
        if are_blank(spans) {
            return;
        }
        let mut open_link: Option<(&Link, &str)> = None;
        let mut open = Marks::default();
        for span in spans.iter().filter(|span| !span.text.is_empty()) {
            let (link, marks) = (link(span), Marks::of(span));
            let shared = if link == open_link { open.shared(&marks) } else { 0 };
            self.close_marks(&open.as_slice()[shared..]);
            if link != open_link {
                self.change_link(open_link, link);
            }
            marks.as_slice()[shared..].iter().for_each(|&mark| self.open(tag_of(mark), ""));
            self.text(&span.text);
            (open_link, open) = (link, marks);
        }
        self.close_marks(open.as_slice());
        self.change_link(open_link, None);
    }

    fn close_marks(&mut self, marks: &[Mark]) {
        marks.iter().rev().for_each(|&mark| self.close(tag_of(mark)));
    }

    fn change_link(&mut self, from: Option<(&Link, &str)>, to: Option<(&Link, &str)>) {
        if from.is_some() {
            self.close("a");
        }
        if let Some((link, target)) = to {
            self.open_link(target, &link.title);
        }
    }

    fn open_link(&mut self, target: &str, title: &str) {
        self.out.push_str("<a");
        self.attribute("href", target);
        if !title.is_empty() {
            self.attribute("title", title);
        }
        self.out.push('>');
    }

    fn list(&mut self, id: &str, list: &List) {
        if list.items.is_empty() {
            return;
        }
        let tag = if list.ordered { "ol" } else { "ul" };
        self.open(tag, id);
        if list.ordered && first_number(list.start) != 1 {
            self.out.pop();
            self.number("start", list.start);
            self.out.push('>');
        }
        list.items.iter().for_each(|item| self.item(item));
        self.close(tag);
    }

    /// Writes a list item. If a paragraph comes first and is the only one, its text becomes the item's own text.
    fn item(&mut self, item: &ListItem) {
        let is_paragraph = |block: &Block| matches!(block.kind, Some(Kind::Paragraph(_)));
        match item.blocks.split_first() {
            Some((Block { id, kind: Some(Kind::Paragraph(own)) }, rest))
                if !rest.iter().any(is_paragraph) =>
            {
                self.open("li", id);
                self.spans(&own.spans);
                self.parted("\n", |html| html.blocks(rest));
            }
            _ => {
                self.open("li", "");
                self.blocks(&item.blocks);
            }
        }
        self.close("li");
    }

    fn quote(&mut self, quote: &Quote) {
        self.blocks(&quote.blocks);
        self.line("footer", "", &quote.attribution);
    }

    fn pull_quote(&mut self, quote: &PullQuote) {
        self.wrapped("blockquote", "", |html| {
            html.line("p", "", &quote.spans);
            html.line("footer", "", &quote.attribution);
        });
    }

    fn image(&mut self, id: &str, image: &Image) {
        if let Some(media) = &image.media {
            self.media(id, media, link_target(&image.href));
        }
    }

    fn media(&mut self, id: &str, media: &Media, target: Option<&str>) {
        self.wrapped("figure", id, |html| {
            match target {
                Some(target) if largest(media).is_some() => {
                    html.open_link(target, "");
                    html.picture(media);
                    html.close("a");
                }
                _ => html.picture(media),
            }
            html.wrapped("figcaption", "", |html| html.caption(media, largest(media).is_some()));
        });
    }

    fn picture(&mut self, media: &Media) {
        let Some((file, address)) = largest(media) else { return };
        self.out.push_str("<img");
        self.attribute("src", address);
        let sources = sources(media, &file.r#type);
        if !sources.is_empty() {
            self.attribute("srcset", &sources);
        }
        self.attribute("alt", &media.alt_text);
        for (name, value) in [("width", file.width), ("height", file.height)] {
            if value > 0 {
                self.number(name, value);
            }
        }
        if let Some(point) = focal_point(media) {
            self.attribute(FOCAL_POINT, &point);
        }
        self.out.push('>');
    }

    /// Writes the caption and the credit. If the content is not shown, its alternative text replaces a missing caption.
    fn caption(&mut self, media: &Media, is_shown: bool) {
        let begin = self.out.len();
        match stand_in(media) {
            Some(text) if !is_shown => self.text(text),
            _ => self.spans(&media.caption),
        }
        let credit = credit(media);
        if is_blank(&credit) {
            return;
        }
        if self.out.len() > begin {
            self.out.push(' ');
        }
        self.wrapped("small", "", |html| html.text(&credit));
    }

    fn gallery(&mut self, gallery: &Gallery) {
        gallery.images.iter().for_each(|image| self.image("", image));
        self.line("figcaption", "", &gallery.caption);
    }

    fn embed(&mut self, embed: &Embed) {
        let (title, fallback) = embed_texts(embed);
        if !is_blank(title) {
            self.embed_title(embed, title);
        }
        if let Some(fallback) = fallback {
            self.wrapped("p", "", |html| html.text(fallback));
        }
        self.line("figcaption", "", &embed.caption);
    }

    fn embed_title(&mut self, embed: &Embed, title: &str) {
        let Some(target) = link_target(&embed.url) else {
            return self.wrapped("p", "", |html| html.text(title));
        };
        self.open_link(target, "");
        self.text(title);
        self.close("a");
    }

    fn code(&mut self, code: &Code) {
        if is_blank(&code.text) {
            return;
        }
        self.out.push_str("<code");
        if let Some(language) = language(&code.language) {
            self.attribute("class", &format!("language-{language}"));
        }
        self.out.push('>');
        self.escaped(&code.text, "\n", "\"");
        self.close("code");
    }

    fn table(&mut self, table: &Table) {
        self.line("caption", "", &table.caption);
        let is_head = |row: &TableRow| row.cells.iter().all(|cell| cell.header && cell.row_span <= 1);
        match table.rows.split_first() {
            Some((head, rows)) if !head.cells.is_empty() && is_head(head) => {
                self.wrapped("thead", "", |html| html.row(head));
                self.wrapped("tbody", "", |html| rows.iter().for_each(|row| html.row(row)));
            }
            _ => self.wrapped("tbody", "", |html| table.rows.iter().for_each(|row| html.row(row))),
        }
    }

    fn row(&mut self, row: &TableRow) {
        self.out.push_str("<tr>");
        row.cells.iter().for_each(|cell| self.cell(cell));
        self.close("tr");
    }

    fn cell(&mut self, cell: &TableCell) {
        let tag = if cell.header { "th" } else { "td" };
        self.out.push('<');
        self.out.push_str(tag);
        for (name, cells) in [("colspan", span_of(cell.column_span)), ("rowspan", span_of(cell.row_span))] {
            if cells > 1 {
                self.number(name, cells);
            }
        }
        self.out.push('>');
        self.spans(&cell.spans);
        self.blocks(&cell.blocks);
        self.close(tag);
    }
}

/// Returns the focal point as text, if it is within the picture.
fn focal_point(media: &Media) -> Option<String> {
    let FocalPoint { x, y } = media.focal_point.as_ref()?;
    [x, y].iter().all(|part| (0.0..=1.0).contains(*part)).then(|| format!("{x} {y}"))
}

fn tag_of(mark: Mark) -> &'static str {
    match mark {
        Mark::Strong => "strong",
        Mark::Emphasis => "em",
        Mark::Code => "code",
        Mark::Strike => "s",
        Mark::Sub => "sub",
        Mark::Sup => "sup",
        Mark::Unspecified => "span",
    }
}

/// Returns the files of the given type by width if there are several. The browser chooses among them.
fn sources(media: &Media, media_type: &str) -> String {
    // In `srcset`, white space and commas separate the files, so a URL that contains white space, or starts or ends
    // with a comma, cannot be listed.
    let fits = |url: &str| !url.contains(char::is_whitespace) && !url.starts_with(',') && !url.ends_with(',');
    let mut found: Vec<_> =
        files(media).filter(|(file, url)| file.width > 0 && file.r#type == media_type && fits(url)).collect();
    found.sort_by_key(|(file, _)| file.width);
    found.dedup_by_key(|(file, _)| file.width);
    if found.len() < 2 {
        return String::new();
    }
    let list: Vec<_> = found.iter().map(|(file, url)| format!("{url} {}w", file.width)).collect();
    list.join(", ")
}
