//! Measurements, and the servers that Cable is compared with: `cargo run --release --bin cable-bench`.
//!
//! Each measurement runs the released program as a process of its own, with a store of its own, and calls it as users
//! do.

use std::{
    env,
    error::Error,
    path::{Path, PathBuf},
    process::ExitCode,
};

mod client;
mod costs;
mod feeds;
mod generate;
mod instructions;
mod machine;
mod memory;
mod newsroom;
mod node;
mod options;
mod ordinary;
mod process;
mod random;
mod replay;
mod report;
mod scale;
mod service;
mod serving;
mod size;
mod wire;
mod words;
mod yardstick;

use options::Options;

/// The server's own allocator, so that all are measured with the same one.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const USAGE: &str = "usage: cargo run --release --bin cable-bench -- COMMAND [OPTIONS]

measurements:
  scale [--articles N] [--keep DIR]
      import invented articles, open the store again, read it in every way; writes bench/results/scale.json and
      bench/results/scale.md; N articles (200000); work in DIR, which must not be there yet, and leave everything in it
  serving [--rounds N] [--calls N] [--only CASE]
      Cable beside an ordinary tonic service, grpc-go, hyper alone, nginx and nghttpd, in turns; N rounds (5) of N
      calls (200000); writes bench/results/serving.json, bench/results/serving.md and plots; with a CASE (get, get-50,
      get-1, rate, ghz, list, batch, stream) only that, and writes nothing; needs h2load, nginx, nghttpd, taskset and Go
  size [--articles N] [--keep DIR] [--only PART]
      the same 1,000 articles in a store of as many and in one of N (1000000; at least 50000): hits and misses in both,
      start, memory; writes bench/results/size.json and bench/results/size.md; leaves the stores in DIR, and if they are
      there already builds none; of start, cost, stall and memory only PART, and writes nothing
  client
      what a call through cable-client costs its process, against one through tonic's client alone; writes
      bench/results/client.json and bench/results/client.md
  costs [--only PART] [--program FILE]
      the worst request for each method and field: the server's processor time and memory, and another client's wait;
      writes the table in docs/reliability.md and fails where a bound is not met; with a PART of a method or a request
      only those, or with another program, and writes nothing
  feeds [--publishes N]
      10,000 followers of one tag on 100 connections: what one costs at rest, how soon the last is told of each of N
      publishes (40), what 1,000 cost that take nothing; writes bench/results/feeds.json and bench/results/feeds.md
  memory [--only N]
      the most that peers can make a node hold, each load against a fresh node; writes the table in docs/reliability.md,
      and fails where a node takes more than cache.max_bytes + 256 MiB or does not give it back; with N only that load, from
      0, and writes nothing
  instructions [--check]
      instructions per call, counted by Valgrind, against those of cable-limit; writes bench/results/instructions.json
      and bench/results/instructions.md, or fails where a ratio is above the one recorded there

  replay --repo DIR [--every N] [--limit N] [--seed N]
      the posts of a static site, commit by commit: a follower keeps each tag, and after every N entries (1000) feeds,
      listings and files must agree; DIR is a git directory or a clone with posts in _posts or content/posts; writes
      bench/results/replay.json and bench/results/replay.md; with --limit only N commits, and writes nothing; what is
      drawn at random follows from the seed (7)

what `client` counts:
  client-calls --client bare|cable --endpoint URL --name NAME --calls N --at-once N
      calls of GetArticle

a server to compare with, until it is killed (another is the program cable-limit):
  ordinary --listen ADDRESS --file FILE
      a service of tonic, prost and moka with the articles of a file that `cable import binary` takes";

/// The result of a measurement, or an error.
type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Outcome<()> {
    let mut arguments = env::args().skip(1);
    let command = arguments.next();
    let options = Options::new(arguments);
    match command.as_deref() {
        Some("client") => client::run(&root(), options),
        Some("client-calls") => client::calls(options),
        Some("costs") => costs::run(&root(), options),
        Some("feeds") => feeds::run(&root(), options),
        Some("memory") => memory::run(&root(), options),
        Some("instructions") => instructions::run(&root(), options),
        Some("replay") => replay::run(&root(), options),
        Some("scale") => scale::run(&root(), options),
        Some("serving") => serving::run(&root(), options),
        Some("size") => size::run(&root(), options),
        Some("ordinary") => ordinary::run(options),
        _ => Err(USAGE.into()),
    }
}

/// Returns the directory of the workspace.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}
