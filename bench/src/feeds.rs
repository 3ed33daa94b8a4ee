//! The memory and CPU cost of 10,000 followers of one tag, and the time until a change reaches the last of them. The
//! server and all followers share two cores.

use std::{net::SocketAddr, path::Path, thread::sleep, time::Duration};

use cable_client::{Cable, v1};
use prost::Message as _;
use serde_json::json;
use tokio::runtime::Runtime;

use crate::{
    Outcome,
    newsroom::Newsroom,
    node::{Node, Program},
    report::{Report, grouped},
};
use crowd::{Deliveries, Feed, Followers, connect};

mod crowd;

const CONNECTIONS: usize = 100;
const FEEDS_PER_CONNECTION: usize = 100;
/// The interval between the starts of two publishes. It is longer than a delivery to all followers takes.
const PUBLISH_INTERVAL: Duration = Duration::from_millis(400);
const STALLED_FOLLOWERS: usize = 1_000;
/// The number of rounds with stalled followers.
const STALL_ROUNDS: usize = 3;
/// The number of publishes per round that fill the windows of the stalled followers and the system's socket buffers.
const FILL_PUBLISHES: usize = 60;
/// The wait before a reading of the node's memory, in which the node becomes idle.
const IDLE_TIME: Duration = Duration::from_secs(2);

/// The setup whose followers receive server-sent events, and their request.
const EVENTS: &str = "events";
const EVENTS_TARGET: &str = "/v1/feed?tag=fan-out";

/// Target: the maximum time until a publish reaches the last follower, in milliseconds.
const MAX_LAST_MS: f64 = 250.0;
/// Target: the maximum memory of one follower.
const MAX_BYTES_PER_FOLLOWER: f64 = 8_192.0;
/// Target: the maximum ratio of the time until the last follower with stalled followers to the time without.
const MAX_SLOWDOWN: f64 = 1.1;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Number of publishes to measure.
    #[arg(long, value_name = "N", default_value_t = 40)]
    publishes: usize,
}

/// Runs the measurement and writes its results.
///
/// # Errors
/// Fails if a step of the measurement fails, or if a follower does not receive each change exactly once.
pub(crate) fn run(root: &Path, options: Options) -> Outcome<()> {
    let Options { publishes } = options;
    let program = Program::build(root)?;
    let dir = tempfile::tempdir()?;
    let newsroom = Newsroom::publish(&program, dir.path())?;
    let mut report = Report::default();
    for setup in
        [("basic", v1::ArticleView::Basic), (EVENTS, v1::ArticleView::Basic), ("full", v1::ArticleView::Full)]
    {
        Bench::start(&program, dir.path(), &newsroom, setup)?.fan_out(&mut report, publishes)?;
    }
    let setup = ("stalled", v1::ArticleView::Basic);
    Bench::start(&program, dir.path(), &newsroom, setup)?.stalled(&mut report, publishes)?;
    report.notes.push(format!(
        "{} followers of one tag on {CONNECTIONS} connections; {publishes} articles of 6.4 KB published one at a time. \
         Server, followers and publisher share two cores. A follower is 100 bytes of client; its delay is from the \
         start of the call that publishes to the receipt of the message.",
        grouped((CONNECTIONS * FEEDS_PER_CONNECTION) as u64)
    ));
    report.write_as(root, "feeds")
}

/// A node, and a client that publishes to it.
struct Bench {
    node: Node,
    address: SocketAddr,
    runtime: Runtime,
    cable: Cable,
    view: v1::ArticleView,
    article: v1::Article,
    request: Vec<u8>,
    /// The prefix of the names of published articles. It differs between setups, so that no name is published twice.
    prefix: &'static str,
    /// The number of articles published so far.
    published: usize,
}

impl Bench {
    fn start(
        program: &Program,
        dir: &Path,
        newsroom: &Newsroom,
        (prefix, view): (&'static str, v1::ArticleView),
    ) -> Outcome<Bench> {
        let settings =
            [("CABLE__CONNECTIONS__MAX_PER_PEER", "1000"), ("CABLE__CONNECTIONS__PING_INTERVAL", "10m")];
        let node = program.serve_with(&newsroom.store, &dir.join("node.log"), &settings)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let cable = runtime.block_on(async { Cable::builder(&node.endpoint).build() })?;
        let article = runtime.block_on(cable.article(&newsroom.names[0]).into_future())?.into_inner();
        let mut request = v1::WatchRequest::default();
        request.view = view.into();
        let mut filter = v1::FeedFilter::default();
        filter.any_tags = vec!["tags/fan-out".into()];
        request.filter = Some(filter);
        let address = node.endpoint.trim_start_matches("http://").parse()?;
        let request = request.encode_to_vec();
        Ok(Bench { node, address, runtime, cable, view, article, request, prefix, published: 0 })
    }

    /// Publishes an article that all followers receive. Returns its revision.
    fn publish(&mut self) -> Outcome<i64> {
        self.published += 1;
        let mut article = self.article.clone();
        article.name = format!("articles/{}-{}", self.prefix, self.published);
        article.path = String::new();
        article.alias_paths.clear();
        article.tags = vec!["tags/fan-out".into()];
        Ok(self.runtime.block_on(self.cable.put(article).into_future())?.revision)
    }

    fn feed(&self) -> Feed<'_> {
        if self.prefix == EVENTS { Feed::Events(EVENTS_TARGET) } else { Feed::Watch(&self.request) }
    }

    fn open(&self, publishes: usize) -> Outcome<Followers> {
        Followers::open(self.address, self.feed(), CONNECTIONS, FEEDS_PER_CONNECTION, publishes)
    }

    /// Publishes one article per `PUBLISH_INTERVAL`. Returns the times until the last follower received each.
    fn publish_paced(
        &mut self,
        followers: &Followers,
        from: usize,
        publishes: usize,
    ) -> Outcome<Vec<Duration>> {
        let mut times = Vec::with_capacity(publishes);
        for publish in from..from + publishes {
            times.append(&mut self.publish_unpaced(followers, publish, 1)?);
            sleep(PUBLISH_INTERVAL.saturating_sub(*times.last().unwrap_or(&PUBLISH_INTERVAL)));
        }
        Ok(times)
    }

    /// Publishes each article as soon as all followers have received the previous one. Returns the same times as
    /// `publish_paced`.
    fn publish_unpaced(
        &mut self,
        followers: &Followers,
        from: usize,
        publishes: usize,
    ) -> Outcome<Vec<Duration>> {
        let head = self.runtime.block_on(self.cable.status())?.head.unwrap_or_default().revision;
        followers.expect(head + 1 - from as i64);
        let publish_one = |publish| {
            followers.recorder.record_start(publish);
            self.publish()?;
            followers.recorder.wait_for_all(publish, followers.count)
        };
        (from..from + publishes).map(publish_one).collect()
    }

    /// Measures the memory of idle followers, and the time and CPU cost of deliveries to all of them.
    fn fan_out(mut self, report: &mut Report, publishes: usize) -> Outcome<()> {
        let [idle_label, last_label, delay_label, cpu_label] = match self.view {
            v1::ArticleView::Full => [
                "FULL: memory of an idle follower",
                "- a publish reaches the last of 10,000, median / worst",
                "- a publish reaches a follower, p50 / p99",
                "- server CPU for one message",
            ],
            _ if self.prefix == EVENTS => [
                "BASIC, server-sent events: memory of an idle follower",
                "-- a publish reaches the last of 10,000, median / worst",
                "-- a publish reaches a follower, p50 / p99",
                "-- server CPU for one message",
            ],
            _ => [
                "BASIC: memory of an idle follower",
                "a publish reaches the last of 10,000, median / worst",
                "a publish reaches a follower, p50 / p99",
                "server CPU for one message",
            ],
        };
        sleep(IDLE_TIME);
        let before = self.node.memory()?;
        let followers = self.open(publishes)?;
        sleep(IDLE_TIME);
        let bytes = self.node.memory()?.saturating_sub(before) as f64 / followers.count as f64;
        report.fact(
            idle_label,
            bytes.round(),
            format!("{bytes:.0} bytes{}", verdict_of(bytes, MAX_BYTES_PER_FOLLOWER)),
        );
        let cpu_before = self.node.cpu()?;
        let last_times = self.publish_paced(&followers, 0, publishes)?;
        let cpu_time = self.node.cpu()?.saturating_sub(cpu_before);
        let received = followers.count * publishes as u64;
        let deliveries = close_and_check(followers, publishes)?;
        let [median, worst] = [0.5, 1.0].map(|share| quantile_ms(&last_times, share));
        let verdict = verdict_of(worst, MAX_LAST_MS);
        report.fact(
            last_label,
            json!({ "median_ms": median, "worst_ms": worst }),
            format!("{median:.0} / {worst:.0} ms{verdict}"),
        );
        let mut delays: Vec<Duration> =
            deliveries.delays.iter().map(|delay| Duration::from_micros(u64::from(*delay))).collect();
        delays.sort_unstable();
        let [p50, p99] = [0.5, 0.99].map(|share| quantile_ms(&delays, share));
        report.fact(delay_label, json!({ "p50_ms": p50, "p99_ms": p99 }), format!("{p50:.0} / {p99:.0} ms"));
        let micros = cpu_time.as_secs_f64() * 1e6 / received as f64;
        report.fact(cpu_label, micros, format!("{micros:.1} us"));
        self.node.stop().map(drop)
    }

    /// Measures the memory of stalled followers, and how much they delay deliveries to the others.
    fn stalled(mut self, report: &mut Report, publishes: usize) -> Outcome<()> {
        let followers = self.open(STALL_ROUNDS * (2 * publishes + FILL_PUBLISHES) + publishes)?;
        self.publish_paced(&followers, 0, publishes)?;
        let (mut alone, mut beside, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
        for stall in 0..STALL_ROUNDS {
            let from = publishes + stall * (2 * publishes + FILL_PUBLISHES);
            let before = self.node.memory()?;
            alone.append(&mut self.publish_paced(&followers, from, publishes)?);
            sleep(IDLE_TIME);
            let published = self.node.memory()?;
            let stalled = (0..STALLED_FOLLOWERS / FEEDS_PER_CONNECTION)
                .map(|_| connect(self.address, self.feed(), FEEDS_PER_CONNECTION));
            let stalled = stalled.collect::<Outcome<Vec<_>>>()?;
            // Fills the windows of the stalled followers and the system's socket buffers.
            self.publish_unpaced(&followers, from + publishes, FILL_PUBLISHES)?;
            beside.append(&mut self.publish_paced(
                &followers,
                from + publishes + FILL_PUBLISHES,
                publishes,
            )?);
            let used = self.node.memory()?.saturating_sub(published) as f64;
            bytes.push((used - published.saturating_sub(before) as f64).max(0.0) / STALLED_FOLLOWERS as f64);
            drop(stalled);
            sleep(IDLE_TIME);
        }
        // Only the maximum counts, because later rounds reuse memory that an earlier one has allocated.
        let cost = bytes.iter().copied().fold(0.0, f64::max);
        let shown = format!("{cost:.0} bytes{}", verdict_of(cost, MAX_BYTES_PER_FOLLOWER));
        report.fact(
            "BASIC: memory of a stalled follower, of 1,000",
            json!({ "bytes": cost.round(), "by_round": bytes.iter().map(|bytes| bytes.round()).collect::<Vec<_>>() }),
            shown,
        );
        let [alone, beside] = [alone, beside].map(|times| quantile_ms(&times, 0.5));
        let ratio = beside / alone;
        let value = json!({ "alone_ms": alone, "beside_ms": beside, "ratio": ratio });
        let shown = format!("{alone:.0} / {beside:.0} ms; {ratio:.2}{}", verdict_of(ratio, MAX_SLOWDOWN));
        report.fact("- a publish reaches the last of 10,000, median, without / with them", value, shown);
        close_and_check(followers, STALL_ROUNDS * (2 * publishes + FILL_PUBLISHES) + publishes)?;
        self.node.stop().map(drop)
    }
}

/// Closes the feeds and checks that each follower has received each publish exactly once.
fn close_and_check(followers: Followers, publishes: usize) -> Outcome<Deliveries> {
    let expected = followers.count * publishes as u64;
    let deliveries = followers.close()?;
    let received = deliveries.delays.len() as u64;
    if (received, deliveries.repeated, deliveries.broken) != (expected, 0, 0) {
        let Deliveries { repeated, broken, .. } = deliveries;
        return Err(format!(
            "{received} of {expected} messages received, {repeated} repeated; {broken} feeds broke"
        )
        .into());
    }
    Ok(deliveries)
}

/// Returns a quantile of times in milliseconds.
fn quantile_ms(times: &[Duration], share: f64) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let index = ((sorted.len() as f64 * share) as usize).min(sorted.len().saturating_sub(1));
    sorted.get(index).map_or(0.0, |time| (time.as_secs_f64() * 1e4).round() / 10.0)
}

fn verdict_of(value: f64, max: f64) -> String {
    let met = if value <= max { "met" } else { "MISSED" };
    format!(" (at most {max}: {met})")
}
