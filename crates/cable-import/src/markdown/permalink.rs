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
    while path.contains("//") {
        path = path.replace("//", "/");
    }
    Some(if path.starts_with('/') { path } else { format!("/{path}") })
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
        "section" => parts.directory.split('/').next().unwrap_or_default().to_owned(),
        "sections" => parts.directory.to_owned(),
        "path" => format!("{}/{}", parts.directory, slugified(parts.stem)),
        "categories" => parts.categories.iter().map(|one| slugified(one)).collect::<Vec<_>>().join("/"),
        _ => return None,
    })
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
        let later = Parts { offset: crate::times::parse_offset("+02:00"), ..parts.clone() };
        assert_eq!(expand("/:day/", &later).as_deref(), Some("/08/"));
        assert_eq!(expand("/:day/", &Parts { date: None, ..parts }), None);
        assert!(check("/:year/:slug/").is_ok() && check(":slug").is_err() && check("/:hour").is_err());
    }
}
