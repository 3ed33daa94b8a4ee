//! How the streams of a connection are run, and whether there are any.

use std::{
    cell::Cell,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use hyper::rt::Executor;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::feed::InFlight;

/// How often it is looked whether a piece of a feed is still on its way, and how often in a row it may be the same one:
/// who takes nothing for half a minute is cut off.
const LOOK: Duration = Duration::from_secs(10);
const STALLED: u32 = 3;

thread_local! {
    /// What is to be watched of the stream that is being polled.
    static GUARDED: Cell<Option<Arc<InFlight>>> = const { Cell::new(None) };
}

/// Has the stream that is being polled cut off once a piece of it is on its way for too long. Its body cannot see to
/// that: it is not asked for anything while the peer's window is closed.
pub(super) fn guard(in_flight: Arc<InFlight>) {
    GUARDED.set(Some(in_flight));
}

/// Runs a connection's streams. Each is tried at once, within the connection's own poll: most calls are answered from
/// memory, and what they say leaves with that poll's one write. What has to wait becomes a task.
#[derive(Debug, Clone, Default)]
pub(super) struct Streams(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// Streams that began, and that ended after they had to wait.
    turns: AtomicU64,
    waiting: AtomicUsize,
    feeds: AtomicUsize,
}

impl Streams {
    /// A number that is another one whenever a stream has begun or ended.
    pub(super) fn turns(&self) -> u64 {
        self.0.turns.load(Ordering::Relaxed)
    }

    /// Whether none is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.0.waiting.load(Ordering::Relaxed) == 0
    }

    /// A place for a feed, if fewer than `most` are open on the connection.
    pub(super) fn feed(&self, most: usize) -> Option<Feed> {
        let feed = Feed(self.0.clone());
        (self.0.feeds.fetch_add(1, Ordering::Relaxed) < most).then_some(feed)
    }

    /// Counts one that is run elsewhere.
    pub(super) fn begin(&self) -> Underway {
        self.0.turns.fetch_add(1, Ordering::Relaxed);
        self.0.waiting.fetch_add(1, Ordering::Relaxed);
        Underway(self.0.clone())
    }
}

/// A feed is open until this is dropped.
#[derive(Debug)]
pub(super) struct Feed(Arc<Counts>);

impl Drop for Feed {
    fn drop(&mut self) {
        self.0.feeds.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A stream is under way until this is dropped.
#[derive(Debug)]
pub(super) struct Underway(Arc<Counts>);

impl Drop for Underway {
    fn drop(&mut self) {
        self.0.turns.fetch_add(1, Ordering::Relaxed);
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        let mut stream = Box::pin(stream);
        GUARDED.take();
        // If it has to wait, its task polls it again, and leaves the waker that counts.
        if stream.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            let guard = GUARDED.take().map(Guard::new);
            tokio::spawn(Waiting { stream, guard, _underway: self.begin() });
        } else {
            self.0.turns.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A stream that waits for something.
struct Waiting<F> {
    stream: Pin<Box<F>>,
    guard: Option<Guard>,
    _underway: Underway,
}

/// Watches that what is on its way leaves. Its alarm is set once for many pieces: to set it costs more than to send one.
struct Guard {
    in_flight: Arc<InFlight>,
    /// The piece that was on its way when it was last looked, and how often it was that one. None: there was none.
    seen: Option<(u64, u32)>,
    alarm: Pin<Box<Sleep>>,
}

impl Guard {
    fn new(in_flight: Arc<InFlight>) -> Guard {
        Guard { in_flight, seen: None, alarm: Box::pin(sleep_until(Instant::now())) }
    }

    /// Ready when a piece has been on its way for too long.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let now = self.in_flight.number();
        if self.seen.is_none() && now.is_none() {
            return Poll::Pending;
        }
        while self.alarm.as_mut().poll(cx).is_ready() {
            self.seen = match (self.seen, now) {
                (_, None) => None,
                (Some((seen, times)), Some(now)) if seen == now => Some((now, times + 1)),
                (_, Some(now)) => Some((now, 0)),
            };
            match self.seen {
                None => return Poll::Pending,
                Some((_, STALLED)) => return Poll::Ready(()),
                Some(_) => self.alarm.as_mut().reset(Instant::now() + LOOK),
            }
        }
        Poll::Pending
    }
}

impl<F: Future<Output = ()>> Future for Waiting<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        GUARDED.take();
        if this.stream.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        if let Some(in_flight) = GUARDED.take() {
            this.guard = Some(Guard::new(in_flight));
        }
        let Some(guard) = &mut this.guard else { return Poll::Pending };
        ready!(guard.poll(cx));
        tracing::debug!("a follower that took nothing is cut off");
        Poll::Ready(())
    }
}
