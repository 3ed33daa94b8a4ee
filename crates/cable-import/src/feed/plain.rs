//! Plain fields of feeds, such as names and categories, in which feeds also write references and markup.

use cable_body::html;

use crate::addresses::{has_address, without_addresses};

/// Returns the words of a plain field.
pub(super) fn plain(text: &str) -> String {
    if text.contains(['<', '&']) { html::text(&without_tags(text)) } else { text.to_owned() }
}

/// Returns the text without its tags. A sign that begins no tag stays: `Ann <ann@x.example>`.
fn without_tags(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('<') {
        let name = after.trim_start_matches('/');
        let end = name.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(name.len());
        let is_tag = name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name[end..].starts_with(|c: char| c == '>' || c == '/' || c.is_whitespace());
        out += before;
        match after.split_once('>').filter(|_| is_tag) {
            Some((_, after)) => rest = after,
            // A second search for the end of a tag would cost quadratic time.
            None if !after.contains('>') => {
                out += &rest[before.len()..];
                rest = "";
            }
            None => {
                out.push('<');
                rest = after;
            }
        }
    }
    out + rest
}

/// Returns the names of the people in a field, each once: `a@x (Jane Doe), b@x (John Roe)`, `"Lee, Ann" <a@x>`, `b@x -
/// Bob`, or several links. A person without a name is the address, which no record contains.
pub(super) fn people(text: &str) -> Vec<String> {
    if text.matches("</a>").nth(1).is_some() {
        let names =
            text.split("</a>").map(|link| plain(link).trim_matches([',', ';', ' ', '\n', '\t']).to_owned());
        return names.filter(|name| !name.is_empty()).collect();
    }
    let text = plain(text);
    if !has_address(&text) {
        return vec![text.trim().to_owned()];
    }
    parts(&text).into_iter().map(person).collect()
}

/// Returns the parts between commas and semicolons that follow an address.
fn parts(text: &str) -> Vec<&str> {
    let (mut parts, mut start) = (Vec::new(), 0);
    let (mut depth, mut is_quoted, mut has_sign) = (0_usize, false, false);
    for (at, c) in text.char_indices() {
        match c {
            '"' => is_quoted = !is_quoted,
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            '@' => has_sign = true,
            ',' | ';' if has_sign && depth == 0 && !is_quoted => {
                parts.push(&text[start..at]);
                (start, has_sign) = (at + 1, false);
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts.retain(|part| !part.trim().is_empty());
    parts
}

/// Returns the name of one person, or the address if there is no name.
fn person(text: &str) -> String {
    let text = text.trim();
    let in_brackets = text.strip_suffix(')').and_then(|text| text.split_once('('));
    let name = match in_brackets.filter(|(before, name)| has_address(before) && !has_address(name)) {
        Some((_, name)) => name.to_owned(),
        None => without_addresses(text),
    };
    let is_sign = |c: char| c.is_whitespace() || "\"-\u{2013}\u{2014},:;<>".contains(c);
    match name.trim_matches(is_sign) {
        "" => text.to_owned(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_and_markup_are_read_once() {
        for (text, expected) in [
            ("AT&amp;T", "AT&T"),
            ("R&D", "R&D"),
            ("Gr&uuml;n &#8211; rot", "Grün – rot"),
            ("<b>Sea</b> news<br/>", "Sea news"),
            ("a < b", "a < b"),
            ("Ann <ann@x.example>", "Ann <ann@x.example>"),
            ("x <b", "x <b"),
        ] {
            assert_eq!(plain(text), expected, "{text}");
        }
    }

    #[test]
    fn each_person_has_a_name() {
        for (text, expected) in [
            ("Marta Fenn", &["Marta Fenn"][..]),
            ("Ann Lee, reporter", &["Ann Lee, reporter"]),
            ("a@x.example (Jane Doe), b@x.example (John Roe)", &["Jane Doe", "John Roe"]),
            ("a@x.example (Doe, Jane); b@x.example (John Roe)", &["Doe, Jane", "John Roe"]),
            ("Ann Lee<ann@x.example>", &["Ann Lee"]),
            ("\"Lee, Ann\" <a@x.example>", &["Lee, Ann"]),
            ("Lee, Ann <a@x.example>", &["Lee, Ann"]),
            ("b@x.example - Bob", &["Bob"]),
            ("Jane Doe (jane@x.example)", &["Jane Doe"]),
            ("jane&#64;x.example (Jane Doe)", &["Jane Doe"]),
            ("mailto:a@x.example", &["mailto:a@x.example"]),
            ("<a href=\"/a\">Ann Lee</a>, <a href=\"/b\">Bo &amp; Co</a>", &["Ann Lee", "Bo & Co"]),
        ] {
            assert_eq!(people(text), expected, "{text}");
        }
    }
}
