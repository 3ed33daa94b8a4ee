//! Counts the panics of the process: also those of which only one call, stream or read fails.

use std::{
    panic,
    sync::{
        Once,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

static COUNT: AtomicU64 = AtomicU64::new(0);

/// Counts each panic from now on, before it is printed.
pub(crate) fn start_counting() {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        let print = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            COUNT.fetch_add(1, Relaxed);
            print(panic);
        }));
    });
}

/// Returns the number of counted panics.
pub(crate) fn count() -> u64 {
    COUNT.load(Relaxed)
}
