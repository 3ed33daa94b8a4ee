//! Parses the values that requests of several services contain: names, paths, times and lines of text.

use prost_types::Timestamp;

use crate::{
    entry::Term,
    model::{
        Id, Kind, Name, limit,
        limit::Limit,
        path,
        text::{self, Lines},
    },
    refusal::{Refusal, at_most},
    wire::{fields, log::FormerPath, v1},
};

/// Parses a name of one kind in a field.
pub(crate) fn name(kind: Kind, text: &str, field: &str) -> Result<Name, Refusal> {
    Name::parse_as(kind, text).ok_or_else(|| {
        let id = "1 to 128 characters of A-Z a-z 0-9 . _ ~ -";
        Refusal::field(field, format!("must be `{}/{{id}}`, where the id has {id}", kind.collection()))
    })
}

/// Parses a name of one kind. Returns None if the field is unset.
pub(crate) fn optional_name(kind: Kind, text: &str, field: &str) -> Result<Option<Name>, Refusal> {
    if text.is_empty() { Ok(None) } else { name(kind, text, field).map(Some) }
}

/// Parses a list of names of one kind.
pub(crate) fn names(
    kind: Kind,
    limit: &'static Limit,
    texts: &[String],
    field: &str,
) -> Result<Vec<Name>, Refusal> {
    at_most(limit, texts.len(), field)?;
    let name = |(i, text): (usize, &String)| {
        name(kind, text, "").map_err(|refusal| refusal.within(&format!("{field}[{i}]")))
    };
    texts.iter().enumerate().map(name).collect()
}

/// Parses a list of names in a filter as terms.
pub(crate) fn terms(
    kind: Kind,
    texts: &[String],
    field: &str,
    term: fn(Id) -> Term,
) -> Result<Vec<Term>, Refusal> {
    let names = names(kind, &limit::FILTER, texts, field)?;
    Ok(names.into_iter().map(|name| term(name.id)).collect())
}

/// Parses a time, and returns it in microseconds since 1970 UTC. It must be within the range that
/// google.protobuf.Timestamp allows.
pub(crate) fn time(time: Option<&Timestamp>, field: &str) -> Result<Option<i64>, Refusal> {
    const FIRST: i64 = -62_135_596_800;
    const LAST: i64 = 253_402_300_799;
    let valid =
        |time: &Timestamp| (FIRST..=LAST).contains(&time.seconds) && (0..1_000_000_000).contains(&time.nanos);
    if time.is_none_or(valid) {
        return Ok(time.map(fields::micros));
    }
    Err(Refusal::field(field, "must be in the years 1 to 9999, with nanos from 0 to 999999999"))
}

/// Parses a duration that is not negative. Returns `None` if it is not one that google.protobuf.Duration allows.
pub(crate) fn duration(duration: &prost_types::Duration) -> Option<std::time::Duration> {
    let is_valid = duration.seconds >= 0 && (0..1_000_000_000).contains(&duration.nanos);
    // The conversion negates what is negative, and overflows for the smallest numbers.
    is_valid.then(|| (*duration).try_into().ok()).flatten()
}

/// Checks a path on the site.
pub(crate) fn path(path: &str, field: &str) -> Result<(), Refusal> {
    line(&limit::PATH, path, field)?;
    let rule = match path::fault(path) {
        None => return Ok(()),
        Some(path::Fault::DotSegment) => "must not contain a segment `.` or `..`, even percent-encoded",
        Some(path::Fault::Form) => {
            "must start with exactly one `/` and contain no `?`, `#`, `\\`, space or control character"
        }
    };
    Err(Refusal::field(field, rule))
}

/// Parses the former paths of an imported record. A path without a time has the time 0.
pub(crate) fn former_paths(paths: &[v1::FormerPath]) -> Result<Vec<FormerPath>, Refusal> {
    at_most(&limit::ALIAS_PATHS, paths.len(), "former_paths")?;
    let parse = |(i, former): (usize, &v1::FormerPath)| {
        let field = |field| format!("former_paths[{i}].{field}");
        path(&former.path, &field("path"))?;
        let taken_by = optional_name(Kind::Article, &former.taken_by, &field("taken_by"))?;
        Ok(FormerPath {
            path: former.path.clone(),
            cease_time: time(former.cease_time.as_ref(), &field("cease_time"))?.unwrap_or(0),
            taken_by: taken_by.map(|name| name.id.to_string()).unwrap_or_default(),
        })
    };
    paths.iter().enumerate().map(parse).collect()
}

/// Checks the source of an import.
pub(crate) fn import_source(source: &str, field: &str) -> Result<(), Refusal> {
    line(&limit::URL, source, field)
}

/// Checks a text of one line.
pub(crate) fn line(limit: &'static Limit, value: &str, field: &str) -> Result<(), Refusal> {
    at_most(limit, value.len(), field)?;
    characters(value, Lines::One, field)
}

/// Checks that a text contains no character that is forbidden in it.
pub(crate) fn characters(value: &str, lines: Lines, field: &str) -> Result<(), Refusal> {
    let Some(c) = text::find_forbidden(value, lines) else { return Ok(()) };
    Err(Refusal::field(field, format!("must not contain U+{:04X}", u32::from(c))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_durations_of_the_standard_form_are_accepted() {
        let parse = |seconds, nanos| duration(&prost_types::Duration { seconds, nanos });
        assert_eq!(parse(0, 0), Some(std::time::Duration::ZERO));
        assert_eq!(parse(1, 999_999_999), Some(std::time::Duration::new(1, 999_999_999)));
        for (seconds, nanos) in
            [(5, -1), (0, -1), (-1, 0), (-1, -1), (5, 1_000_000_000), (i64::MIN, i32::MIN)]
        {
            assert_eq!(parse(seconds, nanos), None, "{seconds} {nanos}");
        }
    }
}
