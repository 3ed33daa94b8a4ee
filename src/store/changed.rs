//! At which revision something last changed, roughly: subjects share stripes. Whoever keeps something loaded keeps the
//! stripes that it rests on, and compares.

use std::{
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash},
    sync::atomic::{AtomicI64, Ordering},
};

use crate::{
    entry::Term,
    model::{Kind, Name, Revision},
};

/// 512 KiB. Two subjects in one stripe cost a load too many, never a stale answer.
const STRIPES: usize = 1 << 16;

/// What an entry can change for readers.
#[derive(Debug, Clone, Copy, Hash)]
pub(crate) enum Subject<'a> {
    /// What is under a name.
    Name(&'a Name),
    /// Which names of a kind there are, or any of them.
    Kind(Kind),
    /// Which articles stand in a list, or any of them.
    Term(&'a Term),
    /// Which articles claim a path.
    Path(&'a str),
}

/// Where it is noted that a subject changed.
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
