//! Results of a benchmark, as JSON and as tables in Markdown.

use std::{fmt::Write as _, fs, path::Path, time::Duration};

use serde_json::{Map, Value, json};

use crate::Outcome;

/// The results, in the order of the table.
#[derive(Debug, Default)]
pub(crate) struct Report {
    facts: Vec<(&'static str, String, Value)>,
    calls: Vec<Calls>,
    /// Notes that are necessary to interpret the figures.
    pub(crate) notes: Vec<String>,
}

/// The measurements of one call that was repeated.
#[derive(Debug)]
pub(crate) struct Calls {
    pub(crate) label: String,
    /// The latencies in the order of the calls.
    pub(crate) times: Vec<Duration>,
    /// The node's processor time for all of them.
    pub(crate) cpu: Duration,
    /// The number of articles in each response.
    pub(crate) articles: usize,
}

impl Calls {
    fn micros(&self, share: f64) -> u64 {
        let mut sorted = self.times.clone();
        sorted.sort_unstable();
        // The nearest rank: the smallest time that this share of the calls did not exceed.
        let index = ((sorted.len() as f64 * share).ceil() as usize).saturating_sub(1);
        sorted.get(index).map_or(0, |time| time.as_micros() as u64)
    }

    fn first(&self) -> u64 {
        self.times.first().map_or(0, |time| time.as_micros() as u64)
    }

    fn cpu_micros(&self) -> u64 {
        self.cpu.as_micros() as u64 / self.times.len().max(1) as u64
    }

    fn row(&self) -> String {
        let (p50, p99) = (self.micros(0.5), self.micros(0.99));
        let figures = [self.articles as u64, self.first(), p50, p99, self.cpu_micros()].map(grouped);
        format!("| {} | {} |", self.label, figures.join(" | "))
    }

    fn json(&self) -> Value {
        json!({
            "call": self.label, "articles": self.articles, "calls": self.times.len(),
            "first_us": self.first(), "p50_us": self.micros(0.5), "p99_us": self.micros(0.99),
            "server_cpu_us": self.cpu_micros(),
        })
    }
}

impl Report {
    /// Adds a figure: its name, its value for the file, and its text for the table.
    pub(crate) fn fact(&mut self, label: &'static str, value: impl Into<Value>, shown: impl Into<String>) {
        let shown = shown.into();
        eprintln!("{label}: {shown}");
        self.facts.push((label, shown, value.into()));
    }

    pub(crate) fn calls(&mut self, calls: Calls) {
        eprintln!("{}", calls.row());
        self.calls.push(calls);
    }

    /// Returns the tables and notes.
    pub(crate) fn markdown(&self) -> String {
        let mut text = String::from("| Measured | Result |\n| --- | ---: |\n");
        for (label, shown, _) in &self.facts {
            let _ = writeln!(text, "| {label} | {shown} |");
        }
        if !self.calls.is_empty() {
            text += "\n| Call, one at a time | Articles | First, us | p50, us | p99, us | Server CPU, us |\n";
            text += "| --- | ---: | ---: | ---: | ---: | ---: |\n";
        }
        for calls in &self.calls {
            text += &calls.row();
            text.push('\n');
        }
        for note in &self.notes {
            let _ = write!(text, "\n{note}\n");
        }
        text
    }

    fn json(&self) -> Value {
        let facts: Map<String, Value> =
            self.facts.iter().map(|(label, _, value)| ((*label).to_owned(), value.clone())).collect();
        let calls: Vec<Value> = self.calls.iter().map(Calls::json).collect();
        json!({ "facts": facts, "calls": calls, "notes": self.notes })
    }

    /// Writes NAME.json and NAME.md into bench/results.
    ///
    /// # Errors
    /// Fails if a file cannot be written.
    pub(crate) fn write_as(&self, root: &Path, name: &str) -> Outcome<()> {
        let results = root.join("bench/results");
        fs::create_dir_all(&results)?;
        fs::write(results.join(format!("{name}.json")), format!("{:#}\n", self.json()))?;
        fs::write(results.join(format!("{name}.md")), self.markdown())?;
        Ok(())
    }
}

/// Returns the text with the block between the marks of a name replaced. If the text has no such marks, they are added
/// with the block at its end.
pub(crate) fn with_block(text: &str, name: &str, block: &str) -> String {
    let (begin, end) = marks(name);
    let found = text.split_once(&begin).and_then(|(before, rest)| Some((before, rest.split_once(&end)?.1)));
    let (before, after) = found.unwrap_or((text, "\n"));
    let gap = if found.is_none() && !before.ends_with("\n\n") { "\n" } else { "" };
    format!("{before}{gap}{begin}\n{block}{end}{after}")
}

fn marks(name: &str) -> (String, String) {
    (format!("<!-- {name}:begin -->"), format!("<!-- {name}:end -->"))
}

/// Returns a number with commas between groups of three digits.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + 4);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_replaced_or_appended() {
        let (begin, end) = marks("x");
        let added = with_block("# Cable\n", "x", "one\n");
        assert_eq!(added, format!("# Cable\n\n{begin}\none\n{end}\n"));
        let more = format!("{added}More.\n");
        assert_eq!(with_block(&more, "x", "two\n"), format!("# Cable\n\n{begin}\ntwo\n{end}\nMore.\n"));
    }

    #[test]
    fn long_numbers_are_grouped() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn quantiles_are_those_of_the_nearest_rank() {
        let times = (1..=100).rev().map(Duration::from_micros).collect();
        let calls = Calls { label: String::new(), times, cpu: Duration::from_micros(500), articles: 1 };
        assert_eq!(
            (calls.first(), calls.micros(0.5), calls.micros(0.99), calls.cpu_micros()),
            (100, 50, 99, 5)
        );
    }
}
