//! A body as plain text: an empty line between blocks, a tab between table cells, links as their text. Blocks in a cell
//! are joined into one line.
//!
//! Text that the renderer adds to the body (bullets, numbers, dashes before an attribution, dividers, the times of live
//! posts) is left out when only the words are wanted. No line ends in white space, not even in code.

use super::{
    Stops, are_blank, authors, clean, credit, embed_texts, first_number, is_blank, lines::Lines, playable,
    stand_in, times,
};
use crate::sanitise::{clean_char, safe_html, text_of};
use cable_proto::v1::{
    Block, Body, Embed, Gallery, List, LivePost, Media, Span, Table, TableCell, TableRow, block::Kind,
};

pub(super) fn render(body: &Body, capacity: usize) -> String {
    write(&body.blocks, capacity, true)
}

/// Returns only the words of the body, without the renderer's additions.
pub(super) fn words(body: &Body, capacity: usize) -> String {
    write(&body.blocks, capacity, false)
}

fn write(blocks: &[Block], capacity: usize, decorated: bool) -> String {
    let mut text = Text { lines: Lines::with_capacity(capacity), decorated };
    text.blocks(blocks);
    text.lines.finish()
}

struct Text {
    lines: Lines,
    decorated: bool,
}

impl Text {
    fn blocks(&mut self, blocks: &[Block]) {
        let begin = self.lines.len();
        for block in blocks {
            if self.lines.len() > begin {
                let is_sublist = self.lines.is_nested() && matches!(block.kind, Some(Kind::List(_)));
                self.lines.break_line(if is_sublist { 1 } else { 2 });
            }
            self.block(block);
        }
    }

    fn block(&mut self, block: &Block) {
        match &block.kind {
            Some(Kind::Paragraph(paragraph)) => self.spans(&paragraph.spans),
            Some(Kind::Heading(heading)) => self.spans(&heading.spans),
            Some(Kind::List(list)) => self.list(list),
            Some(Kind::Quote(quote)) => {
                self.attributed(&quote.attribution, |text| text.blocks(&quote.blocks));
            }
            Some(Kind::PullQuote(quote)) => {
                self.attributed(&quote.attribution, |text| text.spans(&quote.spans));
            }
            Some(Kind::Image(image)) => image.media.iter().for_each(|media| self.media(media)),
            Some(Kind::Gallery(gallery)) => self.gallery(gallery),
            Some(Kind::Embed(embed)) => self.embed(embed),
            Some(Kind::Code(code)) => self.code(&code.text),
            Some(Kind::Table(table)) => self.table(table),
            Some(Kind::Divider(_)) if self.decorated => self.lines.push_str("* * *"),
            Some(Kind::RawHtml(raw)) => self.raw_html(&raw.html),
            Some(Kind::LivePost(post)) => self.live_post(post),
            Some(Kind::Video(video)) => video.media.iter().for_each(|media| self.player(media)),
            Some(Kind::Audio(audio)) => audio.media.iter().for_each(|media| self.player(media)),
            Some(Kind::Divider(_)) | None => {}
        }
    }

    /// Writes running text. White space at the start of a line and empty lines are left out.
    fn text(&mut self, text: &str) {
        static STOPS: Stops = Stops::new(b"");
        let mut rest = text;
        loop {
            let (plain, special) = STOPS.split(rest);
            let plain = if self.lines.at_start() { plain.trim_start() } else { plain };
            if !plain.is_empty() {
                self.lines.push_str(plain);
            }
            let mut special = special.chars();
            match special.next().map(clean_char) {
                None => return,
                Some(Some('\n')) => self.lines.end_line(),
                Some(Some(c)) if !(c.is_whitespace() && self.lines.at_start()) => self.lines.push(c),
                Some(_) => {}
            }
            rest = special.as_str();
        }
    }

    fn spans(&mut self, spans: &[Span]) {
        spans.iter().for_each(|span| self.text(&span.text));
    }

    fn list(&mut self, list: &List) {
        let first = first_number(list.start);
        for (item, number) in list.items.iter().zip(first..) {
            let marker = match (self.decorated, list.ordered) {
                (false, _) => String::new(),
                (true, true) => format!("{number}. "),
                (true, false) => "- ".to_owned(),
            };
            let indent = " ".repeat(marker.len());
            self.lines.open(&marker, &indent);
            self.blocks(&item.blocks);
            self.lines.close(&indent);
            self.lines.break_line(1);
        }
    }

    fn attributed(&mut self, attribution: &[Span], content: impl FnOnce(&mut Self)) {
        let begin = self.lines.len();
        content(self);
        if are_blank(attribution) {
            return;
        }
        if self.lines.len() > begin {
            self.lines.end_line();
        }
        if self.decorated {
            self.lines.push_str("\u{2014} ");
        }
        self.spans(attribution);
    }

    fn media(&mut self, media: &Media) {
        match stand_in(media) {
            Some(text) => self.text(text),
            None => self.spans(&media.caption),
        }
        self.text(" ");
        self.text(&credit(media));
    }

    /// Writes the texts of a video or a sound or, if it has none, the URL of its first file.
    fn player(&mut self, media: &Media) {
        let begin = self.lines.len();
        self.media(media);
        if let (true, true, Some((_, address))) =
            (self.decorated, self.lines.len() == begin, playable(media).next())
        {
            self.text(address);
        }
    }

    fn live_post(&mut self, post: &LivePost) {
        let begin = self.lines.len();
        self.text(&post.title);
        self.lines.end_line();
        if self.decorated {
            times(post).for_each(|time| {
                self.text(&time.shown);
                self.text(" ");
            });
        }
        for (at, (name, role)) in authors(post).enumerate() {
            self.text(if at > 0 { ", " } else { "" });
            self.text(name);
            if !role.is_empty() {
                self.text(&format!(" ({role})"));
            }
        }
        if self.lines.len() > begin {
            self.lines.break_line(2);
        }
        self.blocks(&post.blocks);
    }

    fn gallery(&mut self, gallery: &Gallery) {
        for media in gallery.images.iter().filter_map(|image| image.media.as_ref()) {
            self.media(media);
            self.lines.end_line();
        }
        self.spans(&gallery.caption);
    }

    fn embed(&mut self, embed: &Embed) {
        let is_bare = is_blank(&embed.title) && is_blank(&embed.fallback_text);
        if !is_bare || are_blank(&embed.caption) {
            let (title, fallback) = embed_texts(embed);
            for text in [title, fallback.unwrap_or_default()] {
                self.text(text);
                self.lines.end_line();
            }
        }
        self.spans(&embed.caption);
    }

    fn code(&mut self, text: &str) {
        let text = clean(text);
        let lines = text.trim_end().split('\n').map(str::trim_end).skip_while(|line| line.is_empty());
        for (at, line) in lines.enumerate() {
            if at > 0 {
                self.lines.newline();
            }
            self.lines.verbatim(line);
        }
    }

    fn table(&mut self, table: &Table) {
        self.spans(&table.caption);
        table.rows.iter().for_each(|row| self.row(row));
    }

    /// Writes a row, unless all its cells are empty.
    fn row(&mut self, row: &TableRow) {
        let saved = self.lines.save();
        self.lines.end_line();
        let mut is_empty = true;
        for (at, cell) in row.cells.iter().enumerate() {
            if at > 0 {
                self.lines.push('\t');
            }
            let begin = self.lines.len();
            self.cell(cell);
            is_empty &= self.lines.len() == begin;
        }
        if is_empty {
            self.lines.restore(&saved);
        }
    }

    /// Writes a cell in one line.
    fn cell(&mut self, cell: &TableCell) {
        let begin = self.lines.len();
        for c in cell.spans.iter().flat_map(|span| span.text.chars()).filter_map(clean_char) {
            match c {
                c if c.is_whitespace() && self.lines.len() == begin => {}
                '\n' | '\t' => self.lines.push(' '),
                c => self.lines.push(c),
            }
        }
        if !cell.blocks.is_empty() {
            let text = write(&cell.blocks, 0, self.decorated);
            self.lines.push_str(&text.split_whitespace().collect::<Vec<_>>().join(" "));
        }
    }

    fn raw_html(&mut self, html: &str) {
        let text = text_of(&safe_html(html));
        for line in text.split('\n') {
            self.lines.end_line();
            for word in line.split_whitespace() {
                self.text(" ");
                self.text(word);
            }
        }
    }
}
