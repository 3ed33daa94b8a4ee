//! Calls of StreamArticles, each for all articles that match.

use std::time::{Duration, Instant};

use cable_client::Cable;
use futures_util::StreamExt as _;
use serde_json::Value;
use tokio::time::timeout;

use super::{
    check::{Expected, Failure, Fault, Listing, Outcome},
    pace,
};

/// StreamArticles calls with one filter.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) expected: Expected,
    pub(crate) limit: Option<u64>,
    pub(crate) timeout: Duration,
}

impl Work {
    async fn stream(&self, cable: &Cable) -> Outcome {
        let Expected { view, format, filter, order, .. } = &self.expected;
        let mut call = cable.stream(filter.clone()).order(*order).view(*view).body_format(*format);
        if let Some(limit) = self.limit {
            call = call.max_articles(limit);
        }
        let (mut articles, mut listing) = (call.articles(), Listing::new(&self.expected));
        while let Some(article) = articles.next().await {
            listing.push(&article?);
            listing.response_mut().first.get_or_insert_with(Instant::now);
        }
        let end = articles.end().ok_or(Fault::Count)?;
        let received = listing.response_mut().articles;
        if u64::try_from(end.count) != Ok(received) || self.limit.is_some_and(|limit| received > limit) {
            return Err(Fault::Count.into());
        }
        Ok(listing.finish(end.revision, false)?)
    }
}

impl pace::Work for Work {
    const NAME: &'static str = "stream";

    fn facts(&self) -> Vec<(&'static str, Value)> {
        vec![("limit", self.limit.into())]
    }

    async fn call(&self, cable: &Cable, _number: u64) -> Outcome {
        timeout(self.timeout, self.stream(cable)).await.unwrap_or(Err(Failure::Deadline))
    }

    fn unsteady(&self) -> u64 {
        self.expected.unsteady()
    }
}
