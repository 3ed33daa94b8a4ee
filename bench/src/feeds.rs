//! The cost of 10,000 followers of one tag, and the time until the last of them has received a change. The server and
//! all followers share two cores.

use std::{net::SocketAddr, path::Path, thread::sleep, time::Duration};

use cable_client::{Cable, v1};
use prost::Message as _;
use serde_json::json;
use tokio::runtime::Runtime;

use crate::{
    Outcome,
    newsroom::Newsroom,
    node::{Node, Program},
    options::Options,
    report::{Report, grouped},
};
use crowd::{Crowd, Heard, connect};

mod crowd;

const CONNECTIONS: usize = 100;
const EACH: usize = 100;
const PUBLISHES: usize = 40;
/// The interval between two publishes: longer than the delivery to all followers takes.
const APART: Duration = Duration::from_millis(400);
const STALLED: usize = 1_000;
/// The number of rounds with stalled followers, and the number of publishes in each that fill the buffers of the
/// system.
const STALLS: usize = 3;
const FILLING: usize = 60;
/// The time for a server to become idle.
const REST: Duration = Duration::from_secs(2);

/// The targets.
const LAST_MS: f64 = 250.0;
const IDLE_BYTES: f64 = 8_192.0;
const SLOWED: f64 = 1.1;

/// Measures, and writes the results.
///
/// # Errors
/// Fails if a step of the measurement fails, or if a follower does not receive each change exactly once.
pub(crate) fn run(root: &Path, mut options: Options) -> Outcome<()> {
    let publishes = options.value("--publishes")?.unwrap_or(PUBLISHES);
    options.finish()?;
    let program = Program::build(root)?;
    let dir = tempfile::tempdir()?;
    let newsroom = Newsroom::publish(&program, dir.path())?;
    let mut report = Report::default();
    for kind in [("basic", v1::ArticleView::Basic), ("full", v1::ArticleView::Full)] {
        Bench::start(&program, dir.path(), &newsroom, kind)?.fan_out(&mut report, publishes)?;
    }
    let kind = ("stalled", v1::ArticleView::Basic);
    Bench::start(&program, dir.path(), &newsroom, kind)?.stalled(&mut report, publishes)?;
    report.notes.push(format!(
        "{} followers of one tag on {CONNECTIONS} connections; {publishes} articles of 6.4 KB published one at a time. \
         Server, followers and publisher share two cores. A follower is 100 bytes of client; its delay is from the \
         begin of the call that publishes to the receipt of the message.",
        grouped((CONNECTIONS * EACH) as u64)
    ));
    report.write_as(root, "feeds")
}

/// A node and its publisher.
struct Bench {
    node: Node,
    address: SocketAddr,
    runtime: Runtime,
    cable: Cable,
    view: v1::ArticleView,
    article: v1::Article,
    request: Vec<u8>,
    /// The prefix of the articles' names: none is published twice.
    what: &'static str,
    published: usize,
}

impl Bench {
    fn start(
        program: &Program,
        dir: &Path,
        newsroom: &Newsroom,
        (what, view): (&'static str, v1::ArticleView),
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
        Ok(Bench { node, address, runtime, cable, view, article, request, what, published: 0 })
    }

    /// Publishes an article that all followers receive.
    fn publish(&mut self) -> Outcome<i64> {
        self.published += 1;
        let mut article = self.article.clone();
        article.name = format!("articles/{}-{}", self.what, self.published);
        article.path = String::new();
        article.alias_paths.clear();
        article.tags = vec!["tags/fan-out".into()];
        Ok(self.runtime.block_on(self.cable.put(article).into_future())?.revision)
    }

    fn open(&self, publishes: usize) -> Outcome<Crowd> {
        Crowd::open(self.address, &self.request, CONNECTIONS, EACH, publishes)
    }

    /// Publishes several times. Returns the time of each publish until the last follower has received it.
    fn tell(&mut self, crowd: &Crowd, from: usize, publishes: usize) -> Outcome<Vec<Duration>> {
        let mut lasts = Vec::with_capacity(publishes);
        for publish in from..from + publishes {
            lasts.append(&mut self.tell_at_once(crowd, publish, 1)?);
            sleep(APART.saturating_sub(*lasts.last().unwrap_or(&APART)));
        }
        Ok(lasts)
    }

    /// Does the same without a pause.
    fn tell_at_once(&mut self, crowd: &Crowd, from: usize, publishes: usize) -> Outcome<Vec<Duration>> {
        let head = self.runtime.block_on(self.cable.status())?.head.unwrap_or_default().revision;
        crowd.expect(head + 1 - from as i64);
        let tell = |publish| {
            crowd.notes.begin(publish);
            self.publish()?;
            crowd.notes.await_all(publish, crowd.followers)
        };
        (from..from + publishes).map(tell).collect()
    }

    /// Measures the cost of idle followers, and the delivery time to all of them.
    fn fan_out(mut self, report: &mut Report, publishes: usize) -> Outcome<()> {
        let [idle, last, each, cpu] = match self.view {
            v1::ArticleView::Full => [
                "FULL: memory of an idle follower",
                "- a publish reaches the last of 10,000, median / worst",
                "- a publish reaches a follower, p50 / p99",
                "- server CPU for one message",
            ],
            _ => [
                "BASIC: memory of an idle follower",
                "a publish reaches the last of 10,000, median / worst",
                "a publish reaches a follower, p50 / p99",
                "server CPU for one message",
            ],
        };
        sleep(REST);
        let before = self.node.memory()?;
        let crowd = self.open(publishes)?;
        sleep(REST);
        let bytes = self.node.memory()?.saturating_sub(before) as f64 / crowd.followers as f64;
        report.fact(idle, bytes.round(), format!("{bytes:.0} bytes{}", judged(bytes, IDLE_BYTES)));
        let busy = self.node.cpu()?;
        let lasts = self.tell(&crowd, 0, publishes)?;
        let busy = self.node.cpu()?.saturating_sub(busy);
        let told = crowd.followers * publishes as u64;
        let heard = faultless(crowd, publishes)?;
        let [median, worst] = [0.5, 1.0].map(|share| at(&lasts, share));
        let verdict = judged(worst, LAST_MS);
        report.fact(
            last,
            json!({ "median_ms": median, "worst_ms": worst }),
            format!("{median:.0} / {worst:.0} ms{verdict}"),
        );
        let mut delays: Vec<Duration> =
            heard.delays.iter().map(|delay| Duration::from_micros(u64::from(*delay))).collect();
        delays.sort_unstable();
        let [p50, p99] = [0.5, 0.99].map(|share| at(&delays, share));
        report.fact(each, json!({ "p50_ms": p50, "p99_ms": p99 }), format!("{p50:.0} / {p99:.0} ms"));
        let micros = busy.as_secs_f64() * 1e6 / told as f64;
        report.fact(cpu, micros, format!("{micros:.1} us"));
        self.node.stop().map(drop)
    }

    /// Measures the cost of stalled followers, and the delay that they cause for others.
    fn stalled(mut self, report: &mut Report, publishes: usize) -> Outcome<()> {
        let crowd = self.open(STALLS * (2 * publishes + FILLING) + publishes)?;
        self.tell(&crowd, 0, publishes)?;
        let (mut alone, mut beside, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
        for stall in 0..STALLS {
            let from = publishes + stall * (2 * publishes + FILLING);
            let before = self.node.memory()?;
            alone.append(&mut self.tell(&crowd, from, publishes)?);
            sleep(REST);
            let published = self.node.memory()?;
            let stalled = (0..STALLED / EACH).map(|_| connect(self.address, &self.request, EACH));
            let stalled = stalled.collect::<Outcome<Vec<_>>>()?;
            // The publishes continue until the stalled followers and the system's buffers are full.
            self.tell_at_once(&crowd, from + publishes, FILLING)?;
            beside.append(&mut self.tell(&crowd, from + publishes + FILLING, publishes)?);
            let held = self.node.memory()?.saturating_sub(published) as f64;
            bytes.push((held - published.saturating_sub(before) as f64).max(0.0) / STALLED as f64);
            drop(stalled);
            sleep(REST);
        }
        // Later rounds reuse the memory of an earlier one.
        let cost = bytes.iter().copied().fold(0.0, f64::max);
        let shown = format!("{cost:.0} bytes{}", judged(cost, IDLE_BYTES));
        report.fact(
            "BASIC: memory of a stalled follower, of 1,000",
            json!({ "bytes": cost.round(), "by_round": bytes.iter().map(|bytes| bytes.round()).collect::<Vec<_>>() }),
            shown,
        );
        let [alone, beside] = [alone, beside].map(|lasts| at(&lasts, 0.5));
        let ratio = beside / alone;
        let value = json!({ "alone_ms": alone, "beside_ms": beside, "ratio": ratio });
        let shown = format!("{alone:.0} / {beside:.0} ms; {ratio:.2}{}", judged(ratio, SLOWED));
        report.fact("- a publish reaches the last of 10,000, median, without / with them", value, shown);
        faultless(crowd, STALLS * (2 * publishes + FILLING) + publishes)?;
        self.node.stop().map(drop)
    }
}

/// Closes a crowd. Each follower must have received everything exactly once.
fn faultless(crowd: Crowd, publishes: usize) -> Outcome<Heard> {
    let expected = crowd.followers * publishes as u64;
    let heard = crowd.close()?;
    let told = heard.delays.len() as u64;
    if (told, heard.repeated, heard.broken) != (expected, 0, 0) {
        let Heard { repeated, broken, .. } = heard;
        return Err(
            format!("of {expected} messages {told} came, {repeated} twice; {broken} feeds broke").into()
        );
    }
    Ok(heard)
}

/// Returns a quantile of times in milliseconds.
fn at(times: &[Duration], share: f64) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let place = ((sorted.len() as f64 * share) as usize).min(sorted.len().saturating_sub(1));
    sorted.get(place).map_or(0.0, |time| (time.as_secs_f64() * 1e4).round() / 10.0)
}

fn judged(value: f64, most: f64) -> String {
    let met = if value <= most { "met" } else { "MISSED" };
    format!(" (at most {most}: {met})")
}
