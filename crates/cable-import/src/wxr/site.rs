//! The site that an export comes from, and the ids that only this site gives.

use super::Element;
use crate::{ids, piece::language};
use cable_proto::{limit, v1};

/// The role of WordPress's ids among the ids of other systems.
const ROLE: &str = "wordpress";

/// A site, as the channel describes it.
#[derive(Debug, Default)]
pub(super) struct Site {
    /// The prefix of all ids that are unique within one site only; empty, or with a hyphen at its end.
    pub(super) prefix: String,
    blog_url: String,
    base_url: String,
    link: String,
    version: String,
    language: String,
}

impl Site {
    pub(super) fn new(prefix: &str) -> Self {
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}-") };
        Site { prefix, ..Site::default() }
    }

    /// Adds an element of the channel that describes the site. The first of each name counts.
    pub(super) fn add(&mut self, element: &Element) {
        let field = match element.name.as_str() {
            "wp:base_blog_url" => &mut self.blog_url,
            "wp:base_site_url" => &mut self.base_url,
            "link" => &mut self.link,
            "wp:wxr_version" => &mut self.version,
            "language" => &mut self.language,
            _ => return,
        };
        if field.is_empty() {
            element.text.trim().clone_into(field);
        }
    }

    /// Returns the URL of the blog without a slash at its end; empty if unknown.
    pub(super) fn url(&self) -> &str {
        let urls = [&self.blog_url, &self.base_url, &self.link];
        urls.into_iter().find(|url| !url.is_empty()).map_or("", |url| url.trim_end_matches('/'))
    }

    /// Returns the host and directory of the blog, which stay the same when the site changes to https.
    pub(super) fn address(&self) -> String {
        let url = self.url();
        url.split_once("://").map_or(url, |(_, address)| address).to_ascii_lowercase()
    }

    /// Returns the directory of the blog, such as `/news`; empty if it is the root.
    pub(super) fn directory(&self) -> &str {
        let url = self.url();
        let address = url.split_once("://").map_or(url, |(_, address)| address);
        address.find('/').map_or("", |at| &address[at..])
    }

    /// Returns whether categories name their parents instead of giving the slugs, as WXR 1.0 does.
    pub(super) fn names_parents(&self) -> bool {
        self.version.starts_with("1.0") || self.version.is_empty()
    }

    /// Returns the language of the site as a BCP 47 tag, if it has the form of one.
    pub(super) fn language(&self) -> String {
        language(&self.language)
    }

    /// Returns whether a host is one of the site, or lies above or below one.
    pub(super) fn has_host(&self, host: &str) -> bool {
        let urls = [&self.blog_url, &self.base_url, &self.link];
        urls.into_iter().any(|url| is_same_site(host_of(url), host))
    }

    /// Returns the id for a slug or login of the site; empty if the slug is empty.
    pub(super) fn id(&self, slug: &str) -> String {
        ids::from_slug(&self.prefix, slug)
    }

    /// Returns the name of the article for a post.
    pub(super) fn article(&self, id: u64) -> String {
        format!("articles/{}wp-{id}", self.prefix)
    }

    /// Returns the id of a post in WordPress: its GUID, which is unique among sites and never changes, or else the URL
    /// that leads to the number on this site.
    pub(super) fn post_id(&self, id: u64, guid: &str) -> v1::AltId {
        let is_usable = !guid.is_empty()
            && guid.len() as u64 <= limit::URL.maximum
            && !guid.contains(|c: char| c.is_whitespace() || c.is_control())
            && guid.starts_with("http");
        let value = if is_usable { guid.to_owned() } else { self.numbered("p", &id.to_string()) };
        v1::AltId { role: ROLE.to_owned(), value }
    }

    /// Returns the id of an author in WordPress, as the entry of a map.
    pub(super) fn author_id(&self, number: &str) -> (String, String) {
        (ROLE.to_owned(), self.numbered("author", number))
    }

    fn numbered(&self, key: &str, number: &str) -> String {
        let value = format!("{}/?{key}={number}", self.url());
        let is_url = self.url().starts_with("http") && value.len() as u64 <= limit::URL.maximum;
        if is_url && !value.contains(char::is_whitespace) { value } else { number.to_owned() }
    }
}

/// Returns the host of a URL, without `www.`; empty if it has none.
pub(super) fn host_of(url: &str) -> &str {
    let Some((_, rest)) = url.split_once("//") else { return "" };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
    host.strip_prefix("www.").unwrap_or(host)
}

/// Returns whether two hosts are equal, or one lies below the other.
pub(super) fn is_same_site(one: &str, other: &str) -> bool {
    let is_below = |host: &str, above: &str| {
        host.len() > above.len() && host.ends_with(above) && host[..host.len() - above.len()].ends_with('.')
    };
    let (one, other) = (one.to_ascii_lowercase(), other.to_ascii_lowercase());
    !one.is_empty() && !other.is_empty() && (one == other || is_below(&one, &other) || is_below(&other, &one))
}
