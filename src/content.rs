//! Reads: responses from the cache, or composed from the store. This module does not depend on the log.

use std::{sync::Arc, time::Duration};

use crate::{
    auth::Scope,
    cache::{self, Cache},
    clock::Clock,
    compose::{Composer, Shape, Wants},
    model::{Kind, LogId, Name, Revision},
    refusal::Refusal,
    store::{Head, Store, Subject},
    wire::Framed,
};

mod answer;
mod composing;
mod document;
mod output;
mod page;
mod part;
mod stream;

use answer::{CachedResponse, CachedSlice, Encoding, SliceKey};
pub(crate) use answer::{Form, Listing, Read, ReadQuery, RequestKey};
pub(crate) use document::{Document, key_of};
pub(crate) use output::{Articles, Collected, Output, Source, Topic};
use part::Part;

/// The articles that a caller is limited to. `None`: it sees all of them.
pub(crate) type Viewer = Option<Arc<Scope>>;

/// Parts that one job of a reader thread loads. At most 12 articles of 1 MiB are in memory before a page is found to be
/// full.
const MAX_LOADS: usize = 12;

/// The shape of the articles of a response, and the entities to include with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Selection {
    pub(crate) shape: Shape,
    pub(crate) wants: Wants,
}

/// The read side of a node.
pub(crate) struct Content {
    store: Arc<Store>,
    clock: Clock,
    log_id: LogId,
    parts: Cache<(Name, Shape), Arc<Part>>,
    responses: Cache<RequestKey, Arc<CachedResponse>>,
    slices: Cache<SliceKey, Arc<CachedSlice>>,
}

impl Content {
    /// Creates the read side. `bytes` is the bound of all its caches together.
    pub(crate) fn new(store: Arc<Store>, clock: Clock, bytes: u64) -> Content {
        let log_id = store.head().log_id;
        // Most calls need whole responses. Parts serve responses that are composed again, slices serve streams.
        Content {
            store,
            clock,
            log_id,
            parts: Cache::new(bytes / 4),
            responses: Cache::new(bytes / 2),
            slices: Cache::new(bytes / 4),
        }
    }

    /// Returns the counts of all caches together.
    pub(crate) fn cache_counts(&self) -> cache::Counts {
        [self.parts.counts(), self.responses.counts(), self.slices.counts()].into_iter().sum()
    }

    /// Drops cached values until each cache holds at most half of its bound.
    pub(crate) async fn shrink_caches(&self) {
        self.parts.shrink().await;
        self.responses.shrink().await;
        self.slices.shrink().await;
    }

    /// Drops everything that is cached, after a kill. It must not be called within a runtime.
    pub(crate) fn clear_caches(&self) {
        self.parts.clear();
        self.responses.clear();
        self.slices.clear();
    }

    /// Returns the head to serve at: immediately, or when the node has reached the requested revision.
    ///
    /// # Errors
    /// The revision belongs to another log, or was not reached in time.
    pub(crate) async fn wait_for_revision(
        &self,
        requested: Revision,
        log_id: Option<LogId>,
        wait: Duration,
    ) -> Result<Arc<Head>, Refusal> {
        Refusal::check_log(log_id, self.log_id, "leave at_least_revision and log_id unset")?;
        let mut heads = self.store.heads();
        let reached = tokio::time::timeout(wait, heads.wait_for(|head| head.revision >= requested)).await;
        match reached {
            Ok(Ok(head)) => Ok(head.clone()),
            _ => Err(Refusal::NotCaughtUp { requested, reached: self.store.revision() }),
        }
    }

    /// Returns a response from the cache.
    pub(crate) async fn get_cached(&self, key: &RequestKey) -> Option<Result<Framed, Refusal>> {
        // Read the revision before the freshness of the response is checked: the response is then at least as new as
        // the revision that it states.
        let served = self.store.revision();
        let cached = self.responses.get_fresh(key, |found| self.is_fresh(found)).await?;
        Some(cached.respond(served, ""))
    }

    /// Returns the response to a query, from the cache or composed. `served` is a head that the caller has seen. A
    /// caller with a scope has narrowed its query to it.
    ///
    /// # Errors
    /// An entity that the query names does not exist, or cannot be read now.
    pub(crate) async fn respond(
        &self,
        key: RequestKey,
        (query, viewer): (ReadQuery, &Viewer),
        served: Revision,
        if_none_match: &str,
    ) -> Result<Framed, Refusal> {
        let load = || self.compose(query.clone(), viewer);
        let response = self.responses.get(key, |found| self.is_fresh(found), load).await;
        response.respond(served, if_none_match)
    }

    /// Returns a document from the cache, with the revision at which it is served.
    pub(crate) async fn get_cached_document(
        &self,
        key: &RequestKey,
    ) -> Option<Result<(Arc<Document>, Revision), Refusal>> {
        // In the order of `get_cached`, for the same reason.
        let served = self.store.revision();
        let cached = self.responses.get_fresh(key, |found| self.is_fresh(found)).await?;
        Some(cached.document().map(|document| (document, served)))
    }

    /// Returns the response to a query as a document, from the cache or composed. `keys` are the surrogate keys of the
    /// request, which depend on nothing but the key.
    ///
    /// # Errors
    /// As [`Content::respond`]; or the document is larger than the limit.
    pub(crate) async fn document(
        &self,
        key: RequestKey,
        (query, viewer): (ReadQuery, &Viewer),
        keys: &Arc<[String]>,
    ) -> Result<Arc<Document>, Refusal> {
        let load = || self.compose_document(&key, query.clone(), viewer, keys.clone());
        self.responses.get(key.clone(), |found| self.is_fresh(found), load).await.document()
    }

    async fn compose_document(
        &self,
        key: &RequestKey,
        query: ReadQuery,
        viewer: &Viewer,
        keys: Arc<[String]>,
    ) -> Arc<CachedResponse> {
        let message = RequestKey { form: Form::Message, ..key.clone() };
        let composed = match self.responses.get_fresh(&message, |found| self.is_fresh(found)).await {
            Some(cached) => cached,
            None => self.compose(query, viewer).await,
        };
        let (read, source) = (key.read, composed.clone());
        let encoded = match &composed.result {
            Err(refusal) => Err(refusal.clone()),
            // A page of 2 MiB would occupy a serving thread for too long.
            Ok(_) => {
                let encode = self.store.read(move |_| Ok(source.encode_json(read, &keys)));
                encode.await.map_err(Refusal::Store).flatten()
            }
        };
        let as_of = if matches!(encoded, Err(Refusal::Store(_))) { Revision::MIN } else { composed.as_of };
        let result = encoded.map(|document| Encoding::Document(Arc::new(document)));
        Arc::new(CachedResponse { as_of, stripes: composed.stripes.clone(), until: None, result })
    }

    fn is_fresh(&self, response: &CachedResponse) -> bool {
        self.store.unchanged_since(response.as_of, &response.stripes)
            && response.until.is_none_or(|until| self.clock.now() < until)
    }

    async fn compose(&self, query: ReadQuery, viewer: &Viewer) -> Arc<CachedResponse> {
        let as_of = self.store.revision();
        let mut composer = query.composer(self.log_id);
        let not_modified = query.not_modified();
        depend_on_scope(&mut composer, viewer);
        let composed = self.put_response(&mut composer, query, viewer).await;
        // The result of a failed read is unknown: it is never fresh.
        let as_of = if matches!(composed, Err(Refusal::Store(_))) { Revision::MIN } else { as_of };
        let stripes = composer.take_stripes();
        Arc::new(CachedResponse {
            as_of,
            stripes,
            until: None,
            result: composed.map(|()| Encoding::Message(composer.finish(not_modified))),
        })
    }

    /// Returns an article as a caller sees it.
    async fn article(&self, name: Name, shape: Shape, viewer: &Viewer) -> Arc<Part> {
        let mut parts = self.articles(vec![name], shape, viewer).await;
        parts.remove(0)
    }

    /// Returns articles as a caller sees them, in the order of the names. Those of a scope are not cached: whether an
    /// article is in it is decided in the same snapshot in which the article is read.
    async fn articles(&self, names: Vec<Name>, shape: Shape, viewer: &Viewer) -> Vec<Arc<Part>> {
        match viewer {
            None => self.parts(names, shape).await,
            viewer => Part::load(&self.store, self.log_id, names, shape, viewer.clone()).await,
        }
    }

    async fn part(&self, name: Name, shape: Shape) -> Arc<Part> {
        let mut parts = self.parts(vec![name], shape).await;
        parts.remove(0)
    }

    /// Returns parts in the order of the names. All parts that are not cached are loaded in one job.
    async fn parts(&self, names: Vec<Name>, shape: Shape) -> Vec<Arc<Part>> {
        let mut parts = Vec::with_capacity(names.len());
        let mut missing = Vec::new();
        for name in names {
            let key = (name, shape);
            let cached = self.parts.get_fresh(&key, |found| found.is_fresh(&self.store)).await;
            if cached.is_none() {
                missing.push(key.0);
            }
            parts.push(cached);
        }
        let mut loaded = Vec::new();
        if !missing.is_empty() {
            loaded = Part::load(&self.store, self.log_id, missing, shape, None).await;
        }
        for part in &loaded {
            if part.failure().is_none() {
                let fresh = |part: &Arc<Part>| part.is_fresh(&self.store);
                self.parts.insert((part.name.clone(), shape), part.clone(), fresh).await;
            }
        }
        let mut loaded = loaded.into_iter();
        parts.into_iter().filter_map(|part| part.or_else(|| loaded.next())).collect()
    }
}

/// Makes a response depend on the sections, if they decide which articles a scope has.
fn depend_on_scope(composer: &mut Composer, viewer: &Viewer) {
    if viewer.as_ref().is_some_and(|scope| !scope.query().section_trees.is_empty()) {
        composer.depends_on(Subject::Kind(Kind::Section));
    }
}

fn put_articles(composer: &mut Composer, page: &page::Page<'_>, field: u32) {
    for part in &page.articles {
        if let part::State::Live { revision, bytes, expire_time, .. } = &part.state {
            composer.entity(field, &part.name, *revision, bytes);
            composer.changes_at(*expire_time);
        }
    }
}
