//! Accounts for the bytes that a node holds for its peers: responses in flight, and incomplete requests.
//!
//! Every connection counts its own bytes. Each core sums up its connections and reports to the node in coarse steps, so
//! that no call writes to memory that cores share. A connection may hold a fixed part of what the node has left
//! (dynamic thresholds, as in shared switch buffers). The more is held, the less each may add, and a connection that holds
//! little always has room for a small response. A connection whose peer reads what it receives hardly notices.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::sync::Semaphore;

use crate::config::Connections;

/// Bytes of responses that one connection may hold: more than the largest message, which has 3.5 MiB.
const MAX_RESPONSE_BYTES: usize = 4 << 20;

/// Bytes of requests that one connection may hold: two of the largest messages that are read, and 200 waiting calls.
const MAX_REQUEST_BYTES: usize = 24 << 20;

/// The divisors of what the node has left: a connection that holds something may hold this part of it.
const RESPONSE_DIVISOR: usize = 12;
const REQUEST_DIVISOR: usize = 2;

/// A connection may hold up to this many bytes while the node has anything left, and this part of the bound (a quarter)
/// is reserved for connections that hold no more. Other peers therefore get small responses, however many bytes the 512
/// connections of one peer hold.
pub(super) const SMALL_BYTES: usize = 32 << 10;
const SMALL_DIVISOR: usize = 4;

/// A core reports when its sum differs from its last report by this part of the bound.
const REPORT_DIVISOR: usize = 512;

/// The maximum number of concurrent imports of a node. Each may have three chunks of 4 MiB: one that is written,
/// one that is encoded, and one that is checked.
const MAX_IMPORTS: usize = 8;

/// The maximum number of concurrent reflection streams of a node. Each may process three schema files of 150 KB.
const MAX_REFLECTIONS: usize = 64;

/// The memory that a node may hold for its peers.
#[derive(Debug)]
pub(super) struct Memory {
    responses: Arc<Pool>,
    requests: Arc<Pool>,
    progress_timeout: Duration,
    pub(super) imports: Arc<Semaphore>,
    pub(super) reflections: Arc<Semaphore>,
    stalled: Arc<AtomicU64>,
}

impl Memory {
    pub(super) fn new(limits: &Connections) -> Memory {
        let pool = |max| Arc::new(Pool { max, held: AtomicUsize::new(0) });
        Memory {
            responses: pool(to_usize(limits.max_buffered_response_bytes)),
            requests: pool(to_usize(limits.max_buffered_request_bytes)),
            progress_timeout: limits.progress_timeout,
            imports: Arc::new(Semaphore::new(MAX_IMPORTS)),
            reflections: Arc::new(Semaphore::new(MAX_REFLECTIONS)),
            stalled: Arc::default(),
        }
    }

    /// Creates the share of a core.
    pub(super) fn for_core(&self) -> CoreMemory {
        let share = |pool: &Arc<Pool>| {
            Arc::new(Share { pool: pool.clone(), held: AtomicUsize::new(0), reported: AtomicUsize::new(0) })
        };
        let (responses, requests) = (share(&self.responses), share(&self.requests));
        let stalled = self.stalled.clone();
        CoreMemory { responses, requests, progress_timeout: self.progress_timeout, stalled }
    }

    /// Returns the number of streams and connections that were reset because their client did not read.
    pub(super) fn stalled(&self) -> u64 {
        self.stalled.load(Relaxed)
    }
}

fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// One of the node's bounds.
#[derive(Debug)]
struct Pool {
    max: usize,
    /// The sum that the cores have reported.
    held: AtomicUsize,
}

/// The memory that the connections of one core hold.
#[derive(Debug, Clone)]
pub(super) struct CoreMemory {
    responses: Arc<Share>,
    requests: Arc<Share>,
    /// How long a response may wait without progress: no byte of it is taken.
    pub(super) progress_timeout: Duration,
    /// The streams and connections that were reset because their client did not read.
    pub(super) stalled: Arc<AtomicU64>,
}

impl CoreMemory {
    pub(super) fn responses(&self) -> Account {
        Account::new(self.responses.clone(), MAX_RESPONSE_BYTES, RESPONSE_DIVISOR)
    }

    pub(super) fn requests(&self) -> Account {
        Account::new(self.requests.clone(), MAX_REQUEST_BYTES, REQUEST_DIVISOR)
    }
}

#[derive(Debug)]
struct Share {
    pool: Arc<Pool>,
    held: AtomicUsize,
    reported: AtomicUsize,
}

impl Share {
    fn free(&self) -> usize {
        self.pool.max.saturating_sub(self.pool.held.load(Relaxed))
    }

    fn add(&self, bytes: usize) {
        let held = self.held.fetch_add(bytes, Relaxed) + bytes;
        if held.saturating_sub(self.reported.load(Relaxed)) > self.pool.max / REPORT_DIVISOR {
            self.report(held);
        }
    }

    fn remove(&self, bytes: usize) {
        let held = self.held.fetch_sub(bytes, Relaxed) - bytes;
        if self.reported.load(Relaxed).saturating_sub(held) > self.pool.max / REPORT_DIVISOR {
            self.report(held);
        }
    }

    #[cold]
    fn report(&self, held: usize) {
        let before = self.reported.swap(held, Relaxed);
        if held > before {
            self.pool.held.fetch_add(held - before, Relaxed);
        } else {
            self.pool.held.fetch_sub(before - held, Relaxed);
        }
    }
}

/// The bytes that one connection holds. Bytes that remain when it is dropped no longer count.
#[derive(Debug)]
pub(super) struct Account {
    share: Arc<Share>,
    held: AtomicUsize,
    max: usize,
    divisor: usize,
}

impl Account {
    fn new(share: Arc<Share>, max: usize, divisor: usize) -> Account {
        Account { share, held: AtomicUsize::new(0), max, divisor }
    }

    pub(super) fn held(&self) -> usize {
        self.held.load(Relaxed)
    }

    /// Counts bytes if there is room for them beside the room that is held back for others. A connection that holds nothing may take
    /// up to half of what the node has left, so that the largest response can be delivered. Nothing is held back from a
    /// few bytes, nor more than there could be.
    pub(super) fn try_hold(&self, bytes: usize, held_back: usize) -> bool {
        let (held, free) = (self.held(), self.share.free());
        let room = if held + bytes <= SMALL_BYTES {
            held + free
        } else {
            let free = free.saturating_sub(self.share.pool.max / SMALL_DIVISOR);
            let room = if held == 0 { free / 2 } else { (free / self.divisor).min(self.max) };
            if bytes > SMALL_BYTES && held_back <= room { room - held_back } else { room }
        };
        if held + bytes > room {
            return false;
        }
        self.hold(bytes);
        true
    }

    /// Counts bytes that are already in memory.
    pub(super) fn hold(&self, bytes: usize) {
        self.held.fetch_add(bytes, Relaxed);
        self.share.add(bytes);
    }

    pub(super) fn release(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Relaxed);
        self.share.remove(bytes);
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.share.remove(self.held());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(bytes: u64) -> Memory {
        let limits = Connections {
            max_buffered_response_bytes: bytes,
            max_buffered_request_bytes: bytes,
            ..Connections::default()
        };
        Memory::new(&limits)
    }

    /// Fills an account in small steps until there is no more room.
    fn fill(account: &Account) -> usize {
        while account.try_hold(10_000, 0) {}
        account.held()
    }

    #[test]
    fn a_connection_holds_at_most_its_own_bound() {
        let memory = memory(1 << 30);
        let (responses, requests) = (memory.for_core().responses(), memory.for_core().requests());
        assert!(responses.try_hold(7 << 19, 0), "the largest message");
        assert!(!responses.try_hold(1 << 20, 0));
        assert!((MAX_RESPONSE_BYTES - 10_000..=MAX_RESPONSE_BYTES).contains(&fill(&responses)));
        assert!((MAX_REQUEST_BYTES - 10_000..=MAX_REQUEST_BYTES).contains(&fill(&requests)));
        responses.release(1 << 20);
        assert!(responses.try_hold(1 << 20, 0));
    }

    #[test]
    fn connections_that_read_nothing_leave_room_for_others() {
        let memory = memory(128 << 20);
        let cores = [memory.for_core(), memory.for_core()];
        let greedy: Vec<_> = (0..512).map(|at| cores[at % 2].responses()).collect();
        let held: usize = greedy.iter().map(fill).sum();
        assert!(held <= 128 << 20, "{held}");
        let others: Vec<_> = (0..400).map(|at| cores[at % 2].responses()).collect();
        assert!(others.iter().all(|other| other.try_hold(30_000, 0)), "small responses still find room");
        assert!(!others[0].try_hold(1 << 20, 0));
        drop(greedy);
        assert!(others[0].try_hold(1 << 20, 0));
    }

    #[test]
    fn large_responses_never_use_up_the_memory_of_the_node() {
        let memory = memory(128 << 20);
        let core = memory.for_core();
        let peers: Vec<_> = (0..512).map(|_| core.responses()).collect();
        let taken = peers.iter().filter(|peer| peer.try_hold(7 << 19, 0)).count();
        assert!((20..28).contains(&taken), "{taken}");
        assert!(core.responses().try_hold(SMALL_BYTES, 0));
    }

    #[test]
    fn bytes_of_a_connection_are_released_when_it_ends() {
        let memory = memory(16 << 20);
        let core = memory.for_core();
        for _ in 0..100 {
            let account = core.responses();
            assert!(account.try_hold(7 << 19, 0));
        }
        assert_eq!(core.responses.held.load(Relaxed), 0);
        assert!(memory.responses.held.load(Relaxed) <= (16 << 20) / REPORT_DIVISOR);
    }
}
