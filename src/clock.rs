//! The current time. A node receives its clock from its caller, so that tests set the time instead of waiting for it.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::sync::watch;

/// Maximum sleep before a wait reads the wall clock again, which may jump.
const MAX_SLEEP: Duration = Duration::from_secs(1);

/// A source of time, in microseconds since 1970 UTC, that can also wait for a time. Cheap to clone.
#[derive(Clone)]
pub struct Clock(Source);

#[derive(Clone)]
enum Source {
    System,
    Manual(watch::Receiver<i64>),
}

/// The control of a manual clock, which is the only way to change its time. Once it is dropped, the time no longer
/// changes.
#[derive(Debug)]
pub struct ManualClock(watch::Sender<i64>);

impl Clock {
    /// Returns the clock of the machine.
    #[must_use]
    pub fn system() -> Clock {
        Clock(Source::System)
    }

    /// Returns a manual clock that starts at `now`, in microseconds since 1970 UTC, and its control.
    #[must_use]
    pub fn manual(now: i64) -> (Clock, ManualClock) {
        let (control, time) = watch::channel(now);
        (Clock(Source::Manual(time)), ManualClock(control))
    }

    /// Returns the time in microseconds since 1970 UTC.
    #[must_use]
    pub fn now(&self) -> i64 {
        match &self.0 {
            Source::System => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH);
                since.map_or(0, micros)
            }
            Source::Manual(manual) => *manual.borrow(),
        }
    }

    /// Waits until `time`, in microseconds since 1970 UTC, or later. Never returns early. If the machine's clock is set
    /// forward past `time`, returns within 2 seconds.
    pub async fn sleep_until(&self, time: i64) {
        match &self.0 {
            Source::System => loop {
                let remaining = time.saturating_sub(self.now());
                let Ok(remaining @ 1..) = u64::try_from(remaining) else { return };
                tokio::time::sleep(Duration::from_micros(remaining).min(MAX_SLEEP)).await;
            },
            Source::Manual(manual) => {
                if manual.clone().wait_for(|now| *now >= time).await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        }
    }
}

/// Returns a duration in microseconds, the unit of all times.
#[must_use]
pub fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if matches!(self.0, Source::System) { "system" } else { "manual" };
        write!(f, "Clock({kind}, {})", self.now())
    }
}

impl ManualClock {
    /// Sets the time, in microseconds since 1970 UTC. The time may also go back. Wakes each wait whose time is reached.
    pub fn set(&self, now: i64) {
        self.0.send_replace(now);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt as _, poll};

    use super::*;

    #[tokio::test]
    async fn a_manual_clock_wakes_waits_whose_time_is_reached() {
        let (clock, manual) = Clock::manual(10);
        clock.sleep_until(10).now_or_never().unwrap();
        let mut waiting = std::pin::pin!(clock.sleep_until(20));
        assert!(poll!(&mut waiting).is_pending());
        manual.set(19);
        assert!(poll!(&mut waiting).is_pending());
        manual.set(20);
        assert!(poll!(&mut waiting).is_ready());
        assert_eq!(clock.now(), 20);
        drop(manual);
        assert!(clock.sleep_until(21).now_or_never().is_none());
    }

    #[tokio::test]
    async fn the_machines_clock_is_never_early() {
        let clock = Clock::system();
        clock.sleep_until(0).now_or_never().unwrap();
        let time = clock.now() + 3_000;
        clock.sleep_until(time).await;
        assert!(clock.now() >= time);
    }
}
