//! The load: which call is due when. This module reads no clock; its callers pass the time.
//!
//! In an open loop, each call is due at a time of its own; in a closed loop, whenever a worker is free.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use tokio::sync::watch;

/// The amount and duration of a load.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// The condition under which a call is due.
    pub mode: Mode,
    /// Duration of the warm-up before the measurement.
    pub warm_up: Duration,
    /// The end of the measurement.
    pub limit: Limit,
}

/// The condition under which a call is due.
#[derive(Debug, Clone, Copy)]
pub enum Mode {
    /// An open loop: each call is due at a time of its own.
    Open {
        /// Calls per second.
        rate: f64,
        /// Maximum calls in flight; beyond it, calls are late.
        in_flight: u32,
    },
    /// A closed loop: each worker sends its next call after its last response.
    Closed {
        /// Number of workers.
        workers: u32,
    },
}

/// The end of a measurement.
#[derive(Debug, Clone, Copy)]
pub enum Limit {
    /// After this time.
    Time(Duration),
    /// After this many calls.
    Calls(u64),
}

impl Plan {
    /// Returns the number of calls that are measured, if that is known in advance.
    pub(super) fn calls(&self) -> Option<u64> {
        match (self.limit, self.mode) {
            (Limit::Calls(calls), _) => Some(calls),
            (Limit::Time(time), Mode::Open { rate, .. }) => Some((time.as_secs_f64() * rate).ceil() as u64),
            (Limit::Time(_), Mode::Closed { .. }) => None,
        }
    }
}

/// A call that is due now. Times count from the start of the run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Due {
    pub(super) number: u64,
    pub(super) intended: Duration,
    /// Whether the call is measured, and no part of the warm-up.
    pub(super) counted: bool,
}

/// The next step of an open loop.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    Start(Due),
    Wait(Duration),
    Done,
}

/// The calls of an open loop, one after the other.
#[derive(Debug)]
pub(super) struct Pacer {
    rate: f64,
    next: u64,
    warm_up: u64,
    total: u64,
    /// The time at which the loop ends, even if calls are left.
    pub(super) until: Option<Duration>,
}

impl Pacer {
    pub(super) fn new(rate: f64, warm_up: Duration, limit: Limit) -> Pacer {
        let calls = |time: Duration| (time.as_secs_f64() * rate).ceil() as u64;
        let (measured, until) = match limit {
            Limit::Time(time) => (calls(time).max(1), Some(warm_up + time)),
            Limit::Calls(calls) => (calls, None),
        };
        Pacer { rate, next: 0, warm_up: calls(warm_up), total: calls(warm_up) + measured, until }
    }

    fn intended(&self, number: u64) -> Duration {
        Duration::from_secs_f64(number as f64 / self.rate)
    }

    pub(super) fn step(&mut self, now: Duration) -> Step {
        if now >= self.intended(self.warm_up) {
            // Calls that the warm-up did not start must not take up the time of the measurement.
            self.next = self.next.max(self.warm_up);
        }
        let intended = self.intended(self.next);
        if self.next >= self.total || self.until.is_some_and(|until| now >= until) {
            Step::Done
        } else if now < intended {
            Step::Wait(intended - now)
        } else {
            let due = Due { number: self.next, intended, counted: self.next >= self.warm_up };
            self.next += 1;
            Step::Start(due)
        }
    }

    /// Returns how long each measured call has waited that is due by now and has not been started.
    pub(super) fn missed(&self, now: Duration) -> impl Iterator<Item = Duration> {
        let waiting = (self.next.max(self.warm_up)..self.total).map(|number| self.intended(number));
        waiting.take_while(move |intended| *intended <= now).map(move |intended| now - intended)
    }
}

/// The calls of a closed loop, which its workers share.
#[derive(Debug)]
pub(super) struct ClosedLoop {
    warm_up: Duration,
    limit: Limit,
    next: AtomicU64,
    counted: AtomicU64,
    stopped: watch::Receiver<bool>,
}

impl ClosedLoop {
    pub(super) fn new(warm_up: Duration, limit: Limit, stopped: watch::Receiver<bool>) -> ClosedLoop {
        ClosedLoop { warm_up, limit, next: AtomicU64::new(0), counted: AtomicU64::new(0), stopped }
    }

    pub(super) fn take(&self, now: Duration) -> Option<Due> {
        let counted = now >= self.warm_up;
        let continues = match self.limit {
            _ if *self.stopped.borrow() => false,
            _ if !counted => true,
            Limit::Time(time) => now < self.warm_up + time,
            Limit::Calls(calls) => self.counted.fetch_add(1, Relaxed) < calls,
        };
        continues.then(|| Due { number: self.next.fetch_add(1, Relaxed), intended: now, counted })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::{check::Response, report::Tally};

    const MS: Duration = Duration::from_millis(1);

    /// Returns the tally of a service that responds within 1 ms, except that it does not respond from 50 to 150 ms. It
    /// is called with room for `in_flight` calls on a clock that jumps from event to event.
    fn simulate_stall(in_flight: usize) -> Tally {
        let mut pacer = Pacer::new(1_000.0, Duration::ZERO, Limit::Calls(300));
        let (mut tally, mut now) = (Tally::new(), Duration::ZERO);
        let mut outstanding: Vec<(Duration, Duration)> = Vec::new();
        let start = Instant::now();
        loop {
            outstanding.retain(|(intended, end)| {
                if *end <= now {
                    tally.end(*intended, *end, start, Ok(Response::default()));
                }
                *end > now
            });
            let soonest = outstanding.iter().map(|(_, end)| *end).min();
            if outstanding.len() == in_flight {
                now = soonest.unwrap();
                continue;
            }
            match pacer.step(now) {
                Step::Start(due) => {
                    tally.start(due.intended, now);
                    let stalls = (50 * MS..150 * MS).contains(&now);
                    outstanding.push((due.intended, if stalls { 150 * MS } else { now + MS / 2 }));
                }
                Step::Wait(time) => now = soonest.map_or(now + time, |end| end.min(now + time)),
                Step::Done if outstanding.is_empty() => return tally,
                Step::Done => now = soonest.unwrap(),
            }
        }
    }

    #[test]
    fn a_stall_delays_every_call_due_during_it() {
        let tally = simulate_stall(1_000);
        assert_eq!(tally.calls(), 300);
        assert!((99..=101).contains(&tally.latency_above(MS * 9 / 10)));
        assert!((49..=51).contains(&tally.latency_above(50 * MS)));
        // With room for one call, the calls queue behind the stalled one, and wait for each other too.
        let tally = simulate_stall(1);
        assert_eq!(tally.calls(), 300);
        assert!((98..=102).contains(&tally.latency_above(50 * MS)));
    }

    #[test]
    fn calls_are_late_only_at_the_in_flight_limit() {
        let (late, latest) = simulate_stall(1).late();
        assert!(late >= 95 && latest >= 95 * MS, "{late} {latest:?}");
        assert_eq!(simulate_stall(1_000).late(), (0, Duration::ZERO));
    }

    #[test]
    fn calls_are_due_evenly_and_the_warm_up_is_not_counted() {
        let mut pacer = Pacer::new(100.0, 50 * MS, Limit::Calls(3));
        let mut due = Vec::new();
        let mut now = Duration::ZERO;
        loop {
            match pacer.step(now) {
                Step::Start(one) => due.push((one.intended.as_millis(), one.counted)),
                Step::Wait(time) => now += time,
                Step::Done => break,
            }
        }
        let warm_up = [0, 10, 20, 30, 40].map(|ms| (ms, false));
        assert_eq!(due[..5], warm_up);
        assert_eq!(due[5..], [50, 60, 70].map(|ms| (ms, true)));
    }

    #[test]
    fn unstarted_warm_up_calls_are_dropped() {
        let mut pacer = Pacer::new(100.0, 50 * MS, Limit::Calls(3));
        assert!(matches!(pacer.step(Duration::ZERO), Step::Start(Due { counted: false, .. })));
        let first = Due { number: 5, intended: 50 * MS, counted: true };
        assert_eq!(pacer.step(55 * MS), Step::Start(first));
    }

    #[test]
    fn due_calls_that_never_started_are_counted() {
        let mut pacer = Pacer::new(100.0, Duration::ZERO, Limit::Time(100 * MS));
        assert!(matches!(pacer.step(Duration::ZERO), Step::Start(_)));
        assert_eq!(pacer.step(100 * MS), Step::Done);
        let waited: Vec<u128> = pacer.missed(100 * MS).map(|wait| wait.as_millis()).collect();
        assert_eq!(waited, [90, 80, 70, 60, 50, 40, 30, 20, 10]);
        assert_eq!(pacer.missed(25 * MS).count(), 2);
    }

    #[test]
    fn a_closed_loop_ends_after_its_calls_or_its_time() {
        let (stop, stopped) = watch::channel(false);
        let closed_loop = |limit| ClosedLoop::new(10 * MS, limit, stopped.clone());
        let by_calls = closed_loop(Limit::Calls(2));
        let counted: Vec<Option<bool>> =
            [0, 9, 10, 11, 12].map(|ms| by_calls.take(ms * MS).map(|due| due.counted)).into();
        assert_eq!(counted, [Some(false), Some(false), Some(true), Some(true), None]);
        let by_time = closed_loop(Limit::Time(5 * MS));
        assert!(by_time.take(14 * MS).is_some_and(|due| due.counted));
        assert_eq!(by_time.take(15 * MS), None);
        stop.send_replace(true);
        assert_eq!(by_time.take(14 * MS), None);
    }
}
