//! Shortcodes of Hugo, tags and outputs of Liquid, and attribute lists of kramdown: each is replaced by a word that no
//! parser changes, so that Markdown around it means what it means, and becomes its own block afterwards.

use cable_body::html;
use xxhash_rust::xxh3::xxh3_64;

/// The maximum length of one shortcode in bytes.
const MAX_BYTES: usize = 8 << 10;

/// The maximum number of shortcodes of one text, and of openings without an end. Each of the latter costs a search.
const MAX_SHORTCODES: usize = 10_000;
const MAX_UNCLOSED: usize = 1_000;

/// A shortcode of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shortcode {
    /// The source, as in the text.
    pub(super) source: String,
    pub(super) meaning: Meaning,
    /// Whether the shortcode fills its line.
    pub(super) own_line: bool,
}

/// The content that a shortcode becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Meaning {
    /// A text in its place: that of an escape, or none.
    Text(String),
    /// A URL or a part of one.
    Url(String),
    /// The page of a file.
    Reference(String),
    /// Content of another site at a URL.
    Embed(String),
    /// A picture, with its texts.
    Picture { src: String, alt: String, caption: String, credit: String, href: String },
    /// Program code, with its language.
    Code { text: String, language: String },
    /// The id of the block around it.
    Anchor(String),
    /// Unknown, with the kind for the report.
    Unknown(String),
}

/// A text with words in place of its shortcodes.
#[derive(Debug, Default)]
pub(super) struct Text {
    pub(super) text: String,
    pub(super) shortcodes: Vec<Shortcode>,
    /// The start of each word; the number of the shortcode and `z` follow.
    pub(super) mark: String,
}

impl Text {
    /// Returns the first word within a text: its start, its end, and the index of the shortcode.
    pub(super) fn find(&self, text: &str) -> Option<(usize, usize, usize)> {
        if self.shortcodes.is_empty() {
            return None;
        }
        let mut from = 0;
        while let Some(at) = text[from..].find(&self.mark).map(|at| at + from) {
            let number = at + self.mark.len();
            let digits = text[number..].bytes().take_while(u8::is_ascii_digit).count();
            let end = number + digits;
            if text[end..].starts_with('z')
                && let Some(index) =
                    text[number..end].parse().ok().filter(|index| *index < self.shortcodes.len())
            {
                return Some((at, end + 1, index));
            }
            from = number;
        }
        None
    }

    /// Returns the text with the given replacement for each shortcode.
    pub(super) fn replace(&self, text: &str, replacement: &mut dyn FnMut(usize) -> String) -> String {
        let (mut out, mut rest) = (String::with_capacity(text.len()), text);
        while let Some((start, end, index)) = self.find(rest) {
            out.push_str(&rest[..start]);
            out.push_str(&replacement(index));
            rest = &rest[end..];
        }
        out + rest
    }
}

/// Replaces the shortcodes of a text.
pub(super) fn extract(source: &str) -> Text {
    let mut scan = Scan { source, at: 0, out: Text::default(), unclosed: 0 };
    let mut seed = 0;
    scan.out.mark = loop {
        let mark = format!("q{:016x}z", xxh3_64(format!("{seed}{source}").as_bytes()));
        if !source.contains(&mark) {
            break mark;
        }
        seed += 1;
    };
    scan.run();
    scan.out
}

struct Scan<'a> {
    source: &'a str,
    /// The end of the part that has been copied.
    at: usize,
    out: Text,
    unclosed: usize,
}

/// The openings of shortcodes. The first one that matches counts.
const FORMS: [(&str, &str); 5] = [("{{<", ">}}"), ("{{%", "%}}"), ("{%", "%}"), ("{{", "}}"), ("{:", "}")];

impl Scan<'_> {
    fn run(&mut self) {
        let mut from = 0;
        while let Some(at) = self.source[from..].find('{').map(|at| at + from) {
            if self.out.shortcodes.len() >= MAX_SHORTCODES || self.unclosed >= MAX_UNCLOSED {
                break;
            }
            from = self.shortcode(at).unwrap_or(at + 1);
        }
        self.out.text.push_str(&self.source[self.at..]);
    }

    /// Replaces the shortcode at a position. Returns its end, or `None` if there is none.
    fn shortcode(&mut self, at: usize) -> Option<usize> {
        let rest = &self.source[at..];
        let Some((open, close)) = FORMS.iter().find(|(open, _)| rest.starts_with(open)) else {
            let end = at + heading_attributes(self.source, at)?;
            self.push(at, end, attributes(&self.source[at + 1..end - 1]));
            return Some(end);
        };
        let Some(length) = end_of(&rest[open.len()..], close) else {
            self.unclosed += 1;
            return None;
        };
        let end = at + open.len() + length + close.len();
        let inner = &rest[open.len()..open.len() + length];
        match *open {
            "{:" => {
                let is_list =
                    inner.starts_with(['.', '#', ':', ' ']) || inner.contains('=') || matches!(inner, "toc");
                if !is_list || inner.contains('\n') {
                    return None;
                }
                self.push(at, end, attributes(inner));
                Some(end)
            }
            "{{" => {
                if inner.contains("\n\n") {
                    return None;
                }
                self.push(at, end, output(inner));
                Some(end)
            }
            "{%" => Some(self.liquid(at, end, inner)),
            _ => Some(self.hugo(at, end, inner, open, close)),
        }
    }

    fn hugo(&mut self, at: usize, end: usize, inner: &str, open: &str, close: &str) -> usize {
        if let Some(literal) = inner.trim().strip_prefix("/*").and_then(|inner| inner.strip_suffix("*/")) {
            self.push(at, end, Meaning::Text(format!("{open}{literal}{close}")));
            return end;
        }
        let (name, arguments) = parse(inner.trim().trim_end_matches('/'));
        if matches!(name.as_str(), "highlight" | "code") {
            let ends = [format!("{open} /{name} {close}"), format!("{open}/{name}{close}")];
            if let Some((tag, after)) = self.until(end, &ends) {
                let text = self.source[end..tag].trim_matches('\n').to_owned();
                let language =
                    arguments.positional(0).or(arguments.get("lang")).unwrap_or_default().to_owned();
                self.push(at, after, Meaning::Code { text, language });
                return after;
            }
        }
        self.push(at, end, meaning(&name, &arguments));
        end
    }

    fn liquid(&mut self, at: usize, end: usize, inner: &str) -> usize {
        let inner = inner.trim_matches(|c: char| c == '-' || c.is_whitespace());
        let (name, arguments) = parse(inner);
        let ends: Vec<String> =
            ["{% end", "{%end", "{%- end", "{%-end"].iter().map(|open| format!("{open}{name}")).collect();
        if matches!(name.as_str(), "raw" | "comment" | "highlight")
            && let Some((tag, inner_end)) = self.until(end, &ends)
            && let Some(close) = end_of(&self.source[inner_end..], "%}")
        {
            let (start, end) = (end, inner_end + close + 2);
            match name.as_str() {
                "raw" => {
                    // The text between the tags is Markdown in which nothing is a shortcode.
                    self.push(at, start, Meaning::Text(String::new()));
                    self.push(tag, end, Meaning::Text(String::new()));
                }
                "comment" => self.push(at, end, Meaning::Text(String::new())),
                _ => {
                    let language = arguments.positional(0).unwrap_or_default().to_owned();
                    let text = self.source[start..tag].trim_matches('\n').to_owned();
                    self.push(at, end, Meaning::Code { text, language });
                }
            }
            return end;
        }
        self.push(at, end, meaning(&name, &arguments));
        end
    }

    /// Returns the position of the first of the ends, and the position after it.
    fn until(&mut self, from: usize, ends: &[String]) -> Option<(usize, usize)> {
        let rest = &self.source[from..];
        let found = ends.iter().filter_map(|end| Some((rest.find(end.as_str())?, end.len()))).min();
        if found.is_none() {
            self.unclosed += 1;
        }
        let (at, length) = found?;
        Some((from + at, from + at + length))
    }

    fn push(&mut self, start: usize, end: usize, meaning: Meaning) {
        let before = &self.source[..start];
        let own_line = before[before.rfind('\n').map_or(0, |at| at + 1)..]
            .trim_start_matches(['>', ' ', '\t'])
            .is_empty()
            && self.source[end..].lines().next().unwrap_or_default().trim().is_empty();
        let number = self.out.shortcodes.len();
        self.out.text.push_str(&self.source[self.at..start]);
        self.out.text.push_str(&format!("{}{number}z", self.out.mark));
        let source = self.source[start..end].to_owned();
        self.out.shortcodes.push(Shortcode { source, meaning, own_line });
        self.at = end;
    }
}

/// Returns the position of the closing delimiter outside quotation marks, or else the first one.
fn end_of(text: &str, close: &str) -> Option<usize> {
    let window = html::head(text, MAX_BYTES);
    let mut quote = None;
    for (at, c) in window.char_indices() {
        match quote {
            None if window[at..].starts_with(close) => return Some(at),
            None if matches!(c, '"' | '`') => quote = Some(c),
            Some(open) if c == open => quote = None,
            _ => {}
        }
    }
    window.find(close)
}

/// Returns the meaning of a list of attributes: `#id .class`.
fn attributes(list: &str) -> Meaning {
    let id = list.split_whitespace().find_map(|word| word.trim_start_matches(':').strip_prefix('#'));
    match id {
        Some(id) => Meaning::Anchor(id.split(['.', '#']).next().unwrap_or_default().to_owned()),
        None => Meaning::Text(String::new()),
    }
}

/// Returns the length of the attributes at the end of a heading: ` {#id .class}`.
fn heading_attributes(source: &str, at: usize) -> Option<usize> {
    let rest = &source[at..];
    let line = rest.lines().next()?;
    let before = &source[..at];
    let line_before = &before[before.rfind('\n').map_or(0, |at| at + 1)..];
    let is_list = line.starts_with("{#") || line.starts_with("{.");
    let end = line.find('}')? + 1;
    let is_at_end = line[end..].trim().is_empty();
    (is_list && is_at_end && line_before.starts_with('#') && line_before.ends_with(' ')).then_some(end)
}

/// The arguments of a shortcode.
#[derive(Debug, Default)]
struct Arguments(Vec<(String, String)>);

impl Arguments {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    fn positional(&self, index: usize) -> Option<&str> {
        self.0.iter().filter(|(name, _)| name.is_empty()).nth(index).map(|(_, value)| value.as_str())
    }

    fn any(&self, names: &[&str]) -> String {
        names.iter().find_map(|name| self.get(name)).unwrap_or_default().to_owned()
    }
}

/// Returns the name and the arguments of a shortcode: `figure src="a.jpg" "text"`.
fn parse(inner: &str) -> (String, Arguments) {
    let inner = inner.trim();
    let end = inner.find(|c: char| c.is_whitespace()).unwrap_or(inner.len());
    let (name, mut rest) = inner.split_at(end);
    let mut arguments = Arguments::default();
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
        if rest.is_empty() {
            break;
        }
        let is_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
        let length = rest.find(|c: char| !is_name(c)).unwrap_or(rest.len());
        let mut key = String::new();
        if length > 0
            && let Some(after) = rest[length..].strip_prefix(['=', ':'])
            && !after.starts_with("//")
        {
            key = rest[..length].to_lowercase();
            rest = after.trim_start();
        }
        let value;
        match rest.chars().next().filter(|c| matches!(c, '"' | '\'' | '`')) {
            Some(quote) => {
                let inner = &rest[1..];
                let end = inner.find(quote).unwrap_or(inner.len());
                value = &inner[..end];
                rest = inner.get(end + 1..).unwrap_or_default();
            }
            None => {
                let end = rest.find(|c: char| c.is_whitespace()).unwrap_or(rest.len());
                (value, rest) = rest.split_at(end);
            }
        }
        arguments.0.push((key, value.to_owned()));
    }
    (name.to_owned(), arguments)
}

/// Returns the meaning of an output of Liquid: a text with the filter of a URL, or the address of the site.
fn output(inner: &str) -> Meaning {
    let inner = inner.trim();
    let (value, filters) = inner.split_once('|').unwrap_or((inner, ""));
    let value = value.trim();
    let literal = ["\"", "'"].iter().find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote));
    let filter = filters.trim().split(['|', ':', ' ']).next().unwrap_or_default();
    match (literal, value) {
        (Some(literal), _) if matches!(filter, "url" | "relative_url" | "absolute_url" | "prepend") => {
            Meaning::Url(literal.to_owned())
        }
        (Some(literal), _) if filter.is_empty() => Meaning::Text(literal.to_owned()),
        (None, "site.baseurl" | "site.url" | "site.base_url") => Meaning::Url(String::new()),
        (Some(_), _) => Meaning::Unknown(format!("output with the filter {}", html::head(filter, 64))),
        _ => Meaning::Unknown("output".to_owned()),
    }
}

/// Returns the meaning of a shortcode by its name.
fn meaning(name: &str, arguments: &Arguments) -> Meaning {
    let first = arguments.positional(0).unwrap_or_default();
    let id = arguments.get("id").unwrap_or(first);
    let lower = name.to_ascii_lowercase();
    let embed = |url: String| Meaning::Embed(url);
    match lower.as_str() {
        "youtube" | "vimeo" | "tweet" | "twitter" | "x" | "instagram" | "embed" | "gist" if is_url(first) => {
            embed(first.to_owned())
        }
        "youtube" if is_token(id) => embed(format!("https://www.youtube.com/watch?v={id}")),
        "vimeo" | "vimeo_simple" if is_token(id) => embed(format!("https://vimeo.com/{id}")),
        "instagram" if is_token(id) => embed(format!("https://www.instagram.com/p/{id}/")),
        "tweet" | "twitter" | "x" | "twitter_simple" if is_token(id) => {
            let user = arguments.get("user").filter(|user| is_token(user)).unwrap_or("i");
            embed(format!("https://twitter.com/{user}/status/{id}"))
        }
        "gist" if first.split('/').all(is_token) && !first.is_empty() => {
            let id = arguments.positional(1).filter(|id| is_token(id));
            embed(format!(
                "https://gist.github.com/{first}{}",
                id.map(|id| format!("/{id}")).unwrap_or_default()
            ))
        }
        "ref" | "relref" | "post_url" | "link" => {
            Meaning::Reference(arguments.get("path").unwrap_or(first).to_owned())
        }
        name if name == "img" || ["figure", "image", "picture"].iter().any(|one| name.starts_with(one)) => {
            let named = arguments.any(&["src", "url", "path", "file", "link"]);
            let src = if named.is_empty() { first.to_owned() } else { named };
            if src.is_empty() {
                return Meaning::Unknown(format!("shortcode {}", html::head(name, 64)));
            }
            let alt = arguments.get("alt").or(arguments.positional(1)).unwrap_or_default().to_owned();
            let title = arguments.any(&["title"]);
            let caption = arguments.any(&["caption"]);
            let caption =
                [title, caption].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(" ");
            let href = if arguments.get("src").is_some() { arguments.any(&["link"]) } else { String::new() };
            let mut credit = arguments.any(&["attr", "credit"]);
            let mut caption = caption;
            if let Some(link) = arguments.get("attrlink").filter(|link| is_url(link) && !credit.is_empty()) {
                // Hugo writes the credit as a link at the end of the caption. A credit line has no links.
                let link = link.replace('"', "%22");
                caption = format!("{caption} <a href=\"{link}\">{}</a>", std::mem::take(&mut credit));
            }
            Meaning::Picture { src, alt, caption: caption.trim().to_owned(), credit, href }
        }
        _ => Meaning::Unknown(format!("shortcode {}", html::head(name.trim_start_matches('/'), 64))),
    }
}

fn is_url(text: &str) -> bool {
    text.starts_with("https://") || text.starts_with("http://")
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}
