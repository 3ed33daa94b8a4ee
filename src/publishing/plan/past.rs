//! What an article's new entry keeps of its past.

use std::collections::BTreeSet;

use super::Moment;
use crate::{
    entry::{Derived, own_path},
    model::{Kind, Name, limit, path},
    store::Record,
    wire::log::{FormerPath, Left, LogEntry, Operation},
};

/// Notes in an entry the paths that the article had, and what it has left.
pub(super) fn follow_up(name: &Name, log: &mut LogEntry, before: Option<&Record>, at: Moment) {
    let Some(before) = before.filter(|_| name.kind == Kind::Article) else { return };
    let old = Derived::standing(name, &before.log);
    let new = Derived::standing(name, log);
    let own = |log: &LogEntry| Some(own_path(&log.content)?).filter(|_| log.operation() == Operation::Put);
    log.former_paths = former_paths(&before.log, own(&before.log), own(log).as_deref(), at.now);
    let holds: BTreeSet<String> = new.followed().collect();
    let left_before = before.log.left.iter().map(|left| Left {
        revision: if left.revision == 0 { before.revision } else { left.revision },
        ..left.clone()
    });
    let left_now = old.followed().map(|name| Left { name, revision: 0 });
    let mut left: Vec<Left> = left_now.filter(|left| !holds.contains(&left.name)).collect();
    let known: BTreeSet<String> = left.iter().map(|left| left.name.clone()).collect();
    left.extend(left_before.filter(|left| {
        left.revision >= at.floor && !holds.contains(&left.name) && !known.contains(&left.name)
    }));
    log.left = left;
}

fn former_paths(before: &LogEntry, was: Option<String>, is: Option<&str>, now: i64) -> Vec<FormerPath> {
    let mut paths = before.former_paths.clone();
    let same = |a: &str, b: Option<&str>| b.is_some_and(|b| path::is_same(a, b));
    if let Some(was) = was.filter(|was| !same(was, is)) {
        paths.retain(|former| !same(&former.path, Some(&was)));
        paths.push(FormerPath { path: was, cease_time: now, ..FormerPath::default() });
    }
    paths.retain(|former| !same(&former.path, is));
    let surplus = paths.len().saturating_sub(limit::ALIAS_PATHS.maximum as usize);
    paths.split_off(surplus)
}
