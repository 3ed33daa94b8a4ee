//! A cache of encoded values, bounded in bytes. A miss is loaded once, however many callers wait for it.
//!
//! A value is not evicted when the data behind it changes. Instead, the reader checks whether the value that it found
//! is fresh, and a value whose load started before a change is not. A load therefore cannot replace a newer value. Only
//! a kill empties the cache.

use std::{
    hash::Hash,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering, fence},
    },
};

use foldhash::quality::RandomState;
use moka::{future::Cache as Moka, notification::RemovalCause};

/// Values by key.
pub(crate) struct Cache<K, V> {
    /// The entries. Callers choose the keys, so the hash is keyed; it is several times cheaper than the standard one.
    entries: Moka<K, V, RandomState>,
    hits: AtomicU64,
    misses: AtomicU64,
    evictions: Arc<AtomicU64>,
    max_bytes: u64,
}

/// The counts of a cache so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    /// The entries that were dropped to make room.
    pub(crate) evictions: u64,
    /// The approximate number of entries now, and of their bytes.
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
}

impl std::iter::Sum for Counts {
    fn sum<I: Iterator<Item = Counts>>(counts: I) -> Counts {
        counts.fold(Counts::default(), |sum, counts| Counts {
            hits: sum.hits + counts.hits,
            misses: sum.misses + counts.misses,
            evictions: sum.evictions + counts.evictions,
            entries: sum.entries + counts.entries,
            bytes: sum.bytes + counts.bytes,
        })
    }
}

/// The size of a key or a value, as counted against the bound of a cache.
pub(crate) trait Weigh {
    /// Returns the bytes that the key or value owns outside its own struct.
    fn weight(&self) -> usize;
}

/// Bytes that moka needs for an entry besides its key and its value: counts, dates, a node of its queue, a bucket of
/// its map, and the map's share of room to grow.
const OVERHEAD: usize = 320;

/// The divisor that allows for rounding by the allocator. The size classes of ours are an eighth to a quarter apart.
const ROUNDING: usize = 8;

/// Returns the bytes that an entry takes in memory. The key counts too: a request can be long and its response short.
fn weight<K: Weigh, V: Weigh>(key: &K, value: &V) -> usize {
    let bytes = OVERHEAD + size_of::<K>() + key.weight() + value.weight();
    bytes + bytes / ROUNDING
}

impl<K, V> Cache<K, V>
where
    K: Weigh + Hash + Eq + Send + Sync + 'static,
    V: Weigh + Clone + Send + Sync + 'static,
{
    pub(crate) fn new(bytes: u64) -> Cache<K, V> {
        let weigh = |key: &K, value: &V| u32::try_from(weight(key, value)).unwrap_or(u32::MAX);
        let evictions = Arc::new(AtomicU64::new(0));
        let evicted = evictions.clone();
        let count = move |_: Arc<K>, _: V, cause| {
            if cause == RemovalCause::Size {
                evicted.fetch_add(1, Ordering::Relaxed);
            }
        };
        let entries = Moka::builder().max_capacity(bytes).weigher(weigh).eviction_listener(count);
        let entries = entries.build_with_hasher(RandomState::default());
        Cache { entries, hits: AtomicU64::new(0), misses: AtomicU64::new(0), evictions, max_bytes: bytes }
    }

    /// Returns the cached value if it is fresh.
    pub(crate) async fn get_fresh(&self, key: &K, fresh: impl Fn(&V) -> bool) -> Option<V> {
        let found = self.entries.get(key).await.filter(fresh)?;
        self.hits.fetch_add(1, Ordering::Relaxed);
        Some(found)
    }

    /// Caches a value that was loaded by other means.
    pub(crate) async fn insert(&self, key: K, value: V, fresh: impl Fn(&V) -> bool + Send + Sync)
    where
        K: Clone,
    {
        self.misses.fetch_add(1, Ordering::Relaxed);
        self.entries.insert(key.clone(), value.clone()).await;
        self.recheck(&key, &value, fresh).await;
    }

    /// Returns the cached value if it is fresh, otherwise the value that `load` returns. Callers that miss at the same
    /// time share one load.
    pub(crate) async fn get<F: Future<Output = V> + Send>(
        &self,
        key: K,
        fresh: impl Fn(&V) -> bool + Send + Sync,
        load: impl Fn() -> F,
    ) -> V
    where
        K: Clone,
    {
        if let Some(found) = self.get_fresh(&key, &fresh).await {
            return found;
        }
        self.misses.fetch_add(1, Ordering::Relaxed);
        let entry = self.entries.entry(key.clone()).or_insert_with_if(load(), |found| !fresh(found)).await;
        if entry.is_fresh() {
            self.recheck(entry.key(), entry.value(), fresh).await;
        } else if !fresh(entry.value()) {
            // The value comes from another caller's load, which may have started before a change that this caller knows
            // of. A load that is found now has started since.
            return self
                .entries
                .entry(key)
                .or_insert_with_if(load(), |found| !fresh(found))
                .await
                .into_value();
        }
        entry.into_value()
    }

    /// Removes a value that is already stale. A load that started before a kill can end after [`Cache::clear`], which
    /// then did not see its value: killed content would remain in memory, although no reader would receive it.
    async fn recheck(&self, key: &K, value: &V, fresh: impl Fn(&V) -> bool) {
        // This fence pairs with the one in `clear`: either `clear` sees the insertion, or the check below finds the
        // value stale.
        fence(Ordering::SeqCst);
        if !fresh(value) {
            self.entries.invalidate(key).await;
        }
    }

    /// Drops all entries. Afterwards a value that is no longer fresh does not enter the cache, but a fresh one does. It
    /// must not be called within a runtime.
    pub(crate) fn clear(&self) {
        fence(Ordering::SeqCst);
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.expect("a runtime without drivers needs no system resources").block_on(async {
            for (key, _) in &self.entries {
                self.entries.invalidate(&*key).await;
            }
            self.entries.run_pending_tasks().await;
        });
    }

    /// Drops entries, in no particular order, until the cache holds at most half of its bound.
    pub(crate) async fn shrink(&self) {
        self.entries.run_pending_tasks().await;
        let mut excess = self.entries.weighted_size().saturating_sub(self.max_bytes / 2);
        for (key, value) in &self.entries {
            if excess == 0 {
                break;
            }
            excess = excess.saturating_sub(weight(&*key, &value) as u64);
            self.entries.invalidate(&*key).await;
        }
        self.entries.run_pending_tasks().await;
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            evictions: self.evictions.load(Ordering::Relaxed),
            entries: self.entries.entry_count(),
            bytes: self.entries.weighted_size(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    impl Weigh for Arc<(u64, Vec<u8>)> {
        fn weight(&self) -> usize {
            self.1.len()
        }
    }

    impl Weigh for u32 {
        fn weight(&self) -> usize {
            0
        }
    }

    impl Weigh for Vec<u8> {
        fn weight(&self) -> usize {
            self.len()
        }
    }

    fn value(version: u64) -> Arc<(u64, Vec<u8>)> {
        Arc::new((version, vec![0; 1_000]))
    }

    #[tokio::test]
    async fn concurrent_misses_share_one_load() {
        let cache: Cache<u32, Arc<(u64, Vec<u8>)>> = Cache::new(1 << 20);
        let loads = AtomicU64::new(0);
        let get = || {
            cache.get(
                1,
                |_| true,
                || async {
                    loads.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    value(1)
                },
            )
        };
        futures_util::future::join_all((0..100).map(|_| get())).await;
        assert_eq!(loads.into_inner(), 1);
    }

    #[tokio::test]
    async fn a_stale_value_is_loaded_again() {
        let cache: Cache<u32, Arc<(u64, Vec<u8>)>> = Cache::new(1 << 20);
        cache.get(1, |found| found.0 >= 1, || async { value(1) }).await;
        let found = cache.get(1, |found| found.0 >= 2, || async { value(2) }).await;
        assert_eq!(found.0, 2);
        let found = cache.get(1, |found| found.0 >= 2, || async { value(3) }).await;
        assert_eq!(found.0, 2);
    }

    #[tokio::test]
    async fn the_cache_stays_within_its_bound() {
        let cache: Cache<u32, Arc<(u64, Vec<u8>)>> = Cache::new(100_000);
        for key in 0..1_000 {
            cache.get(key, |_| true, || async { value(1) }).await;
        }
        cache.entries.run_pending_tasks().await;
        assert!(cache.counts().bytes <= 100_000 && cache.counts().bytes > 50_000, "{}", cache.counts().bytes);
    }

    #[tokio::test]
    async fn a_cache_that_shrinks_keeps_half_of_its_bound() {
        let cache: Cache<u32, Arc<(u64, Vec<u8>)>> = Cache::new(100_000);
        for key in 0..1_000 {
            cache.get(key, |_| true, || async { value(1) }).await;
        }
        cache.shrink().await;
        let bytes = cache.counts().bytes;
        assert!((40_000..=50_000).contains(&bytes), "{bytes}");
        cache.shrink().await;
        assert_eq!(cache.counts().bytes, bytes, "a cache that is small enough keeps its entries");
    }

    #[tokio::test]
    async fn a_load_that_spans_a_kill_leaves_nothing_in_the_cache() {
        let cache = Arc::new(Cache::<u32, Arc<(u64, Vec<u8>)>>::new(1 << 20));
        let now = AtomicU64::new(1);
        let fresh = |found: &Arc<(u64, Vec<u8>)>| found.0 >= now.load(Ordering::Relaxed);
        cache.insert(1, value(1), fresh).await;
        let held = tokio::sync::Semaphore::new(0);
        let mut load = Box::pin(cache.get(2, fresh, || async {
            held.acquire().await.unwrap().forget();
            value(1)
        }));
        assert!(futures_util::poll!(&mut load).is_pending());
        now.store(2, Ordering::Relaxed);
        // A caller after the kill waits for the load too, but does not receive its value.
        let mut after = Box::pin(cache.get(2, fresh, || async { value(2) }));
        assert!(futures_util::poll!(&mut after).is_pending());
        let emptied = cache.clone();
        std::thread::spawn(move || emptied.clear()).join().unwrap();
        assert_eq!(cache.entries.iter().count(), 0);

        held.add_permits(1);
        assert_eq!(load.await.0, 1);
        assert_eq!(after.await.0, 2);
        cache.entries.invalidate(&2).await;
        cache.insert(3, value(1), fresh).await;
        cache.entries.run_pending_tasks().await;
        assert_eq!((cache.entries.iter().count(), cache.counts().bytes), (0, 0));
    }

    #[tokio::test]
    async fn long_keys_count_as_much_as_long_values() {
        let cache: Cache<Vec<u8>, Arc<(u64, Vec<u8>)>> = Cache::new(100_000);
        for key in 0..100 {
            cache.get(vec![key; 10_000], |_| true, || async { Arc::new((1, Vec::new())) }).await;
        }
        cache.entries.run_pending_tasks().await;
        let held: usize = cache.entries.iter().map(|(key, _)| key.len()).sum();
        assert!((50_000..=100_000).contains(&held), "{held}");
    }
}
