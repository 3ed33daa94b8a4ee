//! How long this node takes for the responses of a connection that were not in memory.
//!
//! They wait for room, for the threads that read the store, and to be written. If they take long, the node has too much
//! to do, or the peer is slow.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

/// The number of responses in flight from which they are a queue. Fewer hardly wait for one another, and one of them may
/// just be large.
const MIN_QUEUE: usize = 4;

/// The responses of a connection that were not in memory, from the call until their first bytes are written.
#[derive(Debug, Default)]
pub(super) struct Loads {
    in_flight: Mutex<InFlight>,
    /// How often the peer has shown that it reads; see [`Loads::peer_caught_up`].
    caught_up: AtomicU64,
}

#[derive(Debug, Default)]
struct InFlight {
    count: usize,
    oldest: Option<Load>,
}

/// The start of a response, with `Loads::caught_up` at that time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    start: Instant,
    caught_up: u64,
}

impl Loads {
    /// Starts a response. It must be ended.
    pub(super) fn start(&self) -> Load {
        let load = Load { start: Instant::now(), caught_up: self.caught_up.load(Relaxed) };
        let mut in_flight = self.in_flight();
        in_flight.oldest.get_or_insert(load);
        in_flight.count += 1;
        load
    }

    /// Ends a response whose first bytes are written. Most are written in the order of their calls, so those that remain
    /// are not much older than the newest one that has ended. One that takes far longer than those after it is large, and
    /// delays nothing.
    pub(super) fn end(&self, load: Load) {
        self.remove(|oldest| oldest.filter(|oldest| oldest.start > load.start).unwrap_or(load));
    }

    /// Ends a response of which nothing was written: its call was cancelled or refused, or has failed. That does not show
    /// how long the others wait.
    pub(super) fn cancel(&self, load: Load) {
        self.remove(|oldest| oldest.unwrap_or(load));
    }

    fn remove(&self, oldest: impl FnOnce(Option<Load>) -> Load) {
        let mut in_flight = self.in_flight();
        in_flight.count -= 1;
        in_flight.oldest = (in_flight.count > 0).then(|| oldest(in_flight.oldest));
    }

    /// Records that the peer has taken a response, and that nothing it should have read by now is in flight.
    pub(super) fn peer_caught_up(&self) {
        self.caught_up.fetch_add(1, Relaxed);
    }

    /// Returns the age of the oldest response in flight. Zero if there are few, or if the peer has not caught up in that
    /// time: then it is slower than the node, or was sent nothing.
    pub(super) fn delay(&self) -> Duration {
        let oldest = {
            let in_flight = self.in_flight();
            in_flight.oldest.filter(|_| in_flight.count >= MIN_QUEUE)
        };
        let caught_up = self.caught_up.load(Relaxed);
        let ours = oldest.filter(|load| load.caught_up != caught_up);
        ours.map_or(Duration::ZERO, |load| load.start.elapsed())
    }

    fn in_flight(&self) -> MutexGuard<'_, InFlight> {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    fn start(loads: &Loads, count: usize) -> Vec<Load> {
        (0..count).map(|_| loads.start()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn responses_are_delayed_until_they_are_written() {
        let loads = Loads::default();
        let first = start(&loads, MIN_QUEUE - 1);
        loads.peer_caught_up();
        advance(30 * MILLISECOND).await;
        assert_eq!(loads.delay(), Duration::ZERO, "few responses are no queue");
        let others = start(&loads, MIN_QUEUE + 1);
        loads.peer_caught_up();
        assert_eq!(loads.delay(), 30 * MILLISECOND);
        advance(20 * MILLISECOND).await;
        loads.end(others[0]);
        assert_eq!(loads.delay(), 20 * MILLISECOND, "one that came later is written already");
        first.into_iter().for_each(|load| loads.end(load));
        assert_eq!(loads.delay(), 20 * MILLISECOND, "the first ones were slow, and the others are not");
        loads.end(others[1]);
        assert_eq!(loads.delay(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancelled_call_makes_the_others_no_younger() {
        let loads = Loads::default();
        let _waiting = start(&loads, MIN_QUEUE);
        loads.peer_caught_up();
        advance(30 * MILLISECOND).await;
        let newest = loads.start();
        loads.cancel(newest);
        assert_eq!(loads.delay(), 30 * MILLISECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_does_not_read_delays_its_responses_itself() {
        let loads = Loads::default();
        start(&loads, MIN_QUEUE);
        advance(1_000 * MILLISECOND).await;
        assert_eq!(loads.delay(), Duration::ZERO);
        loads.peer_caught_up();
        assert_eq!(loads.delay(), 1_000 * MILLISECOND);
    }
}
