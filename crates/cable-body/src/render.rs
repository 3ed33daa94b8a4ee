//! Conversion of a body into HTML, Markdown or plain text. Pure functions build each form from the blocks.
//!
//! This module has the common rules: the characters, marks, links and files that are shown at all. Invariant: every
//! form has the same words in the same order, and no form contains a script, regardless of the texts.

use std::borrow::Cow;

use prost::Message as _;

use crate::sanitise::{clean_char, file_address, link_target};
use cable_proto::v1::{Body, BodyFormat, Embed, Link, LivePost, Mark, Media, Rendition, Span};

mod html;
mod lines;
mod markdown;
#[cfg(test)]
mod tests;
mod text;

/// The properties of schema.org that mark the parts of a live post in HTML. [`crate::html`] reads them back.
pub(crate) const POST: &str = "liveBlogUpdate";
pub(crate) const HEADLINE: &str = "headline";
pub(crate) const PUBLISHED: &str = "datePublished";
pub(crate) const MODIFIED: &str = "dateModified";
pub(crate) const AUTHOR: &str = "author";
/// The attributes of a live post that schema.org has no property for.
pub(crate) const KEY_EVENT: &str = "data-key-event";
pub(crate) const PINNED: &str = "data-pinned";
/// The attribute of a picture with its focal point: fractions of its width and height, such as `0.375 0.5`.
pub(crate) const FOCAL_POINT: &str = "data-focal-point";
/// The attribute of a player with its playing time in seconds, such as `74` or `9.5`.
pub(crate) const DURATION: &str = "data-duration-seconds";

/// Returns the body in the given format, or an empty text if the format is not a text format.
pub fn render(body: &Body, format: BodyFormat) -> String {
    let capacity = body.encoded_len() + body.encoded_len() / 4;
    match format {
        BodyFormat::Html => html::render(body, capacity),
        BodyFormat::Markdown => markdown::render(body, capacity),
        BodyFormat::PlainText => text::render(body, capacity),
        BodyFormat::Unspecified | BodyFormat::Blocks => String::new(),
    }
}

/// Returns the number of words in the body: sequences without white space in its plain text, without the numbers,
/// dashes and rules that only the plain text has.
pub fn word_count(body: &Body) -> i32 {
    let words = text::words(body, body.encoded_len());
    count_words(&words).try_into().unwrap_or(i32::MAX)
}

/// Returns the number of sequences without white space, like `split_whitespace`, but decodes only the characters
/// beyond ASCII.
fn count_words(text: &str) -> usize {
    let (mut words, mut at, mut in_word) = (0, 0, false);
    while let Some(&byte) = text.as_bytes().get(at) {
        let (is_space, length) = if byte.is_ascii() {
            (matches!(byte, b'\t'..=b'\r' | b' '), 1)
        } else {
            let c = text[at..].chars().next().unwrap_or_default();
            (c.is_whitespace(), c.len_utf8())
        };
        words += usize::from(!is_space && !in_word);
        in_word = !is_space;
        at += length;
    }
    words
}

/// The set of bytes that need a closer look: those of control characters, and the format's own.
struct Stops([bool; 256]);

impl Stops {
    const fn new(own: &[u8]) -> Self {
        let mut stops = [false; 256];
        let mut at = 0;
        while at < 0x20 {
            stops[at] = true;
            at += 1;
        }
        stops[0x7f] = true;
        // The first byte of U+0080 to U+00BF, a range that includes control characters.
        stops[0xc2] = true;
        at = 0;
        while at < own.len() {
            stops[own[at] as usize] = true;
            at += 1;
        }
        Self(stops)
    }

    /// Splits the text before the first such byte.
    fn split<'a>(&self, text: &'a str) -> (&'a str, &'a str) {
        text.split_at(text.bytes().position(|byte| self.0[usize::from(byte)]).unwrap_or(text.len()))
    }
}

/// Returns the text with each character cleaned by [`clean_char`].
fn clean(text: &str) -> Cow<'_, str> {
    static STOPS: Stops = Stops::new(b"");
    let (_, rest) = STOPS.split(text);
    if rest.chars().all(|c| clean_char(c) == Some(c)) {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(text.chars().filter_map(clean_char).collect())
    }
}

/// Returns whether the text has no visible character.
fn is_blank(text: &str) -> bool {
    text.chars().filter_map(clean_char).all(char::is_whitespace)
}

fn are_blank(spans: &[Span]) -> bool {
    spans.iter().all(|span| is_blank(&span.text))
}

/// The visible marks of a span, outermost first, without duplicates.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Marks {
    marks: [Mark; 6],
    len: usize,
}

impl Marks {
    fn of(span: &Span) -> Self {
        let mut marks = Self::default();
        for mark in span.marks() {
            marks.push(mark);
        }
        marks
    }

    /// Returns these marks with one more, innermost.
    fn with(mut self, mark: Mark) -> Self {
        self.push(mark);
        self
    }

    /// Adds an innermost mark, unless it is a duplicate or unspecified.
    fn push(&mut self, mark: Mark) {
        if mark != Mark::Unspecified && !self.as_slice().contains(&mark) {
            self.marks[self.len] = mark;
            self.len += 1;
        }
    }

    fn as_slice(&self) -> &[Mark] {
        &self.marks[..self.len]
    }

    /// Returns the number of outermost marks that both have in common.
    fn shared(&self, other: &Self) -> usize {
        self.as_slice().iter().zip(other.as_slice()).take_while(|(a, b)| a == b).count()
    }

    /// Returns only the outermost `len` marks.
    fn outer(&self, len: usize) -> Self {
        let mut outer = Self::default();
        self.as_slice()[..len].iter().for_each(|&mark| outer.push(mark));
        outer
    }
}

/// Returns the span's link and its target, if links may have that target.
fn link(span: &Span) -> Option<(&Link, &str)> {
    let link = span.link.as_ref()?;
    Some((link, link_target(&link.href)?))
}

/// A file of a picture with its address.
type File<'a> = (&'a Rendition, &'a str);

/// Returns the files of a picture that can be shown.
fn files(media: &Media) -> impl Iterator<Item = File<'_>> {
    let pictures =
        media.renditions.iter().filter(|file| file.r#type.is_empty() || file.r#type.starts_with("image/"));
    pictures.filter_map(|file| Some((file, file_address(&file.href)?)))
}

/// Returns the largest file of a picture, or the first of several with the same size.
fn largest(media: &Media) -> Option<File<'_>> {
    files(media).reduce(|a, b| if (b.0.width, b.0.height) > (a.0.width, a.0.height) { b } else { a })
}

/// Returns the files of a video or a sound that a browser may play: all except pictures and texts.
fn playable(media: &Media) -> impl Iterator<Item = File<'_>> {
    let plays = |file: &&Rendition| !["image/", "text/"].iter().any(|kind| file.r#type.starts_with(kind));
    media.renditions.iter().filter(plays).filter_map(|file| Some((file, file_address(&file.href)?)))
}

/// Returns the credit line as printed; without one, the names of the creator and the supplier of the picture.
fn credit(media: &Media) -> Cow<'_, str> {
    let Media { credit, creator, supplier, .. } = media;
    match (is_blank(credit), is_blank(creator), is_blank(supplier)) {
        (true, false, false) => Cow::Owned(format!("{}/{}", creator.trim_end(), supplier.trim_start())),
        (true, false, true) => Cow::Borrowed(creator),
        (true, true, _) => Cow::Borrowed(supplier),
        (false, ..) => Cow::Borrowed(credit),
    }
}

/// Returns the text that replaces a picture without a caption in the forms that show no picture.
fn stand_in(media: &Media) -> Option<&str> {
    let needed = are_blank(&media.caption) && !is_blank(&media.alt_text);
    needed.then_some(media.alt_text.as_str())
}

/// Returns the printed names of the authors of a post, each with a role or an empty text. A credit without a printed
/// name is left out: only the server can look up the author's name.
fn authors(post: &LivePost) -> impl Iterator<Item = (&str, &str)> {
    let named = post.credits.iter().filter(|credit| !is_blank(&credit.display_name));
    named.map(|credit| {
        (credit.display_name.trim(), if is_blank(&credit.role) { "" } else { credit.role.trim() })
    })
}

/// A time of a live post.
struct PostTime {
    /// The property of schema.org.
    property: &'static str,
    /// The time for programs, as RFC 3339.
    exact: String,
    /// The time for people, to the minute. The time of a change is in parentheses.
    shown: String,
}

/// Returns the times of a live post that are set and valid.
fn times(post: &LivePost) -> impl Iterator<Item = PostTime> {
    // The years 1 to 9999.
    const SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;
    let published = post.publish_time.iter().map(|time| (PUBLISHED, time));
    let all = published.chain(post.update_time.iter().map(|time| (MODIFIED, time)));
    all.filter(|(_, time)| SECONDS.contains(&time.seconds)).map(|(property, time)| {
        let exact = time.to_string();
        let shown = format!("{} {} UTC", &exact[..10], &exact[11..16]);
        let shown = if property == MODIFIED { format!("({shown})") } else { shown };
        PostTime { property, exact, shown }
    })
}

/// Returns whether an id needs no escaping, neither in HTML nor in a URL.
pub(crate) fn is_token(id: &str) -> bool {
    !id.is_empty() && id.len() <= 128 && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"._~-".contains(&b))
}

/// Returns the text of a link to embedded content, and the text beside it.
fn embed_texts(embed: &Embed) -> (&str, Option<&str>) {
    let Embed { title, fallback_text: fallback, url, .. } = embed;
    match (is_blank(title), is_blank(fallback)) {
        (false, false) if title != fallback => (title, Some(fallback)),
        (false, _) => (title, None),
        (true, false) => (fallback, None),
        (true, true) => (url, None),
    }
}

/// Returns the language of a code block if the name can be part of a class or follow a fence.
fn language(name: &str) -> Option<&str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "+#._-".contains(c);
    (!name.is_empty() && name.chars().all(plain)).then_some(name)
}

/// Returns the level of a heading in the output, where the headline's level is 1.
fn level(level: i32) -> usize {
    if level == 0 { 2 } else { level.clamp(2, 6) as usize }
}

/// Returns the number of an ordered list's first item.
fn first_number(start: i32) -> i64 {
    if start == 0 { 1 } else { start.into() }
}

/// Returns the number of columns or rows that a cell covers.
fn span_of(cells: i32) -> usize {
    cells.clamp(1, 1_000) as usize
}
