//! The records that are superseded while a scan sums the records of a store. With them, a scan that takes minutes can
//! be compared with the digest of the head, although records change meanwhile.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::Error;
use crate::{
    digest::{Hash, SetDigest},
    model::Revision,
};

/// The maximum number of records that a ledger notes before it is read: 3 MB. A scan that reads it too late fails.
const MAX_NOTED: usize = 1 << 16;

/// Content that readers saw until a revision.
#[derive(Debug, Clone, Copy)]
pub(super) struct Superseded {
    pub(super) content_hash: Hash,
    /// The revision of the record that held the content.
    pub(super) revision: Revision,
    /// The revision that replaced or removed the content.
    pub(super) by: Revision,
}

/// The ledgers of all running scans.
#[derive(Debug, Default)]
pub(super) struct Ledgers(Mutex<Registry>);

#[derive(Debug, Default)]
struct Registry {
    running: Vec<Weak<Ledger>>,
    /// The head of the last transaction whose superseded records are noted. It is published a moment later.
    head: Revision,
}

#[derive(Debug)]
struct Ledger(Mutex<LedgerState>);

#[derive(Debug)]
struct LedgerState {
    superseded: Vec<Superseded>,
    /// The head up to which all superseded records are noted.
    head: Revision,
}

impl Ledgers {
    /// Starts a sum. Its scan must not have begun. `published` is the published head, or an earlier one.
    ///
    /// The records that transactions before this call superseded need not be noted: no scan that begins now finds them.
    pub(super) fn start_tally(&self, published: Revision) -> Tally {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let head = all.head.max(published);
        let ledger = Arc::new(Ledger(Mutex::new(LedgerState { superseded: Vec::new(), head })));
        all.running.retain(|ledger| ledger.strong_count() > 0);
        all.running.push(Arc::downgrade(&ledger));
        Tally { ledger, spans: Vec::new(), records: 0, digest: SetDigest::default() }
    }

    /// Notes the records that a transaction superseded, after it is committed and before its head is published.
    pub(super) fn note(&self, superseded: &[Superseded], head: Revision) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.head = head;
        for ledger in all.running.iter().filter_map(Weak::upgrade) {
            let mut noted = ledger.0.lock().unwrap_or_else(PoisonError::into_inner);
            // One more than the maximum shows that some are missing.
            let free = (MAX_NOTED + 1).saturating_sub(noted.superseded.len());
            noted.superseded.extend(superseded.iter().take(free));
            noted.head = head;
        }
    }
}

/// The sum of a scan in the order of revisions: the records found that readers see, less those that have been
/// superseded since they were found.
#[derive(Debug)]
pub(crate) struct Tally {
    ledger: Arc<Ledger>,
    /// The ranges that were scanned: the last revision of each, and the head at which it was read.
    spans: Vec<(Revision, Revision)>,
    records: i64,
    digest: SetDigest,
}

impl Tally {
    /// Adds the content of the records up to the revision `last`, in their state at the head `head`.
    ///
    /// # Errors
    /// Fails if more records were superseded since the last call than the ledger notes.
    pub(crate) fn add(&mut self, contents: &[Hash], last: Revision, head: Revision) -> Result<(), Error> {
        self.records += contents.len() as i64;
        contents.iter().for_each(|hash| self.digest.add(hash));
        self.spans.push((last, head));
        self.settle(head).map(drop)
    }

    /// Subtracts the records superseded up to a head. Returns the head up to which all superseded records are noted.
    fn settle(&mut self, head: Revision) -> Result<Revision, Error> {
        let mut noted = self.ledger.0.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.superseded.len() > MAX_NOTED {
            return Err(Error::Overloaded);
        }
        let all = std::mem::take(&mut noted.superseded);
        let (settled, later): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|superseded| superseded.by <= head);
        noted.superseded = later;
        let noted_up_to = noted.head;
        drop(noted);
        for Superseded { content_hash, revision, by } in settled {
            let span = self.spans.partition_point(|(last, _)| *last < revision);
            // A record that was superseded before its range was read was not found there.
            if self.spans.get(span).is_some_and(|(_, read_at)| by > *read_at) {
                self.digest.remove(&content_hash);
                self.records -= 1;
            }
        }
        Ok(noted_up_to)
    }

    /// Returns the number and the digest of the records found that exist at a head, or `None` if the store has not
    /// published that head yet.
    ///
    /// # Errors
    /// Fails like [`Tally::add`].
    pub(crate) fn at(&mut self, head: Revision) -> Result<Option<(i64, SetDigest)>, Error> {
        let is_settled = self.settle(head)? >= head;
        Ok(is_settled.then_some((self.records, self.digest)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn superseded(n: u8, revision: Revision, by: Revision) -> Superseded {
        Superseded { content_hash: [n; 32], revision, by }
    }

    fn sum(contents: &[u8]) -> (i64, SetDigest) {
        let mut digest = SetDigest::default();
        contents.iter().for_each(|n| digest.add(&[*n; 32]));
        (contents.len() as i64, digest)
    }

    #[test]
    fn a_tally_equals_the_head_despite_concurrent_writes() {
        let ledgers = Ledgers::default();
        let mut tally = ledgers.start_tally(4);
        tally.add(&[[1; 32], [2; 32]], 2, 4).unwrap();
        // 1 was found and is replaced by 5; 3 is replaced before its range is read; 2 is removed only after head 6.
        ledgers.note(&[superseded(1, 1, 5)], 5);
        ledgers.note(&[superseded(3, 3, 6)], 6);
        tally.add(&[[4; 32], [5; 32], [6; 32]], 6, 6).unwrap();
        assert_eq!(tally.at(7).unwrap(), None);
        ledgers.note(&[superseded(2, 2, 7)], 7);
        assert_eq!(tally.at(6).unwrap(), Some(sum(&[2, 4, 5, 6])));
        assert_eq!(tally.at(7).unwrap(), Some(sum(&[4, 5, 6])));
    }

    /// A scan may start between the two steps of a transaction: its records are noted, and its head is not published.
    #[test]
    fn a_tally_that_starts_before_a_noted_head_is_published_reaches_it() {
        let ledgers = Ledgers::default();
        ledgers.note(&[superseded(1, 1, 5)], 5);
        let mut tally = ledgers.start_tally(4);
        tally.add(&[[2; 32], [5; 32]], 5, 5).unwrap();
        assert_eq!(tally.at(5).unwrap(), Some(sum(&[2, 5])));
    }

    #[test]
    fn a_full_ledger_fails_the_tally() {
        let ledgers = Ledgers::default();
        let mut tally = ledgers.start_tally(4);
        ledgers.note(&vec![superseded(1, 1, 2); MAX_NOTED], 2);
        assert!(tally.at(2).is_ok());
        ledgers.note(&vec![superseded(1, 1, 3); MAX_NOTED + 9], 3);
        assert!(matches!(tally.at(3), Err(Error::Overloaded)));
    }
}
