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

/// How long a piece of a feed may be on its way: who takes nothing for so long is cut off.
const STALLED: Duration = Duration::from_secs(30);

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

/// Watches that what is on its way leaves.
struct Guard {
    in_flight: Arc<InFlight>,
    /// The piece that was last seen on its way, and until when it may be.
    watched: Option<(u64, Pin<Box<Sleep>>)>,
}

impl Guard {
    fn new(in_flight: Arc<InFlight>) -> Guard {
        Guard { in_flight, watched: None }
    }

    /// Ready when a piece has been on its way for too long.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(number) = self.in_flight.number() else { return Poll::Pending };
        let (seen, alarm) =
            self.watched.get_or_insert_with(|| (number, Box::pin(sleep_until(Instant::now() + STALLED))));
        if *seen != number {
            *seen = number;
            alarm.as_mut().reset(Instant::now() + STALLED);
        }
        alarm.as_mut().poll(cx)
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
