//! Runs the streams of a connection, and counts them and the memory that they hold.

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use futures_util::task::AtomicWaker;
use hyper::rt::Executor;
use subtle::ConstantTimeEq as _;
use tokio::{
    sync::Notify,
    time::{Instant, Sleep, sleep_until, timeout},
};

use super::{
    flight::{Charge, Flight},
    loads::Loads,
    memory::{Account, CoreMemory, SMALL_BYTES},
    peer::Peer,
};
use crate::{auth::Identity, refusal::Refusal};

/// The number of progress checks of a stream within the progress timeout. A stream without progress in that many
/// consecutive checks is reset.
const STALL_CHECKS: u32 = 3;

/// The number of checks for a connection, which may still hold responses of streams that have ended. It is larger than
/// that of a stream, so that a stalled stream is reset before its connection is closed.
const CONNECTION_STALL_CHECKS: u32 = 5;

/// How long a call waits for room for its response, and how often it checks: other connections may have released room.
const ROOM_TIMEOUT: Duration = Duration::from_secs(10);
const ROOM_CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// The time for which room is held back for the first call of a line. Streams that are read release what they hold in a
/// fraction of it. Later, others may take the room: it may never be enough.
const HOLD_BACK_TIME: Duration = Duration::from_millis(250);

/// The two lines in which calls wait for room before their responses are made, so that those of similar size get it in
/// their order. A reservation above `LONG_LINE_BYTES` waits in the second one: it may wait long, and delays those of the
/// first one for `HOLD_BACK_TIME` at most. One of at most `SMALL_BYTES` waits in none.
const LINES: usize = 2;
const LONG_LINE_BYTES: usize = 256 << 10;

/// An object that must make progress.
#[derive(Debug)]
pub(super) enum Watched {
    /// A small response that was passed on whole.
    Small,
    Stream(Arc<Flight>),
    Connection,
}

impl Watched {
    /// Returns a number that changes with progress. None while there are no bytes to take.
    fn progress(&self, streams: &Streams) -> Option<u64> {
        let has_pieces = || streams.0.pieces_in_flight.load(Relaxed) > 0;
        match self {
            Watched::Small => has_pieces().then_some(0),
            Watched::Stream(flight) => flight.progress(),
            Watched::Connection => has_pieces().then(|| streams.0.progress_count.load(Relaxed)),
        }
    }

    fn max_checks(&self) -> u32 {
        if matches!(self, Watched::Connection) { CONNECTION_STALL_CHECKS } else { STALL_CHECKS }
    }
}

/// Runs the streams of a connection. Each stream is polled immediately, within the poll of the connection: most
/// responses come from memory, and leave in the one write of that poll. A stream that has to wait becomes a task.
#[derive(Debug, Clone)]
pub(super) struct Streams(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    peer: Arc<Peer>,
    /// The number of streams that have started, plus the number of those that had to wait and have ended.
    activity: AtomicU64,
    in_progress: AtomicUsize,
    feeds: AtomicUsize,
    /// Streams in flight that end only with the node, the client or a deadline.
    endless: AtomicUsize,
    responses: Account,
    requests: Account,
    /// How long a response may wait without progress: no byte of it is taken.
    progress_timeout: Duration,
    /// The streams and connections of the node that were reset because their client did not read.
    stalled: Arc<AtomicU64>,
    /// Bytes of request messages that were announced and are being read.
    claimed: AtomicUsize,
    /// Pieces of responses that are in flight to the socket, and those of them that are no pieces of streams.
    pieces_in_flight: AtomicUsize,
    whole_in_flight: AtomicUsize,
    /// Pieces of responses that were sent. A peer may respond to each with updates of its windows.
    sent_pieces: AtomicU64,
    flooded: AtomicBool,
    /// How often bytes of responses were taken.
    progress_count: AtomicU64,
    /// Notifies calls that wait for room. `room_waiters` is their number.
    room: Notify,
    room_waiters: AtomicUsize,
    /// Each is held by the call that is the first one of its line; see `LINES`.
    lines: [tokio::sync::Mutex<()>; LINES],
    /// The room that is held back for the first ones of the lines, in bytes.
    held_back: AtomicUsize,
    loads: Loads,
    /// Woken when no stream is in flight any more.
    rest: AtomicWaker,
    /// The object to watch for the stream that is being polled. Streams of one connection are polled one at a time.
    watched: Mutex<Option<Watched>>,
    /// The caller of the last call, with the credentials that it sent.
    caller: Mutex<Option<KnownCaller>>,
}

/// A caller, and the value of `authorization` by which it is known. A connection usually has one caller, so that most
/// calls need no look-up and no hash.
struct KnownCaller {
    authorization: Option<Box<[u8]>>,
    identity: Identity,
}

/// Shows no secret.
impl fmt::Debug for KnownCaller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KnownCaller").field("name", &self.identity.name()).finish_non_exhaustive()
    }
}

impl Streams {
    pub(super) fn new(memory: &CoreMemory, peer: Arc<Peer>) -> Streams {
        Streams(Arc::new(Counts {
            peer,
            activity: AtomicU64::new(0),
            in_progress: AtomicUsize::new(0),
            feeds: AtomicUsize::new(0),
            endless: AtomicUsize::new(0),
            responses: memory.responses(),
            requests: memory.requests(),
            progress_timeout: memory.progress_timeout,
            stalled: memory.stalled.clone(),
            claimed: AtomicUsize::new(0),
            pieces_in_flight: AtomicUsize::new(0),
            whole_in_flight: AtomicUsize::new(0),
            sent_pieces: AtomicU64::new(0),
            flooded: AtomicBool::new(false),
            progress_count: AtomicU64::new(0),
            room: Notify::new(),
            room_waiters: AtomicUsize::new(0),
            lines: Default::default(),
            held_back: AtomicUsize::new(0),
            loads: Loads::default(),
            rest: AtomicWaker::new(),
            watched: Mutex::new(None),
            caller: Mutex::new(None),
        }))
    }

    /// Returns the streams of a connection without a node.
    #[cfg(test)]
    pub(super) fn for_test(limits: &crate::config::Connections) -> Streams {
        let memory = super::memory::Memory::new(limits).for_core();
        Streams::new(&memory, Arc::new(Peer::for_test()))
    }

    /// Returns the peer of the connection.
    pub(super) fn peer(&self) -> &Arc<Peer> {
        &self.0.peer
    }

    /// Returns a number that changes whenever a stream has started or ended.
    pub(super) fn activity(&self) -> u64 {
        self.0.activity.load(Relaxed)
    }

    /// Whether no stream is in flight.
    pub(super) fn is_empty(&self) -> bool {
        self.0.in_progress.load(Relaxed) == 0
    }

    /// Whether all calls in flight are endless. A piece of a stalled feed can stay in flight without limit, so pieces
    /// count only if no call is endless. Then they belong to calls that have not ended for their client.
    pub(super) fn is_at_rest(&self) -> bool {
        let (in_progress, endless) = (self.0.in_progress.load(Relaxed), self.0.endless.load(Relaxed));
        in_progress <= endless && (endless > 0 || self.0.pieces_in_flight.load(Relaxed) == 0)
    }

    /// Wakes a task once no call is in flight.
    pub(super) fn wake_at_rest(&self, waker: &Waker) {
        self.0.rest.register(waker);
    }

    /// Returns a permit for a feed, if fewer than `max` are open on the connection.
    pub(super) fn try_open_feed(&self, max: usize) -> Option<FeedPermit> {
        let feed = FeedPermit(self.0.clone());
        (self.0.feeds.fetch_add(1, Relaxed) < max).then_some(feed)
    }

    /// Counts a stream that is run elsewhere.
    pub(super) fn track(&self) -> InProgress {
        self.0.activity.fetch_add(1, Relaxed);
        self.0.in_progress.fetch_add(1, Relaxed);
        InProgress(self.0.clone())
    }

    /// Counts a stream that does not end by itself.
    pub(super) fn endless(&self) -> Endless {
        self.0.endless.fetch_add(1, Relaxed);
        Endless(self.0.clone())
    }

    /// Watches an object of this connection for progress.
    pub(super) fn guard(&self, watched: Watched) -> StallGuard {
        StallGuard {
            watched,
            interval: self.0.progress_timeout / STALL_CHECKS,
            seen: None,
            alarm: None,
            streams: self.clone(),
        }
    }

    /// Resets the stream that is being polled once its peer takes no bytes of it. The body cannot do this itself,
    /// because it is not polled while the peer's window is closed.
    pub(super) fn watch(&self, watched: Watched) {
        *self.watched() = Some(watched);
    }

    /// Takes the value of the last [`Streams::watch`], if it was called since this was last called.
    pub(super) fn take_watched(&self) -> Option<Watched> {
        self.watched().take()
    }

    fn watched(&self) -> MutexGuard<'_, Option<Watched>> {
        self.0.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the caller with these credentials: that of the last call if they are the same, else the one that `find`
    /// finds.
    ///
    /// # Errors
    /// `find` fails.
    pub(super) fn caller(
        &self,
        authorization: Option<&[u8]>,
        find: impl FnOnce() -> Result<Identity, Refusal>,
    ) -> Result<Identity, Refusal> {
        let mut caller = self.0.caller.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = &*caller
            && same_secret(known.authorization.as_deref(), authorization)
            && known.identity.is_current()
        {
            return Ok(known.identity.clone());
        }
        let identity = find()?;
        // The name in a certificate can be mapped at any time, so a caller that has one is not anonymous for long.
        if identity.credential().is_some() || self.0.peer.certificate.is_none() {
            let authorization = authorization.map(Into::into);
            *caller = Some(KnownCaller { authorization, identity: identity.clone() });
        }
        Ok(identity)
    }

    pub(super) fn responses(&self) -> &Account {
        &self.0.responses
    }

    pub(super) fn requests(&self) -> &Account {
        &self.0.requests
    }

    pub(super) fn claimed(&self) -> &AtomicUsize {
        &self.0.claimed
    }

    /// Counts bytes of responses, if there is room for them beside the room that is held back. `own` is the part of it that is
    /// held back for them.
    pub(super) fn try_hold(&self, bytes: usize, own: usize) -> bool {
        let others = self.0.held_back.load(Relaxed).saturating_sub(own);
        self.0.responses.try_hold(bytes, others)
    }

    /// Counts the bytes of a response, if there is room for them.
    pub(super) fn try_charge(&self, bytes: usize) -> Option<Charge> {
        self.try_hold(bytes, 0).then(|| Charge::new(self.clone(), bytes))
    }

    /// Waits until there is room for the bytes of a response.
    pub(super) async fn charge(self, bytes: usize) -> Charge {
        self.wait_for_room(|| self.try_charge(bytes)).await
    }

    /// Reserves room before a response is made, after the calls that wait for similar room already. `charge` is one of no
    /// bytes.
    ///
    /// # Errors
    /// This peer, or others, do not read the responses that they were sent.
    pub(super) async fn reserve(&self, mut charge: Charge, bytes: usize) -> Result<Charge, Refusal> {
        let room = timeout(ROOM_TIMEOUT, self.wait_in_line(&mut charge, bytes)).await;
        room.map_err(|_| Refusal::Overloaded("too many unread response bytes"))?;
        Ok(charge)
    }

    async fn wait_in_line(&self, charge: &mut Charge, bytes: usize) {
        if bytes <= SMALL_BYTES {
            return self.wait_for_room(|| charge.try_resize(bytes).then_some(())).await;
        }
        let _first = self.0.lines[usize::from(bytes > LONG_LINE_BYTES)].lock().await;
        let held_back = HeldBack::new(&self.0, bytes);
        let room = self.wait_for_room(|| charge.try_resize_beside(bytes, bytes).then_some(()));
        if timeout(HOLD_BACK_TIME, room).await.is_err() {
            drop(held_back);
            self.wait_for_room(|| charge.try_resize(bytes).then_some(())).await;
        }
    }

    pub(super) fn loads(&self) -> &Loads {
        &self.0.loads
    }

    /// Waits until `find` finds room.
    pub(super) async fn wait_for_room<T>(&self, mut find: impl FnMut() -> Option<T>) -> T {
        let _waiter = RoomWaiter::new(&self.0);
        loop {
            if let Some(found) = find() {
                // There may be room for the next waiting call, too.
                self.0.room.notify_one();
                return found;
            }
            let _either = timeout(ROOM_CHECK_INTERVAL, self.0.room.notified()).await;
        }
    }

    pub(super) fn notify_room(&self) {
        if self.0.room_waiters.load(Relaxed) > 0 {
            self.0.room.notify_one();
        }
    }

    /// Counts bytes of responses no longer.
    pub(super) fn release(&self, bytes: usize) {
        self.0.responses.release(bytes);
        self.notify_room();
    }

    /// Counts a piece as in flight.
    pub(super) fn add_piece(&self, is_of_stream: bool) {
        self.0.pieces_in_flight.fetch_add(1, Relaxed);
        if !is_of_stream {
            self.0.whole_in_flight.fetch_add(1, Relaxed);
        }
    }

    /// Counts a piece as in flight no longer. `is_taken` is whether all of its bytes were written.
    ///
    /// The peer has caught up once nothing is in flight, or nothing but pieces of streams: those that follow a feed may
    /// read it at their leisure.
    pub(super) fn remove_piece(&self, is_of_stream: bool, is_taken: bool) {
        let is_last = self.0.pieces_in_flight.fetch_sub(1, Relaxed) == 1;
        let is_last_whole = !is_of_stream && self.0.whole_in_flight.fetch_sub(1, Relaxed) == 1;
        if is_taken {
            self.record_progress();
            if is_last || is_last_whole {
                self.0.loads.peer_caught_up();
            }
        }
    }

    pub(super) fn record_progress(&self) {
        self.0.progress_count.fetch_add(1, Relaxed);
    }

    pub(super) fn count_sent(&self, count: u64) {
        self.0.sent_pieces.fetch_add(count, Relaxed);
    }

    pub(super) fn sent_pieces(&self) -> u64 {
        self.0.sent_pieces.load(Relaxed)
    }

    /// Records that the peer floods the connection.
    pub(super) fn mark_flooded(&self) {
        self.0.flooded.store(true, Relaxed);
    }

    pub(super) fn is_flooded(&self) -> bool {
        self.0.flooded.load(Relaxed)
    }
}

/// Compares two secrets in a time that does not depend on where they differ.
fn same_secret(a: Option<&[u8]>, b: Option<&[u8]>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => bool::from(a.ct_eq(b)),
        (a, b) => a.is_none() && b.is_none(),
    }
}

/// Holds room back until this is dropped.
struct HeldBack<'a>(&'a Counts, usize);

impl HeldBack<'_> {
    fn new(counts: &Counts, bytes: usize) -> HeldBack<'_> {
        counts.held_back.fetch_add(bytes, Relaxed);
        HeldBack(counts, bytes)
    }
}

impl Drop for HeldBack<'_> {
    fn drop(&mut self) {
        self.0.held_back.fetch_sub(self.1, Relaxed);
    }
}

struct RoomWaiter<'a>(&'a Counts);

impl RoomWaiter<'_> {
    fn new(counts: &Counts) -> RoomWaiter<'_> {
        counts.room_waiters.fetch_add(1, Relaxed);
        RoomWaiter(counts)
    }
}

impl Drop for RoomWaiter<'_> {
    fn drop(&mut self) {
        self.0.room_waiters.fetch_sub(1, Relaxed);
    }
}

/// Counts a feed as open until this is dropped.
#[derive(Debug)]
pub(super) struct FeedPermit(Arc<Counts>);

impl Drop for FeedPermit {
    fn drop(&mut self) {
        self.0.feeds.fetch_sub(1, Relaxed);
    }
}

/// Counts a stream that does not end by itself as open until this is dropped.
#[derive(Debug)]
pub(super) struct Endless(Arc<Counts>);

impl Drop for Endless {
    fn drop(&mut self) {
        self.0.endless.fetch_sub(1, Relaxed);
        self.0.rest.wake();
    }
}

/// Counts a stream as in flight until this is dropped.
#[derive(Debug)]
pub(super) struct InProgress(Arc<Counts>);

impl Drop for InProgress {
    fn drop(&mut self) {
        self.0.activity.fetch_add(1, Relaxed);
        self.0.in_progress.fetch_sub(1, Relaxed);
        self.0.rest.wake();
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        let mut stream = Box::pin(stream);
        // If the stream has to wait, its task polls it again, and registers the effective waker.
        if stream.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            let guard = self.take_watched().map(|watched| self.guard(watched));
            tokio::spawn(PendingStream { stream, guard, streams: self.clone(), _in_progress: self.track() });
        } else {
            self.take_watched();
            self.0.activity.fetch_add(1, Relaxed);
        }
    }
}

/// A stream that has to wait, run as a task.
struct PendingStream<F> {
    stream: Pin<Box<F>>,
    guard: Option<StallGuard>,
    streams: Streams,
    _in_progress: InProgress,
}

/// Watches an object for progress. The timer is set once for many pieces, because setting it costs more than sending a
/// piece.
pub(super) struct StallGuard {
    watched: Watched,
    /// The time between two checks.
    interval: Duration,
    /// The number seen at the last check, and in how many further checks it was the same. None if there were no bytes
    /// to take.
    seen: Option<(u64, u32)>,
    alarm: Option<Pin<Box<Sleep>>>,
    streams: Streams,
}

impl StallGuard {
    /// Ready when there was no progress for too long.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let now = self.watched.progress(&self.streams);
        if self.seen.is_none() && now.is_none() {
            return Poll::Pending;
        }
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(Instant::now())));
        while alarm.as_mut().poll(cx).is_ready() {
            self.seen = match (self.seen, now) {
                (_, None) => None,
                (Some((seen, times)), Some(now)) if seen == now => Some((now, times + 1)),
                (_, Some(now)) => Some((now, 0)),
            };
            match self.seen {
                None => return Poll::Pending,
                Some((_, times)) if times >= self.watched.max_checks() => {
                    self.streams.0.stalled.fetch_add(1, Relaxed);
                    return Poll::Ready(());
                }
                Some(_) => alarm.as_mut().reset(Instant::now() + self.interval),
            }
        }
        Poll::Pending
    }
}

impl<F: Future<Output = ()>> Future for PendingStream<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let ended = this.stream.as_mut().poll(cx).is_ready();
        let watched = this.streams.take_watched();
        if ended {
            return Poll::Ready(());
        }
        if let Some(watched) = watched {
            this.guard = Some(this.streams.guard(watched));
        }
        let Some(guard) = &mut this.guard else { return Poll::Pending };
        ready!(guard.poll(cx));
        tracing::debug!("stalled stream reset");
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::{Buf as _, Bytes};
    use tokio::time::sleep;

    use super::*;
    use crate::{server::flight::ChargedPiece, wire::Framed};

    const MILLISECOND: Duration = Duration::from_millis(1);

    fn streams() -> Streams {
        Streams::for_test(&crate::config::Connections::default())
    }

    /// Starts calls that reserve room one after another, each for a millisecond. Returns the list of those that got it.
    fn start_calls(streams: &Streams, sizes: &[usize]) -> Arc<Mutex<Vec<usize>>> {
        let order = Arc::new(Mutex::new(Vec::new()));
        for &bytes in sizes {
            let (streams, order) = (streams.clone(), order.clone());
            tokio::spawn(async move {
                let room = streams.reserve(Charge::new(streams.clone(), 0), bytes).await.unwrap();
                order.lock().unwrap().push(bytes);
                sleep(MILLISECOND).await;
                drop(room);
            });
        }
        order
    }

    #[tokio::test(start_paused = true)]
    async fn calls_of_similar_size_get_room_in_their_order() {
        const LARGE: usize = 2 << 20;
        const SMALL: usize = 200 << 10;
        let streams = streams();
        let all = streams.try_charge(4 << 20).unwrap();
        let order =
            start_calls(&streams, &[LARGE + 1, SMALL + 1, LARGE + 2, SMALL + 2, LARGE + 3, SMALL + 3]);
        sleep(100 * MILLISECOND).await;
        assert!(order.lock().unwrap().is_empty(), "there is no room");
        drop(all);
        sleep(100 * MILLISECOND).await;
        let order = order.lock().unwrap();
        let of = |size: usize| -> Vec<_> { order.iter().filter(|bytes| **bytes / size == 1).collect() };
        assert_eq!(of(LARGE), [&(LARGE + 1), &(LARGE + 2), &(LARGE + 3)]);
        assert_eq!(of(SMALL), [&(SMALL + 1), &(SMALL + 2), &(SMALL + 3)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_response_that_finds_no_room_delays_no_smaller_one_for_long() {
        const LARGE: usize = 2 << 20;
        const READ: usize = 256 << 10;
        const SMALL: usize = 4 << 10;
        let streams = streams();
        let _unread = streams.try_charge(3 << 20).unwrap();
        let order = start_calls(&streams, &[LARGE, READ, SMALL, READ]);
        sleep(100 * MILLISECOND).await;
        assert_eq!(*order.lock().unwrap(), [SMALL], "a few bytes wait for nothing");
        sleep(HOLD_BACK_TIME).await;
        assert_eq!(*order.lock().unwrap(), [SMALL, READ, READ]);
    }

    /// Without room held back, each stream takes what the other one releases.
    #[tokio::test(start_paused = true)]
    async fn streams_that_are_read_leave_room_for_a_large_response() {
        const LARGE: usize = 2 << 20;
        const PIECE: usize = 512 << 10;
        let streams = streams();
        for _ in 0..16 {
            let streams = streams.clone();
            tokio::spawn(async move {
                loop {
                    let piece = streams.clone().charge(PIECE).await;
                    sleep(MILLISECOND).await;
                    drop(piece);
                }
            });
        }
        sleep(10 * MILLISECOND).await;
        let order = start_calls(&streams, &[LARGE]);
        sleep(10 * MILLISECOND).await;
        assert_eq!(*order.lock().unwrap(), [LARGE]);
    }

    /// Sends a response of one byte.
    fn piece(streams: &Streams, flight: Option<&Arc<Flight>>) -> ChargedPiece {
        let charge = streams.try_charge(1).unwrap();
        ChargedPiece::new(Framed::from(Bytes::from_static(b"x")), charge, flight)
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_is_delayed_until_its_first_byte_is_written() {
        let streams = streams();
        let mut pieces: Vec<_> = (0..4)
            .map(|_| {
                let mut charge = Charge::timed(streams.clone());
                assert!(charge.try_resize(2));
                ChargedPiece::new(Framed::from(Bytes::from_static(b"xy")), charge, None)
            })
            .collect();
        streams.loads().peer_caught_up();
        sleep(30 * MILLISECOND).await;
        assert_eq!(streams.loads().delay(), 30 * MILLISECOND);
        pieces.iter_mut().for_each(|piece| piece.advance(1));
        assert_eq!(streams.loads().delay(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_feed_that_is_not_read_does_not_hide_that_the_peer_reads_the_rest() {
        let streams = streams();
        let _unread = piece(&streams, Some(&Arc::new(Flight::of_stream())));
        let _waiting: Vec<_> = (0..4).map(|_| Charge::timed(streams.clone())).collect();
        sleep(30 * MILLISECOND).await;
        drop(piece(&streams, None));
        assert_eq!(streams.loads().delay(), Duration::ZERO, "it was reset, not read");
        let mut read = piece(&streams, None);
        read.advance(1);
        drop(read);
        assert_eq!(streams.loads().delay(), 30 * MILLISECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn only_bytes_that_are_taken_are_progress() {
        let streams = streams();
        let stuck = piece(&streams, None);
        let mut guard = streams.guard(Watched::Connection);
        let stalled = std::future::poll_fn(|cx| guard.poll(cx));
        let others = async {
            loop {
                drop(streams.try_charge(256 << 10).unwrap());
                sleep(MILLISECOND).await;
            }
        };
        let limit = 2 * streams.0.progress_timeout;
        let found = timeout(limit, async {
            tokio::select! { () = stalled => true, () = others => false }
        })
        .await;
        assert_eq!(found, Ok(true), "reservations that were not used are no progress");
        drop(stuck);
    }

    #[tokio::test(start_paused = true)]
    async fn a_small_response_is_watched_until_it_is_taken() {
        let streams = streams();
        let mut guard = streams.guard(Watched::Small);
        let mut read = piece(&streams, None);
        assert!(futures_util::poll!(std::future::poll_fn(|cx| guard.poll(cx))).is_pending());
        read.advance(1);
        drop(read);
        let stalled = timeout(10 * streams.0.progress_timeout, std::future::poll_fn(|cx| guard.poll(cx)));
        assert!(stalled.await.is_err(), "nothing is left to take");
    }
}
