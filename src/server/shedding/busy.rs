//! Whether a serving thread, or the process that it belongs to, has no processor time left.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, Timespec, clock_gettime};

/// The time over which the share of used processor time is taken, at least.
const WINDOW: Duration = Duration::from_millis(100);

/// The used share of what is available, in percent, from which nothing is left. A busy thread that shares a core with
/// others, or waits for a disk now and then, does not reach all of it.
const BUSY_PERCENT: u128 = 80;

/// The time after a busy window in which a thread still counts as busy. When a machine pauses for a moment, nothing
/// uses processor time, and the calls of that moment come all at once.
const HOLD: Duration = Duration::from_secs(1);

/// Measures the processor time of a thread and of its process.
#[derive(Debug)]
pub(super) struct Busy {
    cores: usize,
    last: Option<Times>,
    /// The end of the last busy window.
    last_busy: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Times {
    now: Instant,
    thread: Duration,
    process: Duration,
}

impl Times {
    fn now() -> Times {
        let clock = |id| duration(clock_gettime(id));
        Times {
            now: Instant::now(),
            thread: clock(ClockId::ThreadCPUTime),
            process: clock(ClockId::ProcessCPUTime),
        }
    }
}

fn duration(time: Timespec) -> Duration {
    Duration::try_from(time).unwrap_or_default()
}

impl Busy {
    /// Returns a measurement for a process that may use this many cores.
    pub(super) fn new(cores: usize) -> Busy {
        Busy { cores, last: None, last_busy: None }
    }

    /// Returns whether the current thread or its process is busy. `None` before the end of a window.
    pub(super) fn measure(&mut self) -> Option<bool> {
        self.record(Times::now())
    }

    fn record(&mut self, times: Times) -> Option<bool> {
        let last = *self.last.get_or_insert(times);
        let elapsed = times.now - last.now;
        if elapsed < WINDOW {
            return None;
        }
        self.last = Some(times);
        let is_busy = |used: Duration, before: Duration, cores: usize| {
            let used = used.saturating_sub(before);
            used.as_nanos() * 100 >= elapsed.as_nanos() * cores as u128 * BUSY_PERCENT
        };
        if is_busy(times.thread, last.thread, 1) || is_busy(times.process, last.process, self.cores) {
            self.last_busy = Some(times.now);
        }
        Some(self.last_busy.is_some_and(|end| times.now - end < HOLD))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_busy_alone_and_as_part_of_its_process() {
        for (cores, thread, process, expected) in [
            (4, 79, 79, false),
            (4, 80, 80, true),
            (4, 10, 319, false),
            (4, 10, 320, true),
            (1, 45, 90, true),
            (1, 0, 0, false),
        ] {
            let start = Instant::now();
            let times = |millis: [u64; 3]| {
                let [now, thread, process] = millis.map(Duration::from_millis);
                Times { now: start + now, thread, process }
            };
            let mut busy = Busy::new(cores);
            assert_eq!(busy.record(times([0, 0, 0])), None);
            assert_eq!(busy.record(times([99, 99, 99])), None, "before the end of the window");
            let mut record = |now| busy.record(times([now, thread, process]));
            assert_eq!(record(100), Some(expected), "{cores} {thread} {process}");
            assert_eq!(record(1_000), Some(expected), "a second has not passed since");
            assert_eq!(record(1_100), Some(false), "idle");
        }
    }

    #[test]
    fn the_clocks_count_what_a_thread_computes() {
        let (before, end) = (Times::now(), Duration::from_millis(5));
        while Times::now().thread - before.thread < end {}
        let after = Times::now();
        assert!(
            after.process - before.process >= end && after.now - before.now >= end,
            "{before:?} {after:?}"
        );
    }
}
