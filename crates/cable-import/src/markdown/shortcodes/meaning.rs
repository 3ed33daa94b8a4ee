//! The content that a shortcode becomes, by its name and its arguments.

use cable_body::html;

use super::arguments::{Argument, Arguments};

/// The content that a shortcode becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::markdown) enum Meaning {
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
pub(in crate::markdown) struct Picture {
    pub(in crate::markdown) src: String,
    pub(in crate::markdown) alt: String,
    /// A plain text, which comes before the caption.
    pub(in crate::markdown) title: String,
    /// Markdown.
    pub(in crate::markdown) caption: String,
    /// Markdown.
    pub(in crate::markdown) credit: String,
    /// The target of the credit; empty if it is no link.
    pub(in crate::markdown) credit_link: String,
    /// The target of the picture; empty if it is no link.
    pub(in crate::markdown) href: String,
    pub(in crate::markdown) width: Option<i32>,
    pub(in crate::markdown) height: Option<i32>,
}

/// Returns the meaning of an output of Liquid: a text with the filter of a URL, or the address of the site.
pub(super) fn output(inner: &str) -> Meaning {
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
pub(super) fn meaning(name: &str, arguments: &Arguments) -> Meaning {
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

pub(super) fn unknown(name: &str) -> Meaning {
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
