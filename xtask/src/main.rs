//! Development tasks of the repository: `cargo run -p xtask -- gen | gen --check | tidy`.

use std::{
    env,
    error::Error,
    path::{Path, PathBuf},
    process::ExitCode,
};

mod bindings;
mod fields;
mod references;
mod tidy;

const USAGE: &str = "usage: cargo run -p xtask -- <task>

  gen           write the generated files of cable-proto and cable-client, proto/fields.txt and docs/reference
  gen --check   fail if the generated files are out of date
  tidy          report uses in src/ that violate the order of the modules";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments[..] {
        ["gen"] => bindings::write(&root()).and_then(|written| references::write(&root(), written)),
        ["gen", "--check"] => bindings::check(&root()).and_then(|_| references::check(&root())),
        ["tidy"] => tidy::run(&root()),
        _ => Err(USAGE.into()),
    };
    match outcome {
        Ok(message) => {
            eprintln!("{message}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// The result of a task: the message at its end, or an error.
type Outcome = Result<String, Box<dyn Error>>;

/// Returns the directory of the workspace.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}
