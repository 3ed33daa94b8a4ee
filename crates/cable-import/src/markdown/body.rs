//! The body of a file: its Markdown as blocks, in which the words that stand for shortcodes become their content.

use std::collections::{BTreeMap, HashSet};

use cable_body::{ConvertError, convert, html, sanitise};
use cable_proto::{
    limit,
    v1::{self, BodyFormat, Mark, Span, block::Kind},
};

use self::pictures::{has_file, picture_text};
use super::{
    anchors, headline,
    shortcodes::{MAX_SHORTCODES, MAX_UNCLOSED, Meaning, Text, extract},
};

mod links;
mod pictures;
mod raw;

pub(super) use raw::escaped;

/// The pages and files that a text can refer to.
pub(super) trait Pages {
    /// Returns the path of the page of a file, named as `ref` and links to `.md` files do.
    fn page(&self, file: &str) -> Option<String>;
    /// Returns the address of a file beside the text.
    fn file(&self, url: &str) -> String;
}

/// A body with its notes in the report.
#[derive(Debug, Default)]
pub(super) struct Converted {
    /// The text of the first heading of the first level, if the page has no title; empty if there is none.
    pub(super) headline: String,
    pub(super) body: v1::Body,
    pub(super) notes: Vec<String>,
    /// The shortcodes that became raw HTML or text, by kind.
    pub(super) counts: BTreeMap<String, u64>,
}

/// Converts the text of a file. If the page has no title, its first heading becomes the headline.
pub(super) fn convert_body(
    text: &str,
    format: BodyFormat,
    has_title: bool,
    pages: &dyn Pages,
) -> Result<Converted, ConvertError> {
    let text = extract(text);
    let converted = convert(format, &text.text)?;
    let is_without = !has_title && format == BodyFormat::Markdown;
    let title = if is_without { headline::position(&text, &converted.body.blocks) } else { None };
    let mut notes = converted.notes;
    if converted.omitted_notes > 0 {
        notes.push(format!("and {} more notes on the text", converted.omitted_notes));
    }
    let mut ids = HashSet::new();
    collect_ids(&converted.body.blocks, &mut ids);
    let mut resolver =
        Resolver { text: &text, pages, notes, counts: BTreeMap::new(), missing: 0, ids, pending: Vec::new() };
    let mut before = converted.body.blocks;
    let after = before.split_off(title.unwrap_or(before.len()).min(before.len()));
    let mut blocks = resolver.blocks(before);
    let position = blocks.len();
    blocks.extend(resolver.blocks(after));
    anchors::name_headings(&mut blocks);
    let headline = title.and_then(|_| headline::take(&mut blocks, position, &mut resolver.notes));
    let headline = headline.unwrap_or_default();
    let Resolver { mut notes, mut counts, missing, .. } = resolver;
    if text.unread > 0 {
        notes.push(format!(
            "the last {} openings of shortcodes stay as text: a text can have {MAX_SHORTCODES} shortcodes, and \
             {MAX_UNCLOSED} openings that start none",
            text.unread
        ));
        counts.insert("shortcodes after the limit".to_owned(), text.unread as u64);
    }
    if missing > 0 {
        notes.push(format!("{missing} references to unknown pages: their text remains"));
    }
    // A note can quote the word that stands for a shortcode.
    for note in &mut notes {
        *note = text.replace(note, &mut |index| text.shortcodes[index].source.clone());
    }
    Ok(Converted { headline, body: v1::Body { blocks }, notes, counts })
}

struct Resolver<'a> {
    text: &'a Text,
    pages: &'a dyn Pages,
    notes: Vec<String>,
    counts: BTreeMap<String, u64>,
    missing: u64,
    /// The ids of blocks.
    ids: HashSet<String>,
    /// The pictures of the open block, which come after it.
    pending: Vec<v1::Block>,
}

impl Resolver<'_> {
    fn blocks(&mut self, blocks: Vec<v1::Block>) -> Vec<v1::Block> {
        let mut out = Vec::with_capacity(blocks.len());
        for block in blocks {
            self.block(block, &mut out);
        }
        out
    }

    /// Adds a block, and after it the pictures of its lines.
    fn block(&mut self, block: v1::Block, out: &mut Vec<v1::Block>) {
        let outer = std::mem::take(&mut self.pending);
        self.resolve(block, out);
        out.append(&mut self.pending);
        self.pending = outer;
    }

    fn resolve(&mut self, mut block: v1::Block, out: &mut Vec<v1::Block>) {
        if self.text.find(&block.id).is_some() {
            let id = self.source(&std::mem::take(&mut block.id));
            self.notes.push(format!("id `{}` omitted: not usable here", html::head(&id, 64)));
        }
        match &mut block.kind {
            Some(Kind::Paragraph(paragraph)) => {
                let spans = std::mem::take(&mut paragraph.spans);
                return self.paragraph(&block.id, spans, out);
            }
            Some(Kind::Heading(heading)) => {
                let anchor = self.anchor(&heading.spans, &block.id);
                self.inline(&mut heading.spans);
                trim(&mut heading.spans);
                block.id = anchor.unwrap_or(block.id);
            }
            Some(Kind::List(list)) => {
                for item in &mut list.items {
                    item.blocks = self.blocks(std::mem::take(&mut item.blocks));
                }
            }
            Some(Kind::Quote(quote)) => {
                quote.blocks = self.blocks(std::mem::take(&mut quote.blocks));
                self.inline(&mut quote.attribution);
                trim(&mut quote.attribution);
            }
            Some(Kind::PullQuote(quote)) => {
                self.inline(&mut quote.spans);
                self.inline(&mut quote.attribution);
            }
            Some(Kind::Image(image)) => {
                self.stored_image(image);
            }
            Some(Kind::Gallery(gallery)) => {
                gallery.images.iter_mut().for_each(|image| self.stored_image(image));
                gallery.images.retain(has_file);
                self.inline(&mut gallery.caption);
            }
            Some(Kind::Embed(embed)) => {
                embed.url = self.href(&embed.url);
                embed.title = self.words(&embed.title);
                embed.fallback_text = self.words(&embed.fallback_text);
                self.inline(&mut embed.caption);
            }
            Some(Kind::Code(code)) => {
                code.text = self.source(&code.text);
                code.language = self.language(&code.language);
            }
            Some(Kind::LivePost(post)) => {
                post.title = self.words(&post.title);
                for credit in &mut post.credits {
                    credit.display_name = self.words(&credit.display_name);
                }
                post.blocks = self.blocks(std::mem::take(&mut post.blocks));
            }
            Some(Kind::Table(table)) => {
                table.rows.iter_mut().flat_map(|row| &mut row.cells).for_each(|cell| self.cell(cell));
                self.inline(&mut table.caption);
            }
            Some(Kind::RawHtml(raw)) => self.raw_html(raw),
            Some(
                Kind::Video(v1::Video { media: Some(media) }) | Kind::Audio(v1::Audio { media: Some(media) }),
            ) => {
                self.media(media);
            }
            _ => {}
        }
        let is_lost = match &block.kind {
            Some(Kind::Embed(embed)) => embed.url.is_empty(),
            Some(Kind::Image(image)) => !has_file(image),
            Some(Kind::Gallery(gallery)) => gallery.images.is_empty(),
            Some(Kind::Heading(heading)) => heading.spans.is_empty() && !self.pending.is_empty(),
            _ => false,
        };
        if !is_lost {
            out.push(block);
        }
    }

    /// Adds a paragraph. A shortcode that is a block of its own divides it.
    fn paragraph(&mut self, id: &str, spans: Vec<Span>, out: &mut Vec<v1::Block>) {
        let first = out.len();
        let mut open: Vec<Span> = Vec::new();
        let anchor = self.anchor(&spans, id);
        let id = anchor.as_deref().unwrap_or(id);
        for span in spans {
            let is_code = span.marks.contains(&i32::from(Mark::Code));
            let mut rest = span.text.clone();
            let span = Span { link: self.link(span.link.clone()), ..span };
            while let Some((start, end, index)) = self.text.find(&rest) {
                let block = if is_code { None } else { self.linked_block(index, span.link.as_ref()) };
                let before = match &block {
                    Some(_) => rest[..start].to_owned(),
                    None if is_code => format!("{}{}", &rest[..start], self.text.shortcodes[index].source),
                    None => format!("{}{}", &rest[..start], self.inline_text(index)),
                };
                rest = rest[end..].to_owned();
                open.push(Span { text: before, ..span.clone() });
                if let Some(blocks) = block {
                    close(&mut open, out);
                    out.extend(blocks);
                    rest = rest.trim_start().to_owned();
                }
            }
            open.push(Span { text: rest, ..span });
        }
        close(&mut open, out);
        if let Some(block) = out.get_mut(first).filter(|block| block.id.is_empty()) {
            id.clone_into(&mut block.id);
        }
    }

    /// Returns the id that the text of a block gives it, unless the block has one.
    fn anchor(&mut self, spans: &[Span], own: &str) -> Option<String> {
        let text = self.text;
        for span in spans {
            let mut rest = span.text.as_str();
            while let Some((_, end, index)) = text.find(rest) {
                rest = &rest[end..];
                let Meaning::Anchor(id) = &text.shortcodes[index].meaning else { continue };
                if own.is_empty() && anchors::is_id(id) && self.ids.insert(id.clone()) {
                    return Some(id.clone());
                }
                self.notes.push(format!("id `{}` omitted: not usable here", html::head(id, 64)));
            }
        }
        None
    }

    /// Resolves the content of a cell. A cell with a picture has blocks.
    fn cell(&mut self, cell: &mut v1::TableCell) {
        cell.blocks = self.blocks(std::mem::take(&mut cell.blocks));
        let has_picture = cell.spans.iter().any(|span| self.has_picture(&span.text));
        if has_picture && cell.blocks.is_empty() {
            let spans = std::mem::take(&mut cell.spans);
            self.paragraph("", spans, &mut cell.blocks);
        } else {
            self.inline(&mut cell.spans);
        }
    }

    fn has_picture(&self, text: &str) -> bool {
        let mut rest = text;
        while let Some((_, end, index)) = self.text.find(rest) {
            if matches!(self.text.shortcodes[index].meaning, Meaning::Picture(_)) {
                return true;
            }
            rest = &rest[end..];
        }
        false
    }

    /// Resolves the shortcodes of a line.
    fn inline(&mut self, spans: &mut Vec<Span>) {
        for span in spans.iter_mut() {
            let is_code = span.marks.contains(&i32::from(Mark::Code));
            span.link = self.link(span.link.take());
            let text = self.text;
            let pictures = self.pending.len();
            if text.find(&span.text).is_some() {
                span.text = text.replace(&span.text, &mut |index| match is_code {
                    true => text.shortcodes[index].source.clone(),
                    false => self.part_of_line(index, span.link.as_ref()),
                });
            }
            if self.pending.len() > pictures {
                // The spaces on both sides of a picture become one.
                span.text = span.text.replace("  ", " ");
            }
        }
        spans.retain(|span| !span.text.is_empty());
    }

    /// Returns the text of a shortcode within a line that no block can divide. A picture comes after the open block.
    fn part_of_line(&mut self, index: usize, link: Option<&v1::Link>) -> String {
        let is_picture = matches!(self.text.shortcodes[index].meaning, Meaning::Picture(_));
        match if is_picture { self.linked_block(index, link) } else { None } {
            Some(blocks) => {
                self.pending.extend(blocks);
                String::new()
            }
            None => self.inline_text(index),
        }
    }

    /// Returns the blocks of a shortcode that is no part of a line. The link around a picture becomes its own.
    fn linked_block(&mut self, index: usize, link: Option<&v1::Link>) -> Option<Vec<v1::Block>> {
        let mut blocks = self.own_block(index)?;
        let Some(link) = link.filter(|link| !link.href.is_empty()) else { return Some(blocks) };
        match blocks.first_mut().map(|block| &mut block.kind) {
            Some(Some(Kind::Image(image))) if image.href.is_empty() => image.href.clone_from(&link.href),
            _ => self
                .notes
                .push(format!("link to {} omitted: around a shortcode", html::head(&link.href, 200))),
        }
        Some(blocks)
    }

    /// Returns the blocks of a shortcode that is no part of a line.
    fn own_block(&mut self, index: usize) -> Option<Vec<v1::Block>> {
        let shortcode = &self.text.shortcodes[index];
        match &shortcode.meaning {
            Meaning::Embed(url) => self.converted(BodyFormat::Markdown, url),
            Meaning::Picture(picture) => {
                let image = self.image(picture)?;
                Some(vec![block(Kind::Image(image))])
            }
            Meaning::Code { text, language } => {
                let language = html::head(language, limit::TOKEN.maximum as usize).to_lowercase();
                Some(vec![block(Kind::Code(v1::Code { text: text.clone(), language }))])
            }
            Meaning::Unknown(kind) if shortcode.own_line => {
                let html = sanitise::sanitise(&format!("<p>{}</p>", escaped(&shortcode.source)));
                let reason = html::head(kind, limit::LINE.maximum as usize).to_owned();
                self.count(kind);
                Some(vec![block(Kind::RawHtml(v1::RawHtml { html, reason }))])
            }
            _ => None,
        }
    }

    fn converted(&self, format: BodyFormat, text: &str) -> Option<Vec<v1::Block>> {
        convert(format, text).ok().map(|converted| converted.body.blocks)
    }

    /// Returns the text of a shortcode within a line.
    fn inline_text(&mut self, index: usize) -> String {
        let shortcode = &self.text.shortcodes[index];
        match &shortcode.meaning {
            Meaning::Text(text) | Meaning::Url(text) => text.clone(),
            Meaning::Reference(file) => self.pages.page(file).unwrap_or_else(|| {
                self.missing += 1;
                shortcode.source.clone()
            }),
            Meaning::Anchor(_) => String::new(),
            Meaning::Embed(url) => url.clone(),
            Meaning::Picture(picture) => picture_text(picture),
            Meaning::Code { text, .. } => text.clone(),
            Meaning::Unknown(kind) => {
                self.count(kind);
                shortcode.source.clone()
            }
        }
    }

    /// Returns a plain text with its shortcodes resolved.
    fn words(&mut self, text: &str) -> String {
        let codes = self.text;
        codes.replace(text, &mut |index| self.inline_text(index)).trim().to_owned()
    }

    /// Returns the language of code. In place of its name there can be a list of attributes: `{: .language-ruby}`.
    fn language(&self, text: &str) -> String {
        if self.text.find(text).is_none() {
            return text.to_owned();
        }
        let source = self.source(text);
        let name = match source.split_once(".language-") {
            Some((_, name)) => name.split(['}', '.', ' ']).next().unwrap_or_default().to_owned(),
            None => self.text.replace(text, &mut |_| String::new()),
        };
        html::head(name.trim(), limit::TOKEN.maximum as usize).to_lowercase()
    }

    fn source(&self, text: &str) -> String {
        self.text.replace(text, &mut |index| self.text.shortcodes[index].source.clone())
    }

    fn count(&mut self, kind: &str) {
        *self.counts.entry(kind.to_owned()).or_default() += 1;
    }
}

/// Adds the ids of blocks at any depth.
fn collect_ids(blocks: &[v1::Block], ids: &mut HashSet<String>) {
    for block in blocks {
        if !block.id.is_empty() {
            ids.insert(block.id.clone());
        }
        html::nested(block).for_each(|inner| collect_ids(std::slice::from_ref(inner), ids));
    }
}

/// Removes white space at the ends of a line.
fn trim(spans: &mut Vec<Span>) {
    while let Some(first) = spans.first_mut() {
        first.text = first.text.trim_start().to_owned();
        if !first.text.is_empty() {
            break;
        }
        spans.remove(0);
    }
    while let Some(last) = spans.last_mut() {
        last.text.truncate(last.text.trim_end().len());
        if !last.text.is_empty() {
            break;
        }
        spans.pop();
    }
}

/// Adds the open text as a paragraph, without white space at its ends.
fn close(open: &mut Vec<Span>, out: &mut Vec<v1::Block>) {
    let mut spans = std::mem::take(open);
    spans.retain(|span| !span.text.is_empty());
    trim(&mut spans);
    if !spans.is_empty() {
        out.push(block(Kind::Paragraph(v1::Paragraph { spans })));
    }
}

fn block(kind: Kind) -> v1::Block {
    v1::Block { id: String::new(), kind: Some(kind) }
}

/// Returns a text as a line without marks.
fn plain(text: String) -> Vec<Span> {
    if text.is_empty() { Vec::new() } else { vec![Span { text, ..Span::default() }] }
}
