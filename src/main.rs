//! The `cable` program.

use std::process::ExitCode;

/// Faster than the system's where threads allocate and free much that is small.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cable::cli::run()
}
