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
    /// Its sender is dropped when the thread is about to end.
    ended: oneshot::Receiver<()>,
}

impl Cores {
    /// Starts threads, each with what `common` makes for it.
    ///
    /// # Errors
    /// The system gives no more threads.
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
        // Not joined on a thread of the runtime: that would hold up a process that does not want to wait.
        let ending: Vec<_> = self.0.into_iter().map(|core| (core.ended, core.thread)).collect();
        for (ended, thread) in ending {
            let _ = ended.await;
            let _ = thread.join();
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
