//! At which revision a name last changed, roughly: names share stripes. Whoever keeps something loaded compares.

use std::{
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    sync::atomic::{AtomicI64, Ordering},
};

use crate::model::{Kind, Name, Revision};

/// 512 KiB. Two names in one stripe cost a load too many, never a stale answer.
const STRIPES: usize = 1 << 16;

#[derive(Debug)]
pub(super) struct LastChanged {
    stripes: Box<[AtomicI64]>,
    references: AtomicI64,
}

impl LastChanged {
    pub(super) fn new(head: Revision) -> LastChanged {
        let stripes = (0..STRIPES).map(|_| AtomicI64::new(head)).collect();
        LastChanged { stripes, references: AtomicI64::new(head) }
    }

    pub(super) fn name(&self, name: &Name) -> &AtomicI64 {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(name);
        &self.stripes[hash as usize % STRIPES]
    }

    pub(super) fn references(&self) -> &AtomicI64 {
        &self.references
    }

    pub(super) fn mark(&self, name: &Name, revision: Revision) {
        self.name(name).store(revision, Ordering::Release);
        if matches!(name.kind, Kind::Author | Kind::Section | Kind::Tag) {
            self.references.store(revision, Ordering::Release);
        }
    }
}
