//! What followers are told, accounted for: each of them every change, once, in order, and the same as the others.
//!
//! A change is known by its revision. It is expected of every follower as soon as it is known to have been published, or
//! one of them was told of it. What nothing can be said about is left out: what was told before all were there, and what
//! came after the end.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use hdrhistogram::Histogram;

use crate::cli::bench::{
    check::Fault,
    report::{histogram, micros},
};

/// One change, as one follower was told of it.
#[derive(Debug)]
pub(super) struct Heard<'a> {
    pub(super) revision: i64,
    pub(super) name: &'a str,
    /// Of what it says.
    pub(super) hash: u64,
    pub(super) bytes: u64,
    /// It only says that the name no longer matches: not every follower needs to be told.
    pub(super) leaves: bool,
    /// Since it was due, or made.
    pub(super) latency: Duration,
}

/// What came of all that was told.
#[derive(Debug)]
pub(super) struct Ledger {
    followers: Vec<Follower>,
    changes: Vec<Change>,
    places: HashMap<i64, usize>,
    names: HashMap<String, Vec<usize>>,
    /// The newest revision that a follower has been told of, or has been told that there is nothing up to it.
    reached: i64,
    /// Only what is newer counts; none before the measurement.
    after: Option<i64>,
    /// What is newer does not count.
    until: i64,
    pub(super) counts: Counts,
    /// Of each change to each follower.
    pub(super) each: Histogram<u64>,
    /// Of each change to the follower that was told last.
    pub(super) last: Histogram<u64>,
}

/// Numbers of things.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Of the service, with changes.
    pub(super) messages: u64,
    /// Changes told, each to each follower.
    pub(super) deliveries: u64,
    /// Of the changes told.
    pub(super) bytes: u64,
    pub(super) twice: u64,
    pub(super) out_of_order: u64,
    /// By what is wrong.
    pub(super) wrong: BTreeMap<&'static str, u64>,
    /// How often a feed went on over another stream.
    pub(super) reconnects: u64,
    /// Streams that broke or could not be opened, by why.
    pub(super) broken: BTreeMap<String, u64>,
    /// Feeds that could not go on, by why.
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
    /// What the first follower was told.
    hash: Option<u64>,
    leaves: bool,
}

impl Default for Ledger {
    /// Without followers.
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

    /// A follower has been told all up to this revision that it is told at all.
    pub(super) fn reach(&mut self, revision: i64) {
        self.reached = self.reached.max(revision);
    }

    /// All followers are there. What anyone of them has been told of before does not count.
    pub(super) fn begin(&mut self) {
        self.after = Some(self.reached);
        self.counts = Counts::default();
    }

    /// What nobody has been told of yet does not count.
    pub(super) fn end(&mut self) {
        self.until = self.reached;
    }

    /// All are to be told of this, whether anyone has been or not.
    pub(super) fn expect(&mut self, revision: i64, name: &str) {
        self.place(revision, name);
    }

    /// A follower was told. True: it is the first that was told of this change.
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

    /// Something that was told is wrong.
    pub(super) fn wrong(&mut self, fault: Fault) {
        *self.counts.wrong.entry(fault.name()).or_default() += 1;
    }

    /// Changes that are expected of all.
    pub(super) fn changes(&self) -> usize {
        self.changes.len()
    }

    /// How often a follower has not been told of a change. One that was told of a later state of the name has lost
    /// nothing: a feed tells states.
    pub(super) fn lost(&self) -> u64 {
        self.names.values().map(|places| self.lost_of(places)).sum()
    }

    /// The mean latency of each follower.
    pub(super) fn means(&self) -> Histogram<u64> {
        let mut means = histogram();
        for follower in self.followers.iter().filter(|follower| follower.deliveries > 0) {
            means.saturating_record(micros(follower.waited) / follower.deliveries);
        }
        means
    }

    /// Of the changes of one name.
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

    /// False: it was there already.
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

    /// A measurement that begins after revision 5.
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
