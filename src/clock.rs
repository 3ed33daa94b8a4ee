//! The current time. A node receives its clock from its caller, so that tests set the time instead of waiting for it.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::sync::watch;

/// Maximum sleep before a wait reads the wall clock again, which may jump.
const LOOK: Duration = Duration::from_secs(1);

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
pub struct Hands(watch::Sender<i64>);

impl Clock {
    /// Returns the clock of the machine.
    #[must_use]
    pub fn system() -> Clock {
        Clock(Source::System)
    }

    /// Returns a manual clock that starts at `now`, in microseconds since 1970 UTC, and its control.
    #[must_use]
    pub fn manual(now: i64) -> (Clock, Hands) {
        let (hands, seen) = watch::channel(now);
        (Clock(Source::Manual(seen)), Hands(hands))
    }

    /// Returns the time in microseconds since 1970 UTC.
    #[must_use]
    pub fn now(&self) -> i64 {
        match &self.0 {
            Source::System => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH);
                since.map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
            }
            Source::Manual(hands) => *hands.borrow(),
        }
    }

    /// Waits until `time`, in microseconds since 1970 UTC, or later. Never returns early. If the machine's clock is set
    /// forward past `time`, returns within 2 seconds.
    pub async fn reached(&self, time: i64) {
        match &self.0 {
            Source::System => loop {
                let left = time.saturating_sub(self.now());
                let Ok(left @ 1..) = u64::try_from(left) else { return };
                tokio::time::sleep(Duration::from_micros(left).min(LOOK)).await;
            },
            Source::Manual(hands) => {
                if hands.clone().wait_for(|now| *now >= time).await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        }
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if matches!(self.0, Source::System) { "system" } else { "manual" };
        write!(f, "Clock({kind}, {})", self.now())
    }
}

impl Hands {
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
    async fn a_clock_moved_by_hand_wakes_whoever_waits_for_its_time() {
        let (clock, hands) = Clock::manual(10);
        clock.reached(10).now_or_never().unwrap();
        let mut waiting = std::pin::pin!(clock.reached(20));
        assert!(poll!(&mut waiting).is_pending());
        hands.set(19);
        assert!(poll!(&mut waiting).is_pending());
        hands.set(20);
        assert!(poll!(&mut waiting).is_ready());
        assert_eq!(clock.now(), 20);
        drop(hands);
        assert!(clock.reached(21).now_or_never().is_none());
    }

    #[tokio::test]
    async fn the_machines_clock_is_never_early() {
        let clock = Clock::system();
        clock.reached(0).now_or_never().unwrap();
        let time = clock.now() + 3_000;
        clock.reached(time).await;
        assert!(clock.now() >= time);
    }
}
