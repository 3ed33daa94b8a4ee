//! The cost of what guards a node: GetArticle with a token, a deadline, limits, an access log and scraped metrics, beside
//! the same calls to the same program without them. Counters of calls cannot be turned off, so both have them.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use clap::builder::RangedU64ValueParser;

use crate::{
    Outcome,
    instructions::counted::CountedServer,
    newsroom::{Newsroom, get},
    node::{Node, Program},
    process::free_address,
    report::Report,
    wire::Wire,
};

/// Calls of different articles, and calls in one write.
const ARTICLES: usize = 10;
/// Calls that are made before the measured ones.
const WARM_UP_CALLS: u64 = 2_000;
/// The counted calls under Valgrind, which slows a server down by a factor of fifty.
const COUNTED_CALLS: u64 = 2_000;
/// A node under Valgrind is slow, not overloaded: it must not refuse calls.
const PATIENCE: (&str, &str) = ("CABLE__OVERLOAD__MAX_DELAY", "60s");
/// How often metrics are scraped: ten times as often as usual.
const SCRAPE_INTERVAL: Duration = Duration::from_secs(1);
/// The target: the cost with guards relative to that without.
const MAX_RATIO: f64 = 1.25;

/// The settings of the guarded node: a rate limit for each credential, and one call in a hundred in the access log.
const GUARDS: [(&str, &str); 2] =
    [("CABLE__RATE__CREDENTIAL_CALLS", "4000000000"), ("CABLE__LOG__ACCESS", "0.01")];

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Server program to measure instead of the current one.
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Calls of each round.
    #[arg(long, value_name = "N", default_value_t = 40_000, value_parser = RangedU64ValueParser::<u64>::new().range(1_000..))]
    calls: u64,
    /// Rounds, in turns with and without guards. Medians count.
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = RangedU64ValueParser::<usize>::new().range(1..=99))]
    rounds: usize,
}

/// Measures, and writes bench/results/guards.{json,md}.
///
/// # Errors
/// Fails if a step of the measurement fails, or if the guards cost more than the target.
pub(crate) fn run(root: &Path, options: Options) -> Outcome<()> {
    let program = options.program.map_or_else(|| Program::build(root), |path| Ok(Program::at(path)))?;
    let dir = tempfile::tempdir()?;
    let newsroom = Newsroom::publish(&program, dir.path())?;
    let requests: Vec<_> = newsroom.names[..ARTICLES].iter().map(|name| get(name)).collect();
    let token = create_token(&program, &dir.path().join("credentials.toml"))?;
    let setups = [Setup::bare(&newsroom.store), Setup::guarded(dir.path(), &newsroom.store, &token)?];
    let mut report = Report::default();
    let mut ratios = Vec::new();
    for (label, at_once) in [("one at a time", 1), ("ten at a time", ARTICLES)] {
        let [bare, guarded] =
            time_calls(&program, dir.path(), (&setups, &requests, at_once), (options.calls, options.rounds))?;
        ratios.push(add(&mut report, "CPU", label, [bare, guarded], "us"));
    }
    for (index, (label, at_once)) in
        [("one at a time", 1), ("ten at a time", ARTICLES)].into_iter().enumerate()
    {
        let mut counted = [0.0; 2];
        for (setup, counted) in setups.iter().zip(&mut counted) {
            let scratch = dir.path().join(format!("{}-{index}", setup.name));
            *counted = setup.count(&program, scratch, &requests, at_once)?;
        }
        add(&mut report, "instructions", label, counted, "");
    }
    report.notes.push(format!(
        "Both nodes count calls. \"With\" is with a token, a deadline, a rate limit per credential, one call in a hundred in \
         the access log, and metrics scraped every second. CPU: medians of {} rounds in turns.",
        options.rounds
    ));
    report.write_as(root, "guards")?;
    match ratios.into_iter().find(|ratio| *ratio > MAX_RATIO) {
        Some(ratio) => {
            Err(format!("the guards cost {ratio:.3} of a call without them, at most {MAX_RATIO} allowed")
                .into())
        }
        None => Ok(()),
    }
}

fn add(report: &mut Report, what: &str, label: &str, [bare, guarded]: [f64; 2], unit: &str) -> f64 {
    let ratio = guarded / bare;
    let label: &'static str = format!("{what} per call, {label}: without, with, ratio").leak();
    report.fact(
        label,
        vec![bare, guarded, ratio],
        format!("{bare:.2} {unit}, {guarded:.2} {unit}, {ratio:.3}"),
    );
    ratio
}

/// A node with or without guards.
struct Setup {
    name: &'static str,
    store: PathBuf,
    settings: Vec<(&'static str, String)>,
    headers: Vec<(&'static str, String)>,
}

impl Setup {
    fn bare(store: &Path) -> Setup {
        Setup { name: "bare", store: store.to_owned(), settings: Vec::new(), headers: Vec::new() }
    }

    /// A node with guards, on a copy of the store.
    fn guarded(dir: &Path, store: &Path, token: &str) -> Outcome<Setup> {
        let copy = dir.join("guarded-store");
        let copied = Command::new("cp").arg("-r").arg(store).arg(&copy).status()?;
        if !copied.success() {
            return Err("the store cannot be copied".into());
        }
        let mut settings: Vec<_> = GUARDS.map(|(name, value)| (name, value.to_owned())).to_vec();
        settings.push(("CABLE__AUTH__CREDENTIALS", dir.join("credentials.toml").display().to_string()));
        let headers = vec![("grpc-timeout", "10S".to_owned()), ("authorization", format!("Bearer {token}"))];
        Ok(Setup { name: "guarded", store: copy, settings, headers })
    }

    fn connect(&self, address: SocketAddr) -> Outcome<Wire> {
        let headers: Vec<_> = self.headers.iter().map(|(name, value)| (*name, &value[..])).collect();
        Wire::connect_with(address, "GetArticle", &headers)
    }

    /// Returns the instructions of a call.
    fn count(
        &self,
        program: &Program,
        scratch: PathBuf,
        requests: &[Vec<u8>],
        at_once: usize,
    ) -> Outcome<f64> {
        let arguments = ["serve", "--ops-listen", "off", "--data"].map(AsRef::as_ref);
        let arguments = [&arguments[..], &[self.store.as_os_str()]].concat();
        let mut settings: Vec<_> = self.settings.iter().map(|(name, value)| (*name, &value[..])).collect();
        settings.push(PATIENCE);
        let mut server = CountedServer::start_with(program.path(), &arguments, scratch, &settings)?;
        let mut wire = self.connect(server.address)?;
        make_calls(&mut wire, requests, at_once, WARM_UP_CALLS / 4)?;
        let counted = server.count(|| make_calls(&mut wire, requests, at_once, COUNTED_CALLS))?;
        Ok(counted as f64 / COUNTED_CALLS as f64)
    }
}

/// Returns a token for a reader, whose credential is in a file.
fn create_token(program: &Program, file: &Path) -> Outcome<String> {
    let mut command = Command::new(program.path());
    command.env_clear().env("CABLE__AUTH__CREDENTIALS", file);
    let output = command.args(["token", "new", "reader", "--role", "reader"]).output()?;
    let text = String::from_utf8(output.stdout)?;
    let token = text.split_whitespace().find(|word| word.starts_with("cable_"));
    Ok(token
        .ok_or_else(|| format!("no token: {text} {}", String::from_utf8_lossy(&output.stderr)))?
        .to_owned())
}

/// Returns the median processor time of a call of each node, in microseconds.
fn time_calls(
    program: &Program,
    dir: &Path,
    (setups, requests, at_once): (&[Setup; 2], &[Vec<u8>], usize),
    (calls, rounds): (u64, usize),
) -> Outcome<[f64; 2]> {
    let mut nodes = Vec::new();
    for setup in setups {
        let settings: Vec<_> = setup.settings.iter().map(|(name, value)| (*name, &value[..])).collect();
        let operations = free_address()?;
        let log = dir.join("node.log");
        let node = program.serve_operations(&setup.store, &log, &operations.to_string(), &settings)?;
        let address = node.endpoint.trim_start_matches("http://").parse()?;
        let mut wire = setup.connect(address)?;
        make_calls(&mut wire, requests, at_once, WARM_UP_CALLS)?;
        // The node without guards is not scraped.
        nodes.push((node, wire, (setup.name == "guarded").then_some(operations), Vec::new()));
    }
    for _ in 0..rounds {
        for (node, wire, operations, times) in &mut nodes {
            let cpu = measure(node, wire, *operations, (requests, at_once, calls))?;
            times.push(cpu.as_secs_f64() * 1e6 / calls as f64);
        }
    }
    let medians = nodes.into_iter().map(|(node, _, _, mut times)| {
        node.stop()?;
        times.sort_by(f64::total_cmp);
        Ok(times[times.len() / 2])
    });
    let medians = medians.collect::<Outcome<Vec<_>>>()?;
    Ok([medians[0], medians[1]])
}

/// Returns the processor time of calls, with scrapes between them if there is an address for that.
fn measure(
    node: &Node,
    wire: &mut Wire,
    operations: Option<SocketAddr>,
    (requests, at_once, calls): (&[Vec<u8>], usize, u64),
) -> Outcome<Duration> {
    let before = node.threads_cpu()?;
    let mut scraped = Instant::now();
    let step = (ARTICLES * 100) as u64;
    for _ in 0..calls / step {
        make_calls(wire, requests, at_once, step)?;
        if let Some(address) = operations.filter(|_| scraped.elapsed() >= SCRAPE_INTERVAL) {
            scraped = Instant::now();
            scrape(address)?;
        }
    }
    Ok(node.threads_cpu()?.saturating_sub(before))
}

fn make_calls(wire: &mut Wire, requests: &[Vec<u8>], at_once: usize, calls: u64) -> Outcome<()> {
    for _ in 0..calls / requests.len() as u64 {
        for group in requests.chunks(at_once) {
            wire.call(group)?;
        }
    }
    Ok(())
}

fn scrape(address: SocketAddr) -> Outcome<()> {
    let mut stream = TcpStream::connect(address)?;
    write!(stream, "GET /metrics HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    if text.contains("cable_rpc_total") { Ok(()) } else { Err("the node has no metrics".into()) }
}
