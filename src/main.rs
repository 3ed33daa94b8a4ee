//! The `cable` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    cable::cli::run()
}
