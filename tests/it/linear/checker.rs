//! The check of a history: whether some order of the calls explains all responses, and agrees with real time. The
//! revisions state the order of the writes, so the check takes O(n log n).
//!
//! A refusal can show a write shortly before reads show it, since it is decided on the newest state of the store. Such a
//! read is counted, and is not a fault: the write is not acknowledged yet.

use std::collections::{BTreeMap, BTreeSet};

/// A call and its response. The times are those of the client, before the request and after the response.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) name: usize,
    pub(crate) action: Action,
}

/// A version of a name, as it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) revision: i64,
    pub(crate) content: u64,
}

#[derive(Debug, Clone)]
pub(crate) enum Action {
    /// A put if the name has the expected revision, or is absent. `revision` is `None` if it was refused.
    Put {
        expected: Option<i64>,
        content: u64,
        revision: Option<i64>,
    },
    /// A removal. `revision` is `None` if the name was absent.
    Remove {
        revision: Option<i64>,
    },
    Get {
        found: Option<Version>,
    },
}

/// The numbers of calls of a history.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) puts: usize,
    pub(crate) refused_puts: usize,
    pub(crate) removals: usize,
    pub(crate) refused_removals: usize,
    pub(crate) reads: usize,
    /// The reads that returned an older state than an earlier refusal was due to.
    pub(crate) reads_behind_refusals: usize,
}

/// A state of a name: the start of the write that led to it, and the content unless the name is absent.
#[derive(Debug, Clone, Copy)]
struct State {
    start: u64,
    content: Option<u64>,
}

/// The states of a name by their revisions. At 0, before all writes, it is absent.
type States = BTreeMap<i64, State>;

/// Checks a history of names that are absent at its start.
pub(crate) fn check(events: &[Event]) -> Result<Counts, String> {
    let states = states(events)?;
    let mut counts = Counts::default();
    // For each name, the newest revision that completed calls have shown. For the writes, that of all names.
    let mut shown: BTreeMap<usize, i64> = BTreeMap::new();
    let mut refused: BTreeMap<usize, i64> = BTreeMap::new();
    let mut written = 0;
    let mut at_start = vec![(0, 0, 0); events.len()];
    for (is_end, index) in in_time(events) {
        let event = &events[index];
        if !is_end {
            let newest = |of: &BTreeMap<usize, i64>| of.get(&event.name).copied().unwrap_or(0);
            at_start[index] = (newest(&shown), newest(&refused), written);
            continue;
        }
        let (shown_before, refused_before, written_before) = at_start[index];
        let names = &states[&event.name];
        let revision = explain(event, names, shown_before, &mut counts)?;
        if let Action::Put { revision: Some(revision), .. } | Action::Remove { revision: Some(revision) } =
            event.action
        {
            if revision <= written_before {
                return Err(format!("{event:?}: revision {written_before} was written before it started"));
            }
            written = written.max(revision);
        }
        let is_refused =
            matches!(event.action, Action::Put { revision: None, .. } | Action::Remove { revision: None });
        let is_read = matches!(event.action, Action::Get { .. });
        counts.reads_behind_refusals += usize::from(is_read && revision < refused_before);
        let newest = if is_refused { &mut refused } else { &mut shown }.entry(event.name).or_default();
        *newest = revision.max(*newest);
    }
    Ok(counts)
}

/// Returns the starts and ends of all events in the order of time. Calls that touch count as concurrent.
fn in_time(events: &[Event]) -> Vec<(bool, usize)> {
    let mut order: Vec<_> = (0..events.len())
        .flat_map(|index| [(events[index].start, false, index), (events[index].end, true, index)])
        .collect();
    order.sort_unstable();
    order.into_iter().map(|(_, is_end, index)| (is_end, index)).collect()
}

/// Returns the states of each name. No revision is written twice, and each write follows the state that it requires.
fn states(events: &[Event]) -> Result<BTreeMap<usize, States>, String> {
    let (mut states, mut revisions) = (BTreeMap::new(), BTreeSet::new());
    for event in events {
        let (revision, content) = match event.action {
            Action::Put { content, revision, .. } => (revision, Some(content)),
            Action::Remove { revision } => (revision, None),
            Action::Get { .. } => (None, None),
        };
        let initial = || States::from([(0, State { start: 0, content: None })]);
        let of_name: &mut States = states.entry(event.name).or_insert_with(initial);
        let Some(revision) = revision else { continue };
        if !revisions.insert(revision) {
            return Err(format!("{event:?}: the revision was written twice"));
        }
        of_name.insert(revision, State { start: event.start, content });
    }
    for event in events {
        let (revision, expected) = match event.action {
            Action::Put { expected, revision: Some(revision), .. } => (revision, expected),
            _ => continue,
        };
        let previous = states[&event.name].range(..revision).next_back().expect("revision 0 is a state");
        let is_expected = match expected {
            Some(expected) => *previous.0 == expected && previous.1.content.is_some(),
            None => previous.1.content.is_none(),
        };
        if !is_expected {
            return Err(format!("{event:?}: the put followed revision {}", previous.0));
        }
    }
    Ok(states)
}

/// Returns the oldest revision of the name that explains the response: not older than `shown`, and written by a call
/// that started before this one ended.
fn explain(event: &Event, states: &States, shown: i64, counts: &mut Counts) -> Result<i64, String> {
    let possible = states.range(shown..).filter(|(_, state)| state.start <= event.end);
    let mut possible = possible.map(|(revision, state)| (*revision, state.content));
    let explanation = match &event.action {
        Action::Put { revision: Some(revision), .. } => {
            counts.puts += 1;
            (*revision > shown).then_some(*revision)
        }
        Action::Remove { revision: Some(revision) } => {
            counts.removals += 1;
            (*revision > shown).then_some(*revision)
        }
        Action::Put { expected: Some(expected), revision: None, .. } => {
            counts.refused_puts += 1;
            possible.find(|(revision, _)| revision != expected).map(|(revision, _)| revision)
        }
        Action::Put { expected: None, revision: None, .. } => {
            counts.refused_puts += 1;
            possible.find(|(_, content)| content.is_some()).map(|(revision, _)| revision)
        }
        Action::Remove { revision: None } => {
            counts.refused_removals += 1;
            possible.find(|(_, content)| content.is_none()).map(|(revision, _)| revision)
        }
        Action::Get { found: None } => {
            counts.reads += 1;
            possible.find(|(_, content)| content.is_none()).map(|(revision, _)| revision)
        }
        Action::Get { found: Some(version) } => {
            counts.reads += 1;
            let is_found =
                |(revision, content)| revision == version.revision && content == Some(version.content);
            possible.find(|(revision, content)| is_found((*revision, *content))).map(|(revision, _)| revision)
        }
    };
    explanation.ok_or_else(|| format!("{event:?}: no state explains it, after revision {shown} was shown"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: u64, end: u64, action: Action) -> Event {
        Event { start, end, name: 0, action }
    }

    fn put(expected: Option<i64>, revision: i64) -> Action {
        Action::Put { expected, content: revision as u64, revision: Some(revision) }
    }

    fn refused(expected: Option<i64>) -> Action {
        Action::Put { expected, content: 99, revision: None }
    }

    fn got(revision: i64) -> Action {
        Action::Get { found: Some(Version { revision, content: revision as u64 }) }
    }

    const ABSENT: Action = Action::Get { found: None };
    const REMOVED: Action = Action::Remove { revision: Some(3) };

    #[test]
    fn histories_that_one_copy_can_produce_are_accepted() {
        let histories: [&[Event]; 7] = [
            &[at(0, 1, ABSENT), at(2, 3, put(None, 1)), at(4, 5, got(1))],
            // A read beside a write returns the state before it or after it.
            &[at(0, 1, put(None, 1)), at(2, 9, put(Some(1), 2)), at(3, 4, got(1)), at(5, 6, got(2))],
            &[at(0, 9, put(None, 1)), at(1, 2, ABSENT), at(3, 4, got(1))],
            // One of two writers wins.
            &[at(0, 1, put(None, 1)), at(2, 9, put(Some(1), 2)), at(2, 9, refused(Some(1)))],
            &[at(0, 9, put(None, 1)), at(1, 5, refused(None))],
            &[at(0, 1, put(None, 1)), at(2, 3, put(Some(1), 2)), at(4, 5, REMOVED), at(6, 7, put(None, 4))],
            &[at(0, 1, put(None, 1)), at(2, 3, put(Some(1), 2)), at(4, 9, REMOVED), at(5, 6, ABSENT)],
        ];
        for history in histories {
            check(history).unwrap();
        }
    }

    #[test]
    fn histories_that_no_order_explains_are_found() {
        let twice = Action::Put { expected: Some(1), content: 7, revision: Some(2) };
        let wrong = Action::Get { found: Some(Version { revision: 1, content: 9 }) };
        let histories: [(&str, &[Event]); 12] = [
            ("a stale read", &[at(0, 1, put(None, 1)), at(2, 3, put(Some(1), 2)), at(4, 5, got(1))]),
            ("two winners", &[at(0, 1, put(None, 1)), at(2, 9, put(Some(1), 2)), at(2, 9, put(Some(1), 3))]),
            ("two creators", &[at(0, 9, put(None, 1)), at(0, 9, put(None, 2))]),
            (
                "a read that goes back",
                &[at(0, 1, put(None, 1)), at(2, 99, put(Some(1), 2)), at(3, 4, got(2)), at(5, 6, got(1))],
            ),
            ("a lost write", &[at(0, 1, put(None, 1)), at(2, 3, ABSENT)]),
            ("a read of what was never written", &[at(0, 1, put(None, 1)), at(2, 3, got(5))]),
            ("other content", &[at(0, 1, put(None, 1)), at(2, 3, wrong)]),
            ("a read of the future", &[at(0, 1, got(1)), at(2, 3, put(None, 1))]),
            (
                "a revision of two writes",
                &[at(0, 1, put(None, 1)), at(2, 9, put(Some(1), 2)), at(2, 9, twice)],
            ),
            (
                "revisions against the order of time",
                &[at(0, 1, put(None, 5)), at(2, 3, Action::Remove { revision: Some(4) })],
            ),
            ("a refusal without a cause", &[at(0, 1, put(None, 1)), at(2, 3, refused(Some(1)))]),
            ("a refusal of a name that is free", &[at(0, 1, refused(None)), at(2, 3, put(None, 1))]),
        ];
        for (name, history) in histories {
            assert!(check(history).is_err(), "{name}");
        }
    }
}
