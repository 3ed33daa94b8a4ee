//! How the streams of a connection are run, and whether there are any.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use hyper::rt::Executor;

/// Runs a connection's streams. Each is tried at once, within the connection's own poll: most calls are answered from
/// memory, and what they say leaves with that poll's one write. What has to wait becomes a task.
#[derive(Debug, Clone, Default)]
pub(super) struct Streams(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// Streams that began, and that ended after they had to wait.
    turns: AtomicU64,
    waiting: AtomicUsize,
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

    /// Counts one that is run elsewhere.
    pub(super) fn begin(&self) -> Underway {
        self.0.turns.fetch_add(1, Ordering::Relaxed);
        self.0.waiting.fetch_add(1, Ordering::Relaxed);
        Underway(self.0.clone())
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
        // If it has to wait, its task polls it again, and leaves the waker that counts.
        if stream.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            tokio::spawn(Waiting { stream, _underway: self.begin() });
        } else {
            self.0.turns.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A stream that waits for something.
struct Waiting<F> {
    stream: Pin<Box<F>>,
    _underway: Underway,
}

impl<F: Future<Output = ()>> Future for Waiting<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.stream.as_mut().poll(cx)
    }
}
