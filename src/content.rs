//! Reads: answers from memory where they are there, else composed from the store. It knows nothing of the log.

use std::{sync::Arc, time::Duration};

use futures_util::{
    Stream, StreamExt as _,
    stream::{self, TryStreamExt as _},
};

use crate::{
    cache::Cache,
    compose::{Composer, Shape, Wants},
    model::{Kind, LogId, Name, Revision, limit},
    refusal::Refusal,
    store::{
        self, Head, Store,
        listing::{self, Cursor, Query},
        read,
    },
    wire::{Answer, fields, number, v1},
};

pub(crate) mod filter;
mod page;
mod part;
pub(crate) mod token;

use page::Page;
use part::{Answered, Part, State};

/// Parts that one call loads at once: a cold page must not fill the readers' queue alone.
const LOADS: usize = 16;

/// Articles and bytes of one message of a stream: small enough to keep a slow client's share of memory small.
const CHUNK: usize = 64;
const CHUNK_BYTES: usize = 256 << 10;

/// What is wanted of each article of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Selection {
    pub(crate) shape: Shape,
    pub(crate) wants: Wants,
}

/// A listing that is asked for page by page.
#[derive(Debug, Clone)]
pub(crate) struct Listing {
    pub(crate) query: Query,
    /// Binds page tokens to the request.
    pub(crate) fingerprint: u64,
    pub(crate) page_size: usize,
    pub(crate) page_token: String,
}

/// The reading side of a node.
pub(crate) struct Content {
    store: Arc<Store>,
    log_id: LogId,
    parts: Cache<(Name, Shape), Arc<Part>>,
    answers: Cache<(Name, Selection), Arc<Answered>>,
}

impl Content {
    /// `bytes`: the bound of what is kept in memory.
    pub(crate) fn new(store: Arc<Store>, bytes: u64) -> Content {
        let log_id = store.head().log_id;
        // Whole answers are what single articles are asked for by; lists live on parts.
        Content { store, log_id, parts: Cache::new(bytes / 2), answers: Cache::new(bytes / 2) }
    }

    /// Bytes held in memory, hits, misses.
    pub(crate) fn cached(&self) -> (u64, u64, u64) {
        let (parts, answers) = (self.parts.counts(), self.answers.counts());
        (self.parts.bytes() + self.answers.bytes(), parts.0 + answers.0, parts.1 + answers.1)
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
        if log_id.is_some_and(|log_id| log_id != self.log_id) {
            return Err(Refusal::LogChanged(self.log_id));
        }
        let mut heads = self.store.heads();
        let reached = tokio::time::timeout(wait, heads.wait_for(|head| head.revision >= asked)).await;
        match reached {
            Ok(Ok(head)) => Ok(head.clone()),
            _ => Err(Refusal::NotCaughtUp { asked, reached: self.store.head().revision }),
        }
    }

    /// GetArticle.
    pub(crate) async fn article(
        &self,
        name: Name,
        selection: Selection,
        served: Revision,
        if_none_match: &str,
    ) -> Result<Answer, Refusal> {
        const NOT_MODIFIED: u32 = 3;
        let fresh = |found: &Arc<Answered>| {
            let named = found.as_of >= self.store.last_changed(&name);
            named && (!selection.wants.any() || found.as_of >= self.store.references_last_changed())
        };
        let load = self.answer(name.clone(), selection);
        let found = self.answers.get((name.clone(), selection), fresh, load).await;
        let shared = found.result.as_ref().map_err(Refusal::clone)?;
        Ok(shared.answer(self.log_id, served, if_none_match, NOT_MODIFIED))
    }

    async fn answer(&self, name: Name, selection: Selection) -> Arc<Answered> {
        let as_of = self.store.head().revision;
        let composed = self.compose_article(name, selection, "GetArticle", None).await;
        // What failed to be read is not known: it is never fresh.
        let as_of = if matches!(composed, Err(Refusal::Store(_))) { Revision::MIN } else { as_of };
        Arc::new(Answered { as_of, result: composed.map(Composer::finish) })
    }

    async fn compose_article(
        &self,
        name: Name,
        selection: Selection,
        what: &str,
        redirect: Option<(u32, &str)>,
    ) -> Result<Composer, Refusal> {
        let part = self.part(name, selection.shape).await;
        if let Some(refusal) = part.refusal() {
            return Err(refusal);
        }
        let mut page = Page::new(self, selection, usize::MAX);
        page.add(part).await?;
        let mut composer = Composer::new(self.log_id, what, selection.shape, selection.wants);
        put_articles(&mut composer, &page, 1);
        page.includes.compose(&mut composer, 2);
        if let Some((field, path)) = redirect {
            composer.field(field, path.as_bytes());
        }
        Ok(composer)
    }

    /// BatchGetArticles.
    pub(crate) async fn batch(
        &self,
        names: Vec<Name>,
        selection: Selection,
        served: Revision,
        if_none_match: &str,
        error_item: impl Fn(&Refusal) -> v1::ItemError,
    ) -> Result<Answer, Refusal> {
        const NOT_MODIFIED: u32 = 4;
        let mut page = Page::new(self, selection, limit::PAGE.maximum as usize);
        let mut composer = Composer::new(self.log_id, "BatchGetArticles", selection.shape, selection.wants);
        let mut loaded = stream::iter(names.iter().cloned().map(|name| self.part(name, selection.shape)));
        let mut loaded = loaded.by_ref().buffered(LOADS);
        let mut answered = 0;
        while let Some(part) = loaded.next().await {
            if !page.add(part.clone()).await? {
                break;
            }
            let mut item = Vec::new();
            fields::put_string(&mut item, 1, &part.name.to_string());
            match &part.state {
                State::Live { bytes, .. } => fields::put_bytes(&mut item, 2, bytes),
                _ => {
                    let error = part.refusal().as_ref().map(&error_item).unwrap_or_default();
                    fields::put_message(&mut item, 3, &error);
                    page.reserve(item.len());
                }
            }
            composer.field(1, &item);
            answered += 1;
        }
        page.includes.compose(&mut composer, 2);
        for name in &names[answered..] {
            composer.field(3, name.to_string().as_bytes());
        }
        Ok(composer.finish().answer(self.log_id, served, if_none_match, NOT_MODIFIED))
    }

    /// ListArticles.
    pub(crate) async fn list(
        &self,
        listing: Listing,
        selection: Selection,
        served: Revision,
        if_none_match: &str,
    ) -> Result<Answer, Refusal> {
        const NOT_MODIFIED: u32 = 4;
        let from = token::read(&listing.page_token, self.log_id, listing.fingerprint)?;
        let query = Arc::new(listing.query);
        let bound = limit::PAGE.maximum as usize;
        let (page, next) = self.gather(&query, from, listing.page_size, selection, bound).await?;
        let mut composer = Composer::new(self.log_id, "ListArticles", selection.shape, selection.wants);
        put_articles(&mut composer, &page, 1);
        page.includes.compose(&mut composer, 2);
        if let Some(cursor) = next {
            composer.field(3, token::write(&cursor, self.log_id, listing.fingerprint).as_bytes());
        }
        Ok(composer.finish().answer(self.log_id, served, if_none_match, NOT_MODIFIED))
    }

    /// One slice of a listing with its articles, and where to go on.
    async fn gather(
        &self,
        query: &Arc<Query>,
        from: Option<Cursor>,
        limit: usize,
        selection: Selection,
        bound: usize,
    ) -> Result<(Page<'_>, Option<Cursor>), Refusal> {
        let (asked, after) = (query.clone(), from.clone());
        let slice =
            self.store.read(move |connection| listing::slice(connection, &asked, after.as_ref(), limit));
        let slice = slice.await?;
        let mut page = Page::new(self, selection, bound);
        let mut last = from;
        let loads = slice.found.into_iter();
        let loads = loads.map(|(name, cursor)| async { (self.part(name, selection.shape).await, cursor) });
        let mut loaded = stream::iter(loads).buffered(LOADS);
        while let Some((part, cursor)) = loaded.next().await {
            match &part.state {
                // Already reported where it was read; one damaged record must not blank a page.
                State::Failed(store::Error::Corrupt(_)) => {}
                State::Failed(error) => return Err(error.clone().into()),
                _ if !page.add(part.clone()).await? => return Ok((page, last)),
                _ => {}
            }
            last = Some(cursor);
        }
        Ok((page, slice.next))
    }

    /// StreamArticles: a message at a time, made when the client takes it.
    pub(crate) fn stream(
        self: Arc<Self>,
        query: Query,
        selection: Selection,
        most: Option<u64>,
        start: Revision,
    ) -> impl Stream<Item = Result<Answer, Refusal>> + Send {
        let most = most.unwrap_or(u64::MAX);
        let walk =
            Walk { content: self, query: Arc::new(query), selection, most, sent: 0, from: None, start };
        stream::try_unfold(Some(walk), |walk| async move {
            let Some(mut walk) = walk else { return Ok(None) };
            match walk.next().await? {
                Some(message) => Ok(Some((message, Some(walk)))),
                None => Ok(Some((walk.end(), None))),
            }
        })
    }

    /// ResolvePath.
    pub(crate) async fn resolve(
        &self,
        path: String,
        selection: Selection,
        served: Revision,
        if_none_match: &str,
    ) -> Result<Answer, Refusal> {
        const NOT_MODIFIED: u32 = 3;
        let asked = path.clone();
        let owner = self.store.read(move |connection| read::path_owner(connection, &asked)).await?;
        let owner = owner.ok_or(Refusal::PathNotFound)?;
        let part = self.part(owner.clone(), Shape::Basic).await;
        let own = match &part.state {
            State::Live { bytes, .. } => {
                fields::last(bytes, number::article::PATH).unwrap_or_default().to_vec()
            }
            _ => Vec::new(),
        };
        let own = String::from_utf8(own).unwrap_or_default();
        let redirect = (own != path && !own.is_empty()).then_some((4, own.as_str()));
        let composed = self.compose_article(owner, selection, "ResolvePath", redirect).await?;
        Ok(composed.finish().answer(self.log_id, served, if_none_match, NOT_MODIFIED))
    }

    /// GetAuthor, GetSection, GetTag.
    pub(crate) async fn noun(
        &self,
        name: Name,
        served: Revision,
        if_none_match: &str,
    ) -> Result<Answer, Refusal> {
        const NOT_MODIFIED: u32 = 2;
        let part = self.part(name, Shape::WHOLE).await;
        let State::Live { revision, bytes, .. } = &part.state else {
            return Err(part.refusal().unwrap_or(Refusal::Internal("a part is neither there nor missing")));
        };
        let mut composer = Composer::new(self.log_id, "Get", Shape::WHOLE, Wants::default());
        composer.entity(1, &part.name, *revision, bytes);
        Ok(composer.finish().answer(self.log_id, served, if_none_match, NOT_MODIFIED))
    }

    /// ListAuthors, ListSections, ListTags, ListCollections.
    pub(crate) async fn nouns(
        &self,
        kind: Kind,
        page_size: usize,
        page_token: &str,
        served: Revision,
    ) -> Result<Answer, Refusal> {
        let request = kind as u64;
        let from =
            token::read(page_token, self.log_id, request)?.unwrap_or(Cursor { key: 0, id: String::new() });
        let names =
            move |connection: &store::Connection| read::names(connection, kind, &from.id, page_size + 1);
        let mut names = self.store.read(names).await?;
        let more = names.len() > page_size;
        names.truncate(page_size);
        let mut composer = Composer::new(self.log_id, "List", Shape::WHOLE, Wants::default());
        let (mut bytes_used, mut last, mut cut) = (0, None, false);
        for part in self.parts(names, Shape::WHOLE).await? {
            if let State::Live { revision, bytes, .. } = &part.state {
                if last.is_some() && bytes_used + bytes.len() > limit::PAGE.maximum as usize {
                    cut = true;
                    break;
                }
                bytes_used += bytes.len();
                composer.entity(1, &part.name, *revision, bytes);
            }
            last = Some(part.name.id.to_string());
        }
        if let Some(id) = last.filter(|_| more || cut) {
            composer.field(2, token::write(&Cursor { key: 0, id }, self.log_id, request).as_bytes());
        }
        Ok(composer.finish().answer(self.log_id, served, "", 0))
    }

    /// GetCollection.
    pub(crate) async fn collection(
        &self,
        name: Name,
        selection: Selection,
        served: Revision,
        if_none_match: &str,
    ) -> Result<Answer, Refusal> {
        const NOT_MODIFIED: u32 = 5;
        let part = self.part(name, Shape::WHOLE).await;
        let State::Live { revision, bytes, .. } = &part.state else {
            return Err(part.refusal().unwrap_or(Refusal::Internal("a part is neither there nor missing")));
        };
        let listed = fields::fields(bytes)
            .map_while(Result::ok)
            .filter(|field| field.number == number::COLLECTION_ARTICLES);
        let text = |field: fields::Field<'_>| String::from_utf8_lossy(field.value).into_owned();
        let names: Vec<Name> = listed.filter_map(|field| Name::parse(&text(field))).collect();
        let mut composer = Composer::new(self.log_id, "GetCollection", selection.shape, selection.wants);
        composer.entity(1, &part.name, *revision, bytes);
        let mut page = Page::new(self, selection, limit::PAGE.maximum as usize);
        page.reserve(bytes.len());
        let loads = names.iter().cloned().map(|name| self.part(name, selection.shape));
        let mut loaded = stream::iter(loads).buffered(LOADS);
        let mut answered = 0;
        while let Some(article) = loaded.next().await {
            match &article.state {
                State::Live { .. } if !page.add(article.clone()).await? => break,
                State::Live { .. } => {}
                State::Failed(store::Error::Corrupt(_)) | State::Gone(_) | State::Absent => {
                    page.includes.missing.push(article.name.clone());
                }
                State::Failed(error) => return Err(error.clone().into()),
            }
            answered += 1;
        }
        put_articles(&mut composer, &page, 2);
        page.includes.compose(&mut composer, 3);
        for name in &names[answered..] {
            composer.field(4, name.to_string().as_bytes());
        }
        Ok(composer.finish().answer(self.log_id, served, if_none_match, NOT_MODIFIED))
    }

    async fn part(&self, name: Name, shape: Shape) -> Arc<Part> {
        let fresh = |found: &Arc<Part>| found.is_fresh(&self.store);
        let load = Part::load(&self.store, self.log_id, name.clone(), shape);
        self.parts.get((name, shape), fresh, load).await
    }

    /// Several parts, in order.
    async fn parts(&self, names: Vec<Name>, shape: Shape) -> Result<Vec<Arc<Part>>, Refusal> {
        let loads = stream::iter(names.into_iter().map(|name| self.part(name, shape))).buffered(LOADS);
        let checked = loads.map(|part| match &part.state {
            State::Failed(error) if !matches!(error, store::Error::Corrupt(_)) => Err(error.clone().into()),
            _ => Ok(part),
        });
        checked.try_collect().await
    }
}

/// One client's way through a listing: a place in it, never its rows.
struct Walk {
    content: Arc<Content>,
    query: Arc<Query>,
    selection: Selection,
    most: u64,
    sent: u64,
    /// Where to go on, and whether there is more.
    from: Option<Option<Cursor>>,
    /// The head read before the first article.
    start: Revision,
}

impl Walk {
    /// The next message; none at the end of the listing.
    async fn next(&mut self) -> Result<Option<Answer>, Refusal> {
        loop {
            let left = usize::try_from(self.most - self.sent).unwrap_or(usize::MAX).min(CHUNK);
            let from = match &self.from {
                Some(None) => return Ok(None),
                Some(cursor) => cursor.clone(),
                None => None,
            };
            if left == 0 {
                return Ok(None);
            }
            let gathered = self.content.gather(&self.query, from, left, self.selection, CHUNK_BYTES).await?;
            let (page, next) = gathered;
            self.from = Some(next);
            if page.articles.is_empty() {
                continue;
            }
            self.sent += page.articles.len() as u64;
            let selection = self.selection;
            let mut composer =
                Composer::new(self.content.log_id, "StreamArticles", selection.shape, selection.wants);
            put_articles(&mut composer, &page, 1);
            page.includes.compose(&mut composer, 2);
            return Ok(Some(composer.without_meta()));
        }
    }

    fn end(&self) -> Answer {
        let end = v1::StreamArticlesEnd {
            count: i64::try_from(self.sent).unwrap_or(i64::MAX),
            log_id: self.content.log_id.to_string(),
            revision: self.start,
        };
        let mut out = Vec::new();
        fields::put_message(&mut out, 3, &end);
        Answer { shared: out.into(), served_revision: None }
    }
}

fn put_articles(composer: &mut Composer, page: &Page<'_>, field: u32) {
    for part in &page.articles {
        if let State::Live { revision, bytes, .. } = &part.state {
            composer.entity(field, &part.name, *revision, bytes);
        }
    }
}
