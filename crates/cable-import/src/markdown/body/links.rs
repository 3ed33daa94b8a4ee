//! Links and URLs, with the pages and files that they name.

use cable_body::html;
use cable_proto::{limit, v1};

use super::{super::shortcodes::Meaning, Resolver};

impl Resolver<'_> {
    /// Returns a URL with its shortcodes resolved. Empty if the result is not a URL.
    pub(super) fn href(&mut self, url: &str) -> String {
        if self.text.find(url).is_none() {
            return url.to_owned();
        }
        let text = self.text;
        let resolved = text.replace(url, &mut |index| match &text.shortcodes[index].meaning {
            Meaning::Text(part) | Meaning::Url(part) | Meaning::Embed(part) => part.clone(),
            Meaning::Picture(picture) => picture.src.clone(),
            Meaning::Reference(file) => self.pages.page(file).unwrap_or_else(|| {
                self.missing += 1;
                String::new()
            }),
            Meaning::Code { .. } | Meaning::Anchor(_) => String::new(),
            Meaning::Unknown(kind) => {
                self.count(&format!("{kind} in a URL"));
                String::new()
            }
        });
        let is_mail = resolved.starts_with("mailto:") || resolved.starts_with("tel:");
        let address = html::rendition(&resolved, None, None).map(|rendition| rendition.href);
        let resolved = if is_mail { Some(resolved) } else { address };
        resolved
            .filter(|url| url.len() as u64 <= limit::URL.maximum && !url.contains('\\'))
            .unwrap_or_default()
    }

    pub(super) fn link(&mut self, link: Option<v1::Link>) -> Option<v1::Link> {
        let mut link = link?;
        link.href = self.href(&link.href);
        link.title = self.source(&link.title);
        let (file, fragment) =
            link.href.split_once('#').map_or((&*link.href, ""), |(file, rest)| (file, rest));
        if file.ends_with(".md") && !file.contains("://") {
            match self.pages.page(file) {
                Some(path) if fragment.is_empty() => link.href = path,
                Some(path) => link.href = format!("{path}#{fragment}"),
                None => self.missing += 1,
            }
        }
        (!link.href.is_empty() || !link.article.is_empty()).then_some(link)
    }
}
