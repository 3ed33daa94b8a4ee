//! Pictures, videos and sound in feeds: the lead, and the addresses in a body.

use super::urls;
use crate::wire::v1::{self, MediaKind, block::Kind};

/// The widest picture that a feed names, in pixels. Readers of feeds show none larger.
const MAX_WIDTH: i32 = 2_000;

/// The picture, video or sound at the top of an article.
pub(super) struct Lead {
    pub(super) url: String,
    pub(super) kind: MediaKind,
    /// The media type. Empty if it is unknown.
    pub(super) media_type: String,
    /// The size in pixels; 0 if it is unknown.
    pub(super) width: i32,
    pub(super) height: i32,
    pub(super) description: String,
    pub(super) credit: String,
}

impl Lead {
    /// Returns the lead, unless it has no file, or terms of use: those are a text that no program can judge.
    pub(super) fn of(media: &v1::Media, site: &str, path: &str) -> Option<Lead> {
        if !media.usage_terms.is_empty() {
            return None;
        }
        let fits = |rendition: &&v1::Rendition| rendition.width <= MAX_WIDTH;
        let files = || media.renditions.iter();
        let widest = files().filter(fits).max_by_key(|rendition| rendition.width);
        let file = widest.or_else(|| files().min_by_key(|rendition| rendition.width))?;
        Some(Lead {
            url: urls::absolute(site, path, &file.href),
            kind: media.kind(),
            media_type: file.r#type.clone(),
            width: file.width,
            height: file.height,
            description: media.alt_text.clone(),
            credit: media.credit.clone(),
        })
    }

    pub(super) fn is_picture(&self) -> bool {
        matches!(self.kind, MediaKind::Unspecified | MediaKind::Picture)
    }

    /// Returns the kind, as Media RSS names it.
    pub(super) fn medium(&self) -> &'static str {
        match self.kind {
            MediaKind::Unspecified | MediaKind::Picture => "image",
            MediaKind::Video => "video",
            MediaKind::Audio => "audio",
        }
    }
}

/// A walk through a body that makes its addresses absolute. It finds whether any of its media has terms of use.
pub(super) struct Walk<'a> {
    site: &'a str,
    path: &'a str,
    pub(super) has_terms: bool,
}

impl<'a> Walk<'a> {
    pub(super) fn new(site: &'a str, path: &'a str) -> Walk<'a> {
        Walk { site, path, has_terms: false }
    }

    pub(super) fn blocks(&mut self, blocks: &mut [v1::Block]) {
        blocks.iter_mut().filter_map(|block| block.kind.as_mut()).for_each(|kind| self.kind(kind));
    }

    fn kind(&mut self, kind: &mut Kind) {
        match kind {
            Kind::Paragraph(paragraph) => self.spans(&mut paragraph.spans),
            Kind::Heading(heading) => self.spans(&mut heading.spans),
            Kind::List(list) => list.items.iter_mut().for_each(|item| self.blocks(&mut item.blocks)),
            Kind::Quote(quote) => {
                self.blocks(&mut quote.blocks);
                self.spans(&mut quote.attribution);
            }
            Kind::PullQuote(quote) => {
                self.spans(&mut quote.spans);
                self.spans(&mut quote.attribution);
            }
            Kind::Image(image) => self.image(image),
            Kind::Gallery(gallery) => {
                gallery.images.iter_mut().for_each(|image| self.image(image));
                self.spans(&mut gallery.caption);
            }
            Kind::Embed(embed) => {
                self.url(&mut embed.url);
                self.spans(&mut embed.caption);
            }
            Kind::Table(table) => {
                self.spans(&mut table.caption);
                for cell in table.rows.iter_mut().flat_map(|row| &mut row.cells) {
                    self.spans(&mut cell.spans);
                    self.blocks(&mut cell.blocks);
                }
            }
            Kind::LivePost(post) => self.blocks(&mut post.blocks),
            Kind::Video(video) => video.media.iter_mut().for_each(|media| self.media(media)),
            Kind::Audio(audio) => audio.media.iter_mut().for_each(|media| self.media(media)),
            // The addresses in raw HTML are not parsed.
            Kind::Code(_) | Kind::Divider(_) | Kind::RawHtml(_) => {}
        }
    }

    fn image(&mut self, image: &mut v1::Image) {
        image.media.iter_mut().for_each(|media| self.media(media));
        self.url(&mut image.href);
    }

    fn media(&mut self, media: &mut v1::Media) {
        self.has_terms |= !media.usage_terms.is_empty();
        media.renditions.iter_mut().for_each(|rendition| self.url(&mut rendition.href));
        self.url(&mut media.poster);
        self.spans(&mut media.caption);
    }

    fn spans(&mut self, spans: &mut [v1::Span]) {
        spans.iter_mut().filter_map(|span| span.link.as_mut()).for_each(|link| self.url(&mut link.href));
    }

    fn url(&mut self, url: &mut String) {
        if !url.is_empty() {
            *url = urls::absolute(self.site, self.path, url);
        }
    }
}
