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
    Picture(Picture),
    /// Program code, with its language.
    Code { text: String, language: String },
    /// The id of the block around it.
    Anchor(String),
    /// Unknown, with the kind for the report.
    Unknown(String),
}

/// A picture, with its texts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Picture {
    pub(super) src: String,
    pub(super) alt: String,
    /// A plain text, which comes before the caption.
    pub(super) title: String,
    /// Markdown.
    pub(super) caption: String,
    /// Markdown.
    pub(super) credit: String,
    /// The target of the credit; empty if it is no link.
    pub(super) credit_link: String,
    /// The target of the picture; empty if it is no link.
    pub(super) href: String,
    pub(super) width: Option<i32>,
    pub(super) height: Option<i32>,
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
                if inner.strip_prefix(':').is_some_and(|inner| self.extension(at, end, inner)) {
                    return Some(self.at);
                }
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
        if let Some(name) = inner.trim().strip_prefix('/') {
            self.push(at, end, unknown(name.trim()));
            return end;
        }
        let (name, arguments) = parse(inner.trim().trim_end_matches('/'));
        if matches!(name.as_str(), "highlight" | "code")
            && let Some((tag, after)) = self.until(end, [open, "/", &name, close])
        {
            let text = self.source[end..tag].trim_matches('\n').to_owned();
            let language = arguments.positional(0).or(arguments.get("lang")).unwrap_or_default().to_owned();
            self.push(at, after, Meaning::Code { text, language });
            return after;
        }
        self.push(at, end, meaning(&name, &arguments));
        end
    }

    fn liquid(&mut self, at: usize, end: usize, inner: &str) -> usize {
        let inner = inner.trim_matches(|c: char| c == '-' || c.is_whitespace());
        let (name, arguments) = parse(inner);
        if matches!(name.as_str(), "raw" | "comment" | "highlight")
            && let Some((tag, after)) = self.until(end, ["{%", "end", &name, "%}"])
        {
            let (start, end) = (end, after);
            match name.as_str() {
                "raw" => {
                    // The text between the tags is Markdown in which nothing is a shortcode.
                    self.hide(at, start);
                    self.hide(tag, end);
                }
                "comment" => self.hide(at, end),
                _ => {
                    let language = arguments.positional(0).unwrap_or_default().to_owned();
                    let text = self.source[start..tag].trim_matches('\n').to_owned();
                    self.push(at, end, Meaning::Code { text, language });
                }
            }
            return self.at;
        }
        self.push(at, end, meaning(&name, &arguments));
        end
    }

    /// Replaces an extension of kramdown: `{::comment}`, `{::nomarkdown}` or `{::options /}`. Returns false if it is none.
    fn extension(&mut self, at: usize, end: usize, inner: &str) -> bool {
        let inner = inner.trim();
        let is_closed = inner.ends_with('/');
        let (name, arguments) = parse(inner.trim_end_matches('/'));
        if !matches!(name.as_str(), "comment" | "nomarkdown" | "options") {
            return false;
        }
        if is_closed {
            self.hide(at, end);
            return true;
        }
        let Some((tag, after)) = self.until(end, ["{:", "/", &name, "}"]) else {
            self.hide(at, end);
            return true;
        };
        // Text for LaTeX is no part of the page.
        let is_shown = name == "nomarkdown" && arguments.get("type").is_none_or(|kind| kind.contains("html"));
        if is_shown {
            self.hide(at, end);
            self.hide(tag, after);
        } else {
            self.hide(at, after);
        }
        true
    }

    /// Returns the position of the closing tag, and the position after it: of `{{< / name >}}` for its opening, the sign
    /// or word before the name, the name and its closing. The closing tag of kramdown can lack the name.
    fn until(&mut self, from: usize, [open, sign, name, close]: [&str; 4]) -> Option<(usize, usize)> {
        let rest = &self.source[from..];
        let is_space = |c: char| c.is_whitespace() || (open == "{%" && c == '-');
        let found = rest.match_indices(open).find_map(|(at, _)| {
            let after = rest[at + open.len()..].trim_start_matches(is_space).strip_prefix(sign)?;
            let after = after.trim_start_matches(is_space);
            let after = match after.strip_prefix(name) {
                None if open == "{:" => after,
                other => other?,
            };
            let after = after.trim_start_matches(is_space).strip_prefix(close)?;
            Some((from + at, self.source.len() - after.len()))
        });
        if found.is_none() {
            self.unclosed += 1;
        }
        found
    }

    /// Removes a part of the text, with the space after it if there is one before it.
    fn hide(&mut self, start: usize, end: usize) {
        let is_doubled = self.source[..start].ends_with(' ') && self.source[end..].starts_with(' ');
        self.push(start, end + usize::from(is_doubled), Meaning::Text(String::new()));
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
    let mut is_escaped = false;
    for (at, c) in window.char_indices() {
        if std::mem::take(&mut is_escaped) {
            continue;
        }
        match quote {
            Some('"') if c == '\\' => is_escaped = true,
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
    let below = rest.lines().nth(1).map_or("", str::trim);
    let is_underlined = !below.is_empty() && ["=", "-"].iter().any(|sign| below.replace(sign, "").is_empty());
    let is_heading = line_before.starts_with('#') || is_underlined;
    (is_list && is_at_end && is_heading && line_before.ends_with(' ')).then_some(end)
}

/// An argument of a shortcode; without a name, it is a positional one.
#[derive(Debug, Default)]
struct Argument {
    name: String,
    value: String,
    is_quoted: bool,
}

/// The arguments of a shortcode.
#[derive(Debug, Default)]
struct Arguments(Vec<Argument>);

impl Arguments {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|argument| argument.name == name).map(|argument| argument.value.as_str())
    }

    fn positionals(&self) -> impl Iterator<Item = &Argument> {
        self.0.iter().filter(|argument| argument.name.is_empty())
    }

    fn positional(&self, index: usize) -> Option<&str> {
        self.positionals().nth(index).map(|argument| argument.value.as_str())
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
        let mut name = String::new();
        if length > 0
            && let Some(after) = rest[length..].strip_prefix(['=', ':'])
            && !after.starts_with("//")
        {
            name = rest[..length].to_lowercase();
            rest = after.trim_start();
        }
        let (value, is_quoted);
        (value, rest, is_quoted) = argument(rest);
        arguments.0.push(Argument { name, value, is_quoted });
    }
    (name.to_owned(), arguments)
}

/// Returns the value at the start of a text, the rest of the text, and whether the value is in quotation marks. Within
/// them a backslash escapes the mark, but not between backticks.
fn argument(text: &str) -> (String, &str, bool) {
    let Some(quote) = text.chars().next().filter(|c| matches!(c, '"' | '\'' | '`')) else {
        let (value, rest) = text.split_at(text.find(char::is_whitespace).unwrap_or(text.len()));
        return (value.to_owned(), rest, false);
    };
    let (mut value, mut rest) = (String::new(), &text[1..]);
    while let Some((before, after)) = rest.split_once(quote) {
        rest = after;
        match before.strip_suffix('\\').filter(|_| quote != '`' && after.contains(quote)) {
            Some(before) => {
                value.push_str(before);
                value.push(quote);
            }
            None => return (value + before, rest, true),
        }
    }
    (value + rest, "", true)
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
            picture(name, arguments).map_or_else(|| unknown(name), Meaning::Picture)
        }
        _ => unknown(name),
    }
}

fn unknown(name: &str) -> Meaning {
    Meaning::Unknown(format!("shortcode {}", html::head(name, 64)))
}

/// Returns the picture of a shortcode. `None` if it names no file.
fn picture(name: &str, arguments: &Arguments) -> Option<Picture> {
    let named = arguments.any(&["src", "url", "path", "file", "link"]);
    let mut picture = if named.is_empty() {
        positional_picture(name, arguments)
    } else {
        let alt = arguments.positional(1).unwrap_or_default().to_owned();
        Picture { src: named, alt, ..Picture::default() }
    };
    if picture.src.is_empty() {
        return None;
    }
    picture.alt = arguments.get("alt").map_or(picture.alt, str::to_owned);
    picture.title = arguments.get("title").map_or(picture.title, str::to_owned);
    picture.caption = arguments.any(&["caption"]);
    picture.credit = arguments.any(&["attr", "credit"]);
    picture.credit_link =
        arguments.get("attrlink").filter(|link| is_url(link)).unwrap_or_default().to_owned();
    if arguments.get("src").is_some() {
        picture.href = arguments.any(&["link"]);
    }
    Some(picture)
}

/// Returns the picture that arguments without names state: `left /quay.jpg 300 200 "The title" "The alternative text"`,
/// as Octopress and Jekyll have it. The words before the file are classes.
fn positional_picture(name: &str, arguments: &Arguments) -> Picture {
    let values: Vec<&Argument> = arguments.positionals().collect();
    let is_picture = |value: &str| {
        html::rendition(value, None, None).is_some_and(|file| file.r#type.starts_with("image/"))
    };
    let at = values
        .iter()
        .position(|argument| is_picture(&argument.value))
        .or_else(|| values.iter().position(|argument| argument.value.contains('/')))
        .unwrap_or_default();
    let Some((src, rest)) = values.get(at..).and_then(<[_]>::split_first) else { return Picture::default() };
    let is_number = |argument: &Argument| !argument.is_quoted && argument.value.parse::<u16>().is_ok();
    let sizes = rest.iter().take(2).take_while(|argument| is_number(argument)).count();
    let (sizes, texts) = rest.split_at(sizes);
    let size = |index: usize| sizes.get(index)?.value.parse().ok();
    let (alt, title) = alternative_and_title(name, texts);
    Picture { src: src.value.clone(), alt, title, width: size(0), height: size(1), ..Picture::default() }
}

/// Returns the alternative text and the title of a picture. Of two texts, the tag `img` has the title first.
fn alternative_and_title(name: &str, arguments: &[&Argument]) -> (String, String) {
    let mut texts: Vec<String> = Vec::new();
    let mut is_open = false;
    // The picture tag of Jekyll has options, such as `--alt`.
    let is_text = |argument: &&&Argument| argument.is_quoted || !argument.value.starts_with("--");
    for argument in arguments.iter().filter(is_text) {
        match texts.last_mut().filter(|_| is_open && !argument.is_quoted) {
            Some(text) => *text = format!("{text} {}", argument.value),
            None => texts.push(argument.value.clone()),
        }
        is_open = !argument.is_quoted;
    }
    let rest = texts.split_off(texts.len().min(1)).join(" ");
    let first = texts.pop().unwrap_or_default();
    if name == "img" && !rest.is_empty() { (rest, first) } else { (first, rest) }
}

fn is_url(text: &str) -> bool {
    text.starts_with("https://") || text.starts_with("http://")
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}
