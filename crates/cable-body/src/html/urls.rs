//! The URLs that are preserved, and the facts derived from them.

use std::fmt::Write as _;

use crate::sanitise;
use cable_proto::limit;
use cable_proto::v1;

/// Returns the URL of a link if its target is allowed: relative, http, https, mailto or tel. White space around it is
/// removed, white space within it escaped.
pub(super) fn link(url: &str) -> Option<String> {
    let url = escaped(url.trim());
    let fits = url.len() as u64 <= limit::URL.maximum && sanitise::link_target(&url).is_some();
    fits.then_some(url)
}

/// Returns the URL with `%20` for each space. Other white space is percent-encoded likewise, unless it is a control
/// character.
fn escaped(url: &str) -> String {
    let mut escaped = String::with_capacity(url.len());
    for char in url.chars() {
        if char.is_whitespace() && !char.is_control() {
            for byte in char.encode_utf8(&mut [0; 4]).bytes() {
                let _ = write!(escaped, "%{byte:02X}");
            }
        } else {
            escaped.push(char);
        }
    }
    escaped
}

/// Returns the URL of a file if it is relative, http or https.
pub(super) fn file(url: &str) -> Option<String> {
    link(url).filter(|url| scheme(url).is_none_or(is_http))
}

/// Returns the URL of a page on another site if it is http or https. A URL that starts with `//` gets https.
pub(crate) fn page(url: &str) -> Option<String> {
    let url = url.trim();
    let url = if url.starts_with("//") { format!("https:{url}") } else { url.to_owned() };
    file(&url).filter(|url| scheme(url).is_some() && host(url).contains('.'))
}

fn is_http(scheme: &str) -> bool {
    scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https")
}

/// Returns the text before the first colon, unless the colon belongs to a path, query or fragment.
fn scheme(url: &str) -> Option<&str> {
    let end = url.find([':', '/', '?', '#'])?;
    url[end..].starts_with(':').then(|| &url[..end])
}

fn host(url: &str) -> &str {
    let authority = url.split_once("://").map_or("", |(_, rest)| rest);
    let authority = authority.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    host.split(':').next().unwrap_or_default()
}

/// Hosts and their providers.
const PROVIDERS: [(&str, &str); 20] = [
    ("youtube.com", "youtube"),
    ("youtube-nocookie.com", "youtube"),
    ("youtu.be", "youtube"),
    ("vimeo.com", "vimeo"),
    ("dailymotion.com", "dailymotion"),
    ("twitter.com", "twitter"),
    ("x.com", "twitter"),
    ("instagram.com", "instagram"),
    ("facebook.com", "facebook"),
    ("tiktok.com", "tiktok"),
    ("soundcloud.com", "soundcloud"),
    ("spotify.com", "spotify"),
    ("flickr.com", "flickr"),
    ("reddit.com", "reddit"),
    ("bsky.app", "bluesky"),
    ("wordpress.tv", "wordpress-tv"),
    ("ted.com", "ted"),
    ("scribd.com", "scribd"),
    ("slideshare.net", "slideshare"),
    ("datawrapper.dwcdn.net", "datawrapper"),
];

/// Returns the provider of the content at the URL; empty if unknown.
pub(super) fn provider(url: &str) -> &'static str {
    let host = host(url).to_ascii_lowercase();
    let is_at =
        |domain: &str| host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    PROVIDERS.iter().find(|(domain, _)| is_at(domain)).map_or("", |(_, provider)| provider)
}

/// Returns the file as a rendition, if it can be one.
pub fn rendition(url: &str, width: Option<i32>, height: Option<i32>) -> Option<v1::Rendition> {
    let href = file(url)?;
    Some(v1::Rendition {
        r#type: media_type(&href).to_owned(),
        href,
        width: width.unwrap_or_default(),
        height: height.unwrap_or_default(),
    })
}

pub(crate) fn media_type(url: &str) -> &'static str {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let extension =
        path.rsplit('/').next().and_then(|file| file.rsplit_once('.')).map(|(_, extension)| extension);
    match extension.map(str::to_ascii_lowercase).as_deref() {
        Some("jpg" | "jpeg" | "jpe") => "image/jpeg",
        Some("png") => "image/png",
        Some("gif") => "image/gif",
        Some("webp") => "image/webp",
        Some("avif") => "image/avif",
        Some("heic") => "image/heic",
        Some("svg") => "image/svg+xml",
        Some("bmp") => "image/bmp",
        Some("tif" | "tiff") => "image/tiff",
        Some("mp4" | "m4v") => "video/mp4",
        Some("webm") => "video/webm",
        Some("ogv") => "video/ogg",
        Some("mov") => "video/quicktime",
        Some("mp3") => "audio/mpeg",
        Some("m4a") => "audio/mp4",
        Some("ogg" | "oga") => "audio/ogg",
        Some("wav") => "audio/wav",
        Some("pdf") => "application/pdf",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_harmless_schemes_are_links() {
        for allowed in [
            "/a?b:c",
            "a/b:c",
            "#x",
            "//host/x",
            "HTTPS://host",
            "mailto:a@b",
            "tel:+4940",
            "?x=javascript:1",
        ] {
            assert_eq!(link(allowed).as_deref(), Some(allowed));
        }
        let dropped = [
            "javascript:alert(1)",
            " JavaScript:x",
            "java\tscript:x",
            "data:text/html,x",
            "vbscript:x",
            "",
            "x:y",
        ];
        for dropped in dropped {
            assert_eq!(link(dropped), None, "{dropped}");
        }
        assert!(link(&"x".repeat(2_048)).is_some());
        assert!(link(&"x".repeat(2_049)).is_none());
    }

    #[test]
    fn files_and_pages_are_stricter() {
        assert_eq!(file("mailto:a@b"), None);
        assert_eq!(file(" /a b.jpg ").as_deref(), Some("/a%20b.jpg"));
        assert_eq!(page("/a.jpg"), None);
        assert_eq!(page("//youtube.com/embed/1").as_deref(), Some("https://youtube.com/embed/1"));
        assert_eq!(page("http://"), None);
    }

    #[test]
    fn providers_are_identified_by_host_only() {
        assert_eq!(provider("https://www.youtube.com/watch?v=1"), "youtube");
        assert_eq!(provider("https://youtu.be/1"), "youtube");
        assert_eq!(provider("https://notyoutube.com/"), "");
        assert_eq!(provider("https://x.com@example.org/"), "");
    }

    #[test]
    fn types_follow_from_the_extension_of_the_path() {
        assert_eq!(media_type("https://a.b/c.JPG?x=.png"), "image/jpeg");
        assert_eq!(media_type("https://a.jpg/c"), "");
    }
}
