//! The addresses in feeds and sitemaps: absolute, and encoded so that every reader takes them.

use std::fmt::Write as _;

/// Returns the address of a page by its path.
pub(super) fn page(site: &str, path: &str) -> String {
    format!("{site}{}", encode(path, true))
}

/// Returns an address from an article as an absolute one. A relative one is relative to the article's page.
pub(super) fn absolute(site: &str, path: &str, href: &str) -> String {
    if has_scheme(href) {
        return encode(href, false);
    }
    if let Some(rest) = href.strip_prefix("//") {
        return format!("https://{}", encode(rest, false));
    }
    let path = if path.is_empty() { "/" } else { path };
    let directory = path.rfind('/').map_or("/", |slash| &path[..=slash]);
    let base = match href.bytes().next() {
        Some(b'/') => "",
        None | Some(b'#' | b'?') => path,
        _ => directory,
    };
    format!("{site}{}{}", encode(base, true), encode(href, false))
}

/// Whether an address starts with a scheme.
pub(super) fn has_scheme(href: &str) -> bool {
    let scheme = href.split_once(':').map_or("", |(scheme, _)| scheme);
    let is_plain = scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    is_plain && scheme.bytes().next().is_some_and(|first| first.is_ascii_alphabetic())
}

/// Percent-encodes what an address may not contain. Encoded bytes remain, and a percent sign that encodes none is
/// encoded itself.
fn encode(text: &str, in_path: bool) -> String {
    let mut out = String::with_capacity(text.len());
    let bytes = text.as_bytes();
    for (index, &byte) in bytes.iter().enumerate() {
        let is_hex = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_hexdigit);
        let is_plain = byte.is_ascii_graphic()
            && (byte != b'%' || is_hex(index + 1) && is_hex(index + 2))
            && !b"\"<>\\^`{|}".contains(&byte)
            && (!in_path || !b"[]".contains(&byte));
        match is_plain {
            true => out.push(char::from(byte)),
            false => drop(write!(out, "%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_become_absolute_and_encoded() {
        for (href, expected) in [
            ("https://a.example/x?y=1&z#w", "https://a.example/x?y=1&z#w"),
            ("mailto:desk@a.example", "mailto:desk@a.example"),
            ("//cdn.example/a.jpg", "https://cdn.example/a.jpg"),
            ("/a/b", "https://s.example/a/b"),
            ("b.jpg", "https://s.example/news/b.jpg"),
            ("../b.jpg", "https://s.example/news/../b.jpg"),
            ("#top", "https://s.example/news/st%C3%B6rm#top"),
            ("?p=2", "https://s.example/news/st%C3%B6rm?p=2"),
            ("100%", "https://s.example/news/100%25"),
            ("/a%zz%4?b=%", "https://s.example/a%25zz%254?b=%25"),
            ("/a\"<b>ö%C3", "https://s.example/a%22%3Cb%3E%C3%B6%C3"),
        ] {
            assert_eq!(absolute("https://s.example", "/news/störm", href), expected, "{href}");
        }
        assert_eq!(absolute("https://s.example", "", "b.jpg"), "https://s.example/b.jpg");
        assert_eq!(page("https://s.example", "/a[1]/&'ü"), "https://s.example/a%5B1%5D/&'%C3%BC");
    }
}
