//! A body as Markdown: CommonMark with tables and strikethrough.
//!
//! If a parser for this dialect reads the text back, it finds the same words, marks and links. A mark becomes an HTML
//! element where a parser would not recognise its Markdown delimiters (within words, beside punctuation), and for sub-
//! and superscript. A post of a live blog is Markdown between the tags of an HTML element, which has its properties.
//! Other properties without a Markdown form are left out: ids of blocks, sizes and focal points of pictures, playing times,
//! other files than the largest or first, cells that cover others.

mod cell;
mod inline;
mod post;

use super::{
    Marks, are_blank, clean, credit, embed_texts, first_number, is_blank, language, largest, level,
    lines::Lines, playable, span_of, stand_in,
};
use crate::sanitise::{link_target, safe_html};
use cable_proto::v1::{
    Block, Body, Code, Embed, Gallery, Heading, Image, List, ListItem, Mark, Media, Span, Table, TableCell,
    block::Kind,
};
use inline::Piece;

pub(super) fn render(body: &Body, capacity: usize) -> String {
    let mut markdown = Markdown { lines: Lines::with_capacity(capacity), bullets: Vec::new() };
    markdown.blocks(&body.blocks);
    markdown.lines.finish()
}

struct Markdown {
    lines: Lines,
    /// The marker of each open list, outermost first.
    bullets: Vec<char>,
}

impl Markdown {
    fn blocks(&mut self, blocks: &[Block]) {
        let begin = self.lines.len();
        let mut last_marker = None;
        let mut after_paragraph = false;
        for block in blocks {
            let before = self.lines.len();
            if before > begin {
                self.lines.break_line(if after_paragraph && self.continues(block) { 1 } else { 2 });
            }
            let marker = self.block(block, last_marker);
            if self.lines.len() > before {
                last_marker = marker;
                after_paragraph = matches!(block.kind, Some(Kind::Paragraph(_)));
            }
        }
    }

    /// Returns whether the block is a list that may follow its item's text without an empty line, which would make the
    /// list loose. A parser would read an empty item as an underline, and a number other than 1 as text.
    fn continues(&self, block: &Block) -> bool {
        let Some(Kind::List(list)) = &block.kind else { return false };
        let first = list.items.first().and_then(|item| item.blocks.first());
        let has_text = matches!(first.and_then(|block| block.kind.as_ref()),
            Some(Kind::Paragraph(paragraph)) if !are_blank(&paragraph.spans));
        !self.bullets.is_empty() && has_text && (!list.ordered || first_number(list.start) == 1)
    }

    /// Writes a block. `last` is the marker of the list before it, and the result is its own: two lists in a row with
    /// the same marker would become one.
    fn block(&mut self, block: &Block, last: Option<char>) -> Option<char> {
        match &block.kind {
            Some(Kind::Paragraph(paragraph)) => self.spans(&paragraph.spans),
            Some(Kind::Heading(heading)) => self.heading(heading),
            Some(Kind::List(list)) => return self.list(list, last),
            Some(Kind::Quote(quote)) => {
                self.quote(&quote.attribution, |markdown| markdown.blocks(&quote.blocks));
            }
            Some(Kind::PullQuote(quote)) => {
                self.quote(&quote.attribution, |markdown| markdown.spans(&quote.spans));
            }
            Some(Kind::Image(image)) => self.image(image),
            Some(Kind::Gallery(gallery)) => self.gallery(gallery),
            Some(Kind::Embed(embed)) => self.embed(embed),
            Some(Kind::Code(code)) => self.code(code),
            Some(Kind::Table(table)) => self.table(table),
            // The only form of a rule that cannot be read as a list marker, nor as a continuation of one.
            Some(Kind::Divider(_)) => self.lines.push_str("___"),
            Some(Kind::RawHtml(raw)) => self.raw_html(&raw.html),
            Some(Kind::LivePost(post)) => self.live_post(&block.id, post),
            Some(Kind::Video(video)) => video.media.iter().for_each(|media| self.player(media)),
            Some(Kind::Audio(audio)) => audio.media.iter().for_each(|media| self.player(media)),
            None => {}
        }
        None
    }

    fn spans(&mut self, spans: &[Span]) {
        self.inline(inline::pieces(spans, Marks::default()), false);
    }

    fn heading(&mut self, heading: &Heading) {
        if are_blank(&heading.spans) {
            return;
        }
        self.lines.push_str(&"#".repeat(level(heading.level)));
        self.lines.push(' ');
        self.inline(inline::pieces(&heading.spans, Marks::default()), true);
    }

    fn list(&mut self, list: &List, last: Option<char>) -> Option<char> {
        const LARGEST_NUMBER: i64 = 999_999_999;
        let markers: &[char] = if list.ordered { &['.', ')'] } else { &['-', '*', '+'] };
        let parent = self.bullets.last().copied();
        let differs = |&&c: &&char| Some(c) != last && (list.ordered || Some(c) != parent);
        let marker = markers.iter().find(differs).copied().unwrap_or(markers[0]);
        self.bullets.push(marker);
        let first = first_number(list.start).max(0);
        for (item, number) in list.items.iter().zip(first..) {
            if list.ordered {
                self.item(item, &format!("{}{marker} ", number.min(LARGEST_NUMBER)));
            } else {
                self.item(item, &format!("{marker} "));
            }
        }
        self.bullets.pop();
        Some(marker)
    }

    fn item(&mut self, item: &ListItem, marker: &str) {
        let indent = " ".repeat(marker.len());
        self.lines.open(marker, &indent);
        self.blocks(&item.blocks);
        self.lines.close(&indent);
        self.lines.break_line(if is_tight(item) { 1 } else { 2 });
    }

    fn quote(&mut self, attribution: &[Span], content: impl FnOnce(&mut Self)) {
        const PREFIX: &str = "> ";
        let saved = self.lines.save();
        self.lines.open(PREFIX, PREFIX);
        let begin = self.lines.len();
        content(self);
        if !are_blank(attribution) {
            if self.lines.len() > begin {
                self.lines.break_line(2);
            }
            self.lines.push_str("\u{2014} ");
            self.inline(inline::pieces(attribution, Marks::default()), false);
        }
        self.lines.close(PREFIX);
        if self.lines.len() == begin {
            self.lines.restore(&saved);
        }
    }

    fn image(&mut self, image: &Image) {
        image.media.iter().for_each(|media| self.media(media, link_target(&image.href)));
    }

    fn media(&mut self, media: &Media, target: Option<&str>) {
        let file = largest(media);
        if let Some((_, address)) = file {
            self.picture(&media.alt_text, address, target);
        }
        self.next_line(caption(media, file.is_some()));
    }

    /// Writes a video or a sound as a link to its first file.
    fn player(&mut self, media: &Media) {
        let file = playable(media).next();
        if let Some((_, address)) = file {
            let text = if is_blank(&media.alt_text) { address } else { &media.alt_text };
            self.link(text, address);
        }
        self.next_line(caption(media, file.is_some()));
    }

    fn link(&mut self, text: &str, target: &str) {
        self.lines.push('[');
        self.inline(vec![Piece::plain(&text.replace('\n', " "))], true);
        self.lines.push(']');
        self.destination(target, "");
    }

    fn picture(&mut self, alt: &str, address: &str, target: Option<&str>) {
        if target.is_some() {
            self.lines.push('[');
        }
        self.lines.push_str("![");
        self.inline(vec![Piece::plain(&alt.replace('\n', " "))], true);
        self.lines.push(']');
        self.destination(address, "");
        if let Some(target) = target {
            self.lines.push(']');
            self.destination(target, "");
        }
    }

    /// Writes running text on a new line of the same paragraph if the paragraph has text already.
    fn next_line(&mut self, pieces: Vec<Piece<'_>>) {
        if pieces.iter().all(|piece| is_blank(&piece.text)) {
            return;
        }
        if !self.lines.at_start() {
            self.hard_break();
        }
        self.inline(pieces, false);
    }

    fn hard_break(&mut self) {
        self.lines.trim();
        self.lines.push('\\');
        self.lines.newline();
    }

    fn gallery(&mut self, gallery: &Gallery) {
        let begin = self.lines.len();
        for image in &gallery.images {
            if self.lines.len() > begin {
                self.lines.break_line(2);
            }
            self.image(image);
        }
        if !are_blank(&gallery.caption) {
            if self.lines.len() > begin {
                self.lines.break_line(2);
            }
            self.inline(inline::pieces(&gallery.caption, Marks::default().with(Mark::Emphasis)), false);
        }
    }

    fn embed(&mut self, embed: &Embed) {
        let (title, fallback) = embed_texts(embed);
        match link_target(&embed.url) {
            Some(target) => self.link(title, target),
            None => self.inline(vec![Piece::plain(title)], false),
        }
        self.next_line(vec![Piece::plain(fallback.unwrap_or_default())]);
        self.next_line(inline::pieces(&embed.caption, Marks::default().with(Mark::Emphasis)));
    }

    fn code(&mut self, code: &Code) {
        if is_blank(&code.text) {
            return;
        }
        let text = clean(&code.text);
        let fence = "`".repeat(inline::longest_run(&text, '`').max(2) + 1);
        self.lines.push_str(&fence);
        self.lines.push_str(language(&code.language).unwrap_or_default());
        self.lines.newline();
        self.lines.verbatim(text.strip_suffix('\n').unwrap_or(&text));
        self.lines.newline();
        self.lines.push_str(&fence);
    }

    fn table(&mut self, table: &Table) {
        let rows = grid(table);
        let width = rows.iter().map(Vec::len).max().unwrap_or_default();
        self.inline(inline::pieces(&table.caption, Marks::default().with(Mark::Emphasis)), false);
        if width == 0 {
            return;
        }
        if !are_blank(&table.caption) {
            self.lines.break_line(2);
        }
        let is_head = |row: &Vec<Option<&TableCell>>| row.iter().flatten().any(|cell| cell.header);
        let (head, rows) = match rows.split_first() {
            Some((head, rows)) if is_head(head) => (head.as_slice(), rows),
            _ => (&[][..], rows.as_slice()),
        };
        self.row(head, width);
        self.lines.break_line(1);
        self.lines.push_str(&"| --- ".repeat(width));
        self.lines.push('|');
        for row in rows {
            self.lines.break_line(1);
            self.row(row, 1);
        }
    }

    fn row(&mut self, row: &[Option<&TableCell>], width: usize) {
        let cells = row.iter().copied().chain(std::iter::repeat(None)).take(row.len().max(width));
        self.lines.push('|');
        for cell in cells {
            self.lines.push(' ');
            if let Some(cell) = cell {
                self.cell(cell);
            }
            self.lines.push_str(" |");
        }
    }

    /// Writes HTML within an element. A parser leaves it unchanged up to the first empty line, so it is written without
    /// empty lines.
    fn raw_html(&mut self, html: &str) {
        let html = safe_html(html);
        if html.is_empty() {
            return;
        }
        self.lines.push_str("<div>");
        self.lines.newline();
        for line in html.split('\n') {
            self.lines.push_str(line);
            if is_blank(line) {
                self.lines.push_str("&#10;");
            } else {
                self.lines.newline();
            }
        }
        self.lines.push_str("</div>");
    }
}

/// Returns the caption and the credit in emphasis. If the content is not shown, its alternative text replaces a missing
/// caption.
fn caption(media: &Media, is_shown: bool) -> Vec<Piece<'_>> {
    let mut pieces = match stand_in(media) {
        Some(text) if !is_shown => vec![Piece::emphasised(text)],
        _ => inline::pieces(&media.caption, Marks::default().with(Mark::Emphasis)),
    };
    pieces.push(Piece::emphasised(" "));
    pieces.push(Piece::emphasised(&credit(media)));
    pieces
}

/// Returns whether an item is a line of text, or lists, or text followed by lists. All other items end with an empty
/// line.
fn is_tight(item: &ListItem) -> bool {
    item.blocks.iter().enumerate().all(|(at, block)| match block.kind {
        Some(Kind::List(_)) => true,
        Some(Kind::Paragraph(_)) => at == 0,
        _ => false,
    })
}

/// Returns the cells of a table at their positions, with `None` where another cell covers the position.
fn grid(table: &Table) -> Vec<Vec<Option<&TableCell>>> {
    // A cell can claim a thousand columns and rows. Only the columns of a readable table are laid out.
    const COLUMNS: usize = 16;
    let mut covered = [0_usize; COLUMNS];
    let mut rows = Vec::with_capacity(table.rows.len());
    for row in &table.rows {
        let mut positions = Vec::with_capacity(row.cells.len());
        let mut below = covered.map(|rows| rows.saturating_sub(1));
        for cell in &row.cells {
            while covered.get(positions.len()).is_some_and(|&rows| rows > 0) {
                positions.push(None);
            }
            let columns = positions.len()..COLUMNS.min(positions.len() + span_of(cell.column_span));
            positions.push(Some(cell));
            for column in columns.clone() {
                below[column] = below[column].max(span_of(cell.row_span) - 1);
            }
            positions.extend(columns.skip(1).map(|_| None));
        }
        covered = below;
        rows.push(positions);
    }
    rows
}
