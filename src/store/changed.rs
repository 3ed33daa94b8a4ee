//! The revision at which each subject last changed, approximately: subjects share stripes. A cache stores the stripes
//! that its objects depend on, and compares them.

use std::{
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash},
    sync::atomic::{AtomicI64, Ordering},
};

use crate::{
    entry::Term,
    model::{Kind, Name, Revision},
};

/// The number of stripes: 512 KiB. Two subjects in one stripe cost an unnecessary load, never a stale response.
const STRIPES: usize = 1 << 16;

/// A subject that an entry can change for readers.
#[derive(Debug, Clone, Copy, Hash)]
pub(crate) enum Subject<'a> {
    /// The record of a name.
    Name(&'a Name),
    /// The names of a kind, or the record of any of them.
    Kind(Kind),
    /// The articles in a list, or the record of any of them.
    Term(&'a Term),
    /// The articles that claim a path.
    Path(&'a str),
}

/// The index of the counter that records the changes of a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stripe(u16);

impl Stripe {
    pub(crate) fn of(subject: Subject<'_>) -> Stripe {
        Stripe(BuildHasherDefault::<DefaultHasher>::default().hash_one(subject) as u16)
    }
}

#[derive(Debug)]
pub(super) struct LastChanged {
    stripes: Box<[AtomicI64]>,
}

impl LastChanged {
    pub(super) fn new(head: Revision) -> LastChanged {
        LastChanged { stripes: (0..STRIPES).map(|_| AtomicI64::new(head)).collect() }
    }

    pub(super) fn at(&self, stripe: Stripe) -> Revision {
        self.stripes[usize::from(stripe.0)].load(Ordering::Acquire)
    }

    pub(super) fn mark(&self, stripe: Stripe, revision: Revision) {
        self.stripes[usize::from(stripe.0)].store(revision, Ordering::Release);
    }
}
