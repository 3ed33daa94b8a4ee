//! A node that is offered more than it can serve: the server has one core, the generator another one.
//!
//! The calls are reads that are not in memory, because a call from memory costs a generator more than the server. The
//! cost of a refusal is measured on a node that refuses all of them for lack of memory.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use cable_client::{
    Cable,
    v1::{self, ArticleView, BodyFormat},
};
use cable_load::{Articles, Limit, Mode, Plan, ReadCall, ReadLoad, Report as _};
use clap::builder::RangedU64ValueParser;
use rustix::thread::{CpuSet, sched_setaffinity};
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

use crate::{
    Outcome,
    node::{Node, Program},
    report::Report,
    words::Words,
};
use cable_load::random::Random;

const SERVER_CORE: usize = 0;
const GENERATOR_CORE: usize = 1;

/// The articles: too large for the smallest cache, so that nearly every read goes to the store.
const ARTICLES: usize = 400;
const PARAGRAPHS: usize = 160;
const PARAGRAPH_BYTES: usize = 500;
const CACHE: (&str, &str) = ("CABLE__CACHE__MAX_BYTES", "1MiB");
/// A limit that every process exceeds.
const NO_MEMORY: (&str, &str) = ("CABLE__OVERLOAD__MAX_MEMORY_BYTES", "1");
/// The name of an article of an ordinary size, whose reads are served from memory.
const SMALL: &str = "articles/small";

/// The connections of the generator, and the calls in flight: as many as the connections allow.
const CONNECTIONS: u32 = 32;
const IN_FLIGHT: u32 = 6_400;
const WORKERS: u32 = 64;
/// The time after which a client gives up.
const DEADLINE: Duration = Duration::from_secs(2);
const WARM_UP: Duration = Duration::from_secs(2);
const PEAK_TIME: Duration = Duration::from_secs(8);
const SPIKE_TIME: Duration = Duration::from_secs(10);
const NORMAL_TIME: Duration = Duration::from_secs(5);
/// The time after a spike within which the latency must be normal.
const RECOVERY_TIME: Duration = Duration::from_secs(2);

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Server program to measure instead of the current one.
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Seconds of twice the peak.
    #[arg(long, value_name = "S", default_value_t = 60, value_parser = RangedU64ValueParser::<u64>::new().range(1..=3_600))]
    seconds: u64,
}

/// Measures, and writes bench/results/overload.{json,md}.
///
/// # Errors
/// Fails if a step of the measurement fails.
pub(crate) fn run(root: &Path, options: Options) -> Outcome<()> {
    let program = options.program.map_or_else(|| Program::build(root), |path| Ok(Program::at(path)))?;
    let dir = tempfile::tempdir()?;
    let mut report = Report::default();
    let bench = Bench::start(&program, dir.path())?;
    let peak = bench.measure_peak(&mut report)?;
    bench.measure_double(&mut report, peak, Duration::from_secs(options.seconds))?;
    bench.measure_spike(&mut report, peak)?;
    bench.measure_costs(&mut report, &program, dir.path())?;
    report.notes.push(
        "The server has one core, the generator another one. A load of a multiple of the peak is an open loop: each call \
         is due at a time of its own, and its latency counts from that time. Goodput is the rate of correct responses."
            .to_owned(),
    );
    report.write_as(root, "overload")
}

/// Runs this thread, and the threads and processes that it starts from now on, on one core.
fn pin(core: usize) -> Outcome<()> {
    let mut cores = CpuSet::new();
    cores.set(core);
    Ok(sched_setaffinity(None, &cores)?)
}

/// A node on one core, and a generator on another one.
struct Bench {
    node: Node,
    runtime: Runtime,
}

/// The result of a load.
struct Run {
    /// The rate of correct responses.
    goodput: f64,
    /// The 99th percentile of the latency of correct responses, in milliseconds.
    p99_ms: f64,
    refused: f64,
    calls: f64,
    note: String,
    /// The server's processor time for each call that was sent.
    cpu_us: f64,
}

impl Bench {
    fn start(program: &Program, dir: &Path) -> Outcome<Bench> {
        pin(SERVER_CORE)?;
        let node = program.serve_with(&dir.join("store"), &dir.join("node.log"), &[CACHE])?;
        pin(GENERATOR_CORE)?;
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        runtime.block_on(publish(&node.endpoint))?;
        Ok(Bench { node, runtime })
    }

    fn run(
        &self,
        node: &Node,
        articles: Vec<String>,
        mode: Mode,
        (warm_up, time): (Duration, Duration),
    ) -> Outcome<Run> {
        let load = ReadLoad {
            call: ReadCall::Get { articles: Articles::Named(articles), zipf: None, seed: Some(1) },
            filter: v1::ArticleFilter::default(),
            order: v1::ArticleOrder::default(),
            view: ArticleView::Full,
            format: BodyFormat::Html,
            plan: Plan { mode, warm_up, limit: Limit::Time(time) },
            connections: Some(CONNECTIONS),
            timeout: Some(DEADLINE),
        };
        // Threads of the server end between the two readings, so the time of the process counts.
        let busy = node.cpu()?;
        let figures =
            self.runtime.block_on(load.run(&Cable::builder(&node.endpoint[..]), &mut |_| {}))?.json();
        let busy = node.cpu()?.saturating_sub(busy);
        let number = |name: &str| figures[name].as_f64().unwrap_or(0.0);
        let latency = if figures["ok_latency_us"].is_object() { "ok_latency_us" } else { "latency_us" };
        // Calls of the warm-up cost processor time too.
        let share = time.as_secs_f64() / (warm_up + time).as_secs_f64();
        Ok(Run {
            goodput: number("calls_per_s"),
            p99_ms: figures[latency]["p99"].as_f64().unwrap_or(0.0) / 1e3,
            refused: number("calls_failed"),
            calls: number("calls") + number("calls_not_started"),
            note: format!(
                "{} sent, {} not started, {}",
                figures["calls"],
                figures["calls_not_started"],
                outcomes(&figures)
            ),
            cpu_us: busy.as_secs_f64() * 1e6 * share / number("calls").max(1.0),
        })
    }

    fn get(&self, mode: Mode, warm_up: Duration, time: Duration) -> Outcome<Run> {
        self.run(&self.node, names(), mode, (warm_up, time))
    }

    fn measure_peak(&self, report: &mut Report) -> Outcome<f64> {
        let peak = self.get(Mode::Closed { workers: WORKERS }, WARM_UP, PEAK_TIME)?;
        report.fact("peak, calls/s", peak.goodput, format!("{:.0}", peak.goodput));
        report.fact("CPU of a read of the store, us", peak.cpu_us, format!("{:.0}", peak.cpu_us));
        Ok(peak.goodput)
    }

    fn measure_double(&self, report: &mut Report, peak: f64, time: Duration) -> Outcome<()> {
        let unloaded = self.get(open(peak * 0.1), WARM_UP, NORMAL_TIME)?;
        report.fact(
            "unloaded (a tenth of the peak): p99, ms",
            unloaded.p99_ms,
            format!("{:.1}", unloaded.p99_ms),
        );
        let double = self.get(open(peak * 2.0), WARM_UP, time)?;
        let share = double.goodput / peak;
        report.fact(
            "twice the peak: goodput of the peak",
            share,
            format!("{:.1} % ({})", share * 100.0, double.note),
        );
        report.fact(
            "twice the peak: p99 of accepted calls, ms",
            double.p99_ms,
            format!("{:.1}", double.p99_ms),
        );
        let refused = double.refused / double.calls;
        report.fact("twice the peak: refused or failed", refused, format!("{:.1} %", refused * 100.0));
        Ok(())
    }

    fn measure_spike(&self, report: &mut Report, peak: f64) -> Outcome<()> {
        let half = self.get(open(peak * 0.5), WARM_UP, NORMAL_TIME)?;
        report.fact("half the peak: p99, ms", half.p99_ms, format!("{:.1}", half.p99_ms));
        let spike = self.get(open(peak * 10.0), Duration::ZERO, SPIKE_TIME)?;
        let share = spike.goodput / peak;
        report.fact(
            "ten times the peak for 10 s: goodput of the peak",
            share,
            format!("{:.1} % ({})", share * 100.0, spike.note),
        );
        let after = self.get(open(peak * 0.5), RECOVERY_TIME, NORMAL_TIME)?;
        report.fact(
            "half the peak, 2 s after: p99, ms",
            after.p99_ms,
            format!("{:.1} ({})", after.p99_ms, after.note),
        );
        Ok(())
    }

    /// Measures a refusal beside a call from memory, and a read of the store.
    fn measure_costs(self, report: &mut Report, program: &Program, dir: &Path) -> Outcome<()> {
        let closed = Mode::Closed { workers: WORKERS };
        let hit = self.run(&self.node, vec![SMALL.to_owned()], closed, (WARM_UP, NORMAL_TIME))?;
        report.fact("CPU of a call from memory, us", hit.cpu_us, format!("{:.1}", hit.cpu_us));
        let Bench { node, runtime } = self;
        node.stop()?;
        pin(SERVER_CORE)?;
        let node = program.serve_with(&dir.join("store"), &dir.join("node.log"), &[CACHE, NO_MEMORY])?;
        pin(GENERATOR_CORE)?;
        let bench = Bench { node, runtime };
        let refusal = bench.get(closed, WARM_UP, NORMAL_TIME)?;
        if refusal.goodput > 0.0 {
            return Err("a node without memory has served a read of the store".into());
        }
        report.fact("CPU of a refusal, us", refusal.cpu_us, format!("{:.1}", refusal.cpu_us));
        let ratio = refusal.cpu_us / hit.cpu_us;
        report.fact("a refusal, relative to a call from memory", ratio, format!("{ratio:.2}"));
        Ok(())
    }
}

fn open(rate: f64) -> Mode {
    Mode::Open { rate, in_flight: IN_FLIGHT }
}

/// Returns the failures of a run as text.
fn outcomes(figures: &Value) -> String {
    let failed = figures["failed_by_reason"].as_object();
    let failed = failed.into_iter().flatten().map(|(reason, count)| format!("{count} {reason}"));
    failed.collect::<Vec<_>>().join(", ")
}

fn names() -> Vec<String> {
    (0..ARTICLES).map(|number| format!("articles/large-{number}")).collect()
}

/// Publishes the articles.
async fn publish(endpoint: &str) -> Outcome<()> {
    let cable = Cable::builder(endpoint).build()?;
    let (words, mut random) = (Words::new(1), Random::new(1));
    for name in names() {
        cable.put(article(name, PARAGRAPHS, (&words, &mut random))).await?;
    }
    cable.put(article(SMALL.to_owned(), 12, (&words, &mut random))).await?;
    Ok(())
}

fn article(name: String, paragraphs: usize, (words, random): (&Words, &mut Random)) -> v1::Article {
    let mut article = v1::Article::default();
    article.headline.clone_from(&name);
    article.name = name;
    let paragraph = |_| {
        let mut span = v1::Span::default();
        while span.text.len() < PARAGRAPH_BYTES {
            span.text.push_str(words.word(random));
            span.text.push(' ');
        }
        let mut paragraph = v1::Paragraph::default();
        paragraph.spans = vec![span];
        let mut block = v1::Block::default();
        block.kind = Some(v1::block::Kind::Paragraph(paragraph));
        block
    };
    let mut body = v1::Body::default();
    body.blocks = (0..paragraphs).map(paragraph).collect();
    article.body = Some(body);
    article
}
