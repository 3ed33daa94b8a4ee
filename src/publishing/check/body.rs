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

/// The maximum size in bytes of what surrounds the content of a live post: its tags, times and line breaks.
const MAX_POST_BYTES: usize = 512;

/// Checks a body, and that each of its renderings fits a response with the `rest` bytes of its article. A body that
/// cannot reach the limits is not rendered for this.
pub(super) fn check(body: &v1::Body, rest: usize) -> Check {
    at_most(&limit::BLOCKS, blocks(&body.blocks), "body.blocks")?;
    let mut walk = Walk::default();
    walk.blocks(&body.blocks, 1).map_err(at(|| "body.blocks".into()))?;
    let longest = walk.longest_form(prost::Message::encoded_len(body));
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
    posts: usize,
    ids: HashSet<&'a str>,
    html_bytes: usize,
    html_steps: usize,
}

impl<'a> Walk<'a> {
    /// Returns the size that no rendered form of the body exceeds, from its encoded size.
    fn longest_form(&self, encoded: usize) -> usize {
        encoded * (MAX_GROWTH + MAX_GROWTH_BY_DEPTH * self.depth) + self.posts * MAX_POST_BYTES
    }

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
        self.posts += 1;
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

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use v1::{Block as Any, Body, Credit, LivePost, Media, Rendition, Span, TableCell, TableRow};

    use super::*;

    fn any(kind: Block) -> Any {
        Any { kind: Some(kind), ..Any::default() }
    }

    fn text(marks: &[i32]) -> Vec<Span> {
        vec![Span { text: "a".into(), marks: marks.into(), link: None }]
    }

    fn paragraph(marks: &[i32]) -> Any {
        any(Block::Paragraph(v1::Paragraph { spans: text(marks) }))
    }

    fn media() -> Option<Media> {
        let files = vec![Rendition { href: "/".into(), ..Rendition::default() }];
        Some(Media { renditions: files, caption: text(&[1]), ..Media::default() })
    }

    fn table(cell: TableCell) -> Any {
        let rows = vec![TableRow { cells: vec![cell] }];
        any(Block::Table(v1::Table { rows, caption: Vec::new() }))
    }

    fn list(blocks: Vec<Any>) -> Any {
        let items = vec![v1::ListItem { blocks }];
        any(Block::List(v1::List { ordered: true, start: 999_999_999, items }))
    }

    /// The blocks whose forms are the longest beside their encoding.
    fn extremes() -> Vec<Any> {
        let time = Some(prost_types::Timestamp { seconds: 253_402_300_799, nanos: 1 });
        let epoch = Some(prost_types::Timestamp::default());
        let credits = vec![Credit { display_name: "a".into(), role: "b".into(), ..Credit::default() }; 3];
        let post = |time: Option<prost_types::Timestamp>, credits| LivePost {
            title: "a".into(),
            publish_time: time,
            update_time: time,
            credits,
            key_event: true,
            pinned: true,
            blocks: Vec::new(),
        };
        vec![
            paragraph(&[]),
            paragraph(&[1]),
            paragraph(&[1, 2, 3, 4, 5, 6]),
            any(Block::Divider(v1::Divider {})),
            any(Block::Image(v1::Image { media: media(), href: "/".into() })),
            any(Block::Video(v1::Video { media: media() })),
            any(Block::Audio(v1::Audio { media: media() })),
            any(Block::Gallery(v1::Gallery {
                images: vec![v1::Image { media: media(), href: "/".into() }; 2],
                caption: text(&[1]),
            })),
            any(Block::Embed(v1::Embed { url: "/".into(), ..Default::default() })),
            any(Block::Code(v1::Code { text: "a".into(), language: "b".into() })),
            table(TableCell::default()),
            table(TableCell { header: true, column_span: 1_000, row_span: 1_000, ..TableCell::default() }),
            table(TableCell {
                blocks: vec![paragraph(&[1]), list(vec![paragraph(&[])])],
                ..TableCell::default()
            }),
            table(TableCell { blocks: vec![table(TableCell::default())], ..TableCell::default() }),
            list(vec![paragraph(&[])]),
            list(vec![list(vec![any(Block::Code(v1::Code {
                text: "\n".repeat(99) + "a",
                ..Default::default()
            }))])]),
            any(Block::LivePost(post(epoch, Vec::new()))),
            any(Block::LivePost(post(time, credits))),
            any(Block::LivePost(LivePost { blocks: vec![paragraph(&[])], ..LivePost::default() })),
        ]
    }

    /// A body below the bound is not rendered when it is put: no form may exceed it.
    #[test]
    fn no_form_is_longer_than_the_bound() {
        for block in extremes() {
            let body = Body { blocks: vec![block; 20] };
            let mut walk = Walk::default();
            walk.blocks(&body.blocks, 1).unwrap();
            let longest = walk.longest_form(body.encoded_len());
            for format in [v1::BodyFormat::Html, v1::BodyFormat::Markdown, v1::BodyFormat::PlainText] {
                let length = cable_body::render(&body, format).len();
                assert!(length <= longest, "{format:?}: {length} > {longest} of {:?}", body.blocks[0]);
            }
        }
    }
}
