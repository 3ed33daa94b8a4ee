//! Reads that return many articles or entities: batches, pages and streams.
//!
//! The three kinds of response are in files of their own: a batch is one call per 500 names, a listing one call per
//! page, a stream one call. A stream and a listing end with an error if the server could not read some of the records,
//! after all the others were delivered.

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::{
    Stream, StreamExt as _, TryStreamExt as _,
    stream::{self, BoxStream},
};
use tonic::Streaming;

use crate::{Error, Result, client::report_outcome, pool::NodeGuard, v1::Damage};

mod batch;
mod entities;
mod pages;
mod streams;

pub(crate) use batch::merge_includes;
pub use batch::{BatchArticles, BatchItem, GetArticles};
pub use entities::{ListEntities, Listable};
pub use pages::{ListArticles, Page};
pub use streams::{ArticleStream, StreamArticles};

/// A stream of results. It ends after an error.
pub type ResultStream<T> = BoxStream<'static, Result<T>>;

/// A value that is only reached by its owner, and thus is `Sync`.
pub(crate) struct Exclusive<T>(Mutex<T>);

impl<T> Exclusive<T> {
    pub(crate) fn new(value: T) -> Self {
        Exclusive(Mutex::new(value))
    }

    /// Returns the value without locking.
    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The items of a page, and the records that it lacks.
pub(crate) type PageItems<T> = (Vec<T>, Option<Damage>);

/// Returns the items of all pages, followed by an error if records were missing.
pub(crate) fn items<T: Send + 'static>(
    pages: impl Stream<Item = Result<PageItems<T>>> + Send + 'static,
) -> ResultStream<T> {
    let damage_total = Arc::new(Mutex::new(None::<Damage>));
    let shared_total = damage_total.clone();
    let items = pages.map_ok(move |(items, damage)| {
        let mut total = shared_total.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(more) = damage {
            let total = total.get_or_insert_default();
            total.count += more.count;
            total.names.extend(more.names.into_iter().take(100_usize.saturating_sub(total.names.len())));
            total.database |= more.database;
        }
        stream::iter(items.into_iter().map(Ok))
    });
    let end = stream::once(async move {
        let damage = damage_total.lock().unwrap_or_else(PoisonError::into_inner).take();
        damage.map(|damage| Err(Error::incomplete(&damage)))
    });
    items.try_flatten().chain(end.filter_map(std::future::ready)).boxed()
}

/// Returns the messages of a stream with the errors of this crate. The node counts as busy until the stream is dropped.
pub(crate) fn messages<M: Send + 'static>((messages, node): (Streaming<M>, NodeGuard)) -> ResultStream<M> {
    messages
        .map(move |message| {
            let message = message.map_err(|status| Error::from_call(status, Some(node.peer())));
            if let Err(error) = &message {
                report_outcome(&node, Some(error));
            }
            message.map_err(Error::with_slow_reader)
        })
        .boxed()
}

/// Returns a page token, or `None` for the empty token of the last page.
pub(crate) fn non_empty(token: String) -> Option<String> {
    Some(token).filter(|token| !token.is_empty())
}
