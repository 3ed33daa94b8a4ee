//! The report of an import: each item once, and the outcome of each record, so that nothing is lost silently.
//!
//! The report stores counts only. For each item that is not imported, it returns a JSON line at once, which the caller
//! writes to a file: an export can have millions of items.

use std::{
    collections::BTreeMap,
    fmt::{self, Display},
};

use serde::Serialize;

use super::{Fate, Item, Taken};

/// The maximum number of problems that the table lists. The JSON lines have all of them.
const LISTED: usize = 20;

/// A report that counts items and records by outcome.
#[derive(Debug, Default)]
pub struct Report {
    items: u64,
    kinds: BTreeMap<String, Fates>,
    records: u64,
    outcomes: BTreeMap<String, Outcomes>,
    bodies_with_raw_html: u64,
    raw_html: u64,
    dropped: u64,
    notes: u64,
    problems: Vec<String>,
    more_problems: u64,
}

/// The outcomes of the items of one kind.
#[derive(Debug, Default)]
struct Fates {
    taken: u64,
    skipped: BTreeMap<String, u64>,
    failed: u64,
}

/// The server's results for the records of one kind.
#[derive(Debug, Default)]
struct Outcomes {
    written: u64,
    unchanged: u64,
    refused: u64,
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
}

const NO_LINE: Line<'static> = Line {
    outcome: "",
    kind: "",
    label: "",
    code: "",
    reason: "",
    message: "",
    notes: &[],
    raw_html: 0,
    dropped: 0,
};

fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl Report {
    /// Counts an item. Returns a JSON line (no line feed) if the item was not converted, or was converted with raw
    /// HTML, dropped markup or notes.
    pub fn add(&mut self, item: &Item) -> Option<String> {
        self.items += 1;
        let fates = self.kinds.entry(item.kind.clone()).or_default();
        let line = Line { kind: &item.kind, label: &item.label, ..NO_LINE };
        match &item.fate {
            Fate::Taken(taken) => {
                fates.taken += 1;
                self.taken(taken, line)
            }
            Fate::Skipped(reason) => {
                let reason = reason.to_string();
                *fates.skipped.entry(reason.clone()).or_default() += 1;
                Some(to_json(&Line { outcome: "skipped", reason: &reason, ..line }))
            }
            Fate::Failed(why) => {
                fates.failed += 1;
                self.problem(format!("{}: {why}", item.label));
                Some(to_json(&Line { outcome: "failed", message: why, ..line }))
            }
        }
    }

    fn taken(&mut self, taken: &Taken, line: Line<'_>) -> Option<String> {
        self.records += taken.records.len() as u64;
        self.bodies_with_raw_html += u64::from(taken.raw_html > 0);
        self.raw_html += taken.raw_html as u64;
        self.dropped += taken.dropped as u64;
        self.notes += taken.notes.len() as u64;
        let whole = taken.raw_html == 0 && taken.dropped == 0 && taken.notes.is_empty();
        (!whole).then(|| {
            let Taken { raw_html, dropped, notes, .. } = taken;
            to_json(&Line { outcome: "taken", notes, raw_html: *raw_html, dropped: *dropped, ..line })
        })
    }

    /// Counts a sent record that does not come from an [`Item`] but from a file of records.
    pub fn add_record(&mut self) {
        self.records += 1;
    }

    /// Counts a record that the server has written. The label is the record's name.
    pub fn written(&mut self, label: &str) {
        self.outcome(label).written += 1;
    }

    /// Counts a record that the server already had.
    pub fn unchanged(&mut self, label: &str) {
        self.outcome(label).unchanged += 1;
    }

    /// Counts a record that the server rejected. Returns the JSON line (no line feed).
    pub fn refused(&mut self, label: &str, code: &str, reason: &str, message: &str) -> String {
        self.outcome(label).refused += 1;
        self.problem(format!("{label}: {code} {reason}: {message}"));
        to_json(&Line { outcome: "refused", label, code, reason, message, ..NO_LINE })
    }

    /// Returns whether each item and each record is accounted for: the items by their outcomes, the records by the
    /// server's responses. False while records are in flight.
    pub fn totals_match(&self) -> bool {
        let fates = self.kinds.values().map(|f| f.taken + f.failed + f.skipped.values().sum::<u64>());
        let outcomes = self.outcomes.values().map(|o| o.written + o.unchanged + o.refused);
        fates.sum::<u64>() == self.items && outcomes.sum::<u64>() == self.records
    }

    /// Returns the number of failed items and rejected records.
    pub fn problems(&self) -> u64 {
        self.problems.len() as u64 + self.more_problems
    }

    fn outcome(&mut self, label: &str) -> &mut Outcomes {
        let kind = label.split_once('/').map_or("records", |(kind, _)| kind);
        self.outcomes.entry(kind.to_owned()).or_default()
    }

    fn problem(&mut self, what: String) {
        if self.problems.len() < LISTED {
            self.problems.push(what);
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
        writeln!(f, "{:<28} {:>10} {:>10} {:>10}", "in the file", "taken", "skipped", "failed")?;
        let (mut taken, mut skipped, mut failed) = (0, 0, 0);
        for (kind, fates) in &self.kinds {
            let of_kind = fates.skipped.values().sum::<u64>();
            writeln!(f, "{kind:<28} {:>10} {of_kind:>10} {:>10}", fates.taken, fates.failed)?;
            for (reason, count) in &fates.skipped {
                writeln!(f, "  {count} skipped: {reason}")?;
            }
            taken += fates.taken;
            skipped += of_kind;
            failed += fates.failed;
        }
        writeln!(f, "{:<28} {taken:>10} {skipped:>10} {failed:>10}", format!("all {} items", self.items))?;
        if self.raw_html > 0 {
            writeln!(f, "{} raw HTML blocks in {} bodies", self.raw_html, self.bodies_with_raw_html)?;
        }
        if self.dropped > 0 {
            writeln!(f, "{} places where markup was dropped and its words kept", self.dropped)?;
        }
        if self.notes > 0 {
            writeln!(f, "{} notes on what was changed to fit", self.notes)?;
        }
        Ok(())
    }

    fn write_records(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<28} {:>10} {:>10} {:>10}", "on the server", "written", "unchanged", "refused")?;
        let mut answered = 0;
        for (kind, o) in &self.outcomes {
            writeln!(f, "{kind:<28} {:>10} {:>10} {:>10}", o.written, o.unchanged, o.refused)?;
            answered += o.written + o.unchanged + o.refused;
        }
        if answered < self.records {
            writeln!(f, "{} of {} records have no answer", self.records - answered, self.records)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SkipReason;
    use cable_proto::v1;

    fn item(kind: &str, fate: Fate) -> Item {
        Item { label: format!("{kind} 7 'Harbour'"), kind: kind.into(), fate }
    }

    fn full() -> Report {
        let mut report = Report::default();
        let records = vec![v1::Record::default(); 2];
        assert_eq!(report.add(&item("post", Fate::Taken(Taken { records, ..Taken::default() }))), None);
        report.add(&item("post", Fate::Skipped(SkipReason::Status("draft".into()))));
        report.add(&item("post", Fate::Skipped(SkipReason::Scheduled)));
        report.add(&item("page", Fate::Failed("it is too large".into())));
        report
    }

    #[test]
    fn totals_match_only_when_every_record_is_answered() {
        let mut report = full();
        assert!(!report.totals_match());
        report.written("articles/wp-7");
        assert!(!report.totals_match());
        report.refused("tags/harbour", "FAILED_PRECONDITION", "GONE", "it was removed");
        assert!(report.totals_match());
        assert_eq!(report.problems(), 2);
        report.unchanged("articles/wp-7");
        assert!(!report.totals_match(), "an answer too many is a fault too");
    }

    #[test]
    fn what_is_not_taken_is_a_line_of_json() {
        let mut report = full();
        let line = report.add(&item("post", Fate::Skipped(SkipReason::Password))).unwrap();
        let expected =
            r#"{"outcome":"skipped","kind":"post","label":"post 7 'Harbour'","reason":"password-protected"}"#;
        assert_eq!(line, expected);
        let line = report.refused("tags/x", "INVALID_ARGUMENT", "BAD_ID", "line\nfeed");
        assert!(line.contains(r#""code":"INVALID_ARGUMENT""#) && !line.contains('\n'), "{line}");
        let taken = Taken { raw_html: 2, notes: vec!["headline cut".into()], ..Taken::default() };
        let line = report.add(&item("post", Fate::Taken(taken))).unwrap();
        assert!(line.contains(r#""notes":["headline cut"],"raw_html":2"#), "{line}");
    }

    #[test]
    fn the_table_counts_each_item_once() {
        let mut report = full();
        report.written("articles/wp-7");
        let table = report.to_string();
        for wanted in
            ["1 skipped: status draft", "all 4 items", "it is too large", "1 of 2 records have no answer"]
        {
            assert!(table.contains(wanted), "{wanted} in\n{table}");
        }
    }

    #[test]
    fn problems_beyond_the_list_are_counted() {
        let mut report = Report::default();
        for n in 0..LISTED + 5 {
            report.refused(&format!("tags/{n}"), "INTERNAL", "", "");
        }
        assert_eq!(report.problems() as usize, LISTED + 5);
        assert!(report.to_string().contains("and 5 more"));
    }
}
