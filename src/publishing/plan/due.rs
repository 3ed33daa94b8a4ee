//! What the clock makes of a name.

use super::{Moment, Planned, State, past::follow_up, put::first_publish_time, remove};
use crate::{
    entry,
    model::Slot,
    store::{Record, due::Due},
    wire::{
        log::{LogEntry, Operation},
        v1::{RemovalReason, UpdateKind},
    },
};

/// Plans what has come due; nothing, if the name is no longer what it was when that was found, or if what is to appear
/// cannot be read.
pub(in crate::publishing) fn come(due: &Due, state: &State, at: Moment) -> Option<Planned> {
    let entries = match due.slot {
        Slot::Pending if state.readable(&due.name, Slot::Pending).is_err() => return None,
        Slot::Pending => appearance(due, state.waiting()?, state.record.as_ref(), at),
        Slot::Live => {
            let record = state.live()?;
            let end = remove::end(&due.name, Some(record), RemovalReason::Expired, UpdateKind::Major, at);
            vec![(Slot::Live, end)]
        }
    };
    Some(state.append(&due.name, entries))
}

/// A pending version moves to where readers see it, its content byte for byte.
fn appearance(due: &Due, waiting: &Record, before: Option<&Record>, at: Moment) -> Vec<(Slot, LogEntry)> {
    let told = first_publish_time(before).or(first_publish_time(Some(waiting)));
    let first = told.or(entry::publish_time(&waiting.log.content)).unwrap_or(due.time);
    let mut log = LogEntry {
        operation: Operation::Put as i32,
        time: at.now,
        update_kind: waiting.log.update_kind,
        create_time: waiting.log.create_time,
        first_publish_time: first,
        content: waiting.log.content.clone(),
        word_count: waiting.log.word_count,
        ..LogEntry::default()
    };
    follow_up(&due.name, &mut log, before, at);
    vec![remove::withdrawal(waiting, RemovalReason::Unspecified, at), (Slot::Live, log)]
}
