//! The cost of a store's size: the same hot articles and the same hot tag in a small and in a large store.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::ValueEnum;
use tokio::runtime::{Builder, Runtime};

use crate::{
    Outcome,
    machine::machine,
    node::{Node, Program},
    report::{Report, grouped},
    scale,
};

mod cost;
mod load;
mod memory;
mod stall;
mod stores;

use load::median;
use stores::{HOT, Stores, Which, hot};

/// The minimum number of articles in the large store. With fewer, reads that must miss the cache would repeat.
const MIN_ARTICLES: u64 = 50_000;

/// The number of rounds. The median counts.
const ROUNDS: usize = 7;
/// The number of times that a node is started.
const STARTS: usize = 5;

/// The maximum time in seconds to start a node.
const MAX_START_SECS: f64 = 2.0;

/// The index of the scheduling policy in /proc/PID/stat after the name, from 0.
const POLICY_INDEX: usize = 38;

/// A part of the measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Start,
    Cost,
    Stall,
    Memory,
}

impl Part {
    const ALL: [Part; 4] = [Part::Start, Part::Cost, Part::Stall, Part::Memory];
}

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Number of articles in the large store.
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(MIN_ARTICLES..))]
    articles: u64,
    /// Directory for the stores. If it has them already, they are not built again. If unset, a temporary one.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Part to measure alone; writes no results.
    #[arg(long, value_name = "PART")]
    only: Option<Part>,
}

/// Runs everything and writes the results.
///
/// # Errors
/// Fails if a step of the measurement fails or a file cannot be written.
pub(crate) fn run(root: &Path, options: Options) -> Outcome<()> {
    let Options { articles, keep, only } = options;
    let program = Program::build(root)?;
    let temporary = tempfile::tempdir()?;
    let dir = keep.unwrap_or_else(|| temporary.path().join("size"));
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    let mut report = Report::default();
    report.notes.push(machine());
    let stores = Stores::open(&program, &dir, articles)?;
    let mut bench = Bench { program, stores, runtime, report };
    bench.facts()?;
    Part::ALL
        .into_iter()
        .filter(|part| only.is_none_or(|only| only == *part))
        .try_for_each(|part| bench.measure(part))?;
    bench.report.notes.push(explanation());
    bench.report.notes.extend(priority()?);
    if only.is_none() {
        bench.report.write_as(root, "size")?;
    }
    eprintln!("\n{}", bench.report.markdown());
    Ok(())
}

struct Bench {
    program: Program,
    stores: Stores,
    runtime: Runtime,
    report: Report,
}

impl Bench {
    fn serve(&self, which: Which) -> Outcome<Node> {
        self.program.serve(&self.stores.store(which), &self.stores.log())
    }

    fn measure(&mut self, part: Part) -> Outcome<()> {
        match part {
            Part::Start => self.starts(),
            Part::Cost => self.costs(),
            Part::Stall => self.stalls(),
            Part::Memory => self.memory(),
        }
    }

    fn facts(&mut self) -> Outcome<()> {
        let articles = self.stores.articles;
        self.report.fact("Articles of the large store", articles, grouped(articles));
        if let Some(elapsed) = self.stores.imported {
            let rate = articles as f64 / elapsed.as_secs_f64();
            let shown = format!("{:.0} s, {} a second", elapsed.as_secs_f64(), grouped(rate as u64));
            self.report.fact("- imported in", elapsed.as_secs_f64(), shown);
        }
        let bytes = fs::metadata(self.stores.database(Which::Large))?.len();
        self.report.fact("- on disk", bytes, format!("{} MB", bytes / 1_000_000));
        Ok(())
    }

    /// Measures the time from the start of a process to its first response, with nothing of the store in the system's
    /// memory.
    fn starts(&mut self) -> Outcome<()> {
        for (which, label) in [(Which::Small, "Start of the small"), (Which::Large, "Start of the large")] {
            let mut times = Vec::new();
            for _ in 0..STARTS {
                self.stores.drop_from_page_cache(which)?;
                let node = self.serve(which)?;
                let cable = scale::client(&node)?;
                self.runtime.block_on(async { cable.article(hot(0)).await })?;
                times.push(node.started.elapsed().as_secs_f64());
                node.stop()?;
            }
            let start = median(times);
            self.report.fact(label, start, format!("{start:.3} s{}", verdict_of(start, MAX_START_SECS)));
        }
        Ok(())
    }
}

/// Returns the verdict on a figure with a maximum.
fn verdict_of(figure: f64, max: f64) -> String {
    let label = if figure <= max { "at most" } else { "MISSED: at most" };
    format!(" ({label} {max})")
}

/// Returns a note if this runs at a real-time priority, as `chrt --rr 10` sets it. Its nodes inherit it.
fn priority() -> Outcome<Option<String>> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let policy = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(POLICY_INDEX));
    let note = "Nodes and load ran at a real-time priority: other work of the machine affects them less.";
    Ok(policy.filter(|policy| *policy != "0").map(|_| note.to_owned()))
}

fn explanation() -> String {
    format!(
        "Both stores hold the same {} articles of 6.4 KB under the same tag, and the large one also has others of 1 KB. \
         Costs are the server's processor time for a call, the small store's first: medians of {ROUNDS} rounds in \
         turns, the ratio that of the rounds' ratios. Times are a client's, over loopback on the same machine, from \
         the time that a call was intended for, at 2,000 calls a second in the manner of independent users: medians of \
         the rounds' p50 and p99. Start and misses that read the disk: the store had been dropped from the page cache.",
        grouped(HOT)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_target_is_marked() {
        assert_eq!(verdict_of(1.2, 1.2), " (at most 1.2)");
        assert_eq!(verdict_of(1.3, 1.2), " (MISSED: at most 1.2)");
    }
}
