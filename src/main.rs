//! The `cable` program: the command line over the server library and the client crate.

use std::process::ExitCode;

mod cli;

/// Faster than the system's allocator where threads allocate and free many small objects.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::run()
}
