//! The properties that parsers of foreign input have for every input: they do not panic, and lose nothing silently.
//!
//! The parsers of the node itself are checked by its own module `fuzzing`.
//!
//! Each function takes the bytes of one input and panics if a property does not hold. `fuzz_targets/` runs them under
//! libFuzzer, and `tests/replay.rs` on the corpus. To add a parser, add its function to [`TARGETS`], a file to
//! `fuzz_targets/` with its entry in Cargo.toml, and a folder to `corpus/`.

use std::io::Cursor;

pub use cable::fuzzing::{feed, page_token, target};
use cable_body::{ConvertError, convert, html, render, sanitise, word_count};
use cable_import::{
    binary::{BinaryReader, BinaryWriter},
    feed::{Feed, Options, Page},
    front_matter,
    jsonl::RecordJson,
    report::Report,
    wxr,
};
use cable_proto::{
    limit,
    v1::{Article, Block, Body, BodyFormat, Position, block::Kind},
};

/// A function that checks one input.
pub type Target = fn(&[u8]);

/// All targets with the names of their folders in `corpus/`.
pub const TARGETS: [(&str, Target); 11] = [
    ("html", html),
    ("markdown", markdown),
    ("front_matter", front_matter),
    ("wxr", wxr),
    ("import_feed", import_feed),
    ("jsonl", jsonl),
    ("binary", binary),
    ("position", position),
    ("page_token", page_token),
    ("target", target),
    ("feed", feed),
];

/// Checks the conversion of HTML.
pub fn html(data: &[u8]) {
    source(BodyFormat::Html, data);
}

/// Checks the conversion of Markdown.
pub fn markdown(data: &[u8]) {
    source(BodyFormat::Markdown, data);
}

/// Checks that a text becomes a body that can be put, apart from its size: nested within the limit, with raw HTML that
/// the sanitiser leaves unchanged, and with unique ids. Every form of the body can be rendered.
fn source(format: BodyFormat, data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let conversion = match convert(format, &text) {
        Ok(conversion) => conversion,
        Err(ConvertError::Format) => unreachable!("the format is one of a source"),
        Err(ConvertError::TooLarge) => return assert!(text.len() as u64 > limit::BODY_SOURCE.maximum),
        Err(ConvertError::TooCostly) => return assert!(text.len() > 1_000, "a short text is too costly"),
    };
    let Body { blocks } = &conversion.body;
    assert!(depth(blocks) as u64 <= limit::BLOCK_DEPTH.maximum);
    let mut found = Found::default();
    blocks.iter().for_each(|block| found.add(block));
    assert_eq!(found.raw_html, conversion.raw_html_blocks);
    let ids = found.ids.len();
    found.ids.sort_unstable();
    found.ids.dedup();
    assert_eq!(found.ids.len(), ids, "an id occurs twice");
    assert!(conversion.notes.len() <= html::MAX_NOTES);
    word_count(&conversion.body);
    for format in [BodyFormat::Html, BodyFormat::Markdown, BodyFormat::PlainText] {
        render(&conversion.body, format);
    }
}

/// The ids of a body's blocks, and the number of raw_html blocks.
#[derive(Default)]
struct Found {
    ids: Vec<String>,
    raw_html: usize,
}

impl Found {
    fn add(&mut self, block: &Block) {
        if !block.id.is_empty() {
            self.ids.push(block.id.clone());
        }
        if let Some(Kind::RawHtml(raw)) = &block.kind {
            assert!(sanitise::check(&raw.html).is_ok(), "{}", raw.html);
            self.raw_html += 1;
        }
        inner(block).into_iter().flatten().for_each(|block| self.add(block));
    }
}

fn depth(blocks: &[Block]) -> usize {
    let below = |block| inner(block).into_iter().map(|blocks| depth(blocks)).max().unwrap_or_default();
    blocks.iter().map(|block| 1 + below(block)).max().unwrap_or_default()
}

/// Returns the lists of blocks within a block.
fn inner(block: &Block) -> Vec<&Vec<Block>> {
    match &block.kind {
        Some(Kind::List(list)) => list.items.iter().map(|item| &item.blocks).collect(),
        Some(Kind::Quote(quote)) => vec![&quote.blocks],
        Some(Kind::LivePost(post)) => vec![&post.blocks],
        Some(Kind::Table(table)) => {
            table.rows.iter().flat_map(|row| &row.cells).map(|cell| &cell.blocks).collect()
        }
        _ => Vec::new(),
    }
}

/// Checks that the text below front matter is complete.
pub fn front_matter(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let Ok(document) = front_matter::parse(&text) else { return };
    assert!(text.ends_with(&document.body));
    assert!(document.article.body.is_none());
    assert!(document.body.len() < text.len() || document.article == Article::default());
}

/// Checks that each item of an export has its line in the report, unless an error names the file.
pub fn wxr(data: &[u8]) {
    let Ok(items) = wxr::read(vec![("export.xml", data)], &wxr::Options::default()) else { return };
    let (total, mut report) = (items.total(), Report::default());
    let (mut lines, mut is_whole) = (0, true);
    for item in items {
        match item {
            Ok(item) => lines += u64::from(!report.add(&item).is_empty()),
            Err(_) => is_whole = false,
        }
    }
    assert!(lines == total || !is_whole, "{lines} of {total} items");
}

/// Checks that each item of a feed has its line in the report.
pub fn import_feed(data: &[u8]) {
    let mut feed = Feed::new(Options::default());
    // The feed has the items before a failure.
    let _failure = feed.add(Page { bytes: data.to_vec(), ..Page::default() });
    let (total, mut report) = (feed.total(), Report::default());
    let lines = feed.items().filter(|item| !report.add(item).is_empty()).count();
    assert_eq!(lines as u64, total);
}

/// Checks that a line that is a record becomes the same record again.
pub fn jsonl(data: &[u8]) {
    let json = RecordJson::new();
    let Ok(record) = json.from_line(&String::from_utf8_lossy(data)) else { return };
    let (line, has_unknown) = json.to_line(&record).expect("a record that was read can be written");
    assert!(!has_unknown);
    assert_eq!(json.from_line(&line).ok().as_deref(), Some(&record[..]), "{line}");
}

/// Checks that a file of records, as far as it can be read, becomes the same records again.
pub fn binary(data: &[u8]) {
    let Ok(reader) = BinaryReader::new(Cursor::new(data)) else { return };
    let records: Vec<_> = reader.map_while(Result::ok).collect();
    let mut writer = BinaryWriter::new(Vec::new()).expect("memory can be written");
    records.iter().for_each(|record| writer.write(&record.bytes).expect("memory can be written"));
    let written = writer.finish().expect("memory can be written");
    let again: Vec<_> = BinaryReader::new(Cursor::new(written))
        .expect("a file that was written has a header")
        .map(|record| record.expect("a record that was written can be read").bytes)
        .collect();
    assert!(records.iter().map(|record| &record.bytes).eq(&again));
}

/// Checks that a position is the same after it is written and parsed.
pub fn position(data: &[u8]) {
    let Ok(position) = String::from_utf8_lossy(data).parse::<Position>() else { return };
    assert_eq!(position.to_string().parse(), Ok(position));
}
