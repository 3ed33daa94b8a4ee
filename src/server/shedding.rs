//! Overload: which calls a node refuses early, because it cannot keep up with all of them or runs short of memory.
//!
//! A call waits in up to three queues: that of its serving thread, where it waits for its turn; that of the threads which
//! read the store; and that of its connection, where it waits for room for its response and to be written. The first two
//! are measured by probes that wait as a call does. If the delay of a queue lasts, a share of the calls that would
//! lengthen it is refused, those that cost the most first. Calls from memory cost little more than their refusal, so they
//! are refused last. Writes, health checks and open feeds never are, nor feeds and imports for a delay.
//!
//! The queue of a connection is long because the peer is slow, or because the node is (`loads.rs`). A node whose
//! processors are busy refuses the next call of a connection whose responses it delays for too long. Otherwise calls would
//! wait there until their deadlines: the probes of the other two queues, which would be short, notice nothing.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use prometheus_client::metrics::counter::Counter;
use tokio::{
    task::yield_now,
    time::{sleep, sleep_until},
};

use crate::{config, content::Content, refusal::Refusal, store::Store, telemetry, telemetry::Metrics};

mod busy;
mod delay;
mod groups;
mod pressure;

use busy::Busy;
use delay::DelayLimit;
use pressure::{Pressure, Step};

/// The maximum delay for calls from memory, as a multiple of that for all others.
const MEMORY_FACTOR: u32 = 5;

/// The pause between two measurements of a queue, while it delays calls and while it does not. A node without load
/// hardly measures.
const BUSY_INTERVAL: Duration = Duration::from_millis(20);
const IDLE_INTERVAL: Duration = Duration::from_millis(100);

/// A delay below which a queue counts as idle.
const IDLE_DELAY: Duration = Duration::from_millis(1);

/// How often the memory of the process is measured. A burst takes longer to fill a twentieth of the limit.
const MEMORY_INTERVAL: Duration = Duration::from_millis(250);

/// The time without a refusal after which an overload has ended, for the log.
const CALM: Duration = Duration::from_secs(10);

/// The cost of a call to a node that is short of time or memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cost {
    /// It is always served: writes, health checks, status, and pending versions for editors.
    Essential,
    /// A read, whose response may be in memory.
    Read,
    /// A stream of content, which takes time and memory.
    Stream,
    /// A feed or an import, which takes memory. The time that its reads may take is bounded elsewhere.
    Long,
}

/// The overload of a node.
pub(super) struct Overload {
    max_delay: Duration,
    /// The queue of the threads that read the store.
    reads: DelayLimit,
    cores: Mutex<Vec<Arc<CoreDelays>>>,
    pressure: Pressure,
    shed: Shed,
    /// Whether a call was refused room since this was last looked at.
    refused_response: AtomicBool,
}

/// The counters of refused calls, by reason.
struct Shed {
    serve_delay: Counter,
    read_delay: Counter,
    response_delay: Counter,
    memory: Counter,
}

/// The limits on the delay of one serving thread.
#[derive(Debug)]
pub(super) struct CoreDelays {
    /// For calls that need more than memory.
    work: DelayLimit,
    /// For all reads.
    any: DelayLimit,
    /// Whether the thread, or the whole process, has no processor time left.
    is_busy: AtomicBool,
}

impl CoreDelays {
    fn new(max: Duration) -> CoreDelays {
        let (work, any) = (DelayLimit::new(max), DelayLimit::new(max * MEMORY_FACTOR));
        CoreDelays { work, any, is_busy: AtomicBool::new(false) }
    }

    fn record(&self, now: Instant, delay: Duration) {
        self.work.record(now, delay);
        self.any.record(now, delay);
    }

    /// Measures the delay of the thread that runs this, for as long as it runs.
    pub(super) async fn measure(self: Arc<CoreDelays>) {
        let mut busy = Busy::new(groups::processor_limit());
        loop {
            if let Some(is_busy) = busy.measure() {
                self.is_busy.store(is_busy, Relaxed);
            }
            let start = Instant::now();
            // The rest of this turn, a look at the sockets, and all calls that are ready: a call whose bytes arrive now
            // waits as long.
            yield_now().await;
            let delay = start.elapsed();
            self.record(Instant::now(), delay);
            sleep(interval(&self.work, delay)).await;
        }
    }
}

/// Returns the pause until the next measurement. While calls are refused, measurements are frequent, so that the
/// refusals end soon after the overload.
fn interval(limit: &DelayLimit, delay: Duration) -> Duration {
    if delay < IDLE_DELAY && !limit.is_refusing() { IDLE_INTERVAL } else { BUSY_INTERVAL }
}

impl Overload {
    pub(super) fn new(settings: &config::Overload, metrics: &Metrics) -> Arc<Overload> {
        let limit = Some(settings.max_memory_bytes).filter(|limit| *limit > 0);
        let limit = limit.or_else(groups::memory_limit);
        metrics.memory_limit_bytes.set(limit.unwrap_or(0));
        Arc::new(Overload {
            max_delay: settings.max_delay,
            reads: DelayLimit::new(settings.max_delay),
            cores: Mutex::default(),
            pressure: Pressure::new(limit),
            shed: Shed {
                serve_delay: metrics.shed_calls("serve_delay"),
                read_delay: metrics.shed_calls("read_delay"),
                response_delay: metrics.shed_calls("response_delay"),
                memory: metrics.shed_calls("memory"),
            },
            refused_response: AtomicBool::new(false),
        })
    }

    /// Returns the overload as one core sees it.
    pub(super) fn for_core(self: &Arc<Overload>) -> CoreOverload {
        let delays = Arc::new(CoreDelays::new(self.max_delay));
        self.cores.lock().unwrap_or_else(PoisonError::into_inner).push(delays.clone());
        CoreOverload { node: self.clone(), delays }
    }

    /// Returns the delay of the slowest serving thread, and that of the threads that read the store.
    pub(super) fn delays(&self) -> (Duration, Duration) {
        let cores = self.cores.lock().unwrap_or_else(PoisonError::into_inner);
        let serving = cores.iter().map(|core| core.work.delay()).max();
        (serving.unwrap_or_default(), self.reads.delay())
    }

    /// Returns the number of the current step of memory pressure.
    pub(super) fn memory_step(&self) -> u64 {
        self.pressure.step() as u64
    }

    /// Returns the queue whose delay is the reason for which calls are refused, or were since this was last called.
    fn refusing_queue(&self) -> Option<&'static str> {
        let cores = self.cores.lock().unwrap_or_else(PoisonError::into_inner);
        let has_refused_response = self.refused_response.swap(false, Relaxed);
        let queues = [
            (self.reads.is_refusing(), "reads"),
            (cores.iter().any(|core| core.work.is_refusing()), "calls"),
            (has_refused_response, "responses"),
        ];
        queues.into_iter().find(|(is_refusing, _)| *is_refusing).map(|(_, name)| name)
    }
}

/// The overload of a node, as one of its cores sees it.
pub(super) struct CoreOverload {
    node: Arc<Overload>,
    pub(super) delays: Arc<CoreDelays>,
}

impl CoreOverload {
    /// Refuses a call from its head alone.
    ///
    /// # Errors
    /// The node cannot keep up, or is short of memory.
    pub(super) fn admit(&self, cost: Cost) -> Result<(), Refusal> {
        let is_long = match cost {
            Cost::Essential => return Ok(()),
            Cost::Read => return self.check_delay(&self.delays.any),
            Cost::Stream => false,
            Cost::Long => true,
        };
        self.check_memory(Step::RefuseStreams)?;
        if is_long { Ok(()) } else { self.check_work() }
    }

    /// Refuses a read whose response is not in memory.
    ///
    /// # Errors
    /// The node cannot keep up, or is short of memory.
    pub(super) fn admit_load(&self) -> Result<(), Refusal> {
        self.check_memory(Step::RefuseLoads)?;
        self.check_work()
    }

    /// Refuses a call whose response would take too long. `delay` is the age of the oldest response of the connection that
    /// waits because of this node.
    ///
    /// # Errors
    /// The node cannot keep up.
    pub(super) fn admit_delayed(&self, cost: Cost, delay: Duration) -> Result<(), Refusal> {
        if matches!(cost, Cost::Essential | Cost::Long)
            || delay <= self.node.max_delay
            || !self.delays.is_busy.load(Relaxed)
        {
            return Ok(());
        }
        self.node.shed.response_delay.inc();
        self.node.refused_response.store(true, Relaxed);
        Err(Refusal::Overloaded("overloaded: responses take too long"))
    }

    fn check_work(&self) -> Result<(), Refusal> {
        self.check_delay(&self.delays.work)?;
        if self.node.reads.refuses_next() {
            self.node.shed.read_delay.inc();
            return Err(Refusal::Overloaded("overloaded: reads of the store are queued for too long"));
        }
        Ok(())
    }

    fn check_delay(&self, limit: &DelayLimit) -> Result<(), Refusal> {
        if limit.refuses_next() {
            self.node.shed.serve_delay.inc();
            return Err(Refusal::Overloaded("overloaded: calls are queued for too long"));
        }
        Ok(())
    }

    fn check_memory(&self, step: Step) -> Result<(), Refusal> {
        if self.node.pressure.step() >= step {
            self.node.shed.memory.inc();
            return Err(Refusal::Overloaded("overloaded: the node is short of memory"));
        }
        Ok(())
    }
}

/// Measures the queue of reads and the memory of the process. Never returns.
pub(super) async fn run(overload: Arc<Overload>, store: Arc<Store>, content: Arc<Content>) {
    tokio::join!(overload.measure_reads(&store), overload.measure_memory(&content), overload.log_refusals());
}

impl Overload {
    async fn measure_reads(&self, store: &Store) {
        loop {
            let start = Instant::now();
            let mut probe = std::pin::pin!(store.measure_read_delay());
            let delay = loop {
                tokio::select! {
                    delay = &mut probe => break delay.unwrap_or_else(|| start.elapsed().max(self.max_delay * 2)),
                    // A probe that has not arrived has waited for at least this long.
                    () = sleep(IDLE_INTERVAL) => self.reads.record(Instant::now(), start.elapsed()),
                }
            };
            self.reads.record(Instant::now(), delay);
            sleep(interval(&self.reads, delay)).await;
        }
    }

    async fn measure_memory(&self, content: &Content) {
        if self.pressure.limit().is_none() {
            return std::future::pending().await;
        }
        loop {
            let used = telemetry::private_bytes();
            if let Some(step) = self.pressure.record(used) {
                let limit = self.pressure.limit();
                tracing::warn!(%step, used_bytes = used, limit_bytes = limit, "memory pressure changed");
            }
            if self.pressure.step() >= Step::ShrinkCache {
                content.shrink_caches().await;
                super::gauges::return_freed_memory();
            }
            sleep(MEMORY_INTERVAL).await;
        }
    }

    /// Logs the start and the end of each overload.
    async fn log_refusals(&self) {
        loop {
            let queue = loop {
                match self.refusing_queue() {
                    Some(queue) => break queue,
                    None => sleep(IDLE_INTERVAL).await,
                }
            };
            let start = Instant::now();
            let (serving, reads) = self.delays();
            let [serve_delay_ms, read_delay_ms] = [serving, reads].map(|delay| delay.as_millis() as u64);
            tracing::warn!(queue, serve_delay_ms, read_delay_ms, "overloaded: calls are refused");
            let mut last = start;
            while last.elapsed() < CALM {
                sleep_until((Instant::now() + IDLE_INTERVAL).into()).await;
                if self.refusing_queue().is_some() {
                    last = Instant::now();
                }
            }
            tracing::info!(duration_s = (last - start).as_secs_f64(), "overload ended");
        }
    }
}

#[cfg(test)]
mod tests;
