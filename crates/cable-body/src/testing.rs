//! Independent methods that tests of this and of other crates compare conversions with.

use std::{
    fs,
    time::{Duration, Instant},
};

use cable_proto::v1::{self, Block, Span, block::Kind};
use proptest::prelude::*;

use crate::render;

/// The processor time of the current thread since a start. Other programs on the machine do not change it.
#[derive(Debug)]
pub struct Stopwatch {
    start: Instant,
    used_before: Option<Duration>,
}

impl Stopwatch {
    /// Starts it.
    pub fn start() -> Stopwatch {
        Stopwatch { start: Instant::now(), used_before: thread_time() }
    }

    /// Returns the processor time since the start, or the time itself where the system does not report the other.
    pub fn elapsed(&self) -> Duration {
        let used = thread_time().zip(self.used_before).map(|(used, before)| used - before);
        used.unwrap_or_else(|| self.start.elapsed())
    }
}

/// Returns ordinary HTML of about a size in bytes. The times of other texts are compared with its time in the same run:
/// a ratio depends neither on the machine nor, much, on optimisation.
pub fn ordinary_html(bytes: usize) -> String {
    let part = "<p>The harbour was <b>quiet</b>, and <a href='/ice'>the ice</a> was gone.</p>\n\
                <ul><li>One ship</li><li>Two ships</li></ul>\n";
    part.repeat(bytes / part.len())
}

/// Returns the shortest of three times, which other programs on the machine change least.
pub fn shortest(time: impl FnMut() -> Duration) -> Duration {
    std::iter::repeat_with(time).take(3).min().unwrap_or_default()
}

/// Returns the processor time that the current thread has used so far.
fn thread_time() -> Option<Duration> {
    let report = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(Duration::from_nanos(report.split(' ').next()?.parse().ok()?))
}

/// Returns the text of a body in the simplest form: the words of the source, without the additions of a renderer.
pub fn text_of_body(body: &v1::Body) -> String {
    let mut text = String::new();
    body.blocks.iter().for_each(|block| text_of_block(block, &mut text));
    text
}

fn line(spans: &[Span], text: &mut String) {
    spans.iter().for_each(|span| text.push_str(&span.text));
    text.push('\n');
}

fn text_of_media(media: &v1::Media, text: &mut String) {
    line(&media.caption, text);
    for part in [&media.alt_text, &media.credit] {
        text.push_str(part);
        text.push('\n');
    }
}

/// Appends the text of a block.
pub fn text_of_block(block: &Block, text: &mut String) {
    match block.kind.as_ref().expect("every block has a kind") {
        Kind::Paragraph(p) => line(&p.spans, text),
        Kind::Heading(h) => line(&h.spans, text),
        Kind::List(l) => l.items.iter().flat_map(|i| &i.blocks).for_each(|b| text_of_block(b, text)),
        Kind::Quote(q) => {
            q.blocks.iter().for_each(|b| text_of_block(b, text));
            line(&q.attribution, text);
        }
        Kind::PullQuote(q) => {
            line(&q.spans, text);
            line(&q.attribution, text);
        }
        Kind::Image(i) => i.media.iter().for_each(|m| text_of_media(m, text)),
        Kind::Gallery(g) => {
            g.images.iter().filter_map(|i| i.media.as_ref()).for_each(|m| text_of_media(m, text));
            line(&g.caption, text);
        }
        Kind::Embed(e) => {
            for part in [&e.url, &e.title, &e.fallback_text] {
                text.push_str(part);
                text.push('\n');
            }
            line(&e.caption, text);
        }
        Kind::Code(c) => {
            text.push_str(&c.text);
            text.push('\n');
        }
        Kind::Table(t) => {
            for cell in t.rows.iter().flat_map(|row| &row.cells) {
                line(&cell.spans, text);
                cell.blocks.iter().for_each(|block| text_of_block(block, text));
            }
            line(&t.caption, text);
        }
        Kind::LivePost(p) => {
            for part in
                std::iter::once(&p.title).chain(p.credits.iter().flat_map(|c| [&c.display_name, &c.role]))
            {
                text.push_str(part);
                text.push('\n');
            }
            p.blocks.iter().for_each(|b| text_of_block(b, text));
        }
        Kind::Video(v) => v.media.iter().for_each(|m| text_of_media(m, text)),
        Kind::Audio(a) => a.media.iter().for_each(|m| text_of_media(m, text)),
        Kind::Divider(_) => {}
        Kind::RawHtml(r) => {
            text.push_str(&words_of_source(&r.html).join(" "));
            text.push('\n');
        }
    }
}

/// Returns the words of HTML by an independent method: no parser, only cutting. Tags of running text join the words on
/// both sides, other tags separate them.
pub fn words_of_source(html: &str) -> Vec<String> {
    let mut text = String::new();
    let mut rest = html;
    while let Some(at) = rest.find('<') {
        text.push_str(&rest[..at]);
        rest = &rest[at..];
        let (end, apart) = cut_tag(rest);
        text.push_str(apart);
        rest = &rest[end..];
    }
    text.push_str(rest);
    decode(&text).split_whitespace().map(str::to_owned).collect()
}

fn cut_tag(rest: &str) -> (usize, &'static str) {
    let until = |end: &str| rest.find(end).map_or(rest.len(), |at| at + end.len());
    if rest.starts_with("<!--") {
        let parts = ["<!--more", "<!--nextpage"].iter().any(|comment| rest.starts_with(comment));
        return (until("-->"), if parts { " " } else { "" });
    }
    let name: String =
        rest.trim_start_matches(['<', '/']).chars().take_while(char::is_ascii_alphanumeric).collect();
    let inline =
        ["a", "abbr", "acronym", "b", "big", "cite", "code", "del", "em", "font", "i", "ins", "kbd", "q"];
    let more = ["s", "small", "span", "strike", "strong", "sub", "sup", "time", "tt", "u", "var", "mark"];
    match name.to_ascii_lowercase().as_str() {
        "" => (1, "<"),
        "script" if !rest.starts_with("</") => (until("</script>"), " "),
        "style" if !rest.starts_with("</") => (until("</style>"), " "),
        name if inline.contains(&name) || more.contains(&name) => (until(">"), ""),
        _ => (until(">"), " "),
    }
}

fn decode(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let entity =
            rest.find(';').filter(|end| *end < 10).and_then(|end| Some((end, entity(&rest[1..end])?)));
        let (end, decoded) = entity.unwrap_or((0, '&'));
        out.push(decoded);
        rest = &rest[end + 1..];
    }
    out + rest
}

fn entity(name: &str) -> Option<char> {
    Some(match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "nbsp" => '\u{a0}',
        "hellip" => '\u{2026}',
        "rsquo" => '\u{2019}',
        "lsquo" => '\u{2018}',
        "ldquo" => '\u{201c}',
        "rdquo" => '\u{201d}',
        "ndash" => '\u{2013}',
        "mdash" => '\u{2014}',
        "copy" => '\u{a9}',
        "rarr" => '\u{2192}',
        _ => {
            let number = name.strip_prefix('#')?;
            let hex = number.strip_prefix(['x', 'X']).map(|hex| u32::from_str_radix(hex, 16));
            char::from_u32(hex.unwrap_or_else(|| number.parse()).ok()?)?
        }
    })
}

/// The marks that quotations in running text get.
const QUOTATION_MARKS: [char; 4] = ['\u{201c}', '\u{201d}', '\u{2018}', '\u{2019}'];

/// Returns the words of the source that are missing from the body's plain text, except shortcodes. Quotation marks
/// around words do not count.
pub fn missing_words(html: &str, body: &v1::Body) -> Vec<String> {
    let text = render(body, v1::BodyFormat::PlainText);
    let mut there: std::collections::HashMap<&str, usize> = std::collections::HashMap::new();
    let words = text.split_whitespace().map(|word| word.trim_matches(QUOTATION_MARKS));
    words.for_each(|word| *there.entry(word).or_default() += 1);
    let mut missing = Vec::new();
    for word in words_of_source(&without_shortcodes(html)) {
        match there.get_mut(word.trim_matches(QUOTATION_MARKS)) {
            Some(count @ 1..) => *count -= 1,
            _ => missing.push(word),
        }
    }
    // Plain text has the caption of an embed instead of its URL.
    let embedded = text_of_body(body);
    missing.retain(|word| !(word.starts_with("http") && embedded.contains(word.as_str())));
    missing
}

fn without_shortcodes(html: &str) -> String {
    let mut out = html.to_owned();
    for name in ["caption", "/caption", "gallery", "embed", "/embed", "video", "/video", "audio", "/audio"] {
        let mut from = 0;
        while let Some(at) = out[from..].find(&format!("[{name}")).map(|at| from + at) {
            let Some(end) = out[at..].find(']').map(|end| at + end + 1) else { break };
            out.replace_range(at..end, " ");
            from = at;
        }
    }
    out
}

/// Generates markup around numbered words, nested correctly and incorrectly.
pub fn soup() -> impl Strategy<Value = String> {
    let tags = [
        "p",
        "div",
        "b",
        "i",
        "em",
        "strong",
        "a href='/x'",
        "a href='javascript:x'",
        "ul",
        "ol",
        "li",
        "blockquote",
        "cite",
        "figure",
        "figcaption",
        "table",
        "tr",
        "td",
        "th",
        "caption",
        "h1",
        "h3",
        "pre",
        "code",
        "span",
        "dl",
        "dt",
        "dd",
        "details",
        "form",
        "section",
        "svg",
        "video",
        "object",
        "select",
        "option",
        "textarea",
        "button",
        "noscript",
        "address",
        "sub",
        "q",
        "ruby",
        "rt",
        "center",
        "iframe",
        "math",
        "label",
        "figure class='wp-block-embed'",
        "figure class='wp-block-pullquote'",
        "div class='wp-caption'",
    ];
    let piece = prop_oneof![
        4 => "w[0-9]{1,6}".prop_map(|word| format!(" {word} ")),
        4 => prop::sample::select(tags.to_vec()).prop_map(|tag| format!("<{tag}>")),
        4 => prop::sample::select(tags.to_vec()).prop_map(|tag| format!("</{}>", tag.split(' ').next().unwrap_or_default())),
        1 => prop::sample::select(vec!["<br>", "<hr>", "<img src='/a.jpg'>", "<img>", "\n", "\n\n", "<!--more-->",
            "<!-- wp:paragraph -->", "<!-- /wp:paragraph -->", "<!--nextpage-->", "<script>x</script>", "&amp;"])
            .prop_map(str::to_owned),
    ];
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}
