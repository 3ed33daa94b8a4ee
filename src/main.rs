//! The `cable` program: the command line over the server library, the client, the importers and the load generator.

use std::process::ExitCode;

mod cli;

/// Faster than the system's allocator where threads allocate and free many small objects.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::run()
}
