//! From what a caller wants and what is there now to the entry that makes it so.

use std::collections::{BTreeSet, HashMap};

use super::{Change, Precondition, Verb, check, check::Checked, patch};
use crate::{
    digest::canonical_content,
    entry::Derived,
    model::{Kind, LogId, Name, Revision, limit},
    refusal::Refusal,
    store::{self, Connection, Record, read},
    wire::{
        fields,
        log::{FormerPath, Left, LogEntry, Operation},
        number::{NAME, article},
        v1::{RemovalReason, UpdateKind},
    },
};

/// A change whose own rules hold; what is there now has not been looked at.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub(super) name: Name,
    pub(super) field: String,
    action: Action,
    precondition: Option<Precondition>,
    update_kind: Option<UpdateKind>,
}

#[derive(Debug, Clone)]
enum Action {
    Put(Checked),
    Patch { article: bytes::Bytes, mask: Option<Vec<String>> },
    Remove { reason: RemovalReason, moved_to: Option<Name>, buried: Option<Vec<String>> },
}

/// What is there now.
#[derive(Debug)]
pub(super) struct State {
    record: Option<Record>,
    /// Who has the path that the draft wants.
    claims: Vec<Name>,
    log_id: LogId,
}

/// What a draft comes to.
#[derive(Debug)]
pub(super) enum Planned {
    Append { name: Name, log: Box<LogEntry>, expected: Revision },
    Unchanged(Revision),
}

impl Draft {
    pub(super) fn check(change: Change, now: i64) -> Result<Draft, Refusal> {
        let Change { verb, precondition, update_kind, field } = change;
        let draft = |name, action| Draft { name, field: field.clone(), action, precondition, update_kind };
        let checked = match verb {
            Verb::Put { kind, entity } => check::entity(kind, &entity, now).map(|checked| {
                let name = checked.name.clone();
                draft(name, Action::Put(checked))
            }),
            Verb::Patch { article, mask } => {
                let name = fields::last(&article, NAME).unwrap_or_default();
                let name = check::name(Kind::Article, &String::from_utf8_lossy(name), "name");
                name.map(|name| draft(name, Action::Patch { article, mask }))
            }
            Verb::Remove { name, reason, moved_to } => removal(&name, reason, moved_to.as_ref())
                .map(|()| draft(name, Action::Remove { reason, moved_to, buried: None })),
            Verb::Bury { name, reason, moved_to, paths } => removal(&name, reason, moved_to.as_ref())
                .map(|()| draft(name, Action::Remove { reason, moved_to, buried: Some(paths) })),
        };
        checked.map_err(|refusal| refusal.within(&field))
    }

    pub(super) fn removes(&self) -> bool {
        matches!(self.action, Action::Remove { .. })
    }

    /// Whether what is there is to be erased, not only removed.
    pub(super) fn erases(&self) -> bool {
        matches!(self.action, Action::Remove { reason: RemovalReason::Killed, .. })
    }

    /// The path that the article shall have, so far as the draft itself says.
    pub(super) fn wanted_path(&self) -> Option<String> {
        let path = match &self.action {
            Action::Put(checked) if self.name.kind == Kind::Article => {
                fields::last(&checked.content, article::PATH)
            }
            Action::Patch { article, mask } => patch::value(article, mask.as_deref(), article::PATH),
            _ => None,
        };
        let path = path.filter(|path| !path.is_empty())?;
        Some(String::from_utf8_lossy(path).into_owned())
    }
}

fn removal(name: &Name, reason: RemovalReason, moved_to: Option<&Name>) -> Result<(), Refusal> {
    match (reason, moved_to) {
        (RemovalReason::Unspecified | RemovalReason::Expired, _) => {
            Err(Refusal::field("reason", "it must be MOVED, WITHDRAWN, DELETED or KILLED"))
        }
        (RemovalReason::Moved, None) => {
            Err(Refusal::field("moved_to", "it is required with the reason MOVED"))
        }
        (RemovalReason::Moved, Some(target)) if target.kind != name.kind || target == name => {
            Err(Refusal::field("moved_to", format!("it must be another {}", name.kind.noun())))
        }
        (RemovalReason::Withdrawn | RemovalReason::Deleted | RemovalReason::Killed, Some(_)) => {
            Err(Refusal::field("moved_to", "it is allowed only with the reason MOVED"))
        }
        _ => Ok(()),
    }
}

impl State {
    pub(super) fn read(connection: &Connection, draft: &Draft) -> Result<State, store::Error> {
        let claims =
            draft.wanted_path().map_or(Ok(Vec::new()), |path| read::path_claims(connection, &path))?;
        let log_id = read::head(connection)?.log_id;
        Ok(State { record: read::record(connection, &draft.name)?, claims, log_id })
    }

    fn live(&self) -> Option<&Record> {
        self.record.as_ref().filter(|record| record.is_live())
    }

    fn missing(&self, name: &Name) -> Refusal {
        match self.record.as_ref().and_then(Record::tombstone) {
            Some(tombstone) => Refusal::Gone { name: name.clone(), tombstone: Box::new(tombstone) },
            None => Refusal::NotFound(name.clone()),
        }
    }
}

/// Plans changes that happen together: they may take paths from each other.
pub(super) fn all(
    drafts: &[Draft],
    states: Vec<State>,
    now: i64,
    floor: Revision,
) -> Result<Vec<Planned>, Refusal> {
    let gives: HashMap<&Name, Option<String>> = drafts.iter().filter_map(|draft| draft.gives_up()).collect();
    let mut taken = HashMap::new();
    let drafts = drafts.iter().zip(states);
    drafts
        .map(|(draft, state)| {
            let planned = plan(draft, &state, now, floor)?;
            free_path(draft, &state, &gives, &mut taken)?;
            Ok(planned)
        })
        .collect()
}

/// Plans changes that happen one after the other, each on its own.
pub(super) fn each(
    drafts: &[Draft],
    states: Vec<State>,
    now: i64,
    floor: Revision,
) -> Vec<Result<Planned, Refusal>> {
    let mut taken = HashMap::new();
    let none = HashMap::new();
    let drafts = drafts.iter().zip(states);
    drafts
        .map(|(draft, state)| {
            let planned = plan(draft, &state, now, floor)?;
            free_path(draft, &state, &none, &mut taken)?;
            Ok(planned)
        })
        .collect()
}

impl Draft {
    /// For a draft that decides over its article's path: the path after it.
    fn gives_up(&self) -> Option<(&Name, Option<String>)> {
        match &self.action {
            Action::Put(_) => Some((&self.name, self.wanted_path())),
            Action::Remove { .. } => Some((&self.name, None)),
            Action::Patch { article, mask } => patch::value(article, mask.as_deref(), article::PATH)
                .map(|_| (&self.name, self.wanted_path())),
        }
    }
}

fn free_path<'a>(
    draft: &'a Draft,
    state: &State,
    gives: &HashMap<&Name, Option<String>>,
    taken: &mut HashMap<String, &'a Name>,
) -> Result<(), Refusal> {
    let Some(path) = draft.wanted_path() else { return Ok(()) };
    let keeps = |owner: &Name| gives.get(owner).is_none_or(|after| after.as_deref() == Some(&path));
    let owner = state.claims.iter().find(|owner| **owner != draft.name && keeps(owner)).cloned();
    let owner =
        owner.or_else(|| taken.get(&path).map(|name| (*name).clone()).filter(|name| *name != draft.name));
    if let Some(owner) = owner {
        let refusal = Refusal::PathTaken { field: "path".into(), path, owner };
        return Err(refusal.within(&draft.field));
    }
    taken.insert(path, &draft.name);
    Ok(())
}

fn plan(draft: &Draft, state: &State, now: i64, floor: Revision) -> Result<Planned, Refusal> {
    precondition(draft, state)?;
    match &draft.action {
        Action::Put(checked) => put(draft, checked, state, now, floor),
        Action::Patch { article, mask } => {
            let record = state.live().ok_or_else(|| state.missing(&draft.name))?;
            let mut patched = patch::apply(&record.log.content, article, mask.as_deref())?;
            fields::put_string(&mut patched, NAME, &draft.name.to_string());
            let checked = check::entity(Kind::Article, &patched, now);
            let checked = checked.map_err(|refusal| refusal.within(&draft.field))?;
            put(draft, &checked, state, now, floor)
        }
        Action::Remove { reason, moved_to, buried } => {
            remove(draft, *reason, moved_to.as_ref(), buried.as_deref(), state, now, floor)
        }
    }
}

fn precondition(draft: &Draft, state: &State) -> Result<(), Refusal> {
    let current = state.live().map(|record| state.log_id.etag(record.revision));
    match (&draft.precondition, current) {
        (Some(Precondition::Absent), Some(etag)) => Err(Refusal::Exists { name: draft.name.clone(), etag }),
        (Some(Precondition::Etag(wanted)), current) if current.as_ref() != Some(wanted) => {
            Err(Refusal::EtagMismatch { name: draft.name.clone(), current })
        }
        _ => Ok(()),
    }
}

fn put(
    draft: &Draft,
    checked: &Checked,
    state: &State,
    now: i64,
    floor: Revision,
) -> Result<Planned, Refusal> {
    let name = &draft.name;
    if let Some(record) = state.live()
        && (record.log.content == checked.content
            || canonical_content(name, &record.log.content) == canonical_content(name, &checked.content))
    {
        return Ok(Planned::Unchanged(record.revision));
    }
    let before = state.record.as_ref();
    let first = before.map(|record| record.log.first_publish_time).filter(|time| *time != 0);
    let (created, published) = checked.told;
    let is_article = name.kind == Kind::Article;
    // Only an import tells when things happened elsewhere.
    let told = |time: Option<i64>| time.filter(|_| draft.update_kind.is_none());
    let first_publish = first.or(told(published)).or(checked.publish_time).unwrap_or(now);
    let mut log = LogEntry {
        operation: Operation::Put as i32,
        time: now,
        update_kind: update_kind(draft, before)? as i32,
        create_time: before.map(|record| record.log.create_time).or(told(created)).unwrap_or(now),
        first_publish_time: if is_article { first_publish } else { 0 },
        content: checked.content.clone().into(),
        word_count: checked.word_count,
        ..LogEntry::default()
    };
    follow_up(name, &mut log, before, now, floor);
    Ok(append(name, log, before))
}

fn append(name: &Name, log: LogEntry, before: Option<&Record>) -> Planned {
    let expected = before.map_or(0, |record| record.revision);
    Planned::Append { name: name.clone(), log: Box::new(log), expected }
}

fn update_kind(draft: &Draft, before: Option<&Record>) -> Result<UpdateKind, Refusal> {
    match (draft.update_kind, before) {
        (None, None) => Ok(UpdateKind::Backfill),
        (None, Some(_)) => Ok(UpdateKind::Minor),
        (Some(UpdateKind::Backfill), Some(_)) => {
            Err(Refusal::field("update_kind", "BACKFILL is allowed only for a name that never had a version"))
        }
        (Some(UpdateKind::Unspecified), _) => Ok(UpdateKind::Major),
        (Some(kind), _) => Ok(kind),
    }
}

fn remove(
    draft: &Draft,
    reason: RemovalReason,
    moved_to: Option<&Name>,
    buried: Option<&[String]>,
    state: &State,
    now: i64,
    floor: Revision,
) -> Result<Planned, Refusal> {
    let before = state.record.as_ref();
    let moved_to = moved_to.map(ToString::to_string).unwrap_or_default();
    let kills = reason == RemovalReason::Killed && before.is_some();
    if buried.is_none() && !kills && state.live().is_none() {
        return Err(state.missing(&draft.name));
    }
    if let Some(record) = before.filter(|record| !record.is_live())
        && record.log.reason() == reason
        && record.log.moved_to == moved_to
    {
        return Ok(Planned::Unchanged(record.revision));
    }
    let mut log = LogEntry {
        operation: Operation::Remove as i32,
        reason: reason as i32,
        moved_to,
        time: now,
        update_kind: update_kind(draft, before)? as i32,
        create_time: before.map_or(now, |record| record.log.create_time),
        first_publish_time: before.map_or(0, |record| record.log.first_publish_time),
        ..LogEntry::default()
    };
    follow_up(&draft.name, &mut log, before, now, floor);
    for path in buried.unwrap_or_default() {
        if !log.former_paths.iter().any(|former| former.path == *path) {
            log.former_paths.push(FormerPath { path: path.clone(), cease_time: now });
        }
    }
    Ok(append(&draft.name, log, before))
}

/// What an article's new entry keeps of its past: the paths that it had, and what it has left.
fn follow_up(name: &Name, log: &mut LogEntry, before: Option<&Record>, now: i64, floor: Revision) {
    let Some(before) = before.filter(|_| name.kind == Kind::Article) else { return };
    let old = Derived::standing(name, &before.log);
    let new = Derived::standing(name, log);
    log.former_paths = former_paths(&before.log, old.own_path(), new.own_path(), now);
    let holds: BTreeSet<String> = new.followed().collect();
    let left_before = before.log.left.iter().map(|left| Left {
        revision: if left.revision == 0 { before.revision } else { left.revision },
        ..left.clone()
    });
    let left_now = old.followed().map(|name| Left { name, revision: 0 });
    let mut left: Vec<Left> = left_now.filter(|left| !holds.contains(&left.name)).collect();
    let known: BTreeSet<String> = left.iter().map(|left| left.name.clone()).collect();
    left.extend(
        left_before.filter(|left| {
            left.revision >= floor && !holds.contains(&left.name) && !known.contains(&left.name)
        }),
    );
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
