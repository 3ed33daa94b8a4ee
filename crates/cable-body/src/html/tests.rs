//! The blocks that HTML becomes, and the check that no word is lost.

use cable_proto::v1::{Block, Mark, Span};

use super::*;
use crate::testing::{missing_words, text_of_block, text_of_body};

mod editor;
mod limits;
mod media;
mod text;

fn blocks(html: &str) -> Vec<Kind> {
    let converted = body(html, &NoAttachments);
    assert_eq!(missing_words(html, &converted.body), Vec::<String>::new(), "of {html}");
    converted.body.blocks.into_iter().map(|b| b.kind.expect("every block has a kind")).collect()
}

fn one(html: &str) -> Kind {
    let mut all = blocks(html);
    assert_eq!(all.len(), 1, "{all:#?}");
    all.remove(0)
}

fn bare(text: &str) -> Span {
    Span { text: text.into(), ..Span::default() }
}

fn marked(text: &str, marks: &[Mark]) -> Span {
    Span { text: text.into(), marks: marks.iter().map(|m| (*m).into()).collect(), link: None }
}

fn linked(text: &str, href: &str) -> Span {
    Span {
        text: text.into(),
        link: Some(v1::Link { href: href.into(), ..Default::default() }),
        ..Span::default()
    }
}

fn paragraph(spans: &[Span]) -> Kind {
    Kind::Paragraph(v1::Paragraph { spans: spans.to_vec() })
}

fn text(kind: &Kind) -> String {
    let mut text = String::new();
    text_of_block(&block(kind.clone()), &mut text);
    text.trim().to_owned()
}

struct Files;

impl Attachments for Files {
    fn media(&self, id: u64) -> Option<v1::Media> {
        let renditions = vec![rendition(&format!("/{id}.png"), None, None)?];
        (id < 100).then(|| v1::Media { renditions, credit: format!("Credit {id}"), ..Default::default() })
    }

    fn own_pictures(&self) -> Vec<v1::Media> {
        self.media(7).into_iter().collect()
    }
}

fn with_files(html: &str) -> Vec<Kind> {
    body(html, &Files).body.blocks.into_iter().filter_map(|b| b.kind).collect()
}

fn kind_name(kind: &Kind) -> &'static str {
    match kind {
        Kind::Paragraph(_) => "paragraph",
        Kind::Heading(_) => "heading",
        Kind::List(_) => "list",
        Kind::Image(_) => "image",
        Kind::Table(_) => "table",
        Kind::Video(_) => "video",
        Kind::Audio(_) => "audio",
        Kind::Embed(_) => "embed",
        Kind::RawHtml(_) => "raw_html",
        _ => "other",
    }
}

fn words_and_notes(html: &str) -> (String, Vec<String>) {
    let converted = body(html, &NoAttachments);
    let words = text_of_body(&converted.body).split_whitespace().collect::<Vec<_>>().join(" ");
    (words, converted.notes.lines)
}
