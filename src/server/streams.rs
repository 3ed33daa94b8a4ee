//! How the streams of a connection are run, whether there are any, and how much they hold.

use std::{
    cell::Cell,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use futures_util::task::AtomicWaker;
use hyper::rt::Executor;
use tokio::{
    sync::Notify,
    time::{Instant, Sleep, sleep_until, timeout},
};

use super::{
    flight::{Charge, Flight},
    memory::{Account, CoreMemory},
};
use crate::refusal::Refusal;

/// The progress of a stream is looked at so often within the time that it may do without, and the stream is reset when
/// there was none so often in a row.
const LOOKS: u32 = 3;

/// The same for a connection, of which streams that have ended are behind: later than for a stream, so that a stalled
/// stream is reset before its connection is closed.
const LOOKS_AT_CONNECTION: u32 = 5;

/// How long a call waits for room for its response, and how often it looks: other connections may have made room.
const WAIT_FOR_ROOM: Duration = Duration::from_secs(10);
const LOOK_FOR_ROOM: Duration = Duration::from_millis(50);

thread_local! {
    /// What is to be watched of the stream that is being polled.
    static WATCHED: Cell<Option<Watched>> = const { Cell::new(None) };
}

/// Has the stream that is being polled reset once its peer takes nothing of it. Its body cannot see to that: it is not
/// asked for anything while the peer's window is closed.
pub(super) fn watch(watched: Watched) {
    WATCHED.set(Some(watched));
}

/// What was to be watched since this was last called.
pub(super) fn watched() -> Option<Watched> {
    WATCHED.take()
}

/// What is to make progress.
#[derive(Debug)]
pub(super) enum Watched {
    /// A small response, given out whole.
    Whole,
    Stream(Arc<Flight>),
    Connection(Streams),
}

impl Watched {
    /// A number that changes with progress; none while there is nothing to be taken.
    fn number(&self) -> Option<u64> {
        match self {
            Watched::Whole => Some(0),
            Watched::Stream(flight) => flight.number(),
            Watched::Connection(streams) => {
                (streams.0.flying.load(Relaxed) > 0).then(|| streams.0.taken.load(Relaxed))
            }
        }
    }

    fn patience(&self) -> u32 {
        if matches!(self, Watched::Connection(_)) { LOOKS_AT_CONNECTION } else { LOOKS }
    }
}

/// Runs a connection's streams. Each is tried at once, within the connection's own poll: most calls are answered from
/// memory, and what they say leaves with that poll's one write. What has to wait becomes a task.
#[derive(Debug, Clone)]
pub(super) struct Streams(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    /// Streams that began, and that ended after they had to wait.
    turns: AtomicU64,
    waiting: AtomicUsize,
    feeds: AtomicUsize,
    /// Streams under way that end only when the node or the client does.
    endless: AtomicUsize,
    responses: Account,
    requests: Account,
    /// How long a response may wait without any of its bytes being taken.
    progress: Duration,
    /// Bytes of requests that were announced and are being read.
    claimed: AtomicUsize,
    /// Pieces of responses on their way to the socket.
    flying: AtomicUsize,
    /// Pieces of responses that were sent. A peer may answer each with updates of its windows.
    pieces: AtomicU64,
    flooded: AtomicBool,
    /// How often bytes of responses were taken.
    taken: AtomicU64,
    /// Calls that wait for room, and how many there are.
    room: Notify,
    rooms: AtomicUsize,
    /// Woken when nothing is under way any more.
    rest: AtomicWaker,
}

impl Streams {
    pub(super) fn new(memory: &CoreMemory) -> Streams {
        Streams(Arc::new(Counts {
            turns: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            feeds: AtomicUsize::new(0),
            endless: AtomicUsize::new(0),
            responses: memory.responses(),
            requests: memory.requests(),
            progress: memory.progress,
            claimed: AtomicUsize::new(0),
            flying: AtomicUsize::new(0),
            pieces: AtomicU64::new(0),
            flooded: AtomicBool::new(false),
            taken: AtomicU64::new(0),
            room: Notify::new(),
            rooms: AtomicUsize::new(0),
            rest: AtomicWaker::new(),
        }))
    }

    /// A number that is another one whenever a stream has begun or ended.
    pub(super) fn turns(&self) -> u64 {
        self.0.turns.load(Relaxed)
    }

    /// Whether none is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.0.waiting.load(Relaxed) == 0
    }

    /// Whether no call is under way that would end by itself. A piece of a stalled feed may be on its way for ever; all
    /// other pieces belong to calls that have not ended for their client.
    pub(super) fn is_at_rest(&self) -> bool {
        let (waiting, endless) = (self.0.waiting.load(Relaxed), self.0.endless.load(Relaxed));
        waiting <= endless && (endless > 0 || self.0.flying.load(Relaxed) == 0)
    }

    /// Wakes a task once no call is under way.
    pub(super) fn wake_at_rest(&self, waker: &Waker) {
        self.0.rest.register(waker);
    }

    /// A place for a feed, if fewer than `most` are open on the connection.
    pub(super) fn feed(&self, most: usize) -> Option<Feed> {
        let feed = Feed(self.0.clone());
        (self.0.feeds.fetch_add(1, Relaxed) < most).then_some(feed)
    }

    /// Counts one that is run elsewhere.
    pub(super) fn begin(&self) -> Underway {
        self.0.turns.fetch_add(1, Relaxed);
        self.0.waiting.fetch_add(1, Relaxed);
        Underway(self.0.clone())
    }

    /// Counts one that does not end by itself.
    pub(super) fn endless(&self) -> Endless {
        self.0.endless.fetch_add(1, Relaxed);
        Endless(self.0.clone())
    }

    /// Watches something of this connection.
    pub(super) fn guard(&self, watched: Watched) -> Guard {
        Guard { watched, look: self.0.progress / LOOKS, seen: None, alarm: None }
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

    /// Counts the bytes of a response, if there is room for them.
    pub(super) fn try_charge(&self, bytes: usize) -> Option<Charge> {
        self.0.responses.try_hold(bytes).then(|| Charge::new(self.clone(), bytes))
    }

    /// Waits until there is room for the bytes of a response.
    pub(super) async fn charge(self, bytes: usize) -> Charge {
        self.wait_for_room(|| self.try_charge(bytes)).await
    }

    /// Sets room aside before a response is made.
    ///
    /// # Errors
    /// The peer, or others, do not take what is there already.
    pub(super) async fn reserve(&self, bytes: usize) -> Result<Charge, Refusal> {
        if let Some(charge) = self.try_charge(bytes) {
            return Ok(charge);
        }
        let waited = timeout(WAIT_FOR_ROOM, self.clone().charge(bytes)).await;
        waited.map_err(|_| Refusal::Overloaded("too many bytes of responses wait to be read"))
    }

    /// Waits until `find` finds room.
    pub(super) async fn wait_for_room<T>(&self, find: impl Fn() -> Option<T>) -> T {
        let _waiter = Waiter::new(&self.0);
        loop {
            if let Some(found) = find() {
                // There may be room for the next one, too.
                self.0.room.notify_one();
                return found;
            }
            let _either = timeout(LOOK_FOR_ROOM, self.0.room.notified()).await;
        }
    }

    pub(super) fn made_room(&self) {
        if self.0.rooms.load(Relaxed) > 0 {
            self.0.room.notify_one();
        }
    }

    /// Counts bytes of a response as taken.
    pub(super) fn release(&self, bytes: usize) {
        self.0.responses.release(bytes);
        self.progressed();
        self.made_room();
    }

    /// Counts a piece on its way.
    pub(super) fn departs(&self) {
        self.0.flying.fetch_add(1, Relaxed);
    }

    pub(super) fn lands(&self) {
        self.0.flying.fetch_sub(1, Relaxed);
    }

    pub(super) fn progressed(&self) {
        self.0.taken.fetch_add(1, Relaxed);
    }

    pub(super) fn sent_pieces(&self, count: u64) {
        self.0.pieces.fetch_add(count, Relaxed);
    }

    pub(super) fn pieces(&self) -> u64 {
        self.0.pieces.load(Relaxed)
    }

    /// Notes that the peer floods the connection.
    pub(super) fn flooded(&self) {
        self.0.flooded.store(true, Relaxed);
    }

    pub(super) fn is_flooded(&self) -> bool {
        self.0.flooded.load(Relaxed)
    }
}

struct Waiter<'a>(&'a Counts);

impl Waiter<'_> {
    fn new(counts: &Counts) -> Waiter<'_> {
        counts.rooms.fetch_add(1, Relaxed);
        Waiter(counts)
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.rooms.fetch_sub(1, Relaxed);
    }
}

/// A feed is open until this is dropped.
#[derive(Debug)]
pub(super) struct Feed(Arc<Counts>);

impl Drop for Feed {
    fn drop(&mut self) {
        self.0.feeds.fetch_sub(1, Relaxed);
    }
}

/// A stream that does not end by itself is open until this is dropped.
#[derive(Debug)]
pub(super) struct Endless(Arc<Counts>);

impl Drop for Endless {
    fn drop(&mut self) {
        self.0.endless.fetch_sub(1, Relaxed);
        self.0.rest.wake();
    }
}

/// A stream is under way until this is dropped.
#[derive(Debug)]
pub(super) struct Underway(Arc<Counts>);

impl Drop for Underway {
    fn drop(&mut self) {
        self.0.turns.fetch_add(1, Relaxed);
        self.0.waiting.fetch_sub(1, Relaxed);
        self.0.rest.wake();
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        let mut stream = Box::pin(stream);
        WATCHED.take();
        // If it has to wait, its task polls it again, and leaves the waker that counts.
        if stream.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            let guard = watched().map(|watched| self.guard(watched));
            tokio::spawn(Waiting { stream, guard, streams: self.clone(), _underway: self.begin() });
        } else {
            self.0.turns.fetch_add(1, Relaxed);
        }
    }
}

/// A stream that waits for something.
struct Waiting<F> {
    stream: Pin<Box<F>>,
    guard: Option<Guard>,
    streams: Streams,
    _underway: Underway,
}

/// Watches that something makes progress. Its alarm is set once for many pieces: to set it costs more than to send one.
pub(super) struct Guard {
    watched: Watched,
    /// How often it is looked.
    look: Duration,
    /// What was seen when it was last looked, and how often it was the same. None: there was nothing to be taken.
    seen: Option<(u64, u32)>,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Guard {
    /// Ready when there was no progress for too long.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let now = self.watched.number();
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
                Some((_, times)) if times >= self.watched.patience() => return Poll::Ready(()),
                Some(_) => alarm.as_mut().reset(Instant::now() + self.look),
            }
        }
        Poll::Pending
    }
}

impl<F: Future<Output = ()>> Future for Waiting<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        WATCHED.take();
        if this.stream.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        if let Some(watched) = watched() {
            this.guard = Some(this.streams.guard(watched));
        }
        let Some(guard) = &mut this.guard else { return Poll::Pending };
        ready!(guard.poll(cx));
        tracing::debug!("a stream of which nothing was taken is reset");
        Poll::Ready(())
    }
}
