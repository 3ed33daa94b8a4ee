//! When calls are made.
//!
//! In an open loop each call is due at a time of its own, and its latency counts from then: a service that stalls
//! shows so in every call that was due meanwhile. In a closed loop a caller waits for its answer before it asks again.

use std::{
    future::Future,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use cable_client::Cable;
use indicatif::ProgressBar;
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
    check::Fault,
    report::{Measured, Tally},
};
use crate::cli::{Error, progress};

/// An interrupt is heeded this soon between calls that are far apart.
const NAP: Duration = Duration::from_millis(50);
const TICK: Duration = Duration::from_millis(200);

/// One kind of call.
pub(crate) trait Work: Send + Sync + 'static {
    /// As on the command line.
    const NAME: &'static str;

    /// What the report says about how it was set up.
    fn facts(&self) -> Vec<(&'static str, Value)>;

    /// Makes the call with this number and checks the answer.
    fn call(&self, cable: &Cable, number: u64) -> impl Future<Output = Outcome> + Send;

    /// Answers that only all the others show to be wrong.
    fn unsteady(&self) -> u64 {
        0
    }
}

/// How a call came out.
pub(crate) type Outcome = Result<Answer, Failure>;

/// What a right answer brought.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) articles: u64,
    /// Of the articles, encoded.
    pub(crate) bytes: u64,
    /// When the first article of a stream came.
    pub(crate) first: Option<Instant>,
}

/// Why there is no right answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The call failed.
    Call(cable_client::Error),
    /// The stream did not end in time.
    Deadline,
    /// The answer is wrong.
    Wrong(Fault),
}

impl From<cable_client::Error> for Failure {
    fn from(error: cable_client::Error) -> Self {
        Failure::Call(error)
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Failure::Wrong(fault)
    }
}

/// The load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) mode: Mode,
    /// Before the measurement.
    pub(crate) warm_up: Duration,
    pub(crate) limit: Limit,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Mode {
    Open {
        /// Calls a second.
        rate: f64,
        in_flight: u32,
    },
    Closed {
        workers: u32,
    },
}

/// When the measurement ends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Limit {
    Time(Duration),
    Calls(u64),
}

/// A call that is to be made now. Times are those since the start of the run.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Due {
    number: u64,
    intended: Duration,
    /// Not part of the warm-up.
    counted: bool,
}

#[derive(Debug, PartialEq)]
enum Step {
    Start(Due),
    Wait(Duration),
    Over,
}

/// An open loop's calls, one after the other.
#[derive(Debug)]
struct Pacer {
    rate: f64,
    next: u64,
    warm_up: u64,
    total: u64,
    until: Option<Duration>,
}

impl Pacer {
    fn new(rate: f64, warm_up: Duration, limit: Limit) -> Pacer {
        let calls = |time: Duration| (time.as_secs_f64() * rate).ceil() as u64;
        let (measured, until) = match limit {
            Limit::Time(time) => (calls(time).max(1), Some(warm_up + time)),
            Limit::Calls(calls) => (calls, None),
        };
        Pacer { rate, next: 0, warm_up: calls(warm_up), total: calls(warm_up) + measured, until }
    }

    fn intended(&self, number: u64) -> Duration {
        Duration::from_secs_f64(number as f64 / self.rate)
    }

    fn step(&mut self, now: Duration) -> Step {
        if now >= self.intended(self.warm_up) {
            // What the warm-up could not do shall not eat up the time of the measurement.
            self.next = self.next.max(self.warm_up);
        }
        let intended = self.intended(self.next);
        if self.next >= self.total || self.until.is_some_and(|until| now >= until) {
            Step::Over
        } else if now < intended {
            Step::Wait(intended - now)
        } else {
            let due = Due { number: self.next, intended, counted: self.next >= self.warm_up };
            self.next += 1;
            Step::Start(due)
        }
    }

    /// How long the calls have waited that were due by now and have not been started.
    fn missed(&self, now: Duration) -> impl Iterator<Item = Duration> {
        let waiting = (self.next.max(self.warm_up)..self.total).map(|number| self.intended(number));
        waiting.take_while(move |intended| *intended <= now).map(move |intended| now - intended)
    }
}

/// A closed loop's calls, whoever of its workers makes them.
#[derive(Debug)]
struct Turns {
    warm_up: Duration,
    limit: Limit,
    next: AtomicU64,
    counted: AtomicU64,
    stopped: watch::Receiver<bool>,
}

impl Turns {
    fn new(warm_up: Duration, limit: Limit, stopped: watch::Receiver<bool>) -> Turns {
        Turns { warm_up, limit, next: AtomicU64::new(0), counted: AtomicU64::new(0), stopped }
    }

    fn take(&self, now: Duration) -> Option<Due> {
        let counted = now >= self.warm_up;
        let goes_on = match self.limit {
            _ if *self.stopped.borrow() => false,
            _ if !counted => true,
            Limit::Time(time) => now < self.warm_up + time,
            Limit::Calls(calls) => self.counted.fetch_add(1, Relaxed) < calls,
        };
        goes_on.then(|| Due { number: self.next.fetch_add(1, Relaxed), intended: now, counted })
    }
}

/// A run under way.
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

/// Makes the calls and measures them. The first interrupt ends that early and waits for the answers that are due, the
/// second one does not wait.
pub(crate) async fn run<W: Work>(
    work: W,
    connections: Vec<Cable>,
    plan: Plan,
    bar: &ProgressBar,
) -> Result<Measured, Error> {
    let mut interrupts =
        signal(SignalKind::interrupt()).map_err(|source| Error::io("listen for signals", source))?;
    if let Some(calls) = plan.calls() {
        progress::of_items(bar, calls);
    }
    let run = Arc::new(Run { work, connections, start: Instant::now(), tally: Mutex::new(Tally::new()) });
    let (stop, stopped) = watch::channel(false);
    let mut calls = tokio::spawn(make_calls(run.clone(), plan, stopped));
    let begin = run.start + plan.warm_up;
    let (mut cpu_before, mut interrupted, mut tick) = (None, false, interval(TICK));
    loop {
        tokio::select! {
            ended = &mut calls => {
                ended.map_err(|fault| Error::io("make calls", io::Error::other(fault)))?;
                break;
            }
            () = sleep_until(begin.into()), if cpu_before.is_none() => cpu_before = Some(own_cpu()),
            _ = tick.tick() => bar.set_position(run.tally().calls()),
            _ = interrupts.recv() => {
                if interrupted {
                    break;
                }
                interrupted = true;
                stop.send_replace(true);
            }
        }
    }
    let cpu = cpu_before.map_or(Duration::ZERO, |before| own_cpu().saturating_sub(before));
    let mut tally = run.tally().clone();
    tally.unsteady(run.work.unsteady());
    Ok(Measured { tally, begin: plan.warm_up, cpu, interrupted })
}

impl Plan {
    /// How many calls are measured, if that is known.
    fn calls(&self) -> Option<u64> {
        match (self.limit, self.mode) {
            (Limit::Calls(calls), _) => Some(calls),
            (Limit::Time(time), Mode::Open { rate, .. }) => Some((time.as_secs_f64() * rate).ceil() as u64),
            (Limit::Time(_), Mode::Closed { .. }) => None,
        }
    }
}

async fn make_calls<W: Work>(run: Arc<Run<W>>, plan: Plan, stopped: watch::Receiver<bool>) {
    let Plan { mode, warm_up, limit } = plan;
    match mode {
        Mode::Open { rate, in_flight } => {
            let room = Arc::new(Semaphore::new(in_flight as usize));
            let (pacer, own_room) = (Pacer::new(rate, warm_up, limit), room.clone());
            // A thread that sleeps is exact to some microseconds; the runtime's timer is to a millisecond.
            let pace = tokio::task::spawn_blocking(move || pace(&run, pacer, &own_room, stopped));
            if let Err(fault) = pace.await {
                std::panic::resume_unwind(fault.into_panic());
            }
            // All room is there again when all calls have ended.
            let _all = room.acquire_many(in_flight).await;
        }
        Mode::Closed { workers } => {
            let turns = Arc::new(Turns::new(warm_up, limit, stopped));
            let mut callers = JoinSet::new();
            for _ in 0..workers {
                let (run, turns) = (run.clone(), turns.clone());
                callers.spawn(async move {
                    while let Some(due) = turns.take(run.start.elapsed()) {
                        run.call(due).await;
                    }
                });
            }
            callers.join_all().await;
        }
    }
}

/// Starts an open loop's calls, each in a task of its own, as long as there is room for it.
fn pace<W: Work>(
    run: &Arc<Run<W>>,
    mut pacer: Pacer,
    room: &Arc<Semaphore>,
    mut stopped: watch::Receiver<bool>,
) {
    let runtime = Handle::current();
    wake_exactly();
    let until = pacer.until.map(|until| run.start + until);
    let mut held = None;
    while !*stopped.borrow() {
        // Room first: a call that has to wait for it is late, and that is part of its latency.
        let permit = match held.take() {
            Some(permit) => permit,
            None => match runtime.block_on(room_for_one(room, until, &mut stopped)) {
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
                held = Some(permit);
                thread::sleep(time.min(NAP));
            }
            Step::Over => break,
        }
    }
    let now = run.start.elapsed();
    run.tally().miss(pacer.missed(now));
}

/// None: the run is over before there is any.
async fn room_for_one(
    room: &Arc<Semaphore>,
    until: Option<Instant>,
    stopped: &mut watch::Receiver<bool>,
) -> Option<OwnedSemaphorePermit> {
    if let Ok(permit) = room.clone().try_acquire_owned() {
        return Some(permit);
    }
    let over = async {
        match until {
            Some(until) => sleep_until(until.into()).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        permit = room.clone().acquire_owned() => permit.ok(),
        () = over => None,
        _ = stopped.wait_for(|stopped| *stopped) => None,
    }
}

/// By default the system lets a thread sleep some 50 us longer than it asks for.
fn wake_exactly() {
    #[cfg(target_os = "linux")]
    let _only_less_exact = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
}

/// Processor time of this process.
fn own_cpu() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A service that answers within 1 ms, except that it answers nothing from 50 to 150 ms, called with room for
    /// `in_flight` calls on a clock that jumps from event to event.
    fn through_a_stall(in_flight: usize) -> Tally {
        let mut pacer = Pacer::new(1_000.0, Duration::ZERO, Limit::Calls(300));
        let (mut tally, mut now) = (Tally::new(), Duration::ZERO);
        let mut under_way: Vec<(Duration, Duration)> = Vec::new();
        let start = Instant::now();
        loop {
            under_way.retain(|(intended, end)| {
                if *end <= now {
                    tally.end(*intended, *end, start, Ok(Answer::default()));
                }
                *end > now
            });
            let soonest = under_way.iter().map(|(_, end)| *end).min();
            if under_way.len() == in_flight {
                now = soonest.unwrap();
                continue;
            }
            match pacer.step(now) {
                Step::Start(due) => {
                    tally.start(due.intended, now);
                    let stalls = (50 * MS..150 * MS).contains(&now);
                    under_way.push((due.intended, if stalls { 150 * MS } else { now + MS / 2 }));
                }
                Step::Wait(time) => now = soonest.map_or(now + time, |end| end.min(now + time)),
                Step::Over if under_way.is_empty() => return tally,
                Step::Over => now = soonest.unwrap(),
            }
        }
    }

    #[test]
    fn a_stall_of_100_ms_shows_in_each_of_the_100_calls_that_were_due_meanwhile() {
        let tally = through_a_stall(1_000);
        assert_eq!(tally.calls(), 300);
        assert!((99..=101).contains(&tally.latency_above(MS * 9 / 10)));
        assert!((49..=51).contains(&tally.latency_above(50 * MS)));
        // With room for one call they follow the one that stalls, and wait for each other too.
        let tally = through_a_stall(1);
        assert_eq!(tally.calls(), 300);
        assert!((98..=102).contains(&tally.latency_above(50 * MS)));
    }

    #[test]
    fn with_no_room_the_calls_are_late_and_with_room_they_are_not() {
        let (late, most) = through_a_stall(1).late();
        assert!(late >= 95 && most >= 95 * MS, "{late} {most:?}");
        assert_eq!(through_a_stall(1_000).late(), (0, Duration::ZERO));
    }

    #[test]
    fn calls_are_due_evenly_and_the_warm_up_is_not_counted() {
        let mut pacer = Pacer::new(100.0, 50 * MS, Limit::Calls(3));
        let mut due = Vec::new();
        let mut now = Duration::ZERO;
        loop {
            match pacer.step(now) {
                Step::Start(one) => due.push((one.intended.as_millis(), one.counted)),
                Step::Wait(time) => now += time,
                Step::Over => break,
            }
        }
        let warm_up = [0, 10, 20, 30, 40].map(|ms| (ms, false));
        assert_eq!(due[..5], warm_up);
        assert_eq!(due[5..], [50, 60, 70].map(|ms| (ms, true)));
    }

    #[test]
    fn what_the_warm_up_could_not_do_is_dropped() {
        let mut pacer = Pacer::new(100.0, 50 * MS, Limit::Calls(3));
        assert!(matches!(pacer.step(Duration::ZERO), Step::Start(Due { counted: false, .. })));
        let first = Due { number: 5, intended: 50 * MS, counted: true };
        assert_eq!(pacer.step(55 * MS), Step::Start(first));
    }

    #[test]
    fn calls_that_were_due_and_never_started_are_accounted_for() {
        let mut pacer = Pacer::new(100.0, Duration::ZERO, Limit::Time(100 * MS));
        assert!(matches!(pacer.step(Duration::ZERO), Step::Start(_)));
        assert_eq!(pacer.step(100 * MS), Step::Over);
        let waited: Vec<u128> = pacer.missed(100 * MS).map(|wait| wait.as_millis()).collect();
        assert_eq!(waited, [90, 80, 70, 60, 50, 40, 30, 20, 10]);
        assert_eq!(pacer.missed(25 * MS).count(), 2);
    }

    #[test]
    fn a_closed_loop_ends_after_its_calls_or_its_time() {
        let (stop, stopped) = watch::channel(false);
        let turns = |limit| Turns::new(10 * MS, limit, stopped.clone());
        let by_calls = turns(Limit::Calls(2));
        let counted: Vec<Option<bool>> =
            [0, 9, 10, 11, 12].map(|ms| by_calls.take(ms * MS).map(|due| due.counted)).into();
        assert_eq!(counted, [Some(false), Some(false), Some(true), Some(true), None]);
        let by_time = turns(Limit::Time(5 * MS));
        assert!(by_time.take(14 * MS).is_some_and(|due| due.counted));
        assert_eq!(by_time.take(15 * MS), None);
        stop.send_replace(true);
        assert_eq!(by_time.take(14 * MS), None);
    }
}
