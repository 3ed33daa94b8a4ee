//! Calls of ListArticles for the first page of a list.

use cable_client::Cable;
use serde_json::Value;

use super::{
    check::{Expected, Fault, Listing, Outcome},
    pace,
};

/// ListArticles calls with one filter.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) expected: Expected,
    pub(crate) page_size: u32,
}

impl pace::Work for Work {
    const NAME: &'static str = "list";

    fn facts(&self) -> Vec<(&'static str, Value)> {
        vec![("page_size", self.page_size.into())]
    }

    async fn call(&self, cable: &Cable, _number: u64) -> Outcome {
        let Expected { view, format, filter, order, .. } = &self.expected;
        let call = cable.list(filter.clone()).order(*order).page_size(self.page_size);
        let page = call.view(*view).body_format(*format).await?;
        let mut listing = Listing::new(&self.expected);
        page.articles.iter().for_each(|article| listing.push(article));
        if page.articles.len() > self.page_size as usize {
            return Err(Fault::Count.into());
        }
        let revision = i64::try_from(page.meta.served_revision).unwrap_or(i64::MAX);
        Ok(listing.finish(revision, page.next_page_token.is_some())?)
    }

    fn unsteady(&self) -> u64 {
        self.expected.unsteady()
    }
}
