//! Bodies, built block by block, and their sources as HTML or Markdown.

use crate::v1::{
    self, Block, Body, BodyFormat, BodySource, Code, Embed, Heading, Image, Link, List, ListItem, Mark,
    Media, Paragraph, Quote, Rendition, Span, block::Kind,
};

/// Running text, from a string or from spans.
///
/// ```
/// use cable_proto::v1::{Block, Span};
///
/// let plain = Block::paragraph("The ferry is late.");
/// let linked = Block::paragraph([Span::from("See "), Span::from("the timetable").link("/ferry").strong()]);
/// # assert_ne!(plain, linked);
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Text(Vec<Span>);

impl From<&str> for Text {
    fn from(text: &str) -> Text {
        Text(vec![text.into()])
    }
}

impl From<String> for Text {
    fn from(text: String) -> Text {
        Text(vec![text.into()])
    }
}

impl From<Vec<Span>> for Text {
    fn from(spans: Vec<Span>) -> Text {
        Text(spans)
    }
}

impl<const N: usize> From<[Span; N]> for Text {
    fn from(spans: [Span; N]) -> Text {
        Text(spans.into())
    }
}

impl From<&str> for Span {
    fn from(text: &str) -> Span {
        Span { text: text.to_owned(), ..Span::default() }
    }
}

impl From<String> for Span {
    fn from(text: String) -> Span {
        Span { text, ..Span::default() }
    }
}

impl Span {
    /// Adds a mark, within those that the text has.
    #[must_use]
    pub fn mark(mut self, mark: Mark) -> Span {
        self.marks.push(mark.into());
        self
    }

    /// Marks the text as important.
    #[must_use]
    pub fn strong(self) -> Span {
        self.mark(Mark::Strong)
    }

    /// Emphasises the text.
    #[must_use]
    pub fn emphasis(self) -> Span {
        self.mark(Mark::Emphasis)
    }

    /// Makes the text a link.
    #[must_use]
    pub fn link(mut self, href: impl Into<String>) -> Span {
        self.link = Some(Link { href: href.into(), ..Link::default() });
        self
    }
}

impl Body {
    /// Returns a body with one paragraph. [`Body::block`] adds further blocks.
    ///
    /// ```
    /// use cable_proto::v1::{Block, Body};
    ///
    /// let body = Body::paragraph("The ferry is late.")
    ///     .block(Block::heading(2, "Timetable"))
    ///     .block(Block::list(["09:00", "11:30"]));
    /// assert_eq!(body.blocks.len(), 3);
    /// ```
    pub fn paragraph(text: impl Into<Text>) -> Body {
        Block::paragraph(text).into()
    }

    /// Adds a block at the end.
    #[must_use]
    pub fn block(mut self, block: Block) -> Body {
        self.blocks.push(block);
        self
    }

    /// Returns the source of a body as HTML, for a put. The server converts it.
    pub fn html(text: impl Into<String>) -> BodySource {
        BodySource { format: BodyFormat::Html.into(), text: text.into() }
    }

    /// Returns the source of a body as Markdown, for a put. The server converts it.
    pub fn markdown(text: impl Into<String>) -> BodySource {
        BodySource { format: BodyFormat::Markdown.into(), text: text.into() }
    }
}

impl From<Block> for Body {
    fn from(block: Block) -> Body {
        Body { blocks: vec![block] }
    }
}

impl FromIterator<Block> for Body {
    fn from_iter<I: IntoIterator<Item = Block>>(blocks: I) -> Body {
        Body { blocks: blocks.into_iter().collect() }
    }
}

impl From<Kind> for Block {
    fn from(kind: Kind) -> Block {
        Block { kind: Some(kind), ..Block::default() }
    }
}

impl Block {
    /// Returns a paragraph.
    pub fn paragraph(text: impl Into<Text>) -> Block {
        Kind::Paragraph(Paragraph { spans: text.into().0 }).into()
    }

    /// Returns a heading of level 2 to 6.
    pub fn heading(level: i32, text: impl Into<Text>) -> Block {
        Kind::Heading(Heading { level, spans: text.into().0 }).into()
    }

    /// Returns a bulleted list with a text in each item.
    pub fn list(items: impl IntoIterator<Item = impl Into<Text>>) -> Block {
        let item = |text: Text| ListItem { blocks: vec![Block::paragraph(text.0)] };
        let items = items.into_iter().map(|text| item(text.into())).collect();
        Kind::List(List { items, ..List::default() }).into()
    }

    /// Returns a numbered list with a text in each item.
    pub fn numbered_list(items: impl IntoIterator<Item = impl Into<Text>>) -> Block {
        let mut block = Block::list(items);
        if let Some(Kind::List(list)) = &mut block.kind {
            list.ordered = true;
        }
        block
    }

    /// Returns a quotation with its source, which can be empty.
    pub fn quote(text: impl Into<Text>, attribution: impl Into<Text>) -> Block {
        let attribution = attribution.into().0.into_iter().filter(|span| !span.text.is_empty()).collect();
        Kind::Quote(Quote { blocks: vec![Block::paragraph(text)], attribution }).into()
    }

    /// Returns a picture with a text alternative.
    pub fn image(href: impl Into<String>, alt_text: impl Into<String>) -> Block {
        Kind::Image(Image { media: Some(media(href, alt_text)), ..Image::default() }).into()
    }

    /// Returns a video with a text alternative.
    pub fn video(href: impl Into<String>, alt_text: impl Into<String>) -> Block {
        let media = Media { kind: v1::MediaKind::Video.into(), ..media(href, alt_text) };
        Kind::Video(v1::Video { media: Some(media) }).into()
    }

    /// Returns a sound with a text alternative.
    pub fn audio(href: impl Into<String>, alt_text: impl Into<String>) -> Block {
        let media = Media { kind: v1::MediaKind::Audio.into(), ..media(href, alt_text) };
        Kind::Audio(v1::Audio { media: Some(media) }).into()
    }

    /// Returns an embed of the content at a URL of another site.
    pub fn embed(url: impl Into<String>) -> Block {
        Kind::Embed(Embed { url: url.into(), ..Embed::default() }).into()
    }

    /// Returns preformatted text. The language can be empty.
    pub fn code(text: impl Into<String>, language: impl Into<String>) -> Block {
        Kind::Code(Code { text: text.into(), language: language.into() }).into()
    }

    /// Returns a thematic break.
    #[must_use]
    pub fn divider() -> Block {
        Kind::Divider(v1::Divider {}).into()
    }

    /// Sets the id of the block, unique within its article.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<String>) -> Block {
        self.id = id.into();
        self
    }
}

fn media(href: impl Into<String>, alt_text: impl Into<String>) -> Media {
    let file = Rendition { href: href.into(), ..Rendition::default() };
    Media { renditions: vec![file], alt_text: alt_text.into(), ..Media::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_strings_or_spans() {
        let span = Span::from("a").strong().emphasis().link("/x");
        assert_eq!(span.marks, [Mark::Strong as i32, Mark::Emphasis as i32]);
        assert_eq!(span.link.as_ref().unwrap().href, "/x");
        let Some(Kind::Paragraph(paragraph)) = Block::paragraph([span.clone()]).kind else { panic!() };
        assert_eq!(paragraph.spans, [span]);
        assert_eq!(Block::paragraph("a"), Block::paragraph(String::from("a")));
    }

    #[test]
    fn a_quotation_without_a_source_has_no_attribution() {
        let attribution = |source: &str| match Block::quote("a", source).kind {
            Some(Kind::Quote(quote)) => quote.attribution.len(),
            _ => panic!(),
        };
        assert_eq!((attribution(""), attribution("Ann")), (0, 1));
    }

    #[test]
    fn lists_are_bulleted_or_numbered() {
        let is_ordered = |block: Block| matches!(block.kind, Some(Kind::List(list)) if list.ordered && list.items.len() == 2);
        assert!(!is_ordered(Block::list(["a", "b"])) && is_ordered(Block::numbered_list(["a", "b"])));
        let body: Body =
            [Block::divider(), Block::embed("https://video.example/1").with_id("v")].into_iter().collect();
        assert_eq!(body.blocks[1].id, "v");
        assert_eq!(Body::html("<p>").format(), BodyFormat::Html);
        assert_eq!(Body::markdown("a").format(), BodyFormat::Markdown);
    }
}
