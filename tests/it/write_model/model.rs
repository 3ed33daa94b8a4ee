//! A short model of writes: the content of a name, the resolution of a path, and the known requests.

use std::collections::BTreeMap;

/// Paths, each in two spellings.
pub(super) const PATHS: [[&str; 2]; 4] =
    [["/x", "/%78"], ["/caf%C3%A9", "/cafe\u{301}"], ["/y/~z", "/y/%7Ez"], ["/%e2%82%ac", "/\u{20ac}"]];

/// The content of a put.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) headline: u64,
    /// The number of the path and of its spelling.
    pub(super) path: Option<(usize, usize)>,
    pub(super) aliases: Vec<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    Put(Content),
    /// A removal with its reason and, for a move, the new name.
    Remove(&'static str, Option<usize>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Precondition {
    Absent,
    Etag(String),
}

/// One change of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) name: usize,
    pub(super) action: Action,
    pub(super) precondition: Option<Precondition>,
    /// Whether a put may restore a killed name.
    pub(super) allow_killed: bool,
}

/// A write: one change, or several in a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Write {
    pub(super) steps: Vec<Step>,
    pub(super) request: Option<String>,
}

/// The result of one change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StepResult {
    pub(super) revision: i64,
    pub(super) changed: bool,
    /// The etag. None means that it is not known yet, empty that the name has none.
    pub(super) etag: Option<String>,
}

/// The live version of a name.
#[derive(Debug, Clone)]
pub(super) struct Version {
    pub(super) content: Content,
    pub(super) etag: Option<String>,
}

#[derive(Debug, Clone)]
pub(super) enum State {
    Live(Version),
    /// The name was removed, with the reason.
    Gone(&'static str),
}

/// A name that has had a version.
#[derive(Debug, Clone)]
pub(super) struct NameState {
    pub(super) state: State,
    pub(super) revision: i64,
    /// The times at which paths ceased to be its own.
    former: BTreeMap<usize, i64>,
}

/// The target of a path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Resolution {
    /// A live article, with the path of the redirect if it is a different one.
    To(usize, Option<&'static str>),
    /// A removed article, with the reason.
    Gone(&'static str),
    Nowhere,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Model {
    pub(super) head: i64,
    pub(super) names: BTreeMap<usize, NameState>,
    pub(super) requests: BTreeMap<String, (Write, Vec<StepResult>)>,
}

impl Model {
    pub(super) fn live(&self, name: usize) -> Option<&Version> {
        match &self.names.get(&name)?.state {
            State::Live(version) => Some(version),
            State::Gone(_) => None,
        }
    }

    fn reason(&self, name: usize) -> Option<&'static str> {
        match self.names.get(&name)?.state {
            State::Live(_) => None,
            State::Gone(reason) => Some(reason),
        }
    }

    /// Returns the live article that has a path as its own.
    fn owner(&self, path: usize) -> Option<usize> {
        let owns =
            |name: &usize| self.live(*name).and_then(Version::path).is_some_and(|(own, _)| own == path);
        self.names.keys().copied().find(owns)
    }

    /// Makes a write, or returns the reason why it must fail. Entries take revisions in the order of the changes.
    pub(super) fn apply(&mut self, write: &Write, time: i64) -> Result<Vec<StepResult>, &'static str> {
        if let Some((first, done)) = write.request.as_ref().and_then(|id| self.requests.get(id)) {
            return if first == write { Ok(done.clone()) } else { Err("REQUEST_ID_REUSED") };
        }
        let mut after = self.clone();
        let mut done = Vec::new();
        for step in &write.steps {
            self.check_allowed(step)?;
            done.push(after.change(step, time));
        }
        for (step, result) in write.steps.iter().zip(&done).filter(|(_, result)| result.changed) {
            let path = after.live(step.name).and_then(Version::path);
            let rivals = path.map_or(0, |(path, _)| after.owners(path));
            if rivals > 1 {
                return Err("PATH_TAKEN");
            }
            after.head = after.head.max(result.revision);
        }
        if let Some(id) = &write.request {
            after.requests.insert(id.clone(), (write.clone(), done.clone()));
        }
        *self = after;
        Ok(done)
    }

    /// Records a completed request.
    pub(super) fn remember(&mut self, write: &Write, done: &[StepResult]) {
        let request = write.request.clone().map(|id| (id, (write.clone(), done.to_vec())));
        self.requests.extend(request);
    }

    fn owners(&self, path: usize) -> usize {
        let owns =
            |name: &&usize| self.live(**name).and_then(Version::path).is_some_and(|(own, _)| own == path);
        self.names.keys().filter(owns).count()
    }

    fn check_allowed(&self, step: &Step) -> Result<(), &'static str> {
        let live = self.live(step.name);
        match &step.precondition {
            Some(Precondition::Absent) if live.is_some() => return Err("NAME_EXISTS"),
            Some(Precondition::Etag(etag)) if live.is_none_or(|live| live.etag.as_ref() != Some(etag)) => {
                return Err("ETAG_MISMATCH");
            }
            _ => {}
        }
        match (&step.action, self.reason(step.name)) {
            (Action::Put(_), Some("KILLED")) if !step.allow_killed => Err("NAME_KILLED"),
            (Action::Remove("KILLED", _), Some(_)) | (Action::Put(_), _) => Ok(()),
            (Action::Remove(..), Some("MOVED")) => Err("ARTICLE_MOVED"),
            (Action::Remove(..), Some(_)) => Err("ARTICLE_GONE"),
            (Action::Remove(..), None) if live.is_none() => Err("ARTICLE_NOT_FOUND"),
            (Action::Remove(..), None) => Ok(()),
        }
    }

    /// Changes a name. The caller checks paths.
    fn change(&mut self, step: &Step, time: i64) -> StepResult {
        let before = self.names.get(&step.name);
        let unchanged = before.filter(|known| match (&known.state, &step.action) {
            (State::Live(version), Action::Put(content)) => version.content == *content,
            (State::Gone(reason), Action::Remove(..)) => *reason == "KILLED",
            _ => false,
        });
        if let Some(known) = unchanged {
            let etag = match &known.state {
                State::Live(version) => version.etag.clone(),
                State::Gone(_) => Some(String::new()),
            };
            return StepResult { revision: known.revision, changed: false, etag };
        }
        let mut former = before.map(|known| known.former.clone()).unwrap_or_default();
        former.extend(self.live(step.name).and_then(Version::path).map(|(path, _)| (path, time)));
        let (state, etag) = match &step.action {
            Action::Put(content) => {
                former.retain(|path, _| content.path.is_none_or(|(own, _)| own != *path));
                (State::Live(Version { content: content.clone(), etag: None }), None)
            }
            Action::Remove(reason, _) => (State::Gone(reason), Some(String::new())),
        };
        self.head += 1;
        let revision = self.head;
        self.names.insert(step.name, NameState { state, revision, former });
        StepResult { revision, changed: true, etag }
    }

    /// Returns the target of a path: an own path before an alias before a former path, live articles before removed
    /// ones.
    pub(super) fn resolve(&self, path: usize) -> Resolution {
        let to = |name| {
            let own = self.live(name).and_then(Version::path).filter(|(own, _)| *own != path);
            Resolution::To(name, own.map(|(path, spelling)| PATHS[path][spelling]))
        };
        let lists = |name: &usize| self.live(*name).is_some_and(|live| live.content.aliases.contains(&path));
        if let Some(name) = self.owner(path).or_else(|| self.names.keys().copied().find(lists)) {
            return to(name);
        }
        // The last one first, and for equal times the first by id.
        let ceased = |(name, known): (&usize, &NameState)| Some((-*known.former.get(&path)?, *name));
        let mut former: Vec<(i64, usize)> = self.names.iter().filter_map(ceased).collect();
        former.sort_unstable();
        let live = former.iter().find(|(_, name)| self.live(*name).is_some());
        match (live, former.first()) {
            (Some((_, name)), _) => to(*name),
            (None, Some((_, name))) => Resolution::Gone(self.reason(*name).unwrap_or_default()),
            (None, None) => Resolution::Nowhere,
        }
    }

    /// Records the etags that a response returned.
    pub(super) fn learn(&mut self, write: &Write, done: &[StepResult]) {
        for (step, done) in write.steps.iter().zip(done) {
            if let Some(NameState { state: State::Live(version), revision, .. }) =
                self.names.get_mut(&step.name)
                && *revision == done.revision
            {
                version.etag.clone_from(&done.etag);
            }
        }
        if let Some((_, known)) = write.request.as_ref().and_then(|id| self.requests.get_mut(id)) {
            known.clone_from_slice(done);
        }
    }

    /// Converts the model to a copy of the store: etags contain its log id.
    pub(super) fn change_log_id(&mut self, old: &str, new: &str) {
        let rename = |etag: &mut Option<String>| {
            *etag = etag.take().map(|etag| etag.replacen(old, new, 1));
        };
        for known in self.names.values_mut() {
            if let State::Live(version) = &mut known.state {
                rename(&mut version.etag);
            }
        }
        self.requests.values_mut().flat_map(|(_, done)| done).for_each(|done| rename(&mut done.etag));
    }
}

impl Version {
    pub(super) fn path(&self) -> Option<(usize, usize)> {
        self.content.path
    }
}
