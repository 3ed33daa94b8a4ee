//! Shortcodes of WordPress and of widespread plug-ins. They become elements before a text is parsed.

use std::{
    collections::{BTreeSet, HashMap},
    ops::Range,
};

use super::{
    blocks::Walker,
    code,
    source::{Token, end_of_tag, is_any, tokens},
    urls,
};

/// The maximum number of invalid shortcodes in one text. Each of them costs a search to the end of the text.
const MAX_INVALID: usize = 200;

/// The maximum number of bytes of a shortcode. Those of page builders have long attributes.
const MAX_TAG_BYTES: usize = 32 << 10;

/// Shortcodes that become a block.
const BLOCKS: [&str; 10] =
    ["caption", "wp_caption", "gallery", "playlist", "embed", "video", "audio", "youtube", "vimeo", "tweet"];

/// Shortcodes whose content only subscribers see.
const PREMIUM: [&str; 8] = [
    "restrict",
    "rcp_restrict",
    "members",
    "members_access",
    "members_logged_in",
    "membership",
    "mepr-active",
    "wcm_restrict",
];

/// Shortcodes of page builders (WPBakery, Divi, Avada) that only lay out their content.
const LAYOUT: [&str; 20] = [
    "vc_row",
    "vc_row_inner",
    "vc_section",
    "vc_column",
    "vc_column_inner",
    "vc_column_text",
    "et_pb_section",
    "et_pb_row",
    "et_pb_row_inner",
    "et_pb_column",
    "et_pb_column_inner",
    "et_pb_text",
    "fusion_builder_container",
    "fusion_builder_row",
    "fusion_builder_row_inner",
    "fusion_builder_column",
    "fusion_builder_column_inner",
    "fusion_text",
    "av_textblock",
    "av_one_full",
];

/// The element that replaces a tag that only surrounds content. It keeps the words on both sides apart.
const SEPARATOR: &str = "<div></div>";

/// Returns the text with elements for its shortcodes, except within tags, comments, code and preformatted text.
pub(super) fn replace(html: &str, walker: &mut Walker<'_>) -> String {
    let mut replacer = Replacer::new(html);
    replacer.run();
    for name in &replacer.premium {
        walker
            .restrict(name, || format!("premium content: shortcode [{name}]: only subscribers may read it"));
    }
    let layout = replacer.layout;
    if layout > 0 {
        walker.notes.add(|| format!("{layout} tags of page builders: left out, their content stays"));
    }
    walker.shortcodes.read_closing_tags(&replacer.out);
    replacer.out
}

/// The replacement of the shortcodes of one text.
struct Replacer<'h> {
    html: &'h str,
    out: String,
    ends: Ends<'h>,
    invalid: usize,
    /// The number of tags of page builders.
    layout: usize,
    /// The premium shortcodes that were found.
    premium: BTreeSet<&'static str>,
}

impl<'h> Replacer<'h> {
    fn new(html: &'h str) -> Self {
        let out = String::with_capacity(html.len());
        Replacer { html, out, ends: Ends::new(html), invalid: 0, layout: 0, premium: BTreeSet::new() }
    }

    fn run(&mut self) {
        let mut verbatim = 0_usize;
        let mut tokens = tokens(self.html);
        while let Some((range, token)) = tokens.next() {
            match token {
                Token::Open(name) if is_any(name, &["pre", "code"]) => verbatim += 1,
                Token::Close(name) if is_any(name, &["pre", "code"]) => verbatim = verbatim.saturating_sub(1),
                _ => {}
            }
            if token != Token::Text || verbatim > 0 {
                self.out.push_str(&self.html[range]);
                continue;
            }
            let text_end = range.end;
            let end = self.text(range);
            if end > text_end {
                tokens.resume_at(end);
            }
        }
    }

    /// Copies a text and replaces its shortcodes. Returns the end of the copied range: a shortcode can end beyond the
    /// text in which it starts.
    fn text(&mut self, text: Range<usize>) -> usize {
        let html = self.html;
        let mut at = text.start;
        while let Some(open) = html[at..text.end.max(at)].find('[').map(|found| at + found) {
            self.out.push_str(&html[at..open]);
            at = match self.shortcode(open) {
                Some((element, end)) => {
                    self.out.push_str(&element);
                    end
                }
                None => {
                    self.out.push('[');
                    open + 1
                }
            };
        }
        let end = text.end.max(at);
        self.out.push_str(&html[at..end]);
        end
    }

    /// Returns the element that replaces the shortcode at an opening bracket, and the end of its source. A second
    /// bracket before it marks text that only shows a shortcode.
    fn shortcode(&mut self, open: usize) -> Option<(String, usize)> {
        if self.invalid >= MAX_INVALID || self.html[..open].ends_with('[') {
            return None;
        }
        let name = name_at(self.html, open)?;
        let found = Shortcode::parse(self.html, open, name).and_then(|code| self.element(&code));
        self.invalid += usize::from(found.is_none());
        found
    }

    fn element(&mut self, code: &Shortcode<'_>) -> Option<(String, usize)> {
        if PREMIUM.contains(&code.name) {
            return self.premium(code);
        }
        if LAYOUT.contains(&code.name) {
            self.layout += 1;
            return Some((SEPARATOR.to_owned(), code.end));
        }
        if code.is_closing {
            return None;
        }
        if matches!(code.name, "caption" | "wp_caption") {
            return self.caption(code);
        }
        code.element(self.html, &mut self.ends)
    }

    /// Returns a figure of the picture or player within the shortcode, and its caption.
    fn caption(&mut self, code: &Shortcode<'_>) -> Option<(String, usize)> {
        let close = self.ends.next(code.name, code.end)?;
        let inner = &self.html[code.end..close.start];
        let attribute = code.attribute("caption").unwrap_or_default();
        let replaced;
        let (media, text) = match end_of_picture(inner) {
            Some(end) => inner.split_at(end),
            None => {
                replaced = self.nested(inner);
                replaced.split_at(end_of_player(&replaced))
            }
        };
        let element = if media.is_empty() {
            format!("<div>{attribute} {text}</div>")
        } else {
            format!("<figure class=\"wp-caption\">{media}<figcaption>{attribute}{text}</figcaption></figure>")
        };
        Some((element, close.end))
    }

    /// Returns the content of a shortcode with elements for the shortcodes in it.
    fn nested(&mut self, inner: &str) -> String {
        let mut nested = Replacer::new(inner);
        nested.run();
        self.layout += nested.layout;
        self.premium.append(&mut nested.premium);
        nested.out
    }

    /// Removes a tag around premium content, if it has a counterpart.
    fn premium(&mut self, code: &Shortcode<'_>) -> Option<(String, usize)> {
        if !code.is_closing && self.ends.last(code.name).is_some_and(|last| last >= code.end) {
            self.premium.insert(code.name);
        }
        self.premium.contains(code.name).then(|| (SEPARATOR.to_owned(), code.end))
    }
}

/// Returns the end of the last picture and of the link around it.
fn end_of_picture(html: &str) -> Option<usize> {
    let picture = html.rfind("<img").map(|at| at + end_of_tag(&html[at..]))?;
    let after = html[picture..].trim_start();
    Some(after.strip_prefix("</a>").map_or(picture, |rest| html.len() - rest.len()))
}

/// Returns the end of the last frame, player or figure; 0 if there is none.
fn end_of_player(html: &str) -> usize {
    let ends = ["</iframe>", "</video>", "</audio>", "</object>", "</figure>"];
    ends.iter().filter_map(|end| Some(html.rfind(end)? + end.len())).max().unwrap_or(0)
}

/// Returns the name of the known shortcode at an opening bracket.
fn name_at(html: &str, open: usize) -> Option<&'static str> {
    let inner = &html[open + 1..];
    let inner = inner.strip_prefix('/').unwrap_or(inner);
    let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-');
    let name = &inner[..inner.find(|c: char| !is_part(c))?];
    let known = [&BLOCKS[..], &PREMIUM[..], &LAYOUT[..]];
    known.into_iter().flatten().find(|known| **known == name).copied().or_else(|| code::name(name))
}

/// The closing tags of a text.
struct Ends<'h> {
    html: &'h str,
    /// The names whose closing tags are known to be absent from the rest.
    absent: BTreeSet<&'static str>,
    last: HashMap<&'static str, Option<usize>>,
}

impl<'h> Ends<'h> {
    fn new(html: &'h str) -> Self {
        Ends { html, absent: BTreeSet::new(), last: HashMap::new() }
    }

    /// Returns the range of the next closing tag.
    fn next(&mut self, name: &'static str, from: usize) -> Option<Range<usize>> {
        if self.absent.contains(name) {
            return None;
        }
        let tag = format!("[/{name}]");
        let found = self.html[from..].find(&tag).map(|at| from + at);
        if found.is_none() {
            self.absent.insert(name);
        }
        found.map(|at| at..at + tag.len())
    }

    /// Returns the start of the last closing tag.
    fn last(&mut self, name: &'static str) -> Option<usize> {
        *self.last.entry(name).or_insert_with(|| self.html.rfind(&format!("[/{name}]")))
    }
}

pub(super) struct Shortcode<'a> {
    pub(super) name: &'static str,
    is_closing: bool,
    pub(super) attributes: &'a str,
    start: usize,
    /// The index after the `]`.
    end: usize,
}

impl<'a> Shortcode<'a> {
    /// Parses the shortcode with the given name at an opening bracket.
    fn parse(html: &'a str, start: usize, name: &'static str) -> Option<Self> {
        let is_closing = html[start + 1..].starts_with('/');
        let attributes_at = start + 1 + usize::from(is_closing) + name.len();
        let attributes = super::head(&html[attributes_at..], MAX_TAG_BYTES);
        if !attributes.starts_with(|c: char| c.is_ascii_whitespace() || matches!(c, ']' | '/' | '=')) {
            return None;
        }
        let mut quote = None;
        let close = attributes.bytes().position(|byte| match (quote, byte) {
            (None, b']') => true,
            (None, b'"' | b'\'') => {
                quote = Some(byte);
                false
            }
            (Some(open), close) if open == close => {
                quote = None;
                false
            }
            _ => false,
        })?;
        let attributes = attributes[..close].trim_end_matches('/');
        Some(Shortcode { name, is_closing, attributes, start, end: attributes_at + close + 1 })
    }

    /// Returns the value of an attribute.
    pub(super) fn attribute(&self, wanted: &str) -> Option<&'a str> {
        let mut rest = self.attributes;
        loop {
            let (name, after) = rest.split_once('=')?;
            let after = after.trim_start();
            let quote = after.chars().next().filter(|c| matches!(c, '"' | '\''));
            let (value, next) = match quote {
                Some(quote) => after[1..].split_once(quote)?,
                None => after.split_once(char::is_whitespace).unwrap_or((after, "")),
            };
            if name.trim().eq_ignore_ascii_case(wanted) {
                return Some(value);
            }
            rest = next;
        }
    }

    /// Returns the first attribute that is a URL without a name, as in `[youtube URL]` and `[youtube=URL]`.
    fn url(&self) -> Option<&'a str> {
        let words = self.attributes.strip_prefix('=').unwrap_or(self.attributes).split_whitespace();
        words.map(|word| word.trim_matches(['"', '\''])).find(|word| word.starts_with("http"))
    }

    /// Returns the element that replaces the shortcode, and the end of its source.
    fn element(&self, html: &str, ends: &mut Ends<'_>) -> Option<(String, usize)> {
        match self.name {
            "gallery" | "playlist" => Some((self.attached(html), self.end)),
            "embed" => {
                let close = ends.next(self.name, self.end)?;
                Some((embed(html[self.end..close.start].trim())?, close.end))
            }
            name if code::name(name).is_some() => {
                let close = ends.next(name, self.end)?;
                Some((code::element(self, &html[self.end..close.start])?, close.end))
            }
            "youtube" | "vimeo" | "tweet" => {
                Some((embed(self.attribute("url").or_else(|| self.url())?)?, self.end))
            }
            _ => self.player(html),
        }
    }

    /// Returns a figure that names the attachments of a gallery or a playlist.
    fn attached(&self, html: &str) -> String {
        let ids = self.attribute("ids").or_else(|| self.attribute("include"));
        let ids = ids.map(|ids| {
            let digits: String = ids.chars().filter(|c| c.is_ascii_digit() || *c == ',').collect();
            format!(" data-ids=\"{digits}\"")
        });
        let source = escape(&html[self.start..self.end]);
        format!("<figure class=\"cable-{}\"{}>{source}</figure>", self.name, ids.unwrap_or_default())
    }

    /// Returns a player of the files, or an embed if another site plays the first one.
    fn player(&self, html: &str) -> Option<(String, usize)> {
        let keys = [
            "src", "mp4", "m4v", "webm", "ogv", "mov", "wmv", "flv", "mp3", "m4a", "ogg", "wav", "wma",
            "flac",
        ];
        let mut urls: Vec<&str> = keys.iter().filter_map(|key| self.attribute(key)).collect();
        if urls.is_empty() {
            urls.extend(self.url());
        }
        let closing = if self.name == "video" { "[/video]" } else { "[/audio]" };
        let end = if html[self.end..].starts_with(closing) { self.end + closing.len() } else { self.end };
        let poster = self.attribute("poster");
        Some((player(self.name, &urls, poster).or_else(|| embed(urls.first()?))?, end))
    }
}

/// Returns a player of the files that are sound or video, if there is one.
fn player(name: &str, urls: &[&str], poster: Option<&str>) -> Option<String> {
    let value = |url: &str| escape(url).replace('"', "&quot;");
    let is_file = |url: &&&str| {
        let media_type = urls::media_type(url);
        media_type.starts_with("video/") || media_type.starts_with("audio/")
    };
    let sources: String =
        urls.iter().filter(is_file).map(|url| format!("<source src=\"{}\">", value(url))).collect();
    let poster = poster.map(|url| format!(" poster=\"{}\"", value(url))).unwrap_or_default();
    (!sources.is_empty()).then(|| format!("<{name}{poster}>{sources}</{name}>"))
}

/// Returns a figure around the text if it is a URL.
fn embed(url: &str) -> Option<String> {
    let is_url =
        url.starts_with("http") && !url.contains(|c: char| c.is_whitespace() || c == '<' || c == '>');
    is_url.then(|| format!("<figure class=\"wp-block-embed\">{url}</figure>"))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
