//! A node under a steady mix of reads, writes and feeds that open and close: whether its memory, its file descriptors
//! and its latency stay the same.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use cable_client::{
    Cable, FeedFilter,
    v1::{self, ArticleView, BodyFormat},
};
use cable_load::{Articles, Limit, Mode, Plan, ReadCall, ReadLoad, Report as _};
use clap::builder::RangedU64ValueParser;
use futures_util::StreamExt as _;
use tokio::{
    runtime::Builder,
    task::JoinSet,
    time::{interval, timeout},
};

use crate::{
    Outcome,
    node::{Node, Program},
    report::Report,
};

/// The articles that are read and written.
const ARTICLES: u64 = 1_000;
const BODY_BYTES: usize = 5_000;
/// Reads per second, writes per second, and feeds that are opened and closed per second.
const READS: f64 = 300.0;
const WRITE_INTERVAL: Duration = Duration::from_millis(200);
const FEED_INTERVAL: Duration = Duration::from_millis(250);
/// How long a feed stays open.
const FEED_TIME: Duration = Duration::from_secs(3);
/// The length of one of the periods that are compared with each other.
const PERIOD: Duration = Duration::from_secs(15);
/// Feeds that stay open all the time.
const FOLLOWERS: usize = 50;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Server program to measure instead of the current one.
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Minutes to run.
    #[arg(long, value_name = "MINUTES", default_value_t = 5, value_parser = RangedU64ValueParser::<u64>::new().range(1..=24 * 60))]
    minutes: u64,
}

/// The state of the node after a period.
#[derive(Debug, Clone, Copy)]
struct Sample {
    hours: f64,
    memory: u64,
    descriptors: usize,
    p99_ms: f64,
}

/// Measures, and writes bench/results/soak.{json,md}.
///
/// # Errors
/// Fails if a step of the measurement fails, or if a call fails.
pub(crate) fn run(root: &Path, options: Options) -> Outcome<()> {
    let program = options.program.map_or_else(|| Program::build(root), |path| Ok(Program::at(path)))?;
    let dir = tempfile::tempdir()?;
    let node = program.serve(&dir.path().join("store"), &dir.path().join("node.log"))?;
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let samples = runtime.block_on(mix(&node, Duration::from_secs(options.minutes * 60)))?;
    let mut report = Report::default();
    describe(&mut report, &samples.0, options.minutes);
    let (writes, feeds) = samples.1;
    report.fact("writes, and feeds opened and closed", vec![writes, feeds], format!("{writes}, {feeds}"));
    report.notes.push(
        "The slope is that of a straight line through the second half of the run: at the start, a node fills its caches."
            .to_owned(),
    );
    report.write_as(root, "soak")
}

fn describe(report: &mut Report, samples: &[Sample], minutes: u64) {
    let half = &samples[samples.len() / 2..];
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let memory: Vec<_> = half.iter().map(|sample| (sample.hours, mib(sample.memory))).collect();
    let [first, last] =
        [half.first(), half.last()].map(|sample| sample.map_or(0.0, |sample| mib(sample.memory)));
    report.fact("minutes", minutes, minutes.to_string());
    report.fact(
        "resident memory in the middle and at the end, MiB",
        vec![first, last],
        format!("{first:.1}, {last:.1}"),
    );
    let slope = slope(&memory);
    report.fact("slope of resident memory, MiB/h", slope, format!("{slope:.1}"));
    let descriptors: Vec<_> = half.iter().map(|sample| sample.descriptors).collect();
    let range =
        [descriptors.iter().min(), descriptors.iter().max()].map(|number| number.copied().unwrap_or(0));
    report.fact(
        "file descriptors, minimum and maximum",
        range.to_vec(),
        format!("{}, {}", range[0], range[1]),
    );
    let third = samples.len() / 3;
    let [early, late] = [&samples[third..2 * third], &samples[2 * third..]]
        .map(|part| median(part.iter().map(|sample| sample.p99_ms)));
    let drift = (late / early - 1.0) * 100.0;
    report.fact(
        "p99 in the second and the last third, ms",
        vec![early, late],
        format!("{early:.2}, {late:.2} ({drift:+.1} %)"),
    );
}

/// Returns the slope of the line with the least squares.
fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len().max(1) as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0 / count, y + point.1 / count));
    let (above, below) = points.iter().fold((0.0, 0.0), |(above, below), point| {
        (above + (point.0 - x) * (point.1 - y), below + (point.0 - x).powi(2))
    });
    if below == 0.0 { 0.0 } else { above / below }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// Runs the mix. Returns a sample of each period, and the number of writes and feeds.
async fn mix(node: &Node, time: Duration) -> Outcome<(Vec<Sample>, (u64, u64))> {
    let client = Cable::builder(&node.endpoint[..]);
    let cable = client.clone().build()?;
    for number in 0..ARTICLES {
        cable.put(article(number, 0)).await?;
    }
    let counts = Arc::new(Counts::default());
    let mut tasks = JoinSet::new();
    tasks.spawn(write(cable.clone(), counts.clone()));
    tasks.spawn(open_feeds(cable.clone(), counts.clone()));
    for _ in 0..FOLLOWERS {
        tasks.spawn(follow(cable.clone(), counts.clone()));
    }
    let (start, mut samples) = (Instant::now(), Vec::new());
    while start.elapsed() < time {
        let figures = reads().run(&client, &mut |_| {}).await?.json();
        if figures["calls_failed"] != 0 || figures["calls_wrong"] != 0 {
            return Err(format!("reads have failed: {figures}").into());
        }
        let sample = Sample {
            hours: start.elapsed().as_secs_f64() / 3_600.0,
            memory: node.memory()?,
            descriptors: fs::read_dir(format!("/proc/{}/fd", node.id()))?.count(),
            p99_ms: figures["latency_us"]["p99"].as_f64().unwrap_or(0.0) / 1e3,
        };
        eprintln!("{sample:?}");
        samples.push(sample);
    }
    tasks.abort_all();
    if counts.failed.load(Relaxed) {
        return Err("a write or a feed has failed".into());
    }
    Ok((samples, (counts.writes.load(Relaxed), counts.feeds.load(Relaxed))))
}

#[derive(Debug, Default)]
struct Counts {
    writes: AtomicU64,
    feeds: AtomicU64,
    failed: AtomicBool,
}

fn reads() -> ReadLoad {
    let articles = Articles::Named((0..ARTICLES).map(name).collect());
    ReadLoad {
        call: ReadCall::Get { articles, zipf: Some(1.0), seed: None },
        filter: v1::ArticleFilter::default(),
        order: v1::ArticleOrder::default(),
        view: ArticleView::Full,
        format: BodyFormat::Blocks,
        plan: Plan {
            mode: Mode::Open { rate: READS, in_flight: 1_000 },
            warm_up: Duration::ZERO,
            limit: Limit::Time(PERIOD),
        },
        connections: Some(4),
        timeout: None,
    }
}

/// Writes one article after the other.
async fn write(cable: Cable, counts: Arc<Counts>) {
    let mut ticks = interval(WRITE_INTERVAL);
    for number in 0.. {
        ticks.tick().await;
        if cable.put(article(number % ARTICLES, number)).await.is_err() {
            counts.failed.store(true, Relaxed);
        }
        counts.writes.fetch_add(1, Relaxed);
    }
}

/// Opens one feed after the other, in turns with and without a snapshot, and closes each after some time.
async fn open_feeds(cable: Cable, counts: Arc<Counts>) {
    let mut ticks = interval(FEED_INTERVAL);
    let mut open = JoinSet::new();
    for number in 0_u64.. {
        ticks.tick().await;
        let feed = cable.feed(FeedFilter::default().any_tag(format!("tags/soak-{}", number % 7)));
        let mut feed = if number.is_multiple_of(2) { feed.with_snapshot() } else { feed.from_now() }.open();
        open.spawn(timeout(FEED_TIME, async move {
            while feed.next().await.is_some_and(|event| event.is_ok()) {}
        }));
        // A feed that ends before its time has failed.
        while let Some(ended) = open.try_join_next() {
            if !matches!(ended, Ok(Err(_elapsed))) {
                counts.failed.store(true, Relaxed);
            }
        }
        counts.feeds.fetch_add(1, Relaxed);
    }
}

/// Follows all changes.
async fn follow(cable: Cable, counts: Arc<Counts>) {
    let mut feed = cable.feed(FeedFilter::default()).from_now().open();
    while feed.next().await.is_some_and(|event| event.is_ok()) {}
    counts.failed.store(true, Relaxed);
}

fn name(number: u64) -> String {
    format!("articles/soak-{number}")
}

fn article(number: u64, version: u64) -> v1::Article {
    let mut article = v1::Article::default();
    article.name = name(number);
    article.headline = format!("Version {version}");
    article.tags = vec![format!("tags/soak-{}", number % 7)];
    let mut span = v1::Span::default();
    span.text = "word ".repeat(BODY_BYTES / 5);
    let mut paragraph = v1::Paragraph::default();
    paragraph.spans = vec![span];
    let mut block = v1::Block::default();
    block.kind = Some(v1::block::Kind::Paragraph(paragraph));
    let mut body = v1::Body::default();
    body.blocks = vec![block];
    article.body = Some(body);
    article
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slope_is_that_of_a_straight_line() {
        assert_eq!(slope(&[(0.0, 3.0), (1.0, 5.0), (2.0, 7.0)]), 2.0);
        assert_eq!(slope(&[(1.0, 5.0)]), 0.0);
        assert_eq!(slope(&[]), 0.0);
        assert!(slope(&[(0.0, 1.0), (1.0, 0.0), (2.0, 2.0)]).abs() < 0.6);
    }
}
