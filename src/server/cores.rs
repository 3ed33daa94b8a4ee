//! One serving thread per core, each with a runtime of its own. A connection and its calls stay on one thread.

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
    sync::{
        mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
        oneshot,
    },
    task::JoinSet,
};

use super::{
    accept::Place,
    connection::{self, Common},
};
use crate::{
    health::{Condition, Health},
    supervise,
};

/// How long work outside the serving threads may take to end when the node does.
const LAST_WORK: Duration = Duration::from_secs(5);

/// An accepted connection with its permit, for a core.
pub(super) struct Accepted {
    pub(super) stream: TcpStream,
    pub(super) place: Place,
}

/// The cores that serve.
pub(super) struct Cores(Vec<Core>);

struct Core {
    /// The new connections. The connection limit bounds the queue.
    queue: UnboundedSender<(Accepted, Counted)>,
    open: Arc<AtomicUsize>,
    thread: thread::JoinHandle<()>,
    /// Completes when the thread is about to end, because its sender is dropped.
    ended: oneshot::Receiver<()>,
}

impl Cores {
    /// Starts threads. `common` creates the shared state of each.
    ///
    /// # Errors
    /// The operating system cannot start a thread.
    pub(super) fn start(
        count: usize,
        health: &Arc<Health>,
        common: impl Fn() -> Common,
    ) -> io::Result<Cores> {
        let start = |n| {
            let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
            let (queue, accepted) = unbounded_channel();
            let open = Arc::new(AtomicUsize::new(0));
            let common = common();
            let (ending, ended) = oneshot::channel::<()>();
            let name = format!("serve-{n}");
            let (of_core, of_node) = (name.clone(), health.clone());
            let thread = supervise::spawn(name, health.clone(), move || {
                let _ending = ending;
                runtime.block_on(supervise::killable(&of_core, &of_node, serve(accepted, common)));
                if of_node.cause(Condition::Draining).is_none() {
                    supervise::report(&of_core, &of_node, "ended early");
                }
                runtime.shutdown_timeout(LAST_WORK);
            })?;
            Ok(Core { queue, open, thread, ended })
        };
        (0..count.max(1)).map(start).collect::<io::Result<_>>().map(Cores)
    }

    /// Assigns a connection to the core with the fewest connections. With few connections, a hash like the operating
    /// system's would leave some cores without any.
    pub(super) fn deal(&self, accepted: Accepted) {
        let Some(core) = self.0.iter().min_by_key(|core| core.open.load(Ordering::Relaxed)) else { return };
        if core.queue.send((accepted, Counted::new(&core.open))).is_err() {
            tracing::error!("a serving thread has ended");
        }
    }

    /// Waits until all connections have ended. The draining node has notified them.
    pub(super) async fn join(self) {
        // The runtime must not join the threads itself: that would delay a process that does not want to wait.
        let ending: Vec<_> = self.0.into_iter().map(|core| (core.ended, core.thread)).collect();
        for (ended, thread) in ending {
            let _ = ended.await;
            let _ = thread.join();
        }
    }
}

/// Counts one connection of a core until it is dropped, even if the task of the connection panics.
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
