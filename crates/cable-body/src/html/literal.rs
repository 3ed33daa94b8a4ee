//! Short texts that may hold HTML and may hold signs of their own: a title such as `Why a<b matters` has no markup.

use std::collections::HashMap;

use super::markup::is_inline;

/// Returns the text with `&lt;` for each `<` that begins no markup: only elements of running text and of simple layout,
/// which end where they should, are markup. All words of the text are then words of the HTML.
pub(super) fn escape_signs(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let mut closing = closing_tags(text);
    let mut open: HashMap<String, usize> = HashMap::new();
    let mut at = 0;
    while let Some(start) = text[at..].find('<').map(|found| at + found) {
        out.push_str(&text[at..start]);
        at = match tag(&text[start..]).filter(|tag| is_markup(tag, &mut open, &mut closing)) {
            Some(tag) => {
                out.push_str(tag.source);
                start + tag.source.len()
            }
            None => {
                out.push_str("&lt;");
                start + 1
            }
        };
    }
    out.push_str(&text[at..]);
    out
}

/// A tag or comment.
struct Tag<'a> {
    source: &'a str,
    /// The name in lower case; empty for a comment.
    name: String,
    is_closing: bool,
    has_attributes: bool,
}

/// Returns the tag at the start of a text. It contains no other `<`, so the search for its end is short.
fn tag(text: &str) -> Option<Tag<'_>> {
    let length = text[1..].find(['<', '>']).map(|at| at + 2).filter(|end| text[..*end].ends_with('>'))?;
    let source = &text[..length];
    let inner = &source[1..length - 1];
    if inner.starts_with("!--") && inner.len() >= 5 && inner.ends_with("--") {
        return Some(Tag { source, name: String::new(), is_closing: false, has_attributes: false });
    }
    let (inner, is_closing) = inner.strip_prefix('/').map_or((inner, false), |inner| (inner, true));
    let end = inner.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(inner.len());
    let (name, attributes) = inner.split_at(end);
    let attributes = attributes.trim_end_matches('/').trim();
    let is_tag = is_known(&name.to_ascii_lowercase()) && are_attributes(attributes);
    is_tag.then(|| Tag {
        source,
        name: name.to_ascii_lowercase(),
        is_closing,
        has_attributes: !attributes.is_empty(),
    })
}

/// Returns whether the text consists of attributes with values.
fn are_attributes(mut text: &str) -> bool {
    while !text.is_empty() {
        let Some((name, value)) = text.split_once('=') else { return false };
        let is_name = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | ':');
        if name.trim().is_empty() || !name.trim().chars().all(is_name) {
            return false;
        }
        let value = value.trim_start();
        let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''));
        let rest = match quote {
            Some(quote) => value[1..].split_once(quote).map(|(_, rest)| rest),
            None => Some(value.find(char::is_whitespace).map_or("", |end| &value[end..])),
        };
        let Some(rest) = rest else { return false };
        text = rest.trim_start();
    }
    true
}

fn is_markup(tag: &Tag<'_>, open: &mut HashMap<String, usize>, closing: &mut HashMap<String, usize>) -> bool {
    if tag.name.is_empty() {
        return true;
    }
    match tag.name.as_str() {
        "br" | "wbr" | "hr" => return true,
        "img" => return tag.has_attributes,
        _ => {}
    }
    if tag.is_closing {
        take(closing, &tag.name);
        return take(open, &tag.name);
    }
    let has_end =
        closing.get(&tag.name).is_some_and(|ends| *ends > open.get(&tag.name).copied().unwrap_or(0));
    if has_end {
        *open.entry(tag.name.clone()).or_default() += 1;
    }
    has_end
}

fn take(counts: &mut HashMap<String, usize>, name: &str) -> bool {
    match counts.get_mut(name) {
        Some(count @ 1..) => {
            *count -= 1;
            true
        }
        _ => false,
    }
}

/// Returns the number of closing tags of each name.
fn closing_tags(text: &str) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    for (start, _) in text.match_indices("</") {
        if let Some(tag) = tag(&text[start..]) {
            *counts.entry(tag.name).or_default() += 1;
        }
    }
    counts
}

fn is_known(name: &str) -> bool {
    let is_layout = matches!(
        name,
        "br" | "hr"
            | "img"
            | "p"
            | "div"
            | "center"
            | "h1"
            | "h2"
            | "h3"
            | "h4"
            | "h5"
            | "h6"
            | "ul"
            | "ol"
            | "li"
            | "blockquote"
            | "figure"
            | "figcaption"
    );
    is_layout || is_inline(name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{spans, text};
    use super::*;

    #[test]
    fn signs_stay_and_markup_goes() {
        for (source, expected) in [
            ("Why a<b matters when 1 < 2", "Why a<b matters when 1 < 2"),
            ("List<String> explained", "List<String> explained"),
            ("How to use <img> well", "How to use <img> well"),
            ("How to use &lt;img&gt; well", "How to use <img> well"),
            ("I <3 Berlin", "I <3 Berlin"),
            ("a<b and c>d", "a<b and c>d"),
            ("x<b>y", "x<b>y"),
            ("</b> <b>", "</b> <b>"),
            ("<script>alert(1)</script>", "<script>alert(1)</script>"),
            ("<b>bold</b> and <i class='x'>slanted</i>", "bold and slanted"),
            ("<b>one <b>two</b> three", "one <b>two three"),
            ("Tom &amp; <em>Ana</em><br>sail<br/>now", "Tom & Ana sail now"),
            ("<p>One</p><p>Two</p>", "One Two"),
            ("Sea <!-- hidden --> Port", "Sea Port"),
            ("Sea <!-- open Port", "Sea <!-- open Port"),
            ("<a href=\"/x\" title='y'>Port</a>", "Port"),
            ("<b a=w0-->bold</b>", "bold"),
            ("<a href=\"/x>Port</a>", "<a href=\"/x>Port</a>"),
            ("<?php echo 1 ?> <!doctype>", "<?php echo 1 ?> <!doctype>"),
        ] {
            assert_eq!(text(source), expected, "{source}");
        }
        let caption: String = spans("if a<b then <em>c</em>").iter().map(|span| span.text.as_str()).collect();
        assert_eq!(caption, "if a<b then c");
    }

    #[test]
    fn signs_cost_no_quadratic_time() {
        for piece in ["<b ", "<", "</b", "<!--", "<b>", "</b>", "<b a=", "<b a='"] {
            let source = piece.repeat((1 << 18) / piece.len());
            let start = std::time::Instant::now();
            escape_signs(&source);
            assert!(start.elapsed().as_secs() < 5, "{piece}: {:?}", start.elapsed());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_word_is_lost(source in "(w[0-9]{1,3}|<|>|/|</?[a-zA-Z]{1,6}>|<b [a-z]{1,3}=?| |&lt;|<!--|-->|'|\"){0,40}") {
            let source = source.replace("<!--", "<!");
            let found = text(&source);
            // The values of a tag's attributes are not text.
            let escaped = escape_signs(&source);
            let (first, tags) = escaped.split_once('<').unwrap_or((&escaped, ""));
            let texts = tags.split('<').map(|part| match part.split_once('>') {
                Some((tag, text)) if tag.contains('=') => text,
                _ => part,
            });
            let texts: Vec<&str> = std::iter::once(first).chain(texts).collect();
            for word in texts.join("<").split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| word.starts_with('w') && word.len() > 1) {
                let is_word = word[1..].bytes().all(|b| b.is_ascii_digit());
                prop_assert!(!is_word || found.contains(word), "{} of {} is not in {}", word, source, found);
            }
        }
    }
}
