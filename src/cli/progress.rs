//! The progress of a long command, on standard error and only if that is a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Interval between two updates of a spinner, short enough to look like motion.
const TICK: Duration = Duration::from_millis(200);

fn set_style(bar: &ProgressBar, template: &str) {
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
}

/// Returns a display for work of an unknown size.
pub(crate) fn bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    set_style(&bar, "{spinner} {elapsed} {pos} {msg}");
    bar.enable_steady_tick(TICK);
    bar
}

/// Sets the total number of items.
pub(crate) fn set_total_items(bar: &ProgressBar, total: u64) {
    set_style(bar, "{bar:30} {pos}/{len} {elapsed} {msg}");
    bar.set_length(total);
}

/// Sets the total number of bytes.
pub(crate) fn set_total_bytes(bar: &ProgressBar, total: u64) {
    set_style(bar, "{bar:30} {bytes}/{total_bytes} {elapsed} {msg}");
    bar.set_length(total);
}

/// Runs an operation and displays its phases. The display disappears if the operation succeeds.
pub(crate) fn of_phases<T, E>(run: impl FnOnce(&dyn Fn(&'static str)) -> Result<T, E>) -> Result<T, E> {
    let bar = bar();
    let done = run(&|phase| bar.set_message(phase))?;
    bar.finish_and_clear();
    Ok(done)
}
