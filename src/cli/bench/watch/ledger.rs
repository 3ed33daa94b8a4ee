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

use crate::cli::bench::{
    check::Fault,
    report::{histogram, micros},
};

/// A change, as one follower received it.
#[derive(Debug)]
pub(super) struct Heard<'a> {
    pub(super) revision: i64,
    pub(super) name: &'a str,
    /// Hash of the content.
    pub(super) hash: u64,
    pub(super) bytes: u64,
    /// Whether the change reports only that the name no longer matches; not every follower must receive that.
    pub(super) leaves: bool,
    /// Time since the change was due, or was made.
    pub(super) latency: Duration,
}

/// The account of all changes received.
#[derive(Debug)]
pub(super) struct Ledger {
    followers: Vec<Follower>,
    changes: Vec<Change>,
    places: HashMap<i64, usize>,
    names: HashMap<String, Vec<usize>>,
    /// The newest revision that a follower has received, or up to which it has received that there is no further
    /// change.
    reached: i64,
    /// Only newer changes count; `None` before the measurement.
    after: Option<i64>,
    /// Newer changes do not count.
    until: i64,
    pub(super) counts: Counts,
    /// Delivery latency, one sample per change and follower.
    pub(super) each: Histogram<u64>,
    /// Delivery latency of each change to the last follower that received it.
    pub(super) last: Histogram<u64>,
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
    pub(super) twice: u64,
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
    told: Bits,
    newest: i64,
    deliveries: u64,
    waited: Duration,
}

#[derive(Debug)]
struct Change {
    revision: i64,
    told: usize,
    slowest: Duration,
    /// Hash of the content that the first follower received.
    hash: Option<u64>,
    leaves: bool,
}

impl Default for Ledger {
    /// Returns a ledger without followers.
    fn default() -> Ledger {
        Ledger {
            followers: Vec::new(),
            changes: Vec::new(),
            places: HashMap::new(),
            names: HashMap::new(),
            reached: 0,
            after: None,
            until: i64::MAX,
            counts: Counts::default(),
            each: histogram(),
            last: histogram(),
        }
    }
}

impl Ledger {
    pub(super) fn new(followers: usize) -> Ledger {
        let followers = (0..followers).map(|_| Follower::default()).collect();
        Ledger { followers, ..Ledger::default() }
    }

    /// Records that a follower has received everything up to this revision that it receives at all.
    pub(super) fn reach(&mut self, revision: i64) {
        self.reached = self.reached.max(revision);
    }

    /// Starts the measurement: all followers have caught up. Changes that any of them received before do not count.
    pub(super) fn begin(&mut self) {
        self.after = Some(self.reached);
        self.counts = Counts::default();
    }

    /// Ends the measurement. Changes that no follower has received yet do not count.
    pub(super) fn end(&mut self) {
        self.until = self.reached;
    }

    /// Records a change that all followers must receive, whether or not one has received it already.
    pub(super) fn expect(&mut self, revision: i64, name: &str) {
        self.place(revision, name);
    }

    /// Records a change that a follower received. Returns whether the follower is the first to receive it.
    pub(super) fn hear(&mut self, follower: usize, heard: &Heard<'_>) -> bool {
        if self.after.is_none_or(|after| heard.revision <= after) || heard.revision > self.until {
            return false;
        }
        let place = self.place(heard.revision, heard.name);
        let all = self.followers.len();
        let (follower, change) = (&mut self.followers[follower], &mut self.changes[place]);
        if !follower.told.insert(place) {
            self.counts.twice += 1;
            return false;
        }
        self.counts.out_of_order += u64::from(heard.revision < follower.newest);
        follower.newest = follower.newest.max(heard.revision);
        follower.deliveries += 1;
        follower.waited += heard.latency;
        self.counts.deliveries += 1;
        self.counts.bytes += heard.bytes;
        self.each.saturating_record(micros(heard.latency));
        change.told += 1;
        change.leaves |= heard.leaves;
        change.slowest = change.slowest.max(heard.latency);
        if change.told == all {
            self.last.saturating_record(micros(change.slowest));
        }
        let first = change.hash.is_none();
        if *change.hash.get_or_insert(heard.hash) != heard.hash {
            self.wrong(Fault::Content);
        }
        first
    }

    /// Counts a change that is wrong.
    pub(super) fn wrong(&mut self, fault: Fault) {
        *self.counts.wrong.entry(fault.name()).or_default() += 1;
    }

    /// Returns the number of changes that all followers are expected to receive.
    pub(super) fn changes(&self) -> usize {
        self.changes.len()
    }

    /// Returns how often a follower has not received a change. A follower that has received a later state of the name
    /// has lost nothing: a feed delivers states.
    pub(super) fn lost(&self) -> u64 {
        self.names.values().map(|places| self.lost_of(places)).sum()
    }

    /// Returns the mean latencies of the followers.
    pub(super) fn means(&self) -> Histogram<u64> {
        let mut means = histogram();
        for follower in self.followers.iter().filter(|follower| follower.deliveries > 0) {
            means.saturating_record(micros(follower.waited) / follower.deliveries);
        }
        means
    }

    /// Returns how often a follower has not received a change of one name.
    fn lost_of(&self, places: &[usize]) -> u64 {
        let expected = places.iter().map(|place| (*place, &self.changes[*place]));
        let incomplete = expected.filter(|(_, change)| change.told < self.followers.len() && !change.leaves);
        let lost = incomplete.map(|(place, change)| {
            let later = |other: &usize| *other == place || self.changes[*other].revision > change.revision;
            let told =
                |follower: &Follower| places.iter().any(|other| later(other) && follower.told.has(*other));
            self.followers.iter().filter(|follower| !told(follower)).count() as u64
        });
        lost.sum()
    }

    fn place(&mut self, revision: i64, name: &str) -> usize {
        let next = self.changes.len();
        let place = *self.places.entry(revision).or_insert(next);
        if place == next {
            self.changes.push(Change {
                revision,
                told: 0,
                slowest: Duration::ZERO,
                hash: None,
                leaves: false,
            });
            self.names.entry(name.to_owned()).or_default().push(place);
        }
        place
    }
}

/// A set of small numbers.
#[derive(Debug, Default)]
struct Bits(Vec<u64>);

impl Bits {
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

    fn heard(revision: i64, name: &str) -> Heard<'_> {
        Heard { revision, name, hash: 1, bytes: 10, leaves: false, latency: MS }
    }

    /// Returns a ledger whose measurement starts after revision 5.
    fn ledger(followers: usize) -> Ledger {
        let mut ledger = Ledger::new(followers);
        ledger.reach(5);
        ledger.begin();
        ledger
    }

    #[test]
    fn what_each_is_told_once_and_in_order_is_faultless() {
        let mut ledger = ledger(2);
        assert!(ledger.hear(0, &heard(6, "a")));
        assert!(!ledger.hear(1, &heard(6, "a")));
        assert!(ledger.hear(1, &heard(7, "b")));
        assert_eq!(ledger.lost(), 1, "it is under way");
        assert!(!ledger.hear(0, &heard(7, "b")));
        let Counts { deliveries, bytes, twice, out_of_order, wrong, .. } = &ledger.counts;
        assert_eq!((deliveries, bytes, twice, out_of_order, wrong.len()), (&4, &40, &0, &0, 0));
        assert_eq!((ledger.lost(), ledger.changes()), (0, 2));
    }

    #[test]
    fn what_was_published_and_nobody_was_told_of_is_lost_for_all() {
        let mut ledger = ledger(3);
        ledger.expect(6, "a");
        assert_eq!(ledger.lost(), 3);
        ledger.hear(1, &heard(6, "a"));
        assert_eq!((ledger.lost(), ledger.changes()), (2, 1));
    }

    #[test]
    fn an_earlier_state_of_a_name_is_not_lost_but_a_later_one_is() {
        let mut ledger = ledger(2);
        ledger.hear(0, &heard(6, "a"));
        ledger.hear(0, &heard(7, "b"));
        ledger.hear(0, &heard(8, "a"));
        ledger.hear(1, &heard(7, "b"));
        ledger.hear(1, &heard(8, "a"));
        assert_eq!(ledger.lost(), 0);
        ledger.hear(0, &heard(9, "a"));
        assert_eq!(ledger.lost(), 1);
    }

    #[test]
    fn of_what_left_not_everybody_needs_to_be_told() {
        let mut ledger = ledger(2);
        ledger.hear(0, &Heard { leaves: true, ..heard(6, "a") });
        assert_eq!(ledger.lost(), 0);
    }

    #[test]
    fn what_comes_twice_or_out_of_order_or_differs_is_counted() {
        let mut ledger = ledger(2);
        for revision in [7, 7, 6] {
            ledger.hear(0, &heard(revision, "a"));
        }
        ledger.hear(1, &Heard { hash: 2, ..heard(6, "a") });
        let Counts { deliveries, twice, out_of_order, wrong, .. } = &ledger.counts;
        assert_eq!((deliveries, twice, out_of_order), (&3, &1, &1));
        assert_eq!(wrong.get("content_differs_at_same_revision"), Some(&1));
    }

    #[test]
    fn a_late_follower_shows_among_all_and_alone_among_the_last() {
        let mut ledger = ledger(3);
        for (follower, latency) in [(0, MS), (2, 40 * MS), (1, 2 * MS)] {
            ledger.hear(follower, &Heard { latency, ..heard(6, "a") });
        }
        ledger.hear(0, &heard(7, "b"));
        assert_eq!((ledger.each.len(), ledger.last.len()), (4, 1), "7 has not reached its last follower");
        let about_40_ms = 39_900..=40_100;
        assert!(about_40_ms.contains(&ledger.last.max()) && about_40_ms.contains(&ledger.each.max()));
        assert!(about_40_ms.contains(&ledger.means().max()));
    }

    #[test]
    fn what_came_before_the_begin_or_after_the_end_does_not_count() {
        let mut early = Ledger::new(2);
        early.hear(0, &heard(6, "a"));
        early.reach(6);
        early.begin();
        early.hear(1, &heard(6, "a"));
        assert_eq!((early.changes(), early.lost()), (0, 0));
        early.hear(0, &heard(7, "a"));
        early.reach(7);
        early.end();
        early.hear(1, &heard(7, "a"));
        early.hear(1, &heard(8, "a"));
        assert_eq!((early.changes(), early.lost(), early.counts.deliveries), (1, 0, 2));
    }
}
