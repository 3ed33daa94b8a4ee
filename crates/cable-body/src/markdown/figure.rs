//! Paragraphs that are figures: a picture, a player or embedded content alone, with or without a caption on the next
//! line. A caption is a line of which every word is emphasised.

use pulldown_cmark::{Event, Tag, TagEnd};

use crate::html;

/// A paragraph that is a figure.
pub(super) struct Figure<'e, 'a> {
    pub(super) content: Content<'e, 'a>,
    /// The text alternative of a player.
    pub(super) label: String,
    pub(super) caption: &'e [Event<'a>],
}

/// The content of a figure.
pub(super) enum Content<'e, 'a> {
    Picture(&'e [Event<'a>]),
    Embed(&'e str),
    Video(&'e str),
    Audio(&'e str),
}

/// Returns the paragraph as a figure, if it is one.
pub(super) fn figure<'e, 'a>(events: &'e [Event<'a>]) -> Option<Figure<'e, 'a>> {
    let (first, rest) = events.split_at(end_of_first(events)?);
    let caption = match rest.split_first() {
        None => rest,
        Some((Event::SoftBreak | Event::HardBreak, caption)) if is_emphasised(caption) => caption,
        Some(_) => return None,
    };
    let text = text_of(first);
    let content = match first {
        [Event::Start(Tag::Image { .. }), ..] => Content::Picture(first),
        [Event::Start(Tag::Link { .. }), picture @ .., _] if is_picture(picture) => Content::Picture(first),
        [Event::Start(Tag::Link { dest_url, .. }), ..] => of_url(dest_url, &text)?,
        [Event::Text(url)] if caption.is_empty() => of_url(url, url)?,
        _ => return None,
    };
    let label = match content {
        Content::Video(url) | Content::Audio(url) if url != text => text,
        _ => String::new(),
    };
    Some(Figure { content, label, caption })
}

/// Returns the number of events of the picture, link or text at the start.
fn end_of_first(events: &[Event<'_>]) -> Option<usize> {
    let mut depth = 0_usize;
    match events.first()? {
        Event::Text(_) => return Some(1),
        Event::Start(Tag::Image { .. } | Tag::Link { .. }) => {}
        _ => return None,
    }
    let end = events.iter().position(|event| {
        match event {
            Event::Start(_) => depth += 1,
            Event::End(_) => depth -= 1,
            _ => {}
        }
        depth == 0
    });
    end.map(|end| end + 1)
}

fn is_picture(events: &[Event<'_>]) -> bool {
    matches!(events, [Event::Start(Tag::Image { .. }), .., Event::End(TagEnd::Image)])
        && end_of_first(events) == Some(events.len())
}

/// Returns a player for a file of video or sound, or an embed for a page whose URL is all that is shown.
fn of_url<'e, 'a>(url: &'e str, text: &str) -> Option<Content<'e, 'a>> {
    let media_type = html::media_type(url);
    let is_absolute = ["http://", "https://"].iter().any(|scheme| url.starts_with(scheme));
    let is_shown = url == text;
    if is_shown && !(is_absolute && html::page(url).as_deref() == Some(url)) {
        None
    } else if media_type.starts_with("video/") {
        Some(Content::Video(url))
    } else if media_type.starts_with("audio/") {
        Some(Content::Audio(url))
    } else {
        is_shown.then_some(Content::Embed(url))
    }
}

fn text_of(events: &[Event<'_>]) -> String {
    let mut text = String::new();
    for event in events {
        match event {
            Event::Text(part) | Event::Code(part) => text.push_str(part),
            Event::SoftBreak | Event::HardBreak => text.push(' '),
            _ => {}
        }
    }
    text
}

/// Returns whether the event starts or ends emphasis.
pub(super) fn is_emphasis(event: &Event<'_>) -> bool {
    match event {
        Event::Start(Tag::Emphasis) | Event::End(TagEnd::Emphasis) => true,
        Event::InlineHtml(tag) => matches!(&**tag, "<em>" | "</em>"),
        _ => false,
    }
}

fn is_emphasised(events: &[Event<'_>]) -> bool {
    let mut depth = 0_i32;
    let mut has_text = false;
    for event in events {
        match event {
            Event::Start(Tag::Emphasis) => depth += 1,
            Event::End(TagEnd::Emphasis) => depth -= 1,
            Event::InlineHtml(tag) if is_emphasis(event) => {
                depth += if tag.starts_with("</") { -1 } else { 1 }
            }
            Event::Text(text) | Event::Code(text) if !text.trim().is_empty() => {
                has_text = true;
                if depth <= 0 {
                    return false;
                }
            }
            _ => {}
        }
    }
    has_text && depth == 0
}
