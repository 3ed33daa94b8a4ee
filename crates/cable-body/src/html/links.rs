//! Preparation of parsed HTML of another site: URLs are resolved against the address of the page that they come from, and
//! characters that no text may contain, which references such as `&#8238;` stand for, are left out.

use cable_proto::text::remove_forbidden;
use scraper::{Html, Node};

/// The attributes that hold one URL.
const URLS: [&str; 7] = ["href", "src", "poster", "data", "data-src", "data-lazy-src", "data-orig-file"];

/// Replaces each URL of the tree for which the function returns another one, and leaves forbidden characters out. Returns
/// the number of those.
pub(super) fn prepare(tree: &mut Html, resolve: &dyn Fn(&str) -> Option<String>) -> usize {
    let ids: Vec<_> = tree.tree.nodes().map(|node| node.id()).collect();
    let mut all_omitted = 0;
    let mut cleaned = |text: &str| {
        let (cleaned, omitted) = remove_forbidden(text);
        all_omitted += omitted;
        (omitted > 0).then(|| cleaned.into_owned())
    };
    for id in ids {
        let Some(mut node) = tree.tree.get_mut(id) else { continue };
        match node.value() {
            Node::Element(element) => {
                for (name, value) in &mut element.attrs {
                    if let Some(cleaned) = cleaned(value) {
                        *value = cleaned.into();
                    }
                    let resolved = match &*name.local {
                        "srcset" | "data-srcset" | "data-lazy-srcset" => Some(srcset(value, resolve)),
                        name if URLS.contains(&name) => resolve(value),
                        _ => None,
                    };
                    if let Some(resolved) = resolved {
                        *value = resolved.into();
                    }
                }
            }
            Node::Text(text) => {
                if let Some(cleaned) = cleaned(text) {
                    text.text = cleaned.into();
                }
            }
            _ => {}
        }
    }
    all_omitted
}

/// Returns the candidates of a `srcset` with their URLs resolved.
fn srcset(text: &str, resolve: &dyn Fn(&str) -> Option<String>) -> String {
    let mut candidates: Vec<String> = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == ',');
        let end = rest.find(|c: char| c.is_ascii_whitespace()).unwrap_or(rest.len());
        let (url, after) = rest.split_at(end);
        if url.is_empty() {
            return candidates.join(", ");
        }
        let bare = url.trim_end_matches(',');
        let mut candidate = resolve(bare).unwrap_or_else(|| bare.to_owned());
        rest = after;
        // A comma at the end of the URL ends the candidate; else its size follows.
        if bare.len() == url.len() {
            let (size, next) = after.split_once(',').unwrap_or((after, ""));
            if !size.trim().is_empty() {
                candidate += &format!(" {}", size.trim());
            }
            rest = next;
        }
        candidates.push(candidate);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn absolute(url: &str) -> Option<String> {
        url.starts_with('/').then(|| format!("https://a.example{url}"))
    }

    #[test]
    fn urls_are_resolved_in_all_attributes() {
        let source = "<a href='/b' title='/b'>c</a><img src='/d' srcset='/d 1x, /e,2 2x,/f, g 3x' alt='/d'>\
                      <video poster='/p'><source src='/v'></video><a href='#h'>h</a>";
        let mut tree = Html::parse_fragment(source);
        assert_eq!(prepare(&mut tree, &absolute), 0);
        let html = tree.root_element().inner_html();
        for part in [
            "<a href=\"https://a.example/b\" title=\"/b\">",
            "src=\"https://a.example/d\"",
            "srcset=\"https://a.example/d 1x, https://a.example/e,2 2x, https://a.example/f, g 3x\"",
            "alt=\"/d\"",
            "poster=\"https://a.example/p\"",
            "<source src=\"https://a.example/v\">",
            "<a href=\"#h\">",
        ] {
            assert!(html.contains(part), "{part} in {html}");
        }
        let mut tree = Html::parse_fragment("<p title='a&#8238;b'>c&#x202e;d&#xfeff;</p>");
        assert_eq!(prepare(&mut tree, &absolute), 3);
        assert!(tree.root_element().inner_html().contains("<p title=\"ab\">cd</p>"));
        // Those that scripts load later.
        for name in ["data-src", "data-lazy-src", "data-orig-file"] {
            let mut tree = Html::parse_fragment(&format!("<img src='data:,' {name}='/lazy'>"));
            prepare(&mut tree, &absolute);
            let html = tree.root_element().inner_html();
            assert!(html.contains(&format!("{name}=\"https://a.example/lazy\"")), "{html}");
        }
        assert_eq!(srcset("/d 1x, g 2x", &absolute), "https://a.example/d 1x, g 2x");
        assert_eq!(srcset("/d, /e 2x", &absolute), "https://a.example/d, https://a.example/e 2x");
        assert_eq!(srcset(" , ", &absolute), "");
    }
}
