//! Reports of damaged records: a record is named once in the log, and in each response that lacks it.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use crate::{
    model::{Name, Revision, Slot},
    wire::v1,
};

/// The maximum number of names in a response. Further records are only counted.
const MAX_NAMES: usize = 100;

/// The maximum number of records that one process names in the log. A store with more is as good as lost.
const MAX_LOGGED: usize = 10_000;

static LOGGED: Mutex<BTreeSet<(Name, u8, Revision)>> = Mutex::new(BTreeSet::new());

/// Names a damaged record in the log, once.
pub(super) fn log(name: &Name, slot: Slot, revision: Revision) {
    let mut logged = LOGGED.lock().unwrap_or_else(PoisonError::into_inner);
    if logged.len() < MAX_LOGGED && logged.insert((name.clone(), slot as u8, revision)) {
        tracing::error!(%name, ?slot, revision, "record damaged: put it again, remove it, or restore a backup");
    }
}

/// The part of a response that is missing because it cannot be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Damage {
    /// The number of records that cannot be read.
    pub(crate) count: i64,
    /// The names of the first of them.
    pub(crate) names: Vec<String>,
    /// Whether the database itself is damaged, so that more may be missing.
    pub(crate) database: bool,
}

impl Damage {
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0 && !self.database
    }

    /// Adds a record, by its name or another label.
    pub(crate) fn add(&mut self, name: impl ToString) {
        self.count += 1;
        if self.names.len() < MAX_NAMES {
            self.names.push(name.to_string());
        }
    }

    /// Returns the message for a response, or `None` if nothing is missing.
    pub(crate) fn to_message(&self) -> Option<v1::Damage> {
        let message = || v1::Damage { count: self.count, names: self.names.clone(), database: self.database };
        (!self.is_empty()).then(message)
    }

    /// Adds the damage that another value reports.
    pub(crate) fn merge(&mut self, other: &Damage) {
        self.count += other.count;
        let free = MAX_NAMES.saturating_sub(self.names.len());
        self.names.extend(other.names.iter().take(free).cloned());
        self.database |= other.database;
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
