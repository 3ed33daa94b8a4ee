//! Table cells as Markdown. A cell is one line, so blocks in it are reduced to their text, pictures and links, with a
//! line break between blocks.

use super::{
    super::{Marks, clean, embed_texts, is_blank, largest, playable},
    Markdown, caption,
    inline::{self, Piece},
};
use crate::sanitise::{link_target, safe_html, text_of};
use cable_proto::v1::{
    Block, Embed, Gallery, Image, LivePost, Mark, Media, Span, Table, TableCell, block::Kind,
};

impl Markdown {
    pub(super) fn cell(&mut self, cell: &TableCell) {
        self.inline(inline::pieces(&cell.spans, Marks::default()), true);
        self.cell_blocks(&cell.blocks);
    }

    fn cell_blocks(&mut self, blocks: &[Block]) {
        blocks.iter().for_each(|block| self.cell_block(block));
    }

    fn cell_block(&mut self, block: &Block) {
        match &block.kind {
            Some(Kind::Paragraph(paragraph)) => self.cell_line(&paragraph.spans),
            Some(Kind::Heading(heading)) => self.cell_line(&heading.spans),
            Some(Kind::List(list)) => list.items.iter().for_each(|item| self.cell_blocks(&item.blocks)),
            Some(Kind::Quote(quote)) => {
                self.cell_blocks(&quote.blocks);
                self.cell_attribution(&quote.attribution);
            }
            Some(Kind::PullQuote(quote)) => {
                self.cell_line(&quote.spans);
                self.cell_attribution(&quote.attribution);
            }
            Some(Kind::Image(image)) => self.cell_image(image),
            Some(Kind::Gallery(gallery)) => self.cell_gallery(gallery),
            Some(Kind::Embed(embed)) => self.cell_embed(embed),
            Some(Kind::Code(code)) => {
                clean(&code.text).split('\n').for_each(|line| self.cell_part(vec![Piece::code(line)]));
            }
            Some(Kind::Table(table)) => self.cell_table(table),
            Some(Kind::RawHtml(raw)) => {
                let text = text_of(&safe_html(&raw.html));
                self.cell_part(vec![Piece::plain(text.trim())]);
            }
            Some(Kind::LivePost(LivePost { title, blocks, .. })) => {
                self.cell_part(vec![Piece::plain(title)]);
                self.cell_blocks(blocks);
            }
            Some(Kind::Video(video)) => video.media.iter().for_each(|media| self.cell_player(media)),
            Some(Kind::Audio(audio)) => audio.media.iter().for_each(|media| self.cell_player(media)),
            Some(Kind::Divider(_)) | None => {}
        }
    }

    /// Writes text on a line of its own within the cell.
    fn cell_part(&mut self, pieces: Vec<Piece<'_>>) {
        if !pieces.iter().all(|piece| is_blank(&piece.text)) {
            self.cell_break();
            self.inline(pieces, true);
        }
    }

    /// Breaks the line, unless the cell has no content yet. A cell starts after `| `, and no content ends so, because a
    /// bar in a text is escaped.
    fn cell_break(&mut self) {
        let line = self.lines.line();
        if line.ends_with("| ") && !line.ends_with("\\| ") {
            return;
        }
        self.lines.push_str("<br>");
    }

    fn cell_line(&mut self, spans: &[Span]) {
        self.cell_part(inline::pieces(spans, Marks::default()));
    }

    fn cell_attribution(&mut self, spans: &[Span]) {
        let mut pieces = inline::pieces(spans, Marks::default());
        if !pieces.iter().all(|piece| is_blank(&piece.text)) {
            pieces.insert(0, Piece::plain("\u{2014} "));
            self.cell_part(pieces);
        }
    }

    fn cell_image(&mut self, image: &Image) {
        let Some(media) = &image.media else { return };
        let file = largest(media);
        if let Some((_, address)) = file {
            self.cell_break();
            self.picture(&media.alt_text, address, link_target(&image.href));
        }
        self.cell_part(caption(media, file.is_some()));
    }

    fn cell_gallery(&mut self, gallery: &Gallery) {
        gallery.images.iter().for_each(|image| self.cell_image(image));
        self.cell_part(inline::pieces(&gallery.caption, Marks::default().with(Mark::Emphasis)));
    }

    fn cell_player(&mut self, media: &Media) {
        let file = playable(media).next();
        if let Some((_, address)) = file {
            self.cell_break();
            self.link(if is_blank(&media.alt_text) { address } else { &media.alt_text }, address);
        }
        self.cell_part(caption(media, file.is_some()));
    }

    fn cell_embed(&mut self, embed: &Embed) {
        let (title, fallback) = embed_texts(embed);
        match link_target(&embed.url) {
            Some(target) => {
                self.cell_break();
                self.link(title, target);
            }
            None => self.cell_part(vec![Piece::plain(title)]),
        }
        self.cell_part(vec![Piece::plain(fallback.unwrap_or_default())]);
        self.cell_part(inline::pieces(&embed.caption, Marks::default().with(Mark::Emphasis)));
    }

    fn cell_table(&mut self, table: &Table) {
        self.cell_line(&table.caption);
        for cell in table.rows.iter().flat_map(|row| &row.cells) {
            self.cell_line(&cell.spans);
            self.cell_blocks(&cell.blocks);
        }
    }
}
