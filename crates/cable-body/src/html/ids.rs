//! The ids of elements, which become the ids of blocks, so that links within a page still work.
//!
//! An id waits until a block is added. The innermost block element wins; the anchors in running text come after all
//! block elements.

use std::collections::HashSet;

use scraper::ElementRef;

use super::notes::{Notes, quoted};
use crate::render::is_token;
use cable_proto::v1::Block;

/// An id that no block has yet.
#[derive(Debug)]
pub(super) struct Anchor {
    id: String,
    in_text: bool,
}

/// The ids of one text.
#[derive(Default)]
pub(super) struct Ids {
    used: HashSet<String>,
    pending: Vec<Anchor>,
}

impl Ids {
    /// Records the id of a block element.
    pub(super) fn add_block(&mut self, element: ElementRef<'_>) {
        self.pending.extend(id_of(element).map(|id| Anchor { id, in_text: false }));
    }

    /// Records the id of an element of running text.
    pub(super) fn add_text(&mut self, id: String) {
        self.pending.push(Anchor { id, in_text: true });
    }

    /// Sets aside the ids that belong to the block around those that follow.
    pub(super) fn set_aside(&mut self) -> Vec<Anchor> {
        std::mem::take(&mut self.pending)
    }

    /// Puts back ids that were set aside, before those that have been added since. Returns the latter.
    pub(super) fn put_back(&mut self, outer: Vec<Anchor>) -> Vec<Anchor> {
        std::mem::replace(&mut self.pending, outer)
    }

    /// Adds ids for the next block.
    pub(super) fn extend(&mut self, later: Vec<Anchor>) {
        self.pending.extend(later);
    }

    /// Gives a block without an id the best of the pending ones.
    pub(super) fn name(&mut self, block: &mut Block, notes: &mut Notes) {
        if self.pending.is_empty() || !block.id.is_empty() {
            return;
        }
        let mut pending = std::mem::take(&mut self.pending);
        // Innermost block element first, then the text from its start.
        pending.reverse();
        pending.sort_by_key(|anchor| anchor.in_text);
        let texts = pending.iter().position(|anchor| anchor.in_text).unwrap_or(pending.len());
        pending[texts..].reverse();
        for Anchor { id, .. } in pending {
            match self.problem(&id, &block.id) {
                None => {
                    self.used.insert(id.clone());
                    block.id = id;
                }
                Some(problem) => notes.add(|| format!("id {}: left out, {problem}", quoted(&id))),
            }
        }
    }

    fn problem(&self, id: &str, own: &str) -> Option<String> {
        if !is_token(id) {
            Some("it is not 1 to 128 characters of A-Z a-z 0-9 . _ ~ -".to_owned())
        } else if self.used.contains(id) {
            Some("another block has it".to_owned())
        } else if !own.is_empty() {
            Some(format!("its block has the id `{own}`"))
        } else {
            None
        }
    }

    /// Reports the ids that no block follows.
    pub(super) fn finish(&mut self, notes: &mut Notes) {
        for Anchor { id, .. } in std::mem::take(&mut self.pending) {
            notes.add(|| format!("id {}: left out, no block follows it", quoted(&id)));
        }
    }
}

/// Returns the id of an element, or the name of an anchor.
pub(super) fn id_of(element: ElementRef<'_>) -> Option<String> {
    let name = || element.attr("name").filter(|_| element.value().name() == "a");
    element.attr("id").or_else(name).filter(|id| !id.is_empty()).map(str::to_owned)
}
