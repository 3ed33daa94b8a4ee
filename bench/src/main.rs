//! Measurements that the README's tables are made of: `cargo run --release --bin cable-bench -- scale`.
//!
//! Each runs the released program as a process of its own, with a store of its own, and speaks to it as its users do.

use std::{
    env,
    error::Error,
    path::{Path, PathBuf},
    process::ExitCode,
};

mod generate;
mod node;
mod random;
mod report;
mod scale;
mod size;
mod words;
mod yardstick;

const USAGE: &str = "usage: cargo run --release --bin cable-bench -- scale [--articles N] [--keep DIR]

  scale            import invented articles, open the store again, read it in every way; writes
                   bench/results/scale.json, bench/results/scale.md and the table in README.md
  --articles N     how many articles (200000)
  --keep DIR       work in this directory, which must not be there yet, and leave everything in it";

/// What a measurement says at its end, or why there is none.
type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1).peekable();
    let run = if arguments.next_if(|first| first == "size").is_some() {
        size::Options::parse(arguments).and_then(|options| size::run(&root(), &options))
    } else {
        Scale::parse(arguments).and_then(|options| scale::run(&root(), &options))
    };
    match run {
        Ok(table) => {
            eprintln!("\n{table}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// What is asked for.
#[derive(Debug)]
struct Scale {
    articles: u64,
    keep: Option<PathBuf>,
}

impl Scale {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Outcome<Scale> {
        if arguments.next().as_deref() != Some("scale") {
            return Err(USAGE.into());
        }
        let mut options = Scale { articles: 200_000, keep: None };
        while let Some(flag) = arguments.next() {
            let value = arguments.next().ok_or(USAGE)?;
            match flag.as_str() {
                "--articles" => options.articles = value.parse().map_err(|_| USAGE)?,
                "--keep" => options.keep = Some(value.into()),
                _ => return Err(USAGE.into()),
            }
        }
        Ok(options)
    }
}

/// The directory of the workspace.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}
