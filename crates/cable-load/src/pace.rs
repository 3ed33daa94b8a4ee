//! Makes calls, each when it is due.
//!
//! In an open loop, each call is due at a time of its own, and its latency counts from that time: a service that stalls
//! shows it in every call that was due in the meantime. In a closed loop, a caller waits for the response before it
//! sends the next call.

use std::{
    future::Future,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use cable_client::Cable;
use rustix::time::{ClockId, clock_gettime};
use serde_json::Value;
use tokio::{
    runtime::Handle,
    signal::unix::{SignalKind, signal},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
    time::{interval, sleep_until},
};

use super::{
    Error, Progress,
    check::Outcome,
    plan::{ClosedLoop, Due, Mode, Pacer, Plan, Step},
    report::{Measured, Tally},
};

/// Maximum sleep between calls that are far apart: an interrupt takes effect within this time.
const MAX_SLEEP: Duration = Duration::from_millis(50);
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// A kind of call.
pub(crate) trait Work: Send + Sync + 'static {
    /// Name of the kind in the report.
    const NAME: &'static str;

    /// Returns the figures of the report that describe the setup.
    fn facts(&self) -> Vec<(&'static str, Value)>;

    /// Makes the call with this number and checks the response.
    fn call(&self, cable: &Cable, number: u64) -> impl Future<Output = Outcome> + Send;

    /// Returns the number of responses that only a comparison with all others shows to be wrong.
    fn unsteady(&self) -> u64 {
        0
    }
}

/// A run in progress.
struct Run<W> {
    work: W,
    connections: Vec<Cable>,
    start: Instant,
    tally: Mutex<Tally>,
}

impl<W: Work> Run<W> {
    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn call(&self, due: Due) {
        if due.counted {
            self.tally().start(due.intended, self.start.elapsed());
        }
        let connection = &self.connections[due.number as usize % self.connections.len()];
        let outcome = self.work.call(connection, due.number).await;
        if due.counted {
            let now = self.start.elapsed();
            self.tally().end(due.intended, now, self.start, outcome);
        }
    }
}

/// Makes the calls and measures them. Those of an open loop are due from `start` on. The first interrupt ends the calls
/// early and waits for the outstanding responses; the second one does not wait.
pub(crate) async fn run<W: Work>(
    work: W,
    connections: Vec<Cable>,
    start: Instant,
    plan: Plan,
    progress: &mut dyn FnMut(Progress),
) -> Result<Measured, Error> {
    let mut interrupts =
        signal(SignalKind::interrupt()).map_err(|source| Error::io("listen for signals", source))?;
    progress(Progress::Started { calls: plan.calls() });
    let run = Arc::new(Run { work, connections, start, tally: Mutex::new(Tally::new()) });
    let (stop, stopped) = watch::channel(false);
    let mut calls = tokio::spawn(make_calls(run.clone(), plan, stopped));
    let measure_from = run.start + plan.warm_up;
    let (mut cpu_before, mut interrupted, mut tick) = (None, false, interval(PROGRESS_INTERVAL));
    let ended = loop {
        tokio::select! {
            ended = &mut calls => break ended,
            () = sleep_until(measure_from.into()), if cpu_before.is_none() => cpu_before = Some(process_cpu()),
            _ = tick.tick() => progress(Progress::Calls(run.tally().calls())),
            _ = interrupts.recv() => {
                if interrupted {
                    break Ok(());
                }
                interrupted = true;
                stop.send_replace(true);
            }
        }
    };
    progress(Progress::Ended);
    ended.map_err(|error| Error::io("make calls", io::Error::other(error)))?;
    let cpu = cpu_before.map_or(Duration::ZERO, |before| process_cpu().saturating_sub(before));
    let mut tally = run.tally().clone();
    tally.mark_unsteady(run.work.unsteady());
    Ok(Measured { tally, begin: plan.warm_up, cpu, interrupted })
}

async fn make_calls<W: Work>(run: Arc<Run<W>>, plan: Plan, stopped: watch::Receiver<bool>) {
    let Plan { mode, warm_up, limit } = plan;
    match mode {
        Mode::Open { rate, in_flight } => {
            let permits = Arc::new(Semaphore::new(in_flight as usize));
            let (pacer, own_permits) = (Pacer::new(rate, warm_up, limit), permits.clone());
            // A sleeping thread is exact to some microseconds, the timer of the runtime to a millisecond.
            let pace = tokio::task::spawn_blocking(move || pace(&run, pacer, &own_permits, stopped));
            if let Err(error) = pace.await {
                std::panic::resume_unwind(error.into_panic());
            }
            // All permits are free again once all calls have ended.
            let _all = permits.acquire_many(in_flight).await;
        }
        Mode::Closed { workers } => {
            let calls = Arc::new(ClosedLoop::new(warm_up, limit, stopped));
            let mut callers = JoinSet::new();
            for _ in 0..workers {
                let (run, calls) = (run.clone(), calls.clone());
                callers.spawn(async move {
                    while let Some(due) = calls.take(run.start.elapsed()) {
                        run.call(due).await;
                    }
                });
            }
            callers.join_all().await;
        }
    }
}

/// Starts the calls of an open loop, each in a task of its own, as permits of `room` allow.
fn pace<W: Work>(
    run: &Arc<Run<W>>,
    mut pacer: Pacer,
    permits: &Arc<Semaphore>,
    mut stopped: watch::Receiver<bool>,
) {
    let runtime = Handle::current();
    minimise_timer_slack();
    let until = pacer.until.map(|until| run.start + until);
    let mut unused = None;
    while !*stopped.borrow() {
        // Acquire the permit first: a call that has to wait for it is late, and the wait is part of its latency.
        let permit = match unused.take() {
            Some(permit) => permit,
            None => match runtime.block_on(acquire_permit(permits, until, &mut stopped)) {
                Some(permit) => permit,
                None => break,
            },
        };
        match pacer.step(run.start.elapsed()) {
            Step::Start(due) => {
                let run = run.clone();
                runtime.spawn(async move {
                    run.call(due).await;
                    drop(permit);
                });
            }
            Step::Wait(time) => {
                unused = Some(permit);
                thread::sleep(time.min(MAX_SLEEP));
            }
            Step::Done => break,
        }
    }
    let now = run.start.elapsed();
    run.tally().record_missed(pacer.missed(now));
}

/// Returns a permit, or `None` if the run ends before one is free.
async fn acquire_permit(
    permits: &Arc<Semaphore>,
    until: Option<Instant>,
    stopped: &mut watch::Receiver<bool>,
) -> Option<OwnedSemaphorePermit> {
    if let Ok(permit) = permits.clone().try_acquire_owned() {
        return Some(permit);
    }
    let ended = async {
        match until {
            Some(until) => sleep_until(until.into()).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        permit = permits.clone().acquire_owned() => permit.ok(),
        () = ended => None,
        _ = stopped.wait_for(|stopped| *stopped) => None,
    }
}

/// Makes the sleeps of this thread exact. By default, the system extends each by some 50 us.
fn minimise_timer_slack() {
    #[cfg(target_os = "linux")]
    let _only_less_exact = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
}

/// Returns the CPU time of this process.
pub(super) fn process_cpu() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default()
}
