//! One serving thread per core, each with a runtime of its own. A connection and its calls stay on one thread.

use std::{
    io,
    net::{SocketAddr, TcpStream},
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
        mpsc::{UnboundedReceiver, UnboundedSender, WeakUnboundedSender, unbounded_channel},
        oneshot,
    },
    task::JoinSet,
};

use super::{accept::ConnectionPermit, arrival, connection::ConnectionContext, peer::Listener};
use crate::{health::Health, supervise};

/// How long work outside the serving threads may take to end when the node does.
const BLOCKING_WORK_TIMEOUT: Duration = Duration::from_secs(5);

/// An accepted connection with its permit, for a core.
pub(super) struct Accepted {
    pub(super) listener: Listener,
    pub(super) stream: TcpStream,
    pub(super) address: SocketAddr,
    pub(super) permit: ConnectionPermit,
}

/// A job of a core.
enum Job {
    Connection(Accepted, LoadGuard),
    /// The core responds at once.
    Probe(oneshot::Sender<()>),
}

/// The cores that serve.
pub(super) struct Cores(Vec<Core>);

struct Core {
    name: String,
    /// The new connections, which the connection limit bounds, and at most one probe.
    queue: UnboundedSender<Job>,
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
            let (queue, jobs) = unbounded_channel();
            let open = Arc::new(AtomicUsize::new(0));
            let context = context();
            let draining = context.draining.clone();
            let (ending, ended) = oneshot::channel::<()>();
            let name = format!("serve-{n}");
            let (task_name, node_health) = (name.clone(), health.clone());
            let thread = supervise::spawn(name.clone(), health.clone(), move || {
                let _ending = ending;
                runtime.block_on(supervise::killable(&task_name, &node_health, serve(jobs, context)));
                if !*draining.borrow() {
                    supervise::report(&task_name, &node_health, "ended early");
                }
                runtime.shutdown_timeout(BLOCKING_WORK_TIMEOUT);
            })?;
            Ok(Core { name, queue, open, thread, ended })
        };
        (0..count.max(1)).map(start).collect::<io::Result<_>>().map(Cores)
    }

    /// Assigns a connection to the core with the fewest connections. With few connections, a hash like the operating
    /// system's would leave some cores without any.
    pub(super) fn assign(&self, accepted: Accepted) {
        let Some(core) = self.0.iter().min_by_key(|core| core.open.load(Ordering::Relaxed)) else { return };
        if core.queue.send(Job::Connection(accepted, LoadGuard::new(&core.open))).is_err() {
            tracing::error!("connection dropped: its serving thread has ended");
        }
    }

    /// Returns a probe of each core.
    pub(super) fn probes(&self) -> Vec<Probe> {
        let probe = |core: &Core| Probe { name: core.name.clone(), queue: core.queue.downgrade() };
        self.0.iter().map(probe).collect()
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

/// A test whether a core responds. It does not delay the end of the core.
pub(super) struct Probe {
    name: String,
    queue: WeakUnboundedSender<Job>,
}

impl Probe {
    /// Returns the name of the core's thread.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Waits until the core responds. The end of a core counts as a response: a draining node needs no core, and
    /// supervision detects any other end.
    pub(super) async fn response(&self) {
        let (reply, response) = oneshot::channel();
        if let Some(queue) = self.queue.upgrade() {
            let _ended = queue.send(Job::Probe(reply));
        }
        let _ = response.await;
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

async fn serve(mut jobs: UnboundedReceiver<Job>, context: ConnectionContext) {
    let mut connections = JoinSet::new();
    // A task of its own, which only its own timer wakes. It ends with this set.
    let mut measuring = JoinSet::new();
    measuring.spawn(context.calls.overload.delays.clone().measure());
    loop {
        tokio::select! {
            next = jobs.recv() => match next {
                Some(Job::Connection(accepted, guard)) => {
                    connections.spawn(serve_one(accepted, context.clone(), guard));
                }
                Some(Job::Probe(reply)) => drop(reply.send(())),
                None => break,
            },
            Some(_) = connections.join_next() => {}
            Some(_) = measuring.join_next() => return,
        }
    }
    while connections.join_next().await.is_some() {}
}

async fn serve_one(accepted: Accepted, context: ConnectionContext, _guard: LoadGuard) {
    arrival::serve(accepted, context).await;
}
