//! Memory pressure: how near the process is to its limit of memory, in steps. Each step gives up more than the one
//! before it, so that a node that runs short of memory loses speed first, then new streams, and never its process.

use std::{
    fmt,
    sync::atomic::{AtomicU8, Ordering::Relaxed},
};

/// A step ends this many percent of the limit below the threshold at which it starts, so that it does not start and end
/// with each large response.
const HYSTERESIS_PERCENT: u64 = 5;

/// A measure of a node to stay below its limit of memory. Each step includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::server) enum Step {
    /// There is enough memory.
    Normal,
    /// The caches hold at most half of their bound.
    ShrinkCache,
    /// New feeds, streams, imports and exports are refused.
    RefuseStreams,
    /// Reads that are not in memory are refused.
    RefuseLoads,
}

impl Step {
    const ALL: [Step; 4] = [Step::Normal, Step::ShrinkCache, Step::RefuseStreams, Step::RefuseLoads];

    /// Returns the used share of the limit, in percent, at which the step starts.
    fn threshold_percent(self) -> u64 {
        match self {
            Step::Normal => 0,
            Step::ShrinkCache => 80,
            Step::RefuseStreams => 90,
            Step::RefuseLoads => 95,
        }
    }

    /// Returns the step for a used share of the limit.
    fn at(used_percent: u64) -> Step {
        let reached = Step::ALL.into_iter().rev().find(|step| used_percent >= step.threshold_percent());
        reached.unwrap_or(Step::Normal)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Step::Normal => "normal",
            Step::ShrinkCache => "shrink_cache",
            Step::RefuseStreams => "refuse_streams",
            Step::RefuseLoads => "refuse_loads",
        })
    }
}

/// The memory pressure of a process.
#[derive(Debug)]
pub(in crate::server) struct Pressure {
    /// The limit in bytes, `None` if there is none.
    limit: Option<u64>,
    step: AtomicU8,
}

impl Pressure {
    /// Returns the pressure below a limit in bytes, `None` for no limit.
    pub(in crate::server) fn new(limit: Option<u64>) -> Pressure {
        Pressure { limit: limit.filter(|limit| *limit > 0), step: AtomicU8::new(0) }
    }

    pub(in crate::server) fn limit(&self) -> Option<u64> {
        self.limit
    }

    /// Returns the current step.
    pub(in crate::server) fn step(&self) -> Step {
        Step::ALL[usize::from(self.step.load(Relaxed))]
    }

    /// Records how much memory the process uses. Returns the step if it has changed.
    pub(in crate::server) fn record(&self, used: u64) -> Option<Step> {
        let percent = |used: u64| used.saturating_mul(100) / self.limit.unwrap_or(u64::MAX);
        let (before, used) = (self.step(), percent(used));
        // Above the threshold of a step that is active, less is used than that only below the hysteresis.
        let next = Step::at(used).max(before.min(Step::at(used + HYSTERESIS_PERCENT)));
        if self.limit.is_none() || next == before {
            return None;
        }
        self.step.store(next as u8, Relaxed);
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u64 = 1_000 << 20;

    fn step_at(pressure: &Pressure, percent: u64) -> Step {
        pressure.record(LIMIT / 100 * percent);
        pressure.step()
    }

    #[test]
    fn each_step_starts_at_its_threshold() {
        for (percent, step) in [
            (0, Step::Normal),
            (79, Step::Normal),
            (80, Step::ShrinkCache),
            (89, Step::ShrinkCache),
            (90, Step::RefuseStreams),
            (95, Step::RefuseLoads),
            (150, Step::RefuseLoads),
        ] {
            assert_eq!(step_at(&Pressure::new(Some(LIMIT)), percent), step, "{percent}");
        }
    }

    #[test]
    fn a_step_ends_below_its_threshold_and_each_change_is_reported_once() {
        let pressure = Pressure::new(Some(LIMIT));
        let changes: Vec<_> = [96, 96, 94, 91, 89, 86, 84, 81, 76, 74, 79, 10]
            .into_iter()
            .filter_map(|percent| pressure.record(LIMIT / 100 * percent))
            .collect();
        assert_eq!(changes, [Step::RefuseLoads, Step::RefuseStreams, Step::ShrinkCache, Step::Normal]);
        for percent in [80, 79, 80, 76, 80] {
            assert_eq!(step_at(&pressure, percent), Step::ShrinkCache, "{percent}");
        }
    }

    #[test]
    fn a_process_without_a_limit_is_never_under_pressure() {
        for limit in [None, Some(0)] {
            let pressure = Pressure::new(limit);
            assert_eq!(pressure.record(u64::MAX), None);
            assert_eq!(pressure.step(), Step::Normal);
        }
    }
}
