//! One write of a writer: its request, and the content of each name once it is done.

use cable_client::{Cable, Change, Error, RawRecord, RemovalReason, v1};
use futures_util::{TryStreamExt as _, stream};
use v1::record::Record;

/// The content of a name, without the fields that the server sets.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "nearly all values are large, so a box would save nothing")]
pub(crate) enum State {
    Live(Record),
    /// The target of a move. Each removal has a different target, which identifies it.
    Moved(String),
}

/// The content of a name with its revision.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Stored {
    pub(crate) revision: i64,
    pub(crate) state: State,
}

impl State {
    /// Returns the name and content of an exported record.
    pub(crate) fn stored(record: Record) -> (String, Stored) {
        macro_rules! live {
            ($variant:ident, $entity:ident) => {{
                let (name, revision) = ($entity.name.clone(), $entity.revision);
                $entity.etag.clear();
                ($entity.revision, $entity.create_time, $entity.update_time) = (0, None, None);
                (name, Stored { revision, state: State::Live(Record::$variant($entity)) })
            }};
        }
        match record {
            Record::Article(mut article) => {
                (article.first_publish_time, article.state, article.word_count) = (None, 0, 0);
                article.former_paths.clear();
                live!(Article, article)
            }
            Record::Author(mut author) => live!(Author, author),
            Record::Section(mut section) => live!(Section, section),
            Record::Tag(mut tag) => live!(Tag, tag),
            Record::Collection(mut collection) => live!(Collection, collection),
            Record::PendingArticle(pending) => unreachable!("no write schedules one: {pending:?}"),
            Record::Tombstone(gone) => {
                (gone.name, Stored { revision: gone.revision, state: State::Moved(gone.moved_to) })
            }
        }
    }
}

/// The change of one name.
#[derive(Debug, Clone)]
pub(crate) struct Effect {
    pub(crate) name: String,
    pub(crate) state: State,
}

/// The call that makes a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Put,
    /// A patch of tags and annotations only.
    Retag,
    Remove,
    Commit,
    Import,
}

/// A write that can be repeated unchanged.
#[derive(Debug, Clone)]
pub(crate) struct Operation {
    pub(crate) request_id: String,
    pub(crate) call: Call,
    pub(crate) effects: Vec<Effect>,
}

/// The result of a write: a revision for each effect, where the call returns it, and the head at acknowledgement.
pub(crate) struct Acknowledged {
    pub(crate) revisions: Vec<Option<i64>>,
    pub(crate) head: i64,
}

macro_rules! with_entity {
    ($record:expr, $entity:ident => $then:expr) => {
        match $record.clone() {
            Record::Article($entity) => $then,
            Record::Author($entity) => $then,
            Record::Section($entity) => $then,
            Record::Tag($entity) => $then,
            Record::Collection($entity) => $then,
            other => panic!("no writer puts {other:?}"),
        }
    };
}

impl Operation {
    pub(crate) async fn run(&self, cable: &Cable) -> Result<Acknowledged, Error> {
        let id = self.request_id.as_str();
        let first = &self.effects[0];
        let written = match (self.call, &first.state) {
            (Call::Commit, _) => {
                let commit = cable.commit().changes(self.effects.iter().map(change));
                let committed = commit.request_id(id).await?;
                let revisions = committed.results.iter().map(|result| Some(result.revision)).collect();
                return Ok(Acknowledged { revisions, head: committed.position.revision });
            }
            (Call::Import, _) => return self.import(cable).await,
            (Call::Retag, State::Live(Record::Article(article))) => {
                cable.patch(article.clone(), ["tags", "annotations"]).request_id(id).await?
            }
            (_, State::Live(record)) => {
                with_entity!(record, entity => cable.put(entity).request_id(id).await?)
            }
            (_, State::Moved(target)) => {
                let remove = cable.remove(&first.name, RemovalReason::Moved);
                remove.moved_to(target).request_id(id).await?
            }
        };
        Ok(Acknowledged { revisions: vec![Some(written.revision)], head: written.position.revision })
    }

    async fn import(&self, cable: &Cable) -> Result<Acknowledged, Error> {
        let record = |effect: &Effect| match &effect.state {
            State::Live(record) => with_entity!(record, entity => RawRecord::from(entity)),
            State::Moved(_) => unreachable!("imports put"),
        };
        let records: Vec<RawRecord> = self.effects.iter().map(record).collect();
        let acks: Vec<_> = cable.import(stream::iter(records)).overwrite().try_collect().await?;
        let results: Vec<_> = acks.iter().flat_map(|ack| &ack.results).collect();
        assert_eq!(results.len(), self.effects.len());
        assert!(results.iter().all(|result| result.outcome() != v1::ImportOutcome::Refused), "{results:?}");
        let head = acks.last().map_or(0, |ack| ack.position.revision);
        Ok(Acknowledged { revisions: vec![None; self.effects.len()], head })
    }
}

fn change(effect: &Effect) -> Change {
    match &effect.state {
        State::Live(record) => with_entity!(record, entity => Change::put(entity)),
        State::Moved(target) => Change::remove(&effect.name, RemovalReason::Moved).moved_to(target),
    }
}
