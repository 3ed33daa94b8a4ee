//! The cost of the worst request for each method and field to the server: processor time, memory, and the latency of
//! another client.
//!
//! Each request goes to a node of its own, and is repeated with other names until 1.2 s or 40 calls are reached.
//! Meanwhile a second client reads one article every few milliseconds.

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

use cases::Case;
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
}

/// Measures, and writes the table into docs/reliability.md.
///
/// # Errors
/// Fails if a step of the measurement fails, or if a request exceeds its maximum cost.
pub(crate) fn run(root: &Path, options: Options) -> Outcome<()> {
    let Options { only, program } = options;
    let writes_results = only.is_none() && program.is_none();
    let program = program.map_or_else(|| Program::build(root), |path| Ok(Program::at(path)))?;
    let mut rows = Vec::new();
    for case in cases::all() {
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
    method: &'static str,
    label: &'static str,
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
    let settings = [("CABLE__STORE__RESERVE_BYTES", "0"), ("CABLE__SERVER__THREADS", "2")];
    let node = program.serve_with(&dir.path().join("store"), &dir.path().join("log"), &settings)?;
    let runtime = runtime()?;
    let raw = runtime.block_on(async { Raw::connect(&node.endpoint) })?;
    runtime.block_on(async {
        raw.put_article(&cases::small("probe")).await?;
        (case.prepare)(raw.clone()).await
    })?;
    let prober = Prober::start(&node.endpoint)?;
    std::thread::sleep(BASELINE_TIME);
    let baseline = prober.take();
    let idle = prober_cpu(&node)?;
    let request = (case.request)(0);
    let (bytes, before) = (request.len(), node.memory()?);
    fs::write(format!("/proc/{}/clear_refs", node.id()), "5")?;
    prober.take();
    let (start, cpu) = (Instant::now(), node.threads_cpu()?);
    let outcome = runtime.block_on(raw.call(case.method, request, case.messages));
    let first_call =
        (node.threads_cpu()?.saturating_sub(cpu)).saturating_sub(idle.mul_f64(start.elapsed().as_secs_f64()));
    let memory = node.peak_memory()?.saturating_sub(before);
    let mut calls = 1;
    while start.elapsed() < REPEAT_TIME && calls < MAX_CALLS {
        // A response from the cache costs nothing, so each request is a different one.
        let request = (case.request)(calls);
        let _same = runtime.block_on(raw.call(case.method, request, case.messages));
        calls += 1;
    }
    let elapsed = start.elapsed();
    let total = node.threads_cpu()?.saturating_sub(cpu).saturating_sub(idle.mul_f64(elapsed.as_secs_f64()));
    let during = prober.take();
    prober.stop();
    let outcome = outcome
        .map_or_else(|status| raw::reason(&status), |bytes| format!("{} bytes", grouped(bytes as u64)));
    let (baseline, during) = (p99(baseline), p99(during));
    node.stop()?;
    // Work that only the first call had to do counts in full; it is not divided among the repetitions.
    let cpu = first_call.max(total / u32::try_from(calls)?);
    Ok(Row { method: case.method, label: case.label, request: bytes, outcome, cpu, memory, baseline, during })
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
