//! Limits the handshakes that are in progress, so that peers that stop half-way delay no others.

use std::{
    collections::HashMap,
    io,
    net::IpAddr,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, Semaphore, SemaphorePermit},
    time::timeout,
};

/// The maximum time of a handshake, and the maximum time until its hello.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);

/// The maximum number of handshakes at once is the sum of `common` and `reserved`. A handshake mostly waits for its
/// peer, and holds up to 100 KiB if the peer sends a long chain of certificates.
const SLOTS: Slots = Slots { common: 128, reserved: 128, each: 4 };

const TIMEOUTS: Timeouts =
    Timeouts { start: Duration::from_secs(20), handshake: TIMEOUT, contended: Duration::from_secs(1) };

/// The slots for handshakes.
#[derive(Debug, Clone, Copy)]
struct Slots {
    /// The number for all networks together.
    common: usize,
    /// The number for networks that have few of them, and the most that each can have. Only the peers of
    /// `reserved / each` networks together can use all slots.
    reserved: usize,
    each: usize,
}

/// The time limits of handshakes.
#[derive(Debug, Clone, Copy)]
struct Timeouts {
    /// The maximum time that a connection waits for the start of its handshake. After a restart all clients connect at
    /// once, and one core completes some hundred handshakes each second.
    start: Duration,
    /// The maximum time of a handshake.
    handshake: Duration,
    /// The maximum time of a handshake that others wait for. If peers that stop half-way use all slots, each slot is
    /// free again after this time.
    contended: Duration,
}

/// The handshakes of a node.
pub(super) struct Handshakes {
    timeouts: Timeouts,
    common: Semaphore,
    reserved: Semaphore,
    each: usize,
    networks: Mutex<HashMap<IpAddr, Arc<Semaphore>>>,
    /// The number of connections that wait for a slot, and the notification that one has started to wait.
    waiting: AtomicUsize,
    contended: Notify,
}

impl Default for Handshakes {
    fn default() -> Handshakes {
        Handshakes::new(SLOTS, TIMEOUTS)
    }
}

impl Handshakes {
    fn new(slots: Slots, timeouts: Timeouts) -> Handshakes {
        Handshakes {
            timeouts,
            common: Semaphore::new(slots.common),
            reserved: Semaphore::new(slots.reserved),
            each: slots.each,
            networks: Mutex::default(),
            waiting: AtomicUsize::new(0),
            contended: Notify::new(),
        }
    }

    /// Runs a handshake with a peer of a network once there is a slot for it.
    ///
    /// # Errors
    /// The handshake fails, or does not end in time.
    pub(super) async fn run<T, F: Future<Output = io::Result<T>>>(
        &self,
        network: IpAddr,
        start: impl FnOnce() -> F,
    ) -> io::Result<T> {
        let Timeouts { start: start_timeout, handshake: total, contended } = self.timeouts;
        let late = |_| io::Error::from(io::ErrorKind::TimedOut);
        let share = Share::new(self, network);
        let _slot = timeout(start_timeout, self.acquire_slot(&share)).await.map_err(late)?;
        let mut handshake = pin!(start());
        if let Ok(done) = timeout(contended, &mut handshake).await {
            return done;
        }
        tokio::select! {
            biased;
            done = timeout(total - contended, handshake) => done.map_err(late)?,
            () = self.wait_for_contention() => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    async fn acquire_slot<'a>(&'a self, share: &'a Share<'_>) -> Slot<'a> {
        if let Some(slot) = self.try_acquire_slot(share) {
            return slot;
        }
        let _waiting = Waiting::new(&self.waiting);
        self.contended.notify_one();
        let reserved = async {
            let own = acquire(&share.own).await;
            Slot { _permit: acquire(&self.reserved).await, _own: Some(own) }
        };
        let common = async { Slot { _permit: acquire(&self.common).await, _own: None } };
        tokio::select! { slot = reserved => slot, slot = common => slot }
    }

    fn try_acquire_slot<'a>(&'a self, share: &'a Share<'_>) -> Option<Slot<'a>> {
        if let Ok(permit) = self.common.try_acquire() {
            return Some(Slot { _permit: permit, _own: None });
        }
        let own = share.own.try_acquire().ok()?;
        let permit = self.reserved.try_acquire().ok()?;
        Some(Slot { _permit: permit, _own: Some(own) })
    }

    /// Waits until a connection waits for a slot.
    async fn wait_for_contention(&self) {
        while self.waiting.load(Relaxed) == 0 {
            self.contended.notified().await;
        }
    }

    fn networks(&self) -> MutexGuard<'_, HashMap<IpAddr, Arc<Semaphore>>> {
        self.networks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn acquire(semaphore: &Semaphore) -> SemaphorePermit<'_> {
    semaphore.acquire().await.expect("the semaphore is never closed")
}

/// A slot of a handshake. It is free again when dropped.
struct Slot<'a> {
    _permit: SemaphorePermit<'a>,
    /// The permit of the network, if the slot is one of the reserved ones.
    _own: Option<SemaphorePermit<'a>>,
}

/// The share of a network in the reserved slots. It is forgotten with the last handshake of the network.
struct Share<'a> {
    handshakes: &'a Handshakes,
    network: IpAddr,
    own: Arc<Semaphore>,
}

impl Share<'_> {
    fn new(handshakes: &Handshakes, network: IpAddr) -> Share<'_> {
        let own = || Arc::new(Semaphore::new(handshakes.each));
        let own = handshakes.networks().entry(network).or_insert_with(own).clone();
        Share { handshakes, network, own }
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        let mut networks = self.handshakes.networks();
        // The map itself has one more.
        if Arc::strong_count(&self.own) == 2 {
            networks.remove(&self.network);
        }
    }
}

/// Counts a connection that waits for a slot.
struct Waiting<'a>(&'a AtomicUsize);

impl Waiting<'_> {
    fn new(count: &AtomicUsize) -> Waiting<'_> {
        count.fetch_add(1, Relaxed);
        Waiting(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use futures_util::{FutureExt as _, future::join_all};
    use tokio::time::{Instant, sleep};

    use super::*;

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    const SHORT: Timeouts = Timeouts { start: millis(2_000), handshake: millis(500), contended: millis(100) };
    const LASTING: Timeouts = Timeouts { handshake: Duration::from_secs(600), ..SHORT };

    /// Returns slots of which no network has some of its own.
    fn common(common: usize) -> Slots {
        Slots { common, reserved: 0, each: 0 }
    }

    fn network(n: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, n])
    }

    impl Handshakes {
        /// Runs a handshake whose peer stops half-way.
        async fn stop_half_way(&self, n: u8) -> io::Result<()> {
            self.run(network(n), pending).await
        }

        async fn complete(&self, n: u8) -> io::Result<()> {
            self.run(network(n), || ready(Ok(()))).await
        }

        fn assert_unused(&self, slots: Slots) {
            assert_eq!(self.waiting.load(Relaxed), 0);
            assert_eq!(self.common.available_permits(), slots.common);
            assert_eq!(self.reserved.available_permits(), slots.reserved);
            assert_eq!(self.networks().len(), 0);
        }
    }

    #[tokio::test]
    async fn a_handshake_has_limited_time() {
        let handshakes = Handshakes::new(common(1), SHORT);
        assert!(handshakes.complete(1).now_or_never().unwrap().is_ok());
        let start = Instant::now();
        let error = handshakes.stop_half_way(1).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(start.elapsed() >= millis(500), "nothing else waits");
    }

    #[tokio::test]
    async fn a_handshake_that_others_wait_for_has_less_time() {
        let handshakes = Handshakes::new(common(2), LASTING);
        let start = Instant::now();
        let late = async {
            sleep(millis(300)).await;
            handshakes.complete(1).await
        };
        let silent = async { futures_util::join!(handshakes.stop_half_way(1), handshakes.stop_half_way(1)) };
        let (silent, late) = futures_util::join!(tokio::time::timeout(millis(1_500), silent), late);
        assert!(late.is_ok() && start.elapsed() >= millis(1_500), "the other one has its time");
        assert!(silent.is_err());
    }

    #[tokio::test]
    async fn peers_of_many_networks_delay_others_for_a_short_time() {
        let handshakes = Handshakes::new(common(10), LASTING);
        let start = Instant::now();
        let silent = join_all((0..30).map(|n| handshakes.stop_half_way(n))).then(|_| pending::<Duration>());
        let served = async {
            handshakes.complete(99).await.unwrap();
            start.elapsed()
        };
        let served = tokio::select! { biased; served = silent => served, served = served => served };
        assert!(served >= millis(200), "three rounds of silent peers come first: {served:?}");
        handshakes.assert_unused(common(10));
    }

    /// The peers of up to `reserved / each - 1` networks stop half-way, and all other networks find a slot immediately.
    #[tokio::test]
    async fn peers_of_few_networks_delay_no_others() {
        const FEW: usize = SLOTS.reserved / SLOTS.each - 1;
        let handshakes = Handshakes::new(SLOTS, LASTING);
        let mut half: Vec<_> =
            (0..FEW * 100).map(|at| Box::pin(handshakes.stop_half_way((at % FEW) as u8))).collect();
        for half in &mut half {
            assert!(half.as_mut().now_or_never().is_none());
        }
        assert_eq!(handshakes.reserved.available_permits(), SLOTS.each);
        for n in FEW..256 {
            assert!(handshakes.complete(n as u8).now_or_never().unwrap().is_ok(), "{n}");
        }
        assert!(handshakes.complete(0).now_or_never().is_none(), "this network has used its own slots");
        assert_eq!(handshakes.networks().len(), FEW);
        drop(half);
        handshakes.assert_unused(SLOTS);
    }

    /// A network that waits gets the next free slot of either kind.
    #[tokio::test]
    async fn a_connection_takes_the_slot_that_is_free_first() {
        for freed in [0, 1] {
            let handshakes = Handshakes::new(Slots { common: 1, reserved: 2, each: 1 }, LASTING);
            let mut half: Vec<_> = (0..2).map(|_| Some(Box::pin(handshakes.stop_half_way(1)))).collect();
            for half in half.iter_mut().flatten() {
                assert!(half.as_mut().now_or_never().is_none());
            }
            let mut waits = Box::pin(handshakes.complete(1));
            assert!(waits.as_mut().now_or_never().is_none());
            half[freed] = None;
            assert!(waits.as_mut().now_or_never().unwrap().is_ok(), "{freed}");
        }
    }

    #[tokio::test]
    async fn a_connection_does_not_wait_for_ever_for_its_handshake() {
        let timeouts = Timeouts { start: millis(50), ..SHORT };
        let handshakes = Handshakes::new(common(1), timeouts);
        let silent = join_all((0..10).map(|_| handshakes.stop_half_way(1))).await;
        assert!(silent.iter().all(Result::is_err));
        handshakes.assert_unused(common(1));
    }
}
