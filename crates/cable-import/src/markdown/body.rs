//! The body of a file: its Markdown as blocks, in which the words that stand for shortcodes become their content.

use std::{
    collections::{BTreeMap, HashSet},
    ops::Range,
};

use cable_body::{ConvertError, convert, html, render, sanitise};
use cable_proto::{
    limit,
    v1::{self, BodyFormat, Mark, Span, block::Kind},
};

use super::{
    anchors, headline,
    shortcodes::{MAX_SHORTCODES, MAX_UNCLOSED, Meaning, Picture, Text, extract},
};

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

    fn image(&mut self, picture: &Picture) -> Option<v1::Image> {
        let src = self.pages.file(&picture.src);
        let Some(rendition) = html::rendition(&src, picture.width, picture.height) else {
            self.notes.push(format!("picture omitted: {:?} is not a URL", html::head(&src, 200)));
            return None;
        };
        let (caption, credit) = self.caption_and_credit(picture);
        let media = v1::Media {
            renditions: vec![rendition],
            alt_text: html::head(&picture.alt, limit::PARAGRAPH.maximum as usize).to_owned(),
            caption,
            credit,
            ..Default::default()
        };
        let is_url = html::rendition(&picture.href, None, None).is_some();
        let href = if is_url { picture.href.clone() } else { String::new() };
        Some(v1::Image { media: Some(media), href })
    }

    /// Returns the caption and the credit of a picture. A credit with a link is a part of the caption, as in Hugo: a credit
    /// line has no links.
    fn caption_and_credit(&mut self, picture: &Picture) -> (Vec<Span>, String) {
        let mut credit = self.line(&picture.credit);
        if !picture.credit_link.is_empty() {
            let link = v1::Link { href: picture.credit_link.clone(), ..Default::default() };
            credit.iter_mut().for_each(|span| span.link = Some(link.clone()));
        }
        let mut parts = vec![plain(html::text(&picture.title)), self.line(&picture.caption)];
        let mut credit_line = String::new();
        if credit.iter().any(|span| span.link.is_some()) {
            parts.push(credit);
        } else {
            credit_line = credit.iter().map(|span| span.text.as_str()).collect();
        }
        parts.retain(|spans| !spans.is_empty());
        (parts.join(&Span { text: " ".to_owned(), ..Span::default() }), html::line(&credit_line))
    }

    /// Converts Markdown that is a line, such as a caption.
    fn line(&mut self, markdown: &str) -> Vec<Span> {
        let Ok(mut converted) = convert(BodyFormat::Markdown, markdown) else { return html::spans(markdown) };
        let mut spans = match (&mut converted.body.blocks[..], converted.omitted_notes) {
            ([v1::Block { kind: Some(Kind::Paragraph(paragraph)), .. }], 0) => {
                self.notes.append(&mut converted.notes);
                std::mem::take(&mut paragraph.spans)
            }
            ([v1::Block { kind: Some(Kind::Embed(embed)), .. }], 0) => {
                let link = v1::Link { href: embed.url.clone(), ..Default::default() };
                vec![Span { text: embed.url.clone(), link: Some(link), ..Span::default() }]
            }
            _ => html::spans(markdown),
        };
        if spans.is_empty() {
            spans = plain(html::text(markdown));
        }
        self.inline(&mut spans);
        spans
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

    /// Returns a URL with its shortcodes resolved. Empty if the result is not a URL.
    fn href(&mut self, url: &str) -> String {
        if self.text.find(url).is_none() {
            return url.to_owned();
        }
        let text = self.text;
        let resolved = text.replace(url, &mut |index| match &text.shortcodes[index].meaning {
            Meaning::Text(part) | Meaning::Url(part) | Meaning::Embed(part) => part.clone(),
            Meaning::Picture(picture) => picture.src.clone(),
            Meaning::Reference(file) => self.pages.page(file).unwrap_or_else(|| {
                self.missing += 1;
                String::new()
            }),
            Meaning::Code { .. } | Meaning::Anchor(_) => String::new(),
            Meaning::Unknown(kind) => {
                self.count(&format!("{kind} in a URL"));
                String::new()
            }
        });
        let is_mail = resolved.starts_with("mailto:") || resolved.starts_with("tel:");
        let address = html::rendition(&resolved, None, None).map(|rendition| rendition.href);
        let resolved = if is_mail { Some(resolved) } else { address };
        resolved
            .filter(|url| url.len() as u64 <= limit::URL.maximum && !url.contains('\\'))
            .unwrap_or_default()
    }

    fn link(&mut self, link: Option<v1::Link>) -> Option<v1::Link> {
        let mut link = link?;
        link.href = self.href(&link.href);
        link.title = self.source(&link.title);
        let (file, fragment) =
            link.href.split_once('#').map_or((&*link.href, ""), |(file, rest)| (file, rest));
        if file.ends_with(".md") && !file.contains("://") {
            match self.pages.page(file) {
                Some(path) if fragment.is_empty() => link.href = path,
                Some(path) => link.href = format!("{path}#{fragment}"),
                None => self.missing += 1,
            }
        }
        (!link.href.is_empty() || !link.article.is_empty()).then_some(link)
    }

    fn stored_image(&mut self, image: &mut v1::Image) {
        if let Some(media) = &mut image.media {
            self.media(media);
        }
        image.href = self.href(&image.href);
    }

    fn media(&mut self, media: &mut v1::Media) {
        for rendition in &mut media.renditions {
            let href = self.href(&rendition.href);
            let href = self.pages.file(&href);
            if href != rendition.href {
                match html::rendition(&href, None, None) {
                    Some(other) => {
                        *rendition =
                            v1::Rendition { width: rendition.width, height: rendition.height, ..other };
                    }
                    None => rendition.href.clear(),
                }
            }
        }
        media.renditions.retain(|rendition| !rendition.href.is_empty());
        media.poster = self.href(&media.poster);
        media.alt_text = self.source(&media.alt_text);
        media.credit = self.words(&media.credit);
        self.inline(&mut media.caption);
        trim(&mut media.caption);
    }

    fn raw_html(&mut self, raw: &mut v1::RawHtml) {
        if self.text.find(&raw.html).is_none() {
            return;
        }
        let code = code_of_html(&raw.html);
        let (mut html, mut rest) = (String::new(), raw.html.as_str());
        while let Some((start, end, index)) = self.text.find(rest) {
            let at = raw.html.len() - rest.len() + start;
            let is_code =
                code.get(code.partition_point(|part| part.end <= at)).is_some_and(|part| part.contains(&at));
            html.push_str(&rest[..start]);
            rest = &rest[end..];
            if is_code {
                html.push_str(&escaped(&self.text.shortcodes[index].source));
                continue;
            }
            match self.html_of_block(index, &html) {
                Some(picture) => {
                    // A paragraph cannot have a figure in it.
                    let is_alone = html.ends_with("<p>") && rest.starts_with("</p>");
                    if is_alone {
                        html.truncate(html.len() - "<p>".len());
                        rest = &rest["</p>".len()..];
                    }
                    html.push_str(&picture);
                }
                None => html.push_str(&escaped(&self.inline_text(index))),
            }
        }
        html.push_str(rest);
        // A resolved shortcode can be an address that no page may have.
        raw.html = sanitise::sanitise(&html);
        raw.reason = self.source(&raw.reason);
    }

    /// Returns the HTML of a picture or of code after other HTML. `None` within a tag.
    fn html_of_block(&mut self, index: usize, before: &str) -> Option<String> {
        let is_block =
            matches!(self.text.shortcodes[index].meaning, Meaning::Picture(_) | Meaning::Code { .. });
        if !is_block {
            return None;
        }
        if before.rfind('<') > before.rfind('>') {
            let source = html::head(&self.text.shortcodes[index].source, 200);
            self.notes.push(format!("{source} within a tag of HTML became text"));
            return None;
        }
        let blocks = self.own_block(index)?;
        Some(render(&v1::Body { blocks }, BodyFormat::Html).trim().to_owned())
    }

    fn count(&mut self, kind: &str) {
        *self.counts.entry(kind.to_owned()).or_default() += 1;
    }
}

/// Returns the parts of well-formed HTML that are within `pre` or `code`.
fn code_of_html(html: &str) -> Vec<Range<usize>> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0_usize);
    for (at, _) in html.match_indices('<') {
        let tag = &html[at + 1..];
        let name = tag.strip_prefix('/').unwrap_or(tag);
        let is_code = ["pre", "code"]
            .iter()
            .any(|code| name.strip_prefix(code).is_some_and(|rest| rest.starts_with(['>', ' ', '\n'])));
        match (is_code, tag.starts_with('/')) {
            (true, false) => {
                if depth == 0 {
                    start = at + tag.find('>').map_or(tag.len(), |end| end + 1);
                }
                depth += 1;
            }
            (true, true) => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    parts.push(start..at);
                }
            }
            _ => {}
        }
    }
    parts
}

fn has_file(image: &v1::Image) -> bool {
    image.media.as_ref().is_some_and(|media| !media.renditions.is_empty())
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

/// Returns the words of a picture, for a place that can have no picture.
fn picture_text(picture: &Picture) -> String {
    let texts = [&picture.alt, &picture.title, &picture.caption, &picture.credit];
    let texts = texts.into_iter().filter(|text| !text.is_empty());
    html::text(&texts.cloned().collect::<Vec<_>>().join(" "))
}

/// Returns a text as HTML.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
