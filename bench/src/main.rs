//! Measurements, and the servers that Cable is compared with: `cargo run --release -p cable-bench`.
//!
//! Each measurement runs the released program as a process of its own, with a store of its own, and calls it as users
//! do.

use std::{
    error::Error,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, Subcommand};

mod client;
mod costs;
mod feeds;
mod generate;
mod guards;
mod instructions;
mod machine;
mod memory;
mod newsroom;
mod node;
mod ordinary;
mod overload;
mod process;
mod replay;
mod report;
mod scale;
mod service;
mod serving;
mod size;
mod soak;
mod wire;
mod words;
mod yardstick;

/// The server's own allocator, so that all are measured with the same one.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measure Cable, or serve for comparison with it.
#[derive(Debug, Parser)]
#[command(name = "cable-bench")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Import a generated archive, reopen the store and read it in every way; writes bench/results/scale.{json,md}.
    Scale(scale::Options),
    /// Compare Cable with an ordinary tonic service, grpc-go, hyper alone, nginx and nghttpd, in turns; writes
    /// bench/results/serving.{json,md} and plots. Requires h2load, nginx, nghttpd, taskset and Go.
    Serving(serving::Options),
    /// Compare GetArticle over TLS with grpc-go and nginx, each on one core, and measure the memory of idle followers;
    /// writes bench/results/tls.{json,md}. Requires h2load, nginx, taskset, OpenSSL and Go.
    Tls(serving::tls::Options),
    /// Compare a small and a large store that hold the same 1,000 hot articles: hits, misses, start and memory; writes
    /// bench/results/size.{json,md}.
    Size(size::Options),
    /// Compare the cost of a call through cable-client with that of tonic's client alone; writes
    /// bench/results/client.{json,md}.
    Client,
    /// Measure the worst request for each method, field and parameter: CPU time, memory, and the latency of another client; writes
    /// the table in docs/reliability.md and fails if a bound is exceeded.
    Costs(costs::Options),
    /// Measure 10,000 followers of one tag on 100 connections: memory, delivery latency, and the effect of 1,000 stalled
    /// followers; writes bench/results/feeds.{json,md}.
    Feeds(feeds::Options),
    /// Measure the maximum memory that peers can make a node use, each load against a new node; writes the table in
    /// docs/reliability.md and fails if a node exceeds cache.max_bytes + 256 MiB or does not release the memory.
    Memory(memory::Options),
    /// Count instructions per call with Valgrind, relative to cable-limit; writes bench/results/instructions.{json,md}.
    Instructions(instructions::Options),
    /// Offer a node on one core twice and ten times what it can serve: goodput, latency, recovery, and the cost of a
    /// refusal; writes bench/results/overload.{json,md}.
    Overload(overload::Options),
    /// Run reads, writes and feeds against a node for minutes or hours: memory, file descriptors and latency; writes
    /// bench/results/soak.{json,md}.
    Soak(soak::Options),
    /// Compare GetArticle with a token, limits, an access log and scraped metrics with the same calls without them;
    /// writes bench/results/guards.{json,md}. Requires Valgrind.
    Guards(guards::Options),
    /// Replay the history of a static site, one follower per tag, and check that feeds, listings and files agree; writes
    /// bench/results/replay.{json,md}.
    Replay(replay::Options),
    /// Call GetArticle repeatedly; used by `client` to count instructions.
    ClientCalls(client::CallOptions),
    /// Serve the articles of a file with tonic, prost and moka until killed; used by `serving`.
    Ordinary(ordinary::Options),
}

/// The result of a measurement, or an error.
type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Outcome<()> {
    match command {
        Command::Scale(options) => scale::run(&root(), options),
        Command::Serving(options) => serving::run(&root(), options),
        Command::Tls(options) => serving::tls::run(&root(), &options),
        Command::Size(options) => size::run(&root(), options),
        Command::Client => client::run(&root()),
        Command::Costs(options) => costs::run(&root(), options),
        Command::Feeds(options) => feeds::run(&root(), options),
        Command::Memory(options) => memory::run(&root(), options),
        Command::Instructions(options) => instructions::run(&root(), options),
        Command::Overload(options) => overload::run(&root(), options),
        Command::Soak(options) => soak::run(&root(), options),
        Command::Guards(options) => guards::run(&root(), options),
        Command::Replay(options) => replay::run(&root(), options),
        Command::ClientCalls(options) => client::calls(options),
        Command::Ordinary(options) => ordinary::run(options),
    }
}

/// Returns the directory of the workspace.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parse(line: &str) -> Result<Command, clap::Error> {
        let arguments = ["cable-bench"].into_iter().chain(line.split_whitespace());
        Arguments::try_parse_from(arguments).map(|arguments| arguments.command)
    }

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_parses_its_options() {
        for line in [
            "scale --articles 1000 --keep dir",
            "serving --rounds 1 --calls 1000 --only get",
            "tls --rounds 1 --calls 1000 --followers 100 --program cable --print",
            "size --articles 50000 --keep dir --only stall",
            "client",
            "costs --only PutArticle --program cable --first 2",
            "feeds --publishes 3",
            "memory --only 7",
            "instructions --check",
            "overload --seconds 10 --program cable",
            "soak --minutes 60",
            "guards --calls 1000 --rounds 1",
            "replay --repo dir --every 10 --limit 20 --seed 1",
            "client-calls --client bare --endpoint http://127.0.0.1:1 --name a --calls 10 --at-once 1",
            "ordinary --file records --listen 127.0.0.1:1",
        ] {
            parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }

    #[test]
    fn missing_unknown_and_invalid_options_are_refused() {
        for line in [
            "",
            "scales",
            "scale --articles many",
            "scale --articles",
            "scale extra",
            "serving --rounds 0",
            "serving --calls 999",
            "serving --only gets",
            "tls --followers 99",
            "size --articles 49999",
            "size --only stalls",
            "client --check",
            "overload --seconds 0",
            "soak --minutes 0",
            "guards --rounds 0",
            "memory --only 11",
            "replay",
            "replay --repo dir --every 0",
            "client-calls --client other --endpoint e --name a --calls 10 --at-once 1",
            "ordinary --file records",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
