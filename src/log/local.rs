//! The log of a node on its own: the store itself. An entry is appended and applied in one transaction, together with
//! whatever else is waiting (group commit), and acknowledged when that is on disk.

use std::thread;

use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};

use super::{Change, Commit, Log, Outcome, Position, Step};
use crate::{
    model::{Kind, Slot},
    store::{
        self, Made, Writer,
        apply::{Applier, Request},
    },
};

/// Appends that may wait; the next one is refused.
const QUEUE: usize = 1_024;

/// A group ends with the append that reaches this many entries; 1,000 hold the writer for some 0.1 s.
const GROUP: usize = 1_000;

type Answer = Result<Vec<Outcome>, store::Error>;

struct Append {
    commits: Vec<Commit>,
    reply: oneshot::Sender<Answer>,
}

/// The log of a single node. Dropping it waits until what is queued is written.
#[derive(Debug)]
pub(crate) struct LocalLog {
    queue: Option<mpsc::Sender<Append>>,
    writer: Option<thread::JoinHandle<()>>,
}

impl Drop for LocalLog {
    fn drop(&mut self) {
        self.queue = None;
        if self.writer.take().is_some_and(|writer| writer.join().is_err()) {
            tracing::error!("the writer's thread panicked");
        }
    }
}

impl LocalLog {
    /// Starts the writer's thread.
    pub(crate) fn start(writer: Writer) -> LocalLog {
        let (queue, appends) = mpsc::channel(QUEUE);
        let spawned = thread::Builder::new().name("log-write".into()).spawn(move || write(writer, appends));
        let writer = spawned.expect("a thread can be started when the node starts");
        LocalLog { queue: Some(queue), writer: Some(writer) }
    }
}

impl Log for LocalLog {
    fn append(&self, commits: Vec<Commit>) -> BoxFuture<'_, Answer> {
        let (reply, answer) = oneshot::channel();
        let sent = match &self.queue {
            None => Err(store::Error::Closed),
            Some(queue) => queue.try_send(Append { commits, reply }).map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => store::Error::Overloaded,
                mpsc::error::TrySendError::Closed(_) => store::Error::Closed,
            }),
        };
        Box::pin(async move {
            sent?;
            answer.await.unwrap_or(Err(store::Error::Closed))
        })
    }
}

fn write(mut writer: Writer, mut appends: mpsc::Receiver<Append>) {
    while let Some(first) = appends.blocking_recv() {
        let mut group = vec![first];
        let entries = |append: &Append| append.commits.iter().map(|commit| commit.steps.len()).sum::<usize>();
        let mut size = entries(&group[0]);
        while size < GROUP {
            let Ok(next) = appends.try_recv() else { break };
            size += entries(&next);
            group.push(next);
        }
        let written = writer.transact(|applier| {
            let append =
                |append: &Append| append.commits.iter().map(|commit| commit_one(applier, commit)).collect();
            group.iter().map(append).collect::<Result<Vec<Vec<Outcome>>, _>>()
        });
        match written {
            Ok(outcomes) => {
                for (append, outcomes) in group.into_iter().zip(outcomes) {
                    let _ = append.reply.send(Ok(outcomes));
                }
            }
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "a group of writes failed");
                for append in group {
                    let _ = append.reply.send(Err(error.clone()));
                }
            }
        }
    }
}

/// All of a commit's conditions are checked before its first entry is applied, so that it happens whole or not.
fn commit_one(applier: &mut Applier<'_>, commit: &Commit) -> Result<Outcome, store::Error> {
    if let Some((id, hash)) = &commit.request {
        match applier.past_request(id)? {
            Some(past) if past.hash == *hash => return Ok(Outcome::Duplicate(past.made)),
            Some(_) => return Ok(Outcome::Reused),
            None => {}
        }
    }
    for step in &commit.steps {
        if let Step::Append(changes) = step
            && changes.last().map_or(Ok(false), |change| has_changed(applier, change))?
        {
            return Ok(Outcome::Conflict);
        }
    }
    let mut made: Vec<Made> = Vec::with_capacity(commit.steps.len());
    for step in &commit.steps {
        match step {
            Step::Append(changes) => made.extend(append(applier, changes)?),
            Step::Unchanged(found) => made.push(*found),
        }
    }
    if let Some((id, hash)) = &commit.request {
        applier.remember(&Request { id, hash, made: &made, time: commit.time })?;
    }
    Ok(Outcome::Committed(made, Position::of(applier.head())))
}

/// Whether a name is no longer what a change was made for. Only articles have more than one slot.
fn has_changed(applier: &Applier<'_>, change: &Change) -> Result<bool, store::Error> {
    let name = &change.entry.name;
    let slots = if name.kind == Kind::Article { &Slot::ALL[..] } else { &[Slot::Live] };
    for slot in slots {
        if applier.current(name, *slot)? != change.expected.of(*slot) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Applies the entries of one step: what came of the last.
fn append(applier: &mut Applier<'_>, changes: &[Change]) -> Result<Option<Made>, store::Error> {
    let mut last = None;
    for Change { entry, packed, .. } in changes {
        let revision = applier.apply(entry, packed)?;
        let due = entry.derived.due.filter(|_| entry.slot == Slot::Pending);
        last = Some(Made { revision, slot: entry.slot, due });
    }
    Ok(last)
}
