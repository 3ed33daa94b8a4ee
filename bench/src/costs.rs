//! The cost of the worst request for each method, field and parameter to the server: processor time, memory, and the
//! latency of another client.
//!
//! Each row goes to a node of its own. Its request is repeated with other names until 1.2 s or 40 calls are reached; of
//! a row with several requests, each is repeated for a shorter time, and the costliest one counts. Meanwhile a second
//! client reads one article every few milliseconds.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use cases::{Case, Variant};
use raw::Raw;
use tokio::runtime::Runtime;

use crate::{
    Outcome,
    node::{Node, Program},
    report::{grouped, with_block},
};

mod cases;
mod raw;

/// The maximum cost of a request.
const MAX_CPU: Duration = Duration::from_millis(250);
const MAX_MEMORY: u64 = 64 << 20;
/// The maximum growth of the other client's 99th percentile: a fifth, or this.
const MAX_ADDED_WAIT: Duration = Duration::from_millis(5);

/// The time for which each request is repeated: processor time is counted in hundredths of a second.
const REPEAT_TIME: Duration = Duration::from_millis(1_200);
const MAX_CALLS: usize = 40;
/// The same for each request of a row with several.
const VARIANT_TIME: Duration = Duration::from_millis(60);
/// How often a request above a bound is measured, so that a moment at which the machine was busy fails nothing. The last
/// measurement counts.
const ATTEMPTS: usize = 3;
/// The interval between two reads of the other client.
const READ_INTERVAL: Duration = Duration::from_millis(2);
/// The time for which the other client is alone with the node.
const BASELINE_TIME: Duration = Duration::from_millis(600);

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Part of the name of a method or request to measure alone; writes no results.
    #[arg(long, value_name = "PART")]
    only: Option<String>,
    /// Server program to measure instead of the current one; writes no results.
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Measure the first requests of each row only, at most this many; writes no results.
    #[arg(long, value_name = "COUNT")]
    first: Option<usize>,
}

/// Measures, and writes the table into docs/reliability.md.
///
/// # Errors
/// Fails if a step of the measurement fails, or if a request exceeds its maximum cost.
pub(crate) fn run(root: &Path, options: Options) -> Outcome<()> {
    let Options { only, program, first } = options;
    let writes_results = only.is_none() && program.is_none() && first.is_none();
    let program = program.map_or_else(|| Program::build(root), |path| Ok(Program::at(path)))?;
    let mut rows = Vec::new();
    for mut case in cases::all() {
        case.variants.truncate(first.unwrap_or(usize::MAX));
        let included =
            only.as_ref().is_none_or(|only| case.method.contains(only) || case.label.contains(only));
        if included {
            let mut row = measure(&program, &case)?;
            for _ in 1..ATTEMPTS {
                if !row.is_met() {
                    row = measure(&program, &case)?;
                }
            }
            eprintln!("{}", row.markdown());
            rows.push(row);
        }
    }
    if writes_results {
        let path = root.join("docs/reliability.md");
        let text = fs::read_to_string(&path)?;
        fs::write(path, with_block(&text, "costs", &table(&rows)))?;
    }
    let missed: Vec<String> = rows.iter().filter(|row| !row.is_met()).map(Row::markdown).collect();
    if missed.is_empty() { Ok(()) } else { Err(format!("above the bound:\n{}", missed.join("\n")).into()) }
}

/// The cost of one request.
struct Row {
    method: String,
    label: String,
    request: usize,
    outcome: String,
    cpu: Duration,
    memory: u64,
    baseline: Duration,
    during: Duration,
}

impl Row {
    fn is_met(&self) -> bool {
        let wait = self.baseline + (self.baseline / 5).max(MAX_ADDED_WAIT);
        self.cpu <= MAX_CPU && self.memory <= MAX_MEMORY && self.during <= wait
    }

    /// Returns the larger of the shares of the two bounds that the request uses.
    fn share(&self) -> f64 {
        let memory = self.memory as f64 / MAX_MEMORY as f64;
        (self.cpu.as_secs_f64() / MAX_CPU.as_secs_f64()).max(memory)
    }

    fn markdown(&self) -> String {
        let millis = |time: Duration| format!("{:.1}", time.as_secs_f64() * 1e3);
        let mark = if self.is_met() { "" } else { " **above**" };
        format!(
            "| {} | {} | {} | {} | {} | {:.1} | {} / {}{mark} |",
            self.method,
            self.label,
            grouped(self.request as u64),
            self.outcome,
            millis(self.cpu),
            self.memory as f64 / f64::from(1 << 20),
            millis(self.during),
            millis(self.baseline),
        )
    }
}

fn table(rows: &[Row]) -> String {
    let mut text = String::from(
        "| Method | Request | Bytes | Response | CPU, ms | Memory, MiB | p99 of another client, ms: during / before |\n\
         | --- | --- | ---: | --- | ---: | ---: | ---: |\n",
    );
    for row in rows {
        let _ = writeln!(text, "{}", row.markdown());
    }
    text
}

fn measure(program: &Program, case: &Case) -> Outcome<Row> {
    let dir = tempfile::tempdir()?;
    let (store, token) = (dir.path().join("store"), case.token.as_deref());
    let token = token.map(|filter| program.new_reader(&store, filter)).transpose()?;
    let settings = [
        ("CABLE__STORE__RESERVE_BYTES", "0"),
        ("CABLE__SERVER__THREADS", "2"),
        // The callers without a token fill the store and read the probe.
        ("CABLE__AUTH__ANONYMOUS", "admin"),
        // Without a site, there are no feeds and sitemaps.
        ("CABLE__SITE__URL", "https://news.example"),
        ("CABLE__SITE__NAME", "News"),
        ("CABLE__SITE__LANGUAGE", "en"),
    ];
    let node = program.serve_with(&store, &dir.path().join("log"), &settings)?;
    let runtime = runtime()?;
    let raw = runtime.block_on(async { Raw::connect(&node.endpoint) })?;
    runtime.block_on(async {
        raw.import(cases::probe()).await?;
        (case.prepare)(raw.clone()).await
    })?;
    let caller = token.map_or_else(|| raw.clone(), |token| raw.with_token(&token));
    let prober = Prober::start(&node.endpoint)?;
    std::thread::sleep(BASELINE_TIME);
    let baseline = p99(prober.take());
    let idle = prober_cpu(&node)?;
    let mut next = 0;
    let (mut costliest, mut accepted): (Option<Row>, usize) = (None, 0);
    let time = if case.variants.len() > 1 { VARIANT_TIME } else { REPEAT_TIME };
    for variant in &case.variants {
        let (row, is_accepted) =
            measure_variant(case, variant, &node, &runtime, &caller, (idle, time), &mut next)?;
        accepted += usize::from(is_accepted);
        let larger = costliest.as_ref().is_none_or(|before| row.share() > before.share());
        costliest = if larger { Some(row) } else { costliest };
    }
    let during = p99(prober.take());
    prober.stop();
    node.stop()?;
    let mut row = costliest.ok_or("a case has no requests")?;
    if accepted == 0 && case.needs_success {
        return Err(
            format!("{}: no request was accepted, so nothing costly was measured", case.method).into()
        );
    }
    if case.variants.len() > 1 {
        row.label = format!("{} ({accepted} accepted); the costliest: {}", case.label, row.label);
    }
    Ok(Row { baseline, during, ..row })
}

/// Measures one request of a case. `idle` is the processor time per second that the other client causes.
fn measure_variant(
    case: &Case,
    variant: &Variant,
    node: &Node,
    runtime: &Runtime,
    caller: &Raw,
    (idle, time): (Duration, Duration),
    next: &mut usize,
) -> Outcome<(Row, bool)> {
    let send = |number: &mut usize| {
        let request = (variant.request)(*number);
        *number += 1;
        runtime.block_on(caller.send(&case.method, request, case.messages))
    };
    let request = (variant.request)(*next).len();
    let before = node.memory()?;
    fs::write(format!("/proc/{}/clear_refs", node.id()), "5")?;
    let (start, cpu) = (Instant::now(), node.threads_cpu()?);
    let busy = || -> Outcome<Duration> {
        let probing = idle.mul_f64(start.elapsed().as_secs_f64());
        Ok(node.threads_cpu()?.saturating_sub(cpu).saturating_sub(probing))
    };
    let sent = send(next);
    let first_call = busy()?;
    let memory = node.peak_memory()?.saturating_sub(before);
    let mut calls = 1;
    while start.elapsed() < time && calls < MAX_CALLS {
        // A response from the cache costs nothing, so each request is a different one.
        let _same = send(next);
        calls += 1;
    }
    let total = busy()?;
    let label = if case.variants.len() > 1 { variant.label.clone() } else { case.label.clone() };
    let row = Row {
        method: case.method.clone(),
        label,
        request,
        outcome: sent.outcome,
        // Work that only the first call had to do counts in full; it is not divided among the repetitions.
        cpu: first_call.max(total / u32::try_from(calls)?),
        memory,
        baseline: Duration::ZERO,
        during: Duration::ZERO,
    };
    Ok((row, sent.is_accepted))
}

/// Returns the processor time of the node per second for the other client alone.
fn prober_cpu(node: &Node) -> Outcome<Duration> {
    let (start, cpu) = (Instant::now(), node.threads_cpu()?);
    std::thread::sleep(BASELINE_TIME);
    Ok(node.threads_cpu()?.saturating_sub(cpu).div_f64(start.elapsed().as_secs_f64()))
}

fn p99(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() * 99 / 100).or(times.last()).copied().unwrap_or_default()
}

fn runtime() -> Outcome<Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// A client that reads one article repeatedly, on a thread and a connection of its own.
struct Prober {
    times: Arc<Mutex<Vec<Duration>>>,
    stopped: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Prober {
    fn start(endpoint: &str) -> Outcome<Prober> {
        let (times, stopped) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (endpoint, into, end) = (endpoint.to_owned(), times.clone(), stopped.clone());
        let runtime = runtime()?;
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                let Ok(raw) = Raw::connect(&endpoint) else { return };
                while !end.load(Relaxed) {
                    let start = Instant::now();
                    let got = raw.call("ContentService/GetArticle", cases::get("probe"), 1).await;
                    if got.is_ok() {
                        into.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(start.elapsed());
                    }
                    tokio::time::sleep(READ_INTERVAL).await;
                }
            });
        });
        Ok(Prober { times, stopped, thread })
    }

    fn take(&self) -> Vec<Duration> {
        std::mem::take(&mut self.times.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    fn stop(self) {
        self.stopped.store(true, Relaxed);
        let _ended = self.thread.join();
    }
}
