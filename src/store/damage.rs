//! Damaged records, named: once in the log, and in each response that lacks them.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use crate::{
    model::{Name, Revision, Slot},
    wire::v1,
};

/// Names that a response states; more are only counted.
const MOST_NAMES: usize = 100;

/// Records that are named in the log, in one process. More are as lost.
const MOST_LOGGED: usize = 10_000;

static LOGGED: Mutex<BTreeSet<(Name, u8, Revision)>> = Mutex::new(BTreeSet::new());

/// Names a damaged record in the log, once.
pub(super) fn log(name: &Name, slot: Slot, revision: Revision) {
    let mut logged = LOGGED.lock().unwrap_or_else(PoisonError::into_inner);
    if logged.len() < MOST_LOGGED && logged.insert((name.clone(), slot as u8, revision)) {
        tracing::error!(%name, ?slot, revision, "a stored record is damaged: put it again, remove it, or restore a backup");
    }
}

/// What a response lacks because it cannot be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Damage {
    /// Records that cannot be read.
    pub(crate) count: i64,
    /// The names of the first of them.
    pub(crate) names: Vec<String>,
    /// The database itself is damaged: more may be missing.
    pub(crate) database: bool,
}

impl Damage {
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0 && !self.database
    }

    /// Adds a record, by its name or another mark.
    pub(crate) fn add(&mut self, name: impl ToString) {
        self.count += 1;
        if self.names.len() < MOST_NAMES {
            self.names.push(name.to_string());
        }
    }

    /// As a response states it; none, if nothing is lacking.
    pub(crate) fn to_message(&self) -> Option<v1::Damage> {
        let message = || v1::Damage { count: self.count, names: self.names.clone(), database: self.database };
        (!self.is_empty()).then(message)
    }

    /// Adds all that another one has.
    pub(crate) fn merge(&mut self, more: &Damage) {
        self.count += more.count;
        let room = MOST_NAMES.saturating_sub(self.names.len());
        self.names.extend(more.names.iter().take(room).cloned());
        self.database |= more.database;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded_and_the_count_is_not() {
        let mut damage = Damage::default();
        assert!(damage.is_empty());
        (0..150).for_each(|n| damage.add(n));
        let mut twice = damage.clone();
        twice.merge(&damage);
        assert_eq!((damage.count, damage.names.len(), twice.count, twice.names.len()), (150, 100, 300, 100));
        assert!(!Damage { database: true, ..Damage::default() }.is_empty());
    }
}
