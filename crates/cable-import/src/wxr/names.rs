//! The names of elements by their namespaces: a prefix is only what a file makes of it.

use quick_xml::{
    events::BytesStart,
    name::{Namespace, NamespaceError, NamespaceResolver, QName, ResolveResult},
};

/// The namespaces in scope.
#[derive(Default)]
pub(super) struct Names {
    resolver: NamespaceResolver,
    /// The namespace of the root element. The elements of RSS have none, or the same one.
    root: Option<String>,
}

impl Names {
    /// Opens an element and returns its name, with the usual prefix of its namespace: `item`, `wp:post_id`,
    /// `content:encoded`.
    pub(super) fn open(&mut self, start: &BytesStart<'_>) -> Result<String, NamespaceError> {
        self.resolver.push(start)?;
        Ok(self.name(start.name()))
    }

    /// Opens the root element. The namespace that it has is that of RSS.
    pub(super) fn open_root(&mut self, start: &BytesStart<'_>) -> Result<String, NamespaceError> {
        self.resolver.push(start)?;
        if let (ResolveResult::Bound(Namespace(uri)), _) = self.resolver.resolve_element(start.name()) {
            self.root = Some(uri.to_owned());
        }
        Ok(self.name(start.name()))
    }

    pub(super) fn close(&mut self) {
        self.resolver.pop();
    }

    /// Returns the number of open elements.
    pub(super) fn level(&self) -> u16 {
        self.resolver.level()
    }

    /// Closes all elements above a level.
    pub(super) fn return_to(&mut self, level: u16) {
        self.resolver.set_level(level);
    }

    fn name(&self, name: QName<'_>) -> String {
        let (namespace, local) = self.resolver.resolve_element(name);
        let local = local.into_inner();
        match namespace {
            ResolveResult::Bound(Namespace(uri)) => match usual_prefix(uri) {
                Some(prefix) => format!("{prefix}:{local}"),
                None if self.root.as_deref() == Some(uri) => local.to_owned(),
                None => format!("{{{uri}}}{local}"),
            },
            ResolveResult::Unbound => local.to_owned(),
            // A file that lost its declarations means the usual ones.
            ResolveResult::Unknown(prefix) => format!("{prefix}:{local}"),
        }
    }
}

/// Returns the usual prefix of a namespace. Those of WordPress end in the version of the format.
fn usual_prefix(uri: &str) -> Option<&'static str> {
    match without_scheme(uri) {
        "purl.org/rss/1.0/modules/content" => Some("content"),
        "purl.org/dc/elements/1.1" => Some("dc"),
        other => match other.strip_prefix("wordpress.org/export/")?.split_once('/') {
            Some((version, "excerpt")) if is_version(version) => Some("excerpt"),
            None if is_version(other.rsplit('/').next()?) => Some("wp"),
            _ => None,
        },
    }
}

fn without_scheme(uri: &str) -> &str {
    let uri = uri.strip_prefix("http://").or_else(|| uri.strip_prefix("https://")).unwrap_or(uri);
    uri.trim_end_matches('/')
}

fn is_version(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_of_any_version_have_their_usual_prefix() {
        for (uri, prefix) in [
            ("http://wordpress.org/export/1.2/", Some("wp")),
            ("https://wordpress.org/export/1.0", Some("wp")),
            ("http://wordpress.org/export/1.1/excerpt/", Some("excerpt")),
            ("http://purl.org/rss/1.0/modules/content/", Some("content")),
            ("http://purl.org/dc/elements/1.1/", Some("dc")),
            ("http://wordpress.org/export/", None),
            ("http://wordpress.org/export/1.2/other/", None),
            ("http://wordpress.example/export/1.2/", None),
            ("wp", None),
        ] {
            assert_eq!(usual_prefix(uri), prefix, "{uri}");
        }
    }
}
