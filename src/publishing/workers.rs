//! A bounded pool for the long parts of a write: decoding, checking, rendering, compressing. A serving thread has other
//! calls to serve, so work on more than [`MAX_INLINE_BYTES`] runs on a blocking thread, with a limit on the number that
//! do so at once.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use tokio::{sync::Semaphore, task::AbortHandle};

use crate::{refusal::Refusal, store};

/// The size up to which content is checked on the caller's thread, in bytes. The worst takes less than a millisecond,
/// about as long as the switch to another thread and back under load.
const MAX_INLINE_BYTES: usize = 2 << 10;

/// The maximum content that waits for a thread in total, in bytes. A write above it is rejected with OVERLOADED, so
/// that a burst of large writes costs its callers a retry and not the node its memory. It holds twelve requests of the
/// largest size.
const MAX_QUEUED_BYTES: usize = 48 << 20;

/// The unit in which content is counted, in bytes, rounded up.
const PERMIT_BYTES: usize = 1 << 10;

/// A bounded pool for the work of writes.
pub(super) struct Workers {
    threads: Arc<Semaphore>,
    queued: Arc<Semaphore>,
}

/// A flag that is set when the caller has given up: its deadline has passed, or it cancelled the call.
#[derive(Debug, Clone, Default)]
pub(super) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Ends work that is done in steps at the next step.
    ///
    /// # Errors
    /// Fails if no caller waits for the result any more.
    pub(super) fn check(&self) -> Result<(), Refusal> {
        if self.0.load(Relaxed) { Err(store::Error::Overloaded.into()) } else { Ok(()) }
    }
}

/// A guard that stops the work when the caller's future is dropped, and ends the wait for a thread.
struct StopOnDrop(Stop, AbortHandle);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.0.store(true, Relaxed);
        self.1.abort();
    }
}

impl Workers {
    /// Creates a pool with as many threads as there are cores: more would only compete with the serving threads.
    pub(super) fn new() -> Workers {
        Workers::with(std::thread::available_parallelism().map_or(1, usize::from), MAX_QUEUED_BYTES)
    }

    fn with(threads: usize, queued: usize) -> Workers {
        let queued = Arc::new(Semaphore::new(queued / PERMIT_BYTES));
        Workers { threads: Arc::new(Semaphore::new(threads)), queued }
    }

    /// Runs work on `bytes` of content: on this thread if it is short, otherwise on another one when one is free.
    ///
    /// # Errors
    /// Fails if too much work is waiting, if the work panics, or with the error of the work.
    pub(super) async fn run<T, W>(&self, bytes: usize, work: W) -> Result<T, Refusal>
    where
        T: Send + 'static,
        W: FnOnce(&Stop) -> Result<T, Refusal> + Send + 'static,
    {
        let stop = Stop::default();
        if bytes <= MAX_INLINE_BYTES {
            return work(&stop);
        }
        let units = u32::try_from(bytes.div_ceil(PERMIT_BYTES)).unwrap_or(u32::MAX);
        let queued = self.queued.clone().try_acquire_many_owned(units);
        let queued = queued.map_err(|_| Refusal::from(store::Error::Overloaded))?;
        let (threads, stopped) = (self.threads.clone(), stop.clone());
        // A task waits for the thread, not the caller: a free thread goes to the first in the queue, and a caller that is
        // not polled would leave it unused.
        let done = tokio::spawn(async move {
            let thread = threads.acquire_owned().await;
            let thread = thread.map_err(|_| Refusal::Internal("write worker pool is closed"))?;
            // The permits belong to the work: abandoned work still occupies a thread.
            let done = tokio::task::spawn_blocking(move || {
                let _permits = (queued, thread);
                work(&stop)
            });
            done.await.unwrap_or(Err(Refusal::Internal("write worker failed")))
        });
        let _stop_on_drop = StopOnDrop(stopped, done.abort_handle());
        done.await.unwrap_or(Err(Refusal::Internal("write worker failed")))
    }
}

#[cfg(test)]
mod tests {
    use std::{pin::pin, sync::mpsc, time::Duration};

    use super::*;

    const LARGE: usize = MAX_INLINE_BYTES + 1;

    #[tokio::test]
    async fn only_short_work_runs_on_the_callers_thread() {
        let workers = Workers::with(1, MAX_QUEUED_BYTES);
        let here = std::thread::current().id();
        let on = |bytes| workers.run(bytes, |_| Ok(std::thread::current().id()));
        assert_eq!(on(MAX_INLINE_BYTES).await.unwrap(), here);
        assert_ne!(on(LARGE).await.unwrap(), here);
    }

    #[tokio::test]
    async fn concurrent_work_is_bounded_by_the_threads() {
        let workers = Arc::new(Workers::with(2, MAX_QUEUED_BYTES));
        let running = Arc::new(Semaphore::new(2));
        let each = (0..32).map(|_| {
            let running = running.clone();
            workers.run(LARGE, move |_| {
                let permit = running.try_acquire();
                std::thread::yield_now();
                Ok(permit.is_ok())
            })
        });
        let done = futures_util::future::join_all(each).await;
        assert!(done.into_iter().all(|within| within.unwrap()));
    }

    #[tokio::test]
    async fn work_above_the_queue_bound_is_refused() {
        let workers = Workers::with(1, 2 * LARGE.next_multiple_of(PERMIT_BYTES));
        let (go, wait) = mpsc::channel::<()>();
        let first = workers.run(LARGE, move |_| Ok(wait.recv().is_ok()));
        let second = workers.run(LARGE, |_| Ok(true));
        let third = async {
            let third = workers.run(LARGE, |_| Ok(true)).await;
            go.send(()).unwrap();
            third
        };
        let (first, second, third) = tokio::join!(first, second, third);
        assert!(first.unwrap() && second.unwrap());
        assert!(matches!(third, Err(Refusal::Store(store::Error::Overloaded))));
        assert!(workers.run(LARGE, |_| Ok(true)).await.unwrap(), "the queue still counts the rejected work");
    }

    #[tokio::test]
    async fn a_caller_that_is_not_polled_leaves_no_thread_unused() {
        let workers = Workers::with(1, MAX_QUEUED_BYTES);
        let (go, wait) = mpsc::channel::<()>();
        let first = workers.run(LARGE, move |_| Ok(wait.recv().is_ok()));
        let mut unpolled = pin!(workers.run(LARGE, |_| Ok(true)));
        let mut first = pin!(first);
        for _ in 0..10 {
            assert!(futures_util::poll!(first.as_mut()).is_pending());
            assert!(futures_util::poll!(unpolled.as_mut()).is_pending());
            tokio::task::yield_now().await;
        }
        go.send(()).unwrap();
        assert!(first.await.unwrap());
        let third = workers.run(LARGE, |_| Ok(true));
        assert!(tokio::time::timeout(Duration::from_secs(60), third).await.unwrap().unwrap());
        assert!(unpolled.await.unwrap());
    }

    #[tokio::test]
    async fn cancelled_work_stops_and_frees_its_thread() {
        let workers = Workers::with(1, MAX_QUEUED_BYTES);
        let (started, has_started) = tokio::sync::oneshot::channel();
        let (stopped, has_stopped) = tokio::sync::oneshot::channel();
        let work = workers.run(LARGE, |stop| {
            started.send(()).unwrap();
            while stop.check().is_ok() {
                std::thread::yield_now();
            }
            stopped.send(()).unwrap();
            Ok(())
        });
        tokio::select! {
            _ = work => panic!("the work ended before it was stopped"),
            started = has_started => started.unwrap(),
        }
        has_stopped.await.unwrap();
        assert!(workers.run(LARGE, |_| Ok(true)).await.unwrap());
    }
}
