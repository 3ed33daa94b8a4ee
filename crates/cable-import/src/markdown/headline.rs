//! The headline of a page without a title: its first heading of the first level.

use cable_body::{convert, html};
use cable_proto::v1::{self, BodyFormat, block::Kind};

/// The maximum number of lines that can be headings. Others are text.
const MAX_LINES: usize = 1_000;

/// Returns the index of the block that is the first heading of the first level. Blocks do not have that level, so each
/// line that can be such a heading gets a word, which starts with the mark of shortcodes, in a copy.
pub(super) fn position(text: &str, mark: &str) -> Option<usize> {
    // No shortcode has this word: a number follows the mark in theirs.
    let word = &format!("{mark}h");
    let marked = marked(text, word)?;
    let blocks = convert(BodyFormat::Markdown, &marked).ok()?.body.blocks;
    blocks.iter().position(|block| match &block.kind {
        Some(Kind::Heading(heading)) => heading.spans.iter().any(|span| span.text.contains(word)),
        _ => false,
    })
}

/// Returns the text with a word in each line that can be a heading of the first level. `None` if there is none.
fn marked(text: &str, word: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut count = 0;
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let title = unindented(line).strip_prefix('#');
        let title = title.filter(|title| title.starts_with([' ', '\t']) && !title.trim().is_empty());
        let is_underlined = !line.trim().is_empty() && lines.peek().is_some_and(|line| is_underline(line));
        if count < MAX_LINES && (title.is_some() || is_underlined) {
            count += 1;
        } else {
            out.push_str(line);
            out.push('\n');
            continue;
        }
        match title {
            Some(title) => out.push_str(&format!("# {word} {}\n", title.trim_start())),
            None => out.push_str(&format!("{line} {word}\n")),
        }
    }
    (count > 0).then_some(out)
}

/// Returns the line without the spaces that a heading can have before it.
fn unindented(line: &str) -> &str {
    let rest = line.trim_start_matches(' ');
    if line.len() - rest.len() < 4 { rest } else { line }
}

fn is_underline(line: &str) -> bool {
    let line = unindented(line).trim_end();
    !line.is_empty() && line.bytes().all(|byte| byte == b'=')
}

/// Returns the text of the heading at a position as HTML, and removes the heading if no text is above it.
pub(super) fn take(blocks: &mut Vec<v1::Block>, position: usize, notes: &mut Vec<String>) -> Option<String> {
    let (above, rest) = blocks.split_at(position);
    let block = rest.first()?;
    let Some(Kind::Heading(heading)) = &block.kind else { return None };
    // The number of a footnote is no word.
    let is_word = |span: &&v1::Span| span.link.as_ref().is_none_or(|link| !link.href.starts_with("#fn-"));
    let text: String = heading.spans.iter().filter(is_word).map(|span| span.text.as_str()).collect();
    if above.iter().any(has_text) {
        return Some(text);
    }
    if !block.id.is_empty() {
        notes.push(format!("id `{}` omitted: the heading is the headline", html::head(&block.id, 64)));
    }
    for link in heading.spans.iter().filter(is_word).filter_map(|span| span.link.as_ref()) {
        notes.push(format!("link to {} omitted: the heading is the headline", html::head(&link.href, 200)));
    }
    blocks.remove(position);
    Some(text)
}

/// Returns whether a block is text, and not a picture or a similar part of the page.
fn has_text(block: &v1::Block) -> bool {
    !matches!(
        &block.kind,
        Some(
            Kind::Image(_)
                | Kind::Gallery(_)
                | Kind::Embed(_)
                | Kind::Video(_)
                | Kind::Audio(_)
                | Kind::Divider(_)
                | Kind::RawHtml(_)
        )
    )
}
