//! The HTML that may be stored and served: an allow-list for article text, without script, style, frames or forms.
//! The rules for characters and for the addresses of links and files are here, too.
//!
//! This is the only module that uses the sanitising library. Invariant: [`sanitise`] returns its own output unchanged,
//! so that a comparison with its output shows whether HTML is safe.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    sync::LazyLock,
};

use ammonia::{Builder, UrlRelative};

use cable_proto::{limit, text::is_forbidden};

mod form;
pub mod work;

use work::Bounds;

const TAGS: [&str; 74] = [
    "a",
    "abbr",
    "address",
    "article",
    "aside",
    "audio",
    "b",
    "bdi",
    "bdo",
    "blockquote",
    "br",
    "caption",
    "cite",
    "code",
    "col",
    "colgroup",
    "data",
    "dd",
    "del",
    "details",
    "dfn",
    "div",
    "dl",
    "dt",
    "em",
    "figcaption",
    "figure",
    "footer",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "header",
    "hr",
    "i",
    "img",
    "ins",
    "kbd",
    "li",
    "main",
    "mark",
    "nav",
    "ol",
    "p",
    "pre",
    "q",
    "rp",
    "rt",
    "ruby",
    "s",
    "samp",
    "section",
    "small",
    "source",
    "span",
    "strong",
    "sub",
    "summary",
    "sup",
    "table",
    "tbody",
    "td",
    "tfoot",
    "th",
    "thead",
    "time",
    "tr",
    "track",
    "u",
    "ul",
    "var",
    "video",
];

/// Elements that are removed with their content: the content is not text of the article, or only some parsers read it
/// as markup.
const DROPPED_WITH_CONTENT: [&str; 13] = [
    "iframe",
    "math",
    "noembed",
    "noframes",
    "noscript",
    "plaintext",
    "script",
    "select",
    "style",
    "svg",
    "template",
    "textarea",
    "title",
];

const ATTRIBUTES: [(&str, &[&str]); 19] = [
    ("a", &["href"]),
    ("audio", &["aria-label", "controls", "src"]),
    ("col", &["span"]),
    ("colgroup", &["span"]),
    ("data", &["value"]),
    ("del", &["datetime"]),
    ("details", &["open"]),
    ("img", &["alt", "height", "src", "width"]),
    ("ins", &["datetime"]),
    ("li", &["value"]),
    ("ol", &["reversed", "start"]),
    ("source", &["src", "type"]),
    ("td", &["colspan", "rowspan"]),
    ("th", &["abbr", "colspan", "rowspan", "scope"]),
    ("time", &["datetime"]),
    ("track", &["kind", "label", "src", "srclang"]),
    ("bdo", &["dir"]),
    ("ul", &[]),
    ("video", &["aria-label", "controls", "height", "poster", "src", "width"]),
];

const GLOBAL_ATTRIBUTES: [&str; 3] = ["dir", "lang", "title"];

const LINK_SCHEMES: [&str; 4] = ["http", "https", "mailto", "tel"];
const FILE_SCHEMES: [&str; 2] = ["http", "https"];

/// The maximum number of passes. HTML is cleaned until cleaning no longer changes it: the parser repairs its input,
/// and a repair can require another one. HTML that still changes after the last pass is shown as its source.
const MAX_PASSES: usize = 4;

/// The bounds on the cost of parsing one piece of HTML: those of a raw_html block. The maximum number of steps takes
/// about 20 ms; a table of 2,000 cells takes a tenth of that.
const HTML_BOUNDS: Bounds = Bounds {
    bytes: limit::RAW_HTML.maximum as usize,
    tags: limit::RAW_HTML_TAGS.maximum as usize,
    attributes: 50,
    open: 256,
    steps: limit::RAW_HTML_STEPS.maximum as usize,
};

static CLEANER: LazyLock<Builder<'static>> = LazyLock::new(|| {
    let mut cleaner = Builder::empty();
    cleaner
        .tags(HashSet::from(TAGS))
        .clean_content_tags(HashSet::from(DROPPED_WITH_CONTENT))
        .tag_attributes(HashMap::from(ATTRIBUTES.map(|(tag, names)| (tag, names.iter().copied().collect()))))
        .generic_attributes(HashSet::from(GLOBAL_ATTRIBUTES))
        .url_schemes(HashSet::from(LINK_SCHEMES))
        .url_relative(UrlRelative::PassThrough)
        .link_rel(None)
        .attribute_filter(|_, name, value| match name {
            "href" => link_target(value).map(Cow::Borrowed),
            "src" | "poster" => file_address(value).map(Cow::Borrowed),
            _ => Some(Cow::Borrowed(value)),
        });
    cleaner
});

/// Returns whether the sanitiser allows an element, and an attribute on it.
pub(crate) fn allows(tag: &str, attribute: Option<&str>) -> bool {
    let own = ATTRIBUTES.iter().find(|(other, _)| *other == tag).map_or(&[][..], |(_, names)| names);
    TAGS.contains(&tag)
        && attribute.is_none_or(|name| own.contains(&name) || GLOBAL_ATTRIBUTES.contains(&name))
}

/// Returns the HTML without the parts that may not be stored. Its output passes through it unchanged. HTML that exceeds
/// a bound on its cost, its attributes or its depth, or that still changes after the last pass, is shown as its source.
pub fn sanitise(html: &str) -> String {
    let mut before = tidy(html);
    if !before.contains('<') && form::is_plain(&before) {
        return before;
    }
    for _ in 0..MAX_PASSES {
        if work::steps(&before, HTML_BOUNDS).is_none() {
            break;
        }
        let after = CLEANER.clean(&before).to_string();
        if after == before && form::is_plain(&after) {
            return after;
        }
        before = tidy(&after);
    }
    escape(&before)
}

/// The reason why HTML may not be stored as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfit {
    /// [`sanitise`] would change the HTML.
    Changed,
    /// The HTML would occupy a parser for too long.
    Costly,
}

/// Checks that [`sanitise`] would leave the HTML unchanged, and returns the steps that it takes to parse. The form is
/// checked first, so a parser runs only on HTML that is nearly valid.
///
/// # Errors
/// Fails if the HTML may not be stored.
pub fn check(html: &str) -> Result<usize, Unfit> {
    if !form::is_plain(html) {
        return Err(Unfit::Changed);
    }
    let steps = work::steps(html, HTML_BOUNDS).ok_or(Unfit::Costly)?;
    if CLEANER.clean(html).to_string() == html { Ok(steps) } else { Err(Unfit::Changed) }
}

/// Returns stored HTML in the form in which it may be shown. HTML that was checked has a harmless form, which is
/// recognised without a parser.
pub fn safe_html(html: &str) -> Cow<'_, str> {
    if form::is_plain(html) { Cow::Borrowed(html) } else { Cow::Owned(sanitise(html)) }
}

/// Returns the number of start tags in HTML, including text that could be one.
pub use work::tags;

/// Returns the replacement for a character. Control characters have no meaning in text, and HTML forbids most of them.
pub fn clean_char(c: char) -> Option<char> {
    match c {
        '\n' | '\t' => Some(c),
        c if !c.is_control() => Some(c),
        c if c.is_whitespace() => Some(' '),
        _ => None,
    }
}

/// Returns the HTML with each character cleaned by [`clean_char`], without leading byte order marks. The parser drops
/// one of them per pass, so several would need as many passes.
fn tidy(html: &str) -> String {
    html.chars().filter_map(clean_char).skip_while(|&c| c == '\u{feff}').collect()
}

/// Returns the text of HTML that [`sanitise`] returned. White space is unchanged, and each tag of an element that is
/// not part of a line becomes a line feed. Do not use it for other HTML.
pub fn text_of(sanitised: &str) -> String {
    let mut text = String::with_capacity(sanitised.len());
    let mut rest = sanitised;
    while let Some(at) = rest.find(['<', '&']) {
        text.push_str(&rest[..at]);
        rest = &rest[at..];
        let length = if rest.starts_with('<') { tag(rest, &mut text) } else { entity(rest, &mut text) };
        rest = &rest[length..];
    }
    text.push_str(rest);
    text
}

/// Returns the URL of a link if it is relative or has a scheme that links may have.
pub fn link_target(url: &str) -> Option<&str> {
    check_scheme(url, &LINK_SCHEMES)
}

/// Returns the URL of a file if it is relative, http or https.
pub fn file_address(url: &str) -> Option<&str> {
    check_scheme(url, &FILE_SCHEMES)
}

/// Returns whether a value has a scheme that is unsafe in a link: it can run code or open local content. Browsers
/// remove tabs and line breaks from a scheme; here, all characters but visible ASCII are ignored.
pub fn is_script_url(value: &str) -> bool {
    const SCHEMES: [&str; 11] = [
        "javascript",
        "vbscript",
        "livescript",
        "mocha",
        "data",
        "blob",
        "file",
        "filesystem",
        "about",
        "jar",
        "view-source",
    ];
    let Some((scheme, _)) = value.split_once(':') else { return false };
    let scheme: String = scheme.chars().filter(char::is_ascii_graphic).collect();
    SCHEMES.iter().any(|other| scheme.eq_ignore_ascii_case(other))
}

/// Returns the trimmed URL if it is relative or has one of the schemes. Browsers remove tabs and line breaks within a
/// URL, so control characters are rejected, and white space around it, so that is removed before the check. Browsers
/// read a backslash as a slash, so a URL with a backslash can lead to another host; and an http or https URL without
/// `//` can lead to the page's own host. Editors write neither, so both are rejected.
fn check_scheme<'a>(url: &'a str, schemes: &[&str]) -> Option<&'a str> {
    let url = url.trim();
    if url.is_empty() || url.contains(|c: char| c == '\\' || c.is_control() || is_forbidden(c)) {
        return None;
    }
    let Some(at) = url.find([':', '/', '?', '#']).filter(|&at| url[at..].starts_with(':')) else {
        return Some(url);
    };
    let (scheme, rest) = (&url[..at], &url[at + 1..]);
    let is = |other: &str| scheme.eq_ignore_ascii_case(other);
    let names_a_host = rest.strip_prefix("//").is_some_and(|host| !host.is_empty() && !host.starts_with('/'));
    let is_complete = names_a_host || !FILE_SCHEMES.into_iter().any(is);
    (is_complete && schemes.iter().any(|other| is(other))).then_some(url)
}

/// Returns HTML that shows the source as text, which no parser changes.
fn escape(html: &str) -> String {
    let mut out = String::with_capacity(html.len() + html.len() / 4);
    for c in tidy(html).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\u{a0}' => out.push_str("&nbsp;"),
            c => out.push(c),
        }
    }
    out
}

/// Returns the length of the tag at the start. Appends a line feed for a tag that is not inline.
fn tag(html: &str, text: &mut String) -> usize {
    let mut quoted = false;
    let end = html.find(|c| {
        quoted ^= c == '"';
        c == '>' && !quoted
    });
    let inside = &html[1..end.unwrap_or(html.len())];
    let name = inside.trim_start_matches('/').split(|c: char| !c.is_ascii_alphanumeric()).next();
    if !name.is_some_and(is_inline_element) {
        text.push('\n');
    }
    end.map_or(html.len(), |end| end + 1)
}

fn is_inline_element(name: &str) -> bool {
    const NAMES: [&str; 28] = [
        "a", "abbr", "b", "bdi", "bdo", "cite", "code", "data", "del", "dfn", "em", "i", "img", "ins", "kbd",
        "mark", "q", "s", "samp", "small", "span", "strong", "sub", "sup", "time", "u", "var", "rp",
    ];
    NAMES.contains(&name)
}

/// Returns the length of the reference at the start, and appends its character. In text, the serialiser writes these
/// four and no others.
fn entity(html: &str, text: &mut String) -> usize {
    const KNOWN: [(&str, char); 4] = [("&amp;", '&'), ("&lt;", '<'), ("&gt;", '>'), ("&nbsp;", '\u{a0}')];
    let known = KNOWN.iter().find(|(name, _)| html.starts_with(name));
    let &(name, c) = known.unwrap_or(&("&", '&'));
    text.push(c);
    name.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn article_markup_is_unchanged() {
        for html in [
            "<p>A <a href=\"https://example.org/?a=1&amp;b=2\" title=\"t\">link</a></p>",
            "<figure><img src=\"/a.jpg\" alt=\"a\"><figcaption>b</figcaption></figure>",
            "<table><tbody><tr><td colspan=\"2\">a</td></tr></tbody></table>",
            "<video src=\"https://example.org/v.mp4\" controls=\"\"></video>",
        ] {
            assert_eq!(sanitise(html), html);
        }
    }

    #[test]
    fn active_content_is_dropped() {
        for (html, expected) in [
            ("<script>alert(1)</script>a", "a"),
            ("<style>p{}</style>a", "a"),
            ("<p onclick=\"x()\" style=\"color:red\" class=\"c\" id=\"i\">a</p>", "<p>a</p>"),
            ("<a href=\" JaVa\tScRiPt:alert(1)\">a</a>", "<a>a</a>"),
            ("<a href=\"&#106;avascript:alert(1)\">a</a>", "<a>a</a>"),
            ("<iframe src=\"https://example.org\">a</iframe>b", "b"),
            ("<form action=\"/x\"><input name=\"a\">b</form>", "b"),
            ("<img src=\"data:image/png;base64,AA==\" alt=\"a\">", "<img alt=\"a\">"),
            ("<video src=\"mailto:a@example.org\"></video>", "<video></video>"),
            ("<svg><a href=\"javascript:x\">a</a></svg>b<!-- c -->", "b"),
        ] {
            assert_eq!(sanitise(html), expected, "{html}");
        }
    }

    #[test]
    fn text_separates_blocks_and_resolves_references() {
        let html = sanitise("<p title='a > b'>1 &lt; 2 &amp; <b>x</b>y<br>z</p><ul><li>a<li>b</ul>c&eacute;");
        let words: Vec<_> = text_of(&html).split_whitespace().map(str::to_owned).collect();
        assert_eq!(words, ["1", "<", "2", "&", "xy", "z", "a", "b", "c\u{e9}"]);
    }

    #[test]
    fn only_harmless_schemes_pass() {
        for url in [
            "https://example.org",
            "HTTP://example.org",
            "//example.org/a",
            "mailto:a@b",
            "tel:1",
            "/a:b",
            "a?b:c",
            "#a:b",
            " /a ",
        ] {
            assert_eq!(link_target(url), Some(url.trim()), "{url:?}");
        }
        for url in [
            "javascript:x",
            " JavaScript:x",
            "java\tscript:x",
            "\u{1}javascript:x",
            "java\u{200b}script:x",
            "data:a",
            "",
            "x y:z",
            "\\\\evil.example",
            "/\\evil.example",
            "http:javascript:x",
            "http:a",
            "https:/a",
            "https:///a",
            "https://",
        ] {
            assert_eq!(link_target(url), None, "{url:?}");
        }
        assert_eq!(file_address("mailto:a@b"), None);
    }

    #[test]
    fn leading_byte_order_marks_are_all_removed() {
        for html in ["\u{feff}".repeat(9) + "a", "<x>".to_owned() + &"\u{feff}".repeat(9) + "a"] {
            assert_eq!(sanitise(&html), "a");
        }
    }

    #[test]
    fn costly_html_is_shown_as_its_source() {
        for html in ["<div>", "<div title='</div>'>", "<div a=b\" title=\">\"></div>", "<div><!--</div>-->"] {
            let many = html.repeat(HTML_BOUNDS.tags + 1);
            assert!(sanitise(&many).starts_with("&lt;div"), "{html}");
            assert!(sanitise(&sanitise(&many)) == sanitise(&many), "{html}");
        }
        let doubled = "<b><p>".repeat(HTML_BOUNDS.tags / 2);
        assert_eq!(sanitise(&sanitise(&doubled)), sanitise(&doubled));
        let table = "<tr><td colspan=\"2\">a<br>b</td></tr>".repeat(HTML_BOUNDS.tags / 3 - 1);
        let table = format!("<table><tbody>{table}</tbody></table>");
        assert_eq!(sanitise(&table), table);
        assert!(check(&table).is_ok());
    }

    #[test]
    fn paragraphs_that_reopen_many_marks_are_refused() {
        let marks: String = (0..90).map(|i| format!("<b title=\"{i}\">")).collect();
        let html = format!("<p>{marks}{}{}</p>", "<p>x</p>".repeat(1_900), "</b>".repeat(90));
        assert!(form::is_plain(&html));
        assert_eq!(check(&html), Err(Unfit::Costly));
        assert!(sanitise(&html).starts_with("&lt;p&gt;"));
    }

    #[test]
    fn checked_html_is_shown_unchanged() {
        let html = "<p>a &amp; <b>b</b></p>";
        assert!(check(html).is_ok());
        assert!(matches!(safe_html(html), Cow::Borrowed(_)));
        assert_eq!(safe_html("<p onclick=\"x\">a</p>"), "<p>a</p>");
        assert_eq!(check("<p onclick=\"x\">a</p>"), Err(Unfit::Changed));
        assert_eq!(check("<p><p>a</p></p>"), Err(Unfit::Changed));
    }

    #[test]
    fn escaped_html_is_not_changed_again() {
        let text = escape("\0<p>a\r\n&nbsp;\u{a0}</p>");
        assert_eq!(sanitise(&text), text);
    }

    fn markup() -> impl Strategy<Value = String> {
        const PARTS: &[&str] = &[
            "<p>",
            "</p>",
            "<a href='x'>",
            "</a>",
            "<b>",
            "</b>",
            "<i>",
            "</i>",
            "<table>",
            "</table>",
            "<tr>",
            "<td>",
            "</td>",
            "<caption>",
            "<select>",
            "<option>",
            "<pre>\n",
            "\n",
            "</pre>",
            "<svg>",
            "<math>",
            "<mtext>",
            "<li>",
            "<ul>",
            "</ul>",
            "<dd>",
            "<script>",
            "</script>",
            "<style>",
            "<template>",
            "<form>",
            "</form>",
            "<button>",
            "<font>",
            "<nobr>",
            "<!--",
            "-->",
            "<![CDATA[",
            "&amp;lt;",
            "&",
            "\0",
            "\r",
            "\u{feff}",
            "\u{a0}",
            "<ruby>",
            "<rt>",
            "<rp>",
            "<h1>",
            "<h2>",
            "<textarea>",
            "<title>",
            "<noscript>",
            "<iframe>",
            "<br>",
            "</br>",
            "x",
            " ",
            "<img src=x onerror=y>",
            "<video>",
            "<source src=a>",
            "<colgroup>",
            "<col>",
            "<hr>",
            "<body>",
            "<frameset>",
        ];
        proptest::collection::vec(proptest::sample::select(PARTS), 0..24).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn sanitising_is_idempotent(html in prop_oneof![markup(), ".{0,60}", "[<>/a-c='\"! -]{0,40}"]) {
            let once = sanitise(&html);
            prop_assert_eq!(&sanitise(&once), &once);
            prop_assert!(check(&once).is_ok());
        }

        #[test]
        fn escaping_is_never_undone(html in prop_oneof![markup(), ".{0,60}"]) {
            let text = escape(&html);
            prop_assert_eq!(sanitise(&text), text);
        }
    }
}
