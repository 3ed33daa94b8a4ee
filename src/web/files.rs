//! The files that are part of the program, by their paths: the reading room, which `web/build` makes, and the
//! description of the resources.

use std::sync::LazyLock;

use bytes::Bytes;
use http::HeaderValue;
use xxhash_rust::xxh3::xxh3_128;

use super::{
    openapi,
    syndication::{Format, feed_path},
};

/// The policy of a page: it runs and shows the files and content of this node, and shows pictures from anywhere. It
/// loads no script, style or frame of another site.
pub(crate) const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    img-src 'self' https: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A file that is part of the program.
pub(crate) struct File {
    pub(crate) path: &'static str,
    pub(crate) content_type: &'static str,
    pub(crate) bytes: Bytes,
}

/// The files, each with its etag.
static FILES: LazyLock<Vec<(File, HeaderValue)>> = LazyLock::new(|| {
    let page = |path, content_type, bytes: &'static [u8]| {
        let bytes = Bytes::from_static(bytes);
        File { path, content_type, bytes }
    };
    let files = [
        page("/", "text/html; charset=utf-8", include_bytes!("../../web/dist/index.html")),
        page("/room.js", "text/javascript; charset=utf-8", include_bytes!("../../web/dist/room.js")),
        page("/room.css", "text/css; charset=utf-8", include_bytes!("../../web/dist/room.css")),
        File { path: openapi::PATH, content_type: "application/json", bytes: openapi::describe().into() },
    ];
    files.into_iter().map(|file| (etag(&file.bytes), file)).map(|(etag, file)| (file, etag)).collect()
});

/// The page of a node that serves feeds: its head has links to those of all articles.
static PAGE_WITH_FEEDS: LazyLock<(File, HeaderValue)> = LazyLock::new(|| {
    let (page, _) = &FILES[0];
    let html =
        String::from_utf8_lossy(&page.bytes).replacen("<title>", &format!("{}<title>", feed_links()), 1);
    let bytes = Bytes::from(html);
    let etag = etag(&bytes);
    (File { path: page.path, content_type: page.content_type, bytes }, etag)
});

/// Returns the links by which a reader of feeds finds those of all articles, one in a line. The page makes those of the
/// lists that it shows from them.
fn feed_links() -> String {
    let link = |format: Format| {
        let (path, name) = (feed_path(None, format), format.name());
        let (media_type, href) = (format.content_type(), path.trim_start_matches('/'));
        format!(
            "<link rel=\"alternate\" type=\"{media_type}\" title=\"All articles, {name}\" href=\"{href}\">\n"
        )
    };
    Format::ALL.map(link).concat()
}

/// Returns the file at a path, and its etag. `has_feeds` is whether the node serves feeds.
pub(crate) fn at(path: &str, has_feeds: bool) -> Option<&'static (File, HeaderValue)> {
    let found = FILES.iter().find(|(file, _)| file.path == path)?;
    Some(if has_feeds && path == "/" { &PAGE_WITH_FEEDS } else { found })
}

/// Returns the paths of all files.
#[cfg(test)]
pub(super) fn paths() -> impl Iterator<Item = &'static str> {
    FILES.iter().map(|(file, _)| file.path)
}

fn etag(bytes: &[u8]) -> HeaderValue {
    HeaderValue::try_from(format!("\"{:032x}\"", xxh3_128(bytes)))
        .unwrap_or(HeaderValue::from_static("\"0\""))
}
