//! The delay of a queue, and the share of the calls that are refused because of it.
//!
//! The minimum over a window counts, as in CoDel: a burst that a queue works off within a window delays some calls,
//! but not all, and needs no refusal. The share of refused calls moves in steps, because refusing all calls of one
//! window and none of the next would waste capacity in turns.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// The time over which the minimum of the delay is taken.
const WINDOW: Duration = Duration::from_millis(100);

/// The minimum number of measurements in a window. One alone can be a coincidence.
const MIN_MEASUREMENTS: u32 = 2;

/// The share of refused calls in steps: `share` of `SHARES` calls are refused. At least one of them is always served, so
/// that a queue always has calls that show its delay.
const SHARES: u32 = 32;
const MAX_SHARE: u32 = SHARES - 1;

/// The change of the share after a window whose minimum exceeds its maximum by less than this factor, and by more. The
/// higher the delay, the faster the share rises.
const RISES: [(u32, u32); 3] = [(2, 1), (4, 3), (u32::MAX, 8)];

/// A window whose minimum is below this part of the maximum lowers the share by more than one step.
const CALM_DIVISOR: u32 = 4;
const CALM_FALL: u32 = 4;

/// Decides which calls are refused because of the delay of one queue.
#[derive(Debug)]
pub(in crate::server) struct DelayLimit {
    max: Duration,
    share: AtomicU32,
    /// The number of calls while calls are refused, which spreads the refusals evenly.
    turn: AtomicU32,
    /// The minimum of the last window, in nanoseconds.
    last_minimum: AtomicU64,
    window: Mutex<Option<Window>>,
}

#[derive(Debug)]
struct Window {
    start: Instant,
    minimum: Duration,
    measurements: u32,
}

impl DelayLimit {
    /// Returns a limit that refuses no call as long as the delay is at most `max`.
    pub(in crate::server) fn new(max: Duration) -> DelayLimit {
        DelayLimit {
            max,
            share: AtomicU32::new(0),
            turn: AtomicU32::new(0),
            last_minimum: AtomicU64::new(0),
            window: Mutex::new(None),
        }
    }

    /// Whether the next call is refused. While no calls are refused, this is one load.
    pub(in crate::server) fn refuses_next(&self) -> bool {
        let share = self.share.load(Relaxed);
        share > 0 && self.refuses_one_of(share)
    }

    #[cold]
    fn refuses_one_of(&self, share: u32) -> bool {
        let turn = self.turn.fetch_add(1, Relaxed) % SHARES;
        turn * share / SHARES != (turn + 1) * share / SHARES
    }

    /// Whether calls are refused at all.
    pub(in crate::server) fn is_refusing(&self) -> bool {
        self.share.load(Relaxed) > 0
    }

    /// Returns the minimum of the delay in the last window.
    pub(in crate::server) fn delay(&self) -> Duration {
        Duration::from_nanos(self.last_minimum.load(Relaxed))
    }

    /// Records a measured delay.
    pub(in crate::server) fn record(&self, now: Instant, delay: Duration) {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let current = window.get_or_insert(Window { start: now, minimum: Duration::MAX, measurements: 0 });
        current.minimum = current.minimum.min(delay);
        current.measurements += 1;
        if now.duration_since(current.start) < WINDOW || current.measurements < MIN_MEASUREMENTS {
            return;
        }
        let minimum = current.minimum;
        *window = None;
        drop(window);
        self.last_minimum.store(u64::try_from(minimum.as_nanos()).unwrap_or(u64::MAX), Relaxed);
        self.share.store(self.next_share(minimum), Relaxed);
    }

    fn next_share(&self, minimum: Duration) -> u32 {
        let share = self.share.load(Relaxed);
        if minimum <= self.max {
            let calm = minimum < self.max / CALM_DIVISOR;
            return share.saturating_sub(if calm { CALM_FALL } else { 1 });
        }
        let rise = RISES.iter().find(|(factor, _)| minimum < self.max.saturating_mul(*factor));
        MAX_SHARE.min(share + rise.map_or(0, |(_, rise)| *rise))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: Duration = Duration::from_millis(20);

    /// A limit with a clock of its own.
    struct Measured {
        limit: DelayLimit,
        now: Instant,
    }

    impl Measured {
        fn new() -> Measured {
            Measured { limit: DelayLimit::new(MAX), now: Instant::now() }
        }

        /// Records delays, each this long after the one before it.
        fn record(&mut self, delays: impl IntoIterator<Item = u64>) {
            for millis in delays {
                self.now += Duration::from_millis(20);
                self.limit.record(self.now, Duration::from_millis(millis));
            }
        }

        /// Returns how many of a hundred calls are refused, in percent.
        fn refused(&self) -> u32 {
            (0..SHARES * 100).filter(|_| self.limit.refuses_next()).count() as u32 / SHARES
        }
    }

    #[test]
    fn a_burst_that_passes_within_a_window_refuses_no_call() {
        for delays in [[500, 400, 300, 200, 100, 0], [0, 900, 900, 900, 900, 900], [20; 6]] {
            let mut measured = Measured::new();
            measured.record(delays);
            assert!(!measured.limit.is_refusing() && measured.refused() == 0, "{delays:?}");
        }
    }

    #[test]
    fn a_delay_that_lasts_refuses_more_and_more_calls_but_never_all() {
        let mut measured = Measured::new();
        measured.record([21; 6]);
        let first = measured.refused();
        assert!((1..=5).contains(&first), "{first}");
        assert_eq!(measured.limit.delay(), Duration::from_millis(21));
        measured.record([21; 60]);
        assert!(measured.refused() > 5 * first);
        measured.record([1_000; 600]);
        assert_eq!(measured.refused(), 100 * MAX_SHARE / SHARES);
    }

    #[test]
    fn a_long_delay_refuses_calls_faster_than_a_short_one() {
        let refused = |millis| {
            let mut measured = Measured::new();
            measured.record([millis; 12]);
            measured.refused()
        };
        assert!(refused(25) < refused(60) && refused(60) < refused(200));
    }

    #[test]
    fn a_queue_that_is_short_again_refuses_no_call_within_two_seconds() {
        let mut measured = Measured::new();
        measured.record([1_000; 600]);
        let calm = measured.now;
        while measured.limit.is_refusing() {
            measured.record([0]);
        }
        assert!(measured.now - calm < Duration::from_secs(2), "{:?}", measured.now - calm);
        assert_eq!(measured.refused(), 0);
    }

    #[test]
    fn one_measurement_ends_no_window() {
        let mut measured = Measured::new();
        measured.limit.record(measured.now, Duration::from_secs(9));
        measured.now += Duration::from_secs(9);
        measured.record([0]);
        assert!(!measured.limit.is_refusing());
    }

    #[test]
    fn refusals_are_spread_evenly() {
        let limit = DelayLimit::new(MAX);
        limit.share.store(SHARES / 2, Relaxed);
        let refused: Vec<_> = (0..8).map(|_| limit.refuses_next()).collect();
        assert!(refused.windows(2).all(|pair| pair[0] != pair[1]), "{refused:?}");
    }
}
