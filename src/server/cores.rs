//! One serving thread per core, each with a runtime of its own. A connection and its calls stay on one thread.

use std::{
    io,
    net::{IpAddr, TcpStream},
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
    accept::ConnectionPermit,
    connection::{self, ConnectionContext},
};
use crate::{
    health::{Condition, Health},
    supervise,
};

/// How long work outside the serving threads may take to end when the node does.
const BLOCKING_WORK_TIMEOUT: Duration = Duration::from_secs(5);

/// An accepted connection with its permit, for a core.
pub(super) struct Accepted {
    pub(super) stream: TcpStream,
    /// The address of the client.
    pub(super) peer: IpAddr,
    pub(super) permit: ConnectionPermit,
}

/// The cores that serve.
pub(super) struct Cores(Vec<Core>);

struct Core {
    /// The new connections. The connection limit bounds the queue.
    queue: UnboundedSender<(Accepted, LoadGuard)>,
    open: Arc<AtomicUsize>,
    thread: thread::JoinHandle<()>,
    /// Completes when the thread is about to end, because its sender is dropped.
    ended: oneshot::Receiver<()>,
}

impl Cores {
    /// Starts threads. `context` creates the shared state of each.
    ///
    /// # Errors
    /// The operating system cannot start a thread.
    pub(super) fn start(
        count: usize,
        health: &Arc<Health>,
        context: impl Fn() -> ConnectionContext,
    ) -> io::Result<Cores> {
        let start = |n| {
            let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
            let (queue, accepted) = unbounded_channel();
            let open = Arc::new(AtomicUsize::new(0));
            let context = context();
            let (ending, ended) = oneshot::channel::<()>();
            let name = format!("serve-{n}");
            let (task_name, node_health) = (name.clone(), health.clone());
            let thread = supervise::spawn(name, health.clone(), move || {
                let _ending = ending;
                runtime.block_on(supervise::killable(&task_name, &node_health, serve(accepted, context)));
                if node_health.cause(Condition::Draining).is_none() {
                    supervise::report(&task_name, &node_health, "ended early");
                }
                runtime.shutdown_timeout(BLOCKING_WORK_TIMEOUT);
            })?;
            Ok(Core { queue, open, thread, ended })
        };
        (0..count.max(1)).map(start).collect::<io::Result<_>>().map(Cores)
    }

    /// Assigns a connection to the core with the fewest connections. With few connections, a hash like the operating
    /// system's would leave some cores without any.
    pub(super) fn assign(&self, accepted: Accepted) {
        let Some(core) = self.0.iter().min_by_key(|core| core.open.load(Ordering::Relaxed)) else { return };
        if core.queue.send((accepted, LoadGuard::new(&core.open))).is_err() {
            tracing::error!("connection dropped: its serving thread has ended");
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
struct LoadGuard(Arc<AtomicUsize>);

impl LoadGuard {
    fn new(open: &Arc<AtomicUsize>) -> LoadGuard {
        open.fetch_add(1, Ordering::Relaxed);
        LoadGuard(open.clone())
    }
}

impl Drop for LoadGuard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn serve(mut accepted: UnboundedReceiver<(Accepted, LoadGuard)>, context: ConnectionContext) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            next = accepted.recv() => match next {
                Some((next, guard)) => {
                    connections.spawn(serve_one(next, context.clone(), guard));
                }
                None => break,
            },
            Some(_) = connections.join_next() => {}
        }
    }
    while connections.join_next().await.is_some() {}
}

async fn serve_one(accepted: Accepted, context: ConnectionContext, _guard: LoadGuard) {
    match tokio::net::TcpStream::from_std(accepted.stream) {
        Ok(stream) => connection::serve(stream, accepted.peer, context).await,
        Err(error) => tracing::warn!(%error, "connection setup failed"),
    }
    drop(accepted.permit);
}
