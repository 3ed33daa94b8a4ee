//! StreamArticles: a listing as messages of bounded size, each made when the client takes it.

use std::sync::Arc;

use futures_util::{Stream, stream};

use super::{CachedSlice, Content, RequestKey, Selection, Viewer, composing::depend_on_query, put_articles};
use crate::{
    compose::Composer,
    model::Revision,
    refusal::Refusal,
    store::{
        Damage,
        listing::{Cursor, Query},
    },
    wire::{Framed, fields, framed, v1},
};

/// The numbers of articles in the first message of a stream, which should arrive soon, and in each later one. Larger
/// messages need fewer lookups.
const FIRST_CHUNK: usize = 64;
const CHUNK: usize = 256;
/// Bytes of one message. Small messages keep the memory for a slow client small.
const CHUNK_BYTES: usize = 256 << 10;

impl Content {
    /// Returns the messages of a listing, then one with the number of articles. `start` is the head that was read
    /// before.
    pub(crate) fn stream(
        self: Arc<Self>,
        key: RequestKey,
        (query, viewer): (Query, Viewer),
        selection: Selection,
        max_articles: Option<u64>,
        start: Revision,
    ) -> impl Stream<Item = Result<Framed, Refusal>> + Send {
        let max_articles = max_articles.unwrap_or(u64::MAX);
        let query = Arc::new(query);
        let damage = Damage::default();
        let walk = Walk {
            content: self,
            key,
            query,
            viewer,
            selection,
            max_articles,
            sent: 0,
            damage,
            from: None,
            start,
        };
        stream::try_unfold(Some(walk), |walk| async move {
            let Some(mut walk) = walk else { return Ok(None) };
            match walk.next().await? {
                Some(message) => Ok(Some((message, Some(walk)))),
                None => Ok(Some((walk.end(), None))),
            }
        })
    }

    /// Returns one message, from the cache or composed.
    async fn slice(
        &self,
        request: &RequestKey,
        (query, viewer): (&Arc<Query>, &Viewer),
        selection: Selection,
        from: Option<Cursor>,
        limit: usize,
    ) -> Result<Arc<CachedSlice>, Refusal> {
        let key = (request.clone(), from.clone(), limit);
        let fresh = |found: &Arc<CachedSlice>| self.store.unchanged_since(found.as_of, &found.stripes);
        if let Some(cached) = self.slices.get_fresh(&key, &fresh).await {
            return Ok(cached);
        }
        let as_of = self.store.revision();
        let mut composer = Composer::new(self.log_id, "StreamArticles", selection.shape, selection.wants);
        depend_on_query(&mut composer, query);
        let (page, next) = self.gather((query, viewer), from, limit, selection, CHUNK_BYTES).await?;
        put_articles(&mut composer, &page, 1);
        page.includes.compose(&mut composer, 2);
        let stripes = composer.take_stripes();
        let articles = page.articles.len() as u64;
        let (message, damage) = (composer.finish_without_meta(), page.damage);
        let slice = CachedSlice { as_of, stripes, message, articles, damage, next };
        let slice = Arc::new(slice);
        self.slices.insert(key, slice.clone(), fresh).await;
        Ok(slice)
    }
}

/// The progress of one client through a listing: a cursor, never the rows.
struct Walk {
    content: Arc<Content>,
    key: RequestKey,
    query: Arc<Query>,
    viewer: Viewer,
    selection: Selection,
    max_articles: u64,
    sent: u64,
    damage: Damage,
    /// Where the listing continues: None at the start, `Some(None)` at the end.
    from: Option<Option<Cursor>>,
    /// The head that was read before the first article.
    start: Revision,
}

impl Walk {
    /// Returns the next message. None at the end of the listing.
    async fn next(&mut self) -> Result<Option<Framed>, Refusal> {
        loop {
            let chunk = if self.from.is_none() { FIRST_CHUNK } else { CHUNK };
            let limit = usize::try_from(self.max_articles - self.sent).unwrap_or(usize::MAX).min(chunk);
            let from = match &self.from {
                Some(None) => return Ok(None),
                Some(cursor) => cursor.clone(),
                None => None,
            };
            if limit == 0 {
                return Ok(None);
            }
            let slice = self
                .content
                .slice(&self.key, (&self.query, &self.viewer), self.selection, from, limit)
                .await?;
            self.from = Some(slice.next.clone());
            self.damage.merge(&slice.damage);
            if slice.articles > 0 {
                self.sent += slice.articles;
                return Ok(Some(slice.message.clone()));
            }
        }
    }

    fn end(&self) -> Framed {
        let end = v1::StreamArticlesEnd {
            count: i64::try_from(self.sent).unwrap_or(i64::MAX),
            log_id: self.content.log_id.to_string(),
            revision: self.start,
            damage: self.damage.to_message(),
        };
        let mut out = vec![0; framed::PREFIX];
        fields::put_message(&mut out, 3, &end);
        Framed::message(out)
    }
}
