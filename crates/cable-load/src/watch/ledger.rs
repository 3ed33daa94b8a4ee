//! The account of the changes that followers receive: each follower must receive every change once, in order, and the
//! same as the others.
//!
//! A revision identifies a change. Every follower is expected to receive a change as soon as it is known to have been
//! published, or one follower has received it. Changes that prove nothing are left out: those received before all
//! followers had caught up, and those after the end.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use hdrhistogram::Histogram;

use crate::{
    check::Fault,
    report::{histogram, micros},
};

/// A change, as one follower received it.
#[derive(Debug)]
pub(super) struct ReceivedChange<'a> {
    pub(super) revision: i64,
    pub(super) name: &'a str,
    /// Hash of the content.
    pub(super) hash: u64,
    pub(super) bytes: u64,
    /// Whether the change reports only that the name no longer matches; not every follower must receive that.
    pub(super) is_departure: bool,
    /// Time since the change was due, or was made.
    pub(super) latency: Duration,
}

/// The account of all changes received.
#[derive(Debug)]
pub(super) struct Ledger {
    followers: Vec<Follower>,
    changes: Vec<Change>,
    indices: HashMap<i64, usize>,
    names: HashMap<String, Vec<usize>>,
    /// The newest revision that a follower has received, or up to which it has received that there is no further
    /// change.
    latest_revision: i64,
    /// Only newer changes count; `None` before the measurement.
    after: Option<i64>,
    /// Newer changes do not count.
    until: i64,
    pub(super) counts: Counts,
    /// Delivery latency, one sample per change and follower.
    pub(super) delivery_latency: Histogram<u64>,
    /// Delivery latency of each change to the last follower that received it.
    pub(super) last_delivery_latency: Histogram<u64>,
}

/// Counts of messages, changes and faults.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Messages of the service that had changes.
    pub(super) messages: u64,
    /// Changes received, one per change and follower.
    pub(super) deliveries: u64,
    /// Bytes of the changes received.
    pub(super) bytes: u64,
    pub(super) duplicates: u64,
    pub(super) out_of_order: u64,
    /// Wrong changes, by fault.
    pub(super) wrong: BTreeMap<&'static str, u64>,
    /// Times that a feed resumed over another stream.
    pub(super) reconnects: u64,
    /// Streams that broke or could not be opened, by reason.
    pub(super) broken: BTreeMap<String, u64>,
    /// Feeds that could not continue, by reason.
    pub(super) ended: BTreeMap<String, u64>,
}

#[derive(Debug, Default)]
struct Follower {
    received: IndexSet,
    newest: i64,
    deliveries: u64,
    total_latency: Duration,
}

#[derive(Debug)]
struct Change {
    revision: i64,
    received_by: usize,
    slowest: Duration,
    /// Hash of the content that the first follower received.
    hash: Option<u64>,
    is_departure: bool,
}

impl Default for Ledger {
    /// Returns a ledger without followers.
    fn default() -> Ledger {
        Ledger {
            followers: Vec::new(),
            changes: Vec::new(),
            indices: HashMap::new(),
            names: HashMap::new(),
            latest_revision: 0,
            after: None,
            until: i64::MAX,
            counts: Counts::default(),
            delivery_latency: histogram(),
            last_delivery_latency: histogram(),
        }
    }
}

impl Ledger {
    pub(super) fn new(followers: usize) -> Ledger {
        let followers = (0..followers).map(|_| Follower::default()).collect();
        Ledger { followers, ..Ledger::default() }
    }

    /// Records that a follower has received everything up to this revision that it receives at all.
    pub(super) fn advance(&mut self, revision: i64) {
        self.latest_revision = self.latest_revision.max(revision);
    }

    /// Starts the measurement: all followers have caught up. Changes that any of them received before do not count.
    pub(super) fn begin(&mut self) {
        self.after = Some(self.latest_revision);
        self.counts = Counts::default();
    }

    /// Ends the measurement. Changes that no follower has received yet do not count.
    pub(super) fn end(&mut self) {
        self.until = self.latest_revision;
    }

    /// Records a change that all followers must receive, whether or not one has received it already.
    pub(super) fn expect(&mut self, revision: i64, name: &str) {
        self.index(revision, name);
    }

    /// Records a change that a follower received. Returns whether the follower is the first to receive it.
    pub(super) fn record(&mut self, follower: usize, received: &ReceivedChange<'_>) -> bool {
        if self.after.is_none_or(|after| received.revision <= after) || received.revision > self.until {
            return false;
        }
        let index = self.index(received.revision, received.name);
        let all = self.followers.len();
        let (follower, change) = (&mut self.followers[follower], &mut self.changes[index]);
        if !follower.received.insert(index) {
            self.counts.duplicates += 1;
            return false;
        }
        self.counts.out_of_order += u64::from(received.revision < follower.newest);
        follower.newest = follower.newest.max(received.revision);
        follower.deliveries += 1;
        follower.total_latency += received.latency;
        self.counts.deliveries += 1;
        self.counts.bytes += received.bytes;
        self.delivery_latency.saturating_record(micros(received.latency));
        change.received_by += 1;
        change.is_departure |= received.is_departure;
        change.slowest = change.slowest.max(received.latency);
        if change.received_by == all {
            self.last_delivery_latency.saturating_record(micros(change.slowest));
        }
        let first = change.hash.is_none();
        if *change.hash.get_or_insert(received.hash) != received.hash {
            self.record_fault(Fault::Content);
        }
        first
    }

    /// Counts a change that is wrong.
    pub(super) fn record_fault(&mut self, fault: Fault) {
        *self.counts.wrong.entry(fault.name()).or_default() += 1;
    }

    /// Returns the number of changes that all followers are expected to receive.
    pub(super) fn changes(&self) -> usize {
        self.changes.len()
    }

    /// Returns how often a follower has not received a change. A follower that has received a later state of the name
    /// has lost nothing: a feed delivers states.
    pub(super) fn lost(&self) -> u64 {
        self.names.values().map(|indices| self.lost_of_name(indices)).sum()
    }

    /// Returns the mean latencies of the followers.
    pub(super) fn mean_latencies(&self) -> Histogram<u64> {
        let mut means = histogram();
        for follower in self.followers.iter().filter(|follower| follower.deliveries > 0) {
            means.saturating_record(micros(follower.total_latency) / follower.deliveries);
        }
        means
    }

    /// Returns how often a follower has not received a change of one name.
    fn lost_of_name(&self, indices: &[usize]) -> u64 {
        let expected = indices.iter().map(|index| (*index, &self.changes[*index]));
        let incomplete =
            expected.filter(|(_, change)| change.received_by < self.followers.len() && !change.is_departure);
        let lost = incomplete.map(|(index, change)| {
            let later = |other: &usize| *other == index || self.changes[*other].revision > change.revision;
            let has_received = |follower: &Follower| {
                indices.iter().any(|other| later(other) && follower.received.has(*other))
            };
            self.followers.iter().filter(|follower| !has_received(follower)).count() as u64
        });
        lost.sum()
    }

    fn index(&mut self, revision: i64, name: &str) -> usize {
        let next = self.changes.len();
        let index = *self.indices.entry(revision).or_insert(next);
        if index == next {
            self.changes.push(Change {
                revision,
                received_by: 0,
                slowest: Duration::ZERO,
                hash: None,
                is_departure: false,
            });
            self.names.entry(name.to_owned()).or_default().push(index);
        }
        index
    }
}

/// A set of small numbers.
#[derive(Debug, Default)]
struct IndexSet(Vec<u64>);

impl IndexSet {
    fn has(&self, number: usize) -> bool {
        self.0.get(number / 64).is_some_and(|word| word & (1 << (number % 64)) != 0)
    }

    /// Inserts a number. Returns false if the set has it already.
    fn insert(&mut self, number: usize) -> bool {
        let (word, bit) = (number / 64, 1 << (number % 64));
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        let new = self.0[word] & bit == 0;
        self.0[word] |= bit;
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn received(revision: i64, name: &str) -> ReceivedChange<'_> {
        ReceivedChange { revision, name, hash: 1, bytes: 10, is_departure: false, latency: MS }
    }

    /// Returns a ledger whose measurement starts after revision 5.
    fn ledger(followers: usize) -> Ledger {
        let mut ledger = Ledger::new(followers);
        ledger.advance(5);
        ledger.begin();
        ledger
    }

    #[test]
    fn single_ordered_deliveries_have_no_faults() {
        let mut ledger = ledger(2);
        assert!(ledger.record(0, &received(6, "a")));
        assert!(!ledger.record(1, &received(6, "a")));
        assert!(ledger.record(1, &received(7, "b")));
        assert_eq!(ledger.lost(), 1, "revision 7 is still in flight");
        assert!(!ledger.record(0, &received(7, "b")));
        let Counts { deliveries, bytes, duplicates, out_of_order, wrong, .. } = &ledger.counts;
        assert_eq!((deliveries, bytes, duplicates, out_of_order, wrong.len()), (&4, &40, &0, &0, 0));
        assert_eq!((ledger.lost(), ledger.changes()), (0, 2));
    }

    #[test]
    fn an_undelivered_publish_is_lost_for_all_followers() {
        let mut ledger = ledger(3);
        ledger.expect(6, "a");
        assert_eq!(ledger.lost(), 3);
        ledger.record(1, &received(6, "a"));
        assert_eq!((ledger.lost(), ledger.changes()), (2, 1));
    }

    #[test]
    fn only_the_latest_state_of_a_name_can_be_lost() {
        let mut ledger = ledger(2);
        ledger.record(0, &received(6, "a"));
        ledger.record(0, &received(7, "b"));
        ledger.record(0, &received(8, "a"));
        ledger.record(1, &received(7, "b"));
        ledger.record(1, &received(8, "a"));
        assert_eq!(ledger.lost(), 0);
        ledger.record(0, &received(9, "a"));
        assert_eq!(ledger.lost(), 1);
    }

    #[test]
    fn departures_are_never_lost() {
        let mut ledger = ledger(2);
        ledger.record(0, &ReceivedChange { is_departure: true, ..received(6, "a") });
        assert_eq!(ledger.lost(), 0);
    }

    #[test]
    fn repeated_reordered_and_differing_changes_are_counted() {
        let mut ledger = ledger(2);
        for revision in [7, 7, 6] {
            ledger.record(0, &received(revision, "a"));
        }
        ledger.record(1, &ReceivedChange { hash: 2, ..received(6, "a") });
        let Counts { deliveries, duplicates, out_of_order, wrong, .. } = &ledger.counts;
        assert_eq!((deliveries, duplicates, out_of_order), (&3, &1, &1));
        assert_eq!(wrong.get("content_differs_at_same_revision"), Some(&1));
    }

    #[test]
    fn a_slow_follower_shows_in_both_histograms() {
        let mut ledger = ledger(3);
        for (follower, latency) in [(0, MS), (2, 40 * MS), (1, 2 * MS)] {
            ledger.record(follower, &ReceivedChange { latency, ..received(6, "a") });
        }
        ledger.record(0, &received(7, "b"));
        assert_eq!(
            (ledger.delivery_latency.len(), ledger.last_delivery_latency.len()),
            (4, 1),
            "7 has not reached its last follower"
        );
        let about_40_ms = 39_900..=40_100;
        assert!(
            about_40_ms.contains(&ledger.last_delivery_latency.max())
                && about_40_ms.contains(&ledger.delivery_latency.max())
        );
        assert!(about_40_ms.contains(&ledger.mean_latencies().max()));
    }

    #[test]
    fn changes_outside_the_measurement_do_not_count() {
        let mut early = Ledger::new(2);
        early.record(0, &received(6, "a"));
        early.advance(6);
        early.begin();
        early.record(1, &received(6, "a"));
        assert_eq!((early.changes(), early.lost()), (0, 0));
        early.record(0, &received(7, "a"));
        early.advance(7);
        early.end();
        early.record(1, &received(7, "a"));
        early.record(1, &received(8, "a"));
        assert_eq!((early.changes(), early.lost(), early.counts.deliveries), (1, 0, 2));
    }
}
