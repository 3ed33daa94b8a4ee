//! Whether a serving thread, or the process that it belongs to, has no processor time left.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, Timespec, clock_gettime};

use super::groups::CORE;

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
    /// The processor time that the process may use, in thousandths of a core.
    limit: u64,
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
    /// Returns a measurement for a process that may use this much processor time, in thousandths of a core.
    pub(super) fn new(limit: u64) -> Busy {
        Busy { limit, last: None, last_busy: None }
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
        let is_busy = |used: Duration, before: Duration, limit: u64| {
            let used = used.saturating_sub(before) * CORE as u32;
            used.as_nanos() * 100 >= elapsed.as_nanos() * u128::from(limit) * BUSY_PERCENT
        };
        if is_busy(times.thread, last.thread, CORE) || is_busy(times.process, last.process, self.limit) {
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
        for (limit, thread, process, expected) in [
            (4_000, 79, 79, false),
            (4_000, 80, 80, true),
            (4_000, 10, 319, false),
            (4_000, 10, 320, true),
            (1_000, 45, 90, true),
            (1_000, 0, 0, false),
            (500, 20, 39, false),
            (500, 20, 40, true),
        ] {
            let start = Instant::now();
            let times = |millis: [u64; 3]| {
                let [now, thread, process] = millis.map(Duration::from_millis);
                Times { now: start + now, thread, process }
            };
            let mut busy = Busy::new(limit);
            assert_eq!(busy.record(times([0, 0, 0])), None);
            assert_eq!(busy.record(times([99, 99, 99])), None, "before the end of the window");
            let mut record = |now| busy.record(times([now, thread, process]));
            assert_eq!(record(100), Some(expected), "{limit} {thread} {process}");
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
