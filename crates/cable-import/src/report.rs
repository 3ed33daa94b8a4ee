//! The report of an import: each item once, and the outcome of each record, so that nothing is lost silently.
//!
//! The report stores counts only. For each item, it returns a JSON line at once, which the caller writes to a file: an
//! export can have millions of items.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    fmt::{self, Display},
};

use serde::Serialize;

use super::{ConvertedItem, Item, ItemOutcome};
use cable_proto::v1::KeepReason;

/// The maximum number of problems that the table lists. The JSON lines have all of them.
const MAX_LISTED_PROBLEMS: usize = 20;

/// The maximum number of kinds of parts that are counted each. An export can name a custom field as it likes.
const MAX_NOT_IMPORTED_KINDS: usize = 1_000;

/// The maximum number of kinds of parts that the table lists.
const MAX_LISTED_KINDS: usize = 20;

/// A report that counts items and records by outcome.
#[derive(Debug, Default)]
pub struct Report {
    items: u64,
    item_kinds: BTreeMap<String, ItemCounts>,
    records: u64,
    record_kinds: BTreeMap<String, RecordCounts>,
    bodies_with_raw_html: u64,
    raw_html: u64,
    dropped: u64,
    notes: u64,
    /// The number of articles that were written without their path.
    without_path: u64,
    /// The number of parts that were not imported, by kind.
    not_imported: BTreeMap<String, u64>,
    /// The articles that are live on the server although their source does not show them.
    still_live: u64,
    problems: Vec<String>,
    more_problems: u64,
}

/// The outcomes of the items of one kind.
#[derive(Debug, Default)]
struct ItemCounts {
    converted: u64,
    skipped: BTreeMap<String, u64>,
    failed: u64,
}

/// The server's results for the records of one kind.
#[derive(Debug, Default)]
struct RecordCounts {
    written: u64,
    unchanged: u64,
    /// The records that replaced nothing on the server, by reason.
    kept: BTreeMap<&'static str, u64>,
    refused: u64,
}

impl RecordCounts {
    fn kept(&self) -> u64 {
        self.kept.values().sum()
    }

    fn all(&self) -> u64 {
        self.written + self.unchanged + self.kept() + self.refused
    }
}

#[derive(Serialize)]
struct Line<'a> {
    outcome: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    kind: &'a str,
    label: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    code: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    message: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    notes: &'a [String],
    #[serde(skip_serializing_if = "is_zero")]
    raw_html: usize,
    #[serde(skip_serializing_if = "is_zero")]
    dropped: usize,
    #[serde(skip_serializing_if = "is_empty")]
    not_imported: &'a BTreeMap<String, u64>,
}

static NOTHING: BTreeMap<String, u64> = BTreeMap::new();

const EMPTY_LINE: Line<'static> = Line {
    outcome: "",
    kind: "",
    label: "",
    code: "",
    reason: "",
    message: "",
    notes: &[],
    raw_html: 0,
    dropped: 0,
    not_imported: &NOTHING,
};

fn is_zero(count: &usize) -> bool {
    *count == 0
}

fn is_empty(counts: &BTreeMap<String, u64>) -> bool {
    counts.is_empty()
}

impl Report {
    /// Counts an item. Returns its JSON line (no line feed).
    pub fn add(&mut self, item: &Item) -> String {
        self.items += 1;
        let counts = self.item_kinds.entry(item.kind.clone()).or_default();
        let line = Line { kind: &item.kind, label: &item.label, ..EMPTY_LINE };
        match &item.outcome {
            ItemOutcome::Converted(converted) => {
                counts.converted += 1;
                self.add_converted(converted, line)
            }
            ItemOutcome::Skipped(reason) => {
                let reason = reason.to_string();
                *counts.skipped.entry(reason.clone()).or_default() += 1;
                to_json(&Line { outcome: "skipped", reason: &reason, ..line })
            }
            ItemOutcome::Failed(problem) => {
                counts.failed += 1;
                self.add_problem(format!("{}: {problem}", item.label));
                to_json(&Line { outcome: "failed", message: problem, ..line })
            }
        }
    }

    fn add_converted(&mut self, item: &ConvertedItem, line: Line<'_>) -> String {
        self.records += (item.mentions.len() + item.records.len()) as u64;
        self.bodies_with_raw_html += u64::from(item.raw_html > 0);
        self.raw_html += item.raw_html as u64;
        self.dropped += item.dropped as u64;
        self.notes += item.notes.len() as u64;
        for (kind, count) in &item.not_imported {
            let has_room = self.not_imported.len() < MAX_NOT_IMPORTED_KINDS;
            let kind = if has_room || self.not_imported.contains_key(kind) { kind } else { "other" };
            *self.not_imported.entry(kind.to_owned()).or_default() += count;
        }
        let ConvertedItem { raw_html, dropped, notes, not_imported, .. } = item;
        let (raw_html, dropped) = (*raw_html, *dropped);
        to_json(&Line { outcome: "converted", notes, raw_html, dropped, not_imported, ..line })
    }

    /// Counts a sent record that does not come from an [`Item`] but from a file of records.
    pub fn add_record(&mut self) {
        self.records += 1;
    }

    /// Counts a record that the server has written. The label is the record's name.
    pub fn written(&mut self, label: &str) {
        self.counts_of(label).written += 1;
    }

    /// Counts a record that the server already had.
    pub fn unchanged(&mut self, label: &str) {
        self.counts_of(label).unchanged += 1;
    }

    /// Counts a record that replaces nothing on the server, for a reason. Returns the JSON line (no line feed).
    pub fn kept(&mut self, label: &str, reason: KeepReason) -> String {
        let reason = match reason {
            KeepReason::Removed => "removed",
            KeepReason::Mentioned => "exists already; the file only mentions it",
            KeepReason::Changed | KeepReason::Unspecified => {
                "changed since its import, or not imported from here"
            }
        };
        *self.counts_of(label).kept.entry(reason).or_default() += 1;
        to_json(&Line { outcome: "kept", label, reason, ..EMPTY_LINE })
    }

    /// Notes that an article has no path because another article has it. Returns the JSON line (no line feed). Its
    /// outcome is counted on its own.
    pub fn without_path(&mut self, label: &str, path: &str, owner: &str) -> String {
        self.without_path += 1;
        let message = format!("path {path} belongs to {owner}");
        to_json(&Line { outcome: "without path", label, message: &message, ..EMPTY_LINE })
    }

    /// Counts a record that the server rejected. Returns the JSON line (no line feed).
    pub fn refused(&mut self, label: &str, code: &str, reason: &str, message: &str) -> String {
        self.counts_of(label).refused += 1;
        let separator = if reason.is_empty() { "" } else { " " };
        self.add_problem(format!("{label}: {code}{separator}{reason}: {message}"));
        to_json(&Line { outcome: "refused", label, code, reason, message, ..EMPTY_LINE })
    }

    /// Lists an article that is live on the server although its source does not show it. Returns the JSON line (no line
    /// feed). The item itself is counted on its own.
    pub fn still_live(&mut self, article: &str) -> String {
        self.still_live += 1;
        let id = article.trim_start_matches("articles/");
        let message = format!("its source does not show it any more; `cable article rm {id}` removes it");
        self.add_problem(format!("{article}: live, but {message}"));
        to_json(&Line { outcome: "still live", label: article, message: &message, ..EMPTY_LINE })
    }

    /// Returns whether each item and each record is accounted for: the items by their outcomes, the records by the
    /// server's responses. False while records are in flight.
    pub fn totals_match(&self) -> bool {
        let items =
            self.item_kinds.values().map(|i| i.converted + i.failed + i.skipped.values().sum::<u64>());
        let records = self.record_kinds.values().map(RecordCounts::all);
        items.sum::<u64>() == self.items && records.sum::<u64>() == self.records
    }

    /// Returns the number of failed items and rejected records.
    pub fn problems(&self) -> u64 {
        self.problems.len() as u64 + self.more_problems - self.still_live
    }

    fn counts_of(&mut self, label: &str) -> &mut RecordCounts {
        let kind = label.split_once('/').map_or("records", |(kind, _)| kind);
        self.record_kinds.entry(kind.to_owned()).or_default()
    }

    fn add_problem(&mut self, problem: String) {
        if self.problems.len() < MAX_LISTED_PROBLEMS {
            self.problems.push(problem);
        } else {
            self.more_problems += 1;
        }
    }
}

fn to_json(line: &Line<'_>) -> String {
    serde_json::to_string(line).expect("strings and numbers are JSON")
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.items > 0 {
            self.write_items(f)?;
        }
        if self.records > 0 {
            self.write_records(f)?;
        }
        for problem in &self.problems {
            writeln!(f, "  ! {problem}")?;
        }
        if self.more_problems > 0 {
            writeln!(f, "  ! and {} more", self.more_problems)?;
        }
        Ok(())
    }
}

impl Report {
    fn write_items(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<28} {:>10} {:>10} {:>10}", "in the file", "converted", "skipped", "failed")?;
        let (mut converted, mut skipped, mut failed) = (0, 0, 0);
        for (kind, counts) in &self.item_kinds {
            let skipped_of_kind = counts.skipped.values().sum::<u64>();
            writeln!(f, "{kind:<28} {:>10} {skipped_of_kind:>10} {:>10}", counts.converted, counts.failed)?;
            for (reason, count) in &counts.skipped {
                writeln!(f, "  {count} skipped: {reason}")?;
            }
            converted += counts.converted;
            skipped += skipped_of_kind;
            failed += counts.failed;
        }
        writeln!(
            f,
            "{:<28} {converted:>10} {skipped:>10} {failed:>10}",
            format!("all {} items", self.items)
        )?;
        if self.raw_html > 0 {
            writeln!(f, "{} raw HTML blocks in {} bodies", self.raw_html, self.bodies_with_raw_html)?;
        }
        if self.dropped > 0 {
            writeln!(f, "{} elements reduced to text", self.dropped)?;
        }
        if self.notes > 0 {
            writeln!(f, "{} changes to make items fit", self.notes)?;
        }
        self.write_not_imported(f)
    }

    fn write_not_imported(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut kinds: Vec<_> = self.not_imported.iter().collect();
        kinds.sort_by_key(|(_, count)| Reverse(**count));
        for (kind, count) in kinds.iter().take(MAX_LISTED_KINDS) {
            writeln!(f, "not imported: {kind}: {count}")?;
        }
        if let Some(more @ 1..) = kinds.len().checked_sub(MAX_LISTED_KINDS) {
            writeln!(f, "not imported: {more} more kinds, see the report file")?;
        }
        Ok(())
    }

    fn write_records(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = |f: &mut fmt::Formatter<'_>, [a, b, c, d, e]: [&dyn Display; 5]| {
            writeln!(f, "{a:<28} {b:>10} {c:>10} {d:>10} {e:>10}")
        };
        row(f, [&"on the server", &"written", &"unchanged", &"kept", &"refused"])?;
        let mut acknowledged = 0;
        for (kind, counts) in &self.record_kinds {
            row(f, [kind, &counts.written, &counts.unchanged, &counts.kept(), &counts.refused])?;
            for (reason, count) in &counts.kept {
                writeln!(f, "  {count} kept: {reason}")?;
            }
            acknowledged += counts.all();
        }
        if self.without_path > 0 {
            let count = self.without_path;
            writeln!(
                f,
                "{count} articles without their path, which other articles have; import again once those have moved"
            )?;
        }
        if acknowledged < self.records {
            writeln!(f, "{} of {} records have no result", self.records - acknowledged, self.records)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SkipReason;
    use cable_proto::v1;

    fn item(kind: &str, outcome: ItemOutcome) -> Item {
        Item::new(format!("{kind} 7 'Harbour'"), kind, outcome)
    }

    fn report() -> Report {
        let mut report = Report::default();
        let records = vec![v1::Record::default(); 2];
        let line = report.add(&item(
            "post",
            ItemOutcome::Converted(ConvertedItem { records, ..ConvertedItem::default() }),
        ));
        assert_eq!(line, r#"{"outcome":"converted","kind":"post","label":"post 7 'Harbour'"}"#);
        report.add(&item("post", ItemOutcome::Skipped(SkipReason::Status("draft".into()))));
        report.add(&item("post", ItemOutcome::Skipped(SkipReason::ScheduledWithoutTime)));
        report.add(&item("page", ItemOutcome::Failed("too large".into())));
        report
    }

    #[test]
    fn totals_match_once_every_record_has_a_result() {
        let mut report = report();
        assert!(!report.totals_match());
        report.written("articles/wp-7");
        assert!(!report.totals_match());
        report.refused("tags/harbour", "FAILED_PRECONDITION", "GONE", "removed");
        assert!(report.totals_match());
        assert_eq!(report.problems(), 2);
        report.unchanged("articles/wp-7");
        assert!(!report.totals_match(), "a surplus result is an error too");
    }

    #[test]
    fn every_item_is_a_json_line() {
        let mut report = report();
        let line = report.add(&item("post", ItemOutcome::Skipped(SkipReason::Password)));
        let expected =
            r#"{"outcome":"skipped","kind":"post","label":"post 7 'Harbour'","reason":"password-protected"}"#;
        assert_eq!(line, expected);
        let line = report.refused("tags/x", "INVALID_ARGUMENT", "BAD_ID", "line\nfeed");
        assert!(line.contains(r#""code":"INVALID_ARGUMENT""#) && !line.contains('\n'), "{line}");
        let converted =
            ConvertedItem { raw_html: 2, notes: vec!["headline cut".into()], ..ConvertedItem::default() };
        let line = report.add(&item("post", ItemOutcome::Converted(converted)));
        assert!(line.contains(r#""notes":["headline cut"],"raw_html":2"#), "{line}");
    }

    #[test]
    fn the_table_counts_each_item_once() {
        let mut report = report();
        report.written("articles/wp-7");
        let table = report.to_string();
        for expected in
            ["1 skipped: status draft", "all 4 items", "too large", "1 of 2 records have no result"]
        {
            assert!(table.contains(expected), "{expected} in\n{table}");
        }
    }

    #[test]
    fn kept_versions_and_omitted_paths_are_no_problems() {
        let mut report = report();
        let line = report.kept("articles/wp-7", KeepReason::Changed);
        assert!(line.starts_with(r#"{"outcome":"kept","label":"articles/wp-7","reason":"changed"#), "{line}");
        report.kept("tags/a", KeepReason::Mentioned);
        assert!(report.totals_match());
        let line = report.without_path("articles/wp-7", "/a", "articles/b");
        assert!(
            line.contains(r#""outcome":"without path""#) && line.contains("/a belongs to articles/b"),
            "{line}"
        );
        let table = report.to_string();
        for expected in ["1 kept: changed since", "1 kept: exists already", "1 articles without their path"] {
            assert!(table.contains(expected), "{expected} in\n{table}");
        }
        assert_eq!(report.problems(), 1, "the failed page");
    }

    #[test]
    fn parts_that_are_not_imported_are_counted_by_kind() {
        let mut report = Report::default();
        let convert = |counts: &[(&str, u64)]| {
            let not_imported = counts.iter().map(|(kind, count)| ((*kind).to_owned(), *count)).collect();
            item("post", ItemOutcome::Converted(ConvertedItem { not_imported, ..ConvertedItem::default() }))
        };
        let line = report.add(&convert(&[("comments", 2), ("custom field mood", 1)]));
        assert!(line.ends_with(r#""not_imported":{"comments":2,"custom field mood":1}}"#), "{line}");
        report.add(&convert(&[("comments", 3)]));
        let table = report.to_string();
        assert!(table.contains("not imported: comments: 5\nnot imported: custom field mood: 1\n"), "{table}");
        for n in 0..2 * MAX_NOT_IMPORTED_KINDS {
            report.add(&convert(&[(&format!("custom field {n}"), 1)]));
        }
        assert_eq!(report.not_imported.len(), MAX_NOT_IMPORTED_KINDS + 1);
        assert_eq!(report.not_imported.values().sum::<u64>(), 6 + 2 * MAX_NOT_IMPORTED_KINDS as u64);
        assert!(report.to_string().contains("more kinds"));
    }

    #[test]
    fn problems_above_the_listed_ones_are_counted() {
        let mut report = Report::default();
        for n in 0..MAX_LISTED_PROBLEMS + 5 {
            report.refused(&format!("tags/{n}"), "INTERNAL", "", "");
        }
        assert_eq!(report.problems() as usize, MAX_LISTED_PROBLEMS + 5);
        assert!(report.to_string().contains("and 5 more"));
    }
}
