//! Enclosures: the sound or video of a podcast episode, which WordPress has in a custom field.

use cable_body::html;
use cable_proto::v1::{self, block::Kind};

use super::Element;

/// The custom field of enclosures.
pub(super) const KEY: &str = "enclosure";

/// Returns the blocks for the enclosures that the body does not have, each with the value of its field. WordPress also
/// adds the files that a text links to.
pub(super) fn blocks(item: &Element, body: &v1::Body) -> Vec<v1::Block> {
    let mut blocks: Vec<v1::Block> = Vec::new();
    for value in item.all_meta(KEY) {
        let Some(block) = block(value) else { continue };
        if !is_in(&body.blocks, &block) && !is_in(&blocks, &block) {
            blocks.push(block);
        }
    }
    blocks
}

/// Returns whether all enclosures have become blocks or were in the body.
pub(super) fn are_all_usable(item: &Element) -> bool {
    item.all_meta(KEY).all(|value| block(value).is_some())
}

/// Returns the block for the value of a field: the URL, the length in bytes, the type, and a serialised PHP array with the
/// duration, each on a line.
fn block(value: &str) -> Option<v1::Block> {
    let mut lines = value.lines().map(str::trim);
    let mut rendition = html::rendition(lines.next()?, None, None)?;
    let r#type = lines.nth(1).unwrap_or_default();
    if r#type.starts_with("audio/") || r#type.starts_with("video/") {
        r#type.clone_into(&mut rendition.r#type);
    }
    let media = |kind: v1::MediaKind, rendition| v1::Media {
        renditions: vec![rendition],
        kind: kind.into(),
        duration: duration(value).map(|seconds| prost_types::Duration { seconds, nanos: 0 }),
        ..Default::default()
    };
    let kind = if rendition.r#type.starts_with("audio/") {
        Kind::Audio(v1::Audio { media: Some(media(v1::MediaKind::Audio, rendition)) })
    } else if rendition.r#type.starts_with("video/") {
        Kind::Video(v1::Video { media: Some(media(v1::MediaKind::Video, rendition)) })
    } else {
        return None;
    };
    Some(v1::Block { id: String::new(), kind: Some(kind) })
}

/// Returns the duration in seconds, written as `00:32:15`, `32:15` or `1935`.
fn duration(value: &str) -> Option<i64> {
    let (_, rest) = value.split_once("s:8:\"duration\";s:")?;
    let text = rest.split('"').nth(1)?;
    text.split(':').try_fold(0_i64, |seconds, part| {
        let part: u32 = part.trim().parse().ok()?;
        seconds.checked_mul(60)?.checked_add(part.into())
    })
}

/// Returns whether one of the blocks shows the file of a block, as sound, video, embed or raw HTML.
fn is_in(blocks: &[v1::Block], wanted: &v1::Block) -> bool {
    fn shows(block: &v1::Block, url: &str) -> bool {
        let is_raw = match &block.kind {
            Some(Kind::RawHtml(raw)) => raw.html.contains(&url.replace('&', "&amp;")),
            _ => false,
        };
        is_raw || urls(block).any(|other| other == url) || html::nested(block).any(|inner| shows(inner, url))
    }
    urls(wanted).next().is_some_and(|url| blocks.iter().any(|block| shows(block, url)))
}

fn urls(block: &v1::Block) -> impl Iterator<Item = &str> {
    let (media, url) = match &block.kind {
        Some(Kind::Audio(audio)) => (audio.media.as_ref(), ""),
        Some(Kind::Video(video)) => (video.media.as_ref(), ""),
        Some(Kind::Embed(embed)) => (None, embed.url.as_str()),
        _ => (None, ""),
    };
    let files =
        media.into_iter().flat_map(|media| &media.renditions).map(|rendition| rendition.href.as_str());
    files.chain(Some(url).filter(|url| !url.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn audio(value: &str) -> Option<v1::Media> {
        match block(value)?.kind {
            Some(Kind::Audio(audio)) => audio.media,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_enclosure_has_its_type_and_duration() {
        let value = "https://a.example/talk.mp3\n1234\naudio/mpeg\na:1:{s:8:\"duration\";s:8:\"00:32:15\";}";
        let media = audio(value).unwrap();
        assert_eq!(media.renditions[0].r#type, "audio/mpeg");
        assert_eq!(media.duration.map(|duration| duration.seconds), Some(1_935));
        let media = audio("https://a.example/talk.mp3").unwrap();
        assert_eq!((media.renditions[0].r#type.as_str(), media.duration), ("audio/mpeg", None));
        assert_eq!(
            audio("https://a.example/feed?id=1\r\n5\r\naudio/x-m4a\r\n").unwrap().renditions[0].r#type,
            "audio/x-m4a"
        );
        for unusable in ["https://a.example/paper.pdf", "javascript:x\n1\naudio/mpeg", ""] {
            assert_eq!(block(unusable), None, "{unusable}");
        }
    }

    #[test]
    fn durations_have_up_to_three_parts() {
        let of = |text: &str| duration(&format!("s:8:\"duration\";s:{}:\"{text}\";", text.len()));
        assert_eq!((of("95"), of("1:35"), of("1:01:35")), (Some(95), Some(95), Some(3_695)));
        assert_eq!((of("soon"), of("1:-2")), (None, None));
    }
}
