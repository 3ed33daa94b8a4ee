//! The gauges of a node, and the counters whose values its parts count: read once a second.

use std::{sync::Arc, time::Duration};

use super::{memory::Memory, shedding::Overload};
use crate::{
    audit::Audit,
    clock::Clock,
    content::Content,
    feed::{ConsumerStatus, Consumers, Feeds},
    log::local::LocalLog,
    store::Store,
    telemetry::{ConsumerName, LogHead, Metrics, Queue, set_counter},
};

/// How often gauges are refreshed.
const INTERVAL: Duration = Duration::from_secs(1);

/// The maximum number of due changes that are counted.
const MAX_DUE: usize = 1_000;

/// The size of a block that mimalloc takes from its arenas and gives back to them, in bytes.
const LARGE_BLOCK: usize = 8 << 20;

/// The parts of a node that the gauges describe.
pub(super) struct Sources {
    pub(super) store: Arc<Store>,
    pub(super) log: Arc<LocalLog>,
    pub(super) content: Arc<Content>,
    pub(super) feeds: Arc<Feeds>,
    pub(super) consumers: Arc<Consumers>,
    pub(super) audit: Arc<Audit>,
    pub(super) memory: Arc<Memory>,
    pub(super) overload: Arc<Overload>,
    pub(super) clock: Clock,
    pub(super) metrics: Arc<Metrics>,
}

/// Refreshes the gauges. Never returns.
pub(super) async fn run(sources: Sources) {
    let first_revision = sources.store.head().revision;
    let mut counted = None;
    loop {
        sources.refresh(first_revision);
        let revision = sources.store.revision();
        if counted != Some(revision) {
            counted = sources.count_pending().await.then_some(revision);
        }
        sources.count_due().await;
        sources.measure_consumers().await;
        sources.metrics.sample();
        return_freed_memory();
        tokio::time::sleep(INTERVAL).await;
    }
}

impl Sources {
    fn refresh(&self, first_revision: i64) {
        let Sources { store, content, feeds, metrics, .. } = self;
        let cache = content.cache_counts();
        set_counter(&metrics.cache_hits, cache.hits);
        set_counter(&metrics.cache_misses, cache.misses);
        set_counter(&metrics.cache_evictions, cache.evictions);
        metrics.cache_bytes.set(cache.bytes);
        metrics.cache_entries.set(cache.entries);
        let head = store.head();
        set_counter(&metrics.entries_applied, (head.revision - first_revision).unsigned_abs());
        metrics.head_revision.set(head.revision.unsigned_abs());
        metrics.history_floor_revision.set(head.floor.unsigned_abs());
        metrics.set_log_head(LogHead {
            log_id: head.log_id.to_string(),
            revision: head.revision.unsigned_abs(),
            digest: head.log_digest.to_bytes(),
        });
        metrics.feeds.set(feeds.open_count() as u64);
        metrics.feed_groups.set(feeds.group_count() as u64);
        metrics.feed_lag_revisions.set(feeds.max_lag());
        set_counter(&metrics.stalled_resets, self.memory.stalled());
        set_counter(&metrics.audit_failures, self.audit.failures());
        metrics.store_bytes.set(store.bytes_on_disk());
        metrics.disk_free_bytes.set(store.free_bytes().unwrap_or(0));
        metrics.disk_reserve_bytes.set(store.reserve_bytes());
        for (queue, (waiting, refused)) in
            [(Queue::READ, store.read_queue()), (Queue::WRITE, self.log.counts())]
        {
            metrics.queue_length.get_or_create(&queue).set(waiting as u64);
            set_counter(&metrics.queue_refused.get_or_create(&queue), refused);
        }
        let (serve_delay, read_delay) = self.overload.delays();
        for (queue, delay) in [(Queue::SERVE, serve_delay), (Queue::READ, read_delay)] {
            metrics.queue_delay_seconds.get_or_create(&queue).set(delay.as_secs_f64());
        }
        metrics.memory_step.set(self.overload.memory_step());
        let scrub = store.last_scrub();
        metrics.store_damaged_records.set(scrub.damage.count.unsigned_abs());
        metrics.store_scrub_time.set(scrub.time.unwrap_or(0).unsigned_abs() / 1_000_000);
        metrics.backup_time.set(store.last_backup_secs().unwrap_or(0));
        store.observe_space();
    }

    /// Counts the pending versions, if a reader thread is available. Returns whether they were counted.
    async fn count_pending(&self) -> bool {
        let Ok(counts) = self.store.read(|snapshot| snapshot.count_pending()).await else { return false };
        self.metrics.pending.set(counts.pending);
        self.metrics.pending_held.set(counts.held);
        self.metrics.pending_path_conflicts.set(counts.taking_a_path);
        true
    }

    /// Measures how far consumers are behind, if a reader thread is available.
    async fn measure_consumers(&self) {
        let Ok(consumers) = self.consumers.list(None).await else { return };
        let (lost, others): (Vec<_>, Vec<_>) =
            consumers.into_iter().partition(|consumer| consumer.reset_reason.is_some());
        let measured = |ConsumerStatus { key, lag_revisions, lag, .. }: ConsumerStatus| {
            let name = ConsumerName { owner: key.owner, consumer: key.id };
            (name, (lag_revisions.unsigned_abs(), lag.unwrap_or_default().as_secs_f64()))
        };
        self.metrics.set_consumers(lost.len() as u64, &others.into_iter().map(measured).collect());
    }

    /// Counts the changes that are due. Usually none is: the scheduler makes each as soon as it is.
    async fn count_due(&self) {
        let now = self.clock.now();
        let earliest = *self.store.next_due().borrow();
        let (mut due, mut overdue) = (0, 0);
        if earliest.is_some_and(|earliest| earliest <= now) {
            let found = self.store.read(move |snapshot| snapshot.due_by(now, None, MAX_DUE)).await;
            let Ok(found) = found else { return };
            due = found.len() as u64;
            overdue = found.first().map_or(0, |first| now.saturating_sub(first.time));
        }
        self.metrics.pending_due.set(due);
        self.metrics.pending_overdue_seconds.set(overdue as f64 / 1e6);
    }
}

/// Makes the allocator return freed memory to the operating system. mimalloc does that when a thread allocates or frees
/// a large block, so a node that has become idle would keep the memory of its last load.
pub(super) fn return_freed_memory() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(LARGE_BLOCK)));
}
