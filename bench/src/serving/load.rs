//! Load from h2load and ghz, and the data that they and the system report about one run.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde_json::{Value, json};

use super::tools::{finished, go_tool, home, installed, run};
use crate::{Outcome, node::Program, process::Process};

const GHZ: (&str, &str) = ("github.com/bojand/ghz/cmd/ghz", "v0.121.0");

/// The time limit of a run: several times the need of the slowest.
const RUN_TIMEOUT: Duration = Duration::from_secs(45);
const MAX_STALLS: u32 = 3;

/// The exit code of `timeout` when it had to stop a program.
const TIMED_OUT: i32 = 124;

/// The request and its target.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) address: SocketAddr,
    pub(super) path: String,
    /// The framed request; none for a GET.
    pub(super) request: Option<PathBuf>,
    /// A header of a GET.
    pub(super) header: Option<&'static str>,
    /// The configuration of the client's OpenSSL; none without TLS.
    pub(super) openssl: Option<PathBuf>,
}

/// The load of a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    pub(super) connections: u32,
    /// The number of concurrent calls on each connection.
    pub(super) streams: u32,
    pub(super) calls: u64,
    /// The total calls per second; none for as many as the server can handle.
    pub(super) rate: Option<u64>,
    /// Whether the server and the client run on separate cores.
    pub(super) separate_cores: bool,
}

/// The results of one run.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sample {
    pub(super) calls_per_s: f64,
    pub(super) bytes_per_s: f64,
    /// The processor time of the server's process for each call.
    pub(super) cpu_us: f64,
    /// The number of stalled attempts that were stopped before this run.
    pub(super) stalls: u32,
    /// The latency from sending to the end of the response, if recorded: p50, p99, p99.9.
    pub(super) latency_us: Option<[f64; 3]>,
}

/// The programs that make load.
#[derive(Debug)]
pub(super) struct Loader {
    h2load: PathBuf,
    ghz: PathBuf,
    scratch: PathBuf,
}

impl Loader {
    /// # Errors
    /// Fails if one of them is missing.
    pub(super) fn new(program: &Program, scratch: &Path) -> Outcome<Loader> {
        Ok(Loader {
            h2load: installed("h2load", "nghttp2-client")?,
            ghz: go_tool(&home(program), GHZ.0, GHZ.1)?,
            scratch: scratch.to_owned(),
        })
    }

    /// Makes one call and returns the size of its response in bytes.
    ///
    /// # Errors
    /// Fails if there is no response.
    pub(super) fn probe(&self, target: &Target) -> Outcome<u64> {
        let load = Load { connections: 1, streams: 1, calls: 1, rate: None, separate_cores: false };
        let text = self.h2load(target, load, None)?.ok_or_else(|| format!("{target:?}: no response"))?;
        Ok(parse_h2load(&text)?.bytes)
    }

    /// Runs h2load once.
    ///
    /// # Errors
    /// Fails if a call has no response, or one whose size is not `answer` bytes.
    pub(super) fn run(
        &self,
        server: &Process,
        target: &Target,
        load: Load,
        response_bytes: u64,
    ) -> Outcome<Sample> {
        let log = load.rate.map(|_| self.scratch.join("h2load.log"));
        if let Some(log) = &log {
            fs::write(log, "")?;
        }
        let mut stalls = 0;
        let (report, cpu) = loop {
            let before = server.cpu()?;
            let text = self.h2load(target, load, log.as_deref())?;
            let cpu = server.cpu()? - before;
            match text {
                Some(text) => break (parse_h2load(&text)?, cpu),
                None if stalls == MAX_STALLS => {
                    return Err(format!("{target:?}: stalled {stalls} times").into());
                }
                None => stalls += 1,
            }
        };
        if (report.succeeded, report.bytes) != (load.calls, load.calls * response_bytes) {
            return Err(format!(
                "{target:?}: {} of {} calls succeeded, {} bytes in total",
                report.succeeded, load.calls, report.bytes
            )
            .into());
        }
        Ok(Sample {
            calls_per_s: report.calls_per_s,
            bytes_per_s: report.calls_per_s * response_bytes as f64,
            cpu_us: cpu.as_secs_f64() * 1e6 / load.calls as f64,
            stalls,
            latency_us: log.map(|log| latency(&fs::read_to_string(log)?)).transpose()?,
        })
    }

    /// Returns its output, or none if it has not ended in time.
    fn h2load(&self, target: &Target, load: Load, log: Option<&Path>) -> Outcome<Option<String>> {
        let mut command = Command::new("timeout");
        command.arg(RUN_TIMEOUT.as_secs().to_string());
        if load.separate_cores {
            command.args(["taskset", "-c", "1"]);
        }
        command.arg(&self.h2load);
        command.args(["-t", "1", "-c", &load.connections.to_string(), "-m", &load.streams.to_string()]);
        command.args(["-n", &load.calls.to_string()]);
        if let Some(request) = &target.request {
            command.arg("-d").arg(request).args([
                "-H",
                "content-type: application/grpc",
                "-H",
                "te: trailers",
            ]);
        }
        if let Some(header) = target.header {
            command.args(["-H", header]);
        }
        if let Some(rate) = load.rate {
            command.args(["--rps", &(rate as f64 / f64::from(load.connections)).to_string()]);
        }
        if let Some(log) = log {
            command.arg("--log-file").arg(log);
        }
        match &target.openssl {
            None => command.arg(format!("http://{}{}", target.address, target.path)),
            Some(config) => {
                let url = format!("https://localhost:{}{}", target.address.port(), target.path);
                command.env("OPENSSL_CONF", config).arg(url)
            }
        };
        let output = command.output()?;
        if output.status.code() == Some(TIMED_OUT) {
            return Ok(None);
        }
        Ok(Some(String::from_utf8(finished(&command, output)?.stdout)?))
    }

    /// Runs ghz once with a request of GetArticle. It uses more of the machine than the servers, so only their
    /// processor time is meaningful.
    ///
    /// # Errors
    /// Fails if a call did not end with OK.
    pub(super) fn ghz(
        &self,
        server: &Process,
        address: SocketAddr,
        request: &Value,
        load: Load,
    ) -> Outcome<Sample> {
        let config = json!({
            "host": address.to_string(), "call": "cable.v1.ContentService/GetArticle", "data": request, "insecure": true,
            "protoset": self.scratch.join("cable.binpb"), "disable-template-data": true,
            "connections": load.connections, "concurrency": load.connections * load.streams,
            "total": load.calls, "timeout": "20s", "format": "json",
        });
        let path = self.scratch.join("ghz.json");
        fs::write(&path, config.to_string())?;
        let before = server.cpu()?;
        let output = run(Command::new(&self.ghz).arg("--config").arg(&path))?;
        let cpu = server.cpu()? - before;
        let report: Value = serde_json::from_slice(&output.stdout)?;
        let ok = report["statusCodeDistribution"]["OK"].as_u64().unwrap_or_default();
        if ok != load.calls {
            return Err(format!(
                "ghz: {ok} of {} calls succeeded: {}",
                load.calls, report["statusCodeDistribution"]
            )
            .into());
        }
        Ok(Sample {
            calls_per_s: report["rps"].as_f64().unwrap_or_default(),
            cpu_us: cpu.as_secs_f64() * 1e6 / load.calls as f64,
            ..Sample::default()
        })
    }
}

/// The final output of h2load.
#[derive(Debug, PartialEq)]
struct H2loadReport {
    calls_per_s: f64,
    succeeded: u64,
    /// The size of the response bodies in bytes.
    bytes: u64,
}

fn parse_h2load(text: &str) -> Outcome<H2loadReport> {
    let line = |start: &str| text.lines().find(|line| line.starts_with(start)).unwrap_or_default();
    let before = |line: &str, word: &str| {
        let rest = line.split_once(word)?.0.trim_end();
        rest.rsplit([' ', '(']).next().map(str::to_owned)
    };
    let parse = || {
        Some(H2loadReport {
            calls_per_s: before(line("finished in"), "req/s")?.parse().ok()?,
            succeeded: before(line("requests:"), "succeeded")?.parse().ok()?,
            bytes: before(line("traffic:").rsplit_once("),")?.1, ") data")?.parse().ok()?,
        })
    };
    parse().ok_or_else(|| format!("unexpected output of h2load:\n{text}").into())
}

/// Returns p50, p99 and p99.9 of a log with a line for each call: its start, status, and microseconds.
fn latency(log: &str) -> Outcome<[f64; 3]> {
    let times = log.lines().map(|line| line.rsplit('\t').next().unwrap_or_default().parse::<u64>());
    let mut times = times.collect::<Result<Vec<_>, _>>()?;
    times.sort_unstable();
    let at = |share: f64| times.get((times.len() as f64 * share) as usize).copied();
    let found = [0.5, 0.99, 0.999].map(|share| at(share).map(|micros| micros as f64));
    match found {
        [Some(p50), Some(p99), Some(p999)] => Ok([p50, p99, p999]),
        _ => Err("h2load logged no call".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_output_of_h2load_is_parsed() {
        let text = "\
finished in 2.16s, 139057.56 req/s, 683.63MB/s
requests: 300000 total, 300000 started, 300000 done, 299999 succeeded, 1 failed, 0 errored, 0 timeout
status codes: 300000 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 1.44GB (1546501456) total, 586.13KB (600192) headers (space savings 94.74%), 1.43GB (1537500000) data
";
        let report = H2loadReport { calls_per_s: 139_057.56, succeeded: 299_999, bytes: 1_537_500_000 };
        assert_eq!(parse_h2load(text).unwrap(), report);
        assert!(parse_h2load("h2load: error").is_err());
    }

    #[test]
    fn percentiles_are_those_of_the_logged_calls() {
        let lines = (1..=1_000).rev().map(|micros| format!("1700000000000000\t200\t{micros}"));
        let log = lines.collect::<Vec<_>>().join("\n");
        assert_eq!(latency(&log).unwrap(), [501.0, 991.0, 1_000.0]);
        assert!(latency("").is_err());
    }
}
