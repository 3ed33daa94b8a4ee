//! Pictures of shortcodes, and the files and captions of all media.

use cable_body::{convert, html};
use cable_proto::{
    limit,
    v1::{self, BodyFormat, Span, block::Kind},
};

use super::{super::shortcodes::Picture, Resolver, plain, trim};

impl Resolver<'_> {
    pub(super) fn image(&mut self, picture: &Picture) -> Option<v1::Image> {
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

    pub(super) fn stored_image(&mut self, image: &mut v1::Image) {
        if let Some(media) = &mut image.media {
            self.media(media);
        }
        image.href = self.href(&image.href);
    }

    pub(super) fn media(&mut self, media: &mut v1::Media) {
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
}

pub(super) fn has_file(image: &v1::Image) -> bool {
    image.media.as_ref().is_some_and(|media| !media.renditions.is_empty())
}

/// Returns the words of a picture, for a place that can have no picture.
pub(super) fn picture_text(picture: &Picture) -> String {
    let texts = [&picture.alt, &picture.title, &picture.caption, &picture.credit];
    let texts = texts.into_iter().filter(|text| !text.is_empty());
    html::text(&texts.cloned().collect::<Vec<_>>().join(" "))
}
