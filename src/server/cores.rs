//! One thread a core, each with a runtime of its own: a connection and its calls never change the thread.

use std::{
    io,
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::{
    runtime,
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::JoinSet,
};

use super::{
    accept::Place,
    connection::{self, Common},
};

/// How long work off the calls' threads may take to end when the node does.
const LAST_WORK: Duration = Duration::from_secs(5);

/// A connection for a core, with its place among all.
pub(super) struct Accepted {
    pub(super) stream: TcpStream,
    pub(super) place: Place,
}

/// The cores that serve.
pub(super) struct Cores(Vec<Core>);

struct Core {
    /// Bounded by the number of places.
    queue: UnboundedSender<(Accepted, Counted)>,
    open: Arc<AtomicUsize>,
    thread: thread::JoinHandle<()>,
}

impl Cores {
    /// Starts threads, each with what `common` makes for it.
    ///
    /// # Errors
    /// The system gives no more threads.
    pub(super) fn start(count: usize, common: impl Fn() -> Common) -> io::Result<Cores> {
        let start = |n| {
            let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
            let (queue, accepted) = unbounded_channel();
            let open = Arc::new(AtomicUsize::new(0));
            let common = common();
            let thread = thread::Builder::new().name(format!("serve-{n}")).spawn(move || {
                runtime.block_on(serve(accepted, common));
                runtime.shutdown_timeout(LAST_WORK);
            })?;
            Ok(Core { queue, open, thread })
        };
        (0..count.max(1)).map(start).collect::<io::Result<_>>().map(Cores)
    }

    /// Gives a connection to the core that has the fewest. A hash, as the system would take, leaves cores without any
    /// where there are few.
    pub(super) fn deal(&self, accepted: Accepted) {
        let Some(core) = self.0.iter().min_by_key(|core| core.open.load(Ordering::Relaxed)) else { return };
        if core.queue.send((accepted, Counted::new(&core.open))).is_err() {
            tracing::error!("a serving thread has ended");
        }
    }

    /// Waits until all connections have ended, which the draining node has told them.
    pub(super) async fn join(self) {
        for core in self.0 {
            drop(core.queue);
            let joined = tokio::task::spawn_blocking(|| core.thread.join()).await;
            if !matches!(joined, Ok(Ok(()))) {
                tracing::error!("a serving thread panicked");
            }
        }
    }
}

/// One of a core's connections, until it is dropped: also if the connection's task panics.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(open: &Arc<AtomicUsize>) -> Counted {
        open.fetch_add(1, Ordering::Relaxed);
        Counted(open.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn serve(mut accepted: UnboundedReceiver<(Accepted, Counted)>, common: Common) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            next = accepted.recv() => match next {
                Some((next, counted)) => {
                    connections.spawn(serve_one(next, common.clone(), counted));
                }
                None => break,
            },
            Some(_) = connections.join_next() => {}
        }
    }
    while connections.join_next().await.is_some() {}
}

async fn serve_one(accepted: Accepted, common: Common, _counted: Counted) {
    match tokio::net::TcpStream::from_std(accepted.stream) {
        Ok(stream) => connection::serve(stream, common).await,
        Err(error) => tracing::warn!(%error, "a connection could not be taken over"),
    }
    drop(accepted.place);
}
