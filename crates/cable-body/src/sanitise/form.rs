//! A check that HTML has the form that the sanitiser writes: only allowed elements and attributes, each element closed
//! where it was opened, every value in quotes, every `&`, `<` and `>` escaped.
//!
//! None of these elements changes how the HTML after it is parsed. HTML of this form means the same to every parser and
//! contains nothing active. The check takes one pass, without a parser.

use super::{ATTRIBUTES, FILE_SCHEMES, GLOBAL_ATTRIBUTES, LINK_SCHEMES, TAGS, check_scheme, clean_char};

/// Elements without an end tag.
const VOID_ELEMENTS: [&str; 6] = ["br", "col", "hr", "img", "source", "track"];

/// The maximum nesting depth. A parser searches the open elements for each tag.
pub(super) const MAX_DEPTH: usize = 100;

/// The maximum number of attributes of an element: those of a `video` with the global ones.
const MAX_ATTRIBUTES: usize = 9;

/// Returns whether the HTML has this form and is no deeper than [`MAX_DEPTH`].
pub(super) fn is_plain(html: &str) -> bool {
    let mut open = Vec::new();
    let mut rest = html;
    while let Some(at) = rest.find('<') {
        let Some(after) = is_text(&rest[..at]).then(|| &rest[at + 1..]) else { return false };
        let read = match after.strip_prefix('/') {
            Some(after) => end(after, &mut open),
            None => start(after, &mut open),
        };
        let Some(after) = read.filter(|_| open.len() <= MAX_DEPTH) else { return false };
        rest = after;
    }
    is_text(rest) && open.is_empty()
}

/// Reads the rest of an end tag.
fn end<'a>(html: &'a str, open: &mut Vec<&'a str>) -> Option<&'a str> {
    let (name, rest) = html.split_once('>')?;
    (open.pop() == Some(name)).then_some(rest)
}

/// Reads the rest of a start tag.
fn start<'a>(html: &'a str, open: &mut Vec<&'a str>) -> Option<&'a str> {
    let (name, mut rest) = html.split_at(html.find([' ', '>'])?);
    if !TAGS.contains(&name) {
        return None;
    }
    let own = ATTRIBUTES.iter().find(|(tag, _)| *tag == name).map_or(&[][..], |(_, names)| names);
    let mut seen = [""; MAX_ATTRIBUTES];
    let mut count = 0;
    while let Some(attribute) = rest.strip_prefix(' ') {
        let (attribute, value) = attribute.split_once("=\"")?;
        let (value, after) = value.split_once('"')?;
        let known = own.contains(&attribute) || GLOBAL_ATTRIBUTES.contains(&attribute);
        if !known || seen.contains(&attribute) || !is_value(attribute, value) {
            return None;
        }
        *seen.get_mut(count)? = attribute;
        count += 1;
        rest = after;
    }
    if !VOID_ELEMENTS.contains(&name) {
        open.push(name);
    }
    rest.strip_prefix('>')
}

fn is_value(attribute: &str, value: &str) -> bool {
    let schemes = match attribute {
        "href" => &LINK_SCHEMES[..],
        "src" | "poster" => &FILE_SCHEMES[..],
        _ => return is_escaped(value, true),
    };
    let resolved = value.replace("&quot;", "\"").replace("&nbsp;", "\u{a0}").replace("&amp;", "&");
    is_escaped(value, true) && check_scheme(&resolved, schemes) == Some(&*resolved)
}

fn is_text(text: &str) -> bool {
    is_escaped(text, false)
}

/// Returns whether the text is escaped in the sanitiser's way and [`clean_char`] leaves each character unchanged.
fn is_escaped(text: &str, in_value: bool) -> bool {
    const KNOWN: [&str; 4] = ["amp;", "lt;", "gt;", "nbsp;"];
    let escaped = |rest: &str| {
        KNOWN.iter().any(|name| rest.starts_with(name)) || (in_value && rest.starts_with("quot;"))
    };
    text.chars().all(|c| !matches!(c, '<' | '>' | '\u{a0}') && clean_char(c) == Some(c))
        && text.split('&').skip(1).all(escaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn html_of_any_other_form_is_not_plain() {
        for html in [
            "",
            "a &amp; b",
            "<p title=\"a &gt; b\">c<br>d</p>",
            "<a href=\"https://example.org/?a=1&amp;b\" lang=\"en\"><b>x</b></a>",
            "<video controls=\"\" src=\"/a\"><source src=\"/b\"></video>",
            "<video aria-label=\"a\" controls=\"\" height=\"1\" poster=\"/p\" src=\"/a\" width=\"1\" dir=\"ltr\" lang=\"en\" \
             title=\"t\"></video>",
        ] {
            assert!(is_plain(html), "{html}");
        }
        for html in [
            "<p>",
            "</p>",
            "<p></b></p>",
            "<p><b></p></b>",
            "<P></P>",
            "<p ></p>",
            "<p title=a></p>",
            "<p title='a'></p>",
            "<p title=\"a\" title=\"b\"></p>",
            "<p title=\"<b>\"></p>",
            "<p onclick=\"x\"></p>",
            "<p href=\"/a\"></p>",
            "<br></br>",
            "<script></script>",
            "<svg></svg>",
            "<!-- a -->",
            "<![CDATA[a]]>",
            "<a href=\"javascript:x\">a</a>",
            "<a href=\"&#106;avascript:x\">a</a>",
            "<a href=\"java&nbsp;script:x\">a</a>",
            "<img src=\"data:x\">",
            "<a href=\"\\\\evil.example\">a</a>",
            "a & b",
            "a &eacute; b",
            "a &quot; b",
            "a\u{a0}b",
            "a > b",
            "a\u{1}b",
            "<p",
            "<p title=\"",
        ] {
            assert!(!is_plain(html), "{html}");
        }
        let nested = |depth: usize| "<div>".repeat(depth) + &"</div>".repeat(depth);
        assert!(is_plain(&nested(MAX_DEPTH)) && !is_plain(&nested(MAX_DEPTH + 1)));
    }
}
