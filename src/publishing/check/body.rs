//! The rules of a body: bounds, links, and no HTML that could run.

use std::collections::HashSet;

use super::{Check, count, media, text, url};
use crate::{
    model::{Kind, limit},
    refusal::{Refusal, at_most},
    render, sanitise,
    wire::v1::{self, block::Kind as Block},
};

/// A rendering is at most this many times as long as the encoded body: the costliest is an empty cell or a mark
/// around one character. A body that cannot reach the limit need not be rendered to know.
const WORST_GROWTH: u64 = 16;

/// Checks a body and that each of its renderings fits an answer.
pub(super) fn check(body: &v1::Body) -> Check {
    let mut walk = Walk { blocks: 0, ids: HashSet::new() };
    walk.blocks(&body.blocks, "body.blocks", 1)?;
    let encoded = prost::Message::encoded_len(body) as u64;
    if encoded * WORST_GROWTH > limit::RENDERED.maximum {
        for format in [v1::BodyFormat::Html, v1::BodyFormat::Markdown, v1::BodyFormat::PlainText] {
            at_most(&limit::RENDERED, render::render(body, format).len(), "body")?;
        }
    }
    Ok(())
}

/// Checks inline text.
pub(super) fn spans(spans: &[v1::Span], field: &str) -> Check {
    for (i, span) in spans.iter().enumerate() {
        let Some(link) = &span.link else { continue };
        let field = format!("{field}[{i}].link");
        if !link.href.is_empty() || link.article.is_empty() {
            url(&link.href, &format!("{field}.href"))?;
        }
        text(&limit::LINE, &link.title, &format!("{field}.title"))?;
        super::reference(Kind::Article, &link.article, &format!("{field}.article"))?;
    }
    Ok(())
}

struct Walk<'a> {
    blocks: usize,
    ids: HashSet<&'a str>,
}

impl<'a> Walk<'a> {
    fn blocks(&mut self, blocks: &'a [v1::Block], field: &str, depth: usize) -> Check {
        at_most(&limit::BLOCK_DEPTH, if blocks.is_empty() { 0 } else { depth }, field)?;
        self.blocks += blocks.len();
        at_most(&limit::BLOCKS, self.blocks, "body.blocks")?;
        for (i, block) in blocks.iter().enumerate() {
            let field = format!("{field}[{i}]");
            text(&limit::TOKEN, &block.id, &format!("{field}.id"))?;
            if !block.id.is_empty() && !self.ids.insert(&block.id) {
                return Err(Refusal::field(format!("{field}.id"), "another block of the article has it"));
            }
            if let Some(kind) = &block.kind {
                self.block(kind, &field, depth)?;
            }
        }
        Ok(())
    }

    fn block(&mut self, kind: &'a Block, field: &str, depth: usize) -> Check {
        let at = |rest: &str| format!("{field}.{rest}");
        match kind {
            Block::Paragraph(paragraph) => spans(&paragraph.spans, &at("paragraph.spans")),
            Block::Heading(heading) => {
                if !matches!(heading.level, 0 | 2..=6) {
                    return Err(Refusal::field(at("heading.level"), "it must be 2 to 6"));
                }
                spans(&heading.spans, &at("heading.spans"))
            }
            Block::List(list) => {
                for (i, item) in list.items.iter().enumerate() {
                    self.blocks(&item.blocks, &at(&format!("list.items[{i}].blocks")), depth + 1)?;
                }
                Ok(())
            }
            Block::Quote(quote) => {
                self.blocks(&quote.blocks, &at("quote.blocks"), depth + 1)?;
                spans(&quote.attribution, &at("quote.attribution"))
            }
            Block::PullQuote(quote) => {
                spans(&quote.spans, &at("pull_quote.spans"))?;
                spans(&quote.attribution, &at("pull_quote.attribution"))
            }
            Block::Image(image) => {
                if !image.href.is_empty() {
                    url(&image.href, &at("image.href"))?;
                }
                let picture = image.media.as_ref().map_or(Ok(()), media);
                picture.map_err(|refusal| refusal.within(&at("image.media")))
            }
            Block::Gallery(gallery) => {
                for (i, picture) in gallery.media.iter().enumerate() {
                    media(picture).map_err(|refusal| refusal.within(&at(&format!("gallery.media[{i}]"))))?;
                }
                spans(&gallery.caption, &at("gallery.caption"))
            }
            Block::Embed(embed) => {
                url(&embed.url, &at("embed.url"))?;
                text(&limit::TOKEN, &embed.provider, &at("embed.provider"))?;
                spans(&embed.caption, &at("embed.caption"))
            }
            Block::Code(code) => text(&limit::TOKEN, &code.language, &at("code.language")),
            Block::Table(table) => self::table(table, &at("table")),
            Block::Divider(_) => Ok(()),
            Block::RawHtml(raw) => {
                if sanitise::sanitise(&raw.html) == raw.html {
                    return Ok(());
                }
                let why = "the sanitiser would change it: send what it leaves, without scripts, styles and handlers";
                Err(Refusal::field(at("raw_html.html"), why))
            }
        }
    }
}

fn table(table: &v1::Table, field: &str) -> Check {
    for (r, row) in table.rows.iter().enumerate() {
        for (c, cell) in row.cells.iter().enumerate() {
            let field = format!("{field}.rows[{r}].cells[{c}]");
            for (covers, of) in [(cell.column_span, "column_span"), (cell.row_span, "row_span")] {
                let covers = usize::try_from(covers);
                let covers =
                    covers.map_err(|_| Refusal::field(format!("{field}.{of}"), "it must not be negative"))?;
                at_most(&limit::SPAN, covers, format!("{field}.{of}"))?;
            }
            spans(&cell.spans, &format!("{field}.spans"))?;
        }
    }
    count(&limit::BLOCKS, &table.rows, &format!("{field}.rows"))?;
    spans(&table.caption, &format!("{field}.caption"))
}
