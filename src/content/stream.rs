//! StreamArticles: a listing as messages of bounded size, each made when the client takes it.

use std::sync::Arc;

use futures_util::{Stream, stream};

use super::{Asked, Content, Selection, Sliced, composing::rest_on_query, put_articles};
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
const FIRST: usize = 64;
const CHUNK: usize = 256;
/// Bytes of one message. Small messages keep the memory for a slow client small.
const CHUNK_BYTES: usize = 256 << 10;

impl Content {
    /// Returns the messages of a listing, then one with the number of articles. `start` is the head that was read
    /// before.
    pub(crate) fn stream(
        self: Arc<Self>,
        asked: Asked,
        query: Query,
        selection: Selection,
        most: Option<u64>,
        start: Revision,
    ) -> impl Stream<Item = Result<Framed, Refusal>> + Send {
        let most = most.unwrap_or(u64::MAX);
        let query = Arc::new(query);
        let damage = Damage::default();
        let walk = Walk { content: self, asked, query, selection, most, sent: 0, damage, from: None, start };
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
        asked: &Asked,
        query: &Arc<Query>,
        selection: Selection,
        from: Option<Cursor>,
        limit: usize,
    ) -> Result<Arc<Sliced>, Refusal> {
        let key = (asked.clone(), from.clone(), limit);
        let fresh = |found: &Arc<Sliced>| self.store.unchanged_since(found.as_of, &found.stripes);
        if let Some(kept) = self.slices.get_fresh(&key, &fresh).await {
            return Ok(kept);
        }
        let as_of = self.store.revision();
        let mut composer = Composer::new(self.log_id, "StreamArticles", selection.shape, selection.wants);
        rest_on_query(&mut composer, query);
        let (page, next) = self.gather(query, from, limit, selection, CHUNK_BYTES).await?;
        put_articles(&mut composer, &page, 1);
        page.includes.compose(&mut composer, 2);
        let stripes = composer.take_stripes();
        let articles = page.articles.len() as u64;
        let (message, damage) = (composer.finish_without_meta(), page.damage);
        let sliced = Sliced { as_of, stripes, message, articles, damage, next };
        let sliced = Arc::new(sliced);
        self.slices.insert(key, sliced.clone(), fresh).await;
        Ok(sliced)
    }
}

/// The progress of one client through a listing: a cursor, never the rows.
struct Walk {
    content: Arc<Content>,
    asked: Asked,
    query: Arc<Query>,
    selection: Selection,
    most: u64,
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
            let chunk = if self.from.is_none() { FIRST } else { CHUNK };
            let left = usize::try_from(self.most - self.sent).unwrap_or(usize::MAX).min(chunk);
            let from = match &self.from {
                Some(None) => return Ok(None),
                Some(cursor) => cursor.clone(),
                None => None,
            };
            if left == 0 {
                return Ok(None);
            }
            let sliced = self.content.slice(&self.asked, &self.query, self.selection, from, left).await?;
            self.from = Some(sliced.next.clone());
            self.damage.merge(&sliced.damage);
            if sliced.articles > 0 {
                self.sent += sliced.articles;
                return Ok(Some(sliced.message.clone()));
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
