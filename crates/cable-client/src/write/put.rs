//! Puts of entities.

use std::{future::IntoFuture, time::Duration};

use super::{Entity, WriteOptions, WriteOutcome, write_option_setters};
use crate::{
    BoxFuture, Cable, Result,
    v1::{self, Body, BodySource, Precondition, UpdateKind},
};

impl Cable {
    /// Puts an article, author, section, tag or collection: creates it, or replaces it as a whole. Its name can be a
    /// bare id.
    ///
    /// ```no_run
    /// # async fn example(cable: cable_client::Cable) -> cable_client::Result<()> {
    /// use cable_client::v1;
    ///
    /// let mut article = v1::Article::default();
    /// article.name = "storm".into();
    /// article.headline = "Storm over Norwick".into();
    /// let written = cable.put(article).if_absent().await?;
    /// println!("{} has the etag {}", written.name, written.etag);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// INVALID_ARGUMENT with the invalid fields. ALREADY_EXISTS with `PathTaken`, or with `NameExists` after
    /// [`if_absent`](Put::if_absent). ABORTED with `EtagMismatch` after [`if_etag`](Put::if_etag). FAILED_PRECONDITION
    /// with `NameKilled`: see [`allow_killed`](Put::allow_killed) for an article and [`Change::allow_killed()`](crate::Change::allow_killed()) for
    /// other kinds.
    pub fn put<E: Entity>(&self, entity: E) -> Put<E> {
        Put { cable: self.clone(), entity: entity.with_full_name(), options: WriteOptions::default() }
    }
}

/// A call that puts an entity. Await it. See [`Cable::put`].
///
/// An article whose `publish_time` or embargo lies in the future becomes the pending version of its name. It becomes
/// visible at that time, unless the live version changes before.
///
/// ```no_run
/// # async fn example(cable: cable_client::Cable) -> cable_client::Result<()> {
/// use cable_client::{Timestamp, UpdateKind, v1};
///
/// let mut article = v1::Article::default();
/// article.name = "storm".into();
/// article.headline = "Storm over Norwick".into();
/// article.publish_time = Some(Timestamp { seconds: 4_102_444_800, nanos: 0 }); // 2100
/// let written = cable.put(article).update_kind(UpdateKind::Minor).request_id("cms-4711").await?;
/// assert!(written.pending);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "calls do nothing unless awaited"]
pub struct Put<E> {
    cable: Cable,
    entity: E,
    options: WriteOptions,
}

impl<E: Entity> Put<E> {
    write_option_setters!();

    /// Requires the name to have no version, live or pending. Otherwise the put fails: ALREADY_EXISTS with
    /// `NameExists`.
    pub fn if_absent(mut self) -> Self {
        self.options.precondition = Some(Precondition::absent());
        self
    }
}

impl Put<v1::Article> {
    /// Sets the kind of update, for followers of feeds. If unset, MAJOR.
    pub fn update_kind(mut self, kind: UpdateKind) -> Self {
        self.options.update_kind = kind;
        self
    }

    /// Allows the put to publish a killed name again. If unset, such a put fails: FAILED_PRECONDITION with
    /// `NameKilled`.
    pub fn allow_killed(mut self) -> Self {
        self.options.allow_killed = true;
        self
    }

    /// Sets the body as HTML or Markdown, instead of `body`, which must be unset. The server converts it to blocks.
    /// [`WriteOutcome::body_conversion`] reports what it could not map.
    ///
    /// ```no_run
    /// # async fn example(cable: cable_client::Cable) -> cable_client::Result<()> {
    /// use cable_client::v1::{Article, Body};
    ///
    /// let mut article = Article::default();
    /// article.name = "storm".into();
    /// article.headline = "Storm over Norwick".into();
    /// let written = cable.put(article).body_source(Body::markdown("The **ferry** is late.")).await?;
    /// for note in written.body_conversion.unwrap_or_default().notes {
    ///     println!("{note}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn body_source(mut self, source: BodySource) -> Self {
        self.options.body_source = Some(source);
        self
    }

    /// Sets the body as HTML: see [`body_source`](Put::body_source).
    pub fn body_html(self, text: impl Into<String>) -> Self {
        self.body_source(Body::html(text))
    }

    /// Sets the body as Markdown: see [`body_source`](Put::body_source).
    pub fn body_markdown(self, text: impl Into<String>) -> Self {
        self.body_source(Body::markdown(text))
    }
}

impl<E: Entity> IntoFuture for Put<E> {
    type Output = Result<WriteOutcome>;
    type IntoFuture = BoxFuture<Result<WriteOutcome>>;

    fn into_future(self) -> Self::IntoFuture {
        self.entity.put(self.cable, self.options)
    }
}
