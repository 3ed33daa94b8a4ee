//! The paths of pages: patterns such as `/:year/:month/:slug/`.

use jiff::{Timestamp, tz::Offset, tz::TimeZone};

use crate::ids;

/// The placeholders of patterns, as Jekyll and Hugo have them. Longer names come before their beginnings.
const NAMES: [&str; 14] = [
    "contentbasename",
    "short_year",
    "categories",
    "filename",
    "sections",
    "i_month",
    "section",
    "i_day",
    "month",
    "title",
    "year",
    "slug",
    "path",
    "day",
];

/// The parts of a file that a path is made of.
#[derive(Debug, Clone, Default)]
pub(super) struct Parts<'a> {
    pub(super) date: Option<Timestamp>,
    pub(super) offset: Option<Offset>,
    pub(super) slug: &'a str,
    pub(super) title: &'a str,
    /// The file name without its date and extension.
    pub(super) stem: &'a str,
    /// The directories above the file.
    pub(super) directory: &'a str,
    pub(super) categories: Vec<String>,
}

/// Checks a pattern.
///
/// # Errors
/// The message names the placeholder that does not exist.
pub fn check(pattern: &str) -> Result<(), String> {
    if !pattern.starts_with('/') {
        return Err("must start with `/`".to_owned());
    }
    let mut rest = pattern;
    while let Some((_, after)) = rest.split_once(':') {
        let Some(name) = NAMES.iter().find(|name| after.starts_with(**name)) else {
            let known: Vec<String> = NAMES.iter().map(|name| format!(":{name}")).collect();
            return Err(format!("unknown placeholder in {pattern:?}: expected one of {}", known.join(" ")));
        };
        rest = &after[name.len()..];
    }
    Ok(())
}

/// Returns the pattern for a permalink of front matter: a style of Jekyll by its name.
pub(super) fn style(permalink: &str) -> &str {
    match permalink {
        "date" => "/:categories/:year/:month/:day/:title.html",
        "pretty" => "/:categories/:year/:month/:day/:title/",
        "none" => "/:categories/:title.html",
        other => other,
    }
}

/// Returns the path of a pattern. `None` if a part of it is not known, or a placeholder does not exist.
pub(super) fn expand(pattern: &str, parts: &Parts<'_>) -> Option<String> {
    let mut path = String::new();
    let mut rest = pattern;
    while let Some((before, after)) = rest.split_once(':') {
        path.push_str(before);
        let name = NAMES.iter().find(|name| after.starts_with(**name))?;
        path.push_str(&value(name, parts)?);
        rest = &after[name.len()..];
    }
    path.push_str(rest);
    Some(rooted(path))
}

/// Returns the path that a page states. A colon without the name of a placeholder after it, or within a word, is a part
/// of the path. `None` if a placeholder has no value.
pub(super) fn stated(path: &str, parts: &Parts<'_>) -> Option<String> {
    let mut out = String::new();
    let mut rest = path;
    while let Some((before, after)) = rest.split_once(':') {
        out.push_str(before);
        let is_in_word = before.ends_with(char::is_alphanumeric) || (before.is_empty() && out.ends_with(':'));
        let name = NAMES.iter().find(|name| after.starts_with(**name) && !is_in_word);
        match name {
            Some(name) => out.push_str(&value(name, parts)?),
            None => out.push(':'),
        }
        rest = &after[name.map_or(0, |name| name.len())..];
    }
    out.push_str(rest);
    Some(resolve("", &rooted(out)))
}

/// Returns a path without double slashes and with one at its start.
fn rooted(mut path: String) -> String {
    while path.contains("//") {
        path = path.replace("//", "/");
    }
    if path.starts_with('/') { path } else { format!("/{path}") }
}

/// Returns the path that a text leads to from a directory, as browsers resolve it, with the signs encoded that no path
/// has.
pub(super) fn resolve(directory: &str, text: &str) -> String {
    let mut segments: Vec<&str> = directory.split('/').filter(|segment| !segment.is_empty()).collect();
    for segment in text.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    let is_directory = matches!(text.rsplit('/').next(), Some("" | "." | ".."));
    let end = if is_directory && !segments.is_empty() { "/" } else { "" };
    let mut path = String::from("/");
    for c in segments.join("/").chars() {
        match c {
            c if c.is_ascii() && (c.is_ascii_whitespace() || c.is_ascii_control() || c == '\\') => {
                path.push_str(&format!("%{:02X}", u32::from(c)));
            }
            c => path.push(c),
        }
    }
    path + end
}

fn value(name: &str, parts: &Parts<'_>) -> Option<String> {
    let offset = parts.offset.unwrap_or(Offset::UTC);
    let day = || Some(TimeZone::fixed(offset).to_datetime(parts.date?).date());
    Some(match name {
        "year" => format!("{:04}", day()?.year()),
        "short_year" => format!("{:02}", day()?.year() % 100),
        "month" => format!("{:02}", day()?.month()),
        "i_month" => day()?.month().to_string(),
        "day" => format!("{:02}", day()?.day()),
        "i_day" => day()?.day().to_string(),
        "title" if parts.slug.is_empty() => slugified(parts.title),
        "title" | "slug" => slugified(parts.slug),
        "filename" | "contentbasename" => slugified(parts.stem),
        "section" => slugified(parts.directory.split('/').next().unwrap_or_default()),
        "sections" => directory(parts),
        "path" => format!("{}/{}", directory(parts), slugified(parts.stem)),
        "categories" => parts.categories.iter().map(|one| slugified(one)).collect::<Vec<_>>().join("/"),
        _ => return None,
    })
}

/// Returns the directories as segments of a path.
fn directory(parts: &Parts<'_>) -> String {
    parts.directory.split('/').map(slugified).collect::<Vec<_>>().join("/")
}

/// Returns a text as a segment of a path: lower case, a hyphen for white space, and no sign that paths reserve.
pub(super) fn slugified(text: &str) -> String {
    let slug = ids::slug_of_name(text);
    slug.chars()
        .filter(|c| !matches!(c, '?' | '#' | '\\' | '/' | '%' | '"' | '\'' | ':' | ',' | '!'))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_expanded() {
        let parts = Parts {
            date: Some("2024-03-07T23:30:00Z".parse().unwrap()),
            offset: None,
            slug: "storm",
            title: "Storm: a night",
            stem: "storm-1",
            directory: "news/port",
            categories: vec!["Port News".into()],
        };
        for (pattern, expected) in [
            ("/:year/:month/:day/:slug/", Some("/2024/03/07/storm/")),
            ("/:categories/:title.html", Some("/port-news/storm.html")),
            ("/:short_year/:i_month/:i_day", Some("/24/3/7")),
            ("/:section/:filename/", Some("/news/storm-1/")),
            ("/:sections/:slug", Some("/news/port/storm")),
            ("/:path/", Some("/news/port/storm-1/")),
            ("/plain/", Some("/plain/")),
            ("/:hour/", None),
        ] {
            assert_eq!(expand(pattern, &parts).as_deref(), expected, "{pattern}");
        }
        let spaced = Parts { directory: "My News/The: Port", ..parts.clone() };
        for (pattern, expected) in [
            ("/:sections/:slug/", "/my-news/the-port/storm/"),
            ("/:section/:slug/", "/my-news/storm/"),
            ("/:path/", "/my-news/the-port/storm-1/"),
        ] {
            assert_eq!(expand(pattern, &spaced).as_deref(), Some(expected), "{pattern}");
        }
        let later = Parts { offset: crate::times::parse_offset("+02:00"), ..parts.clone() };
        assert_eq!(expand("/:day/", &later).as_deref(), Some("/08/"));
        assert_eq!(expand("/:day/", &Parts { date: None, ..parts }), None);
        assert!(check("/:year/:slug/").is_ok() && check(":slug").is_err() && check("/:hour").is_err());
    }

    #[test]
    fn a_stated_path_is_literal_but_for_its_placeholders() {
        let parts = Parts {
            date: Some("2024-03-07T23:30:00Z".parse().unwrap()),
            slug: "storm",
            title: "Storm",
            stem: "storm",
            ..Parts::default()
        };
        for (path, expected) in [
            ("/wiki/Talk:Foo", "/wiki/Talk:Foo"),
            ("/wiki/Talk:title", "/wiki/Talk:title"),
            ("/wiki/Talk::slug", "/wiki/Talk::slug"),
            ("/a:/:hour/", "/a:/:hour/"),
            ("/:year/:month-:day:slug/", "/2024/03-07storm/"),
            ("/Some Path/x", "/Some%20Path/x"),
            ("/a\\b\tc/", "/a%5Cb%09c/"),
            ("plain//x/", "/plain/x/"),
            ("/a/../b/./c/", "/b/c/"),
            ("/", "/"),
        ] {
            let stated = stated(path, &parts);
            assert_eq!(stated.as_deref(), Some(expected), "{path}");
            assert!(cable_proto::path::is_valid(&stated.unwrap()), "{path}");
        }
        assert_eq!(stated("/:year/", &Parts { date: None, ..parts }), None);
    }

    #[test]
    fn a_relative_path_starts_in_its_directory() {
        for (text, expected) in [
            ("old", "/posts/port/old"),
            ("./old/", "/posts/port/old/"),
            ("../up/", "/posts/up/"),
            ("../../../far", "/far"),
            ("..", "/posts/"),
            ("old name", "/posts/port/old%20name"),
        ] {
            assert_eq!(resolve("/posts/port", text), expected, "{text}");
        }
    }
}
