//! The headline of a page without a title: its first heading of the first level.

use cable_body::{convert, html};
use cable_proto::v1::{self, BodyFormat, block::Kind};

use super::shortcodes::{Meaning, Text};

/// The maximum number of lines that can be headings. Others are text.
const MAX_LINES: usize = 1_000;

/// Returns the index of the block that is the first heading of the first level. Blocks do not have that level, so each
/// line that can be such a heading gets a word, which starts with the mark of shortcodes, in a copy. The copy can have
/// more blocks: a heading without text is one there. So the headings with text are compared, in their order.
pub(super) fn position(text: &Text, blocks: &[v1::Block]) -> Option<usize> {
    // No shortcode has this word: a number follows the mark in theirs.
    let word = &format!("{}h", text.mark);
    let marked = marked(&text.text, word)?;
    let copy = convert(BodyFormat::Markdown, &marked).ok()?.body.blocks;
    let mut headings =
        blocks.iter().enumerate().filter_map(|(index, block)| Some((index, words(block, "")?)));
    let mut copies = copy.iter().filter_map(|block| Some((block, words(block, word)?)));
    copies.find_map(|(block, words)| {
        let (index, own) = headings.next()?;
        (words == own && has_word(block, word) && !is_picture(text, &words)).then_some(index)
    })
}

fn has_word(block: &v1::Block, word: &str) -> bool {
    let Some(Kind::Heading(heading)) = &block.kind else { return false };
    heading.spans.iter().any(|span| span.text.contains(word))
}

/// Returns the text of a heading without a word. `None` if there is none.
fn words(block: &v1::Block, word: &str) -> Option<String> {
    let Some(Kind::Heading(heading)) = &block.kind else { return None };
    let text: String = heading.spans.iter().map(|span| span.text.as_str()).collect();
    let text = if word.is_empty() { text } else { text.replace(word, "") };
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    (!text.is_empty()).then_some(text)
}

/// Returns whether the text of a heading is nothing but pictures and ids.
fn is_picture(text: &Text, words: &str) -> bool {
    let rest = text.replace(words, &mut |index| match &text.shortcodes[index].meaning {
        Meaning::Picture(_) | Meaning::Anchor(_) => String::new(),
        Meaning::Text(text) => text.clone(),
        _ => text.shortcodes[index].source.clone(),
    });
    rest.trim().is_empty()
}

/// Returns the text with a word in each line that can be a heading of the first level. `None` if there is none.
fn marked(text: &str, word: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut count = 0;
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let title = unindented(line).strip_prefix('#');
        let title = title.filter(|title| title.starts_with([' ', '\t']) && !title.trim().is_empty());
        let is_text = !line.trim().is_empty() && !is_fence(line);
        let is_underlined = is_text && lines.peek().is_some_and(|line| is_underline(line));
        if count < MAX_LINES && (title.is_some() || is_underlined) {
            count += 1;
        } else {
            out.push_str(line);
            out.push('\n');
            continue;
        }
        match title {
            // The line can be within an item of a list, which its indentation states.
            Some(title) => {
                let indentation = &line[..line.len() - title.len() - 1];
                out.push_str(&format!("{indentation}# {word} {}\n", title.trim_start()));
            }
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

/// Returns whether the line can be the end of code, which a word would prevent.
fn is_fence(line: &str) -> bool {
    let line = line.trim_start_matches(['>', ' ', '\t']);
    line.starts_with("```") || line.starts_with("~~~")
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
