//! The `cable` program.

use std::process::ExitCode;

/// Faster than the system's allocator where threads allocate and free many small objects.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cable::cli::run()
}
