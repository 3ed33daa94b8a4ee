//! What an article's new entry keeps of its past.

use std::collections::BTreeSet;

use super::Moment;
use crate::{
    entry::Derived,
    model::{Kind, Name, limit},
    store::Record,
    wire::log::{FormerPath, Left, LogEntry},
};

/// Notes in an entry the paths that the article had, and what it has left.
pub(super) fn follow_up(name: &Name, log: &mut LogEntry, before: Option<&Record>, at: Moment) {
    let Some(before) = before.filter(|_| name.kind == Kind::Article) else { return };
    let old = Derived::standing(name, &before.log);
    let new = Derived::standing(name, log);
    log.former_paths = former_paths(&before.log, old.own_path(), new.own_path(), at.now);
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

fn former_paths(before: &LogEntry, was: Option<&str>, is: Option<&str>, now: i64) -> Vec<FormerPath> {
    let mut paths = before.former_paths.clone();
    if let Some(was) = was.filter(|was| Some(*was) != is) {
        paths.retain(|former| former.path != was);
        paths.push(FormerPath { path: was.to_owned(), cease_time: now });
    }
    paths.retain(|former| Some(former.path.as_str()) != is);
    let surplus = paths.len().saturating_sub(limit::ALIAS_PATHS.maximum as usize);
    paths.split_off(surplus)
}
