//! Videos and sounds with files of their own. Content that another site shows is an embed.

use scraper::ElementRef;

use super::{
    block,
    blocks::{Context, Flow, Walker},
    collapse, head, markup,
    notes::quoted,
    urls,
};
use crate::render::DURATION;
use cable_proto::limit;
use cable_proto::v1::{self, block::Kind};

/// The maximum size in bytes of a text for browsers without a player. A longer one is content: for example, an element
/// that is never closed contains the rest of the article.
const MAX_FALLBACK_BYTES: usize = 256;

/// The longest time that `google.protobuf.Duration` allows, in seconds.
const MAX_SECONDS: i64 = 315_576_000_000;

/// Adds a `video` or an `audio` with its files, or its HTML if it has none.
pub(super) fn player(walker: &mut Walker<'_>, element: ElementRef<'_>, context: &Context, flow: &mut Flow) {
    let renditions = files(element);
    if renditions.is_empty() {
        return walker.raw(element, context, flow);
    }
    let label = element.attr("aria-label").or_else(|| element.attr("title")).map(collapse);
    let alt_text = head(&label.unwrap_or_default(), limit::PARAGRAPH.maximum as usize).to_owned();
    let duration = playing_time(element).and_then(|time| time.parse().ok());
    let media = v1::Media { renditions, alt_text, duration, ..Default::default() };
    let kind = if element.value().name() == "video" {
        let poster = element.attr("poster").and_then(urls::file).unwrap_or_default();
        let media = v1::Media { poster, kind: v1::MediaKind::Video.into(), ..media };
        Kind::Video(v1::Video { media: Some(media) })
    } else {
        Kind::Audio(v1::Audio { media: Some(v1::Media { kind: v1::MediaKind::Audio.into(), ..media }) })
    };
    flow.blocks.push(block(kind));
    fallback(walker, element, context, flow);
}

/// Returns the playing time of a player that Cable rendered, in the JSON form of a Duration: seconds, with a fraction of
/// at most nine digits.
fn playing_time(element: ElementRef<'_>) -> Option<String> {
    let text = element.attr(DURATION)?.trim();
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let is_number = are_digits(seconds) && are_digits(fraction) && (1..=9).contains(&fraction.len());
    let is_within = seconds.parse().is_ok_and(|seconds: i64| seconds <= MAX_SECONDS);
    (is_number && is_within).then(|| format!("{text}s"))
}

/// Returns the files of the element and of its sources, without duplicates.
fn files(element: ElementRef<'_>) -> Vec<v1::Rendition> {
    let sources = markup::below(element).filter(|e| e.value().name() == "source");
    let mut files: Vec<v1::Rendition> = Vec::new();
    for (source, is_first) in
        std::iter::once(element).chain(sources).zip(std::iter::once(true).chain(std::iter::repeat(false)))
    {
        let Some(mut file) = source.attr("src").and_then(|src| urls::rendition(src, None, None)) else {
            continue;
        };
        if let Some(media_type) = source.attr("type").filter(|_| !is_first) {
            file.r#type = head(media_type.trim(), limit::TOKEN.maximum as usize).to_owned();
        }
        if !file.href.starts_with('#') && files.iter().all(|other| other.href != file.href) {
            files.push(file);
        }
    }
    if let Some(first) = files.first_mut().filter(|_| element.value().name() == "video") {
        first.width = markup::number(element, "width").unwrap_or_default();
        first.height = markup::number(element, "height").unwrap_or_default();
    }
    files
}

/// Leaves out the tracks and the text for browsers without a player, or adds the blocks within the element.
fn fallback(walker: &mut Walker<'_>, element: ElementRef<'_>, context: &Context, flow: &mut Flow) {
    let name = element.value().name();
    for track in markup::below(element).filter(|e| e.value().name() == "track") {
        let source = track.attr("src").unwrap_or_default();
        walker.notes.add(|| format!("<track> {} of <{name}>: left out", quoted(source)));
    }
    let text = collapse(&markup::text_of(*element));
    let is_text = |e: ElementRef<'_>| {
        matches!(e.value().name(), "source" | "track" | "p" | "br") || markup::is_inline(e.value().name())
    };
    if text.len() > MAX_FALLBACK_BYTES || !markup::below(element).all(is_text) {
        walker.children(*element, context, flow);
    } else if !text.is_empty() {
        walker
            .notes
            .add(|| format!("text in <{name}> for browsers without a player: left out: {}", quoted(&text)));
    }
}
