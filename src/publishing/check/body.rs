//! The rules of a body: limits, text, links, and no HTML that could run scripts or occupy a parser.

use std::collections::HashSet;

use cable_body::sanitise::{self, Unfit};

use super::{Check, at, count, prose, text, time, url};
use crate::{
    model::{Kind, limit},
    refusal::{Refusal, at_most},
    wire::v1::{self, block::Kind as Block},
};

/// The maximum ratio of a rendered body to the encoded body, unless blocks are nested. The most expensive content is an
/// empty cell, or a mark around one character.
const MAX_GROWTH: usize = 16;

/// The additional ratio per level of nesting. Each level precedes each line, which can be two bytes long; an ordered
/// list adds 11 bytes.
const MAX_GROWTH_BY_DEPTH: usize = 6;

/// Checks a body, and that each of its renderings fits a response with the `rest` bytes of its article. A body that
/// cannot reach the limits is not rendered for this.
pub(super) fn check(body: &v1::Body, rest: usize) -> Check {
    at_most(&limit::BLOCKS, blocks(&body.blocks), "body.blocks")?;
    let mut walk = Walk::default();
    walk.blocks(&body.blocks, 1).map_err(at(|| "body.blocks".into()))?;
    let growth = MAX_GROWTH + MAX_GROWTH_BY_DEPTH * walk.depth;
    let longest = prost::Message::encoded_len(body) * growth;
    if longest <= limit::RENDERED.maximum as usize
        && rest + longest <= limit::RENDERED_ARTICLE.maximum as usize
    {
        return Ok(());
    }
    for format in [v1::BodyFormat::Html, v1::BodyFormat::Markdown, v1::BodyFormat::PlainText] {
        let length = cable_body::render(body, format).len();
        at_most(&limit::RENDERED, length, "body")?;
        at_most(&limit::RENDERED_ARTICLE, rest + length, "body")?;
    }
    Ok(())
}

/// Returns the number of blocks, including nested ones.
fn blocks(all: &[v1::Block]) -> usize {
    let nested = all.iter().map(|block| match &block.kind {
        Some(Block::List(list)) => list.items.iter().map(|item| blocks(&item.blocks)).sum(),
        Some(Block::Quote(quote)) => blocks(&quote.blocks),
        Some(Block::LivePost(post)) => blocks(&post.blocks),
        Some(Block::Table(table)) => cells(table).map(|cell| blocks(&cell.blocks)).sum(),
        _ => 0,
    });
    all.len() + nested.sum::<usize>()
}

fn cells(table: &v1::Table) -> impl Iterator<Item = &v1::TableCell> {
    table.rows.iter().flat_map(|row| &row.cells)
}

/// Checks inline text.
pub(super) fn spans(spans: &[v1::Span]) -> Check {
    for (i, span) in spans.iter().enumerate() {
        self::span(span).map_err(at(|| format!("[{i}]")))?;
    }
    Ok(())
}

fn span(span: &v1::Span) -> Check {
    prose(&span.text, "text")?;
    span.link.as_ref().map_or(Ok(()), link).map_err(at(|| "link".into()))
}

fn link(link: &v1::Link) -> Check {
    if !link.href.is_empty() || link.article.is_empty() {
        url(&link.href, "href")?;
    }
    text(&limit::LINE, &link.title, "title")?;
    super::reference(Kind::Article, &link.article, "article")
}

#[derive(Default)]
struct Walk<'a> {
    depth: usize,
    ids: HashSet<&'a str>,
    html_bytes: usize,
    html_steps: usize,
}

impl<'a> Walk<'a> {
    fn blocks(&mut self, blocks: &'a [v1::Block], depth: usize) -> Check {
        let depth = if blocks.is_empty() { 0 } else { depth };
        at_most(&limit::BLOCK_DEPTH, depth, "")?;
        self.depth = self.depth.max(depth);
        for (i, block) in blocks.iter().enumerate() {
            self.block(block, depth).map_err(at(|| format!("[{i}]")))?;
        }
        Ok(())
    }

    fn block(&mut self, block: &'a v1::Block, depth: usize) -> Check {
        super::line(&limit::TOKEN, &block.id, "id")?;
        if !block.id.is_empty() && !self.ids.insert(&block.id) {
            return Err(Refusal::field("id", "duplicate: another block has this id"));
        }
        block.kind.as_ref().map_or(Ok(()), |kind| self.kind(kind, depth))
    }

    fn kind(&mut self, kind: &'a Block, depth: usize) -> Check {
        let (checked, field) = match kind {
            Block::Paragraph(paragraph) => (spans_at(&paragraph.spans, "spans"), "paragraph"),
            Block::Heading(heading) => (self::heading(heading), "heading"),
            Block::List(list) => (self.list(list, depth), "list"),
            Block::Quote(quote) => (self.quote(quote, depth), "quote"),
            Block::PullQuote(quote) => (pull_quote(quote), "pull_quote"),
            Block::Image(image) => (self::image(image), "image"),
            Block::Gallery(gallery) => (self::gallery(gallery), "gallery"),
            Block::Video(video) => (media_at(video.media.as_ref()), "video"),
            Block::Audio(audio) => (media_at(audio.media.as_ref()), "audio"),
            Block::LivePost(post) => (self.live_post(post, depth), "live_post"),
            Block::Embed(embed) => (self::embed(embed), "embed"),
            Block::Code(code) => (self::code(code), "code"),
            Block::Table(table) => (self.table(table, depth), "table"),
            Block::Divider(_) => (Ok(()), ""),
            Block::RawHtml(raw) => (self.raw_html(raw), "raw_html"),
        };
        checked.map_err(at(|| field.into()))
    }

    fn list(&mut self, list: &'a v1::List, depth: usize) -> Check {
        for (i, item) in list.items.iter().enumerate() {
            self.blocks(&item.blocks, depth + 1).map_err(at(|| format!("items[{i}].blocks")))?;
        }
        Ok(())
    }

    fn quote(&mut self, quote: &'a v1::Quote, depth: usize) -> Check {
        self.blocks(&quote.blocks, depth + 1).map_err(at(|| "blocks".into()))?;
        spans_at(&quote.attribution, "attribution")
    }

    fn live_post(&mut self, post: &'a v1::LivePost, depth: usize) -> Check {
        if depth > 1 {
            return Err(Refusal::field("", "must be a block of the body itself, not of another block"));
        }
        super::line(&limit::LINE, &post.title, "title")?;
        for (field, moment) in [("publish_time", &post.publish_time), ("update_time", &post.update_time)] {
            time(moment.as_ref(), field)?;
        }
        super::credits(&post.credits, "credits")?;
        self.blocks(&post.blocks, depth + 1).map_err(at(|| "blocks".into()))
    }

    fn table(&mut self, table: &'a v1::Table, depth: usize) -> Check {
        for (r, row) in table.rows.iter().enumerate() {
            for (c, cell) in row.cells.iter().enumerate() {
                self.cell(cell, depth).map_err(at(|| format!("rows[{r}].cells[{c}]")))?;
            }
        }
        count(&limit::BLOCKS, &table.rows, "rows")?;
        spans_at(&table.caption, "caption")
    }

    fn cell(&mut self, cell: &'a v1::TableCell, depth: usize) -> Check {
        for (span, field) in [(cell.column_span, "column_span"), (cell.row_span, "row_span")] {
            let span = usize::try_from(span).map_err(|_| Refusal::field(field, "must not be negative"))?;
            at_most(&limit::SPAN, span, field)?;
        }
        if !cell.blocks.is_empty() && !cell.spans.is_empty() {
            return Err(Refusal::field("blocks", "must be empty if the cell has spans"));
        }
        spans_at(&cell.spans, "spans")?;
        self.blocks(&cell.blocks, depth + 1).map_err(at(|| "blocks".into()))
    }

    /// Checks HTML against the limits of one block and those of all blocks of the body.
    fn raw_html(&mut self, raw: &v1::RawHtml) -> Check {
        let v1::RawHtml { html, reason } = raw;
        prose(reason, "reason")?;
        at_most(&limit::RAW_HTML, html.len(), "html")?;
        self.html_bytes += html.len();
        at_most(&limit::RAW_HTML_BODY, self.html_bytes, "html")?;
        at_most(&limit::RAW_HTML_TAGS, sanitise::tags(html), "html")?;
        prose(html, "html")?;
        let steps = sanitise::check(html).map_err(|unfit| match unfit {
            Unfit::Changed => {
                let problem =
                    "must be sanitised: send only allowed elements, without scripts, styles and handlers";
                Refusal::field("html", problem)
            }
            Unfit::Costly => too_costly(limit::RAW_HTML_STEPS.maximum as usize + 1),
        })?;
        self.html_steps += steps;
        if self.html_steps as u64 > limit::RAW_HTML_STEPS.maximum {
            return Err(too_costly(self.html_steps));
        }
        Ok(())
    }
}

fn too_costly(steps: usize) -> Refusal {
    Refusal::Limit { field: "html".into(), limit: &limit::RAW_HTML_STEPS, value: steps as u64 }
}

fn spans_at(spans: &[v1::Span], field: &'static str) -> Check {
    self::spans(spans).map_err(at(|| field.into()))
}

fn heading(heading: &v1::Heading) -> Check {
    if !matches!(heading.level, 0 | 2..=6) {
        return Err(Refusal::field("level", "must be 2 to 6"));
    }
    spans_at(&heading.spans, "spans")
}

fn pull_quote(quote: &v1::PullQuote) -> Check {
    spans_at(&quote.spans, "spans")?;
    spans_at(&quote.attribution, "attribution")
}

fn image(image: &v1::Image) -> Check {
    if !image.href.is_empty() {
        url(&image.href, "href")?;
    }
    media_at(image.media.as_ref())
}

fn media_at(media: Option<&v1::Media>) -> Check {
    media.map_or(Ok(()), super::media).map_err(at(|| "media".into()))
}

fn gallery(gallery: &v1::Gallery) -> Check {
    for (i, picture) in gallery.images.iter().enumerate() {
        image(picture).map_err(at(|| format!("images[{i}]")))?;
    }
    spans_at(&gallery.caption, "caption")
}

fn embed(embed: &v1::Embed) -> Check {
    url(&embed.url, "url")?;
    super::line(&limit::TOKEN, &embed.provider, "provider")?;
    prose(&embed.title, "title")?;
    prose(&embed.fallback_text, "fallback_text")?;
    spans_at(&embed.caption, "caption")
}

fn code(code: &v1::Code) -> Check {
    prose(&code.text, "text")?;
    super::line(&limit::TOKEN, &code.language, "language")
}
