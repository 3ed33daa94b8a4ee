//! Patches of articles.

use std::{future::IntoFuture, time::Duration};

use super::{WriteOptions, WriteOutcome, random_request_id, write_option_setters, write_outcome};
use crate::{
    BoxFuture, Cable, Result,
    v1::{self, ArticlePatch, Precondition, UpdateKind},
};

impl Cable {
    /// Replaces top-level fields of an article. The mask names the fields; a field in the mask that is unset in
    /// `article` is cleared. With an empty mask, the fields that are set in `article` are replaced.
    ///
    /// ```no_run
    /// # async fn example(cable: cable_client::Cable) -> cable_client::Result<()> {
    /// use cable_client::{UpdateKind, v1};
    ///
    /// let mut article = v1::Article::default();
    /// article.name = "storm".into();
    /// article.headline = "Storm over Norwick passes".into();
    /// cable.patch(article, ["headline"]).update_kind(UpdateKind::Minor).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`put`](Cable::put). NOT_FOUND if the article does not exist.
    pub fn patch(&self, article: v1::Article, mask: impl IntoIterator<Item = impl Into<String>>) -> Patch {
        Patch {
            cable: self.clone(),
            patch: ArticlePatch::new(article, mask),
            options: WriteOptions::default(),
        }
    }
}

/// A call that replaces fields of an article. Await it. See [`Cable::patch`].
///
/// ```no_run
/// # async fn example(cable: cable_client::Cable) -> cable_client::Result<()> {
/// use cable_client::v1;
///
/// let current = cable.article("storm").await?;
/// let mut article = v1::Article::default();
/// article.name = "storm".into();
/// // The mask names `kicker`, which is unset here: the patch clears it. No other field changes.
/// cable.patch(article, ["kicker"]).if_etag(&current.etag).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "calls do nothing unless awaited"]
pub struct Patch {
    cable: Cable,
    patch: ArticlePatch,
    options: WriteOptions,
}

impl Patch {
    write_option_setters!();

    /// Sets the kind of update, for followers of feeds. If unset, MAJOR.
    pub fn update_kind(mut self, kind: UpdateKind) -> Self {
        self.options.update_kind = kind;
        self
    }
}

impl IntoFuture for Patch {
    type Output = Result<WriteOutcome>;
    type IntoFuture = BoxFuture<Result<WriteOutcome>>;

    fn into_future(self) -> Self::IntoFuture {
        let Patch { cable, patch, options } = self;
        let request = v1::PatchArticleRequest {
            article: patch.article,
            update_mask: patch.update_mask,
            precondition: options.precondition,
            request_id: options.request_id.unwrap_or_else(random_request_id),
            update_kind: options.update_kind.into(),
        };
        Box::pin(async move {
            let response = cable.call(request, options.timeout).await?;
            write_outcome(response.result, response.position)
        })
    }
}
