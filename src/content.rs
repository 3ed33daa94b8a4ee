//! Reads: answers from memory where they are there, else composed from the store. It knows nothing of the log.

use std::{sync::Arc, time::Duration};

use crate::{
    cache::Cache,
    compose::{Composer, Shape, Wants},
    model::{LogId, Name, Revision},
    refusal::Refusal,
    store::{Head, Store},
    wire::Framed,
};

mod answer;
mod composing;
pub(crate) mod filter;
mod page;
mod part;
mod stream;
pub(crate) mod token;

use answer::{Answered, SliceKey, Sliced};
pub(crate) use answer::{Asked, Listing, Question, Read};
use part::Part;

/// Parts that one job of a reader thread loads: at most 12 articles of 1 MiB are in memory before a page is found full.
const LOADS: usize = 12;

/// What is wanted of each article of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Selection {
    pub(crate) shape: Shape,
    pub(crate) wants: Wants,
}

/// The reading side of a node.
pub(crate) struct Content {
    store: Arc<Store>,
    log_id: LogId,
    parts: Cache<(Name, Shape), Arc<Part>>,
    answers: Cache<Asked, Arc<Answered>>,
    slices: Cache<SliceKey, Arc<Sliced>>,
}

impl Content {
    /// `bytes`: the bound of what is kept in memory.
    pub(crate) fn new(store: Arc<Store>, bytes: u64) -> Content {
        let log_id = store.head().log_id;
        // Whole answers are what is asked for; parts are for those that are made anew, slices for streams.
        Content {
            store,
            log_id,
            parts: Cache::new(bytes / 4),
            answers: Cache::new(bytes / 2),
            slices: Cache::new(bytes / 4),
        }
    }

    /// Bytes held in memory, hits, misses.
    pub(crate) fn cached(&self) -> (u64, u64, u64) {
        let counts = [self.parts.counts(), self.answers.counts(), self.slices.counts()];
        let sum = |each: fn(&(u64, u64)) -> u64| counts.iter().map(each).sum();
        (
            self.parts.bytes() + self.answers.bytes() + self.slices.bytes(),
            sum(|(hits, _)| *hits),
            sum(|(_, misses)| *misses),
        )
    }

    /// Lets go of all that is in memory: after a kill. It may not be called within a runtime.
    pub(crate) fn forget(&self) {
        self.parts.forget();
        self.answers.forget();
        self.slices.forget();
    }

    /// The head to serve at: at once, or when the node has reached the revision asked for.
    ///
    /// # Errors
    /// The revision is of another log, or was not reached in time.
    pub(crate) async fn reach(
        &self,
        asked: Revision,
        log_id: Option<LogId>,
        wait: Duration,
    ) -> Result<Arc<Head>, Refusal> {
        Refusal::check_log(log_id, self.log_id, "leave at_least_revision and log_id unset")?;
        let mut heads = self.store.heads();
        let reached = tokio::time::timeout(wait, heads.wait_for(|head| head.revision >= asked)).await;
        match reached {
            Ok(Ok(head)) => Ok(head.clone()),
            _ => Err(Refusal::NotCaughtUp { asked, reached: self.store.revision() }),
        }
    }

    /// An answer that is in memory.
    pub(crate) async fn kept(&self, asked: &Asked) -> Option<Result<Framed, Refusal>> {
        // Read before the answer is found fresh: the answer is at least as new as it says.
        let served = self.store.revision();
        let answered = self.answers.kept(asked, |found| self.is_fresh(found)).await?;
        Some(answered.to(served, ""))
    }

    /// The answer to a question, from memory or composed. `served` is a head that the caller has seen.
    ///
    /// # Errors
    /// What the question names is not there, or cannot be read now.
    pub(crate) async fn answer(
        &self,
        asked: Asked,
        question: Question,
        served: Revision,
        if_none_match: &str,
    ) -> Result<Framed, Refusal> {
        let load = || self.compose(question.clone());
        let answered = self.answers.get(asked, |found| self.is_fresh(found), load).await;
        answered.to(served, if_none_match)
    }

    fn is_fresh(&self, answered: &Answered) -> bool {
        self.store.unchanged_since(answered.as_of, &answered.stripes)
    }

    async fn compose(&self, question: Question) -> Arc<Answered> {
        let as_of = self.store.revision();
        let mut composer = question.composer(self.log_id);
        let not_modified = question.not_modified();
        let composed = self.put_answer(&mut composer, question).await;
        // What failed to be read is not known: it is never fresh.
        let as_of = if matches!(composed, Err(Refusal::Store(_))) { Revision::MIN } else { as_of };
        let stripes = composer.take_stripes();
        Arc::new(Answered { as_of, stripes, result: composed.map(|()| composer.finish(not_modified)) })
    }

    async fn part(&self, name: Name, shape: Shape) -> Arc<Part> {
        let mut parts = self.parts(vec![name], shape).await;
        parts.remove(0)
    }

    /// Parts in order; what is not in memory is loaded in one job.
    async fn parts(&self, names: Vec<Name>, shape: Shape) -> Vec<Arc<Part>> {
        let mut parts = Vec::with_capacity(names.len());
        let mut missing = Vec::new();
        for name in names {
            let key = (name, shape);
            let kept = self.parts.kept(&key, |found| found.is_fresh(&self.store)).await;
            if kept.is_none() {
                missing.push(key.0);
            }
            parts.push(kept);
        }
        let mut loaded = Vec::new();
        if !missing.is_empty() {
            loaded = Part::load(&self.store, self.log_id, missing, shape).await;
        }
        for part in &loaded {
            if part.failure().is_none() {
                let fresh = |part: &Arc<Part>| part.is_fresh(&self.store);
                self.parts.keep((part.name.clone(), shape), part.clone(), fresh).await;
            }
        }
        let mut loaded = loaded.into_iter();
        parts.into_iter().filter_map(|part| part.or_else(|| loaded.next())).collect()
    }
}

fn put_articles(composer: &mut Composer, page: &page::Page<'_>, field: u32) {
    for part in &page.articles {
        if let part::State::Live { revision, bytes, .. } = &part.state {
            composer.entity(field, &part.name, *revision, bytes);
        }
    }
}
