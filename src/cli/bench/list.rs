//! `cable bench list`: calls ListArticles for the first page of a list.

use cable_client::{Cable, v1::ArticleView};
use clap::Args;
use serde_json::Value;

use super::{
    Load,
    check::{Expected, Fault, Listing, Outcome},
    pace,
};
use crate::cli::article::{Filter, Shape};

#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    filter: Filter,
    /// Maximum number of articles on a page.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    page_size: u32,
    #[command(flatten)]
    shape: Shape,
    #[command(flatten)]
    pub(super) load: Load,
}

/// ListArticles calls with one filter.
#[derive(Debug)]
pub(crate) struct Work {
    expected: Expected,
    page_size: u32,
}

impl Work {
    pub(crate) fn new(list: &List) -> Work {
        let (view, format) = (list.shape.view(ArticleView::Basic), list.shape.body_format());
        let expected = Expected::new(view, format, list.filter.to_message(), list.filter.order());
        Work { expected, page_size: list.page_size }
    }
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
