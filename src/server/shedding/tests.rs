use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
};

use tokio::time::timeout;

use super::*;
use crate::store::fixture;

const PATIENCE: Duration = Duration::from_secs(60);
const COSTS: [Cost; 4] = [Cost::Essential, Cost::Read, Cost::Stream, Cost::Long];

fn overload(max_memory_bytes: u64) -> Arc<Overload> {
    let settings = config::Overload { max_memory_bytes, ..config::Overload::default() };
    Overload::new(&settings, &Metrics::new())
}

/// Records a delay for long enough to refuse the largest share of calls.
fn record(limits: &[&DelayLimit], delay: Duration) {
    let start = Instant::now();
    for n in 0..600 {
        limits.iter().for_each(|limit| limit.record(start + BUSY_INTERVAL * n, delay));
    }
}

/// Returns whether most calls of each cost are admitted, and then of reads that are not in memory.
fn admitted(core: &CoreOverload) -> [bool; 5] {
    let mostly = |admit: &dyn Fn() -> Result<(), Refusal>| (0..100).filter(|_| admit().is_ok()).count() > 50;
    let [essential, read, stream, long] = COSTS.map(|cost| mostly(&|| core.admit(cost)));
    [essential, read, stream, long, mostly(&|| core.admit_load())]
}

#[test]
fn a_delay_refuses_the_calls_that_cost_the_most_and_never_essential_ones() {
    let max = config::Overload::default().max_delay;
    for (delay, expected) in [
        (max, [true, true, true, true, true]),
        (max * 4, [true, true, false, true, false]),
        (max * 40, [true, false, false, true, false]),
    ] {
        let core = overload(0).for_core();
        record(&[&core.delays.work, &core.delays.any], delay);
        assert_eq!(admitted(&core), expected, "{delay:?}");
    }
}

#[test]
fn a_delay_of_one_core_refuses_no_call_of_another() {
    let node = overload(0);
    let (slow, other) = (node.for_core(), node.for_core());
    record(&[&slow.delays.work, &slow.delays.any], Duration::from_secs(1));
    assert_eq!(admitted(&other), [true; 5]);
    assert_eq!(node.delays(), (Duration::from_secs(1), Duration::ZERO));
    assert_eq!(node.refusing_queue(), Some("calls"));
}

#[test]
fn a_queue_of_reads_refuses_only_calls_that_would_join_it() {
    let node = overload(0);
    let core = node.for_core();
    record(&[&node.reads], Duration::from_secs(1));
    assert_eq!(admitted(&core), [true, true, false, true, false]);
    assert!(node.shed.read_delay.get() > 50 && node.shed.serve_delay.get() == 0);
}

#[test]
fn a_response_that_takes_too_long_refuses_the_next_one_while_the_node_is_busy() {
    let max = config::Overload::default().max_delay;
    for (is_busy, waited, cost, expected) in [
        (false, max * 100, Cost::Read, true),
        (true, max, Cost::Read, true),
        (true, max * 2, Cost::Read, false),
        (true, max * 2, Cost::Stream, false),
        (true, max * 100, Cost::Essential, true),
        (true, max * 100, Cost::Long, true),
    ] {
        let node = overload(0);
        let core = node.for_core();
        core.delays.is_busy.store(is_busy, Relaxed);
        assert_eq!(node.refusing_queue(), None);
        let admitted = core.admit_delayed(cost, waited).is_ok();
        assert_eq!(admitted, expected, "{is_busy} {waited:?} {cost:?}");
        let queue = (!expected).then_some("responses");
        assert_eq!((node.shed.response_delay.get(), node.refusing_queue()), (u64::from(!expected), queue));
        assert_eq!(node.refusing_queue(), None, "it is reported once");
    }
}

#[test]
fn each_step_of_memory_pressure_refuses_more() {
    for (percent, expected) in [
        (79, [true, true, true, true, true]),
        (85, [true, true, true, true, true]),
        (92, [true, true, false, false, true]),
        (97, [true, true, false, false, false]),
    ] {
        let node = overload(1_000);
        node.pressure.record(percent * 10);
        assert_eq!(admitted(&node.for_core()), expected, "{percent}");
    }
}

#[test]
fn a_refusal_is_counted_and_states_its_cause() {
    let node = overload(1_000);
    node.pressure.record(1_000);
    let refusal = node.for_core().admit(Cost::Long).unwrap_err();
    assert_eq!(node.shed.memory.get(), 1);
    let status = tonic::Status::from(refusal);
    assert_eq!(status.code(), tonic::Code::Unavailable);
    let details = tonic_types::StatusExt::get_error_details(&status);
    assert_eq!(details.error_info().map(|info| &info.reason[..]), Some("OVERLOADED"));
    assert!(details.retry_info().is_some_and(|info| info.retry_delay.is_some()));
    assert!(status.message().contains("memory"), "{status:?}");
}

/// Waits until a check holds.
async fn wait_until(check: impl Fn() -> bool) {
    let holds = async {
        while !check() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, holds).await.expect("the state is reached");
}

#[tokio::test]
async fn a_thread_that_is_busy_refuses_calls_until_it_is_idle() {
    let delays = Arc::new(CoreDelays::new(Duration::from_millis(2)));
    let busy = async {
        loop {
            thread::sleep(Duration::from_millis(20));
            yield_now().await;
        }
    };
    tokio::spawn(delays.clone().measure());
    let work = tokio::spawn(busy);
    wait_until(|| delays.work.is_refusing() && delays.any.is_refusing()).await;
    work.abort();
    wait_until(|| !delays.work.is_refusing()).await;
}

#[tokio::test]
async fn readers_that_hang_refuse_reads_until_they_respond() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _writer) = fixture::open(dir.path());
    let node = overload(0);
    let released = Arc::new(AtomicBool::new(false));
    let jobs: Vec<_> = (0..64)
        .map(|_| {
            let (store, released) = (store.clone(), released.clone());
            let job = move |_: crate::store::Snapshot<'_>| {
                while !released.load(Relaxed) {
                    thread::sleep(Duration::from_millis(1));
                }
                Ok(())
            };
            tokio::spawn(async move { store.read(job).await })
        })
        .collect();
    let measured = node.clone();
    let measuring = tokio::spawn(async move { measured.measure_reads(&store).await });
    wait_until(|| node.reads.is_refusing()).await;
    released.store(true, Relaxed);
    for job in jobs {
        job.await.unwrap().unwrap();
    }
    wait_until(|| !node.reads.is_refusing()).await;
    measuring.abort();
}
